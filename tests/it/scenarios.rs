//! Scenario files (tests/scenarios), each run over every transport: the same answers everywhere.
//!
//! ```text
//! # a comment
//! alice: register alice.ghost            a person, made and funded when first named
//! alice: put alice.ghost A 192.0.2.1     more data after " | "
//! alice: delete alice.ghost A
//! alice: bind alice.ghost park words     a shipped contract and its parameters; `default` unbinds
//! alice: release alice.ghost
//! alice: give alice.ghost bob
//! alice: offer alice.ghost bob           for nothing, for a week; `accept`, `withdraw`
//! alice: lock alice.ghost 3600           seconds that `unlock` takes
//! alice: renew alice.ghost               for a year; `restore` in redemption
//! alice: commit alice.ghost              and `reveal`: registers it
//! alice: fails 302 register bob.ghost    any of these, rejected with this code
//! wait 3600                              seconds
//! alice: sign alice.ghost                puts the name's keys: from now on it is a signed zone
//! alice: strict alice.ghost              signs everything ahead: from now on it is a strict zone
//! ask alice.ghost A                      over every transport; `prove` asks with DO, `compact` with DO and CO, `bare` with
//!                                        DO, CD and AD
//!   NOERROR aa                           response code and flags; lines as the answer has them, in any order
//!   answer alice.ghost. 3600 A 192.0.2.1 within a section; `...` ends a line that may go on
//!   ede 15 words of it
//! ```

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use ghostplane::api::Rpc;
use ghostplane::cli::client::{Connection, Target, load_roots};
use ghostplane::node::SHIPPED;
use ghostplane::op::{Op, Rejection, RrsetKey};
use ghostplane::server::{self, Addrs, ServerConfig, Service};
use ghostplane::state::life::commitment;
use ghostplane::transport::Shutdown;
use ghostplane::transport::admission::Limits;
use ghostplane::transport::tls::Identity;
use ghostplane::wire::{Rcode, Reply, Transport};

use crate::support::{AD, CD, CO, DO, Person, Told, World, name, query, server_config};

const SECRET: [u8; 32] = [7; 32];

/// A world behind sockets, with one connection for each transport.
struct Served {
    world: World,
    people: HashMap<String, Person>,
    runtime: tokio::runtime::Runtime,
    connections: Vec<(Transport, Connection)>,
    shutdown: Shutdown,
    thread: Option<JoinHandle<()>>,
}

fn service(via: Transport) -> Service {
    match via {
        Transport::Udp => Service::Udp,
        Transport::Tcp => Service::Tcp,
        Transport::Tls => Service::Tls,
        Transport::Quic => Service::Quic,
        Transport::Https => Service::Https,
        Transport::H3 => Service::H3,
    }
}

impl Served {
    fn start() -> Self {
        let world = World::new();
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::development(dir.path(), SystemTime::now()).unwrap();
        let roots = load_roots(&dir.path().join("ca.pem")).unwrap();
        // Every transport is to tell the whole answer, also where nothing proves the address.
        let limits = Limits { exempt_loopback: true, ..Limits::default() };
        let config = ServerConfig { limits, ..server_config(identity) };
        let (gateway, rpc) = (world.node.gateway.clone(), Arc::new(Rpc::start(world.node.service.clone()).unwrap()));
        let (metrics, shutdown) = (world.node.metrics.clone(), Shutdown::default());
        let stop = shutdown.clone();
        let (sender, ready) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let on_ready = |addrs: &Addrs| sender.send(addrs.clone()).unwrap();
            server::run(config, gateway, rpc, metrics, on_ready, stop).unwrap();
        });
        let addrs = ready.recv().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connections = Transport::ALL.map(|via| {
            let addr = addrs.of(service(via)).unwrap();
            let (roots, timeout) = (Some(roots.clone()), Duration::from_secs(20));
            let target = Target { addr, host: "localhost".into(), roots, timeout, sessions: None };
            (via, runtime.block_on(Connection::open(via, &target)).unwrap())
        });
        let people = HashMap::new();
        Self { world, people, runtime, connections: connections.into(), shutdown, thread: Some(thread) }
    }

    /// What every transport answers.
    fn ask(&self, owner: &str, rtype: &str, flags: u8, bits: u8) -> Vec<(Transport, Told)> {
        let mut message = query(owner, rtype, flags);
        message[3] |= bits;
        let told = |(via, connection): &(Transport, Connection)| {
            let wire = self.runtime.block_on(async {
                tokio::time::timeout(Duration::from_secs(20), connection.exchange(&message)).await.unwrap().unwrap()
            });
            (*via, Told::read(&Reply::new(wire, Rcode::NoError)))
        };
        self.connections.iter().map(told).collect()
    }

    fn write(&mut self, person: &str, words: &[&str]) -> Result<(), Rejection> {
        let seed = 1 + self.people.len() as u8;
        let mut author = match self.people.remove(person) {
            Some(author) => author,
            None => self.world.person(seed),
        };
        let done = self.submit(&mut author, words);
        self.people.insert(person.to_owned(), author);
        done
    }

    fn submit(&mut self, author: &mut Person, words: &[&str]) -> Result<(), Rejection> {
        let op = match words {
            ["register", about] => Op::Register { name: name(about), years: 1 },
            ["sign", about] => return self.world.sign(author, about).map(drop),
            ["strict", about] => return self.world.sign_strict(author, about).map(drop),
            ["release", about] => Op::Release { name: name(about) },
            ["give", about, to] => Op::Transfer { name: name(about), to: self.people[*to].id() },
            ["renew", about] => Op::Renew { name: name(about), years: 1 },
            ["restore", about] => Op::Restore { name: name(about), years: 1 },
            ["offer", about, to] => {
                let until = self.world.now() + 7 * 86_400;
                Op::Offer { name: name(about), to: self.people[*to].id(), price: None, until }
            }
            ["accept", about] => Op::Accept { name: name(about), offer: self.world.offer(about) },
            ["withdraw", about] => Op::Withdraw { name: name(about) },
            ["lock", about, delay] => Op::Lock { name: name(about), delay: delay.parse().unwrap() },
            ["unlock", about] => Op::Unlock { name: name(about) },
            ["commit", about] => Op::Commit { hash: commitment(&name(about), &author.id(), &SECRET) },
            ["reveal", about] => Op::Reveal { name: name(about), years: 1, secret: SECRET },
            ["put", owner, rtype, data @ ..] => {
                let data = data.join(" ");
                return self.world.put(author, owner, rtype, &data.split(" | ").collect::<Vec<_>>()).map(drop);
            }
            ["delete", owner, rtype] => {
                let key = RrsetKey { owner: name(owner), rtype: rtype.parse().unwrap() };
                Op::DeleteRecords { name: key.owner.suffix(2), keys: vec![key] }
            }
            ["bind", about, "default"] => Op::BindContract { name: name(about), contract: None, parameters: vec![] },
            ["bind", about, contract, parameters @ ..] => {
                let wasm = SHIPPED.iter().find(|(shipped, _)| shipped == contract).unwrap().1;
                let contract = Some(self.world.deploy(author, wasm));
                let parameters = parameters.join(" ").replace("\\n", "\n").into_bytes();
                Op::BindContract { name: name(about), contract, parameters }
            }
            other => panic!("{other:?} is no write"),
        };
        self.world.submit(author, op).map(drop)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.trigger();
        self.connections.clear();
        let thread = self.thread.take().unwrap();
        // The clients' ends must run for their connections to close.
        let ended = self.runtime.block_on(async { tokio::task::spawn_blocking(move || thread.join()).await }).unwrap();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

/// An `ask` and the lines that describe its answer.
struct Expected<'a> {
    at: String,
    owner: &'a str,
    rtype: &'a str,
    /// EDNS flags, the first octet.
    flags: u8,
    /// Of the header's second octet of flags.
    bits: u8,
    lines: Vec<&'a str>,
}

impl Expected<'_> {
    fn check(&self, served: &Served) {
        for (via, told) in served.ask(self.owner, self.rtype, self.flags, self.bits) {
            let lines = described(&told);
            let fits = lines.len() == self.lines.len()
                && self.lines.iter().all(|wanted| lines.iter().any(|line| line_fits(line, wanted)));
            assert!(fits, "{} {} {} over {}:\n{}", self.at, self.owner, self.rtype, via.text(), lines.join("\n"));
        }
    }
}

fn line_fits(line: &str, wanted: &str) -> bool {
    wanted.strip_suffix("...").map_or(line == wanted, |start| line.starts_with(start))
}

fn described(told: &Told) -> Vec<String> {
    let rcode = ghostplane::wire::Rcode::text(told.rcode);
    let flags = [(told.authoritative, " aa"), (told.authentic, " ad"), (told.unchecked, " cd")];
    let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| *flag).collect();
    let mut lines = vec![format!("{rcode}{flags}")];
    lines.extend(told.records.iter().cloned());
    lines.extend(told.ede.iter().map(|(code, text)| format!("ede {code} {text}").trim_end().to_owned()));
    lines
}

fn run(file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios").join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let mut served = Served::start();
    let mut asked: Option<Expected<'_>> = None;
    for (number, line) in text.lines().enumerate() {
        let at = format!("{file}:{}", number + 1);
        if let (Some(described), Some(asked)) = (line.strip_prefix("  "), &mut asked) {
            asked.lines.push(described.trim_end());
            continue;
        }
        if let Some(asked) = asked.take() {
            asked.check(&served);
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            ["wait", seconds] => served.world.advance(seconds.parse().unwrap()),
            [how @ ("ask" | "prove" | "compact" | "bare"), owner, rtype] => {
                let (flags, bits) = match how {
                    "ask" => (0, 0),
                    "prove" => (DO, 0),
                    "compact" => (DO | CO, 0),
                    _ => (DO, CD | AD),
                };
                asked = Some(Expected { at, owner, rtype, flags, bits, lines: vec![] });
            }
            [person, "fails", code, ref words @ ..] => {
                let rejection = served.write(person.trim_end_matches(':'), words).expect_err(&at);
                assert_eq!(rejection.code().to_string(), code, "{at}: {rejection}");
            }
            [person, ref words @ ..] => {
                served
                    .write(person.trim_end_matches(':'), words)
                    .unwrap_or_else(|rejection| panic!("{at}: {rejection}"));
            }
        }
    }
    if let Some(asked) = asked {
        asked.check(&served);
    }
}

macro_rules! scenarios {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            run(concat!(stringify!($name), ".txt"));
        }
    )*};
}

scenarios! { zone aliases writes contracts tlds life dnssec strict }

#[test]
fn every_file_is_run() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    let run = ["aliases", "contracts", "dnssec", "life", "strict", "tlds", "writes", "zone"];
    assert_eq!(files, run.map(|name| format!("{name}.txt")));
}
