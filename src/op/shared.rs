//! Ops that several sign: a tagged COSE_Sign (RFC 9052 §4.1), one legal encoding, over the same body as the others.
//!
//! ```text
//! Draft::new -> sign -> file -> open -> sign -> ... -> bytes --verify--> VerifiedOp
//! ```
//!
//! A draft is the op itself with the signatures that it has so far. The author stands in the protected header of the body,
//! so that every signature covers whose nonce and mana the op takes. Who else has signed is covered by nothing: whether
//! the signatures are enough is for the state to say, and one more or less changes nothing else of what an op does.

use std::collections::BTreeMap;

use coset::{CoseSign, CoseSignBuilder, CoseSignature, CoseSignatureBuilder, Header, HeaderBuilder, iana};
use coset::{TaggedCborSerializable as _, sig_structure_data};
use ed25519_dalek::{Signature, Signer as _, SigningKey};
use minicbor::Decoder;

use super::codec::{check_lifetime, decode_body, encode_body};
use super::unproven::Signatures;
use super::{Identity, OP_CONTEXT, OpBody, RegistryId, Rejection, SigilId, Unproven};
use crate::limits::{MAX_SHARED_OP, MAX_SHARED_OP_LIFETIME, MAX_SIGNATURES};

/// The tag of COSE_Sign, 98, as its first octets: no other op begins so.
const TAG: [u8; 2] = [0xd8, 98];

/// An op with some of its signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    author: Identity,
    body: OpBody,
    payload: Vec<u8>,
    signatures: BTreeMap<SigilId, Vec<u8>>,
}

/// Two drafts are not of one op.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("these are two different ops: their signatures cannot be put together")]
pub struct OtherOp;

impl Draft {
    /// An op that nobody has signed yet. `author` gives nonce and mana.
    pub fn new(author: Identity, body: OpBody) -> Self {
        Self { author, payload: encode_body(&body), body, signatures: BTreeMap::new() }
    }

    /// Reads a draft, or a finished op; signatures are not looked at.
    ///
    /// # Errors
    /// Too large, malformed, not in the one legal encoding, or too many signatures.
    pub fn open(bytes: &[u8]) -> Result<Self, Rejection> {
        if bytes.len() > MAX_SHARED_OP {
            return Err(Rejection::TooLarge { max: MAX_SHARED_OP });
        }
        let cose = CoseSign::from_tagged_slice(bytes).map_err(|_| Rejection::Malformed)?;
        if cose.signatures.len() > MAX_SIGNATURES {
            return Err(Rejection::TooMany { what: "signatures of one op", max: MAX_SIGNATURES });
        }
        let author = Identity::from_octets(&cose.protected.header.key_id).ok_or(Rejection::Malformed)?;
        let payload = cose.payload.ok_or(Rejection::Malformed)?;
        let signatures = cose.signatures.into_iter().map(signature).collect::<Result<_, _>>()?;
        let draft = Self { author, body: decode_body(&payload)?, payload, signatures };
        // The map puts signers in order, each once; what was not so before is not the same octets after.
        if draft.to_bytes() == bytes { Ok(draft) } else { Err(Rejection::NotCanonical) }
    }

    /// Whose nonce and mana the op takes.
    pub fn author(&self) -> Identity {
        self.author
    }

    /// What is signed.
    pub fn body(&self) -> &OpBody {
        &self.body
    }

    /// Whose signatures it has, in order; whether they are good is not said.
    pub fn signers(&self) -> impl Iterator<Item = SigilId> {
        self.signatures.keys().copied()
    }

    /// Adds a signature, or makes it anew.
    ///
    /// # Errors
    /// There are too many already.
    pub fn sign(&mut self, key: &SigningKey) -> Result<(), Rejection> {
        let id = SigilId::from(&key.verifying_key());
        if self.signatures.len() == MAX_SIGNATURES && !self.signatures.contains_key(&id) {
            return Err(Rejection::TooMany { what: "signatures of one op", max: MAX_SIGNATURES });
        }
        let signature = key.sign(&self.signed_by(id)).to_bytes().to_vec();
        self.signatures.insert(id, signature);
        Ok(())
    }

    /// Takes over the signatures of another draft of the same op.
    ///
    /// # Errors
    /// It is another op.
    pub fn join(&mut self, other: Self) -> Result<(), OtherOp> {
        if (self.author, &self.payload) != (other.author, &other.payload) {
            return Err(OtherOp);
        }
        self.signatures.extend(other.signatures);
        Ok(())
    }

    /// The octets: of a file to pass around, and to submit in the end.
    pub fn to_bytes(&self) -> Vec<u8> {
        let body = self.body_header();
        let mut builder = CoseSignBuilder::new().protected(body).payload(self.payload.clone());
        for (id, signature) in &self.signatures {
            let header = signer_header(*id);
            let signature = CoseSignatureBuilder::new().protected(header).signature(signature.clone()).build();
            builder = builder.add_signature(signature);
        }
        // Fails only for values that CBOR has no form for; every field here is a byte string or a small map.
        builder.build().to_tagged_vec().expect("encoding into memory")
    }

    /// Checks every signature (strict: no small-order keys, no malleable signatures).
    ///
    /// # Errors
    /// One does not verify.
    pub fn check_signatures(&self) -> Result<(), Rejection> {
        // The author's first: whoever forges the rest mostly lacks that one.
        let author = self.author.sigil();
        let first = self.signatures.iter().filter(|(id, _)| Some(**id) == author);
        for (id, signature) in first.chain(self.signatures.iter().filter(|(id, _)| Some(**id) != author)) {
            let key = id.key().ok_or(Rejection::BadSignature)?;
            let signature = Signature::from_slice(signature).map_err(|_| Rejection::BadSignature)?;
            key.verify_strict(&self.signed_by(*id), &signature).map_err(|_| Rejection::BadSignature)?;
        }
        Ok(())
    }

    fn body_header(&self) -> Header {
        HeaderBuilder::new().key_id(self.author.to_octets()).build()
    }

    /// What the signature of one signer is over (Sig_structure, RFC 9052 §4.4).
    fn signed_by(&self, id: SigilId) -> Vec<u8> {
        let protected = |header| coset::ProtectedHeader { original_data: None, header };
        sig_structure_data(
            coset::SignatureContext::CoseSignature,
            protected(self.body_header()),
            Some(protected(signer_header(id))),
            OP_CONTEXT,
            &self.payload,
        )
    }
}

fn signer_header(id: SigilId) -> Header {
    HeaderBuilder::new().algorithm(iana::Algorithm::EdDSA).key_id(id.0.to_vec()).build()
}

fn signature(cose: CoseSignature) -> Result<(SigilId, Vec<u8>), Rejection> {
    let header = &cose.protected.header;
    if header.alg != Some(coset::Algorithm::Assigned(iana::Algorithm::EdDSA)) {
        return Err(Rejection::Malformed);
    }
    let id = header.key_id.as_slice().try_into().map_err(|_| Rejection::Malformed)?;
    Ok((SigilId(id), cose.signature))
}

/// True for octets that can only be an op which several sign.
pub(super) fn is_shared(bytes: &[u8]) -> bool {
    bytes.starts_with(&TAG)
}

/// Author and payload, without a look at anything else.
pub(super) fn peek(bytes: &[u8]) -> Option<(Identity, &[u8])> {
    // 98([<< {4: author} >>, {}, << body >>, [signatures]]); one legal encoding.
    let mut decoder = Decoder::new(bytes.strip_prefix(&TAG)?);
    decoder.array().ok().flatten().filter(|fields| *fields == 4)?;
    let mut header = Decoder::new(decoder.bytes().ok()?);
    header.map().ok().flatten().filter(|fields| *fields == 1)?;
    header.u8().ok().filter(|label| *label == 4)?;
    let author = Identity::from_octets(header.bytes().ok()?)?;
    decoder.map().ok().flatten().filter(|fields| *fields == 0)?;
    Some((author, decoder.bytes().ok()?))
}

/// [`Unproven::open`] for them.
pub(super) fn open(bytes: &[u8], registry: RegistryId, now: u64) -> Result<Unproven, Rejection> {
    let draft = Draft::open(bytes)?;
    check_lifetime(&draft.body, registry, now, MAX_SHARED_OP_LIFETIME)?;
    let signed = match draft.author {
        Identity::Sigil(author) => draft.signatures.contains_key(&author),
        // How many of a set have to sign, the state knows.
        Identity::Set(_) => !draft.signatures.is_empty(),
    };
    if !signed {
        return Err(Rejection::AuthorUnsigned(draft.author));
    }
    let cosigners = draft.signers().filter(|id| draft.author != *id).collect();
    Ok(Unproven::new(draft.author, cosigners, draft.body.clone(), bytes, Signatures::Several(Box::new(draft))))
}
