//! Who can act: a sigil, or a set of guardians. The two never look alike: octets tell them by their length, text by its
//! method.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use sha2::Digest as _;

use super::{RegistryId, SigilId};

/// A guardian set: SHA-256 over what made it; displayed as `did:ghost:set:z…` (base58btc). It is the public key of
/// nobody, for nobody can choose it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct SetId(#[cbor(with = "minicbor::bytes")] pub [u8; 32]);

/// Text is not the DID of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a guardian set (expected did:ghost:set:z…)")]
pub struct NotASet;

/// Text is the DID of neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither a sigil (did:key:z6Mk…) nor a guardian set (did:ghost:set:z…)")]
pub struct NotAnIdentity;

const PREFIX: &str = "did:ghost:set:z";
/// Keeps the hash from being taken for any other one.
const CONTEXT: &[u8] = b"ghostplane set v1";

impl SetId {
    /// The set that `creator` makes with an op of this nonce: known before the op is accepted, and made once, as nonces
    /// are used once.
    pub fn of(registry: RegistryId, creator: SigilId, nonce: u64) -> Self {
        let octets = [CONTEXT, &registry.0, &creator.0, &nonce.to_be_bytes()].concat();
        Self(sha2::Sha256::digest(octets).into())
    }
}

impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", bs58::encode(self.0).into_string())
    }
}

impl fmt::Debug for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SetId {
    type Err = NotASet;

    fn from_str(text: &str) -> Result<Self, NotASet> {
        // 32 octets are at most 44 base58 digits; longer text is not worth decoding.
        let digits = text.strip_prefix(PREFIX).filter(|digits| digits.len() <= 44).ok_or(NotASet)?;
        let octets = bs58::decode(digits).into_vec().map_err(|_| NotASet)?;
        octets.try_into().map(Self).map_err(|_| NotASet)
    }
}

/// A sigil or a set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    Sigil(SigilId),
    Set(SetId),
}

/// First of the 33 octets of a set.
const SET: u8 = 1;

impl Identity {
    /// 32 octets of a sigil, 33 of a set.
    pub fn to_octets(self) -> Vec<u8> {
        match self {
            Self::Sigil(id) => id.0.to_vec(),
            Self::Set(id) => [&[SET], &id.0[..]].concat(),
        }
    }

    /// What [`Identity::to_octets`] gave.
    pub fn from_octets(octets: &[u8]) -> Option<Self> {
        match octets {
            [SET, rest @ ..] if rest.len() == 32 => rest.try_into().ok().map(|id| Self::Set(SetId(id))),
            octets => octets.try_into().ok().map(|id| Self::Sigil(SigilId(id))),
        }
    }

    /// The sigil, if it is one.
    pub fn sigil(self) -> Option<SigilId> {
        match self {
            Self::Sigil(id) => Some(id),
            Self::Set(_) => None,
        }
    }
}

impl From<SigilId> for Identity {
    fn from(id: SigilId) -> Self {
        Self::Sigil(id)
    }
}

impl From<SetId> for Identity {
    fn from(id: SetId) -> Self {
        Self::Set(id)
    }
}

impl PartialEq<SigilId> for Identity {
    fn eq(&self, other: &SigilId) -> bool {
        *self == Self::Sigil(*other)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sigil(id) => fmt::Display::fmt(id, f),
            Self::Set(id) => fmt::Display::fmt(id, f),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Identity {
    type Err = NotAnIdentity;

    fn from_str(text: &str) -> Result<Self, NotAnIdentity> {
        let set = || text.parse().map(Self::Set).map_err(|_| NotAnIdentity);
        text.parse().map(Self::Sigil).or_else(|_| set())
    }
}

impl<C> Encode<C> for Identity {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.bytes(&self.to_octets())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Identity {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        Self::from_octets(d.bytes()?).ok_or_else(|| decode::Error::message("neither a sigil nor a set"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sigils_and_sets_never_look_alike() {
        let (sigil, set) = (Identity::Sigil(SigilId([1; 32])), Identity::Set(SetId([1; 32])));
        for id in [sigil, set] {
            assert_eq!(Identity::from_octets(&id.to_octets()), Some(id));
            assert_eq!(id.to_string().parse::<Identity>(), Ok(id));
            assert_eq!(minicbor::decode::<Identity>(&minicbor::to_vec(id).unwrap()).unwrap(), id);
        }
        assert_ne!(sigil.to_octets(), set.to_octets());
        assert_eq!(set.to_string().parse::<SigilId>(), Err(crate::op::NotADid));
        assert_eq!(sigil.to_string().parse::<SetId>(), Err(NotASet));
        // Of 33 octets only those of a set, and no other length.
        assert_eq!(Identity::from_octets(&[2; 33]), None);
        for len in [0, 31, 34] {
            assert_eq!(Identity::from_octets(&vec![1; len]), None);
        }
        // Leading zeros are digits of their own in base58.
        let zeros = Identity::Set(SetId([0; 32]));
        assert_eq!(zeros.to_string().parse::<Identity>(), Ok(zeros));
    }

    #[test]
    fn a_set_is_named_after_what_made_it() {
        let (registry, creator) = (RegistryId([7; 32]), SigilId([1; 32]));
        let set = SetId::of(registry, creator, 3);
        assert_ne!(set, SetId::of(registry, creator, 4));
        assert_ne!(set, SetId::of(RegistryId([8; 32]), creator, 3));
        assert_ne!(set, SetId::of(registry, SigilId([2; 32]), 3));
    }
}
