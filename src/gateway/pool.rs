//! Workers that execute misses: a bounded queue, fair between zones and between owners of contracts.
//!
//! ```text
//! submit ──> queue ──> worker: whose contract is it, is it compiled? ──> room? ──> execute
//!   │ full     ^                                                          │ no
//!   v          └──────────────────── waits ──────────────────────────────┤
//! turned away <──────────────────── owner has enough waiting ────────────┘
//! ```

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::{ChainDone, Done, Engine, Miss, TransferDone, servfail};
use crate::limits::{COMPILATIONS, MISS_QUEUE, MISS_WORKERS, MISSES_PER_OWNER, MISSES_PER_ZONE};
use crate::op::SigilId;
use crate::registry::Stamp;
use crate::state::View as _;
use crate::wire::{EdeCode, Name, Rcode, Rtype};

/// Executions of one zone at once. A name whose contract burns its whole allowance leaves the other
/// workers to everybody else.
const RUNNING_PER_ZONE: usize = MISS_WORKERS / 4;

/// Executions at once of all the contracts that one owner has bound, under however many names.
const RUNNING_PER_OWNER: usize = MISS_WORKERS / 2;

/// Executions at once that begin with the compiler.
const RUNNING_COLD: usize = COMPILATIONS;

const _: () = assert!(1 <= RUNNING_PER_ZONE && RUNNING_PER_ZONE <= RUNNING_PER_OWNER && RUNNING_COLD < MISS_WORKERS);

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
    /// Owners who bound contracts, as far as workers have looked.
    owners: HashMap<SigilId, Load>,
    /// Running with a contract that was not compiled.
    cold: usize,
    stopping: bool,
}

/// What one zone, or one owner, has in the pool.
#[derive(Default, Clone, Copy)]
struct Load {
    waiting: usize,
    running: usize,
}

/// What a worker finds out about a job before it begins.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct About {
    /// Who bound the contract that answers; `None` if it is the TLD's.
    owner: Option<SigilId>,
    /// The contract is not compiled.
    cold: bool,
}

/// A job of its own.
pub(super) type Errand = Box<dyn FnOnce(Option<&Engine>) + Send>;

/// What a worker does.
pub(super) enum Task {
    Answer(Miss, Done),
    Transfer(Miss, TransferDone),
    Chain(Name, Rtype, ChainDone),
    /// Told whether there is an engine at all, or the job was turned away.
    Other(Name, Errand),
}

impl Task {
    /// What it is about.
    pub(super) fn name(&self) -> &Name {
        match self {
            Self::Answer(miss, _) | Self::Transfer(miss, _) => &miss.query.name,
            Self::Chain(name, ..) | Self::Other(name, _) => name,
        }
    }
}

struct Job {
    zone: u16,
    /// Not known before a worker has looked.
    about: Option<About>,
    task: Task,
}

/// What becomes of a job about which a worker has just looked.
enum Admission {
    Run(Job),
    /// It is in the queue again.
    Wait,
    /// Its owner has enough waiting.
    Full(Task),
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
        queue.jobs.push_back(Job { zone, about: None, task });
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
        let about = match job.about {
            Some(about) => about,
            None => {
                // Read here, not where the question came in: that thread never waits for a disk.
                let about = engine.about(job.task.name());
                match shared.admit(job, about) {
                    Admission::Run(admitted) => job = admitted,
                    Admission::Wait => continue,
                    Admission::Full(task) => {
                        engine.turn_away(task);
                        continue;
                    }
                }
                about
            }
        };
        match job.task {
            Task::Answer(miss, done) => done(engine.execute(&miss)),
            Task::Transfer(request, done) => done(engine.transfer(&request)),
            Task::Chain(name, rtype, done) => done(engine.chain(&name, rtype)),
            Task::Other(_, errand) => errand(Some(engine)),
        }
        shared.finished(job.zone, about);
    }
}

impl Engine {
    fn about(&self, name: &Name) -> About {
        // A fault shows where the answer is made.
        let entry = self.registry.snapshot().and_then(|snapshot| snapshot.name(&name.suffix(2))).ok().flatten();
        let Some((owner, contract)) = entry.and_then(|entry| Some((entry.owner, entry.contract?))) else {
            return About::default();
        };
        About { owner: Some(owner), cold: !self.host.is_ready(&contract.0) }
    }

    /// Tells whoever asked, at once, that too many are waiting.
    pub(super) fn turn_away(&self, task: Task) {
        self.metrics.misses_shed.add(1);
        let refuse = |miss: &Miss| servfail(&miss.query, EdeCode::NotReady, "too many questions are waiting".into());
        match task {
            Task::Answer(miss, done) => {
                let shape = miss.client.transport.shape();
                done(refuse(&miss).reply(&miss.query, shape, 0));
            }
            Task::Transfer(request, done) => done(Arc::from([refuse(&request)])),
            Task::Chain(_, _, done) => done(Err(Rcode::ServFail)),
            Task::Other(_, errand) => errand(None),
        }
    }
}

impl Shared {
    /// The oldest job that has room to run; `None` when the pool stops and nothing is left.
    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            let ready = queue.jobs.iter().position(|job| queue.has_room(job));
            if let Some(job) = ready.and_then(|at| queue.jobs.remove(at)) {
                queue.begin(&job);
                return Some(job);
            }
            if queue.stopping && queue.jobs.is_empty() {
                return None;
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Counts a job about which this has become known and gives it back; or puts it to the head of the queue if it has no
    /// room yet; or gives its task back if even that is too much.
    fn admit(&self, mut job: Job, about: About) -> Admission {
        if about == About::default() {
            return Admission::Run(job);
        }
        let mut queue = self.lock();
        if queue.has_room_for(about) {
            queue.count(about);
            return Admission::Run(job);
        }
        queue.leave_zone(job.zone);
        let owner = about.owner.map(|owner| queue.owners.entry(owner).or_default());
        if owner.as_ref().is_some_and(|load| load.waiting >= MISSES_PER_OWNER) {
            return Admission::Full(job.task);
        }
        if let Some(load) = owner {
            load.waiting += 1;
        }
        queue.zones.entry(job.zone).or_default().waiting += 1;
        job.about = Some(about);
        queue.jobs.push_front(job);
        Admission::Wait
    }

    fn finished(&self, zone: u16, about: About) {
        let mut queue = self.lock();
        queue.leave_zone(zone);
        queue.cold -= usize::from(about.cold);
        if let Some(owner) = about.owner {
            let load = queue.owners.entry(owner).or_default();
            load.running -= 1;
            if load.running + load.waiting == 0 {
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
        let zone = self.zones.get(&job.zone).copied().unwrap_or_default();
        zone.running < RUNNING_PER_ZONE && job.about.is_none_or(|about| self.has_room_for(about))
    }

    fn has_room_for(&self, about: About) -> bool {
        let running = |owner| self.owners.get(&owner).map_or(0, |load| load.running);
        about.owner.is_none_or(|owner| running(owner) < RUNNING_PER_OWNER) && !(about.cold && self.cold >= RUNNING_COLD)
    }

    /// A job leaves the queue.
    fn begin(&mut self, job: &Job) {
        let zone = self.zones.entry(job.zone).or_default();
        zone.waiting -= 1;
        zone.running += 1;
        let Some(about) = job.about else { return };
        if let Some(owner) = about.owner {
            self.owners.entry(owner).or_default().waiting -= 1;
        }
        self.count(about);
    }

    /// A job runs.
    fn count(&mut self, about: About) {
        self.cold += usize::from(about.cold);
        if let Some(owner) = about.owner {
            self.owners.entry(owner).or_default().running += 1;
        }
    }

    fn leave_zone(&mut self, zone: u16) {
        let load = self.zones.entry(zone).or_default();
        load.running -= 1;
        if load.running + load.waiting == 0 {
            self.zones.remove(&zone);
        }
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

    fn shared() -> Shared {
        Shared { queue: Mutex::default(), wake: Condvar::new() }
    }

    fn bound(owner: SigilId) -> About {
        About { owner: Some(owner), cold: false }
    }

    /// A job of a zone of its own, in the queue of `shared`.
    fn queue(shared: &Shared, zone: u16) {
        let mut queue = shared.lock();
        queue.zones.entry(zone).or_default().waiting += 1;
        let task = Task::Other(Name::root(), Box::new(|_| {}));
        queue.jobs.push_back(Job { zone, about: None, task });
    }

    /// What a worker does: takes a job, and looks what it is about.
    fn take(shared: &Shared, about: About) -> (u16, Option<bool>) {
        let job = shared.next().unwrap();
        let zone = job.zone;
        let runs = match shared.admit(job, about) {
            Admission::Run(_) => Some(true),
            Admission::Wait => Some(false),
            Admission::Full(_) => None,
        };
        (zone, runs)
    }

    fn is_empty(shared: &Shared) -> bool {
        let queue = shared.lock();
        queue.jobs.is_empty() && queue.zones.is_empty() && queue.owners.is_empty() && queue.cold == 0
    }

    #[test]
    fn one_owner_does_not_take_all_workers_with_many_names() {
        let shared = shared();
        (0..6).for_each(|zone| queue(&shared, zone));
        for zone in 0..RUNNING_PER_OWNER as u16 {
            assert_eq!(take(&shared, bound(X)), (zone, Some(true)));
        }
        // Two more of the same owner go back to the queue, and are passed over from now on.
        assert_eq!(take(&shared, bound(X)), (4, Some(false)));
        assert_eq!(take(&shared, bound(X)), (5, Some(false)));
        queue(&shared, 6);
        queue(&shared, 7);
        assert_eq!(take(&shared, bound(Y)), (6, Some(true)));
        assert_eq!(take(&shared, About::default()), (7, Some(true)));
        // Until one of the owner's is done.
        shared.finished(0, bound(X));
        let job = shared.next().unwrap();
        assert_eq!(job.about, Some(bound(X)));
        assert_eq!(shared.lock().owners[&X].running, RUNNING_PER_OWNER);
        for (zone, about) in
            [(1, bound(X)), (2, bound(X)), (3, bound(X)), (job.zone, bound(X)), (6, bound(Y)), (7, About::default())]
        {
            shared.finished(zone, about);
        }
        let last = shared.next().unwrap();
        shared.finished(last.zone, last.about.unwrap());
        assert!(is_empty(&shared));
    }

    #[test]
    fn what_must_be_compiled_leaves_workers_to_the_others() {
        let shared = shared();
        let cold = |n: u16| About { owner: Some(SigilId([n as u8; 32])), cold: true };
        (0..4).for_each(|zone| queue(&shared, zone));
        assert_eq!((take(&shared, cold(0)), take(&shared, cold(1))), ((0, Some(true)), (1, Some(true))));
        assert_eq!((take(&shared, cold(2)), take(&shared, cold(3))), ((2, Some(false)), (3, Some(false))));
        queue(&shared, 4);
        assert_eq!(take(&shared, bound(X)), (4, Some(true)));
        shared.finished(1, cold(1));
        let next = shared.next().unwrap();
        shared.finished(next.zone, next.about.unwrap());
        let last = shared.next().unwrap();
        assert_ne!((next.zone, next.about), (last.zone, last.about));
        for (zone, about) in [(0, cold(0)), (4, bound(X)), (last.zone, last.about.unwrap())] {
            shared.finished(zone, about);
        }
        assert!(is_empty(&shared));
    }

    #[test]
    fn one_owner_does_not_fill_the_queue() {
        let shared = shared();
        let most = (RUNNING_PER_OWNER + MISSES_PER_OWNER) as u16;
        (0..most + 3).for_each(|zone| queue(&shared, zone));
        let taken: Vec<_> = (0..most + 3).map(|_| take(&shared, bound(X)).1).collect();
        assert_eq!(taken.iter().filter(|runs| **runs == Some(true)).count(), RUNNING_PER_OWNER);
        assert_eq!(taken.iter().filter(|runs| **runs == Some(false)).count(), MISSES_PER_OWNER);
        assert_eq!(taken[most as usize..], [None; 3]);
        // All that wait have their turn.
        let (mut running, mut done) = ((0..RUNNING_PER_OWNER as u16).collect::<Vec<_>>(), 0);
        while let Some(zone) = running.pop() {
            shared.finished(zone, bound(X));
            done += 1;
            if !shared.lock().jobs.is_empty() {
                running.push(shared.next().unwrap().zone);
            }
        }
        assert_eq!(done, most);
        assert!(is_empty(&shared));
    }
}
