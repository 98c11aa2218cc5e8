//! Files that only their owner may read: read within a bound into memory that is wiped, written whole or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

/// Of a mode, what lets anybody but the owner do anything.
pub const NOT_OWNER: u32 = 0o077;
/// Of a mode, what lets everybody read.
pub const EVERYBODY: u32 = 0o004;

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Others may read it; its permissions.
    #[error("can be read by others (mode {0:o})")]
    Mode(u32),
    #[error("is too long")]
    TooLong,
}

/// Reads a file of at most `most` octets, unless its mode has one of the bits `refused`.
///
/// # Errors
/// [`ReadError`]
pub fn read(path: &Path, refused: u32, most: u64) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    // Opened, then looked at: nobody exchanges it in between.
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & refused != 0 {
        return Err(ReadError::Mode(mode));
    }
    // All its room at once: what grows leaves copies behind.
    let mut octets = Zeroizing::new(Vec::with_capacity(most as usize + 64));
    file.take(most + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > most { Err(ReadError::TooLong) } else { Ok(octets) }
}

/// Where a file really is, if it belongs to the user who runs this, under one name.
///
/// # Errors
/// It does not; or the file system's.
pub fn own(path: &Path) -> io::Result<PathBuf> {
    let file = fs::canonicalize(path)?;
    let data = fs::metadata(&file)?;
    if data.is_file() && data.nlink() == 1 && data.uid() == rustix::process::geteuid().as_raw() {
        return Ok(file);
    }
    Err(io::Error::other("only its owner rewrites it, where it has one name"))
}

/// Writes a new file with this mode, and never over another one.
///
/// # Errors
/// The file system's; [`io::ErrorKind::AlreadyExists`]
pub fn create(path: &Path, octets: &[u8], mode: u32) -> io::Result<()> {
    put(path, octets, mode, |fresh| fs::hard_link(fresh, path))
}

/// Writes a file with this mode in place of what was there.
///
/// # Errors
/// The file system's.
pub fn replace(path: &Path, octets: &[u8], mode: u32) -> io::Result<()> {
    put(path, octets, mode, |fresh| fs::rename(fresh, path))
}

/// Writes beside `path` under a name of its own, so that two writers never share a file, and moves it there when it is on
/// disk.
fn put(path: &Path, octets: &[u8], mode: u32, settle: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let mut chance = [0; 8];
    getrandom::fill(&mut chance)?;
    let fresh = PathBuf::from(format!("{}.{}.new", path.display(), HEXLOWER.encode(&chance)));
    let settled = write(&fresh, octets, mode).and_then(|()| settle(&fresh));
    // Renamed, it is gone.
    let _ = fs::remove_file(&fresh);
    settled?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // A name that a power cut takes back is a key that is lost. Not every file system can do it.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

fn write(path: &Path, octets: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    // The umask may have narrowed it.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(octets)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn files_are_made_once_replaced_whole_and_follow_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let [file, link, aim] = ["file", "link", "aim"].map(|name| dir.path().join(name));
        create(&file, b"one", 0o600).unwrap();
        assert_eq!(create(&file, b"two", 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(&**read(&file, NOT_OWNER, 3).unwrap(), b"one");
        // A link to nowhere is no place for a key: it would lie where somebody else says.
        std::os::unix::fs::symlink(&aim, &link).unwrap();
        assert_eq!(create(&link, b"key", 0o600).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(!aim.exists());
        replace(&link, b"key", 0o600).unwrap();
        assert!(!aim.exists() && fs::symlink_metadata(&link).unwrap().is_file());
        replace(&file, b"three", 0o640).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(matches!(read(&file, NOT_OWNER, 9), Err(ReadError::Mode(0o640))));
        assert!(matches!(read(&file, EVERYBODY, 4), Err(ReadError::TooLong)));
        assert_eq!(&**read(&file, EVERYBODY, 5).unwrap(), b"three");
        assert!(create(&dir.path().join("no/file"), b"", 0o600).is_err());
        assert_eq!(names(dir.path()), ["file", "link"]);
    }
}
