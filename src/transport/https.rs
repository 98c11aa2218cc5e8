//! HTTP/1.1 and HTTP/2 over TLS on TCP, by hyper: reads requests for the router, writes its responses.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use http::header::{ALT_SVC, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::Edge;
use super::idle::Idle;
use super::router::{BodyGone, BodySource, MAX_HEADERS, route};
use super::stream::accept_all;
use super::unfinished::{UnderWay, Unfinished};
use crate::gateway::{Client, Transport};
use crate::limits::{DRAIN_TIMEOUT, IDLE_TIMEOUT, MAX_STREAMS, REQUEST_TIMEOUT};

/// Response octets that one HTTP/2 stream may have waiting.
const SEND_BUFFER: usize = 64 << 10;
/// Request octets not yet read: of one HTTP/2 stream, of a connection.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Accepts connections until shutdown, then lets the responses under way leave. `h3_port` is advertised
/// in Alt-Svc (RFC 7838).
pub async fn serve(edge: Arc<Edge>, listener: TcpListener, tls: TlsAcceptor, h3_port: Option<u16>) {
    let site = Arc::new(Site { edge: Arc::clone(&edge), tls, alt_svc: h3_port.and_then(alt_svc) });
    let serve = move |_, stream, client| run(Arc::clone(&site), stream, client);
    accept_all(edge, listener, Transport::Https, serve).await;
}

struct Site {
    edge: Arc<Edge>,
    tls: TlsAcceptor,
    alt_svc: Option<HeaderValue>,
}

fn alt_svc(port: u16) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("h3=\":{port}\"; ma=86400")).ok()
}

/// Serves one connection to its end.
async fn run(site: Arc<Site>, stream: TcpStream, client: Client) {
    let Ok(Ok(stream)) = timeout(REQUEST_TIMEOUT, site.tls.accept(stream)).await else { return };
    let (activity, unfinished) = (Activity::default(), Unfinished::default());
    let service = service_fn(|request| {
        let (site, under_way) = (Arc::clone(&site), activity.begin(&unfinished));
        async move {
            let _under_way = under_way;
            respond(site, client, request).await
        }
    });
    let builder = builder();
    let connection = builder.serve_connection(TokioIo::new(unfinished.watch(stream)), service);
    let mut connection = pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = unfinished.lasts(REQUEST_TIMEOUT) => return,
        () = activity.none_since(&unfinished, Idle::new(&site.edge)) => {}
        () = site.edge.shutdown.triggered() => {}
    }
    connection.as_mut().graceful_shutdown();
    // A client that neither sends the rest nor reads its answers.
    let _ = timeout(DRAIN_TIMEOUT, connection).await;
}

/// Requests of one connection. hyper has no idle time of its own for HTTP/2, nor for one who connects and
/// says nothing.
#[derive(Default)]
struct Activity {
    begun: AtomicUsize,
}

impl Activity {
    fn begin(&self, unfinished: &Unfinished) -> UnderWay {
        self.begun.fetch_add(1, Relaxed);
        unfinished.request()
    }

    /// Resolves when no request was under way or begun for too long.
    async fn none_since(&self, unfinished: &Unfinished, mut idle: Idle<'_>) {
        let mut seen = 0;
        loop {
            let now = idle.look().await;
            let begun = self.begun.load(Relaxed);
            if idle.is_over(now, begun != seen, unfinished.under_way() > 0) {
                return;
            }
            seen = begun;
        }
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // Counts from the previous response, too: the idle timeout of a kept connection.
        .header_read_timeout(IDLE_TIMEOUT)
        .max_buf_size(MAX_HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS as u32)
        .max_send_buf_size(SEND_BUFFER)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(IDLE_TIMEOUT)
        .keep_alive_timeout(REQUEST_TIMEOUT);
    builder
}

async fn respond(
    site: Arc<Site>,
    client: Client,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let routed = route(&site.edge, client, &parts, &mut HyperBody(body)).await;
    let mut response = routed.unwrap_or_else(|BodyGone| gone());
    if let Some(alt_svc) = &site.alt_svc {
        response.headers_mut().insert(ALT_SVC, alt_svc.clone());
    }
    Ok(response.map(Full::new))
}

/// hyper wants a response even if nobody will read it.
fn gone() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
}

struct HyperBody(Incoming);

impl BodySource for HyperBody {
    async fn chunk(&mut self) -> Result<Option<Bytes>, BodyGone> {
        while let Some(frame) = self.0.frame().await {
            // Trailers say nothing to us.
            if let Ok(data) = frame.map_err(|_| BodyGone)?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}
