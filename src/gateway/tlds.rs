//! The TLDs: their zones, policies and default contracts.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use quick_cache::sync::Cache;

use crate::contract::{Worlds, worlds};
use crate::limits::{KNOWN_WORLDS, MAX_LABEL};
use crate::op::{CodeHash, OpKind, SigilId};
use crate::registry::{Fault, Snapshot, Stamp};
use crate::state::life::{Fee, FeeFor, Terms};
use crate::state::{Rules, Work};
use crate::wire::{Name, Rrset, Rtype, last_label};
use crate::zone::policy::Policy;

/// One TLD.
pub struct Tld {
    pub apex: Name,
    pub policy: Policy,
    /// The contract that answers for the TLD, and for names that have bound none.
    pub contract: CodeHash,
    /// Its master file's RRsets.
    pub rrsets: BTreeMap<Name, BTreeMap<Rtype, Arc<Rrset>>>,
    /// SOA and NS of the apex, from which those of every name are made.
    pub soa: Arc<Rrset>,
    pub ns: Arc<Rrset>,
}

/// All TLDs, and the contracts that come with the program.
pub struct Tlds {
    tlds: HashMap<Name, Arc<Tld>>,
    /// The same by their labels in lower case.
    labels: HashMap<Box<[u8]>, Arc<Tld>>,
    shipped: HashMap<CodeHash, Vec<u8>>,
    /// Worlds of contracts that have been looked at.
    worlds: Cache<CodeHash, Worlds>,
    operator: SigilId,
}

impl Tlds {
    /// Collects the TLDs; `shipped` are contracts that need not be deployed.
    pub fn new(
        tlds: impl IntoIterator<Item = Tld>,
        shipped: impl IntoIterator<Item = Vec<u8>>,
        operator: SigilId,
    ) -> Self {
        let tlds: HashMap<_, _> = tlds.into_iter().map(|tld| (tld.apex.clone(), Arc::new(tld))).collect();
        let label = |apex: &Name| last_label(apex.as_wire()).unwrap_or_default().to_ascii_lowercase().into();
        Self {
            labels: tlds
                .iter()
                .filter(|(apex, _)| apex.label_count() == 1)
                .map(|(apex, tld)| (label(apex), tld.clone()))
                .collect(),
            tlds,
            shipped: shipped.into_iter().map(|wasm| (CodeHash::of(&wasm), wasm)).collect(),
            worlds: Cache::new(KNOWN_WORLDS),
            operator,
        }
    }

    /// The TLD that a name falls into.
    pub fn find(&self, name: &Name) -> Option<&Arc<Tld>> {
        let label = last_label(name.as_wire())?;
        let mut lower = [0; MAX_LABEL];
        let lower = lower.get_mut(..label.len())?;
        lower.copy_from_slice(label);
        lower.make_ascii_lowercase();
        self.labels.get(&*lower)
    }

    /// All TLDs, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Tld>> {
        self.tlds.values()
    }

    /// The code of a shipped contract.
    pub fn shipped(&self, hash: &CodeHash) -> Option<&[u8]> {
        self.shipped.get(hash).map(Vec::as_slice)
    }

    /// The code of a contract, shipped or deployed.
    ///
    /// # Errors
    /// The store failed.
    pub fn code(&self, snapshot: &Snapshot, hash: &CodeHash) -> Result<Option<Vec<u8>>, Fault> {
        match self.shipped(hash) {
            Some(code) => Ok(Some(code.to_vec())),
            None => snapshot.contract(hash),
        }
    }

    /// The worlds of a contract; none if its code is not here, or is no contract.
    ///
    /// # Errors
    /// The store failed.
    pub fn worlds(&self, snapshot: &Snapshot, hash: &CodeHash) -> Result<Worlds, Fault> {
        self.worlds.get_or_insert_with(hash, || {
            let code = self.code(snapshot, hash)?;
            Ok(code.and_then(|code| worlds(&code).ok()).unwrap_or_default())
        })
    }

    /// What stands for a name's zone in queues and stamps: the registered name it would fall into.
    pub fn zone_key(&self, name: &Name) -> Stamp {
        Stamp::of(&name.suffix(2))
    }
}

impl Rules for Tlds {
    fn is_tld(&self, name: &Name) -> bool {
        self.tlds.contains_key(name)
    }

    fn check_label(&self, tld: &Name, label: &[u8]) -> Result<(), String> {
        let tld = self.tlds.get(tld).ok_or_else(|| "not one of our TLDs".to_owned())?;
        tld.policy.check_label(label).map_err(|refusal| refusal.to_string())
    }

    fn price(&self, tld: Option<&Name>, kind: OpKind, work: Work) -> u64 {
        match tld.and_then(|tld| self.tlds.get(tld)) {
            Some(tld) => tld.policy.price(kind, work),
            // An op about no name of ours costs what it costs where it is dearest.
            None => self.tlds.values().map(|tld| tld.policy.price(kind, work)).max().unwrap_or(0),
        }
    }

    fn rate(&self, tld: &Name) -> u64 {
        self.tlds.get(tld).map_or(0, |tld| tld.policy.rate())
    }

    fn operator(&self) -> SigilId {
        self.operator
    }

    fn terms(&self, tld: &Name) -> Terms {
        self.tlds.get(tld).map_or_else(Terms::default, |tld| tld.policy.terms())
    }

    fn fee(&self, tld: &Name, label: &[u8], what: FeeFor) -> Option<Fee> {
        self.tlds.get(tld)?.policy.fee(label, what)
    }
}
