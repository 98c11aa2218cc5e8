//! The log replayed from nothing, and every table compared with what comes out.

use crate::op;
use crate::registry::{Expected, Fault, LogEntry, Registry};
use crate::state::{ApplyError, At, Model, Rules, amends_time, apply};
use crate::tlog::{Frontier, Hash, leaf_hash};

/// Things that are wrong, told one by one.
const MAX_TOLD: usize = 100;

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Ops replayed.
    pub ops: u64,
    /// Time of the last of them, seconds since 1970.
    pub time: u64,
    /// Root of the tree over them.
    pub root: Hash,
    /// Rows compared, those of the log among them.
    pub rows: u64,
    /// What is wrong, a sentence each, at most 100.
    pub wrong: Vec<String>,
    /// How much more is wrong.
    pub untold: u64,
}

impl Audit {
    /// True if nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.wrong.is_empty()
    }

    fn tell(&mut self, sentence: String) {
        if self.wrong.len() < MAX_TOLD {
            self.wrong.push(sentence);
        } else {
            self.untold += 1;
        }
    }
}

/// Replays the log of a registry under `rules` and compares every row of every table with the outcome. Rules are not in
/// the log: under others than those of the time, what was paid comes out differently. `progress` is told each sequence.
///
/// # Errors
/// The store failed.
pub fn audit(registry: &Registry, rules: &dyn Rules, progress: &mut dyn FnMut(u64)) -> Result<Audit, Fault> {
    let mut replay = Replay {
        registry,
        rules,
        model: Model::default(),
        frontier: Frontier::default(),
        expected: Expected::founded(registry.genesis()),
        audit: Audit { ops: 0, time: 0, root: Frontier::default().root(), rows: 0, wrong: Vec::new(), untold: 0 },
    };
    let snapshot = registry.snapshot()?;
    let mut stopped = None;
    snapshot.each_log_row(|seq, entry| {
        progress(seq);
        stopped = replay.step(seq, entry).err();
        Ok(stopped.is_none())
    })?;
    let Replay { model, frontier, mut expected, mut audit, .. } = replay;
    audit.root = frontier.root();
    if let Some(sentence) = stopped {
        audit.tell(sentence);
        audit.tell("the tables cannot be compared: the log does not lead to them".to_owned());
        return Ok(audit);
    }
    model.rows().for_each(|row| expected.put(&row));
    audit.rows = audit.ops + expected.rows();
    snapshot.compare(expected, &mut |difference| audit.tell(difference.to_string()))?;
    Ok(audit)
}

struct Replay<'a> {
    registry: &'a Registry,
    rules: &'a dyn Rules,
    model: Model,
    frontier: Frontier,
    expected: Expected,
    audit: Audit,
}

impl Replay<'_> {
    /// Applies one row of the log.
    fn step(&mut self, seq: u64, entry: Option<LogEntry>) -> Result<(), String> {
        let next = self.audit.ops + 1;
        if seq != next {
            return Err(format!("log: after op {} comes op {seq}", self.audit.ops));
        }
        let entry = entry.ok_or_else(|| format!("log: op {seq} is not the encoding of one"))?;
        let verified = op::verify(&entry.op, self.registry.id(), entry.time);
        let verified = verified.map_err(|rejection| format!("log: op {seq}: {rejection}"))?;
        if entry.time < self.audit.time && !amends_time(verified.op()) {
            return Err(format!("log: op {seq} is older than the one before it"));
        }
        let at = At { seq, time: entry.time };
        let effects = apply(&self.model, self.rules, at, &verified).map_err(|error| match error {
            ApplyError::Rejected(rejection) => format!("log: op {seq}: {rejection}"),
        })?;
        self.model.commit(&effects.changes);
        self.frontier.push(leaf_hash(&entry.leaf()), |level, index, hash| self.expected.hash(level, index, hash));
        effects.touched.iter().for_each(|name| self.expected.touched(name, seq));
        (self.audit.ops, self.audit.time) = (seq, entry.time);
        Ok(())
    }
}
