//! Zones that every resolver serves itself, so that nobody upstream is asked for them: special-use names (RFC 6761, 6762,
//! 7686, 8375, 9462, 9476, 9665) and reverse zones of addresses that mean something locally only (RFC 6303, 7793).

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::wire::{Answer, Builder, Name, Query, Rcode, Rrset, Rtype, Section, rdata};

/// All of them are empty but `localhost` and the reverse names of loopback.
const ZONES: [&str; 40] = [
    "localhost",
    "invalid",
    "test",
    "onion",
    "alt",
    "local",
    "home.arpa",
    "resolver.arpa",
    "service.arpa",
    "0.in-addr.arpa",
    "10.in-addr.arpa",
    "127.in-addr.arpa",
    "254.169.in-addr.arpa",
    "168.192.in-addr.arpa",
    "2.0.192.in-addr.arpa",
    "100.51.198.in-addr.arpa",
    "113.0.203.in-addr.arpa",
    "255.255.255.255.in-addr.arpa",
    "16.172.in-addr.arpa",
    "17.172.in-addr.arpa",
    "18.172.in-addr.arpa",
    "19.172.in-addr.arpa",
    "20.172.in-addr.arpa",
    "21.172.in-addr.arpa",
    "22.172.in-addr.arpa",
    "23.172.in-addr.arpa",
    "24.172.in-addr.arpa",
    "25.172.in-addr.arpa",
    "26.172.in-addr.arpa",
    "27.172.in-addr.arpa",
    "28.172.in-addr.arpa",
    "29.172.in-addr.arpa",
    "30.172.in-addr.arpa",
    "31.172.in-addr.arpa",
    "d.f.ip6.arpa",
    "8.e.f.ip6.arpa",
    "9.e.f.ip6.arpa",
    "a.e.f.ip6.arpa",
    "b.e.f.ip6.arpa",
    "8.b.d.0.1.0.0.2.ip6.arpa",
];

/// 100.64.0.0/10 (RFC 7793).
const SHARED: std::ops::RangeInclusive<u8> = 64..=127;

/// Loopback's name backwards (RFC 6303 §4.2 for the unspecified and the loopback address of IPv6).
const IP6_HEAD: &str = "0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa";
const LOOPBACK: [&str; 2] = ["1.0.0.127.in-addr.arpa", "localhost"];

/// Seconds; what RFC 6303 §3 gives.
const TTL: u32 = 10_800;

/// Labels of the longest of them.
const MOST_LABELS: usize = 34;

/// The zones.
pub(super) struct Local {
    zones: HashSet<Name>,
    localhost: Name,
    loopback: [Name; 2],
}

impl Local {
    pub(super) fn new() -> Self {
        let name = |text: &str| Name::from_user(text).ok();
        let shared = SHARED.map(|octet| format!("{octet}.100.in-addr.arpa"));
        let ip6 = ["0", "1"].map(|digit| format!("{digit}.{IP6_HEAD}"));
        let zones = ZONES.iter().map(|zone| (*zone).to_owned()).chain(shared).chain(ip6.clone());
        let [localhost, v4, v6] = [LOOPBACK[1], LOOPBACK[0], &ip6[1]].map(|text| name(text).unwrap_or_else(Name::root));
        Self { zones: zones.filter_map(|zone| name(&zone)).collect(), localhost, loopback: [v4, v6] }
    }

    /// The zone that a name falls into.
    fn zone(&self, name: &Name) -> Option<Name> {
        // Most names fall into none and end with none of these labels: one look for them.
        let top = name.suffix(1);
        if self.zones.contains(&top) {
            return Some(top);
        }
        if top.first_label() != Some(b"arpa") {
            return None;
        }
        (2..=name.label_count().min(MOST_LABELS)).map(|count| name.suffix(count)).find(|zone| self.zones.contains(zone))
    }

    /// True for what nobody upstream is asked for.
    pub(super) fn holds(&self, name: &Name) -> bool {
        self.zone(name).is_some()
    }

    /// The answer to a question about one of the zones.
    pub(super) fn answer(&self, query: &Query) -> Option<Answer> {
        let apex = self.zone(&query.name)?;
        let mut builder = Builder::new(query);
        if let Some(data) = self.data(query, &apex) {
            let rrset = Rrset::new(query.name.clone(), query.rtype, TTL, [data]);
            builder.push(Section::Answer, &rrset, TTL);
            return Some(builder.finish(Rcode::NoError, true, None));
        }
        let soa = Rrset::new(apex.clone(), Rtype::SOA, TTL, [soa()?]);
        builder.push(Section::Authority, &soa, TTL);
        let exists = query.name == apex || apex == self.localhost || self.is_above_loopback(&query.name);
        Some(builder.finish(if exists { Rcode::NoError } else { Rcode::NxDomain }, true, None))
    }

    fn data(&self, query: &Query, apex: &Name) -> Option<Vec<u8>> {
        match query.rtype {
            Rtype::SOA if query.name == *apex => soa(),
            Rtype::NS if query.name == *apex => Some(self.localhost.as_wire().to_vec()),
            Rtype::A if *apex == self.localhost => Some(Ipv4Addr::LOCALHOST.octets().to_vec()),
            Rtype::AAAA if *apex == self.localhost => Some(Ipv6Addr::LOCALHOST.octets().to_vec()),
            Rtype::PTR if self.loopback.contains(&query.name) => Some(self.localhost.as_wire().to_vec()),
            _ => None,
        }
    }

    fn is_above_loopback(&self, name: &Name) -> bool {
        self.loopback.iter().any(|loopback| loopback.is_at_or_below(name))
    }
}

fn soa() -> Option<Vec<u8>> {
    rdata::from_text(Rtype::SOA, "localhost. nobody.invalid. 1 3600 1200 604800 10800", None).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &str, rtype: Rtype) -> Option<(Rcode, bool)> {
        let answer = Local::new().answer(&Query::internal(Name::from_user(name).unwrap(), rtype))?;
        let message = crate::wire::Message::parse(answer.as_wire()).unwrap();
        assert_eq!(message.sections[0].is_empty(), !message.sections[1].is_empty(), "an answer or an SOA");
        Some((answer.rcode, !message.sections[0].is_empty()))
    }

    #[test]
    fn every_zone_is_a_name() {
        assert_eq!(Local::new().zones.len(), ZONES.len() + 64 + 2);
    }

    #[test]
    fn what_is_local_is_answered_and_nothing_else() {
        let (there, nodata, nothing) =
            (Some((Rcode::NoError, true)), Some((Rcode::NoError, false)), Some((Rcode::NxDomain, false)));
        for (name, rtype, expected) in [
            ("localhost", Rtype::A, there),
            ("a.localhost", Rtype::AAAA, there),
            ("localhost", Rtype::MX, nodata),
            ("1.0.0.127.in-addr.arpa", Rtype::PTR, there),
            ("0.0.127.in-addr.arpa", Rtype::PTR, nodata),
            ("2.0.0.127.in-addr.arpa", Rtype::PTR, nothing),
            (&format!("1.{IP6_HEAD}"), Rtype::PTR, there),
            ("x.onion", Rtype::A, nothing),
            ("onion", Rtype::SOA, there),
            ("printer.local", Rtype::A, nothing),
            ("nas.home.arpa", Rtype::A, nothing),
            ("_dns.resolver.arpa", Rtype(64), nothing),
            ("1.2.0.10.in-addr.arpa", Rtype::PTR, nothing),
            ("1.1.64.100.in-addr.arpa", Rtype::PTR, nothing),
            ("1.1.16.172.in-addr.arpa", Rtype::PTR, nothing),
        ] {
            assert_eq!(ask(name, rtype), expected, "{name} {rtype}");
        }
        for name in [
            "example.org",
            "1.1.1.1.in-addr.arpa",
            "1.1.63.100.in-addr.arpa",
            "arpa",
            ".",
            "nottest",
            "32.172.in-addr.arpa",
        ] {
            assert_eq!(ask(name, Rtype::A), None, "{name}");
        }
    }
}
