//! Addresses by weight, for the name it is bound to and every name below it:
//!
//! ```text
//! ttl 60
//! pick 1
//! A 192.0.2.1 3
//! A 192.0.2.2 1
//! A 192.0.2.3 0
//! AAAA 2001:db8::1 1
//! ```
//!
//! The last number is a weight; an address of weight 0 is drained, which is to say left out. With `pick N`, every
//! client's network gets N of the others: always the same ones as long as they are there, and each address has its
//! share of networks by weight (weighted rendezvous hashing over the /24 or /48). Without it, everyone gets all.
//! Types that have no line are answered from the stored data.

#![no_std]

use ghostplane_contract::alloc::vec::Vec;
use ghostplane_contract::context::{self, Address};
use ghostplane_contract::{Failure, Question, Rdata, Resolution, crypto, registry, rrtype, text};

ghostplane_contract::resolver!(resolve);

struct Set {
    ttl: u32,
    pick: Option<usize>,
    addresses: Vec<(Rdata, u32)>,
}

fn resolve(question: &Question) -> Result<Resolution, Failure> {
    let mut set = Set { ttl: 300, pick: None, addresses: Vec::new() };
    text::lines(&registry::parameters(), |line| set.read(line, question.rr_type))?;
    if set.addresses.is_empty() {
        return Ok(Resolution::stored(question));
    }
    let most = set.pick.unwrap_or(usize::MAX);
    if set.addresses.len() > most {
        let network = network();
        // Scores fall: the best first.
        set.addresses.sort_by_cached_key(|(address, weight)| core::cmp::Reverse(score(&network, address, *weight)));
        set.addresses.truncate(most);
    }
    let addresses = set.addresses.into_iter().map(|(address, _)| address).collect();
    Ok(Resolution::synthesised(question, set.ttl, addresses))
}

impl Set {
    /// Reads every line, whatever the asked type: a mistake shows at the first question, not at the first AAAA.
    fn read(&mut self, line: &str, rr_type: u16) -> Result<(), &'static str> {
        let mut words = line.split_ascii_whitespace();
        let keyword = words.next().unwrap_or_default();
        let value = words.next().ok_or("a value is missing")?;
        match keyword {
            "ttl" => self.ttl = value.parse().map_err(|_| "not a TTL")?,
            "pick" => self.pick = Some(value.parse().ok().filter(|pick| *pick > 0).ok_or("not a number from 1")?),
            "A" | "AAAA" => {
                let of = if keyword == "A" { rrtype::A } else { rrtype::AAAA };
                let address = Rdata::address(of, value).ok_or("not an address of that type")?;
                let weight = words.next().ok_or("the weight is missing")?.parse().map_err(|_| "not a weight")?;
                if of == rr_type && weight > 0 {
                    self.addresses.push((address, weight));
                }
            }
            _ => return Err("expected ttl, pick, A or AAAA"),
        }
        words.next().map_or(Ok(()), |_| Err("something follows the last value"))
    }
}

/// What stands for the client's network.
fn network() -> Vec<u8> {
    match context::client_subnet(24, 48) {
        Some(Address::V4((a, b, c, _))) => [a, b, c].to_vec(),
        Some(Address::V6((a, b, c, ..))) => [a, b, c].iter().flat_map(|group| group.to_be_bytes()).collect(),
        None => Vec::new(),
    }
}

/// Of all addresses the one with the highest score is picked: `-weight / ln(hash)` for a hash in (0, 1), so that
/// shares are as weights. In fixed point, to be the same everywhere.
fn score(network: &[u8], address: &Rdata, weight: u32) -> u64 {
    let mut data = network.to_vec();
    match address {
        Rdata::A((a, b, c, d)) => data.extend([*a, *b, *c, *d]),
        Rdata::Aaaa((a, b, c, d, e, f, g, h)) => {
            data.extend([a, b, c, d, e, f, g, h].iter().flat_map(|group| group.to_be_bytes()));
        }
        _ => {}
    }
    let hash = crypto::sha256(&data);
    let hash = u64::from_be_bytes([hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7]]);
    ((u128::from(weight) << 64) / u128::from(minus_log2(hash).max(1))).min(u128::from(u64::MAX)) as u64
}

/// `-log2((hash + 1) / 2^64)` with 32 binary places: squaring tells one after the other.
fn minus_log2(hash: u64) -> u64 {
    let hash = hash.max(1);
    let mut result = u64::from(hash.leading_zeros() + 1) << 32;
    let mut fraction = u128::from(hash << hash.leading_zeros());
    for place in (0..32).rev() {
        fraction = (fraction * fraction) >> 63;
        if fraction >> 64 == 0 {
            continue;
        }
        fraction >>= 1;
        result -= 1 << place;
    }
    result
}
