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
use tokio::time::{Instant as TokioInstant, sleep_until, timeout};

use super::Network;
use super::client::{ClientError, Connection, Sessions, Target, dev_port};
use super::query::message;
use crate::wire::{Message, Name, NameError, Rcode, Rtype, Transport};

mod report;

#[derive(Debug, clap::Args)]
pub struct BenchArgs {
    /// Transport: udp (truncated answers count as they are), tcp, tls, quic, https (HTTP/2) or h3
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
    #[arg(long, value_name = "EXPONENT", requires = "names", allow_hyphen_values = true, value_parser = exponent)]
    zipf: Option<f64>,
    /// Of a hundred queries so many are for a name that was never asked for, below `--below`
    #[arg(long, value_name = "PERCENT", requires = "below", value_parser = clap::value_parser!(u32).range(1..=100))]
    misses: Option<u32>,
    /// The name that has the wildcard, without its `*.`
    #[arg(long, value_name = "NAME", requires = "misses")]
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
    /// Record type, where the file has none; that of misses
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
    /// A connection of its own, with a full handshake (not over udp and tcp)
    Handshake,
    /// A connection of its own that resumes a session (not over udp and tcp)
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

/// The exponent of a Zipf distribution.
fn exponent(text: &str) -> Result<f64, &'static str> {
    let exponent = text.parse().ok().filter(|exponent: &f64| exponent.is_finite() && *exponent >= 0.0);
    exponent.ok_or("give a finite number, 0 (all names alike) or more; 1 is usual")
}

/// Names read from a file at most.
const MAX_NAMES: usize = 10_000_000;

/// What all workers share.
struct Load {
    messages: Vec<Vec<u8>>,
    /// Cumulated weights of the messages; empty: they come in turn.
    weights: Vec<f64>,
    misses: Option<Misses>,
    rtype: Rtype,
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

/// Questions for names that nobody asked for before.
struct Misses {
    percent: u64,
    below: Name,
}

/// What one worker saw.
struct Seen {
    /// Microseconds.
    latency: Histogram<u64>,
    rcodes: BTreeMap<u16, u64>,
    errors: BTreeMap<String, u64>,
    /// Connections that came about.
    connections: u64,
    /// Those of them that resumed a session, as the server agreed.
    resumed: u64,
    /// Those of them whose first query went with the handshake, and was taken so.
    early: u64,
    /// Answers to misses.
    misses: u64,
    /// Those of them that say that there is no such name or no such record. With DO they may be NOERROR, both (RFC 9824 §3.1).
    empty: u64,
}

impl Seen {
    fn new() -> Self {
        // One microsecond to ten minutes with three digits: constants that fit.
        let latency = Histogram::new_with_bounds(1, 600_000_000, 3).expect("valid bounds");
        let (rcodes, errors) = Default::default();
        Self { latency, rcodes, errors, connections: 0, resumed: 0, early: 0, misses: 0, empty: 0 }
    }

    fn failed(&mut self, error: impl ToString) {
        *self.errors.entry(error.to_string()).or_default() += 1;
    }

    fn answered(&mut self, reply: &[u8], took: Duration, miss: bool) {
        let Some(rcode) = rcode(reply) else { return self.failed("what came is no DNS message") };
        // A time out of bounds is recorded as the bound.
        self.latency.saturating_record(took.as_micros() as u64);
        *self.rcodes.entry(rcode).or_default() += 1;
        self.misses += u64::from(miss);
        let denies = [Rcode::NoError as u16, Rcode::NxDomain as u16].contains(&rcode);
        self.empty += u64::from(miss && denies && is_empty(reply));
    }

    fn add(&mut self, other: &Self) {
        // Both have the same bounds.
        let _ = self.latency.add(&other.latency);
        other.rcodes.iter().for_each(|(code, count)| *self.rcodes.entry(*code).or_default() += count);
        other.errors.iter().for_each(|(kind, count)| *self.errors.entry(kind.clone()).or_default() += count);
        self.connections += other.connections;
        self.resumed += other.resumed;
        self.early += other.early;
        self.misses += other.misses;
        self.empty += other.empty;
    }
}

/// The response code, all 12 bits (RFC 6891 §6.1.3); `None` of what is too short for a message.
fn rcode(reply: &[u8]) -> Option<u16> {
    let header = reply.get(..12)?;
    let low = u16::from(header[3] & 0xf);
    // BADVERS and BADCOOKIE come without records. Whatever has some is not read through: that takes the load's own time.
    if !is_empty(reply) {
        return Some(low);
    }
    Some(Message::parse(reply).map_or(low, |message| message.rcode()))
}

/// The answer section has no record.
fn is_empty(reply: &[u8]) -> bool {
    reply.get(6..8) == Some(&[0, 0])
}

pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    check_shape(args.shape, args.via)?;
    let messages = messages(args)?;
    let weights = args.zipf.map_or_else(Vec::new, |exponent| zipf(messages.len(), exponent));
    let misses = args.misses.zip(args.below.as_deref()).map(|(percent, below)| misses(percent, below)).transpose()?;
    let target = args.network.target(dev_port(args.via), args.via.is_encrypted())?;
    let local = target.addr.ip().is_loopback();
    anyhow::ensure!(
        local || args.allow_remote,
        "{} is not this machine; --allow-remote if it is yours to load",
        target.addr
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let cpu_before = args.server_pid.map(cpu_seconds).transpose()?;
    let begun = Instant::now();
    let load = Arc::new(Load {
        messages,
        weights,
        misses,
        rtype: args.rtype,
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
    report::print(args, &load, &seen, elapsed, cpu);
    anyhow::ensure!(!seen.latency.is_empty(), "no answer came");
    Ok(())
}

fn check_shape(shape: Shape, via: Transport) -> anyhow::Result<()> {
    let (text, via_text) = (shape.text(), via.text());
    anyhow::ensure!(
        shape != Shape::EarlyData || via == Transport::Quic,
        "--shape {text} goes over --via quic only, not {via_text}"
    );
    anyhow::ensure!(
        shape == Shape::Steady || via.is_encrypted(),
        "--shape {text}: there is no handshake of TLS over {via_text}; ask --via tls, quic, https or h3"
    );
    Ok(())
}

fn misses(percent: u32, below: &str) -> anyhow::Result<Misses> {
    let name = Name::from_user(below).with_context(|| format!("--below: {below:?} is not a name"))?;
    fresh(&name, u64::MAX, u64::MAX).with_context(|| format!("--below {below}: there is no room below it"))?;
    Ok(Misses { percent: percent.into(), below: name })
}

/// A name that no run asked for before.
fn fresh(below: &Name, number: u64, begun_at: u64) -> Result<Name, NameError> {
    below.child(format!("x{number}-{begun_at}").as_bytes())
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
    /// The message of one query, and whether it is a miss.
    fn message(&self, number: u64) -> (Cow<'_, [u8]>, bool) {
        let random = scatter(number);
        if let Some(misses) = &self.misses
            && random % 100 < misses.percent
            && let Ok(name) = fresh(&misses.below, number, self.begun_at)
        {
            return (message(&name, self.rtype, self.dnssec, self.via.is_encrypted()).into(), true);
        }
        let index = match self.weights.last() {
            None => number as usize % self.messages.len(),
            Some(sum) => {
                let at = (scatter(random) as f64 / u64::MAX as f64) * sum;
                self.weights.partition_point(|weight| *weight < at).min(self.messages.len() - 1)
            }
        };
        (Cow::Borrowed(&self.messages[index]), false)
    }

    /// The target as one worker sees it: one that resumes sessions has its own.
    fn target(&self) -> Result<Target, ClientError> {
        match self.shape {
            Shape::Steady | Shape::Handshake => Ok(self.target.clone()),
            Shape::Resumption | Shape::EarlyData => {
                self.target.clone().remembering(self.via, self.shape == Shape::EarlyData)
            }
        }
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
    let Some(file) = &args.names else { return Ok(vec![question(args, &args.name, args.rtype)?]) };
    let shown = file.display();
    let octets = crate::node::read_bounded(file).with_context(|| format!("--names {shown}"))?;
    let text = String::from_utf8(octets).with_context(|| format!("--names {shown}"))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).take(MAX_NAMES);
    let parse = |(at, line)| parse_line(args, line).with_context(|| format!("--names {shown}: line {}", at + 1));
    let messages = lines.map(parse).collect::<anyhow::Result<Vec<_>>>()?;
    anyhow::ensure!(!messages.is_empty(), "--names {shown} holds no name");
    anyhow::ensure!(
        args.zipf.is_none() || messages.len() > 1,
        "--zipf chooses among names, and --names {shown} holds one only"
    );
    Ok(messages)
}

fn parse_line(args: &BenchArgs, line: &str) -> anyhow::Result<Vec<u8>> {
    let mut words = line.split_whitespace();
    let (name, rtype) = (words.next().unwrap_or_default(), words.next());
    anyhow::ensure!(words.next().is_none(), "{line:?} is more than a name and a record type");
    let parsed = |text: &str| text.parse().with_context(|| format!("{text:?}"));
    question(args, name, rtype.map_or(Ok(args.rtype), parsed)?)
}

fn question(args: &BenchArgs, text: &str, rtype: Rtype) -> anyhow::Result<Vec<u8>> {
    let name = Name::from_user(text).with_context(|| format!("{text:?} is not a name"))?;
    Ok(message(&name, rtype, args.dnssec, args.via.is_encrypted()))
}

async fn drive(load: Arc<Load>, connections: u32, concurrency: u32) -> Seen {
    let tasks: Vec<_> = (0..connections).map(|_| tokio::spawn(connection(load.clone(), concurrency))).collect();
    let mut all = Seen::new();
    for task in tasks {
        match task.await {
            Ok(seen) => all.add(&seen),
            Err(error) => all.failed(error),
        }
    }
    all
}

async fn connection(load: Arc<Load>, concurrency: u32) -> Seen {
    let mut all = Seen::new();
    let opened = match load.shape {
        Shape::Steady => match Connection::open(load.via, &load.target).await {
            Ok(opened) => Some(Arc::new(opened)),
            Err(error) => {
                all.failed(error);
                return all;
            }
        },
        _ => None,
    };
    all.connections += u64::from(opened.is_some());
    let begin = |_| tokio::spawn(worker(load.clone(), opened.clone()));
    let workers: Vec<_> = (0..concurrency).map(begin).collect();
    for worker in workers {
        if let Ok(seen) = worker.await {
            all.add(&seen);
        }
    }
    all
}

async fn worker(load: Arc<Load>, connection: Option<Arc<Connection>>) -> Seen {
    let mut seen = Seen::new();
    let mut newcomer = match load.target() {
        Ok(target) => Newcomer { via: load.via, target, awaits_sessions: true },
        Err(error) => {
            seen.failed(error);
            return seen;
        }
    };
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
        let (message, miss) = load.message(number);
        match &connection {
            None => newcomer.ask(&message, asked, miss, &mut seen).await,
            Some(connection) => match timeout(load.target.timeout, connection.exchange(&message)).await {
                Ok(Ok(reply)) => seen.answered(&reply, asked.elapsed(), miss),
                Ok(Err(error)) => {
                    seen.failed(error);
                    return seen;
                }
                Err(_) => seen.failed(TIMED_OUT),
            },
        }
    }
}

const TIMED_OUT: &str = "timed out";

/// One client that makes a connection for each query.
struct Newcomer {
    via: Transport,
    target: Target,
    /// The server may give sessions to resume: that it gives none was not seen yet.
    awaits_sessions: bool,
}

impl Newcomer {
    async fn ask(&mut self, message: &[u8], asked: Instant, miss: bool, seen: &mut Seen) {
        let full_before = self.full_handshakes();
        let mut opened = match timeout(self.target.timeout, self.exchange(message, seen)).await {
            Ok(Ok((opened, reply))) => {
                seen.answered(&reply, asked.elapsed(), miss);
                opened
            }
            Ok(Err(error)) => return seen.failed(error),
            Err(_) => return seen.failed(TIMED_OUT),
        };
        // An answer to early data is there before the handshake has ended.
        let accepted = timeout(self.target.timeout, opened.early_data_accepted()).await;
        seen.early += u64::from(accepted == Ok(Some(true)));
        seen.resumed += u64::from(self.target.sessions.is_some() && self.full_handshakes() == full_before);
        self.await_session().await;
    }

    async fn exchange(&self, message: &[u8], seen: &mut Seen) -> Result<(Connection, Vec<u8>), ClientError> {
        let mut opened = Connection::open(self.via, &self.target).await?;
        seen.connections += 1;
        let reply = match opened.exchange(message).await {
            // Early data that the server has not taken is lost, and sent again (RFC 9001 §4.6.2).
            Err(_) if opened.early_data_accepted().await == Some(false) => opened.exchange(message).await,
            reply => reply,
        }?;
        Ok((opened, reply))
    }

    fn full_handshakes(&self) -> u64 {
        self.target.sessions.as_ref().map_or(0, Sessions::full_handshakes)
    }

    /// Keeps the connection open until the next one has a session to resume. A server that was waited for in vain is not
    /// waited for again.
    async fn await_session(&mut self) {
        if let Some(sessions) = self.target.sessions.as_ref().filter(|_| self.awaits_sessions) {
            self.awaits_sessions = timeout(self.target.timeout, sessions.ready()).await.is_ok();
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

    #[test]
    fn response_codes_have_all_their_bits() {
        // An answer to `message`, with the extended bits of the OPT record behind the question.
        let reply = |low: u8, high: u8| {
            let mut reply = message(&Name::root(), Rtype::A, false, false);
            (reply[2], reply[3]) = (0x80, low);
            let opt = 12 + 1 + 4;
            reply[opt + 5] = high;
            reply
        };
        assert_eq!(rcode(&reply(3, 0)), Some(3));
        assert_eq!(rcode(&reply(0, 1)), Some(Rcode::BadVers as u16));
        assert_eq!(rcode(&reply(7, 1)), Some(Rcode::BadCookie as u16));
        // Cut off behind the header: what the header says.
        assert_eq!((rcode(&reply(5, 1)[..12]), rcode(&reply(0, 0)[..11])), (Some(5), None));
    }
}
