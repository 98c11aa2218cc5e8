//! Default contract of `.ghost`: the stored data, and the owner's DID at `_did.NAME`.

#![no_std]

use ghostplane_contract::{Failure, Question, Resolution, defaults};

ghostplane_contract::resolver!(resolve);

fn resolve(question: &Question) -> Result<Resolution, Failure> {
    Ok(defaults::resolve(question, defaults::did))
}
