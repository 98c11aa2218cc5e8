//! HTTP/1.1 and HTTP/2 over TLS.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::router::{self, Body};
use super::{ConnectionGuard, Edge, canonical};
use crate::gateway::Transport;
use crate::limits::{DRAIN_TIMEOUT, IDLE_TIMEOUT, MAX_STREAMS, REQUEST_TIMEOUT};

/// Octets of a request's header fields.
const HEADERS: u32 = 32 << 10;

/// Serves connections until the edge stops, then drains.
pub async fn serve(listener: TcpListener, tls: Arc<rustls::ServerConfig>, edge: Arc<Edge>) {
    let acceptor = TlsAcceptor::from(tls);
    let mut connections = JoinSet::new();
    while let Some((stream, addr)) = accept(&listener, &edge).await {
        while connections.try_join_next().is_some() {}
        let Some(guard) = edge.admission.connect(addr) else {
            edge.metrics.refuse();
            continue;
        };
        connections.spawn(serve_connection(stream, addr, guard, acceptor.clone(), edge.clone()));
    }
    let finished = async { while connections.join_next().await.is_some() {} };
    // What is left after the time-out is dropped with the set.
    let _ = timeout(DRAIN_TIMEOUT, finished).await;
}

/// The next connection; `None` once the edge stops.
pub(super) async fn accept(listener: &TcpListener, edge: &Edge) -> Option<(TcpStream, IpAddr)> {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, addr)) => return Some((stream, canonical(addr.ip()))),
                // Out of descriptors, or the client left in the queue: others still wait. Yielding keeps a
                // lasting error from taking the thread.
                Err(error) => {
                    tracing::debug!(%error, "accept failed");
                    tokio::task::yield_now().await;
                }
            },
            () = edge.stopped() => return None,
        }
    }
}

async fn serve_connection(
    stream: TcpStream,
    addr: IpAddr,
    guard: ConnectionGuard,
    acceptor: TlsAcceptor,
    edge: Arc<Edge>,
) {
    // Answers are small and complete: waiting for more to send only delays them.
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = timeout(REQUEST_TIMEOUT, acceptor.accept(stream)).await else { return };
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE_TIMEOUT).max_buf_size(HEADERS as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(HEADERS)
        .keep_alive_interval(IDLE_TIMEOUT)
        .keep_alive_timeout(REQUEST_TIMEOUT);
    let service = service_fn(|request| serve_request(request, addr, edge.clone()));
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        // Errors here are the client's: it went away or broke the protocol.
        _ = connection.as_mut() => {}
        () = edge.stopped() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
    drop(guard);
}

async fn serve_request(
    request: Request<Incoming>,
    addr: IpAddr,
    edge: Arc<Edge>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let most = router::body_limit(request.uri().path());
    let (parts, body) = request.into_parts();
    let body = match timeout(REQUEST_TIMEOUT, Limited::new(body, most).collect()).await {
        Ok(Ok(body)) => Body::Whole(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Body::TooLong,
        Ok(Err(_)) | Err(_) => Body::Broken,
    };
    let mut response = router::route(&edge, Transport::Https, addr, Request::from_parts(parts, body)).await;
    // HTTP/3 is there, too (RFC 7838 §3). A port number is always a header value.
    if let Ok(value) = format!("h3=\":{}\"; ma=86400", edge.h3_port).parse() {
        response.headers_mut().insert(http::header::ALT_SVC, value);
    }
    Ok(response.map(Full::new))
}
