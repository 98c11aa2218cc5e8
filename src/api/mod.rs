//! One service; JSON-RPC and what comes later are codecs over it.

mod exports;
mod guardians;
mod http;
mod jsonrpc;
mod ledger;
mod life;
pub mod log;
mod views;
mod workers;

pub use exports::Exports;
pub use guardians::{
    AttestationView, AttestorView, CosignView, GuardView, MemberView, PendingView, RecoveryView, SetView,
};
pub use jsonrpc::Rpc;
pub use ledger::{BalanceView, GasView, HoldView, MoveView, TokenView, UsageView};
pub use life::{AmountView, AutoRenewView, CommitmentView, LifeView, LockView, OfferView, TermsView};
pub use views::{
    AccountView, ContractView, CovenantView, InfoView, LoadView, LogView, NameView, QuoteView, RrsetView, TldView,
    UpdateKeyView, UpdateSecretView,
};

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::contract::ContractHost;
use crate::dnssec::{Rrsig, is_strict};
use crate::gateway::{Call, CallError, Called, Client, Gateway, Keys, OutOfGas, Tlds, Transport};
use crate::limits::{LOG_PAGE_BYTES, PAGE_BYTES, PAGE_SCAN, SUBMIT_OPS};
use crate::notary::Notary;
use crate::op::{self, CodeHash, Op, OpKind, Rejection, SigilId};
use crate::registry::{Fault, Registry};
use crate::state::guardians::account_of;
use crate::state::load::Load;
use crate::state::{Rules as _, View as _, Work};
use crate::wire::{Name, Rrset, Rtype, Subnet};
use crate::work::{Budget, Overdrawn, WorkMeter};
use crate::writer::{Admitted, Clock, Outcome, Writer};

/// Seconds before the end of a signature from which on it is renewed, and its owner warned.
pub const RESIGN_SOON: u64 = 14 * 86_400;

/// Rows in one page of a listing.
pub const PAGE: usize = 500;

/// Octets that one name of a listing is taken to have, beside its parameters.
const ROW_OCTETS: usize = 1_024;

/// Rows of a listing, and what to give as `after` for those that may follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    pub rows: Vec<T>,
    pub next: Option<String>,
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), next: None }
    }
}

impl<T> Page<T> {
    /// At most [`PAGE`] rows of one more, if there are so many; the next page begins after the last one's `key`.
    fn of(mut rows: Vec<T>, key: impl Fn(&T) -> String) -> Self {
        let more = rows.len() > PAGE;
        rows.truncate(PAGE);
        let next = rows.last().filter(|_| more).map(key);
        Self { rows, next }
    }
}

/// Everything the doors to the registry share.
pub struct Service {
    pub registry: Arc<Registry>,
    pub writer: Arc<Writer>,
    pub host: Arc<ContractHost>,
    pub tlds: Arc<Tlds>,
    pub keys: Arc<Keys>,
    pub gateway: Arc<Gateway>,
    pub notary: Arc<Notary>,
    /// All work is taken from it, at every door.
    pub work: Arc<WorkMeter>,
    pub exports: Exports,
    pub clock: Clock,
}

/// Why a request has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    #[error("{0}")]
    Bad(String),
    #[error("{0} not found")]
    NotFound(String),
    #[error("too many questions are waiting; ask again")]
    Busy,
    #[error(transparent)]
    OutOfGas(OutOfGas),
    #[error(transparent)]
    Overdrawn(#[from] Overdrawn),
    #[error("it could not be done")]
    Broken,
    #[error("the registry failed: {0}")]
    Fault(#[from] Fault),
}

impl From<CallError> for ServiceError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NoProgram(name) => Self::NotFound(format!("a program of {name}")),
            CallError::Fault(fault) => Self::Fault(fault),
            CallError::Busy => Self::Busy,
            CallError::OutOfGas(out) => Self::OutOfGas(out),
            CallError::Overdrawn(overdrawn) => Self::Overdrawn(overdrawn),
            other => Self::Bad(other.to_string()),
        }
    }
}

impl Service {
    /// Verifies ops and queues them in their order; gives one outcome each, once all are known. An accepted
    /// op is durable by then. At most [`SUBMIT_OPS`].
    ///
    /// # Errors
    /// [`ServiceError::Bad`] if there are too many; nothing was submitted then.
    pub async fn submit(self: &Arc<Self>, ops: Vec<Vec<u8>>, peer: IpAddr) -> Result<Vec<Outcome>, ServiceError> {
        if ops.is_empty() || ops.len() > SUBMIT_OPS {
            return Err(ServiceError::Bad(format!("submit 1 to {SUBMIT_OPS} ops at once")));
        }
        let service = self.clone();
        // Signatures and wasm validation take milliseconds: off the runtime's threads.
        let verified = tokio::task::spawn_blocking(move || service.verify_all(&ops, peer)).await;
        let verified = verified.map_err(|_| ServiceError::Bad("an op could not be checked".into()))??;
        let waiting: Vec<_> = verified.into_iter().map(|op| self.queue(op)).collect();
        let mut outcomes = Vec::with_capacity(waiting.len());
        for outcome in waiting {
            // The writer drops a reply only when it stops.
            outcomes.push(outcome.await.unwrap_or(Err(Rejection::Stopping)));
        }
        Ok(outcomes)
    }

    /// Checks ops as far as that can be done before they are applied; most of what is not acceptable goes at the gate.
    ///
    /// # Errors
    /// The store failed.
    pub fn verify_all(&self, ops: &[Vec<u8>], peer: IpAddr) -> Result<Vec<Result<Admitted, Rejection>>, Fault> {
        let (now, engine) = ((self.clock)(), self.gateway.engine());
        let client = Client::new(Transport::Https, peer);
        let (budget, mut snapshot) = (self.work.budget(client), self.registry.snapshot()?);
        let mut considered = Vec::with_capacity(ops.len());
        let mut stint = budget.stint();
        for op in ops {
            if let Err(overdrawn) = stint.step() {
                considered.push(Err(overdrawn.into()));
                continue;
            }
            let mut candidate = engine.consider(&engine.door(&snapshot, client, now), op);
            // Something was committed since, maybe what this one is waiting for.
            if matches!(candidate, Err(Rejection::Nonce { .. })) && self.registry.published() > snapshot.seq() {
                snapshot = self.registry.snapshot()?;
                candidate = engine.consider(&engine.door(&snapshot, client, now), op);
            }
            considered.push(candidate);
        }
        drop(stint);
        let door = engine.door(&snapshot, client, now);
        Ok(considered.into_iter().map(|candidate| engine.verify(&door, candidate?)).collect())
    }

    /// The covenants of a registered name or a TLD.
    pub fn covenants(&self, name: &str) -> Result<Vec<CovenantView>, ServiceError> {
        let name = parse_name(name)?;
        Ok(self.registry.snapshot()?.covenants(&name)?.iter().map(CovenantView::from).collect())
    }

    /// Drops machine code of what was not deployed after all: nobody has paid for it.
    fn forget(&self, hash: &CodeHash) {
        let code = self.registry.snapshot().and_then(|snapshot| self.tlds.code(&snapshot, hash));
        if code == Ok(None) {
            self.host.forget(&hash.0);
        }
    }

    fn queue(self: &Arc<Self>, op: Result<Admitted, Rejection>) -> oneshot::Receiver<Outcome> {
        let (sender, receiver) = oneshot::channel();
        match op {
            Ok(admitted) => {
                let deployed = match admitted.op.op() {
                    Op::DeployContract { wasm } => Some((self.clone(), CodeHash::of(wasm))),
                    _ => None,
                };
                let reply = move |outcome: Outcome| {
                    if let (Err(_), Some((service, hash))) = (&outcome, deployed) {
                        service.forget(&hash);
                    }
                    // A caller that went away does not want the outcome; the op stands all the same.
                    drop(sender.send(outcome));
                };
                self.writer.submit_admitted(admitted, Box::new(reply));
            }
            Err(rejection) => drop(sender.send(Err(rejection))),
        }
        receiver
    }

    /// What an op of a kind costs now: about a name, so long, with so many RRSIGs.
    ///
    /// # Errors
    /// [`ServiceError`]
    pub fn quote(&self, kind: &str, name: Option<&str>, work: Work) -> Result<QuoteView, ServiceError> {
        let known = OpKind::ALL.into_iter().find(|known| known.text() == kind);
        let kind = known.ok_or_else(|| ServiceError::Bad(format!("{kind:?} is no kind of op")))?;
        let name = name.map(parse_name).transpose()?;
        let load = self.load()?;
        let base = self.tlds.price(name.and_then(|name| name.parent()).as_ref(), kind, work);
        Ok(QuoteView { base, factor: load.factor, price: load.price(base) })
    }

    /// The write load as it is.
    ///
    /// # Errors
    /// The store failed.
    pub fn load(&self) -> Result<Load, ServiceError> {
        Ok(self.registry.snapshot()?.load()?.at((self.clock)()))
    }

    /// What a client must know before it signs anything.
    pub fn info(&self) -> Result<InfoView, ServiceError> {
        let snapshot = self.registry.snapshot()?;
        Ok(InfoView::new(
            &self.registry,
            &self.tlds,
            &self.keys.get(),
            SigilId::from(&self.gateway.engine().sigil.verifying_key()),
            snapshot.last_seq()?,
            snapshot.counts()?,
            (self.clock)(),
        ))
    }

    /// An identity's account; the default one of a sigil that has never been seen.
    pub fn account(&self, did: &str) -> Result<AccountView, ServiceError> {
        let id = guardians::parse_identity(did)?;
        let account = account_of(&self.registry.snapshot()?, &id)?;
        let account = account.ok_or_else(|| ServiceError::NotFound(id.to_string()))?;
        Ok(AccountView::new(id, &account, (self.clock)()))
    }

    /// The accounts of up to [`PAGE`] identities, in their order.
    pub fn accounts(&self, dids: &[String]) -> Result<Vec<AccountView>, ServiceError> {
        if dids.len() > PAGE {
            return Err(ServiceError::Bad(format!("at most {PAGE} identities at once")));
        }
        let (snapshot, now) = (self.registry.snapshot()?, (self.clock)());
        let view = |did: &String| {
            let id = guardians::parse_identity(did)?;
            let account = account_of(&snapshot, &id)?.ok_or_else(|| ServiceError::NotFound(id.to_string()))?;
            Ok(AccountView::new(id, &account, now))
        };
        dids.iter().map(view).collect()
    }

    /// A registered name.
    pub fn name(&self, name: &str) -> Result<NameView, ServiceError> {
        let name = parse_name(name)?;
        let snapshot = self.registry.snapshot()?;
        let entry = snapshot.name(&name)?.ok_or_else(|| ServiceError::NotFound(name.to_string()))?;
        self.name_view(&snapshot, &name, &entry)
    }

    /// Names after `after` in canonical order, at most [`PAGE`]; only those of `owner` if given, among the next
    /// [`PAGE_SCAN`].
    pub fn names(
        &self,
        after: Option<&str>,
        owner: Option<&str>,
        limit: usize,
    ) -> Result<Page<NameView>, ServiceError> {
        let mut after = after.map(parse_name).transpose()?;
        let owner = owner.map(str::parse::<SigilId>).transpose().map_err(|e| ServiceError::Bad(e.to_string()))?;
        let (snapshot, limit) = (self.registry.snapshot()?, limit.clamp(1, PAGE));
        let (mut page, mut octets, mut looked_at) = (Page::default(), 0, 0);
        while looked_at < PAGE_SCAN {
            let rows = snapshot.names_after(after.as_ref(), limit)?;
            let more = rows.len() == limit;
            looked_at += rows.len();
            for (name, entry) in rows {
                if owner.is_none_or(|owner| entry.owner == owner) {
                    octets += ROW_OCTETS + 2 * entry.parameters.len();
                    if octets > PAGE_BYTES || page.rows.len() >= limit {
                        page.next = after.map(|after| after.to_string());
                        return Ok(page);
                    }
                    page.rows.push(self.name_view(&snapshot, &name, &entry)?);
                }
                after = Some(name);
            }
            if !more {
                return Ok(page);
            }
            if page.rows.len() >= limit {
                break;
            }
        }
        page.next = after.map(|after| after.to_string());
        Ok(page)
    }

    /// RRsets stored at and below a registered name, those after `after`: `OWNER TYPE`.
    pub fn records(&self, name: &str, after: Option<&str>) -> Result<Page<RrsetView>, ServiceError> {
        let name = parse_name(name)?;
        let snapshot = self.registry.snapshot()?;
        if snapshot.name(&name)?.is_none() {
            return Err(ServiceError::NotFound(name.to_string()));
        }
        let after = after.map(parse_rrset_key).transpose()?;
        let after = after.as_ref().map(|(owner, rtype)| (owner, *rtype));
        let (rrsets, rest) = snapshot.rrsets_after(&name, after, PAGE, PAGE_BYTES / 4)?;
        // Without the owner's RRSIG, a delegated zone's data is signed by the gateway; without keys there is no zone.
        let online = snapshot.rrset(&name, Rtype::DNSKEY)?.is_some_and(|keys| !is_strict(&keys));
        let view = |rrset: &Rrset| match rrset.rrsigs.is_empty() && online && !op::is_parent_side(rrset, &name) {
            true => RrsetView { signed_by: "online".into(), ..RrsetView::from(rrset) },
            false => RrsetView::from(rrset),
        };
        let next = rest.map(|(owner, rtype)| format!("{owner} {rtype}"));
        Ok(Page { rows: rrsets.iter().map(view).collect(), next })
    }

    /// The update keys of a registered name, those that have ended included.
    pub fn update_keys(&self, name: &str) -> Result<Vec<UpdateKeyView>, ServiceError> {
        let name = parse_name(name)?;
        let snapshot = self.registry.snapshot()?;
        if snapshot.name(&name)?.is_none() {
            return Err(ServiceError::NotFound(name.to_string()));
        }
        let now = (self.clock)();
        Ok(snapshot.updates(&name)?.keys.iter().map(|key| UpdateKeyView::new(&name, key, now)).collect())
    }

    /// The secret of an update key, to its name's owner who has signed the request just now.
    pub fn update_secret(&self, request: &[u8]) -> Result<UpdateSecretView, ServiceError> {
        let bad = |rejection: Rejection| ServiceError::Bad(rejection.to_string());
        let now = (self.clock)();
        let (author, request) = op::SecretRequest::open(request, self.registry.id(), now).map_err(bad)?;
        let (name, label) = (request.name, request.label);
        let snapshot = self.registry.snapshot()?;
        let entry = snapshot.name(&name)?.filter(|entry| entry.is_live(now) && entry.owner == author);
        entry.ok_or_else(|| bad(Rejection::NotOwner(name.clone())))?;
        let updates = snapshot.updates(&name)?;
        let missing = || ServiceError::NotFound(format!("update key {label:?} of {name}"));
        let key = updates.key(&label, now).ok_or_else(missing)?;
        let key_name = op::key_name(&name, &label).map_err(|_| missing())?;
        let secret = self.gateway.engine().update_key_secret(&key_name, key.issued);
        Ok(UpdateSecretView::new(&key_name, &secret, key.expires))
    }

    /// A deployed or shipped contract.
    pub fn contract(&self, hash: &str) -> Result<ContractView, ServiceError> {
        let code = self.code(hash)?;
        Ok(ContractView::new(CodeHash::of(&code), &code))
    }

    /// The octets of a contract.
    pub fn code(&self, hash: &str) -> Result<Vec<u8>, ServiceError> {
        let hash = CodeHash::from_hex(hash).ok_or_else(|| ServiceError::Bad("hash must be 64 hex digits".into()))?;
        let code = self.tlds.code(&self.registry.snapshot()?, &hash)?;
        code.ok_or_else(|| ServiceError::NotFound(hash.to_string()))
    }

    /// The receipt of an answer to `asker`, made anew: a receipt file.
    ///
    /// # Errors
    /// [`ServiceError`]
    pub async fn receipt(
        &self,
        name: &str,
        rtype: &str,
        asker: Option<Subnet>,
        budget: &Budget,
    ) -> Result<Vec<u8>, ServiceError> {
        let name = parse_name(name)?;
        let rtype = rtype.parse().map_err(|_| ServiceError::Bad(format!("{rtype:?} is not a record type")))?;
        if self.gateway.is_warm(&name) {
            return Ok(self.gateway.receipt_here(&name, rtype, asker)?);
        }
        let (sender, receiver) = oneshot::channel();
        self.gateway.receipt(name, rtype, asker, budget.clone(), |receipt| drop(sender.send(receipt)));
        Ok(receiver.await.unwrap_or(Err(CallError::Busy))?)
    }

    /// Calls the program of a name.
    ///
    /// # Errors
    /// [`ServiceError`]; what the program itself says is no error.
    pub async fn call(&self, call: Call, budget: &Budget) -> Result<Called, ServiceError> {
        if self.gateway.is_warm(&call.name) {
            return Ok(self.gateway.call_here(&call)?);
        }
        let (sender, receiver) = oneshot::channel();
        self.gateway.call(call, budget.clone(), |called| drop(sender.send(called)));
        Ok(receiver.await.unwrap_or(Err(CallError::Busy))?)
    }

    /// Live names whose DNSKEY RRset holds the online key with this DNSKEY RDATA and none of `others`.
    ///
    /// # Errors
    /// The store failed.
    pub fn dependents(&self, key: &[u8], others: &[Vec<u8>]) -> Result<usize, ServiceError> {
        let (snapshot, now) = (self.registry.snapshot()?, (self.clock)());
        let mut after: Option<Name> = None;
        let mut count = 0;
        loop {
            let page = snapshot.names_after(after.as_ref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(count) };
            after = Some(last.clone());
            for (name, _) in page.iter().filter(|(_, entry)| entry.is_live(now)) {
                let Some(keys) = snapshot.rrset(name, Rtype::DNSKEY)? else { continue };
                let held = |key: &[u8]| keys.rdata.iter().any(|held| **held == *key);
                count += usize::from(held(key) && !others.iter().any(|other| held(other)));
            }
        }
    }

    /// Live names that have an owner's RRSIG which ends within [`RESIGN_SOON`], and those with one that has ended.
    ///
    /// # Errors
    /// The store failed.
    pub fn names_to_resign(&self) -> Result<(u64, u64), ServiceError> {
        let (snapshot, now) = (self.registry.snapshot()?, (self.clock)());
        let mut after: Option<Name> = None;
        let (mut soon, mut overdue) = (0, 0);
        loop {
            let page = snapshot.names_after(after.as_ref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok((soon, overdue)) };
            after = Some(last.clone());
            for (name, _) in page.iter().filter(|(_, entry)| entry.is_live(now)) {
                let rrsets = snapshot.rrsets_below(name)?;
                let rrsigs = rrsets.iter().flat_map(|rrset| &rrset.rrsigs).filter_map(|rrsig| Rrsig::parse(rrsig).ok());
                match rrsigs.map(|rrsig| rrsig.seconds_left(now)).min() {
                    Some(left) if left <= 0 => overdue += 1,
                    Some(left) if left as u64 <= RESIGN_SOON => soon += 1,
                    _ => {}
                }
            }
        }
    }

    /// Log entries from `from` on, at most [`PAGE`], and of a few megaoctets if there are more than one.
    pub fn log(&self, from: u64, limit: usize) -> Result<Vec<LogView>, ServiceError> {
        let entries = self.registry.snapshot()?.log_entries(from, limit.min(PAGE), LOG_PAGE_BYTES)?;
        Ok(entries.iter().map(|(seq, entry)| LogView::new(*seq, entry)).collect())
    }
}

/// `OWNER TYPE`
fn parse_rrset_key(text: &str) -> Result<(Name, Rtype), ServiceError> {
    let bad = || ServiceError::Bad(format!("{text:?} is not the owner and type of an RRset"));
    let (owner, rtype) = text.rsplit_once(' ').ok_or_else(bad)?;
    Ok((parse_name(owner)?, rtype.parse().map_err(|_| bad())?))
}

fn parse_name(text: &str) -> Result<Name, ServiceError> {
    Name::from_user(text).map_err(|error| ServiceError::Bad(format!("{text:?} is not a name: {error}")))
}
