//! Keys that sign online, the validity of what they sign, and DS.

use std::sync::Arc;

use ed25519_dalek::{Signer as _, SigningKey};
use p256::ecdsa;
use sha2::{Digest as _, Sha256};

use super::rrsig::unsigned;
use super::{ALGORITHM_ED25519, ALGORITHM_P256, FLAGS_OWNER, PublicKey, key_tag};
use crate::locked::Locked;
use crate::wire::{Name, Rrset};

/// Seconds for which online signatures over the same RRset come out the same: what is signed again within is
/// the same octets.
const QUANTUM: u64 = 3_600;
/// Seconds by which inception lies before the signing: for clocks that are behind, ours stepped back included.
pub const INCEPTION_SKEW: u64 = 3_600;
/// Seconds of validity after the quantum's begin; jitter of up to a quantum comes on top.
const LIFETIME: u64 = 3 * 86_400;

/// The secret half of a zone key.
#[derive(Clone)]
pub enum Secret {
    Ed25519(SigningKey),
    P256(ecdsa::SigningKey),
}

impl Secret {
    /// A P-256 key of 32 octets; `None` for zero, and for what is not below the group's order.
    pub fn from_p256_seed(seed: &[u8; 32]) -> Option<Self> {
        ecdsa::SigningKey::from_slice(seed).ok().map(Self::P256)
    }

    /// The DNSSEC algorithm number.
    pub fn algorithm(&self) -> u8 {
        match self {
            Self::Ed25519(_) => ALGORITHM_ED25519,
            Self::P256(_) => ALGORITHM_P256,
        }
    }
}

/// A key that signs the RRsets of zones.
#[derive(Clone)]
pub struct ZoneKey {
    secret: Arc<Locked<Secret>>,
    public: PublicKey,
}

impl ZoneKey {
    /// The key with its DNSKEY flags: 257 for a TLD's and for an owner's, 256 for the gateway's under an owner's.
    pub fn new(secret: impl Into<Locked<Secret>>, flags: u16) -> Self {
        let secret = Arc::new(secret.into());
        let public = match &**secret {
            Secret::Ed25519(key) => PublicKey::ed25519(flags, key.verifying_key()),
            Secret::P256(key) => PublicKey::p256(flags, *key.verifying_key()),
        };
        Self { secret, public }
    }

    /// The zone key that a sigil is.
    pub fn of_sigil(key: &SigningKey) -> Self {
        Self::new(Secret::Ed25519(key.clone()), FLAGS_OWNER)
    }

    /// Its public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// DNSKEY RDATA.
    pub fn dnskey(&self) -> &[u8] {
        self.public.dnskey()
    }

    /// RRSIG RDATA over `rrset` in the zone `apex`, made online: valid around `now` (seconds since 1970).
    pub fn sign(&self, apex: &Name, rrset: &Rrset, now: u64) -> Vec<u8> {
        let (inception, expiration) = validity(&rrset.owner, now);
        self.sign_until(apex, rrset, inception, expiration)
    }

    /// Stands for all that [`Self::sign`] goes by: while it is the same, so is the RRSIG.
    pub fn digest(&self, apex: &Name, rrset: &Rrset, now: u64) -> [u8; 32] {
        let (inception, expiration) = validity(&rrset.owner, now);
        let (_, data) = unsigned(&self.public, apex, rrset, inception, expiration);
        Sha256::new().chain_update(self.dnskey()).chain_update(data).finalize().into()
    }

    /// RRSIG RDATA over `rrset` in the zone `apex`. `inception` and `expiration` are seconds since 1970; the TTL and
    /// RDATA signed are those of `rrset`, whose RDATA is canonical.
    pub fn sign_until(&self, apex: &Name, rrset: &Rrset, inception: u64, expiration: u64) -> Vec<u8> {
        let (mut rdata, data) = unsigned(&self.public, apex, rrset, inception, expiration);
        match &**self.secret {
            Secret::Ed25519(key) => rdata.extend_from_slice(&key.sign(&data).to_bytes()),
            Secret::P256(key) => {
                let signature: ecdsa::Signature = key.sign(&data);
                rdata.extend_from_slice(&signature.to_bytes());
            }
        }
        rdata
    }
}

/// Seconds for which an online signature made at any moment is valid at least: no TTL under it is longer.
pub const ONLINE_SECONDS: u32 = (LIFETIME - QUANTUM) as u32;

/// Inception and expiration of what is signed at `now`. Owners differ by some minutes, so that not everything
/// that was signed in one hour runs out in one second.
fn validity(owner: &Name, now: u64) -> (u64, u64) {
    let begin = now - now % QUANTUM;
    let jitter = owner.as_wire().iter().fold(7_u64, |sum, octet| (sum * 31 + u64::from(*octet)) % QUANTUM);
    (begin.saturating_sub(INCEPTION_SKEW), begin + LIFETIME + jitter)
}

/// DS RDATA with a SHA-256 digest (RFC 4509) of the DNSKEY RDATA of the zone `apex`.
pub fn ds(apex: &Name, dnskey: &[u8]) -> Vec<u8> {
    let mut rdata = key_tag(dnskey).to_be_bytes().to_vec();
    // The algorithm stands behind flags and protocol; what is shorter is no DNSKEY.
    rdata.extend_from_slice(&[dnskey.get(3).copied().unwrap_or_default(), 2]);
    rdata.extend_from_slice(&Sha256::new().chain_update(apex.as_wire()).chain_update(dnskey).finalize());
    rdata
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dnssec::Rrsig;
    use crate::wire::Rtype;

    #[test]
    fn signatures_of_one_hour_are_one() {
        let key = ZoneKey::of_sigil(&SigningKey::from_bytes(&[5; 32]));
        let name = Name::from_user("alice.ghost").unwrap();
        let rrset = Rrset::new(name.clone(), Rtype::A, 60, [vec![192, 0, 2, 1]]);
        let hour = 500_000 * 3_600;
        let first = key.sign(&name, &rrset, hour);
        assert_eq!(key.sign(&name, &rrset, hour + 3_599), first);
        assert_ne!(key.sign(&name, &rrset, hour + 3_600), first);
        let rrsig = Rrsig::parse(&first).unwrap();
        // Valid before and long after, whatever the second.
        assert!(rrsig.is_current(hour - 3_600) && rrsig.is_current(hour + 3_599 + 2 * 86_400));
        assert_eq!(rrsig.key_tag, key_tag(key.dnskey()));
        assert!(rrsig.seconds_left(hour + 3_599) >= ONLINE_SECONDS as i32);
    }

    #[test]
    fn ds_is_what_bind_makes_of_the_key_of_rfc_8080() {
        let key = data_encoding::BASE64.decode(b"l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=").unwrap();
        let dnskey = [&[1, 1, 3, 15][..], &key].concat();
        let rdata = ds(&Name::from_text("example.com.", None).unwrap(), &dnskey);
        assert_eq!(
            data_encoding::HEXLOWER.encode(&rdata),
            "0e1d0f023aa5ab37efce57f737fc1627013fee07bdf241bd10f3b1964ab55c78e79a304b"
        );
    }
}
