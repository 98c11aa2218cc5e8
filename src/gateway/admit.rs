//! The way of an op from its octets to the writer: what is cheap first, and nothing dear before somebody pays.
//!
//! ```text
//! claim   registry, expiry, strikes, nonce, mana              2 µs, the octets alone and one account
//! form    decoding, price, nonce and mana with what is under way
//! rules   `state::foresee`, if what comes next is dear        reads
//! author  signatures -> Pass                                  50 µs each
//! dear    RRSIGs, the compiler, covenants made ready          the author has the mana for them, and owes it if the op fails
//! ```
//! All ops of a body are taken as far as their Pass before anything dear is done for the first, so that the next body of
//! the same author finds its place behind them.

use std::time::Duration;

use crate::contract::{CodeRef, ContractError, ReadFault};
use crate::limits::{COMPILE_CPU, MAX_CONTRACT, RRSIG_CPU};
use crate::op::{self, CodeHash, Identity, Op, Rejection, Signed, Unproven, VerifiedOp};
use crate::registry::{Fault, Snapshot};
use crate::state::guardians::account_of;
use crate::state::{ApplyError, At, Rules as _, View as _, Work, foresee, price_of};
use crate::work::Cost;
use crate::writer::{Admitted, Applicant, Pass};

use super::{Door, Engine};

/// An op that its author has signed and has the mana for. The RRSIGs and the code in it have not been checked.
pub struct Candidate {
    signed: Signed,
    pass: Pass,
}

fn fault(fault: Fault) -> Rejection {
    Rejection::Fault(fault.0)
}

impl Engine {
    /// Takes an op, no DNS UPDATE, as far as its author's signature.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn consider(&self, door: &Door<'_>, bytes: &[u8]) -> Result<Candidate, Rejection> {
        let claim = op::peek(bytes).ok_or(Rejection::Malformed)?;
        self.gate.admit(door, &claim)?;
        let account = account_of(door.snapshot, &claim.author).map_err(fault)?.unwrap_or_default().at(door.now);
        let price = (!self.is_exempt(door, claim.author)?).then(|| door.least_price(claim.kind, bytes.len()));
        self.writer.intake().check(&Applicant {
            author: claim.author,
            account: &account,
            nonce: Some(claim.nonce),
            client: door.client,
            price,
            dear: 0,
            budget: door.budget(),
            now: door.now,
        })?;
        self.admit(door, Unproven::open(bytes, door.registry, door.now)?)
    }

    /// Takes an op from its form to its author's signature.
    pub(super) fn admit(&self, door: &Door<'_>, unproven: Unproven) -> Result<Candidate, Rejection> {
        let (op, intake) = (unproven.presumed(), self.writer.intake());
        let author = op.author();
        let account = account_of(door.snapshot, &author).map_err(fault)?.unwrap_or_default().at(door.now);
        let exempt = self.is_exempt(door, author)?;
        let price = price_of(door.snapshot, door.tlds, door.now, op).map_err(fault)?;
        let applicant = Applicant {
            author,
            account: &account,
            nonce: (!is_update(op.op())).then(|| op.nonce()),
            client: door.client,
            price: (!exempt).then_some(price),
            dear: if exempt { 0 } else { dear(door, op) + unproven.signatures() as u64 - 1 },
            budget: door.budget(),
            now: door.now,
        };
        intake.check(&applicant)?;
        // With others of the author under way, the snapshot cannot tell. Then it is the mana that bounds what is dear.
        if !exempt && !intake.is_underway(&author) && self.is_dear(door, &unproven)? {
            let at = At { seq: door.snapshot.seq() + 1, time: door.now };
            foresee(door.snapshot, door.tlds, at, &unproven).map_err(|error| match error {
                ApplyError::Rejected(rejection) => rejection,
                ApplyError::Fault(failed) => fault(failed),
            })?;
        }
        let signatures = unproven.signatures();
        let signed = unproven.prove().inspect_err(|_| self.gate.strike(door, author, signatures))?;
        Ok(Candidate { signed, pass: intake.enter(&applicant)? })
    }

    /// Does what is dear for an op: checks the RRSIGs that it brings, compiles what it deploys.
    ///
    /// # Errors
    /// The first fault. Its author owes the cost of finding it.
    pub fn verify(&self, door: &Door<'_>, Candidate { signed, pass }: Candidate) -> Result<Admitted, Rejection> {
        let author = signed.op().author();
        match self.check_dear(door, signed, &pass) {
            Ok(op) => Ok(Admitted { op, pass }),
            Err(rejection) => {
                if let Rejection::BadRrsig { .. } = rejection {
                    self.gate.strike(door, author, 1);
                }
                pass.rejected(&rejection, door.now);
                Err(rejection)
            }
        }
    }

    fn check_dear(&self, door: &Door<'_>, signed: Signed, pass: &Pass) -> Result<VerifiedOp, Rejection> {
        if dear(door, signed.op()) == 0 {
            return self.check_brought(door, signed);
        }
        self.check_turn(signed.op(), pass)?;
        let budget = door.budget().clone().with(&signed.op().author());
        budget.spend(Cost::cpu(estimate(signed.op().op())), || self.check_brought(door, signed))?
    }

    fn check_brought(&self, door: &Door<'_>, signed: Signed) -> Result<VerifiedOp, Rejection> {
        let verified = signed.verify(door.now)?;
        match verified.op() {
            Op::DeployContract { wasm } => drop(self.host.check(wasm).map_err(|error| match error {
                ContractError::Busy => Rejection::Busy,
                ContractError::Machine(what) => Rejection::Fault(what),
                error => Rejection::ContractInvalid(error.to_string()),
            })?),
            Op::BindCovenants { covenants, .. } => {
                covenants.iter().try_for_each(|covenant| self.check_covenant(&covenant.code))?
            }
            _ => {}
        }
        self.make_ready(door.snapshot, verified.op())?;
        Ok(verified)
    }

    /// Whether the op can still come next. The one before it may have failed since it was let in.
    fn check_turn(&self, op: &VerifiedOp, pass: &Pass) -> Result<(), Rejection> {
        if pass.nonce().is_none() || self.writer.intake().follows(pass) {
            return Ok(());
        }
        let snapshot = self.registry.snapshot().map_err(fault)?;
        let expected = account_of(&snapshot, &op.author()).map_err(fault)?.unwrap_or_default().next_nonce;
        if op.nonce() == expected { Ok(()) } else { Err(Rejection::Nonce { expected, got: op.nonce() }) }
    }

    /// The operator and its gateways write for nothing.
    fn is_exempt(&self, door: &Door<'_>, author: Identity) -> Result<bool, Rejection> {
        let is_gateway = || Ok(door.snapshot.gas()?.gateways.iter().any(|gateway| author == *gateway));
        Ok(author == door.tlds.operator() || is_gateway().map_err(fault)?)
    }

    /// Whether more is to be done for an op than to check one signature.
    fn is_dear(&self, door: &Door<'_>, unproven: &Unproven) -> Result<bool, Rejection> {
        let op = unproven.presumed();
        let judged = || Ok(!covenants_over(door.snapshot, op.op())?.is_empty());
        Ok(unproven.signatures() > 1 || dear(door, op) > 0 || judged().map_err(fault)?)
    }

    /// Has the covenants that will judge an op compiled, so that the writer does not wait for it.
    pub(super) fn make_ready(&self, snapshot: &Snapshot, op: &Op) -> Result<(), Rejection> {
        for hash in covenants_over(snapshot, op).map_err(fault)? {
            let load = || self.tlds.code(snapshot, &hash).map_err(|fault| ReadFault(fault.to_string().into()));
            if !self.host.is_ready(&hash.0)
                && let Err(failure) = self.host.worlds(CodeRef { hash: hash.0, load: &load })
                && failure.is_of_machine()
            {
                return Err(Rejection::Busy);
            }
        }
        Ok(())
    }

    /// A program that cannot judge would let nothing pass. `apply` sees to it that it is there at all.
    fn check_covenant(&self, hash: &CodeHash) -> Result<(), Rejection> {
        let snapshot = self.registry.snapshot().map_err(fault)?;
        let worlds = self.tlds.worlds(&snapshot, hash).map_err(fault)?;
        if worlds.covenant || !snapshot.has_contract(hash).map_err(fault)? {
            return Ok(());
        }
        Err(Rejection::ContractInvalid(format!("{hash} is no covenant: it does not export `judge`")))
    }
}

/// About what checking takes that which an op brings.
fn estimate(op: &Op) -> Duration {
    match op {
        Op::DeployContract { wasm } => COMPILE_CPU.mul_f64(wasm.len() as f64 / MAX_CONTRACT as f64),
        op => RRSIG_CPU * u32::try_from(op.rrsigs()).unwrap_or(u32::MAX),
    }
}

fn is_update(op: &Op) -> bool {
    matches!(op, Op::Update { .. } | Op::UpdateByKey { .. })
}

/// Mana for what is done for an op before the state sees it.
fn dear(door: &Door<'_>, op: &VerifiedOp) -> u64 {
    let (tld, kind) = (op.op().name().and_then(|name| name.parent()), op.op().kind());
    let price = |rrsigs| door.tlds.price(tld.as_ref(), kind, Work { bytes: op.bytes().len(), rrsigs });
    match op.op() {
        Op::DeployContract { .. } => price(0).max(1),
        op => match op.rrsigs() {
            0 => 0,
            rrsigs => (price(rrsigs) - price(0)).max(1),
        },
    }
}

/// Hashes of the covenants that have a say in an op.
fn covenants_over(snapshot: &Snapshot, op: &Op) -> Result<Vec<CodeHash>, Fault> {
    let Some(name) = op.name() else { return Ok(Vec::new()) };
    let tld = name.suffix(1);
    let mut covenants = snapshot.covenants(&tld)?;
    if tld != *name {
        covenants.extend(snapshot.covenants(name)?);
    }
    Ok(covenants.into_iter().map(|covenant| covenant.code).collect())
}
