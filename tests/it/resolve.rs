//! What an answer costs: an execution once, then the cache, until something it read changes.

use ghostplane::dnssec::ZoneKey;
use ghostplane::gateway::{Client, Transport};
use ghostplane::node::SHIPPED;
use ghostplane::op::Op;
use ghostplane::wire::{Rcode, Reply, Rrset, Rtype};

use crate::support::{World, name, query};

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

/// Owners are to be warned before their signatures end, and counted once they have.
#[test]
fn names_to_sign_again_are_counted() {
    let mut world = World::new();
    let mut alice = world.person(1);
    for name in ["alice.ghost", "other.ghost"] {
        world.register(&mut alice, name);
    }
    world.sign(&mut alice, "alice.ghost").unwrap();
    let counted = || world.node.service.names_to_resign().unwrap();
    assert_eq!(counted(), (0, 0));
    world.advance(17 * 86_400);
    assert_eq!(counted(), (1, 0));
    world.advance(14 * 86_400);
    assert_eq!(counted(), (0, 1));
}

/// Nobody but its owner can sign for a strict name: what has expired is an error, never served, never replaced.
#[test]
fn a_strict_name_ends_with_its_signatures() {
    let mut world = World::new();
    let mut alice = world.person(1);
    world.register(&mut alice, "fort.ghost");
    world.put(&mut alice, "www.fort.ghost", "A", &["192.0.2.1"]).unwrap();
    world.sign_strict(&mut alice, "fort.ghost").unwrap();
    let denied = world.ask("no.fort.ghost", "A");
    assert_eq!(
        denied.records,
        [
            "authority fort.ghost. 300 SOA ns.ghost. hostmaster.ghost. 1 7200 3600 1209600 300",
            "authority fort.ghost. RRSIG(SOA)",
            "authority fort.ghost. 300 NSEC www.fort.ghost. NS SOA RRSIG NSEC DNSKEY",
            "authority fort.ghost. RRSIG(NSEC)",
        ]
    );
    // The key's own signature is renewed, so that the name stays a signed zone; the others are not.
    world.advance(20 * 86_400);
    let key = ZoneKey::of_sigil(&alice.key);
    let mut keys = Rrset::new(name("fort.ghost"), Rtype::DNSKEY, 3600, [key.dnskey().to_vec()]);
    keys.rrsigs = vec![key.sign_until(&name("fort.ghost"), &keys, world.now() - 60, world.now() + 30 * 86_400).into()];
    world.submit(&mut alice, Op::put(name("fort.ghost"), vec![keys])).unwrap();
    world.advance(10 * 86_400 - 100);
    assert_eq!(world.ask("www.fort.ghost", "A").records[0], "answer www.fort.ghost. 100 A 192.0.2.1");
    world.advance(100);
    for owner in ["www.fort.ghost", "no.fort.ghost"] {
        let told = world.ask(owner, "A");
        assert_eq!((told.rcode, told.ede.as_ref().map(|ede| ede.0)), (Rcode::ServFail as u16, Some(7)), "{owner}");
        assert!(told.records.is_empty());
    }
}

/// RFC 7873: a client that brings back the cookie it was given has its address.
#[test]
fn a_cookie_proves_an_address_over_udp() {
    let mut world = World::new();
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.ghost");
    world.put(&mut alice, "alice.ghost", "A", &["192.0.2.1"]).unwrap();
    let ask = |cookie: &[u8], addr: &str, transport| {
        let mut message = query("alice.ghost", "A", 0);
        let option = [&[0, 10, 0, cookie.len() as u8], cookie].concat();
        let at = message.len() - 2;
        message[at..].copy_from_slice(&(option.len() as u16).to_be_bytes());
        message.extend(option);
        let client = Client::new(transport, addr.parse().unwrap());
        world.node.gateway.answer(&message, client).unwrap()
    };
    let cookie = |reply: &Reply| reply.wire[reply.wire.len() - 24..].to_vec();
    let first = ask(&[7; 8], "192.0.2.9", Transport::Udp);
    assert!(!first.proven && first.wire.windows(4).any(|octets| octets == [0, 10, 0, 24]));
    let given = cookie(&first);
    assert_eq!(given[..8], [7; 8]);
    assert!(ask(&given, "192.0.2.9", Transport::Udp).proven);
    assert!(!ask(&given, "192.0.2.8", Transport::Udp).proven);
    world.advance(3_601);
    let late = ask(&given, "192.0.2.9", Transport::Udp);
    assert!(!late.proven && cookie(&late) != given);
    // Nothing to prove where there is a connection; a length that cannot be is told.
    assert!(!ask(&given, "192.0.2.9", Transport::Quic).wire.windows(4).any(|octets| octets == [0, 10, 0, 24]));
    assert_eq!(ask(&[7; 9], "192.0.2.9", Transport::Udp).rcode, Rcode::FormErr);
    // Told to come back with it, a client has it.
    let mut limited = late;
    limited.truncate();
    assert!(limited.ask_for_cookie());
    assert_eq!((limited.wire[3] & 0xf, limited.wire[6..12].to_vec()), (7, vec![0, 0, 0, 0, 0, 1]));
    assert_eq!((limited.wire[2] & 2, limited.wire.len()), (2, 12 + 17 + 11 + 4 + 24));
}
