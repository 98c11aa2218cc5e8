//! The state in memory: what every other view is compared with.

use std::collections::BTreeMap;
use std::convert::Infallible;

use super::updates::Updates;
use super::{Account, Change, NameEntry, View};
use crate::op::{CodeHash, SigilId};
use crate::wire::{Name, Rrset, Rtype};

/// All tables as ordered maps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    pub accounts: BTreeMap<SigilId, Account>,
    pub names: BTreeMap<Name, NameEntry>,
    pub rrsets: BTreeMap<Name, BTreeMap<Rtype, Rrset>>,
    pub contracts: BTreeMap<CodeHash, Vec<u8>>,
    pub updates: BTreeMap<Name, Updates>,
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
                Change::PutUpdates(name, row) if row.is_empty() => drop(self.updates.remove(&name)),
                Change::PutUpdates(name, row) => drop(self.updates.insert(name, row)),
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

    fn updates(&self, name: &Name) -> Result<Updates, Infallible> {
        Ok(self.updates.get(name).cloned().unwrap_or_default())
    }
}
