//! `ghostplane zone`: checks and bulk imports.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::{Value, json};

use super::Registrar;
use super::anchor::{self, AnchorFormat};
use super::author::Call as _;
use super::import::{self, ImportArgs};
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
        ZoneCommand::Import(args) => import::run(&args),
    }
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
