//! A zone's stored data, gathered for export. Records that contracts synthesise are not in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::reads::{Noted, Sources, Stored, Zone};
use super::signer::is_delegated;
use super::{Signer, Tlds, current};
use crate::limits::MAX_EXPORT;
use crate::registry::{Fault, Snapshot};
use crate::state::View as _;
use crate::wire::{Name, Rrset, Rtype};
use crate::zone::ZoneView as _;
use crate::zone::export::{Contents, complete};

/// Names read from the registry at once.
const PAGE: usize = 1_000;

/// Why a zone is not exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoZone {
    /// It is neither a TLD nor a live registered name, or the name is delegated elsewhere.
    NotHere,
    TooLong,
}

/// Octets that the signatures and NSECs of one name are taken to add to a zone file.
const SIGNED_OCTETS: usize = 512;

/// The signed contents of the zone `apex`, a TLD or a live registered name, at `now`.
///
/// # Errors
/// The store failed.
pub fn export(
    tlds: &Arc<Tlds>,
    signer: &Arc<Signer>,
    snapshot: Arc<Snapshot>,
    now: u64,
    apex: &Name,
) -> Result<Result<Contents, NoZone>, Fault> {
    if tlds.find(apex).is_none() || apex.label_count() > 2 {
        return Ok(Err(NoZone::NotHere));
    }
    let sources = Sources { tlds: tlds.clone(), signer: signer.clone(), snapshot, now };
    let zone = Zone::of(apex, Rtype::SOA, &sources, &mut Noted::default())?;
    if zone.apex != *apex || (zone.entry.is_some() && is_delegated(apex, &sources.snapshot)?) {
        return Ok(Err(NoZone::NotHere));
    }
    let gathered = if zone.entry.is_some() { name_data(&zone, &sources)? } else { tld_data(&zone, &sources)? };
    let Some(mut contents) = gathered else { return Ok(Err(NoZone::TooLong)) };
    let signs = signer.signs(&zone);
    for rrset in contents.values_mut().flat_map(BTreeMap::values_mut) {
        if signs || zone.is_strict() {
            *rrset = (*current(&Arc::new(rrset.clone()), now).0).clone();
        } else {
            // RRSIGs in a zone without keys prove nothing to anyone.
            rrset.rrsigs.clear();
        }
    }
    if zone.is_strict() {
        // Its owner has made the chain; a digest of ours could not be signed.
        return Ok(Ok(contents));
    }
    let sign = |rrset: &Rrset| signer.sign_exported(&zone, rrset, now);
    Ok(Ok(complete(apex, contents, signs.then_some(&sign as &dyn Fn(&Rrset) -> Vec<Box<[u8]>>))))
}

fn insert(contents: &mut Contents, rrset: Rrset) {
    contents.entry(rrset.owner.clone()).or_default().insert(rrset.rtype, rrset);
}

/// `None` if it is too long.
fn name_data(zone: &Zone, sources: &Sources) -> Result<Option<Contents>, Fault> {
    let mut contents = Contents::new();
    let (rrsets, rest) = sources.snapshot.rrsets_after(&zone.apex, None, usize::MAX, MAX_EXPORT)?;
    if rest.is_some() {
        return Ok(None);
    }
    for rrset in rrsets {
        let parents = rrset.rtype == Rtype::DS && rrset.owner == zone.apex;
        if !parents && !zone.is_made(&rrset.owner, rrset.rtype) {
            insert(&mut contents, rrset);
        }
    }
    made_at_apex(zone, sources, &mut contents, &[Rtype::SOA, Rtype::NS])?;
    Ok(Some(contents))
}

/// The master file, the key, and a delegation for every live name; `None` if it is too long.
fn tld_data(zone: &Zone, sources: &Sources) -> Result<Option<Contents>, Fault> {
    let mut contents: Contents = Contents::new();
    for rrset in zone.tld.rrsets.values().flat_map(BTreeMap::values) {
        insert(&mut contents, (**rrset).clone());
    }
    made_at_apex(zone, sources, &mut contents, &[Rtype::SOA, Rtype::DNSKEY])?;
    let stored = Stored { zone, sources };
    let (mut after, mut octets): (Option<Name>, usize) = (None, 0);
    loop {
        let page = sources.snapshot.names_after(after.as_ref(), PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(Some(contents)) };
        if octets > MAX_EXPORT {
            return Ok(None);
        }
        after = Some(last.clone());
        let live = page.iter().filter(|(name, entry)| entry.is_live(sources.now) && name.is_below(&zone.apex));
        for (name, _) in live {
            let delegated = sources.snapshot.rrset(name, Rtype::NS)?;
            let ours = || Rrset { owner: name.clone(), rrsigs: Vec::new(), ..(*zone.tld.ns).clone() };
            // A strict name's own NS RRset is signed by its key; on this side of the cut it is not the zone's data.
            let ns = delegated.map(|ns| Rrset { rrsigs: Vec::new(), ..ns });
            let ns = ns.unwrap_or_else(ours);
            octets += ns.bytes() + SIGNED_OCTETS;
            insert(&mut contents, ns);
            if let Some(ds) = stored.rrset(name, Rtype::DS)? {
                insert(&mut contents, (*ds).clone());
            }
        }
    }
}

fn made_at_apex(zone: &Zone, sources: &Sources, contents: &mut Contents, types: &[Rtype]) -> Result<(), Fault> {
    for rtype in types {
        if let Some(rrset) = (Stored { zone, sources }).rrset(&zone.apex, *rtype)? {
            insert(contents, (*rrset).clone());
        }
    }
    Ok(())
}
