//! Master files (RFC 1035 §5): reading and writing.

use std::fmt;

use super::rdata::{self, RdataError, Token, seconds};
use super::{Name, NameError, Rtype};
use crate::limits::{MAX_TTL, MAX_ZONE_LINE};

/// One record of a master file. RDATA is canonical.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub owner: Name,
    /// Seconds.
    pub ttl: u32,
    pub rtype: Rtype,
    pub rdata: Vec<u8>,
    /// Line of the file on which the record begins, from 1.
    pub line: usize,
}

/// A mistake in a master file. Reading can go on behind it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {kind}")]
pub struct MasterError {
    pub line: usize,
    pub kind: Mistake,
}

/// What kind of mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mistake {
    #[error("not UTF-8")]
    Encoding,
    #[error("record is longer than {MAX_ZONE_LINE} octets")]
    TooLong,
    #[error("quoted string does not end on its line")]
    OpenQuote,
    #[error("parenthesis does not close")]
    OpenParenthesis,
    #[error("parenthesis closes that was not opened")]
    StrayParenthesis,
    #[error("{0}")]
    Escape(NameError),
    #[error("owner name {0:?}: {1}")]
    Owner(String, NameError),
    #[error("record has no owner: none stands before it")]
    NoOwner,
    #[error("class {0} is not IN")]
    Class(String),
    #[error("record type expected, found {0:?}")]
    Type(String),
    #[error("record ends before its type")]
    NoType,
    #[error("no TTL: write one, or a $TTL line above (RFC 2308 section 4)")]
    NoTtl,
    #[error("TTL is more than {MAX_TTL} s")]
    LongTtl,
    #[error("{0}: {1}")]
    Rdata(Rtype, RdataError),
    #[error("{0} is not supported; write its records out")]
    Directive(String),
    #[error("{0} needs one value")]
    DirectiveValue(String),
}

/// Reads a master file record by record; errors do not end it.
pub struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
    origin: Name,
    ttl: Option<u32>,
    last_ttl: Option<u32>,
    owner: Option<Name>,
}

impl<'a> Reader<'a> {
    /// Reads `text`; relative names are completed with `origin` until a `$ORIGIN` line changes it.
    pub fn new(text: &'a [u8], origin: Name) -> Self {
        Self { text, at: 0, line: 1, origin, ttl: None, last_ttl: None, owner: None }
    }

    /// Words of the next entry, its first line, and whether it began with white space; `None` at the end.
    fn entry(&mut self) -> Option<(usize, bool, Result<Vec<Token>, Mistake>)> {
        while self.at < self.text.len() {
            let line = self.line;
            let blank = matches!(self.text[self.at], b' ' | b'\t');
            let raw = self.take_entry();
            let words = raw.and_then(|raw| std::str::from_utf8(raw).map_err(|_| Mistake::Encoding)).and_then(words);
            if !matches!(&words, Ok(words) if words.is_empty()) {
                return Some((line, blank, words));
            }
        }
        None
    }

    /// The octets up to the end of the line, or of the last line that open parentheses reach.
    fn take_entry(&mut self) -> Result<&'a [u8], Mistake> {
        let start = self.at;
        let mut state = Scan::default();
        while let Some(&octet) = self.text.get(self.at) {
            self.at += 1;
            if octet == b'\n' {
                self.line += 1;
                if state.line_ends() {
                    break;
                }
            }
            state.step(octet);
        }
        let raw = &self.text[start..self.at];
        if raw.len() > MAX_ZONE_LINE { Err(Mistake::TooLong) } else { Ok(raw) }
    }

    fn directive(&mut self, words: &[Token]) -> Result<(), Mistake> {
        let name = words[0].raw.to_ascii_uppercase();
        let [_, value] = words else { return Err(Mistake::DirectiveValue(name)) };
        match name.as_str() {
            "$ORIGIN" => {
                let origin = Name::from_text(&value.raw, Some(&self.origin));
                self.origin = origin.map_err(|error| Mistake::Owner(value.raw.clone(), error))?;
            }
            "$TTL" => {
                let ttl = seconds(&value.raw).ok_or(Mistake::DirectiveValue(name))?;
                self.ttl = Some(bounded_ttl(ttl)?);
            }
            _ => return Err(Mistake::Directive(name)),
        }
        Ok(())
    }

    fn record(&mut self, line: usize, blank: bool, words: &[Token]) -> Result<Record, Mistake> {
        let mut rest = words;
        if !blank {
            let owner = Name::from_text(&words[0].raw, Some(&self.origin));
            self.owner = Some(owner.map_err(|error| Mistake::Owner(words[0].raw.clone(), error))?);
            rest = &words[1..];
        }
        let owner = self.owner.clone().ok_or(Mistake::NoOwner)?;
        let (ttl, rest) = take_ttl_and_class(rest)?;
        let (word, rest) = rest.split_first().ok_or(Mistake::NoType)?;
        let rtype: Rtype = word.raw.parse().map_err(|_| Mistake::Type(word.raw.clone()))?;
        let ttl = bounded_ttl(ttl.or(self.ttl).or(self.last_ttl).ok_or(Mistake::NoTtl)?)?;
        self.last_ttl = Some(ttl);
        let rdata =
            rdata::from_tokens(rtype, rest, Some(&self.origin)).map_err(|error| Mistake::Rdata(rtype, error))?;
        Ok(Record { owner, ttl, rtype, rdata, line })
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<Record, MasterError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (line, blank, words) = self.entry()?;
            let read = words.and_then(|words| {
                if !blank && words[0].raw.starts_with('$') && !words[0].quoted {
                    return self.directive(&words).map(|()| None);
                }
                self.record(line, blank, &words).map(Some)
            });
            match read {
                Ok(None) => {}
                Ok(Some(record)) => return Some(Ok(record)),
                Err(kind) => return Some(Err(MasterError { line, kind })),
            }
        }
    }
}

/// A record as a line of a master file.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} IN {} {}", self.owner, self.ttl, self.rtype, rdata::to_text(self.rtype, &self.rdata))
    }
}

fn bounded_ttl(ttl: u32) -> Result<u32, Mistake> {
    if ttl <= MAX_TTL { Ok(ttl) } else { Err(Mistake::LongTtl) }
}

/// TTL and class stand in any order before the type (RFC 1035 §5.1).
fn take_ttl_and_class(words: &[Token]) -> Result<(Option<u32>, &[Token]), Mistake> {
    let (mut ttl, mut rest) = (None, words);
    for _ in 0..2 {
        let Some((word, tail)) = rest.split_first() else { break };
        let upper = word.raw.to_ascii_uppercase();
        if upper == "IN" {
            rest = tail;
        } else if ["CH", "HS", "CS"].contains(&upper.as_str()) {
            return Err(Mistake::Class(upper));
        } else if let Some(seconds) = seconds(&word.raw).filter(|_| word.raw.starts_with(|c: char| c.is_ascii_digit()))
        {
            ttl = Some(seconds);
            rest = tail;
        }
    }
    Ok((ttl, rest))
}

/// Where in an entry the reader is: what decides whether a line end ends it.
#[derive(Default)]
struct Scan {
    quoted: bool,
    escaped: bool,
    comment: bool,
    depth: u32,
}

impl Scan {
    /// True if a line end here ends the entry. A quote that is still open ends with it: one missing quote
    /// must not swallow the rest of the file.
    fn line_ends(&mut self) -> bool {
        self.comment = false;
        self.escaped = false;
        self.quoted || self.depth == 0
    }

    fn step(&mut self, octet: u8) {
        if self.escaped || self.comment {
            self.escaped = false;
            return;
        }
        match octet {
            b'\\' => self.escaped = true,
            b'"' => self.quoted = !self.quoted,
            b';' if !self.quoted => self.comment = true,
            b'(' if !self.quoted => self.depth += 1,
            b')' if !self.quoted => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

/// Splits one entry into words: quotes, escapes, comments, parentheses.
///
/// # Errors
/// Quotes, parentheses or escapes that do not end.
pub fn words(text: &str) -> Result<Vec<Token>, Mistake> {
    let mut words = Vec::new();
    let (mut rest, mut depth) = (text, 0u32);
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\r', '\n']);
        match rest.as_bytes().first() {
            None => break,
            Some(b';') => rest = rest.find('\n').map_or("", |at| &rest[at..]),
            Some(b'(') => (depth, rest) = (depth + 1, &rest[1..]),
            Some(b')') => (depth, rest) = (depth.checked_sub(1).ok_or(Mistake::StrayParenthesis)?, &rest[1..]),
            Some(_) => {
                let (word, tail) = word(rest)?;
                words.push(word);
                rest = tail;
            }
        }
    }
    if depth == 0 { Ok(words) } else { Err(Mistake::OpenParenthesis) }
}

/// One word; a quoted part may follow a bare one, as in `alpn="h3"`.
fn word(text: &str) -> Result<(Token, &str), Mistake> {
    let mut raw = String::new();
    let (mut quoted, mut open) = (false, false);
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => {
                raw.push(c);
                raw.push(chars.next().ok_or(Mistake::Escape(NameError::Escape))?.1);
            }
            '"' => (quoted, open) = (true, !open),
            '\n' if open => return Err(Mistake::OpenQuote),
            ' ' | '\t' | '\r' | '\n' | ';' | '(' | ')' if !open => {
                end = at;
                break;
            }
            _ => raw.push(c),
        }
    }
    if open {
        return Err(Mistake::OpenQuote);
    }
    let octets = rdata::unescaped(&raw).map_err(Mistake::Escape)?;
    Ok((Token { octets, raw, quoted }, &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<Result<String, String>> {
        let origin = Name::from_text("ghost.", None).unwrap();
        let shown = |record: Result<Record, MasterError>| {
            record.map(|record| record.to_string()).map_err(|error| error.to_string())
        };
        Reader::new(text.as_bytes(), origin).map(shown).collect()
    }

    #[test]
    fn the_forms_of_rfc_1035_are_understood() {
        let text = "$TTL 1h\n@ IN SOA ns hostmaster ( 1 ; serial\n 2h 1h\n 2w 300 )\n  300 NS ns\nns IN 60 A 192.0.2.1\n\
                    ; comment\n\nb 5m IN TXT \"a;b\" c\\ d (e)\n$ORIGIN b\nw.x AAAA ::1\n";
        let lines: Vec<String> = read(text).into_iter().map(Result::unwrap).collect();
        assert_eq!(
            lines,
            [
                "ghost. 3600 IN SOA ns.ghost. hostmaster.ghost. 1 7200 3600 1209600 300",
                "ghost. 300 IN NS ns.ghost.",
                "ns.ghost. 60 IN A 192.0.2.1",
                "b.ghost. 300 IN TXT \"a;b\" \"c d\" \"e\"",
                "w.x.b.ghost. 3600 IN AAAA ::1",
            ]
        );
    }

    #[test]
    fn reading_goes_on_behind_a_mistake() {
        let text = "a A 192.0.2.1\n$TTL 60\nb A 1.2.3\n$INCLUDE x\nc TXT \"open\nd CH A 1.2.3.4\n e A 1.2.3.4 )\nf A 192.0.2.6\n";
        let found = read(text);
        let errors: Vec<&str> = found.iter().filter_map(|line| line.as_ref().err()).map(String::as_str).collect();
        assert_eq!(
            errors,
            [
                "line 1: no TTL: write one, or a $TTL line above (RFC 2308 section 4)",
                "line 3: A: IPv4 address expected, found \"1.2.3\"",
                "line 4: $INCLUDE is not supported; write its records out",
                "line 5: quoted string does not end on its line",
                "line 6: class CH is not IN",
                "line 7: parenthesis closes that was not opened",
            ]
        );
        assert_eq!(found.last().unwrap().as_deref(), Ok("f.ghost. 60 IN A 192.0.2.6"));
    }
}
