//! Ordinary names, and aliases that lead to them or from them to us.
//!
//! ```text
//! begin   not ours, may ask ─> Forwarder::hit ─────────────────────────────────> Reply
//! finish  not ours          ─> Forwarder::ask ─ ends at a name of ours: pool ──> joined
//!         ours              ─> pool ─ an alias leaves our TLDs: Forwarder::ask ─> joined
//! ```
//!
//! A chain of aliases crosses once: whoever wants the rest asks for the name at its end.

use std::sync::Arc;

use super::pool::Task;
use super::{Begun, Client, Done, Engine, Gateway, Miss, error, servfail};
use crate::cache::Key;
use crate::forward::{Forwarder, Ordinary};
use crate::wire::{Answer, Builder, EdeCode, HEADER, Message, Name, Query, Rcode, Reply, Rrset, Rtype, Section};

/// Recursion Available, in the header's second octet of flags.
const RA: u8 = 0x80;

impl Gateway {
    /// Whether a reply is what everybody gets, of what everybody may know: names under our TLDs or their mirrors alone, not
    /// where an alias of theirs leads, and for no network in particular.
    pub fn is_public(&self, reply: &Reply) -> bool {
        let engine = self.engine();
        let ours = |name: &Name| engine.tlds.find(name).is_some() || engine.mirrors.of(name).is_some();
        if reply.personal || !Name::from_message(&reply.wire, HEADER).is_ok_and(|(name, _)| ours(&name)) {
            return false;
        }
        let told = || Message::parse(&reply.wire).is_ok_and(|told| told.sections[0].iter().all(|row| ours(&row.owner)));
        engine.forward.is_none() || told()
    }
}

impl Engine {
    /// The forwarder, if it is there for this client and this question: also of the rest of an alias of ours.
    pub(super) fn forwarder_for(&self, query: &Query, client: Client) -> Option<&Arc<Forwarder>> {
        self.forward.as_ref().filter(|forward| query.rd && forward.permits(client.addr))
    }

    /// A question for a name that is none of ours; `None` if it is refused like everyone's.
    pub(super) fn begin_ordinary(&self, query: &Query, client: Client) -> Option<Begun> {
        let forward = self.forward.as_ref()?;
        let shape = client.transport.shape();
        let Some(forward) = self.forwarder_for(query, client) else {
            if query.rd {
                forward.count_refused();
                let text = "ordinary names are not resolved for this address".to_owned();
                let refused = error(query, Rcode::Refused, Some((EdeCode::Prohibited, text)));
                return Some(Begun::Ready(refused.reply(query, shape, 0)));
            }
            return None;
        };
        if query.rtype.is_meta() && query.rtype != Rtype::ANY {
            return None;
        }
        Some(match forward.hit(query) {
            Some(ordinary) => Begun::Ready(ordinary.reply(query, shape)),
            None => Begun::Miss(Miss::new(query.clone(), client)),
        })
    }

    /// What becomes of an answer of ours whose alias leaves our TLDs.
    pub(super) fn outward(&self, miss: &Miss, first: &Answer, age: u32) -> Outward {
        let Some(target) = first.leaves.as_deref() else { return Outward::Stays };
        let Some(forward) = self.forwarder_for(miss.outer(), miss.client) else { return Outward::Stays };
        match forward.hit(&miss.outer().toward(target.clone())) {
            Some(rest) => Outward::Joined(joined(miss, first, age, &rest)),
            None => Outward::Ask(target.clone()),
        }
    }

    /// The answer from the cache and its age in seconds, else by execution.
    fn known_or_executed(&self, miss: &Miss) -> (Answer, u32) {
        let now = (self.clock)();
        let asker = || miss.client.asker(&miss.query);
        match self.cache.get(&Key::of(&miss.query), asker, self.registry.stamps(), now) {
            Some(hit) => (hit.answer().clone(), hit.age(now)),
            None => (self.executed(miss), 0),
        }
    }
}

/// Where the rest of an alias is.
pub(super) enum Outward {
    /// With whoever asked: there is none, or they may not ask for it here.
    Stays,
    Joined(Reply),
    /// Not at hand.
    Ask(Name),
}

impl Gateway {
    /// [`Gateway::finish`] where a forwarder may have a part in it.
    pub(super) fn finish_with(&self, forward: &Arc<Forwarder>, miss: Miss, done: Done) {
        if self.engine.tlds.find(&miss.query.name).is_some() {
            return self.finish_outward(forward.clone(), miss, done);
        }
        let (engine, pool) = (self.engine.clone(), self.pool.clone());
        let (query, client) = (miss.query.clone(), miss.client.addr);
        let then = move |ordinary: Ordinary| {
            let Some(target) = ordinary.ours().filter(|target| engine.tlds.find(target).is_some()).cloned() else {
                return done(ordinary.reply(&miss.query, miss.client.transport.shape()));
            };
            let asked = Miss::new(miss.query.toward(target.clone()), miss.client);
            let errand = move |engine: Option<&Engine>| done(inward(engine, &miss.query, &ordinary, &asked));
            if let Err(task) = pool.submit(engine.tlds.zone_key(&target), Task::Other(target, Box::new(errand))) {
                engine.turn_away(task);
            }
        };
        forward.ask(query, client, Box::new(then));
    }

    fn finish_outward(&self, forward: Arc<Forwarder>, miss: Miss, done: Done) {
        self.work(miss.query.name.clone(), move |engine| {
            if miss.wanted.has_ended() {
                return;
            }
            let Some(engine) = engine else { return done(miss.reply(&crowded(&miss.query), 0)) };
            let (first, age) = engine.known_or_executed(&miss);
            match engine.outward(&miss, &first, age) {
                Outward::Stays => done(miss.reply(&first, age)),
                Outward::Joined(reply) => done(reply),
                Outward::Ask(target) => {
                    let (asked, client) = (miss.outer().toward(target), miss.client.addr);
                    forward.ask(asked, client, Box::new(move |rest| done(joined(&miss, &first, age, &rest))));
                }
            }
        });
    }
}

/// The chain as far as upstreams know it, and our answer behind it.
fn inward(engine: Option<&Engine>, query: &Query, first: &Ordinary, asked: &Miss) -> Reply {
    let (second, age) = match engine {
        Some(engine) => engine.known_or_executed(asked),
        None => (crowded(&asked.query), 0),
    };
    let answer = join(query, (&first.answer(query), first.age()), (&second, age));
    dressed(&answer, query, asked.client)
}

/// Our answer, and behind it what upstreams know of its end.
fn joined(miss: &Miss, first: &Answer, age: u32, rest: &Ordinary) -> Reply {
    let query = miss.outer();
    let answer = join(query, (&miss.mirrored(first), age), (&rest.answer(query), rest.age()));
    dressed(&answer, query, miss.client)
}

fn dressed(answer: &Answer, query: &Query, client: Client) -> Reply {
    let mut reply = client.dress(answer, query, 0);
    reply.wire[3] |= RA;
    reply
}

fn crowded(query: &Query) -> Answer {
    servfail(query, EdeCode::NotReady, "too many questions are waiting".into())
}

/// Two answers, each with its age in seconds, as one: the second begins where the first one's aliases end. What failed
/// behind an alias has failed.
fn join(query: &Query, first: (&Answer, u32), second: (&Answer, u32)) -> Answer {
    let (rcode, ede) = (second.0.rcode, second.0.ede.as_ref().or(first.0.ede.as_ref()));
    let ede = ede.map(|(code, text)| (*code, text.to_string()));
    // Both were built here.
    let (Ok(head), Ok(tail)) = (Message::parse(first.0.as_wire()), Message::parse(second.0.as_wire())) else {
        return servfail(query, EdeCode::InvalidData, String::new());
    };
    if ![Rcode::NoError, Rcode::NxDomain].contains(&rcode) {
        return error(query, rcode, ede);
    }
    let mut builder = Builder::new(query);
    let authoritative = head.flags & 0x0400 != 0;
    push(&mut builder, Section::Answer, &head, first.1);
    push(&mut builder, Section::Answer, &tail, second.1);
    push(&mut builder, Section::Authority, &tail, second.1);
    let mut answer = builder.finish(rcode, authoritative, ede);
    answer.scope = first.0.scope.max(second.0.scope);
    answer
}

/// Records of one section, younger by `age`. RRSIGs are there only if the client wants them.
fn push(builder: &mut Builder, section: Section, message: &Message, age: u32) {
    for record in &message.sections[section as usize] {
        let ttl = record.ttl.saturating_sub(age);
        let rdata = vec![record.rdata.clone().into_boxed_slice()];
        let rrset = Rrset { owner: record.owner.clone(), rtype: record.rtype, ttl, rdata, rrsigs: Vec::new() };
        builder.push(section, &rrset, ttl);
    }
}
