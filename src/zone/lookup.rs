//! What a name and type come to in a zone: RFC 1034 §4.3.2, RFC 4592, RFC 6672, pure over a view.
//!
//! ```text
//! apex -> label -> label -> QNAME       walk down: a cut refers, a DNAME redirects
//!                            |
//!          data there? --yes--> type, CNAME, or no data
//!          descendants? -yes--> no data (empty non-terminal)
//!          else closest encloser: *.encloser? -yes--> the same, as QNAME
//!                                             -no---> no such name
//! ```

use std::sync::Arc;

use crate::wire::{Name, Resolution, Rrset, Rtype};

/// A zone's data.
pub trait ZoneView {
    /// Why a read can fail.
    type Error;

    /// The RRset of a type at an owner name.
    fn rrset(&self, owner: &Name, rtype: Rtype) -> Result<Option<Arc<Rrset>>, Self::Error>;
    /// True if any RRset is at the owner name.
    fn exists(&self, owner: &Name) -> Result<bool, Self::Error>;
    /// True if any RRset is strictly below the owner name.
    fn has_descendants(&self, owner: &Name) -> Result<bool, Self::Error>;
}

/// What stands beside a CNAME, and so is never answered by it (RFC 2181 §10.1, RFC 4034 §4). Everything else is, DS and
/// SOA included: a validator takes an NSEC with the CNAME bit for no proof that they are not there (RFC 6840 §4.3).
const NEVER_ALIASED: [Rtype; 2] = [Rtype::CNAME, Rtype::NSEC];

/// The result of a look-up, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub resolution: Resolution,
    /// Labels of the name, from the right, that make the owner of what was found: all of them, those of a cut or a DNAME, of
    /// a wildcard's closest encloser, or of the apex where there is nothing.
    pub labels: usize,
}

/// [`find`] for those who do not care where it stands.
///
/// # Errors
/// Those of the view.
pub fn lookup<V: ZoneView>(
    view: &V,
    apex: &Name,
    name: &Name,
    rtype: Rtype,
    apex_cut: bool,
) -> Result<Resolution, V::Error> {
    find(view, apex, name, rtype, apex_cut).map(|found| found.resolution)
}

/// Looks `name` and `rtype` up in the zone at `apex`. `apex_cut` says that the zone's own NS RRset delegates
/// all of it elsewhere. A DNAME whose substitution is too long gives an alias of the DNAME alone.
///
/// # Errors
/// Those of the view.
pub fn find<V: ZoneView>(view: &V, apex: &Name, name: &Name, rtype: Rtype, apex_cut: bool) -> Result<Found, V::Error> {
    let (least, most) = (apex.label_count(), name.label_count());
    let nothing = |resolution| Found { resolution, labels: least };
    if !name.is_at_or_below(apex) {
        return Ok(nothing(Resolution::NxDomain));
    }
    if apex_cut && !(rtype == Rtype::DS && name == apex) {
        let ns = view.rrset(apex, Rtype::NS)?;
        return Ok(nothing(ns.map_or(Resolution::NoData, |ns| Resolution::Delegation(vec![ns]))));
    }
    for labels in least..=most {
        let node = name.suffix(labels);
        if let Some(resolution) = intercept(view, apex, &node, name, rtype)? {
            return Ok(Found { resolution, labels });
        }
    }
    let at = |resolution, labels| match resolution {
        Resolution::NoData | Resolution::NxDomain => nothing(resolution),
        resolution => Found { resolution, labels },
    };
    if view.exists(name)? {
        return at_node(view, name, name, rtype).map(|resolution| at(resolution, most));
    }
    if view.has_descendants(name)? {
        return Ok(nothing(Resolution::NoData));
    }
    let Some(source) = source_of_synthesis(view, apex, name)? else { return Ok(nothing(Resolution::NxDomain)) };
    wildcard(view, &source, name, rtype).map(|resolution| at(resolution, source.label_count() - 1))
}

/// What a node on the way to `name` makes of it: a cut, or a DNAME above the name.
fn intercept<V: ZoneView>(
    view: &V,
    apex: &Name,
    node: &Name,
    name: &Name,
    rtype: Rtype,
) -> Result<Option<Resolution>, V::Error> {
    if node != apex
        && !(rtype == Rtype::DS && node == name)
        && let Some(ns) = view.rrset(node, Rtype::NS)?
    {
        return Ok(Some(Resolution::Delegation(vec![ns])));
    }
    if node == name {
        return Ok(None);
    }
    Ok(view.rrset(node, Rtype::DNAME)?.map(|dname| redirect(dname, name)))
}

/// The DNAME and the CNAME made from it (RFC 6672 §3.1).
fn redirect(dname: Arc<Rrset>, name: &Name) -> Resolution {
    let target = dname.rdata.first().and_then(|rdata| Name::from_wire(rdata).ok());
    match target.and_then(|target| name.rebase(&dname.owner, &target)) {
        Some(Ok(target)) => {
            let cname = Rrset::new(name.clone(), Rtype::CNAME, dname.ttl, [target.as_wire().to_vec()]);
            Resolution::Alias(vec![dname, Arc::new(cname)])
        }
        _ => Resolution::Alias(vec![dname]),
    }
}

/// The data of an existing `node`, answered as `name`.
fn at_node<V: ZoneView>(view: &V, node: &Name, name: &Name, rtype: Rtype) -> Result<Resolution, V::Error> {
    let renamed = |rrset: Arc<Rrset>| {
        if node == name { rrset } else { Arc::new(Rrset { owner: name.clone(), ..(*rrset).clone() }) }
    };
    if let Some(rrset) = view.rrset(node, rtype)? {
        return Ok(Resolution::Records(vec![renamed(rrset)]));
    }
    if !NEVER_ALIASED.contains(&rtype)
        && let Some(cname) = view.rrset(node, Rtype::CNAME)?
    {
        return Ok(Resolution::Alias(vec![renamed(cname)]));
    }
    Ok(Resolution::NoData)
}

fn wildcard<V: ZoneView>(view: &V, source: &Name, name: &Name, rtype: Rtype) -> Result<Resolution, V::Error> {
    if view.exists(source)? {
        return at_node(view, source, name, rtype);
    }
    // An asterisk that is an empty non-terminal synthesises no data (RFC 4592 §4.7).
    Ok(if view.has_descendants(source)? { Resolution::NoData } else { Resolution::NxDomain })
}

/// The asterisk label right below the closest encloser of a `name` that does not exist, and nothing else, is what
/// may stand for it (RFC 4592 §3.3.1); whether it is there is not looked at. `None` if it cannot be written.
///
/// # Errors
/// Those of the view.
pub fn source_of_synthesis<V: ZoneView>(view: &V, apex: &Name, name: &Name) -> Result<Option<Name>, V::Error> {
    let mut encloser = name.parent();
    while let Some(node) = encloser.filter(|node| node.is_at_or_below(apex)) {
        if node == *apex || view.exists(&node)? || view.has_descendants(&node)? {
            return Ok(node.child(b"*").ok());
        }
        encloser = node.parent();
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use super::*;
    use crate::wire::master::Reader;

    struct Map(BTreeMap<(Name, Rtype), Arc<Rrset>>);

    impl ZoneView for Map {
        type Error = Infallible;

        fn rrset(&self, owner: &Name, rtype: Rtype) -> Result<Option<Arc<Rrset>>, Infallible> {
            Ok(self.0.get(&(owner.clone(), rtype)).cloned())
        }

        fn exists(&self, owner: &Name) -> Result<bool, Infallible> {
            Ok(self.0.keys().any(|(found, _)| found == owner))
        }

        fn has_descendants(&self, owner: &Name) -> Result<bool, Infallible> {
            Ok(self.0.keys().any(|(found, _)| found.is_below(owner)))
        }
    }

    fn name(text: &str) -> Name {
        Name::from_text(text, None).unwrap()
    }

    fn zone(text: &str) -> Map {
        let records = Reader::new(text.as_bytes(), name("a.ghost.")).map(Result::unwrap);
        let rrset = |record: crate::wire::master::Record| {
            let key = (record.owner.clone(), record.rtype);
            (key, Arc::new(Rrset::new(record.owner, record.rtype, record.ttl, [record.rdata])))
        };
        Map(records.map(rrset).collect())
    }

    /// `answer OWNER TYPE`, `alias OWNER TARGET`, `cut OWNER`, `nodata`, `nxdomain`.
    fn ask(zone: &Map, name_text: &str, rtype: &str, apex_cut: bool) -> String {
        let resolution = lookup(zone, &name("a.ghost."), &name(name_text), rtype.parse().unwrap(), apex_cut);
        match resolution.unwrap() {
            Resolution::Records(rrsets) => format!("answer {} {}", rrsets[0].owner, rrsets[0].rtype),
            Resolution::Alias(rrsets) => match rrsets.last().unwrap() {
                cname if cname.rtype == Rtype::CNAME => {
                    format!("alias {} {}", cname.owner, Name::from_wire(&cname.rdata[0]).unwrap())
                }
                _ => "alias too long".to_owned(),
            },
            Resolution::Delegation(rrsets) => format!("cut {}", rrsets[0].owner),
            Resolution::NoData => "nodata".to_owned(),
            Resolution::NxDomain => "nxdomain".to_owned(),
        }
    }

    const ZONE: &str = "$TTL 60\n@ SOA ns.ghost. h.ghost. 1 1 1 1 1\n@ A 192.0.2.1\nwww CNAME a.ghost.\n\
        x.ent A 192.0.2.2\n*.w A 192.0.2.3\n*.w MX 10 mx\nb.w TXT b\n*.c CNAME www\nsub NS ns.sub\nns.sub A 192.0.2.4\n\
        d DNAME e\nx.e A 192.0.2.5\nd TXT here\n*.ent2.z TXT z\n";

    #[test]
    fn every_rule_of_the_look_up() {
        let zone = zone(ZONE);
        let rules = [
            ("a.ghost.", "A", "answer a.ghost. A"),
            ("a.ghost.", "AAAA", "nodata"),
            ("a.ghost.", "ANY", "nodata"),
            ("none.a.ghost.", "A", "nxdomain"),
            ("none.a.ghost.", "ANY", "nxdomain"),
            ("b.ghost.", "A", "nxdomain"),
            ("www.a.ghost.", "A", "alias www.a.ghost. a.ghost."),
            ("www.a.ghost.", "CNAME", "answer www.a.ghost. CNAME"),
            ("www.a.ghost.", "DNSKEY", "alias www.a.ghost. a.ghost."),
            ("www.a.ghost.", "DS", "alias www.a.ghost. a.ghost."),
            ("www.a.ghost.", "NSEC", "nodata"),
            ("q.c.a.ghost.", "DS", "alias q.c.a.ghost. www.a.ghost."),
            // Empty non-terminal.
            ("ent.a.ghost.", "A", "nodata"),
            ("y.ent.a.ghost.", "A", "nxdomain"),
            // Wildcards.
            ("q.w.a.ghost.", "A", "answer q.w.a.ghost. A"),
            ("r.q.w.a.ghost.", "A", "answer r.q.w.a.ghost. A"),
            ("q.w.a.ghost.", "AAAA", "nodata"),
            ("b.w.a.ghost.", "A", "nodata"),
            ("x.b.w.a.ghost.", "A", "nxdomain"),
            ("*.w.a.ghost.", "A", "answer *.w.a.ghost. A"),
            ("w.a.ghost.", "A", "nodata"),
            ("q.c.a.ghost.", "A", "alias q.c.a.ghost. www.a.ghost."),
            ("q.z.a.ghost.", "A", "nxdomain"),
            // Cuts.
            ("sub.a.ghost.", "A", "cut sub.a.ghost."),
            ("ns.sub.a.ghost.", "A", "cut sub.a.ghost."),
            ("deep.er.sub.a.ghost.", "A", "cut sub.a.ghost."),
            ("sub.a.ghost.", "DS", "nodata"),
            // DNAME.
            ("d.a.ghost.", "TXT", "answer d.a.ghost. TXT"),
            ("d.a.ghost.", "DNAME", "answer d.a.ghost. DNAME"),
            ("x.d.a.ghost.", "A", "alias x.d.a.ghost. x.e.a.ghost."),
        ];
        for (name, rtype, expected) in rules {
            assert_eq!(ask(&zone, name, rtype, false), expected, "{name} {rtype}");
        }
    }

    #[test]
    fn what_is_found_says_where_it_stands() {
        let zone = zone(ZONE);
        for (asked, rtype, labels) in [
            ("a.ghost.", "A", 2),
            ("x.ent.a.ghost.", "A", 4),
            ("ent.a.ghost.", "A", 2),
            ("none.a.ghost.", "A", 2),
            ("none.a.ghost.", "DS", 2),
            // The wildcard's, also where it has an alias, however deep the question.
            ("q.w.a.ghost.", "A", 3),
            ("r.q.w.a.ghost.", "A", 3),
            ("q.c.a.ghost.", "A", 3),
            ("q.w.a.ghost.", "AAAA", 2),
            ("*.w.a.ghost.", "A", 4),
            ("deep.er.sub.a.ghost.", "A", 3),
            ("x.d.a.ghost.", "A", 3),
            ("d.a.ghost.", "TXT", 3),
        ] {
            let found = find(&zone, &name("a.ghost."), &name(asked), rtype.parse().unwrap(), false).unwrap();
            assert_eq!(found.labels, labels, "{asked} {rtype}");
        }
    }

    #[test]
    fn a_name_delegated_at_its_apex_refers_for_all_but_its_ds() {
        let zone = zone("$TTL 60\n@ NS ns.example.\n@ DS 1 13 2 00\n");
        assert_eq!(ask(&zone, "a.ghost.", "A", true), "cut a.ghost.");
        assert_eq!(ask(&zone, "x.a.ghost.", "A", true), "cut a.ghost.");
        assert_eq!(ask(&zone, "a.ghost.", "DS", true), "answer a.ghost. DS");
    }

    #[test]
    fn a_substitution_that_does_not_fit_gives_the_dname_alone() {
        let long = format!("{0}.{0}.{0}", "l".repeat(60));
        let zone = zone(&format!("$TTL 60\nd DNAME {long}\n"));
        assert_eq!(ask(&zone, &format!("{}.d.a.ghost.", "x".repeat(63)), "A", false), "alias too long");
    }
}
