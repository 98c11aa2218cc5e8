//! The wire-level answer cache, invalidated by sequence (docs/architecture.md).

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::limits::{CACHE_BYTES, CACHE_ENTRIES, CACHE_SECONDS, MAX_NAME};
use crate::registry::{Stamp, Stamps};
use crate::wire::{Answer, Query, Scope, Subnet};

/// What is cached under a key, and what it depends on.
pub struct Entry {
    kept: Kept,
    /// Seconds since 1970.
    stored: u64,
    until: u64,
    /// Sequence of the snapshot it was made from.
    seq: u64,
    /// The names that were read.
    reads: Box<[Stamp]>,
}

enum Kept {
    Answer(Answer),
    /// The answer depends on who asks: it is kept under the key with so much of the asker's address.
    BySubnet(Scope),
}

/// A cached answer.
pub struct Hit(Arc<Entry>);

impl Hit {
    /// The answer.
    pub fn answer(&self) -> &Answer {
        match &self.0.kept {
            Kept::Answer(answer) => answer,
            // `AnswerCache::get` makes a hit of nothing else.
            Kept::BySubnet(_) => unreachable!("a hit is an answer"),
        }
    }

    /// Seconds since the answer was made.
    pub fn age(&self, now: u64) -> u32 {
        // At most CACHE_SECONDS while the entry is valid.
        now.saturating_sub(self.0.stored) as u32
    }
}

/// How long an answer is good, and what it was made from.
#[derive(Debug, Clone, Copy)]
pub struct Grounds<'a> {
    pub now: u64,
    /// Seconds, at most [`CACHE_SECONDS`]; 0 is not kept.
    pub seconds: u32,
    /// Sequence of the snapshot.
    pub seq: u64,
    /// The names that were read.
    pub reads: &'a [Stamp],
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
        let kept = match &entry.kept {
            Kept::Answer(answer) => answer.weight(),
            Kept::BySubnet(_) => 0,
        };
        (key.len() + kept + size_of::<Entry>()) as u64
    }
}

/// QNAME, QTYPE, QCLASS, DO and CO, and behind them perhaps a subnet: what tells answers apart.
pub struct Key {
    octets: [u8; MAX_NAME + 5 + SUBNET],
    len: usize,
}

/// Octets of a subnet in a key.
const SUBNET: usize = 18;

impl Key {
    /// The key of a query; costs no allocation.
    pub fn of(query: &Query) -> Self {
        let name = query.name.as_wire();
        let mut octets = [0; MAX_NAME + 5 + SUBNET];
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

    /// The key for one asker; all zeros stand for one who does not want to be told apart.
    fn of_asker(&self, asker: Option<Subnet>, scope: Scope) -> Self {
        let mut octets = self.octets;
        if let Some(asker) = asker {
            octets[self.len..self.len + SUBNET].copy_from_slice(&asker.cut(scope).key());
        }
        Self { octets, len: self.len + SUBNET }
    }
}

impl AnswerCache {
    /// An empty cache of at most `bytes` octets, itself at most [`CACHE_BYTES`].
    pub fn new(bytes: u64) -> Self {
        Self { entries: Cache::with_weighter(CACHE_ENTRIES, bytes.min(CACHE_BYTES), ByBytes) }
    }

    /// The answer for `asker`, if it is there and still true at `now`.
    pub fn get(&self, key: &Key, asker: impl FnOnce() -> Option<Subnet>, stamps: &Stamps, now: u64) -> Option<Hit> {
        let entry = self.valid(key, stamps, now)?;
        let Kept::BySubnet(scope) = entry.kept else { return Some(Hit(entry)) };
        let entry = self.valid(&key.of_asker(asker(), scope), stamps, now)?;
        matches!(entry.kept, Kept::Answer(_)).then_some(Hit(entry))
    }

    /// Keeps an answer that was made for `asker`.
    pub fn put(&self, key: &Key, asker: Option<Subnet>, answer: Answer, stamps: &Stamps, grounds: Grounds<'_>) {
        if grounds.seconds == 0 {
            return;
        }
        if answer.scope.is_none() {
            return self.insert(key, Kept::Answer(answer), grounds);
        }
        // Other askers may have led the contract to look closer; the closest look decides.
        let known = self.valid(key, stamps, grounds.now).and_then(|entry| match entry.kept {
            Kept::BySubnet(scope) => Some(scope),
            Kept::Answer(_) => None,
        });
        let scope = known.unwrap_or_default().max(answer.scope);
        self.insert(key, Kept::BySubnet(scope), grounds);
        self.insert(&key.of_asker(asker, scope), Kept::Answer(answer), grounds);
    }

    fn valid(&self, key: &Key, stamps: &Stamps, now: u64) -> Option<Arc<Entry>> {
        let entry = self.entries.get(key.as_slice())?;
        let valid = now < entry.until && now >= entry.stored && stamps.unchanged_since(entry.seq, &entry.reads);
        valid.then_some(entry)
    }

    fn insert(&self, key: &Key, kept: Kept, grounds: Grounds<'_>) {
        let Grounds { now, seconds, seq, reads } = grounds;
        let until = now + u64::from(seconds.min(CACHE_SECONDS));
        let entry = Entry { kept, stored: now, until, seq, reads: reads.into() };
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
