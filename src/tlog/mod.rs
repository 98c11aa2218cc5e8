//! The transparency log's arithmetic: leaves, Merkle tree (RFC 9162 §2.1), tiles (C2SP tlog-tiles), signed notes and
//! checkpoints (C2SP signed-note, tlog-checkpoint), cosignatures of witnesses (C2SP tlog-cosignature) and proof files
//! (C2SP tlog-proof).
//!
//! ```text
//! time, op ── leaf ── leaf_hash ─┬─ Hashes: rows of hashes at every eighth level, what is stored and served as tiles
//!                                │     root, inclusion, consistency are computed from them
//!                                └─ Frontier: the same tree again from the leaves alone, for whoever checks
//! root ── Checkpoint ── Note, signed by the log ── cosigned by witnesses
//! ```
//!
//! Leaves count from 0 here, as in all of these documents; the op with sequence number `n` is leaf `n - 1`.

mod checkpoint;
mod leaf;
mod note;
mod proof;
mod tile;
mod tree;

use data_encoding::BASE64;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use leaf::{Leaf, leaf};
pub use note::{Note, NoteError, Purpose, Signature, Verified, VerifierKey};
pub use proof::{ProofError, ProofFile};
pub use tile::{Rows, TILE_WIDTH, Tile};
pub use tree::{
    Frontier, Hash, Hashes, consistency, empty_root, fold, inclusion, leaf_hash, node_hash, root, verify_consistency,
    verify_inclusion,
};

/// The origin of a registry's log, and the name of the key that signs its checkpoints.
///
/// `registry` is the registry's id in hex.
pub fn origin(registry: &str) -> String {
    format!("ghostplane.log/{registry}")
}

/// A number as these formats write it: decimal, no sign, no leading zeros.
fn decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    (canonical && digits).then(|| text.parse().ok())?
}

/// Reads padded base64 in its one form. The decoder takes pieces that are padded each, one behind another.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let octets = BASE64.decode(text.as_bytes()).ok()?;
    (BASE64.encode(&octets) == text).then_some(octets)
}
