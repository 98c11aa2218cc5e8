//! Who may ask how often, and how many connections there may be.
//!
//! A client is a prefix: /32 of IPv4, /56 of IPv6 (what one subscriber usually gets). Rate limits are kept
//! per *bucket*, a keyed hash of the prefix and of whether the address is proven: there are only [`BUCKETS`] of them, so
//! spoofed sources cannot grow the table; the hash is seeded at random, so that nobody can aim at another's bucket.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use governor::clock::DefaultClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use ipnet::IpNet;

use crate::gateway::{Client, Prefix};
use crate::limits::{
    AMPLIFICATION, CPU_MS_PER_SECOND, CROWDED_HANDSHAKES, HANDSHAKE_CPU, HELD_PER_CORE, HELD_PER_PREFIX, IDLE_TIMEOUT,
    MAX_CONNECTIONS, MAX_CONNECTIONS_PER_PREFIX,
};
use crate::wire::{Rcode, Reply};
use crate::work::{Budget, Cost, Overdrawn, WorkMeter};

/// Rate-limit states kept, at most.
pub const BUCKETS: usize = 1 << 16;

/// What one client prefix may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub queries_per_second: NonZeroU32,
    /// Queries at once after a pause.
    pub burst: NonZeroU32,
    pub rpc_per_second: NonZeroU32,
    pub rpc_burst: NonZeroU32,
    /// Calls of programs that owners pay for, and so many at once.
    pub programs_per_second: NonZeroU32,
    pub program_burst: NonZeroU32,
    /// Responses over UDP of one owner name, or zone, to one network, to clients whose address is not proven.
    pub responses_per_second: NonZeroU32,
    /// The same of all names.
    pub network_responses_per_second: NonZeroU32,
    /// Octets over UDP for one octet of the question, to such clients.
    pub amplification: NonZeroU32,
    /// Milliseconds of work a second: executions and handshakes.
    pub cpu_ms_per_second: NonZeroU32,
    /// Octets of answers that have not been taken, at most [`HELD_PER_PREFIX`].
    pub held: usize,
    /// Loopback addresses are not rate limited: for load tests and for a resolver on the same machine.
    pub exempt_loopback: bool,
    /// Connections in all, at most [`MAX_CONNECTIONS`].
    pub connections: usize,
    /// Connections of one prefix, at most [`MAX_CONNECTIONS_PER_PREFIX`].
    pub connections_per_prefix: usize,
    /// Connections over TCP, each of which takes a descriptor.
    pub streams: usize,
    /// A connection without a request for so long is closed, though its client may keep it alive otherwise;
    /// at most [`IDLE_TIMEOUT`]. It takes between once and twice as long.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queries_per_second: const { NonZeroU32::new(20_000).unwrap() },
            burst: const { NonZeroU32::new(40_000).unwrap() },
            rpc_per_second: const { NonZeroU32::new(200).unwrap() },
            rpc_burst: const { NonZeroU32::new(1_000).unwrap() },
            programs_per_second: const { NonZeroU32::new(20).unwrap() },
            program_burst: const { NonZeroU32::new(100).unwrap() },
            responses_per_second: const { NonZeroU32::new(100).unwrap() },
            network_responses_per_second: const { NonZeroU32::new(1_000).unwrap() },
            amplification: const { NonZeroU32::new(AMPLIFICATION as u32).unwrap() },
            cpu_ms_per_second: CPU_MS_PER_SECOND,
            held: HELD_PER_PREFIX,
            exempt_loopback: false,
            connections: MAX_CONNECTIONS,
            connections_per_prefix: MAX_CONNECTIONS_PER_PREFIX,
            streams: MAX_CONNECTIONS,
            idle: IDLE_TIMEOUT,
        }
    }
}

impl Limits {
    /// A meter of the work that clients may have done.
    pub fn work_meter(&self) -> WorkMeter {
        WorkMeter::new(self.cpu_ms_per_second).sparing_loopback(self.exempt_loopback)
    }
}

type Limiter = RateLimiter<u16, Buckets, DefaultClock, NoOpMiddleware>;

/// The states of all buckets, each of which is one atomic number: no core waits for another.
#[derive(Debug)]
struct Buckets(Box<[InMemoryState]>);

impl Default for Buckets {
    fn default() -> Self {
        Self((0..BUCKETS).map(|_| InMemoryState::default()).collect())
    }
}

impl StateStore for Buckets {
    type Key = u16;

    fn measure_and_replace<T, F, E>(&self, bucket: &u16, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0[usize::from(*bucket)].measure_and_replace(&NotKeyed::NonKey, decide)
    }
}

/// Rate limits and connection counts. One for the process.
pub struct Admission {
    limits: Limits,
    /// Balancers that say for whom they ask.
    proxies: Vec<IpNet>,
    hasher: RandomState,
    queries: Limiter,
    rpc: Limiter,
    programs: Limiter,
    responses: Limiter,
    network_responses: Limiter,
    meter: Arc<WorkMeter>,
    /// Octets kept by bucket.
    held: Arc<[AtomicUsize]>,
    slips: AtomicU64,
    connections: Arc<Mutex<Connections>>,
    streams: Arc<AtomicUsize>,
    handshakes: Arc<AtomicUsize>,
}

#[derive(Debug, Default)]
struct Connections {
    total: usize,
    /// Only prefixes with a connection are here: no more entries than connections.
    by_prefix: HashMap<Prefix, usize>,
}

impl Admission {
    /// Limits wider than `crate::limits` allows are narrowed to it.
    pub fn new(limits: Limits) -> Self {
        let quota = |rate, burst| {
            RateLimiter::new(Quota::per_second(rate).allow_burst(burst), Buckets::default(), DefaultClock::default())
        };
        Self {
            proxies: Vec::new(),
            hasher: RandomState::new(),
            queries: quota(limits.queries_per_second, limits.burst),
            rpc: quota(limits.rpc_per_second, limits.rpc_burst),
            programs: quota(limits.programs_per_second, limits.program_burst),
            responses: quota(limits.responses_per_second, limits.responses_per_second),
            network_responses: quota(limits.network_responses_per_second, limits.network_responses_per_second),
            meter: Arc::new(limits.work_meter()),
            held: (0..BUCKETS).map(|_| AtomicUsize::new(0)).collect(),
            slips: AtomicU64::new(0),
            connections: Arc::default(),
            streams: Arc::default(),
            handshakes: Arc::default(),
            limits: Limits {
                connections: limits.connections.min(MAX_CONNECTIONS),
                connections_per_prefix: limits.connections_per_prefix.min(MAX_CONNECTIONS_PER_PREFIX),
                idle: limits.idle.min(IDLE_TIMEOUT),
                held: limits.held.min(HELD_PER_PREFIX),
                ..limits
            },
        }
    }

    /// Takes work from the accounts of this meter, which others share.
    #[must_use]
    pub fn metered_by(self, meter: Arc<WorkMeter>) -> Self {
        Self { meter, ..self }
    }

    /// Believes what is said at these addresses of the clients behind them (PROXY protocol), and asks them to say it.
    pub fn behind(self, proxies: Vec<IpNet>) -> Self {
        Self { proxies, ..self }
    }

    /// True if who connects from `addr` speaks the PROXY protocol.
    pub fn is_proxy(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        self.proxies.iter().any(|proxies| proxies.contains(&addr))
    }

    /// Takes one query from the client's allowance; false if it is used up.
    pub fn query(&self, client: Client) -> bool {
        self.exempt(client.addr) || self.queries.check_key(&self.bucket(client)).is_ok()
    }

    /// Takes one RPC call from the client's allowance; false if it is used up.
    pub fn rpc(&self, client: Client) -> bool {
        self.exempt(client.addr) || self.rpc.check_key(&self.bucket(client)).is_ok()
    }

    /// Takes one call of a program from the client's allowance; false if it is used up.
    pub fn program(&self, client: Client) -> bool {
        self.exempt(client.addr) || self.programs.check_key(&self.bucket(client)).is_ok()
    }

    /// Octets that a response over UDP may have, to a question of `asked`. So no sum of them, to whichever network and in
    /// whichever second, is more than so many for one.
    pub fn room(&self, addr: IpAddr, reply: &Reply, asked: usize) -> usize {
        if reply.proven || self.exempt(addr) {
            return usize::MAX;
        }
        asked.saturating_mul(self.limits.amplification.get() as usize)
    }

    /// True if this response over UDP may leave (response rate limiting). Limited together are, to one /24 of IPv4 or
    /// /56 of IPv6: what one owner name answers, a wildcard for whatever it stands for; all that is not in one zone, or
    /// below it; all errors. And everything.
    pub fn response(&self, addr: IpAddr, reply: &Reply) -> bool {
        if reply.proven || self.exempt(addr) {
            return true;
        }
        let network = match Prefix::from(addr) {
            Prefix::V4(bits) => Prefix::V4(bits & 0xffff_ff00),
            v6 => v6,
        };
        let (of_owner, of_all) = (self.hasher.hash_one((network, said(reply))), self.hasher.hash_one(network));
        self.responses.check_key(&(of_owner as u16)).is_ok()
            && self.network_responses.check_key(&(of_all as u16)).is_ok()
    }

    /// The client's work is taken from this.
    ///
    /// # Errors
    /// [`Overdrawn`]: nothing more is done for it now.
    pub fn budget(&self, client: Client) -> Result<Budget, Overdrawn> {
        self.meter.open(client)
    }

    /// Counts octets on their way to a client while the guard lives; `None` if it, or all on this core, have more than enough
    /// that they do not take.
    pub fn keep(&self, client: Client, octets: usize) -> Option<Kept> {
        if self.exempt(client.addr) || octets == 0 {
            return Some(Kept(None));
        }
        let count = Count::new(&self.held, self.bucket(client), octets);
        (count.of_client() <= self.limits.held && count.of_core() <= HELD_PER_CORE).then_some(Kept(Some(count)))
    }

    /// [`Self::keep`], until nobody has the octets any more.
    pub fn hold(&self, client: Client, octets: Bytes) -> Option<Bytes> {
        let kept = self.keep(client, octets.len())?;
        Some(if kept.0.is_none() { octets } else { Bytes::from_owner(Held { octets, _kept: kept }) })
    }

    /// True for every second UDP query over the limit: it is answered TC, so that a real client behind a
    /// spoofed address gets through over TCP, while the rest is dropped and amplifies nothing.
    pub fn slip(&self) -> bool {
        self.slips.fetch_add(1, Relaxed) % 2 == 1
    }

    /// Counts one more connection while the guard lives; `None` if the client or the server has too many.
    pub fn connect(&self, addr: IpAddr) -> Option<ConnectionGuard> {
        let prefix = Prefix::from(addr);
        let mut connections = lock(&self.connections);
        let of_prefix = connections.by_prefix.get(&prefix).copied().unwrap_or(0);
        if connections.total >= self.limits.connections || of_prefix >= self.limits.connections_per_prefix {
            return None;
        }
        connections.total += 1;
        connections.by_prefix.insert(prefix, of_prefix + 1);
        Some(ConnectionGuard { connections: Arc::clone(&self.connections), prefix })
    }

    /// Counts one more connection over TCP while the guard lives; `None` if there is no descriptor to spare for it.
    pub fn descriptor(&self) -> Option<Descriptor> {
        let descriptor = Descriptor(Arc::clone(&self.streams));
        (self.streams.fetch_add(1, Relaxed) < self.limits.streams).then_some(descriptor)
    }

    /// More than half of all places for connections are taken.
    pub fn is_half_full(&self) -> bool {
        lock(&self.connections).total * 2 > self.limits.connections
            || self.streams.load(Relaxed) * 2 > self.limits.streams
    }

    /// More than half of all places for connections are taken, or many handshakes are under way, each of which costs a
    /// signature: clients must prove their address first.
    pub fn crowded(&self) -> bool {
        self.handshakes.load(Relaxed) >= CROWDED_HANDSHAKES
            || lock(&self.connections).total * 2 > self.limits.connections
    }

    /// Counts a QUIC handshake, under way or waiting, while the guard lives. It is charged to the client when it is complete,
    /// if its address was not proven before.
    pub fn handshake(&self, client: Client, proven: bool) -> Handshake {
        self.handshakes.fetch_add(1, Relaxed);
        let unpaid = (!proven).then(|| self.meter.budget(client));
        Handshake { under_way: Arc::clone(&self.handshakes), unpaid }
    }

    /// See [`Limits::idle`].
    pub fn idle(&self) -> Duration {
        self.limits.idle
    }

    fn exempt(&self, addr: IpAddr) -> bool {
        self.limits.exempt_loopback && addr.to_canonical().is_loopback()
    }

    /// Proven addresses have buckets of their own. So a sender with a forged address uses up nothing of theirs.
    fn bucket(&self, client: Client) -> u16 {
        const { assert!(BUCKETS == u16::MAX as usize + 1) };
        self.hasher.hash_one((Prefix::from(client.addr), client.proven().is_some())) as u16
    }
}

/// What a reply says, as far as those who would have it sent to others can vary it.
#[derive(Hash)]
enum Said<'a> {
    /// Data that stands at this owner name.
    Data(Folded<'a>),
    /// Data of a wildcard right below this name, of a DNAME at it, or made by this zone's contract.
    Synthesised(Folded<'a>),
    /// That there is nothing in this zone, or that it is elsewhere.
    Nothing(Folded<'a>),
    Error(u16),
}

/// Octets whose letter case does not count.
struct Folded<'a>(&'a [u8]);

impl Hash for Folded<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.iter().for_each(|octet| state.write_u8(octet.to_ascii_lowercase()));
    }
}

fn said(reply: &Reply) -> Said<'_> {
    let (source, whole) = reply.source();
    let source = Folded(source);
    let answers = reply.wire.get(6..8).is_some_and(|count| count != [0, 0]);
    match reply.rcode {
        Rcode::NoError if answers && whole => Said::Data(source),
        Rcode::NoError if answers => Said::Synthesised(source),
        Rcode::NoError | Rcode::NxDomain => Said::Nothing(source),
        rcode => Said::Error(rcode as u16),
    }
}

thread_local! {
    static OF_CORE: RefCell<Option<Arc<OfCore>>> = const { RefCell::new(None) };
}

/// What a thread counts by. It has one of its own, so that cores do not count their references to the same.
#[derive(Debug)]
struct OfCore {
    /// Octets that this thread began to keep. It ends that, too, but for what is left at the end.
    octets: AtomicUsize,
    buckets: Arc<[AtomicUsize]>,
}

impl OfCore {
    fn here(buckets: &Arc<[AtomicUsize]>) -> Arc<Self> {
        OF_CORE.with_borrow_mut(|here| match here {
            Some(of_core) if Arc::ptr_eq(&of_core.buckets, buckets) => Arc::clone(of_core),
            _ => {
                let of_core = Self { octets: AtomicUsize::new(0), buckets: Arc::clone(buckets) };
                Arc::clone(here.insert(Arc::new(of_core)))
            }
        })
    }
}

/// Octets, if there are any, are counted while this is there; not those of clients that are exempt.
#[derive(Debug)]
pub struct Kept(Option<Count>);

#[derive(Debug)]
struct Count {
    octets: usize,
    bucket: u16,
    core: Arc<OfCore>,
}

impl Count {
    fn new(buckets: &Arc<[AtomicUsize]>, bucket: u16, octets: usize) -> Self {
        let count = Self { octets, bucket, core: OfCore::here(buckets) };
        count.client().fetch_add(octets, Relaxed);
        count.core.octets.fetch_add(octets, Relaxed);
        count
    }

    fn client(&self) -> &AtomicUsize {
        &self.core.buckets[usize::from(self.bucket)]
    }

    fn of_client(&self) -> usize {
        self.client().load(Relaxed)
    }

    fn of_core(&self) -> usize {
        self.core.octets.load(Relaxed)
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.client().fetch_sub(self.octets, Relaxed);
        self.core.octets.fetch_sub(self.octets, Relaxed);
    }
}

/// Octets with their count.
struct Held {
    octets: Bytes,
    _kept: Kept,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

/// A handshake under way.
#[derive(Debug)]
pub struct Handshake {
    under_way: Arc<AtomicUsize>,
    unpaid: Option<Budget>,
}

impl Handshake {
    /// It is over, and the address is the client's own.
    pub fn complete(self) {
        if let Some(budget) = &self.unpaid {
            budget.charge(Cost::cpu(HANDSHAKE_CPU));
        }
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.under_way.fetch_sub(1, Relaxed);
    }
}

/// A descriptor of a connection, which is there again when this is dropped.
#[derive(Debug)]
pub struct Descriptor(Arc<AtomicUsize>);

impl Drop for Descriptor {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A counted connection; gives its place back when dropped.
#[derive(Debug)]
pub struct ConnectionGuard {
    connections: Arc<Mutex<Connections>>,
    prefix: Prefix,
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

/// Nothing panics while the lock is held, and the counts are plain numbers: a poisoned lock is still right.
fn lock(connections: &Mutex<Connections>) -> MutexGuard<'_, Connections> {
    connections.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Builder, Query, Rrset, Rtype, Section, Shape, Transport};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn quic(addr: &str) -> Client {
        Client::new(Transport::Quic, ip(addr))
    }

    fn tight() -> Limits {
        let one = NonZeroU32::MIN;
        Limits {
            queries_per_second: one,
            burst: NonZeroU32::new(2).unwrap(),
            rpc_per_second: one,
            rpc_burst: one,
            programs_per_second: one,
            program_burst: one,
            responses_per_second: NonZeroU32::new(2).unwrap(),
            network_responses_per_second: NonZeroU32::new(100).unwrap(),
            amplification: NonZeroU32::new(3).unwrap(),
            cpu_ms_per_second: NonZeroU32::new(100).unwrap(),
            held: 1_000,
            exempt_loopback: true,
            connections: 3,
            connections_per_prefix: 2,
            streams: 2,
            idle: IDLE_TIMEOUT,
        }
    }

    #[test]
    fn a_client_is_a_prefix() {
        assert_eq!(Prefix::from(ip("2001:db8:1:1ff::1")), Prefix::from(ip("2001:db8:1:100::")));
        assert_ne!(Prefix::from(ip("2001:db8:1:200::1")), Prefix::from(ip("2001:db8:1:100::")));
        assert_ne!(Prefix::from(ip("192.0.2.1")), Prefix::from(ip("192.0.2.2")));
        assert_eq!(Prefix::from(ip("::ffff:192.0.2.1")), Prefix::from(ip("192.0.2.1")));
    }

    #[test]
    fn queries_and_calls_have_their_own_allowances() {
        let admission = Admission::new(tight());
        let client = quic("192.0.2.1");
        // Datagrams that say they come from there, and what comes before an address is proven, are counted apart.
        for client in [Client::new(Transport::Udp, client.addr), client] {
            let admitted: Vec<_> = (0..3).map(|_| admission.query(client)).collect();
            assert_eq!(admitted, [true, true, false]);
        }
        assert!(!admission.query(client.unproven()));
        assert!(admission.rpc(client));
        assert!(!admission.rpc(client));
        assert!((0..100).all(|_| admission.query(quic("::1"))));
    }

    /// A reply about `name`; the owner that answers has so many labels of it, all if left out.
    fn reply(name: &str, rcode: Rcode, labels: Option<u8>) -> Reply {
        let name = crate::wire::Name::from_user(name).unwrap();
        let query = Query::internal(name.clone(), Rtype::A);
        let mut builder = Builder::new(&query);
        if rcode == Rcode::NoError {
            builder.push(Section::Answer, &Rrset::new(name, Rtype::A, 300, [vec![192, 0, 2, 1]]), 300);
        }
        let reply = builder.finish(rcode, true, None).reply(&query, Shape::Datagram, 0);
        Reply { source: labels.unwrap_or(reply.source), ..reply }
    }

    #[test]
    fn the_same_owner_to_one_network_is_limited() {
        let admission = Admission::new(tight());
        let allowed = |reply: &Reply, from| (0..4).filter(|_| admission.response(ip(from), reply)).count();
        let answer = |name: &str, labels| reply(name, Rcode::NoError, labels);
        assert_eq!(allowed(&answer("a.ghost", None), "192.0.2.1"), 2);
        assert_eq!(allowed(&answer("A.ghost", None), "192.0.2.99"), 0);
        assert_eq!(allowed(&answer("b.ghost", None), "192.0.2.1"), 2);
        assert_eq!(allowed(&answer("a.ghost", None), "192.0.3.1"), 2);
        assert_eq!(allowed(&Reply { proven: true, ..answer("a.ghost", None) }, "192.0.2.1"), 4);
        // A wildcard, whatever it stands for; it is not what is at its parent.
        assert_eq!(allowed(&answer("x.w.ghost", Some(2)), "192.0.2.1"), 2);
        assert_eq!(allowed(&answer("y.z.w.ghost", Some(2)), "192.0.2.1"), 0);
        assert_eq!(allowed(&answer("w.ghost", None), "192.0.2.1"), 2);
        let nothing = |name: &str, labels| reply(name, Rcode::NxDomain, Some(labels));
        assert_eq!(allowed(&nothing("x.ghost", 1), "192.0.2.1"), 2);
        assert_eq!(allowed(&nothing("y.z.ghost", 1), "192.0.2.1"), 0);
        assert_eq!(allowed(&nothing("y.z.ghost", 2), "192.0.2.1"), 2);
        assert_eq!(allowed(&nothing("y.sig", 1), "192.0.2.1"), 2);
        assert_eq!(allowed(&reply("e.ghost", Rcode::Refused, None), "192.0.2.1"), 2);
        assert_eq!(allowed(&reply("f.sig", Rcode::Refused, None), "192.0.2.1"), 0);
    }

    #[test]
    fn all_owners_together_are_limited_to_one_network() {
        let admission = Admission::new(Limits { network_responses_per_second: NonZeroU32::new(3).unwrap(), ..tight() });
        let allowed = |from: &str| {
            (0..9)
                .filter(|n| admission.response(ip(from), &reply(&format!("n{n}.ghost"), Rcode::NoError, None)))
                .count()
        };
        assert_eq!((allowed("192.0.2.1"), allowed("192.0.2.200"), allowed("192.0.3.1")), (3, 0, 3));
    }

    #[test]
    fn an_address_that_nothing_proves_has_room_for_few_octets() {
        let admission = Admission::new(tight());
        let reply = reply("a.ghost", Rcode::NoError, None);
        assert_eq!(admission.room(ip("192.0.2.1"), &reply, 40), 120);
        assert_eq!(admission.room(ip("::1"), &reply, 40), usize::MAX);
        assert_eq!(admission.room(ip("192.0.2.1"), &Reply { proven: true, ..reply }, 40), usize::MAX);
    }

    #[test]
    fn octets_are_counted_until_nobody_keeps_them() {
        let admission = Admission::new(tight());
        let hold = |addr| admission.hold(quic(addr), Bytes::from(vec![7; 500]));
        let (first, second) = (hold("192.0.2.1").unwrap(), hold("192.0.2.1").unwrap());
        assert_eq!((&first[..], hold("192.0.2.1")), (&[7; 500][..], None));
        assert!(hold("192.0.2.2").is_some() && hold("::1").is_some());
        assert!(admission.hold(quic("192.0.2.1"), Bytes::new()).is_some());
        let part = first.slice(1..2);
        drop(first);
        assert_eq!(hold("192.0.2.1"), None);
        drop(part);
        assert!(hold("192.0.2.1").is_some());
        drop(second);
        assert!(admission.held.iter().all(|held| held.load(Relaxed) == 0));
        assert_eq!(OfCore::here(&admission.held).octets.load(Relaxed), 0);
    }

    #[test]
    fn every_second_limited_datagram_slips_through() {
        let admission = Admission::new(tight());
        let slips: Vec<_> = (0..4).map(|_| admission.slip()).collect();
        assert_eq!(slips, [false, true, false, true]);
    }

    #[test]
    fn descriptors_are_counted_while_they_are_there() {
        let admission = Admission::new(tight());
        let first = admission.descriptor().unwrap();
        assert!(!admission.is_half_full());
        let _second = admission.descriptor().unwrap();
        assert!(admission.is_half_full() && (0..9).all(|_| admission.descriptor().is_none()));
        drop(first);
        assert!(admission.descriptor().is_some());
    }

    #[test]
    fn connections_are_counted_while_they_live() {
        let admission = Admission::new(tight());
        let first = admission.connect(ip("192.0.2.1")).unwrap();
        assert!(!admission.crowded());
        let client = quic("192.0.2.1");
        let handshakes: Vec<_> = (0..CROWDED_HANDSHAKES).map(|_| admission.handshake(client, false)).collect();
        assert!(admission.crowded());
        drop(handshakes);
        assert!(!admission.crowded());
        let second = admission.connect(ip("192.0.2.1")).unwrap();
        assert!(admission.crowded());
        assert!(admission.connect(ip("192.0.2.1")).is_none());
        let _third = admission.connect(ip("192.0.2.2")).unwrap();
        assert!(admission.connect(ip("192.0.2.3")).is_none());
        drop((first, second));
        assert_eq!(lock(&admission.connections).by_prefix.len(), 1);
        assert!(admission.connect(ip("192.0.2.3")).is_some());
    }
}
