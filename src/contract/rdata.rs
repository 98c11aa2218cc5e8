//! RDATA as the world types it, and in wire form.

use super::bindings::ghostplane::contract::types;
use crate::limits::MAX_RDATA;
use crate::wire::Rtype;
use crate::wire::svcb::{ALPN, ECH, IPV4HINT, IPV6HINT, MANDATORY, NO_DEFAULT_ALPN, PORT};

/// What is wrong with typed RDATA; its fields are checked after it is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TypedError {
    #[error("{0} RDATA in an RRset of another type")]
    Type(Rtype),
    #[error("a character string or tag of more than 255 octets")]
    StringTooLong,
    #[error("a service parameter stands twice")]
    ParamTwice,
    #[error("longer than {MAX_RDATA} octets")]
    TooLong,
}

/// The type that a case of `rdata` is of in an RRset of type `wanted`, which is any for `raw`.
fn rtype(wanted: Rtype, data: &types::Rdata) -> Rtype {
    use types::Rdata as R;
    match data {
        R::Raw(_) => wanted,
        R::Svcb(_) if wanted == Rtype::HTTPS => wanted,
        R::A(_) => Rtype::A,
        R::Aaaa(_) => Rtype::AAAA,
        R::Cname(_) => Rtype::CNAME,
        R::Mx(_) => Rtype::MX,
        R::Txt(_) => Rtype::TXT,
        R::Srv(_) => Rtype::SRV,
        R::Svcb(_) => Rtype::SVCB,
        R::Uri(_) => Rtype::URI,
        R::Caa(_) => Rtype::CAA,
        R::Tlsa(_) => Rtype::TLSA,
        R::Sshfp(_) => Rtype::SSHFP,
        R::Cert(_) => Rtype::CERT,
        R::Openpgpkey(_) => Rtype::OPENPGPKEY,
        R::Wallet(_) => Rtype::WALLET,
    }
}

/// RDATA of an RRset of type `wanted` in wire form, not yet checked against that type.
pub(super) fn to_wire(wanted: Rtype, data: types::Rdata) -> Result<Vec<u8>, TypedError> {
    use types::Rdata as R;
    let rtype = rtype(wanted, &data);
    if rtype != wanted {
        return Err(TypedError::Type(rtype));
    }
    let wire = match data {
        R::Raw(octets) | R::Cname(octets) | R::Openpgpkey(octets) => octets,
        R::A((a, b, c, d)) => vec![a, b, c, d],
        R::Aaaa(groups) => ipv6(groups).to_vec(),
        R::Mx(mx) => [&mx.preference.to_be_bytes()[..], &mx.exchange].concat(),
        R::Txt(strings) => texts(strings.iter().map(Vec::as_slice))?,
        R::Srv(srv) => [&shorts([srv.priority, srv.weight, srv.port])[..], &srv.target].concat(),
        R::Svcb(svcb) => service(svcb)?,
        R::Uri(uri) => [&shorts([uri.priority, uri.weight])[..], uri.target.as_bytes()].concat(),
        R::Caa(caa) => {
            let length = u8::try_from(caa.tag.len()).map_err(|_| TypedError::StringTooLong)?;
            [&[caa.flags, length], caa.tag.as_bytes(), &caa.value].concat()
        }
        R::Tlsa(tlsa) => [&[tlsa.usage, tlsa.selector, tlsa.matching_type], &tlsa.data[..]].concat(),
        R::Sshfp(sshfp) => [&[sshfp.algorithm, sshfp.fingerprint_type], &sshfp.fingerprint[..]].concat(),
        R::Cert(cert) => [&shorts([cert.cert_type, cert.key_tag])[..], &[cert.algorithm], &cert.certificate].concat(),
        R::Wallet(wallet) => {
            texts(std::iter::once(wallet.ticker.as_bytes()).chain(wallet.address.as_bytes().chunks(255)))?
        }
    };
    if wire.len() > MAX_RDATA { Err(TypedError::TooLong) } else { Ok(wire) }
}

fn shorts<const N: usize>(values: [u16; N]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_be_bytes()).collect()
}

fn ipv6((a, b, c, d, e, f, g, h): types::Ipv6) -> [u8; 16] {
    std::net::Ipv6Addr::new(a, b, c, d, e, f, g, h).octets()
}

fn texts<'a>(strings: impl Iterator<Item = &'a [u8]>) -> Result<Vec<u8>, TypedError> {
    let mut wire = Vec::new();
    for string in strings {
        wire.push(u8::try_from(string.len()).map_err(|_| TypedError::StringTooLong)?);
        wire.extend_from_slice(string);
    }
    Ok(wire)
}

fn service(svcb: types::Svcb) -> Result<Vec<u8>, TypedError> {
    let mut params = svcb.params.into_iter().map(param).collect::<Result<Vec<_>, _>>()?;
    params.sort_by_key(|(key, _)| *key);
    if params.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(TypedError::ParamTwice);
    }
    let mut wire = [&svcb.priority.to_be_bytes()[..], &svcb.target].concat();
    for (key, value) in params {
        let length = u16::try_from(value.len()).map_err(|_| TypedError::TooLong)?;
        wire.extend_from_slice(&shorts([key, length]));
        wire.extend_from_slice(&value);
    }
    Ok(wire)
}

fn param(param: types::SvcParam) -> Result<(u16, Vec<u8>), TypedError> {
    use types::SvcParam as P;
    Ok(match param {
        P::Mandatory(mut keys) => {
            keys.sort_unstable();
            (MANDATORY, keys.iter().flat_map(|key| key.to_be_bytes()).collect())
        }
        P::Alpn(ids) => (ALPN, texts(ids.iter().map(Vec::as_slice))?),
        P::NoDefaultAlpn => (NO_DEFAULT_ALPN, Vec::new()),
        P::Port(port) => (PORT, port.to_be_bytes().to_vec()),
        P::Ipv4hint(hints) => (IPV4HINT, hints.iter().flat_map(|(a, b, c, d)| [*a, *b, *c, *d]).collect()),
        P::Ech(octets) => (ECH, octets),
        P::Ipv6hint(hints) => (IPV6HINT, hints.into_iter().flat_map(ipv6).collect()),
        P::Other(other) => other,
    })
}

/// Stored RDATA as the world types it: `raw` for types without a case, and for what does not fit its case.
pub(super) fn from_wire(rtype: Rtype, wire: &[u8]) -> types::Rdata {
    typed(rtype, wire).unwrap_or_else(|| types::Rdata::Raw(wire.to_vec()))
}

fn typed(rtype: Rtype, wire: &[u8]) -> Option<types::Rdata> {
    use types::Rdata as R;
    let mut fields = Fields(wire);
    Some(match rtype {
        Rtype::A => R::A(fields.ipv4()?),
        Rtype::AAAA => R::Aaaa(fields.ipv6()?),
        Rtype::CNAME => R::Cname(wire.to_vec()),
        Rtype::MX => R::Mx(types::Mx { preference: fields.u16()?, exchange: fields.rest() }),
        Rtype::TXT => R::Txt(fields.strings()?),
        Rtype::SRV => R::Srv(types::Srv {
            priority: fields.u16()?,
            weight: fields.u16()?,
            port: fields.u16()?,
            target: fields.rest(),
        }),
        Rtype::SVCB | Rtype::HTTPS => R::Svcb(fields.service()?),
        Rtype::URI => {
            R::Uri(types::Uri { priority: fields.u16()?, weight: fields.u16()?, target: fields.text_to_end()? })
        }
        Rtype::CAA => R::Caa(types::Caa { flags: fields.u8()?, tag: text(fields.string()?)?, value: fields.rest() }),
        Rtype::TLSA => R::Tlsa(types::Tlsa {
            usage: fields.u8()?,
            selector: fields.u8()?,
            matching_type: fields.u8()?,
            data: fields.rest(),
        }),
        Rtype::SSHFP => R::Sshfp(types::Sshfp {
            algorithm: fields.u8()?,
            fingerprint_type: fields.u8()?,
            fingerprint: fields.rest(),
        }),
        Rtype::CERT => R::Cert(types::Cert {
            cert_type: fields.u16()?,
            key_tag: fields.u16()?,
            algorithm: fields.u8()?,
            certificate: fields.rest(),
        }),
        Rtype::OPENPGPKEY => R::Openpgpkey(wire.to_vec()),
        Rtype::WALLET => {
            let mut strings = fields.strings()?.into_iter();
            let ticker = String::from_utf8(strings.next()?).ok()?;
            R::Wallet(types::Wallet { ticker, address: String::from_utf8(strings.flatten().collect()).ok()? })
        }
        _ => return None,
    })
}

fn text(octets: &[u8]) -> Option<String> {
    String::from_utf8(octets.to_vec()).ok()
}

/// What is left of RDATA that has been checked on its way into the registry.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|octets| octets[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|octets| u16::from_be_bytes([octets[0], octets[1]]))
    }

    fn ipv4(&mut self) -> Option<types::Ipv4> {
        let octets = self.take(4)?;
        Some((octets[0], octets[1], octets[2], octets[3]))
    }

    fn ipv6(&mut self) -> Option<types::Ipv6> {
        let mut group = || self.u16();
        Some((group()?, group()?, group()?, group()?, group()?, group()?, group()?, group()?))
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let length = self.u8()?;
        self.take(usize::from(length))
    }

    fn strings(&mut self) -> Option<Vec<Vec<u8>>> {
        let mut strings = Vec::new();
        while !self.0.is_empty() {
            strings.push(self.string()?.to_vec());
        }
        Some(strings)
    }

    fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0).to_vec()
    }

    fn text_to_end(&mut self) -> Option<String> {
        text(std::mem::take(&mut self.0))
    }

    fn service(&mut self) -> Option<types::Svcb> {
        let priority = self.u16()?;
        let (_, length) = crate::wire::Name::from_wire_prefix(self.0).ok()?;
        let target = self.take(length)?.to_vec();
        let mut params = Vec::new();
        while !self.0.is_empty() {
            let (key, length) = (self.u16()?, self.u16()?);
            params.push(svc_param(key, self.take(usize::from(length))?)?);
        }
        Some(types::Svcb { priority, target, params })
    }
}

fn svc_param(key: u16, value: &[u8]) -> Option<types::SvcParam> {
    use types::SvcParam as P;
    let mut fields = Fields(value);
    let mut list = Vec::new();
    Some(match key {
        MANDATORY => P::Mandatory(value.chunks_exact(2).map(|key| u16::from_be_bytes([key[0], key[1]])).collect()),
        ALPN => P::Alpn(fields.strings()?),
        NO_DEFAULT_ALPN => P::NoDefaultAlpn,
        PORT => P::Port(fields.u16()?),
        IPV4HINT => {
            while !fields.0.is_empty() {
                list.push(fields.ipv4()?);
            }
            P::Ipv4hint(list)
        }
        ECH => P::Ech(value.to_vec()),
        IPV6HINT => {
            let mut list = Vec::new();
            while !fields.0.is_empty() {
                list.push(fields.ipv6()?);
            }
            P::Ipv6hint(list)
        }
        key => P::Other((key, value.to_vec())),
    })
}

/// Whether typed RDATA and its wire form say the same, of every case.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::rdata;

    const EXAMPLES: [(Rtype, &str); 15] = [
        (Rtype::A, "192.0.2.1"),
        (Rtype::AAAA, "2001:db8::1:2"),
        (Rtype::CNAME, "www.alice.ghost."),
        (Rtype::MX, "10 mail.alice.ghost."),
        (Rtype::TXT, "\"one\" \"two\""),
        (Rtype::SRV, "1 2 443 www.alice.ghost."),
        (Rtype::SVCB, "1 . mandatory=alpn,port alpn=h2,h3 no-default-alpn port=8443 key65400=abc"),
        (Rtype::HTTPS, "16 foo.ghost. alpn=h3 ipv4hint=192.0.2.1,192.0.2.2 ipv6hint=2001:db8::1"),
        (Rtype::URI, "10 1 \"https://www.alice.ghost/\""),
        (Rtype::CAA, "0 issue \"ca.example; x=y\""),
        (Rtype::TLSA, "3 1 1 0011223344556677889900112233445566778899001122334455667788990011"),
        (Rtype::SSHFP, "4 2 0011223344556677889900112233445566778899001122334455667788990011"),
        (Rtype::CERT, "1 2 15 AAEC"),
        (Rtype::OPENPGPKEY, "AAEC"),
        (Rtype::WALLET, "\"BTC\" \"bc1qexample\""),
    ];

    #[test]
    fn every_case_goes_both_ways() {
        for (rtype, text) in EXAMPLES {
            let wire = rdata::from_text(rtype, text, None).unwrap_or_else(|error| panic!("{rtype} {text}: {error}"));
            let typed = from_wire(rtype, &wire);
            assert!(!matches!(typed, types::Rdata::Raw(_)), "{rtype}");
            assert_eq!(to_wire(rtype, typed.clone()), Ok(wire), "{rtype}");
            assert!(matches!(to_wire(Rtype::SOA, typed), Err(TypedError::Type(_))), "{rtype}");
        }
        assert!(matches!(from_wire(Rtype::NAPTR, b"any"), types::Rdata::Raw(_)));
    }

    #[test]
    fn what_has_no_wire_form_is_refused() {
        let txt = types::Rdata::Txt(vec![vec![b'x'; 256]]);
        assert_eq!(to_wire(Rtype::TXT, txt), Err(TypedError::StringTooLong));
        let param = || types::SvcParam::Port(1);
        let twice = types::Svcb { priority: 1, target: vec![0], params: vec![param(), param()] };
        assert_eq!(to_wire(Rtype::SVCB, types::Rdata::Svcb(twice)), Err(TypedError::ParamTwice));
        assert_eq!(to_wire(Rtype::A, types::Rdata::Raw(vec![0; MAX_RDATA + 1])), Err(TypedError::TooLong));
        // Out of order is put in order; what does not stand in a string is cut into several.
        let params = vec![types::SvcParam::Port(1), types::SvcParam::Alpn(vec![b"h3".to_vec()])];
        let wire = to_wire(Rtype::SVCB, types::Rdata::Svcb(types::Svcb { priority: 1, target: vec![0], params }));
        assert_eq!(rdata::check(Rtype::SVCB, &wire.unwrap()), Ok(()));
        let wallet = types::Wallet { ticker: "ADA".into(), address: "a".repeat(300) };
        assert_eq!(rdata::check(Rtype::WALLET, &to_wire(Rtype::WALLET, types::Rdata::Wallet(wallet)).unwrap()), Ok(()));
    }
}
