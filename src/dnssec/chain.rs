//! A DNSSEC chain in one message: every RRset that a validator needs for one question, from the answer up to the trust
//! anchor's zone, each with its RRSIGs behind it (the AuthenticationChain of RFC 9102 §3.4). Whoever has it and the
//! anchor needs no network.

use std::collections::BTreeMap;
use std::convert::Infallible;

use super::validate::{Anchors, Ask, Report, Verdict, validate};
use crate::limits::MAX_MESSAGE;
use crate::wire::{CLASS_IN, Message, MessageRecord, Name, Rtype, u16_at, u32_at};

/// The records of a chain, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain(Vec<MessageRecord>);

/// Why octets are not a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    #[error("a chain has at most {MAX_MESSAGE} octets")]
    TooLong,
    #[error("octet {0}: not a resource record of class IN in uncompressed form")]
    Record(usize),
}

/// Links of aliases that are followed when a chain is put into the form of answers.
const MAX_LINKS: usize = 16;

impl Chain {
    /// Reads a chain: resource records in wire form, names not compressed.
    ///
    /// # Errors
    /// [`ChainError`]
    pub fn parse(octets: &[u8]) -> Result<Self, ChainError> {
        if octets.len() > MAX_MESSAGE {
            return Err(ChainError::TooLong);
        }
        let mut records = Vec::new();
        let mut at = 0;
        while at < octets.len() {
            let (record, length) = record(&octets[at..]).ok_or(ChainError::Record(at))?;
            records.push(record);
            at += length;
        }
        Ok(Self(records))
    }

    /// Adds the records of a section that are not in the chain yet: each RRset, and its RRSIGs behind it.
    pub fn push(&mut self, section: &[MessageRecord]) {
        let key = |record: &MessageRecord| match record.rtype {
            Rtype::RRSIG if record.rdata.len() >= 2 => (Rtype(u16_at(&record.rdata, 0)), true),
            rtype => (rtype, false),
        };
        let mut order: Vec<(&Name, Rtype)> = Vec::new();
        let mut sets: BTreeMap<(&Name, Rtype), Vec<(bool, &MessageRecord)>> = BTreeMap::new();
        for record in section {
            let (rtype, is_rrsig) = key(record);
            let set = (&record.owner, rtype);
            if !order.contains(&set) {
                order.push(set);
            }
            sets.entry(set).or_default().push((is_rrsig, record));
        }
        for set in order {
            let mut records = sets.remove(&set).unwrap_or_default();
            records.sort_by_key(|(is_rrsig, _)| *is_rrsig);
            for (_, record) in records {
                if !self.has(record) {
                    self.0.push(record.clone());
                }
            }
        }
    }

    fn has(&self, record: &MessageRecord) -> bool {
        let same = |held: &MessageRecord| {
            held.owner == record.owner && held.rtype == record.rtype && held.rdata == record.rdata
        };
        self.0.iter().any(same)
    }

    /// True if there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The octets that [`Chain::parse`] reads.
    pub fn to_octets(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        for record in &self.0 {
            octets.extend_from_slice(record.owner.as_wire());
            octets.extend_from_slice(&record.rtype.0.to_be_bytes());
            octets.extend_from_slice(&CLASS_IN.to_be_bytes());
            octets.extend_from_slice(&record.ttl.to_be_bytes());
            // It came in a message, or was read with such a length.
            octets.extend_from_slice(&(record.rdata.len() as u16).to_be_bytes());
            octets.extend_from_slice(&record.rdata);
        }
        octets
    }

    /// Validates what the chain says of `name` and `rtype` at `now`, seconds since 1970; and the answer it gives.
    pub fn validate(&self, name: &Name, rtype: Rtype, anchors: &Anchors, now: u64) -> (Message, Report) {
        let mut bag = Bag(self);
        // A chain has no header: whether the name exists, its NSECs say.
        let told = |rcode: u16| self.message(name, rtype, rcode);
        let Ok(report) = validate(&told(0), anchors, now, &mut bag);
        if report.verdict != Verdict::Bogus {
            return (told(0), report);
        }
        match validate(&told(3), anchors, now, &mut bag) {
            Ok(missing) if missing.verdict != Verdict::Bogus => (told(3), missing),
            Ok(_) => (told(0), report),
        }
    }

    /// The records that answer a question, in the form of a reply; all NSEC and SOA records are its authority.
    fn message(&self, name: &Name, rtype: Rtype, rcode: u16) -> Message {
        let mut answer = Vec::new();
        let mut asked = name.clone();
        for _ in 0..MAX_LINKS {
            if self.copy(&asked, rtype, &mut answer) || rtype == Rtype::CNAME {
                break;
            }
            let dname = self.0.iter().find(|record| record.rtype == Rtype::DNAME && asked.is_below(&record.owner));
            if let Some(dname) = dname {
                self.copy(&dname.owner, Rtype::DNAME, &mut answer);
            }
            if !self.copy(&asked, Rtype::CNAME, &mut answer) {
                break;
            }
            let cname = self.0.iter().find(|record| record.rtype == Rtype::CNAME && record.owner == asked);
            let Some(target) = cname.and_then(|cname| Name::from_wire(&cname.rdata).ok()) else { break };
            asked = target;
        }
        let mut authority = Vec::new();
        for record in self.0.iter().filter(|record| [Rtype::SOA, Rtype::NSEC].contains(&record.rtype)) {
            self.copy(&record.owner, record.rtype, &mut authority);
        }
        authority.dedup();
        Message {
            id: 0,
            flags: 0x8400 | rcode,
            question: Some((name.clone(), rtype)),
            sections: [answer, authority, Vec::new()],
            opt: None,
            size: 0,
        }
    }

    /// Copies an RRset with its RRSIGs; false if it is not there.
    fn copy(&self, owner: &Name, rtype: Rtype, to: &mut Vec<MessageRecord>) -> bool {
        let of_set = |record: &&MessageRecord| {
            let covers = record.rtype == Rtype::RRSIG && record.rdata.starts_with(&rtype.0.to_be_bytes());
            record.owner == *owner && (record.rtype == rtype || covers)
        };
        let mut found = false;
        for record in self.0.iter().filter(of_set) {
            found |= record.rtype == rtype;
            if !to.contains(record) {
                to.push(record.clone());
            }
        }
        found
    }
}

/// Answers the validator's questions.
struct Bag<'a>(&'a Chain);

impl Ask for Bag<'_> {
    type Error = Infallible;

    fn ask(&mut self, name: &Name, rtype: Rtype) -> Result<Message, Infallible> {
        Ok(self.0.message(name, rtype, 0))
    }
}

fn record(octets: &[u8]) -> Option<(MessageRecord, usize)> {
    let (owner, at) = Name::from_wire_prefix(octets).ok()?;
    let fixed = octets.get(at..at + 10)?;
    let (rtype, class, ttl) = (Rtype(u16_at(fixed, 0)), u16_at(fixed, 2), u32_at(fixed, 4));
    let end = at + 10 + usize::from(u16_at(fixed, 8));
    let rdata = octets.get(at + 10..end)?.to_vec();
    (class == CLASS_IN).then_some((MessageRecord { owner, rtype, class, ttl, rdata }, end))
}
