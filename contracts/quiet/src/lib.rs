//! Hours without writes, UTC:
//!
//! ```text
//! quiet 22:00 06:00
//! only transfer release bind
//! ```
//!
//! Without an `only` line no write at all is allowed in these hours; with one, those kinds are not.

#![no_std]

use ghostplane_contract::alloc::format;
use ghostplane_contract::alloc::string::String;
use ghostplane_contract::covenants::{kind, rules};
use ghostplane_contract::registry;
use ghostplane_contract::writes::Write;

ghostplane_contract::covenant!(judge);

fn judge(write: &Write) -> Result<(), String> {
    let now = write.time % 86_400 / 60;
    let mut quiet_until = None;
    let (mut listed, mut meant) = (false, false);
    rules(&registry::parameters(), |line| {
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("quiet") => {
                let from = minute(words.next())?;
                let until = minute(words.next())?;
                let within = if from <= until { (from..until).contains(&now) } else { now >= from || now < until };
                if within {
                    quiet_until = Some(until);
                }
                Ok(())
            }
            Some("only") => {
                listed = true;
                meant |= words.any(|of| of == kind(&write.change));
                Ok(())
            }
            _ => Err("expected quiet or only"),
        }
    })?;
    match quiet_until {
        Some(until) if !listed || meant => {
            Err(format!("quiet hours: try again at {:02}:{:02} UTC", until / 60, until % 60))
        }
        _ => Ok(()),
    }
}

/// Minutes since midnight.
fn minute(word: Option<&str>) -> Result<u64, &'static str> {
    let (hours, minutes) = word.and_then(|word| word.split_once(':')).ok_or("a time is written 22:00")?;
    let number = |text: &str, most: u64| text.parse::<u64>().ok().filter(|number| *number < most).ok_or("not a time of the day");
    Ok(number(hours, 24)? * 60 + number(minutes, 60)?)
}
