//! What an operator sees of queries: histograms and dnstap.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::clients::have;
use crate::process::{Daemon, Server, http_get};
use crate::support::{DO, query};

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
    for stage in ["queue", "contract", "sign", "send", "total"] {
        assert_eq!(count_of(&server, "miss", stage), 1, "{stage}");
    }
    ask(&server, "nobody.ghost", 128);
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
    let mut dropped = 0;
    while dropped < 20 {
        dropped = value(&server, "ghostplane_dnstap_dropped_total");
    }
    assert_eq!(value(&server, "ghostplane_dnstap_written_total"), 0);
    assert!(server.terminate().success());
}
