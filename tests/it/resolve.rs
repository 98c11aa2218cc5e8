//! What an answer costs: an execution once, then the cache, until something it read changes.

use ghostplane::node::SHIPPED;
use ghostplane::op::Op;

use crate::support::{World, name};

#[test]
fn every_answer_comes_from_an_execution_or_the_cache_of_one() {
    let mut world = World::new();
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.ghost");
    world.register(&mut alice, "other.ghost");
    world.put(&mut alice, "alice.ghost", "A", &["192.0.2.1"]).unwrap();
    let metrics = world.node.metrics.clone();
    let counts = || (metrics.contract_executions.get(), metrics.cache_hits.get());
    for name in ["alice.ghost", "nothing.alice.ghost", "nobody.ghost", "ghost"] {
        let (executed, hits) = counts();
        let first = world.ask(name, "A");
        assert_eq!(counts(), (executed + 1, hits), "{name}");
        assert_eq!(world.ask(name, "A"), first);
        assert_eq!(counts(), (executed + 1, hits + 1), "{name}");
    }
    // A write elsewhere leaves the answer where it is.
    world.put(&mut alice, "other.ghost", "A", &["192.0.2.9"]).unwrap();
    let (executed, _) = counts();
    world.ask("alice.ghost", "A");
    assert_eq!(counts().0, executed);
    world.put(&mut alice, "x.alice.ghost", "A", &["192.0.2.9"]).unwrap();
    world.ask("alice.ghost", "A");
    assert_eq!(counts().0, executed + 1);
}

#[test]
fn signatures_leave_only_with_the_do_bit_and_while_they_are_valid() {
    let mut world = World::new();
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.ghost");
    world.put(&mut alice, "alice.ghost", "A", &["192.0.2.1"]).unwrap();
    let with = world.ask("alice.ghost", "A");
    assert_eq!(with.records, ["answer alice.ghost. 3600 A 192.0.2.1", "answer alice.ghost. RRSIG(A)"]);
    let without = world.ask_plain("alice.ghost", "A");
    assert_eq!(without.records, ["answer alice.ghost. 3600 A 192.0.2.1"]);
    // Fifteen minutes before the RRSIG runs out, the TTL ends with it.
    world.advance(30 * 86_400 - 900);
    assert_eq!(world.ask("alice.ghost", "A").records[0], "answer alice.ghost. 900 A 192.0.2.1");
    world.advance(900);
    assert_eq!(world.ask("alice.ghost", "A").records, ["answer alice.ghost. 3600 A 192.0.2.1"]);
}

/// What the gateway signs is good for three days; a contract may ask for a week.
#[test]
fn no_ttl_is_longer_than_the_online_signature_above_it() {
    let mut world = World::new();
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.gcc");
    world.sign(&mut alice, "alice.gcc").unwrap();
    let weighted = SHIPPED.iter().find(|(name, _)| *name == "weighted").unwrap().1;
    let contract = Some(world.deploy(&mut alice, weighted));
    let parameters = b"ttl 604800\nA 192.0.2.1 1".to_vec();
    world.submit(&mut alice, Op::BindContract { name: name("alice.gcc"), contract, parameters }).unwrap();
    assert_eq!(world.ask_plain("alice.gcc", "A").records[0], "answer alice.gcc. 604800 A 192.0.2.1");
    assert_eq!(world.ask("alice.gcc", "A").records[0], "answer alice.gcc. 255600 A 192.0.2.1");
}
