//! `ghostplane zone import`: many names at once, in batches, and again until all of it is there.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use anyhow::Context as _;
use ed25519_dalek::SigningKey;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::author::{self, Author, Call, OpResult, Target};
use super::client::RpcClient;
use super::signing::Signers;
use super::{Registrar, keys, output, owner};
use crate::api::{AccountView, NameView, RrsetView};
use crate::limits::SUBMIT_OPS;
use crate::op::{Op, SigilId};
use crate::state::{LEVELS, MAX_LEVEL};
use crate::wire::{Name, Rrset, Rtype};
use crate::zone::community::{Plan, PlannedName, Refused, batches, plan_json, plan_master};

/// Ops in one request: enough to fill a commit, few enough to show progress.
const BATCH: usize = 256;
const _: () = assert!(BATCH <= SUBMIT_OPS);
/// Times that ops are signed anew because an earlier one of the same owner was rejected.
const PASSES: usize = 5;
/// A code that asks for another try: nonce, busy.
const AGAIN: [u16; 2] = [200, 900];

#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// Master file, or JSON lines {"name", "owner", "records"}
    file: PathBuf,
    /// TLD that names are registered under
    #[arg(long, default_value = "ghost")]
    tld: String,
    /// Folder of the owners' keys; those that are missing are made [default: DATA/import-keys]
    #[arg(long)]
    keys: Option<PathBuf>,
    /// Key of the registry's operator, who grants new owners their mana [default: DATA/operator.pem]
    #[arg(long)]
    operator: Option<PathBuf>,
    /// Seconds, for records of JSON lines
    #[arg(long, default_value_t = 3600)]
    ttl: u32,
    /// Days for which RRSIGs are valid
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    valid_days: u32,
    /// File to list every refused record in, as JSON lines
    #[arg(long)]
    report: Option<PathBuf>,
    /// Plan and report only
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    registrar: Registrar,
}

/// One op that is still to be accepted.
struct Task {
    owner: u64,
    about: Name,
    op: Op,
}

/// Runs the import; `Ok(false)` if the server refused something that the plan had let pass.
pub fn run(args: &ImportArgs) -> anyhow::Result<bool> {
    let tld = Name::from_user(&args.tld).with_context(|| format!("--tld {:?}", args.tld))?;
    let mut plan = read_plan(args, &tld)?;
    let planned = plan.names.iter().map(|name| name.rrsets.len()).sum::<usize>();
    eprintln!("{} names with {planned} RRsets to import, {} records refused", plan.names.len(), plan.refused.len());
    let by_plan = plan.refused.len();
    if !args.dry_run {
        Import::begin(args)?.run(&mut plan)?;
    }
    report(args, &plan.refused)?;
    Ok(plan.refused.len() == by_plan)
}

fn read_plan(args: &ImportArgs, tld: &Name) -> anyhow::Result<Plan> {
    let shown = args.file.display().to_string();
    let octets = crate::node::read_bounded(&args.file).with_context(|| shown.clone())?;
    let tlds = crate::node::built_in_tlds()?;
    let policy = tlds.iter().find(|known| known.apex == *tld).map(|known| &known.policy);
    let policy = policy.with_context(|| format!("--tld: {tld} is not one of our TLDs"))?;
    if octets.trim_ascii_start().first() == Some(&b'{') {
        let text = std::str::from_utf8(&octets).with_context(|| format!("{shown} is not UTF-8"))?;
        return Ok(plan_json(text, tld, policy, args.ttl));
    }
    Ok(plan_master(&octets, tld, policy))
}

struct Import<'a> {
    args: &'a ImportArgs,
    rpc: RpcClient,
    target: Target,
    keys: HashMap<u64, SigningKey>,
}

impl<'a> Import<'a> {
    fn begin(args: &'a ImportArgs) -> anyhow::Result<Self> {
        let mut rpc = args.registrar.rpc()?;
        let target = Target::fetch(&mut rpc)?;
        Ok(Self { args, rpc, target, keys: HashMap::new() })
    }

    fn run(mut self, plan: &mut Plan) -> anyhow::Result<()> {
        self.load_keys(&plan.names)?;
        let mut tasks = self.tasks(plan)?;
        let all = tasks.len();
        eprintln!("{all} ops to sign; what is there already is left as it is");
        self.fund(&tasks)?;
        let progress = progress_bar(all as u64);
        for _ in 0..PASSES {
            let before = tasks.len();
            tasks = self.pass(tasks, plan, &progress)?;
            if tasks.is_empty() || tasks.len() == before {
                break;
            }
            // Rejected ops used no nonce, so the ones behind them must be signed again.
            self.target = Target::fetch(&mut self.rpc)?;
        }
        progress.finish_and_clear();
        for task in &tasks {
            refuse(plan, &task.about, "the server kept asking for another try".to_owned());
        }
        eprintln!("{} ops accepted, {} refused by the server", all - tasks.len(), tasks.len());
        Ok(())
    }

    fn load_keys(&mut self, names: &[PlannedName]) -> anyhow::Result<()> {
        let folder = self.args.keys.clone().unwrap_or_else(|| self.args.registrar.network.data.join("import-keys"));
        std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        for owner in names.iter().map(|name| name.owner) {
            if self.keys.contains_key(&owner) {
                continue;
            }
            let key = match owner {
                // A master file names no owners: its names are the sigil's.
                0 => self.args.registrar.key()?,
                _ => keys::load_or_create(&folder.join(format!("owner-{owner}.pem")))?,
            };
            self.keys.insert(owner, SigningKey::clone(&key));
        }
        Ok(())
    }

    fn id(&self, owner: u64) -> SigilId {
        SigilId::from(&self.keys[&owner].verifying_key())
    }

    /// What is missing on the server.
    fn tasks(&mut self, plan: &mut Plan) -> anyhow::Result<Vec<Task>> {
        let known: HashMap<String, NameView> =
            owner::all_names(&mut self.rpc)?.into_iter().map(|name| (name.name.clone(), name)).collect();
        let names = plan.names.clone();
        let mut tasks = Vec::new();
        for planned in &names {
            let mut rrsets = self.with_keys(planned);
            match known.get(&planned.name.to_string()) {
                Some(found) if found.owner != self.id(planned.owner).to_string() => {
                    refuse(plan, &planned.name, format!("registered already by {}", found.owner));
                    continue;
                }
                Some(found) if found.rrsets > 0 => rrsets = self.missing(&planned.name, rrsets)?,
                Some(_) => {}
                None => {
                    let op = Op::Register { name: planned.name.clone(), years: 1 };
                    tasks.push(Task { owner: planned.owner, about: planned.name.clone(), op });
                }
            }
            tasks.extend(self.put_tasks(planned, &rrsets));
        }
        Ok(tasks)
    }

    /// The planned RRsets that the server does not have as they are planned.
    fn missing(&mut self, name: &Name, planned: Vec<Rrset>) -> anyhow::Result<Vec<Rrset>> {
        let listed = self.rpc.call_all("record.list", json!({ "name": name.to_string() }))?;
        let there: Vec<RrsetView> = serde_json::from_value(listed)?;
        let same = |rrset: &Rrset| {
            let wanted = RrsetView::from(rrset);
            there.iter().any(|found| RrsetView { rrsigs: Vec::new(), signed_until: None, ..found.clone() } == wanted)
        };
        Ok(planned.into_iter().filter(|rrset| !same(rrset)).collect())
    }

    /// Its own keys make the name a signed zone, unless it is delegated elsewhere.
    fn with_keys(&self, planned: &PlannedName) -> Vec<Rrset> {
        let delegated = planned.rrsets.iter().any(|rrset| rrset.rtype == Rtype::NS && rrset.owner == planned.name);
        let keys = || self.signers(planned).zone_keys(&planned.name, &self.target.online, false);
        let keys = (!delegated).then(keys).into_iter().flatten();
        planned.rrsets.iter().cloned().chain(keys).collect()
    }

    fn signers(&self, planned: &PlannedName) -> Signers {
        Signers::new(&self.keys[&planned.owner], Vec::new())
    }

    fn put_tasks(&self, planned: &PlannedName, rrsets: &[Rrset]) -> Vec<Task> {
        let (name, signers) = (&planned.name, self.signers(planned));
        let sign = |rrset: &Rrset| signers.sign(name, rrset, self.target.time, self.args.valid_days);
        let put = |batch: &[Rrset]| Op::put(name.clone(), batch.iter().map(sign).collect());
        batches(rrsets).map(|batch| Task { owner: planned.owner, about: name.clone(), op: put(batch) }).collect()
    }

    /// Has the operator grant every owner enough mana for what is to come.
    fn fund(&mut self, tasks: &[Task]) -> anyhow::Result<()> {
        let mut needs: BTreeMap<u64, u64> = BTreeMap::new();
        for task in tasks {
            *needs.entry(task.owner).or_default() += self.price(&task.op);
        }
        let owners: Vec<u64> = needs.keys().copied().collect();
        let mut grants = Vec::new();
        for (owner, account) in owners.iter().zip(self.accounts(&owners)?) {
            let need = needs[owner];
            if account.mana >= need {
                continue;
            }
            let level = (0..=MAX_LEVEL).find(|level| LEVELS[usize::from(*level)] >= need).unwrap_or(MAX_LEVEL);
            let level = level.max(account.level);
            grants.push(Op::GrantMana { to: self.id(*owner), level, amount: need });
        }
        if grants.is_empty() {
            return Ok(());
        }
        eprintln!("{} owners need mana", grants.len());
        self.grant(grants)
    }

    fn grant(&mut self, grants: Vec<Op>) -> anyhow::Result<()> {
        let default = self.args.registrar.network.data.join("operator.pem");
        let path = self.args.operator.clone().unwrap_or(default);
        let key = keys::load(&path).context("owners need mana; give the operator's key with --operator FILE")?;
        let mut operator = Author::fetch(key, &mut self.rpc)?;
        for batch in grants.chunks(BATCH) {
            let ops: Vec<Vec<u8>> = batch.iter().map(|op| operator.sign(&self.target, op.clone())).collect();
            for outcome in author::submit(&mut self.rpc, &ops)? {
                if let OpResult::Rejected { code, message } = outcome {
                    anyhow::bail!("grant rejected ({code}): {message}");
                }
            }
        }
        Ok(())
    }

    /// An upper bound of an op's price: its base price at most that of a registration, and its octets.
    fn price(&self, op: &Op) -> u64 {
        let bytes = match op {
            Op::PutRecords { rrsets, .. } => {
                rrsets.iter().map(|rrset| 2 * rrset.owner.as_wire().len() + rrset.bytes() + 64).sum()
            }
            _ => 0_usize,
        };
        let base = if matches!(op, Op::Register { .. }) { 100 } else { 5 };
        // Writing may become dearer while the import goes on.
        2 * (base + 2 + (bytes as u64 + 512) / 1_024 + op.rrsigs() as u64)
    }

    fn accounts(&mut self, owners: &[u64]) -> anyhow::Result<Vec<AccountView>> {
        let mut accounts = Vec::with_capacity(owners.len());
        for page in owners.chunks(crate::api::PAGE) {
            let dids: Vec<String> = page.iter().map(|owner| self.id(*owner).to_string()).collect();
            let found: Vec<AccountView> =
                serde_json::from_value(self.rpc.call("account.list", json!({ "dids": dids }))?)?;
            anyhow::ensure!(
                found.len() == page.len(),
                "the server told of {} accounts, not {}",
                found.len(),
                page.len()
            );
            accounts.extend(found);
        }
        Ok(accounts)
    }

    /// Signs and submits every task once; gives those to be tried again.
    fn pass(&mut self, tasks: Vec<Task>, plan: &mut Plan, progress: &ProgressBar) -> anyhow::Result<Vec<Task>> {
        let mut owners: Vec<u64> = tasks.iter().map(|task| task.owner).collect();
        owners.sort_unstable();
        owners.dedup();
        let accounts = self.accounts(&owners)?;
        let mut authors: HashMap<u64, Author> = HashMap::new();
        for (owner, account) in owners.iter().zip(accounts) {
            let author = Author { key: self.keys[owner].clone().into(), next_nonce: account.next_nonce };
            authors.insert(*owner, author);
        }
        let mut again = Vec::new();
        let mut tasks = tasks.into_iter().peekable();
        while tasks.peek().is_some() {
            let batch: Vec<Task> = tasks.by_ref().take(BATCH).collect();
            let sign = |task: &Task| {
                // Every task's owner is among the authors.
                authors
                    .get_mut(&task.owner)
                    .map(|author| author.sign(&self.target, task.op.clone()))
                    .unwrap_or_default()
            };
            let ops: Vec<Vec<u8>> = batch.iter().map(sign).collect();
            let outcomes = author::submit(&mut self.rpc, &ops).context("the import stopped half-way; run it again")?;
            for (task, outcome) in batch.into_iter().zip(outcomes) {
                match outcome {
                    OpResult::Accepted { .. } => progress.inc(1),
                    OpResult::Rejected { code, .. } if AGAIN.contains(&code) => again.push(task),
                    OpResult::Rejected { code, message } => {
                        refuse(plan, &task.about, format!("rejected by the server ({code}): {message}"));
                    }
                }
            }
        }
        Ok(again)
    }
}

fn refuse(plan: &mut Plan, name: &Name, reason: String) {
    plan.refused.push(Refused { line: 0, name: name.to_string(), rtype: "*".to_owned(), reason });
}

fn progress_bar(length: u64) -> ProgressBar {
    let bar = ProgressBar::new(length);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} ops, {per_sec}, {eta} left");
    // The template is our own, and right.
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// Lists what was refused: by reason for people, every record for programs and in the report file.
fn report(args: &ImportArgs, refused: &[Refused]) -> anyhow::Result<()> {
    if let Some(path) = &args.report {
        let lines: Vec<String> = refused.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
        std::fs::write(path, lines.join("\n") + "\n").with_context(|| path.display().to_string())?;
    }
    if args.registrar.json {
        println!("{:#}", serde_json::to_value(refused)?);
        return Ok(());
    }
    let row = |refused: &Refused| {
        vec![refused.line.to_string(), refused.name.clone(), refused.rtype.clone(), refused.reason.clone()]
    };
    print!("{}", output::align(&refused.iter().map(row).collect::<Vec<_>>()));
    Ok(())
}
