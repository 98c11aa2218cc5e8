//! DNS over QUIC (RFC 9250) on quinn.
//!
//! ```text
//! incoming -> caps -> handshake -> [ stream: 2-octet length, query, FIN -> answer, FIN ]  many at once
//!              refuse / retry         broken rule -> DOQ_PROTOCOL_ERROR closes the connection
//! ```

use std::net::IpAddr;
use std::sync::Arc;

use quinn::{Connection, Endpoint, Incoming, ReadToEndError, RecvStream, SendStream, VarInt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Answered, ConnectionGuard, Edge, Identity, TlsError, canonical};
use crate::gateway::Transport;
use crate::limits::{
    DRAIN_TIMEOUT, IDLE_TIMEOUT, MAX_CONNECTIONS, MAX_MESSAGE, MAX_QUERY, MAX_STREAMS, REQUEST_TIMEOUT,
};
use crate::wire::{Query, QueryError};

/// The protocol's name in TLS (RFC 9250 §4.1.1).
pub const ALPN: &[u8] = b"doq";

// Error codes (RFC 9250 §8.4).
const NO_ERROR: VarInt = VarInt::from_u32(0);
const INTERNAL_ERROR: VarInt = VarInt::from_u32(1);
const PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
const REQUEST_CANCELLED: VarInt = VarInt::from_u32(3);
const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(4);

/// Octets of a length-prefixed query.
const FRAMED_QUERY: usize = MAX_QUERY + 2;

/// The QUIC configuration of a DoQ endpoint.
///
/// # Errors
/// Certificate and key do not fit each other.
pub fn server_config(identity: &Identity) -> Result<quinn::ServerConfig, TlsError> {
    let tls = identity.server_config(&[ALPN])?;
    // One unidirectional stream is let through so that its client can be told what it did wrong.
    Ok(quic_config(tls, 1, FRAMED_QUERY as u32))
}

/// Transport parameters shared by DoQ and HTTP/3. `window` is the flow-control credit of one stream.
pub(super) fn quic_config(tls: rustls::ServerConfig, uni_streams: u32, window: u32) -> quinn::ServerConfig {
    // Fails only for a provider without the initial cipher suite of RFC 9001; ring has it.
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(tls).expect("ring has AES-128-GCM");
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(uni_streams))
        .stream_receive_window(VarInt::from_u32(window))
        .receive_window(VarInt::from_u32(window.saturating_mul(32).min(8 << 20)))
        .send_window(1 << 20)
        .datagram_receive_buffer_size(None)
        // 30 s fits in a QUIC idle timeout.
        .max_idle_timeout(Some(IDLE_TIMEOUT.try_into().expect("a short duration")));
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport)).max_incoming(1_024).incoming_buffer_size(64 << 10);
    config
}

/// Serves connections until the edge stops, then drains.
pub async fn serve(endpoint: Endpoint, edge: Arc<Edge>) {
    let mut connections = JoinSet::new();
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            () = edge.stopped() => None,
        };
        let Some(incoming) = incoming else { break };
        while connections.try_join_next().is_some() {}
        let Some((incoming, guard)) = admit(incoming, &edge) else { continue };
        connections.spawn(serve_connection(incoming, guard, edge.clone()));
    }
    drain(&endpoint, connections, NO_ERROR).await;
}

/// Lets connections finish what is under way, then closes what is left.
pub(super) async fn drain(endpoint: &Endpoint, mut connections: JoinSet<()>, code: VarInt) {
    let finished = async { while connections.join_next().await.is_some() {} };
    // After the time-out, closing says all there is to say.
    let _ = timeout(DRAIN_TIMEOUT, finished).await;
    endpoint.close(code, b"");
    let _ = timeout(DRAIN_TIMEOUT, endpoint.wait_idle()).await;
}

/// Room for a connection; under load its address must be validated first (RFC 9000 §8.1.2).
pub(super) fn admit(incoming: Incoming, edge: &Edge) -> Option<(Incoming, ConnectionGuard)> {
    let crowded = edge.admission.open() > MAX_CONNECTIONS / 2;
    if crowded && !incoming.remote_address_validated() && incoming.may_retry() {
        // Fails only if `may_retry` does.
        let _ = incoming.retry();
        return None;
    }
    match edge.admission.connect(canonical(incoming.remote_address().ip())) {
        Some(guard) => Some((incoming, guard)),
        None => {
            edge.metrics.refuse();
            incoming.refuse();
            None
        }
    }
}

async fn serve_connection(incoming: Incoming, guard: ConnectionGuard, edge: Arc<Edge>) {
    let Ok(connection) = incoming.await else { return };
    let addr = canonical(connection.remote_address().ip());
    let mut streams = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept_bi() => accepted,
            Ok(_) = connection.accept_uni() => return protocol_error(&connection, "unidirectional stream"),
            () = edge.stopped() => break,
        };
        let Ok((send, recv)) = accepted else { break };
        while streams.try_join_next().is_some() {}
        streams.spawn(serve_stream(connection.clone(), send, recv, addr, edge.clone()));
    }
    // Answers under way still leave; the endpoint closes what takes too long.
    while streams.join_next().await.is_some() {}
    if *edge.stop.borrow() {
        connection.close(NO_ERROR, b"");
    }
    drop(guard);
}

async fn serve_stream(
    connection: Connection,
    mut send: SendStream,
    mut recv: RecvStream,
    addr: IpAddr,
    edge: Arc<Edge>,
) {
    let Some(message) = read_query(&connection, &mut send, &mut recv).await else { return };
    if let Some(broken) = broken_rule(&message) {
        return protocol_error(&connection, broken);
    }
    let answered = tokio::select! {
        answered = edge.answer(&message, Transport::Quic, addr) => answered,
        // STOP_SENDING, or the connection is gone: nobody waits for this answer (RFC 9250 §4.3.1).
        _ = send.stopped() => return,
    };
    match answered {
        Answered::Reply(reply) => write_reply(&mut send, &reply.wire).await,
        Answered::Limited => drop(send.reset(EXCESSIVE_LOAD)),
        Answered::Ignored => drop(send.reset(INTERNAL_ERROR)),
    }
}

/// The one query of a stream, without its length (RFC 9250 §4.2). `None` if there is none to answer.
async fn read_query(connection: &Connection, send: &mut SendStream, recv: &mut RecvStream) -> Option<Vec<u8>> {
    let read = timeout(REQUEST_TIMEOUT, recv.read_to_end(FRAMED_QUERY)).await;
    let framed = match read {
        Ok(Ok(framed)) => framed,
        Ok(Err(ReadToEndError::TooLong)) => {
            // Long but not wrong: this stream alone is refused. The peer may have stopped already.
            let _ = recv.stop(EXCESSIVE_LOAD);
            let _ = send.reset(EXCESSIVE_LOAD);
            return None;
        }
        // Reset by the client, or the connection is gone.
        Ok(Err(ReadToEndError::Read(_))) => return None,
        Err(_) => {
            let _ = recv.stop(REQUEST_CANCELLED);
            let _ = send.reset(REQUEST_CANCELLED);
            return None;
        }
    };
    match framed.split_at_checked(2) {
        Some((length, message)) if usize::from(u16::from_be_bytes([length[0], length[1]])) == message.len() => {
            Some(message.to_vec())
        }
        _ => {
            protocol_error(connection, "not one length-prefixed message");
            None
        }
    }
}

/// The rule of RFC 9250 that a message breaks, if any: those that are fatal to the connection.
fn broken_rule(message: &[u8]) -> Option<&'static str> {
    match message {
        [0, 0, ..] => {}
        [_, _, ..] => return Some("message ID is not zero"),
        _ => return Some("message without a header"),
    }
    match Query::parse(message) {
        Ok(query) if query.edns.is_some_and(|edns| edns.tcp_keepalive) => Some("edns-tcp-keepalive"),
        Err(QueryError::Ignore) => Some("not a query"),
        _ => None,
    }
}

async fn write_reply(send: &mut SendStream, wire: &[u8]) {
    debug_assert!(wire.len() <= MAX_MESSAGE);
    let mut framed = Vec::with_capacity(wire.len() + 2);
    framed.extend_from_slice(&(wire.len() as u16).to_be_bytes());
    framed.extend_from_slice(wire);
    // A client that has gone away cannot be told.
    if send.write_all(&framed).await.is_ok() {
        let _ = send.finish();
    }
}

fn protocol_error(connection: &Connection, reason: &str) {
    tracing::debug!(reason, "DoQ protocol error");
    connection.close(PROTOCOL_ERROR, reason.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fatal_rules_are_told_from_bad_queries() {
        let query = |id: u8, option: &[u8]| {
            let mut message = vec![0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
            message.extend(b"\x05ghost\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\0\0\0");
            message.push(option.len() as u8);
            message.extend(option);
            message
        };
        assert_eq!(broken_rule(&query(0, b"")), None);
        assert_eq!(broken_rule(&query(1, b"")), Some("message ID is not zero"));
        assert_eq!(broken_rule(&query(0, b"\0\x0b\0\0")), Some("edns-tcp-keepalive"));
        assert_eq!(broken_rule(b"\0\0"), Some("not a query"));
        // Malformed, but a query: it is answered FORMERR.
        assert_eq!(broken_rule(b"\0\0\x01\0\0\x01\0\0\0\0\0\0"), None);
    }
}
