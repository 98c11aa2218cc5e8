//! Signed octets: a tagged COSE_Sign1 (RFC 9052 §4.2, EdDSA), one legal encoding of each.

use coset::{CoseSign1, CoseSign1Builder, HeaderBuilder, TaggedCborSerializable as _, iana};
use ed25519_dalek::{Signature, Signer as _, SigningKey};

use super::SigilId;

/// Why octets are not a signed envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    #[error("not a COSE_Sign1 of an Ed25519 key")]
    Malformed,
    #[error("not in the one legal encoding")]
    NotCanonical,
    #[error("signature does not verify")]
    Signature,
}

/// An envelope in its one legal encoding; its signature may be anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    pub author: SigilId,
    pub payload: Vec<u8>,
    signature: Vec<u8>,
    /// What the signature is over (Sig_structure, RFC 9052 §4.4).
    signed: Vec<u8>,
}

/// Signs `payload`. `context` is external additional data (RFC 9052 §4.3): it keeps the signature from being taken
/// for anything else that the key signs.
pub fn seal(context: &[u8], key: &SigningKey, payload: Vec<u8>) -> Vec<u8> {
    let author = SigilId::from(&key.verifying_key());
    build(context, author, payload, |data| key.sign(data).to_bytes().to_vec())
}

/// Reads an envelope made by [`seal`]; the payload is not looked at.
///
/// # Errors
/// Malformed, or not canonical.
pub fn open(context: &[u8], bytes: &[u8]) -> Result<Opened, EnvelopeError> {
    let malformed = EnvelopeError::Malformed;
    let cose = CoseSign1::from_tagged_slice(bytes).map_err(|_| malformed)?;
    let header = &cose.protected.header;
    if header.alg != Some(coset::Algorithm::Assigned(iana::Algorithm::EdDSA)) {
        return Err(malformed);
    }
    let author = SigilId(header.key_id.as_slice().try_into().map_err(|_| malformed)?);
    let payload = cose.payload.ok_or(malformed)?;
    // Rebuilding from the parts and comparing leaves exactly one encoding, whatever CBOR would allow.
    let signature = cose.signature;
    let mut signed = Vec::new();
    let rebuilt = build(context, author, payload.clone(), |data| {
        signed = data.to_vec();
        signature.clone()
    });
    if rebuilt != bytes {
        return Err(EnvelopeError::NotCanonical);
    }
    Ok(Opened { author, payload, signature, signed })
}

impl Opened {
    /// Checks the signature against the author's key (strict: no small-order keys, no malleable signatures).
    ///
    /// # Errors
    /// It does not verify, or the author is no key.
    pub fn verify(&self) -> Result<(), EnvelopeError> {
        let key = self.author.key().ok_or(EnvelopeError::Signature)?;
        let signature = Signature::from_slice(&self.signature).map_err(|_| EnvelopeError::Signature)?;
        key.verify_strict(&self.signed, &signature).map_err(|_| EnvelopeError::Signature)
    }
}

fn build(context: &[u8], author: SigilId, payload: Vec<u8>, signer: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let protected = HeaderBuilder::new().algorithm(iana::Algorithm::EdDSA).key_id(author.0.to_vec()).build();
    let cose = CoseSign1Builder::new().protected(protected).payload(payload).create_signature(context, signer).build();
    // Fails only for values that CBOR has no form for; every field here is a byte string or a small map.
    cose.to_tagged_vec().expect("encoding into memory")
}
