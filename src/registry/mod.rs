//! The registry on redb: tables, snapshots, one writer's transaction.
//!
//! One file, `registry.redb`. Readers see a snapshot (MVCC) and never wait. Whoever writes does so in one
//! transaction that holds rows and log alike, so that a crash leaves all of a batch or nothing of it.

mod compare;
mod examine;
mod log;
mod stamps;
mod tables;

pub use compare::{Difference, Expected, Wrong};
pub use examine::{Examined, examine};
pub use stamps::{Stamp, Stamps};
pub use tables::{LogEntry, Snapshot, WriteTables, WriteTransaction};

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use minicbor::{Decode, Encode};
use redb::{Database, ReadableDatabase as _};
use sha2::Digest as _;

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

/// An open registry. Shared by all threads.
pub struct Registry {
    database: Database,
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
        let told = shown.clone();
        let mut builder = Database::builder();
        builder.set_repair_callback(move |repair| {
            tracing::info!("{told} was not closed: checking it, {:.0}%", repair.progress() * 100.0);
            // redb says 0.3 between its first scan and its second: only if it has to fall back (`db.rs`, `do_repair`).
            if (0.1..0.5).contains(&repair.progress()) {
                tracing::warn!("{told}: the newest commit is torn or damaged; going on from the one before");
            }
        });
        let database = builder.create(path).map_err(|error| match error {
            redb::DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { path: shown.clone() },
            other => OpenError::Damaged { path: shown.clone(), reason: other.to_string() },
        })?;
        Self::over(database, genesis).map_err(|error| match error {
            Founding::Format(found) => OpenError::Format { path: shown, found },
            Founding::Damaged(reason) => OpenError::Damaged { path: shown, reason },
            Founding::Fault(fault) => OpenError::Fault { path: shown, fault },
        })
    }

    /// A registry in memory, for tests and trials.
    ///
    /// # Errors
    /// As [`Registry::open`].
    pub fn in_memory(genesis: Genesis) -> Result<Self, OpenError> {
        let path = || "memory".to_owned();
        let backend = redb::backends::InMemoryBackend::new();
        let database = Database::builder()
            .create_with_backend(backend)
            .map_err(|error| OpenError::Damaged { path: path(), reason: error.to_string() })?;
        Self::over(database, || genesis).map_err(|error| OpenError::Damaged { path: path(), reason: error.to_string() })
    }

    fn over(database: Database, genesis: impl FnOnce() -> Genesis) -> Result<Self, Founding> {
        let transaction = WriteTransaction::begin(&database)?;
        let found = transaction.genesis()?;
        let genesis = match found {
            Some(found) => {
                drop(transaction);
                decode_genesis(&found)?
            }
            None => {
                let genesis = genesis();
                transaction.found(&genesis)?;
                genesis
            }
        };
        Ok(Self::opened(database, genesis, Stamps::new())?)
    }

    fn opened(database: Database, genesis: Genesis, stamps: Stamps) -> Result<Self, Fault> {
        let id = genesis.id();
        let registry = Self { database, genesis, id, published: AtomicU64::new(0), stamps };
        let last = registry.snapshot()?.last_seq()?;
        registry.published.store(last, Ordering::Release);
        Ok(registry)
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
        Snapshot::new(self.database.begin_read()?, seq)
    }

    /// Begins the transaction of the one writer.
    ///
    /// # Errors
    /// The store failed.
    pub fn begin_write(&self) -> Result<WriteTransaction, Fault> {
        WriteTransaction::begin(&self.database)
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

#[derive(Debug, thiserror::Error)]
enum Founding {
    #[error("format {0}")]
    Format(u32),
    #[error("{0}")]
    Damaged(String),
    #[error("{0}")]
    Fault(#[from] Fault),
}

fn decode_genesis(octets: &[u8]) -> Result<Genesis, Founding> {
    let genesis: Genesis = minicbor::decode(octets).map_err(|error| Founding::Damaged(error.to_string()))?;
    if genesis.format == FORMAT { Ok(genesis) } else { Err(Founding::Format(genesis.format)) }
}
