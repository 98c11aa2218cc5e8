//! The query path, readable top to bottom.
//!
//! ```text
//! begin:  Query::parse -> AnswerCache ---- hit ----> Answer::reply
//!                             | miss
//! finish: pool -> Snapshot -> zone -> ContractHost -> Resolution -> Builder -> cache -> Answer::reply
//!                               ^------- alias target in our TLDs ---'
//! ```

mod pool;
mod reads;
mod tlds;

pub use tlds::{Tld, Tlds};

use std::net::IpAddr;
use std::sync::Arc;

use crate::cache::{AnswerCache, Key};
use crate::contract::{CodeRef, ContractHost, Failure, Question};
use crate::limits::MAX_ALIAS_LINKS;
use crate::metrics::Metrics;
use crate::registry::{Fault, Registry, Snapshot, Stamp};
pub use crate::wire::Transport;
use crate::wire::{Answer, Builder, EdeCode, Name, Query, QueryError, Rcode, Reply, Resolution, Rrset, Rtype, Section};
use crate::writer::Clock;
use pool::Pool;
use reads::{SnapshotReads, Zone};

/// Who asks, and over what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    pub transport: Transport,
    pub addr: IpAddr,
}

/// What became of a message at once.
pub enum Begun {
    /// From the cache, or an error reply: send it.
    Ready(Reply),
    /// A contract must run: give it to [`Gateway::finish`].
    Miss(Miss),
    /// Nothing may be sent back.
    Ignore,
}

/// A question that the cache could not answer.
pub struct Miss {
    pub query: Query,
    pub client: Client,
}

/// Called with the reply to a miss, on a worker's thread; must not block.
pub type Done = Box<dyn FnOnce(Reply) + Send>;

/// The query path. Shared by all transports behind an `Arc`.
pub struct Gateway {
    engine: Arc<Engine>,
    pool: Pool,
}

/// Everything a worker needs.
pub struct Engine {
    pub registry: Arc<Registry>,
    pub host: Arc<ContractHost>,
    pub tlds: Arc<Tlds>,
    pub cache: AnswerCache,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
}

impl Gateway {
    /// Starts the workers.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(engine: Engine) -> std::io::Result<Self> {
        let engine = Arc::new(engine);
        let pool = Pool::start(&engine)?;
        Ok(Self { engine, pool })
    }

    /// Parses `message` and answers it from the cache if it can. Never blocks, never executes.
    pub fn begin(&self, message: &[u8], client: Client) -> Begun {
        match Query::parse(message) {
            Ok(query) => self.engine.begin(query, client),
            Err(QueryError::Reply(refused)) => Begun::Ready(refused.reply()),
            Err(QueryError::Ignore) => Begun::Ignore,
        }
    }

    /// Executes on a worker's thread and calls `done` there, exactly once; at once, with SERVFAIL and EDE 14
    /// (Not Ready), if too many are waiting.
    pub fn finish(&self, miss: Miss, done: Done) {
        let Err((miss, done)) = self.pool.submit(self.engine.tlds.zone_key(&miss.query.name), miss, done) else {
            return;
        };
        self.engine.metrics.misses_shed.add(1);
        let answer = servfail(&miss.query, EdeCode::NotReady, "too many questions are waiting".into());
        done(answer.reply(&miss.query, miss.client.transport.shape(), 0));
    }

    /// Answers on the calling thread, from the cache or by execution: for benches and tools.
    pub fn answer(&self, message: &[u8], client: Client) -> Option<Reply> {
        match self.begin(message, client) {
            Begun::Ready(reply) => Some(reply),
            Begun::Miss(miss) => Some(self.engine.execute(&miss)),
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

impl Engine {
    fn begin(&self, query: Query, client: Client) -> Begun {
        if let Some((rcode, ede)) = self.refusal(&query) {
            return Begun::Ready(error(&query, rcode, ede).reply(&query, client.transport.shape(), 0));
        }
        let now = (self.clock)();
        match self.cache.get(&Key::of(&query), self.registry.stamps(), now) {
            Some(entry) => {
                self.metrics.cache_hits.add(1);
                Begun::Ready(entry.answer.reply(&query, client.transport.shape(), entry.age(now)))
            }
            None => Begun::Miss(Miss { query, client }),
        }
    }

    /// Why a well-formed query is not looked into at all.
    fn refusal(&self, query: &Query) -> Option<(Rcode, Option<(EdeCode, String)>)> {
        if self.tlds.find(&query.name).is_none() {
            let text = "only .ghost, .sig, .gcc and .bc are answered here".into();
            return Some((Rcode::Refused, Some((EdeCode::NotAuthoritative, text))));
        }
        match query.rtype {
            Rtype::ANY => None,
            Rtype::AXFR | Rtype::IXFR => Some((Rcode::Refused, None)),
            meta => meta.is_meta().then_some((Rcode::NotImp, None)),
        }
    }

    /// Answers a miss by execution, and caches what came of it.
    fn execute(&self, miss: &Miss) -> Reply {
        self.metrics.cache_misses.add(1);
        let query = &miss.query;
        let answer = self.registry.snapshot().and_then(|snapshot| self.resolve(query, &Arc::new(snapshot)));
        let answer = answer.unwrap_or_else(|fault| {
            tracing::error!(%fault, name = %query.name, "registry read failed");
            servfail(query, EdeCode::NotReady, "the registry cannot be read".into())
        });
        answer.reply(query, miss.client.transport.shape(), 0)
    }

    fn resolve(&self, query: &Query, snapshot: &Arc<Snapshot>) -> Result<Answer, Fault> {
        let now = (self.clock)();
        let mut work =
            Work { engine: self, snapshot, now, reads: Vec::new(), builder: Builder::new(query), expires: u64::MAX };
        let (rcode, authoritative, ede) = work.follow(query)?;
        let Work { reads, builder, expires, .. } = work;
        let failed = rcode == Rcode::ServFail;
        // The links of an alias that ended in a failure are no answer.
        let answer = if failed { error(query, rcode, ede) } else { builder.finish(rcode, authoritative, ede) };
        let lease = u32::try_from(expires.saturating_sub(now)).unwrap_or(u32::MAX);
        let seconds = if failed { FAILURE_SECONDS } else { answer.ttl.min(lease) };
        self.cache.put(&Key::of(query), answer.clone(), seconds, now, snapshot.seq(), &reads);
        Ok(answer)
    }
}

/// Response code, AA, EDE.
type Verdict = (Rcode, bool, Option<(EdeCode, String)>);

/// One question on its way to an answer.
struct Work<'a> {
    engine: &'a Engine,
    snapshot: &'a Arc<Snapshot>,
    now: u64,
    reads: Vec<Stamp>,
    builder: Builder,
    /// When the first lease or signature that the answer rests on runs out, seconds since 1970.
    expires: u64,
}

impl Work<'_> {
    /// Executes the contract of the asked name, and of every alias target inside our TLDs.
    fn follow(&mut self, query: &Query) -> Result<Verdict, Fault> {
        let mut name = query.name.clone();
        for link in 0..=MAX_ALIAS_LINKS {
            let zone = self.zone_of(&name, query.rtype)?;
            let resolution = match self.execute(&zone, &name, query.rtype) {
                Ok(resolution) => resolution,
                Err(failure) => return Ok((Rcode::ServFail, false, Some(failure.ede()))),
            };
            match resolution {
                Resolution::Records(rrsets) => {
                    self.push(Section::Answer, &rrsets);
                    return Ok((Rcode::NoError, true, None));
                }
                Resolution::Alias(rrsets) => {
                    self.push(Section::Answer, &rrsets);
                    match alias_target(&rrsets) {
                        Some(target) if self.engine.tlds.find(&target).is_some() => name = target,
                        Some(_) => return Ok((Rcode::NoError, true, None)),
                        // A DNAME whose substitution does not fit in 255 octets (RFC 6672 §2.2).
                        None => return Ok((Rcode::YxDomain, true, None)),
                    }
                }
                Resolution::Delegation(rrsets) => return self.refer(&rrsets, link == 0),
                Resolution::NoData => return Ok(self.negative(&zone, Rcode::NoError)),
                Resolution::NxDomain => return Ok(self.negative(&zone, Rcode::NxDomain)),
            }
        }
        Ok((
            Rcode::ServFail,
            false,
            Some((EdeCode::Other, format!("alias chain of more than {MAX_ALIAS_LINKS} links"))),
        ))
    }

    /// The zone that answers for a name, noted as read and its lease as a bound.
    fn zone_of(&mut self, name: &Name, rtype: Rtype) -> Result<Arc<Zone>, Fault> {
        let zone = Zone::of(name, rtype, &self.engine.tlds, self.snapshot, self.now, &mut self.reads)?;
        if let Some(entry) = &zone.entry {
            self.expires = self.expires.min(entry.expires);
        }
        Ok(Arc::new(zone))
    }

    fn execute(&mut self, zone: &Arc<Zone>, name: &Name, rtype: Rtype) -> Result<Resolution, Failure> {
        let tlds = &self.engine.tlds;
        let bound = zone.entry.as_ref().and_then(|entry| entry.contract);
        let hash = bound.unwrap_or(zone.tld.contract);
        let load = || match tlds.shipped(&hash) {
            Some(code) => Ok(Some(code.to_vec())),
            None => self.snapshot.contract(&hash).map_err(reads::read_fault),
        };
        let question = Question { name: name.clone(), rtype, zone: zone.apex.clone() };
        let reads = SnapshotReads::new(zone.clone(), tlds.clone(), self.snapshot.clone(), self.now);
        let (execution, reads) = self.engine.host.execute(CodeRef { hash: hash.0, load: &load }, &question, reads);
        reads.noted().iter().for_each(|stamp| reads::note(&mut self.reads, *stamp));
        self.expires = self.expires.min(reads.expires());
        self.engine.metrics.contract_executions.add(1);
        self.engine.metrics.contract_fuel.add(execution.fuel);
        if let Err(failure) = &execution.outcome {
            self.engine.metrics.count_contract_failure(failure.kind());
        }
        execution.outcome
    }

    fn push(&mut self, section: Section, rrsets: &[Arc<Rrset>]) {
        for rrset in rrsets {
            let (rrset, seconds) = current(rrset, self.now);
            let lease = u32::try_from(self.expires.saturating_sub(self.now)).unwrap_or(u32::MAX);
            self.builder.push(section, &rrset, rrset.ttl.min(seconds).min(lease));
        }
    }

    /// SOA in the authority section; its TTL is the smaller of its own and MINIMUM (RFC 2308 §3).
    fn negative(&mut self, zone: &Zone, rcode: Rcode) -> Verdict {
        let soa = zone.soa();
        let ttl = reads::negative_ttl(&soa);
        self.builder.push(Section::Authority, &Rrset { ttl, ..soa }, ttl);
        (rcode, true, None)
    }

    /// A referral (RFC 1034 §4.3.2 step 3b), with the addresses that we have of name servers below the cut.
    fn refer(&mut self, rrsets: &[Arc<Rrset>], first: bool) -> Result<Verdict, Fault> {
        self.push(Section::Authority, rrsets);
        for rrset in rrsets.iter().filter(|rrset| rrset.rtype == Rtype::NS) {
            let targets = rrset.rdata.iter().filter_map(|rdata| Name::from_wire(rdata).ok());
            for target in targets.filter(|target| target.is_at_or_below(&rrset.owner)) {
                let glue = reads::glue(self.snapshot, &target)?;
                self.push(Section::Additional, &glue);
            }
        }
        // Behind an alias the answer itself is ours, the referral is where to go on.
        Ok((Rcode::NoError, !first, None))
    }
}

/// The RRset without the RRSIGs that have run out, and the seconds for which the rest is good: an expired
/// signature is never served.
fn current(rrset: &Arc<Rrset>, now: u64) -> (Arc<Rrset>, u32) {
    let left = |rrsig: &[u8]| crate::dnssec::Rrsig::parse(rrsig).map_or(0, |rrsig| rrsig.seconds_left(now));
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
