//! A whole zone, signed with an NSEC chain (RFC 4035 §2.3) and digested (ZONEMD, RFC 8976), for programs that
//! want files or transfers rather than questions.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha384};

use super::soa;
use crate::dnssec::denial::nsec;
use crate::wire::{CLASS_IN, Name, Rrset, Rtype, rdata};

/// A zone's RRsets by owner, in canonical order, and type.
pub type Contents = BTreeMap<Name, BTreeMap<Rtype, Rrset>>;

/// Makes the RRSIGs over an RRset.
pub type Sign<'a> = &'a dyn Fn(&Rrset) -> Vec<Box<[u8]>>;

/// Completes the contents of the zone `apex`: drops what a cut hides but glue, adds the NSEC chain and the RRSIGs
/// that are missing if there is a key to `sign` with, and the ZONEMD RRset. `contents` has a SOA at the apex.
pub fn complete(apex: &Name, mut contents: Contents, sign: Option<Sign<'_>>) -> Contents {
    let Some(soa) = contents.get(apex).and_then(|types| types.get(&Rtype::SOA)).cloned() else { return contents };
    let cuts = cuts(apex, &contents);
    let hidden = |owner: &Name| is_hidden(owner, &cuts);
    contents.retain(|owner, types| {
        if hidden(owner) {
            types.retain(|rtype, _| [Rtype::A, Rtype::AAAA].contains(rtype));
            types.values_mut().for_each(|glue| glue.rrsigs.clear());
        }
        !types.is_empty()
    });
    let digest_here = |contents: &mut Contents, digest: Vec<u8>| {
        let rrset = Rrset::new(apex.clone(), Rtype::ZONEMD, soa.ttl, [digest]);
        contents.entry(apex.clone()).or_default().insert(Rtype::ZONEMD, rrset);
    };
    let serial = soa::serial(&soa);
    // Its place in the apex's bitmap; the digest itself comes last.
    digest_here(&mut contents, zonemd(serial, &[0; 48]));
    if let Some(sign) = sign {
        chain(apex, &mut contents, &hidden, soa::negative_ttl(&soa));
        for (owner, types) in contents.iter_mut().filter(|(owner, _)| !hidden(owner)) {
            let cut = cuts.contains(owner);
            for rrset in types.values_mut().filter(|rrset| rrset.rrsigs.is_empty()) {
                if !(cut && rrset.rtype == Rtype::NS) && rrset.rtype != Rtype::ZONEMD {
                    rrset.rrsigs = sign(rrset);
                }
            }
        }
    }
    let digest = digest(apex, &contents);
    digest_here(&mut contents, zonemd(serial, &digest));
    if let Some(zonemd) = contents.get_mut(apex).and_then(|types| types.get_mut(&Rtype::ZONEMD)) {
        zonemd.rrsigs = sign.map(|sign| sign(zonemd)).unwrap_or_default();
    }
    contents
}

/// Owners of NS below the apex. (Nothing is stored below a DNAME.)
pub(super) fn cuts(apex: &Name, contents: &Contents) -> BTreeSet<Name> {
    let has_ns = contents.iter().filter(|(owner, types)| *owner != apex && types.contains_key(&Rtype::NS));
    has_ns.map(|(owner, _)| owner.clone()).collect()
}

/// True below a cut. By ancestors: nearly every owner in a TLD is a cut itself, so trying each would be quadratic.
pub(super) fn is_hidden(owner: &Name, cuts: &BTreeSet<Name>) -> bool {
    std::iter::successors(owner.parent(), Name::parent).any(|above| cuts.contains(&above))
}

/// One NSEC at every owner name that is not hidden, the last one pointing to the apex.
pub(super) fn chain(apex: &Name, contents: &mut Contents, hidden: &dyn Fn(&Name) -> bool, ttl: u32) {
    let owners: Vec<Name> = contents.keys().filter(|owner| !hidden(owner)).cloned().collect();
    for (at, owner) in owners.iter().enumerate() {
        let next = owners.get(at + 1).unwrap_or(apex);
        let Some(types) = contents.get_mut(owner) else { continue };
        let nsec = nsec(owner.clone(), next, types.keys().copied(), ttl);
        types.insert(Rtype::NSEC, nsec);
    }
}

/// Scheme SIMPLE, hash SHA-384 (RFC 8976 §2.2).
fn zonemd(serial: u32, digest: &[u8]) -> Vec<u8> {
    [&serial.to_be_bytes()[..], &[1, 1], digest].concat()
}

/// Every record but the ZONEMD and its RRSIG, in canonical form and order (RFC 8976 §3.3.1).
fn digest(apex: &Name, contents: &Contents) -> Vec<u8> {
    let mut hash = Sha384::new();
    for (owner, types) in contents {
        let mut rrsigs: Vec<(&Rrset, &[u8])> = Vec::new();
        let digested = types.values().filter(|rrset| !(rrset.rtype == Rtype::ZONEMD && owner == apex));
        let mut lists: BTreeMap<Rtype, Vec<(u32, &[u8])>> = BTreeMap::new();
        for rrset in digested {
            lists.insert(rrset.rtype, rrset.rdata.iter().map(|data| (rrset.ttl, &data[..])).collect());
            rrsigs.extend(rrset.rrsigs.iter().map(|rrsig| (rrset, &rrsig[..])));
        }
        rrsigs.sort_by_key(|(_, rrsig)| *rrsig);
        lists.insert(Rtype::RRSIG, rrsigs.into_iter().map(|(rrset, rrsig)| (rrset.ttl, rrsig)).collect());
        for (rtype, records) in lists {
            for (ttl, data) in records {
                hash.update(owner.as_wire());
                hash.update(rtype.0.to_be_bytes());
                hash.update(CLASS_IN.to_be_bytes());
                hash.update(ttl.to_be_bytes());
                // At most MAX_RDATA octets.
                hash.update((data.len() as u16).to_be_bytes());
                hash.update(data);
            }
        }
    }
    hash.finalize().to_vec()
}

/// Types that many programs do not know yet: written so that all of them can read it (RFC 3597 §5).
const GENERIC: [(Rtype, &str, &str); 2] =
    [(Rtype::RESINFO, "RESINFO", "TYPE261"), (Rtype::WALLET, "WALLET", "TYPE262")];

fn generic_word(word: &str) -> &str {
    GENERIC.iter().find(|(_, mnemonic, _)| *mnemonic == word).map_or(word, |(.., number)| number)
}

/// A master file: the SOA first, then owners in canonical order, each RRset with its RRSIGs.
pub fn to_master_file(apex: &Name, contents: &Contents) -> String {
    let mut text = String::new();
    let mut line = |owner: &Name, ttl: u32, rtype: Rtype, data: &[u8]| {
        let (rtype, data) = match (GENERIC.iter().find(|(new, ..)| *new == rtype), rtype) {
            (Some((.., number)), _) => ((*number).to_owned(), rdata::generic(data)),
            (None, Rtype::NSEC | Rtype::RRSIG) => {
                let words = rdata::to_text(rtype, data);
                (rtype.to_string(), words.split(' ').map(generic_word).collect::<Vec<_>>().join(" "))
            }
            (None, _) => (rtype.to_string(), rdata::to_text(rtype, data)),
        };
        text.push_str(&format!("{owner} {ttl} IN {rtype} {data}\n"));
    };
    let mut rrset_lines = |rrset: &Rrset| {
        rrset.rdata.iter().for_each(|data| line(&rrset.owner, rrset.ttl, rrset.rtype, data));
        rrset.rrsigs.iter().for_each(|rrsig| line(&rrset.owner, rrset.ttl, Rtype::RRSIG, rrsig));
    };
    soa_first(apex, contents).for_each(&mut rrset_lines);
    text
}

/// Every RRset: the apex's SOA first, the others in canonical order.
pub fn soa_first<'a>(apex: &'a Name, contents: &'a Contents) -> impl Iterator<Item = &'a Rrset> {
    let soa = contents.get(apex).and_then(|types| types.get(&Rtype::SOA));
    let others = contents.values().flat_map(BTreeMap::values);
    soa.into_iter().chain(others.filter(move |rrset| !(rrset.rtype == Rtype::SOA && rrset.owner == *apex)))
}
