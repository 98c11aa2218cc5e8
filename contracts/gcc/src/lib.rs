//! Default contract of `.gcc`: the stored data, the owner's DID at `_did.NAME`, the hash of the bound contract at
//! `_code.NAME`, and where it is called: NAME HTTPS, SVCB and URI.

#![no_std]

use ghostplane_contract::{Failure, Question, Resolution, defaults};

ghostplane_contract::resolver!(resolve);

fn resolve(question: &Question) -> Result<Resolution, Failure> {
    Ok(defaults::gcc(question))
}
