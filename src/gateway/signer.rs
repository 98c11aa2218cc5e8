//! The gateway's own keys, and which zones they sign.

use std::collections::HashMap;

use super::reads::Zone;
use crate::dnssec::{Rrsig, ZoneKey, is_strict};
use crate::registry::{Fault, Snapshot};
use crate::state::View as _;
use crate::wire::{Name, Rrset, Rtype};

/// The keys of each TLD, and the online keys that owners let sign in their zones by signing them into their DNSKEY
/// RRsets.
pub struct Signer {
    tlds: HashMap<Name, Vec<ZoneKey>>,
    online: Vec<ZoneKey>,
}

/// Who signs a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// Nobody: there is no DS.
    Unsigned,
    /// What is stored carries its owner's RRSIGs, the rest is signed by these online keys: one of each algorithm.
    Delegated(Vec<usize>),
    /// The owner alone, ahead of time.
    Strict,
}

impl Signer {
    /// Of a TLD's keys the first one signs, all are in its DNSKEY RRset and sign that. TLDs without a key are served
    /// unsigned. Of the online keys of one algorithm the first one that an owner has signed in signs.
    pub fn new(tlds: impl IntoIterator<Item = (Name, Vec<ZoneKey>)>, online: Vec<ZoneKey>) -> Self {
        Self { tlds: tlds.into_iter().collect(), online }
    }

    /// The online keys.
    pub fn online(&self) -> &[ZoneKey] {
        &self.online
    }

    /// The keys in the DNSKEY RRset of a TLD.
    pub fn tld(&self, apex: &Name) -> &[ZoneKey] {
        self.tlds.get(apex).map(Vec::as_slice).unwrap_or_default()
    }

    /// True if the gateway signs in a zone.
    pub(super) fn signs(&self, zone: &Zone) -> bool {
        match &zone.entry {
            None => !self.tld(&zone.apex).is_empty(),
            Some(_) => matches!(zone.mode, Mode::Delegated(_)),
        }
    }

    /// RRSIGs over an RRset of a zone in which the gateway signs; none elsewhere.
    pub(super) fn sign(&self, zone: &Zone, rrset: &Rrset, now: u64) -> Vec<Box<[u8]>> {
        let sign = |key: &ZoneKey| key.sign(&zone.apex, rrset, now).into();
        match (&zone.entry, &zone.mode) {
            (Some(_), Mode::Delegated(online)) => online.iter().map(|at| sign(&self.online[*at])).collect(),
            (Some(_), _) => Vec::new(),
            (None, _) if rrset.rtype == Rtype::DNSKEY => self.tld(&zone.apex).iter().map(sign).collect(),
            (None, _) => self.tld(&zone.apex).first().map(sign).into_iter().collect(),
        }
    }

    /// Who signs the zone of a registered name, and until when (seconds since 1970) that stands: a DNSKEY RRset with
    /// an RRSIG of the owner's that is valid at `now`, and no delegation elsewhere. That the keys are those of the DS,
    /// the state machine has seen to.
    pub(super) fn mode(&self, apex: &Name, snapshot: &Snapshot, now: u64) -> Result<(Mode, u64), Fault> {
        let unsigned = Ok((Mode::Unsigned, u64::MAX));
        let Some(keys) = snapshot.rrset(apex, Rtype::DNSKEY)? else { return unsigned };
        if is_delegated(apex, snapshot)? {
            return unsigned;
        }
        let rrsigs = keys.rrsigs.iter().filter_map(|rrsig| Rrsig::parse(rrsig).ok());
        let current: Vec<Rrsig> = rrsigs.filter(|rrsig| rrsig.is_current(now)).collect();
        // Current: positive.
        let Some(left) = current.iter().map(|rrsig| rrsig.seconds_left(now) as u64).min() else { return unsigned };
        let until = now + left;
        if is_strict(&keys) {
            return Ok((Mode::Strict, until));
        }
        let mut chosen: Vec<usize> = Vec::new();
        for (at, key) in self.online.iter().enumerate() {
            let held = keys.rdata.iter().any(|held| **held == *key.dnskey());
            let algorithm = |at: &usize| self.online[*at].public().algorithm();
            if held && !chosen.iter().any(|chosen| algorithm(chosen) == key.public().algorithm()) {
                chosen.push(at);
            }
        }
        if chosen.is_empty() { unsigned } else { Ok((Mode::Delegated(chosen), until)) }
    }
}

/// True if NS stored at a registered name delegate the whole of it: the NS RRset of a strict name carries RRSIGs.
pub(super) fn is_delegated(apex: &Name, snapshot: &Snapshot) -> Result<bool, Fault> {
    Ok(snapshot.rrset(apex, Rtype::NS)?.is_some_and(|ns| ns.rrsigs.is_empty()))
}
