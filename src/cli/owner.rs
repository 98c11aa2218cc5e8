//! What owners do: `sigil`, `name`, `record`, `contract`, `mana`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{Subcommand, ValueEnum};
use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};

use super::author::{self, Author, Call, OpResult, Target};
use super::client::RpcClient;
use super::signing::{Signers, Zone};
use super::{Registrar, keys, output, workshop};
use crate::api::{ContractView, LoadView, NameView, QuoteView, RESIGN_SOON, RrsetView};
use crate::contract::{ContractHost, HostConfig, WIT};
use crate::dnssec::{ALGORITHM_ED25519, ALGORITHM_P256, FLAGS_OWNER, PublicKey, ZoneKey};
use crate::limits::{MAX_CONTRACT, MAX_PARAMETERS};
use crate::locked::Locked;
use crate::node::SHIPPED;
use crate::op::{CodeHash, Identity, LoadPolicy, Op, RrsetKey, SetId, SigilId};
use crate::wire::{Name, Rrset, Rtype, rdata};

#[derive(Debug, Subcommand)]
pub enum SigilCommand {
    /// Makes a new key
    New {
        /// Key file to write (PKCS#8 PEM, mode 0600)
        file: PathBuf,
    },
    /// Shows a key's did:key and its DNSSEC key tag
    Show {
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Reads a BIND key pair (K*.private, algorithm 15) into a key file
    Import {
        /// The .private file
        private: PathBuf,
        /// Key file to write
        #[arg(long)]
        out: PathBuf,
    },
    /// Writes a key as a BIND key pair for a name
    Export {
        file: PathBuf,
        /// Name that the pair is for
        #[arg(long)]
        name: String,
        /// Folder to write to
        #[arg(long, default_value = ".")]
        out: PathBuf,
        /// As a KEY record, with which nsupdate signs (SIG(0)), in place of a DNSKEY record
        #[arg(long)]
        for_update: bool,
    },
}

/// Algorithms of zone keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Algorithm {
    /// 15
    Ed25519,
    /// 13 (ECDSAP256SHA256)
    P256,
}

impl Algorithm {
    pub fn number(self) -> u8 {
        match self {
            Self::Ed25519 => ALGORITHM_ED25519,
            Self::P256 => ALGORITHM_P256,
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum NameCommand {
    /// Registers a name; where the TLD asks for it, by a commitment first that does not tell the name
    Register(super::life::RegisterArgs),
    #[command(flatten)]
    Life(super::life::LifeCommand),
    /// Makes a name a signed zone, or renews the signature over its keys: the owner's, and the gateway's online
    /// key, which signs what cannot be signed ahead
    Sign {
        name: String,
        /// Without the online key: everything is signed ahead, with an SOA and an NSEC chain. Nobody but the owner can
        /// then say anything of the name; contracts cannot answer for it
        #[arg(long)]
        strict: bool,
        /// Days for which the RRSIG is valid
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
        valid_days: u32,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Takes the next step in a roll of a name's key from --zone-key, or the sigil, to another; tells when the one after
    /// it may be taken
    Roll {
        name: String,
        /// Key file of the new key; made if there is none
        #[arg(long)]
        to: PathBuf,
        /// Algorithm of a key that is made [default: ed25519]
        #[arg(long, value_enum)]
        algorithm: Option<Algorithm>,
        /// Days for which RRSIGs are valid
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
        valid_days: u32,
        /// Do not wait until caches have forgotten what was there before
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Shows a name
    Show {
        name: String,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Lists every op that ever touched a name, each with its proof checked against the log's checkpoint
    History {
        name: String,
        #[command(flatten)]
        reader: super::log::Reader,
    },
    /// Lists names in canonical order
    List {
        /// Only names of this sigil
        #[arg(long)]
        owner: Option<String>,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Extends a name's lease
    Renew {
        name: String,
        /// Years to add
        #[arg(long, default_value_t = 1)]
        years: u32,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Gives a name to another sigil; its records stay, their signatures do not
    Transfer {
        name: String,
        /// did:key of the new owner
        #[arg(long)]
        to: String,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Gives a name up, with everything below it
    Release {
        name: String,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Issues, lists and revokes secrets with which others may update some records (DNS UPDATE with TSIG)
    #[command(subcommand)]
    UpdateKey(super::update_key::UpdateKeyCommand),
}

#[derive(Debug, Subcommand)]
pub enum RecordCommand {
    /// Sets the RRset of a type at an owner name, in place of what was there
    Set {
        /// Owner name: a registered name, or any name below one
        owner: String,
        rtype: Rtype,
        /// One argument per record, in master file form
        #[arg(required = true)]
        rdata: Vec<String>,
        /// Seconds
        #[arg(long, default_value_t = 3600)]
        ttl: u32,
        /// Days for which the RRSIG is valid
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
        valid_days: u32,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Renews the RRSIGs of everything at and below a name, its keys included
    Resign {
        name: String,
        /// Days for which the RRSIGs are valid
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
        valid_days: u32,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Deletes the RRset of a type at an owner name
    Delete {
        owner: String,
        rtype: Rtype,
        /// Days for which RRSIGs are valid that a strict name needs for it
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
        valid_days: u32,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Lists all records of a registered name
    List {
        name: String,
        #[command(flatten)]
        registrar: Registrar,
    },
}

#[derive(Debug, Subcommand)]
pub enum ContractCommand {
    /// Begins a project: source, SDK and a scenario file
    New(workshop::NewArgs),
    /// Compiles a project, or makes a contract of a core module
    Build(workshop::BuildArgs),
    /// Checks that a file is a contract that a gateway would accept
    Check { file: PathBuf },
    /// Runs scenario files against a contract, without a gateway: answer, fuel, memory, reads
    Test(workshop::TestArgs),
    /// Asks a contract one question, without a gateway
    Run(workshop::RunArgs),
    /// Prints a contract as WebAssembly text
    Disasm {
        /// Contract file, or name of a shipped one
        contract: PathBuf,
    },
    /// Prints the WIT worlds that contracts are written against
    Wit,
    /// Stores a contract in the registry
    Deploy {
        file: PathBuf,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Makes a contract answer for a name
    Bind {
        name: String,
        /// SHA-256 of a deployed contract, the name of a shipped one, or `default`
        contract: String,
        /// Parameters, as text
        #[arg(long, conflicts_with = "params_file")]
        params: Option<String>,
        /// Parameters, from a file
        #[arg(long)]
        params_file: Option<PathBuf>,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Calls the program that a name is bound to, over HTTP/3
    Call {
        name: String,
        /// Input, as text
        #[arg(default_value = "")]
        input: String,
        /// Input, from a file
        #[arg(long, conflicts_with = "input")]
        input_file: Option<PathBuf>,
        /// Units of fuel that the call may take
        #[arg(long)]
        gas: Option<u64>,
        /// Write the call's receipt to a file
        #[arg(long, value_name = "FILE")]
        receipt: Option<PathBuf>,
        /// Use HTTP/2
        #[arg(long)]
        h2: bool,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Shows a contract, or fetches its code
    Show {
        /// SHA-256, or the name of a shipped contract
        contract: String,
        /// File to write the code to
        #[arg(long, short)]
        out: Option<PathBuf>,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Shows who spends how much gas, the most first
    Usage {
        /// Only this name
        name: Option<String>,
        /// Only names of this sigil
        #[arg(long)]
        owner: Option<String>,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Shows what gas costs; with options, changes it: signed by the operator's sigil
    Gas {
        #[command(flatten)]
        change: super::ledger::GasArgs,
        #[command(flatten)]
        registrar: Registrar,
    },
}

#[derive(Debug, Subcommand)]
pub enum ManaCommand {
    /// Shows an account: level, mana now, capacity, when it is full
    Show {
        /// did:key [default: the sigil's own]
        did: Option<String>,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Shows how the price of writing follows the load; with options, changes it: signed by the operator's sigil
    Load {
        /// Seconds of a window
        #[arg(long)]
        window: Option<u64>,
        /// Mana that the ops of one window cost, before the factor, at which the factor stays
        #[arg(long)]
        target: Option<u64>,
        /// Highest factor, thousandths
        #[arg(long)]
        highest: Option<u64>,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Sets a sigil's level and adds mana; signed by the operator's sigil
    Grant {
        did: String,
        /// 0 to 5
        #[arg(long)]
        level: u8,
        /// Mana to add, up to the level's capacity [default: as much as it holds]
        #[arg(long)]
        amount: Option<u64>,
        #[command(flatten)]
        registrar: Registrar,
    },
}

pub fn sigil(command: SigilCommand) -> anyhow::Result<()> {
    match command {
        SigilCommand::New { file } => {
            let key = keys::generate()?;
            keys::save(&file, &key)?;
            println!("{}", SigilId::from(&key.verifying_key()));
        }
        SigilCommand::Show { file, json } => show_sigil(&*keys::load(&file)?, json),
        SigilCommand::Import { private, out } => {
            let key = keys::load_bind(&private)?;
            keys::save(&out, &key)?;
            println!("{}", SigilId::from(&key.verifying_key()));
        }
        SigilCommand::Export { file, name, out, for_update } => {
            let base = keys::save_bind(&out, &parse_name(&name)?, &*keys::load(&file)?, for_update)?;
            println!("{0}.key\n{0}.private", base.display());
        }
    }
    Ok(())
}

fn show_sigil(key: &SigningKey, json: bool) {
    let public = key.verifying_key();
    let (did, tag) = (SigilId::from(&public), PublicKey::of_sigil(&public).tag());
    let hex = HEXLOWER.encode(public.as_bytes());
    if json {
        println!("{:#}", json!({ "did": did.to_string(), "public_key": hex, "key_tag": tag }));
    } else {
        print!("{}", output::facts(&[("did", did.to_string()), ("public key", hex), ("key tag", tag.to_string())]));
    }
}

pub fn name(command: NameCommand) -> anyhow::Result<()> {
    match command {
        NameCommand::Register(args) => super::life::register(&args),
        NameCommand::Life(command) => super::life::run(command),
        NameCommand::Sign { name, strict, valid_days, registrar } => {
            let name = parse_name(&name)?;
            registrar.write_all(|session| {
                let zone = session.zone(name)?;
                session.sign(&zone, strict, valid_days)
            })
        }
        NameCommand::Roll { name, to, algorithm, valid_days, now, registrar } => {
            let name = parse_name(&name)?;
            let algorithm = algorithm.map_or(ALGORITHM_ED25519, Algorithm::number);
            let to = ZoneKey::new(keys::load_or_create_zone_key(&to, algorithm)?, FLAGS_OWNER);
            let mut told = String::new();
            registrar.write_all(|session| {
                let from = registrar.zone_keys()?;
                let zone = session.zone(name)?;
                let (ops, step) = zone.roll(&from, to, &session.key, &session.target, valid_days, now)?;
                told = step;
                Ok(ops)
            })?;
            if !registrar.json {
                println!("{told}");
            }
            Ok(())
        }
        NameCommand::Renew { name, years, registrar } => registrar.write(Op::Renew { name: parse_name(&name)?, years }),
        NameCommand::Transfer { name, to, registrar } => {
            registrar.write(Op::Transfer { name: parse_name(&name)?, to: to.parse()? })
        }
        NameCommand::Release { name, registrar } => registrar.write(Op::Release { name: parse_name(&name)? }),
        NameCommand::UpdateKey(command) => super::update_key::run(command),
        NameCommand::Show { name, registrar } => {
            let mut rpc = registrar.rpc()?;
            let shown = rpc.call("name.get", json!({ "name": name }))?;
            if registrar.json {
                return print_json(&shown);
            }
            let records = rpc.call_all("record.list", json!({ "name": name }))?;
            let time = Target::fetch(&mut rpc)?.time;
            print_name(&serde_json::from_value(shown)?, &serde_json::from_value::<Vec<RrsetView>>(records)?, time)
        }
        NameCommand::History { name, reader } => super::log::history(&name, &reader),
        NameCommand::List { owner, registrar } => list_names(owner.as_deref(), &registrar),
    }
}

/// Whether the name is a signed zone, and how long its signatures hold.
fn signatures(name: &NameView, records: &[RrsetView], now: u64) -> String {
    let keys = records.iter().find(|rrset| rrset.rtype == "DNSKEY" && rrset.owner == name.name);
    let is_strict = |keys: &RrsetView| keys.rdata.iter().all(|key| key.starts_with("257 "));
    let zone = match keys {
        Some(keys) if is_strict(keys) => "strict zone, signed ahead",
        Some(_) => "signed zone",
        None => "unsigned zone; `name sign` signs it",
    };
    let Some(first) = records.iter().filter_map(|rrset| rrset.signed_until).min() else { return zone.to_owned() };
    let end = output::time(first);
    match first.saturating_sub(now) {
        0 => format!("{zone}; some have expired, the first at {end}: run `record resign`"),
        left if left < RESIGN_SOON => {
            format!("{zone}; the first ends at {end}, in {} days: run `record resign`", left / 86_400)
        }
        left => format!("{zone}; the first ends at {end}, in {} days", left / 86_400),
    }
}

fn print_name(name: &NameView, records: &[RrsetView], now: u64) -> anyhow::Result<()> {
    let contract = name.contract.clone().unwrap_or_else(|| "the TLD's default".to_owned());
    let parameters = BASE64.decode(name.parameters.as_bytes()).map_or(0, |octets| octets.len());
    let guardians = name.guard.as_ref().map(super::guardian::guard_facts).unwrap_or_default();
    let mut facts = vec![
        ("name", super::life::with_unicode(&name.name, name.life.unicode.as_deref())),
        ("owner", name.owner.clone()),
    ];
    facts.extend(super::life::facts(name, now));
    facts.extend([
        ("contract", contract),
        ("parameters", format!("{parameters} octets")),
        ("RRsets", name.rrsets.to_string()),
        ("signatures", signatures(name, records, now)),
        ("last change", format!("op {}", name.changed)),
    ]);
    print!("{}{}", output::facts(&facts), output::facts(&guardians));
    Ok(())
}

fn list_names(owner: Option<&str>, registrar: &Registrar) -> anyhow::Result<()> {
    let names = all_names(&mut registrar.rpc()?)?;
    let names: Vec<NameView> = names.into_iter().filter(|name| owner.is_none_or(|owner| name.owner == owner)).collect();
    if registrar.json {
        return print_json(&serde_json::to_value(names)?);
    }
    let row = |name: &NameView| {
        let shown = super::life::with_unicode(&name.name, name.life.unicode.as_deref());
        vec![shown, output::time(name.expires), name.life.phase.clone(), name.owner.clone()]
    };
    print!("{}", output::align(&names.iter().map(row).collect::<Vec<_>>()));
    Ok(())
}

/// Every registered name, page by page.
pub fn all_names(rpc: &mut RpcClient) -> anyhow::Result<Vec<NameView>> {
    let mut names: Vec<NameView> = Vec::new();
    loop {
        let after = names.last().map(|name| name.name.clone());
        let page: Vec<NameView> = serde_json::from_value(rpc.call("name.list", json!({ "after": after }))?)?;
        if page.is_empty() {
            return Ok(names);
        }
        names.extend(page);
    }
}

pub fn record(command: RecordCommand) -> anyhow::Result<()> {
    match command {
        RecordCommand::Set { owner, rtype, rdata, ttl, valid_days, registrar } => {
            let owner = parse_name(&owner)?;
            let rrset = parse_rrset(&owner, rtype, &rdata, ttl)?;
            registrar.write_all(|session| {
                let zone = session.zone(owner.suffix(2))?;
                zone.set(rrset, &session.signers, &session.target, valid_days)
            })
        }
        RecordCommand::Delete { owner, rtype, valid_days, registrar } => {
            let owner = parse_name(&owner)?;
            registrar.write_all(|session| {
                let zone = session.zone(owner.suffix(2))?;
                zone.delete(RrsetKey { owner, rtype }, &session.signers, &session.target, valid_days)
            })
        }
        RecordCommand::Resign { name, valid_days, registrar } => {
            let name = parse_name(&name)?;
            registrar.write_all(|session| session.zone(name)?.resign(&session.signers, &session.target, valid_days))
        }
        RecordCommand::List { name, registrar } => {
            let listed = registrar.rpc()?.call_all("record.list", json!({ "name": name }))?;
            if registrar.json { print_json(&listed) } else { print_records(&serde_json::from_value(listed)?) }
        }
    }
}

fn parse_rrset(owner: &Name, rtype: Rtype, texts: &[String], ttl: u32) -> anyhow::Result<Rrset> {
    let made = [Rtype::SOA, Rtype::NSEC].contains(&rtype);
    anyhow::ensure!(!made, "{rtype} records are made with the zone: `name sign {owner} --strict` makes one's own");
    let root = Name::root();
    let parse = |text: &String| rdata::from_text(rtype, text, Some(&root)).with_context(|| format!("{rtype} {text:?}"));
    let data = texts.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    Ok(Rrset::new(owner.clone(), rtype, ttl, data))
}

fn print_records(rrsets: &Vec<RrsetView>) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for rrset in rrsets {
        let until = |end| format!("signed until {}", output::time(end));
        let otherwise = if rrset.signed_by == "online" { "online" } else { "unsigned" };
        let signed = rrset.signed_until.map_or_else(|| otherwise.to_owned(), until);
        for data in &rrset.rdata {
            let (owner, ttl) = (rrset.owner.clone(), rrset.ttl.to_string());
            rows.push(vec![owner, ttl, rrset.rtype.clone(), signed.clone(), data.clone()]);
        }
    }
    print!("{}", output::align(&rows));
    Ok(())
}

pub fn contract(command: ContractCommand) -> anyhow::Result<bool> {
    let done: anyhow::Result<()> = match command {
        ContractCommand::New(args) => workshop::new(&args),
        ContractCommand::Build(args) => workshop::build(&args),
        ContractCommand::Check { file } => workshop::check_file(&file),
        ContractCommand::Test(args) => return workshop::test(&args),
        ContractCommand::Run(args) => return workshop::run_once(&args),
        ContractCommand::Disasm { contract } => workshop::disasm(&contract),
        ContractCommand::Wit => {
            print!("{WIT}");
            Ok(())
        }
        ContractCommand::Deploy { file, registrar } => {
            let code = read(&file)?;
            check_contract(&code)?;
            if !registrar.json {
                println!("{}", CodeHash::of(&code));
            }
            registrar.write(Op::DeployContract { wasm: code })
        }
        ContractCommand::Bind { name, contract, params, params_file, registrar } => {
            let parameters = match params_file {
                Some(file) => read(&file)?,
                None => params.unwrap_or_default().into_bytes(),
            };
            anyhow::ensure!(parameters.len() <= MAX_PARAMETERS, "parameters are longer than {MAX_PARAMETERS} octets");
            let contract = if contract == "default" { None } else { Some(parse_contract(&contract)?) };
            registrar.write(Op::BindContract { name: parse_name(&name)?, contract, parameters })
        }
        ContractCommand::Call { name, input, input_file, gas, receipt, h2, registrar } => {
            let input = input_file.map_or_else(|| Ok(input.into_bytes()), |file| read(&file))?;
            return super::receipt::call(&registrar, &name, input, gas, receipt.as_deref(), h2);
        }
        ContractCommand::Usage { name, owner, registrar } => super::ledger::usage(name, owner, &registrar),
        ContractCommand::Gas { change, registrar } => super::ledger::gas(&change, registrar),
        ContractCommand::Show { contract, out, registrar } => show_contract(&contract, out.as_deref(), &registrar),
    };
    done.map(|()| true)
}

fn show_contract(contract: &str, out: Option<&Path>, registrar: &Registrar) -> anyhow::Result<()> {
    let hash = parse_contract(contract)?;
    let shown = registrar.rpc()?.call("contract.get", json!({ "hash": hash.to_string() }))?;
    let view: ContractView = serde_json::from_value(shown)?;
    let code = BASE64.decode(view.code.as_bytes()).context("the server's answer is not base64")?;
    // The name of a contract is its hash: what does not match is not it.
    anyhow::ensure!(CodeHash::of(&code) == hash, "the server sent other code than {hash}");
    if let Some(out) = out {
        std::fs::write(out, &code).with_context(|| out.display().to_string())?;
    }
    if registrar.json {
        return print_json(&json!({ "hash": view.hash, "bytes": view.bytes }));
    }
    print!("{}", output::facts(&[("hash", view.hash), ("octets", view.bytes.to_string())]));
    Ok(())
}

fn check_contract(code: &[u8]) -> anyhow::Result<()> {
    ContractHost::new(HostConfig::default())?.check(code)?;
    Ok(())
}

/// A hash, or the name of a shipped contract.
pub(super) fn parse_contract(text: &str) -> anyhow::Result<CodeHash> {
    let shipped = SHIPPED.iter().find(|(name, _)| *name == text).map(|(_, code)| CodeHash::of(code));
    let names = || SHIPPED.map(|(name, _)| name).join(", ");
    shipped
        .or_else(|| CodeHash::from_hex(text))
        .with_context(|| format!("{text:?} is neither a SHA-256 in hex nor a shipped contract ({})", names()))
}

pub fn mana(command: ManaCommand) -> anyhow::Result<()> {
    match command {
        ManaCommand::Show { did, registrar } => {
            let id = match did {
                Some(did) => did.parse()?,
                None => Identity::Sigil(SigilId::from(&registrar.key()?.verifying_key())),
            };
            let account = author::account(&mut registrar.rpc()?, &id)?;
            if registrar.json {
                return print_json(&serde_json::to_value(account)?);
            }
            let level = match (account.attested_by, account.until) {
                (Some(by), Some(until)) => format!("{} until {}, attested by {by}", account.level, output::time(until)),
                _ => account.level.to_string(),
            };
            print!(
                "{}",
                output::facts(&[
                    ("identity", account.did),
                    ("level", level),
                    ("mana", format!("{} of {}", account.mana, account.capacity)),
                    ("refill", format!("{} an hour", account.refill_per_hour)),
                    ("full at", output::time(account.full_at)),
                    ("next nonce", account.next_nonce.to_string()),
                ])
            );
            Ok(())
        }
        ManaCommand::Load { window, target, highest, mut registrar } => {
            let shown = registrar.rpc()?.call("mana.load", Value::Null)?;
            let now: LoadView = serde_json::from_value(shown.clone())?;
            if window.or(target).or(highest).is_some() {
                registrar.as_operator();
                return registrar.write(Op::SetLoad {
                    policy: LoadPolicy {
                        window: window.unwrap_or(now.window_seconds),
                        target: target.unwrap_or(now.target),
                        highest: highest.unwrap_or(now.highest),
                    },
                });
            }
            if registrar.json {
                return print_json(&shown);
            }
            let thousandths = |factor: u64| format!("{}.{:03}", factor / 1_000, factor % 1_000);
            print!(
                "{}",
                output::facts(&[
                    ("factor", thousandths(now.factor)),
                    ("next factor", format!("{} if nothing more is written", thousandths(now.next_factor))),
                    ("highest", thousandths(now.highest)),
                    ("load", format!("{} of {} mana in {} s", now.used, now.target, now.window_seconds)),
                ])
            );
            Ok(())
        }
        ManaCommand::Grant { did, level, amount, mut registrar } => {
            registrar.as_operator();
            let amount = amount.unwrap_or(u64::MAX);
            registrar.write(Op::GrantMana { to: did.parse()?, level, amount })
        }
    }
}

impl Registrar {
    /// Signs one op and submits it.
    pub(super) fn write(&self, op: Op) -> anyhow::Result<()> {
        self.write_all(|_| Ok(vec![op]))
    }

    /// Signs the op that `make` gives for the server's time, submits it, and prints nothing.
    pub(super) fn write_quietly(&self, make: impl FnOnce(u64) -> Op) -> anyhow::Result<()> {
        let (mut rpc, key) = (self.rpc()?, self.key()?);
        let target = Target::fetch(&mut rpc)?;
        let signed = Author::fetch(key, &mut rpc)?.sign(&target, make(target.time));
        match author::submit(&mut rpc, &[signed])?.pop() {
            Some(OpResult::Accepted { .. }) => Ok(()),
            Some(OpResult::Rejected { code, message }) => bail!("rejected ({code}): {message}"),
            None => bail!("the server gave no outcome"),
        }
    }

    /// Signs the ops that `make` gives for the server and the registry as it is, and submits them in their order.
    pub(super) fn write_all(&self, make: impl FnOnce(&mut Session) -> anyhow::Result<Vec<Op>>) -> anyhow::Result<()> {
        let (mut rpc, key) = (self.rpc()?, self.key()?);
        let target = Target::fetch(&mut rpc)?;
        let signers = Signers::new(&key, self.zone_keys()?);
        let mut session = Session { rpc, key, target, signers };
        let ops = make(&mut session)?;
        if ops.is_empty() {
            if self.json {
                return print_json(&Value::Null);
            }
            println!("nothing to write");
            return Ok(());
        }
        let Session { mut rpc, key, target, .. } = session;
        if let Some(file) = &self.draft.file {
            return self.write_draft(file, &mut rpc, &target, ops);
        }
        let mut author = Author::fetch(key, &mut rpc)?;
        if self.quote {
            return self.print_quote(&mut rpc, &mut author, &target, ops);
        }
        let signed: Vec<Vec<u8>> = ops.into_iter().map(|op| author.sign(&target, op)).collect();
        let mut last = None;
        for batch in signed.chunks(OPS_AT_ONCE) {
            for outcome in author::submit(&mut rpc, batch)? {
                match outcome {
                    OpResult::Accepted { seq, time } => last = Some((seq, time)),
                    OpResult::Rejected { code, message } => bail!("rejected ({code}): {message}"),
                }
            }
        }
        let (seq, time) = last.context("the server gave no outcome")?;
        if self.json {
            return print_json(&json!({ "seq": seq, "time": time }));
        }
        println!("accepted: op {seq} at {}", output::time(time));
        Ok(())
    }
}

impl Registrar {
    fn print_quote(
        &self,
        rpc: &mut RpcClient,
        author: &mut Author,
        target: &Target,
        ops: Vec<Op>,
    ) -> anyhow::Result<()> {
        let mut rows = vec![["op", "name", "octets", "RRSIGs", "mana"].map(str::to_owned).to_vec()];
        let mut total = 0_u64;
        for op in ops {
            let (kind, name, rrsigs) = (op.kind().text(), op.name().map(ToString::to_string), op.rrsigs());
            let bytes = author.sign(target, op).len();
            let quote = json!({ "kind": kind, "name": name, "bytes": bytes, "rrsigs": rrsigs });
            let quote: QuoteView = serde_json::from_value(rpc.call("op.quote", quote)?)?;
            total = total.saturating_add(quote.price);
            let name = name.unwrap_or_default();
            rows.push(vec![kind.into(), name, bytes.to_string(), rrsigs.to_string(), quote.price.to_string()]);
        }
        let account = author::account(rpc, &SigilId::from(&author.key.verifying_key()).into())?;
        if self.json {
            return print_json(&json!({ "price": total, "mana": account.mana, "ops": rows.len() - 1 }));
        }
        print!("{}", output::align(&rows));
        let after = match account.mana.checked_sub(total) {
            Some(left) => format!("{left} would be left"),
            None => format!("{} are missing; {} come back an hour", total - account.mana, account.refill_per_hour),
        };
        println!("{total} mana of {}: {after}", account.mana);
        Ok(())
    }
}

/// Ops submitted in one call: a strict name's are up to 300 KB each.
const OPS_AT_ONCE: usize = 8;

/// One command's view of a server, and who writes.
pub(super) struct Session {
    rpc: RpcClient,
    key: Locked<SigningKey>,
    pub(super) target: Target,
    signers: Signers,
}

impl Session {
    /// The set that the sigil's next op makes, if it makes one.
    pub(super) fn next_set(&mut self) -> anyhow::Result<SetId> {
        let id = SigilId::from(&self.key.verifying_key());
        let nonce = author::account(&mut self.rpc, &id.into())?.next_nonce;
        Ok(SetId::of(self.target.registry, id, nonce))
    }

    fn zone(&mut self, name: Name) -> anyhow::Result<Zone> {
        let listed = self.rpc.call_all("record.list", json!({ "name": name.to_string() }))?;
        Zone::new(name, &serde_json::from_value::<Vec<RrsetView>>(listed)?)
    }

    pub(super) fn sign(&self, zone: &Zone, strict: bool, days: u32) -> anyhow::Result<Vec<Op>> {
        zone.sign(strict, &SigilId::from(&self.key.verifying_key()), &self.signers, &self.target, days)
    }
}

pub(super) fn parse_name(text: &str) -> anyhow::Result<Name> {
    Name::from_user(text).with_context(|| format!("{text:?} is not a name"))
}

pub(super) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let octets = crate::node::read_bounded(path).with_context(|| path.display().to_string())?;
    anyhow::ensure!(octets.len() <= 16 * MAX_CONTRACT, "{} is far longer than a contract can be", path.display());
    Ok(octets)
}

fn print_json(value: &Value) -> anyhow::Result<()> {
    println!("{value:#}");
    Ok(())
}
