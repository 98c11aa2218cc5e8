//! Whoever is a guardian, or says so: sets that name each other, keys in several places; and what a thief does about them.

use ghostplane::limits::MAX_MEMBERS;
use ghostplane::op::{Covenant, Member, Op, SetId};
use ghostplane::state::View as _;

use crate::guardians::{code, each_once, friends, members};
use crate::hostile::author;
use crate::support::{Person, World, name};

const APEX: &str = "alice.ghost";
const DAY: u64 = 86_400;

impl World {
    fn make(&self, creator: &mut Person, members: Vec<Member>, threshold: u32) -> SetId {
        let set = SetId::of(self.node.service.registry.id(), creator.id(), creator.nonce);
        self.submit(creator, Op::PutSet { set: None, members, threshold }).unwrap();
        set
    }
}

/// T3.
#[test]
fn a_stranger_who_names_a_set_binds_it_to_nothing() {
    let mut world = World::new();
    let [mut alice, mut mallory, bob] = [1, 2, 3].map(|seed| world.person(seed));
    let own = each_once(&[&alice]);
    let ours = world.make(&mut alice, own.clone(), 1);
    let friends = world.make(&mut alice, each_once(&[&bob]), 1);
    for _ in 0..3 {
        world.make(&mut mallory, members(&[(ours.into(), 1)]), 1);
    }
    // Its owners add a member set as before, and change it again while it is held.
    let more = members(&[(alice.id().into(), 1), (friends.into(), 1)]);
    world.submit(&mut alice, Op::PutSet { set: Some(ours), members: more.clone(), threshold: 1 }).unwrap();
    world.submit(&mut alice, Op::PutSet { set: Some(ours), members: more, threshold: 2 }).unwrap();
    // What a member set's owners do does not keep those who hold it from changing their own.
    let holder = world.make(&mut mallory, members(&[(friends.into(), 1)]), 1);
    let deep = world.make(&mut alice, own, 1);
    let inner = members(&[(bob.id().into(), 1), (deep.into(), 1)]);
    world.submit(&mut { bob }, Op::PutSet { set: Some(friends), members: inner, threshold: 1 }).unwrap();
    let kept = members(&[(mallory.id().into(), 1), (friends.into(), 1)]);
    let bob = Person::new(3);
    world.with(&mut mallory, &[&bob], Op::PutSet { set: Some(holder), members: kept, threshold: 1 }).unwrap();
    // A set that lies deeper counts nothing, and is not shown.
    let view = world.node.service.guardian_set(&ours.to_string()).unwrap();
    assert!(
        view.nested && view.members.iter().flat_map(|member| &member.members).all(|inner| inner.members.is_empty())
    );
    // No circle: a set that holds sets is not named anew.
    let circle = members(&[(ours.into(), 1), (bob.id().into(), 1)]);
    let again = Op::PutSet { set: Some(friends), members: circle, threshold: 1 };
    assert_eq!(code(world.submit(&mut Person { nonce: 1, ..bob }, again)), 611);
}

/// T4.
#[test]
fn one_key_is_one_voice() {
    let mut world = World::new();
    let [mut alice, mut bob, carol] = [1, 2, 3].map(|seed| world.person(seed));
    let inner = world.make(&mut alice, each_once(&[&bob]), 1);
    let other = world.make(&mut alice, each_once(&[&bob, &carol]), 1);
    let direct = members(&[(bob.id().into(), 1), (inner.into(), 1)]);
    let twice = world.make(&mut alice, direct.clone(), 2);
    let nested = world.make(&mut alice, members(&[(inner.into(), 1), (other.into(), 1)]), 2);
    world.register(&mut alice, APEX);
    let start = Op::StartRecovery { name: name(APEX), to: Person::new(9).id() };
    for set in [twice, nested] {
        world.submit(&mut alice, Op::SetRecovery { name: name(APEX), set: Some(set), delay: DAY }).unwrap();
        assert_eq!(code(world.submit(&mut bob, start.clone())), 612, "{set}");
        let change = Op::PutSet { set: Some(set), members: direct.clone(), threshold: 1 };
        assert_eq!(code(world.submit(&mut bob, change)), 612);
        let shown = world.node.service.guardian_set(&set.to_string()).unwrap();
        assert_eq!(shown.once, [bob.id().to_string()], "it is shown");
    }
    // With another voice, the second set speaks.
    world.with(&mut bob, &[&carol], start).unwrap();
}

/// The work of counting is bounded, whatever sets name which keys.
#[test]
fn many_sets_with_the_same_keys_are_counted_in_bounded_work() {
    let mut world = World::new();
    let mut alice = world.person(1);
    let people: Vec<Person> = (50..50 + MAX_MEMBERS as u8).map(Person::new).collect();
    let all = each_once(&people.iter().collect::<Vec<_>>());
    let inner: Vec<_> = (0..MAX_MEMBERS).map(|_| (world.make(&mut alice, all.clone(), 2).into(), 1)).collect();
    let outer = world.make(&mut alice, members(&inner), MAX_MEMBERS as u32);
    let row = world.node.service.registry.snapshot().unwrap().set(&outer).unwrap().unwrap();
    let signers: Vec<_> = people.iter().map(Person::id).collect();
    let snapshot = world.node.service.registry.snapshot().unwrap();
    // 32 keys make two of each sixteen sets at most.
    assert!(ghostplane::state::guardians::weight(&snapshot, &row, &signers).unwrap() <= 16);
}

/// T1: covenants of a thief's cannot keep guardians from acting, nor the new owner from writing.
#[test]
fn a_thief_binds_neither_the_guardians_nor_the_next_owner() {
    let (mut world, mut thief, [mut bob, carol, _], set) = friends();
    let mut victim = world.person(9);
    let code_of_denial = world.deploy(&mut thief, &author::covenant("unreachable"));
    // A rule of the thief's own, whose signatures nobody else gives.
    let alone = each_once(&[&thief]);
    let own = world.make(&mut thief, alone, 1);
    world.submit(&mut thief, Op::RequireCosign { name: name(APEX), set: Some(own), scopes: vec![] }).unwrap();
    let covenants = vec![Covenant { code: code_of_denial, parameters: vec![] }];
    world.submit(&mut thief, Op::BindCovenants { name: name(APEX), covenants }).unwrap();
    assert_eq!(code(world.put(&mut thief, APEX, "TXT", &["\"x\""])), 511);

    world.with(&mut bob, &[&carol], Op::Freeze { name: name(APEX), until: Some(world.now() + 2 * DAY) }).unwrap();
    let start = Op::StartRecovery { name: name(APEX), to: victim.id() };
    world.with(&mut bob, &[&carol], start).unwrap();
    world.advance(30 * DAY);
    world.submit(&mut bob, Op::FinishRecovery { name: name(APEX) }).unwrap();
    assert_eq!(world.owner(APEX), victim.id());
    let snapshot = world.node.service.registry.snapshot().unwrap();
    assert!(snapshot.covenants(&name(APEX)).unwrap().is_empty());
    let guard = snapshot.name(&name(APEX)).unwrap().unwrap().guard();
    assert_eq!((guard.cosign, guard.recovery.map(|recovery| recovery.set)), (None, Some(set)));
    world.put(&mut victim, APEX, "TXT", &["\"mine\""]).unwrap();
    world.submit(&mut victim, Op::Transfer { name: name(APEX), to: Person::new(11).id() }).unwrap();
}

/// A contract spends the next owner's gas, and a covenant judges the next owner: neither comes along.
#[test]
fn a_name_that_is_given_away_brings_neither_contract_nor_covenants() {
    let mut world = World::new();
    let [mut giver, mut victim] = [1, 2].map(|seed| world.person(seed));
    world.register(&mut giver, APEX);
    let contract = world.deploy(&mut giver, ghostplane::node::SHIPPED[0].1);
    let bind = Op::BindContract { name: name(APEX), contract: Some(contract), parameters: vec![1] };
    world.submit(&mut giver, bind).unwrap();
    let judge = world.deploy(&mut giver, &author::covenant("unreachable"));
    let covenants = vec![Covenant { code: judge, parameters: vec![] }];
    // A covenant that breaks keeps nobody from taking it off, but from everything else.
    world.submit(&mut giver, Op::BindCovenants { name: name(APEX), covenants }).unwrap();
    world.submit(&mut giver, Op::BindCovenants { name: name(APEX), covenants: vec![] }).unwrap();
    world.submit(&mut giver, Op::Transfer { name: name(APEX), to: victim.id() }).unwrap();
    let entry = world.node.service.registry.snapshot().unwrap().name(&name(APEX)).unwrap().unwrap();
    assert_eq!((entry.owner, entry.contract, entry.parameters), (victim.id(), None, vec![]));
    world.put(&mut victim, APEX, "TXT", &["\"mine\""]).unwrap();
}
