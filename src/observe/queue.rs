//! A bounded queue from the query path to a thread: whoever puts something in never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use crate::metrics::Counter;

/// The end of the query path. Clones share it.
#[derive(Debug)]
pub struct Intake<T> {
    sender: SyncSender<(T, usize)>,
    waiting: Arc<AtomicUsize>,
    most: usize,
}

/// The thread's end.
#[derive(Debug)]
pub struct Outlet<T> {
    receiver: Receiver<(T, usize)>,
    waiting: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
}

/// What comes out of a queue.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    Item(T),
    /// Nothing came for a while.
    Pause,
    /// It is to stop, and nothing is left.
    Stop,
}

/// A queue of at most so many things with so many octets together, which ends when the flag is set.
pub fn queue<T>(things: usize, octets: usize, stopping: Arc<AtomicBool>) -> (Intake<T>, Outlet<T>) {
    let (sender, receiver) = sync_channel(things);
    let waiting = Arc::<AtomicUsize>::default();
    (Intake { sender, waiting: waiting.clone(), most: octets }, Outlet { receiver, waiting, stopping })
}

impl<T> Intake<T> {
    /// Puts in a thing of so many octets; counts it as dropped if there is no room.
    pub fn put(&self, thing: T, octets: usize, dropped: &Counter) {
        if self.waiting.fetch_add(octets, Relaxed) + octets > self.most {
            self.waiting.fetch_sub(octets, Relaxed);
            return dropped.add(1);
        }
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = self.sender.try_send((thing, octets)) {
            self.waiting.fetch_sub(octets, Relaxed);
            dropped.add(1);
        }
    }
}

impl<T> Outlet<T> {
    /// Waits for so long.
    pub fn next(&self, patience: Duration) -> Next<T> {
        match self.receiver.recv_timeout(patience) {
            Ok((thing, octets)) => {
                self.waiting.fetch_sub(octets, Relaxed);
                Next::Item(thing)
            }
            Err(RecvTimeoutError::Timeout) if !self.is_stopping() => Next::Pause,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Next::Stop,
        }
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_and_forgotten() {
        let (stopping, dropped) = (Arc::<AtomicBool>::default(), Counter::default());
        let (intake, outlet) = queue(2, 10, stopping.clone());
        intake.put('a', 6, &dropped);
        intake.put('b', 6, &dropped);
        assert_eq!(dropped.get(), 1, "too many octets");
        intake.put('c', 4, &dropped);
        intake.put('d', 0, &dropped);
        assert_eq!(dropped.get(), 2, "too many things");
        let next = || outlet.next(Duration::ZERO);
        assert_eq!([next(), next(), next()], [Next::Item('a'), Next::Item('c'), Next::Pause]);
        intake.put('e', 10, &dropped);
        stopping.store(true, Relaxed);
        assert_eq!([next(), next()], [Next::Item('e'), Next::Stop]);
        drop(outlet);
        intake.put('f', 1, &dropped);
        assert_eq!(dropped.get(), 3, "nobody reads");
    }
}
