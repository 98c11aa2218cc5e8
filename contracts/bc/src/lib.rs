//! Default contract of `.bc`: the stored data, the owner's DID at `_did.NAME`, and the CAIP-10 account ids of
//! the stored WALLET records at `_accounts.NAME`.

#![no_std]

use ghostplane_contract::{Failure, Question, Resolution, defaults};

ghostplane_contract::resolver!(resolve);

fn resolve(question: &Question) -> Result<Resolution, Failure> {
    Ok(defaults::resolve(question, |question| defaults::did(question).or_else(|| defaults::accounts(question))))
}
