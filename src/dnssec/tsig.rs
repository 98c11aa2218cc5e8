//! TSIG: transactions signed with a secret that an owner shares with a client (RFC 8945).

use std::fmt;
use std::ops::Deref;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use crate::limits::UPDATE_WINDOW;
use crate::wire::update::Tsig;
use crate::wire::{CLASS_ANY, Name, Rtype, u16_at};

/// The algorithms that are taken (RFC 8945 §6); SHA-1 and MD5 are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Sha256,
    Sha384,
    Sha512,
}

/// A shared secret, wiped when dropped; nothing prints it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    pub fn new(octets: [u8; 32]) -> Self {
        Self(Zeroizing::new(octets))
    }
}

impl Deref for Secret {
    type Target = [u8; 32];

    fn deref(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Why a transaction signature does not count; the numbers are those of the TSIG error field (RFC 8945 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[repr(u16)]
pub enum TsigError {
    #[error("TSIG does not verify with the key's secret")]
    BadSig = 16,
    #[error("TSIG names no key that is in force here, or an algorithm other than hmac-sha256, -384 and -512")]
    BadKey = 17,
    #[error("TSIG was made too long ago, or lies ahead; check the clock of the signing machine")]
    BadTime = 18,
    #[error("TSIG is truncated")]
    BadTrunc = 22,
}

impl Algorithm {
    fn of(name: &Name) -> Option<Self> {
        match name.first_label()? {
            b"hmac-sha256" => Some(Self::Sha256),
            b"hmac-sha384" => Some(Self::Sha384),
            b"hmac-sha512" => Some(Self::Sha512),
            _ => None,
        }
        .filter(|_| name.label_count() == 1)
    }

    /// Octets of a whole MAC.
    fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    fn mac(self, secret: &Secret, parts: &[&[u8]]) -> Vec<u8> {
        // A key of any length is one (RFC 2104 §2).
        macro_rules! mac {
            ($hash:ty) => {{
                let mut mac = Hmac::<$hash>::new_from_slice(&secret[..]).expect("a key of any length");
                parts.iter().for_each(|part| mac.update(part));
                mac.finalize().into_bytes().to_vec()
            }};
        }
        match self {
            Self::Sha256 => mac!(Sha256),
            Self::Sha384 => mac!(Sha384),
            Self::Sha512 => mac!(Sha512),
        }
    }

    /// Compares in constant time.
    fn verify(self, secret: &Secret, parts: &[&[u8]], tag: &[u8]) -> bool {
        macro_rules! verify {
            ($hash:ty) => {{
                let mut mac = Hmac::<$hash>::new_from_slice(&secret[..]).expect("a key of any length");
                parts.iter().for_each(|part| mac.update(part));
                mac.verify_slice(tag).is_ok()
            }};
        }
        match self {
            Self::Sha256 => verify!(Sha256),
            Self::Sha384 => verify!(Sha384),
            Self::Sha512 => verify!(Sha512),
        }
    }
}

/// The secret of the key `name` that was issued by op `seq` of a registry: whoever holds `master` can make it again, so
/// it need not be kept, and a key issued anew under an old name has another one.
pub fn secret(master: &Secret, registry: &[u8; 32], name: &Name, seq: u64) -> Secret {
    let parts = [b"ghostplane update key v1", &registry[..], name.as_wire(), &seq.to_be_bytes()];
    made_of(master, &parts)
}

/// A secret for another purpose, which `label` names, derived from a lasting one.
pub fn derive(master: &Secret, label: &[u8]) -> Secret {
    made_of(master, &[label])
}

fn made_of(master: &Secret, parts: &[&[u8]]) -> Secret {
    let mac = Zeroizing::new(Algorithm::Sha256.mac(master, parts));
    let mut secret = Secret::default();
    secret.0.copy_from_slice(&mac);
    secret
}

/// When a signature stops to be good, seconds since 1970.
pub fn until(tsig: &Tsig) -> u64 {
    tsig.time + u64::from(tsig.fudge)
}

/// Checks the TSIG over a message without it: form and algorithm, then the MAC, then the time (RFC 8945 §5.2: in this order).
///
/// # Errors
/// [`TsigError`]
pub fn verify(signed: &[u8], tsig: &Tsig, secret: &Secret, now: u64) -> Result<(), TsigError> {
    let algorithm = Algorithm::of(&tsig.algorithm).ok_or(TsigError::BadKey)?;
    let variables = variables(tsig, tsig.time, tsig.error, &tsig.other);
    if tsig.mac.len() < algorithm.length() {
        return Err(TsigError::BadTrunc);
    }
    if !algorithm.verify(secret, &[signed, &variables], &tsig.mac) {
        return Err(TsigError::BadSig);
    }
    // What has a wider window would have to be remembered for longer.
    let in_time = now.abs_diff(tsig.time) <= u64::from(tsig.fudge) && 2 * u64::from(tsig.fudge) <= UPDATE_WINDOW;
    if in_time { Ok(()) } else { Err(TsigError::BadTime) }
}

/// Appends the TSIG record of a reply to the request that `tsig` signed: signed itself, but for those who have no good
/// key (RFC 8945 §5.3.2). `secret` is that of the request's key.
pub fn sign_reply(reply: &mut Vec<u8>, tsig: &Tsig, secret: Option<&Secret>, error: Option<TsigError>, now: u64) {
    // A client with a wrong clock is told ours, under its own time (§5.2.3).
    let late = error == Some(TsigError::BadTime);
    let other = if late { now.to_be_bytes()[2..].to_vec() } else { Vec::new() };
    let time = if late { tsig.time } else { now };
    let code = error.map_or(0, |error| error as u16);
    let keyed = !matches!(error, Some(TsigError::BadKey | TsigError::BadSig));
    let mac = match (Algorithm::of(&tsig.algorithm), secret) {
        (Some(algorithm), Some(secret)) if keyed => {
            let request = (tsig.mac.len() as u16).to_be_bytes();
            algorithm.mac(secret, &[&request, &tsig.mac, reply, &variables(tsig, time, code, &other)])
        }
        _ => Vec::new(),
    };
    push_tsig(reply, tsig, time, code, &mac, &other);
}

/// Signs a request with the key, algorithm and fudge of `tsig`: for clients.
pub fn sign_request(request: &mut Vec<u8>, tsig: &Tsig, secret: &Secret) {
    let variables = variables(tsig, tsig.time, 0, &[]);
    let mac = Algorithm::of(&tsig.algorithm).map(|algorithm| algorithm.mac(secret, &[request, &variables]));
    push_tsig(request, tsig, tsig.time, 0, &mac.unwrap_or_default(), &[]);
}

/// RFC 8945 §4.3.3.
fn variables(tsig: &Tsig, time: u64, error: u16, other: &[u8]) -> Vec<u8> {
    let mut octets = tsig.key.as_wire().to_vec();
    octets.extend_from_slice(&CLASS_ANY.to_be_bytes());
    octets.extend_from_slice(&[0; 4]);
    octets.extend_from_slice(tsig.algorithm.as_wire());
    octets.extend_from_slice(&time.to_be_bytes()[2..]);
    octets.extend_from_slice(&tsig.fudge.to_be_bytes());
    octets.extend_from_slice(&error.to_be_bytes());
    octets.extend_from_slice(&(other.len() as u16).to_be_bytes());
    octets.extend_from_slice(other);
    octets
}

fn push_tsig(wire: &mut Vec<u8>, tsig: &Tsig, time: u64, error: u16, mac: &[u8], other: &[u8]) {
    let mut data = tsig.algorithm.as_wire().to_vec();
    data.extend_from_slice(&time.to_be_bytes()[2..]);
    data.extend_from_slice(&tsig.fudge.to_be_bytes());
    data.extend_from_slice(&(mac.len() as u16).to_be_bytes());
    data.extend_from_slice(mac);
    data.extend_from_slice(&tsig.original_id.to_be_bytes());
    data.extend_from_slice(&error.to_be_bytes());
    data.extend_from_slice(&(other.len() as u16).to_be_bytes());
    data.extend_from_slice(other);
    wire.extend_from_slice(tsig.key.as_wire());
    wire.extend_from_slice(&Rtype::TSIG.0.to_be_bytes());
    wire.extend_from_slice(&CLASS_ANY.to_be_bytes());
    wire.extend_from_slice(&[0; 4]);
    wire.extend_from_slice(&(data.len() as u16).to_be_bytes());
    wire.extend_from_slice(&data);
    let additionals = u16_at(wire, 10) + 1;
    wire[10..12].copy_from_slice(&additionals.to_be_bytes());
}
