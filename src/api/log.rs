//! The log as others see it: checkpoints, proofs, tiles, histories.

use std::sync::Arc;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};

use super::{LogView, PAGE, Service, ServiceError, parse_name};
use crate::limits::{LOG_PAGE_BYTES, MAX_LEAF};
use crate::notary::Refusal;
use crate::registry::Snapshot;
use crate::tlog::{self, Hash, Hashes as _, Rows, Tile, leaf_hash};
use crate::transport::Resource;

/// `log.checkpoint`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointView {
    /// The signed note.
    pub note: String,
    /// `NAME+ID+KEY` of the key that signs checkpoints.
    pub key: String,
}

/// `log.proof`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProofView {
    pub seq: u64,
    /// Ops in the tree that the proof is for.
    pub size: u64,
    /// Root of that tree, hex.
    pub root: String,
    /// Base64.
    pub leaf: String,
    /// Hashes from the leaf's sibling upwards, hex.
    pub proof: Vec<String>,
}

/// `log.consistency`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsistencyView {
    pub from: u64,
    pub to: u64,
    /// Hex.
    pub from_root: String,
    pub to_root: String,
    pub proof: Vec<String>,
}

/// `name.history`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryView {
    pub name: String,
    /// Ops in the tree that the proofs are for.
    pub size: u64,
    pub ops: Vec<ProvenOp>,
}

/// One op of a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenOp {
    #[serde(flatten)]
    pub op: LogView,
    /// Its inclusion proof, hex.
    pub proof: Vec<String>,
}

/// Reads hashes as these views have them.
pub fn hashes(texts: &[String]) -> Option<Vec<Hash>> {
    texts.iter().map(|text| Hash::from_hex(text)).collect()
}

fn texts(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(Hash::to_string).collect()
}

impl Service {
    /// A checkpoint of the whole log.
    ///
    /// # Errors
    /// The store failed.
    pub fn checkpoint(&self) -> Result<CheckpointView, ServiceError> {
        let note = self.notary.newest(&self.registry.snapshot()?)?;
        Ok(CheckpointView { note: note.to_string(), key: self.notary.verifier().to_string() })
    }

    /// That the op at `seq` is in the tree of the first `size` ops, or of all.
    ///
    /// # Errors
    /// [`ServiceError::NotFound`] if it is not.
    pub fn proof(&self, seq: u64, size: Option<u64>) -> Result<ProofView, ServiceError> {
        let snapshot = self.registry.snapshot()?;
        let size = tree_size(&snapshot, size)?;
        let entry = if seq <= size { snapshot.log_entry(seq)? } else { None };
        let entry = entry.ok_or_else(|| ServiceError::NotFound(format!("op {seq} among the first {size}")))?;
        Ok(ProofView {
            seq,
            size,
            root: tlog::root(&snapshot, size)?.to_string(),
            leaf: BASE64.encode(&entry.leaf()),
            proof: texts(&tlog::inclusion(&snapshot, seq - 1, size)?),
        })
    }

    /// That the tree of the first `from` ops is the beginning of that of the first `to`, or of all.
    ///
    /// # Errors
    /// [`ServiceError::NotFound`] if there are not so many ops.
    pub fn consistency(&self, from: u64, to: Option<u64>) -> Result<ConsistencyView, ServiceError> {
        let snapshot = self.registry.snapshot()?;
        let to = tree_size(&snapshot, to)?;
        if from > to {
            return Err(ServiceError::Bad(format!("from must not be above {to}")));
        }
        Ok(ConsistencyView {
            from,
            to,
            from_root: tlog::root(&snapshot, from)?.to_string(),
            to_root: tlog::root(&snapshot, to)?.to_string(),
            proof: texts(&tlog::consistency(&snapshot, from, to)?),
        })
    }

    /// The ops that touched a name, from sequence `from` on, a page of them, with proofs for the tree of the first `size`
    /// ops, or of all. A name that was never registered has none.
    ///
    /// # Errors
    /// [`ServiceError`]
    pub fn history(&self, name: &str, from: u64, size: Option<u64>, limit: usize) -> Result<HistoryView, ServiceError> {
        let name = parse_name(name)?;
        let snapshot = self.registry.snapshot()?;
        let size = tree_size(&snapshot, size)?;
        let (mut ops, mut octets) = (Vec::new(), 0);
        for seq in snapshot.history(&name, from.max(1), size, limit.min(PAGE))? {
            let lost = || ServiceError::NotFound(format!("op {seq}, which the index names,"));
            let entry = snapshot.log_entry(seq)?.ok_or_else(lost)?;
            octets += entry.op.len();
            if octets > LOG_PAGE_BYTES && !ops.is_empty() {
                break;
            }
            let proof = texts(&tlog::inclusion(&snapshot, seq - 1, size)?);
            ops.push(ProvenOp { op: LogView::new(seq, &entry), proof });
        }
        Ok(HistoryView { name: name.to_string(), size, ops })
    }

    /// The octets of a tile.
    fn tile(&self, tile: Tile) -> Result<Vec<u8>, ServiceError> {
        let snapshot = self.registry.snapshot()?;
        let size = snapshot.last_seq()?;
        let first = tile.first().filter(|_| tile.is_in(size));
        let first = first.ok_or_else(|| ServiceError::NotFound(tile.path()))?;
        if let Rows::Hashes(level) = tile.rows {
            return Ok(snapshot
                .hashes(level, first, usize::from(tile.width))?
                .iter()
                .flat_map(|hash| hash.0)
                .collect());
        }
        let mut bundle = Vec::new();
        for seq in first + 1..=first + u64::from(tile.width) {
            let entry = snapshot.log_entry(seq)?.ok_or_else(|| ServiceError::NotFound(format!("op {seq}")))?;
            let leaf = entry.leaf();
            const { assert!(MAX_LEAF <= u16::MAX as usize) };
            bundle.extend_from_slice(&(leaf.len() as u16).to_be_bytes());
            bundle.extend_from_slice(&leaf);
        }
        Ok(bundle)
    }

    /// The signed octets of the op at `seq`.
    fn op(&self, seq: u64) -> Result<Vec<u8>, ServiceError> {
        let entry = self.registry.snapshot()?.log_entry(seq)?;
        entry.map(|entry| entry.op).ok_or_else(|| ServiceError::NotFound(format!("op {seq}")))
    }
}

fn tree_size(snapshot: &Snapshot, size: Option<u64>) -> Result<u64, ServiceError> {
    let held = snapshot.last_seq()?;
    match size {
        Some(size) if size > held => Err(ServiceError::NotFound(format!("a tree of {size} ops; there are {held}"))),
        size => Ok(size.unwrap_or(held)),
    }
}

/// `GET /log/…`: what never changes may be cached for ever, checkpoints not at all.
pub(super) fn get(service: &Arc<Service>, path: &str) -> Resource {
    const TEXT: &str = "text/plain; charset=utf-8";
    let note = |note: Result<Option<tlog::Note>, ServiceError>| match note {
        Ok(Some(note)) => Ok((TEXT, false, note.to_string().into_bytes())),
        Ok(None) => Err(ServiceError::NotFound("a witnessed checkpoint".into())),
        Err(error) => Err(error),
    };
    let snapshot = || service.registry.snapshot().map_err(ServiceError::from);
    let octets =
        |octets: Result<Vec<u8>, ServiceError>| octets.map(|octets| ("application/octet-stream", true, octets));
    let found = match (path, Tile::parse(path), path.strip_prefix("op/").and_then(|seq| seq.parse().ok())) {
        ("checkpoint", ..) => note(snapshot().and_then(|snapshot| Ok(Some(service.notary.newest(&snapshot)?)))),
        ("checkpoint/offered", ..) => {
            let offer = |snapshot: Snapshot| Ok(Some(service.notary.offered(&snapshot, (service.clock)())?));
            note(snapshot().and_then(offer))
        }
        ("checkpoint/witnessed", ..) => note(Ok(service.notary.witnessed())),
        (_, Some(tile), _) => octets(service.tile(tile)),
        (_, _, Some(seq)) => octets(service.op(seq)),
        _ => Err(ServiceError::NotFound(format!("/log/{path}"))),
    };
    match found {
        Ok((content_type, immutable, body)) => Resource { immutable, ..Resource::new(200, content_type, body) },
        Err(error) => super::http::refused(&error),
    }
}

/// `POST /log/add-cosignatures`: a checkpoint with witnesses' lines. 403 if no witness of ours signed it, 409 if it is not
/// the one that is offered.
pub(super) fn cosign(service: &Service, note: &[u8]) -> Resource {
    let (status, body) = match service.notary.cosign(note, (service.clock)()) {
        Ok(count) => (200, format!("{count}\n")),
        Err(refusal) => {
            let status = match refusal {
                Refusal::Note(tlog::NoteError::Signature | tlog::NoteError::Untrusted) => 403,
                Refusal::Note(_) | Refusal::Ahead => 400,
                Refusal::NotOffered => 409,
            };
            (status, format!("{refusal}\n"))
        }
    };
    Resource::new(status, "text/plain; charset=utf-8", body)
}

/// The hash of the leaf of an op as the log tells of it.
pub fn leaf_of(view: &LogView) -> Option<Hash> {
    let op = BASE64.decode(view.op.as_bytes()).ok()?;
    Some(leaf_hash(&tlog::leaf(view.time, &op)))
}
