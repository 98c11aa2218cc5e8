//! The write path: one thread, many ops a commit.
//!
//! ```text
//! submit -> bounded queue -> [ apply each -> covenants -> rows and log in one transaction ] -> durable commit
//!             full: Busy                  rejected: nothing written                        -> stamps -> replies
//! ```

mod judge;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, TrySendError, sync_channel};
use std::thread::JoinHandle;

use crate::contract::ContractHost;
use crate::limits::{COMMIT_BYTES, COMMIT_OPS, WRITE_QUEUE};
use crate::metrics::Metrics;
use crate::op::{Rejection, VerifiedOp};
use crate::registry::{Fault, LogEntry, Registry, Stamp};
use crate::state::{ApplyError, At, Effects, Rules, apply};

/// Seconds since 1970, from the shell.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

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

struct Job {
    op: VerifiedOp,
    done: Done,
}

/// The way to the writer's thread. Dropped, it lets the writer finish what is queued and stop.
pub struct Writer {
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
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
        let run = Run { registry, rules, host, clock, metrics };
        let thread = std::thread::Builder::new().name("writer".into()).spawn(move || run.serve(&jobs))?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Queues an op. `done` is called exactly once: at once with `Busy` if the queue is full, otherwise
    /// after the op was rejected or its commit is durable.
    pub fn submit(&self, op: VerifiedOp, done: Done) {
        let Some(queue) = &self.queue else { return done(Err(Rejection::Stopping)) };
        match queue.try_send(Job { op, done }) {
            Ok(()) => {}
            Err(TrySendError::Full(job)) => (job.done)(Err(Rejection::Busy)),
            Err(TrySendError::Disconnected(job)) => (job.done)(Err(Rejection::Stopping)),
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
}

impl Run {
    fn serve(&self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let (ops, replies): (Vec<_>, Vec<_>) =
                gather(first, jobs).into_iter().map(|job| (job.op, job.done)).unzip();
            let outcomes = self.commit(&ops).unwrap_or_else(|fault| {
                tracing::error!(%fault, ops = ops.len(), "commit failed; nothing of the batch was written");
                ops.iter().map(|_| Err(Rejection::Fault(fault.0.clone()))).collect()
            });
            for (outcome, done) in outcomes.into_iter().zip(replies) {
                let counter = if outcome.is_ok() { &self.metrics.ops_accepted } else { &self.metrics.ops_rejected };
                counter.add(1);
                done(outcome);
            }
        }
    }

    /// Applies a batch in order and commits what was accepted.
    fn commit(&self, ops: &[VerifiedOp]) -> Result<Vec<Outcome>, Fault> {
        let transaction = self.registry.begin_write()?;
        let mut touched = Vec::new();
        let (outcomes, last) = {
            let tables = transaction.tables()?;
            let (mut last, time) = tables.last()?;
            let time = time.max((self.clock)());
            let mut outcomes = Vec::with_capacity(ops.len());
            for op in ops {
                let at = At { seq: last + 1, time };
                match self.apply_one(&tables, at, op)? {
                    Ok(effects) => {
                        last = at.seq;
                        touched.extend(effects.touched.iter().map(Stamp::of));
                        touched.extend(effects.gained.iter().map(Stamp::of_account));
                        outcomes.push(Ok(Receipt { seq: at.seq, time }));
                    }
                    Err(rejection) => outcomes.push(Err(rejection)),
                }
            }
            (outcomes, last)
        };
        if outcomes.iter().any(Result::is_ok) {
            transaction.commit()?;
            self.metrics.commits.add(1);
            self.registry.publish(last, touched);
        }
        Ok(outcomes)
    }

    fn apply_one(
        &self,
        tables: &crate::registry::WriteTables<'_>,
        at: At,
        op: &VerifiedOp,
    ) -> Result<Result<Effects, Rejection>, Fault> {
        // The clock may have passed an op's expiry since it was verified, or have been set back.
        if let Err(rejection) = op.check_time(at.time) {
            return Ok(Err(rejection));
        }
        match apply(tables, &*self.rules, at, op) {
            Ok(effects) => {
                if let Err(rejection) = judge::judge(&self.host, tables, at, op)? {
                    return Ok(Err(rejection));
                }
                tables.write(at.seq, &LogEntry { time: at.time, op: op.bytes().to_vec() }, &effects)?;
                Ok(Ok(effects))
            }
            Err(ApplyError::Rejected(rejection)) => Ok(Err(rejection)),
            Err(ApplyError::Fault(fault)) => Err(fault),
        }
    }
}

/// What waits already, up to a commit's size; never waits for more.
fn gather(first: Job, jobs: &Receiver<Job>) -> Vec<Job> {
    let mut bytes = first.op.bytes().len();
    let mut batch = vec![first];
    while batch.len() < COMMIT_OPS && bytes < COMMIT_BYTES {
        match jobs.try_recv() {
            Ok(job) => {
                bytes += job.op.bytes().len();
                batch.push(job);
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
        }
    }
    batch
}
