//! Sigils: Ed25519 public keys as `did:key` identifiers.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::VerifyingKey;
use minicbor::{Decode, Encode};

/// The public key of a sigil, 32 octets; displayed as its `did:key` (W3C did:key method, multicodec 0xed).
/// It need not be a valid curve point: only [`SigilId::key`] proves that.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct SigilId(#[cbor(with = "minicbor::bytes")] pub [u8; 32]);

/// Text is not the `did:key` of an Ed25519 key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an Ed25519 did:key (expected did:key:z6Mk…)")]
pub struct NotADid;

/// Multicodec prefix of an Ed25519 public key, as an unsigned varint.
const ED25519_PUB: [u8; 2] = [0xed, 0x01];
const PREFIX: &str = "did:key:z";

impl SigilId {
    /// The key, if the octets are a curve point.
    pub fn key(&self) -> Option<VerifyingKey> {
        VerifyingKey::from_bytes(&self.0).ok()
    }
}

impl From<&VerifyingKey> for SigilId {
    fn from(key: &VerifyingKey) -> Self {
        Self(key.to_bytes())
    }
}

impl fmt::Display for SigilId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let octets = [&ED25519_PUB[..], &self.0].concat();
        write!(f, "{PREFIX}{}", bs58::encode(octets).into_string())
    }
}

impl fmt::Debug for SigilId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SigilId {
    type Err = NotADid;

    fn from_str(text: &str) -> Result<Self, NotADid> {
        // 34 octets are at most 47 base58 digits; longer text is not worth decoding.
        let digits = text.strip_prefix(PREFIX).filter(|digits| digits.len() <= 48).ok_or(NotADid)?;
        let octets = bs58::decode(digits).into_vec().map_err(|_| NotADid)?;
        let key = octets.strip_prefix(&ED25519_PUB).ok_or(NotADid)?;
        key.try_into().map(Self).map_err(|_| NotADid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn did_key_is_that_of_the_did_key_method_examples() {
        // Example of the W3C CCG did:key specification, section 3.1.1 "Ed25519 with X25519".
        let did = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp";
        let id: SigilId = did.parse().unwrap();
        assert_eq!(id.to_string(), did);
        assert_eq!(
            data_encoding::HEXLOWER.encode(&id.0),
            "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29"
        );
        assert_eq!("did:key:z6LSbysY2xFMRpGMhb7tFTLMpeuPRaqaWM1yECx2AtzE3KCc".parse::<SigilId>(), Err(NotADid));
        assert_eq!("did:web:example".parse::<SigilId>(), Err(NotADid));
    }
}
