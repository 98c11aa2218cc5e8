//! Who writes must have an attestation level:
//!
//! ```text
//! level 2
//! level 3 register transfer
//! ```
//!
//! A line without kinds is about every write, one with kinds about those; the highest level that applies is asked for.

#![no_std]

use ghostplane_contract::alloc::format;
use ghostplane_contract::alloc::string::String;
use ghostplane_contract::covenants::{kind, rules};
use ghostplane_contract::registry;
use ghostplane_contract::writes::Write;

ghostplane_contract::covenant!(judge);

fn judge(write: &Write) -> Result<(), String> {
    let mut wanted = 0;
    rules(&registry::parameters(), |line| {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("level") {
            return Err("expected level");
        }
        let level: u8 = words.next().ok_or("the level is missing")?.parse().map_err(|_| "not a level")?;
        let kinds = words.clone();
        if kinds.count() == 0 || words.any(|of| of == kind(&write.change)) {
            wanted = level.max(wanted);
        }
        Ok(())
    })?;
    if write.level >= wanted {
        return Ok(());
    }
    Err(format!("needs attestation level {wanted}, the author has {}", write.level))
}
