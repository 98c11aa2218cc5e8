//! The keys that speak for a name, and how many of them must:
//!
//! ```text
//! threshold 2
//! key 3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29
//! key d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a until 1900000000
//! ```
//!
//! Keys are Ed25519, in hexadecimal, perhaps with the second since 1970 at which one ends.
//!
//! - `_did.NAME` TXT: the owner's DID, as without this contract;
//! - `_did.NAME` TLSA: each key as `3 1 0 SubjectPublicKeyInfo` (draft-carter-high-assurance-dids-with-dns);
//! - `_keys.NAME` TXT: `m=2 n=2`, and one `ed25519=HEX` a key.
//!
//! Everything else is answered from the stored data.

#![no_std]

use ghostplane_contract::alloc::format;
use ghostplane_contract::alloc::vec::Vec;
use ghostplane_contract::defaults::{self, TTL, is_service};
use ghostplane_contract::{Failure, Question, Rdata, Resolution, Tlsa, context, registry, rrtype, text};

ghostplane_contract::resolver!(resolve);

/// SubjectPublicKeyInfo of an Ed25519 key up to the key (RFC 8410 §4).
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

fn resolve(question: &Question) -> Result<Resolution, Failure> {
    let mut threshold = 1;
    let mut keys: Vec<(Vec<u8>, u64)> = Vec::new();
    text::lines(&registry::parameters(), |line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let read = |hex: &str| text::from_hex(hex).filter(|key| key.len() == 32).ok_or("a key has 64 hex digits");
        match words[..] {
            ["threshold", count] => threshold = count.parse().map_err(|_| "not a number")?,
            ["key", hex] => keys.push((read(hex)?, u64::MAX)),
            ["key", hex, "until", time] => {
                keys.push((read(hex)?, time.parse().map_err(|_| "not seconds since 1970")?));
            }
            _ => return Err("expected threshold or key"),
        }
        Ok(())
    })?;
    if is_service(question, b"_did") && question.rr_type == rrtype::TLSA {
        let tlsa = |key: &Vec<u8>| {
            Rdata::Tlsa(Tlsa { usage: 3, selector: 1, matching_type: 0, data: [&SPKI[..], key].concat() })
        };
        return Ok(Resolution::synthesised(question, TTL, live(&keys).iter().map(tlsa).collect()));
    }
    if !is_service(question, b"_keys") {
        return Ok(defaults::resolve(question, defaults::did));
    }
    let live = live(&keys);
    if threshold == 0 || threshold > live.len() {
        return Err(Failure::NotReady(format!("{threshold} keys must sign and {} are left", live.len())));
    }
    Ok(defaults::txt(question, || {
        let keys_text = live.iter().map(|key| format!("ed25519={}", text::hex(key)));
        core::iter::once(format!("m={threshold} n={}", live.len())).chain(keys_text).collect()
    }))
}

/// The keys that have not ended. The time is read only if one ends at all.
fn live(keys: &[(Vec<u8>, u64)]) -> Vec<Vec<u8>> {
    if keys.iter().all(|(_, until)| *until == u64::MAX) {
        return keys.iter().map(|(key, _)| key.clone()).collect();
    }
    let now = context::now();
    let live = || keys.iter().filter(|(_, until)| *until > now);
    context::valid_until(live().map(|(_, until)| *until).min().unwrap_or(u64::MAX));
    live().map(|(key, _)| key.clone()).collect()
}
