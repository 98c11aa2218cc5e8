//! `ghostplane log`, and the history of a name.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::{Args, Subcommand};
use data_encoding::BASE64;
use serde_json::{Value, json};

use super::author::Call as _;
use super::client::RpcClient;
use super::clock::unix_time;
use super::{Network, Registrar, keys, output};
use crate::api::log::{ConsistencyView, HistoryView, ProofView, hashes, leaf_of};
use crate::api::{GasView, InfoView, LoadView, LogView};
use crate::audit::audit;
use crate::gateway::Tlds;
use crate::limits::MAX_NOTE;
use crate::node::{self, SHIPPED};
use crate::notary::{self, check_continues};
use crate::op::{self, GasPolicy, LoadPolicy, Op, RegistryId};
use crate::registry::examine;
use crate::tlog::{
    Checkpoint, Frontier, Hash, Leaf, Note, ProofFile, Purpose, Rows, Tile, VerifierKey, leaf_hash, verify_consistency,
    verify_inclusion,
};

#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Lists ops
    Show {
        /// First sequence number
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// Ops at most
        #[arg(long, default_value_t = 50)]
        limit: u64,
        #[command(flatten)]
        reader: Reader,
    },
    /// Fetches the log's checkpoint and checks its signature
    Checkpoint {
        /// The newest one that enough witnesses have signed
        #[arg(long)]
        witnessed: bool,
        #[command(flatten)]
        reader: Reader,
    },
    /// Fetches the proof that an op is in the log, and checks it
    Proof {
        /// The op's sequence number
        seq: u64,
        /// File to write the proof to (C2SP tlog-proof)
        #[arg(long)]
        out: Option<PathBuf>,
        #[command(flatten)]
        reader: Reader,
    },
    /// Recomputes every table, the tree and the index from the log and says which row differs: of a stopped server's
    /// store in --data, which stays as it is. With --server, fetches the log of a running one and checks every op and the
    /// tree against the signed checkpoint. Exit code 1 if anything is wrong
    Verify(VerifyArgs),
    /// Sets the log's time right after ops were accepted under a clock that was ahead: of what is written next, the time is
    /// the server's again. What stands in the log stays. With the operator's key
    AmendTime(Registrar),
    /// Acts as a witness: checks that the log of a server continues what this witness has seen of it, and signs that
    Witness(WitnessArgs),
}

/// A server's log, and the key that its checkpoints must be signed with.
#[derive(Debug, Clone, Args)]
pub struct Reader {
    #[command(flatten)]
    network: Network,
    /// Key of the log, NAME+ID+KEY [default: DATA/log.vkey]
    #[arg(long, env = "GHOSTPLANE_LOG_KEY")]
    log_key: Option<VerifierKey>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// HOST or HOST:PORT of a running server whose log is checked
    #[arg(long)]
    server: Option<String>,
    /// PEM file of the CA that signed the server's certificate [default: DATA/ca.pem]
    #[arg(long, env = "GHOSTPLANE_CA")]
    ca: Option<PathBuf>,
    /// Name that the certificate must be for [default: HOST]
    #[arg(long)]
    tls_hostname: Option<String>,
    /// Data directory
    #[arg(long, env = "GHOSTPLANE_DATA", default_value = "ghostplane-data")]
    data: PathBuf,
    /// Key of the log, NAME+ID+KEY [default: DATA/log.vkey]
    #[arg(long, env = "GHOSTPLANE_LOG_KEY")]
    log_key: Option<VerifierKey>,
    /// Folder of the TLDs and their policies that the ops were accepted under [default: the four that come with the
    /// program]
    #[arg(long)]
    zones: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct WitnessArgs {
    /// Name of this witness, such as example.org/w1
    #[arg(long)]
    name: String,
    /// Key file of this witness; made if there is none. It must sign nothing else
    #[arg(long)]
    key: PathBuf,
    /// Print the witness's verifier key, for the log's operator, and stop
    #[arg(long)]
    show_key: bool,
    /// File that remembers the last checkpoint that was signed
    #[arg(long, default_value = "witness.checkpoint")]
    state: PathBuf,
    /// Seconds between two looks; once if left out
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    every: Option<u64>,
    #[command(flatten)]
    reader: Reader,
}

pub fn run(command: LogCommand) -> anyhow::Result<bool> {
    match command {
        LogCommand::Show { from, limit, reader } => show(from, limit, &reader).map(|()| true),
        LogCommand::Checkpoint { witnessed, reader } => checkpoint(witnessed, &reader).map(|()| true),
        LogCommand::Proof { seq, out, reader } => proof(seq, out.as_deref(), &reader).map(|()| true),
        LogCommand::Verify(args) => verify(args),
        LogCommand::AmendTime(registrar) => amend_time(registrar).map(|()| true),
        LogCommand::Witness(args) => witness(&args).map(|()| true),
    }
}

impl Reader {
    fn rpc(&self) -> anyhow::Result<RpcClient> {
        RpcClient::connect(&self.network.target(crate::server::Ports::default().https, true)?)
    }

    fn log_key(&self) -> anyhow::Result<VerifierKey> {
        match &self.log_key {
            Some(key) => Ok(key.clone()),
            None => load_log_key(&self.network.data),
        }
    }
}

fn load_log_key(data: &Path) -> anyhow::Result<VerifierKey> {
    let path = data.join("log.vkey");
    let text = std::fs::read_to_string(&path);
    let text = text.with_context(|| format!("{}; give the log's key with --log-key", path.display()))?;
    text.trim_end().parse().with_context(|| path.display().to_string())
}

/// Fetches a checkpoint by its path and checks that the log has signed it.
fn fetch_checkpoint(rpc: &mut RpcClient, path: &str, key: &VerifierKey) -> anyhow::Result<(Note, Checkpoint)> {
    let octets = rpc.get(path)?;
    signed_checkpoint(&octets, key).with_context(|| format!("the server's {path}"))
}

fn signed_checkpoint(octets: &[u8], key: &VerifierKey) -> anyhow::Result<(Note, Checkpoint)> {
    let note = Note::parse(octets)?;
    note.verify(std::slice::from_ref(key))?;
    let checkpoint: Checkpoint = note.text.parse()?;
    ensure!(checkpoint.origin == key.name(), "a checkpoint of {}, not of {}", checkpoint.origin, key.name());
    Ok((note, checkpoint))
}

/// An op that may be earlier than the one before it, and one that begins the epoch of gas anew.
fn amend_time(mut registrar: Registrar) -> anyhow::Result<()> {
    let mut rpc = registrar.rpc()?;
    let load: LoadView = serde_json::from_value(rpc.call("mana.load", Value::Null)?)?;
    let gas: GasView = serde_json::from_value(rpc.call("gas.info", Value::Null)?)?;
    let LoadView { window_seconds: window, target, highest, .. } = load;
    let gateways = gas.gateways.iter().map(|did| did.parse()).collect::<Result<Vec<_>, _>>()?;
    let GasView { epoch_seconds: epoch, free, most, target: at, lowest, highest: dearest, .. } = gas;
    let policy = GasPolicy { epoch, free, most, target: at, lowest, highest: dearest };
    registrar.as_operator();
    let ops = vec![Op::SetLoad { policy: LoadPolicy { window, target, highest } }, Op::SetGas { policy, gateways }];
    registrar.write_all(|_| Ok(ops))
}

fn show(from: u64, limit: u64, reader: &Reader) -> anyhow::Result<()> {
    let mut rpc = reader.rpc()?;
    let registry = registry_id(&mut rpc)?;
    let mut views: Vec<LogView> = Vec::new();
    while (views.len() as u64) < limit {
        let next = views.last().map_or(from.max(1), |view| view.seq + 1);
        let left = limit - views.len() as u64;
        let page: Vec<LogView> = serde_json::from_value(rpc.call("log.get", json!({ "from": next, "limit": left }))?)?;
        if page.is_empty() {
            break;
        }
        views.extend(page);
    }
    if reader.json {
        return print_json(&serde_json::to_value(views)?);
    }
    let rows: anyhow::Result<Vec<_>> = views.iter().map(|view| Ok(row(view, &decode(view, registry)?))).collect();
    print!("{}", output::align(&rows?));
    Ok(())
}

fn registry_id(rpc: &mut RpcClient) -> anyhow::Result<RegistryId> {
    let info: InfoView = serde_json::from_value(rpc.call("registry.info", Value::Null)?)?;
    let id = Hash::from_hex(&info.registry).context("the server's registry id is not 64 hex digits")?;
    Ok(RegistryId(id.0))
}

/// The op, after checking everything that can be checked without the state.
fn decode(view: &LogView, registry: RegistryId) -> anyhow::Result<op::VerifiedOp> {
    let octets = BASE64.decode(view.op.as_bytes()).context("the server's answer is not base64")?;
    op::verify(&octets, registry, view.time).with_context(|| format!("op {}", view.seq))
}

fn row(view: &LogView, op: &op::VerifiedOp) -> Vec<String> {
    let about = op.op().name().map(ToString::to_string).unwrap_or_default();
    let kind = op.op().kind().text().to_owned();
    vec![view.seq.to_string(), output::time(view.time), kind, about, op.author().to_string()]
}

fn checkpoint(witnessed: bool, reader: &Reader) -> anyhow::Result<()> {
    let path = if witnessed { "/log/checkpoint/witnessed" } else { "/log/checkpoint" };
    let (note, checkpoint) = fetch_checkpoint(&mut reader.rpc()?, path, &reader.log_key()?)?;
    if reader.json {
        let signatures: Vec<&str> = note.signatures.iter().map(|signature| signature.name.as_str()).collect();
        return print_json(&json!({
            "origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.to_string(),
            "signatures": signatures, "note": note.to_string(),
        }));
    }
    print!("{note}");
    Ok(())
}

fn proof(seq: u64, out: Option<&Path>, reader: &Reader) -> anyhow::Result<()> {
    let (mut rpc, key) = (reader.rpc()?, reader.log_key()?);
    let (note, checkpoint) = fetch_checkpoint(&mut rpc, "/log/checkpoint", &key)?;
    let proof = rpc.call("log.proof", json!({ "seq": seq, "size": checkpoint.size }))?;
    let proof: ProofView = serde_json::from_value(proof)?;
    let path = hashes(&proof.proof).context("the server's proof is not one of hashes")?;
    let entry: Vec<LogView> = serde_json::from_value(rpc.call("log.get", json!({ "from": seq, "limit": 1 }))?)?;
    let entry = entry.first().filter(|entry| entry.seq == seq).context("the server did not give the op")?;
    let op = decode(entry, RegistryId(registry_of(&key)?))?;
    let leaf = leaf_of(entry).context("the server's answer is not base64")?;
    let file = ProofFile { index: seq.saturating_sub(1), path, checkpoint: note };
    file.verify(leaf, &key)?;
    if let Some(out) = out {
        std::fs::write(out, file.to_string()).with_context(|| out.display().to_string())?;
    }
    if reader.json {
        return print_json(&json!({
            "seq": seq, "size": checkpoint.size, "root": checkpoint.root.to_string(), "leaf": leaf.to_string(),
            "proof": proof.proof, "op": entry,
        }));
    }
    let facts = [
        ("op", row(entry, &op).join("  ")),
        ("leaf", leaf.to_string()),
        ("tree", format!("{} ops, root {}", checkpoint.size, checkpoint.root)),
        ("log", checkpoint.origin),
        ("proof", format!("{} hashes, verified", file.path.len())),
    ];
    print!("{}", output::facts(&facts));
    Ok(())
}

/// The registry that a log is of: the end of its name.
fn registry_of(key: &VerifierKey) -> anyhow::Result<[u8; 32]> {
    let id = key.name().rsplit('/').next().and_then(Hash::from_hex);
    Ok(id.with_context(|| format!("{} is not the log of a registry", key.name()))?.0)
}

/// `ghostplane name history`.
pub fn history(name: &str, reader: &Reader) -> anyhow::Result<()> {
    let (mut rpc, key) = (reader.rpc()?, reader.log_key()?);
    let registry = RegistryId(registry_of(&key)?);
    let (_, checkpoint) = fetch_checkpoint(&mut rpc, "/log/checkpoint", &key)?;
    let (mut rows, mut all, mut next) = (Vec::new(), Vec::new(), 1);
    loop {
        let page = rpc.call("name.history", json!({ "name": name, "from": next, "size": checkpoint.size }))?;
        let page: HistoryView = serde_json::from_value(page)?;
        let Some(last) = page.ops.last() else { break };
        ensure!(last.op.seq >= next, "the server repeats itself");
        next = last.op.seq + 1;
        for proven in &page.ops {
            let seq = proven.op.seq;
            let leaf = leaf_of(&proven.op).context("the server's answer is not base64")?;
            let path = hashes(&proven.proof).context("the server's proof is not one of hashes")?;
            let included = verify_inclusion(leaf, seq.saturating_sub(1), checkpoint.size, &path, checkpoint.root);
            ensure!(included, "op {seq}: its proof does not lead to the checkpoint");
            let mut row = row(&proven.op, &decode(&proven.op, registry)?);
            row.push(format!("in the log ({} hashes)", path.len()));
            rows.push(row);
        }
        all.extend(page.ops);
    }
    if reader.json {
        return print_json(&json!({
            "name": name, "size": checkpoint.size, "root": checkpoint.root.to_string(), "ops": all,
        }));
    }
    print!("{}", output::align(&rows));
    println!("{} ops, each proven to be in the log of {} ops, root {}", rows.len(), checkpoint.size, checkpoint.root);
    Ok(())
}

fn verify(args: VerifyArgs) -> anyhow::Result<bool> {
    match args.server {
        Some(server) => {
            let VerifyArgs { ca, tls_hostname, data, log_key, json, .. } = args;
            let network = Network { server, ca, tls_hostname, timeout: 30, data };
            verify_server(&Reader { network, log_key, json }).map(|()| true)
        }
        None => verify_store(&args),
    }
}

fn verify_store(args: &VerifyArgs) -> anyhow::Result<bool> {
    let examined = examine(&args.data.join("registry.redb"))?;
    let registry = examined.registry;
    let tlds = args.zones.as_ref().map_or_else(node::built_in_tlds, |folder| node::load_tlds(folder))?;
    let shipped = SHIPPED.iter().map(|(_, wasm)| wasm.to_vec());
    let rules = Tlds::new(tlds, shipped, registry.genesis().operator);
    let mut found = audit(&registry, &rules, &mut |_| {})?;
    if !examined.intact {
        found.wrong.push("the store's bookkeeping is not as it was last written".to_owned());
    }
    if !examined.newest {
        let reason = "the newest commit is torn or damaged: what is told is the store as it was before it";
        found.wrong.push(reason.to_owned());
    }
    let signed = check_signed(&args.data, args.log_key.as_ref(), &registry)?;
    found.wrong.extend(signed.wrong);
    let clean = found.is_clean();
    if args.json {
        print_json(&json!({
            "ops": found.ops, "rows": found.rows, "root": found.root.to_string(), "wrong": found.wrong,
            "more": found.untold, "checkpoint": signed.size, "clean": clean,
        }))?;
        return Ok(clean);
    }
    found.wrong.iter().for_each(|sentence| println!("{sentence}"));
    if found.untold > 0 {
        println!("and {} more", found.untold);
    }
    let signed = signed.size.map_or_else(|| "none".to_owned(), |size| format!("for {size} ops"));
    let facts = [
        ("log", format!("{} ops, root {}", found.ops, found.root)),
        ("rows", found.rows.to_string()),
        ("signed", signed),
        (
            "store",
            if clean { "clean".to_owned() } else { format!("{} wrong", found.wrong.len() as u64 + found.untold) },
        ),
    ];
    print!("{}", output::facts(&facts));
    Ok(clean)
}

/// What the checkpoints beside a store say of it.
struct Signed {
    /// Ops that the last one was signed for.
    size: Option<u64>,
    wrong: Vec<String>,
}

/// Checks the store against the checkpoints that were signed: a store that is whole but older is found by them only.
fn check_signed(
    data: &Path,
    key: Option<&VerifierKey>,
    registry: &crate::registry::Registry,
) -> anyhow::Result<Signed> {
    let mut signed = Signed { size: None, wrong: Vec::new() };
    let snapshot = registry.snapshot()?;
    for file in ["log.checkpoint", "log.witnessed"] {
        let path = data.join(file);
        let octets = match std::fs::read(&path) {
            Ok(octets) => octets,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let key = key.map_or_else(|| load_log_key(data), |key| Ok(key.clone()))?;
        match signed_checkpoint(octets.get(..=MAX_NOTE).unwrap_or(&octets), &key) {
            Ok((_, checkpoint)) => {
                signed.size = signed.size.max(Some(checkpoint.size));
                let wrong = check_continues(&path, &checkpoint, &snapshot).err();
                signed.wrong.extend(wrong.map(|error| error.to_string()));
            }
            Err(error) => signed.wrong.push(format!("{}: {error:#}", path.display())),
        }
    }
    Ok(signed)
}

fn verify_server(reader: &Reader) -> anyhow::Result<()> {
    let (mut rpc, key) = (reader.rpc()?, reader.log_key()?);
    let registry = RegistryId(registry_of(&key)?);
    let (_, checkpoint) = fetch_checkpoint(&mut rpc, "/log/checkpoint", &key)?;
    let mut frontier = Frontier::default();
    for index in 0.. {
        let Some(tile) = Tile::at(Rows::Entries, index, checkpoint.size) else { break };
        let bundle = rpc.get(&format!("/log/{}", tile.path()))?;
        let mut rest = &bundle[..];
        for _ in 0..tile.width {
            let (leaf, tail) = split_entry(rest).with_context(|| format!("{} ends early", tile.path()))?;
            rest = tail;
            check_entry(&mut rpc, frontier.size() + 1, leaf, registry)?;
            frontier.push(leaf_hash(leaf), |_, _, _| {});
        }
        ensure!(rest.is_empty(), "{} is too long", tile.path());
    }
    let (size, root) = (checkpoint.size, frontier.root());
    ensure!(root == checkpoint.root, "the {size} ops have the root {root}, the checkpoint says {}", checkpoint.root);
    if reader.json {
        return print_json(&json!({ "ops": size, "root": root.to_string(), "clean": true }));
    }
    let facts = [("log", format!("{size} ops, root {root}")), ("signed", format!("by {}", checkpoint.origin))];
    print!("{}", output::facts(&facts));
    println!("every op is signed by its author, and the tree over them is that of the signed checkpoint");
    Ok(())
}

fn split_entry(bundle: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bundle.split_first_chunk()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// Checks the op of a leaf; one that stands there by its hash is fetched.
fn check_entry(rpc: &mut RpcClient, seq: u64, leaf: &[u8], registry: RegistryId) -> anyhow::Result<()> {
    let (time, op) = match Leaf::parse(leaf).with_context(|| format!("leaf {seq} is not one"))? {
        Leaf::Whole { time, op } => (time, op),
        Leaf::Digest { time, hash, octets } => {
            let op = rpc.get(&format!("/log/op/{seq}"))?.to_vec();
            ensure!(op.len() as u64 == octets && op::CodeHash::of(&op) == hash, "op {seq} is not that of its leaf");
            (time, op)
        }
    };
    op::verify(&op, registry, time).map(drop).with_context(|| format!("op {seq}"))
}

fn witness(args: &WitnessArgs) -> anyhow::Result<()> {
    let key = keys::load_or_create(&args.key)?;
    let verifier = VerifierKey::new(&args.name, Purpose::Cosignature, &key.verifying_key());
    let verifier = verifier.with_context(|| format!("{:?} is not a name: no spaces, no +", args.name))?;
    if args.show_key {
        println!("{verifier}");
        return Ok(());
    }
    loop {
        let looked = look(args, &key);
        match args.every {
            None => return looked,
            Some(seconds) => {
                // The next look may find the server again.
                looked.unwrap_or_else(|error| output::print_error(&error));
                std::thread::sleep(Duration::from_secs(seconds));
            }
        }
    }
}

/// Fetches what is offered, checks that it continues what was signed before, remembers it, signs it and sends that.
fn look(args: &WitnessArgs, key: &ed25519_dalek::SigningKey) -> anyhow::Result<()> {
    let (mut rpc, log) = (args.reader.rpc()?, args.reader.log_key()?);
    let (mut note, offered) = fetch_checkpoint(&mut rpc, "/log/checkpoint/offered", &log)?;
    let shown = || args.state.display().to_string();
    let before = match std::fs::read(&args.state) {
        Ok(octets) => Some(signed_checkpoint(&octets, &log).with_context(shown)?.1),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(shown),
    };
    if let Some(before) = &before {
        check_consistency(&mut rpc, before, &offered)?;
    }
    // First remembered, then signed: a crash in between must not leave a signature that is forgotten.
    notary::write(&args.state, note.to_string().as_bytes())?;
    let signature = note.cosign(&args.name, key, unix_time());
    note.signatures.push(signature);
    rpc.post("/log/add-cosignatures", "text/plain; charset=utf-8", note.to_string().into())?;
    let grown = offered.size - before.as_ref().map_or(0, |before| before.size);
    if args.reader.json {
        return print_json(&json!({ "size": offered.size, "root": offered.root.to_string(), "grown": grown }));
    }
    println!("signed: {} ops, {grown} more than before, root {}", offered.size, offered.root);
    Ok(())
}

fn check_consistency(rpc: &mut RpcClient, before: &Checkpoint, offered: &Checkpoint) -> anyhow::Result<()> {
    if offered.size < before.size {
        bail!("the log had {} ops and offers {}: it lost some, or hides them", before.size, offered.size);
    }
    let proof = rpc.call("log.consistency", json!({ "from": before.size, "to": offered.size }))?;
    let proof: ConsistencyView = serde_json::from_value(proof)?;
    let path = hashes(&proof.proof).context("the server's proof is not one of hashes")?;
    ensure!(
        verify_consistency(before.size, before.root, offered.size, offered.root, &path),
        "the log of {} ops does not continue the one of {} ops that was signed before: it has two histories",
        offered.size,
        before.size
    );
    Ok(())
}

fn print_json(value: &Value) -> anyhow::Result<()> {
    println!("{value:#}");
    Ok(())
}
