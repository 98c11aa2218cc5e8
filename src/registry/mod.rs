//! The registry on redb: tables, snapshots, one writer's transaction.
//!
//! One file, `registry.redb`. Readers see a snapshot (MVCC) and never wait. Whoever writes does so in one
//! transaction that holds rows and log alike, so that a crash leaves all of a batch or nothing of it.

mod compare;
mod examine;
mod log;
mod scan;
mod stamps;
mod tables;

pub use compare::{Difference, Expected, Wrong};
pub use examine::{Examined, examine};
pub use scan::Scan;
pub use stamps::{Stamp, Stamps};
pub use tables::{LogEntry, Part, Snapshot, WriteTables, WriteTransaction};

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use minicbor::{Decode, Encode};
use redb::{Database, DatabaseError, ReadableDatabase as _, StorageBackend};
use sha2::Digest as _;

use crate::limits::{CHECKED_AT_OPEN, ROOM};
use crate::op::{RegistryId, SigilId};

type Octets = &'static [u8];

/// Version of the tables' layout. A data directory of another version is refused, never guessed at.
pub const FORMAT: u32 = 3;

/// What a registry is founded on; its SHA-256 is the registry's id.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Genesis {
    #[n(0)]
    pub format: u32,
    /// The sigil that may grant mana.
    #[n(1)]
    pub operator: SigilId,
    /// Seconds since 1970.
    #[n(2)]
    pub created: u64,
    /// Random octets: two registries founded in the same second differ.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub salt: Vec<u8>,
}

impl Genesis {
    /// The registry's id.
    pub fn id(&self) -> RegistryId {
        // Writing to a Vec cannot fail.
        RegistryId(sha2::Sha256::digest(minicbor::to_vec(self).expect("encoding into memory")).into())
    }
}

/// Why a registry does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path} is in use by another process; stop it, or give another --data directory")]
    InUse { path: String },
    #[error("{path} has format {found}, this program reads format {FORMAT}")]
    Format { path: String, found: u32 },
    #[error("{path} is not a ghostplane registry, or is damaged: {reason}")]
    Damaged { path: String, reason: String },
    #[error("{path}: {fault}")]
    Fault { path: String, fault: Fault },
}

/// The store failed: a disk error, or a row that does not decode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub(crate) String);

impl Fault {
    /// A fault that a layer above the store has found.
    pub fn new(sentence: &str) -> Self {
        Self(sentence.to_owned())
    }
}

macro_rules! fault_from {
    ($($error:ty),*) => {$(
        impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Self(error.to_string())
            }
        }
    )*};
}

fault_from!(redb::TransactionError, redb::TableError, redb::StorageError, redb::CommitError, redb::SetDurabilityError);

/// Opens the same store once more.
type Opening = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// An open registry. Shared by all threads.
pub struct Registry {
    /// `None` while it is opened again. redb takes no reads either after an error of the disk, until then.
    database: RwLock<Option<Database>>,
    /// `None` for a store that cannot be opened twice.
    opening: Option<Opening>,
    /// The folder that the store stands in.
    folder: Option<PathBuf>,
    genesis: Genesis,
    id: RegistryId,
    /// Sequence of the last durable op whose touched names have been stamped.
    published: AtomicU64,
    stamps: Stamps,
}

impl Registry {
    /// Opens the registry file at `path`, founding it with `genesis` if there is none.
    ///
    /// # Errors
    /// [`OpenError`]; the file is left as it was.
    pub fn open(path: &Path, genesis: impl FnOnce() -> Genesis) -> Result<Self, OpenError> {
        let shown = path.display().to_string();
        let file = path.to_owned();
        let opening: Opening = Box::new(move || open_file(&file));
        let registry = Self::over(opening, genesis).map_err(|error| match error {
            Founding::InUse => OpenError::InUse { path: shown },
            Founding::Format(found) => OpenError::Format { path: shown, found },
            Founding::Damaged(reason) => OpenError::Damaged { path: shown, reason },
            Founding::Fault(fault) => OpenError::Fault { path: shown, fault },
        })?;
        Ok(Self { folder: path.parent().map(Path::to_owned), ..registry })
    }

    /// A registry in memory, for tests and trials.
    ///
    /// # Errors
    /// As [`Registry::open`].
    pub fn in_memory(genesis: Genesis) -> Result<Self, OpenError> {
        let in_memory = || Database::builder().create_with_backend(redb::backends::InMemoryBackend::new());
        let registry = Self::over(Box::new(in_memory), || genesis)?;
        // Opened again, it would be another one.
        Ok(Self { opening: None, ..registry })
    }

    /// A registry over whatever `backend` gives, which must be the same octets each time: for tests of failing disks.
    ///
    /// # Errors
    /// As [`Registry::open`].
    pub fn on<B: StorageBackend>(
        backend: impl Fn() -> B + Send + Sync + 'static,
        genesis: impl FnOnce() -> Genesis,
    ) -> Result<Self, OpenError> {
        Ok(Self::over(Box::new(move || Database::builder().create_with_backend(backend())), genesis)?)
    }

    fn over(opening: Opening, genesis: impl FnOnce() -> Genesis) -> Result<Self, Founding> {
        let database = opening()?;
        let found = WriteTransaction::begin(&database)?.genesis()?;
        let genesis = match found {
            Some(found) => decode_genesis(&found)?,
            None => {
                let genesis = genesis();
                WriteTransaction::begin(&database)?.found(&genesis)?;
                genesis
            }
        };
        Ok(Self { opening: Some(opening), ..Self::opened(database, genesis, Stamps::new())? })
    }

    fn opened(database: Database, genesis: Genesis, stamps: Stamps) -> Result<Self, Fault> {
        let (id, database) = (genesis.id(), RwLock::new(Some(database)));
        let published = AtomicU64::new(0);
        let registry = Self { database, opening: None, folder: None, genesis, id, published, stamps };
        let last = registry.snapshot()?.last_seq()?;
        registry.published.store(last, Ordering::Release);
        Ok(registry)
    }

    /// Closes the store and opens it again: after an error of the disk, it takes neither reads nor writes before. Snapshots
    /// that were taken before fail from now on.
    ///
    /// # Errors
    /// It does not open, or has lost ops that were durable. There is no store then, until this succeeds.
    pub fn reopen(&self) -> Result<(), Fault> {
        let Some(opening) = &self.opening else { return Err(Fault("this store is in memory alone".into())) };
        // Not under the lock: mending a large store takes seconds, for which readers are told that there is none.
        drop(self.database.write().unwrap_or_else(PoisonError::into_inner).take());
        let database = opening().map_err(|error| Fault(error.to_string()))?;
        let found = WriteTransaction::begin(&database)?.genesis()?.map(|found| decode_genesis(&found));
        if !matches!(found, Some(Ok(found)) if found == self.genesis) {
            return Err(Fault("another registry stands where this one was".into()));
        }
        let (last, published) = (Snapshot::new(database.begin_read()?, 0)?.last_seq()?, self.published());
        if last < published {
            return Err(Fault(format!("the store has lost ops {} to {published}; restore a copy", last + 1)));
        }
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = Some(database);
        if last > published {
            // A commit that failed has reached the disk all the same. Nobody knows any more which names it touched.
            self.stamps.raise_all(last);
            self.published.store(last, Ordering::Release);
        }
        Ok(())
    }

    /// Whether the store takes transactions: false after an error of the disk, until it is opened again.
    pub fn is_sound(&self) -> bool {
        self.begin_write().is_ok_and(|transaction| transaction.genesis().is_ok())
    }

    /// Whether the disk has room for a few commits.
    ///
    /// # Errors
    /// The disk's own error.
    pub fn check_room(&self) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let path = folder.join("registry.room");
        let written = File::create(&path).and_then(|mut file| {
            (0..ROOM / 4_096).try_for_each(|_| file.write_all(&[0; 4_096]))?;
            file.sync_data()
        });
        let removed = std::fs::remove_file(&path);
        written.and(removed)
    }

    /// Sequence of the last op that is durable and known to readers.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    /// The registry's id: what every op must name.
    pub fn id(&self) -> RegistryId {
        self.id
    }

    /// What it was founded on.
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// A consistent view of everything committed so far.
    ///
    /// # Errors
    /// The store failed.
    pub fn snapshot(&self) -> Result<Snapshot, Fault> {
        // Loaded first: the snapshot may hold more than this says, never less. What is cached under it is
        // then at worst thrown away too early.
        let seq = self.published.load(Ordering::Acquire);
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        Snapshot::new(database.as_ref().ok_or_else(closed)?.begin_read()?, seq)
    }

    /// Begins the transaction of the one writer.
    ///
    /// # Errors
    /// The store failed.
    pub fn begin_write(&self) -> Result<WriteTransaction, Fault> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        WriteTransaction::begin(database.as_ref().ok_or_else(closed)?)
    }

    /// Makes a durable commit known: from now on no answer read before `seq` under one of `changed` is valid.
    pub fn publish(&self, seq: u64, changed: impl IntoIterator<Item = Stamp>) {
        for stamp in changed {
            self.stamps.raise(stamp, seq);
        }
        self.published.store(seq, Ordering::Release);
    }

    /// When names last changed.
    pub fn stamps(&self) -> &Stamps {
        &self.stamps
    }
}

fn closed() -> Fault {
    Fault("the store is being opened again after an error of the disk".into())
}

fn open_file(path: &Path) -> Result<Database, DatabaseError> {
    let told = path.display().to_string();
    let mut builder = Database::builder();
    builder.set_repair_callback(move |repair| {
        tracing::info!("{told}: checking it, {:.0}%", repair.progress() * 100.0);
        // redb says 0.3 between its first scan and its second: only if it has to fall back (`db.rs`, `do_repair`).
        if (0.1..0.5).contains(&repair.progress()) {
            tracing::warn!("{told}: the newest commit is torn or damaged; going on from the one before");
        }
    });
    // Every page against its checksum: redb trusts a store that was closed, and may panic over one that was damaged since.
    let octets = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    builder.set_check_integrity_on_open(octets <= CHECKED_AT_OPEN);
    builder.create(path)
}

#[derive(Debug, thiserror::Error)]
enum Founding {
    #[error("in use")]
    InUse,
    #[error("format {0}")]
    Format(u32),
    #[error("{0}")]
    Damaged(String),
    #[error("{0}")]
    Fault(#[from] Fault),
}

impl From<DatabaseError> for Founding {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::DatabaseAlreadyOpen => Self::InUse,
            other => Self::Damaged(other.to_string()),
        }
    }
}

/// Of a store that is no file.
impl From<Founding> for OpenError {
    fn from(error: Founding) -> Self {
        Self::Damaged { path: "memory".into(), reason: error.to_string() }
    }
}

fn decode_genesis(octets: &[u8]) -> Result<Genesis, Founding> {
    let genesis: Genesis = minicbor::decode(octets).map_err(|error| Founding::Damaged(error.to_string()))?;
    if genesis.format == FORMAT { Ok(genesis) } else { Err(Founding::Format(genesis.format)) }
}
