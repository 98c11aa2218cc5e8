//! Attacks that worked once, by who attacks. T-numbers are those of the list that they were first told in.

pub mod asker;
pub mod author;
mod bombs;
mod clock;
mod disk;
mod guardian;
mod machine;
pub mod mutations;
pub mod network;
mod owner;
mod registrar;
mod store;
mod writer;
