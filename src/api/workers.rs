//! Threads that do what clients ask for over HTTP, behind those that serve sockets.
//!
//! ```text
//! do_for ──> the client's line ──> whose turn is it? ──> worker: one step of the job ──> its reply
//!   │ full          ^                                              │ not at its end
//!   v               └────────────── woken ─────────────────────────┘
//! busy
//! ```
//! A job is a future; a step is what it does until it waits or yields. Clients take turns step by step, so that nobody's jobs
//! wait for more than one step of each other client's, however many one has. Each step is charged to its client.

use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::JoinHandle;

use tokio::runtime::{self, Runtime};
use tokio::sync::oneshot;

use crate::gateway::Prefix;
use crate::limits::{API_ASIDE, API_JOBS, API_JOBS_PER_CLIENT, API_WORKERS};
use crate::processors::{stand_back, thread_time};
use crate::work::{Budget, Cost};

/// Name of the threads, with a number behind.
pub const THREAD_NAME: &str = "api";

/// The threads and the jobs that wait for them. Dropped, it forgets what waits and stops.
pub struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    /// Threads for what blocks, such as the compiler.
    _aside: Runtime,
}

struct Shared {
    lines: Mutex<Lines>,
    wake: Condvar,
}

/// Jobs that are ready, by client, and the clients in the order of their turns.
#[derive(Default)]
struct Lines {
    ready: HashMap<Prefix, VecDeque<Arc<Job>>>,
    turns: VecDeque<Prefix>,
    /// Jobs that are not at their end, by client, and in all.
    jobs: HashMap<Prefix, usize>,
    total: usize,
    stopping: bool,
}

struct Job {
    client: Prefix,
    budget: Budget,
    shared: Weak<Shared>,
    state: AtomicU8,
    begun: AtomicBool,
    /// Nobody waits for it any more.
    abandoned: AtomicBool,
    /// There was no room for it.
    shed: AtomicBool,
    /// `None` when it is at its end.
    future: Mutex<Option<Steps>>,
}

/// The steps that a job still has to do.
type Steps = Pin<Box<dyn Future<Output = ()> + Send>>;

/// States of a job: it waits for something, is in line, runs, runs and has been woken meanwhile.
const IDLE: u8 = 0;
const READY: u8 = 1;
const RUNNING: u8 = 2;
const WOKEN: u8 = 3;

impl Workers {
    /// Starts the threads: half as many as there are cores, and two at least.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start() -> std::io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self::with((cores / 2).clamp(2, API_WORKERS))
    }

    fn with(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { lines: Mutex::default(), wake: Condvar::new() });
        let mut aside = runtime::Builder::new_current_thread();
        aside.thread_name(format!("{THREAD_NAME}-aside")).max_blocking_threads(API_ASIDE).on_thread_start(stand_back);
        let aside = aside.build()?;
        let spawn = |number: usize| {
            let (shared, aside) = (Arc::clone(&shared), aside.handle().clone());
            let name = format!("{THREAD_NAME}-{number}");
            std::thread::Builder::new().name(name).spawn(move || {
                let _aside = aside.enter();
                serve(&shared);
            })
        };
        let threads = (0..threads).map(spawn).collect::<Result<_, _>>()?;
        Ok(Self { shared, threads, _aside: aside })
    }

    /// Does a client's job and gives what comes of it. Dropping what this returns abandons the job before its next step.
    pub fn do_for<T: Send + 'static>(
        &self,
        client: Prefix,
        budget: Budget,
        job: impl Future<Output = T> + Send + 'static,
    ) -> Waiting<T> {
        let (sender, receiver) = oneshot::channel();
        // Fails if nobody waits any more.
        let future = async move { drop(sender.send(job.await)) };
        let job = Arc::new(Job {
            client,
            budget,
            shared: Arc::downgrade(&self.shared),
            state: AtomicU8::new(READY),
            begun: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            shed: AtomicBool::new(false),
            future: Mutex::new(Some(Box::pin(future))),
        });
        let turned_away = self.shared.lines().admit(&job);
        // Not under the lock: whoever waits for it is told here.
        turned_away.inspect(|job| job.shed.store(true, SeqCst)).inspect(|job| job.end());
        self.shared.wake.notify_one();
        Waiting { job, receiver }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let waiting = {
            let mut lines = self.shared.lines();
            lines.stopping = true;
            std::mem::take(&mut lines.ready)
        };
        self.shared.wake.notify_all();
        waiting.into_values().flatten().for_each(|job| job.end());
        for thread in self.threads.drain(..) {
            // A panic has been printed where it happened.
            let _ = thread.join();
        }
    }
}

/// The result of a job.
pub struct Waiting<T> {
    job: Arc<Job>,
    receiver: oneshot::Receiver<T>,
}

/// Why a job came to no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Undone {
    #[error("too much is waiting; ask again")]
    Busy,
    #[error("it could not be done")]
    Failed,
}

impl<T> Future for Waiting<T> {
    type Output = Result<T, Undone>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let done = Pin::new(&mut self.receiver).poll(context);
        let undone = |_| if self.job.shed.load(SeqCst) { Undone::Busy } else { Undone::Failed };
        done.map(|done| done.map_err(undone))
    }
}

impl<T> Drop for Waiting<T> {
    fn drop(&mut self) {
        self.job.abandoned.store(true, SeqCst);
    }
}

/// Ends a step of a job: the other clients come first.
pub async fn next_step() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn serve(shared: &Shared) {
    stand_back();
    while let Some(job) = shared.next() {
        job.step(shared);
    }
}

impl Shared {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        // Nothing panics while it holds the lock.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first job of the client whose turn it is; `None` when the threads are to stop.
    fn next(&self) -> Option<Arc<Job>> {
        let mut lines = self.lines();
        loop {
            if lines.stopping {
                return None;
            }
            if let Some(job) = lines.next() {
                return Some(job);
            }
            lines = self.wake.wait(lines).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn queue(&self, job: Arc<Job>) {
        let mut lines = self.lines();
        if lines.stopping {
            drop(lines);
            job.end();
            return;
        }
        lines.push(job);
        drop(lines);
        self.wake.notify_one();
    }
}

impl Lines {
    /// Queues a job, and gives the one that there is no room for: it, or, where another client has more, one of that client's.
    fn admit(&mut self, job: &Arc<Job>) -> Option<Arc<Job>> {
        let of_client = self.jobs.get(&job.client).copied().unwrap_or(0);
        let full = self.total >= API_JOBS;
        let instead = if full { self.newest_of_most(of_client) } else { None };
        if self.stopping || of_client >= API_JOBS_PER_CLIENT || (full && instead.is_none()) {
            return Some(Arc::clone(job));
        }
        self.total += 1;
        self.jobs.insert(job.client, of_client + 1);
        self.push(Arc::clone(job));
        instead
    }

    fn push(&mut self, job: Arc<Job>) {
        let line = self.ready.entry(job.client).or_default();
        if line.is_empty() {
            self.turns.push_back(job.client);
        }
        line.push_back(job);
    }

    fn next(&mut self) -> Option<Arc<Job>> {
        let client = self.turns.pop_front()?;
        let line = self.ready.get_mut(&client)?;
        let job = line.pop_front();
        if line.is_empty() {
            self.ready.remove(&client);
        } else {
            self.turns.push_back(client);
        }
        job
    }

    /// Takes out the newest job that has not begun of the client with the most, if that has more than one over `of_client`.
    fn newest_of_most(&mut self, of_client: usize) -> Option<Arc<Job>> {
        let most = self.jobs.iter().max_by_key(|(_, jobs)| **jobs).filter(|(_, jobs)| **jobs > of_client + 1);
        let client = *most?.0;
        let line = self.ready.get_mut(&client)?;
        let at = line.iter().rposition(|job| !job.begun.load(SeqCst))?;
        let job = line.remove(at);
        if line.is_empty() {
            self.ready.remove(&client);
            self.turns.retain(|turn| *turn != client);
        }
        self.leave(client);
        job
    }

    fn leave(&mut self, client: Prefix) {
        self.total -= 1;
        if let Some(jobs) = self.jobs.get_mut(&client) {
            *jobs -= 1;
            if *jobs == 0 {
                self.jobs.remove(&client);
            }
        }
    }
}

impl Job {
    fn future(&self) -> MutexGuard<'_, Option<Steps>> {
        self.future.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets the job: whoever waits for it is told.
    fn end(&self) {
        let future = self.future().take();
        drop(future);
    }

    /// Does the next step on this thread.
    fn step(self: Arc<Self>, shared: &Shared) {
        self.begun.store(true, SeqCst);
        self.state.store(RUNNING, SeqCst);
        if self.abandoned.load(SeqCst) || self.poll() {
            self.end();
            shared.lines().leave(self.client);
        } else if self.state.compare_exchange(RUNNING, IDLE, SeqCst, SeqCst).is_err() {
            self.state.store(READY, SeqCst);
            shared.queue(self);
        }
    }

    /// True if the job is at its end, or broke.
    fn poll(self: &Arc<Self>) -> bool {
        let waker = Waker::from(Arc::clone(self));
        let mut future = self.future();
        let Some(future) = future.as_mut() else { return true };
        let began = thread_time();
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker))));
        self.budget.charge(Cost::cpu(thread_time().saturating_sub(began)));
        // The panic has been printed. The future must not be polled again.
        polled.map_or(true, |polled| polled.is_ready())
    }
}

impl Wake for Job {
    fn wake(self: Arc<Self>) {
        loop {
            match self.state.load(SeqCst) {
                IDLE if self.state.compare_exchange(IDLE, READY, SeqCst, SeqCst).is_ok() => {
                    if let Some(shared) = self.shared.upgrade() {
                        shared.queue(self);
                    }
                    return;
                }
                RUNNING if self.state.compare_exchange(RUNNING, WOKEN, SeqCst, SeqCst).is_ok() => return,
                IDLE | RUNNING => {}
                _ => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const A: Prefix = Prefix::V4(1);
    const B: Prefix = Prefix::V4(2);

    fn wait<T>(waiting: Waiting<T>) -> Result<T, Undone> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(waiting)
    }

    /// Keeps the one worker busy until what it gives is dropped.
    fn stopped(workers: &Workers) -> (mpsc::Sender<()>, Waiting<()>) {
        let (go, held) = mpsc::channel::<()>();
        let (began, begun) = mpsc::channel();
        let job = async move {
            began.send(()).unwrap();
            held.recv().unwrap_err();
        };
        let waiting = workers.do_for(Prefix::V4(0), Budget::unlimited(), job);
        begun.recv().unwrap();
        (go, waiting)
    }

    #[test]
    fn a_job_is_done_on_a_worker_and_charged() {
        let workers = Workers::with(2).unwrap();
        let name = workers.do_for(A, Budget::unlimited(), async { std::thread::current().name().map(str::to_owned) });
        assert!(wait(name).unwrap().unwrap().starts_with(THREAD_NAME));
        let (sender, receiver) = oneshot::channel();
        let waits = workers.do_for(A, Budget::unlimited(), receiver);
        std::thread::spawn(|| sender.send(7)).join().unwrap().unwrap();
        assert_eq!(wait(waits), Ok(Ok(7)));
    }

    #[test]
    fn clients_take_turns_step_by_step() {
        let workers = Workers::with(1).unwrap();
        let (go, _first) = stopped(&workers);
        let (told, order) = mpsc::channel();
        let three_steps = |client: Prefix| {
            let told = told.clone();
            async move {
                for _ in 0..3 {
                    told.send(client).unwrap();
                    next_step().await;
                }
            }
        };
        let jobs = [A, A, A, B].map(|client| workers.do_for(client, Budget::unlimited(), three_steps(client)));
        drop(go);
        jobs.into_iter().for_each(|job| wait(job).unwrap());
        drop(told);
        let order: Vec<Prefix> = order.iter().collect();
        // B came last, has every second turn, and is done when A has done as many steps.
        assert_eq!(order[..6], [A, B, A, B, A, B]);
        assert_eq!(order.len(), 12);
    }

    #[test]
    fn one_client_cannot_fill_the_queue() {
        let workers = Workers::with(1).unwrap();
        let (go, _first) = stopped(&workers);
        let job = |client| workers.do_for(client, Budget::unlimited(), async {});
        let _of_one: Vec<_> = (0..API_JOBS_PER_CLIENT).map(|_| job(A)).collect();
        assert_eq!(wait(job(A)), Err(Undone::Busy));
        // Others fill what is left, all as greedy; then a newcomer comes in their place.
        let others = (0..API_JOBS / API_JOBS_PER_CLIENT).flat_map(|n| vec![Prefix::V6(n as u64); API_JOBS_PER_CLIENT]);
        let _others: Vec<_> = others.map(job).collect();
        assert_eq!(workers.shared.lines().total, API_JOBS);
        let newcomer = job(B);
        assert_eq!(workers.shared.lines().total, API_JOBS);
        drop(go);
        assert_eq!(wait(newcomer), Ok(()));
    }

    #[test]
    fn what_breaks_or_is_abandoned_leaves_nothing_behind() {
        let workers = Workers::with(1).unwrap();
        assert_eq!(
            wait(workers.do_for(A, Budget::unlimited(), async { panic!("on purpose") })),
            Err::<(), _>(Undone::Failed)
        );
        let (go, first) = stopped(&workers);
        let (told, abandoned) = mpsc::channel::<()>();
        drop(workers.do_for(A, Budget::unlimited(), async move { told.send(()).unwrap() }));
        drop(go);
        wait(first).unwrap();
        assert_eq!(wait(workers.do_for(A, Budget::unlimited(), async { 7 })), Ok(7));
        assert!(abandoned.recv().is_err());
        while workers.shared.lines().total > 0 {
            std::thread::yield_now();
        }
        assert!(workers.shared.lines().jobs.is_empty());
        let (go, _first) = stopped(&workers);
        let waits = workers.do_for(A, Budget::unlimited(), async {});
        drop(go);
        drop(workers);
        // Done, or forgotten: but told.
        let _ = wait(waits);
    }
}
