//! Queries: bytes from a socket to a checked type.

use std::net::IpAddr;

use super::rtype::CLASS_ANY;
use super::{CLASS_IN, ClientSubnet, Cookie, Cookies, Name, NameError, Rcode, Rtype, Transport};
use crate::limits::{MAX_EDNS_OPTIONS, MAX_QUERY, UDP_PAYLOAD, UDP_PAYLOAD_MIN};

/// Octets of the message header (RFC 1035 §4.1.1).
pub const HEADER: usize = 12;

/// EDNS option codes (IANA registry "DNS EDNS0 Option Codes").
pub const OPT_CLIENT_SUBNET: u16 = 8;
pub const OPT_COOKIE: u16 = 10;
pub const OPT_TCP_KEEPALIVE: u16 = 11;
pub const OPT_PADDING: u16 = 12;
pub const OPT_EDE: u16 = 15;

/// One well-formed query: opcode QUERY, one question, class IN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    pub id: u16,
    /// Recursion desired: copied into the answer.
    pub rd: bool,
    /// Checking disabled: copied into the answer (RFC 4035 §3.2.2).
    pub cd: bool,
    /// The client wants to be told what is authentic, even without DO (RFC 6840 §5.7).
    pub ad: bool,
    pub name: Name,
    pub rtype: Rtype,
    /// The question section as it came, letter case kept (draft-vixie-dnsext-dns0x20).
    pub question: Box<[u8]>,
    pub edns: Option<Edns>,
    /// The serial that the client of an incremental transfer has (RFC 1995 §3).
    pub serial: Option<u32>,
    /// Where the TSIG begins at which the message ends.
    pub tsig_at: Option<u16>,
}

/// What the OPT record of a query said (RFC 6891 §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns {
    /// Octets the client takes over UDP, at least 512.
    pub udp_payload: u16,
    /// DNSSEC OK (RFC 3225).
    pub dnssec_ok: bool,
    /// Compact Answers OK (RFC 9824 §5.1): a name that does not exist may be told by its response code.
    pub compact_ok: bool,
    /// The client sent edns-tcp-keepalive (RFC 7828); fatal over QUIC (RFC 9250 §5.5.2).
    pub tcp_keepalive: bool,
    /// The client padded its query (RFC 7830).
    pub padded: bool,
    /// For whom the client asks (RFC 7871).
    pub subnet: Option<ClientSubnet>,
    /// The client's cookie (RFC 7873). [`Query::greet`] turns it into the one to answer with.
    pub cookie: Option<Cookie>,
    /// The cookie says that the client's address is its own; only [`Query::greet`] finds out.
    pub proven: bool,
}

/// Why a message is not a query that can be answered from data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// Nothing may be sent back: not even a header, or itself a response.
    #[error("not a query")]
    Ignore,
    /// Answer with this code and nothing else.
    #[error("query refused: {:?}", .0.rcode)]
    Reply(Refused),
}

/// What of a message is sent back with an error code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub id: u16,
    pub opcode: u8,
    pub rd: bool,
    pub cd: bool,
    pub rcode: Rcode,
    /// True if the query had an OPT record, so that the reply must (RFC 6891 §7).
    pub edns: bool,
    /// As it came, if it could be read: stubs look for it (RFC 5452 §9.1).
    pub question: Box<[u8]>,
}

impl Query {
    /// Reads a whole query message. More than `MAX_QUERY` octets, more than one question, records
    /// beside the OPT (a SIG(0) is passed over) and the SOA of an IXFR, or trailing octets are FORMERR;
    /// another opcode NOTIMP; another class REFUSED; another EDNS version BADVERS (RFC 6891 §6.1.3).
    pub fn parse(message: &[u8]) -> Result<Self, QueryError> {
        let header = Header::read(message)?;
        header.check(message)?;
        let malformed = |_| header.refuse(Rcode::FormErr, false);
        let (name, at) = Name::from_message(message, HEADER).map_err(malformed)?;
        // Nothing stands before the first name that it could point to but the header; and the question is sent
        // back as it came, in the room that the name takes uncompressed.
        if at != HEADER + name.as_wire().len() {
            return Err(header.refuse(Rcode::FormErr, false));
        }
        let fixed = message.get(at..at + 4).ok_or(NameError::Short).map_err(malformed)?;
        let rtype = Rtype(u16_at(fixed, 0));
        let class = u16_at(fixed, 2);
        let (serial, additional) = header.read_authority(message, at + 4, rtype)?;
        let (edns, tsig_at) = header.read_additional(message, additional)?;
        let question = message[HEADER..at + 4].into();
        if class != CLASS_IN && class != CLASS_ANY {
            return Err(QueryError::Reply(header.refused(Rcode::Refused, edns.is_some(), question)));
        }
        let (rd, cd, ad) = (header.rd(), header.cd(), header.ad());
        Ok(Self { id: header.id, rd, cd, ad, name, rtype, question, edns, serial, tsig_at })
    }

    /// A question of the gateway's own, with DO.
    pub fn internal(name: Name, rtype: Rtype) -> Self {
        let fixed = [rtype.0.to_be_bytes(), CLASS_IN.to_be_bytes()].concat();
        let question = [name.as_wire(), &fixed].concat().into();
        let edns = Edns {
            udp_payload: UDP_PAYLOAD_MIN,
            dnssec_ok: true,
            compact_ok: false,
            tcp_keepalive: false,
            padded: false,
            subnet: None,
            cookie: None,
            proven: false,
        };
        Self {
            id: 0,
            rd: false,
            cd: false,
            ad: false,
            name,
            rtype,
            question,
            edns: Some(edns),
            serial: None,
            tsig_at: None,
        }
    }

    /// The same client's question about another name.
    #[must_use]
    pub fn toward(&self, name: Name) -> Self {
        let fixed = &self.question[self.question.len() - 4..];
        let question = [name.as_wire(), fixed].concat().into();
        Self { name, question, ..self.clone() }
    }

    /// True if the client wants RRSIGs (RFC 4035 §3.1).
    pub fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    /// True if the client wants RRSIGs and understands compact answers.
    pub fn compact_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok && edns.compact_ok)
    }

    /// Octets of a datagram that the client takes.
    pub fn udp_room(&self) -> usize {
        usize::from(self.edns.map_or(UDP_PAYLOAD_MIN, |edns| edns.udp_payload.min(UDP_PAYLOAD)))
    }

    /// Looks at the client's cookie, if it sent one: whether it is ours for `addr`, and what to answer it with.
    pub fn greet(&mut self, cookies: &Cookies, addr: IpAddr, now: impl FnOnce() -> u64) {
        if let Some(edns) = &mut self.edns
            && let Some(cookie) = &mut edns.cookie
        {
            // Cookies count seconds modulo 2^32 (RFC 9018 §4.3).
            edns.proven = cookies.greet(cookie, addr, now() as u32);
        }
    }

    /// Leaves unanswered what has no meaning over this transport: a cookie where it is known who asks, and
    /// edns-tcp-keepalive where there is no TCP (RFC 7828 §3.2.1).
    pub fn forget_options_for(&mut self, transport: Transport) {
        if let Some(edns) = &mut self.edns {
            edns.cookie = edns.cookie.filter(|_| !transport.is_encrypted());
            edns.tcp_keepalive &= matches!(transport, Transport::Tcp | Transport::Tls);
        }
    }

    /// As if the client had named no subnet; then it is not answered with one either (RFC 7871 §7.2.1).
    pub fn forget_subnet(&mut self) {
        if let Some(edns) = &mut self.edns {
            edns.subnet = None;
        }
    }

    /// This query answered with `rcode` and no data.
    pub fn refuse(&self, rcode: Rcode) -> Refused {
        let (edns, question) = (self.edns.is_some(), self.question.clone());
        Refused { id: self.id, opcode: 0, rd: self.rd, cd: self.cd, rcode, edns, question }
    }
}

/// The header of a message that is no response.
pub(super) struct Header {
    pub(super) id: u16,
    flags: u16,
    /// Of the four sections.
    pub(super) counts: [u16; 4],
}

impl Header {
    pub(super) fn read(message: &[u8]) -> Result<Self, QueryError> {
        let octets = message.get(..HEADER).ok_or(QueryError::Ignore)?;
        let header = Self {
            id: u16_at(octets, 0),
            flags: u16_at(octets, 2),
            counts: [u16_at(octets, 4), u16_at(octets, 6), u16_at(octets, 8), u16_at(octets, 10)],
        };
        // A response answered would make two servers talk to each other for ever.
        if header.flags & 0x8000 != 0 { Err(QueryError::Ignore) } else { Ok(header) }
    }

    fn check(&self, message: &[u8]) -> Result<(), QueryError> {
        let [questions, answers, authorities, additionals] = self.counts;
        if self.opcode() != 0 {
            return Err(self.refuse(Rcode::NotImp, false));
        }
        let counts_fit = questions == 1 && answers == 0 && authorities <= 1 && additionals <= 2;
        if counts_fit && message.len() <= MAX_QUERY { Ok(()) } else { Err(self.refuse(Rcode::FormErr, false)) }
    }

    /// The authority section: empty, but for the SOA that an IXFR client has. Its serial, and where the section ends.
    fn read_authority(&self, message: &[u8], at: usize, rtype: Rtype) -> Result<(Option<u32>, usize), QueryError> {
        if self.counts[2] == 0 {
            return Ok((None, at));
        }
        let malformed = || self.refuse(Rcode::FormErr, false);
        let (_, fixed_at) = Name::from_message(message, at).map_err(|_| malformed())?;
        let fixed = message.get(fixed_at..fixed_at + 10).ok_or_else(malformed)?;
        let data_at = fixed_at + 10;
        let data = message.get(data_at..data_at + usize::from(u16_at(fixed, 8))).ok_or_else(malformed)?;
        // SOA RDATA ends in five 32-bit fields (RFC 1035 §3.3.13); the serial is the first.
        match data.len().checked_sub(20) {
            Some(serial_at) if rtype == Rtype::IXFR && Rtype(u16_at(fixed, 0)) == Rtype::SOA => {
                Ok((Some(u32_at(data, serial_at)), data_at + data.len()))
            }
            _ => Err(malformed()),
        }
    }

    /// The additional section: at most one OPT, perhaps a TSIG or SIG(0) behind it.
    fn read_additional(&self, message: &[u8], mut at: usize) -> Result<(Option<Edns>, Option<u16>), QueryError> {
        let malformed = || self.refuse(Rcode::FormErr, false);
        let (mut edns, mut tsig_at) = (None, None);
        for _ in 0..self.counts[3] {
            let (owner, fixed_at) = Name::from_message(message, at).map_err(|_| malformed())?;
            let fixed = message.get(fixed_at..fixed_at + 10).ok_or_else(malformed)?;
            let data_at = fixed_at + 10;
            let data = message.get(data_at..data_at + usize::from(u16_at(fixed, 8))).ok_or_else(malformed)?;
            if Rtype(u16_at(fixed, 0)) == Rtype::OPT {
                if edns.is_some() || !owner.is_root() {
                    return Err(malformed());
                }
                edns = Some(self.read_opt(fixed, data)?);
            }
            // A query has at most `MAX_QUERY` octets.
            tsig_at = (Rtype(u16_at(fixed, 0)) == Rtype::TSIG).then_some(at as u16);
            at = data_at + data.len();
        }
        if at == message.len() { Ok((edns, tsig_at)) } else { Err(self.refuse(Rcode::FormErr, edns.is_some())) }
    }

    pub(super) fn read_opt(&self, fixed: &[u8], data: &[u8]) -> Result<Edns, QueryError> {
        if fixed[5] != 0 {
            return Err(self.refuse(Rcode::BadVers, true));
        }
        let udp_payload = u16_at(fixed, 2).max(UDP_PAYLOAD_MIN);
        let mut edns = Edns {
            udp_payload,
            dnssec_ok: fixed[6] & 0x80 != 0,
            compact_ok: fixed[6] & 0x40 != 0,
            tcp_keepalive: false,
            padded: false,
            subnet: None,
            cookie: None,
            proven: false,
        };
        let mut rest = data;
        for _ in 0..MAX_EDNS_OPTIONS {
            if rest.is_empty() {
                return Ok(edns);
            }
            let malformed = || self.refuse(Rcode::FormErr, true);
            let head = rest.get(..4).ok_or_else(malformed)?;
            let end = 4 + usize::from(u16_at(head, 2));
            let value = rest.get(4..end).ok_or_else(malformed)?;
            match u16_at(head, 0) {
                OPT_TCP_KEEPALIVE => edns.tcp_keepalive = true,
                OPT_PADDING => edns.padded = true,
                // Of several the first counts (RFC 7873 §5.2).
                OPT_COOKIE if edns.cookie.is_none() => edns.cookie = Some(Cookie::parse(value).ok_or_else(malformed)?),
                OPT_CLIENT_SUBNET if edns.subnet.is_some() => return Err(malformed()),
                OPT_CLIENT_SUBNET => edns.subnet = Some(ClientSubnet::parse(value).ok_or_else(malformed)?),
                _ => {}
            }
            rest = &rest[end..];
        }
        if rest.is_empty() { Ok(edns) } else { Err(self.refuse(Rcode::FormErr, true)) }
    }

    pub(super) fn opcode(&self) -> u8 {
        (self.flags >> 11) as u8 & 0xf
    }

    fn rd(&self) -> bool {
        self.flags & 0x0100 != 0
    }

    fn cd(&self) -> bool {
        self.flags & 0x0010 != 0
    }

    fn ad(&self) -> bool {
        self.flags & 0x0020 != 0
    }

    pub(super) fn refuse(&self, rcode: Rcode, edns: bool) -> QueryError {
        QueryError::Reply(self.refused(rcode, edns, Box::default()))
    }

    fn refused(&self, rcode: Rcode, edns: bool, question: Box<[u8]>) -> Refused {
        Refused { id: self.id, opcode: self.opcode(), rd: self.rd(), cd: self.cd(), rcode, edns, question }
    }
}

/// The big-endian `u16` at `at`; the caller has checked the length.
pub(crate) fn u16_at(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

/// The big-endian `u32` at `at`; the caller has checked the length.
pub(crate) fn u32_at(octets: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPT_DO: &[u8] = b"\0\0\x29\x04\xd0\0\0\x80\0\0\0";

    fn message(flags: u16, additionals: u8, tail: &[u8]) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd];
        message.extend(flags.to_be_bytes());
        message.extend([0, 1, 0, 0, 0, 0, 0, additionals]);
        message.extend(b"\x05AliCe\x05ghost\0\0\x01\0\x01");
        message.extend(tail);
        message
    }

    fn rcode(message: &[u8]) -> Rcode {
        match Query::parse(message) {
            Err(QueryError::Reply(refused)) => refused.rcode,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_query_keeps_its_letter_case_for_the_answer() {
        let query = Query::parse(&message(0x0110, 1, OPT_DO)).unwrap();
        assert_eq!((query.id, query.rd, query.cd, query.dnssec_ok()), (0xabcd, true, true, true));
        assert_eq!(query.name.to_string(), "alice.ghost.");
        assert_eq!(&query.question[1..6], b"AliCe");
        assert_eq!(query.edns.unwrap().udp_payload, 1232);
    }

    #[test]
    fn what_is_no_query_is_told_so() {
        assert_eq!(Query::parse(b"short"), Err(QueryError::Ignore));
        assert_eq!(Query::parse(&message(0x8000, 0, b"")), Err(QueryError::Ignore));
        assert_eq!(rcode(&message(0x2800, 0, b"")), Rcode::NotImp);
        assert_eq!(rcode(&message(0, 0, b"x")), Rcode::FormErr);
        assert_eq!(rcode(&message(0, 1, b"")), Rcode::FormErr);
        assert_eq!(rcode(&message(0, 2, &[OPT_DO, OPT_DO].concat())), Rcode::FormErr);
        assert_eq!(rcode(&message(0, 1, b"\0\0\x29\x04\xd0\0\x01\0\0\0\0")), Rcode::BadVers);
        assert_eq!(rcode(&message(0, 1, b"\0\0\x29\x04\xd0\0\0\0\0\0\x04\0\x0c\0\x09")), Rcode::FormErr);
        assert_eq!(rcode(&message(0, 0, &vec![0; MAX_QUERY])), Rcode::FormErr);
        // A question whose name points into the header.
        assert_eq!(rcode(b"\x10\0\0\0\0\x01\0\0\0\0\0\0\x01a\xc0\x01\0\x01\0\x01"), Rcode::FormErr);
        assert_eq!(rcode(b"\x10\0\0\0\0\x01\0\0\0\0\0\0\x01a\xc0\x02\0\x01\0\x01"), Rcode::FormErr);
    }
}
