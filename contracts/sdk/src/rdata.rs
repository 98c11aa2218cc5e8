//! RDATA, made and taken apart.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use crate::{Rdata, rrtype};

impl From<Ipv4Addr> for Rdata {
    fn from(address: Ipv4Addr) -> Self {
        let [a, b, c, d] = address.octets();
        Self::A((a, b, c, d))
    }
}

impl From<Ipv6Addr> for Rdata {
    fn from(address: Ipv6Addr) -> Self {
        let [a, b, c, d, e, f, g, h] = address.segments();
        Self::Aaaa((a, b, c, d, e, f, g, h))
    }
}

impl Rdata {
    /// TXT: `text` in character strings (RFC 1035 §3.3.14) of at most 255 octets, at least one.
    pub fn txt(text: impl AsRef<[u8]>) -> Self {
        let text = text.as_ref();
        let mut strings: Vec<Vec<u8>> = text.chunks(255).map(<[u8]>::to_vec).collect();
        if strings.is_empty() {
            strings.push(Vec::new());
        }
        Self::Txt(strings)
    }

    /// HINFO that answers ANY (RFC 8482 §4.2): CPU "RFC8482", OS empty.
    pub fn hinfo_rfc8482() -> Self {
        Self::Raw(b"\x07RFC8482\x00".to_vec())
    }

    /// `text` as an address, if that is what the asked type wants.
    pub fn address(rr_type: u16, text: &str) -> Option<Self> {
        match rr_type {
            rrtype::A => text.parse::<Ipv4Addr>().ok().map(Self::from),
            rrtype::AAAA => text.parse::<Ipv6Addr>().ok().map(Self::from),
            _ => None,
        }
    }
}
