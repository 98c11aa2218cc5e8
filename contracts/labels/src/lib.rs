//! Labels that not everybody may register:
//!
//! ```text
//! reserve bank for licensed banks, ask registrar.ghost
//! hold acme 3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29
//! premium gold 4
//! ```
//!
//! `reserve`: nobody, for the reason given; `hold`: only this key; `premium`: from this attestation level on.

#![no_std]

use ghostplane_contract::alloc::format;
use ghostplane_contract::alloc::string::{String, ToString as _};
use ghostplane_contract::covenants::{kind, label, rules};
use ghostplane_contract::writes::Write;
use ghostplane_contract::{registry, text};

ghostplane_contract::covenant!(judge);

/// Kinds of writes by which a name comes to be registered.
const REGISTERING: [&str; 2] = ["register", "reveal"];

fn judge(write: &Write) -> Result<(), String> {
    let mut denied = None;
    rules(&registry::parameters(), |line| {
        let (keyword, rest) = line.split_once(' ').ok_or("a label is missing")?;
        let (of, rest) = rest.trim().split_once(' ').unwrap_or((rest.trim(), ""));
        let rest = rest.trim();
        let meant = of.as_bytes() == label(write);
        match keyword {
            "reserve" if meant => denied = Some(if rest.is_empty() { "reserved".to_string() } else { format!("reserved {rest}") }),
            "reserve" => {}
            "hold" => {
                let key = text::from_hex(rest).filter(|key| key.len() == 32).ok_or("not a key")?;
                if meant && key != write.author {
                    denied = Some("held for another sigil".to_string());
                }
            }
            "premium" => {
                let level: u8 = rest.parse().map_err(|_| "not a level")?;
                if meant && write.level < level {
                    denied = Some(format!("premium: needs attestation level {level}, the author has {}", write.level));
                }
            }
            _ => return Err("expected reserve, hold or premium"),
        }
        Ok(())
    })?;
    match denied.filter(|_| REGISTERING.contains(&kind(&write.change))) {
        Some(why) => Err(why),
        None => Ok(()),
    }
}
