//! Which records may be stored:
//!
//! ```text
//! allow A AAAA CNAME TXT MX HTTPS
//! deny NULL
//! private deny
//! most 100
//! ```
//!
//! With an `allow` line, only these types, and what a signed zone needs (DNSKEY, DS, CDS, CDNSKEY, NS, SOA, NSEC); types
//! without a name are written TYPE65280. `private deny`: no address of a network that is not on the Internet (RFC 6890).
//! `most`: records of one RRset.

#![no_std]

use ghostplane_contract::alloc::format;
use ghostplane_contract::alloc::string::String;
use ghostplane_contract::covenants::rules;
use ghostplane_contract::writes::{Change, Write};
use ghostplane_contract::{Rdata, Rrset, registry, rrtype};

ghostplane_contract::covenant!(judge);

/// DNSKEY, DS, CDS, CDNSKEY, NS, SOA, NSEC
const OF_ZONES: [u16; 7] = [48, 43, 59, 60, 2, 6, 47];

#[derive(Default)]
struct Rules {
    /// Some line lists the types that are allowed.
    listed: bool,
    private: bool,
    most: Option<usize>,
}

fn judge(write: &Write) -> Result<(), String> {
    let Change::PutRecords(rrsets) = &write.change else { return Ok(()) };
    let parameters = registry::parameters();
    for rrset in rrsets {
        let mut limits = Rules::default();
        let (mut allowed, mut denied) = (OF_ZONES.contains(&rrset.rr_type), false);
        rules(&parameters, |line| {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("allow") => {
                    limits.listed = true;
                    for word in words {
                        allowed |= number(word).ok_or("not a record type")? == rrset.rr_type;
                    }
                }
                Some("deny") => {
                    for word in words {
                        denied |= number(word).ok_or("not a record type")? == rrset.rr_type;
                    }
                }
                Some("private") if words.next() == Some("deny") => limits.private = true,
                Some("most") => limits.most = Some(words.next().and_then(|word| word.parse().ok()).ok_or("not a number")?),
                _ => return Err("expected allow, deny, private deny or most"),
            }
            Ok(())
        })?;
        if denied || (limits.listed && !allowed) {
            return Err(format!("records of type {} are not allowed here", rrset.rr_type));
        }
        check(rrset, &limits)?;
    }
    Ok(())
}

fn check(rrset: &Rrset, limits: &Rules) -> Result<(), String> {
    if let Some(most) = limits.most.filter(|most| rrset.rdata.len() > *most) {
        return Err(format!("at most {most} records of one type at one name"));
    }
    let private = |data: &Rdata| match data {
        Rdata::A(address) => private_v4(*address),
        Rdata::Aaaa(address) => private_v6(*address),
        _ => false,
    };
    if limits.private && rrset.rdata.iter().any(private) {
        return Err("addresses of private networks are not allowed here".into());
    }
    Ok(())
}

/// Not globally reachable (RFC 6890 and its registry): this network, private, shared, loopback, link-local, protocol
/// assignments, documentation, benchmarking, multicast, reserved.
fn private_v4((a, b, c, _): (u8, u8, u8, u8)) -> bool {
    match a {
        0 | 10 | 127 | 224..=255 => true,
        100 => (64..128).contains(&b),
        169 => b == 254,
        172 => (16..32).contains(&b),
        192 => b == 168 || (b == 0 && (c == 0 || c == 2)),
        198 => b == 18 || b == 19 || (b == 51 && c == 100),
        203 => b == 0 && c == 113,
        _ => false,
    }
}

/// The same for IPv6: everything outside 2000::/3, and documentation in it. The overlay's 200::/7 is let through.
fn private_v6(groups: (u16, u16, u16, u16, u16, u16, u16, u16)) -> bool {
    let (first, second) = (groups.0, groups.1);
    let global = first >> 13 == 1 || first >> 9 == 1;
    !global || (first == 0x2001 && second == 0x0db8)
}

fn number(word: &str) -> Option<u16> {
    let known = [
        ("A", rrtype::A),
        ("AAAA", rrtype::AAAA),
        ("CNAME", 5),
        ("DNAME", 39),
        ("MX", 15),
        ("NS", 2),
        ("DS", 43),
        ("PTR", 12),
        ("TXT", rrtype::TXT),
        ("SRV", 33),
        ("NAPTR", 35),
        ("CAA", 257),
        ("CERT", 37),
        ("SSHFP", 44),
        ("TLSA", 52),
        ("OPENPGPKEY", 61),
        ("SVCB", 64),
        ("HTTPS", 65),
        ("URI", 256),
        ("WALLET", 262),
        ("LOC", 29),
        ("HINFO", 13),
        ("NULL", 10),
    ];
    let named = known.iter().find(|(name, _)| *name == word).map(|(_, number)| *number);
    named.or_else(|| word.strip_prefix("TYPE")?.parse().ok())
}
