//! A value signed by its feeder:
//!
//! ```text
//! feeder 3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29
//! source _feed.btc-usd.gcc
//! max-age 600
//! ```
//!
//! At `source`, in any zone of the gateway, a TXT record `t=SECONDS v=VALUE s=BASE64` is stored; the value has no
//! spaces. `s` is the feeder's Ed25519 signature over `ghostplane oracle v1 NAME t=SECONDS v=VALUE`, where NAME is the
//! name this contract is bound to: whoever stores it cannot change it, nor use it for another name. NAME TXT is
//! `VALUE`, and `_raw.NAME` TXT the record with its signature, for those who check again. A value older than
//! `max-age` seconds is not told (EDE 14); nor is one from the future. Everything else is answered as in `.gcc`.
//!
//! Called as a program, with such a record, it gives the value if the signature is good, however old.

#![no_std]

use ghostplane_contract::alloc::format;
use ghostplane_contract::alloc::string::String;
use ghostplane_contract::alloc::vec::Vec;
use ghostplane_contract::defaults::{self, is_service};
use ghostplane_contract::{
    Failure, Question, Rdata, Resolution, base64, context, crypto, name, registry, rrtype, stored_rdata, text,
};

ghostplane_contract::resolver!(resolve);
ghostplane_contract::program!(call);

/// Seconds that a feeder's clock may be ahead.
const SKEW: u64 = 30;

#[derive(Default)]
struct Feed {
    feeder: Vec<u8>,
    source: Vec<u8>,
    max_age: Option<u64>,
}

/// A stored record of the feed, its signature good.
struct Value {
    record: String,
    time: u64,
    value: String,
}

fn resolve(question: &Question) -> Result<Resolution, Failure> {
    let raw = is_service(question, b"_raw");
    if question.rr_type != rrtype::TXT || !(raw || question.name == question.zone) {
        return Ok(if raw { Resolution::NoData } else { defaults::gcc(question) });
    }
    let feed = Feed::bound()?;
    let Some(value) = feed.newest(&question.zone) else {
        return Err(Failure::NotReady("no value signed by the feeder is stored".into()));
    };
    let (now, until) = (context::now(), value.time.saturating_add(feed.max_age.unwrap_or(600)));
    if value.time > now.saturating_add(SKEW) || now >= until {
        return Err(Failure::NotReady(format!("the newest value is of {}, the time is {now}", value.time)));
    }
    context::valid_until(until);
    let text = if raw { value.record } else { value.value };
    let left = u32::try_from(until - now).unwrap_or(u32::MAX);
    Ok(Resolution::synthesised(question, left.min(60), [Rdata::txt(text)].into()))
}

fn call(input: &[u8]) -> Result<Vec<u8>, Failure> {
    let record = core::str::from_utf8(input).map_err(|_| Failure::other("a record is text"))?;
    let checked = Feed::bound()?.check(&registry::zone(), record.into());
    checked.map(|value| value.value.into()).ok_or_else(|| Failure::Refused("not signed by the feeder".into()))
}

impl Feed {
    /// What is bound.
    fn bound() -> Result<Self, Failure> {
        let mut feed = Self::default();
        text::lines(&registry::parameters(), |line| feed.read(line))?;
        Ok(feed)
    }

    fn read(&mut self, line: &str) -> Result<(), &'static str> {
        match line.split_once(' ') {
            Some(("feeder", key)) => {
                let key = text::from_hex(key.trim()).filter(|key| key.len() == 32);
                self.feeder = key.ok_or("a key has 64 hex digits")?;
            }
            Some(("source", owner)) => self.source = name::parse(owner.trim()).ok_or("not a name")?,
            Some(("max-age", age)) => self.max_age = Some(age.trim().parse().map_err(|_| "not seconds")?),
            _ => return Err("expected feeder, source or max-age"),
        }
        Ok(())
    }

    fn newest(&self, zone: &[u8]) -> Option<Value> {
        let values = stored_rdata(&self.source, rrtype::TXT).into_iter().filter_map(|data| match data {
            Rdata::Txt(strings) => self.check(zone, String::from_utf8(strings.concat()).ok()?),
            _ => None,
        });
        values.max_by_key(|value| value.time)
    }

    fn check(&self, zone: &[u8], record: String) -> Option<Value> {
        let (said, signature) = record.split_once(" s=")?;
        let (time, value) = said.strip_prefix("t=")?.split_once(" v=")?;
        let signed = format!("ghostplane oracle v1 {} {said}", name::text(zone)?);
        let good = crypto::ed25519_verify(&self.feeder, signed.as_bytes(), &base64::decode(signature)?);
        let (time, value) = (time.parse().ok()?, value.into());
        good.then_some(Value { time, value, record })
    }
}
