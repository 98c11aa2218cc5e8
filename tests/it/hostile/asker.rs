//! Attacks of those who ask, over HTTP: work for nothing, work on the wrong threads, another's gas.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use ghostplane::api::{Rpc, ServiceError};
use ghostplane::cli::author::Call as _;
use ghostplane::cli::client::{Connection, RpcClient, Target, load_roots};
use ghostplane::gateway::{Call, Client, OutOfGas, Transport};
use ghostplane::limits::{CPU_AHEAD, MAX_BATCH_REPLY, MAX_JSON_VALUES};
use ghostplane::node::{Node, SHIPPED};
use ghostplane::op::{CodeHash, GasPolicy, Op, SigilId};
use ghostplane::server::{self, Addrs, Service};
use ghostplane::state::gas::DEFAULT_POLICY;
use ghostplane::transport::tls::Identity;
use ghostplane::transport::{ApiRequest, Caller, Resource, RpcHandler as _, Shutdown};
use ghostplane::work::{Budget, Cost, WorkMeter};
use ghostplane::writer::Clock;
use serde_json::{Value, json};

use crate::support::{Person, START, World, name, query, server_config};

/// A gateway behind sockets, whose clock a test has made.
struct Served {
    addrs: Addrs,
    target: Target,
    shutdown: Shutdown,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    fn start(clock: Clock) -> Self {
        let node = Node::in_memory(Person::new(200).id(), clock).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let config = server_config(Identity::development(dir.path(), SystemTime::now()).unwrap());
        let roots = load_roots(&dir.path().join("ca.pem")).unwrap();
        let (shutdown, (sender, ready)) = (Shutdown::default(), mpsc::channel());
        let stop = shutdown.clone();
        let thread = std::thread::spawn(move || {
            let rpc = Arc::new(Rpc::start(node.service.clone()).unwrap());
            let on_ready = |addrs: &Addrs| sender.send(addrs.clone()).unwrap();
            server::run(config, node.gateway.clone(), rpc, node.metrics.clone(), on_ready, stop).unwrap();
        });
        let addrs = ready.recv().unwrap();
        let addr = addrs.of(Service::Https).unwrap();
        let timeout = Duration::from_secs(60);
        let target = Target { addr, host: "localhost".into(), roots: Some(roots), timeout, sessions: None };
        Self { addrs, target, shutdown, thread: Some(thread) }
    }

    fn rpc(&self) -> RpcClient {
        RpcClient::connect(&self.target).unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shutdown.trigger();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

fn thread_name() -> String {
    std::thread::current().name().unwrap_or("nameless").to_owned()
}

const METHODS: [(&str, &str); 14] = [
    ("registry.info", "{}"),
    ("name.list", "{}"),
    ("name.get", r#"{"name": "nobody.ghost"}"#),
    ("name.terms", r#"{"name": "nobody.ghost"}"#),
    ("mana.load", "{}"),
    ("gas.info", "{}"),
    ("op.quote", r#"{"kind": "register", "bytes": 100}"#),
    ("zone.export", r#"{"name": "ghost"}"#),
    ("answer.receipt", r#"{"name": "nobody.ghost", "type": "A"}"#),
    ("update.secret", r#"{"request": "AAAA"}"#),
    ("log.get", r#"{"from": 1}"#),
    ("log.checkpoint", "{}"),
    ("token.list", "{}"),
    ("attestor.list", "{}"),
];

/// T10.
#[test]
fn nothing_but_dns_is_done_on_the_threads_of_sockets() {
    let threads: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let seen = threads.clone();
    let clock: Clock = Arc::new(move || {
        seen.lock().unwrap().insert(thread_name());
        START
    });
    let served = Served::start(clock);
    let mut rpc = served.rpc();
    threads.lock().unwrap().clear();
    for (method, params) in METHODS {
        // Some of them fail: where they do is the same.
        let _ = rpc.call(method, serde_json::from_str(params).unwrap());
    }
    for path in ["/log/checkpoint", "/log/tile/0/000", "/contract/00", "/log/checkpoint/offered"] {
        let _ = rpc.get(path);
    }
    let _ = rpc.post("/v1/call/nobody.ghost", "application/octet-stream", Bytes::from_static(b"x"));
    let _ = rpc.post("/log/add-cosignatures", "text/plain", Bytes::from_static(b"x"));
    let threads = threads.lock().unwrap();
    assert!(threads.iter().any(|thread| thread.starts_with("api-")), "{threads:?}");
    assert!(!threads.iter().any(|thread| thread.starts_with("edge-")), "{threads:?}");
}

/// A gate that a test has closed, and how many threads wait at it.
#[derive(Default)]
struct Barrier {
    state: Mutex<(bool, usize)>,
    changed: Condvar,
}

impl Barrier {
    fn set(&self, closed: bool) {
        self.state.lock().unwrap().0 = closed;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        if state.0 {
            state.1 += 1;
            self.changed.notify_all();
            drop(self.changed.wait_while(state, |(closed, _)| *closed).unwrap());
        }
    }

    fn until_waiting(&self, threads: usize) {
        drop(self.changed.wait_while(self.state.lock().unwrap(), |(_, waiting)| *waiting < threads).unwrap());
    }
}

/// T10: hits and misses are answered while not one thread of the API moves.
#[test]
fn dns_goes_on_while_the_api_stands_still() {
    let barrier: Arc<Barrier> = Arc::default();
    let gate = barrier.clone();
    let clock: Clock = Arc::new(move || {
        if thread_name().starts_with("api-") {
            gate.pass();
        }
        START
    });
    let served = Served::start(clock);
    barrier.set(true);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = (cores / 2).clamp(2, ghostplane::limits::API_WORKERS);
    std::thread::scope(|scope| {
        // Twice as many as there are workers: one more waits for each.
        let askers: Vec<_> =
            (0..2 * workers).map(|_| scope.spawn(|| served.rpc().call("mana.load", json!({})))).collect();
        barrier.until_waiting(workers);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for (via, service) in [(Transport::Https, Service::Https), (Transport::Tcp, Service::Tcp)] {
            let target = Target { addr: served.addrs.of(service).unwrap(), ..served.target.clone() };
            let connection = runtime.block_on(Connection::open(via, &target)).unwrap();
            for number in 0..20 {
                let question = query(&format!("n{}.ghost", number / 2), "A", 0);
                assert!(runtime.block_on(connection.exchange(&question)).unwrap().len() > 12);
            }
        }
        barrier.set(false);
        assert!(askers.into_iter().all(|asker| asker.join().unwrap().is_ok()));
    });
}

/// Someone who asks the API of a world without sockets.
struct Asker {
    rpc: Rpc,
    caller: Caller,
    runtime: tokio::runtime::Runtime,
}

impl Asker {
    fn of(world: &World, budget: Budget) -> Self {
        let client = Client::new(Transport::Https, IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self { rpc: Rpc::start(world.node.service.clone()).unwrap(), caller: Caller { client, budget }, runtime }
    }

    fn serve(&self, request: ApiRequest) -> Resource {
        self.runtime.block_on(self.rpc.serve(request, self.caller.clone()))
    }

    fn post(&self, body: impl Into<Bytes>) -> Value {
        let resource = self.serve(ApiRequest::Rpc(body.into()));
        serde_json::from_slice(&resource.body).unwrap()
    }

    fn batch(&self, method: &str, params: &Value) -> Vec<Value> {
        let call = |id| json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let Value::Array(replies) = self.post(json!((0..32).map(call).collect::<Vec<_>>()).to_string()) else {
            panic!()
        };
        replies
    }
}

fn code(reply: &Value) -> i64 {
    reply["error"]["code"].as_i64().unwrap_or(0)
}

/// A millisecond of work a second, and two at once.
fn little() -> Budget {
    let meter = Arc::new(WorkMeter::new(NonZeroU32::MIN));
    meter.open(Client::new(Transport::Https, IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)))).unwrap()
}

/// T10, T12: each call is asked about, so a batch ends where its client's budget does.
#[test]
fn a_batch_ends_where_its_budget_does() {
    let world = World::new();
    let asker = Asker::of(&world, little());
    let replies = asker.batch("answer.receipt", &json!({ "name": "nobody.ghost", "type": "A" }));
    let codes: Vec<i64> = replies.iter().map(code).collect();
    // The first one finds an account that nothing was taken from.
    assert_eq!((codes.len(), codes[0], codes[31]), (32, 0, -32004), "{codes:?}");
    assert!(replies[31]["error"]["message"].as_str().unwrap().contains("ask again in"), "{replies:?}");
    for request in [ApiRequest::Code("00".into()), ApiRequest::Log("checkpoint".into())] {
        let resource = asker.serve(request);
        assert!((resource.status, resource.retry_after.is_some()) == (429, true), "{resource:?}");
    }
    // The account stays overdrawn at every door.
    assert!(asker.caller.budget.check().is_err());
}

/// T10.
#[test]
fn results_of_a_batch_are_bounded_together() {
    let world = World::new();
    let asker = Asker::of(&world, Budget::unlimited());
    let longest = SHIPPED.iter().max_by_key(|(_, wasm)| wasm.len()).unwrap().1;
    let params = json!({ "hash": CodeHash::of(longest).to_string() });
    let replies = asker.batch("contract.get", &params);
    let given = replies.iter().filter(|reply| code(reply) == 0).count();
    let most = MAX_BATCH_REPLY / (longest.len() * 4 / 3);
    assert!(given <= most && given + 1 >= most.min(32), "{given} of {most}");
    assert!(replies.iter().skip(given).all(|reply| code(reply) == -32005));
}

/// T10: 600,000 keys took half a second.
#[test]
fn a_body_of_too_many_values_is_not_parsed() {
    let world = World::new();
    let asker = Asker::of(&world, Budget::unlimited());
    let keys: String = (0..600_000).map(|key| format!("\"{key}\":0,")).collect();
    assert_eq!(code(&asker.post(format!("{{{keys}\"op.submit\":0}}"))), -32600);
    assert_eq!(code(&asker.post("[".repeat(60_000))), -32600);
    let many = format!("{{\"method\":\"op.submit\",\"params\":[{}0]}}", "0,".repeat(MAX_JSON_VALUES));
    assert_eq!(code(&asker.post(many)), -32600);
}

/// T10: a filter looks at a bounded number of rows, and says where to go on.
#[test]
fn names_of_an_owner_are_found_page_by_page() {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.person(1), world.person(2));
    for number in 0..12 {
        world.register(if number % 4 == 3 { &mut bob } else { &mut alice }, &format!("n{number:02}.ghost"));
    }
    let service = &world.node.service;
    let (mut after, mut found, mut pages) = (None, Vec::new(), 0);
    loop {
        let page = service.names(after.as_deref(), Some(&bob.id().to_string()), 2).unwrap();
        assert!(page.rows.len() <= 2 && pages < 12, "{page:?}");
        found.extend(page.rows.into_iter().map(|row| row.name));
        pages += 1;
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(found, ["n03.ghost.", "n07.ghost.", "n11.ghost."]);
    let nobody = SigilId([9; 32]).to_string();
    assert!(service.names(None, Some(&nobody), 2).unwrap().rows.is_empty());
}

/// T10: a name may have 4,096 RRsets.
#[test]
fn records_of_a_name_come_in_pages() {
    let mut world = World::new();
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.ghost");
    for first in (0..520).step_by(40) {
        let owners = (first..first + 40).map(|number| format!("n{number:03}.alice.ghost"));
        let rrsets = owners.map(|owner| world.signed(&alice, &owner, "A", &["192.0.2.1"])).collect();
        world.submit(&mut alice, Op::put(name("alice.ghost"), rrsets)).unwrap();
    }
    let service = &world.node.service;
    let first = service.records("alice.ghost", None).unwrap();
    let rest = service.records("alice.ghost", first.next.as_deref()).unwrap();
    assert_eq!((first.rows.len(), rest.rows.len(), rest.next), (500, 20, None));
    let owners: Vec<_> = first.rows.iter().chain(&rest.rows).map(|row| row.owner.clone()).collect();
    assert!(owners.is_sorted() && owners[519] == "n519.alice.ghost.", "{owners:?}");
}

/// T12: five requests took 58 seconds.
#[test]
fn a_zone_is_exported_once_for_everybody() {
    let mut world = World::new();
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.ghost");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let service = &world.node.service;
    let export = |budget: &Budget| runtime.block_on(service.zone("ghost", budget));
    let budget = little();
    // Making it is taken before; getting what was made takes its octets alone.
    budget.charge(Cost::cpu(CPU_AHEAD));
    assert!(matches!(export(&budget), Err(ServiceError::Overdrawn(_))));
    let made = export(&Budget::unlimited()).unwrap();
    let spent = little();
    assert!(Arc::ptr_eq(&made, &export(&spent).unwrap()));
    assert_eq!(spent.check(), Ok(()));
    world.register(&mut alice, "bob.ghost");
    let other = export(&Budget::unlimited()).unwrap();
    assert!(!Arc::ptr_eq(&made, &other) && other.contains("bob.ghost.") && !made.contains("bob.ghost."));
}

/// Nothing is free, a unit of fuel costs one billionth of a GCC.
const DEAR: GasPolicy = GasPolicy { epoch: 3_600, free: 0, lowest: 1_000_000, highest: 1_000_000, ..DEFAULT_POLICY };

/// A funded name whose contract, or program, is the shipped one that is called so.
fn bound(contract: &str, policy: GasPolicy) -> (World, Person) {
    let mut world = World::new();
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.ghost");
    let wasm = SHIPPED.iter().find(|(shipped, _)| *shipped == contract).unwrap().1;
    let contract = Some(world.deploy(&mut alice, wasm));
    let bind = Op::BindContract { name: name("alice.ghost"), contract, parameters: b"words".to_vec() };
    world.submit(&mut alice, bind).unwrap();
    let gateways = vec![SigilId::from(&world.node.gateway.engine().sigil.verifying_key())];
    world.govern(Op::SetGas { policy, gateways }).unwrap();
    world.fund(alice.id(), 1_000_000_000);
    (world, alice)
}

fn pending(world: &World) -> u64 {
    let usage = world.node.service.usage(Some("alice.ghost"), None, 1).unwrap();
    usage[0].fuel
}

/// T12: an owner's gas is for resolution and calls, not for what strangers want proven.
#[test]
fn a_receipt_costs_its_asker_and_not_the_owner() {
    let (world, _alice) = bound("park", DEAR);
    assert!(world.ask_plain("alice.ghost", "TXT").records.iter().any(|row| row.contains("words")));
    let before = pending(&world);
    assert!(before > 0);
    let asker = Asker::of(&world, Budget::unlimited());
    let replies = asker.batch("answer.receipt", &json!({ "name": "alice.ghost", "type": "TXT" }));
    assert!(replies.iter().all(|reply| reply["result"]["receipt"].is_string()), "{replies:?}");
    assert_eq!(pending(&world), before);
}

/// T32: a receipt tells nobody what is meant for another network.
#[test]
fn receipts_are_not_made_for_networks_of_others() {
    let world = World::new();
    let asker = Asker::of(&world, Budget::unlimited());
    for (client, served) in [
        ("10.1.2.0/24", false),
        ("192.0.2.2", false),
        ("2001:db8::/56", false),
        ("nonsense", false),
        ("192.0.2.0/24", true),
        ("192.0.2.1", true),
        ("none", true),
    ] {
        let params = json!({ "name": "nobody.ghost", "type": "A", "client": client });
        assert_eq!(code(&asker.batch("answer.receipt", &params)[0]) == 0, served, "{client}");
    }
}

/// T31.
#[test]
fn calls_do_not_take_resolution_away() {
    // It is a program and a resolver.
    let (world, _alice) = bound("oracle", GasPolicy { most: 400_000, ..DEAR });
    let called = |number: u32| {
        let input = format!("call {number}").into_bytes();
        let call = Call { name: name("alice.ghost"), input, fuel: 100_000, asker: None, receipt: false };
        world.node.gateway.call_here(&call)
    };
    let mut last = None;
    for number in 0..100_000 {
        if let Err(error) = called(number) {
            last = Some(error);
            break;
        }
    }
    assert_eq!(last, Some(OutOfGas::MostOfCalls.into()));
    let used = pending(&world);
    assert!((200_000..400_000).contains(&used), "{used}");
    // Settled, it is the same.
    world.node.settle().unwrap();
    assert_eq!(called(0).unwrap_err(), OutOfGas::MostOfCalls.into());
    // The rest of `most` is resolution's, so its own contract answers.
    let told = world.ask_plain("alice.ghost", "A");
    assert!(told.ede.is_none_or(|(_, words)| !words.contains("out of gas")));
    assert!(pending(&world) > used);
}

/// Numbers that look random and are the same in each run (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }

    fn one_of<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

const EVERY_METHOD: [&str; 35] = [
    "registry.info",
    "op.submit",
    "account.get",
    "account.list",
    "name.get",
    "account.commitments",
    "name.terms",
    "name.list",
    "record.list",
    "update.keys",
    "update.secret",
    "contract.get",
    "covenant.list",
    "answer.receipt",
    "op.quote",
    "mana.load",
    "token.get",
    "token.list",
    "ledger.balances",
    "ledger.history",
    "ledger.holds",
    "set.get",
    "attestor.list",
    "attestation.list",
    "gas.info",
    "gas.usage",
    "zone.export",
    "name.history",
    "log.get",
    "log.checkpoint",
    "log.proof",
    "log.consistency",
    "no.method",
    "",
    "rpc",
];

const PARAMETERS: [&str; 24] = [
    "name", "did", "dids", "ops", "after", "before", "owner", "limit", "hash", "request", "type", "client", "kind",
    "bytes", "rrsigs", "token", "set", "by", "from", "to", "size", "seq", "x", "",
];

fn value(dice: &mut Dice, depth: usize) -> Value {
    let texts = [
        "alice.ghost",
        "ghost",
        ".",
        "",
        "nobody.sig",
        "A",
        "TYPE65535",
        "GCC",
        "none",
        "192.0.2.0/24",
        "n01.ghost A",
        "register",
        "AAAA",
        "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp",
        "\u{0}\u{ffff}\"\\",
    ];
    match dice.below(if depth == 0 { 7 } else { 9 }) {
        0 => json!(u64::MAX),
        1 => json!(-1),
        2 => json!(dice.below(3)),
        3 => json!(1e308),
        4 => json!(null),
        7 => Value::Array((0..dice.below(5)).map(|_| value(dice, depth - 1)).collect()),
        8 => json!({ *dice.one_of(&PARAMETERS): value(dice, depth - 1) }),
        _ => json!(dice.one_of(&texts)),
    }
}

fn call(dice: &mut Dice) -> Value {
    let mut params = serde_json::Map::new();
    for _ in 0..dice.below(5) {
        params.insert((*dice.one_of(&PARAMETERS)).to_owned(), value(dice, 2));
    }
    json!({ "jsonrpc": "2.0", "id": value(dice, 0), "method": dice.one_of(&EVERY_METHOD), "params": params })
}

/// T10, and what nobody has listed: whatever is posted, the reply is JSON-RPC, bounded, and no fault of ours.
#[test]
fn whatever_is_posted_has_a_bounded_reply() {
    let (world, _alice) = bound("park", DEAR);
    let asker = Asker::of(&world, Budget::unlimited());
    let mut dice = Dice(1);
    for round in 0..1_500 {
        let body = match dice.below(3) {
            0 => Value::Array((0..dice.below(40)).map(|_| call(&mut dice)).collect()),
            _ => call(&mut dice),
        };
        let mut body = body.to_string().into_bytes();
        if dice.below(3) == 0 {
            let at = dice.below(body.len());
            body[at] = dice.below(256) as u8;
        }
        let resource = asker.serve(ApiRequest::Rpc(body.clone().into()));
        let shown = || format!("round {round}: {}", String::from_utf8_lossy(&body));
        assert!([200, 204].contains(&resource.status), "{resource:?} {}", shown());
        assert!(resource.body.len() <= MAX_BATCH_REPLY + 40 * 256, "{} octets {}", resource.body.len(), shown());
        assert!(!String::from_utf8_lossy(&resource.body).contains("-32603"), "{resource:?} {}", shown());
        if resource.status == 200 {
            serde_json::from_slice::<Value>(&resource.body).unwrap_or_else(|error| panic!("{error} {}", shown()));
        }
    }
}
