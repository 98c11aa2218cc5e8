//! The op state machine: pure and total.

use std::collections::{BTreeMap, BTreeSet};

use super::{At, Change, Effects, MAX_LEVEL, NameEntry, Rules, View};
use crate::dnssec::{FLAGS_OWNER, dnskey};
use crate::limits::{
    MAX_CONTRACT, MAX_PARAMETERS, MAX_PUT_RRSETS, MAX_RRSET_BYTES, MAX_RRSET_RECORDS, MAX_RRSETS_PER_NAME,
    MAX_TERM_YEARS, MAX_TTL, YEAR,
};
use crate::op::{CodeHash, Op, Rejection, RrsetKey, SigilId, VerifiedOp};
use crate::wire::{Name, Rrset, Rtype};

/// An op was not applied: it may not be, or the store failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplyError<F> {
    Rejected(Rejection),
    Fault(F),
}

impl<F> From<Rejection> for ApplyError<F> {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

type Applied<T, V> = Result<T, ApplyError<<V as View>::Fault>>;

/// What `op` does to the state seen through `view`. Nothing but the arguments is read, nothing is written;
/// the same arguments give the same result on every machine.
///
/// # Errors
/// The first rule that the op breaks: nonce, then the op's own rules, then its price.
pub fn apply<V: View, R: Rules + ?Sized>(view: &V, rules: &R, at: At, op: &VerifiedOp) -> Applied<Effects, V> {
    let machine = Machine { view, rules, at, author: op.author() };
    let account = machine.read(view.account(&op.author()))?;
    if op.nonce() != account.next_nonce {
        return Err(Rejection::Nonce { expected: account.next_nonce, got: op.nonce() }.into());
    }
    let mut effects = machine.run(op.op())?;
    let tld = op.op().name().and_then(Name::parent);
    let price = rules.price(tld.as_ref(), op.op().kind(), op.bytes().len());
    let granted = effects.changes.iter().find_map(|change| match change {
        Change::PutAccount(id, granted) if *id == op.author() => Some(*granted),
        _ => None,
    });
    let mut account = granted.unwrap_or(account).pay(at.time, price)?;
    account.next_nonce += 1;
    effects.changes.push(Change::PutAccount(op.author(), account));
    Ok(effects)
}

struct Machine<'a, V, R: ?Sized> {
    view: &'a V,
    rules: &'a R,
    at: At,
    author: SigilId,
}

impl<V: View, R: Rules + ?Sized> Machine<'_, V, R> {
    fn run(&self, op: &Op) -> Applied<Effects, V> {
        match op {
            Op::Register { name, years } => self.register(name, *years),
            Op::Renew { name, years } => self.renew(name, *years),
            Op::Transfer { name, to } => self.transfer(name, *to),
            Op::Release { name } => self.release(name),
            Op::PutRecords { name, rrsets } => self.put_records(name, rrsets),
            Op::DeleteRecords { name, keys } => self.delete_records(name, keys),
            Op::DeployContract { wasm } => self.deploy(wasm),
            Op::BindContract { name, contract, parameters } => self.bind(name, *contract, parameters),
            Op::GrantMana { to, level, amount } => self.grant(*to, *level, *amount),
        }
    }

    fn register(&self, name: &Name, years: u32) -> Applied<Effects, V> {
        self.check_registrable(name)?;
        let expires = self.lease(self.at.time, years)?;
        let mut changes = Vec::new();
        if let Some(entry) = self.read(self.view.name(name))? {
            if entry.is_live(self.at.time) {
                return Err(Rejection::Taken(name.clone()).into());
            }
            if self.at.time < entry.free_at() {
                return Err(Rejection::InGrace { name: name.clone(), until: entry.free_at() }.into());
            }
            // What the last owner left must not answer for the next one.
            changes = self.drop_all(name)?;
        }
        let entry = NameEntry {
            owner: self.author,
            registered: self.at.time,
            expires,
            contract: None,
            parameters: Vec::new(),
            changed: self.at.seq,
            rrsets: 0,
        };
        changes.push(Change::PutName(name.clone(), entry));
        Ok(touching(name, changes))
    }

    fn renew(&self, name: &Name, years: u32) -> Applied<Effects, V> {
        let entry = self.owned(name)?;
        if self.at.time >= entry.free_at() {
            return Err(Rejection::UnknownName(name.clone()).into());
        }
        let expires = self.lease(entry.expires, years)?;
        Ok(self.rewritten(name, NameEntry { expires, ..entry }, Vec::new()))
    }

    fn transfer(&self, name: &Name, to: SigilId) -> Applied<Effects, V> {
        let entry = self.live(name)?;
        if to.key().is_none() {
            return Err(Rejection::BadNewOwner.into());
        }
        // The old key's signatures prove nothing for the new owner; the data itself goes along, the old key not.
        let mut changes = Vec::new();
        let mut rrsets = entry.rrsets;
        for rrset in self.read(self.view.rrsets_below(name))? {
            if rrset.rtype == Rtype::DNSKEY {
                changes.push(Change::DropRrset(RrsetKey { owner: rrset.owner, rtype: rrset.rtype }));
                rrsets -= 1;
            } else {
                changes.push(Change::PutRrset(Rrset { rrsigs: Vec::new(), ..rrset }));
            }
        }
        Ok(self.rewritten(name, NameEntry { owner: to, rrsets, ..entry }, changes))
    }

    fn release(&self, name: &Name) -> Applied<Effects, V> {
        self.owned(name)?;
        let mut changes = self.drop_all(name)?;
        changes.push(Change::DropName(name.clone()));
        Ok(touching(name, changes))
    }

    fn put_records(&self, name: &Name, rrsets: &[Rrset]) -> Applied<Effects, V> {
        let entry = self.live(name)?;
        if rrsets.is_empty() || rrsets.len() > MAX_PUT_RRSETS {
            return Err(Rejection::TooMany { what: "RRsets in one op (or none)", max: MAX_PUT_RRSETS }.into());
        }
        rrsets.iter().try_for_each(|rrset| check_form(name, rrset))?;
        rrsets.iter().filter(|rrset| rrset.rtype == Rtype::DNSKEY).try_for_each(|keys| self.check_keys(name, keys))?;
        let fresh = self.check_company(name, rrsets)?;
        let count = entry.rrsets + fresh;
        if count > MAX_RRSETS_PER_NAME {
            return Err(Rejection::TooMany { what: "RRsets of one name", max: MAX_RRSETS_PER_NAME as usize }.into());
        }
        let changes = rrsets.iter().cloned().map(Change::PutRrset).collect();
        Ok(self.rewritten(name, NameEntry { rrsets: count, ..entry }, changes))
    }

    /// A DNSKEY RRset stands at the name itself and holds its owner's key: the DS is made from that one.
    fn check_keys(&self, name: &Name, keys: &Rrset) -> Result<(), Rejection> {
        if keys.owner != *name {
            return Err(bad_record(keys, "stands at the registered name only (RFC 4034 section 2)"));
        }
        // An author whose op was verified has a key.
        let owner = self.author.key().map(|key| dnskey(FLAGS_OWNER, &key));
        if keys.rdata.iter().any(|key| owner.as_ref().is_some_and(|owner| **key == **owner)) {
            return Ok(());
        }
        Err(bad_record(keys, "must hold the owner's key with flags 257"))
    }

    /// Checks what will stand beside each other at every owner name the op writes to; gives the number of
    /// RRsets that were not there before.
    fn check_company(&self, apex: &Name, rrsets: &[Rrset]) -> Applied<u32, V> {
        let mut written: BTreeMap<&Name, BTreeSet<Rtype>> = BTreeMap::new();
        for rrset in rrsets {
            if !written.entry(&rrset.owner).or_default().insert(rrset.rtype) {
                return Err(bad_record(rrset, "stands twice in the op").into());
            }
        }
        let mut fresh = 0;
        for (owner, mut types) in written {
            let stored: BTreeSet<Rtype> = self.read(self.view.types_at(owner))?.into_iter().collect();
            fresh += types.difference(&stored).count() as u32;
            types.extend(stored);
            check_types(apex, owner, &types)?;
        }
        Ok(fresh)
    }

    fn delete_records(&self, name: &Name, keys: &[RrsetKey]) -> Applied<Effects, V> {
        let entry = self.live(name)?;
        if keys.is_empty() || keys.len() > MAX_PUT_RRSETS {
            return Err(Rejection::TooMany { what: "RRsets in one op (or none)", max: MAX_PUT_RRSETS }.into());
        }
        let mut gone = BTreeSet::new();
        for RrsetKey { owner, rtype } in keys {
            let outside = || Rejection::OutsideName { owner: owner.clone(), name: name.clone() };
            owner.is_at_or_below(name).then_some(()).ok_or_else(outside)?;
            let missing = || Rejection::UnknownRecord { owner: owner.clone(), rtype: *rtype };
            let stored = self.read(self.view.rrset(owner, *rtype))?.is_some();
            (stored && gone.insert((owner, *rtype))).then_some(()).ok_or_else(missing)?;
        }
        let changes = keys.iter().cloned().map(Change::DropRrset).collect();
        let rrsets = entry.rrsets.saturating_sub(keys.len() as u32);
        Ok(self.rewritten(name, NameEntry { rrsets, ..entry }, changes))
    }

    fn deploy(&self, wasm: &[u8]) -> Applied<Effects, V> {
        if wasm.is_empty() || wasm.len() > MAX_CONTRACT {
            return Err(Rejection::ContractInvalid(format!("must have 1 to {MAX_CONTRACT} octets")).into());
        }
        let hash = CodeHash::of(wasm);
        if self.read(self.view.has_contract(&hash))? {
            return Err(Rejection::ContractExists(hash.to_string()).into());
        }
        Ok(Effects { changes: vec![Change::PutContract(hash, wasm.to_vec())], touched: Vec::new() })
    }

    fn bind(&self, name: &Name, contract: Option<CodeHash>, parameters: &[u8]) -> Applied<Effects, V> {
        let entry = self.live(name)?;
        if parameters.len() > MAX_PARAMETERS {
            return Err(Rejection::ParametersTooLong { max: MAX_PARAMETERS }.into());
        }
        if let Some(hash) = contract
            && !self.read(self.view.has_contract(&hash))?
        {
            return Err(Rejection::UnknownContract(hash.to_string()).into());
        }
        Ok(self.rewritten(name, NameEntry { contract, parameters: parameters.to_vec(), ..entry }, Vec::new()))
    }

    fn grant(&self, to: SigilId, level: u8, amount: u64) -> Applied<Effects, V> {
        if self.author != self.rules.operator() {
            return Err(Rejection::NotOperator.into());
        }
        if level > MAX_LEVEL {
            return Err(Rejection::Level { max: MAX_LEVEL }.into());
        }
        let account = self.read(self.view.account(&to))?.granted(self.at.time, level, amount);
        Ok(Effects { changes: vec![Change::PutAccount(to, account)], touched: Vec::new() })
    }

    fn check_registrable(&self, name: &Name) -> Applied<(), V> {
        let tld = name.parent().filter(|tld| self.rules.is_tld(tld));
        let (Some(tld), Some(label)) = (tld, name.first_label()) else {
            return Err(Rejection::NotRegistrable(name.clone()).into());
        };
        Ok(self.rules.check_label(&tld, label).map_err(Rejection::LabelRefused)?)
    }

    /// The end of a lease that begins at `from`, at most `MAX_TERM_YEARS` from now.
    fn lease(&self, from: u64, years: u32) -> Applied<u64, V> {
        let longest = self.at.time + u64::from(MAX_TERM_YEARS) * YEAR;
        let expires = from.saturating_add(u64::from(years).saturating_mul(YEAR));
        if years == 0 || expires > longest {
            return Err(Rejection::Term { max: MAX_TERM_YEARS }.into());
        }
        Ok(expires)
    }

    fn owned(&self, name: &Name) -> Applied<NameEntry, V> {
        let entry = self.read(self.view.name(name))?.ok_or_else(|| Rejection::UnknownName(name.clone()))?;
        if entry.owner == self.author { Ok(entry) } else { Err(Rejection::NotOwner(name.clone()).into()) }
    }

    fn live(&self, name: &Name) -> Applied<NameEntry, V> {
        let entry = self.owned(name)?;
        if entry.is_live(self.at.time) { Ok(entry) } else { Err(Rejection::NameExpired(name.clone()).into()) }
    }

    fn drop_all(&self, name: &Name) -> Applied<Vec<Change>, V> {
        let rrsets = self.read(self.view.rrsets_below(name))?;
        let keys = rrsets.into_iter().map(|rrset| RrsetKey { owner: rrset.owner, rtype: rrset.rtype });
        Ok(keys.map(Change::DropRrset).collect())
    }

    fn rewritten(&self, name: &Name, entry: NameEntry, mut changes: Vec<Change>) -> Effects {
        changes.push(Change::PutName(name.clone(), NameEntry { changed: self.at.seq, ..entry }));
        touching(name, changes)
    }

    fn read<T>(&self, read: Result<T, V::Fault>) -> Applied<T, V> {
        read.map_err(ApplyError::Fault)
    }
}

fn touching(name: &Name, changes: Vec<Change>) -> Effects {
    Effects { changes, touched: vec![name.clone()] }
}

/// Types that the gateway or the signer makes, not the owner.
const NOT_FOR_OWNERS: [Rtype; 9] = [
    Rtype::SOA,
    Rtype::RRSIG,
    Rtype::NSEC,
    Rtype::NSEC3,
    Rtype::NSEC3PARAM,
    Rtype::CDS,
    Rtype::CDNSKEY,
    Rtype::SIG,
    Rtype::ZONEMD,
];

fn check_form(name: &Name, rrset: &Rrset) -> Result<(), Rejection> {
    if !rrset.owner.is_at_or_below(name) {
        return Err(Rejection::OutsideName { owner: rrset.owner.clone(), name: name.clone() });
    }
    if rrset.rtype.is_meta() || NOT_FOR_OWNERS.contains(&rrset.rtype) {
        return Err(Rejection::TypeRefused(rrset.rtype));
    }
    if rrset.ttl > MAX_TTL {
        return Err(bad_record(rrset, &format!("TTL is more than {MAX_TTL} s")));
    }
    if rrset.rdata.len() > MAX_RRSET_RECORDS || rrset.bytes() > MAX_RRSET_BYTES {
        let reason = format!("more than {MAX_RRSET_RECORDS} records or {MAX_RRSET_BYTES} octets in one RRset");
        return Err(bad_record(rrset, &reason));
    }
    let singleton = rrset.rtype == Rtype::CNAME || rrset.rtype == Rtype::DNAME;
    if singleton && rrset.rdata.len() > 1 {
        return Err(bad_record(rrset, "only one such record can stand at an owner"));
    }
    Ok(())
}

/// What may stand together at one owner name (RFC 2181 §10.1, RFC 1034 §4.2.1, RFC 6672 §2.4).
fn check_types(apex: &Name, owner: &Name, types: &BTreeSet<Rtype>) -> Result<(), Rejection> {
    // The name's own keys stand beside an alias of the whole name, as its SOA and NS do.
    let at_apex = |rtype: &Rtype| *rtype == Rtype::DNSKEY && owner == apex;
    if types.contains(&Rtype::CNAME) && types.iter().any(|rtype| *rtype != Rtype::CNAME && !at_apex(rtype)) {
        return Err(Rejection::CnameAndOther { owner: owner.clone() });
    }
    if types.contains(&Rtype::NS) {
        // Below the apex, addresses may be glue: a name server named as the cut itself.
        let beside: &[Rtype] = if owner == apex { &[] } else { &[Rtype::A, Rtype::AAAA] };
        let fits = |rtype: &Rtype| [Rtype::NS, Rtype::DS].contains(rtype) || beside.contains(rtype);
        let occluded = || Rejection::Occluded { owner: owner.clone() };
        return types.iter().all(fits).then_some(()).ok_or_else(occluded);
    }
    if types.contains(&Rtype::DS) {
        let reason = "DS needs an NS record set at the same owner (RFC 4034 section 5)".to_owned();
        return Err(Rejection::BadRecord { owner: owner.clone(), rtype: Rtype::DS, reason });
    }
    Ok(())
}

fn bad_record(rrset: &Rrset, reason: &str) -> Rejection {
    Rejection::BadRecord { owner: rrset.owner.clone(), rtype: rrset.rtype, reason: reason.to_owned() }
}
