//! Workers that execute misses: a bounded queue, fair between zones and between owners of contracts.
//!
//! ```text
//! submit ──> queue ──> worker: whose contract is it, is it compiled? ──> room? ──> execute ──> fuel is noted
//!   │ full     ^                                                          │ no
//!   v          └──────────────────── waits ──────────────────────────────┤
//! turned away <──────────────────── owner has enough waiting ────────────┘
//! ```
//!
//! Owners whose contracts burn much of what all burn are *heavy*: all of them together run on few workers, so that whoever
//! asks for anything else finds a worker idle and a core to run on, however many owners are in league.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use super::{ChainDone, Done, Engine, Miss, TransferDone, servfail};
use crate::limits::{COMPILATIONS, CONTRACT_FUEL, MISS_QUEUE, MISS_WORKERS, MISSES_PER_OWNER, MISSES_PER_ZONE};
use crate::op::SigilId;
use crate::processors::stand_back;
use crate::registry::Stamp;
use crate::state::View as _;
use crate::stopwatch;
use crate::threads::vital;
use crate::wire::{EdeCode, Name, Rcode, Rtype};
use crate::work::{Budget, Cost, Overdrawn};

/// Executions of one zone at once. A name whose contract burns its whole allowance leaves the other
/// workers to everybody else.
const RUNNING_PER_ZONE: usize = MISS_WORKERS / 4;

/// Executions at once of all the contracts that one owner has bound, under however many names.
const RUNNING_PER_OWNER: usize = MISS_WORKERS / 2;

/// Executions at once that begin with the compiler.
const RUNNING_COLD: usize = COMPILATIONS;

/// Executions at once of all heavy owners, at most; on few cores half of those.
const RUNNING_HEAVY: usize = MISS_WORKERS / 4;

/// Fuel after which what owners have burnt counts half: a quarter of a second of one core.
const SPAN: u64 = 64 * CONTRACT_FUEL;

/// An owner who has burnt so much of late is heavy.
const HEAVY: u64 = SPAN / 16;

/// What is forgotten when it counts half. So a span has room for this many owners at most, whatever they burn.
const FORGOTTEN: u64 = SPAN / 4_096;

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
    /// Running for heavy owners, and how many may.
    heavy: usize,
    most_heavy: usize,
    fuel: Fuel,
    stopping: bool,
}

/// What owners' contracts have burnt of late.
#[derive(Default)]
struct Fuel {
    /// Since all counted half the last time.
    total: u64,
    owners: HashMap<SigilId, u64>,
}

impl Fuel {
    fn note(&mut self, owner: SigilId, fuel: u64) {
        *self.owners.entry(owner).or_default() += fuel;
        self.total += fuel;
        if self.total >= SPAN || self.owners.len() > (SPAN / FORGOTTEN) as usize {
            self.total = 0;
            self.owners.values_mut().for_each(|burnt| *burnt /= 2);
            self.owners.retain(|_, burnt| *burnt >= FORGOTTEN);
        }
    }

    fn is_heavy(&self, owner: &SigilId) -> bool {
        self.owners.get(owner).is_some_and(|burnt| *burnt >= HEAVY)
    }
}

thread_local! {
    /// Fuel burnt by the job that this thread does: an answer may take several executions, each deep in its own branch.
    static BURNT: Cell<u64> = const { Cell::new(0) };
}

/// Notes what an execution burnt, on the thread that did it.
pub(super) fn burnt(fuel: u64) {
    BURNT.set(BURNT.get().saturating_add(fuel));
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
    /// Counted among the heavy ones; known when it runs.
    heavy: bool,
}

/// A job of its own.
pub(super) type Errand = Box<dyn FnOnce(Option<&Engine>) + Send>;

/// What a worker does.
pub(super) enum Task {
    Answer(Box<Miss>, Done),
    Transfer(Box<Miss>, TransferDone),
    Chain(Name, Rtype, Budget, ChainDone),
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
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shared = Arc::new(Shared::new(RUNNING_HEAVY.min(cores.div_ceil(2))));
        let spawn = |number: usize| {
            let (engine, shared) = (engine.clone(), shared.clone());
            vital(&format!("miss-{number}"), move || serve(&engine, &shared))
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

impl Pool {
    /// Queues a task of the gateway's own before all others, whatever waits: there is one at a time.
    pub(super) fn submit_first(&self, task: Task) {
        // It may share its slot with a zone, whose jobs end.
        let zone = Stamp::of(task.name()).slot_number();
        let mut queue = self.shared.lock();
        queue.zones.entry(zone).or_default().waiting += 1;
        queue.jobs.push_front(Job { zone, about: None, task });
        drop(queue);
        self.shared.wake.notify_one();
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
    stand_back();
    while let Some(mut job) = shared.next() {
        if job.about.is_none() {
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
        }
        BURNT.set(0);
        // The receiver of the answer stops it, and charges the time to the client.
        stopwatch::start(Instant::now());
        let Job { zone, about, task } = job;
        // Locks guard all that jobs share, and it is whole whenever a lock is free.
        if catch_unwind(AssertUnwindSafe(|| perform(engine, task))).is_err() {
            engine.metrics.worker_panics.add(1);
            tracing::error!("a worker panicked; whoever asked gets no answer, the others go on");
        }
        stopwatch::stop();
        shared.finished(zone, about.unwrap_or_default(), BURNT.take());
    }
}

fn perform(engine: &Engine, task: Task) {
    match task {
        Task::Answer(miss, _) if miss.wanted.has_ended() => {}
        Task::Answer(miss, done) => {
            // Work done for its client while it waited counts.
            let executed = miss.budget.spend(Cost::default(), || engine.execute(&miss));
            done(executed.unwrap_or_else(|Overdrawn { .. }| miss.refused()));
        }
        Task::Transfer(request, done) => done(engine.transfer(&request)),
        Task::Chain(name, rtype, budget, done) => done(engine.chain(&name, rtype, &budget)),
        Task::Other(_, errand) => errand(Some(engine)),
    }
}

impl Engine {
    pub(super) fn is_warm(&self, name: &Name) -> bool {
        !self.about(name).cold
    }

    fn about(&self, name: &Name) -> About {
        // A fault shows where the answer is made.
        let entry = self.registry.snapshot().and_then(|snapshot| snapshot.name(&name.suffix(2))).ok().flatten();
        let Some((owner, contract)) = entry.and_then(|entry| Some((entry.owner, entry.contract?))) else {
            return About::default();
        };
        About { owner: Some(owner), cold: !self.host.is_ready(&contract.0), heavy: false }
    }

    /// Tells whoever asked, at once, that too many are waiting.
    pub(super) fn turn_away(&self, task: Task) {
        self.metrics.misses_shed.add(1);
        let refuse = |miss: &Miss| servfail(&miss.query, EdeCode::NotReady, "too many questions are waiting".into());
        match task {
            Task::Answer(miss, done) => done(miss.reply(&refuse(&miss), 0)),
            Task::Transfer(request, done) => done(Arc::from([refuse(&request)])),
            Task::Chain(.., done) => done(Err(Rcode::ServFail)),
            Task::Other(_, errand) => errand(None),
        }
    }
}

impl Shared {
    fn new(most_heavy: usize) -> Self {
        Self { queue: Mutex::new(Queue { most_heavy, ..Queue::default() }), wake: Condvar::new() }
    }

    /// The oldest job that has room to run; `None` when the pool stops and nothing is left.
    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            let ready = queue.jobs.iter().position(|job| queue.has_room(job));
            if let Some(mut job) = ready.and_then(|at| queue.jobs.remove(at)) {
                queue.begin(&mut job);
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
            job.about = Some(about);
            return Admission::Run(job);
        }
        let mut queue = self.lock();
        if queue.has_room_for(about) {
            job.about = Some(queue.count(about));
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

    fn finished(&self, zone: u16, about: About, fuel: u64) {
        let mut queue = self.lock();
        queue.leave_zone(zone);
        queue.cold -= usize::from(about.cold);
        queue.heavy -= usize::from(about.heavy);
        if let Some(owner) = about.owner {
            queue.fuel.note(owner, fuel);
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
        let owner_has = |owner| {
            let running = self.owners.get(&owner).map_or(0, |load| load.running);
            running < RUNNING_PER_OWNER && !(self.fuel.is_heavy(&owner) && self.heavy >= self.most_heavy)
        };
        about.owner.is_none_or(owner_has) && !(about.cold && self.cold >= RUNNING_COLD)
    }

    /// A job leaves the queue.
    fn begin(&mut self, job: &mut Job) {
        let zone = self.zones.entry(job.zone).or_default();
        zone.waiting -= 1;
        zone.running += 1;
        let Some(about) = job.about else { return };
        if let Some(owner) = about.owner {
            self.owners.entry(owner).or_default().waiting -= 1;
        }
        job.about = Some(self.count(about));
    }

    /// A job runs.
    fn count(&mut self, mut about: About) -> About {
        about.heavy = about.owner.is_some_and(|owner| self.fuel.is_heavy(&owner));
        self.heavy += usize::from(about.heavy);
        self.cold += usize::from(about.cold);
        if let Some(owner) = about.owner {
            self.owners.entry(owner).or_default().running += 1;
        }
        about
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
        Shared::new(1)
    }

    fn bound(owner: SigilId) -> About {
        About { owner: Some(owner), ..About::default() }
    }

    fn finished(shared: &Shared, zone: u16, about: About) {
        shared.finished(zone, about, 0);
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
        queue.jobs.is_empty() && queue.zones.is_empty() && queue.owners.is_empty() && queue.cold + queue.heavy == 0
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
        finished(&shared, 0, bound(X));
        let job = shared.next().unwrap();
        assert_eq!(job.about, Some(bound(X)));
        assert_eq!(shared.lock().owners[&X].running, RUNNING_PER_OWNER);
        for (zone, about) in
            [(1, bound(X)), (2, bound(X)), (3, bound(X)), (job.zone, bound(X)), (6, bound(Y)), (7, About::default())]
        {
            finished(&shared, zone, about);
        }
        let last = shared.next().unwrap();
        finished(&shared, last.zone, last.about.unwrap());
        assert!(is_empty(&shared));
    }

    #[test]
    fn what_must_be_compiled_leaves_workers_to_the_others() {
        let shared = shared();
        let cold = |n: u16| About { cold: true, ..bound(SigilId([n as u8; 32])) };
        (0..4).for_each(|zone| queue(&shared, zone));
        assert_eq!((take(&shared, cold(0)), take(&shared, cold(1))), ((0, Some(true)), (1, Some(true))));
        assert_eq!((take(&shared, cold(2)), take(&shared, cold(3))), ((2, Some(false)), (3, Some(false))));
        queue(&shared, 4);
        assert_eq!(take(&shared, bound(X)), (4, Some(true)));
        finished(&shared, 1, cold(1));
        let next = shared.next().unwrap();
        finished(&shared, next.zone, next.about.unwrap());
        let last = shared.next().unwrap();
        assert_ne!((next.zone, next.about), (last.zone, last.about));
        for (zone, about) in [(0, cold(0)), (4, bound(X)), (last.zone, last.about.unwrap())] {
            finished(&shared, zone, about);
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
            finished(&shared, zone, bound(X));
            done += 1;
            if !shared.lock().jobs.is_empty() {
                running.push(shared.next().unwrap().zone);
            }
        }
        assert_eq!(done, most);
        assert!(is_empty(&shared));
    }

    /// However many owners burn fuel, they leave workers to those who do not; and who stops is not heavy for long.
    #[test]
    fn all_heavy_owners_together_run_on_few_workers() {
        let shared = Shared::new(2);
        let owner = |n: u8| SigilId([n; 32]);
        let burn = |n: u8, fuel| {
            queue(&shared, u16::from(n));
            let job = shared.next().unwrap();
            let Admission::Run(job) = shared.admit(job, bound(owner(n))) else { panic!() };
            shared.finished(job.zone, job.about.unwrap(), fuel);
        };
        (1..=5).for_each(|n| burn(n, HEAVY));
        burn(6, HEAVY - 1);
        (1..=6).for_each(|zone| queue(&shared, zone));
        let runs: Vec<_> = (1..=6).map(|n| take(&shared, bound(owner(n))).1).collect();
        assert_eq!(runs, [Some(true), Some(true), Some(false), Some(false), Some(false), Some(true)]);
        queue(&shared, 7);
        assert_eq!(take(&shared, About::default()), (7, Some(true)));
        let heavy = |n| About { heavy: true, ..bound(owner(n)) };
        shared.finished(1, heavy(1), 0);
        let next = shared.next().unwrap();
        assert_eq!(next.about, Some(heavy(next.zone as u8)));
        // What was burnt long ago counts little, and is forgotten in the end.
        for _ in 0..32 {
            shared.lock().fuel.note(owner(6), SPAN);
        }
        assert!(!shared.lock().fuel.is_heavy(&owner(1)) && shared.lock().fuel.is_heavy(&owner(6)));
        assert_eq!(shared.lock().fuel.owners.len(), 1);
        for n in 0..2 * (SPAN / FORGOTTEN) as u32 {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&n.to_be_bytes());
            shared.lock().fuel.note(SigilId(id), 1);
        }
        assert!(shared.lock().fuel.owners.len() as u64 <= SPAN / FORGOTTEN);
    }
}
