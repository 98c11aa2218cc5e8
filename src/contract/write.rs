//! A write, as a covenant sees it.

use super::bindings::ghostplane::contract::{types, writes};
use super::rdata::from_wire;
use crate::op::{Op, SigilId};
use crate::wire::Rrset;

/// An op about a name, on its way to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write<'a> {
    pub author: SigilId,
    /// Seconds since 1970.
    pub time: u64,
    pub op: &'a Op,
}

impl Write<'_> {
    /// `None` for an op that is about no name: no covenant has a say in it.
    pub(super) fn typed(&self) -> Option<writes::Write> {
        let name = self.op.name()?.as_wire().to_vec();
        let change = match self.op {
            Op::Register { years, .. } | Op::Reveal { years, .. } => writes::Change::Register(*years),
            Op::Renew { years, .. } | Op::Restore { years, .. } => writes::Change::Renew(*years),
            // An offer is the owner's will to transfer: judged when it is made, not again when it is accepted.
            Op::Transfer { to, .. } | Op::Offer { to, .. } => writes::Change::Transfer(to.0.to_vec()),
            Op::Release { .. } => writes::Change::Release,
            Op::PutRecords { rrsets, .. } => writes::Change::PutRecords(rrsets.iter().map(rrset).collect()),
            Op::DeleteRecords { keys, .. } => {
                let key = |key: &crate::op::RrsetKey| writes::RrsetKey {
                    owner: key.owner.as_wire().to_vec(),
                    rr_type: key.rtype.0,
                };
                writes::Change::DeleteRecords(keys.iter().map(key).collect())
            }
            Op::BindContract { contract, .. } => {
                writes::Change::BindContract(contract.map(|contract| contract.0.to_vec()))
            }
            _ => return None,
        };
        Some(writes::Write { author: self.author.0.to_vec(), name, time: self.time, change })
    }
}

fn rrset(rrset: &Rrset) -> types::Rrset {
    types::Rrset {
        owner: rrset.owner.as_wire().to_vec(),
        rr_type: rrset.rtype.0,
        ttl: rrset.ttl,
        rdata: rrset.rdata.iter().map(|data| from_wire(rrset.rtype, data)).collect(),
    }
}
