//! A write, as a covenant sees it.

use super::bindings::ghostplane::contract::{types, writes};
use super::rdata::from_wire;
use crate::op::{Identity, Op, SigilId, SignedUpdate};
use crate::wire::update::Edit;
use crate::wire::{Name, Rrset, Rtype};

/// An op about a name, on its way to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Write<'a> {
    pub author: Identity,
    /// Seconds since 1970.
    pub time: u64,
    pub op: &'a Op,
    /// Owner of the name, if it is registered.
    pub owner: Option<SigilId>,
    /// Attestation level of the author.
    pub level: u8,
    /// Names under the same TLD that the author owns.
    pub names: u32,
    /// Who signed beside the author.
    pub cosigners: &'a [SigilId],
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
                writes::Change::DeleteRecords(keys.iter().map(|key| rrset_key(&key.owner, key.rtype)).collect())
            }
            Op::BindContract { contract, .. } => {
                writes::Change::BindContract(contract.map(|contract| contract.0.to_vec()))
            }
            Op::BindCovenants { covenants, .. } => {
                writes::Change::BindCovenants(covenants.iter().map(|covenant| covenant.code.0.to_vec()).collect())
            }
            Op::Update { update } | Op::UpdateByKey { update, .. } => updated(update),
            other => writes::Change::Other(other.kind().text().to_owned()),
        };
        Some(writes::Write {
            author: self.author.to_octets(),
            name,
            time: self.time,
            change,
            owner: self.owner.map(|owner| owner.0.to_vec()),
            level: self.level,
            names: self.names,
            cosigners: self.cosigners.iter().map(|id| id.0.to_vec()).collect(),
        })
    }
}

/// A DNS UPDATE as the records that it adds; as those that it deletes, if it adds none.
fn updated(update: &SignedUpdate) -> writes::Change {
    let (mut added, mut deleted) = (Vec::new(), Vec::new());
    for edit in &update.transaction().edits {
        match edit {
            Edit::Add { owner, rtype, ttl, rdata } => {
                added.push(rrset(&Rrset::new(owner.clone(), *rtype, *ttl, [rdata.clone()])));
            }
            Edit::DeleteRrset(owner, rtype) | Edit::DeleteRecord(owner, rtype, _) => {
                deleted.push(rrset_key(owner, *rtype));
            }
            Edit::DeleteName(owner) => deleted.push(rrset_key(owner, Rtype::ANY)),
        }
    }
    if added.is_empty() { writes::Change::DeleteRecords(deleted) } else { writes::Change::PutRecords(added) }
}

fn rrset_key(owner: &Name, rtype: Rtype) -> writes::RrsetKey {
    writes::RrsetKey { owner: owner.as_wire().to_vec(), rr_type: rtype.0 }
}

fn rrset(rrset: &Rrset) -> types::Rrset {
    types::Rrset {
        owner: rrset.owner.as_wire().to_vec(),
        rr_type: rrset.rtype.0,
        ttl: rrset.ttl,
        rdata: rrset.rdata.iter().map(|data| from_wire(rrset.rtype, data)).collect(),
    }
}
