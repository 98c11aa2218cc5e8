//! Which processors threads run on, who comes first on them, and how much of their time threads have had.
//!
//! Each thread that serves sockets has a processor to itself. Left to itself, the kernel wakes two of them on one
//! processor while somebody else's thread, however little it matters, keeps the other: then they wait for each other, for
//! milliseconds (`benches/storm.sh`: 3 to 6 times the p99).

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use rustix::process::nice;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// How far threads stand back behind those that serve sockets: with a third of their weight.
const NICENESS: i32 = 5;

/// The processors that this process may use.
#[derive(Clone)]
pub struct Processors {
    all: CpuSet,
    each: Vec<usize>,
}

impl Processors {
    /// `None` unless there are as many as `threads` that serve sockets: who wants fewer leaves it to the kernel where.
    pub fn shared_by(threads: usize) -> Option<Self> {
        let all = sched_getaffinity(None).ok()?;
        let each: Vec<_> = (0..CpuSet::MAX_CPU).filter(|&processor| all.is_set(processor)).collect();
        (each.len() == threads).then_some(Self { all, each })
    }

    /// Has the calling thread, and those that it starts, run on one of them only.
    pub fn keep_to(&self, thread: usize) {
        let mut one = CpuSet::new();
        one.set(self.each[thread % self.each.len()]);
        // Where it is forbidden, the kernel chooses.
        let _ = sched_setaffinity(None, &one);
    }

    /// Has the calling thread run on any of them again.
    pub fn roam(&self) {
        let _ = sched_setaffinity(None, &self.all);
    }
}

/// Threads that serve sockets come first, before the calling one. Where that cannot be said, they do not.
pub fn stand_back() {
    let _ = nice(NICENESS);
}

/// Time of processors that the calling thread has had so far.
pub fn thread_time() -> Duration {
    // Every Linux has this clock; without it, nothing would cost anything.
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threads_time_is_its_own_and_passes_while_it_works() {
        let began = thread_time();
        let mut sum = 0u64;
        while thread_time() == began {
            sum = std::hint::black_box(sum.wrapping_mul(31) + 7);
        }
        while thread_time() < began + Duration::from_millis(20) {
            sum = std::hint::black_box(sum.wrapping_mul(31) + 7);
        }
        assert!(std::thread::spawn(thread_time).join().unwrap() < thread_time());
    }

    fn usable() -> usize {
        sched_getaffinity(None).unwrap().count() as usize
    }

    #[test]
    fn a_thread_keeps_to_one_processor_until_it_roams() {
        let count = usable();
        assert!(Processors::shared_by(count + 1).is_none());
        let processors = Processors::shared_by(count).unwrap();
        let kept = std::thread::spawn(move || {
            processors.keep_to(1);
            let inherited = std::thread::spawn(usable).join().unwrap();
            let kept = usable();
            processors.roam();
            (kept, inherited, usable())
        });
        assert_eq!(kept.join().unwrap(), (1, 1, count));
        assert_eq!(usable(), count);
    }
}
