//! `ghostplane covenant`.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::Subcommand;
use data_encoding::BASE64;
use serde_json::json;

use super::author::Call as _;
use super::owner::{parse_contract, parse_name, read};
use super::{Registrar, output};
use crate::api::CovenantView;
use crate::node::SHIPPED;
use crate::op::{CodeHash, Covenant, Op};

#[derive(Debug, Subcommand)]
pub enum CovenantCommand {
    /// Lists the covenants of a name or a TLD, in the order in which they judge
    Show {
        name: String,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Lets a covenant judge writes to a name, or below a TLD (the operator's sigil signs), behind those that do;
    /// one that judges already gets other parameters
    Add {
        name: String,
        /// SHA-256, or the name of a shipped covenant
        covenant: String,
        /// Parameters; \\n is a new line
        #[arg(long, conflicts_with = "params_file")]
        params: Option<String>,
        /// File with the parameters
        #[arg(long)]
        params_file: Option<PathBuf>,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Takes a covenant off
    Remove {
        name: String,
        /// SHA-256, or the name of a shipped covenant
        covenant: String,
        #[command(flatten)]
        registrar: Registrar,
    },
}

pub fn run(command: CovenantCommand) -> anyhow::Result<()> {
    match command {
        CovenantCommand::Show { name, registrar } => show(&name, &registrar),
        CovenantCommand::Add { name, covenant, params, params_file, registrar } => {
            let code = parse_contract(&covenant)?;
            let parameters = match params_file {
                Some(file) => read(&file)?,
                None => params.unwrap_or_default().replace("\\n", "\n").into_bytes(),
            };
            change(&name, registrar, |bound| {
                match bound.iter_mut().find(|bound| bound.code == code) {
                    Some(bound) => bound.parameters = parameters,
                    None => bound.push(Covenant { code, parameters }),
                }
                Ok(())
            })
        }
        CovenantCommand::Remove { name, covenant, registrar } => {
            let code = parse_contract(&covenant)?;
            change(&name, registrar, |bound| {
                let before = bound.len();
                bound.retain(|bound| bound.code != code);
                ensure!(bound.len() < before, "{covenant} does not judge here; `covenant show` lists those that do");
                Ok(())
            })
        }
    }
}

fn change(
    name: &str,
    mut registrar: Registrar,
    edit: impl FnOnce(&mut Vec<Covenant>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let name = parse_name(name)?;
    if name.label_count() == 1 {
        registrar.as_operator();
    }
    let mut covenants = list(&name.to_string(), &registrar)?.iter().map(covenant).collect::<Result<Vec<_>, _>>()?;
    edit(&mut covenants)?;
    registrar.write(Op::BindCovenants { name, covenants })
}

fn list(name: &str, registrar: &Registrar) -> anyhow::Result<Vec<CovenantView>> {
    Ok(serde_json::from_value(registrar.rpc()?.call("covenant.list", json!({ "name": name }))?)?)
}

fn covenant(view: &CovenantView) -> anyhow::Result<Covenant> {
    let code = CodeHash::from_hex(&view.covenant).context("the server's answer is no hash")?;
    let parameters = BASE64.decode(view.parameters.as_bytes()).context("the server's answer is not base64")?;
    Ok(Covenant { code, parameters })
}

fn show(name: &str, registrar: &Registrar) -> anyhow::Result<()> {
    let listed = list(name, registrar)?;
    if registrar.json {
        println!("{:#}", serde_json::to_value(listed)?);
        return Ok(());
    }
    for view in &listed {
        let covenant = covenant(view)?;
        let shipped = SHIPPED.iter().find(|(_, wasm)| CodeHash::of(wasm) == covenant.code).map(|(name, _)| *name);
        println!("{}  {}", view.covenant, shipped.unwrap_or("(not a shipped one)"));
        let text = String::from_utf8_lossy(&covenant.parameters).into_owned();
        text.lines().for_each(|line| println!("  {}", output::plain(line)));
    }
    if listed.is_empty() {
        println!("no covenants");
    }
    Ok(())
}
