//! Any octets as an op, as they are and as the payload of a good signature: no panic, and what passes is in
//! its one legal encoding.
#![no_main]

use ed25519_dalek::{Signer as _, SigningKey};
use ghostplane::op::{self, RegistryId, SigilId};
use libfuzzer_sys::fuzz_target;

const REGISTRY: RegistryId = RegistryId([0; 32]);
const NOW: u64 = 1_000;

fuzz_target!(|octets: &[u8]| {
    check(octets);
    check(&enveloped(octets));
});

fn check(bytes: &[u8]) {
    if let Ok(verified) = op::verify(bytes, REGISTRY, NOW) {
        assert_eq!(verified.bytes(), bytes);
        let again = op::verify(verified.bytes(), REGISTRY, NOW).expect("verification has no memory");
        assert_eq!(again, verified);
    }
}

/// A tagged COSE_Sign1 (RFC 9052 section 4.2) made by hand, so that nothing of ours checks the payload first.
fn enveloped(payload: &[u8]) -> Vec<u8> {
    let key = SigningKey::from_bytes(&[1; 32]);
    let id = SigilId::from(&key.verifying_key()).0;
    let protected = [&[0xa2, 0x01, 0x27, 0x04, 0x58, 32][..], &id].concat();
    let mut signed = vec![0x84, 0x6a];
    signed.extend(b"Signature1");
    for part in [&protected[..], op::OP_CONTEXT, payload] {
        byte_string(&mut signed, part);
    }
    let mut bytes = vec![0xd2, 0x84];
    byte_string(&mut bytes, &protected);
    bytes.push(0xa0);
    byte_string(&mut bytes, payload);
    byte_string(&mut bytes, &key.sign(&signed).to_bytes());
    bytes
}

fn byte_string(to: &mut Vec<u8>, octets: &[u8]) {
    match octets.len() {
        len @ 0..24 => to.push(0x40 | len as u8),
        len @ 24..256 => to.extend([0x58, len as u8]),
        len => {
            to.push(0x59);
            to.extend((len as u16).to_be_bytes());
        }
    }
    to.extend(octets);
}
