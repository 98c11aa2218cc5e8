//! Attacks, grouped by who attacks.

pub mod author;
mod clock;
mod disk;
mod guardian;
pub mod mutations;
pub mod network;
mod owner;
mod registrar;
mod store;
mod writer;
