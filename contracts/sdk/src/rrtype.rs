//! RR type numbers (IANA registry "Resource Record (RR) TYPEs") that contracts commonly name.

pub const A: u16 = 1;
pub const NS: u16 = 2;
pub const CNAME: u16 = 5;
pub const SOA: u16 = 6;
pub const HINFO: u16 = 13;
pub const MX: u16 = 15;
pub const TXT: u16 = 16;
pub const AAAA: u16 = 28;
pub const SRV: u16 = 33;
pub const CERT: u16 = 37;
pub const DNAME: u16 = 39;
pub const SSHFP: u16 = 44;
pub const TLSA: u16 = 52;
pub const OPENPGPKEY: u16 = 61;
pub const SVCB: u16 = 64;
pub const HTTPS: u16 = 65;
pub const ANY: u16 = 255;
pub const URI: u16 = 256;
pub const CAA: u16 = 257;
pub const WALLET: u16 = 262;
