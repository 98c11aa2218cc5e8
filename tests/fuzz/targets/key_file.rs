//! Any octets as a key file: no panic, and nothing is derived from a passphrase before what that costs is known.
#![no_main]

use std::path::Path;

use ed25519_dalek::pkcs8::der::pem::{LineEnding, encode_string};
use ghostplane::cli::keys::{parse_bind, parse_zone_key};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let path = Path::new("key");
    if let Ok(text) = std::str::from_utf8(octets) {
        let _ = parse_zone_key(path, text);
        let _ = parse_bind(path, text);
    }
    // What stands in PEM, without having to find base64.
    for label in ["PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
        let text = encode_string(label, LineEnding::LF, octets).expect("short octets are PEM");
        if let Err(error) = parse_zone_key(path, &text) {
            assert!(!error.to_string().contains("PRIVATE"));
        }
    }
});
