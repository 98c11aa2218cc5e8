//! Counters that every layer above the core may raise; the edge prints them.

use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default)]
pub struct Metrics {
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    pub ops_accepted: AtomicU64,
    pub ops_rejected: AtomicU64,
    pub commits: AtomicU64,
}

impl Metrics {
    pub fn op(&self, accepted: bool) {
        let counter = if accepted { &self.ops_accepted } else { &self.ops_rejected };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub fn commit(&self) {
        self.commits.fetch_add(1, Ordering::Relaxed);
    }
}
