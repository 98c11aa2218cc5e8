//! `ghostplane name update-key`: secrets with which others update some records of a name (RFC 2136, RFC 8945).

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use data_encoding::BASE64;
use serde_json::json;

use super::author::{Call as _, Target};
use super::{Registrar, keys, output, owner};
use crate::api::{UpdateKeyView, UpdateSecretView};
use crate::limits::MAX_UPDATE_KEY_MANA;
use crate::op::{Op, SecretRequest, UpdateScope};
use crate::wire::{Name, Rtype};

/// How a key is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A key file of BIND's: nsupdate, dig, acme.sh
    Bind,
    /// ALGORITHM:NAME:SECRET: knsupdate, kdig
    Knot,
    /// Environment variables of lego's rfc2136 provider
    Lego,
    /// Credentials of certbot's dns-rfc2136 plugin; the server is to be added
    Certbot,
}

/// Where a key goes, and in which form.
#[derive(Debug, Args)]
pub struct Form {
    /// Form to write the key in
    #[arg(long, value_enum, default_value = "bind")]
    format: Format,
    /// File to write the key to (mode 0600), in place of printing it
    #[arg(long)]
    out: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum UpdateKeyCommand {
    /// Issues a key and prints it
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
        /// Mana a day that updates by it may take of the owner's, those that change nothing included [default: 300]
        #[arg(long, value_name = "MANA", value_parser = clap::value_parser!(u64).range(1..=MAX_UPDATE_KEY_MANA))]
        mana_per_day: Option<u64>,
        #[command(flatten)]
        form: Form,
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
        #[command(flatten)]
        form: Form,
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

impl Format {
    fn text(self, view: &UpdateSecretView) -> String {
        let UpdateSecretView { key, algorithm, secret, .. } = view;
        match self {
            Self::Bind => format!("key \"{key}\" {{\n\talgorithm {algorithm};\n\tsecret \"{secret}\";\n}};\n"),
            Self::Knot => format!("{algorithm}:{key}:{secret}\n"),
            Self::Lego => {
                format!("RFC2136_TSIG_KEY={key}\nRFC2136_TSIG_ALGORITHM={algorithm}.\nRFC2136_TSIG_SECRET={secret}\n")
            }
            Self::Certbot => format!(
                "dns_rfc2136_name = {key}\ndns_rfc2136_secret = {secret}\ndns_rfc2136_algorithm = {}\n",
                algorithm.to_uppercase()
            ),
        }
    }
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
        UpdateKeyCommand::Add { name, label, allow, allow_below, days, mana_per_day: mana, form, registrar } => {
            let name = owner::parse_name(&name)?;
            let mut scopes: Vec<UpdateScope> = allow.into_iter().chain(allow_below).collect();
            if scopes.is_empty() {
                let owner = name.child(b"_acme-challenge")?;
                scopes.push(UpdateScope { owner, below: false, types: vec![Rtype::TXT] });
            }
            let (issued_for, issued_as) = (name.clone(), label.clone());
            registrar.write_quietly(|time| {
                let expires = time + u64::from(days) * 86_400;
                Op::IssueUpdateKey { name: issued_for, label: issued_as, scopes, expires, mana }
            })?;
            hand_over(&registrar, &name, &label, form)
        }
        UpdateKeyCommand::List { name, registrar } => list(&registrar, &name),
        UpdateKeyCommand::Show { name, label, form, registrar } => {
            hand_over(&registrar, &owner::parse_name(&name)?, &label, form)
        }
        UpdateKeyCommand::Revoke { name, label, registrar } => {
            registrar.write(Op::RevokeUpdateKey { name: owner::parse_name(&name)?, label })
        }
    }
}

/// Asks for the secret, and prints or writes it.
fn hand_over(registrar: &Registrar, name: &Name, label: &str, form: Form) -> anyhow::Result<()> {
    let (mut rpc, key) = (registrar.rpc()?, registrar.key()?);
    let target = Target::fetch(&mut rpc)?;
    let (name, label) = (name.clone(), label.to_owned());
    let request = SecretRequest { registry: target.registry, name, label, time: target.time }.seal(&key);
    let told = rpc.call("update.secret", json!({ "request": BASE64.encode(&request) }))?;
    let view: UpdateSecretView = serde_json::from_value(told)?;
    let text = form.format.text(&view);
    match form.out {
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
        let mana = format!("{} of {} mana", view.left, view.mana);
        vec![view.key.clone(), format!("{state} {}", output::time(view.expires)), mana, view.scopes.join(" ")]
    };
    print!("{}", output::align(&views.iter().map(row).collect::<Vec<_>>()));
    Ok(())
}
