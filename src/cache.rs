//! The wire-level answer cache, invalidated by sequence (docs/architecture.md).
//!
//! ```text
//! a thread's own table: what it was asked of late ─ else ─ what all threads share ─ else ─ a miss
//! ```
//! What many ask for is in every thread's own table: there is neither a lock nor a count that two cores would write to.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, BuildHasherDefault};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use rustc_hash::FxHasher;

use crate::limits::{CACHE_BYTES, CACHE_ENTRIES, CACHE_HERE, CACHE_HERE_BYTES, CACHE_SECONDS, MAX_NAME};
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
pub struct Hit(Found);

enum Found {
    Here(Rc<Slot>),
    Shared(Arc<Entry>),
}

impl Hit {
    fn entry(&self) -> &Entry {
        match &self.0 {
            Found::Here(slot) => &slot.entry,
            Found::Shared(entry) => entry,
        }
    }

    /// The answer.
    pub fn answer(&self) -> &Answer {
        match &self.entry().kept {
            Kept::Answer(answer) => answer,
            // `AnswerCache::get` makes a hit of nothing else.
            Kept::BySubnet(_) => unreachable!("a hit is an answer"),
        }
    }

    /// Seconds since the answer was made.
    pub fn age(&self, now: u64) -> u32 {
        // At most CACHE_SECONDS while the entry is valid.
        now.saturating_sub(self.entry().stored) as u32
    }
}

/// An answer in a thread's own table.
struct Slot {
    key: Box<[u8]>,
    /// [`AnswerCache::epoch`] when it was put there.
    epoch: u64,
    entry: Arc<Entry>,
    hits: Cell<u32>,
}

/// Of so many hits in its own table, a thread looks for one in the shared cache: which answers are used much is known there.
const SHOWN_ONE_IN: u32 = 64;

/// Of so many hits in the shared cache, a thread takes one into its own table: what is asked often is there soon, and where
/// nothing is, the table is not written anew for every question.
const TAKEN_ONE_IN: u32 = 8;

thread_local! {
    static HERE: RefCell<Here> = const { RefCell::new(Here { slots: Vec::new(), elsewhere: 0 }) };
}

/// A thread's own table.
struct Here {
    /// None, or [`CACHE_HERE`] places.
    slots: Vec<Option<Rc<Slot>>>,
    /// Hits that were not in it.
    elsewhere: u32,
}

/// Epochs are of no two caches, nor of one before it was cleared and after.
static EPOCHS: AtomicU64 = AtomicU64::new(0);

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
    /// What threads have in their own tables of another epoch is forgotten.
    epoch: AtomicU64,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Box<[u8]>, Arc<Entry>> for ByBytes {
    fn weight(&self, key: &Box<[u8]>, entry: &Arc<Entry>) -> u64 {
        (key.len() + entry.weight()) as u64
    }
}

impl Entry {
    /// Octets in memory.
    fn weight(&self) -> usize {
        let kept = match &self.kept {
            Kept::Answer(answer) => answer.weight(),
            Kept::BySubnet(_) => 0,
        };
        kept + size_of::<Self>()
    }

    fn is_valid(&self, stamps: &Stamps, now: u64) -> bool {
        now < self.until && now >= self.stored && stamps.unchanged_since(self.seq, &self.reads)
    }
}

/// What this thread has at a place of its table, if it is for that key and of that epoch.
fn here(place: usize, key: &Key, epoch: u64) -> Option<Rc<Slot>> {
    HERE.with_borrow(|here| {
        let slot = here.slots.get(place)?.as_ref()?;
        (slot.epoch == epoch && *slot.key == *key.as_slice()).then(|| slot.clone())
    })
}

/// Takes some of what was found elsewhere into this thread's table.
fn take_here(place: usize, key: &Key, epoch: u64, entry: &Arc<Entry>) {
    HERE.with_borrow_mut(|here| {
        here.elsewhere = here.elsewhere.wrapping_add(1);
        if !here.elsewhere.is_multiple_of(TAKEN_ONE_IN) || entry.weight() > CACHE_HERE_BYTES {
            return;
        }
        if here.slots.is_empty() {
            here.slots.resize_with(CACHE_HERE, || None);
        }
        let slot = Slot { key: key.as_slice().into(), epoch, entry: entry.clone(), hits: Cell::new(0) };
        here.slots[place] = Some(Rc::new(slot));
    });
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

    /// Its place in a thread's own table. Whoever makes names meet there has them looked for in the shared cache, no more.
    fn place(&self) -> usize {
        BuildHasherDefault::<FxHasher>::default().hash_one(self.as_slice()) as usize % CACHE_HERE
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
        let entries = Cache::with_weighter(CACHE_ENTRIES, bytes.min(CACHE_BYTES), ByBytes);
        Self { entries, epoch: AtomicU64::new(EPOCHS.fetch_add(1, Relaxed)) }
    }

    /// The answer for `asker`, if it is there and still true at `now`.
    pub fn get(&self, key: &Key, asker: impl FnOnce() -> Option<Subnet>, stamps: &Stamps, now: u64) -> Option<Hit> {
        // Before anything is looked for: what is cleared meanwhile must not be kept as of after that.
        let (epoch, place) = (self.epoch.load(Relaxed), key.place());
        if let Some(slot) = here(place, key, epoch).filter(|slot| slot.entry.is_valid(stamps, now)) {
            self.show(&slot);
            return Some(Hit(Found::Here(slot)));
        }
        let entry = self.valid(key, stamps, now)?;
        let Kept::BySubnet(scope) = entry.kept else {
            take_here(place, key, epoch, &entry);
            return Some(Hit(Found::Shared(entry)));
        };
        let entry = self.valid(&key.of_asker(asker(), scope), stamps, now)?;
        matches!(entry.kept, Kept::Answer(_)).then_some(Hit(Found::Shared(entry)))
    }

    /// Has the shared cache know that an answer is used, though it is found elsewhere.
    fn show(&self, slot: &Slot) {
        slot.hits.set(slot.hits.get().wrapping_add(1));
        if slot.hits.get().is_multiple_of(SHOWN_ONE_IN) && self.entries.get(&*slot.key).is_none() {
            self.entries.insert(slot.key.clone(), slot.entry.clone());
        }
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
        self.entries.get(key.as_slice()).filter(|entry| entry.is_valid(stamps, now))
    }

    fn insert(&self, key: &Key, kept: Kept, grounds: Grounds<'_>) {
        let Grounds { now, seconds, seq, reads } = grounds;
        let until = now + u64::from(seconds.min(CACHE_SECONDS));
        let entry = Entry { kept, stored: now, until, seq, reads: reads.into() };
        self.entries.insert(key.as_slice().into(), Arc::new(entry));
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.epoch.store(EPOCHS.fetch_add(1, Relaxed), Relaxed);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Builder, Name, Rcode, Rtype};

    fn query(name: &str) -> Query {
        Query::internal(Name::from_user(name).unwrap(), Rtype::A)
    }

    fn put(cache: &AnswerCache, stamps: &Stamps, name: &str, rcode: Rcode) {
        let answer = Builder::new(&query(name)).finish(rcode, true, None);
        let grounds = Grounds { now: 100, seconds: 10, seq: 7, reads: &[] };
        cache.put(&Key::of(&query(name)), None, answer, stamps, grounds);
    }

    /// The code of the answer, and whether it was in the thread's own table.
    fn get(cache: &AnswerCache, stamps: &Stamps, name: &str, now: u64) -> Option<(Rcode, bool)> {
        let hit = cache.get(&Key::of(&query(name)), || None, stamps, now)?;
        Some((hit.answer().rcode, matches!(hit.0, Found::Here(_))))
    }

    #[test]
    fn what_a_thread_has_found_it_has_at_hand_as_long_as_it_is_true() {
        let (cache, other, stamps) = (AnswerCache::new(1 << 20), AnswerCache::new(1 << 20), Stamps::new());
        put(&cache, &stamps, "a.ghost", Rcode::NoError);
        for _ in 0..TAKEN_ONE_IN {
            assert_eq!(get(&cache, &stamps, "a.ghost", 100), Some((Rcode::NoError, false)));
        }
        assert_eq!(get(&cache, &stamps, "a.ghost", 109), Some((Rcode::NoError, true)));
        // Of another thread, name, cache, or time.
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(get(&cache, &stamps, "a.ghost", 101), Some((Rcode::NoError, false))));
        });
        assert_eq!(get(&cache, &stamps, "b.ghost", 101), None);
        assert_eq!(get(&other, &stamps, "a.ghost", 101), None);
        assert_eq!(get(&cache, &stamps, "a.ghost", 110), None);
        assert_eq!(get(&cache, &stamps, "a.ghost", 99), None);
        cache.clear();
        assert_eq!(get(&cache, &stamps, "a.ghost", 101), None);
        put(&cache, &stamps, "a.ghost", Rcode::NxDomain);
        assert_eq!(get(&cache, &stamps, "a.ghost", 101), Some((Rcode::NxDomain, false)));
    }

    #[test]
    fn what_is_used_much_stays_in_the_shared_cache() {
        let (cache, stamps) = (AnswerCache::new(1 << 20), Stamps::new());
        put(&cache, &stamps, "a.ghost", Rcode::NoError);
        for _ in 0..TAKEN_ONE_IN {
            get(&cache, &stamps, "a.ghost", 100);
        }
        // As if it had been pushed out.
        cache.entries.clear();
        for _ in 0..SHOWN_ONE_IN {
            assert_eq!(get(&cache, &stamps, "a.ghost", 100), Some((Rcode::NoError, true)));
        }
        assert_eq!(cache.len(), 1);
    }
}
