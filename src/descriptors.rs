//! Descriptors: how many the process may have, and how many of them connections get.

use std::fs;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::limits::{LEAST_STREAMS, MAX_SCRAPERS, RESERVED_DESCRIPTORS, RUNTIME_DESCRIPTORS};

/// There are too few to serve with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this process may have {limit} files and sockets open at once, and needs {needed} at least; raise the hard limit \
     (LimitNOFILE= of a systemd unit, or ulimit -Hn), or listen with fewer --cores"
)]
pub struct TooFew {
    pub limit: usize,
    pub needed: usize,
}

/// Raises the limit as far as the process may itself; gives what it is then.
///
/// # Errors
/// The system does not take what it allows.
pub fn raise() -> io::Result<usize> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    // None: there is no limit.
    Ok(maximum.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX))
}

/// Those that are open; none where the system does not tell.
pub fn open() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// Connections over TCP that there may be at once: `wanted` if the limit has room for them beside what is `open`, threads
/// with runtimes, and what else the program opens while it runs.
///
/// # Errors
/// [`TooFew`], if there is room for less than [`LEAST_STREAMS`].
pub fn share(limit: usize, open: usize, runtimes: usize, others: usize, wanted: usize) -> Result<usize, TooFew> {
    let taken = open + runtimes * RUNTIME_DESCRIPTORS + MAX_SCRAPERS + others + RESERVED_DESCRIPTORS;
    let left = limit.saturating_sub(taken);
    if left < LEAST_STREAMS.min(wanted) {
        return Err(TooFew { limit, needed: taken + LEAST_STREAMS });
    }
    Ok(left.min(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_get_what_is_left_of_the_limit() {
        let taken = 20 + 2 * RUNTIME_DESCRIPTORS + MAX_SCRAPERS + 7 + RESERVED_DESCRIPTORS;
        let share = |limit, wanted| share(limit, 20, 2, 7, wanted);
        assert_eq!(share(usize::MAX, 16_384), Ok(16_384));
        assert_eq!(share(taken + 1_000, 16_384), Ok(1_000));
        assert_eq!(share(taken + LEAST_STREAMS, 16_384), Ok(LEAST_STREAMS));
        let error = share(taken + LEAST_STREAMS - 1, 16_384).unwrap_err();
        assert_eq!(error, TooFew { limit: taken + LEAST_STREAMS - 1, needed: taken + LEAST_STREAMS });
        assert!(error.to_string().contains("LimitNOFILE="), "{error}");
        // A server of few connections needs few.
        assert_eq!(share(taken + 3, 3), Ok(3));
        assert!(open() > 2 && raise().unwrap() > 2);
    }
}
