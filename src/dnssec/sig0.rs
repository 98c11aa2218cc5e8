//! SIG(0): transactions signed by a sigil (RFC 2931, RFC 8080).

use ed25519_dalek::{Signature, VerifyingKey};

use super::rrsig::serial_diff;
use super::{ALGORITHM_ED25519, dnskey, key_tag};
use crate::limits::{UPDATE_SKEW, UPDATE_WINDOW};
use crate::wire::update::{Sig0, UpdateMessage};

/// Flags of KEY records that key tags are computed over (RFC 2535 §3.1.2, RFC 3445): a host's as `dnssec-keygen -n
/// HOST` makes them, a user's, a zone's, and a zone's with the SEP bit.
const KEY_FLAGS: [u16; 5] = [FLAGS_HOST, 0, 1, 256, 257];

/// Flags of the KEY record of an entity that is no zone (RFC 2535 §3.1.2).
pub const FLAGS_HOST: u16 = 512;

/// Why a transaction signature is not looked into, or does not prove anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Sig0Error {
    #[error("SIG(0) is not by the name's key")]
    Key,
    #[error("SIG(0) is valid from a time on that lies ahead; check the clock of the signing machine")]
    NotYet,
    #[error("SIG(0) has expired")]
    Expired,
    #[error("SIG(0) is valid for longer than {UPDATE_WINDOW} s")]
    TooWide,
    #[error("SIG(0) does not verify with the name's key")]
    Signature,
}

/// RDATA of the KEY record of a sigil, for clients that want one (RFC 2535 §3.1).
pub fn key_rdata(key: &VerifyingKey) -> Vec<u8> {
    dnskey(FLAGS_HOST, ALGORITHM_ED25519, key.as_bytes())
}

/// All that can be said without a point multiplication: algorithm and key tag are those of `key`, `now` (seconds since
/// 1970) lies in a window of at most [`UPDATE_WINDOW`]. Gives its end, seconds since 1970.
///
/// # Errors
/// The first thing that does not fit.
pub fn check(sig: &Sig0, key: &VerifyingKey, now: u64) -> Result<u64, Sig0Error> {
    let tag = |flags: &u16| key_tag(&dnskey(*flags, ALGORITHM_ED25519, key.as_bytes()));
    if sig.algorithm != ALGORITHM_ED25519 || !KEY_FLAGS.iter().any(|flags| tag(flags) == sig.key_tag) {
        return Err(Sig0Error::Key);
    }
    let left = serial_diff(sig.expiration, now as u32);
    let until = u64::try_from(left).ok().filter(|left| *left > 0).ok_or(Sig0Error::Expired)?;
    if serial_diff(sig.inception, (now + UPDATE_SKEW) as u32) > 0 {
        return Err(Sig0Error::NotYet);
    }
    let width = serial_diff(sig.expiration, sig.inception);
    if u64::try_from(width).is_ok_and(|width| width <= UPDATE_WINDOW) {
        Ok(now + until)
    } else {
        Err(Sig0Error::TooWide)
    }
}

/// Checks the signature over the exact octets (RFC 2931 §3.1): SIG RDATA without the signature, then the message
/// without the SIG record.
///
/// # Errors
/// [`Sig0Error::Signature`]
pub fn verify(message: &UpdateMessage, sig: &Sig0, key: &VerifyingKey) -> Result<(), Sig0Error> {
    let signature = Signature::from_slice(&sig.signature).map_err(|_| Sig0Error::Signature)?;
    let signed = [&sig.prefix[..], &message.signed_octets()].concat();
    // Strict: only the key's owner can make another signature over the same octets, so a signature names an update.
    key.verify_strict(&signed, &signature).map_err(|_| Sig0Error::Signature)
}
