//! The program itself: started, asked, stopped, killed.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ghostplane::cli::client::{RpcClient, Target, load_roots};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_ghostplane");

/// A running `ghostplane serve --dev`, killed when dropped.
pub struct Server {
    child: Child,
    /// First port of each service, by its name in the output.
    ports: HashMap<String, u16>,
    data: std::path::PathBuf,
}

/// Runs a command of the program that needs no server and must succeed; gives what it prints, without the last line's end.
pub fn local(args: &[&str]) -> String {
    let output = Command::new(PROGRAM).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Server {
    /// Starts it over a data directory and waits until it is ready.
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    pub fn start_with(data: &Path, args: &[&str]) -> Self {
        Self::launch(Command::new(PROGRAM), data, args)
    }

    /// Starts it with so many KiB of address space.
    pub fn start_within(kib: u64, data: &Path) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("ulimit -v {kib} && exec \"$0\" \"$@\""), PROGRAM]);
        Self::launch(shell, data, &[])
    }

    fn launch(mut command: Command, data: &Path, args: &[&str]) -> Self {
        command.args(["serve", "--dev", "--log-level", "warn", "--data"]).arg(data).args(args);
        if !args.contains(&"--port-base") {
            command.args(["--port-base", "0"]);
        }
        Self::ready(command, data)
    }

    /// The same with so many descriptors.
    pub fn start_limited(data: &Path, descriptors: u32, args: &[&str]) -> Self {
        Self::ready(crate::hostile::network::limited_command(data, descriptors, args), data)
    }

    fn ready(mut command: Command, data: &Path) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut ports = HashMap::new();
        let mut ready = false;
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap) {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                ["listening", service, addr] => {
                    let addr: SocketAddr = addr.parse().unwrap();
                    ports.entry(service.to_owned()).or_insert(addr.port());
                }
                ["ready"] => {
                    ready = true;
                    break;
                }
                _ => panic!("{line:?}"),
            }
        }
        assert!(ready, "the server ended before it was ready: {:?}", child.wait());
        Self { child, ports, data: data.to_owned() }
    }

    pub fn port(&self, service: &str) -> u16 {
        self.ports[service]
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn target(&self, service: &str) -> Target {
        Target {
            addr: (Ipv4Addr::LOCALHOST, self.port(service)).into(),
            host: "127.0.0.1".to_owned(),
            roots: Some(load_roots(&self.data.join("ca.pem")).unwrap()),
            timeout: Duration::from_secs(20),
            sessions: None,
        }
    }

    pub fn rpc(&self) -> RpcClient {
        RpcClient::connect(&self.target("https")).unwrap()
    }

    /// Runs a command of the program against this server; `via` names the service it talks to.
    pub fn run(&self, service: &str, args: &[&str]) -> Output {
        let server = format!("127.0.0.1:{}", self.port(service));
        let mut command = Command::new(PROGRAM);
        command.args(args).args(["--server", &server, "--data"]).arg(&self.data);
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// Runs a command that must succeed; gives what it prints.
    pub fn ok(&self, service: &str, args: &[&str]) -> String {
        let output = self.run(service, args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// SIGKILL: nothing of the process has time for anything.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// SIGTERM, and how it ended.
    pub fn terminate(mut self) -> ExitStatus {
        self.signal("TERM");
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Has ended already where a test waited for it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that others wrote, in the foreground; killed when dropped.
pub struct Daemon(Child);

impl Daemon {
    /// Starts it and waits until it says `ready` on standard output or error.
    pub fn start(mut command: Command, ready: &str) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
        let child = command.spawn().unwrap();
        // It holds ends of the pipe to write to: with them open here, the reader would never see the end.
        drop(command);
        let mut log = BufReader::new(reader);
        let mut seen = String::new();
        while !seen.contains(ready) {
            assert!(log.read_line(&mut seen).unwrap() > 0, "it ended before it was ready: {seen}");
        }
        // Whatever it says later must not fill the pipe.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self(child)
    }
}

impl Daemon {
    /// SIGINT, and waits until it has ended.
    pub fn interrupt(&mut self) {
        let status = Command::new("kill").args(["-s", "INT", &self.0.id().to_string()]).status().unwrap();
        assert!(status.success());
        self.0.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It has ended already if it crashed, and a test has said so.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago, for UDP and TCP: below those that the kernel chooses from, so that no server that lets
/// it choose takes it meanwhile, and each once.
pub fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let port = 30_000 + (number % 2_700) as u16;
        if is_free(port) {
            return port;
        }
    }
}

fn is_free(port: u16) -> bool {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// The first of four ports that were free a moment ago, below those that the kernel chooses from.
pub fn free_port_base() -> String {
    let first = 16_000 + std::process::id() as u16 % 2_000 * 4;
    let base = (first..29_996).step_by(4).find(|base| (*base..base + 4).all(is_free));
    base.expect("four free ports").to_string()
}

/// What a plain HTTP server on loopback answers.
pub fn http_get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
