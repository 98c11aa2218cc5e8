//! RRsets and what a question comes to.

use std::sync::Arc;

use super::{Name, Rtype};

/// One RRset: owner, type, TTL, RDATA set (RFC 2181 §5), and the RRSIG RDATA over it. Class is IN.
/// RDATA is uncompressed wire form, without duplicates, in canonical order (RFC 4034 §6.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rrset {
    pub owner: Name,
    pub rtype: Rtype,
    /// Seconds.
    pub ttl: u32,
    pub rdata: Vec<Box<[u8]>>,
    /// RRSIG RDATA; empty for what is not signed.
    pub rrsigs: Vec<Box<[u8]>>,
}

impl Rrset {
    /// An unsigned RRset; sorts and deduplicates `rdata`, which must already be in canonical form.
    pub fn new(owner: Name, rtype: Rtype, ttl: u32, rdata: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let mut rdata: Vec<Box<[u8]>> = rdata.into_iter().map(Vec::into_boxed_slice).collect();
        rdata.sort_unstable();
        rdata.dedup();
        Self { owner, rtype, ttl, rdata, rrsigs: Vec::new() }
    }

    /// Octets that a row of it takes in the store, uncompressed: owner, type, TTL, and RDATA and signatures with their
    /// lengths.
    pub fn stored_bytes(&self) -> usize {
        self.owner.as_wire().len() + 6 + self.bytes() + 3 * (self.rdata.len() + self.rrsigs.len())
    }

    /// Octets of all RDATA and signatures.
    pub fn bytes(&self) -> usize {
        self.rdata.iter().chain(&self.rrsigs).map(|rdata| rdata.len()).sum()
    }
}

/// What a name and type come to in a zone (RFC 1034 §4.3.2). Stored RRsets carry their owner's RRSIGs,
/// synthesised ones carry none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// RRsets of the asked type at the asked name.
    Records(Vec<Arc<Rrset>>),
    /// The CNAME at the asked name; or a DNAME above it and the CNAME made from it, in this order.
    Alias(Vec<Arc<Rrset>>),
    /// The NS RRset of the cut at or above the asked name.
    Delegation(Vec<Arc<Rrset>>),
    /// The name exists, the type does not.
    NoData,
    /// The name does not exist.
    NxDomain,
}
