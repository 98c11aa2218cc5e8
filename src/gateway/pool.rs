//! Workers that execute misses: a bounded queue, fair between zones.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::{ChainDone, Done, Engine, Miss, TransferDone};
use crate::limits::{MISS_QUEUE, MISS_WORKERS, MISSES_PER_ZONE};
use crate::registry::Stamp;
use crate::wire::{Name, Rtype};

/// Executions of one zone at once. A name whose contract burns its whole allowance leaves the other
/// workers to everybody else.
const RUNNING_PER_ZONE: usize = MISS_WORKERS / 4;

const _: () = assert!(RUNNING_PER_ZONE >= 1);

/// The threads and their queue. Dropped, it answers what is queued and stops.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    zones: HashMap<u16, Load>,
    stopping: bool,
}

/// What one zone has in the pool.
#[derive(Default, Clone, Copy)]
struct Load {
    waiting: usize,
    running: usize,
}

/// A job of its own.
pub(super) type Errand = Box<dyn FnOnce(Option<&Engine>) + Send>;

/// What a worker does.
pub(super) enum Task {
    Answer(Miss, Done),
    Transfer(Miss, TransferDone),
    Chain(Name, Rtype, ChainDone),
    /// Told whether there is an engine at all, or the job was turned away.
    Other(Errand),
}

struct Job {
    zone: u16,
    task: Task,
}

impl Pool {
    pub(super) fn start(engine: &Arc<Engine>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), wake: Condvar::new() });
        let spawn = |number: usize| {
            let (engine, shared) = (engine.clone(), shared.clone());
            std::thread::Builder::new().name(format!("miss-{number}")).spawn(move || serve(&engine, &shared))
        };
        let threads = (0..MISS_WORKERS).map(spawn).collect::<Result<_, _>>()?;
        Ok(Self { shared, threads })
    }

    /// Queues the task of a zone; gives it back if the queue, or the zone's share of it, is full.
    pub(super) fn submit(&self, zone: Stamp, task: Task) -> Result<(), Task> {
        let zone = zone.slot_number();
        let mut queue = self.shared.lock();
        if queue.jobs.len() >= MISS_QUEUE || queue.load(zone).waiting >= MISSES_PER_ZONE {
            return Err(task);
        }
        queue.zones.entry(zone).or_default().waiting += 1;
        queue.jobs.push_back(Job { zone, task });
        drop(queue);
        self.shared.wake.notify_one();
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().stopping = true;
        self.shared.wake.notify_all();
        for thread in self.threads.drain(..) {
            // A worker's panic has been printed where it happened.
            let _ = thread.join();
        }
    }
}

fn serve(engine: &Engine, shared: &Shared) {
    while let Some(job) = shared.next() {
        match job.task {
            Task::Answer(miss, done) => done(engine.execute(&miss)),
            Task::Transfer(request, done) => done(engine.transfer(&request)),
            Task::Chain(name, rtype, done) => done(engine.chain(&name, rtype)),
            Task::Other(job) => job(Some(engine)),
        }
        shared.finished(job.zone);
    }
}

impl Shared {
    /// The oldest job whose zone has room to run; `None` when the pool stops and nothing is left.
    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            let ready = queue.jobs.iter().position(|job| queue.load(job.zone).running < RUNNING_PER_ZONE);
            if let Some(job) = ready.and_then(|at| queue.jobs.remove(at)) {
                let load = queue.zones.entry(job.zone).or_default();
                load.waiting -= 1;
                load.running += 1;
                return Some(job);
            }
            if queue.stopping && queue.jobs.is_empty() {
                return None;
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn finished(&self, zone: u16) {
        let mut queue = self.lock();
        let load = queue.zones.entry(zone).or_default();
        load.running -= 1;
        if load.running + load.waiting == 0 {
            queue.zones.remove(&zone);
        }
        // A job of this zone may have been passed over; when stopping, everyone must look again.
        let stopping = queue.stopping;
        drop(queue);
        if stopping { self.wake.notify_all() } else { self.wake.notify_one() }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing panics while it holds the lock; the counters are whole even if something did.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn load(&self, zone: u16) -> Load {
        self.zones.get(&zone).copied().unwrap_or_default()
    }
}
