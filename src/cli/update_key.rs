//! `ghostplane name update-key`: secrets with which others update some records of a name (RFC 2136, RFC 8945).

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;
use data_encoding::BASE64;
use serde_json::json;

use super::author::{Call as _, Target};
use super::{Registrar, keys, output, owner};
use crate::api::{UpdateKeyView, UpdateSecretView};
use crate::op::{Op, SecretRequest, UpdateScope};
use crate::wire::{Name, Rtype};

#[derive(Debug, Subcommand)]
pub enum UpdateKeyCommand {
    /// Issues a key and prints it, in the form that nsupdate, knsupdate, certbot and lego take
    Add {
        name: String,
        /// 1 to 63 of a-z, 0-9, - and _; the key is called LABEL.NAME
        label: String,
        /// Owner name and types that the key may change, `OWNER:TYPE[,TYPE…]`; may stand several times
        /// [default: _acme-challenge.NAME:TXT]
        #[arg(long, value_parser = exact)]
        allow: Vec<UpdateScope>,
        /// The same for an owner name and everything below it
        #[arg(long, value_parser = below)]
        allow_below: Vec<UpdateScope>,
        /// Days for which the key is good
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// File to write the key to (mode 0600), in place of printing it
        #[arg(long)]
        out: Option<PathBuf>,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Lists a name's keys
    List {
        name: String,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Prints a key again
    Show {
        name: String,
        label: String,
        /// File to write the key to (mode 0600), in place of printing it
        #[arg(long)]
        out: Option<PathBuf>,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Ends a key
    Revoke {
        name: String,
        label: String,
        #[command(flatten)]
        registrar: Registrar,
    },
}

fn exact(text: &str) -> Result<UpdateScope, String> {
    scope(text, false)
}

fn below(text: &str) -> Result<UpdateScope, String> {
    scope(text, true)
}

/// `OWNER:TYPE[,TYPE…]`
fn scope(text: &str, below: bool) -> Result<UpdateScope, String> {
    let (owner, types) = text.rsplit_once(':').ok_or("write OWNER:TYPE[,TYPE…]")?;
    let owner = Name::from_user(owner).map_err(|error| format!("{owner:?}: {error}"))?;
    let types = types.split(',').map(|rtype| rtype.parse::<Rtype>().map_err(|error| format!("{rtype:?}: {error}")));
    Ok(UpdateScope { owner, below, types: types.collect::<Result<_, _>>()? })
}

pub fn run(command: UpdateKeyCommand) -> anyhow::Result<()> {
    match command {
        UpdateKeyCommand::Add { name, label, allow, allow_below, days, out, registrar } => {
            let name = owner::parse_name(&name)?;
            let mut scopes: Vec<UpdateScope> = allow.into_iter().chain(allow_below).collect();
            if scopes.is_empty() {
                let owner = name.child(b"_acme-challenge")?;
                scopes.push(UpdateScope { owner, below: false, types: vec![Rtype::TXT] });
            }
            let (issued_for, issued_as) = (name.clone(), label.clone());
            registrar.write_quietly(|time| {
                let expires = time + u64::from(days) * 86_400;
                Op::IssueUpdateKey { name: issued_for, label: issued_as, scopes, expires }
            })?;
            hand_over(&registrar, &name, &label, out)
        }
        UpdateKeyCommand::List { name, registrar } => list(&registrar, &name),
        UpdateKeyCommand::Show { name, label, out, registrar } => {
            hand_over(&registrar, &owner::parse_name(&name)?, &label, out)
        }
        UpdateKeyCommand::Revoke { name, label, registrar } => {
            registrar.write(Op::RevokeUpdateKey { name: owner::parse_name(&name)?, label })
        }
    }
}

/// Asks for the secret, and prints or writes it.
fn hand_over(registrar: &Registrar, name: &Name, label: &str, out: Option<PathBuf>) -> anyhow::Result<()> {
    let (mut rpc, key) = (registrar.rpc()?, registrar.key()?);
    let target = Target::fetch(&mut rpc)?;
    let (name, label) = (name.clone(), label.to_owned());
    let request = SecretRequest { registry: target.registry, name, label, time: target.time }.seal(&key);
    let told = rpc.call("update.secret", json!({ "request": BASE64.encode(&request) }))?;
    let view: UpdateSecretView = serde_json::from_value(told)?;
    // Read by BIND's tools and Knot DNS's alike; lego and certbot take the three values.
    let UpdateSecretView { key, algorithm, secret, .. } = &view;
    let text = format!("key \"{key}\" {{\n\talgorithm {algorithm};\n\tsecret \"{secret}\";\n}};\n");
    match out {
        Some(path) => {
            keys::save_secret(&path, text.as_bytes())?;
            if !registrar.json {
                println!("{}", path.display());
            }
        }
        None if registrar.json => println!("{:#}", serde_json::to_value(view)?),
        None => print!("{text}"),
    }
    Ok(())
}

fn list(registrar: &Registrar, name: &str) -> anyhow::Result<()> {
    let told = registrar.rpc()?.call("update.keys", json!({ "name": name }))?;
    if registrar.json {
        println!("{told:#}");
        return Ok(());
    }
    let views: Vec<UpdateKeyView> = serde_json::from_value(told).context("the server's answer is no list of keys")?;
    let row = |view: &UpdateKeyView| {
        let state = if view.live { "until" } else { "ended" };
        vec![view.key.clone(), format!("{state} {}", output::time(view.expires)), view.scopes.join(" ")]
    };
    print!("{}", output::align(&views.iter().map(row).collect::<Vec<_>>()));
    Ok(())
}
