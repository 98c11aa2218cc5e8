//! Symbols of tokens.

use std::fmt;
use std::str::FromStr;

use minicbor::{Decode, Decoder, Encode, Encoder, decode, encode};

/// The symbol of a token: 1 to 12 characters of A-Z and 0-9, the first one a letter.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Symbol {
    /// Zeros behind the last character.
    octets: [u8; MAX_SYMBOL],
}

/// Characters of a symbol.
const MAX_SYMBOL: usize = 12;

/// Text is not a symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a token's symbol (1 to {MAX_SYMBOL} of A-Z and 0-9, a letter first)")]
pub struct NotASymbol;

impl Symbol {
    /// Gas: what running contracts of one's own costs. 9 decimals.
    pub const GCC: Self = Self::new(b"GCC");
    /// Weight in governance; cannot be transferred.
    pub const SPRT: Self = Self::new(b"SPRT");
    /// Mana. Part of an identity's account and of no ledger: it is neither minted nor moved, it refills.
    pub const ZMAN: Self = Self::new(b"ZMAN");

    const fn new(text: &[u8]) -> Self {
        let mut octets = [0; MAX_SYMBOL];
        let mut at = 0;
        while at < text.len() {
            octets[at] = text[at];
            at += 1;
        }
        Self { octets }
    }

    /// The characters.
    pub fn as_str(&self) -> &str {
        let len = self.octets.iter().position(|octet| *octet == 0).unwrap_or(MAX_SYMBOL);
        // Only ASCII gets in.
        std::str::from_utf8(&self.octets[..len]).unwrap_or_default()
    }
}

impl FromStr for Symbol {
    type Err = NotASymbol;

    fn from_str(text: &str) -> Result<Self, NotASymbol> {
        let octets = text.as_bytes();
        let fits = (1..=MAX_SYMBOL).contains(&octets.len())
            && octets[0].is_ascii_uppercase()
            && octets.iter().all(|octet| octet.is_ascii_uppercase() || octet.is_ascii_digit());
        if fits { Ok(Self::new(octets)) } else { Err(NotASymbol) }
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<C> Encode<C> for Symbol {
    fn encode<W: encode::Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), encode::Error<W::Error>> {
        e.str(self.as_str())?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Symbol {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, decode::Error> {
        d.str()?.parse().map_err(decode::Error::message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_are_few_capitals_and_digits() {
        for text in ["A", "GCC", "A1", "ABCDEFGHIJKL"] {
            assert_eq!(text.parse::<Symbol>().unwrap().to_string(), text);
        }
        for text in ["", "1A", "gcc", "A-B", "ABCDEFGHIJKLM", "Ä", "A\0"] {
            assert_eq!(text.parse::<Symbol>(), Err(NotASymbol), "{text:?}");
        }
        assert!(Symbol::GCC < Symbol::SPRT && Symbol::SPRT < Symbol::ZMAN);
    }
}
