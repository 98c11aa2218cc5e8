//! What clients find out by themselves: encrypted transports (RFC 9461, RFC 9462), what the server is like (RFC 9606), and
//! its certificates while they are exchanged.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use ghostplane::cli::client::{Connection, Target};
use ghostplane::transport::tls::Identity;
use ghostplane::wire::Transport;
use serde_json::Value;

use crate::clients::{have, have_curl, have_python};
use crate::process::{PROGRAM, Server, free_port_base, http_get, local};
use crate::support::{eventually, query};

/// Asks over one transport with the program's own client.
fn ask(server: &Server, via: &str, owner: &str, rtype: &str) -> Value {
    let service = if via == "h3" { "h3" } else { via };
    serde_json::from_str(&server.ok(service, &["query", owner, rtype, "--via", via, "--json"])).unwrap()
}

/// Data of a section (RFC 8427).
fn data(reply: &Value, section: &str) -> Vec<String> {
    let records = reply[format!("{section}RRs")].as_array().unwrap();
    records.iter().map(|record| record["rdata"].as_str().unwrap().to_owned()).collect()
}

fn designated(server: &Server) -> [String; 3] {
    let hints = "ipv4hint=127.0.0.1";
    let [quic, https, tls] = ["quic", "https", "tls"].map(|service| server.port(service));
    [
        format!("1 localhost. alpn=\"doq\" port={quic} {hints}"),
        format!("2 localhost. alpn=\"h3,h2\" port={https} {hints} dohpath=\"/dns-query{{?dns}}\""),
        format!("3 localhost. alpn=\"dot\" port={tls} {hints}"),
    ]
}

#[test]
fn a_resolver_is_discovered_over_every_transport_and_is_where_it_says() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &["--listen", "127.0.0.1", "--info-url", "https://gw.example/about"]);
    for via in Transport::ALL.map(Transport::text) {
        let found = ask(&server, via, "_dns.resolver.arpa", "SVCB");
        assert_eq!(data(&found, "answer"), designated(&server), "{via}");
        assert_eq!(data(&ask(&server, via, "_dns.localhost", "SVCB"), "answer"), designated(&server), "{via}");
        assert_eq!(data(&found, "additional"), ["127.0.0.1"], "{via}");
        let flags = found["flags"].to_string();
        assert!(flags.contains("aa") && !flags.contains("ad"), "{found}");
        for (owner, rtype) in [("_dns.resolver.arpa", "A"), ("other.resolver.arpa", "SVCB"), ("resolver.arpa", "TXT")] {
            let nothing = ask(&server, via, owner, rtype);
            assert_eq!((&nothing["RCODE"], data(&nothing, "answer").len()), (&0.into(), 0), "{via} {owner}");
            assert!(data(&nothing, "authority")[0].starts_with("resolver.arpa. "), "{via} {owner}");
        }
        for owner in ["resolver.arpa", "localhost"] {
            let told = data(&ask(&server, via, owner, "RESINFO"), "answer");
            assert!(told[0].starts_with("\"exterr=0,"), "{told:?}");
            assert!(told[0].ends_with("\"infourl=https://gw.example/about\""), "{told:?}");
        }
        // Its name is not its zone.
        let refused = server.run(via, &["query", "localhost", "A", "--via", via]);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    }
    // The ports are those that the answers came from; the certificate is for the name, too.
    for (service, via) in
        [("quic", Transport::Quic), ("https", Transport::H3), ("https", Transport::Https), ("tls", Transport::Tls)]
    {
        let mut target = server.target(service);
        target.host = "localhost".to_owned();
        let answer = exchange(&block_on(Connection::open(via, &target)).unwrap());
        assert_eq!(answer[3] & 0xf, 0, "{service}");
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(future)
}

/// One for all: connections must go on.
fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: std::sync::LazyLock<tokio::runtime::Runtime> = std::sync::LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    });
    &RUNTIME
}

fn exchange(connection: &Connection) -> Vec<u8> {
    let message = query("ghost", "SOA", 0);
    block_on(async {
        tokio::time::timeout(Duration::from_secs(20), connection.exchange(&message)).await.unwrap().unwrap()
    })
}

#[test]
fn nothing_is_designated_that_could_not_be_verified() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &["--server-name", "gw.example"]);
    let nothing = ask(&server, "udp", "_dns.resolver.arpa", "SVCB");
    assert_eq!(data(&nothing, "answer").len(), 0);
    assert_eq!(data(&ask(&server, "udp", "gw.example", "RESINFO"), "answer").len(), 1);
}

#[test]
fn the_name_servers_of_our_tlds_say_signed_what_they_speak() {
    let dir = tempfile::tempdir().unwrap();
    let base = free_port_base();
    let server = Server::start_with(dir.path(), &["--port-base", &base]);
    let base: u16 = base.parse().unwrap();
    let told = server.ok("udp", &["query", "_dns.ns.ghost", "SVCB", "--via", "udp", "--validate"]);
    assert!(told.contains(&format!("1 ns.ghost. alpn=\"doq\" port={}", base + 1)), "{told}");
    assert!(told.contains("VALIDATION: secure"), "{told}");
    let prefixed = server.ok("udp", &["query", &format!("_{base}._dns.ns.sig"), "SVCB", "--via", "udp", "--short"]);
    assert!(prefixed.contains(&format!("2 ns.sig. alpn=\"h3,h2\" port={} dohpath=", base + 2)), "{prefixed}");
    let told = server.ok("udp", &["query", "ns.bc", "RESINFO", "--via", "udp", "--validate"]);
    assert!(told.contains("exterr=") && told.contains("VALIDATION: secure"), "{told}");
}

fn metric(server: &Server, name: &str) -> String {
    let scraped = http_get(server.port("metrics"), "/metrics");
    let line = scraped.lines().find(|line| line.starts_with(&format!("ghostplane_{name}")));
    line.unwrap_or_else(|| panic!("no {name} in {scraped}")).rsplit(' ').next().unwrap().to_owned()
}

/// Each round trip to the server gives it time.
fn until(server: &Server, name: &str, fits: impl Fn(&str) -> bool) {
    eventually(|| fits(&metric(server, name)));
}

#[test]
fn certificates_are_exchanged_while_connections_go_on_and_bad_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let vias = [Transport::Quic, Transport::Https, Transport::H3, Transport::Tls];
    let open = |via: Transport| block_on(Connection::open(via, &server.target(via.text()))).unwrap();
    let held = vias.map(open);
    let first = metric(&server, "certificate_expiry");
    // What is there has but 10 days left then: this makes another one.
    Identity::development(dir.path(), SystemTime::now() + Duration::from_secs(380 * 86_400)).unwrap();
    // Seen without being told, sooner or later; or at once.
    server.signal("HUP");
    until(&server, "certificate_expiry", |ends| ends != first);
    let second = metric(&server, "certificate_expiry");
    assert_eq!(metric(&server, "certificate_reload_failures_total"), "0");
    for connection in &held {
        assert_eq!(exchange(connection)[3] & 0xf, 0);
    }
    std::fs::write(dir.path().join("tls.pem"), "nothing").unwrap();
    server.signal("HUP");
    until(&server, "certificate_reload_failures_total", |failures| failures != "0");
    assert_eq!(metric(&server, "certificate_expiry"), second);
    for connection in &held {
        assert_eq!(exchange(connection)[3] & 0xf, 0);
    }
}

#[test]
fn several_certificates_are_given_and_the_one_for_the_servers_name_is_announced() {
    let dir = tempfile::tempdir().unwrap();
    let mut roots = rustls::RootCertStore::empty();
    let mut args = vec!["--server-name".to_owned(), "b.example".to_owned()];
    for host in ["a.example", "b.example"] {
        let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
        roots.add(made.cert.der().clone()).unwrap();
        let (chain, key) = (dir.path().join(format!("{host}.pem")), dir.path().join(format!("{host}.key")));
        std::fs::write(&chain, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        for (option, file) in [("--cert", chain), ("--key", key)] {
            args.extend([option.to_owned(), file.display().to_string()]);
        }
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let server = Server::start_with(&dir.path().join("data"), &args);
    let roots = Some(std::sync::Arc::new(roots));
    let target = |service: &str, host: &str| Target {
        addr: (Ipv4Addr::LOCALHOST, server.port(service)).into(),
        host: host.to_owned(),
        roots: roots.clone(),
        timeout: Duration::from_secs(20),
        sessions: None,
    };
    for via in [Transport::Tls, Transport::Quic, Transport::Https, Transport::H3] {
        let open = |host: &str| block_on(Connection::open(via, &target(via.text(), host)));
        for host in ["a.example", "b.example"] {
            assert_eq!(exchange(&open(host).unwrap())[3] & 0xf, 0, "{host}");
        }
        assert!(open("c.example").is_err());
    }
    // The program's own client cannot verify these; over UDP there is nothing to verify.
    let udp = ["query", "_dns.resolver.arpa", "SVCB", "--via", "udp", "--short", "--server"];
    let told = local(&[&udp[..], &[&format!("127.0.0.1:{}", server.port("udp"))]].concat());
    assert!(told.starts_with("1 b.example. alpn=\"doq\""), "{told}");

    let check = |more: &[&str]| {
        let output = Command::new(PROGRAM).args(["serve", "--check-config"]).args(more).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert!(check(&args).0);
    let (ok, told) = check(&args[..args.len() - 2]);
    assert!(!ok && told.contains("give one --key for each --cert"), "{told}");
    let (ok, told) = check(&["--cert", args[3], "--key", args[9]]);
    assert!(!ok && told.contains("do not go together"), "{told}");
}

#[test]
fn a_changed_certificate_is_seen_without_being_told() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let first = metric(&server, "certificate_expiry");
    Identity::development(dir.path(), SystemTime::now() + Duration::from_secs(380 * 86_400)).unwrap();
    until(&server, "certificate_expiry", |ends| ends != first);
}

// --- Stock clients ------------------------------------------------------------------------------------------

#[test]
fn kdig_prints_what_is_designated() {
    if !have(&["kdig"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let ca = format!("+tls-ca={}", dir.path().join("ca.pem").display());
    let ask = |service: &str, options: &[&str], owner: &str, rtype: &str| {
        let port = server.port(service).to_string();
        let output = Command::new("kdig")
            .args(["@127.0.0.1", "-p", &port, "+short"])
            .args(options)
            .args([owner, rtype])
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let quoted =
        designated(&server).map(|line| line.replace("dohpath=\"/dns-query{?dns}\"", "dohpath=/dns-query{?dns}"));
    let plain = |lines: &str| lines.replace('"', "");
    for (service, options) in
        [("udp", &["+notcp"][..]), ("tcp", &["+tcp"]), ("quic", &["+quic", "+tls-hostname=localhost", &ca])]
    {
        let told = ask(service, options, "_dns.resolver.arpa", "SVCB");
        assert_eq!(plain(&told).trim(), plain(&quoted.join("\n")), "{service}");
        let info = ask(service, options, "resolver.arpa", "TYPE261");
        assert!(!info.trim().is_empty(), "{service}");
    }
}

/// dnspython does DDR itself: asks over UDP, checks the certificate for the address that it knew, and goes on encrypted.
#[test]
fn dnspython_discovers_and_verifies_and_moves() {
    if !have_python() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/ddr.py");
    let output = Command::new("python3")
        .arg(script)
        .arg(server.port("udp").to_string())
        // Read by OpenSSL, and by the script.
        .env("SSL_CERT_FILE", dir.path().join("ca.pem"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(told.trim(), "ghost. SOA over DoQ DoH DoT");
}

/// DNS in JSON as scripts fetch it.
#[test]
fn curl_gets_json_over_http_1_2_and_3() {
    if !have_curl() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    let url = format!("https://localhost:{}", server.port("https"));
    for flag in ["--http1.1", "--http2", "--http3-only"] {
        let curl = |args: &[&str]| {
            let mut command = Command::new("curl");
            command.args(["-sS", flag, "--cacert"]).arg(dir.path().join("ca.pem")).args(args);
            String::from_utf8(command.output().unwrap().stdout).unwrap()
        };
        let ask = |path: &str| -> Value { serde_json::from_str(&curl(&[&format!("{url}{path}")])).unwrap() };
        let soa = ask("/dns-query?name=ghost&type=SOA&do=1");
        assert_eq!(
            (&soa["Status"], &soa["Answer"][0]["type"], &soa["Answer"][1]["type"]),
            (&0.into(), &6.into(), &46.into())
        );
        assert_eq!(ask("/resolve?name=nobody.ghost")["Status"], 3, "{flag}");
        assert_eq!(ask("/resolve?name=nobody.ghost&do=1")["Status"], 3, "{flag}");
        let foreign = ask("/resolve?name=example.org&type=28");
        assert_eq!((&foreign["Status"], &foreign["extended_dns_errors"][0]["info_code"]), (&5.into(), &20.into()));
        let told = curl(&["-i", "-H", "accept: application/dns-json", &format!("{url}/dns-query?name=ghost&type=NS")])
            .to_lowercase();
        for part in [
            " 200",
            "content-type: application/dns-json",
            "access-control-allow-origin: *",
            "vary: accept",
            "max-age=3",
        ] {
            assert!(told.contains(part), "{flag}: no {part} in {told}");
        }
        assert!(curl(&["-i", &format!("{url}/resolve?name=a..b")]).contains(" 400"), "{flag}");
        // Of what is not there by the SOA: MINIMUM is 300, its own TTL 3,600 (RFC 2308 section 5).
        for missing in ["name=nobody.ghost", "name=ghost&type=MX"] {
            let told = curl(&["-I", &format!("{url}/resolve?{missing}")]).to_lowercase();
            let seconds =
                told.split("max-age=").nth(1).and_then(|rest| rest.split_whitespace().next()?.parse::<u32>().ok());
            assert!(seconds.is_some_and(|seconds| (200..=300).contains(&seconds)), "{told}");
        }
    }
}
