//! Covenants: wasm that has a say in a write.
//!
//! ```text
//! writer: apply -> effects -> [ judge ] -> rows and log
//!                     covenants of the TLD, then of the name, each in turn, on a thread of its own;
//!                     what they look up, the writer's thread reads for them, in the very state that the op is applied to
//! ```
//!
//! An op is judged after the state machine has found it good, so that whoever may not write makes nobody execute. A
//! covenant sees nothing but its parameters, the write, and the registry right before it: it judges the same way whenever
//! the op is replayed.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::contract::{CodeRef, ContractHost, ReadFault, Reads, Verdict, Worlds, Write, worlds};
use crate::limits::COVENANT_FUEL;
use crate::op::{CodeHash, Covenant, Identity, Op, Rejection, SigilId, VerifiedOp};
use crate::registry::{Fault, WriteTables};
use crate::state::guardians::account_of;
use crate::state::{At, NameEntry, View};
use crate::wire::{Name, Resolution, Rrset, Rtype, Scope, Subnet};
use crate::zone::{ZoneView, lookup};

/// The covenants' verdict, and the fuel that it took.
pub(super) struct Judgement {
    /// [`Rejection::Denied`], [`Rejection::CovenantBroke`]
    pub verdict: Result<(), Rejection>,
    pub fuel: u64,
}

/// The covenants that have a say in an op: those of the TLD first.
///
/// # Errors
/// The store failed.
pub(super) fn bound(tables: &WriteTables<'_>, op: &Op) -> Result<Vec<Bound>, Fault> {
    let Some(name) = op.name() else { return Ok(Vec::new()) };
    let tld = name.suffix(1);
    let mut bound = bound_to(tables, &tld)?;
    // A thief of the owner's key can bind covenants to the name. They must not bind the guardians.
    let by_guardians = op.actions().iter().all(|action| action.is_above_covenants());
    if tld != *name && !by_guardians {
        bound.extend(bound_to(tables, name)?);
    }
    Ok(bound)
}

/// The identity that is answerable for an op. The owner answers for an update by key; the gateway only vouches for it.
///
/// # Errors
/// The store failed.
pub(super) fn answerable(tables: &WriteTables<'_>, op: &VerifiedOp) -> Result<Identity, Fault> {
    let Op::UpdateByKey { update, .. } = op.op() else { return Ok(op.author()) };
    Ok(tables.name(update.name())?.map_or(op.author(), |entry| entry.owner.into()))
}

/// Whether these covenants let the op of `author` pass, in the state that it is about to be applied to.
///
/// # Errors
/// The store failed.
pub(super) fn judge(
    host: &ContractHost,
    tables: &WriteTables<'_>,
    at: At,
    (op, author): (&VerifiedOp, Identity),
    bound: Vec<Bound>,
) -> Result<Judgement, Fault> {
    let Some(name) = op.op().name() else { return Ok(Judgement { verdict: Ok(()), fuel: 0 }) };
    let (entry, tld) = (tables.name(name)?, name.suffix(1));
    let case = Case {
        host,
        op: op.op(),
        author,
        level: account_of(tables, &author)?.unwrap_or_default().at(at.time).level,
        names: author.sigil().map_or(Ok(0), |author| tables.owned(&author, &tld))?,
        cosigners: op.cosigners(),
        entry,
        time: at.time,
    };
    std::thread::scope(|threads| {
        let (asks, asked) = channel();
        let bench = std::thread::Builder::new().name("covenant".into());
        let judging = bench.spawn_scoped(threads, || case.judge_all(bound, asks));
        let Ok(judging) = judging.inspect_err(|error| tracing::warn!(%error, "no thread for covenants")) else {
            return Ok(BUSY);
        };
        serve(tables, at.time, &asked)?;
        // A panic has been printed where it happened.
        Ok(judging.join().unwrap_or(BUSY))
    })
}

/// Nobody judged: the machine's trouble.
const BUSY: Judgement = Judgement { verdict: Err(Rejection::Busy), fuel: 0 };

/// A covenant, and the name or TLD that it is bound to.
pub(super) struct Bound {
    scope: Name,
    covenant: Covenant,
}

impl Bound {
    /// The covenant's hash.
    pub fn code(&self) -> &[u8; 32] {
        &self.covenant.code.0
    }
}

fn bound_to(tables: &WriteTables<'_>, scope: &Name) -> Result<Vec<Bound>, Fault> {
    let bound = |covenant| Bound { scope: scope.clone(), covenant };
    Ok(tables.covenants(scope)?.into_iter().map(bound).collect())
}

/// One op before its judges.
struct Case<'a> {
    host: &'a ContractHost,
    op: &'a Op,
    author: Identity,
    level: u8,
    names: u32,
    cosigners: &'a [SigilId],
    entry: Option<NameEntry>,
    time: u64,
}

impl Case<'_> {
    /// The first covenant that denies decides. All of them share one allowance.
    fn judge_all(&self, bound: Vec<Bound>, asks: Sender<Ask>) -> Judgement {
        let mut left = COVENANT_FUEL;
        let verdict = bound.into_iter().try_for_each(|bound| self.judge(bound, &mut left, asks.clone()));
        Judgement { verdict, fuel: COVENANT_FUEL - left }
    }

    fn judge(&self, bound: Bound, left: &mut u64, asks: Sender<Ask>) -> Result<(), Rejection> {
        let Bound { scope, covenant: Covenant { code, parameters } } = bound;
        // Only of what is not compiled yet.
        let load = || ask(&asks, |reply| Ask::Code(code, reply));
        let owner = self.entry.as_ref().map(|entry| entry.owner);
        let contract = self.entry.as_ref().and_then(|entry| entry.contract);
        let write = Write {
            author: self.author,
            time: self.time,
            op: self.op,
            owner,
            level: self.level,
            names: self.names,
            cosigners: self.cosigners,
        };
        let reads = Bench { zone: scope.clone(), parameters, owner, contract, now: self.time, asks: asks.clone() };
        let (execution, _) = self.host.judge(CodeRef { hash: code.0, load: &load }, &write, *left, reads);
        *left = left.saturating_sub(execution.fuel);
        let covenant = code.to_string()[..16].to_owned();
        match execution.outcome {
            Ok(Verdict::Allowed) => Ok(()),
            Ok(Verdict::Denied(reason)) => Err(Rejection::Denied { scope, covenant, reason }),
            // The machine's trouble is no judgement.
            Err(failure) if failure.is_of_machine() => Err(Rejection::Busy),
            // Broken, it must not keep whoever bound it from taking it off.
            Err(_) if matches!(self.op, Op::BindCovenants { name, .. } if *name == scope) => Ok(()),
            Err(failure) => Err(Rejection::CovenantBroke { scope, covenant, reason: failure.to_string() }),
        }
    }
}

/// What a covenant asks of the registry.
enum Ask {
    Lookup(Name, Rtype, Sender<Result<Resolution, Fault>>),
    Worlds(CodeHash, Sender<Result<Worlds, Fault>>),
    Code(CodeHash, Sender<Result<Option<Vec<u8>>, Fault>>),
}

fn ask<T>(asks: &Sender<Ask>, make: impl FnOnce(Sender<Result<T, Fault>>) -> Ask) -> Result<T, ReadFault> {
    let (reply, answer) = channel();
    let gone = || ReadFault("the writer is gone".into());
    asks.send(make(reply)).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?.map_err(|fault| ReadFault(fault.to_string().into()))
}

/// Answers until every covenant has judged.
fn serve(tables: &WriteTables<'_>, time: u64, asked: &Receiver<Ask>) -> Result<(), Fault> {
    let mut fault = None;
    while let Ok(ask) = asked.recv() {
        // Whoever asked waits for the answer, and is gone only with its thread.
        match ask {
            Ask::Lookup(name, rtype, reply) => drop(reply.send(note(&mut fault, look_up(tables, time, &name, rtype)))),
            Ask::Worlds(hash, reply) => drop(reply.send(note(&mut fault, worlds_of(tables, &hash)))),
            Ask::Code(hash, reply) => drop(reply.send(note(&mut fault, tables.contract(&hash)))),
        }
    }
    // A store that fails is no reason to deny.
    fault.map_or(Ok(()), Err)
}

fn note<T>(first: &mut Option<Fault>, result: Result<T, Fault>) -> Result<T, Fault> {
    if let Err(fault) = &result {
        first.get_or_insert_with(|| fault.clone());
    }
    result
}

fn worlds_of(tables: &WriteTables<'_>, hash: &CodeHash) -> Result<Worlds, Fault> {
    Ok(tables.contract(hash)?.and_then(|code| worlds(&code).ok()).unwrap_or_default())
}

/// Zone look-up in a registered name that is live; outside of those there is nothing.
fn look_up(tables: &WriteTables<'_>, time: u64, name: &Name, rtype: Rtype) -> Result<Resolution, Fault> {
    let apex = name.suffix(2);
    if name.label_count() < 2 || !tables.name(&apex)?.is_some_and(|entry| entry.is_live(time)) {
        return Ok(Resolution::NxDomain);
    }
    let apex_cut = tables.rrset(&apex, Rtype::NS)?.is_some_and(|ns| ns.rrsigs.is_empty());
    lookup(&Held { tables, apex: &apex }, &apex, name, rtype, apex_cut)
}

/// What is stored in one registered name.
struct Held<'a, 't> {
    tables: &'a WriteTables<'t>,
    apex: &'a Name,
}

impl ZoneView for Held<'_, '_> {
    type Error = Fault;

    fn rrset(&self, owner: &Name, rtype: Rtype) -> Result<Option<Arc<Rrset>>, Fault> {
        Ok(self.tables.rrset(owner, rtype)?.map(Arc::new))
    }

    fn exists(&self, owner: &Name) -> Result<bool, Fault> {
        Ok(owner == self.apex || !self.tables.types_at(owner)?.is_empty())
    }

    fn has_descendants(&self, owner: &Name) -> Result<bool, Fault> {
        Ok(self.tables.rrsets_below(owner)?.iter().any(|rrset| rrset.owner != *owner))
    }
}

/// What one covenant sees.
struct Bench {
    zone: Name,
    parameters: Vec<u8>,
    owner: Option<SigilId>,
    contract: Option<CodeHash>,
    now: u64,
    asks: Sender<Ask>,
}

impl Reads for Bench {
    fn lookup(&mut self, name: &Name, rtype: Rtype) -> Result<Resolution, ReadFault> {
        ask(&self.asks, |reply| Ask::Lookup(name.clone(), rtype, reply))
    }

    fn zone(&mut self) -> Name {
        self.zone.clone()
    }

    fn owner_key(&mut self) -> Option<[u8; 32]> {
        self.owner.map(|owner| owner.0)
    }

    fn bound_contract(&mut self) -> Option<[u8; 32]> {
        self.contract.map(|hash| hash.0)
    }

    fn bound_worlds(&mut self) -> Result<Worlds, ReadFault> {
        match self.contract {
            Some(hash) => ask(&self.asks, |reply| Ask::Worlds(hash, reply)),
            None => Ok(Worlds::default()),
        }
    }

    fn parameters(&mut self) -> Vec<u8> {
        self.parameters.clone()
    }

    fn now(&mut self) -> u64 {
        self.now
    }

    fn client_subnet(&mut self, _: Scope) -> Option<Subnet> {
        None
    }
}
