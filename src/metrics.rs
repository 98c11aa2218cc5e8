//! Counters that every layer above the core may raise; the edge prints them.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Kinds of contract failure, in the order of [`Metrics::failures`].
pub const FAILURES: [&str; 12] = [
    "refused", "not_ready", "other", "out_of_fuel", "deadline", "trap", "memory", "bad_output", "no_code", "invalid",
    "read_fault", "busy",
];
/// Transports, in the order of [`Metrics::queries`].
pub const TRANSPORTS: [&str; 6] = ["udp", "tcp", "tls", "quic", "https", "h3"];
/// Response codes 0 to 15, then everything above.
pub const RCODES: usize = 17;

/// All counters. Raised with relaxed order: each is true by itself, no two belong together.
#[derive(Debug)]
pub struct Metrics {
    /// Replies by transport and response code.
    pub queries: [[AtomicU64; RCODES]; TRANSPORTS.len()],
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    /// Misses turned away because too many were waiting.
    pub shed: AtomicU64,
    /// Queries turned away by a rate limit.
    pub limited: AtomicU64,
    pub executions: AtomicU64,
    pub fuel: AtomicU64,
    pub failures: [AtomicU64; FAILURES.len()],
    pub ops_accepted: AtomicU64,
    pub ops_rejected: AtomicU64,
    pub commits: AtomicU64,
    /// Open connections, all transports that have them.
    pub connections: AtomicI64,
    /// Connections refused at a cap.
    pub refused: AtomicU64,
}

impl Default for Metrics {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            queries: std::array::from_fn(|_| std::array::from_fn(|_| zero())),
            hits: zero(),
            misses: zero(),
            shed: zero(),
            limited: zero(),
            executions: zero(),
            fuel: zero(),
            failures: std::array::from_fn(|_| zero()),
            ops_accepted: zero(),
            ops_rejected: zero(),
            commits: zero(),
            connections: AtomicI64::new(0),
            refused: zero(),
        }
    }
}

impl Metrics {
    /// A reply left over a transport (index into [`TRANSPORTS`]).
    pub fn reply(&self, transport: usize, rcode: u16) {
        add(&self.queries[transport][usize::from(rcode).min(RCODES - 1)], 1);
    }

    /// The cache had the answer.
    pub fn hit(&self) {
        add(&self.hits, 1);
    }

    /// A contract must run.
    pub fn miss(&self) {
        add(&self.misses, 1);
    }

    /// A miss was turned away.
    pub fn shed(&self) {
        add(&self.shed, 1);
    }

    /// A query was turned away by a rate limit.
    pub fn limit(&self) {
        add(&self.limited, 1);
    }

    /// A contract ran; `failure` is its kind if it gave no resolution.
    pub fn execution(&self, fuel: u64, failure: Option<&str>) {
        add(&self.executions, 1);
        add(&self.fuel, fuel);
        if let Some(at) = failure.and_then(|kind| FAILURES.iter().position(|known| *known == kind)) {
            add(&self.failures[at], 1);
        }
    }

    /// An op was accepted or rejected.
    pub fn op(&self, accepted: bool) {
        add(if accepted { &self.ops_accepted } else { &self.ops_rejected }, 1);
    }

    /// A batch became durable.
    pub fn commit(&self) {
        add(&self.commits, 1);
    }

    /// A connection was refused at a cap.
    pub fn refuse(&self) {
        add(&self.refused, 1);
    }
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
