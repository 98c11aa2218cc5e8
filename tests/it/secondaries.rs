//! Stock name servers copy our zones and serve them validly, over every transport of transfers.

use std::path::Path;
use std::process::Command;

use crate::clients::have;
use crate::process::{Daemon, Server, free_port};
use crate::validators::{delv_at, populate};

/// What a secondary must answer from its copy of `ghost`: with the anchor alone, all of it validates.
const IN_GHOST: [(&str, &str, &str); 4] = [
    ("ghost", "SOA", "fully validated"),
    ("ns.ghost", "A", "fully validated"),
    ("alice.ghost", "DS", "fully validated"),
    ("nobody.ghost", "A", "negative response, fully validated"),
];

fn assert_served(data: &Path, server: &Server, port: u16) {
    for (name, rtype, words) in IN_GHOST {
        let said = delv_at(data, server, port, "ghost", name, rtype);
        assert!(said.contains(words), "{name} {rtype}:\n{said}");
    }
}

/// Knot as a secondary of `ghost` that verifies signatures and digest before it serves anything.
fn knot(data: &Path, remote: &str) -> (Daemon, u16) {
    let port = free_port();
    let dir = data.display();
    let text = format!(
        "server:\n  listen: 127.0.0.1@{port}\n  rundir: {dir}\n  user: root\nlog:\n  - target: stderr\n    any: info\n\
         database:\n  storage: {dir}/knot\nremote:\n  - id: us\n    address: {remote}\nzone:\n  - domain: ghost\n    \
         storage: {dir}\n    file: knot.zone\n    master: us\n    dnssec-validation: on\n    zonemd-verify: on\n",
    );
    std::fs::create_dir(data.join("knot")).unwrap();
    let config = data.join("knot.conf");
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("knotd");
    command.arg("-c").arg(config);
    (Daemon::start(command, "zone file updated"), port)
}

#[test]
fn knot_transfers_over_tcp_and_tls() {
    if !have(&["knotd", "delv"]) {
        return;
    }
    // As a client over QUIC, knotd 3.4.6 crashes by itself; kdig does not, below.
    for (service, options) in [("tcp", ""), ("tls", "\n    tls: on")] {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start(dir.path());
        populate(&server);
        let (_knot, port) = knot(dir.path(), &format!("127.0.0.1@{}{options}", server.port(service)));
        assert_served(dir.path(), &server, port);
    }
}

#[test]
fn nsd_transfers_over_tls() {
    if !have(&["nsd", "delv"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    populate(&server);
    let port = free_port();
    let text = format!(
        "server:\n ip-address: 127.0.0.1@{port}\n username: \"\"\n zonesdir: \"{0}\"\n pidfile: \"{0}/nsd.pid\"\n \
         xfrdfile: \"{0}/xfrd.state\"\n xfrdir: \"{0}\"\n zonelistfile: \"{0}/zone.list\"\n verbosity: 2\n \
         tls-cert-bundle: \"{0}/ca.pem\"\nremote-control:\n control-enable: no\ntls-auth:\n name: us\n \
         auth-domain-name: localhost\nzone:\n name: ghost\n zonefile: nsd.zone\n \
         request-xfr: AXFR 127.0.0.1@{1} NOKEY us\n",
        dir.path().display(),
        server.port("tls")
    );
    let config = dir.path().join("nsd.conf");
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("nsd");
    command.arg("-d").arg("-c").arg(config);
    let _nsd = Daemon::start(command, "zone ghost serial");
    assert_served(dir.path(), &server, port);
}

/// The same records over every transport that carries transfers.
#[test]
fn kdig_transfers_over_tcp_tls_and_quic() {
    if !have(&["kdig"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    populate(&server);
    let zone = |service: &str, options: &[&str]| -> Vec<String> {
        let ca = format!("+tls-ca={}", dir.path().join("ca.pem").display());
        let mut kdig = Command::new("kdig");
        kdig.args(["@127.0.0.1", "-p", &server.port(service).to_string()]).args(options);
        if service != "tcp" {
            kdig.args([&ca, "+tls-hostname=localhost"]);
        }
        let output = kdig.args(["ghost", "AXFR"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter(|line| line.contains("\tIN\t")).map(str::to_owned).collect()
    };
    let over_tcp = zone("tcp", &[]);
    assert!(over_tcp.len() > 10 && over_tcp[0].contains("SOA"), "{over_tcp:?}");
    assert_eq!(over_tcp.first(), over_tcp.last());
    assert_eq!(zone("tls", &["+tls"]), over_tcp);
    assert_eq!(zone("quic", &["+quic"]), over_tcp);
}

/// Who is not allowed gets nothing, and is told so; a name is a zone of its own.
#[test]
fn transfers_are_for_those_who_are_allowed() {
    if !have(&["kdig"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let ask = |server: &Server, zone: &str, rtype: &str| {
        let port = server.port("tcp").to_string();
        let output = Command::new("kdig").args(["@127.0.0.1", "-p", &port, zone, rtype]).output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let server = Server::start(dir.path());
    populate(&server);
    let whole = ask(&server, "alice.ghost", "AXFR");
    for record in ["www.alice.ghost.", "SOA", "NSEC", "RRSIG", "ZONEMD", "DNAME"] {
        assert!(whole.contains(record), "{record} in {whole}");
    }
    let serial = whole.split("SOA").nth(1).unwrap().split_whitespace().nth(2).unwrap();
    let behind = ask(&server, "alice.ghost", "IXFR=1");
    assert!(behind.contains("www.alice.ghost."), "{behind}");
    let current = ask(&server, "alice.ghost", &format!("IXFR={serial}"));
    assert!(current.contains("SOA") && !current.contains("www"), "{current}");
    assert!(ask(&server, "www.alice.ghost", "AXFR").contains("NOTAUTH"));
    drop(server);
    let server = Server::start_with(dir.path(), &["--transfer-to", "192.0.2.0/24"]);
    assert!(ask(&server, "alice.ghost", "AXFR").contains("REFUSED"));
}
