//! DNS UPDATE messages as ops.
//!
//! ```text
//! [key, message]                          the message with the owner's SIG(0): an op without further ado
//! COSE_Sign1(… 32, [label, message] …)    the message with a TSIG: a gateway vouches for it
//! ```
//! Either way the log holds the very octets that came in, and what they ask for is read out of them again.

use ed25519_dalek::{SigningKey, VerifyingKey};
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};
use sha2::{Digest as _, Sha256};

use super::codec::{RegistryId, bounded_bytes};
use super::unproven::Signatures;
use super::{Op, OpBody, Rejection, SigilId, Unproven, envelope};
use crate::dnssec::sig0::{self, Sig0Error};
use crate::dnssec::tsig;
use crate::limits::{MAX_QUERY, SECRET_REQUEST_SKEW};
use crate::wire::update::{Sig0, Signature, Transaction, UpdateMessage};
use crate::wire::{Name, NameError, Rcode, Rtype};

/// External additional data of the signature by which an owner asks for the secret of an update key.
pub const UPDATE_KEY_CONTEXT: &[u8] = b"ghostplane update key v1";

/// A DNS UPDATE message and what it asks for. Encoded, it is the message's octets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedUpdate {
    message: UpdateMessage,
    transaction: Transaction,
    digest: [u8; 16],
}

/// What an update key may change.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct UpdateScope {
    #[n(0)]
    pub owner: Name,
    /// The owner name and all below it, not the owner name alone.
    #[n(1)]
    pub below: bool,
    #[n(2)]
    pub types: Vec<Rtype>,
}

impl UpdateScope {
    /// True if RRsets of `rtype` at `owner` are in it.
    pub fn covers(&self, owner: &Name, rtype: Rtype) -> bool {
        let at = *owner == self.owner || (self.below && owner.is_at_or_below(&self.owner));
        at && self.types.contains(&rtype)
    }
}

/// The name of an update key, as TSIG records have it: the label below the name.
///
/// # Errors
/// The label is none, or does not fit.
pub fn key_name(name: &Name, label: &str) -> Result<Name, NameError> {
    name.child(label.as_bytes())
}

impl SignedUpdate {
    /// Reads a message; whether its signature is good is not looked into.
    ///
    /// # Errors
    /// [`Rejection::BadUpdate`]
    pub fn read(octets: &[u8]) -> Result<Self, Rejection> {
        let message = UpdateMessage::parse(octets).map_err(|_| Rejection::BadUpdate("it is malformed"))?;
        Self::of(message).map_err(|_| Rejection::BadUpdate("it is not about one name, or not signed"))
    }

    /// A signed message and what it asks for.
    ///
    /// # Errors
    /// FORMERR, NOTZONE, NOTAUTH as [`UpdateMessage::transaction`] has them; REFUSED if it is not signed.
    pub fn of(message: UpdateMessage) -> Result<Self, Rcode> {
        let transaction = message.transaction()?;
        // Not over the octets: parts of them, as the ID above a TSIG, may be changed without the signature noticing.
        let signature = match &message.signature {
            Some(Signature::Sig0(sig)) => &sig.signature,
            Some(Signature::Tsig(tsig)) => &tsig.mac,
            None => return Err(Rcode::Refused),
        };
        let mut digest = [0; 16];
        digest.copy_from_slice(&Sha256::digest(signature)[..16]);
        Ok(Self { message, transaction, digest })
    }

    /// The registered name that it is about.
    pub fn name(&self) -> &Name {
        &self.transaction.name
    }

    /// What it asks for.
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// What tells one signed update from another.
    pub fn digest(&self) -> [u8; 16] {
        self.digest
    }

    /// The message.
    pub fn message(&self) -> &UpdateMessage {
        &self.message
    }
}

impl<C> Encode<C> for SignedUpdate {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.bytes(self.message.octets())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for SignedUpdate {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        Self::read(bounded_bytes(d, MAX_QUERY)?).map_err(|_| decode::Error::message("not a signed DNS UPDATE"))
    }
}

/// An UPDATE with a SIG(0), and the key that it is said to be by: the record itself only has a key tag.
#[derive(Encode, Decode)]
struct Sealed {
    #[n(0)]
    author: SigilId,
    #[cbor(n(1), with = "minicbor::bytes")]
    message: Vec<u8>,
}

/// The first octet of a [`Sealed`]: an array of two. A COSE envelope begins with a tag.
const ARRAY_OF_TWO: u8 = 0x82;

/// The op of a message that `author` signed with SIG(0).
pub fn seal_update(author: SigilId, message: &[u8]) -> Vec<u8> {
    // Writing to a Vec cannot fail.
    minicbor::to_vec(Sealed { author, message: message.to_vec() }).expect("encoding into memory")
}

pub(super) fn is_sealed(bytes: &[u8]) -> bool {
    bytes.first() == Some(&ARRAY_OF_TWO)
}

/// Checks of a sealed message form, canonicity, signer and time.
pub(super) fn open(bytes: &[u8], registry: RegistryId, now: u64) -> Result<Unproven, Rejection> {
    let Sealed { author, message } = minicbor::decode(bytes).map_err(|_| Rejection::Malformed)?;
    if seal_update(author, &message) != bytes {
        return Err(Rejection::NotCanonical);
    }
    let update = SignedUpdate::read(&message)?;
    let key = author.key().ok_or(Rejection::BadSignature)?;
    let Some(Signature::Sig0(sig)) = &update.message.signature else {
        return Err(Rejection::BadUpdate("it has no SIG(0)"));
    };
    let expires = check_sig0(&update, sig, &key, now)?;
    let body = OpBody { registry, nonce: 0, expires, op: Op::Update { update } };
    Ok(Unproven::new(author.into(), Vec::new(), body, bytes, Signatures::Message(Box::new(key))))
}

/// Checks the SIG(0) of a message.
pub(super) fn check_signature(op: &Op, key: &VerifyingKey) -> Result<(), Rejection> {
    let Op::Update { update } = op else { return Err(Rejection::Malformed) };
    let Some(Signature::Sig0(sig)) = &update.message.signature else { return Err(Rejection::Malformed) };
    sig0::verify(&update.message, sig, key).map_err(Rejection::BadSig0)
}

/// What can be checked of a SIG(0) at little cost: it is by `key`, for the name, at this time. Gives when it ends.
///
/// # Errors
/// [`Rejection::BadSig0`]
pub fn check_sig0(update: &SignedUpdate, sig: &Sig0, key: &VerifyingKey, now: u64) -> Result<u64, Rejection> {
    if sig.signer != *update.name() {
        return Err(Rejection::BadSig0(Sig0Error::Key));
    }
    sig0::check(sig, key, now).map_err(Rejection::BadSig0)
}

/// What holds of updates in envelopes of ours: a SIG(0) needs none, and a gateway vouches for no other key and no
/// longer than the TSIG says itself. Their place in the log is no matter of nonces, for many come at once, and one that
/// is rejected must not stop the next.
pub(super) fn check_envelope(body: &OpBody) -> Result<(), Rejection> {
    match &body.op {
        Op::Update { .. } => Err(Rejection::Malformed),
        Op::UpdateByKey { label, update, .. } => {
            let Some(Signature::Tsig(tsig)) = &update.message.signature else {
                return Err(Rejection::BadUpdate("it has no TSIG"));
            };
            let named = key_name(update.name(), label).is_ok_and(|name| name == tsig.key);
            let in_time = body.nonce == 0 && body.expires == tsig::until(tsig);
            if named && in_time { Ok(()) } else { Err(Rejection::BadUpdate("its TSIG is by another key or time")) }
        }
        _ => Ok(()),
    }
}

/// What an owner signs to be told the secret of an update key.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct SecretRequest {
    #[n(0)]
    pub registry: RegistryId,
    #[n(1)]
    pub name: Name,
    #[n(2)]
    pub label: String,
    /// Seconds since 1970.
    #[n(3)]
    pub time: u64,
}

impl SecretRequest {
    /// Signs it.
    pub fn seal(&self, key: &SigningKey) -> Vec<u8> {
        // Writing to a Vec cannot fail.
        envelope::seal(UPDATE_KEY_CONTEXT, key, minicbor::to_vec(self).expect("encoding into memory"))
    }

    /// Reads and checks one that was made just now; gives who signed it.
    ///
    /// # Errors
    /// The first check that fails, the signature last.
    pub fn open(bytes: &[u8], registry: RegistryId, now: u64) -> Result<(SigilId, Self), Rejection> {
        let opened = envelope::open(UPDATE_KEY_CONTEXT, bytes)?;
        let request: Self = minicbor::decode(&opened.payload).map_err(|_| Rejection::Malformed)?;
        if request.registry != registry {
            return Err(Rejection::WrongRegistry);
        }
        if now.abs_diff(request.time) > SECRET_REQUEST_SKEW {
            return Err(Rejection::Expired { expires: request.time.saturating_add(SECRET_REQUEST_SKEW), now });
        }
        opened.verify()?;
        Ok((opened.author, request))
    }
}
