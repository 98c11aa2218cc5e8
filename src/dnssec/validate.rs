//! Validation of an answer from a trust anchor down (RFC 4035 §5), each step told.
//!
//! ```text
//! anchor -> DNSKEY of the TLD -> DS of the name -> DNSKEY of the name -> RRSIG of every RRset, or the denial
//!                                    '-- proven absent: insecure
//! ```
//!
//! Algorithms 15 and 13; denial by NSEC, compact (RFC 9824) or with a chain (RFC 4035 §5.4).

use std::cell::Cell;
use std::collections::BTreeMap;

use super::absence::{bitmap, covers, denied_around, hides, lacks};
use super::rrsig::verify_answer;
use super::{PublicKey, Rrsig, RrsigError, ds, key_tag};
use crate::limits::{CHECKS_PER_ANSWER, CHECKS_PER_RRSET, KEYS_PER_TAG, MAX_DS, MAX_KEYS};
use crate::wire::{Message, MessageRecord, Name, Rrset, Rtype, rdata};

/// What the validator trusts: DS or DNSKEY RDATA by zone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Anchors(BTreeMap<Name, Vec<(Rtype, Vec<u8>)>>);

impl Anchors {
    /// Trusts DS or DNSKEY RDATA of `zone`; other types are passed over.
    pub fn add(&mut self, zone: Name, rtype: Rtype, rdata: Vec<u8>) {
        if rtype == Rtype::DS || rtype == Rtype::DNSKEY {
            self.0.entry(zone).or_default().push((rtype, rdata));
        }
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Gives the messages that a walk needs. Implemented over a network connection, or over a stored chain.
pub trait Ask {
    /// Why there is no message.
    type Error;

    /// The reply to a question with DO.
    ///
    /// # Errors
    /// No reply came.
    fn ask(&mut self, name: &Name, rtype: Rtype) -> Result<Message, Self::Error>;
}

/// What came of a validation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Everything is signed, and by the owner's key: the one that the DS names.
    SecureByOwner,
    /// Everything is signed, some of it by another key of the zone, or it is a denial.
    Secure,
    /// Proven not to be signed, from some zone on.
    Insecure,
    /// A signature or a proof is missing or wrong.
    Bogus,
}

impl Verdict {
    /// One word for it.
    pub fn text(self) -> &'static str {
        match self {
            Self::SecureByOwner => "secure, signed by the owner",
            Self::Secure => "secure",
            Self::Insecure => "insecure",
            Self::Bogus => "bogus",
        }
    }
}

/// The verdict, and what was looked at on the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub verdict: Verdict,
    pub steps: Vec<String>,
    /// DNSKEY RDATA of the keys that the DS or the anchor of each signed zone vouches for: its owner's.
    pub keys: BTreeMap<Name, Vec<PublicKey>>,
    /// Signatures that were checked.
    pub checks: usize,
}

/// Validates the reply to a question of class IN at `now`, seconds since 1970.
///
/// # Errors
/// Those of `ask`.
pub fn validate<A: Ask>(reply: &Message, anchors: &Anchors, now: u64, ask: &mut A) -> Result<Report, A::Error> {
    let (zones, used, asked, checks, steps) = Default::default();
    let mut walk = Walk { anchors, now, ask, zones, used, asked, checks, steps };
    let verdict = match walk.reply(reply) {
        Ok(verdict) => verdict,
        Err(Stop::Bogus(why)) => {
            walk.steps.push(why);
            Verdict::Bogus
        }
        Err(Stop::Ask(error)) => return Err(error),
    };
    let keys = walk.zones.into_iter().filter_map(|(zone, keys)| Some((zone, keys?.vouched))).collect();
    Ok(Report { verdict, steps: walk.steps, keys, checks: walk.checks.get() })
}

/// Names in one chain of aliases.
const MAX_LINKS: usize = 16;

/// Questions that one walk may ask: a name has few zones above it, and a server that leads the walk astray must
/// not make it endless.
const MAX_QUESTIONS: usize = 64;

/// A zone's keys: all of its DNSKEY RRset, and those that its DS or anchor vouches for.
#[derive(Clone)]
struct Keys {
    all: Vec<PublicKey>,
    vouched: Vec<PublicKey>,
}

/// `None`: proven not to be signed.
type Zone = Option<Keys>;

enum Stop<E> {
    Bogus(String),
    Ask(E),
}

struct Walk<'a, A> {
    anchors: &'a Anchors,
    now: u64,
    ask: &'a mut A,
    zones: BTreeMap<Name, Zone>,
    /// RRsets of the answer section that belong to the answer.
    used: Vec<(Name, Rtype)>,
    asked: usize,
    /// Signatures that were checked.
    checks: Cell<usize>,
    steps: Vec<String>,
}

fn bogus<T, E>(why: impl Into<String>) -> Result<T, Stop<E>> {
    Err(Stop::Bogus(why.into()))
}

impl<A: Ask> Walk<'_, A> {
    fn reply(&mut self, reply: &Message) -> Result<Verdict, Stop<A::Error>> {
        let Some((asked, rtype)) = &reply.question else { return bogus("the reply has no question") };
        if ![0, 3].contains(&reply.rcode()) {
            return bogus("the reply is an error");
        }
        let answer = rrsets(&reply.sections[0]);
        let authority = rrsets(&reply.sections[1]);
        let verdict = self.chain(asked, *rtype, reply.rcode(), &answer, &authority)?;
        let stray = answer.iter().find(|rrset| !self.used.contains(&(rrset.owner.clone(), rrset.rtype)));
        match stray {
            Some(stray) => bogus(format!("{} {} has nothing to do with the question", stray.owner, stray.rtype)),
            None => Ok(verdict),
        }
    }

    fn chain(
        &mut self,
        asked: &Name,
        rtype: Rtype,
        rcode: u16,
        answer: &[Rrset],
        authority: &[Rrset],
    ) -> Result<Verdict, Stop<A::Error>> {
        let mut verdict = Verdict::SecureByOwner;
        let mut name = asked.clone();
        for _ in 0..MAX_LINKS {
            let at = |wanted: Rtype| answer.iter().find(|rrset| rrset.owner == name && rrset.rtype == wanted);
            if let Some(rrset) = at(rtype) {
                return Ok(verdict.max(self.rrset(rrset, authority)?));
            }
            let Some(cname) = at(Rtype::CNAME) else {
                return Ok(verdict.max(self.denial(&name, rtype, rcode, authority)?));
            };
            let dname = answer.iter().find(|rrset| rrset.rtype == Rtype::DNAME && name.is_below(&rrset.owner));
            verdict = verdict.max(match dname {
                Some(dname) if cname.rrsigs.is_empty() => self.redirection(dname, cname, authority)?,
                _ => self.rrset(cname, authority)?,
            });
            let Some(target) = target(cname) else { return bogus(format!("CNAME of {name} is malformed")) };
            name = target;
            if answer.iter().all(|rrset| rrset.owner != name) && authority.is_empty() {
                // The chain leaves what this server answers for.
                self.steps.push(format!("{name} is for another server to answer"));
                return Ok(verdict);
            }
        }
        bogus("the chain of aliases does not end")
    }

    /// One RRset of the answer.
    fn rrset(&mut self, rrset: &Rrset, authority: &[Rrset]) -> Result<Verdict, Stop<A::Error>> {
        self.used.push((rrset.owner.clone(), rrset.rtype));
        let Some(signer) = signer(rrset) else { return self.unsigned(rrset) };
        if !rrset.owner.is_at_or_below(&signer) {
            return bogus(format!("{} {} is signed by {signer}", rrset.owner, rrset.rtype));
        }
        let Some(keys) = self.zone(&signer)? else {
            self.steps.push(format!("{} {}: not checked, {signer} is not signed", rrset.owner, rrset.rtype));
            return Ok(Verdict::Insecure);
        };
        let vouched = self.signed(rrset, &keys.vouched);
        let by_vouched = vouched.is_ok();
        let rrsig = match vouched.or_else(|_| self.signed(rrset, &keys.all)) {
            Ok(rrsig) => rrsig,
            Err(error) => return bogus(format!("{} {}: {error}", rrset.owner, rrset.rtype)),
        };
        let who = if by_vouched { "the owner's key" } else { "the zone's online key" };
        let who = if signer.label_count() < 2 { "the TLD's key" } else { who };
        self.steps.push(format!("{} {}: RRSIG by {who} of {signer}", rrset.owner, rrset.rtype));
        if let Some(closer) = rrsig.next_closer(&rrset.owner) {
            self.wildcard(&closer, &signer, &keys, authority)?;
        }
        let by_owner = by_vouched && signer.label_count() > 1;
        Ok(if by_owner { Verdict::SecureByOwner } else { Verdict::Secure })
    }

    /// The DNAME is signed, the CNAME is what it makes (RFC 6672 §5.3.1).
    fn redirection(&mut self, dname: &Rrset, cname: &Rrset, authority: &[Rrset]) -> Result<Verdict, Stop<A::Error>> {
        let made = target(dname).and_then(|to| cname.owner.rebase(&dname.owner, &to));
        if made.and_then(Result::ok) != target(cname) {
            return bogus(format!("the CNAME of {} is not what the DNAME of {} makes", cname.owner, dname.owner));
        }
        self.used.push((cname.owner.clone(), cname.rtype));
        self.rrset(dname, authority)
    }

    /// The next closer name does not exist: an NSEC covers it.
    fn wildcard(&mut self, closer: &Name, zone: &Name, keys: &Keys, authority: &[Rrset]) -> Result<(), Stop<A::Error>> {
        let covers = |nsec: &&Rrset| nsec.rtype == Rtype::NSEC && covers(nsec, closer, zone) && !hides(nsec, closer);
        let Some(nsec) = authority.iter().find(covers) else {
            return bogus(format!("expanded from a wildcard, but nothing proves that {closer} does not exist"));
        };
        self.denier(nsec, zone, keys)?;
        self.steps.push(format!("{closer} does not exist: the wildcard applies"));
        Ok(())
    }

    /// No data, or no name.
    fn denial(
        &mut self,
        name: &Name,
        rtype: Rtype,
        rcode: u16,
        authority: &[Rrset],
    ) -> Result<Verdict, Stop<A::Error>> {
        match self.proof(name, rtype, rcode, authority)? {
            Some(verdict) => Ok(verdict),
            None => self.unproven(name),
        }
    }

    /// The NSECs that deny the type or the name; `None` if there are none.
    fn proof(
        &mut self,
        name: &Name,
        rtype: Rtype,
        rcode: u16,
        authority: &[Rrset],
    ) -> Result<Option<Verdict>, Stop<A::Error>> {
        let Some((signer, nsecs)) = denying(name, rtype, authority) else { return Ok(None) };
        let Some(keys) = self.zone(&signer)? else { return Ok(Some(Verdict::Insecure)) };
        // The SOA says how long the denial may be kept (RFC 2308 §5).
        let soa = authority.iter().filter(|rrset| rrset.rtype == Rtype::SOA && rrset.owner == signer);
        let mut verdict = Verdict::SecureByOwner;
        for rrset in nsecs.iter().copied().chain(soa) {
            verdict = verdict.max(self.denier(rrset, &signer, &keys)?);
        }
        let denied = match nsecs.iter().find(|nsec| nsec.owner == *name) {
            Some(nsec) if bitmap(nsec).contains(&Rtype::NXNAME) => Ok(format!("{name} does not exist")),
            Some(nsec) => lacks(nsec, rtype, rcode),
            None => denied_around(name, rtype, rcode, &signer, &nsecs),
        };
        match denied {
            Ok(what) => {
                self.steps.push(format!("{what}: NSEC by {signer}"));
                Ok(Some(verdict))
            }
            Err(why) => bogus(why),
        }
    }

    /// Who signed a part of a denial. An NSEC that was expanded from a wildcard proves nothing about the name that it
    /// came to stand at (CVE-2017-15107).
    fn denier(&self, rrset: &Rrset, signer: &Name, keys: &Keys) -> Result<Verdict, Stop<A::Error>> {
        let own = signer.label_count() > 1 && self.signed(rrset, &keys.vouched).is_ok();
        match self.signed(rrset, &keys.all) {
            Ok(rrsig) if rrsig.next_closer(&rrset.owner).is_some() => {
                bogus(format!("{} {} is expanded from a wildcard", rrset.rtype, rrset.owner))
            }
            Ok(_) if own => Ok(Verdict::SecureByOwner),
            Ok(_) => Ok(Verdict::Secure),
            Err(error) => bogus(format!("{} {}: {error}", rrset.rtype, rrset.owner)),
        }
    }

    fn unsigned(&mut self, rrset: &Rrset) -> Result<Verdict, Stop<A::Error>> {
        if self.zone(&rrset.owner.suffix(2))?.is_none() {
            self.steps.push(format!("{} {}: not signed, and need not be", rrset.owner, rrset.rtype));
            return Ok(Verdict::Insecure);
        }
        bogus(format!("{} {} has no RRSIG, but its zone is signed", rrset.owner, rrset.rtype))
    }

    fn unproven(&mut self, name: &Name) -> Result<Verdict, Stop<A::Error>> {
        if self.zone(&name.suffix(2))?.is_none() {
            self.steps.push(format!("{name}: nothing is proven, and need not be"));
            return Ok(Verdict::Insecure);
        }
        bogus(format!("nothing proves that {name} has no such data"))
    }

    fn question(&mut self, name: &Name, rtype: Rtype) -> Result<Message, Stop<A::Error>> {
        self.asked += 1;
        if self.asked > MAX_QUESTIONS {
            return bogus(format!("more than {MAX_QUESTIONS} questions, and still no end"));
        }
        self.ask.ask(name, rtype).map_err(Stop::Ask)
    }

    /// The keys of a zone, from its anchor or from its DS.
    fn zone(&mut self, zone: &Name) -> Result<Zone, Stop<A::Error>> {
        if let Some(known) = self.zones.get(zone) {
            return Ok(known.clone());
        }
        let found = match self.anchors.0.get(zone) {
            Some(anchors) => {
                let anchors = anchors.clone();
                Some(self.keys(zone, &anchors, "anchor")?)
            }
            None => self.delegated(zone)?,
        };
        self.zones.insert(zone.clone(), found.clone());
        Ok(found)
    }

    /// The zone's DS RRset, signed by a zone above, or the proof that there is none.
    fn delegated(&mut self, zone: &Name) -> Result<Zone, Stop<A::Error>> {
        let Some(parent) = zone.parent().filter(|parent| !parent.is_root()) else {
            return bogus(format!("no trust anchor for {zone}"));
        };
        let reply = self.question(zone, Rtype::DS)?;
        let answer = rrsets(&reply.sections[0]);
        let Some(set) = answer.iter().find(|rrset| rrset.owner == *zone && rrset.rtype == Rtype::DS) else {
            let authority = rrsets(&reply.sections[1]);
            if self.proof(zone, Rtype::DS, reply.rcode(), &authority)?.is_none() {
                return bogus(format!("nothing proves that {zone} has no DS"));
            }
            let nsec = authority.iter().find(|rrset| rrset.rtype == Rtype::NSEC && rrset.owner == *zone);
            // Without the NS bit there is no zone to be insecure (RFC 4035 §5.2).
            if !nsec.is_some_and(|nsec| bitmap(nsec).contains(&Rtype::NS)) {
                return bogus(format!("{zone} is proven to be no zone, but has data"));
            }
            self.steps.push(format!("{zone} is not signed: no DS"));
            return Ok(None);
        };
        let signer = signer(set).filter(|signer| parent.is_at_or_below(signer));
        let Some(signer) = signer else { return bogus(format!("DS {zone} is not signed by its parent")) };
        let Some(keys) = self.zone(&signer)? else { return Ok(None) };
        if let Err(error) = self.signed(set, &keys.all) {
            return bogus(format!("DS {zone}: {error}"));
        }
        self.steps.push(format!("DS {zone} {}: RRSIG by {signer}", tags(set)));
        let vouching: Vec<(Rtype, Vec<u8>)> = set.rdata.iter().map(|data| (Rtype::DS, data.to_vec())).collect();
        self.keys(zone, &vouching, "DS").map(Some)
    }

    /// The zone's DNSKEY RRset, signed by a key that `vouching` names.
    fn keys(&mut self, zone: &Name, vouching: &[(Rtype, Vec<u8>)], what: &str) -> Result<Keys, Stop<A::Error>> {
        let reply = self.question(zone, Rtype::DNSKEY)?;
        let answer = rrsets(&reply.sections[0]);
        let Some(set) = answer.iter().find(|rrset| rrset.owner == *zone && rrset.rtype == Rtype::DNSKEY) else {
            return bogus(format!("{zone} has no DNSKEY"));
        };
        let all = usable(&set.rdata);
        let named = |key: &PublicKey| {
            let of_key = ds(zone, key.dnskey());
            vouching.iter().take(MAX_DS).any(|(rtype, data)| match *rtype {
                Rtype::DS => *data == of_key,
                _ => *data == key.dnskey(),
            })
        };
        let vouched: Vec<PublicKey> = all.iter().filter(|key| named(key)).cloned().collect();
        if vouched.is_empty() {
            return bogus(format!("no DNSKEY of {zone} matches its {what}"));
        }
        if let Err(error) = self.signed(set, &vouched) {
            return bogus(format!("DNSKEY {zone}: {error}"));
        }
        let tag = vouched[0].tag();
        self.steps.push(format!("DNSKEY {zone}: key {tag} matches the {what} and signs the set"));
        Ok(Keys { all, vouched })
    }

    /// The first RRSIG that one of the keys made over the RRset. Each costs a signature's check, so a few are tried.
    fn signed(&self, rrset: &Rrset, keys: &[PublicKey]) -> Result<Rrsig, RrsigError> {
        let (mut first, mut checks) = (None, 0);
        for rrsig in &rrset.rrsigs {
            let tag = Rrsig::parse(rrsig).map(|rrsig| rrsig.key_tag);
            // Another key's tag says less than what is wrong with the right key's signature.
            for key in keys.iter().filter(|key| tag == Ok(key.tag())) {
                if checks == CHECKS_PER_RRSET || self.checks.get() == CHECKS_PER_ANSWER {
                    return Err(RrsigError::Checks);
                }
                checks += 1;
                self.checks.set(self.checks.get() + 1);
                match verify_answer(rrsig, rrset, key, self.now) {
                    Ok(rrsig) => return Ok(rrsig),
                    Err(error) => first = first.or(Some(error)),
                }
            }
        }
        Err(first.unwrap_or(RrsigError::KeyTag))
    }
}

/// The zone keys among DNSKEY RDATA: of one tag a few, for each may have to be tried (CVE-2023-50387).
fn usable(rdata: &[Box<[u8]>]) -> Vec<PublicKey> {
    let mut of_tag: BTreeMap<u16, usize> = BTreeMap::new();
    let few = |dnskey: &&[u8]| {
        let held = of_tag.entry(key_tag(dnskey)).or_default();
        *held += 1;
        *held <= KEYS_PER_TAG
    };
    rdata.iter().map(|dnskey| &**dnskey).filter(few).take(MAX_KEYS).filter_map(PublicKey::from_dnskey).collect()
}

/// Records of a section, RRSIGs beside what they cover.
fn rrsets(records: &[MessageRecord]) -> Vec<Rrset> {
    let mut found: Vec<Rrset> = Vec::new();
    for record in records.iter().filter(|record| record.rtype != Rtype::RRSIG) {
        let data = rdata::canonical(record.rtype, &record.rdata).into_boxed_slice();
        match found.iter_mut().find(|rrset| rrset.owner == record.owner && rrset.rtype == record.rtype) {
            Some(rrset) if rrset.rdata.contains(&data) => {}
            Some(rrset) => rrset.rdata.push(data),
            None => found.push(Rrset::new(record.owner.clone(), record.rtype, record.ttl, [data.into_vec()])),
        }
    }
    for rrset in &mut found {
        rrset.rdata.sort_unstable();
        let covering = records.iter().filter(|record| record.rtype == Rtype::RRSIG && record.owner == rrset.owner);
        let covering = covering.filter(|record| record.rdata.starts_with(&rrset.rtype.0.to_be_bytes()));
        rrset.rrsigs = covering.map(|record| record.rdata.clone().into()).collect();
    }
    found
}

fn signer(rrset: &Rrset) -> Option<Name> {
    rrset.rrsigs.iter().find_map(|rrsig| Rrsig::parse(rrsig).ok()).map(|rrsig| rrsig.signer)
}

/// The one name that is all the RDATA of a CNAME or DNAME.
fn target(rrset: &Rrset) -> Option<Name> {
    let [data] = &rrset.rdata[..] else { return None };
    Name::from_wire(data).ok()
}

/// The NSECs that can say something of the type at `name`, and the zone that signed them: for DS the parent's, for
/// everything else those of the zone that the name is in. (Others deny what led here, or are the other side of a cut.)
fn denying<'a>(name: &Name, rtype: Rtype, authority: &'a [Rrset]) -> Option<(Name, Vec<&'a Rrset>)> {
    let of_parent = |nsec: &Rrset| hides(nsec, name) && !(rtype == Rtype::DS && *name == nsec.owner);
    let nsecs = authority.iter().filter(|rrset| rrset.rtype == Rtype::NSEC && !of_parent(rrset));
    let signed: Vec<(Name, &Rrset)> = nsecs.filter_map(|nsec| Some((signer(nsec)?, nsec))).collect();
    let fits = |zone: &Name| name.is_at_or_below(zone) && !(rtype == Rtype::DS && zone == name);
    let zones = signed.iter().map(|(zone, _)| zone).filter(|zone| fits(zone));
    let zone = zones.max_by_key(|zone| zone.label_count())?.clone();
    let nsecs = signed.iter().filter(|(signer, _)| *signer == zone).map(|(_, nsec)| *nsec).collect();
    Some((zone, nsecs))
}

fn tags(ds: &Rrset) -> String {
    let tags = ds.rdata.iter().filter_map(|data| data.first_chunk()).map(|tag| u16::from_be_bytes(*tag).to_string());
    tags.collect::<Vec<_>>().join(", ")
}
