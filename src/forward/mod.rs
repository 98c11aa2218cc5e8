//! Ordinary names, for those whom the operator allows: asked of upstreams, validated, kept.
//!
//! ```text
//! hit (socket's thread)   local zones -> Store ─ fresh, stale after a failure, failed ─> Reply
//!                                          | nothing known, or a popular answer near its end
//! ask ─ bounded channel ─> worker ─ pending: one question asked once, whoever waits ─ Asker ─> upstreams
//!                            └ 1.8 s without an answer: a stale one, while the question goes on
//! ```
//!
//! Names of ours never leave: the gateway does not hand them over, and what asks upstream refuses them again.

mod ask;
mod found;
mod local;
mod store;
mod upstreams;
mod validate;
mod worker;

pub use ask::ForwardError;

use std::borrow::Cow;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use ipnet::IpNet;
use tokio::sync::mpsc;

use crate::config::Forward;
use crate::limits::{FORWARD_QUEUE, STALE_TTL};
use crate::metrics::{Forwarded, Metrics};
use crate::threads::vital;
use crate::wire::{Answer, EdeCode, Name, Query, Rcode, Reply, Shape};
use crate::writer::Clock;
use ask::{Asker, Kept};
use found::Told;
use local::Local;
use store::{Known, Question, Store};
use worker::{Job, Worker};

/// What a client is told, before it is dressed for it.
#[derive(Debug, Clone)]
pub struct Ordinary {
    told: Arc<Told>,
    /// Seconds since it was made.
    age: u32,
    /// After its time (RFC 8767).
    stale: bool,
}

/// Called with the answer, on the forwarder's thread; must not block.
pub type Done = Box<dyn FnOnce(Ordinary) + Send>;

/// Resolves ordinary names. Dropped, it answers whoever still waits and stops.
pub struct Forwarder {
    shared: Arc<Shared>,
    /// Taken when it stops.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// What the sockets' threads and the worker share.
struct Shared {
    allow: Vec<IpNet>,
    prefetch: bool,
    negative: u32,
    store: Store,
    local: Arc<Local>,
    metrics: Arc<Metrics>,
    clock: Clock,
}

impl Forwarder {
    /// Reads what the configuration names and starts the worker. `ours` are names that nobody upstream may hear of, with
    /// all that is below them.
    ///
    /// # Errors
    /// [`ForwardError`]
    pub fn start(config: &Forward, ours: Vec<Name>, clock: Clock, metrics: Arc<Metrics>) -> Result<Self, ForwardError> {
        let local = Arc::new(Local::new());
        let asker = Asker::new(config, kept(ours, local.clone()), clock.clone())?;
        let store = Store::new(config.cache_entries, config.cache_bytes, config.serve_stale);
        let (allow, prefetch, negative) = (config.allow.clone(), config.prefetch, config.negative);
        let shared = Arc::new(Shared { allow, prefetch, negative, store, local, metrics, clock });
        let (jobs, receiver) = mpsc::channel(FORWARD_QUEUE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let worker = Worker::new(shared.clone(), asker);
        let thread = vital("forward", move || runtime.block_on(worker.run(receiver)))?;
        Ok(Self { shared, jobs: Some(jobs), thread: Some(thread) })
    }

    /// Says what is wrong with a configuration, and asks nobody.
    ///
    /// # Errors
    /// [`ForwardError`]
    pub fn check(config: &Forward) -> Result<(), ForwardError> {
        Asker::new(config, Arc::new(|_| true), Arc::new(|| 0)).map(drop)
    }

    /// True if a client may ask for ordinary names.
    pub fn permits(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        addr.is_loopback() || self.shared.allow.iter().any(|net| net.contains(&addr))
    }

    /// Counts a question of somebody who may not ask.
    pub fn count_refused(&self) {
        self.shared.metrics.count_forwarded(Forwarded::Refused);
    }

    /// What can be told at once: not an alias that ends at a name of ours. Never blocks.
    pub fn hit(&self, query: &Query) -> Option<Ordinary> {
        let now = (self.shared.clock)();
        let (ordinary, outcome) = self.shared.known(query, now, || self.refresh(query))?;
        let ordinary = Some(ordinary).filter(|ordinary| ordinary.ours().is_none())?;
        self.shared.metrics.count_forwarded(outcome);
        Some(ordinary)
    }

    /// Asks upstream and calls `done`, exactly once; at once, with SERVFAIL and EDE 14 (Not Ready), if too many wait.
    pub fn ask(&self, query: Query, client: IpAddr, done: Done) {
        let job = Job::Answer(Box::new(query), client, done);
        let Some(jobs) = &self.jobs else { return };
        if let Err(mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job)) = jobs.try_send(job)
            && let Job::Answer(query, _, done) = job
        {
            done(self.shared.shed(&query));
        }
    }

    /// A refresh that finds no place is none: the answer is still good.
    fn refresh(&self, query: &Query) {
        let _ = self.jobs.as_ref().map(|jobs| jobs.try_send(Job::Refresh(Question::from(query))));
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        drop(self.jobs.take());
        // On the worker's own thread, if what it has just told somebody held the last of us.
        let others = self.thread.take().filter(|thread| thread.thread().id() != std::thread::current().id());
        // A panic of the worker's has been printed where it happened.
        let _ = others.map(JoinHandle::join);
    }
}

fn kept(ours: Vec<Name>, local: Arc<Local>) -> Kept {
    let (ours, most) = (ours.iter().cloned().collect::<HashSet<_>>(), ours.iter().map(Name::label_count).max());
    let most = most.unwrap_or(0);
    Arc::new(move |name| (1..=most).any(|count| ours.contains(&name.suffix(count))) || local.holds(name))
}

impl Shared {
    fn known(&self, query: &Query, now: u64, refresh: impl FnOnce()) -> Option<(Ordinary, Forwarded)> {
        if let Some(answer) = self.local.answer(query) {
            return Some((Ordinary::new(Arc::new(Told::local(answer))), Forwarded::Local));
        }
        match self.store.get(query, now)? {
            Known::Fresh(good, age) => {
                if self.prefetch && good.is_due(now) {
                    refresh();
                }
                Some((Ordinary { told: good.told.clone(), age, stale: false }, Forwarded::Hit))
            }
            Known::Stale(good) => Some((Ordinary::stale(good.told.clone()), Forwarded::Stale)),
            Known::Failed(failure) => Some((Ordinary::new(failure.told.clone()), Forwarded::Failed)),
        }
    }

    fn shed(&self, query: &Query) -> Ordinary {
        self.metrics.count_forwarded(Forwarded::Shed);
        let text = "too many questions are waiting".to_owned();
        Ordinary::new(Arc::new(Told::failure(&Question::from(query), EdeCode::NotReady, text)))
    }
}

/// Recursion Available and Authentic Data, in the header's second octet of flags.
const RA: u8 = 0x80;
const AD: u8 = 0x20;

impl Ordinary {
    fn new(told: Arc<Told>) -> Self {
        Self { told, age: 0, stale: false }
    }

    fn stale(told: Arc<Told>) -> Self {
        Self { told, age: 0, stale: true }
    }

    /// A name of ours at which the chain of aliases ends: the gateway's answer belongs behind it.
    pub fn ours(&self) -> Option<&Name> {
        self.told.ours.as_ref()
    }

    /// The answer itself, as old as it is.
    pub fn answer(&self, query: &Query) -> Cow<'_, Answer> {
        let answer = self.told.answer(query);
        if !self.stale {
            return Cow::Borrowed(answer);
        }
        let missing = answer.rcode == Rcode::NxDomain;
        let code = if missing { EdeCode::StaleNxdomain } else { EdeCode::StaleAnswer };
        Cow::Owned(answer.stale(STALE_TTL, code))
    }

    /// Seconds since the answer was made.
    pub fn age(&self) -> u32 {
        self.age
    }

    /// Dresses it for a client: AD only for who asks for it (RFC 6840 §5.8).
    pub fn reply(&self, query: &Query, shape: Shape) -> Reply {
        let mut reply = self.answer(query).reply(query, shape, self.age);
        reply.wire[3] |= RA;
        // A stale answer was validated, but not of late.
        if self.told.secure && !self.stale && (query.ad || query.dnssec_ok()) {
            reply.wire[3] |= AD;
        }
        reply
    }
}
