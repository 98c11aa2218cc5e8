//! The log's tree and the index of names into it, beside the ops themselves.
//!
//! The tree is kept as [`Hashes`] wants it: one row for each leaf, one for every 256 leaves, for every 65,536, and so on.
//! An append writes one short row at the end of the table and every 256th time a second one; roots, proofs and tiles are
//! computed from at most 256 neighbouring rows of each level.

use redb::{ReadableTable, Table, TableDefinition};

use super::tables::{LogEntry, Snapshot};
use super::{Fault, Octets};
use crate::tlog::{self, Hash, Hashes, TILE_WIDTH};
use crate::wire::Name;

/// Level, number within the level -> hash.
pub(super) const TREE: TableDefinition<(u8, u64), &'static [u8; 32]> = TableDefinition::new("tree");
/// Sort key of a registered name, sequence of an op that touched it.
pub(super) const HISTORY: TableDefinition<(Octets, u64), ()> = TableDefinition::new("history");

impl LogEntry {
    /// The octets of the entry's leaf.
    pub fn leaf(&self) -> Vec<u8> {
        tlog::leaf(self.time, &self.op)
    }
}

/// Appends the leaf at `index`, which must be the number of leaves so far.
pub(super) fn append(table: &mut Table<'_, (u8, u64), &'static [u8; 32]>, index: u64, leaf: Hash) -> Result<(), Fault> {
    table.insert((0, index), &leaf.0)?;
    let width = u64::from(TILE_WIDTH);
    let (mut level, mut count) = (0, index + 1);
    while count % width == 0 {
        let row = row_of(table, level, count - width, usize::from(TILE_WIDTH))?;
        count /= width;
        level += 1;
        table.insert((level, count - 1), &tlog::fold(row).0)?;
    }
    Ok(())
}

/// Notes that the op at `seq` touched a name.
pub(super) fn index(table: &mut Table<'_, (Octets, u64), ()>, name: &Name, seq: u64) -> Result<(), Fault> {
    table.insert((&name.sort_key()[..], seq), ())?;
    Ok(())
}

fn row_of(
    table: &impl ReadableTable<(u8, u64), &'static [u8; 32]>,
    level: u8,
    first: u64,
    count: usize,
) -> Result<Vec<Hash>, Fault> {
    let rows = table.range((level, first)..(level, first.saturating_add(count as u64)))?;
    let hashes = rows.map(|row| Ok(Hash(*row?.1.value()))).collect::<Result<Vec<_>, Fault>>()?;
    let missing = || Fault(format!("hashes from {first} on are missing in level {level} of the log's tree"));
    if hashes.len() == count { Ok(hashes) } else { Err(missing()) }
}

impl Hashes for Snapshot {
    type Fault = Fault;

    fn hashes(&self, level: u8, first: u64, count: usize) -> Result<Vec<Hash>, Fault> {
        row_of(&self.transaction.open_table(TREE)?, level, first, count)
    }
}

impl Snapshot {
    /// Log entries from sequence `from` on, at most `most`, and of at most `octets` of ops if there are more than one.
    ///
    /// # Errors
    /// The store failed; so with every read below.
    pub fn log_entries(&self, from: u64, most: usize, octets: usize) -> Result<Vec<(u64, LogEntry)>, Fault> {
        let (mut found, mut total) = (Vec::new(), 0);
        for seq in (from.max(1)..).take(most) {
            let Some(entry) = self.log_entry(seq)? else { break };
            total += entry.op.len();
            if total > octets && !found.is_empty() {
                break;
            }
            found.push((seq, entry));
        }
        Ok(found)
    }

    /// Sequences from `from` to `to` of ops that touched a registered name, at most `most`.
    pub fn history(&self, name: &Name, from: u64, to: u64, most: usize) -> Result<Vec<u64>, Fault> {
        let key = name.sort_key();
        let table = self.transaction.open_table(HISTORY)?;
        let rows = table.range((&key[..], from)..=(&key[..], to))?;
        rows.take(most).map(|row| Ok(row?.0.value().1)).collect()
    }
}
