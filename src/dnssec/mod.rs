//! DNSSEC with Ed25519 (algorithm 15, RFC 8080): keys, RRSIGs over canonical RRsets. Pure.

pub mod denial;
mod key;
mod rrsig;
pub mod validate;

pub use key::{ONLINE_SECONDS, ZoneKey, ds};
pub use rrsig::{Rrsig, RrsigError, sign, verify};

use ed25519_dalek::VerifyingKey;

/// DNSSEC algorithm number of Ed25519 (RFC 8080 §7).
pub const ALGORITHM_ED25519: u8 = 15;
/// DNSKEY flags of an owner's key: Zone Key and Secure Entry Point (RFC 4034 §2.1.1).
pub const FLAGS_OWNER: u16 = 257;

/// DNSKEY flags of the gateway's online key in an owner's zone: Zone Key.
pub const FLAGS_ONLINE: u16 = 256;

/// The DNSKEY RDATA of an Ed25519 key (RFC 4034 §2.1, RFC 8080 §3): flags, protocol 3, algorithm 15, key.
pub fn dnskey(flags: u16, key: &VerifyingKey) -> Vec<u8> {
    let mut rdata = flags.to_be_bytes().to_vec();
    rdata.extend_from_slice(&[3, ALGORITHM_ED25519]);
    rdata.extend_from_slice(key.as_bytes());
    rdata
}

/// The key tag of DNSKEY RDATA (RFC 4034 appendix B).
pub fn key_tag(dnskey: &[u8]) -> u16 {
    let sum: u32 = dnskey.iter().enumerate().map(|(at, &octet)| u32::from(octet) << (8 * (1 - at % 2))).sum();
    (sum + (sum >> 16)) as u16
}

/// The key tag of an owner's key.
pub fn owner_key_tag(key: &VerifyingKey) -> u16 {
    key_tag(&dnskey(FLAGS_OWNER, key))
}
