//! `ghostplane zone`: checks and bulk imports.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use data_encoding::BASE64;
use serde_json::{Value, json};

use super::Registrar;
use super::anchor::{self, AnchorFormat};
use super::author::Call as _;
use super::clock::unix_time;
use super::import::{self, ImportArgs};
use super::ring::{self, Entry, Next, Ring, State};
use super::{control, output};
use crate::dnssec::PublicKey;
use crate::node;
use crate::wire::Name;
use crate::zone::policy::Policy;
use crate::zone::{Finding, Severity, ZoneData};

#[derive(Debug, Subcommand)]
pub enum ZoneCommand {
    /// Checks master files (NAME.zone), policies (NAME.toml), or folders of them
    Check {
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Prints a TLD or a name as a master file: signed, with an NSEC chain and a ZONEMD. What contracts synthesise
    /// is not in it
    Export {
        /// TLD or registered name
        zone: String,
        /// File to write [default: standard output]
        #[arg(long)]
        out: Option<PathBuf>,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Prints the trust anchors of the TLDs, as a validator wants them in its configuration
    Anchor {
        /// Only this TLD
        tld: Option<String>,
        /// Whose configuration
        #[arg(long, value_enum, default_value = "ds")]
        format: AnchorFormat,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Shows the gateway's own keys, those of the TLDs and the online keys, and takes the next step in rolling one of
    /// them. Runs where the data directory is
    Roll {
        /// A TLD, `online` or `online-p256` [default: all, to show]
        key: Option<String>,
        /// Take the step that is next
        #[arg(long, requires = "key")]
        next: bool,
        /// Do not wait until it is safe
        #[arg(long, requires = "next")]
        now: bool,
        /// Data directory of the server
        #[arg(long, env = "GHOSTPLANE_DATA", default_value = "ghostplane-data")]
        data: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Imports a master file, or JSON lines of names, owners and records
    Import(Box<ImportArgs>),
}

/// Runs the command; `Ok(false)` if something was found wrong.
pub fn run(command: ZoneCommand) -> anyhow::Result<bool> {
    match command {
        ZoneCommand::Check { paths, json } => check_all(&paths, json),
        ZoneCommand::Export { zone, out, registrar } => {
            let text = registrar.rpc()?.call("zone.export", json!({ "name": zone }))?;
            let text = text.as_str().context("the server's answer is no text")?;
            match out {
                Some(path) => std::fs::write(&path, text).with_context(|| path.display().to_string())?,
                None if registrar.json => println!("{:#}", json!({ "zone": zone, "master_file": text })),
                None => print!("{text}"),
            }
            Ok(true)
        }
        ZoneCommand::Anchor { tld, format, registrar } => {
            anchor::run(tld.as_deref(), format, &registrar).map(|()| true)
        }
        ZoneCommand::Roll { key, next, now, data, json } => roll(key.as_deref(), next, now, &data, json).map(|()| true),
        ZoneCommand::Import(args) => import::run(&args),
    }
}

fn roll(role: Option<&str>, next: bool, now: bool, data: &Path, json: bool) -> anyhow::Result<()> {
    let folder = data.join("keys");
    let mut ring = Ring::load(&folder)?
        .with_context(|| format!("{} has no key ring; `serve` makes it, --data says where", folder.display()))?;
    let role = role.map(|role| role.trim_matches('.'));
    if let Some(role) = role {
        let roles = ring.roles();
        anyhow::ensure!(roles.iter().any(|known| known == role), "no keys of {role}; there are: {}", roles.join(", "));
        if next {
            take_step(&mut ring, &folder, data, role, now)?;
        }
    }
    let roles = role.map_or_else(|| ring.roles(), |role| vec![role.to_owned()]);
    let mut rows = Vec::new();
    for role in roles {
        let next = ring.next(&role);
        for entry in ring.of(&role) {
            rows.push((entry.clone(), ring::zone_key(&folder, entry)?.public().clone(), next.clone()));
        }
    }
    if json {
        let row = |(entry, key, next): &(Entry, PublicKey, Next)| {
            json!({ "key": entry.role, "file": entry.file, "tag": key.tag(), "algorithm": key.algorithm(),
                    "state": entry.state, "since": entry.since, "next": next.what, "next_from": next.from })
        };
        println!("{:#}", rows.iter().map(row).collect::<Value>());
        return Ok(());
    }
    let text = |(entry, key, next): &(Entry, PublicKey, Next)| {
        let state = format!("{:?}", entry.state).to_lowercase();
        let next = match (entry.state == State::Active, next.from) {
            (false, _) => String::new(),
            (true, 0) => format!("next: {}", next.what),
            (true, from) => format!("next: {} (from {})", next.what, output::time(from)),
        };
        let key = format!("key {}, algorithm {}", key.tag(), key.algorithm());
        vec![entry.role.clone(), key, format!("{state} since {}", output::time(entry.since)), next]
    };
    print!("{}", output::align(&rows.iter().map(text).collect::<Vec<_>>()));
    Ok(())
}

/// Takes a role's next step and has a running server take it, too.
fn take_step(ring: &mut Ring, folder: &Path, data: &Path, role: &str, now: bool) -> anyhow::Result<()> {
    let (time, next) = (unix_time(), ring.next(role));
    let early = || format!("too early to {}: wait until {}, or insist with --now", next.what, output::time(next.from));
    anyhow::ensure!(now || time >= next.from, early());
    let retired = ring.of(role).into_iter().find(|entry| entry.state == State::Retired);
    if let Some(retired) = retired.filter(|_| ring::is_online(role) && !now) {
        let mut words = vec!["dependents".to_owned()];
        let others = ring.of(role).into_iter().filter(|entry| *entry != retired);
        for entry in std::iter::once(retired).chain(others) {
            words.push(BASE64.encode(ring::zone_key(folder, entry)?.dnskey()));
        }
        let count = control::ask(data, &words.join(" "))?;
        let count =
            count.context("no server runs over this directory, and only it knows which names depend on the key")?;
        anyhow::ensure!(
            count == "0",
            "{count} names depend on the retired key: their owners must run `name sign` or `record resign` first; \
             with --now they become insecure"
        );
    }
    ring.step(folder, role, time)?;
    match control::ask(data, "reload-keys")? {
        Some(_) => eprintln!("done: {}; the server has taken it up", next.what),
        None => eprintln!("done: {}; no server runs over {}, the next one takes it up", next.what, data.display()),
    }
    Ok(())
}

fn check_all(paths: &[PathBuf], json: bool) -> anyhow::Result<bool> {
    let mut files = Vec::new();
    for path in paths {
        collect(path, &mut files)?;
    }
    anyhow::ensure!(!files.is_empty(), "no .zone or .toml file there");
    let checked = files.iter().map(|file| check(file)).collect::<anyhow::Result<Vec<_>>>()?;
    if json {
        println!("{:#}", checked.iter().map(Checked::json).collect::<Value>());
    } else {
        checked.iter().for_each(|checked| print!("{checked}"));
    }
    Ok(checked.iter().all(Checked::is_sound))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if !path.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| path.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "zone" || ending == "toml") {
            found.push(path);
        }
    }
    found.sort();
    files.extend(found);
    Ok(())
}

/// What there is to say of one file.
struct Checked {
    file: String,
    /// What it is, if it can be used.
    what: String,
    findings: Vec<Finding>,
}

impl Checked {
    fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity < Severity::Error)
    }

    fn json(&self) -> Value {
        let finding = |finding: &Finding| {
            let error = finding.severity == Severity::Error;
            json!({ "line": finding.line, "error": error, "text": finding.text })
        };
        let findings: Value = self.findings.iter().map(finding).collect();
        json!({ "file": self.file, "ok": self.is_sound(), "what": self.what, "findings": findings })
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.findings.iter().try_for_each(|finding| writeln!(f, "{}: {finding}", self.file))?;
        if self.is_sound() { writeln!(f, "{}: ok, {}", self.file, self.what) } else { Ok(()) }
    }
}

fn check(path: &Path) -> anyhow::Result<Checked> {
    let file = path.display().to_string();
    let text = node::read_bounded(path).with_context(|| file.clone())?;
    if path.extension().is_some_and(|ending| ending == "toml") {
        let policy = Policy::from_toml(std::str::from_utf8(&text).with_context(|| file.clone())?);
        let (what, findings) = match policy {
            Ok(policy) => (format!("policy of .{}", policy.tld), Vec::new()),
            Err(error) => {
                let finding = Finding { severity: Severity::Error, line: 0, text: error.to_string() };
                (String::new(), vec![finding])
            }
        };
        return Ok(Checked { file, what, findings });
    }
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let apex = Name::from_user(&stem).with_context(|| format!("{file}: name the file after its zone: NAME.zone"))?;
    let (zone, findings) = ZoneData::read(&apex, &text);
    let rrsets: usize = zone.rrsets.values().map(BTreeMap::len).sum();
    Ok(Checked { file, what: format!("{rrsets} RRsets of {apex}"), findings })
}
