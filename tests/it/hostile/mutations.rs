//! Anybody at any door, with octets that are nearly right: no panic, and the door serves the next one. `tests/fuzz` looks for
//! longer, and is told what it reaches.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use data_encoding::BASE64;
use ghostplane::api::Rpc;
use ghostplane::gateway::{Begun, Client, Transport};
use ghostplane::node::SHIPPED;
use ghostplane::op::{self, OP_CONTEXT, Op, OpBody, envelope};
use ghostplane::state::View as _;
use ghostplane::transport::{ApiRequest, Caller, RpcHandler as _};
use ghostplane::wire::Message;
use ghostplane::work::Budget;

use crate::support::{DO, Person, World, name, query};
use crate::updates::Update;

/// The random numbers of the changes: the same in each run.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        // xorshift64* (Vigna 2016).
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound.max(1)
    }

    /// One of the seeds with one to four changes, most of them small.
    pub fn mutated(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut octets = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(4) {
            let at = self.below(octets.len());
            let until = (at + 1 + self.below(8)).min(octets.len());
            match self.below(7) {
                0 if at < octets.len() => octets[at] ^= 1 << self.below(8),
                1 if at < octets.len() => octets[at] = [0, 1, 0x3f, 0x40, 0x7f, 0x80, 0xc0, 0xff][self.below(8)],
                2 if at < until => drop(octets.drain(at..until)),
                3 if at < until => {
                    let again = octets[at..until].to_vec();
                    octets.splice(at..at, again);
                }
                4 => octets.truncate(at),
                5 => {
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.below(other.len());
                    octets.truncate(at);
                    octets.extend(&other[from..]);
                }
                _ => octets.insert(at, self.next() as u8),
            }
        }
        octets
    }
}

/// A registry with a name, records, a contract and an update key, and who owns it.
fn world() -> (World, Person) {
    let mut world = World::new();
    let mut alice = world.person(1);
    world.register(&mut alice, "alice.ghost");
    world.sign(&mut alice, "alice.ghost").unwrap();
    world.put(&mut alice, "www.alice.ghost", "A", &["192.0.2.1"]).unwrap();
    let contract = world.deploy(&mut alice, SHIPPED[0].1);
    world
        .submit(
            &mut alice,
            Op::BindContract { name: name("alice.ghost"), contract: Some(contract), parameters: Vec::new() },
        )
        .unwrap();
    (world, alice)
}

#[test]
fn mutated_queries_and_updates_are_answered_or_dropped() {
    let (world, alice) = world();
    let update = Update::of("alice.ghost").add("new.alice.ghost", "A", "192.0.2.7");
    let seeds = [
        query("www.alice.ghost", "A", DO),
        query("nothing.alice.ghost", "TXT", 0),
        query("alice.ghost", "DNSKEY", DO),
        query("example.com", "MX", DO),
        query("ghost", "AXFR", 0),
        update.octets(),
        update.signed(&alice.key, "alice.ghost", world.now() - 60, world.now() + 60),
    ];
    let mut random = Random::new(7);
    for _ in 0..20_000 {
        let message = random.mutated(&seeds);
        for transport in [Transport::Udp, Transport::Tcp] {
            let client = Client::new(transport, IpAddr::V4(Ipv4Addr::LOCALHOST));
            if let Begun::Ready(reply) = world.node.gateway.begin(&message, client) {
                assert!(Message::parse(&reply.wire).is_ok(), "{message:?}");
            }
        }
    }
    // Those that are executed, too.
    for _ in 0..1_000 {
        let message = random.mutated(&seeds[..5]);
        let client = Client::new(Transport::Tcp, IpAddr::V4(Ipv4Addr::LOCALHOST));
        if let Some(reply) = world.node.gateway.answer(&message, client) {
            assert!(Message::parse(&reply.wire).is_ok(), "{message:?}");
        }
    }
    assert_eq!(world.ask("www.alice.ghost", "A").rcode, 0);
}

#[test]
fn mutated_ops_are_rejected_or_do_what_they_say() {
    let (world, alice) = world();
    let registry = world.node.service.registry.id();
    let rrset = world.signed(&alice, "x.alice.ghost", "TXT", &["\"x\""]);
    let ops = [
        Op::Register { name: name("bob.ghost"), years: 1 },
        Op::put(name("alice.ghost"), vec![rrset]),
        Op::Transfer { name: name("alice.ghost"), to: Person::new(2).id() },
        Op::DeployContract { wasm: SHIPPED[1].1.to_vec() },
        Op::Release { name: name("alice.ghost") },
    ];
    let expires = world.now() + 600;
    let payload = |op: Op, nonce| {
        let signed = op::sign(&alice.key, &OpBody { registry, nonce, expires, op });
        envelope::open(OP_CONTEXT, &signed).unwrap().payload
    };
    let mut random = Random::new(8);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let peer = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let mut verified = 0;
    for _ in 0..60 {
        let nonce = world.node.service.registry.snapshot().unwrap().account(&alice.id()).unwrap().next_nonce;
        let payloads: Vec<_> = ops.iter().map(|op| payload(op.clone(), nonce)).collect();
        // Half of them changed under a good signature, half behind it.
        let sealed: Vec<_> =
            payloads.iter().map(|payload| envelope::seal(OP_CONTEXT, &alice.key, payload.clone())).collect();
        let batch: Vec<_> = (0..32)
            .map(|at| match at % 2 {
                0 => envelope::seal(OP_CONTEXT, &alice.key, random.mutated(&payloads)),
                _ => random.mutated(&sealed),
            })
            .collect();
        verified += batch.iter().filter(|bytes| op::verify(bytes, registry, world.now()).is_ok()).count();
        let outcomes = runtime.block_on(world.node.service.submit(batch.clone(), peer)).unwrap();
        assert_eq!(outcomes.len(), batch.len());
    }
    assert!(verified > 5, "{verified}");
    let mut alice = alice;
    alice.nonce = world.node.service.registry.snapshot().unwrap().account(&alice.id()).unwrap().next_nonce;
    world.submit(&mut alice, Op::Register { name: name("carol.ghost"), years: 1 }).unwrap();
}

#[test]
fn mutated_calls_get_an_answer_in_json() {
    let (world, alice) = world();
    let did = alice.id().to_string();
    let calls = [
        ("registry.info", "{}".to_owned()),
        ("name.get", r#"{"name": "alice.ghost"}"#.to_owned()),
        ("name.list", r#"{"after": "a.ghost", "limit": 100}"#.to_owned()),
        ("account.list", format!(r#"{{"dids": ["{did}", "{did}"]}}"#)),
        ("record.list", r#"{"name": "alice.ghost"}"#.to_owned()),
        ("op.submit", format!(r#"{{"ops": ["{}"]}}"#, BASE64.encode(&[0xd2; 90]))),
        ("update.secret", format!(r#"{{"request": "{}"}}"#, BASE64.encode(&[0xd2; 90]))),
        ("answer.receipt", r#"{"name": "www.alice.ghost", "type": "A", "client": "192.0.2.0/24"}"#.to_owned()),
        ("ledger.history", format!(r#"{{"did": "{did}", "before": 18446744073709551615, "limit": 10}}"#)),
        ("log.proof", r#"{"seq": 1, "size": 3}"#.to_owned()),
        ("log.consistency", r#"{"from": 1, "to": 3}"#.to_owned()),
        ("name.history", r#"{"name": "alice.ghost", "from": 0, "size": 0, "limit": 9}"#.to_owned()),
        ("op.quote", r#"{"kind": "put_records", "name": "alice.ghost", "bytes": 100, "rrsigs": 1}"#.to_owned()),
        ("zone.export", r#"{"name": "alice.ghost"}"#.to_owned()),
    ];
    let call = |(method, params): &(&str, String)| {
        format!(r#"{{"jsonrpc": "2.0", "id": 1, "method": "{method}", "params": {params}}}"#)
    };
    let mut seeds: Vec<Vec<u8>> = calls.iter().map(|it| call(it).into_bytes()).collect();
    seeds.push(format!("[{}]", calls.each_ref().map(call).join(", ")).into_bytes());
    let (rpc, mut random) = (Rpc::start(world.node.service.clone()).unwrap(), Random::new(9));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::new(Transport::Https, IpAddr::V4(Ipv4Addr::LOCALHOST));
    let caller = || Caller { client, budget: Budget::unlimited() };
    let ask = |body: Vec<u8>| runtime.block_on(rpc.serve(ApiRequest::Rpc(Bytes::from(body)), caller())).body;
    for _ in 0..1_500 {
        let body = random.mutated(&seeds);
        let told = ask(body.clone());
        assert!(told.is_empty() || serde_json::from_slice::<serde_json::Value>(&told).is_ok(), "{body:?}");
    }
    for seed in seeds {
        let told: serde_json::Value = serde_json::from_slice(&ask(seed)).unwrap();
        assert!(told.is_array() || told["id"] == 1, "{told}");
    }
}
