//! So many at once, so many waiting, and no more.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Places for work that takes a core, and seats for those who wait for a place.
#[derive(Debug)]
pub(super) struct Gate {
    load: Mutex<Load>,
    left: Condvar,
    places: usize,
    seats: usize,
}

#[derive(Debug, Default)]
struct Load {
    working: usize,
    waiting: usize,
}

/// A place; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place<'a>(&'a Gate);

impl Gate {
    pub fn new(places: usize, seats: usize) -> Self {
        Self { load: Mutex::default(), left: Condvar::new(), places, seats }
    }

    /// Waits for a place; `None`, at once, if there is none and all seats are taken.
    pub fn enter(&self) -> Option<Place<'_>> {
        let mut load = self.lock();
        if load.working >= self.places {
            if load.waiting >= self.seats {
                return None;
            }
            load.waiting += 1;
            let full = |load: &mut Load| load.working >= self.places;
            load = self.left.wait_while(load, full).unwrap_or_else(PoisonError::into_inner);
            load.waiting -= 1;
        }
        load.working += 1;
        Some(Place(self))
    }

    fn lock(&self) -> MutexGuard<'_, Load> {
        // Nothing panics while it holds the lock.
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.lock().working -= 1;
        self.0.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_seats_are_bounded() {
        let gate = Gate::new(2, 1);
        let (first, second) = (gate.enter().unwrap(), gate.enter().unwrap());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| drop(gate.enter().unwrap()));
            while gate.lock().waiting == 0 {
                std::thread::yield_now();
            }
            assert!(gate.enter().is_none());
            drop(first);
            waiting.join().unwrap();
        });
        drop((second, gate.enter().unwrap()));
        let load = gate.lock();
        assert_eq!((load.working, load.waiting), (0, 0));
    }
}
