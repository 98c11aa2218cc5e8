//! What one answer and one write cost, without sockets: `cargo bench --bench engine`. Whole-server loads are
//! `ghostplane bench`; docs/performance.md has figures of both.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ed25519_dalek::SigningKey;
use ghostplane::contract::{CodeFolder, CodeRef, ContractHost, HostConfig, Question, ReadFault, Reads, Worlds};
use ghostplane::dnssec::{FLAGS_OWNER, Secret, ZoneKey};
use ghostplane::node::SHIPPED;
use ghostplane::op::{self, CodeHash, Op, OpBody, SigilId};
use ghostplane::registry::Registry;
use ghostplane::wire::{Name, Query, Resolution, Rrset, Rtype, Scope, Subnet};

#[path = "shared/author.rs"]
mod author;

use author::{Author, CLIENT, NOW, name, query};

/// An author with a registry on disk and a name of his own.
fn on_disk(dir: &Path) -> (Author, Name) {
    let mut author = Author::new(|genesis| Registry::open(&dir.join("registry.redb"), || genesis).unwrap());
    let alice = name("alice.ghost");
    let register = author.verified(Op::Register { name: alice.clone(), years: 1 });
    author.submit_all(vec![register]);
    (author, alice)
}

fn put_of(key: &SigningKey, name: &Name, owner: &Name, last: u8) -> Op {
    let mut rrset = Rrset::new(owner.clone(), Rtype::A, 3_600, [vec![192, 0, 2, last]]);
    rrset.rrsigs = vec![ZoneKey::of_sigil(key).sign_until(name, &rrset, NOW - 60, NOW + 86_400).into()];
    Op::put(name.clone(), vec![rrset])
}

fn answers(c: &mut Criterion) {
    let mut author = Author::in_memory();
    let own = ZoneKey::of_sigil(&author.key);
    let p256 = ZoneKey::new(Secret::from_p256_seed(&[9; 32]).unwrap(), FLAGS_OWNER);
    let mut ops = Vec::new();
    for (zone, key, online) in
        [("alice.ghost", &own, Some(0)), ("carol.ghost", &p256, Some(1)), ("fort.ghost", &own, None)]
    {
        let zone = name(zone);
        ops.push(author.verified(Op::Register { name: zone.clone(), years: 1 }));
        let put = author.zone(&zone, key, online);
        ops.push(author.verified(put));
    }
    author.submit_all(ops);
    let gateway = author.node.gateway.clone();
    let known = name("x.w.alice.ghost");

    let mut group = c.benchmark_group("answer");
    let message = query(&known, true);
    group.bench_function("parse", |b| b.iter(|| Query::parse(&message).unwrap()));
    for (id, dnssec_ok) in [("hit", false), ("hit, signed", true)] {
        let message = query(&known, dnssec_ok);
        group.bench_function(id, |b| b.iter(|| gateway.answer(&message, CLIENT).unwrap()));
    }
    // Each of these names has never been asked for: one execution with one look-up, and a cache entry.
    let next = AtomicU64::new(0);
    let mut miss = |id: &str, below: &str, dnssec_ok: bool| {
        let fresh = || query(&name(&format!("x{}.{below}", next.fetch_add(1, Ordering::Relaxed))), dnssec_ok);
        group.bench_function(id, |b| {
            b.iter_batched(fresh, |message| gateway.answer(&message, CLIENT).unwrap(), BatchSize::SmallInput)
        });
    };
    miss("miss, wildcard", "w.alice.ghost", false);
    // The owner's signature is stored; one is made, over the NSEC.
    miss("miss, wildcard, signed", "w.alice.ghost", true);
    miss("miss, NXDOMAIN", "alice.ghost", false);
    // Two are made: SOA and NSEC.
    miss("miss, NXDOMAIN, signed", "alice.ghost", true);
    miss("miss, NXDOMAIN, signed with P-256", "carol.ghost", true);
    // All is stored, and nothing executed.
    miss("miss, NXDOMAIN, strict, signed", "fort.ghost", true);
    group.finish();
}

/// A registry with one RRset, at hand.
struct OneRrset(Arc<Rrset>);

impl Reads for OneRrset {
    fn lookup(&mut self, _name: &Name, _rtype: Rtype) -> Result<Resolution, ReadFault> {
        Ok(Resolution::Records(vec![self.0.clone()]))
    }

    fn zone(&mut self) -> Name {
        self.0.owner.suffix(2)
    }

    fn owner_key(&mut self) -> Option<[u8; 32]> {
        Some([7; 32])
    }

    fn bound_contract(&mut self) -> Option<[u8; 32]> {
        None
    }

    fn bound_worlds(&mut self) -> Result<Worlds, ReadFault> {
        Ok(Worlds::default())
    }

    fn parameters(&mut self) -> Vec<u8> {
        Vec::new()
    }

    fn now(&mut self) -> u64 {
        NOW
    }

    fn client_subnet(&mut self, _scope: Scope) -> Option<Subnet> {
        None
    }
}

/// A shipped contract.
fn shipped(name: &str) -> Vec<u8> {
    SHIPPED.iter().find(|(shipped, _)| *shipped == name).unwrap().1.to_vec()
}

/// The same contract, but for a custom section: another hash, so another contract to the host.
fn other(wasm: &[u8], number: u32) -> Vec<u8> {
    [wasm, &[0, 6, 1, b'n'], &number.to_be_bytes()].concat()
}

fn execute(host: &ContractHost, wasm: &[u8], hash: [u8; 32], question: &Question, found: &Arc<Rrset>) {
    let code = CodeRef { hash, load: &|| Ok(Some(wasm.to_vec())) };
    let (execution, _) = host.execute(code, question, OneRrset(found.clone()));
    execution.outcome.unwrap();
}

/// The host alone: what an execution costs by where its machine code is.
fn contracts(c: &mut Criterion) {
    let name = name("www.alice.ghost");
    let found = Arc::new(Rrset::new(name.clone(), Rtype::A, 3_600, [vec![192, 0, 2, 1]]));
    let question = Question { zone: name.suffix(2), name, rtype: Rtype::A };
    let mut group = c.benchmark_group("contract");
    let host = ContractHost::new(HostConfig::default()).unwrap();
    for contract in ["ghost", "weighted"] {
        let wasm = shipped(contract);
        let hash = CodeHash::of(&wasm).0;
        let text = format!("execute, {contract}");
        group.bench_function(text, |b| b.iter(|| execute(&host, &wasm, hash, &question, &found)));
    }
    let ghost = shipped("ghost");
    let others: Vec<_> = (0..1_000).map(|number| other(&ghost, number)).collect();
    let others: Vec<_> = others.into_iter().map(|wasm| (CodeHash::of(&wasm).0, wasm)).collect();
    let next = AtomicU64::new(0);
    let mut in_turn = |id: &str, host: &ContractHost| {
        others.iter().for_each(|(_, wasm)| drop(host.check(wasm).unwrap()));
        group.bench_function(id, |b| {
            b.iter(|| {
                let (hash, wasm) = &others[next.fetch_add(1, Ordering::Relaxed) as usize % others.len()];
                execute(host, wasm, *hash, &question, &found)
            })
        });
    };
    in_turn("execute, ghost, another of 1,000 each time", &host);
    // No room in memory.
    let dir = tempfile::tempdir().unwrap();
    let files = Some(CodeFolder::new(dir.path().to_owned(), b"secret"));
    let disk = ContractHost::new(HostConfig { compiled_bytes: 1, files, ..HostConfig::default() }).unwrap();
    in_turn("execute, ghost, from disk each time", &disk);
    let forgetful = ContractHost::new(HostConfig { compiled_bytes: 1, ..HostConfig::default() }).unwrap();
    let hash = CodeHash::of(&ghost).0;
    group.sample_size(10);
    group.bench_function("execute, ghost, compiled each time", |b| {
        b.iter(|| execute(&forgetful, &ghost, hash, &question, &found))
    });
    group.finish();
}

fn ops(c: &mut Criterion) {
    let mut author = Author::in_memory();
    let alice = name("alice.ghost");
    let put = put_of(&author.key, &alice, &alice, 1);
    let signed = author.signed(put);
    let registry = author.node.service.registry.id();
    let mut group = c.benchmark_group("op");
    group.bench_function("sign an RRset", |b| b.iter(|| put_of(&author.key, &alice, &alice, 1)));
    group.bench_function("verify a put of one RRset", |b| b.iter(|| op::verify(&signed, registry, NOW).unwrap()));
    group.finish();
}

/// Durable commits on the file system that holds the temporary folder.
fn commits(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let (mut author, alice) = on_disk(dir.path());
    let mut group = c.benchmark_group("commit");
    for size in [1_u64, 32, 512] {
        group.throughput(Throughput::Elements(size));
        group.bench_function(format!("{size} ops"), |b| {
            b.iter_custom(|times| {
                let mut elapsed = Duration::ZERO;
                for _ in 0..times {
                    let puts: Vec<Op> = (0..size).map(|n| put_of(&author.key, &alice, &alice, n as u8)).collect();
                    let ops = puts.into_iter().map(|put| author.verified(put)).collect();
                    let begun = Instant::now();
                    author.submit_all(ops);
                    elapsed += begun.elapsed();
                }
                elapsed
            })
        });
    }
    group.finish();
}

/// What is turned away before its signature is checked; and writes that are read at once, alone and beside as many of
/// those as one core can bring.
fn gate(c: &mut Criterion) {
    const BATCH: u64 = 256;
    let dir = tempfile::tempdir().unwrap();
    let (mut author, alice) = on_disk(dir.path());
    let service = author.node.service.clone();
    let nobody = |seed: u8, sound: bool| {
        let key = SigningKey::from_bytes(&[seed; 32]);
        let op = Op::Register { name: name("mine.ghost"), years: 1 };
        let body = OpBody { registry: service.registry.id(), nonce: 0, expires: NOW + 600, op };
        let mut bytes = op::sign(&key, &body);
        *bytes.last_mut().unwrap() ^= u8::from(!sound);
        bytes
    };
    let grant =
        Op::GrantMana { to: SigilId::from(&SigningKey::from_bytes(&[8; 32]).verifying_key()), level: 3, amount: 9 };
    let grant = author.verified(grant);
    author.submit_all(vec![grant]);
    let unfunded: Vec<_> = (0..BATCH).map(|_| nobody(9, true)).collect();
    let forged: Vec<_> = (0..BATCH).map(|_| nobody(8, false)).collect();
    let turn_away = |ops: &[Vec<u8>]| {
        let told = service.verify_all(ops, CLIENT.addr).unwrap();
        assert!(told.iter().all(Result::is_err));
    };
    let mut group = c.benchmark_group("gate");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function(format!("{BATCH} ops of an author without mana"), |b| b.iter(|| turn_away(&unfunded)));
    group.bench_function(format!("{BATCH} forged ops of a funded one"), |b| b.iter(|| turn_away(&forged)));
    group.throughput(Throughput::Elements(1));
    for flooded in [false, true] {
        let id = if flooded { "write and read, beside a flood" } else { "write and read" };
        let ended = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            if flooded {
                scope.spawn(|| {
                    while !ended.load(Ordering::Relaxed) {
                        turn_away(&unfunded);
                        turn_away(&forged);
                    }
                });
            }
            let mut last = 0_u8;
            group.bench_function(id, |b| {
                b.iter_custom(|times| {
                    let mut elapsed = Duration::ZERO;
                    for _ in 0..times {
                        last = last.wrapping_add(1);
                        let put = put_of(&author.key, &alice, &alice, last);
                        let (op, question) = (author.signed(put), query(&alice, false));
                        let begun = Instant::now();
                        let verified = service.verify_all(&[op], CLIENT.addr).unwrap().remove(0).unwrap();
                        author.submit_all(vec![verified.op]);
                        let reply = author.node.gateway.answer(&question, CLIENT).unwrap();
                        elapsed += begun.elapsed();
                        assert!(reply.wire.windows(4).any(|part| part == [192, 0, 2, last]));
                    }
                    elapsed
                })
            });
            ended.store(true, Ordering::Relaxed);
        });
    }
    group.finish();
}

criterion_group! {
    name = engine;
    config = Criterion::default().sample_size(30).measurement_time(Duration::from_secs(4));
    targets = answers, contracts, ops, commits, gate
}
criterion_main!(engine);
