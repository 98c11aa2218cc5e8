//! The write path: one thread, many ops a commit.
//!
//! ```text
//! gate -> Pass -> bounded queue -> [ apply each -> covenants -> rows and log in one transaction ] -> durable commit
//!   full: Busy        heavy last     rejected: nothing written; denied: owed                      -> stamps -> replies
//!                                                                      the disk failed: reopened, and tried again
//! ```

mod intake;
mod judge;
mod queue;

pub use crate::clock::Clock;
pub use intake::{Applicant, Intake, Pass};

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::contract::ContractHost;
use crate::limits::{CLOCK_JUMP, REOPEN_FIRST, REOPEN_LONGEST, WRITE_QUEUE};
use crate::metrics::{Metrics, Trouble};
use crate::op::{Op, Rejection, VerifiedOp};
use crate::registry::{Fault, LogEntry, Registry, Stamp, WriteTables};
use crate::state::guardians::account_of;
use crate::state::{ApplyError, At, Effects, Rules, amends_time, apply, price_of};
use crate::threads::vital;
use judge::Bound;
use queue::{Commit, Fuel, Queue};

/// Proof that an op is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Its place in the log, from 1.
    pub seq: u64,
    /// Op time, seconds since 1970.
    pub time: u64,
}

/// What became of an op.
pub type Outcome = Result<Receipt, Rejection>;

/// Told what became of an op, on the writer's thread; must not block.
pub type Done = Box<dyn FnOnce(Outcome) + Send>;

/// An op that the gate has let in.
#[derive(Debug)]
pub struct Admitted {
    pub op: VerifiedOp,
    pub pass: Pass,
}

struct Job {
    op: VerifiedOp,
    /// `None` for the gateway's own ops.
    pass: Option<Pass>,
    done: Done,
}

impl Job {
    fn tell(self, outcome: Outcome, now: u64) {
        // Before the reply: whoever hears it may send the next op at once.
        match (self.pass, &outcome) {
            (Some(pass), Err(rejection)) => pass.rejected(rejection, now),
            (pass, _) => drop(pass),
        }
        (self.done)(outcome);
    }
}

/// The way to the writer's thread. Dropped, it lets the writer finish what is queued and stop.
pub struct Writer {
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
    intake: Arc<Intake>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(
        registry: Arc<Registry>,
        rules: Arc<dyn Rules + Send + Sync>,
        host: Arc<ContractHost>,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(WRITE_QUEUE);
        let intake = Arc::new(Intake::default());
        let run = Run { registry, rules, host, clock, metrics, intake: intake.clone() };
        let thread = vital("writer", move || run.serve(&jobs))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), intake })
    }

    /// Ops under way and debts, which the gate asks for.
    pub fn intake(&self) -> &Arc<Intake> {
        &self.intake
    }

    /// Queues an op of the gateway's own. `done` is called exactly once: at once with `Busy` if the queue is full, otherwise
    /// after the op was rejected or its commit is durable.
    pub fn submit(&self, op: VerifiedOp, done: Done) {
        self.queue(Job { op, pass: None, done });
    }

    /// Queues an op that came through the gate; else like [`Writer::submit`].
    pub fn submit_admitted(&self, Admitted { op, pass }: Admitted, done: Done) {
        self.queue(Job { op, pass: Some(pass), done });
    }

    fn queue(&self, job: Job) {
        let Some(queue) = &self.queue else { return job.tell(Err(Rejection::Stopping), 0) };
        match queue.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(job)) => job.tell(Err(Rejection::Busy), 0),
            Err(TrySendError::Disconnected(job)) => job.tell(Err(Rejection::Stopping), 0),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.queue.take());
        // A panic of the writer has been printed where it happened.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

struct Run {
    registry: Arc<Registry>,
    rules: Arc<dyn Rules + Send + Sync>,
    host: Arc<ContractHost>,
    clock: Clock,
    metrics: Arc<Metrics>,
    intake: Arc<Intake>,
}

/// The disk has failed; since then nothing is written.
struct Broken {
    reason: String,
    again: Instant,
    pause: Duration,
}

impl Broken {
    fn new(reason: String, pause: Duration) -> Self {
        Self { reason, again: Instant::now() + pause, pause }
    }

    fn wait(&self) -> Duration {
        self.again.saturating_duration_since(Instant::now())
    }
}

impl Run {
    fn serve(&self, jobs: &Receiver<Job>) {
        let mut queue = Queue::default();
        let mut broken: Option<Broken> = None;
        // The last pause, until a commit succeeds.
        let mut pause = Duration::ZERO;
        while queue.fill(jobs, broken.as_ref().map(Broken::wait)) {
            if let Some(mut failed) = broken.take()
                && !self.recover(&mut failed)
            {
                queue.reject_all(&Rejection::StoreFailed { reason: failed.reason.clone() }, (self.clock)());
                broken = Some(failed);
                continue;
            }
            if queue.is_empty() {
                continue;
            }
            broken = self.commit(&mut queue, &mut pause);
        }
    }

    /// Whether writes can go on after the disk has failed; the store is open for reads in any case if that can be.
    fn recover(&self, broken: &mut Broken) -> bool {
        if !broken.wait().is_zero() {
            return false;
        }
        let mended = if self.registry.is_sound() { Ok(()) } else { self.registry.reopen() };
        let mended = mended.and_then(|()| self.registry.check_room().map_err(|error| Fault(error.to_string())));
        match mended {
            Ok(()) => {
                self.metrics.health.clear(Trouble::Store);
                tracing::info!("the store takes commits again");
                true
            }
            Err(fault) => {
                *broken = Broken::new(fault.0, (broken.pause * 2).min(REOPEN_LONGEST));
                false
            }
        }
    }

    /// A commit has failed: opens the store again if the disk has, at once, because it takes no reads either.
    fn failed(&self, fault: &Fault, pause: Duration) -> Option<Broken> {
        if self.registry.is_sound() {
            // Not the disk: something that it gave does not read as what was written.
            self.metrics.health.raise(Trouble::Damage);
            tracing::error!(%fault, "commit failed; nothing of the batch was written");
            return None;
        }
        if self.metrics.health.raise(Trouble::Store) {
            tracing::error!(%fault, "commit failed; the store is opened again, and nothing is written until it can be");
        }
        if let Err(fault) = self.registry.reopen() {
            tracing::error!(%fault, "the store does not open");
        }
        Some(Broken::new(fault.0.clone(), pause))
    }

    /// Applies what is queued and commits what is accepted. Every op that is taken has its reply afterwards.
    fn commit(&self, queue: &mut Queue, pause: &mut Duration) -> Option<Broken> {
        let (mut commit, now) = (Commit::default(), (self.clock)());
        let result = self.apply_all(queue, &mut commit, now);
        queue.settle();
        let mut broken = None;
        match (result, commit.last) {
            (Ok(()), Some(last)) => {
                *pause = Duration::ZERO;
                self.metrics.commits.add(1);
                self.registry.publish(last, commit.touched.drain(..));
            }
            (Ok(()), None) => {}
            (Err(fault), last) => {
                *pause = (*pause * 2).clamp(REOPEN_FIRST, REOPEN_LONGEST);
                broken = self.failed(&fault, *pause);
                // It may have reached the disk before that failed.
                if last.is_none_or(|last| self.registry.published() < last) {
                    commit.fail(&fault);
                }
            }
        }
        self.tell(commit, now);
        broken
    }

    fn tell(&self, commit: Commit, now: u64) {
        for (job, outcome) in commit.told {
            let counter = if outcome.is_ok() { &self.metrics.ops_accepted } else { &self.metrics.ops_rejected };
            counter.add(1);
            job.tell(outcome, now);
        }
    }

    fn apply_all(&self, queue: &mut Queue, commit: &mut Commit, now: u64) -> Result<(), Fault> {
        let transaction = self.registry.begin_write()?;
        let (mut last, mut failed) = (None, None);
        {
            let tables = transaction.tables()?;
            let (first, mut latest) = tables.last()?;
            queue.take(commit, |job, fuel| {
                let seq = last.unwrap_or(first) + 1;
                let at = self.op_time(latest, now, job.op.op()).map(|time| At { seq, time });
                let outcome = at.and_then(|at| Ok((at, self.apply_one(&tables, at, job, fuel)?)));
                let (at, effects) = match outcome {
                    Ok(applied) => applied,
                    Err(Held::Waits) => return Ok(None),
                    Err(Held::Rejected(rejection)) => return Ok(Some((Err(rejection), Vec::new()))),
                    // A row that does not decode is this op's misfortune, and nobody else's.
                    Err(Held::Fault(fault)) => {
                        let told = Rejection::Fault(fault.0.clone());
                        failed = Some(fault);
                        return Ok(Some((Err(told), Vec::new())));
                    }
                };
                tables.write(at.seq, &LogEntry { time: at.time, op: job.op.bytes().to_vec() }, &effects)?;
                (last, latest) = (Some(at.seq), at.time);
                let touched = effects.touched.iter().map(Stamp::of);
                let touched = touched.chain(effects.gained.iter().map(Stamp::of_account)).collect();
                Ok(Some((Ok(Receipt { seq: at.seq, time: at.time }), touched)))
            })?;
        }
        commit.last = last;
        match (last, failed) {
            (Some(_), _) => transaction.commit(),
            (None, Some(fault)) => Err(fault),
            (None, None) => Ok(()),
        }
    }

    /// The time of an op behind one of `latest`.
    fn op_time(&self, latest: u64, now: u64, op: &Op) -> Result<u64, Held> {
        let ahead = latest > now + CLOCK_JUMP;
        self.metrics.health.set(Trouble::LogAhead, ahead);
        if self.metrics.health.has(Trouble::Clock) {
            return Err(Rejection::ClockJump { now }.into());
        }
        match ahead {
            false => Ok(latest.max(now)),
            true if amends_time(op) => Ok(now),
            true => Err(Rejection::LogAhead { latest, now }.into()),
        }
    }

    /// Applies one op. `fuel` says whether its covenants may run, and takes what they burn.
    fn apply_one(&self, tables: &WriteTables<'_>, at: At, job: &Job, fuel: &mut Fuel<'_>) -> Result<Effects, Held> {
        // The clock may have passed an op's expiry since it was verified, or have been set back.
        job.op.check_time(at.time)?;
        let bound = judge::bound(tables, job.op.op())?;
        if !bound.is_empty() && !fuel.may_burn() {
            return Err(Held::Waits);
        }
        let effects = apply(tables, &*self.rules, at, &job.op).map_err(|error| match error {
            ApplyError::Rejected(rejection) => Held::Rejected(rejection),
            ApplyError::Fault(fault) => Held::Fault(fault),
        })?;
        if !bound.is_empty() {
            self.judge(tables, at, job, bound, fuel)?;
        }
        Ok(effects)
    }

    /// Whether the covenants let an op pass. If not, its author owes what they burnt; and one that owes more than the
    /// account holds is not judged.
    fn judge(
        &self,
        tables: &WriteTables<'_>,
        at: At,
        job: &Job,
        bound: Vec<Bound>,
        fuel: &mut Fuel<'_>,
    ) -> Result<(), Held> {
        let author = judge::answerable(tables, &job.op)?;
        let account = account_of(tables, &author)?.unwrap_or_default().at(at.time);
        if self.intake.owed(&author, at.time) > 0 {
            let price = price_of(tables, &*self.rules, at.time, &job.op)?;
            self.intake.affords(&author, &account, price, at.time)?;
        }
        // Code that came through the gate is compiled, unless other code has driven it out since.
        if job.pass.is_some() && !bound.iter().all(|bound| self.host.is_ready(bound.code())) {
            return Err(Rejection::Busy.into());
        }
        let judgement = judge::judge(&self.host, tables, at, (&job.op, author), bound)?;
        fuel.burn(author, job.op.op().name(), judgement.fuel);
        if let Some(pass) = &job.pass {
            pass.burnt(judgement.fuel);
        }
        if judgement.verdict.as_ref().is_err_and(|rejection| !rejection.is_ours()) {
            self.intake.owe_fuel(author, &account, judgement.fuel, at.time);
        }
        Ok(judgement.verdict?)
    }
}

/// Why an op is not applied now.
enum Held {
    /// Until the next commit.
    Waits,
    Rejected(Rejection),
    Fault(Fault),
}

impl From<Rejection> for Held {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<Fault> for Held {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}
