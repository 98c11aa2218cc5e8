//! Bulk imports: JSON lines or a master file to names with their records, and what cannot be imported and why.
//!
//! One JSON object a line: `name` relative to the TLD, `owner` a number that stands for one owner, `records`
//! by type. A value is presentation form; MX, SRV, DS, CAA and TLSA may also be objects. `URL` is a redirect
//! target and becomes a URI record, `ALIAS` becomes a CNAME.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::policy::Policy;
use crate::limits::{MAX_PUT_RRSETS, MAX_RRSET_BYTES, MAX_RRSET_RECORDS, MAX_ZONE_LINE};
use crate::wire::master::Reader;
use crate::wire::{Name, Rrset, Rtype, rdata};

/// One line of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    owner: u64,
    records: BTreeMap<String, Vec<Value>>,
}

/// A name to register, for whom, with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedName {
    pub name: Name,
    /// The file's number of the owner; 0 in a master file.
    pub owner: u64,
    /// Unsigned.
    pub rrsets: Vec<Rrset>,
}

/// A record, or all records of a name, that cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Refused {
    /// Line of the file, from 1; 0 where the server refused.
    pub line: usize,
    pub name: String,
    #[serde(rename = "type")]
    pub rtype: String,
    pub reason: String,
}

/// What an import will do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// In canonical order.
    pub names: Vec<PlannedName>,
    /// In the order of the file.
    pub refused: Vec<Refused>,
}

/// A record on its way into the plan.
struct Candidate {
    line: usize,
    holder: u64,
    rrset: Rrset,
}

/// Plans the import of JSON lines below `tld`; every record gets `ttl` seconds.
pub fn plan_json(text: &str, tld: &Name, policy: &Policy, ttl: u32) -> Plan {
    let mut plan = Plan::default();
    let mut candidates = Vec::new();
    for (at, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match read_entry(line, tld) {
            Ok((owner, entry)) => read_records(at + 1, &owner, &entry, ttl, &mut candidates, &mut plan.refused),
            Err(reason) => plan.refuse(at + 1, "?", "*", reason),
        }
    }
    plan.settle(candidates, tld, policy);
    plan
}

/// Plans the import of a master file whose records are at or below names under `tld`.
pub fn plan_master(text: &[u8], tld: &Name, policy: &Policy) -> Plan {
    let mut plan = Plan::default();
    let mut candidates = Vec::new();
    for record in Reader::new(text, tld.clone()) {
        match record {
            Ok(record) => {
                let rrset = Rrset::new(record.owner, record.rtype, record.ttl, [record.rdata]);
                candidates.push(Candidate { line: record.line, holder: 0, rrset });
            }
            Err(error) => plan.refuse(error.line, "?", "*", error.kind.to_string()),
        }
    }
    plan.settle(candidates, tld, policy);
    plan
}

fn read_entry(line: &str, tld: &Name) -> Result<(Name, Entry), String> {
    if line.len() > MAX_ZONE_LINE {
        return Err(format!("line is longer than {MAX_ZONE_LINE} octets"));
    }
    let entry: Entry = serde_json::from_str(line).map_err(|error| format!("not an entry: {error}"))?;
    let name = Name::from_text(&entry.name, Some(tld)).map_err(|error| format!("name {:?}: {error}", entry.name))?;
    Ok((name, entry))
}

fn read_records(
    line: usize,
    owner: &Name,
    entry: &Entry,
    ttl: u32,
    candidates: &mut Vec<Candidate>,
    refused: &mut Vec<Refused>,
) {
    for (kind, values) in &entry.records {
        for (at, value) in values.iter().enumerate() {
            let read = service_owner(owner, value).and_then(|at_owner| Ok((at_owner, read_value(kind, at, value)?)));
            match read {
                Ok((at_owner, (rtype, data))) => {
                    let rrset = Rrset::new(at_owner, rtype, ttl, [data]);
                    candidates.push(Candidate { line, holder: entry.owner, rrset });
                }
                Err(reason) => {
                    refused.push(Refused { line, name: owner.to_string(), rtype: kind.clone(), reason });
                }
            }
        }
    }
}

/// The owner of a value: an SRV that names its service and protocol stands below the name (RFC 2782).
fn service_owner(owner: &Name, value: &Value) -> Result<Name, String> {
    let label = |key: &str| value.get(key).and_then(Value::as_str);
    let (Some(service), Some(protocol)) = (label("service"), label("protocol")) else { return Ok(owner.clone()) };
    let below = owner.child(protocol.as_bytes()).and_then(|parent| parent.child(service.as_bytes()));
    below.map_err(|error| format!("{service:?}.{protocol:?}: {error}"))
}

/// One value of a type; `at` is its place in the list.
fn read_value(kind: &str, at: usize, value: &Value) -> Result<(Rtype, Vec<u8>), String> {
    let rtype = match kind {
        "URL" => Rtype::URI,
        "ALIAS" => Rtype::CNAME,
        _ => kind.parse::<Rtype>().map_err(|error| error.to_string())?,
    };
    let text = match value {
        Value::String(text) if rtype == Rtype::TXT || rtype == Rtype::SPF => {
            return Ok((rtype, rdata::txt(text.as_bytes())));
        }
        // What a URI points to is not escaped; a control character in it is a mistake.
        Value::String(text) if rtype == Rtype::URI => return uri(text).map(|data| (rtype, data)),
        // Exchangers without preferences are meant in their order.
        Value::String(text) if rtype == Rtype::MX => format!("{} {text}", 10 * (at + 1)),
        Value::String(text) => text.clone(),
        Value::Object(fields) => object_text(rtype, fields)?,
        _ => return Err("value is neither a string nor an object".to_owned()),
    };
    let data = rdata::from_text(rtype, text.trim(), Some(&Name::root())).map_err(|error| error.to_string())?;
    Ok((rtype, data))
}

fn uri(target: &str) -> Result<Vec<u8>, String> {
    let scheme = target.split_once(':').map(|(scheme, _)| scheme).unwrap_or_default();
    if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) {
        return Err(format!("{target:?} is not a URI: it has no scheme"));
    }
    if !target.bytes().all(|byte| (0x21..=0x7e).contains(&byte)) {
        return Err(format!("{target:?} is not a URI: percent-encode what is not ASCII"));
    }
    // Priority 10, weight 1 (RFC 7553 §4.2).
    Ok([&[0, 10, 0, 1][..], target.as_bytes()].concat())
}

/// Presentation form of a record given as an object.
fn object_text(rtype: Rtype, fields: &serde_json::Map<String, Value>) -> Result<String, String> {
    let known: &[&str] = match rtype {
        Rtype::MX => &["priority", "target"],
        Rtype::SRV => &["priority", "weight", "port", "target"],
        Rtype::DS => &["key_tag", "algorithm", "digest_type", "digest"],
        Rtype::CAA => &["flags", "tag", "value"],
        Rtype::TLSA => &["usage", "selector", "matching_type", "certificate"],
        _ => return Err(format!("{rtype} is not written as an object")),
    };
    let names_service = |key: &str| rtype == Rtype::SRV && ["service", "protocol"].contains(&key);
    if let Some(unknown) = fields.keys().find(|key| !known.contains(&key.as_str()) && !names_service(key)) {
        return Err(format!("{rtype} has no field {unknown:?}"));
    }
    let word = |name: &&str| match fields.get(*name) {
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(Value::String(text)) => Ok(if *name == "value" { format!("{text:?}") } else { text.clone() }),
        None if *name == "flags" => Ok("0".to_owned()),
        _ => Err(format!("{rtype} needs a field {name:?}")),
    };
    Ok(known.iter().map(word).collect::<Result<Vec<_>, _>>()?.join(" "))
}

impl Plan {
    fn refuse(&mut self, line: usize, name: &str, rtype: &str, reason: String) {
        self.refused.push(Refused { line, name: name.to_owned(), rtype: rtype.to_owned(), reason });
    }

    /// Groups candidates by registered name and keeps what may stand together.
    fn settle(&mut self, candidates: Vec<Candidate>, tld: &Name, policy: &Policy) {
        let mut names: BTreeMap<Name, Vec<Candidate>> = BTreeMap::new();
        for candidate in candidates {
            let owner = &candidate.rrset.owner;
            if owner.is_below(tld) {
                names.entry(owner.suffix(tld.label_count() + 1)).or_default().push(candidate);
            } else {
                self.refuse_candidate(&candidate, format!("not below {tld}"));
            }
        }
        for (name, candidates) in names {
            let label = name.first_label().unwrap_or_default();
            match policy.check_label(label) {
                Ok(()) => self.settle_name(name, candidates),
                Err(refusal) => candidates.iter().for_each(|c| self.refuse_candidate(c, refusal.to_string())),
            }
        }
        self.refused.sort_by_key(|refused| refused.line);
    }

    fn settle_name(&mut self, name: Name, candidates: Vec<Candidate>) {
        // Whoever holds the name itself holds what is below it; without an entry for it, the first does.
        let holder = candidates.iter().find(|c| c.rrset.owner == name).or(candidates.first()).map_or(0, |c| c.holder);
        let types = types_by_owner(&candidates);
        let mut rrsets: BTreeMap<(Name, Rtype), Rrset> = BTreeMap::new();
        for candidate in candidates {
            let reason = if candidate.holder == holder {
                unfit(&name, &candidate.rrset, &types)
            } else {
                Some(format!("{name} belongs to another owner of the file"))
            };
            match reason {
                Some(reason) => self.refuse_candidate(&candidate, reason),
                None => self.add(&mut rrsets, candidate),
            }
        }
        self.names.push(PlannedName { name, owner: holder, rrsets: rrsets.into_values().collect() });
    }

    fn add(&mut self, rrsets: &mut BTreeMap<(Name, Rtype), Rrset>, candidate: Candidate) {
        let key = (candidate.rrset.owner.clone(), candidate.rrset.rtype);
        let Some(rrset) = rrsets.get_mut(&key) else {
            rrsets.insert(key, candidate.rrset);
            return;
        };
        if [Rtype::CNAME, Rtype::DNAME].contains(&rrset.rtype) && rrset.rdata != candidate.rrset.rdata {
            return self.refuse_candidate(&candidate, format!("there is another {} at this owner", rrset.rtype));
        }
        let bytes = rrset.bytes() + candidate.rrset.bytes();
        if rrset.rdata.len() >= MAX_RRSET_RECORDS || bytes > MAX_RRSET_BYTES {
            return self.refuse_candidate(&candidate, "the RRset has too many records".to_owned());
        }
        let all = rrset.rdata.iter().chain(&candidate.rrset.rdata).map(|data| data.to_vec());
        // Lines with different TTLs share the lowest (RFC 2181 §5.2).
        *rrset = Rrset::new(rrset.owner.clone(), rrset.rtype, rrset.ttl.min(candidate.rrset.ttl), all);
    }

    fn refuse_candidate(&mut self, candidate: &Candidate, reason: String) {
        let Rrset { owner, rtype, .. } = &candidate.rrset;
        self.refuse(candidate.line, &owner.to_string(), &rtype.to_string(), reason);
    }
}

/// A name's RRsets in batches that fit in one op each.
pub fn batches(rrsets: &[Rrset]) -> impl Iterator<Item = &[Rrset]> {
    rrsets.chunks(MAX_PUT_RRSETS)
}

fn types_by_owner(candidates: &[Candidate]) -> BTreeMap<Name, BTreeSet<Rtype>> {
    let mut types: BTreeMap<Name, BTreeSet<Rtype>> = BTreeMap::new();
    for Candidate { rrset, .. } in candidates {
        types.entry(rrset.owner.clone()).or_default().insert(rrset.rtype);
    }
    types
}

/// Why a record cannot stand where it is, given the types at every owner of the name.
fn unfit(apex: &Name, rrset: &Rrset, types: &BTreeMap<Name, BTreeSet<Rtype>>) -> Option<String> {
    let has = |owner: &Name, rtype: Rtype| types.get(owner).is_some_and(|types| types.contains(&rtype));
    let (owner, rtype) = (&rrset.owner, rrset.rtype);
    if rtype == Rtype::CNAME && types.get(owner).is_some_and(|types| types.len() > 1) {
        return Some("a CNAME cannot stand beside other data (RFC 1034 section 3.6.2)".to_owned());
    }
    if rtype == Rtype::DS && !has(owner, Rtype::NS) {
        return Some("DS without NS: nothing is delegated here (RFC 4034 section 5)".to_owned());
    }
    if has(owner, Rtype::NS) && ![Rtype::NS, Rtype::DS].contains(&rtype) {
        return Some("hidden by the delegation (NS) at the same owner (RFC 2181 section 6.1)".to_owned());
    }
    let mut above = owner.parent();
    while let Some(node) = above.filter(|node| node.is_at_or_below(apex)) {
        if has(&node, Rtype::NS) {
            return Some(format!("hidden by the delegation (NS) of {node} (RFC 2181 section 6.1)"));
        }
        if has(&node, Rtype::DNAME) {
            return Some(format!("hidden by the DNAME of {node} (RFC 6672 section 2.4)"));
        }
        above = node.parent();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy::from_toml(include_str!("../../zones/ghost.toml")).unwrap()
    }

    fn ghost() -> Name {
        Name::from_text("ghost.", None).unwrap()
    }

    fn shown(plan: &Plan) -> Vec<String> {
        let record = |rrset: &Rrset| {
            let data: Vec<String> = rrset.rdata.iter().map(|data| rdata::to_text(rrset.rtype, data)).collect();
            format!("{} {} {}", rrset.owner, rrset.rtype, data.join(", "))
        };
        plan.names.iter().flat_map(|name| name.rrsets.iter().map(record)).collect()
    }

    fn reasons(plan: &Plan) -> Vec<String> {
        plan.refused.iter().map(|r| format!("{} {} {}: {}", r.line, r.name, r.rtype, r.reason)).collect()
    }

    #[test]
    fn real_mistakes_are_refused_for_their_reason_and_the_rest_stays() {
        let text = r#"
{"name":"a","owner":1,"records":{"CNAME":["x.github.io"],"TXT":["v=spf1"],"MX":["mx1.example","mx2.example"]}}
{"name":"b","owner":2,"records":{"NS":["ns.example."],"A":["192.0.2.1"]}}
{"name":"www.b","owner":2,"records":{"A":["192.0.2.2"]}}
{"name":"c","owner":3,"records":{"DS":[{"key_tag":1,"algorithm":13,"digest_type":2,"digest":"AA"}],"URL":["https://e.org/x?y"]}}
{"name":"x.c","owner":4,"records":{"A":["192.0.2.3"]}}
{"name":"_dmarc","owner":5,"records":{"TXT":["v=DMARC1"]}}
{"name":"ns","owner":6,"records":{"A":["192.0.2.4","192.0.2.400"]}}
{"name":"mc","owner":8,"records":{"SRV":[{"service":"_m","protocol":"_tcp","priority":1,"weight":2,"port":3,"target":"t.e"}]}}
{"name":"d","owner":7,"records":{"URL":["no scheme"],"CAA":[{"tag":"issue","value":"e.org"}],"SRV":[{"priority":1,"weight":2,"port":3,"target":"t.e"}]}}
not json
"#;
        let plan = plan_json(text, &ghost(), &policy(), 60);
        assert_eq!(
            shown(&plan),
            [
                "a.ghost. MX 10 mx1.example., 20 mx2.example.",
                "a.ghost. TXT \"v=spf1\"",
                "b.ghost. NS ns.example.",
                "c.ghost. URI 10 1 \"https://e.org/x?y\"",
                "d.ghost. SRV 1 2 3 t.e.",
                "d.ghost. CAA 0 issue \"e.org\"",
                "_m._tcp.mc.ghost. SRV 1 2 3 t.e.",
            ]
        );
        assert_eq!(
            reasons(&plan),
            [
                "2 a.ghost. CNAME: a CNAME cannot stand beside other data (RFC 1034 section 3.6.2)",
                "3 b.ghost. A: hidden by the delegation (NS) at the same owner (RFC 2181 section 6.1)",
                "4 www.b.ghost. A: hidden by the delegation (NS) of b.ghost. (RFC 2181 section 6.1)",
                "5 c.ghost. DS: DS without NS: nothing is delegated here (RFC 4034 section 5)",
                "6 x.c.ghost. A: c.ghost. belongs to another owner of the file",
                "7 _dmarc.ghost. TXT: a label that begins with an underscore names an attribute, not a registrant (RFC 8552)",
                "8 ns.ghost. A: IPv4 address expected, found \"192.0.2.400\"",
                "8 ns.ghost. A: \"ns\" is reserved: the TLD's own name server",
                "10 d.ghost. URL: \"no scheme\" is not a URI: it has no scheme",
                "11 ? *: not an entry: expected ident at line 1 column 2",
            ]
        );
    }

    #[test]
    fn a_long_text_is_cut_into_strings() {
        let text = format!(r#"{{"name":"a","owner":1,"records":{{"TXT":["{}"]}}}}"#, "x".repeat(600));
        let plan = plan_json(&text, &ghost(), &policy(), 60);
        assert_eq!(plan.names[0].rrsets[0].rdata[0].len(), 603);
    }

    #[test]
    fn a_master_file_is_planned_alike() {
        let text = b"$TTL 60\n@ A 192.0.2.1\nalice A 192.0.2.2\n A 192.0.2.3\nwww.alice 30 CNAME alice\nbob A x\n";
        let plan = plan_master(text, &ghost(), &policy());
        assert_eq!(shown(&plan), ["alice.ghost. A 192.0.2.2, 192.0.2.3", "www.alice.ghost. CNAME alice.ghost."]);
        assert_eq!(reasons(&plan), ["2 ghost. A: not below ghost.", "6 ? *: A: IPv4 address expected, found \"x\"",]);
    }

    #[test]
    fn the_community_data_is_importable_but_for_named_reasons() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/community-names.jsonl");
        let Ok(text) = std::fs::read_to_string(path) else {
            println!("skipped: no ../shared/data/community-names.jsonl");
            return;
        };
        let plan = plan_json(&text, &ghost(), &policy(), 3_600);
        let rrsets: usize = plan.names.iter().map(|name| name.rrsets.len()).sum();
        let owners: BTreeSet<u64> = plan.names.iter().map(|name| name.owner).collect();
        println!(
            "{} names, {rrsets} RRsets, {} owners, {} refused",
            plan.names.len(),
            owners.len(),
            plan.refused.len()
        );
        assert!(plan.names.len() > 9_800 && rrsets > 15_000 && owners.len() > 9_000);
        assert!(plan.refused.len() < 800, "{:?}", plan.refused.first());
    }
}
