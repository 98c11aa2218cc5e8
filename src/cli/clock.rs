//! The time: the system's, or for rehearsals one that a file says. And what a gateway compares it with.
//!
//! A file of one number is the time, and a second clock that always agrees. A second number is what the second clock counts:
//! so a jump can be rehearsed.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};

use crate::clock::{GuardedClock, Sources};
use crate::metrics::Metrics;
use crate::notary::{self, NotaryError};
use crate::registry::{Fault, Registry};

/// The file, and the times it told last: whoever writes it may be half way.
static FILE: OnceLock<(PathBuf, AtomicU64, AtomicU64)> = OnceLock::new();

/// Where a gateway writes down that it was at work at a time.
const SEEN: &str = "time.seen";

/// Longest a file may be: a number fits.
const MAX_FILE: u64 = 64;

/// Has [`unix_time`] follow a file from now on.
///
/// # Errors
/// The file cannot be read, or is no number of seconds since 1970.
pub fn use_file(path: &Path) -> anyhow::Result<()> {
    let (wall, steady) = read(path).with_context(|| format!("--clock {}", path.display()))?;
    // Set once, by `main`.
    let _ = FILE.set((path.to_owned(), AtomicU64::new(wall), AtomicU64::new(steady.unwrap_or(wall))));
    Ok(())
}

/// True if the time is a file's.
pub fn is_simulated() -> bool {
    FILE.get().is_some()
}

/// Seconds since 1970.
pub fn unix_time() -> u64 {
    let Some((_, wall, _)) = simulated() else {
        // A clock before 1970 is as good as zero: every signature would be refused anyway.
        return SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    };
    wall.load(Relaxed)
}

/// The file, read once more.
fn simulated() -> Option<&'static (PathBuf, AtomicU64, AtomicU64)> {
    let file = FILE.get()?;
    let (path, wall, steady) = file;
    if let Ok((told, counted)) = read(path) {
        wall.store(told, Relaxed);
        steady.store(counted.unwrap_or(told), Relaxed);
    }
    Some(file)
}

/// The clock of a gateway over this registry and folder. What was known before is the time of the log's last op, and the
/// last one that was written down.
///
/// # Errors
/// The store failed.
pub fn guarded(
    registry: &Registry,
    data: &Path,
    accept: bool,
    metrics: &Arc<Metrics>,
) -> Result<Arc<GuardedClock>, Fault> {
    let snapshot = registry.snapshot()?;
    let last = snapshot.log_entry(snapshot.last_seq()?)?.map_or(0, |entry| entry.time);
    let seen = std::fs::read_to_string(data.join(SEEN)).ok().and_then(|text| text.trim_end().parse().ok());
    let known = last.max(seen.unwrap_or(0));
    // A gateway of before there was that file may have been at work without an op for long.
    let first = seen.is_none() && unix_time() >= last;
    // A rehearsal goes where it likes, unless it is one of jumps.
    let free = FILE.get().is_some_and(|(path, ..)| read(path).is_ok_and(|(_, steady)| steady.is_none()));
    Ok(GuardedClock::start(sources(), known, accept || free || first, metrics.clone()))
}

/// Writes down that a gateway was at work at this time.
///
/// # Errors
/// [`NotaryError::Io`]
pub fn note_seen(data: &Path, time: u64) -> Result<(), NotaryError> {
    notary::write(&data.join(SEEN), format!("{time}\n").as_bytes())
}

fn sources() -> Sources {
    let begun = Instant::now();
    let steady = move || match simulated() {
        Some((_, _, steady)) => steady.load(Relaxed),
        None => begun.elapsed().as_secs(),
    };
    let awake = uptime().unwrap_or(0);
    // Uptime counts sleep, `Instant` does not.
    let slept = move || match FILE.get() {
        Some(_) => 0,
        None => uptime().unwrap_or(0).saturating_sub(awake).saturating_sub(begun.elapsed().as_secs()),
    };
    Sources { wall: Arc::new(unix_time), steady: Arc::new(steady), slept: Arc::new(slept) }
}

/// Seconds since the machine was started, asleep or not.
fn uptime() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/uptime").ok()?;
    text.split('.').next()?.parse().ok()
}

fn read(path: &Path) -> anyhow::Result<(u64, Option<u64>)> {
    let size = std::fs::metadata(path)?.len();
    ensure!(size <= MAX_FILE, "it is {size} octets long; it should hold seconds since 1970, as `date +%s` prints them");
    let text = std::fs::read_to_string(path)?;
    // Without its end of line, it may be the beginning of a longer number.
    let line = text.strip_suffix('\n').context("it does not end with a line's end")?;
    let number = |text: &str| {
        text.parse().with_context(|| format!("{text:?} is no number of seconds since 1970, as `date +%s` prints them"))
    };
    match line.split_once(' ') {
        Some((wall, steady)) => Ok((number(wall)?, Some(number(steady)?))),
        None => Ok((number(line)?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_are_times() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("clock");
        let told = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read(&path)
        };
        assert_eq!(told("1764000000\n").unwrap(), (1_764_000_000, None));
        assert_eq!(told("1764000000 77\n").unwrap(), (1_764_000_000, Some(77)));
        for wrong in ["", "\n", "17640000", "-1\n", "1764000000 \n", "tomorrow\n", &("1".repeat(64) + "\n")] {
            assert!(told(wrong).is_err(), "{wrong:?}");
        }
        assert!(read(&dir.path().join("none")).is_err());
    }
}
