//! Which upstream is asked: the fastest of those that answer, and the next one when it fails.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle as _, FirstAnswer as _};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{DnsRequest, DnsResponse};
use hickory_resolver::{NameServerPool, PoolContext};

use super::ask::{ForwardError, server};
use crate::config::Upstream;
use crate::gateway::Transport;
use crate::limits::{FORWARD_FAILURE_FIRST, FORWARD_FAILURE_LONGEST, FORWARD_RETRIES};

/// A pool of one: it keeps the connections to one server, and falls back to TCP.
type Pool = NameServerPool<TokioRuntimeProvider>;

/// All upstreams.
pub(super) struct Upstreams(Vec<One>);

struct One {
    pool: Pool,
    /// Exchanges with it for one question, at most.
    tries: usize,
    health: Mutex<Health>,
}

/// How an upstream has done of late.
#[derive(Debug, Clone, Copy, Default)]
struct Health {
    /// Smoothed; none measured comes first.
    latency: Duration,
    /// Times in a row that nothing came back.
    silences: u32,
    down_until: Option<Instant>,
}

impl Upstreams {
    /// Connects when it is first asked.
    pub(super) fn new(upstreams: &[Upstream], context: &Arc<PoolContext>) -> Result<Self, ForwardError> {
        let provider = TokioRuntimeProvider::new();
        let one = |upstream: &Upstream| {
            let pool = NameServerPool::from_config([server(upstream)?], context.clone(), provider.clone());
            // Over UDP hickory itself sends a query three times in one exchange.
            let tries = if upstream.via == Transport::Udp { 1 } else { 1 + FORWARD_RETRIES };
            Ok(One { pool, tries, health: Mutex::default() })
        };
        upstreams.iter().map(one).collect::<Result<_, ForwardError>>().map(Self)
    }

    /// One exchange. Where nothing comes back, the next upstream is asked, or the same once more, three times at most; one
    /// that tells of a failure is not asked again (RFC 9520 §3.1).
    pub(super) async fn exchange(&self, request: DnsRequest) -> Result<DnsResponse, NetError> {
        let mut failed = Err(NetError::NoConnections);
        let mut order: VecDeque<_> = self.order(Instant::now()).into_iter().map(|one| (one, one.tries)).collect();
        for _ in 0..=FORWARD_RETRIES.max(self.0.len() - 1) {
            let Some((one, tries)) = order.pop_front() else { break };
            let begun = Instant::now();
            let result = one.pool.send(request.clone()).first_answer().await;
            match &result {
                // It has not been asked.
                Err(NetError::Busy) => order.push_back((one, tries)),
                Err(error) if is_silence(error) => {
                    one.health().fell_silent(Instant::now());
                    if tries > 1 {
                        order.push_back((one, tries - 1));
                    }
                }
                Err(NetError::Dns(DnsError::ResponseCode(_))) => self.measured(one, begun.elapsed()),
                _ => {
                    self.measured(one, begun.elapsed());
                    return result;
                }
            }
            failed = result;
        }
        failed
    }

    /// Those that answer, the fastest first; then the others, the longest silent first.
    fn order(&self, now: Instant) -> Vec<&One> {
        let mut all: Vec<(Health, &One)> = self.0.iter().map(|one| (*one.health(), one)).collect();
        all.sort_by_key(|(health, _)| (health.down_until.filter(|until| now < *until), health.latency));
        all.into_iter().map(|(_, one)| one).collect()
    }

    /// Notes how long one took; the others are forgotten a little, so that they are tried again some day.
    fn measured(&self, one: &One, took: Duration) {
        for other in &self.0 {
            let mut health = other.health();
            if std::ptr::eq(other, one) { health.answered(took) } else { health.latency = health.latency * 49 / 50 }
        }
    }
}

impl One {
    fn health(&self) -> MutexGuard<'_, Health> {
        // Nothing panics while it holds the lock.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Health {
    fn answered(&mut self, took: Duration) {
        let smoothed = if self.latency.is_zero() { took } else { self.latency * 7 / 8 + took / 8 };
        *self = Self { latency: smoothed, ..Self::default() };
    }

    /// It is passed over for a while, and for longer every time.
    fn fell_silent(&mut self, now: Instant) {
        let seconds = (FORWARD_FAILURE_FIRST << self.silences.min(16)).min(FORWARD_FAILURE_LONGEST);
        self.silences += 1;
        self.down_until = Some(now + Duration::from_secs(seconds));
    }
}

/// Nothing came back: neither an answer nor word of a failure.
fn is_silence(error: &NetError) -> bool {
    !matches!(error, NetError::Busy | NetError::Dns(_) | NetError::Proto(_) | NetError::Message(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_that_answers_is_asked_first() {
        let mut health = Health::default();
        health.answered(Duration::from_millis(80));
        assert_eq!(health.latency, Duration::from_millis(80));
        health.answered(Duration::from_millis(160));
        assert_eq!(health.latency, Duration::from_millis(90));
        let now = Instant::now();
        let lasts = |health: &mut Health| {
            health.fell_silent(now);
            health.down_until.unwrap().duration_since(now).as_secs()
        };
        assert_eq!([0; 11].map(|_| lasts(&mut health)), [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        health.answered(Duration::from_millis(90));
        assert_eq!((health.silences, health.down_until), (0, None));
    }
}
