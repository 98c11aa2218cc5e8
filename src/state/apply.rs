//! The op state machine: pure and total.

mod council;
mod covenants;
mod gas;
mod ledger;
mod life;
mod permit;
mod recovery;
mod update;

pub use life::renewable;
pub use permit::{Party, Standing, party};

use std::collections::{BTreeMap, BTreeSet};

use council::{Council, Payer};
use ledger::Issue;
use permit::{Asker, Permit};

use super::guardians::Guard;
use super::ledger::Hold;
use super::life::{FeeFor, Terms};
use super::load::{self, Load};
use super::{At, Change, Effects, MAX_LEVEL, NameEntry, Rules, View, Work};
use crate::dnssec::{FLAGS_OWNER, PublicKey, Rrsig, ds, ds_set, is_strict};
use crate::limits::{MAX_CONTRACT, MAX_PARAMETERS, MAX_PUT_RRSETS, MAX_RRSET_BYTES, MAX_RRSET_RECORDS, MAX_TTL, YEAR};
use crate::op::{Action, CodeHash, DnskeyRdata, Identity, LoadPolicy, Op, Rejection, RrsetKey, SigilId, VerifiedOp};
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
    if let Some((request, label)) = update::update_of(op.op()) {
        let author = op.author().sigil().ok_or(Rejection::SigilsOnly)?;
        return Machine { view, rules, at, author, signed: Some(op) }.update(op, request, label);
    }
    let mut payer = Payer::read(view, op.author())?;
    let expected = payer.account().next_nonce;
    if op.nonce() != expected {
        return Err(Rejection::Nonce { expected, got: op.nonce() }.into());
    }
    let mut effects = match op.author() {
        Identity::Sigil(author) => Machine { view, rules, at, author, signed: Some(op) }.run(op.op())?,
        Identity::Set(set) => Council { view, rules, at, op }.act(set)?,
    };
    covenants::recount(view, &mut effects.changes).map_err(ApplyError::Fault)?;
    let tld = op.op().name().and_then(Name::parent);
    let work = Work { bytes: op.bytes().len(), rrsigs: op.op().rrsigs() };
    let base = rules.price(tld.as_ref(), op.op().kind(), work);
    let load = view.load().map_err(ApplyError::Fault)?.at(at.time);
    let gives_back = matches!(op.op(), Op::DeleteRecords { .. } | Op::Release { .. });
    let rate = tld.as_ref().filter(|_| gives_back).map(|tld| rules.rate(tld));
    let freed = rate.map_or(Ok(0), |rate| freed(view, &effects.changes, rate)).map_err(ApplyError::Fault)?;
    payer.follow(&effects);
    let account = payer.account().pay(at.time, load.price(base))?;
    let mut account = account.refunded(at.time, freed);
    account.next_nonce = account.next_nonce.saturating_add(1);
    effects.changes.push(payer.paid(account));
    if base > 0 {
        effects.changes.push(Change::PutLoad(load.with(base)));
    }
    // The history of a name has every op that is about it.
    if let Some(name) = op.op().name().filter(|name| !effects.touched.contains(name)) {
        effects.touched.push(name.clone());
    }
    Ok(effects)
}

/// Mana for the RRsets that the changes drop: every whole KiB of them at the rate at which it was stored, or at `rate`,
/// that of now, where that is lower or the row does not say. Never more than was paid: each KiB begun was.
fn freed<V: View>(view: &V, changes: &[Change], rate: u64) -> Result<u64, V::Fault> {
    let mut octets: BTreeMap<u64, usize> = BTreeMap::new();
    for change in changes {
        if let Change::DropRrset(key) = change
            && let Some(rrset) = view.rrset(&key.owner, key.rtype)?
        {
            let paid = view.rate(&key.owner, key.rtype)?.unwrap_or(rate);
            *octets.entry(paid.min(rate)).or_default() += rrset.bytes();
        }
    }
    let mana = |(rate, octets): (&u64, &usize)| rate.saturating_mul(*octets as u64 / 1_024);
    Ok(octets.iter().map(mana).fold(0, u64::saturating_add))
}

struct Machine<'a, V, R: ?Sized> {
    view: &'a V,
    rules: &'a R,
    at: At,
    author: SigilId,
    /// The op as it was signed: by the author, and maybe by others. None where nobody has signed anything yet.
    signed: Option<&'a VerifiedOp>,
}

impl<'a, V: View, R: Rules + ?Sized> Machine<'a, V, R> {
    fn run(&self, op: &Op) -> Applied<Effects, V> {
        match op {
            Op::Register { name, years } => self.register_openly(name, *years),
            Op::Renew { name, years } => self.renew(name, *years),
            Op::Transfer { name, to } => self.transfer(name, *to),
            Op::Release { name } => self.release(name),
            Op::PutRecords { name, rrsets, keys } => self.put_records(name, rrsets, keys.as_deref()),
            Op::DeleteRecords { name, keys } => self.delete_records(name, keys),
            Op::DeployContract { wasm } => self.deploy(wasm),
            Op::BindContract { name, contract, parameters } => self.bind(name, *contract, parameters),
            Op::GrantMana { to, level, amount } => self.grant(*to, *level, *amount),
            Op::CreateToken { token, decimals, initial, cap, transferable, mint, burn } => self.create_token(Issue {
                token: *token,
                decimals: *decimals,
                initial: *initial,
                cap: *cap,
                transferable: *transferable,
                mint: *mint,
                burn: *burn,
            }),
            Op::SetAuthority { token, issuer, mint, burn } => self.set_authority(*token, *issuer, *mint, *burn),
            Op::Mint { token, to, amount } => self.mint(*token, *to, *amount),
            Op::Burn { token, amount } => self.burn(*token, *amount),
            Op::Pay { token, to, amount, memo } => self.pay(*token, *to, *amount, memo),
            Op::Hold { token, to, amount, until, memo } => {
                self.hold(Hold { token: *token, from: self.author, to: *to, amount: *amount, until: *until }, memo)
            }
            Op::CloseHold { hold, amount } => self.close_hold(*hold, *amount),
            Op::SetGas { policy, gateways } => self.set_gas(*policy, gateways),
            Op::SettleGas { epoch, uses } => self.settle_gas(*epoch, uses),
            Op::BindCovenants { name, covenants } => self.bind_covenants(name, covenants),
            Op::SetLoad { policy } => self.set_load(*policy),
            Op::RequireCosign { name, set, scopes } => self.require_cosign(name, *set, scopes),
            Op::SetRecovery { name, set, delay } => self.set_recovery(name, *set, *delay),
            Op::VetoRecovery { name } => self.veto_recovery(name),
            Op::FinishRecovery { name } => self.finish_recovery(name),
            Op::PutSet { .. }
            | Op::SetAttestor { .. }
            | Op::Attest { .. }
            | Op::RevokeAttestation { .. }
            | Op::StartRecovery { .. }
            | Op::Freeze { .. } => self.council().run(),
            Op::IssueUpdateKey { name, label, scopes, expires, mana } => {
                self.issue_update_key(name, label, scopes, *expires, *mana)
            }
            Op::RevokeUpdateKey { name, label } => self.revoke_update_key(name, label),
            // Taken by `apply` before: they have no nonce, and whose account pays is another matter.
            Op::Update { .. } | Op::UpdateByKey { .. } => Err(Rejection::Malformed.into()),
            Op::Commit { hash } => self.commit(*hash),
            Op::Reveal { name, years, secret } => self.reveal(name, *years, secret),
            Op::Restore { name, years } => self.restore(name, *years),
            Op::SetAutoRenew { name, plan } => self.set_auto_renew(name, *plan),
            Op::RenewDue { names } => self.renew_due(names),
            Op::Offer { name, to, price, until } => self.offer(name, *to, *price, *until),
            Op::Accept { name, offer } => self.accept(name, *offer),
            Op::Withdraw { name } => self.withdraw(name),
            Op::Lock { name, delay } => self.lock(name, *delay),
            Op::Unlock { name } => self.unlock(name),
        }
    }

    fn signed(&self) -> &'a VerifiedOp {
        // Only `renewable` comes without an op, and it asks for no rule that depends on who signed.
        self.signed.expect("an op is applied")
    }

    fn set_load(&self, policy: LoadPolicy) -> Applied<Effects, V> {
        if self.author != self.rules.operator() {
            return Err(Rejection::NotOperator.into());
        }
        load::check_policy(&policy).map_err(Rejection::BadLoad)?;
        // A new policy begins anew: the window may be another.
        let factor = self.read(self.view.load())?.at(self.at.time).factor.clamp(load::PLAIN, policy.highest);
        let window = self.at.time - self.at.time % policy.window;
        let changes = vec![Change::PutLoad(Load { policy, window, factor, used: 0 })];
        Ok(Effects { changes, ..Effects::default() })
    }

    fn register(&self, name: &Name, years: u32) -> Applied<Effects, V> {
        self.check_registrable(name)?;
        let terms = self.terms(name);
        let expires = self.lease(&terms, self.at.time, years)?;
        let permit = self.permit(name)?;
        let mut changes = permit.clear(self.view)?;
        let begun = permit.entry().clone();
        changes.push(permit.rewrite(NameEntry { expires, grace: terms.grace, redemption: terms.redemption, ..begun }));
        let paid = self.pay_fees(name, &[(FeeFor::Register, years)])?;
        Ok(touching(name, changes).and(paid))
    }

    fn transfer(&self, name: &Name, to: SigilId) -> Applied<Effects, V> {
        let permit = self.permit(name)?;
        if to.key().is_none() {
            return Err(Rejection::BadNewOwner.into());
        }
        if self.terms(name).accept {
            return Err(Rejection::NeedsAcceptance(name.clone()).into());
        }
        let paid = self.pay_fees(name, &[(FeeFor::Transfer, 1)])?;
        // Whom the old owner trusts, the new one need not.
        Ok(permit.hand_over(self.view, Guard::default(), to)?.and(paid))
    }

    fn release(&self, name: &Name) -> Applied<Effects, V> {
        self.permit(name)?.release(self.view)
    }

    fn put_records(&self, name: &Name, rrsets: &[Rrset], keys: Option<&[DnskeyRdata]>) -> Applied<Effects, V> {
        let permit = self.permit(name)?;
        if rrsets.is_empty() || rrsets.len() > MAX_PUT_RRSETS {
            return Err(Rejection::TooMany { what: "RRsets in one op (or none)", max: MAX_PUT_RRSETS }.into());
        }
        rrsets.iter().try_for_each(|rrset| check_form(name, rrset))?;
        let fresh = self.check_company(name, rrsets, &[])?;
        let apex = After { machine: self, name, put: rrsets, dropped: &[] };
        if rrsets.iter().any(|rrset| !rrset.rrsigs.is_empty()) {
            self.check_signers(&apex, keys)?;
        }
        if rrsets.iter().any(|rrset| rrset.owner == *name && says_which_keys(rrset.rtype)) {
            Apex::read(&apex)?.check(name, permit.entry())?;
            self.check_kept(&apex, rrsets)?;
        }
        permit.write(self, rrsets, &[], fresh)
    }

    /// Every key that made RRSIGs of the op is in the zone's DNSKEY RRset.
    fn check_signers(&self, apex: &After<'_, V, R>, zone_keys: Option<&[DnskeyRdata]>) -> Applied<(), V> {
        let held = match (apex.rrset(Rtype::DNSKEY)?, zone_keys) {
            (Some(keys), None) => keys.rdata.iter().any(|held| **held == *apex.sigil().dnskey()),
            (Some(keys), Some(signers)) => signers.iter().all(|key| keys.rdata.iter().any(|held| **held == *key.0)),
            // Not a signed zone: only the sigil is known to belong to it.
            (None, zone_keys) => zone_keys.is_none(),
        };
        let reason = || "does not hold the key that signed; sign with one that it holds (--zone-key)".to_owned();
        let bad = || Rejection::BadRecord { owner: apex.name.clone(), rtype: Rtype::DNSKEY, reason: reason() };
        Ok(held.then_some(()).ok_or_else(bad)?)
    }

    /// A key that leaves the DNSKEY RRset must not be the only one above an RRset that stays.
    fn check_kept(&self, apex: &After<'_, V, R>, rrsets: &[Rrset]) -> Applied<(), V> {
        let before = self.read(self.view.rrset(apex.name, Rtype::DNSKEY))?;
        let (Some(before), Some(after)) = (before, apex.rrset(Rtype::DNSKEY)?) else { return Ok(()) };
        if before.rdata.iter().all(|key| after.rdata.contains(key)) {
            return Ok(());
        }
        let left: Vec<PublicKey> = after.rdata.iter().filter_map(|key| PublicKey::from_dnskey(key)).collect();
        let put = |rrset: &Rrset| rrsets.iter().any(|put| put.owner == rrset.owner && put.rtype == rrset.rtype);
        for rrset in self.read(self.view.rrsets_below(apex.name))? {
            if !rrset.rrsigs.is_empty() && !put(&rrset) && !signed_by_any(&rrset, &left) {
                return Err(bad_record(&rrset, "is signed by the key that leaves the DNSKEY RRset only").into());
            }
        }
        Ok(())
    }

    /// Checks what will stand beside each other at every owner name the op writes to, once `dropped` is gone; gives the
    /// number of RRsets that were not there before.
    fn check_company(&self, apex: &Name, rrsets: &[Rrset], dropped: &[RrsetKey]) -> Applied<u32, V> {
        let mut written: BTreeMap<&Name, BTreeSet<Rtype>> = BTreeMap::new();
        for rrset in rrsets {
            if !written.entry(&rrset.owner).or_default().insert(rrset.rtype) {
                return Err(bad_record(rrset, "stands twice in the op").into());
            }
        }
        for key in dropped {
            written.entry(&key.owner).or_default();
        }
        let mut fresh = 0;
        for (owner, mut types) in written {
            let mut stored: BTreeSet<Rtype> = self.read(self.view.types_at(owner))?.into_iter().collect();
            fresh += types.difference(&stored).count() as u32;
            stored.retain(|rtype| !dropped.iter().any(|key| key.owner == *owner && key.rtype == *rtype));
            types.extend(stored);
            let own_ns = owner == apex && types.contains(&Rtype::NS) && self.ns_is_signed(apex, rrsets)?;
            check_types(apex, owner, &types, own_ns)?;
            self.check_redirected(apex, owner, rrsets)?;
        }
        self.check_redirects(rrsets)?;
        Ok(fresh)
    }

    /// Nothing stands below a DNAME (RFC 6672 §2.4): `owner` is below none.
    fn check_redirected(&self, apex: &Name, owner: &Name, rrsets: &[Rrset]) -> Applied<(), V> {
        let above = std::iter::successors(owner.parent(), Name::parent).take_while(|above| above.is_at_or_below(apex));
        for above in above {
            let put = rrsets.iter().any(|rrset| rrset.rtype == Rtype::DNAME && rrset.owner == above);
            if put || self.read(self.view.rrset(&above, Rtype::DNAME))?.is_some() {
                return Err(Rejection::Occluded { owner: owner.clone() }.into());
            }
        }
        Ok(())
    }

    /// Nothing is stored below the DNAMEs of an op.
    fn check_redirects(&self, rrsets: &[Rrset]) -> Applied<(), V> {
        for dname in rrsets.iter().filter(|rrset| rrset.rtype == Rtype::DNAME) {
            let below = self.read(self.view.rrsets_below(&dname.owner))?;
            if let Some(hidden) = below.into_iter().find(|rrset| rrset.owner != dname.owner) {
                return Err(Rejection::Occluded { owner: hidden.owner }.into());
            }
        }
        Ok(())
    }

    fn ns_is_signed(&self, apex: &Name, rrsets: &[Rrset]) -> Applied<bool, V> {
        let stored = self.read(self.view.rrset(apex, Rtype::NS))?;
        let put = rrsets.iter().find(|rrset| rrset.owner == *apex && rrset.rtype == Rtype::NS);
        Ok(put.or(stored.as_ref()).is_some_and(|ns| !ns.rrsigs.is_empty()))
    }

    fn delete_records(&self, name: &Name, keys: &[RrsetKey]) -> Applied<Effects, V> {
        let permit = self.permit(name)?;
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
        self.check_company(name, &[], keys)?;
        if keys.iter().any(|key| key.owner == *name && says_which_keys(key.rtype)) {
            let apex = After { machine: self, name, put: &[], dropped: keys };
            Apex::read(&apex)?.check(name, permit.entry())?;
        }
        permit.write(self, &[], keys, 0)
    }

    fn deploy(&self, wasm: &[u8]) -> Applied<Effects, V> {
        if wasm.is_empty() || wasm.len() > MAX_CONTRACT {
            return Err(Rejection::ContractInvalid(format!("must have 1 to {MAX_CONTRACT} octets")).into());
        }
        let hash = CodeHash::of(wasm);
        if self.read(self.view.has_contract(&hash))? {
            return Err(Rejection::ContractExists(hash.to_string()).into());
        }
        Ok(Effects { changes: vec![Change::PutContract(hash, wasm.to_vec())], ..Effects::default() })
    }

    fn bind(&self, name: &Name, contract: Option<CodeHash>, parameters: &[u8]) -> Applied<Effects, V> {
        let permit = self.permit(name)?;
        if parameters.len() > MAX_PARAMETERS {
            return Err(Rejection::ParametersTooLong { max: MAX_PARAMETERS }.into());
        }
        if let Some(hash) = contract
            && !self.read(self.view.has_contract(&hash))?
        {
            return Err(Rejection::UnknownContract(hash.to_string()).into());
        }
        let entry = permit.entry().clone();
        Ok(permit.rewritten(NameEntry { contract, parameters: parameters.to_vec(), ..entry }))
    }

    fn grant(&self, to: SigilId, level: u8, amount: u64) -> Applied<Effects, V> {
        if self.author != self.rules.operator() {
            return Err(Rejection::NotOperator.into());
        }
        if level > MAX_LEVEL {
            return Err(Rejection::Level { max: MAX_LEVEL }.into());
        }
        let account = self.read(self.view.account(&to))?;
        let mut changes = self.council().released(to.into(), &account)?;
        changes.push(Change::PutAccount(to, account.granted(self.at.time, level, amount)));
        Ok(Effects { changes, ..Effects::default() })
    }

    fn check_registrable(&self, name: &Name) -> Applied<(), V> {
        let tld = name.parent().filter(|tld| self.rules.is_tld(tld));
        let (Some(tld), Some(label)) = (tld, name.first_label()) else {
            return Err(Rejection::NotRegistrable(name.clone()).into());
        };
        Ok(self.rules.check_label(&tld, label).map_err(Rejection::LabelRefused)?)
    }

    /// The end of a lease that begins at `from`, at most `max_years` from now.
    fn lease(&self, terms: &Terms, from: u64, years: u32) -> Applied<u64, V> {
        let max = terms.max_years;
        let longest = self.at.time.saturating_add(u64::from(max) * YEAR);
        let expires = from.saturating_add(u64::from(years).saturating_mul(YEAR));
        if years == 0 || expires > longest {
            return Err(Rejection::Term { max }.into());
        }
        Ok(expires)
    }

    /// Leave for what the op does to a name.
    fn permit<'n>(&self, name: &'n Name) -> Applied<Permit<'n>, V> {
        self.permit_for(name, &self.signed().op().actions())
    }

    fn permit_for<'n>(&self, name: &'n Name, actions: &[Action]) -> Applied<Permit<'n>, V> {
        let Self { view, at, author, signed, .. } = *self;
        Asker { view, at, author: author.into(), signed }.permit(name, actions)
    }

    fn read<T>(&self, read: Result<T, V::Fault>) -> Applied<T, V> {
        read.map_err(ApplyError::Fault)
    }
}

fn touching(name: &Name, changes: Vec<Change>) -> Effects {
    Effects { changes, touched: vec![name.clone()], ..Effects::default() }
}

/// What stands at a name itself, as an op will leave it.
struct After<'a, V, R: ?Sized> {
    machine: &'a Machine<'a, V, R>,
    name: &'a Name,
    put: &'a [Rrset],
    dropped: &'a [RrsetKey],
}

impl<V: View, R: Rules + ?Sized> After<'_, V, R> {
    fn rrset(&self, rtype: Rtype) -> Applied<Option<Rrset>, V> {
        if let Some(rrset) = self.put.iter().find(|rrset| rrset.owner == *self.name && rrset.rtype == rtype) {
            return Ok(Some(rrset.clone()));
        }
        if self.dropped.iter().any(|key| key.owner == *self.name && key.rtype == rtype) {
            return Ok(None);
        }
        self.machine.read(self.machine.view.rrset(self.name, rtype))
    }

    fn sigil(&self) -> PublicKey {
        // An author whose op was verified has a key.
        PublicKey::of_sigil(&self.machine.author.key().expect("a verified author"))
    }
}

/// True for the types at a name itself that decide which keys are its zone's.
fn says_which_keys(rtype: Rtype) -> bool {
    OF_THE_KEYS.contains(&rtype) || rtype == Rtype::NS
}

/// The RRsets that say which keys are a name's.
struct Apex {
    dnskey: Option<Rrset>,
    cds: Option<Rrset>,
    cdnskey: Option<Rrset>,
    ns: Option<Rrset>,
    /// SOA and NSEC are there: what a strict name must have.
    ahead: bool,
    sigil: PublicKey,
}

impl Apex {
    fn read<V: View, R: Rules + ?Sized>(after: &After<'_, V, R>) -> Applied<Self, V> {
        Ok(Self {
            dnskey: after.rrset(Rtype::DNSKEY)?,
            cds: after.rrset(Rtype::CDS)?,
            cdnskey: after.rrset(Rtype::CDNSKEY)?,
            ns: after.rrset(Rtype::NS)?,
            ahead: after.rrset(Rtype::SOA)?.is_some() && after.rrset(Rtype::NSEC)?.is_some(),
            sigil: after.sigil(),
        })
    }

    fn check(&self, name: &Name, entry: &NameEntry) -> Result<(), Rejection> {
        let bad = |rtype, reason: &str| Err(Rejection::BadRecord { owner: name.clone(), rtype, reason: reason.into() });
        let Some(keys) = &self.dnskey else {
            return match (&self.cds, &self.cdnskey, &self.ns) {
                (Some(_), ..) | (_, Some(_), _) => bad(Rtype::DNSKEY, "CDS and CDNSKEY need the keys that they name"),
                (.., Some(ns)) if !ns.rrsigs.is_empty() => bad(Rtype::NS, "signed, it needs a DNSKEY RRset beside it"),
                _ => Ok(()),
            };
        };
        let owners = |key: &&PublicKey| key.flags() == FLAGS_OWNER;
        let listed: Vec<PublicKey> = keys.rdata.iter().filter_map(|key| PublicKey::from_dnskey(key)).collect();
        let wanted = ds_set(name, self.cds.as_ref(), self.cdnskey.as_ref(), &self.sigil);
        let named = |ds_data: &Vec<u8>| listed.iter().filter(owners).find(|key| ds(name, key.dnskey()) == *ds_data);
        let Some(vouched) = wanted.iter().map(named).collect::<Option<Vec<_>>>() else {
            return bad(
                Rtype::DNSKEY,
                "must hold every key that the DS is made for: those of CDS (SHA-256) and CDNSKEY, else the sigil's, \
                 flags 257",
            );
        };
        let same = |cdnskey: &Rrset| {
            let held = |key: &[u8]| vouched.iter().any(|vouched| vouched.dnskey() == key);
            cdnskey.rdata.len() == vouched.len() && cdnskey.rdata.iter().all(|key| held(key))
        };
        if !self.cdnskey.as_ref().is_none_or(same) {
            return bad(Rtype::CDNSKEY, "must name the same keys as CDS (RFC 7344 section 4)");
        }
        if !vouched.iter().all(|key| signed_by_any(keys, std::slice::from_ref(*key))) {
            return bad(Rtype::DNSKEY, "must be signed by every key that the DS is made for");
        }
        if self.ns.as_ref().is_some_and(|ns| ns.rrsigs.is_empty()) {
            return Err(Rejection::Occluded { owner: name.clone() });
        }
        if is_strict(keys) && !self.ahead {
            return bad(Rtype::DNSKEY, "without an online key the zone needs an SOA and an NSEC chain of its own");
        }
        if is_strict(keys) && entry.contract.is_some() {
            return Err(Rejection::Strict(name.clone()));
        }
        Ok(())
    }
}

/// True if an RRSIG of the RRset says that one of the keys made it.
fn signed_by_any(rrset: &Rrset, keys: &[PublicKey]) -> bool {
    let made = |rrsig: &Rrsig| keys.iter().any(|key| (key.tag(), key.algorithm()) == (rrsig.key_tag, rrsig.algorithm));
    rrset.rrsigs.iter().filter_map(|rrsig| Rrsig::parse(rrsig).ok()).any(|rrsig| made(&rrsig))
}

/// Types that say something about the keys, or that a strict owner made with them.
const OF_THE_KEYS: [Rtype; 5] = [Rtype::DNSKEY, Rtype::CDS, Rtype::CDNSKEY, Rtype::SOA, Rtype::NSEC];

/// Types that stand at the registered name and nowhere else.
const AT_THE_NAME: [Rtype; 4] = [Rtype::DNSKEY, Rtype::CDS, Rtype::CDNSKEY, Rtype::SOA];

/// Types that the gateway or the signer makes, not the owner.
const NOT_FOR_OWNERS: [Rtype; 5] = [Rtype::RRSIG, Rtype::NSEC3, Rtype::NSEC3PARAM, Rtype::SIG, Rtype::ZONEMD];

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
    if [Rtype::NS, Rtype::DNAME].contains(&rrset.rtype) && rrset.owner.first_label() == Some(b"*") {
        return Err(bad_record(rrset, "cannot stand at a wildcard (RFC 4592 section 4)"));
    }
    if AT_THE_NAME.contains(&rrset.rtype) && rrset.owner != *name {
        return Err(bad_record(rrset, "stands at the registered name only"));
    }
    let singletons = [Rtype::CNAME, Rtype::DNAME, Rtype::SOA, Rtype::NSEC];
    if singletons.contains(&rrset.rtype) && rrset.rdata.len() > 1 {
        return Err(bad_record(rrset, "only one such record can stand at an owner"));
    }
    Ok(())
}

/// What may stand together at one owner name (RFC 2181 §10.1, RFC 1034 §4.2.1, RFC 6672 §2.4).
///
/// `own_ns`: the NS RRset is the name's own, not a delegation of it.
fn check_types(apex: &Name, owner: &Name, types: &BTreeSet<Rtype>, own_ns: bool) -> Result<(), Rejection> {
    // The name's own keys stand beside an alias of the whole name, as its SOA and NS do; an NSEC beside anything.
    let of_zone = |rtype: &Rtype| owner == apex && (OF_THE_KEYS.contains(rtype) || (*rtype == Rtype::NS && own_ns));
    let fits = |rtype: &Rtype| [Rtype::CNAME, Rtype::NSEC].contains(rtype) || of_zone(rtype);
    if types.contains(&Rtype::CNAME) && !types.iter().all(fits) {
        return Err(Rejection::CnameAndOther { owner: owner.clone() });
    }
    if types.contains(&Rtype::NS) && !own_ns {
        // Below the apex, addresses may be glue: a name server named as the cut itself.
        let beside: &[Rtype] = if owner == apex { &[] } else { &[Rtype::A, Rtype::AAAA] };
        let fits = |rtype: &Rtype| [Rtype::NS, Rtype::DS, Rtype::NSEC].contains(rtype) || beside.contains(rtype);
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
