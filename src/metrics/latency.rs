//! How long the stages of queries take: log-linear histograms.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Where a query was answered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// The cache.
    Hit,
    /// An execution.
    Miss,
}

impl Path {
    /// Each with its label value.
    pub const ALL: [(Self, &'static str); 2] = [(Self::Hit, "hit"), (Self::Miss, "miss")];

    pub fn text(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// A part of a query's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Parse,
    Cache,
    /// Waiting for a worker.
    Queue,
    /// All executions of one question.
    Contract,
    /// All signatures that were made for it.
    Sign,
    /// From the answer to the socket's queue.
    Send,
    Total,
}

impl Stage {
    /// Each with its label value.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Parse, "parse"),
        (Self::Cache, "cache"),
        (Self::Queue, "queue"),
        (Self::Contract, "contract"),
        (Self::Sign, "sign"),
        (Self::Send, "send"),
        (Self::Total, "total"),
    ];

    pub fn text(self) -> &'static str {
        Self::ALL[self as usize].1
    }

    /// True if queries that are answered so come through it.
    pub fn is_on(self, path: Path) -> bool {
        path == Path::Miss || !matches!(self, Self::Queue | Self::Contract | Self::Sign)
    }
}

/// The first bound is 2 to the power of so many nanoseconds, the last one 2 to the power of [`LAST`]: 128 ns to 8.6 s.
const FIRST: u32 = 7;
const LAST: u32 = 33;

/// Bounds: two to every power of two.
pub const BOUNDS: usize = 2 * (LAST - FIRST) as usize + 1;

/// Durations, counted in buckets.
#[derive(Debug)]
pub struct Histogram {
    /// One above the last bound, too.
    buckets: [AtomicU64; BOUNDS + 1],
    /// Nanoseconds.
    sum: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BOUNDS + 1], sum: AtomicU64::new(0) }
    }
}

impl Histogram {
    pub fn record(&self, nanos: u64) {
        self.buckets[bucket_of(nanos)].fetch_add(1, Relaxed);
        self.sum.fetch_add(nanos, Relaxed);
    }
}

/// What histograms hold together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durations {
    /// Those up to each bound and above the one before, and those above the last.
    pub counts: [u64; BOUNDS + 1],
    /// Nanoseconds.
    pub sum: u64,
}

impl Default for Durations {
    fn default() -> Self {
        Self { counts: [0; BOUNDS + 1], sum: 0 }
    }
}

impl Durations {
    pub fn add(&mut self, histogram: &Histogram) {
        for (count, bucket) in self.counts.iter_mut().zip(&histogram.buckets) {
            *count += bucket.load(Relaxed);
        }
        self.sum = self.sum.wrapping_add(histogram.sum.load(Relaxed));
    }

    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// Nanoseconds up to which a bucket counts.
pub fn bound(bucket: usize) -> u64 {
    let power = FIRST as usize + bucket / 2;
    if bucket.is_multiple_of(2) { 1 << power } else { 3 << (power - 1) }
}

fn bucket_of(nanos: u64) -> usize {
    // A bound is the last value of its bucket, not the first of the next.
    let nanos = nanos.saturating_sub(1);
    if nanos < 1 << FIRST {
        return 0;
    }
    let power = nanos.ilog2();
    let upper_half = (nanos >> (power - 1) & 1) as usize;
    (2 * (power - FIRST) as usize + upper_half + 1).min(BOUNDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_end_at_their_bounds() {
        assert_eq!([0, 1, 2, 3, BOUNDS - 1].map(bound), [128, 192, 256, 384, 1 << 33]);
        for bucket in 0..BOUNDS {
            assert_eq!(bucket_of(bound(bucket)), bucket);
            assert_eq!(bucket_of(bound(bucket) + 1), bucket + 1);
        }
        assert_eq!((bucket_of(0), bucket_of(u64::MAX)), (0, BOUNDS));
    }

    #[test]
    fn histograms_add_up() {
        let histograms = [Histogram::default(), Histogram::default()];
        histograms[0].record(100);
        histograms[1].record(130);
        let mut all = Durations::default();
        histograms.iter().for_each(|histogram| all.add(histogram));
        assert_eq!((all.counts[0], all.counts[1], all.count(), all.sum), (1, 1, 2, 230));
    }

    #[test]
    fn stages_are_indexed_by_discriminant() {
        assert!(Stage::ALL.iter().enumerate().all(|(at, (stage, _))| *stage as usize == at));
        assert!(Path::ALL.iter().enumerate().all(|(at, (path, _))| *path as usize == at));
    }
}
