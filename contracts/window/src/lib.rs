//! Addresses by the time, UTC:
//!
//! ```text
//! ttl 300
//! daily 08:00 18:00 A 192.0.2.1
//! between 1800000000 1800086400 A 192.0.2.9
//! otherwise A 192.0.2.2
//! ```
//!
//! All lines whose time it is count; `otherwise` when there is none. `daily` may run over midnight; `between` is in
//! seconds since 1970, the second number not included. An answer is good, its TTL too, until the next time that any
//! line begins or ends. Types that have no line are answered from the stored data.

#![no_std]

use ghostplane_contract::alloc::vec::Vec;
use ghostplane_contract::{Failure, Question, Rdata, Resolution, context, registry, rrtype, text};

ghostplane_contract::resolver!(resolve);

const DAY: u64 = 86_400;

struct Plan {
    now: u64,
    /// The first edge after now.
    until: u64,
    ttl: u32,
    open: Vec<Rdata>,
    otherwise: Vec<Rdata>,
    asked: bool,
}

fn resolve(question: &Question) -> Result<Resolution, Failure> {
    let (open, otherwise) = (Vec::new(), Vec::new());
    let mut plan = Plan { now: context::now(), until: u64::MAX, ttl: 300, open, otherwise, asked: false };
    text::lines(&registry::parameters(), |line| plan.read(line, question.rr_type))?;
    context::valid_until(plan.until);
    if !plan.asked {
        return Ok(Resolution::stored(question));
    }
    let addresses = if plan.open.is_empty() { plan.otherwise } else { plan.open };
    Ok(Resolution::synthesised(question, plan.ttl, addresses))
}

impl Plan {
    fn read(&mut self, line: &str, rr_type: u16) -> Result<(), &'static str> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[..] {
            ["ttl", ttl] => self.ttl = ttl.parse().map_err(|_| "not a TTL")?,
            ["daily", from, to, of, address] => {
                let midnight = self.now - self.now % DAY;
                let (from, to) = (time_of_day(from)?, time_of_day(to)?);
                let (wanted, address) = read_address(of, address, rr_type)?;
                let here = self.now - midnight;
                let open = if from <= to { from <= here && here < to } else { here < to || from <= here };
                for edge in [from, to] {
                    self.edge(midnight + edge);
                    self.edge(midnight + DAY + edge);
                }
                self.note(open, wanted, address);
            }
            ["between", from, to, of, address] => {
                let seconds = |text: &str| text.parse::<u64>().map_err(|_| "not seconds since 1970");
                let (from, to) = (seconds(from)?, seconds(to)?);
                let (wanted, address) = read_address(of, address, rr_type)?;
                self.edge(from);
                self.edge(to);
                self.note(from <= self.now && self.now < to, wanted, address);
            }
            ["otherwise", of, address] => {
                let (wanted, address) = read_address(of, address, rr_type)?;
                self.asked |= wanted;
                if wanted {
                    self.otherwise.push(address);
                }
            }
            _ => return Err("expected ttl, daily, between or otherwise"),
        }
        Ok(())
    }

    fn edge(&mut self, time: u64) {
        if time > self.now {
            self.until = self.until.min(time);
        }
    }

    fn note(&mut self, open: bool, wanted: bool, address: Rdata) {
        self.asked |= wanted;
        if open && wanted {
            self.open.push(address);
        }
    }
}

/// The address, and whether it is of the asked type.
fn read_address(of: &str, address: &str, rr_type: u16) -> Result<(bool, Rdata), &'static str> {
    let of = match of {
        "A" => rrtype::A,
        "AAAA" => rrtype::AAAA,
        _ => return Err("expected A or AAAA"),
    };
    Ok((of == rr_type, Rdata::address(of, address).ok_or("not an address of that type")?))
}

/// Seconds after midnight of `HH:MM`.
fn time_of_day(text: &str) -> Result<u64, &'static str> {
    let (hours, minutes) = text.split_once(':').ok_or("not HH:MM")?;
    let part = |text: &str, below: u64| text.parse::<u64>().ok().filter(|value| *value < below).ok_or("not HH:MM");
    Ok(part(hours, 24)? * 3_600 + part(minutes, 60)? * 60)
}
