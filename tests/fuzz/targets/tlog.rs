//! Any octets as what a log, a witness or a file may send: no panic, and one form of everything that is read.
#![no_main]

use ghostplane::tlog::{
    Checkpoint, Hash, Leaf, Note, ProofFile, Signature, Tile, VerifierKey, leaf, verify_consistency, verify_inclusion,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    if let Ok(note) = Note::parse(octets) {
        assert_eq!(note.to_string().as_bytes(), octets);
        let _ = note.text.parse::<Checkpoint>().map(|checkpoint| assert_eq!(checkpoint.to_string(), note.text));
    }
    if let Ok(proof) = ProofFile::parse(octets) {
        assert_eq!(ProofFile::parse(proof.to_string().as_bytes()), Ok(proof));
    }
    if let Some(Leaf::Whole { time, op }) = Leaf::parse(octets) {
        assert_eq!(leaf(time, &op), octets);
    }
    if let Ok(text) = std::str::from_utf8(octets) {
        let _ = text.parse::<Checkpoint>().map(|checkpoint| assert_eq!(checkpoint.to_string(), text));
        let _ = text.parse::<VerifierKey>().map(|key| assert_eq!(key.to_string(), text));
        let _ = text.parse::<Signature>().map(|signature| assert_eq!(signature.to_string(), text));
        let _ = Tile::parse(text).map(|tile| assert_eq!(tile.path(), text));
    }
    let Some((numbers, rest)) = octets.split_first_chunk::<16>() else { return };
    let number = |at: usize| u64::from_be_bytes(std::array::from_fn(|octet| numbers[at + octet]));
    let path: Vec<Hash> = rest.chunks_exact(32).map(|chunk| Hash(std::array::from_fn(|at| chunk[at]))).collect();
    let some = Hash([7; 32]);
    assert!(!verify_inclusion(some, number(0), number(8), &path, Hash([8; 32])));
    let _ = verify_consistency(number(0), some, number(8), Hash([8; 32]), &path);
});
