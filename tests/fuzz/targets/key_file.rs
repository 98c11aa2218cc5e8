//! Any octets as a key file: no panic, and nothing is derived from a passphrase before what that costs is known.
#![no_main]

use std::path::Path;

use data_encoding::BASE64;
use ghostplane::cli::keys::{parse_bind, parse_zone_key};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let path = Path::new("key");
    if let Ok(text) = std::str::from_utf8(octets) {
        let _ = parse_zone_key(path, text);
        let _ = parse_bind(path, text);
    }
    // PEM around any octets, so that base64 need not be found.
    let encoded = BASE64.encode(octets);
    let lines: Vec<&str> =
        encoded.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    for label in ["PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
        let text = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"));
        let Err(error) = parse_zone_key(path, &text) else { continue };
        // An error repeats nothing of a key.
        assert!(encoded.len() < 24 || !error.to_string().contains(&encoded[..24]));
    }
});
