//! The state in memory: what every other view is compared with.

use std::collections::BTreeMap;
use std::convert::Infallible;

use super::gas::{GasState, NameGas};
use super::ledger::{Balance, Hold, Move, Token};
use super::life::{Commitment, NameLife};
use super::{Account, Change, NameEntry, View};
use crate::op::{CodeHash, SigilId, Symbol};
use crate::wire::{Name, Rrset, Rtype};

/// All tables as ordered maps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    pub accounts: BTreeMap<SigilId, Account>,
    pub names: BTreeMap<Name, NameEntry>,
    pub rrsets: BTreeMap<Name, BTreeMap<Rtype, Rrset>>,
    pub contracts: BTreeMap<CodeHash, Vec<u8>>,
    pub tokens: BTreeMap<Symbol, Token>,
    pub balances: BTreeMap<(SigilId, Symbol), Balance>,
    pub holds: BTreeMap<u64, Hold>,
    pub moves: BTreeMap<(SigilId, u64, u32), Move>,
    pub gas: GasState,
    pub name_gas: BTreeMap<Name, NameGas>,
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
                Change::PutRrset(rrset) => self.put_rrset(rrset),
                Change::DropRrset(key) => self.drop_rrset(&key.owner, key.rtype),
                Change::PutContract(hash, wasm) => drop(self.contracts.insert(hash, wasm)),
                Change::PutToken(token, row) => drop(self.tokens.insert(token, row)),
                Change::PutBalance(id, token, row) => drop(self.balances.insert((id, token), row)),
                Change::PutHold(number, hold) => drop(self.holds.insert(number, hold)),
                Change::DropHold(number) => drop(self.holds.remove(&number)),
                Change::PutMove(id, seq, number, line) => drop(self.moves.insert((id, seq, number), line)),
                Change::PutGas(gas) => self.gas = gas,
                Change::PutNameGas(name, row) => drop(self.name_gas.insert(name, row)),
                Change::DropNameGas(name) => drop(self.name_gas.remove(&name)),
                Change::PutCommitments(id, open) if open.is_empty() => drop(self.commitments.remove(&id)),
                Change::PutCommitments(id, open) => drop(self.commitments.insert(id, open)),
                Change::PutNameLife(name, life) => drop(self.name_lives.insert(name, life)),
                Change::DropNameLife(name) => drop(self.name_lives.remove(&name)),
            }
        }
    }

    fn put_rrset(&mut self, rrset: Rrset) {
        self.rrsets.entry(rrset.owner.clone()).or_default().insert(rrset.rtype, rrset);
    }

    fn drop_rrset(&mut self, owner: &Name, rtype: Rtype) {
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

    fn name_gas(&self, name: &Name) -> Result<NameGas, Infallible> {
        Ok(self.name_gas.get(name).copied().unwrap_or_default())
    }

    fn commitments(&self, id: &SigilId) -> Result<Vec<Commitment>, Infallible> {
        Ok(self.commitments.get(id).cloned().unwrap_or_default())
    }

    fn name_life(&self, name: &Name) -> Result<NameLife, Infallible> {
        Ok(self.name_lives.get(name).cloned().unwrap_or_default())
    }
}
