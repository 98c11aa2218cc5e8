//! Traces of some queries: a line in the log each, and spans for a collector (OTLP).
//!
//! ```text
//! query path ─ Tracer::tell ─ queue, bounded ─ "traces" thread ─┬─ log, target ghostplane::trace
//!                   └ full: counted                             └─ batch ─ POST to the collector
//! ```

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::dnstap::told;
use super::plain;
use super::queue::{Intake, Next, Outlet, queue};
use crate::config::{Addresses, Share, TraceConfig};
use crate::gateway::Client;
use crate::limits::{TRACE_BATCH, TRACE_QUEUE, TRACE_QUEUE_BYTES};
use crate::metrics::{Metrics, Path, Stage};
use crate::stopwatch::{Laps, nanos_between};
use crate::threads::tireless;
use crate::wire::{HEADER, Name, Rcode, Rtype, u16_at};

/// A batch leaves at the latest so long after its first trace.
const BATCH_AFTER: Duration = Duration::from_secs(1);
/// A collector that takes longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is to become a trace.
#[derive(Debug)]
pub struct Traced {
    pub client: Client,
    /// Since 1970.
    pub began: Duration,
    pub question: Question,
    pub path: Option<Path>,
    pub rcode: Rcode,
    /// Octets of the answer.
    pub size: usize,
    pub laps: Laps,
}

/// The question section as it came, or the message if it has none.
#[derive(Debug)]
pub struct Question(Box<[u8]>);

impl Question {
    /// Octets only: whoever asks waits.
    pub fn of(message: &[u8]) -> Self {
        let end = message.len().min(HEADER + MAX_QUESTION);
        Self(message[HEADER.min(end)..end].into())
    }

    fn read(&self) -> Option<(Name, Rtype)> {
        let (name, at) = Name::from_wire_prefix(&self.0).ok()?;
        let rtype = self.0.get(at..at + 2)?;
        Some((name, Rtype(u16_at(rtype, 0))))
    }
}

/// Octets of a name, type and class.
const MAX_QUESTION: usize = crate::limits::MAX_NAME + 4;

/// What the query path tells of queries to.
#[derive(Debug)]
pub struct Tracer {
    intake: Intake<Traced>,
    sample: Share,
}

impl Tracer {
    /// Starts the thread. It stops when the flag is set and all has left. Ids of traces are made from `seed`.
    ///
    /// # Errors
    /// There is no thread to be had, or no runtime for it.
    pub fn start(
        config: TraceConfig,
        seed: [u8; 32],
        service: String,
        metrics: Arc<Metrics>,
        stopping: Arc<AtomicBool>,
    ) -> io::Result<(Self, thread::JoinHandle<()>)> {
        let (intake, outlet) = queue(TRACE_QUEUE, TRACE_QUEUE_BYTES, stopping);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let exporter =
            config.otlp.map(|collector| Exporter { collector, runtime, batch: Vec::new(), traces: 0, due: None });
        let ids = Ids { seed, count: 0 };
        let mut teller = Teller { exporter, ids, service, addresses: config.addresses, metrics };
        let thread = tireless("traces", move || teller.run(&outlet))?;
        Ok((Self { intake, sample: config.sample }, thread))
    }

    /// True if the query with this number is to be told of.
    pub fn wants(&self, tick: u32) -> bool {
        self.sample.has(tick)
    }

    /// Takes note of a query, or forgets it if too many are waiting.
    pub fn tell(&self, metrics: &Metrics, traced: Traced) {
        let octets = traced.question.0.len() + size_of::<Traced>();
        self.intake.put(traced, octets, &metrics.traces_dropped);
    }
}

/// What the thread does.
struct Teller {
    exporter: Option<Exporter>,
    ids: Ids,
    service: String,
    addresses: Addresses,
    metrics: Arc<Metrics>,
}

impl Teller {
    fn run(&mut self, outlet: &Outlet<Traced>) {
        loop {
            match outlet.next(BATCH_AFTER / 4) {
                Next::Item(traced) => self.tell(&traced),
                Next::Pause => {}
                Next::Stop => break,
            }
            self.export(false);
        }
        self.export(true);
    }

    fn tell(&mut self, traced: &Traced) {
        let shown = Shown::of(traced, self.addresses);
        tracing::info!(
            target: "ghostplane::trace",
            name = %shown.name,
            rtype = %shown.rtype,
            transport = traced.client.transport.text(),
            client = %shown.client,
            path = shown.path,
            rcode = ?traced.rcode,
            size = traced.size,
            stages = %shown.stages(traced),
            "query"
        );
        if let Some(exporter) = &mut self.exporter {
            exporter.batch.extend(spans(traced, &shown, &mut self.ids));
            exporter.due.get_or_insert_with(|| Instant::now() + BATCH_AFTER);
            exporter.traces += 1;
        }
    }

    /// Sends the batch, if it is time to.
    fn export(&mut self, now: bool) {
        let Some(exporter) = &mut self.exporter else { return };
        let Some((spans, traces)) = exporter.take(now) else { return };
        match exporter.send(&request(&self.service, spans)) {
            Ok(()) => self.metrics.traces_exported.add(traces),
            Err(error) => {
                self.metrics.traces_dropped.add(traces);
                tracing::warn!(%error, collector = %exporter.collector, "traces cannot be exported");
            }
        }
    }
}

/// What is told of a query, as text.
struct Shown {
    name: String,
    rtype: String,
    client: String,
    path: &'static str,
}

impl Shown {
    fn of(traced: &Traced, addresses: Addresses) -> Self {
        let question = traced.question.read();
        let (name, rtype) =
            question.map_or_else(Default::default, |(name, rtype)| (name.to_string(), rtype.to_string()));
        let client = told(traced.client.addr, addresses).to_string();
        Self { name, rtype, client, path: traced.path.map_or("none", Path::text) }
    }

    /// `parse=1.2us cache=0.3us …`
    fn stages(&self, traced: &Traced) -> String {
        let mut text = String::new();
        for (stage, label) in Stage::ALL {
            if let Some(lap) = traced.laps.of(stage) {
                let gap = if text.is_empty() { "" } else { " " };
                // Writing to a string cannot fail.
                let _ = write!(text, "{gap}{label}={:.1}us", lap.nanos as f64 / 1e3);
            }
        }
        text
    }
}

/// Ids that nobody else makes: hashes of a secret seed and a number.
struct Ids {
    seed: [u8; 32],
    count: u64,
}

impl Ids {
    /// In hexadecimal digits.
    fn next(&mut self, octets: usize) -> String {
        self.count += 1;
        let hash = Sha256::new().chain_update(self.seed).chain_update(self.count.to_be_bytes()).finalize();
        data_encoding::HEXLOWER.encode(&hash[..octets])
    }
}

/// The span of a query, and those of its stages within it (OTLP 1, trace.proto, in JSON).
fn spans(traced: &Traced, shown: &Shown, ids: &mut Ids) -> Vec<Value> {
    let (trace, root) = (ids.next(16), ids.next(8));
    let began = traced.began.as_nanos();
    let total = traced.laps.of(Stage::Total).map_or(0, |lap| lap.nanos);
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let mut spans = vec![json!({
        "traceId": trace,
        "spanId": root,
        "name": "query",
        // SPAN_KIND_SERVER
        "kind": 2,
        "startTimeUnixNano": began.to_string(),
        "endTimeUnixNano": (began + u128::from(total)).to_string(),
        "attributes": [
            text("dns.question.name", &shown.name),
            text("dns.question.type", &shown.rtype),
            text("dns.response.code", &format!("{:?}", traced.rcode)),
            text("network.transport", traced.client.transport.text()),
            text("client.address", &shown.client),
            text("ghostplane.path", shown.path),
            json!({"key": "dns.response.size", "value": {"intValue": traced.size.to_string()}}),
        ],
    })];
    for (stage, label) in Stage::ALL.into_iter().filter(|(stage, _)| *stage != Stage::Total) {
        let Some(lap) = traced.laps.of(stage) else { continue };
        let start = began + u128::from(nanos_between(traced.laps.started, lap.began));
        spans.push(json!({
            "traceId": trace,
            "spanId": ids.next(8),
            "parentSpanId": root,
            "name": label,
            // SPAN_KIND_INTERNAL
            "kind": 1,
            "startTimeUnixNano": start.to_string(),
            "endTimeUnixNano": (start + u128::from(lap.nanos)).to_string(),
        }));
    }
    spans
}

/// An ExportTraceServiceRequest.
fn request(service: &str, spans: Vec<Value>) -> Value {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let resource = [
        text("service.name", "ghostplane"),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("service.instance.id", service),
    ];
    json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{"scope": {"name": "ghostplane"}, "spans": spans}],
    }]})
}

/// Sends spans to a collector.
struct Exporter {
    collector: http::Uri,
    runtime: tokio::runtime::Runtime,
    batch: Vec<Value>,
    /// Traces in the batch.
    traces: u64,
    due: Option<Instant>,
}

impl Exporter {
    /// The batch and the number of its traces, if it is full, or old enough, or must leave now.
    fn take(&mut self, now: bool) -> Option<(Vec<Value>, u64)> {
        let due = now || self.traces >= TRACE_BATCH || self.due.is_some_and(|due| due <= Instant::now());
        if !due || self.batch.is_empty() {
            return None;
        }
        self.due = None;
        Some((std::mem::take(&mut self.batch), std::mem::take(&mut self.traces)))
    }

    fn send(&self, request: &Value) -> Result<(), plain::PlainError> {
        let post = plain::post_json(&self.collector, request.to_string().into(), PATIENCE);
        self.runtime.block_on(post).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::wire::Transport;

    fn traced() -> Traced {
        let begin = Instant::now();
        let at = |nanos| begin + Duration::from_nanos(nanos);
        let mut laps = Laps::starting(begin);
        laps.lap(Stage::Parse, at(100));
        laps.lap(Stage::Cache, at(300));
        laps.add(Stage::Total, begin, at(5_000));
        let client = Client::new(Transport::Quic, IpAddr::V4(Ipv4Addr::new(192, 0, 2, 77)));
        let question = Question::of(b"\0\0\0\0\0\x01\0\0\0\0\0\0\x05alice\x05ghost\0\0\x01\0\x01");
        let began = Duration::from_nanos(1_000);
        Traced { client, began, question, path: Some(Path::Hit), rcode: Rcode::NoError, size: 40, laps }
    }

    #[test]
    fn a_trace_is_a_span_with_its_stages_inside() {
        let (traced, mut ids) = (traced(), Ids { seed: [1; 32], count: 0 });
        let shown = Shown::of(&traced, Addresses::Truncated);
        assert_eq!(
            (shown.name.as_str(), shown.rtype.as_str(), shown.client.as_str()),
            ("alice.ghost.", "A", "192.0.2.0")
        );
        assert_eq!(shown.stages(&traced), "parse=0.1us cache=0.2us total=5.0us");
        let spans = spans(&traced, &shown, &mut ids);
        let told: Vec<_> = spans
            .iter()
            .map(|span| {
                let text = |key: &str| span[key].as_str().unwrap().to_owned();
                (text("name"), text("startTimeUnixNano"), text("endTimeUnixNano"))
            })
            .collect();
        let expected = [("query", "1000", "6000"), ("parse", "1000", "1100"), ("cache", "1100", "1300")];
        assert_eq!(told, expected.map(|(name, start, end)| (name.into(), start.into(), end.into())));
        assert!(spans[1..].iter().all(|span| span["parentSpanId"] == spans[0]["spanId"]));
        assert!(spans.iter().all(|span| span["traceId"] == spans[0]["traceId"]));
        assert_ne!(spans[1]["spanId"], spans[2]["spanId"]);
    }

    #[test]
    fn what_is_no_question_has_no_name() {
        for octets in [&b""[..], &[0; 5], &[0; 12], &[255; 400]] {
            assert!(Question::of(octets).read().is_none());
        }
    }
}
