//! Our TLDs under a suffix of another tree, `alice.ghost.alt`, for those who may not touch their root.
//!
//! Every name of ours in an answer is rewritten: owners, and names in RDATA. A DNAME from `ghost.alt` to `ghost` would be
//! shorter, but a resolver that meets it goes on at `ghost` itself, in the root that denies it. Nothing of it is signed: the
//! owners' signatures are over other names. A mirror is one zone to those who look, with its SOA at the suffix.

use std::sync::Arc;

use super::{Begun, Client, Engine, Miss, Tlds, error, servfail};
use crate::wire::{Answer, Builder, EdeCode, Message, MessageRecord, Name, Query, Rcode, Rrset, Rtype, Section, rdata};

/// The suffixes.
#[derive(Debug, Default)]
pub struct Mirrors(Vec<Name>);

/// What a question is mirrored from.
pub struct Mirror {
    /// As it was asked.
    pub(super) outer: Query,
    suffix: Name,
    tlds: Arc<Tlds>,
}

/// Seconds for which it is remembered that there is nothing beside our TLDs.
const TTL: u32 = 3_600;

/// Types that belong to zones and their signatures: a mirror is another zone, and has none.
const OF_ZONES: [Rtype; 12] = [
    Rtype::SOA,
    Rtype::NS,
    Rtype::DS,
    Rtype::DNSKEY,
    Rtype::CDS,
    Rtype::CDNSKEY,
    Rtype::CSYNC,
    Rtype::NSEC,
    Rtype::NSEC3,
    Rtype::NSEC3PARAM,
    Rtype::RRSIG,
    Rtype::ZONEMD,
];

impl Mirrors {
    /// The longest comes first: one may be below another.
    pub fn new(mut suffixes: Vec<Name>) -> Self {
        suffixes.sort_by_key(|suffix| std::cmp::Reverse(suffix.label_count()));
        Self(suffixes)
    }

    pub(super) fn of(&self, name: &Name) -> Option<&Name> {
        self.0.iter().find(|suffix| name.is_at_or_below(suffix))
    }
}

impl Engine {
    /// A question below a mirror's suffix; `None` if it is below none.
    pub(super) fn begin_mirrored(&self, query: &Query, client: Client) -> Option<Begun> {
        let suffix = self.mirrors.of(&query.name).filter(|_| self.tlds.find(&query.name).is_none())?;
        if query.rtype.is_meta() && query.rtype != Rtype::ANY {
            return None;
        }
        let mirror = Mirror { outer: query.clone(), suffix: suffix.clone(), tlds: self.tlds.clone() };
        let ready = |answer: Answer| Some(Begun::Ready(answer.reply(query, client.transport.shape(), 0)));
        let inner = query.name.rebase(suffix, &Name::root()).and_then(Result::ok);
        let Some(inner) = inner.filter(|inner| self.tlds.find(inner).is_some()) else { return ready(mirror.beside()) };
        if OF_ZONES.contains(&query.rtype) {
            return ready(mirror.nothing(Rcode::NoError));
        }
        let miss = Miss { mirror: Some(Box::new(mirror)), ..Miss::new(unsigned(query, inner), client) };
        Some(self.hit_or_miss(miss))
    }
}

/// The question inside: what there is at a mirrored name is not signed.
fn unsigned(query: &Query, inner: Name) -> Query {
    let mut query = query.toward(inner);
    if let Some(edns) = &mut query.edns {
        (edns.dnssec_ok, edns.compact_ok) = (false, false);
    }
    query
}

impl Mirror {
    /// The answer inside, rewritten.
    pub(super) fn rewrite(&self, inner: &Answer) -> Answer {
        // It was built here.
        let Ok(message) = Message::parse(inner.as_wire()) else {
            return servfail(&self.outer, EdeCode::InvalidData, String::new());
        };
        let [records, authority, _] = &message.sections;
        let authoritative = message.flags & 0x0400 != 0;
        if authority.iter().any(|record| record.rtype == Rtype::NS) {
            let text = "names that are delegated are not mirrored".to_owned();
            return servfail(&self.outer, EdeCode::NotSupported, text);
        }
        let ede = inner.ede.as_ref().map(|(code, text)| (*code, text.to_string()));
        if ![Rcode::NoError, Rcode::NxDomain].contains(&inner.rcode) {
            return error(&self.outer, inner.rcode, ede);
        }
        let mut builder = Builder::new(&self.outer);
        for record in records.iter().filter(|record| !OF_ZONES.contains(&record.rtype)) {
            builder.push(Section::Answer, &self.rrset(record), record.ttl);
        }
        if let Some(soa) = authority.iter().find(|record| record.rtype == Rtype::SOA) {
            builder.push(Section::Authority, &self.soa(soa.ttl), soa.ttl);
        }
        let mut answer = builder.finish(inner.rcode, authoritative, ede);
        (answer.scope, answer.leaves) = (inner.scope, inner.leaves.clone());
        answer.source = inner.source.saturating_add(self.suffix.label_count() as u8);
        answer
    }

    fn rrset(&self, record: &MessageRecord) -> Rrset {
        let rdata = rdata::map_names(record.rtype, &record.rdata, |name| self.outward(name));
        let owner = self.outward(&record.owner).unwrap_or_else(|| record.owner.clone());
        Rrset::new(owner, record.rtype, record.ttl, [rdata])
    }

    /// A name of ours under the suffix; `None` for others, and if it does not fit there.
    fn outward(&self, name: &Name) -> Option<Name> {
        self.tlds.find(name)?;
        name.rebase(&Name::root(), &self.suffix)?.ok()
    }

    /// The suffix itself, or a name below it that is in none of our TLDs.
    fn beside(&self) -> Answer {
        let apex = self.outer.name == self.suffix;
        if apex && self.outer.rtype == Rtype::SOA {
            let mut builder = Builder::new(&self.outer);
            builder.push(Section::Answer, &self.soa(TTL), TTL);
            return builder.finish(Rcode::NoError, true, None);
        }
        self.nothing(if apex { Rcode::NoError } else { Rcode::NxDomain })
    }

    fn nothing(&self, rcode: Rcode) -> Answer {
        let mut builder = Builder::new(&self.outer);
        builder.push(Section::Authority, &self.soa(TTL), TTL);
        builder.finish(rcode, true, None)
    }

    fn soa(&self, ttl: u32) -> Rrset {
        let mut data = self.suffix.as_wire().to_vec();
        data.extend_from_slice(b"\x06nobody\x07invalid\0");
        for field in [1, 3_600, 1_200, 604_800, TTL] {
            data.extend_from_slice(&field.to_be_bytes());
        }
        Rrset::new(self.suffix.clone(), Rtype::SOA, ttl, [data])
    }
}
