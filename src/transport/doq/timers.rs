//! When which connection must be looked at.

use std::collections::BTreeSet;
use std::time::Instant;

/// At most one time for each of many things.
#[derive(Debug, Default)]
pub(super) struct Timers {
    set: BTreeSet<(Instant, usize)>,
}

/// What a thing knows of its entry.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Armed(Option<Instant>);

impl Timers {
    /// Has `key` come up by `when`. It may come up earlier: moving an entry back would cost more than a look in vain.
    pub(super) fn arm(&mut self, key: usize, armed: &mut Armed, when: Instant) {
        if armed.0.is_some_and(|at| at <= when) {
            return;
        }
        self.disarm(key, armed);
        self.set.insert((when, key));
        armed.0 = Some(when);
    }

    pub(super) fn disarm(&mut self, key: usize, armed: &mut Armed) {
        if let Some(at) = armed.0.take() {
            self.set.remove(&(at, key));
        }
    }

    /// The earliest time.
    pub(super) fn next(&self) -> Option<Instant> {
        self.set.first().map(|(at, _)| *at)
    }

    /// One whose time has come; whoever takes it forgets what it knew of its entry.
    pub(super) fn take(&mut self, now: Instant) -> Option<usize> {
        let first = self.set.first().filter(|(at, _)| *at <= now).copied()?;
        self.set.remove(&first);
        Some(first.1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn entries_move_forward_only_and_are_one_each() {
        let (now, mut timers) = (Instant::now(), Timers::default());
        let at = |seconds| now + Duration::from_secs(seconds);
        let (mut first, mut second) = (Armed::default(), Armed::default());
        timers.arm(1, &mut first, at(9));
        timers.arm(2, &mut second, at(5));
        timers.arm(1, &mut first, at(3));
        timers.arm(1, &mut first, at(7));
        assert_eq!((timers.next(), timers.set.len()), (Some(at(3)), 2));
        assert_eq!(timers.take(at(2)), None);
        assert_eq!((timers.take(at(4)), timers.take(at(4))), (Some(1), None));
        timers.disarm(2, &mut second);
        assert_eq!(timers.next(), None);
    }
}
