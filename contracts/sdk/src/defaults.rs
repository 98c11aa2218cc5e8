//! What the default contracts of the TLDs share: the stored data first, then what follows from the registry.

use alloc::vec;
use alloc::vec::Vec;

use crate::{Answer, Question, Resolution, Rrset, name, rdata, registry, rrtype};

/// Seconds; what is made from registry state changes when the registry does, and the gateway knows when.
const TTL: u32 = 300;
/// Seconds (RFC 8482 §4.2 suggests a long one).
const ANY_TTL: u32 = 3_600;

/// The stored data; where there is none, what `extra` says. ANY is answered with one HINFO (RFC 8482).
pub fn resolve(question: &Question, extra: impl FnOnce(&Question) -> Option<Resolution>) -> Resolution {
    let stored = registry::lookup(&question.name, question.rr_type);
    let found = match stored {
        Resolution::NoData | Resolution::NxDomain => extra(question).unwrap_or(stored),
        _ => stored,
    };
    match found {
        Resolution::NoData if question.rr_type == rrtype::ANY => any(question),
        found => found,
    }
}

/// `_did.NAME` TXT: the owner's DID.
pub fn did(question: &Question) -> Option<Resolution> {
    if !is_service(question, b"_did") {
        return None;
    }
    let did = owner()?;
    Some(txt(question, || vec![rdata::txt(&did)]))
}

/// NAME TXT: the owner's DID.
pub fn did_at_apex(question: &Question) -> Option<Resolution> {
    if question.name != question.zone || question.rr_type != rrtype::TXT {
        return None;
    }
    let did = owner()?;
    Some(txt(question, || vec![rdata::txt(&did)]))
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
    let text: Vec<u8> = b"sha256=".iter().copied().chain(rdata::hex(&hash)).collect();
    Some(txt(question, || vec![rdata::txt(&text)]))
}

/// `_accounts.NAME` TXT: a CAIP-10 account id for every WALLET record at NAME whose chain is known.
pub fn accounts(question: &Question) -> Option<Resolution> {
    if !is_service(question, b"_accounts") {
        return None;
    }
    owner()?;
    Some(txt(question, || wallets(&question.zone).iter().filter_map(|wallet| account_txt(wallet)).collect()))
}

fn account_txt(wallet: &[u8]) -> Option<Vec<u8>> {
    crate::caip::account(wallet).map(|account| rdata::txt(&account))
}

/// RDATA of the WALLET RRset at `name` itself.
fn wallets(name: &[u8]) -> Vec<Vec<u8>> {
    let Resolution::Records(answers) = registry::lookup(name, rrtype::WALLET) else { return Vec::new() };
    match answers.into_iter().next() {
        Some(Answer::Stored(handle)) => registry::read(handle).rdata,
        _ => Vec::new(),
    }
}

fn is_service(question: &Question, label: &[u8]) -> bool {
    name::strip(&question.name, label) == Some(&question.zone[..])
}

/// The owner's DID; `None` where the zone is a TLD, which nobody owns.
fn owner() -> Option<Vec<u8>> {
    let did = registry::owner_did().into_bytes();
    (!did.is_empty()).then_some(did)
}

/// The TXT RRset of a name that exists whatever the type asked; no data when `texts` is empty.
fn txt(question: &Question, texts: impl FnOnce() -> Vec<Vec<u8>>) -> Resolution {
    if question.rr_type != rrtype::TXT {
        return Resolution::NoData;
    }
    let texts = texts();
    if texts.is_empty() { Resolution::NoData } else { made(question, rrtype::TXT, TTL, texts) }
}

fn any(question: &Question) -> Resolution {
    made(question, rrtype::HINFO, ANY_TTL, vec![rdata::hinfo_rfc8482()])
}

/// One synthesised RRset at the asked name.
pub fn made(question: &Question, rr_type: u16, ttl: u32, rdata: Vec<Vec<u8>>) -> Resolution {
    let owner = question.name.clone();
    Resolution::Records(vec![Answer::Synthesised(Rrset { owner, rr_type, ttl, rdata })])
}
