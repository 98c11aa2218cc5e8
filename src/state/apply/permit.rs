//! Authority: who may do what to a name, asked in one place (docs/internals/authority.md).
//!
//! ```text
//! op --Op::actions--> Asker::permit --the rule of each action, on the name as it stands--> Permit | Rejection
//!                                     Permit --rewrite, arrange, write, hand over, clear--> changes of the name's rows
//! ```
//!
//! Nothing else makes such changes (tests/it/layers.rs): a path that does not ask has no permit, and without a permit there
//! is nothing that it could write.

use super::council::speak_for;
use super::{Applied, ApplyError, Machine, OF_THE_KEYS, touching};
use crate::dnssec::{FLAGS_OWNER, is_strict};
use crate::limits::MAX_RRSETS_PER_NAME;
use crate::op::{Action, Covenant, Identity, OpKind, Rejection, RrsetKey, SigilId, VerifiedOp, beside_records};
use crate::state::guardians::{Cosign, Guard};
use crate::state::life::{NameLife, Phase};
use crate::state::updates::Updates;
use crate::state::{At, Change, Effects, NameEntry, Rules, View};
use crate::wire::{Name, Rrset, Rtype};

/// The party whose act an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Party {
    Anyone,
    Owner,
    /// The owner, or whom the name is offered to.
    OwnerOrReceiver,
    /// The sigil that the name is offered to.
    Receiver,
    /// The recovery set, with its threshold.
    Guardians,
    /// A gateway that the operator named.
    Gateway,
}

/// In which phases of a lease an action can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phases {
    /// Nobody has the name.
    Vacant,
    Live,
    /// Live or in grace.
    Renewable,
    Redemption,
    /// All but free.
    Held,
    Any,
}

/// The answer of a rule to a circumstance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Either,
    Without,
    With,
}

/// The rule of one action.
#[derive(Debug, Clone, Copy)]
struct Rule {
    by: Party,
    phases: Phases,
    frozen: Ask,
    /// A recovery that is under way.
    pending: Ask,
    locked: Ask,
}

/// By the owner, at any time at which nobody but the owner has a say.
const OWNERS: Rule =
    Rule { by: Party::Owner, phases: Phases::Live, frozen: Ask::Without, pending: Ask::Either, locked: Ask::Either };
/// As [`OWNERS`], and the lock holds.
const KEYS: Rule = Rule { locked: Ask::Without, ..OWNERS };
/// As [`KEYS`], and a recovery that is under way must not be escaped.
const HANDS: Rule = Rule { pending: Ask::Without, ..KEYS };
/// By others than the owner, whatever the owner has arranged.
const OTHERS: Rule =
    Rule { by: Party::Guardians, phases: Phases::Held, frozen: Ask::Either, pending: Ask::Either, locked: Ask::Either };

impl Rule {
    /// No wildcard: a new action does not compile without a rule.
    fn of(action: Action) -> Self {
        match action {
            Action::Register => Self { by: Party::Anyone, phases: Phases::Vacant, ..OTHERS },
            // A freeze must not cost the name.
            Action::Renew => Self { phases: Phases::Renewable, frozen: Ask::Either, ..OWNERS },
            Action::Restore => Self { phases: Phases::Redemption, frozen: Ask::Either, ..OWNERS },
            Action::AutoRenew => Self { by: Party::Gateway, phases: Phases::Renewable, ..OTHERS },
            Action::Plan => Self { phases: Phases::Renewable, ..OWNERS },
            Action::Records
            | Action::Contract
            | Action::Unbind
            | Action::Covenants
            | Action::IssueKey
            | Action::Lock => OWNERS,
            Action::RevokeKey | Action::Unlock => Self { phases: Phases::Any, ..OWNERS },
            Action::ZoneKeys | Action::Delegation => KEYS,
            // With other guardians, a lock and a recovery could be escaped.
            Action::Cosign | Action::Recovery => HANDS,
            Action::Transfer | Action::Offer => HANDS,
            Action::Accept => Self { by: Party::Receiver, ..HANDS },
            Action::Withdraw => Self { by: Party::OwnerOrReceiver, phases: Phases::Any, ..OTHERS },
            Action::Release => Self { phases: Phases::Any, ..HANDS },
            Action::StartRecovery => Self { pending: Ask::Without, ..OTHERS },
            // The one thing that is always left to an owner.
            Action::VetoRecovery => Self { by: Party::Owner, phases: Phases::Any, pending: Ask::With, ..OTHERS },
            Action::FinishRecovery => Self { by: Party::Anyone, pending: Ask::With, ..OTHERS },
            Action::Freeze => Self { frozen: Ask::Without, ..OTHERS },
            Action::Unfreeze => Self { frozen: Ask::With, ..OTHERS },
        }
    }
}

/// How a name stands when somebody asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// `None`: nobody has ever registered it, or it was released.
    pub phase: Option<Phase>,
    pub free_at: u64,
    /// Until when, seconds since 1970.
    pub frozen: Option<u64>,
    /// When the recovery that is under way can be finished.
    pub pending: Option<u64>,
    /// The owner's co-signature rule, and the rejection of what it covers, if its signatures are not there.
    pub lacking: Option<(Cosign, Rejection)>,
    /// When it is unlocked, if its owner has asked for that.
    pub locked: Option<Option<u64>>,
    /// Its owner signs everything ahead.
    pub strict: bool,
    /// A DNS UPDATE asks.
    pub by_update: bool,
}

impl Standing {
    /// Whether an action can be done to `name`, as far as it does not matter who asks.
    ///
    /// # Errors
    /// The first circumstance that is against it.
    pub fn check(&self, name: &Name, action: Action) -> Result<(), Rejection> {
        let rule = Rule::of(action);
        let name = || name.clone();
        let met = |ask, there| ask == Ask::Either || (ask == Ask::With) == there;
        // A free name has neither guardians nor an owner.
        if rule.phases == Phases::Held || self.phase.is_none() {
            self.check_phase(name(), rule.phases)?;
        }
        if !met(rule.frozen, self.frozen.is_some()) {
            return Err(self
                .frozen
                .map_or_else(|| Rejection::NotFrozen(name()), |until| Rejection::Frozen { name: name(), until }));
        }
        if !met(rule.pending, self.pending.is_some()) {
            return Err(self.pending.map_or_else(
                || Rejection::NotPending(name()),
                |ready| Rejection::RecoveryPending { name: name(), ready },
            ));
        }
        if let Some((rule, lacking)) = &self.lacking
            && rule.covers(action)
        {
            return Err(lacking.clone());
        }
        self.check_phase(name(), rule.phases)?;
        if let Some(opens) = self.locked.filter(|_| rule.locked == Ask::Without) {
            return Err(Rejection::Locked { name: name(), opens });
        }
        match action {
            Action::Contract if self.strict => Err(Rejection::Strict(name())),
            Action::Records if self.strict && self.by_update => Err(Rejection::StrictUpdate(name())),
            _ => Ok(()),
        }
    }

    fn check_phase(&self, name: Name, phases: Phases) -> Result<(), Rejection> {
        let Some(phase) = self.phase else {
            return if phases == Phases::Vacant { Ok(()) } else { Err(Rejection::UnknownName(name)) };
        };
        match (phases, phase) {
            (Phases::Any, _)
            | (Phases::Vacant, Phase::Free)
            | (Phases::Live, Phase::Live)
            | (Phases::Renewable, Phase::Live | Phase::Grace)
            | (Phases::Redemption, Phase::Redemption)
            | (Phases::Held, Phase::Live | Phase::Grace | Phase::Redemption) => Ok(()),
            (Phases::Vacant, Phase::Live) => Err(Rejection::Taken(name)),
            (Phases::Vacant, Phase::Grace | Phase::Redemption) => Err(Rejection::InGrace { name, until: self.free_at }),
            (Phases::Live, Phase::Grace | Phase::Redemption | Phase::Free) => Err(Rejection::NameExpired(name)),
            (Phases::Renewable, Phase::Redemption) => Err(Rejection::InRedemption { name, until: self.free_at }),
            (Phases::Redemption, Phase::Live | Phase::Grace) => Err(Rejection::NotInRedemption(name)),
            (Phases::Renewable | Phases::Redemption | Phases::Held, Phase::Free) => Err(Rejection::UnknownName(name)),
        }
    }
}

/// The party that acts.
pub fn party(action: Action) -> Party {
    Rule::of(action).by
}

/// The party that asks, and the state that it asks in.
pub(super) struct Asker<'a, V> {
    pub view: &'a V,
    pub at: At,
    pub author: Identity,
    /// The op as it was signed; none where nobody has signed anything yet.
    pub signed: Option<&'a VerifiedOp>,
}

/// Leave to change rows of one name. Only [`Asker::permit`] makes one.
pub(super) struct Permit<'n> {
    name: &'n Name,
    /// As it stands; of a name that is registered now, as it begins.
    entry: NameEntry,
    life: NameLife,
    standing: Standing,
    actions: Vec<Action>,
    at: At,
}

impl<V: View> Asker<'_, V> {
    /// The only place where it is decided whether `actions` may be done to `name` now, by whoever asks.
    ///
    /// # Errors
    /// Why not, or the store failed.
    pub(super) fn permit<'n>(&self, name: &'n Name, actions: &[Action]) -> Applied<Permit<'n>, V> {
        let stored = self.read(self.view.name(name))?;
        let life = self.read(self.view.name_life(name))?;
        // Whether these are done, only what is written can tell: `Permit::write` asks again.
        let of_content = |action: &&Action| ![Action::ZoneKeys, Action::Delegation].contains(action);
        let actions: Vec<Action> = actions.iter().filter(of_content).copied().collect();
        let standing = self.standing(name, stored.as_ref(), &life, &actions)?;
        for action in &actions {
            self.check_party(name, stored.as_ref(), &life, *action)?;
            standing.check(name, *action)?;
        }
        let entry = match stored.filter(|_| !actions.contains(&Action::Register)) {
            Some(entry) => entry,
            None => self.blank(),
        };
        Ok(Permit { name, entry, life, standing, actions, at: self.at })
    }

    /// A name before its lease has an end.
    fn blank(&self) -> NameEntry {
        NameEntry {
            // Nothing but `Action::Register` comes here, and only sigils register.
            owner: self.author.sigil().unwrap_or(SigilId([0; 32])),
            registered: self.at.time,
            expires: self.at.time,
            contract: None,
            parameters: Vec::new(),
            changed: self.at.seq,
            rrsets: 0,
            guard: None,
            grace: 0,
            redemption: 0,
        }
    }

    fn standing(
        &self,
        name: &Name,
        entry: Option<&NameEntry>,
        life: &NameLife,
        actions: &[Action],
    ) -> Applied<Standing, V> {
        let kind = self.signed.map(|op| op.op().kind());
        let by_update = matches!(kind, Some(OpKind::Update | OpKind::UpdateByKey));
        let Some(entry) = entry else { return Ok(Standing { by_update, ..Standing::default() }) };
        let (now, guard) = (self.at.time, entry.guard.as_deref());
        let keys_matter = by_update || actions.contains(&Action::Contract);
        let keys = if keys_matter { self.read(self.view.rrset(name, Rtype::DNSKEY))? } else { None };
        Ok(Standing {
            phase: Some(entry.phase(now)),
            free_at: entry.free_at(),
            frozen: guard.filter(|guard| guard.is_frozen(now)).map(|guard| guard.frozen_until),
            pending: guard.and_then(|guard| guard.pending_at(now)).map(|pending| pending.ready),
            lacking: self.lacking(guard, life, actions)?,
            locked: life.locked(now).map(|lock| lock.opens),
            strict: keys.is_some_and(|keys| is_strict(&keys)),
            by_update,
        })
    }

    /// What the co-signature rule asks for in vain. An offer that was made under the rule has been co-signed.
    fn lacking(
        &self,
        guard: Option<&Guard>,
        life: &NameLife,
        actions: &[Action],
    ) -> Applied<Option<(Cosign, Rejection)>, V> {
        let Some(rule) = guard.and_then(|guard| guard.cosign.as_ref()) else { return Ok(None) };
        let agreed = |action: &Action| {
            *action == Action::Accept && life.offer.is_some_and(|offer| offer.cosigned == Some(rule.set))
        };
        let asked = actions.iter().any(|action| rule.covers(*action) && !agreed(action));
        let Some(op) = self.signed.filter(|_| asked) else { return Ok(None) };
        match speak_for(self.view, op, rule.set) {
            Ok(_) => Ok(None),
            Err(ApplyError::Rejected(lacking)) => Ok(Some((rule.clone(), lacking))),
            Err(fault) => Err(fault),
        }
    }

    fn check_party(&self, name: &Name, entry: Option<&NameEntry>, life: &NameLife, action: Action) -> Applied<(), V> {
        let rule = Rule::of(action);
        if rule.by == Party::Anyone {
            return Ok(());
        }
        let held = entry.filter(|entry| rule.phases != Phases::Held || entry.phase(self.at.time) != Phase::Free);
        let entry = held.ok_or_else(|| Rejection::UnknownName(name.clone()))?;
        let is = |who: SigilId| self.author == Identity::Sigil(who);
        let receiver = life.offered(self.at.time).map(|offer| offer.to);
        match rule.by {
            Party::Owner if !is(entry.owner) => Err(Rejection::NotOwner(name.clone()))?,
            Party::OwnerOrReceiver => {
                let receiver = receiver.ok_or_else(|| Rejection::NoOffer(name.clone()))?;
                if !is(entry.owner) && !is(receiver) {
                    return Err(Rejection::NotOwner(name.clone()).into());
                }
            }
            Party::Guardians => {
                let recovery = entry.guard.as_ref().and_then(|guard| guard.recovery.as_ref());
                let set = recovery.ok_or_else(|| Rejection::NoRecovery(name.clone()))?.set;
                speak_for(self.view, self.signed.ok_or(Rejection::NoRecovery(name.clone()))?, set)?;
            }
            // Whether there is a gateway that would, asks nobody in particular.
            Party::Gateway if self.signed.is_some() => {
                let gateways = self.read(self.view.gas())?.gateways;
                if !gateways.iter().any(|gateway| is(*gateway)) {
                    return Err(Rejection::NotGateway.into());
                }
            }
            // Which offer is accepted, and by whom, `accept` compares: a freeze is told before that.
            Party::Anyone | Party::Owner | Party::Receiver | Party::Gateway => {}
        }
        Ok(())
    }

    fn read<T>(&self, read: Result<T, V::Fault>) -> Applied<T, V> {
        read.map_err(ApplyError::Fault)
    }
}

impl<'n> Permit<'n> {
    /// The name's entry as it stands.
    pub(super) fn entry(&self) -> &NameEntry {
        &self.entry
    }

    /// All that is arranged for the name.
    pub(super) fn life(&self) -> &NameLife {
        &self.life
    }

    pub(super) fn name(&self) -> &'n Name {
        self.name
    }

    fn is_for(&self, actions: &[Action]) -> bool {
        actions.iter().any(|action| self.actions.contains(action))
    }

    /// The name with another entry; its owner stays.
    pub(super) fn rewrite(&self, entry: NameEntry) -> Change {
        debug_assert_eq!(entry.owner, self.entry.owner, "hands change by hand_over");
        Change::PutName(self.name.clone(), NameEntry { changed: self.at.seq, ..entry })
    }

    /// As [`Permit::rewrite`], and that is all.
    pub(super) fn rewritten(&self, entry: NameEntry) -> Effects {
        touching(self.name, vec![self.rewrite(entry)])
    }

    /// What guardians have begun, or a rule of the owner's that holds from now on: an offer from before is out.
    pub(super) fn guarded(&self, guard: Guard, ends_offer: bool) -> Effects {
        let mut effects = self.rewritten(self.entry.clone().guarded(guard));
        if ends_offer && self.life.offer.is_some() {
            effects.changes.push(self.arrange(NameLife { offer: None, ..self.life.clone() }));
        }
        effects
    }

    /// Stores what is arranged, without what has ended.
    pub(super) fn arrange(&self, life: NameLife) -> Change {
        let lock = life.locked(self.at.time).copied();
        let offer = life.offered(self.at.time).copied();
        let life = NameLife { lock, offer, ..life };
        match life == NameLife::default() {
            true => Change::DropNameLife(self.name.clone()),
            false => Change::PutNameLife(self.name.clone(), life),
        }
    }

    /// As [`Permit::arrange`], and that is all.
    pub(super) fn arranged(&self, life: NameLife) -> Effects {
        Effects { changes: vec![self.arrange(life)], ..Effects::default() }
    }

    /// Update keys, and the updates that are remembered.
    pub(super) fn remember(&self, row: Updates) -> Change {
        debug_assert!(self.is_for(&[Action::Records, Action::IssueKey, Action::RevokeKey]));
        Change::PutUpdates(self.name.clone(), row)
    }

    pub(super) fn judged_by(&self, covenants: &[Covenant]) -> Effects {
        debug_assert!(self.is_for(&[Action::Covenants]));
        let change = Change::PutCovenants(self.name.clone(), covenants.to_vec());
        touching(self.name, vec![change, self.rewrite(self.entry.clone())])
    }

    /// Drops all that belongs to the name: what a last owner left must not answer for the next one.
    pub(super) fn clear<V: View>(&self, view: &V) -> Applied<Vec<Change>, V> {
        debug_assert!(self.is_for(&[Action::Register, Action::Release]));
        if self.standing.phase.is_none() {
            return Ok(Vec::new());
        }
        let rrsets = view.rrsets_below(self.name).map_err(ApplyError::Fault)?;
        let keys = rrsets.into_iter().map(|rrset| RrsetKey { owner: rrset.owner, rtype: rrset.rtype });
        let beside = [
            Change::DropNameGas(self.name.clone()),
            Change::DropNameLife(self.name.clone()),
            Change::PutCovenants(self.name.clone(), Vec::new()),
        ];
        Ok(keys.map(Change::DropRrset).chain(beside).chain(self.without_update_keys(view)?).collect())
    }

    /// The end of the name.
    pub(super) fn release<V: View>(&self, view: &V) -> Applied<Effects, V> {
        debug_assert!(self.is_for(&[Action::Release]));
        let mut changes = self.clear(view)?;
        changes.push(Change::DropName(self.name.clone()));
        Ok(touching(self.name, changes))
    }

    /// Makes `to` the owner, with `guard`. The data goes along; what the last owner arranged ends: the lock, the offer, the
    /// plan, update keys, covenants, the contract, which would spend the next owner's gas, and what was signed.
    pub(super) fn hand_over<V: View>(&self, view: &V, guard: Guard, to: SigilId) -> Applied<Effects, V> {
        debug_assert!(self.is_for(&[Action::Transfer, Action::Accept, Action::FinishRecovery]));
        let mut changes = Vec::from_iter(self.without_update_keys(view)?);
        changes.push(Change::DropNameLife(self.name.clone()));
        if !view.covenants(self.name).map_err(ApplyError::Fault)?.is_empty() {
            changes.push(Change::PutCovenants(self.name.clone(), Vec::new()));
        }
        let mut rrsets = self.entry.rrsets;
        for rrset in view.rrsets_below(self.name).map_err(ApplyError::Fault)? {
            let own_ns = rrset.rtype == Rtype::NS && !rrset.rrsigs.is_empty();
            if OF_THE_KEYS.contains(&rrset.rtype) || own_ns {
                changes.push(Change::DropRrset(RrsetKey { owner: rrset.owner, rtype: rrset.rtype }));
                rrsets = rrsets.saturating_sub(1);
            } else if !rrset.rrsigs.is_empty() {
                let rate = view.rate(&rrset.owner, rrset.rtype).map_err(ApplyError::Fault)?;
                changes.push(Change::PutRrset(Rrset { rrsigs: Vec::new(), ..rrset }, rate));
            }
        }
        let entry = NameEntry { owner: to, rrsets, contract: None, parameters: Vec::new(), ..self.entry.clone() };
        let entry = NameEntry { changed: self.at.seq, ..entry.guarded(guard) };
        changes.push(Change::PutName(self.name.clone(), entry));
        Ok(touching(self.name, changes))
    }

    /// Puts and drops RRsets, whatever the door: an op of the owner's, an UPDATE by SIG(0) or by key. `fresh` of those that
    /// are put were not there before.
    pub(super) fn write<V: View, R: Rules + ?Sized>(
        &self,
        machine: &Machine<'_, V, R>,
        put: &[Rrset],
        dropped: &[RrsetKey],
        fresh: u32,
    ) -> Applied<Effects, V> {
        debug_assert!(self.is_for(&[Action::Records]));
        for rtype in [Rtype::DNSKEY, Rtype::CDS, Rtype::CDNSKEY, Rtype::NS] {
            let Some(action) = beside_records(self.name, self.name, rtype) else { continue };
            let here = |owner: &Name, of: Rtype| owner == self.name && of == rtype;
            let after = put.iter().find(|rrset| here(&rrset.owner, rrset.rtype));
            if after.is_none() && !dropped.iter().any(|key| here(&key.owner, key.rtype)) {
                continue;
            }
            let before = machine.read(machine.view.rrset(self.name, rtype))?;
            if guarded(before.as_ref()) != guarded(after) {
                self.standing.check(self.name, action)?;
            }
        }
        let rrsets = self.entry.rrsets.saturating_add(fresh).saturating_sub(dropped.len() as u32);
        if rrsets > MAX_RRSETS_PER_NAME {
            return Err(Rejection::TooMany { what: "RRsets of one name", max: MAX_RRSETS_PER_NAME as usize }.into());
        }
        let rate = self.name.parent().map(|tld| machine.rules.rate(&tld));
        let puts = put.iter().cloned().map(|rrset| Change::PutRrset(rrset, rate));
        let mut changes: Vec<Change> = puts.chain(dropped.iter().cloned().map(Change::DropRrset)).collect();
        changes.push(self.rewrite(NameEntry { rrsets, ..self.entry.clone() }));
        Ok(touching(self.name, changes))
    }

    /// The end of all update keys of a name that goes to somebody else.
    fn without_update_keys<V: View>(&self, view: &V) -> Applied<Option<Change>, V> {
        let row = view.updates(self.name).map_err(ApplyError::Fault)?;
        Ok((!row.keys.is_empty()).then(|| Change::PutUpdates(self.name.clone(), row.without_keys())))
    }
}

/// Covenants of a TLD: its operator's, of which no name's owner has a say.
pub(super) fn of_a_tld(tld: &Name, covenants: &[Covenant]) -> Change {
    Change::PutCovenants(tld.clone(), covenants.to_vec())
}

/// The RDATA of an RRset that a lock guards: of DNSKEYs, those of owners. They may be signed anew, and the gateway's
/// online keys come and go.
fn guarded(rrset: Option<&Rrset>) -> Vec<&[u8]> {
    let Some(rrset) = rrset else { return Vec::new() };
    let owners = |data: &&[u8]| rrset.rtype != Rtype::DNSKEY || data.starts_with(&FLAGS_OWNER.to_be_bytes());
    rrset.rdata.iter().map(|data| &**data).filter(owners).collect()
}
