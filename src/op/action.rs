//! What ops do to names, as far as it takes authority: to owners, keys, delegations, guardians, records.

use std::fmt;

use super::{Op, RrsetKey, Scope, SignedUpdate};
use crate::wire::update::Edit;
use crate::wire::{Name, Rrset, Rtype};

/// One thing that is done to a name. [`crate::state`] says for each who may, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Takes a name that nobody has.
    Register,
    Renew,
    Restore,
    /// Renews by the owner's plan.
    AutoRenew,
    /// Makes, changes or ends the plan.
    Plan,
    /// Puts or deletes records.
    Records,
    /// Changes which of its owner's keys sign the zone: DNSKEY (flags 257), CDS, CDNSKEY at the name.
    ZoneKeys,
    /// Changes where the name is delegated to: NS at the name.
    Delegation,
    /// Makes a contract answer.
    Contract,
    /// Gives the name back to the TLD's default contract.
    Unbind,
    Covenants,
    IssueKey,
    RevokeKey,
    Transfer,
    Offer,
    Accept,
    Withdraw,
    Release,
    Lock,
    Unlock,
    /// Says whose signatures the owner's ops need.
    Cosign,
    /// Says which set may recover and freeze.
    Recovery,
    StartRecovery,
    VetoRecovery,
    FinishRecovery,
    Freeze,
    Unfreeze,
}

/// Whether a co-signature rule covers an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    Always,
    /// Where the owner has asked for it.
    In(Scope),
    /// Others than the owner do it, or it is what must always be left to an owner.
    Never,
}

impl Action {
    /// All of them, in order.
    pub const ALL: [Self; 27] = [
        Self::Register,
        Self::Renew,
        Self::Restore,
        Self::AutoRenew,
        Self::Plan,
        Self::Records,
        Self::ZoneKeys,
        Self::Delegation,
        Self::Contract,
        Self::Unbind,
        Self::Covenants,
        Self::IssueKey,
        Self::RevokeKey,
        Self::Transfer,
        Self::Offer,
        Self::Accept,
        Self::Withdraw,
        Self::Release,
        Self::Lock,
        Self::Unlock,
        Self::Cosign,
        Self::Recovery,
        Self::StartRecovery,
        Self::VetoRecovery,
        Self::FinishRecovery,
        Self::Freeze,
        Self::Unfreeze,
    ];

    /// The words of the table in the documents.
    pub fn text(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Renew => "renew",
            Self::Restore => "restore",
            Self::AutoRenew => "renew by plan",
            Self::Plan => "set the plan",
            Self::Records => "records",
            Self::ZoneKeys => "zone keys",
            Self::Delegation => "delegation",
            Self::Contract => "bind a contract",
            Self::Unbind => "unbind the contract",
            Self::Covenants => "covenants",
            Self::IssueKey => "issue an update key",
            Self::RevokeKey => "revoke an update key",
            Self::Transfer => "transfer",
            Self::Offer => "offer",
            Self::Accept => "accept",
            Self::Withdraw => "withdraw",
            Self::Release => "release",
            Self::Lock => "lock",
            Self::Unlock => "unlock",
            Self::Cosign => "co-signature rule",
            Self::Recovery => "recovery set",
            Self::StartRecovery => "start a recovery",
            Self::VetoRecovery => "veto a recovery",
            Self::FinishRecovery => "finish a recovery",
            Self::Freeze => "freeze",
            Self::Unfreeze => "end a freeze",
        }
    }

    /// Whether it needs the signatures that the owner's co-signature rule asks for.
    pub fn consent(self) -> Consent {
        match self {
            Self::Records | Self::ZoneKeys | Self::Delegation => Consent::In(Scope::Records),
            Self::Contract | Self::Unbind => Consent::In(Scope::Bind),
            Self::Renew | Self::Restore => Consent::In(Scope::Renew),
            Self::Plan
            | Self::Covenants
            | Self::IssueKey
            | Self::RevokeKey
            | Self::Transfer
            | Self::Offer
            | Self::Accept
            | Self::Release
            | Self::Lock
            | Self::Unlock
            | Self::Cosign
            | Self::Recovery => Consent::Always,
            Self::Register
            | Self::AutoRenew
            | Self::Withdraw
            | Self::StartRecovery
            | Self::VetoRecovery
            | Self::FinishRecovery
            | Self::Freeze
            | Self::Unfreeze => Consent::Never,
        }
    }

    /// True for what a name's own covenants have no say in: whoever holds the owner's key binds them, and must not bind
    /// the guardians, who act against that key.
    pub fn is_above_covenants(self) -> bool {
        match self {
            Self::StartRecovery | Self::VetoRecovery | Self::FinishRecovery | Self::Freeze | Self::Unfreeze => true,
            Self::Register
            | Self::Renew
            | Self::Restore
            | Self::AutoRenew
            | Self::Plan
            | Self::Records
            | Self::ZoneKeys
            | Self::Delegation
            | Self::Contract
            | Self::Unbind
            | Self::Covenants
            | Self::IssueKey
            | Self::RevokeKey
            | Self::Transfer
            | Self::Offer
            | Self::Accept
            | Self::Withdraw
            | Self::Release
            | Self::Lock
            | Self::Unlock
            | Self::Cosign
            | Self::Recovery => false,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Op {
    /// What the op may do to the names that it is about, told from its content. No wildcard: a new kind of op does not
    /// compile without an answer.
    pub fn actions(&self) -> Vec<Action> {
        match self {
            Self::Register { .. } | Self::Reveal { .. } => vec![Action::Register],
            Self::Renew { .. } => vec![Action::Renew],
            Self::Restore { .. } => vec![Action::Restore],
            Self::RenewDue { .. } => vec![Action::AutoRenew],
            Self::SetAutoRenew { .. } => vec![Action::Plan],
            Self::PutRecords { name, rrsets, .. } => of_records(name, rrsets.iter().map(place)),
            Self::DeleteRecords { name, keys } => of_records(name, keys.iter().map(|key| (&key.owner, key.rtype))),
            Self::Update { update } | Self::UpdateByKey { update, .. } => of_update(update),
            Self::BindContract { contract: Some(_), .. } => vec![Action::Contract],
            Self::BindContract { contract: None, .. } => vec![Action::Unbind],
            Self::BindCovenants { .. } => vec![Action::Covenants],
            Self::IssueUpdateKey { .. } => vec![Action::IssueKey],
            Self::RevokeUpdateKey { .. } => vec![Action::RevokeKey],
            Self::Transfer { .. } => vec![Action::Transfer],
            Self::Offer { .. } => vec![Action::Offer],
            Self::Accept { .. } => vec![Action::Accept],
            Self::Withdraw { .. } => vec![Action::Withdraw],
            Self::Release { .. } => vec![Action::Release],
            Self::Lock { .. } => vec![Action::Lock],
            Self::Unlock { .. } => vec![Action::Unlock],
            Self::RequireCosign { .. } => vec![Action::Cosign],
            Self::SetRecovery { .. } => vec![Action::Recovery],
            Self::StartRecovery { .. } => vec![Action::StartRecovery],
            Self::VetoRecovery { .. } => vec![Action::VetoRecovery],
            Self::FinishRecovery { .. } => vec![Action::FinishRecovery],
            Self::Freeze { until: Some(_), .. } => vec![Action::Freeze],
            Self::Freeze { until: None, .. } => vec![Action::Unfreeze],
            // About no name: contracts, mana, the ledger, gas, sets, attestors. A commitment tells none.
            Self::DeployContract { .. }
            | Self::GrantMana { .. }
            | Self::CreateToken { .. }
            | Self::SetAuthority { .. }
            | Self::Mint { .. }
            | Self::Burn { .. }
            | Self::Pay { .. }
            | Self::Hold { .. }
            | Self::CloseHold { .. }
            | Self::SetGas { .. }
            | Self::SettleGas { .. }
            | Self::SetLoad { .. }
            | Self::PutSet { .. }
            | Self::SetAttestor { .. }
            | Self::Attest { .. }
            | Self::RevokeAttestation { .. }
            | Self::Commit { .. } => Vec::new(),
        }
    }
}

/// The action that changing an RRset is beside [`Action::Records`].
pub(crate) fn beside_records(name: &Name, owner: &Name, rtype: Rtype) -> Option<Action> {
    match rtype {
        _ if owner != name => None,
        Rtype::DNSKEY | Rtype::CDS | Rtype::CDNSKEY => Some(Action::ZoneKeys),
        Rtype::NS => Some(Action::Delegation),
        _ => None,
    }
}

fn place(rrset: &Rrset) -> (&Name, Rtype) {
    (&rrset.owner, rrset.rtype)
}

fn of_records<'a>(name: &Name, places: impl Iterator<Item = (&'a Name, Rtype)>) -> Vec<Action> {
    let mut actions = vec![Action::Records];
    actions.extend(places.filter_map(|(owner, rtype)| beside_records(name, owner, rtype)));
    actions.sort_unstable();
    actions.dedup();
    actions
}

fn of_update(update: &SignedUpdate) -> Vec<Action> {
    let place = |edit: &Edit| match edit {
        Edit::Add { owner, rtype, .. } | Edit::DeleteRrset(owner, rtype) | Edit::DeleteRecord(owner, rtype, _) => {
            Some(RrsetKey { owner: owner.clone(), rtype: *rtype })
        }
        // Of a name itself, this passes over its keys and its NS.
        Edit::DeleteName(_) => None,
    };
    let places: Vec<RrsetKey> = update.transaction().edits.iter().filter_map(place).collect();
    of_records(update.name(), places.iter().map(|key| (&key.owner, key.rtype)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_listed_once_and_in_order() {
        assert!(Action::ALL.windows(2).all(|pair| pair[0] < pair[1]));
        let texts: std::collections::BTreeSet<&str> = Action::ALL.iter().map(|action| action.text()).collect();
        assert_eq!(texts.len(), Action::ALL.len());
    }

    #[test]
    fn keys_and_delegation_are_more_than_records() {
        let name = Name::from_user("a.ghost").unwrap();
        let key = |owner: &str, rtype| RrsetKey { owner: Name::from_user(owner).unwrap(), rtype };
        let actions = |keys: Vec<RrsetKey>| Op::DeleteRecords { name: name.clone(), keys }.actions();
        assert_eq!(actions(vec![key("a.ghost", Rtype::A), key("x.a.ghost", Rtype::NS)]), [Action::Records]);
        let all = vec![key("a.ghost", Rtype::NS), key("a.ghost", Rtype::CDS), key("a.ghost", Rtype::DNSKEY)];
        assert_eq!(actions(all), [Action::Records, Action::ZoneKeys, Action::Delegation]);
    }
}
