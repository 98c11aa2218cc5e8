//! The config file: its format, checked into a [`Config`]. Unknown keys are errors.

mod forward;

pub use forward::{Forward, Upstream, UpstreamError};

use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use crate::limits::{MAX_CERTIFICATES, MAX_CORES, MAX_MIRRORS, MAX_WITNESSES};
use crate::tlog::{Purpose, VerifierKey};
use crate::wire::Name;
use crate::zone::discovery::MAX_INFO_URL;

/// What an operator may set in a file. Everything has a default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    pub zones: Option<PathBuf>,
    pub listen: Vec<IpAddr>,
    pub port_base: Option<u16>,
    pub ports: PortsFile,
    /// Where metrics and health are told to whoever asks, in plain HTTP.
    pub metrics_listen: Vec<IpAddr>,
    /// Chain and key of each; the first is for clients that name no other.
    pub certificates: Vec<(PathBuf, PathBuf)>,
    /// What clients may call this server: a certificate is for it.
    pub server_name: Option<Name>,
    /// A page about this server, for people.
    pub info_url: Option<String>,
    /// Names beside those of the certificates under which the API and the metrics may be asked for; `*`: any.
    pub hosts: Vec<String>,
    /// Who may transfer zones.
    pub transfer_to: Vec<IpNet>,
    /// Balancers that say for whom they ask.
    pub proxy_from: Vec<IpNet>,
    /// Resolvers that say for whom they ask (RFC 7871).
    pub ecs_from: Vec<IpNet>,
    /// Threads that serve sockets.
    pub cores: Option<NonZeroUsize>,
    pub responses_per_second: Option<u32>,
    pub network_responses_per_second: Option<u32>,
    pub amplification: Option<u32>,
    pub queries_per_second: Option<u32>,
    pub query_burst: Option<u32>,
    pub calls_per_second: Option<u32>,
    pub call_burst: Option<u32>,
    pub program_calls_per_second: Option<u32>,
    pub program_call_burst: Option<u32>,
    pub cpu_ms_per_second: Option<u32>,
    pub limit_loopback: bool,
    /// Keys of witnesses whose cosignatures are taken, and how many make a checkpoint a witnessed one.
    pub witnesses: Vec<VerifierKey>,
    pub quorum: Option<usize>,
    /// Suffixes under which our TLDs are answered, too.
    pub mirror: Vec<Name>,
    /// How ordinary names are resolved; they are not if left out.
    pub forward: Option<Forward>,
    /// Whom queries are told to.
    pub dnstap: Option<TapConfig>,
    pub trace: Option<TraceConfig>,
}

/// Ports one by one, where they are not those of `port_base`, or the usual ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortsFile {
    pub dns: Option<NonZeroU16>,
    pub tls: Option<NonZeroU16>,
    pub https: Option<NonZeroU16>,
    pub metrics: Option<NonZeroU16>,
}

/// What traces tell, and to whom beside the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceConfig {
    pub sample: Share,
    /// A collector that takes OTLP in JSON over plain HTTP.
    pub otlp: Option<http::Uri>,
    pub addresses: Addresses,
}

/// What dnstap tells, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TapConfig {
    pub to: TapTo,
    pub sample: Share,
    pub queries: bool,
    pub responses: bool,
    pub addresses: Addresses,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TapTo {
    /// A reader's.
    Socket(PathBuf),
    File(PathBuf),
}

/// How much of clients' addresses is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Addresses {
    /// /24 of IPv4, /48 of IPv6.
    #[default]
    Truncated,
    Full,
}

/// A share of queries: of any so many in a row, so many, to within one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// In 2^-64, less one: all of them are the largest number.
    last: u64,
}

/// All of them, in 2^-64.
const WHOLE: u128 = 1 << 64;
/// The smallest share: queries are counted in 32 bits.
const LEAST: u128 = 1 << 32;

impl Default for Share {
    fn default() -> Self {
        Self { last: u64::MAX }
    }
}

impl Share {
    /// A share in 2^-64; `None` if it is too small, or more than all.
    fn new(parts: u128) -> Option<Self> {
        (LEAST..=WHOLE).contains(&parts).then(|| Self { last: (parts - 1) as u64 })
    }

    /// True if the query with this number is one of them.
    pub fn has(self, number: u32) -> bool {
        // So much further with every query, around a circle of 2^64: it is one of them whenever the beginning is passed.
        u64::from(number).wrapping_mul(self.last.wrapping_add(1)) <= self.last
    }
}

/// A share such as `0.01`, or `"1/100"`.
impl<'de> Deserialize<'de> for Share {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShareText)
    }
}

struct ShareText;

impl Visitor<'_> for ShareText {
    type Value = Share;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a share of queries such as 0.01 or \"1/100\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Share, E> {
        let number = text.strip_prefix("1/").and_then(|number| number.parse::<NonZeroU32>().ok());
        // Rounded up, so that one of three is the third, and not the one after it.
        let share = number.and_then(|number| Share::new(WHOLE.div_ceil(number.get().into())));
        share.ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }

    fn visit_f64<E: Error>(self, share: f64) -> Result<Share, E> {
        // What is negative or no number becomes 0.
        let parts = (share * WHOLE as f64) as u128;
        // 0.7 is no binary fraction: so much more than it may lack, or 20 queries would have 13 of them.
        let exact = Share::new(parts).and_then(|_| Share::new((parts + (1 << 11)).min(WHOLE)));
        exact.ok_or_else(|| E::invalid_value(Unexpected::Float(share), &self))
    }

    fn visit_i64<E: Error>(self, share: i64) -> Result<Share, E> {
        self.visit_f64(share as f64)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    zones: Option<PathBuf>,
    #[serde(default)]
    listen: Vec<IpAddr>,
    port_base: Option<u16>,
    #[serde(default)]
    ports: PortsFile,
    #[serde(default)]
    metrics_listen: Vec<IpAddr>,
    server_name: Option<String>,
    info_url: Option<String>,
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    tls: TlsFiles,
    /// Addresses or prefixes.
    #[serde(default)]
    transfer_to: Vec<String>,
    /// As `transfer_to`.
    #[serde(default)]
    proxy_from: Vec<String>,
    #[serde(default)]
    ecs_from: Vec<String>,
    cores: Option<NonZeroUsize>,
    #[serde(default)]
    limits: LimitsFile,
    #[serde(default)]
    log: LogFile,
    #[serde(default)]
    mirror: Vec<String>,
    forward: Option<forward::ForwardFile>,
    dnstap: Option<TapFile>,
    trace: Option<TraceFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TraceFile {
    sample: Share,
    otlp: Option<String>,
    #[serde(default)]
    addresses: Addresses,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TapFile {
    socket: Option<PathBuf>,
    file: Option<PathBuf>,
    #[serde(default)]
    sample: Share,
    /// All, if left out.
    types: Option<Vec<TapType>>,
    #[serde(default)]
    addresses: Addresses,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum TapType {
    AuthQuery,
    AuthResponse,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LogFile {
    /// Verifier keys, `NAME+ID+KEY`.
    #[serde(default)]
    witnesses: Vec<String>,
    quorum: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsFile {
    cert: PathBuf,
    key: PathBuf,
}

/// `[tls]`, or `[[tls]]` for several.
#[derive(Debug, Default)]
struct TlsFiles(Vec<TlsFile>);

impl<'de> Deserialize<'de> for TlsFiles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // An untagged enum would say of a wrong key only that nothing fits.
        deserializer.deserialize_any(OneOrMany)
    }
}

struct OneOrMany;

impl<'de> Visitor<'de> for OneOrMany {
    type Value = TlsFiles;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table with cert and key, or several")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<TlsFiles, A::Error> {
        Ok(TlsFiles(vec![TlsFile::deserialize(MapAccessDeserializer::new(map))?]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<TlsFiles, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(seq)).map(TlsFiles)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsFile {
    responses_per_second: Option<u32>,
    network_responses_per_second: Option<u32>,
    amplification: Option<u32>,
    queries_per_second: Option<u32>,
    query_burst: Option<u32>,
    calls_per_second: Option<u32>,
    call_burst: Option<u32>,
    program_calls_per_second: Option<u32>,
    program_call_burst: Option<u32>,
    cpu_ms_per_second: Option<u32>,
    #[serde(default)]
    loopback: bool,
}

/// Most that a rate can be set to: a million a second is "no limit" for one client.
const MAX_RATE: u32 = 1_000_000;

/// Why a config file is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("{0}")]
    Syntax(String),
    #[error("limits.{0} must be 1 to {MAX_RATE}")]
    Rate(&'static str),
    #[error("{key}: {text:?} is neither an address nor a prefix such as 192.0.2.0/24")]
    Prefix { key: &'static str, text: String },
    #[error("server_name: {0:?} is not a host name")]
    ServerName(String),
    #[error("info_url must begin with https:// and have at most {MAX_INFO_URL} visible ASCII characters")]
    InfoUrl,
    #[error("at most {MAX_CERTIFICATES} certificates")]
    Certificates,
    #[error("log.witnesses: {0:?} is not the key of a witness, as `ghostplane log witness --show-key` prints it")]
    Witness(String),
    #[error("cores must be 1 to {MAX_CORES}")]
    Cores,
    #[error("log.witnesses: at most {MAX_WITNESSES}")]
    Witnesses,
    #[error("log.quorum must be 1 to the number of witnesses")]
    Quorum,
    #[error("mirror: {0:?} is not a name such as alt or gw.example.net")]
    Mirror(String),
    #[error("mirror: at most {MAX_MIRRORS}")]
    Mirrors,
    #[error("forward.upstreams: 1 to {} of them", crate::limits::MAX_UPSTREAMS)]
    Upstreams,
    #[error("forward.upstreams: {text:?}: {why}")]
    Upstream { text: String, why: UpstreamError },
    #[error("forward.{name} must be 1 to {most}")]
    Number { name: &'static str, most: u64 },
    #[error("forward.{name} must be a duration such as 30m or 1d, at most {most} seconds")]
    Seconds { name: &'static str, most: u64 },
    #[error("dnstap: give either socket or file")]
    TapTo,
    #[error("trace.otlp: {0:?} is not an address such as http://127.0.0.1:4318/v1/traces")]
    Otlp(String),
    #[error("dnstap.types: name AUTH_QUERY, AUTH_RESPONSE or both")]
    TapTypes,
}

/// Reads an address, or a prefix such as `192.0.2.0/24`.
fn prefix(key: &'static str, text: &str) -> Result<IpNet, ConfigError> {
    let addr = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| addr()).map_err(|_| ConfigError::Prefix { key, text: text.to_owned() })
}

/// Reads the address or prefix of those who may transfer zones.
///
/// # Errors
/// [`ConfigError::Prefix`]
pub fn transfer_to(text: &str) -> Result<IpNet, ConfigError> {
    prefix("transfer_to", text)
}

/// The same for balancers.
///
/// # Errors
/// [`ConfigError::Prefix`]
pub fn proxy_from(text: &str) -> Result<IpNet, ConfigError> {
    prefix("proxy_from", text)
}

/// The same for resolvers.
///
/// # Errors
/// [`ConfigError::Prefix`]
pub fn ecs_from(text: &str) -> Result<IpNet, ConfigError> {
    prefix("ecs_from", text)
}

/// Reads the number of threads that serve sockets.
///
/// # Errors
/// [`ConfigError::Cores`]
pub fn cores(text: &str) -> Result<NonZeroUsize, ConfigError> {
    text.parse().map_err(|_| ConfigError::Cores).and_then(at_most_cores)
}

fn at_most_cores(cores: NonZeroUsize) -> Result<NonZeroUsize, ConfigError> {
    if cores.get() <= MAX_CORES { Ok(cores) } else { Err(ConfigError::Cores) }
}

fn mirrors(texts: &[String]) -> Result<Vec<Name>, ConfigError> {
    if texts.len() > MAX_MIRRORS {
        return Err(ConfigError::Mirrors);
    }
    let name = |text: &String| Name::from_user(text).ok().filter(|name| !name.is_root());
    texts.iter().map(|text| name(text).ok_or_else(|| ConfigError::Mirror(text.clone()))).collect()
}

/// Reads the name that clients may call a server.
///
/// # Errors
/// [`ConfigError::ServerName`]
pub fn server_name(text: &str) -> Result<Name, ConfigError> {
    let bad = || ConfigError::ServerName(text.to_owned());
    let name = Name::from_user(text).map_err(|_| bad())?;
    let fits = |label: &[u8]| label.iter().all(|octet| octet.is_ascii_alphanumeric() || *octet == b'-');
    if name.is_root() || !name.labels().all(fits) { Err(bad()) } else { Ok(name) }
}

/// Checks the URL of a page about a server (RFC 9606 §5).
///
/// # Errors
/// [`ConfigError::InfoUrl`]
pub fn info_url(text: &str) -> Result<String, ConfigError> {
    let fits = text.starts_with("https://") && text.len() <= MAX_INFO_URL && text.bytes().all(|b| b.is_ascii_graphic());
    if fits { Ok(text.to_owned()) } else { Err(ConfigError::InfoUrl) }
}

fn certificates(files: TlsFiles) -> Result<Vec<(PathBuf, PathBuf)>, ConfigError> {
    if files.0.len() > MAX_CERTIFICATES {
        return Err(ConfigError::Certificates);
    }
    Ok(files.0.into_iter().map(|tls| (tls.cert, tls.key)).collect())
}

fn witnesses(file: &LogFile) -> Result<Vec<VerifierKey>, ConfigError> {
    if file.witnesses.len() > MAX_WITNESSES {
        return Err(ConfigError::Witnesses);
    }
    if file.quorum.is_some_and(|quorum| quorum == 0 || quorum > file.witnesses.len()) {
        return Err(ConfigError::Quorum);
    }
    let key = |text: &String| {
        let key = text.parse().ok().filter(|key: &VerifierKey| key.purpose() == Purpose::Cosignature);
        key.ok_or_else(|| ConfigError::Witness(text.clone()))
    };
    file.witnesses.iter().map(key).collect()
}

fn tap(file: TapFile) -> Result<TapConfig, ConfigError> {
    let to = match (file.socket, file.file) {
        (Some(path), None) => TapTo::Socket(path),
        (None, Some(path)) => TapTo::File(path),
        _ => return Err(ConfigError::TapTo),
    };
    let types = file.types.unwrap_or_else(|| vec![TapType::AuthQuery, TapType::AuthResponse]);
    let has = |kind| types.contains(&kind);
    let (queries, responses) = (has(TapType::AuthQuery), has(TapType::AuthResponse));
    if !queries && !responses {
        return Err(ConfigError::TapTypes);
    }
    Ok(TapConfig { to, sample: file.sample, queries, responses, addresses: file.addresses })
}

fn trace(file: TraceFile) -> Result<TraceConfig, ConfigError> {
    let plain = |text: String| {
        let uri = text.parse().ok().filter(|uri: &http::Uri| uri.scheme_str() == Some("http") && uri.host().is_some());
        uri.ok_or(ConfigError::Otlp(text))
    };
    Ok(TraceConfig { sample: file.sample, otlp: file.otlp.map(plain).transpose()?, addresses: file.addresses })
}

impl Config {
    /// Reads and checks a config file.
    ///
    /// # Errors
    /// [`ConfigError`], with line and column where the syntax is at fault.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text).map_err(|error| ConfigError::Syntax(error.to_string()))?;
        let limits = file.limits;
        let rates = [
            ("queries_per_second", limits.queries_per_second),
            ("query_burst", limits.query_burst),
            ("calls_per_second", limits.calls_per_second),
            ("call_burst", limits.call_burst),
            ("program_calls_per_second", limits.program_calls_per_second),
            ("program_call_burst", limits.program_call_burst),
            ("cpu_ms_per_second", limits.cpu_ms_per_second),
            ("responses_per_second", limits.responses_per_second),
            ("network_responses_per_second", limits.network_responses_per_second),
            ("amplification", limits.amplification),
        ];
        let out_of_range = |rate: Option<u32>| rate.is_some_and(|rate| !(1..=MAX_RATE).contains(&rate));
        if let Some((name, _)) = rates.iter().find(|(_, rate)| out_of_range(*rate)) {
            return Err(ConfigError::Rate(name));
        }
        Ok(Self {
            zones: file.zones,
            listen: file.listen,
            port_base: file.port_base,
            ports: file.ports,
            metrics_listen: file.metrics_listen,
            transfer_to: file.transfer_to.iter().map(|text| transfer_to(text)).collect::<Result<_, _>>()?,
            proxy_from: file.proxy_from.iter().map(|text| proxy_from(text)).collect::<Result<_, _>>()?,
            ecs_from: file.ecs_from.iter().map(|text| ecs_from(text)).collect::<Result<_, _>>()?,
            cores: file.cores.map(at_most_cores).transpose()?,
            responses_per_second: limits.responses_per_second,
            network_responses_per_second: limits.network_responses_per_second,
            amplification: limits.amplification,
            certificates: certificates(file.tls)?,
            server_name: file.server_name.as_deref().map(server_name).transpose()?,
            info_url: file.info_url.as_deref().map(info_url).transpose()?,
            hosts: file.hosts,
            queries_per_second: limits.queries_per_second,
            query_burst: limits.query_burst,
            calls_per_second: limits.calls_per_second,
            call_burst: limits.call_burst,
            program_calls_per_second: limits.program_calls_per_second,
            program_call_burst: limits.program_call_burst,
            cpu_ms_per_second: limits.cpu_ms_per_second,
            limit_loopback: limits.loopback,
            witnesses: witnesses(&file.log)?,
            quorum: file.log.quorum,
            mirror: mirrors(&file.mirror)?,
            forward: file.forward.map(forward::ForwardFile::check).transpose()?,
            dnstap: file.dnstap.map(tap).transpose()?,
            trace: file.trace.map(trace).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_checked_key_by_key() {
        let text = "listen = [\"192.0.2.1\", \"2001:db8::1\"]\nport_base = 7000\n[tls]\ncert = \"c\"\nkey = \"k\"\n\
                    [limits]\nquery_burst = 7\nloopback = true\n";
        let config = Config::from_toml(text).unwrap();
        assert_eq!((config.listen.len(), config.port_base, config.query_burst), (2, Some(7000), Some(7)));
        assert!(config.limit_loopback && config.certificates.len() == 1);
        assert_eq!(Config::from_toml(""), Ok(Config::default()));
        let config = Config::from_toml("metrics_listen = [\"::1\"]\n[ports]\ndns = 53\nhttps = 443").unwrap();
        assert_eq!((config.ports.dns, config.ports.tls, config.metrics_listen.len()), (NonZeroU16::new(53), None, 1));
        let config = Config::from_toml(
            "cores = 3\nproxy_from = [\"192.0.2.0/24\"]\n[limits]\nresponses_per_second = 9\ncpu_ms_per_second = 250",
        );
        let config = config.unwrap();
        assert_eq!((config.cores.map(usize::from), config.proxy_from.len()), (Some(3), 1));
        assert_eq!((config.responses_per_second, config.cpu_ms_per_second), (Some(9), Some(250)));
        let config = Config::from_toml(
            "ecs_from = [\"192.0.2.53\"]\n[limits]\namplification = 5\nnetwork_responses_per_second = 7",
        );
        let config = config.unwrap();
        assert_eq!((config.ecs_from[0].prefix_len(), config.amplification), (32, Some(5)));
        assert_eq!(config.network_responses_per_second, Some(7));
        assert_eq!(Config::from_toml("[limits]\namplification = 0"), Err(ConfigError::Rate("amplification")));
        assert_eq!(Config::from_toml("cores = 65"), Err(ConfigError::Cores));
        assert_eq!(["64", "65", "0", "many"].map(|text| cores(text).is_ok()), [true, false, false, false]);
        let config = Config::from_toml("transfer_to = [\"192.0.2.1\", \"2001:db8::/32\"]").unwrap();
        assert_eq!(config.transfer_to.iter().map(IpNet::prefix_len).collect::<Vec<_>>(), [32, 32]);
        assert_eq!(
            Config::from_toml("transfer_to = [\"x\"]"),
            Err(ConfigError::Prefix { key: "transfer_to", text: "x".into() })
        );
        let config = Config::from_toml("mirror = [\"alt\", \"gw.example.net.\"]").unwrap();
        assert_eq!(config.mirror[1].to_string(), "gw.example.net.");
        assert_eq!(Config::from_toml("mirror = [\".\"]"), Err(ConfigError::Mirror(".".into())));
        let key = ed25519_dalek::SigningKey::from_bytes(&[2; 32]).verifying_key();
        let [witness, log] =
            [Purpose::Cosignature, Purpose::Note].map(|of| VerifierKey::new("w.example/1", of, &key).unwrap());
        let config = Config::from_toml(&format!("[log]\nwitnesses = [\"{witness}\"]\nquorum = 1")).unwrap();
        assert_eq!((config.witnesses, config.quorum), (vec![witness], Some(1)));
        let bad = Config::from_toml(&format!("[log]\nwitnesses = [\"{log}\"]"));
        assert_eq!(bad, Err(ConfigError::Witness(log.to_string())));
        assert_eq!(Config::from_toml("[log]\nquorum = 1"), Err(ConfigError::Quorum));
        assert!(matches!(Config::from_toml("nope = 1"), Err(ConfigError::Syntax(text)) if text.contains("nope")));
        assert_eq!(Config::from_toml("[limits]\nquery_burst = 0"), Err(ConfigError::Rate("query_burst")));
    }

    #[test]
    fn certificates_may_be_one_table_or_several() {
        let one = |n: u32| format!("cert = \"{n}.pem\"\nkey = \"{n}.key\"\n");
        let text = format!("[[tls]]\n{}[[tls]]\n{}", one(1), one(2));
        let pair = |n: u32| (PathBuf::from(format!("{n}.pem")), PathBuf::from(format!("{n}.key")));
        assert_eq!(Config::from_toml(&text).unwrap().certificates, [pair(1), pair(2)]);
        assert_eq!(Config::from_toml(&format!("[tls]\n{}", one(1))).unwrap().certificates, [pair(1)]);
        let many = (0..=MAX_CERTIFICATES as u32).map(|n| format!("[[tls]]\n{}", one(n))).collect::<String>();
        assert_eq!(Config::from_toml(&many), Err(ConfigError::Certificates));
        for wrong in ["[tls]\ncert = \"c\"", "[[tls]]\ncert = \"c\"\nkey = \"k\"\nkee = 1", "tls = 5"] {
            let Err(ConfigError::Syntax(told)) = Config::from_toml(wrong) else { panic!("{wrong}") };
            assert!(["`key`", "`kee`", "cert and key"].iter().any(|word| told.contains(word)), "{told}");
        }
    }

    #[test]
    fn whom_queries_are_told_to_is_checked() {
        let tap = |text: &str| Config::from_toml(&format!("[dnstap]\n{text}")).map(|config| config.dnstap.unwrap());
        let all = tap("socket = \"s\"").unwrap();
        assert_eq!(
            (all.to, all.sample, all.addresses),
            (TapTo::Socket("s".into()), Share::default(), Addresses::Truncated)
        );
        assert!(all.queries && all.responses);
        let some = tap("file = \"f\"\nsample = \"1/100\"\ntypes = [\"AUTH_RESPONSE\"]\naddresses = \"full\"").unwrap();
        assert_eq!((some.queries, some.addresses), (false, Addresses::Full));
        assert_eq!(tap("file = \"f\"\nsample = 1").unwrap().sample, Share::default());
        assert_eq!([tap(""), tap("socket = \"s\"\nfile = \"f\"")], [Err(ConfigError::TapTo), Err(ConfigError::TapTo)]);
        assert_eq!(tap("file = \"f\"\ntypes = []"), Err(ConfigError::TapTypes));
        let trace = |text: &str| Config::from_toml(&format!("[trace]\n{text}")).map(|config| config.trace.unwrap());
        assert!(trace("sample = 0.5\notlp = \"http://[::1]:4318/v1/traces\"").unwrap().otlp.is_some());
        assert!(trace("").unwrap_err().to_string().contains("sample"));
        for bad in ["https://collector/v1/traces", "/v1/traces", ""] {
            assert_eq!(trace(&format!("sample = 1\notlp = {bad:?}")), Err(ConfigError::Otlp(bad.into())));
        }
        for sample in ["0", "1.5", "-1", "1e-12", "nan", "\"1/0\"", "\"2/3\"", "true"] {
            let error = tap(&format!("file = \"f\"\nsample = {sample}")).unwrap_err();
            assert!(error.to_string().contains("a share of queries"), "{sample}: {error}");
        }
    }

    #[test]
    fn a_share_of_queries_is_what_it_says() {
        let share = |text: &str| {
            let config = Config::from_toml(&format!("[trace]\nsample = {text}")).unwrap();
            config.trace.unwrap().sample
        };
        for (text, of, expected) in [
            ("1", 20, 20),
            ("0.7", 20, 14),
            ("0.4", 30, 12),
            ("0.5", 10, 5),
            ("\"1/2\"", 10, 5),
            ("\"1/3\"", 30, 10),
            ("0.01", 1_000, 10),
            ("\"1/100\"", 1_000, 10),
            ("0.001", 10_000, 10),
            ("0.999", 10_000, 9_990),
        ] {
            let share = share(text);
            // From wherever one begins, and over the end of the numbers.
            for first in [1, 2, 77, u32::MAX - 5] {
                let taken = (0..of).filter(|n| share.has(first.wrapping_add(*n))).count();
                assert!(taken.abs_diff(expected) <= 1, "{text}: {taken} of {of}");
            }
            assert_eq!((1..=of).filter(|n| share.has(*n)).count(), expected, "{text} of {of}");
        }
        assert_eq!((1..=9).filter(|n| share("\"1/3\"").has(*n)).collect::<Vec<u32>>(), [3, 6, 9]);
        let one_in = u32::MAX;
        let least = share(&format!("\"1/{one_in}\""));
        assert!(least.has(one_in) && (1..1_000).chain(one_in - 1_000..one_in).all(|n| !least.has(n)));
    }

    #[test]
    fn names_and_urls_for_discovery_are_checked() {
        let config = Config::from_toml("server_name = \"gw.example\"\ninfo_url = \"https://gw.example/\"").unwrap();
        assert_eq!(config.server_name, Some(Name::from_user("gw.example").unwrap()));
        assert_eq!(config.info_url.as_deref(), Some("https://gw.example/"));
        for bad in ["", "a b", "a_b.example", "*.example"] {
            assert_eq!(server_name(bad), Err(ConfigError::ServerName(bad.into())));
        }
        let long = format!("https://{}", "a".repeat(MAX_INFO_URL));
        for bad in ["http://gw.example/", "https://a b", &long] {
            assert_eq!(info_url(bad), Err(ConfigError::InfoUrl));
        }
    }
}
