//! Ops that wait for the writer, and the order in which a commit takes them.
//!
//! ```text
//! as it came -> light: nobody's covenants stand behind it, or they burnt little of late
//!               heavy: the author's or the name's covenants burnt much; after everybody else
//! covenants have an allowance in each commit; what would need more waits for the next one, with all its author sent later
//! ```
//! So covenants of a few names cost others a few milliseconds, however many of their ops wait.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use super::{Job, Outcome};
use crate::limits::{
    COMMIT_BYTES, COMMIT_OPS, COVENANT_FUEL_HEAVY, COVENANT_FUEL_LEAST, COVENANT_FUEL_PER_COMMIT, WRITE_QUEUE,
};
use crate::op::{Identity, Rejection};
use crate::registry::{Fault, Stamp};
use crate::wire::Name;

/// Ops in the order in which they came, but for the heavy ones.
#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<Job>,
    burnt: Burnt,
}

/// Ops that one commit has taken.
#[derive(Default)]
pub(super) struct Commit {
    pub told: Vec<(Job, Outcome)>,
    pub touched: Vec<Stamp>,
    /// The last sequence that it writes, once it has begun to.
    pub last: Option<u64>,
}

impl Commit {
    /// Nothing of it was written.
    pub fn fail(&mut self, fault: &Fault) {
        for (_, outcome) in &mut self.told {
            // A rejection stands whatever the disk does.
            if outcome.is_ok() {
                *outcome = Err(Rejection::Fault(fault.0.clone()));
            }
        }
    }
}

/// Fuel that covenants burnt of late. It is halved after each commit, so there are never many.
#[derive(Default)]
struct Burnt(HashMap<Mark, u64>);

#[derive(PartialEq, Eq, Hash)]
enum Mark {
    Author(Identity),
    Name(Name),
}

/// The allowance of covenants in one commit.
pub(super) struct Fuel<'a> {
    burnt: &'a mut Burnt,
    left: u64,
}

impl Fuel<'_> {
    /// Whether another op may be judged in this commit.
    pub fn may_burn(&self) -> bool {
        self.left > 0
    }

    /// Takes what covenants burnt on an op of `author` about `name`.
    pub fn burn(&mut self, author: Identity, name: Option<&Name>, fuel: u64) {
        let fuel = fuel.max(COVENANT_FUEL_LEAST);
        self.left = self.left.saturating_sub(fuel);
        for mark in [Some(Mark::Author(author)), name.cloned().map(Mark::Name)].into_iter().flatten() {
            *self.burnt.0.entry(mark).or_default() += fuel;
        }
    }
}

impl Burnt {
    fn is_heavy(&self, job: &Job) -> bool {
        let heavy = |mark| self.0.get(&mark).is_some_and(|burnt| *burnt >= COVENANT_FUEL_HEAVY);
        !self.0.is_empty()
            && (heavy(Mark::Author(job.op.author())) || job.op.op().name().cloned().map(Mark::Name).is_some_and(heavy))
    }

    fn halve(&mut self) {
        self.0.retain(|_, burnt| {
            *burnt /= 2;
            *burnt >= COVENANT_FUEL_LEAST
        });
    }
}

impl Queue {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes in what waits already. If that is nothing, it waits for more: for so long, if at all. False at the end.
    pub fn fill(&mut self, jobs: &Receiver<Job>, most: Option<Duration>) -> bool {
        if self.waiting.is_empty() {
            let first = match most {
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(most) => jobs.recv_timeout(most),
            };
            match first {
                Ok(job) => self.waiting.push_back(job),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        let room = WRITE_QUEUE.saturating_sub(self.waiting.len());
        self.waiting.extend(jobs.try_iter().take(room));
        true
    }

    /// Hands ops to `apply` until the commit is full: light ones first, an author's in their order. `None` from it: not in
    /// this commit.
    ///
    /// # Errors
    /// The result of `apply` for the last op that it was given.
    pub fn take(
        &mut self,
        commit: &mut Commit,
        mut apply: impl FnMut(&Job, &mut Fuel<'_>) -> Result<Option<(Outcome, Vec<Stamp>)>, Fault>,
    ) -> Result<(), Fault> {
        self.sort();
        let mut fuel = Fuel { burnt: &mut self.burnt, left: COVENANT_FUEL_PER_COMMIT };
        let (mut bytes, mut held) = (0, HashSet::new());
        let mut left = VecDeque::new();
        let mut result = Ok(());
        for job in std::mem::take(&mut self.waiting) {
            let full = commit.told.len() >= COMMIT_OPS || bytes >= COMMIT_BYTES || result.is_err();
            if full || held.contains(&job.op.author()) {
                left.push_back(job);
                continue;
            }
            match apply(&job, &mut fuel) {
                Ok(Some((outcome, touched))) => {
                    bytes += job.op.bytes().len();
                    commit.touched.extend(touched);
                    commit.told.push((job, outcome));
                }
                Ok(None) => {
                    held.insert(job.op.author());
                    left.push_back(job);
                }
                Err(fault) => {
                    commit.told.push((job, Err(Rejection::Fault(fault.0.clone()))));
                    result = Err(fault);
                }
            }
        }
        self.waiting = left;
        result
    }

    /// A commit is over.
    pub fn settle(&mut self) {
        self.burnt.halve();
    }

    /// Rejects everything that waits.
    pub fn reject_all(&mut self, rejection: &Rejection, now: u64) {
        self.waiting.drain(..).for_each(|job| job.tell(Err(rejection.clone()), now));
    }

    /// Puts heavy ops behind light ones, and behind a heavy one all that its author sent later.
    fn sort(&mut self) {
        let mut authors = HashSet::new();
        let (light, heavy): (VecDeque<_>, VecDeque<_>) = self.waiting.drain(..).partition(|job| {
            let heavy = authors.contains(&job.op.author()) || self.burnt.is_heavy(job);
            if heavy {
                authors.insert(job.op.author());
            }
            !heavy
        });
        self.waiting = light;
        self.waiting.extend(heavy);
    }
}
