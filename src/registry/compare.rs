//! Every row of every table against what the log says it must be.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use redb::{Key, ReadOnlyTable, ReadableTable as _, TableDefinition, TableHandle as _, Value};
use sha2::{Digest as _, Sha256};

use super::log::{HISTORY, TREE};
use super::tables::{
    ACCOUNTS, ATTESTATIONS, ATTESTORS, BALANCES, COMMITMENTS, CONTRACTS, COVENANTS, GAS, GENESIS, HOLDS, LOAD, LOG,
    LogEntry, META, MOVES, NAME_GAS, NAME_LIFE, NAMES, OWNED, RECORDS, SETS, Snapshot, TOKENS, UPDATES, decode, encode,
};
use super::{Fault, Genesis};
use crate::op::SigilId;
use crate::state::{Change, Record};
use crate::tlog::Hash;
use crate::wire::{Name, Rtype};

/// One row that is not what the log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub table: String,
    /// Its key.
    pub row: String,
    pub wrong: Wrong,
}

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    Missing,
    /// It should not be there.
    Extra,
    Differs,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, row, wrong } = self;
        match wrong {
            Wrong::Missing => write!(f, "{table}: {row} is missing"),
            Wrong::Extra => write!(f, "{table}: {row} should not be there"),
            Wrong::Differs => write!(f, "{table}: {row} is not what the log makes it"),
        }
    }
}

/// Rows of all tables but the log's own: SHA-256 of the value by table and key.
#[derive(Default)]
pub struct Expected {
    rows: BTreeMap<String, BTreeMap<Vec<u8>, [u8; 32]>>,
    /// SHA-256 of the value that an older version wrote, by that of the value that is expected.
    before: BTreeMap<[u8; 32], [u8; 32]>,
}

impl Expected {
    /// What a registry holds before any op.
    pub fn founded(genesis: &Genesis) -> Self {
        let mut expected = Self::default();
        expected.row(META, GENESIS, &encode(genesis)[..]);
        expected
    }

    fn row<K: Key, V: Value>(
        &mut self,
        table: TableDefinition<'_, K, V>,
        key: K::SelfType<'_>,
        value: V::SelfType<'_>,
    ) {
        let key = K::as_bytes(&key).as_ref().to_vec();
        let hash = Sha256::digest(V::as_bytes(&value).as_ref()).into();
        self.rows.entry(table.name().to_owned()).or_default().insert(key, hash);
    }

    /// The row that a change puts; one that drops a row leaves nothing.
    pub fn put(&mut self, change: &Change) {
        match change {
            Change::PutAccount(id, account) => self.row(ACCOUNTS, &id.0[..], &encode(account)[..]),
            Change::PutName(name, entry) => self.row(NAMES, &name.sort_key()[..], &encode(entry)[..]),
            Change::PutRrset(rrset, rate) => {
                let (owner, row) = (rrset.owner.sort_key(), Record { rrset: Cow::Borrowed(rrset), rate: *rate });
                let before = encode(&Record { rate: None, ..row.clone() });
                self.row(RECORDS, (&owner[..], rrset.rtype.0), &encode(&row)[..]);
                // Rows that were written before rates were kept have none, and are right as they are.
                self.before.insert(Sha256::digest(encode(&row)).into(), Sha256::digest(before).into());
            }
            Change::PutContract(hash, wasm) => self.row(CONTRACTS, &hash.0[..], &wasm[..]),
            Change::PutToken(token, row) => self.row(TOKENS, token.as_str(), &encode(row)[..]),
            Change::PutBalance(id, token, row) => self.row(BALANCES, (&id.0[..], token.as_str()), &encode(row)[..]),
            Change::PutHold(number, hold) => self.row(HOLDS, *number, &encode(hold)[..]),
            Change::PutMove(id, seq, number, line) => self.row(MOVES, (&id.0[..], *seq, *number), &encode(line)[..]),
            Change::PutGas(gas) => self.row(META, GAS, &encode(gas)[..]),
            Change::PutLoad(load) => self.row(META, LOAD, &encode(load)[..]),
            Change::PutNameGas(name, row) => self.row(NAME_GAS, &name.sort_key()[..], &encode(row)[..]),
            Change::PutCovenants(_, list) if list.is_empty() => {}
            Change::PutCovenants(name, list) => self.row(COVENANTS, &name.sort_key()[..], &encode(list)[..]),
            Change::PutUpdates(_, row) if row.is_empty() => {}
            Change::PutUpdates(name, row) => self.row(UPDATES, &name.sort_key()[..], &encode(row)[..]),
            Change::PutCommitments(_, open) if open.is_empty() => {}
            Change::PutCommitments(id, open) => self.row(COMMITMENTS, &id.0[..], &encode(open)[..]),
            Change::PutNameLife(name, life) => self.row(NAME_LIFE, &name.sort_key()[..], &encode(life)[..]),
            Change::DropNameLife(_) => {}
            Change::PutSet(id, row) => self.row(SETS, &id.0[..], &encode(row)[..]),
            Change::PutAttestor(id, row) => self.row(ATTESTORS, &id.to_octets()[..], &encode(row)[..]),
            Change::PutAttestation(by, to) => {
                self.row(ATTESTATIONS, (&by.to_octets()[..], &to.to_octets()[..]), ());
            }
            Change::DropAttestation(..) => {}
            Change::PutOwned(_, _, 0) => {}
            Change::PutOwned(id, tld, names) => self.row(OWNED, (&id.0[..], &tld.sort_key()[..]), *names),
            Change::DropName(_) | Change::DropRrset(_) | Change::DropHold(_) | Change::DropNameGas(_) => {}
        }
    }

    /// A hash of the log's tree.
    pub fn hash(&mut self, level: u8, index: u64, hash: Hash) {
        self.row(TREE, (level, index), &hash.0);
    }

    /// An op that touched a name.
    pub fn touched(&mut self, name: &Name, seq: u64) {
        self.row(HISTORY, (&name.sort_key()[..], seq), ());
    }

    /// Number of rows.
    pub fn rows(&self) -> u64 {
        self.rows.values().map(|rows| rows.len() as u64).sum()
    }
}

impl Snapshot {
    /// Tells of every row that is not among the expected ones, differs from them, or is missing. What is in the log
    /// itself is not looked at.
    ///
    /// # Errors
    /// The store failed.
    pub fn compare(&self, expected: Expected, tell: &mut dyn FnMut(Difference)) -> Result<(), Fault> {
        let Expected { rows: expected, before } = expected;
        let known = BTreeSet::from([LOG.name().to_owned()]);
        let mut check = Check { snapshot: self, expected, before, known, tell };
        check.table(META, str::to_owned)?;
        check.table(ACCOUNTS, sigil)?;
        check.table(NAMES, name)?;
        check.table(RECORDS, |(owner, rtype)| format!("{} {}", name(owner), Rtype(rtype)))?;
        check.table(CONTRACTS, hex)?;
        check.table(TOKENS, str::to_owned)?;
        check.table(BALANCES, |(id, token)| format!("{} {token}", sigil(id)))?;
        check.table(HOLDS, |number| number.to_string())?;
        check.table(MOVES, |(id, seq, number)| format!("{} op {seq} line {number}", sigil(id)))?;
        check.table(NAME_GAS, name)?;
        check.table(COVENANTS, name)?;
        check.table(UPDATES, name)?;
        check.table(COMMITMENTS, sigil)?;
        check.table(NAME_LIFE, name)?;
        check.table(SETS, hex)?;
        check.table(ATTESTORS, hex)?;
        check.table(ATTESTATIONS, |(by, to)| format!("{} of {}", hex(by), hex(to)))?;
        check.table(OWNED, |(id, tld)| format!("{} {}", sigil(id), name(tld)))?;
        check.table(TREE, |(level, index)| format!("hash {index} of level {level}"))?;
        check.table(HISTORY, |(key, seq)| format!("{} op {seq}", name(key)))?;
        check.others()
    }

    /// Every row of the log in its order: sequence, and the entry unless the row is not the one encoding of one.
    ///
    /// # Errors
    /// The store failed, or what `each` says.
    pub fn each_log_row(
        &self,
        mut each: impl FnMut(u64, Option<LogEntry>) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        for row in self.transaction.open_table(LOG)?.range(0..)? {
            let (seq, octets) = row?;
            let entry = decode::<LogEntry>(octets.value()).ok().filter(|entry| encode(entry) == octets.value());
            if !each(seq.value(), entry)? {
                break;
            }
        }
        Ok(())
    }
}

struct Check<'a> {
    snapshot: &'a Snapshot,
    /// What has not been found yet.
    expected: BTreeMap<String, BTreeMap<Vec<u8>, [u8; 32]>>,
    before: BTreeMap<[u8; 32], [u8; 32]>,
    known: BTreeSet<String>,
    tell: &'a mut dyn FnMut(Difference),
}

impl Check<'_> {
    fn table<K: Key, V: Value>(
        &mut self,
        definition: TableDefinition<'static, K, V>,
        shown: impl for<'k> Fn(K::SelfType<'k>) -> String,
    ) -> Result<(), Fault> {
        self.known.insert(definition.name().to_owned());
        let mut expected = self.expected.remove(definition.name()).unwrap_or_default();
        let table = definition.name().to_owned();
        let mut tell = |row, wrong| (self.tell)(Difference { table: table.clone(), row, wrong });
        let rows: ReadOnlyTable<K, V> = self.snapshot.transaction.open_table(definition)?;
        for row in rows.iter()? {
            let (key, value) = row?;
            let hash: [u8; 32] = Sha256::digest(V::as_bytes(&value.value()).as_ref()).into();
            let wrong = match expected.remove(K::as_bytes(&key.value()).as_ref()) {
                None => Wrong::Extra,
                Some(wanted) if wanted != hash && self.before.get(&wanted) != Some(&hash) => Wrong::Differs,
                Some(_) => continue,
            };
            tell(shown(key.value()), wrong);
        }
        expected.keys().for_each(|key| tell(shown(K::from_bytes(key)), Wrong::Missing));
        Ok(())
    }

    /// Tables that no version of this program makes.
    fn others(self) -> Result<(), Fault> {
        let tables = self.snapshot.transaction.list_tables()?.map(|table| table.name().to_owned());
        let sets = self.snapshot.transaction.list_multimap_tables()?;
        let sets = sets.map(|table| redb::MultimapTableHandle::name(&table).to_owned());
        for table in tables.chain(sets).filter(|table| !self.known.contains(table)) {
            (self.tell)(Difference { table, row: "the whole table".to_owned(), wrong: Wrong::Extra });
        }
        debug_assert!(self.expected.is_empty(), "rows of a table that is not compared");
        Ok(())
    }
}

fn sigil(id: &[u8]) -> String {
    id.try_into().map_or_else(|_| hex(id), |id| SigilId(id).to_string())
}

fn name(key: &[u8]) -> String {
    Name::from_sort_key(key).map_or_else(|| hex(key), |name| name.to_string())
}

fn hex(octets: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(octets)
}
