//! What upstreams answer, taken apart: what belongs to the question is kept, the rest of a message is not.

use std::collections::{HashMap, HashSet};

use super::ask::Failed;
use super::store::Question;
use crate::dnssec::Rrsig;
use crate::limits::{FORWARD_LINKS, FORWARD_SECONDS};
use crate::wire::{
    Answer, Builder, CLASS_IN, EdeCode, Message, MessageRecord, Name, Query, Rcode, Rrset, Rtype, Section, u16_at,
};

/// An RRset of a response.
#[derive(Debug, Clone)]
pub(super) struct Checked {
    pub(super) rrset: Rrset,
    /// It is signed, from an anchor down.
    pub(super) secure: bool,
}

/// A response.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) answer: Vec<Checked>,
    pub(super) authority: Vec<Checked>,
    pub(super) rcode: u16,
}

impl Part {
    /// Takes a message apart; `rtype` is what was asked for. Nothing of it is believed to be secure yet.
    pub(super) fn new(message: Message, rtype: Rtype) -> Self {
        let rcode = message.rcode();
        let [answer, authority, _] = message.sections;
        Self { answer: group(answer, rtype), authority: group(authority, rtype), rcode }
    }

    /// True if it says that there is nothing where its aliases end.
    fn denies(&self) -> bool {
        self.rcode == Rcode::NxDomain as u16 || self.authority.iter().any(|of| of.rrset.rtype == Rtype::SOA)
    }

    pub(super) fn take(&mut self, owner: &Name, rtype: Rtype) -> Option<Checked> {
        let fits = |checked: &Checked| checked.rrset.owner == *owner && checked.rrset.rtype == rtype;
        self.answer.iter().position(fits).map(|at| self.answer.swap_remove(at))
    }

    pub(super) fn take_dname_above(&mut self, name: &Name) -> Option<Checked> {
        let fits = |rrset: &Rrset| rrset.rtype == Rtype::DNAME && name.is_below(&rrset.owner);
        self.answer.iter().position(|checked| fits(&checked.rrset)).map(|at| self.answer.swap_remove(at))
    }
}

/// The CNAME that a DNAME makes of a name (RFC 6672 §2.2); `None` if it would be too long.
pub(super) fn made_cname(dname: &Rrset, name: &Name) -> Option<Rrset> {
    let to = Name::from_wire(dname.rdata.first()?).ok()?;
    let target = name.rebase(&dname.owner, &to)?.ok()?;
    Some(Rrset::new(name.clone(), Rtype::CNAME, dname.ttl, [target.as_wire().to_vec()]))
}

/// Records to RRsets, in the order of the first of each. RRSIGs go with what they cover, unless they were asked for.
fn group(records: Vec<MessageRecord>, asked: Rtype) -> Vec<Checked> {
    let mut rrsets: Vec<Checked> = Vec::new();
    let mut at: HashMap<(Name, Rtype), usize> = HashMap::new();
    let (mut rrsigs, rrsigs_asked) = (Vec::new(), [Rtype::RRSIG, Rtype::ANY].contains(&asked));
    let mut seen = HashSet::new();
    for record in records.into_iter().filter(|record| record.class == CLASS_IN) {
        if record.rtype == Rtype::RRSIG && !rrsigs_asked {
            rrsigs.push(record);
            continue;
        }
        let ttl = seconds(record.ttl);
        let index = *at.entry((record.owner.clone(), record.rtype)).or_insert_with(|| {
            let rrset = Rrset { owner: record.owner, rtype: record.rtype, ttl, rdata: Vec::new(), rrsigs: Vec::new() };
            rrsets.push(Checked { rrset, secure: false });
            rrsets.len() - 1
        });
        let rrset = &mut rrsets[index].rrset;
        rrset.ttl = rrset.ttl.min(ttl);
        // In the order that the upstream chose: it may mean something to it. But a set holds nothing twice.
        if seen.insert((index, record.rdata.clone())) {
            rrset.rdata.push(record.rdata.into());
        }
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
    /// It is no alias, or the way is too long.
    pub(super) fn follow(
        &mut self,
        mut part: Part,
        mut name: Name,
        rtype: Rtype,
        is_ours: impl Fn(&Name) -> bool,
    ) -> Result<Next, Failed> {
        if rtype == Rtype::ANY && self.take_all(&mut part, &name) {
            return Ok(Next::End);
        }
        let begun = self.answer.len();
        while self.answer.len() <= 2 * FORWARD_LINKS {
            if let Some(found) = part.take(&name, rtype) {
                self.push(&mut part, found);
                return Ok(Next::End);
            }
            let Some(alias) = part.take(&name, Rtype::CNAME) else {
                if self.answer.len() > begun && !part.denies() {
                    return Ok(Next::At(name));
                }
                self.end(part, &name);
                return Ok(Next::End);
            };
            let target =
                alias.rrset.rdata.first().and_then(|rdata| Name::from_wire(rdata).ok()).ok_or(Failed::Unreadable)?;
            self.push(&mut part, alias);
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

    /// An RRset of the answer, with the DNAME that a CNAME was made from: then that one has the signature. The proofs above
    /// one that was expanded from a wildcard go along.
    fn push(&mut self, part: &mut Part, checked: Checked) {
        let made = checked.rrset.rtype == Rtype::CNAME && checked.rrset.rrsigs.is_empty();
        if let Some(dname) = part.take_dname_above(&checked.rrset.owner).filter(|_| made) {
            self.push(part, dname);
        }
        let expanded = is_expanded(&checked.rrset);
        self.secure &= checked.secure;
        self.answer.push(checked.rrset);
        if expanded {
            self.deny(part, &[Rtype::NSEC, Rtype::NSEC3]);
        }
    }

    /// The response has nothing at `name`: it denies it, or it was only about the alias.
    fn end(&mut self, mut part: Part, name: &Name) {
        if part.rcode == Rcode::NxDomain as u16 {
            self.rcode = Rcode::NxDomain;
        }
        part.authority.retain(|of| of.rrset.rtype != Rtype::SOA || name.is_at_or_below(&of.rrset.owner));
        let proofs = self.authority.len();
        self.deny(&mut part, &[Rtype::SOA, Rtype::NSEC, Rtype::NSEC3]);
        self.secure &= self.authority.len() > proofs;
    }

    /// Keeps those RRsets of the authority section that prove something.
    fn deny(&mut self, part: &mut Part, rtypes: &[Rtype]) {
        for mut proof in part.authority.drain(..).filter(|proof| rtypes.contains(&proof.rrset.rtype)) {
            self.secure &= proof.secure;
            if let Some(minimum) = negative_ttl(&proof.rrset) {
                proof.rrset.ttl = proof.rrset.ttl.min(minimum);
            }
            self.authority.push(proof.rrset);
        }
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

    #[test]
    fn ttls_are_read_as_rfc_2181_says() {
        assert_eq!([0, 300, u32::MAX, 0x7fff_ffff].map(seconds), [0, 300, 0, FORWARD_SECONDS]);
    }
}
