//! `ghostplane bench`: a whole-server load.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum;
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use serde_json::json;
use tokio::time::{Instant as TokioInstant, sleep_until, timeout};

use super::client::{ClientError, Connection, Target, dev_port};
use super::query::message;
use super::{Network, output};
use crate::wire::{Name, Rcode, Rtype, Transport};

#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// Transport: udp (and TCP for what is truncated), tcp, tls, quic, https (HTTP/2) or h3
    #[arg(long, default_value = "quic")]
    via: Transport,
    #[command(flatten)]
    network: Network,
    /// Connections
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Queries outstanding on each connection
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    /// What each query costs besides itself
    #[arg(long, value_enum, default_value = "steady")]
    shape: Shape,
    /// Names are asked for by a Zipf distribution with this exponent, the first of the file most often [default: in turn]
    #[arg(long, value_name = "EXPONENT")]
    zipf: Option<f64>,
    /// Of a hundred queries so many are for a name that was never asked for, below `--below`
    #[arg(long, value_name = "PERCENT", requires = "below", value_parser = clap::value_parser!(u32).range(1..=100))]
    misses: Option<u32>,
    /// A wildcard's name
    #[arg(long)]
    below: Option<String>,
    /// Queries a second in all [default: as fast as answers come]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    duration: u32,
    /// Stop after so many queries
    #[arg(long)]
    queries: Option<u64>,
    /// File of names, one a line, a record type may follow each
    #[arg(long, conflicts_with = "name")]
    names: Option<PathBuf>,
    /// The one name to ask for
    #[arg(long, default_value = "ns.ghost")]
    name: String,
    /// Record type, where the file has none
    #[arg(long = "type", default_value = "A")]
    rtype: Rtype,
    /// Ask for DNSSEC signatures (DO)
    #[arg(long)]
    dnssec: bool,
    /// Process id of the server, on this machine: its CPU time per answer is printed
    #[arg(long)]
    server_pid: Option<u32>,
    /// Let the target be another machine. Only load what is yours
    #[arg(long)]
    allow_remote: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shape {
    /// Nothing: connections stay open
    Steady,
    /// A connection of its own, with a full handshake
    Handshake,
    /// A connection of its own that resumes a session
    Resumption,
    /// A connection of its own that resumes a session, the query in its first flight (DoQ only)
    EarlyData,
}

impl Shape {
    fn text(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Handshake => "handshake",
            Self::Resumption => "resumption",
            Self::EarlyData => "early-data",
        }
    }
}

/// Names read from a file at most.
const MAX_NAMES: usize = 10_000_000;

/// What all workers share.
struct Load {
    messages: Vec<Vec<u8>>,
    /// Cumulated weights of the messages; empty: they come in turn.
    weights: Vec<f64>,
    /// Percent of misses, and below which name.
    misses: Option<(u64, Name)>,
    dnssec: bool,
    shape: Shape,
    /// Tells names of this run from those of others.
    begun_at: u64,
    target: Target,
    via: Transport,
    next: AtomicU64,
    most: u64,
    rate: Option<u32>,
    begun: Instant,
    until: Instant,
    progress: ProgressBar,
}

/// What one worker saw.
struct Seen {
    /// Microseconds.
    latency: Histogram<u64>,
    rcodes: BTreeMap<u16, u64>,
    errors: BTreeMap<String, u64>,
}

impl Seen {
    fn new() -> Self {
        // One microsecond to ten minutes with three digits: constants that fit.
        let latency = Histogram::new_with_bounds(1, 600_000_000, 3).expect("valid bounds");
        Self { latency, rcodes: BTreeMap::new(), errors: BTreeMap::new() }
    }

    fn add(&mut self, other: &Self) {
        // Both have the same bounds.
        let _ = self.latency.add(&other.latency);
        other.rcodes.iter().for_each(|(code, count)| *self.rcodes.entry(*code).or_default() += count);
        other.errors.iter().for_each(|(kind, count)| *self.errors.entry(kind.clone()).or_default() += count);
    }
}

pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let target = args.network.target(dev_port(args.via), args.via.is_encrypted())?;
    let local = target.addr.ip().is_loopback();
    anyhow::ensure!(
        local || args.allow_remote,
        "{} is not this machine; --allow-remote if it is yours to load",
        target.addr
    );
    let target = prepare(target, args)?;
    let messages = messages(args)?;
    let weights = args.zipf.map_or_else(Vec::new, |exponent| zipf(messages.len(), exponent));
    let below = args.below.as_deref().map(Name::from_user).transpose().context("--below")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let cpu_before = args.server_pid.map(cpu_seconds).transpose()?;
    let begun = Instant::now();
    let load = Arc::new(Load {
        messages,
        weights,
        misses: args.misses.map(u64::from).zip(below),
        dnssec: args.dnssec,
        shape: args.shape,
        begun_at: super::clock::unix_time(),
        target,
        via: args.via,
        next: AtomicU64::new(0),
        most: args.queries.unwrap_or(u64::MAX),
        rate: args.rate,
        begun,
        until: begun + Duration::from_secs(u64::from(args.duration)),
        progress: ProgressBar::new_spinner().with_message("loading"),
    });
    load.progress.enable_steady_tick(Duration::from_millis(200));
    let seen = runtime.block_on(drive(load.clone(), args.connections, args.concurrency));
    let elapsed = begun.elapsed();
    load.progress.finish_and_clear();
    let cpu = match (args.server_pid, cpu_before) {
        (Some(pid), Some(before)) => Some(cpu_seconds(pid)? - before),
        _ => None,
    };
    print(args, &seen, elapsed, cpu);
    anyhow::ensure!(!seen.latency.is_empty(), "no answer came");
    Ok(())
}

/// A target whose sessions are kept, where the shape wants that.
fn prepare(target: Target, args: &BenchArgs) -> anyhow::Result<Target> {
    let early = args.shape == Shape::EarlyData;
    anyhow::ensure!(!early || args.via == Transport::Quic, "--shape early-data goes over --via quic only");
    match args.shape {
        Shape::Resumption | Shape::EarlyData if args.via.is_encrypted() => Ok(target.remembering(args.via, early)?),
        _ => Ok(target),
    }
}

/// Cumulated weights 1, 1/2^s, 1/3^s and so on.
fn zipf(count: usize, exponent: f64) -> Vec<f64> {
    let mut sum = 0.0;
    let weight = |rank: usize| (rank as f64).powf(-exponent);
    (1..=count)
        .map(weight)
        .map(|weight| {
            sum += weight;
            sum
        })
        .collect()
}

impl Load {
    /// The message of one query.
    fn message(&self, number: u64) -> Cow<'_, [u8]> {
        let random = scatter(number);
        if let Some((percent, below)) = &self.misses
            && random % 100 < *percent
            && let Ok(name) = below.child(format!("x{number}-{}", self.begun_at).as_bytes())
        {
            return message(&name, Rtype::A, self.dnssec, self.via.is_encrypted()).into();
        }
        let index = match self.weights.last() {
            None => number as usize % self.messages.len(),
            Some(sum) => {
                let at = (scatter(random) as f64 / u64::MAX as f64) * sum;
                self.weights.partition_point(|weight| *weight < at).min(self.messages.len() - 1)
            }
        };
        Cow::Borrowed(&self.messages[index])
    }
}

/// Numbers that look random and are the same in each run (splitmix64).
fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn messages(args: &BenchArgs) -> anyhow::Result<Vec<Vec<u8>>> {
    let padded = args.via.is_encrypted();
    let one = |text: &str, rtype: Rtype| -> anyhow::Result<Vec<u8>> {
        let name = Name::from_user(text).with_context(|| format!("{text:?} is not a name"))?;
        Ok(message(&name, rtype, args.dnssec, padded))
    };
    let Some(file) = &args.names else { return Ok(vec![one(&args.name, args.rtype)?]) };
    let text = String::from_utf8(crate::node::read_bounded(file)?).with_context(|| file.display().to_string())?;
    let lines = text.lines().filter(|line| !line.trim().is_empty()).take(MAX_NAMES);
    let parse = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, rtype) = (words.next().unwrap_or_default(), words.next());
        one(name, rtype.map_or(Ok(args.rtype), str::parse)?)
    };
    let messages = lines.map(parse).collect::<anyhow::Result<Vec<_>>>()?;
    anyhow::ensure!(!messages.is_empty(), "{} holds no name", file.display());
    Ok(messages)
}

async fn drive(load: Arc<Load>, connections: u32, concurrency: u32) -> Seen {
    let tasks: Vec<_> = (0..connections).map(|_| tokio::spawn(connection(load.clone(), concurrency))).collect();
    let mut all = Seen::new();
    for task in tasks {
        match task.await {
            Ok(seen) => all.add(&seen),
            Err(error) => *all.errors.entry(error.to_string()).or_default() += 1,
        }
    }
    all
}

async fn connection(load: Arc<Load>, concurrency: u32) -> Seen {
    let mut all = Seen::new();
    let opened = match load.shape {
        Shape::Steady => Connection::open(load.via, &load.target).await.map(|opened| Some(Arc::new(opened))),
        _ => Ok(None),
    };
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) => {
            *all.errors.entry(error.to_string()).or_default() += 1;
            return all;
        }
    };
    let workers: Vec<_> = (0..concurrency).map(|_| tokio::spawn(worker(load.clone(), opened.clone()))).collect();
    for worker in workers {
        if let Ok(seen) = worker.await {
            all.add(&seen);
        }
    }
    all
}

/// Asks over `connection`, or over one of its own each time.
async fn ask(load: &Load, connection: Option<&Connection>, message: &[u8]) -> Result<Vec<u8>, ClientError> {
    match connection {
        Some(connection) => connection.exchange(message).await,
        None => Connection::open(load.via, &load.target).await?.exchange(message).await,
    }
}

async fn worker(load: Arc<Load>, connection: Option<Arc<Connection>>) -> Seen {
    let mut seen = Seen::new();
    loop {
        let number = load.next.fetch_add(1, Ordering::Relaxed);
        if number >= load.most || Instant::now() >= load.until {
            return seen;
        }
        let mut asked = Instant::now();
        if let Some(rate) = load.rate {
            let due = load.begun + Duration::from_secs_f64(number as f64 / f64::from(rate));
            if due >= load.until {
                return seen;
            }
            sleep_until(TokioInstant::from_std(due)).await;
            // A query that is sent late has waited: its latency counts from when it was due.
            asked = due;
        }
        let message = load.message(number);
        match timeout(load.target.timeout, ask(&load, connection.as_deref(), &message)).await {
            Ok(Ok(reply)) => {
                // A time out of bounds is recorded as the bound.
                seen.latency.saturating_record(asked.elapsed().as_micros() as u64);
                let rcode = reply.get(3).map_or(0, |flags| u16::from(flags & 0xf));
                *seen.rcodes.entry(rcode).or_default() += 1;
            }
            Ok(Err(error)) => {
                *seen.errors.entry(error.to_string()).or_default() += 1;
                if load.shape == Shape::Steady {
                    return seen;
                }
            }
            Err(_) => *seen.errors.entry("timed out".to_owned()).or_default() += 1,
        }
    }
}

/// Seconds of CPU that a process has used, all threads, user and system.
fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let path = Path::new("/proc").join(pid.to_string()).join("stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("--server-pid: {}", path.display()))?;
    // Behind the command in parentheses; utime and stime are fields 14 and 15, in hundredths on Linux.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    Ok((ticks(11) + ticks(12)) / 100.0)
}

fn print(args: &BenchArgs, seen: &Seen, elapsed: Duration, cpu: Option<f64>) {
    let answers = seen.latency.len();
    let rate = answers as f64 / elapsed.as_secs_f64();
    let at = |quantile: f64| seen.latency.value_at_quantile(quantile);
    let (p50, p90, p99, p999, max) = (at(0.5), at(0.9), at(0.99), at(0.999), seen.latency.max());
    let cpu_each = cpu.filter(|_| answers > 0).map(|cpu| cpu * 1e6 / answers as f64);
    let rcodes: BTreeMap<String, u64> = seen.rcodes.iter().map(|(code, count)| (Rcode::text(*code), *count)).collect();
    if args.json {
        let value = json!({
            "via": args.via.text(), "shape": args.shape.text(), "connections": args.connections, "concurrency": args.concurrency,
            "seconds": elapsed.as_secs_f64(), "answers": answers, "answers_per_second": rate,
            "latency_us": { "p50": p50, "p90": p90, "p99": p99, "p99.9": p999, "max": max },
            "rcodes": rcodes, "errors": seen.errors, "server_cpu_us_per_answer": cpu_each,
        });
        return println!("{value:#}");
    }
    let list = |counts: &BTreeMap<String, u64>| {
        counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
    };
    let mut facts = vec![
        (
            "load",
            format!("{} x {} over {}, {}", args.connections, args.concurrency, args.via.text(), args.shape.text()),
        ),
        ("answers", format!("{answers} in {:.1} s, {rate:.0} a second", elapsed.as_secs_f64())),
        ("latency", format!("p50 {p50} us, p90 {p90} us, p99 {p99} us, p99.9 {p999} us, max {max} us")),
        ("codes", list(&rcodes)),
        ("errors", if seen.errors.is_empty() { "none".to_owned() } else { list(&seen.errors) }),
    ];
    if let Some(cpu) = cpu_each {
        facts.push(("server CPU", format!("{cpu:.1} us an answer")));
    }
    print!("{}", output::facts(&facts));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_a_zipf_distribution_is_asked_for_most() {
        let weights = zipf(3, 1.0);
        assert_eq!(weights, [1.0, 1.5, 1.5 + 1.0 / 3.0]);
        let numbers: std::collections::HashSet<_> = (0..1_000).map(scatter).collect();
        assert_eq!(numbers.len(), 1_000);
    }
}
