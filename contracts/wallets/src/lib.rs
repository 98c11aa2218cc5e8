//! Accounts on many chains, one CAIP-10 id a line:
//!
//! ```text
//! eip155:1:0xab16a96d359ec26a11e2c2b3d8f8b8942d5bfcdb
//! bip122:000000000019d6689c085ae165831e93:bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq
//! ```
//!
//! `_accounts.NAME` TXT has them all, `_eip155._accounts.NAME` TXT those of a namespace. NAME WALLET (RR type 262) has
//! those on chains with a ticker. Everything else is answered from the stored data.

#![no_std]

use ghostplane_contract::alloc::borrow::ToOwned as _;
use ghostplane_contract::alloc::string::String;
use ghostplane_contract::alloc::vec::Vec;
use ghostplane_contract::{Failure, Question, Rdata, Resolution, Wallet, caip, name, registry, rrtype, text};

ghostplane_contract::resolver!(resolve);

const TTL: u32 = 300;

fn resolve(question: &Question) -> Result<Resolution, Failure> {
    let mut accounts: Vec<String> = Vec::new();
    text::lines(&registry::parameters(), |line| {
        accounts.push(line.to_owned());
        caip::is_account(line).then_some(()).ok_or("not a CAIP-10 account id")
    })?;
    if question.name == question.zone && question.rr_type == rrtype::WALLET {
        return Ok(Resolution::synthesised(question, TTL, accounts.iter().filter_map(|id| wallet(id)).collect()));
    }
    let Some(namespace) = namespace(question) else { return Ok(Resolution::stored(question)) };
    accounts.retain(|account| account.starts_with(&namespace));
    if accounts.is_empty() {
        return Ok(Resolution::NxDomain);
    }
    if question.rr_type != rrtype::TXT {
        return Ok(Resolution::NoData);
    }
    Ok(Resolution::synthesised(question, TTL, accounts.iter().map(Rdata::txt).collect()))
}

/// What the accounts asked for begin with: nothing at `_accounts.NAME`, a namespace and a colon at
/// `_NAMESPACE._accounts.NAME`. `None` for other names.
fn namespace(question: &Question) -> Option<String> {
    if name::strip(&question.name, b"_accounts") == Some(&question.zone[..]) {
        return Some(String::new());
    }
    let (label, rest) = name::split(&question.name)?;
    if name::strip(rest, b"_accounts") != Some(&question.zone[..]) {
        return None;
    }
    let namespace = core::str::from_utf8(label.strip_prefix(b"_")?).ok()?;
    Some(namespace.to_owned() + ":")
}

fn wallet(account: &str) -> Option<Rdata> {
    let known = |(ticker, chain): &(&str, &str)| {
        let address = account.strip_prefix(chain)?.strip_prefix(':')?;
        Some(Rdata::Wallet(Wallet { ticker: (*ticker).to_owned(), address: address.to_owned() }))
    };
    caip::CHAINS.iter().find_map(known)
}
