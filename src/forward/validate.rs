//! Validation of what upstreams say, from the anchors down (RFC 4035 §5): nothing is believed that is not signed, unless a zone
//! above it is shown not to be.
//!
//! ```text
//! zone of a name: anchor -> DS of each label below it, signed by the zone so far ─ with keys of ours: a signed zone
//!                                                        │                        └ of no algorithm of ours: unsigned
//!                                                        └ denied ─ a cut, or opt-out: unsigned, with all below it
//!                                                                 └ no cut: the name is in the zone so far
//! answer          an RRSIG by the zone that it names -> checked; none -> the zone of the name must be unsigned
//! denial          NSEC, NSEC3 and SOA of one zone, all checked -> `dnssec::absence`; none -> the same
//! ```
//!
//! Only what has been proven is remembered, so a lie is forgotten with the answer that it was told in. hickory-net's own
//! validator takes an unsigned record of any zone that is insecure for the proof of a denial (0.26).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use hickory_resolver::proto::dnssec::crypto::Digest;
use hickory_resolver::proto::dnssec::{Algorithm, DigestType, PublicKey as _, PublicKeyBuf, TrustAnchors};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::ask::{Failed, ForwardError, Plain};
use super::found::{Checked, Part, made_cname};
use crate::dnssec::absence::{Hashed, Proofs, Strength, Unproven};
use crate::dnssec::{FLAG_REVOKE, FLAGS_ONLINE, FLAGS_OWNER, Rrsig, key_tag, signed_octets};
use crate::limits::{
    CHECKS_PER_ANSWER, CHECKS_PER_RRSET, FORWARD_CHAIN, FORWARD_CUT_BYTES, FORWARD_CUTS, KEYS_PER_TAG, MAX_DS,
    MAX_KEYS, MAX_PROOFS,
};
use crate::wire::master::Reader;
use crate::wire::{EdeCode, Message, MessageRecord, Name, Rcode, Rrset, Rtype, u16_at};
use crate::writer::Clock;

/// Tells what is proven from what is not.
pub(super) struct Validator {
    plain: Plain,
    anchors: Anchors,
    cuts: Cache<Name, Known, ByOctets>,
    clock: Clock,
}

/// DNSKEY and DS RDATA by zone.
type Anchors = BTreeMap<Name, Vec<(Rtype, Vec<u8>)>>;

/// A zone's keys, those that we know the algorithm of.
type Keys = Arc<[Key]>;

#[derive(Debug, Clone)]
struct Key {
    tag: u16,
    dnskey: Box<[u8]>,
}

/// The kind of cut at a name.
#[derive(Clone)]
enum Cut {
    /// A zone that is signed by one of these keys.
    Signed(Keys),
    /// A zone that is not signed, or not so that we could tell.
    Unsigned,
    /// Nothing: if the name exists, it is in the zone above.
    None,
}

#[derive(Clone)]
struct Known {
    cut: Cut,
    /// Seconds since 1970.
    until: u64,
}

#[derive(Clone)]
struct ByOctets;

impl Weighter<Name, Known> for ByOctets {
    fn weight(&self, name: &Name, known: &Known) -> u64 {
        let keys = if let Cut::Signed(keys) = &known.cut { &keys[..] } else { &[] };
        let octets: usize = keys.iter().map(|key| key.dnskey.len() + size_of::<Key>()).sum();
        (name.as_wire().len() + size_of::<Known>() + octets) as u64
    }
}

/// Where a name is.
enum Zone {
    Signed(Name, Keys),
    /// Below this cut nothing need be signed.
    Unsigned(Name),
}

/// Work that the validation of an answer, with all its links, has taken so far.
#[derive(Debug, Default)]
pub(super) struct Work {
    questions: usize,
    /// Signatures.
    checks: usize,
}

/// A proven cut is asked for again after so long: a change is seen then.
const MOST_SECONDS: u32 = 600;

fn bogus(code: EdeCode, why: impl Into<String>) -> Failed {
    Failed::Bogus(code, why.into())
}

impl Validator {
    /// Begins at the keys in a file, or at the root's.
    pub(super) fn new(plain: Plain, anchors: Option<&Path>, clock: Clock) -> Result<Self, ForwardError> {
        let anchors = match anchors {
            Some(path) => read_anchors(path)?,
            None => built_in_anchors(),
        };
        let cuts = Cache::with_weighter(FORWARD_CUTS, FORWARD_CUT_BYTES, ByOctets);
        Ok(Self { plain, anchors, cuts, clock })
    }

    /// The first link of what a message says of `name` and `rtype`, checked: the RRset that was asked for, or an alias, or the
    /// denial. The rest of a chain is for further questions.
    ///
    /// # Errors
    /// It is not proven, and should be; or what would prove it cannot be had.
    pub(super) async fn judge(
        &self,
        message: Message,
        name: &Name,
        rtype: Rtype,
        work: &mut Work,
    ) -> Result<Part, Failed> {
        let is_here = |record: &MessageRecord| record.owner == *name && [rtype, Rtype::CNAME].contains(&record.rtype);
        if rtype == Rtype::RRSIG && message.sections[0].iter().any(is_here) {
            // They are signed by nothing.
            return Ok(Part::new(message, rtype));
        }
        // RRSIGs stand beside what they cover.
        let mut part = Part::new(message, Rtype::A);
        if rtype == Rtype::ANY && part.answer.iter().any(|checked| checked.rrset.owner == *name) {
            return self.all(part, name, work).await;
        }
        let found = part.take(name, rtype).or_else(|| part.take(name, Rtype::CNAME)).map(|found| found.rrset);
        let dname = part.take_dname_above(name).map(|dname| dname.rrset);
        let (links, rcode) = match (found, dname) {
            (Some(found), None) => (vec![found], Rcode::NoError as u16),
            (Some(found), Some(_)) if !is_bare_alias(&found) => (vec![found], Rcode::NoError as u16),
            (found, Some(dname)) => {
                let mut made = made_cname(&dname, name).ok_or(Failed::Unreadable)?;
                if let Some(found) = found {
                    if found.rdata != made.rdata {
                        return Err(bogus(EdeCode::DnssecBogus, format!("{name} is not what its DNAME makes of it")));
                    }
                    made.ttl = made.ttl.min(found.ttl);
                }
                (vec![dname, made], Rcode::NoError as u16)
            }
            (None, None) => (Vec::new(), part.rcode),
        };
        let (mut links, authority) = (links.into_iter(), part.authority);
        match links.next() {
            None => self.negative(name, rtype, rcode, authority, work).await,
            Some(first) => {
                let mut part = self.positive(first, authority, work).await?;
                let secure = part.answer.iter().all(|checked| checked.secure);
                let ttl = part.answer.iter().map(|checked| checked.rrset.ttl).min().unwrap_or(0);
                part.answer
                    .extend(links.map(|rrset| Checked { rrset: Rrset { ttl: rrset.ttl.min(ttl), ..rrset }, secure }));
                Ok(part)
            }
        }
    }

    /// All types that an upstream has at a name (RFC 8482).
    async fn all(&self, part: Part, name: &Name, work: &mut Work) -> Result<Part, Failed> {
        let mut answer = Vec::new();
        for Checked { rrset, .. } in part.answer.into_iter().filter(|checked| checked.rrset.owner == *name) {
            answer.extend(self.positive(rrset, part.authority.clone(), work).await?.answer);
        }
        Ok(Part { answer, authority: Vec::new(), rcode: Rcode::NoError as u16 })
    }

    async fn positive(&self, mut rrset: Rrset, authority: Vec<Checked>, work: &mut Work) -> Result<Part, Failed> {
        let place = place(&rrset.owner, rrset.rtype);
        let mut why = None;
        for signer in signers([&rrset], &place) {
            match self.zone(&signer, work).await? {
                Zone::Unsigned(_) => return Ok(unsigned(rrset)),
                Zone::Signed(zone, keys) if zone == signer => {
                    let signed = Signed { zone: &zone, keys: &keys, now: (self.clock)() };
                    match signed.answer(&mut rrset, &authority, work) {
                        Ok(Answered { proofs, strength, .. }) => {
                            let secure = strength == Strength::Full;
                            let checked = |rrset| Checked { rrset, secure };
                            let authority = proofs.into_iter().map(checked).collect();
                            return Ok(Part { answer: vec![checked(rrset)], authority, rcode: Rcode::NoError as u16 });
                        }
                        Err(error) => why = why.or(Some(error)),
                    }
                }
                Zone::Signed(..) => {}
            }
        }
        let what = || bogus(EdeCode::RrsigsMissing, format!("{} {} is not signed", rrset.owner, rrset.rtype));
        self.unless_signed(&place, why.unwrap_or_else(what), work).await?;
        Ok(unsigned(rrset))
    }

    async fn negative(
        &self,
        name: &Name,
        rtype: Rtype,
        rcode: u16,
        authority: Vec<Checked>,
        work: &mut Work,
    ) -> Result<Part, Failed> {
        let place = place(name, rtype);
        let proofs = authority.iter().map(|checked| &checked.rrset).filter(|rrset| denies(rrset));
        let mut why = None;
        for signer in signers(proofs, &place) {
            match self.zone(&signer, work).await? {
                Zone::Unsigned(cut) => return Ok(undenied(name, &cut, rcode, authority)),
                Zone::Signed(zone, keys) if zone == signer => {
                    let signed = Signed { zone: &zone, keys: &keys, now: (self.clock)() };
                    match signed.denial(name, rtype, rcode, &authority, work) {
                        Ok((rrsets, strength)) => {
                            let secure = strength == Strength::Full;
                            let authority = rrsets.into_iter().map(|rrset| Checked { rrset, secure }).collect();
                            return Ok(Part { answer: Vec::new(), authority, rcode });
                        }
                        Err(error) => why = why.or(Some(error)),
                    }
                }
                Zone::Signed(..) => {}
            }
        }
        let what = || bogus(EdeCode::NsecMissing, format!("nothing proves that there is no {name} {rtype}"));
        let cut = self.unless_signed(&place, why.unwrap_or_else(what), work).await?;
        Ok(undenied(name, &cut, rcode, authority))
    }

    /// The cut below which a name need not be signed; `why` if none is shown.
    async fn unless_signed(&self, name: &Name, why: Failed, work: &mut Work) -> Result<Name, Failed> {
        match self.zone(name, work).await {
            Ok(Zone::Unsigned(cut)) => Ok(cut),
            Ok(Zone::Signed(..)) | Err(Failed::Bogus(..)) => Err(why),
            Err(error) => Err(error),
        }
    }

    /// The zone that a name is in.
    async fn zone(&self, name: &Name, work: &mut Work) -> Result<Zone, Failed> {
        let above = (0..=name.label_count()).rev().map(|count| name.suffix(count));
        let anchor = above.into_iter().find_map(|zone| self.anchors.get_key_value(&zone));
        let (mut zone, vouching) = match anchor {
            Some((zone, vouching)) => (zone.clone(), vouching),
            None => return Err(bogus(EdeCode::DnssecIndeterminate, format!("no anchor is above {name}"))),
        };
        let mut keys = match self.known(&zone) {
            Some(Cut::Signed(keys)) => keys,
            _ => {
                let (keys, seconds) = self.keys(&zone, vouching, work).await?;
                self.remember(&zone, Cut::Signed(keys.clone()), seconds);
                keys
            }
        };
        for count in zone.label_count() + 1..=name.label_count() {
            let at = name.suffix(count);
            let cut = match self.known(&at) {
                Some(cut) => cut,
                None => self.cut(&at, &zone, &keys, work).await?,
            };
            match cut {
                Cut::Signed(of) => (zone, keys) = (at, of),
                Cut::Unsigned => return Ok(Zone::Unsigned(at)),
                Cut::None => {}
            }
        }
        Ok(Zone::Signed(zone, keys))
    }

    fn known(&self, name: &Name) -> Option<Cut> {
        let now = (self.clock)();
        let known = self.cuts.get(name)?;
        // Not what was remembered under a clock that was ahead.
        (now < known.until && known.until <= now + u64::from(MOST_SECONDS)).then_some(known.cut)
    }

    fn remember(&self, name: &Name, cut: Cut, seconds: u32) {
        if seconds > 0 {
            let until = (self.clock)() + u64::from(seconds.min(MOST_SECONDS));
            self.cuts.insert(name.clone(), Known { cut, until });
        }
    }

    /// The kind of cut at a name right below what is in `zone`.
    async fn cut(&self, at: &Name, zone: &Name, keys: &[Key], work: &mut Work) -> Result<Cut, Failed> {
        let message = self.ask(at, Rtype::DS, work).await?;
        let signed = Signed { zone, keys, now: (self.clock)() };
        let mut part = Part::new(message, Rtype::DS);
        let (cut, seconds) = if let Some(Checked { rrset: mut ds, .. }) = part.take(at, Rtype::DS) {
            signed.rrset(&mut ds, work)?;
            let vouching: Vec<_> =
                ds.rdata.iter().filter(|ds| is_ours(ds)).map(|ds| (Rtype::DS, ds.to_vec())).collect();
            if vouching.is_empty() {
                (Cut::Unsigned, ds.ttl)
            } else {
                let (keys, seconds) = self.keys(at, &vouching, work).await?;
                (Cut::Signed(keys), seconds.min(ds.ttl))
            }
        } else {
            // Where an alias stands, or below a DNAME, no zone begins.
            let alias = part.take(at, Rtype::CNAME).filter(|alias| !is_bare_alias(&alias.rrset));
            match alias.or_else(|| part.take_dname_above(at)) {
                Some(Checked { rrset: mut alias, .. }) => {
                    let answered = signed.answer(&mut alias, &part.authority, work)?;
                    let cut = if answered.strength == Strength::Full { Cut::None } else { Cut::Unsigned };
                    (cut, alias.ttl)
                }
                None => signed.absent_ds(at, part.rcode, &part.authority, work)?,
            }
        };
        self.remember(at, cut.clone(), seconds);
        Ok(cut)
    }

    /// The keys of a zone, whose RRset is signed by one that `vouching` names; and for how long that is so.
    async fn keys(&self, zone: &Name, vouching: &[(Rtype, Vec<u8>)], work: &mut Work) -> Result<(Keys, u32), Failed> {
        let message = self.ask(zone, Rtype::DNSKEY, work).await?;
        let missing = || bogus(EdeCode::DnskeyMissing, format!("{zone} has no DNSKEY that its DS or anchor names"));
        let mut rrset = Part::new(message, Rtype::DNSKEY).take(zone, Rtype::DNSKEY).ok_or_else(missing)?.rrset;
        let keys = usable(&rrset.rdata);
        let named = |key: &&Key| vouching.iter().take(MAX_DS).any(|(rtype, data)| key.is_named(zone, *rtype, data));
        let vouched: Vec<Key> = keys.iter().filter(named).cloned().collect();
        if vouched.is_empty() {
            return Err(missing());
        }
        Signed { zone, keys: &vouched, now: (self.clock)() }.rrset(&mut rrset, work)?;
        Ok((keys.into(), rrset.ttl))
    }

    async fn ask(&self, name: &Name, rtype: Rtype, work: &mut Work) -> Result<Message, Failed> {
        work.questions += 1;
        if work.questions > FORWARD_CHAIN {
            return Err(bogus(
                EdeCode::DnssecIndeterminate,
                format!("more than {FORWARD_CHAIN} questions for one proof"),
            ));
        }
        // A validator wants to see data that does not validate (RFC 6840 §5.9).
        self.plain.ask(name, rtype, true).await
    }
}

/// A zone, and what it has to say.
struct Signed<'a> {
    zone: &'a Name,
    keys: &'a [Key],
    now: u64,
}

/// What came of an RRset's check: if it was expanded from a wildcard, with the proofs that it may be.
struct Answered {
    proofs: Vec<Rrset>,
    strength: Strength,
}

impl Signed<'_> {
    /// Checks an RRset: its TTL is then what was signed at most, its RRSIGs are those that are right.
    fn rrset(&self, rrset: &mut Rrset, work: &mut Work) -> Result<(), Failed> {
        match self.check(rrset, work)?.next_closer(&rrset.owner) {
            Some(_) => {
                let what = format!("{} {} is expanded from a wildcard", rrset.owner, rrset.rtype);
                Err(bogus(EdeCode::DnssecBogus, what))
            }
            None => Ok(()),
        }
    }

    /// [`Signed::rrset`], with the proof that belongs to what was expanded from a wildcard.
    fn answer(&self, rrset: &mut Rrset, authority: &[Checked], work: &mut Work) -> Result<Answered, Failed> {
        let Some(next_closer) = self.check(rrset, work)?.next_closer(&rrset.owner) else {
            return Ok(Answered { proofs: Vec::new(), strength: Strength::Full });
        };
        let (proofs, why) = self.proofs(authority, work);
        let strength = Proofs::new(self.zone, &proofs, nsec3_hash).absent(&next_closer);
        let strength = strength.map_err(|unproven| why.unwrap_or_else(|| not_proven(&unproven, proofs.is_empty())))?;
        Ok(Answered { proofs, strength })
    }

    /// Checks a denial: its proofs, with the SOA, and how far they go.
    fn denial(
        &self,
        name: &Name,
        rtype: Rtype,
        rcode: u16,
        authority: &[Checked],
        work: &mut Work,
    ) -> Result<(Vec<Rrset>, Strength), Failed> {
        let (mut proofs, why) = self.proofs(authority, work);
        let strength = Proofs::new(self.zone, &proofs, nsec3_hash).deny(name, rtype, rcode);
        let strength = strength.map_err(|unproven| why.unwrap_or_else(|| not_proven(&unproven, proofs.is_empty())))?;
        let is_soa = |checked: &&Checked| checked.rrset.rtype == Rtype::SOA && checked.rrset.owner == *self.zone;
        if let Some(soa) = authority.iter().find(is_soa) {
            let mut soa = soa.rrset.clone();
            self.rrset(&mut soa, work)?;
            proofs.insert(0, soa);
        }
        Ok((proofs, strength))
    }

    /// The kind of cut at a name that has no DS, and for how long that is so.
    fn absent_ds(&self, at: &Name, rcode: u16, authority: &[Checked], work: &mut Work) -> Result<(Cut, u32), Failed> {
        let (proofs, why) = self.proofs(authority, work);
        let unsigned = Proofs::new(self.zone, &proofs, nsec3_hash).is_unsigned_cut(at, rcode);
        let unsigned = unsigned.map_err(|unproven| why.unwrap_or_else(|| not_proven(&unproven, proofs.is_empty())))?;
        let seconds = proofs.iter().map(|proof| proof.ttl).min().unwrap_or(0);
        Ok((if unsigned { Cut::Unsigned } else { Cut::None }, seconds))
    }

    /// The NSEC and NSEC3 RRsets that the zone has signed; and what is wrong with the first that it has not.
    fn proofs(&self, authority: &[Checked], work: &mut Work) -> (Vec<Rrset>, Option<Failed>) {
        let (mut proofs, mut why) = (Vec::new(), None);
        let mine = |rrset: &&Rrset| denies(rrset) && rrset.owner.is_at_or_below(self.zone);
        for rrset in authority.iter().map(|checked| &checked.rrset).filter(mine).take(MAX_PROOFS) {
            let mut rrset = rrset.clone();
            match self.rrset(&mut rrset, work) {
                Ok(()) => proofs.push(rrset),
                Err(error) => why = why.or(Some(error)),
            }
        }
        (proofs, why)
    }

    /// The first RRSIG that proves the RRset.
    fn check(&self, rrset: &mut Rrset, work: &mut Work) -> Result<Rrsig, Failed> {
        let (mut why, mut good, mut checks) = (EdeCode::RrsigsMissing, Vec::<(Rrsig, Box<[u8]>)>::new(), 0);
        let mut spent = false;
        'all: for octets in &rrset.rrsigs {
            let Ok(rrsig) = Rrsig::parse(octets) else { continue };
            if rrsig.covered != rrset.rtype || rrsig.signer != *self.zone {
                continue;
            }
            if !rrsig.is_current(self.now) {
                let expired = rrsig.seconds_left(self.now) <= 0;
                let code = if expired { EdeCode::SignatureExpired } else { EdeCode::SignatureNotYetValid };
                why = worse(why, code);
                continue;
            }
            why = worse(why, EdeCode::DnskeyMissing);
            for key in self.keys.iter().filter(|key| key.tag == rrsig.key_tag && key.algorithm() == rrsig.algorithm) {
                if checks == CHECKS_PER_RRSET || work.checks == CHECKS_PER_ANSWER {
                    (why, spent) = (EdeCode::DnssecBogus, true);
                    break 'all;
                }
                (checks, work.checks, why) = (checks + 1, work.checks + 1, EdeCode::DnssecBogus);
                // Putting it together costs more than the check, where the RRset is large.
                let Some(data) = signed_octets(&rrsig, rrset) else { break };
                if key.verifies(&data, &rrsig.signature) {
                    good.push((rrsig, octets.clone()));
                    break;
                }
            }
        }
        let Some((first, _)) = good.first().cloned() else {
            let what = match why {
                EdeCode::RrsigsMissing => "has no RRSIG by",
                EdeCode::SignatureExpired => "has an expired RRSIG by",
                EdeCode::SignatureNotYetValid => "has an RRSIG from the future by",
                EdeCode::DnskeyMissing => "is signed with no key of",
                _ if spent => "has more RRSIGs and keys of one tag than are tried, by",
                _ => "has a wrong RRSIG by",
            };
            return Err(bogus(why, format!("{} {} {what} {}", rrset.owner, rrset.rtype, self.zone)));
        };
        // A client may hold it for as long as it is signed for, and no longer (RFC 4035 §5.3.3).
        let left = first.seconds_left(self.now).unsigned_abs();
        rrset.ttl = rrset.ttl.min(first.original_ttl).min(left);
        rrset.rrsigs = good.into_iter().map(|(_, octets)| octets).collect();
        Ok(first)
    }
}

impl Key {
    fn algorithm(&self) -> u8 {
        self.dnskey[3]
    }

    fn verifies(&self, data: &[u8], signature: &[u8]) -> bool {
        let key = PublicKeyBuf::new(self.dnskey[4..].to_vec(), Algorithm::from_u8(self.algorithm()));
        key.verify(data, signature).is_ok()
    }

    /// True if DS or DNSKEY RDATA is of this key.
    fn is_named(&self, zone: &Name, rtype: Rtype, data: &[u8]) -> bool {
        if rtype == Rtype::DNSKEY {
            // Whether it signs keys or records is not for the anchor to say.
            return data.get(2..) == Some(&self.dnskey[2..]);
        }
        let Some((head, digest)) = data.split_first_chunk::<4>() else { return false };
        if u16_at(head, 0) != self.tag || head[2] != self.algorithm() {
            return false;
        }
        let of = Digest::new(&[zone.as_wire(), &self.dnskey].concat(), DigestType::from(head[3]));
        of.is_ok_and(|of| of.as_ref() == digest)
    }
}

/// Of two reasons why no RRSIG proves an RRset, the one that came nearer to a proof.
fn worse(one: EdeCode, other: EdeCode) -> EdeCode {
    let rank = |code: &EdeCode| match code {
        EdeCode::RrsigsMissing => 0,
        EdeCode::DnskeyMissing => 1,
        EdeCode::SignatureNotYetValid => 2,
        EdeCode::SignatureExpired => 3,
        _ => 4,
    };
    if rank(&other) > rank(&one) { other } else { one }
}

/// The zone keys among DNSKEY RDATA that are not revoked and of an algorithm that we know; of one tag a few.
fn usable(rdata: &[Box<[u8]>]) -> Vec<Key> {
    let mut keys: Vec<Key> = Vec::new();
    let mut of_tag: BTreeMap<(u16, u8), usize> = BTreeMap::new();
    for dnskey in rdata.iter().filter(|dnskey| dnskey.len() > 4).take(MAX_KEYS) {
        let (flags, algorithm) = (u16_at(dnskey, 0), dnskey[3]);
        let is_zone_key = flags & FLAGS_ONLINE != 0 && flags & FLAG_REVOKE == 0 && dnskey[2] == 3;
        let tag = key_tag(dnskey);
        let held = of_tag.entry((tag, algorithm)).or_default();
        if is_zone_key && Algorithm::from_u8(algorithm).is_supported() && *held < KEYS_PER_TAG {
            *held += 1;
            keys.push(Key { tag, dnskey: dnskey.clone() });
        }
    }
    keys
}

/// DS RDATA of an algorithm and a digest that we know; a zone with none of them counts as not signed (RFC 4035 §5.2).
fn is_ours(ds: &[u8]) -> bool {
    ds.len() > 4 && Algorithm::from_u8(ds[2]).is_supported() && DigestType::from(ds[3]).is_supported()
}

/// Data signed on the parent's side of a cut is in the parent's zone.
fn place(name: &Name, rtype: Rtype) -> Name {
    name.parent().filter(|_| rtype == Rtype::DS).unwrap_or_else(|| name.clone())
}

/// The zones, at or above a name, that RRSIGs say they are by: the nearest first, and two at most.
fn signers<'a>(rrsets: impl IntoIterator<Item = &'a Rrset>, name: &Name) -> Vec<Name> {
    let rrsigs = rrsets.into_iter().flat_map(|rrset| &rrset.rrsigs);
    let mut signers: Vec<Name> = rrsigs.filter_map(|rrsig| Some(Rrsig::parse(rrsig).ok()?.signer)).collect();
    signers.retain(|signer| name.is_at_or_below(signer));
    signers.sort_unstable_by_key(|signer| std::cmp::Reverse(signer.label_count()));
    signers.dedup();
    signers.truncate(2);
    signers
}

fn denies(rrset: &Rrset) -> bool {
    [Rtype::NSEC, Rtype::NSEC3].contains(&rrset.rtype)
}

/// A CNAME without signature, as a DNAME makes it.
fn is_bare_alias(rrset: &Rrset) -> bool {
    rrset.rtype == Rtype::CNAME && rrset.rrsigs.is_empty()
}

fn unsigned(rrset: Rrset) -> Part {
    Part { answer: vec![Checked { rrset, secure: false }], authority: Vec::new(), rcode: Rcode::NoError as u16 }
}

/// A denial that nothing proves: what stands above the cut has no say in it.
fn undenied(name: &Name, cut: &Name, rcode: u16, mut authority: Vec<Checked>) -> Part {
    authority.retain(|Checked { rrset, .. }| {
        rrset.owner.is_at_or_below(cut) && (rrset.rtype != Rtype::SOA || name.is_at_or_below(&rrset.owner))
    });
    Part { answer: Vec::new(), authority, rcode }
}

fn not_proven(unproven: &Unproven, nothing: bool) -> Failed {
    let code = match unproven {
        Unproven::Iterations(_) | Unproven::Rounds => EdeCode::Nsec3Iterations,
        Unproven::Because(_) if nothing => EdeCode::NsecMissing,
        Unproven::Because(_) => EdeCode::DnssecBogus,
    };
    bogus(code, unproven.to_string())
}

fn nsec3_hash(salt: &[u8], name: &[u8], iterations: u16) -> Hashed {
    let digest = Digest::iterated(salt, name, DigestType::SHA1, iterations);
    // SHA-1 is always there, and has 20 octets.
    digest.ok().and_then(|digest| digest.as_ref().try_into().ok()).unwrap_or_default()
}

fn built_in_anchors() -> Anchors {
    let anchors = TrustAnchors::default();
    let key = |at| anchors.get(at).map(|key| (key.algorithm(), key.public_bytes()));
    let dnskey = |(algorithm, key): (Algorithm, &[u8])| {
        (Rtype::DNSKEY, [&FLAGS_OWNER.to_be_bytes()[..], &[3, u8::from(algorithm)], key].concat())
    };
    BTreeMap::from([(Name::root(), (0..anchors.len()).filter_map(key).map(dnskey).collect())])
}

fn read_anchors(path: &Path) -> Result<Anchors, ForwardError> {
    let failed = |reason: String| ForwardError::Anchors { path: path.to_owned(), reason };
    let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let mut anchors = Anchors::new();
    // Anchors are written without a TTL as often as with one.
    for record in Reader::new(&[b"$TTL 0\n", &text[..]].concat(), Name::root()) {
        let record = record.map_err(|error| failed(format!("line {}: {}", error.line - 1, error.kind)))?;
        if [Rtype::DS, Rtype::DNSKEY].contains(&record.rtype) {
            anchors.entry(record.owner).or_default().push((record.rtype, record.rdata));
        }
    }
    if anchors.is_empty() { Err(failed("no DNSKEY or DS record in it".to_owned())) } else { Ok(anchors) }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::dnssec::{Secret, ZoneKey};

    fn name(text: &str) -> Name {
        Name::from_user(text).unwrap()
    }

    fn zone_key() -> ZoneKey {
        ZoneKey::new(Secret::Ed25519(SigningKey::from_bytes(&[7; 32])), FLAGS_OWNER)
    }

    /// DNSKEY RDATA with the tag of another; what is in it is no key of anybody's.
    fn colliding(with: &[u8], number: u16) -> Box<[u8]> {
        let mut other = with.to_vec();
        let word = |octets: &[u8], at| u32::from(u16_at(octets, at));
        // One word of 16 bits gains what another loses.
        let sum = word(with, 4) + word(with, 6);
        let first = (word(with, 4) + u32::from(number)) % 0xffff;
        let second = (sum + 0xffff - first) % 0xffff;
        other[4..6].copy_from_slice(&(first as u16).to_be_bytes());
        other[6..8].copy_from_slice(&(second as u16).to_be_bytes());
        other.into()
    }

    /// CVE-2023-50387: 128 keys of one tag, 400 RRSIGs that name it.
    #[test]
    fn colliding_keys_cost_a_few_checks() {
        let (zone, key) = (name("example"), zone_key());
        let many: Vec<Box<[u8]>> = (1..=128).map(|number| colliding(key.dnskey(), number)).collect();
        let of_tag = many.iter().filter(|other| key_tag(other) == key_tag(key.dnskey())).count();
        assert!(of_tag >= 100, "{of_tag} collide");
        let keys = usable(&many);
        assert!(keys.len() <= KEYS_PER_TAG + (128 - of_tag), "{}", keys.len());
        let mut rrset = Rrset::new(name("www.example"), Rtype::A, 60, [vec![192, 0, 2, 1]]);
        let right = key.sign_until(&zone, &rrset, 0, 1_000);
        let wrong = |number: usize| {
            let mut rrsig = right.clone();
            let at = rrsig.len() - 1 - number % 60;
            rrsig[at] ^= 1 + (number / 60) as u8;
            rrsig.into_boxed_slice()
        };
        rrset.rrsigs = (0..400).map(wrong).collect();
        let (signed, mut work) = (Signed { zone: &zone, keys: &keys, now: 500 }, Work::default());
        for rrsets in 1..=20 {
            let failed = signed.rrset(&mut rrset.clone(), &mut work).unwrap_err();
            assert_eq!(failed.ede(), if work.checks > 0 { EdeCode::DnssecBogus } else { EdeCode::DnskeyMissing });
            assert!(work.checks <= (rrsets * CHECKS_PER_RRSET).min(CHECKS_PER_ANSWER), "{}", work.checks);
        }
        assert_eq!(work.checks, CHECKS_PER_ANSWER);
        // One that is right among a few that are not is found.
        let keys = usable(&[many[0].clone(), key.dnskey().into()]);
        rrset.rrsigs.truncate(1);
        rrset.rrsigs.push(right.clone().into());
        let mut work = Work::default();
        Signed { zone: &zone, keys: &keys, now: 500 }.rrset(&mut rrset, &mut work).unwrap();
        assert_eq!((rrset.rrsigs.len(), &*rrset.rrsigs[0], work.checks), (1, &right[..], 4));
    }

    #[test]
    fn what_is_signed_lives_as_long_as_it_is_signed() {
        let (zone, key) = (name("example"), zone_key());
        let rrset = Rrset::new(name("www.example"), Rtype::A, 60, [vec![192, 0, 2, 1]]);
        let rrsig = key.sign_until(&zone, &rrset, 0, 1_000);
        let at = |now, ttl| {
            let keys = usable(&[key.dnskey().into()]);
            let mut rrset = Rrset { ttl, rrsigs: vec![rrsig.clone().into()], ..rrset.clone() };
            Signed { zone: &zone, keys: &keys, now }.rrset(&mut rrset, &mut Work::default()).map(|()| rrset.ttl)
        };
        assert_eq!((at(500, 30).ok(), at(500, 80_000).ok(), at(990, 60).ok()), (Some(30), Some(60), Some(10)));
        assert_eq!(at(1_000, 60).unwrap_err().ede(), EdeCode::SignatureExpired);
    }

    #[test]
    fn keys_that_are_revoked_or_none_are_not_used() {
        let key = zone_key();
        let flags = |flags: u16| [&flags.to_be_bytes(), &key.dnskey()[2..]].concat().into_boxed_slice();
        let of = |algorithm: u8| [&key.dnskey()[..3], &[algorithm], &key.dnskey()[4..]].concat().into_boxed_slice();
        assert_eq!(usable(&[flags(257), flags(256), flags(0), flags(1), flags(257 | FLAG_REVOKE)]).len(), 2);
        assert_eq!(usable(&[of(15), of(16), of(250), of(1), of(3), of(12)]).len(), 1);
        assert!(is_ours(&[0, 1, 15, 2, 0]) && !is_ours(&[0, 1, 15, 3, 0]) && !is_ours(&[0, 1, 16, 2, 0]));
        assert!(!is_ours(&[0, 1, 15, 2]));
    }

    #[test]
    fn the_roots_keys_are_built_in() {
        let anchors = built_in_anchors();
        let tags: Vec<u16> = anchors[&Name::root()].iter().map(|(_, dnskey)| key_tag(dnskey)).collect();
        assert_eq!(tags, [20_326, 38_696]);
    }
}
