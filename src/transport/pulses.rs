//! Signs of life of the threads that serve sockets: whether one is stuck is seen from outside only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{Instant, interval};

use super::Edge;
use crate::limits::{PULSE, PULSE_MISSED};

/// When each thread was last alive, milliseconds after the beginning.
#[derive(Debug)]
pub(super) struct Pulses {
    begin: Instant,
    last: Box<[AtomicU64]>,
}

impl Default for Pulses {
    fn default() -> Self {
        Self::of(0)
    }
}

impl Pulses {
    pub(super) fn of(cores: usize) -> Self {
        Self { begin: Instant::now(), last: (0..cores).map(|_| AtomicU64::new(0)).collect() }
    }

    fn since_begin(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.begin).as_millis() as u64
    }

    fn beat(&self, core: usize, now: Instant) {
        if let Some(last) = self.last.get(core) {
            last.store(self.since_begin(now), Relaxed);
        }
    }

    /// The first thread that has shown no life for too long, and for how long.
    pub(super) fn missed(&self, now: Instant) -> Option<(usize, Duration)> {
        let silent = |last: &AtomicU64| Duration::from_millis(self.since_begin(now).saturating_sub(last.load(Relaxed)));
        self.last.iter().map(silent).enumerate().find(|(_, silent)| *silent >= PULSE_MISSED)
    }
}

/// Shows that the thread of a core lives, until shutdown.
pub async fn beat(edge: Arc<Edge>, core: usize) {
    let mut ticks = interval(PULSE);
    loop {
        tokio::select! {
            now = ticks.tick() => edge.pulses.beat(core, now),
            () = edge.shutdown.triggered() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_shows_no_life_is_told_of() {
        let pulses = Pulses::of(2);
        let after = |time| pulses.begin + time;
        assert_eq!(pulses.missed(after(PULSE)), None);
        pulses.beat(0, after(PULSE_MISSED));
        assert_eq!(pulses.missed(after(PULSE_MISSED)), Some((1, PULSE_MISSED)));
        pulses.beat(1, after(PULSE_MISSED));
        assert_eq!(pulses.missed(after(PULSE_MISSED + PULSE)), None);
        assert_eq!(Pulses::default().missed(after(PULSE_MISSED)), None);
    }
}
