//! The command line: a client of the API, and the operator's tool.

mod anchor;
pub mod author;
mod bench;
mod certificates;
pub mod client;
pub mod clock;
mod control;
mod covenant;
mod custody;
mod discovery;
mod draft;
mod guardian;
mod import;
pub mod keys;
mod ledger;
mod life;
mod log;
mod output;
mod owner;
pub mod query;
mod receipt;
mod ring;
mod serve;
pub mod signing;
mod top;
mod trial;
mod update_key;
mod workshop;
mod zone;

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};

use client::{RpcClient, Target};

use crate::dnssec::{FLAGS_OWNER, ZoneKey};
use crate::locked::{self, Locked};

/// A name-resolution gateway for .ghost, .sig, .gcc and .bc, answered by WebAssembly contracts
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
struct Cli {
    /// File whose first line is the passphrase of key files: those that are made are encrypted with it
    #[arg(long, global = true, env = "GHOSTPLANE_PASSPHRASE_FILE")]
    passphrase_file: Option<PathBuf>,
    /// File that tells the time in place of the system: seconds since 1970, read anew each time; for rehearsals with
    /// `serve --dev`
    #[arg(long, global = true, value_name = "FILE", env = "GHOSTPLANE_CLOCK")]
    clock: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway
    Serve(serve::ServeArgs),
    /// Asks one question over any transport and prints the answer
    Query(query::QueryArgs),
    /// Makes, shows, imports and exports keys
    #[command(subcommand)]
    Sigil(owner::SigilCommand),
    /// Registers, shows, renews, transfers and releases names
    #[command(subcommand)]
    Name(owner::NameCommand),
    /// Sets, lists and deletes records
    #[command(subcommand)]
    Record(owner::RecordCommand),
    /// Builds, checks, deploys and binds contracts
    #[command(subcommand)]
    Contract(owner::ContractCommand),
    /// Shows and binds covenants, programs that allow or deny writes
    #[command(subcommand)]
    Covenant(covenant::CovenantCommand),
    /// Shows receipts of answers, and executes them again
    #[command(subcommand)]
    Receipt(receipt::ReceiptCommand),
    /// Shows and grants mana, the budget that writes are paid from
    #[command(subcommand)]
    Mana(owner::ManaCommand),
    /// Shows, pays, mints and sets aside tokens
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Shows, proves, verifies and witnesses the log of all ops
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Guardian sets: attest identities, co-sign, recover names, freeze them
    #[command(subcommand)]
    Guardian(guardian::GuardianCommand),
    /// Shows, signs and submits ops that several have to sign
    #[command(subcommand)]
    Op(draft::OpCommand),
    /// Checks zone files and policies, and imports names in bulk
    #[command(subcommand)]
    Zone(zone::ZoneCommand),
    /// Loads a server with queries and prints throughput and latency
    Bench(bench::BenchArgs),
    /// Shows what a server does now: rates, latencies, connections
    Top(top::TopArgs),
}

/// How to reach a server and trust it.
#[derive(Debug, Clone, Args)]
struct Network {
    /// HOST or HOST:PORT of the server
    #[arg(long, default_value = "127.0.0.1")]
    server: String,
    /// PEM file of the CA that signed the server's certificate [default: DATA/ca.pem]
    #[arg(long, env = "GHOSTPLANE_CA")]
    ca: Option<PathBuf>,
    /// Name that the certificate must be for [default: HOST]
    #[arg(long)]
    tls_hostname: Option<String>,
    /// Seconds to wait for an answer
    #[arg(long, default_value_t = 5)]
    timeout: u32,
    /// Data directory of `serve --dev`, where ca.pem and dev.pem are
    #[arg(long, env = "GHOSTPLANE_DATA", default_value = "ghostplane-data")]
    data: PathBuf,
}

impl Network {
    fn target(&self, default_port: u16, tls: bool) -> anyhow::Result<Target> {
        let (host, addr) = self.resolve(default_port)?;
        let ca = self.ca.clone().unwrap_or_else(|| self.data.join("ca.pem"));
        let roots = if tls { Some(client::load_roots(&ca)?) } else { None };
        let host = self.tls_hostname.clone().unwrap_or(host);
        Ok(Target { addr, host, roots, timeout: Duration::from_secs(u64::from(self.timeout.max(1))), sessions: None })
    }

    fn rpc(&self) -> anyhow::Result<RpcClient> {
        RpcClient::connect(&self.target(crate::server::Ports::default().https, true)?)
    }

    /// `HOST`, `HOST:PORT`, `[V6]:PORT` or a bare IPv6 address.
    fn resolve(&self, default_port: u16) -> anyhow::Result<(String, SocketAddr)> {
        let bare_v6 = self.server.parse::<std::net::Ipv6Addr>().is_ok();
        let (host, port) = match self.server.rsplit_once(':') {
            Some((host, port)) if !bare_v6 => {
                (host, port.parse().with_context(|| format!("--server {:?}: {port:?} is not a port", self.server))?)
            }
            _ => (self.server.as_str(), default_port),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let mut addrs = (host, port).to_socket_addrs().with_context(|| format!("--server {host:?}"))?;
        let addr = addrs.next().with_context(|| format!("--server {host:?} has no address"))?;
        Ok((host.to_owned(), addr))
    }
}

/// A server to write to, and who writes.
#[derive(Debug, Clone, Args)]
struct Registrar {
    #[command(flatten)]
    network: Network,
    /// Key file of the sigil that signs [default: DATA/dev.pem]
    #[arg(long, env = "GHOSTPLANE_SIGIL")]
    sigil: Option<PathBuf>,
    /// Key file of a zone key that signs records in place of the sigil; may stand several times
    #[arg(long, env = "GHOSTPLANE_ZONE_KEY", value_delimiter = ',')]
    zone_key: Vec<PathBuf>,
    /// Say what the write would cost, and write nothing
    #[arg(long)]
    quote: bool,
    #[command(flatten)]
    draft: draft::DraftArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Registrar {
    /// The zone keys, as owners' keys.
    fn zone_keys(&self) -> anyhow::Result<Vec<ZoneKey>> {
        self.zone_key.iter().map(|path| Ok(ZoneKey::new(keys::load_zone_key(path)?, FLAGS_OWNER))).collect()
    }

    fn rpc(&self) -> anyhow::Result<RpcClient> {
        self.network.rpc()
    }

    /// From now on the operator's key signs, unless another one is named.
    fn as_operator(&mut self) {
        let operator = self.network.data.join("operator.pem");
        self.sigil.get_or_insert(operator);
    }

    fn key(&self) -> anyhow::Result<Locked<ed25519_dalek::SigningKey>> {
        let path = self.sigil.clone().unwrap_or_else(|| self.network.data.join("dev.pem"));
        keys::load(&path)
            .context("no usable sigil; give one with --sigil FILE, or make one with `ghostplane sigil new FILE`")
    }
}

/// The command line as clap knows it: for tests of the documents.
pub fn command() -> clap::Command {
    use clap::CommandFactory as _;
    Cli::command()
}

/// Runs the command line; exit code 0 ok, 1 failed, 2 usage.
pub fn main() -> ExitCode {
    let shut = locked::shut_process();
    let cli = Cli::parse();
    let passphrase = cli.passphrase_file.as_deref().map_or(Ok(()), keys::use_passphrase);
    let clock = cli.clock.as_deref().map_or(Ok(()), clock::use_file);
    if let Err(error) = passphrase.map_err(anyhow::Error::from).and(clock) {
        output::print_error(&error);
        return ExitCode::FAILURE;
    }
    if let Err(error) = shut {
        output::warn(&format!("this process cannot be kept from dumping keys: {error}"));
    }
    if !matches!(cli.command, Command::Serve(_)) {
        output::end_with_the_reader();
    }
    let done = match cli.command {
        Command::Serve(args) => serve::run(&args).map(|()| true),
        Command::Query(args) => query::run(&args),
        Command::Sigil(command) => owner::sigil(command).map(|()| true),
        Command::Name(command) => owner::name(command).map(|()| true),
        Command::Record(command) => owner::record(command).map(|()| true),
        Command::Contract(command) => owner::contract(command),
        Command::Receipt(command) => receipt::run(command),
        Command::Covenant(command) => covenant::run(command).map(|()| true),
        Command::Ledger(command) => ledger::run(command).map(|()| true),
        Command::Log(command) => log::run(command),
        Command::Guardian(command) => guardian::run(command).map(|()| true),
        Command::Op(command) => draft::run(command).map(|()| true),
        Command::Mana(command) => owner::mana(command).map(|()| true),
        Command::Zone(command) => zone::run(command),
        Command::Bench(args) => bench::run(&args).map(|()| true),
        Command::Top(args) => top::run(&args).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            output::print_error(&error);
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_sound() {
        super::command().debug_assert();
    }
}
