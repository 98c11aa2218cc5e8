//! Attacks, grouped by who attacks.

pub mod author;
mod disk;
mod guardian;
pub mod mutations;
pub mod network;
mod owner;
mod registrar;
