//! One service; JSON-RPC and what comes later are codecs over it.

mod http;
mod jsonrpc;
mod views;

pub use jsonrpc::Rpc;
pub use views::{AccountView, ContractView, InfoView, LogView, NameView, RrsetView, TldView};

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::contract::{ContractError, ContractHost};
use crate::dnssec::Rrsig;
use crate::gateway::{self, Call, CallError, Called, Gateway, Keys, Tlds};
use crate::limits::{MAX_EXPORT, SUBMIT_OPS};
use crate::op::{self, CodeHash, Op, Rejection, SigilId, VerifiedOp};
use crate::registry::{Fault, Registry};
use crate::state::{Rules as _, View as _};
use crate::wire::{Name, Rtype, Subnet};
use crate::writer::{Clock, Outcome, Writer};
use crate::zone::export::to_master_file;

/// Seconds before the end of a signature from which on it is renewed, and its owner warned.
pub const RESIGN_SOON: u64 = 14 * 86_400;

/// Rows in one page of a listing.
pub const PAGE: usize = 500;

/// Everything the doors to the registry share.
pub struct Service {
    pub registry: Arc<Registry>,
    pub writer: Writer,
    pub host: Arc<ContractHost>,
    pub tlds: Arc<Tlds>,
    pub keys: Arc<Keys>,
    pub gateway: Arc<Gateway>,
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
    #[error("the registry failed: {0}")]
    Fault(#[from] Fault),
}

impl From<CallError> for ServiceError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NoProgram(name) => Self::NotFound(format!("a program of {name}")),
            CallError::Fault(fault) => Self::Fault(fault),
            CallError::Busy => Self::Busy,
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
    pub async fn submit(self: &Arc<Self>, ops: Vec<Vec<u8>>) -> Result<Vec<Outcome>, ServiceError> {
        if ops.is_empty() || ops.len() > SUBMIT_OPS {
            return Err(ServiceError::Bad(format!("submit 1 to {SUBMIT_OPS} ops at once")));
        }
        let service = self.clone();
        // Signatures and wasm validation take milliseconds: off the runtime's threads.
        let verified = tokio::task::spawn_blocking(move || service.verify_all(&ops)).await;
        let verified = verified.map_err(|_| ServiceError::Bad("an op could not be checked".into()))?;
        let waiting: Vec<_> = verified.into_iter().map(|op| self.queue(op)).collect();
        let mut outcomes = Vec::with_capacity(waiting.len());
        for outcome in waiting {
            // The writer drops a reply only when it stops.
            outcomes.push(outcome.await.unwrap_or(Err(Rejection::Stopping)));
        }
        Ok(outcomes)
    }

    fn verify_all(&self, ops: &[Vec<u8>]) -> Vec<Result<VerifiedOp, Rejection>> {
        let now = (self.clock)();
        ops.iter().map(|bytes| self.verify(bytes, now)).collect()
    }

    fn verify(&self, bytes: &[u8], now: u64) -> Result<VerifiedOp, Rejection> {
        let verified = op::verify(bytes, self.registry.id(), now)?;
        if let Op::DeployContract { wasm } = verified.op() {
            self.check_funds(&verified, now)?;
            self.host.check(wasm).map_err(|error| match error {
                ContractError::Busy => Rejection::Busy,
                error => Rejection::ContractInvalid(error.to_string()),
            })?;
        }
        Ok(verified)
    }

    /// Compiling a contract costs far more than looking into an account: who cannot pay is told so first.
    /// What counts is still decided by `apply`.
    fn check_funds(&self, op: &VerifiedOp, now: u64) -> Result<(), Rejection> {
        let account = self.registry.snapshot().and_then(|snapshot| snapshot.account(&op.author()));
        let account = account.map_err(|fault| Rejection::Fault(fault.0))?;
        account.pay(now, self.tlds.price(None, op.op().kind(), op.bytes().len())).map(drop)
    }

    fn queue(&self, op: Result<VerifiedOp, Rejection>) -> oneshot::Receiver<Outcome> {
        let (sender, receiver) = oneshot::channel();
        // A caller that went away does not want the outcome; the op stands all the same.
        let reply = |outcome| drop(sender.send(outcome));
        match op {
            Ok(op) => self.writer.submit(op, Box::new(reply)),
            Err(rejection) => reply(Err(rejection)),
        }
        receiver
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

    /// An identity's account; the default one if it has never been seen.
    pub fn account(&self, did: &str) -> Result<AccountView, ServiceError> {
        let id: SigilId = did.parse().map_err(|error: op::NotADid| ServiceError::Bad(error.to_string()))?;
        let account = self.registry.snapshot()?.account(&id)?;
        Ok(AccountView::new(id, &account, (self.clock)()))
    }

    /// The accounts of up to [`PAGE`] identities, in their order.
    pub fn accounts(&self, dids: &[String]) -> Result<Vec<AccountView>, ServiceError> {
        if dids.len() > PAGE {
            return Err(ServiceError::Bad(format!("at most {PAGE} identities at once")));
        }
        dids.iter().map(|did| self.account(did)).collect()
    }

    /// A registered name.
    pub fn name(&self, name: &str) -> Result<NameView, ServiceError> {
        let name = parse_name(name)?;
        let entry = self.registry.snapshot()?.name(&name)?;
        let entry = entry.ok_or_else(|| ServiceError::NotFound(name.to_string()))?;
        Ok(NameView::new(&name, &entry, (self.clock)()))
    }

    /// Names after `after` in canonical order, at most [`PAGE`]; only those of `owner` if given.
    pub fn names(&self, after: Option<&str>, owner: Option<&str>, limit: usize) -> Result<Vec<NameView>, ServiceError> {
        let after = after.map(parse_name).transpose()?;
        let owner = owner.map(str::parse::<SigilId>).transpose().map_err(|e| ServiceError::Bad(e.to_string()))?;
        let now = (self.clock)();
        let rows = self.registry.snapshot()?.names_after(after.as_ref(), limit.min(PAGE))?;
        let wanted = rows.iter().filter(|(_, entry)| owner.is_none_or(|owner| entry.owner == owner));
        Ok(wanted.map(|(name, entry)| NameView::new(name, entry, now)).collect())
    }

    /// RRsets stored at and below a registered name.
    pub fn records(&self, name: &str) -> Result<Vec<RrsetView>, ServiceError> {
        let name = parse_name(name)?;
        let snapshot = self.registry.snapshot()?;
        if snapshot.name(&name)?.is_none() {
            return Err(ServiceError::NotFound(name.to_string()));
        }
        Ok(snapshot.rrsets_below(&name)?.iter().map(RrsetView::from).collect())
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
    pub async fn receipt(&self, name: &str, rtype: &str, asker: Option<Subnet>) -> Result<Vec<u8>, ServiceError> {
        let name = parse_name(name)?;
        let rtype = rtype.parse().map_err(|_| ServiceError::Bad(format!("{rtype:?} is not a record type")))?;
        let (sender, receiver) = oneshot::channel();
        self.gateway.receipt(name, rtype, asker, |receipt| drop(sender.send(receipt)));
        Ok(receiver.await.unwrap_or(Err(CallError::Busy))?)
    }

    /// Calls the program of a name.
    ///
    /// # Errors
    /// [`ServiceError`]; what the program itself says is no error.
    pub async fn call(&self, call: Call) -> Result<Called, ServiceError> {
        let (sender, receiver) = oneshot::channel();
        self.gateway.call(call, |called| drop(sender.send(called)));
        Ok(receiver.await.unwrap_or(Err(CallError::Busy))?)
    }

    /// The master file of a TLD or a registered name, signed, with its ZONEMD.
    pub fn zone(&self, name: &str) -> Result<String, ServiceError> {
        let apex = parse_name(name)?;
        let snapshot = Arc::new(self.registry.snapshot()?);
        let contents = gateway::export(&self.tlds, &self.keys.get(), snapshot, (self.clock)(), &apex)?;
        let contents = contents.ok_or_else(|| ServiceError::NotFound(format!("zone {apex}")))?;
        let text = to_master_file(&apex, &contents);
        if text.len() > MAX_EXPORT {
            return Err(ServiceError::Bad(format!("zone {apex} is longer than {MAX_EXPORT} octets")));
        }
        Ok(text)
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

    /// Log entries from `from` on, at most [`PAGE`].
    pub fn log(&self, from: u64, limit: usize) -> Result<Vec<LogView>, ServiceError> {
        let snapshot = self.registry.snapshot()?;
        let mut entries = Vec::new();
        for seq in from.max(1)..from.max(1).saturating_add(limit.min(PAGE) as u64) {
            let Some(entry) = snapshot.log_entry(seq)? else { break };
            entries.push(LogView::new(seq, &entry));
        }
        Ok(entries)
    }
}

fn parse_name(text: &str) -> Result<Name, ServiceError> {
    Name::from_user(text).map_err(|error| ServiceError::Bad(format!("{text:?} is not a name: {error}")))
}
