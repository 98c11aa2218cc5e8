//! Metrics and health over plain HTTP.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Edge;
use crate::limits::{IDLE_TIMEOUT, REQUEST_TIMEOUT};
use crate::metrics::{FAILURES, Metrics, RCODES, TRANSPORTS};
use crate::wire::Rcode;

/// Connections served at once.
const CONNECTIONS: usize = 64;

/// Serves `/metrics`, `/healthz` and `/readyz`; goes on while the server drains, so that `/readyz` can say
/// so. Dropping the future ends it.
pub async fn serve(listener: TcpListener, edge: Arc<Edge>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        if connections.len() < CONNECTIONS {
            connections.spawn(serve_connection(stream, edge.clone()));
        }
    }
}

async fn serve_connection(stream: TcpStream, edge: Arc<Edge>) {
    let service = service_fn(|request| {
        let response = route(&edge, &request);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(REQUEST_TIMEOUT);
    // Errors here are the client's.
    let _ = timeout(IDLE_TIMEOUT * 10, builder.serve_connection(TokioIo::new(stream), service)).await;
}

fn route(edge: &Arc<Edge>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let (status, text) = match request.uri().path() {
        "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" if edge.is_ready() => (StatusCode::OK, "ready\n".to_owned()),
        "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned()),
        "/metrics" => (StatusCode::OK, text(edge)),
        _ => (StatusCode::NOT_FOUND, "nothing here; see /metrics, /healthz, /readyz\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let content_type = if request.uri().path() == "/metrics" { content_type } else { "text/plain" };
    // Both are plain ASCII.
    if let Ok(value) = content_type.parse() {
        response.headers_mut().insert(http::header::CONTENT_TYPE, value);
    }
    response
}

fn text(edge: &Arc<Edge>) -> String {
    let mut registry = Registry::with_prefix("ghostplane");
    registry.register_collector(Box::new(Exposed(edge.clone())));
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
    text
}

/// The counters as the text format wants them, read when they are asked for.
struct Exposed(Arc<Edge>);

impl std::fmt::Debug for Exposed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exposed")
    }
}

type Plain = fn(&Metrics) -> &AtomicU64;

/// Name, help, counter.
const COUNTERS: [(&str, &str, Plain); 10] = [
    ("cache_hits", "Queries answered from the cache", |m| &m.hits),
    ("cache_misses", "Queries answered by executing a contract", |m| &m.misses),
    ("misses_shed", "Misses turned away because too many were waiting", |m| &m.shed),
    ("limited", "Requests turned away by a rate limit", |m| &m.limited),
    ("contract_executions", "Contract executions", |m| &m.executions),
    ("contract_fuel", "Fuel burnt by contracts", |m| &m.fuel),
    ("ops_accepted", "Ops committed", |m| &m.ops_accepted),
    ("ops_rejected", "Ops rejected by the writer", |m| &m.ops_rejected),
    ("commits", "Durable commits", |m| &m.commits),
    ("connections_refused", "Connections refused at a cap", |m| &m.refused),
];

impl Collector for Exposed {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let metrics = &self.0.metrics;
        for (name, help, counter) in COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            family.encode_counter::<NoLabelSet, _, u64>(&load(counter(metrics)), None)?;
        }
        let mut family = encoder.encode_descriptor("replies", "Replies by transport and code", None, MetricType::Counter)?;
        for (transport, by_rcode) in TRANSPORTS.iter().zip(&metrics.queries) {
            for (rcode, count) in by_rcode.iter().enumerate().filter(|(_, count)| load(count) > 0) {
                let rcode = if rcode + 1 == RCODES { "other".to_owned() } else { Rcode::text(rcode as u16) };
                let labels = [("transport", (*transport).to_owned()), ("rcode", rcode)];
                family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&load(count), None)?;
            }
        }
        let help = "Executions that gave no resolution, by kind";
        let mut family = encoder.encode_descriptor("contract_failures", help, None, MetricType::Counter)?;
        for (kind, count) in FAILURES.iter().zip(&metrics.failures) {
            family.encode_family(&[("kind", *kind)])?.encode_counter::<NoLabelSet, _, u64>(&load(count), None)?;
        }
        let mut gauge = encoder.encode_descriptor("connections", "Open connections", None, MetricType::Gauge)?;
        gauge.encode_gauge(&(self.0.admission.open() as i64))?;
        let cached = self.0.gateway.engine().cache.len() as i64;
        let mut gauge = encoder.encode_descriptor("cache_answers", "Answers in the cache", None, MetricType::Gauge)?;
        gauge.encode_gauge(&cached)
    }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

