//! BIP 353 payment instructions: `USER.user._bitcoin-payment.NAME` TXT is what a wallet pays when told `₿USER@NAME`.
//!
//! ```text
//! ttl 3600
//! alice bitcoin:bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq
//! bob bitcoin:?lno=lno1qgsqvgnwgcg35z6ee2h3yczraddm72xrfua9uve2rlrm9deu7xyfzrc
//! ```
//!
//! A user has one line. The name must be a signed zone: wallets insist on DNSSEC. Everything else is answered from the
//! stored data.

#![no_std]

use ghostplane_contract::alloc::borrow::ToOwned as _;
use ghostplane_contract::alloc::string::String;
use ghostplane_contract::alloc::vec::Vec;
use ghostplane_contract::{Failure, Question, Rdata, Resolution, name, registry, rrtype, text};

ghostplane_contract::resolver!(resolve);

fn resolve(question: &Question) -> Result<Resolution, Failure> {
    let mut ttl = 3_600;
    let mut users: Vec<(String, String)> = Vec::new();
    text::lines(&registry::parameters(), |line| {
        let (user, value) = line.split_once(' ').ok_or("expected a user and what to pay")?;
        let value = value.trim();
        if user == "ttl" {
            ttl = value.parse().map_err(|_| "not a TTL")?;
        } else if !value.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("bitcoin:")) {
            return Err("what to pay begins with bitcoin:");
        } else if users.iter().any(|(known, _)| known == user) {
            return Err("a user has one line");
        } else {
            users.push((user.to_owned(), value.to_owned()));
        }
        Ok(())
    })?;
    let Some(user) = user(question) else {
        return Ok(match Resolution::stored(question) {
            // Users' names are below these: to deny them would deny the users (RFC 8020), and resolvers that send no
            // more of a name than they must (RFC 9156) ask for them first.
            Resolution::NxDomain if is_above_users(question) => Resolution::NoData,
            stored => stored,
        });
    };
    let Some((_, value)) = users.iter().find(|(known, _)| known.as_bytes() == user) else {
        return Ok(Resolution::NxDomain);
    };
    if question.rr_type != rrtype::TXT {
        return Ok(Resolution::NoData);
    }
    Ok(Resolution::synthesised(question, ttl, [Rdata::txt(value)].into()))
}

/// True for `user._bitcoin-payment.NAME` and `_bitcoin-payment.NAME`.
fn is_above_users(question: &Question) -> bool {
    let rest = name::strip(&question.name, b"user").unwrap_or(&question.name);
    name::strip(rest, b"_bitcoin-payment") == Some(&question.zone[..])
}

/// The first label of `USER.user._bitcoin-payment.NAME`.
fn user(question: &Question) -> Option<&[u8]> {
    let (user, rest) = name::split(&question.name)?;
    let rest = name::strip(name::strip(rest, b"user")?, b"_bitcoin-payment")?;
    (rest == &question.zone[..]).then_some(user)
}
