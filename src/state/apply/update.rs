//! DNS UPDATE on the state: keys, prerequisites, edits (RFC 2136 §3).
//!
//! ```text
//! permit -> seen before? -> prerequisites -> edits on a draft -> the key's budget -> the rules of put and delete -> the
//! owner pays
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::permit::Permit;
use super::{After, Apex, Applied, Machine, OF_THE_KEYS, check_form, says_which_keys};
use crate::limits::{
    MAX_PUT_RRSETS, MAX_SCOPE_TYPES, MAX_TERM_YEARS, MAX_UPDATE_KEY_MANA, MAX_UPDATE_KEYS, MAX_UPDATE_SCOPES, YEAR,
};
use crate::op::{Op, Rejection, RrsetKey, SignedUpdate, UpdateScope, VerifiedOp, key_name};
use crate::state::updates::{UpdateKey, Updates};
use crate::state::{Change, Effects, Rules, View, Work};
use crate::wire::update::{Edit, Prerequisite};
use crate::wire::{Name, Rrset, Rtype};

/// Types that an update cannot touch: a signer makes them, or they say whose keys a name's are and need the owner's
/// RRSIG. Deleting all of a name passes them over, as it does SOA and NS (RFC 2136 §3.4.2.3).
const NOT_BY_UPDATE: [Rtype; 9] = [
    Rtype::SOA,
    Rtype::DNSKEY,
    Rtype::CDS,
    Rtype::CDNSKEY,
    Rtype::NSEC,
    Rtype::NSEC3,
    Rtype::NSEC3PARAM,
    Rtype::RRSIG,
    Rtype::ZONEMD,
];

/// The update key that an update was asked for with.
#[derive(Clone, Copy)]
pub(super) struct KeyClaim<'a> {
    label: &'a str,
    /// Sequence of the op that issued it.
    issued: Option<u64>,
}

/// The update of an op, and the key that it was asked for with.
pub(super) fn update_of(op: &Op) -> Option<(&SignedUpdate, Option<KeyClaim<'_>>)> {
    match op {
        Op::Update { update } => Some((update, None)),
        Op::UpdateByKey { label, update, issued } => Some((update, Some(KeyClaim { label, issued: *issued }))),
        _ => None,
    }
}

impl<V: View, R: Rules + ?Sized> Machine<'_, V, R> {
    /// Applies a DNS UPDATE. It has no nonce: its signature names it for as long as that is good.
    pub(super) fn update(
        &self,
        op: &VerifiedOp,
        update: &SignedUpdate,
        claim: Option<KeyClaim<'_>>,
    ) -> Applied<Effects, V> {
        let name = update.name();
        let entry = self.read(self.view.name(name))?.ok_or_else(|| Rejection::UnknownName(name.clone()))?;
        if claim.is_some() && !self.read(self.view.gas())?.gateways.contains(&self.author) {
            return Err(Rejection::NotVoucher.into());
        }
        let author = if claim.is_some() { entry.owner } else { self.author };
        // From here on the owner acts, whoever brought the message.
        let machine = Machine { author, ..*self };
        let permit = machine.permit(name)?;
        let stored = self.read(self.view.updates(name))?;
        let key = |KeyClaim { label, issued }: KeyClaim<'_>| {
            let key = stored.key(label, self.at.time).filter(|key| issued.is_none_or(|issued| issued == key.issued));
            key.cloned().ok_or_else(|| Rejection::UnknownUpdateKey { name: name.clone(), label: label.to_owned() })
        };
        let key = claim.map(key).transpose()?;
        stored.check_new(update, op.expires(), self.at.time)?;
        let mut draft = Draft { machine: &machine, apex: name, key, rrsets: BTreeMap::new() };
        update.transaction().prerequisites.iter().try_for_each(|wanted| draft.require(wanted))?;
        update.transaction().edits.iter().try_for_each(|edit| draft.edit(edit))?;
        let (put, dropped) = draft.changed();
        // The message is compressed, what it stores is not.
        let bytes = op.bytes().len().max(put.iter().map(Rrset::stored_bytes).sum());
        let base = self.rules.price(name.parent().as_ref(), op.op().kind(), Work { bytes, rrsigs: 0 });
        let load = self.read(self.view.load())?.at(self.at.time);
        let price = load.price(base);
        let row = stored.noting(name, (update, op.expires()), claim.map(|claim| (claim.label, price)), self.at.time)?;
        let mut effects = machine.edit(&permit, &put, &dropped)?;
        effects.changes.push(permit.remember(row));
        let account = self.read(self.view.account(&author))?.pay(self.at.time, price)?;
        effects.changes.push(Change::PutAccount(author, account));
        effects.changes.push(Change::PutLoad(load.with(base)));
        Ok(effects)
    }

    /// Checks what is put and dropped by the rules that hold for owners' ops, as far as they are about data.
    fn edit(&self, permit: &Permit<'_>, put: &[Rrset], dropped: &[RrsetKey]) -> Applied<Effects, V> {
        if put.is_empty() && dropped.is_empty() {
            return Ok(Effects::default());
        }
        if put.len() + dropped.len() > MAX_PUT_RRSETS {
            return Err(Rejection::TooMany { what: "RRsets in one update", max: MAX_PUT_RRSETS }.into());
        }
        let name = permit.name();
        put.iter().try_for_each(|rrset| check_form(name, rrset))?;
        let fresh = self.check_company(name, put, dropped)?;
        let keys = put.iter().map(|rrset| (&rrset.owner, rrset.rtype));
        let mut keys = keys.chain(dropped.iter().map(|key| (&key.owner, key.rtype)));
        if keys.any(|(owner, rtype)| owner == name && says_which_keys(rtype)) {
            Apex::read(&After { machine: self, name, put, dropped })?.check(name, permit.entry())?;
        }
        permit.write(self, put, dropped, fresh)
    }

    pub(super) fn issue_update_key(
        &self,
        name: &Name,
        label: &str,
        scopes: &[UpdateScope],
        expires: u64,
        mana: Option<u64>,
    ) -> Applied<Effects, V> {
        let permit = self.permit(name)?;
        check_key(name, label, scopes).map_err(Rejection::BadUpdateKey)?;
        let latest = self.at.time.saturating_add(u64::from(MAX_TERM_YEARS) * YEAR);
        if expires <= self.at.time || expires > latest {
            let text = format!("must end after now and at most {MAX_TERM_YEARS} years ahead");
            return Err(Rejection::BadUpdateKey(text).into());
        }
        if mana.is_some_and(|mana| mana == 0 || mana > MAX_UPDATE_KEY_MANA) {
            let text = format!("its budget is 1 to {MAX_UPDATE_KEY_MANA} mana a day");
            return Err(Rejection::BadUpdateKey(text).into());
        }
        let mut row = self.read(self.view.updates(name))?;
        row.keys.retain(|key| self.at.time < key.expires);
        if row.keys.iter().any(|key| key.label == label) {
            return Err(Rejection::BadUpdateKey(format!("{label:?} exists already; revoke it first")).into());
        }
        if row.keys.len() >= MAX_UPDATE_KEYS {
            return Err(Rejection::TooMany { what: "update keys of one name", max: MAX_UPDATE_KEYS }.into());
        }
        let (label, scopes) = (label.to_owned(), scopes.to_vec());
        row.keys.push(UpdateKey { label, scopes, issued: self.at.seq, expires, mana, used: None });
        Ok(keeping(&permit, row))
    }

    pub(super) fn revoke_update_key(&self, name: &Name, label: &str) -> Applied<Effects, V> {
        let permit = self.permit(name)?;
        let mut row = self.read(self.view.updates(name))?;
        let unknown = || Rejection::UnknownUpdateKey { name: name.clone(), label: label.to_owned() };
        let at = row.keys.iter().position(|key| key.label == label).ok_or_else(unknown)?;
        row.keys.remove(at);
        Ok(keeping(&permit, row))
    }
}

/// No answer depends on it.
fn keeping(permit: &Permit<'_>, row: Updates) -> Effects {
    Effects { changes: vec![permit.remember(row)], ..Effects::default() }
}

fn check_key(name: &Name, label: &str, scopes: &[UpdateScope]) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    if !label.bytes().all(plain) || key_name(name, label).is_err() {
        return Err("its label has 1 to 63 of a-z, 0-9, - and _".to_owned());
    }
    if scopes.is_empty() || scopes.len() > MAX_UPDATE_SCOPES {
        return Err(format!("it has 1 to {MAX_UPDATE_SCOPES} rules"));
    }
    for scope in scopes {
        if !scope.owner.is_at_or_below(name) {
            return Err(format!("{} is not at or below {name}", scope.owner));
        }
        if scope.types.is_empty() || scope.types.len() > MAX_SCOPE_TYPES {
            return Err(format!("a rule names 1 to {MAX_SCOPE_TYPES} types"));
        }
        if let Some(rtype) = scope.types.iter().find(|rtype| rtype.is_meta() || NOT_BY_UPDATE.contains(rtype)) {
            return Err(format!("{rtype} is not for updates to set"));
        }
    }
    Ok(())
}

/// RRsets to put and RRsets to drop.
type Changed = (Vec<Rrset>, Vec<RrsetKey>);

/// The RRsets that an update has to do with: as stored, and as it leaves them.
struct Draft<'a, V, R: ?Sized> {
    machine: &'a Machine<'a, V, R>,
    apex: &'a Name,
    /// `None`: by the name's own key, which may change anything.
    key: Option<UpdateKey>,
    rrsets: BTreeMap<(Name, Rtype), (Option<Rrset>, Option<Rrset>)>,
}

impl<V: View, R: Rules + ?Sized> Draft<'_, V, R> {
    /// Checks one prerequisite against what is stored. SOA and NS of the name are there without being stored.
    fn require(&mut self, wanted: &Prerequisite) -> Applied<(), V> {
        let (holds, rejection) = match wanted {
            Prerequisite::NameInUse(owner) => (self.in_use(owner)?, Rejection::NameNotInUse(owner.clone())),
            Prerequisite::NameFree(owner) => (!self.in_use(owner)?, Rejection::NameInUse(owner.clone())),
            Prerequisite::RrsetExists(owner, rtype) => (self.exists(owner, *rtype)?, missing(owner, *rtype)),
            Prerequisite::NoRrset(owner, rtype) => {
                (!self.exists(owner, *rtype)?, Rejection::RrsetInUse { owner: owner.clone(), rtype: *rtype })
            }
            Prerequisite::RrsetIs(owner, rtype, rdata) => {
                let stored = self.rrset(owner, *rtype)?;
                let same = stored.is_some_and(|stored| stored.rdata.iter().map(|data| &**data).eq(rdata));
                (same, missing(owner, *rtype))
            }
        };
        Ok(if holds { Ok(()) } else { Err(rejection) }?)
    }

    /// RFC 2136 §3.4.2.
    fn edit(&mut self, edit: &Edit) -> Applied<(), V> {
        match edit {
            Edit::Add { owner, rtype, ttl, rdata } => {
                self.check(owner, *rtype)?;
                self.add(owner, *rtype, *ttl, rdata)
            }
            Edit::DeleteRrset(owner, rtype) if self.is_made(owner, *rtype) => Ok(()),
            Edit::DeleteRrset(owner, rtype) => {
                self.check(owner, *rtype)?;
                self.put(owner, *rtype, None)
            }
            Edit::DeleteName(owner) => {
                for rtype in self.types(owner)? {
                    if !NOT_BY_UPDATE.contains(&rtype) && !self.is_made(owner, rtype) {
                        self.check(owner, rtype)?;
                        self.put(owner, rtype, None)?;
                    }
                }
                Ok(())
            }
            Edit::DeleteRecord(owner, rtype, _) if self.is_made(owner, *rtype) => Ok(()),
            Edit::DeleteRecord(owner, rtype, rdata) => {
                self.check(owner, *rtype)?;
                let Some(mut rrset) = self.rrset(owner, *rtype)?.cloned() else { return Ok(()) };
                rrset.rdata.retain(|data| **data != **rdata);
                self.put(owner, *rtype, Some(rrset).filter(|rrset| !rrset.rdata.is_empty()))
            }
        }
    }

    /// Adds a record; an alias and other data displace nothing, whoever comes second is passed over (§3.4.2.2).
    fn add(&mut self, owner: &Name, rtype: Rtype, ttl: u32, rdata: &[u8]) -> Applied<(), V> {
        let others = self.types(owner)?.into_iter().filter(|other| !OF_THE_KEYS.contains(other));
        let alone = |other: Rtype| (other == Rtype::CNAME) != (rtype == Rtype::CNAME);
        if others.into_iter().any(alone) {
            return Ok(());
        }
        let single = [Rtype::CNAME, Rtype::DNAME].contains(&rtype);
        let stored = self.rrset(owner, rtype)?.filter(|_| !single);
        let kept = stored.into_iter().flat_map(|rrset| &rrset.rdata).map(|data| data.to_vec());
        let rrset = Rrset::new(owner.clone(), rtype, ttl, kept.chain([rdata.to_vec()]));
        self.put(owner, rtype, Some(rrset))
    }

    fn check(&self, owner: &Name, rtype: Rtype) -> Result<(), Rejection> {
        if NOT_BY_UPDATE.contains(&rtype) {
            return Err(Rejection::TypeRefused(rtype));
        }
        let covered = self.key.as_ref().is_none_or(|key| key.covers(owner, rtype));
        if covered { Ok(()) } else { Err(Rejection::OutOfScope { owner: owner.clone(), rtype }) }
    }

    /// SOA and NS of the name, which the gateway makes; deleting them is passed over.
    fn is_made(&self, owner: &Name, rtype: Rtype) -> bool {
        owner == self.apex && [Rtype::SOA, Rtype::NS].contains(&rtype)
    }

    fn in_use(&mut self, owner: &Name) -> Applied<bool, V> {
        Ok(owner == self.apex || !self.types(owner)?.is_empty())
    }

    fn exists(&mut self, owner: &Name, rtype: Rtype) -> Applied<bool, V> {
        Ok(self.is_made(owner, rtype) || self.rrset(owner, rtype)?.is_some())
    }

    /// The types at an owner name as the edits before this one have left it.
    fn types(&mut self, owner: &Name) -> Applied<BTreeSet<Rtype>, V> {
        let mut types: BTreeSet<Rtype> = self.machine.read(self.machine.view.types_at(owner))?.into_iter().collect();
        for ((at, rtype), (_, left)) in &self.rrsets {
            if at == owner {
                if left.is_some() {
                    types.insert(*rtype)
                } else {
                    types.remove(rtype)
                };
            }
        }
        Ok(types)
    }

    fn rrset(&mut self, owner: &Name, rtype: Rtype) -> Applied<Option<&Rrset>, V> {
        let key = (owner.clone(), rtype);
        if !self.rrsets.contains_key(&key) {
            let stored = self.machine.read(self.machine.view.rrset(owner, rtype))?;
            self.rrsets.insert(key.clone(), (stored.clone(), stored));
        }
        Ok(self.rrsets.get(&key).and_then(|(_, left)| left.as_ref()))
    }

    fn put(&mut self, owner: &Name, rtype: Rtype, rrset: Option<Rrset>) -> Applied<(), V> {
        self.rrset(owner, rtype)?;
        if let Some((_, left)) = self.rrsets.get_mut(&(owner.clone(), rtype)) {
            *left = rrset;
        }
        Ok(())
    }

    /// What differs from what is stored. An RRset that comes out as it was keeps its owner's RRSIGs; the others have
    /// none from now on, and the online key signs them.
    fn changed(self) -> Changed {
        let (mut put, mut dropped) = (Vec::new(), Vec::new());
        for ((owner, rtype), (stored, left)) in self.rrsets {
            match (stored, left) {
                (Some(stored), Some(left)) if (stored.ttl, &stored.rdata) == (left.ttl, &left.rdata) => {}
                (_, Some(left)) => put.push(Rrset { rrsigs: Vec::new(), ..left }),
                (Some(_), None) => dropped.push(RrsetKey { owner, rtype }),
                (None, None) => {}
            }
        }
        (put, dropped)
    }
}

fn missing(owner: &Name, rtype: Rtype) -> Rejection {
    Rejection::RrsetNotInUse { owner: owner.clone(), rtype }
}
