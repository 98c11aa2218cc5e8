//! What a name keeps about DNS UPDATE: its update keys, and the updates that were accepted not long ago.

use minicbor::{Decode, Encode};

use super::MICRO;
use crate::limits::{MAX_SEEN_BY_KEY, MAX_SEEN_UPDATES, UPDATE_KEY_MANA};
use crate::op::{Rejection, SignedUpdate, UpdateScope};
use crate::wire::{Name, Rtype};

/// One name's row.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Updates {
    #[n(0)]
    pub keys: Vec<UpdateKey>,
    /// Updates whose signatures would still be good.
    #[n(1)]
    pub seen: Vec<Seen>,
}

/// A secret's public side.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct UpdateKey {
    #[n(0)]
    pub label: String,
    #[n(1)]
    pub scopes: Vec<UpdateScope>,
    /// Sequence of the op that issued it: the secret is derived from it, too.
    #[n(2)]
    pub issued: u64,
    /// Seconds since 1970.
    #[n(3)]
    pub expires: u64,
    /// Mana a day that updates by it may take of the owner's; `None` is [`UPDATE_KEY_MANA`].
    #[n(4)]
    pub mana: Option<u64>,
    /// `None` until it is used.
    #[n(5)]
    pub used: Option<KeyUse>,
}

/// Mana that updates by one key have taken, and the updates that are remembered.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct KeyUse {
    /// Micro-mana that was left of its budget at `as_of`.
    #[n(0)]
    left: u64,
    /// Seconds since 1970.
    #[n(1)]
    as_of: u64,
    /// Updates by it whose signatures would still be good.
    #[n(2)]
    pub seen: Vec<Seen>,
}

/// Seconds in which a budget is whole again.
const DAY: u64 = 86_400;

impl UpdateKey {
    /// Mana a day that updates by it may take.
    pub fn budget(&self) -> u64 {
        self.mana.unwrap_or(UPDATE_KEY_MANA)
    }

    /// Whole mana that is left of its budget at `time`.
    pub fn left(&self, time: u64) -> u64 {
        self.micro_left(time) / MICRO
    }

    fn micro_left(&self, time: u64) -> u64 {
        let full = self.budget().saturating_mul(MICRO);
        let Some(used) = &self.used else { return full };
        let elapsed = u128::from(time.saturating_sub(used.as_of));
        let back = elapsed * u128::from(full) / u128::from(DAY);
        // At most `full`, a u64.
        (u128::from(used.left) + back).min(u128::from(full)) as u64
    }

    /// After an update that costs `price` and whose signature ends at `until`.
    ///
    /// # Errors
    /// [`Rejection::KeyBudget`], or too many are remembered.
    fn spending(mut self, price: u64, seen: Seen, name: &Name, time: u64) -> Result<Self, Rejection> {
        let left = price.checked_mul(MICRO).and_then(|price| self.micro_left(time).checked_sub(price));
        let left = left.ok_or_else(|| Rejection::KeyBudget {
            name: name.clone(),
            label: self.label.clone(),
            left: self.left(time),
            need: price,
            most: self.budget(),
        })?;
        let mut remembered = self.used.take().map(|used| used.seen).unwrap_or_default();
        push_seen(&mut remembered, seen, time, ("updates by one key within ten minutes", MAX_SEEN_BY_KEY))?;
        let as_of = time;
        Ok(Self { used: Some(KeyUse { left, as_of, seen: remembered }), ..self })
    }
    /// True if it may change RRsets of `rtype` at `owner`.
    pub fn covers(&self, owner: &Name, rtype: Rtype) -> bool {
        self.scopes.iter().any(|scope| scope.covers(owner, rtype))
    }
}

/// An update that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Seen {
    #[cbor(n(0), with = "minicbor::bytes")]
    pub digest: [u8; 16],
    /// When its signature ends, seconds since 1970.
    #[n(1)]
    pub until: u64,
}

impl Updates {
    /// The key of a label, if it is in force.
    pub fn key(&self, label: &str, time: u64) -> Option<&UpdateKey> {
        self.keys.iter().find(|key| key.label == label && time < key.expires)
    }

    /// True if there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.seen.is_empty()
    }

    /// The row without its keys: they were the owner's who issued them.
    #[must_use]
    pub fn without_keys(self) -> Self {
        Self { keys: Vec::new(), ..self }
    }

    /// Refuses an update whose signature ended at `until`, and one that was accepted before, by whatever key.
    ///
    /// # Errors
    /// [`Rejection::UpdateExpired`], [`Rejection::UpdateReplayed`]
    pub fn check_new(&self, update: &SignedUpdate, until: u64, time: u64) -> Result<(), Rejection> {
        if until <= time {
            return Err(Rejection::UpdateExpired { until, now: time });
        }
        let digest = update.digest();
        let by_key = self.keys.iter().filter_map(|key| key.used.as_ref()).flat_map(|used| &used.seen);
        match self.seen.iter().chain(by_key).any(|seen| seen.digest == digest) {
            true => Err(Rejection::UpdateReplayed),
            false => Ok(()),
        }
    }

    /// The row after an update by the name's own key, or by the update key of a label for `price`, has been accepted.
    ///
    /// # Errors
    /// Too many are remembered; the key's budget does not hold the price.
    pub fn noting(
        mut self,
        name: &Name,
        (update, until): (&SignedUpdate, u64),
        by: Option<(&str, u64)>,
        time: u64,
    ) -> Result<Self, Rejection> {
        let seen = Seen { digest: update.digest(), until };
        match by {
            None => {
                push_seen(&mut self.seen, seen, time, ("updates of one name within ten minutes", MAX_SEEN_UPDATES))?
            }
            Some((label, price)) => {
                let unknown = || Rejection::UnknownUpdateKey { name: name.clone(), label: label.to_owned() };
                let at = self.keys.iter().position(|key| key.label == label && time < key.expires);
                let key = self.keys.remove(at.ok_or_else(unknown)?);
                self.keys.insert(at.unwrap_or_default(), key.spending(price, seen, name, time)?);
            }
        }
        self.seen.retain(|seen| time < seen.until);
        Ok(self)
    }
}

fn push_seen(list: &mut Vec<Seen>, seen: Seen, time: u64, (what, max): (&'static str, usize)) -> Result<(), Rejection> {
    list.retain(|seen| time < seen.until);
    if list.len() >= max {
        return Err(Rejection::TooMany { what, max });
    }
    list.push(seen);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_whole_again_after_a_day() {
        let name = Name::from_user("a.ghost").unwrap();
        let key =
            UpdateKey { label: "k".into(), scopes: vec![], issued: 1, expires: u64::MAX, mana: Some(10), used: None };
        let seen = |n: u8| Seen { digest: [n; 16], until: 700 };
        let key = key.spending(6, seen(1), &name, 100).unwrap();
        assert_eq!((key.left(100), key.left(100 + DAY / 2), key.left(100 + DAY)), (4, 9, 10));
        // A clock that went back gives nothing.
        assert_eq!(key.left(0), 4);
        let over = key.clone().spending(6, seen(2), &name, 100);
        assert!(matches!(over, Err(Rejection::KeyBudget { left: 4, need: 6, most: 10, .. })), "{over:?}");
        assert!(key.clone().spending(u64::MAX, seen(2), &name, 100).is_err());
        let most = UpdateKey { mana: Some(u64::MAX), ..key };
        assert!(most.left(u64::MAX) > 0);
    }

    #[test]
    fn rows_of_before_keys_had_budgets_are_read() {
        #[derive(Encode)]
        struct Old {
            #[n(0)]
            label: String,
            #[n(1)]
            scopes: Vec<UpdateScope>,
            #[n(2)]
            issued: u64,
            #[n(3)]
            expires: u64,
        }
        let old = minicbor::to_vec(Old { label: "k".into(), scopes: vec![], issued: 7, expires: 9 }).unwrap();
        let key: UpdateKey = minicbor::decode(&old).unwrap();
        assert_eq!((key.budget(), key.left(0), key.issued), (UPDATE_KEY_MANA, UPDATE_KEY_MANA, 7));
        assert_eq!(minicbor::to_vec(&key).unwrap(), old);
    }
}
