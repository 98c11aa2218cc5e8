//! Clients and tools that others wrote. Each test says `skipped: no TOOL` where the tool is not in PATH; with
//! GHOSTPLANE_NO_SKIP set (CI) that is a failure. `.ci/tools` installs them all.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::process::{Daemon, PROGRAM, Server, free_port, http_get};
use crate::validators::{self, Unbound};

/// True if every tool can be run; says which one is missing.
pub fn have(tools: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = tools.iter().find(|tool| !std::env::split_paths(&path).any(|folder| folder.join(tool).is_file()));
    missing.is_none_or(|tool| skip(tool))
}

pub fn have_python() -> bool {
    let probe = "import dns.query, dns.quic, cryptography; assert dns.query.have_doh and dns.quic.have_quic";
    let found = Command::new("python3").args(["-c", probe]).stderr(Stdio::null()).status();
    found.is_ok_and(|status| status.success()) || skip("dnspython[doh,doq,dnssec]")
}

/// curl, and it speaks HTTP/3.
pub fn have_curl() -> bool {
    let speaks = || {
        let version = Command::new("curl").arg("--version").output().unwrap();
        String::from_utf8_lossy(&version.stdout).contains("HTTP3") || skip("curl with HTTP/3")
    };
    have(&["curl"]) && speaks()
}

/// False.
pub fn skip(tool: &str) -> bool {
    assert!(std::env::var_os("GHOSTPLANE_NO_SKIP").is_none(), "no {tool}; run .ci/tools and source target/ci/env");
    println!("skipped: no {tool}");
    false
}

/// A gateway with a few names, through its own command line.
struct Gateway {
    dir: tempfile::TempDir,
    server: Server,
}

impl Gateway {
    fn start() -> Self {
        Self::start_with(&[])
    }

    fn start_with(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Server::start_with(dir.path(), args);
        for name in ["alice.ghost", "bob.sig"] {
            server.ok("https", &["name", "register", name]);
        }
        for record in [
            &["alice.ghost", "A", "192.0.2.1", "192.0.2.2"][..],
            &["alice.ghost", "TXT", "hello world"],
            &["alice.ghost", "MX", "10 mx.alice.ghost."],
            &["alice.ghost", "HTTPS", "1 . alpn=h3 ipv4hint=192.0.2.1"],
            &["*.w.alice.ghost", "AAAA", "2001:db8::1"],
            &["www.alice.ghost", "CNAME", "bob.sig."],
            &["bob.sig", "A", "192.0.2.3"],
        ] {
            server.ok("https", &[&["record", "set"][..], record].concat());
        }
        Self { dir, server }
    }

    fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    fn port(&self, service: &str) -> String {
        self.server.port(service).to_string()
    }
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn lines(output: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = output.lines().collect();
    lines.sort_unstable();
    lines
}

/// Name, type, what `+short` prints.
const SHORT: [(&str, &str, &[&str]); 5] = [
    ("alice.ghost", "A", &["192.0.2.1", "192.0.2.2"]),
    ("alice.ghost", "MX", &["10 mx.alice.ghost."]),
    ("x.y.w.alice.ghost", "AAAA", &["2001:db8::1"]),
    ("www.alice.ghost", "A", &["192.0.2.3", "bob.sig."]),
    ("nobody.ghost", "A", &[]),
];

/// kdig and dig share their syntax.
fn digs(tool: &str, transports: &[(&str, &[&str])], extra: &[&str]) {
    let gateway = Gateway::start();
    for (service, options) in transports {
        for (name, rtype, expected) in SHORT {
            let mut command = Command::new(tool);
            command.args(["@127.0.0.1", "-p", &gateway.port(service), "+short"]).args(*options).args(extra);
            // The option alone turns TLS on.
            if !["udp", "tcp"].contains(service) {
                command.arg(format!("+tls-ca={}", gateway.ca().display()));
            }
            let output = command.args([name, rtype]).output().unwrap();
            assert_eq!(lines(&text(&output)), expected, "{tool} {options:?} {name} {rtype}");
        }
    }
}

#[test]
fn kdig_over_every_transport() {
    if !have(&["kdig"]) {
        return;
    }
    let transports: [(&str, &[&str]); 6] = [
        ("udp", &["+notcp"]),
        ("tcp", &["+tcp"]),
        ("tls", &["+tls", "+tls-hostname=localhost"]),
        ("quic", &["+quic", "+tls-hostname=localhost"]),
        ("https", &["+https", "+tls-hostname=localhost"]),
        ("https", &["+https-get", "+tls-hostname=localhost"]),
    ];
    digs("kdig", &transports, &[]);
}

#[test]
fn dig_over_every_transport() {
    if !have(&["dig"]) {
        return;
    }
    let transports: [(&str, &[&str]); 5] = [
        ("udp", &["+notcp"]),
        ("tcp", &["+tcp"]),
        ("tls", &["+tls", "+tls-hostname=localhost"]),
        ("https", &["+https=/dns-query", "+tls-hostname=localhost"]),
        ("https", &["+https-get=/dns-query", "+tls-hostname=localhost"]),
    ];
    digs("dig", &transports, &["+norecurse"]);
}

fn python(script: &str, args: &[&str], input: &str) -> Output {
    python_with(script, args, input, &[])
}

fn python_with(script: &str, args: &[&str], input: &str, env: &[(&str, String)]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
    let mut command = Command::new("python3");
    let mut child = command
        // Modules beside the scripts leave nothing in the source tree.
        .arg("-B")
        .arg(script)
        .args(args)
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A script that failed early has closed its end; its output says why.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

#[test]
fn dnspython_over_every_transport_validates_the_owners_signature() {
    if !have_python() {
        return;
    }
    let gateway = Gateway::start();
    let expected = "\
        alice.ghost A NOERROR 192.0.2.1 | 192.0.2.2\n\
        alice.ghost TXT NOERROR \"hello\" \"world\"\n\
        alice.ghost MX NOERROR 10 mx.alice.ghost.\n\
        alice.ghost HTTPS NOERROR 1 . alpn=h3 ipv4hint=192.0.2.1\n\
        x.y.w.alice.ghost AAAA NOERROR 2001:db8::1\n\
        www.alice.ghost CNAME NOERROR bob.sig.\n\
        alice.ghost AAAA NOERROR\n\
        no.alice.ghost A NXDOMAIN\n\
        example.org A REFUSED\n";
    let ca = gateway.ca();
    let args = [ca.to_str().unwrap(), &gateway.port("udp"), &gateway.port("tls"), &gateway.port("https")];
    let output = python("ask.py", &args, expected);
    assert!(text(&output).contains("9 questions over 9 transports"), "{output:?}");
}

/// JSON lines of many names and types, as the community's file has them; with GHOSTPLANE_COMMUNITY=FILE, that
/// file itself and a thousand of its names.
#[test]
fn imported_names_equal_their_file() {
    if !have_python() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("names.jsonl");
    std::fs::write(&own, synthetic_names()).unwrap();
    let given = std::env::var_os("GHOSTPLANE_COMMUNITY").map(PathBuf::from);
    let (file, count) = given.map_or((own, "150"), |file| (file, "1000"));
    let data = dir.path().join("data");
    let server = Server::start(&data);
    let report = dir.path().join("report.jsonl");
    let (file, report) = (file.to_str().unwrap(), report.to_str().unwrap());
    server.ok("https", &["zone", "import", file, "--report", report]);
    let ca = data.join("ca.pem");
    let ca = ca.to_str().unwrap();
    let anchors = data.join("anchors.ds");
    let anchors = anchors.to_str().unwrap();
    let (tls, https) = (server.port("tls").to_string(), server.port("https").to_string());
    let mut args = vec![file, report, ca, anchors, &tls, &https, count, "7"];
    if have(&["kdig"]) {
        args.extend([ca, "kdig"]);
    }
    // A validating forwarder in front of us, over DoT.
    let unbound = have(&["unbound"]).then(|| Unbound::start(&data, &server, &validators::anchors(&server)));
    let resolver: Vec<(&str, String)> =
        unbound.iter().map(|unbound| ("RESOLVER_PORT", unbound.port.to_string())).collect();
    let output = python_with("community.py", &args, "", &resolver);
    let told = text(&output);
    assert!(told.contains("equal the file over DoQ (validated) and HTTP/3"), "{output:?}");
    assert!(unbound.is_none() || told.contains("with AD through the resolver"), "{told}");
    println!("{told}");
}

fn synthetic_names() -> String {
    let mut lines = String::new();
    for n in 0..150 {
        let records = match n % 6 {
            0 => format!(r#"{{"A":["192.0.2.{n}","198.51.100.{n}"],"AAAA":["2001:db8::{n:x}"]}}"#),
            1 => format!(r#"{{"CNAME":["user{n}.example.io"]}}"#),
            2 => format!(
                r#"{{"TXT":["key={n}; with \"quotes\" and {}"],"MX":["mx1.example","mx2.example"]}}"#,
                "x".repeat(300)
            ),
            3 => format!(r#"{{"URL":["https://example.org/{n}?a=b"]}}"#),
            4 => r#"{"NS":["ns1.example","ns2.example"]}"#.to_owned(),
            _ => format!(r#"{{"CAA":[{{"flags":0,"tag":"issue","value":"ca{n}.example"}}],"A":["203.0.113.{n}"]}}"#),
        };
        writeln!(lines, r#"{{"name":"name-{n}","owner":{},"records":{records}}}"#, n / 2 + 1).unwrap();
    }
    lines
}

#[test]
fn curl_speaks_http_1_2_and_3() {
    if !have_curl() {
        return;
    }
    let gateway = Gateway::start();
    let query = gateway.dir.path().join("query.bin");
    let message = crate::support::query("alice.ghost", "A", 0);
    std::fs::write(&query, &message).unwrap();
    let url = format!("https://localhost:{}", gateway.port("https"));
    let curl = |args: &[&str]| {
        let ca = gateway.ca();
        let output =
            Command::new("curl").args(["-sS", "-i", "--cacert", ca.to_str().unwrap()]).args(args).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).to_lowercase()
    };
    let get = format!("{url}/dns-query?dns={}", data_encoding::BASE64URL_NOPAD.encode(&message));
    let post = format!("{url}/dns-query");
    let body = format!("@{}", query.display());
    let media = "content-type: application/dns-message";
    for (flag, status) in [("--http1.1", "http/1.1 200"), ("--http2", "http/2 200"), ("--http3-only", "http/3 200")] {
        let posted = curl(&[flag, "-H", media, "--data-binary", &body, &post]);
        for answer in [curl(&[flag, &get]), posted] {
            assert!(answer.starts_with(status), "{answer}");
            assert!(
                answer.contains("content-type: application/dns-message") && answer.contains("max-age=3"),
                "{answer}"
            );
            assert_eq!(answer.contains("alt-svc: h3=\":"), flag != "--http3-only", "{answer}");
        }
        let wrong_type = curl(&[flag, "-H", "content-type: text/plain", "--data-binary", &body, &post]);
        assert!(wrong_type.contains(" 415"), "{wrong_type}");
        assert!(curl(&[flag, "-X", "PUT", &post]).contains(" 405"));
        assert!(curl(&[flag, &format!("{post}?dns=!!!")]).contains(" 400"));
        assert!(curl(&[flag, &format!("{post}?dns={}", "A".repeat(9_000))]).contains(" 414"));
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"name.get","params":{"name":"alice.ghost"}}"#;
        let called = curl(&[flag, "-H", "content-type: application/json", "-d", call, &format!("{url}/rpc")]);
        assert!(called.contains("did:key:z6mk") && called.contains("\"id\":1"), "{called}");
    }
}

/// A dApp's way: the endpoint from DNS, the code by its hash, a call over HTTP/3. None of it with our own client.
#[test]
fn a_contract_is_discovered_fetched_and_called_by_stock_clients() {
    if !have(&["kdig", "curl"]) {
        return;
    }
    // What an operator writes into the zone: where programs are called.
    let zones = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/zones")).unwrap() {
        let path = file.unwrap().path();
        std::fs::copy(&path, zones.path().join(path.file_name().unwrap())).unwrap();
    }
    let zone = zones.path().join("gcc.zone");
    let mut text_of_zone = std::fs::read_to_string(&zone).unwrap();
    text_of_zone += "_gateway 300 IN HTTPS 1 localhost. alpn=h3,h2 port=8443 ipv6hint=::1\n";
    std::fs::write(&zone, text_of_zone).unwrap();
    let gateway = Gateway::start_with(&["--zones", zones.path().to_str().unwrap()]);
    gateway.server.ok("https", &["name", "register", "btc-usd.gcc"]);
    let feed = "feeder 3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c\nsource _feed.btc-usd.gcc";
    gateway.server.ok("https", &["contract", "bind", "btc-usd.gcc", "oracle", "--params", feed]);
    let ask = |owner: &str, rtype: &str| {
        let output = Command::new("kdig")
            .args(["@127.0.0.1", "-p", &gateway.port("quic"), "+short", "+quic", "+tls-hostname=localhost"])
            .args([&format!("+tls-ca={}", gateway.ca().display()), owner, rtype])
            .output()
            .unwrap();
        text(&output).trim().to_owned()
    };
    let hash = ask("_code.btc-usd.gcc", "TXT");
    let hash = hash.trim_matches('"').strip_prefix("sha256=").expect("a hash").to_owned();
    let endpoint = ask("btc-usd.gcc", "HTTPS");
    for part in ["alpn=\"h3,h2\"", "ipv6hint=::1", "key65400=", "program@0.2.0"] {
        assert!(endpoint.contains(part), "{part} is not in {endpoint}");
    }
    let url = format!("https://localhost:{}", gateway.port("https"));
    let curl = |args: &[&str]| {
        let ca = gateway.ca();
        let fixed = ["-sS", "--http3-only", "--cacert", ca.to_str().unwrap()];
        Command::new("curl").args(fixed).args(args).output().unwrap()
    };
    let code = curl(&[&format!("{url}/contract/{hash}")]).stdout;
    assert_eq!(ghostplane::op::CodeHash::of(&code).to_string(), hash);
    let unknown = curl(&["-w", "%{http_code}", &format!("{url}/contract/{}", "0".repeat(64))]);
    assert!(text(&unknown).ends_with("404"));
    let record = "t=1800000000 v=91234.5 s=WXfFPaVp1qX3FHs8TLed7QNxiBzGwdrB2Uq6cEHRWFgRwOZWtKb3rz0IYYeH0lE/0+EzKqkcQtIyueSKrMEsDw==";
    let path = format!("{url}/v1/call/btc-usd.gcc");
    let call = |url: &str, input: &str| {
        text(&curl(&["-w", "%{http_code}", "-H", "content-type: application/octet-stream", "-d", input, url]))
    };
    let value = data_encoding::BASE64.encode(b"91234.5");
    let called = call(&path, record);
    assert!(called.contains(&format!("\"output\":\"{value}\"")) && called.ends_with("200"), "{called}");
    assert!(call(&format!("{path}?receipt=1&gas=200000"), record).contains("\"receipt\":\""));
    assert!(call(&path, "t=1 v=2 s=").ends_with("422"));
    assert!(call(&format!("{path}?gas=0"), record).ends_with("400"));
    assert!(call(&format!("{url}/v1/call/alice.ghost"), record).ends_with("404"));
}

/// EDNS Client Subnet (RFC 7871), as stock clients send and print it.
#[test]
fn kdig_asks_for_a_subnet() {
    if !have(&["kdig"]) {
        return;
    }
    let gateway = Gateway::start_with(&["--ecs-from", "127.0.0.0/8"]);
    let map = "net 192.0.2.0/24 home\nregion home A 192.0.2.80\nregion default A 203.0.113.80";
    gateway.server.ok("https", &["contract", "bind", "alice.ghost", "geo", "--params", map]);
    let ask = |service: &str, options: &[&str]| {
        let mut command = Command::new("kdig");
        command.args(["@127.0.0.1", "-p", &gateway.port(service), "alice.ghost", "A"]).args(options);
        text(&command.output().unwrap())
    };
    for (service, transport) in [("udp", "+bufsize=1232"), ("tcp", "+tcp"), ("quic", "+quic")] {
        let home = ask(service, &[transport, "+subnet=192.0.2.0/24"]);
        assert!(home.contains("192.0.2.80") && home.contains("192.0.2.0/24/24"), "{home}");
        let away = ask(service, &[transport, "+subnet=198.51.100.0/24"]);
        assert!(away.contains("203.0.113.80") && away.contains("198.51.100.0/24/24"), "{away}");
        assert!(ask(service, &[transport]).contains("203.0.113.80"));
    }
}

/// BIND's key pairs come in and go out, and BIND's tools agree on what they are.
#[test]
fn bind_reads_and_makes_our_keys() {
    if !have(&["dnssec-keygen", "dnssec-dsfromkey"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |file: &str| dir.path().join(file).to_str().unwrap().to_owned();
    let run = |program: &str, args: &[&str]| {
        text(&Command::new(program).current_dir(dir.path()).args(args).output().unwrap())
    };
    let pair = run("dnssec-keygen", &["-q", "-a", "ED25519", "-f", "KSK", "alice.ghost"]);
    let pair = pair.trim();
    run(PROGRAM, &["sigil", "import", &at(&format!("{pair}.private")), "--out", &at("alice.pem")]);
    let (ours, fresh) = (at("ours"), at("fresh"));
    run(PROGRAM, &["sigil", "export", &at("alice.pem"), "--name", "alice.ghost", "--out", &ours]);
    let again = std::fs::read_to_string(Path::new(&ours).join(format!("{pair}.private")));
    let again = again.expect("the same key tag as BIND's");
    let secret = |text: &str| text.lines().find(|line| line.starts_with("PrivateKey:")).map(str::to_owned);
    assert_eq!(secret(&again), secret(&std::fs::read_to_string(at(&format!("{pair}.private"))).unwrap()));
    let ds = |folder: &str, pair: &str| run("dnssec-dsfromkey", &["-2", &format!("{folder}/{pair}.key")]);
    assert_eq!(ds(&ours, pair), ds(&at(""), pair));
    run(PROGRAM, &["sigil", "new", &at("new.pem")]);
    run(PROGRAM, &["sigil", "export", &at("new.pem"), "--name", "bob.ghost", "--out", &fresh]);
    let mut exported = std::fs::read_dir(&fresh).unwrap().map(|entry| entry.unwrap().path());
    let public = exported.find(|path| path.extension().is_some_and(|ending| ending == "key")).unwrap();
    assert!(ds(&fresh, public.file_stem().unwrap().to_str().unwrap()).starts_with("bob.ghost. IN DS "));
    use std::os::unix::fs::PermissionsExt as _;
    for secret in ["alice.pem".to_owned(), "new.pem".to_owned(), format!("{pair}.private")] {
        let mode = std::fs::metadata(at(&secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
}

/// What `/chain` serves holds without us: dnspython walks it from the anchor down.
#[test]
fn dnspython_validates_chains_by_itself() {
    if !have_python() {
        return;
    }
    let gateway = Gateway::start();
    gateway.server.ok("https", &["name", "register", "fort.ghost"]);
    gateway.server.ok("https", &["name", "sign", "fort.ghost", "--strict"]);
    let anchors = gateway.dir.path().join("anchors.ds");
    let questions = "alice.ghost A\nwww.alice.ghost A\nx.y.w.alice.ghost AAAA\nno.alice.ghost A\nfort.ghost TXT\n\
                     no.fort.ghost A\n_did.alice.ghost TXT\nnobody.ghost A\nghost SOA\n";
    let (ca, port) = (gateway.ca(), gateway.port("https"));
    let output = python("chain.py", &[ca.to_str().unwrap(), &port, anchors.to_str().unwrap()], questions);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout).unwrap();
    let counts: Vec<&str> = told.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    // Answer; keys and DS of the name; the TLD's keys. An alias has both ends'; a denial SOA and NSEC; a wildcard its proof.
    assert_eq!(counts, ["4", "8", "5", "5", "5", "6", "4", "3", "2"], "{told}");
}

/// A client of another QUIC stack; with its session ticket it comes back in 0-RTT, where that is offered.
#[test]
fn aioquic_asks_at_once_and_comes_back() {
    if !have_python() {
        return;
    }
    let gateway = Gateway::start();
    // In the cache: a hundred executions at once, of a debug build, might not be done in time.
    gateway.server.ok("quic", &["query", "alice.ghost", "A"]);
    let (ca, port) = (gateway.ca(), gateway.port("quic"));
    let output = python("doq.py", &[ca.to_str().unwrap(), &port, "alice.ghost", "192.0.2.1", "192.0.2.2"], "");
    let told = text(&output);
    let early = told.strip_prefix("100 answered at once; resumed; early data ").expect(&told).trim();
    assert_eq!(early, "accepted", "{told}");
}

/// Queries that ended well, by the transport they came over.
fn answered(gateway: &Gateway, transport: &str) -> u64 {
    let metrics = http_get(gateway.server.port("metrics"), "/metrics");
    let (begin, outcome) = (format!("ghostplane_queries_total{{transport=\"{transport}\","), "outcome=\"noerror\"} ");
    let counts = metrics.lines().filter(|line| line.starts_with(&begin)).filter_map(|line| line.split_once(outcome));
    counts.map(|(_, count)| count.parse::<u64>().unwrap()).sum()
}

/// ngtcp2's client over HTTP/3: once, once more with what it kept of the first connection, and over a lossy path.
#[test]
fn gtlsclient_asks_over_http3() {
    if !have(&["gtlsclient"]) {
        return;
    }
    let gateway = Gateway::start();
    let port = gateway.port("h3");
    let query = data_encoding::BASE64URL_NOPAD.encode(&crate::support::query("alice.ghost", "A", 0));
    let url = format!("https://localhost:{port}/dns-query?dns={query}");
    let at = |name: &str| gateway.dir.path().join(name).to_str().unwrap().to_owned();
    let kept = [format!("--session-file={}", at("session")), format!("--tp-file={}", at("parameters"))];
    let lossy = ["--tx-loss=0.1", "--rx-loss=0.1"].map(str::to_owned);
    for (run, options) in [&kept, &kept, &lossy].into_iter().enumerate() {
        let folder = at(&format!("run{run}"));
        std::fs::create_dir(&folder).unwrap();
        let mut command = Command::new("gtlsclient");
        command.args(["--quiet", "--exit-on-all-streams-close", "--timeout=20s", "--download", &folder]).args(options);
        text(&command.args(["127.0.0.1", &port, &url]).output().unwrap());
        let file = Path::new(&folder).join(format!("dns-query?dns={query}"));
        let told = std::fs::read(file).unwrap();
        assert!([1, 2].iter().all(|last| told.windows(4).any(|octets| octets == [192, 0, 2, *last])), "{told:?}");
    }
    assert_eq!(answered(&gateway, "h3"), 3);
}

/// The built-in zones, and one more that is like `ghost` but for its name.
fn zones_and(tld: &str) -> tempfile::TempDir {
    let zones = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/zones")).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        std::fs::write(zones.path().join(name), &text).unwrap();
        if let Some(ending) = name.strip_prefix("ghost.") {
            let text = text.replace("ghost", tld).replace(&format!("contract = \"{tld}\""), "contract = \"ghost\"");
            std::fs::write(zones.path().join(format!("{tld}.{ending}")), text).unwrap();
        }
    }
    zones
}

/// A server's DNS stamp for DoH: address, host name, path; no certificate is pinned.
fn doh_stamp(port: &str) -> String {
    let mut stamp = vec![2, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut push = |field: &str| {
        stamp.push(field.len() as u8);
        stamp.extend_from_slice(field.as_bytes());
    };
    push(&format!("127.0.0.1:{port}"));
    push("");
    push(&format!("localhost:{port}"));
    push("/dns-query");
    format!("sdns://{}", data_encoding::BASE64URL_NOPAD.encode(&stamp))
}

#[test]
fn dnscrypt_proxy_forwards_over_http3() {
    if !have(&["dnscrypt-proxy", "dig"]) {
        return;
    }
    // It takes a server for a liar that does not say NXDOMAIN to a random name under test.dnscrypt.
    let zones = zones_and("dnscrypt");
    let gateway = Gateway::start_with(&["--zones", zones.path().to_str().unwrap()]);
    let port = free_port();
    let config = format!(
        "listen_addresses = ['127.0.0.1:{port}']\nserver_names = ['us']\nhttp3 = true\nnetprobe_timeout = 0\ncache = false\n\
         [static.us]\nstamp = '{}'\n",
        doh_stamp(&gateway.port("h3"))
    );
    let file = gateway.dir.path().join("dnscrypt-proxy.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new("dnscrypt-proxy");
    command.env("SSL_CERT_FILE", gateway.ca()).arg("-config").arg(file);
    let _proxy = Daemon::start(command, "Now listening");
    for (name, rtype, expected) in SHORT {
        let port = port.to_string();
        let mut dig = Command::new("dig");
        // Until it has looked at the server, it does not answer.
        dig.args(["@127.0.0.1", "-p", &port, "+short", "+tries=6", "+time=5", name, rtype]);
        let told = text(&dig.output().unwrap());
        // Of a try that was too early it says so, in a comment.
        let told: Vec<&str> = lines(&told).into_iter().filter(|line| !line.starts_with(";;")).collect();
        assert_eq!(told, expected, "{name} {rtype}");
    }
    assert!(answered(&gateway, "h3") >= 4);
}

/// A page on loopback that says so, to whoever asks.
fn page() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 4_096];
            let page = "<p>found by name</p>";
            let length = page.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{page}"
            );
            // A browser opens connections that it does not use.
            let _ = stream.read(&mut request).and_then(|_| stream.write_all(answer.as_bytes()));
        }
    });
    port
}

/// A browser whose only resolver we are finds a page by its name.
#[test]
fn chromium_resolves_over_https_and_http3() {
    if !have(&["chromium", "certutil", "timeout"]) {
        return;
    }
    let gateway = Gateway::start();
    gateway.server.ok("https", &["record", "set", "web.alice.ghost", "A", "127.0.0.1"]);
    let (resolver, page) = (format!("127.0.0.1:{}", gateway.port("https")), page());
    let forced = format!("--origin-to-force-quic-on={resolver}");
    for (transport, flags) in [("https", &["--disable-quic"][..]), ("h3", &["--enable-quic", &forced])] {
        let home = tempfile::tempdir().unwrap();
        let database = home.path().join(".pki/nssdb");
        std::fs::create_dir_all(&database).unwrap();
        let database = format!("sql:{}", database.display());
        let certutil =
            |args: &[&str]| text(&Command::new("certutil").args(["-d", &database]).args(args).output().unwrap());
        certutil(&["-N", "--empty-password"]);
        certutil(&["-A", "-n", "ghostplane", "-t", "C,,", "-i", gateway.ca().to_str().unwrap()]);
        let profile = home.path().join("profile");
        std::fs::create_dir(&profile).unwrap();
        let state =
            format!("{{\"dns_over_https\":{{\"mode\":\"secure\",\"templates\":\"https://{resolver}/dns-query\"}}}}");
        std::fs::write(profile.join("Local State"), state).unwrap();
        let mut command = Command::new("timeout");
        command.args(["120", "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
        command.args(["--no-first-run", "--disable-background-networking", "--dump-dom"]).args(flags);
        command.arg(format!("--user-data-dir={}", profile.display())).env("HOME", home.path());
        let before = answered(&gateway, transport);
        let shown = text(&command.arg(format!("http://web.alice.ghost:{page}/")).output().unwrap());
        assert!(shown.contains("found by name"), "{transport}: {shown}");
        assert!(answered(&gateway, transport) > before, "{transport}");
    }
}
