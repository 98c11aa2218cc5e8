//! `/metrics`, `/healthz` and `/readyz`, over plain HTTP/1.1 for the operator's own network.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::process::Process;
use super::readiness::Readiness;
use super::stream::pause_after;
use super::{Edge, hosts};
use crate::gateway::Transport;
use crate::limits::{MAX_SCRAPERS, REQUEST_TIMEOUT};
use crate::metrics::{
    BOUNDS, ContractFailure, Counter, Durations, Forwarded, Metrics, Outcome, Path, Stage, Trouble, bound,
};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until it is dropped: `/readyz` must say no while the other listeners drain.
pub async fn serve(edge: Arc<Edge>, listener: TcpListener) {
    let mut registry = Registry::default();
    let own = registry.sub_registry_with_prefix("ghostplane");
    own.register_collector(Box::new(Families(Arc::clone(&edge.metrics))));
    registry.register_collector(Box::new(Process));
    let site = Arc::new(Site { edge, registry, readiness: Readiness::default() });
    let places = Arc::new(Semaphore::new(MAX_SCRAPERS));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // None left: the connection is dropped.
                let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
                let site = Arc::clone(&site);
                tokio::spawn(async move {
                    let _place = place;
                    run(site, stream).await;
                });
            }
            Err(error) => pause_after(&site.edge, &error).await,
        }
    }
}

/// All that a connection is served with.
struct Site {
    edge: Arc<Edge>,
    registry: Registry,
    readiness: Readiness,
}

async fn run(site: Arc<Site>, stream: TcpStream) {
    let service = service_fn(|request: Request<Incoming>| {
        let site = Arc::clone(&site);
        let (parts, _) = request.into_parts();
        async move { Ok::<_, Infallible>(site.respond(&parts).await.map(Full::new)) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(REQUEST_TIMEOUT).max_buf_size(16 << 10);
    // Fails if the scraper leaves early.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

impl Site {
    async fn respond(&self, parts: &Parts) -> Response<Bytes> {
        if parts.method != Method::GET && parts.method != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
        }
        match parts.uri.path() {
            // A web page whose name leads here would read what is for the operator alone.
            "/metrics" | "/readyz" if !self.is_called(parts) => {
                text(StatusCode::MISDIRECTED_REQUEST, "ask for this by an address, or list the name in `hosts`\n")
            }
            "/metrics" => exposition(&self.registry),
            "/healthz" => text(StatusCode::OK, "alive\n"),
            "/readyz" => self.readyz().await,
            _ => text(StatusCode::NOT_FOUND, "nothing here; try /metrics, /healthz or /readyz\n"),
        }
    }

    fn is_called(&self, parts: &Parts) -> bool {
        hosts::authority(parts).is_none_or(|authority| self.edge.hosts.allow(authority))
    }

    /// One line for each trouble, after the first.
    async fn readyz(&self) -> Response<Bytes> {
        if !self.edge.is_ready() {
            return text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n");
        }
        let troubles: String = self.readiness.troubles(&self.edge).await.iter().map(|why| format!("{why}\n")).collect();
        match troubles.is_empty() {
            true => text(StatusCode::OK, "ready\n"),
            false => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{troubles}")),
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = of_type("text/plain; charset=utf-8", body.into());
    *response.status_mut() = status;
    response
}

fn of_type(content_type: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn exposition(registry: &Registry) -> Response<Bytes> {
    let mut body = String::new();
    if encode(&mut body, registry).is_err() {
        return text(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written\n");
    }
    of_type(OPENMETRICS, Bytes::from(body))
}

/// Reads the atomics at each scrape.
#[derive(Debug)]
struct Families(Arc<Metrics>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        self.queries(&mut encoder)?;
        self.latencies(&mut encoder)?;
        self.connections(&mut encoder)?;
        self.contract_failures(&mut encoder)?;
        self.forwarded(&mut encoder)?;
        self.signatures(&mut encoder)?;
        self.certificates(&mut encoder)?;
        self.gas_price(&mut encoder)?;
        self.machine_code(&mut encoder)?;
        self.troubles(&mut encoder)?;
        self.totals(&mut encoder)
    }
}

impl Families {
    fn queries(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let help = "DNS queries by transport, TLD and outcome";
        let mut family = encoder.encode_descriptor("queries", help, None, MetricType::Counter)?;
        for transport in Transport::ALL {
            for (tld, name) in self.0.tlds() {
                for (outcome, label) in Outcome::ALL {
                    let labels = [("transport", transport.text()), ("tld", &name), ("outcome", label)];
                    let count = ConstCounter::new(self.0.queries_of(tld, transport, outcome));
                    count.encode(family.encode_family(&labels)?)?;
                }
            }
        }
        Ok(())
    }

    fn latencies(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let help = "How long the stages of a query take; of hits one in 64 is timed";
        let mut family = encoder.encode_descriptor("query_stage_seconds", help, None, MetricType::Histogram)?;
        for (path, path_label) in Path::ALL {
            for (stage, stage_label) in Stage::ALL.into_iter().filter(|(stage, _)| stage.is_on(path)) {
                let labels = [("path", path_label), ("stage", stage_label)];
                encode_durations(&self.0.durations(path, stage), family.encode_family(&labels)?)?;
            }
        }
        let help = "How long it takes to find out what an ordinary name has";
        let family = encoder.encode_descriptor("upstream_seconds", help, None, MetricType::Histogram)?;
        let mut durations = Durations::default();
        durations.add(&self.0.upstream);
        encode_durations(&durations, family)
    }

    fn connections(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let mut family = encoder.encode_descriptor("connections", "Open connections", None, MetricType::Gauge)?;
        for transport in Transport::ALL {
            ConstGauge::new(self.0.connections(transport))
                .encode(family.encode_family(&[("transport", transport.text())])?)?;
        }
        let help = "Connections turned away by a cap";
        let mut family = encoder.encode_descriptor("connections_refused", help, None, MetricType::Counter)?;
        for transport in Transport::ALL {
            let count = ConstCounter::new(self.0.refused_connections(transport));
            count.encode(family.encode_family(&[("transport", transport.text())])?)?;
        }
        Ok(())
    }

    fn contract_failures(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let help = "Contract executions without an answer, by kind";
        let mut family = encoder.encode_descriptor("contract_failures", help, None, MetricType::Counter)?;
        for (kind, label) in ContractFailure::ALL {
            let count = ConstCounter::new(self.0.contract_failures(kind));
            count.encode(family.encode_family(&[("kind", label)])?)?;
        }
        Ok(())
    }

    fn forwarded(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let help = "Questions for ordinary names, by outcome";
        let mut family = encoder.encode_descriptor("forwarded", help, None, MetricType::Counter)?;
        for (outcome, label) in Forwarded::ALL {
            let count = ConstCounter::new(self.0.forwarded(outcome));
            count.encode(family.encode_family(&[("outcome", label)])?)?;
        }
        Ok(())
    }

    fn signatures(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let help = "Names whose owner should sign again, as of the last hour";
        let mut family = encoder.encode_descriptor("names_to_resign", help, None, MetricType::Gauge)?;
        for (state, gauge) in [("soon", &self.0.signatures_ending), ("overdue", &self.0.signatures_ended)] {
            let count = i64::try_from(gauge.get()).unwrap_or(i64::MAX);
            ConstGauge::new(count).encode(family.encode_family(&[("state", state)])?)?;
        }
        Ok(())
    }

    fn certificates(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let Some(certificates) = self.0.certificates.get() else { return Ok(()) };
        let help = "When certificates end, seconds since 1970";
        let mut family = encoder.encode_descriptor("certificate_expiry", help, None, MetricType::Gauge)?;
        for (file, gauge) in certificates {
            let ends = i64::try_from(gauge.get()).unwrap_or(i64::MAX);
            ConstGauge::new(ends).encode(family.encode_family(&[("file", file.as_str())])?)?;
        }
        Ok(())
    }

    fn gas_price(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let help = "Billionths of a GCC for a million units of fuel, as of the last settlement";
        let price = ConstGauge::new(i64::try_from(self.0.gas_price.get()).unwrap_or(i64::MAX));
        price.encode(encoder.encode_descriptor("gas_price", help, None, MetricType::Gauge)?)
    }

    fn machine_code(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let metrics = &self.0;
        let gauges = [
            ("compiled_contracts", "Contracts compiled in memory", &metrics.compiled_contracts),
            ("compiled_bytes", "Octets of their machine code", &metrics.compiled_bytes),
            ("code_file_bytes", "Octets of machine code on disk", &metrics.code_file_bytes),
        ];
        for (name, help, gauge) in gauges {
            let family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(gauge.get()).unwrap_or(i64::MAX)).encode(family)?;
        }
        Ok(())
    }

    fn troubles(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let health = &self.0.health;
        let help = "Troubles of the whole server that are there now";
        let mut family = encoder.encode_descriptor("trouble", help, None, MetricType::Gauge)?;
        for (trouble, label, _) in Trouble::ALL {
            let there = ConstGauge::new(i64::from(health.has(trouble)));
            there.encode(family.encode_family(&[("kind", label)])?)?;
        }
        let help = "Troubles of the whole server that have begun";
        let mut family = encoder.encode_descriptor("troubles", help, None, MetricType::Counter)?;
        for (trouble, label, _) in Trouble::ALL {
            ConstCounter::new(health.begun(trouble)).encode(family.encode_family(&[("kind", label)])?)?;
        }
        Ok(())
    }

    fn totals(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let metrics = &self.0;
        for (name, help, counter) in [
            ("cache_hits", "Queries answered from the cache", &metrics.cache_hits),
            ("cache_misses", "Queries not in the cache", &metrics.cache_misses),
            ("misses_inline", "Misses executed on the sockets' threads", &metrics.misses_inline),
        ] {
            let family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(counter.get()).encode(family)?;
        }
        let totals: [(&str, &str, &Counter); 23] = [
            ("answers_untaken", "Answers given up: their client does not take those it has", &metrics.answers_untaken),
            ("accept_failures", "Connections that could not be accepted", &metrics.accept_failures),
            ("worker_panics", "Jobs of workers that panicked", &metrics.worker_panics),
            ("misses_shed", "Queries turned away because too many were waiting", &metrics.misses_shed),
            ("contract_executions", "Contract executions", &metrics.contract_executions),
            ("contract_fuel", "Fuel used by contracts", &metrics.contract_fuel),
            (
                "contract_out_of_gas",
                "Executions of a TLD's contract in place of one out of gas",
                &metrics.contract_out_of_gas,
            ),
            ("gas_settled", "Fuel settled with its owners", &metrics.gas_settled),
            ("contract_compilations", "Contracts compiled", &metrics.contract_compilations),
            ("code_loads", "Compiled contracts read from disk", &metrics.code_loads),
            ("code_faults", "Files of machine code that could not be used or written", &metrics.code_faults),
            ("commits", "Registry commits", &metrics.commits),
            ("ops_accepted", "Operations applied", &metrics.ops_accepted),
            ("ops_rejected", "Operations rejected", &metrics.ops_rejected),
            ("responses_limited", "UDP responses cut or kept back by their rate", &metrics.responses_limited),
            ("responses_cut", "UDP responses cut: nothing proves the address", &metrics.responses_cut),
            (
                "certificate_reload_failures",
                "Changed certificates that could not be used",
                &metrics.certificate_reload_failures,
            ),
            ("dnstap_written", "Messages that dnstap has told", &metrics.dnstap_written),
            ("dnstap_dropped", "Messages that dnstap could not tell", &metrics.dnstap_dropped),
            ("traces_exported", "Traces that a collector has taken", &metrics.traces_exported),
            ("traces_dropped", "Traces that could not be told", &metrics.traces_dropped),
            ("rpc_calls", "JSON-RPC bodies handled", &metrics.rpc_calls),
            ("rpc_limited", "JSON-RPC bodies over the rate limit", &metrics.rpc_limited),
        ];
        for (name, help, counter) in totals {
            let family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(counter.get()).encode(family)?;
        }
        Ok(())
    }
}

fn encode_durations(durations: &Durations, mut series: MetricEncoder<'_>) -> fmt::Result {
    let ends = (0..BOUNDS).map(|bucket| bound(bucket) as f64 / 1e9).chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = ends.zip(durations.counts).collect();
    series.encode_histogram::<NoLabelSet>(durations.sum as f64 / 1e9, durations.count(), &buckets, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::TldIndex;

    #[test]
    fn the_exposition_has_labels_and_values() {
        let metrics = Arc::new(Metrics::default());
        metrics.count_query(TldIndex::OTHER, Transport::Quic, Outcome::NxDomain);
        metrics.contract_fuel.add(7);
        metrics.record(Path::Miss, Stage::Sign, 150);
        metrics.record(Path::Miss, Stage::Sign, u64::MAX / 2);
        let mut registry = Registry::with_prefix("ghostplane");
        registry.register_collector(Box::new(Families(metrics)));
        let body = exposition(&registry).into_body();
        let text = std::str::from_utf8(&body).unwrap();
        let line = "ghostplane_queries_total{transport=\"quic\",tld=\"other\",outcome=\"nxdomain\"} 1\n";
        assert!(text.contains(line), "{text}");
        assert!(text.contains("ghostplane_contract_fuel_total 7\n"), "{text}");
        let bucket = |le: &str, path, stage| {
            let labels = format!("le=\"{le}\",path=\"{path}\",stage=\"{stage}\"");
            let start = format!("ghostplane_query_stage_seconds_bucket{{{labels}}} ");
            text.lines().find_map(|line| line.strip_prefix(&start)).map(str::to_owned)
        };
        assert_eq!(bucket("1.92e-7", "miss", "sign").as_deref(), Some("1"), "{text}");
        assert_eq!(bucket("+Inf", "miss", "sign").as_deref(), Some("2"));
        assert_eq!((bucket("+Inf", "hit", "total").as_deref(), bucket("+Inf", "hit", "sign")), (Some("0"), None));
        assert!(text.ends_with("# EOF\n"));
    }
}
