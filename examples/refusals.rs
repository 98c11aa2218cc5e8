//! What turning work away costs, by kind: CPU time of the whole process an attempt, as a table for docs/performance.md.
//!
//! ```text
//! refusals
//! ```
//! Everything runs in this process, without sockets. Each kind is refused for the reason that its row names, or the program
//! ends.

// The benches use the rest of it.
#[allow(dead_code)]
#[path = "../benches/shared/author.rs"]
mod author;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use author::{Author, NOW, name, query};
use bytes::Bytes;
use ed25519_dalek::SigningKey;
use ghostplane::api::Rpc;
use ghostplane::dnssec::ZoneKey;
use ghostplane::gateway::{Client, Transport};
use ghostplane::limits::{MAX_CONTRACT, MAX_PUT_RRSETS, MAX_RRSIGS};
use ghostplane::op::{self, Op, OpBody, SigilId};
use ghostplane::transport::{ApiRequest, Caller, RpcHandler as _};
use ghostplane::wire::{Rrset, Rtype};
use ghostplane::work::Cost;
use nix::time::{ClockId, clock_gettime};

/// Of which the least is told: others have the machine, too.
const ROUNDS: u32 = 5;

/// A client that is no loopback address, so that limits hold for it.
fn client(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, last))
}

fn process_time() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).expect("a clock that every Linux has")
}

/// Attempts, each of which must be refused, `count` at once.
fn row(kind: &str, why: &str, count: u32, mut attempts: impl FnMut()) {
    attempts();
    let mut least = Duration::MAX;
    for _ in 0..ROUNDS {
        let begun = process_time();
        attempts();
        least = least.min(process_time() - begun);
    }
    println!("| {kind} | {why} | {:.1} |", least.as_secs_f64() * 1e6 / f64::from(count));
}

struct Bench {
    author: Author,
    rpc: Rpc,
}

impl Bench {
    fn signed(&self, seed: u8, nonce: u64, op: Op) -> Vec<u8> {
        let registry = self.author.node.service.registry.id();
        op::sign(&SigningKey::from_bytes(&[seed; 32]), &OpBody { registry, nonce, expires: NOW + 600, op })
    }

    /// Ops that come in one body from one client, each refused with this code.
    fn ops(&self, kind: &str, why: &str, code: u16, from: IpAddr, op: &[u8]) {
        const COUNT: u32 = 64;
        let ops = vec![op.to_vec(); COUNT as usize];
        row(kind, why, COUNT, || {
            for told in self.author.node.service.verify_all(&ops, from).unwrap() {
                let Err(rejection) = told else { panic!("{kind} is let in") };
                assert_eq!(rejection.code(), code, "{kind}: {rejection}");
            }
        });
    }

    fn ask_api(&self, kind: &str, why: &str, from: IpAddr, says: &str, request: impl Fn() -> ApiRequest) {
        const COUNT: u32 = 64;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let client = Client::new(Transport::Https, from);
        row(kind, why, COUNT, || {
            for _ in 0..COUNT {
                let caller = Caller { client, budget: self.author.node.service.work.budget(client) };
                let told = runtime.block_on(self.rpc.serve(request(), caller));
                let body = String::from_utf8_lossy(&told.body);
                assert!(body.contains(says), "{kind}: {} {body}", told.status);
            }
        });
    }
}

/// As many RRSIGs as one op may bring.
fn many_rrsigs() -> Op {
    let (zone, key) = (name("alice.ghost"), ZoneKey::of_sigil(&SigningKey::from_bytes(&[8; 32])));
    let rrset = |number: usize| {
        let owner = zone.child(format!("x{number}").as_bytes()).unwrap();
        let mut rrset = Rrset::new(owner, Rtype::A, 3_600, [vec![192, 0, 2, 1]]);
        let sign = |more: u64| key.sign_until(&zone, &rrset, NOW - 60, NOW + 86_400 + more).into();
        rrset.rrsigs = (0..MAX_RRSIGS as u64).map(sign).collect();
        rrset
    };
    Op::put(zone.clone(), (0..MAX_PUT_RRSETS).map(rrset).collect())
}

fn main() {
    let mut author = Author::in_memory();
    let funded = SigilId::from(&SigningKey::from_bytes(&[8; 32]).verifying_key());
    let ops =
        [Op::GrantMana { to: funded, level: 3, amount: 10_000 }, Op::Register { name: name("alice.ghost"), years: 1 }];
    let ops = ops.map(|op| author.verified(op));
    author.submit_all(ops.into());
    let rpc = Rpc::start(author.node.service.clone()).unwrap();
    let bench = Bench { author, rpc };
    let register = || Op::Register { name: name("mine.ghost"), years: 1 };
    let deploy = Op::DeployContract { wasm: vec![0; MAX_CONTRACT] };

    println!("| refused | because | µs of CPU |");
    println!("|---|---|---|");
    bench.ops("no op, 512 KiB", "its form", 101, client(1), &vec![0xd2; MAX_CONTRACT]);
    let foreign = OpBody { registry: op::RegistryId([7; 32]), nonce: 0, expires: NOW + 600, op: register() };
    let foreign = op::sign(&SigningKey::from_bytes(&[8; 32]), &foreign);
    bench.ops("op of another registry", "its claim", 103, client(2), &foreign);
    bench.ops("op", "its author has no mana", 201, client(3), &bench.signed(9, 0, register()));
    bench.ops("contract of 512 KiB", "its author has no mana", 201, client(3), &bench.signed(9, 0, deploy.clone()));
    bench.ops("op", "its nonce cannot be next", 200, client(4), &bench.signed(8, 1_000, register()));
    bench.ops("contract of 512 KiB", "its nonce cannot be next", 200, client(4), &bench.signed(8, 1_000, deploy));
    bench.ops("256 RRSIGs", "its nonce cannot be next", 200, client(5), &bench.signed(8, 1_000, many_rrsigs()));
    bench.ops("256 RRSIGs", "the name is another's", 305, client(5), &bench.signed(8, 0, many_rrsigs()));
    let mut forged = bench.signed(8, 0, register());
    *forged.last_mut().unwrap() ^= 1;
    // The first ones are believed, and checked.
    for _ in 0..8 {
        drop(bench.author.node.service.verify_all(&vec![forged.clone(); 64], client(6)));
    }
    bench.ops("forged op of a funded author", "its client forged before", 107, client(6), &forged);

    let overdrawn = client(7);
    let budget = bench.author.node.service.work.budget(Client::new(Transport::Https, overdrawn));
    budget.charge(Cost::cpu(Duration::from_secs(3_600)));
    let batch = |method: &str, params: &str| {
        let call = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
        Bytes::from(format!("[{}]", vec![call; 32].join(",")))
    };
    let names = batch("name.list", "{}");
    bench.ask_api("batch of 32 calls", "its client is overdrawn", overdrawn, "too much work", || {
        ApiRequest::Rpc(names.clone())
    });
    let input = Bytes::from(vec![0; 16 * 1024]);
    bench.ask_api("call of a program", "its client is overdrawn", overdrawn, "too much work", || ApiRequest::Call {
        name: "alice.ghost".into(),
        query: String::new(),
        input: input.clone(),
    });
    let keys: String = (0..300_000).map(|key| format!("\"{key}\":0,")).collect();
    let keys = Bytes::from(format!("{{{keys}\"x\":0}}"));
    bench.ask_api("object of 300,000 keys", "more values than a body may have", client(8), "values", || {
        ApiRequest::Rpc(keys.clone())
    });

    let foreign = query(&name("www.example.com"), true);
    row("query", "not of our TLDs", 1_000, || {
        for _ in 0..1_000 {
            let reply = bench.author.node.gateway.answer(&foreign, Client::new(Transport::Udp, client(9))).unwrap();
            assert_eq!(reply.wire[3] & 15, 5);
        }
    });
}
