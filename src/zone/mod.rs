//! Zones: master files to RRsets, their checks, the look-up algorithm, the TLDs' policies.

pub mod ahead;
mod check;
pub mod community;
pub mod discovery;
pub mod export;
mod lookup;
pub mod policy;
pub mod soa;
pub mod transfer;

pub use check::{Finding, Severity, ZoneData};
pub use lookup::{Found, ZoneView, find, lookup, source_of_synthesis};
