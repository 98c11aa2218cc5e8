//! Who signs the log's checkpoints and gathers witnesses' cosignatures on them.
//!
//! ```text
//! newest      signed when someone asks, once for each size; only what is durable is ever signed
//! offered     the checkpoint that witnesses are asked to sign: stays for a round, so that they all sign the same
//! witnessed   the last one that as many of them signed as the operator wants
//! ```

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ed25519_dalek::SigningKey;

use crate::limits::{MAX_NOTE, WITNESS_CLOCK_SKEW, WITNESS_ROUND};
use crate::locked::Locked;
use crate::op::RegistryId;
use crate::registry::{Fault, Snapshot};
use crate::tlog::{self, Checkpoint, Note, NoteError, Purpose, VerifierKey};

/// The newest checkpoint that has been signed and written down.
const NEWEST_FILE: &str = "log.checkpoint";
/// The newest checkpoint with enough cosignatures.
const WITNESSED_FILE: &str = "log.witnessed";
/// The key that verifies both.
const KEY_FILE: &str = "log.vkey";

/// Why a notary does not begin.
#[derive(Debug, thiserror::Error)]
pub enum NotaryError {
    #[error("{path}: {error}")]
    Io { path: String, error: std::io::Error },
    #[error("{path}: {error}; it was signed by this log's key, or is damaged")]
    Note { path: String, error: NoteError },
    #[error("{path} is not a checkpoint of this log")]
    NotOurs { path: String },
    #[error(
        "{path} was signed for {signed} ops, the store holds {held}: it has lost some. To sign another history would break \
         every proof; restore the store, or if this is to be another log, found another registry"
    )]
    Lost { path: String, signed: u64, held: u64 },
    #[error("{path} was signed for another history of the first {signed} ops than the store holds")]
    Forked { path: String, signed: u64 },
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Why cosignatures are not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Note(#[from] NoteError),
    #[error("this is not the checkpoint that witnesses are asked to sign; fetch /log/checkpoint/offered")]
    NotOffered,
    #[error("a witness's clock is ahead")]
    Ahead,
}

/// Whose cosignatures are taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Witnesses {
    pub keys: Vec<VerifierKey>,
    /// How many of them make a checkpoint a witnessed one.
    pub quorum: usize,
}

/// Signs for one log.
pub struct Notary {
    key: Locked<SigningKey>,
    verifier: VerifierKey,
    witnesses: Witnesses,
    /// Where what has been signed is written down; `None` for trials.
    folder: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    newest: Option<Signed>,
    offered: Option<Round>,
    witnessed: Option<Note>,
    /// Size of the checkpoint in [`NEWEST_FILE`].
    written: Option<u64>,
}

#[derive(Clone)]
struct Signed {
    size: u64,
    note: Note,
}

struct Round {
    signed: Signed,
    /// Seconds since 1970.
    begun: u64,
}

impl Notary {
    /// A notary for the log of `registry`. In `folder` it finds what was witnessed before, and leaves its public key.
    ///
    /// # Errors
    /// [`NotaryError`]
    pub fn new(
        key: impl Into<Locked<SigningKey>>,
        registry: RegistryId,
        witnesses: Witnesses,
        folder: Option<&Path>,
    ) -> Result<Self, NotaryError> {
        let key = key.into();
        let origin = tlog::origin(&registry.to_string());
        // Hex digits, letters, a point and a slash are a name.
        let verifier = VerifierKey::new(&origin, Purpose::Note, &key.verifying_key()).expect("an origin is a name");
        let state = Mutex::new(State::default());
        let mut notary = Self { key, verifier, witnesses, folder: folder.map(Path::to_owned), state };
        if let Some(folder) = folder {
            write(&folder.join(KEY_FILE), format!("{}\n", notary.verifier).as_bytes())?;
            let witnessed = notary.read(&folder.join(WITNESSED_FILE))?.map(|(note, _)| note);
            notary.state.get_mut().unwrap_or_else(PoisonError::into_inner).witnessed = witnessed;
        }
        Ok(notary)
    }

    /// The key that checkpoints are verified with.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Checks that the store continues what was signed before: a log never signs two histories.
    ///
    /// # Errors
    /// [`NotaryError::Lost`], [`NotaryError::Forked`]
    pub fn check_past(&self, snapshot: &Snapshot) -> Result<(), NotaryError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        for file in [NEWEST_FILE, WITNESSED_FILE] {
            let path = folder.join(file);
            if let Some((_, checkpoint)) = self.read(&path)? {
                check_continues(&path, &checkpoint, snapshot)?;
            }
        }
        Ok(())
    }

    /// A checkpoint of everything in the snapshot, with the cosignatures that there are for just that.
    ///
    /// # Errors
    /// The store failed.
    pub fn newest(&self, snapshot: &Snapshot) -> Result<Note, Fault> {
        let signed = self.sign(snapshot)?;
        let state = self.lock();
        let offered = state.offered.as_ref().map(|round| &round.signed.note);
        let same = [offered, state.witnessed.as_ref()].into_iter().flatten().find(|note| note.text == signed.note.text);
        Ok(same.cloned().unwrap_or(signed.note))
    }

    /// The checkpoint that witnesses are asked to sign at `now`, seconds since 1970. It is the same for `WITNESS_ROUND`
    /// seconds, unless all of them have signed.
    ///
    /// # Errors
    /// The store failed.
    pub fn offered(&self, snapshot: &Snapshot, now: u64) -> Result<Note, Fault> {
        let signed = self.sign(snapshot)?;
        let mut state = self.lock();
        let all = self.witnesses.keys.len() + 1;
        let keeps = |round: &Round| {
            let over = now.saturating_sub(round.begun) >= WITNESS_ROUND || round.signed.note.signatures.len() >= all;
            !over || round.signed.size >= signed.size
        };
        match &state.offered {
            Some(round) if keeps(round) => Ok(round.signed.note.clone()),
            _ => {
                let note = signed.note.clone();
                state.offered = Some(Round { signed, begun: now });
                Ok(note)
            }
        }
    }

    /// The newest checkpoint that enough witnesses have signed.
    pub fn witnessed(&self) -> Option<Note> {
        self.lock().witnessed.clone()
    }

    /// Takes the cosignatures of known witnesses on the checkpoint that is offered, or that was the last to be
    /// witnessed; gives how many of them it has now.
    ///
    /// # Errors
    /// [`Refusal`]; nothing is taken then.
    pub fn cosign(&self, octets: &[u8], now: u64) -> Result<usize, Refusal> {
        let note = Note::parse(octets)?;
        let verified = note.verify(&self.witnesses.keys)?;
        if verified.iter().any(|verified| verified.time.is_some_and(|time| time > now + WITNESS_CLOCK_SKEW)) {
            return Err(Refusal::Ahead);
        }
        let mut state = self.lock();
        let State { offered, witnessed, .. } = &mut *state;
        let held = [offered.as_mut().map(|round| &mut round.signed.note), witnessed.as_mut()];
        let held = held.into_iter().flatten().find(|held| held.text == note.text).ok_or(Refusal::NotOffered)?;
        for signature in &note.signatures {
            if verified.iter().any(|verified| verified.key.is_named(signature)) {
                held.signatures.retain(|other| (&other.name, other.id) != (&signature.name, signature.id));
                held.signatures.push(signature.clone());
            }
        }
        let cosignatures = held.signatures.len() - 1;
        if cosignatures >= self.witnesses.quorum.max(1) {
            let note = held.clone();
            if let Some(Err(error)) = self.folder.as_ref().map(|folder| write_note(&folder.join(WITNESSED_FILE), &note))
            {
                tracing::warn!(%error, "a witnessed checkpoint is not written down");
            }
            state.witnessed = Some(note);
        }
        Ok(cosignatures)
    }

    /// Signs what is in the snapshot and writes it down, unless that has been done.
    ///
    /// # Errors
    /// [`NotaryError`]
    pub fn write_down(&self, snapshot: &Snapshot) -> Result<(), NotaryError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let signed = self.sign(snapshot)?;
        if self.lock().written == Some(signed.size) {
            return Ok(());
        }
        write_note(&folder.join(NEWEST_FILE), &signed.note)?;
        self.lock().written = Some(signed.size);
        Ok(())
    }

    fn sign(&self, snapshot: &Snapshot) -> Result<Signed, Fault> {
        let size = snapshot.last_seq()?;
        if let Some(signed) = self.lock().newest.as_ref().filter(|signed| signed.size == size) {
            return Ok(signed.clone());
        }
        // Not under the lock. Two that do it at once sign the same.
        let checkpoint = Checkpoint::new(self.verifier.name().to_owned(), size, tlog::root(snapshot, size)?);
        let signed = Signed { size, note: Note::sign(checkpoint.to_string(), self.verifier.name(), &self.key) };
        let mut state = self.lock();
        if state.newest.as_ref().is_none_or(|newest| newest.size < size) {
            state.newest = Some(signed.clone());
        }
        Ok(signed)
    }

    /// A file's checkpoint, by this log; `None` if there is no file.
    fn read(&self, path: &Path) -> Result<Option<(Note, Checkpoint)>, NotaryError> {
        let shown = || path.display().to_string();
        let octets = match std::fs::read(path) {
            Ok(octets) => octets,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(NotaryError::Io { path: shown(), error }),
        };
        let note = Note::parse(octets.get(..=MAX_NOTE).unwrap_or(&octets));
        let note = note.and_then(|note| note.verify(std::slice::from_ref(&self.verifier)).map(drop).map(|()| note));
        let note = note.map_err(|error| NotaryError::Note { path: shown(), error })?;
        let checkpoint: Option<Checkpoint> = note.text.parse().ok();
        let ours = checkpoint.filter(|checkpoint| checkpoint.origin == self.verifier.name());
        Ok(Some((note, ours.ok_or_else(|| NotaryError::NotOurs { path: shown() })?)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks that the snapshot has all that `checkpoint` was signed for, and the same.
///
/// # Errors
/// [`NotaryError::Lost`], [`NotaryError::Forked`]; `path` is named in them.
pub fn check_continues(path: &Path, checkpoint: &Checkpoint, snapshot: &Snapshot) -> Result<(), NotaryError> {
    let (signed, held, path) = (checkpoint.size, snapshot.last_seq()?, path.display().to_string());
    if signed > held {
        return Err(NotaryError::Lost { path, signed, held });
    }
    if tlog::root(snapshot, signed)? == checkpoint.root { Ok(()) } else { Err(NotaryError::Forked { path, signed }) }
}

fn write_note(path: &Path, note: &Note) -> Result<(), NotaryError> {
    write(path, note.to_string().as_bytes())
}

/// Replaces a file in one step: whoever reads it, also after a power loss, finds the old or the new one. A file that holds
/// these octets already is left alone: a start on a full disk must be possible.
///
/// # Errors
/// [`NotaryError::Io`]
pub fn write(path: &Path, octets: &[u8]) -> Result<(), NotaryError> {
    if std::fs::read(path).is_ok_and(|held| held == octets) {
        return Ok(());
    }
    let fresh = path.with_extension("new");
    let written = || {
        let mut file = std::fs::File::create(&fresh)?;
        file.write_all(octets)?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)
    };
    written().map_err(|error| {
        // Half a file takes room that there is none of.
        let _ = std::fs::remove_file(&fresh);
        NotaryError::Io { path: path.display().to_string(), error }
    })
}
