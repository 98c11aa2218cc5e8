//! The config file: its format, checked into a [`Config`]. Unknown keys are errors.

use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;

use crate::limits::MAX_WITNESSES;
use crate::tlog::{Purpose, VerifierKey};

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
    /// Balancers that say for whom they ask.
    pub proxy_from: Vec<IpNet>,
    /// Threads that serve sockets.
    pub cores: Option<NonZeroUsize>,
    pub responses_per_second: Option<u32>,
    pub queries_per_second: Option<u32>,
    pub query_burst: Option<u32>,
    pub calls_per_second: Option<u32>,
    pub call_burst: Option<u32>,
    pub limit_loopback: bool,
    /// Keys of witnesses whose cosignatures are taken, and how many make a checkpoint a witnessed one.
    pub witnesses: Vec<VerifierKey>,
    pub quorum: Option<usize>,
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
    /// As `transfer_to`.
    #[serde(default)]
    proxy_from: Vec<String>,
    cores: Option<NonZeroUsize>,
    #[serde(default)]
    limits: LimitsFile,
    #[serde(default)]
    log: LogFile,
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
    responses_per_second: Option<u32>,
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
    #[error("transfer_to: {0:?} is neither an address nor a prefix such as 192.0.2.0/24")]
    Prefix(String),
    #[error("log.witnesses: {0:?} is not the key of a witness, as `ghostplane log witness --show-key` prints it")]
    Witness(String),
    #[error("log.witnesses: at most {MAX_WITNESSES}")]
    Witnesses,
    #[error("log.quorum must be 1 to the number of witnesses")]
    Quorum,
}

/// Reads an address, or a prefix such as `192.0.2.0/24`.
///
/// # Errors
/// [`ConfigError::Prefix`]
pub fn prefix(text: &str) -> Result<IpNet, ConfigError> {
    let addr = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse().or_else(|_| addr()).map_err(|_| ConfigError::Prefix(text.to_owned()))
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
            ("responses_per_second", limits.responses_per_second),
        ];
        let out_of_range = |rate: Option<u32>| rate.is_some_and(|rate| !(1..=MAX_RATE).contains(&rate));
        if let Some((name, _)) = rates.iter().find(|(_, rate)| out_of_range(*rate)) {
            return Err(ConfigError::Rate(name));
        }
        Ok(Self {
            zones: file.zones,
            listen: file.listen,
            port_base: file.port_base,
            transfer_to: file.transfer_to.iter().map(|text| prefix(text)).collect::<Result<_, _>>()?,
            proxy_from: file.proxy_from.iter().map(|text| prefix(text)).collect::<Result<_, _>>()?,
            cores: file.cores,
            responses_per_second: limits.responses_per_second,
            certificate: file.tls.map(|tls| (tls.cert, tls.key)),
            queries_per_second: limits.queries_per_second,
            query_burst: limits.query_burst,
            calls_per_second: limits.calls_per_second,
            call_burst: limits.call_burst,
            limit_loopback: limits.loopback,
            witnesses: witnesses(&file.log)?,
            quorum: file.log.quorum,
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
        let config =
            Config::from_toml("cores = 3\nproxy_from = [\"192.0.2.0/24\"]\n[limits]\nresponses_per_second = 9");
        let config = config.unwrap();
        assert_eq!((config.cores.map(usize::from), config.proxy_from.len()), (Some(3), 1));
        assert_eq!(config.responses_per_second, Some(9));
        let config = Config::from_toml("transfer_to = [\"192.0.2.1\", \"2001:db8::/32\"]").unwrap();
        assert_eq!(config.transfer_to.iter().map(IpNet::prefix_len).collect::<Vec<_>>(), [32, 32]);
        assert_eq!(Config::from_toml("transfer_to = [\"x\"]"), Err(ConfigError::Prefix("x".into())));
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
