//! The forwarder's thread: every question is asked once, however many wait for it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt as _;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::ask::{Asker, Failed};
use super::found::{Found, Told};
use super::store::Question;
use super::{Done, Ordinary, Shared};
use crate::limits::{
    FORWARD_DEADLINE, FORWARD_OUTSTANDING, FORWARD_PER_CLIENT, FORWARD_PER_DOMAIN, FORWARD_WAITING, STALE_AFTER,
};
use crate::metrics::Forwarded;
use crate::stopwatch::nanos;
use crate::wire::{Name, Query, Subnet};

/// What the sockets' threads want.
pub(super) enum Job {
    Answer(Box<Query>, IpAddr, Done),
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
    shares: [Option<Share>; 2],
}

/// Of what a question takes a part.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Share {
    Domain(Name),
    Client(Subnet),
}

impl Share {
    /// Nobody is told apart behind loopback, nor who asks for a refresh.
    fn of(question: &Question, client: Option<IpAddr>) -> [Option<Self>; 2] {
        let client = client.map(|addr| addr.to_canonical()).filter(|addr| !addr.is_loopback());
        let prefix = |addr: IpAddr| Subnet::new(addr, if addr.is_ipv4() { 32 } else { 56 });
        [Some(Self::Domain(question.name.suffix(2))), client.map(|addr| Self::Client(prefix(addr)))]
    }

    fn most(&self) -> usize {
        match self {
            Self::Domain(_) => FORWARD_PER_DOMAIN,
            Self::Client(_) => FORWARD_PER_CLIENT,
        }
    }
}

pub(super) struct Worker {
    shared: Arc<Shared>,
    asker: Asker,
    pending: HashMap<Question, Pending>,
    /// Parts that pending questions take.
    shares: HashMap<Share, usize>,
    /// Clients that wait for any of them.
    waiting: usize,
    /// Questions so far.
    asked: u64,
    tasks: JoinSet<Event>,
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>, asker: Asker) -> Self {
        let (pending, shares, tasks) = Default::default();
        Self { shared, asker, pending, shares, waiting: 0, asked: 0, tasks }
    }

    /// Runs until nobody can send a job any more.
    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        loop {
            tokio::select! {
                job = jobs.recv() => match job {
                    Some(Job::Answer(query, client, done)) => self.answer(query, client, done),
                    Some(Job::Refresh(question)) => drop(self.begin(question, None)),
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

    fn answer(&mut self, query: Box<Query>, client: IpAddr, done: Done) {
        // Others may have asked meanwhile.
        if let Some((ordinary, outcome)) = self.shared.known(&query, (self.shared.clock)(), || {}) {
            self.shared.metrics.count_forwarded(outcome);
            return done(ordinary);
        }
        let question = Question::from(&*query);
        let stale = self.stale(&question);
        let has_room = self.waiting < FORWARD_WAITING;
        match (self.begin(question, Some(client)), stale) {
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
    fn begin(&mut self, question: Question, client: Option<IpAddr>) -> Option<&mut Pending> {
        if !self.pending.contains_key(&question) {
            let shares = Share::of(&question, client);
            let is_full = |share: &Share| self.shares.get(share).is_some_and(|taken| *taken >= share.most());
            if self.pending.len() >= FORWARD_OUTSTANDING || shares.iter().flatten().any(is_full) {
                return None;
            }
            shares.iter().flatten().for_each(|share| *self.shares.entry(share.clone()).or_default() += 1);
            self.asked += 1;
            let (number, timer) = (self.asked, self.spawn(&question, self.asked));
            let pending = Pending { waiters: Vec::new(), number, late: false, timer, shares };
            self.pending.insert(question.clone(), pending);
        }
        self.pending.get_mut(&question)
    }

    fn spawn(&mut self, question: &Question, number: u64) -> AbortHandle {
        let (asker, question, late) = (self.asker.clone(), question.clone(), question.clone());
        let metrics = self.shared.metrics.clone();
        self.tasks.spawn(async move {
            let begun = Instant::now();
            let asking = timeout(FORWARD_DEADLINE, AssertUnwindSafe(asker.ask(&question)).catch_unwind()).await;
            let result = match asking {
                Ok(Ok(result)) => result,
                // It has been printed; what an upstream sent to make it so is not to be believed.
                Ok(Err(_panic)) => Err(Failed::Unreadable),
                Err(_elapsed) => Err(Failed::Late),
            };
            metrics.upstream.record(nanos(begun.elapsed()));
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
        pending.shares.iter().flatten().for_each(|share| self.give_back(share));
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

    fn give_back(&mut self, share: &Share) {
        if let Some(taken) = self.shares.get_mut(share) {
            *taken -= 1;
            if *taken == 0 {
                self.shares.remove(share);
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
