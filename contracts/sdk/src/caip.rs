//! CAIP-10 account ids of chain addresses.

use alloc::format;
use alloc::string::String;

/// CAIP-2 chain ids by the ticker that a WALLET record (RR type 262) begins with.
pub const CHAINS: [(&str, &str); 3] = [
    ("BTC", "bip122:000000000019d6689c085ae165831e93"),
    ("ETH", "eip155:1"),
    ("SOL", "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"),
];

/// `CHAIN:ADDRESS` of a WALLET record; `None` for a ticker that is not known and for what CAIP-10 does not allow as
/// an address.
pub fn account(ticker: &str, address: &str) -> Option<String> {
    let (_, chain) = CHAINS.iter().find(|(known, _)| known.eq_ignore_ascii_case(ticker))?;
    is_address(address).then(|| format!("{chain}:{address}"))
}

/// True for `NAMESPACE:REFERENCE:ADDRESS` (CAIP-2, CAIP-10).
pub fn is_account(text: &str) -> bool {
    let mut parts = text.splitn(3, ':');
    let (Some(namespace), Some(reference), Some(address)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let small = |octet: u8| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-';
    let word = |octet: u8| octet.is_ascii_alphanumeric() || b"-_".contains(&octet);
    let sized = |text: &str, least, most| (least..=most).contains(&text.len());
    sized(namespace, 3, 8)
        && namespace.bytes().all(small)
        && sized(reference, 1, 32)
        && reference.bytes().all(word)
        && is_address(address)
}

/// CAIP-10: `[-.%a-zA-Z0-9]{1,128}`.
pub fn is_address(address: &str) -> bool {
    let legal = |octet: u8| octet.is_ascii_alphanumeric() || b"-.%".contains(&octet);
    (1..=128).contains(&address.len()) && address.bytes().all(legal)
}
