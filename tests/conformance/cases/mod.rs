//! The cases, by subject. Each has a connection of its own and knows nothing of the others.

mod early;
mod handshake;
mod messages;
mod path;
mod streams;
mod transfer;
mod violations;

use std::time::Duration;

use crate::{Case, Miss};

/// How long is waited for what must not happen, or need not.
const QUIET: Duration = Duration::from_millis(400);
/// How long is waited for the server's reaction to what it must not accept.
const REACTION: Duration = Duration::from_millis(1_500);

/// All of them, in the order in which they run.
pub fn all() -> impl Iterator<Item = &'static Case> {
    let groups = [
        handshake::CASES,
        path::CASES,
        streams::CASES,
        violations::CASES,
        messages::CASES,
        early::CASES,
        transfer::CASES,
    ];
    groups.into_iter().flatten()
}

fn fail<T>(words: impl Into<String>) -> Result<T, Miss> {
    Err(Miss::Fail(words.into()))
}

fn skip<T>(words: impl Into<String>) -> Result<T, Miss> {
    Err(Miss::Skip(words.into()))
}
