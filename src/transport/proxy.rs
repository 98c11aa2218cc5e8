//! The PROXY protocol, version 2: what a load balancer says of the client behind it, before anything else that it sends.
//! (The HAProxy project's specification, section 2.2.) It is listened to only from addresses that the operator names.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ppp::v2::{Addresses, Command, Header};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::limits::MAX_PROXY_HEADER;

/// Octets before the addresses, the last two of which are the length of what follows.
const FIXED: usize = 16;

/// Reads the header at the beginning of a connection; gives the client's address, `None` if the balancer speaks for itself
/// (a health check).
///
/// # Errors
/// What came is no header, or longer than `MAX_PROXY_HEADER`, or the connection ended.
pub async fn read(stream: &mut TcpStream) -> io::Result<Option<IpAddr>> {
    let mut octets = vec![0; FIXED];
    stream.read_exact(&mut octets).await?;
    let length = FIXED + usize::from(u16::from_be_bytes([octets[FIXED - 2], octets[FIXED - 1]]));
    if length > MAX_PROXY_HEADER {
        return Err(io::ErrorKind::InvalidData.into());
    }
    octets.resize(length, 0);
    stream.read_exact(&mut octets[FIXED..]).await?;
    let (client, _) = split(&octets).ok_or(io::ErrorKind::InvalidData)?;
    Ok(client)
}

/// The client that the header of a datagram names, and the message behind it; `None` if there is no header.
pub fn split(datagram: &[u8]) -> Option<(Option<IpAddr>, &[u8])> {
    let header = Header::try_from(datagram).ok()?;
    let message = datagram.get(header.len()..)?;
    Some((client(&header), message))
}

fn client(header: &Header<'_>) -> Option<IpAddr> {
    match (header.command, header.addresses) {
        (Command::Proxy, Addresses::IPv4(addresses)) => Some(IpAddr::V4(addresses.source_address)),
        (Command::Proxy, Addresses::IPv6(addresses)) => Some(IpAddr::V6(addresses.source_address)),
        _ => None,
    }
}

/// Whom a connection or datagram from `peer` is of.
pub fn of(client: Option<IpAddr>, peer: SocketAddr) -> IpAddr {
    client.unwrap_or(peer.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    fn header(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = (addresses.len() as u16).to_be_bytes();
        [SIGNATURE, &[0x20 | command, family], &length, addresses].concat()
    }

    #[test]
    fn a_header_says_who_asks() {
        let v4 = [192, 0, 2, 7, 127, 0, 0, 1, 0x12, 0x34, 0, 53];
        let datagram = [header(1, 0x12, &v4), b"message".to_vec()].concat();
        assert_eq!(split(&datagram), Some(("192.0.2.7".parse().ok(), &b"message"[..])));
        let v6 = [[0x20; 16], [0; 16]].concat();
        let datagram = header(1, 0x21, &[&v6[..], &[0, 1, 0, 2, 4, 0, 1, 9]].concat());
        assert_eq!(split(&datagram), Some(("2020:2020:2020:2020:2020:2020:2020:2020".parse().ok(), &b""[..])));
        assert_eq!(split(&header(0, 0, b"")), Some((None, &b""[..])));
        assert_eq!(split(b"\x12\x34\x01\0\0\x01"), None);
        assert_eq!(split(&datagram[..20]), None);
    }
}
