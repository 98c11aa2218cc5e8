//! So many names under the TLD for one owner:
//!
//! ```text
//! names 3
//! level 3 100
//! exempt 3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29
//! ```
//!
//! `level L N`: N names from attestation level L on; the line with the highest level that the author has counts.

#![no_std]

use ghostplane_contract::alloc::format;
use ghostplane_contract::alloc::string::String;
use ghostplane_contract::covenants::{kind, rules};
use ghostplane_contract::writes::Write;
use ghostplane_contract::{registry, text};

ghostplane_contract::covenant!(judge);

/// Kinds of writes by which the author comes to own one more name.
const GAINING: [&str; 3] = ["register", "reveal", "accept"];

fn judge(write: &Write) -> Result<(), String> {
    let (mut most, mut at_level, mut exempt) = (u32::MAX, 0, false);
    rules(&registry::parameters(), |line| {
        let mut words = line.split_ascii_whitespace();
        let keyword = words.next().unwrap_or_default();
        let mut value = || words.next().ok_or("a value is missing");
        match keyword {
            "names" if at_level == 0 => most = value()?.parse().map_err(|_| "not a number")?,
            "names" => {}
            "level" => {
                let level: u8 = value()?.parse().map_err(|_| "not a level")?;
                let number = value()?.parse().map_err(|_| "not a number")?;
                if (at_level..=write.level).contains(&level) {
                    (most, at_level) = (number, level);
                }
            }
            "exempt" => exempt |= text::from_hex(value()?).ok_or("not a key")? == write.author,
            _ => return Err("expected names, level or exempt"),
        }
        Ok(())
    })?;
    if exempt || write.names < most || !GAINING.contains(&kind(&write.change)) {
        return Ok(());
    }
    Err(format!("one owner has at most {most} names here, and the author has {}", write.names))
}
