//! NAME AAAA is the Yggdrasil overlay address of the owner's key (200::/7), which nobody else can have: who can sign
//! for the name is who can be reached at the address. No parameters. Everything else is answered from the stored data,
//! and so is AAAA of a zone without an owner.

#![no_std]

use core::net::Ipv6Addr;

use ghostplane_contract::{Failure, Question, Rdata, Resolution, registry, rrtype};

ghostplane_contract::resolver!(resolve);

fn resolve(question: &Question) -> Result<Resolution, Failure> {
    let asked = question.name == question.zone && question.rr_type == rrtype::AAAA;
    match registry::owner_key().try_into() {
        Ok(key) if asked => Ok(Resolution::synthesised(question, 3_600, [Rdata::from(address(key))].into())),
        _ => Ok(Resolution::stored(question)),
    }
}

/// Octet 0 is 2; octet 1 the number of leading ones in the inverted key; behind it the inverted key from the bit after
/// its first zero on.
fn address(key: [u8; 32]) -> Ipv6Addr {
    let inverted = key.map(|octet| !octet);
    let ones = inverted.iter().flat_map(|octet| (0..8).rev().map(move |at| octet >> at & 1)).take_while(|bit| *bit == 1);
    let ones = ones.count();
    let bit = |at: usize| inverted.get(at / 8).map_or(0, |octet| octet >> (7 - at % 8) & 1);
    let mut octets = [0; 16];
    (octets[0], octets[1]) = (2, ones as u8);
    for (place, octet) in octets[2..].iter_mut().enumerate() {
        let first = ones + 1 + place * 8;
        *octet = (first..first + 8).fold(0, |octet, at| octet << 1 | bit(at));
    }
    octets.into()
}
