//! From a signed op to the answer of a contract, without sockets.

use ghostplane::node::SHIPPED;
use ghostplane::op::Op;

use crate::support::{Told, World, name};

fn answers(told: &Told) -> Vec<&str> {
    told.records.iter().map(String::as_str).collect()
}

fn shipped(wanted: &str) -> &'static [u8] {
    SHIPPED.iter().find(|(name, _)| *name == wanted).unwrap().1
}

#[test]
fn a_write_is_seen_by_the_next_query_whatever_the_ttl() {
    let mut world = World::new();
    let mut alice = world.person(1);
    assert_eq!(world.ask("alice.ghost", "A").rcode, 3);
    world.register(&mut alice, "alice.ghost");
    assert_eq!(world.ask("alice.ghost", "A").rcode, 0);
    for address in ["192.0.2.1", "192.0.2.2"] {
        world.put(&mut alice, "alice.ghost", "A", &[address]).unwrap();
        let told = world.ask("alice.ghost", "A");
        assert!(told.authoritative);
        assert_eq!(answers(&told), [&format!("answer alice.ghost. 3600 A {address}"), "answer alice.ghost. RRSIG(A)"]);
        // Now cached for an hour; a minute later the TTL has aged.
        world.advance(60);
        assert_eq!(world.ask("alice.ghost", "A").records[0], format!("answer alice.ghost. 3540 A {address}"));
    }
    let key = ghostplane::op::RrsetKey { owner: name("alice.ghost"), rtype: "A".parse().unwrap() };
    world.submit(&mut alice, Op::DeleteRecords { name: name("alice.ghost"), keys: vec![key] }).unwrap();
    let told = world.ask("alice.ghost", "A");
    assert_eq!(told.rcode, 0);
    assert!(told.records[0].starts_with("authority alice.ghost. 300 SOA ns.ghost. hostmaster.ghost."), "{told:?}");
    let metrics = &world.node.metrics;
    assert!(metrics.cache_hits.get() >= 2);
}

#[test]
fn the_semantics_of_a_zone() {
    let mut world = World::new();
    let mut alice = world.person(1);
    let mut bob = world.person(2);
    world.register(&mut alice, "alice.ghost");
    world.register(&mut bob, "bob.sig");
    world.register(&mut bob, "away.ghost");
    world.put(&mut alice, "alice.ghost", "A", &["192.0.2.1"]).unwrap();
    world.put(&mut alice, "www.alice.ghost", "CNAME", &["bob.sig."]).unwrap();
    world.put(&mut alice, "out.alice.ghost", "CNAME", &["example.org."]).unwrap();
    world.put(&mut alice, "*.w.alice.ghost", "TXT", &["hi"]).unwrap();
    world.put(&mut alice, "d.alice.ghost", "DNAME", &["alice.ghost."]).unwrap();
    world.put(&mut bob, "bob.sig", "A", &["192.0.2.2"]).unwrap();
    world.put(&mut bob, "away.ghost", "NS", &["ns.away.ghost.", "ns.example."]).unwrap();

    let cname = world.ask("www.alice.ghost", "A");
    assert_eq!(
        answers(&cname),
        [
            "answer www.alice.ghost. 3600 CNAME bob.sig.",
            "answer www.alice.ghost. RRSIG(CNAME)",
            "answer bob.sig. 3600 A 192.0.2.2",
            "answer bob.sig. RRSIG(A)",
        ]
    );
    assert_eq!(
        answers(&world.ask("out.alice.ghost", "A")),
        ["answer out.alice.ghost. 3600 CNAME example.org.", "answer out.alice.ghost. RRSIG(CNAME)",]
    );
    // The chain ends in a name without the type: its SOA, its code.
    let chain = world.ask("www.alice.ghost", "AAAA");
    assert_eq!(chain.rcode, 0);
    assert!(chain.records[2].starts_with("authority bob.sig. 300 SOA"), "{chain:?}");
    assert_eq!(answers(&world.ask("x.y.w.alice.ghost", "TXT"))[0], "answer x.y.w.alice.ghost. 3600 TXT \"hi\"");
    assert_eq!(world.ask("w.alice.ghost", "TXT").rcode, 0);
    assert_eq!(world.ask("v.alice.ghost", "TXT").rcode, 3);
    let dname = world.ask("x.w.d.alice.ghost", "TXT");
    assert_eq!(
        answers(&dname)[2..4],
        ["answer x.w.d.alice.ghost. 3600 CNAME x.w.alice.ghost.", "answer x.w.alice.ghost. 3600 TXT \"hi\"",]
    );
    let cut = world.ask("x.away.ghost", "A");
    assert!(!cut.authoritative && cut.rcode == 0);
    assert_eq!(
        answers(&cut),
        ["authority away.ghost. 3600 NS ns.away.ghost.", "authority away.ghost. 3600 NS ns.example."]
    );
    // The parent answers for DS.
    let ds = world.ask("alice.ghost", "DS");
    assert!(ds.records[0].starts_with("authority ghost. 300 SOA"), "{ds:?}");
    // Apex data that the gateway makes.
    assert!(world.ask("alice.ghost", "DNSKEY").records[0].starts_with("answer alice.ghost. 3600 DNSKEY 257 3 15 "));
    assert_eq!(answers(&world.ask("alice.ghost", "NS")), ["answer alice.ghost. 3600 NS ns.ghost."]);
    assert_eq!(answers(&world.ask("alice.ghost", "ANY")), ["answer alice.ghost. 3600 HINFO \"RFC8482\" \"\""]);
    assert_eq!(answers(&world.ask("ns.ghost", "A")), ["answer ns.ghost. 3600 A 127.0.0.1"]);
    let foreign = world.ask("example.org", "A");
    assert_eq!((foreign.rcode, foreign.ede.as_ref().map(|ede| ede.0)), (5, Some(20)));
}

#[test]
fn an_alias_loop_ends() {
    let mut world = World::new();
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.ghost");
    world.put(&mut alice, "a.alice.ghost", "CNAME", &["b.alice.ghost."]).unwrap();
    world.put(&mut alice, "b.alice.ghost", "CNAME", &["a.alice.ghost."]).unwrap();
    let told = world.ask("a.alice.ghost", "A");
    assert_eq!((told.rcode, told.ede.map(|ede| ede.1)), (2, Some("alias chain of more than 8 links".into())));
}

#[test]
fn each_tld_answers_by_its_own_contract() {
    let mut world = World::new();
    let mut alice = world.person(1);
    for tld in ["ghost", "sig", "gcc", "bc"] {
        world.register(&mut alice, &format!("alice.{tld}"));
        let did = world.ask(&format!("_did.alice.{tld}"), "TXT");
        assert_eq!(answers(&did), [format!("answer _did.alice.{tld}. 300 TXT \"{}\"", alice.id())]);
    }
    assert_eq!(answers(&world.ask("alice.sig", "TXT")), [format!("answer alice.sig. 300 TXT \"{}\"", alice.id())]);
    world.put(&mut alice, "alice.bc", "WALLET", &["ETH 0xab16a96D359eC26a11e2C2b3d8f8B8942d5Bfcdb"]).unwrap();
    assert_eq!(
        answers(&world.ask("_accounts.alice.bc", "TXT")),
        ["answer _accounts.alice.bc. 300 TXT \"eip155:1:0xab16a96D359eC26a11e2C2b3d8f8B8942d5Bfcdb\""]
    );
}

#[test]
fn binding_another_contract_changes_the_next_answer() {
    let mut world = World::new();
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.gcc");
    world.put(&mut alice, "alice.gcc", "A", &["192.0.2.1"]).unwrap();
    assert_eq!(world.ask("alice.gcc", "A").records[0], "answer alice.gcc. 3600 A 192.0.2.1");
    let weighted = world.deploy(&mut alice, shipped("weighted"));
    let bind = |contract, parameters: &[u8]| Op::BindContract {
        name: name("alice.gcc"),
        contract,
        parameters: parameters.to_vec(),
    };
    world.submit(&mut alice, bind(Some(weighted), b"ttl 60\nA 192.0.2.9 1\n")).unwrap();
    assert_eq!(answers(&world.ask("alice.gcc", "A")), ["answer alice.gcc. 60 A 192.0.2.9"]);
    world.submit(&mut alice, bind(Some(weighted), b"A nonsense 1")).unwrap();
    let failed = world.ask("alice.gcc", "A");
    assert_eq!(failed.rcode, 2);
    assert!(failed.ede.unwrap().1.contains("line 1"));
    world.submit(&mut alice, bind(None, b"")).unwrap();
    assert_eq!(world.ask("alice.gcc", "A").records[0], "answer alice.gcc. 3600 A 192.0.2.1");
    let park = world.deploy(&mut alice, shipped("park"));
    world.submit(&mut alice, bind(Some(park), b"for sale")).unwrap();
    assert!(world.ask("any.alice.gcc", "TXT").records[0].ends_with("TXT \"for sale\""));
}

#[test]
fn a_lease_bounds_what_is_answered() {
    let mut world = World::new();
    let mut alice = world.person(1);
    let mut bob = world.person(2);
    world.register(&mut alice, "alice.ghost");
    world.put(&mut alice, "alice.ghost", "A", &["192.0.2.1"]).unwrap();
    let year = ghostplane::limits::YEAR;
    world.advance(year - 10);
    // The signature ran out long ago, so it is not sent; the TTL ends with the lease.
    assert_eq!(answers(&world.ask("alice.ghost", "A")), ["answer alice.ghost. 10 A 192.0.2.1"]);
    world.advance(10);
    assert_eq!(world.ask("alice.ghost", "A").rcode, 3);
    let taken = world.submit(&mut bob, Op::Register { name: name("alice.ghost"), years: 1 });
    assert_eq!(taken.unwrap_err().code(), 303);
    world.advance(ghostplane::limits::GRACE);
    world.register(&mut bob, "alice.ghost");
    let told = world.ask("alice.ghost", "A");
    assert!(told.records[0].starts_with("authority alice.ghost."), "nothing of the last owner answers: {told:?}");
}
