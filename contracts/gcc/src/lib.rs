//! Default contract of `.gcc`: the stored data, the owner's DID at `_did.NAME`, and the hash of the bound
//! contract at `_code.NAME`.

#![no_std]

use ghostplane_contract::{Failure, Question, Resolution, defaults};

ghostplane_contract::contract!(resolve);

fn resolve(question: &Question) -> Result<Resolution, Failure> {
    Ok(defaults::resolve(question, |question| defaults::did(question).or_else(|| defaults::code(question))))
}
