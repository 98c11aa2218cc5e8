//! What many threads count at once, without a cache line that all of them write.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::Counter;
use crate::limits::STRIPES;

thread_local! {
    /// The thread's stripe, once it has counted anything.
    static MINE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Threads that have counted.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Two cache lines: they are fetched in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

/// The same counters several times. A thread writes one of them, whoever reads adds them up.
#[derive(Debug)]
pub struct Striped<T>(Box<[Padded<T>; STRIPES]>);

impl<T: Default> Default for Striped<T> {
    fn default() -> Self {
        Self(Box::new(std::array::from_fn(|_| Padded::default())))
    }
}

impl<T> Striped<T> {
    /// The calling thread's.
    pub fn mine(&self) -> &T {
        &self.0[stripe() % STRIPES].0
    }

    /// All of them.
    pub fn each(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|stripe| &stripe.0)
    }
}

impl Striped<Counter> {
    pub fn add(&self, amount: u64) {
        self.mine().add(amount);
    }

    pub fn get(&self) -> u64 {
        self.each().map(Counter::get).sum()
    }
}

fn stripe() -> usize {
    let mine = MINE.get();
    if mine == usize::MAX { choose() } else { mine }
}

/// In turn: the threads that serve sockets begin one after the other, so that each has a stripe of its own.
#[cold]
fn choose() -> usize {
    let mine = THREADS.fetch_add(1, Relaxed) % STRIPES;
    MINE.set(mine);
    mine
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_count_adds_up() {
        let counter = Striped::<Counter>::default();
        std::thread::scope(|scope| {
            for _ in 0..STRIPES + 3 {
                scope.spawn(|| (0..100).for_each(|_| counter.add(2)));
            }
        });
        assert_eq!(counter.get(), (STRIPES as u64 + 3) * 200);
        let used = counter.each().filter(|stripe| stripe.get() > 0).count();
        assert!(used > 1, "all threads wrote one stripe");
    }

    #[test]
    fn no_two_stripes_share_a_cache_line() {
        let counter = Striped::<Counter>::default();
        let at: Vec<usize> = counter.each().map(|stripe| std::ptr::from_ref(stripe).addr()).collect();
        assert!(at.iter().all(|at| at % 128 == 0) && at.windows(2).all(|pair| pair[1] - pair[0] >= 128));
    }
}
