//! What a name keeps about DNS UPDATE: its update keys, and the updates that were accepted not long ago.

use minicbor::{Decode, Encode};

use crate::limits::MAX_SEEN_UPDATES;
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
}

impl UpdateKey {
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

    /// The row after an update whose signature ends at `until` has been accepted at `time`.
    ///
    /// # Errors
    /// It ended already, was accepted before, or too many are remembered.
    pub fn noting(mut self, update: &SignedUpdate, until: u64, time: u64) -> Result<Self, Rejection> {
        if until <= time {
            return Err(Rejection::UpdateExpired { until, now: time });
        }
        let digest = update.digest();
        if self.seen.iter().any(|seen| seen.digest == digest) {
            return Err(Rejection::UpdateReplayed);
        }
        self.seen.retain(|seen| time < seen.until);
        if self.seen.len() >= MAX_SEEN_UPDATES {
            return Err(Rejection::TooMany { what: "updates of one name within ten minutes", max: MAX_SEEN_UPDATES });
        }
        self.seen.push(Seen { digest, until });
        Ok(self)
    }
}
