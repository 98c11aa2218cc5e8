//! What upstreams answer, taken apart: what belongs to the question is kept, the rest of a message is not.

use std::collections::HashMap;

use super::ask::Failed;
use super::store::Question;
use crate::dnssec::Rrsig;
use crate::limits::{FORWARD_LINKS, FORWARD_SECONDS};
use crate::wire::{
    Answer, Builder, EdeCode, Message, MessageRecord, Name, Query, Rcode, Rrset, Rtype, Section, u16_at,
};

/// What validation made of an RRset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trust {
    Bogus,
    /// Not signed, or not looked at.
    Insecure,
    Secure,
}

/// An RRset of a response.
#[derive(Debug, Clone)]
pub(super) struct Checked {
    pub(super) rrset: Rrset,
    pub(super) trust: Trust,
}

/// A response.
#[derive(Debug)]
pub(super) struct Part {
    answer: Vec<Checked>,
    authority: Vec<Checked>,
    rcode: u16,
}

impl Part {
    /// Takes a message apart. `trust` is that of each of its records, in their order; `rtype` what was asked for.
    pub(super) fn new(message: Message, trust: [Vec<Trust>; 2], rtype: Rtype) -> Self {
        let rcode = message.rcode();
        let [answer, authority, _] = message.sections;
        let [answer_trust, authority_trust] = trust;
        let answer = group(answer.into_iter().zip(answer_trust), rtype);
        let authority = group(authority.into_iter().zip(authority_trust), rtype);
        Self { answer, authority, rcode }
    }

    /// True if the answer at `name` was made from a wildcard, and a signed NSEC of the same zone says that there is nothing
    /// closer (RFC 4035 §5.3.4).
    pub(super) fn proves_expansion(&self, name: &Name, rtype: Rtype) -> bool {
        let mine =
            |checked: &&Checked| checked.rrset.owner == *name && [rtype, Rtype::CNAME].contains(&checked.rrset.rtype);
        let Some(found) = self.answer.iter().find(mine).filter(|found| found.trust == Trust::Secure) else {
            return false;
        };
        let rrsigs = found.rrset.rrsigs.iter().filter_map(|rrsig| Rrsig::parse(rrsig).ok());
        let expanded = rrsigs.filter_map(|rrsig| Some((rrsig.next_closer(name)?, rrsig.signer))).collect::<Vec<_>>();
        let denies = |(next_closer, signer): &(Name, Name)| {
            let mut nsecs = self.authority.iter().filter(|proof| proof.rrset.rtype == Rtype::NSEC);
            nsecs.any(|nsec| nsec.trust == Trust::Secure && denies(&nsec.rrset, next_closer, signer))
        };
        // The RRSIGs of a wildcard all have the same labels.
        !expanded.is_empty() && expanded.iter().all(denies)
    }

    fn take(&mut self, owner: &Name, rtype: Rtype) -> Option<Checked> {
        let fits = |checked: &Checked| checked.rrset.owner == *owner && checked.rrset.rtype == rtype;
        self.answer.iter().position(fits).map(|at| self.answer.swap_remove(at))
    }

    fn take_dname_above(&mut self, name: &Name) -> Option<Checked> {
        let fits = |rrset: &Rrset| rrset.rtype == Rtype::DNAME && name.is_below(&rrset.owner);
        self.answer.iter().position(|checked| fits(&checked.rrset)).map(|at| self.answer.swap_remove(at))
    }
}

/// True if an NSEC signed by `signer` says that there is neither `name` nor anything below it.
fn denies(nsec: &Rrset, name: &Name, signer: &Name) -> bool {
    let mut signers = nsec.rrsigs.iter().filter_map(|rrsig| Some(Rrsig::parse(rrsig).ok()?.signer));
    let Some(Ok((next, _))) = nsec.rdata.first().map(|rdata| Name::from_wire_prefix(rdata)) else { return false };
    let before_end = *name < next || next == *signer;
    nsec.owner < *name && before_end && !next.is_at_or_below(name) && signers.any(|of| of == *signer)
}

/// Records to RRsets, in the order of the first of each. RRSIGs go with what they cover, unless they were asked for.
fn group(records: impl Iterator<Item = (MessageRecord, Trust)>, asked: Rtype) -> Vec<Checked> {
    let mut rrsets: Vec<Checked> = Vec::new();
    let mut at: HashMap<(Name, Rtype), usize> = HashMap::new();
    let (mut rrsigs, rrsigs_asked) = (Vec::new(), [Rtype::RRSIG, Rtype::ANY].contains(&asked));
    for (record, trust) in records {
        if record.rtype == Rtype::RRSIG && !rrsigs_asked {
            rrsigs.push(record);
            continue;
        }
        let ttl = seconds(record.ttl);
        let index = *at.entry((record.owner.clone(), record.rtype)).or_insert_with(|| {
            let rrset = Rrset { owner: record.owner, rtype: record.rtype, ttl, rdata: Vec::new(), rrsigs: Vec::new() };
            rrsets.push(Checked { rrset, trust });
            rrsets.len() - 1
        });
        let Checked { rrset, trust: least } = &mut rrsets[index];
        rrset.ttl = rrset.ttl.min(ttl);
        *least = trust.min(*least);
        // In the order that the upstream chose: it may mean something to it.
        rrset.rdata.push(record.rdata.into());
    }
    for rrsig in rrsigs.into_iter().filter(|rrsig| rrsig.rdata.len() > 18) {
        let covered = Rtype(u16_at(&rrsig.rdata, 0));
        if let Some(index) = at.get(&(rrsig.owner, covered)) {
            rrsets[*index].rrset.rrsigs.push(rrsig.rdata.into());
        }
    }
    rrsets
}

/// A TTL, read as RFC 2181 §8 says, and capped.
fn seconds(ttl: u32) -> u32 {
    if ttl > i32::MAX as u32 { 0 } else { ttl.min(FORWARD_SECONDS) }
}

/// Where an alias leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nowhere: the question is answered.
    End,
    /// To a name that the response does not tell about.
    At(Name),
}

/// What there is to a question.
#[derive(Debug)]
pub(super) struct Found {
    answer: Vec<Rrset>,
    authority: Vec<Rrset>,
    rcode: Rcode,
    secure: bool,
    /// A name of ours at which the chain of aliases ends: nobody upstream is asked for it.
    pub(super) ours: Option<Name>,
}

impl Default for Found {
    fn default() -> Self {
        Self { answer: Vec::new(), authority: Vec::new(), rcode: Rcode::NoError, secure: true, ours: None }
    }
}

impl Found {
    /// Follows a response from `name` on. What is neither on the way nor denies its end is dropped: an upstream may have put
    /// anything beside it.
    ///
    /// # Errors
    /// What is needed does not validate, or the way is too long.
    pub(super) fn follow(
        &mut self,
        mut part: Part,
        mut name: Name,
        rtype: Rtype,
        is_ours: impl Fn(&Name) -> bool,
        now: u64,
    ) -> Result<Next, Failed> {
        if rtype == Rtype::ANY && self.take_all(&mut part, &name) {
            return Ok(Next::End);
        }
        let begun = self.answer.len();
        while self.answer.len() <= 2 * FORWARD_LINKS {
            if let Some(found) = part.take(&name, rtype) {
                let expanded = is_expanded(&found.rrset);
                self.push(found, now)?;
                if expanded {
                    self.deny(&mut part, &[Rtype::NSEC, Rtype::NSEC3], now)?;
                }
                return Ok(Next::End);
            }
            let Some(alias) = part.take(&name, Rtype::CNAME) else {
                return self.end(part, name, self.answer.len() > begun, now);
            };
            let target =
                alias.rrset.rdata.first().and_then(|rdata| Name::from_wire(rdata).ok()).ok_or(Failed::Unreadable)?;
            self.push_alias(&mut part, alias, &name, &target, now)?;
            if is_ours(&target) {
                self.ours = Some(target);
                return Ok(Next::End);
            }
            name = target;
        }
        Err(Failed::TooLong)
    }

    fn take_all(&mut self, part: &mut Part, name: &Name) -> bool {
        let (mine, _): (Vec<_>, Vec<_>) = part.answer.drain(..).partition(|checked| checked.rrset.owner == *name);
        // ANY is never validated.
        self.secure = false;
        self.answer.extend(mine.into_iter().map(|checked| checked.rrset));
        !self.answer.is_empty()
    }

    /// A CNAME, with the DNAME that it was made from: then that one has the signature.
    fn push_alias(
        &mut self,
        part: &mut Part,
        mut alias: Checked,
        name: &Name,
        target: &Name,
        now: u64,
    ) -> Result<(), Failed> {
        let expanded = is_expanded(&alias.rrset);
        if let Some(dname) = part.take_dname_above(name).filter(|_| alias.rrset.rrsigs.is_empty()) {
            let to =
                dname.rrset.rdata.first().and_then(|rdata| Name::from_wire(rdata).ok()).ok_or(Failed::Unreadable)?;
            if name.rebase(&dname.rrset.owner, &to) == Some(Ok(target.clone())) {
                alias.trust = dname.trust;
            }
            self.push(dname, now)?;
        }
        self.push(alias, now)?;
        if expanded {
            self.deny(part, &[Rtype::NSEC, Rtype::NSEC3], now)?;
        }
        Ok(())
    }

    /// The response has nothing at `name`: it denies it, or it was only about the alias.
    fn end(&mut self, mut part: Part, name: Name, after_alias: bool, now: u64) -> Result<Next, Failed> {
        let denies =
            part.rcode == Rcode::NxDomain as u16 || part.authority.iter().any(|of| of.rrset.rtype == Rtype::SOA);
        if after_alias && !denies {
            return Ok(Next::At(name));
        }
        if part.rcode == Rcode::NxDomain as u16 {
            self.rcode = Rcode::NxDomain;
        }
        part.authority.retain(|of| of.rrset.rtype != Rtype::SOA || name.is_at_or_below(&of.rrset.owner));
        let proofs = self.authority.len();
        self.deny(&mut part, &[Rtype::SOA, Rtype::NSEC, Rtype::NSEC3], now)?;
        self.secure &= self.authority.len() > proofs;
        Ok(Next::End)
    }

    fn push(&mut self, checked: Checked, now: u64) -> Result<(), Failed> {
        self.weigh(&checked, now)?;
        self.answer.push(checked.rrset);
        Ok(())
    }

    /// Keeps those RRsets of the authority section that prove something.
    fn deny(&mut self, part: &mut Part, rtypes: &[Rtype], now: u64) -> Result<(), Failed> {
        for mut proof in part.authority.drain(..).filter(|proof| rtypes.contains(&proof.rrset.rtype)) {
            self.weigh(&proof, now)?;
            if let Some(minimum) = negative_ttl(&proof.rrset) {
                proof.rrset.ttl = proof.rrset.ttl.min(minimum);
            }
            self.authority.push(proof.rrset);
        }
        Ok(())
    }

    fn weigh(&mut self, checked: &Checked, now: u64) -> Result<(), Failed> {
        self.secure &= checked.trust == Trust::Secure;
        if checked.trust == Trust::Bogus { Err(why_bogus(&checked.rrset, now)) } else { Ok(()) }
    }

    /// True if it tells that there is nothing.
    fn is_negative(&self) -> bool {
        self.ours.is_none()
            && (self.rcode == Rcode::NxDomain || self.answer.iter().all(|rrset| rrset.rtype == Rtype::CNAME))
    }
}

/// MINIMUM of an SOA (RFC 2308 §4).
fn negative_ttl(rrset: &Rrset) -> Option<u32> {
    let soa = rrset.rdata.first().filter(|_| rrset.rtype == Rtype::SOA)?;
    soa.last_chunk().map(|minimum| seconds(u32::from_be_bytes(*minimum)))
}

/// Made from a wildcard: then the proof that there is nothing closer belongs to it (RFC 4035 §3.1.3.3).
fn is_expanded(rrset: &Rrset) -> bool {
    rrset.rrsigs.iter().any(|rrsig| Rrsig::parse(rrsig).is_ok_and(|rrsig| rrsig.next_closer(&rrset.owner).is_some()))
}

/// The validator says only that it is: the signatures tell why.
fn why_bogus(rrset: &Rrset, now: u64) -> Failed {
    let rrsigs: Vec<Rrsig> = rrset.rrsigs.iter().filter_map(|rrsig| Rrsig::parse(rrsig).ok()).collect();
    let current = rrsigs.iter().find(|rrsig| rrsig.is_current(now));
    let code = match current {
        _ if rrsigs.is_empty() => EdeCode::RrsigsMissing,
        Some(_) => EdeCode::DnssecBogus,
        None if rrsigs.iter().all(|rrsig| rrsig.seconds_left(now) <= 0) => EdeCode::SignatureExpired,
        None => EdeCode::SignatureNotYetValid,
    };
    Failed::Bogus(code, current.map(|rrsig| (rrsig.signer.clone(), rrsig.key_tag)))
}

/// An answer for everyone who asks the question.
#[derive(Debug, Clone)]
pub(super) struct Told {
    /// With signatures and proofs.
    signed: Answer,
    /// Without, where that differs.
    plain: Option<Answer>,
    /// All of it is validated.
    pub(super) secure: bool,
    /// Where the gateway has to go on.
    pub(super) ours: Option<Name>,
    /// Seconds for which it is true.
    pub(super) seconds: u32,
}

impl Told {
    /// `negative` is the most for which it is true that there is nothing.
    pub(super) fn new(question: &Question, found: &Found, negative: u32) -> Self {
        let query = Query::internal(question.name.clone(), question.rtype);
        let signed = build(&query, found);
        let proofs = |rrset: &Rrset| !rrset.rrsigs.is_empty() || rrset.rtype != Rtype::SOA;
        let differs = found.answer.iter().any(|rrset| !rrset.rrsigs.is_empty()) || found.authority.iter().any(proofs);
        let plain = differs.then(|| build(&Query { edns: None, ..query }, found));
        let most = if found.is_negative() { negative } else { FORWARD_SECONDS };
        let seconds = signed.ttl.min(most);
        Self { signed, plain, secure: found.secure, ours: found.ours.clone(), seconds }
    }

    /// Why there is none.
    pub(super) fn failure(question: &Question, code: EdeCode, text: String) -> Self {
        let query = Query::internal(question.name.clone(), question.rtype);
        let signed = Builder::new(&query).finish(Rcode::ServFail, false, Some((code, text)));
        Self { signed, plain: None, secure: false, ours: None, seconds: 0 }
    }

    /// What is served here.
    pub(super) fn local(answer: Answer) -> Self {
        Self { signed: answer, plain: None, secure: false, ours: None, seconds: 0 }
    }

    /// The form for a client.
    pub(super) fn answer(&self, query: &Query) -> &Answer {
        self.plain.as_ref().filter(|_| !query.dnssec_ok()).unwrap_or(&self.signed)
    }

    /// Octets in memory, roughly.
    pub(super) fn weight(&self) -> usize {
        self.signed.weight() + self.plain.as_ref().map_or(0, Answer::weight)
    }
}

fn build(query: &Query, found: &Found) -> Answer {
    let mut builder = Builder::new(query);
    for rrset in &found.answer {
        builder.push(Section::Answer, rrset, rrset.ttl);
    }
    for rrset in found.authority.iter().filter(|rrset| query.dnssec_ok() || rrset.rtype == Rtype::SOA) {
        builder.push(Section::Authority, rrset, rrset.ttl);
    }
    builder.finish(found.rcode, false, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_user(text).unwrap()
    }

    fn nsec(owner: &str, next: &str) -> Rrset {
        let key = crate::dnssec::Secret::Ed25519(ed25519_dalek::SigningKey::from_bytes(&[1; 32]));
        let key = crate::dnssec::ZoneKey::new(key, crate::dnssec::FLAGS_OWNER);
        let data = [name(next).as_wire(), &[0, 1, 0x40]].concat();
        let rrset = Rrset::new(name(owner), Rtype::NSEC, 60, [data]);
        let rrsig = key.sign_until(&name("example"), &rrset, 0, 100);
        Rrset { rrsigs: vec![rrsig.into()], ..rrset }
    }

    #[test]
    fn an_nsec_denies_what_is_between_and_nothing_else() {
        let denied = |owner, next, asked| denies(&nsec(owner, next), &name(asked), &name("example"));
        assert!(denied("a.example", "c.example", "b.example"));
        assert!(denied("y.example", "example", "z.example"), "the last of the zone");
        assert!(!denied("a.example", "c.example", "c.example") && !denied("a.example", "c.example", "a.example"));
        assert!(!denied("a.example", "c.example", "d.example"));
        assert!(!denied("a.example", "x.b.example", "b.example"), "an empty non-terminal exists");
        assert!(!denies(&nsec("a.example", "c.example"), &name("b.example"), &name("org")), "another zone's");
    }

    #[test]
    fn ttls_are_read_as_rfc_2181_says() {
        assert_eq!([0, 300, u32::MAX, 0x7fff_ffff].map(seconds), [0, 300, 0, FORWARD_SECONDS]);
    }
}
