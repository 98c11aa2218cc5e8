//! Proof files (C2SP tlog-proof): that a leaf is in a log, for whoever has nothing but the log's key.

use std::fmt;

use super::{Checkpoint, CheckpointError, Hash, Note, NoteError, VerifierKey, decimal, verify_inclusion};
use crate::limits::{MAX_NOTE, MAX_TREE_PROOF};

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// Why a proof file proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    #[error("not a proof file: {HEADER}, index, hashes, checkpoint")]
    Malformed,
    #[error("its checkpoint: {0}")]
    Note(#[from] NoteError),
    #[error("its checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    #[error("its checkpoint is of another log")]
    Origin,
    #[error("its hashes do not lead from the leaf to the root")]
    Path,
}

/// A leaf's place, its inclusion proof and the checkpoint that it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofFile {
    /// From 0.
    pub index: u64,
    pub path: Vec<Hash>,
    pub checkpoint: Note,
}

impl ProofFile {
    /// Reads a proof file. Extra data, which nothing vouches for, is passed over.
    ///
    /// # Errors
    /// [`ProofError::Malformed`], [`ProofError::Note`]
    pub fn parse(octets: &[u8]) -> Result<Self, ProofError> {
        let malformed = ProofError::Malformed;
        if octets.len() > 2 * MAX_NOTE {
            return Err(malformed);
        }
        let text = std::str::from_utf8(octets).map_err(|_| malformed)?;
        let (head, note) = text.split_once("\n\n").ok_or(malformed)?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return Err(malformed);
        }
        lines.next_if(|line| line.starts_with("extra "));
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).and_then(decimal).ok_or(malformed)?;
        let path = lines.map(|line| Hash::from_base64(line).ok_or(malformed)).collect::<Result<Vec<_>, _>>()?;
        if path.len() > MAX_TREE_PROOF {
            return Err(malformed);
        }
        Ok(Self { index, path, checkpoint: Note::parse(note.as_bytes())? })
    }

    /// Checks that the leaf with this hash stands at the file's index in the tree of its checkpoint, which `log` has
    /// signed.
    ///
    /// # Errors
    /// [`ProofError`]
    pub fn verify(&self, leaf: Hash, log: &VerifierKey) -> Result<Checkpoint, ProofError> {
        self.checkpoint.verify(std::slice::from_ref(log))?;
        let checkpoint: Checkpoint = self.checkpoint.text.parse()?;
        if checkpoint.origin != log.name() {
            return Err(ProofError::Origin);
        }
        let proven = verify_inclusion(leaf, self.index, checkpoint.size, &self.path, checkpoint.root);
        if proven { Ok(checkpoint) } else { Err(ProofError::Path) }
    }
}

impl fmt::Display for ProofFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HEADER}\nindex {}\n", self.index)?;
        self.path.iter().try_for_each(|hash| writeln!(f, "{}", hash.to_base64()))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;
    use crate::tlog::{Purpose, leaf_hash, node_hash};

    #[test]
    fn a_proof_file_proves_its_leaf_and_no_other() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let log = VerifierKey::new("l", Purpose::Note, &key.verifying_key()).unwrap();
        let [first, second] = [leaf_hash(b"1"), leaf_hash(b"2")];
        let signed = |origin: &str| {
            let checkpoint = Checkpoint::new(origin.to_owned(), 2, node_hash(first, second));
            ProofFile { index: 1, path: vec![first], checkpoint: Note::sign(checkpoint.to_string(), "l", &key) }
        };
        let text = signed("l").to_string();
        let proof = ProofFile::parse(text.as_bytes()).unwrap();
        assert_eq!(proof, signed("l"));
        assert_eq!(proof.verify(second, &log).map(|checkpoint| checkpoint.size), Ok(2));
        assert_eq!(proof.verify(first, &log), Err(ProofError::Path));
        assert_eq!(signed("other").verify(second, &log), Err(ProofError::Origin));
        let extra = text.replace("\nindex", "\nextra AAAA\nindex");
        assert_eq!(ProofFile::parse(extra.as_bytes()), Ok(proof));
        for broken in [text.replace("@v1", "@v2"), text.replace("index 1", "index 01"), text.replacen('=', "", 1)] {
            assert_eq!(ProofFile::parse(broken.as_bytes()), Err(ProofError::Malformed));
        }
    }
}
