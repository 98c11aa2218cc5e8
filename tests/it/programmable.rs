//! Contracts at work behind the gateway: what is read decides how long an answer is kept and for whom; programs;
//! receipts.

use std::net::IpAddr;
use std::sync::mpsc;

use ghostplane::contract::receipt::{OpenReceipt, ReceiptError, Value, open};
use ghostplane::contract::{ContractHost, Failure, HostConfig, Schedule};
use ghostplane::gateway::{Begun, Call, CallError, Called, Client};
use ghostplane::limits::CONTRACT_FUEL;
use ghostplane::node::SHIPPED;
use ghostplane::op::{CodeHash, Op, SigilId};
use ghostplane::wire::{Rcode, Subnet, Transport};
use ghostplane::work::Budget;

use crate::support::{Person, START, Told, World, name, query};

fn shipped(wanted: &str) -> &'static [u8] {
    SHIPPED.iter().find(|(name, _)| *name == wanted).unwrap().1
}

fn bind(world: &World, owner: &mut Person, about: &str, contract: &str, parameters: &str) {
    let contract = Some(world.deploy(owner, shipped(contract)));
    world
        .submit(owner, Op::BindContract { name: name(about), contract, parameters: parameters.as_bytes().to_vec() })
        .unwrap();
}

/// A question with the option `ADDRESS/BITS` (RFC 7871), asked from an address.
fn ask_for(world: &World, from: &str, owner: &str, rtype: &str, option: Option<&[u8]>) -> Told {
    let mut message = query(owner, rtype, 0);
    if let Some(option) = option {
        let end = message.len();
        message[end - 2..].copy_from_slice(&(option.len() as u16 + 4).to_be_bytes());
        message.extend([0, 8, 0, option.len() as u8]);
        message.extend(option);
    }
    world.ask_from(from.parse::<IpAddr>().unwrap(), &message)
}

/// True if answering took an execution.
fn executes(world: &World, ask: impl FnOnce() -> Told) -> (bool, Told) {
    let before = world.node.metrics.contract_executions.get();
    let told = ask();
    (world.node.metrics.contract_executions.get() > before, told)
}

/// A socket's thread executes the TLDs' own contracts; those of owners, who may be anyone, are for workers, behind an
/// alias, too.
#[test]
fn a_question_is_answered_where_it_came_in_if_no_owners_contract_runs_for_it() {
    let mut world = World::new();
    let mut alice = world.person(1);
    for about in ["alice.gcc", "plain.ghost", "alias.ghost", "near.ghost"] {
        world.register(&mut alice, about);
    }
    bind(&world, &mut alice, "alice.gcc", "weighted", "ttl 600\nA 192.0.2.1 1");
    world.put(&mut alice, "plain.ghost", "A", &["192.0.2.2"]).unwrap();
    world.put(&mut alice, "alias.ghost", "CNAME", &["alice.gcc."]).unwrap();
    world.put(&mut alice, "near.ghost", "CNAME", &["plain.ghost."]).unwrap();
    world.node.warm_up();
    let client = Client::new(Transport::Quic, IpAddr::from([192, 0, 2, 99]));
    let gateway = &world.node.gateway;
    let here = |owner: &str| {
        let Begun::Miss(miss) = gateway.begin(&query(owner, "A", 0), client) else { panic!("{owner} is no miss") };
        // Each on a thread of its own, that has not spent its share on another.
        let answered = std::thread::scope(|scope| scope.spawn(|| gateway.answer_here(&miss)).join().unwrap());
        answered.map(|reply| reply.rcode)
    };
    assert_eq!(here("plain.ghost"), Some(Rcode::NoError));
    assert_eq!(here("near.ghost"), Some(Rcode::NoError));
    assert_eq!(here("nobody.ghost"), Some(Rcode::NxDomain));
    assert_eq!(here("alice.gcc"), None);
    assert_eq!(here("alias.ghost"), None);
    // What was answered so is in the cache, what was left to workers is not, and they answer it.
    assert!(matches!(gateway.begin(&query("plain.ghost", "A", 0), client), Begun::Ready(_)));
    let (executed, told) = executes(&world, || world.ask_plain("alias.ghost", "A"));
    assert!(executed && told.records.contains(&"answer alice.gcc. 600 A 192.0.2.1".to_owned()), "{told:?}");
}

#[test]
fn what_reads_its_own_name_only_is_kept_until_that_is_written() {
    let mut world = World::new();
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.gcc");
    world.register(&mut alice, "other.gcc");
    bind(&world, &mut alice, "alice.gcc", "weighted", "ttl 600\nA 192.0.2.1 1");
    let ask = || executes(&world, || world.ask_plain("alice.gcc", "A"));
    assert!(ask().0);
    assert!(!ask().0);
    world.advance(599);
    assert_eq!(ask(), (false, Told { records: vec!["answer alice.gcc. 1 A 192.0.2.1".into()], ..ask().1 }));
    world.put(&mut alice, "other.gcc", "A", &["192.0.2.2"]).unwrap();
    assert!(!ask().0);
    bind(&world, &mut alice, "alice.gcc", "weighted", "ttl 600\nA 192.0.2.9 1");
    let (executed, told) = ask();
    assert!(executed);
    assert_eq!(told.records, ["answer alice.gcc. 600 A 192.0.2.9"]);
}

#[test]
fn what_reads_another_name_is_kept_until_that_is_written() {
    let mut world = World::new();
    let (mut alice, mut watcher) = (world.person(1), world.person(2));
    world.register(&mut alice, "alice.gcc");
    world.register(&mut watcher, "watch.ghost");
    let plan = "heartbeat _alive.watch.ghost\nprimary A 192.0.2.1\nbackup A 198.51.100.1";
    bind(&world, &mut alice, "alice.gcc", "failover", plan);
    let ask = || executes(&world, || world.ask_plain("alice.gcc", "A"));
    assert_eq!(ask().1.records, ["answer alice.gcc. 30 A 198.51.100.1"]);
    assert!(!ask().0);
    let until = format!("until={}", START + 20);
    world.put(&mut watcher, "_alive.watch.ghost", "TXT", &[&until]).unwrap();
    // Nobody touched alice.gcc; and no TTL reaches beyond the heartbeat.
    let (executed, told) = ask();
    assert!(executed);
    assert_eq!(told.records, ["answer alice.gcc. 20 A 192.0.2.1"]);
    assert!(!ask().0);
    world.advance(20);
    let (executed, told) = ask();
    assert!(executed);
    assert_eq!(told.records, ["answer alice.gcc. 30 A 198.51.100.1"]);
}

#[test]
fn what_reads_the_time_is_kept_until_its_own_deadline() {
    let mut world = World::new();
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.gcc");
    let plan = format!("ttl 300\nbetween {START} {} A 192.0.2.1\notherwise A 192.0.2.2", START + 100);
    bind(&world, &mut alice, "alice.gcc", "window", &plan);
    let ask = || executes(&world, || world.ask_plain("alice.gcc", "A"));
    assert_eq!(ask().1.records, ["answer alice.gcc. 100 A 192.0.2.1"]);
    world.advance(99);
    let (executed, told) = ask();
    assert!(!executed);
    assert_eq!(told.records, ["answer alice.gcc. 1 A 192.0.2.1"]);
    world.advance(1);
    let (executed, told) = ask();
    assert!(executed);
    assert_eq!(told.records, ["answer alice.gcc. 300 A 192.0.2.2"]);
    // Of an answer without a promise every question is an execution, and the TTL is 0.
    let wasm = wat_clock();
    let contract = Some(world.deploy(&mut alice, &wasm));
    world.submit(&mut alice, Op::BindContract { name: name("alice.gcc"), contract, parameters: vec![] }).unwrap();
    world.put(&mut alice, "alice.gcc", "A", &["192.0.2.7"]).unwrap();
    for _ in 0..2 {
        let (executed, told) = ask();
        assert!(executed);
        assert_eq!(told.records, ["answer alice.gcc. 0 A 192.0.2.7"]);
    }
}

/// Reads the time, then answers from the stored data.
fn wat_clock() -> Vec<u8> {
    let module = r#"(module
      (import "ghostplane:contract/context@0.2.0" "now" (func $now (result i64)))
      (import "ghostplane:contract/registry@0.2.0" "lookup" (func $lookup (param i32 i32 i32 i32)))
      (memory (export "memory") 1)
      (global $next (mut i32) (i32.const 4096))
      (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
        (local $at i32)
        (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
        (global.set $next (i32.add (local.get $at) (local.get 3)))
        (local.get $at))
      (func (export "resolve") (param i32 i32 i32 i32 i32) (result i32)
        (drop (call $now))
        (call $lookup (local.get 0) (local.get 1) (local.get 2) (i32.const 64))
        ;; One answer: case 0, the first handle.
        (i32.store (i32.const 128) (i32.const 0))
        (i32.store (i32.const 132) (i32.load (i32.load (i32.const 68))))
        (i32.store (i32.const 4) (i32.const 0))
        (i32.store (i32.const 8) (i32.const 128))
        (i32.store (i32.const 12) (i32.const 1))
        (i32.const 0)))"#;
    ghostplane::contract::componentize(&wat::parse_str(module).unwrap()).unwrap()
}

#[test]
fn what_reads_the_subnet_is_kept_for_that_subnet() {
    let mut world = World::believing(&["192.0.2.0/24", "198.51.100.0/24"]);
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.gcc");
    let map = "net 192.0.2.0/24 home\nnet 2001:db8::/32 home\nregion home A 192.0.2.1\nregion default A 203.0.113.1";
    bind(&world, &mut alice, "alice.gcc", "geo", map);
    let ask = |from: &str, option: Option<&[u8]>| {
        let (executed, told) = executes(&world, || ask_for(&world, from, "alice.gcc", "A", option));
        let address = told.records[0].rsplit(' ').next().unwrap().to_owned();
        (executed, address, told.subnet)
    };
    let (home, away) = ("192.0.2.1".to_owned(), "203.0.113.1".to_owned());
    assert_eq!(ask("192.0.2.7", None), (true, home.clone(), None));
    assert_eq!(ask("192.0.2.200", None), (false, home.clone(), None));
    assert_eq!(ask("198.51.100.1", None), (true, away.clone(), None));
    assert_eq!(ask("192.0.2.8", None), (false, home.clone(), None));
    assert_eq!(ask("::ffff:192.0.2.8", None), (false, home.clone(), None));
    assert_eq!(ask("2001:db8:5::1", None), (true, home.clone(), None));
    assert_eq!(ask("2001:db8:6::1", None), (false, home.clone(), None));
    // The option speaks for another network, and comes back with the bits that count.
    let option = [0, 1, 24, 0, 192, 0, 2];
    assert_eq!(ask("198.51.100.1", Some(&option)), (false, home.clone(), Some(vec![0, 1, 24, 24, 192, 0, 2])));
    let wide = [0, 1, 16, 0, 192, 0];
    assert_eq!(ask("192.0.2.7", Some(&wide)), (true, away.clone(), Some(vec![0, 1, 16, 24, 192, 0])));
    // Who does not want to be told apart is not.
    assert_eq!(ask("192.0.2.7", Some(&[0, 1, 0, 0])), (true, away.clone(), Some(vec![0, 1, 0, 0])));
    assert_eq!(ask("198.51.100.9", Some(&[0, 2, 0, 0])), (false, away, Some(vec![0, 2, 0, 0])));
    // An answer that is the same for all says so.
    world.put(&mut alice, "alice.gcc", "TXT", &["all"]).unwrap();
    let told = ask_for(&world, "192.0.2.7", "alice.gcc", "TXT", Some(&option));
    assert_eq!(told.subnet, Some(vec![0, 1, 24, 0, 192, 0, 2]));
    // Bits beyond the prefix are an error (RFC 7871 §7.1.2).
    assert_eq!(ask_for(&world, "192.0.2.7", "alice.gcc", "A", Some(&[0, 1, 23, 0, 192, 0, 3])).rcode, 1);
    bind(&world, &mut alice, "alice.gcc", "geo", "region default A 192.0.2.99");
    assert_eq!(ask("192.0.2.7", None).1, "192.0.2.99");
}

// --- Programs -------------------------------------------------------------------------------------

const FEED: &str = "feeder 3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c\n\
    source _feed.btc-usd.gcc\nmax-age 600";
const SIGNED: &str =
    "t=1800000000 v=91234.5 s=WXfFPaVp1qX3FHs8TLed7QNxiBzGwdrB2Uq6cEHRWFgRwOZWtKb3rz0IYYeH0lE/0+EzKqkcQtIyueSKrMEsDw==";

fn call(world: &World, about: &str, input: &[u8], fuel: u64) -> Result<Called, CallError> {
    let (sender, receiver) = mpsc::channel();
    let call = Call { name: name(about), input: input.to_vec(), fuel, asker: None, receipt: true };
    world.node.gateway.call(call, Budget::unlimited(), move |called| sender.send(called).unwrap());
    receiver.recv().unwrap()
}

#[test]
fn a_program_is_called_by_its_name() {
    let mut world = World::new();
    let mut alice = world.person(1);
    world.register(&mut alice, "btc-usd.gcc");
    let unbound = call(&world, "btc-usd.gcc", b"", CONTRACT_FUEL).unwrap_err();
    assert_eq!(unbound, CallError::NoProgram(name("btc-usd.gcc")));
    bind(&world, &mut alice, "btc-usd.gcc", "oracle", FEED);
    let called = call(&world, "btc-usd.gcc", SIGNED.as_bytes(), CONTRACT_FUEL).unwrap();
    assert_eq!((called.outcome, called.contract), (Ok(b"91234.5".to_vec()), CodeHash::of(shipped("oracle"))));
    let receipt = open(&called.receipt.unwrap()).unwrap();
    receipt.replay(&host(), code).unwrap();
    assert_eq!(receipt.receipt().runs[0].outcome, Value::Octets(b"91234.5".to_vec()));
    let refused = call(&world, "btc-usd.gcc", b"t=1 v=1 s=", CONTRACT_FUEL).unwrap();
    assert_eq!(refused.outcome, Err(Failure::Refused("not signed by the feeder".into())));
    let little = call(&world, "btc-usd.gcc", SIGNED.as_bytes(), called.fuel - 1).unwrap();
    assert_eq!((little.outcome, little.fuel), (Err(Failure::OutOfFuel), called.fuel - 1));
    let enough = call(&world, "btc-usd.gcc", SIGNED.as_bytes(), called.fuel + 1).unwrap();
    assert_eq!((enough.outcome, enough.fuel), (Ok(b"91234.5".to_vec()), called.fuel));
    let below = call(&world, "www.btc-usd.gcc", b"", CONTRACT_FUEL).unwrap_err();
    assert_eq!(below, CallError::NoProgram(name("www.btc-usd.gcc")));
    assert_eq!(call(&world, "btc-usd.gcc", &vec![0; 16 * 1024 + 1], CONTRACT_FUEL).unwrap_err(), CallError::Input);
    // A contract that only resolves is no program.
    bind(&world, &mut alice, "btc-usd.gcc", "weighted", "");
    assert!(matches!(call(&world, "btc-usd.gcc", b"", CONTRACT_FUEL), Err(CallError::NoProgram(_))));
}

// --- Receipts -------------------------------------------------------------------------------------

fn host() -> ContractHost {
    ContractHost::new(HostConfig::default()).unwrap()
}

fn code(hash: &CodeHash) -> Option<Vec<u8>> {
    SHIPPED.iter().find(|(_, code)| CodeHash::of(code) == *hash).map(|(_, code)| code.to_vec())
}

fn receipt(world: &World, owner: &str, rtype: &str, client: &str) -> Result<Vec<u8>, CallError> {
    let (sender, receiver) = mpsc::channel();
    let asker = Some(client.parse::<Subnet>().unwrap());
    let done = move |receipt| sender.send(receipt).unwrap();
    world.node.gateway.receipt(name(owner), rtype.parse().unwrap(), asker, Budget::unlimited(), done);
    receiver.recv().unwrap()
}

/// An alias into a name that is read by subnet, whose heartbeat is in a third one: everything that can be read.
fn web() -> World {
    let mut world = World::new();
    let (mut alice, mut bob) = (world.person(1), world.person(2));
    for name in ["alice.ghost", "cdn.gcc", "btc-usd.gcc", "shop.gcc"] {
        world.register(&mut alice, name);
    }
    world.register(&mut bob, "watch.sig");
    world.put(&mut alice, "www.alice.ghost", "CNAME", &["cdn.gcc."]).unwrap();
    bind(&world, &mut alice, "cdn.gcc", "geo", "net 192.0.2.0/24 home\nregion home A 192.0.2.1");
    bind(&world, &mut alice, "btc-usd.gcc", "oracle", FEED);
    let quoted = format!("\"{SIGNED}\"");
    world.put(&mut alice, "_feed.btc-usd.gcc", "TXT", &[&quoted]).unwrap();
    let plan = "heartbeat _alive.watch.sig\nprimary A 192.0.2.1\nbackup A 198.51.100.1";
    bind(&world, &mut alice, "shop.gcc", "failover", plan);
    world
}

const ASKED: [(&str, &str); 9] = [
    ("www.alice.ghost", "A"),
    ("btc-usd.gcc", "TXT"),
    ("btc-usd.gcc", "HTTPS"),
    ("_code.btc-usd.gcc", "TXT"),
    ("_did.alice.ghost", "TXT"),
    ("shop.gcc", "A"),
    ("nobody.ghost", "A"),
    ("nothing.alice.ghost", "A"),
    ("sig", "SOA"),
];

#[test]
fn every_receipt_is_executed_again_from_itself_alone() {
    let world = web();
    let host = host();
    for (owner, rtype) in ASKED {
        let octets = receipt(&world, owner, rtype, "192.0.2.7").unwrap();
        let opened = open(&octets).unwrap();
        assert_eq!(opened.gateway(), SigilId::from(&world.node.gateway.engine().sigil.verifying_key()));
        opened.replay(&host, code).unwrap_or_else(|error| panic!("{owner} {rtype}: {error}"));
        assert!(!opened.receipt().runs.is_empty());
    }
    let opened = open(&receipt(&world, "www.alice.ghost", "A", "192.0.2.7").unwrap()).unwrap();
    let outcomes: Vec<&Value> = opened.receipt().runs.iter().map(|run| &run.outcome).collect();
    assert!(matches!(outcomes[..], [Value::Alias(_), Value::Records(_)]), "{outcomes:?}");
    assert!(opened.receipt().runs[0].reads[0].changed > 0);
    // Without the code there is no replay; with other code there is another outcome.
    let hash = opened.receipt().runs[1].contract;
    assert_eq!(opened.replay(&host, |other| code(other).filter(|_| *other != hash)), Err(ReceiptError::NoCode(hash)));
}

#[test]
fn a_receipt_with_any_octet_changed_is_not_believed() {
    let world = web();
    let host = host();
    let octets = receipt(&world, "www.alice.ghost", "A", "192.0.2.7").unwrap();
    let believed = |octets: &[u8]| open(octets).and_then(|opened: OpenReceipt| opened.replay(&host, code));
    assert_eq!(believed(&octets), Ok(()));
    for at in 0..octets.len() {
        for bit in [1, 0x80] {
            let mut changed = octets.clone();
            changed[at] ^= bit;
            assert!(believed(&changed).is_err(), "octet {at}");
        }
    }
    assert!(believed(&octets[..octets.len() - 1]).is_err());
    assert!(believed(&[&octets[..], &[0]].concat()).is_err());
}

#[test]
fn what_need_not_be_the_same_elsewhere_has_no_receipt() {
    let mut world = World::new();
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.gcc");
    let trap = "(module (memory (export \"memory\") 1) (func (export \"cabi_realloc\") (param i32 i32 i32 i32) (result i32) \
        (i32.const 64)) (func (export \"resolve\") (param i32 i32 i32 i32 i32) (result i32) unreachable))";
    let wasm = ghostplane::contract::componentize(&wat::parse_str(trap).unwrap()).unwrap();
    let contract = Some(world.deploy(&mut alice, &wasm));
    world.submit(&mut alice, Op::BindContract { name: name("alice.gcc"), contract, parameters: vec![] }).unwrap();
    let refused = receipt(&world, "alice.gcc", "A", "192.0.2.7").unwrap_err();
    assert!(matches!(refused, CallError::Receipt(ReceiptError::NotReproducible(Failure::Trap(_)))), "{refused}");
    assert_eq!(receipt(&world, "alice.example", "A", "192.0.2.7"), Err(CallError::NotOurs));
}

/// The receipts of `ASKED`, octet by octet what another machine and another build made of the same registry.
/// `GHOSTPLANE_UPDATE=1` writes them anew, as rebuilt contracts need.
#[test]
fn receipts_are_the_same_on_every_machine_and_build() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shared/receipts.bin");
    let world = web();
    let mut made = Vec::new();
    for (owner, rtype) in ASKED {
        let octets = receipt(&world, owner, rtype, "192.0.2.7").unwrap();
        made.extend((octets.len() as u32).to_be_bytes());
        made.extend(octets);
    }
    if std::env::var_os("GHOSTPLANE_UPDATE").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    let kept = std::fs::read(path).unwrap();
    assert!(kept == made, "receipts differ from {path}");
    let host = host();
    receipts_in(&kept).iter().for_each(|receipt| receipt.replay(&host, code).unwrap());
}

fn receipts_in(file: &[u8]) -> Vec<OpenReceipt> {
    let (mut rest, mut receipts) = (file, Vec::new());
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let (octets, tail) = tail.split_at(u32::from_be_bytes(*length) as usize);
        receipts.push(open(octets).unwrap());
        rest = tail;
    }
    receipts
}

/// Receipts of before instances and growth took fuel: of `ASKED`, made in November 2026.
#[test]
fn receipts_of_the_first_schedule_are_verified_by_it() {
    let kept = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/shared/receipts-1.bin")).unwrap();
    let first = ContractHost::new(HostConfig { schedule: Schedule::First, ..HostConfig::default() }).unwrap();
    let receipts = receipts_in(&kept);
    assert_eq!(receipts.len(), ASKED.len());
    for receipt in receipts {
        assert_eq!(receipt.schedule(), Ok(Schedule::First));
        receipt.replay(&first, code).unwrap();
        assert_eq!(receipt.replay(&host(), code), Err(ReceiptError::OtherSchedule(1)));
    }
}
