//! `ghostplane op`: ops that go from hand to hand until all have signed.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::author::{self, Call, OpResult, Target};
use super::{Network, Registrar, guardian, keys, output};
use crate::api::{MemberView, NameView, SetView};
use crate::limits::{MAX_SHARED_OP, MAX_SHARED_OP_LIFETIME};
use crate::op::{Consent, Draft, Identity, Op, OpBody, SigilId};
use crate::state::guardians::{Seat, weigh};
use crate::wire::rdata;

/// How a writing command writes a file in place of the registry.
#[derive(Debug, Clone, Args)]
pub struct DraftArgs {
    /// Write the op to a file, signed by the sigil, for others to sign and submit (`op sign`, `op submit`)
    #[arg(id = "draft_file", long = "draft", value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// DID whose nonce and mana the drafted op takes: a set, or another sigil [default: the sigil's]
    #[arg(id = "draft_author", long = "author", value_name = "DID", requires = "draft_file")]
    author: Option<Identity>,
    /// For how long the drafted op can be signed and submitted; at most 7days
    #[arg(long, default_value = "3days", value_parser = humantime::parse_duration, value_name = "TIME")]
    draft_for: std::time::Duration,
}

#[derive(Debug, Subcommand)]
pub enum OpCommand {
    /// Shows what an op in a file does, who has signed it, and who still has to
    Show {
        file: PathBuf,
        /// Do not ask a server who still has to sign
        #[arg(long)]
        offline: bool,
        #[command(flatten)]
        network: Network,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Adds a signature to an op in a file
    Sign {
        file: PathBuf,
        /// Key file of the sigil that signs
        #[arg(long, env = "GHOSTPLANE_SIGIL")]
        sigil: PathBuf,
        /// File to write [default: FILE]
        #[arg(long, short)]
        out: Option<PathBuf>,
    },
    /// Adds the signatures of other files of the same op
    Join {
        file: PathBuf,
        #[arg(required = true)]
        others: Vec<PathBuf>,
    },
    /// Submits an op in a file
    Submit {
        file: PathBuf,
        #[command(flatten)]
        network: Network,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub fn run(command: OpCommand) -> anyhow::Result<()> {
    match command {
        OpCommand::Show { file, offline, network, json } => {
            let draft = load(&file)?;
            let needs = if offline { None } else { Some(Needs::ask(&mut network.rpc()?, &draft)?) };
            show(&draft, needs.as_ref(), json);
            Ok(())
        }
        OpCommand::Sign { file, sigil, out } => {
            let (mut draft, key) = (load(&file)?, keys::load(&sigil)?);
            draft.sign(&key)?;
            save(out.as_deref().unwrap_or(&file), &draft)?;
            println!("{}", SigilId::from(&key.verifying_key()));
            Ok(())
        }
        OpCommand::Join { file, others } => {
            let mut draft = load(&file)?;
            for other in others {
                draft.join(load(&other)?).with_context(|| other.display().to_string())?;
            }
            save(&file, &draft)
        }
        OpCommand::Submit { file, network, json } => {
            let draft = load(&file)?;
            let outcome = author::submit(&mut network.rpc()?, &[draft.to_bytes()])?.pop();
            match outcome.context("the server gave no outcome")? {
                OpResult::Accepted { seq, time } if json => println!("{:#}", json!({ "seq": seq, "time": time })),
                OpResult::Accepted { seq, time } => println!("accepted: op {seq} at {}", output::time(time)),
                OpResult::Rejected { code, message } => anyhow::bail!("rejected ({code}): {message}"),
            }
            Ok(())
        }
    }
}

impl Registrar {
    /// Writes what would have been submitted to a file.
    pub(super) fn write_draft(
        &self,
        file: &Path,
        rpc: &mut dyn Call,
        target: &Target,
        mut ops: Vec<Op>,
    ) -> anyhow::Result<()> {
        let op = ops.pop().filter(|_| ops.is_empty());
        let op = op.context("this takes several ops, and a file holds one; `name register --unsigned` is one")?;
        let (key, lifetime) = (self.key()?, self.draft.draft_for.as_secs());
        ensure!((1..=MAX_SHARED_OP_LIFETIME).contains(&lifetime), "--draft-for: at most 7days");
        let author = self.draft.author.unwrap_or_else(|| SigilId::from(&key.verifying_key()).into());
        let nonce = author::account(rpc, &author)?.next_nonce;
        let body = OpBody { registry: target.registry, nonce, expires: target.time + lifetime, op };
        let mut draft = Draft::new(author, body);
        draft.sign(&key)?;
        save(file, &draft)?;
        let needs = Needs::ask(rpc, &draft)?;
        show(&draft, Some(&needs), self.json);
        Ok(())
    }
}

fn load(path: &Path) -> anyhow::Result<Draft> {
    let octets = crate::node::read_bounded(path).with_context(|| path.display().to_string())?;
    Draft::open(&octets).with_context(|| path.display().to_string())
}

/// All or nothing: a draft may hold the only copy of others' signatures.
fn save(path: &Path, draft: &Draft) -> anyhow::Result<()> {
    let octets = draft.to_bytes();
    ensure!(octets.len() <= MAX_SHARED_OP, "the op is longer than the {MAX_SHARED_OP} octets that several can sign");
    let beside = PathBuf::from(format!("{}.new", path.display()));
    std::fs::write(&beside, octets).with_context(|| beside.display().to_string())?;
    std::fs::rename(&beside, path).with_context(|| path.display().to_string())
}

/// What the registry wants of an op, as far as signatures go.
struct Needs {
    /// The registry is another one.
    foreign: bool,
    next_nonce: u64,
    sets: Vec<Need>,
}

/// One set that has to agree.
struct Need {
    view: SetView,
    have: u32,
}

impl Needs {
    fn ask(rpc: &mut dyn Call, draft: &Draft) -> anyhow::Result<Self> {
        let target = Target::fetch(rpc)?;
        let next_nonce = author::account(rpc, &draft.author())?.next_nonce;
        let mut sets = Vec::new();
        for set in wanted(rpc, draft)? {
            let view: SetView = serde_json::from_value(rpc.call("set.get", json!({ "set": set }))?)?;
            let have = weight(&view.members, &draft.signers().map(|id| id.to_string()).collect::<Vec<_>>());
            sets.push(Need { view, have });
        }
        Ok(Self { foreign: draft.body().registry != target.registry, next_nonce, sets })
    }

    fn are_met(&self, draft: &Draft) -> bool {
        let author = draft.author().sigil();
        let signed = author.is_none_or(|author| draft.signers().any(|signer| signer == author));
        signed && self.sets.iter().all(|need| need.have >= need.view.threshold)
    }
}

/// The sets whose signatures the op needs.
fn wanted(rpc: &mut dyn Call, draft: &Draft) -> anyhow::Result<Vec<String>> {
    let op = &draft.body().op;
    let mut sets: Vec<String> = match (draft.author(), op) {
        (Identity::Set(set), _) => vec![set.to_string()],
        _ => Vec::new(),
    };
    if let Op::PutSet { set: Some(set), .. } = op {
        sets.push(set.to_string());
    }
    // A name that is not there yet has no guardians.
    let name = op.name().and_then(|name| rpc.call("name.get", json!({ "name": name.to_string() })).ok());
    let name: Option<NameView> = name.map(serde_json::from_value).transpose()?;
    if let Some(guard) = name.and_then(|name| name.guard) {
        let by_set = matches!(op, Op::StartRecovery { .. } | Op::Freeze { .. });
        let by_anyone = matches!(op, Op::VetoRecovery { .. } | Op::FinishRecovery { .. });
        let covers = |scopes: &[String]| {
            op.actions().iter().any(|action| match action.consent() {
                Consent::Always => true,
                Consent::In(scope) => scopes.contains(&scope.to_string()),
                Consent::Never => false,
            })
        };
        sets.extend(guard.recovery.filter(|_| by_set).map(|recovery| recovery.set));
        let cosign = guard.cosign.filter(|cosign| !by_set && !by_anyone && covers(&cosign.scopes));
        sets.extend(cosign.map(|cosign| cosign.set));
    }
    sets.sort();
    sets.dedup();
    Ok(sets)
}

fn weight(members: &[MemberView], signers: &[String]) -> u32 {
    let key = |member: &MemberView| (member.who.clone(), member.weight);
    let seat = |member: &MemberView| match member.threshold {
        Some(threshold) => {
            let keys = member.members.iter().filter(|inner| inner.threshold.is_none()).map(key).collect();
            (Seat::Set { threshold, keys }, member.weight)
        }
        None => (Seat::Key(member.who.clone()), member.weight),
    };
    weigh(&members.iter().map(seat).collect::<Vec<_>>(), signers)
}

fn show(draft: &Draft, needs: Option<&Needs>, as_json: bool) {
    let body = draft.body();
    let signers: Vec<String> = draft.signers().map(|id| id.to_string()).collect();
    let intact = draft.check_signatures().is_ok();
    if as_json {
        let sets = |needs: &Needs| needs.sets.iter().map(need_json).collect::<Vec<_>>();
        let told = json!({
            "op": body.op.kind().text(),
            "does": describe(&body.op).into_iter().map(|(key, value)| (key.to_owned(), value.into())).collect::<serde_json::Map<_, _>>(),
            "author": draft.author().to_string(),
            "nonce": body.nonce,
            "expires": body.expires,
            "registry": body.registry.to_string(),
            "signers": signers,
            "signatures_verify": intact,
            "needs": needs.map(sets),
            "complete": needs.map(|needs| needs.are_met(draft)),
        });
        println!("{told:#}");
        return;
    }
    let mut facts = vec![("op", body.op.kind().text().to_owned())];
    facts.extend(describe(&body.op));
    facts.push(("author", draft.author().to_string()));
    facts.push(("nonce", nonce(body, needs)));
    facts.push(("expires", output::time(body.expires)));
    facts.push(("registry", registry(body, needs)));
    facts.extend(signers.into_iter().map(|signer| ("signed by", signer)));
    if !intact {
        facts.push(("warning", "a signature does not verify: the op will be rejected".to_owned()));
    }
    if let Some(needs) = needs {
        facts.extend(missing(draft, needs).into_iter().map(|line| ("needs", line)));
        let state = if needs.are_met(draft) { "complete: `op submit` it" } else { "not yet complete" };
        facts.push(("state", state.to_owned()));
    }
    print!("{}", output::facts(&facts));
}

fn need_json(need: &Need) -> Value {
    json!({ "set": need.view.set, "have": need.have, "need": need.view.threshold })
}

fn nonce(body: &OpBody, needs: Option<&Needs>) -> String {
    match needs {
        Some(needs) if needs.next_nonce != body.nonce => {
            format!("{}; the author's next one is {}: draft it again", body.nonce, needs.next_nonce)
        }
        _ => body.nonce.to_string(),
    }
}

fn registry(body: &OpBody, needs: Option<&Needs>) -> String {
    let foreign = needs.is_some_and(|needs| needs.foreign);
    format!("{}{}", body.registry, if foreign { "; not the one that was asked" } else { "" })
}

/// Who still has to sign: a line for each.
fn missing(draft: &Draft, needs: &Needs) -> Vec<String> {
    let signers: Vec<String> = draft.signers().map(|id| id.to_string()).collect();
    let author = draft.author().to_string();
    let mut lines = Vec::new();
    if draft.author().sigil().is_some() && !signers.contains(&author) {
        lines.push(format!("{author}, the author"));
    }
    for Need { view, have } in needs.sets.iter().filter(|need| need.have < need.view.threshold) {
        lines.push(format!("weight {} more of {} from {}:", view.threshold - have, view.threshold, view.set));
        let open = |member: &&MemberView| weight(std::slice::from_ref(*member), &signers) == 0;
        lines.extend(view.members.iter().filter(open).map(|member| format!("  {} ({})", member.who, member.weight)));
    }
    lines
}

/// What an op does, for those who are asked to sign it.
fn describe(op: &Op) -> Vec<(&'static str, String)> {
    let mut facts: Vec<(&str, String)> = op.name().map(|name| ("name", name.to_string())).into_iter().collect();
    match op {
        Op::Transfer { to, .. } => facts.push(("to", to.to_string())),
        Op::Register { years, .. } | Op::Renew { years, .. } => facts.push(("years", years.to_string())),
        Op::PutRecords { rrsets, .. } => {
            for rrset in rrsets {
                let data = rrset.rdata.iter().map(|data| rdata::to_text(rrset.rtype, data));
                facts.extend(data.map(|data| ("puts", format!("{} {} {data}", rrset.owner, rrset.rtype))));
            }
        }
        Op::DeleteRecords { keys, .. } => {
            facts.extend(keys.iter().map(|key| ("deletes", format!("{} {}", key.owner, key.rtype))));
        }
        Op::BindContract { contract, parameters, .. } => {
            facts.push(("contract", contract.map_or_else(|| "the TLD's default".to_owned(), |hash| hash.to_string())));
            facts.push(("parameters", String::from_utf8_lossy(parameters).into_owned()));
        }
        Op::Release { .. } | Op::VetoRecovery { .. } | Op::FinishRecovery { .. } => {}
        other => match guardian::describe(other) {
            Some(told) => facts.extend(told),
            // What is of no concern to guardians is told as it is.
            None => facts.push(("fields", format!("{other:?}"))),
        },
    }
    facts
}
