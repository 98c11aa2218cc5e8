//! RR types, classes, response codes, extended errors.

use std::fmt;
use std::str::FromStr;

/// An RR type number. Unknown ones are carried as they are (RFC 3597).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rtype(pub u16);

macro_rules! rtypes {
    ($($ident:ident = $number:literal $text:literal),* $(,)?) => {
        impl Rtype {
            $(pub const $ident: Self = Self($number);)*

            /// Every type known by a mnemonic.
            pub const KNOWN: &'static [(Self, &'static str)] = &[$((Self::$ident, $text)),*];
        }
    };
}

rtypes! {
    A = 1 "A", NS = 2 "NS", CNAME = 5 "CNAME", SOA = 6 "SOA", PTR = 12 "PTR", HINFO = 13 "HINFO", MX = 15 "MX",
    TXT = 16 "TXT", RP = 17 "RP", AFSDB = 18 "AFSDB", SIG = 24 "SIG", KEY = 25 "KEY", AAAA = 28 "AAAA", LOC = 29 "LOC",
    SRV = 33 "SRV", NAPTR = 35 "NAPTR", KX = 36 "KX", CERT = 37 "CERT", DNAME = 39 "DNAME", OPT = 41 "OPT", DS = 43 "DS",
    SSHFP = 44 "SSHFP", RRSIG = 46 "RRSIG", NSEC = 47 "NSEC", DNSKEY = 48 "DNSKEY", NSEC3 = 50 "NSEC3",
    NSEC3PARAM = 51 "NSEC3PARAM", TLSA = 52 "TLSA", SMIMEA = 53 "SMIMEA", CDS = 59 "CDS", CDNSKEY = 60 "CDNSKEY",
    OPENPGPKEY = 61 "OPENPGPKEY", CSYNC = 62 "CSYNC", ZONEMD = 63 "ZONEMD", SVCB = 64 "SVCB", HTTPS = 65 "HTTPS",
    SPF = 99 "SPF", NXNAME = 128 "NXNAME", TKEY = 249 "TKEY", TSIG = 250 "TSIG", IXFR = 251 "IXFR", AXFR = 252 "AXFR",
    ANY = 255 "ANY", URI = 256 "URI", CAA = 257 "CAA", RESINFO = 261 "RESINFO",
    WALLET = 262 "WALLET",
}

impl Rtype {
    /// True for types that are questions or message parts only and never data (RFC 6895 §3.1).
    pub fn is_meta(self) -> bool {
        self == Self::OPT || self == Self::NXNAME || (128..=255).contains(&self.0) || self.0 == 0
    }
}

/// The mnemonic, or `TYPE123` (RFC 3597 §5).
impl fmt::Display for Rtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::KNOWN.iter().find(|(known, _)| known == self) {
            Some((_, text)) => f.pad(text),
            None => f.pad(&format!("TYPE{}", self.0)),
        }
    }
}

impl fmt::Debug for Rtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no RR type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a record type; use a mnemonic such as A or TXT, or TYPE and a number")]
pub struct UnknownRtype;

impl FromStr for Rtype {
    type Err = UnknownRtype;

    fn from_str(text: &str) -> Result<Self, UnknownRtype> {
        if let Some((known, _)) = Self::KNOWN.iter().find(|(_, name)| name.eq_ignore_ascii_case(text)) {
            return Ok(*known);
        }
        let number = text.get(..4).filter(|head| head.eq_ignore_ascii_case("TYPE")).and(text.get(4..));
        number.and_then(|number| number.parse().ok()).map(Self).ok_or(UnknownRtype)
    }
}

/// Class IN, the only one served.
pub const CLASS_IN: u16 = 1;
/// Class NONE of an UPDATE's records (RFC 2136 §1.3).
pub const CLASS_NONE: u16 = 254;
/// QCLASS ANY.
pub const CLASS_ANY: u16 = 255;

/// Response codes (RFC 6895 §2.3) that this server sends or understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Rcode {
    NoError = 0,
    FormErr = 1,
    ServFail = 2,
    NxDomain = 3,
    NotImp = 4,
    Refused = 5,
    YxDomain = 6,
    YxRrset = 7,
    NxRrset = 8,
    NotAuth = 9,
    NotZone = 10,
    BadVers = 16,
    BadCookie = 23,
}

impl Rcode {
    /// The mnemonic of a 12-bit response code, or `RCODE123`.
    pub fn text(code: u16) -> String {
        let known = [
            (0, "NOERROR"),
            (1, "FORMERR"),
            (2, "SERVFAIL"),
            (3, "NXDOMAIN"),
            (4, "NOTIMP"),
            (5, "REFUSED"),
            (6, "YXDOMAIN"),
            (7, "YXRRSET"),
            (8, "NXRRSET"),
            (9, "NOTAUTH"),
            (10, "NOTZONE"),
            (16, "BADVERS"),
            (23, "BADCOOKIE"),
        ];
        let found = known.iter().find(|(number, _)| *number == code);
        found.map_or_else(|| format!("RCODE{code}"), |(_, text)| (*text).to_owned())
    }
}

macro_rules! ede_codes {
    ($($ident:ident = $number:literal),* $(,)?) => {
        /// INFO-CODEs of extended DNS errors (RFC 8914 §4, IANA registry) that this server sends.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum EdeCode {
            $($ident = $number),*
        }

        impl EdeCode {
            /// All of them, in rising order: RESINFO tells clients (RFC 9606 §5).
            pub const ALL: &'static [Self] = &[$(Self::$ident),*];
        }
    };
}

ede_codes! {
    Other = 0, StaleAnswer = 3, DnssecIndeterminate = 5, DnssecBogus = 6, SignatureExpired = 7, SignatureNotYetValid = 8, DnskeyMissing = 9,
    RrsigsMissing = 10, NsecMissing = 12, NotReady = 14, Blocked = 15, Prohibited = 18, StaleNxdomain = 19,
    NotAuthoritative = 20, NotSupported = 21, NoReachableAuthority = 22, NetworkError = 23, InvalidData = 24,
    TooEarly = 26, Nsec3Iterations = 27, InvalidQueryType = 30,
}

impl EdeCode {
    /// The registry's purpose text of an INFO-CODE.
    pub fn text(code: u16) -> &'static str {
        match code {
            0 => "Other Error",
            3 => "Stale Answer",
            5 => "DNSSEC Indeterminate",
            6 => "DNSSEC Bogus",
            7 => "Signature Expired",
            8 => "Signature Not Yet Valid",
            9 => "DNSKEY Missing",
            10 => "RRSIGs Missing",
            12 => "NSEC Missing",
            14 => "Not Ready",
            15 => "Blocked",
            18 => "Prohibited",
            19 => "Stale NXDOMAIN Answer",
            20 => "Not Authoritative",
            21 => "Not Supported",
            22 => "No Reachable Authority",
            23 => "Network Error",
            24 => "Invalid Data",
            26 => "Too Early",
            27 => "Unsupported NSEC3 Iterations Value",
            30 => "Invalid Query Type",
            _ => "Unassigned",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_errors_rise_and_have_a_text() {
        assert!(EdeCode::ALL.is_sorted_by_key(|code| *code as u16));
        assert!(EdeCode::ALL.iter().all(|code| EdeCode::text(*code as u16) != "Unassigned"));
    }

    #[test]
    fn types_round_trip_as_text() {
        for (rtype, text) in Rtype::KNOWN {
            assert_eq!(text.parse(), Ok(*rtype));
            assert_eq!(rtype.to_string(), *text);
        }
        assert_eq!("type65280".parse(), Ok(Rtype(65280)));
        assert_eq!("NOPE".parse::<Rtype>(), Err(UnknownRtype));
        assert_eq!("TYPE65536".parse::<Rtype>(), Err(UnknownRtype));
    }
}
