//! Accounts: an identity's nonce and its mana.

use minicbor::{Decode, Encode};

use crate::op::{Identity, Rejection};

/// Micro-mana in one mana. Balances are kept in micro-mana, so that refilling by the second loses nothing
/// that anyone can see.
pub const MICRO: u64 = 1_000_000;

/// Mana capacities by level; a day refills the whole. Level 0 is an unknown key and cannot write.
pub const LEVELS: [u64; 6] = [0, 1_000, 10_000, 100_000, 1_000_000, 1_000_000_000];
/// The highest level.
pub const MAX_LEVEL: u8 = LEVELS.len() as u8 - 1;
/// Seconds in which an empty account is full again.
const REFILL_PERIOD: u64 = 86_400;

/// One identity's account. An unknown identity has the default one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Encode, Decode)]
pub struct Account {
    /// The nonce that the next op must carry.
    #[n(0)]
    pub next_nonce: u64,
    #[n(1)]
    pub level: u8,
    /// Micro-mana at `as_of`.
    #[n(2)]
    balance: u64,
    /// Seconds since 1970.
    #[n(3)]
    as_of: u64,
    /// When the level ends, seconds since 1970; `None` is never.
    #[n(4)]
    until: Option<u64>,
    /// Who attested the level; `None` is the operator, by a grant.
    #[n(5)]
    by: Option<Identity>,
    /// The attestation of another, in whose place this one came.
    #[n(6)]
    floor: Option<Floor>,
}

/// A level that the attestor of a higher one cannot take away, for another had attested it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Floor {
    #[n(0)]
    pub level: u8,
    /// Seconds since 1970.
    #[n(1)]
    pub until: u64,
}

/// A level that somebody attested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attestation {
    pub by: Identity,
    pub level: u8,
    /// Seconds since 1970.
    pub until: u64,
}

impl Account {
    /// The account as it stands at `time`: once its level has ended, that is 0, and so is its mana.
    pub fn at(self, time: u64) -> Self {
        if self.until.is_none_or(|until| time < until) {
            return self;
        }
        Self { next_nonce: self.next_nonce, as_of: self.as_of, ..Self::default() }
    }

    /// The last attestation, ended or not; `None` if there is none, or the operator has granted the level.
    pub fn attestation(&self) -> Option<Attestation> {
        let (by, until) = (self.by?, self.until?);
        Some(Attestation { by, level: self.level, until })
    }

    /// What is left at `time` if the attestor takes the level back.
    pub fn floor(&self, time: u64) -> Option<Floor> {
        self.floor.filter(|floor| time < floor.until)
    }

    /// Mana that this level can hold while it lasts.
    pub fn capacity(&self) -> u64 {
        LEVELS.get(usize::from(self.level)).copied().unwrap_or(0)
    }

    /// Whole mana at `time`.
    pub fn mana(&self, time: u64) -> u64 {
        self.balance_at(time) / MICRO
    }

    /// Micro-mana at `time`.
    pub fn micro(&self, time: u64) -> u64 {
        self.balance_at(time)
    }

    /// Mana an hour that the account gains until it is full.
    pub fn refill_per_hour(&self) -> u64 {
        self.capacity() / 24
    }

    /// When `need` mana will be there; `None` if never at this level.
    pub fn ready_at(&self, time: u64, need: u64) -> Option<u64> {
        if need > self.capacity() {
            return None;
        }
        let missing = (need * MICRO).saturating_sub(self.balance_at(time));
        let rate = u128::from(self.capacity() * MICRO);
        let wait = (u128::from(missing) * u128::from(REFILL_PERIOD)).checked_div(rate).unwrap_or(0);
        // Rounded up: at the time named, the op must pass.
        let ready = time.saturating_add(wait as u64).saturating_add(u64::from(missing > 0));
        (self.at(ready).level == self.level).then_some(ready)
    }

    /// The account after paying `price` mana.
    ///
    /// # Errors
    /// [`Rejection::Mana`] if it holds less.
    pub fn pay(self, time: u64, price: u64) -> Result<Self, Rejection> {
        let have = self.balance_at(time);
        let left = price.checked_mul(MICRO).and_then(|price| have.checked_sub(price));
        let balance = left.ok_or_else(|| Rejection::Mana {
            have: have / MICRO,
            need: price,
            ready_at: self.ready_at(time, price),
        })?;
        // After the log's time was set back, it fills from then on.
        Ok(Self { balance, as_of: time, ..self })
    }

    /// The account with `amount` mana more, as far as it holds so much.
    pub fn refunded(self, time: u64, amount: u64) -> Self {
        let full = self.capacity() * MICRO;
        let balance = self.balance_at(time).saturating_add(amount.saturating_mul(MICRO)).min(full);
        Self { balance, as_of: time, ..self }
    }

    /// The account at another level, filled by `amount` mana up to that level's capacity.
    pub fn granted(self, time: u64, level: u8, amount: u64) -> Self {
        let carried = self.balance_at(time);
        let next_nonce = self.next_nonce;
        let account = Self { next_nonce, level, as_of: time, ..Self::default() };
        let balance = carried.saturating_add(amount.saturating_mul(MICRO)).min(account.capacity() * MICRO);
        Self { balance, ..account }
    }

    /// The account at a level that is attested. It fills from what it held: whoever could fill it at once could do so
    /// again and again.
    pub fn attested(self, time: u64, attestation: Attestation) -> Self {
        let account = self.granted(time, attestation.level, 0);
        let floor = match self.at(time).attestation() {
            Some(last) if last.by != attestation.by => Some(Floor { level: last.level, until: last.until }),
            _ => self.floor(time),
        };
        Self { until: Some(attestation.until), by: Some(attestation.by), floor, ..account }
    }

    /// The account without a level.
    pub fn unattested(self, time: u64) -> Self {
        self.granted(time, 0, 0)
    }

    /// Micro-mana at `time`; a clock that went back takes nothing away.
    fn balance_at(&self, time: u64) -> u64 {
        if self.until.is_some_and(|until| time >= until) {
            return 0;
        }
        let full = self.capacity() * MICRO;
        let elapsed = u128::from(time.saturating_sub(self.as_of));
        let gained = elapsed * u128::from(full) / u128::from(REFILL_PERIOD);
        let balance = u128::from(self.balance) + gained;
        // At most `full`, a u64.
        balance.min(u128::from(full)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_can_pay_nothing_ever() {
        let account = Account::default();
        assert_eq!(account.pay(1_000_000_000, 1), Err(Rejection::Mana { have: 0, need: 1, ready_at: None }));
    }

    #[test]
    fn mana_refills_to_its_capacity_in_a_day() {
        let account = Account::default().granted(100, 1, 600);
        assert_eq!(account.mana(100), 600);
        assert_eq!(account.mana(100 + REFILL_PERIOD / 10), 700);
        assert_eq!(account.mana(100 + REFILL_PERIOD * 9), 1_000);
        assert_eq!(account.mana(50), 600);
    }

    #[test]
    fn a_level_ends_to_the_second() {
        let by = Identity::Sigil(crate::op::SigilId([1; 32]));
        let account = Account::default().attested(0, Attestation { by, level: 1, until: REFILL_PERIOD / 2 });
        assert_eq!(account.mana(0), 0);
        let last = REFILL_PERIOD / 2 - 1;
        assert_eq!((account.mana(last), account.at(last).level), (499, 1));
        assert_eq!((account.mana(last + 1), account.at(last + 1).level, account.at(last + 1).capacity()), (0, 0, 0));
        assert!(account.pay(last, 499).is_ok() && account.pay(last + 1, 1).is_err());
        // What comes too late is never enough.
        assert_eq!((account.ready_at(0, 499), account.ready_at(0, 500)), (Some(43_114), None));
        // Renewed too late, it begins with nothing; in time, with what it had.
        let renewed = Attestation { by, level: 1, until: 9 * REFILL_PERIOD };
        assert_eq!(account.attested(last + 1, renewed).mana(last + 1), 0);
        assert_eq!(account.attested(last, renewed).mana(last), 499);
        assert_eq!(account.unattested(5).mana(5), 0);
    }

    #[test]
    fn a_floor_is_what_another_attested_and_ends_with_it() {
        let by = |seed| Identity::Sigil(crate::op::SigilId([seed; 32]));
        let low = Account::default().attested(0, Attestation { by: by(1), level: 1, until: 100 });
        let high = low.attested(10, Attestation { by: by(2), level: 3, until: 200 });
        assert_eq!((low.floor(10), high.floor(99)), (None, Some(Floor { level: 1, until: 100 })));
        assert_eq!(high.attested(20, Attestation { by: by(2), level: 2, until: 150 }).floor(20), high.floor(20));
        assert_eq!(
            (high.floor(100), high.unattested(20).floor(20), high.granted(20, 3, 0).floor(20)),
            (None, None, None)
        );
    }

    #[test]
    fn a_rejection_names_the_second_at_which_it_would_pass() {
        let account = Account::default().granted(0, 1, 10);
        let Err(Rejection::Mana { have: 10, need: 100, ready_at: Some(at) }) = account.pay(0, 100) else { panic!() };
        assert!(account.pay(at, 100).is_ok());
        assert!(account.pay(at - 2, 100).is_err());
        assert_eq!(account.ready_at(0, 1_001), None);
    }
}
