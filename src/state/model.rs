//! The state in memory: what every other view is compared with.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use super::gas::{GasState, NameGas};
use super::guardians::{Attestor, GuardianSet};
use super::ledger::{Balance, Hold, Move, Token};
use super::life::{Commitment, NameLife};
use super::load::Load;
use super::updates::Updates;
use super::{Account, Change, NameEntry, View};
use crate::op::{CodeHash, Covenant, Identity, SetId, SigilId, Symbol};
use crate::wire::{Name, Rrset, Rtype};

/// All tables as ordered maps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    pub accounts: BTreeMap<SigilId, Account>,
    pub names: BTreeMap<Name, NameEntry>,
    pub rrsets: BTreeMap<Name, BTreeMap<Rtype, Rrset>>,
    /// Mana for a KiB at which each was stored.
    pub rates: BTreeMap<(Name, Rtype), u64>,
    pub contracts: BTreeMap<CodeHash, Vec<u8>>,
    pub tokens: BTreeMap<Symbol, Token>,
    pub balances: BTreeMap<(SigilId, Symbol), Balance>,
    pub holds: BTreeMap<u64, Hold>,
    pub moves: BTreeMap<(SigilId, u64, u32), Move>,
    pub gas: GasState,
    pub load: Load,
    pub name_gas: BTreeMap<Name, NameGas>,
    pub covenants: BTreeMap<Name, Vec<Covenant>>,
    pub owned: BTreeMap<(SigilId, Name), u32>,
    pub updates: BTreeMap<Name, Updates>,
    pub sets: BTreeMap<SetId, GuardianSet>,
    pub attestors: BTreeMap<Identity, Attestor>,
    pub attestations: BTreeSet<(Identity, Identity)>,
    pub commitments: BTreeMap<SigilId, Vec<Commitment>>,
    pub name_lives: BTreeMap<Name, NameLife>,
}

impl Model {
    /// Applies changes in order.
    pub fn commit(&mut self, changes: &[Change]) {
        for change in changes.iter().cloned() {
            match change {
                Change::PutAccount(id, account) => drop(self.accounts.insert(id, account)),
                Change::PutName(name, entry) => drop(self.names.insert(name, entry)),
                Change::DropName(name) => drop(self.names.remove(&name)),
                Change::PutRrset(rrset, rate) => self.put_rrset(rrset, rate),
                Change::DropRrset(key) => self.drop_rrset(&key.owner, key.rtype),
                Change::PutContract(hash, wasm) => drop(self.contracts.insert(hash, wasm)),
                Change::PutToken(token, row) => drop(self.tokens.insert(token, row)),
                Change::PutBalance(id, token, row) => drop(self.balances.insert((id, token), row)),
                Change::PutHold(number, hold) => drop(self.holds.insert(number, hold)),
                Change::DropHold(number) => drop(self.holds.remove(&number)),
                Change::PutMove(id, seq, number, line) => drop(self.moves.insert((id, seq, number), line)),
                Change::PutGas(gas) => self.gas = gas,
                Change::PutLoad(load) => self.load = load,
                Change::PutNameGas(name, row) => drop(self.name_gas.insert(name, row)),
                Change::DropNameGas(name) => drop(self.name_gas.remove(&name)),
                Change::PutCovenants(name, list) if list.is_empty() => drop(self.covenants.remove(&name)),
                Change::PutCovenants(name, list) => drop(self.covenants.insert(name, list)),
                Change::PutOwned(id, tld, 0) => drop(self.owned.remove(&(id, tld))),
                Change::PutOwned(id, tld, names) => drop(self.owned.insert((id, tld), names)),
                Change::PutUpdates(name, row) if row.is_empty() => drop(self.updates.remove(&name)),
                Change::PutUpdates(name, row) => drop(self.updates.insert(name, row)),
                Change::PutSet(id, row) => drop(self.sets.insert(id, row)),
                Change::PutAttestor(id, row) => drop(self.attestors.insert(id, row)),
                Change::PutAttestation(by, to) => _ = self.attestations.insert((by, to)),
                Change::DropAttestation(by, to) => _ = self.attestations.remove(&(by, to)),
                Change::PutCommitments(id, open) if open.is_empty() => drop(self.commitments.remove(&id)),
                Change::PutCommitments(id, open) => drop(self.commitments.insert(id, open)),
                Change::PutNameLife(name, life) => drop(self.name_lives.insert(name, life)),
                Change::DropNameLife(name) => drop(self.name_lives.remove(&name)),
            }
        }
    }

    /// The changes that make the model of an empty one.
    pub fn rows(&self) -> impl Iterator<Item = Change> {
        let accounts = self.accounts.iter().map(|(id, row)| Change::PutAccount(*id, *row));
        let names = self.names.iter().map(|(name, row)| Change::PutName(name.clone(), row.clone()));
        let rrsets = self.rrsets.values().flat_map(|types| types.values().cloned());
        let rrsets = rrsets.map(|rrset| {
            let rate = self.rates.get(&(rrset.owner.clone(), rrset.rtype)).copied();
            Change::PutRrset(rrset, rate)
        });
        let contracts = self.contracts.iter().map(|(hash, wasm)| Change::PutContract(*hash, wasm.clone()));
        let tokens = self.tokens.iter().map(|(token, row)| Change::PutToken(*token, *row));
        let balances = self.balances.iter().map(|((id, token), row)| Change::PutBalance(*id, *token, *row));
        let holds = self.holds.iter().map(|(number, hold)| Change::PutHold(*number, hold.clone()));
        let moves = self.moves.iter().map(|((id, seq, n), line)| Change::PutMove(*id, *seq, *n, line.clone()));
        // Not there until it is something else than it is at first.
        let gas = (self.gas != GasState::default()).then(|| Change::PutGas(self.gas.clone()));
        let load = (self.load != Load::default()).then_some(Change::PutLoad(self.load));
        let name_gas = self.name_gas.iter().map(|(name, row)| Change::PutNameGas(name.clone(), *row));
        let covenants = self.covenants.iter().map(|(name, list)| Change::PutCovenants(name.clone(), list.clone()));
        let owned = self.owned.iter().map(|((id, tld), names)| Change::PutOwned(*id, tld.clone(), *names));
        let updates = self.updates.iter().map(|(name, row)| Change::PutUpdates(name.clone(), row.clone()));
        let sets = self.sets.iter().map(|(id, row)| Change::PutSet(*id, row.clone()));
        let attestors = self.attestors.iter().map(|(id, row)| Change::PutAttestor(*id, row.clone()));
        let attestations = self.attestations.iter().map(|(by, to)| Change::PutAttestation(*by, *to));
        let commitments = self.commitments.iter().map(|(id, open)| Change::PutCommitments(*id, open.clone()));
        let lives = self.name_lives.iter().map(|(name, life)| Change::PutNameLife(name.clone(), life.clone()));
        let ledger = tokens.chain(balances).chain(holds).chain(moves);
        accounts
            .chain(names)
            .chain(rrsets)
            .chain(contracts)
            .chain(ledger)
            .chain(gas)
            .chain(load)
            .chain(name_gas)
            .chain(covenants)
            .chain(owned)
            .chain(updates)
            .chain(commitments)
            .chain(lives)
            .chain(sets)
            .chain(attestors)
            .chain(attestations)
    }

    fn put_rrset(&mut self, rrset: Rrset, rate: Option<u64>) {
        let key = (rrset.owner.clone(), rrset.rtype);
        match rate {
            Some(rate) => drop(self.rates.insert(key, rate)),
            None => drop(self.rates.remove(&key)),
        }
        self.rrsets.entry(rrset.owner.clone()).or_default().insert(rrset.rtype, rrset);
    }

    fn drop_rrset(&mut self, owner: &Name, rtype: Rtype) {
        self.rates.remove(&(owner.clone(), rtype));
        let Some(types) = self.rrsets.get_mut(owner) else { return };
        types.remove(&rtype);
        if types.is_empty() {
            self.rrsets.remove(owner);
        }
    }
}

impl View for Model {
    type Fault = Infallible;

    fn account(&self, id: &SigilId) -> Result<Account, Infallible> {
        Ok(self.accounts.get(id).copied().unwrap_or_default())
    }

    fn name(&self, name: &Name) -> Result<Option<NameEntry>, Infallible> {
        Ok(self.names.get(name).cloned())
    }

    fn rrset(&self, owner: &Name, rtype: Rtype) -> Result<Option<Rrset>, Infallible> {
        Ok(self.rrsets.get(owner).and_then(|types| types.get(&rtype)).cloned())
    }

    fn rate(&self, owner: &Name, rtype: Rtype) -> Result<Option<u64>, Infallible> {
        Ok(self.rates.get(&(owner.clone(), rtype)).copied())
    }

    fn types_at(&self, owner: &Name) -> Result<Vec<Rtype>, Infallible> {
        Ok(self.rrsets.get(owner).map(|types| types.keys().copied().collect()).unwrap_or_default())
    }

    fn rrsets_below(&self, apex: &Name) -> Result<Vec<Rrset>, Infallible> {
        let below = self.rrsets.range(apex.clone()..).take_while(|(owner, _)| owner.is_at_or_below(apex));
        Ok(below.flat_map(|(_, types)| types.values().cloned()).collect())
    }

    fn has_contract(&self, hash: &CodeHash) -> Result<bool, Infallible> {
        Ok(self.contracts.contains_key(hash))
    }

    fn token(&self, token: Symbol) -> Result<Option<Token>, Infallible> {
        Ok(self.tokens.get(&token).copied())
    }

    fn balance(&self, id: &SigilId, token: Symbol) -> Result<Balance, Infallible> {
        Ok(self.balances.get(&(*id, token)).copied().unwrap_or_default())
    }

    fn hold(&self, number: u64) -> Result<Option<Hold>, Infallible> {
        Ok(self.holds.get(&number).cloned())
    }

    fn gas(&self) -> Result<GasState, Infallible> {
        Ok(self.gas.clone())
    }

    fn load(&self) -> Result<Load, Infallible> {
        Ok(self.load)
    }

    fn name_gas(&self, name: &Name) -> Result<NameGas, Infallible> {
        Ok(self.name_gas.get(name).copied().unwrap_or_default())
    }

    fn covenants(&self, name: &Name) -> Result<Vec<Covenant>, Infallible> {
        Ok(self.covenants.get(name).cloned().unwrap_or_default())
    }

    fn owned(&self, id: &SigilId, tld: &Name) -> Result<u32, Infallible> {
        Ok(self.owned.get(&(*id, tld.clone())).copied().unwrap_or_default())
    }

    fn updates(&self, name: &Name) -> Result<Updates, Infallible> {
        Ok(self.updates.get(name).cloned().unwrap_or_default())
    }

    fn set(&self, id: &SetId) -> Result<Option<GuardianSet>, Infallible> {
        Ok(self.sets.get(id).cloned())
    }

    fn attestor(&self, id: &Identity) -> Result<Option<Attestor>, Infallible> {
        Ok(self.attestors.get(id).cloned())
    }

    fn commitments(&self, id: &SigilId) -> Result<Vec<Commitment>, Infallible> {
        Ok(self.commitments.get(id).cloned().unwrap_or_default())
    }

    fn name_life(&self, name: &Name) -> Result<NameLife, Infallible> {
        Ok(self.name_lives.get(name).cloned().unwrap_or_default())
    }
}
