//! Answers: sections to wire form, with TTLs that can be aged in place.

use std::collections::HashMap;
use std::io;

use super::query::{HEADER, OPT_CLIENT_SUBNET, OPT_COOKIE, OPT_EDE, OPT_PADDING, OPT_TCP_KEEPALIVE, u16_at, u32_at};
use super::{COOKIE, EdeCode, Edns, Name, Query, Rcode, Refused, Rrset, Rtype, Scope};
use crate::limits::{IDLE_TIMEOUT, MAX_EDE_TEXT, MAX_MESSAGE, RESPONSE_PAD_BLOCK, UDP_PAYLOAD, UDP_PAYLOAD_MIN};

/// An answer to one question, in wire form, without OPT record: what the cache keeps. The same answer
/// serves every client whose question differs in letter case, ID, RD and CD only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Header and question and the three sections.
    wire: Box<[u8]>,
    /// Offsets of the TTL fields in `wire`.
    ttls: Box<[u16]>,
    /// Smallest TTL, seconds; for a negative answer by the SOA rule (RFC 2308 §5).
    pub ttl: u32,
    pub rcode: Rcode,
    pub ede: Option<(EdeCode, Box<str>)>,
    /// Bits of the client's address that it depends on (RFC 7871).
    pub scope: Scope,
    /// Where an alias leads out of our TLDs: what is there is not in it.
    pub leaves: Option<Box<Name>>,
    /// Labels of the question's name, from the right, that make the name which answered: all of them for data that stands
    /// there, fewer for a wildcard's closest encloser, a DNAME, or a zone that denies or refers.
    pub source: u8,
}

/// How an answer must be dressed for a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// UDP: cut to what the client takes, TC set (RFC 2181 §9).
    Datagram,
    /// TCP: the whole message.
    Stream,
    /// An encrypted stream: padded to blocks of so many octets if the query has EDNS (RFC 8467).
    Padded(usize),
}

/// The transports that queries come over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    Udp,
    Tcp,
    Tls,
    Quic,
    Https,
    H3,
}

impl Transport {
    /// Every transport, in the order of declaration.
    pub const ALL: [Self; 6] = [Self::Udp, Self::Tcp, Self::Tls, Self::Quic, Self::Https, Self::H3];

    /// The name on the command line and in metrics.
    pub fn text(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Quic => "quic",
            Self::Https => "https",
            Self::H3 => "h3",
        }
    }

    /// True where messages are padded (RFC 8467).
    pub fn is_encrypted(self) -> bool {
        !matches!(self, Self::Udp | Self::Tcp)
    }

    /// How answers over this transport are dressed.
    pub fn shape(self) -> Shape {
        match self {
            Self::Udp => Shape::Datagram,
            Self::Tcp => Shape::Stream,
            _ => Shape::Padded(RESPONSE_PAD_BLOCK),
        }
    }
}

/// Not the name of a transport.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a transport; take udp, tcp, tls, quic, https or h3")]
pub struct UnknownTransport;

impl std::str::FromStr for Transport {
    type Err = UnknownTransport;

    fn from_str(text: &str) -> Result<Self, UnknownTransport> {
        Self::ALL.into_iter().find(|transport| transport.text() == text).ok_or(UnknownTransport)
    }
}

/// Octets of a message's length before it (RFC 1035 §4.2.2).
const LENGTH: usize = 2;

/// A message ready to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub wire: Vec<u8>,
    /// Smallest TTL, aged, seconds: `max-age` over HTTP (RFC 8484 §5.1).
    pub ttl: u32,
    pub rcode: Rcode,
    /// Where in `wire` the OPT record begins, if there is one.
    pub opt_at: Option<u16>,
    /// The client has shown by a cookie that its address is its own.
    pub proven: bool,
    /// It is for the client's network and not for everybody (RFC 7871).
    pub personal: bool,
    /// See [`Answer::source`].
    pub source: u8,
}

/// Which section an RRset goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    Answer,
    Authority,
    Additional,
}

/// Puts RRsets into wire form with name compression (RFC 1035 §4.1.4).
pub struct Builder {
    wire: Vec<u8>,
    ttls: Vec<u16>,
    suffixes: HashMap<Box<[u8]>, u16>,
    dnssec_ok: bool,
    ttl: u32,
    full: bool,
    /// See [`Answer::source`]; `None` until there is a first RRset.
    source: Option<u8>,
}

impl Builder {
    /// Begins the answer to `query`. RRSIGs are left out unless `query` asks for them.
    pub fn new(query: &Query) -> Self {
        let mut wire = vec![0; HEADER];
        wire[5] = 1;
        wire.extend_from_slice(query.name.as_wire());
        wire.extend_from_slice(&query.rtype.0.to_be_bytes());
        wire.extend_from_slice(&query.question[query.question.len() - 2..]);
        let mut builder = Self {
            wire,
            ttls: Vec::new(),
            suffixes: HashMap::new(),
            dnssec_ok: query.dnssec_ok(),
            ttl: u32::MAX,
            full: false,
            source: None,
        };
        builder.remember_suffixes(&query.name, HEADER);
        builder
    }

    /// Adds an RRset and, if the client wants them, its RRSIGs. Sections must come in order.
    pub fn push(&mut self, section: Section, rrset: &Rrset, ttl: u32) {
        if self.full {
            return;
        }
        let start = (self.wire.len(), self.ttls.len());
        let mut count = 0;
        for data in &rrset.rdata {
            self.push_record(&rrset.owner, rrset.rtype, ttl, data);
            count += 1;
        }
        let signatures: &[Box<[u8]>] = if self.dnssec_ok { &rrset.rrsigs } else { &[] };
        for data in signatures {
            self.push_record(&rrset.owner, Rtype::RRSIG, ttl, data);
            count += 1;
        }
        if self.wire.len() > MAX_MESSAGE - MAX_OPT {
            // Only what many links of aliases pile up is so long; cut rather than corrupt.
            self.wire.truncate(start.0);
            self.ttls.truncate(start.1);
            self.full = true;
            return;
        }
        self.source.get_or_insert_with(|| labels_of(&rrset.owner));
        self.ttl = self.ttl.min(ttl);
        let at = [6, 8, 10][section as usize];
        let total = u16_at(&self.wire, at) + count;
        self.wire[at..at + 2].copy_from_slice(&total.to_be_bytes());
    }

    /// Adds one record to the answer section of a message that carries part of a zone (RFC 5936 §2.2); false, and
    /// the message must be finished without it, if it would have more than `most` octets.
    pub fn push_part(&mut self, rrset: &Rrset, rtype: Rtype, data: &[u8], most: usize) -> bool {
        let start = (self.wire.len(), self.ttls.len());
        self.push_record(&rrset.owner, rtype, rrset.ttl, data);
        let count = u16_at(&self.wire, 6);
        if self.wire.len() > most && count > 0 {
            self.wire.truncate(start.0);
            self.ttls.truncate(start.1);
            return false;
        }
        self.wire[6..8].copy_from_slice(&(count + 1).to_be_bytes());
        true
    }

    /// The finished answer. `authoritative` sets AA (RFC 1034 §4.3.2). `ttl` of an answer without
    /// records is zero.
    pub fn finish(mut self, rcode: Rcode, authoritative: bool, ede: Option<(EdeCode, String)>) -> Answer {
        self.wire[2] = 0x80 | if authoritative { 0x04 } else { 0 } | if self.full { 0x02 } else { 0 };
        self.wire[3] = rcode as u8 & 0xf;
        let ttl = if self.ttls.is_empty() { 0 } else { self.ttl };
        let ede = ede.map(|(code, text)| (code, clip_ede(text).into_boxed_str()));
        let (scope, leaves) = Default::default();
        let source = self.source.unwrap_or(u8::MAX);
        Answer { wire: self.wire.into(), ttls: self.ttls.into(), ttl, rcode, ede, scope, leaves, source }
    }

    fn push_record(&mut self, owner: &Name, rtype: Rtype, ttl: u32, data: &[u8]) {
        self.push_name(owner);
        self.wire.extend_from_slice(&rtype.0.to_be_bytes());
        self.wire.extend_from_slice(&super::CLASS_IN.to_be_bytes());
        // Offsets fit: `push` keeps the message under 65,536 octets, and drops what grew over it.
        self.ttls.push(self.wire.len() as u16);
        self.wire.extend_from_slice(&ttl.to_be_bytes());
        let length_at = self.wire.len();
        self.wire.extend_from_slice(&[0, 0]);
        self.push_rdata(rtype, data);
        let length = (self.wire.len() - length_at - 2) as u16;
        self.wire[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
    }

    /// Only the types of RFC 1035 may have compressed names in their RDATA (RFC 3597 §4).
    fn push_rdata(&mut self, rtype: Rtype, data: &[u8]) {
        let name_at = match rtype {
            Rtype::CNAME | Rtype::NS | Rtype::PTR | Rtype::SOA => 0,
            Rtype::MX => 2,
            _ => return self.wire.extend_from_slice(data),
        };
        let parsed = data.get(name_at..).and_then(|tail| Name::from_wire_prefix(tail).ok());
        let Some((name, used)) = parsed else { return self.wire.extend_from_slice(data) };
        self.wire.extend_from_slice(&data[..name_at]);
        self.push_name(&name);
        let mut rest = &data[name_at + used..];
        if rtype == Rtype::SOA
            && let Ok((rname, used)) = Name::from_wire_prefix(rest)
        {
            self.push_name(&rname);
            rest = &rest[used..];
        }
        self.wire.extend_from_slice(rest);
    }

    fn push_name(&mut self, name: &Name) {
        let octets = name.as_wire();
        let mut at = 0;
        while octets[at] != 0 {
            if let Some(&offset) = self.suffixes.get(&octets[at..]) {
                self.wire.extend_from_slice(&octets[..at]);
                let fresh = self.wire.len() - at;
                self.remember_prefixes(octets, at, fresh);
                self.wire.extend_from_slice(&(0xc000 | offset).to_be_bytes());
                return;
            }
            at += 1 + usize::from(octets[at]);
        }
        let start = self.wire.len();
        self.wire.extend_from_slice(octets);
        self.remember_prefixes(octets, octets.len() - 1, start);
    }

    fn remember_suffixes(&mut self, name: &Name, start: usize) {
        let octets = name.as_wire();
        self.remember_prefixes(octets, octets.len() - 1, start);
    }

    /// Notes where the suffixes of `octets` that begin before `until` now stand.
    fn remember_prefixes(&mut self, octets: &[u8], until: usize, start: usize) {
        let mut at = 0;
        while at < until {
            // A pointer has 14 bits.
            if let Ok(offset) = u16::try_from(start + at)
                && offset < 0x4000
            {
                self.suffixes.entry(octets[at..].into()).or_insert(offset);
            }
            at += 1 + usize::from(octets[at]);
        }
    }
}

/// Labels of a name: 127 at most.
fn labels_of(name: &Name) -> u8 {
    name.label_count() as u8
}

/// Octets of a client subnet option, at most.
const MAX_SUBNET: usize = 4 + 4 + 16;
/// Octets kept free for the OPT record with an EDE text and a client subnet; padding only fills what is left.
const MAX_OPT: usize = 11 + 4 + 2 + MAX_EDE_TEXT + MAX_SUBNET + 4 + COOKIE + 4 + 2 + 4;

impl Answer {
    /// Octets this answer takes in memory, roughly.
    pub fn weight(&self) -> usize {
        self.wire.len() + 2 * self.ttls.len() + self.ede.as_ref().map_or(0, |(_, text)| text.len()) + 96
    }

    /// The answer after its time: every TTL is `ttl`, and an extended error says why (RFC 8767 §4).
    #[must_use]
    pub fn stale(&self, ttl: u32, ede: EdeCode) -> Self {
        let mut wire = self.wire.clone();
        for at in self.ttls.iter().map(|at| usize::from(*at)) {
            wire[at..at + 4].copy_from_slice(&ttl.to_be_bytes());
        }
        Self { wire, ttl: if self.ttls.is_empty() { 0 } else { ttl }, ede: Some((ede, "".into())), ..self.clone() }
    }

    /// Header, question and sections, without OPT record.
    pub fn as_wire(&self) -> &[u8] {
        &self.wire
    }

    /// Dresses the answer for one client: its ID, RD, CD and letter case, TTLs less `age` seconds, OPT,
    /// EDE, padding, truncation.
    pub fn reply(&self, query: &Query, shape: Shape, age: u32) -> Reply {
        let mut wire = Vec::with_capacity(self.room(query, shape));
        wire.extend_from_slice(&self.wire);
        wire[..2].copy_from_slice(&query.id.to_be_bytes());
        wire[2] |= u8::from(query.rd);
        wire[3] |= u8::from(query.cd) << 4;
        wire[HEADER..HEADER + query.question.len()].copy_from_slice(&query.question);
        for &at in self.ttls.iter().filter(|_| age > 0) {
            let at = usize::from(at);
            let left = u32_at(&wire, at).saturating_sub(age);
            wire[at..at + 4].copy_from_slice(&left.to_be_bytes());
        }
        let mut opt_at = None;
        if let Some(edns) = query.edns {
            let opt = self.opt_len(&edns);
            self.fit(&mut wire, query, shape, usize::from(edns.udp_payload.min(UDP_PAYLOAD)), opt);
            // Whatever stands before it leaves room for it (`MAX_OPT`).
            opt_at = Some(wire.len() as u16);
            self.push_opt(&mut wire, &edns, shape);
        } else {
            self.fit(&mut wire, query, shape, usize::from(UDP_PAYLOAD_MIN), 0);
        }
        let proven = query.edns.is_some_and(|edns| edns.proven);
        Reply {
            wire,
            ttl: self.ttl.saturating_sub(age),
            rcode: self.rcode,
            opt_at,
            proven,
            personal: self.scope != Scope::default(),
            source: self.source,
        }
    }

    /// Octets of the reply, about, and of its length before it.
    fn room(&self, query: &Query, shape: Shape) -> usize {
        let most = self.wire.len() + query.edns.map_or(0, |edns| self.opt_len(&edns) + 4) + LENGTH;
        if let Shape::Padded(block) = shape { most.next_multiple_of(block) + LENGTH } else { most }
    }

    /// Header and question only, TC set, if a datagram cannot carry the whole.
    fn fit(&self, wire: &mut Vec<u8>, query: &Query, shape: Shape, most: usize, opt: usize) {
        if shape != Shape::Datagram || wire.len() + opt <= most {
            return;
        }
        wire.truncate(HEADER + query.question.len());
        wire[6..12].fill(0);
        wire[2] |= 0x02;
    }

    fn opt_len(&self, edns: &Edns) -> usize {
        let subnet = if edns.subnet.is_some() { MAX_SUBNET } else { 0 };
        let cookie = if edns.cookie.is_some() { 4 + COOKIE } else { 0 };
        11 + self.ede.as_ref().map_or(0, |(_, text)| 6 + text.len()) + subnet + cookie
    }

    fn push_opt(&self, wire: &mut Vec<u8>, edns: &Edns, shape: Shape) {
        let extended = (self.rcode as u16 >> 4) as u8;
        push_opt_record(wire, UDP_PAYLOAD, extended, edns.dnssec_ok, &[]);
        let options = wire.len();
        if let Some(subnet) = edns.subnet {
            push_option(wire, OPT_CLIENT_SUBNET, &subnet.response(self.scope));
        }
        if let Some(cookie) = edns.cookie {
            push_option(wire, OPT_COOKIE, &cookie.to_octets());
        }
        if edns.tcp_keepalive {
            // In tenths of a second (RFC 7828 §3.1).
            let idle = (IDLE_TIMEOUT.as_millis() / 100) as u16;
            push_option(wire, OPT_TCP_KEEPALIVE, &idle.to_be_bytes());
        }
        if let Some((code, text)) = &self.ede {
            push_option(wire, OPT_EDE, &[&(*code as u16).to_be_bytes()[..], text.as_bytes()].concat());
        }
        if let Shape::Padded(block) = shape {
            push_padding(wire, 0, block);
        }
        let length = (wire.len() - options) as u16;
        wire[options - 2..options].copy_from_slice(&length.to_be_bytes());
    }
}

impl Reply {
    /// A message that no answer was dressed for.
    pub fn new(wire: Vec<u8>, rcode: Rcode) -> Self {
        Self { wire, ttl: 0, rcode, opt_at: None, proven: false, personal: false, source: u8::MAX }
    }

    /// Leaves header, question and OPT record, and says that there is more over TCP (RFC 2181 §9).
    pub fn truncate(&mut self) {
        self.wire[2] |= 0x02;
        let end = self.opt_at.map_or(self.wire.len(), usize::from);
        let question = HEADER + self.question().len();
        self.wire.drain(question.min(end)..end);
        self.wire[6..10].fill(0);
        self.wire[10..12].copy_from_slice(&u16::from(self.opt_at.is_some()).to_be_bytes());
        self.opt_at = self.opt_at.map(|_| question as u16);
    }

    /// Makes it no longer than `most`, which must have room for header and question: without the text of an extended error,
    /// else truncated, else without any option but the cookie. True if nothing but that text is missing.
    pub fn cut(&mut self, most: usize) -> bool {
        if self.wire.len() <= most {
            return true;
        }
        self.keep_options(|code| code != OPT_EDE, true);
        if self.wire.len() <= most {
            return true;
        }
        self.truncate();
        if self.wire.len() > most {
            self.keep_options(|code| code == OPT_COOKIE, false);
        }
        if self.wire.len() > most
            && let Some(opt_at) = self.opt_at.take()
        {
            self.wire.truncate(opt_at.into());
            self.wire[10..12].fill(0);
        }
        false
    }

    /// Leaves out the options whose codes are not `wanted`; with `ede_code`, the code of an extended error stays.
    fn keep_options(&mut self, wanted: impl Fn(u16) -> bool, ede_code: bool) {
        let Some(opt_at) = self.opt_at.map(usize::from) else { return };
        let octets = self.wire.split_off(opt_at + OPT_FIXED);
        for (code, data) in options(&octets) {
            match code {
                OPT_EDE if ede_code => push_option(&mut self.wire, code, &data[..data.len().min(2)]),
                code if wanted(code) => push_option(&mut self.wire, code, data),
                _ => {}
            }
        }
        let length = (self.wire.len() - opt_at - OPT_FIXED) as u16;
        self.wire[opt_at + OPT_FIXED - 2..opt_at + OPT_FIXED].copy_from_slice(&length.to_be_bytes());
    }

    /// What of the question's name answered, in wire form without the root, and whether that is all of it.
    pub fn source(&self) -> (&[u8], bool) {
        let question = self.question();
        let name = question.get(..question.len().saturating_sub(5)).unwrap_or_default();
        let labels = count_labels(name);
        let mut at = 0;
        for _ in usize::from(self.source)..labels {
            at += 1 + usize::from(name[at]);
        }
        (&name[at..], usize::from(self.source) >= labels)
    }

    /// A truncated reply that asks the client to come again with the cookie that it holds (RFC 7873 §5.2.3); false if
    /// the client knows nothing of cookies.
    pub fn ask_for_cookie(&mut self) -> bool {
        let Some(opt_at) = self.opt_at.map(usize::from).filter(|at| has_cookie(&self.wire[*at..])) else {
            return false;
        };
        self.wire[3] = self.wire[3] & 0xf0 | (Rcode::BadCookie as u16 & 0xf) as u8;
        self.wire[opt_at + 5] = (Rcode::BadCookie as u16 >> 4) as u8;
        self.rcode = Rcode::BadCookie;
        true
    }

    /// Name, type and class that were asked for; empty if the reply does not repeat them.
    pub fn question(&self) -> &[u8] {
        if u16_at(&self.wire, 4) == 0 {
            return &[];
        }
        let mut end = HEADER;
        // Uncompressed, as it is in all that we write.
        while self.wire.get(end).is_some_and(|length| *length != 0) {
            end += 1 + usize::from(self.wire[end]);
        }
        self.wire.get(HEADER..end + 5).unwrap_or_default()
    }

    /// The message behind its length (RFC 1035 §4.2.2).
    ///
    /// # Errors
    /// It is longer than a message can be.
    pub fn framed(self) -> io::Result<Vec<u8>> {
        let mut framed = self.wire;
        let length = u16::try_from(framed.len()).map_err(io::Error::other)?;
        // There is room for it already, in what has been made for that.
        framed.extend_from_slice(&length.to_be_bytes());
        framed.rotate_right(LENGTH);
        Ok(framed)
    }
}

/// Octets of an OPT record before its options.
const OPT_FIXED: usize = 11;

fn has_cookie(opt: &[u8]) -> bool {
    options(opt.get(OPT_FIXED..).unwrap_or_default()).any(|(code, _)| code == OPT_COOKIE)
}

/// Code and data of each of the options that we wrote.
fn options(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (&[c0, c1, l0, l1], after) = rest.split_first_chunk()?;
        let (data, behind) = after.split_at_checked(u16::from_be_bytes([l0, l1]).into())?;
        rest = behind;
        Some((u16::from_be_bytes([c0, c1]), data))
    })
}

/// Labels of a name in wire form, without the root.
fn count_labels(mut name: &[u8]) -> usize {
    let mut labels = 0;
    while let Some((&length, rest)) = name.split_first() {
        name = rest.get(usize::from(length)..).unwrap_or_default();
        labels += 1;
    }
    labels
}

impl Refused {
    /// The error reply: header and question, and an OPT if the query had one.
    pub fn reply(&self) -> Reply {
        self.reply_with(None)
    }

    /// The same with an extended error, if there is an OPT to hold it.
    pub fn reply_with(&self, ede: Option<EdeCode>) -> Reply {
        let mut wire = vec![0; HEADER];
        wire[..2].copy_from_slice(&self.id.to_be_bytes());
        wire[2] = 0x80 | self.opcode << 3 | u8::from(self.rd);
        wire[3] = self.rcode as u8 & 0xf | u8::from(self.cd) << 4;
        wire[5] = u8::from(!self.question.is_empty());
        wire.extend_from_slice(&self.question);
        let opt_at = self.edns.then_some(wire.len() as u16);
        if self.edns {
            let mut options = Vec::new();
            if let Some(code) = ede {
                push_option(&mut options, OPT_EDE, &(code as u16).to_be_bytes());
            }
            push_opt_record(&mut wire, UDP_PAYLOAD, (self.rcode as u16 >> 4) as u8, false, &options);
        }
        Reply { opt_at, ..Reply::new(wire, self.rcode) }
    }
}

/// Appends an OPT record (RFC 6891 §6.1.2) to a message and counts it.
pub fn push_opt_record(wire: &mut Vec<u8>, payload: u16, extended_rcode: u8, dnssec_ok: bool, options: &[u8]) {
    wire.extend_from_slice(&[0, 0, Rtype::OPT.0 as u8]);
    wire.extend_from_slice(&payload.to_be_bytes());
    wire.extend_from_slice(&[extended_rcode, 0, u8::from(dnssec_ok) << 7, 0]);
    wire.extend_from_slice(&(options.len() as u16).to_be_bytes());
    wire.extend_from_slice(options);
    let count = u16_at(wire, 10) + 1;
    wire[10..12].copy_from_slice(&count.to_be_bytes());
}

/// Appends one EDNS option.
pub fn push_option(options: &mut Vec<u8>, code: u16, data: &[u8]) {
    options.extend_from_slice(&code.to_be_bytes());
    options.extend_from_slice(&(data.len() as u16).to_be_bytes());
    options.extend_from_slice(data);
}

/// Appends the padding option (RFC 7830) that brings a message of `before` octets and these options to a
/// multiple of `block`, or as near to it as 65,535 octets allow.
pub fn push_padding(options: &mut Vec<u8>, before: usize, block: usize) {
    let unpadded = before + options.len() + 4;
    if unpadded > MAX_MESSAGE {
        return;
    }
    let fill = (unpadded.next_multiple_of(block)).min(MAX_MESSAGE) - unpadded;
    options.extend_from_slice(&OPT_PADDING.to_be_bytes());
    options.extend_from_slice(&(fill as u16).to_be_bytes());
    options.resize(options.len() + fill, 0);
}

/// The text of an extended error, cut to what is sent of it.
pub fn clip_ede(mut text: String) -> String {
    let mut end = text.len().min(MAX_EDE_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ClientSubnet, Cookie};

    const COOKIE: Cookie = Cookie { client: [1; 8], server: Some([2; 16]) };

    fn query(name: &str) -> Query {
        let mut query = Query::internal(Name::from_user(name).unwrap(), Rtype::TXT);
        let edns = query.edns.as_mut().unwrap();
        (edns.udp_payload, edns.cookie) = (4_096, Some(COOKIE));
        edns.subnet = Some(ClientSubnet::of("192.0.2.0/24".parse().unwrap()));
        query
    }

    fn reply(text: usize, ede: &str) -> Reply {
        let query = query("alice.ghost");
        let mut builder = Builder::new(&query);
        if text > 0 {
            builder.push(Section::Answer, &Rrset::new(query.name.clone(), Rtype::TXT, 300, [vec![7; text]]), 300);
        }
        builder.finish(Rcode::NoError, true, Some((EdeCode::Other, ede.to_owned()))).reply(&query, Shape::Datagram, 0)
    }

    fn codes(reply: &Reply) -> Vec<(u16, usize)> {
        let Some(opt_at) = reply.opt_at else { return Vec::new() };
        let octets = &reply.wire[usize::from(opt_at) + OPT_FIXED..];
        let length = u16_at(&reply.wire, usize::from(opt_at) + OPT_FIXED - 2);
        assert_eq!(usize::from(length), octets.len());
        options(octets).map(|(code, data)| (code, data.len())).collect()
    }

    #[test]
    fn a_reply_is_cut_by_as_little_as_makes_it_fit() {
        let all = vec![(OPT_CLIENT_SUBNET, 7), (OPT_COOKIE, 24), (OPT_EDE, 7)];
        let fixed = HEADER + 17 + OPT_FIXED;
        let whole = reply(100, "words");
        assert_eq!((whole.wire.len(), codes(&whole)), (fixed + 112 + 11 + 28 + 11, all));
        let cut = |most: usize| {
            let mut reply = reply(100, "words");
            let (kept, length) = (reply.cut(most), reply.wire.len());
            assert!(length <= most);
            assert_eq!(u16_at(&reply.wire, 10), u16::from(reply.opt_at.is_some()));
            (kept, reply.wire[2] & 2 != 0, u16_at(&reply.wire, 6), codes(&reply))
        };
        let coded = vec![(OPT_CLIENT_SUBNET, 7), (OPT_COOKIE, 24), (OPT_EDE, 2)];
        assert!(cut(whole.wire.len()).0);
        assert_eq!(cut(whole.wire.len() - 1), (true, false, 1, coded.clone()));
        assert_eq!(cut(whole.wire.len() - 6), (false, true, 0, coded));
        assert_eq!(cut(fixed + 40), (false, true, 0, vec![(OPT_COOKIE, 24)]));
        assert_eq!(cut(fixed + 27), (false, true, 0, vec![]));
        assert_eq!(cut(HEADER + 17), (false, true, 0, vec![]));
    }

    #[test]
    fn the_first_rrset_says_who_answers_unless_somebody_knows_better() {
        let source = |asked: &str, owner: &str, section| {
            let query = query(asked);
            let mut builder = Builder::new(&query);
            let owner = Name::from_user(owner).unwrap();
            builder.push(section, &Rrset::new(owner, Rtype::A, 300, [vec![192, 0, 2, 1]]), 300);
            builder.finish(Rcode::NoError, true, None)
        };
        let told = |answer: &Answer, asked: &str| {
            let reply = answer.reply(&query(asked), Shape::Stream, 0);
            let (octets, whole) = reply.source();
            (String::from_utf8_lossy(octets).into_owned(), whole)
        };
        let mut answer = source("x.w.alice.ghost", "x.w.alice.ghost", Section::Answer);
        assert_eq!(told(&answer, "x.w.alice.ghost"), ("\x01x\x01w\x05alice\x05ghost".to_owned(), true));
        answer.source = 3;
        assert_eq!(told(&answer, "x.w.alice.ghost"), ("\x01w\x05alice\x05ghost".to_owned(), false));
        let denial = source("no.alice.ghost", "alice.ghost", Section::Authority);
        assert_eq!(told(&denial, "no.alice.ghost"), ("\x05alice\x05ghost".to_owned(), false));
        assert_eq!(told(&source("a.ghost", ".", Section::Authority), "a.ghost"), (String::new(), false));
        assert_eq!(Reply::new(vec![0; HEADER], Rcode::FormErr).source(), (&b""[..], true));
    }
}
