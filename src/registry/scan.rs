//! Reading through a store, a little at a time: what nobody asks for is looked at, too.

use super::{Fault, Snapshot};
use crate::limits::SCAN_ROWS;
use crate::state::View as _;
use crate::tlog::{Hashes as _, leaf_hash};
use crate::wire::Name;

/// How far somebody has read.
#[derive(Debug, Default)]
pub struct Scan {
    /// The last op that was looked at.
    seq: u64,
    /// The last name.
    name: Option<Name>,
}

impl Scan {
    /// Reads on: some ops of the log, each compared with its leaf in the tree, and some names with all that is stored below
    /// them. After the last one it begins anew.
    ///
    /// # Errors
    /// The store failed, or holds something else than what was written. The next step goes on behind that.
    pub fn step(&mut self, snapshot: &Snapshot) -> Result<(), Fault> {
        let ops = self.ops(snapshot);
        ops.and(self.names(snapshot))
    }

    fn ops(&mut self, snapshot: &Snapshot) -> Result<(), Fault> {
        let last = snapshot.last_seq()?;
        let from = if self.seq >= last { 1 } else { self.seq + 1 };
        let to = last.min(from + SCAN_ROWS as u64 - 1);
        self.seq = to;
        (from..=to).try_for_each(|seq| {
            let entry = snapshot.log_entry(seq)?.ok_or_else(|| Fault(format!("op {seq} is not in the log")))?;
            let leaf = snapshot.hashes(0, seq - 1, 1)?;
            if leaf[..] == [leaf_hash(&entry.leaf())] { Ok(()) } else { Err(other(seq)) }
        })
    }

    fn names(&mut self, snapshot: &Snapshot) -> Result<(), Fault> {
        let page = snapshot.names_after(self.name.as_ref(), SCAN_ROWS)?;
        self.name = page.last().map(|(name, _)| name.clone());
        for (name, entry) in page {
            let rrsets = snapshot.rrsets_below(&name)?;
            if rrsets.len() != entry.rrsets as usize {
                return Err(Fault(format!("{name} has {} RRsets, and {} are counted", rrsets.len(), entry.rrsets)));
            }
            snapshot.account(&entry.owner)?;
            snapshot.name_life(&name)?;
            snapshot.covenants(&name)?;
            snapshot.updates(&name)?;
        }
        Ok(())
    }
}

fn other(seq: u64) -> Fault {
    Fault(format!("op {seq} in the log is not the one that the tree holds"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::SigilId;
    use crate::registry::{FORMAT, Genesis, LogEntry, Registry};
    use crate::state::Effects;

    #[test]
    fn an_op_that_is_another_is_found() {
        let genesis = Genesis { format: FORMAT, operator: SigilId([1; 32]), created: 0, salt: vec![0; 16] };
        let registry = Registry::in_memory(genesis).unwrap();
        let transaction = registry.begin_write().unwrap();
        let entry = |n: u64| LogEntry { time: n, op: vec![n as u8; 10] };
        {
            let tables = transaction.tables().unwrap();
            (1..=200).for_each(|n| tables.write(n, &entry(n), &Effects::default()).unwrap());
        }
        transaction.commit().unwrap();
        let mut scan = Scan::default();
        for _ in 0..9 {
            scan.step(&registry.snapshot().unwrap()).unwrap();
        }
        let transaction = registry.begin_write().unwrap();
        transaction.tables().unwrap().replace_log_entry(77, &entry(78)).unwrap();
        transaction.commit().unwrap();
        let snapshot = registry.snapshot().unwrap();
        let found: Vec<_> = (0..9).filter_map(|_| scan.step(&snapshot).err()).collect();
        assert!(!found.is_empty() && found.iter().all(|fault| *fault == other(77)), "{found:?}");
    }
}
