//! Address prefixes, and the EDNS Client Subnet option (RFC 7871) that carries one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// FAMILY (IANA registry "Address Family Numbers").
const IPV4: u16 = 1;
const IPV6: u16 = 2;

/// An address whose bits beyond the first `bits` are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet {
    addr: IpAddr,
    bits: u8,
}

/// Numbers of leading bits that an answer depends on, by family; 0 and 0 if on none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scope {
    pub v4: u8,
    pub v6: u8,
}

impl Subnet {
    /// The first `bits` of an address, or all that it has; an IPv4-mapped IPv6 address counts as IPv4.
    pub fn new(addr: IpAddr, bits: u8) -> Self {
        match addr.to_canonical() {
            IpAddr::V4(addr) => {
                let bits = bits.min(32);
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                Self { addr: Ipv4Addr::from_bits(addr.to_bits() & mask).into(), bits }
            }
            IpAddr::V6(addr) => {
                let bits = bits.min(128);
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                Self { addr: Ipv6Addr::from_bits(addr.to_bits() & mask).into(), bits }
            }
        }
    }

    /// All of an address.
    pub fn host(addr: IpAddr) -> Self {
        Self::new(addr, 128)
    }

    pub fn addr(&self) -> IpAddr {
        self.addr
    }

    /// Leading bits that mean something.
    pub fn bits(&self) -> u8 {
        self.bits
    }

    /// The prefix that a scope leaves of it.
    #[must_use]
    pub fn cut(&self, scope: Scope) -> Self {
        Self::new(self.addr, self.bits.min(scope.of(self.addr)))
    }

    /// Its octets with the bits in front: equal for equal subnets only.
    pub fn key(&self) -> [u8; 18] {
        let mut key = [0; 18];
        match self.addr {
            IpAddr::V4(addr) => {
                key[0] = IPV4 as u8;
                key[2..6].copy_from_slice(&addr.octets());
            }
            IpAddr::V6(addr) => {
                key[0] = IPV6 as u8;
                key[2..].copy_from_slice(&addr.octets());
            }
        }
        key[1] = self.bits;
        key
    }
}

impl Subnet {
    /// The subnet of a [`key`](Self::key); `None` for any other octets.
    pub fn from_key(key: [u8; 18]) -> Option<Self> {
        let [family, bits, address @ ..] = key;
        let [a, b, c, d, ..] = address;
        let addr: IpAddr = match u16::from(family) {
            IPV4 => Ipv4Addr::new(a, b, c, d).into(),
            IPV6 => Ipv6Addr::from(address).into(),
            _ => return None,
        };
        let subnet = Self::new(addr, bits);
        (subnet.key() == key).then_some(subnet)
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.addr, self.bits)
    }
}

impl std::str::FromStr for Subnet {
    type Err = String;

    /// `ADDRESS` or `ADDRESS/BITS`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (addr, bits) = text.split_once('/').map_or((text, None), |(addr, bits)| (addr, Some(bits)));
        let wrong = || format!("{text:?} is not an address or a prefix like 192.0.2.0/24");
        let addr: IpAddr = addr.parse().map_err(|_| wrong())?;
        let most = if addr.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
        if bits <= most { Ok(Self::new(addr, bits)) } else { Err(wrong()) }
    }
}

impl Scope {
    /// The bits that count for an address.
    pub fn of(&self, addr: IpAddr) -> u8 {
        if addr.is_ipv4() { self.v4 } else { self.v6 }
    }

    /// True if the answer is the same for everyone.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// What depends on both.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self { v4: self.v4.max(other.v4), v6: self.v6.max(other.v6) }
    }
}

/// The option as a query carried it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientSubnet {
    family: u16,
    /// `None` for a SOURCE PREFIX-LENGTH of 0: the client does not want to be told apart (§7.1.2).
    pub subnet: Option<Subnet>,
}

impl ClientSubnet {
    /// The option of a client that asks for a subnet.
    pub fn of(subnet: Subnet) -> Self {
        let family = if subnet.addr.is_ipv4() { IPV4 } else { IPV6 };
        Self { family, subnet: Some(subnet).filter(|subnet| subnet.bits > 0) }
    }

    /// Reads the option of a query (RFC 7871 §6); `None` for FORMERR: another family, a scope in a query, a length
    /// that is not the prefix's, bits beyond it (§7.1.2).
    pub fn parse(data: &[u8]) -> Option<Self> {
        let (&[family_high, family_low, source, scope], address) = data.split_first_chunk::<4>()?;
        let family = u16::from_be_bytes([family_high, family_low]);
        if scope != 0 || address.len() != usize::from(source).div_ceil(8) {
            return None;
        }
        if source == 0 {
            return (family <= IPV6).then_some(Self { family, subnet: None });
        }
        let mut octets = [0; 16];
        octets.get_mut(..address.len())?.copy_from_slice(address);
        let [a, b, c, d, ..] = octets;
        let addr: IpAddr = match family {
            IPV4 if source <= 32 => Ipv4Addr::new(a, b, c, d).into(),
            IPV6 if source <= 128 => Ipv6Addr::from(octets).into(),
            _ => return None,
        };
        let whole = Subnet { addr, bits: source };
        (masked(addr, source) == addr).then_some(Self { family, subnet: Some(whole) })
    }

    /// The option of the response: as it came, with the scope of the answer (RFC 7871 §7.2.1).
    pub fn response(&self, scope: Scope) -> Vec<u8> {
        let (source, bits) = match &self.subnet {
            Some(subnet) => (subnet.bits, scope.of(subnet.addr)),
            None => (0, 0),
        };
        let mut data = self.family.to_be_bytes().to_vec();
        data.extend([source, bits]);
        let length = usize::from(source).div_ceil(8);
        match self.subnet.map(|subnet| subnet.addr) {
            Some(IpAddr::V4(addr)) => data.extend_from_slice(&addr.octets()[..length]),
            Some(IpAddr::V6(addr)) => data.extend_from_slice(&addr.octets()[..length]),
            None => {}
        }
        data
    }
}

/// An address as it is, IPv4-mapped ones too, without the bits beyond `bits`.
fn masked(addr: IpAddr, bits: u8) -> IpAddr {
    match addr {
        IpAddr::V4(_) => Subnet::new(addr, bits).addr,
        IpAddr::V6(addr) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            Ipv6Addr::from_bits(addr.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn bits_beyond_the_prefix_are_cut() {
        for text in ["192.0.2.0/24", "2001:db8::/48", "0.0.0.0/0"] {
            assert_eq!(Subnet::from_key(subnet(text).key()), Some(subnet(text)));
        }
        assert_eq!(Subnet::from_key([9; 18]), None);
        assert_eq!(subnet("192.0.2.77/24"), subnet("192.0.2.1/24"));
        assert_eq!(subnet("192.0.2.77").cut(Scope { v4: 20, v6: 0 }).to_string(), "192.0.0.0/20");
        assert_eq!(subnet("2001:db8:1234::/48").cut(Scope { v4: 0, v6: 56 }).to_string(), "2001:db8:1234::/48");
        assert_eq!(subnet("::ffff:192.0.2.1").to_string(), "192.0.2.1/32");
        assert_eq!(subnet("192.0.2.1").cut(Scope::default()).to_string(), "0.0.0.0/0");
        assert!("192.0.2.1/33".parse::<Subnet>().is_err() && "x".parse::<Subnet>().is_err());
        assert_ne!(subnet("192.0.2.0/24").key(), subnet("192.0.2.0/25").key());
    }

    #[test]
    fn options_are_what_rfc_7871_allows() {
        let option = ClientSubnet::parse(&[0, 1, 24, 0, 192, 0, 2]).unwrap();
        assert_eq!(option.subnet, Some(subnet("192.0.2.0/24")));
        assert_eq!(option.response(Scope { v4: 20, v6: 56 }), [0, 1, 24, 20, 192, 0, 2]);
        assert_eq!(ClientSubnet::of(subnet("192.0.2.0/24")).response(Scope::default()), [0, 1, 24, 0, 192, 0, 2]);
        let option = ClientSubnet::parse(&[0, 2, 20, 0, 0x20, 1, 0xd0]).unwrap();
        assert_eq!(option.response(Scope { v4: 20, v6: 56 }), [0, 2, 20, 56, 0x20, 1, 0xd0]);
        assert_eq!(ClientSubnet::parse(&[0, 0, 0, 0]).unwrap().subnet, None);
        assert_eq!(ClientSubnet::parse(&[0, 1, 0, 0]).unwrap().response(Scope { v4: 8, v6: 8 }), [0, 1, 0, 0]);
        let wrong: [&[u8]; 9] = [
            &[],
            &[0, 1, 24],
            &[0, 1, 24, 24, 192, 0, 2],
            &[0, 1, 24, 0, 192, 0],
            &[0, 1, 24, 0, 192, 0, 2, 0],
            &[0, 1, 23, 0, 192, 0, 3],
            &[0, 1, 33, 0, 192, 0, 2, 1, 0],
            &[0, 3, 8, 0, 1],
            &[0, 3, 0, 0],
        ];
        for data in wrong {
            assert_eq!(ClientSubnet::parse(data), None, "{data:?}");
        }
    }
}
