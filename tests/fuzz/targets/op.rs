//! Any octets as an op, as they are and as the payload of good signatures, one or several: no panic, and what passes is
//! in its one legal encoding.
#![no_main]

use ed25519_dalek::{Signer as _, SigningKey};
use ghostplane::op::{self, Draft, RegistryId, SigilId};
use libfuzzer_sys::fuzz_target;

const REGISTRY: RegistryId = RegistryId([0; 32]);
const NOW: u64 = 1_000;

fuzz_target!(|octets: &[u8]| {
    check(octets);
    check(&enveloped(octets));
    check(&shared(octets));
    check(&[&[0xd8, 98], octets].concat());
});

fn check(bytes: &[u8]) {
    if let Ok(verified) = op::verify(bytes, REGISTRY, NOW) {
        assert_eq!(verified.bytes(), bytes);
        let again = op::verify(verified.bytes(), REGISTRY, NOW).expect("verification has no memory");
        assert_eq!(again, verified);
        assert!(verified.cosigners().is_sorted());
    }
    if let Ok(draft) = Draft::open(bytes) {
        assert_eq!(draft.to_bytes(), bytes);
    }
}

/// A tagged COSE_Sign (RFC 9052 section 4.1) of two, made by hand. The first octet decides: whose op it is, in which
/// order they sign, and whether one of them signs another context.
fn shared(octets: &[u8]) -> Vec<u8> {
    let (choice, payload) = octets.split_first().unwrap_or((&0, &[]));
    let mut keys = [1, 2].map(|seed| SigningKey::from_bytes(&[seed; 32]));
    keys.sort_by_key(|key| key.verifying_key().to_bytes() );
    let author = match choice % 3 {
        0 => keys[0].verifying_key().to_bytes().to_vec(),
        1 => [&[1], &[5; 32][..]].concat(),
        _ => vec![choice / 3; 33],
    };
    if choice & 64 != 0 {
        keys.reverse();
    }
    let context = if choice & 128 != 0 { "Signature1" } else { "Signature" };
    let mut header = vec![0xa1, 0x04];
    byte_string(&mut header, &author);
    let mut bytes = vec![0xd8, 98, 0x84];
    byte_string(&mut bytes, &header);
    bytes.push(0xa0);
    byte_string(&mut bytes, payload);
    bytes.push(0x82);
    for key in keys {
        let id = key.verifying_key().to_bytes();
        let protected = [&[0xa2, 0x01, 0x27, 0x04, 0x58, 32][..], &id].concat();
        let mut signed = vec![0x85, 0x60 | context.len() as u8];
        signed.extend(context.as_bytes());
        for part in [&header[..], &protected, op::OP_CONTEXT, payload] {
            byte_string(&mut signed, part);
        }
        bytes.push(0x83);
        byte_string(&mut bytes, &protected);
        bytes.push(0xa0);
        byte_string(&mut bytes, &key.sign(&signed).to_bytes());
    }
    bytes
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
