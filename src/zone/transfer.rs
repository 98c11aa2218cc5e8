//! Zone transfers (RFC 5936): a zone cut into messages.

use super::export::{Contents, soa_first};
use crate::wire::{Answer, Builder, Name, Query, Rcode, Rrset, Rtype};

/// Octets of one message: within reach of compression pointers, which have 14 bits.
const MESSAGE: usize = 16_000;

/// The messages that answer `query` with the whole zone `apex`: its SOA first and last (RFC 5936 §2.2). Empty if there
/// is no SOA.
pub fn whole(query: &Query, apex: &Name, contents: &Contents) -> Vec<Answer> {
    let Some(soa) = soa_first(apex, contents).next().filter(|rrset| rrset.rtype == Rtype::SOA) else {
        return Vec::new();
    };
    let mut messages = Messages { query, builder: Builder::new(query), finished: Vec::new() };
    soa_first(apex, contents).for_each(|rrset| messages.push(rrset));
    messages.push_data(soa, soa.rtype, &soa.rdata);
    messages.finish()
}

/// The message that tells an IXFR client that it is up to date, or over UDP how far behind it is (RFC 1995 §2).
pub fn soa_only(query: &Query, soa: &Rrset) -> Answer {
    let mut messages = Messages { query, builder: Builder::new(query), finished: Vec::new() };
    messages.push_data(soa, soa.rtype, &soa.rdata);
    messages.builder.finish(Rcode::NoError, true, None)
}

struct Messages<'a> {
    query: &'a Query,
    builder: Builder,
    finished: Vec<Answer>,
}

impl Messages<'_> {
    fn push(&mut self, rrset: &Rrset) {
        self.push_data(rrset, rrset.rtype, &rrset.rdata);
        self.push_data(rrset, Rtype::RRSIG, &rrset.rrsigs);
    }

    fn push_data(&mut self, rrset: &Rrset, rtype: Rtype, list: &[Box<[u8]>]) {
        for data in list {
            if !self.builder.push_part(rrset, rtype, data, MESSAGE) {
                let full = std::mem::replace(&mut self.builder, Builder::new(self.query));
                self.finished.push(full.finish(Rcode::NoError, true, None));
                // The first record of a message fits: no RDATA is as long as a message.
                self.builder.push_part(rrset, rtype, data, MESSAGE);
            }
        }
    }

    fn finish(mut self) -> Vec<Answer> {
        self.finished.push(self.builder.finish(Rcode::NoError, true, None));
        self.finished
    }
}
