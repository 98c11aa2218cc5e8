//! Workers that execute misses: a bounded queue, fair between zones and between owners of contracts.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::{ChainDone, Done, Engine, Miss, TransferDone};
use crate::limits::{MISS_QUEUE, MISS_WORKERS, MISSES_PER_ZONE};
use crate::op::SigilId;
use crate::registry::Stamp;
use crate::wire::{Name, Rtype};

/// Executions of one zone at once. A name whose contract burns its whole allowance leaves the other
/// workers to everybody else.
const RUNNING_PER_ZONE: usize = MISS_WORKERS / 4;

/// Executions at once of all the contracts that one owner has bound, under however many names.
const RUNNING_PER_OWNER: usize = MISS_WORKERS / 2;

const _: () = assert!(1 <= RUNNING_PER_ZONE && RUNNING_PER_ZONE <= RUNNING_PER_OWNER);

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
    /// Executions under way of owners who bound contracts.
    owners: HashMap<SigilId, usize>,
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
    Answer(Box<Miss>, Done),
    Transfer(Box<Miss>, TransferDone),
    Chain(Name, Rtype, ChainDone),
    /// Told whether there is an engine at all, or the job was turned away.
    Other(Name, Errand),
}

impl Task {
    /// What it is about.
    fn name(&self) -> &Name {
        match self {
            Self::Answer(miss, _) | Self::Transfer(miss, _) => &miss.query.name,
            Self::Chain(name, ..) | Self::Other(name, _) => name,
        }
    }
}

struct Job {
    zone: u16,
    /// Who bound the contract that will be executed; not known before a worker has looked.
    owner: Option<Option<SigilId>>,
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
        queue.jobs.push_back(Job { zone, owner: None, task });
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
    while let Some(mut job) = shared.next() {
        if job.owner.is_none() {
            // Read here, not where the question came in: that thread never waits for a disk.
            job.owner = Some(engine.binder(job.task.name()));
            match shared.admit(job) {
                Some(admitted) => job = admitted,
                None => continue,
            }
        }
        let (zone, owner) = (job.zone, job.owner.flatten());
        match job.task {
            Task::Answer(miss, done) => done(engine.execute(&miss)),
            Task::Transfer(request, done) => done(engine.transfer(&request)),
            Task::Chain(name, rtype, done) => done(engine.chain(&name, rtype)),
            Task::Other(_, errand) => errand(Some(engine)),
        }
        shared.finished(zone, owner);
    }
}

impl Shared {
    /// The oldest job whose zone has room to run; `None` when the pool stops and nothing is left.
    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            let ready = queue.jobs.iter().position(|job| queue.has_room(job));
            if let Some(job) = ready.and_then(|at| queue.jobs.remove(at)) {
                let load = queue.zones.entry(job.zone).or_default();
                load.waiting -= 1;
                load.running += 1;
                if let Some(owner) = job.owner.flatten() {
                    *queue.owners.entry(owner).or_default() += 1;
                }
                return Some(job);
            }
            if queue.stopping && queue.jobs.is_empty() {
                return None;
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Counts a job whose owner has become known and gives it back; or puts it to the head of the queue if that owner
    /// has enough under way.
    fn admit(&self, job: Job) -> Option<Job> {
        let Some(owner) = job.owner.flatten() else { return Some(job) };
        let mut queue = self.lock();
        if queue.running_of(&owner) < RUNNING_PER_OWNER {
            *queue.owners.entry(owner).or_default() += 1;
            return Some(job);
        }
        let load = queue.zones.entry(job.zone).or_default();
        load.running -= 1;
        load.waiting += 1;
        queue.jobs.push_front(job);
        None
    }

    fn finished(&self, zone: u16, owner: Option<SigilId>) {
        let mut queue = self.lock();
        let load = queue.zones.entry(zone).or_default();
        load.running -= 1;
        if load.running + load.waiting == 0 {
            queue.zones.remove(&zone);
        }
        if let Some(owner) = owner {
            let running = queue.owners.entry(owner).or_default();
            *running -= 1;
            if *running == 0 {
                queue.owners.remove(&owner);
            }
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
    fn has_room(&self, job: &Job) -> bool {
        let owner = job.owner.flatten();
        self.load(job.zone).running < RUNNING_PER_ZONE
            && owner.is_none_or(|owner| self.running_of(&owner) < RUNNING_PER_OWNER)
    }

    fn running_of(&self, owner: &SigilId) -> usize {
        self.owners.get(owner).copied().unwrap_or_default()
    }

    fn load(&self, zone: u16) -> Load {
        self.zones.get(&zone).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X: SigilId = SigilId([1; 32]);
    const Y: SigilId = SigilId([2; 32]);

    /// A job of a zone of its own, in the queue of `shared`.
    fn queue(shared: &Shared, zone: u16) {
        let mut queue = shared.lock();
        queue.zones.entry(zone).or_default().waiting += 1;
        let task = Task::Other(Name::root(), Box::new(|_| {}));
        queue.jobs.push_back(Job { zone, owner: None, task });
    }

    /// What a worker does: takes a job, and learns whose it is.
    fn take(shared: &Shared, owner: Option<SigilId>) -> (u16, bool) {
        let mut job = shared.next().unwrap();
        let zone = job.zone;
        job.owner = Some(owner);
        (zone, shared.admit(job).is_some())
    }

    #[test]
    fn one_owner_does_not_take_all_workers_with_many_names() {
        let shared = Shared { queue: Mutex::default(), wake: Condvar::new() };
        (0..6).for_each(|zone| queue(&shared, zone));
        for zone in 0..RUNNING_PER_OWNER as u16 {
            assert_eq!(take(&shared, Some(X)), (zone, true));
        }
        // Two more of the same owner go back to the queue, and are passed over from now on.
        assert_eq!(take(&shared, Some(X)), (4, false));
        assert_eq!(take(&shared, Some(X)), (5, false));
        queue(&shared, 6);
        queue(&shared, 7);
        assert_eq!(take(&shared, Some(Y)), (6, true));
        assert_eq!(take(&shared, None), (7, true));
        // Until one of the owner's is done.
        shared.finished(0, Some(X));
        let job = shared.next().unwrap();
        assert_eq!(job.owner, Some(Some(X)));
        assert_eq!(shared.lock().running_of(&X), RUNNING_PER_OWNER);
        for (zone, owner) in [(1, Some(X)), (2, Some(X)), (3, Some(X)), (job.zone, Some(X)), (6, Some(Y)), (7, None)] {
            shared.finished(zone, owner);
        }
        let last = shared.next().unwrap();
        shared.finished(last.zone, last.owner.flatten());
        let queue = shared.lock();
        assert!(queue.jobs.is_empty() && queue.zones.is_empty() && queue.owners.is_empty());
    }
}
