//! Instructions of a hit, a miss and a signature, counted by callgrind: as many on a busy machine as on an idle one, so that CI
//! can hold them to limits. With valgrind and gungraun-runner (`.ci/tools`):
//!
//! ```text
//! CARGO_PROFILE_DEV_OPT_LEVEL=3 cargo bench --profile dev --bench instructions
//! ```
//! That is the tests' profile, for one build of the dependencies serves both. Checks of overflow in our own code count, so a
//! release takes a fifth less for a hit. A limit is a twentieth above the count from which it was set. A change that makes
//! something dearer on purpose sets it anew, and its commit says why.

#[path = "shared/author.rs"]
mod author;

use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::Arc;

use author::{Author, CLIENT, NOW, name, query};
use bytes::Bytes;
use ghostplane::api::Rpc;
use ghostplane::dnssec::ZoneKey;
use ghostplane::op::Op;
use ghostplane::transport::admission::{Admission, Limits};
use ghostplane::transport::{Asked, Edge, Shutdown};
use ghostplane::wire::{Query, Reply, Rrset, Rtype};
use gungraun::{Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};

/// A benchmark that takes more fails.
fn at_most(instructions: u64) -> LibraryBenchmarkConfig {
    let mut config = LibraryBenchmarkConfig::default();
    config.tool(Callgrind::default().hard_limits([(EventKind::Ir, instructions)]));
    config
}

/// With a zone whose wildcard is signed by its owner.
fn author() -> Author {
    let mut author = Author::in_memory();
    let (zone, own) = (name("alice.ghost"), ZoneKey::of_sigil(&author.key));
    let register = author.verified(Op::Register { name: zone.clone(), years: 1 });
    let put = author.zone(&zone, &own, Some(0));
    let put = author.verified(put);
    author.submit_all(vec![register, put]);
    author
}

/// An edge whose cache has the answer to this question, which has been given twice.
fn asked(dnssec_ok: bool) -> (Edge, Vec<u8>) {
    let author = author();
    let message = query(&name("x.w.alice.ghost"), dnssec_ok);
    author.node.gateway.answer(&message, CLIENT).unwrap();
    let most = NonZeroU32::new(1_000_000).unwrap();
    let limits = Limits { queries_per_second: most, burst: most, ..Limits::default() };
    let rpc = Arc::new(Rpc::start(author.node.service.clone()).unwrap());
    let edge = Edge::new(author.node.gateway, rpc, Admission::new(limits), author.node.metrics, Shutdown::default());
    // What is done once for each thread.
    hit((&edge, &message));
    (edge, message)
}

fn hit((edge, message): (&Edge, &[u8])) -> Bytes {
    assert!(edge.admit(CLIENT));
    match edge.ask(message, CLIENT, true, |_| unreachable!("it is in the cache")) {
        Asked::Now(Some(mut replies)) => edge.hold(CLIENT, replies.next().unwrap().framed().unwrap().into()).unwrap(),
        _ => unreachable!("it is in the cache"),
    }
}

#[library_benchmark]
#[bench::unsigned(args = (false), setup = asked, config = at_most(6_180))]
#[bench::signed(args = (true), setup = asked, config = at_most(6_180))]
fn hits((edge, message): (Edge, Vec<u8>)) -> (Edge, Bytes) {
    let answer = black_box(hit((&edge, &message)));
    (edge, answer)
}

/// A gateway that has executed, and a question that it has not been asked.
fn fresh(below: &str, dnssec_ok: bool) -> (Author, Vec<u8>) {
    let author = author();
    let question = |label: &str| query(&name(&format!("{label}.{below}")), dnssec_ok);
    author.node.gateway.answer(&question("other"), CLIENT).unwrap();
    (author, question("x"))
}

#[library_benchmark]
#[bench::unsigned(args = ("w.alice.ghost", false), setup = fresh, config = at_most(199_000))]
#[bench::signed(args = ("w.alice.ghost", true), setup = fresh, config = at_most(460_000))]
#[bench::nothing_signed(args = ("alice.ghost", true), setup = fresh, config = at_most(460_000))]
fn misses((author, message): (Author, Vec<u8>)) -> (Author, Reply) {
    let reply = black_box(author.node.gateway.answer(&message, CLIENT).unwrap());
    (author, reply)
}

fn to_sign() -> (ZoneKey, Rrset) {
    let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
    let rrset = Rrset::new(name("x.alice.ghost"), Rtype::A, 3_600, [vec![192, 0, 2, 1]]);
    (ZoneKey::of_sigil(&key), rrset)
}

#[library_benchmark]
#[bench::ed25519(args = (), setup = to_sign, config = at_most(251_800))]
fn signatures((key, rrset): (ZoneKey, Rrset)) -> Vec<u8> {
    black_box(key.sign_until(&name("alice.ghost"), &rrset, NOW - 60, NOW + 86_400))
}

#[library_benchmark]
#[bench::question(args = (&name("x.w.alice.ghost"), true), setup = query, config = at_most(1_435))]
fn parses(message: Vec<u8>) -> Query {
    black_box(Query::parse(&message).unwrap())
}

library_benchmark_group!(name = path, benchmarks = [hits, misses, signatures, parses]);
main!(library_benchmark_groups = path);
