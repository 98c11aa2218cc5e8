//! What a contract sees: zones over a snapshot, with every name read noted.

use std::sync::Arc;

use super::tlds::{Tld, Tlds};
use crate::contract::{ReadFault, Reads};
use crate::dnssec::{FLAGS_OWNER, dnskey};
use crate::registry::{Fault, Snapshot, Stamp};
use crate::state::{NameEntry, View as _};
use crate::wire::{Name, Resolution, Rrset, Rtype, u32_at};
use crate::zone::{ZoneView, lookup};

/// A zone at one moment: a TLD, or a live registered name.
pub(super) struct Zone {
    pub tld: Arc<Tld>,
    pub apex: Name,
    /// `None` for a TLD.
    pub entry: Option<NameEntry>,
}

impl Zone {
    /// The zone that answers for `name` and `rtype`: the registered name it is in, if that is live, else the
    /// TLD. DS of a registered name is its parent's (RFC 4035 §3.1.4.1). `name` must be in one of our TLDs.
    pub(super) fn of(
        name: &Name,
        rtype: Rtype,
        tlds: &Tlds,
        snapshot: &Snapshot,
        now: u64,
        reads: &mut Vec<Stamp>,
    ) -> Result<Self, Fault> {
        let tld = tlds.find(name).ok_or_else(|| Fault("name outside our TLDs".into()))?.clone();
        let registered = name.suffix(2);
        note(reads, Stamp::of(&registered));
        let entry = if registered == tld.apex { None } else { snapshot.name(&registered)? };
        let entry = entry.filter(|entry| entry.is_live(now) && !(rtype == Rtype::DS && *name == registered));
        let apex = if entry.is_some() { registered } else { tld.apex.clone() };
        Ok(Self { tld, apex, entry })
    }

    /// The SOA: the TLD's own, or one made from it whose serial is the sequence of the name's last change.
    pub(super) fn soa(&self) -> Rrset {
        let soa = &self.tld.soa;
        let Some(entry) = &self.entry else { return (**soa).clone() };
        let mut rdata = soa.rdata[0].to_vec();
        let serial_at = rdata.len() - 20;
        rdata[serial_at..serial_at + 4].copy_from_slice(&(entry.changed as u32).to_be_bytes());
        Rrset::new(self.apex.clone(), Rtype::SOA, soa.ttl, [rdata])
    }

    /// RRsets that the gateway makes for the apex of a registered name.
    fn made(&self, entry: &NameEntry, rtype: Rtype) -> Option<Rrset> {
        match rtype {
            Rtype::SOA => Some(self.soa()),
            Rtype::NS => Some(Rrset { owner: self.apex.clone(), rrsigs: Vec::new(), ..(*self.tld.ns).clone() }),
            Rtype::DNSKEY => {
                let key = entry.owner.key()?;
                Some(Rrset::new(self.apex.clone(), rtype, self.tld.soa.ttl, [dnskey(FLAGS_OWNER, &key)]))
            }
            _ => None,
        }
    }
}

/// The TTL of a negative answer with this SOA: the smaller of the SOA's own and MINIMUM (RFC 2308 §5).
pub(super) fn negative_ttl(soa: &Rrset) -> u32 {
    // SOA RDATA ends in five 32-bit fields; the zone check has seen to its form.
    let rdata = &soa.rdata[0];
    soa.ttl.min(u32_at(rdata, rdata.len() - 4))
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

/// Adds a stamp once.
pub(super) fn note(reads: &mut Vec<Stamp>, stamp: Stamp) {
    if !reads.contains(&stamp) {
        reads.push(stamp);
    }
}

/// A zone's data as the look-up algorithm wants it.
struct Stored<'a> {
    zone: &'a Zone,
    snapshot: &'a Snapshot,
    now: u64,
}

impl Stored<'_> {
    fn in_master_file(&self, owner: &Name, rtype: Rtype) -> Option<Arc<Rrset>> {
        self.zone.tld.rrsets.get(owner)?.get(&rtype).cloned()
    }
}

impl ZoneView for Stored<'_> {
    type Error = Fault;

    fn rrset(&self, owner: &Name, rtype: Rtype) -> Result<Option<Arc<Rrset>>, Fault> {
        let Some(entry) = &self.zone.entry else {
            // The one thing that a TLD holds of a registered name is its DS.
            if rtype == Rtype::DS && *owner != self.zone.apex {
                return Ok(self.snapshot.rrset(owner, rtype)?.map(Arc::new));
            }
            return Ok(self.in_master_file(owner, rtype));
        };
        let stored = self.snapshot.rrset(owner, rtype)?;
        let made = || (*owner == self.zone.apex).then(|| self.zone.made(entry, rtype)).flatten();
        Ok(stored.or_else(made).map(Arc::new))
    }

    fn exists(&self, owner: &Name) -> Result<bool, Fault> {
        if *owner == self.zone.apex {
            return Ok(true);
        }
        match &self.zone.entry {
            Some(_) => self.snapshot.has_data(owner, false),
            // A registered name exists in its TLD, too: its DS is asked here.
            None if self.zone.tld.rrsets.contains_key(owner) => Ok(true),
            None => Ok(self.snapshot.name(owner)?.is_some_and(|entry| entry.is_live(self.now))),
        }
    }

    fn has_descendants(&self, owner: &Name) -> Result<bool, Fault> {
        match &self.zone.entry {
            Some(_) => self.snapshot.has_data(owner, true),
            None => {
                let mut after = self.zone.tld.rrsets.range(owner.clone()..);
                Ok(after.any(|(found, _)| found.is_below(owner)))
            }
        }
    }
}

/// What one execution sees. It owns what it reads from, so that the host can own it.
pub(super) struct SnapshotReads {
    zone: Arc<Zone>,
    tlds: Arc<Tlds>,
    snapshot: Arc<Snapshot>,
    now: u64,
    reads: Vec<Stamp>,
    expires: u64,
}

impl SnapshotReads {
    pub(super) fn new(zone: Arc<Zone>, tlds: Arc<Tlds>, snapshot: Arc<Snapshot>, now: u64) -> Self {
        Self { zone, tlds, snapshot, now, reads: Vec::new(), expires: u64::MAX }
    }

    /// The names that were read.
    pub(super) fn noted(&self) -> &[Stamp] {
        &self.reads
    }

    /// When the first lease of a name that was read ends.
    pub(super) fn expires(&self) -> u64 {
        self.expires
    }

    fn look_up(&mut self, name: &Name, rtype: Rtype) -> Result<Resolution, Fault> {
        if self.tlds.find(name).is_none() {
            return Ok(Resolution::NxDomain);
        }
        let zone = Zone::of(name, rtype, &self.tlds, &self.snapshot, self.now, &mut self.reads)?;
        let view = Stored { zone: &zone, snapshot: &self.snapshot, now: self.now };
        if let Some(entry) = &zone.entry {
            self.expires = self.expires.min(entry.expires);
        }
        // NS stored at a registered name's apex delegates the whole of it.
        let apex_cut = zone.entry.is_some() && self.snapshot.rrset(&zone.apex, Rtype::NS)?.is_some();
        lookup(&view, &zone.apex, name, rtype, apex_cut)
    }
}

impl Reads for SnapshotReads {
    fn lookup(&mut self, name: &Name, rtype: Rtype) -> Result<Resolution, ReadFault> {
        self.look_up(name, rtype).map_err(read_fault)
    }

    fn owner_key(&self) -> Option<[u8; 32]> {
        self.zone.entry.as_ref().map(|entry| entry.owner.0)
    }

    fn bound_contract(&self) -> Option<[u8; 32]> {
        self.zone.entry.as_ref().and_then(|entry| entry.contract).map(|hash| hash.0)
    }

    fn parameters(&self) -> &[u8] {
        self.zone.entry.as_ref().map_or(&[], |entry| &entry.parameters)
    }
}
