//! A primary while its heartbeat lasts, else a backup:
//!
//! ```text
//! ttl 30
//! heartbeat _alive.alice.ghost
//! primary A 192.0.2.1
//! backup A 198.51.100.1
//! ```
//!
//! The heartbeat is a stored TXT record `until=SECONDS` (since 1970) at that name, in any zone of the gateway: whoever
//! watches the primary, perhaps under a name of their own, renews it. Answers change with it at once, and when it runs
//! out. Types that have no line are answered from the stored data.

#![no_std]

use ghostplane_contract::alloc::vec::Vec;
use ghostplane_contract::{Failure, Question, Rdata, Resolution, context, name, registry, rrtype, stored_rdata, text};

ghostplane_contract::resolver!(resolve);

#[derive(Default)]
struct Plan {
    ttl: Option<u32>,
    heartbeat: Option<Vec<u8>>,
    primary: Vec<Rdata>,
    backup: Vec<Rdata>,
}

fn resolve(question: &Question) -> Result<Resolution, Failure> {
    let mut plan = Plan::default();
    text::lines(&registry::parameters(), |line| plan.read(line, question.rr_type))?;
    let heartbeat = plan.heartbeat.ok_or_else(|| Failure::other("parameters: no heartbeat"))?;
    if plan.primary.is_empty() && plan.backup.is_empty() {
        return Ok(Resolution::stored(question));
    }
    let until = alive_until(&heartbeat);
    let addresses = if until > context::now() {
        context::valid_until(until);
        plan.primary
    } else {
        // Only a new heartbeat changes this, and that is a write.
        context::valid_until(u64::MAX);
        plan.backup
    };
    Ok(Resolution::synthesised(question, plan.ttl.unwrap_or(30), addresses))
}

impl Plan {
    fn read(&mut self, line: &str, rr_type: u16) -> Result<(), &'static str> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[..] {
            ["ttl", ttl] => self.ttl = Some(ttl.parse().map_err(|_| "not a TTL")?),
            ["heartbeat", owner] => self.heartbeat = Some(name::parse(owner).ok_or("not a name")?),
            [role @ ("primary" | "backup"), of @ ("A" | "AAAA"), address] => {
                let of = if of == "A" { rrtype::A } else { rrtype::AAAA };
                let address = Rdata::address(of, address).ok_or("not an address of that type")?;
                if of == rr_type {
                    let list = if role == "primary" { &mut self.primary } else { &mut self.backup };
                    list.push(address);
                }
            }
            _ => return Err("expected ttl, heartbeat, primary or backup"),
        }
        Ok(())
    }
}

/// Seconds since 1970; 0 without a heartbeat.
fn alive_until(owner: &[u8]) -> u64 {
    let texts = stored_rdata(owner, rrtype::TXT).into_iter().filter_map(|data| match data {
        Rdata::Txt(strings) => core::str::from_utf8(&strings.concat()).ok()?.strip_prefix("until=")?.parse().ok(),
        _ => None,
    });
    texts.max().unwrap_or(0)
}
