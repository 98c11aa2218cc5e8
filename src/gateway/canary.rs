//! The gateway's own questions, by which it knows that it serves.
//!
//! ```text
//! worker: of each TLD a name that is not there, past the cache ─ snapshot, contract, signature
//! writer: an op that it must reject ─ it is there, and reads its tables
//! ```

use std::sync::Arc;

use super::pool::Task;
use super::{Engine, Gateway, Reach};
use crate::op::{self, Op, OpBody, Rejection, SigilId, VerifiedOp};
use crate::registry::Fault;
use crate::state::View as _;
use crate::wire::{Answer, Message, Name, Query, Rcode, Rtype};
use crate::writer::Outcome;

/// The label that is asked for right below each TLD: no name that anybody can register.
const LABEL: &[u8] = b"_canary";

/// Seconds for which the op is good.
const OP_SECONDS: u64 = 60;

/// Called with what is wrong, once; dropped if a worker panics. Must not block.
pub type CanaryDone = Box<dyn FnOnce(Result<(), String>) + Send>;

impl Gateway {
    /// Asks on a worker's thread, and calls `done` there or on the writer's.
    pub fn canary(&self, done: CanaryDone) {
        let errand = move |engine: Option<&Engine>| {
            let Some(engine) = engine else { return done(Err("the workers stop".to_owned())) };
            match engine.tlds.iter().try_for_each(|tld| engine.sing(&tld.apex)) {
                Ok(()) => engine.ask_writer(done),
                Err(why) => done(Err(why)),
            }
        };
        self.pool.submit_first(Task::Other(Name::root(), Box::new(errand)));
    }
}

impl Engine {
    fn sing(&self, apex: &Name) -> Result<(), String> {
        let name = apex.child(LABEL).map_err(|error| error.to_string())?;
        let query = Query::internal(name, Rtype::TXT);
        let snapshot = self.registry.snapshot().map_err(|fault| fault.to_string())?;
        let answer = self.resolve(&query, None, &Arc::new(snapshot), Reach::Anyones);
        let answer = answer.map_err(|stop| Fault::from(stop).to_string())?;
        let told = |what: &str| format!("{} TXT: {what}", query.name);
        if ![Rcode::NoError, Rcode::NxDomain].contains(&answer.rcode) {
            let why = answer.ede.as_ref().map_or("", |(_, text)| text);
            return Err(told(&format!("{:?} {why}", answer.rcode)));
        }
        let unsigned = !self.keys.get().tld(apex).is_empty() && !is_signed(&answer);
        if unsigned { Err(told("the answer is not signed")) } else { Ok(()) }
    }

    /// Has the writer judge an op of ours that cannot be accepted: nobody can register the name that it gives back.
    fn ask_writer(&self, done: CanaryDone) {
        let op = match self.hopeless() {
            Ok(op) => op,
            Err(why) => return done(Err(why)),
        };
        let told = |outcome: Outcome| match outcome {
            Err(rejection @ (Rejection::Fault(_) | Rejection::Stopping)) => Err(format!("the writer: {rejection}")),
            _ => Ok(()),
        };
        self.writer.submit(op, Box::new(move |outcome| done(told(outcome))));
    }

    fn hopeless(&self) -> Result<VerifiedOp, String> {
        let tld = self.tlds.iter().next().ok_or("there is no TLD")?;
        let name = tld.apex.child(LABEL).map_err(|error| error.to_string())?;
        let (now, author) = ((self.clock)(), SigilId::from(&self.sigil.verifying_key()));
        let account = self.registry.snapshot().and_then(|snapshot| snapshot.account(&author));
        let nonce = account.map_err(|fault| fault.to_string())?.next_nonce;
        let body = OpBody { registry: self.registry.id(), nonce, expires: now + OP_SECONDS, op: Op::Release { name } };
        let signed = op::sign(&self.sigil, &body);
        op::verify(&signed, self.registry.id(), now).map_err(|rejection| rejection.to_string())
    }
}

fn is_signed(answer: &Answer) -> bool {
    let message = Message::parse(answer.as_wire());
    message.is_ok_and(|message| message.sections.iter().flatten().any(|record| record.rtype == Rtype::RRSIG))
}
