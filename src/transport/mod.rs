//! The edge: sockets, TLS, HTTP. Every listener feeds the same [`Edge`].
//!
//! ```text
//! udp ───────────────────┐
//! doq (quinn-proto) ─────┼─ Edge::ask ─ Answerer::begin ─ hit: inline
//! stream (TCP, DoT) ─────┤                    └ miss: Answerer::answer_here: inline, or finish, which calls back
//! https (hyper) ─┐       │
//! h3 (h3-quinn) ─┴ router┘
//! ```
//! Every core has a thread, on it a single-threaded runtime, and in that a socket of its own for each listener. A
//! connection stays on its core; nothing of it is shared with another.

pub mod admission;
pub mod certificates;
pub mod datagrams;
pub mod doq;
pub mod h3;
pub mod hosts;
pub mod https;
mod idle;
pub mod json;
pub mod metrics;
mod process;
pub mod proxy;
mod pulses;
pub mod quic;
mod readiness;
pub mod router;
pub mod sessions;
pub mod stream;
pub mod tls;
pub mod udp;
mod unfinished;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::gateway::{
    Begun, CanaryDone, ChainDone, ChainReply, Client, Gateway, Miss, Transfer, TransferDone, Transport, UpdateRequest,
    Wanted,
};
use crate::limits::HANDSHAKE_CPU;
use crate::metrics::{Metrics, Outcome, TldIndex, Trouble};
use crate::observe::{Audience, Observer, Watch};
use crate::stopwatch::{self, Laps};
use crate::wire::update::{UpdateMessage, is_update};
use crate::wire::{EdeCode, Name, Query, QueryError, Rcode, Reply, Rtype, Shape};
use crate::work::{Budget, Cost, Overdrawn, WorkMeter};
use admission::{Admission, ConnectionGuard, Descriptor, Kept};
use hosts::Hosts;
use pulses::Pulses;
pub use pulses::beat;

/// What answers queries: the gateway, or something canned in tests.
pub trait Answerer: Send + Sync + 'static {
    /// See [`Gateway::begin`]. Called on the socket's thread: must not block.
    fn begin(&self, message: &[u8], client: Client) -> Begun;
    /// See [`Gateway::answer_here`]. Called on the socket's thread.
    fn answer_here(&self, miss: &Miss) -> Option<Reply>;
    /// See [`Gateway::finish`].
    fn finish(&self, miss: Miss, done: Box<dyn FnOnce(Reply) + Send>);
    /// See [`Gateway::transfer`].
    fn transfer(&self, request: Miss, done: TransferDone);
    /// See [`Gateway::chain`].
    fn chain(&self, name: Name, rtype: Rtype, budget: Budget, done: ChainDone);
    /// See [`Gateway::update`].
    fn update(&self, request: UpdateRequest, done: Box<dyn FnOnce(Reply) + Send>);
    /// See [`Gateway::is_public`].
    fn is_public(&self, reply: &Reply) -> bool;
    /// The meter that it takes work from, if it has accounts of its own.
    fn meter(&self) -> Option<Arc<WorkMeter>> {
        None
    }

    /// See [`Gateway::canary`]. An answerer with nothing behind it is well.
    fn canary(&self, done: CanaryDone) {
        done(Ok(()));
    }
}

impl Answerer for Gateway {
    fn begin(&self, message: &[u8], client: Client) -> Begun {
        self.begin(message, client)
    }

    fn answer_here(&self, miss: &Miss) -> Option<Reply> {
        self.answer_here(miss)
    }

    fn finish(&self, miss: Miss, done: Box<dyn FnOnce(Reply) + Send>) {
        self.finish(miss, done);
    }

    fn transfer(&self, request: Miss, done: TransferDone) {
        self.transfer(request, done);
    }

    fn chain(&self, name: Name, rtype: Rtype, budget: Budget, done: ChainDone) {
        self.chain(name, rtype, budget, done);
    }

    fn update(&self, request: UpdateRequest, done: Box<dyn FnOnce(Reply) + Send>) {
        self.update(request, done);
    }

    fn is_public(&self, reply: &Reply) -> bool {
        self.is_public(reply)
    }

    fn meter(&self) -> Option<Arc<WorkMeter>> {
        Some(Arc::clone(&self.engine().work))
    }

    fn canary(&self, done: CanaryDone) {
        self.canary(done);
    }
}

/// The messages that answer one query, in their order. Whoever sends them drops them when they are sent.
pub struct Replies {
    messages: Messages,
    /// What a worker did for them.
    work: Option<Box<Laps>>,
    watch: Option<Box<Watch>>,
}

enum Messages {
    One(Reply),
    /// The messages of a transfer from the given one on.
    Many {
        query: Query,
        shape: Shape,
        messages: Transfer,
        next: usize,
    },
    Done,
}

impl From<Reply> for Replies {
    fn from(reply: Reply) -> Self {
        Self::new(Messages::One(reply))
    }
}

impl Replies {
    fn new(messages: Messages) -> Self {
        Self { messages, work: None, watch: None }
    }

    /// From whoever did the work, on its thread.
    fn worked(reply: Reply) -> Self {
        let mut replies = Self::from(reply);
        replies.work = stopwatch::stop().map(Box::new);
        replies
    }

    /// Those of a query that somebody watches.
    fn watched(mut self, watch: Option<Box<Watch>>) -> Self {
        self.watch = watch;
        if let Some(watch) = &mut self.watch {
            let reply = if let Messages::One(reply) = &self.messages { Some(reply) } else { None };
            watch.answered(reply, self.work.as_deref());
        }
        self
    }

    fn outcome(&self) -> Outcome {
        match &self.messages {
            Messages::One(reply) => reply.rcode.into(),
            Messages::Many { messages, .. } => messages.first().map_or(Outcome::Unanswered, |first| first.rcode.into()),
            Messages::Done => Outcome::Unanswered,
        }
    }

    /// The one message, for somebody who sends it at some time.
    fn hand_over(mut self) -> Option<Reply> {
        if let Some(watch) = self.watch.take() {
            watch.handed_over();
        }
        self.next()
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        // Else nobody has taken them.
        if let (Some(watch), Messages::Done) = (self.watch.take(), &self.messages) {
            watch.sent();
        }
    }
}

impl Iterator for Replies {
    type Item = Reply;

    fn next(&mut self) -> Option<Reply> {
        match &mut self.messages {
            Messages::Many { query, shape, messages, next } => {
                *next += 1;
                messages.get(*next - 1).map(|message| message.reply(query, *shape, 0))
            }
            messages => match std::mem::replace(messages, Messages::Done) {
                Messages::One(reply) => Some(reply),
                _ => None,
            },
        }
    }
}

/// A future that owns what it needs.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The door to the write path and the registry's API.
pub trait RpcHandler: Send + Sync + 'static {
    /// Answers a request; its work is done on threads that serve no sockets. Must itself report malformed JSON, as JSON-RPC
    /// does.
    fn serve(&self, request: ApiRequest, caller: Caller) -> BoxFuture<Resource>;
}

/// A request to the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiRequest {
    /// A JSON-RPC body.
    Rpc(Bytes),
    /// The code of the contract with this hash, as the path has it.
    Code(String),
    /// A call of the program of `name`, as the path has it.
    Call { name: String, query: String, input: Bytes },
    /// A part of the log, by its path below `/log/`.
    Log(String),
    /// Cosignatures of witnesses: a checkpoint that carries them.
    Cosign(Bytes),
}

/// For whom the API works, and what that is taken from.
#[derive(Debug, Clone)]
pub struct Caller {
    pub client: Client,
    pub budget: Budget,
}

/// An HTTP response of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    pub status: u16,
    pub content_type: &'static str,
    /// True for what never changes: it may be cached for ever.
    pub immutable: bool,
    /// Seconds after which to ask again.
    pub retry_after: Option<u64>,
    pub body: Bytes,
}

impl Resource {
    /// One that may change and is there now.
    pub fn new(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, content_type, immutable: false, retry_after: None, body: body.into() }
    }

    /// The same for ever.
    #[must_use]
    pub fn immutable(self) -> Self {
        Self { immutable: true, ..self }
    }
}

/// Tells everyone to stop, once. Clones share the signal.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Sender<bool>);

impl Default for Shutdown {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Shutdown {
    pub fn trigger(&self) {
        self.0.send_replace(true);
    }

    pub fn is_triggered(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves once [`Shutdown::trigger`] was called, at once if it was before.
    pub async fn triggered(&self) {
        // Cannot fail: `self` is a sender.
        let _ = self.0.subscribe().wait_for(|stop| *stop).await;
    }
}

/// The state that all listeners share.
pub struct Edge {
    pub answerer: Arc<dyn Answerer>,
    pub rpc: Arc<dyn RpcHandler>,
    pub admission: Admission,
    pub metrics: Arc<Metrics>,
    pub shutdown: Shutdown,
    /// Names that it may be called.
    pub hosts: Hosts,
    observer: Arc<Observer>,
    ready: AtomicBool,
    pulses: Pulses,
}

impl Edge {
    pub fn new(
        answerer: Arc<dyn Answerer>,
        rpc: Arc<dyn RpcHandler>,
        admission: Admission,
        metrics: Arc<Metrics>,
        shutdown: Shutdown,
    ) -> Self {
        let observer = Arc::new(Observer::new(metrics.clone(), Audience::default()));
        let (hosts, ready, pulses) = (Hosts::default(), AtomicBool::new(false), Pulses::default());
        Self { answerer, rpc, admission, metrics, shutdown, hosts, observer, ready, pulses }
    }

    /// With so many threads that serve sockets.
    #[must_use]
    pub fn on_cores(self, cores: usize) -> Self {
        Self { pulses: Pulses::of(cores), ..self }
    }

    /// Called so, too.
    #[must_use]
    pub fn called(self, hosts: Hosts) -> Self {
        Self { hosts, ..self }
    }

    /// With others who are told of queries.
    #[must_use]
    pub fn observed_by(self, audience: Audience) -> Self {
        Self { observer: Arc::new(Observer::new(self.metrics.clone(), audience)), ..self }
    }

    /// Answers one DNS message where every answer is one message: a hit inline, a miss from a worker. `None`:
    /// nothing may be sent back. Dropping the future abandons the answer, not the execution.
    pub async fn answer(&self, message: &[u8], client: Client) -> Option<Reply> {
        self.exchange(message, client, false).await?.hand_over()
    }

    /// [`Self::answer`] over a stream of messages, on which zones may be transferred.
    pub async fn exchange(&self, message: &[u8], client: Client, transfers: bool) -> Option<Replies> {
        let mut waiting = None;
        let asked = self.ask(message, client, transfers, |ticket| {
            let (sender, receiver) = oneshot::channel();
            waiting = Some((ticket, receiver));
            // Fails if the requester left.
            Box::new(move |replies| drop(sender.send(replies)))
        });
        match asked {
            Asked::Now(replies) => replies,
            Asked::Later => {
                let (ticket, receiver) = waiting?;
                Some(ticket.give(receiver.await.ok()?))
            }
        }
    }

    /// Answers a DNS message at once if it can. Else `later` is asked for what to call with the answer, once at most, on
    /// any thread.
    pub fn ask(
        &self,
        message: &[u8],
        client: Client,
        transfers: bool,
        later: impl FnOnce(Ticket) -> Callback,
    ) -> Asked {
        let transport = client.transport;
        let ticket = |name: &Name| Ticket::new(&self.metrics, self.metrics.tld_at(name.as_wire()), transport);
        let mut watch = self.observer.meet(message, client);
        let begun = self.answerer.begin(message, client);
        if let Some(watch) = &mut watch {
            watch.begun();
        }
        let reply = match begun {
            Begun::Ready(reply) => reply,
            Begun::Ignore => {
                self.metrics.count_query(TldIndex::OTHER, transport, Outcome::Unanswered);
                return Asked::Now(None);
            }
            Begun::Miss(mut miss) => {
                let tld = self.metrics.tld_at(miss.query.name.as_wire());
                let Ok(budget) = self.admission.budget(client) else {
                    self.metrics.count_query(tld, transport, Outcome::Limited);
                    return Asked::Now(Some(Replies::from(miss.refused()).watched(watch)));
                };
                let mut watch = watch.unwrap_or_else(|| self.observer.late());
                watch.missed();
                miss.budget = budget;
                if let Some(replies) = self.answer_here(&miss) {
                    self.metrics.count_query(tld, transport, replies.outcome());
                    return Asked::Now(Some(replies.watched(Some(watch))));
                }
                let mut ticket = Ticket::new(&self.metrics, tld, transport);
                miss.wanted = ticket.wanted.clone();
                ticket.watch = Some(watch);
                let callback = later(ticket);
                self.answerer.finish(miss, Box::new(move |reply| callback(Replies::worked(reply))));
                return Asked::Later;
            }
            Begun::Transfer(request) if transfers => {
                let (query, shape) = (request.query.clone(), transport.shape());
                let callback = later(ticket(&query.name));
                let done = move |messages| callback(Replies::new(Messages::Many { query, shape, messages, next: 0 }));
                self.answerer.transfer(request, Box::new(done));
                return Asked::Later;
            }
            // It writes: it counts as a call, of which a client has fewer.
            Begun::Update(request) if !self.admission.rpc(client) => {
                request.message.refuse(Rcode::Refused).reply_with(Some(EdeCode::Prohibited))
            }
            Begun::Update(request) => {
                let callback = later(ticket(&request.message.zone));
                self.answerer.update(request, Box::new(move |reply| callback(reply.into())));
                return Asked::Later;
            }
            Begun::Transfer(request) => request.query.refuse(Rcode::Refused).reply_with(Some(EdeCode::Prohibited)),
        };
        self.metrics.count_query(self.metrics.tld_of(&reply.wire), transport, reply.rcode.into());
        Asked::Now(Some(Replies::from(reply).watched(watch)))
    }

    /// Executes a miss on this thread, if that is bounded and the thread has time for it. It is charged by the wall clock:
    /// that of the thread would have to be asked for twice, and costs as much as a tenth of a miss.
    fn answer_here(&self, miss: &Miss) -> Option<Replies> {
        let began = Instant::now().into_std();
        stopwatch::start(began);
        let replies = self.answerer.answer_here(miss).map(Replies::worked);
        stopwatch::stop();
        miss.budget.charge(Cost::cpu(began.elapsed()));
        replies
    }

    /// The DNSSEC chain for a question; REFUSED if the client has had too much work done.
    pub async fn chain(&self, client: Client, name: Name, rtype: Rtype) -> ChainReply {
        let budget = self.admission.budget(client).map_err(|Overdrawn { .. }| Rcode::Refused)?;
        let (sender, receiver) = oneshot::channel();
        // Fails if the requester left.
        self.answerer.chain(name, rtype, budget, Box::new(move |chain| drop(sender.send(chain))));
        receiver.await.unwrap_or(Err(Rcode::ServFail))
    }

    /// True if `client` may ask now; counts the query if not.
    pub fn admit(&self, client: Client) -> bool {
        let admitted = self.admission.query(client);
        if !admitted {
            self.metrics.count_query(TldIndex::OTHER, client.transport, Outcome::Limited);
        }
        admitted
    }

    /// Octets on their way to a client; `None`, and counted, if so much is on its way that they must not be kept, too.
    pub fn hold(&self, client: Client, octets: Bytes) -> Option<Bytes> {
        self.taken(self.admission.hold(client, octets))
    }

    /// The same of replies that are still to be made into octets; those of a transfer are shared by all.
    pub fn keep(&self, client: Client, replies: &Replies) -> Option<Kept> {
        let octets = if let Messages::One(reply) = &replies.messages { reply.wire.len() } else { 0 };
        self.taken(self.admission.keep(client, octets))
    }

    fn taken<T>(&self, kept: Option<T>) -> Option<T> {
        if kept.is_none() {
            self.metrics.answers_untaken.add(1);
        }
        kept
    }

    /// A place for one more connection, counted while the guard lives; `None` above a cap. What its handshake costs is
    /// charged to whoever has shown that the address is his.
    pub fn connect(self: &Arc<Self>, client: Client, proven: bool) -> Option<Connected> {
        let guard = self.admission.budget(client).ok().and_then(|budget| {
            let guard = self.admission.connect(client.addr)?;
            if proven && client.transport.is_encrypted() {
                budget.charge(Cost::cpu(HANDSHAKE_CPU));
            }
            Some(guard)
        });
        let Some(guard) = guard else {
            self.metrics.connection_refused(client.transport);
            return None;
        };
        self.metrics.connection_opened(client.transport);
        Some(Connected { edge: Arc::clone(self), transport: client.transport, _guard: guard })
    }

    /// A descriptor for one more connection over TCP, counted while the guard lives; `None` if none is to spare.
    pub fn descriptor(&self, transport: Transport) -> Option<Descriptor> {
        let descriptor = self.admission.descriptor();
        if descriptor.is_none() {
            self.metrics.connection_refused(transport);
        }
        descriptor
    }

    /// A connection was accepted: there are descriptors.
    pub(crate) fn accepts(&self) {
        self.metrics.health.clear(Trouble::Descriptors);
    }

    /// None was, though there may be one.
    pub(crate) fn accepts_not(&self, error: &std::io::Error) {
        self.metrics.accept_failures.add(1);
        let health = &self.metrics.health;
        // It may come and go many times a second: ever more rarely is it said again.
        if health.raise(Trouble::Descriptors) && health.begun(Trouble::Descriptors).is_power_of_two() {
            tracing::error!(%error, "connections cannot be accepted; tried again until they can");
        }
    }

    /// Sets what `/readyz` says while the server is not draining.
    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire) && !self.shutdown.is_triggered()
    }
}

/// The reply to an UPDATE that is not even looked into; `None` for what is none, and if nothing may be sent back.
pub(crate) fn refuse_update(message: &[u8], why: EdeCode) -> Option<Reply> {
    let update = is_update(message).then(|| UpdateMessage::parse(message))?;
    Some(match update {
        Ok(update) => update.refuse(Rcode::Refused).reply_with(Some(why)),
        Err(QueryError::Reply(refused)) => refused.reply(),
        Err(QueryError::Ignore) => return None,
    })
}

/// What became of a message.
pub enum Asked {
    /// To be sent; `None`: nothing may be.
    Now(Option<Replies>),
    /// The callback will be called.
    Later,
}

/// Takes an answer that was not there at once.
pub type Callback = Box<dyn FnOnce(Replies) + Send>;

/// Whoever holds it waits for an answer. Dropped before it is given one, the query counts as unanswered, and need not be
/// executed any more.
pub struct Ticket {
    metrics: Arc<Metrics>,
    tld: TldIndex,
    transport: Transport,
    outcome: Outcome,
    wanted: Wanted,
    watch: Option<Box<Watch>>,
}

impl Ticket {
    fn new(metrics: &Arc<Metrics>, tld: TldIndex, transport: Transport) -> Self {
        let (metrics, wanted) = (Arc::clone(metrics), Wanted::ending());
        Self { metrics, tld, transport, outcome: Outcome::Unanswered, wanted, watch: None }
    }

    /// Counts the answer as given, and gives it.
    pub fn give(mut self, replies: Replies) -> Replies {
        self.outcome = replies.outcome();
        replies.watched(self.watch.take())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.metrics.count_query(self.tld, self.transport, self.outcome);
        self.wanted.end();
    }
}

/// One open connection.
pub struct Connected {
    edge: Arc<Edge>,
    transport: Transport,
    _guard: ConnectionGuard,
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.edge.metrics.connection_closed(self.transport);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_is_refused_with_the_reason_and_a_query_is_not() {
        let mut update = b"\0\0\x28\0\0\x01\0\0\0\0\0\x01\x05alice\x05ghost\0\0\x06\0\x01".to_vec();
        update.extend(b"\0\0\x29\x04\xd0\0\0\0\0\0\0");
        let reply = refuse_update(&update, EdeCode::TooEarly).unwrap();
        assert_eq!(reply.rcode, Rcode::Refused);
        // EDE 26 at the end of the OPT record.
        assert!(reply.wire.ends_with(&[0, 15, 0, 2, 0, 26]));
        update[2] = 0;
        assert!(refuse_update(&update, EdeCode::TooEarly).is_none());
    }
}
