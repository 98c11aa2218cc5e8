//! Whoever can send packets, in whoever's name: floods that are to hit others, idle connections, a machine that has nothing
//! left, and keys that are gone.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::num::NonZeroU32;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use ghostplane::api::Rpc;
use ghostplane::gateway::{Client, Transport};
use ghostplane::metrics::{Metrics, Outcome, Trouble};
use ghostplane::node::{self, Node};
use ghostplane::op::CodeHash;
use ghostplane::server::{self, Addrs, ServerConfig, Service};
use ghostplane::transport::Shutdown;
use ghostplane::transport::admission::Limits;
use ghostplane::transport::tls::Identity;
use ghostplane::wire::{Rcode, Reply};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::process::{PROGRAM, Server, http_get};
use crate::support::{CO, DO, Person, START, Told, World, eventually, name, query, server_config};

// --- A world behind sockets ---------------------------------------------------------------------------

struct Served {
    addrs: Addrs,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    /// With limits that hold for loopback, too.
    fn start(node: &Node, limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::development(dir.path(), SystemTime::now()).unwrap();
        let config = ServerConfig { limits, ..server_config(identity) };
        let (gateway, rpc) = (node.gateway.clone(), Arc::new(Rpc::start(node.service.clone()).unwrap()));
        let (metrics, shutdown) = (node.metrics.clone(), Shutdown::default());
        let (sender, ready) = mpsc::channel();
        let (told, stopping) = (metrics.clone(), shutdown.clone());
        let thread = std::thread::spawn(move || {
            let on_ready = |addrs: &Addrs| sender.send(addrs.clone()).unwrap();
            server::run(config, gateway, rpc, told, on_ready, stopping).unwrap();
        });
        Self { addrs: ready.recv().unwrap(), metrics, shutdown, thread: Some(thread) }
    }

    fn udp(&self) -> UdpSocket {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(self.addrs.of(Service::Udp).unwrap()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        socket
    }

    /// Queries over UDP that have been answered, whatever became of the answers.
    fn answered(&self) -> u64 {
        [Outcome::NoError, Outcome::NxDomain].map(|outcome| self.metrics.queries(Transport::Udp, outcome)).iter().sum()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.trigger();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut datagram = [0; 4_096];
    let length = socket.recv(&mut datagram).unwrap();
    datagram[..length].to_vec()
}

/// A query with more in its OPT record.
fn with_option(mut message: Vec<u8>, code: u16, data: &[u8]) -> Vec<u8> {
    let length = message.len();
    let before = u16::from_be_bytes([message[length - 2], message[length - 1]]);
    assert_eq!(before, 0, "one option only");
    message[length - 2..].copy_from_slice(&(4 + data.len() as u16).to_be_bytes());
    message.extend(code.to_be_bytes());
    message.extend((data.len() as u16).to_be_bytes());
    message.extend(data);
    message
}

/// Without an OPT record.
fn bare(mut message: Vec<u8>) -> Vec<u8> {
    message.truncate(message.len() - 11);
    message[11] = 0;
    message
}

const COOKIE: u16 = 10;
const SUBNET: u16 = 8;

fn is_truncated(message: &[u8]) -> bool {
    message[2] & 2 != 0
}

/// A signed name with much at it, and at whatever is below it.
fn plump(world: &mut World) -> Person {
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.ghost");
    world.sign(&mut alice, "alice.ghost").unwrap();
    let long = "x".repeat(250);
    let texts = [long.as_str(), &long[..249], &long[..248], &long[..247]];
    for owner in ["alice.ghost", "*.w.alice.ghost"] {
        world.put(&mut alice, owner, "TXT", &texts).unwrap();
    }
    world.put(&mut alice, "www.alice.ghost", "A", &["192.0.2.1"]).unwrap();
    world.put(&mut alice, "alias.alice.ghost", "CNAME", &["x.w.alice.ghost."]).unwrap();
    alice
}

/// T13. Whatever is asked, with whatever options, over UDP without a cookie.
#[test]
fn nothing_that_is_asked_over_udp_gets_more_than_three_octets_for_one() {
    let mut world = World::new();
    plump(&mut world);
    let open = NonZeroU32::new(1_000_000).unwrap();
    let limits = Limits { responses_per_second: open, network_responses_per_second: open, ..Limits::default() };
    let served = Served::start(&world.node, limits);
    let socket = served.udp();
    let mut asked = Vec::new();
    for owner in
        ["alice.ghost", "r1.w.alice.ghost", "www.alice.ghost", "alias.alice.ghost", "no.alice.ghost", "no.ghost"]
    {
        for rtype in ["TXT", "A", "DNSKEY", "SOA", "NS", "ANY", "NSEC", "DS", "HTTPS"] {
            for flags in [0, DO, DO | CO] {
                asked.push(query(owner, rtype, flags));
            }
            asked.push(bare(query(owner, rtype, 0)));
            asked.push(with_option(query(owner, rtype, DO), COOKIE, &[7; 8]));
            // A cookie that is none of ours.
            asked.push(with_option(query(owner, rtype, DO), COOKIE, &[7; 24]));
            asked.push(with_option(query(owner, rtype, DO), SUBNET, &[0, 1, 24, 0, 192, 0, 2]));
        }
    }
    for (owner, rtype) in [("ghost", "DNSKEY"), ("ghost", "SOA"), ("a.example", "A"), ("ghost", "AXFR")] {
        asked.extend([query(owner, rtype, DO), bare(query(owner, rtype, 0))]);
    }
    let mut bad_version = query("alice.ghost", "A", 0);
    let at = bad_version.len() - 5;
    bad_version[at] = 1;
    asked.push(bad_version);
    let (mut sent, mut received) = (0, 0);
    for message in &asked {
        socket.send(message).unwrap();
        let answer = receive(&socket);
        let told = Told::read(&Reply::new(answer.clone(), Rcode::NoError));
        assert!(answer.len() <= 3 * message.len(), "{} for {}: {told:?}", answer.len(), message.len());
        (sent, received) = (sent + message.len(), received + answer.len());
    }
    assert!(received <= 3 * sent && served.metrics.responses_cut.get() > 50);
    // Short answers come as ever.
    socket.send(&query("www.alice.ghost", "A", 0)).unwrap();
    let answer = receive(&socket);
    assert!(!is_truncated(&answer) && answer[7] == 1);
    // A client that comes back with the cookie gets all of it.
    socket.send(&with_option(query("r2.w.alice.ghost", "TXT", 0), COOKIE, &[7; 8])).unwrap();
    let first = receive(&socket);
    let cookie = cookie_of(&first);
    assert!(is_truncated(&first) && Told::read(&Reply::new(first, Rcode::NoError)).rcode == 23);
    socket.send(&with_option(query("r2.w.alice.ghost", "TXT", 0), COOKIE, &cookie)).unwrap();
    let whole = receive(&socket);
    assert!(!is_truncated(&whole) && whole.len() > 1_000);
}

/// The cookie in a reply whose OPT record has no other option.
fn cookie_of(reply: &[u8]) -> [u8; 24] {
    let at = reply.len() - 24;
    assert_eq!(reply[at - 4..at], [0, 10, 0, 24], "{reply:02x?}");
    reply[at..].try_into().unwrap()
}

/// How many of these are kept back or cut by their rate, at least, whatever the time that it takes.
fn limited(served: &Served, messages: &[Vec<u8>], per_second: f64) -> (u64, u64) {
    let (socket, begun) = (served.udp(), Instant::now());
    let (before, answered) = (served.metrics.responses_limited.get(), served.answered());
    for (at, message) in messages.iter().enumerate() {
        socket.send(message).unwrap();
        // One after the other, so that none is lost.
        eventually(|| served.answered() == answered + at as u64 + 1);
    }
    let free = per_second * (1.0 + begun.elapsed().as_secs_f64());
    eventually(|| served.metrics.responses_limited.get() - before + free.ceil() as u64 >= messages.len() as u64);
    (served.metrics.responses_limited.get() - before, messages.len() as u64)
}

/// T13. Random labels below one wildcard are one answer, and so is whatever is not there; types make no difference.
#[test]
fn responses_are_limited_by_the_owner_that_answers() {
    let mut world = World::new();
    plump(&mut world);
    let two = NonZeroU32::new(2).unwrap();
    let open = NonZeroU32::new(1_000_000).unwrap();
    let limits = Limits {
        responses_per_second: two,
        network_responses_per_second: open,
        amplification: open,
        ..Limits::default()
    };
    let served = Served::start(&world.node, limits);
    let many = |make: &dyn Fn(usize) -> Vec<u8>| (0..40).map(make).collect::<Vec<_>>();
    for (what, messages) in [
        ("a wildcard", many(&|n| query(&format!("r{n}.w.alice.ghost"), "TXT", 0))),
        ("deeper below it", many(&|n| query(&format!("a.b.r{n}.w.alice.ghost"), "TXT", 0))),
        ("nothing there", many(&|n| query(&format!("r{n}.alice.ghost"), "A", DO))),
        ("nothing of the type", many(&|n| query(&format!("r{n}.w.alice.ghost"), ["A", "MX", "SRV"][n % 3], DO))),
        ("nothing in a TLD", many(&|n| query(&format!("r{n}.gcc"), "A", 0))),
        ("one name, any type", many(&|n| query("alice.ghost", ["TXT", "SOA", "NS", "DNSKEY"][n % 4], DO))),
    ] {
        let (limited, all) = limited(&served, &messages, 2.0);
        // Deeper below it, the wildcard has said enough; and the zone, of what is not there.
        let said = what.starts_with("deeper") || what.starts_with("nothing of");
        assert!(limited > 0 && (limited < all || said), "{what}: {limited} of {all}");
    }
}

/// T13. Five hundred names are one network's worth of answers.
#[test]
fn responses_are_limited_by_network_over_all_names() {
    let mut world = World::new();
    let mut alice = plump(&mut world);
    for n in 0..30 {
        world.put(&mut alice, &format!("h{n}.alice.ghost"), "A", &["192.0.2.1"]).unwrap();
    }
    let two = NonZeroU32::new(2).unwrap();
    let served = Served::start(&world.node, Limits { network_responses_per_second: two, ..Limits::default() });
    let messages: Vec<_> = (0..30).map(|n| query(&format!("h{n}.alice.ghost"), "A", 0)).collect();
    let (limited, all) = limited(&served, &messages, 2.0);
    assert!(limited > 0 && limited < all, "{limited} of {all}");
}

// --- Subnets ------------------------------------------------------------------------------------------

fn geo(world: &mut World) {
    let mut alice = world.person(1);
    world.register(&mut alice, "geo.gcc");
    let wasm = node::SHIPPED.iter().find(|(shipped, _)| *shipped == "geo").unwrap().1;
    let contract = world.deploy(&mut alice, wasm);
    let parameters = b"net 10.0.0.0/8 home\nregion home A 10.0.0.1\nregion default A 203.0.113.1".to_vec();
    let bind = ghostplane::op::Op::BindContract { name: name("geo.gcc"), contract: Some(contract), parameters };
    world.submit(&mut alice, bind).unwrap();
}

fn told(world: &World, client: Client, message: &[u8]) -> (Vec<u8>, Told) {
    let reply = world.node.gateway.answer(message, client).unwrap();
    (reply.wire.clone(), Told::read(&reply))
}

/// T31. Each forged source, or subnet, was an execution that the owner paid for.
#[test]
fn no_contract_is_executed_for_an_address_that_nobody_has_proven() {
    let mut world = World::new();
    geo(&mut world);
    let executions = || world.node.metrics.contract_executions.get();
    let forged = |n: u8| Client::new(Transport::Udp, IpAddr::from([10, n, 0, 1]));
    let before = executions();
    for n in 0..200 {
        let (wire, answer) = told(&world, forged(n), &query("geo.gcc", "A", 0));
        assert!(is_truncated(&wire) && answer.records.is_empty(), "{answer:?}");
        let subnet = with_option(query("geo.gcc", "A", 0), SUBNET, &[0, 1, 24, 0, 10, n, 7]);
        assert!(is_truncated(&told(&world, forged(n), &subnet).0));
        // A stranger over TCP has one address, whatever it says.
        let stranger = Client::new(Transport::Tcp, IpAddr::from([198, 51, 100, 1]));
        assert_eq!(told(&world, stranger, &subnet).1.records, ["answer geo.gcc. 300 A 203.0.113.1"]);
    }
    // Once for nobody, once for the stranger.
    assert!(executions() - before <= 2, "{}", executions() - before);
}

/// T32. A client chose its own horizon.
#[test]
fn a_subnet_is_believed_only_from_resolvers_that_the_operator_names() {
    let mut world = World::believing(&["192.0.2.53/32"]);
    geo(&mut world);
    let inside = with_option(query("geo.gcc", "A", 0), SUBNET, &[0, 1, 24, 0, 10, 1, 2]);
    let ask = |via, addr: [u8; 4], message: &[u8]| {
        let (wire, told) = told(&world, Client::new(via, addr.into()), message);
        let address = told.records.first().map(|record| record.rsplit(' ').next().unwrap().to_owned());
        (is_truncated(&wire), address.unwrap_or_default(), told.subnet)
    };
    let (resolver, stranger) = ([192, 0, 2, 53], [198, 51, 100, 1]);
    for via in [Transport::Tcp, Transport::Tls, Transport::Quic, Transport::Https, Transport::H3] {
        let believed = (false, "10.0.0.1".to_owned(), Some(vec![0, 1, 24, 8, 10, 1, 2]));
        assert_eq!(ask(via, resolver, &inside), believed);
        // As if there were no option, in the answer neither.
        assert_eq!(ask(via, stranger, &inside), (false, "203.0.113.1".to_owned(), None), "{via:?}");
    }
    // In the resolver's name, over UDP; and the resolver itself, with its cookie.
    assert_eq!(ask(Transport::Udp, resolver, &inside), (true, String::new(), None));
    let cookie = |server: &[u8]| with_option(query("geo.gcc", "A", 0), COOKIE, &[&[7; 8][..], server].concat());
    let first = told(&world, Client::new(Transport::Udp, resolver.into()), &cookie(&[])).0;
    let good = cookie_of(&first);
    assert_eq!(ask(Transport::Udp, resolver, &cookie(&good[8..])).1, "203.0.113.1");
    let mut both = inside.clone();
    let at = both.len() - 11 - 2;
    both[at..at + 2].copy_from_slice(&(11_u16 + 28).to_be_bytes());
    both.extend([0, 10, 0, 24]);
    both.extend(good);
    assert_eq!(ask(Transport::Udp, resolver, &both).1, "10.0.0.1");
    assert_eq!(ask(Transport::Udp, stranger, &both).1, "");
    // The wish not to be told apart is anybody's.
    let nobody = with_option(query("geo.gcc", "A", 0), SUBNET, &[0, 1, 0, 0]);
    let wanted = (false, "203.0.113.1".to_owned(), Some(vec![0, 1, 0, 0]));
    assert_eq!(
        [ask(Transport::Udp, stranger, &nobody), ask(Transport::Tcp, [10, 0, 0, 9], &nobody)],
        [wanted.clone(), wanted]
    );
    assert_eq!(ask(Transport::Tcp, [10, 0, 0, 9], &query("geo.gcc", "A", 0)).1, "10.0.0.1");
}

// --- Descriptors, and whether it serves ---------------------------------------------------------------

fn readyz(server: &Server) -> String {
    http_get(server.port("metrics"), "/readyz")
}

/// A connection from an address of its own.
fn connect_from(last: u8, port: u16) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let from: SocketAddr = (Ipv4Addr::new(127, 0, 1, last), 0).into();
    socket.bind(&from.into()).unwrap();
    let to: SocketAddr = (Ipv4Addr::LOCALHOST, port).into();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

/// True if the server keeps it: a query is answered.
fn is_kept(stream: &mut TcpStream) -> bool {
    use std::io::{Read as _, Write as _};
    let message = query("ghost", "SOA", 0);
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let framed = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
    stream.write_all(&framed).is_ok() && stream.read(&mut [0; 2_048]).is_ok_and(|count| count > 0)
}

/// T16. Idle connections from a few addresses took all descriptors: checkpoints and contracts failed.
#[test]
fn connections_leave_descriptors_to_the_store_the_log_and_contracts() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_limited(dir.path(), 320, &["--cores", "1"]);
    let port = server.port("tcp");
    let mut kept = Vec::new();
    let mut last = 0;
    loop {
        last += 1;
        let mut stream = connect_from(last, port);
        match is_kept(&mut stream) {
            true => kept.push(stream),
            false => break,
        }
        assert!(last < 250, "no end");
    }
    assert!(kept.len() >= 16, "{}", kept.len());
    // Nobody gets in, and everything else goes on.
    assert!(!is_kept(&mut connect_from(251, port)));
    let answer = readyz(&server);
    assert!(answer.ends_with("ready\n") && answer.starts_with("HTTP/1.1 200"), "{answer}");
    let checkpoint = || fs::read(dir.path().join("log.checkpoint")).unwrap();
    let before = checkpoint();
    // A writer needs a connection or two.
    kept.truncate(kept.len() - 3);
    eventually(|| server.run("https", &["name", "register", "late.ghost"]).status.success());
    eventually(|| checkpoint() != before);
    drop(kept);
    eventually(|| is_kept(&mut connect_from(252, port)));
}

/// T16.
#[test]
fn without_descriptors_readyz_is_red_and_green_again_when_there_are_some() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    assert!(readyz(&server).starts_with("HTTP/1.1 200"));
    let pid = Pid::from_raw(server.pid() as i32);
    let set = |current| {
        let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
        prlimit(pid, Resource::Nofile, Rlimit { current: Some(current), maximum }).unwrap().current
    };
    // A connection that is there already: no other can be accepted.
    let mut watch = Watch::open(server.port("metrics"));
    assert!(watch.get("/readyz").contains("200 OK"));
    let before = set(3).unwrap();
    let mut waiting = connect_from(1, server.port("tcp"));
    eventually(|| {
        let told = watch.get("/readyz");
        told.contains("503") && told.contains("no file descriptors are left")
    });
    eventually(|| !watch.get("/metrics").contains("ghostplane_accept_failures_total 0\n"));
    set(before);
    assert!(is_kept(&mut waiting));
    eventually(|| watch.get("/readyz").contains("200 OK"));
}

/// A kept connection to the operator's view.
struct Watch(TcpStream);

impl Watch {
    fn open(port: u16) -> Self {
        Self(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap())
    }

    fn get(&mut self, path: &str) -> String {
        use std::io::{BufRead as _, BufReader, Read as _, Write as _};
        write!(self.0, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut reader = BufReader::new(&mut self.0);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
        }
        let lower = head.to_ascii_lowercase();
        let length = lower.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        head + &String::from_utf8(body).unwrap()
    }
}

/// T16.
#[test]
fn a_limit_that_nothing_can_be_served_with_is_an_error_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let output = limited_command(dir.path(), 100, &["--cores", "1"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("may have 100 files and sockets open"), "{told}");
    assert!(told.contains("LimitNOFILE="), "{told}");
}

/// `serve --dev` with so many descriptors.
pub fn limited_command(data: &Path, descriptors: u32, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {descriptors}; exec \"$@\""), "sh", PROGRAM]);
    command.args(["serve", "--dev", "--log-level", "warn", "--port-base", "0", "--data"]).arg(data).args(args);
    command.stdin(Stdio::null());
    command
}

/// Item 7: whatever keeps the gateway from answering is told, with the reason.
#[test]
fn readyz_is_red_while_the_servers_own_question_has_no_answer() {
    let mut tlds = node::built_in_tlds().unwrap();
    // A contract that comes with the program, and is no resolver.
    let quota = node::SHIPPED.iter().find(|(shipped, _)| *shipped == "quota").unwrap().1;
    tlds.iter_mut().find(|tld| tld.policy.tld == "sig").unwrap().contract = CodeHash::of(quota);
    let broken = Node::in_memory_with(tlds, Person::new(200).id(), Arc::new(|| START)).unwrap();
    let served = Served::start(&broken, Limits::default());
    let port = served.addrs.of(Service::Metrics).unwrap().port();
    let told = http_get(port, "/readyz");
    assert!(told.starts_with("HTTP/1.1 503") && told.contains("_canary.sig. TXT: ServFail"), "{told}");
    assert!(served.metrics.health.has(Trouble::Canary));
    assert!(http_get(port, "/healthz").starts_with("HTTP/1.1 200"));
    let world = World::new();
    let served = Served::start(&world.node, Limits::default());
    let before = world.node.metrics.contract_executions.get();
    let rejected = world.node.metrics.ops_rejected.get();
    let told = http_get(served.addrs.of(Service::Metrics).unwrap().port(), "/readyz");
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    assert!(world.node.metrics.contract_executions.get() >= before + 4);
    // The writer has been asked, too.
    assert_eq!(world.node.metrics.ops_rejected.get(), rejected + 1);
}

/// Item 7: a checkpoint that cannot be written is told.
#[test]
fn readyz_is_red_while_a_checkpoint_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path());
    eventually(|| readyz(&server).starts_with("HTTP/1.1 200"));
    // Nothing can be renamed over a folder that is not empty.
    let checkpoint = dir.path().join("log.checkpoint");
    fs::remove_file(&checkpoint).unwrap();
    fs::create_dir_all(checkpoint.join("in the way")).unwrap();
    server.ok("https", &["name", "register", "alice.ghost"]);
    eventually(|| {
        let told = readyz(&server);
        told.starts_with("HTTP/1.1 503") && told.contains("a file cannot be written")
    });
    fs::remove_dir_all(&checkpoint).unwrap();
    eventually(|| readyz(&server).starts_with("HTTP/1.1 200"));
    assert!(checkpoint.is_file());
}

// --- Keys ---------------------------------------------------------------------------------------------

/// All files below a directory, with what is in them.
fn contents(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(contents(&path)),
            false if path.extension().is_some_and(|ending| ending == "sock") => {}
            false => found.push((path.clone(), fs::read(&path).unwrap())),
        }
    }
    found.sort();
    found
}

/// T21 (A7): `ready`, and all validators had bogus answers.
#[test]
fn keys_that_are_gone_are_not_made_anew_unasked() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Server::start(dir.path()).terminate().success());
    let start = |args: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.args(["serve", "--dev", "--port-base", "0", "--data"]).arg(dir.path()).args(args);
        let output = command.stdin(Stdio::null()).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let gone = ["keys/ring.json", "keys/tld-ghost.pem", "keys/online.pem", "keys/log.pem", "keys/update.pem", "ca.key"];
    for file in gone {
        fs::remove_file(dir.path().join(file)).unwrap();
    }
    let before = contents(dir.path());
    let (started, told) = start(&[]);
    assert!(!started && gone.iter().all(|file| told.contains(&format!("--new-key {file}"))), "{told}");
    assert!(contents(dir.path()) == before, "something was written");
    // An operator that insists gets new keys; the old one signed the checkpoint.
    let new_keys: Vec<&str> = gone.iter().flat_map(|file| ["--new-key", file]).collect();
    let (started, told) = start(&new_keys);
    assert!(!started && told.contains("log.checkpoint"), "{told}");
    for file in ["log.checkpoint", "log.witnessed"] {
        let _ = fs::remove_file(dir.path().join(file));
    }
    // They are there now: they were made by the start that failed.
    let server = Server::start(dir.path());
    assert!(readyz(&server).starts_with("HTTP/1.1 200"));
}
