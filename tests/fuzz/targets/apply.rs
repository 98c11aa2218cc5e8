//! Any octets as a sequence of ops: the state machine keeps its invariants.
#![no_main]

#[path = "../../shared/ops.rs"]
mod ops;
#[path = "../../shared/updates.rs"]
mod updates;

use libfuzzer_sys::fuzz_target;
use ops::{Script, Source};

fuzz_target!(|octets: &[u8]| {
    let mut script = Script::new();
    let mut source = Source(octets);
    while !source.0.is_empty() {
        if let Some(op) = script.next(&mut source) {
            // The checks are in `apply`; a rejection is as good as an acceptance.
            let _ = script.apply(&op);
        }
    }
});
