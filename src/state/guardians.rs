//! Guardians: sets, attestors, and what a name asks of them.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

use super::{Account, LEVELS, NameEntry, View};
use crate::limits::{MAX_MEMBERS, MAX_WEIGHT};
use crate::op::{Identity, Member, OpKind, Scope, SetId, SigilId};

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
    /// Sets that it is a member of. Such a set holds no sets itself: sets are nested once.
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
    /// Its members that are sets.
    pub fn nested(&self) -> impl Iterator<Item = SetId> {
        self.members.iter().filter_map(|member| match member.who {
            Identity::Set(set) => Some(set),
            Identity::Sigil(_) => None,
        })
    }

    /// The weight of those who have signed, given which member sets are satisfied.
    fn weight<E>(&self, signers: &[SigilId], mut nested: impl FnMut(&SetId) -> Result<bool, E>) -> Result<u32, E> {
        let mut weight = 0;
        for member in &self.members {
            let signed = match &member.who {
                Identity::Sigil(id) => signers.contains(id),
                Identity::Set(set) => nested(set)?,
            };
            // 32 members of at most 1,000.
            weight += if signed { u32::from(member.weight) } else { 0 };
        }
        Ok(weight)
    }
}

/// The weight in a set of those who have signed an op: a member set counts if it is satisfied itself.
///
/// # Errors
/// The store failed.
pub fn weight<V: View + ?Sized>(view: &V, set: &GuardianSet, signers: &[SigilId]) -> Result<u32, V::Fault> {
    set.weight(signers, |id| {
        let Some(inner) = view.set(id)? else { return Ok(false) };
        // Sets are nested once: what is deeper counts nothing.
        Ok(inner.weight(signers, |_| Ok(false))? >= inner.threshold)
    })
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
        *ends.entry(until / DAY).or_default() += capacity;
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
    /// True for ops that need the set's signatures.
    pub fn covers(&self, kind: OpKind) -> bool {
        Scope::of(kind).is_none_or(|scope| self.scopes.contains(&scope))
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

    #[test]
    fn a_weight_is_that_of_each_member_once() {
        let sigil = |octet: u8| Identity::Sigil(SigilId([octet; 32]));
        let member = |octet: u8, weight: u16| Member { who: sigil(octet), weight };
        let members = vec![member(1, 2), member(2, 3)];
        let set = GuardianSet {
            creator: SigilId([9; 32]),
            members,
            threshold: 4,
            parents: 0,
            account: Account::default(),
            changed: 1,
        };
        let weight = |signers: &[u8]| {
            let signers: Vec<SigilId> = signers.iter().map(|octet| SigilId([*octet; 32])).collect();
            weight(&super::super::Model::default(), &set, &signers).unwrap()
        };
        assert_eq!((weight(&[]), weight(&[1]), weight(&[2, 2]), weight(&[1, 2, 3])), (0, 2, 3, 5));
    }
}
