//! DNS cookies (RFC 7873), interoperable server cookies (RFC 9018).

use std::hash::Hasher as _;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

/// Octets of a client cookie, of ours, and of both in an option.
pub const CLIENT_COOKIE: usize = 8;
pub const SERVER_COOKIE: usize = 16;
pub const COOKIE: usize = CLIENT_COOKIE + SERVER_COOKIE;

/// Octets of a server cookie, at least and at most (RFC 7873 §4).
const SERVER_COOKIES: std::ops::RangeInclusive<usize> = 8..=32;
/// The version of server cookies (RFC 9018 §4.1).
const VERSION: u8 = 1;
/// Seconds for which one is good, and by which another server's clock may be ahead (RFC 9018 §4.3).
const LIFE: u32 = 3_600;
const AHEAD: u32 = 300;

/// The COOKIE option of a query, or of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cookie {
    pub client: [u8; CLIENT_COOKIE],
    /// `None` if the client has none yet, or one that cannot be ours.
    pub server: Option<[u8; SERVER_COOKIE]>,
}

impl Cookie {
    /// Reads an option's data; `None` if it has a length that cannot be (RFC 7873 §5.2.2: FORMERR).
    pub fn parse(data: &[u8]) -> Option<Self> {
        let (client, server) = data.split_first_chunk()?;
        if !server.is_empty() && !SERVER_COOKIES.contains(&server.len()) {
            return None;
        }
        Some(Self { client: *client, server: server.try_into().ok() })
    }

    /// The option's data.
    pub fn to_octets(self) -> Vec<u8> {
        [&self.client[..], self.server.as_ref().map_or(&[], |server| server)].concat()
    }
}

/// What server cookies are made with; servers that share an address share it.
#[derive(Clone)]
pub struct CookieSecret(pub [u8; 16]);

impl CookieSecret {
    /// The server cookie for a client at `addr`, made at `now`: seconds since 1970, modulo 2^32.
    pub fn make(&self, client: &[u8; CLIENT_COOKIE], addr: IpAddr, now: u32) -> [u8; SERVER_COOKIE] {
        let mut made = [0; SERVER_COOKIE];
        made[0] = VERSION;
        made[4..8].copy_from_slice(&now.to_be_bytes());
        let hash = self.hash(client, &made, addr);
        made[8..].copy_from_slice(&hash);
        made
    }

    /// True if a cookie is of this secret, for `addr`, and not too old.
    pub fn is_good(&self, cookie: &Cookie, addr: IpAddr, now: u32) -> bool {
        let Some(server) = cookie.server else { return false };
        let made = u32::from_be_bytes([server[4], server[5], server[6], server[7]]);
        // Serial numbers, as they wrap around (RFC 1982).
        let age = now.wrapping_sub(made) as i32;
        let in_time = age <= LIFE as i32 && age >= -(AHEAD as i32);
        // Who guesses 64 bits one datagram at a time learns nothing of use from how long this took.
        in_time && server[0] == VERSION && server[8..] == self.hash(&cookie.client, &server, addr)
    }

    fn hash(&self, client: &[u8; CLIENT_COOKIE], server: &[u8; SERVER_COOKIE], addr: IpAddr) -> [u8; 8] {
        let mut hasher = SipHasher24::new_with_key(&self.0);
        hasher.write(client);
        hasher.write(&server[..8]);
        match addr.to_canonical() {
            IpAddr::V4(v4) => hasher.write(&v4.octets()),
            IpAddr::V6(v6) => hasher.write(&v6.octets()),
        }
        hasher.finish().to_le_bytes()
    }
}

/// Seconds for which one secret makes cookies: a week (RFC 9018 §5 wants them to change).
const PERIOD: u32 = 7 * 24 * 3_600;

/// Secrets that follow one another, each derived from a lasting one and from when it is in use.
#[derive(Clone)]
pub struct Cookies {
    root: CookieSecret,
}

impl Cookies {
    /// `root` is known to nobody but the servers that share an address.
    pub fn new(root: [u8; 16]) -> Self {
        Self { root: CookieSecret(root) }
    }

    /// Checks the cookie of a client at `addr`, and makes it the one to answer with; true if it was good.
    pub fn greet(&self, cookie: &mut Cookie, addr: IpAddr, now: u32) -> bool {
        let made = cookie.server.map_or(now, |server| u32::from_be_bytes([server[4], server[5], server[6], server[7]]));
        let good = self.secret(made).is_good(cookie, addr, now);
        cookie.server = Some(self.secret(now).make(&cookie.client, addr, now));
        good
    }

    fn secret(&self, made: u32) -> CookieSecret {
        let half = |number: u8| {
            let mut hasher = SipHasher24::new_with_key(&self.root.0);
            hasher.write(&(made / PERIOD).to_be_bytes());
            hasher.write(&[number]);
            hasher.finish().to_le_bytes()
        };
        let mut secret = CookieSecret([0; 16]);
        secret.0[..8].copy_from_slice(&half(0));
        secret.0[8..].copy_from_slice(&half(1));
        secret
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;

    use super::*;

    /// The cookie of a test vector, and whether `secret` takes it.
    fn vector(secret: &str, addr: &str, now: u32, cookie: &str) -> (Cookie, bool, CookieSecret) {
        let secret = CookieSecret(HEXLOWER.decode(secret.as_bytes()).unwrap().try_into().unwrap());
        let cookie = Cookie::parse(&HEXLOWER.decode(cookie.as_bytes()).unwrap()).unwrap();
        let good = secret.is_good(&cookie, addr.parse().unwrap(), now);
        (cookie, good, secret)
    }

    #[test]
    fn the_vectors_of_rfc_9018_hold() {
        let secret = "e5e973e5a6b2a43f48e7dc849e37bfcf";
        let learned = "2464c4abcf10c957010000005cf79f111f8130c3eee29480";
        let (cookie, good, key) = vector(secret, "198.51.100.100", 1_559_731_985, learned);
        assert!(good);
        assert_eq!(Some(key.make(&cookie.client, "198.51.100.100".parse().unwrap(), 1_559_731_985)), cookie.server);
        let (_, late, _) = vector(secret, "198.51.100.100", 1_559_731_985 + LIFE + 1, learned);
        let (_, elsewhere, _) = vector(secret, "198.51.100.101", 1_559_731_985, learned);
        assert!(!late && !elsewhere);
        let v6 = "22681ab97d52c298010000005cf7c57926556bd0934c72f8";
        assert!(vector("dd3bdf9344b678b185a6f5cb60fca715", "2001:db8:220:1:59de:d0f4:8769:82b8", 1_559_741_961, v6).1);
    }

    #[test]
    fn a_cookie_is_good_for_an_hour_at_its_address_also_where_a_period_ends() {
        let (cookies, addr) = (Cookies::new([7; 16]), "192.0.2.1".parse().unwrap());
        let mut cookie = Cookie { client: [1; CLIENT_COOKIE], server: None };
        let end = PERIOD * 3;
        assert!(!cookies.greet(&mut cookie, addr, end - 10));
        let first = cookie;
        assert!(cookies.greet(&mut cookie, addr, end + 10));
        assert_ne!(cookie, first);
        assert!(cookies.greet(&mut { first }, addr, end - 10 + LIFE));
        assert!(!cookies.greet(&mut { first }, addr, end - 9 + LIFE));
        assert!(!cookies.greet(&mut { first }, "192.0.2.2".parse().unwrap(), end));
        assert!(!Cookies::new([8; 16]).greet(&mut { first }, addr, end));
    }

    #[test]
    fn lengths_that_cannot_be_are_told_apart() {
        for (length, legal) in
            [(0, false), (7, false), (8, true), (9, false), (15, false), (16, true), (40, true), (41, false)]
        {
            assert_eq!(Cookie::parse(&vec![1; length]).is_some(), legal, "{length}");
        }
        assert!(Cookie::parse(&[1; COOKIE]).unwrap().server.is_some());
        assert!(Cookie::parse(&[1; 40]).unwrap().server.is_none());
    }
}
