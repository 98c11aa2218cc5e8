//! The time: the system's, or for rehearsals one that a file says.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};

/// The file, and the time it told last: whoever writes it may be half way.
static FILE: OnceLock<(PathBuf, AtomicU64)> = OnceLock::new();

/// Longest a file may be: a number fits.
const MAX_FILE: u64 = 64;

/// Has [`unix_time`] follow a file from now on.
///
/// # Errors
/// The file cannot be read, or is no number of seconds since 1970.
pub fn use_file(path: &Path) -> anyhow::Result<()> {
    let time = read(path).with_context(|| format!("--clock {}", path.display()))?;
    // Set once, by `main`.
    let _ = FILE.set((path.to_owned(), AtomicU64::new(time)));
    Ok(())
}

/// True if the time is a file's.
pub fn is_simulated() -> bool {
    FILE.get().is_some()
}

/// Seconds since 1970.
pub fn unix_time() -> u64 {
    let Some((path, last)) = FILE.get() else {
        // A clock before 1970 is as good as zero: every signature would be refused anyway.
        return SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    };
    if let Ok(time) = read(path) {
        last.store(time, Relaxed);
    }
    last.load(Relaxed)
}

fn read(path: &Path) -> anyhow::Result<u64> {
    let size = std::fs::metadata(path)?.len();
    ensure!(size <= MAX_FILE, "it is {size} octets long; it should hold seconds since 1970, as `date +%s` prints them");
    let text = std::fs::read_to_string(path)?;
    // Without its end of line, it may be the beginning of a longer number.
    let line = text.strip_suffix('\n').context("it does not end with a line's end")?;
    line.parse().with_context(|| format!("{line:?} is no number of seconds since 1970, as `date +%s` prints them"))
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
        assert_eq!(told("1764000000\n").unwrap(), 1_764_000_000);
        for wrong in ["", "\n", "17640000", "-1\n", "1764000000 \n", "tomorrow\n", &("1".repeat(64) + "\n")] {
            assert!(told(wrong).is_err(), "{wrong:?}");
        }
        assert!(read(&dir.path().join("none")).is_err());
    }
}
