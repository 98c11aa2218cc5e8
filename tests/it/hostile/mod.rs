//! Attacks, grouped by who attacks.

pub mod author;
mod disk;
pub mod mutations;
pub mod network;
