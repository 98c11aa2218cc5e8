//! Any octets as a DNS UPDATE, as they are and under a good SIG(0).
#![no_main]

#[path = "../../shared/updates.rs"]
mod updates;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| updates::survives(octets));
