//! The gateway's own questions, by which it knows that it answers: a name in each TLD, never from the cache, on a worker. So
//! a snapshot is taken, a contract executed and an answer signed.

use std::sync::Arc;

use super::pool::Task;
use super::{Engine, Gateway, Reach};
use crate::registry::Fault;
use crate::wire::{Answer, Message, Name, Query, Rcode, Rtype};

/// The label that is asked for right below each TLD: no name that anybody can register.
const LABEL: &[u8] = b"_canary";

/// Called with what is wrong, once; dropped if a worker panics. Must not block.
pub type CanaryDone = Box<dyn FnOnce(Result<(), String>) + Send>;

impl Gateway {
    /// Asks on a worker's thread, and calls `done` there.
    pub fn canary(&self, done: CanaryDone) {
        let errand = move |engine: Option<&Engine>| match engine {
            Some(engine) => done(engine.tlds.iter().try_for_each(|tld| engine.sing(&tld.apex))),
            None => done(Err("the workers stop".to_owned())),
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
}

fn is_signed(answer: &Answer) -> bool {
    let message = Message::parse(answer.as_wire());
    message.is_ok_and(|message| message.sections.iter().flatten().any(|record| record.rtype == Rtype::RRSIG))
}
