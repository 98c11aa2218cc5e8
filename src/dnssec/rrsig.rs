//! RRSIG RDATA (RFC 4034 §3): making and checking.

use super::PublicKey;
use crate::wire::{Name, Rrset, Rtype, rdata, u16_at, u32_at};

/// The fields of an RRSIG (RFC 4034 §3.1). Times are seconds since 1970 modulo 2^32.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rrsig {
    pub covered: Rtype,
    pub algorithm: u8,
    pub labels: u8,
    pub original_ttl: u32,
    pub expiration: u32,
    pub inception: u32,
    pub key_tag: u16,
    pub signer: Name,
    pub signature: Vec<u8>,
}

/// Why an RRSIG does not prove an RRset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RrsigError {
    #[error("RRSIG RDATA is malformed")]
    Malformed,
    #[error("RRSIG covers another type")]
    Covered,
    #[error("RRSIG algorithm is not the key's")]
    Algorithm,
    #[error("RRSIG labels field does not fit the owner name")]
    Labels,
    #[error("RRSIG original TTL is not the RRset's TTL")]
    OriginalTtl,
    #[error("RRSIG signer is not the registered name")]
    Signer,
    #[error("RRSIG key tag is not that of a key it may be made with")]
    KeyTag,
    #[error("RRSIG is not valid yet; check the clock of the signing machine")]
    NotYet,
    #[error("RRSIG has expired; sign the record again")]
    Expired,
    #[error("RRSIG signature does not verify with the owner's key")]
    Signature,
    #[error("RRSIGs and keys of one tag are more than are tried")]
    Checks,
}

/// Octets before the signer's name.
const FIXED: usize = 18;

impl Rrsig {
    /// Reads RRSIG RDATA; the signature of either algorithm has 64 octets.
    pub fn parse(rdata: &[u8]) -> Result<Self, RrsigError> {
        let malformed = |_| RrsigError::Malformed;
        let tail = rdata.get(FIXED..).ok_or(RrsigError::Malformed)?;
        let (signer, used) = Name::from_wire_prefix(tail).map_err(malformed)?;
        Ok(Self {
            covered: Rtype(u16_at(rdata, 0)),
            algorithm: rdata[2],
            labels: rdata[3],
            original_ttl: u32_at(rdata, 4),
            expiration: u32_at(rdata, 8),
            inception: u32_at(rdata, 12),
            key_tag: u16_at(rdata, 16),
            signer,
            signature: tail[used..].to_vec(),
        })
    }

    /// RDATA without the signature: the first part of what is signed (RFC 4034 §3.1.8.1).
    fn prefix(&self) -> Vec<u8> {
        let mut rdata = Vec::with_capacity(FIXED + self.signer.as_wire().len() + 64);
        rdata.extend_from_slice(&self.covered.0.to_be_bytes());
        rdata.extend_from_slice(&[self.algorithm, self.labels]);
        for field in [self.original_ttl, self.expiration, self.inception] {
            rdata.extend_from_slice(&field.to_be_bytes());
        }
        rdata.extend_from_slice(&self.key_tag.to_be_bytes());
        rdata.extend_from_slice(self.signer.as_wire());
        rdata
    }

    /// True if `now` (seconds since 1970) lies in the validity period, by serial arithmetic (RFC 1982).
    pub fn is_current(&self, now: u64) -> bool {
        self.seconds_left(now) > 0 && serial_diff(now as u32, self.inception) >= 0
    }

    /// The name one label below the closest encloser, if the RRSIG was made over a wildcard from which `owner` was
    /// expanded (RFC 4035 §5.3.4, RFC 5155 §1.3).
    pub fn next_closer(&self, owner: &Name) -> Option<Name> {
        (self.labels < labels_of(owner)).then(|| owner.suffix(usize::from(self.labels) + 1))
    }

    /// Seconds until the signature expires; not positive once it has.
    pub fn seconds_left(&self, now: u64) -> i32 {
        serial_diff(self.expiration, now as u32)
    }
}

/// RRSIG RDATA without its signature, and the octets to sign.
pub(super) fn unsigned(
    key: &PublicKey,
    apex: &Name,
    rrset: &Rrset,
    inception: u64,
    expiration: u64,
) -> (Vec<u8>, Vec<u8>) {
    let rrsig = Rrsig {
        covered: rrset.rtype,
        algorithm: key.algorithm(),
        labels: labels_of(&rrset.owner),
        original_ttl: rrset.ttl,
        expiration: expiration as u32,
        inception: inception as u32,
        key_tag: key.tag(),
        signer: apex.clone(),
        signature: Vec::new(),
    };
    (rrsig.prefix(), signed_data(&rrsig, rrset))
}

/// Checks that `rdata` is an RRSIG over `rrset` made at `apex` by `key`, valid at `now`.
///
/// # Errors
/// The first field that does not fit, cheap ones before the signature.
pub fn verify(rdata: &[u8], rrset: &Rrset, apex: &Name, key: &PublicKey, now: u64) -> Result<Rrsig, RrsigError> {
    let rrsig = Rrsig::parse(rdata)?;
    check_fields(&rrsig, rrset, apex, key)?;
    if serial_diff(now as u32, rrsig.inception) < 0 {
        return Err(RrsigError::NotYet);
    }
    if rrsig.seconds_left(now) <= 0 {
        return Err(RrsigError::Expired);
    }
    key.check(&signed_data(&rrsig, rrset), &rrsig.signature)?;
    Ok(rrsig)
}

/// Checks that `rdata` is an RRSIG over `rrset` as an answer has it (TTLs aged, wildcards expanded; RFC 4035
/// §5.3), made by `key`, valid at `now`. That the signer may sign for the owner is for the caller to see to.
///
/// # Errors
/// The first field that does not fit, the key tag first.
pub(super) fn verify_answer(rdata: &[u8], rrset: &Rrset, key: &PublicKey, now: u64) -> Result<Rrsig, RrsigError> {
    let rrsig = Rrsig::parse(rdata)?;
    if rrsig.key_tag != key.tag() {
        return Err(RrsigError::KeyTag);
    }
    let labels = usize::from(rrsig.labels);
    let checks = [
        (rrsig.covered == rrset.rtype, RrsigError::Covered),
        (rrsig.algorithm == key.algorithm(), RrsigError::Algorithm),
        (labels <= usize::from(labels_of(&rrset.owner)) && labels >= rrsig.signer.label_count(), RrsigError::Labels),
        (rrset.ttl <= rrsig.original_ttl, RrsigError::OriginalTtl),
        (serial_diff(now as u32, rrsig.inception) >= 0, RrsigError::NotYet),
        (rrsig.seconds_left(now) > 0, RrsigError::Expired),
    ];
    if let Some((_, error)) = checks.into_iter().find(|(holds, _)| !holds) {
        return Err(error);
    }
    let data = signed_octets(&rrsig, rrset).ok_or(RrsigError::Labels)?;
    key.check(&data, &rrsig.signature)?;
    Ok(rrsig)
}

fn check_fields(rrsig: &Rrsig, rrset: &Rrset, apex: &Name, key: &PublicKey) -> Result<(), RrsigError> {
    let checks = [
        (rrsig.covered == rrset.rtype, RrsigError::Covered),
        (rrsig.algorithm == key.algorithm(), RrsigError::Algorithm),
        (rrsig.labels == labels_of(&rrset.owner), RrsigError::Labels),
        (rrsig.original_ttl == rrset.ttl, RrsigError::OriginalTtl),
        (rrsig.signer == *apex, RrsigError::Signer),
        (rrsig.key_tag == key.tag(), RrsigError::KeyTag),
    ];
    checks.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, error)| Err(error))
}

/// The octets under the signature of an RRset that may have been expanded from a wildcard (RFC 4035 §5.3.2); `None` if the
/// Labels field fits neither the owner nor the signer.
pub fn signed_octets(rrsig: &Rrsig, rrset: &Rrset) -> Option<Vec<u8>> {
    let labels = usize::from(rrsig.labels);
    if labels > usize::from(labels_of(&rrset.owner)) || labels < rrsig.signer.label_count() {
        return None;
    }
    if rrsig.next_closer(&rrset.owner).is_none() {
        return Some(signed_data(rrsig, rrset));
    }
    let source = rrset.owner.suffix(labels).child(b"*").ok()?;
    Some(signed_data(rrsig, &Rrset { owner: source, ..rrset.clone() }))
}

/// The octets under the signature (RFC 4034 §3.1.8.1): RRSIG RDATA without signature, then every record in
/// canonical form and order.
fn signed_data(rrsig: &Rrsig, rrset: &Rrset) -> Vec<u8> {
    let mut data = rrsig.prefix();
    let mut records: Vec<Vec<u8>> = rrset.rdata.iter().map(|octets| rdata::canonical(rrset.rtype, octets)).collect();
    records.sort_unstable();
    for record in &records {
        data.extend_from_slice(rrset.owner.as_wire());
        data.extend_from_slice(&rrset.rtype.0.to_be_bytes());
        data.extend_from_slice(&crate::wire::CLASS_IN.to_be_bytes());
        data.extend_from_slice(&rrsig.original_ttl.to_be_bytes());
        // At most MAX_RDATA octets.
        data.extend_from_slice(&(record.len() as u16).to_be_bytes());
        data.extend_from_slice(record);
    }
    data
}

/// The Labels field: a leading asterisk does not count (RFC 4034 §3.1.3).
fn labels_of(owner: &Name) -> u8 {
    // At most 127 labels fit in 255 octets.
    (owner.label_count() - usize::from(owner.is_wildcard())) as u8
}

/// `a - b` in serial number arithmetic (RFC 1982 §3.2).
pub(super) fn serial_diff(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b) as i32
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::dnssec::{Secret, ZoneKey};

    fn name(text: &str) -> Name {
        Name::from_text(text, None).unwrap()
    }

    /// The key of RFC 8080 §6.1.
    fn rfc_8080_key() -> ZoneKey {
        let secret = data_encoding::BASE64.decode(b"ODIyNjAzODQ2MjgwODAxMjI2NDUxOTAyMDQxNDIyNjI=").unwrap();
        ZoneKey::of_sigil(&SigningKey::from_bytes(&secret.try_into().unwrap()))
    }

    fn mx() -> Rrset {
        let rdata = [&[0, 10][..], name("mail.example.com.").as_wire()].concat();
        Rrset::new(name("example.com."), Rtype::MX, 3600, [rdata])
    }

    #[test]
    fn the_example_of_rfc_8080_comes_out_to_the_octet() {
        let rdata = rfc_8080_key().sign_until(&name("example.com."), &mx(), 1_438_207_200, 1_440_021_600);
        let rrsig = Rrsig::parse(&rdata).unwrap();
        assert_eq!((rrsig.key_tag, rrsig.labels), (3613, 2));
        assert_eq!(
            data_encoding::BASE64.encode(&rrsig.signature),
            "oL9krJun7xfBOIWcGHi7mag5/hdZrKWw15jPGrHpjQeRAvTdszaPD+QLs3fx8A4M3e23mRZ9VrbpMngwcrqNAg=="
        );
    }

    #[test]
    fn every_changed_field_is_told_apart() {
        let (key, apex, rrset) = (rfc_8080_key(), name("example.com."), mx());
        let good = key.sign_until(&apex, &rrset, 1_000, 2_000);
        let check = |rdata: &[u8], rrset: &Rrset, now| verify(rdata, rrset, &apex, key.public(), now).err();
        assert_eq!(check(&good, &rrset, 1_500), None);
        assert_eq!(check(&good, &rrset, 999), Some(RrsigError::NotYet));
        assert_eq!(check(&good, &rrset, 2_000), Some(RrsigError::Expired));
        assert_eq!(check(&good[..good.len() - 1], &rrset, 1_500), Some(RrsigError::Malformed));
        let mut flipped = good.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!(check(&flipped, &rrset, 1_500), Some(RrsigError::Signature));
        let mut other = rrset.clone();
        other.ttl = 60;
        assert_eq!(check(&good, &other, 1_500), Some(RrsigError::OriginalTtl));
        other = rrset.clone();
        other.rdata[0][1] = 11;
        assert_eq!(check(&good, &other, 1_500), Some(RrsigError::Signature));
        let elsewhere = verify(&good, &rrset, &name("com."), key.public(), 1_500);
        assert_eq!(elsewhere, Err(RrsigError::Signer));
    }
    /// The key and the signature of RFC 6605 §6.1.
    #[test]
    fn the_example_of_rfc_6605_verifies_and_ours_do() {
        let decode = |text: &str| data_encoding::BASE64.decode(text.as_bytes()).unwrap();
        let secret = decode("GU6SnQ/Ou+xC5RumuIUIuJZteXT2z0O/ok1s38Et6mQ=");
        let key = ZoneKey::new(Secret::P256(p256::ecdsa::SigningKey::from_slice(&secret).unwrap()), 257);
        let public = decode("GojIhhXUN/u4v54ZQqGSnyhWJwaubCvTmeexv7bR6edbkrSqQpF64cYbcB7wNcP+e+MAnLr+Wi9xMWyQLc8NAA==");
        assert_eq!((&key.dnskey()[4..], key.public().tag()), (&public[..], 55_648));
        let apex = name("example.net.");
        let www = Rrset::new(name("www.example.net."), Rtype::A, 3600, [vec![192, 0, 2, 1]]);
        let (mut rdata, _) = unsigned(key.public(), &apex, &www, 1_281_607_479, 1_284_026_679);
        rdata
            .extend(decode("qx6wLYqmh+l9oCKTN6qIc+bw6ya+KJ8oMz0YP107epXAyGmt+3SNruPFKG7tZoLBLlUzGGus7ZwmwWep666VCw=="));
        assert_eq!(verify(&rdata, &www, &apex, key.public(), 1_283_000_000).err(), None);
        let ours = key.sign_until(&apex, &www, 1_000, 2_000);
        assert_eq!(verify(&ours, &www, &apex, key.public(), 1_500).err(), None);
        let mut flipped = ours.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!(verify(&flipped, &www, &apex, key.public(), 1_500), Err(RrsigError::Signature));
        assert_eq!(PublicKey::from_dnskey(key.dnskey()).as_ref(), Some(key.public()));
        assert!(PublicKey::from_dnskey(&[&[1, 1, 3, 13][..], &[7; 64]].concat()).is_none());
    }
}
