//! RDATA by table: one description of each type's fields gives the check, the canonical form, the text in
//! both directions and the decompression.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use data_encoding::{BASE64, HEXLOWER, HEXLOWER_PERMISSIVE};

use super::name::unescape;
use super::{Name, NameError, Rtype, svcb, u16_at, u32_at};
use crate::limits::MAX_RDATA;

/// Why RDATA is not valid for its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RdataError {
    #[error("RDATA is longer than {MAX_RDATA} octets")]
    TooLong,
    #[error("RDATA ends too early: {0} expected")]
    Short(&'static str),
    #[error("RDATA goes on after its last field")]
    Trailing,
    #[error("{0}")]
    Name(#[from] NameError),
    #[error("{0} expected, found {1:?}")]
    Expected(&'static str, String),
    #[error("character string is longer than 255 octets; split it in several quoted strings")]
    StringTooLong,
    #[error("type bitmap is malformed (RFC 4034 section 4.1.2)")]
    Bitmap,
    #[error("service parameters: {0}")]
    Svc(#[from] svcb::SvcError),
    #[error("this type has no presentation form here; write it as \\# LENGTH HEX (RFC 3597)")]
    NoText,
}

/// One word of presentation form, escapes already undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Octets after unescaping.
    pub octets: Vec<u8>,
    /// The text as written, for names, whose escapes mean something else.
    pub raw: String,
    pub quoted: bool,
}

/// One field of RDATA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    U8,
    U16,
    U32,
    /// A 32-bit count of seconds or a `YYYYMMDDHHMMSS` time (RFC 4034 §3.2).
    Time,
    Type,
    Ipv4,
    Ipv6,
    /// Lower-cased in canonical form (RFC 4034 §6.2).
    Name,
    /// Kept as it is in canonical form.
    PlainName,
    /// One length-prefixed string.
    Text,
    /// One or more of them.
    Texts,
    /// An unprefixed string to the end, written in quotes.
    Quoted,
    /// A length-prefixed tag of letters and digits (RFC 8659 §4.1).
    Tag,
    Hex,
    Base64,
    Bitmap,
    SvcParams,
}

use Field::{
    Base64, Bitmap, Hex, Ipv4, Ipv6, Name as DomainName, PlainName, Quoted, SvcParams, Tag, Text, Texts, Time, Type,
    U8, U16, U32,
};

/// The fields of a type; `None` for types carried as opaque octets.
fn fields(rtype: Rtype) -> Option<&'static [Field]> {
    Some(match rtype {
        Rtype::A => &[Ipv4],
        Rtype::AAAA => &[Ipv6],
        Rtype::NS | Rtype::CNAME | Rtype::PTR | Rtype::DNAME => &[DomainName],
        Rtype::SOA => &[DomainName, DomainName, U32, U32, U32, U32, U32],
        Rtype::HINFO => &[Text, Text],
        Rtype::MX | Rtype::AFSDB | Rtype::KX => &[U16, DomainName],
        Rtype::RP => &[DomainName, DomainName],
        Rtype::TXT | Rtype::SPF | Rtype::RESINFO | Rtype::WALLET => &[Texts],
        Rtype::SRV => &[U16, U16, U16, DomainName],
        Rtype::NAPTR => &[U16, U16, Text, Text, Text, DomainName],
        Rtype::CERT => &[U16, U16, U8, Base64],
        Rtype::DS | Rtype::CDS => &[U16, U8, U8, Hex],
        Rtype::SSHFP => &[U8, U8, Hex],
        Rtype::RRSIG | Rtype::SIG => &[Type, U8, U8, U32, Time, Time, U16, DomainName, Base64],
        Rtype::NSEC => &[PlainName, Bitmap],
        Rtype::DNSKEY | Rtype::CDNSKEY | Rtype::KEY => &[U16, U8, U8, Base64],
        Rtype::TLSA | Rtype::SMIMEA => &[U8, U8, U8, Hex],
        Rtype::OPENPGPKEY => &[Base64],
        Rtype::CSYNC => &[U32, U16, Bitmap],
        Rtype::ZONEMD => &[U32, U8, U8, Hex],
        Rtype::SVCB | Rtype::HTTPS => &[U16, PlainName, SvcParams],
        Rtype::URI => &[U16, U16, Quoted],
        Rtype::CAA => &[U8, Tag, Quoted],
        _ => return None,
    })
}

/// Checks uncompressed RDATA against the format of its type; unknown types are any octets (RFC 3597).
///
/// # Errors
/// The first field that does not fit.
pub fn check(rtype: Rtype, rdata: &[u8]) -> Result<(), RdataError> {
    split(rtype, rdata).map(|_| ())
}

/// The canonical form of checked RDATA (RFC 4034 §6.2, RFC 6840 §5.1): names in it lower-cased.
pub fn canonical(rtype: Rtype, rdata: &[u8]) -> Vec<u8> {
    let mut octets = rdata.to_vec();
    for (field, range) in split(rtype, rdata).unwrap_or_default() {
        if field == DomainName {
            // Length octets are below 'A', so lowering them changes nothing.
            octets[range].make_ascii_lowercase();
        }
    }
    octets
}

/// Checked RDATA with other names in it: those that `map` gives for what is there, where it gives any.
pub fn map_names(rtype: Rtype, rdata: &[u8], map: impl Fn(&Name) -> Option<Name>) -> Vec<u8> {
    let Ok(parts) = split(rtype, rdata) else { return rdata.to_vec() };
    let mapped = |(field, range): (Field, Range<usize>)| {
        let name = matches!(field, DomainName | PlainName).then(|| Name::from_wire(&rdata[range.clone()]).ok());
        let other = name.flatten().and_then(|name| map(&name));
        other.map_or_else(|| rdata[range].to_vec(), |name| name.as_wire().to_vec())
    };
    if parts.is_empty() { rdata.to_vec() } else { parts.into_iter().flat_map(mapped).collect() }
}

/// The RDATA at `range` of a whole message, names decompressed (RFC 3597 §4 says in which types).
///
/// # Errors
/// The first field that does not fit.
pub fn from_message(rtype: Rtype, message: &[u8], range: Range<usize>) -> Result<Vec<u8>, RdataError> {
    let data = message.get(..range.end).ok_or(RdataError::Short("RDATA"))?;
    let has_name = fields(rtype).is_some_and(|fields| fields.contains(&DomainName) || fields.contains(&PlainName));
    if !has_name {
        let octets = data.get(range).ok_or(RdataError::Short("RDATA"))?;
        return check(rtype, octets).map(|()| octets.to_vec());
    }
    let mut octets = Vec::with_capacity(range.len());
    let mut at = range.start;
    for field in fields(rtype).unwrap_or_default() {
        if matches!(field, DomainName | PlainName) {
            let (mut name, end) = Name::decompress(data, at)?;
            if *field == DomainName {
                name.make_ascii_lowercase();
            }
            octets.extend_from_slice(&name);
            at = end;
        } else {
            let rest = data.get(at..).ok_or(RdataError::Short("field"))?;
            let used = field.measure(rest)?;
            octets.extend_from_slice(&rest[..used]);
            at += used;
        }
    }
    if at == range.end { check(rtype, &octets).map(|()| octets) } else { Err(RdataError::Trailing) }
}

/// Presentation form; `\# LENGTH HEX` (RFC 3597 §5) for unknown types and for RDATA that does not fit.
pub fn to_text(rtype: Rtype, rdata: &[u8]) -> String {
    let (Some(_), Ok(parts)) = (fields(rtype), split(rtype, rdata)) else { return generic(rdata) };
    let mut text = String::new();
    for (field, range) in parts {
        if !text.is_empty() && !range.is_empty() {
            text.push(' ');
        }
        field.print(&rdata[range], &mut text);
    }
    if text.is_empty() { generic(rdata) } else { text }
}

/// Reads presentation form: the words of one record behind its type.
///
/// # Errors
/// The first word that does not fit its field.
pub fn from_tokens(rtype: Rtype, tokens: &[Token], origin: Option<&Name>) -> Result<Vec<u8>, RdataError> {
    let rdata = match tokens {
        [first, rest @ ..] if first.raw == "\\#" && !first.quoted => from_generic(rest)?,
        _ => from_fields(fields(rtype).ok_or(RdataError::NoText)?, tokens, origin)?,
    };
    check(rtype, &rdata)?;
    Ok(canonical(rtype, &rdata))
}

/// Reads presentation form as a person types it on one line.
///
/// # Errors
/// As [`from_tokens`], or quotes and escapes that do not end.
pub fn from_text(rtype: Rtype, text: &str, origin: Option<&Name>) -> Result<Vec<u8>, RdataError> {
    let tokens = super::master::words(text).map_err(|error| RdataError::Expected("record data", error.to_string()))?;
    from_tokens(rtype, &tokens, origin)
}

/// TXT-like RDATA of one value, cut into strings of 255 octets.
pub fn txt(value: &[u8]) -> Vec<u8> {
    let mut rdata = Vec::with_capacity(value.len() + value.len() / 255 + 1);
    let chunks: Vec<&[u8]> = if value.is_empty() { vec![&[]] } else { value.chunks(255).collect() };
    for chunk in chunks {
        // A chunk has at most 255 octets.
        rdata.push(chunk.len() as u8);
        rdata.extend_from_slice(chunk);
    }
    rdata
}

/// The fields of checked RDATA and where they lie.
fn split(rtype: Rtype, rdata: &[u8]) -> Result<Vec<(Field, Range<usize>)>, RdataError> {
    if rdata.len() > MAX_RDATA {
        return Err(RdataError::TooLong);
    }
    let Some(fields) = fields(rtype) else { return Ok(Vec::new()) };
    let mut at = 0;
    let mut parts = Vec::with_capacity(fields.len());
    for &field in fields {
        let used = field.measure(&rdata[at..])?;
        parts.push((field, at..at + used));
        at += used;
    }
    if at == rdata.len() { Ok(parts) } else { Err(RdataError::Trailing) }
}

impl Field {
    /// Octets that the field takes at the start of `rest`, checked.
    fn measure(self, rest: &[u8]) -> Result<usize, RdataError> {
        let fixed = |len: usize, what| if rest.len() >= len { Ok(len) } else { Err(RdataError::Short(what)) };
        match self {
            U8 => fixed(1, "8-bit number"),
            U16 => fixed(2, "16-bit number"),
            Type => fixed(2, "record type"),
            U32 => fixed(4, "32-bit number"),
            Time => fixed(4, "time"),
            Ipv4 => fixed(4, "IPv4 address"),
            Ipv6 => fixed(16, "IPv6 address"),
            DomainName | PlainName => Ok(Name::from_wire_prefix(rest)?.1),
            Text => measure_text(rest),
            Texts => measure_texts(rest),
            Tag => measure_tag(rest),
            Quoted | Hex | Base64 => Ok(rest.len()),
            Bitmap => check_bitmap(rest).map(|()| rest.len()),
            SvcParams => Ok(svcb::check(rest).map(|()| rest.len())?),
        }
    }

    fn print(self, octets: &[u8], text: &mut String) {
        // Writing to a String cannot fail.
        let _ = match self {
            U8 => write!(text, "{}", octets[0]),
            U16 => write!(text, "{}", u16_at(octets, 0)),
            U32 => write!(text, "{}", u32_at(octets, 0)),
            Time => write!(text, "{}", civil(u32_at(octets, 0))),
            Type => write!(text, "{}", Rtype(u16_at(octets, 0))),
            Ipv4 => write!(text, "{}.{}.{}.{}", octets[0], octets[1], octets[2], octets[3]),
            Ipv6 => print_ipv6(octets, text),
            DomainName | PlainName => match Name::from_wire(octets) {
                Ok(name) => write!(text, "{name}"),
                Err(_) => Ok(()),
            },
            Text => {
                quote(&octets[1..], text);
                Ok(())
            }
            Texts => {
                print_texts(octets, text);
                Ok(())
            }
            Quoted => {
                quote(octets, text);
                Ok(())
            }
            Tag => write!(text, "{}", String::from_utf8_lossy(&octets[1..])),
            Hex => write!(text, "{}", HEXLOWER.encode(octets).to_uppercase()),
            Base64 => write!(text, "{}", BASE64.encode(octets)),
            Bitmap => {
                print_bitmap(octets, text);
                Ok(())
            }
            SvcParams => {
                svcb::print(octets, text);
                Ok(())
            }
        };
    }

    /// Reads the field from the words at the start of `tokens`; gives the words that are left.
    fn read<'t>(
        self,
        tokens: &'t [Token],
        origin: Option<&Name>,
        out: &mut Vec<u8>,
    ) -> Result<&'t [Token], RdataError> {
        match self {
            Texts => return read_texts(tokens, out),
            Hex => return read_joined(tokens, "hex digits", |text| HEXLOWER_PERMISSIVE.decode(text).ok(), out),
            Base64 => return read_joined(tokens, "base64", |text| BASE64.decode(text).ok(), out),
            Bitmap => return read_bitmap(tokens, out),
            SvcParams => return Ok(svcb::read(tokens, out).map(|()| &tokens[tokens.len()..])?),
            _ => {}
        }
        let (token, rest) = tokens.split_first().ok_or(RdataError::Short(self.what()))?;
        let expected = || RdataError::Expected(self.what(), token.raw.clone());
        match self {
            U8 => out.push(token.raw.parse().map_err(|_| expected())?),
            U16 => out.extend(token.raw.parse::<u16>().map_err(|_| expected())?.to_be_bytes()),
            U32 => out.extend(seconds(&token.raw).ok_or_else(expected)?.to_be_bytes()),
            Time => out.extend(from_civil(&token.raw).ok_or_else(expected)?.to_be_bytes()),
            Type => out.extend(token.raw.parse::<Rtype>().map_err(|_| expected())?.0.to_be_bytes()),
            Ipv4 => out.extend(token.raw.parse::<Ipv4Addr>().map_err(|_| expected())?.octets()),
            Ipv6 => out.extend(token.raw.parse::<Ipv6Addr>().map_err(|_| expected())?.octets()),
            DomainName | PlainName => out.extend_from_slice(Name::from_text(&token.raw, origin)?.as_wire()),
            Quoted => out.extend_from_slice(&token.octets),
            // Text and Tag; the others have returned above.
            _ => push_text(&token.octets, out)?,
        }
        Ok(rest)
    }

    fn what(self) -> &'static str {
        match self {
            U8 => "number from 0 to 255",
            U16 => "number from 0 to 65535",
            U32 => "number from 0 to 4294967295",
            Time => "time as YYYYMMDDHHMMSS",
            Type => "record type",
            Ipv4 => "IPv4 address",
            Ipv6 => "IPv6 address",
            DomainName | PlainName => "domain name",
            Text | Texts | Quoted => "character string",
            Tag => "tag of letters and digits",
            Hex => "hex digits",
            Base64 => "base64",
            Bitmap => "record types",
            SvcParams => "service parameters",
        }
    }
}

fn from_fields(fields: &[Field], tokens: &[Token], origin: Option<&Name>) -> Result<Vec<u8>, RdataError> {
    let mut out = Vec::new();
    let mut rest = tokens;
    for field in fields {
        rest = field.read(rest, origin, &mut out)?;
    }
    match rest.first() {
        None => Ok(out),
        Some(extra) => Err(RdataError::Expected("end of the record", extra.raw.clone())),
    }
}

fn from_generic(tokens: &[Token]) -> Result<Vec<u8>, RdataError> {
    let (length, hex) = tokens.split_first().ok_or(RdataError::Short("length"))?;
    let expected = || RdataError::Expected("length in octets", length.raw.clone());
    let length: usize = length.raw.parse().map_err(|_| expected())?;
    let digits: String = hex.iter().map(|token| token.raw.as_str()).collect();
    let rdata = HEXLOWER_PERMISSIVE.decode(digits.as_bytes());
    let rdata = rdata.map_err(|_| RdataError::Expected("hex digits", digits.clone()))?;
    if rdata.len() == length { Ok(rdata) } else { Err(expected()) }
}

/// RDATA in the form of unknown types (RFC 3597 §5).
pub fn generic(rdata: &[u8]) -> String {
    if rdata.is_empty() {
        return "\\# 0".to_owned();
    }
    format!("\\# {} {}", rdata.len(), HEXLOWER.encode(rdata).to_uppercase())
}

fn measure_text(rest: &[u8]) -> Result<usize, RdataError> {
    let len = usize::from(*rest.first().ok_or(RdataError::Short("character string"))?) + 1;
    if rest.len() >= len { Ok(len) } else { Err(RdataError::Short("character string")) }
}

fn measure_texts(rest: &[u8]) -> Result<usize, RdataError> {
    let mut at = measure_text(rest)?;
    while at < rest.len() {
        at += measure_text(&rest[at..])?;
    }
    Ok(at)
}

fn measure_tag(rest: &[u8]) -> Result<usize, RdataError> {
    let len = measure_text(rest)?;
    let tag = &rest[1..len];
    let fits = !tag.is_empty() && tag.iter().all(u8::is_ascii_alphanumeric);
    let found = || String::from_utf8_lossy(tag).into_owned();
    if fits { Ok(len) } else { Err(RdataError::Expected("tag of letters and digits", found())) }
}

/// Windows in rising order, each of 1 to 32 octets and not ending in zero (RFC 4034 §4.1.2).
fn check_bitmap(mut rest: &[u8]) -> Result<(), RdataError> {
    let mut last = None;
    while let [window, len, tail @ ..] = rest {
        let len = usize::from(*len);
        let bits = tail.get(..len).filter(|bits| (1..=32).contains(&bits.len())).ok_or(RdataError::Bitmap)?;
        if last.is_some_and(|last| last >= *window) || bits.last() == Some(&0) {
            return Err(RdataError::Bitmap);
        }
        last = Some(*window);
        rest = &tail[len..];
    }
    if rest.is_empty() { Ok(()) } else { Err(RdataError::Bitmap) }
}

fn print_bitmap(bitmap: &[u8], text: &mut String) {
    let types: Vec<String> = types_of(bitmap).iter().map(Rtype::to_string).collect();
    text.push_str(&types.join(" "));
}

/// The types in a type bitmap (RFC 4034 §4.1.2), in order; what is malformed at its end is left out.
pub fn types_of(mut bitmap: &[u8]) -> Vec<Rtype> {
    let mut types = Vec::new();
    while let [window, len, tail @ ..] = bitmap {
        let (bits, after) = tail.split_at(usize::from(*len).min(tail.len()));
        for bit in (0..bits.len().min(32) * 8).filter(|bit| bits[bit / 8] & (0x80 >> (bit % 8)) != 0) {
            // At most 256 types a window.
            types.push(Rtype(u16::from(*window) << 8 | bit as u16));
        }
        bitmap = after;
    }
    types
}

fn read_bitmap<'t>(tokens: &'t [Token], out: &mut Vec<u8>) -> Result<&'t [Token], RdataError> {
    let parse = |token: &Token| token.raw.parse::<Rtype>().map_err(|_| expected_type(token));
    let mut types = tokens.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    types.sort_unstable();
    out.extend(bitmap(&types));
    Ok(&tokens[tokens.len()..])
}

fn expected_type(token: &Token) -> RdataError {
    RdataError::Expected("record type", token.raw.clone())
}

/// The type bitmap (RFC 4034 §4.1.2) of sorted types.
pub fn bitmap(types: &[Rtype]) -> Vec<u8> {
    let mut out = Vec::new();
    for window in types.chunk_by(|a, b| a.0 >> 8 == b.0 >> 8) {
        let mut bits = [0u8; 32];
        for rtype in window {
            bits[usize::from(rtype.0 & 0xff) / 8] |= 0x80 >> (rtype.0 % 8);
        }
        // A window has at least one type.
        let len = 32 - bits.iter().rev().take_while(|octet| **octet == 0).count();
        out.extend([(window[0].0 >> 8) as u8, len as u8]);
        out.extend_from_slice(&bits[..len]);
    }
    out
}

fn print_ipv6(octets: &[u8], text: &mut String) -> std::fmt::Result {
    let octets: [u8; 16] = octets.try_into().map_err(|_| std::fmt::Error)?;
    write!(text, "{}", Ipv6Addr::from(octets))
}

fn print_texts(mut octets: &[u8], text: &mut String) {
    let mut first = true;
    while let [len, tail @ ..] = octets {
        let (string, rest) = tail.split_at(usize::from(*len).min(tail.len()));
        if !first {
            text.push(' ');
        }
        quote(string, text);
        (octets, first) = (rest, false);
    }
}

/// Octets in quotes, with the escapes of RFC 1035 §5.1.
pub(super) fn quote(octets: &[u8], text: &mut String) {
    text.push('"');
    for &octet in octets {
        match octet {
            b'"' | b'\\' => text.extend(['\\', octet as char]),
            0x20..=0x7e => text.push(octet as char),
            // Writing to a String cannot fail.
            _ => drop(write!(text, "\\{octet:03}")),
        }
    }
    text.push('"');
}

fn read_texts<'t>(tokens: &'t [Token], out: &mut Vec<u8>) -> Result<&'t [Token], RdataError> {
    if tokens.is_empty() {
        return Err(RdataError::Short("character string"));
    }
    tokens.iter().try_for_each(|token| push_text(&token.octets, out))?;
    Ok(&tokens[tokens.len()..])
}

fn push_text(octets: &[u8], out: &mut Vec<u8>) -> Result<(), RdataError> {
    out.push(u8::try_from(octets.len()).map_err(|_| RdataError::StringTooLong)?);
    out.extend_from_slice(octets);
    Ok(())
}

/// Hex and base64 may be broken into several words.
fn read_joined<'t>(
    tokens: &'t [Token],
    what: &'static str,
    decode: impl Fn(&[u8]) -> Option<Vec<u8>>,
    out: &mut Vec<u8>,
) -> Result<&'t [Token], RdataError> {
    let joined: String = tokens.iter().map(|token| token.raw.as_str()).collect();
    out.extend(decode(joined.as_bytes()).ok_or(RdataError::Expected(what, joined))?);
    Ok(&tokens[tokens.len()..])
}

/// Seconds, plain or with units: `1h30m`, `1w`.
pub fn seconds(text: &str) -> Option<u32> {
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let (mut total, mut number) = (0u32, None::<u32>);
    for byte in text.bytes() {
        if byte.is_ascii_digit() {
            number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(u32::from(byte - b'0'))?);
            continue;
        }
        let unit = match byte.to_ascii_lowercase() {
            b's' => 1,
            b'm' => 60,
            b'h' => 3_600,
            b'd' => 86_400,
            b'w' => 604_800,
            _ => return None,
        };
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    number.is_none().then_some(total)
}

/// `YYYYMMDDHHMMSS` of seconds since 1970 (RFC 4034 §3.2).
pub fn civil(time: u32) -> String {
    let (days, rest) = (i64::from(time / 86_400), time % 86_400);
    // Days to date: the civil calendar counted from 0000-03-01 in eras of 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}{:02}{:02}{:02}", rest / 3_600, rest / 60 % 60, rest % 60)
}

fn from_civil(text: &str) -> Option<u32> {
    if text.len() != 14 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    let field = |range: Range<usize>| text[range].parse::<i64>().ok();
    let (year, month, day) = (field(0..4)?, field(4..6)?, field(6..8)?);
    let (hour, minute, second) = (field(8..10)?, field(10..12)?, field(12..14)?);
    let year = if month <= 2 { year - 1 } else { year };
    let months = if month > 2 { month - 3 } else { month + 9 };
    let days = year / 400 * 146_097 + (year % 400) * 365 + year % 400 / 4 - year % 400 / 100;
    let days = days + (153 * months + 2) / 5 + day - 1 - 719_468;
    let time = u32::try_from(days * 86_400 + hour * 3_600 + minute * 60 + second).ok()?;
    // A date that does not come out again (31 February) was none.
    (civil(time) == text).then_some(time)
}

/// Undoes the escapes of a quoted or bare word.
pub(super) fn unescaped(text: &str) -> Result<Vec<u8>, NameError> {
    let mut octets = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        octets.push(if byte == b'\\' { unescape(&mut bytes)? } else { byte });
    }
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(rtype: &str, text: &str) {
        let rtype: Rtype = rtype.parse().unwrap();
        let rdata = from_text(rtype, text, None).unwrap_or_else(|error| panic!("{rtype} {text}: {error}"));
        assert_eq!(check(rtype, &rdata), Ok(()), "{rtype} {text}");
        assert_eq!(to_text(rtype, &rdata), text, "{rtype}");
        assert_eq!(from_message(rtype, &rdata, 0..rdata.len()), Ok(rdata), "{rtype} {text}");
    }

    #[test]
    fn every_type_survives_text_and_wire() {
        let records = [
            ("A", "192.0.2.1"),
            ("AAAA", "2001:db8::1"),
            ("NS", "ns.ghost."),
            ("SOA", "ns.ghost. hostmaster.ghost. 1 7200 3600 1209600 300"),
            ("MX", "10 mx.example."),
            ("TXT", "\"v=spf1 -all\" \"a \\\"b\\\" \\\\ \\001\\255\""),
            ("SRV", "0 5 443 a\\.b.example."),
            ("NAPTR", "100 10 \"u\" \"E2U+sip\" \"!^.*$!sip:x@y!\" ."),
            ("CERT", "1 0 15 AQID"),
            ("DS", "60485 5 1 2BB183AF5F22588179A53B0A98631FAD1A292118"),
            ("SSHFP", "4 2 00FF"),
            ("RRSIG", "A 15 2 3600 20260923180000 20260824180000 3613 alice.ghost. AQID"),
            ("NSEC", "b.ghost. A MX RRSIG NSEC TYPE1234"),
            ("DNSKEY", "257 3 15 l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4="),
            ("TLSA", "3 1 1 4E4B"),
            ("OPENPGPKEY", "AQID"),
            ("ZONEMD", "1 1 1 AABB"),
            ("SVCB", "1 . alpn=\"h3,h2\" port=8443 ipv4hint=192.0.2.1 ipv6hint=2001:db8::1 key65280=\"x\""),
            ("HTTPS", "0 alias.example."),
            ("URI", "10 1 \"https://example.org/a?b=c\""),
            ("CAA", "0 issue \"letsencrypt.org\""),
            ("RESINFO", "\"exterr=0,14-15\" \"infourl=https://example.org\""),
            ("WALLET", "\"BTC\" \"bc1qexample\""),
            ("HINFO", "\"RFC8482\" \"\""),
            ("TYPE65280", "\\# 3 010203"),
        ];
        for (rtype, text) in records {
            round_trip(rtype, text);
        }
    }

    #[test]
    fn mistakes_are_named() {
        let error = |rtype: &str, text: &str| from_text(rtype.parse().unwrap(), text, None).unwrap_err().to_string();
        assert_eq!(error("A", "192.0.2"), "IPv4 address expected, found \"192.0.2\"");
        assert_eq!(error("A", "192.0.2.1 x"), "end of the record expected, found \"x\"");
        assert_eq!(error("MX", "10"), "RDATA ends too early: domain name expected");
        assert_eq!(error("MX", "10 relative"), NameError::Relative.to_string());
        assert_eq!(error("TXT", &"x".repeat(256)), RdataError::StringTooLong.to_string());
        assert_eq!(error("TYPE65280", "x"), RdataError::NoText.to_string());
        assert_eq!(error("A", "\\# 3 010203"), "RDATA ends too early: IPv4 address expected");
        assert_eq!(
            error("RRSIG", "A 15 2 3600 20260231000000 1 1 a. AQID").split(',').next(),
            Some("time as YYYYMMDDHHMMSS expected")
        );
    }

    #[test]
    fn canonical_form_lowers_names_of_the_listed_types_only() {
        let wire = b"\0\x0a\x02MX\0";
        assert_eq!(canonical(Rtype::MX, wire), b"\0\x0a\x02mx\0");
        let svcb = b"\0\x01\x02MX\0";
        assert_eq!(canonical(Rtype::SVCB, svcb), svcb);
        assert_eq!(canonical(Rtype::TXT, b"\x02AB"), b"\x02AB");
    }

    #[test]
    fn compressed_names_are_expanded() {
        let message = b"\x05ghost\0\0\x0a\x02mx\xc0\0";
        assert_eq!(from_message(Rtype::MX, message, 7..14), Ok(b"\0\x0a\x02mx\x05ghost\0".to_vec()));
        assert_eq!(from_message(Rtype::MX, message, 7..13), Err(RdataError::Name(NameError::Short)));
    }

    #[test]
    fn times_and_durations() {
        assert_eq!(civil(0), "19700101000000");
        assert_eq!(civil(1_709_208_000), "20240229120000");
        assert_eq!(from_civil("20240229120000"), Some(1_709_208_000));
        assert_eq!(
            (seconds("3600"), seconds("1h30m"), seconds("1w"), seconds("h"), seconds("1x")),
            (Some(3600), Some(5400), Some(604_800), None, None)
        );
    }
}
