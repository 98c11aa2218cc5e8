//! Ordinary names: who may ask, what is asked upstream and what is not, and what is told when upstreams fail. The upstreams
//! here are our own: they count what they are asked.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{SystemTime, UNIX_EPOCH};

use ed25519_dalek::SigningKey;
use ghostplane::config::Config;
use ghostplane::dnssec::{FLAGS_OWNER, Secret, ZoneKey};
use ghostplane::gateway::{Begun, Client, Transport};
use ghostplane::metrics::Forwarded;
use ghostplane::node::{self, Node};
use ghostplane::transport::tls::Identity;
use ghostplane::wire::{
    Answer, Builder, Message, MessageRecord, Query, Rcode, Reply, Rrset, Rtype, Section, Shape, rdata,
};

use crate::clients::have;
use crate::process::{Daemon, PROGRAM, Server, free_port, http_get};
use crate::support::{AD, CD, DO, Person, START, Told, World, name, query};

/// A DNS server over UDP and TCP on one port.
pub struct Upstream {
    port: u16,
    shared: Arc<Shared>,
}

type Zone = Box<dyn Fn(&Query) -> Option<Answer> + Send + Sync>;

struct Shared {
    zone: Zone,
    asked: Mutex<Vec<String>>,
    silent: AtomicBool,
    stopped: AtomicBool,
}

impl Upstream {
    /// Answers with what `zone` gives; with nothing for `None`.
    pub fn start(zone: impl Fn(&Query) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let port = free_port();
        let (asked, silent, stopped) = Default::default();
        let shared = Arc::new(Shared { zone: Box::new(zone), asked, silent, stopped });
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (over_udp, over_tcp) = (shared.clone(), shared.clone());
        std::thread::spawn(move || over_udp.serve_udp(&udp));
        std::thread::spawn(move || over_tcp.serve_tcp(&tcp));
        Self { port, shared }
    }

    /// `NAME TYPE` of every question so far.
    fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().unwrap().clone()
    }

    fn fall_silent(&self) {
        self.shared.silent.store(true, Ordering::Relaxed);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Wakes both threads, so that they see it.
        let poke = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        poke.send_to(b"stop", (Ipv4Addr::LOCALHOST, self.port)).unwrap();
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

impl Shared {
    fn serve_udp(self: &Arc<Self>, socket: &UdpSocket) {
        let mut buffer = [0; 4_096];
        loop {
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            let (shared, socket, message) = (self.clone(), socket.try_clone().unwrap(), buffer[..length].to_vec());
            std::thread::spawn(move || {
                if let Some(reply) = shared.answer(&message, Shape::Datagram) {
                    socket.send_to(&reply.wire, from).unwrap();
                }
            });
        }
    }

    fn serve_tcp(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            let (stream, _) = listener.accept().unwrap();
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            let shared = self.clone();
            std::thread::spawn(move || shared.serve_stream(stream));
        }
    }

    fn serve_stream(self: Arc<Self>, mut stream: TcpStream) {
        let mut length = [0; 2];
        while stream.read_exact(&mut length).is_ok() {
            let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut message).unwrap();
            let (shared, mut stream) = (self.clone(), stream.try_clone().unwrap());
            // Whoever asked may have left.
            let answer =
                move || shared.answer(&message, Shape::Stream).map(|reply| stream.write_all(&reply.framed().unwrap()));
            std::thread::spawn(answer);
        }
    }

    fn answer(&self, message: &[u8], shape: Shape) -> Option<Reply> {
        let query = Query::parse(message).ok()?;
        self.asked.lock().unwrap().push(format!("{} {}", query.name, query.rtype));
        if self.silent.load(Ordering::Relaxed) {
            return None;
        }
        let mut reply = (self.zone)(&query)?.reply(&query, shape, 0);
        // An upstream that claims what it cannot prove, and has an OPT record of its own.
        reply.wire[3] |= AD;
        Some(reply)
    }
}

/// `OWNER TTL TYPE RDATA`.
fn rrset(line: &str) -> Rrset {
    let mut words = line.splitn(4, ' ');
    let mut word = || words.next().unwrap();
    let (owner, ttl, rtype) = (name(word()), word().parse().unwrap(), word().parse().unwrap());
    Rrset::new(owner, rtype, ttl, [rdata::from_text(rtype, word(), None).unwrap()])
}

fn made(query: &Query, rcode: Rcode, answer: &[Rrset], authority: &[Rrset]) -> Answer {
    let mut builder = Builder::new(query);
    answer.iter().for_each(|rrset| builder.push(Section::Answer, rrset, rrset.ttl));
    authority.iter().for_each(|rrset| builder.push(Section::Authority, rrset, rrset.ttl));
    builder.finish(rcode, false, None)
}

fn records(query: &Query, lines: &[&str]) -> Answer {
    made(query, Rcode::NoError, &lines.iter().map(|line| rrset(line)).collect::<Vec<_>>(), &[])
}

const SOA: &str = "example. 900 SOA ns.example. hostmaster.example. 1 3600 1200 604800 600";

/// A zone that is not signed.
fn example(query: &Query) -> Option<Answer> {
    let rtype = query.rtype.to_string();
    Some(match (query.name.to_string().as_str(), rtype.as_str()) {
        ("www.example.", "A") => records(query, &["www.example. 300 A 192.0.2.1", "www.example. 300 A 192.0.2.2"]),
        ("alias.example.", "A") => {
            records(query, &["alias.example. 300 CNAME www.example.", "www.example. 60 A 192.0.2.1"])
        }
        // What is not on the way has no place in an answer.
        ("stuffed.example.", "A") => {
            records(query, &["stuffed.example. 300 A 192.0.2.1", "bank.example. 300 A 192.0.2.66"])
        }
        ("into.example.", "A") => {
            records(query, &["into.example. 300 CNAME www.alice.ghost.", "www.alice.ghost. 60 A 192.0.2.66"])
        }
        ("home.example.", "A") => {
            records(query, &["home.example. 300 CNAME nas.home.arpa.", "nas.home.arpa. 60 A 192.0.2.66"])
        }
        ("broken.example.", _) => made(query, Rcode::ServFail, &[], &[]),
        ("www.example.", _) => made(query, Rcode::NoError, &[], &[rrset(SOA)]),
        _ => made(query, Rcode::NxDomain, &[], &[rrset(SOA)]),
    })
}

/// A gateway whose clock the test turns, with these lines in its configuration.
pub fn world_with(config: &str, start: u64) -> World {
    let config = Config::from_toml(config).unwrap();
    let time = Arc::new(AtomicU64::new(start));
    let (operator, clock) = (Person::new(200), time.clone());
    let clock = Arc::new(move || clock.load(Ordering::Relaxed));
    let tlds = node::built_in_tlds().unwrap();
    let node = Node::in_memory_among(tlds, operator.id(), clock, config.mirror, config.forward).unwrap();
    World { node, time, operator }
}

/// One that forwards to `upstream` without validation.
fn world(upstream: &Upstream, more: &str) -> World {
    let port = upstream.port;
    world_with(&format!("[forward]\nupstreams = [\"udp://127.0.0.1:{port}\"]\nvalidate = false\n{more}"), START)
}

fn forwarded(world: &World, outcome: Forwarded) -> u64 {
    world.node.metrics.forwarded(outcome)
}

const SOMEBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));

#[test]
fn ordinary_names_are_resolved_for_whom_the_operator_allows() {
    let upstream = Upstream::start(example);
    let world = world(&upstream, "allow = [\"198.51.100.0/24\"]");
    let told = world.ask_plain("WWW.example", "A");
    assert_eq!(told.records, ["answer www.example. 300 A 192.0.2.1", "answer www.example. 300 A 192.0.2.2"]);
    assert!(!told.authoritative && !told.authentic && told.recursive);
    assert_eq!(world.ask_from(SOMEBODY, &query("www.example", "A", 0)).rcode, 0);
    let missing = world.ask_plain("nobody.example", "A");
    assert_eq!(
        (missing.rcode, &*missing.records[0]),
        (3, "authority example. 600 SOA ns.example. hostmaster.example. 1 3600 1200 604800 600")
    );
    assert_eq!(world.ask_plain("www.example", "AAAA").rcode, 0);
    let stranger = world.ask_from(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), &query("www.example", "A", 0));
    assert_eq!((stranger.rcode, stranger.ede.unwrap().0), (5, 18));
    let mut unwilling = query("www.example", "A", 0);
    unwilling[2] = 0;
    assert_eq!(world.ask_from(SOMEBODY, &unwilling).ede.unwrap().0, 20, "without RD, there is no recursion");
    assert_eq!((forwarded(&world, Forwarded::Refused), forwarded(&world, Forwarded::Hit)), (1, 1));
    assert_eq!(upstream.asked(), ["www.example. A", "nobody.example. A", "www.example. AAAA"]);
}

#[test]
fn without_a_forwarder_everybody_is_refused() {
    let world = world_with("", START);
    let told = world.ask_plain("www.example", "A");
    assert_eq!((told.rcode, told.ede.unwrap().0, told.recursive), (5, 20, false));
}

#[test]
fn what_is_not_asked_for_is_not_believed() {
    let upstream = Upstream::start(example);
    let world = world(&upstream, "");
    assert_eq!(world.ask_plain("stuffed.example", "A").records, ["answer stuffed.example. 300 A 192.0.2.1"]);
    let alias = world.ask_plain("alias.example", "A");
    assert_eq!(alias.records, ["answer alias.example. 300 CNAME www.example.", "answer www.example. 60 A 192.0.2.1"]);
}

#[test]
fn names_of_ours_never_leave_and_chains_cross_over() {
    let upstream = Upstream::start(example);
    let mut world = world(&upstream, "");
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.ghost");
    world.put(&mut alice, "www.alice.ghost", "A", &["192.0.2.9"]).unwrap();
    world.put(&mut alice, "out.alice.ghost", "CNAME", &["www.example."]).unwrap();
    for name in ["alice.ghost", "ALICE.GHOST", "nobody.ghost", "ghost", "x.SIG", "bc", "a.b.c.gcc"] {
        world.ask(name, "A");
        world.ask(name, "DS");
    }
    assert_eq!(upstream.asked(), Vec::<String>::new());
    // From outside to us: what an upstream says of our names does not count. Twice: from the cache, too.
    for _ in 0..2 {
        let told = world.ask_plain("into.example", "A");
        assert_eq!(
            told.records,
            ["answer into.example. 300 CNAME www.alice.ghost.", "answer www.alice.ghost. 3600 A 192.0.2.9"]
        );
        assert!(told.recursive);
    }
    // From us to outside.
    for _ in 0..2 {
        let told = world.ask_plain("out.alice.ghost", "A");
        assert_eq!(told.records[0], "answer out.alice.ghost. 3600 CNAME www.example.");
        assert_eq!(told.records.len(), 3, "{told:?}");
        assert!(told.recursive && told.authoritative);
    }
    let signed = world.ask("out.alice.ghost", "A");
    assert_eq!(signed.records[1], "answer out.alice.ghost. RRSIG(CNAME)");
    let stranger = world.ask_from(SOMEBODY, &query("out.alice.ghost", "A", 0));
    assert_eq!(stranger.records, ["answer out.alice.ghost. 3600 CNAME www.example."]);
    // A write is seen at once behind a cached alias, too.
    world.put(&mut alice, "www.alice.ghost", "A", &["192.0.2.10"]).unwrap();
    assert!(world.ask_plain("into.example", "A").records[1].ends_with("192.0.2.10"));
    assert_eq!(upstream.asked(), ["into.example. A", "www.example. A"]);
}

#[test]
fn local_zones_are_answered_here() {
    let upstream = Upstream::start(example);
    let world = world(&upstream, "");
    assert_eq!(world.ask_plain("localhost", "A").records, ["answer localhost. 10800 A 127.0.0.1"]);
    for name in ["x.onion", "x.invalid", "printer.local", "nas.home.arpa", "1.2.0.10.in-addr.arpa", "x.alt"] {
        let told = world.ask(name, "A");
        assert_eq!((told.rcode, told.records.len()), (3, 1), "{name}");
    }
    assert_eq!(upstream.asked(), Vec::<String>::new());
    assert_eq!(forwarded(&world, Forwarded::Local), 7);
    // Nobody outside can know what is there.
    for _ in 0..2 {
        let told = world.ask_plain("home.example", "A");
        assert_eq!(told.records, ["answer home.example. 300 CNAME nas.home.arpa."]);
    }
    assert_eq!(upstream.asked(), ["home.example. A"]);
}

/// The program itself: configured by a file, asked over sockets.
#[test]
fn the_server_resolves_ordinary_names_over_every_transport() {
    let upstream = Upstream::start(example);
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("gateway.toml");
    let text = format!("[forward]\nupstreams = [\"udp://127.0.0.1:{}\"]\nvalidate = false\n", upstream.port);
    std::fs::write(&config, &text).unwrap();
    let server = Server::start_with(dir.path(), &["--config", config.to_str().unwrap()]);
    for via in Transport::ALL {
        let said = server.ok(via.text(), &["query", "www.example", "A", "--via", via.text(), "--short"]);
        assert_eq!(said, "192.0.2.1\n192.0.2.2\n", "{via:?}");
    }
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.send_to(&query("www.example", "A", 0), (Ipv4Addr::LOCALHOST, server.port("udp"))).unwrap();
    let mut buffer = [0; 4_096];
    let length = socket.recv(&mut buffer).unwrap();
    let told = Told::read(&Reply::new(buffer[..length].to_vec(), Rcode::NoError));
    assert!(told.recursive && !told.authoritative && told.records.len() == 2, "{told:?}");
    assert_eq!(upstream.asked(), ["www.example. A"]);
    let scraped = http_get(server.port("metrics"), "/metrics");
    assert!(scraped.contains("ghostplane_forwarded_total{outcome=\"hit\"} 6\n"), "{scraped}");
    assert!(scraped.contains("ghostplane_upstream_seconds_count 1\n"), "{scraped}");
    // A file that it names is looked at before anything starts.
    let check =
        || Command::new(PROGRAM).args(["serve", "--dev", "--check-config", "--config"]).arg(&config).output().unwrap();
    assert!(check().status.success());
    for (key, word) in [("ca", "forward.ca"), ("anchors", "forward.anchors"), ("nope", "nope")] {
        std::fs::write(&config, format!("{}{key} = \"/nowhere\"\n", text.replace("false", "true"))).unwrap();
        let said = String::from_utf8(check().stderr).unwrap();
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn answers_are_kept_and_age() {
    let upstream = Upstream::start(example);
    let world = world(&upstream, "negative = \"5m\"");
    world.ask_plain("www.example", "A");
    world.advance(100);
    assert_eq!(world.ask_plain("www.example", "A").records[0], "answer www.example. 200 A 192.0.2.1");
    // Signatures are asked for in any case: with them and without, it is one question.
    assert_eq!(world.ask("www.example", "A").records.len(), 2);
    world.ask_plain("nobody.example", "A");
    world.advance(199);
    assert_eq!(world.ask_plain("nobody.example", "A").records[0].split(' ').nth(2), Some("401"));
    assert_eq!(upstream.asked(), ["www.example. A", "nobody.example. A"]);
    world.advance(101);
    world.ask_plain("www.example", "A");
    world.ask_plain("nobody.example", "A");
    assert_eq!(upstream.asked().len(), 4, "the configured bound of negative answers is shorter than their TTL");
}

#[test]
fn a_popular_answer_is_asked_for_again_before_its_end() {
    let (sender, refreshed) = mpsc::channel();
    let upstream = Upstream::start(move |query| {
        sender.send(()).unwrap();
        example(query)
    });
    let world = world(&upstream, "");
    world.ask_plain("www.example", "A");
    refreshed.recv().unwrap();
    (0..3).for_each(|_| drop(world.ask_plain("www.example", "A")));
    world.advance(275);
    assert_eq!(world.ask_plain("www.example", "A").records[0], "answer www.example. 25 A 192.0.2.1");
    refreshed.recv().unwrap();
    // Until the worker has put it there, the old one is told.
    while !world.ask_plain("www.example", "A").records[0].contains(" 300 ") {}
    assert_eq!(upstream.asked().len(), 2);
}

/// Begins a question that nobody answers at once.
fn begin(world: &World, text: &str) -> mpsc::Receiver<Reply> {
    let client = Client::new(Transport::Tcp, IpAddr::V4(Ipv4Addr::LOCALHOST));
    let (sender, receiver) = mpsc::channel();
    let Begun::Miss(miss) = world.node.gateway.begin(&query(text, "A", 0), client) else { panic!("{text} is known") };
    world.node.gateway.finish(miss, Box::new(move |reply| drop(sender.send(reply))));
    receiver
}

#[test]
fn many_who_ask_the_same_make_one_question() {
    let (sender, asked) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let upstream = Upstream::start(move |query| {
        sender.send(()).unwrap();
        // Ends when the test drops the other end.
        let _ = released.lock().unwrap().recv();
        example(query)
    });
    let port = upstream.port;
    let world = world_with(&format!("[forward]\nupstreams = [\"tcp://127.0.0.1:{port}\"]\nvalidate = false"), START);
    let first = begin(&world, "www.example");
    asked.recv().unwrap();
    let others: Vec<_> = (0..50).map(|_| begin(&world, "www.example")).collect();
    drop(release);
    for receiver in std::iter::once(first).chain(others) {
        assert_eq!(Told::read(&receiver.recv().unwrap()).records.len(), 2);
    }
    assert_eq!(upstream.asked(), ["www.example. A"]);
}

#[test]
fn too_many_questions_at_once_are_turned_away() {
    let upstream = Upstream::start(|_| None);
    let port = upstream.port;
    let world = world_with(&format!("[forward]\nupstreams = [\"tcp://127.0.0.1:{port}\"]\nvalidate = false"), START);
    let held: Vec<_> = (0..ghostplane::limits::FORWARD_OUTSTANDING)
        .map(|number| begin(&world, &format!("n{number}.example")))
        .collect();
    let told = Told::read(&begin(&world, "one-more.example").recv().unwrap());
    assert_eq!((told.rcode, told.ede.unwrap().0), (2, 14));
    assert_eq!(forwarded(&world, Forwarded::Shed), 1);
    // One of those that are on their way is no question more.
    let joined = begin(&world, "n0.example");
    assert!(joined.try_recv().is_err());
    drop(held);
}

#[test]
fn a_zone_that_does_not_answer_leaves_room_for_others() {
    let upstream =
        Upstream::start(|query| if query.name.is_below(&name("slow.example")) { None } else { example(query) });
    let port = upstream.port;
    let world = world_with(&format!("[forward]\nupstreams = [\"tcp://127.0.0.1:{port}\"]\nvalidate = false"), START);
    let slow = |number| begin(&world, &format!("n{number}.slow.example"));
    let held: Vec<_> = (0..ghostplane::limits::FORWARD_PER_DOMAIN).map(slow).collect();
    let told = Told::read(&slow(9_999).recv().unwrap());
    assert_eq!((told.rcode, told.ede.unwrap().0), (2, 14));
    assert_eq!(world.ask_plain("www.example", "A").rcode, 0);
    drop(held);
}

#[test]
fn stale_answers_stand_in_for_upstreams_that_do_not_answer() {
    let upstream = Upstream::start(example);
    let world = world(&upstream, "serve_stale = \"1h\"");
    world.ask_plain("www.example", "A");
    world.ask_plain("nobody.example", "A");
    upstream.fall_silent();
    world.advance(700);
    let started = std::time::Instant::now();
    let told = world.ask_plain("www.example", "A");
    assert_eq!((told.rcode, told.ede.unwrap().0, &*told.records[0]), (0, 3, "answer www.example. 30 A 192.0.2.1"));
    assert!(started.elapsed() >= ghostplane::limits::STALE_AFTER);
    // While the question is on its way, nobody waits so long for it again.
    let started = std::time::Instant::now();
    assert_eq!(world.ask_plain("www.example", "A").ede.unwrap().0, 3);
    assert!(started.elapsed() < ghostplane::limits::STALE_AFTER);
    let told = world.ask_plain("nobody.example", "A");
    assert_eq!((told.rcode, told.ede.unwrap().0, told.records[0].split(' ').nth(2)), (3, 19, Some("30")));
    assert_eq!(forwarded(&world, Forwarded::Stale), 3);
    world.advance(3_600);
    assert_eq!(world.ask_plain("www.example", "A").rcode, 2, "too old");
}

#[test]
fn another_upstream_is_asked_when_one_fails() {
    let refusing = Upstream::start(|query| Some(made(query, Rcode::Refused, &[], &[])));
    let silent = Upstream::start(|_| None);
    let (good, spare) = (Upstream::start(example), Upstream::start(example));
    let world = |first: &Upstream, second: &Upstream| {
        let urls = [first, second].map(|upstream| format!("udp://127.0.0.1:{}", upstream.port));
        world_with(&format!("[forward]\nupstreams = {urls:?}\nvalidate = false"), START)
    };
    let tells = world(&refusing, &good);
    assert_eq!(tells.ask_plain("www.example", "A").rcode, 0);
    assert_eq!((refusing.asked().len(), good.asked().len()), (1, 1));
    // One that says nothing is passed over for a while.
    let waits = world(&silent, &spare);
    assert_eq!(waits.ask_plain("www.example", "A").rcode, 0);
    let asked = silent.asked().len();
    assert!(asked >= 1);
    let started = std::time::Instant::now();
    assert_eq!(waits.ask_plain("nobody.example", "A").rcode, 3);
    assert_eq!(waits.ask_plain("stuffed.example", "A").rcode, 0);
    if started.elapsed() < std::time::Duration::from_secs(1) {
        assert_eq!(silent.asked().len(), asked);
    }
    assert_eq!(spare.asked().len(), 3);
}

/// RFC 9520 §3.1: three queries in all, to one address over one transport.
#[test]
fn one_that_says_nothing_is_asked_three_times_at_most() {
    let silent = Upstream::start(|_| None);
    let world = world(&silent, "");
    assert_eq!(world.ask_plain("www.example", "A").rcode, 2);
    assert!((1..=3).contains(&silent.asked().len()), "{:?}", silent.asked());
}

#[test]
fn what_does_not_fit_in_a_datagram_is_asked_for_over_tcp() {
    let text = format!("\"{}\"", "x".repeat(250));
    let upstream = Upstream::start(move |query| {
        let data = (0..8).map(|number| rdata::from_text(Rtype::TXT, &format!("{number} {text}"), None).unwrap());
        Some(made(query, Rcode::NoError, &[Rrset::new(query.name.clone(), Rtype::TXT, 300, data)], &[]))
    });
    let world = world(&upstream, "");
    assert_eq!(world.ask_plain("long.example", "TXT").records.len(), 8);
    assert_eq!(upstream.asked(), ["long.example. TXT", "long.example. TXT"]);
}

/// As many addresses as a message holds: all of them, or none.
#[test]
fn a_large_rrset_is_whole_or_not_there() {
    let upstream = Upstream::start(|query| {
        let count: u32 = query.name.to_string().split('.').next()?.strip_prefix('n')?.parse().ok()?;
        let data = (0..count).map(|number| number.to_be_bytes().to_vec());
        Some(made(query, Rcode::NoError, &[Rrset::new(query.name.clone(), Rtype::A, 300, data)], &[]))
    });
    let port = upstream.port;
    let world = world_with(&format!("[forward]\nupstreams = [\"tcp://127.0.0.1:{port}\"]\nvalidate = false"), START);
    for count in [100, 1_800, 1_837, 1_838, 2_500, 3_700, 4_060] {
        let name = format!("n{count}.a-long-name-that-is-not-compressed.in-an-answer.example");
        for _ in 0..2 {
            let told = world.ask(&name, "A");
            assert_eq!((told.rcode, told.records.len()), (0, count), "{count}");
        }
    }
    // More than a message holds: the upstream's own is cut short, and says so.
    for _ in 0..2 {
        let told = world.ask("n5000.example", "A");
        assert!(told.rcode == 2 && told.ede.is_some() && told.records.is_empty(), "{told:?}");
    }
}

/// RFC 9520: each failure is remembered for longer than the one before it.
#[test]
fn failures_are_remembered() {
    let upstream = Upstream::start(example);
    let world = world(&upstream, "");
    let asked = || {
        let told = world.ask_plain("broken.example", "A");
        assert_eq!((told.rcode, told.ede.unwrap().0), (2, 22));
        upstream.asked().len()
    };
    assert_eq!((asked(), asked()), (1, 1));
    world.advance(1);
    assert_eq!((asked(), asked()), (2, 2));
    world.advance(1);
    assert_eq!(asked(), 2);
    world.advance(1);
    assert_eq!(asked(), 3);
    world.advance(300);
    assert_eq!(asked(), 4);
    // Another question has nothing to do with it.
    assert_eq!(world.ask_plain("www.example", "A").rcode, 0);
    assert_eq!(forwarded(&world, Forwarded::Failed), 7);
}

/// Signs `example.` as it likes.
struct Signed {
    key: ZoneKey,
    now: u64,
}

impl Signed {
    fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        Self { key: ZoneKey::new(Secret::Ed25519(SigningKey::from_bytes(&[7; 32])), FLAGS_OWNER), now }
    }

    fn anchor(&self) -> String {
        format!("example. 3600 IN DNSKEY {}\n", rdata::to_text(Rtype::DNSKEY, self.key.dnskey()))
    }

    /// Signed for the hour that begins `from` seconds from now.
    fn at(&self, line: &str, from: i64) -> Rrset {
        let mut rrset = rrset(line);
        let inception = self.now.checked_add_signed(from).unwrap();
        rrset.rrsigs = vec![self.key.sign_until(&name("example"), &rrset, inception, inception + 3_600).into()];
        rrset
    }

    fn good(&self, line: &str) -> Rrset {
        self.at(line, -60)
    }

    fn keys(&self) -> Rrset {
        self.good(&format!("example. 3600 DNSKEY {}", rdata::to_text(Rtype::DNSKEY, self.key.dnskey())))
    }

    fn stranger(&self, line: &str) -> Rrset {
        let mut rrset = rrset(line);
        let key = ZoneKey::new(Secret::Ed25519(SigningKey::from_bytes(&[8; 32])), FLAGS_OWNER);
        rrset.rrsigs = vec![key.sign_until(&name("example"), &rrset, self.now - 60, self.now + 3_600).into()];
        rrset
    }

    fn answer(&self, query: &Query) -> Option<Answer> {
        let rtype = query.rtype.to_string();
        let found = |rrset: Rrset| made(query, Rcode::NoError, &[rrset], &[]);
        let denied = |rcode, proofs: &[&str]| {
            let proofs: Vec<Rrset> = proofs.iter().map(|line| self.good(line)).collect();
            made(query, rcode, &[], &proofs)
        };
        let apex_nsec = "example. 600 NSEC alias.example. NS SOA RRSIG NSEC DNSKEY";
        Some(match (query.name.to_string().as_str(), rtype.as_str()) {
            ("example.", "DNSKEY") => found(self.keys()),
            ("example.", "NS") => found(self.good("example. 3600 NS ns.example.")),
            ("good.example.", "A") => found(self.good("good.example. 300 A 192.0.2.1")),
            ("alias.example.", "A") => made(
                query,
                Rcode::NoError,
                &[self.good("alias.example. 300 CNAME good.example."), self.good("good.example. 300 A 192.0.2.1")],
                &[],
            ),
            ("into.example.", "A") => found(self.good("into.example. 300 CNAME www.alice.ghost.")),
            ("expired.example.", "A") => found(self.at("expired.example. 300 A 192.0.2.1", -7_200)),
            ("early.example.", "A") => found(self.at("early.example. 300 A 192.0.2.1", 7_200)),
            ("bare.example.", "A") => found(rrset("bare.example. 300 A 192.0.2.1")),
            ("stranger.example.", "A") => found(self.stranger("stranger.example. 300 A 192.0.2.1")),
            ("forged.example.", "A") => {
                let signed = self.good("forged.example. 300 A 192.0.2.1");
                found(Rrset { rdata: rrset("forged.example. 300 A 192.0.2.66").rdata, ..signed })
            }
            ("nothing.example.", "A") => {
                denied(Rcode::NxDomain, &[SOA, apex_nsec, "into.example. 600 NSEC stranger.example. A RRSIG NSEC"])
            }
            ("good.example.", "MX") => {
                denied(Rcode::NoError, &[SOA, "good.example. 600 NSEC into.example. A RRSIG NSEC"])
            }
            ("unproven.example.", "A") => denied(Rcode::NxDomain, &[SOA]),
            ("cut.example.", "NS") => found(rrset("cut.example. 3600 NS ns.cut.example.")),
            ("cut.example.", "DS") => {
                denied(Rcode::NoError, &[SOA, "cut.example. 600 NSEC early.example. NS RRSIG NSEC"])
            }
            ("www.cut.example.", "A") => found(rrset("www.cut.example. 300 A 192.0.2.2")),
            _ => denied(Rcode::NoError, &[SOA, apex_nsec]),
        })
    }
}

#[test]
fn answers_are_validated() {
    let zone = Signed::new();
    let (now, anchor) = (zone.now, zone.anchor());
    let upstream = Upstream::start(move |query| zone.answer(query));
    let dir = tempfile::tempdir().unwrap();
    let anchors = dir.path().join("anchors");
    std::fs::write(&anchors, anchor).unwrap();
    let config = format!("[forward]\nupstreams = [\"udp://127.0.0.1:{}\"]\nanchors = {anchors:?}", upstream.port);
    let mut world = world_with(&config, now);
    // AD for what is secure, and for whoever asks for it.
    let told = world.ask("good.example", "A");
    assert!(told.authentic, "{told:?}");
    assert_eq!(told.records, ["answer good.example. 300 A 192.0.2.1", "answer good.example. RRSIG(A)"]);
    assert!(!world.ask_plain("good.example", "A").authentic);
    let mut wants_ad = query("good.example", "A", 0);
    wants_ad[3] |= AD;
    let told = world.ask_from(IpAddr::V4(Ipv4Addr::LOCALHOST), &wants_ad);
    assert_eq!((told.authentic, told.records.len()), (true, 1), "AD without signatures");
    let alias = world.ask("alias.example", "A");
    assert_eq!((alias.authentic, alias.records.len()), (true, 4), "{alias:?}");
    // Denial, with its proofs for who wants them.
    let nothing = world.ask("nothing.example", "A");
    assert_eq!((nothing.rcode, nothing.authentic, nothing.records.len()), (3, true, 6), "{nothing:?}");
    assert_eq!(world.ask_plain("nothing.example", "A").records.len(), 1);
    let nodata = world.ask("good.example", "MX");
    assert_eq!((nodata.rcode, nodata.authentic), (0, true), "{nodata:?}");
    // Not signed, and that is proven.
    let insecure = world.ask("www.cut.example", "A");
    assert_eq!((insecure.rcode, insecure.authentic, insecure.records.len()), (0, false, 1), "{insecure:?}");
    for (name, code) in [
        ("forged.example", 6),
        ("expired.example", 7),
        ("early.example", 8),
        ("stranger.example", 9),
        ("bare.example", 10),
        ("unproven.example", 12),
    ] {
        let told = world.ask(name, "A");
        assert_eq!((told.rcode, told.authentic, told.ede.clone().unwrap().0), (2, false, code), "{name}: {told:?}");
        assert_eq!(told.records, Vec::<String>::new());
        // Whoever checks by themselves gets it as it is.
        let mut message = query(name, "A", DO);
        message[3] |= CD;
        let unchecked = world.ask_from(IpAddr::V4(Ipv4Addr::LOCALHOST), &message);
        assert_ne!(unchecked.rcode, 2, "{name}");
        assert!(unchecked.unchecked && !unchecked.authentic, "{name}");
    }
    // Behind a name of ours, the chain is no longer all the upstream's to vouch for; and nobody asks for our keys there.
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.ghost");
    world.put(&mut alice, "www.alice.ghost", "A", &["192.0.2.9"]).unwrap();
    let into = world.ask("into.example", "A");
    assert_eq!((into.rcode, into.authentic), (0, false));
    assert!(into.records.contains(&"answer www.alice.ghost. 3600 A 192.0.2.9".to_owned()), "{into:?}");
    let asked = upstream.asked();
    assert!(asked.iter().all(|question| question.split(' ').next().unwrap().ends_with("example.")), "{asked:?}");
    assert_eq!(asked.iter().filter(|question| *question == "example. DNSKEY").count(), 1, "{asked:?}");
}

/// A TLD of another gateway's, so that an upstream speaks every transport and signs what it says.
const OTHER_ZONE: &str = "$ORIGIN zz.\n$TTL 3600\n@ SOA ns hostmaster ( 1 2h 1h 2w 5m )\n@ NS ns\nns A 127.0.0.1\n\
                          www A 192.0.2.1\nalias CNAME www\n";

#[test]
fn upstreams_are_asked_over_every_transport() {
    let dir = tempfile::tempdir().unwrap();
    let zones = dir.path().join("zones");
    std::fs::create_dir(&zones).unwrap();
    std::fs::write(zones.join("zz.zone"), OTHER_ZONE).unwrap();
    let policy = include_str!("../../zones/ghost.toml").replace("tld = \"ghost\"", "tld = \"zz\"");
    std::fs::write(zones.join("zz.toml"), policy).unwrap();
    let server = Server::start_with(dir.path(), &["--zones", zones.to_str().unwrap()]);
    let anchors = dir.path().join("anchors");
    std::fs::write(&anchors, server.ok("https", &["zone", "anchor", "--format", "dnskey"])).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let ca = dir.path().join("ca.pem");
    let world = |via: &str, name: &str| {
        let upstream = format!("{via}://127.0.0.1:{}{name}", server.port(via));
        let files = format!("anchors = {anchors:?}\nca = {ca:?}");
        world_with(&format!("[forward]\nupstreams = [\"{upstream}\"]\n{files}"), now)
    };
    for via in Transport::ALL {
        let world = world(via.text(), if via.is_encrypted() { "#localhost" } else { "" });
        for name in ["www.zz", "alias.zz"] {
            let told = world.ask(name, "A");
            assert!(told.authentic && told.rcode == 0, "{via:?} {name}: {told:?}");
            assert!(told.records.iter().any(|record| record.ends_with("A 192.0.2.1")), "{via:?} {name}: {told:?}");
        }
        assert!(world.ask("www.zz", "MX").authentic, "{via:?}");
    }
    for via in ["tls", "quic", "https", "h3"] {
        let told = world(via, "#other.example").ask("www.zz", "A");
        assert_eq!(
            (told.rcode, told.ede.clone().unwrap().0),
            (2, 23),
            "{via} with the certificate of another: {told:?}"
        );
    }
}

/// Knot DNS with a signed zone, over QUIC, too. Not the root: hickory-net 0.26 panics at NSEC3 in it, where there is none.
fn knot(dir: &Path, port: u16, quic: u16, nsec3: bool) -> Daemon {
    let records = "$ORIGIN .\n$TTL 300\nexample. SOA ns.example. hostmaster.example. 1 3600 1200 604800 600\nexample. NS ns.example.\n\
                   ns.example. A 127.0.0.1\nwww.example. A 192.0.2.1\nalias.example. CNAME www.example.\n\
                   *.wild.example. TXT \"wild\"\ninto.example. CNAME www.alice.ghost.\n\
                   lost.example. CNAME nobody.example.\n";
    std::fs::write(dir.join("example.zone"), records).unwrap();
    // It denies our TLDs, as the real one does.
    let root = "$TTL 300\n. SOA ns.example. hostmaster.example. 1 3600 1200 604800 600\n. NS ns.example.\n\
                example. NS ns.example.\nns.example. A 127.0.0.1\n";
    std::fs::write(dir.join("root.zone"), root).unwrap();
    let dir = dir.display();
    let text = format!(
        "server:\n  listen: 127.0.0.1@{port}\n  listen-quic: 127.0.0.1@{quic}\n  rundir: {dir}\n  user: root\n  \
         cert-file: {dir}/tls.pem\n  key-file: {dir}/tls.key\nlog:\n  - target: stderr\n    any: info\ndatabase:\n  \
         storage: {dir}/knot\npolicy:\n  - id: ours\n    nsec3: {nsec3}\nzone:\n  - domain: .\n    storage: {dir}\n    \
         file: root.zone\n  - domain: example.\n    storage: {dir}\n    file: example.zone\n    dnssec-signing: on\n    \
         dnssec-policy: ours\n"
    );
    std::fs::create_dir(format!("{dir}/knot")).unwrap();
    std::fs::write(format!("{dir}/knot.conf"), text).unwrap();
    let mut command = Command::new("knotd");
    command.arg("-c").arg(format!("{dir}/knot.conf"));
    Daemon::start(command, "zone file updated")
}

/// unbound, which asks that server alone.
fn unbound(dir: &Path, server: u16, [plain, tls, https]: [u16; 3]) -> Daemon {
    let dir = dir.display();
    let text = format!(
        "server:\n interface: 127.0.0.1@{plain}\n interface: 127.0.0.1@{tls}\n interface: 127.0.0.1@{https}\n \
         port: {plain}\n tls-port: {tls}\n https-port: {https}\n tls-service-pem: \"{dir}/tls.pem\"\n \
         tls-service-key: \"{dir}/tls.key\"\n do-daemonize: no\n chroot: \"\"\n username: \"\"\n directory: \"{dir}\"\n \
         pidfile: \"\"\n use-syslog: no\n verbosity: 1\n do-not-query-localhost: no\n module-config: \"iterator\"\n\
         stub-zone:\n name: \".\"\n stub-addr: 127.0.0.1@{server}\nstub-zone:\n name: \"example.\"\n \
         stub-addr: 127.0.0.1@{server}\nremote-control:\n control-enable: no\n"
    );
    std::fs::write(format!("{dir}/unbound.conf"), text).unwrap();
    let mut command = Command::new("unbound");
    command.arg("-d").arg("-c").arg(format!("{dir}/unbound.conf"));
    Daemon::start(command, "start of service")
}

/// The DNSKEY records of the zone.
fn zone_keys(port: u16) -> String {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.send_to(&query("example", "DNSKEY", 0), (Ipv4Addr::LOCALHOST, port)).unwrap();
    let mut buffer = [0; 4_096];
    let length = socket.recv(&mut buffer).unwrap();
    let message = Message::parse(&buffer[..length]).unwrap();
    let line =
        |record: &MessageRecord| format!("example. 3600 IN DNSKEY {}\n", rdata::to_text(Rtype::DNSKEY, &record.rdata));
    message.sections[0].iter().map(line).collect()
}

#[test]
fn unbound_and_knot_are_upstreams() {
    resolve_through_unbound_and_knot(false);
}

#[test]
fn unbound_and_knot_are_upstreams_with_hashed_names() {
    resolve_through_unbound_and_knot(true);
}

fn resolve_through_unbound_and_knot(nsec3: bool) {
    if !have(&["unbound", "knotd"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    Identity::development(dir.path(), SystemTime::now()).unwrap();
    let [server, quic, plain, tls, https] = [0; 5].map(|_| free_port());
    let _knot = knot(dir.path(), server, quic, nsec3);
    let unbound = unbound(dir.path(), server, [plain, tls, https]);
    let (anchors, ca) = (dir.path().join("anchors"), dir.path().join("ca.pem"));
    std::fs::write(&anchors, zone_keys(server)).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let world = |upstream: &str| {
        let files = format!("anchors = {anchors:?}\nca = {ca:?}");
        world_with(&format!("[forward]\nupstreams = [\"{upstream}\"]\n{files}"), now)
    };
    let names = [
        ("www.example", "A", 0),
        ("alias.example", "A", 0),
        ("x.wild.example", "TXT", 0),
        ("x.wild.example", "A", 0),
        ("www.example", "MX", 0),
        ("example", "A", 0),
        ("nobody.example", "A", 3),
        ("lost.example", "A", 3),
    ];
    for upstream in [
        format!("udp://127.0.0.1:{plain}"),
        format!("tcp://127.0.0.1:{plain}"),
        format!("tls://127.0.0.1:{tls}#localhost"),
        format!("https://127.0.0.1:{https}/dns-query#localhost"),
        format!("quic://127.0.0.1:{quic}#localhost"),
    ] {
        let mut world = world(&upstream);
        for (name, rtype, rcode) in names {
            let told = world.ask(name, rtype);
            assert_eq!((told.rcode, told.authentic), (rcode, true), "{upstream} {name}: {told:?}");
        }
        let mut alice = world.person(1);
        world.register(&mut alice, "alice.ghost");
        world.put(&mut alice, "www.alice.ghost", "A", &["192.0.2.9"]).unwrap();
        let told = world.ask_plain("into.example", "A");
        assert_eq!(told.records.last().unwrap(), "answer www.alice.ghost. 3600 A 192.0.2.9", "{upstream}");
    }
    let world = world(&format!("tls://127.0.0.1:{tls}#localhost"));
    world.ask("www.example", "A");
    drop(unbound);
    world.advance(600);
    let told = world.ask("www.example", "A");
    assert_eq!((told.rcode, told.ede.unwrap().0, told.authentic), (0, 3, false), "stale after the upstream's death");
}

#[test]
fn what_does_not_validate_is_not_replaced_by_what_is_stale() {
    let zone = Signed::new();
    let (now, anchor) = (zone.now, zone.anchor());
    let forged = Arc::new(AtomicBool::new(false));
    let forging = forged.clone();
    let upstream = Upstream::start(move |query| match query.name.to_string().as_str() {
        "good.example." if forging.load(Ordering::Relaxed) => {
            Some(made(query, Rcode::NoError, &[rrset("good.example. 300 A 192.0.2.66")], &[]))
        }
        _ => zone.answer(query),
    });
    let dir = tempfile::tempdir().unwrap();
    let anchors = dir.path().join("anchors");
    std::fs::write(&anchors, anchor).unwrap();
    let config = format!("[forward]\nupstreams = [\"tcp://127.0.0.1:{}\"]\nanchors = {anchors:?}", upstream.port);
    let world = world_with(&config, now);
    assert!(world.ask("good.example", "A").authentic);
    forged.store(true, Ordering::Relaxed);
    world.advance(301);
    let told = world.ask("good.example", "A");
    assert_eq!((told.rcode, told.ede.unwrap().0), (2, 10));
}

#[test]
fn our_tlds_are_mirrored_under_a_suffix() {
    let mut world = world_with("mirror = [\"alt\", \"gw.example.net\"]", START);
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.ghost");
    world.sign(&mut alice, "alice.ghost").unwrap();
    for (owner, rtype, data) in [
        ("alice.ghost", "A", "192.0.2.1"),
        ("alice.ghost", "MX", "10 mx.alice.ghost."),
        ("www.alice.ghost", "CNAME", "alice.ghost."),
        ("out.alice.ghost", "CNAME", "www.example.net."),
        ("*.w.alice.ghost", "HTTPS", "1 alice.ghost. alpn=h3"),
    ] {
        world.put(&mut alice, owner, rtype, &[data]).unwrap();
    }
    for suffix in ["alt", "gw.example.net"] {
        let ask = |name: &str, rtype: &str| world.ask(&format!("{name}{suffix}"), rtype);
        let direct = ask("alice.ghost.", "A");
        assert_eq!(direct.records, [format!("answer alice.ghost.{suffix}. 3600 A 192.0.2.1")], "with DO, and unsigned");
        assert!(direct.authoritative && !direct.authentic);
        let alias = ask("WWW.alice.ghost.", "A");
        assert_eq!(alias.records[0], format!("answer www.alice.ghost.{suffix}. 3600 CNAME alice.ghost.{suffix}."));
        assert_eq!(alias.records[1], format!("answer alice.ghost.{suffix}. 3600 A 192.0.2.1"));
        assert!(ask("alice.ghost.", "MX").records[0].ends_with(&format!("10 mx.alice.ghost.{suffix}.")));
        assert!(ask("x.w.alice.ghost.", "HTTPS").records[0].contains(&format!("HTTPS 1 alice.ghost.{suffix}. ")));
        assert!(ask("out.alice.ghost.", "A").records[0].ends_with("CNAME www.example.net."), "names of others stay");
        // One zone, with its SOA at the suffix.
        let soa = format!("authority {suffix}. ");
        for (name, rtype, rcode) in [
            ("nobody.ghost.", "A", 3),
            ("alice.ghost.", "AAAA", 0),
            ("alice.ghost.", "DNSKEY", 0),
            ("alice.ghost.", "NS", 0),
            ("com.", "A", 3),
            ("www.com.", "A", 3),
            ("", "A", 0),
        ] {
            let told = ask(name, rtype);
            assert_eq!((told.rcode, told.records.len()), (rcode, 1), "{name} {rtype}: {told:?}");
            assert!(told.records[0].starts_with(&soa), "{name} {rtype}: {told:?}");
        }
        assert!(ask("", "SOA").records[0].starts_with(&format!("answer {suffix}. 3600 SOA ")));
    }
    // What is written is seen at once.
    world.put(&mut alice, "alice.ghost", "A", &["192.0.2.2"]).unwrap();
    assert!(world.ask("alice.ghost.alt", "A").records[0].ends_with("192.0.2.2"));
    assert_eq!(world.ask("example.net", "A").rcode, 5);
    world.put(&mut alice, "cut.alice.ghost", "NS", &["ns.example.net."]).unwrap();
    assert_eq!(world.ask("x.cut.alice.ghost.alt", "A").ede.unwrap().0, 21, "delegated names are not mirrored");
}

#[test]
fn mirrors_and_ordinary_names_go_together() {
    let upstream = Upstream::start(example);
    let port = upstream.port;
    let config = format!("mirror = [\"alt\"]\n[forward]\nupstreams = [\"udp://127.0.0.1:{port}\"]\nvalidate = false");
    let mut world = world_with(&config, START);
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.ghost");
    world.put(&mut alice, "out.alice.ghost", "CNAME", &["www.example."]).unwrap();
    for _ in 0..2 {
        let told = world.ask_plain("out.alice.ghost.alt", "A");
        assert_eq!(told.records[0], "answer out.alice.ghost.alt. 3600 CNAME www.example.");
        assert_eq!(told.records.len(), 3);
    }
    assert_eq!(world.ask_plain("example.alt", "A").rcode, 3);
    assert_eq!(upstream.asked(), ["www.example. A"]);
}
