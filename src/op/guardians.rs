//! What ops about guardians are made of.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Encode};

use super::Identity;

/// A member of a guardian set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Member {
    #[n(0)]
    pub who: Identity,
    /// 1 to 1,000.
    #[n(1)]
    pub weight: u16,
}

/// What an owner can ask a set's signatures for, beside what always needs them: whatever would end the rule (giving the
/// name away or up, changing its guardians), and every kind of op that is none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(index_only)]
pub enum Scope {
    /// Putting and deleting records.
    #[n(0)]
    Records,
    /// Binding contracts.
    #[n(1)]
    Bind,
    #[n(2)]
    Renew,
}

/// Text is not a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not one of records, bind, renew")]
pub struct NotAScope;

impl Scope {
    /// In order.
    pub const ALL: [Self; 3] = [Self::Records, Self::Bind, Self::Renew];

    /// The word for it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Bind => "bind",
            Self::Renew => "renew",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl FromStr for Scope {
    type Err = NotAScope;

    fn from_str(text: &str) -> Result<Self, NotAScope> {
        Self::ALL.into_iter().find(|scope| scope.text() == text).ok_or(NotAScope)
    }
}
