//! CAIP-10 account ids of chain addresses.

use alloc::vec::Vec;

/// CAIP-2 chain ids by the ticker that a WALLET record (RR type 262) begins with.
const CHAINS: [(&[u8], &[u8]); 3] = [
    (b"BTC", b"bip122:000000000019d6689c085ae165831e93"),
    (b"ETH", b"eip155:1"),
    (b"SOL", b"solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"),
];

/// `CHAIN:ADDRESS` of WALLET RDATA: character strings, a ticker and then the address. `None` for a ticker
/// that is not known and for what CAIP-10 does not allow as an address.
pub fn account(wallet: &[u8]) -> Option<Vec<u8>> {
    let mut strings = crate::rdata::strings(wallet);
    let ticker = strings.next()?;
    let (_, chain) = CHAINS.iter().find(|(known, _)| known.eq_ignore_ascii_case(ticker))?;
    let mut account = chain.to_vec();
    account.push(b':');
    strings.for_each(|piece| account.extend_from_slice(piece));
    is_address(&account[chain.len() + 1..]).then_some(account)
}

/// CAIP-10: `[-.%a-zA-Z0-9]{1,128}`.
fn is_address(address: &[u8]) -> bool {
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"-.%".contains(byte);
    (1..=128).contains(&address.len()) && address.iter().all(legal)
}
