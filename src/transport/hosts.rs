//! The names that requests may give this server in `Host` and `:authority`. A web page can point its own name at an
//! address of the reader's network (DNS rebinding). Its requests still bear that name.

use std::net::IpAddr;

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;

use super::tls::Identity;

/// Names that requests may bear, beside addresses and `localhost`.
#[derive(Clone, Default)]
pub struct Hosts {
    /// From the configuration, in lower case; `*` is any.
    listed: Vec<String>,
    /// Its certificates are for names of this server, too.
    identity: Option<Identity>,
}

impl Hosts {
    pub fn new(listed: impl IntoIterator<Item = String>) -> Self {
        let listed = listed.into_iter().map(|name| name.trim_end_matches('.').to_ascii_lowercase()).collect();
        Self { listed, identity: None }
    }

    /// And the names of the certificates that there are at any time.
    #[must_use]
    pub fn of(self, identity: Identity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// Whether a request for this authority, a host with or without a port, is for this server.
    pub fn allow(&self, authority: &str) -> bool {
        // Nobody is named in front of a host (RFC 9110 §4.2.4).
        let Some(authority) = authority.parse::<Authority>().ok().filter(|all| !all.as_str().contains('@')) else {
            return false;
        };
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
        address.parse::<IpAddr>().is_ok()
            || host == "localhost"
            || self.listed.iter().any(|listed| listed == "*" || *listed == host)
            || self.identity.as_ref().is_some_and(|identity| is_certified(identity, &host))
    }
}

fn is_certified(identity: &Identity, host: &str) -> bool {
    let certificates = identity.certificates().list();
    let mut names = certificates.iter().flat_map(|(_, certificate)| &certificate.names);
    names.any(|name| match name.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(_, rest)| rest == parent),
        None => name == host,
    })
}

/// The host that a request is for, if it says so.
pub fn authority(parts: &Parts) -> Option<&str> {
    let host = || parts.headers.get(HOST).map(|host| host.to_str().unwrap_or("?"));
    parts.uri.authority().map(Authority::as_str).or_else(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_known_names_are_this_server() {
        let hosts = Hosts::new(["Gateway.Example.".to_owned()]);
        for own in ["127.0.0.1:9530", "[::1]:443", "[2001:db8::1]", "LocalHost.", "localhost:1", "gateway.example:8443"]
        {
            assert!(hosts.allow(own), "{own}");
        }
        for other in
            ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "", "a b", "x@gateway.example:y"]
        {
            assert!(!hosts.allow(other), "{other}");
        }
        assert!(Hosts::new(["*".to_owned()]).allow("evil.example"));
    }
}
