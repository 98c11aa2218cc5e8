//! Is a server a DNS over QUIC server (RFC 9250)? Asked from outside, over QUIC, with nothing of Ghostplane's code.
//!
//! ```text
//! cargo test --test conformance -- --server 127.0.0.1:8530 --ca ca.pem --hostname localhost --name alice.ghost
//! ```
//! Without `--server` it judges our own server, and for the record those of others that are in PATH (`servers`).
//! docs/conformance.md tells more.

mod cases;
mod client;
mod dns;
mod packet;
mod report;
mod servers;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use client::Trial;
use dns::Draft;
use report::{Finding, Verdict};

/// Judges a DNS over QUIC server. Exit status 1 if it fails a MUST.
#[derive(Debug, Parser)]
#[command(name = "conformance")]
struct Args {
    /// Address and port of the server; our own one, started for this, if left out
    #[arg(long, value_name = "ADDRESS:PORT")]
    server: Option<SocketAddr>,
    /// CA that the server's certificate leads to (PEM); without, any certificate will do
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The server's host name
    #[arg(long, default_value = "localhost")]
    hostname: String,
    /// A name that has an A record there
    #[arg(long, default_value = "alice.ghost")]
    name: String,
    /// A name whose TXT records have more than 1,232 octets
    #[arg(long, value_name = "NAME")]
    large: Option<String>,
    /// A zone that may be transferred to us
    #[arg(long)]
    zone: Option<String>,
    /// Seconds that one case may take
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    timeout: u64,
    /// Run this case; may stand several times
    #[arg(long, value_name = "ID")]
    only: Vec<String>,
    /// Say what the cases are
    #[arg(long)]
    list: bool,
    /// For programs
    #[arg(long)]
    json: bool,
    /// Run cases whose id contains this, as `cargo test FILTER` asks for
    filter: Option<String>,
    /// What `cargo test` hands to every test binary, and this one does not need
    #[arg(long, hide = true)]
    nocapture: bool,
    #[arg(long, hide = true)]
    test_threads: Option<usize>,
    #[arg(short, long, hide = true)]
    quiet: bool,
}

/// What is judged.
pub struct Target {
    pub server: SocketAddr,
    pub hostname: String,
    /// The CAs that certificates must lead to; anything goes if none.
    pub roots: Option<Arc<RootCertStore>>,
    /// Has an A record.
    pub name: String,
    /// Has TXT records of more than 1,232 octets.
    pub large: Option<String>,
    /// May be transferred to us.
    pub zone: Option<String>,
}

/// How much an RFC wants something (RFC 2119).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// And MUST NOT.
    Must,
    /// And SHOULD NOT.
    Should,
    May,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
            Self::May => "MAY",
        }
    }
}

/// One thing that can be observed.
pub struct Case {
    pub id: &'static str,
    /// Number of the RFC, and section.
    pub section: &'static str,
    pub level: Level,
    pub text: &'static str,
    pub run: fn(&Trial) -> Outcome,
}

/// What was seen, or why it was not.
pub type Outcome = Result<String, Miss>;

#[derive(Debug, Clone)]
pub enum Miss {
    /// The server does otherwise.
    Fail(String),
    /// It could not be seen.
    Skip(String),
}

impl Miss {
    /// The same about something in particular.
    pub fn about(self, what: &str) -> Self {
        match self {
            Self::Fail(words) => Self::Fail(format!("{what}: {words}")),
            Self::Skip(words) => Self::Skip(format!("{what}: {words}")),
        }
    }
}

impl Trial<'_> {
    /// The zone that is given, or the one that the name is likely to be in.
    pub fn zone(&self) -> String {
        let parent = || self.target.name.split_once('.').map_or(&*self.target.name, |(_, parent)| parent).to_owned();
        self.target.zone.clone().unwrap_or_else(parent)
    }

    /// An UPDATE (RFC 2136) that nobody has signed.
    pub fn update(&self) -> Draft {
        Draft::query(&self.zone(), dns::SOA).opcode(dns::UPDATE).adds(&self.target.name, dns::TXT, b"\x01x")
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    if args.list {
        cases::all().for_each(|case| println!("{}", report::listed(case)));
        return ExitCode::SUCCESS;
    }
    if let Some(id) = args.only.iter().find(|id| cases::all().all(|case| case.id != **id)) {
        eprintln!("no case {id}; --list says which there are");
        return ExitCode::from(2);
    }
    if !cases::all().any(|case| is_wanted(&args, case)) {
        println!("no case is called for");
        return ExitCode::SUCCESS;
    }
    match args.server {
        Some(server) => given(&args, server),
        None => ours_and_others(&args),
    }
}

fn given(args: &Args, server: SocketAddr) -> ExitCode {
    let roots = match args.ca.as_deref().map(read_roots).transpose() {
        Ok(roots) => roots,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let target = Target {
        server,
        hostname: args.hostname.clone(),
        roots,
        name: args.name.clone(),
        large: args.large.clone(),
        zone: args.zone.clone(),
    };
    let findings = judge(args, &server.to_string(), &target);
    ExitCode::from(u8::from(findings.iter().any(|finding| finding.fails(Level::Must))))
}

/// What ours does otherwise, on purpose; docs/conformance.md says why.
const DEVIATIONS: [&str; 1] = ["id-nonzero-update"];

/// Ours must fail nothing but its deviations, and those indeed; of others the table is shown.
fn ours_and_others(args: &Args) -> ExitCode {
    let (mut server, target) = servers::ours();
    let findings = judge(args, "ghostplane", &target);
    let deviates = |finding: &Finding| DEVIATIONS.contains(&finding.case.id);
    let failed = findings.iter().any(|finding| (finding.verdict == Verdict::Fail) != deviates(finding));
    for start in [servers::knot, servers::unbound] {
        if let Some((name, others, target)) = start(&server) {
            judge(args, name, &target);
            drop(others);
        }
    }
    server.stop();
    ExitCode::from(u8::from(failed))
}

/// Runs the cases that are asked for and reports.
fn judge(args: &Args, server: &str, target: &Target) -> Vec<Finding> {
    if !args.json {
        println!("\n{server}, {}", target.server);
    }
    let mut findings = Vec::new();
    for case in cases::all().filter(|case| is_wanted(args, case)) {
        let began = Instant::now();
        let trial = Trial { target, deadline: began + Duration::from_secs(args.timeout) };
        let finding = Finding::new(case, (case.run)(&trial), began.elapsed());
        if !args.json {
            println!("{}", finding.row());
        }
        findings.push(finding);
    }
    println!("{}", if args.json { report::json(server, &findings) } else { report::summary(&findings) });
    findings
}

fn is_wanted(args: &Args, case: &Case) -> bool {
    let named = args.only.is_empty() || args.only.iter().any(|id| id == case.id);
    named && args.filter.as_deref().is_none_or(|filter| case.id.contains(filter))
}

/// Reads a PEM file of CA certificates.
fn read_roots(path: &Path) -> Result<Arc<RootCertStore>, String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))? {
        let certificate = certificate.map_err(|error| unreadable(&error))?;
        roots.add(certificate).map_err(|error| unreadable(&error))?;
    }
    Ok(Arc::new(roots))
}
