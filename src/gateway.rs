//! The query path, readable top to bottom.

use std::net::IpAddr;

use crate::wire::{Query, Reply, Shape};

/// Who asks, and over what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    pub transport: Transport,
    pub addr: IpAddr,
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
    /// How answers over this transport are dressed.
    pub fn shape(self) -> Shape {
        match self {
            Self::Udp => Shape::Datagram,
            Self::Tcp => Shape::Stream,
            _ => Shape::Padded(crate::limits::RESPONSE_PAD_BLOCK),
        }
    }
}

/// What became of a message at once.
pub enum Begun {
    /// From the cache, or an error reply: send it.
    Ready(Reply),
    /// A contract must run: give it to [`Gateway::finish`].
    Miss(Miss),
    /// Nothing may be sent back.
    Ignore,
}

/// A question that the cache could not answer.
pub struct Miss {
    pub query: Query,
    pub client: Client,
}

/// The query path. Shared by all transports behind an `Arc`.
pub struct Gateway {}

impl Gateway {
    /// Parses `message` and answers it from the cache if it can. Never blocks, never executes.
    pub fn begin(&self, _message: &[u8], _client: Client) -> Begun {
        Begun::Ignore
    }

    /// Executes on a worker thread and calls `done` there, exactly once; at once, with SERVFAIL and EDE 14
    /// (Not Ready), if too many are waiting.
    pub fn finish(&self, _miss: Miss, _done: Box<dyn FnOnce(Reply) + Send>) {}
}
