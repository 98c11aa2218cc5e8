//! Guardians: sets, attestations, co-signatures, recovery; ops that several sign.

use ed25519_dalek::{Signer as _, SigningKey};
use ghostplane::limits::{
    GUARDIANS_WAIT, MAX_FREEZE, MAX_OP_LIFETIME, MAX_SHARED_OP, MAX_SHARED_OP_LIFETIME, MAX_SIGNATURES, RECOVERY_WINDOW,
};
use ghostplane::op::{self, Draft, Identity, Member, Op, OpBody, Rejection, Scope, SetId};
use ghostplane::state::View as _;
use ghostplane::state::guardians::set_satisfied;
use ghostplane::writer::Outcome;

use crate::process::{Server, local};
use crate::support::{Person, World, name};

const DAY: u64 = 86_400;

pub fn code(outcome: Outcome) -> u16 {
    outcome.unwrap_err().code()
}

pub fn members(weights: &[(Identity, u16)]) -> Vec<Member> {
    let mut members: Vec<Member> = weights.iter().map(|(who, weight)| Member { who: *who, weight: *weight }).collect();
    members.sort_by_key(|member| member.who);
    members
}

pub fn each_once(people: &[&Person]) -> Vec<Member> {
    members(&people.iter().map(|person| (person.id().into(), 1)).collect::<Vec<_>>())
}

impl World {
    /// Makes a set of which any two speak for it.
    pub fn two_of(&self, creator: &mut Person, people: &[&Person]) -> SetId {
        let set = SetId::of(self.node.service.registry.id(), creator.id(), creator.nonce);
        self.submit(creator, Op::PutSet { set: None, members: each_once(people), threshold: 2 }).unwrap();
        set
    }

    fn body(&self, nonce: u64, op: Op) -> OpBody {
        OpBody { registry: self.node.service.registry.id(), nonce, expires: self.now() + 600, op }
    }

    /// An op of a person with the signatures of others.
    pub fn with(&self, author: &mut Person, others: &[&Person], op: Op) -> Outcome {
        let mut draft = Draft::new(author.id().into(), self.body(author.nonce, op));
        let keys = std::iter::once(&author.key).chain(others.iter().map(|person| &person.key));
        keys.for_each(|key| draft.sign(key).unwrap());
        let outcome = self.send(&draft.to_bytes());
        author.nonce += u64::from(outcome.is_ok());
        outcome
    }

    /// An op of a set.
    pub fn by_set(&self, set: SetId, signers: &[&Person], op: Op) -> Outcome {
        let row = self.node.service.registry.snapshot().unwrap().set(&set).unwrap();
        let nonce = row.map_or(0, |row| row.account.next_nonce);
        let mut draft = Draft::new(set.into(), self.body(nonce, op));
        signers.iter().for_each(|person| draft.sign(&person.key).unwrap());
        self.send(&draft.to_bytes())
    }

    pub fn send(&self, bytes: &[u8]) -> Outcome {
        let verified = op::verify(bytes, self.node.service.registry.id(), self.now())?;
        let (sender, receiver) = std::sync::mpsc::channel();
        self.node.service.writer.submit(verified, Box::new(move |outcome| sender.send(outcome).unwrap()));
        receiver.recv().unwrap()
    }

    pub fn attest(&mut self, to: Identity) -> Outcome {
        let until = self.now() + 300 * DAY;
        self.govern(Op::Attest { to, level: 3, until })
    }

    pub fn owner(&self, text: &str) -> op::SigilId {
        self.node.service.registry.snapshot().unwrap().name(&name(text)).unwrap().unwrap().owner
    }

    /// The operator can pay.
    pub fn fund_operator(&mut self) {
        let to = self.operator.id();
        self.govern(Op::GrantMana { to, level: 5, amount: u64::MAX }).unwrap();
    }
}

/// Alice's name, and three friends of hers of whom two can recover it.
pub fn friends() -> (World, Person, [Person; 3], SetId) {
    let mut world = World::new();
    let mut alice = world.person(1);
    let friends = [2, 3, 4].map(|seed| world.person(seed));
    let set = world.two_of(&mut alice, &[&friends[0], &friends[1], &friends[2]]);
    world.register(&mut alice, "alice.ghost");
    world.put(&mut alice, "alice.ghost", "TXT", &["\"stored\""]).unwrap();
    let recovery = Op::SetRecovery { name: name("alice.ghost"), set: Some(set), delay: 30 * DAY };
    world.submit(&mut alice, recovery).unwrap();
    (world, alice, friends, set)
}

fn start(to: &Person) -> Op {
    Op::StartRecovery { name: name("alice.ghost"), to: to.id() }
}

fn veto() -> Op {
    Op::VetoRecovery { name: name("alice.ghost") }
}

fn finish() -> Op {
    Op::FinishRecovery { name: name("alice.ghost") }
}

#[test]
fn a_lost_key_is_recovered_and_an_owner_who_lives_says_no() {
    let (world, mut alice, [mut bob, carol, mut dave], _) = friends();
    let mut new = Person::new(9);
    // One friend is not enough, and neither is one who is none.
    assert_eq!(code(world.submit(&mut bob, start(&new))), 612);
    let mallory = Person::new(66);
    assert_eq!(code(world.with(&mut bob, &[&mallory], start(&new))), 612);
    world.with(&mut bob, &[&carol], start(&new)).unwrap();
    assert_eq!(code(world.with(&mut bob, &[&carol], start(&new))), 631);
    // It resolves as before, the owner writes as before, and says no.
    assert_eq!(world.owner("alice.ghost"), alice.id());
    world.put(&mut alice, "alice.ghost", "TXT", &["\"here\""]).unwrap();
    assert_eq!(code(world.submit(&mut dave, finish())), 633);
    assert_eq!(code(world.submit(&mut dave, veto())), 305);
    world.submit(&mut alice, veto()).unwrap();
    assert_eq!(code(world.submit(&mut alice, veto())), 632);
    world.advance(29 * DAY);
    assert_eq!(code(world.submit(&mut dave, finish())), 632);

    // This time nobody says no.
    world.with(&mut bob, &[&carol], start(&new)).unwrap();
    world.advance(30 * DAY - 1);
    assert_eq!(code(world.submit(&mut dave, finish())), 633);
    world.advance(1);
    world.submit(&mut dave, finish()).unwrap();
    assert_eq!(world.owner("alice.ghost"), new.id());
    assert_eq!(code(world.put(&mut alice, "alice.ghost", "TXT", &["\"mine\""])), 305);
    // The data is there, the old key's signature is not; the guardians are, too.
    assert_eq!(world.ask_plain("alice.ghost", "TXT").records, ["answer alice.ghost. 3600 TXT \"here\""]);
    let rrsets = world.node.service.records("alice.ghost", None).unwrap().rows;
    assert!(rrsets.iter().all(|rrset| rrset.rrsigs.is_empty()));
    let mut world = world;
    world.attest(new.id().into()).unwrap_err();
    world.fund_operator();
    world.attest(new.id().into()).unwrap();
    world.advance(DAY);
    world.put(&mut new, "alice.ghost", "TXT", &["\"new\""]).unwrap();
    let view = world.node.service.name("alice.ghost").unwrap().guard.unwrap();
    assert!(view.recovery.is_some() && view.pending.is_none());
}

#[test]
fn guardians_wait_after_a_veto_and_recoveries_lapse() {
    let (world, mut alice, [mut bob, carol, _], _) = friends();
    let new = Person::new(9);
    world.with(&mut bob, &[&carol], start(&new)).unwrap();
    // To choose other guardians meanwhile would be a veto that is not called one.
    let nobody = Op::SetRecovery { name: name("alice.ghost"), set: None, delay: 0 };
    assert_eq!(code(world.submit(&mut alice, nobody.clone())), 631);
    world.submit(&mut alice, veto()).unwrap();
    assert_eq!(code(world.with(&mut bob, &[&carol], start(&new))), 633);
    world.advance(GUARDIANS_WAIT);
    world.with(&mut bob, &[&carol], start(&new)).unwrap();
    // Nobody finishes it in time.
    world.advance(30 * DAY + RECOVERY_WINDOW);
    assert_eq!(code(world.submit(&mut bob, finish())), 632);
    world.submit(&mut alice, nobody).unwrap();
    assert_eq!(code(world.with(&mut bob, &[&carol], start(&new))), 630);
    let short = Op::SetRecovery { name: name("alice.ghost"), set: Some(SetId([1; 32])), delay: DAY - 1 };
    assert_eq!(code(world.submit(&mut alice, short)), 634);
    let unknown = Op::SetRecovery { name: name("alice.ghost"), set: Some(SetId([1; 32])), delay: DAY };
    assert_eq!(code(world.submit(&mut alice, unknown)), 610);
}

#[test]
fn an_owner_without_mana_can_still_say_no() {
    let (mut world, mut alice, [mut bob, carol, _], _) = friends();
    world.with(&mut bob, &[&carol], start(&Person::new(9))).unwrap();
    world.govern(Op::GrantMana { to: alice.id(), level: 0, amount: 0 }).unwrap();
    assert_eq!(code(world.put(&mut alice, "alice.ghost", "TXT", &["\"x\""])), 201);
    world.submit(&mut alice, veto()).unwrap();
}

#[test]
fn a_name_can_be_recovered_while_it_is_held_for_its_owner() {
    let (world, _, [mut bob, carol, _], _) = friends();
    let new = Person::new(9);
    world.advance(360 * DAY);
    world.with(&mut bob, &[&carol], start(&new)).unwrap();
    world.advance(30 * DAY);
    world.submit(&mut bob, finish()).unwrap();
    assert_eq!(world.owner("alice.ghost"), new.id());
    world.advance(10 * DAY);
    assert_eq!(code(world.with(&mut bob, &[&carol], start(&carol))), 304);
}

#[test]
fn a_frozen_name_resolves_and_is_left_as_it_is() {
    let (world, mut alice, [mut bob, carol, _], set) = friends();
    let until = world.now() + MAX_FREEZE;
    let freeze = |until| Op::Freeze { name: name("alice.ghost"), until };
    assert_eq!(code(world.submit(&mut bob, freeze(Some(until)))), 612);
    assert_eq!(code(world.with(&mut bob, &[&carol], freeze(Some(until + 1)))), 641);
    assert_eq!(code(world.with(&mut bob, &[&carol], freeze(None))), 642);
    world.with(&mut bob, &[&carol], freeze(Some(until))).unwrap();
    assert_eq!(code(world.with(&mut bob, &[&carol], freeze(Some(until)))), 640);
    // Whoever has the owner's key can do nothing with it,
    assert_eq!(code(world.put(&mut alice, "alice.ghost", "TXT", &["\"x\""])), 640);
    for op in [
        Op::Transfer { name: name("alice.ghost"), to: bob.id() },
        Op::Release { name: name("alice.ghost") },
        Op::BindContract { name: name("alice.ghost"), contract: None, parameters: vec![] },
        Op::SetRecovery { name: name("alice.ghost"), set: None, delay: 0 },
        Op::RequireCosign { name: name("alice.ghost"), set: Some(set), scopes: vec![Scope::Bind] },
    ] {
        assert_eq!(code(world.submit(&mut alice, op)), 640);
    }
    assert_eq!(world.ask_plain("alice.ghost", "TXT").records.len(), 1);
    // but keep the name,
    world.submit(&mut alice, Op::Renew { name: name("alice.ghost"), years: 1 }).unwrap();
    world.with(&mut bob, &[&carol], start(&carol)).unwrap();
    world.submit(&mut alice, veto()).unwrap();
    // and it ends: by itself, and then not at once again.
    world.advance(MAX_FREEZE - 1);
    assert_eq!(code(world.put(&mut alice, "alice.ghost", "TXT", &["\"x\""])), 640);
    world.advance(1);
    world.put(&mut alice, "alice.ghost", "TXT", &["\"y\""]).unwrap();
    let again = Some(world.now() + DAY);
    assert_eq!(code(world.with(&mut bob, &[&carol], freeze(again))), 633);
    world.advance(GUARDIANS_WAIT);
    world.with(&mut bob, &[&carol], freeze(Some(world.now() + DAY))).unwrap();
    world.with(&mut bob, &[&carol], freeze(None)).unwrap();
    world.put(&mut alice, "alice.ghost", "TXT", &["\"z\""]).unwrap();
}

#[test]
fn what_an_owner_asks_cosignatures_for_needs_them() {
    let (world, mut alice, [mut bob, carol, dave], set) = friends();
    let require = |set, scopes: &[Scope]| Op::RequireCosign { name: name("alice.ghost"), set, scopes: scopes.to_vec() };
    for wrong in [require(None, &[Scope::Bind]), require(Some(set), &[Scope::Bind; 2])] {
        assert_eq!(code(world.submit(&mut alice, wrong)), 650);
    }
    world.submit(&mut alice, require(Some(set), &[Scope::Bind])).unwrap();
    let transfer = Op::Transfer { name: name("alice.ghost"), to: bob.id() };
    let own = Op::Transfer { name: name("alice.ghost"), to: alice.id() };
    assert_eq!(code(world.submit(&mut alice, own)), 612);
    let needs = Rejection::Threshold { set, have: 1, need: 2 };
    assert_eq!(world.with(&mut alice, &[&bob], transfer.clone()), Err(needs));
    assert_eq!(code(world.submit(&mut alice, Op::Release { name: name("alice.ghost") })), 612);
    let bind = Op::BindContract { name: name("alice.ghost"), contract: None, parameters: vec![] };
    assert_eq!(code(world.submit(&mut alice, bind.clone())), 612);
    world.with(&mut alice, &[&bob, &carol], bind).unwrap();
    // What was not asked for goes on as before; what would end the rule does not.
    world.put(&mut alice, "alice.ghost", "TXT", &["\"x\""]).unwrap();
    assert_eq!(code(world.submit(&mut alice, require(None, &[]))), 612);
    let nobody = Op::SetRecovery { name: name("alice.ghost"), set: None, delay: 0 };
    assert_eq!(code(world.submit(&mut alice, nobody)), 612);
    // The set alone is no owner.
    assert_eq!(code(world.with(&mut bob, &[&carol], transfer.clone())), 305);
    world.with(&mut alice, &[&carol, &dave], require(None, &[])).unwrap();
    world.submit(&mut alice, require(Some(set), &[])).unwrap();
    world.with(&mut alice, &[&bob, &dave], transfer).unwrap();
    // Whom Alice trusted, Bob need not.
    assert_eq!(world.node.service.name("alice.ghost").unwrap().guard, None);
    assert_eq!(code(world.with(&mut alice, &[&carol, &dave], start(&alice_again()))), 630);
    assert_eq!(world.owner("alice.ghost"), bob.id());
    world.put(&mut bob, "alice.ghost", "TXT", &["\"bob\""]).unwrap();
}

fn alice_again() -> Person {
    Person::new(1)
}

#[test]
fn sets_change_by_their_own_will_and_are_nested_once() {
    let (mut world, mut alice, [mut bob, carol, dave], set) = friends();
    let put = |set, members: Vec<Member>, threshold| Op::PutSet { set, members, threshold };
    let two = each_once(&[&bob, &carol]);
    for (members, threshold) in [
        (vec![], 0),
        (two.clone(), 0),
        (two.clone(), 3),
        (vec![two[1], two[0]], 1),
        (vec![two[0], two[0]], 1),
        (vec![Member { weight: 0, ..two[0] }], 1),
        (vec![Member { weight: 1_001, ..two[0] }], 1),
        (vec![Member { who: op::SigilId([2; 32]).into(), weight: 1 }], 1),
    ] {
        assert_eq!(code(world.submit(&mut alice, put(None, members.clone(), threshold))), 611, "{members:?}");
    }
    let unknown = members(&[(SetId([1; 32]).into(), 1)]);
    assert_eq!(code(world.submit(&mut alice, put(None, unknown, 1))), 610);
    // A company: the friends, who count twice, and Alice.
    let company = SetId::of(world.node.service.registry.id(), alice.id(), alice.nonce);
    let held = members(&[(set.into(), 2), (alice.id().into(), 1)]);
    world.submit(&mut alice, put(None, held, 2)).unwrap();
    let snapshot = world.node.service.registry.snapshot().unwrap();
    let satisfied = |people: &[&Person]| {
        set_satisfied(&snapshot, &company, &people.iter().map(|person| person.id()).collect::<Vec<_>>()).unwrap()
    };
    assert!(satisfied(&[&bob, &carol]) && !satisfied(&[&bob, &alice]) && satisfied(&[&alice, &carol, &dave]));
    let deep = members(&[(company.into(), 1)]);
    assert_eq!(code(world.submit(&mut alice, put(None, deep.clone(), 1))), 611);
    assert_eq!(code(world.with(&mut bob, &[&carol], put(Some(set), deep, 1))), 611);
    assert_eq!(code(world.with(&mut bob, &[&carol], put(Some(company), members(&[(company.into(), 1)]), 1))), 611);
    // Not without the threshold as it was.
    let alone = put(Some(set), each_once(&[&bob]), 1);
    assert_eq!(code(world.submit(&mut bob, alone.clone())), 612);
    world.with(&mut bob, &[&carol], alone).unwrap();
    assert!(world.with(&mut bob, &[&carol], put(Some(company), each_once(&[&dave]), 1)).is_ok());
    // Freed from the company, the friends can hold sets themselves.
    assert!(!world.node.service.guardian_set(&set.to_string()).unwrap().nested);
    world.submit(&mut bob, put(Some(set), members(&[(company.into(), 1)]), 1)).unwrap();
    let view = world.node.service.guardian_set(&set.to_string()).unwrap();
    assert_eq!(view.members[0].members[0].who, dave.id().to_string());

    // A set writes itself once it has mana: its nonce, its account.
    assert_eq!(code(world.by_set(company, &[&dave], put(Some(company), each_once(&[&dave, &bob]), 1))), 201);
    world.fund_operator();
    world.attest(company.into()).unwrap();
    world.advance(DAY);
    world.by_set(company, &[&dave], put(Some(company), each_once(&[&dave, &bob]), 2)).unwrap();
    assert_eq!(code(world.by_set(company, &[&dave], put(Some(company), each_once(&[&dave]), 1))), 612);
    let release = Op::Release { name: name("alice.ghost") };
    assert_eq!(code(world.by_set(company, &[&dave, &bob], release)), 613);
    assert_eq!(code(world.by_set(company, &[&dave, &bob], put(None, each_once(&[&dave]), 1))), 613);
    assert_eq!(code(world.by_set(SetId([5; 32]), &[&dave], finish())), 610);
}

#[test]
fn attestors_give_levels_within_their_quota_and_for_a_time() {
    let (mut world, mut alice, [bob, carol, dave], set) = friends();
    world.fund_operator();
    let new = |seed: u8| -> Identity { Person::new(seed).id().into() };
    let attest = |to, level, until| Op::Attest { to, level, until };
    let soon = world.now() + 10 * DAY;
    assert_eq!(code(world.submit(&mut alice, attest(new(20), 1, soon))), 620);
    let appoint = |who, max_level, quota| Op::SetAttestor { who, max_level, quota };
    let (own, friend) = (Identity::Sigil(alice.id()), Identity::Sigil(bob.id()));
    assert_eq!(code(world.submit(&mut alice, appoint(own, 5, u64::MAX))), 600);
    world.govern(appoint(own, 2, 11_000)).unwrap();
    assert_eq!(code(world.submit(&mut alice, attest(new(20), 3, soon))), 601);
    assert_eq!(code(world.submit(&mut alice, attest(new(20), 0, soon))), 601);
    for until in [world.now(), world.now() + 367 * DAY] {
        assert_eq!(code(world.submit(&mut alice, attest(new(20), 1, until))), 622);
    }
    for nobody in [own, Identity::Sigil(op::SigilId([2; 32]))] {
        assert_eq!(code(world.submit(&mut alice, attest(nobody, 1, soon))), 625);
    }
    assert_eq!(code(world.submit(&mut alice, attest(friend, 2, soon))), 623, "the operator's grant");
    world.submit(&mut alice, attest(new(20), 2, soon)).unwrap();
    world.submit(&mut alice, attest(new(21), 1, soon)).unwrap();
    let refused = world.submit(&mut alice, attest(new(22), 1, soon));
    assert_eq!(refused, Err(Rejection::Quota { quota: 11_000, left: 0, need: 1_000 }));
    // Lowered, there is room again.
    world.submit(&mut alice, attest(new(20), 1, soon)).unwrap();
    world.submit(&mut alice, attest(new(22), 1, soon)).unwrap();
    let view = world.node.service.attestors(None).unwrap().rows.remove(0);
    assert_eq!((view.max_level, view.quota, view.used), (2, 11_000, 3_000));

    // A set is an attestor like any other; it takes over with a higher level that lasts as long.
    world.attest(set.into()).unwrap();
    world.govern(appoint(set.into(), 3, 1_000_000)).unwrap();
    world.advance(DAY);
    assert_eq!(code(world.by_set(set, &[&bob], attest(new(20), 3, soon))), 612);
    assert_eq!(code(world.by_set(set, &[&bob, &carol], attest(new(20), 1, soon))), 623);
    assert_eq!(code(world.by_set(set, &[&bob, &carol], attest(new(20), 2, soon - 1))), 623);
    world.by_set(set, &[&bob, &dave], attest(new(20), 2, soon)).unwrap();
    let rows = world.node.service.attestors(None).unwrap().rows;
    assert_eq!(rows.iter().find(|row| row.who == own.to_string()).unwrap().used, 2_000);
    assert_eq!(code(world.submit(&mut alice, Op::RevokeAttestation { of: new(20) })), 624);
    // In two steps it takes nothing from what another attested: taken back, or attested lower, that stays.
    let level = |world: &World| world.node.service.account(&Person::new(20).id().to_string()).unwrap().level;
    assert_eq!(code(world.by_set(set, &[&bob, &dave], attest(new(20), 2, soon - 1))), 623);
    world.by_set(set, &[&bob, &dave], Op::RevokeAttestation { of: new(20) }).unwrap();
    assert_eq!(level(&world), 1);
    assert_eq!(code(world.by_set(set, &[&bob, &dave], Op::RevokeAttestation { of: new(20) })), 624);
    assert_eq!(code(world.by_set(set, &[&bob, &dave], attest(new(20), 1, soon - 1))), 623);
    world.by_set(set, &[&bob, &dave], attest(new(20), 2, soon)).unwrap();

    // Mana fills while the level lasts, and not a second longer.
    let mut twenty = Person::new(20);
    let account = |world: &World| world.node.service.account(&Person::new(20).id().to_string()).unwrap();
    assert_eq!((account(&world).level, account(&world).until), (2, Some(soon)));
    assert_eq!(account(&world).attested_by, Some(set.to_string()));
    world.advance(soon - world.now() - 1);
    world.register(&mut twenty, "twenty.ghost");
    world.advance(1);
    assert_eq!((account(&world).level, account(&world).mana, account(&world).attested_by), (0, 0, None));
    assert_eq!(code(world.put(&mut twenty, "twenty.ghost", "TXT", &["\"x\""])), 201);
    let listed = world.node.service.attestations(&set.to_string(), None, 10).unwrap();
    assert_eq!((listed.len(), listed[0].live, listed[0].level), (1, false, 2));
    // Whoever has a level can end it, and so can the operator.
    world.advance(DAY);
    let later = world.now() + DAY;
    world.by_set(set, &[&bob, &dave], attest(new(20), 1, later)).unwrap();
    world.submit(&mut twenty, Op::RevokeAttestation { of: new(20) }).unwrap();
    assert_eq!(code(world.submit(&mut twenty, Op::RevokeAttestation { of: new(20) })), 624);
    world.by_set(set, &[&bob, &dave], attest(new(20), 1, later)).unwrap();
    world.govern(Op::RevokeAttestation { of: new(20) }).unwrap();
    assert!(world.node.service.attestations(&set.to_string(), None, 10).unwrap().is_empty());
    // Dismissed, an attestor attests no more; what was attested goes on.
    world.govern(appoint(own, 0, 0)).unwrap();
    assert_eq!(code(world.submit(&mut alice, attest(new(21), 1, later))), 620);
}

/// From the command line, with files that go from hand to hand.
#[test]
fn friends_recover_a_name_from_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let path = |file: &str| dir.path().join(file).display().to_string();
    let (alice, bob, carol, new) = (path("alice.pem"), path("bob.pem"), path("carol.pem"), path("new.pem"));
    let dids = [&alice, &bob, &carol, &new].map(|file| local(&["sigil", "new", file]));
    for did in &dids[..3] {
        server.ok("https", &["mana", "grant", did, "--level", "3"]);
    }
    let made = ["guardian", "set", "create", "--member", &dids[1], "--member", &format!("{}=2", dids[2])];
    let set = server.ok("https", &[&made[..], &["--threshold", "3", "--sigil", &alice]].concat());
    let set = set.lines().last().unwrap();
    assert!(set.starts_with("did:ghost:set:z"), "{set}");
    let shown = server.ok("https", &["guardian", "set", "show", set]);
    assert!(shown.contains("3 of 3") && shown.contains(&format!("{} (weight 2)", dids[2])), "{shown}");
    server.ok("https", &["name", "register", "alice.ghost", "--sigil", &alice]);
    server.ok("https", &["guardian", "recovery", "alice.ghost", set, "--delay", "1day", "--sigil", &alice]);
    let asked = ["guardian", "require", "alice.ghost", set, "--ops", "bind", "--sigil", &alice];
    server.ok("https", &asked);

    // Bob drafts, Carol signs, anyone submits.
    let (file, copy) = (path("recover.op"), path("copy.op"));
    let recover = ["guardian", "recover", "alice.ghost", "--to", &dids[3], "--sigil", &bob, "--draft", &file];
    let shown = server.ok("https", &recover);
    for words in ["start_recovery", &dids[3], "weight 2 more of 3", "not yet complete"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let early = server.run("https", &["op", "submit", &file]);
    assert!(String::from_utf8_lossy(&early.stderr).contains("rejected (612)"), "{early:?}");
    local(&["op", "sign", &file, "--sigil", &carol, "--out", &copy]);
    local(&["op", "join", &file, &copy]);
    let shown = server.ok("https", &["op", "show", &file, "--json"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["complete"], &shown["signatures_verify"]), (&true.into(), &true.into()), "{shown:#}");
    assert!(local(&["op", "show", &file, "--offline"]).contains(&dids[2]));
    server.ok("https", &["op", "submit", &file]);
    let shown = server.ok("https", &["name", "show", "alice.ghost"]);
    for words in ["recovery to", &dids[3], "recovered by", "co-signed by", "guardians bind"] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    let again = server.run("https", &["op", "submit", &file]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("rejected (200)"), "{again:?}");
    server.ok("https", &["guardian", "veto", "alice.ghost", "--sigil", &alice]);
    let refused = server.run("https", &["guardian", "finish", "alice.ghost", "--sigil", &bob]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("rejected (632)"), "{refused:?}");

    // A set attests, with its own mana and nonce.
    let operator = path("operator.pem");
    server.ok("https", &["mana", "grant", &local(&["sigil", "show", &operator, "--json"]).did(), "--level", "5"]);
    server.ok("https", &["guardian", "attest", set, "--level", "5", "--sigil", &operator]);
    server.ok("https", &["guardian", "attestor", set, "--max-level", "1", "--quota", "5000"]);
    let attestors = server.ok("https", &["guardian", "attestors"]);
    assert!(attestors.contains("5000") && attestors.contains(set), "{attestors}");
    let file = path("attest.op");
    let attest = ["guardian", "attest", &dids[3], "--level", "1", "--author", set, "--sigil", &bob, "--draft", &file];
    let shown = server.ok("https", &attest);
    assert!(shown.contains(set) && shown.contains("not yet complete"), "{shown}");
    local(&["op", "sign", &file, "--sigil", &carol]);
    // A new account is empty: what this costs is there within a second at level 5.
    let mut outcome = server.run("https", &["op", "submit", &file]);
    for _ in 0..200 {
        if outcome.status.success() {
            break;
        }
        assert!(String::from_utf8_lossy(&outcome.stderr).contains("rejected (201)"), "{outcome:?}");
        outcome = server.run("https", &["op", "submit", &file]);
    }
    assert!(outcome.status.success(), "{outcome:?}");
    let shown = server.ok("https", &["mana", "show", &dids[3]]);
    assert!(shown.contains("attested by") && shown.contains(set), "{shown}");
    let listed = server.ok("https", &["guardian", "list", set]);
    assert!(listed.contains("live") && listed.contains(&dids[3]), "{listed}");
    server.ok("https", &["guardian", "revoke", &dids[3], "--sigil", &operator]);
    assert!(!server.ok("https", &["guardian", "list", set]).contains(&dids[3]));
}

trait Did {
    fn did(&self) -> String;
}

impl Did for String {
    /// What `sigil show --json` tells.
    fn did(&self) -> String {
        let shown: serde_json::Value = serde_json::from_str(self).unwrap();
        shown["did"].as_str().unwrap().to_owned()
    }
}

// --- Envelopes -----------------------------------------------------------------------------------

/// CBOR by hand, so that nothing of ours orders or checks it.
mod cbor {
    pub fn head(major: u8, len: usize) -> Vec<u8> {
        match len {
            0..24 => vec![major << 5 | len as u8],
            24..256 => vec![major << 5 | 24, len as u8],
            _ => [&[major << 5 | 25][..], &(len as u16).to_be_bytes()].concat(),
        }
    }

    pub fn bytes(octets: &[u8]) -> Vec<u8> {
        [&head(2, octets.len())[..], octets].concat()
    }
}

/// A COSE_Sign (RFC 9052 section 4.1) from its parts.
fn envelope(author: &[u8], payload: &[u8], signatures: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut octets = vec![0xd8, 98, 0x84];
    octets.extend(cbor::bytes(&body_header(author)));
    octets.push(0xa0);
    octets.extend(cbor::bytes(payload));
    octets.extend(cbor::head(4, signatures.len()));
    for (header, signature) in signatures {
        octets.push(0x83);
        octets.extend(cbor::bytes(header));
        octets.push(0xa0);
        octets.extend(cbor::bytes(signature));
    }
    octets
}

fn body_header(author: &[u8]) -> Vec<u8> {
    [&[0xa1, 0x04][..], &cbor::bytes(author)].concat()
}

fn signer_header(person: &Person) -> Vec<u8> {
    [&[0xa2, 0x01, 0x27, 0x04][..], &cbor::bytes(&person.id().0)].concat()
}

/// What is signed (RFC 9052 section 4.4).
fn signed(key: &SigningKey, context: &str, headers: &[&[u8]], aad: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut data = cbor::head(4, headers.len() + 3);
    data.extend(cbor::head(3, context.len()));
    data.extend(context.as_bytes());
    headers.iter().chain([&aad, &payload]).for_each(|part| data.extend(cbor::bytes(part)));
    key.sign(&data).to_bytes().to_vec()
}

struct Parts {
    author: Vec<u8>,
    payload: Vec<u8>,
}

impl Parts {
    fn sign(&self, person: &Person) -> (Vec<u8>, Vec<u8>) {
        self.sign_as(person, "Signature", op::OP_CONTEXT)
    }

    fn sign_as(&self, person: &Person, context: &str, aad: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let header = signer_header(person);
        let headers = [&body_header(&self.author)[..], &header];
        let signature = signed(&person.key, context, &headers, aad, &self.payload);
        (header, signature)
    }

    fn envelope(&self, signatures: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        envelope(&self.author, &self.payload, signatures)
    }
}

/// Verified for nobody's registry at second 1,000.
fn refused(octets: &[u8]) -> u16 {
    op::verify(octets, op::RegistryId([7; 32]), 1_000).map_or_else(|rejection| rejection.code(), |_| 0)
}

/// An op of the first of two people whose keys are in order.
fn parts() -> (Parts, Person, Person) {
    let (mut first, mut second) = (Person::new(1), Person::new(2));
    if second.id() < first.id() {
        std::mem::swap(&mut first, &mut second);
    }
    let op = Op::Release { name: name("a.ghost") };
    let body = OpBody { registry: op::RegistryId([7; 32]), nonce: 3, expires: 1_060, op };
    let payload = minicbor::to_vec(&body).unwrap();
    (Parts { author: first.id().0.to_vec(), payload }, first, second)
}

#[test]
fn an_op_of_several_has_one_legal_encoding() {
    let (parts, first, second) = parts();
    let (one, two) = (parts.sign(&first), parts.sign(&second));
    let good = parts.envelope(&[one.clone(), two.clone()]);
    let verified = op::verify(&good, op::RegistryId([7; 32]), 1_000).unwrap();
    assert_eq!((verified.author(), verified.cosigners()), (first.id().into(), &[second.id()][..]));
    assert_eq!(verified.signers(), [first.id(), second.id()]);
    // What drafts give is that.
    let mut draft = Draft::new(first.id().into(), Draft::open(&good).unwrap().body().clone());
    draft.sign(&second.key).unwrap();
    draft.sign(&first.key).unwrap();
    assert_eq!(draft.to_bytes(), good);

    assert_eq!(refused(&parts.envelope(&[two.clone(), one.clone()])), 102, "out of order");
    assert_eq!(refused(&parts.envelope(&[one.clone(), one.clone()])), 102, "twice");
    assert_eq!(refused(&parts.envelope(&[one.clone(), one.clone(), two.clone()])), 102, "twice and another");
    assert_eq!(refused(&parts.envelope(std::slice::from_ref(&two))), 614, "without the author's");
    assert_eq!(refused(&parts.envelope(&[])), 614, "with none");
    assert_eq!(refused(&parts.envelope(std::slice::from_ref(&one))), 0, "the author's alone");
    let of = |octets: Vec<u8>| Parts { author: octets, payload: parts.payload.clone() };
    for wrong in [vec![], vec![1; 31], vec![2; 33], vec![1; 34]] {
        let parts = of(wrong);
        assert_eq!(refused(&parts.envelope(&[parts.sign(&first)])), 101);
    }
    let set = of([&[1][..], &[5; 32]].concat());
    assert_eq!(refused(&set.envelope(&[set.sign(&first)])), 0, "how many suffice is not for verification");
    assert_eq!(refused(&set.envelope(&[])), 614);
    assert_eq!(refused(&set.envelope(std::slice::from_ref(&one))), 104, "signed for another author");

    let mut longer = good.clone();
    longer.push(0);
    assert_eq!(refused(&longer), 101);
    assert_eq!(refused(&good[..good.len() - 1]), 101);
    // Tag 98 in three octets; a header more.
    assert_ne!(refused(&[&[0xd9, 0, 98], &good[2..]].concat()), 0);
    let loose = ([&[0xa2, 0x04][..], &cbor::bytes(&first.id().0), &[0x01, 0x27]].concat(), one.1.clone());
    assert_eq!(refused(&parts.envelope(&[loose])), 102);
}

#[test]
fn no_signature_stands_for_another() {
    let (parts, first, second) = parts();
    let (one, two) = (parts.sign(&first), parts.sign(&second));
    // Contexts: that of one signer, that of a countersignature, no external data.
    for wrong in [
        parts.sign_as(&second, "Signature1", op::OP_CONTEXT),
        parts.sign_as(&second, "CounterSignature", op::OP_CONTEXT),
        parts.sign_as(&second, "Signature", b""),
        parts.sign_as(&second, "Signature", b"ghostplane receipt v1"),
        (two.0.clone(), one.1.clone()),
        (two.0.clone(), vec![0; 64]),
        (two.0.clone(), vec![]),
    ] {
        assert_eq!(refused(&parts.envelope(&[one.clone(), wrong])), 104);
    }
    // The signature of a COSE_Sign1 in a COSE_Sign, and the other way round.
    let header = signer_header(&first);
    let alone = signed(&first.key, "Signature1", &[&header], op::OP_CONTEXT, &parts.payload);
    assert_eq!(refused(&parts.envelope(&[(header.clone(), alone.clone())])), 104);
    let single = |signature: &[u8]| {
        [&[0xd2, 0x84][..], &cbor::bytes(&header), &[0xa0], &cbor::bytes(&parts.payload), &cbor::bytes(signature)]
            .concat()
    };
    assert_eq!((refused(&single(&alone)), refused(&single(&one.1))), (0, 104));
    // Another algorithm, a key that is none.
    let other = ([&[0xa2, 0x01, 0x26, 0x04][..], &cbor::bytes(&second.id().0)].concat(), two.1.clone());
    assert_eq!(refused(&parts.envelope(&[one.clone(), other])), 101);
    let nobody = ([&[0xa2, 0x01, 0x27, 0x04][..], &cbor::bytes(&[0xff; 32])].concat(), two.1.clone());
    assert_eq!(refused(&parts.envelope(&[one.clone(), nobody])), 104);
    // Every bit counts.
    let good = parts.envelope(&[one, two]);
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut changed = good.clone();
            changed[at] ^= 1 << bit;
            assert_ne!(refused(&changed), 0, "octet {at} bit {bit}");
        }
    }
}

#[test]
fn ops_of_several_are_bounded_in_signatures_octets_and_time() {
    let (parts, first, _) = parts();
    let mut people: Vec<Person> = (1..=MAX_SIGNATURES as u8 + 1).map(Person::new).collect();
    people.sort_by_key(Person::id);
    let signatures: Vec<_> = people.iter().map(|person| parts.sign(person)).collect();
    assert_eq!(refused(&parts.envelope(&signatures)), 408);
    let own = people.iter().position(|person| person.id() == first.id()).unwrap();
    let all = if own == 0 { &signatures[..MAX_SIGNATURES] } else { &signatures[1..] };
    assert_eq!(refused(&parts.envelope(all)), 0);

    let body = |expires, op| OpBody { registry: op::RegistryId([7; 32]), nonce: 0, expires, op };
    let shared = |body| {
        let mut draft = Draft::new(first.id().into(), body);
        draft.sign(&first.key).unwrap();
        refused(&draft.to_bytes())
    };
    let release = || Op::Release { name: name("a.ghost") };
    assert_eq!(shared(body(1_000 + MAX_SHARED_OP_LIFETIME, release())), 0);
    assert_eq!(shared(body(1_001 + MAX_SHARED_OP_LIFETIME, release())), 106);
    assert_eq!(refused(&op::sign(&first.key, &body(1_001 + MAX_OP_LIFETIME, release()))), 106);
    let contract = Op::DeployContract { wasm: vec![0; MAX_SHARED_OP] };
    assert_eq!(shared(body(1_060, contract)), 100);
}

#[test]
fn signatures_are_put_together_whatever_way_a_file_went() {
    let (parts, first, second) = parts();
    let body = minicbor::decode::<OpBody>(&parts.payload).unwrap();
    let empty = Draft::new(first.id().into(), body.clone());
    let signed = |person: &Person| {
        let mut draft = Draft::open(&empty.to_bytes()).unwrap();
        draft.sign(&person.key).unwrap();
        draft
    };
    let mut joined = signed(&first);
    joined.join(signed(&second)).unwrap();
    joined.join(signed(&second)).unwrap();
    assert_eq!(joined.to_bytes(), parts.envelope(&[parts.sign(&first), parts.sign(&second)]));
    let other = Draft::new(second.id().into(), body);
    assert_eq!(joined.join(other), Err(op::OtherOp));
}

#[test]
fn whoever_replays_knows_when_a_level_ended() {
    let mut world = World::new();
    world.fund_operator();
    let mut alice = Person::new(1);
    let until = world.now() + DAY;
    world.govern(Op::Attest { to: alice.id().into(), level: 5, until }).unwrap();
    world.advance(DAY / 2);
    world.register(&mut alice, "alice.ghost");
    world.advance(DAY / 2);
    assert_eq!(code(world.govern(Op::RevokeAttestation { of: alice.id().into() })), 624, "nothing is left to revoke");
    assert_eq!(code(world.put(&mut alice, "alice.ghost", "TXT", &["\"x\""])), 201);
}
