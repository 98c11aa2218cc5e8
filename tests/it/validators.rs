//! Stock validators that know the TLDs' anchors and nothing else: they accept what we serve, and nothing that
//! was tampered with.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use ghostplane::registry::{Genesis, LogEntry, Registry};
use ghostplane::state::{Change, Effects, NameEntry, View as _};
use ghostplane::wire::{Rrset, Rtype};

use hickory_proto::dnssec::{Algorithm, Proof, PublicKeyBuf, TrustAnchors};
use hickory_proto::rr::RecordType;
use hickory_resolver::Resolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

use crate::clients::{have, skip};
use crate::process::{Daemon, PROGRAM, Server, free_port};
use crate::support::{Person, name};

/// Registers a signed name in each TLD, a strict one, and one that is not signed.
pub fn populate(server: &Server) {
    for name in ["alice.ghost", "bob.sig", "carol.gcc", "dave.bc"] {
        server.ok("https", &["name", "register", name]);
        let www = format!("www.{name}");
        for (owner, rtype, data) in [
            (name, "A", "192.0.2.1"),
            (&www, "CNAME", name),
            (&format!("away.{name}"), "CNAME", "bob.sig."),
            (&format!("*.w.{name}"), "TXT", "wild"),
            (&format!("x.ent.{name}"), "TXT", "below"),
            (&format!("d.{name}"), "DNAME", &format!("ent.{name}.")),
        ] {
            server.ok("https", &["record", "set", owner, rtype, data]);
        }
    }
    server.ok("https", &["name", "register", "alias.ghost"]);
    server.ok("https", &["record", "set", "alias.ghost", "CNAME", "alice.ghost."]);
    server.ok("https", &["name", "register", "plain.ghost", "--unsigned"]);
    server.ok("https", &["record", "set", "plain.ghost", "A", "192.0.2.2"]);
    server.ok("https", &["name", "register", "fort.ghost"]);
    server.ok("https", &["record", "set", "fort.ghost", "A", "192.0.2.1"]);
    server.ok("https", &["record", "set", "www.fort.ghost", "CNAME", "fort.ghost."]);
    server.ok("https", &["name", "sign", "fort.ghost", "--strict"]);
}

/// Labels below a name, and the type: A, chain, wildcards, NODATA, NXDOMAIN, ENT, DNAME, keys, synthesised.
const BELOW: [(&str, &str); 18] = [
    ("", "A"),
    ("", "MX"),
    ("", "SOA"),
    ("", "DNSKEY"),
    ("", "DS"),
    ("", "NSEC"),
    ("no.", "NSEC"),
    ("www.", "A"),
    ("www.", "DS"),
    ("www.", "DNSKEY"),
    ("www.", "SOA"),
    ("any.w.", "TXT"),
    ("a.b.w.", "TXT"),
    ("any.w.", "A"),
    ("no.", "A"),
    ("ent.", "A"),
    ("x.d.", "TXT"),
    ("_did.", "TXT"),
];

#[test]
fn delv_validates_everything() {
    if !have(&["delv"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    populate(&server);
    for name in ["alice.ghost", "bob.sig", "carol.gcc", "dave.bc"] {
        let tld = name.split('.').nth(1).unwrap();
        for (labels, rtype) in BELOW {
            let said = delv(dir.path(), &server, tld, &format!("{labels}{name}"), rtype);
            assert!(said.contains("fully validated"), "{labels}{name} {rtype}:\n{said}");
        }
        let nobody = delv(dir.path(), &server, tld, &format!("nobody.{tld}"), "A");
        assert!(nobody.contains("negative response, fully validated"), "{nobody}");
    }
    for (name, words) in [("alias.ghost", "fully validated"), ("plain.ghost", "unsigned answer")] {
        let said = delv(dir.path(), &server, "ghost", name, "A");
        assert!(said.contains(words), "{said}");
    }
}

pub fn delv(data: &Path, server: &Server, tld: &str, name: &str, rtype: &str) -> String {
    delv_at(data, server, server.port("udp"), tld, name, rtype)
}

/// delv, with our anchor, asks another server.
pub fn delv_at(data: &Path, server: &Server, port: u16, tld: &str, name: &str, rtype: &str) -> String {
    let anchors = data.join(format!("{tld}.anchor"));
    if !anchors.exists() {
        std::fs::write(&anchors, server.ok("https", &["zone", "anchor", tld, "--format", "bind"])).unwrap();
    }
    let port = port.to_string();
    let mut delv = Command::new("delv");
    delv.args(["@127.0.0.1", "-p", &port, "-a"]).arg(anchors).args([&format!("+root={tld}"), "-q", name, "-t", rtype]);
    let output = delv.output().unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

/// unbound as a validating forwarder over DoT: everything it is asked, it asks us, and nobody else.
pub struct Unbound {
    _daemon: Daemon,
    pub port: u16,
}

impl Unbound {
    pub fn start(data: &Path, server: &Server, anchors: &str) -> Self {
        let port = free_port();
        let config = data.join("unbound.conf");
        let text = format!(
            "server:\n interface: 127.0.0.1@{port}\n port: {port}\n do-daemonize: no\n chroot: \"\"\n username: \"\"\n \
             directory: \"{0}\"\n pidfile: \"\"\n use-syslog: no\n verbosity: 1\n do-not-query-localhost: no\n \
             module-config: \"validator iterator\"\n tls-cert-bundle: \"{0}/ca.pem\"\n{anchors}\nforward-zone:\n \
             name: \".\"\n forward-tls-upstream: yes\n forward-addr: 127.0.0.1@{1}#localhost\nremote-control:\n \
             control-enable: no\n",
            data.display(),
            server.port("tls")
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("unbound");
        command.arg("-d").arg("-c").arg(config);
        Self { _daemon: Daemon::start(command, "start of service"), port }
    }

    pub fn ask(&self, name: &str, rtype: &str) -> String {
        ask_resolver(self.port, name, rtype)
    }
}

/// What a resolver says: `CODE`, and ` ad` if it was validated.
fn ask_resolver(port: u16, name: &str, rtype: &str) -> String {
    let port = port.to_string();
    let output = Command::new("dig")
        .args(["@127.0.0.1", "-p", &port, "+tries=1", "+timeout=20", "-q", name, "-t", rtype])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let code = text.split("status: ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or("nothing");
    let flags = text.split("flags: ").nth(1).and_then(|rest| rest.split(';').next()).unwrap_or_default();
    let validated = flags.split_whitespace().any(|flag| flag == "ad");
    format!("{code}{}", if validated { " ad" } else { "" })
}

pub fn anchors(server: &Server) -> String {
    server.ok("https", &["zone", "anchor", "--format", "unbound"])
}

#[test]
fn unbound_sets_ad_for_everything() {
    if !have(&["unbound", "dig"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    populate(&server);
    let unbound = Unbound::start(dir.path(), &server, &anchors(&server));
    for name in ["alice.ghost", "bob.sig", "carol.gcc", "dave.bc"] {
        for (labels, rtype) in BELOW {
            let name = format!("{labels}{name}");
            // It understands NXNAME, or takes the answer for NODATA.
            let told = unbound.ask(&name, rtype);
            assert!(["NOERROR ad", "NXDOMAIN ad"].contains(&told.as_str()), "{name} {rtype}: {told}");
        }
        // From one TLD into another.
        assert_eq!(unbound.ask(&format!("away.{name}"), "A"), "NOERROR ad", "{name}");
        let nobody = unbound.ask(&format!("nobody.{}", name.split('.').nth(1).unwrap()), "A");
        assert!(["NOERROR ad", "NXDOMAIN ad"].contains(&nobody.as_str()), "{nobody}");
    }
    assert_eq!(unbound.ask("alias.ghost", "A"), "NOERROR ad");
    assert_eq!(unbound.ask("plain.ghost", "A"), "NOERROR");
}

/// Every other resolver that takes an anchor: in front of us, it says AD for what unbound does.
///
/// dnsmasq 2.91 has no way to see that a CNAME was made by a DNAME, and calls it bogus.
fn assert_validates(port: u16, server: &str) {
    for name in ["alice.ghost", "bob.sig", "carol.gcc", "dave.bc"] {
        for (labels, rtype) in BELOW.into_iter().filter(|(labels, _)| server != "dnsmasq" || *labels != "x.d.") {
            let told = ask_resolver(port, &format!("{labels}{name}"), rtype);
            assert!(["NOERROR ad", "NXDOMAIN ad"].contains(&told.as_str()), "{server}: {labels}{name} {rtype}: {told}");
        }
        assert_eq!(ask_resolver(port, &format!("away.{name}"), "A"), "NOERROR ad", "{server}: {name}");
    }
    assert_eq!(ask_resolver(port, "fort.ghost", "A"), "NOERROR ad", "{server}");
    assert_eq!(ask_resolver(port, "no.fort.ghost", "A"), "NXDOMAIN ad", "{server}");
    assert_eq!(ask_resolver(port, "plain.ghost", "A"), "NOERROR", "{server}");
}

#[test]
fn bind_sets_ad_for_everything() {
    if !have(&["named", "dig"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    populate(&server);
    let port = free_port();
    let anchors = server.ok("https", &["zone", "anchor", "--format", "bind"]);
    let text = format!(
        "tls ours {{ ca-file \"{0}/ca.pem\"; remote-hostname \"localhost\"; }};\noptions {{ directory \"{0}\"; \
         listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; pid-file none; session-keyfile none; \
         forward only; forwarders port {1} tls ours {{ 127.0.0.1; }}; dnssec-validation yes; recursion yes; }};\n\
         controls {{ }};\n{anchors}",
        dir.path().display(),
        server.port("tls")
    );
    let config = dir.path().join("named.conf");
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("named");
    command.args(["-g", "-n", "1", "-c"]).arg(config);
    let _named = Daemon::start(command, "running");
    assert_validates(port, "BIND");
}

#[test]
fn dnsmasq_sets_ad_for_everything() {
    if !have(&["dnsmasq", "dig"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    populate(&server);
    let port = free_port();
    let text = format!(
        "port={port}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\nuser=\ngroup=\npid-file\n\
         server=127.0.0.1#{}\ndnssec\ntrust-anchor=.,20326,8,2,{}\n{}",
        server.port("udp"),
        // It does not start without an anchor for the root; nothing here is signed with this one.
        "0".repeat(64),
        server.ok("https", &["zone", "anchor", "--format", "dnsmasq"])
    );
    let config = dir.path().join("dnsmasq.conf");
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("dnsmasq");
    command.args(["--keep-in-foreground", "--log-facility=-"]).arg(format!("--conf-file={}", config.display()));
    let _dnsmasq = Daemon::start(command, "using nameserver");
    assert_validates(port, "dnsmasq");
}

/// hickory-resolver, the library, with our anchors alone.
#[test]
fn hickory_finds_everything_secure() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    populate(&server);
    let mut anchors = TrustAnchors::empty();
    for line in server.ok("https", &["zone", "anchor", "--format", "dnskey"]).lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let key = data_encoding::BASE64.decode(words.last().unwrap().as_bytes()).unwrap();
        let zone: hickory_proto::rr::Name = words[0].parse().unwrap();
        assert!(anchors.insert_with_name(&PublicKeyBuf::new(key, Algorithm::ED25519), zone.into()));
    }
    let mut connection = ConnectionConfig::tcp();
    connection.port = server.port("tcp");
    let us = NameServerConfig::new(Ipv4Addr::LOCALHOST.into(), true, vec![connection]);
    let config = ResolverConfig::from_name_servers(vec![us]);
    let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().validate = true;
    let resolver = builder.with_trust_anchor(Arc::new(anchors)).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for name in
        ["alice.ghost.", "www.alice.ghost.", "away.alice.ghost.", "bob.sig.", "carol.gcc.", "dave.bc.", "fort.ghost."]
    {
        let found = runtime.block_on(resolver.lookup(name, RecordType::A)).unwrap();
        assert!(!found.answers().is_empty(), "{name}");
        assert!(found.answers().iter().all(|record| record.proof == Proof::Secure), "{name}: {found:?}");
    }
    // 0.26.3 wants to see the wildcard's own NSEC above an expanded wildcard, which nobody is bound to send (RFC 4035
    // §3.1.3.3); the other validators do not.
    let made = runtime.block_on(resolver.lookup("_did.alice.ghost.", RecordType::TXT)).unwrap();
    assert!(made.answers().iter().all(|record| record.proof == Proof::Secure), "{made:?}");
    let plain = runtime.block_on(resolver.lookup("plain.ghost.", RecordType::A)).unwrap();
    assert!(plain.answers().iter().all(|record| record.proof == Proof::Insecure), "{plain:?}");
}

/// drill climbs from the answer to the anchor.
#[test]
fn drill_chases_signatures() {
    if !have(&["drill"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    populate(&server);
    let port = server.port("udp").to_string();
    for (name, rtype) in [("alice.ghost", "A"), ("fort.ghost", "A"), ("carol.gcc", "DNSKEY"), ("x.ent.dave.bc", "TXT")]
    {
        let tld = name.rsplit('.').next().unwrap();
        let anchor = dir.path().join(format!("{tld}.key"));
        std::fs::write(&anchor, server.ok("https", &["zone", "anchor", tld, "--format", "dnskey"])).unwrap();
        let mut drill = Command::new("drill");
        let output =
            drill.args(["-p", &port, "-k"]).arg(&anchor).args(["-S", name, "@127.0.0.1", rtype]).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("Chase successful"), "{name} {rtype}:\n{said}");
    }
}

/// dnsviz marks what it doubts with `?` and what is wrong with `!`.
#[test]
fn dnsviz_finds_nothing_wrong() {
    if !have(&["dnsviz"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    populate(&server);
    let key = dir.path().join("ghost.key");
    std::fs::write(&key, server.ok("https", &["zone", "anchor", "ghost", "--format", "dnskey"])).unwrap();
    let probed = dir.path().join("probe.json");
    let at = |zone: &str| format!("{zone}:ns.ghost=[127.0.0.1]:{}", server.port("udp"));
    for name in ["alice.ghost", "www.alice.ghost", "fort.ghost", "no.fort.ghost", "nobody.ghost"] {
        let mut probe = Command::new("dnsviz");
        probe.args(["probe", "-4", "-A", "-a", "ghost", "-x", &at("ghost+"), "-x", &at("alice.ghost")]);
        let probe = probe.args(["-x", &at("fort.ghost"), "-o"]).arg(&probed).arg(name).output().unwrap();
        assert!(probe.status.success(), "{probe:?}");
        let print = Command::new("dnsviz").args(["print", "-t"]).arg(&key).arg("-r").arg(&probed).output().unwrap();
        let said = String::from_utf8(print.stdout).unwrap();
        assert!(said.contains("[.]  DNSKEY: 15/"), "{name}: {said}");
        let doubted = said.lines().find(|line| line.contains("[?") || line.contains("[!") || line.contains("[-"));
        assert_eq!(doubted, None, "{name}:\n{said}");
    }
}

#[test]
fn zonemaster_finds_nothing_wrong_but_loneliness() {
    if !have(&["zonemaster-cli", "dig", "unshare", "ip"]) {
        return;
    }
    let isolated = Command::new("unshare").args(["-rn", "true"]).status();
    if !isolated.is_ok_and(|status| status.success()) {
        println!("skipped: no network namespaces here");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/zonemaster.sh");
    let output = Command::new("unshare").args(["-rn", script, PROGRAM]).arg(dir.path()).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "{said}");
    // One server, on loopback.
    let expected = ["ADDRESS01", "DELEGATION01"];
    let errors = said.lines().filter(|line| line.starts_with("ERROR") || line.starts_with("CRITICAL"));
    let others: Vec<&str> = errors.filter(|line| !expected.iter().any(|code| line.contains(code))).collect();
    assert!(others.is_empty() && said.matches("ADDRESS01").count() >= 3, "{said}");
}

/// Knot Resolver and systemd-resolved, over plain DNS and DoT, which want a file system and a network of their own.
#[test]
fn kresd_and_resolved_set_ad_for_everything() {
    let Some(root) = std::env::var_os("TRIXIE").map(std::path::PathBuf::from) else {
        skip("TRIXIE, a tree with kresd and systemd-resolved");
        return;
    };
    if !have(&["dig", "unshare", "ip"]) {
        return;
    }
    let isolated = Command::new("unshare").args(["-n", "chroot"]).arg(&root).arg("true").status();
    if !isolated.is_ok_and(|status| status.success()) {
        println!("skipped: no right to chroot and to make network namespaces");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/resolvers.sh");
    let output = Command::new("unshare").args(["-n", script, PROGRAM]).arg(dir.path()).arg(root).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    for resolver in ["kresd ", "resolved ", "resolved-tls "] {
        let lines: Vec<&str> = said.lines().filter(|line| line.starts_with(resolver)).collect();
        assert_eq!(lines.len(), 18, "{said}");
        for line in lines {
            let expected = match line.split(' ').nth(1).unwrap() {
                "no.fort.ghost" => "A NXDOMAIN ad",
                "plain.ghost" => "A NOERROR",
                _ => " NOERROR ad",
            };
            assert!(line.ends_with(expected), "{line}");
        }
    }
}

/// Exported zones are what other programs call sound: chain, signatures, digest.
#[test]
fn exported_zones_are_verified() {
    if !have(&["kzonecheck", "dnssec-verify", "ldns-verify-zone"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    populate(&server);
    for (owner, rtype, data) in [
        ("cut.alice.ghost", "NS", "ns.cut.alice.ghost."),
        ("ns.cut.alice.ghost", "A", "192.0.2.53"),
        ("alice.ghost", "WALLET", "ETH 0xab16a96D359eC26a11e2C2b3d8f8B8942d5Bfcdb"),
    ] {
        server.ok("https", &["record", "set", owner, rtype, data]);
    }
    let verify = |zone: &str, file: &Path| -> [bool; 3] {
        let file = file.to_str().unwrap();
        let commands: [(&str, &[&str]); 3] = [
            ("kzonecheck", &["-o", zone, "-d", "on", "-z", file]),
            // -z: a key may have the SEP flag and sign everything.
            ("dnssec-verify", &["-q", "-z", "-o", zone, file]),
            ("ldns-verify-zone", &["-ZZ", file]),
        ];
        commands.map(|(tool, args)| Command::new(tool).args(args).output().unwrap().status.success())
    };
    for zone in ["ghost", "sig", "alice.ghost", "dave.bc"] {
        let file = dir.path().join(format!("{zone}.zone"));
        server.ok("https", &["zone", "export", zone, "--out", file.to_str().unwrap()]);
        assert_eq!(verify(zone, &file), [true; 3], "{zone}");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replacen(" 3600 IN NS ", " 3601 IN NS ", 1)).unwrap();
        assert_eq!(verify(zone, &file), [false; 3], "{zone} with another TTL");
    }
    // What is not ours to export, is not there.
    assert!(!server.run("https", &["zone", "export", "nobody.ghost"]).status.success());
    assert!(!server.run("https", &["zone", "export", "example.org"]).status.success());
    let plain = server.ok("https", &["zone", "export", "plain.ghost"]);
    assert!(plain.contains("plain.ghost. 3600 IN A 192.0.2.2\n") && !plain.contains("RRSIG"), "{plain}");
}

fn never() -> Genesis {
    panic!("there is a registry already")
}

/// Writes rows behind the state machine's back.
pub fn tamper(data: &Path, change: impl FnOnce(&Registry) -> Change) {
    let registry = Registry::open(&data.join("registry.redb"), never).unwrap();
    let change = change(&registry);
    let transaction = registry.begin_write().unwrap();
    {
        let tables = transaction.tables().unwrap();
        let (seq, time) = tables.last().unwrap();
        tables
            .write(seq + 1, &LogEntry { time, op: vec![] }, &Effects { changes: vec![change], ..Effects::default() })
            .unwrap();
    }
    transaction.commit().unwrap();
}

fn stored(registry: &Registry, rtype: Rtype) -> Rrset {
    registry.snapshot().unwrap().rrset(&name("alice.ghost"), rtype).unwrap().unwrap()
}

fn flip_last(octets: &mut [u8]) {
    *octets.last_mut().unwrap() ^= 1;
}

#[test]
fn one_bit_makes_it_bogus() {
    if !have(&["unbound", "dig", "delv"]) {
        return;
    }
    type Tamper = fn(&Registry) -> Change;
    let cases: [(&str, Tamper); 4] = [
        ("the stored RRSIG", |registry| {
            let mut rrset = stored(registry, Rtype::A);
            flip_last(&mut rrset.rrsigs[0]);
            Change::PutRrset(rrset, None)
        }),
        ("the stored address", |registry| {
            let mut rrset = stored(registry, Rtype::A);
            flip_last(&mut rrset.rdata[0]);
            Change::PutRrset(rrset, None)
        }),
        ("the owner's key", |registry| {
            let mut rrset = stored(registry, Rtype::DNSKEY);
            rrset.rdata.iter_mut().for_each(|key| {
                if key[1] == 1 {
                    flip_last(key);
                }
            });
            Change::PutRrset(rrset, None)
        }),
        ("the DS", |registry| {
            let entry = registry.snapshot().unwrap().name(&name("alice.ghost")).unwrap().unwrap();
            Change::PutName(name("alice.ghost"), NameEntry { owner: Person::new(77).id(), ..entry })
        }),
    ];
    for (what, change) in cases {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path());
        populate(&server);
        assert!(delv(dir.path(), &server, "ghost", "alice.ghost", "A").contains("fully validated"));
        assert!(server.terminate().success());
        tamper(dir.path(), change);
        let server = Server::start(dir.path());
        let said = delv(dir.path(), &server, "ghost", "alice.ghost", "A");
        assert!(said.contains("resolution failed"), "{what}: {said}");
        let unbound = Unbound::start(dir.path(), &server, &anchors(&server));
        assert_eq!(unbound.ask("alice.ghost", "A"), "SERVFAIL", "{what}");
        assert_eq!(unbound.ask("bob.sig", "A"), "NOERROR ad", "{what}");
        if ["the owner's key", "the DS"].contains(&what) {
            // Then nothing in the zone can be believed, of whatever kind.
            for (labels, rtype) in BELOW.into_iter().filter(|(_, rtype)| *rtype != "DS") {
                let owner = format!("{labels}alice.ghost");
                assert_eq!(unbound.ask(&owner, rtype), "SERVFAIL", "{what}: {owner} {rtype}");
            }
        }
    }
    // And the anchor itself.
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    populate(&server);
    let flip = |line: &str| {
        let (head, last) = line.split_at(line.len() - 2);
        format!("{head}{}\"\n", if last.starts_with('0') { '1' } else { '0' })
    };
    let flipped: String = anchors(&server).lines().map(flip).collect();
    let unbound = Unbound::start(dir.path(), &server, &flipped);
    for name in ["alice.ghost", "bob.sig", "carol.gcc", "dave.bc"] {
        assert_eq!(unbound.ask(name, "A"), "SERVFAIL");
    }
}
