//! When names last changed: the one thing a cache hit checks.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::op::SigilId;
use crate::wire::Name;

/// Number of slots; a power of two.
const SLOTS: usize = 1 << 16;

/// The slot of a registered name, or of an account that an answer depends on. Two may share one: then a change of one
/// invalidates answers of the other, too, which costs a miss and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp(u16);

impl Stamp {
    /// The slot of `name`.
    pub fn of(name: &Name) -> Self {
        let mut hasher = DefaultHasher::new();
        name.as_wire().hash(&mut hasher);
        Self(hasher.finish() as u16)
    }

    /// The slot of an identity's account.
    pub fn of_account(id: &SigilId) -> Self {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        Self(hasher.finish() as u16)
    }

    /// The slot's number.
    pub fn slot_number(self) -> u16 {
        self.0
    }
}

/// Sequence of the last change per slot. No locks: readers load, the writer raises.
pub struct Stamps(Box<[AtomicU64]>);

impl Stamps {
    pub(crate) fn new() -> Self {
        Self((0..SLOTS).map(|_| AtomicU64::new(0)).collect())
    }

    /// Notes a change at `seq`.
    pub(super) fn raise(&self, stamp: Stamp, seq: u64) {
        self.slot(stamp).fetch_max(seq, Ordering::Release);
    }

    /// Notes a change of everything.
    pub(super) fn raise_all(&self, seq: u64) {
        for slot in &self.0 {
            slot.fetch_max(seq, Ordering::Release);
        }
    }

    /// True if nothing read at `seq` under these stamps has changed since.
    pub fn unchanged_since(&self, seq: u64, stamps: &[Stamp]) -> bool {
        stamps.iter().all(|stamp| self.slot(*stamp).load(Ordering::Acquire) <= seq)
    }

    fn slot(&self, stamp: Stamp) -> &AtomicU64 {
        // A u16 is always below SLOTS.
        &self.0[usize::from(stamp.0)]
    }
}
