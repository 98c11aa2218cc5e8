//! Counters of the whole process: plain atomics, so that every layer may count. `transport::metrics` turns
//! them into Prometheus text. What every query counts is [`Striped`].

mod health;
mod latency;
mod striped;

pub use health::{Health, Trouble};
pub use latency::{BOUNDS, Durations, Histogram, Path, Stage, bound};
pub use striped::Striped;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use crate::limits::COUNTED_TLDS;
use crate::wire::{HEADER, Name, Rcode, Transport, last_label};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that is set.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What a client saw for its query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    NoError,
    FormErr,
    ServFail,
    NxDomain,
    NotImp,
    Refused,
    OtherRcode,
    /// Over the rate limit.
    Limited,
    /// No reply: not a query, or the requester left first.
    Unanswered,
}

impl Outcome {
    /// Every outcome and its label value.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::NoError, "noerror"),
        (Self::FormErr, "formerr"),
        (Self::ServFail, "servfail"),
        (Self::NxDomain, "nxdomain"),
        (Self::NotImp, "notimp"),
        (Self::Refused, "refused"),
        (Self::OtherRcode, "other"),
        (Self::Limited, "limited"),
        (Self::Unanswered, "unanswered"),
    ];
}

impl From<Rcode> for Outcome {
    fn from(rcode: Rcode) -> Self {
        match rcode {
            Rcode::NoError => Self::NoError,
            Rcode::FormErr => Self::FormErr,
            Rcode::ServFail => Self::ServFail,
            Rcode::NxDomain => Self::NxDomain,
            Rcode::NotImp => Self::NotImp,
            Rcode::Refused => Self::Refused,
            _ => Self::OtherRcode,
        }
    }
}

/// Why an execution gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContractFailure {
    Refused,
    NotReady,
    Other,
    OutOfFuel,
    Deadline,
    Trap,
    Memory,
    BadOutput,
    NoCode,
    Invalid,
    Store,
    Busy,
    /// Not executed: it broke too many times in a row.
    Quarantined,
    /// The machine could not run it.
    Machine,
}

impl ContractFailure {
    /// Every kind and its label value.
    pub const ALL: [(Self, &'static str); 14] = [
        (Self::Refused, "refused"),
        (Self::NotReady, "not_ready"),
        (Self::Other, "other"),
        (Self::OutOfFuel, "out_of_fuel"),
        (Self::Deadline, "deadline"),
        (Self::Trap, "trap"),
        (Self::Memory, "memory"),
        (Self::BadOutput, "bad_output"),
        (Self::NoCode, "no_code"),
        (Self::Invalid, "invalid"),
        (Self::Store, "store"),
        (Self::Busy, "busy"),
        (Self::Quarantined, "quarantined"),
        (Self::Machine, "machine"),
    ];
}

/// What became of a question for an ordinary name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    /// From the forwarder's cache.
    Hit,
    /// From an upstream.
    Miss,
    /// From a zone that every resolver serves itself.
    Local,
    /// Past its time, because no upstream answered.
    Stale,
    Failed,
    /// Too many were waiting.
    Shed,
    /// The client may not ask.
    Refused,
}

impl Forwarded {
    /// Every outcome and its label value.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Hit, "hit"),
        (Self::Miss, "miss"),
        (Self::Local, "local"),
        (Self::Stale, "stale"),
        (Self::Failed, "failed"),
        (Self::Shed, "shed"),
        (Self::Refused, "refused"),
    ];
}

/// All counters. Fields without a method are counted by whoever does the thing.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Troubles that `/readyz` tells, beside whether the server drains.
    pub health: Health,
    queries: Striped<Queries>,
    latencies: Striped<[[Histogram; Stage::ALL.len()]; Path::ALL.len()]>,
    /// Labels of the TLDs that are told apart.
    tlds: OnceLock<Vec<Box<[u8]>>>,
    /// Open now.
    connections: [AtomicI64; Transport::ALL.len()],
    /// Connections turned away by a cap.
    refused_connections: [Counter; Transport::ALL.len()],
    contract_failures: [Counter; ContractFailure::ALL.len()],
    forwarded: [Counter; Forwarded::ALL.len()],
    pub cache_hits: Striped<Counter>,
    pub cache_misses: Striped<Counter>,
    /// Of them, those that no worker was needed for.
    pub misses_inline: Striped<Counter>,
    pub contract_executions: Counter,
    pub contract_fuel: Counter,
    /// Executions of the TLD's contract in place of an owner's that was out of gas.
    pub contract_out_of_gas: Counter,
    /// Fuel that owners have been charged for, the free part included.
    pub gas_settled: Counter,
    /// Billionths of a GCC for a million units of fuel, as of the last settlement.
    pub gas_price: Gauge,
    pub contract_compilations: Counter,
    /// Compiled contracts read from disk instead, and files that could not be used or written.
    pub code_loads: Counter,
    pub code_faults: Counter,
    /// Contracts compiled in memory, octets of their machine code, and octets of that on disk.
    pub compiled_contracts: Gauge,
    pub compiled_bytes: Gauge,
    pub code_file_bytes: Gauge,
    pub commits: Counter,
    pub ops_accepted: Counter,
    pub ops_rejected: Counter,
    /// Misses turned away because too many were waiting.
    pub misses_shed: Counter,
    /// Jobs of workers that panicked.
    pub worker_panics: Counter,
    /// Responses over UDP that were cut or kept back because the same was said too often.
    pub responses_limited: Counter,
    /// Responses over UDP that were cut because nothing proves the address that they go to.
    pub responses_cut: Counter,
    /// Connections that could not be accepted: mostly for want of descriptors.
    pub accept_failures: Counter,
    /// Answers given up because their client does not take those that it has.
    pub answers_untaken: Counter,
    /// How long it took to find out what an ordinary name has, validated, or that it cannot be found out.
    pub upstream: Histogram,
    pub rpc_calls: Counter,
    pub rpc_limited: Counter,
    /// Names with an owner's RRSIG that ends soon, and with one that has ended, as of the last survey.
    pub signatures_ending: Gauge,
    pub signatures_ended: Gauge,
    /// When the certificates end, seconds since 1970, by the file of each.
    pub certificates: OnceLock<Vec<(String, Gauge)>>,
    pub certificate_reload_failures: Counter,
    /// Messages told by dnstap, and those forgotten because nobody read them in time.
    pub dnstap_written: Counter,
    pub dnstap_dropped: Counter,
    /// Traces that a collector has taken, and those forgotten.
    pub traces_exported: Counter,
    pub traces_dropped: Counter,
}

/// Queries by TLD, transport and outcome.
type Queries = [[[Counter; Outcome::ALL.len()]; Transport::ALL.len()]; COUNTED_TLDS + 1];

/// The TLD that a query counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TldIndex(u8);

impl TldIndex {
    /// None of those that are told apart, or nobody has looked.
    pub const OTHER: Self = Self(COUNTED_TLDS as u8);
}

impl Metrics {
    /// Tells queries of these TLDs apart from now on, of the first [`COUNTED_TLDS`] by name. Only the first call counts.
    pub fn tell_apart<'a>(&self, tlds: impl IntoIterator<Item = &'a Name>) {
        let mut labels: Vec<Box<[u8]>> = tlds.into_iter().filter_map(|tld| Some(tld.labels().last()?.into())).collect();
        labels.sort();
        labels.truncate(COUNTED_TLDS);
        // Fails if it is not the first call.
        let _ = self.tlds.set(labels);
    }

    /// Every TLD that is told apart, and [`TldIndex::OTHER`], with its label value.
    pub fn tlds(&self) -> impl Iterator<Item = (TldIndex, String)> {
        let told = self.tlds.get().into_iter().flatten().enumerate();
        let told = told.map(|(at, label)| (TldIndex(at as u8), String::from_utf8_lossy(label).into_owned()));
        told.chain(std::iter::once((TldIndex::OTHER, "other".to_owned())))
    }

    /// The TLD that a message asks about.
    pub fn tld_of(&self, message: &[u8]) -> TldIndex {
        let asked = message.get(HEADER..).filter(|_| message[4..6] == [0, 1]);
        asked.map_or(TldIndex::OTHER, |name| self.tld_at(name))
    }

    /// The TLD of a name, in wire form without compression.
    pub fn tld_at(&self, name: &[u8]) -> TldIndex {
        let (Some(tlds), Some(label)) = (self.tlds.get(), last_label(name)) else { return TldIndex::OTHER };
        let at = tlds.iter().position(|tld| tld.eq_ignore_ascii_case(label));
        at.map_or(TldIndex::OTHER, |at| TldIndex(at as u8))
    }

    pub fn count_query(&self, tld: TldIndex, transport: Transport, outcome: Outcome) {
        self.queries.mine()[usize::from(tld.0)][transport as usize][outcome as usize].add(1);
    }

    /// Queries about one TLD.
    pub fn queries_of(&self, tld: TldIndex, transport: Transport, outcome: Outcome) -> u64 {
        let of_stripe = |queries: &Queries| queries[usize::from(tld.0)][transport as usize][outcome as usize].get();
        self.queries.each().map(of_stripe).sum()
    }

    /// Queries about anything.
    pub fn queries(&self, transport: Transport, outcome: Outcome) -> u64 {
        self.tlds().map(|(tld, _)| self.queries_of(tld, transport, outcome)).sum()
    }

    /// Counts how long a stage took, in nanoseconds.
    pub fn record(&self, path: Path, stage: Stage, nanos: u64) {
        self.latencies.mine()[path as usize][stage as usize].record(nanos);
    }

    pub fn durations(&self, path: Path, stage: Stage) -> Durations {
        let mut all = Durations::default();
        self.latencies.each().for_each(|stripe| all.add(&stripe[path as usize][stage as usize]));
        all
    }

    pub fn count_contract_failure(&self, kind: ContractFailure) {
        self.contract_failures[kind as usize].add(1);
    }

    pub fn contract_failures(&self, kind: ContractFailure) -> u64 {
        self.contract_failures[kind as usize].get()
    }

    pub fn count_forwarded(&self, outcome: Forwarded) {
        self.forwarded[outcome as usize].add(1);
    }

    pub fn forwarded(&self, outcome: Forwarded) -> u64 {
        self.forwarded[outcome as usize].get()
    }

    pub fn connection_opened(&self, transport: Transport) {
        self.connections[transport as usize].fetch_add(1, Relaxed);
    }

    pub fn connection_closed(&self, transport: Transport) {
        self.connections[transport as usize].fetch_sub(1, Relaxed);
    }

    pub fn connections(&self, transport: Transport) -> i64 {
        self.connections[transport as usize].load(Relaxed)
    }

    pub fn connection_refused(&self, transport: Transport) {
        self.refused_connections[transport as usize].add(1);
    }

    pub fn refused_connections(&self, transport: Transport) -> u64 {
        self.refused_connections[transport as usize].get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_count_for_their_tld() {
        let metrics = Metrics::default();
        let asked = |name: &str| {
            let mut message = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            message.extend_from_slice(Name::from_user(name).unwrap().as_wire());
            message
        };
        assert_eq!(metrics.tld_of(&asked("alice.ghost")), TldIndex::OTHER);
        metrics.tell_apart(&["sig", "ghost"].map(|name| Name::from_user(name).unwrap()));
        let ghost = metrics.tld_of(&asked("alice.ghost"));
        assert_eq!(ghost, metrics.tld_of(&asked("A.GHOST").to_ascii_uppercase()));
        metrics.count_query(ghost, Transport::Udp, Outcome::NoError);
        metrics.count_query(metrics.tld_of(&asked("a.example")), Transport::Udp, Outcome::NoError);
        for nothing in [&b""[..], &[0; 12], &asked("a.ghost")[..16], b"\0\0\0\0\0\x01\0\0\0\0\0\0\x05ghost\xc0\x0c"] {
            assert_eq!(metrics.tld_of(nothing), TldIndex::OTHER);
        }
        let told: Vec<_> = metrics.tlds().collect();
        assert_eq!(told.iter().map(|(_, label)| label.as_str()).collect::<Vec<_>>(), ["ghost", "sig", "other"]);
        let counts: Vec<u64> =
            told.iter().map(|(tld, _)| metrics.queries_of(*tld, Transport::Udp, Outcome::NoError)).collect();
        assert_eq!((counts, metrics.queries(Transport::Udp, Outcome::NoError)), (vec![1, 0, 1], 2));
    }

    #[test]
    fn tables_are_indexed_by_discriminant() {
        for (index, transport) in Transport::ALL.iter().enumerate() {
            assert_eq!(*transport as usize, index);
        }
        for (index, (outcome, _)) in Outcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, index);
        }
        for (index, (outcome, _)) in Forwarded::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, index);
        }
        for (index, (kind, _)) in ContractFailure::ALL.iter().enumerate() {
            assert_eq!(*kind as usize, index);
        }
    }
}
