//! A zone's records as RRsets, and what is wrong with them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::wire::master::{MasterError, Reader, Record};
use crate::wire::{Name, Rrset, Rtype};

/// A zone as its master file has it.
#[derive(Debug, Clone)]
pub struct ZoneData {
    pub apex: Name,
    pub rrsets: BTreeMap<Name, BTreeMap<Rtype, Arc<Rrset>>>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    Warning,
    /// The zone cannot be served.
    Error,
}

/// One thing that is wrong with a zone file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// Line of the file, from 1; 0 where it is about the whole.
    pub line: usize,
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = if self.severity == Severity::Error { "error" } else { "warning" };
        match self.line {
            0 => write!(f, "{severity}: {}", self.text),
            line => write!(f, "line {line}: {severity}: {}", self.text),
        }
    }
}

impl ZoneData {
    /// Reads a master file and checks it. The zone is what could be read; it can be served iff no finding is
    /// an error.
    pub fn read(apex: &Name, text: &[u8]) -> (Self, Vec<Finding>) {
        let (records, errors) = read_records(apex, text);
        let mut findings: Vec<Finding> = errors.into_iter().map(master_finding).collect();
        let (zone, grouped) = Self::group(apex, records);
        findings.extend(grouped);
        findings.extend(zone.check());
        (zone, findings)
    }

    /// Records to RRsets: duplicates and TTLs that differ are warned of (RFC 2181 §5).
    fn group(apex: &Name, records: Vec<Record>) -> (Self, Vec<Finding>) {
        let mut findings = Vec::new();
        // TTL and RDATA by owner and type.
        let mut grouped = BTreeMap::<(Name, Rtype), (u32, Vec<Vec<u8>>)>::new();
        for record in records {
            if !record.owner.is_at_or_below(apex) {
                findings.push(error(record.line, format!("{} is outside {apex}", record.owner)));
                continue;
            }
            let shown = format!("{} {}", record.owner, record.rtype);
            let (ttl, rdata) = grouped.entry((record.owner, record.rtype)).or_insert((record.ttl, Vec::new()));
            if *ttl != record.ttl {
                *ttl = record.ttl.min(*ttl);
                findings.push(warning(
                    record.line,
                    format!("{shown}: TTLs differ; the lowest is used (RFC 2181 section 5.2)"),
                ));
            }
            if rdata.contains(&record.rdata) {
                findings.push(warning(record.line, format!("{shown}: the same record stands twice")));
            } else {
                rdata.push(record.rdata);
            }
        }
        let mut rrsets: BTreeMap<Name, BTreeMap<Rtype, Arc<Rrset>>> = BTreeMap::new();
        for ((owner, rtype), (ttl, rdata)) in grouped {
            let rrset = Arc::new(Rrset::new(owner.clone(), rtype, ttl, rdata));
            rrsets.entry(owner).or_default().insert(rtype, rrset);
        }
        (Self { apex: apex.clone(), rrsets }, findings)
    }

    /// The RRset of a type at an owner name.
    pub fn rrset(&self, owner: &Name, rtype: Rtype) -> Option<&Arc<Rrset>> {
        self.rrsets.get(owner)?.get(&rtype)
    }

    fn check(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let soas = self.rrset(&self.apex, Rtype::SOA).map_or(0, |soa| soa.rdata.len());
        if soas != 1 {
            findings.push(error(0, format!("{} has {soas} SOA records at its apex, it needs one", self.apex)));
        }
        if self.rrset(&self.apex, Rtype::NS).is_none() {
            findings.push(error(0, format!("{} has no NS record at its apex", self.apex)));
        }
        for (owner, types) in &self.rrsets {
            findings.extend(self.check_owner(owner, types));
        }
        findings
    }

    fn check_owner(&self, owner: &Name, types: &BTreeMap<Rtype, Arc<Rrset>>) -> Vec<Finding> {
        let mut findings = Vec::new();
        let signed = [Rtype::RRSIG, Rtype::NSEC];
        let others = types.keys().filter(|rtype| **rtype != Rtype::CNAME && !signed.contains(rtype)).count();
        if types.contains_key(&Rtype::CNAME) && others > 0 {
            findings.push(error(0, format!("{owner}: CNAME beside other data (RFC 1034 section 3.6.2)")));
        }
        for rtype in [Rtype::CNAME, Rtype::DNAME] {
            if types.get(&rtype).is_some_and(|rrset| rrset.rdata.len() > 1) {
                findings.push(error(0, format!("{owner}: more than one {rtype}")));
            }
        }
        if owner != &self.apex && types.contains_key(&Rtype::SOA) {
            findings.push(error(0, format!("{owner}: SOA that is not at the apex")));
        }
        if let Some(cover) = self.occluder(owner) {
            let glue = types.keys().all(|rtype| [Rtype::A, Rtype::AAAA].contains(rtype));
            if !(glue && self.rrset(&cover, Rtype::NS).is_some()) {
                findings.push(warning(0, format!("{owner} is hidden by {cover}")));
            }
        }
        findings.extend(self.check_servers(owner, types));
        findings
    }

    /// The cut or DNAME above an owner name.
    fn occluder(&self, owner: &Name) -> Option<Name> {
        let mut above = owner.parent();
        while let Some(node) = above.filter(|node| node.is_at_or_below(&self.apex)) {
            let cut = node != self.apex && self.rrset(&node, Rtype::NS).is_some();
            if cut || self.rrset(&node, Rtype::DNAME).is_some() {
                return Some(node);
            }
            above = node.parent();
        }
        None
    }

    /// Name servers and mail exchangers inside the zone must have addresses of their own (RFC 2181 §10.3).
    fn check_servers(&self, owner: &Name, types: &BTreeMap<Rtype, Arc<Rrset>>) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (rtype, name_at) in [(Rtype::NS, 0), (Rtype::MX, 2)] {
            let Some(rrset) = types.get(&rtype) else { continue };
            let targets = rrset.rdata.iter().filter_map(|rdata| Name::from_wire(rdata.get(name_at..)?).ok());
            for target in targets.filter(|target| !target.is_root() && target.is_at_or_below(&self.apex)) {
                let at = self.rrsets.get(&target);
                let has = |rtype: Rtype| at.is_some_and(|types| types.contains_key(&rtype));
                if has(Rtype::CNAME) {
                    findings.push(error(0, format!("{owner} {rtype}: {target} is a CNAME (RFC 2181 section 10.3)")));
                } else if !has(Rtype::A) && !has(Rtype::AAAA) {
                    findings.push(warning(0, format!("{owner} {rtype}: {target} has no address")));
                }
            }
        }
        findings
    }
}

fn read_records(apex: &Name, text: &[u8]) -> (Vec<Record>, Vec<MasterError>) {
    let (mut records, mut errors) = (Vec::new(), Vec::new());
    for record in Reader::new(text, apex.clone()) {
        match record {
            Ok(record) => records.push(record),
            Err(error) => errors.push(error),
        }
    }
    (records, errors)
}

fn master_finding(found: MasterError) -> Finding {
    error(found.line, found.kind.to_string())
}

fn error(line: usize, text: String) -> Finding {
    Finding { severity: Severity::Error, line, text }
}

fn warning(line: usize, text: String) -> Finding {
    Finding { severity: Severity::Warning, line, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let apex = Name::from_text("ghost.", None).unwrap();
        ZoneData::read(&apex, text.as_bytes()).1.iter().map(Finding::to_string).collect()
    }

    const HEAD: &str = "$TTL 60\n@ SOA ns h 1 1 1 1 1\n@ NS ns\nns A 192.0.2.1\n";

    #[test]
    fn a_sound_zone_has_no_findings() {
        assert_eq!(findings(&format!("{HEAD}w A 192.0.2.2\nsub NS ns.sub\nns.sub A 192.0.2.3\n")), [""; 0]);
    }

    #[test]
    fn each_mistake_is_found() {
        let cases = [
            ("w CNAME x\nw A 192.0.2.2\n", "error: w.ghost.: CNAME beside other data (RFC 1034 section 3.6.2)"),
            ("w CNAME x\nw CNAME y\n", "error: w.ghost.: more than one CNAME"),
            ("w.example. A 192.0.2.2\n", "line 5: error: w.example. is outside ghost."),
            (
                "w 1 A 192.0.2.2\nw 2 A 192.0.2.3\n",
                "line 6: warning: w.ghost. A: TTLs differ; the lowest is used (RFC 2181 section 5.2)",
            ),
            ("w A 192.0.2.2\nw A 192.0.2.2\n", "line 6: warning: w.ghost. A: the same record stands twice"),
            ("sub NS ns\nx.sub TXT x\n", "warning: x.sub.ghost. is hidden by sub.ghost."),
            ("@ MX 10 mx\n", "warning: ghost. MX: mx.ghost. has no address"),
            ("c CNAME ns\n@ MX 10 c\n", "error: ghost. MX: c.ghost. is a CNAME (RFC 2181 section 10.3)"),
            ("w SOA ns h 1 1 1 1 1\n", "error: w.ghost.: SOA that is not at the apex"),
        ];
        for (line, expected) in cases {
            assert_eq!(findings(&format!("{HEAD}{line}")), [expected]);
        }
        assert_eq!(findings("").len(), 2);
    }
}
