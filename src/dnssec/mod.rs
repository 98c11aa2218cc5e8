//! DNSSEC with Ed25519 (algorithm 15, RFC 8080) and ECDSA P-256 (algorithm 13, RFC 6605): keys, RRSIGs over canonical
//! RRsets, denial, validation; signatures over transactions. Pure.

pub mod absence;
pub mod chain;
mod delegation;
pub mod denial;
mod key;
mod public;
mod rrsig;
pub mod sig0;
pub mod tsig;
pub mod validate;

pub use delegation::{ds_set, is_strict};
pub use key::{INCEPTION_SKEW, ONLINE_SECONDS, Secret, ZoneKey, ds};
pub use public::PublicKey;
pub use rrsig::{Rrsig, RrsigError, signed_octets, verify};

/// DNSSEC algorithm number of Ed25519 (RFC 8080 §7).
pub const ALGORITHM_ED25519: u8 = 15;
/// DNSSEC algorithm number of ECDSA P-256 with SHA-256 (RFC 6605 §4).
pub const ALGORITHM_P256: u8 = 13;
/// DNSKEY flags of an owner's key: Zone Key and Secure Entry Point (RFC 4034 §2.1.1).
pub const FLAGS_OWNER: u16 = 257;
/// DNSKEY flags of the gateway's online key in an owner's zone: Zone Key.
pub const FLAGS_ONLINE: u16 = 256;
/// The REVOKE bit of DNSKEY flags (RFC 5011 §2.1).
pub const FLAG_REVOKE: u16 = 0x80;

/// DNSKEY RDATA (RFC 4034 §2.1): flags, protocol 3, algorithm, key.
fn dnskey(flags: u16, algorithm: u8, key: &[u8]) -> Vec<u8> {
    [&flags.to_be_bytes()[..], &[3, algorithm], key].concat()
}

/// The key tag of DNSKEY RDATA (RFC 4034 appendix B).
pub fn key_tag(dnskey: &[u8]) -> u16 {
    let sum: u32 = dnskey.iter().enumerate().map(|(at, &octet)| u32::from(octet) << (8 * (1 - at % 2))).sum();
    (sum + (sum >> 16)) as u16
}
