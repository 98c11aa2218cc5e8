//! Work is taken from a budget before it is done.
//!
//! ```text
//! open ── overdrawn: refused at the door
//!   └ Budget ── spend, advance: an estimate is taken, the work is done, what it took is settled
//!            ├─ stint: a long job charges what it took between its steps, and ends when the budget is overdrawn
//!            └─ charge: what is over already
//! ```
//! A budget draws on several accounts at once: of the client's prefix; of the networks around it, with wider allowances, for
//! many prefixes may be one client's; and of an identity that has proven itself. An account is one atomic number in a table
//! of [`ACCOUNTS`], found by a keyed hash: nothing is ever evicted, so no flood of prefixes makes an overdrawn account fresh.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::gateway::{Client, Prefix};
use crate::limits::{CPU_AHEAD, NANOS_PER_LASTING_OCTET, NANOS_PER_OCTET};
use crate::op::{Identity, Rejection};
use crate::processors::thread_time;
use crate::stopwatch::nanos;

/// Accounts of each kind.
pub const ACCOUNTS: usize = 1 << 16;

/// Kinds of accounts, each with a table of its own.
const PREFIX: usize = 0;
const NETWORK: usize = 1;
const PROVIDER: usize = 2;
const IDENTITY: usize = 3;
const KINDS: usize = 4;

/// Cost of a piece of work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Time of a processor.
    pub cpu: Duration,
    /// Octets that are read, written, encrypted.
    pub octets: usize,
    /// Octets that stay in memory or on disk afterwards.
    pub lasting: usize,
}

impl Cost {
    pub fn cpu(cpu: Duration) -> Self {
        Self { cpu, ..Self::default() }
    }

    pub fn octets(octets: usize) -> Self {
        Self { octets, ..Self::default() }
    }

    /// All of it, in time of a processor.
    fn time(self) -> Duration {
        let priced = |octets: usize, price: u64| Duration::from_nanos((octets as u64).saturating_mul(price));
        let octets = priced(self.octets, NANOS_PER_OCTET);
        self.cpu.saturating_add(octets).saturating_add(priced(self.lasting, NANOS_PER_LASTING_OCTET))
    }
}

/// So much was done that nothing more is done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much work has been done for your network of late; ask again in {seconds} s")]
pub struct Overdrawn {
    /// After which there is more, if nothing else is asked for.
    pub seconds: u64,
}

impl From<Overdrawn> for Rejection {
    fn from(Overdrawn { seconds }: Overdrawn) -> Self {
        Self::Overdrawn { seconds }
    }
}

/// Accounts of the work done for each client. One for the process.
#[derive(Debug)]
pub struct WorkMeter {
    /// Milliseconds of work a second that one prefix may have done.
    ms_per_second: u64,
    spares_loopback: bool,
    hasher: RandomState,
    begin: Instant,
    /// Nanoseconds after the beginning at which all that was taken is made up for, by kind and account.
    even_at: [Box<[AtomicU64]>; KINDS],
}

impl WorkMeter {
    /// With so many milliseconds of work a second for each client prefix.
    pub fn new(ms_per_second: NonZeroU32) -> Self {
        let table = || (0..ACCOUNTS).map(|_| AtomicU64::new(0)).collect();
        Self {
            ms_per_second: ms_per_second.get().into(),
            spares_loopback: false,
            hasher: RandomState::new(),
            begin: Instant::now(),
            even_at: [table(), table(), table(), table()],
        }
    }

    /// Charges nothing to loopback addresses, if so wished.
    #[must_use]
    pub fn sparing_loopback(self, spares_loopback: bool) -> Self {
        Self { spares_loopback, ..self }
    }

    /// The budget of a client.
    ///
    /// # Errors
    /// [`Overdrawn`]
    pub fn open(self: &Arc<Self>, client: Client) -> Result<Budget, Overdrawn> {
        let budget = self.budget(client);
        budget.check().map(|()| budget)
    }

    /// The same, even if it is overdrawn.
    pub fn budget(self: &Arc<Self>, client: Client) -> Budget {
        if self.spares_loopback && client.addr.to_canonical().is_loopback() {
            return Budget::unlimited();
        }
        // Proven addresses have accounts of their own. So a sender with a forged address takes nothing of theirs.
        let proven = client.proven().is_some();
        let account = |(network, factor)| Account { at: self.find((network, proven)), factor };
        let accounts = networks(client.addr.into()).map(|network| network.map(account));
        Budget(Some(Drawn { meter: Arc::clone(self), accounts }))
    }

    fn find(&self, whose: impl Hash) -> u16 {
        const { assert!(ACCOUNTS == u16::MAX as usize + 1) };
        self.hasher.hash_one(whose) as u16
    }

    fn since_begin(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.begin))
    }

    /// Nanoseconds until this is made up for.
    fn wait(&self, time: Duration, factor: u8) -> u64 {
        nanos(time).saturating_mul(1_000) / (self.ms_per_second * u64::from(factor))
    }
}

/// A client's prefix and the networks that it is in, by kind, each with the allowances of one prefix that it has.
fn networks(prefix: Prefix) -> [Option<(Prefix, u8)>; KINDS] {
    let mut networks = [None; KINDS];
    networks[PREFIX] = Some((prefix, 1));
    match prefix {
        Prefix::V4(bits) => networks[NETWORK] = Some((Prefix::V4(bits >> 8), 4)),
        Prefix::V6(bits) => {
            networks[NETWORK] = Some((Prefix::V6(bits >> 8), 2));
            networks[PROVIDER] = Some((Prefix::V6(bits >> 24), 4));
        }
    }
    networks
}

/// The accounts that work is charged to. It has no limit for clients that are spared, and for the server's own work.
#[derive(Debug, Clone)]
pub struct Budget(Option<Drawn>);

#[derive(Debug, Clone)]
struct Drawn {
    meter: Arc<WorkMeter>,
    accounts: [Option<Account>; KINDS],
}

#[derive(Debug, Clone, Copy)]
struct Account {
    at: u16,
    /// Allowances of one prefix that it has.
    factor: u8,
}

impl Budget {
    pub fn unlimited() -> Self {
        Self(None)
    }

    /// The same, drawn on the account of an identity, too. Its signature must have been verified: else anybody could spend
    /// what another has.
    #[must_use]
    pub fn with(mut self, identity: &Identity) -> Self {
        if let Some(Drawn { meter, accounts }) = &mut self.0 {
            accounts[IDENTITY] = Some(Account { at: meter.find(identity), factor: 1 });
        }
        self
    }

    /// Whether anything may be done now.
    ///
    /// # Errors
    /// [`Overdrawn`]
    pub fn check(&self) -> Result<(), Overdrawn> {
        self.0.as_ref().map_or(Ok(()), |drawn| drawn.check(drawn.meter.since_begin(Instant::now())))
    }

    /// Charges what has been done.
    pub fn charge(&self, cost: Cost) {
        if let Some(drawn) = &self.0 {
            drawn.charge(cost.time(), drawn.meter.since_begin(Instant::now()));
        }
    }

    /// Takes what work is estimated to cost, before it is done.
    ///
    /// # Errors
    /// [`Overdrawn`]; nothing is taken then.
    pub fn advance(&self, estimate: Cost) -> Result<Advance, Overdrawn> {
        let time = estimate.time();
        if let Some(drawn) = &self.0 {
            drawn.take(time, drawn.meter.since_begin(Instant::now()))?;
        }
        Ok(Advance { budget: self.clone(), taken: time })
    }

    /// Does work on this thread. The estimate is taken before, and the time that it took in its place afterwards.
    ///
    /// # Errors
    /// [`Overdrawn`]; nothing is done then.
    pub fn spend<T>(&self, estimate: Cost, work: impl FnOnce() -> T) -> Result<T, Overdrawn> {
        let advance = self.advance(estimate)?;
        let began = thread_time();
        let done = work();
        advance.settle(Cost { cpu: thread_time().saturating_sub(began), ..estimate });
        Ok(done)
    }

    /// Begins a long job on this thread.
    pub fn stint(&self) -> Stint<'_> {
        Stint { budget: self, charged_to: thread_time(), here: PhantomData }
    }
}

impl Drawn {
    fn accounts(&self) -> impl Iterator<Item = (&AtomicU64, u8)> {
        let tables = self.meter.even_at.iter().zip(self.accounts);
        tables.filter_map(|(table, account)| account.map(|Account { at, factor }| (&table[usize::from(at)], factor)))
    }

    fn check(&self, now: u64) -> Result<(), Overdrawn> {
        let most = now.saturating_add(nanos(CPU_AHEAD));
        let latest = self.accounts().map(|(even_at, _)| even_at.load(Relaxed)).max().unwrap_or(0);
        if latest <= most { Ok(()) } else { Err(Overdrawn::until(latest - most)) }
    }

    fn charge(&self, time: Duration, now: u64) {
        for (even_at, factor) in self.accounts() {
            let wait = self.meter.wait(time, factor);
            let later = |even_at: u64| Some(even_at.max(now).saturating_add(wait));
            // Never `None`, so it never fails.
            let _ = even_at.fetch_update(Relaxed, Relaxed, later);
        }
    }

    /// Charges all accounts, or none. Work that takes longer than an account may be ahead needs an even account.
    fn take(&self, time: Duration, now: u64) -> Result<(), Overdrawn> {
        let ahead = nanos(CPU_AHEAD);
        for (taken, (even_at, factor)) in self.accounts().enumerate() {
            let wait = self.meter.wait(time, factor);
            let later = |even_at: u64| {
                let from = even_at.max(now);
                (from + wait.min(ahead) <= now.saturating_add(ahead)).then(|| from.saturating_add(wait))
            };
            if let Err(even_at) = even_at.fetch_update(Relaxed, Relaxed, later) {
                self.accounts().take(taken).for_each(|(before, factor)| self.give_back(before, time, factor));
                return Err(Overdrawn::until((even_at + wait.min(ahead)).saturating_sub(now + ahead)));
            }
        }
        Ok(())
    }

    fn give_back(&self, even_at: &AtomicU64, time: Duration, factor: u8) {
        let wait = self.meter.wait(time, factor);
        // Never `None`, so it never fails.
        let _ = even_at.fetch_update(Relaxed, Relaxed, |even_at| Some(even_at.saturating_sub(wait)));
    }
}

impl Overdrawn {
    fn until(wait: u64) -> Self {
        Self { seconds: wait.div_ceil(1_000_000_000).max(1) }
    }
}

/// An amount taken for work that is under way. Dropped, it stays taken.
#[derive(Debug)]
pub struct Advance {
    budget: Budget,
    taken: Duration,
}

impl Advance {
    /// Charges what the work took in place of what was taken for it.
    pub fn settle(self, took: Cost) {
        let Some(drawn) = &self.budget.0 else { return };
        let took = took.time();
        if took >= self.taken {
            drawn.charge(took - self.taken, drawn.meter.since_begin(Instant::now()));
        } else {
            let over = self.taken - took;
            drawn.accounts().for_each(|(even_at, factor)| drawn.give_back(even_at, over, factor));
        }
    }
}

/// A long job on one thread. Its time is charged between its steps, and when it ends.
#[derive(Debug)]
pub struct Stint<'a> {
    budget: &'a Budget,
    /// Of the thread's time.
    charged_to: Duration,
    /// Its time is that of the thread.
    here: PhantomData<*const ()>,
}

impl Stint<'_> {
    /// Charges what was done since the last step.
    ///
    /// # Errors
    /// [`Overdrawn`]: end here.
    pub fn step(&mut self) -> Result<(), Overdrawn> {
        self.charge();
        self.budget.check()
    }

    fn charge(&mut self) {
        let now = thread_time();
        self.budget.charge(Cost::cpu(now.saturating_sub(self.charged_to)));
        self.charged_to = now;
    }
}

impl Drop for Stint<'_> {
    fn drop(&mut self) {
        self.charge();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::SigilId;
    use crate::wire::Transport;

    const SECOND: u64 = 1_000_000_000;

    /// A tenth of a second each second: what is taken at once is a tenth of [`CPU_AHEAD`].
    fn meter() -> Arc<WorkMeter> {
        Arc::new(WorkMeter::new(const { NonZeroU32::new(100).unwrap() }))
    }

    fn client(addr: &str) -> Client {
        Client::new(Transport::Quic, addr.parse().unwrap())
    }

    fn drawn(meter: &Arc<WorkMeter>, addr: &str) -> Drawn {
        meter.budget(client(addr)).0.unwrap()
    }

    const MOST: Duration = Duration::from_millis(CPU_AHEAD.as_millis() as u64 / 10);

    #[test]
    fn a_client_has_its_share_of_work_done_and_waits_for_more() {
        let meter = meter();
        let one = drawn(&meter, "192.0.2.1");
        one.charge(MOST, 0);
        assert_eq!(one.check(0), Ok(()));
        one.charge(MOST / 2, 0);
        assert_eq!(one.check(0), Err(Overdrawn { seconds: 1 }));
        assert_eq!(drawn(&meter, "192.0.2.2").check(0), Ok(()));
        assert_eq!(one.check(SECOND), Ok(()));
        // Datagrams that say they come from there.
        let datagram = Client::new(Transport::Udp, "192.0.2.1".parse().unwrap());
        assert_eq!(meter.budget(datagram).0.unwrap().check(0), Ok(()));
    }

    #[test]
    fn what_is_taken_before_is_settled_after() {
        let meter = meter();
        let budget = meter.budget(client("192.0.2.1"));
        let even_at = || {
            let drawn = budget.0.as_ref().unwrap();
            drawn.accounts().map(|(even_at, _)| even_at.load(Relaxed)).collect::<Vec<_>>()
        };
        let advance = budget.advance(Cost::cpu(MOST)).unwrap();
        // A request at the same time is refused before anything is done.
        assert!(budget.advance(Cost::cpu(MOST)).is_err());
        let taken = even_at();
        advance.settle(Cost::cpu(MOST / 2));
        let settled = even_at();
        // The prefix waits ten times as long, its network a quarter of that.
        assert_eq!(taken[0] - settled[0], 10 * nanos(MOST / 2));
        assert_eq!(taken[1] - settled[1], 10 * nanos(MOST / 2) / 4);
        assert!(budget.advance(Cost::cpu(MOST / 4)).is_ok());
        // Octets, and what stays, have a price.
        let least = Cost { octets: 1, ..Cost::default() }.time();
        assert!(Cost { lasting: 1, ..Cost::default() }.time() > least && least > Duration::ZERO);
    }

    #[test]
    fn what_no_account_could_ever_hold_takes_an_even_one() {
        let meter = meter();
        let one = drawn(&meter, "192.0.2.1");
        assert_eq!(one.take(20 * MOST, 0), Ok(()));
        assert_eq!(one.take(MOST / 100, 0), Err(Overdrawn { seconds: 39 }));
        let other = drawn(&meter, "198.51.100.1");
        other.charge(MOST / 100, 0);
        assert!(other.take(20 * MOST, 0).is_err());
    }

    #[test]
    fn many_prefixes_of_one_network_are_one_client() {
        let meter = meter();
        for (network, factor) in [("198.51.100", 4), ("203.0.113", 4)] {
            let taken = (0..=255).filter(|host| drawn(&meter, &format!("{network}.{host}")).take(MOST, 0).is_ok());
            assert_eq!(taken.count(), factor);
        }
        // Each /56 of a /48, each /48 of a /32.
        let subscribers =
            (0..256).filter(|host| drawn(&meter, &format!("2001:db8:1:{host:x}00::")).take(MOST, 0).is_ok());
        assert_eq!(subscribers.count(), 2);
        let sites = (0..65_536).filter(|site| drawn(&meter, &format!("2001:db9:{site:x}::")).take(MOST, 0).is_ok());
        assert_eq!(sites.count(), 4);
        assert!(drawn(&meter, "2001:dba::").take(MOST, 0).is_ok());
    }

    #[test]
    fn no_flood_of_prefixes_makes_an_account_fresh() {
        let meter = meter();
        let one = drawn(&meter, "192.0.2.1");
        one.charge(2 * MOST, 0);
        for prefix in 0..200_000u32 {
            meter.budget(client(&std::net::Ipv4Addr::from_bits(prefix).to_string()));
        }
        assert!(one.check(0).is_err() && drawn(&meter, "192.0.2.1").check(0).is_err());
    }

    #[test]
    fn an_identity_has_one_account_wherever_it_comes_from() {
        let meter = meter();
        let from = |addr, seed| meter.budget(client(addr)).with(&SigilId([seed; 32]).into()).0.unwrap();
        assert_eq!(from("192.0.2.1", 1).take(MOST, 0), Ok(()));
        assert!(from("198.51.100.1", 1).take(MOST, 0).is_err());
        // The identity refused, so the prefix has paid nothing.
        assert_eq!(from("198.51.100.1", 2).take(MOST, 0), Ok(()));
    }

    #[test]
    fn a_long_job_ends_between_two_steps() {
        let meter = Arc::new(WorkMeter::new(NonZeroU32::MIN));
        let budget = meter.open(client("192.0.2.1")).unwrap();
        let mut stint = budget.stint();
        let (mut sum, mut steps) = (0u64, 0);
        while stint.step().is_ok() {
            // A thousandth of a second each second: two are used up soon.
            (0..100_000u64).for_each(|number| sum = std::hint::black_box(sum.wrapping_mul(31) + number));
            steps += 1;
        }
        assert!(steps > 0);
        drop(stint);
        assert!(meter.open(client("192.0.2.1")).is_err() && budget.spend(Cost::default(), || ()).is_err());
        assert_eq!(Budget::unlimited().spend(Cost::cpu(10 * CPU_AHEAD), || 7), Ok(7));
    }

    #[test]
    fn loopback_is_spared_if_so_wished() {
        for (spares, refused) in [(true, false), (false, true)] {
            let meter = Arc::new(WorkMeter::new(NonZeroU32::MIN).sparing_loopback(spares));
            meter.budget(client("::1")).charge(Cost::cpu(CPU_AHEAD));
            assert_eq!(meter.open(client("::1")).is_err(), refused);
        }
    }
}
