//! What the default contracts of the TLDs share: the stored data first, then what follows from the registry.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::{Question, Rdata, Resolution, SvcParam, Svcb, Uri, caip, name, registry, rrtype, stored_rdata, text};

/// Seconds; what is made from registry state changes when the registry does, and the gateway knows when.
pub const TTL: u32 = 300;
/// Seconds (RFC 8482 §4.2 suggests a long one).
const ANY_TTL: u32 = 3_600;

/// Private-use SvcParamKeys (RFC 9460 §14.3.1) of endpoint discovery: SHA-256 of the contract, and the worlds it is
/// of, separated by commas.
pub const KEY_CODE: u16 = 65_400;
pub const KEY_WORLDS: u16 = 65_401;

/// The stored data; where there is none, what `extra` says. ANY is answered with one HINFO (RFC 8482).
pub fn resolve(question: &Question, extra: impl FnOnce(&Question) -> Option<Resolution>) -> Resolution {
    let stored = Resolution::stored(question);
    let found = match stored {
        Resolution::NoData | Resolution::NxDomain => extra(question).unwrap_or(stored),
        _ => stored,
    };
    match found {
        Resolution::NoData if question.rr_type == rrtype::ANY => made(question, rrtype::HINFO, ANY_TTL, vec![Rdata::hinfo_rfc8482()]),
        found => found,
    }
}

/// What `.gcc` answers of its own accord: stored data, the owner's DID, the bound code's hash, and where it is called. A
/// contract that is a program, too, answers so for what it has nothing to say of.
pub fn gcc(question: &Question) -> Resolution {
    resolve(question, |question| did(question).or_else(|| code(question)).or_else(|| endpoint(question)))
}

/// `_did.NAME` TXT: the owner's DID.
pub fn did(question: &Question) -> Option<Resolution> {
    if !is_service(question, b"_did") {
        return None;
    }
    let did = owner()?;
    Some(txt(question, || vec![did]))
}

/// NAME TXT: the owner's DID.
pub fn did_at_apex(question: &Question) -> Option<Resolution> {
    if question.name != question.zone || question.rr_type != rrtype::TXT {
        return None;
    }
    let did = owner()?;
    Some(txt(question, || vec![did]))
}

/// `_code.NAME` TXT: `sha256=<hex>` of the contract the owner bound.
pub fn code(question: &Question) -> Option<Resolution> {
    if !is_service(question, b"_code") {
        return None;
    }
    let hash = registry::bound_contract();
    if hash.is_empty() {
        return None;
    }
    Some(txt(question, || vec![format!("sha256={}", text::hex(&hash))]))
}

/// NAME HTTPS, SVCB and URI: where the contract that the owner bound is called. The gateway says in the HTTPS record at
/// `_gateway.TLD` where that is; the code's hash and worlds are added to it.
pub fn endpoint(question: &Question) -> Option<Resolution> {
    let wanted = [rrtype::HTTPS, rrtype::SVCB, rrtype::URI].contains(&question.rr_type);
    if question.name != question.zone || !wanted {
        return None;
    }
    let hash = registry::bound_contract();
    if hash.is_empty() {
        return None;
    }
    let mut gateway = gateway(&question.zone)?;
    if question.rr_type == rrtype::URI {
        let target = call_url(&gateway, &question.zone)?;
        return Some(Resolution::synthesised(question, TTL, vec![Rdata::Uri(Uri { priority: 10, weight: 1, target })]));
    }
    gateway.params.push(SvcParam::Other((KEY_CODE, hash)));
    gateway.params.push(SvcParam::Other((KEY_WORLDS, registry::bound_worlds().join(",").into_bytes())));
    Some(Resolution::synthesised(question, TTL, vec![Rdata::Svcb(gateway)]))
}

/// The HTTPS record at `_gateway.TLD`.
fn gateway(zone: &[u8]) -> Option<Svcb> {
    let (_, tld) = name::split(zone)?;
    let owner = name::child(b"_gateway", tld)?;
    match stored_rdata(&owner, rrtype::HTTPS).into_iter().next()? {
        Rdata::Svcb(gateway) => Some(gateway),
        _ => None,
    }
}

/// `https://TARGET:PORT/v1/call/NAME`
fn call_url(gateway: &Svcb, zone: &[u8]) -> Option<String> {
    let port = gateway.params.iter().find_map(|param| match param {
        SvcParam::Port(port) => Some(*port),
        _ => None,
    });
    let host = name::text(&gateway.target)?;
    Some(format!("https://{host}:{}/v1/call/{}", port.unwrap_or(443), name::text(zone)?))
}

/// `_accounts.NAME` TXT: a CAIP-10 account id for every WALLET record at NAME whose chain is known.
pub fn accounts(question: &Question) -> Option<Resolution> {
    if !is_service(question, b"_accounts") {
        return None;
    }
    owner()?;
    Some(txt(question, || wallets(&question.zone)))
}

/// CAIP-10 ids of the WALLET RRset at `name` itself.
fn wallets(name: &[u8]) -> Vec<String> {
    let account = |data: &Rdata| match data {
        Rdata::Wallet(wallet) => caip::account(&wallet.ticker, &wallet.address),
        _ => None,
    };
    stored_rdata(name, rrtype::WALLET).iter().filter_map(account).collect()
}

/// True if the question is about `LABEL.ZONE`.
pub fn is_service(question: &Question, label: &[u8]) -> bool {
    name::strip(&question.name, label) == Some(&question.zone[..])
}

/// The owner's DID; `None` where the zone is a TLD, which nobody owns.
fn owner() -> Option<String> {
    let did = registry::owner_did();
    (!did.is_empty()).then_some(did)
}

/// The TXT RRset of a name that exists whatever the type asked; no data when `texts` is empty.
pub fn txt(question: &Question, texts: impl FnOnce() -> Vec<String>) -> Resolution {
    if question.rr_type != rrtype::TXT {
        return Resolution::NoData;
    }
    Resolution::synthesised(question, TTL, texts().into_iter().map(Rdata::txt).collect())
}

/// One synthesised RRset at the asked name.
fn made(question: &Question, rr_type: u16, ttl: u32, rdata: Vec<Rdata>) -> Resolution {
    Resolution::synthesised(&Question { rr_type, ..question.clone() }, ttl, rdata)
}
