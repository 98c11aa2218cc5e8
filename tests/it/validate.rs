//! Our own validator against our own gateway: what it accepts, and that nothing forged gets through.

use std::convert::Infallible;

use ed25519_dalek::SigningKey;
use ghostplane::dnssec::chain::Chain;
use ghostplane::dnssec::validate::{Anchors, Ask, Report, Verdict, validate};
use ghostplane::dnssec::{FLAGS_ONLINE, PublicKey, Secret, ZoneKey, ds, key_tag};
use ghostplane::gateway::{Client, Transport};
use ghostplane::limits::CHECKS_PER_RRSET;
use ghostplane::op::Op;
use ghostplane::wire::{Message, MessageRecord, Name, Rrset, Rtype};
use ghostplane::work::Budget;

use crate::support::{CO, DO, World, name, query};

struct Asker<'a>(&'a World);

impl Asker<'_> {
    fn wire(&self, name: &Name, rtype: Rtype, flags: u8) -> Vec<u8> {
        let client = Client::new(Transport::Tcp, [127, 0, 0, 1].into());
        let message = query(&name.to_string(), &rtype.to_string(), flags);
        self.0.node.gateway.answer(&message, client).unwrap().wire
    }
}

impl Ask for Asker<'_> {
    type Error = Infallible;

    fn ask(&mut self, name: &Name, rtype: Rtype) -> Result<Message, Infallible> {
        Ok(Message::parse(&self.wire(name, rtype, DO)).unwrap())
    }
}

fn anchors(world: &World) -> Anchors {
    let mut anchors = Anchors::default();
    for tld in ["ghost", "sig", "gcc"] {
        let apex = name(tld);
        let signer = world.node.service.keys.get();
        anchors.add(apex.clone(), Rtype::DS, ds(&apex, signer.tld(&apex)[0].dnskey()));
    }
    anchors
}

fn check(world: &World, reply: &Message) -> Report {
    let Ok(report) = validate(reply, &anchors(world), world.now(), &mut Asker(world));
    report
}

fn populated() -> World {
    let mut world = World::new();
    let mut alice = world.person(1);
    let mut bob = world.person(2);
    world.register(&mut alice, "alice.ghost");
    world.sign(&mut alice, "alice.ghost").unwrap();
    world.register(&mut bob, "bob.sig");
    world.sign(&mut bob, "bob.sig").unwrap();
    world.register(&mut bob, "plain.sig");
    world.register(&mut bob, "bob.bc");
    world.sign(&mut bob, "bob.bc").unwrap();
    for (owner, rtype, data) in [
        ("alice.ghost", "A", "192.0.2.1"),
        ("www.alice.ghost", "CNAME", "bob.sig."),
        ("plain.alice.ghost", "CNAME", "plain.sig."),
        ("out.alice.ghost", "CNAME", "example.org."),
        ("none.alice.ghost", "CNAME", "no.bob.sig."),
        ("*.w.alice.ghost", "TXT", "wild"),
        ("x.ent.alice.ghost", "TXT", "below"),
        ("d.alice.ghost", "DNAME", "ent.alice.ghost."),
    ] {
        world.put(&mut alice, owner, rtype, &[data]).unwrap();
    }
    for owner in ["bob.sig", "plain.sig", "bob.bc"] {
        world.put(&mut bob, owner, "A", &["192.0.2.2"]).unwrap();
    }
    world
}

#[test]
fn every_kind_of_answer_has_its_verdict() {
    let world = populated();
    let cases = [
        ("alice.ghost", "A", Verdict::SecureByOwner),
        ("www.alice.ghost", "A", Verdict::SecureByOwner),
        ("a.b.w.alice.ghost", "TXT", Verdict::SecureByOwner),
        ("x.d.alice.ghost", "TXT", Verdict::SecureByOwner),
        ("alice.ghost", "DNSKEY", Verdict::SecureByOwner),
        ("out.alice.ghost", "A", Verdict::SecureByOwner),
        // By the gateway's keys.
        ("_did.alice.ghost", "TXT", Verdict::Secure),
        ("alice.ghost", "SOA", Verdict::Secure),
        ("alice.ghost", "DS", Verdict::Secure),
        ("alice.ghost", "MX", Verdict::Secure),
        ("ent.alice.ghost", "A", Verdict::Secure),
        ("no.alice.ghost", "A", Verdict::Secure),
        ("none.alice.ghost", "A", Verdict::Secure),
        ("nobody.ghost", "A", Verdict::Secure),
        ("ns.ghost", "A", Verdict::Secure),
        ("plain.sig", "DS", Verdict::Secure),
        // Not signed, and proven not to be.
        ("plain.sig", "A", Verdict::Insecure),
        ("plain.sig", "AAAA", Verdict::Insecure),
        ("plain.alice.ghost", "A", Verdict::Insecure),
        // No anchor for that one.
        ("bob.bc", "A", Verdict::Bogus),
    ];
    for (owner, rtype, verdict) in cases {
        let rtype: Rtype = rtype.parse().unwrap();
        for flags in [DO, DO | CO] {
            let reply = Message::parse(&Asker(&world).wire(&name(owner), rtype, flags)).unwrap();
            let report = check(&world, &reply);
            assert_eq!(report.verdict, verdict, "{owner} {rtype}: {:#?}", report.steps);
        }
        // And in one message, without a network.
        let chain = chain(&world, owner, rtype);
        let (told, report) = chain.validate(&name(owner), rtype, &anchors(&world), world.now());
        assert_eq!(report.verdict, verdict, "chain of {owner} {rtype}: {:#?}", report.steps);
        let reply = Message::parse(&Asker(&world).wire(&name(owner), rtype, DO)).unwrap();
        assert_eq!(data(&told.sections[0]), data(&reply.sections[0]), "{owner} {rtype}");
    }
    // Without DO there is nothing to check.
    let reply = Message::parse(&Asker(&world).wire(&name("alice.ghost"), Rtype::A, 0)).unwrap();
    assert_eq!(check(&world, &reply).verdict, Verdict::Bogus);
}

fn chain(world: &World, owner: &str, rtype: Rtype) -> Chain {
    let (sender, receiver) = std::sync::mpsc::channel();
    world.node.gateway.chain(
        name(owner),
        rtype,
        Budget::unlimited(),
        Box::new(move |chain| sender.send(chain).unwrap()),
    );
    Chain::parse(&receiver.recv().unwrap().unwrap().0).unwrap()
}

/// Whatever bit of a chain is turned over: it is accepted only if it says what it said before.
#[test]
fn no_single_bit_of_a_chain_changes_what_is_accepted() {
    let world = populated();
    for (owner, rtype) in [("alice.ghost", Rtype::A), ("no.alice.ghost", Rtype::A), ("a.w.alice.ghost", Rtype::TXT)] {
        let octets = chain(&world, owner, rtype).to_octets();
        let ask = |octets: &[u8]| {
            let chain = Chain::parse(octets).ok()?;
            let (told, report) = chain.validate(&name(owner), rtype, &anchors(&world), world.now());
            (report.verdict <= Verdict::Secure).then(|| data(&told.sections[0]))
        };
        let good = ask(&octets).unwrap();
        for bit in 0..octets.len() * 8 {
            let mut flipped = octets.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(ask(&flipped).is_none_or(|told| told == good), "{owner}: bit {bit}");
        }
    }
}

fn data(records: &[MessageRecord]) -> Vec<(Name, Rtype, Vec<u8>)> {
    let records = records.iter().filter(|record| record.rtype != Rtype::RRSIG);
    let mut data: Vec<_> = records.map(|record| (record.owner.clone(), record.rtype, record.rdata.clone())).collect();
    data.sort();
    data
}

/// Whatever bit of a reply is turned over: it is accepted only if it says what it said before.
#[test]
fn no_single_bit_changes_what_is_accepted() {
    let world = populated();
    for (owner, rtype) in [
        ("alice.ghost", "A"),
        ("www.alice.ghost", "A"),
        ("a.w.alice.ghost", "TXT"),
        ("x.d.alice.ghost", "TXT"),
        ("alice.ghost", "MX"),
        ("no.alice.ghost", "A"),
        ("nobody.ghost", "A"),
    ] {
        let wire = Asker(&world).wire(&name(owner), rtype.parse().unwrap(), DO);
        let good = Message::parse(&wire).unwrap();
        assert!(check(&world, &good).verdict <= Verdict::Secure);
        let mut accepted = 0;
        for bit in 12 * 8..wire.len() * 8 {
            let mut wire = wire.clone();
            wire[bit / 8] ^= 0x80 >> (bit % 8);
            let Ok(reply) = Message::parse(&wire) else { continue };
            if reply.question != good.question || check(&world, &reply).verdict > Verdict::Secure {
                continue;
            }
            accepted += 1;
            assert_eq!(data(&reply.sections[0]), data(&good.sections[0]), "{owner} {rtype} bit {bit}");
        }
        // TTLs may shrink, letter case may change, RRSIGs that nobody looks at may be anything.
        assert!(accepted < 400, "{owner} {rtype}: {accepted} changed messages are accepted");
    }
}

fn replaced(good: &Message, rdata: &[u8], rrsig: Option<Vec<u8>>) -> Message {
    let mut forged = good.clone();
    forged.sections[0].retain(|record| record.rtype != Rtype::RRSIG || rrsig.is_some());
    for record in &mut forged.sections[0] {
        record.rdata = if record.rtype == Rtype::RRSIG { rrsig.clone().unwrap() } else { rdata.to_vec() };
    }
    forged
}

/// A gateway that forges: with no signature, with somebody's, with its online key. Only the last is secure, and
/// none is by the owner.
#[test]
fn a_forging_gateway_is_found_out() {
    let world = populated();
    let alice = name("alice.ghost");
    let good = Message::parse(&Asker(&world).wire(&alice, Rtype::A, DO)).unwrap();
    let address = [192, 0, 2, 66];
    assert_eq!(check(&world, &replaced(&good, &address, None)).verdict, Verdict::Bogus);
    let stolen = good.sections[0].iter().find(|record| record.rtype == Rtype::RRSIG).unwrap().rdata.clone();
    assert_eq!(check(&world, &replaced(&good, &address, Some(stolen))).verdict, Verdict::Bogus);
    let forged = ghostplane::wire::Rrset::new(alice.clone(), Rtype::A, 3_600, [address.to_vec()]);
    // The seed of gateways in memory.
    let online = ZoneKey::new(Secret::Ed25519(SigningKey::from_bytes(&[210; 32])), FLAGS_ONLINE);
    assert_eq!(online.dnskey(), world.node.service.keys.get().online()[0].dnskey());
    let rrsig = online.sign(&alice, &forged, world.now());
    assert_eq!(check(&world, &replaced(&good, &address, Some(rrsig))).verdict, Verdict::Secure);
    // Another zone's key, be it the TLD's own, is no key of this zone.
    let tld = ZoneKey::new(Secret::Ed25519(SigningKey::from_bytes(&[220; 32])), 257);
    for (signer, verdict) in [(&alice, Verdict::Bogus), (&name("ghost"), Verdict::Secure)] {
        let rrsig = tld.sign(signer, &forged, world.now());
        assert!(check(&world, &replaced(&good, &address, Some(rrsig))).verdict >= verdict);
    }
}

#[test]
fn records_that_nobody_asked_for_spoil_the_answer() {
    let world = populated();
    let mut reply = Message::parse(&Asker(&world).wire(&name("alice.ghost"), Rtype::A, DO)).unwrap();
    let other = Message::parse(&Asker(&world).wire(&name("bob.sig"), Rtype::A, DO)).unwrap();
    reply.sections[0].extend(other.sections[0].iter().cloned());
    assert_eq!(check(&world, &reply).verdict, Verdict::Bogus);
}

#[test]
fn the_report_names_the_owners_key() {
    let mut world = populated();
    let mut alice = world.person(1);
    alice.nonce = world.node.service.account(&alice.id().to_string()).unwrap().next_nonce;
    let reply = |world: &World| Message::parse(&Asker(world).wire(&name("alice.ghost"), Rtype::A, DO)).unwrap();
    let key = |person: &crate::support::Person| PublicKey::of_sigil(&person.key.verifying_key());
    assert_eq!(check(&world, &reply(&world)).keys[&name("alice.ghost")], [key(&alice)]);
    let mut bob = world.person(3);
    world.submit(&mut alice, Op::Transfer { name: name("alice.ghost"), to: bob.id() }).unwrap();
    assert_eq!(check(&world, &reply(&world)).verdict, Verdict::Insecure);
    world.sign(&mut bob, "alice.ghost").unwrap();
    let report = check(&world, &reply(&world));
    assert_eq!((report.verdict, &report.keys[&name("alice.ghost")]), (Verdict::Secure, &vec![key(&bob)]));
}

/// A server that answers every question with the same message leads nowhere, and soon.
#[test]
fn a_walk_ends_whatever_it_is_told() {
    struct Parrot(Message, usize);

    impl Ask for Parrot {
        type Error = Infallible;

        fn ask(&mut self, _: &Name, _: Rtype) -> Result<Message, Infallible> {
            self.1 += 1;
            Ok(self.0.clone())
        }
    }

    let world = populated();
    for (owner, rtype) in
        [("alice.ghost", "A"), ("no.alice.ghost", "A"), ("alice.ghost", "DS"), ("ghost", "DNSKEY"), ("plain.sig", "A")]
    {
        let told = Message::parse(&Asker(&world).wire(&name(owner), rtype.parse().unwrap(), DO)).unwrap();
        for (asked, of_type) in [("no.alice.ghost", "A"), ("alice.ghost", "A"), ("plain.sig", "AAAA")] {
            let reply = Message::parse(&Asker(&world).wire(&name(asked), of_type.parse().unwrap(), DO)).unwrap();
            let mut parrot = Parrot(told.clone(), 0);
            let Ok(report) = validate(&reply, &anchors(&world), world.now(), &mut parrot);
            assert_eq!(report.verdict, Verdict::Bogus, "{owner} {rtype} for {asked}: {:#?}", report.steps);
            assert!(parrot.1 < 10, "{} questions", parrot.1);
        }
    }
}

/// A zone whose keys share one tag, with more RRSIGs than anybody needs.
struct Trap {
    keys: Vec<MessageRecord>,
}

impl Ask for Trap {
    type Error = Infallible;

    fn ask(&mut self, name: &Name, rtype: Rtype) -> Result<Message, Infallible> {
        let answer = if rtype == Rtype::DNSKEY { self.keys.clone() } else { Vec::new() };
        Ok(reply(name, rtype, answer))
    }
}

fn reply(name: &Name, rtype: Rtype, answer: Vec<MessageRecord>) -> Message {
    let sections = [answer, Vec::new(), Vec::new()];
    Message { id: 0, flags: 0x8400, question: Some((name.clone(), rtype)), sections, opt: None, size: 0 }
}

fn record(owner: &Name, rtype: Rtype, rdata: Vec<u8>) -> MessageRecord {
    MessageRecord { owner: owner.clone(), rtype, class: 1, ttl: 60, rdata }
}

/// DNSKEY RDATA of the tag of another, points of the curve or not.
fn collisions(of: &[u8], count: usize) -> Vec<Vec<u8>> {
    let word = |octets: &[u8], at: usize| u32::from(u16::from_be_bytes([octets[at], octets[at + 1]]));
    let changed = |number: u32| {
        let mut other = of.to_vec();
        let first = (word(of, 4) + number) % 0xffff;
        let second = (word(of, 4) + word(of, 6) + 0xffff - first) % 0xffff;
        other[4..6].copy_from_slice(&(first as u16).to_be_bytes());
        other[6..8].copy_from_slice(&(second as u16).to_be_bytes());
        other
    };
    (1..).map(changed).filter(|other| key_tag(other) == key_tag(of)).take(count).collect()
}

/// T14, CVE-2023-50387: 128 keys of one tag and 400 RRSIGs that name it.
#[test]
fn colliding_key_tags_cost_a_few_checks() {
    let (zone, owner) = (name("ghost"), name("www.ghost"));
    let key = ZoneKey::new(Secret::Ed25519(SigningKey::from_bytes(&[7; 32])), 257);
    let mut anchors = Anchors::default();
    anchors.add(zone.clone(), Rtype::DNSKEY, key.dnskey().to_vec());
    let now = 1_000_000;
    let sign = |rrset: &Rrset| key.sign_until(&zone, rrset, now - 60, now + 60);
    let others = collisions(key.dnskey(), 127);
    let verdict = |keys: Vec<Vec<u8>>, wrong: usize, right: bool| {
        let set = Rrset::new(zone.clone(), Rtype::DNSKEY, 60, keys.clone());
        let mut keys: Vec<_> = keys.into_iter().map(|key| record(&zone, Rtype::DNSKEY, key)).collect();
        keys.push(record(&zone, Rtype::RRSIG, sign(&set)));
        let address = Rrset::new(owner.clone(), Rtype::A, 60, [vec![192, 0, 2, 1]]);
        let forged = (0..wrong).map(|number| {
            let mut rrsig = sign(&address);
            let at = rrsig.len() - 1 - number % 60;
            rrsig[at] ^= 1 + (number / 60) as u8;
            rrsig
        });
        let rrsigs = forged.chain(right.then(|| sign(&address)));
        let mut answer = vec![record(&owner, Rtype::A, vec![192, 0, 2, 1])];
        answer.extend(rrsigs.map(|rrsig| record(&owner, Rtype::RRSIG, rrsig)));
        let Ok(report) = validate(&reply(&owner, Rtype::A, answer), &anchors, now, &mut Trap { keys });
        report
    };
    let trapped = verdict([vec![key.dnskey().to_vec()], others.clone()].concat(), 400, true);
    assert_eq!(trapped.verdict, Verdict::Bogus);
    assert!(trapped.checks <= 3 * CHECKS_PER_RRSET, "{}", trapped.checks);
    assert!(trapped.steps.last().unwrap().contains("more than are tried"), "{:?}", trapped.steps);
    // Chance makes two of them collide, not a hundred.
    let honest = verdict(vec![key.dnskey().to_vec(), others[0].clone()], 2, true);
    assert_eq!((honest.verdict, honest.checks <= CHECKS_PER_RRSET), (Verdict::Secure, true), "{honest:?}");
}
