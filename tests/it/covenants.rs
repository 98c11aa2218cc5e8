//! Covenants: they judge every write to the name, or below the TLD, that they are bound to.

use std::sync::mpsc;

use ghostplane::node::SHIPPED;
use ghostplane::op::{self, CodeHash, Covenant, Op, OpBody, Rejection};
use ghostplane::state::View as _;

use crate::support::{Person, World, name};

fn covenant(world: &World, person: &mut Person, shipped: &str, parameters: &str) -> Covenant {
    let wasm = SHIPPED.iter().find(|(name, _)| *name == shipped).unwrap().1;
    Covenant { code: world.deploy(person, wasm), parameters: parameters.into() }
}

fn bind(world: &World, person: &mut Person, about: &str, covenants: Vec<Covenant>) -> Result<(), Rejection> {
    world.submit(person, Op::BindCovenants { name: name(about), covenants }).map(drop)
}

fn govern(world: &mut World, about: &str, covenants: Vec<Covenant>) -> Result<(), Rejection> {
    world.govern(Op::BindCovenants { name: name(about), covenants }).map(drop)
}

/// A world with alice and her name, and an operator who can pay.
fn world() -> (World, Person) {
    let mut world = World::new();
    let mut alice = world.person(1);
    let mana = Op::GrantMana { to: world.operator.id(), level: 5, amount: 1_000_000 };
    world.govern(mana).unwrap();
    world.register(&mut alice, "alice.ghost");
    (world, alice)
}

fn denied(outcome: Result<impl std::fmt::Debug, Rejection>, scope_of: &str, words: &str) {
    match outcome.unwrap_err() {
        Rejection::Denied { scope, reason, .. } => {
            assert_eq!((scope, reason.as_str()), (name(scope_of), words));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn the_tlds_covenant_judges_before_the_names() {
    let (mut world, mut alice) = world();
    let quiet = covenant(&world, &mut alice, "quiet", "quiet 00:00 23:59\nonly put_records");
    let no_txt = covenant(&world, &mut alice, "records", "deny TXT");
    bind(&world, &mut alice, "alice.ghost", vec![no_txt]).unwrap();
    denied(
        world.put(&mut alice, "alice.ghost", "TXT", &["x"]),
        "alice.ghost",
        "records of type 16 are not allowed here",
    );
    govern(&mut world, "ghost", vec![quiet]).unwrap();
    let words = "quiet hours: try again at 23:59 UTC";
    denied(world.put(&mut alice, "alice.ghost", "TXT", &["x"]), "ghost", words);
    denied(world.put(&mut alice, "alice.ghost", "A", &["192.0.2.1"]), "ghost", words);
    // Other TLDs, and other kinds of writes, are not concerned.
    world.register(&mut alice, "alice.sig");
    world.put(&mut alice, "alice.sig", "A", &["192.0.2.1"]).unwrap();
    world.submit(&mut alice, Op::Renew { name: name("alice.ghost"), years: 1 }).unwrap();
    govern(&mut world, "ghost", vec![]).unwrap();
    world.put(&mut alice, "alice.ghost", "A", &["192.0.2.1"]).unwrap();
}

#[test]
fn a_denied_write_writes_nothing_and_costs_nothing() {
    let (mut world, mut alice) = world();
    let only_trusted = covenant(&world, &mut alice, "attested", "level 4");
    govern(&mut world, "ghost", vec![only_trusted]).unwrap();
    let snapshot = |world: &World| world.node.service.registry.snapshot().unwrap();
    let before = (snapshot(&world).counts().unwrap(), snapshot(&world).account(&alice.id()).unwrap());
    let register = Op::Register { name: name("new.ghost"), years: 1 };
    denied(world.submit(&mut alice, register), "ghost", "needs attestation level 4, the author has 3");
    assert_eq!((snapshot(&world).counts().unwrap(), snapshot(&world).account(&alice.id()).unwrap()), before);
    world.govern(Op::GrantMana { to: alice.id(), level: 4, amount: 100_000 }).unwrap();
    world.register(&mut alice, "new.ghost");
}

/// A covenant sees what the ops before it in the same commit have written.
#[test]
fn what_covenants_read_is_the_state_right_before_the_write() {
    // The TLD's policy leaves it to the covenant what looks like what.
    let policy = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/zones/ghost.toml")).unwrap();
    let mut world = World::with_policy(&policy.replacen("[labels]", "[labels]\nconfusable = true", 1));
    let mut alice = world.person(1);
    let mana = Op::GrantMana { to: world.operator.id(), level: 5, amount: 1_000_000 };
    world.govern(mana).unwrap();
    world.register(&mut alice, "alice.ghost");
    let rules = "script latin\nscript cyrillic\nconfusable deny";
    let script = covenant(&world, &mut alice, "script", rules);
    let quota = covenant(&world, &mut alice, "quota", "names 4");
    govern(&mut world, "ghost", vec![script, quota]).unwrap();
    // All in one batch: cocoa in Latin letters, then in Cyrillic ones; and names up to the quota.
    let labels = ["xn--80a1aakb", "cocoa", "xn--80a1aakb", "third", "fourth", "fifth"];
    let registry = world.node.service.registry.id();
    let (sender, receiver) = mpsc::channel();
    // The first is released again, so that the third can be refused.
    let mut ops: Vec<Op> =
        labels.iter().map(|label| Op::Register { name: name(&format!("{label}.ghost")), years: 1 }).collect();
    ops.insert(1, Op::Release { name: name("xn--80a1aakb.ghost") });
    for op in ops {
        let body = OpBody { registry, nonce: alice.nonce, expires: world.now() + 600, op: op.clone() };
        let verified = op::verify(&op::sign(&alice.key, &body), registry, world.now()).unwrap();
        let refused =
            matches!(&op, Op::Register { name: about, .. } if *about == name("xn--80a1aakb.ghost")) && alice.nonce > 4;
        alice.nonce += u64::from(!refused);
        let sender = sender.clone();
        world.node.service.writer.submit(verified, Box::new(move |outcome| sender.send((op, outcome)).unwrap()));
    }
    drop(sender);
    let told: Vec<String> = receiver
        .iter()
        .map(|(op, outcome)| match outcome {
            Ok(_) => format!("{} accepted", op.name().unwrap()),
            Err(Rejection::Denied { reason, .. }) => format!("{} {reason}", op.name().unwrap()),
            Err(other) => format!("{} {other}", op.name().unwrap()),
        })
        .collect();
    assert_eq!(told[2], "cocoa.ghost. accepted", "{told:#?}");
    assert_eq!(told[3], "xn--80a1aakb.ghost. reads like cocoa.ghost, which is registered", "{told:#?}");
    assert_eq!(told[5], "fourth.ghost. accepted", "{told:#?}");
    assert_eq!(told[6], "fifth.ghost. one owner has at most 4 names here, and the author has 4", "{told:#?}");
    let owned = |person: &Person| world.node.service.registry.snapshot().unwrap().owned(&person.id(), &name("ghost"));
    assert_eq!(owned(&alice), Ok(4));
}

#[test]
fn who_owns_how_many_follows_names_wherever_they_go() {
    let (mut world, mut alice) = world();
    let mut bob = world.person(2);
    world.register(&mut alice, "second.ghost");
    let owned = |world: &World, person: &Person| {
        world.node.service.registry.snapshot().unwrap().owned(&person.id(), &name("ghost")).unwrap()
    };
    assert_eq!((owned(&world, &alice), owned(&world, &bob)), (2, 0));
    world.submit(&mut alice, Op::Transfer { name: name("second.ghost"), to: bob.id() }).unwrap();
    assert_eq!((owned(&world, &alice), owned(&world, &bob)), (1, 1));
    world.put(&mut alice, "alice.ghost", "A", &["192.0.2.1"]).unwrap();
    world.submit(&mut bob, Op::Release { name: name("second.ghost") }).unwrap();
    assert_eq!((owned(&world, &alice), owned(&world, &bob)), (1, 0));
    world.advance(10 * 366 * 86_400);
    world.register(&mut bob, "alice.ghost");
    assert_eq!((owned(&world, &alice), owned(&world, &bob)), (0, 1));
}

/// Traps, for whatever it is asked.
fn broken() -> Vec<u8> {
    crate::hostile::author::covenant("unreachable")
}

#[test]
fn what_cannot_judge_lets_nothing_pass_but_its_own_end() {
    let (world, mut alice) = world();
    let code = world.deploy(&mut alice, &broken());
    bind(&world, &mut alice, "alice.ghost", vec![Covenant { code, parameters: vec![] }]).unwrap();
    let outcome = world.put(&mut alice, "alice.ghost", "A", &["192.0.2.1"]);
    assert!(matches!(outcome, Err(Rejection::CovenantBroke { .. })), "{outcome:?}");
    let release = world.submit(&mut alice, Op::Release { name: name("alice.ghost") });
    assert!(matches!(release, Err(Rejection::CovenantBroke { .. })), "{release:?}");
    bind(&world, &mut alice, "alice.ghost", vec![]).unwrap();
    world.put(&mut alice, "alice.ghost", "A", &["192.0.2.1"]).unwrap();
}

#[test]
fn a_covenant_that_loops_is_stopped_by_its_fuel() {
    let (world, mut alice) = world();
    let code = world.deploy(&mut alice, &crate::hostile::author::covenant("(loop $l (br $l)) (unreachable)"));
    bind(&world, &mut alice, "alice.ghost", vec![Covenant { code, parameters: vec![] }]).unwrap();
    match world.put(&mut alice, "alice.ghost", "A", &["192.0.2.1"]) {
        Err(Rejection::CovenantBroke { reason, .. }) => assert_eq!(reason, "contract used up its fuel"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn covenants_are_bound_by_who_may_and_end_with_the_name() {
    let (mut world, mut alice) = world();
    let mut bob = world.person(2);
    let attested = covenant(&world, &mut alice, "attested", "level 1");
    let theirs = bind(&world, &mut bob, "alice.ghost", vec![attested.clone()]);
    assert_eq!(theirs, Err(Rejection::NotOwner(name("alice.ghost"))));
    assert_eq!(bind(&world, &mut alice, "ghost", vec![attested.clone()]), Err(Rejection::NotOperator));
    let many = vec![attested.clone(); 9];
    assert_eq!(bind(&world, &mut alice, "alice.ghost", many).unwrap_err().code(), 408);
    let long = Covenant { parameters: vec![0; 17 * 1024], ..attested.clone() };
    assert_eq!(bind(&world, &mut alice, "alice.ghost", vec![long]).unwrap_err().code(), 503);
    let unknown = Covenant { code: CodeHash([9; 32]), parameters: vec![] };
    assert_eq!(bind(&world, &mut alice, "alice.ghost", vec![unknown]).unwrap_err().code(), 500);
    bind(&world, &mut alice, "alice.ghost", vec![attested]).unwrap();
    assert_eq!(world.node.service.covenants("alice.ghost").unwrap().len(), 1);
    world.submit(&mut alice, Op::Release { name: name("alice.ghost") }).unwrap();
    assert!(world.node.service.covenants("alice.ghost").unwrap().is_empty());
}

/// A covenant may keep its own owner from taking it off: that is what a promise to others is.
#[test]
fn a_covenant_may_hold_its_own_owner() {
    let (world, mut alice) = world();
    let others =
        "kinds transfer bind_covenants\nneed 1\nkey 3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29";
    let cosigned = covenant(&world, &mut alice, "cosigned", others);
    bind(&world, &mut alice, "alice.ghost", vec![cosigned]).unwrap();
    let words = "needs the signatures of 1 of 1 keys, has 0";
    denied(bind(&world, &mut alice, "alice.ghost", vec![]), "alice.ghost", words);
    world.put(&mut alice, "alice.ghost", "A", &["192.0.2.1"]).unwrap();
}
