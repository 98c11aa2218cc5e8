//! The forwarder's thread: every question is asked once, however many wait for it.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::ask::{Asker, Failed};
use super::found::{Found, Told};
use super::store::Question;
use super::{Done, Ordinary, Shared};
use crate::limits::{FORWARD_DEADLINE, FORWARD_OUTSTANDING, FORWARD_WAITING, STALE_AFTER};
use crate::metrics::Forwarded;
use crate::wire::Query;

/// What the sockets' threads want.
pub(super) enum Job {
    Answer(Box<Query>, Done),
    /// Nobody waits for it.
    Refresh(Question),
}

enum Event {
    Found(Question, Result<Found, Failed>),
    /// The question with this number has taken long.
    Late(Question, u64),
}

/// A question on its way.
struct Pending {
    waiters: Vec<(Box<Query>, Done)>,
    number: u64,
    late: bool,
    timer: AbortHandle,
}

pub(super) struct Worker {
    shared: Arc<Shared>,
    asker: Asker,
    pending: HashMap<Question, Pending>,
    /// Clients that wait for any of them.
    waiting: usize,
    /// Questions so far.
    asked: u64,
    tasks: JoinSet<Event>,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, asker: Asker) -> Self {
        Self { shared, asker, pending: HashMap::new(), waiting: 0, asked: 0, tasks: JoinSet::new() }
    }

    /// Runs until nobody can send a job any more.
    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        loop {
            tokio::select! {
                job = jobs.recv() => match job {
                    Some(Job::Answer(query, done)) => self.answer(query, done),
                    Some(Job::Refresh(question)) => drop(self.begin(question)),
                    None => break,
                },
                Some(event) = self.tasks.join_next() => match event {
                    Ok(Event::Found(question, result)) => self.found(question, result),
                    Ok(Event::Late(question, number)) => self.late(question, number),
                    // A timer that was stopped. No task panics: what may is caught in it.
                    Err(_) => {}
                },
            }
        }
        for (query, done) in self.pending.into_values().flat_map(|pending| pending.waiters) {
            done(self.shared.shed(&query));
        }
    }

    fn answer(&mut self, query: Box<Query>, done: Done) {
        // Others may have asked meanwhile.
        if let Some((ordinary, outcome)) = self.shared.known(&query, (self.shared.clock)(), || {}) {
            self.shared.metrics.count_forwarded(outcome);
            return done(ordinary);
        }
        let question = Question::from(&*query);
        let stale = self.stale(&question);
        let has_room = self.waiting < FORWARD_WAITING;
        match (self.begin(question), stale) {
            (Some(pending), Some(stale)) if pending.late => self.give_stale(stale, done),
            (Some(pending), _) if has_room => {
                pending.waiters.push((query, done));
                self.waiting += 1;
            }
            (_, Some(stale)) => self.give_stale(stale, done),
            _ => done(self.shared.shed(&query)),
        }
    }

    /// Asks a question, unless it is on its way already; `None` if too many are.
    fn begin(&mut self, question: Question) -> Option<&mut Pending> {
        if !self.pending.contains_key(&question) {
            if self.pending.len() >= FORWARD_OUTSTANDING {
                return None;
            }
            self.asked += 1;
            let (number, timer) = (self.asked, self.spawn(&question, self.asked));
            let pending = Pending { waiters: Vec::new(), number, late: false, timer };
            self.pending.insert(question.clone(), pending);
        }
        self.pending.get_mut(&question)
    }

    fn spawn(&mut self, question: &Question, number: u64) -> AbortHandle {
        let (asker, question, late) = (self.asker.clone(), question.clone(), question.clone());
        self.tasks.spawn(async move {
            let asking = timeout(FORWARD_DEADLINE, AssertUnwindSafe(asker.ask(&question)).catch_unwind()).await;
            let result = match asking {
                Ok(Ok(result)) => result,
                // It has been printed; what an upstream sent to make it so is not to be believed.
                Ok(Err(_panic)) => Err(Failed::Unreadable),
                Err(_elapsed) => Err(Failed::Late),
            };
            Event::Found(question, result)
        });
        self.tasks.spawn(async move {
            sleep(STALE_AFTER).await;
            Event::Late(late, number)
        })
    }

    /// What is kept is kept before anybody is told: who asks again then finds it.
    fn found(&mut self, question: Question, result: Result<Found, Failed>) {
        let Some(pending) = self.pending.remove(&question) else { return };
        pending.timer.abort();
        self.waiting -= pending.waiters.len();
        let (now, store) = ((self.shared.clock)(), &self.shared.store);
        let (told, stale, outcome) = match result {
            Ok(mut found) => {
                // What is local is not the gateway's to answer: the chain ends there.
                found.ours.take_if(|target| self.shared.local.holds(target));
                let told = Arc::new(Told::new(&question, &found, self.shared.negative));
                store.put(question, told.clone(), now);
                (told, None, Forwarded::Miss)
            }
            Err(failed) => {
                let told = Arc::new(Told::failure(&question, failed.ede(), failed.to_string()));
                let bogus = matches!(failed, Failed::Bogus(..));
                let stale = self.stale(&question).filter(|_| !bogus);
                // That we have too much to do says nothing about the name.
                if failed != Failed::Busy {
                    store.fail(question, told.clone(), bogus, now);
                }
                (told, stale, Forwarded::Failed)
            }
        };
        for (_, done) in pending.waiters {
            match stale.clone() {
                Some(stale) => self.give_stale(stale, done),
                None => {
                    self.shared.metrics.count_forwarded(outcome);
                    done(Ordinary::new(told.clone()));
                }
            }
        }
    }

    fn late(&mut self, question: Question, number: u64) {
        let stale = self.stale(&question);
        let Some(pending) = self.pending.get_mut(&question).filter(|pending| pending.number == number) else { return };
        pending.late = true;
        let Some(stale) = stale else { return };
        let waiters = std::mem::take(&mut pending.waiters);
        self.waiting -= waiters.len();
        for (_, done) in waiters {
            self.give_stale(stale.clone(), done);
        }
    }

    fn stale(&self, question: &Question) -> Option<Ordinary> {
        let good = self.shared.store.stale(question, (self.shared.clock)())?;
        Some(Ordinary::stale(good.told.clone()))
    }

    fn give_stale(&self, stale: Ordinary, done: Done) {
        self.shared.metrics.count_forwarded(Forwarded::Stale);
        done(stale);
    }
}
