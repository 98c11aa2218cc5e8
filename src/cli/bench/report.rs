//! What a run of `ghostplane bench` is told as.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::super::output;
use super::{BenchArgs, Load, Seen, Shape};
use crate::wire::Rcode;

/// Prints what was asked and what came, and on standard error what is not as it was asked for. `cpu` is in seconds.
pub fn print(args: &BenchArgs, load: &Load, seen: &Seen, elapsed: Duration, cpu: Option<f64>) {
    let answers = seen.latency.len();
    let cpu_each = cpu.filter(|_| answers > 0).map(|cpu| cpu * 1e6 / answers as f64);
    if args.json {
        println!("{:#}", as_json(args, load, seen, elapsed, cpu_each));
    } else {
        print!("{}", as_text(args, load, seen, elapsed, cpu_each));
    }
    for warning in [few_resumed(args, seen), few_early(args, seen), no_wildcard(args, load, seen)].into_iter().flatten()
    {
        eprintln!("warning: {warning}");
    }
}

/// Answers a second.
fn rate(seen: &Seen, elapsed: Duration) -> f64 {
    seen.latency.len() as f64 / elapsed.as_secs_f64()
}

fn rcodes(seen: &Seen) -> BTreeMap<String, u64> {
    seen.rcodes.iter().map(|(code, count)| (Rcode::text(*code), *count)).collect()
}

fn as_json(args: &BenchArgs, load: &Load, seen: &Seen, elapsed: Duration, cpu_each: Option<f64>) -> Value {
    let at = |quantile: f64| seen.latency.value_at_quantile(quantile);
    let misses = load.misses.as_ref().map(|misses| {
        json!({
            "percent": misses.percent, "below": misses.below.to_string(), "answers": seen.misses, "empty": seen.empty,
        })
    });
    json!({
        "via": args.via.text(), "shape": args.shape.text(), "connections": args.connections, "concurrency": args.concurrency,
        "names": load.messages.len(), "type": args.rtype.to_string(), "zipf": args.zipf, "misses": misses,
        "dnssec": args.dnssec, "rate": args.rate,
        "opened": seen.connections, "resumed": seen.resumed, "early_data_accepted": seen.early,
        "seconds": elapsed.as_secs_f64(), "answers": seen.latency.len(), "answers_per_second": rate(seen, elapsed),
        "latency_us": {
            "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p99.9": at(0.999), "max": seen.latency.max(),
        },
        "rcodes": rcodes(seen), "errors": seen.errors, "server_cpu_us_per_answer": cpu_each,
    })
}

fn as_text(args: &BenchArgs, load: &Load, seen: &Seen, elapsed: Duration, cpu_each: Option<f64>) -> String {
    let at = |quantile: f64| seen.latency.value_at_quantile(quantile);
    let (p50, p90, p99, p999, max) = (at(0.5), at(0.9), at(0.99), at(0.999), seen.latency.max());
    let list = |counts: &BTreeMap<String, u64>| {
        counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect::<Vec<_>>().join(", ")
    };
    let (via, shape) = (args.via.text(), args.shape.text());
    let (answers, seconds, rate) = (seen.latency.len(), elapsed.as_secs_f64(), rate(seen, elapsed));
    let mut facts = vec![
        ("load", format!("{} x {} over {via}, {shape}", args.connections, args.concurrency)),
        ("questions", questions(args, load)),
        ("connections", connections(args.shape, seen)),
        ("answers", format!("{answers} in {seconds:.1} s, {rate:.0} a second")),
        ("latency", format!("p50 {p50} us, p90 {p90} us, p99 {p99} us, p99.9 {p999} us, max {max} us")),
        ("codes", list(&rcodes(seen))),
        ("errors", if seen.errors.is_empty() { "none".to_owned() } else { list(&seen.errors) }),
    ];
    if let Some(cpu) = cpu_each {
        facts.push(("server CPU", format!("{cpu:.1} us an answer")));
    }
    output::facts(&facts)
}

fn questions(args: &BenchArgs, load: &Load) -> String {
    let mut words = vec![match load.messages.len() {
        1 => "1 name".to_owned(),
        count => format!("{count} names"),
    }];
    words.extend(args.zipf.map(|exponent| format!("Zipf {exponent}")));
    words.extend(load.misses.as_ref().map(|misses| format!("misses {}% below {}", misses.percent, misses.below)));
    words.push(if args.dnssec { "DNSSEC (DO)" } else { "no DNSSEC" }.to_owned());
    words.extend(args.rate.map(|rate| format!("{rate} a second")));
    words.join(", ")
}

fn connections(shape: Shape, seen: &Seen) -> String {
    let mut text = seen.connections.to_string();
    if matches!(shape, Shape::Resumption | Shape::EarlyData) {
        text += &format!(", {} resumed", seen.resumed);
    }
    if shape == Shape::EarlyData {
        text += &format!(", {} with early data accepted", seen.early);
    }
    text
}

/// Connections that had another one of the same client before them: only they can resume a session.
fn later_connections(args: &BenchArgs, seen: &Seen) -> u64 {
    seen.connections.saturating_sub(u64::from(args.connections) * u64::from(args.concurrency))
}

/// Whether `part` is nine tenths of `whole` or more.
fn nearly_all(part: u64, whole: u64) -> bool {
    part.saturating_mul(10) >= whole.saturating_mul(9)
}

fn few_resumed(args: &BenchArgs, seen: &Seen) -> Option<String> {
    let (shape, later) = (args.shape, later_connections(args, seen));
    let asked = matches!(shape, Shape::Resumption | Shape::EarlyData);
    (asked && !nearly_all(seen.resumed, later)).then(|| {
        format!(
            "the server resumed {} of {later} sessions: these figures are in part of full handshakes; compare them with --shape handshake",
            seen.resumed
        )
    })
}

fn few_early(args: &BenchArgs, seen: &Seen) -> Option<String> {
    let early = args.shape == Shape::EarlyData;
    (early && nearly_all(seen.resumed, later_connections(args, seen)) && !nearly_all(seen.early, seen.resumed)).then(|| {
        format!(
            "the server took early data in {} of {} resumed connections: compare these figures with --shape resumption",
            seen.early, seen.resumed
        )
    })
}

fn no_wildcard(args: &BenchArgs, load: &Load, seen: &Seen) -> Option<String> {
    let (below, rtype) = (&load.misses.as_ref()?.below, args.rtype);
    (seen.misses > 0 && nearly_all(seen.empty, seen.misses)).then(|| {
        format!(
            "{} of {} misses were denied (NXDOMAIN, or no record of the type): {below} has no wildcard of type {rtype}; make one \
             (`ghostplane record set '*.{below}' {rtype} DATA`) or give --below a name that has one",
            seen.empty, seen.misses
        )
    })
}
