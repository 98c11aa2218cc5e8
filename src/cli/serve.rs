//! `ghostplane serve`.

use std::io::Write as _;
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;
use clap::ValueEnum;
use data_encoding::BASE64;
use ed25519_dalek::SigningKey;
use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

use super::anchor::{Anchor, AnchorFormat};
use super::discovery::Naming;
use super::owner::Algorithm;
use super::ring::Ring;
use super::{certificates, clock, custody, discovery, keys};
use crate::api::{Rpc, Service};
use crate::config::{self, Config, Forward, PortsFile};
use crate::contract::CodeFolder;
use crate::dnssec::tsig;
use crate::forward::Forwarder;
use crate::gateway::{Signer, Tld, Transfers};
use crate::limits::{
    CHECKPOINT_EVERY, FORWARD_OUTSTANDING, MAX_CERTIFICATES, NOTE_TIME_EVERY, RENEW_EVERY, SCAN_EVERY, SETTLE_EVERY,
};
use crate::locked::{self, Locked};
use crate::metrics::{Metrics, Trouble};
use crate::node::{self, Node, Parts, SHIPPED};
use crate::notary::{self, Notary, Witnesses};
use crate::observe;
use crate::op::{self, Op, SigilId, Symbol};
use crate::registry::{FORMAT, Fault, Genesis, Registry, Scan};
use crate::server::{self, Ports, ServerConfig};
use crate::state::ledger::Balance;
use crate::state::{LEVELS, MAX_LEVEL, View as _};
use crate::threads::tireless;
use crate::transport::Shutdown;
use crate::transport::admission::Limits;
use crate::transport::certificates::Reloaded;
use crate::transport::tls::Identity;
use crate::wire::{Name, Rrset, Rtype, rdata};
use crate::writer::Clock;

#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Run without privileges or files: make keys and certificates, fund a development sigil, listen on loopback
    #[arg(long)]
    dev: bool,
    /// Data directory
    #[arg(long, env = "GHOSTPLANE_DATA", default_value = "ghostplane-data")]
    data: PathBuf,
    /// Config file (TOML); options on the command line come first
    #[arg(long)]
    config: Option<PathBuf>,
    /// Read the config file, what it names for ordinary names, the zones and the certificates, say what is wrong or will not
    /// be taken by clients, and stop: writes nothing, listens nowhere
    #[arg(long)]
    check_config: bool,
    /// Folder of TLDs, NAME.zone and NAME.toml each [default: the four that come with the program]
    #[arg(long)]
    zones: Option<PathBuf>,
    /// Address to listen on; may stand several times [default: loopback]
    #[arg(long)]
    listen: Vec<IpAddr>,
    /// First of four ports: DNS, DoT and DoQ, HTTPS and HTTP/3, metrics; 0 takes any that are free [default: 5300, 8530, 8443, 9530]
    #[arg(long)]
    port_base: Option<u16>,
    /// Address or prefix that zones may be transferred to (AXFR over TCP, TLS 1.3 and QUIC); may stand several times
    /// [default with --dev: loopback]
    #[arg(long, value_name = "ADDR[/LEN]", value_parser = config::transfer_to)]
    transfer_to: Vec<IpNet>,
    /// Address or prefix of load balancers, which must say for whom they ask (PROXY protocol v2, over UDP, TCP, TLS and
    /// HTTPS); may stand several times
    #[arg(long, value_name = "ADDR[/LEN]", value_parser = config::proxy_from)]
    proxy_from: Vec<IpNet>,
    /// Address or prefix of resolvers that are believed for whom they ask (EDNS Client Subnet, over TCP, TLS, QUIC, HTTP, or UDP
    /// with a cookie); may stand several times [default: nobody]
    #[arg(long, value_name = "ADDR[/LEN]", value_parser = config::ecs_from)]
    ecs_from: Vec<IpNet>,
    /// Threads that serve sockets, at most 64 [default: one for each core that the process may use]
    #[arg(long, value_parser = config::cores)]
    cores: Option<NonZeroUsize>,
    /// Makes a key anew that the data directory has lost, such as keys/log.pem; may stand several times. Without it, a start with
    /// keys missing is refused, for what the lost ones vouched for is lost with them
    #[arg(long, value_name = "FILE")]
    new_key: Vec<PathBuf>,
    /// Algorithm of TLD keys that are made: p256 (13) if validators lack ed25519 (15)
    #[arg(long, value_enum, default_value = "ed25519")]
    tld_algorithm: Algorithm,
    /// Certificate chain (PEM); may stand several times, for several names: the first is for clients that name no other.
    /// Read again when it changes, and on SIGHUP
    #[arg(long, requires = "key")]
    cert: Vec<PathBuf>,
    /// Private key of a certificate (PEM): as many as certificates, in their order
    #[arg(long, requires = "cert")]
    key: Vec<PathBuf>,
    /// What clients may call this server; a certificate must be for it. They discover DoQ, DoH and DoT by it (RFC 9462)
    /// [default with --dev: localhost]
    #[arg(long, value_name = "NAME", value_parser = config::server_name)]
    server_name: Option<Name>,
    /// Page about this server for people, told in RESINFO (RFC 9606)
    #[arg(long, value_name = "URL", value_parser = config::info_url)]
    info_url: Option<String>,
    /// Believe the clock at this start, however far it is from the last time that this gateway knows; once, when you have
    /// made sure that it is right
    #[arg(long)]
    accept_time: bool,
    /// Form of the log
    #[arg(long, value_enum, default_value = "text")]
    log: LogForm,
    /// Log filter: a level, or `target=level,…`; what hickory_net says has names that are asked for in it, and rustls and
    /// quinn_proto warn of whatever clients send
    #[arg(long, env = "GHOSTPLANE_LOG", default_value = LOG)]
    log_level: String,
}

/// What is logged if nobody says otherwise: nothing that a client can have us say as often as it likes.
const LOG: &str = "info,hickory_net=off,hickory_resolver=off,rustls=error,quinn=error,quinn_proto=error,h3=error";

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogForm {
    Text,
    Json,
}

/// What `ServeArgs` and the config file come to.
struct Settings {
    data: PathBuf,
    zones: Option<PathBuf>,
    addrs: Vec<IpAddr>,
    metrics: Vec<IpAddr>,
    ports: Ports,
    certificates: Vec<(PathBuf, PathBuf)>,
    naming: Naming,
    hosts: Vec<String>,
    transfer_to: Vec<IpNet>,
    proxies: Vec<IpNet>,
    ecs_from: Vec<IpNet>,
    cores: NonZeroUsize,
    limits: Limits,
    witnesses: Witnesses,
    mirror: Vec<Name>,
    forward: Option<Forward>,
    observed: observe::Config,
}

/// What is looked at before anything is written or listened to: all that `--check-config` does.
struct Checked {
    settings: Settings,
    tlds: Vec<Tld>,
    /// `None` if one for development is to be made.
    identity: Option<Identity>,
}

impl Checked {
    fn new(args: &ServeArgs) -> anyhow::Result<Self> {
        let settings = settings(args)?;
        let tlds = match &settings.zones {
            Some(folder) => node::load_tlds(folder)?,
            None => node::built_in_tlds()?,
        };
        let ours = |name: &Name| tlds.iter().any(|tld| name.is_at_or_below(&tld.apex));
        if let Some(suffix) = settings.mirror.iter().find(|suffix| ours(suffix)) {
            anyhow::bail!("mirror: {suffix} is in a TLD of ours");
        }
        anyhow::ensure!(
            args.dev || !clock::is_simulated(),
            "a clock of one's own (--clock) is for rehearsals: run with --dev, or without --clock"
        );
        let identity = match &settings.certificates[..] {
            [] if args.dev => {
                Identity::check_development(&settings.data)?;
                None
            }
            [] => anyhow::bail!("give a certificate with --cert and --key, or run with --dev"),
            files => Some(Identity::load(files.to_vec(), certificates::unix_time())?),
        };
        settings.forward.as_ref().map(Forwarder::check).transpose()?;
        settings.observed.check()?;
        Ok(Self { settings, tlds, identity })
    }

    /// What is to be said though it is no error.
    fn doubts(&self) -> Vec<String> {
        let Some(identity) = &self.identity else { return Vec::new() };
        discovery::doubts(identity, &self.settings.naming, &apexes(&self.tlds))
    }
}

fn apexes(tlds: &[Tld]) -> Vec<Name> {
    tlds.iter().map(|tld| tld.apex.clone()).collect()
}

fn warn_of(doubts: &[String]) {
    doubts.iter().for_each(|doubt| tracing::warn!("{doubt}"));
}

fn say_checked(checked: &Checked) {
    let lapsed = checked.identity.iter().flat_map(|identity| identity.certificates().lapsed(certificates::unix_time()));
    let lapsed: Vec<String> = lapsed.map(|lapsed| lapsed.to_string()).collect();
    let warnings = [lapsed, checked.doubts()].concat();
    warn_of(&warnings);
    let warnings = if warnings.is_empty() { String::new() } else { format!("; warnings: {}", warnings.len()) };
    println!("ok: {} TLDs{warnings}", checked.tlds.len());
}

pub fn run(args: &ServeArgs) -> anyhow::Result<()> {
    init_log(args)?;
    let checked = Checked::new(args)?;
    if args.check_config {
        say_checked(&checked);
        return Ok(());
    }
    warn_of(&checked.doubts());
    let Checked { settings, mut tlds, identity } = checked;
    let data = settings.data.clone();
    if args.dev && settings.ports.https != 0 {
        tlds.iter_mut().try_for_each(|tld| name_gateway(tld, settings.ports.https))?;
    }
    if clock::is_simulated() {
        tracing::warn!("the time is what the file of --clock says");
    }
    let clock: Clock = Arc::new(clock::unix_time);
    let algorithm = args.tld_algorithm.number();
    if data.join(REGISTRY).exists() {
        custody::check(&data, &apexes(&tlds), args.dev, &args.new_key)?;
        custody::renew(&data, algorithm, &args.new_key)?;
    } else {
        anyhow::ensure!(args.new_key.is_empty(), "--new-key: {} has no registry; all keys are made", data.display());
        make_keys(&data, &tlds, args.dev, algorithm, clock())?;
    }
    let (registry, operator) = open_registry(&data, &clock)?;
    anyhow::ensure!(
        operator.is_some() || !args.dev,
        "{} has not the key of its registry's operator, and --dev grants mana with it: put operator.pem back",
        data.display()
    );
    if let Some(error) = locked::fault() {
        tracing::warn!(
            "keys may be swapped to disk: no memory can be locked ({error}); raise LimitMEMLOCK to 64K or more"
        );
    }
    let counters = Arc::<Metrics>::default();
    let clock = clock::guarded(&registry, &data, args.accept_time, &counters)?.clock();
    let identity = match identity {
        Some(identity) => identity,
        None => {
            let made = Identity::development(&data, std::time::SystemTime::now())?;
            warn_of(&discovery::doubts(&made, &settings.naming, &apexes(&tlds)));
            made
        }
    };
    if settings.ports.https != 0 {
        let now = certificates::unix_time();
        let describe = |tld| discovery::describe_name_servers(tld, settings.ports, &identity, &settings.naming, now);
        tlds.iter_mut().try_for_each(describe)?;
    }
    Ring::load_or_create(&data.join("keys"), &tlds, algorithm, clock())?;
    let apexes = apexes(&tlds);
    let signer = load_signer(&data, &apexes)?;
    let transfers = Transfers::new(settings.transfer_to);
    let sigil = keys::load_or_create(&data.join("keys/gateway.pem"))?;
    let log_key = keys::load_or_create(&data.join("keys/log.pem"))?;
    let notary = Notary::new(log_key, registry.id(), settings.witnesses, Some(&data))?;
    // A key file like the others, so that a passphrase covers it, too; only its 32 octets are used.
    let update_secret = keys::load_or_create(&data.join("keys/update.pem"))?;
    let update_secret = Locked::new(tsig::Secret::new(update_secret.to_bytes()));
    let code = Some(CodeFolder::new(data.join("compiled"), sigil.as_bytes()));
    let Settings { addrs, metrics, ports, limits, naming, hosts, proxies, cores, mirror, forward, observed, .. } =
        settings;
    let ecs_from = settings.ecs_from;
    // A socket for each question on its way upstream, and for each time that it is asked again.
    let other_descriptors = if forward.is_some() { 2 * FORWARD_OUTSTANDING } else { 0 };
    let parts = Parts::new(registry, tlds, signer, sigil, notary, clock);
    let work = Arc::new(limits.work_meter());
    let parts = Parts { metrics: counters, transfers, code, update_secret, ecs_from, mirror, forward, work, ..parts };
    let node = Arc::new(Node::start(parts)?);
    // Without memory that may be executed, every answer would be a failure.
    node.service.host.self_test()?;
    node.warm_up();
    // Only a convenience: a data directory whose path is too long for a socket is served all the same.
    if let Err(error) = control(&node, &data, apexes.clone()) {
        tracing::warn!("commands cannot reach this server: {error:#}");
    }
    appoint(&node, operator.as_deref())?;
    if let Some(operator) = operator.filter(|_| args.dev) {
        set_up_dev(&node, &data, &operator)?;
    }
    let chores = chores(&node, &data)?;
    let mut observing = observe::Threads::default();
    let called = naming.server.as_ref().map_or_else(|| "ghostplane".to_owned(), Name::to_string);
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let audience = observing.start(observed, &called, seed, &node.metrics).context("dnstap and traces")?;
    let config = ServerConfig {
        addrs,
        metrics,
        ports,
        identity: identity.clone(),
        limits,
        cores,
        proxies,
        audience,
        other_descriptors,
        hosts: hosts.into_iter().chain(naming.server.as_ref().map(Name::to_string)).collect(),
        signals: true,
    };
    let rpc = Arc::new(Rpc::start(node.service.clone())?);
    let on_ready = |addrs: &server::Addrs| {
        // It serves all the same; what cannot be announced is said.
        if let Err(error) = look_after(&node, identity, naming, addrs.clone(), apexes) {
            tracing::error!("certificates are not looked after: {error:#}");
        }
        print_ready(addrs);
    };
    server::run(config, node.gateway.clone(), rpc, node.metrics.clone(), on_ready, Shutdown::default())?;
    drop(observing);
    drop(chores);
    settle_once(&node);
    write_checkpoint(&node);
    tracing::info!("stopped");
    Ok(())
}

/// Says in a TLD's zone where this gateway is called, unless the zone says so itself.
fn name_gateway(tld: &mut Tld, port: u16) -> anyhow::Result<()> {
    let owner = tld.apex.child(b"_gateway")?;
    let text = format!("1 localhost. alpn=h3,h2 port={port} ipv4hint=127.0.0.1 ipv6hint=::1");
    let data = rdata::from_text(Rtype::HTTPS, &text, None)?;
    let rrset = || Arc::new(Rrset::new(owner.clone(), Rtype::HTTPS, tld.soa.ttl, [data]));
    tld.rrsets.entry(owner.clone()).or_default().entry(Rtype::HTTPS).or_insert_with(rrset);
    Ok(())
}

/// Announces the server, and again whenever its certificates are others, or one ends.
fn look_after(
    node: &Node,
    identity: Identity,
    naming: Naming,
    addrs: server::Addrs,
    tlds: Vec<Name>,
) -> anyhow::Result<()> {
    // Certificates are watched until the process ends; the registry is closed before.
    let (gateway, shown) = (Arc::downgrade(&node.gateway), identity.clone());
    let announce = move |now, warn: bool| {
        let Some(gateway) = gateway.upgrade() else { return };
        if let Err(error) = discovery::announce(&gateway, &shown, &naming, &addrs, now) {
            tracing::error!("this server cannot be discovered: {error:#}");
        }
        if warn {
            warn_of(&discovery::doubts(&shown, &naming, &tlds));
        }
    };
    // At the start it has been said, and of those that only end, too.
    announce(certificates::unix_time(), false);
    let changed = move |reloaded: &Reloaded, now| announce(now, !reloaded.fresh.is_empty());
    certificates::watch(identity, node.metrics.clone(), changed)
}

fn print_ready(addrs: &server::Addrs) {
    print!("{addrs}");
    println!("ready");
    // Whoever waits for this line reads it through a pipe.
    let _ = std::io::stdout().flush();
}

fn init_log(args: &ServeArgs) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&args.log_level).with_context(|| format!("--log-level {:?}", args.log_level))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let set = match args.log {
        LogForm::Text => {
            use std::io::IsTerminal as _;
            builder.with_ansi(std::io::stderr().is_terminal()).try_init()
        }
        LogForm::Json => builder.json().try_init(),
    };
    set.map_err(|error| anyhow::anyhow!("log: {error}"))
}

fn settings(args: &ServeArgs) -> anyhow::Result<Settings> {
    let config = match &args.config {
        Some(path) => {
            let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            Config::from_toml(&text).with_context(|| path.display().to_string())?
        }
        None => Config::default(),
    };
    let based =
        |base| Ports::from_base(base).with_context(|| format!("--port-base {base} leaves no room for four ports"));
    let ports = match (args.port_base, config.port_base) {
        (Some(base), _) => based(base)?,
        (None, Some(base)) => ports(config.ports, based(base)?)?,
        (None, None) => ports(config.ports, Ports::default())?,
    };
    let metrics = first_given([config.metrics_listen, ServerConfig::LOOPBACK.to_vec()]);
    let addrs = first_given([args.listen.clone(), config.listen, ServerConfig::LOOPBACK.to_vec()]);
    anyhow::ensure!(args.cert.len() == args.key.len(), "give one --key for each --cert");
    anyhow::ensure!(args.cert.len() <= MAX_CERTIFICATES, "at most {MAX_CERTIFICATES} certificates");
    let given: Vec<_> = args.cert.iter().cloned().zip(args.key.iter().cloned()).collect();
    let certificates = if given.is_empty() { config.certificates } else { given };
    let localhost = if args.dev { Some(Name::from_user("localhost")?) } else { None };
    let naming = Naming {
        server: args.server_name.clone().or(config.server_name).or(localhost),
        info_url: args.info_url.clone().or(config.info_url),
    };
    let rate = |number: Option<u32>, default: NonZeroU32| number.and_then(NonZeroU32::new).unwrap_or(default);
    let defaults = Limits::default();
    let limits = Limits {
        queries_per_second: rate(config.queries_per_second, defaults.queries_per_second),
        burst: rate(config.query_burst, defaults.burst),
        responses_per_second: rate(config.responses_per_second, defaults.responses_per_second),
        network_responses_per_second: rate(config.network_responses_per_second, defaults.network_responses_per_second),
        amplification: rate(config.amplification, defaults.amplification),
        cpu_ms_per_second: rate(config.cpu_ms_per_second, defaults.cpu_ms_per_second),
        rpc_per_second: rate(config.calls_per_second, defaults.rpc_per_second),
        rpc_burst: rate(config.call_burst, defaults.rpc_burst),
        programs_per_second: rate(config.program_calls_per_second, defaults.programs_per_second),
        program_burst: rate(config.program_call_burst, defaults.program_burst),
        exempt_loopback: !config.limit_loopback,
        ..defaults
    };
    let zones = args.zones.clone().or(config.zones);
    let loopback = if args.dev { ServerConfig::LOOPBACK.map(IpNet::from).to_vec() } else { Vec::new() };
    let transfer_to = first_given([args.transfer_to.clone(), config.transfer_to, loopback]);
    let witnesses = Witnesses { keys: config.witnesses, quorum: config.quorum.unwrap_or(1) };
    let proxies = first_given([args.proxy_from.clone(), config.proxy_from]);
    let ecs_from = first_given([args.ecs_from.clone(), config.ecs_from]);
    let cores = args.cores.or(config.cores).unwrap_or_else(ServerConfig::all_cores);
    let (data, mirror, forward) = (args.data.clone(), config.mirror, config.forward);
    let observed = observe::Config { dnstap: config.dnstap, trace: config.trace };
    Ok(Settings {
        data,
        zones,
        addrs,
        metrics,
        ports,
        certificates,
        naming,
        hosts: config.hosts,
        transfer_to,
        proxies,
        ecs_from,
        cores,
        limits,
        witnesses,
        mirror,
        forward,
        observed,
    })
}

/// The first list that is not empty.
fn first_given<T, const N: usize>(lists: [Vec<T>; N]) -> Vec<T> {
    lists.into_iter().find(|list| !list.is_empty()).unwrap_or_default()
}

fn ports(given: PortsFile, usual: Ports) -> anyhow::Result<Ports> {
    let or = |given: Option<NonZeroU16>, usual| given.map_or(usual, NonZeroU16::get);
    let ports = Ports {
        dns: or(given.dns, usual.dns),
        tls: or(given.tls, usual.tls),
        https: or(given.https, usual.https),
        metrics: or(given.metrics, usual.metrics),
    };
    let all = [ports.dns, ports.tls, ports.https, ports.metrics];
    let twice = all.iter().enumerate().find(|(at, port)| **port != 0 && all[..*at].contains(port));
    twice.map_or(Ok(ports), |(_, port)| Err(anyhow::anyhow!("[ports]: two services cannot have port {port}")))
}

const REGISTRY: &str = "registry.redb";

/// All keys of a data directory that has no registry yet. The registry comes last: a start that is cut short begins again, and
/// where there is one, no key may be missing.
fn make_keys(data: &Path, tlds: &[Tld], dev: bool, algorithm: u8, now: u64) -> anyhow::Result<()> {
    std::fs::create_dir_all(data).with_context(|| data.display().to_string())?;
    keys::load_or_create(&data.join("operator.pem"))?;
    Ring::load_or_create(&data.join("keys"), tlds, algorithm, now)?;
    for file in ["keys/gateway.pem", "keys/log.pem", "keys/update.pem"] {
        keys::load_or_create(&data.join(file))?;
    }
    if dev {
        keys::load_or_create(&data.join("dev.pem"))?;
        Identity::development(data, std::time::SystemTime::now())?;
    }
    Ok(())
}

/// The registry, and its operator's key if that is at hand: an operator may keep it elsewhere.
fn open_registry(data: &Path, clock: &Clock) -> anyhow::Result<(Registry, Option<Locked<SigningKey>>)> {
    let path = data.join("operator.pem");
    let operator = if path.exists() { Some(keys::load(&path)?) } else { None };
    let mut salt = vec![0; 16];
    getrandom::fill(&mut salt)?;
    let founder = operator.as_ref().map(|key| SigilId::from(&key.verifying_key()));
    let file = data.join(REGISTRY);
    // A registry is founded after its operator's key is made.
    const NOBODY: SigilId = SigilId([0; 32]);
    let genesis = || Genesis { format: FORMAT, operator: founder.unwrap_or(NOBODY), created: clock(), salt };
    let registry = Registry::open(&file, genesis)?;
    let founded = registry.genesis().operator != NOBODY;
    anyhow::ensure!(founded, "{} was empty, and there is no operator.pem; remove it to begin anew", file.display());
    if founder.is_some_and(|founder| founder != registry.genesis().operator) {
        tracing::warn!("{} is not the key of this registry's operator, and is not used", path.display());
        return Ok((registry, None));
    }
    Ok((registry, operator))
}

/// The gateway's own keys, made on the first start, and the anchors that validators need: the DS of every TLD.
fn load_signer(data: &Path, tlds: &[Name]) -> anyhow::Result<Signer> {
    let folder = data.join("keys");
    let ring = Ring::load(&folder)?.with_context(|| format!("{} has no key ring", folder.display()))?;
    let signer = ring.signer(&folder, tlds)?;
    let line = |apex: &Name| {
        let anchors = signer.anchors(apex).map(|key| Anchor::new(apex, key.dnskey()));
        anchors.map(|anchor| anchor.line(AnchorFormat::Ds) + "\n").collect::<String>()
    };
    let path = data.join("anchors.ds");
    let text: String = tlds.iter().map(line).collect();
    notary::write(&path, text.as_bytes())?;
    Ok(signer)
}

/// What is done again and again while the server runs.
fn chores(node: &Arc<Node>, data: &Path) -> anyhow::Result<Chores> {
    let mut chores = Chores::default();
    for (name, every, job) in [
        ("survey", SURVEY, survey as fn(&Node)),
        ("settle", SETTLE_EVERY, settle_once),
        ("notary", CHECKPOINT_EVERY, write_checkpoint),
        ("renew", RENEW_EVERY, renew),
    ] {
        let node = node.clone();
        chores.start(name, every, move || job(&node))?;
    }
    let (reader, scan) = (node.clone(), Mutex::new(Scan::default()));
    chores.start("scan", SCAN_EVERY, move || read_on(&reader, &scan))?;
    let (node, data) = (node.clone(), data.to_owned());
    chores.start("time", NOTE_TIME_EVERY, move || note_time(&node, &data))?;
    Ok(chores)
}

/// Threads that do something again and again. Dropped, they end: nothing holds the registry then that has not closed it.
#[derive(Default)]
struct Chores(Vec<(mpsc::Sender<()>, JoinHandle<()>)>);

impl Chores {
    fn start(&mut self, name: &str, every: Duration, job: impl Fn() + Send + 'static) -> anyhow::Result<()> {
        let (stop, stopped) = mpsc::channel::<()>();
        let run = move || {
            job();
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                job();
            }
        };
        self.0.push((stop, tireless(name, run)?));
        Ok(())
    }
}

impl Drop for Chores {
    fn drop(&mut self) {
        let (stops, threads): (Vec<_>, Vec<_>) = self.0.drain(..).unzip();
        drop(stops);
        for thread in threads {
            // A panic has been printed where it happened.
            let _ = thread.join();
        }
    }
}

/// Counts the names whose owners should sign again.
fn survey(node: &Node) {
    match node.service.names_to_resign() {
        Ok((soon, overdue)) => {
            node.metrics.signatures_ending.set(soon);
            node.metrics.signatures_ended.set(overdue);
        }
        Err(error) => tracing::warn!(%error, "names to sign again cannot be counted"),
    }
}

/// Between two surveys.
const SURVEY: Duration = Duration::from_secs(3_600);

/// What the operator's commands ask of a running server.
fn control(node: &Node, data: &Path, tlds: Vec<Name>) -> anyhow::Result<()> {
    // The socket is listened to until the process ends; the registry is closed before.
    let (gateway, service, folder) = (Arc::downgrade(&node.gateway), Arc::downgrade(&node.service), data.to_owned());
    let answer = move |line: &str| -> anyhow::Result<String> {
        let (gateway, service) = gateway.upgrade().zip(service.upgrade()).context("the server is stopping")?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let key = |word: &&str| BASE64.decode(word.as_bytes()).context("not base64");
        match words[..] {
            ["reload-keys"] => {
                gateway.replace_keys(load_signer(&folder, &tlds)?);
                tracing::info!("keys reloaded");
                Ok(String::new())
            }
            ["dependents", ref key_and_others @ ..] => {
                let keys = key_and_others.iter().map(key).collect::<Result<Vec<_>, _>>()?;
                let (first, others) = keys.split_first().context("dependents KEY [OTHER ...]")?;
                Ok(service.dependents(first, others)?.to_string())
            }
            _ => anyhow::bail!("no such command"),
        }
    };
    super::control::serve(data, answer)
}

/// Billionths of a GCC that the development sigil begins with: a thousand GCC.
const DEV_GCC: u64 = 1_000_000_000_000;

/// Names this gateway among those that may settle gas, if its operator's key is at hand.
fn appoint(node: &Node, operator: Option<&SigningKey>) -> anyhow::Result<()> {
    let sigil = SigilId::from(&node.gateway.engine().sigil.verifying_key());
    let gas = node.service.registry.snapshot()?.gas()?;
    if gas.gateways.contains(&sigil) {
        return Ok(());
    }
    let Some(operator) = operator else {
        tracing::warn!(%sigil, "this gateway may not settle gas until the operator has named it");
        return Ok(());
    };
    let mut gateways = gas.gateways;
    gateways.push(sigil);
    match node.write(operator, Op::SetGas { policy: gas.policy, gateways }) {
        Ok(_) => Ok(()),
        // It serves what it has; the next start tries again.
        Err(rejection) if rejection.is_ours() => {
            tracing::warn!(%rejection, "this gateway cannot settle gas yet");
            Ok(())
        }
        Err(rejection) => Err(anyhow::anyhow!("this gateway cannot settle gas: {rejection}")),
    }
}

/// Renews names by their owners' plans.
fn renew(node: &Node) {
    if let Err(rejection) = node.renew_due() {
        tracing::warn!(%rejection, "names cannot be renewed by their owners' plans; they stay due");
    }
}

/// Charges owners for gas.
fn settle_once(node: &Node) {
    if let Err(rejection) = node.settle() {
        tracing::warn!(%rejection, "gas cannot be settled; it stays counted");
    }
}

/// Writes down a checkpoint of what was logged: what was signed then can never be lost unnoticed.
fn write_checkpoint(node: &Node) {
    let Service { registry, notary, .. } = &*node.service;
    let written = registry.snapshot().map_err(Into::into).and_then(|snapshot| notary.write_down(&snapshot));
    let changed = node.metrics.health.set(Trouble::Disk, written.is_err());
    if let Err(error) = written
        && changed
    {
        tracing::error!(%error, "a checkpoint of the log cannot be written down; tried again every second");
    }
}

/// Reads through the store, a little at a time.
fn read_on(node: &Node, scan: &Mutex<Scan>) {
    let registry = &node.service.registry;
    let mut scan = scan.lock().unwrap_or_else(PoisonError::into_inner);
    // redb may panic over a page that is not what it wrote.
    let step = AssertUnwindSafe(|| registry.snapshot().and_then(|snapshot| scan.step(&snapshot)));
    let read = catch_unwind(step).unwrap_or_else(|_| Err(Fault::new("a page of the store is damaged")));
    // A disk that fails is the writer's to tell.
    if let Err(fault) = read
        && !node.metrics.health.has(Trouble::Store)
        && node.metrics.health.raise(Trouble::Damage)
    {
        tracing::error!(%fault, "the store is damaged: run `ghostplane log verify`, and restore a copy");
    }
}

/// Writes down what time it is, for the next start to compare with.
fn note_time(node: &Node, data: &Path) {
    let now = (node.service.clock)();
    if node.metrics.health.has(Trouble::Clock) {
        return;
    }
    if let Err(error) = clock::note_seen(data, now) {
        tracing::warn!(%error, "the time cannot be written down");
    }
}

/// Funds the operator and the development sigil, and deploys the contracts that come with the program.
fn set_up_dev(node: &Node, data: &Path, operator: &SigningKey) -> anyhow::Result<()> {
    let dev = keys::load_or_create(&data.join("dev.pem"))?;
    let operator_id = SigilId::from(&operator.verifying_key());
    let submit = |op| match node.write(operator, op) {
        Ok(_) => Ok(()),
        Err(rejection) if rejection.is_ours() => {
            tracing::warn!(%rejection, "development set-up");
            Ok(())
        }
        Err(rejection) => Err(anyhow::anyhow!("development set-up: {rejection}")),
    };
    for id in [operator_id, SigilId::from(&dev.verifying_key())] {
        let capacity = LEVELS[usize::from(MAX_LEVEL)];
        let account = node.service.registry.snapshot()?.account(&id)?;
        if account.mana((node.service.clock)()) < capacity / 2 {
            submit(Op::GrantMana { to: id, level: MAX_LEVEL, amount: capacity })?;
        }
    }
    let dev_id = SigilId::from(&dev.verifying_key());
    if node.service.registry.snapshot()?.balance(&dev_id, Symbol::GCC)? == Balance::default() {
        submit(Op::Mint { token: Symbol::GCC, to: dev_id, amount: DEV_GCC })?;
    }
    for (_, wasm) in SHIPPED {
        if !node.service.registry.snapshot()?.has_contract(&op::CodeHash::of(wasm))? {
            submit(Op::DeployContract { wasm: wasm.to_vec() })?;
        }
    }
    tracing::info!(sigil = %dev_id, "development sigil is funded");
    Ok(())
}
