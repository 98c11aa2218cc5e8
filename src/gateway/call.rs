//! Executions asked for by themselves: receipts of answers, and calls of programs.

use std::sync::Arc;

use super::reads::{self, Noted, SnapshotReads, Sources, Zone};
use super::{Engine, Gateway, OutOfGas, Purpose, Work};
use crate::contract::receipt::{Asked, ReceiptError, Recorder, Trace};
use crate::contract::{CodeRef, Failure};
use crate::limits::{CONTRACT_FUEL, CONTRACT_INPUT};
use crate::op::CodeHash;
use crate::registry::{Fault, Snapshot};
use crate::wire::{Name, Query, Rtype, Subnet};
use crate::work::{Budget, Cost, Overdrawn};

/// Why there is no receipt or no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("only .ghost, .sig, .gcc and .bc are answered here")]
    NotOurs,
    #[error("{0} has no program: its owner has bound none")]
    NoProgram(Name),
    #[error("input is longer than {CONTRACT_INPUT} octets")]
    Input,
    #[error("too many questions are waiting")]
    Busy,
    #[error(transparent)]
    Overdrawn(#[from] Overdrawn),
    #[error(transparent)]
    OutOfGas(#[from] OutOfGas),
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    #[error("the registry cannot be read: {0}")]
    Fault(#[from] Fault),
}

/// A call of the program that a name is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Registered name.
    pub name: Name,
    pub input: Vec<u8>,
    /// At most so much fuel; itself at most `CONTRACT_FUEL`.
    pub fuel: u64,
    pub asker: Option<Subnet>,
    pub receipt: bool,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    pub contract: CodeHash,
    pub outcome: Result<Vec<u8>, Failure>,
    pub fuel: u64,
    pub receipt: Option<Vec<u8>>,
}

impl Gateway {
    /// Whether what answers for a name is compiled: else an execution may wait for the compiler, for which there are
    /// [`Gateway::receipt`] and [`Gateway::call`].
    pub fn is_warm(&self, name: &Name) -> bool {
        self.engine.is_warm(name)
    }

    /// Answers a question on the calling thread, cache or no cache; gives the receipt.
    ///
    /// # Errors
    /// [`CallError`]
    pub fn receipt_here(&self, name: &Name, rtype: Rtype, asker: Option<Subnet>) -> Result<Vec<u8>, CallError> {
        self.engine.receipt(name, rtype, asker)
    }

    /// Calls a program on the calling thread.
    ///
    /// # Errors
    /// [`CallError`]
    pub fn call_here(&self, call: &Call) -> Result<Called, CallError> {
        self.engine.call(call)
    }

    /// Answers a question on a worker's thread, as [`Gateway::receipt_here`] does, and calls `done` there, exactly once, with
    /// the receipt; at once if too many are waiting.
    pub fn receipt(
        &self,
        name: Name,
        rtype: Rtype,
        asker: Option<Subnet>,
        budget: Budget,
        done: impl FnOnce(Result<Vec<u8>, CallError>) + Send + 'static,
    ) {
        self.work(name.clone(), move |engine| {
            done(spend(&budget, engine, |engine| engine.receipt(&name, rtype, asker)))
        });
    }

    /// Calls a program on a worker's thread, and `done` there, exactly once; at once if too many are waiting.
    pub fn call(&self, call: Call, budget: Budget, done: impl FnOnce(Result<Called, CallError>) + Send + 'static) {
        self.work(call.name.clone(), move |engine| done(spend(&budget, engine, |engine| engine.call(&call))));
    }
}

/// Executes on a worker's thread, if there is one and the budget has something left.
fn spend<T>(
    budget: &Budget,
    engine: Option<&Engine>,
    execute: impl FnOnce(&Engine) -> Result<T, CallError>,
) -> Result<T, CallError> {
    let engine = engine.ok_or(CallError::Busy)?;
    budget.spend(Cost::default(), || execute(engine))?
}

impl Engine {
    fn receipt(&self, name: &Name, rtype: Rtype, asker: Option<Subnet>) -> Result<Vec<u8>, CallError> {
        // Without DO: signatures are made after the executions, and prove themselves.
        let query = Query { edns: None, ..Query::internal(name.clone(), rtype) };
        if self.refusal(&query).is_some() {
            return Err(CallError::NotOurs);
        }
        let sources = self.sources(&Arc::new(self.registry.snapshot()?));
        let mut work = Work { trace: Some(Trace::default()), ..Work::new(self, &query, asker, &sources) };
        work.follow().map_err(Fault::from)?;
        let trace = work.trace.take().unwrap_or_default();
        self.seal(trace, &sources, Asked::Question { name: name.clone(), rtype })
    }

    fn seal(&self, trace: Trace, sources: &Sources, asked: Asked) -> Result<Vec<u8>, CallError> {
        let (registry, seq) = (self.registry.id(), sources.snapshot.seq());
        Ok(trace.seal(&self.sigil, registry, seq, sources.now, asked)?)
    }

    fn call(&self, call: &Call) -> Result<Called, CallError> {
        if call.input.len() > CONTRACT_INPUT {
            return Err(CallError::Input);
        }
        if self.tlds.find(&call.name).is_none() {
            return Err(CallError::NotOurs);
        }
        let sources = self.sources(&Arc::new(self.registry.snapshot()?));
        let zone = Arc::new(Zone::of(&call.name, Rtype::ANY, &sources, &mut Noted::default())?);
        let no_program = || CallError::NoProgram(call.name.clone());
        let bound = zone.entry.as_ref().filter(|_| zone.apex == call.name).and_then(|entry| entry.contract);
        let hash = bound.ok_or_else(no_program)?;
        let owner = zone.entry.as_ref().map(|entry| entry.owner).ok_or_else(no_program)?;
        if !self.tlds.worlds(&sources.snapshot, &hash)?.program {
            return Err(no_program());
        }
        let snapshot: &Snapshot = &sources.snapshot;
        self.meter.admit(&call.name, owner, Purpose::Call, snapshot, sources.now)??;
        let load = || self.tlds.code(snapshot, &hash).map_err(reads::read_fault);
        let code = CodeRef { hash: hash.0, load: &load };
        let reads = SnapshotReads::new(zone, sources.clone(), call.asker);
        let fuel = call.fuel.min(CONTRACT_FUEL);
        let (execution, reads) = self.host.call(code, &call.input, fuel, Recorder::new(reads));
        self.count(execution.fuel, execution.outcome.as_ref().err());
        if !execution.outcome.as_ref().is_err_and(Failure::is_of_machine) {
            self.meter.note(&call.name, owner, (Purpose::Call, execution.fuel), snapshot, sources.now)?;
        }
        let receipt = if call.receipt {
            let mut trace = Trace::default();
            trace.called(hash, &call.input, fuel, &execution, &reads);
            Some(self.seal(trace, &sources, Asked::Call { name: call.name.clone() })?)
        } else {
            None
        };
        Ok(Called { contract: hash, outcome: execution.outcome, fuel: execution.fuel, receipt })
    }
}
