//! Addresses from the parameters, for the name it is bound to and every name below it:
//!
//! ```text
//! ttl 60
//! A 192.0.2.1 3
//! A 192.0.2.2 0
//! AAAA 2001:db8::1 1
//! ```
//!
//! The last number is a weight; an address of weight 0 is drained, which is to say left out. RRsets have no
//! order, so other weights do not show in the answer. Types that have no line are answered from the stored data.

#![no_std]

use core::net::{Ipv4Addr, Ipv6Addr};

use ghostplane_contract::alloc::format;
use ghostplane_contract::alloc::vec::Vec;
use ghostplane_contract::{Failure, Question, Resolution, defaults, registry, rrtype};

ghostplane_contract::contract!(resolve);

fn resolve(question: &Question) -> Result<Resolution, Failure> {
    let set = parse(&registry::parameters(), question.rr_type)?;
    if set.addresses.is_empty() {
        return Ok(registry::lookup(&question.name, question.rr_type));
    }
    Ok(defaults::made(question, question.rr_type, set.ttl, set.addresses))
}

/// What the parameters hold for one type.
struct Set {
    ttl: u32,
    addresses: Vec<Vec<u8>>,
}

/// Reads every line, whatever the asked type: a mistake shows at the first question, not at the first AAAA.
fn parse(parameters: &[u8], rr_type: u16) -> Result<Set, Failure> {
    let mut set = Set { ttl: 300, addresses: Vec::new() };
    for (number, line) in (1..).zip(parameters.split(|byte| *byte == b'\n')) {
        let line = core::str::from_utf8(line).map_err(|_| "not UTF-8").and_then(|line| set.read(line.trim(), rr_type));
        line.map_err(|why| Failure::Other(format!("line {number}: {why}")))?;
    }
    Ok(set)
}

impl Set {
    fn read(&mut self, line: &str, rr_type: u16) -> Result<(), &'static str> {
        let mut words = line.split_ascii_whitespace();
        let Some(keyword) = words.next() else { return Ok(()) };
        let value = words.next().ok_or("a value is missing")?;
        match keyword {
            "ttl" => self.ttl = value.parse().map_err(|_| "not a TTL")?,
            "A" => {
                let address: Ipv4Addr = value.parse().map_err(|_| "not an IPv4 address")?;
                self.add(rr_type == rrtype::A, weight(words.next())?, &address.octets());
            }
            "AAAA" => {
                let address: Ipv6Addr = value.parse().map_err(|_| "not an IPv6 address")?;
                self.add(rr_type == rrtype::AAAA, weight(words.next())?, &address.octets());
            }
            _ => return Err("expected ttl, A or AAAA"),
        }
        words.next().map_or(Ok(()), |_| Err("something follows the last value"))
    }

    fn add(&mut self, asked: bool, weight: u32, octets: &[u8]) {
        if asked && weight > 0 {
            self.addresses.push(octets.to_vec());
        }
    }
}

fn weight(word: Option<&str>) -> Result<u32, &'static str> {
    word.ok_or("the weight is missing")?.parse().map_err(|_| "not a weight")
}
