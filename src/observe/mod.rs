//! What is told of queries beside their answers: how long they took, what they said (dnstap), where the time went (traces).
//!
//! ```text
//! Edge::ask ─ meet: is it one of N? ─ begin (stopwatch) ─ hit: Replies ──────────────────────── sent ─ histograms
//!                └ tap: AUTH_QUERY                       └ miss: a watch, always ─ Ticket ─┘   ├ tap: AUTH_RESPONSE
//!                                                                                              └ trace
//! ```
//! Whoever looks on never holds a query up: what goes to a file, a socket or a collector goes through bounded queues.

mod dnstap;
pub mod frames;
pub mod plain;
mod queue;
mod tap;
mod traces;

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crate::config::{TapConfig, TraceConfig};
use crate::gateway::Client;
use crate::limits::TIMED_ONE_IN;
use crate::metrics::{Metrics, Path, Stage};
use crate::stopwatch::{self, Laps};
use crate::wire::{Rcode, Reply};
use dnstap::{Kind, Seen};
pub use tap::Tap;
pub use traces::Tracer;
use traces::{Question, Traced};

thread_local! {
    /// Queries that this thread has met.
    static TICK: Cell<u32> = const { Cell::new(0) };
}

/// Whom queries are told to.
#[derive(Debug, Default)]
pub struct Audience {
    pub tap: Option<Tap>,
    pub tracer: Option<Tracer>,
}

/// What tells the audience, until it is dropped: then all that was said so far is with it.
#[derive(Debug, Default)]
pub struct Threads {
    stopping: Arc<AtomicBool>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts what is configured; `identity` is what this server is called. Ids of traces are made from `seed`.
    ///
    /// # Errors
    /// A file cannot be made, or there is no thread to be had.
    pub fn start(
        &mut self,
        config: Config,
        identity: &str,
        seed: [u8; 32],
        metrics: &Arc<Metrics>,
    ) -> io::Result<Audience> {
        let mut audience = Audience::default();
        if let Some(tap) = config.dnstap {
            let (tap, handle) = Tap::start(tap, identity.to_owned(), metrics.clone(), self.stopping.clone())?;
            self.handles.push(handle);
            audience.tap = Some(tap);
        }
        if let Some(trace) = config.trace {
            let (tracer, handle) =
                Tracer::start(trace, seed, identity.to_owned(), metrics.clone(), self.stopping.clone())?;
            self.handles.push(handle);
            audience.tracer = Some(tracer);
        }
        Ok(audience)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        for handle in self.handles.drain(..) {
            // Its panic has been printed where it happened.
            let _ = handle.join();
        }
    }
}

/// What is configured of all this.
#[derive(Debug, Clone, Default)]
pub struct Config {
    pub dnstap: Option<TapConfig>,
    pub trace: Option<TraceConfig>,
}

impl Config {
    /// Looks whether it could be started; writes nothing.
    ///
    /// # Errors
    /// A file cannot be made.
    pub fn check(&self) -> io::Result<()> {
        self.dnstap.as_ref().map_or(Ok(()), tap::check)
    }
}

/// Sees every query.
#[derive(Debug)]
pub struct Observer {
    pub metrics: Arc<Metrics>,
    audience: Audience,
}

impl Observer {
    pub fn new(metrics: Arc<Metrics>, audience: Audience) -> Self {
        Self { metrics, audience }
    }

    /// Starts this thread's stopwatch for one query of some. Two readings of the clock cost more than a look into the cache.
    pub fn meet(self: &Arc<Self>, message: &[u8], client: Client) -> Option<Box<Watch>> {
        let tick = TICK.get().wrapping_add(1);
        TICK.set(tick);
        let tapped = self.audience.tap.as_ref().is_some_and(|tap| tap.wants(tick));
        let traced = self.audience.tracer.as_ref().is_some_and(|tracer| tracer.wants(tick));
        if !tapped && !traced && !tick.is_multiple_of(TIMED_ONE_IN) {
            return None;
        }
        let now = Instant::now();
        let traced = traced.then(|| Box::new(Followed::new(message, client)));
        let watch = Watch { tapped: tapped.then(|| (client, since_1970())), traced, ..Watch::starting(self, now) };
        watch.tap(Kind::AuthQuery, None, message);
        stopwatch::start(now);
        Some(Box::new(watch))
    }

    /// A watch for a miss that has none: it begins when the cache has not had the answer.
    pub fn late(self: &Arc<Self>) -> Box<Watch> {
        Box::new(Watch { path: Some(Path::Miss), ..Watch::starting(self, Instant::now()) })
    }
}

/// Follows one query to the end.
#[derive(Debug)]
pub struct Watch {
    observer: Arc<Observer>,
    laps: Laps,
    /// `None` for what is refused without a look into the cache.
    path: Option<Path>,
    answered: Option<Instant>,
    /// From whom and when it came, if dnstap wants it.
    tapped: Option<(Client, Duration)>,
    traced: Option<Box<Followed>>,
}

/// What a trace tells beside the stages.
#[derive(Debug)]
struct Followed {
    client: Client,
    began: Duration,
    question: Question,
    /// Response code and octets, once there is an answer.
    answer: Option<(Rcode, usize)>,
}

impl Followed {
    fn new(message: &[u8], client: Client) -> Self {
        Self { client, began: since_1970(), question: Question::of(message), answer: None }
    }
}

impl Watch {
    fn starting(observer: &Arc<Observer>, now: Instant) -> Self {
        let observer = observer.clone();
        Self { observer, laps: Laps::starting(now), path: None, answered: None, tapped: None, traced: None }
    }

    /// Stops this thread's stopwatch. What was looked for in the cache is a hit, as long as nobody says that it is a miss.
    pub fn begun(&mut self) {
        if let Some(laps) = stopwatch::stop() {
            self.laps = laps;
            self.path = laps.of(Stage::Cache).map(|_| Path::Hit);
        }
    }

    /// The cache had no answer.
    pub fn missed(&mut self) {
        self.path = Some(Path::Miss);
    }

    /// The answer is there; `work` is what a worker did for it.
    pub fn answered(&mut self, reply: Option<&Reply>, work: Option<&Laps>) {
        if let Some(work) = work {
            self.laps.join(work);
        }
        self.answered = Some(Instant::now());
        if let (Some(reply), Some(followed)) = (reply, &mut self.traced) {
            followed.answer = Some((reply.rcode, reply.wire.len()));
        }
        if let (Some(reply), Some(_)) = (reply, self.tapped) {
            self.tap(Kind::AuthResponse, Some(since_1970()), &reply.wire);
        }
    }

    /// The answer is with the socket.
    pub fn sent(mut self: Box<Self>) {
        let now = Instant::now();
        if let Some(answered) = self.answered {
            self.laps.add(Stage::Send, answered, now);
        }
        self.finish(now);
    }

    /// The answer is with somebody who sends it at some time.
    pub fn handed_over(self: Box<Self>) {
        if let Some(answered) = self.answered {
            self.finish(answered);
        }
    }

    fn finish(mut self: Box<Self>, now: Instant) {
        self.laps.add(Stage::Total, self.laps.started, now);
        self.trace();
        let Some(path) = self.path else { return };
        for (stage, _) in Stage::ALL {
            if let Some(lap) = self.laps.of(stage) {
                self.observer.metrics.record(path, stage, lap.nanos);
            }
        }
    }

    fn trace(&mut self) {
        let (Some(tracer), Some(followed)) = (&self.observer.audience.tracer, self.traced.take()) else { return };
        let Followed { client, began, question, answer } = *followed;
        let Some((rcode, size)) = answer else { return };
        let traced = Traced { client, began, question, path: self.path, rcode, size, laps: self.laps };
        tracer.tell(&self.observer.metrics, traced);
    }

    fn tap(&self, kind: Kind, responded: Option<Duration>, message: &[u8]) {
        let (Some(tap), Some((client, queried))) = (&self.observer.audience.tap, self.tapped) else { return };
        let Client { transport, addr: client, .. } = client;
        tap.saw(&self.observer.metrics, kind, || Seen {
            kind,
            transport,
            client,
            queried,
            responded,
            message: message.to_vec(),
        });
    }
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
