//! Guardians: sets, attestors, and what a name asks of them.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use super::{Account, LEVELS, NameEntry, View};
use crate::limits::{MAX_MEMBERS, MAX_SEATINGS, MAX_WEIGHT};
use crate::op::{Action, Consent, Identity, Member, Scope, SetId, SigilId};

/// A guardian set: m of n, by weight.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct GuardianSet {
    #[n(0)]
    pub creator: SigilId,
    /// In order, each once.
    #[n(1)]
    pub members: Vec<Member>,
    /// Weight that speaks for the set.
    #[n(2)]
    pub threshold: u32,
    /// Sets that it is a member of. What those count of it are its own keys: sets are nested once.
    #[n(3)]
    pub parents: u32,
    /// Its own nonce and mana.
    #[n(4)]
    pub account: Account,
    /// Sequence of the op that made it as it is.
    #[n(5)]
    pub changed: u64,
}

impl GuardianSet {
    /// Its members that are keys, and their weights.
    fn keys(&self) -> Vec<(SigilId, u16)> {
        self.members.iter().filter_map(|member| Some((member.who.sigil()?, member.weight))).collect()
    }

    /// Its members that are sets.
    pub fn nested(&self) -> impl Iterator<Item = SetId> {
        self.members.iter().filter_map(|member| match member.who {
            Identity::Set(set) => Some(set),
            Identity::Sigil(_) => None,
        })
    }
}

/// A member as far as weights go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seat<K> {
    Key(K),
    /// A member set: the weight that it asks for, and its own keys. Sets that it holds count nothing here.
    Set {
        threshold: u32,
        keys: Vec<(K, u16)>,
    },
}

/// The weight of those who have signed: of a key that is a member, and of a member set that enough of its keys have
/// signed for. One key counts in one place, whichever makes the sum the highest: as a member, or in one member set. So one
/// more signature never weighs less, and nobody loses weight because others have named the same key elsewhere.
///
/// Where keys stand in several places, up to [`MAX_SEATINGS`] ways to seat them are tried; keys beyond that sit in their
/// first place.
pub fn weigh<K: Ord>(members: &[(Seat<K>, u16)], signers: &[K]) -> u32 {
    let mut sums = vec![0_u32; members.len()];
    let (mut shared, mut ways) = (Vec::new(), 1_usize);
    for signer in signers.iter().collect::<std::collections::BTreeSet<_>>() {
        let places: Vec<(usize, u32)> =
            members.iter().enumerate().filter_map(|(at, (seat, _))| Some((at, seat.weight_of(signer)?))).collect();
        let more = ways.saturating_mul(places.len());
        if let [first, _, ..] = places[..] {
            if more <= MAX_SEATINGS {
                ways = more;
                shared.push(places);
            } else {
                sums[first.0] += first.1;
            }
        } else if let [only] = places[..] {
            sums[only.0] += only.1;
        }
    }
    best(members, &mut sums, &shared)
}

/// The highest weight over all seatings of keys that stand in several places.
fn best<K>(members: &[(Seat<K>, u16)], sums: &mut [u32], shared: &[Vec<(usize, u32)>]) -> u32 {
    let Some((places, rest)) = shared.split_first() else {
        let counts = |(at, (seat, _)): &(usize, &(Seat<K>, u16))| sums[*at] >= seat.threshold();
        // 32 members of at most 1,000.
        return members.iter().enumerate().filter(counts).map(|(_, (_, weight))| u32::from(*weight)).sum();
    };
    let seated = places.iter().map(|(at, weight)| {
        sums[*at] += weight;
        let sum = best(members, sums, rest);
        sums[*at] -= weight;
        sum
    });
    seated.max().unwrap_or(0)
}

impl<K: Ord> Seat<K> {
    /// The weight of a key in it, if it stands there.
    fn weight_of(&self, key: &K) -> Option<u32> {
        match self {
            Self::Key(own) => (own == key).then_some(1),
            Self::Set { keys, .. } => keys.iter().find(|(own, _)| own == key).map(|(_, weight)| u32::from(*weight)),
        }
    }
}

impl<K> Seat<K> {
    fn threshold(&self) -> u32 {
        match self {
            Self::Key(_) => 1,
            Self::Set { threshold, .. } => *threshold,
        }
    }
}

/// The weight in a set of those who have signed an op.
///
/// # Errors
/// The store failed.
pub fn weight<V: View + ?Sized>(view: &V, set: &GuardianSet, signers: &[SigilId]) -> Result<u32, V::Fault> {
    let mut members = Vec::new();
    for member in &set.members {
        let seat = match member.who {
            Identity::Sigil(id) => Seat::Key(id),
            Identity::Set(id) => match view.set(&id)? {
                Some(inner) => Seat::Set { threshold: inner.threshold, keys: inner.keys() },
                None => continue,
            },
        };
        members.push((seat, member.weight));
    }
    Ok(weigh(&members, signers))
}

/// True if those who have signed speak for a set. An unknown set is satisfied by nobody.
///
/// # Errors
/// The store failed.
pub fn set_satisfied<V: View + ?Sized>(view: &V, set: &SetId, signers: &[SigilId]) -> Result<bool, V::Fault> {
    match view.set(set)? {
        Some(row) => Ok(weight(view, &row, signers)? >= row.threshold),
        None => Ok(false),
    }
}

/// The account of an identity: a sigil that was never seen has an empty one, a set that does not exist none.
///
/// # Errors
/// The store failed.
pub fn account_of<V: View + ?Sized>(view: &V, id: &Identity) -> Result<Option<Account>, V::Fault> {
    match id {
        Identity::Sigil(id) => view.account(id).map(Some),
        Identity::Set(id) => Ok(view.set(id)?.map(|set| set.account)),
    }
}

/// What of a set can be told without looking at others.
///
/// # Errors
/// In words.
pub fn check_members(members: &[Member], threshold: u32) -> Result<(), &'static str> {
    if members.is_empty() || members.len() > MAX_MEMBERS {
        return Err("it has 1 to 32 members");
    }
    if !members.windows(2).all(|pair| pair[0].who < pair[1].who) {
        return Err("members stand in order, sigils before sets, each once");
    }
    if !members.iter().all(|member| (1..=MAX_WEIGHT).contains(&member.weight)) {
        return Err("a member weighs 1 to 1,000");
    }
    if members.iter().any(|member| member.who.sigil().is_some_and(|id| id.key().is_none())) {
        return Err("a member is no Ed25519 public key");
    }
    let all: u32 = members.iter().map(|member| u32::from(member.weight)).sum();
    if threshold == 0 || threshold > all {
        return Err("the threshold is at least 1, and no more than all members weigh");
    }
    Ok(())
}

/// What the operator allows an attestor, and what that has given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Attestor {
    #[n(0)]
    pub max_level: u8,
    /// Sum of the capacities (mana) that it may attest at any time.
    #[n(1)]
    pub quota: u64,
    /// Capacities that are attested, by the day on which they end: at most one entry a day for as long as attestations
    /// last, however many there are.
    #[n(2)]
    ends: BTreeMap<u64, u64>,
}

const DAY: u64 = 86_400;

impl Attestor {
    /// Capacity that is taken at `time`. What ends counts until the end of its day.
    pub fn used(&self, time: u64) -> u64 {
        self.ends.range(time / DAY..).fold(0, |sum, (_, capacity)| sum.saturating_add(*capacity))
    }

    /// With one attestation more; `None` if the quota does not hold it.
    pub(super) fn taking(&self, time: u64, level: u8, until: u64) -> Option<Self> {
        let capacity = capacity(level);
        if self.used(time).checked_add(capacity)? > self.quota {
            return None;
        }
        let mut ends = self.ends.clone();
        ends.retain(|day, _| *day >= time / DAY);
        let day = ends.entry(until / DAY).or_default();
        *day = day.saturating_add(capacity);
        Some(Self { ends, ..*self })
    }

    /// With one attestation less, if it still counts.
    pub(super) fn releasing(mut self, level: u8, until: u64) -> Self {
        if let Some(taken) = self.ends.get_mut(&(until / DAY)) {
            *taken = taken.saturating_sub(capacity(level));
            self.ends.retain(|_, taken| *taken > 0);
        }
        self
    }

    /// The same attestations under other terms.
    pub(super) fn under(self, max_level: u8, quota: u64) -> Self {
        Self { max_level, quota, ..self }
    }
}

/// Mana that a level can hold: what it takes of a quota.
pub(super) fn capacity(level: u8) -> u64 {
    LEVELS.get(usize::from(level)).copied().unwrap_or(0)
}

/// What guardians have to say about a name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Guard {
    #[n(0)]
    pub cosign: Option<Cosign>,
    #[n(1)]
    pub recovery: Option<Recovery>,
    #[n(2)]
    pub pending: Option<Pending>,
    /// Seconds since 1970; in the past if the name is not frozen.
    #[n(3)]
    pub frozen_until: u64,
}

/// The set whose signatures an owner's ops need.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Cosign {
    #[n(0)]
    pub set: SetId,
    /// In order, each once.
    #[n(1)]
    pub scopes: Vec<Scope>,
}

/// The set that may recover a name and freeze it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Recovery {
    #[n(0)]
    pub set: SetId,
    /// Seconds for which the owner can say no.
    #[n(1)]
    pub delay: u64,
    /// When it may next start a recovery, and freeze, seconds since 1970.
    #[n(2)]
    pub start_from: u64,
    #[n(3)]
    pub freeze_from: u64,
}

/// A recovery under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Pending {
    #[n(0)]
    pub to: SigilId,
    /// When it may be finished, and until when, seconds since 1970.
    #[n(1)]
    pub ready: u64,
    #[n(2)]
    pub lapses: u64,
}

impl Cosign {
    /// True for what needs the set's signatures.
    pub fn covers(&self, action: Action) -> bool {
        match action.consent() {
            Consent::Always => true,
            Consent::In(scope) => self.scopes.contains(&scope),
            Consent::Never => false,
        }
    }
}

impl Guard {
    /// True while the owner may write nothing.
    pub fn is_frozen(&self, time: u64) -> bool {
        time < self.frozen_until
    }

    /// The recovery that can be vetoed or finished.
    pub fn pending_at(&self, time: u64) -> Option<Pending> {
        self.pending.filter(|pending| time < pending.lapses)
    }
}

impl NameEntry {
    /// The entry with another guard.
    pub(super) fn guarded(self, guard: Guard) -> Self {
        let nothing = guard == Guard::default();
        Self { guard: (!nothing).then(|| Box::new(guard)), ..self }
    }

    /// What guardians have to say.
    pub fn guard(&self) -> Guard {
        self.guard.as_deref().cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_free_again_after_the_day_of_the_end() {
        let attestor = Attestor::default().under(2, 12_000);
        let until = 10 * DAY + 5;
        let one = attestor.taking(0, 2, until).unwrap();
        let two = one.taking(0, 1, until + 1).unwrap();
        assert_eq!(two.used(0), 11_000);
        assert_eq!((two.taking(0, 2, until), two.used(until + 1)), (None, 11_000));
        assert_eq!(two.used(11 * DAY), 0);
        assert_eq!(two.clone().releasing(2, until).used(0), 1_000);
        assert_eq!(two.releasing(2, until).releasing(1, until), attestor);
        // What has ended is forgotten.
        assert_eq!(one.taking(11 * DAY, 1, 12 * DAY).unwrap().ends.len(), 1);
    }

    fn keys(keys: &[u8]) -> Seat<u8> {
        Seat::Set { threshold: keys.len() as u32, keys: keys.iter().map(|key| (*key, 1)).collect() }
    }

    #[test]
    fn a_weight_is_that_of_each_member_once() {
        let set = [(Seat::Key(1), 2), (Seat::Key(2), 3)];
        let weight = |signers: &[u8]| weigh(&set, signers);
        assert_eq!((weight(&[]), weight(&[1]), weight(&[2, 2]), weight(&[1, 2, 3])), (0, 2, 3, 5));
    }

    #[test]
    fn a_key_counts_in_one_place_and_in_the_best_one() {
        let set = [(Seat::Key(1), 1), (keys(&[1]), 1)];
        assert_eq!(weigh(&set, &[1]), 1);
        let set = [(Seat::Key(1), 1), (keys(&[1, 2]), 10)];
        assert_eq!((weigh(&set, &[1]), weigh(&set, &[2]), weigh(&set, &[1, 2])), (1, 0, 10));
        // One key in two member sets; another in one of them only.
        let set = [(keys(&[1]), 3), (Seat::Set { threshold: 1, keys: vec![(1, 1), (2, 1)] }, 4)];
        assert_eq!((weigh(&set, &[1]), weigh(&set, &[2]), weigh(&set, &[1, 2])), (4, 4, 7));
        // A member set that names the keys of two others, and asks for little, takes nothing from them.
        let greedy = (Seat::Set { threshold: 2, keys: vec![(1, 1), (2, 1)] }, 1);
        assert_eq!(weigh(&[greedy, (keys(&[1]), 1), (keys(&[2]), 1)], &[1, 2]), 2);
    }

    #[test]
    fn more_signatures_never_weigh_less_and_work_is_bounded() {
        let all: Vec<u8> = (0..64).collect();
        let everywhere: Vec<(Seat<u8>, u16)> = (0..32)
            .map(|at| (Seat::Set { threshold: 1 + at % 5, keys: all.iter().map(|key| (*key, 1)).collect() }, 1))
            .collect();
        let weights: Vec<u32> = (0..=64).map(|count| weigh(&everywhere, &all[..count])).collect();
        assert_eq!((weights[0], weights[1], weights[2]), (0, 1, 2));
        // 64 keys cannot make more than their number of sets count.
        assert!(weights.iter().enumerate().all(|(count, weight)| *weight as usize <= count), "{weights:?}");
    }
}
