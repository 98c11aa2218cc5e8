//! Parameters as lines of words, and numbers and octets as text.

use alloc::string::String;
use alloc::vec::Vec;

use crate::Failure;

/// Reads UTF-8 parameters line by line: `read` is given each line that is neither empty nor a comment (`#`). What it
/// finds wrong is told with the line's number.
///
/// # Errors
/// [`Failure::Other`], for the first line that is wrong.
pub fn lines(parameters: &[u8], mut read: impl FnMut(&str) -> Result<(), &'static str>) -> Result<(), Failure> {
    for (number, line) in (1_u32..).zip(parameters.split(|octet| *octet == b'\n')) {
        let line = core::str::from_utf8(line).map_err(|_| "not UTF-8").map(str::trim);
        let line = line.and_then(|line| if line.is_empty() || line.starts_with('#') { Ok(()) } else { read(line) });
        line.map_err(|why| Failure::Other(alloc::format!("parameters, line {number}: {why}")))?;
    }
    Ok(())
}

/// Lower-case hexadecimal.
pub fn hex(octets: &[u8]) -> String {
    let digit = |value: u8| char::from(if value < 10 { b'0' + value } else { b'a' + value - 10 });
    octets.iter().flat_map(|octet| [digit(octet >> 4), digit(octet & 15)]).collect()
}

/// Octets of hexadecimal digits in either case; `None` for anything else.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let text = text.as_bytes();
    if text.len() % 2 != 0 {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    text.chunks(2).map(|pair| Some(value(pair[0])? << 4 | value(pair[1])?)).collect()
}
