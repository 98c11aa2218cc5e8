//! What covenants have in common: rules as lines of words, and what a write is called.

use alloc::string::String;

use crate::writes::{Change, Write};
use crate::{Failure, name, text};

/// Reads the covenant's parameters line by line, as [`text::lines`].
///
/// # Errors
/// What is wrong with them, as a reason to deny: rules that cannot be read allow nothing.
pub fn rules(parameters: &[u8], read: impl FnMut(&str) -> Result<(), &'static str>) -> Result<(), String> {
    text::lines(parameters, read).map_err(|failure| match failure {
        Failure::Refused(why) | Failure::NotReady(why) | Failure::Other(why) => why,
    })
}

/// The kind of a write in one word, as parameters name it.
pub fn kind(change: &Change) -> &str {
    match change {
        Change::Register(_) => "register",
        Change::Renew(_) => "renew",
        Change::Transfer(_) => "transfer",
        Change::Release => "release",
        Change::PutRecords(_) => "put_records",
        Change::DeleteRecords(_) => "delete_records",
        Change::BindContract(_) => "bind",
        Change::BindCovenants(_) => "bind_covenants",
        Change::Other(kind) => kind,
    }
}

/// The label that is registered: the leftmost one.
pub fn label(write: &Write) -> &[u8] {
    name::split(&write.name).map_or(&[], |(label, _)| label)
}
