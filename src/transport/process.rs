//! What the process uses, by the names that Prometheus' own clients give it.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Of a second, in the fields of `/proc/PID/stat`: USER_HZ, which is part of Linux's interface.
const TICKS: f64 = 100.0;

/// Reads `/proc/self` at each scrape; where there is none, there is nothing to say.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_seconds(&stat)) {
            let help = "Seconds of CPU time, user and system";
            let family = encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
            ConstCounter::new(seconds).encode(family)?;
        }
        if let Some(octets) = fs::read_to_string("/proc/self/status").ok().and_then(|status| resident(&status)) {
            let help = "Octets of memory in use";
            let family = encoder.encode_descriptor("process_resident_memory_bytes", help, None, MetricType::Gauge)?;
            ConstGauge::new(octets).encode(family)?;
        }
        Ok(())
    }
}

/// utime and stime (proc_pid_stat(5)). What stands before them may have spaces in it, up to the last parenthesis.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some((ticks(11)? + ticks(12)?) as f64 / TICKS)
}

fn resident(status: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: i64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kilobytes.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_files_are_read() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 4 0 100 1 2 3";
        assert_eq!((cpu_seconds(stat), cpu_seconds("7 (a) S 1")), (Some(2.0), None));
        assert_eq!(resident("Name:\ta\nVmRSS:\t   10 kB\n"), Some(10_240));
        assert_eq!(resident("Name:\ta\n"), None);
    }
}
