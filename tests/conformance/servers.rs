//! Servers to judge when none is given: ours, and Knot DNS and unbound where they are in PATH.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::{Target, read_roots};

/// What all of them answer.
const NAME: &str = "alice.ghost";
const LARGE: &str = "large.alice.ghost";
const ZONE: &str = "ghost";
/// How long a server may take to be ready.
const START: Duration = Duration::from_secs(20);

/// A server process, and the folder of its files.
pub struct Server {
    child: Child,
    dir: tempfile::TempDir,
}

impl Server {
    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn stop(&mut self) {
        // Has ended already if it crashed, and the cases have said so.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Our own program with a name of a few records.
pub fn ours() -> (Server, Target) {
    let program = env!("CARGO_BIN_EXE_ghostplane");
    let dir = tempfile::tempdir().unwrap();
    let mut serve = Command::new(program);
    serve.args(["serve", "--dev", "--port-base", "0", "--log-level", "warn", "--data"]).arg(dir.path());
    let mut child = serve.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut ports = std::collections::HashMap::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap) {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["listening", service, addr] => drop(ports.entry(service.to_owned()).or_insert(addr.to_owned())),
            _ => break,
        }
    }
    let server = Server { child, dir };
    let texts = texts();
    let large: Vec<&str> =
        ["record", "set", LARGE, "TXT"].into_iter().chain(texts.iter().map(String::as_str)).collect();
    for args in [&["name", "register", NAME][..], &["record", "set", NAME, "A", "192.0.2.1"], &large] {
        let mut command = Command::new(program);
        command.args(args).args(["--server", &ports["https"], "--data"]).arg(server.dir.path());
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {output:?}");
    }
    let target = target(&server, ports["quic"].parse().unwrap(), Some(ZONE));
    (server, target)
}

/// TXT records, no two alike, of about 5,000 octets in all.
fn texts() -> Vec<String> {
    (10..34).map(|n| n.to_string().repeat(100)).collect()
}

fn target(ours: &Server, server: SocketAddr, zone: Option<&str>) -> Target {
    Target {
        server,
        hostname: "localhost".to_owned(),
        roots: Some(read_roots(&ours.file("ca.pem")).unwrap()),
        name: NAME.to_owned(),
        large: Some(LARGE.to_owned()),
        zone: zone.map(str::to_owned),
    }
}

type Started = Option<(&'static str, Server, Target)>;

/// Knot DNS, with a zone of the same names and our certificate.
pub fn knot(ours: &Server) -> Started {
    if !have("knotd") {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let large: String = texts().iter().map(|text| format!("{LARGE}. 300 IN TXT {text}\n")).collect();
    let zone = format!(
        "$ORIGIN {ZONE}.\n@ 300 IN SOA ns hostmaster 2 3600 600 86400 300\n@ 300 IN NS ns\nns 300 IN A 192.0.2.53\n\
         {NAME}. 300 IN A 192.0.2.1\n{large}"
    );
    std::fs::write(dir.path().join("ghost.zone"), zone).unwrap();
    let config = format!(
        "server:\n  listen-quic: 127.0.0.1@{port}\n  rundir: {dir}\n  user: root\n  cert-file: {cert}\n  \
         key-file: {key}\nlog:\n  - target: stderr\n    any: info\ndatabase:\n  storage: {dir}\nacl:\n  - id: loopback\n    \
         address: 127.0.0.1\n    action: transfer\nzone:\n  - domain: {ZONE}\n    storage: {dir}\n    \
         file: ghost.zone\n    acl: loopback\n",
        dir = dir.path().display(),
        cert = ours.file("tls.pem").display(),
        key = ours.file("tls.key").display(),
    );
    let mut command = Command::new("knotd");
    command.arg("-c").arg(written(dir.path(), "knot.conf", &config));
    let server = Server { child: ready(command, "server started")?, dir };
    Some(("Knot DNS", server, target(ours, (Ipv4Addr::LOCALHOST, port).into(), Some(ZONE))))
}

/// unbound, which knows the names by itself and asks nobody; it has no zone to transfer.
pub fn unbound(ours: &Server) -> Started {
    if !have("unbound") || !has_quic("unbound") {
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let large: String = texts().iter().map(|text| format!(" local-data: '{LARGE}. 300 IN TXT {text}'\n")).collect();
    let config = format!(
        "server:\n interface: 127.0.0.1@{port}\n quic-port: {port}\n port: {port}\n do-daemonize: no\n chroot: \"\"\n \
         username: \"\"\n directory: \"{dir}\"\n pidfile: \"\"\n use-syslog: no\n verbosity: 1\n \
         tls-service-key: \"{key}\"\n tls-service-pem: \"{cert}\"\n local-zone: \".\" static\n \
         local-data: '{NAME}. 300 IN A 192.0.2.1'\n{large}remote-control:\n control-enable: no\n",
        dir = dir.path().display(),
        cert = ours.file("tls.pem").display(),
        key = ours.file("tls.key").display(),
    );
    let mut command = Command::new("unbound");
    command.arg("-d").arg("-c").arg(written(dir.path(), "unbound.conf", &config));
    let server = Server { child: ready(command, "start of service")?, dir };
    Some(("unbound", server, target(ours, (Ipv4Addr::LOCALHOST, port).into(), None)))
}

/// True if the tool is in PATH. With GHOSTPLANE_NO_SKIP set (CI) it has to be.
fn have(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(tool).is_file());
    assert!(
        found || std::env::var_os("GHOSTPLANE_NO_SKIP").is_none(),
        "no {tool}; run .ci/tools and source target/ci/env"
    );
    if !found {
        eprintln!("skipped: no {tool}");
    }
    found
}

/// True if it was built with ngtcp2: Debian's unbound 1.26 is not, so CI cannot insist on it.
fn has_quic(tool: &str) -> bool {
    let version = Command::new(tool).arg("-V").output().unwrap();
    let found = String::from_utf8_lossy(&version.stdout).contains("ngtcp2");
    if !found {
        eprintln!("skipped: no {tool} with QUIC");
    }
    found
}

fn written(dir: &Path, name: &str, text: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
    path
}

/// Starts a server in the foreground and waits until it says this; none, and a word about it, if it does not.
fn ready(mut command: Command, words: &'static str) -> Option<Child> {
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut child = command.spawn().unwrap();
    // It holds ends of the pipe to write to: with them open here, the reader would never see the end.
    drop(command);
    let (sender, receiver) = mpsc::channel();
    // Reads to the end: whatever the server says later must not fill the pipe.
    std::thread::spawn(move || {
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            // Nobody listens any more once it was ready.
            let _ = sender.send(line);
        }
    });
    let (until, mut said) = (Instant::now() + START, String::new());
    while let Ok(line) = receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
        if line.contains(words) {
            return Some(child);
        }
        said += &line;
        said.push('\n');
    }
    let _ = child.kill();
    let _ = child.wait();
    eprintln!("skipped: it does not start, it says:\n{said}");
    None
}

/// A UDP port that was free a moment ago.
fn free_port() -> u16 {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}
