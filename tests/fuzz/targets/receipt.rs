//! Any octets as a receipt, and as what stands under a good signature: no panic, one encoding, and a replay that ends.
#![no_main]

use std::sync::LazyLock;

use ed25519_dalek::SigningKey;
use ghostplane::contract::receipt::{RECEIPT_CONTEXT, file, open};
use ghostplane::contract::{ContractHost, HostConfig};
use ghostplane::node::SHIPPED;
use ghostplane::op::envelope;
use libfuzzer_sys::fuzz_target;

static HOST: LazyLock<ContractHost> = LazyLock::new(|| ContractHost::new(HostConfig::default()).expect("a host"));

fuzz_target!(|octets: &[u8]| {
    let _ = open(octets);
    let Some((&[high, low], rest)) = octets.split_first_chunk::<2>() else { return };
    let (payload, mut rest) = rest.split_at(rest.len().min(usize::from(u16::from_be_bytes([high, low]))));
    let mut values = Vec::new();
    while let Some((length, tail)) = rest.split_first() {
        let (value, tail) = tail.split_at(tail.len().min(usize::from(*length)));
        values.push(value.to_vec());
        rest = tail;
    }
    let sealed = envelope::seal(RECEIPT_CONTEXT, &SigningKey::from_bytes(&[1; 32]), payload.to_vec());
    let Ok(opened) = open(&file(&sealed, &values)) else { return };
    // Whatever contract it names: the first that is shipped is executed.
    let _ = opened.replay(&HOST, |_| Some(SHIPPED[0].1.to_vec()));
});
