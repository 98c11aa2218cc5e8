//! The one legal encoding: a tagged COSE_Sign1 (RFC 9052 §4.2, EdDSA) over deterministic CBOR
//! (RFC 8949 §4.2).

use ed25519_dalek::{SigningKey, VerifyingKey};
use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

use super::envelope::{self, EnvelopeError};
use super::{DnskeyRdata, Identity, Op, OpBody, OpKind, Rejection, SigilId, Unproven, VerifiedOp, shared};
use crate::dnssec::{self, FLAGS_OWNER, PublicKey, RrsigError};
use crate::limits::{
    MAX_NAME, MAX_OP_LIFETIME, MAX_PUT_RRSETS, MAX_RDATA, MAX_RRSET_RECORDS, MAX_RRSIGS, MAX_SHARED_OP_LIFETIME,
    MAX_ZONE_KEYS,
};
use crate::wire::{Name, Rrset, Rtype, rdata};

/// External additional data of the signature (RFC 9052 §4.3): keeps an op's signature from being taken for
/// anything else the key signs.
pub const OP_CONTEXT: &[u8] = b"ghostplane op v1";

/// SHA-256 of a registry's genesis record.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct RegistryId(#[cbor(with = "minicbor::bytes")] pub [u8; 32]);

impl std::fmt::Display for RegistryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl std::fmt::Debug for RegistryId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Signs `body`; gives the octets to submit.
pub fn sign(key: &SigningKey, body: &OpBody) -> Vec<u8> {
    envelope::seal(OP_CONTEXT, key, encode_body(body))
}

/// Checks `bytes` in this order: length, form, canonicity, registry, expiry, signature, and for
/// `PutRecords` each RRSIG against the author's key. `now` is seconds since 1970.
///
/// # Errors
/// The first check that fails.
pub fn verify(bytes: &[u8], registry: RegistryId, now: u64) -> Result<VerifiedOp, Rejection> {
    Unproven::open(bytes, registry, now)?.prove()?.verify(now)
}

/// The RRSIGs of an op that puts records.
pub(super) fn check_records(op: &Op, author: Identity, now: u64) -> Result<(), Rejection> {
    let Op::PutRecords { name, rrsets, keys } = op else { return Ok(()) };
    let author = author.sigil().ok_or(Rejection::SigilsOnly)?;
    let key = author.key().ok_or(Rejection::BadSignature)?;
    let signers = signers(name, &key, keys.as_deref())?;
    rrsets.iter().try_for_each(|rrset| check_rrset(rrset, name, &signers, now))
}

/// Reads what was signed, in its one legal encoding.
pub(super) fn decode_body(payload: &[u8]) -> Result<OpBody, Rejection> {
    let body: OpBody = minicbor::decode(payload).map_err(|_| Rejection::Malformed)?;
    if encode_body(&body) == payload { Ok(body) } else { Err(Rejection::NotCanonical) }
}

/// What the octets of an op say of themselves; nothing of it has been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub author: Identity,
    pub registry: RegistryId,
    pub nonce: u64,
    pub expires: u64,
    pub kind: OpKind,
}

/// Reads what an op claims, without looking at its signatures or the op itself, and without allocating. `None` for what is
/// no such op, a sealed DNS UPDATE included.
pub fn peek(bytes: &[u8]) -> Option<Claim> {
    if shared::is_shared(bytes) {
        let (author, payload) = shared::peek(bytes)?;
        return peek_body(author, payload);
    }
    // 18([<< {1: -8, 4: kid} >>, {}, << [registry, nonce, expires, op] >>, signature]); one legal encoding.
    const START: &[u8] = &[0xd2, 0x84, 0x58, 0x26, 0xa2, 0x01, 0x27, 0x04, 0x58, 0x20];
    let (author, rest) = bytes.strip_prefix(START)?.split_first_chunk::<32>()?;
    peek_body(Identity::Sigil(SigilId(*author)), Decoder::new(rest.strip_prefix(&[0xa0])?).bytes().ok()?)
}

fn peek_body(author: Identity, payload: &[u8]) -> Option<Claim> {
    let mut body = Decoder::new(payload);
    body.array().ok().flatten().filter(|fields| *fields == 4)?;
    let registry = body.bytes().ok()?.try_into().ok()?;
    let (nonce, expires) = (body.u64().ok()?, body.u64().ok()?);
    body.array().ok().flatten().filter(|fields| *fields == 2)?;
    let kind = OpKind::numbered(body.u8().ok()?)?;
    Some(Claim { author, registry: RegistryId(registry), nonce, expires, kind })
}

impl VerifiedOp {
    /// Checks what of an op depends on the time: its expiry, and the validity of the RRSIGs it puts. Ops are verified when
    /// they come in and logged when they are applied; whoever replays the log knows the second time only.
    ///
    /// # Errors
    /// What [`verify`] would say at `time`, seconds since 1970.
    pub fn check_time(&self, time: u64) -> Result<(), Rejection> {
        let longest = if shared::is_shared(&self.bytes) { MAX_SHARED_OP_LIFETIME } else { MAX_OP_LIFETIME };
        check_lifetime(&self.body, self.body.registry, time, longest)?;
        let Op::PutRecords { rrsets, .. } = &self.body.op else { return Ok(()) };
        for rrset in rrsets {
            let mut fields = rrset.rrsigs.iter().filter_map(|rrsig| dnssec::Rrsig::parse(rrsig).ok());
            if let Some(rrsig) = fields.find(|rrsig| !rrsig.is_current(time)) {
                let error = if rrsig.seconds_left(time) > 0 { RrsigError::NotYet } else { RrsigError::Expired };
                return Err(Rejection::BadRrsig { owner: rrset.owner.clone(), rtype: rrset.rtype, error });
            }
        }
        Ok(())
    }
}

/// True for RRsets that belong to the parent side of a cut and are not the owner's to sign: NS below the registered
/// name, DS at it (RFC 4035 §2.2).
pub(crate) fn is_parent_side(rrset: &Rrset, apex: &Name) -> bool {
    match rrset.rtype {
        Rtype::NS => rrset.owner != *apex,
        Rtype::DS => rrset.owner == *apex,
        _ => false,
    }
}

/// The keys that may have made the RRSIGs of an op: its zone keys, else the author's sigil.
fn signers(name: &Name, author: &VerifyingKey, keys: Option<&[DnskeyRdata]>) -> Result<Vec<PublicKey>, Rejection> {
    let Some(keys) = keys else { return Ok(vec![PublicKey::of_sigil(author)]) };
    if keys.is_empty() || keys.len() > MAX_ZONE_KEYS {
        return Err(Rejection::TooMany { what: "zone keys in one op (or none)", max: MAX_ZONE_KEYS });
    }
    let usable = |key: &DnskeyRdata| {
        let key = PublicKey::from_dnskey(&key.0).filter(|key| key.flags() == FLAGS_OWNER);
        let reason = "a zone key of an op has flags 257 and algorithm 15 or 13".to_owned();
        key.ok_or_else(|| Rejection::BadRecord { owner: name.clone(), rtype: Rtype::DNSKEY, reason })
    };
    keys.iter().map(usable).collect()
}

impl From<EnvelopeError> for Rejection {
    fn from(error: EnvelopeError) -> Self {
        match error {
            EnvelopeError::Malformed => Self::Malformed,
            EnvelopeError::NotCanonical => Self::NotCanonical,
            EnvelopeError::Signature => Self::BadSignature,
        }
    }
}

pub(super) fn check_scope(body: &OpBody, registry: RegistryId, now: u64) -> Result<(), Rejection> {
    check_lifetime(body, registry, now, MAX_OP_LIFETIME)
}

/// Registry and expiry; `longest`: seconds that an op may live.
pub(super) fn check_lifetime(body: &OpBody, registry: RegistryId, now: u64, longest: u64) -> Result<(), Rejection> {
    if body.registry != registry {
        return Err(Rejection::WrongRegistry);
    }
    if body.expires <= now {
        return Err(Rejection::Expired { expires: body.expires, now });
    }
    if body.expires - now > longest {
        return Err(Rejection::ExpiresTooLate { max: longest });
    }
    Ok(())
}

/// Form, RDATA and RRSIGs of one RRset that is put at or below `apex`.
fn check_rrset(rrset: &Rrset, apex: &Name, signers: &[PublicKey], now: u64) -> Result<(), Rejection> {
    let (owner, rtype) = (rrset.owner.clone(), rrset.rtype);
    check_rdata(rrset).map_err(|reason| Rejection::BadRecord { owner: owner.clone(), rtype, reason })?;
    if is_parent_side(rrset, apex) {
        return if rrset.rrsigs.is_empty() {
            Ok(())
        } else {
            Err(Rejection::BadRecord { owner, rtype, reason: "delegation data is not signed by the owner".into() })
        };
    }
    if rrset.rrsigs.is_empty() {
        // NS at the name itself delegates it; signed, it is the name's own.
        return if rtype == Rtype::NS { Ok(()) } else { Err(Rejection::Unsigned { owner, rtype }) };
    }
    for rrsig in &rrset.rrsigs {
        let error = match dnssec::Rrsig::parse(rrsig) {
            Ok(fields) => {
                // Two keys may have one tag, by chance or by algorithm: a few at most, as there are few keys.
                let fits = |key: &&PublicKey| key.tag() == fields.key_tag && key.algorithm() == fields.algorithm;
                let mut tried =
                    signers.iter().filter(fits).map(|key| dnssec::verify(rrsig, rrset, apex, key, now).err());
                let first = tried.next().unwrap_or(Some(RrsigError::KeyTag));
                first.filter(|_| tried.all(|error| error.is_some()))
            }
            Err(error) => Some(error),
        };
        if let Some(error) = error {
            return Err(Rejection::BadRrsig { owner, rtype, error });
        }
    }
    Ok(())
}

fn check_rdata(rrset: &Rrset) -> Result<(), String> {
    if rrset.rdata.is_empty() {
        return Err("no RDATA".to_owned());
    }
    for octets in &rrset.rdata {
        rdata::check(rrset.rtype, octets).map_err(|error| error.to_string())?;
        if rdata::canonical(rrset.rtype, octets) != **octets {
            return Err("RDATA is not in canonical form (RFC 4034 section 6.2)".to_owned());
        }
    }
    if rrset.rdata.windows(2).all(|pair| pair[0] < pair[1]) {
        Ok(())
    } else {
        Err("RDATA is not in canonical order, or a record stands twice (RFC 4034 section 6.3)".to_owned())
    }
}

pub(super) fn encode_body(body: &OpBody) -> Vec<u8> {
    // Writing to a Vec cannot fail, and no type of an op has a failing encoder.
    minicbor::to_vec(body).expect("encoding into memory")
}

impl<C> Encode<C> for Name {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.bytes(self.as_wire())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Name {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        let wire = bounded_bytes(d, MAX_NAME)?;
        Name::from_wire(wire).map_err(|_| decode::Error::message("not a name"))
    }
}

impl<C> Encode<C> for Rtype {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.u16(self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Rtype {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        d.u16().map(Rtype)
    }
}

/// `[owner, type, ttl, [rdata, …], [rrsig, …]]`
impl<C> Encode<C> for Rrset {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, c: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.array(5)?;
        encode_rrset(self, e, c)
    }
}

/// The fields of an RRset, after the head of the array.
pub(crate) fn encode_rrset<C, W: encode::Write>(
    rrset: &Rrset,
    e: &mut Encoder<W>,
    c: &mut C,
) -> Result<(), encode::Error<W::Error>> {
    rrset.owner.encode(e, c)?;
    rrset.rtype.encode(e, c)?;
    e.u32(rrset.ttl)?;
    for list in [&rrset.rdata, &rrset.rrsigs] {
        e.array(list.len() as u64)?;
        for octets in list {
            e.bytes(octets)?;
        }
    }
    Ok(())
}

impl<'b, C> Decode<'b, C> for Rrset {
    fn decode(d: &mut Decoder<'b>, c: &mut C) -> Result<Self, decode::Error> {
        if d.array()? != Some(5) {
            return Err(decode::Error::message("an RRset has five fields"));
        }
        decode_rrset(d, c)
    }
}

/// The fields of an RRset, after the head of the array.
pub(crate) fn decode_rrset<C>(d: &mut Decoder<'_>, c: &mut C) -> Result<Rrset, decode::Error> {
    Ok(Rrset {
        owner: Name::decode(d, c)?,
        rtype: Rtype::decode(d, c)?,
        ttl: d.u32()?,
        rdata: decode_list(d, MAX_RRSET_RECORDS)?,
        rrsigs: decode_list(d, MAX_RRSIGS)?,
    })
}

fn decode_list(d: &mut Decoder<'_>, most: usize) -> Result<Vec<Box<[u8]>>, decode::Error> {
    let len = d.array()?.ok_or_else(|| decode::Error::message("indefinite length"))?;
    let len = usize::try_from(len).ok().filter(|len| *len <= most);
    let len = len.ok_or_else(|| decode::Error::message("list too long"))?;
    (0..len).map(|_| bounded_bytes(d, MAX_RDATA).map(Into::into)).collect()
}

pub(super) fn bounded_bytes<'b>(d: &mut Decoder<'b>, most: usize) -> Result<&'b [u8], decode::Error> {
    let bytes = d.bytes()?;
    if bytes.len() <= most { Ok(bytes) } else { Err(decode::Error::message("byte string too long")) }
}

const _: () = assert!(MAX_PUT_RRSETS <= 1_024, "a batch of RRsets is checked in one go");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{AutoRenew, CodeHash, Covenant, GasUse, Member, Price, Scope, SetId, SigilId, Symbol};

    const NOW: u64 = 1_000_000;
    const REGISTRY: RegistryId = RegistryId([7; 32]);

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[1; 32])
    }

    fn name(text: &str) -> Name {
        Name::from_text(text, None).unwrap()
    }

    fn body(op: Op) -> OpBody {
        OpBody { registry: REGISTRY, nonce: 3, expires: NOW + 60, op }
    }

    fn register() -> OpBody {
        body(Op::Register { name: name("alice.ghost."), years: 1 })
    }

    fn signed_a(ttl: u32) -> Rrset {
        let mut rrset = Rrset::new(name("alice.ghost."), Rtype::A, ttl, [vec![192, 0, 2, 1]]);
        rrset.rrsigs = vec![
            dnssec::ZoneKey::of_sigil(&key()).sign_until(&name("alice.ghost."), &rrset, NOW - 60, NOW + 86_400).into(),
        ];
        rrset
    }

    /// T14: of two keys with one tag, each may sign; who has neither may not.
    #[test]
    fn an_owner_whose_keys_share_a_tag_is_not_locked_out() {
        let key = |seed: u16| {
            let mut octets = [3; 32];
            octets[..2].copy_from_slice(&seed.to_be_bytes());
            dnssec::ZoneKey::of_sigil(&SigningKey::from_bytes(&octets))
        };
        let mut of_tag = std::collections::BTreeMap::new();
        let collide = |seed| {
            let key = key(seed);
            of_tag.insert(key.public().tag(), key.clone()).map(|other| [other, key])
        };
        let keys = (0..u16::MAX).find_map(collide).unwrap();
        let (apex, signers) = (name("alice.ghost."), keys.each_ref().map(|key| key.public().clone()));
        for key in &keys {
            let mut rrset = signed_a(60);
            rrset.rrsigs = vec![key.sign_until(&apex, &rrset, NOW - 60, NOW + 60).into()];
            assert_eq!(check_rrset(&rrset, &apex, &signers, NOW), Ok(()));
            *rrset.rrsigs[0].last_mut().unwrap() ^= 1;
            let wrong = check_rrset(&rrset, &apex, &signers, NOW);
            assert!(matches!(wrong, Err(Rejection::BadRrsig { error: RrsigError::Signature, .. })), "{wrong:?}");
        }
    }

    #[test]
    fn every_op_survives_the_round_trip() {
        let (to, price) = (SigilId([9; 32]), Price { token: Symbol::GCC, amount: 5 });
        let ops = [
            register().op,
            Op::Renew { name: name("a.sig."), years: 2 },
            Op::Transfer { name: name("a.sig."), to },
            Op::Release { name: name("a.sig.") },
            Op::put(name("alice.ghost."), vec![signed_a(60)]),
            Op::DeleteRecords { name: name("alice.ghost."), keys: vec![] },
            Op::DeployContract { wasm: vec![0; 300] },
            Op::BindContract { name: name("a.gcc."), contract: Some(CodeHash([2; 32])), parameters: vec![1] },
            Op::BindContract { name: name("a.gcc."), contract: None, parameters: vec![] },
            Op::GrantMana { to, level: 3, amount: u64::MAX },
            Op::CreateToken {
                token: Symbol::GCC,
                decimals: 2,
                initial: 1,
                cap: u64::MAX,
                transferable: true,
                mint: Some(to),
                burn: None,
            },
            Op::SetAuthority { token: Symbol::GCC, issuer: None, mint: Some(to), burn: None },
            Op::Mint { token: Symbol::GCC, to, amount: 24 },
            Op::Burn { token: Symbol::GCC, amount: 256 },
            Op::Pay { token: Symbol::GCC, to, amount: 1, memo: "rent".into() },
            Op::Hold { token: Symbol::GCC, to, amount: 1, until: NOW, memo: String::new() },
            Op::CloseHold { hold: 7, amount: 0 },
            Op::SetGas { policy: crate::state::gas::DEFAULT_POLICY, gateways: vec![to] },
            Op::SettleGas { epoch: 0, uses: vec![GasUse { name: name("a.ghost."), fuel: 1, executions: 2 }] },
            Op::SetLoad { policy: crate::state::load::DEFAULT_POLICY },
            Op::BindCovenants {
                name: name("a.ghost."),
                covenants: vec![Covenant { code: CodeHash([3; 32]), parameters: vec![1, 2] }],
            },
            Op::Commit { hash: [1; 32] },
            Op::Reveal { name: name("a.sig."), years: 1, secret: [2; 32] },
            Op::Restore { name: name("a.sig."), years: 1 },
            Op::SetAutoRenew { name: name("a.sig."), plan: Some(AutoRenew { years: 2, most: Some(price) }) },
            Op::SetAutoRenew { name: name("a.sig."), plan: None },
            Op::RenewDue { names: vec![name("a.sig."), name("b.sig.")] },
            Op::Offer { name: name("a.sig."), to, price: Some(price), until: NOW },
            Op::Offer { name: name("a.sig."), to, price: None, until: NOW },
            Op::Accept { name: name("a.sig."), offer: 7 },
            Op::Withdraw { name: name("a.sig.") },
            Op::Lock { name: name("a.sig."), delay: 60 },
            Op::Unlock { name: name("a.sig.") },
        ];
        let ops = ops.into_iter().chain(guardian_ops());
        for op in ops {
            let bytes = sign(&key(), &body(op.clone()));
            let verified = verify(&bytes, REGISTRY, NOW).unwrap();
            assert_eq!(verified.op(), &op);
            assert_eq!(verified.author(), SigilId::from(&key().verifying_key()));
            assert_eq!(verified.bytes(), bytes);
            let claim =
                Claim { author: verified.author(), registry: REGISTRY, nonce: 3, expires: NOW + 60, kind: op.kind() };
            assert_eq!(peek(&bytes), Some(claim));
            (0..80).for_each(|length| assert_eq!(peek(&bytes[..length]), None));
        }
    }

    fn guardian_ops() -> Vec<Op> {
        let (sigil, set, name) = (SigilId([9; 32]), SetId([8; 32]), name("a.ghost."));
        let members = vec![Member { who: sigil.into(), weight: 1 }, Member { who: set.into(), weight: 1_000 }];
        vec![
            Op::PutSet { set: None, members: members.clone(), threshold: 1 },
            Op::PutSet { set: Some(set), members, threshold: 1_001 },
            Op::SetAttestor { who: set.into(), max_level: 2, quota: u64::MAX },
            Op::Attest { to: sigil.into(), level: 1, until: NOW },
            Op::RevokeAttestation { of: set.into() },
            Op::RequireCosign { name: name.clone(), set: Some(set), scopes: vec![Scope::Records, Scope::Renew] },
            Op::RequireCosign { name: name.clone(), set: None, scopes: vec![] },
            Op::SetRecovery { name: name.clone(), set: Some(set), delay: 86_400 },
            Op::StartRecovery { name: name.clone(), to: sigil },
            Op::VetoRecovery { name: name.clone() },
            Op::FinishRecovery { name: name.clone() },
            Op::Freeze { name: name.clone(), until: Some(NOW) },
            Op::Freeze { name, until: None },
        ]
    }

    #[test]
    fn no_other_encoding_of_an_op_is_legal() {
        let bytes = sign(&key(), &register());
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert!(verify(&changed, REGISTRY, NOW).is_err(), "octet {at} bit {bit}");
            }
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(verify(&longer, REGISTRY, NOW), Err(Rejection::Malformed));
        assert_eq!(verify(&bytes[..bytes.len() - 1], REGISTRY, NOW), Err(Rejection::Malformed));
        // The same op with the payload's nonce written in two octets where one would do.
        let mut payload = encode_body(&register());
        let at = payload.iter().position(|octet| *octet == 3).unwrap();
        payload.splice(at..=at, [0x18, 0x03]);
        let loose = envelope::seal(OP_CONTEXT, &key(), payload);
        assert_eq!(verify(&loose, REGISTRY, NOW), Err(Rejection::NotCanonical));
    }

    #[test]
    fn an_op_is_bound_to_its_registry_and_time() {
        let bytes = sign(&key(), &register());
        assert_eq!(verify(&bytes, RegistryId([8; 32]), NOW), Err(Rejection::WrongRegistry));
        let late = verify(&bytes, REGISTRY, NOW + 60);
        assert_eq!(late, Err(Rejection::Expired { expires: NOW + 60, now: NOW + 60 }));
        let early = verify(&bytes, REGISTRY, NOW - MAX_OP_LIFETIME);
        assert_eq!(early, Err(Rejection::ExpiresTooLate { max: MAX_OP_LIFETIME }));
    }

    #[test]
    fn time_passes_between_verification_and_log() {
        let verified = |op: Op| verify(&sign(&key(), &body(op)), REGISTRY, NOW).unwrap();
        let put = verified(Op::put(name("alice.ghost."), vec![signed_a(60)]));
        assert_eq!(put.check_time(NOW + 59), Ok(()));
        assert_eq!(put.check_time(NOW + 60), Err(Rejection::Expired { expires: NOW + 60, now: NOW + 60 }));
        assert_eq!(put.check_time(NOW - 61).map_err(|rejection| rejection.code()), Err(404));
        assert_eq!(put.check_time(NOW - 60), Ok(()));
    }

    #[test]
    fn records_must_carry_the_authors_rrsig() {
        let put = |rrset: Rrset| {
            let op = Op::put(name("alice.ghost."), vec![rrset]);
            verify(&sign(&key(), &body(op)), REGISTRY, NOW).map(|_| ()).map_err(|rejection| rejection.code())
        };
        assert_eq!(put(signed_a(60)), Ok(()));
        assert_eq!(put(Rrset { rrsigs: vec![], ..signed_a(60) }), Err(403));
        assert_eq!(put(Rrset { ttl: 61, ..signed_a(60) }), Err(404));
        assert_eq!(put(Rrset { rdata: vec![], ..signed_a(60) }), Err(402));
        let ns = Rrset::new(name("x.alice.ghost."), Rtype::NS, 60, [name("ns.bc.").as_wire().to_vec()]);
        assert_eq!(put(ns), Ok(()));
    }
}
