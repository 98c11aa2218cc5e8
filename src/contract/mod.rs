//! The contract host: wasmtime, one fresh pooled instance per execution.

mod componentize;

pub use componentize::{ComponentizeError, WIT, componentize};

use std::sync::Arc;

use crate::wire::{Name, Resolution, Rtype};

/// What one execution may see. The gateway implements it over a registry snapshot and notes what was
/// read; tests implement it over a map.
pub trait Reads: Send {
    /// Zone look-up (RFC 1034 §4.3.2) for any name; NXDOMAIN outside our TLDs.
    ///
    /// # Errors
    /// The store failed; the execution ends and the answer is SERVFAIL.
    fn lookup(&mut self, name: &Name, rtype: Rtype) -> Result<Resolution, ReadFault>;
    /// Public Ed25519 key of the owner of the question's zone; `None` for a TLD.
    fn owner_key(&self) -> Option<[u8; 32]>;
    /// SHA-256 of the contract that the owner bound; `None` if there is none.
    fn bound_contract(&self) -> Option<[u8; 32]>;
    /// Parameters bound with it.
    fn parameters(&self) -> &[u8];
}

/// The store failed under a read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("registry read failed: {0}")]
pub struct ReadFault(pub Arc<str>);
