//! Troubles of the process as a whole. `/readyz` is red while there is any.
//!
//! The part that meets the trouble raises it, and clears it when it is over. `Metrics` holds the [`Health`], so every layer
//! can reach it: `metrics.health.raise(Trouble::Disk)`, `metrics.health.clear(Trouble::Disk)`.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::Counter;

/// Trouble that makes the service wrong or incomplete, whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The wall clock disagrees with the monotonic clock or the log.
    Clock,
    /// The last op in the log is of a time that has not come.
    LogAhead,
    /// The store takes no commits.
    Store,
    /// Something that is stored is not what was written.
    Damage,
    /// A file beside the store cannot be written.
    Disk,
    /// No file descriptors are left.
    Descriptors,
    /// The machine does not let compiled contracts run.
    Execution,
    /// A thread that the service depends on is gone.
    Thread,
    /// A question of our own got no answer.
    Canary,
}

impl Trouble {
    /// Every kind, its label value, and what `/readyz` says of it.
    pub const ALL: [(Self, &'static str, &'static str); 9] = [
        (Self::Clock, "clock", "the clock has jumped; writes are refused until it is right, or --accept-time is given"),
        (Self::LogAhead, "log_ahead", "the log's last op is ahead of the clock; see `ghostplane log amend-time`"),
        (Self::Store, "store", "the store takes no commits; it is opened again and again until it does"),
        (Self::Damage, "damage", "stored data is damaged; run `ghostplane log verify`, and restore a copy"),
        (Self::Disk, "disk", "a file cannot be written; see the log"),
        (Self::Descriptors, "descriptors", "no file descriptors are left"),
        (Self::Execution, "execution", "compiled contracts may not run on this machine"),
        (Self::Thread, "thread", "a thread that serves is gone"),
        (Self::Canary, "canary", "a question of the server's own got no answer"),
    ];
}

/// Which troubles there are now, and how often each has begun.
#[derive(Debug, Default)]
pub struct Health([(AtomicBool, Counter); Trouble::ALL.len()]);

impl Health {
    /// Notes a trouble; true if it is new, so that it is logged once and not each time.
    pub fn raise(&self, trouble: Trouble) -> bool {
        let (raised, begun) = &self.0[trouble as usize];
        let new = !raised.swap(true, Relaxed);
        begun.add(u64::from(new));
        new
    }

    /// Notes that a trouble is over; true if it was there.
    pub fn clear(&self, trouble: Trouble) -> bool {
        let (raised, _) = &self.0[trouble as usize];
        // Most calls find nothing: a load leaves the cache line where it is.
        raised.load(Relaxed) && raised.swap(false, Relaxed)
    }

    /// Raises or clears, by whether `there` holds; true if that changes anything.
    pub fn set(&self, trouble: Trouble, there: bool) -> bool {
        if there { self.raise(trouble) } else { self.clear(trouble) }
    }

    /// Whether a trouble is there now.
    pub fn has(&self, trouble: Trouble) -> bool {
        self.0[trouble as usize].0.load(Relaxed)
    }

    /// How often a trouble has begun.
    pub fn begun(&self, trouble: Trouble) -> u64 {
        self.0[trouble as usize].1.get()
    }

    /// The sentences of all troubles that there are; none if all is well.
    pub fn sentences(&self) -> impl Iterator<Item = &'static str> {
        Trouble::ALL.into_iter().filter(|(trouble, ..)| self.has(*trouble)).map(|(.., sentence)| sentence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_counted_when_it_begins() {
        let health = Health::default();
        assert!(health.raise(Trouble::Store) && !health.raise(Trouble::Store));
        assert_eq!((health.has(Trouble::Store), health.has(Trouble::Clock)), (true, false));
        assert_eq!(health.sentences().count(), 1);
        assert!(health.clear(Trouble::Store) && !health.clear(Trouble::Store));
        assert!(health.set(Trouble::Store, true) && !health.set(Trouble::Clock, false));
        assert_eq!((health.begun(Trouble::Store), health.begun(Trouble::Clock)), (2, 0));
    }

    #[test]
    fn troubles_are_indexed_by_discriminant() {
        for (index, (trouble, ..)) in Trouble::ALL.iter().enumerate() {
            assert_eq!(*trouble as usize, index);
        }
    }
}
