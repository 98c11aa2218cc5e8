//! `ghostplane top`: what a server does now, from its metrics.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use clap::ArgAction;
use http::Uri;
use serde_json::{Value, json};

use super::output;
use crate::metrics::{Path, Stage};
use crate::observe::plain;

#[derive(Debug, clap::Args)]
pub struct TopArgs {
    /// HOST:PORT of the server's metrics
    #[arg(long, default_value = "127.0.0.1:9530", value_name = "HOST:PORT")]
    metrics: String,
    /// Seconds between two looks
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    interval: u64,
    /// Print one interval and stop
    #[arg(long, action = ArgAction::SetTrue)]
    once: bool,
    /// Print one JSON object a line for each interval
    #[arg(long)]
    json: bool,
}

/// A server that does not answer in time is not looked at.
const PATIENCE: Duration = Duration::from_secs(5);

/// Moves to the corner of the terminal and clears it.
const CLEAR: &str = "\x1b[H\x1b[2J";

pub fn run(args: &TopArgs) -> anyhow::Result<()> {
    let uri: Uri = format!("http://{}/metrics", args.metrics).parse().context("--metrics")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let look = || -> anyhow::Result<(Instant, Scrape)> {
        let body =
            runtime.block_on(plain::get(&uri, PATIENCE)).with_context(|| format!("--metrics {}", args.metrics))?;
        Ok((Instant::now(), Scrape::read(&String::from_utf8_lossy(&body))))
    };
    let clear = !args.json && !args.once && std::io::stdout().is_terminal();
    let mut before = look()?;
    loop {
        std::thread::sleep(Duration::from_secs(args.interval));
        match look() {
            Ok(after) => {
                let view = View { seconds: (after.0 - before.0).as_secs_f64(), before: &before.1, after: &after.1 };
                let shown = if args.json { view.json().to_string() + "\n" } else { view.text(&args.metrics) };
                print!("{}{shown}", if clear { CLEAR } else { "" });
                std::io::stdout().flush()?;
                before = after;
            }
            Err(error) if args.once => return Err(error),
            // It may be on its way up again.
            Err(error) => output::print_error(&error),
        }
        if args.once {
            return Ok(());
        }
    }
}

/// The values of one exposition.
#[derive(Debug, Default)]
struct Scrape {
    samples: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Scrape {
    /// Lines that are no samples are passed over.
    fn read(text: &str) -> Self {
        Self { samples: text.lines().filter_map(Sample::read).collect() }
    }

    fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.name == name)
    }

    /// All samples of a name, added up.
    fn sum(&self, name: &str) -> f64 {
        self.of(name).map(|sample| sample.value).sum()
    }

    /// The same for each value of a label.
    fn sums(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for sample in self.of(name) {
            let value = sample.labels.get(label).cloned().unwrap_or_default();
            *sums.entry(value).or_default() += sample.value;
        }
        sums
    }

    /// How many took up to so many seconds, by these bounds in order.
    fn buckets(&self, path: &str, stage: &str) -> Vec<(f64, f64)> {
        let is =
            |sample: &&Sample, label: &str, value: &str| sample.labels.get(label).is_some_and(|found| found == value);
        let samples = self.of("ghostplane_query_stage_seconds_bucket");
        let samples = samples.filter(|sample| is(sample, "path", path) && is(sample, "stage", stage));
        let bucket = |sample: &Sample| Some((sample.labels.get("le")?.parse().ok()?, sample.value));
        let mut buckets: Vec<(f64, f64)> = samples.filter_map(bucket).collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        buckets
    }
}

impl Sample {
    fn read(line: &str) -> Option<Self> {
        let (series, value) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let mut rest = labels.strip_suffix('}')?;
        let mut found = BTreeMap::new();
        while let Some((label, tail)) = rest.split_once("=\"") {
            // Values with quotation marks in them are none of ours.
            let (value, tail) = tail.split_once('"')?;
            found.insert(label.trim_start_matches(',').to_owned(), value.to_owned());
            rest = tail;
        }
        Some(Self { name: name.to_owned(), labels: found, value: value.parse().ok()? })
    }
}

/// What happened between two looks.
struct View<'a> {
    seconds: f64,
    before: &'a Scrape,
    after: &'a Scrape,
}

impl View<'_> {
    /// What a counter has grown by a second; nothing if the server began anew.
    fn rate(&self, name: &str) -> f64 {
        per(self.seconds, self.before.sum(name), self.after.sum(name))
    }

    fn rates(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let before = self.before.sums(name, label);
        let rate = |(value, after): (String, f64)| {
            let rate = per(self.seconds, before.get(&value).copied().unwrap_or_default(), after);
            (value, rate)
        };
        self.after.sums(name, label).into_iter().map(rate).collect()
    }

    /// Of what was looked for in the cache, what was there.
    fn hit_ratio(&self) -> Option<f64> {
        let (hits, misses) = (self.rate("ghostplane_cache_hits_total"), self.rate("ghostplane_cache_misses_total"));
        (hits + misses > 0.0).then(|| hits / (hits + misses))
    }

    /// Seconds within which so many of a stage were done; `None` if there was none.
    fn quantile(&self, path: &str, stage: &str, quantile: f64) -> Option<f64> {
        let (before, after) = (self.before.buckets(path, stage), self.after.buckets(path, stage));
        let grown = |at: usize| after[at].1 - before.get(at).map_or(0.0, |bucket| bucket.1);
        let counts: Vec<(f64, f64)> = (0..after.len()).map(|at| (after[at].0, grown(at).max(0.0))).collect();
        within(&counts, quantile)
    }

    fn latencies(&self) -> Vec<(&'static str, &'static str, Option<[f64; 2]>)> {
        let mut all = Vec::new();
        for (path, path_label) in Path::ALL {
            for (_, stage_label) in Stage::ALL.into_iter().filter(|(stage, _)| stage.is_on(path)) {
                let at = |quantile| self.quantile(path_label, stage_label, quantile);
                let both = at(0.5).zip(at(0.99)).map(|(p50, p99)| [p50, p99]);
                all.push((path_label, stage_label, both));
            }
        }
        all
    }

    /// Cores that the process kept busy; `None` where it cannot be known.
    fn cores(&self) -> Option<f64> {
        self.after.of("process_cpu_seconds_total").next()?;
        Some(self.rate("process_cpu_seconds_total"))
    }

    fn memory(&self) -> Option<f64> {
        self.after.of("process_resident_memory_bytes").next().map(|sample| sample.value)
    }

    fn json(&self) -> Value {
        let mut latency = json!({});
        for (path, stage, both) in self.latencies() {
            latency[path][stage] = both.map_or(Value::Null, |[p50, p99]| json!({"p50": p50, "p99": p99}));
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        json!({
            "time": now,
            "seconds": self.seconds,
            "queries": self.rate("ghostplane_queries_total"),
            "by_transport": self.rates("ghostplane_queries_total", "transport"),
            "by_outcome": self.rates("ghostplane_queries_total", "outcome"),
            "by_tld": self.rates("ghostplane_queries_total", "tld"),
            "hit_ratio": self.hit_ratio(),
            "latency": latency,
            "connections": self.after.sums("ghostplane_connections", "transport"),
            "connections_refused": self.rate("ghostplane_connections_refused_total"),
            "shed": self.rate("ghostplane_misses_shed_total"),
            "responses_limited": self.rate("ghostplane_responses_limited_total"),
            "contract_failures": self.rates("ghostplane_contract_failures_total", "kind"),
            "cpu_cores": self.cores(),
            "memory_bytes": self.memory(),
        })
    }

    fn text(&self, server: &str) -> String {
        let failures: f64 = self.rates("ghostplane_contract_failures_total", "kind").values().sum();
        let unknown = || "?".to_owned();
        let head = format!(
            "{server}  {:.1} s  CPU {} cores  memory {} MiB\n{:.0} queries/s  hits {}  shed {:.0}/s  limited {:.0}/s  refused connections {:.0}/s  contract failures {failures:.0}/s\n\n",
            self.seconds,
            self.cores().map_or_else(unknown, |cores| format!("{cores:.2}")),
            self.memory().map_or_else(unknown, |octets| format!("{:.0}", octets / 1_048_576.0)),
            self.rate("ghostplane_queries_total"),
            self.hit_ratio().map_or_else(unknown, |ratio| format!("{:.1}%", ratio * 100.0)),
            self.rate("ghostplane_misses_shed_total"),
            self.rate("ghostplane_responses_limited_total"),
            self.rate("ghostplane_connections_refused_total"),
        );
        [head, self.transports(), self.shares("outcome"), self.shares("tld"), self.stages()].concat()
    }

    fn transports(&self) -> String {
        let connections = self.after.sums("ghostplane_connections", "transport");
        let mut rows = vec![["transport", "queries/s", "connections"].map(str::to_owned).to_vec()];
        for (transport, rate) in self.rates("ghostplane_queries_total", "transport") {
            let open = connections.get(&transport).copied().unwrap_or_default();
            rows.push(vec![output::plain(&transport), format!("{rate:.0}"), format!("{open:.0}")]);
        }
        output::align(&rows) + "\n"
    }

    /// Of what there was anything of.
    fn shares(&self, label: &str) -> String {
        let mut rows = vec![vec![label.to_owned(), "queries/s".to_owned()]];
        let some = self.rates("ghostplane_queries_total", label).into_iter().filter(|(_, rate)| *rate > 0.0);
        rows.extend(some.map(|(value, rate)| vec![output::plain(&value), format!("{rate:.0}")]));
        output::align(&rows) + "\n"
    }

    fn stages(&self) -> String {
        let mut rows = vec![["path", "stage", "p50", "p99"].map(str::to_owned).to_vec()];
        for (path, stage, both) in self.latencies() {
            let [p50, p99] = both.map_or_else(|| ["-".to_owned(), "-".to_owned()], |both| both.map(duration));
            rows.push(vec![path.to_owned(), stage.to_owned(), p50, p99]);
        }
        output::align(&rows)
    }
}

fn per(seconds: f64, before: f64, after: f64) -> f64 {
    if seconds > 0.0 { (after - before).max(0.0) / seconds } else { 0.0 }
}

/// Where the quantile is, by cumulative counts; evenly within a bucket. Above the last bound it is that bound.
fn within(cumulative: &[(f64, f64)], quantile: f64) -> Option<f64> {
    let all = cumulative.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
    let rank = all * quantile;
    let (mut below, mut counted) = (0.0, 0.0);
    for &(bound, count) in cumulative {
        if count >= rank {
            let share = if count > counted { (rank - counted) / (count - counted) } else { 1.0 };
            return Some(if bound.is_finite() { below + (bound - below) * share } else { below });
        }
        (below, counted) = (bound, count);
    }
    Some(below)
}

/// In the unit that fits.
fn duration(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 1e-6 => format!("{:.0} ns", seconds * 1e9),
        seconds if seconds < 1e-3 => format!("{:.1} us", seconds * 1e6),
        seconds if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        seconds => format!("{seconds:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_looks_make_rates() {
        let look = |udp: u32, tcp: u32, hits: u32| {
            Scrape::read(&format!(
                "# HELP x y\nghostplane_queries_total{{transport=\"udp\",outcome=\"noerror\"}} {udp}\n\
                 ghostplane_queries_total{{transport=\"tcp\",outcome=\"noerror\"}} {tcp}\n\
                 ghostplane_cache_hits_total {hits}\nghostplane_cache_misses_total 7\nbroken{{x=\"y}} 1\nnothing\n"
            ))
        };
        let (before, after) = (look(10, 5, 0), look(30, 4, 9));
        let view = View { seconds: 2.0, before: &before, after: &after };
        let rates = view.rates("ghostplane_queries_total", "transport");
        assert_eq!((rates["udp"], rates["tcp"]), (10.0, 0.0), "a counter that fell began anew");
        assert_eq!((view.hit_ratio(), view.cores()), (Some(1.0), None));
        assert_eq!(before.samples.len(), 4);
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let counts = [(1.0, 0.0), (2.0, 50.0), (4.0, 100.0), (f64::INFINITY, 100.0)];
        assert_eq!([0.25, 0.5, 0.75, 1.0].map(|quantile| within(&counts, quantile)), [1.5, 2.0, 3.0, 4.0].map(Some));
        assert_eq!(within(&[(1.0, 0.0), (f64::INFINITY, 3.0)], 0.5), Some(1.0));
        assert_eq!((within(&[], 0.5), within(&[(1.0, 0.0)], 0.5)), (None, None));
        assert_eq!(duration(2.5e-7) + &duration(0.0025), "250 ns2.5 ms");
    }
}
