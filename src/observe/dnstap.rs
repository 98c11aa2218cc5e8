//! dnstap messages (dnstap.proto, as of 2023) in protobuf's wire form, and client addresses as far as they are told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crate::config::Addresses;
use crate::limits::{TOLD_V4, TOLD_V6};
use crate::wire::{HEADER, Name, OPT_CLIENT_SUBNET, Rtype, Transport, u16_at};

/// The content type of a frame stream that holds such messages.
pub const CONTENT_TYPE: &[u8] = b"protobuf:dnstap.Dnstap";

/// `Message.Type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    AuthQuery = 1,
    AuthResponse = 2,
}

/// One DNS message that was seen.
#[derive(Debug, Clone)]
pub struct Seen {
    pub kind: Kind,
    pub transport: Transport,
    pub client: IpAddr,
    /// When the query came, and the response was made, since 1970.
    pub queried: Duration,
    pub responded: Option<Duration>,
    /// The query or the response.
    pub message: Vec<u8>,
}

impl Seen {
    /// The `Dnstap` that tells of it.
    pub fn encode(mut self, identity: &str, addresses: Addresses) -> Vec<u8> {
        let client = told(self.client, addresses);
        if addresses == Addresses::Truncated {
            truncate_subnet(&mut self.message);
        }
        let mut dnstap = Protobuf::default();
        dnstap.bytes(1, identity.as_bytes());
        dnstap.bytes(2, concat!("ghostplane ", env!("CARGO_PKG_VERSION")).as_bytes());
        dnstap.bytes(14, &self.body(client));
        // MESSAGE, the only type there is.
        dnstap.number(15, 1);
        dnstap.0
    }

    fn body(&self, client: IpAddr) -> Vec<u8> {
        let mut body = Protobuf::default();
        body.number(1, self.kind as u64);
        body.number(2, if client.is_ipv4() { 1 } else { 2 });
        body.number(3, socket_protocol(self.transport));
        match client {
            IpAddr::V4(addr) => body.bytes(4, &addr.octets()),
            IpAddr::V6(addr) => body.bytes(4, &addr.octets()),
        }
        body.number(8, self.queried.as_secs());
        body.fixed(9, self.queried.subsec_nanos());
        if self.kind == Kind::AuthQuery {
            body.bytes(10, &self.message);
        }
        if let Some(responded) = self.responded {
            body.number(12, responded.as_secs());
            body.fixed(13, responded.subsec_nanos());
            body.bytes(14, &self.message);
        }
        if self.transport == Transport::H3 {
            // HTTP3
            body.number(16, 3);
        }
        body.0
    }
}

/// `SocketProtocol`.
fn socket_protocol(transport: Transport) -> u64 {
    match transport {
        Transport::Udp => 1,
        Transport::Tcp => 2,
        Transport::Tls => 3,
        Transport::Https | Transport::H3 => 4,
        Transport::Quic => 7,
    }
}

/// A client's address as far as it is told.
pub fn told(addr: IpAddr, addresses: Addresses) -> IpAddr {
    match (addr.to_canonical(), addresses) {
        (addr, Addresses::Full) => addr,
        (IpAddr::V4(addr), Addresses::Truncated) => {
            Ipv4Addr::from_bits(addr.to_bits() & (u32::MAX << (32 - TOLD_V4))).into()
        }
        (IpAddr::V6(addr), Addresses::Truncated) => {
            Ipv6Addr::from_bits(addr.to_bits() & (u128::MAX << (128 - TOLD_V6))).into()
        }
    }
}

/// Cuts a client's address in the EDNS Client Subnet option down to what is told, if the message has one: SOURCE PREFIX-LENGTH
/// and as many octets as it covers, as RFC 7871 §6 wants them.
fn truncate_subnet(message: &mut Vec<u8>) {
    let Some((mut at, mut end)) = options(message) else { return };
    let begin = at;
    while at + 4 <= end {
        let (code, length) = (u16_at(message, at), usize::from(u16_at(message, at + 2)));
        let data = at + 4..(at + 4 + length).min(end);
        if code == OPT_CLIENT_SUBNET && data.end == at + 4 + length && length >= 4 {
            let told = if message[data.start..data.start + 2] == [0, 1] { TOLD_V4 } else { TOLD_V6 };
            let bits = message[data.start + 2].min(told as u8);
            message[data.start + 2] = bits;
            let kept = (4 + usize::from(bits.div_ceil(8))).min(length);
            // What may follow OPT is a signature, whose names nothing points into (RFC 2931 §3.1, RFC 8945 §4.2).
            message.drain(data.start + kept..data.end);
            message[at + 2..at + 4].copy_from_slice(&(kept as u16).to_be_bytes());
            end -= length - kept;
            // RDLENGTH.
            message[begin - 2..begin].copy_from_slice(&((end - begin) as u16).to_be_bytes());
            at += 4 + kept;
        } else {
            at += 4 + length;
        }
    }
}

/// Where the options of a message's OPT record begin and end.
fn options(message: &[u8]) -> Option<(usize, usize)> {
    let header = message.get(..HEADER)?;
    let mut at = HEADER;
    for _ in 0..u16_at(header, 4) {
        at = Name::from_message(message, at).ok()?.1 + 4;
    }
    let records = (3..6).map(|count| usize::from(u16_at(header, 2 * count))).sum();
    for _ in 0..records {
        let fixed = Name::from_message(message, at).ok()?.1;
        let (rtype, length) = (message.get(fixed..fixed + 2)?, message.get(fixed + 8..fixed + 10)?);
        let (begin, end) = (fixed + 10, fixed + 10 + usize::from(u16_at(length, 0)));
        message.get(begin..end)?;
        if u16_at(rtype, 0) == Rtype::OPT.0 {
            return Some((begin, end));
        }
        at = end;
    }
    None
}

/// Fields in protobuf's wire form.
#[derive(Default)]
struct Protobuf(Vec<u8>);

impl Protobuf {
    fn number(&mut self, field: u32, value: u64) {
        self.varint(u64::from(field) << 3);
        self.varint(value);
    }

    fn bytes(&mut self, field: u32, value: &[u8]) {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    fn fixed(&mut self, field: u32, value: u32) {
        self.varint(u64::from(field) << 3 | 5);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields of a protobuf message; numbers as their octets.
    fn fields(mut rest: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let varint = |rest: &mut &[u8]| {
            let (mut value, mut shift) = (0, 0);
            loop {
                let octet = rest[0];
                *rest = &rest[1..];
                value |= u64::from(octet & 0x7f) << shift;
                shift += 7;
                if octet < 0x80 {
                    return value;
                }
            }
        };
        let mut found = Vec::new();
        while !rest.is_empty() {
            let key = varint(&mut rest);
            let value = match key & 7 {
                0 => varint(&mut rest).to_be_bytes().to_vec(),
                2 => {
                    let length = varint(&mut rest) as usize;
                    rest.split_off(..length).unwrap().to_vec()
                }
                5 => rest.split_off(..4).unwrap().to_vec(),
                other => panic!("wire type {other}"),
            };
            found.push((key >> 3, value));
        }
        found
    }

    fn field(all: &[(u64, Vec<u8>)], number: u64) -> Option<&[u8]> {
        all.iter().find(|(found, _)| *found == number).map(|(_, value)| value.as_slice())
    }

    fn seen(client: &str, message: &[u8]) -> Seen {
        Seen {
            kind: Kind::AuthQuery,
            transport: Transport::Quic,
            client: client.parse().unwrap(),
            queried: Duration::new(1_800_000_000, 300),
            responded: None,
            message: message.to_vec(),
        }
    }

    /// A question for the root with the subnet 192.0.2.77/32 (of FAMILY 1).
    const WITH_SUBNET: &[u8] = b"\0\0\0\0\0\x01\0\0\0\0\0\x01\0\0\x01\0\x01\
        \0\0\x29\x04\xd0\0\0\0\0\0\x0c\0\x08\0\x08\0\x01\x20\0\xc0\0\x02\x4d";

    #[test]
    fn a_query_is_told_field_by_field() {
        let encoded = seen("192.0.2.77", b"message").encode("gw", Addresses::Full);
        let outer = fields(&encoded);
        assert_eq!((field(&outer, 1), field(&outer, 15)), (Some(&b"gw"[..]), Some(&1u64.to_be_bytes()[..])));
        let inner = fields(field(&outer, 14).unwrap());
        assert_eq!(field(&inner, 3), Some(&7u64.to_be_bytes()[..]), "DOQ");
        assert_eq!(field(&inner, 4), Some(&[192, 0, 2, 77][..]));
        assert_eq!(field(&inner, 8), Some(&1_800_000_000u64.to_be_bytes()[..]));
        assert_eq!(field(&inner, 9), Some(&300u32.to_le_bytes()[..]));
        assert_eq!((field(&inner, 10), field(&inner, 14)), (Some(&b"message"[..]), None));
        let response = Seen { kind: Kind::AuthResponse, responded: Some(Duration::ZERO), ..seen("::1", b"answer") };
        let outer = fields(&response.encode("gw", Addresses::Full));
        let inner = fields(field(&outer, 14).unwrap());
        assert_eq!((field(&inner, 10), field(&inner, 14)), (None, Some(&b"answer"[..])));
    }

    #[test]
    fn transports_have_the_numbers_of_the_schema() {
        assert_eq!(Transport::ALL.map(socket_protocol), [1, 2, 3, 7, 4, 4], "UDP TCP DOT DOQ DOH DOH");
    }

    #[test]
    fn of_addresses_the_front_is_told() {
        let told_of = |text: &str| told(text.parse().unwrap(), Addresses::Truncated).to_string();
        assert_eq!(told_of("192.0.2.77"), "192.0.2.0");
        assert_eq!(told_of("::ffff:192.0.2.77"), "192.0.2.0");
        assert_eq!(told_of("2001:db8:1:2:3:4:5:6"), "2001:db8:1::");
        let subnet = |family: u8, bits: u8, address: &[u8]| {
            let option = [&[0, 8, 0, 4 + address.len() as u8, 0, family, bits, 0], address].concat();
            // A cookie before it and padding behind, which stay what they are, and a record behind OPT.
            let options = [&[0, 10, 0, 1, 7], &option[..], &[0, 12, 0, 2, 8, 9]].concat();
            let opt = [&WITH_SUBNET[..26], &[0, options.len() as u8], &options[..]].concat();
            [&opt[..], b"\0\0\xfa\0\xff\0\0\0\0\0\x02\x01\x02"].concat()
        };
        let cut = |message: &[u8]| {
            let mut message = message.to_vec();
            truncate_subnet(&mut message);
            message
        };
        let mut host = WITH_SUBNET.to_vec();
        truncate_subnet(&mut host);
        assert_eq!(host[26..], *b"\0\x0b\0\x08\0\x07\0\x01\x18\0\xc0\0\x02", "/24, and no more octets");
        assert_eq!(cut(&subnet(1, 32, &[192, 0, 2, 77])), subnet(1, 24, &[192, 0, 2]));
        assert_eq!(cut(&subnet(1, 20, &[192, 0, 0])), subnet(1, 20, &[192, 0, 0]));
        assert_eq!(cut(&subnet(1, 0, &[])), subnet(1, 0, &[]));
        let v6 = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 2];
        assert_eq!(cut(&subnet(2, 64, &v6)), subnet(2, 48, &v6[..6]));
        // More octets than the prefix covers are told no more than others.
        assert_eq!(cut(&subnet(1, 16, &[192, 0, 2, 77])), subnet(1, 16, &[192, 0]));
        // Octets that are no message, or end too early, stay what they are.
        for length in 0..WITH_SUBNET.len() {
            let mut cut = WITH_SUBNET[..length].to_vec();
            truncate_subnet(&mut cut);
            assert_eq!(cut, WITH_SUBNET[..length]);
        }
    }
}
