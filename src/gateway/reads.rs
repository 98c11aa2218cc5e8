//! What a contract sees: zones over a snapshot, with every name read noted.

use std::sync::Arc;

use super::signer::{Mode, Signer, is_delegated};
use super::tlds::{Tld, Tlds};
use crate::contract::{ReadFault, Reads, Worlds};
use crate::dnssec::{PublicKey, ds_set};
use crate::op::SigilId;
use crate::registry::{Fault, Snapshot, Stamp};
use crate::state::{NameEntry, View as _};
use crate::wire::{Name, Resolution, Rrset, Rtype, Scope, Subnet};
use crate::zone::{Found, ZoneView, find, soa, source_of_synthesis};

/// A zone at one moment: a TLD, or a live registered name.
pub(super) struct Zone {
    pub tld: Arc<Tld>,
    pub apex: Name,
    /// `None` for a TLD.
    pub entry: Option<NameEntry>,
    /// Who signs the zone of a name; a TLD signs itself.
    pub mode: Mode,
    /// The SOA's: a name's is the sequence of its last change; a TLD's, which changes with its names, that of
    /// its master file plus the sequence of the last op. Both plus the number of the day and of the steps that
    /// keys have rolled: whoever copied the zone comes for new signatures before the old ones end.
    serial: u32,
}

/// What zones are made from.
#[derive(Clone)]
pub(super) struct Sources {
    pub tlds: Arc<Tlds>,
    pub signer: Arc<Signer>,
    pub snapshot: Arc<Snapshot>,
    pub now: u64,
}

/// The names that were read, when the first lease, signature or promise among them ends, and how much of the asker's
/// address was looked at.
pub(super) struct Noted {
    pub stamps: Vec<Stamp>,
    pub scope: Scope,
    expires: u64,
    /// The RRset that was found last, and how many labels of what it was looked up for make its owner.
    found: Option<(Arc<Rrset>, usize)>,
}

impl Default for Noted {
    fn default() -> Self {
        Self { stamps: Vec::new(), scope: Scope::default(), expires: u64::MAX, found: None }
    }
}

impl Noted {
    fn name(&mut self, stamp: Stamp) {
        if !self.stamps.contains(&stamp) {
            self.stamps.push(stamp);
        }
    }

    /// The answer depends on what an identity holds.
    pub(super) fn account(&mut self, id: &SigilId) {
        self.name(Stamp::of_account(id));
    }

    pub(super) fn until(&mut self, time: u64) {
        self.expires = self.expires.min(time);
    }

    /// Seconds from `now` until the first of them ends.
    pub(super) fn seconds(&self, now: u64) -> u32 {
        u32::try_from(self.expires.saturating_sub(now)).unwrap_or(u32::MAX)
    }

    /// How many labels of the name asked for make the owner of an RRset that answers; `None` if it was not found but made.
    pub(super) fn labels_of(&self, rrset: &Arc<Rrset>) -> Option<usize> {
        self.found.as_ref().filter(|(found, _)| Arc::ptr_eq(found, rrset)).map(|(_, labels)| *labels)
    }

    pub(super) fn found(&mut self, found: Found) -> Resolution {
        if let Resolution::Records(rrsets) | Resolution::Alias(rrsets) = &found.resolution {
            self.found = rrsets.first().map(|first| (first.clone(), found.labels));
        }
        found.resolution
    }

    pub(super) fn merge(&mut self, other: &Self) {
        other.stamps.iter().for_each(|stamp| self.name(*stamp));
        self.until(other.expires);
        self.scope = self.scope.max(other.scope);
        self.found.clone_from(&other.found);
    }
}

impl Zone {
    /// The zone that answers for `name` and `rtype`: the registered name it is in, if that is live, else the
    /// TLD. DS of a registered name is its parent's (RFC 4035 §3.1.4.1). `name` must be in one of our TLDs.
    pub(super) fn of(name: &Name, rtype: Rtype, sources: &Sources, noted: &mut Noted) -> Result<Self, Fault> {
        let Sources { tlds, signer, snapshot, now } = sources;
        let tld = tlds.find(name).ok_or_else(|| Fault("name outside our TLDs".into()))?.clone();
        let registered = name.suffix(2);
        noted.name(Stamp::of(&registered));
        let entry = if registered == tld.apex { None } else { snapshot.name(&registered)? };
        let entry = entry.filter(|entry| entry.is_live(*now) && !(rtype == Rtype::DS && *name == registered));
        let Some(entry) = entry else {
            if rtype == Rtype::SOA {
                // Any op about any of its names raises a TLD's serial: secondaries should not wait for a whole TTL.
                noted.until(now + TLD_SERIAL_SECONDS);
            }
            return Ok(Self::tld(tld, sources));
        };
        noted.until(entry.expires);
        let (mode, until) = signer.mode(&registered, snapshot, *now)?;
        noted.until(until);
        // Modulo 2^32, as serials are.
        let serial = (entry.changed as u32).wrapping_add(day(*now)).wrapping_add(signer.steps());
        Ok(Self { tld, apex: registered, entry: Some(entry), mode, serial })
    }

    fn tld(tld: Arc<Tld>, Sources { signer, snapshot, now, .. }: &Sources) -> Self {
        let changes = (snapshot.seq() as u32).wrapping_add(day(*now)).wrapping_add(signer.steps());
        let serial = soa::serial(&tld.soa).wrapping_add(changes);
        Self { apex: tld.apex.clone(), tld, entry: None, mode: Mode::Unsigned, serial }
    }

    /// The zone that holds the DS of this one: its TLD.
    pub(super) fn parent(&self, sources: &Sources) -> Self {
        Self::tld(self.tld.clone(), sources)
    }

    /// The SOA: the TLD's with the zone's serial.
    pub(super) fn soa(&self) -> Rrset {
        soa::with_serial(&self.tld.soa, &self.apex, self.serial)
    }

    /// True if the gateway adds nothing to what is stored.
    pub(super) fn is_strict(&self) -> bool {
        self.mode == Mode::Strict
    }

    /// True for what makes the name a zone: no contract may deny it, or validators would find the name bogus.
    pub(super) fn is_own(&self, name: &Name, rtype: Rtype) -> bool {
        let own = [Rtype::SOA, Rtype::NS, Rtype::DNSKEY, Rtype::CDS, Rtype::CDNSKEY];
        *name == self.apex && own.contains(&rtype) && self.entry.as_ref().is_some_and(|entry| entry.contract.is_some())
    }

    /// True for types at the apex, and NSEC anywhere, that an owner stores for a strict zone; elsewhere the gateway
    /// makes them, and what an owner left of them is passed over.
    pub(super) fn is_made(&self, owner: &Name, rtype: Rtype) -> bool {
        let at_apex = *owner == self.apex && [Rtype::SOA, Rtype::NS].contains(&rtype);
        !self.is_strict() && (at_apex || rtype == Rtype::NSEC)
    }

    /// RRsets that the gateway makes for the apex of a registered name.
    fn made(&self, entry: &NameEntry, rtype: Rtype) -> Option<Rrset> {
        match rtype {
            Rtype::SOA => Some(self.soa()),
            Rtype::NS => Some(Rrset { owner: self.apex.clone(), rrsigs: Vec::new(), ..(*self.tld.ns).clone() }),
            Rtype::DNSKEY => {
                let key = entry.owner.key()?;
                let key = PublicKey::of_sigil(&key);
                Some(Rrset::new(self.apex.clone(), rtype, self.tld.soa.ttl, [key.dnskey().to_vec()]))
            }
            _ => None,
        }
    }
}

/// Seconds for which the SOA of a TLD is cached.
const TLD_SERIAL_SECONDS: u64 = 60;

/// Days since 1970.
fn day(now: u64) -> u32 {
    (now / 86_400) as u32
}

/// Addresses stored for a name server, without signatures: glue is not the zone's data.
pub(super) fn glue(snapshot: &Snapshot, server: &Name) -> Result<Vec<Arc<Rrset>>, Fault> {
    let mut found = Vec::new();
    for rtype in [Rtype::A, Rtype::AAAA] {
        if let Some(rrset) = snapshot.rrset(server, rtype)? {
            found.push(Arc::new(Rrset { rrsigs: Vec::new(), ..rrset }));
        }
    }
    Ok(found)
}

pub(super) fn read_fault(fault: Fault) -> ReadFault {
    ReadFault(fault.0.into())
}

/// A zone's data as the look-up algorithm wants it.
pub(super) struct Stored<'a> {
    pub zone: &'a Zone,
    pub sources: &'a Sources,
}

impl Stored<'_> {
    fn made_at(&self, entry: &NameEntry, owner: &Name, rtype: Rtype) -> Option<Arc<Rrset>> {
        let made = (*owner == self.zone.apex && !self.zone.is_strict()).then(|| self.zone.made(entry, rtype));
        made.flatten().map(Arc::new)
    }

    fn in_tld(&self, owner: &Name, rtype: Rtype) -> Result<Option<Arc<Rrset>>, Fault> {
        let Zone { tld, apex, .. } = self.zone;
        if *owner != *apex && rtype == Rtype::DS {
            return self.ds(owner);
        }
        if *owner == *apex && rtype == Rtype::SOA {
            return Ok(Some(Arc::new(self.zone.soa())));
        }
        if *owner == *apex && rtype == Rtype::DNSKEY {
            let keys = self.sources.signer.tld(apex);
            let rrset = || Rrset::new(apex.clone(), rtype, tld.soa.ttl, keys.iter().map(|key| key.dnskey().to_vec()));
            return Ok((!keys.is_empty()).then(|| Arc::new(rrset())));
        }
        Ok(tld.rrsets.get(owner).and_then(|types| types.get(&rtype)).cloned())
    }

    /// The one thing that a TLD holds of a registered name: made for a zone that is signed here, stored by the
    /// owner for one that is delegated elsewhere.
    fn ds(&self, owner: &Name) -> Result<Option<Arc<Rrset>>, Fault> {
        let Sources { signer, snapshot, now, .. } = self.sources;
        let entry = snapshot.name(owner)?.filter(|entry| entry.is_live(*now));
        let Some(key) = entry.as_ref().and_then(|entry| entry.owner.key()) else { return Ok(None) };
        let (mode, until) = signer.mode(owner, snapshot, *now)?;
        if mode != Mode::Unsigned {
            let (cds, cdnskey) = (snapshot.rrset(owner, Rtype::CDS)?, snapshot.rrset(owner, Rtype::CDNSKEY)?);
            let data = ds_set(owner, cds.as_ref(), cdnskey.as_ref(), &PublicKey::of_sigil(&key));
            let ttl = u32::try_from(until - now).unwrap_or(u32::MAX).min(self.zone.tld.soa.ttl);
            return Ok(Some(Arc::new(Rrset::new(owner.clone(), Rtype::DS, ttl, data))));
        }
        Ok(snapshot.rrset(owner, Rtype::DS)?.map(Arc::new))
    }

    /// Types at an owner name that exists, for the bitmap of a denial.
    pub(super) fn types_at(&self, owner: &Name) -> Result<Vec<Rtype>, Fault> {
        let Some(_) = &self.zone.entry else {
            let listed = self.zone.tld.rrsets.get(owner).into_iter().flat_map(|types| types.keys().copied());
            let mut types: Vec<Rtype> = listed.collect();
            // A registered name is a cut to its TLD; its DS is denied by its absence here.
            if *owner != self.zone.apex && self.sources.snapshot.name(owner)?.is_some() {
                types.push(Rtype::NS);
            }
            if *owner == self.zone.apex {
                types.push(Rtype::DNSKEY);
            }
            return Ok(types);
        };
        let mut types = self.sources.snapshot.types_at(owner)?;
        types.retain(|rtype| !self.zone.is_made(owner, *rtype));
        if *owner == self.zone.apex {
            types.extend([Rtype::SOA, Rtype::NS, Rtype::DNSKEY]);
        }
        Ok(types)
    }

    /// Types at a name, those of the wildcard that stands for it included.
    pub(super) fn types_for(&self, name: &Name) -> Result<Vec<Rtype>, Fault> {
        if self.exists(name)? || self.has_descendants(name)? {
            return self.types_at(name);
        }
        let source = source_of_synthesis(self, &self.zone.apex, name)?;
        source.map_or_else(|| Ok(Vec::new()), |source| self.types_at(&source))
    }
}

impl ZoneView for Stored<'_> {
    type Error = Fault;

    fn rrset(&self, owner: &Name, rtype: Rtype) -> Result<Option<Arc<Rrset>>, Fault> {
        let Some(entry) = &self.zone.entry else { return self.in_tld(owner, rtype) };
        if self.zone.is_made(owner, rtype) && !(rtype == Rtype::NS && is_delegated(owner, &self.sources.snapshot)?) {
            return Ok(self.made_at(entry, owner, rtype));
        }
        let stored = self.sources.snapshot.rrset(owner, rtype)?.map(Arc::new);
        Ok(stored.or_else(|| self.made_at(entry, owner, rtype)))
    }

    fn exists(&self, owner: &Name) -> Result<bool, Fault> {
        if *owner == self.zone.apex {
            return Ok(true);
        }
        match &self.zone.entry {
            Some(_) => self.sources.snapshot.has_data(owner, false),
            // A registered name exists in its TLD, too: its DS is asked here.
            None if self.zone.tld.rrsets.contains_key(owner) => Ok(true),
            None => Ok(self.sources.snapshot.name(owner)?.is_some_and(|entry| entry.is_live(self.sources.now))),
        }
    }

    fn has_descendants(&self, owner: &Name) -> Result<bool, Fault> {
        match &self.zone.entry {
            Some(_) => self.sources.snapshot.has_data(owner, true),
            None => {
                let mut after = self.zone.tld.rrsets.range(owner.clone()..);
                Ok(after.any(|(found, _)| found.is_below(owner)))
            }
        }
    }
}

fn changed(zone: &Zone) -> u64 {
    zone.entry.as_ref().map_or(0, |entry| entry.changed)
}

/// What one execution sees. It owns what it reads from, so that the host can own it.
pub(super) struct SnapshotReads {
    zone: Arc<Zone>,
    sources: Sources,
    asker: Option<Subnet>,
    noted: Noted,
    /// Sequence of the last change of the zone looked into last.
    changed: u64,
}

impl SnapshotReads {
    pub(super) fn new(zone: Arc<Zone>, sources: Sources, asker: Option<Subnet>) -> Self {
        let changed = changed(&zone);
        Self { zone, sources, asker, noted: Noted::default(), changed }
    }

    /// What was read.
    pub(super) fn noted(&self) -> &Noted {
        &self.noted
    }

    fn look_up(&mut self, name: &Name, rtype: Rtype) -> Result<Resolution, Fault> {
        if self.sources.tlds.find(name).is_none() {
            return Ok(Resolution::NxDomain);
        }
        let zone = Zone::of(name, rtype, &self.sources, &mut self.noted)?;
        self.changed = changed(&zone);
        let view = Stored { zone: &zone, sources: &self.sources };
        let apex_cut = zone.entry.is_some() && is_delegated(&zone.apex, &self.sources.snapshot)?;
        let found = find(&view, &zone.apex, name, rtype, apex_cut)?;
        Ok(self.noted.found(found))
    }
}

impl Reads for SnapshotReads {
    fn lookup(&mut self, name: &Name, rtype: Rtype) -> Result<Resolution, ReadFault> {
        self.look_up(name, rtype).map_err(read_fault)
    }

    fn zone(&mut self) -> Name {
        self.zone.apex.clone()
    }

    fn owner_key(&mut self) -> Option<[u8; 32]> {
        self.zone.entry.as_ref().map(|entry| entry.owner.0)
    }

    fn bound_contract(&mut self) -> Option<[u8; 32]> {
        self.zone.entry.as_ref().and_then(|entry| entry.contract).map(|hash| hash.0)
    }

    fn bound_worlds(&mut self) -> Result<Worlds, ReadFault> {
        let Some(hash) = self.zone.entry.as_ref().and_then(|entry| entry.contract) else {
            return Ok(Worlds::default());
        };
        self.sources.tlds.worlds(&self.sources.snapshot, &hash).map_err(read_fault)
    }

    fn parameters(&mut self) -> Vec<u8> {
        self.zone.entry.as_ref().map_or_else(Vec::new, |entry| entry.parameters.clone())
    }

    fn now(&mut self) -> u64 {
        self.sources.now
    }

    fn changed(&self) -> u64 {
        self.changed
    }

    fn client_subnet(&mut self, scope: Scope) -> Option<Subnet> {
        self.noted.scope = self.noted.scope.max(scope);
        self.asker.map(|asker| asker.cut(scope))
    }
}
