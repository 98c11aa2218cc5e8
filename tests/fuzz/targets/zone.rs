//! Any octets as a master file, a policy, JSON lines of names, RDATA in either form, a config file.
#![no_main]

use std::sync::LazyLock;

use ghostplane::config::Config;
use ghostplane::gateway::Tld;
use ghostplane::wire::{Name, Rtype, rdata};
use ghostplane::zone::ZoneData;
use ghostplane::zone::community::{plan_json, plan_master};
use ghostplane::zone::policy::Policy;
use libfuzzer_sys::fuzz_target;

static TLDS: LazyLock<Vec<Tld>> = LazyLock::new(|| ghostplane::node::built_in_tlds().expect("built-in TLDs"));

fuzz_target!(|octets: &[u8]| {
    let Some((first, rest)) = octets.split_first() else { return };
    let tld = &TLDS[0];
    let _ = ZoneData::read(&tld.apex, rest);
    let _ = plan_master(rest, &tld.apex, &tld.policy);
    // What a binary RDATA prints as, reads back as the same octets, but for the letter case of names.
    let rtype = Rtype(u16::from(*first));
    if rdata::check(rtype, rest).is_ok() {
        let canonical = rdata::canonical(rtype, rest);
        let text = rdata::to_text(rtype, &canonical);
        let back = rdata::from_text(rtype, &text, None);
        let back = back.map(|octets| rdata::canonical(rtype, &octets).to_ascii_lowercase());
        assert_eq!(back, Ok(canonical.to_ascii_lowercase()), "{rtype} {text}");
    }
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let _ = plan_json(text, &tld.apex, &tld.policy, 60);
    let _ = Policy::from_toml(text);
    let _ = Config::from_toml(text);
    let _ = Name::from_user(text);
    let _ = rdata::from_text(rtype, text, None).map(|octets| assert!(rdata::check(rtype, &octets).is_ok()));
});
