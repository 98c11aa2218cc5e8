//! What DoQ and HTTP/3 have in common: limits of connections, and connection IDs that lead back to their core.
//!
//! ```text
//! datagram ─ kernel: first octet of the destination connection ID, modulo cores ─ that core's socket and endpoint
//! ```
//! The sockets of all cores share a port (SO_REUSEPORT). A client's first connection ID is random and chooses a core;
//! that core gives out only IDs that lead to itself. So a client that moves to another address (RFC 9000 §9) is found
//! again, which the kernel's own choice, by address, would not do.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use nix::libc::{self, sock_filter, sock_fprog};
use nix::sys::socket::{setsockopt, sockopt};
use quinn_proto::crypto::rustls::{NoInitialCipherSuite, QuicServerConfig};
use quinn_proto::{ConnectionId, ConnectionIdGenerator, EndpointConfig, InvalidCid};
use quinn_proto::{ServerConfig, TransportConfig, ValidationTokenConfig, VarInt};

use crate::limits::{IDLE_TIMEOUT, MAX_CORES, MAX_STREAMS};

/// Answers not yet acknowledged, octets of one connection.
const SEND_WINDOW: u64 = 1 << 20;
/// Tokens for connections to come that a client gets with each one (RFC 9000 §8.1.3).
const TOKENS: u32 = 2;
/// For how long they spare the client a Retry.
const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3_600);

/// Limits that hold for every connection.
pub(super) fn transport() -> TransportConfig {
    const { assert!(IDLE_TIMEOUT.as_secs() < 3_600) };
    let idle = VarInt::from_u32(IDLE_TIMEOUT.as_millis() as u32);
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS))
        .max_idle_timeout(Some(idle.into()))
        .send_window(SEND_WINDOW)
        .datagram_receive_buffer_size(None);
    transport
}

/// The configuration of the servers of one protocol, shared by all cores: a token of one is good at another.
pub(super) fn server(
    tls: rustls::ServerConfig,
    transport: TransportConfig,
) -> Result<ServerConfig, NoInitialCipherSuite> {
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(TOKENS).lifetime(TOKEN_LIFE);
    // What an attacker can have us keep before we even decide: a few packets of a thousand clients.
    config
        .transport_config(Arc::new(transport))
        .validation_token_config(tokens)
        .max_incoming(1_024)
        .incoming_buffer_size(16 << 10)
        .incoming_buffer_size_total(8 << 20);
    Ok(config)
}

/// The cores of a server, and what their endpoints share.
#[derive(Clone)]
pub struct Cores {
    count: u8,
    /// One key for the stateless resets of all.
    config: EndpointConfig,
    hasher: RandomState,
}

impl Cores {
    /// `count` is at least 1 and at most [`MAX_CORES`].
    pub fn new(count: usize) -> Self {
        const { assert!(MAX_CORES <= u8::MAX as usize) };
        Self { count: count.clamp(1, MAX_CORES) as u8, config: EndpointConfig::default(), hasher: RandomState::new() }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// The configuration of the endpoints of one core.
    pub fn endpoint(&self, core: usize) -> EndpointConfig {
        let (core, count, hasher) = (core as u8 % self.count, self.count, self.hasher.clone());
        let mut config = self.config.clone();
        config.cid_generator(move || Box::new(CoreIds::new(core, count, hasher.clone())));
        config
    }

    /// Has the kernel lead datagrams to their cores' sockets: those that share a port with `socket`, in the order in
    /// which they were bound.
    ///
    /// # Errors
    /// The kernel does not: then it goes by address, and a client that moves may be lost.
    pub fn steer(&self, socket: &UdpSocket) -> io::Result<()> {
        let mut code = steering(self.count);
        let program = sock_fprog { len: code.len() as u16, filter: code.as_mut_ptr() };
        setsockopt(socket, sockopt::AttachReusePortCbpf, &program).map_err(io::Error::from)
    }
}

/// Where in a datagram the destination connection ID begins (RFC 8999 §5.1, §5.2).
const ID_IN_LONG: u32 = 6;
const ID_IN_SHORT: u32 = 1;

/// A classic BPF program over the payload: the index of a socket. A datagram that is too short for it goes to the first.
fn steering(count: u8) -> [sock_filter; 7] {
    let op = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let load_octet = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
    [
        op(load_octet, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 0, 2, 0x80),
        op(load_octet, 0, 0, ID_IN_LONG),
        op(libc::BPF_JMP | libc::BPF_JA, 0, 0, 1),
        op(load_octet, 0, 0, ID_IN_SHORT),
        op(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, 0, 0, u32::from(count)),
        op(libc::BPF_RET | libc::BPF_A, 0, 0, 0),
    ]
}

/// Octets of an ID: one for the core, a random part, and a keyed hash of both by which strangers' are told.
const RANDOM: usize = 5;
const HASH: usize = 4;
const ID: usize = 1 + RANDOM + HASH;

/// Makes connection IDs whose first octet, modulo the number of cores, is the core.
struct CoreIds {
    core: u8,
    count: u8,
    hasher: RandomState,
    /// IDs are a keyed hash (SipHash) of how many there were before: nobody without the key can tell which belong together.
    random: RandomState,
    made: u64,
}

impl CoreIds {
    fn new(core: u8, count: u8, hasher: RandomState) -> Self {
        Self { core, count, hasher, random: RandomState::new(), made: 0 }
    }

    fn hash(&self, octets: &[u8]) -> [u8; HASH] {
        (self.hasher.hash_one(octets) as u32).to_be_bytes()
    }
}

impl ConnectionIdGenerator for CoreIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID];
        self.made += 1;
        let random = self.random.hash_one(self.made).to_be_bytes();
        id[1..1 + RANDOM].copy_from_slice(&random[..RANDOM]);
        let turns = (u8::MAX - self.core) / self.count;
        id[0] = self.core + self.count * (u16::from(random[RANDOM]) % (u16::from(turns) + 1)) as u8;
        let hash = self.hash(&id[..1 + RANDOM]);
        id[1 + RANDOM..].copy_from_slice(&hash);
        ConnectionId::new(&id)
    }

    fn validate(&self, id: &ConnectionId) -> Result<(), InvalidCid> {
        let (made, hash) = id.split_at_checked(1 + RANDOM).ok_or(InvalidCid)?;
        // Of another core's connection, should one come here, nothing is known: it may live.
        let here = made[0] % self.count == self.core;
        if here && self.hash(made) == *hash { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        ID
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_to_its_core_and_is_known_again() {
        for count in [1, 2, 3, 64, MAX_CORES] {
            let cores = Cores::new(count);
            for core in [0, count / 2, count - 1] {
                let mut ids = CoreIds::new(core as u8, count as u8, cores.hasher.clone());
                let made: Vec<_> = (0..100).map(|_| ids.generate_cid()).collect();
                assert!(made.iter().all(|id| usize::from(id[0]) % count == core && ids.validate(id).is_ok()));
                let other = CoreIds::new(((core + 1) % count) as u8, count as u8, cores.hasher.clone());
                assert!(count == 1 || made.iter().all(|id| other.validate(id).is_err()));
                assert!(made.iter().all(|id| made.iter().filter(|other| *other == id).count() == 1));
            }
        }
        let ids = CoreIds::new(0, 1, RandomState::new());
        assert!(ids.validate(&ConnectionId::new(&[7; ID])).is_err());
    }
}
