//! DNS UPDATE (RFC 2136): a message's octets to what it asks for.
//!
//! ```text
//! UpdateMessage::parse        sections, records, who signed     FORMERR, NOTIMP
//! UpdateMessage::transaction  prerequisites and edits            FORMERR, NOTZONE
//! ```
//! Both are pure and bounded by the message's size, which is bounded by `MAX_QUERY`: a record takes at least 11 octets.

use std::collections::BTreeMap;

use super::query::Header;
use super::{CLASS_ANY, CLASS_IN, CLASS_NONE, Edns, HEADER, Name, QueryError, Rcode, Refused, Rtype, rdata};
use super::{u16_at, u32_at};
use crate::limits::MAX_QUERY;

/// The opcode of UPDATE (RFC 2136 §1.3).
pub const OPCODE_UPDATE: u8 = 5;

/// True for octets that begin like an UPDATE request.
pub fn is_update(message: &[u8]) -> bool {
    message.get(2).is_some_and(|flags| flags & 0x80 == 0 && flags >> 3 & 0xf == OPCODE_UPDATE)
}

/// A well-formed UPDATE message; whether its signature is good is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateMessage {
    octets: Box<[u8]>,
    pub id: u16,
    pub zone: Name,
    pub edns: Option<Edns>,
    pub signature: Option<Signature>,
    /// Where the record of the signature begins.
    signature_at: usize,
    /// Where the zone section ends.
    zone_end: usize,
    prerequisites: Vec<Record>,
    updates: Vec<Record>,
}

/// Who says to have made a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    Sig0(Sig0),
    Tsig(Tsig),
}

/// A transaction signature by a public key (RFC 2931).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sig0 {
    pub algorithm: u8,
    /// Seconds since 1970 modulo 2^32.
    pub expiration: u32,
    pub inception: u32,
    pub key_tag: u16,
    /// Owner of the KEY record.
    pub signer: Name,
    pub signature: Vec<u8>,
    /// RDATA up to the signature, as it came.
    pub prefix: Vec<u8>,
}

/// A transaction signature by a shared secret (RFC 8945 §4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tsig {
    pub key: Name,
    pub algorithm: Name,
    /// Seconds since 1970, 48 bits.
    pub time: u64,
    /// Seconds by which clocks may differ.
    pub fudge: u16,
    pub mac: Vec<u8>,
    pub original_id: u16,
    pub error: u16,
    pub other: Vec<u8>,
}

/// One record of the prerequisite or update section.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    owner: Name,
    rtype: Rtype,
    class: u16,
    ttl: u32,
    /// Canonical; empty where the message has no RDATA.
    rdata: Vec<u8>,
}

/// What an UPDATE asks for: all edits if every prerequisite holds, else nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// The registered name that all of it is about.
    pub name: Name,
    pub prerequisites: Vec<Prerequisite>,
    pub edits: Vec<Edit>,
}

/// What must be so (RFC 2136 §2.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prerequisite {
    /// §2.4.1
    RrsetExists(Name, Rtype),
    /// §2.4.2: with exactly these RDATA, sorted.
    RrsetIs(Name, Rtype, Vec<Vec<u8>>),
    /// §2.4.3
    NoRrset(Name, Rtype),
    /// §2.4.4
    NameInUse(Name),
    /// §2.4.5
    NameFree(Name),
}

/// One change (RFC 2136 §2.5); they are made in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// §2.5.1
    Add { owner: Name, rtype: Rtype, ttl: u32, rdata: Vec<u8> },
    /// §2.5.2
    DeleteRrset(Name, Rtype),
    /// §2.5.3
    DeleteName(Name),
    /// §2.5.4
    DeleteRecord(Name, Rtype, Vec<u8>),
}

impl UpdateMessage {
    /// Reads a whole UPDATE message.
    ///
    /// # Errors
    /// FORMERR for whatever does not fit, more than `MAX_QUERY` octets included; NOTIMP for another opcode.
    pub fn parse(message: &[u8]) -> Result<Self, QueryError> {
        let header = Header::read(message)?;
        if header.opcode() != OPCODE_UPDATE {
            return Err(header.refuse(Rcode::NotImp, false));
        }
        let malformed = || header.refuse(Rcode::FormErr, false);
        if header.counts[0] != 1 || message.len() > MAX_QUERY {
            return Err(malformed());
        }
        let (zone, at) = Name::from_message(message, HEADER).map_err(|_| malformed())?;
        let fixed = message.get(at..at + 4).ok_or_else(malformed)?;
        // The zone is sent back as it came, in the room that it takes uncompressed; its type is always SOA (§2.3).
        let whole = at == HEADER + zone.as_wire().len();
        if !whole || Rtype(u16_at(fixed, 0)) != Rtype::SOA || u16_at(fixed, 2) != CLASS_IN {
            return Err(malformed());
        }
        let mut update = Self {
            octets: message.into(),
            id: header.id,
            zone,
            edns: None,
            signature: None,
            signature_at: message.len(),
            zone_end: at + 4,
            prerequisites: Vec::new(),
            updates: Vec::new(),
        };
        let mut at = update.zone_end;
        for (section, count) in header.counts.into_iter().enumerate().skip(1) {
            for number in 1..=count {
                at = update.read_record(&header, message, at, section, number == count)?;
            }
        }
        if at == message.len() { Ok(update) } else { Err(malformed()) }
    }

    /// The octets that came.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// The zone section.
    pub fn zone_section(&self) -> &[u8] {
        &self.octets[HEADER..self.zone_end]
    }

    /// The message as it was signed: under its original ID, without the record of the signature (RFC 2931 §3.1,
    /// RFC 8945 §4.3.1).
    pub fn signed_octets(&self) -> Vec<u8> {
        match &self.signature {
            None => self.octets.to_vec(),
            Some(Signature::Sig0(_)) => without_last(&self.octets, self.signature_at, self.id),
            Some(Signature::Tsig(tsig)) => without_last(&self.octets, self.signature_at, tsig.original_id),
        }
    }

    /// This message answered with a code and nothing else.
    pub fn refuse(&self, rcode: Rcode) -> Refused {
        let edns = self.edns.is_some();
        Refused { id: self.id, opcode: OPCODE_UPDATE, rd: false, cd: false, rcode, edns, question: Box::default() }
    }

    /// What is asked for (RFC 2136 §3.2, §3.4.1: form only, no data is looked at).
    ///
    /// # Errors
    /// NOTZONE for what is outside of the zone, and if the zone is a TLD and not everything falls into one registered
    /// name; FORMERR for a class, type, TTL or RDATA that has no meaning.
    pub fn transaction(&self) -> Result<Transaction, Rcode> {
        let name = self.registered_name()?;
        let outside = |record: &Record| !record.owner.is_at_or_below(&name);
        if self.prerequisites.iter().chain(&self.updates).any(outside) {
            return Err(Rcode::NotZone);
        }
        let prerequisites = prerequisites(&self.prerequisites)?;
        let edits = self.updates.iter().map(Record::edit).collect::<Result<_, _>>()?;
        Ok(Transaction { name, prerequisites, edits })
    }

    /// The registered name that it seems to be about; the zone if it cannot be told.
    pub fn about(&self) -> Name {
        self.registered_name().unwrap_or_else(|_| self.zone.clone())
    }

    /// The zone if that is a registered name; under a TLD the name that the first record falls into.
    fn registered_name(&self) -> Result<Name, Rcode> {
        let name = match self.zone.label_count() {
            2 => self.zone.clone(),
            1 => {
                let first = self.updates.iter().chain(&self.prerequisites).next().ok_or(Rcode::NotZone)?;
                first.owner.suffix(2)
            }
            _ => return Err(Rcode::NotAuth),
        };
        let inside = name.label_count() == 2 && name.is_at_or_below(&self.zone);
        if inside { Ok(name) } else { Err(Rcode::NotZone) }
    }

    /// Reads the record at `at` of a section (1 to 3); `last` there or not. Gives where it ends.
    fn read_record(
        &mut self,
        header: &Header,
        octets: &[u8],
        at: usize,
        section: usize,
        last: bool,
    ) -> Result<usize, QueryError> {
        let malformed = || header.refuse(Rcode::FormErr, false);
        let (owner, fixed_at) = Name::from_message(octets, at).map_err(|_| malformed())?;
        let fixed = octets.get(fixed_at..fixed_at + 10).ok_or_else(malformed)?;
        let (rtype, class, ttl) = (Rtype(u16_at(fixed, 0)), u16_at(fixed, 2), u32_at(fixed, 4));
        let (start, end) = (fixed_at + 10, fixed_at + 10 + usize::from(u16_at(fixed, 8)));
        let data = octets.get(start..end).ok_or_else(malformed)?;
        if section == 3 {
            self.read_additional(header, (at, owner, fixed), data, last)?;
        } else {
            // Records of class ANY and NONE have none where only owner and type count.
            let read = || rdata::from_message(rtype, octets, start..end).map_err(|_| malformed());
            let rdata = if start == end { Vec::new() } else { read()? };
            let record = Record { owner, rtype, class, ttl, rdata: rdata::canonical(rtype, &rdata) };
            if section == 1 { &mut self.prerequisites } else { &mut self.updates }.push(record);
        }
        Ok(end)
    }

    /// OPT, SIG(0), TSIG; what else there is (§2.6) is passed over.
    fn read_additional(
        &mut self,
        header: &Header,
        (at, owner, fixed): (usize, Name, &[u8]),
        data: &[u8],
        last: bool,
    ) -> Result<(), QueryError> {
        let malformed = || header.refuse(Rcode::FormErr, false);
        let rtype = Rtype(u16_at(fixed, 0));
        match rtype {
            Rtype::OPT if self.edns.is_none() && owner.is_root() => self.edns = Some(header.read_opt(fixed, data)?),
            Rtype::OPT => return Err(malformed()),
            // Either stands at the end and nowhere else (RFC 8945 §5.1, RFC 2931 §3.1).
            Rtype::SIG | Rtype::TSIG if !last || u16_at(fixed, 2) != CLASS_ANY => return Err(malformed()),
            Rtype::SIG | Rtype::TSIG => {
                let signature = if rtype == Rtype::SIG { Sig0::read(&owner, data) } else { Tsig::read(owner, data) };
                self.signature = Some(signature.ok_or_else(malformed)?);
                self.signature_at = at;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Octets of SIG RDATA before the signer's name (RFC 2535 §4.1).
const SIG_FIXED: usize = 18;

/// A message up to its last additional record, which begins at `at`, under an ID.
fn without_last(message: &[u8], at: usize, id: u16) -> Vec<u8> {
    let mut octets = message[..at].to_vec();
    let additionals = u16_at(&octets, 10) - 1;
    octets[10..12].copy_from_slice(&additionals.to_be_bytes());
    octets[..2].copy_from_slice(&id.to_be_bytes());
    octets
}

impl Sig0 {
    fn read(owner: &Name, data: &[u8]) -> Option<Signature> {
        let tail = data.get(SIG_FIXED..)?;
        let (signer, used) = Name::from_wire_prefix(tail).ok()?;
        // Type covered is 0: a signature over a message, not over an RRset.
        if !owner.is_root() || u16_at(data, 0) != 0 {
            return None;
        }
        Some(Signature::Sig0(Self {
            algorithm: data[2],
            expiration: u32_at(data, 8),
            inception: u32_at(data, 12),
            key_tag: u16_at(data, 16),
            signer,
            signature: tail[used..].to_vec(),
            prefix: data[..SIG_FIXED + used].to_vec(),
        }))
    }
}

impl Tsig {
    /// The TSIG that begins at `at` of a message, and what it is over; `None` if it is malformed.
    pub fn of(message: &[u8], at: usize) -> Option<(Self, Vec<u8>)> {
        let (key, fixed_at) = Name::from_message(message, at).ok()?;
        let data = message.get(fixed_at + 10..)?;
        let Some(Signature::Tsig(tsig)) = Self::read(key, data) else { return None };
        let signed = without_last(message, at, tsig.original_id);
        Some((tsig, signed))
    }

    fn read(key: Name, data: &[u8]) -> Option<Signature> {
        let (algorithm, used) = Name::from_wire_prefix(data).ok()?;
        let (fixed, rest) = data[used..].split_at_checked(10)?;
        let time = u64::from(u32_at(fixed, 0)) << 16 | u64::from(u16_at(fixed, 4));
        let (mac, rest) = rest.split_at_checked(usize::from(u16_at(fixed, 8)))?;
        let (tail, other) = rest.split_at_checked(6)?;
        if other.len() != usize::from(u16_at(tail, 4)) {
            return None;
        }
        Some(Signature::Tsig(Self {
            key,
            algorithm,
            time,
            fudge: u16_at(fixed, 6),
            mac: mac.to_vec(),
            original_id: u16_at(tail, 0),
            error: u16_at(tail, 2),
            other: other.to_vec(),
        }))
    }
}

impl Record {
    /// §3.4.1.
    fn edit(&self) -> Result<Edit, Rcode> {
        let (owner, rtype, empty) = (self.owner.clone(), self.rtype, self.rdata.is_empty());
        let is_data = !rtype.is_meta();
        match self.class {
            CLASS_IN if is_data && (!empty || may_be_empty(rtype)) => {
                Ok(Edit::Add { owner, rtype, ttl: self.ttl, rdata: self.rdata.clone() })
            }
            CLASS_ANY if self.ttl == 0 && empty && rtype == Rtype::ANY => Ok(Edit::DeleteName(owner)),
            CLASS_ANY if self.ttl == 0 && empty && is_data => Ok(Edit::DeleteRrset(owner, rtype)),
            CLASS_NONE if self.ttl == 0 && is_data => Ok(Edit::DeleteRecord(owner, rtype, self.rdata.clone())),
            _ => Err(Rcode::FormErr),
        }
    }
}

/// Only types that are carried as octets can have none.
fn may_be_empty(rtype: Rtype) -> bool {
    rdata::check(rtype, &[]).is_ok()
}

/// §3.2.5.
fn prerequisites(records: &[Record]) -> Result<Vec<Prerequisite>, Rcode> {
    let mut wanted = Vec::new();
    let mut values: BTreeMap<(Name, Rtype), Vec<Vec<u8>>> = BTreeMap::new();
    for Record { owner, rtype, class, ttl, rdata } in records {
        if *ttl != 0 || (*class != CLASS_IN && !rdata.is_empty()) || (rtype.is_meta() && *rtype != Rtype::ANY) {
            return Err(Rcode::FormErr);
        }
        let (owner, rtype) = (owner.clone(), *rtype);
        match (*class, rtype) {
            (CLASS_ANY, Rtype::ANY) => wanted.push(Prerequisite::NameInUse(owner)),
            (CLASS_ANY, _) => wanted.push(Prerequisite::RrsetExists(owner, rtype)),
            (CLASS_NONE, Rtype::ANY) => wanted.push(Prerequisite::NameFree(owner)),
            (CLASS_NONE, _) => wanted.push(Prerequisite::NoRrset(owner, rtype)),
            (CLASS_IN, Rtype::ANY) => return Err(Rcode::FormErr),
            (CLASS_IN, _) if rdata.is_empty() && !may_be_empty(rtype) => return Err(Rcode::FormErr),
            (CLASS_IN, _) => values.entry((owner, rtype)).or_default().push(rdata.clone()),
            _ => return Err(Rcode::FormErr),
        }
    }
    let exact = values.into_iter().map(|((owner, rtype), mut rdata)| {
        rdata.sort_unstable();
        rdata.dedup();
        Prerequisite::RrsetIs(owner, rtype, rdata)
    });
    wanted.extend(exact);
    Ok(wanted)
}
