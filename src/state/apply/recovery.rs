//! What an owner asks of guardians, and what guardians then keep the owner from.
//!
//! ```text
//!                 StartRecovery (set)            FinishRecovery (anyone), after the delay
//! SetRecovery ----------------------> pending -------------------------------------------> another owner
//!      ^                               |  |
//!      '-------- a wait --------- veto-'  '--- nobody finishes it: as if it had never begun
//! ```

use super::council::Council;
use super::{Applied, Machine};
use crate::limits::{GUARDIANS_WAIT, MAX_RECOVERY_DELAY, MIN_RECOVERY_DELAY};
use crate::op::{OpKind, Rejection, Scope, SetId};
use crate::state::guardians::{Cosign, Guard, Recovery};
use crate::state::{Effects, NameEntry, Rules, View};
use crate::wire::Name;

impl<V: View, R: Rules + ?Sized> Machine<'_, V, R> {
    pub(super) fn council(&self) -> Council<'_, V, R> {
        Council { view: self.view, rules: self.rules, at: self.at, op: self.signed() }
    }

    /// Guardians let the op pass that an owner, or somebody in the owner's place, writes about a name.
    pub(super) fn check_guard(&self, name: &Name, entry: &NameEntry) -> Applied<(), V> {
        let Some(guard) = &entry.guard else { return Ok(()) };
        let kind = self.signed().op().kind();
        // The one thing that is always left to an owner.
        if kind == OpKind::VetoRecovery {
            return Ok(());
        }
        // A freeze must not cost the name.
        if guard.is_frozen(self.at.time) && ![OpKind::Renew, OpKind::Restore].contains(&kind) {
            return Err(Rejection::Frozen { name: name.clone(), until: guard.frozen_until }.into());
        }
        if let Some(cosign) = guard.cosign.as_ref().filter(|cosign| cosign.covers(kind)) {
            self.council().require(cosign.set)?;
        }
        Ok(())
    }

    pub(super) fn require_cosign(&self, name: &Name, set: Option<SetId>, scopes: &[Scope]) -> Applied<Effects, V> {
        let entry = self.live(name)?;
        let in_order = scopes.windows(2).all(|pair| pair[0] < pair[1]);
        if !in_order || (set.is_none() && !scopes.is_empty()) {
            return Err(Rejection::BadScopes.into());
        }
        self.check_set(set)?;
        let cosign = set.map(|set| Cosign { set, scopes: scopes.to_vec() });
        let guard = Guard { cosign, ..entry.guard() };
        Ok(self.rewritten(name, entry.guarded(guard), Vec::new()))
    }

    pub(super) fn set_recovery(&self, name: &Name, set: Option<SetId>, delay: u64) -> Applied<Effects, V> {
        let entry = self.live(name)?;
        if set.is_some() && !(MIN_RECOVERY_DELAY..=MAX_RECOVERY_DELAY).contains(&delay) {
            return Err(Rejection::Delay { min: MIN_RECOVERY_DELAY, max: MAX_RECOVERY_DELAY }.into());
        }
        self.check_set(set)?;
        let guard = entry.guard();
        // To choose others now would be a veto; it has to be called one.
        if let Some(pending) = guard.pending_at(self.at.time) {
            return Err(Rejection::RecoveryPending { name: name.clone(), ready: pending.ready }.into());
        }
        let recovery = set.map(|set| Recovery { set, delay, start_from: 0, freeze_from: 0 });
        Ok(self.rewritten(name, entry.guarded(Guard { recovery, pending: None, ..guard }), Vec::new()))
    }

    pub(super) fn veto_recovery(&self, name: &Name) -> Applied<Effects, V> {
        let entry = self.owned(name)?;
        let guard = entry.guard();
        guard.pending_at(self.at.time).ok_or_else(|| Rejection::NotPending(name.clone()))?;
        let start_from = self.at.time + GUARDIANS_WAIT;
        let recovery = guard.recovery.clone().map(|recovery| Recovery { start_from, ..recovery });
        Ok(self.rewritten(name, entry.guarded(Guard { recovery, pending: None, ..guard }), Vec::new()))
    }

    /// The name goes to the key that was asked for; its guardians stay, and wait for nothing any more.
    pub(super) fn finish_recovery(&self, name: &Name) -> Applied<Effects, V> {
        let entry = self.read(self.view.name(name))?.filter(|entry| self.at.time < entry.free_at());
        let entry = entry.ok_or_else(|| Rejection::UnknownName(name.clone()))?;
        let guard = entry.guard();
        let pending = guard.pending_at(self.at.time).ok_or_else(|| Rejection::NotPending(name.clone()))?;
        if self.at.time < pending.ready {
            return Err(Rejection::TooEarly(pending.ready).into());
        }
        let recovery = guard.recovery.map(|recovery| Recovery { start_from: 0, freeze_from: 0, ..recovery });
        let guard = Guard { cosign: guard.cosign, recovery, ..Guard::default() };
        self.hand_over(name, entry.guarded(guard), pending.to)
    }

    fn check_set(&self, set: Option<SetId>) -> Applied<(), V> {
        let Some(set) = set else { return Ok(()) };
        if self.read(self.view.set(&set))?.is_none() {
            return Err(Rejection::UnknownSet(set).into());
        }
        Ok(())
    }
}
