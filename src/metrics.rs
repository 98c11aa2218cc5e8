//! Counters of the whole process: plain atomics, so that every layer may count. `transport::metrics` turns
//! them into Prometheus text.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use crate::wire::{Rcode, Transport};

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
}

impl ContractFailure {
    /// Every kind and its label value.
    pub const ALL: [(Self, &'static str); 13] = [
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
    queries: [[Counter; Outcome::ALL.len()]; Transport::ALL.len()],
    /// Open now.
    connections: [AtomicI64; Transport::ALL.len()],
    /// Connections turned away by a cap.
    refused_connections: [Counter; Transport::ALL.len()],
    contract_failures: [Counter; ContractFailure::ALL.len()],
    forwarded: [Counter; Forwarded::ALL.len()],
    pub cache_hits: Counter,
    pub cache_misses: Counter,
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
    /// Responses over UDP that were cut or kept back because the same was said too often.
    pub responses_limited: Counter,
    pub rpc_calls: Counter,
    pub rpc_limited: Counter,
    /// Names with an owner's RRSIG that ends soon, and with one that has ended, as of the last survey.
    pub signatures_ending: Gauge,
    pub signatures_ended: Gauge,
    /// When the certificates end, seconds since 1970, by the file of each.
    pub certificates: OnceLock<Vec<(String, Gauge)>>,
    pub certificate_reload_failures: Counter,
}

impl Metrics {
    pub fn count_query(&self, transport: Transport, outcome: Outcome) {
        self.queries[transport as usize][outcome as usize].add(1);
    }

    pub fn queries(&self, transport: Transport, outcome: Outcome) -> u64 {
        self.queries[transport as usize][outcome as usize].get()
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
