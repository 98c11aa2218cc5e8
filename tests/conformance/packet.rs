//! QUIC packets from the outside (RFC 9000 §17): what anyone on the path can read, and Initial packets, whose keys anyone
//! can derive (RFC 9001 §5.2).

use rustls::Side;
use rustls::quic::{DirectionalKeys, Suite, Version};

/// Octets of a first datagram, at least (RFC 9000 §14.1).
pub const MIN_INITIAL: usize = 1_200;
/// A version that asks for Version Negotiation (RFC 9000 §15).
pub const UNKNOWN_VERSION: u32 = 0x1a2a_3a4a;
const TAG: usize = 16;
const FRAME_PADDING: u64 = 0;
const FRAME_PING: u64 = 1;
const FRAME_CRYPTO: u64 = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Initial,
    ZeroRtt,
    Handshake,
    Retry,
    VersionNegotiation,
    /// A short header: 1-RTT, or a stateless reset.
    Short,
}

/// The packets of a datagram and their octets.
pub fn split(mut datagram: &[u8]) -> Vec<(Kind, usize)> {
    let mut packets = Vec::new();
    while !datagram.is_empty() {
        let (kind, length) = Long::read(datagram).map_or((Kind::Short, datagram.len()), |long| (long.kind, long.end));
        packets.push((kind, length));
        datagram = &datagram[length..];
    }
    packets
}

/// Octets of all 1-RTT packets in these datagrams.
pub fn short_octets(datagrams: &[Vec<u8>]) -> usize {
    let packets = datagrams.iter().flat_map(|datagram| split(datagram));
    packets.filter(|(kind, _)| *kind == Kind::Short).map(|(_, length)| length).sum()
}

/// The same datagram in another version of QUIC.
pub fn with_version(datagram: &[u8], version: u32) -> Vec<u8> {
    [&datagram[..1], &version.to_be_bytes(), &datagram[5..]].concat()
}

/// A packet with a long header.
pub struct Long<'a> {
    pub kind: Kind,
    pub destination: &'a [u8],
    pub source: &'a [u8],
    /// What a Version Negotiation packet offers.
    pub versions: Vec<u32>,
    /// Where the length field and the packet number begin, and the packet ends.
    length_at: usize,
    number_at: usize,
    end: usize,
}

impl<'a> Long<'a> {
    /// The first packet of a datagram; none if its header is short or broken.
    pub fn read(datagram: &'a [u8]) -> Option<Self> {
        let mut rest = datagram;
        let first = take(&mut rest, 1)?[0];
        if first & 0x80 == 0 {
            return None;
        }
        let version = u32::from_be_bytes(*take(&mut rest, 4)?.first_chunk()?);
        let length = take(&mut rest, 1)?[0];
        let destination = take(&mut rest, length.into())?;
        let length = take(&mut rest, 1)?[0];
        let source = take(&mut rest, length.into())?;
        let whole = Self {
            kind: Kind::Retry,
            destination,
            source,
            versions: Vec::new(),
            length_at: 0,
            number_at: 0,
            end: datagram.len(),
        };
        if version == 0 {
            let versions =
                rest.chunks_exact(4).map(|octets| u32::from_be_bytes([octets[0], octets[1], octets[2], octets[3]]));
            return Some(Self { kind: Kind::VersionNegotiation, versions: versions.collect(), ..whole });
        }
        let kind = [Kind::Initial, Kind::ZeroRtt, Kind::Handshake, Kind::Retry][usize::from(first >> 4 & 3)];
        if kind == Kind::Retry {
            return Some(whole);
        }
        if kind == Kind::Initial {
            let token = varint(&mut rest)?;
            take(&mut rest, token as usize)?;
        }
        let length_at = datagram.len() - rest.len();
        let length = varint(&mut rest)? as usize;
        let number_at = datagram.len() - rest.len();
        take(&mut rest, length)?;
        Some(Self { kind, length_at, number_at, end: number_at + length, ..whole })
    }
}

/// A client's first datagram without the PADDING that makes it long enough: valid but for its size. None if it is not
/// what a client sends first.
pub fn without_padding(datagram: &[u8]) -> Option<Vec<u8>> {
    let long = Long::read(datagram)?;
    let keys = initial_suite().keys(long.destination, Side::Client, Version::V1).local;
    let mut packet = datagram[..long.end].to_vec();
    let body = unprotect(&mut packet, long.number_at, &keys)?;
    let frames = &packet[body.clone()];
    let frames = &frames[..needed(frames)?];
    let number = &packet[long.number_at..body.start];
    // Two octets of length, as RFC 9000 §16 encodes what is under 16,384.
    let length = (0x4000 | (number.len() + frames.len() + TAG) as u16).to_be_bytes();
    let header = [&packet[..long.length_at], &length, number].concat();
    let number_at = header.len() - number.len();
    Some(protect(&header, number_at, frames, &keys))
}

/// Removes what protects header and payload; gives where the frames are.
fn unprotect(packet: &mut [u8], number_at: usize, keys: &DirectionalKeys) -> Option<std::ops::Range<usize>> {
    let sample_at = number_at + 4;
    let sample = packet.get(sample_at..sample_at + keys.header.sample_len())?.to_vec();
    let (before, after) = packet.split_at_mut(number_at);
    keys.header.decrypt_in_place(&sample, &mut before[0], &mut after[..4]).ok()?;
    let payload_at = number_at + usize::from(packet[0] & 3) + 1;
    let (header, payload) = packet.split_at_mut(payload_at);
    let number = header[number_at..].iter().fold(0, |number, &octet| number << 8 | u64::from(octet));
    let length = keys.packet.decrypt_in_place(number, header, payload).ok()?.len();
    Some(payload_at..payload_at + length)
}

fn protect(header: &[u8], number_at: usize, frames: &[u8], keys: &DirectionalKeys) -> Vec<u8> {
    let number = header[number_at..].iter().fold(0, |number, &octet| number << 8 | u64::from(octet));
    let mut payload = frames.to_vec();
    let tag = keys.packet.encrypt_in_place(number, header, &mut payload).expect("a packet of usual size");
    let mut packet = [header, &payload, tag.as_ref()].concat();
    let sample_at = number_at + 4;
    let sample = packet[sample_at..sample_at + keys.header.sample_len()].to_vec();
    let (before, after) = packet.split_at_mut(number_at);
    let number_length = header.len() - number_at;
    keys.header.encrypt_in_place(&sample, &mut before[0], &mut after[..number_length]).expect("a sample of its size");
    packet
}

/// Octets up to the end of the last CRYPTO frame.
fn needed(frames: &[u8]) -> Option<usize> {
    let (mut rest, mut needed) = (frames, 0);
    while !rest.is_empty() {
        match varint(&mut rest)? {
            FRAME_PADDING | FRAME_PING => {}
            FRAME_CRYPTO => {
                let _offset = varint(&mut rest)?;
                let length = varint(&mut rest)?;
                take(&mut rest, length as usize)?;
                needed = frames.len() - rest.len();
            }
            _ => return None,
        }
    }
    Some(needed)
}

fn initial_suite() -> Suite {
    let suites = rustls::crypto::ring::ALL_CIPHER_SUITES;
    let aes = suites.iter().find(|suite| suite.suite() == rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    aes.and_then(|suite| suite.tls13()?.quic_suite()).expect("ring has the suite of Initial packets")
}

/// A variable-length integer (RFC 9000 §16), taken from the front.
pub fn varint(rest: &mut &[u8]) -> Option<u64> {
    let length = 1 << (rest.first()? >> 6);
    let octets = take(rest, length)?;
    let first = u64::from(octets[0] & 0x3f);
    Some(octets[1..].iter().fold(first, |value, &octet| value << 8 | u64::from(octet)))
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(count)?;
    *rest = after;
    Some(taken)
}
