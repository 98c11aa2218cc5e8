//! What a running guest can reach: the registry through [`Reads`], and memory up to its limit.

use std::sync::Arc;

use wasmtime::{Error, ResourceLimiter, Result};

use super::bindings::ghostplane::contract::{registry, types};
use super::{ReadFault, Reads};
use crate::limits::{CONTRACT_CALLS, CONTRACT_LOOKUPS, CONTRACT_MEMORY, CONTRACT_TABLE};
use crate::op::SigilId;
use crate::wire::{Name, NameError, Resolution, Rrset, Rtype};

/// Store data of one execution.
pub(super) struct Guest {
    pub reads: Box<dyn Reads>,
    /// Every RRset looked up; a handle is an index.
    pub handles: Vec<Arc<Rrset>>,
    pub lookups: usize,
    calls: usize,
}

/// Why the host ended an execution.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    #[error("out of memory")]
    Memory,
    #[error("more than {CONTRACT_LOOKUPS} look-ups")]
    Lookups,
    #[error("more than {CONTRACT_CALLS} registry calls")]
    Calls,
    #[error("read of unknown handle {0}")]
    Handle(u32),
    #[error("look-up of an illegal name: {0}")]
    Name(#[from] NameError),
    #[error(transparent)]
    Fault(#[from] ReadFault),
}

impl Guest {
    pub fn new(reads: Box<dyn Reads>) -> Self {
        Self { reads, handles: Vec::new(), lookups: 0, calls: 0 }
    }

    fn count_call(&mut self) -> Result<(), Denied> {
        self.calls += 1;
        if self.calls > CONTRACT_CALLS { Err(Denied::Calls) } else { Ok(()) }
    }

    fn look_up(&mut self, name: &[u8], rtype: Rtype) -> Result<Resolution, Denied> {
        self.count_call()?;
        if self.lookups == CONTRACT_LOOKUPS {
            return Err(Denied::Lookups);
        }
        self.lookups += 1;
        Ok(self.reads.lookup(&Name::from_wire(name)?, rtype)?)
    }

    fn lend(&mut self, rrsets: Vec<Arc<Rrset>>) -> Vec<types::Answer> {
        rrsets.into_iter().map(|rrset| self.lend_one(rrset)).collect()
    }

    fn lend_one(&mut self, rrset: Arc<Rrset>) -> types::Answer {
        // At most `CONTRACT_LOOKUPS` look-ups of a few RRsets each.
        let handle = self.handles.len() as u32;
        self.handles.push(rrset);
        types::Answer::Stored(handle)
    }

    fn lent(&self, handle: u32) -> Result<types::Rrset, Denied> {
        let rrset = self.handles.get(handle as usize).ok_or(Denied::Handle(handle))?;
        Ok(types::Rrset {
            owner: rrset.owner.as_wire().to_vec(),
            rr_type: rrset.rtype.0,
            ttl: rrset.ttl,
            rdata: rrset.rdata.iter().map(|rdata| rdata.to_vec()).collect(),
        })
    }
}

impl registry::Host for Guest {
    fn lookup(&mut self, name: Vec<u8>, rr_type: u16) -> Result<types::Resolution> {
        Ok(match self.look_up(&name, Rtype(rr_type)).map_err(Error::new)? {
            Resolution::Records(rrsets) => types::Resolution::Records(self.lend(rrsets)),
            Resolution::Alias(rrsets) => types::Resolution::Alias(self.lend(rrsets)),
            Resolution::Delegation(rrsets) => types::Resolution::Delegation(self.lend(rrsets)),
            Resolution::NoData => types::Resolution::NoData,
            Resolution::NxDomain => types::Resolution::NxDomain,
        })
    }

    fn read(&mut self, handle: u32) -> Result<types::Rrset> {
        self.count_call().and_then(|()| self.lent(handle)).map_err(Error::new)
    }

    fn owner_key(&mut self) -> Result<Vec<u8>> {
        self.count_call().map_err(Error::new)?;
        Ok(self.reads.owner_key().map_or_else(Vec::new, |key| key.to_vec()))
    }

    fn owner_did(&mut self) -> Result<String> {
        self.count_call().map_err(Error::new)?;
        Ok(self.reads.owner_key().map_or_else(String::new, |key| SigilId(key).to_string()))
    }

    fn bound_contract(&mut self) -> Result<Vec<u8>> {
        self.count_call().map_err(Error::new)?;
        Ok(self.reads.bound_contract().map_or_else(Vec::new, |hash| hash.to_vec()))
    }

    fn parameters(&mut self) -> Result<Vec<u8>> {
        self.count_call().map_err(Error::new)?;
        Ok(self.reads.parameters().to_vec())
    }
}

impl types::Host for Guest {}

/// A guest that wants too much ends at once: told "no", most would trap a little later with less to say.
impl ResourceLimiter for Guest {
    fn memory_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        if desired > CONTRACT_MEMORY { Err(Error::new(Denied::Memory)) } else { Ok(true) }
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> Result<bool> {
        if desired > CONTRACT_TABLE { Err(Error::new(Denied::Memory)) } else { Ok(true) }
    }
}
