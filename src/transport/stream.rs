//! What comes over TCP: the accept loop, and DNS over TCP (RFC 7766) and over TLS (RFC 7858).
//!
//! ```text
//! accept ─ cap ─ (TLS handshake) ─ frames: length, query ─┬─ answer ─┬─ length, reply
//!                                   up to MAX_PIPELINED ──┴─ answer ─┘  in the order they are ready
//! ```
//! The queries of a connection are futures of its own task, as over QUIC. A client that does not read its answers is
//! not read from either.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustls::ProtocolVersion;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::task::coop::consume_budget;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::admission::{Descriptor, Kept};
use super::idle::Idle;
use super::{Connected, Edge, Replies, proxy, refuse_update};
use crate::gateway::{Client, Transport};
use crate::limits::{DRAIN_TIMEOUT, MAX_PIPELINED, MAX_QUERY, REQUEST_TIMEOUT};
use crate::wire::update::is_update;
use crate::wire::{EdeCode, HEADER, Query, QueryError, Rcode, Reply};

/// Octets of the length field before a message (RFC 1035 §4.2.2).
const PREFIX: usize = 2;

/// Serves DNS over TCP until shutdown.
pub async fn serve_tcp(edge: Arc<Edge>, listener: TcpListener) {
    let serve = |edge: Arc<Edge>, stream, client| async move { converse(&edge, stream, client, true).await };
    accept_all(edge, listener, Transport::Tcp, serve).await;
}

/// Serves DNS over TLS until shutdown. Zones leave over TLS 1.3 only (RFC 9103 §7.1).
pub async fn serve_tls(edge: Arc<Edge>, listener: TcpListener, tls: TlsAcceptor) {
    let serve = move |edge: Arc<Edge>, stream, client| {
        let tls = tls.clone();
        async move {
            let Ok(Ok(stream)) = timeout(REQUEST_TIMEOUT, tls.accept(stream)).await else { return };
            let transfers = stream.get_ref().1.protocol_version() == Some(ProtocolVersion::TLSv1_3);
            converse(&edge, stream, client, transfers).await;
        }
    };
    accept_all(edge, listener, Transport::Tls, serve).await;
}

/// Accepts connections until shutdown, then lets those that are open end by themselves for a while.
pub(super) async fn accept_all<R, F>(edge: Arc<Edge>, listener: TcpListener, transport: Transport, run: R)
where
    R: Fn(Arc<Edge>, TcpStream, Client) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(edge.shutdown.triggered());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    edge.accepts();
                    // Counted from here on: a balancer's, too, which says later for whom it is.
                    let Some(descriptor) = edge.descriptor(transport) else { continue };
                    if edge.admission.is_proxy(peer.ip()) {
                        let (edge, run) = (Arc::clone(&edge), run.clone());
                        connections.spawn(async move { introduce(edge, (stream, descriptor), peer, transport, run).await });
                        continue;
                    }
                    let client = Client::new(transport, peer.ip());
                    if let Some(connected) = edge.connect(client, true) {
                        let connection = run(Arc::clone(&edge), immediate(stream), client);
                        connections.spawn(serve((connected, descriptor), connection));
                    }
                }
                Err(error) => pause_after(&edge, &error).await,
            },
            Some(_) = connections.join_next() => {}
            () = &mut shutdown => break,
        }
    }
    drop(listener);
    let _ = timeout(DRAIN_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
}

async fn serve(_places: (Connected, Descriptor), connection: impl Future<Output = ()>) {
    connection.await;
}

/// Answers leave when they are ready.
fn immediate(stream: TcpStream) -> TcpStream {
    let _ = stream.set_nodelay(true);
    stream
}

/// Serves a connection of a balancer, which says first for whom it is.
async fn introduce<R, F>(
    edge: Arc<Edge>,
    (mut stream, descriptor): (TcpStream, Descriptor),
    peer: SocketAddr,
    transport: Transport,
    run: R,
) where
    R: Fn(Arc<Edge>, TcpStream, Client) -> F,
    F: Future<Output = ()>,
{
    let Ok(Ok(client)) = timeout(REQUEST_TIMEOUT, proxy::read(&mut stream)).await else { return };
    let client = Client::new(transport, proxy::of(client, peer));
    if let Some(connected) = edge.connect(client, true) {
        serve((connected, descriptor), run(edge, immediate(stream), client)).await;
    }
}

/// Out of file descriptors, `accept` fails again at once: lets some connections end first.
pub(super) async fn pause_after(edge: &Edge, error: &io::Error) {
    let of_one_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    );
    if !of_one_connection {
        edge.accepts_not(error);
        sleep(Duration::from_millis(50)).await;
    }
}

/// Serves one connection to its end.
async fn converse(edge: &Edge, stream: impl AsyncRead + AsyncWrite, client: Client, transfers: bool) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut frames = Frames::default();
    let mut answers = FuturesUnordered::new();
    let (mut idle, mut used) = (Idle::new(edge), false);
    let mut shutdown = pin!(edge.shutdown.triggered());
    loop {
        tokio::select! {
            // Answers before new queries, or a client could have us hold ever more of them.
            biased;
            Some(answered) = answers.next(), if !answers.is_empty() => {
                used = true;
                if deliver(&mut writer, answered).await.is_err() { return }
                // Nothing may have been sent, nor waited for: others of this core come in between all the same.
                consume_budget().await;
            }
            frame = frames.next(&mut reader), if answers.len() < MAX_PIPELINED => match frame {
                Ok(Some(message)) => {
                    used = true;
                    answers.push(answer(edge, message, client, transfers));
                }
                // The end, or nothing that can be understood any further: what is under way is still answered.
                Ok(None) | Err(_) => break,
            },
            now = idle.look() => {
                if idle.is_over(now, std::mem::take(&mut used), !answers.is_empty()) { break }
            }
            () = &mut shutdown => break,
        }
    }
    while let Some(answered) = answers.next().await {
        if deliver(&mut writer, answered).await.is_err() {
            return;
        }
    }
    // The peer may be gone already.
    let _ = timeout(REQUEST_TIMEOUT, writer.shutdown()).await;
}

/// Messages out of a stream of octets. May be dropped between two octets and asked again.
#[derive(Default)]
struct Frames {
    buffer: BytesMut,
    broken: bool,
    /// Since when a message has been there in part.
    begun: Option<Instant>,
}

impl Frames {
    /// The next message; `None` at the end of the stream. Of one over `MAX_QUERY` only the header, which is enough to
    /// say FORMERR, and nothing after it.
    ///
    /// # Errors
    /// The stream is broken, or a message that has begun is not whole in time.
    async fn next(&mut self, reader: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<BytesMut>> {
        loop {
            if self.broken {
                return Ok(None);
            }
            if let Some(&declared) = self.buffer.first_chunk::<PREFIX>() {
                let declared = usize::from(u16::from_be_bytes(declared));
                self.broken = declared > MAX_QUERY;
                let wanted = if self.broken { HEADER } else { declared };
                if self.buffer.len() >= PREFIX + wanted {
                    self.buffer.advance(PREFIX);
                    self.begun = None;
                    return Ok(Some(self.buffer.split_to(wanted)));
                }
                self.broken = false;
            }
            let inside = !self.buffer.is_empty();
            let read = reader.read_buf(&mut self.buffer);
            let count = if inside {
                let until = *self.begun.get_or_insert_with(Instant::now) + REQUEST_TIMEOUT;
                timeout_at(until, read).await??
            } else {
                read.await?
            };
            if count == 0 {
                return Ok(None);
            }
        }
    }
}

/// What is to be sent back, counted until it has been.
struct Answered {
    replies: Replies,
    _kept: Kept,
}

/// `None`: nothing may be sent back.
///
/// # Errors
/// The client has so many answers that it does not take that this one must not wait as well.
async fn answer(edge: &Edge, message: BytesMut, client: Client, transfers: bool) -> io::Result<Option<Answered>> {
    let replies = match edge.admit(client) {
        true => edge.exchange(&message, client, transfers).await,
        false => refuse(&message).map(Replies::from),
    };
    let Some(replies) = replies else { return Ok(None) };
    let kept = edge.keep(client, &replies).ok_or(io::ErrorKind::QuotaExceeded)?;
    Ok(Some(Answered { replies, _kept: kept }))
}

/// REFUSED with EDE 18 (RFC 8914 §4.19).
fn refuse(message: &[u8]) -> Option<Reply> {
    if is_update(message) {
        return refuse_update(message, EdeCode::Prohibited);
    }
    match Query::parse(message) {
        Ok(query) => Some(query.refuse(Rcode::Refused).reply_with(Some(EdeCode::Prohibited))),
        Err(QueryError::Reply(refused)) => Some(refused.reply()),
        Err(QueryError::Ignore) => None,
    }
}

async fn deliver(writer: &mut (impl AsyncWrite + Unpin), answered: io::Result<Option<Answered>>) -> io::Result<()> {
    let Some(Answered { replies, _kept }) = answered? else { return Ok(()) };
    for reply in replies {
        let framed = reply.framed()?;
        timeout(REQUEST_TIMEOUT, writer.write_all(&framed)).await??;
    }
    timeout(REQUEST_TIMEOUT, writer.flush()).await?
}
