//! What is known of ordinary names: answers, fresh and stale, and failures.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use quick_cache::sync::Cache;
use quick_cache::{Equivalent, Weighter};

use super::found::Told;
use crate::limits::{
    FORWARD_BYTES, FORWARD_ENTRIES, FORWARD_FAILURE_FIRST, FORWARD_FAILURE_LONGEST, FORWARD_SECONDS, PREFETCH_HITS,
};
use crate::wire::{Name, Query, Rtype};

/// What is asked upstream. Whether a client wants signatures makes no difference there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    pub name: Name,
    pub rtype: Rtype,
    /// Checking disabled: what does not validate is wanted, too (RFC 4035 §3.2.2).
    pub cd: bool,
}

/// The same, borrowed: a look-up costs no allocation.
#[derive(Hash)]
struct Asked<'a> {
    name: &'a Name,
    rtype: Rtype,
    cd: bool,
}

impl Equivalent<Question> for Asked<'_> {
    fn equivalent(&self, question: &Question) -> bool {
        *self.name == question.name && self.rtype == question.rtype && self.cd == question.cd
    }
}

impl From<&Query> for Question {
    fn from(query: &Query) -> Self {
        Self { name: query.name.clone(), rtype: query.rtype, cd: query.cd }
    }
}

/// An answer and its time.
#[derive(Debug)]
pub(super) struct Good {
    pub(super) told: Arc<Told>,
    /// Seconds since 1970.
    stored: u64,
    until: u64,
    hits: AtomicU32,
    refreshing: AtomicBool,
}

/// Why there is no answer, and until when nobody tries again.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) told: Arc<Told>,
    until: u64,
    /// Failures in a row before this one.
    streak: u32,
    /// What there is does not validate: an older answer must not stand in for it.
    bogus: bool,
}

#[derive(Debug, Clone, Default)]
struct Entry {
    good: Option<Arc<Good>>,
    failure: Option<Arc<Failure>>,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Question, Entry> for ByBytes {
    fn weight(&self, question: &Question, entry: &Entry) -> u64 {
        let good = entry.good.as_ref().map_or(0, |good| good.told.weight() + size_of::<Good>());
        let failure = entry.failure.as_ref().map_or(0, |failure| failure.told.weight() + size_of::<Failure>());
        (question.name.as_wire().len() + size_of::<Question>() + good + failure) as u64
    }
}

/// What is known at once.
#[derive(Debug)]
pub(super) enum Known {
    /// An answer and its age in seconds.
    Fresh(Arc<Good>, u32),
    /// Nothing newer can be had.
    Stale(Arc<Good>),
    Failed(Arc<Failure>),
}

/// Answers by question, bounded in number and octets.
pub(super) struct Store {
    entries: Cache<Question, Entry, ByBytes>,
    /// Seconds after its TTL for which an answer is kept.
    stale: u64,
}

impl Store {
    pub(super) fn new(entries: usize, bytes: u64, stale: u64) -> Self {
        let entries = entries.min(FORWARD_ENTRIES);
        Self { entries: Cache::with_weighter(entries, bytes.min(FORWARD_BYTES), ByBytes), stale }
    }

    /// What can be said without asking anybody.
    pub(super) fn get(&self, query: &Query, now: u64) -> Option<Known> {
        let entry = self.entries.get(&Asked { name: &query.name, rtype: query.rtype, cd: query.cd })?;
        if let Some(good) = entry.good.as_ref().filter(|good| good.is_fresh(now)) {
            good.hits.fetch_add(1, Relaxed);
            return Some(Known::Fresh(good.clone(), good.age(now)));
        }
        let failure = entry.failure.as_ref().filter(|failure| now < failure.until)?;
        let stale = entry.good.as_ref().filter(|good| !failure.bogus && self.may_serve(good, now));
        Some(stale.map_or_else(|| Known::Failed(failure.clone()), |good| Known::Stale(good.clone())))
    }

    /// An answer whose time is over, but not for long.
    pub(super) fn stale(&self, question: &Question, now: u64) -> Option<Arc<Good>> {
        let entry = self.entries.get(question)?;
        entry.good.filter(|good| self.may_serve(good, now))
    }

    /// Keeps an answer.
    pub(super) fn put(&self, question: Question, told: Arc<Told>, now: u64) {
        if told.seconds == 0 {
            return;
        }
        let until = now + u64::from(told.seconds);
        let (hits, refreshing) = Default::default();
        let good = Some(Arc::new(Good { told, stored: now, until, hits, refreshing }));
        self.entries.insert(question, Entry { good, failure: None });
    }

    /// Keeps a failure, for longer after every one in a row, and what was known before.
    pub(super) fn fail(&self, question: Question, told: Arc<Told>, bogus: bool, now: u64) {
        let Entry { good, failure } = self.entries.get(&question).unwrap_or_default();
        let recent = failure.filter(|failure| now < failure.until + FORWARD_FAILURE_LONGEST);
        let streak = recent.map_or(0, |failure| failure.streak + 1);
        let failure = Some(Arc::new(Failure { told, until: now + patience(streak), streak, bogus }));
        let good = good.filter(|good| self.may_serve(good, now) || good.is_fresh(now));
        self.entries.insert(question, Entry { good, failure });
    }

    fn may_serve(&self, good: &Good, now: u64) -> bool {
        self.stale > 0 && now >= good.stored && now < good.until + self.stale
    }
}

/// Seconds for which a failure is remembered.
fn patience(streak: u32) -> u64 {
    (FORWARD_FAILURE_FIRST << streak.min(16)).min(FORWARD_FAILURE_LONGEST)
}

impl Good {
    fn is_fresh(&self, now: u64) -> bool {
        (self.stored..self.until).contains(&now)
    }

    fn age(&self, now: u64) -> u32 {
        // A fresh one is younger than FORWARD_SECONDS.
        now.saturating_sub(self.stored).min(FORWARD_SECONDS.into()) as u32
    }

    /// True for one caller in the last tenth of a popular answer's life.
    pub(super) fn is_due(&self, now: u64) -> bool {
        let left = self.until.saturating_sub(now) * 10;
        left <= self.until - self.stored
            && self.hits.load(Relaxed) >= PREFETCH_HITS
            && !self.refreshing.swap(true, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::EdeCode;

    fn question(name: &str) -> Question {
        Question { name: Name::from_user(name).unwrap(), rtype: Rtype::A, cd: false }
    }

    fn query(name: &str) -> Query {
        Query::internal(Name::from_user(name).unwrap(), Rtype::A)
    }

    fn told(seconds: u32) -> Arc<Told> {
        let mut told = Told::failure(&question("example.org"), EdeCode::Other, String::new());
        told.seconds = seconds;
        Arc::new(told)
    }

    fn state(store: &Store, now: u64) -> &'static str {
        match store.get(&query("example.org"), now) {
            None => "unknown",
            Some(Known::Fresh(..)) => "fresh",
            Some(Known::Stale(_)) => "stale",
            Some(Known::Failed(_)) => "failed",
        }
    }

    #[test]
    fn an_answer_is_fresh_then_stale_while_failures_last_then_forgotten() {
        let store = Store::new(100, 100_000, 1_000);
        assert_eq!(state(&store, 0), "unknown");
        store.put(question("example.org"), told(60), 100);
        assert_eq!((state(&store, 159), state(&store, 160), state(&store, 99)), ("fresh", "unknown", "unknown"));
        store.fail(question("example.org"), told(0), false, 160);
        assert_eq!((state(&store, 160), state(&store, 161)), ("stale", "unknown"));
        assert!(store.stale(&question("example.org"), 1_159).is_some());
        assert!(store.stale(&question("example.org"), 1_160).is_none());
        store.fail(question("example.org"), told(0), true, 161);
        assert_eq!(state(&store, 162), "failed");
        store.put(question("example.org"), told(0), 162);
        assert_eq!(state(&store, 162), "failed", "an answer that lasts no time is not kept");
    }

    #[test]
    fn failures_are_remembered_longer_and_longer_up_to_five_minutes() {
        let store = Store::new(100, 100_000, 0);
        let mut now = 1_000;
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            store.fail(question("example.org"), told(0), false, now);
            assert_eq!((state(&store, now + seconds - 1), state(&store, now + seconds)), ("failed", "unknown"));
            now += seconds;
        }
        store.fail(question("example.org"), told(0), false, now + 301);
        assert_eq!(state(&store, now + 302), "unknown", "the streak is forgotten");
        assert_eq!((patience(63), patience(u32::MAX)), (300, 300));
    }

    #[test]
    fn popular_answers_are_due_once_in_their_last_tenth() {
        let store = Store::new(100, 100_000, 0);
        store.put(question("example.org"), told(100), 0);
        let good = |now| match store.get(&query("example.org"), now) {
            Some(Known::Fresh(good, _)) => good,
            other => panic!("{other:?}"),
        };
        assert!(!good(95).is_due(95) && !good(95).is_due(95), "asked for twice only");
        assert!(!good(89).is_due(89), "too early");
        assert!(good(90).is_due(90) && !good(90).is_due(90));
    }

    #[test]
    fn the_store_is_bounded() {
        let store = Store::new(1_000, 20_000, 0);
        for number in 0..1_000 {
            store.put(question(&format!("n{number}.example.org")), told(60), 0);
        }
        assert!(store.entries.weight() <= 20_000 && store.entries.len() < 200);
    }
}
