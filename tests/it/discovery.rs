//! What clients find out by themselves: encrypted transports (RFC 9461, RFC 9462), what the server is like (RFC 9606), and
//! its certificates while they are exchanged.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use ghostplane::cli::client::{Connection, Target};
use ghostplane::transport::tls::Identity;
use ghostplane::wire::Transport;
use serde_json::Value;

use crate::clients::{have, have_curl, have_python};
use crate::process::{PROGRAM, Server, free_port_base, http_get, local};
use crate::support::{eventually, query, write_key};

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

const HOUR: Duration = Duration::from_secs(3_600);

/// Makes a development identity that is renewed in half a day, 30 days before its end.
fn make_nearly_due(dir: &Path) {
    Identity::development(dir, SystemTime::now() - 360 * 24 * HOUR + 12 * HOUR).unwrap();
}

/// Renews it as if the half day were over; its successor is valid from a day before.
fn renew(dir: &Path) {
    Identity::development(dir, SystemTime::now() + 20 * HOUR).unwrap();
}

#[test]
fn certificates_are_exchanged_while_connections_go_on_and_bad_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    make_nearly_due(dir.path());
    let server = Server::start(dir.path());
    let vias = [Transport::Quic, Transport::Https, Transport::H3, Transport::Tls];
    let open = |via: Transport| block_on(Connection::open(via, &server.target(via.text()))).unwrap();
    let held = vias.map(open);
    let first = metric(&server, "certificate_expiry");
    renew(dir.path());
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
        let (cert, options) = certificate(dir.path(), host, 2040);
        roots.add(cert.der().clone()).unwrap();
        args.extend(options);
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
    assert!(told.contains(args[3]) && told.contains(args[9]) && told.matches("KeyMismatch").count() == 1, "{told}");
}

/// A certificate for a name until a year, and the options that give it to `serve`.
fn certificate(dir: &Path, host: &str, until: i32) -> (rcgen::Certificate, [String; 4]) {
    let mut params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let secret = rcgen::KeyPair::generate().unwrap();
    let cert = params.self_signed(&secret).unwrap();
    let stem = host.replace('*', "any");
    let (chain, key) = (dir.join(format!("{stem}.pem")), dir.join(format!("{stem}.key")));
    std::fs::write(&chain, cert.pem()).unwrap();
    write_key(&key, &secret.serialize_pem());
    let [chain, key] = [chain, key].map(|file| file.display().to_string());
    (cert, ["--cert".to_owned(), chain, "--key".to_owned(), key])
}

/// Whether `serve` was content with these options, with which it ends by itself, and what it said.
fn serve(more: &[&str]) -> (bool, String) {
    let output = Command::new(PROGRAM).arg("serve").args(more).stdin(Stdio::null()).output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

/// With these options nothing is served, and `--check-config` says why, too.
fn is_refused(data: &Path, more: &[&str], words: &[&str]) {
    let data = data.display().to_string();
    let more = [&["--data", &data, "--port-base", "0"], more].concat();
    let (ok, told) = serve(&more);
    let error = |told: &str| told.lines().find(|line| line.starts_with("error:")).unwrap_or_default().to_owned();
    assert!(!ok && words.iter().all(|word| error(&told).contains(word)), "{more:?}: {told}");
    let (checked, said) = serve(&[&more[..], &["--check-config"]].concat());
    assert_eq!((checked, error(&said)), (false, error(&told)), "{more:?}");
    assert!(!Path::new(&data).exists(), "nothing is written before all is looked at");
}

#[test]
fn a_server_whose_certificate_has_ended_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (_, ended) = certificate(dir.path(), "old.example", 2020);
    let ended = ended.each_ref().map(String::as_str);
    is_refused(&data, &ended, &["old.example.pem", "ended at 2020-01-01T00:00:00Z", "renew it"]);
    // Beside one that is valid it stops nothing: its renewal may need this server. It is told of, and not announced.
    let (_, valid) = certificate(dir.path(), "new.example", 2040);
    let both = [&ended[..], &valid.each_ref().map(String::as_str)].concat();
    for (name, told) in [("old.example", 0), ("new.example", 3)] {
        let args = [&both[..], &["--server-name", name]].concat();
        let (ok, said) = serve(&[&["--check-config"], &args[..]].concat());
        assert!(ok && said.contains("old.example.pem ended at 2020"), "{said}");
        let server = Server::start_with(&data, &args);
        assert_eq!(data_of(&server, "_dns.resolver.arpa", "SVCB"), told, "{name}");
        assert_eq!(data_of(&server, name, "RESINFO"), 1, "{name}");
    }
}

/// Records of the answer over UDP.
fn data_of(server: &Server, owner: &str, rtype: &str) -> usize {
    let at = format!("127.0.0.1:{}", server.port("udp"));
    let told = local(&["query", owner, rtype, "--via", "udp", "--json", "--server", &at]);
    data(&serde_json::from_str(&told).unwrap(), "answer").len()
}

#[test]
fn check_config_refuses_what_serve_refuses() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    is_refused(&data, &[], &["give a certificate with --cert and --key, or run with --dev"]);
    is_refused(&data, &["--dev", "--cores", "500"], &["cores must be 1 to 64"]);
    let config = dir.path().join("gateway.toml");
    let config = config.to_str().unwrap();
    let with = |text: &str| std::fs::write(config, text).unwrap();
    with("cores = 65");
    is_refused(&data, &["--dev", "--config", config], &["gateway.toml: cores must be 1 to 64"]);
    let tap = dir.path().join("absent/queries.tap");
    with(&format!("[dnstap]\nfile = {tap:?}"));
    is_refused(
        &data,
        &["--dev", "--config", config],
        &["dnstap.file ", "/absent/queries.tap: its folder: No such file"],
    );
    let missing = ["--cert", "/nope.pem", "--key", "/nope.key"];
    is_refused(&data, &missing, &["error: cannot read or write /nope.pem: No such file or directory (os error 2)"]);
    let (_, options) = certificate(dir.path(), "gw.example", 2040);
    let options = options.each_ref().map(String::as_str);
    let (ok, said) = serve(&[&["--check-config"], &missing[..]].concat());
    assert!(!ok && said.matches("No such file").count() == 1, "{said}");
    set_mode(options[3], 0o644);
    is_refused(&data, &options, &["gw.example.key can be read by others (mode 644); run: chmod 640 "]);
    set_mode(options[3], 0o640);
    assert!(serve(&[&["--check-config"], &options[..]].concat()).0, "a group may read it");
}

fn set_mode(path: &str, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn check_config_and_serve_warn_of_what_clients_will_not_take() {
    let dir = tempfile::tempdir().unwrap();
    let (_, options) = certificate(dir.path(), "*.ghost", 2040);
    // A file in the place of the data directory: so far serve comes, and no farther.
    let stop = dir.path().join("file");
    std::fs::write(&stop, "").unwrap();
    let names = ["--server-name", "gw.example", "--data", stop.to_str().unwrap()];
    let args = [&options.each_ref().map(String::as_str)[..], &names].concat();
    let ((checked, said), (served, told)) = (serve(&[&args[..], &["--check-config"]].concat()), serve(&args));
    assert!(checked && !served, "{said}{told}");
    for text in [&said, &told] {
        assert!(text.contains("any.ghost.pem: some clients do not take *.ghost"), "{text}");
        assert!(text.contains("no certificate is for its name gw.example"), "{text}");
    }
}

/// Nothing is made or changed by it.
#[test]
fn check_config_looks_at_a_development_identity() {
    let dir = tempfile::tempdir().unwrap();
    Identity::development(dir.path(), SystemTime::now()).unwrap();
    let check = || serve(&["--dev", "--check-config", "--data", dir.path().to_str().unwrap()]);
    assert!(check().0);
    let key = dir.path().join("ca.key");
    set_mode(key.to_str().unwrap(), 0o644);
    let (ok, told) = check();
    assert!(!ok && told.contains("ca.key can be read by others (mode 644); run: chmod 600 "), "{told}");
}

#[test]
fn a_changed_certificate_is_seen_without_being_told() {
    let dir = tempfile::tempdir().unwrap();
    make_nearly_due(dir.path());
    let server = Server::start(dir.path());
    let first = metric(&server, "certificate_expiry");
    renew(dir.path());
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
