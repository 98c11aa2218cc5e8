//! Machine code on disk: a restart, or an eviction from memory, costs a read instead of a compilation.
//!
//! ```text
//! FOLDER/HASH-MAKER.code    HMAC-SHA256 (32 octets) | what wasmtime serialized of the contract HASH
//! ```
//!
//! Loading machine code is running it, so nothing is loaded that this gateway did not write: the MAC is under a secret of
//! the data directory and covers the contract's hash and all that the code depends on, the *maker* (wasmtime's version,
//! flags, target; our own version). What another maker left is cleared away; a file that a failing disk or another program
//! changed is as good as none. So is every fault of the file system: the caller compiles again.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::limits::{CODE_FILE, CODE_FILES, CODE_FILES_BYTES};
use crate::locked::Locked;

/// SHA-256 of a contract.
type Hash = [u8; 32];

/// Octets of a MAC.
const TAG: usize = 32;
const ENDING: &str = ".code";
/// Of files that are being written.
const FRESH: &str = ".new";

/// Where machine code is kept, and how much of it.
#[derive(Clone)]
pub struct CodeFolder {
    path: PathBuf,
    key: Locked<Zeroizing<[u8; TAG]>>,
    /// Files, at most `CODE_FILES`.
    pub files: usize,
    /// Their octets, at most `CODE_FILES_BYTES`.
    pub octets: u64,
}

impl CodeFolder {
    /// A folder, made when it is first used. Of `secret` a key is derived: who knows it can have any code run.
    pub fn new(path: PathBuf, secret: &[u8]) -> Self {
        let mac = keyed(secret).chain_update(b"ghostplane: MAC of machine code on disk");
        let key = Locked::new(Zeroizing::new(mac.finalize().into_bytes().into()));
        Self { path, key, files: CODE_FILES, octets: CODE_FILES_BYTES }
    }
}

impl fmt::Debug for CodeFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, files, octets, .. } = self;
        f.debug_struct("CodeFolder").field("path", path).field("files", files).field("octets", octets).finish()
    }
}

/// Machine code as this gateway wrote it; only [`CodeFiles::read`] makes one.
pub(super) struct Authentic(Vec<u8>);

impl Authentic {
    pub fn code(&self) -> &[u8] {
        &self.0[TAG..]
    }
}

/// The files of one folder. One process at a time: the registry beside it is locked.
pub(super) struct CodeFiles {
    folder: PathBuf,
    /// How the names of all files end.
    ending: String,
    /// Under the key; has taken in the maker.
    mac: Locked<Hmac<Sha256>>,
    files: usize,
    octets: u64,
    index: Mutex<Index>,
    /// Of the next file that is being written.
    fresh: AtomicU64,
}

impl CodeFiles {
    /// Opens the folder, makes it if need be, and drops what is too much. `maker` stands for all that makes machine code of
    /// the same contract differ.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(folder: &CodeFolder, maker: &[u8; 32]) -> io::Result<Self> {
        let CodeFolder { path, key, files, octets } = folder;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let mac = keyed(&***key).chain_update(maker).into();
        let ending = format!("-{}{ENDING}", HEXLOWER.encode(&maker[..8]));
        let index = Mutex::new(Index::read(path, &ending)?);
        let (files, octets) = ((*files).min(CODE_FILES), (*octets).min(CODE_FILES_BYTES));
        let opened = Self { folder: path.clone(), ending, mac, files, octets, index, fresh: AtomicU64::new(0) };
        opened.evict()?;
        Ok(opened)
    }

    /// True if there is a file; what it is worth shows when it is read.
    pub fn has(&self, hash: &Hash) -> bool {
        self.lock().files.contains_key(hash)
    }

    /// Octets of all files.
    pub fn bytes(&self) -> u64 {
        self.lock().octets
    }

    /// The machine code of a contract, or `None` if there is none.
    ///
    /// # Errors
    /// The file cannot be read; or it is not what was written, and gone now.
    pub fn read(&self, hash: &Hash) -> io::Result<Option<Authentic>> {
        if !self.has(hash) {
            return Ok(None);
        }
        let read = self.read_whole(hash);
        if read.as_ref().is_err_and(|error| error.kind() == ErrorKind::InvalidData) {
            self.remove(hash)?;
        }
        read
    }

    fn read_whole(&self, hash: &Hash) -> io::Result<Option<Authentic>> {
        let file = match File::open(self.path(hash)) {
            // Evicted since.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut octets = Vec::new();
        file.take(CODE_FILE + 1).read_to_end(&mut octets)?;
        // Into memory first, whole: a file that is mapped can change after it has been checked.
        let Some((tag, code)) = octets.split_first_chunk::<TAG>() else { return Err(spoiled()) };
        self.mac_of(hash, code).verify_slice(tag).map_err(|_| spoiled())?;
        Ok(Some(Authentic(octets)))
    }

    /// Keeps the machine code of a contract; the oldest files make room.
    ///
    /// # Errors
    /// It is too long, or the file system says no; nothing is left behind then.
    pub fn write(&self, hash: &Hash, code: &[u8]) -> io::Result<()> {
        let octets = (TAG + code.len()) as u64;
        if octets > CODE_FILE.min(self.octets) {
            return Err(io::Error::other(format!("{octets} octets of machine code")));
        }
        let tag = self.mac_of(hash, code).finalize().into_bytes();
        let path = self.path(hash);
        let number = self.fresh.fetch_add(1, Ordering::Relaxed);
        let fresh = path.with_extension(format!("{number}{FRESH}"));
        // Not forced to the disk: what a power cut leaves half-written does not pass its MAC.
        let written = write_new(&fresh, &[&tag, code]).and_then(|()| fs::rename(&fresh, &path));
        if written.is_err() {
            // The first error is the one to tell.
            let _ = fs::remove_file(&fresh);
            return written;
        }
        self.lock().add(*hash, octets);
        self.evict()
    }

    /// Drops the file of a contract.
    ///
    /// # Errors
    /// The file system says no.
    pub fn remove(&self, hash: &Hash) -> io::Result<()> {
        self.lock().remove(hash);
        self.unlink(hash)
    }

    fn evict(&self) -> io::Result<()> {
        loop {
            let mut index = self.lock();
            let full = index.files.len() > self.files || index.octets > self.octets;
            let Some(oldest) = index.oldest().filter(|_| full) else { return Ok(()) };
            index.remove(&oldest);
            drop(index);
            self.unlink(&oldest)?;
        }
    }

    fn unlink(&self, hash: &Hash) -> io::Result<()> {
        match fs::remove_file(self.path(hash)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn path(&self, hash: &Hash) -> PathBuf {
        self.folder.join(HEXLOWER.encode(hash) + &self.ending)
    }

    fn mac_of(&self, hash: &Hash, code: &[u8]) -> Hmac<Sha256> {
        // Maker and hash have 32 octets each, so that the code begins where it must.
        Hmac::clone(&self.mac).chain_update(hash).chain_update(code)
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        // Nothing panics while it holds the lock.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is in the folder, by age.
#[derive(Default)]
struct Index {
    /// Number in the order of writing, and octets.
    files: HashMap<Hash, (u64, u64)>,
    by_age: BTreeMap<u64, Hash>,
    octets: u64,
    next: u64,
}

impl Index {
    /// Lists a folder and clears away what was being written when a process died, and what another maker made. Files that
    /// are none of ours are left alone.
    fn read(folder: &Path, ending: &str) -> io::Result<Self> {
        let mut found: Vec<(SystemTime, Hash, u64)> = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            let Some((hash, rest)) = split(name) else { continue };
            let about = entry.metadata()?;
            if rest == ending && about.is_file() {
                found.push((about.modified()?, hash, about.len()));
            } else if rest.ends_with(FRESH) || rest.ends_with(ENDING) && rest.len() == ending.len() && rest != ending {
                fs::remove_file(entry.path())?;
            }
        }
        found.sort_unstable();
        let mut index = Self::default();
        found.into_iter().for_each(|(_, hash, octets)| index.add(hash, octets));
        Ok(index)
    }

    fn add(&mut self, hash: Hash, octets: u64) {
        self.remove(&hash);
        self.files.insert(hash, (self.next, octets));
        self.by_age.insert(self.next, hash);
        self.next += 1;
        self.octets += octets;
    }

    fn remove(&mut self, hash: &Hash) {
        if let Some((number, octets)) = self.files.remove(hash) {
            self.by_age.remove(&number);
            self.octets -= octets;
        }
    }

    fn oldest(&self) -> Option<Hash> {
        self.by_age.values().next().copied()
    }
}

/// The contract that a file's name begins with, and the rest of the name.
fn split(name: &str) -> Option<(Hash, &str)> {
    let (hex, rest) = name.split_at_checked(2 * size_of::<Hash>())?;
    Some((HEXLOWER.decode(hex.as_bytes()).ok()?.try_into().ok()?, rest))
}

fn write_new(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    parts.iter().try_for_each(|part| file.write_all(part))
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn spoiled() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "not what was written, or by another version")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAKER: [u8; 32] = [9; 32];

    fn folder(dir: &Path) -> CodeFolder {
        CodeFolder::new(dir.join("compiled"), b"secret")
    }

    fn read(files: &CodeFiles, hash: Hash) -> Option<Vec<u8>> {
        files.read(&hash).unwrap().map(|authentic| authentic.code().to_vec())
    }

    fn names(files: &CodeFiles) -> Vec<String> {
        let names = fs::read_dir(&files.folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn what_was_written_is_read_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let files = CodeFiles::open(&folder(dir.path()), &MAKER).unwrap();
        assert_eq!(read(&files, [1; 32]), None);
        files.write(&[1; 32], b"one").unwrap();
        files.write(&[2; 32], b"").unwrap();
        // A process that dies while it writes leaves this; somebody else's file stays.
        fs::write(files.path(&[3; 32]).with_extension("0.new"), b"half").unwrap();
        fs::write(files.folder.join("README"), b"theirs").unwrap();
        let files = CodeFiles::open(&folder(dir.path()), &MAKER).unwrap();
        assert_eq!((read(&files, [1; 32]), read(&files, [2; 32])), (Some(b"one".to_vec()), Some(vec![])));
        assert_eq!(files.bytes(), 2 * TAG as u64 + 3);
        assert_eq!(names(&files).len(), 3);
        files.remove(&[1; 32]).unwrap();
        assert_eq!(read(&files, [1; 32]), None);
        // Gone behind our back.
        fs::remove_file(files.path(&[2; 32])).unwrap();
        assert_eq!(read(&files, [2; 32]), None);
    }

    #[test]
    fn nothing_passes_but_what_was_written_for_this_contract_by_this_maker_under_this_secret() {
        let dir = tempfile::tempdir().unwrap();
        let here = folder(dir.path());
        let files = CodeFiles::open(&here, &MAKER).unwrap();
        let spoil = |change: &dyn Fn(&mut Vec<u8>)| {
            files.write(&[1; 32], b"machine code").unwrap();
            let mut octets = fs::read(files.path(&[1; 32])).unwrap();
            change(&mut octets);
            fs::write(files.path(&[1; 32]), octets).unwrap();
            assert_eq!(files.read(&[1; 32]).err().map(|error| error.kind()), Some(ErrorKind::InvalidData));
            // It is gone, and the next one finds nothing.
            assert_eq!(read(&files, [1; 32]), None);
            assert_eq!((names(&files).len(), files.bytes()), (0, 0));
        };
        for at in 0..TAG + 12 {
            spoil(&|octets| octets[at] ^= 1);
        }
        spoil(&|octets| octets.push(0));
        spoil(&|octets| octets.truncate(TAG + 11));
        spoil(&|octets| octets.truncate(TAG - 1));
        spoil(&Vec::clear);
        // Whole files under another contract's name, of another compiler, under another secret.
        files.write(&[1; 32], b"machine code").unwrap();
        files.write(&[2; 32], b"other code").unwrap();
        fs::copy(files.path(&[2; 32]), files.path(&[1; 32])).unwrap();
        assert!(files.read(&[1; 32]).is_err());
        let mut maker = MAKER;
        maker[31] ^= 1;
        assert!(CodeFiles::open(&here, &maker).unwrap().read(&[2; 32]).is_err());
        files.write(&[2; 32], b"other code").unwrap();
        let stranger = CodeFolder::new(here.path.clone(), b"guess");
        assert!(CodeFiles::open(&stranger, &MAKER).unwrap().read(&[2; 32]).is_err());
        // What another compiler left is not even kept.
        files.write(&[2; 32], b"other code").unwrap();
        assert_eq!(CodeFiles::open(&here, &[8; 32]).unwrap().bytes(), 0);
        assert_eq!(names(&files), [""; 0]);
    }

    #[test]
    fn the_oldest_make_room() {
        let dir = tempfile::tempdir().unwrap();
        let few = CodeFolder { files: 3, octets: 3 * (TAG as u64 + 4), ..folder(dir.path()) };
        let files = CodeFiles::open(&few, &MAKER).unwrap();
        let there = |files: &CodeFiles| -> Vec<u8> { (0..9).filter(|n| files.has(&[*n; 32])).collect() };
        for number in 0..5 {
            files.write(&[number; 32], b"code").unwrap();
        }
        assert_eq!((there(&files), names(&files).len()), (vec![2, 3, 4], 3));
        // Written again, it is the youngest.
        files.write(&[2; 32], b"code").unwrap();
        files.write(&[5; 32], b"code").unwrap();
        assert_eq!(there(&files), [2, 4, 5]);
        files.write(&[6; 32], b"twice the").unwrap();
        assert_eq!(there(&files), [5, 6]);
        assert!(files.write(&[7; 32], &[0; 200]).is_err());
        assert_eq!((there(&files), names(&files).len()), (vec![5, 6], 2));
        // Narrower bounds hold at once.
        let one = CodeFiles::open(&CodeFolder { files: 1, ..few }, &MAKER).unwrap();
        assert_eq!(names(&one).len(), 1);
    }

    #[test]
    fn faults_are_told_and_leave_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let files = CodeFiles::open(&folder(dir.path()), &MAKER).unwrap();
        // A folder in the way of the file.
        fs::create_dir(files.path(&[1; 32])).unwrap();
        assert!(files.write(&[1; 32], b"code").is_err());
        assert_eq!((files.has(&[1; 32]), names(&files).len()), (false, 1));
        fs::remove_dir_all(&files.folder).unwrap();
        assert!(files.write(&[2; 32], b"code").is_err());
        fs::write(&files.folder, b"a file").unwrap();
        assert!(CodeFiles::open(&folder(dir.path()), &MAKER).is_err());
    }
}
