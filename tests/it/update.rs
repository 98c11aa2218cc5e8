//! DNS UPDATE: prerequisites, edits, who may, what is refused; and the clients that others wrote.

use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};

use ghostplane::dnssec::tsig::Secret;
use ghostplane::gateway::{Client, Transport};
use ghostplane::op::{self, Op, SigilId, UpdateScope, key_name};
use ghostplane::registry::LogEntry;
use ghostplane::state::gas::DEFAULT_POLICY;
use ghostplane::state::{ApplyError, At, Model, View as _, apply};
use ghostplane::wire::{Message, Name, Reply, Rtype};

use crate::clients::{have, skip};
use crate::process::{Daemon, PROGRAM, Server, free_port};
use crate::support::{Person, World, name};
use crate::updates::{ANY, IN, NONE, Update};

const APEX: &str = "alice.ghost";

/// A signed zone with a few records, and its owner.
fn alice() -> (World, Person) {
    let mut world = World::new();
    let mut alice = world.person(1);
    let gateways = vec![SigilId::from(&world.node.gateway.engine().sigil.verifying_key())];
    world.govern(Op::SetGas { policy: DEFAULT_POLICY, gateways }).unwrap();
    world.register(&mut alice, APEX);
    world.sign(&mut alice, APEX).unwrap();
    world.put(&mut alice, APEX, "A", &["192.0.2.1"]).unwrap();
    world.put(&mut alice, "txt.alice.ghost", "TXT", &["\"one\"", "\"two\""]).unwrap();
    world.put(&mut alice, "www.alice.ghost", "CNAME", &["alice.ghost."]).unwrap();
    (world, alice)
}

fn send(world: &World, message: &[u8]) -> Reply {
    let client = Client::new(Transport::Tcp, IpAddr::V4(Ipv4Addr::LOCALHOST));
    world.node.gateway.answer(message, client).expect("a reply")
}

/// The response code of an update that the person signs now, and the words that come with it.
fn update(world: &World, person: &Person, update: &Update) -> (u16, String) {
    told(&send(world, &update.signed(&person.key, APEX, world.now() - 300, world.now() + 300)))
}

fn told(reply: &Reply) -> (u16, String) {
    let message = Message::parse(&reply.wire).unwrap();
    assert_eq!(message.flags & 0xf800, 0xa800, "no response to an UPDATE");
    let texts: Vec<String> = message.extended_errors().into_iter().map(|(_, text)| text).collect();
    (message.rcode(), texts.concat())
}

fn stored(world: &World, owner: &str, rtype: &str) -> Option<Vec<String>> {
    let rtype: Rtype = rtype.parse().unwrap();
    let rrset = world.node.service.registry.snapshot().unwrap().rrset(&name(owner), rtype).unwrap()?;
    Some(rrset.rdata.iter().map(|data| ghostplane::wire::rdata::to_text(rtype, data)).collect())
}

fn last_seq(world: &World) -> u64 {
    world.node.service.registry.snapshot().unwrap().last_seq().unwrap()
}

/// RFC 2136 §2.4, §3.2: each kind where it holds and where it does not.
#[test]
fn prerequisites_are_those_of_rfc_2136() {
    let (world, alice) = alice();
    let table: [(&str, u16, &str, &str, u16); 22] = [
        // RRset exists (value independent).
        ("alice.ghost", ANY, "A", "", 0),
        ("alice.ghost", ANY, "MX", "", 8),
        ("no.alice.ghost", ANY, "A", "", 8),
        // What the gateway makes of every name.
        ("alice.ghost", ANY, "SOA", "", 0),
        ("alice.ghost", NONE, "NS", "", 7),
        // RRset exists (value dependent): the whole set and nothing else.
        ("alice.ghost", IN, "A", "192.0.2.1", 0),
        ("alice.ghost", IN, "A", "192.0.2.2", 8),
        ("txt.alice.ghost", IN, "TXT", "\"one\"", 8),
        ("no.alice.ghost", IN, "A", "192.0.2.1", 8),
        // RRset does not exist.
        ("alice.ghost", NONE, "MX", "", 0),
        ("alice.ghost", NONE, "A", "", 7),
        // Name is in use; empty non-terminals are not.
        ("txt.alice.ghost", ANY, "ANY", "", 0),
        ("alice.ghost", ANY, "ANY", "", 0),
        ("no.alice.ghost", ANY, "ANY", "", 3),
        // Name is not in use.
        ("no.alice.ghost", NONE, "ANY", "", 0),
        ("txt.alice.ghost", NONE, "ANY", "", 6),
        // Form.
        ("bob.ghost", ANY, "A", "", 10),
        ("alice.ghost", ANY, "A", "192.0.2.1", 1),
        ("alice.ghost", NONE, "A", "192.0.2.1", 1),
        ("alice.ghost", IN, "ANY", "", 1),
        ("alice.ghost", 3, "A", "", 1),
        ("alice.ghost", ANY, "AXFR", "", 1),
    ];
    for (at, (owner, class, rtype, text, expected)) in table.into_iter().enumerate() {
        let wanted =
            Update::of(APEX).id(at as u16).require(owner, class, rtype, text).add("new.alice.ghost", "A", "192.0.2.9");
        let before = last_seq(&world);
        let (rcode, words) = update(&world, &alice, &wanted);
        assert_eq!(rcode, expected, "{owner} {class} {rtype} {text:?}: {words}");
        assert_eq!(last_seq(&world), before + u64::from(rcode == 0), "{owner} {class} {rtype}");
        assert_eq!(stored(&world, "new.alice.ghost", "A").is_some(), rcode == 0);
        let undo = Update::of(APEX).id(1_000 + at as u16).edit("new.alice.ghost", ANY, "ANY", 0, "");
        assert_eq!(update(&world, &alice, &undo).0, 0);
    }
    let both = Update::of(APEX).require("txt.alice.ghost", IN, "TXT", "\"two\"").require(
        "txt.alice.ghost",
        IN,
        "TXT",
        "\"one\"",
    );
    assert_eq!(update(&world, &alice, &both).0, 0);
}

/// Wrong signatures are checked a few times for a client, then no more: over UDP for all, who are sent to TCP.
#[test]
fn forgers_are_listened_to_seldom() {
    let (world, alice) = alice();
    let add = Update::of(APEX).add("new.alice.ghost", "A", "192.0.2.9");
    let good = |world: &World| add.signed(&alice.key, APEX, world.now() - 300, world.now() + 300);
    let forged = |world: &World| {
        let mut message = good(world);
        *message.last_mut().unwrap() ^= 1;
        message
    };
    let from = |world: &World, transport, last: u8, message: &[u8]| {
        let client = Client::new(transport, IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)));
        let reply = world.node.gateway.answer(message, client).expect("a reply");
        let (rcode, words) = told(&reply);
        (rcode, reply.wire[2] & 0x02 != 0, words)
    };
    for last in 0..16 {
        assert_eq!(from(&world, Transport::Udp, last, &forged(&world)).0, 9);
    }
    // Whoever it is: the sources of datagrams are anyone's to write.
    let (rcode, truncated, words) = from(&world, Transport::Udp, 99, &good(&world));
    assert!(rcode == 5 && truncated && words.contains("in vain"), "{rcode} {words}");
    for _ in 0..16 {
        assert_eq!(from(&world, Transport::Tcp, 1, &forged(&world)).0, 9);
    }
    let (rcode, truncated, _) = from(&world, Transport::Tcp, 1, &good(&world));
    assert!(rcode == 5 && !truncated);
    assert_eq!(from(&world, Transport::Tcp, 99, &good(&world)).0, 0);
    assert!(stored(&world, "new.alice.ghost", "A").is_some());
    world.advance(4);
    assert_eq!(from(&world, Transport::Udp, 99, &good(&world)).0, 0);
}

/// RFC 2136 §2.5, §3.4.2.
#[test]
fn edits_are_those_of_rfc_2136() {
    let (world, alice) = alice();
    let mut id = 0;
    let mut run = |change: Update| {
        id += 1;
        update(&world, &alice, &change.id(id))
    };
    let new = || Update::of(APEX);
    let get = |owner: &str, rtype: &str| stored(&world, owner, rtype);
    let texts = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
    // To an RRset, and a second time; the TLD may be named as the zone.
    assert_eq!(run(new().add(APEX, "A", "192.0.2.2")).0, 0);
    assert_eq!(
        run(Update::of("ghost").add(APEX, "A", "192.0.2.2").add("x.alice.ghost", "MX", "10 mx.alice.ghost.")).0,
        0
    );
    assert_eq!(get(APEX, "A"), texts(&["192.0.2.1", "192.0.2.2"]));
    assert_eq!(get("x.alice.ghost", "MX"), texts(&["10 mx.alice.ghost."]));
    // From an RRset, down to nothing.
    assert_eq!(run(new().edit(APEX, NONE, "A", 0, "192.0.2.1").edit(APEX, NONE, "A", 0, "192.0.2.7")).0, 0);
    assert_eq!(get(APEX, "A"), texts(&["192.0.2.2"]));
    assert_eq!(run(new().edit(APEX, NONE, "A", 0, "192.0.2.2")).0, 0);
    assert_eq!(get(APEX, "A"), None);
    // In their order: what is deleted makes room.
    assert_eq!(
        run(new().edit("txt.alice.ghost", ANY, "ANY", 0, "").add("txt.alice.ghost", "CNAME", "alice.ghost.")).0,
        0
    );
    assert_eq!((get("txt.alice.ghost", "TXT"), get("txt.alice.ghost", "CNAME")), (None, texts(&["alice.ghost."])));
    // An alias and other data: the second is passed over; an alias replaces an alias.
    assert_eq!(run(new().add("www.alice.ghost", "A", "192.0.2.3").add("x.alice.ghost", "CNAME", "a.ghost.")).0, 0);
    assert_eq!((get("www.alice.ghost", "A"), get("x.alice.ghost", "CNAME")), (None, None));
    assert_eq!(run(new().add("www.alice.ghost", "CNAME", "bob.ghost.")).0, 0);
    assert_eq!(get("www.alice.ghost", "CNAME"), texts(&["bob.ghost."]));
    // Deleting a name leaves what makes it a zone.
    assert_eq!(run(new().add(APEX, "A", "192.0.2.1").edit(APEX, ANY, "ANY", 0, "").edit(APEX, ANY, "SOA", 0, "")).0, 0);
    assert_eq!(run(new().edit(APEX, ANY, "NS", 0, "").edit("no.alice.ghost", ANY, "A", 0, "")).0, 0);
    assert!(get(APEX, "A").is_none() && get(APEX, "DNSKEY").is_some());
    // A delegation, and what it would hide.
    assert_eq!(run(new().add("sub.alice.ghost", "NS", "ns.bc.")).0, 0);
    assert_eq!(run(new().add("sub.alice.ghost", "TXT", "\"hidden\"")).0, 5);
    assert_eq!(run(new().add("sub.alice.ghost", "DS", &format!("1 15 2 {}", "00".repeat(32)))).0, 0);
    assert_eq!(run(new().edit("sub.alice.ghost", ANY, "NS", 0, "")).0, 5);
    // Not for updates.
    for (rtype, text) in [
        ("DNSKEY", "256 3 15 AAAA"),
        ("SOA", "a. b. 1 2 3 4 5"),
        ("NSEC", "b. A"),
        ("CDS", "0 0 0 00"),
        ("RRSIG", "A 15 2 1 1 1 1 a. AAAA"),
    ] {
        let (rcode, words) = run(new().add(APEX, rtype, text));
        assert_eq!(rcode, 5, "{rtype}: {words}");
    }
    assert_eq!(run(new().edit(APEX, ANY, "DNSKEY", 0, "")).0, 5);
    // Form, before anything is done.
    for change in [
        new().edit(APEX, ANY, "A", 5, ""),
        new().edit(APEX, ANY, "A", 0, "192.0.2.1"),
        new().edit(APEX, NONE, "ANY", 0, ""),
        new().edit(APEX, NONE, "A", 1, "192.0.2.1"),
        new().edit(APEX, IN, "A", 60, ""),
        new().edit(APEX, 3, "A", 60, "192.0.2.1"),
        new().edit(APEX, IN, "AXFR", 60, ""),
    ] {
        assert_eq!(run(change).0, 1);
    }
    assert_eq!(run(new().add("bob.ghost", "A", "192.0.2.1")).0, 10);
    assert_eq!(run(Update::of("ghost").add(APEX, "A", "192.0.2.1").add("bob.ghost", "A", "192.0.2.1")).0, 10);
    assert_eq!(run(Update::of("ghost").add("ghost", "A", "192.0.2.1")).0, 9);
}

#[test]
fn an_update_is_whole_or_nothing() {
    let (world, alice) = alice();
    let before = last_seq(&world);
    let bad = Update::of(APEX).add("a.alice.ghost", "A", "192.0.2.1").add("b.alice.ghost", "SOA", "a. b. 1 2 3 4 5");
    assert_eq!(update(&world, &alice, &bad).0, 5);
    let unmet = Update::of(APEX).require(APEX, ANY, "A", "").require("no.alice.ghost", ANY, "A", "").add(
        "a.alice.ghost",
        "A",
        "192.0.2.1",
    );
    assert_eq!(update(&world, &alice, &unmet).0, 8);
    let many = (0..65).fold(Update::of(APEX), |update, n| update.add(&format!("n{n}.alice.ghost"), "A", "192.0.2.1"));
    assert_eq!(update(&world, &alice, &many).0, 5);
    assert_eq!((last_seq(&world), stored(&world, "a.alice.ghost", "A")), (before, None));
}

#[test]
fn what_came_by_update_is_signed_online() {
    let (world, alice) = alice();
    let change = Update::of(APEX).add("new.alice.ghost", "TXT", "\"x\"").add("txt.alice.ghost", "TXT", "\"one\"");
    assert_eq!(update(&world, &alice, &change).0, 0);
    let views = world.node.service.records(APEX, None).unwrap().rows;
    let by = |owner: &str, rtype: &str| {
        let view = views.iter().find(|view| view.owner == owner && view.rtype == rtype).unwrap();
        view.signed_by.clone()
    };
    assert_eq!(by("new.alice.ghost.", "TXT"), "online");
    assert_eq!(by("alice.ghost.", "A"), "owner");
    // It was there in this form but for its TTL, which is signed, too.
    assert_eq!(by("txt.alice.ghost.", "TXT"), "online");
    let told = world.ask("new.alice.ghost", "TXT");
    assert!(told.records.iter().any(|record| record.ends_with("RRSIG(TXT)")), "{told:?}");
    // A change that changes nothing keeps the owner's signature.
    let same = Update::of(APEX).id(9).edit(APEX, IN, "A", 3_600, "192.0.2.1");
    assert_eq!(update(&world, &alice, &same).0, 0);
    let views = world.node.service.records(APEX, None).unwrap().rows;
    assert!(views.iter().any(|view| view.rtype == "A" && view.owner == "alice.ghost." && view.signed_by == "owner"));
}

#[test]
fn an_update_counts_once_and_only_while_its_signature_does() {
    let (world, alice) = alice();
    let now = world.now();
    let signed = |change: &Update, from: u64, to: u64| change.signed(&alice.key, APEX, from, to);
    let change = Update::of(APEX).add("a.alice.ghost", "A", "192.0.2.1");
    let first = signed(&change, now - 300, now + 300);
    assert_eq!(told(&send(&world, &first)).0, 0);
    let again = Update::of(APEX).edit("a.alice.ghost", ANY, "A", 0, "");
    assert_eq!(update(&world, &alice, &again).0, 0);
    assert_eq!(told(&send(&world, &first)), (5, "this update was accepted before".to_owned()));
    // The record of a SIG(0) is not under its own signature: its TTL is anyone's to change.
    let mut dressed = first.clone();
    let sig_at = dressed.len() - (18 + 13 + 64) - 6;
    assert_eq!(dressed[sig_at..sig_at + 4], [0; 4]);
    dressed[sig_at + 3] = 1;
    assert_eq!(told(&send(&world, &dressed)).0, 5);
    world.advance(300);
    assert_eq!(told(&send(&world, &first)).0, 9);
    assert_eq!(stored(&world, "a.alice.ghost", "A"), None);
    let now = world.now();
    for (from, to) in [(now - 300, now + 301), (now + 61, now + 300), (now - 10, now), (now + 10, now - 10)] {
        assert_eq!(told(&send(&world, &signed(&change, from, to))).0, 9, "{from} {to}");
    }
    assert_eq!(told(&send(&world, &signed(&change, now + 60, now + 660))).0, 0);
}

#[test]
fn only_the_names_key_updates_it() {
    let (mut world, mut alice) = alice();
    let mut bob = world.person(2);
    world.register(&mut bob, "bob.ghost");
    let change = Update::of(APEX).add("a.alice.ghost", "A", "192.0.2.1");
    let now = world.now();
    let by = |key: &Person, signer: &str| told(&send(&world, &change.signed(&key.key, signer, now - 300, now + 300))).0;
    assert_eq!(by(&bob, APEX), 9);
    assert_eq!(by(&bob, "bob.ghost"), 9);
    assert_eq!(by(&alice, "bob.ghost"), 9);
    assert_eq!(told(&send(&world, &change.octets())).0, 5);
    let foreign = Update::of("example.org").add("a.example.org", "A", "192.0.2.1");
    let free = Update::of("nobody.ghost").add("a.nobody.ghost", "A", "192.0.2.1");
    for (update, signer) in [(foreign, "example.org"), (free, "nobody.ghost")] {
        assert_eq!(told(&send(&world, &update.signed(&alice.key, signer, now - 300, now + 300))).0, 9);
    }
    let deep = Update::of("a.alice.ghost").add("a.alice.ghost", "A", "192.0.2.1");
    assert_eq!(update(&world, &alice, &deep).0, 9);
    // After a transfer, the new owner's.
    world.submit(&mut alice, Op::Transfer { name: name(APEX), to: bob.id() }).unwrap();
    assert_eq!((update(&world, &alice, &change).0, update(&world, &bob, &change).0), (9, 0));
    // A strict name has nobody who could sign.
    world.sign_strict(&mut bob, "bob.ghost").unwrap();
    let strict =
        Update::of("bob.ghost").add("a.bob.ghost", "A", "192.0.2.1").signed(&bob.key, "bob.ghost", now, now + 300);
    let (rcode, words) = told(&send(&world, &strict));
    assert!(rcode == 5 && words.contains("strict"), "{rcode} {words}");
}

#[test]
fn the_owner_pays() {
    let (mut world, alice) = alice();
    let account = |person: &Person| world.node.service.registry.snapshot().unwrap().account(&person.id()).unwrap();
    let before = account(&alice);
    let change = Update::of(APEX).add("a.alice.ghost", "A", "192.0.2.1");
    assert_eq!(update(&world, &alice, &change).0, 0);
    let after = account(&alice);
    assert_eq!(before.mana(world.now()) - after.mana(world.now()), 6);
    assert_eq!(before.next_nonce, after.next_nonce);
    // An owner who has nothing left is told so.
    let mut poor = Person::new(3);
    let grant = Op::GrantMana { to: poor.id(), level: 1, amount: 105 };
    let mut operator = std::mem::replace(&mut world.operator, Person::new(0));
    world.submit(&mut operator, grant).unwrap();
    world.submit(&mut poor, Op::Register { name: name("poor.ghost"), years: 1 }).unwrap();
    let change = Update::of("poor.ghost").add("a.poor.ghost", "A", "192.0.2.1");
    let now = world.now();
    let (rcode, words) = told(&send(&world, &change.signed(&poor.key, "poor.ghost", now - 300, now + 300)));
    assert!(rcode == 5 && words.contains("mana"), "{rcode} {words}");
}

/// A key that may set TXT at one name, and A below another.
fn issue(world: &World, alice: &mut Person, label: &str, expires: u64) -> (Name, Secret) {
    let scope = |owner: &str, below: bool, rtype| UpdateScope { owner: name(owner), below, types: vec![rtype] };
    let scopes =
        vec![scope("_acme-challenge.alice.ghost", false, Rtype::TXT), scope("dyn.alice.ghost", true, Rtype::A)];
    let op = Op::IssueUpdateKey { name: name(APEX), label: label.to_owned(), scopes, expires, mana: None };
    let seq = world.submit(alice, op).unwrap().seq;
    let key = key_name(&name(APEX), label).unwrap();
    let secret = world.node.gateway.engine().update_key_secret(&key, seq);
    (key, secret)
}

/// Response code, TSIG error, whether the reply is signed.
fn told_keyed(reply: &Reply) -> (u16, u16, bool) {
    let message = Message::parse(&reply.wire).unwrap();
    let tsig = message.sections[2].last().unwrap();
    assert_eq!(tsig.rtype, Rtype::TSIG);
    let (_, used) = Name::from_wire_prefix(&tsig.rdata).unwrap();
    let field = |at: usize| u16::from_be_bytes([tsig.rdata[used + at], tsig.rdata[used + at + 1]]);
    let mac = field(8);
    (message.rcode(), field(10 + usize::from(mac) + 2), mac > 0)
}

#[test]
fn a_key_reaches_as_far_as_its_scope_and_as_long_as_it_is_good() {
    let (mut world, mut alice) = alice();
    let (key, secret) = issue(&world, &mut alice, "lego", world.now() + 86_400);
    let acme = |id: u16, text: &str| Update::of(APEX).id(id).add("_acme-challenge.alice.ghost", "TXT", text);
    let now = world.now();
    let run =
        |world: &World, update: &Update| told_keyed(&send(world, &update.keyed(&key, &secret, "hmac-sha256", now)));
    const DONE: (u16, u16, bool) = (0, 0, true);
    const REFUSED: (u16, u16, bool) = (5, 0, true);
    assert_eq!(run(&world, &acme(1, "\"token\"")), DONE);
    assert_eq!(stored(&world, "_acme-challenge.alice.ghost", "TXT"), Some(vec!["\"token\"".to_owned()]));
    for algorithm in ["hmac-sha384", "hmac-sha512"] {
        let message = acme(2, &format!("\"{algorithm}\"")).keyed(&key, &secret, algorithm, now);
        assert_eq!(told_keyed(&send(&world, &message)), DONE);
    }
    assert_eq!(run(&world, &Update::of(APEX).add("a.b.dyn.alice.ghost", "A", "192.0.2.1")), DONE);
    for (n, (owner, rtype, text)) in [
        ("_acme-challenge.alice.ghost", "A", "192.0.2.1"),
        ("x._acme-challenge.alice.ghost", "TXT", "\"x\""),
        ("dyn.alice.ghost", "TXT", "\"x\""),
        ("alice.ghost", "A", "192.0.2.1"),
        ("xdyn.alice.ghost", "A", "192.0.2.1"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(
            run(&world, &Update::of(APEX).id(10 + n as u16).add(owner, rtype, text)),
            REFUSED,
            "{owner} {rtype}"
        );
        // One edit outside of the scope, and nothing is done.
        let mixed = acme(20 + n as u16, "\"mixed\"").add(owner, rtype, text);
        assert_eq!(run(&world, &mixed), REFUSED);
    }
    assert_eq!(run(&world, &Update::of(APEX).id(30).edit("txt.alice.ghost", ANY, "ANY", 0, "")), REFUSED);
    assert_eq!(run(&world, &Update::of(APEX).id(31).edit("_acme-challenge.alice.ghost", ANY, "ANY", 0, "")), DONE);
    assert_eq!(stored(&world, "_acme-challenge.alice.ghost", "TXT"), None);
    // Again, and again under another ID, which a TSIG does not cover.
    let mut replayed = acme(1, "\"token\"").keyed(&key, &secret, "hmac-sha256", now);
    assert_eq!(told_keyed(&send(&world, &replayed)), REFUSED);
    replayed[1] ^= 0xff;
    assert_eq!(told_keyed(&send(&world, &replayed)), REFUSED);
    // RFC 8945 §5.2: unknown key, unknown algorithm, wrong MAC, wrong time.
    let other = key_name(&name(APEX), "other").unwrap();
    let keyed = |key: &Name, algorithm: &str, time: u64| {
        told_keyed(&send(&world, &acme(40, "\"late\"").keyed(key, &secret, algorithm, time)))
    };
    assert_eq!(keyed(&other, "hmac-sha256", now), (9, 17, false));
    assert_eq!(keyed(&key, "hmac-md5.sig-alg.reg.int", now), (9, 17, false));
    assert_eq!(keyed(&key, "hmac-sha256", now - 301), (9, 18, true));
    let mut forged = acme(41, "\"forged\"").keyed(&key, &secret, "hmac-sha256", now);
    let at = forged.windows(6).position(|octets| octets == b"forged").unwrap();
    forged[at] ^= 1;
    assert_eq!(told_keyed(&send(&world, &forged)), (9, 16, false));
    // Revoked; issued again it has another secret; transferred with its name it is gone; it ends by itself.
    let revoke = || Op::RevokeUpdateKey { name: name(APEX), label: "lego".to_owned() };
    world.submit(&mut alice, revoke()).unwrap();
    assert_eq!(run(&world, &acme(50, "\"revoked\"")), (9, 17, false));
    assert_eq!(world.submit(&mut alice, revoke()).unwrap_err().code(), 704);
    let (_, fresh) = issue(&world, &mut alice, "lego", world.now() + 86_400);
    assert_eq!(run(&world, &acme(51, "\"old secret\"")), (9, 16, false));
    let with = |world: &World, id: u16| {
        told_keyed(&send(world, &acme(id, "\"x\"").keyed(&key, &fresh, "hmac-sha256", world.now())))
    };
    assert_eq!(with(&world, 52), DONE);
    world.advance(86_400);
    assert_eq!(with(&world, 53), (9, 17, false));
    let (_, last) = issue(&world, &mut alice, "lego", world.now() + 86_400);
    let bob = world.person(2);
    world.submit(&mut alice, Op::Transfer { name: name(APEX), to: bob.id() }).unwrap();
    let message = acme(54, "\"x\"").keyed(&key, &last, "hmac-sha256", world.now());
    assert_eq!(told_keyed(&send(&world, &message)), (9, 17, false));
}

#[test]
fn keys_are_issued_within_bounds_and_nobody_else_vouches_for_them() {
    let (world, mut alice) = alice();
    let (key, secret) = issue(&world, &mut alice, "lego", world.now() + 86_400);
    let scope = |owner: &str, rtype| UpdateScope { owner: name(owner), below: false, types: vec![rtype] };
    let good = || vec![scope(APEX, Rtype::TXT)];
    let now = world.now();
    for (label, scopes, expires, code) in [
        ("lego", good(), now + 60, 706),
        ("", good(), now + 60, 706),
        ("UP", good(), now + 60, 706),
        ("a.b", good(), now + 60, 706),
        ("late", good(), now, 706),
        ("long", good(), now + 11 * 31_557_600, 706),
        ("none", vec![], now + 60, 706),
        ("out", vec![scope("bob.ghost", Rtype::TXT)], now + 60, 706),
        ("key", vec![scope(APEX, Rtype::DNSKEY)], now + 60, 706),
        ("many", vec![scope(APEX, Rtype::TXT); 17], now + 60, 706),
    ] {
        let op = Op::IssueUpdateKey { name: name(APEX), label: label.to_owned(), scopes, expires, mana: None };
        assert_eq!(world.submit(&mut alice, op).unwrap_err().code(), code, "{label}");
    }
    for n in 1..16 {
        let op = Op::IssueUpdateKey {
            name: name(APEX),
            label: format!("k{n}"),
            scopes: good(),
            expires: now + 60,
            mana: None,
        };
        world.submit(&mut alice, op).unwrap();
    }
    let op =
        Op::IssueUpdateKey { name: name(APEX), label: "k16".into(), scopes: good(), expires: now + 60, mana: None };
    assert_eq!(world.submit(&mut alice, op).unwrap_err().code(), 408);
    // Not even the owner vouches for a TSIG; a SIG(0) needs no envelope.
    let update = Update::of(APEX).add("_acme-challenge.alice.ghost", "TXT", "\"x\"");
    let keyed = op::SignedUpdate::read(&update.keyed(&key, &secret, "hmac-sha256", now)).unwrap();
    let seal = |op: Op, nonce: u64| {
        let body = op::OpBody { registry: world.node.service.registry.id(), nonce, expires: now + 300, op };
        op::verify(&op::sign(&alice.key, &body), world.node.service.registry.id(), now)
    };
    let vouch = |label: &str| Op::UpdateByKey { label: label.to_owned(), update: keyed.clone(), issued: None };
    assert_eq!(seal(vouch("k1"), 0).unwrap_err().code(), 707);
    assert_eq!(seal(vouch("lego"), 1).unwrap_err().code(), 707);
    let vouched = seal(vouch("lego"), 0).unwrap();
    let snapshot = world.node.service.registry.snapshot().unwrap();
    let at = At { seq: last_seq(&world) + 1, time: now };
    let applied = apply(&snapshot, &*world.node.service.tlds, at, &vouched);
    assert!(matches!(applied, Err(ApplyError::Rejected(rejection)) if rejection.code() == 703));
    let signed = op::SignedUpdate::read(&update.signed(&alice.key, APEX, now - 300, now + 300)).unwrap();
    assert_eq!(seal(Op::Update { update: signed }, 0).unwrap_err().code(), 101);
}

/// The secret goes to the owner alone, for a request made just now.
#[test]
fn the_owner_is_told_the_secret() {
    let (world, mut alice) = alice();
    let (key, secret) = issue(&world, &mut alice, "lego", world.now() + 86_400);
    let service = &world.node.service;
    let request = |label: &str, time: u64| op::SecretRequest {
        registry: service.registry.id(),
        name: name(APEX),
        label: label.to_owned(),
        time,
    };
    let view = service.update_secret(&request("lego", world.now()).seal(&alice.key)).unwrap();
    let encoded = data_encoding::BASE64.encode(&secret[..]);
    assert_eq!((view.key, view.algorithm, view.secret), (key.to_string(), "hmac-sha256".to_owned(), encoded));
    assert!(service.update_secret(&request("lego", world.now()).seal(&Person::new(9).key)).is_err());
    assert!(service.update_secret(&request("lego", world.now() - 121).seal(&alice.key)).is_err());
    assert!(service.update_secret(&request("no", world.now()).seal(&alice.key)).is_err());
    let mut changed = request("lego", world.now()).seal(&alice.key);
    let last = changed.len() - 1;
    changed[last] ^= 1;
    assert!(service.update_secret(&changed).is_err());
    let listed = service.update_keys(APEX).unwrap();
    assert_eq!(listed[0].scopes, ["_acme-challenge.alice.ghost.:TXT", "dyn.alice.ghost.*:A"]);
}

/// Whoever reads the log verifies the owner's SIG(0) again, and comes to the same state.
#[test]
fn the_log_holds_the_message_and_replays() {
    let (world, mut alice) = alice();
    let now = world.now();
    let change = Update::of(APEX).add("a.alice.ghost", "A", "192.0.2.1");
    let message = change.signed(&alice.key, APEX, now - 300, now + 300);
    assert_eq!(told(&send(&world, &message)).0, 0);
    let (key, secret) = issue(&world, &mut alice, "lego", now + 86_400);
    let keyed =
        Update::of(APEX).add("_acme-challenge.alice.ghost", "TXT", "\"x\"").keyed(&key, &secret, "hmac-sha256", now);
    assert_eq!(told_keyed(&send(&world, &keyed)).0, 0);
    world.submit(&mut alice, Op::Release { name: name(APEX) }).unwrap();
    let registry = &world.node.service.registry;
    let snapshot = registry.snapshot().unwrap();
    let mut model = Model::default();
    let mut found = 0;
    for seq in 1..=snapshot.last_seq().unwrap() {
        let LogEntry { time, op } = snapshot.log_entry(seq).unwrap().unwrap();
        let verified = op::verify(&op, registry.id(), time).unwrap();
        found += usize::from(
            [&message, &keyed].iter().any(|message| op.windows(message.len()).any(|part| part == **message)),
        );
        let effects = apply(&model, &*world.node.service.tlds, At { seq, time }, &verified).unwrap();
        model.commit(&effects.changes);
    }
    assert_eq!(found, 2);
    assert_eq!(model.updates.get(&name(APEX)), Some(&snapshot.updates(&name(APEX)).unwrap()));
    assert!(model.rrsets.is_empty() && model.updates[&name(APEX)].keys.is_empty());
    // The key's own memory went with the key.
    assert_eq!(model.updates[&name(APEX)].seen.len(), 1);
}

#[test]
fn hostile_messages_change_nothing() {
    let (world, alice) = alice();
    let now = world.now();
    let change = Update::of(APEX).require(APEX, ANY, "A", "").add("a.alice.ghost", "A", "192.0.2.1");
    let good = change.signed(&alice.key, APEX, now - 300, now + 300);
    let before = last_seq(&world);
    let client = Client::new(Transport::Tcp, IpAddr::V4(Ipv4Addr::LOCALHOST));
    // What the signature covers: all before the SIG record, and its RDATA.
    let sig_at = good.len() - (11 + 18 + 13 + 64);
    for at in (0..sig_at).chain(sig_at + 11..good.len()) {
        // Each is checked: a client is listened to more often than so.
        let client = Client::new(client.transport, IpAddr::V4(Ipv4Addr::from_bits(at as u32)));
        for bit in 0..8 {
            let mut changed = good.clone();
            changed[at] ^= 1 << bit;
            // Another opcode is another protocol, a response none at all.
            let reply = world.node.gateway.answer(&changed, client);
            let rcode = reply.map(|reply| Message::parse(&reply.wire).unwrap().rcode());
            assert!(rcode != Some(0) || at == 2, "octet {at} bit {bit}");
        }
    }
    for length in 0..good.len() {
        if let Some(reply) = world.node.gateway.answer(&good[..length], client) {
            assert_eq!(Message::parse(&reply.wire).unwrap().rcode(), 1, "{length}");
        }
    }
    let mut longer = good.clone();
    longer.push(0);
    assert_eq!(told(&send(&world, &longer)).0, 1);
    let huge = (0..200).fold(Update::of(APEX), |update, _| update.add("aaaaaaaa.alice.ghost", "TXT", "\"aaaaaaaa\""));
    assert_eq!(told(&send(&world, &huge.signed(&alice.key, APEX, now - 300, now + 300))).0, 1);
    assert_eq!(last_seq(&world), before);
    // It was good all the time.
    assert_eq!(told(&send(&world, &good)).0, 0);
    // DNS over HTTPS carries queries.
    let http = Client::new(Transport::Https, client.addr);
    assert_eq!(Message::parse(&world.node.gateway.answer(&good, http).unwrap().wire).unwrap().rcode(), 4);
    // NOTIFY, STATUS and the rest are not implemented.
    for opcode in [1, 2, 3, 4, 6, 15] {
        let mut other = good.clone();
        other[2] = opcode << 3;
        assert_eq!(Message::parse(&send(&world, &other).wire).unwrap().rcode(), 4);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 2_000, ..Default::default() })]

    /// Messages that begin well, whatever comes then, as they are and under a good signature.
    #[test]
    fn any_octets_survive(counts in proptest::array::uniform3(0_u8..3), tail in proptest::collection::vec(0_u8..=255, 0..120)) {
        let [prerequisites, edits, additionals] = counts;
        let mut octets = Update::of(APEX).octets();
        octets.truncate(octets.len() - 11);
        octets[7] = prerequisites;
        octets[9] = edits;
        octets[11] = additionals;
        octets.extend(tail);
        crate::updates::survives(&octets);
    }
}

/// A gateway with a name, its keys in BIND's form, and an update key.
struct Site {
    dir: tempfile::TempDir,
    server: Server,
}

impl Site {
    fn start(allow: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(&dir.path().join("data"));
        server.ok("https", &["name", "register", APEX]);
        let site = Self { dir, server };
        let key = site.path("key.conf");
        let add = ["name", "update-key", "add", APEX, "lego", "--out", &key];
        site.server.ok("https", &[&add[..], allow].concat());
        site
    }

    fn path(&self, file: &str) -> String {
        self.dir.path().join(file).display().to_string()
    }

    fn ca(&self) -> String {
        self.path("data/ca.pem")
    }

    /// `K*.private` of the owner's sigil.
    fn sig0_key(&self) -> String {
        let sigil = self.path("data/dev.pem");
        let export = ["sigil", "export", &sigil, "--name", APEX, "--for-update", "--out", &self.path("")];
        let output = Command::new(PROGRAM).args(export).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().find(|line| line.ends_with(".private")).unwrap().to_owned()
    }

    /// Sends updates over UDP that look like the owner's, by somebody else.
    fn forge(&self, file: &str, count: u16) {
        let tag: u16 = file.trim_end_matches(".private").rsplit('+').next().unwrap().parse().unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(("127.0.0.1", self.server.port("udp"))).unwrap();
        let now = ghostplane::cli::clock::unix_time();
        for id in 0..count {
            let update = Update::of(APEX).id(id).add("new.alice.ghost", "A", "192.0.2.9");
            let mut message = update.signed(&Person::new(99).key, APEX, now - 300, now + 300);
            let at = message.len() - 64 - name(APEX).as_wire().len() - 2;
            message[at..at + 2].copy_from_slice(&tag.to_be_bytes());
            socket.send(&message).unwrap();
            let mut reply = [0; 512];
            let length = socket.recv(&mut reply).unwrap();
            assert!(length >= 12 && reply[3] & 0x0f == 9, "{:02x?}", &reply[..length.min(12)]);
        }
    }

    /// The update key in another form, in a file.
    fn key_as(&self, format: &str) -> String {
        let path = self.path(&format!("key.{format}"));
        let show = ["name", "update-key", "show", APEX, "lego", "--format", format, "--out", &path];
        self.server.ok("https", &show);
        path
    }

    /// Secret of the update key, base64.
    fn secret(&self) -> String {
        let text = std::fs::read_to_string(self.path("key.conf")).unwrap();
        text.split("secret \"").nth(1).unwrap().split('"').next().unwrap().to_owned()
    }

    fn listed(&self) -> String {
        self.server.ok("https", &["record", "list", APEX])
    }

    /// What a tool says to commands on its standard input, and whether it succeeded.
    fn feed(&self, tool: &str, args: &[&str], commands: &str) -> (bool, String) {
        let file = self.path("commands");
        std::fs::write(&file, commands).unwrap();
        let output = Command::new(tool).args(args).arg(&file).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said)
    }
}

#[test]
fn nsupdate_signs_with_sig0_and_tsig_over_udp_and_tcp() {
    if !have(&["nsupdate"]) {
        return;
    }
    let site = Site::start(&["--allow-below", "dyn.alice.ghost:TXT,A"]);
    let server = format!("server 127.0.0.1 {}\n", site.server.port("udp"));
    let (sig0, key) = (site.sig0_key(), site.path("key.conf"));
    for (n, options) in
        [vec!["-k", &sig0], vec!["-v", "-k", &sig0], vec!["-k", &key], vec!["-v", "-k", &key]].iter().enumerate()
    {
        // The zone is found by asking for SOA records.
        let add = format!(
            "{server}prereq nxdomain n{n}.dyn.alice.ghost\nupdate add n{n}.dyn.alice.ghost 60 TXT \"by {n}\"\nsend\n"
        );
        let (done, said) = site.feed("nsupdate", options, &add);
        assert!(done, "{options:?}: {said}");
        assert!(site.listed().lines().any(|line| line.contains(&format!("n{n}.dyn")) && line.contains("online")));
        let (done, said) = site.feed("nsupdate", options, &add);
        assert!(!done && said.contains("YXDOMAIN"), "{options:?}: {said}");
        let delete =
            format!("{server}prereq yxrrset n{n}.dyn.alice.ghost TXT\nupdate delete n{n}.dyn.alice.ghost\nsend\n");
        let (done, said) = site.feed("nsupdate", options, &delete);
        assert!(done, "{options:?}: {said}");
    }
    assert!(!site.listed().contains("dyn"));
    // Somebody forges: nothing in a datagram is believed for a while, what comes over TCP is.
    site.forge(&sig0, 16);
    let add = format!("{server}update add after.alice.ghost 60 TXT \"forgers\"\nsend\n");
    let (done, said) = site.feed("nsupdate", &["-k", &sig0], &add);
    assert!(!done && said.contains("REFUSED"), "{said}");
    let (done, said) = site.feed("nsupdate", &["-v", "-k", &sig0], &add);
    assert!(done && site.listed().contains("after"), "{said}");
    let outside = format!("{server}update add www.alice.ghost 60 A 192.0.2.1\nsend\n");
    let (done, said) = site.feed("nsupdate", &["-k", &key], &outside);
    assert!(!done && said.contains("REFUSED"), "{said}");
    let (done, said) = site.feed("nsupdate", &["-v", "-k", &sig0], &outside);
    assert!(done, "{said}");
    site.server.ok("https", &["name", "update-key", "revoke", APEX, "lego"]);
    let (done, said) =
        site.feed("nsupdate", &["-k", &key], &format!("{server}update add a.dyn.alice.ghost 60 A 192.0.2.1\nsend\n"));
    assert!(!done && said.contains("BADKEY"), "{said}");
}

/// A key that BIND made becomes a sigil, and goes on signing updates as it is.
#[test]
fn a_key_of_dnssec_keygen_updates_its_name() {
    if !have(&["nsupdate", "dnssec-keygen"]) {
        return;
    }
    let site = Site::start(&[]);
    let keygen = ["-q", "-T", "KEY", "-n", "HOST", "-a", "ED25519", "-K", &site.path(""), "bob.ghost"];
    let output = Command::new("dnssec-keygen").args(keygen).output().unwrap();
    let private = site.path(&format!("{}.private", String::from_utf8(output.stdout).unwrap().trim()));
    let sigil = site.path("bob.pem");
    let output = Command::new(PROGRAM).args(["sigil", "import", &private, "--out", &sigil]).output().unwrap();
    let did = String::from_utf8(output.stdout).unwrap();
    site.server.ok("https", &["mana", "grant", did.trim(), "--level", "2"]);
    site.server.ok("https", &["name", "register", "bob.ghost", "--sigil", &sigil]);
    let commands = format!(
        "server 127.0.0.1 {}\nzone bob.ghost\nupdate add www.bob.ghost 60 A 192.0.2.7\nsend\n",
        site.server.port("udp")
    );
    let (done, said) = site.feed("nsupdate", &["-k", &private], &commands);
    assert!(done, "{said}");
    assert!(site.server.ok("https", &["record", "list", "bob.ghost"]).contains("192.0.2.7"));
    // Not that of another name.
    let (done, said) = site.feed("nsupdate", &["-k", &private], &commands.replace("bob", "alice"));
    assert!(!done && said.contains("NOTAUTH"), "{said}");
}

/// Over DoQ, DoT, TCP and UDP.
#[test]
fn knsupdate_over_every_transport() {
    if !have(&["knsupdate"]) {
        return;
    }
    let site = Site::start(&["--allow-below", "dyn.alice.ghost:TXT"]);
    let (key, ca) = (site.key_as("knot"), format!("--ca={}", site.ca()));
    let crypted = |option: &'static str| vec![option, &ca, "-H", "localhost"];
    for (service, options) in [("quic", crypted("-Q")), ("tls", crypted("-S")), ("tcp", vec!["-T"]), ("udp", vec![])] {
        let base = format!("server 127.0.0.1 {}\nzone alice.ghost\n", site.server.port(service));
        let owner = format!("{service}.dyn.alice.ghost.");
        let args = [&["-k", &key][..], &options].concat();
        let add = format!("{base}prereq nxrrset {owner} TXT\nupdate add {owner} 60 TXT \"by {service}\"\nsend\n");
        let (done, said) = site.feed("knsupdate", &args, &add);
        assert!(done, "{service}: {said}");
        assert!(site.listed().contains(&owner), "{service}");
        let (done, said) = site.feed("knsupdate", &args, &add);
        assert!(!done && said.contains("YXRRSET"), "{service}: {said}");
        let (done, said) = site.feed("knsupdate", &args, &format!("{base}update delete {owner} TXT\nsend\n"));
        assert!(done, "{service}: {said}");
        assert!(!site.listed().contains(&owner), "{service}");
        let (done, said) = site.feed("knsupdate", &args, &format!("{base}update add www.alice.ghost 60 TXT x\nsend\n"));
        assert!(!done && said.contains("REFUSED"), "{service}: {said}");
    }
}

/// SIG(0) and TSIG, each with and without a prerequisite that does not hold.
#[test]
fn net_dns_updates_with_sig0_and_tsig() {
    let probe = ["-MNet::DNS", "-MNet::DNS::SEC", "-e", "1"];
    let found = have(&["perl"]) && Command::new("perl").args(probe).status().unwrap().success();
    if !found {
        assert!(!skip("Net::DNS and Net::DNS::SEC"));
        return;
    }
    let site = Site::start(&["--allow-below", "dyn.alice.ghost:TXT"]);
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/update.pl");
    let args = [site.server.port("udp").to_string(), site.sig0_key(), site.secret()];
    let output = Command::new("perl").arg(script).args(&args).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("sig0 NOERROR NXRRSET\ntsig NOERROR NXRRSET\n"), "{said}");
    let listed = site.listed();
    assert!(listed.contains("sig0.dyn.alice.ghost.") && listed.contains("tsig.dyn.alice.ghost."), "{listed}");
}

/// A certificate authority that asks us, and a client that knows nothing but RFC 2136.
#[test]
fn lego_obtains_a_certificate_for_a_name_of_ours() {
    if !have(&["lego", "pebble", "openssl"]) {
        return;
    }
    let site = Site::start(&[]);
    let pebble = Pebble::start(&site);
    let dns = format!("127.0.0.1:{}", site.server.port("udp"));
    let key = std::fs::read_to_string(site.key_as("lego")).unwrap();
    let run = |command: &str| {
        // It would look for our name servers through the system's resolver, and on port 53.
        let output = Command::new("lego")
            .arg("--dns.disable-cp")
            .args(["--server", &pebble.directory, "--accept-tos", "--email", "owner@alice.ghost", "--dns", "rfc2136"])
            .args(["--domains", APEX, "--dns.resolvers", &dns, "--path", &site.path("lego"), command])
            .env("LEGO_CA_CERTIFICATES", site.ca())
            .env("RFC2136_NAMESERVER", &dns)
            .envs(key.lines().filter_map(|line| line.split_once('=')))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
    };
    let said = run("run");
    let certificate = site.path(&format!("lego/certificates/{APEX}.crt"));
    let shown =
        Command::new("openssl").args(["x509", "-noout", "-ext", "subjectAltName", "-in", &certificate]).output();
    let shown = String::from_utf8(shown.unwrap().stdout).unwrap();
    assert!(shown.contains("DNS:alice.ghost"), "{said}");
    // The challenge has come and gone by two updates of the key, both in the log.
    assert!(!site.listed().contains("_acme-challenge"), "{}", site.listed());
    // It goes where the gateway's own is, and is shown from the next handshake on.
    std::fs::copy(&certificate, site.path("data/tls.pem")).unwrap();
    std::fs::copy(site.path(&format!("lego/certificates/{APEX}.key")), site.path("data/tls.key")).unwrap();
    site.server.signal("HUP");
    let tls = format!("127.0.0.1:{}", site.server.port("tls"));
    let shown = || {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &tls, "-servername", APEX]).stdin(Stdio::null());
        String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
    };
    while !shown().contains("Pebble Intermediate") {}
}

/// ACME's own test server, which resolves through us.
struct Pebble {
    directory: String,
    _daemon: Daemon,
}

impl Pebble {
    fn start(site: &Site) -> Self {
        let (listen, manage) = (free_port(), free_port());
        // The development certificate will do for the CA's own HTTPS.
        let config = format!(
            r#"{{"pebble": {{"listenAddress": "127.0.0.1:{listen}", "managementListenAddress": "127.0.0.1:{manage}",
                "certificate": "{}", "privateKey": "{}", "httpPort": 5002, "tlsPort": 5001,
                "ocspResponderURL": "", "externalAccountBindingRequired": false}}}}"#,
            site.path("data/tls.pem"),
            site.path("data/tls.key"),
        );
        let path = site.path("pebble.json");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new("pebble");
        command.args(["-config", &path, "-dnsserver", &format!("127.0.0.1:{}", site.server.port("udp"))]);
        command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0");
        let daemon = Daemon::start(command, "ACME directory available at");
        Self { directory: format!("https://127.0.0.1:{listen}/dir"), _daemon: daemon }
    }
}
