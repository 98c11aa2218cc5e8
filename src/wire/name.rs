//! Domain names in canonical wire form.

use std::cmp::Ordering;
use std::fmt;

use data_encoding::HEXLOWER_PERMISSIVE;

use super::idna;
use crate::limits::{MAX_COMPRESSION_HOPS, MAX_LABEL, MAX_NAME};

/// A domain name: uncompressed, lower-cased wire octets (RFC 1035 §3.1, RFC 4034 §6.2), 1 to 255 of
/// them, the root label included. Two names are equal iff their octets are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(Box<[u8]>);

/// Why octets or text are not a domain name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("name ends in the middle of a label")]
    Short,
    #[error("name is longer than 255 octets")]
    TooLong,
    #[error("label is longer than 63 octets")]
    LabelTooLong,
    #[error("label is empty")]
    EmptyLabel,
    #[error("label type is neither a label nor a compression pointer")]
    LabelType,
    #[error("compression pointer is not allowed here")]
    Compressed,
    #[error("compression pointer does not point backwards, or there are too many")]
    Pointer,
    #[error("octets follow the name")]
    Trailing,
    #[error("escape is neither \\DDD nor a backslash and a character, nor in a URI %XX")]
    Escape,
    #[error("character is not printable; write it as \\DDD")]
    NotPrintable,
    #[error(
        "label cannot be an international one: UTS 46 does not allow a character of it at its place, or it is too long"
    )]
    ULabel,
    #[error("relative name, and no origin to complete it with")]
    Relative,
}

impl Name {
    /// The root name, one zero octet.
    pub fn root() -> Self {
        Self(Box::new([0]))
    }

    /// Reads exactly one uncompressed name; nothing may follow it.
    pub fn from_wire(wire: &[u8]) -> Result<Self, NameError> {
        let (name, used) = Self::from_wire_prefix(wire)?;
        if used == wire.len() { Ok(name) } else { Err(NameError::Trailing) }
    }

    /// Reads one uncompressed name at the start of `wire`; gives it and the octets it took.
    pub fn from_wire_prefix(wire: &[u8]) -> Result<(Self, usize), NameError> {
        let mut at = 0;
        loop {
            let len = usize::from(*wire.get(at).ok_or(NameError::Short)?);
            match len {
                0 => break,
                1..=MAX_LABEL => at += 1 + len,
                192.. => return Err(NameError::Compressed),
                _ => return Err(NameError::LabelType),
            }
            if at >= MAX_NAME {
                return Err(NameError::TooLong);
            }
        }
        let octets = wire.get(..=at).ok_or(NameError::Short)?;
        Ok((Self(lower(octets)), at + 1))
    }

    /// Reads the possibly compressed name (RFC 1035 §4.1.4) at `start` of a whole message; gives it and
    /// the offset behind it. Pointers must point strictly backwards.
    pub fn from_message(message: &[u8], start: usize) -> Result<(Self, usize), NameError> {
        let (octets, end) = Self::decompress(message, start)?;
        Ok((Self(lower(&octets)), end))
    }

    /// [`Name::from_message`] with its letters as they are: signatures are over some names in their own case (RFC 6840 §5.1).
    #[inline(always)]
    pub(super) fn decompress(message: &[u8], start: usize) -> Result<(Vec<u8>, usize), NameError> {
        let mut octets = Vec::with_capacity(32);
        let (mut at, mut end, mut hops) = (start, None, 0);
        loop {
            let len = usize::from(*message.get(at).ok_or(NameError::Short)?);
            match len {
                0 => {
                    octets.push(0);
                    return Ok((octets, end.unwrap_or(at + 1)));
                }
                1..=MAX_LABEL => {
                    octets.extend_from_slice(message.get(at..=at + len).ok_or(NameError::Short)?);
                    if octets.len() >= MAX_NAME {
                        return Err(NameError::TooLong);
                    }
                    at += 1 + len;
                }
                192.. => {
                    let low = usize::from(*message.get(at + 1).ok_or(NameError::Short)?);
                    let target = (len & 0x3f) << 8 | low;
                    hops += 1;
                    if target >= at || hops > MAX_COMPRESSION_HOPS {
                        return Err(NameError::Pointer);
                    }
                    end.get_or_insert(at + 2);
                    at = target;
                }
                _ => return Err(NameError::LabelType),
            }
        }
    }

    /// Reads presentation form (RFC 1035 §5.1): `\DDD` and `\X` escapes; a name without a final dot is
    /// completed with `origin`. A label with other characters than ASCII becomes its A-label (UTS 46).
    pub fn from_text(text: &str, origin: Option<&Name>) -> Result<Self, NameError> {
        if text.contains(idna::DOTS) {
            // An escaped one would come out as an escaped dot.
            if text.contains('\\') {
                return Err(NameError::Escape);
            }
            return Self::from_text(&text.replace(idna::DOTS, "."), origin);
        }
        if text == "." {
            return Ok(Self::root());
        }
        if text == "@" {
            return origin.cloned().ok_or(NameError::Relative);
        }
        let mut builder = LabelBuilder::default();
        let mut bytes = text.bytes();
        let mut absolute = false;
        while let Some(byte) = bytes.next() {
            absolute = false;
            match byte {
                b'.' => {
                    builder.end_label()?;
                    absolute = true;
                }
                b'\\' => builder.push_escaped(unescape(&mut bytes)?)?,
                0x21..=0x7e => builder.push(byte)?,
                0x80.. => builder.push_utf8(byte)?,
                _ => return Err(NameError::NotPrintable),
            }
        }
        if absolute {
            return builder.finish(&[0]);
        }
        builder.end_label()?;
        builder.finish(origin.ok_or(NameError::Relative)?.as_wire())
    }

    /// A name a person typed on a command line: absolute whether or not it ends in a dot.
    pub fn from_user(text: &str) -> Result<Self, NameError> {
        Self::from_text(text, Some(&Self::root()))
    }

    /// A name in the path of a URI: as a person types it, percent-encoded (RFC 3986 §2.1).
    pub fn from_uri(text: &str) -> Result<Self, NameError> {
        Self::from_user(&percent_decoded(text)?)
    }

    /// As people read it, without the final dot, where that differs: A-labels as U-labels.
    pub fn to_unicode(&self) -> Option<String> {
        if !self.labels().any(|label| label.starts_with(b"xn--")) {
            return None;
        }
        let ascii = self.to_string();
        let shown = |label: &str| idna::to_u_label(label.as_bytes()).unwrap_or_else(|| label.to_owned());
        // Escapes hide no dot behind `xn--`: an A-label has none, and other labels stay as they are.
        let unicode = ascii.trim_end_matches('.').split('.').map(shown).collect::<Vec<_>>().join(".");
        (!unicode.is_ascii()).then_some(unicode)
    }

    /// Wire octets, root label included.
    pub fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// True for the root name.
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// The labels from the left, root label left out.
    pub fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let len = usize::from(rest[0]);
            if len == 0 {
                return None;
            }
            let label = &rest[1..=len];
            rest = &rest[1 + len..];
            Some(label)
        })
    }

    /// Number of labels, root label left out: the RRSIG Labels field of a name without wildcard
    /// (RFC 4034 §3.1.3 counts the same way).
    pub fn label_count(&self) -> usize {
        self.labels().count()
    }

    /// The leftmost label; `None` for the root.
    pub fn first_label(&self) -> Option<&[u8]> {
        self.labels().next()
    }

    /// True if the leftmost label is `*` (RFC 4592).
    pub fn is_wildcard(&self) -> bool {
        self.first_label() == Some(b"*")
    }

    /// The name without its leftmost label; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        let len = usize::from(self.0[0]);
        (len > 0).then(|| Self(self.0[1 + len..].into()))
    }

    /// The last `count` labels as a name; the whole name if it has fewer.
    pub fn suffix(&self, count: usize) -> Self {
        let skip = self.label_count().saturating_sub(count);
        let at: usize = self.labels().take(skip).map(|label| label.len() + 1).sum();
        Self(self.0[at..].into())
    }

    /// True if this name is `other` or below it (RFC 9499 §7 "subdomain").
    pub fn is_at_or_below(&self, other: &Self) -> bool {
        let Some(at) = self.0.len().checked_sub(other.0.len()) else { return false };
        self.0[at..] == other.0[..] && self.is_label_boundary(at)
    }

    /// True if this name is below `other` and not `other`.
    pub fn is_below(&self, other: &Self) -> bool {
        self.0.len() > other.0.len() && self.is_at_or_below(other)
    }

    /// `label` put in front of this name.
    pub fn child(&self, label: &[u8]) -> Result<Self, NameError> {
        let mut builder = LabelBuilder::default();
        label.iter().try_for_each(|byte| builder.push(*byte))?;
        builder.end_label()?;
        builder.finish(&self.0)
    }

    /// This name with its suffix `from` replaced by `to` (DNAME substitution, RFC 6672 §2.2);
    /// `None` if it is not below `from`.
    pub fn rebase(&self, from: &Self, to: &Self) -> Option<Result<Self, NameError>> {
        if !self.is_below(from) {
            return None;
        }
        let prefix = &self.0[..self.0.len() - from.0.len()];
        if prefix.len() + to.0.len() > MAX_NAME {
            return Some(Err(NameError::TooLong));
        }
        Some(Ok(Self([prefix, &to.0[..]].concat().into())))
    }

    /// A key whose byte order is the canonical DNS name order (RFC 4034 §6.1) and under which all
    /// descendants of a name share that name's key as a prefix. Labels from the root down, each ended by
    /// 0x00; octets 0x00 and 0x01 inside a label are escaped by a leading 0x01.
    pub fn sort_key(&self) -> Vec<u8> {
        let labels: Vec<&[u8]> = self.labels().collect();
        let mut key = Vec::with_capacity(self.0.len() + 2);
        for label in labels.iter().rev() {
            for &byte in *label {
                if byte <= 1 {
                    key.push(1);
                }
                // 0x00 becomes 01 01 and 0x01 becomes 01 02: above the terminator, in order.
                key.push(if byte <= 1 { byte + 1 } else { byte });
            }
            key.push(0);
        }
        key
    }

    /// The name behind a `sort_key`; `None` if the octets are none.
    pub fn from_sort_key(key: &[u8]) -> Option<Self> {
        let mut labels: Vec<Vec<u8>> = Vec::new();
        let mut label = Vec::new();
        let mut bytes = key.iter();
        while let Some(&byte) = bytes.next() {
            match byte {
                0 => labels.push(std::mem::take(&mut label)),
                1 => label.push(bytes.next()?.checked_sub(1)?),
                _ => label.push(byte),
            }
        }
        if !label.is_empty() {
            return None;
        }
        let mut builder = LabelBuilder::default();
        for label in labels.iter().rev() {
            label.iter().try_for_each(|byte| builder.push(*byte)).ok()?;
            builder.end_label().ok()?;
        }
        builder.finish(&[0]).ok()
    }

    fn is_label_boundary(&self, at: usize) -> bool {
        let mut here = 0;
        while here < at {
            here += 1 + usize::from(self.0[here]);
        }
        here == at
    }
}

/// Canonical DNS name order (RFC 4034 §6.1).
impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.sort_key().cmp(&other.sort_key())
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Presentation form with the final dot.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for label in self.labels() {
            for &byte in label {
                match byte {
                    b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => write!(f, "\\{}", byte as char)?,
                    0x21..=0x7e => write!(f, "{}", byte as char)?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Default)]
struct LabelBuilder {
    done: Vec<u8>,
    label: Vec<u8>,
    /// The label holds octets of UTF-8, and octets that were escaped: never both.
    utf8: bool,
    escaped: bool,
}

/// Octets of a label as people write it: four for each character, of which no label has more than octets.
const MAX_WRITTEN_LABEL: usize = 4 * MAX_LABEL;

impl LabelBuilder {
    fn push_escaped(&mut self, byte: u8) -> Result<(), NameError> {
        self.escaped = true;
        self.push(byte)
    }

    fn push_utf8(&mut self, byte: u8) -> Result<(), NameError> {
        self.utf8 = true;
        self.push(byte)
    }

    /// Puts the A-label in the place of a label in UTF-8.
    fn map_label(&mut self) -> Result<(), NameError> {
        let (utf8, escaped) = (std::mem::take(&mut self.utf8), std::mem::take(&mut self.escaped));
        if utf8 {
            let written = std::str::from_utf8(&self.label).ok().filter(|_| !escaped).ok_or(NameError::ULabel)?;
            self.label = idna::to_a_label(written).ok_or(NameError::ULabel)?.into_bytes();
        }
        Ok(())
    }

    fn push(&mut self, byte: u8) -> Result<(), NameError> {
        if self.label.len() == if self.utf8 { MAX_WRITTEN_LABEL } else { MAX_LABEL } {
            return Err(NameError::LabelTooLong);
        }
        self.label.push(byte);
        Ok(())
    }

    fn end_label(&mut self) -> Result<(), NameError> {
        self.map_label()?;
        if self.label.is_empty() {
            return Err(NameError::EmptyLabel);
        }
        if self.done.len() + self.label.len() + 1 >= MAX_NAME {
            return Err(NameError::TooLong);
        }
        // At most 63: `push` refuses more.
        self.done.push(self.label.len() as u8);
        self.done.append(&mut self.label);
        Ok(())
    }

    fn finish(mut self, tail: &[u8]) -> Result<Name, NameError> {
        self.done.extend_from_slice(tail);
        if self.done.len() > MAX_NAME { Err(NameError::TooLong) } else { Ok(Name(lower(&self.done))) }
    }
}

/// Length octets are at most 63, below `A`, so lowering them with the rest changes nothing.
fn lower(octets: &[u8]) -> Box<[u8]> {
    octets.to_ascii_lowercase().into_boxed_slice()
}

/// The octet behind a backslash: `DDD` decimal, or any one character.
pub(super) fn unescape(bytes: &mut std::str::Bytes<'_>) -> Result<u8, NameError> {
    let first = bytes.next().ok_or(NameError::Escape)?;
    if !first.is_ascii_digit() {
        return if first.is_ascii() { Ok(first) } else { Err(NameError::Escape) };
    }
    let mut value = u16::from(first - b'0');
    for _ in 0..2 {
        let digit = bytes.next().filter(u8::is_ascii_digit).ok_or(NameError::Escape)?;
        value = value * 10 + u16::from(digit - b'0');
    }
    u8::try_from(value).map_err(|_| NameError::Escape)
}

/// Text with `%XX` undone (RFC 3986 §2.1).
pub(crate) fn percent_decoded(text: &str) -> Result<String, NameError> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            octets.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or(NameError::Escape)?;
        octets.extend(HEXLOWER_PERMISSIVE.decode(digits).map_err(|_| NameError::Escape)?);
        rest = after;
    }
    String::from_utf8(octets).map_err(|_| NameError::Escape)
}

/// The last label, such as a TLD's, of the uncompressed name in wire form with which `name` begins; `None` for the root,
/// and for what is none.
pub fn last_label(name: &[u8]) -> Option<&[u8]> {
    let (mut rest, mut last) = (name, None);
    loop {
        let (length, tail) = rest.split_first()?;
        if *length == 0 {
            return last;
        }
        // A compressed name "ends" here: no label has so many octets.
        let (label, after) = tail.split_at_checked(usize::from(*length))?;
        (rest, last) = (after, Some(label));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_text(text, None).unwrap()
    }

    #[test]
    fn text_round_trips_with_escapes() {
        for text in [".", "alice.ghost.", "*.a\\.b.ghost.", "a\\000b\\255.sig.", "x\\\\y.bc."] {
            assert_eq!(name(text).to_string(), text);
        }
        assert_eq!(name("ALICE.Ghost.").to_string(), "alice.ghost.");
    }

    #[test]
    fn labels_of_any_script_become_a_labels_and_are_read_back() {
        for text in ["bücher.ghost.", "Bücher。ghost．", "bu\u{308}cher.ghost."] {
            assert_eq!(name(text).to_string(), "xn--bcher-kva.ghost.", "{text}");
        }
        let below = name("_dmarc.*.日本語.ghost.");
        assert_eq!(below.to_string(), "_dmarc.*.xn--wgv71a119e.ghost.");
        assert_eq!(below.to_unicode().as_deref(), Some("_dmarc.*.日本語.ghost"));
        assert_eq!(name("alice.ghost.").to_unicode(), None);
        assert_eq!(Name::from_uri("b%C3%BCcher.ghost"), Ok(name("bücher.ghost.")));
        assert_eq!(Name::from_uri("b%c3.ghost"), Err(NameError::Escape));
        assert_eq!(Name::from_uri("a%2"), Err(NameError::Escape));
        assert_eq!(name("xn--99999999.ghost.").to_unicode(), None);
        let wrong = |text: &str| Name::from_text(text, Some(&Name::root())).unwrap_err();
        for text in ["a\u{200d}b.ghost", "\\255é.ghost", "é\\.b.ghost", "☃\u{fe0f}\u{200d}.ghost"] {
            assert_eq!(wrong(text), NameError::ULabel, "{text}");
        }
        assert_eq!(wrong("a b"), NameError::NotPrintable);
        assert_eq!(wrong(&"é".repeat(200)), NameError::LabelTooLong);
        assert_eq!(wrong(&"é".repeat(63)), NameError::ULabel);
    }

    #[test]
    fn bounds_are_those_of_rfc_1035() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}.", "a".repeat(61));
        assert_eq!(name(&longest).as_wire().len(), 255);
        assert_eq!(Name::from_text(&format!("a.{longest}"), None), Err(NameError::TooLong));
        assert_eq!(Name::from_text(&format!("a{label}."), None), Err(NameError::LabelTooLong));
        assert_eq!(Name::from_text("a..b.", None), Err(NameError::EmptyLabel));
        assert_eq!(Name::from_text("a\\256.", None), Err(NameError::Escape));
        assert_eq!(Name::from_text("a", None), Err(NameError::Relative));
    }

    #[test]
    fn compression_points_backwards_only() {
        let message = b"\x05alice\x05ghost\x00\x03www\xc0\x00\xc0\x10";
        assert_eq!(Name::from_message(message, 13), Ok((name("www.alice.ghost."), 19)));
        assert_eq!(Name::from_message(b"\xc0\x00", 0), Err(NameError::Pointer));
        assert_eq!(Name::from_message(b"\x01a\xc0\x02", 0), Err(NameError::Pointer));
        assert_eq!(Name::from_message(b"\x80", 0), Err(NameError::LabelType));
        assert_eq!(Name::from_message(b"\x05al", 0), Err(NameError::Short));
    }

    #[test]
    fn canonical_order_is_that_of_rfc_4034() {
        let sorted = [
            "example.",
            "a.example.",
            "yljkjljk.a.example.",
            "Z.a.example.",
            "zABC.a.EXAMPLE.",
            "z.example.",
            "\\001.z.example.",
            "*.z.example.",
            "\\200.z.example.",
        ];
        let names: Vec<Name> = sorted.iter().map(|text| name(text)).collect();
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]));
        for name in &names {
            assert_eq!(Name::from_sort_key(&name.sort_key()).as_ref(), Some(name));
        }
    }

    #[test]
    fn subdomains_end_at_label_boundaries() {
        assert!(name("a.ghost.").is_below(&name("ghost.")));
        assert!(!name("aghost.").is_at_or_below(&name("ghost.")));
        assert!(!name("x\\005ghost.").is_at_or_below(&name("ghost.")));
        assert_eq!(name("b.a.ghost.").suffix(2), name("a.ghost."));
        assert_eq!(name("b.a.ghost.").rebase(&name("ghost."), &name("sig.")), Some(Ok(name("b.a.sig."))));
    }
}
