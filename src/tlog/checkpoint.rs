//! Checkpoints: what a log says of itself (C2SP tlog-checkpoint).

use std::fmt;
use std::str::FromStr;

use super::{Hash, decimal};

/// Text is not that of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a checkpoint: origin, size and root hash, a line each")]
pub struct CheckpointError;

/// A log's size and root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    pub root: Hash,
    /// Further lines, which mean nothing to us; we write none.
    pub extensions: Vec<String>,
}

impl Checkpoint {
    /// A checkpoint without extensions.
    pub fn new(origin: String, size: u64, root: Hash) -> Self {
        Self { origin, size, root, extensions: Vec::new() }
    }
}

/// The text of the note.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}\n", self.origin, self.size, self.root.to_base64())?;
        self.extensions.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    /// Reads the text of a note.
    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let lines: Vec<&str> = text.strip_suffix('\n').ok_or(CheckpointError)?.split('\n').collect();
        let [origin, size, root, extensions @ ..] = &lines[..] else { return Err(CheckpointError) };
        if origin.is_empty() || extensions.iter().any(|line| line.is_empty()) {
            return Err(CheckpointError);
        }
        Ok(Self {
            origin: (*origin).to_owned(),
            size: decimal(size).ok_or(CheckpointError)?,
            root: Hash::from_base64(root).ok_or(CheckpointError)?,
            extensions: extensions.iter().map(|line| (*line).to_owned()).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    const TEXT: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

    #[test]
    fn a_checkpoint_has_one_form() {
        let checkpoint: Checkpoint = TEXT.parse().unwrap();
        assert_eq!((checkpoint.origin.as_str(), checkpoint.size), ("example.com/behind-the-sofa", 20_852_163));
        assert_eq!(checkpoint.to_string(), TEXT);
        let more: Checkpoint = format!("{TEXT}more\n").parse().unwrap();
        assert_eq!((more.extensions.len(), more.to_string()), (1, format!("{TEXT}more\n")));
        for text in [
            "",
            "\n\n\n",
            TEXT.trim_end(),
            &format!("{TEXT}\n"),
            &format!("\n{TEXT}"),
            &TEXT.replace("2085", "02085"),
            &TEXT.replace("2085", "+2085"),
            &TEXT.replace("20852163", ""),
            &TEXT.replace("20852163", "18446744073709551616"),
            &TEXT.replace("I=", "I"),
            &TEXT.replace("2I=", "2J="),
            // Two pieces of base64, padded each; found by tests/fuzz.
            &format!("a\n1\n{}=AAAA\n", "A".repeat(39)),
        ] {
            assert_eq!(text.parse::<Checkpoint>(), Err(CheckpointError), "{text:?}");
        }
    }
}
