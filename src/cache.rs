//! The wire-level answer cache, invalidated by sequence (docs/architecture.md).

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::limits::{CACHE_BYTES, CACHE_ENTRIES, CACHE_SECONDS, MAX_NAME};
use crate::registry::{Stamp, Stamps};
use crate::wire::{Answer, Query};

/// A cached answer and what it depends on.
pub struct Entry {
    pub answer: Answer,
    /// Seconds since 1970.
    stored: u64,
    until: u64,
    /// Sequence of the snapshot it was made from.
    seq: u64,
    /// The names that were read.
    reads: Box<[Stamp]>,
}

impl Entry {
    /// Seconds since the answer was made.
    pub fn age(&self, now: u64) -> u32 {
        // At most CACHE_SECONDS while the entry is valid.
        now.saturating_sub(self.stored) as u32
    }
}

/// Answers by question. A hit is valid iff its time has not run out and none of the names it read has
/// changed since: so an acknowledged write is seen by the very next query, whatever the TTL.
pub struct AnswerCache {
    entries: Cache<Box<[u8]>, Arc<Entry>, ByBytes>,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Box<[u8]>, Arc<Entry>> for ByBytes {
    fn weight(&self, key: &Box<[u8]>, entry: &Arc<Entry>) -> u64 {
        (key.len() + entry.answer.weight() + size_of::<Entry>()) as u64
    }
}

/// QNAME, QTYPE, QCLASS, DO and CO: what tells answers apart.
pub struct Key {
    octets: [u8; MAX_NAME + 5],
    len: usize,
}

impl Key {
    /// The key of a query; costs no allocation.
    pub fn of(query: &Query) -> Self {
        let name = query.name.as_wire();
        let mut octets = [0; MAX_NAME + 5];
        octets[..name.len()].copy_from_slice(name);
        octets[name.len()..name.len() + 2].copy_from_slice(&query.rtype.0.to_be_bytes());
        let class = &query.question[query.question.len() - 2..];
        octets[name.len() + 2..name.len() + 4].copy_from_slice(class);
        octets[name.len() + 4] = u8::from(query.dnssec_ok()) | u8::from(query.compact_ok()) << 1;
        Self { octets, len: name.len() + 5 }
    }

    fn as_slice(&self) -> &[u8] {
        &self.octets[..self.len]
    }
}

impl AnswerCache {
    /// An empty cache of at most `bytes` octets, itself at most [`CACHE_BYTES`].
    pub fn new(bytes: u64) -> Self {
        Self { entries: Cache::with_weighter(CACHE_ENTRIES, bytes.min(CACHE_BYTES), ByBytes) }
    }

    /// The answer, if it is there and still true at `now`.
    pub fn get(&self, key: &Key, stamps: &Stamps, now: u64) -> Option<Arc<Entry>> {
        let entry = self.entries.get(key.as_slice())?;
        let valid = now < entry.until && now >= entry.stored && stamps.unchanged_since(entry.seq, &entry.reads);
        valid.then_some(entry)
    }

    /// Keeps an answer made at `now` from a snapshot at `seq` for `seconds`, at most [`CACHE_SECONDS`].
    pub fn put(&self, key: &Key, answer: Answer, seconds: u32, now: u64, seq: u64, reads: &[Stamp]) {
        if seconds == 0 {
            return;
        }
        let until = now + u64::from(seconds.min(CACHE_SECONDS));
        let entry = Entry { answer, stored: now, until, seq, reads: reads.into() };
        self.entries.insert(key.as_slice().into(), Arc::new(entry));
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.entries.clear();
    }

    /// Answers held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if it holds none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
