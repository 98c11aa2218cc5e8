//! Who is worth a verification: asked before any signature is checked, from what an op's octets claim.
//!
//! Checking a signature takes some 50 µs, looking at a claim and into an account less than 2. So nobody makes us check for
//! free: an author without mana is turned away on the claim, and a client that has named funded authors under wrong
//! signatures a few times waits before it is listened to again (CVE-2024-1975 was the like in DNS servers).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Client, Engine, Prefix, Tlds};
use crate::limits::{FORGERIES, FORGERIES_OF_PREFIX, FORGERY_SECONDS, STRUCK_CLIENTS};
use crate::op::{Claim, Identity, OpKind, RegistryId, Rejection};
use crate::registry::{Fault, Snapshot};
use crate::state::guardians::account_of;
use crate::state::{Rules as _, View as _, Work};
use crate::work::Budget;

/// Wrong signatures of late, by client and the author they named, and by client alone. Bounded.
#[derive(Debug, Default)]
pub struct Gate(Mutex<HashMap<Key, Strikes>>);

/// All datagrams are of one client: whoever forges their sources must neither be listened to without end, nor keep
/// those whose addresses they are from writing over anything else.
type Key = (Option<Prefix>, Option<Identity>);

/// A number that falls by one every [`FORGERY_SECONDS`].
#[derive(Debug, Clone, Copy)]
struct Strikes {
    count: u32,
    /// Seconds since 1970.
    as_of: u64,
}

impl Strikes {
    fn at(self, now: u64) -> Self {
        let past = now.saturating_sub(self.as_of) / FORGERY_SECONDS;
        let count = self.count.saturating_sub(u32::try_from(past).unwrap_or(u32::MAX));
        Self { count, as_of: self.as_of + past * FORGERY_SECONDS }
    }
}

/// The state and the budget that an op is checked against.
pub struct Door<'a> {
    pub(super) registry: RegistryId,
    pub(super) snapshot: &'a Snapshot,
    pub(super) tlds: &'a Tlds,
    /// The client that brings it; `None` if the address may be forged.
    pub(super) client: Option<Prefix>,
    /// The work for it is taken from this.
    pub(super) budget: Budget,
    /// Seconds since 1970.
    pub(super) now: u64,
}

impl Engine {
    /// The door for ops that this client brings now.
    pub fn door<'a>(&'a self, snapshot: &'a Snapshot, client: Client, now: u64) -> Door<'a> {
        let (registry, budget) = (self.registry.id(), self.work.budget(client));
        Door { registry, snapshot, tlds: &self.tlds, client: client.proven(), budget, now }
    }
}

impl Door<'_> {
    /// The work for this client is taken from this.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    fn owns_a_name(&self, author: Identity) -> Result<bool, Fault> {
        author.sigil().map_or(Ok(false), |sigil| self.snapshot.owns_any(&sigil))
    }

    /// Whether there are TLDs where an op of this kind costs nothing.
    fn may_be_free(&self, kind: OpKind) -> bool {
        self.least_price(kind, 1) == 0
    }

    /// Mana that an op of this kind and length costs where it costs least, before the load's factor.
    pub(super) fn least_price(&self, kind: OpKind, bytes: usize) -> u64 {
        let prices = self.tlds.iter().map(|tld| self.tlds.price(Some(&tld.apex), kind, Work { bytes, rrsigs: 0 }));
        prices.min().unwrap_or(0)
    }
}

impl Gate {
    /// Whether the signature of an op that claims this is worth checking.
    ///
    /// # Errors
    /// Why not; `apply` would say the same of an op whose signature is right.
    pub fn admit(&self, door: &Door<'_>, claim: &Claim) -> Result<(), Rejection> {
        if claim.registry != door.registry {
            return Err(Rejection::WrongRegistry);
        }
        if claim.expires <= door.now {
            return Err(Rejection::Expired { expires: claim.expires, now: door.now });
        }
        self.listen(door, claim.author)?;
        let fault = |fault: Fault| Rejection::Fault(fault.0);
        let account = account_of(door.snapshot, &claim.author).map_err(fault)?.unwrap_or_default().at(door.now);
        // Ops that wait for the writer come before this one: whether it is the next behind them, `Intake` knows.
        if claim.nonce < account.next_nonce {
            return Err(Rejection::Nonce { expected: account.next_nonce, got: claim.nonce });
        }
        if account.mana(door.now) > 0 || claim.author == door.tlds.operator() {
            return Ok(());
        }
        let without = || account.pay(door.now, 1).map(drop);
        if !door.may_be_free(claim.kind) {
            return without();
        }
        let gas = door.snapshot.gas().map_err(fault)?;
        if gas.gateways.iter().any(|gateway| claim.author == *gateway) {
            return Ok(());
        }
        if account.level == 0 && !door.owns_a_name(claim.author).map_err(fault)? {
            return without();
        }
        // A few ops cost nothing, a veto for one. Whoever has no mana left is listened to for their sake, but seldom.
        self.strike(door, claim.author, 1);
        Ok(())
    }

    /// Whether this client has not brought too many wrong signatures under this author's name.
    ///
    /// # Errors
    /// [`Rejection::TooManyForgeries`]
    pub fn listen(&self, door: &Door<'_>, author: Identity) -> Result<(), Rejection> {
        let strikes = self.lock();
        let client = door.client;
        for (key, most) in [((client, Some(author)), FORGERIES), ((client, None), FORGERIES_OF_PREFIX)] {
            let of_late = strikes.get(&key).map_or(0, |strikes| strikes.at(door.now).count);
            if of_late >= most {
                return Err(Rejection::TooManyForgeries { seconds: FORGERY_SECONDS });
            }
        }
        Ok(())
    }

    /// Notes an op that was admitted and one of whose `signatures` was wrong.
    pub fn strike(&self, door: &Door<'_>, author: Identity, signatures: usize) {
        let signatures = u32::try_from(signatures).unwrap_or(u32::MAX);
        let mut all = self.lock();
        for key in [(door.client, Some(author)), (door.client, None)] {
            if all.len() >= STRUCK_CLIENTS && !all.contains_key(&key) {
                all.retain(|_, strikes| strikes.at(door.now).count > 0);
            }
            if all.len() < STRUCK_CLIENTS || all.contains_key(&key) {
                let strikes = all.entry(key).or_insert(Strikes { count: 0, as_of: door.now });
                *strikes = strikes.at(door.now);
                strikes.count = strikes.count.saturating_add(signatures);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Strikes>> {
        // Every change is of one entry.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strikes_are_forgotten_one_by_one() {
        let strikes = Strikes { count: 3, as_of: 100 };
        assert_eq!(strikes.at(100).count, 3);
        assert_eq!(strikes.at(100 + FORGERY_SECONDS).count, 2);
        let later = strikes.at(100 + FORGERY_SECONDS * 3 / 2);
        assert_eq!((later.count, later.as_of), (2, 100 + FORGERY_SECONDS));
        assert_eq!(strikes.at(u64::MAX / 2).count, 0);
        assert_eq!(strikes.at(0).count, 3);
    }
}
