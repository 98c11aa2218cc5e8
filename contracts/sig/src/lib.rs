//! Default contract of `.sig`: the stored data, and the owner's DID at `_did.NAME` and as TXT of the name
//! itself unless the owner stored a TXT there.

#![no_std]

use ghostplane_contract::{Failure, Question, Resolution, defaults};

ghostplane_contract::resolver!(resolve);

fn resolve(question: &Question) -> Result<Resolution, Failure> {
    Ok(defaults::resolve(question, |question| defaults::did(question).or_else(|| defaults::did_at_apex(question))))
}
