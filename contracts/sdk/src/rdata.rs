//! RDATA in wire form.

use alloc::vec::Vec;

/// `text` as character strings (RFC 1035 §3.3.14): pieces of at most 255 octets, at least one.
pub fn txt(text: &[u8]) -> Vec<u8> {
    let mut rdata = Vec::with_capacity(text.len() + text.len() / 255 + 1);
    if text.is_empty() {
        rdata.push(0);
    }
    for piece in text.chunks(255) {
        rdata.push(piece.len() as u8);
        rdata.extend_from_slice(piece);
    }
    rdata
}

/// HINFO that answers ANY (RFC 8482 §4.2): CPU "RFC8482", OS empty.
pub fn hinfo_rfc8482() -> Vec<u8> {
    b"\x07RFC8482\x00".to_vec()
}

/// The character strings of TXT-like RDATA; ends early where they are cut short.
pub fn strings(rdata: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = rdata;
    core::iter::from_fn(move || {
        let (&len, tail) = rest.split_first()?;
        let (string, tail) = tail.split_at_checked(usize::from(len))?;
        rest = tail;
        Some(string)
    })
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
    bytes.iter().flat_map(move |byte| [digit(byte >> 4), digit(byte & 15)])
}
