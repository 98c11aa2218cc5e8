//! Attacks by writers: work for nothing on the way to the log, and others' writes that wait.

use std::net::IpAddr;
use std::sync::mpsc;

use ghostplane::dnssec::ZoneKey;
use ghostplane::limits::{COVENANT_FUEL, FUEL_PER_MANA, SUBMIT_OPS};
use ghostplane::op::{self, CodeHash, Covenant, Draft, Identity, Op, OpBody, Rejection};
use ghostplane::wire::{Rrset, Rtype, rdata};
use ghostplane::writer::{Admitted, Outcome};

use super::author::covenant;
use crate::support::{Person, World, name};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn body(world: &World, nonce: u64, op: Op) -> OpBody {
    OpBody { registry: world.node.service.registry.id(), nonce, expires: world.now() + 600, op }
}

fn signed(world: &World, person: &Person, nonce: u64, op: Op) -> Vec<u8> {
    op::sign(&person.key, &body(world, nonce, op))
}

fn register(label: &str) -> Op {
    Op::Register { name: name(&format!("{label}.ghost")), years: 1 }
}

fn verify(world: &World, ops: &[Vec<u8>]) -> Vec<Result<Admitted, Rejection>> {
    world.node.service.verify_all(ops, HERE).unwrap()
}

fn told(verified: &[Result<Admitted, Rejection>]) -> Vec<Result<(), Rejection>> {
    verified.iter().map(|verified| verified.as_ref().map(drop).map_err(Clone::clone)).collect()
}

fn submit(world: &World, ops: Vec<Vec<u8>>) -> Vec<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(world.node.service.submit(ops, HERE)).unwrap()
}

/// TXT RRsets below a name, each with one RRSIG: by the person, or of octets that nobody made.
fn records(world: &World, person: &Person, about: &str, count: usize, good: bool) -> Op {
    let apex = name(about);
    let key = ZoneKey::of_sigil(&person.key);
    let rrset = |n: usize| {
        let owner = apex.child(format!("n{n}").as_bytes()).unwrap();
        let mut rrset = Rrset::new(owner, Rtype::TXT, 60, [rdata::txt(b"x")]);
        let mut rrsig = key.sign_until(&apex, &rrset, world.now() - 60, world.now() + 86_400);
        if !good {
            *rrsig.last_mut().unwrap() ^= 1;
        }
        rrset.rrsigs = vec![rrsig.into()];
        rrset
    };
    Op::put(apex.clone(), (0..count).map(rrset).collect())
}

/// T11: whether a nonce can be next is known before anything is verified or compiled.
#[test]
fn a_nonce_ahead_is_neither_verified_nor_compiled() {
    let mut world = World::new();
    let alice = world.person(1);
    let ahead = |got| Rejection::Nonce { expected: 0, got };
    // A wrong signature and a right one: nobody looks.
    let mut forged = signed(&world, &alice, 1, register("a"));
    *forged.last_mut().unwrap() ^= 1;
    for (nonce, op) in [(1, forged), (1_000, signed(&world, &alice, 1_000, register("a")))] {
        assert_eq!(told(&verify(&world, &[op])), [Err(ahead(nonce))]);
    }
    let compilations = || world.node.metrics.contract_compilations.get();
    let before = compilations();
    let bomb = signed(&world, &alice, 1_000, Op::DeployContract { wasm: covenant("unreachable") });
    assert_eq!(told(&verify(&world, &[bomb])), [Err(ahead(1_000))]);
    assert_eq!(compilations(), before);
    // 116 ops of 256 RRSIGs, none of which is right: nobody gets so far as to find that out.
    let op = records(&world, &alice, "alice.ghost", 64, false);
    let ops: Vec<_> = (5..121).map(|nonce| signed(&world, &alice, nonce, op.clone())).collect();
    for (told, nonce) in told(&verify(&world, &ops)).into_iter().zip(5..) {
        assert_eq!(told, Err(ahead(nonce)));
    }
}

/// T11, the other way round: bodies that come one behind the other are let in, as far as those before them are.
#[test]
fn ops_come_in_behind_those_under_way() {
    let mut world = World::new();
    let mut alice = world.person(1);
    let ops = |nonces: std::ops::Range<u64>| -> Vec<Vec<u8>> {
        nonces.map(|nonce| signed(&world, &alice, nonce, register(&format!("n{nonce}")))).collect()
    };
    let first = verify(&world, &ops(0..10));
    let second = verify(&world, &ops(10..20));
    assert!(first.iter().chain(&second).all(Result::is_ok));
    // Each nonce once, and none that leaves a gap.
    assert_eq!(told(&verify(&world, &ops(19..22)))[0], Err(Rejection::Nonce { expected: 20, got: 19 }));
    assert_eq!(told(&verify(&world, &ops(21..22))), [Err(Rejection::Nonce { expected: 20, got: 21 })]);
    // Their places are free again, accepted or not.
    drop((first, second));
    assert_eq!(world.node.service.writer.intake().ops(), 0);
    assert_eq!(told(&verify(&world, &ops(10..11))), [Err(Rejection::Nonce { expected: 0, got: 10 })]);
    // One body, each op of which needs the one before it.
    let mut whole = vec![signed(&world, &alice, 0, register("alice"))];
    whole.extend((1..30).map(|nonce| {
        let op = records(&world, &alice, "alice.ghost", nonce as usize % 3 + 1, true);
        signed(&world, &alice, nonce, op)
    }));
    for outcome in submit(&world, whole) {
        outcome.unwrap();
    }
    alice.nonce = 30;
    world.register(&mut alice, "again.ghost");
    assert_eq!(world.node.service.writer.intake().ops(), 0);
}

/// T11: what a look into the state tells comes before RRSIGs.
#[test]
fn cheap_rules_come_before_rrsigs() {
    let mut world = World::new();
    let (alice, mut bob) = (world.person(1), world.person(2));
    world.register(&mut bob, "bob.ghost");
    let told_of = |world: &World, person: &Person, about: &str| {
        let op = signed(world, person, person.nonce, records(world, person, about, 60, false));
        told(&verify(world, &[op])).remove(0).unwrap_err()
    };
    assert_eq!(told_of(&world, &alice, "nobody.ghost"), Rejection::UnknownName(name("nobody.ghost")));
    assert_eq!(told_of(&world, &alice, "bob.ghost"), Rejection::NotOwner(name("bob.ghost")));
    assert!(matches!(told_of(&world, &bob, "bob.ghost"), Rejection::BadRrsig { .. }));
    // It was looked at, and is owed.
    let owed = |person: &Person| world.node.service.writer.intake().owed(&person.id().into(), world.now());
    assert_eq!((owed(&alice), owed(&bob)), (0, 60));
    // Without the mana for them, nobody counts RRSIGs at all.
    let mut poor = Person::new(3);
    world.govern(Op::GrantMana { to: poor.id(), level: 1, amount: 105 }).unwrap();
    world.register(&mut poor, "poor.ghost");
    assert!(matches!(told_of(&world, &poor, "poor.ghost"), Rejection::Mana { have: 0..=5, .. }));
}

/// T11, a variant: a good op in front, and behind it what cannot be. It is paid for like anything else.
#[test]
fn rrsigs_that_were_checked_in_vain_are_owed() {
    let mut world = World::new();
    let alice = Person::new(1);
    world.govern(Op::GrantMana { to: alice.id(), level: 1, amount: 400 }).unwrap();
    let mut ops = vec![signed(&world, &alice, 0, register("alice"))];
    let vain = records(&world, &alice, "nobody.ghost", 30, true);
    ops.extend((1..40).map(|nonce| signed(&world, &alice, nonce, vain.clone())));
    let outcomes = submit(&world, ops);
    assert!(outcomes[0].is_ok(), "{:?}", outcomes[0]);
    assert_eq!(outcomes[1], Err(Rejection::UnknownName(name("nobody.ghost"))));
    assert!(outcomes[2..].iter().all(Result::is_err));
    // 300 mana were left: for so many, and no more, RRSIGs were checked.
    let owed = world.node.service.writer.intake().owed(&alice.id().into(), world.now());
    assert!((30..=300).contains(&owed), "{owed}");
}

/// T11: a contract that cannot be deployed is not compiled, and one that was compiled in vain is not kept.
#[test]
fn nothing_is_compiled_for_a_deploy_that_cannot_be() {
    let mut world = World::new();
    let mut alice = world.person(1);
    let compilations = || world.node.metrics.contract_compilations.get();
    let wasm = covenant("unreachable");
    world.deploy(&mut alice, &wasm);
    let before = compilations();
    let again = signed(&world, &alice, alice.nonce, Op::DeployContract { wasm });
    assert!(matches!(told(&verify(&world, &[again]))[..], [Err(Rejection::ContractExists(_))]));
    assert_eq!(compilations(), before);
    // One that comes behind an op which fails is compiled, for it may succeed; its code goes with it.
    world.register(&mut alice, "alice.ghost");
    let wasm = covenant("(unreachable) (unreachable)");
    let taken = signed(&world, &alice, alice.nonce, register("alice"));
    let deploy = signed(&world, &alice, alice.nonce + 1, Op::DeployContract { wasm: wasm.clone() });
    let outcomes = submit(&world, vec![taken, deploy]);
    assert_eq!(outcomes[0], Err(Rejection::Taken(name("alice.ghost"))));
    assert!(matches!(outcomes[1], Err(Rejection::Nonce { .. })), "{outcomes:?}");
    assert_eq!(compilations(), before + 1);
    assert!(!world.node.service.host.is_ready(&CodeHash::of(&wasm).0));
    let owed = world.node.service.writer.intake().owed(&alice.id().into(), world.now());
    assert!(owed >= 200, "{owed}");
}

/// T11: whether those who are said to have signed suffice comes before whether they have.
#[test]
fn thresholds_come_before_signatures() {
    let mut world = World::new();
    let alice = world.person(1);
    let op = Op::Attest { to: Person::new(9).id().into(), level: 1, until: world.now() + 1_000 };
    let mut draft = Draft::new(Identity::Sigil(alice.id()), body(&world, 0, op));
    draft.sign(&alice.key).unwrap();
    for seed in 100..160 {
        draft.sign(&Person::new(seed).key).unwrap();
    }
    let mut bytes = draft.to_bytes();
    *bytes.last_mut().unwrap() ^= 1;
    let not_she = Rejection::NotAttestor(Identity::Sigil(alice.id()));
    assert_eq!(told(&verify(&world, &[bytes])), [Err(not_she)]);
}

fn loops(world: &World, person: &mut Person, how_many: usize) {
    let code = world.deploy(person, &covenant("(loop $l (br $l)) (unreachable)"));
    let covenants = vec![Covenant { code, parameters: vec![] }; how_many];
    world.submit(person, Op::BindCovenants { name: name("alice.ghost"), covenants }).unwrap();
}

/// T9: what covenants burn on ops that they deny is owed by the author, all of them have one allowance, and a stranger waits
/// for a few of them at most.
#[test]
fn denied_covenants_cost_their_author_and_keep_nobody_waiting() {
    let mut world = World::new();
    let mut alice = Person::new(1);
    world.govern(Op::GrantMana { to: alice.id(), level: 1, amount: 1_000 }).unwrap();
    let mut bob = world.person(2);
    world.register(&mut alice, "alice.ghost");
    loops(&world, &mut alice, 8);
    world.govern(Op::GrantMana { to: alice.id(), level: 1, amount: 1_000 }).unwrap();
    let registry = world.node.service.registry.id();
    let writer = world.node.service.writer.clone();
    let (told, outcomes) = mpsc::channel();
    let send = |who: &'static str, bytes: Vec<u8>, wait: Option<mpsc::Receiver<()>>| {
        let told = told.clone();
        let done = move |outcome: Outcome| {
            // Holds the writer until everything is queued.
            wait.map(|wait| wait.recv());
            told.send((who, outcome.map(drop))).unwrap();
        };
        writer.submit(op::verify(&bytes, registry, world.now()).unwrap(), Box::new(done));
    };
    let denied =
        |n: usize| signed(&world, &alice, alice.nonce, records(&world, &alice, "alice.ghost", n % 2 + 1, true));
    let (go, wait) = mpsc::channel();
    send("first", signed(&world, &bob, bob.nonce, register("first")), Some(wait));
    bob.nonce += 1;
    (0..40).for_each(|n| send("denied", denied(n), None));
    send("bob", signed(&world, &bob, bob.nonce, register("bob")), None);
    (0..40).for_each(|n| send("denied", denied(n), None));
    go.send(()).unwrap();
    drop(told);
    let all: Vec<_> = outcomes.iter().collect();
    assert_eq!(all.len(), 82);
    let at = all.iter().position(|(who, outcome)| *who == "bob" && outcome.is_ok()).unwrap();
    assert!(at <= 4, "the stranger came after {at} others");
    let broke = all.iter().filter(|(_, outcome)| matches!(outcome, Err(Rejection::CovenantBroke { .. }))).count();
    let poor = all.iter().filter(|(_, outcome)| matches!(outcome, Err(Rejection::Mana { .. }))).count();
    // Eight covenants have one allowance: each op costs so much, until there is none left.
    let each = COVENANT_FUEL.div_ceil(FUEL_PER_MANA) as usize;
    assert_eq!(broke + poor, 80);
    assert!((1_000 / each - 3..=1_000 / each).contains(&broke), "{broke} were judged");
    let owed = world.node.service.writer.intake().owed(&alice.id().into(), world.now());
    assert!(owed as usize >= broke * each && owed <= 1_000, "{owed}");
    // At the gate, too, before anything runs; and not for ever.
    let refused = submit(&world, vec![denied(0)]).remove(0);
    assert!(matches!(refused, Err(Rejection::Mana { .. })), "{refused:?}");
    world.advance(86_400);
    let judged =
        submit(&world, vec![signed(&world, &alice, alice.nonce, records(&world, &alice, "alice.ghost", 1, true))]);
    assert!(matches!(judged[0], Err(Rejection::CovenantBroke { .. })), "{judged:?}");
}

/// T9: one body of ops under one nonce is one op, and 512 nonces ahead of a denied one are none.
#[test]
fn a_body_has_its_covenants_asked_once() {
    let mut world = World::new();
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.ghost");
    loops(&world, &mut alice, 1);
    let op = |nonce| signed(&world, &alice, nonce, records(&world, &alice, "alice.ghost", 1, true));
    let before = world.node.metrics.ops_rejected.get();
    let outcomes = submit(&world, (0..SUBMIT_OPS).map(|_| op(alice.nonce)).collect());
    let broke = |outcomes: &[Outcome]| {
        outcomes.iter().filter(|outcome| matches!(outcome, Err(Rejection::CovenantBroke { .. }))).count()
    };
    assert_eq!((broke(&outcomes), world.node.metrics.ops_rejected.get() - before), (1, 1));
    let ahead = (0..40).map(|n| op(alice.nonce + n)).collect();
    assert_eq!(broke(&submit(&world, ahead)), 1);
}
