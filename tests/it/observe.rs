//! What an operator sees of queries: histograms, dnstap, traces, and all of it on one page.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::clients::have;
use crate::process::{Daemon, PROGRAM, Server, http_get, local};
use crate::support::{DO, eventually, query};

/// The value of the first line of the exposition that begins so.
fn value(server: &Server, line: &str) -> u64 {
    let text = http_get(server.port("metrics"), "/metrics");
    let found = text.lines().find_map(|found| found.strip_prefix(line));
    found.unwrap_or_else(|| panic!("no {line} in {text}")).trim().parse().unwrap()
}

fn count_of(server: &Server, path: &str, stage: &str) -> u64 {
    value(server, &format!("ghostplane_query_stage_seconds_count{{path=\"{path}\",stage=\"{stage}\"}}"))
}

/// Asks over UDP and waits for each answer.
fn ask(server: &Server, name: &str, times: usize) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, server.port("udp"))).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    for _ in 0..times {
        socket.send(&query(name, "A", DO)).unwrap();
        assert!(socket.recv(&mut [0; 4_096]).unwrap() > 12);
    }
}

/// A config file with these lines.
fn config(dir: &Path, lines: &str) -> String {
    let path = dir.join("config.toml");
    std::fs::write(&path, lines).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn every_miss_is_timed_and_one_hit_of_many() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &["--cores", "1"]);
    ask(&server, "nobody.ghost", 1);
    // Counted when it has been sent, which is after it has arrived now and then.
    eventually(|| count_of(&server, "miss", "total") == 1);
    for stage in ["queue", "contract", "sign", "send", "total"] {
        assert_eq!(count_of(&server, "miss", stage), 1, "{stage}");
    }
    ask(&server, "nobody.ghost", 128);
    eventually(|| count_of(&server, "hit", "total") == 2);
    for stage in ["parse", "cache", "send", "total"] {
        assert_eq!(count_of(&server, "hit", stage), 2, "{stage}");
    }
    let queries = "ghostplane_queries_total{transport=\"udp\",tld=\"ghost\",outcome=\"noerror\"}";
    assert_eq!(value(&server, queries), 129);
}

/// One line of dnstap-read for every message: time, type, client, direction, server, protocol, length, question.
fn read_dnstap(file: &Path) -> Vec<Vec<String>> {
    let output = Command::new("dnstap-read").arg(file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn bind_reads_what_dnstap_writes_to_a_file() {
    if !have(&["dnstap-read"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tap = dir.path().join("queries.tap");
    std::fs::write(&tap, "of another day").unwrap();
    let config = config(dir.path(), &format!("[dnstap]\nfile = {tap:?}\n"));
    let server = Server::start_with(&dir.path().join("data"), &["--config", &config]);
    let transports = [("udp", "UDP"), ("tcp", "TCP"), ("tls", "DOT"), ("quic", "DOQ"), ("https", "DOH"), ("h3", "DOH")];
    for (via, _) in transports {
        server.ok(via, &["query", &format!("{via}.ghost"), "TXT", "--via", via]);
    }
    assert!(server.terminate().success());
    assert_eq!(std::fs::read_to_string(dir.path().join("queries.tap.old")).unwrap(), "of another day");
    let lines = read_dnstap(&tap);
    for (via, protocol) in transports {
        let about = format!("{via}.ghost/IN/TXT");
        let of_it: Vec<_> = lines.iter().filter(|line| line.last() == Some(&about)).collect();
        assert_eq!(of_it.iter().map(|line| line[2].as_str()).collect::<Vec<_>>(), ["AQ", "AR"], "{lines:?}");
        // The reader of BIND 9.18 takes whatever it does not know for UDP; the unit tests know the numbers.
        let told = |line: &&&Vec<String>| line.iter().any(|word| word == protocol || word == "UDP" && via != "tcp");
        assert!(of_it.iter().all(|line| told(&line)), "{of_it:?}");
        assert!(of_it.iter().all(|line| line[3].starts_with("127.0.0.0:")), "{of_it:?}");
    }
}

#[test]
fn a_stock_reader_at_a_socket_gets_what_is_asked_for() {
    if !have(&["fstrm_capture", "dnstap-read"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (socket, captured) = (dir.path().join("tap.sock"), dir.path().join("captured"));
    let lines =
        format!("[dnstap]\nsocket = {socket:?}\nsample = \"1/2\"\ntypes = [\"AUTH_RESPONSE\"]\naddresses = \"full\"");
    let config = config(dir.path(), &lines);
    let mut capture = Command::new("fstrm_capture");
    capture.args(["-dddd", "-t", "protobuf:dnstap.Dnstap", "-u"]).arg(&socket).arg("-w").arg(&captured);
    let mut capture = Daemon::start(capture, "opened output file");
    let server = Server::start_with(&dir.path().join("data"), &["--config", &config, "--cores", "1"]);
    ask(&server, "alice.ghost", 10);
    // The last messages are with the reader when the server has ended: it waits for FINISH.
    assert!(server.terminate().success());
    capture.interrupt();
    let lines = read_dnstap(&captured);
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines.iter().all(|line| line[2] == "AR" && line[3].starts_with("127.0.0.1:")), "{lines:?}");
}

#[test]
fn nobody_waits_for_a_reader_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), &format!("[dnstap]\nsocket = {:?}\n", dir.path().join("nobody.sock")));
    let server = Server::start_with(&dir.path().join("data"), &["--config", &config]);
    ask(&server, "alice.ghost", 10);
    eventually(|| value(&server, "ghostplane_dnstap_dropped_total") >= 20);
    assert_eq!(value(&server, "ghostplane_dnstap_written_total"), 0);
    assert!(server.terminate().success());
}

/// A collector that answers one request: what it was sent, to which path.
fn collect(listener: &TcpListener) -> (String, serde_json::Value) {
    let mut stream = BufReader::new(listener.accept().unwrap().0);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_ascii_lowercase());
    }
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
    assert!(head.contains(&"content-type: application/json".to_owned()));
    (head[0].clone(), serde_json::from_slice(&body).unwrap())
}

#[test]
fn a_collector_gets_spans_with_their_stages_inside() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let collector = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let config = config(dir.path(), &format!("[trace]\nsample = 1\notlp = \"{collector}\"\n"));
    let server = Server::start_with(&dir.path().join("data"), &["--config", &config]);
    ask(&server, "alice.ghost", 1);
    let (request, body) = collect(&listener);
    assert!(request.starts_with("post /v1/traces "), "{request}");
    let spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
    let time = |span: &serde_json::Value, key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap();
    let [query, stages @ ..] = &spans[..] else { panic!("{body}") };
    let names: Vec<_> = stages.iter().map(|span| span["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["parse", "cache", "queue", "contract", "sign", "send"]);
    for stage in stages {
        assert_eq!((&stage["traceId"], &stage["parentSpanId"]), (&query["traceId"], &query["spanId"]));
        assert!(time(stage, "startTimeUnixNano") >= time(query, "startTimeUnixNano"), "{body}");
        assert!(time(stage, "endTimeUnixNano") <= time(query, "endTimeUnixNano"), "{body}");
    }
    let attribute = |key: &str| {
        let all = query["attributes"].as_array().unwrap();
        all.iter().find(|found| found["key"] == key).unwrap()["value"]["stringValue"].clone()
    };
    assert_eq!(
        (attribute("dns.question.name"), attribute("client.address")),
        ("alice.ghost.".into(), "127.0.0.0".into())
    );
    eventually(|| value(&server, "ghostplane_traces_exported_total") > 0);
}

#[test]
fn top_shows_what_a_server_does() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(dir.path(), &["--cores", "1"]);
    let metrics = format!("127.0.0.1:{}", server.port("metrics"));
    let mut top = Command::new(PROGRAM);
    let mut top = top.args(["top", "--json", "--metrics", &metrics]).stdout(Stdio::piped()).spawn().unwrap();
    // Queries go on while it looks: sooner or later an interval has some in it, misses and hits.
    let mut lines = BufReader::new(top.stdout.take().unwrap()).lines();
    let seen = (0..10).find_map(|round| {
        ask(&server, &format!("round{round}.ghost"), 200);
        let view: serde_json::Value = serde_json::from_str(&lines.next()?.unwrap()).unwrap();
        (view["latency"]["miss"]["total"]["p50"].is_number() && view["hit_ratio"].is_number()).then_some(view)
    });
    top.kill().unwrap();
    top.wait().unwrap();
    let view = seen.expect("an interval with queries in it");
    assert!(view["by_transport"]["udp"].as_f64().unwrap() > 0.0 && view["by_transport"]["tcp"] == 0.0, "{view}");
    assert_eq!(view["by_tld"]["ghost"], view["queries"]);
    assert!(view["hit_ratio"].as_f64().unwrap() > 0.5, "{view}");
    assert!(view["memory_bytes"].as_f64().unwrap() > 1e6 && view["cpu_cores"].is_number(), "{view}");
    let text = local(&["top", "--once", "--metrics", &metrics]);
    assert!(text.starts_with(&metrics) && text.contains("miss  contract"), "{text}");
    drop(server);
    let gone = Command::new(PROGRAM).args(["top", "--once", "--metrics", &metrics]).output().unwrap();
    assert!(!gone.status.success() && String::from_utf8_lossy(&gone.stderr).contains("cannot connect"));
}
