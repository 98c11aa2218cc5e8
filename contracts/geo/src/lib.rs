//! Addresses by where the asker is:
//!
//! ```text
//! ttl 300
//! net 192.0.2.0/24 europe
//! net 2001:db8::/32 europe
//! region europe A 198.51.100.1
//! region default A 203.0.113.1
//! ```
//!
//! The longest prefix that holds the asker's address, or the subnet it names (RFC 7871), decides; `default` is for
//! everyone else and for regions without an address of the asked type. Clients are told apart by no more bits than the
//! longest prefix has. Types that have no line are answered from the stored data.

#![no_std]

use core::net::IpAddr;

use ghostplane_contract::alloc::borrow::ToOwned as _;
use ghostplane_contract::alloc::string::String;
use ghostplane_contract::alloc::vec::Vec;
use ghostplane_contract::context::{self, Address};
use ghostplane_contract::{Failure, Question, Rdata, Resolution, registry, rrtype, text};

ghostplane_contract::resolver!(resolve);

#[derive(Default)]
struct Map {
    ttl: Option<u32>,
    nets: Vec<(IpAddr, u8, String)>,
    regions: Vec<(String, Rdata)>,
}

fn resolve(question: &Question) -> Result<Resolution, Failure> {
    let mut map = Map::default();
    text::lines(&registry::parameters(), |line| map.read(line, question.rr_type))?;
    if map.regions.is_empty() {
        return Ok(Resolution::stored(question));
    }
    let region = map.region();
    let of = |wanted: &str| -> Vec<Rdata> {
        map.regions.iter().filter(|(region, _)| region == wanted).map(|(_, address)| address.clone()).collect()
    };
    let found = region.map(of).filter(|found| !found.is_empty()).unwrap_or_else(|| of("default"));
    Ok(Resolution::synthesised(question, map.ttl.unwrap_or(300), found))
}

impl Map {
    fn read(&mut self, line: &str, rr_type: u16) -> Result<(), &'static str> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[..] {
            ["ttl", ttl] => self.ttl = Some(ttl.parse().map_err(|_| "not a TTL")?),
            ["net", net, region] => {
                let (addr, bits) = net.split_once('/').ok_or("not a prefix")?;
                let addr: IpAddr = addr.parse().map_err(|_| "not a prefix")?;
                let most = if addr.is_ipv4() { 24 } else { 56 };
                let bits = bits.parse().ok().filter(|bits| *bits <= most).ok_or("at most /24 of IPv4, /56 of IPv6")?;
                self.nets.push((addr, bits, region.to_owned()));
            }
            ["region", region, of @ ("A" | "AAAA"), address] => {
                let of = if of == "A" { rrtype::A } else { rrtype::AAAA };
                let address = Rdata::address(of, address).ok_or("not an address of that type")?;
                if of == rr_type {
                    self.regions.push((region.to_owned(), address));
                }
            }
            _ => return Err("expected ttl, net or region"),
        }
        Ok(())
    }

    /// The region of the longest prefix that holds the asker's address.
    fn region(&self) -> Option<&str> {
        let longest = |v4: bool| {
            let bits = self.nets.iter().filter(|(addr, ..)| addr.is_ipv4() == v4).map(|(_, bits, _)| *bits);
            bits.max().unwrap_or(0)
        };
        let asker = match context::client_subnet(longest(true), longest(false))? {
            Address::V4((a, b, c, d)) => IpAddr::from([a, b, c, d]),
            Address::V6((a, b, c, d, e, f, g, h)) => IpAddr::from([a, b, c, d, e, f, g, h]),
        };
        let held = self.nets.iter().filter(|(addr, bits, _)| holds(*addr, *bits, asker));
        held.max_by_key(|(_, bits, _)| *bits).map(|(.., region)| region.as_str())
    }
}

fn holds(net: IpAddr, bits: u8, addr: IpAddr) -> bool {
    match (net, addr) {
        (IpAddr::V4(net), IpAddr::V4(addr)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            (net.to_bits() ^ addr.to_bits()) & mask == 0
        }
        (IpAddr::V6(net), IpAddr::V6(addr)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            (net.to_bits() ^ addr.to_bits()) & mask == 0
        }
        _ => false,
    }
}
