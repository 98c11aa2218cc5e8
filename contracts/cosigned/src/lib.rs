//! Writes that others must have signed, too:
//!
//! ```text
//! kinds transfer release bind_covenants
//! need 2
//! key 3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29
//! key d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a
//! key fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025
//! ```
//!
//! Without a `kinds` line these are transfer, offer, release and bind_covenants: with the last one left out, the owner
//! could take the covenant off alone.

#![no_std]

use ghostplane_contract::alloc::format;
use ghostplane_contract::alloc::string::String;
use ghostplane_contract::alloc::vec::Vec;
use ghostplane_contract::covenants::{kind, rules};
use ghostplane_contract::writes::Write;
use ghostplane_contract::{registry, text};

ghostplane_contract::covenant!(judge);

const KINDS: [&str; 4] = ["transfer", "offer", "release", "bind_covenants"];

fn judge(write: &Write) -> Result<(), String> {
    let mut keys: Vec<Vec<u8>> = Vec::new();
    let (mut need, mut meant) = (1_usize, None);
    rules(&registry::parameters(), |line| {
        let mut words = line.split_ascii_whitespace();
        let keyword = words.next().unwrap_or_default();
        match keyword {
            "kinds" => meant = Some(meant.unwrap_or(false) || words.any(|of| of == kind(&write.change))),
            "need" => need = words.next().and_then(|word| word.parse().ok()).filter(|n| *n > 0).ok_or("not a number from 1")?,
            "key" => {
                let key = words.next().and_then(text::from_hex).filter(|key| key.len() == 32).ok_or("not a key")?;
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
            _ => return Err("expected kinds, need or key"),
        }
        Ok(())
    })?;
    if !meant.unwrap_or_else(|| KINDS.contains(&kind(&write.change))) {
        return Ok(());
    }
    let signed = keys.iter().filter(|key| write.cosigners.contains(key) || write.author == **key).count();
    if signed >= need {
        return Ok(());
    }
    Err(format!("needs the signatures of {need} of {} keys, has {signed}", keys.len()))
}
