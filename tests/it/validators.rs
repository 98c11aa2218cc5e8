//! Stock validators that know the TLDs' anchors and nothing else: they accept what we serve, and nothing that
//! was tampered with.

use std::path::Path;
use std::process::Command;

use ghostplane::registry::{Genesis, LogEntry, Registry};
use ghostplane::state::{Change, NameEntry, View as _};
use ghostplane::wire::{Rrset, Rtype};

use crate::clients::have;
use crate::process::{Daemon, Server, free_port};
use crate::support::{Person, name};

/// Registers a signed name in each TLD, and one that is not signed.
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
}

/// Labels below a name, and the type: A, chain, wildcards, NODATA, NXDOMAIN, ENT, DNAME, keys, synthesised.
const BELOW: [(&str, &str); 13] = [
    ("", "A"),
    ("", "MX"),
    ("", "SOA"),
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

    /// `CODE`, and ` ad` if it was validated.
    pub fn ask(&self, name: &str, rtype: &str) -> String {
        let port = self.port.to_string();
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
        tables.write(seq + 1, &LogEntry { time, op: vec![] }, &[change]).unwrap();
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
            Change::PutRrset(rrset)
        }),
        ("the stored address", |registry| {
            let mut rrset = stored(registry, Rtype::A);
            flip_last(&mut rrset.rdata[0]);
            Change::PutRrset(rrset)
        }),
        ("the owner's key", |registry| {
            let mut rrset = stored(registry, Rtype::DNSKEY);
            rrset.rdata.iter_mut().for_each(|key| {
                if key[1] == 1 {
                    flip_last(key);
                }
            });
            Change::PutRrset(rrset)
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
