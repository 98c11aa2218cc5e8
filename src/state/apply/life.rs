//! Ops about the life of names.

use std::collections::BTreeMap;

use super::ledger::{Book, positive};
use super::permit::Permit;
use super::{Applied, ApplyError, Machine};
use crate::limits::{COMMIT_MAX, MAX_COMMITMENTS, MAX_OFFER, MAX_RENEWALS, MAX_UNLOCK_DELAY};
use crate::op::{Action, AutoRenew, OpKind, Price, Rejection, SigilId};
use crate::state::guardians::Guard;
use crate::state::ledger::Why;
use crate::state::life::{Commitment, FeeFor, Lock, NameLife, Offer, Terms, commitment, due_at};
use crate::state::{Account, At, Change, Effects, NameEntry, Rules, View, Work};
use crate::wire::Name;

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
struct Renewal<'n> {
    permit: Permit<'n>,
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
        let permit = self.permit(name)?;
        let paid = self.pay_fees(name, &[(FeeFor::Renew, years)])?;
        Ok(permit.rewritten(self.extended(&permit, years)?).and(paid))
    }

    pub(super) fn restore(&self, name: &Name, years: u32) -> Applied<Effects, V> {
        let permit = self.permit(name)?;
        let paid = self.pay_fees(name, &[(FeeFor::Restore, 1), (FeeFor::Renew, years)])?;
        Ok(permit.rewritten(self.extended(&permit, years)?).and(paid))
    }

    /// With a lease of so many more years, on the terms that the TLD gives now.
    fn extended(&self, permit: &Permit<'_>, years: u32) -> Applied<NameEntry, V> {
        let (terms, entry) = (self.terms(permit.name()), permit.entry().clone());
        let expires = self.lease(&terms, entry.expires, years)?;
        Ok(NameEntry { expires, grace: terms.grace, redemption: terms.redemption, ..entry })
    }

    pub(super) fn set_auto_renew(&self, name: &Name, plan: Option<AutoRenew>) -> Applied<Effects, V> {
        let permit = self.permit(name)?;
        if let Some(AutoRenew { years, most }) = plan {
            let max = self.terms(name).max_years;
            if years == 0 || years > max {
                return Err(Rejection::Term { max }.into());
            }
            if let Some(most) = most {
                self.check_price(most)?;
            }
        }
        Ok(permit.arranged(NameLife { auto: plan, ..permit.life().clone() }))
    }

    /// Renews what is due and can be paid. What is not is passed over: its owner must not keep others from being renewed.
    pub(super) fn renew_due(&self, names: &[Name]) -> Applied<Effects, V> {
        // Whether it is one, each permit asks; none is told of names that are passed over.
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
            let Renewal { permit, entry, fee, account } = match self.renewal(&book, &accounts, name) {
                Ok(renewal) => renewal,
                Err(ApplyError::Rejected(_)) => continue,
                Err(fault) => return Err(fault),
            };
            if let Some(fee) = fee {
                self.pay_operator(&mut book, entry.owner, fee)?;
            }
            accounts.insert(entry.owner, account);
            book.changes.push(permit.rewrite(entry));
            touched.push(name.clone());
        }
        if touched.is_empty() {
            return Err(Rejection::NothingDue.into());
        }
        book.changes.extend(accounts.into_iter().map(|(owner, account)| Change::PutAccount(owner, account)));
        Ok(Effects { touched, ..Effects::default() }.and(book.close()))
    }

    /// What renewing one name by its owner's plan comes to, after those before it in `book` and `accounts`.
    fn renewal<'n>(
        &self,
        book: &Book<'_, '_, V, R>,
        accounts: &BTreeMap<SigilId, Account>,
        name: &'n Name,
    ) -> Applied<Renewal<'n>, V> {
        let entry = self.read(self.view.name(name))?.ok_or_else(|| Rejection::UnknownName(name.clone()))?;
        let plan = self.read(self.view.name_life(name))?.auto.ok_or(Rejection::NothingDue)?;
        let due = due_at(&entry, &plan, &self.terms(name));
        if self.at.time < due {
            return Err(Rejection::NotDue(name.clone(), due).into());
        }
        let permit = self.permit_for(name, &[Action::AutoRenew])?;
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
        Ok(Renewal { entry: self.extended(&permit, plan.years)?, permit, fee, account })
    }

    pub(super) fn offer(&self, name: &Name, to: SigilId, price: Option<Price>, until: u64) -> Applied<Effects, V> {
        let permit = self.permit(name)?;
        if to.key().is_none() || to == self.author {
            return Err(Rejection::BadNewOwner.into());
        }
        let latest = self.at.time.saturating_add(MAX_OFFER).min(permit.entry().expires);
        if until <= self.at.time || until > latest {
            return Err(Rejection::OfferTerm { max: MAX_OFFER }.into());
        }
        if let Some(price) = price {
            self.check_price(price)?;
        }
        let cosigned = permit.entry().guard().cosign.map(|rule| rule.set);
        let offer = Some(Offer { number: self.at.seq, to, price, until, cosigned });
        Ok(permit.arranged(NameLife { offer, ..permit.life().clone() }))
    }

    pub(super) fn accept(&self, name: &Name, number: u64) -> Applied<Effects, V> {
        let permit = self.permit(name)?;
        let (entry, life) = (permit.entry(), permit.life());
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
        Ok(permit.hand_over(self.view, Guard::default(), self.author)?.and(book.close()))
    }

    pub(super) fn withdraw(&self, name: &Name) -> Applied<Effects, V> {
        let permit = self.permit(name)?;
        Ok(permit.arranged(NameLife { offer: None, ..permit.life().clone() }))
    }

    pub(super) fn lock(&self, name: &Name, delay: u64) -> Applied<Effects, V> {
        let permit = self.permit(name)?;
        if delay > MAX_UNLOCK_DELAY {
            return Err(Rejection::UnlockDelay { max: MAX_UNLOCK_DELAY }.into());
        }
        let life = permit.life().clone();
        let standing = life.locked(self.at.time).map_or(0, |lock| lock.delay);
        let delay = delay.max(standing).max(self.terms(name).unlock_delay);
        Ok(permit.arranged(NameLife { lock: Some(Lock { delay, opens: None }), offer: None, ..life }))
    }

    pub(super) fn unlock(&self, name: &Name) -> Applied<Effects, V> {
        let permit = self.permit(name)?;
        let life = permit.life().clone();
        let closed = life.locked(self.at.time).filter(|lock| lock.opens.is_none());
        let Lock { delay, .. } = *closed.ok_or_else(|| Rejection::NotLocked(name.clone()))?;
        let lock = Some(Lock { delay, opens: Some(self.at.time.saturating_add(delay)) });
        Ok(permit.arranged(NameLife { lock, ..life }))
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
