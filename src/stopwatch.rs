//! How long the stages of one query take, on the thread that does them.
//!
//! ```text
//! socket's thread    start ─ lap(Parse) ─ lap(Cache) ─ stop
//! worker's thread    start ─ timed(Contract) ─ timed(Sign) ─ timed(Contract) ... ─ stop
//! ```
//! A thread's own, because what takes the time is deep in branches of its own. Where none runs, only that is looked at.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::metrics::Stage;

thread_local! {
    static WATCH: RefCell<Option<Laps>> = const { RefCell::new(None) };
}

/// One stage, of which there may have been several parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lap {
    /// Where the first part began.
    pub began: Instant,
    /// All parts together.
    pub nanos: u64,
}

/// The stages so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Laps {
    pub started: Instant,
    last: Instant,
    laps: [Option<Lap>; Stage::ALL.len()],
}

impl Laps {
    pub fn starting(now: Instant) -> Self {
        Self { started: now, last: now, laps: [None; Stage::ALL.len()] }
    }

    pub fn of(&self, stage: Stage) -> Option<Lap> {
        self.laps[stage as usize]
    }

    /// Ends a stage that began where the one before ended.
    pub fn lap(&mut self, stage: Stage, now: Instant) {
        self.add(stage, self.last, now);
        self.last = now;
    }

    /// Adds a part of a stage.
    pub fn add(&mut self, stage: Stage, began: Instant, ended: Instant) {
        let nanos = nanos_between(began, ended);
        let lap = self.laps[stage as usize].get_or_insert(Lap { began, nanos: 0 });
        lap.nanos = lap.nanos.saturating_add(nanos);
    }

    /// Takes over the stages that a worker has timed, and the wait for it.
    pub fn join(&mut self, work: &Self) {
        self.lap(Stage::Queue, work.started);
        for (mine, theirs) in self.laps.iter_mut().zip(work.laps) {
            *mine = theirs.or(*mine);
        }
    }
}

/// Zero if they are the other way round.
pub fn nanos_between(began: Instant, ended: Instant) -> u64 {
    nanos(ended.saturating_duration_since(began))
}

/// As many as fit.
pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Starts this thread's watch anew.
pub fn start(now: Instant) {
    WATCH.set(Some(Laps::starting(now)));
}

/// Stops it: `None` if none ran.
pub fn stop() -> Option<Laps> {
    WATCH.take()
}

/// Ends a stage, if a watch runs.
pub fn lap(stage: Stage) {
    WATCH.with_borrow_mut(|watch| {
        if let Some(laps) = watch {
            laps.lap(stage, Instant::now());
        }
    });
}

/// Does a part of a stage.
pub fn timed<T>(stage: Stage, work: impl FnOnce() -> T) -> T {
    if WATCH.with_borrow(Option::is_none) {
        return work();
    }
    let began = Instant::now();
    let done = work();
    WATCH.with_borrow_mut(|watch| {
        if let Some(laps) = watch {
            laps.add(stage, began, Instant::now());
        }
    });
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_follow_each_other_and_parts_add_up() {
        let at = |millis| Instant::now().checked_add(Duration::from_millis(millis)).unwrap();
        let (begin, parsed, found, taken) = (at(0), at(1_000), at(3_000), at(6_000));
        let mut laps = Laps::starting(begin);
        laps.lap(Stage::Parse, parsed);
        laps.lap(Stage::Cache, found);
        let mut work = Laps::starting(taken);
        work.add(Stage::Contract, taken, taken + Duration::from_nanos(5));
        work.add(Stage::Contract, taken, taken + Duration::from_nanos(6));
        laps.join(&work);
        assert_eq!(laps.of(Stage::Contract), Some(Lap { began: taken, nanos: 11 }));
        assert_eq!(laps.of(Stage::Queue), Some(Lap { began: found, nanos: nanos_between(found, taken) }));
        assert_eq!(laps.of(Stage::Parse).map(|lap| lap.nanos), Some(nanos_between(begin, parsed)));
        assert_eq!((laps.of(Stage::Sign), nanos_between(taken, begin)), (None, 0));
    }

    #[test]
    fn a_watch_is_the_threads_own() {
        assert_eq!((timed(Stage::Sign, || 7), stop()), (7, None));
        start(Instant::now());
        lap(Stage::Parse);
        std::thread::spawn(|| assert_eq!(stop(), None)).join().unwrap();
        timed(Stage::Sign, || ());
        let laps = stop().unwrap();
        assert!(laps.of(Stage::Parse).is_some() && laps.of(Stage::Sign).is_some() && laps.of(Stage::Cache).is_none());
        assert_eq!(stop(), None);
    }
}
