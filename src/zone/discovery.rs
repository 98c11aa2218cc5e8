//! How clients find this server's encrypted transports and what it is like: SVCB of a resolver (RFC 9462), SVCB of a name
//! server (RFC 9461), and RESINFO (RFC 9606).

use std::net::IpAddr;

use crate::wire::rdata::{self, RdataError};
use crate::wire::{Answer, Builder, EdeCode, Name, NameError, Query, Rcode, Rrset, Rtype, Section};

/// URI template of DNS over HTTPS (RFC 9461 §5).
pub const DOH_TEMPLATE: &str = "/dns-query{?dns}";
/// Octets of the URL in RESINFO: with its key it is one character string.
pub const MAX_INFO_URL: usize = 255 - "infourl=".len();

/// Seconds: a restart may move ports.
const TTL: u32 = 300;
/// What RFC 6303 §3 gives to zones that are served locally and say nothing.
const EMPTY_SOA: &str = "resolver.arpa. nobody.invalid. 1 3600 1200 604800 10800";
const EMPTY_TTL: u32 = 10_800;

/// What this server speaks over encrypted transports, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// UDP port of DNS over QUIC.
    pub quic: u16,
    /// Port of HTTPS: HTTP/3 over UDP, HTTP/2 over TCP.
    pub https: u16,
    /// TCP port of DNS over TLS.
    pub tls: u16,
}

impl Offer {
    /// The SVCB RRset at `owner`: a record for each protocol, the best one first. `hints` are addresses of `target`.
    ///
    /// # Errors
    /// A name or a list that is too long for a record.
    pub fn svcb(&self, owner: Name, target: &Name, hints: &[IpAddr]) -> Result<Rrset, RdataError> {
        let Self { quic, https, tls } = self;
        let hints = hint_params(hints);
        let records = [
            format!("1 {target} alpn=doq port={quic}{hints}"),
            format!("2 {target} alpn=h3,h2 port={https}{hints} dohpath={DOH_TEMPLATE}"),
            format!("3 {target} alpn=dot port={tls}{hints}"),
        ];
        let rdata = records.iter().map(|text| rdata::from_text(Rtype::SVCB, text, None));
        Ok(Rrset::new(owner, Rtype::SVCB, TTL, rdata.collect::<Result<Vec<_>, _>>()?))
    }
}

fn hint_params(addrs: &[IpAddr]) -> String {
    let list = |addrs: Vec<&IpAddr>| addrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let (v4, v6): (Vec<_>, Vec<_>) = addrs.iter().partition(|addr| addr.is_ipv4());
    let param = |key: &str, addrs: Vec<&IpAddr>| {
        if addrs.is_empty() { String::new() } else { format!(" {key}={}", list(addrs)) }
    };
    param("ipv4hint", v4) + &param("ipv6hint", v6)
}

/// The names under which a name server that answers on `port` is looked up (RFC 9461 §2, §3).
///
/// # Errors
/// They would be too long.
pub fn name_server_owners(server: &Name, port: u16) -> Result<Vec<Name>, NameError> {
    let plain = server.child(b"_dns")?;
    match port {
        53 => Ok(vec![plain]),
        // NS records mean port 53 all the same: whoever comes by one looks there.
        _ => Ok(vec![plain.child(format!("_{port}").as_bytes())?, plain]),
    }
}

/// The RESINFO RRset: what is true of this server. It looks nothing up elsewhere, so it minimises no names.
pub fn resinfo(owner: Name, info_url: Option<&str>) -> Rrset {
    let codes: Vec<u16> = EdeCode::ALL.iter().map(|code| *code as u16).collect();
    let mut rdata = rdata::txt(format!("exterr={}", ranges(&codes)).as_bytes());
    if let Some(url) = info_url {
        rdata.extend(rdata::txt(format!("infourl={url}").as_bytes()));
    }
    Rrset::new(owner, Rtype::RESINFO, TTL, [rdata])
}

/// `0,14-15` of rising numbers (RFC 9606 §5).
fn ranges(codes: &[u16]) -> String {
    let text = |run: &[u16]| match run {
        [first, .., last] => format!("{first}-{last}"),
        run => run.iter().map(ToString::to_string).collect(),
    };
    codes.chunk_by(|a, b| a + 1 == *b).map(text).collect::<Vec<_>>().join(",")
}

/// What is answered beside our TLDs: the zone `resolver.arpa`, which every server has for itself (RFC 9462 §6.4), and what
/// this server's name is asked for by those who know it: RESINFO, and SVCB at `_dns` below. Unsigned: the names are not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovery {
    apex: Name,
    soa: Rrset,
    rrsets: Vec<Rrset>,
    /// Addresses of the server's name, beside SVCB.
    addresses: Vec<Rrset>,
}

impl Discovery {
    /// Clients are led to `designated`: an offer, the name that its certificate is for, the addresses that it listens on.
    /// Without, there is nothing to be discovered.
    ///
    /// # Errors
    /// Names or lists of addresses that no record can hold.
    pub fn new(
        designated: Option<(&Offer, &Name, &[IpAddr])>,
        name: Option<&Name>,
        info_url: Option<&str>,
    ) -> Result<Self, RdataError> {
        let apex = Name::from_text("resolver.arpa.", None)?;
        let soa = rdata::from_text(Rtype::SOA, EMPTY_SOA, None)?;
        let soa = Rrset::new(apex.clone(), Rtype::SOA, EMPTY_TTL, [soa]);
        let ns = Rrset::new(apex.clone(), Rtype::NS, EMPTY_TTL, [apex.as_wire().to_vec()]);
        let mut rrsets = vec![soa.clone(), ns, resinfo(apex.clone(), info_url)];
        rrsets.extend(name.map(|name| resinfo(name.clone(), info_url)));
        let mut addresses = Vec::new();
        if let Some((offer, target, hints)) = designated {
            // For those who know an address, and for those who know the name (RFC 9462 §4, §5).
            for owner in [&apex, target] {
                rrsets.push(offer.svcb(owner.child(b"_dns")?, target, hints)?);
            }
            addresses = address_rrsets(target, hints);
        }
        Ok(Self { apex, soa, rrsets, addresses })
    }

    /// The answer, if the question is one for this zone or about this server's name.
    pub fn answer(&self, query: &Query) -> Option<Answer> {
        if query.rtype.is_meta() && query.rtype != Rtype::ANY {
            return None;
        }
        let asked =
            |rrset: &&Rrset| rrset.owner == query.name && (rrset.rtype == query.rtype || query.rtype == Rtype::ANY);
        let found: Vec<&Rrset> = self.rrsets.iter().filter(asked).collect();
        if found.is_empty() && !query.name.is_at_or_below(&self.apex) {
            return None;
        }
        let mut builder = Builder::new(query);
        found.iter().for_each(|rrset| builder.push(Section::Answer, rrset, rrset.ttl));
        if found.is_empty() {
            // For any name below, too (RFC 9462 §6.4).
            builder.push(Section::Authority, &self.soa, EMPTY_TTL);
        }
        if found.iter().any(|rrset| rrset.rtype == Rtype::SVCB) {
            self.addresses.iter().for_each(|rrset| builder.push(Section::Additional, rrset, rrset.ttl));
        }
        Some(builder.finish(Rcode::NoError, true, None))
    }
}

fn address_rrsets(owner: &Name, addrs: &[IpAddr]) -> Vec<Rrset> {
    let of = |rtype: Rtype| {
        let octets = addrs.iter().filter_map(|addr| match addr {
            IpAddr::V4(v4) if rtype == Rtype::A => Some(v4.octets().to_vec()),
            IpAddr::V6(v6) if rtype == Rtype::AAAA => Some(v6.octets().to_vec()),
            _ => None,
        });
        Rrset::new(owner.clone(), rtype, TTL, octets)
    };
    [Rtype::A, Rtype::AAAA].map(of).into_iter().filter(|rrset| !rrset.rdata.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Message;

    const OFFER: Offer = Offer { quic: 853, https: 443, tls: 854 };

    fn name(text: &str) -> Name {
        Name::from_user(text).unwrap()
    }

    fn discovery() -> Discovery {
        let addrs = ["192.0.2.1", "2001:db8::1"].map(|addr| addr.parse().unwrap());
        let server = name("gw.example");
        Discovery::new(Some((&OFFER, &server, &addrs)), Some(&server), Some("https://gw.example/about")).unwrap()
    }

    fn ask(discovery: &Discovery, owner: &str, rtype: Rtype) -> Option<Vec<String>> {
        let query = Query::internal(name(owner), rtype);
        let reply = discovery.answer(&query)?.reply(&query, crate::wire::Shape::Stream, 0);
        let message = Message::parse(&reply.wire).unwrap();
        assert_eq!((message.rcode(), message.flags & 0x0420), (0, 0x0400), "AA and no AD");
        let records =
            ["answer", "authority", "additional"].iter().zip(&message.sections).flat_map(|(section, records)| {
                let text = |data: &[u8], of: Rtype| rdata::to_text(of, data);
                records
                    .iter()
                    .map(move |record| format!("{section} {} {}", record.rtype, text(&record.rdata, record.rtype)))
            });
        Some(records.collect())
    }

    #[test]
    fn a_resolver_designates_itself_best_protocol_first() {
        let hints = "ipv4hint=192.0.2.1 ipv6hint=2001:db8::1";
        let expected = [
            format!("answer SVCB 1 gw.example. alpn=\"doq\" port=853 {hints}"),
            format!("answer SVCB 2 gw.example. alpn=\"h3,h2\" port=443 {hints} dohpath=\"/dns-query{{?dns}}\""),
            format!("answer SVCB 3 gw.example. alpn=\"dot\" port=854 {hints}"),
            "additional A 192.0.2.1".to_owned(),
            "additional AAAA 2001:db8::1".to_owned(),
        ];
        for (owner, rtype) in
            [("resolver.arpa", Rtype::SVCB), ("resolver.arpa", Rtype::ANY), ("gw.example", Rtype::SVCB)]
        {
            assert_eq!(ask(&discovery(), &format!("_dns.{owner}"), rtype).unwrap(), expected);
        }
    }

    #[test]
    fn whatever_else_is_asked_below_resolver_arpa_is_not_there() {
        let nothing = ["authority SOA resolver.arpa. nobody.invalid. 1 3600 1200 604800 10800"];
        for (owner, rtype) in [
            ("_dns.resolver.arpa", Rtype::A),
            ("_dns.resolver.arpa", Rtype::HTTPS),
            ("a.b.resolver.arpa", Rtype::SVCB),
            ("resolver.arpa", Rtype::DS),
        ] {
            assert_eq!(ask(&discovery(), owner, rtype).unwrap(), nothing, "{owner} {rtype}");
        }
        let undiscoverable = Discovery::new(None, None, None).unwrap();
        assert_eq!(ask(&undiscoverable, "_dns.resolver.arpa", Rtype::SVCB).unwrap(), nothing);
        assert_eq!(ask(&discovery(), "resolver.arpa", Rtype::NS).unwrap(), ["answer NS resolver.arpa."]);
        assert_eq!(ask(&discovery(), "resolver.arpa", Rtype::AXFR), None);
        assert_eq!(ask(&discovery(), "arpa", Rtype::SOA), None);
    }

    #[test]
    fn resinfo_tells_the_extended_errors_that_are_sent() {
        let told = ask(&discovery(), "resolver.arpa", Rtype::RESINFO).unwrap();
        assert_eq!(told, ask(&discovery(), "gw.example", Rtype::RESINFO).unwrap());
        let codes = told[0].strip_prefix("answer RESINFO \"exterr=").unwrap();
        let (codes, rest) = codes.split_once('"').unwrap();
        assert_eq!(rest, " \"infourl=https://gw.example/about\"");
        let codes: Vec<u16> = codes.split(',').flat_map(expand).collect();
        assert_eq!(codes, EdeCode::ALL.iter().map(|code| *code as u16).collect::<Vec<_>>());
        assert_eq!(ask(&discovery(), "gw.example", Rtype::A), None);
    }

    fn expand(range: &str) -> Vec<u16> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        (first.parse().unwrap()..=last.parse().unwrap()).collect()
    }

    #[test]
    fn ranges_join_neighbours() {
        assert_eq!(ranges(&[0, 7, 14, 15, 16, 18]), "0,7,14-16,18");
        assert_eq!(ranges(&[]), "");
    }

    #[test]
    fn a_name_server_on_another_port_has_a_prefix_too() {
        let owners = |port| name_server_owners(&name("ns.ghost"), port).unwrap();
        assert_eq!(owners(53), [name("_dns.ns.ghost")]);
        assert_eq!(owners(5300), [name("_5300._dns.ns.ghost"), name("_dns.ns.ghost")]);
    }
}
