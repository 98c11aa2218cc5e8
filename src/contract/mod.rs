//! The contract host: wasmtime, one fresh pooled instance per execution.
//!
//! ```text
//! octets ── check ──> CheckedContract                        on a write: size, world, form; compiles, keeps
//!
//! question ── in memory? ──no──> on disk? ──no──> compile     once, however many ask; kept by hash
//!                │
//!                v
//!          fresh store and instance ── resolve() ──> what the guest says ── output ──> Resolution
//!                │                        │                                   │
//!             Busy                Reads, fuel, epochs,                    BadOutput
//!                                 memory: Failure
//! ```
//!
//! Whatever a guest does ends in a [`Resolution`] or a [`Failure`], within the bounds of [`crate::limits`].
//! Same code, question and reads give the same outcome on every machine, but for what [`Failure::is_of_machine`].

mod bindings;
mod budget;
mod check;
mod componentize;
mod engine;
mod failure;
mod files;
mod fuel;
mod gate;
mod guest;
mod host;
mod inventory;
mod library;
mod output;
mod rdata;
pub mod receipt;
mod selftest;
mod write;

use std::any::Any;
use std::sync::Arc;

pub use check::{CheckedContract, ContractError, Estimate, Worlds, estimate, worlds};
pub use componentize::{ComponentizeError, WIT, componentize};
pub use failure::{BadOutput, Failure};
pub use files::CodeFolder;
pub use fuel::Schedule;
pub use host::{CodeRef, ContractHost, Execution, HostConfig, HostError, Verdict};
pub use rdata::TypedError;
pub use write::Write;

use crate::wire::{Name, Resolution, Rtype, Scope, Subnet};

/// Of all interfaces and worlds.
pub(crate) const PACKAGE: &str = "ghostplane:contract/";
/// Of the worlds that this host speaks.
pub const VERSION: &str = "0.2.0";

/// Core modules, instances of them, and tables, of one component: a guest and the shims that the encoder puts around it.
const MODULES: u32 = 8;
const TABLES: u32 = 4;

/// What is asked, and the zone it fell into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// At or below `zone`.
    pub name: Name,
    /// May be ANY, no other meta type.
    pub rtype: Rtype,
    /// The registered name, or the TLD when none is registered.
    pub zone: Name,
}

/// What one execution may see. The gateway implements it over a registry snapshot and notes what was
/// read; tests implement it over a map. `Any`, because an execution owns it and gives it back as it was.
pub trait Reads: Any + Send {
    /// Zone look-up (RFC 1034 §4.3.2) for any name; NXDOMAIN outside our TLDs.
    ///
    /// # Errors
    /// The store failed; the execution ends and the answer is SERVFAIL.
    fn lookup(&mut self, name: &Name, rtype: Rtype) -> Result<Resolution, ReadFault>;
    /// Apex of the zone: the question's, or the name that a program is called by.
    fn zone(&mut self) -> Name;
    /// Public Ed25519 key of the owner of the zone; `None` for a TLD.
    fn owner_key(&mut self) -> Option<[u8; 32]>;
    /// SHA-256 of the contract that the owner bound; `None` if there is none.
    fn bound_contract(&mut self) -> Option<[u8; 32]>;
    /// Worlds of that contract; none if there is none.
    ///
    /// # Errors
    /// The store failed.
    fn bound_worlds(&mut self) -> Result<Worlds, ReadFault>;
    /// Parameters bound with it.
    fn parameters(&mut self) -> Vec<u8>;
    /// Seconds since 1970.
    fn now(&mut self) -> u64;
    /// Sequence of the last change of the zone that was read last; 0 for what is from no registered name.
    fn changed(&self) -> u64 {
        0
    }
    /// The asker's address, so much of it; `None` if it does not want to be told apart.
    fn client_subnet(&mut self, scope: Scope) -> Option<Subnet>;
}

/// The store failed under a read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("registry read failed: {0}")]
pub struct ReadFault(pub Arc<str>);
