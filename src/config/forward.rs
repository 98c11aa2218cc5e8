//! `[forward]`: where ordinary names are asked for, and by whom.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::{ConfigError, prefix};
use crate::limits::{
    FORWARD_BYTES, FORWARD_ENTRIES, FORWARD_NEGATIVE_SECONDS, FORWARD_SECONDS, MAX_UPSTREAMS, STALE_SECONDS,
    STALE_SECONDS_DEFAULT,
};
use crate::wire::Transport;

/// How ordinary names are resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    pub upstreams: Vec<Upstream>,
    /// Certificates (PEM) that vouch for upstreams; those that browsers trust if left out.
    pub ca: Option<PathBuf>,
    /// Who may ask, beside loopback.
    pub allow: Vec<IpNet>,
    pub prefetch: bool,
    /// Seconds after its TTL for which an answer is good enough if no other can be had; 0 for never.
    pub serve_stale: u64,
    pub validate: bool,
    /// DNSKEY or DS records that validation begins at; those of the root if left out.
    pub anchors: Option<PathBuf>,
    /// Seconds for which it is remembered that there is nothing, at most.
    pub negative: u32,
    pub cache_bytes: u64,
    pub cache_entries: usize,
}

/// One server that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    pub via: Transport,
    pub addr: SocketAddr,
    /// What its certificate must be for.
    pub name: String,
    /// Of DNS over HTTPS.
    pub path: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ForwardFile {
    upstreams: Vec<String>,
    ca: Option<PathBuf>,
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default = "yes")]
    prefetch: bool,
    serve_stale: Option<String>,
    #[serde(default = "yes")]
    validate: bool,
    anchors: Option<PathBuf>,
    negative: Option<String>,
    cache_bytes: Option<u64>,
    cache_entries: Option<usize>,
}

fn yes() -> bool {
    true
}

/// A URL is of this form.
const FORM: &str = "udp, tcp, tls, quic, https or h3, ://, an address, [:PORT], [/PATH], [#NAME]";

/// Why a text names no upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    #[error("not of the form {FORM}")]
    Form,
    #[error("wants an address, not a name: write the name behind #")]
    Address,
    #[error("only https and h3 have a path")]
    Path,
    #[error("only tls, quic, https and h3 have a certificate to be for #NAME")]
    Name,
}

impl FromStr for Upstream {
    type Err = UpstreamError;

    fn from_str(text: &str) -> Result<Self, UpstreamError> {
        let (scheme, rest) = text.split_once("://").ok_or(UpstreamError::Form)?;
        let via: Transport = scheme.parse().map_err(|_| UpstreamError::Form)?;
        let (rest, name) = rest.split_once('#').map_or((rest, None), |(rest, name)| (rest, Some(name)));
        let (authority, path) = rest.find('/').map_or((rest, None), |at| (&rest[..at], Some(&rest[at..])));
        let addr = address(authority, default_port(via)).ok_or(UpstreamError::Address)?;
        let has_path = matches!(via, Transport::Https | Transport::H3);
        if path.is_some() && !has_path {
            return Err(UpstreamError::Path);
        }
        if name.is_some_and(|name| name.is_empty() || !via.is_encrypted()) {
            return Err(UpstreamError::Name);
        }
        let name = name.map_or_else(|| addr.ip().to_string(), str::to_owned);
        Ok(Self { via, addr, name, path: path.unwrap_or("/dns-query").to_owned() })
    }
}

fn default_port(via: Transport) -> u16 {
    match via {
        Transport::Udp | Transport::Tcp => 53,
        Transport::Tls | Transport::Quic => 853,
        Transport::Https | Transport::H3 => 443,
    }
}

fn address(authority: &str, port: u16) -> Option<SocketAddr> {
    let bare = authority.trim_start_matches('[').trim_end_matches(']');
    let ip = || bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port));
    authority.parse().or_else(|_| ip()).ok()
}

impl ForwardFile {
    pub(super) fn check(self) -> Result<Forward, ConfigError> {
        if self.upstreams.is_empty() || self.upstreams.len() > MAX_UPSTREAMS {
            return Err(ConfigError::Upstreams);
        }
        let upstream = |text: &String| text.parse().map_err(|why| ConfigError::Upstream { text: text.clone(), why });
        let within = |name, number: Option<u64>, most: u64| match number.unwrap_or(most) {
            number if (1..=most).contains(&number) => Ok(number),
            _ => Err(ConfigError::Number { name, most }),
        };
        let stale = seconds("serve_stale", self.serve_stale.as_deref(), STALE_SECONDS_DEFAULT, STALE_SECONDS)?;
        let negative =
            seconds("negative", self.negative.as_deref(), FORWARD_NEGATIVE_SECONDS.into(), FORWARD_SECONDS.into())?;
        let entries =
            within("cache_entries", self.cache_entries.map(|entries| entries as u64), FORWARD_ENTRIES as u64)?;
        Ok(Forward {
            upstreams: self.upstreams.iter().map(upstream).collect::<Result<_, _>>()?,
            ca: self.ca,
            allow: self.allow.iter().map(|text| prefix("forward.allow", text)).collect::<Result<_, _>>()?,
            prefetch: self.prefetch,
            serve_stale: stale,
            validate: self.validate,
            anchors: self.anchors,
            // Both fit: they are at most what they are compared with.
            negative: negative as u32,
            cache_bytes: within("cache_bytes", self.cache_bytes, FORWARD_BYTES)?,
            cache_entries: entries as usize,
        })
    }
}

/// A duration such as `1h` in seconds, at most `most`.
fn seconds(name: &'static str, text: Option<&str>, default: u64, most: u64) -> Result<u64, ConfigError> {
    let Some(text) = text else { return Ok(default) };
    let parsed = humantime::parse_duration(text).ok().as_ref().map(Duration::as_secs);
    parsed.filter(|seconds| *seconds <= most).ok_or(ConfigError::Seconds { name, most })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn upstream(text: &str) -> Result<Upstream, UpstreamError> {
        text.parse()
    }

    #[test]
    fn upstreams_are_addresses_with_a_name_for_the_certificate() {
        let quad9 = upstream("quic://9.9.9.9#dns.quad9.net").unwrap();
        assert_eq!(
            (quad9.via, quad9.addr, &*quad9.name),
            (Transport::Quic, "9.9.9.9:853".parse().unwrap(), "dns.quad9.net")
        );
        let v6 = upstream("https://[2620:fe::fe]:8443/q#dns.quad9.net").unwrap();
        assert_eq!((v6.addr, &*v6.path), ("[2620:fe::fe]:8443".parse().unwrap(), "/q"));
        assert_eq!(upstream("udp://[::1]").unwrap().addr, "[::1]:53".parse().unwrap());
        assert_eq!(upstream("h3://192.0.2.1").unwrap().name, "192.0.2.1");
        for (text, error) in [
            ("9.9.9.9", UpstreamError::Form),
            ("gopher://9.9.9.9", UpstreamError::Form),
            ("tls://dns.quad9.net", UpstreamError::Address),
            ("tls://9.9.9.9/dns-query", UpstreamError::Path),
            ("udp://9.9.9.9#dns.quad9.net", UpstreamError::Name),
            ("tls://9.9.9.9#", UpstreamError::Name),
        ] {
            assert_eq!(upstream(text), Err(error), "{text}");
        }
    }

    #[test]
    fn the_section_is_checked_key_by_key() {
        let read = |text: &str| Config::from_toml(&format!("[forward]\n{text}")).map(|config| config.forward.unwrap());
        let few = read("upstreams = [\"udp://127.0.0.1:5353\"]\nserve_stale = \"0s\"\nnegative = \"10m\"").unwrap();
        assert_eq!((few.serve_stale, few.negative, few.validate, few.prefetch), (0, 600, true, true));
        assert_eq!(read("upstreams = []"), Err(ConfigError::Upstreams));
        let wrong = |keys: &str| read(&format!("upstreams = [\"udp://127.0.0.1\"]\n{keys}")).unwrap_err().to_string();
        for (keys, word) in [
            ("serve_stale = \"4d\"", "forward.serve_stale"),
            ("negative = \"soon\"", "forward.negative"),
            ("cache_bytes = 0", "forward.cache_bytes"),
            ("cache_entries = 1000000000", "forward.cache_entries"),
            ("allow = [\"x\"]", "forward.allow"),
            ("nope = 1", "nope"),
        ] {
            assert!(wrong(keys).contains(word), "{keys}: {}", wrong(keys));
        }
        let error = Config::from_toml("[forward]\nupstreams = [\"tls://dns.quad9.net\"]").unwrap_err().to_string();
        assert!(error.contains("tls://dns.quad9.net") && error.contains('#'), "{error}");
    }
}
