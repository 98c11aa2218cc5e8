//! The gateway's own keys, and which zones they sign.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use quick_cache::sync::Cache;

use super::Gateway;
use super::reads::Zone;
use crate::dnssec::{FLAG_REVOKE, INCEPTION_SKEW, Rrsig, ZoneKey, is_strict};
use crate::limits::{EXPORTED_SIGNATURES, KEPT_SIGNATURES};
use crate::registry::{Fault, Snapshot};
use crate::state::View as _;
use crate::wire::{Name, Rrset, Rtype};

/// The keys of each TLD, and the online keys that owners let sign in their zones by signing them into their DNSKEY
/// RRsets.
pub struct Signer {
    tlds: HashMap<Name, Vec<ZoneKey>>,
    /// Those that are on their way out last, from `retired` on.
    online: Vec<ZoneKey>,
    retired: usize,
    steps: u32,
    /// RRSIGs over SOA, which stand in every answer that says that there is nothing, by what they follow from.
    kept: Cache<[u8; 32], Box<[u8]>>,
    /// Those of exported zones, most of which are the same in the next export.
    exported: Cache<[u8; 32], Box<[u8]>>,
}

/// The keys in force; they are replaced whole while questions are answered.
pub struct Keys(RwLock<Arc<Signer>>);

impl Keys {
    /// Begins with these.
    pub fn new(signer: Signer) -> Self {
        Self(RwLock::new(Arc::new(signer)))
    }

    /// Those of this moment.
    pub fn get(&self) -> Arc<Signer> {
        // Replacing an `Arc` cannot fail half-way.
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, signer: Signer) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(signer);
    }
}

impl Gateway {
    /// Answers and signs with other keys from now on. What was cached under the old ones is forgotten.
    pub fn replace_keys(&self, signer: Signer) {
        self.engine().keys.replace(signer);
        self.engine().cache.clear();
    }
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
    /// unsigned. Of the online keys of one algorithm the first one that an owner has signed in signs for the owner.
    pub fn new(tlds: impl IntoIterator<Item = (Name, Vec<ZoneKey>)>, online: Vec<ZoneKey>) -> Self {
        let retired = online.len();
        let (kept, exported) = (Cache::new(KEPT_SIGNATURES), Cache::new(EXPORTED_SIGNATURES));
        Self { tlds: tlds.into_iter().collect(), online, retired, steps: 0, kept, exported }
    }

    /// With online keys that sign only where an owner has signed in no other, or another only just now.
    #[must_use]
    pub fn with_retired(mut self, keys: Vec<ZoneKey>) -> Self {
        self.online.truncate(self.retired);
        self.online.extend(keys);
        self
    }

    /// With the number of steps in which its keys came to be what they are: raises the serial of every zone, for
    /// secondaries are to come for the new keys.
    #[must_use]
    pub fn with_steps(self, steps: u32) -> Self {
        Self { steps, ..self }
    }

    pub(super) fn steps(&self) -> u32 {
        self.steps
    }

    /// The online keys.
    pub fn online(&self) -> &[ZoneKey] {
        &self.online
    }

    /// The keys in the DNSKEY RRset of a TLD.
    pub fn tld(&self, apex: &Name) -> &[ZoneKey] {
        self.tlds.get(apex).map(Vec::as_slice).unwrap_or_default()
    }

    /// The keys of a TLD that may be trusted: not those that are revoked.
    pub fn anchors(&self, apex: &Name) -> impl Iterator<Item = &ZoneKey> {
        self.tld(apex).iter().filter(|key| key.public().flags() & FLAG_REVOKE == 0)
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
        self.signatures(zone, rrset, |key| match rrset.rtype {
            Rtype::SOA => sign_once(&self.kept, key, &zone.apex, rrset, now),
            _ => key.sign(&zone.apex, rrset, now).into(),
        })
    }

    /// The same for an export, which is made again whenever one of its names has changed.
    pub(super) fn sign_exported(&self, zone: &Zone, rrset: &Rrset, now: u64) -> Vec<Box<[u8]>> {
        self.signatures(zone, rrset, |key| sign_once(&self.exported, key, &zone.apex, rrset, now))
    }

    fn signatures(&self, zone: &Zone, rrset: &Rrset, sign: impl Fn(&ZoneKey) -> Box<[u8]>) -> Vec<Box<[u8]>> {
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
        // While caches may hold a DNSKEY RRset from before the owner signed the newer key in, the older one signs.
        let signed = current.iter().map(|rrsig| u64::from(rrsig.inception) + INCEPTION_SKEW).max().unwrap_or(0);
        let settled = self.retired == self.online.len() || signed + u64::from(keys.ttl) <= now;
        let mut order: Vec<usize> = (0..self.online.len()).collect();
        order.rotate_left(if settled { 0 } else { self.retired });
        let until = if settled { until } else { until.min(signed + u64::from(keys.ttl)) };
        let mut chosen: Vec<usize> = Vec::new();
        for at in order {
            let key = &self.online[at];
            let held = keys.rdata.iter().any(|held| **held == *key.dnskey());
            let algorithm = |at: &usize| self.online[*at].public().algorithm();
            if held && !chosen.iter().any(|chosen| algorithm(chosen) == key.public().algorithm()) {
                chosen.push(at);
            }
        }
        if chosen.is_empty() { unsigned } else { Ok((Mode::Delegated(chosen), until)) }
    }
}

fn sign_once(kept: &Cache<[u8; 32], Box<[u8]>>, key: &ZoneKey, apex: &Name, rrset: &Rrset, now: u64) -> Box<[u8]> {
    let digest = key.digest(apex, rrset, now);
    kept.get(&digest).unwrap_or_else(|| {
        let rrsig: Box<[u8]> = key.sign(apex, rrset, now).into();
        kept.insert(digest, rrsig.clone());
        rrsig
    })
}

/// True if NS stored at a registered name delegate the whole of it: the NS RRset of a strict name carries RRSIGs.
pub(super) fn is_delegated(apex: &Name, snapshot: &Snapshot) -> Result<bool, Fault> {
    Ok(snapshot.rrset(apex, Rtype::NS)?.is_some_and(|ns| ns.rrsigs.is_empty()))
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::dnssec::{FLAGS_ONLINE, Secret};

    #[test]
    fn a_signature_that_is_kept_is_the_one_that_would_be_made() {
        let key = |seed| ZoneKey::new(Secret::Ed25519(SigningKey::from_bytes(&[seed; 32])), FLAGS_ONLINE);
        let signer = Signer::new([], vec![key(1), key(2)]);
        let apex = Name::from_user("alice.ghost").unwrap();
        let soa = |serial| Rrset::new(apex.clone(), Rtype::SOA, 300, [vec![0, 0, 0, 0, 0, serial]]);
        let hour = 1_800_000_000;
        for (at, rrset, now) in [(0, soa(1), hour), (1, soa(1), hour), (0, soa(2), hour), (0, soa(1), hour + 3_600)] {
            let made: Box<[u8]> = signer.online[at].sign(&apex, &rrset, now).into();
            for later in [0, 3_599] {
                assert_eq!(sign_once(&signer.kept, &signer.online[at], &apex, &rrset, now + later), made);
            }
        }
        assert_eq!(signer.kept.len(), 4);
    }
}
