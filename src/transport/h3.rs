//! HTTP/3 (RFC 9114) on quinn: reads requests for the router, writes its responses.

use std::future::Future;
use std::io;
use std::net::UdpSocket;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use h3::server::RequestResolver;
use http::Response;
use quinn::crypto::rustls::NoInitialCipherSuite;
use quinn::{Connection, Endpoint, EndpointConfig, Incoming, ServerConfig, TokioRuntime, VarInt};
use tokio::task::{JoinSet, yield_now};
use tokio::time::timeout;

use super::router::{BodyGone, BodySource, MAX_HEADERS, route};
use super::{Edge, idle_ticks, quic};
use crate::gateway::{Client, Transport};
use crate::limits::{DRAIN_TIMEOUT, IDLE_TIMEOUT, MAX_STREAMS, REQUEST_TIMEOUT};

type Resolver = RequestResolver<h3_quinn::Connection, Bytes>;
type Stream = h3::server::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// H3_NO_ERROR (RFC 9114 §8.1).
const NO_ERROR: VarInt = VarInt::from_u32(0x100);
/// Request octets not yet read: of one stream, of a connection.
const STREAM_WINDOW: u32 = 64 << 10;
const RECEIVE_WINDOW: u32 = 128 << 10;
/// Octets of responses that are not acknowledged, of a connection: h3 copies them there, so that nobody counts them.
const SEND_WINDOW: u64 = 128 << 10;
/// Control, two for QPACK, and some for extensions that we ignore (RFC 9114 §6.2).
const UNI_STREAMS: u32 = 8;

/// The QUIC configuration of an HTTP/3 endpoint.
///
/// # Errors
/// `tls` has no cipher suite that QUIC can use.
pub fn server_config(tls: rustls::ServerConfig) -> Result<ServerConfig, NoInitialCipherSuite> {
    let mut transport = quic::transport();
    transport
        .max_concurrent_uni_streams(VarInt::from_u32(UNI_STREAMS))
        .send_window(SEND_WINDOW)
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW));
    quic::server(tls, transport)
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
    server: &ServerConfig,
) -> io::Result<impl Future<Output = ()> + Send + use<>> {
    let endpoint = Endpoint::new(config, Some(server.clone()), socket, Arc::new(TokioRuntime))?;
    Ok(async move {
        accept_all(&edge, &endpoint).await;
        endpoint.close(NO_ERROR, b"");
        let _ = timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
    })
}

/// Returns when all connections have ended or are overdue.
async fn accept_all(edge: &Arc<Edge>, endpoint: &Endpoint) {
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(edge.shutdown.triggered());
    loop {
        tokio::select! {
            incoming = endpoint.accept() => match incoming {
                Some(incoming) => {
                    if let Some(connection) = admit(edge, incoming) {
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
fn admit(edge: &Arc<Edge>, incoming: Incoming) -> Option<impl Future<Output = ()> + Send + 'static> {
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
    let connecting = incoming.accept().ok()?;
    let (edge, handshake) = (Arc::clone(edge), edge.admission.handshake(client, proven));
    Some(async move {
        let _connected = connected;
        // A handshake that stalls is a request that does not complete.
        let Ok(Ok(connection)) = timeout(REQUEST_TIMEOUT, connecting).await else { return };
        handshake.complete();
        run(edge, connection, client).await;
    })
}

/// Closing a connection drops what the peer has not acknowledged: gives the last responses time to arrive.
async fn linger(connection: &Connection) {
    let _ = timeout(connection.rtt() * 2, connection.closed()).await;
}

/// Serves one connection to its end.
async fn run(edge: Arc<Edge>, quic: Connection, client: Client) {
    let mut builder = h3::server::builder();
    builder.max_field_section_size(MAX_HEADERS as u64).send_grease(false);
    let Ok(Ok(mut connection)) =
        timeout(REQUEST_TIMEOUT, builder.build::<_, Bytes>(h3_quinn::Connection::new(quic.clone()))).await
    else {
        return;
    };
    let mut requests = JoinSet::new();
    let mut draining = false;
    let (mut ticks, mut used) = (idle_ticks(&edge), false);
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
            _ = ticks.tick(), if !draining => {
                if !std::mem::take(&mut used) && requests.is_empty() { break }
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
    let (head, body) = response.into_parts();
    stream.send_response(Response::from_parts(head, ())).await?;
    if !body.is_empty() {
        stream.send_data(body).await?;
    }
    stream.finish().await?;
    // A body that was refused may still be coming; tells the client to stop (RFC 9114 §4.1).
    stream.stop_sending(h3::error::Code::H3_NO_ERROR);
    Ok(())
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
