//! Any octets as a contract, as they are and as a core module: refused with a sentence, or a contract.
#![no_main]

use std::sync::LazyLock;

use ghostplane::contract::{ContractHost, HostConfig, componentize};
use libfuzzer_sys::fuzz_target;

static HOST: LazyLock<ContractHost> = LazyLock::new(|| ContractHost::new(HostConfig::default()).expect("a host"));

fuzz_target!(|octets: &[u8]| {
    if let Err(error) = HOST.check(octets) {
        assert!(!error.to_string().is_empty());
    }
    if let Ok(component) = componentize(octets) {
        let _ = HOST.check(&component);
    }
});
