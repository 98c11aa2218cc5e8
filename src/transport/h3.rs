//! HTTP/3 (RFC 9114): DoH3 and JSON-RPC over QUIC.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use h3::quic::BidiStream;
use h3::server::{RequestResolver, RequestStream};
use http::{Request, Response};
use quinn::{Endpoint, Incoming, VarInt};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::doq::{admit, drain, quic_config};
use super::router::{self, Body};
use super::{ConnectionGuard, Edge, Identity, TlsError, canonical};
use crate::gateway::Transport;
use crate::limits::REQUEST_TIMEOUT;

/// The protocol's name in TLS (RFC 9114 §3.1).
pub const ALPN: &[u8] = b"h3";

/// H3_NO_ERROR (RFC 9114 §8.1).
const NO_ERROR: VarInt = VarInt::from_u32(0x100);
/// Octets of a request's header fields (RFC 9114 §4.2.2).
const FIELD_SECTION: u64 = 32 << 10;
/// Control stream, QPACK encoder and decoder, and a few of kinds that must be ignored (RFC 9114 §6.2).
const UNI_STREAMS: u32 = 8;
const STREAM_WINDOW: u32 = 256 << 10;

/// The QUIC configuration of an HTTP/3 endpoint.
///
/// # Errors
/// Certificate and key do not fit each other.
pub fn server_config(identity: &Identity) -> Result<quinn::ServerConfig, TlsError> {
    Ok(quic_config(identity.server_config(&[ALPN])?, UNI_STREAMS, STREAM_WINDOW))
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

async fn serve_connection(incoming: Incoming, guard: ConnectionGuard, edge: Arc<Edge>) {
    let Ok(connection) = incoming.await else { return };
    let addr = canonical(connection.remote_address().ip());
    let built = h3::server::builder()
        .max_field_section_size(FIELD_SECTION)
        .build::<_, Bytes>(h3_quinn::Connection::new(connection))
        .await;
    let Ok(mut connection) = built else { return };
    let mut requests = JoinSet::new();
    let mut stopping = false;
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = edge.stopped(), if !stopping => {
                stopping = true;
                // GOAWAY: what has been accepted is still answered (RFC 9114 §5.2).
                if connection.shutdown(0).await.is_err() { break }
                continue;
            }
        };
        let Ok(Some(resolver)) = accepted else { break };
        while requests.try_join_next().is_some() {}
        requests.spawn(serve_request(resolver, addr, edge.clone()));
    }
    while requests.join_next().await.is_some() {}
    drop(guard);
}

async fn serve_request(resolver: RequestResolver<h3_quinn::Connection, Bytes>, addr: IpAddr, edge: Arc<Edge>) {
    let Ok(Ok((request, mut stream))) = timeout(REQUEST_TIMEOUT, resolver.resolve_request()).await else { return };
    let most = router::body_limit(request.uri().path());
    let Ok(Some(body)) = timeout(REQUEST_TIMEOUT, read_body(&mut stream, most)).await else { return };
    let request: Request<Body> = request.map(|()| body);
    let response = router::route(&edge, Transport::H3, addr, request).await;
    // A client that has gone away cannot be told.
    let _ = send(&mut stream, response).await;
}

/// The DATA frames of a request together; `None` if the stream failed.
async fn read_body<S: BidiStream<Bytes>>(stream: &mut RequestStream<S, Bytes>, most: usize) -> Option<Body> {
    let mut body = BytesMut::new();
    while let Some(mut data) = stream.recv_data().await.ok()? {
        if body.len() + data.remaining() > most {
            return Some(Body::TooLong);
        }
        body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    Some(Body::Whole(body.freeze()))
}

async fn send<S: BidiStream<Bytes>>(
    stream: &mut RequestStream<S, Bytes>,
    response: Response<Bytes>,
) -> Result<(), h3::error::StreamError> {
    let (parts, body) = response.into_parts();
    stream.send_response(Response::from_parts(parts, ())).await?;
    if !body.is_empty() {
        stream.send_data(body).await?;
    }
    stream.finish().await
}
