//! `ghostplane receipt`, and calls that give one.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use data_encoding::{BASE64, HEXLOWER};
use serde_json::{Value as Json, json};

use super::author::Call as _;
use super::client::{self, RpcClient, dev_port};
use super::{Network, Registrar, output};
use crate::contract::receipt::{Asked, Of, OpenReceipt, Read, Run, Task, Value, open};
use crate::contract::{ContractHost, HostConfig};
use crate::limits::MAX_RECEIPT;
use crate::node::SHIPPED;
use crate::op::{CodeHash, SigilId};
use crate::wire::{Name, Rrset, Subnet, Transport, rdata};

#[derive(Debug, Subcommand)]
pub enum ReceiptCommand {
    /// Executes everything again from the receipt and the code alone; fails unless the same comes out
    Verify {
        file: PathBuf,
        /// did:key that must have signed it [default: any]
        #[arg(long)]
        gateway: Option<SigilId>,
        /// Contract file; may stand several times. Those that are shipped are known
        #[arg(long)]
        code: Vec<PathBuf>,
        /// Fetch code that is not given from the server; its hash is checked
        #[arg(long)]
        fetch: bool,
        #[command(flatten)]
        network: Network,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Prints what a receipt says, after checking its signature
    Show {
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub fn run(command: ReceiptCommand) -> anyhow::Result<bool> {
    match command {
        ReceiptCommand::Show { file, json } => {
            let receipt = load(&file)?;
            show(&receipt, json);
            Ok(true)
        }
        ReceiptCommand::Verify { file, gateway, code, fetch, network, json } => {
            let receipt = load(&file)?;
            if let Some(gateway) = gateway.filter(|gateway| *gateway != receipt.gateway()) {
                bail!("signed by {}, not by {gateway}", receipt.gateway());
            }
            let mut known: Vec<Vec<u8>> = SHIPPED.iter().map(|(_, code)| code.to_vec()).collect();
            for path in &code {
                known.push(crate::node::read_bounded(path).with_context(|| path.display().to_string())?);
            }
            if fetch {
                fetch_missing(&receipt, &network, &mut known)?;
            }
            let find = |hash: &CodeHash| known.iter().find(|code| CodeHash::of(code) == *hash).cloned();
            let host = HostConfig { schedule: receipt.schedule()?, ..HostConfig::default() };
            receipt.replay(&ContractHost::new(host)?, find)?;
            show(&receipt, json);
            if !json {
                println!("\nverified: executed again, the same came out");
            }
            Ok(true)
        }
    }
}

fn load(path: &Path) -> anyhow::Result<OpenReceipt> {
    let shown = || path.display().to_string();
    let octets = crate::node::read_bounded(path).with_context(shown)?;
    anyhow::ensure!(octets.len() <= MAX_RECEIPT, "{} is longer than a receipt can be", shown());
    open(&octets).with_context(shown)
}

fn fetch_missing(receipt: &OpenReceipt, network: &Network, known: &mut Vec<Vec<u8>>) -> anyhow::Result<()> {
    let mut rpc = RpcClient::connect(&network.target(dev_port(Transport::Https), true)?)?;
    for run in &receipt.receipt().runs {
        if known.iter().any(|code| CodeHash::of(code) == run.contract) {
            continue;
        }
        let shown = rpc.call("contract.get", json!({ "hash": run.contract.to_string() }))?;
        let code = BASE64.decode(shown["code"].as_str().unwrap_or_default().as_bytes())?;
        anyhow::ensure!(CodeHash::of(&code) == run.contract, "the server sent other code than {}", run.contract);
        known.push(code);
    }
    Ok(())
}

fn show(opened: &OpenReceipt, json: bool) {
    let receipt = opened.receipt();
    let asked = match &receipt.asked {
        Asked::Question { name, rtype } => format!("{name} {rtype}"),
        Asked::Call { name } => format!("call of {name}"),
    };
    if json {
        let runs: Vec<Json> = receipt.runs.iter().map(|run| run_json(opened, run)).collect();
        let value = json!({
            "gateway": opened.gateway().to_string(), "registry": receipt.registry.to_string(), "seq": receipt.seq,
            "time": receipt.time, "asked": asked, "executions": runs,
        });
        println!("{value:#}");
        return;
    }
    print!(
        "{}",
        output::facts(&[
            ("asked", asked),
            ("time", output::time(receipt.time)),
            ("gateway", opened.gateway().to_string()),
            ("registry", receipt.registry.to_string()),
            ("sequence", receipt.seq.to_string()),
        ])
    );
    for (at, run) in receipt.runs.iter().enumerate() {
        println!("\nexecution {}: {}", at + 1, task(&run.task));
        println!("  contract {}\n  fuel {}", run.contract, run.fuel);
        for read in &run.reads {
            let changed = if read.changed > 0 { format!(" (changed by op {})", read.changed) } else { String::new() };
            println!("  read {}{changed}: {}", of(&read.of), read_text(opened, read).join("; "));
        }
        value_text(&run.outcome).iter().for_each(|line| println!("  {line}"));
    }
}

fn run_json(opened: &OpenReceipt, run: &Run) -> Json {
    let reads = run.reads.iter().map(|read| {
        let value = read_text(opened, read);
        json!({ "of": of(&read.of), "hash": HEXLOWER.encode(&read.value), "changed": read.changed, "value": value })
    });
    json!({
        "contract": run.contract.to_string(), "task": task(&run.task), "fuel": run.fuel, "until": run.until,
        "reads": reads.collect::<Vec<_>>(), "outcome": value_text(&run.outcome),
    })
}

fn task(task: &Task) -> String {
    match task {
        Task::Resolve { name, rtype, zone } => format!("{name} {rtype} in {zone}"),
        Task::Call { input, fuel } => format!("call with {} octets, at most {fuel} fuel", input.len()),
    }
}

fn of(of: &Of) -> String {
    match of {
        Of::Lookup { name, rtype } => format!("{name} {rtype}"),
        Of::Zone => "zone".into(),
        Of::OwnerKey => "owner's key".into(),
        Of::BoundContract => "bound contract".into(),
        Of::BoundWorlds => "its worlds".into(),
        Of::Parameters => "parameters".into(),
        Of::Now => "time".into(),
        Of::ClientSubnet { v4, v6 } => format!("client's /{v4} or /{v6}"),
    }
}

fn read_text(opened: &OpenReceipt, read: &Read) -> Vec<String> {
    match (&read.of, opened.value(read)) {
        (Of::Zone, Value::Octets(wire)) => {
            Name::from_wire(wire).map_or_else(|_| Vec::new(), |name| vec![name.to_string()])
        }
        (Of::ClientSubnet { .. }, Value::Octets(key)) => {
            let subnet = key.as_slice().try_into().ok().and_then(Subnet::from_key);
            subnet.map_or_else(Vec::new, |subnet| vec![subnet.to_string()])
        }
        (_, value) => value_text(value),
    }
}

fn value_text(value: &Value) -> Vec<String> {
    let records = |word: &str, rrsets: &[Rrset]| -> Vec<String> {
        let line = |rrset: &Rrset, data: &[u8]| {
            format!("{word}{} {} {} {}", rrset.owner, rrset.ttl, rrset.rtype, rdata::to_text(rrset.rtype, data))
        };
        rrsets.iter().flat_map(|rrset| rrset.rdata.iter().map(|data| line(rrset, data))).collect()
    };
    match value {
        Value::Nothing => vec!["none".into()],
        Value::Number(number) => vec![number.to_string()],
        Value::Octets(octets) => vec![match std::str::from_utf8(octets) {
            Ok(text) if !text.chars().any(|char| char.is_control() && char != '\n') => format!("{text:?}"),
            _ => HEXLOWER.encode(octets),
        }],
        Value::Records(rrsets) => records("", rrsets),
        Value::Alias(rrsets) => records("alias ", rrsets),
        Value::Delegation(rrsets) => records("delegation ", rrsets),
        Value::NoData => vec!["no data".into()],
        Value::NxDomain => vec!["no such name".into()],
        Value::Failed { kind, words } => vec![format!("failed: {kind} {words}")],
    }
}

/// `contract call`; `false` if the program failed.
pub(super) fn call(
    registrar: &Registrar,
    name: &str,
    input: Vec<u8>,
    gas: Option<u64>,
    receipt: Option<&Path>,
    h2: bool,
) -> anyhow::Result<bool> {
    let via = if h2 { Transport::Https } else { Transport::H3 };
    let target = registrar.network.target(dev_port(via), true)?;
    let gas = gas.map(|gas| format!("gas={gas}"));
    let wants = receipt.map(|_| "receipt=1".to_owned());
    let query: Vec<String> = gas.into_iter().chain(wants).collect();
    let path = format!("/v1/call/{name}?{}", query.join("&"));
    let (status, body) = client::post_octets(&target, h2, &path, input)?;
    let reply: Json = serde_json::from_slice(&body)
        .map_err(|_| anyhow::anyhow!("{}: {}", status.as_u16(), String::from_utf8_lossy(&body).trim()))?;
    if let (Some(path), Some(octets)) = (receipt, reply["receipt"].as_str()) {
        let octets = BASE64.decode(octets.as_bytes())?;
        open(&octets).context("the server's receipt")?;
        std::fs::write(path, octets).with_context(|| path.display().to_string())?;
    }
    if registrar.json {
        println!("{reply:#}");
    } else if let Some(output) = reply["output"].as_str() {
        use std::io::Write as _;
        std::io::stdout().write_all(&BASE64.decode(output.as_bytes())?)?;
        println!();
        eprintln!("fuel {}, contract {}", reply["fuel"], reply["contract"].as_str().unwrap_or_default());
    } else {
        eprintln!("failed: {}", reply["failure"]["text"].as_str().unwrap_or("the server gave no reason"));
    }
    Ok(reply.get("output").is_some())
}
