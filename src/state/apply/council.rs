//! What guardian sets do, and what attestors do: ops that a set may write, too.

use super::permit::{Asker, Permit};
use super::{Applied, ApplyError};
use crate::limits::{GUARDIANS_WAIT, MAX_ATTESTATION, MAX_FREEZE, RECOVERY_WINDOW};
use crate::op::{Identity, Member, Op, Rejection, SetId, SigilId, VerifiedOp};
use crate::state::guardians::{
    Attestor, Guard, GuardianSet, Pending, Recovery, account_of, capacity, check_members, weight,
};
use crate::state::{Account, At, Attestation, Change, Effects, Floor, MAX_LEVEL, Rules, View};
use crate::wire::Name;

/// Whose nonce and mana an op takes.
pub(super) enum Payer {
    Sigil(SigilId, Account),
    /// The account of a set is part of its row.
    Set(SetId, GuardianSet),
}

impl Payer {
    pub(super) fn read<V: View>(view: &V, id: Identity) -> Applied<Self, V> {
        match id {
            Identity::Sigil(id) => Ok(Self::Sigil(id, view.account(&id).map_err(ApplyError::Fault)?)),
            Identity::Set(id) => {
                let row = view.set(&id).map_err(ApplyError::Fault)?;
                Ok(Self::Set(id, row.ok_or(Rejection::UnknownSet(id))?))
            }
        }
    }

    pub(super) fn account(&self) -> Account {
        match self {
            Self::Sigil(_, account) => *account,
            Self::Set(_, row) => row.account,
        }
    }

    /// Takes over what the op itself does to its author's row.
    pub(super) fn follow(&mut self, effects: &Effects) {
        for change in &effects.changes {
            match (&mut *self, change) {
                (Self::Sigil(id, own), Change::PutAccount(of, account)) if id == of => *own = *account,
                (Self::Set(id, own), Change::PutSet(of, row)) if id == of => *own = row.clone(),
                _ => {}
            }
        }
    }

    /// The row with the account as it is after the op.
    pub(super) fn paid(self, account: Account) -> Change {
        match self {
            Self::Sigil(id, _) => Change::PutAccount(id, account),
            Self::Set(id, row) => Change::PutSet(id, GuardianSet { account, ..row }),
        }
    }
}

/// Who has come together to write an op.
pub(super) struct Council<'a, V, R: ?Sized> {
    pub(super) view: &'a V,
    pub(super) rules: &'a R,
    pub(super) at: At,
    pub(super) op: &'a VerifiedOp,
}

impl<V: View, R: Rules + ?Sized> Council<'_, V, R> {
    /// What an op of a set does.
    pub(super) fn act(&self, set: SetId) -> Applied<Effects, V> {
        self.require(set)?;
        self.run()
    }

    /// What an op does that a set may write, too.
    pub(super) fn run(&self) -> Applied<Effects, V> {
        match self.op.op() {
            Op::PutSet { set: None, members, threshold } => self.make_set(members, *threshold),
            Op::PutSet { set: Some(set), members, threshold } => self.change_set(*set, members, *threshold),
            Op::SetAttestor { who, max_level, quota } => self.set_attestor(*who, *max_level, *quota),
            Op::Attest { to, level, until } => self.attest(*to, *level, *until),
            Op::RevokeAttestation { of } => self.revoke(*of),
            Op::StartRecovery { name, to } => self.start_recovery(name, *to),
            Op::Freeze { name, until } => self.freeze(name, *until),
            _ => Err(Rejection::SigilsOnly.into()),
        }
    }

    /// Those who have signed speak for a set.
    fn require(&self, id: SetId) -> Applied<GuardianSet, V> {
        speak_for(self.view, self.op, id)
    }

    fn make_set(&self, members: &[Member], threshold: u32) -> Applied<Effects, V> {
        let creator = self.op.author().sigil().ok_or(Rejection::SigilsOnly)?;
        let id = self.op.new_set().ok_or(Rejection::SigilsOnly)?;
        let row = GuardianSet {
            creator,
            members: Vec::new(),
            threshold: 0,
            parents: 0,
            account: Account::default(),
            changed: self.at.seq,
        };
        self.put_set(id, row, members, threshold)
    }

    fn change_set(&self, id: SetId, members: &[Member], threshold: u32) -> Applied<Effects, V> {
        let row = self.require(id)?;
        self.put_set(id, row, members, threshold)
    }

    fn put_set(&self, id: SetId, before: GuardianSet, members: &[Member], threshold: u32) -> Applied<Effects, V> {
        check_members(members, threshold).map_err(Rejection::BadSet)?;
        let (members, changed) = (members.to_vec(), self.at.seq);
        let after = GuardianSet { members, threshold, changed, ..before.clone() };
        let mut changes = Vec::new();
        for left in before.nested().filter(|set| !after.nested().any(|kept| kept == *set)) {
            let row = self.set(left)?;
            changes.push(Change::PutSet(left, GuardianSet { parents: row.parents.saturating_sub(1), ..row }));
        }
        // Of those that it holds already, nothing is asked: what their owners have done since must not bind this one's.
        for joined in after.nested().filter(|set| !before.nested().any(|held| held == *set)) {
            let row = self.set(joined)?;
            if joined == id || row.nested().next().is_some() {
                return Err(Rejection::BadSet("a member set holds sets itself, which would count nothing here").into());
            }
            changes.push(Change::PutSet(joined, GuardianSet { parents: row.parents.saturating_add(1), ..row }));
        }
        changes.push(Change::PutSet(id, after));
        Ok(plain(changes))
    }

    fn set_attestor(&self, who: Identity, max_level: u8, quota: u64) -> Applied<Effects, V> {
        if self.op.author() != self.rules.operator() {
            return Err(Rejection::NotOperator.into());
        }
        if max_level > MAX_LEVEL {
            return Err(Rejection::Level { max: MAX_LEVEL }.into());
        }
        self.subject(who)?;
        let row = self.read(self.view.attestor(&who))?.unwrap_or_default();
        Ok(plain(vec![Change::PutAttestor(who, row.under(max_level, quota))]))
    }

    fn attest(&self, to: Identity, level: u8, until: u64) -> Applied<Effects, V> {
        let by = self.op.author();
        let is_operator = by == self.rules.operator();
        let terms = self.read(self.view.attestor(&by))?.filter(|terms| terms.max_level > 0);
        if !is_operator && terms.is_none() {
            return Err(Rejection::NotAttestor(by).into());
        }
        let highest = terms.map_or(MAX_LEVEL, |terms| if is_operator { MAX_LEVEL } else { terms.max_level });
        if level == 0 || level > highest {
            return Err(Rejection::Level { max: highest }.into());
        }
        if until <= self.at.time || until - self.at.time > MAX_ATTESTATION {
            return Err(Rejection::AttestationTerm { max: MAX_ATTESTATION }.into());
        }
        if to == by {
            return Err(Rejection::BadSubject.into());
        }
        let account = self.subject(to)?;
        if !is_operator {
            self.check_outdone(to, &account, level, until)?;
        }
        let mut changes = self.released(to, &account)?;
        if !is_operator {
            changes.extend(self.taken(&changes, by, level, until)?);
        }
        let attestation = Attestation { by, level, until };
        changes.push(Change::PutAttestation(by, to));
        changes.push(self.put_account(to, account.attested(self.at.time, attestation))?);
        Ok(plain(changes))
    }

    /// A level is only taken over by its attestor, or by a higher one that lasts as long. Nobody's is lowered by others, in
    /// two steps neither: an attestor does not go below what another had attested before.
    fn check_outdone(&self, to: Identity, account: &Account, level: u8, until: u64) -> Result<(), Rejection> {
        let now = account.at(self.at.time);
        let attestation = now.attestation();
        let outdone = match attestation {
            Some(last) if last.by == self.op.author() => {
                now.floor(self.at.time).is_none_or(|floor| level >= floor.level && until >= floor.until)
            }
            Some(last) => level > last.level && until >= last.until,
            None => now.level == 0,
        };
        let (by, last) = (attestation.map(|last| last.by), attestation.map(|last| last.until));
        outdone.then_some(()).ok_or(Rejection::Attested { to, level: now.level, by, until: last })
    }

    fn revoke(&self, of: Identity) -> Applied<Effects, V> {
        let account = self.subject(of)?;
        let attestation = account.at(self.at.time).attestation().ok_or(Rejection::NotAttested(of))?;
        let author = self.op.author();
        if author != attestation.by && author != of && author != self.rules.operator() {
            return Err(Rejection::NotAttested(of).into());
        }
        let mut changes = self.released(of, &account)?;
        let floor = account.floor(self.at.time).filter(|_| author == attestation.by && author != self.rules.operator());
        let Some(Floor { level, until }) = floor else {
            changes.push(self.put_account(of, account.unattested(self.at.time))?);
            return Ok(plain(changes));
        };
        // What another had attested stays, on the quota of the attestor that took its place.
        if (level, until) == (attestation.level, attestation.until) {
            return Err(Rejection::NotAttested(of).into());
        }
        changes.extend(self.taken(&changes, author, level, until)?);
        changes.push(Change::PutAttestation(author, of));
        changes
            .push(self.put_account(of, account.attested(self.at.time, Attestation { level, until, ..attestation }))?);
        Ok(plain(changes))
    }

    /// The end of the last attestation of an account: its attestor's quota is free again.
    pub(super) fn released(&self, of: Identity, account: &Account) -> Applied<Vec<Change>, V> {
        let Some(Attestation { by, level, until }) = account.attestation() else { return Ok(Vec::new()) };
        let row = self.read(self.view.attestor(&by))?;
        let row = row.map(|row| Change::PutAttestor(by, row.releasing(level, until)));
        Ok(row.into_iter().chain([Change::DropAttestation(by, of)]).collect())
    }

    /// One attestation more from an attestor's quota, after what was released in the same op.
    fn taken(&self, released: &[Change], by: Identity, level: u8, until: u64) -> Applied<Option<Change>, V> {
        let own = released.iter().find_map(|change| match change {
            Change::PutAttestor(id, row) if *id == by => Some(row.clone()),
            _ => None,
        });
        let stored = || self.read(self.view.attestor(&by)).map(Option::unwrap_or_default);
        let row: Attestor = own.map_or_else(stored, Ok)?;
        let left = row.quota.saturating_sub(row.used(self.at.time));
        let over = Rejection::Quota { quota: row.quota, left, need: capacity(level) };
        let row = row.taking(self.at.time, level, until).ok_or(over)?;
        Ok(Some(Change::PutAttestor(by, row)))
    }

    fn start_recovery(&self, name: &Name, to: SigilId) -> Applied<Effects, V> {
        let permit = self.permit(name)?;
        let (guard, recovery) = recovery_of(&permit)?;
        if self.at.time < recovery.start_from {
            return Err(Rejection::TooEarly(recovery.start_from).into());
        }
        if to.key().is_none() || to == permit.entry().owner {
            return Err(Rejection::BadNewOwner.into());
        }
        let ready = self.at.time.saturating_add(recovery.delay);
        let pending = Some(Pending { to, ready, lapses: ready.saturating_add(RECOVERY_WINDOW) });
        Ok(permit.guarded(Guard { pending, ..guard }, true))
    }

    fn freeze(&self, name: &Name, until: Option<u64>) -> Applied<Effects, V> {
        let permit = self.permit(name)?;
        let ((guard, recovery), now) = (recovery_of(&permit)?, self.at.time);
        let frozen_until = match until {
            None => 0,
            Some(_) if now < recovery.freeze_from => return Err(Rejection::TooEarly(recovery.freeze_from).into()),
            Some(until) if until <= now || until - now > MAX_FREEZE => {
                return Err(Rejection::FreezeTerm { max: MAX_FREEZE }.into());
            }
            Some(until) => until,
        };
        let freeze_from = frozen_until.max(now).saturating_add(GUARDIANS_WAIT);
        let recovery = Some(Recovery { freeze_from, ..recovery });
        Ok(permit.guarded(Guard { frozen_until, recovery, ..guard }, until.is_some()))
    }

    fn permit<'n>(&self, name: &'n Name) -> Applied<Permit<'n>, V> {
        let Self { view, at, op, .. } = *self;
        Asker { view, at, author: op.author(), signed: Some(op) }.permit(name, &op.op().actions())
    }

    fn set(&self, id: SetId) -> Applied<GuardianSet, V> {
        Ok(self.read(self.view.set(&id))?.ok_or(Rejection::UnknownSet(id))?)
    }

    /// The account of an identity that somebody could use.
    fn subject(&self, id: Identity) -> Applied<Account, V> {
        if id.sigil().is_some_and(|sigil| sigil.key().is_none()) {
            return Err(Rejection::BadSubject.into());
        }
        match (self.read(account_of(self.view, &id))?, id) {
            (Some(account), _) => Ok(account),
            (None, Identity::Set(set)) => Err(Rejection::UnknownSet(set).into()),
            (None, Identity::Sigil(_)) => Ok(Account::default()),
        }
    }

    fn put_account(&self, id: Identity, account: Account) -> Applied<Change, V> {
        match id {
            Identity::Sigil(sigil) => Ok(Change::PutAccount(sigil, account)),
            Identity::Set(set) => Ok(Change::PutSet(set, GuardianSet { account, ..self.set(set)? })),
        }
    }

    fn read<T>(&self, read: Result<T, V::Fault>) -> Applied<T, V> {
        read.map_err(ApplyError::Fault)
    }
}

/// Those who have signed speak for a set.
pub(super) fn speak_for<V: View>(view: &V, op: &VerifiedOp, id: SetId) -> Applied<GuardianSet, V> {
    let row = view.set(&id).map_err(ApplyError::Fault)?.ok_or(Rejection::UnknownSet(id))?;
    let have = weight(view, &row, &op.signers()).map_err(ApplyError::Fault)?;
    if have < row.threshold {
        return Err(Rejection::Threshold { set: id, have, need: row.threshold }.into());
    }
    Ok(row)
}

/// The entry of a guarded name, and the recovery by which its guardians act.
fn recovery_of(permit: &Permit<'_>) -> Result<(Guard, Recovery), Rejection> {
    let guard = permit.entry().guard();
    let recovery = guard.recovery.clone().ok_or_else(|| Rejection::NoRecovery(permit.name().clone()))?;
    Ok((guard, recovery))
}

fn plain(changes: Vec<Change>) -> Effects {
    Effects { changes, ..Effects::default() }
}
