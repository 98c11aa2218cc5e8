//! `ghostplane guardian`: sets, attestations, co-signatures, recovery.

use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;
use serde_json::json;

use super::author::Call as _;
use super::{Registrar, author, output};
use crate::api::{AttestationView, AttestorView, GuardView, MemberView, SetView};
use crate::op::{Identity, Member, Op, Scope, SetId, SigilId};
use crate::wire::Name;

#[derive(Debug, Subcommand)]
pub enum GuardianCommand {
    /// Makes, shows and changes guardian sets
    #[command(subcommand)]
    Set(SetCommand),
    /// Says who may attest, how high, and how much at once; signed by the operator's sigil
    Attestor {
        /// DID of a sigil or a set
        who: Identity,
        /// Highest level that it may attest; 0 for none from now on
        #[arg(long)]
        max_level: u8,
        /// Sum of the capacities (mana) that it attests at any time
        #[arg(long, default_value_t = 0)]
        quota: u64,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Lists attestors with what is left of their quotas
    Attestors {
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Gives an identity a level for a time
    Attest {
        /// DID of a sigil or a set
        to: Identity,
        #[arg(long)]
        level: u8,
        /// For how long, as in 90days; at most 366days
        #[arg(long, default_value = "90days", value_parser = humantime::parse_duration)]
        lasting: Duration,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Attests the level that an identity has anew, from now on
    Renew {
        to: Identity,
        /// For how long, as in 90days; at most 366days
        #[arg(long, default_value = "90days", value_parser = humantime::parse_duration)]
        lasting: Duration,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Ends a level before its time
    Revoke {
        of: Identity,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Lists whom an attestor has attested
    List {
        /// DID of the attestor [default: the sigil's]
        by: Option<Identity>,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Has a set agree before a name is given away or up, or its guardians change, or to more
    Require {
        name: String,
        /// The set, or `none`
        set: String,
        /// What needs them, too: records, bind, renew. Transfer, release and changes of guardians always do
        #[arg(long, value_delimiter = ',')]
        ops: Vec<Scope>,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Says which set may give a name to another key, and freeze it
    Recovery {
        name: String,
        /// The set, or `none`
        set: String,
        /// For how long the owner can say no, 1day to 90days
        #[arg(long, default_value = "14days", value_parser = humantime::parse_duration)]
        delay: Duration,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Asks for a name to be given to another key; needs the signatures of its recovery set
    Recover {
        name: String,
        /// did:key of the new owner
        #[arg(long)]
        to: SigilId,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Stops the recovery of one's own name
    Veto {
        name: String,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Completes a recovery whose delay is over
    Finish {
        name: String,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Keeps the owner from changing a name; needs the signatures of its recovery set
    Freeze {
        name: String,
        /// For how long; at most 30days
        #[arg(long, default_value = "7days", value_parser = humantime::parse_duration)]
        lasting: Duration,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Ends a freeze; needs the signatures of the recovery set
    Unfreeze {
        name: String,
        #[command(flatten)]
        registrar: Registrar,
    },
}

#[derive(Debug, Subcommand)]
pub enum SetCommand {
    /// Makes a set and prints its DID
    Create {
        /// DID of a member, or DID=WEIGHT; once for each
        #[arg(long = "member", required = true)]
        members: Vec<String>,
        /// Weight that speaks for the set
        #[arg(long)]
        threshold: u32,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Shows a set
    Show {
        set: SetId,
        #[command(flatten)]
        registrar: Registrar,
    },
    /// Gives a set other members; needs the signatures of those it has
    Change {
        set: SetId,
        /// DID of a member, or DID=WEIGHT; once for each
        #[arg(long = "member", required = true)]
        members: Vec<String>,
        /// Weight that speaks for the set
        #[arg(long)]
        threshold: u32,
        #[command(flatten)]
        registrar: Registrar,
    },
}

pub fn run(command: GuardianCommand) -> anyhow::Result<()> {
    match command {
        GuardianCommand::Set(command) => set(command),
        GuardianCommand::Attestor { who, max_level, quota, mut registrar } => {
            registrar.as_operator();
            registrar.write(Op::SetAttestor { who, max_level, quota })
        }
        GuardianCommand::Attestors { registrar } => list_attestors(&registrar),
        GuardianCommand::Attest { to, level, lasting, registrar } => attest(&registrar, to, level, lasting),
        GuardianCommand::Renew { to, lasting, registrar } => {
            let account = author::account(&mut registrar.rpc()?, &to)?;
            attest(&registrar, to, account.level, lasting)
        }
        GuardianCommand::Revoke { of, registrar } => registrar.write(Op::RevokeAttestation { of }),
        GuardianCommand::List { by, registrar } => list_attestations(by, &registrar),
        GuardianCommand::Require { name, set, mut ops, registrar } => {
            ops.sort_unstable();
            ops.dedup();
            registrar.write(Op::RequireCosign { name: parse_name(&name)?, set: parse_set(&set)?, scopes: ops })
        }
        GuardianCommand::Recovery { name, set, delay, registrar } => {
            registrar.write(Op::SetRecovery { name: parse_name(&name)?, set: parse_set(&set)?, delay: delay.as_secs() })
        }
        GuardianCommand::Recover { name, to, registrar } => {
            registrar.write(Op::StartRecovery { name: parse_name(&name)?, to })
        }
        GuardianCommand::Veto { name, registrar } => registrar.write(Op::VetoRecovery { name: parse_name(&name)? }),
        GuardianCommand::Finish { name, registrar } => registrar.write(Op::FinishRecovery { name: parse_name(&name)? }),
        GuardianCommand::Freeze { name, lasting, registrar } => {
            let name = parse_name(&name)?;
            registrar.write_all(|session| {
                Ok(vec![Op::Freeze { name, until: Some(session.target.time.saturating_add(lasting.as_secs())) }])
            })
        }
        GuardianCommand::Unfreeze { name, registrar } => {
            registrar.write(Op::Freeze { name: parse_name(&name)?, until: None })
        }
    }
}

fn set(command: SetCommand) -> anyhow::Result<()> {
    match command {
        SetCommand::Create { members, threshold, registrar } => {
            let members = parse_members(&members)?;
            let mut made = None;
            registrar.write_all(|session| {
                made = Some(session.next_set()?);
                Ok(vec![Op::PutSet { set: None, members, threshold }])
            })?;
            if let Some(set) = made.filter(|_| !registrar.json) {
                println!("{set}");
            }
            Ok(())
        }
        SetCommand::Change { set, members, threshold, registrar } => {
            registrar.write(Op::PutSet { set: Some(set), members: parse_members(&members)?, threshold })
        }
        SetCommand::Show { set, registrar } => show_set(set, &registrar),
    }
}

fn attest(registrar: &Registrar, to: Identity, level: u8, lasting: Duration) -> anyhow::Result<()> {
    registrar.write_all(|session| {
        Ok(vec![Op::Attest { to, level, until: session.target.time.saturating_add(lasting.as_secs()) }])
    })
}

fn show_set(set: SetId, registrar: &Registrar) -> anyhow::Result<()> {
    let shown = registrar.rpc()?.call("set.get", json!({ "set": set.to_string() }))?;
    if registrar.json {
        println!("{shown:#}");
        return Ok(());
    }
    let view: SetView = serde_json::from_value(shown)?;
    let all: u32 = view.members.iter().map(|member| u32::from(member.weight)).sum();
    let mut facts = vec![
        ("set", view.set),
        ("threshold", format!("{} of {all}", view.threshold)),
        ("made by", view.creator),
        ("level", view.account.level.to_string()),
        ("mana", format!("{} of {}", view.account.mana, view.account.capacity)),
        ("last change", format!("op {}", view.changed)),
    ];
    for member in &view.members {
        facts.extend(member_facts(member));
    }
    facts.extend(view.once.into_iter().map(|key| ("counts once", format!("{key} stands in several places"))));
    print!("{}", output::facts(&facts));
    Ok(())
}

fn member_facts(member: &MemberView) -> Vec<(&'static str, String)> {
    let of_set = |threshold: u32| format!(", threshold {threshold}");
    let mut facts = vec![(
        "member",
        format!("{} (weight {}{})", member.who, member.weight, member.threshold.map(of_set).unwrap_or_default()),
    )];
    let inner = member.members.iter().flat_map(member_facts);
    facts.extend(inner.map(|(_, line)| ("", format!("  {line}"))));
    facts
}

fn list_attestors(registrar: &Registrar) -> anyhow::Result<()> {
    let listed = registrar.rpc()?.call_all("attestor.list", json!({}))?;
    if registrar.json {
        println!("{listed:#}");
        return Ok(());
    }
    let mut rows = vec![["max level", "used", "quota", "attestor"].map(str::to_owned).to_vec()];
    for row in serde_json::from_value::<Vec<AttestorView>>(listed)? {
        rows.push(vec![row.max_level.to_string(), row.used.to_string(), row.quota.to_string(), row.who]);
    }
    print!("{}", output::align(&rows));
    Ok(())
}

fn list_attestations(by: Option<Identity>, registrar: &Registrar) -> anyhow::Result<()> {
    let by = match by {
        Some(by) => by,
        None => SigilId::from(&registrar.key()?.verifying_key()).into(),
    };
    let mut rpc = registrar.rpc()?;
    let mut rows: Vec<AttestationView> = Vec::new();
    loop {
        let after = rows.last().map(|row| row.to.clone());
        let page = rpc.call("attestation.list", json!({ "by": by.to_string(), "after": after }))?;
        let page: Vec<AttestationView> = serde_json::from_value(page)?;
        if page.is_empty() {
            break;
        }
        rows.extend(page);
    }
    if registrar.json {
        println!("{:#}", serde_json::to_value(rows)?);
        return Ok(());
    }
    let mut lines = vec![["level", "until", "state", "to"].map(str::to_owned).to_vec()];
    for row in rows {
        let state = if row.live { "live" } else { "ended" };
        lines.push(vec![row.level.to_string(), output::time(row.until), state.to_owned(), row.to]);
    }
    print!("{}", output::align(&lines));
    Ok(())
}

/// What `name show` tells of guardians.
pub fn guard_facts(guard: &GuardView) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if let Some(until) = guard.frozen_until {
        facts.push(("frozen", format!("until {}", output::time(until))));
    }
    if let Some(pending) = &guard.pending {
        let (to, ready) = (&pending.to, output::time(pending.ready));
        let lapses = output::time(pending.lapses);
        facts.push(("recovery to", format!("{to}, from {ready} until {lapses}; `guardian veto` stops it")));
    }
    if let Some(recovery) = &guard.recovery {
        let from = |from: u64| format!(", not before {}", output::time(from));
        let (days, from) = (recovery.delay / 86_400, recovery.start_from.map(from).unwrap_or_default());
        facts.push(("recovered by", format!("{} after {days} days{from}", recovery.set)));
    }
    if let Some(cosign) = &guard.cosign {
        let scopes: String = cosign.scopes.iter().map(|scope| format!(" {scope}")).collect();
        facts.push(("co-signed by", format!("{}: transfer release guardians{scopes}", cosign.set)));
    }
    facts
}

/// What an op of guardians does, for those who are asked to sign it; `None` if it is another op.
pub fn describe(op: &Op) -> Option<Vec<(&'static str, String)>> {
    let set = |set: &Option<SetId>| set.map_or_else(|| "none".to_owned(), |set| set.to_string());
    Some(match op {
        Op::PutSet { set, members, threshold } => {
            let changed = set.map_or_else(|| "a new one".to_owned(), |set| set.to_string());
            let member = |member: &Member| ("member", format!("{} (weight {})", member.who, member.weight));
            let facts = [("set", changed), ("threshold", threshold.to_string())];
            facts.into_iter().chain(members.iter().map(member)).collect()
        }
        Op::SetAttestor { who, max_level, quota } => {
            vec![("attestor", who.to_string()), ("max level", max_level.to_string()), ("quota", quota.to_string())]
        }
        Op::Attest { to, level, until } => {
            vec![("to", to.to_string()), ("level", level.to_string()), ("until", output::time(*until))]
        }
        Op::RevokeAttestation { of } => vec![("of", of.to_string())],
        Op::RequireCosign { set: by, scopes, .. } => {
            let scopes: Vec<&str> = scopes.iter().map(|scope| scope.text()).collect();
            vec![("co-signed by", set(by)), ("what", scopes.join(" "))]
        }
        Op::SetRecovery { set: by, delay, .. } => {
            vec![("recovered by", set(by)), ("delay", format!("{} days", delay / 86_400))]
        }
        Op::StartRecovery { to, .. } => vec![("to", to.to_string())],
        Op::Freeze { until, .. } => {
            vec![(
                "frozen",
                until.map_or_else(|| "no more".to_owned(), |until| format!("until {}", output::time(until))),
            )]
        }
        _ => return None,
    })
}

/// `DID` or `DID=WEIGHT`, in the order that ops have.
fn parse_members(texts: &[String]) -> anyhow::Result<Vec<Member>> {
    let parse = |text: &String| -> anyhow::Result<Member> {
        let (did, weight) = text.split_once('=').unwrap_or((text, "1"));
        let weight = weight.parse().with_context(|| format!("{text:?}: {weight:?} is not a weight"))?;
        Ok(Member { who: did.parse().with_context(|| format!("{did:?}"))?, weight })
    };
    let mut members = texts.iter().map(parse).collect::<anyhow::Result<Vec<_>>>()?;
    members.sort_by_key(|member| member.who);
    Ok(members)
}

/// A set's DID, or `none`.
fn parse_set(text: &str) -> anyhow::Result<Option<SetId>> {
    if text == "none" { Ok(None) } else { Ok(Some(text.parse()?)) }
}

fn parse_name(text: &str) -> anyhow::Result<Name> {
    Name::from_user(text).with_context(|| format!("{text:?} is not a name"))
}
