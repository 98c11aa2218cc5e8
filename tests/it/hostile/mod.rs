//! Attacks, grouped by who attacks.

pub mod author;
mod guardian;
pub mod network;
mod owner;
mod registrar;
