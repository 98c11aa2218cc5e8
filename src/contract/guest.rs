//! What a running guest can reach: the registry and its context through [`Reads`], and memory up to its limit.

use std::sync::Arc;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use sha2::{Digest as _, Sha256, Sha512};
use wasmtime::component::{Linker, LinkerInstance};
use wasmtime::{
    AsContext as _, AsContextMut as _, Error, ResourceLimiter, Result, StoreContextMut, Trap, UpdateDeadline,
};

use super::bindings::ghostplane::contract::{context, types};
use super::fuel::Prices;
use super::{PACKAGE, ReadFault, Reads, VERSION, failure, rdata};
use crate::dnssec::{ALGORITHM_ED25519, ALGORITHM_P256, PublicKey};
use crate::limits::{
    CONTRACT_CALLS, CONTRACT_CPU, CONTRACT_LOG_LINES, CONTRACT_LOOKUPS, CONTRACT_MEMORY, CONTRACT_SCOPE_V4,
    CONTRACT_SCOPE_V6, CONTRACT_TABLE,
};
use crate::op::SigilId;
use crate::wire::{Name, NameError, Resolution, Rrset, Rtype, Scope};

/// Store data of one execution.
pub(super) struct Guest {
    pub reads: Box<dyn Reads>,
    /// Every RRset looked up; a handle is an index.
    pub handles: Vec<Arc<Rrset>>,
    pub lookups: usize,
    /// Largest linear memory, octets.
    pub memory: usize,
    /// Messages for the contract's author.
    pub log: Vec<String>,
    /// If the time was read: until when the outcome is promised to be the same; 0 without a promise.
    pub until: Option<u64>,
    /// Fuel of growth, to be taken with the next call of the host or at the end: nothing can be taken where memory grows.
    pub debt: u64,
    pub prices: &'static Prices,
    has_memory: bool,
    calls: usize,
    /// Processor time of the thread when the execution was first found to be late.
    late_since: Option<Duration>,
}

const PAGE: usize = 64 * 1024;

/// Why the host ended an execution.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    #[error("out of memory")]
    Memory,
    #[error("more than {CONTRACT_LOOKUPS} look-ups")]
    Lookups,
    #[error("more than {CONTRACT_CALLS} host calls")]
    Calls,
    #[error("read of unknown handle {0}")]
    Handle(u32),
    #[error("look-up of an illegal name: {0}")]
    Name(#[from] NameError),
    #[error(transparent)]
    Fault(#[from] ReadFault),
    #[error("{0}")]
    Machine(String),
}

impl Guest {
    pub fn new(reads: Box<dyn Reads>, prices: &'static Prices) -> Self {
        let (handles, log) = (Vec::new(), Vec::new());
        Self {
            reads,
            handles,
            lookups: 0,
            memory: 0,
            log,
            until: None,
            debt: 0,
            prices,
            has_memory: false,
            calls: 0,
            late_since: None,
        }
    }

    /// Ends an execution that has had more processor time than its fuel can take. One that waits for a processor, or for the
    /// registry, goes on.
    pub fn is_late(&mut self) -> UpdateDeadline {
        // Every Linux has this clock; without it, fuel alone bounds an execution.
        let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from);
        let since = *self.late_since.get_or_insert(now);
        let had = now.saturating_sub(since);
        if had > CONTRACT_CPU { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) }
    }

    fn look_up(&mut self, name: &[u8], rtype: Rtype) -> Result<Resolution, Denied> {
        if self.lookups == CONTRACT_LOOKUPS {
            return Err(Denied::Lookups);
        }
        self.lookups += 1;
        Ok(self.reads.lookup(&Name::from_wire(name)?, rtype)?)
    }

    fn lend(&mut self, rrsets: Vec<Arc<Rrset>>) -> Vec<u32> {
        // At most `CONTRACT_LOOKUPS` look-ups of a few RRsets each.
        let first = self.handles.len() as u32;
        self.handles.extend(rrsets);
        (first..self.handles.len() as u32).collect()
    }

    fn lent(&self, handle: u32) -> Result<types::Rrset, Denied> {
        let rrset = self.handles.get(handle as usize).ok_or(Denied::Handle(handle))?;
        Ok(types::Rrset {
            owner: rrset.owner.as_wire().to_vec(),
            rr_type: rrset.rtype.0,
            ttl: rrset.ttl,
            rdata: rrset.rdata.iter().map(|data| rdata::from_wire(rrset.rtype, data)).collect(),
        })
    }

    fn found(&mut self, found: Resolution) -> types::Found {
        match found {
            Resolution::Records(rrsets) => types::Found::Records(self.lend(rrsets)),
            Resolution::Alias(rrsets) => types::Found::Alias(self.lend(rrsets)),
            Resolution::Delegation(rrsets) => types::Found::Delegation(self.lend(rrsets)),
            Resolution::NoData => types::Found::NoData,
            Resolution::NxDomain => types::Found::NxDomain,
        }
    }
}

type Store<'a> = StoreContextMut<'a, Guest>;

/// Takes `fuel` for a call, and counts it.
fn charge(store: &mut Store<'_>, fuel: u64) -> Result<()> {
    let guest = store.data_mut();
    guest.calls += 1;
    if guest.calls > CONTRACT_CALLS {
        return Err(Error::new(Denied::Calls));
    }
    let debt = std::mem::take(&mut guest.debt);
    let call = guest.prices.call;
    take(store, call + fuel + debt)
}

fn take(store: &mut Store<'_>, fuel: u64) -> Result<()> {
    let left = store.as_context().get_fuel()?;
    let after = left.checked_sub(fuel);
    store.as_context_mut().set_fuel(after.unwrap_or(0))?;
    if after.is_some() { Ok(()) } else { Err(Error::new(Trap::OutOfFuel)) }
}

/// Takes fuel for what a call gives back, before it is copied into the guest.
fn give<T>(store: &mut Store<'_>, octets: usize, given: T) -> Result<(T,)> {
    let octet = store.data().prices.octet;
    take(store, octet * octets as u64)?;
    Ok((given,))
}

fn octets(rrset: &Rrset) -> usize {
    rrset.rdata.iter().map(|data| data.len()).sum()
}

/// Defines everything that the worlds import.
pub(super) fn link(linker: &mut Linker<Guest>) -> Result<()> {
    let interface = |name: &str| format!("{PACKAGE}{name}@{VERSION}");
    // Types alone; a component imports the interface all the same.
    linker.instance(&interface("types"))?;
    linker.instance(&interface("writes"))?;
    link_registry(&mut linker.instance(&interface("registry"))?)?;
    link_context(&mut linker.instance(&interface("context"))?)?;
    link_crypto(&mut linker.instance(&interface("crypto"))?)?;
    linker.instance(&interface("debug"))?.func_wrap("log", |mut store: Store<'_>, (message,): (String,)| {
        charge(&mut store, message.len() as u64)?;
        let log = &mut store.data_mut().log;
        if log.len() < CONTRACT_LOG_LINES {
            log.push(failure::log_line(&message));
        }
        Ok(())
    })
}

fn link_registry(registry: &mut LinkerInstance<'_, Guest>) -> Result<()> {
    registry.func_wrap("lookup", |mut store: Store<'_>, (name, rr_type): (Vec<u8>, u16)| {
        let price = store.data().prices.lookup;
        charge(&mut store, price)?;
        let guest = store.data_mut();
        let found = guest.look_up(&name, Rtype(rr_type)).map_err(Error::new)?;
        Ok((guest.found(found),))
    })?;
    registry.func_wrap("read", |mut store: Store<'_>, (handle,): (u32,)| {
        let guest = store.data();
        let records = guest.handles.get(handle as usize).map_or(0, |rrset| rrset.rdata.len());
        let price = guest.prices.record * records as u64;
        charge(&mut store, price)?;
        let rrset = store.data().lent(handle).map_err(Error::new)?;
        let length = octets(&store.data().handles[handle as usize]);
        give(&mut store, length, rrset)
    })?;
    registry.func_wrap("zone", |mut store: Store<'_>, (): ()| {
        charge(&mut store, 0)?;
        let zone = store.data_mut().reads.zone().as_wire().to_vec();
        give(&mut store, zone.len(), zone)
    })?;
    registry.func_wrap("owner-key", |mut store: Store<'_>, (): ()| {
        charge(&mut store, 32)?;
        Ok((store.data_mut().reads.owner_key().map_or_else(Vec::new, |key| key.to_vec()),))
    })?;
    registry.func_wrap("owner-did", |mut store: Store<'_>, (): ()| {
        // Writing a key in base58 takes its time.
        charge(&mut store, 2_000)?;
        Ok((store.data_mut().reads.owner_key().map_or_else(String::new, |key| SigilId(key).to_string()),))
    })?;
    registry.func_wrap("bound-contract", |mut store: Store<'_>, (): ()| {
        charge(&mut store, 32)?;
        Ok((store.data_mut().reads.bound_contract().map_or_else(Vec::new, |hash| hash.to_vec()),))
    })?;
    registry.func_wrap("bound-worlds", |mut store: Store<'_>, (): ()| {
        let price = store.data().prices.lookup;
        charge(&mut store, price)?;
        let worlds = store.data_mut().reads.bound_worlds().map_err(|fault| Error::new(Denied::from(fault)))?;
        Ok((worlds.names().collect::<Vec<String>>(),))
    })?;
    registry.func_wrap("parameters", |mut store: Store<'_>, (): ()| {
        charge(&mut store, 0)?;
        let parameters = store.data_mut().reads.parameters();
        give(&mut store, parameters.len(), parameters)
    })
}

fn link_context(context: &mut LinkerInstance<'_, Guest>) -> Result<()> {
    context.func_wrap("now", |mut store: Store<'_>, (): ()| {
        charge(&mut store, 0)?;
        let guest = store.data_mut();
        guest.until.get_or_insert(0);
        Ok((guest.reads.now(),))
    })?;
    context.func_wrap("valid-until", |mut store: Store<'_>, (time,): (u64,)| {
        charge(&mut store, 0)?;
        let until = &mut store.data_mut().until;
        // 0 is no promise yet.
        *until = Some(until.filter(|until| *until > 0).map_or(time, |until| until.min(time)));
        Ok(())
    })?;
    context.func_wrap("client-subnet", |mut store: Store<'_>, (v4, v6): (u8, u8)| {
        charge(&mut store, 0)?;
        let scope = Scope { v4: v4.min(CONTRACT_SCOPE_V4), v6: v6.min(CONTRACT_SCOPE_V6) };
        let subnet = store.data_mut().reads.client_subnet(scope);
        Ok((subnet.map(|subnet| address(subnet.addr())),))
    })
}

fn address(addr: std::net::IpAddr) -> context::Address {
    match addr {
        std::net::IpAddr::V4(addr) => context::Address::V4(addr.octets().into()),
        std::net::IpAddr::V6(addr) => context::Address::V6(addr.segments().into()),
    }
}

type Signed = (Vec<u8>, Vec<u8>, Vec<u8>);

fn link_crypto(crypto: &mut LinkerInstance<'_, Guest>) -> Result<()> {
    crypto.func_wrap("sha256", |mut store: Store<'_>, (data,): (Vec<u8>,)| {
        let price = store.data().prices.sha;
        charge(&mut store, price * (data.len() as u64 + 64))?;
        Ok((Sha256::digest(&data).to_vec(),))
    })?;
    crypto.func_wrap("sha512", |mut store: Store<'_>, (data,): (Vec<u8>,)| {
        let price = store.data().prices.sha;
        charge(&mut store, price * (data.len() as u64 + 128))?;
        Ok((Sha512::digest(&data).to_vec(),))
    })?;
    crypto.func_wrap("ed25519-verify", |mut store: Store<'_>, (key, message, signature): Signed| {
        let prices = store.data().prices;
        charge(&mut store, prices.ed25519 + prices.sha * message.len() as u64)?;
        Ok((PublicKey::verifies(ALGORITHM_ED25519, &key, &message, &signature),))
    })?;
    crypto.func_wrap("p256-verify", |mut store: Store<'_>, (key, message, signature): Signed| {
        let prices = store.data().prices;
        charge(&mut store, prices.p256 + prices.sha * message.len() as u64)?;
        Ok((PublicKey::verifies(ALGORITHM_P256, &key, &message, &signature),))
    })
}

/// A guest that wants too much ends at once: told "no", most would trap a little later with less to say.
impl ResourceLimiter for Guest {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        if desired > CONTRACT_MEMORY {
            return Err(Error::new(Denied::Memory));
        }
        let may = maximum.is_none_or(|maximum| desired <= maximum);
        if may {
            self.memory = self.memory.max(desired);
            // The price of an instance covers its first memory.
            let grows = std::mem::replace(&mut self.has_memory, true);
            let pages = if grows { (desired - current) / PAGE } else { 0 };
            self.debt += self.prices.page * pages as u64;
        }
        Ok(may)
    }

    fn memory_grow_failed(&mut self, error: Error) -> Result<()> {
        if failure::is_of_system(&error) { Err(Error::new(Denied::Machine(format!("{error:#}")))) } else { Ok(()) }
    }

    fn table_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        if desired > CONTRACT_TABLE {
            return Err(Error::new(Denied::Memory));
        }
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn table_grow_failed(&mut self, error: Error) -> Result<()> {
        self.memory_grow_failed(error)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Schedule;
    use super::super::selftest::Nothing;
    use super::*;

    fn guest() -> Guest {
        Guest::new(Box::new(Nothing), Schedule::Second.prices())
    }

    fn thread_time() -> Duration {
        clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
    }

    #[test]
    fn only_time_on_a_processor_makes_an_execution_late() {
        let mut guest = guest();
        let goes_on = |guest: &mut Guest| matches!(guest.is_late(), UpdateDeadline::Continue(1));
        // However often it is asked: no time of this thread's passes.
        assert!((0..1_000).all(|_| goes_on(&mut guest)));
        guest.late_since = Some(thread_time().saturating_sub(CONTRACT_CPU));
        while goes_on(&mut guest) {
            std::hint::spin_loop();
        }
        assert!(matches!(guest.is_late(), UpdateDeadline::Interrupt));
    }

    #[test]
    fn each_page_that_is_added_is_owed_for() {
        let mut guest = guest();
        let page = Schedule::Second.prices().page;
        let mut grow = |from: usize, to: usize| {
            let may = guest.memory_growing(from * PAGE, to * PAGE, Some(30 * PAGE)).ok();
            (may, guest.debt / page)
        };
        // The memory that an instance begins with, even if it is none.
        assert_eq!(grow(0, 0), (Some(true), 0));
        assert_eq!(grow(0, 3), (Some(true), 3));
        assert_eq!(grow(3, 4), (Some(true), 4));
        assert_eq!(grow(4, 31), (Some(false), 4));
        assert_eq!(grow(4, 33), (None, 4));
    }
}
