//! The fields of a SOA RRset that answers and exports need (RFC 1035 §3.3.13).

use crate::wire::{Name, Rrset, Rtype, u32_at};

/// Octets from the serial, and from MINIMUM, to the end of the RDATA: it ends in five 32-bit fields. The zone check
/// has seen to its form.
const SERIAL: usize = 20;
const MINIMUM: usize = 4;

/// The serial.
pub fn serial(soa: &Rrset) -> u32 {
    field(soa, SERIAL)
}

/// The TTL of a negative answer with this SOA, and of an NSEC: the smaller of the SOA's own and MINIMUM (RFC 2308
/// §5, RFC 9077).
pub fn negative_ttl(soa: &Rrset) -> u32 {
    soa.ttl.min(field(soa, MINIMUM))
}

/// The SOA of another zone with the same name servers and times.
pub fn with_serial(soa: &Rrset, apex: &Name, serial: u32) -> Rrset {
    let mut rdata = soa.rdata[0].to_vec();
    let at = rdata.len() - SERIAL;
    rdata[at..at + 4].copy_from_slice(&serial.to_be_bytes());
    Rrset::new(apex.clone(), Rtype::SOA, soa.ttl, [rdata])
}

fn field(soa: &Rrset, from_end: usize) -> u32 {
    let rdata = &soa.rdata[0];
    u32_at(rdata, rdata.len() - from_end)
}
