//! Attacks by the holder of an owner's key: the owner, or the thief of the key.

use ghostplane::limits::{MAX_SEEN_BY_KEY, MAX_SEEN_UPDATES, UPDATE_KEY_MANA};
use ghostplane::op::{self, Op, OpBody, Rejection, RrsetKey, Scope, SigilId, SignedUpdate, UpdateScope, key_name};
use ghostplane::state::View as _;
use ghostplane::state::gas::DEFAULT_POLICY;
use ghostplane::wire::Rtype;
use ghostplane::writer::Outcome;

use crate::guardians::{code, friends};
use crate::support::{Person, World, name};
use crate::updates::{ANY, Update};

const APEX: &str = "alice.ghost";
const DAY: u64 = 86_400;

impl World {
    /// An UPDATE with the person's SIG(0), past the doors.
    fn sig0(&self, person: &Person, update: &Update) -> Outcome {
        let message = update.signed(&person.key, APEX, self.now() - 300, self.now() + 300);
        self.send(&op::seal_update(person.id(), &message))
    }

    /// An UPDATE that the gateway vouches for, past the doors.
    fn tsig(&self, label: &str, update: &Update) -> Outcome {
        let message =
            update.keyed(&key_name(&name(APEX), label).unwrap(), &Default::default(), "hmac-sha256", self.now());
        let update = SignedUpdate::read(&message).unwrap();
        self.send(&self.vouched(label, update, self.now() + 300))
    }

    /// The op by which the gateway vouches.
    fn vouched(&self, label: &str, update: SignedUpdate, expires: u64) -> Vec<u8> {
        let row = self.node.service.registry.snapshot().unwrap().updates(&name(APEX)).unwrap();
        let issued = row.key(label, self.now()).map(|key| key.issued);
        let op = Op::UpdateByKey { label: label.into(), update, issued };
        let body = OpBody { registry: self.node.service.registry.id(), nonce: 0, expires, op };
        op::sign(&self.node.gateway.engine().sigil, &body)
    }

    /// This gateway may vouch and settle.
    fn appoint(&mut self) {
        let gateways = vec![SigilId::from(&self.node.gateway.engine().sigil.verifying_key())];
        self.govern(Op::SetGas { policy: DEFAULT_POLICY, gateways }).unwrap();
    }

    fn mana(&self, person: &Person) -> u64 {
        self.node.service.registry.snapshot().unwrap().account(&person.id()).unwrap().mana(self.now())
    }

    fn offer_to(&self, owner: &mut Person, to: &Person) -> u64 {
        let op = Op::Offer { name: name(APEX), to: to.id(), price: None, until: self.now() + 29 * DAY };
        self.submit(owner, op).unwrap();
        self.offer(APEX)
    }
}

fn update() -> Update {
    Update::of(APEX)
}

fn issue(label: &str, types: &[&str], mana: Option<u64>, now: u64) -> Op {
    let types = types.iter().map(|rtype| rtype.parse().unwrap()).collect();
    let scopes = vec![UpdateScope { owner: name(APEX), below: true, types }];
    Op::IssueUpdateKey { name: name(APEX), label: label.into(), scopes, expires: now + 300 * DAY, mana }
}

fn accept(offer: u64) -> Op {
    Op::Accept { name: name(APEX), offer }
}

/// T1.
#[test]
fn an_offer_does_not_outlive_a_freeze() {
    let (mut world, mut thief, [mut bob, carol, _], _) = friends();
    let mut second = world.person(9);
    let offer = world.offer_to(&mut thief, &second);
    world.with(&mut bob, &[&carol], Op::Freeze { name: name(APEX), until: Some(world.now() + DAY) }).unwrap();
    assert_eq!(code(world.submit(&mut second, accept(offer))), 640);
    assert_eq!(world.offer(APEX), 0);
    world.advance(DAY);
    assert_eq!(code(world.submit(&mut second, accept(offer))), 316);
    assert_eq!(world.owner(APEX), thief.id());
}

/// T1.
#[test]
fn a_recovery_that_is_under_way_is_not_escaped() {
    let (mut world, mut thief, [mut bob, carol, _], set) = friends();
    let mut second = world.person(9);
    let victim = Person::new(10);
    let offer = world.offer_to(&mut thief, &second);
    world.with(&mut bob, &[&carol], Op::StartRecovery { name: name(APEX), to: victim.id() }).unwrap();
    assert_eq!(code(world.submit(&mut second, accept(offer))), 631);
    assert_eq!(world.offer(APEX), 0);
    let until = world.now() + DAY;
    for op in [
        Op::Transfer { name: name(APEX), to: second.id() },
        Op::Offer { name: name(APEX), to: second.id(), price: None, until },
        Op::Release { name: name(APEX) },
        Op::SetRecovery { name: name(APEX), set: None, delay: 0 },
        Op::RequireCosign { name: name(APEX), set: Some(set), scopes: vec![] },
    ] {
        assert_eq!(code(world.submit(&mut thief, op.clone())), 631, "{op:?}");
    }
    // A veto is a veto; the guardians see it, and who holds the key has been seen.
    world.submit(&mut thief, Op::VetoRecovery { name: name(APEX) }).unwrap();
    assert_eq!(code(world.submit(&mut second, accept(offer))), 316);
}

/// T1.
#[test]
fn a_new_co_signature_rule_ends_offers_and_one_that_was_agreed_to_stands() {
    let (mut world, mut alice, [bob, carol, _], set) = friends();
    let mut second = world.person(9);
    let offer = world.offer_to(&mut alice, &second);
    let rule = |scopes| Op::RequireCosign { name: name(APEX), set: Some(set), scopes };
    world.submit(&mut alice, rule(vec![])).unwrap();
    assert_eq!(code(world.submit(&mut second, accept(offer))), 612);
    assert_eq!(world.offer(APEX), 0);
    // With their signatures, it is offered, and then needs none.
    let until = world.now() + DAY;
    let offer = Op::Offer { name: name(APEX), to: second.id(), price: None, until };
    assert_eq!(code(world.submit(&mut alice, offer.clone())), 612);
    world.with(&mut alice, &[&bob, &carol], offer.clone()).unwrap();
    // A changed rule ends it again.
    world.with(&mut alice, &[&bob, &carol], rule(vec![Scope::Records])).unwrap();
    assert_eq!(world.offer(APEX), 0);
    world.with(&mut alice, &[&bob, &carol], offer).unwrap();
    let number = world.offer(APEX);
    world.submit(&mut second, accept(number)).unwrap();
    assert_eq!(world.owner(APEX), second.id());
}

/// T1: by release and registration, update keys, covenants, a contract.
#[test]
fn a_frozen_name_stays_whatever_was_prepared() {
    let (mut world, mut thief, [mut bob, carol, _], _) = friends();
    world.appoint();
    let mut second = world.person(9);
    world.submit(&mut thief, issue("k", &["A", "TXT", "NS"], None, world.now())).unwrap();
    world.tsig("k", &update().add("w.alice.ghost", "A", "192.0.2.1")).unwrap();
    let contract = world.deploy(&mut second, ghostplane::node::SHIPPED[0].1);
    world.with(&mut bob, &[&carol], Op::Freeze { name: name(APEX), until: Some(world.now() + DAY) }).unwrap();
    let change = update().id(2).add("w.alice.ghost", "A", "192.0.2.66");
    assert_eq!((code(world.tsig("k", &change)), code(world.sig0(&thief, &change))), (640, 640));
    for op in [
        Op::Release { name: name(APEX) },
        Op::BindContract { name: name(APEX), contract: Some(contract), parameters: vec![] },
        Op::BindContract { name: name(APEX), contract: None, parameters: vec![] },
        Op::BindCovenants { name: name(APEX), covenants: vec![] },
        issue("l", &["A"], None, world.now()),
        Op::RevokeUpdateKey { name: name(APEX), label: "k".into() },
        Op::Lock { name: name(APEX), delay: 0 },
        Op::SetRecovery { name: name(APEX), set: None, delay: 0 },
        Op::SetAutoRenew { name: name(APEX), plan: None },
    ] {
        assert_eq!(code(world.submit(&mut thief, op.clone())), 640, "{op:?}");
    }
    assert_eq!(code(world.submit(&mut second, Op::Register { name: name(APEX), years: 1 })), 302);
    // It must not cost the name.
    world.submit(&mut thief, Op::Renew { name: name(APEX), years: 1 }).unwrap();
}

/// T2.
#[test]
fn a_lock_holds_at_every_door() {
    let mut world = World::new();
    world.appoint();
    let mut alice = world.person(1);
    world.register(&mut alice, APEX);
    world.put(&mut alice, APEX, "A", &["192.0.2.1"]).unwrap();
    world.submit(&mut alice, issue("k", &["A", "NS"], None, world.now())).unwrap();
    world.submit(&mut alice, Op::Lock { name: name(APEX), delay: DAY }).unwrap();
    let away = || update().edit(APEX, ANY, "A", 0, "").add(APEX, "NS", "ns.bc.");
    assert_eq!(code(world.sig0(&alice, &away())), 318);
    assert_eq!(code(world.tsig("k", &away())), 318);
    assert_eq!(code(world.put(&mut alice, APEX, "NS", &["ns.bc."])), 406, "beside an address");
    assert!(world.ask_plain(APEX, "A").records.iter().any(|record| record.contains("192.0.2.1")));
    // Records are not locked.
    world.sig0(&alice, &update().add("w.alice.ghost", "A", "192.0.2.2")).unwrap();
    // Neither is the lock passed by guardians of the thief's own.
    let set = op::SetId::of(world.node.service.registry.id(), alice.id(), alice.nonce);
    let members = vec![op::Member { who: alice.id().into(), weight: 1 }];
    world.submit(&mut alice, Op::PutSet { set: None, members, threshold: 1 }).unwrap();
    let own = Op::SetRecovery { name: name(APEX), set: Some(set), delay: DAY };
    assert_eq!(code(world.submit(&mut alice, own)), 318);
    let own = Op::RequireCosign { name: name(APEX), set: Some(set), scopes: vec![] };
    assert_eq!(code(world.submit(&mut alice, own)), 318);
    // Once it is unlocked, all of it goes.
    world.submit(&mut alice, Op::Unlock { name: name(APEX) }).unwrap();
    assert_eq!(code(world.sig0(&alice, &away())), 318);
    world.advance(DAY);
    world.sig0(&alice, &away()).unwrap();
}

/// T5: 216 MX records, each 16 octets of a message and hundreds in the store.
#[test]
fn mana_does_not_come_out_of_nothing() {
    let mut world = World::new();
    let mut alice = world.person(1);
    world.register(&mut alice, APEX);
    // Full accounts gain nothing: below that, what comes back is seen.
    world.put(&mut alice, APEX, "TXT", &["\"x\""]).unwrap();
    let owner = "m.alice.ghost";
    let long = format!("10 {}.{}.{}.alice.ghost.", "a".repeat(63), "b".repeat(63), "c".repeat(60));
    let before = world.mana(&alice);
    for cycle in 0..3 {
        // The first exchange is written out; the others point to it.
        let first = 12 + name(APEX).as_wire().len() + 4;
        let at = first + name(owner).as_wire().len() + 12;
        let mut change = update().id(cycle).add(owner, "MX", &long);
        for preference in 11..=225_u16 {
            // Two owners, for an RRset has 128 records at most.
            let mut record = if preference < 120 { vec![0xc0, first as u8] } else { vec![1, b'n', 0xc0, 12] };
            record.extend([0, 15, 0, 1, 0, 0, 0, 60, 0, 4]);
            record.extend(preference.to_be_bytes());
            record.extend([0xc0, at as u8]);
            change = change.raw(record);
        }
        assert!(change.octets().len() < 4_096 - 120);
        let had = world.mana(&alice);
        world.sig0(&alice, &change).unwrap();
        let snapshot = world.node.service.registry.snapshot().unwrap();
        let at = |owner: &str| snapshot.rrset(&name(owner), Rtype::MX).unwrap().unwrap().bytes() as u64;
        let stored = at(owner) + at("n.alice.ghost");
        assert!(stored > 40_000, "{stored}");
        let paid = had - world.mana(&alice);
        assert!(paid >= stored / 1_024, "{paid} mana for {stored} octets");
        let keys = [owner, "n.alice.ghost"].map(|owner| op::RrsetKey { owner: name(owner), rtype: Rtype::MX }).to_vec();
        world.submit(&mut alice, Op::DeleteRecords { name: name(APEX), keys }).unwrap();
        assert!(world.mana(&alice) < had, "cycle {cycle}");
    }
    assert!(world.mana(&alice) < before);
}

/// T6.
#[test]
fn an_update_key_spends_its_own_budget_and_fills_its_own_memory() {
    let mut world = World::new();
    world.appoint();
    let mut alice = world.person(1);
    world.register(&mut alice, APEX);
    for (label, mana) in [("small", None), ("large", Some(100_000)), ("other", Some(60))] {
        world.submit(&mut alice, issue(label, &["TXT"], mana, world.now())).unwrap();
    }
    // Updates that change nothing: until the budget is empty, whatever the owner's account holds.
    let nothing = |id: u16| update().id(id).edit("w.alice.ghost", ANY, "TXT", 0, "");
    let before = world.mana(&alice);
    let mut ids = 0..;
    let accepted = ids.by_ref().take(100).take_while(|id| world.tsig("small", &nothing(*id)).is_ok()).count() as u64;
    let spent = before - world.mana(&alice);
    assert!(spent <= UPDATE_KEY_MANA && accepted >= 10, "{accepted} updates for {spent} mana");
    assert_eq!(code(world.tsig("small", &nothing(1_000))), 709);
    // One with mana enough fills its memory, and no other's.
    let accepted = ids.by_ref().take(200).take_while(|id| world.tsig("large", &nothing(*id)).is_ok()).count();
    assert_eq!((accepted, code(world.tsig("large", &nothing(1_001)))), (MAX_SEEN_BY_KEY, 408));
    world.tsig("other", &nothing(1_002)).unwrap();
    for id in 2_000..2_000 + MAX_SEEN_UPDATES as u16 {
        world.sig0(&alice, &nothing(id)).unwrap();
    }
    assert_eq!(code(world.sig0(&alice, &nothing(3_000))), 408);
    world.tsig("other", &nothing(1_003)).unwrap();
    // An accepted update is remembered, in one memory or the other.
    assert!(matches!(world.tsig("other", &nothing(1_003)), Err(Rejection::UpdateReplayed)));
    assert!(matches!(world.sig0(&alice, &nothing(2_000)), Err(Rejection::UpdateReplayed)));
    // A day refills it.
    world.advance(DAY);
    world.tsig("small", &nothing(1_000)).unwrap();
    let keys = world.node.service.update_keys(APEX).unwrap();
    let shown: Vec<(u64, bool)> = keys.iter().map(|key| (key.mana, key.left < key.mana)).collect();
    assert_eq!(shown, [(UPDATE_KEY_MANA, true), (100_000, false), (60, false)]);
}

/// The log is public: what a key's holder has sent is in it, and must not count again under the next key of that label.
#[test]
fn an_update_by_a_revoked_key_is_not_sent_again_under_the_next_one() {
    let mut world = World::new();
    world.appoint();
    let mut alice = world.person(1);
    world.register(&mut alice, APEX);
    world.submit(&mut alice, issue("k", &["TXT"], None, world.now())).unwrap();
    let message = update().add("w.alice.ghost", "TXT", "\"old\"").keyed(
        &key_name(&name(APEX), "k").unwrap(),
        &Default::default(),
        "hmac-sha256",
        world.now(),
    );
    let logged = world.vouched("k", SignedUpdate::read(&message).unwrap(), world.now() + 300);
    world.send(&logged).unwrap();
    world.submit(&mut alice, Op::RevokeUpdateKey { name: name(APEX), label: "k".into() }).unwrap();
    world.submit(&mut alice, issue("k", &["TXT"], None, world.now())).unwrap();
    assert_eq!(code(world.send(&logged)), 704);
}

/// A budget is the owner's to set, within bounds.
#[test]
fn a_budget_has_bounds() {
    let mut world = World::new();
    let mut alice = world.person(1);
    world.register(&mut alice, APEX);
    for mana in [Some(0), Some(u64::MAX), Some(ghostplane::limits::MAX_UPDATE_KEY_MANA + 1)] {
        assert_eq!(code(world.submit(&mut alice, issue("k", &["TXT"], mana, world.now()))), 706);
    }
}

/// A delegation that goes takes its DS along, or stays: a parent's DS without NS is no zone cut (RFC 4035 §2.4).
#[test]
fn no_ds_is_left_without_its_delegation() {
    let mut world = World::new();
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.ghost");
    world.put(&mut alice, "alice.ghost", "NS", &["ns.example.com."]).unwrap();
    world.put(&mut alice, "alice.ghost", "DS", &[&format!("1 13 2 {}", "ab".repeat(32))]).unwrap();
    let delete = |types: &[Rtype]| {
        let keys = types.iter().map(|rtype| RrsetKey { owner: name("alice.ghost"), rtype: *rtype }).collect();
        Op::DeleteRecords { name: name("alice.ghost"), keys }
    };
    let kept = world.submit(&mut alice, delete(&[Rtype::NS])).unwrap_err();
    assert_eq!(kept.code(), 402, "{kept}");
    world.submit(&mut alice, delete(&[Rtype::NS, Rtype::DS])).unwrap();
}
