//! The query path, readable top to bottom.
//!
//! ```text
//! begin:  Query::parse -> AnswerCache ---- hit ----> Answer::reply
//!                             | miss
//! answer_here: share of the thread's time -> as below, but for contracts of owners
//! finish: pool -> Snapshot -> zone -> ContractHost -> Resolution -> Builder -> cache -> Answer::reply
//!                               ^------- alias target in our TLDs ---'
//! ```

mod admit;
mod call;
mod canary;
mod chain;
mod discovery;
mod export;
mod gate;
mod meter;
mod mirror;
mod ordinary;
mod pool;
mod quarantine;
mod reads;
mod share;
mod signer;
mod strict;
mod tlds;
mod transfer;
mod update;

pub use admit::Candidate;
pub use call::{Call, CallError, Called};
pub use canary::CanaryDone;
pub use chain::{ChainDone, ChainReply};
pub use discovery::Announced;
pub use export::{NoZone, export};
pub use gate::{Door, Gate};
pub use meter::{Meter, OutOfGas, Pending, Purpose, Settlement};
pub use mirror::{Mirror, Mirrors};
pub use quarantine::Quarantine;
pub use signer::{Keys, Signer};
pub use tlds::{Tld, Tlds};
pub use transfer::{Transfer, TransferDone, Transfers};
pub use update::UpdateRequest;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use ed25519_dalek::SigningKey;
use ipnet::IpNet;

use crate::cache::{AnswerCache, Grounds, Key};
use crate::contract::receipt::{Recorder, Trace};
use crate::contract::{CodeRef, ContractHost, Execution, Failure, Question, Worlds};
use crate::dnssec::{ONLINE_SECONDS, Rrsig, denial, tsig};
use crate::forward::Forwarder;
use crate::limits::MAX_ALIAS_LINKS;
use crate::locked::Locked;
use crate::metrics::{Metrics, Stage};
use crate::op::{CodeHash, SigilId};
use crate::registry::{Fault, Registry, Snapshot};
use crate::stopwatch;
pub use crate::wire::Transport;
use crate::wire::update::{Tsig, is_update};
use crate::wire::{
    Answer, Builder, Cookies, EdeCode, Name, Query, QueryError, Rcode, Reply, Resolution, Rrset, Rtype, Section, Subnet,
};
use crate::work::{Budget, WorkMeter};
use crate::writer::{Clock, Writer};
use crate::zone::{ZoneView as _, soa};
use ordinary::Outward;
use pool::{Pool, Task};
use reads::{Noted, SnapshotReads, Sources, Stored, Zone};
use transfer::is_transfer;

/// Who asks, and over what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    pub transport: Transport,
    pub addr: IpAddr,
    proven: bool,
}

/// What of an address stands for a client: /32 of IPv4 or /56 of IPv6 (what one subscriber usually gets).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Prefix {
    V4(u32),
    V6(u64),
}

impl From<IpAddr> for Prefix {
    fn from(addr: IpAddr) -> Self {
        match addr.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => Self::V6((v6.to_bits() >> 72) as u64),
        }
    }
}

impl Client {
    /// Of a datagram's sender it is not proven that the address is its own.
    pub const fn new(transport: Transport, addr: IpAddr) -> Self {
        Self { transport, addr, proven: !matches!(transport, Transport::Udp) }
    }

    /// The same before that is proven: what comes with the first flight of a handshake (0-RTT, RFC 9000 §8.1).
    #[must_use]
    pub const fn unproven(self) -> Self {
        Self { proven: false, ..self }
    }

    /// `None` as long as it is not proven that the address is its own.
    pub fn proven(&self) -> Option<Prefix> {
        self.proven.then(|| Prefix::from(self.addr))
    }

    /// For whom it asks: the subnet it names (RFC 7871), where the engine has left that, else itself; `None` if it
    /// wants nobody told apart, and of a datagram that proves no address.
    pub fn asker(&self, query: &Query) -> Option<Subnet> {
        match query.edns.and_then(|edns| edns.subnet) {
            Some(option) => option.subnet,
            None => self.shows_address(query).then(|| Subnet::host(self.addr)),
        }
    }

    /// The address is the client's own: it has a connection, or a cookie.
    fn shows_address(&self, query: &Query) -> bool {
        self.transport != Transport::Udp || query.edns.is_some_and(|edns| edns.proven)
    }

    /// An answer, so many seconds old, dressed for this client. One that depends on who asks goes to nobody whose address
    /// may be forged: such a client has to come back with a cookie, or over TCP.
    fn dress(&self, answer: &Answer, query: &Query, age: u32) -> Reply {
        let mut reply = answer.reply(query, self.transport.shape(), age);
        let names_nobody = || query.edns.is_none_or(|edns| edns.subnet.is_none());
        if reply.personal && names_nobody() && !self.shows_address(query) {
            reply.truncate();
            reply.ask_for_cookie();
        }
        reply
    }
}

/// What became of a message at once.
pub enum Begun {
    /// From the cache, or an error reply: send it.
    Ready(Reply),
    /// A contract must run, or an upstream be asked: give it to [`Gateway::finish`].
    Miss(Miss),
    /// A zone is asked for: give it to [`Gateway::transfer`].
    Transfer(Miss),
    /// Records are to be changed: give it to [`Gateway::update`].
    Update(UpdateRequest),
    /// Nothing may be sent back.
    Ignore,
}

/// A question that the cache could not answer.
pub struct Miss {
    pub query: Query,
    pub client: Client,
    /// The TSIG that it came with, and what that is over.
    pub tsig: Option<Box<(Tsig, Vec<u8>)>>,
    pub wanted: Wanted,
    /// The work for it is taken from this.
    pub budget: Budget,
    /// The alias suffix that it was asked under, if any.
    pub mirror: Option<Box<Mirror>>,
}

impl Miss {
    /// A question without TSIG, of our own tree or an ordinary one, whose answer is wanted.
    pub fn new(query: Query, client: Client) -> Self {
        let (wanted, budget) = (Wanted::default(), Budget::unlimited());
        Self { query, client, tsig: None, wanted, budget, mirror: None }
    }

    /// The question as it was asked.
    pub fn outer(&self) -> &Query {
        self.mirror.as_ref().map_or(&self.query, |mirror| &mirror.outer)
    }

    /// The reply to a client for whom nothing more is done now.
    pub fn refused(&self) -> Reply {
        self.outer().refuse(Rcode::Refused).reply_with(Some(EdeCode::Prohibited))
    }

    fn mirrored<'a>(&self, answer: &'a Answer) -> Cow<'a, Answer> {
        self.mirror.as_ref().map_or(Cow::Borrowed(answer), |mirror| Cow::Owned(mirror.rewrite(answer)))
    }

    /// An answer, so many seconds old, dressed for whoever asked.
    fn reply(&self, answer: &Answer, age: u32) -> Reply {
        self.client.dress(&self.mirrored(answer), self.outer(), age)
    }
}

/// Whether anybody still waits for an answer. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Wanted(Option<Arc<AtomicBool>>);

impl Wanted {
    /// One that can end.
    pub fn ending() -> Self {
        Self(Some(Arc::default()))
    }

    /// Nobody waits any more: what has not begun need not begin.
    pub fn end(&self) {
        if let Some(ended) = &self.0 {
            ended.store(true, Relaxed);
        }
    }

    pub fn has_ended(&self) -> bool {
        self.0.as_ref().is_some_and(|ended| ended.load(Relaxed))
    }
}

/// Called with the reply to a miss, on a worker's thread; must not block.
pub type Done = Box<dyn FnOnce(Reply) + Send>;

/// The query path. Shared by all transports behind an `Arc`.
pub struct Gateway {
    engine: Arc<Engine>,
    pool: Arc<Pool>,
}

/// Everything a worker needs.
pub struct Engine {
    pub registry: Arc<Registry>,
    pub host: Arc<ContractHost>,
    pub tlds: Arc<Tlds>,
    pub keys: Arc<Keys>,
    /// The key that the gateway signs receipts with.
    pub sigil: Locked<SigningKey>,
    pub cache: AnswerCache,
    pub transfers: Transfers,
    pub quarantine: Quarantine,
    pub meter: Meter,
    /// All work is taken from it, at every door.
    pub work: Arc<WorkMeter>,
    pub gate: Gate,
    /// What clients discover of this server.
    pub announced: Announced,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    pub writer: Arc<Writer>,
    /// The secret that the secrets of update keys are derived from.
    pub update_secret: Locked<tsig::Secret>,
    /// Cookies prove the addresses of clients over UDP.
    pub cookies: Cookies,
    /// Resolvers that are believed for whom they ask (RFC 7871).
    pub ecs_from: Vec<IpNet>,
    /// Suffixes under which our TLDs are answered, too.
    pub mirrors: Mirrors,
    /// Who asks for ordinary names; nobody does if it is left out.
    pub forward: Option<Arc<Forwarder>>,
}

impl Gateway {
    /// Starts the workers.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(engine: Engine) -> std::io::Result<Self> {
        let engine = Arc::new(engine);
        let pool = Arc::new(Pool::start(&engine)?);
        Ok(Self { engine, pool })
    }

    /// Parses `message` and answers it from the cache if it can. Never blocks, never executes.
    pub fn begin(&self, message: &[u8], client: Client) -> Begun {
        if is_update(message) {
            return self.engine.begin_update(message, client);
        }
        match Query::parse(message) {
            Ok(query) if query.tsig_at.is_some() => self.engine.begin_signed(message, query, client),
            Ok(mut query) => {
                stopwatch::lap(Stage::Parse);
                self.engine.greet(&mut query, client);
                self.engine.begin(query, client)
            }
            Err(QueryError::Reply(refused)) => Begun::Ready(refused.reply()),
            Err(QueryError::Ignore) => Begun::Ignore,
        }
    }

    /// Executes on the calling thread, a socket's, where that is bounded: reads, the TLDs' own contracts, signatures. `None`
    /// if it is not, or if the thread has spent its share on such work: then give the miss to [`Gateway::finish`].
    pub fn answer_here(&self, miss: &Miss) -> Option<Reply> {
        let engine = &self.engine;
        if miss.tsig.is_some() || engine.forwarder_for(miss.outer(), miss.client).is_some() {
            return None;
        }
        share::within(|| engine.executed_here(miss)).map(|answer| miss.reply(&answer, 0))
    }

    /// Executes on a worker's thread, or asks upstream, and calls `done` on some thread, once; at once, with SERVFAIL and
    /// EDE 14 (Not Ready), if too many are waiting; not at all if the answer is not wanted any more when its turn comes.
    pub fn finish(&self, miss: Miss, done: Done) {
        let forward = self.engine.forwarder_for(miss.outer(), miss.client).filter(|_| miss.tsig.is_none());
        match forward {
            Some(forward) => self.finish_with(forward, miss, done),
            None => self.queue(Task::Answer(Box::new(miss), done)),
        }
    }

    /// Gathers a zone on a worker's thread and calls `done` there, exactly once; at once, with SERVFAIL, if too many
    /// are waiting.
    pub fn transfer(&self, request: Miss, done: TransferDone) {
        self.queue(Task::Transfer(Box::new(request), done));
    }

    /// Gathers a DNSSEC chain on a worker's thread and calls `done` there, exactly once; at once, with SERVFAIL, if too
    /// many are waiting.
    pub fn chain(&self, name: Name, rtype: Rtype, budget: Budget, done: ChainDone) {
        self.queue(Task::Chain(name, rtype, budget, done));
    }

    /// Does `job`, which is about `name`, on a worker's thread; at once, and without an engine, if too many are waiting.
    fn work(&self, name: Name, job: impl FnOnce(Option<&Engine>) + Send + 'static) {
        self.queue(Task::Other(name, Box::new(job)));
    }

    fn queue(&self, task: Task) {
        let zone = self.engine.tlds.zone_key(task.name());
        if let Err(task) = self.pool.submit(zone, task) {
            self.engine.turn_away(task);
        }
    }

    /// Answers on the calling thread, from the cache or by execution: for benches and tools. Of a transfer the first
    /// message.
    pub fn answer(&self, message: &[u8], client: Client) -> Option<Reply> {
        match self.begin(message, client) {
            Begun::Ready(reply) => Some(reply),
            Begun::Miss(miss) if self.engine.forward.is_some() => {
                let (sender, receiver) = std::sync::mpsc::channel();
                self.finish(miss, Box::new(move |reply| drop(sender.send(reply))));
                receiver.recv().ok()
            }
            Begun::Miss(miss) => Some(self.engine.execute(&miss)),
            Begun::Transfer(request) => {
                let messages = self.engine.transfer(&request);
                messages.first().map(|message| message.reply(&request.query, client.transport.shape(), 0))
            }
            Begun::Update(request) => {
                let (sender, receiver) = std::sync::mpsc::channel();
                self.update(request, Box::new(move |reply| drop(sender.send(reply))));
                receiver.recv().ok()
            }
            Begun::Ignore => None,
        }
    }

    /// What the workers share.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }
}

/// Seconds for which a failure is remembered (RFC 9520 §3.2 asks for 1 to 300): a contract that loops costs
/// one execution in so long, and rebinding it is seen at once all the same.
const FAILURE_SECONDS: u32 = 5;

/// The same of a failure that is the machine's, not the contract's.
const PASSING_SECONDS: u32 = 1;

impl Engine {
    /// Options that are between the client and this server. A subnet is believed from resolvers that the operator names, if
    /// it is them; of everybody else the wish not to be told apart is heard.
    fn greet(&self, query: &mut Query, client: Client) {
        query.forget_options_for(client.transport);
        query.greet(&self.cookies, client.addr, || (self.clock)());
        if let Some(edns) = &query.edns
            && edns.subnet.is_some_and(|option| option.subnet.is_some())
            && !(client.shows_address(query) && self.speaks_for_subnets(client.addr))
        {
            query.forget_subnet();
        }
    }

    /// Whether the operator has named this address as one that may ask for others.
    pub fn speaks_for_subnets(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        self.ecs_from.iter().any(|resolvers| resolvers.contains(&addr))
    }

    fn begin(&self, query: Query, client: Client) -> Begun {
        let ours = self.tlds.find(&query.name).is_some();
        if ours && self.may_transfer(&query, client) {
            return Begun::Transfer(Miss::new(query, client));
        }
        if !ours
            && let Some(begun) = self.begin_mirrored(&query, client).or_else(|| self.begin_ordinary(&query, client))
        {
            return begun;
        }
        if let Some((rcode, ede)) = refusal(&query, ours) {
            let answer = self.announced.answer(&query).unwrap_or_else(|| error(&query, rcode, ede));
            return Begun::Ready(answer.reply(&query, client.transport.shape(), 0));
        }
        self.hit_or_miss(Miss::new(query, client))
    }

    fn hit_or_miss(&self, miss: Miss) -> Begun {
        let (query, now) = (&miss.query, (self.clock)());
        let asker = || miss.client.asker(query);
        let found = self.cache.get(&Key::of(query), asker, self.registry.stamps(), now);
        stopwatch::lap(Stage::Cache);
        let Some(hit) = found else { return Begun::Miss(miss) };
        match self.outward(&miss, hit.answer(), hit.age(now)) {
            Outward::Stays => {
                self.metrics.cache_hits.add(1);
                Begun::Ready(miss.reply(hit.answer(), hit.age(now)))
            }
            Outward::Joined(reply) => Begun::Ready(reply),
            Outward::Ask(_) => Begun::Miss(miss),
        }
    }

    /// Why a well-formed query is not looked into at all.
    fn refusal(&self, query: &Query) -> Option<(Rcode, Option<(EdeCode, String)>)> {
        refusal(query, self.tlds.find(&query.name).is_some())
    }

    /// Answers a miss by execution.
    fn execute(&self, miss: &Miss) -> Reply {
        let answer = self.executed(miss);
        match &miss.tsig {
            None => miss.reply(&answer, 0),
            Some(tsig) => self.signed_reply(miss, &answer, tsig),
        }
    }

    /// The answer by execution; it is cached.
    fn executed(&self, miss: &Miss) -> Answer {
        self.metrics.cache_misses.add(1);
        self.resolved(miss, Reach::Anyones).unwrap_or_else(|stop| {
            let fault = Fault::from(stop);
            tracing::error!(%fault, name = %miss.query.name, "registry read failed");
            servfail(&miss.query, EdeCode::NotReady, "the registry cannot be read".into())
        })
    }

    /// The same if no owner's contract is to be executed for it; a fault is left to workers, too.
    fn executed_here(&self, miss: &Miss) -> Option<Answer> {
        let answer = self.resolved(miss, Reach::Ours).ok()?;
        self.metrics.cache_misses.add(1);
        self.metrics.misses_inline.add(1);
        Some(answer)
    }

    fn resolved(&self, miss: &Miss, reach: Reach) -> Result<Answer, Stop> {
        let snapshot = Arc::new(self.registry.snapshot()?);
        self.resolve(&miss.query, miss.client.asker(&miss.query), &snapshot, reach)
    }

    /// What answers are made from now.
    fn sources(&self, snapshot: &Arc<Snapshot>) -> Sources {
        let (tlds, signer, snapshot) = (self.tlds.clone(), self.keys.get(), snapshot.clone());
        Sources { tlds, signer, snapshot, now: (self.clock)() }
    }

    fn count(&self, fuel: u64, failure: Option<&Failure>) {
        self.metrics.contract_executions.add(1);
        self.metrics.contract_fuel.add(fuel);
        pool::burnt(fuel);
        if let Some(failure) = failure {
            self.metrics.count_contract_failure(failure.kind());
        }
    }

    fn resolve(
        &self,
        query: &Query,
        asker: Option<Subnet>,
        snapshot: &Arc<Snapshot>,
        reach: Reach,
    ) -> Result<Answer, Stop> {
        let sources = self.sources(snapshot);
        let now = sources.now;
        let mut work = Work { reach, ..Work::new(self, query, asker, &sources) };
        let (rcode, authoritative, ede) = work.follow()?;
        let Work { noted, builder, leaves, source, passing, .. } = work;
        let failed = rcode == Rcode::ServFail;
        // The links of an alias that ended in a failure are no answer.
        let mut answer = if failed { error(query, rcode, ede) } else { builder.finish(rcode, authoritative, ede) };
        answer.scope = noted.scope;
        answer.leaves = leaves.map(Box::new);
        answer.source = source.unwrap_or(answer.source);
        let seconds = match failed {
            true if passing => PASSING_SECONDS,
            true => FAILURE_SECONDS,
            false => answer.ttl.min(noted.seconds(now)),
        };
        let grounds = Grounds { now, seconds, seq: sources.snapshot.seq(), reads: &noted.stamps };
        self.cache.put(&Key::of(query), asker, answer.clone(), self.registry.stamps(), grounds);
        Ok(answer)
    }
}

/// Why a well-formed query, for a name of ours or not, is not looked into at all.
fn refusal(query: &Query, ours: bool) -> Option<(Rcode, Option<(EdeCode, String)>)> {
    if !ours {
        let text = "only .ghost, .sig, .gcc and .bc are answered here".into();
        return Some((Rcode::Refused, Some((EdeCode::NotAuthoritative, text))));
    }
    match query.rtype {
        Rtype::ANY => None,
        // RFC 9824 §3.5.
        Rtype::NXNAME => Some((Rcode::FormErr, Some((EdeCode::InvalidQueryType, String::new())))),
        rtype if is_transfer(rtype) => {
            let text = "transfers go over TCP, TLS 1.3 or QUIC to the addresses that the operator allows".into();
            Some((Rcode::Refused, Some((EdeCode::Prohibited, text))))
        }
        meta => meta.is_meta().then_some((Rcode::NotImp, None)),
    }
}

/// Seconds for which an answer given for want of gas is kept: an epoch or a policy may change meanwhile.
const OUT_OF_GAS_SECONDS: u64 = 10;

/// Whose contracts may be executed for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Anyones,
    /// Those of the TLDs: they are known to be short, and compiled.
    Ours,
}

/// Why there is no answer.
enum Stop {
    Fault(Fault),
    /// It takes a contract that is beyond [`Reach`].
    BeyondReach,
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Stop> for Fault {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Fault(fault) => fault,
            Stop::BeyondReach => Self("its contract may not be executed here".into()),
        }
    }
}

/// Response code, AA, EDE.
type Verdict = (Rcode, bool, Option<(EdeCode, String)>);

/// Types that a contract of an owner's may synthesise at any name: which of them it would is known only by
/// asking it for each. A bitmap that names one too many makes a resolver ask; one too few would make it lie.
const MAYBE: [Rtype; 16] = [
    Rtype::A,
    Rtype::MX,
    Rtype::TXT,
    Rtype::AAAA,
    Rtype::LOC,
    Rtype::SRV,
    Rtype::NAPTR,
    Rtype::CERT,
    Rtype::SSHFP,
    Rtype::TLSA,
    Rtype::OPENPGPKEY,
    Rtype::SVCB,
    Rtype::HTTPS,
    Rtype::URI,
    Rtype::CAA,
    Rtype::WALLET,
];

/// One question on its way to an answer.
struct Work<'a> {
    engine: &'a Engine,
    query: &'a Query,
    asker: Option<Subnet>,
    reach: Reach,
    sources: &'a Sources,
    /// The names that were read, and when the first lease or signature that the answer rests on runs out.
    noted: Noted,
    builder: Builder,
    /// NSECs that say why a wildcard was used, for the authority section.
    proofs: Vec<Rrset>,
    /// What is noted for a receipt.
    trace: Option<Trace>,
    /// Why the TLD's contract answered in place of the owner's.
    out_of_gas: Option<OutOfGas>,
    /// Where an alias leads out of our TLDs.
    leaves: Option<Name>,
    /// Of the first link, if that is no denial: see [`Answer::source`].
    source: Option<u8>,
    /// The failure is the machine's.
    passing: bool,
}

impl<'a> Work<'a> {
    fn new(engine: &'a Engine, query: &'a Query, asker: Option<Subnet>, sources: &'a Sources) -> Self {
        Self {
            engine,
            query,
            asker,
            reach: Reach::Anyones,
            sources,
            noted: Noted::default(),
            builder: Builder::new(query),
            proofs: Vec::new(),
            trace: None,
            out_of_gas: None,
            leaves: None,
            source: None,
            passing: false,
        }
    }

    /// Executes the contract of the asked name, and of every alias target inside our TLDs.
    fn follow(&mut self) -> Result<Verdict, Stop> {
        let mut name = self.query.name.clone();
        let rtype = self.query.rtype;
        for link in 0..=MAX_ALIAS_LINKS {
            let zone = Arc::new(Zone::of(&name, rtype, self.sources, &mut self.noted)?);
            let resolution = if zone.is_strict() || zone.is_own(&name, rtype) {
                self.look_up(&zone, &name, rtype)?
            } else if self.is_beyond_reach(&zone) {
                return Err(Stop::BeyondReach);
            } else {
                match self.execute(&zone, &name, rtype) {
                    Ok(resolution) => resolution,
                    Err(failure) => {
                        self.passing = failure.is_of_machine();
                        return Ok((Rcode::ServFail, false, Some(failure.ede())));
                    }
                }
            };
            self.note_source(&zone, &resolution);
            match resolution {
                Resolution::Records(rrsets) | Resolution::Alias(rrsets)
                    if zone.is_strict() && rrsets.iter().any(|rrset| self.has_lapsed(rrset)) =>
                {
                    return Ok(strict::lapsed(&zone));
                }
                Resolution::Records(rrsets) => {
                    self.answer(&zone, &rrsets)?;
                    return Ok(self.positive(Rcode::NoError));
                }
                Resolution::Alias(rrsets) => {
                    self.answer(&zone, &rrsets)?;
                    match alias_target(&rrsets) {
                        Some(target) if self.engine.tlds.find(&target).is_some() => name = target,
                        Some(target) => {
                            self.leaves = Some(target);
                            return Ok(self.positive(Rcode::NoError));
                        }
                        // A DNAME whose substitution does not fit in 255 octets (RFC 6672 §2.2).
                        None => return Ok(self.positive(Rcode::YxDomain)),
                    }
                }
                Resolution::Delegation(rrsets) => return Ok(self.refer(&zone, &rrsets, link == 0)?),
                Resolution::NoData if zone.is_strict() => return Ok(self.negative_ahead(&zone, &name, false)?),
                Resolution::NxDomain if zone.is_strict() => return Ok(self.negative_ahead(&zone, &name, true)?),
                Resolution::NoData => {
                    let types = self.types_at(&zone, &name)?;
                    return Ok(self.negative(&zone, &name, Some(types)));
                }
                Resolution::NxDomain => return Ok(self.negative(&zone, &name, None)),
            }
        }
        let text = format!("alias chain of more than {MAX_ALIAS_LINKS} links");
        Ok((Rcode::ServFail, false, Some((EdeCode::Other, text))))
    }

    /// A contract can make the same for any name in its zone, so the zone has answered.
    fn note_source(&mut self, zone: &Zone, resolution: &Resolution) {
        if let Resolution::Records(rrsets) | Resolution::Alias(rrsets) = resolution
            && self.source.is_none()
        {
            let found = rrsets.first().and_then(|first| self.noted.labels_of(first));
            self.source = Some(found.unwrap_or_else(|| zone.apex.label_count()) as u8);
        }
    }

    fn is_beyond_reach(&self, zone: &Zone) -> bool {
        self.reach == Reach::Ours
            && (zone.entry.as_ref().is_some_and(|entry| entry.contract.is_some())
                || !self.engine.host.is_ready(&zone.tld.contract.0))
    }

    fn execute(&mut self, zone: &Arc<Zone>, name: &Name, rtype: Rtype) -> Result<Resolution, Failure> {
        let snapshot = &self.sources.snapshot;
        let hash = self.contract_of(zone)?;
        let (quarantine, now) = (&self.engine.quarantine, self.sources.now);
        // The TLD's own contract answers for everybody, free of charge.
        let payer = zone.entry.as_ref().map(|entry| entry.owner).filter(|_| hash != zone.tld.contract);
        if let Some(owner) = payer
            && let Err(out) = self
                .engine
                .meter
                .admit(&zone.apex, owner, Purpose::Resolution, snapshot, now)
                .map_err(reads::read_fault)?
        {
            self.without_gas(owner, out);
            return self.execute_one(zone, zone.tld.contract, name, rtype).outcome;
        }
        let watched = payer.is_some();
        if watched && let Err(failure) = quarantine.check(&zone.apex, hash, now) {
            self.engine.metrics.count_contract_failure(failure.kind());
            return Err(failure);
        }
        let execution = self.execute_one(zone, hash, name, rtype);
        if watched {
            quarantine.note(&zone.apex, hash, now, execution.outcome.as_ref().err());
        }
        // Nobody pays for what the machine did not do. A receipt is for whoever asks for it, and taken from what may be done
        // for that one.
        let machines = execution.outcome.as_ref().is_err_and(Failure::is_of_machine);
        if let Some(owner) = payer.filter(|_| self.trace.is_none() && !machines) {
            let used = (Purpose::Resolution, execution.fuel);
            let noted = self.engine.meter.note(&zone.apex, owner, used, snapshot, now);
            noted.map_err(reads::read_fault)?;
        }
        execution.outcome
    }

    /// The TLD's contract answers in place of the owner's; until the epoch ends, or the owner's account grows.
    fn without_gas(&mut self, owner: SigilId, out: OutOfGas) {
        self.engine.metrics.contract_out_of_gas.add(1);
        self.noted.account(&owner);
        self.noted.until(self.sources.now + OUT_OF_GAS_SECONDS);
        self.out_of_gas = Some(out);
    }

    fn execute_one(&mut self, zone: &Arc<Zone>, hash: CodeHash, name: &Name, rtype: Rtype) -> Execution {
        let Sources { tlds, snapshot, .. } = self.sources;
        let load = || tlds.code(snapshot, &hash).map_err(reads::read_fault);
        let question = Question { name: name.clone(), rtype, zone: zone.apex.clone() };
        let reads = SnapshotReads::new(zone.clone(), self.sources.clone(), self.asker);
        let code = CodeRef { hash: hash.0, load: &load };
        let (execution, reads) = match &mut self.trace {
            None => stopwatch::timed(Stage::Contract, || self.engine.host.execute(code, &question, reads)),
            Some(trace) => {
                let (execution, recorder) = self.engine.host.execute(code, &question, Recorder::new(reads));
                trace.resolved(hash, &question, &execution, &recorder);
                (execution, recorder.into_inner())
            }
        };
        self.noted.merge(reads.noted());
        self.noted.until(execution.until.unwrap_or(u64::MAX));
        self.engine.count(execution.fuel, execution.outcome.as_ref().err());
        execution
    }

    /// The contract that answers for a zone: what its owner bound, if that is a resolver, else the TLD's.
    fn contract_of(&self, zone: &Zone) -> Result<CodeHash, Failure> {
        let Sources { tlds, snapshot, .. } = self.sources;
        let Some(bound) = zone.entry.as_ref().and_then(|entry| entry.contract) else { return Ok(zone.tld.contract) };
        let worlds = tlds.worlds(snapshot, &bound).map_err(reads::read_fault)?;
        // What is of no world is no contract: executing it tells the asker so.
        let answers = worlds.resolver || worlds == Worlds::default();
        Ok(if answers { bound } else { zone.tld.contract })
    }

    /// RRsets of the answer section, each with its owner's RRSIG or the zone's; a CNAME that a DNAME made has
    /// none (RFC 6672 §5.3.1).
    fn answer(&mut self, zone: &Zone, rrsets: &[Arc<Rrset>]) -> Result<(), Fault> {
        for (at, rrset) in rrsets.iter().enumerate() {
            let (rrset, seconds) = current(rrset, self.sources.now);
            if at > 0 && rrset.rtype == Rtype::CNAME {
                self.push(Section::Answer, &rrset, seconds);
            } else {
                let rrset = self.with_wildcard_proof(zone, &rrset)?;
                self.push_signed(Section::Answer, zone, &rrset, seconds);
            }
        }
        Ok(())
    }

    /// Notes the proof that an expanded wildcard needs: nothing closer exists (RFC 4035 §3.1.3.3). Where none
    /// can be written, the RRset leaves without the owner's RRSIG and is signed as what it is.
    fn with_wildcard_proof(&mut self, zone: &Zone, rrset: &Arc<Rrset>) -> Result<Arc<Rrset>, Fault> {
        let next_closer = rrset.rrsigs.iter().find_map(|rrsig| Rrsig::parse(rrsig).ok()?.next_closer(&rrset.owner));
        let Some(next_closer) = next_closer.filter(|_| self.query.dnssec_ok()) else { return Ok(rrset.clone()) };
        if zone.is_strict() {
            let nsec = self.nsec_before(zone, &next_closer)?;
            self.proofs.extend(nsec.map(|nsec| (*current(&nsec, self.sources.now).0).clone()));
            return Ok(rrset.clone());
        }
        if !self.signs(zone) {
            return Ok(rrset.clone());
        }
        match denial::around(&next_closer, soa::negative_ttl(&zone.soa())) {
            Some(nsec) => {
                let nsec = self.signed(zone, &nsec);
                self.proofs.push(nsec);
                Ok(rrset.clone())
            }
            None => Ok(Arc::new(Rrset { rrsigs: Vec::new(), ..(**rrset).clone() })),
        }
    }

    /// True if the client wants signatures and the gateway makes those of the zone.
    fn signs(&self, zone: &Zone) -> bool {
        self.query.dnssec_ok() && self.sources.signer.signs(zone)
    }

    fn signed(&self, zone: &Zone, rrset: &Rrset) -> Rrset {
        let Sources { signer, now, .. } = self.sources;
        let sign = || stopwatch::timed(Stage::Sign, || signer.sign(zone, rrset, *now));
        let rrsigs = if self.signs(zone) { sign() } else { Vec::new() };
        Rrset { rrsigs, ..rrset.clone() }
    }

    fn push_signed(&mut self, section: Section, zone: &Zone, rrset: &Rrset, seconds: u32) {
        if rrset.rrsigs.is_empty() && self.signs(zone) {
            let rrset = self.signed(zone, rrset);
            return self.push(section, &rrset, seconds.min(ONLINE_SECONDS));
        }
        self.push(section, rrset, seconds);
    }

    /// No TTL reaches beyond `seconds`, nor beyond what the answer rests on.
    fn push(&mut self, section: Section, rrset: &Rrset, seconds: u32) {
        let lease = self.noted.seconds(self.sources.now);
        self.builder.push(section, rrset, rrset.ttl.min(seconds).min(lease));
    }

    fn push_proofs(&mut self) {
        for nsec in std::mem::take(&mut self.proofs) {
            self.push(Section::Authority, &nsec, u32::MAX);
        }
    }

    fn positive(&mut self, rcode: Rcode) -> Verdict {
        self.push_proofs();
        (rcode, true, self.gas_ede())
    }

    fn gas_ede(&self) -> Option<(EdeCode, String)> {
        self.out_of_gas.map(|out| (EdeCode::Other, out.to_string()))
    }

    /// SOA, its TTL the smaller of its own and MINIMUM (RFC 2308 §3), and the compact denial (RFC 9824) of the
    /// type at a name with these `types`, or of the name: then the response code says so only to those who
    /// take it together with such a proof (§5.1), or who want none.
    fn negative(&mut self, zone: &Zone, name: &Name, types: Option<Vec<Rtype>>) -> Verdict {
        let rrset = zone.soa();
        let ttl = soa::negative_ttl(&rrset);
        let missing = types.is_none();
        let proven = self.signs(zone);
        let nsec = proven.then(|| denial::at_name(name, types.unwrap_or_else(|| vec![Rtype::NXNAME]), ttl));
        if let Some(nsec) = nsec.as_ref().filter(|_| self.query.rtype == Rtype::NSEC) {
            // The proof that there is none would be one.
            self.push_signed(Section::Answer, zone, nsec, ttl);
            return self.positive(Rcode::NoError);
        }
        self.push_signed(Section::Authority, zone, &rrset, ttl);
        self.push_proofs();
        if let Some(nsec) = nsec {
            self.push_signed(Section::Authority, zone, &nsec, ttl);
        }
        let told = missing && (!proven || self.query.compact_ok());
        (if told { Rcode::NxDomain } else { Rcode::NoError }, true, self.gas_ede())
    }

    /// What there is at a name beside the type that was asked for.
    fn types_at(&mut self, zone: &Arc<Zone>, name: &Name) -> Result<Vec<Rtype>, Fault> {
        if !self.signs(zone) {
            return Ok(Vec::new());
        }
        let mut types = Stored { zone, sources: self.sources }.types_for(name)?;
        if zone.entry.as_ref().is_some_and(|entry| entry.contract.is_some()) {
            types.extend(MAYBE);
        } else if !types.contains(&Rtype::TXT) && self.query.rtype != Rtype::TXT {
            // All that the TLDs' own contracts make is TXT.
            let made = self.execute(zone, name, Rtype::TXT);
            types.extend(matches!(made, Ok(Resolution::Records(_))).then_some(Rtype::TXT));
        }
        types.retain(|rtype| *rtype != self.query.rtype);
        Ok(types)
    }

    /// A referral (RFC 1034 §4.3.2 step 3b) with the DS, or the proof that there is none (RFC 4035 §3.1.4), and
    /// the addresses that we have of name servers below the cut.
    fn refer(&mut self, zone: &Zone, rrsets: &[Arc<Rrset>], first: bool) -> Result<Verdict, Fault> {
        for ns in rrsets {
            self.push(Section::Authority, ns, u32::MAX);
        }
        self.push_proofs();
        for ns in rrsets.iter().filter(|rrset| rrset.rtype == Rtype::NS) {
            let parent = if ns.owner == zone.apex { &zone.parent(self.sources) } else { zone };
            if self.query.dnssec_ok() && (parent.is_strict() || self.signs(parent)) {
                self.secure_cut(parent, &ns.owner)?;
            }
            let targets = ns.rdata.iter().filter_map(|rdata| Name::from_wire(rdata).ok());
            for target in targets.filter(|target| target.is_at_or_below(&ns.owner)) {
                for glue in reads::glue(&self.sources.snapshot, &target)? {
                    self.push(Section::Additional, &glue, u32::MAX);
                }
            }
        }
        // Behind an alias the answer itself is ours, the referral is where to go on.
        Ok((Rcode::NoError, !first, self.gas_ede()))
    }

    fn secure_cut(&mut self, parent: &Zone, cut: &Name) -> Result<(), Fault> {
        let stored = Stored { zone: parent, sources: self.sources };
        match stored.rrset(cut, Rtype::DS)? {
            Some(ds) => {
                let (ds, seconds) = current(&ds, self.sources.now);
                self.push_signed(Section::Authority, parent, &ds, seconds);
            }
            None if parent.is_strict() => {
                if let Some(nsec) = self.nsec_before(parent, cut)? {
                    let (nsec, seconds) = current(&nsec, self.sources.now);
                    self.push(Section::Authority, &nsec, seconds);
                }
            }
            None => {
                let nsec = denial::at_name(cut, [Rtype::NS], soa::negative_ttl(&parent.soa()));
                self.push_signed(Section::Authority, parent, &nsec, u32::MAX);
            }
        }
        Ok(())
    }
}

/// The RRset without the RRSIGs that have run out, and the seconds for which the rest is good: an expired
/// signature is never served.
fn current(rrset: &Arc<Rrset>, now: u64) -> (Arc<Rrset>, u32) {
    let left = |rrsig: &[u8]| Rrsig::parse(rrsig).map_or(0, |rrsig| rrsig.seconds_left(now));
    let lifetimes: Vec<i32> = rrset.rrsigs.iter().map(|rrsig| left(rrsig)).collect();
    let seconds = lifetimes.iter().filter(|left| **left > 0).min().map_or(u32::MAX, |left| *left as u32);
    if lifetimes.iter().all(|left| *left > 0) {
        return (rrset.clone(), seconds);
    }
    let kept = rrset.rrsigs.iter().zip(&lifetimes).filter(|(_, left)| **left > 0);
    let rrsigs = kept.map(|(rrsig, _)| rrsig.clone()).collect();
    (Arc::new(Rrset { rrsigs, ..(**rrset).clone() }), seconds)
}

/// Where the last CNAME of an alias points.
fn alias_target(rrsets: &[Arc<Rrset>]) -> Option<Name> {
    let cname = rrsets.last().filter(|rrset| rrset.rtype == Rtype::CNAME)?;
    Name::from_wire(cname.rdata.first()?).ok()
}

/// The question and why it has no answer.
fn error(query: &Query, rcode: Rcode, ede: Option<(EdeCode, String)>) -> Answer {
    Builder::new(query).finish(rcode, false, ede)
}

fn servfail(query: &Query, code: EdeCode, text: String) -> Answer {
    error(query, Rcode::ServFail, Some((code, text)))
}
