//! Attacks, grouped by who attacks.

pub mod author;
pub mod network;
