//! How much of its time a socket's thread executes misses itself.
//!
//! A hand-over to a worker and back costs as much as what is handed over; but while a thread executes, those whose answers
//! are in the cache wait. So it takes a share of its time for that, and what does not fit goes to the workers.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// Nanoseconds of execution at once, after a pause.
const BURST: i64 = 500_000;

/// The part of a thread's time that is for executions: thousands a second. When many questions come at once, cached answers
/// wait for a third longer; with three quarters it would be four times as long.
const PART: i64 = 4;

thread_local! {
    static SHARE: Cell<Option<Share>> = const { Cell::new(None) };
}

#[derive(Debug, Clone, Copy)]
struct Share {
    /// As of when.
    at: Instant,
    /// Nanoseconds; below zero if an execution took longer than there was room for.
    left: i64,
}

impl Share {
    fn full(at: Instant) -> Self {
        Self { at, left: BURST }
    }

    fn at(self, now: Instant) -> Self {
        let gained = nanos(now.saturating_duration_since(self.at)) / PART;
        Self { at: now, left: self.left.saturating_add(gained).min(BURST) }
    }

    fn less(self, spent: Duration) -> Self {
        Self { left: self.left.saturating_sub(nanos(spent)), ..self }
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// Does `work` if the calling thread has not spent its share on such work.
pub(super) fn within<T>(work: impl FnOnce() -> Option<T>) -> Option<T> {
    let now = Instant::now();
    let share = SHARE.get().map_or_else(|| Share::full(now), |share| share.at(now));
    if share.left <= 0 {
        SHARE.set(Some(share));
        return None;
    }
    let done = work();
    SHARE.set(Some(share.less(now.elapsed())));
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_executes_a_quarter_of_its_time() {
        let begin = Instant::now();
        let after = |millis| begin + Duration::from_millis(millis);
        let spent = Share::full(begin).less(Duration::from_millis(2));
        assert_eq!(spent.left, -3 * BURST);
        // What an execution took too long is made up for before there is another.
        assert_eq!(spent.at(after(6)).left, 0);
        assert_eq!(spent.at(after(7)).left, BURST / 2);
        assert_eq!(spent.at(after(1_000)).left, BURST);
    }

    #[test]
    fn work_beyond_the_share_is_left_to_others() {
        assert_eq!(within(|| Some(1)), Some(1));
        SHARE.set(Some(Share { at: Instant::now() + Duration::from_secs(3_600), left: 0 }));
        assert_eq!(within(|| Some(1)), None);
        std::thread::spawn(|| assert_eq!(within(|| Some(1)), Some(1))).join().unwrap();
    }
}
