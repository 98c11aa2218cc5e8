//! Names as the world has them: lower-cased uncompressed wire octets, root label included.

use alloc::vec::Vec;

/// The leftmost label and the name without it; `None` for the root.
pub fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&len, rest) = name.split_first()?;
    if len == 0 { None } else { rest.split_at_checked(usize::from(len)) }
}

/// `name` without its leftmost label, if that label is `label`.
pub fn strip<'a>(name: &'a [u8], label: &[u8]) -> Option<&'a [u8]> {
    split(name).and_then(|(first, rest)| (first == label).then_some(rest))
}

/// True if `name` is `above` or below it.
pub fn is_at_or_below(name: &[u8], above: &[u8]) -> bool {
    let mut here = name;
    while here.len() > above.len() {
        match split(here) {
            Some((_, rest)) => here = rest,
            None => return false,
        }
    }
    here == above
}

/// `label` put in front of `name`; `None` if either bound of RFC 1035 §2.3.4 is broken.
pub fn child(label: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    if label.is_empty() || label.len() > 63 || label.len() + 1 + name.len() > 255 {
        return None;
    }
    let mut wire = Vec::with_capacity(label.len() + 1 + name.len());
    wire.push(label.len() as u8);
    wire.extend_from_slice(label);
    wire.extend_from_slice(name);
    Some(wire)
}

/// `text` in wire form, lower-cased; escapes are not known. `None` if a bound of RFC 1035 §2.3.4 is broken.
pub fn parse(text: &str) -> Option<Vec<u8>> {
    let mut wire = Vec::with_capacity(text.len() + 2);
    for label in text.trim_end_matches('.').split('.').filter(|label| !label.is_empty()) {
        if label.len() > 63 {
            return None;
        }
        wire.push(label.len() as u8);
        wire.extend(label.bytes().map(|octet| octet.to_ascii_lowercase()));
    }
    wire.push(0);
    (wire.len() <= 255).then_some(wire)
}

/// The name without its last dot; `None` if it holds anything but letters, digits, hyphens and underscores.
pub fn text(name: &[u8]) -> Option<alloc::string::String> {
    let mut text = alloc::string::String::new();
    let mut here = name;
    while let Some((label, rest)) = split(here) {
        if !text.is_empty() {
            text.push('.');
        }
        for octet in label {
            let plain = octet.is_ascii_alphanumeric() || b"-_".contains(octet);
            text.push(if plain { char::from(*octet) } else { return None });
        }
        here = rest;
    }
    Some(text)
}
