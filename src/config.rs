//! The config file: its format, checked into a [`Config`]. Unknown keys are errors.

mod forward;

pub use forward::{Forward, Upstream, UpstreamError};

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;

use crate::limits::{MAX_MIRRORS, MAX_WITNESSES};
use crate::tlog::{Purpose, VerifierKey};
use crate::wire::Name;

/// What an operator may set in a file. Everything has a default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    pub zones: Option<PathBuf>,
    pub listen: Vec<IpAddr>,
    pub port_base: Option<u16>,
    /// Chain and key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Who may transfer zones.
    pub transfer_to: Vec<IpNet>,
    pub queries_per_second: Option<u32>,
    pub query_burst: Option<u32>,
    pub calls_per_second: Option<u32>,
    pub call_burst: Option<u32>,
    pub limit_loopback: bool,
    /// Keys of witnesses whose cosignatures are taken, and how many make a checkpoint a witnessed one.
    pub witnesses: Vec<VerifierKey>,
    pub quorum: Option<usize>,
    /// Suffixes under which our TLDs are answered, too.
    pub mirror: Vec<Name>,
    /// How ordinary names are resolved; they are not if left out.
    pub forward: Option<Forward>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    zones: Option<PathBuf>,
    #[serde(default)]
    listen: Vec<IpAddr>,
    port_base: Option<u16>,
    tls: Option<TlsFile>,
    /// Addresses or prefixes.
    #[serde(default)]
    transfer_to: Vec<String>,
    #[serde(default)]
    limits: LimitsFile,
    #[serde(default)]
    log: LogFile,
    #[serde(default)]
    mirror: Vec<String>,
    forward: Option<forward::ForwardFile>,
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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsFile {
    queries_per_second: Option<u32>,
    query_burst: Option<u32>,
    calls_per_second: Option<u32>,
    call_burst: Option<u32>,
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
    #[error("log.witnesses: {0:?} is not the key of a witness, as `ghostplane log witness --show-key` prints it")]
    Witness(String),
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

fn mirrors(texts: &[String]) -> Result<Vec<Name>, ConfigError> {
    if texts.len() > MAX_MIRRORS {
        return Err(ConfigError::Mirrors);
    }
    let name = |text: &String| Name::from_user(text).ok().filter(|name| !name.is_root());
    texts.iter().map(|text| name(text).ok_or_else(|| ConfigError::Mirror(text.clone()))).collect()
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
        ];
        let out_of_range = |rate: Option<u32>| rate.is_some_and(|rate| !(1..=MAX_RATE).contains(&rate));
        if let Some((name, _)) = rates.iter().find(|(_, rate)| out_of_range(*rate)) {
            return Err(ConfigError::Rate(name));
        }
        Ok(Self {
            zones: file.zones,
            listen: file.listen,
            port_base: file.port_base,
            transfer_to: file.transfer_to.iter().map(|text| transfer_to(text)).collect::<Result<_, _>>()?,
            certificate: file.tls.map(|tls| (tls.cert, tls.key)),
            queries_per_second: limits.queries_per_second,
            query_burst: limits.query_burst,
            calls_per_second: limits.calls_per_second,
            call_burst: limits.call_burst,
            limit_loopback: limits.loopback,
            witnesses: witnesses(&file.log)?,
            quorum: file.log.quorum,
            mirror: mirrors(&file.mirror)?,
            forward: file.forward.map(forward::ForwardFile::check).transpose()?,
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
        assert!(config.limit_loopback && config.certificate.is_some());
        assert_eq!(Config::from_toml(""), Ok(Config::default()));
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
}
