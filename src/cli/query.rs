//! `ghostplane query`: a dig that speaks every transport.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::client::{ClientError, Connection, Target, dev_port};
use super::clock::unix_time;
use super::{Network, output};
use crate::dnssec::PublicKey;
use crate::dnssec::chain::Chain;
use crate::dnssec::validate::{Anchors, Ask, Report, Verdict, validate};
use crate::limits::{QUERY_PAD_BLOCK, UDP_PAYLOAD};
use crate::op::SigilId;
use crate::wire::master::Reader;
use crate::wire::{
    CLASS_IN, ClientSubnet, EdeCode, Message, MessageRecord, Name, OPT_CLIENT_SUBNET, Rcode, Rtype, Scope, Subnet,
    Transport, push_opt_record, push_option, push_padding, rdata,
};

/// Asks one question and prints the answer
#[derive(Debug, clap::Args)]
pub struct QueryArgs {
    /// Name to ask for
    name: String,
    /// Record type
    #[arg(default_value = "A")]
    rtype: Rtype,
    /// Transport: udp (and TCP for what is truncated), tcp, tls, quic, https (HTTP/2) or h3
    #[arg(long, default_value = "quic")]
    via: Transport,
    #[command(flatten)]
    network: Network,
    /// Ask for DNSSEC signatures (DO)
    #[arg(long)]
    dnssec: bool,
    /// Check the answer from the trust anchor down, and tell each step
    #[arg(long)]
    validate: bool,
    /// Accept only what the owner's key signed: no answer that the gateway could have made up; checks as --validate
    #[arg(long)]
    require_owner: bool,
    /// Accept only what this sigil (did:key) signed, whoever the TLD says the owner is; implies --require-owner
    #[arg(long)]
    owner: Option<SigilId>,
    /// Trust anchors, DS or DNSKEY records in master file form [default: DATA/anchors.ds]
    #[arg(long)]
    anchor: Option<PathBuf>,
    /// Asks nobody: checks what a DNSSEC chain says, as a gateway serves it at https://SERVER/chain/NAME/TYPE
    #[arg(long, conflicts_with_all = ["via", "server", "dnssec"])]
    chain: Option<PathBuf>,
    /// Ask for whoever has this address or prefix (EDNS Client Subnet); `0.0.0.0/0` asks not to be told apart
    #[arg(long)]
    subnet: Option<Subnet>,
    /// Write the answer's receipt to a file, for `receipt verify`; it is made anew, over HTTPS: --via https or h3
    #[arg(long, value_name = "FILE", conflicts_with = "chain")]
    receipt: Option<PathBuf>,
    /// Print the data of the answer section only
    #[arg(long, conflicts_with = "json")]
    short: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command; `Ok(false)` if an answer came but with an error code, or one that is not to be trusted.
///
/// # Errors
/// No answer came, or it is not one to this question.
pub fn run(args: &QueryArgs) -> anyhow::Result<bool> {
    let name = Name::from_user(&args.name).with_context(|| format!("{:?} is not a name", args.name))?;
    anyhow::ensure!(
        args.receipt.is_none() || matches!(args.via, Transport::Https | Transport::H3),
        "receipts come over HTTPS: ask with --via https or --via h3"
    );
    let checks = args.validate || args.require_owner || args.owner.is_some() || args.chain.is_some();
    let anchors = checks.then(|| read_anchors(args)).transpose()?;
    let Outcome { reply, report, source } = match (&args.chain, anchors) {
        (Some(path), anchors) => read_chain(path, &name, args.rtype, &anchors.unwrap_or_default())?,
        (None, anchors) => ask_server(args, &name, anchors)?,
    };
    if args.json {
        let mut value = as_json(&reply);
        if let Some(Report { verdict, steps, .. }) = &report {
            value["validation"] = json!({ "verdict": verdict.text(), "steps": steps });
        }
        println!("{value:#}");
    } else if args.short {
        let shown = reply.sections[0].iter().filter(|record| record.rtype != Rtype::RRSIG || args.dnssec);
        shown.for_each(|record| println!("{}", rdata::to_text(record.rtype, &record.rdata)));
    } else {
        print!("{}", as_text(&reply));
        if let Some(Report { verdict, steps, .. }) = &report {
            println!("\n;; VALIDATION: {}", verdict.text());
            steps.iter().for_each(|step| println!(";; - {step}"));
        }
        println!("\n{source}");
        name.to_unicode().iter().for_each(|unicode| println!(";; {name} is {unicode}"));
    }
    if let Some(path) = &args.receipt {
        receipt(args, &name, path)?;
    }
    let trusted = report.is_none_or(|report| is_trusted(args, &name, &report));
    Ok(trusted && [0, 3].contains(&reply.rcode()))
}

/// Fetches the receipt of the answer, checks what can be checked without executing, and writes it.
fn receipt(args: &QueryArgs, name: &Name, path: &Path) -> anyhow::Result<()> {
    use super::author::Call as _;
    let mut rpc = super::client::RpcClient::connect(&args.network.target(dev_port(Transport::Https), true)?)?;
    let client = args.subnet.map(|subnet| if subnet.bits() == 0 { "none".to_owned() } else { subnet.to_string() });
    let params = json!({ "name": name.to_string(), "type": args.rtype.to_string(), "client": client });
    let reply = rpc.call("answer.receipt", params)?;
    let octets = data_encoding::BASE64.decode(reply["receipt"].as_str().unwrap_or_default().as_bytes())?;
    let receipt = crate::contract::receipt::open(&octets).context("the server's receipt")?;
    std::fs::write(path, &octets).with_context(|| path.display().to_string())?;
    let executions = receipt.receipt().runs.len();
    eprintln!("{}: {executions} executions, signed by {}", path.display(), receipt.gateway());
    Ok(())
}

/// An answer, what validation makes of it, and where it came from.
struct Outcome {
    reply: Message,
    report: Option<Report>,
    source: String,
}

fn ask_server(args: &QueryArgs, name: &Name, anchors: Option<Anchors>) -> anyhow::Result<Outcome> {
    let target = args.network.target(dev_port(args.via), args.via.is_encrypted())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut asker = Asker { runtime, via: args.via, target, subnet: args.subnet };
    let begun = Instant::now();
    let (reply, via) = asker.exchange(name, args.rtype, args.dnssec || anchors.is_some())?;
    let elapsed = begun.elapsed().as_secs_f64() * 1e3;
    let report = anchors.map(|anchors| validate(&reply, &anchors, unix_time(), &mut asker)).transpose()?;
    let Target { addr, host, .. } = &asker.target;
    let (ip, port, via, size) = (addr.ip(), addr.port(), via.text(), reply.size);
    let source =
        format!(";; Query time: {elapsed:.1} ms\n;; Server: {ip}#{port} ({host}, {via})\n;; Size: {size} octets");
    Ok(Outcome { reply, report, source })
}

fn read_chain(path: &Path, name: &Name, rtype: Rtype, anchors: &Anchors) -> anyhow::Result<Outcome> {
    let shown = path.display();
    let octets = crate::node::read_bounded(path).with_context(|| shown.to_string())?;
    let chain = Chain::parse(&octets).with_context(|| format!("{shown} is not a DNSSEC chain"))?;
    let (reply, report) = chain.validate(name, rtype, anchors, unix_time());
    let source = format!(";; Chain: {shown}, {} octets; nobody was asked", octets.len());
    Ok(Outcome { reply, report: Some(report), source })
}

fn is_trusted(args: &QueryArgs, name: &Name, report: &Report) -> bool {
    let by_owner = report.verdict == Verdict::SecureByOwner;
    let held = |owner: &SigilId| {
        let wanted = owner.key().map(|key| PublicKey::of_sigil(&key));
        report.keys.get(&name.suffix(2)).zip(wanted).is_some_and(|(keys, wanted)| keys.contains(&wanted))
    };
    match &args.owner {
        _ if report.verdict == Verdict::Bogus => eprintln!("bogus: do not believe this answer"),
        Some(owner) if by_owner && held(owner) => return true,
        Some(owner) => eprintln!("not signed by {owner}"),
        None if args.require_owner && !by_owner => {
            eprintln!("{}: not signed by the owner, who alone is believed with --require-owner", report.verdict.text());
        }
        None => return true,
    }
    false
}

fn read_anchors(args: &QueryArgs) -> anyhow::Result<Anchors> {
    let path = args.anchor.clone().unwrap_or_else(|| args.network.data.join("anchors.ds"));
    let shown = path.display();
    let text = crate::node::read_bounded(&path)
        .with_context(|| format!("{shown}; give the trust anchors with --anchor FILE (`zone anchor` prints them)"))?;
    // Anchors are written without a TTL as often as with one.
    let text = [b"$TTL 0\n", &text[..]].concat();
    let mut anchors = Anchors::default();
    for record in Reader::new(&text, Name::root()) {
        let record = record.map_err(|error| anyhow::anyhow!("{shown}: line {}: {}", error.line - 1, error.kind))?;
        anchors.add(record.owner, record.rtype, record.rdata);
    }
    anyhow::ensure!(!anchors.is_empty(), "{shown} holds no DS or DNSKEY record");
    Ok(anchors)
}

/// One server, asked over one transport.
struct Asker {
    runtime: tokio::runtime::Runtime,
    via: Transport,
    target: Target,
    subnet: Option<Subnet>,
}

impl Asker {
    /// The reply to this question, and the transport that it came over.
    fn exchange(&self, name: &Name, rtype: Rtype, dnssec_ok: bool) -> anyhow::Result<(Message, Transport)> {
        let message = message_for(name, rtype, dnssec_ok, self.via.is_encrypted(), self.subnet);
        let (reply, via) = self.runtime.block_on(ask(self.via, &self.target, &message))?;
        let reply = Message::parse(&reply).context("the server's answer is malformed")?;
        check(&reply, name, rtype)?;
        Ok((reply, via))
    }
}

impl Ask for Asker {
    type Error = anyhow::Error;

    fn ask(&mut self, name: &Name, rtype: Rtype) -> anyhow::Result<Message> {
        Ok(self.exchange(name, rtype, true)?.0)
    }
}

/// A query message with ID 0 and EDNS, padded on encrypted transports (RFC 8467 §4.1).
pub fn message(name: &Name, rtype: Rtype, dnssec_ok: bool, padded: bool) -> Vec<u8> {
    message_for(name, rtype, dnssec_ok, padded, None)
}

fn message_for(name: &Name, rtype: Rtype, dnssec_ok: bool, padded: bool, subnet: Option<Subnet>) -> Vec<u8> {
    let mut message = vec![0, 0, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(name.as_wire());
    message.extend_from_slice(&rtype.0.to_be_bytes());
    message.extend_from_slice(&CLASS_IN.to_be_bytes());
    let mut options = Vec::new();
    if let Some(subnet) = subnet {
        // What a response has, without a scope, is what a query has (RFC 7871 §6).
        push_option(&mut options, OPT_CLIENT_SUBNET, &ClientSubnet::of(subnet).response(Scope::default()));
    }
    if padded {
        push_padding(&mut options, message.len() + 11, QUERY_PAD_BLOCK);
    } else {
        // An empty NSID request costs nothing and tells which server of a fleet answered (RFC 5001).
        push_option(&mut options, 3, b"");
    }
    push_opt_record(&mut message, UDP_PAYLOAD, 0, dnssec_ok, &options);
    message
}

async fn ask(via: Transport, target: &Target, message: &[u8]) -> Result<(Vec<u8>, Transport), ClientError> {
    let connection = Connection::open(via, target).await?;
    let asked = timeout(target.timeout, connection.exchange(message)).await;
    let reply = asked.map_err(|_| ClientError::Timeout(target.addr))??;
    let truncated = reply.get(2).is_some_and(|flags| flags & 0x02 != 0);
    if via == Transport::Udp && truncated {
        return Box::pin(ask(Transport::Tcp, target, message)).await;
    }
    Ok((reply, via))
}

fn check(reply: &Message, name: &Name, rtype: Rtype) -> anyhow::Result<()> {
    anyhow::ensure!(reply.flags & 0x8000 != 0, "the server sent a query back");
    if let Some((asked, asked_type)) = &reply.question {
        anyhow::ensure!(asked == name && *asked_type == rtype, "the answer is to {asked} {asked_type}");
    }
    Ok(())
}

const FLAGS: [(u16, &str); 7] =
    [(0x8000, "qr"), (0x0400, "aa"), (0x0200, "tc"), (0x0100, "rd"), (0x0080, "ra"), (0x0020, "ad"), (0x0010, "cd")];

fn flag_names(flags: u16) -> Vec<&'static str> {
    FLAGS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect()
}

fn as_text(reply: &Message) -> String {
    let mut text = format!(";; status: {}, flags: {}\n", Rcode::text(reply.rcode()), flag_names(reply.flags).join(" "));
    // Writing to a String cannot fail.
    if let Some(opt) = &reply.opt {
        let padding = opt.options.iter().find(|(code, _)| *code == 12).map_or(0, |(_, data)| data.len());
        let dnssec = if opt.dnssec_ok { " do" } else { "" };
        let _ = writeln!(text, ";; EDNS: version {}, udp {},{dnssec} padding {padding}", opt.version, opt.udp_payload);
    }
    for (code, words) in reply.extended_errors() {
        let _ = writeln!(
            text,
            ";; EDE: {code} ({}){}{words}",
            EdeCode::text(code),
            if words.is_empty() { "" } else { ": " }
        );
    }
    if let Some((name, rtype)) = &reply.question {
        let _ = writeln!(text, "\n;; QUESTION\n;{name} IN {rtype}");
    }
    for (title, records) in ["ANSWER", "AUTHORITY", "ADDITIONAL"].iter().zip(&reply.sections) {
        if !records.is_empty() {
            let rows: Vec<Vec<String>> = records.iter().map(row).collect();
            let _ = write!(text, "\n;; {title}\n{}", output::align(&rows));
        }
    }
    text
}

fn row(record: &MessageRecord) -> Vec<String> {
    let data = rdata::to_text(record.rtype, &record.rdata);
    vec![record.owner.to_string(), record.ttl.to_string(), "IN".into(), record.rtype.to_string(), data]
}

/// Field names of RFC 8427 where it has one.
fn as_json(reply: &Message) -> Value {
    let record = |record: &MessageRecord| {
        json!({
            "NAME": record.owner.to_string(), "TYPE": record.rtype.0, "TYPEname": record.rtype.to_string(),
            "CLASS": record.class, "TTL": record.ttl, "rdata": rdata::to_text(record.rtype, &record.rdata),
        })
    };
    let section = |at: usize| reply.sections[at].iter().map(record).collect::<Vec<_>>();
    let errors = reply.extended_errors().into_iter().map(|(code, text)| json!({ "code": code, "text": text }));
    json!({
        "RCODE": reply.rcode(), "RCODEname": Rcode::text(reply.rcode()), "flags": flag_names(reply.flags),
        "QNAME": reply.question.as_ref().map(|(name, _)| name.to_string()),
        "QTYPE": reply.question.as_ref().map(|(_, rtype)| rtype.0),
        "answerRRs": section(0), "authorityRRs": section(1), "additionalRRs": section(2),
        "extendedErrors": errors.collect::<Vec<_>>(), "size": reply.size,
    })
}
