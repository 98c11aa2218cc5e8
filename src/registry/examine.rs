//! Opening a store to look at it, without changing an octet of it.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use redb::{Database, StorageBackend};

use super::{Founding, OpenError, Registry, Stamps, WriteTransaction, decode_genesis};

/// Octets of what is kept together of the overlay.
const BLOCK: u64 = 4_096;

/// A store that was opened to be looked at.
pub struct Examined {
    pub registry: Registry,
    /// False if the store was not as it was last written: something in it beside the tables' pages, each of which has
    /// its checksum, had to be mended before it could be read.
    pub intact: bool,
    /// False if the newest commit does not stand, and this is the store as it was before: it was torn by a power cut, or
    /// damaged since, and nobody can tell which.
    pub newest: bool,
}

/// Where in the header redb says how the newest commit was made, and the bit for "in two phases": then it has reached the
/// disk before it counts, and redb falls back to no other (redb's docs/design.md, "God byte").
const GOD_BYTE: usize = 9;
const TWO_PHASES: u8 = 4;

/// Opens the store at `path` after checking the checksum of every page. The file itself stays as it is.
///
/// # Errors
/// [`OpenError::Damaged`] if a checksum is wrong; [`OpenError`] otherwise.
pub fn examine(path: &Path) -> Result<Examined, OpenError> {
    let shown = path.display().to_string();
    let damaged = |reason: String| OpenError::Damaged { path: shown.clone(), reason };
    // A first time with every page checked before anything is trusted, and a second time to be told what was mended.
    let checked = Database::builder().set_check_integrity_on_open(true).create_with_backend(Overlay::open(path)?);
    drop(checked.map_err(|error| damaged(error.to_string()))?);
    let mut database =
        Database::builder().create_with_backend(Overlay::open(path)?).map_err(|error| damaged(error.to_string()))?;
    let intact = database.check_integrity().map_err(|error| damaged(error.to_string()))?;
    // Without leave to fall back, does it open?
    let overlay = Overlay::open(path)?.in_two_phases().map_err(|error| damaged(error.to_string()))?;
    let newest = Database::builder().set_check_integrity_on_open(true).create_with_backend(overlay).is_ok();
    let registry = read(database).map_err(|error| match error {
        Founding::InUse => OpenError::InUse { path: shown.clone() },
        Founding::Format(found) => OpenError::Format { path: shown.clone(), found },
        Founding::Damaged(reason) => damaged(reason),
        Founding::Fault(fault) => damaged(fault.0),
    })?;
    Ok(Examined { registry, intact, newest })
}

/// A registry that must be there already.
fn read(database: Database) -> Result<Registry, Founding> {
    let found = WriteTransaction::begin(&database)?.genesis()?;
    let genesis = decode_genesis(&found.ok_or_else(|| Founding::Damaged("it holds no founding record".into()))?)?;
    Registry::opened(database, genesis, Stamps::new()).map_err(Founding::Fault)
}

/// A file, and over it whatever redb writes: it commits when it opens and checks a store.
#[derive(Debug)]
struct Overlay {
    file: File,
    written: RwLock<Written>,
}

#[derive(Debug)]
struct Written {
    length: u64,
    /// Blocks by their number.
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    fn open(path: &Path) -> Result<Self, OpenError> {
        let shown = || path.display().to_string();
        let damaged = |error: io::Error| OpenError::Damaged { path: shown(), reason: error.to_string() };
        let file = File::open(path).map_err(damaged)?;
        match file.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: shown() }),
            Err(TryLockError::Error(error)) => return Err(damaged(error)),
        }
        let length = file.metadata().map_err(damaged)?.len();
        if length == 0 {
            return Err(OpenError::Damaged { path: shown(), reason: "it is empty".into() });
        }
        Ok(Self { file, written: RwLock::new(Written { length, blocks: BTreeMap::new() }) })
    }

    /// As if the newest commit had been made in two phases.
    fn in_two_phases(self) -> io::Result<Self> {
        let mut first = self.original(0)?;
        first[GOD_BYTE] |= TWO_PHASES;
        self.written.write().unwrap_or_else(PoisonError::into_inner).blocks.insert(0, first);
        Ok(self)
    }

    /// One block as it is in the file, zeros behind its end.
    fn original(&self, number: u64) -> io::Result<Vec<u8>> {
        let mut block = vec![0; BLOCK as usize];
        let mut filled = 0;
        while filled < block.len() {
            match self.file.read_at(&mut block[filled..], number * BLOCK + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(block)
    }
}

/// The parts of `range` by the blocks that they fall into: number, place in the block, place in the range.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>, std::ops::Range<usize>)> {
    let end = offset + length as u64;
    (offset / BLOCK..end.div_ceil(BLOCK)).map(move |number| {
        let (from, to) = (offset.max(number * BLOCK), end.min((number + 1) * BLOCK));
        let within = |at: u64| (at - number * BLOCK) as usize;
        (number, within(from)..within(to), (from - offset) as usize..(to - offset) as usize)
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written.read().unwrap_or_else(PoisonError::into_inner).length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written.read().unwrap_or_else(PoisonError::into_inner);
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > written.length) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (number, within, place) in parts(offset, out.len()) {
            match written.blocks.get(&number) {
                Some(block) => out[place].copy_from_slice(&block[within]),
                None => out[place].copy_from_slice(&self.original(number)?[within]),
            }
        }
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut written = self.written.write().unwrap_or_else(PoisonError::into_inner);
        // What is cut off must be zeros if the store grows again.
        let (old, first) = (written.length, length / BLOCK);
        for number in first..old.div_ceil(BLOCK) {
            let keep = (length.saturating_sub(number * BLOCK)).min(BLOCK) as usize;
            let mut block = match written.blocks.remove(&number) {
                Some(block) => block,
                None => self.original(number)?,
            };
            block[keep..].fill(0);
            written.blocks.insert(number, block);
        }
        written.length = length;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written.write().unwrap_or_else(PoisonError::into_inner);
        for (number, within, place) in parts(offset, data.len()) {
            let mut block = match written.blocks.remove(&number) {
                Some(block) => block,
                None => self.original(number)?,
            };
            block[within].copy_from_slice(&data[place]);
            written.blocks.insert(number, block);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_over_a_file_is_read_back_and_the_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let octets: Vec<u8> = (0..10_000_u32).map(|n| n as u8).collect();
        std::fs::write(&path, &octets).unwrap();
        let overlay = Overlay::open(&path).unwrap();
        let read = |from: usize, length: usize| {
            let mut out = vec![0; length];
            overlay.read(from as u64, &mut out).map(|()| out).ok()
        };
        assert_eq!(read(4_000, 5_000).as_deref(), Some(&octets[4_000..9_000]));
        assert_eq!(read(9_000, 1_001), None);
        let mut model = octets.clone();
        overlay.write(4_090, &[0xaa; 4_200]).unwrap();
        model[4_090..8_290].fill(0xaa);
        assert_eq!(read(0, 10_000).as_deref(), Some(&model[..]));
        overlay.set_len(5_000).unwrap();
        overlay.set_len(12_000).unwrap();
        model.truncate(5_000);
        model.resize(12_000, 0);
        assert_eq!(read(0, 12_000).as_deref(), Some(&model[..]));
        assert_eq!(overlay.len().unwrap(), 12_000);
        assert_eq!(std::fs::read(&path).unwrap(), octets);
    }
}
