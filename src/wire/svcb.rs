//! Service parameters of SVCB and HTTPS records (RFC 9460 §2.1, §7).

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use data_encoding::BASE64;

use super::rdata::{Token, quote};
use super::u16_at;

/// Why service parameters are not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SvcError {
    #[error("a parameter ends too early")]
    Short,
    #[error("keys must rise strictly")]
    Order,
    #[error("{0} has a malformed value")]
    Value(String),
    #[error("mandatory names {0}, which is not there")]
    Mandatory(String),
    #[error("{0:?} is not a parameter; write key=value, or keyNNNNN=value for others")]
    Unknown(String),
    #[error("{0} stands twice")]
    Twice(String),
}

/// Keys (RFC 9460 §14.3.2).
pub const MANDATORY: u16 = 0;
pub const ALPN: u16 = 1;
pub const NO_DEFAULT_ALPN: u16 = 2;
pub const PORT: u16 = 3;
pub const IPV4HINT: u16 = 4;
pub const ECH: u16 = 5;
pub const IPV6HINT: u16 = 6;
pub const DOHPATH: u16 = 7;
const KEYS: [(u16, &str); 8] = [
    (MANDATORY, "mandatory"),
    (ALPN, "alpn"),
    (NO_DEFAULT_ALPN, "no-default-alpn"),
    (PORT, "port"),
    (IPV4HINT, "ipv4hint"),
    (ECH, "ech"),
    (IPV6HINT, "ipv6hint"),
    (DOHPATH, "dohpath"),
];

/// Checks parameters in wire form: keys rise, known values have their form, mandatory keys are there.
pub(super) fn check(wire: &[u8]) -> Result<(), SvcError> {
    let params = split(wire)?;
    if !params.windows(2).all(|pair| pair[0].0 < pair[1].0) {
        return Err(SvcError::Order);
    }
    params.iter().try_for_each(|(key, value)| check_value(*key, value))?;
    let has = |key: u16| params.iter().any(|(found, _)| *found == key);
    if has(NO_DEFAULT_ALPN) && !has(ALPN) {
        return Err(SvcError::Mandatory("alpn".into()));
    }
    let mandatory = params.iter().find(|(key, _)| *key == MANDATORY).map_or(&[][..], |(_, value)| value);
    let missing = mandatory.chunks(2).map(|key| u16_at(key, 0)).find(|key| !has(*key));
    missing.map_or(Ok(()), |key| Err(SvcError::Mandatory(key_text(key))))
}

fn split(wire: &[u8]) -> Result<Vec<(u16, &[u8])>, SvcError> {
    let mut rest = wire;
    let mut params = Vec::new();
    while !rest.is_empty() {
        let head = rest.get(..4).ok_or(SvcError::Short)?;
        let len = usize::from(u16_at(head, 2));
        params.push((u16_at(head, 0), rest.get(4..4 + len).ok_or(SvcError::Short)?));
        rest = &rest[4 + len..];
    }
    Ok(params)
}

fn check_value(key: u16, value: &[u8]) -> Result<(), SvcError> {
    let whole = |size: usize| !value.is_empty() && value.len().is_multiple_of(size);
    let fits = match key {
        MANDATORY => whole(2) && value.chunks(2).map(|key| u16_at(key, 0)).is_sorted_by(|a, b| 0 < *a && a < b),
        ALPN => alpn_ids(value).is_some_and(|ids| !ids.is_empty()),
        NO_DEFAULT_ALPN => value.is_empty(),
        PORT => value.len() == 2,
        IPV4HINT => whole(4),
        IPV6HINT => whole(16),
        // A relative URI template with the variable "dns" (RFC 9461 §5).
        DOHPATH => std::str::from_utf8(value).is_ok_and(|path| path.starts_with('/') && path.contains("dns")),
        65535 => false,
        _ => true,
    };
    if fits { Ok(()) } else { Err(SvcError::Value(key_text(key))) }
}

fn alpn_ids(mut value: &[u8]) -> Option<Vec<&[u8]>> {
    let mut ids = Vec::new();
    while let [len, tail @ ..] = value {
        let len = usize::from(*len);
        ids.push(tail.get(..len).filter(|id| !id.is_empty())?);
        value = &tail[len..];
    }
    Some(ids)
}

/// Presentation form of checked parameters.
pub(super) fn print(wire: &[u8], text: &mut String) {
    let params = split(wire).unwrap_or_default();
    let texts: Vec<String> = params.iter().map(|(key, value)| print_param(*key, value)).collect();
    text.push_str(&texts.join(" "));
}

fn print_param(key: u16, value: &[u8]) -> String {
    let name = key_text(key);
    let list =
        |size: usize, print: fn(&[u8]) -> String| value.chunks_exact(size).map(print).collect::<Vec<_>>().join(",");
    match key {
        MANDATORY => format!("{name}={}", list(2, |key| key_text(u16_at(key, 0)))),
        ALPN => quoted(&name, &join_ids(&alpn_ids(value).unwrap_or_default())),
        PORT => format!("{name}={}", u16_at(value, 0)),
        IPV4HINT => format!("{name}={}", list(4, |ip| Ipv4Addr::new(ip[0], ip[1], ip[2], ip[3]).to_string())),
        IPV6HINT => format!("{name}={}", list(16, print_ipv6)),
        ECH => format!("{name}={}", BASE64.encode(value)),
        _ if value.is_empty() => name,
        _ => quoted(&name, value),
    }
}

fn print_ipv6(octets: &[u8]) -> String {
    let octets: Result<[u8; 16], _> = octets.try_into();
    octets.map(|octets| Ipv6Addr::from(octets).to_string()).unwrap_or_default()
}

/// Ids joined by commas; a comma or backslash inside one is escaped (RFC 9460 appendix A.1).
fn join_ids(ids: &[&[u8]]) -> Vec<u8> {
    let escape = |id: &&[u8]| {
        id.iter()
            .flat_map(|octet| if matches!(octet, b',' | b'\\') { vec![b'\\', *octet] } else { vec![*octet] })
            .collect::<Vec<u8>>()
    };
    ids.iter().map(escape).collect::<Vec<_>>().join(&b',')
}

fn quoted(name: &str, value: &[u8]) -> String {
    let mut text = format!("{name}=");
    quote(value, &mut text);
    text
}

/// Reads `key=value` words; writes them in rising order of their keys.
pub(super) fn read(tokens: &[Token], out: &mut Vec<u8>) -> Result<(), SvcError> {
    let mut params = tokens.iter().map(read_param).collect::<Result<Vec<_>, _>>()?;
    params.sort_by_key(|(key, _)| *key);
    if let Some(pair) = params.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(SvcError::Twice(key_text(pair[0].0)));
    }
    for (key, value) in params {
        out.extend(key.to_be_bytes());
        out.extend(u16::try_from(value.len()).map_err(|_| SvcError::Value(key_text(key)))?.to_be_bytes());
        out.extend(value);
    }
    Ok(())
}

fn read_param(token: &Token) -> Result<(u16, Vec<u8>), SvcError> {
    let at = token.octets.iter().position(|octet| *octet == b'=');
    let (name, value) = at.map_or((&token.octets[..], &[][..]), |at| (&token.octets[..at], &token.octets[at + 1..]));
    let name = std::str::from_utf8(name).map_err(|_| SvcError::Unknown(token.raw.clone()))?;
    let key = key_of(name).ok_or_else(|| SvcError::Unknown(name.to_owned()))?;
    let value = read_value(key, value).ok_or_else(|| SvcError::Value(name.to_owned()))?;
    Ok((key, value))
}

fn read_value(key: u16, value: &[u8]) -> Option<Vec<u8>> {
    let text = || std::str::from_utf8(value).ok();
    match key {
        MANDATORY => {
            let mut keys = text()?.split(',').map(key_of).collect::<Option<Vec<_>>>()?;
            keys.sort_unstable();
            Some(keys.iter().flat_map(|key| key.to_be_bytes()).collect())
        }
        ALPN => read_ids(value),
        PORT => Some(text()?.parse::<u16>().ok()?.to_be_bytes().to_vec()),
        IPV4HINT => text()?
            .split(',')
            .map(|ip| Some(ip.parse::<Ipv4Addr>().ok()?.octets()))
            .collect::<Option<Vec<_>>>()
            .map(|ips| ips.concat()),
        IPV6HINT => text()?
            .split(',')
            .map(|ip| Some(ip.parse::<Ipv6Addr>().ok()?.octets()))
            .collect::<Option<Vec<_>>>()
            .map(|ips| ips.concat()),
        ECH => BASE64.decode(value).ok(),
        _ => Some(value.to_vec()),
    }
}

fn read_ids(value: &[u8]) -> Option<Vec<u8>> {
    let mut ids = vec![Vec::new()];
    let mut octets = value.iter();
    while let Some(&octet) = octets.next() {
        match octet {
            b',' => ids.push(Vec::new()),
            b'\\' => ids.last_mut()?.push(*octets.next()?),
            _ => ids.last_mut()?.push(octet),
        }
    }
    let mut out = Vec::new();
    for id in ids {
        out.push(u8::try_from(id.len()).ok().filter(|len| *len > 0)?);
        out.extend(id);
    }
    Some(out)
}

fn key_of(name: &str) -> Option<u16> {
    let known = KEYS.iter().find(|(_, text)| *text == name).map(|(key, _)| *key);
    // keyNNNNN without leading zeros (RFC 9460 §2.1).
    let number = || name.strip_prefix("key").filter(|digits| *digits == "0" || !digits.starts_with('0'))?.parse().ok();
    known.or_else(number)
}

fn key_text(key: u16) -> String {
    let known = KEYS.iter().find(|(number, _)| *number == key);
    let mut text = String::new();
    match known {
        Some((_, name)) => text.push_str(name),
        // Writing to a String cannot fail.
        None => drop(write!(text, "key{key}")),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_parameters_are_refused() {
        assert_eq!(check(b"\0\x03\0\x02\x20\xfb"), Ok(()));
        assert_eq!(check(b"\0\x03\0\x01\x20"), Err(SvcError::Value("port".into())));
        assert_eq!(check(b"\0\x03\0\x02\x20"), Err(SvcError::Short));
        assert_eq!(check(b"\0\x03\0\x02\x20\xfb\0\x01\0\x03\x02h3"), Err(SvcError::Order));
        assert_eq!(check(b"\0\0\0\x02\0\x01"), Err(SvcError::Mandatory("alpn".into())));
        assert_eq!(check(b"\0\x02\0\0"), Err(SvcError::Mandatory("alpn".into())));
        assert_eq!(check(b"\0\x01\0\x04\x02h3\0"), Err(SvcError::Value("alpn".into())));
        assert_eq!(check(b"\0\x07\0\x07/{?dns}"), Ok(()));
        assert_eq!(check(b"\0\x07\0\x02/q"), Err(SvcError::Value("dohpath".into())));
        assert_eq!(check(b"\0\0\0\x04\0\x03\0\x01"), Err(SvcError::Value("mandatory".into())));
    }
}
