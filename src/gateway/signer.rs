//! The gateway's own keys, and which zones they sign.

use std::collections::HashMap;

use super::reads::Zone;
use crate::dnssec::{Rrsig, ZoneKey};
use crate::registry::{Fault, Snapshot};
use crate::state::View as _;
use crate::wire::{Name, Rtype};

/// A key for each TLD, and the online key that owners let sign in their zones by signing it into their DNSKEY
/// RRsets.
pub struct Signer {
    tlds: HashMap<Name, ZoneKey>,
    online: ZoneKey,
}

impl Signer {
    /// TLDs without a key are served unsigned.
    pub fn new(tlds: impl IntoIterator<Item = (Name, ZoneKey)>, online: ZoneKey) -> Self {
        Self { tlds: tlds.into_iter().collect(), online }
    }

    /// DNSKEY RDATA of the online key.
    pub fn online(&self) -> &[u8] {
        self.online.dnskey()
    }

    /// DNSKEY RRset RDATA of a TLD.
    pub fn tld(&self, apex: &Name) -> Option<&[u8]> {
        self.tlds.get(apex).map(ZoneKey::dnskey)
    }

    /// The key that signs in a zone; `None` if the zone is not signed.
    pub(super) fn of(&self, zone: &Zone) -> Option<&ZoneKey> {
        match &zone.entry {
            None => self.tlds.get(&zone.apex),
            Some(_) => zone.trusts_online.then_some(&self.online),
        }
    }

    /// Seconds since 1970 until which the owner of `apex` lets the online key sign: a DNSKEY RRset with both
    /// keys, an RRSIG of the owner's that is valid at `now`, and no delegation elsewhere.
    pub(super) fn trusted_until(&self, apex: &Name, snapshot: &Snapshot, now: u64) -> Result<Option<u64>, Fault> {
        let Some(keys) = snapshot.rrset(apex, Rtype::DNSKEY)? else { return Ok(None) };
        let held = keys.rdata.iter().any(|key| **key == *self.online());
        if !held || snapshot.rrset(apex, Rtype::NS)?.is_some() {
            return Ok(None);
        }
        let left = |rrsig: &[u8]| {
            Rrsig::parse(rrsig).ok().filter(|rrsig| rrsig.is_current(now)).map(|rrsig| rrsig.seconds_left(now))
        };
        // Current: positive.
        Ok(keys.rrsigs.iter().filter_map(|rrsig| left(rrsig)).max().map(|left| now + left as u64))
    }
}
