//! Fuel that owners' contracts use: counted in memory, settled as ops, so that no query waits for a write.
//!
//! ```text
//! admit: free fuel left? -> else: does the owner hold more GCC than is owed already?     no: the TLD's contract answers
//! note:  fuel of the execution, under the name and the epoch
//! take -> SettleGas op -> settled        every few seconds; what is under way counts until its op is durable
//! ```
//! Anybody may call a program; nobody may thereby take away what its name's resolution needs. So calls are counted apart,
//! and have half of the free fuel and half of the most at most. A settlement knows one sum of both.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limits::{MAX_GAS_USES, METERED_NAMES};
use crate::op::{GasPolicy, GasUse, SigilId, Symbol};
use crate::registry::{Fault, Snapshot};
use crate::state::View as _;
use crate::state::gas::GasState;
use crate::wire::Name;

/// Why a contract of an owner's is not executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutOfGas {
    #[error("out of gas: the name has used its free fuel, and its owner's account holds no GCC")]
    Unfunded,
    #[error("out of gas: the name has used the most fuel that a name may in one epoch")]
    Most,
    #[error("out of gas: calls have used the half that they may of the most fuel of one epoch")]
    MostOfCalls,
    #[error("out of gas: too many names are waiting to be settled")]
    Full,
}

/// The purpose of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Resolution,
    Call,
}

/// One settlement: when its epoch began, and what was used in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    pub epoch: u64,
    pub uses: Vec<GasUse>,
}

/// What a name's contract has used in one epoch, as its owner is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pending {
    pub fuel: u64,
    pub executions: u64,
}

/// Counts fuel by name and epoch. Bounded; shared by all workers.
#[derive(Debug, Default)]
pub struct Meter(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// Sequence and epoch that it is for.
    state: Option<(u64, u64, Arc<GasState>)>,
    uses: BTreeMap<(u64, Name), Use>,
    /// What is owed by owners for fuel that has not been settled, billionths of a GCC.
    owed: HashMap<SigilId, u64>,
}

#[derive(Debug, Clone, Copy)]
struct Use {
    owner: SigilId,
    /// Fuel of the epoch that the registry knows of.
    settled: u64,
    pending: Pending,
    /// Fuel of calls in the epoch, settled or not.
    called: u64,
    /// The cost of the pending fuel.
    owing: u64,
}

/// Fuel and gas that an execution may use.
#[derive(Debug, PartialEq, Eq)]
enum Share {
    Free,
    /// The owner's account.
    Paid,
    Spent(OutOfGas),
}

impl Use {
    fn share(&self, purpose: Purpose, policy: &GasPolicy) -> Share {
        let all = self.settled.saturating_add(self.pending.fuel);
        let resolved = all.saturating_sub(self.called);
        let (free, most) = (policy.free / 2, policy.most / 2);
        match purpose {
            Purpose::Call if self.called >= most => Share::Spent(OutOfGas::MostOfCalls),
            Purpose::Resolution if resolved < policy.free - free => Share::Free,
            _ if all >= policy.most => Share::Spent(OutOfGas::Most),
            Purpose::Call if self.called < free && all < policy.free => Share::Free,
            Purpose::Resolution if all < policy.free => Share::Free,
            _ => Share::Paid,
        }
    }
}

impl Meter {
    /// Whether a name's own contract may be executed at `now`.
    ///
    /// # Errors
    /// The registry failed; within: [`OutOfGas`].
    pub(super) fn admit(
        &self,
        name: &Name,
        owner: SigilId,
        purpose: Purpose,
        snapshot: &Snapshot,
        now: u64,
    ) -> Result<Result<(), OutOfGas>, Fault> {
        let mut counts = self.lock();
        let state = counts.state(snapshot, now)?;
        let Some(used) = counts.used(name, owner, &state, snapshot)? else { return Ok(Err(OutOfGas::Full)) };
        match used.share(purpose, &state.policy) {
            Share::Free => return Ok(Ok(())),
            Share::Spent(out) => return Ok(Err(out)),
            Share::Paid => {}
        }
        let owed = counts.owed.get(&owner).copied().unwrap_or(0);
        drop(counts);
        let funded = snapshot.balance(&owner, Symbol::GCC)?.available > owed;
        Ok(if funded { Ok(()) } else { Err(OutOfGas::Unfunded) })
    }

    /// Counts an execution that was admitted.
    ///
    /// # Errors
    /// The registry failed.
    pub(super) fn note(
        &self,
        name: &Name,
        owner: SigilId,
        (purpose, fuel): (Purpose, u64),
        snapshot: &Snapshot,
        now: u64,
    ) -> Result<(), Fault> {
        let mut counts = self.lock();
        let state = counts.state(snapshot, now)?;
        let Some(mut used) = counts.used(name, owner, &state, snapshot)? else { return Ok(()) };
        used.pending.fuel = used.pending.fuel.saturating_add(fuel);
        used.pending.executions += 1;
        if purpose == Purpose::Call {
            used.called = used.called.saturating_add(fuel);
        }
        let due = state.cost(used.settled.saturating_add(used.pending.fuel)) - state.cost(used.settled);
        let more = due.saturating_sub(used.owing);
        used.owing = used.owing.max(due);
        counts.uses.insert((state.epoch, name.clone()), used);
        let owed = counts.owed.entry(owner).or_default();
        *owed = owed.saturating_add(more);
        Ok(())
    }

    /// The oldest fuel that has not been settled. It stays counted until [`Meter::settled`].
    pub fn take(&self) -> Option<Settlement> {
        let counts = self.lock();
        let pending = |(_, used): &(&(u64, Name), &Use)| used.pending.executions > 0;
        let epoch = counts.uses.iter().find(pending)?.0.0;
        let of_epoch = counts.uses.range((epoch, Name::root())..).take_while(|((of, _), _)| *of == epoch);
        let uses = of_epoch.filter(pending).take(MAX_GAS_USES).map(|((_, name), used)| {
            let Pending { fuel, executions } = used.pending;
            GasUse { name: name.clone(), fuel, executions }
        });
        Some(Settlement { epoch, uses: uses.collect() })
    }

    /// Notes that a settlement is durable.
    pub fn settled(&self, settlement: &Settlement) {
        let mut counts = self.lock();
        for gas in &settlement.uses {
            counts.clear(settlement.epoch, gas);
        }
        // What the registry knows is read again when it is needed.
        let newest = counts.uses.last_key_value().map_or(0, |((epoch, _), _)| *epoch);
        let many = counts.uses.len() > METERED_NAMES / 2;
        counts.uses.retain(|(epoch, _), used| used.pending.executions > 0 || (*epoch == newest && !many));
        counts.owed.retain(|_, owed| *owed > 0);
    }

    /// Counts a settlement whose epoch is closed for ever in the epoch that began at `now`.
    pub fn carry(&self, settlement: &Settlement, now: u64) {
        let mut counts = self.lock();
        for gas in &settlement.uses {
            let Some(used) = counts.uses.remove(&(settlement.epoch, gas.name.clone())) else { continue };
            let into = counts.uses.entry((now, gas.name.clone())).or_insert(Use {
                settled: 0,
                pending: Pending::default(),
                called: 0,
                owing: 0,
                ..used
            });
            into.called = into.called.saturating_add(used.called.min(used.pending.fuel));
            into.pending.fuel = into.pending.fuel.saturating_add(used.pending.fuel);
            into.pending.executions += used.pending.executions;
            into.owing = into.owing.saturating_add(used.owing);
        }
    }

    /// What a name's contract has used in the epoch that began at `epoch` and is not settled.
    pub fn pending(&self, name: &Name, epoch: u64) -> Pending {
        self.lock().uses.get(&(epoch, name.clone())).map(|used| used.pending).unwrap_or_default()
    }

    /// Names with fuel that is not settled, in canonical order after `after`: the first ones, at most `most`.
    pub fn names_after(&self, after: Option<&Name>, most: usize) -> Vec<Name> {
        let counts = self.lock();
        let mut names = BTreeSet::new();
        let mut epochs = counts.uses.keys().next().map(|(epoch, _)| *epoch);
        while let Some(epoch) = epochs {
            let from = (epoch, after.cloned().unwrap_or_else(Name::root));
            let of_epoch = counts.uses.range((Bound::Excluded(from), Bound::Unbounded));
            let of_epoch =
                of_epoch.take_while(|((of, _), _)| *of == epoch).filter(|(_, used)| used.pending.executions > 0);
            names.extend(of_epoch.take(most).map(|((_, name), _)| name.clone()));
            let next = (epoch.saturating_add(1), Name::root());
            epochs = counts.uses.range(next..).next().map(|((next, _), _)| *next).filter(|next| *next > epoch);
        }
        names.into_iter().take(most).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Every change is of one entry.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// The policy and price in the epoch of `now`; read again after every op.
    fn state(&mut self, snapshot: &Snapshot, now: u64) -> Result<Arc<GasState>, Fault> {
        if let Some((seq, epoch, state)) = &self.state
            && *seq == snapshot.seq()
            && *epoch == state.epoch_of(now)
        {
            return Ok(state.clone());
        }
        let stored = snapshot.gas()?;
        let epoch = stored.epoch_of(now);
        let mut state = stored.at(epoch);
        // Before the first settlement nothing has rolled; and a clock that went back stays in the epoch it left.
        state.epoch = state.epoch.max(epoch);
        let state = Arc::new(state);
        self.state = Some((snapshot.seq(), epoch, state.clone()));
        Ok(state)
    }

    /// The count of a name; `None` if no more names can be counted.
    fn used(
        &mut self,
        name: &Name,
        owner: SigilId,
        state: &GasState,
        snapshot: &Snapshot,
    ) -> Result<Option<Use>, Fault> {
        let key = (state.epoch, name.clone());
        if let Some(used) = self.uses.get(&key) {
            return Ok(Some(*used));
        }
        if self.uses.len() >= METERED_NAMES {
            return Ok(None);
        }
        let settled = snapshot.name_gas(name)?.at(state.epoch).fuel;
        // Of what was settled before this process began, nobody knows what it was for: calls may have had their whole share.
        let called = settled.min(state.policy.most / 2);
        let used = Use { owner, settled, pending: Pending::default(), called, owing: 0 };
        self.uses.insert(key, used);
        Ok(Some(used))
    }

    fn clear(&mut self, epoch: u64, gas: &GasUse) {
        let Some(used) = self.uses.get_mut(&(epoch, gas.name.clone())) else { return };
        used.settled = used.settled.saturating_add(gas.fuel);
        used.pending.fuel = used.pending.fuel.saturating_sub(gas.fuel);
        used.pending.executions = used.pending.executions.saturating_sub(gas.executions);
        // What came in meanwhile keeps its share of what is owed.
        let whole = u128::from(used.pending.fuel) + u128::from(gas.fuel);
        let left = u128::from(used.owing) * u128::from(used.pending.fuel) / whole.max(1);
        let left = u64::try_from(left).unwrap_or(u64::MAX);
        if let Some(owed) = self.owed.get_mut(&used.owner) {
            *owed = owed.saturating_sub(used.owing - left);
        }
        used.owing = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(resolved: u64, called: u64) -> Use {
        let pending = Pending { fuel: resolved + called, executions: 1 };
        Use { owner: SigilId([1; 32]), settled: 0, pending, called, owing: 0 }
    }

    #[test]
    fn calls_never_use_up_what_resolution_needs() {
        let policy = GasPolicy { epoch: 100, free: 100, most: 1_000, target: 1, lowest: 1, highest: 1 };
        let share = |resolved, called, purpose| used(resolved, called).share(purpose, &policy);
        // Calls have had all that they may: resolution has half of everything left.
        for (resolved, expected) in [(0, Share::Free), (49, Share::Free), (50, Share::Paid), (499, Share::Paid)] {
            assert_eq!(share(resolved, 500, Purpose::Resolution), expected, "{resolved}");
        }
        assert_eq!(share(0, 500, Purpose::Call), Share::Spent(OutOfGas::MostOfCalls));
        assert_eq!(share(500, 500, Purpose::Resolution), Share::Spent(OutOfGas::Most));
        assert_eq!(share(0, 49, Purpose::Call), Share::Free);
        assert_eq!(share(0, 50, Purpose::Call), Share::Paid);
        // Resolution has what calls leave, and nothing is paid for twice.
        assert_eq!(share(99, 0, Purpose::Resolution), Share::Free);
        assert_eq!(share(100, 0, Purpose::Call), Share::Paid);
        assert_eq!(share(1_000, 0, Purpose::Call), Share::Spent(OutOfGas::Most));
    }
}
