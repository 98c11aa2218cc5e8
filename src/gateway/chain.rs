//! DNSSEC chains: the answer to one question with everything above it, up to the TLD's keys (RFC 9102 §3.4).

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Engine, Fault, Reach};
use crate::cache::Key;
use crate::dnssec::Rrsig;
use crate::dnssec::chain::Chain;
use crate::limits::MAX_MESSAGE;
use crate::registry::Snapshot;
use crate::wire::{Message, MessageRecord, Name, Query, Rcode, Rtype, Shape};
use crate::work::Budget;

/// A chain in wire form, and the seconds for which it is good at least; or why there is none.
pub type ChainReply = Result<(Vec<u8>, u32), Rcode>;

/// Called with the chain, on a worker's thread; must not block.
pub type ChainDone = Box<dyn FnOnce(ChainReply) + Send>;

impl Engine {
    /// The chain for a question under our TLDs; REFUSED when the budget is overdrawn.
    pub(super) fn chain(&self, name: &Name, rtype: Rtype, budget: &Budget) -> ChainReply {
        let snapshot = self.registry.snapshot();
        let gathered = snapshot.and_then(|snapshot| self.gather(name, rtype, &Arc::new(snapshot), budget));
        gathered.unwrap_or_else(|fault| {
            tracing::error!(%fault, %name, "registry read failed");
            Err(Rcode::ServFail)
        })
    }

    fn gather(
        &self,
        name: &Name,
        rtype: Rtype,
        snapshot: &Arc<Snapshot>,
        budget: &Budget,
    ) -> Result<ChainReply, Fault> {
        let mut stint = budget.stint();
        let mut chain = Chain::default();
        let mut seconds = u32::MAX;
        let mut add = |name: &Name, rtype: Rtype| -> Result<Result<BTreeSet<Name>, Rcode>, Fault> {
            if stint.step().is_err() {
                return Ok(Err(Rcode::Refused));
            }
            let (message, ttl) = match self.told(name, rtype, snapshot)? {
                Ok(told) => told,
                Err(rcode) => return Ok(Err(rcode)),
            };
            seconds = seconds.min(ttl);
            let records = message.sections[..2].concat();
            let zones = zones(&records, name);
            chain.push(&records);
            Ok(Ok(zones))
        };
        let mut known = BTreeSet::new();
        let mut wanted = match add(name, rtype)? {
            Ok(zones) => zones,
            Err(rcode) => return Ok(Err(rcode)),
        };
        // Deepest first: canonical order has the zones above first.
        while let Some(zone) = wanted.pop_last() {
            if !known.insert(zone.clone()) || self.tlds.find(&zone).is_none() {
                continue;
            }
            let questions: &[Rtype] =
                if zone.label_count() > 1 { &[Rtype::DNSKEY, Rtype::DS] } else { &[Rtype::DNSKEY] };
            for rtype in questions {
                match add(&zone, *rtype)? {
                    Ok(zones) => wanted.extend(zones),
                    Err(rcode) => return Ok(Err(rcode)),
                }
            }
        }
        let octets = chain.to_octets();
        Ok(if octets.len() > MAX_MESSAGE { Err(Rcode::ServFail) } else { Ok((octets, seconds)) })
    }

    /// The reply to a question with DO, and its TTL.
    fn told(
        &self,
        name: &Name,
        rtype: Rtype,
        snapshot: &Arc<Snapshot>,
    ) -> Result<Result<(Message, u32), Rcode>, Fault> {
        let query = Query::internal(name.clone(), rtype);
        if let Some((rcode, _)) = self.refusal(&query) {
            return Ok(Err(rcode));
        }
        let now = (self.clock)();
        let reply = match self.cache.get(&Key::of(&query), || None, self.registry.stamps(), now) {
            // RRSIGs are over the original TTL, ages do not matter; the chain is good for what is left.
            Some(hit) => {
                let mut reply = hit.answer().reply(&query, Shape::Stream, 0);
                reply.ttl = reply.ttl.saturating_sub(hit.age(now));
                reply
            }
            None => self.resolve(&query, None, snapshot, Reach::Anyones)?.reply(&query, Shape::Stream, 0),
        };
        if ![Rcode::NoError, Rcode::NxDomain].contains(&reply.rcode) {
            return Ok(Err(reply.rcode));
        }
        let message = Message::parse(&reply.wire).map_err(|error| Fault(format!("our own answer: {error}")))?;
        Ok(Ok((message, reply.ttl)))
    }
}

/// The zones whose keys the records need: the signers, and for what no signer of a name covers (an alias may lead from a
/// signed zone into one that is not) the name that it is in, or would be.
fn zones(records: &[MessageRecord], name: &Name) -> BTreeSet<Name> {
    let rrsigs = records.iter().filter(|record| record.rtype == Rtype::RRSIG);
    let signers = rrsigs.filter_map(|record| Rrsig::parse(&record.rdata).ok()).map(|rrsig| rrsig.signer);
    let mut zones: BTreeSet<Name> = signers.collect();
    let signed = |owner: &Name| zones.contains(owner);
    let owners = records.iter().map(|record| record.owner.suffix(2)).chain([name.suffix(2)]);
    let unsigned: Vec<Name> = owners.filter(|owner| owner.label_count() > 1 && !signed(owner)).collect();
    zones.extend(unsigned);
    zones
}
