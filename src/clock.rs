//! The gateway's time: the wall clock's, as long as a second clock agrees.
//!
//! ```text
//! wall clock ----> within an hour of what is counted? --yes--> the time
//! steady clock --> start + seconds since               --no--> what is counted goes on; nothing is written
//! ```
//! See docs/internals/time.md for what a wrong clock did before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::limits::{CLOCK_JUMP, LONGEST_PAUSE};
use crate::metrics::{Metrics, Trouble};

/// Seconds since 1970, from the shell.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Where the time is from.
pub struct Sources {
    /// Seconds since 1970, as the machine believes.
    pub wall: Clock,
    /// Seconds that only grow, whatever is done to the wall clock.
    pub steady: Clock,
    /// Seconds that the machine slept since it began, which `steady` may not have counted. Asked when the two disagree.
    pub slept: Clock,
}

/// A wall clock that is not followed when it jumps.
pub struct GuardedClock {
    sources: Sources,
    metrics: Arc<Metrics>,
    /// Seconds since 1970 at which `steady` was 0.
    origin: AtomicU64,
    /// Sleep that has been counted.
    slept: AtomicU64,
    /// The last second at which the clocks were found to agree.
    agreed: AtomicU64,
    /// The second, of `steady`, in which sleep was asked for last.
    asked: AtomicU64,
}

impl GuardedClock {
    /// Begins to count at the wall clock's time, if that can be: not much before the latest time that is known from before,
    /// and not so long after it that leases would have ended meanwhile. Otherwise, unless `accept`, at that latest time.
    pub fn start(sources: Sources, known: u64, accept: bool, metrics: Arc<Metrics>) -> Arc<Self> {
        let (wall, steady) = ((sources.wall)(), (sources.steady)());
        let plausible = wall + CLOCK_JUMP >= known && wall <= known.saturating_add(LONGEST_PAUSE);
        let begin = if known == 0 || accept || plausible { wall } else { known };
        let slept = AtomicU64::new((sources.slept)());
        let origin = AtomicU64::new(begin.saturating_sub(steady));
        let never = || AtomicU64::new(u64::MAX);
        let clock = Arc::new(Self { sources, metrics, origin, slept, agreed: never(), asked: never() });
        // Says at once if it cannot be.
        clock.now();
        clock
    }

    /// Seconds since 1970.
    pub fn now(&self) -> u64 {
        let wall = (self.sources.wall)();
        // Once a second is enough.
        if self.agreed.load(Relaxed) == wall { wall } else { self.compare(wall) }
    }

    /// The clock as everything takes it.
    pub fn clock(self: &Arc<Self>) -> Clock {
        let clock = self.clone();
        Arc::new(move || clock.now())
    }

    fn compare(&self, wall: u64) -> u64 {
        let mut counted = self.counted();
        if wall.abs_diff(counted) > CLOCK_JUMP && self.woke() {
            counted = self.counted();
        }
        let health = &self.metrics.health;
        if wall.abs_diff(counted) > CLOCK_JUMP {
            if health.raise(Trouble::Clock) {
                tracing::error!(wall, counted, "the clock has jumped: time is counted on, and nothing is written");
            }
            return counted;
        }
        if health.clear(Trouble::Clock) {
            tracing::info!(wall, "the clock is right again");
        }
        self.agreed.store(wall, Relaxed);
        wall
    }

    fn counted(&self) -> u64 {
        self.origin.load(Relaxed).saturating_add((self.sources.steady)())
    }

    /// Counts the time that the machine has slept; false if it has not since the last look, or that was in this second.
    fn woke(&self) -> bool {
        let second = (self.sources.steady)();
        if self.asked.swap(second, Relaxed) == second {
            return false;
        }
        let slept = (self.sources.slept)();
        let more = slept.saturating_sub(self.slept.fetch_max(slept, Relaxed));
        self.origin.fetch_add(more, Relaxed);
        more > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Machine {
        wall: Arc<AtomicU64>,
        steady: Arc<AtomicU64>,
        slept: Arc<AtomicU64>,
        metrics: Arc<Metrics>,
    }

    const NOW: u64 = 1_800_000_000;
    const YEARS: u64 = 5 * 365 * 86_400;

    impl Machine {
        fn new(wall: u64) -> Self {
            let number = |n| Arc::new(AtomicU64::new(n));
            Self { wall: number(wall), steady: number(7), slept: number(3), metrics: Arc::default() }
        }

        fn start(&self, known: u64, accept: bool) -> Arc<GuardedClock> {
            let read = |number: &Arc<AtomicU64>| -> Clock {
                let number = number.clone();
                Arc::new(move || number.load(Relaxed))
            };
            let sources = Sources { wall: read(&self.wall), steady: read(&self.steady), slept: read(&self.slept) };
            GuardedClock::start(sources, known, accept, self.metrics.clone())
        }

        fn pass(&self, wall: i64, steady: u64) {
            self.wall.store(self.wall.load(Relaxed).wrapping_add_signed(wall), Relaxed);
            self.steady.fetch_add(steady, Relaxed);
        }

        fn is_well(&self) -> bool {
            !self.metrics.health.has(Trouble::Clock)
        }
    }

    #[test]
    fn a_jump_is_not_followed_until_the_clock_is_right_again() {
        for jump in [YEARS as i64, -(YEARS as i64), 3_601, -3_601] {
            let machine = Machine::new(NOW);
            let clock = machine.start(NOW - 60, false);
            machine.pass(100, 100);
            assert_eq!((clock.now(), machine.is_well()), (NOW + 100, true));
            machine.pass(jump, 0);
            assert_eq!((clock.now(), machine.is_well()), (NOW + 100, false));
            machine.pass(10, 10);
            assert_eq!((clock.now(), machine.is_well()), (NOW + 110, false), "{jump}");
            machine.pass(-jump, 0);
            assert_eq!((clock.now(), machine.is_well()), (NOW + 110, true));
            assert_eq!(machine.metrics.health.begun(Trouble::Clock), 1);
        }
    }

    #[test]
    fn small_steps_are_followed() {
        let machine = Machine::new(NOW);
        let clock = machine.start(0, false);
        for step in [3_000, -3_000, -600, 30] {
            machine.pass(step, 0);
            assert_eq!((clock.now(), machine.is_well()), (machine.wall.load(Relaxed), true));
        }
    }

    #[test]
    fn a_machine_that_slept_has_not_jumped() {
        let machine = Machine::new(NOW);
        let clock = machine.start(NOW, false);
        machine.pass(30_000, 5);
        machine.slept.fetch_add(29_995, Relaxed);
        assert_eq!((clock.now(), machine.is_well()), (NOW + 30_000, true));
        machine.pass(30_000, 5);
        assert_eq!((clock.now(), machine.is_well()), (NOW + 30_005, false));
    }

    #[test]
    fn a_start_goes_on_from_what_is_known() {
        let week = LONGEST_PAUSE;
        for (known, accept, well) in [
            (0, false, true),
            (NOW, false, true),
            (NOW - week, false, true),
            (NOW - week - 1, false, false),
            (NOW + 3_600, false, true),
            (NOW + 3_601, false, false),
            (NOW + YEARS, true, true),
            (NOW - YEARS, true, true),
        ] {
            let machine = Machine::new(NOW);
            let clock = machine.start(known, accept);
            assert_eq!((machine.is_well(), clock.now()), (well, if well { NOW } else { known }), "{known} {accept}");
            machine.pass(10, 10);
            assert_eq!((machine.is_well(), clock.now()), (well, if well { NOW } else { known } + 10));
        }
    }
}
