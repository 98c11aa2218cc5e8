//! Ops about the life of names.

use std::collections::BTreeMap;

use super::ledger::{Book, positive};
use super::{After, Applied, ApplyError, Machine};
use crate::dnssec::FLAGS_OWNER;
use crate::limits::{COMMIT_MAX, MAX_COMMITMENTS, MAX_OFFER, MAX_RENEWALS, MAX_UNLOCK_DELAY};
use crate::op::{AutoRenew, OpKind, Price, Rejection, SigilId};
use crate::state::ledger::Why;
use crate::state::life::{Commitment, FeeFor, Lock, NameLife, Offer, Phase, Terms, commitment, due_at};
use crate::state::{Account, At, Change, Effects, NameEntry, Rules, View, Work};
use crate::wire::{Name, Rrset, Rtype};

/// Whether [`crate::op::Op::RenewDue`] would renew `name` at `at`.
///
/// # Errors
/// Why it would be passed over, or the store failed.
pub fn renewable<V: View, R: Rules + ?Sized>(
    view: &V,
    rules: &R,
    at: At,
    name: &Name,
) -> Result<(), ApplyError<V::Fault>> {
    // Who asks makes no difference.
    let machine = Machine { view, rules, at, author: rules.operator(), signed: None };
    machine.renewal(&Book::new(&machine), &BTreeMap::new(), name).map(drop)
}

/// What a renewal by plan comes to.
struct Renewal {
    entry: NameEntry,
    fee: Option<Price>,
    /// The owner's, its mana paid.
    account: Account,
}

impl<V: View, R: Rules + ?Sized> Machine<'_, V, R> {
    pub(super) fn terms(&self, name: &Name) -> Terms {
        name.parent().map_or_else(Terms::default, |tld| self.rules.terms(&tld))
    }

    pub(super) fn register_openly(&self, name: &Name, years: u32) -> Applied<Effects, V> {
        if self.terms(name).commit {
            return Err(Rejection::CommitFirst(name.clone()).into());
        }
        self.register(name, years)
    }

    pub(super) fn commit(&self, hash: [u8; 32]) -> Applied<Effects, V> {
        let mut open = self.open_commitments()?;
        open.retain(|commitment| commitment.hash != hash);
        if open.len() >= MAX_COMMITMENTS {
            return Err(Rejection::TooMany { what: "open commitments of one sigil", max: MAX_COMMITMENTS }.into());
        }
        open.push(Commitment { hash, made: self.at.time });
        Ok(Effects { changes: vec![Change::PutCommitments(self.author, open)], ..Effects::default() })
    }

    /// Whoever sees a reveal on its way learns the name too late: a commitment of their own would be younger than
    /// `commit_min` when this op is applied.
    pub(super) fn reveal(&self, name: &Name, years: u32, secret: &[u8; 32]) -> Applied<Effects, V> {
        let Terms { commit_min: min, commit_max: max, .. } = self.terms(name);
        let hash = commitment(name, &self.author, secret);
        let mut open = self.open_commitments()?;
        let found = open.iter().position(|commitment| commitment.hash == hash);
        let made = open.remove(found.ok_or_else(|| Rejection::NoCommitment(name.clone()))?).made;
        let age = self.at.time.saturating_sub(made);
        if !(min..=max).contains(&age) {
            return Err(Rejection::CommitmentAge { age, min, max }.into());
        }
        let mut effects = self.register(name, years)?;
        effects.changes.push(Change::PutCommitments(self.author, open));
        Ok(effects)
    }

    /// The author's, without those that no policy lets anyone reveal any more.
    fn open_commitments(&self) -> Applied<Vec<Commitment>, V> {
        let mut open = self.read(self.view.commitments(&self.author))?;
        open.retain(|commitment| self.at.time.saturating_sub(commitment.made) <= COMMIT_MAX);
        Ok(open)
    }

    pub(super) fn renew(&self, name: &Name, years: u32) -> Applied<Effects, V> {
        let entry = self.owned(name)?;
        self.check_renewable(name, &entry)?;
        let paid = self.pay_fees(name, &[(FeeFor::Renew, years)])?;
        Ok(self.rewritten(name, self.extended(name, entry, years)?, Vec::new()).and(paid))
    }

    pub(super) fn restore(&self, name: &Name, years: u32) -> Applied<Effects, V> {
        let entry = self.owned(name)?;
        match entry.phase(self.at.time) {
            Phase::Live | Phase::Grace => return Err(Rejection::NotInRedemption(name.clone()).into()),
            Phase::Free => return Err(Rejection::UnknownName(name.clone()).into()),
            Phase::Redemption => {}
        }
        let paid = self.pay_fees(name, &[(FeeFor::Restore, 1), (FeeFor::Renew, years)])?;
        Ok(self.rewritten(name, self.extended(name, entry, years)?, Vec::new()).and(paid))
    }

    fn check_renewable(&self, name: &Name, entry: &NameEntry) -> Result<(), Rejection> {
        match entry.phase(self.at.time) {
            Phase::Live | Phase::Grace => Ok(()),
            Phase::Redemption => Err(Rejection::InRedemption { name: name.clone(), until: entry.free_at() }),
            Phase::Free => Err(Rejection::UnknownName(name.clone())),
        }
    }

    /// With a lease of so many more years, on the terms that the TLD gives now.
    fn extended(&self, name: &Name, entry: NameEntry, years: u32) -> Applied<NameEntry, V> {
        let terms = self.terms(name);
        let expires = self.lease(&terms, entry.expires, years)?;
        Ok(NameEntry { expires, grace: terms.grace, redemption: terms.redemption, ..entry })
    }

    pub(super) fn set_auto_renew(&self, name: &Name, plan: Option<AutoRenew>) -> Applied<Effects, V> {
        let entry = self.owned(name)?;
        self.check_renewable(name, &entry)?;
        if let Some(AutoRenew { years, most }) = plan {
            let max = self.terms(name).max_years;
            if years == 0 || years > max {
                return Err(Rejection::Term { max }.into());
            }
            if let Some(most) = most {
                self.check_price(most)?;
            }
        }
        let life = self.read(self.view.name_life(name))?;
        Ok(self.arranged(name, NameLife { auto: plan, ..life }))
    }

    /// Renews what is due and can be paid. What is not is passed over: its owner must not keep others from being renewed.
    pub(super) fn renew_due(&self, names: &[Name]) -> Applied<Effects, V> {
        if !self.read(self.view.gas())?.gateways.contains(&self.author) {
            return Err(Rejection::NotGateway.into());
        }
        if names.is_empty() || names.len() > MAX_RENEWALS {
            return Err(Rejection::TooMany { what: "names to renew in one op (or none)", max: MAX_RENEWALS }.into());
        }
        if !names.windows(2).all(|pair| pair[0] < pair[1]) {
            return Err(Rejection::NothingDue.into());
        }
        let (mut book, mut accounts, mut touched) = (Book::new(self), BTreeMap::new(), Vec::new());
        for name in names {
            let Renewal { entry, fee, account } = match self.renewal(&book, &accounts, name) {
                Ok(renewal) => renewal,
                Err(ApplyError::Rejected(_)) => continue,
                Err(fault) => return Err(fault),
            };
            if let Some(fee) = fee {
                self.pay_operator(&mut book, entry.owner, fee)?;
            }
            accounts.insert(entry.owner, account);
            book.changes.push(Change::PutName(name.clone(), NameEntry { changed: self.at.seq, ..entry }));
            touched.push(name.clone());
        }
        if touched.is_empty() {
            return Err(Rejection::NothingDue.into());
        }
        book.changes.extend(accounts.into_iter().map(|(owner, account)| Change::PutAccount(owner, account)));
        Ok(Effects { touched, ..Effects::default() }.and(book.close()))
    }

    /// What renewing one name by its owner's plan comes to, after those before it in `book` and `accounts`.
    fn renewal(
        &self,
        book: &Book<'_, '_, V, R>,
        accounts: &BTreeMap<SigilId, Account>,
        name: &Name,
    ) -> Applied<Renewal, V> {
        let entry = self.read(self.view.name(name))?.ok_or_else(|| Rejection::UnknownName(name.clone()))?;
        let plan = self.read(self.view.name_life(name))?.auto.ok_or(Rejection::NothingDue)?;
        let due = due_at(&entry, &plan, &self.terms(name));
        if self.at.time < due {
            return Err(Rejection::NotDue(name.clone(), due).into());
        }
        self.check_renewable(name, &entry)?;
        let owner = entry.owner;
        let fee = self.fee(name, FeeFor::Renew, plan.years)?;
        if let Some(Price { token, amount }) = fee {
            if !plan.most.is_some_and(|most| most.token == token && amount <= most.amount) {
                return Err(Rejection::OverPlan { token, amount }.into());
            }
            let have = book.available(owner, token)?;
            if have < amount && owner != self.rules.operator() {
                return Err(Rejection::Balance { token, have, need: amount }.into());
            }
        }
        // No op of the owner's: no octets, and the factor of the load is for those who choose when to write.
        let mana = self.rules.price(name.parent().as_ref(), OpKind::Renew, Work { bytes: 0, rrsigs: 0 });
        let account = match accounts.get(&owner) {
            Some(account) => *account,
            None => self.read(self.view.account(&owner))?,
        };
        let account = account.pay(self.at.time, mana)?;
        Ok(Renewal { entry: self.extended(name, entry, plan.years)?, fee, account })
    }

    pub(super) fn offer(&self, name: &Name, to: SigilId, price: Option<Price>, until: u64) -> Applied<Effects, V> {
        let entry = self.live(name)?;
        if to.key().is_none() || to == self.author {
            return Err(Rejection::BadNewOwner.into());
        }
        let latest = (self.at.time + MAX_OFFER).min(entry.expires);
        if until <= self.at.time || until > latest {
            return Err(Rejection::OfferTerm { max: MAX_OFFER }.into());
        }
        if let Some(price) = price {
            self.check_price(price)?;
        }
        let life = self.unlocked(name)?;
        let offer = Some(Offer { number: self.at.seq, to, price, until });
        Ok(self.arranged(name, NameLife { offer, ..life }))
    }

    pub(super) fn accept(&self, name: &Name, number: u64) -> Applied<Effects, V> {
        let entry = self.read(self.view.name(name))?.ok_or_else(|| Rejection::UnknownName(name.clone()))?;
        if !entry.is_live(self.at.time) {
            return Err(Rejection::NameExpired(name.clone()).into());
        }
        let life = self.unlocked(name)?;
        let offer = life.offered(self.at.time).filter(|offer| offer.number == number && offer.to == self.author);
        let offer = offer.ok_or_else(|| Rejection::NoOffer(name.clone()))?;
        let mut book = Book::new(self);
        if let Some(Price { token, amount }) = offer.price {
            // The token may have changed since the offer was made.
            self.check_price(Price { token, amount })?;
            book.spend(self.author, token, amount, Why::Sale, Some(entry.owner))?;
            book.gain(entry.owner, token, amount, Why::Sale, Some(self.author))?;
        }
        if let Some(fee) = self.fee(name, FeeFor::Transfer, 1)? {
            self.pay_operator(&mut book, self.author, fee)?;
        }
        // Whom the last owner trusted, the new one need not.
        Ok(self.hand_over(name, NameEntry { guard: None, ..entry }, self.author)?.and(book.close()))
    }

    pub(super) fn withdraw(&self, name: &Name) -> Applied<Effects, V> {
        let entry = self.read(self.view.name(name))?.ok_or_else(|| Rejection::UnknownName(name.clone()))?;
        let life = self.read(self.view.name_life(name))?;
        let offer = life.offered(self.at.time).ok_or_else(|| Rejection::NoOffer(name.clone()))?;
        if ![entry.owner, offer.to].contains(&self.author) {
            return Err(Rejection::NotOwner(name.clone()).into());
        }
        Ok(self.arranged(name, NameLife { offer: None, ..life }))
    }

    pub(super) fn lock(&self, name: &Name, delay: u64) -> Applied<Effects, V> {
        self.live(name)?;
        if delay > MAX_UNLOCK_DELAY {
            return Err(Rejection::UnlockDelay { max: MAX_UNLOCK_DELAY }.into());
        }
        let life = self.read(self.view.name_life(name))?;
        let standing = life.locked(self.at.time).map_or(0, |lock| lock.delay);
        let delay = delay.max(standing).max(self.terms(name).unlock_delay);
        Ok(self.arranged(name, NameLife { lock: Some(Lock { delay, opens: None }), offer: None, ..life }))
    }

    pub(super) fn unlock(&self, name: &Name) -> Applied<Effects, V> {
        self.owned(name)?;
        let life = self.read(self.view.name_life(name))?;
        let closed = life.locked(self.at.time).filter(|lock| lock.opens.is_none());
        let Lock { delay, .. } = *closed.ok_or_else(|| Rejection::NotLocked(name.clone()))?;
        let lock = Some(Lock { delay, opens: Some(self.at.time + delay) });
        Ok(self.arranged(name, NameLife { lock, ..life }))
    }

    /// What is arranged for a name that is not locked.
    pub(super) fn unlocked(&self, name: &Name) -> Applied<NameLife, V> {
        let life = self.read(self.view.name_life(name))?;
        match life.locked(self.at.time) {
            Some(lock) => Err(Rejection::Locked { name: name.clone(), opens: lock.opens }.into()),
            None => Ok(life),
        }
    }

    /// The owner's keys of a locked name's zone, and where it is delegated to, stay as they are; they may be signed anew,
    /// and the gateway's online keys come and go.
    pub(super) fn check_locked_keys(&self, apex: &After<'_, V, R>) -> Applied<(), V> {
        for rtype in [Rtype::DNSKEY, Rtype::CDS, Rtype::CDNSKEY, Rtype::NS] {
            let before = self.read(self.view.rrset(apex.name, rtype))?;
            if guarded(before.as_ref()) != guarded(apex.rrset(rtype)?.as_ref()) {
                self.unlocked(apex.name)?;
            }
        }
        Ok(())
    }

    /// Stores what is arranged, without what has ended.
    fn arranged(&self, name: &Name, life: NameLife) -> Effects {
        let lock = life.locked(self.at.time).copied();
        let offer = life.offered(self.at.time).copied();
        let life = NameLife { lock, offer, ..life };
        let change = if life == NameLife::default() {
            Change::DropNameLife(name.clone())
        } else {
            Change::PutNameLife(name.clone(), life)
        };
        Effects { changes: vec![change], ..Effects::default() }
    }

    /// An amount that one may pay another.
    fn check_price(&self, price: Price) -> Applied<(), V> {
        positive(price.amount)?;
        let transferable = self.token(price.token)?.transferable;
        Ok(transferable.then_some(()).ok_or(Rejection::NotTransferable(price.token))?)
    }

    /// Pays the author's fees, each so many times.
    pub(super) fn pay_fees(&self, name: &Name, fees: &[(FeeFor, u32)]) -> Applied<Effects, V> {
        let mut book = Book::new(self);
        for (what, times) in fees {
            if let Some(fee) = self.fee(name, *what, *times)? {
                self.pay_operator(&mut book, self.author, fee)?;
            }
        }
        Ok(book.close())
    }

    fn fee(&self, name: &Name, what: FeeFor, times: u32) -> Applied<Option<Price>, V> {
        let (Some(tld), Some(label)) = (name.parent(), name.first_label()) else { return Ok(None) };
        let Some(fee) = self.rules.fee(&tld, label, what) else { return Ok(None) };
        let token = self.token(fee.token)?;
        let amount = fee.amount(token.decimals, times).filter(|_| token.transferable);
        Ok(Some(Price { token: fee.token, amount: amount.ok_or(Rejection::BadFee(fee.token))? }))
    }

    fn pay_operator(&self, book: &mut Book<'_, '_, V, R>, payer: SigilId, fee: Price) -> Applied<(), V> {
        let (Price { token, amount }, operator) = (fee, self.rules.operator());
        if payer == operator {
            return Ok(());
        }
        book.spend(payer, token, amount, Why::Fee, Some(operator))?;
        book.gain(operator, token, amount, Why::Fee, Some(payer))
    }
}

/// The RDATA of an RRset that a lock guards: of DNSKEYs, those of owners.
fn guarded(rrset: Option<&Rrset>) -> Vec<&[u8]> {
    let Some(rrset) = rrset else { return Vec::new() };
    let owners = |data: &&[u8]| rrset.rtype != Rtype::DNSKEY || data.starts_with(&FLAGS_OWNER.to_be_bytes());
    rrset.rdata.iter().map(|data| &**data).filter(owners).collect()
}
