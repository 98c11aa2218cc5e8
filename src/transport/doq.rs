//! DNS over QUIC (RFC 9250), on quinn-proto driven by hand.
//!
//! ```text
//! datagrams ─ Endpoint ─ Retry if crowded ─ cap ─ Connection ─┬─ each bidi stream: to FIN ─ check ─ answer, FIN
//!     ^                                                       └─ a uni stream: DOQ_PROTOCOL_ERROR
//!     └── datagrams of many answers ── hit: written at once
//!                                      miss: comes back through a channel
//! ```
//! One task serves a socket with all its connections: a cached answer is written while the datagram that asked for it
//! is handled, with neither a task nor a lock in between. Answers leave in any order.

mod connection;
mod driver;
mod timers;

use quinn_proto::crypto::rustls::NoInitialCipherSuite;
use quinn_proto::{ServerConfig, VarInt};
use std::sync::Arc;

use super::quic;
use super::sessions::Sessions;
use crate::limits::{MAX_QUERY, MAX_SESSIONS};
use crate::wire::update::is_update;
use crate::wire::{HEADER, OPT_TCP_KEEPALIVE, Query};

pub use driver::serve;

/// Error codes (RFC 9250 §4.3).
pub const NO_ERROR: VarInt = VarInt::from_u32(0);
pub const INTERNAL_ERROR: VarInt = VarInt::from_u32(1);
pub const PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
pub const REQUEST_CANCELLED: VarInt = VarInt::from_u32(3);
pub const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(4);
pub const UNSPECIFIED_ERROR: VarInt = VarInt::from_u32(5);

/// Octets of the length field before a message (RFC 9250 §4.2).
const PREFIX: usize = 2;
/// Queries not yet read, octets of one connection.
const RECEIVE_WINDOW: u32 = 16 * MAX_QUERY as u32;

/// The QUIC configuration of the DoQ servers of all cores. Sessions may be resumed, once each: so data of a resumed
/// handshake (0-RTT, RFC 9250 §4.5) cannot be replayed to this process.
///
/// # Errors
/// `tls` has no cipher suite that QUIC can use.
pub fn server_config(mut tls: rustls::ServerConfig) -> Result<ServerConfig, NoInitialCipherSuite> {
    tls.session_storage = Arc::new(Sessions::new(MAX_SESSIONS));
    // Any amount, says RFC 9001 §4.6.1: what bounds it are the windows.
    tls.max_early_data_size = u32::MAX;
    let mut transport = quic::transport();
    transport
        // One, so that opening it can be told apart from a bug of ours and be answered with the right error.
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        .stream_receive_window(VarInt::from_u32((MAX_QUERY + PREFIX) as u32))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW));
    quic::server(tls, transport)
}

/// Why a stream gets no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The client broke the protocol; fatal to the connection (RFC 9250 §4.3.3).
    Protocol(&'static str),
    /// Reset this stream with this code, serve the others.
    Stream(VarInt),
}

/// A query as far as it has come: the length field and one message (RFC 9250 §4.2).
#[derive(Debug, Default)]
pub struct Incoming {
    octets: Vec<u8>,
}

/// What a piece of a query makes of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// The FIN is still to come.
    Wanting,
    /// Longer than [`MAX_QUERY`]: of it the header, which is enough to say FORMERR. No more is read.
    TooLong,
}

impl Incoming {
    /// Takes what came next.
    ///
    /// # Errors
    /// There is more than one query (RFC 9250 §4.2).
    pub fn push(&mut self, piece: &[u8]) -> Result<Piece, Fault> {
        self.octets.extend_from_slice(piece);
        let Some(declared) = declared(&self.octets) else { return Ok(Piece::Wanting) };
        if self.octets.len() > PREFIX + declared {
            return Err(Fault::Protocol("data after the query"));
        }
        if declared > MAX_QUERY && self.octets.len() >= PREFIX + HEADER {
            self.octets.truncate(PREFIX + HEADER);
            return Ok(Piece::TooLong);
        }
        Ok(Piece::Wanting)
    }

    /// The message, at the FIN.
    ///
    /// # Errors
    /// It is not whole (RFC 9250 §4.3.3).
    pub fn whole(&self) -> Result<&[u8], Fault> {
        match declared(&self.octets) {
            Some(declared) if self.octets.len() == PREFIX + declared => Ok(self.message()),
            _ => Err(Fault::Protocol("stream ended inside the query")),
        }
    }

    /// What of the message there is.
    pub fn message(&self) -> &[u8] {
        self.octets.get(PREFIX..).unwrap_or_default()
    }
}

fn declared(octets: &[u8]) -> Option<usize> {
    octets.first_chunk().map(|&length| usize::from(u16::from_be_bytes(length)))
}

/// What RFC 9250 forbids in a query, beyond what DNS does: a message ID that is not 0 (§4.2.1), a response, edns-tcp-keepalive
/// (§5.5.2).
///
/// # Errors
/// One of these, each fatal to the connection.
pub fn check(message: &[u8]) -> Result<(), Fault> {
    let header = message.first_chunk::<HEADER>().ok_or(Fault::Protocol("not a DNS message"))?;
    // knsupdate (Knot DNS 3.4) does not clear it, and the signature of an update is over it.
    if header[..2] != [0, 0] && !is_update(message) {
        return Err(Fault::Protocol("message ID is not 0"));
    }
    if header[2] & 0x80 != 0 {
        return Err(Fault::Protocol("a response, not a query"));
    }
    if has_keepalive(message) { Err(Fault::Protocol("edns-tcp-keepalive")) } else { Ok(()) }
}

/// Parses only messages in which the option's code occurs at all: queries are parsed again by the gateway.
fn has_keepalive(message: &[u8]) -> bool {
    let code = OPT_TCP_KEEPALIVE.to_be_bytes();
    message.windows(code.len()).any(|octets| octets == code)
        && Query::parse(message).is_ok_and(|query| query.edns.is_some_and(|edns| edns.tcp_keepalive))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn incoming(pieces: &[&[u8]]) -> Result<Vec<u8>, Fault> {
        let mut incoming = Incoming::default();
        for piece in pieces {
            if incoming.push(piece)? == Piece::TooLong {
                return Ok(incoming.message().to_vec());
            }
        }
        incoming.whole().map(<[u8]>::to_vec)
    }

    #[test]
    fn a_query_comes_in_any_pieces_and_is_one() {
        assert_eq!(incoming(&[b"\0", b"\x03a", b"", b"bc"]), Ok(b"abc".to_vec()));
        assert_eq!(incoming(&[b"\0\x03abcd"]), Err(Fault::Protocol("data after the query")));
        for ended in [&b""[..], b"\0", b"\0\x03ab"] {
            assert_eq!(incoming(&[ended]), Err(Fault::Protocol("stream ended inside the query")));
        }
        assert_eq!(incoming(&[b"\xff\xff0123456", b"789abcde"]), Ok(b"0123456789ab".to_vec()));
    }

    #[test]
    fn what_doq_forbids_is_told_apart() {
        let query =
            b"\0\0\x01\0\0\x01\0\0\0\0\0\x01\x05alice\x05ghost\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\x04\0\x0b\0\0";
        assert_eq!(check(query), Err(Fault::Protocol("edns-tcp-keepalive")));
        let plain = &query[..query.len() - 15];
        let with = |at: usize, octet: u8| {
            let mut changed = plain.to_vec();
            changed[11] = 0;
            changed[at] = octet;
            check(&changed)
        };
        assert_eq!(with(11, 0), Ok(()));
        assert_eq!(with(1, 1), Err(Fault::Protocol("message ID is not 0")));
        assert_eq!(with(2, 0x80), Err(Fault::Protocol("a response, not a query")));
        assert_eq!(check(&query[..11]), Err(Fault::Protocol("not a DNS message")));
    }
}
