//! Public zone keys: DNSKEY RDATA that can check signatures.

use std::fmt;

use ed25519_dalek::VerifyingKey;
use p256::ecdsa;
use p256::ecdsa::signature::Verifier as _;

use super::{ALGORITHM_ED25519, ALGORITHM_P256, FLAGS_OWNER, RrsigError, dnskey, key_tag};
use crate::wire::u16_at;

/// A zone key of an algorithm that is known here.
#[derive(Clone)]
pub struct PublicKey {
    dnskey: Box<[u8]>,
    tag: u16,
    point: Point,
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.dnskey == other.dnskey
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {} of algorithm {}, flags {}", self.tag, self.algorithm(), self.flags())
    }
}

#[derive(Clone)]
enum Point {
    Ed25519(VerifyingKey),
    P256(Box<ecdsa::VerifyingKey>),
}

impl PublicKey {
    /// Reads DNSKEY RDATA with the Zone Key bit and protocol 3 (RFC 4034 §2.1), algorithm 15 (RFC 8080) or 13
    /// (RFC 6605). `None` for anything else, or if the key is no point of its curve.
    pub fn from_dnskey(dnskey: &[u8]) -> Option<Self> {
        let (head, key) = dnskey.split_first_chunk::<4>()?;
        if head[0] & 1 == 0 || head[2] != 3 {
            return None;
        }
        let point = match head[3] {
            ALGORITHM_ED25519 => Point::Ed25519(VerifyingKey::try_from(key).ok()?),
            // The two coordinates, without the octet that SEC 1 puts before them (RFC 6605 §4).
            ALGORITHM_P256 if key.len() == 64 => {
                Point::P256(Box::new(ecdsa::VerifyingKey::from_sec1_bytes(&[&[4], key].concat()).ok()?))
            }
            _ => return None,
        };
        Some(Self { dnskey: dnskey.into(), tag: key_tag(dnskey), point })
    }

    /// The zone key that a sigil is.
    pub fn of_sigil(key: &VerifyingKey) -> Self {
        Self::new(FLAGS_OWNER, Point::Ed25519(*key))
    }

    pub(super) fn ed25519(flags: u16, key: VerifyingKey) -> Self {
        Self::new(flags, Point::Ed25519(key))
    }

    pub(super) fn p256(flags: u16, key: ecdsa::VerifyingKey) -> Self {
        Self::new(flags, Point::P256(Box::new(key)))
    }

    fn new(flags: u16, point: Point) -> Self {
        let dnskey = match &point {
            Point::Ed25519(key) => dnskey(flags, ALGORITHM_ED25519, key.as_bytes()),
            Point::P256(key) => dnskey(flags, ALGORITHM_P256, &key.to_sec1_point(false).as_bytes()[1..]),
        };
        Self { tag: key_tag(&dnskey), dnskey: dnskey.into(), point }
    }

    /// DNSKEY RDATA.
    pub fn dnskey(&self) -> &[u8] {
        &self.dnskey
    }

    /// The DNSKEY flags.
    pub fn flags(&self) -> u16 {
        u16_at(&self.dnskey, 0)
    }

    /// The algorithm's number.
    pub fn algorithm(&self) -> u8 {
        self.dnskey[3]
    }

    /// The key tag (RFC 4034 appendix B).
    pub fn tag(&self) -> u16 {
        self.tag
    }

    /// True if `key`, in the form of a DNSKEY of this algorithm, made the signature over `data`; false, too, for what is
    /// no key.
    pub fn verifies(algorithm: u8, key: &[u8], data: &[u8], signature: &[u8]) -> bool {
        let key = Self::from_dnskey(&dnskey(FLAGS_OWNER, algorithm, key));
        key.is_some_and(|key| key.check(data, signature).is_ok())
    }

    /// Checks a signature over `data`.
    pub(super) fn check(&self, data: &[u8], signature: &[u8]) -> Result<(), RrsigError> {
        match &self.point {
            // Strict: a small-order key or a malleable signature would let one record verify in two ways.
            Point::Ed25519(key) => {
                let signature = ed25519_dalek::Signature::from_slice(signature).map_err(|_| RrsigError::Malformed)?;
                key.verify_strict(data, &signature).map_err(|_| RrsigError::Signature)
            }
            Point::P256(key) => {
                let signature = ecdsa::Signature::from_slice(signature).map_err(|_| RrsigError::Malformed)?;
                key.verify(data, &signature).map_err(|_| RrsigError::Signature)
            }
        }
    }
}
