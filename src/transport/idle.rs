//! When a connection is closed because nobody uses it.

use std::time::Duration;

use tokio::time::{Instant, Interval, interval_at};

use super::Edge;
use super::admission::Admission;
use crate::limits::{IDLE_LOOK, REQUEST_TIMEOUT};

/// Watches one connection.
pub(crate) struct Idle<'a> {
    edge: &'a Edge,
    looks: Interval,
    /// When it was last used, or made.
    since: Instant,
    asked: bool,
}

impl<'a> Idle<'a> {
    /// Begins when a connection is made.
    pub(crate) fn new(edge: &'a Edge) -> Self {
        // `interval` panics at zero.
        let period = edge.admission.idle().clamp(Duration::from_millis(1), IDLE_LOOK);
        let since = Instant::now();
        Self { edge, looks: interval_at(since + period, period), since, asked: false }
    }

    /// Resolves when it is time to look.
    pub(crate) async fn look(&mut self) -> Instant {
        self.looks.tick().await
    }

    /// True if it is to be closed: `used` if there was a request since the last look, `busy` if one is under way.
    pub(crate) fn is_over(&mut self, now: Instant, used: bool, busy: bool) -> bool {
        if used || busy {
            (self.since, self.asked) = (now, true);
            return false;
        }
        now.duration_since(self.since) >= allowance(&self.edge.admission, self.asked)
    }
}

/// How long a connection may be unused.
pub(crate) fn allowance(admission: &Admission, asked: bool) -> Duration {
    let most = if admission.is_half_full() {
        IDLE_LOOK
    } else if asked {
        Duration::MAX
    } else {
        REQUEST_TIMEOUT
    };
    most.min(admission.idle())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::IDLE_TIMEOUT;
    use crate::transport::admission::Limits;

    #[test]
    fn whoever_asks_nothing_has_less_time_and_less_still_where_places_run_out() {
        let admission = Admission::new(Limits { streams: 2, ..Limits::default() });
        assert_eq!([true, false].map(|asked| allowance(&admission, asked)), [IDLE_TIMEOUT, REQUEST_TIMEOUT]);
        let _taken = [admission.descriptor(), admission.descriptor()];
        assert_eq!([true, false].map(|asked| allowance(&admission, asked)), [IDLE_LOOK, IDLE_LOOK]);
        let short = Admission::new(Limits { idle: Duration::from_millis(50), ..Limits::default() });
        assert_eq!(allowance(&short, false), Duration::from_millis(50));
    }
}
