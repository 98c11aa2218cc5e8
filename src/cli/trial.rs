//! A contract on the desk: executed against data of a scenario file, without a gateway.
//!
//! ```text
//! name alice.gcc                          what the contract is bound to [example.ghost]
//! params ttl 60\nA 192.0.2.1 3            bound parameters; \n is a new line
//! record www.alice.gcc 3600 A 192.0.2.2   stored data, at any name of any owner; replaces the RRset's earlier ones
//! also   www.alice.gcc 3600 A 192.0.2.3   one more record of it
//! delete www.alice.gcc A
//! owner 3b6a27bc…                         Ed25519 key of the owner, 64 hex digits
//! bound 9f86d081… program@0.2.0           what the contract is told of itself: hash and worlds [its own]
//! time 2026-11-24T12:00:00Z
//! client 192.0.2.7                        or a prefix, or none
//!
//! ask www.alice.gcc A
//!   stored www.alice.gcc. 3600 A 192.0.2.2
//! call "input"
//!   output "result"
//!
//! author 3b6a27bc…                        who writes [the owner]; `level 2`, `names 3`, `cosigners KEY …` belong to them
//! write register alice.ghost 1            renew NAME YEARS, transfer NAME KEY, release NAME, put RECORD, delete NAME TYPE,
//!   allowed                               bind NAME HASH|default, bind_covenants NAME; or `denied words`
//! ```
//!
//! What stands indented under a question must be all of its outcome; lines about the cache (`until`, `scope`, `reads`)
//! and `log` are compared if they are there.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};

use crate::contract::{CodeRef, ContractHost, Execution, PACKAGE, Question, ReadFault, Reads, Verdict, Worlds, Write};
use crate::limits::{CONTRACT_FUEL, COVENANT_FUEL, MAX_PARAMETERS};
use crate::op::{CodeHash, Op, RrsetKey, SigilId};
use crate::wire::master::{Reader, words};
use crate::wire::{Name, Resolution, Rrset, Rtype, Scope, Subnet, rdata};
use crate::zone::{ZoneView, lookup};

/// What the contract is tried against: names, records, the moment, who asks.
#[derive(Clone)]
pub struct Desk {
    name: Name,
    owner: [u8; 32],
    parameters: Vec<u8>,
    records: Arc<Records>,
    time: u64,
    client: Option<Subnet>,
    bound: ([u8; 32], Worlds),
    author: Option<[u8; 32]>,
    level: u8,
    names: u32,
    cosigners: Vec<SigilId>,
    read: BTreeSet<Name>,
    scope: Scope,
}

type Records = BTreeMap<Name, BTreeMap<Rtype, Arc<Rrset>>>;

/// Marks stored RRsets, so that an outcome tells them from made ones; no RRSIG is that short.
const STORED: &[u8] = b"stored";

impl Desk {
    /// An empty registry, the contract of this code bound to `example.ghost`.
    pub fn new(code: &[u8], worlds: Worlds) -> Self {
        Self {
            name: Name::from_user("example.ghost").expect("a name"),
            // RFC 8032 section 7.1, test 1.
            owner: [
                0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07, 0x3a, 0x0e,
                0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07, 0x51, 0x1a,
            ],
            parameters: Vec::new(),
            records: Arc::default(),
            time: 1_800_000_000,
            client: Some(Subnet::host(IpAddr::from([192, 0, 2, 1]))),
            bound: (CodeHash::of(code).0, worlds),
            author: None,
            level: 0,
            names: 0,
            cosigners: Vec::new(),
            read: BTreeSet::new(),
            scope: Scope::default(),
        }
    }

    /// Carries out one line that is not a question.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn set(&mut self, line: &str) -> anyhow::Result<()> {
        let (keyword, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        match keyword {
            "name" => self.name = name(rest)?,
            "params" => {
                self.parameters = rest.replace("\\n", "\n").into_bytes();
                ensure!(self.parameters.len() <= MAX_PARAMETERS, "parameters are longer than {MAX_PARAMETERS} octets");
            }
            "record" => self.put(rest, false)?,
            "also" => self.put(rest, true)?,
            "delete" => {
                let (owner, rtype) = name_and_type(rest)?;
                let types = Arc::make_mut(&mut self.records).get_mut(&owner);
                ensure!(types.is_some_and(|types| types.remove(&rtype).is_some()), "there is no {rtype} at {owner}");
            }
            "owner" => {
                self.owner = key(rest)?;
            }
            "author" => self.author = Some(key(rest)?),
            "level" => self.level = rest.parse().context("a level is a number")?,
            "names" => self.names = rest.parse().context("names is a number")?,
            "cosigners" => {
                self.cosigners =
                    rest.split_whitespace().map(|word| key(word).map(SigilId)).collect::<Result<_, _>>()?;
            }
            "bound" => {
                let (hash, worlds) = rest.split_once(' ').unwrap_or((rest, ""));
                let hash = CodeHash::from_hex(hash).context("a hash has 64 hex digits")?;
                let worlds: Vec<String> = worlds.split_whitespace().map(|world| format!("{PACKAGE}{world}")).collect();
                self.bound = (hash.0, Worlds::of_names(worlds.iter().map(String::as_str)));
            }
            "time" => {
                let time = humantime::parse_rfc3339(rest).context("a time is written 2026-11-24T12:00:00Z")?;
                self.time = time.duration_since(std::time::UNIX_EPOCH).context("a time before 1970")?.as_secs();
            }
            "client" if rest == "none" => self.client = None,
            "client" => self.client = Some(rest.parse().map_err(anyhow::Error::msg)?),
            _ => bail!(
                "{keyword:?} is none of name, params, record, also, delete, owner, bound, time, client, author, level, names, \
                 cosigners, ask, call, write"
            ),
        }
        Ok(())
    }

    fn put(&mut self, line: &str, also: bool) -> anyhow::Result<()> {
        let record = Reader::new(line.as_bytes(), Name::root()).next().context("a record is missing")?;
        let record = record.map_err(|error| anyhow::anyhow!("{}", error.kind))?;
        let types = Arc::make_mut(&mut self.records).entry(record.owner.clone()).or_default();
        let before = types.get(&record.rtype).filter(|_| also);
        let data = before.into_iter().flat_map(|rrset| rrset.rdata.iter().map(|data| data.to_vec()));
        let mut rrset =
            Rrset::new(record.owner, record.rtype, record.ttl, data.chain([record.rdata]).collect::<Vec<_>>());
        rrset.rrsigs = vec![STORED.into()];
        types.insert(rrset.rtype, Arc::new(rrset));
        Ok(())
    }

    /// True for a name that somebody has registered.
    fn is_registered(&self, registered: &Name) -> bool {
        *registered == self.name || self.records.keys().any(|owner| owner.is_at_or_below(registered))
    }

    /// The registered name that a name is in, or its TLD.
    fn zone_of(&self, of: &Name) -> Name {
        let registered = of.suffix(2);
        if self.is_registered(&registered) { registered } else { of.suffix(1) }
    }
}

fn key(text: &str) -> anyhow::Result<[u8; 32]> {
    let key = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes());
    key.ok().and_then(|key| key.try_into().ok()).context("a key has 64 hex digits")
}

/// The op that a `write` line is about.
fn write_op(line: &str) -> anyhow::Result<Op> {
    let (kind, rest) = line.split_once(char::is_whitespace).context("a write needs a kind and a name")?;
    let rest = rest.trim();
    let (first, second) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let second = second.trim();
    let years = || second.parse::<u32>().context("years are a number");
    Ok(match kind {
        "register" => Op::Register { name: name(first)?, years: years()? },
        "renew" => Op::Renew { name: name(first)?, years: years()? },
        "transfer" => Op::Transfer { name: name(first)?, to: SigilId(key(second)?) },
        "release" => Op::Release { name: name(first)? },
        "put" => {
            let record = Reader::new(rest.as_bytes(), Name::root()).next().context("a record is missing")?;
            let record = record.map_err(|error| anyhow::anyhow!("{}", error.kind))?;
            let registered = record.owner.suffix(2);
            Op::put(registered, vec![Rrset::new(record.owner, record.rtype, record.ttl, [record.rdata])])
        }
        "delete" => {
            let (owner, rtype) = name_and_type(rest)?;
            Op::DeleteRecords { name: owner.suffix(2), keys: vec![RrsetKey { owner, rtype }] }
        }
        "bind" => {
            let contract = if second == "default" { None } else { Some(CodeHash(key(second)?)) };
            Op::BindContract { name: name(first)?, contract, parameters: Vec::new() }
        }
        "bind_covenants" => Op::BindCovenants { name: name(first)?, covenants: Vec::new() },
        _ => bail!("{kind:?} is none of register, renew, transfer, release, put, delete, bind, bind_covenants"),
    })
}

fn name(text: &str) -> anyhow::Result<Name> {
    Name::from_user(text).with_context(|| format!("{text:?} is not a name"))
}

fn name_and_type(text: &str) -> anyhow::Result<(Name, Rtype)> {
    let (owner, rtype) = text.split_once(char::is_whitespace).context("a name and a type are needed")?;
    Ok((name(owner)?, rtype.trim().parse().with_context(|| format!("{:?} is not a type", rtype.trim()))?))
}

impl ZoneView for Desk {
    type Error = Infallible;

    fn rrset(&self, owner: &Name, rtype: Rtype) -> Result<Option<Arc<Rrset>>, Infallible> {
        Ok(self.records.get(owner).and_then(|types| types.get(&rtype)).cloned())
    }

    fn exists(&self, owner: &Name) -> Result<bool, Infallible> {
        let is_apex = owner.label_count() <= 2 && self.is_registered(owner);
        Ok(is_apex || self.records.get(owner).is_some_and(|types| !types.is_empty()))
    }

    fn has_descendants(&self, owner: &Name) -> Result<bool, Infallible> {
        Ok(self.records.iter().any(|(name, types)| name.is_below(owner) && !types.is_empty()))
    }
}

impl Reads for Desk {
    fn lookup(&mut self, name: &Name, rtype: Rtype) -> Result<Resolution, ReadFault> {
        self.read.insert(name.suffix(2));
        let apex = self.zone_of(name);
        if apex.label_count() == 1 && name.label_count() > 1 {
            return Ok(Resolution::NxDomain);
        }
        let Ok(found) = lookup(self, &apex, name, rtype, false);
        Ok(found)
    }

    fn zone(&mut self) -> Name {
        self.name.clone()
    }

    fn owner_key(&mut self) -> Option<[u8; 32]> {
        Some(self.owner)
    }

    fn bound_contract(&mut self) -> Option<[u8; 32]> {
        Some(self.bound.0)
    }

    fn bound_worlds(&mut self) -> Result<Worlds, ReadFault> {
        Ok(self.bound.1)
    }

    fn parameters(&mut self) -> Vec<u8> {
        self.parameters.clone()
    }

    fn now(&mut self) -> u64 {
        self.time
    }

    fn client_subnet(&mut self, scope: Scope) -> Option<Subnet> {
        self.scope = self.scope.max(scope);
        self.client.map(|client| client.cut(scope))
    }
}

/// A compiled contract.
pub struct Trial<'a> {
    pub host: &'a ContractHost,
    pub code: &'a [u8],
}

/// What came of one question, line by line.
pub struct Told {
    /// `stored` or `made` and a record, `no-data`, `nx-domain`, `output`, `failure`; sorted as records are.
    pub outcome: Vec<String>,
    /// `until`, `scope`, `reads`, `log`: what the cache goes by, and the contract's messages.
    pub notes: Vec<String>,
    /// `fuel`, `memory`.
    pub cost: Vec<String>,
}

impl Trial<'_> {
    /// Asks the contract, or calls it, as the line says.
    ///
    /// # Errors
    /// The line is neither.
    pub fn run(&self, desk: &Desk, line: &str) -> anyhow::Result<Told> {
        let code = CodeRef { hash: CodeHash::of(self.code).0, load: &|| Ok(Some(self.code.to_vec())) };
        match line.split_once(char::is_whitespace) {
            Some(("ask", rest)) => {
                let (asked, rtype) = name_and_type(rest.trim())?;
                ensure!(asked.is_at_or_below(&desk.name), "{asked} is not in {}", desk.name);
                let question = Question { name: asked, rtype, zone: desk.name.clone() };
                let (execution, read) = self.host.execute(code, &question, desk.clone());
                Ok(told(&execution, &read, resolution))
            }
            Some(("call", rest)) => {
                let (execution, read) = self.host.call(code, &octets(rest)?, CONTRACT_FUEL, desk.clone());
                Ok(told(&execution, &read, |output| vec![format!("output {}", quoted(output))]))
            }
            Some(("write", rest)) => {
                let op = write_op(rest.trim())?;
                let author = SigilId(desk.author.unwrap_or(desk.owner));
                let about = op.name().cloned().unwrap_or_else(Name::root);
                let owner = desk.is_registered(&about).then_some(SigilId(desk.owner));
                let Desk { time, level, names, .. } = *desk;
                let write =
                    Write { author: author.into(), time, op: &op, owner, level, names, cosigners: &desk.cosigners };
                let (execution, read) = self.host.judge(code, &write, COVENANT_FUEL, desk.clone());
                Ok(told(&execution, &read, |verdict| match verdict {
                    Verdict::Allowed => vec!["allowed".to_owned()],
                    Verdict::Denied(why) => vec![format!("denied {why}")],
                }))
            }
            _ => bail!("expected ask NAME TYPE, call \"input\" or write KIND NAME"),
        }
    }
}

/// The octets of one word, in quotes or not, escapes as in master files.
fn octets(text: &str) -> anyhow::Result<Vec<u8>> {
    let words = words(text.trim()).map_err(|mistake| anyhow::anyhow!("{mistake}"))?;
    ensure!(words.len() <= 1, "one word is taken; put it in quotes");
    Ok(words.into_iter().next().map(|word| word.octets).unwrap_or_default())
}

fn quoted(octets: &[u8]) -> String {
    let mut text = String::from("\"");
    for octet in octets {
        match octet {
            b'"' | b'\\' => text.extend(['\\', char::from(*octet)]),
            b' '..=b'~' => text.push(char::from(*octet)),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\{octet:03}");
            }
        }
    }
    text + "\""
}

fn told<T>(execution: &Execution<T>, read: &Desk, outcome: impl FnOnce(&T) -> Vec<String>) -> Told {
    let outcome = match &execution.outcome {
        Ok(outcome_of) => outcome(outcome_of),
        Err(failure) => {
            let (code, text) = failure.ede();
            vec![format!("failure {} {text}", code as u16)]
        }
    };
    let mut notes = Vec::new();
    if let Some(until) = execution.until {
        let never = until == u64::MAX;
        notes.push(if never { "until a write".to_owned() } else { format!("until {}", rfc3339(until, read.time)) });
    }
    if !read.scope.is_none() {
        notes.push(format!("scope /{} /{}", read.scope.v4, read.scope.v6));
    }
    if !read.read.is_empty() {
        let names: Vec<String> = read.read.iter().map(|name| name.to_string().trim_end_matches('.').into()).collect();
        notes.push(format!("reads {}", names.join(" ")));
    }
    notes.extend(execution.log.iter().map(|line| format!("log {line}")));
    let cost = vec![format!("fuel {}", execution.fuel), format!("memory {} KiB", execution.memory / 1_024)];
    Told { outcome, notes, cost }
}

/// A promise that was not made holds for now only.
fn rfc3339(until: u64, now: u64) -> String {
    if until <= now { "now".to_owned() } else { super::output::time(until) }
}

fn resolution(resolution: &Resolution) -> Vec<String> {
    let (records, word) = match resolution {
        Resolution::Records(rrsets) => (rrsets, ""),
        Resolution::Alias(rrsets) => (rrsets, "alias "),
        Resolution::Delegation(rrsets) => (rrsets, "delegation "),
        Resolution::NoData => return vec!["no-data".into()],
        Resolution::NxDomain => return vec!["nx-domain".into()],
    };
    let mut lines = Vec::new();
    for rrset in records {
        let kind = if rrset.rrsigs.is_empty() { "made" } else { "stored" };
        let (owner, rtype, ttl) = (&rrset.owner, rrset.rtype, rrset.ttl);
        let line = |data: &[u8]| format!("{word}{kind} {owner} {ttl} {rtype} {}", rdata::to_text(rtype, data));
        lines.extend(rrset.rdata.iter().map(|data| line(data)));
    }
    lines
}

/// What became of a scenario file.
pub struct Report {
    /// The file as it would be if everything were as expected.
    pub updated: String,
    /// Questions, and those that came out otherwise.
    pub asked: usize,
    pub failed: usize,
    /// For a person: each question, what came, what it cost, and what had been expected.
    pub text: String,
}

/// Goes through a scenario file.
///
/// # Errors
/// A line that says nothing, with its number.
pub fn scenario(trial: &Trial<'_>, desk: Desk, text: &str) -> anyhow::Result<Report> {
    let mut desk = desk;
    let mut report = Report { updated: String::new(), asked: 0, failed: 0, text: String::new() };
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        report.updated += line;
        report.updated.push('\n');
        let words = line.trim();
        if words.is_empty() || words.starts_with('#') {
            continue;
        }
        let at = || format!("line {}", number + 1);
        if !["ask", "call", "write"].iter().any(|question| words.starts_with(question)) {
            desk.set(words).with_context(at)?;
            continue;
        }
        let mut expected = Vec::new();
        while let Some((_, line)) = lines.next_if(|(_, line)| line.starts_with(' ') && !line.trim().is_empty()) {
            expected.push(line.trim().to_owned());
        }
        let told = trial.run(&desk, words).with_context(at)?;
        report.judge(number + 1, words, &expected, &told);
    }
    Ok(report)
}

const NOTES: [&str; 4] = ["until", "scope", "reads", "log"];

impl Report {
    fn judge(&mut self, number: usize, question: &str, expected: &[String], told: &Told) {
        let keyword = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
        let about: BTreeSet<String> = expected.iter().map(|line| keyword(line)).collect();
        let compared = told.notes.iter().filter(|note| about.contains(&keyword(note)));
        let came: Vec<&String> = told.outcome.iter().chain(compared).collect();
        let only_notes = about.iter().all(|word| NOTES.contains(&word.as_str()));
        let good = expected.is_empty() || (!only_notes && came == expected.iter().collect::<Vec<_>>());
        self.asked += 1;
        self.failed += usize::from(!good);
        // Where nothing is expected yet, everything is written down.
        let whole: Vec<&String> = told.outcome.iter().chain(&told.notes).collect();
        for line in if expected.is_empty() { &whole } else { &came } {
            self.updated += &format!("  {line}\n");
        }
        let mark = if good { "ok  " } else { "FAIL" };
        self.text += &format!("{mark} line {number}: {question}\n");
        for line in told.outcome.iter().chain(&told.notes).chain(&told.cost) {
            self.text += &format!("       {line}\n");
        }
        if !good {
            self.text += "     expected\n";
            expected.iter().for_each(|line| self.text += &format!("       {line}\n"));
        }
    }
}
