//! A zone that its owner signs whole, ahead of time: what to write so that the stored one becomes the wanted one.

use std::collections::BTreeMap;

use super::export::{Contents, chain, cuts, is_hidden};
use super::soa;
use crate::op::RrsetKey;
use crate::wire::{Name, Rrset, Rtype};

/// Writes in their order: while they are carried out one after the other, everything that is denied is not there yet
/// or not there any more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// RRsets to put, the keys last: with them the zone becomes what it is to be.
    pub put: Vec<Rrset>,
    /// RRsets to delete afterwards.
    pub drop: Vec<RrsetKey>,
}

/// Types at the apex that say which keys the zone has; put last.
pub const KEY_TYPES: [Rtype; 3] = [Rtype::CDNSKEY, Rtype::CDS, Rtype::DNSKEY];

/// Adds the NSEC chain to `wanted`, which has an SOA, NS and DNSKEY at the apex.
pub fn with_chain(apex: &Name, mut wanted: Contents) -> Contents {
    wanted.values_mut().for_each(|types| drop(types.remove(&Rtype::NSEC)));
    wanted.retain(|_, types| !types.is_empty());
    let ttl = wanted.get(apex).and_then(|types| types.get(&Rtype::SOA)).map_or(0, soa::negative_ttl);
    let cuts = cuts(apex, &wanted);
    chain(apex, &mut wanted, &|owner| is_hidden(owner, &cuts), ttl);
    wanted
}

/// What to write so that `stored` becomes `wanted`. RRsets for which `keep` is true stay as they are if nothing in them
/// changes.
pub fn plan(wanted: &Contents, stored: &[Rrset], keep: impl Fn(&Rrset) -> bool) -> Plan {
    let same = |wanted: &Rrset| {
        let found = stored.iter().find(|stored| stored.owner == wanted.owner && stored.rtype == wanted.rtype);
        found.is_some_and(|found| found.ttl == wanted.ttl && found.rdata == wanted.rdata && keep(found))
    };
    let (keys, mut put): (Vec<Rrset>, Vec<Rrset>) = wanted
        .values()
        .flat_map(BTreeMap::values)
        .filter(|rrset| !same(rrset))
        .cloned()
        .partition(|rrset| KEY_TYPES.contains(&rrset.rtype));
    put.extend(keys);
    let is_wanted = |rrset: &&Rrset| wanted.get(&rrset.owner).is_some_and(|types| types.contains_key(&rrset.rtype));
    let gone = stored.iter().filter(|rrset| !is_wanted(rrset));
    let drop = gone.map(|rrset| RrsetKey { owner: rrset.owner.clone(), rtype: rrset.rtype }).collect();
    Plan { put, drop }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::rdata;

    fn rrset(owner: &str, rtype: &str, text: &str) -> Rrset {
        let rtype: Rtype = rtype.parse().unwrap();
        Rrset::new(Name::from_user(owner).unwrap(), rtype, 300, [rdata::from_text(rtype, text, None).unwrap()])
    }

    fn contents(rrsets: &[Rrset]) -> Contents {
        let mut contents = Contents::new();
        for rrset in rrsets {
            contents.entry(rrset.owner.clone()).or_default().insert(rrset.rtype, rrset.clone());
        }
        contents
    }

    #[test]
    fn the_chain_closes_and_only_what_changes_is_written() {
        let apex = Name::from_user("a.ghost").unwrap();
        let base = [
            rrset("a.ghost", "SOA", "ns.ghost. h.ghost. 1 2 3 4 60"),
            rrset("a.ghost", "DNSKEY", "257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4="),
            rrset("x.y.a.ghost", "A", "192.0.2.1"),
            rrset("cut.a.ghost", "NS", "ns.cut.a.ghost."),
            rrset("ns.cut.a.ghost", "A", "192.0.2.2"),
        ];
        let first = with_chain(&apex, contents(&base));
        let next: Vec<String> = first
            .values()
            .filter_map(|types| types.get(&Rtype::NSEC))
            .map(|nsec| format!("{} {}", nsec.owner, rdata::to_text(Rtype::NSEC, &nsec.rdata[0])))
            .collect();
        assert_eq!(
            next,
            [
                "a.ghost. cut.a.ghost. SOA RRSIG NSEC DNSKEY",
                "cut.a.ghost. x.y.a.ghost. NS RRSIG NSEC",
                "x.y.a.ghost. a.ghost. A RRSIG NSEC",
            ]
        );
        let all: Vec<Rrset> = first.values().flat_map(BTreeMap::values).cloned().collect();
        let plan_of = |wanted: &[Rrset]| plan(&with_chain(&apex, contents(wanted)), &all, |_| true);
        assert_eq!(plan_of(&base), Plan::default());
        assert_eq!(plan(&first, &[], |_| true).put.last().unwrap().rtype, Rtype::DNSKEY);
        // A name goes: the NSEC before it is written first, then it goes with its own.
        let Plan { put, drop } = plan_of(&base[..4]);
        assert_eq!(put, []);
        assert_eq!(drop.len(), 1);
        let Plan { put, drop } = plan_of(&[&base[..2], &base[3..]].concat());
        assert_eq!(put.iter().map(|rrset| rrset.owner.to_string()).collect::<Vec<_>>(), ["cut.a.ghost."]);
        assert_eq!(drop.len(), 2);
    }
}
