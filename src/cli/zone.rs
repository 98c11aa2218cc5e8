//! `ghostplane zone`: checks and bulk imports.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Subcommand;

use super::import::{self, ImportArgs};
use crate::node;
use crate::wire::Name;
use crate::zone::policy::Policy;
use crate::zone::{Severity, ZoneData};

#[derive(Debug, Subcommand)]
pub enum ZoneCommand {
    /// Checks master files (NAME.zone), policies (NAME.toml), or folders of them
    Check {
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Imports a master file, or JSON lines of names, owners and records
    Import(Box<ImportArgs>),
}

/// Runs the command; `Ok(false)` if something was found wrong.
pub fn run(command: ZoneCommand) -> anyhow::Result<bool> {
    match command {
        ZoneCommand::Check { paths } => {
            let mut files = Vec::new();
            for path in &paths {
                collect(path, &mut files)?;
            }
            let mut sound = !files.is_empty();
            for file in &files {
                sound &= check(file)?;
            }
            anyhow::ensure!(!files.is_empty(), "no .zone or .toml file there");
            Ok(sound)
        }
        ZoneCommand::Import(args) => import::run(&args),
    }
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

fn check(file: &Path) -> anyhow::Result<bool> {
    let shown = file.display();
    let text = node::read_bounded(file).with_context(|| shown.to_string())?;
    if file.extension().is_some_and(|ending| ending == "toml") {
        let policy = Policy::from_toml(std::str::from_utf8(&text).with_context(|| shown.to_string())?);
        match &policy {
            Ok(policy) => println!("{shown}: ok, policy of .{}", policy.tld),
            Err(error) => println!("{shown}: error: {error}"),
        }
        return Ok(policy.is_ok());
    }
    let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let apex = Name::from_user(&stem).with_context(|| format!("{shown}: name the file after its zone: NAME.zone"))?;
    let (zone, findings) = ZoneData::read(&apex, &text);
    findings.iter().for_each(|finding| println!("{shown}: {finding}"));
    let sound = findings.iter().all(|finding| finding.severity < Severity::Error);
    if sound {
        let rrsets: usize = zone.rrsets.values().map(std::collections::BTreeMap::len).sum();
        println!("{shown}: ok, {rrsets} RRsets of {apex}");
    }
    Ok(sound)
}
