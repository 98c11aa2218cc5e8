//! Who may ask, how fast, and over how many connections: by client prefix, /32 for IPv4, /56 for IPv6.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::limits::{MAX_CONNECTIONS, MAX_CONNECTIONS_PER_PREFIX};

/// Rates of one client prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub queries_per_second: NonZeroU32,
    pub query_burst: NonZeroU32,
    /// JSON-RPC requests.
    pub calls_per_second: NonZeroU32,
    pub call_burst: NonZeroU32,
    /// Whether clients on this machine are limited, too.
    pub loopback: bool,
}

impl Default for Limits {
    fn default() -> Self {
        let some = |number: u32| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Self {
            queries_per_second: some(1_000),
            query_burst: some(4_000),
            calls_per_second: some(20),
            call_burst: some(200),
            loopback: false,
        }
    }
}

/// Rate limiters and connection counts. Rates are kept in 65,536 buckets chosen by a secret hash of the
/// prefix, so that spoofed addresses cannot grow the table, nor pick whom they share a bucket with.
pub struct Admission {
    queries: DefaultKeyedRateLimiter<u16>,
    calls: DefaultKeyedRateLimiter<u16>,
    loopback: bool,
    hasher: RandomState,
    connections: Arc<Mutex<Connections>>,
}

#[derive(Default)]
struct Connections {
    total: usize,
    by_prefix: HashMap<IpAddr, usize>,
}

/// One open connection; dropped, it makes room.
pub struct ConnectionGuard {
    connections: Arc<Mutex<Connections>>,
    prefix: IpAddr,
}

impl Admission {
    /// Fresh limiters.
    pub fn new(limits: Limits) -> Self {
        let quota = |rate, burst| Quota::per_second(rate).allow_burst(burst);
        Self {
            queries: RateLimiter::keyed(quota(limits.queries_per_second, limits.query_burst)),
            calls: RateLimiter::keyed(quota(limits.calls_per_second, limits.call_burst)),
            loopback: limits.loopback,
            hasher: RandomState::new(),
            connections: Arc::default(),
        }
    }

    /// True if a query from `addr` may be answered now.
    pub fn query(&self, addr: IpAddr) -> bool {
        self.check(&self.queries, addr)
    }

    /// True if a JSON-RPC request from `addr` may be carried out now.
    pub fn call(&self, addr: IpAddr) -> bool {
        self.check(&self.calls, addr)
    }

    /// Room for one more connection from `addr`; `None` at a cap.
    pub fn connect(&self, addr: IpAddr) -> Option<ConnectionGuard> {
        let prefix = prefix(addr);
        let mut connections = lock(&self.connections);
        let here = connections.by_prefix.get(&prefix).copied().unwrap_or(0);
        // Clients on this machine are proxies, tests and load tools: only the total bounds them.
        let most = if addr.is_loopback() && !self.loopback { MAX_CONNECTIONS } else { MAX_CONNECTIONS_PER_PREFIX };
        if connections.total >= MAX_CONNECTIONS || here >= most {
            return None;
        }
        connections.total += 1;
        connections.by_prefix.insert(prefix, here + 1);
        drop(connections);
        Some(ConnectionGuard { connections: self.connections.clone(), prefix })
    }

    /// Open connections.
    pub fn open(&self) -> usize {
        lock(&self.connections).total
    }

    fn check(&self, limiter: &DefaultKeyedRateLimiter<u16>, addr: IpAddr) -> bool {
        if addr.is_loopback() && !self.loopback {
            return true;
        }
        let bucket = self.hasher.hash_one(prefix(addr)) as u16;
        limiter.check_key(&bucket).is_ok()
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let mut connections = lock(&self.connections);
        connections.total -= 1;
        if let Some(count) = connections.by_prefix.get_mut(&self.prefix) {
            *count -= 1;
            if *count == 0 {
                connections.by_prefix.remove(&self.prefix);
            }
        }
    }
}

/// The prefix that stands for a client: one IPv4 address, one IPv6 /56, the smallest a subscriber gets.
fn prefix(addr: IpAddr) -> IpAddr {
    match addr.to_canonical() {
        IpAddr::V4(addr) => IpAddr::V4(addr),
        IpAddr::V6(addr) => IpAddr::V6((addr.to_bits() & (u128::MAX << 72)).into()),
    }
}

fn lock(connections: &Mutex<Connections>) -> MutexGuard<'_, Connections> {
    // Nothing panics while it holds the lock.
    connections.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_is_limited_and_its_neighbour_is_not() {
        let two = NonZeroU32::new(2).unwrap();
        let limits = Limits { queries_per_second: NonZeroU32::MIN, query_burst: two, ..Limits::default() };
        let admission = Admission::new(limits);
        let asked = ["2001:db8::1", "2001:db8:0:ff::2", "2001:db8::3"].map(|text| admission.query(addr(text)));
        assert_eq!(asked, [true, true, false]);
        assert!(admission.query(addr("2001:db8:0:100::1")));
        assert!((0..10).all(|_| admission.query(addr("::1"))), "loopback is not limited by default");
    }

    #[test]
    fn connections_are_counted_and_given_back() {
        let admission = Admission::new(Limits::default());
        let one = addr("192.0.2.1");
        let held: Vec<_> = (0..MAX_CONNECTIONS_PER_PREFIX).map(|_| admission.connect(one).unwrap()).collect();
        assert!(admission.connect(one).is_none());
        assert!(admission.connect(addr("::ffff:192.0.2.1")).is_none());
        assert!(admission.connect(addr("192.0.2.2")).is_some());
        drop(held);
        assert_eq!(admission.open(), 0);
        assert!(admission.connect(one).is_some());
    }
}
