//! The life of names, as the API tells it: phases and their dates, locks, offers, plans, fees, commitments.

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use super::ledger::parse_did;
use super::{NameView, Service, ServiceError, parse_name};
use crate::op::{AutoRenew, Price};
use crate::registry::Snapshot;
use crate::state::life::{Fee, FeeFor, NameLife, Offer, Phase, Terms, due_at};
use crate::state::{ApplyError, At, NameEntry, Rules as _, View as _, renewable};
use crate::wire::Name;

/// What `name.get` and `name.list` tell of a name's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifeView {
    /// As people read it, where that is another form: A-labels as U-labels.
    pub unicode: Option<String>,
    /// `live`, `grace`, `redemption`, `free`
    pub phase: String,
    /// Until when its owner may renew it; from then on until `free_at`, restore it.
    pub grace_until: u64,
    pub lock: Option<LockView>,
    pub offer: Option<OfferView>,
    pub auto_renew: Option<AutoRenewView>,
}

/// A lock that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockView {
    /// Seconds that unlocking takes.
    pub delay: u64,
    /// When it ends, if its owner has asked for that.
    pub opens: Option<u64>,
}

/// An offer that stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferView {
    /// What who accepts it names.
    pub number: u64,
    pub to: String,
    pub price: Option<AmountView>,
    pub until: u64,
}

/// An owner's plan of renewal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoRenewView {
    pub years: u32,
    /// What one renewal may cost.
    pub most: Option<AmountView>,
    pub due: u64,
    /// Why it would not be renewed if it were due with the accounts as they are.
    pub hindrance: Option<String>,
}

/// An amount of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AmountView {
    pub token: String,
    /// Digits of `amount` behind the point.
    pub decimals: u8,
    pub amount: String,
}

/// `name.terms`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermsView {
    pub name: String,
    pub unicode: Option<String>,
    /// Anyone may register it now.
    pub available: bool,
    /// Why not.
    pub reason: Option<String>,
    /// Registration takes a commitment, revealed so many seconds after it.
    pub commit: bool,
    pub commit_min: u64,
    pub commit_max: u64,
    /// A transfer takes the receiver's acceptance.
    pub accept: bool,
    pub max_years: u32,
    /// Seconds.
    pub grace: u64,
    pub redemption: u64,
    pub unlock_delay: u64,
    /// A year's.
    pub register: Option<AmountView>,
    pub renew: Option<AmountView>,
    /// Once, beside the renewal.
    pub restore: Option<AmountView>,
    pub transfer: Option<AmountView>,
}

/// One row of `account.commitments`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitmentView {
    /// Hex.
    pub hash: String,
    pub made: u64,
}

impl Service {
    /// On which terms a name is to be had, and whether it is.
    ///
    /// # Errors
    /// [`ServiceError`]; so with everything below.
    pub fn terms(&self, name: &str) -> Result<TermsView, ServiceError> {
        let name = parse_name(name)?;
        let tld = name.parent().unwrap_or_else(Name::root);
        let label = name.first_label().unwrap_or_default();
        let reason = self.hindrance(&name, &tld, label)?;
        let fee = |what| self.tlds.fee(&tld, label, what).map(|fee| AmountView::from(&fee));
        let terms = self.tlds.terms(&tld);
        let Terms { commit, commit_min, commit_max, accept, max_years, grace, redemption, unlock_delay } = terms;
        Ok(TermsView {
            name: name.to_string(),
            unicode: name.to_unicode(),
            available: reason.is_none(),
            reason,
            commit,
            commit_min,
            commit_max,
            accept,
            max_years,
            grace,
            redemption,
            unlock_delay,
            register: fee(FeeFor::Register),
            renew: fee(FeeFor::Renew),
            restore: fee(FeeFor::Restore),
            transfer: fee(FeeFor::Transfer),
        })
    }

    /// Why a name cannot be registered now.
    fn hindrance(&self, name: &Name, tld: &Name, label: &[u8]) -> Result<Option<String>, ServiceError> {
        if let Err(reason) = self.tlds.check_label(tld, label) {
            return Ok(Some(reason));
        }
        let entry = self.registry.snapshot()?.name(name)?;
        let phase = entry.map_or(Phase::Free, |entry| entry.phase((self.clock)()));
        Ok(match phase {
            Phase::Free => None,
            Phase::Live => Some("it is taken".to_owned()),
            Phase::Grace | Phase::Redemption => {
                Some(format!("it is in {} and may still go back to its last owner", phase.text()))
            }
        })
    }

    /// Commitments of an identity that have not been revealed.
    pub fn commitments(&self, did: &str) -> Result<Vec<CommitmentView>, ServiceError> {
        let open = self.registry.snapshot()?.commitments(&parse_did(did)?)?;
        let view = |hash: &[u8; 32], made| CommitmentView { hash: HEXLOWER.encode(hash), made };
        Ok(open.iter().map(|commitment| view(&commitment.hash, commitment.made)).collect())
    }

    pub(super) fn name_view(
        &self,
        snapshot: &Snapshot,
        name: &Name,
        entry: &NameEntry,
    ) -> Result<NameView, ServiceError> {
        let now = (self.clock)();
        let life = snapshot.name_life(name)?;
        let auto = life.auto.map(|plan| self.auto_view(snapshot, name, entry, plan)).transpose()?;
        let offer = life.offered(now).map(|offer| self.offer_view(snapshot, offer)).transpose()?;
        let view = LifeView {
            unicode: name.to_unicode(),
            phase: entry.phase(now).text().to_owned(),
            grace_until: entry.grace_until(),
            lock: lock_view(&life, now),
            offer,
            auto_renew: auto,
        };
        Ok(NameView::new(name, entry, now, view))
    }

    fn offer_view(&self, snapshot: &Snapshot, offer: &Offer) -> Result<OfferView, ServiceError> {
        let Offer { number, to, price, until, .. } = *offer;
        let price = price.map(|price| self.amount_view(snapshot, price)).transpose()?;
        Ok(OfferView { number, to: to.to_string(), price, until })
    }

    fn auto_view(
        &self,
        snapshot: &Snapshot,
        name: &Name,
        entry: &NameEntry,
        plan: AutoRenew,
    ) -> Result<AutoRenewView, ServiceError> {
        let due = due_at(entry, &plan, &self.tlds.terms(&name.suffix(1)));
        let at = At { seq: snapshot.seq() + 1, time: due.max((self.clock)()) };
        let hindrance = match renewable(snapshot, &*self.tlds, at, name) {
            Ok(()) => None,
            Err(ApplyError::Rejected(rejection)) => Some(rejection.to_string()),
            Err(ApplyError::Fault(fault)) => return Err(fault.into()),
        };
        let most = plan.most.map(|most| self.amount_view(snapshot, most)).transpose()?;
        Ok(AutoRenewView { years: plan.years, most, due, hindrance })
    }

    fn amount_view(&self, snapshot: &Snapshot, price: Price) -> Result<AmountView, ServiceError> {
        let decimals = self.decimals(snapshot, price.token)?;
        Ok(AmountView { token: price.token.to_string(), decimals, amount: price.amount.to_string() })
    }
}

fn lock_view(life: &NameLife, now: u64) -> Option<LockView> {
    life.locked(now).map(|lock| LockView { delay: lock.delay, opens: lock.opens })
}

impl From<&Fee> for AmountView {
    fn from(fee: &Fee) -> Self {
        Self { token: fee.token.to_string(), decimals: fee.decimals, amount: fee.digits.to_string() }
    }
}
