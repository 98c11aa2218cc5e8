//! Tables and their rows.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ops::Bound;

use minicbor::{Decode, Encode};
use redb::{
    Database, ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata as _, Table, TableDefinition,
};

use super::log::{HISTORY, TREE, append, index};
use super::{Fault, Genesis, Octets};
use crate::op::{CodeHash, Covenant, Identity, SetId, SigilId, Symbol};
use crate::state::gas::{GasState, NameGas};
use crate::state::guardians::{Attestor, GuardianSet};
use crate::state::ledger::{Balance, Hold, Move, Token};
use crate::state::life::{Commitment, NameLife};
use crate::state::load::Load;
use crate::state::updates::Updates;
use crate::state::{Account, Change, Effects, NameEntry, Record, View};
use crate::tlog::leaf_hash;
use crate::wire::{Name, Rrset, Rtype};

/// Single values: `genesis`, `gas` ([`GasState`]), `load` ([`Load`]).
pub(super) const META: TableDefinition<&str, Octets> = TableDefinition::new("meta");
/// Sigil -> [`Account`].
pub(super) const ACCOUNTS: TableDefinition<Octets, Octets> = TableDefinition::new("accounts");
/// Sort key of a registered name -> [`NameEntry`].
pub(super) const NAMES: TableDefinition<Octets, Octets> = TableDefinition::new("names");
/// Sort key of an owner name, type -> [`Record`].
pub(super) const RECORDS: TableDefinition<(Octets, u16), Octets> = TableDefinition::new("records");
/// SHA-256 -> wasm.
pub(super) const CONTRACTS: TableDefinition<Octets, Octets> = TableDefinition::new("contracts");
/// Symbol -> [`Token`].
pub(super) const TOKENS: TableDefinition<&str, Octets> = TableDefinition::new("tokens");
/// Sigil, symbol -> [`Balance`].
pub(super) const BALANCES: TableDefinition<(Octets, &str), Octets> = TableDefinition::new("balances");
/// Sequence of the op that made it -> [`Hold`].
pub(super) const HOLDS: TableDefinition<u64, Octets> = TableDefinition::new("holds");
/// Sigil, sequence, number within the op -> [`Move`].
pub(super) const MOVES: TableDefinition<(Octets, u64, u32), Octets> = TableDefinition::new("moves");
/// Sort key of a registered name -> [`NameGas`].
pub(super) const NAME_GAS: TableDefinition<Octets, Octets> = TableDefinition::new("name_gas");
/// Sort key of a registered name or TLD -> list of [`Covenant`].
pub(super) const COVENANTS: TableDefinition<Octets, Octets> = TableDefinition::new("covenants");
/// Sigil, sort key of a TLD -> number of names.
pub(super) const OWNED: TableDefinition<(Octets, Octets), u32> = TableDefinition::new("owned");
/// Sort key of a registered name -> [`Updates`].
pub(super) const UPDATES: TableDefinition<Octets, Octets> = TableDefinition::new("updates");
/// Set -> [`GuardianSet`].
pub(super) const SETS: TableDefinition<Octets, Octets> = TableDefinition::new("sets");
/// Octets of an identity -> [`Attestor`].
pub(super) const ATTESTORS: TableDefinition<Octets, Octets> = TableDefinition::new("attestors");
/// Octets of an attestor, of whom it has attested.
pub(super) const ATTESTATIONS: TableDefinition<(Octets, Octets), ()> = TableDefinition::new("attestations");
/// Sigil -> its [`Commitment`]s.
pub(super) const COMMITMENTS: TableDefinition<Octets, Octets> = TableDefinition::new("commitments");
/// Sort key of a registered name -> [`NameLife`].
pub(super) const NAME_LIFE: TableDefinition<Octets, Octets> = TableDefinition::new("name_life");
/// Sequence, from 1 -> [`LogEntry`].
pub(super) const LOG: TableDefinition<u64, Octets> = TableDefinition::new("log");

/// Key of the [`GasState`] among the single values.
pub(super) const GAS: &str = "gas";
/// Key of the [`Load`].
pub(super) const LOAD: &str = "load";
/// Key of the founding record.
pub(super) const GENESIS: &str = "genesis";

/// One accepted op.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LogEntry {
    /// Op time, seconds since 1970.
    #[n(0)]
    pub time: u64,
    /// The signed octets.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub op: Vec<u8>,
}

/// Rows, and the key of the last one that was looked at, if there are more.
pub type Part<T, K> = (Vec<T>, Option<K>);

/// A consistent view of one moment.
pub struct Snapshot {
    pub(super) transaction: ReadTransaction,
    names: ReadOnlyTable<Octets, Octets>,
    records: ReadOnlyTable<(Octets, u16), Octets>,
    seq: u64,
}

impl Snapshot {
    /// Whether a sigil owns a name under any TLD.
    ///
    /// # Errors
    /// The store failed.
    pub fn owns_any(&self, id: &SigilId) -> Result<bool, Fault> {
        let owned = self.transaction.open_table(OWNED)?;
        for row in owned.range((&id.0[..], &[][..])..)? {
            let (key, names) = row?;
            if key.value().0 != id.0 {
                break;
            }
            if names.value() > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn new(transaction: ReadTransaction, seq: u64) -> Result<Self, Fault> {
        let names = transaction.open_table(NAMES)?;
        let records = transaction.open_table(RECORDS)?;
        Ok(Self { transaction, names, records, seq })
    }

    /// Everything up to this sequence is in the snapshot.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Sequence of the last op in the log; 0 if it is empty.
    ///
    /// # Errors
    /// The store failed; so with every read below.
    pub fn last_seq(&self) -> Result<u64, Fault> {
        let log = self.transaction.open_table(LOG)?;
        Ok(log.last()?.map_or(0, |(seq, _)| seq.value()))
    }

    /// The op at `seq`.
    pub fn log_entry(&self, seq: u64) -> Result<Option<LogEntry>, Fault> {
        let log = self.transaction.open_table(LOG)?;
        log.get(seq)?.map(|row| decode(row.value())).transpose()
    }

    /// The code of a contract.
    pub fn contract(&self, hash: &CodeHash) -> Result<Option<Vec<u8>>, Fault> {
        let contracts = self.transaction.open_table(CONTRACTS)?;
        Ok(contracts.get(&hash.0[..])?.map(|row| row.value().to_vec()))
    }

    /// Up to `most` registered names in canonical order, those after `after`.
    pub fn names_after(&self, after: Option<&Name>, most: usize) -> Result<Vec<(Name, NameEntry)>, Fault> {
        page_in(&self.names, after, most)
    }

    /// Tokens that were ever changed, by symbol, those after `after`, at most `most`.
    pub fn tokens(&self, after: Option<Symbol>, most: usize) -> Result<Vec<(Symbol, Token)>, Fault> {
        let table = self.transaction.open_table(TOKENS)?;
        // No symbol is empty.
        let after = after.as_ref().map(Symbol::as_str).unwrap_or_default();
        let row = |row: Result<_, redb::StorageError>| {
            let (key, value): (redb::AccessGuard<'_, &str>, redb::AccessGuard<'_, Octets>) = row?;
            Ok((symbol(key.value())?, decode(value.value())?))
        };
        table.range::<&str>((Bound::Excluded(after), Bound::Unbounded))?.take(most).map(row).collect()
    }

    /// Balances of an identity by token, those after `after`, at most `most`.
    pub fn balances(&self, id: &SigilId, after: Option<Symbol>, most: usize) -> Result<Vec<(Symbol, Balance)>, Fault> {
        let table = self.transaction.open_table(BALANCES)?;
        let after = after.as_ref().map(Symbol::as_str).unwrap_or_default();
        let mut found = Vec::new();
        for row in table.range((Bound::Excluded((&id.0[..], after)), Bound::Unbounded))? {
            let (key, value) = row?;
            let (holder, token) = key.value();
            if holder != id.0 || found.len() >= most {
                break;
            }
            found.push((symbol(token)?, decode(value.value())?));
        }
        Ok(found)
    }

    /// The last lines of an identity's history before op `before`, the newest first: sequence, line.
    pub fn moves(&self, id: &SigilId, before: u64, most: usize) -> Result<Vec<(u64, Move)>, Fault> {
        let table = self.transaction.open_table(MOVES)?;
        let rows = table.range((&id.0[..], 0, 0)..(&id.0[..], before, 0))?;
        let line = |row: Result<_, redb::StorageError>| {
            let (key, value): (redb::AccessGuard<'_, (Octets, u64, u32)>, redb::AccessGuard<'_, Octets>) = row?;
            Ok((key.value().1, decode(value.value())?))
        };
        rows.rev().take(most).map(line).collect()
    }

    /// Everybody whom the operator has ever made an attestor, those after `after`, at most `most`.
    pub fn attestors(&self, after: Option<Identity>, most: usize) -> Result<Vec<(Identity, Attestor)>, Fault> {
        let table = self.transaction.open_table(ATTESTORS)?;
        let after = after.map(Identity::to_octets).unwrap_or_default();
        let row = |row: Result<_, redb::StorageError>| {
            let (key, value): (redb::AccessGuard<'_, Octets>, redb::AccessGuard<'_, Octets>) = row?;
            Ok((identity(key.value())?, decode(value.value())?))
        };
        table.range::<&[u8]>((Bound::Excluded(&after[..]), Bound::Unbounded))?.take(most).map(row).collect()
    }

    /// Whom an attestor has attested last, those after `after`; some of it may have ended.
    pub fn attested_by(&self, by: Identity, after: Option<Identity>, most: usize) -> Result<Vec<Identity>, Fault> {
        let table = self.transaction.open_table(ATTESTATIONS)?;
        let (by, after) = (by.to_octets(), after.map(Identity::to_octets).unwrap_or_default());
        let mut found = Vec::new();
        for row in table.range((&by[..], &after[..])..)? {
            let key = row?.0;
            let (attestor, to) = key.value();
            if attestor != by || found.len() == most {
                break;
            }
            if to != after {
                found.push(identity(to)?);
            }
        }
        Ok(found)
    }

    /// Holds from number `after` + 1 on that an identity made or that are for it, at most `most` of the next `scan`; and
    /// the last number that was looked at, if there are more.
    pub fn holds(&self, id: &SigilId, after: u64, most: usize, scan: usize) -> Result<Part<(u64, Hold), u64>, Fault> {
        let table = self.transaction.open_table(HOLDS)?;
        let mut found = Vec::new();
        for (looked_at, row) in table.range(after.saturating_add(1)..)?.enumerate() {
            let (number, value) = row?;
            let hold: Hold = decode(value.value())?;
            if [hold.from, hold.to].contains(id) {
                found.push((number.value(), hold));
            }
            if found.len() >= most || looked_at + 1 >= scan {
                return Ok((found, Some(number.value())));
            }
        }
        Ok((found, None))
    }

    /// RRsets at and below `apex` after those of a type at an owner, at most `most`, and of at most `octets` if there are more
    /// than one; and where the rest begins.
    pub fn rrsets_after(
        &self,
        apex: &Name,
        after: Option<(&Name, Rtype)>,
        most: usize,
        octets: usize,
    ) -> Result<Part<Rrset, (Name, Rtype)>, Fault> {
        let key = apex.sort_key();
        let (first, rtype) = after.map_or_else(|| (key.clone(), 0), |(owner, rtype)| (owner.sort_key(), rtype.0));
        let start =
            if after.is_some() { Bound::Excluded((&first[..], rtype)) } else { Bound::Included((&first[..], 0)) };
        let (mut found, mut taken): (Vec<Rrset>, usize) = (Vec::new(), 0);
        for row in self.records.range((start, Bound::Unbounded))? {
            let (row_key, value) = row?;
            if !row_key.value().0.starts_with(&key) {
                break;
            }
            taken = taken.saturating_add(value.value().len());
            if let Some(last) = found.last().filter(|_| taken > octets || found.len() >= most) {
                let rest = (last.owner.clone(), last.rtype);
                return Ok((found, Some(rest)));
            }
            found.push(rrset_of(value.value())?);
        }
        Ok((found, None))
    }

    /// What names have used, in canonical order after `after`.
    pub fn gas_after(&self, after: Option<&Name>, most: usize) -> Result<Vec<(Name, NameGas)>, Fault> {
        page_in(&self.transaction.open_table(NAME_GAS)?, after, most)
    }

    /// What owners have arranged for their names, in canonical order after `after`.
    pub fn lives_after(&self, after: Option<&Name>, most: usize) -> Result<Vec<(Name, NameLife)>, Fault> {
        page_in(&self.transaction.open_table(NAME_LIFE)?, after, most)
    }

    /// Number of rows: names, RRsets, contracts, accounts, log.
    pub fn counts(&self) -> Result<[u64; 5], Fault> {
        let contracts = self.transaction.open_table(CONTRACTS)?.len()?;
        let accounts = self.transaction.open_table(ACCOUNTS)?.len()?;
        let log = self.transaction.open_table(LOG)?.len()?;
        Ok([self.names.len()?, self.records.len()?, contracts, accounts, log])
    }

    /// The last RRset of a type at or before `name` in canonical order, at or below `apex`. Reads at most the rows
    /// of one registered name.
    pub fn last_until(&self, apex: &Name, name: &Name, rtype: Rtype) -> Result<Option<Rrset>, Fault> {
        let (first, last) = (apex.sort_key(), name.sort_key());
        for row in self.records.range((&first[..], 0)..=(&last[..], u16::MAX))?.rev() {
            let (key, value) = row?;
            if key.value().1 == rtype.0 {
                return Ok(Some(rrset_of(value.value())?));
            }
        }
        Ok(None)
    }

    /// True if anything but an NSEC is stored at `owner` (`below` false) or strictly below it (`below` true): an NSEC
    /// alone makes no name. Reads at most the rows of one registered name.
    pub fn has_data(&self, owner: &Name, below: bool) -> Result<bool, Fault> {
        let key = owner.sort_key();
        let start = if below { (&key[..], u16::MAX) } else { (&key[..], 0) };
        for row in self.records.range(start..)? {
            let found = row?.0;
            let (found, rtype) = found.value();
            let within = if below { found.starts_with(&key) } else { found == key };
            if !within {
                return Ok(false);
            }
            if rtype != Rtype::NSEC.0 && (!below || found.len() > key.len()) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl View for Snapshot {
    type Fault = Fault;

    fn account(&self, id: &SigilId) -> Result<Account, Fault> {
        account_in(&self.transaction.open_table(ACCOUNTS)?, id)
    }

    fn name(&self, name: &Name) -> Result<Option<NameEntry>, Fault> {
        name_in(&self.names, name)
    }

    fn rrset(&self, owner: &Name, rtype: Rtype) -> Result<Option<Rrset>, Fault> {
        rrset_in(&self.records, owner, rtype)
    }

    fn rate(&self, owner: &Name, rtype: Rtype) -> Result<Option<u64>, Fault> {
        rate_in(&self.records, owner, rtype)
    }

    fn types_at(&self, owner: &Name) -> Result<Vec<Rtype>, Fault> {
        types_in(&self.records, owner)
    }

    fn rrsets_below(&self, apex: &Name) -> Result<Vec<Rrset>, Fault> {
        rrsets_in(&self.records, apex)
    }

    fn has_contract(&self, hash: &CodeHash) -> Result<bool, Fault> {
        Ok(self.transaction.open_table(CONTRACTS)?.get(&hash.0[..])?.is_some())
    }

    fn token(&self, token: Symbol) -> Result<Option<Token>, Fault> {
        token_in(&self.transaction.open_table(TOKENS)?, token)
    }

    fn balance(&self, id: &SigilId, token: Symbol) -> Result<Balance, Fault> {
        balance_in(&self.transaction.open_table(BALANCES)?, id, token)
    }

    fn hold(&self, number: u64) -> Result<Option<Hold>, Fault> {
        hold_in(&self.transaction.open_table(HOLDS)?, number)
    }

    fn gas(&self) -> Result<GasState, Fault> {
        gas_in(&self.transaction.open_table(META)?)
    }

    fn load(&self) -> Result<Load, Fault> {
        load_in(&self.transaction.open_table(META)?)
    }

    fn name_gas(&self, name: &Name) -> Result<NameGas, Fault> {
        name_gas_in(&self.transaction.open_table(NAME_GAS)?, name)
    }

    fn covenants(&self, name: &Name) -> Result<Vec<Covenant>, Fault> {
        covenants_in(&self.transaction.open_table(COVENANTS)?, name)
    }

    fn owned(&self, id: &SigilId, tld: &Name) -> Result<u32, Fault> {
        owned_in(&self.transaction.open_table(OWNED)?, id, tld)
    }

    fn updates(&self, name: &Name) -> Result<Updates, Fault> {
        updates_in(&self.transaction.open_table(UPDATES)?, name)
    }

    fn set(&self, id: &SetId) -> Result<Option<GuardianSet>, Fault> {
        set_in(&self.transaction.open_table(SETS)?, id)
    }

    fn attestor(&self, id: &Identity) -> Result<Option<Attestor>, Fault> {
        attestor_in(&self.transaction.open_table(ATTESTORS)?, id)
    }

    fn commitments(&self, id: &SigilId) -> Result<Vec<Commitment>, Fault> {
        commitments_in(&self.transaction.open_table(COMMITMENTS)?, id)
    }

    fn name_life(&self, name: &Name) -> Result<NameLife, Fault> {
        name_life_in(&self.transaction.open_table(NAME_LIFE)?, name)
    }
}

/// The transaction of the one writer. Dropped without [`WriteTransaction::commit`], it leaves nothing.
pub struct WriteTransaction {
    transaction: redb::WriteTransaction,
}

impl WriteTransaction {
    pub(super) fn begin(database: &Database) -> Result<Self, Fault> {
        Ok(Self { transaction: database.begin_write()? })
    }

    pub(super) fn genesis(&self) -> Result<Option<Vec<u8>>, Fault> {
        let meta = self.transaction.open_table(META)?;
        Ok(meta.get(GENESIS)?.map(|row| row.value().to_vec()))
    }

    /// Creates every table and writes the genesis record.
    pub(super) fn found(self, genesis: &Genesis) -> Result<(), Fault> {
        self.transaction.open_table(META)?.insert(GENESIS, &encode(genesis)[..])?;
        self.transaction.open_table(ACCOUNTS)?;
        self.transaction.open_table(NAMES)?;
        self.transaction.open_table(RECORDS)?;
        self.transaction.open_table(CONTRACTS)?;
        self.transaction.open_table(TOKENS)?;
        self.transaction.open_table(BALANCES)?;
        self.transaction.open_table(HOLDS)?;
        self.transaction.open_table(MOVES)?;
        self.transaction.open_table(NAME_GAS)?;
        self.transaction.open_table(COVENANTS)?;
        self.transaction.open_table(OWNED)?;
        self.transaction.open_table(UPDATES)?;
        self.transaction.open_table(SETS)?;
        self.transaction.open_table(ATTESTORS)?;
        self.transaction.open_table(ATTESTATIONS)?;
        self.transaction.open_table(COMMITMENTS)?;
        self.transaction.open_table(NAME_LIFE)?;
        self.transaction.open_table(LOG)?;
        self.transaction.open_table(TREE)?;
        self.transaction.open_table(HISTORY)?;
        self.commit()
    }

    /// Opens the tables for a batch of ops.
    ///
    /// # Errors
    /// The store failed.
    pub fn tables(&self) -> Result<WriteTables<'_>, Fault> {
        Ok(WriteTables {
            accounts: RefCell::new(self.transaction.open_table(ACCOUNTS)?),
            names: RefCell::new(self.transaction.open_table(NAMES)?),
            records: RefCell::new(self.transaction.open_table(RECORDS)?),
            contracts: RefCell::new(self.transaction.open_table(CONTRACTS)?),
            tokens: RefCell::new(self.transaction.open_table(TOKENS)?),
            balances: RefCell::new(self.transaction.open_table(BALANCES)?),
            holds: RefCell::new(self.transaction.open_table(HOLDS)?),
            moves: RefCell::new(self.transaction.open_table(MOVES)?),
            name_gas: RefCell::new(self.transaction.open_table(NAME_GAS)?),
            covenants: RefCell::new(self.transaction.open_table(COVENANTS)?),
            owned: RefCell::new(self.transaction.open_table(OWNED)?),
            sets: RefCell::new(self.transaction.open_table(SETS)?),
            attestors: RefCell::new(self.transaction.open_table(ATTESTORS)?),
            attestations: RefCell::new(self.transaction.open_table(ATTESTATIONS)?),
            commitments: RefCell::new(self.transaction.open_table(COMMITMENTS)?),
            name_life: RefCell::new(self.transaction.open_table(NAME_LIFE)?),
            meta: RefCell::new(self.transaction.open_table(META)?),
            updates: RefCell::new(self.transaction.open_table(UPDATES)?),
            log: RefCell::new(self.transaction.open_table(LOG)?),
            tree: RefCell::new(self.transaction.open_table(TREE)?),
            history: RefCell::new(self.transaction.open_table(HISTORY)?),
        })
    }

    /// Makes the batch durable; returns once it is on the disk.
    ///
    /// # Errors
    /// The store failed; nothing of the batch is kept.
    pub fn commit(self) -> Result<(), Fault> {
        Ok(self.transaction.commit()?)
    }
}

/// Open tables of a write transaction; each op sees what the ones before it wrote.
pub struct WriteTables<'t> {
    accounts: RefCell<Table<'t, Octets, Octets>>,
    names: RefCell<Table<'t, Octets, Octets>>,
    records: RefCell<Table<'t, (Octets, u16), Octets>>,
    contracts: RefCell<Table<'t, Octets, Octets>>,
    tokens: RefCell<Table<'t, &'static str, Octets>>,
    balances: RefCell<Table<'t, (Octets, &'static str), Octets>>,
    holds: RefCell<Table<'t, u64, Octets>>,
    moves: RefCell<Table<'t, (Octets, u64, u32), Octets>>,
    name_gas: RefCell<Table<'t, Octets, Octets>>,
    covenants: RefCell<Table<'t, Octets, Octets>>,
    owned: RefCell<Table<'t, (Octets, Octets), u32>>,
    sets: RefCell<Table<'t, Octets, Octets>>,
    attestors: RefCell<Table<'t, Octets, Octets>>,
    attestations: RefCell<Table<'t, (Octets, Octets), ()>>,
    commitments: RefCell<Table<'t, Octets, Octets>>,
    name_life: RefCell<Table<'t, Octets, Octets>>,
    meta: RefCell<Table<'t, &'static str, Octets>>,
    updates: RefCell<Table<'t, Octets, Octets>>,
    log: RefCell<Table<'t, u64, Octets>>,
    tree: RefCell<Table<'t, (u8, u64), &'static [u8; 32]>>,
    history: RefCell<Table<'t, (Octets, u64), ()>>,
}

impl WriteTables<'_> {
    /// Sequence and time of the last op in the log; zeros if it is empty.
    ///
    /// # Errors
    /// The store failed.
    pub fn last(&self) -> Result<(u64, u64), Fault> {
        let log = self.log.borrow();
        let Some((seq, row)) = log.last()? else { return Ok((0, 0)) };
        Ok((seq.value(), decode::<LogEntry>(row.value())?.time))
    }

    /// The code of a contract.
    ///
    /// # Errors
    /// The store failed.
    pub fn contract(&self, hash: &CodeHash) -> Result<Option<Vec<u8>>, Fault> {
        Ok(self.contracts.borrow().get(&hash.0[..])?.map(|row| row.value().to_vec()))
    }

    /// Writes what one accepted op changes, its log entry, its leaf in the log's tree, and for each name that it touched
    /// its place in the index. `seq` must be the next one, from 1.
    ///
    /// # Errors
    /// The store failed; the transaction must be dropped.
    pub fn write(&self, seq: u64, entry: &LogEntry, effects: &Effects) -> Result<(), Fault> {
        self.write_changes(&effects.changes)?;
        self.log.borrow_mut().insert(seq, &encode(entry)[..])?;
        let mut history = self.history.borrow_mut();
        effects.touched.iter().try_for_each(|name| index(&mut history, name, seq))?;
        append(&mut self.tree.borrow_mut(), seq - 1, leaf_hash(&entry.leaf()))
    }

    /// Puts another op into the log in the place of one: what a damaged disk may do.
    #[cfg(test)]
    pub(super) fn replace_log_entry(&self, seq: u64, entry: &LogEntry) -> Result<(), Fault> {
        self.log.borrow_mut().insert(seq, &encode(entry)[..])?;
        Ok(())
    }

    /// Writes rows that no op has changed: what a test begins with.
    ///
    /// # Errors
    /// The store failed; the transaction must be dropped.
    pub fn write_changes(&self, changes: &[Change]) -> Result<(), Fault> {
        changes.iter().try_for_each(|change| self.write_change(change))
    }

    fn write_change(&self, change: &Change) -> Result<(), Fault> {
        match change {
            Change::PutAccount(id, account) => {
                drop(self.accounts.borrow_mut().insert(&id.0[..], &encode(account)[..])?)
            }
            Change::PutName(name, entry) => {
                drop(self.names.borrow_mut().insert(&name.sort_key()[..], &encode(entry)[..])?)
            }
            Change::DropName(name) => drop(self.names.borrow_mut().remove(&name.sort_key()[..])?),
            Change::PutRrset(rrset, rate) => {
                let key = rrset.owner.sort_key();
                let row = encode(&Record { rrset: Cow::Borrowed(rrset), rate: *rate });
                self.records.borrow_mut().insert((&key[..], rrset.rtype.0), &row[..])?;
            }
            Change::DropRrset(key) => {
                let owner = key.owner.sort_key();
                self.records.borrow_mut().remove((&owner[..], key.rtype.0))?;
            }
            Change::PutContract(hash, wasm) => drop(self.contracts.borrow_mut().insert(&hash.0[..], &wasm[..])?),
            Change::PutToken(token, row) => drop(self.tokens.borrow_mut().insert(token.as_str(), &encode(row)[..])?),
            Change::PutBalance(id, token, row) => {
                drop(self.balances.borrow_mut().insert((&id.0[..], token.as_str()), &encode(row)[..])?)
            }
            Change::PutHold(number, hold) => drop(self.holds.borrow_mut().insert(number, &encode(hold)[..])?),
            Change::DropHold(number) => drop(self.holds.borrow_mut().remove(number)?),
            Change::PutMove(id, seq, number, line) => {
                drop(self.moves.borrow_mut().insert((&id.0[..], *seq, *number), &encode(line)[..])?)
            }
            Change::PutLoad(load) => drop(self.meta.borrow_mut().insert(LOAD, &encode(load)[..])?),
            Change::PutGas(gas) => drop(self.meta.borrow_mut().insert(GAS, &encode(gas)[..])?),
            Change::PutNameGas(name, row) => {
                drop(self.name_gas.borrow_mut().insert(&name.sort_key()[..], &encode(row)[..])?)
            }
            Change::DropNameGas(name) => drop(self.name_gas.borrow_mut().remove(&name.sort_key()[..])?),
            Change::PutCovenants(name, list) if list.is_empty() => {
                drop(self.covenants.borrow_mut().remove(&name.sort_key()[..])?)
            }
            Change::PutCovenants(name, list) => {
                drop(self.covenants.borrow_mut().insert(&name.sort_key()[..], &encode(list)[..])?)
            }
            Change::PutOwned(id, tld, 0) => drop(self.owned.borrow_mut().remove((&id.0[..], &tld.sort_key()[..]))?),
            Change::PutOwned(id, tld, names) => {
                drop(self.owned.borrow_mut().insert((&id.0[..], &tld.sort_key()[..]), names)?)
            }
            Change::PutUpdates(name, row) if row.is_empty() => {
                drop(self.updates.borrow_mut().remove(&name.sort_key()[..])?)
            }
            Change::PutUpdates(name, row) => {
                drop(self.updates.borrow_mut().insert(&name.sort_key()[..], &encode(row)[..])?)
            }
            Change::PutSet(id, row) => drop(self.sets.borrow_mut().insert(&id.0[..], &encode(row)[..])?),
            Change::PutAttestor(id, row) => {
                drop(self.attestors.borrow_mut().insert(&id.to_octets()[..], &encode(row)[..])?)
            }
            Change::PutAttestation(by, to) => {
                self.attestations.borrow_mut().insert((&by.to_octets()[..], &to.to_octets()[..]), ())?;
            }
            Change::DropAttestation(by, to) => {
                self.attestations.borrow_mut().remove((&by.to_octets()[..], &to.to_octets()[..]))?;
            }
            Change::PutCommitments(id, open) if open.is_empty() => {
                drop(self.commitments.borrow_mut().remove(&id.0[..])?)
            }
            Change::PutCommitments(id, open) => {
                drop(self.commitments.borrow_mut().insert(&id.0[..], &encode(open)[..])?)
            }
            Change::PutNameLife(name, life) => {
                drop(self.name_life.borrow_mut().insert(&name.sort_key()[..], &encode(life)[..])?)
            }
            Change::DropNameLife(name) => drop(self.name_life.borrow_mut().remove(&name.sort_key()[..])?),
        }
        Ok(())
    }
}

impl View for WriteTables<'_> {
    type Fault = Fault;

    fn account(&self, id: &SigilId) -> Result<Account, Fault> {
        account_in(&*self.accounts.borrow(), id)
    }

    fn name(&self, name: &Name) -> Result<Option<NameEntry>, Fault> {
        name_in(&*self.names.borrow(), name)
    }

    fn rrset(&self, owner: &Name, rtype: Rtype) -> Result<Option<Rrset>, Fault> {
        rrset_in(&*self.records.borrow(), owner, rtype)
    }

    fn rate(&self, owner: &Name, rtype: Rtype) -> Result<Option<u64>, Fault> {
        rate_in(&*self.records.borrow(), owner, rtype)
    }

    fn types_at(&self, owner: &Name) -> Result<Vec<Rtype>, Fault> {
        types_in(&*self.records.borrow(), owner)
    }

    fn rrsets_below(&self, apex: &Name) -> Result<Vec<Rrset>, Fault> {
        rrsets_in(&*self.records.borrow(), apex)
    }

    fn has_contract(&self, hash: &CodeHash) -> Result<bool, Fault> {
        Ok(self.contracts.borrow().get(&hash.0[..])?.is_some())
    }

    fn token(&self, token: Symbol) -> Result<Option<Token>, Fault> {
        token_in(&*self.tokens.borrow(), token)
    }

    fn balance(&self, id: &SigilId, token: Symbol) -> Result<Balance, Fault> {
        balance_in(&*self.balances.borrow(), id, token)
    }

    fn hold(&self, number: u64) -> Result<Option<Hold>, Fault> {
        hold_in(&*self.holds.borrow(), number)
    }

    fn gas(&self) -> Result<GasState, Fault> {
        gas_in(&*self.meta.borrow())
    }

    fn load(&self) -> Result<Load, Fault> {
        load_in(&*self.meta.borrow())
    }

    fn name_gas(&self, name: &Name) -> Result<NameGas, Fault> {
        name_gas_in(&*self.name_gas.borrow(), name)
    }

    fn covenants(&self, name: &Name) -> Result<Vec<Covenant>, Fault> {
        covenants_in(&*self.covenants.borrow(), name)
    }

    fn owned(&self, id: &SigilId, tld: &Name) -> Result<u32, Fault> {
        owned_in(&*self.owned.borrow(), id, tld)
    }

    fn updates(&self, name: &Name) -> Result<Updates, Fault> {
        updates_in(&*self.updates.borrow(), name)
    }

    fn set(&self, id: &SetId) -> Result<Option<GuardianSet>, Fault> {
        set_in(&*self.sets.borrow(), id)
    }

    fn attestor(&self, id: &Identity) -> Result<Option<Attestor>, Fault> {
        attestor_in(&*self.attestors.borrow(), id)
    }

    fn commitments(&self, id: &SigilId) -> Result<Vec<Commitment>, Fault> {
        commitments_in(&*self.commitments.borrow(), id)
    }

    fn name_life(&self, name: &Name) -> Result<NameLife, Fault> {
        name_life_in(&*self.name_life.borrow(), name)
    }
}

fn account_in(table: &impl ReadableTable<Octets, Octets>, id: &SigilId) -> Result<Account, Fault> {
    table.get(&id.0[..])?.map_or_else(|| Ok(Account::default()), |row| decode(row.value()))
}

/// Up to `most` rows by name in canonical order, those after `after`.
fn page_in<T: for<'b> Decode<'b, ()>>(
    table: &impl ReadableTable<Octets, Octets>,
    after: Option<&Name>,
    most: usize,
) -> Result<Vec<(Name, T)>, Fault> {
    // No name's key is empty.
    let key = after.map(Name::sort_key).unwrap_or_default();
    let rows = table.range::<&[u8]>((Bound::Excluded(&key[..]), Bound::Unbounded))?;
    let row = |row: Result<_, redb::StorageError>| {
        let (key, value): (redb::AccessGuard<'_, Octets>, redb::AccessGuard<'_, Octets>) = row?;
        Ok((name_of(key.value())?, decode(value.value())?))
    };
    rows.take(most).map(row).collect()
}

fn token_in(table: &impl ReadableTable<&'static str, Octets>, token: Symbol) -> Result<Option<Token>, Fault> {
    table.get(token.as_str())?.map(|row| decode(row.value())).transpose()
}

fn balance_in(
    table: &impl ReadableTable<(Octets, &'static str), Octets>,
    id: &SigilId,
    token: Symbol,
) -> Result<Balance, Fault> {
    table.get((&id.0[..], token.as_str()))?.map_or_else(|| Ok(Balance::default()), |row| decode(row.value()))
}

fn hold_in(table: &impl ReadableTable<u64, Octets>, number: u64) -> Result<Option<Hold>, Fault> {
    table.get(number)?.map(|row| decode(row.value())).transpose()
}

fn gas_in(table: &impl ReadableTable<&'static str, Octets>) -> Result<GasState, Fault> {
    table.get(GAS)?.map_or_else(|| Ok(GasState::default()), |row| decode(row.value()))
}

fn load_in(table: &impl ReadableTable<&'static str, Octets>) -> Result<Load, Fault> {
    table.get(LOAD)?.map_or_else(|| Ok(Load::default()), |row| decode(row.value()))
}

fn name_gas_in(table: &impl ReadableTable<Octets, Octets>, name: &Name) -> Result<NameGas, Fault> {
    table.get(&name.sort_key()[..])?.map_or_else(|| Ok(NameGas::default()), |row| decode(row.value()))
}

fn covenants_in(table: &impl ReadableTable<Octets, Octets>, name: &Name) -> Result<Vec<Covenant>, Fault> {
    table.get(&name.sort_key()[..])?.map_or_else(|| Ok(Vec::new()), |row| decode(row.value()))
}

fn owned_in(table: &impl ReadableTable<(Octets, Octets), u32>, id: &SigilId, tld: &Name) -> Result<u32, Fault> {
    Ok(table.get((&id.0[..], &tld.sort_key()[..]))?.map_or(0, |row| row.value()))
}

fn updates_in(table: &impl ReadableTable<Octets, Octets>, name: &Name) -> Result<Updates, Fault> {
    table.get(&name.sort_key()[..])?.map_or_else(|| Ok(Updates::default()), |row| decode(row.value()))
}

fn set_in(table: &impl ReadableTable<Octets, Octets>, id: &SetId) -> Result<Option<GuardianSet>, Fault> {
    table.get(&id.0[..])?.map(|row| decode(row.value())).transpose()
}

fn attestor_in(table: &impl ReadableTable<Octets, Octets>, id: &Identity) -> Result<Option<Attestor>, Fault> {
    table.get(&id.to_octets()[..])?.map(|row| decode(row.value())).transpose()
}

fn commitments_in(table: &impl ReadableTable<Octets, Octets>, id: &SigilId) -> Result<Vec<Commitment>, Fault> {
    table.get(&id.0[..])?.map_or_else(|| Ok(Vec::new()), |row| decode(row.value()))
}

fn name_life_in(table: &impl ReadableTable<Octets, Octets>, name: &Name) -> Result<NameLife, Fault> {
    table.get(&name.sort_key()[..])?.map_or_else(|| Ok(NameLife::default()), |row| decode(row.value()))
}

fn name_in(table: &impl ReadableTable<Octets, Octets>, name: &Name) -> Result<Option<NameEntry>, Fault> {
    table.get(&name.sort_key()[..])?.map(|row| decode(row.value())).transpose()
}

fn rrset_in(
    table: &impl ReadableTable<(Octets, u16), Octets>,
    owner: &Name,
    rtype: Rtype,
) -> Result<Option<Rrset>, Fault> {
    table.get((&owner.sort_key()[..], rtype.0))?.map(|row| rrset_of(row.value())).transpose()
}

fn rate_in(
    table: &impl ReadableTable<(Octets, u16), Octets>,
    owner: &Name,
    rtype: Rtype,
) -> Result<Option<u64>, Fault> {
    let Some(row) = table.get((&owner.sort_key()[..], rtype.0))? else { return Ok(None) };
    Ok(decode::<Record<'_>>(row.value())?.rate)
}

fn rrset_of(row: &[u8]) -> Result<Rrset, Fault> {
    Ok(decode::<Record<'_>>(row)?.rrset.into_owned())
}

fn types_in(table: &impl ReadableTable<(Octets, u16), Octets>, owner: &Name) -> Result<Vec<Rtype>, Fault> {
    let key = owner.sort_key();
    let rows = table.range((&key[..], 0)..=(&key[..], u16::MAX))?;
    rows.map(|row| Ok(Rtype(row?.0.value().1))).collect()
}

fn rrsets_in(table: &impl ReadableTable<(Octets, u16), Octets>, apex: &Name) -> Result<Vec<Rrset>, Fault> {
    let key = apex.sort_key();
    let mut rrsets = Vec::new();
    for row in table.range((&key[..], 0)..)? {
        let (row_key, value) = row?;
        if !row_key.value().0.starts_with(&key) {
            break;
        }
        rrsets.push(rrset_of(value.value())?);
    }
    Ok(rrsets)
}

fn symbol(text: &str) -> Result<Symbol, Fault> {
    text.parse().map_err(|_| Fault("a token's symbol does not decode; the registry is damaged".into()))
}

fn identity(octets: &[u8]) -> Result<Identity, Fault> {
    Identity::from_octets(octets)
        .ok_or_else(|| Fault("an identity's key does not decode; the registry is damaged".into()))
}

fn name_of(key: &[u8]) -> Result<Name, Fault> {
    Name::from_sort_key(key).ok_or_else(|| Fault("a name's key does not decode; the registry is damaged".into()))
}

pub(super) fn encode(value: &impl Encode<()>) -> Vec<u8> {
    // Writing to a Vec cannot fail.
    minicbor::to_vec(value).expect("encoding into memory")
}

pub(super) fn decode<'b, T: Decode<'b, ()>>(octets: &'b [u8]) -> Result<T, Fault> {
    minicbor::decode(octets).map_err(|error| Fault(format!("a row does not decode; the registry is damaged: {error}")))
}
