//! Ops on their way to being verified: what costs little is checked first.
//!
//! ```text
//! octets -> Unproven::open -> prove -> Signed -> verify -> VerifiedOp
//!           form, registry,   its signatures     RRSIGs that it brings
//!           expiry
//! ```
//! Between the steps stands whoever has cheaper questions than the next one: see `state::foresee`.

use ed25519_dalek::VerifyingKey;

use super::codec::{check_records, check_scope, decode_body};
use super::envelope::{self, Opened};
use super::shared::{self, Draft};
use super::{Identity, OP_CONTEXT, OpBody, RegistryId, Rejection, VerifiedOp, update};
use crate::limits::MAX_OP;

/// An op in its one legal encoding, for this registry, and not expired. Nobody may have signed it.
#[derive(Debug, Clone)]
pub struct Unproven {
    op: VerifiedOp,
    signatures: Signatures,
}

#[derive(Debug, Clone)]
pub(super) enum Signatures {
    One(Opened),
    Several(Box<Draft>),
    /// SIG(0), by this key.
    Message(Box<VerifyingKey>),
}

/// An op whose signatures are good. What it brings has not been looked at.
#[derive(Debug, Clone)]
pub struct Signed(VerifiedOp);

impl Unproven {
    /// Checks length, form, canonicity, registry and expiry, in this order. `now` is seconds since 1970.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn open(bytes: &[u8], registry: RegistryId, now: u64) -> Result<Self, Rejection> {
        if bytes.len() > MAX_OP {
            return Err(Rejection::TooLarge { max: MAX_OP });
        }
        if update::is_sealed(bytes) {
            return update::open(bytes, registry, now);
        }
        if shared::is_shared(bytes) {
            return shared::open(bytes, registry, now);
        }
        let opened = envelope::open(OP_CONTEXT, bytes)?;
        let body = decode_body(&opened.payload)?;
        check_scope(&body, registry, now)?;
        update::check_envelope(&body)?;
        let author = opened.author.into();
        Ok(Self::new(author, Vec::new(), body, bytes, Signatures::One(opened)))
    }

    pub(super) fn new(
        author: Identity,
        cosigners: Vec<super::SigilId>,
        body: OpBody,
        bytes: &[u8],
        signatures: Signatures,
    ) -> Self {
        Self { op: VerifiedOp { author, cosigners, body, bytes: bytes.to_vec() }, signatures }
    }

    /// The op that this is if its signatures are good: for those who ask what would become of it, and do nothing.
    pub(crate) fn presumed(&self) -> &VerifiedOp {
        &self.op
    }

    /// Signatures that [`Unproven::prove`] checks.
    pub fn signatures(&self) -> usize {
        match &self.signatures {
            Signatures::Several(draft) => draft.signers().count(),
            Signatures::One(_) | Signatures::Message(_) => 1,
        }
    }

    /// Checks the signatures of everybody who is said to have signed.
    ///
    /// # Errors
    /// [`Rejection::BadSignature`], [`Rejection::BadSig0`]
    pub fn prove(self) -> Result<Signed, Rejection> {
        match &self.signatures {
            Signatures::One(opened) => opened.verify()?,
            Signatures::Several(draft) => draft.check_signatures()?,
            Signatures::Message(key) => update::check_signature(&self.op.body.op, key)?,
        }
        Ok(Signed(self.op))
    }
}

impl Signed {
    /// The op; that what it brings is good has not been checked.
    pub(crate) fn op(&self) -> &VerifiedOp {
        &self.0
    }

    /// Checks each RRSIG that it brings.
    ///
    /// # Errors
    /// The first that is wrong, and what of its RRset is.
    pub fn verify(self, now: u64) -> Result<VerifiedOp, Rejection> {
        check_records(&self.0.body.op, self.0.author, now)?;
        Ok(self.0)
    }
}
