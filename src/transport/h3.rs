//! HTTP/3 (RFC 9114) on quinn: reads requests for the router, writes its responses.

mod bounded;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::UdpSocket;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes};
use h3::server::RequestResolver;
use http::header::DATE;
use http::{HeaderValue, Response};
use quinn::crypto::rustls::NoInitialCipherSuite;
use quinn::{Connection, Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};

use super::idle::Idle;
use super::router::{BodyGone, BodySource, MAX_HEADERS, route};
use super::{Edge, quic};
use crate::gateway::{Client, Transport};
use crate::limits::{DRAIN_TIMEOUT, IDLE_TIMEOUT, MAX_STREAMS, REQUEST_TIMEOUT};
use bounded::Bounded;

type Resolver = RequestResolver<Bounded<h3_quinn::Connection>, Bytes>;
type Stream = h3::server::RequestStream<bounded::Stream<h3_quinn::BidiStream<Bytes>>, Bytes>;

/// H3_NO_ERROR (RFC 9114 §8.1).
const NO_ERROR: VarInt = VarInt::from_u32(0x100);
/// Request octets not yet read: of one stream, of a connection.
const STREAM_WINDOW: u32 = 64 << 10;
const RECEIVE_WINDOW: u32 = 128 << 10;
/// Octets of responses that are not acknowledged, of a connection: h3 copies them there, so that nobody counts them.
const SEND_WINDOW: u64 = 128 << 10;
/// Control, two for QPACK, and some for extensions that we ignore (RFC 9114 §6.2).
const UNI_STREAMS: u32 = 8;
/// Between two looks whether what was closed is gone.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The QUIC configuration of an HTTP/3 endpoint.
///
/// # Errors
/// `tls` has no cipher suite that QUIC can use.
pub fn server_config(tls: rustls::ServerConfig) -> Result<ServerConfig, NoInitialCipherSuite> {
    quic::server(tls, transport())
}

fn transport() -> TransportConfig {
    let mut transport = quic::transport();
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS))
        .send_window(SEND_WINDOW)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW));
    transport
}

/// Gives the future that accepts connections until shutdown, then lets the responses under way leave. Must be called
/// inside a runtime.
///
/// # Errors
/// The socket cannot be used.
pub fn serve(
    edge: Arc<Edge>,
    socket: UdpSocket,
    config: EndpointConfig,
    server: &Arc<ServerConfig>,
) -> io::Result<impl Future<Output = ()> + Send + use<>> {
    let endpoint = Endpoint::new(config, Some(ServerConfig::clone(server)), socket, Arc::new(TokioRuntime))?;
    let server = Arc::clone(server);
    Ok(async move {
        accept_all(&edge, &endpoint, &server).await;
        endpoint.close(NO_ERROR, b"");
        let _ = timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
    })
}

/// Returns when all connections have ended or are overdue.
async fn accept_all(edge: &Arc<Edge>, endpoint: &Endpoint, server: &ServerConfig) {
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(edge.shutdown.triggered());
    loop {
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => {
                    if let Some(connection) = admit(edge, incoming, server) {
                        connections.spawn(connection);
                    }
                    // A handshake takes long, and there may be dozens at once: others of this core come between two.
                    yield_now().await;
                }
                None => break,
            },
            Some(_) = connections.join_next() => {}
            () = &mut shutdown => break,
        }
    }
    endpoint.set_server_config(None);
    let _ = timeout(DRAIN_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
}

/// Turns an attempt away, has it prove its address, or gives the future that serves its connection.
fn admit(
    edge: &Arc<Edge>,
    incoming: Incoming,
    server: &ServerConfig,
) -> Option<impl Future<Output = ()> + Send + use<>> {
    if edge.admission.crowded() && !incoming.remote_address_validated() && incoming.may_retry() {
        // Fails only where a Retry is not allowed, which was asked before.
        let _ = incoming.retry();
        return None;
    }
    let client = Client::new(Transport::H3, incoming.remote_address().ip());
    let proven = incoming.remote_address_validated();
    let Some(connected) = edge.connect(client, proven) else {
        incoming.refuse();
        return None;
    };
    let (config, state) = of_its_own(server);
    let connecting = incoming.accept_with(config).ok()?;
    let (edge, handshake) = (Arc::clone(edge), edge.admission.handshake(client, proven));
    Some(async move {
        let _connected = connected;
        // A handshake that stalls is a request that does not complete.
        let unfinished = match timeout(REQUEST_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => {
                handshake.complete();
                run(Arc::clone(&edge), connection, client).await;
                None
            }
            _ => Some(handshake),
        };
        // Places are kept as long as there is anything in them.
        gone(&edge, &state).await;
        drop(unfinished);
    })
}

/// The configuration for one connection, and something that is there as long as quinn has its state: after its end, three
/// times the time to a retransmission, which is in part what the client says (RFC 9000 §10.2).
fn of_its_own(server: &ServerConfig) -> (Arc<ServerConfig>, Weak<TransportConfig>) {
    let transport = Arc::new(transport());
    let state = Arc::downgrade(&transport);
    let mut server = server.clone();
    server.transport_config(transport);
    (Arc::new(server), state)
}

/// Returns when a connection's state is gone, or the server stops. quinn tells nobody.
async fn gone(edge: &Edge, state: &Weak<TransportConfig>) {
    let looked_for = async {
        while state.strong_count() > 0 {
            sleep(LOOK_AGAIN).await;
        }
    };
    tokio::select! {
        () = looked_for => {}
        () = edge.shutdown.triggered() => {}
    }
}

/// Closing a connection drops what the peer has not acknowledged: gives the last responses time to arrive.
async fn linger(connection: &Connection) {
    let _ = timeout(connection.rtt() * 2, connection.closed()).await;
}

/// Serves one connection to its end.
async fn run(edge: Arc<Edge>, quic: Connection, client: Client) {
    let mut builder = h3::server::builder();
    builder.max_field_section_size(MAX_HEADERS as u64).send_grease(false);
    let Ok(Ok(mut connection)) = timeout(REQUEST_TIMEOUT, builder.build::<_, Bytes>(Bounded::new(quic.clone()))).await
    else {
        return;
    };
    let mut requests = JoinSet::new();
    let mut draining = false;
    let (mut idle, mut used) = (Idle::new(&edge), false);
    let mut shutdown = pin!(edge.shutdown.triggered());
    loop {
        tokio::select! {
            request = connection.accept() => match request {
                Ok(Some(resolver)) => { used = true; requests.spawn(serve_request(Arc::clone(&edge), client, resolver)); }
                // GOAWAY both ways and nothing under way, or the connection is lost.
                Ok(None) | Err(_) => break,
            },
            Some(_) = requests.join_next() => {
                if draining && requests.is_empty() { break }
            }
            now = idle.look(), if !draining => {
                if idle.is_over(now, std::mem::take(&mut used), !requests.is_empty()) { break }
            }
            () = &mut shutdown, if !draining => {
                draining = true;
                if connection.shutdown(0).await.is_err() || requests.is_empty() { break }
            }
        }
    }
    linger(&quic).await;
    quic.close(NO_ERROR, b"");
}

async fn serve_request(edge: Arc<Edge>, client: Client, resolver: Resolver) {
    let Ok(Ok((request, stream))) = timeout(REQUEST_TIMEOUT, resolver.resolve_request()).await else { return };
    let (parts, ()) = request.into_parts();
    let mut body = H3Body(stream);
    let Ok(response) = route(&edge, client, &parts, &mut body).await else { return };
    // A client that does not read its response holds the stream no longer than one that stays idle.
    let _ = timeout(IDLE_TIMEOUT, respond(&mut body.0, response)).await;
}

async fn respond(stream: &mut Stream, response: Response<Bytes>) -> Result<(), h3::error::StreamError> {
    let (mut head, body) = response.into_parts();
    // RFC 9110 §6.6.1; hyper does it over HTTP/1.1 and 2.
    if let Some(date) = date(SystemTime::now()) {
        head.headers.insert(DATE, date);
    }
    stream.send_response(Response::from_parts(head, ())).await?;
    if !body.is_empty() {
        stream.send_data(body).await?;
    }
    stream.finish().await?;
    // A body that was refused may still be coming; tells the client to stop (RFC 9114 §4.1).
    stream.stop_sending(h3::error::Code::H3_NO_ERROR);
    Ok(())
}

thread_local! {
    /// The second that was last asked for.
    static DATED: RefCell<Option<(u64, HeaderValue)>> = const { RefCell::new(None) };
}

/// The time as HTTP writes it, once a second.
fn date(now: SystemTime) -> Option<HeaderValue> {
    let second = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    DATED.with_borrow_mut(|dated| match dated {
        Some((at, date)) if *at == second => Some(date.clone()),
        _ => {
            let date = HeaderValue::try_from(httpdate::fmt_http_date(now)).ok()?;
            Some(dated.insert((second, date)).1.clone())
        }
    })
}

struct H3Body(Stream);

impl BodySource for H3Body {
    async fn chunk(&mut self) -> Result<Option<Bytes>, BodyGone> {
        let chunk = self.0.recv_data().await.map_err(|_| BodyGone)?;
        Ok(chunk.map(|mut data| data.copy_to_bytes(data.remaining())))
    }
}

const _: () = assert!(MAX_STREAMS >= 100, "RFC 9114 §6.1 wants a hundred requests at once");
const _: () = assert!(DRAIN_TIMEOUT.as_secs() < IDLE_TIMEOUT.as_secs());
