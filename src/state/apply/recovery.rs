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
use crate::op::{Rejection, Scope, SetId};
use crate::state::guardians::{Cosign, Guard, Recovery};
use crate::state::{Effects, Rules, View};
use crate::wire::Name;

impl<V: View, R: Rules + ?Sized> Machine<'_, V, R> {
    pub(super) fn council(&self) -> Council<'_, V, R> {
        Council { view: self.view, rules: self.rules, at: self.at, op: self.signed() }
    }

    pub(super) fn require_cosign(&self, name: &Name, set: Option<SetId>, scopes: &[Scope]) -> Applied<Effects, V> {
        let permit = self.permit(name)?;
        let in_order = scopes.windows(2).all(|pair| pair[0] < pair[1]);
        if !in_order || (set.is_none() && !scopes.is_empty()) {
            return Err(Rejection::BadScopes.into());
        }
        self.check_set(set)?;
        let cosign = set.map(|set| Cosign { set, scopes: scopes.to_vec() });
        Ok(permit.guarded(Guard { cosign, ..permit.entry().guard() }, true))
    }

    pub(super) fn set_recovery(&self, name: &Name, set: Option<SetId>, delay: u64) -> Applied<Effects, V> {
        let permit = self.permit(name)?;
        if set.is_some() && !(MIN_RECOVERY_DELAY..=MAX_RECOVERY_DELAY).contains(&delay) {
            return Err(Rejection::Delay { min: MIN_RECOVERY_DELAY, max: MAX_RECOVERY_DELAY }.into());
        }
        self.check_set(set)?;
        let recovery = set.map(|set| Recovery { set, delay, start_from: 0, freeze_from: 0 });
        Ok(permit.guarded(Guard { recovery, pending: None, ..permit.entry().guard() }, false))
    }

    pub(super) fn veto_recovery(&self, name: &Name) -> Applied<Effects, V> {
        let permit = self.permit(name)?;
        let guard = permit.entry().guard();
        let start_from = self.at.time.saturating_add(GUARDIANS_WAIT);
        let recovery = guard.recovery.clone().map(|recovery| Recovery { start_from, ..recovery });
        Ok(permit.guarded(Guard { recovery, pending: None, ..guard }, false))
    }

    /// The name goes to the key that was asked for. Its recovery set stays, and waits for nothing any more; a co-signature
    /// rule ends unless it is of that very set: whoever had the old key could have made it, to hold the new owner.
    pub(super) fn finish_recovery(&self, name: &Name) -> Applied<Effects, V> {
        let permit = self.permit(name)?;
        let guard = permit.entry().guard();
        let pending = guard.pending_at(self.at.time).ok_or_else(|| Rejection::NotPending(name.clone()))?;
        if self.at.time < pending.ready {
            return Err(Rejection::TooEarly(pending.ready).into());
        }
        let recovery = guard.recovery.map(|recovery| Recovery { start_from: 0, freeze_from: 0, ..recovery });
        let acted = recovery.as_ref().map(|recovery| recovery.set);
        let cosign = guard.cosign.filter(|cosign| Some(cosign.set) == acted);
        permit.hand_over(self.view, Guard { cosign, recovery, ..Guard::default() }, pending.to)
    }

    fn check_set(&self, set: Option<SetId>) -> Applied<(), V> {
        let Some(set) = set else { return Ok(()) };
        if self.read(self.view.set(&set))?.is_none() {
            return Err(Rejection::UnknownSet(set).into());
        }
        Ok(())
    }
}
