//! Guardians, as the API tells them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{AccountView, PAGE, Page, Service, ServiceError};
use crate::op::{Identity, SetId, SigilId};
use crate::registry::Snapshot;
use crate::state::guardians::{Attestor, Guard, GuardianSet, account_of};
use crate::state::{NameEntry, View as _};

/// `set.get`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetView {
    pub set: String,
    pub creator: String,
    /// Weight that speaks for it.
    pub threshold: u32,
    pub members: Vec<MemberView>,
    /// True if it is a member of other sets, in which the sets that it holds itself count nothing.
    pub nested: bool,
    /// Keys that stand in several places: each counts in one of them.
    #[serde(default)]
    pub once: Vec<String>,
    /// Sequence of the op that made it as it is.
    pub changed: u64,
    pub account: AccountView,
}

/// A member of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberView {
    /// DID of a sigil, or of a set.
    pub who: String,
    pub weight: u16,
    /// Of a member set: what is asked of it. Empty for a sigil.
    #[serde(default)]
    pub threshold: Option<u32>,
    #[serde(default)]
    pub members: Vec<Self>,
}

/// One row of `attestor.list`. Capacities are in mana.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestorView {
    pub who: String,
    /// 0: no more.
    pub max_level: u8,
    pub quota: u64,
    pub used: u64,
}

/// One row of `attestation.list`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttestationView {
    pub to: String,
    pub by: String,
    pub level: u8,
    pub until: u64,
    /// False once it has ended.
    pub live: bool,
}

/// What guardians have to say about a name, as `name.get` has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardView {
    #[serde(default)]
    pub cosign: Option<CosignView>,
    #[serde(default)]
    pub recovery: Option<RecoveryView>,
    #[serde(default)]
    pub pending: Option<PendingView>,
    /// Absent if the name is not frozen.
    #[serde(default)]
    pub frozen_until: Option<u64>,
}

/// Whose signatures what an owner does needs, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CosignView {
    pub set: String,
    /// `records`, `bind`, `renew`, beside what always needs them: transfer, release, changes of guardians.
    pub scopes: Vec<String>,
}

/// Who may recover and freeze.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryView {
    pub set: String,
    /// Seconds.
    pub delay: u64,
    /// Not before; absent if now.
    #[serde(default)]
    pub start_from: Option<u64>,
    #[serde(default)]
    pub freeze_from: Option<u64>,
}

/// A recovery under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingView {
    pub to: String,
    /// When it may be finished, and until when.
    pub ready: u64,
    pub lapses: u64,
}

impl GuardView {
    pub(super) fn new(entry: &NameEntry, now: u64) -> Option<Self> {
        let Guard { cosign, recovery, .. } = entry.guard.as_deref()?.clone();
        let guard = entry.guard();
        Some(Self {
            cosign: cosign.map(|cosign| CosignView {
                set: cosign.set.to_string(),
                scopes: cosign.scopes.iter().map(ToString::to_string).collect(),
            }),
            recovery: recovery.map(|recovery| RecoveryView {
                set: recovery.set.to_string(),
                delay: recovery.delay,
                start_from: Some(recovery.start_from).filter(|from| now < *from),
                freeze_from: Some(recovery.freeze_from).filter(|from| now < *from),
            }),
            pending: guard.pending_at(now).map(|pending| PendingView {
                to: pending.to.to_string(),
                ready: pending.ready,
                lapses: pending.lapses,
            }),
            frozen_until: guard.is_frozen(now).then_some(guard.frozen_until),
        })
    }
}

impl AttestorView {
    fn new(who: Identity, row: &Attestor, now: u64) -> Self {
        Self { who: who.to_string(), max_level: row.max_level, quota: row.quota, used: row.used(now) }
    }
}

impl Service {
    /// A guardian set, with the members of its member sets.
    ///
    /// # Errors
    /// [`ServiceError`]; so with everything below.
    pub fn guardian_set(&self, set: &str) -> Result<SetView, ServiceError> {
        let id: SetId = set.parse().map_err(|error: crate::op::NotASet| ServiceError::Bad(error.to_string()))?;
        let snapshot = self.snapshot()?;
        let row = snapshot.set(&id)?.ok_or_else(|| ServiceError::NotFound(id.to_string()))?;
        Ok(SetView {
            set: id.to_string(),
            creator: row.creator.to_string(),
            threshold: row.threshold,
            once: once(&snapshot, &row)?,
            members: members(&snapshot, &row, true)?,
            nested: row.parents > 0,
            changed: row.changed,
            account: AccountView::new(id.into(), &row.account, (self.clock)()),
        })
    }

    /// Everybody whom the operator has made an attestor, those after `after`.
    pub fn attestors(&self, after: Option<&str>) -> Result<Page<AttestorView>, ServiceError> {
        let (after, now) = (after.map(parse_identity).transpose()?, (self.clock)());
        let rows = self.snapshot()?.attestors(after, PAGE + 1)?;
        Ok(Page::of(rows.iter().map(|(who, row)| AttestorView::new(*who, row, now)).collect(), |row| row.who.clone()))
    }

    /// Whom an attestor has attested last, those after `after`, at most [`PAGE`].
    pub fn attestations(
        &self,
        by: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<AttestationView>, ServiceError> {
        let (by, after) = (parse_identity(by)?, after.map(parse_identity).transpose()?);
        let (snapshot, now) = (self.snapshot()?, (self.clock)());
        let mut rows = Vec::new();
        for to in snapshot.attested_by(by, after, limit.min(PAGE))? {
            let account = account_of(&snapshot, &to)?;
            let Some(last) = account.and_then(|account| account.attestation()) else { continue };
            let (to, by, live) = (to.to_string(), by.to_string(), now < last.until);
            rows.push(AttestationView { to, by, level: last.level, until: last.until, live });
        }
        Ok(rows)
    }
}

/// The members of a set; with those of its member sets, if `nested`.
fn members(snapshot: &Snapshot, set: &GuardianSet, nested: bool) -> Result<Vec<MemberView>, ServiceError> {
    let mut views = Vec::new();
    for member in &set.members {
        let inner = match member.who {
            Identity::Set(id) => snapshot.set(&id)?,
            Identity::Sigil(_) => None,
        };
        let threshold = inner.as_ref().map(|inner| inner.threshold);
        // Sets are nested once: what is deeper counts nothing.
        let members = match inner.filter(|_| nested) {
            Some(inner) => members(snapshot, &inner, false)?,
            None => Vec::new(),
        };
        views.push(MemberView { who: member.who.to_string(), weight: member.weight, threshold, members });
    }
    Ok(views)
}

/// Keys that stand in several places of a set.
fn once(snapshot: &Snapshot, set: &GuardianSet) -> Result<Vec<String>, ServiceError> {
    let mut places: BTreeMap<SigilId, usize> = BTreeMap::new();
    let mut note = |set: &GuardianSet| {
        set.members.iter().filter_map(|member| member.who.sigil()).for_each(|id| *places.entry(id).or_default() += 1);
    };
    note(set);
    for id in set.nested() {
        snapshot.set(&id)?.iter().for_each(&mut note);
    }
    Ok(places.into_iter().filter(|(_, count)| *count > 1).map(|(id, _)| id.to_string()).collect())
}

pub(super) fn parse_identity(did: &str) -> Result<Identity, ServiceError> {
    did.parse().map_err(|error: crate::op::NotAnIdentity| ServiceError::Bad(error.to_string()))
}
