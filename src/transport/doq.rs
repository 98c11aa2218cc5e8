//! DNS over QUIC (RFC 9250).
//!
//! ```text
//! accept ─ cap ─ Retry if crowded ─ handshake ─┬─ each bidi stream: read to FIN ─ check ─ answer ─ write, FIN
//!                                              └─ a uni stream: DOQ_PROTOCOL_ERROR
//! ```
//! The streams of a connection are futures of its own task: they run concurrently, answers leave in any
//! order, and all of them end with the connection.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicServerConfig};
use quinn::{Connection, Endpoint, Incoming, ReadError, RecvStream, SendStream, TransportConfig, VarInt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Edge, Replies, idle_ticks, refuse_update};
use crate::gateway::{Client, Transport};
use crate::limits::{DRAIN_TIMEOUT, IDLE_TIMEOUT, MAX_QUERY, MAX_STREAMS, REQUEST_TIMEOUT};
use crate::wire::update::is_update;
use crate::wire::{EdeCode, HEADER, OPT_TCP_KEEPALIVE, Query, Reply};

/// Error codes (RFC 9250 §4.3).
pub const NO_ERROR: VarInt = VarInt::from_u32(0);
pub const INTERNAL_ERROR: VarInt = VarInt::from_u32(1);
pub const PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
pub const REQUEST_CANCELLED: VarInt = VarInt::from_u32(3);
pub const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(4);
pub const UNSPECIFIED_ERROR: VarInt = VarInt::from_u32(5);

/// Octets of the length field before a message (RFC 9250 §4.2).
const PREFIX: usize = 2;
/// Answers not yet acknowledged, octets of one connection.
const SEND_WINDOW: u64 = 1 << 20;
/// Queries not yet read, octets of one connection.
const RECEIVE_WINDOW: u32 = 32 * MAX_QUERY as u32;

/// The QUIC configuration of a DoQ endpoint.
///
/// # Errors
/// `tls` has no cipher suite that QUIC can use.
pub fn server_config(tls: rustls::ServerConfig) -> Result<quinn::ServerConfig, NoInitialCipherSuite> {
    let mut transport = base_transport();
    transport
        // One, so that opening it can be told apart from a bug of ours and be answered with the right error.
        .max_concurrent_uni_streams(VarInt::from_u32(1))
        .stream_receive_window(VarInt::from_u32((MAX_QUERY + PREFIX) as u32))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW));
    base_config(tls, transport)
}

/// What DoQ and HTTP/3 connections have in common.
pub(super) fn base_transport() -> TransportConfig {
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

pub(super) fn base_config(
    tls: rustls::ServerConfig,
    transport: TransportConfig,
) -> Result<quinn::ServerConfig, NoInitialCipherSuite> {
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    // What an attacker can have us keep before we even decide: a few packets of a thousand clients.
    config
        .transport_config(Arc::new(transport))
        .max_incoming(1_024)
        .incoming_buffer_size(16 << 10)
        .incoming_buffer_size_total(8 << 20);
    Ok(config)
}

/// Accepts connections until shutdown, then lets the answers under way leave.
pub async fn serve(edge: Arc<Edge>, endpoint: Endpoint) {
    accept_all(&edge, &endpoint, Transport::Quic, run).await;
    endpoint.close(NO_ERROR, b"");
    let _ = timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
}

/// The accept loop of a QUIC endpoint; returns when all its connections have ended or are overdue.
pub(super) async fn accept_all<R, F>(edge: &Arc<Edge>, endpoint: &Endpoint, transport: Transport, run: R)
where
    R: Fn(Arc<Edge>, Connection, Client) -> F + Copy + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => {
                    if let Some(connection) = admit(edge, incoming, transport, run) {
                        connections.spawn(connection);
                    }
                }
                None => break,
            },
            Some(_) = connections.join_next() => {}
            () = edge.shutdown.triggered() => break,
        }
    }
    endpoint.set_server_config(None);
    let _ = timeout(DRAIN_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
}

/// Turns an attempt away, or gives the future that serves its connection.
fn admit<R, F>(
    edge: &Arc<Edge>,
    incoming: Incoming,
    transport: Transport,
    run: R,
) -> Option<impl Future<Output = ()> + Send + 'static>
where
    R: Fn(Arc<Edge>, Connection, Client) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    if edge.admission.crowded() && !incoming.remote_address_validated() && incoming.may_retry() {
        // Fails only where a Retry is not allowed, which was asked before.
        let _ = incoming.retry();
        return None;
    }
    let client = Client { transport, addr: incoming.remote_address().ip() };
    let Some(connected) = edge.connect(client) else {
        incoming.refuse();
        return None;
    };
    let connecting = incoming.accept().ok()?;
    let edge = Arc::clone(edge);
    Some(async move {
        let _connected = connected;
        // A handshake that stalls is a request that does not complete.
        if let Ok(Ok(connection)) = timeout(REQUEST_TIMEOUT, connecting).await {
            run(edge, connection, client).await;
        }
    })
}

/// Serves one connection to its end.
async fn run(edge: Arc<Edge>, connection: Connection, client: Client) {
    let mut streams = FuturesUnordered::new();
    let (mut ticks, mut used) = (idle_ticks(&edge), false);
    // Once for the connection, not once for each turn: subscribing takes a lock.
    let mut shutdown = pin!(edge.shutdown.triggered());
    loop {
        tokio::select! {
            // Answers before new streams: a flood of streams must not starve those under way.
            biased;
            Some(ended) = streams.next(), if !streams.is_empty() => {
                if let Err(ProtocolError(reason)) = ended {
                    return connection.close(PROTOCOL_ERROR, reason.as_bytes());
                }
            }
            stream = connection.accept_bi() => match stream {
                Ok((send, recv)) => {
                    used = true;
                    streams.push(exchange(&edge, client, send, recv));
                }
                Err(_) => return,
            },
            Ok(_) = connection.accept_uni() => {
                return connection.close(PROTOCOL_ERROR, b"unidirectional stream");
            }
            _ = ticks.tick() => {
                if !std::mem::take(&mut used) && streams.is_empty() { break }
            }
            () = &mut shutdown => break,
        }
    }
    while streams.next().await.is_some() {}
    linger(&connection).await;
    connection.close(NO_ERROR, b"");
}

/// Closing a connection drops what the peer has not acknowledged: gives the last answers time to arrive.
pub(super) async fn linger(connection: &Connection) {
    let _ = timeout(connection.rtt() * 2, connection.closed()).await;
}

/// The client broke the protocol; fatal to the connection (RFC 9250 §4.3.3).
struct ProtocolError(&'static str);

/// Why a stream gets no answer.
enum Fault {
    Protocol(&'static str),
    /// Reset this stream with this code, serve the others.
    Stream(VarInt),
}

impl From<ReadError> for Fault {
    /// The client's reset, or the connection is lost; then the code does not matter.
    fn from(_: ReadError) -> Self {
        Self::Stream(REQUEST_CANCELLED)
    }
}

/// One query and its answer, or the messages of a transfer (RFC 9250 §4.2).
async fn exchange(
    edge: &Edge,
    client: Client,
    mut send: SendStream,
    mut recv: RecvStream,
) -> Result<(), ProtocolError> {
    let code = match converse(edge, client, &mut send, &mut recv).await {
        Ok(()) => return Ok(()),
        Err(Fault::Protocol(reason)) => return Err(ProtocolError(reason)),
        Err(Fault::Stream(code)) => code,
    };
    // Without a reset the drop would send FIN: an empty answer. Either fails if the stream is closed already.
    let _ = send.reset(code);
    let _ = recv.stop(code);
    Ok(())
}

async fn converse(edge: &Edge, client: Client, send: &mut SendStream, recv: &mut RecvStream) -> Result<(), Fault> {
    let replies = in_time(take(edge, client, send, recv)).await?;
    for reply in replies {
        in_time(write_reply(send, &reply)).await?;
    }
    send.finish().map_err(|_| Fault::Stream(REQUEST_CANCELLED))
}

/// A request that is not whole, or an answer that is not taken, in time.
async fn in_time<T>(step: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    timeout(REQUEST_TIMEOUT, step).await.unwrap_or(Err(Fault::Stream(UNSPECIFIED_ERROR)))
}

async fn take(edge: &Edge, client: Client, send: &SendStream, recv: &mut RecvStream) -> Result<Replies, Fault> {
    let framed = read_query(recv).await?;
    let message = &framed[PREFIX..];
    check(message)?;
    // What must not be done twice, in data that anyone can send again (RFC 9250 §4.5).
    if recv.is_0rtt()
        && let Some(reply) = refuse_update(message, EdeCode::TooEarly)
    {
        return Ok(Replies::One(reply));
    }
    if !edge.admit(client) {
        return Err(Fault::Stream(EXCESSIVE_LOAD));
    }
    tokio::select! {
        biased;
        replies = edge.exchange(message, client, true) => replies.ok_or(Fault::Stream(INTERNAL_ERROR)),
        // Made only if the answer has to be waited for.
        _ = async { send.stopped().await } => Err(Fault::Stream(REQUEST_CANCELLED)),
    }
}

/// Reads the stream to its FIN: the length field and one message (RFC 9250 §4.2). Of a query over
/// `MAX_QUERY` only the header, which is enough to say FORMERR.
async fn read_query(recv: &mut RecvStream) -> Result<Vec<u8>, Fault> {
    let mut octets = Vec::new();
    while let Some(chunk) = recv.read_chunk(PREFIX + MAX_QUERY, true).await? {
        octets.extend_from_slice(&chunk.bytes);
        let Some(declared) = declared(&octets) else { continue };
        if octets.len() > PREFIX + declared {
            return Err(Fault::Protocol("data after the query"));
        }
        if declared > MAX_QUERY && octets.len() >= PREFIX + HEADER {
            octets.truncate(PREFIX + HEADER);
            let _ = recv.stop(EXCESSIVE_LOAD);
            return Ok(octets);
        }
    }
    match declared(&octets) {
        Some(declared) if octets.len() == PREFIX + declared => Ok(octets),
        _ => Err(Fault::Protocol("stream ended inside the query")),
    }
}

fn declared(octets: &[u8]) -> Option<usize> {
    octets.first_chunk().map(|&length| usize::from(u16::from_be_bytes(length)))
}

/// What RFC 9250 forbids, beyond what DNS does.
fn check(message: &[u8]) -> Result<(), Fault> {
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

async fn write_reply(send: &mut SendStream, reply: &Reply) -> Result<(), Fault> {
    let framed = reply.framed().map_err(|_| Fault::Stream(INTERNAL_ERROR))?;
    send.write_chunk(framed.into()).await.map_err(|_| Fault::Stream(REQUEST_CANCELLED))
}
