//! What owners choose for their names: everything signed ahead, other keys, keys that roll. Stock validators find nothing
//! wrong at any moment, and a gateway that makes something up is found out.

use std::path::Path;

use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use ghostplane::dnssec::{FLAGS_ONLINE, FLAGS_OWNER, Secret, ZoneKey, ds};
use ghostplane::op::{DnskeyRdata, Op};
use ghostplane::state::Change;
use ghostplane::wire::{Rrset, Rtype};

use crate::clients::have;
use crate::process::Server;
use crate::support::{World, name};
use crate::validators::{Unbound, anchors, delv, populate, tamper};

/// Registers `NAME` with some data of every kind.
fn furnish(server: &Server, owner: &str) {
    server.ok("https", &["name", "register", owner]);
    for (labels, rtype, data) in [
        ("", "A", "192.0.2.1"),
        ("www.", "CNAME", &format!("{owner}.")),
        ("*.w.", "TXT", "wild"),
        ("x.ent.", "TXT", "below"),
        ("d.", "DNAME", &format!("ent.{owner}.")),
        ("cut.", "NS", "ns.elsewhere.example."),
    ] {
        server.ok("https", &["record", "set", &format!("{labels}{owner}"), rtype, data]);
    }
}

/// Labels below a name, and the type; and what a validator that knows the anchor alone says.
const ASKED: [(&str, &str); 15] = [
    ("", "A"),
    ("", "MX"),
    ("", "SOA"),
    ("", "NS"),
    ("", "DNSKEY"),
    ("", "DS"),
    ("www.", "A"),
    ("any.w.", "TXT"),
    ("a.b.w.", "TXT"),
    ("any.w.", "A"),
    ("no.", "A"),
    ("ent.", "A"),
    ("x.d.", "TXT"),
    ("_did.", "TXT"),
    ("cut.", "DS"),
];

fn assert_valid(data: &Path, server: &Server, owner: &str, when: &str) {
    for (labels, rtype) in ASKED {
        let said = delv(data, server, "ghost", &format!("{labels}{owner}"), rtype);
        assert!(said.contains("fully validated"), "{when}: {labels}{owner} {rtype}:\n{said}");
    }
}

/// Asks with `--validate` and further options; whether the answer was believed, and what was said.
fn query(server: &Server, owner: &str, rtype: &str, options: &[&str]) -> (bool, String) {
    let output = server.run("udp", &[&["query", owner, rtype, "--via", "udp", "--validate"][..], options].concat());
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[test]
fn a_strict_name_is_its_owners_alone() {
    if !have(&["delv", "unbound", "dig", "kzonecheck", "ldns-verify-zone"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    furnish(&server, "fort.ghost");
    server.ok("https", &["contract", "bind", "fort.ghost", "park"]);
    let refused = server.run("https", &["name", "sign", "fort.ghost", "--strict"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("rejected (504)"), "{refused:?}");
    server.ok("https", &["contract", "bind", "fort.ghost", "default"]);
    server.ok("https", &["name", "sign", "fort.ghost", "--strict"]);
    let refused = server.run("https", &["contract", "bind", "fort.ghost", "park"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("signs everything ahead"), "{refused:?}");

    assert_valid(dir.path(), &server, "fort.ghost", "strict");
    let unbound = Unbound::start(dir.path(), &server, &anchors(&server));
    for (labels, rtype) in ASKED {
        let owner = format!("{labels}fort.ghost");
        let told = unbound.ask(&owner, rtype);
        let expected = if labels == "no." { "NXDOMAIN ad" } else { "NOERROR ad" };
        assert_eq!(told, expected, "{owner} {rtype}");
        let of_the_parent = labels.is_empty() && rtype == "DS";
        let (believed, said) = query(&server, &owner, rtype, &["--require-owner"]);
        assert_eq!(believed, !of_the_parent, "{owner} {rtype}: {said}");
    }

    // Changes go on being signed ahead: what is new, what is gone, and the names around them.
    server.ok("https", &["record", "set", "new.fort.ghost", "AAAA", "2001:db8::1"]);
    server.ok("https", &["record", "delete", "x.ent.fort.ghost", "TXT"]);
    for (owner, rtype, words) in [
        ("new.fort.ghost", "AAAA", "; fully validated"),
        ("ent.fort.ghost", "TXT", "ncache nxdomain"),
        ("no.fort.ghost", "A", "negative response, fully validated"),
    ] {
        let said = delv(dir.path(), &server, "ghost", owner, rtype);
        assert!(said.contains(words) && said.contains("fully validated"), "{owner} {rtype}:\n{said}");
    }
    let file = dir.path().join("fort.zone");
    server.ok("https", &["zone", "export", "fort.ghost", "--out", file.to_str().unwrap()]);
    for (tool, args) in [("kzonecheck", &["-o", "fort.ghost", "-d", "on"][..]), ("ldns-verify-zone", &[])] {
        let output = std::process::Command::new(tool).args(args).arg(&file).output().unwrap();
        assert!(output.status.success(), "{tool}: {output:?}");
    }

    // Two changes within a second have two serials.
    let serial = || {
        let soa = server.ok("udp", &["query", "fort.ghost", "SOA", "--via", "udp", "--short"]);
        soa.split_whitespace().nth(2).unwrap().parse::<u32>().unwrap()
    };
    let before = serial();
    for data in ["192.0.2.7", "192.0.2.8", "192.0.2.9"] {
        server.ok("https", &["record", "set", "fort.ghost", "A", data]);
    }
    assert!(serial() >= before + 3);

    // And back: the gateway helps again.
    server.ok("https", &["name", "sign", "fort.ghost"]);
    assert!(!server.ok("https", &["record", "list", "fort.ghost"]).contains("NSEC"));
    server.ok("https", &["contract", "bind", "fort.ghost", "park"]);
    let said = delv(dir.path(), &server, "ghost", "fort.ghost", "MX");
    assert!(said.contains("fully validated"), "{said}");

    // Or nobody signs, and the name can be delegated elsewhere.
    server.ok("https", &["contract", "bind", "fort.ghost", "default"]);
    server.ok("https", &["name", "sign", "fort.ghost", "--strict"]);
    server.ok("https", &["record", "delete", "fort.ghost", "DNSKEY"]);
    let left = server.ok("https", &["record", "list", "fort.ghost"]);
    assert!(["DNSKEY", "NSEC", "SOA", "CDS"].iter().all(|rtype| !left.contains(rtype)), "{left}");
    assert!(delv(dir.path(), &server, "ghost", "fort.ghost", "A").contains("unsigned answer"));
}

/// The gateway has the online key and the TLD's, and its operator the registry: what can they make others believe?
#[test]
fn a_forging_gateway_is_caught() {
    if !have(&["delv", "unbound", "dig"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    populate(&server);
    furnish(&server, "keep.ghost");
    server.ok("https", &["name", "sign", "keep.ghost", "--strict"]);
    for owner in ["alice.ghost", "keep.ghost"] {
        assert!(query(&server, owner, "A", &["--require-owner"]).0);
    }
    assert!(server.terminate().success());
    let online = std::fs::read_to_string(dir.path().join("keys/online.pem")).unwrap();
    let online = ZoneKey::new(Secret::Ed25519(SigningKey::from_pkcs8_pem(&online).unwrap()), FLAGS_ONLINE);
    for owner in ["alice.ghost", "keep.ghost"] {
        tamper(dir.path(), |_| {
            let forged = Rrset::new(name(owner), Rtype::A, 3_600, [vec![203, 0, 113, 66]]);
            let rrsigs = vec![online.sign(&name(owner), &forged, ghostplane::cli::clock::unix_time()).into()];
            Change::PutRrset(Rrset { rrsigs, ..forged }, None)
        });
    }
    let server = Server::start(dir.path());
    let unbound = Unbound::start(dir.path(), &server, &anchors(&server));

    // Nobody can sign for a strict name: everyone notices.
    assert!(delv(dir.path(), &server, "ghost", "keep.ghost", "A").contains("resolution failed"));
    assert_eq!(unbound.ask("keep.ghost", "A"), "SERVFAIL");
    let (believed, said) = query(&server, "keep.ghost", "A", &["--require-owner"]);
    assert!(!believed && said.contains("bogus"), "{said}");

    // A delegated name's owner lets the gateway sign: who wants the owner's word must ask for it.
    assert!(delv(dir.path(), &server, "ghost", "alice.ghost", "A").contains("fully validated"));
    assert_eq!(unbound.ask("alice.ghost", "A"), "NOERROR ad");
    assert!(query(&server, "alice.ghost", "A", &[]).0);
    let (believed, said) = query(&server, "alice.ghost", "A", &["--require-owner"]);
    assert!(!believed && said.contains("not signed by the owner"), "{said}");
}

/// From the sigil to a P-256 key and back to a sigil's, delegated and strict; valid at every step.
#[test]
fn keys_roll_and_every_step_is_valid() {
    if !have(&["delv"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let (p256, own) = (dir.path().join("p256.pem"), dir.path().join("dev.pem"));
    let (p256, own) = (p256.to_str().unwrap(), own.to_str().unwrap());
    for (owner, strict) in [("del.ghost", false), ("fort.ghost", true)] {
        furnish(&server, owner);
        // What the TLD's contract says of a delegated name.
        server.ok("https", &[&["name", "sign", owner][..], if strict { &["--strict"] } else { &[] }].concat());
        let to = ["name", "roll", owner, "--to", p256, "--algorithm", "p256"];
        let back = ["name", "roll", owner, "--to", own, "--zone-key", p256];
        for roll in [&to[..], &back] {
            let step = server.ok("https", roll);
            assert!(step.contains("step 1 of 3"), "{step}");
            assert_valid(dir.path(), &server, owner, "both keys");
            let early = server.run("https", roll);
            assert!(String::from_utf8_lossy(&early.stderr).contains("caches may hold"), "{early:?}");
            for step in ["step 2 of 3", "step 3 of 3"] {
                let told = server.ok("https", &[roll, &["--now"]].concat());
                assert!(told.contains(step), "{told}");
                assert_valid(dir.path(), &server, owner, step);
            }
            assert!(server.ok("https", roll).contains("done"));
            // The key that left signs no more, the one that came does.
            let (old, new) = if roll == to { (own, p256) } else { (p256, own) };
            let set = ["record", "set", owner, "A", "192.0.2.2", "--zone-key"];
            assert!(!server.run("https", &[&set[..], &[old]].concat()).status.success());
            server.ok("https", &[&set[..], &[new]].concat());
            assert_valid(dir.path(), &server, owner, "after a write");
        }
    }
    // A name may begin with another key.
    server.ok("https", &["name", "register", "fresh.ghost", "--zone-key", p256]);
    server.ok("https", &["record", "set", "fresh.ghost", "A", "192.0.2.2", "--zone-key", p256]);
    assert!(delv(dir.path(), &server, "ghost", "fresh.ghost", "A").contains("fully validated"));
    assert!(delv(dir.path(), &server, "ghost", "no.fresh.ghost", "A").contains("fully validated"));
    assert!(query(&server, "fresh.ghost", "A", &["--require-owner"]).0);
}

/// The gateway's own keys roll under a running server, and no validator notices but by the new anchor.
#[test]
fn the_gateways_keys_roll_under_a_running_server() {
    if !have(&["delv"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    furnish(&server, "alice.ghost");
    let roll = |args: &[&str]| {
        let mut command = std::process::Command::new(crate::process::PROGRAM);
        let output = command.args(["zone", "roll", "--data"]).arg(dir.path()).args(args).output().unwrap();
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let anchor = || server.ok("https", &["zone", "anchor", "ghost", "--format", "bind"]);
    let with_anchor = |text: &str, owner: &str, rtype: &str| {
        std::fs::write(dir.path().join("ghost.anchor"), text).unwrap();
        delv(dir.path(), &server, "ghost", owner, rtype)
    };
    let old = anchor();
    assert!(roll(&["ghost", "--next"]).0);
    let both = anchor();
    assert_eq!(both.matches("static-ds").count(), 2);
    let (early, said) = roll(&["ghost", "--next"]);
    assert!(!early && said.contains("too early"), "{said}");
    // Signing with the new key troubles nobody who still has the old anchor.
    assert!(roll(&["ghost", "--next", "--now"]).0);
    for anchor in [&old, &both] {
        for (owner, rtype) in [("alice.ghost", "A"), ("no.ghost", "A"), ("ghost", "SOA")] {
            assert!(with_anchor(anchor, owner, rtype).contains("fully validated"), "{owner} {rtype}");
        }
    }
    for (what, believed) in [("revoked", false), ("gone", false)] {
        let (done, said) = roll(&["ghost", "--next", "--now"]);
        assert!(done, "{what}: {said}");
        let new = anchor();
        assert_eq!(new.matches("static-ds").count(), 1, "{what}");
        assert_eq!(with_anchor(&old, "alice.ghost", "A").contains("fully validated"), believed, "{what}");
        assert!(with_anchor(&new, "alice.ghost", "A").contains("fully validated"), "{what}");
    }

    // The online key: names take it up when their owners sign; until then the old one serves them.
    let new = anchor();
    let made_up = |owner: &str| with_anchor(&new, &format!("no.{owner}"), "A").contains("fully validated");
    assert!(roll(&["online", "--next"]).0 && roll(&["online", "--next", "--now"]).0);
    server.ok("https", &["name", "register", "later.ghost"]);
    assert!(made_up("alice.ghost") && made_up("later.ghost"));
    let ring = dir.path().join("keys/ring.json");
    let mut aged: serde_json::Value = serde_json::from_slice(&std::fs::read(&ring).unwrap()).unwrap();
    // As if its hour of waiting were over.
    aged["keys"].as_array_mut().unwrap().iter_mut().for_each(|key| key["since"] = 1_000_000.into());
    std::fs::write(&ring, aged.to_string()).unwrap();
    let (done, said) = roll(&["online", "--next"]);
    assert!(!done && said.contains("1 names depend on the retired key"), "{said}");
    server.ok("https", &["name", "sign", "alice.ghost"]);
    let (done, said) = roll(&["online", "--next"]);
    assert!(done, "{said}");
    assert!(made_up("alice.ghost") && made_up("later.ghost"));
    // What is on disk is what a restart finds.
    assert!(server.terminate().success());
    let server = Server::start(dir.path());
    assert!(delv(dir.path(), &server, "ghost", "alice.ghost", "A").contains("fully validated"));
}

/// With TLD keys and an owner's of algorithm 13, nothing on the way from the anchor is of algorithm 15.
#[test]
fn a_chain_may_be_of_p256_throughout() {
    if !have(&["delv"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &["--tld-algorithm", "p256"]);
    let key = dir.path().join("p256.pem");
    let key = key.to_str().unwrap();
    server.ok("https", &["name", "register", "alice.ghost"]);
    for _ in 0..3 {
        server.ok("https", &["name", "roll", "alice.ghost", "--to", key, "--algorithm", "p256", "--now"]);
    }
    server.ok("https", &["record", "set", "alice.ghost", "A", "192.0.2.1", "--zone-key", key]);
    for (owner, rtype) in [("alice.ghost", "A"), ("no.alice.ghost", "A"), ("nobody.ghost", "A")] {
        assert!(delv(dir.path(), &server, "ghost", owner, rtype).contains("fully validated"), "{owner}");
    }
    let chain = server.ok("udp", &["query", "alice.ghost", "DNSKEY", "--via", "udp", "--dnssec"]);
    assert!(chain.contains(" 3 13 ") && !chain.contains(" 3 15 "), "{chain}");
    assert!(query(&server, "alice.ghost", "A", &["--require-owner"]).0);
}

/// Whatever an owner sends: what is accepted leaves DS, DNSKEY and RRSIGs in agreement.
#[test]
fn the_registry_keeps_keys_and_signatures_in_agreement() {
    let mut world = World::new();
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.ghost");
    world.sign(&mut alice, "alice.ghost").unwrap();
    world.put(&mut alice, "alice.ghost", "A", &["192.0.2.1"]).unwrap();
    let apex = name("alice.ghost");
    let own = ZoneKey::of_sigil(&alice.key);
    let other = ZoneKey::new(Secret::from_p256_seed(&[7; 32]).unwrap(), FLAGS_OWNER);
    let signer = world.node.service.keys.get();
    let online = signer.online()[0].dnskey().to_vec();
    let data = |keys: &[&ZoneKey]| keys.iter().map(|key| key.dnskey().to_vec()).collect::<Vec<_>>();
    let mut put = |rtype: Rtype, data: Vec<Vec<u8>>, by: &[&ZoneKey]| -> Result<(), u16> {
        let mut rrset = Rrset::new(apex.clone(), rtype, 3_600, data);
        let sign = |key: &&ZoneKey| key.sign_until(&apex, &rrset, world.now() - 60, world.now() + 86_400).into();
        rrset.rrsigs = by.iter().map(sign).collect();
        let keys = Some(by.iter().map(|key| DnskeyRdata(key.dnskey().to_vec())).collect());
        let op = Op::PutRecords { name: apex.clone(), rrsets: vec![rrset], keys };
        world.submit(&mut alice, op).map(drop).map_err(|rejection| rejection.code())
    };
    let with_online = |keys: &[&ZoneKey]| [data(keys), vec![online.clone()]].concat();
    // A key signs only once it is in the zone.
    assert_eq!(put(Rtype::TXT, vec![b"\x01x".to_vec()], &[&other]), Err(402));
    // The DS is for the sigil: it must stay, and sign.
    assert_eq!(put(Rtype::DNSKEY, with_online(&[&other]), &[&other]), Err(402));
    assert_eq!(put(Rtype::DNSKEY, with_online(&[&own, &other]), &[&other]), Err(402));
    assert_eq!(put(Rtype::CDNSKEY, data(&[&other]), &[&own]), Err(402));
    assert_eq!(put(Rtype::DNSKEY, with_online(&[&own, &other]), &[&own]), Ok(()));
    // The DS asked for is of a key that does not sign the DNSKEY RRset.
    assert_eq!(put(Rtype::CDNSKEY, data(&[&other]), &[&own]), Err(402));
    assert_eq!(put(Rtype::DNSKEY, with_online(&[&own, &other]), &[&own, &other]), Ok(()));
    assert_eq!(put(Rtype::CDNSKEY, data(&[&other]), &[&own]), Ok(()));
    assert_eq!(put(Rtype::CDS, vec![ds(&apex, own.dnskey())], &[&own]), Err(402));
    assert_eq!(put(Rtype::CDS, vec![ds(&apex, other.dnskey())], &[&own]), Ok(()));
    // Nothing may rest on the key that leaves.
    assert_eq!(put(Rtype::DNSKEY, with_online(&[&other]), &[&other]), Err(402));
    assert_eq!(put(Rtype::A, vec![vec![192, 0, 2, 1]], &[&other]), Ok(()));
    assert_eq!(put(Rtype::CDS, vec![ds(&apex, other.dnskey())], &[&other]), Ok(()));
    assert_eq!(put(Rtype::CDNSKEY, data(&[&other]), &[&other]), Ok(()));
    assert_eq!(put(Rtype::DNSKEY, with_online(&[&other]), &[&other]), Ok(()));
    assert_eq!(put(Rtype::A, vec![vec![192, 0, 2, 2]], &[&own]), Err(402));
    // Strict, but nothing is signed ahead.
    assert_eq!(put(Rtype::DNSKEY, data(&[&other]), &[&other]), Err(402));
    // What an op may not even claim.
    assert_eq!(put(Rtype::A, vec![vec![192, 0, 2, 2]], &[]), Err(408));
    assert_eq!(put(Rtype::A, vec![vec![192, 0, 2, 2]], &[&signer.online()[0]]), Err(402));
}
