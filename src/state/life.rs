//! The life of a name: the phases of its lease, and what its owner has arranged for it.
//!
//! ```text
//! free --register, or commit and reveal--> live --expires--> grace --> redemption --> free
//!                                            ^  renew          | renew     | restore
//!                                            '-----------------'-----------'
//! ```
//!
//! A name resolves while it is live, and in no other phase: whoever depends on it notices while its owner can still
//! mend that at the usual price. In grace and redemption nobody but the last owner may have it.

use minicbor::{Decode, Encode};
use sha2::Digest as _;

use super::NameEntry;
use crate::limits::{
    AUTO_RENEW_AHEAD, COMMIT_MAX_DEFAULT, COMMIT_MIN_DEFAULT, GRACE, MAX_TERM_YEARS, UNLOCK_DELAY_DEFAULT, YEAR,
};
use crate::op::{AutoRenew, Price, SetId, SigilId, Symbol};
use crate::wire::Name;

/// External data of a commitment: keeps its hash from being taken for any other.
const COMMIT_CONTEXT: &[u8] = b"ghostplane commit v1";

/// Where a name stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The lease runs: the name resolves, its owner may change it.
    Live,
    /// Expired; its owner may renew it as before.
    Grace,
    /// Its owner may still restore it, for the fee of that.
    Redemption,
    /// Anyone may register it.
    Free,
}

impl Phase {
    /// As the API tells it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Grace => "grace",
            Self::Redemption => "redemption",
            Self::Free => "free",
        }
    }
}

impl NameEntry {
    /// The phase at a time.
    pub fn phase(&self, time: u64) -> Phase {
        if self.is_live(time) {
            Phase::Live
        } else if time < self.grace_until() {
            Phase::Grace
        } else if time < self.free_at() {
            Phase::Redemption
        } else {
            Phase::Free
        }
    }

    /// Until when its owner may renew it, seconds since 1970.
    pub fn grace_until(&self) -> u64 {
        self.expires.saturating_add(self.grace)
    }

    /// When anyone may register the name again, seconds since 1970.
    pub fn free_at(&self) -> u64 {
        self.grace_until().saturating_add(self.redemption)
    }
}

/// What a TLD's policy says of leases. A lease keeps the grace and redemption that it was made with, so that the dates
/// that its owner has seen stay true until the next renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// Registration takes a commitment.
    pub commit: bool,
    /// Seconds between a commitment and what it is revealed by, at least and at most.
    pub commit_min: u64,
    pub commit_max: u64,
    /// A name goes to another sigil only if that one accepts it.
    pub accept: bool,
    /// Years of one registration or renewal, and of a lease in all.
    pub max_years: u32,
    /// Seconds.
    pub grace: u64,
    pub redemption: u64,
    /// Seconds between an owner's wish to unlock a name and its being unlocked, at least.
    pub unlock_delay: u64,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            commit: false,
            commit_min: COMMIT_MIN_DEFAULT,
            commit_max: COMMIT_MAX_DEFAULT,
            accept: false,
            max_years: MAX_TERM_YEARS,
            grace: GRACE,
            redemption: 0,
            unlock_delay: UNLOCK_DELAY_DEFAULT,
        }
    }
}

/// What a fee is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeeFor {
    /// Each year of a registration.
    Register,
    /// Each year of a renewal.
    Renew,
    /// Getting a name back out of redemption, beside the renewal.
    Restore,
    /// Taking a name over.
    Transfer,
}

/// An amount as a policy names it: `digits` with `decimals` of them behind the point. Only the ledger knows how many a
/// token has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fee {
    pub token: Symbol,
    pub digits: u64,
    pub decimals: u8,
}

impl Fee {
    /// `times` the fee in the smallest unit of a token with so many decimals; `None` if that is no whole number of
    /// them, or more than can be counted.
    pub fn amount(&self, decimals: u8, times: u32) -> Option<u64> {
        let factor = 10_u64.checked_pow(u32::from(decimals.checked_sub(self.decimals)?))?;
        self.digits.checked_mul(factor)?.checked_mul(u64::from(times))
    }
}

/// A promise to register a name that is not told yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Commitment {
    #[cbor(n(0), with = "minicbor::bytes")]
    pub hash: [u8; 32],
    /// Seconds since 1970.
    #[n(1)]
    pub made: u64,
}

/// The hash of a commitment: nobody can tell the name from it, and nobody but `owner` can reveal it.
pub fn commitment(name: &Name, owner: &SigilId, secret: &[u8; 32]) -> [u8; 32] {
    let wire = name.as_wire();
    // A name in wire form ends itself: no two triples are the same octets.
    sha2::Sha256::new()
        .chain_update(COMMIT_CONTEXT)
        .chain_update(wire)
        .chain_update(owner.0)
        .chain_update(secret)
        .finalize()
        .into()
}

/// What the owner of a name has arranged for it. It ends with the ownership.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct NameLife {
    #[n(0)]
    pub lock: Option<Lock>,
    #[n(1)]
    pub offer: Option<Offer>,
    #[n(2)]
    pub auto: Option<AutoRenew>,
}

/// A locked name is not transferred, offered or released, and its zone's keys stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Lock {
    /// Seconds that unlocking takes: whoever has stolen the key is seen.
    #[n(0)]
    pub delay: u64,
    /// When it ends, once its owner has asked for that; seconds since 1970.
    #[n(1)]
    pub opens: Option<u64>,
}

/// A name offered to another sigil.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Offer {
    /// Sequence of the op that made it: who accepts names it, and so cannot be given other conditions.
    #[n(0)]
    pub number: u64,
    #[n(1)]
    pub to: SigilId,
    #[n(2)]
    pub price: Option<Price>,
    /// Seconds since 1970; not accepted from then on.
    #[n(3)]
    pub until: u64,
    /// The set that the owner's co-signature rule named when it was made: it has agreed.
    #[n(4)]
    pub cosigned: Option<SetId>,
}

impl NameLife {
    /// The lock, if it holds at a time.
    pub fn locked(&self, time: u64) -> Option<&Lock> {
        self.lock.as_ref().filter(|lock| lock.opens.is_none_or(|opens| time < opens))
    }

    /// The offer, if it stands at a time.
    pub fn offered(&self, time: u64) -> Option<&Offer> {
        self.offer.as_ref().filter(|offer| time < offer.until)
    }
}

/// When a name is renewed by its owner's plan: before it expires, so that it never stops resolving, and as soon as the
/// lease may be that long.
pub fn due_at(entry: &NameEntry, plan: &AutoRenew, terms: &Terms) -> u64 {
    let spare = u64::from(terms.max_years.saturating_sub(plan.years)) * YEAR;
    entry.expires.saturating_sub(AUTO_RENEW_AHEAD.min(spare))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fees_are_counted_in_the_tokens_smallest_unit() {
        let fee = Fee { token: Symbol::GCC, digits: 25, decimals: 1 };
        assert_eq!(fee.amount(9, 1), Some(2_500_000_000));
        assert_eq!(fee.amount(1, 10), Some(250));
        assert_eq!(fee.amount(0, 2), None);
        assert_eq!(Fee { digits: u64::MAX, ..fee }.amount(1, 2), None);
        assert_eq!(fee.amount(255, 1), None);
    }

    #[test]
    fn a_commitment_hides_its_name_and_belongs_to_one_sigil() {
        let (name, owner) = (Name::from_user("alice.ghost").unwrap(), SigilId([1; 32]));
        let hash = commitment(&name, &owner, &[7; 32]);
        assert_ne!(hash, commitment(&name, &owner, &[8; 32]));
        assert_ne!(hash, commitment(&name, &SigilId([2; 32]), &[7; 32]));
        assert_ne!(hash, commitment(&Name::from_user("alicf.ghost").unwrap(), &owner, &[7; 32]));
        // Others compute it, too: docs/formats.md.
        let octets = [COMMIT_CONTEXT, b"\x05alice\x05ghost\x00", &[1; 32], &[7; 32]].concat();
        assert_eq!(hash, <[u8; 32]>::from(sha2::Sha256::digest(octets)));
    }

    #[test]
    fn locks_and_offers_end_at_their_second() {
        let lock = |opens| NameLife { lock: Some(Lock { delay: 5, opens }), ..NameLife::default() };
        assert!(lock(None).locked(u64::MAX).is_some());
        assert!(lock(Some(10)).locked(9).is_some() && lock(Some(10)).locked(10).is_none());
        let offer = Offer { number: 1, to: SigilId([1; 32]), price: None, until: 10, cosigned: None };
        let life = NameLife { offer: Some(offer), ..NameLife::default() };
        assert!(life.offered(9).is_some() && life.offered(10).is_none());
    }
}
