//! Zones written down for whoever asks: one at a time, on a thread of its own, and kept for those who ask for the same.

use std::sync::Arc;

use tokio::sync::{Mutex, oneshot};

use super::{Service, ServiceError, parse_name};
use crate::gateway::{self, NoZone};
use crate::limits::{EXPORT_CPU_PER_NAME, EXPORT_SECONDS, MAX_EXPORT};
use crate::processors::{stand_back, thread_time};
use crate::registry::Snapshot;
use crate::wire::Name;
use crate::work::{Budget, Cost};
use crate::zone::export::to_master_file;

/// The zones that were exported last. Who holds the lock exports; others wait for it.
#[derive(Debug, Default)]
pub struct Exports(Mutex<Vec<Exported>>);

#[derive(Debug)]
struct Exported {
    apex: Name,
    /// Of the snapshot that it is of, and when it was made.
    seq: u64,
    time: u64,
    text: Arc<str>,
}

impl Service {
    /// The master file of a TLD or a registered name, signed, with its ZONEMD. Making it is taken from the budget before.
    ///
    /// # Errors
    /// [`ServiceError`]
    pub async fn zone(self: &Arc<Self>, name: &str, budget: &Budget) -> Result<Arc<str>, ServiceError> {
        let apex = parse_name(name)?;
        let mut kept = self.exports.0.lock().await;
        let (snapshot, now) = (self.registry.snapshot()?, (self.clock)());
        kept.retain(|exported| now.abs_diff(exported.time) < EXPORT_SECONDS);
        let seq = snapshot.seq();
        if let Some(found) = kept.iter().find(|exported| exported.apex == apex && exported.seq == seq) {
            return Ok(found.text.clone());
        }
        let advance = budget.advance(Cost::cpu(self.export_cost(&apex, &snapshot)?))?;
        kept.retain(|exported| exported.apex != apex);
        let (text, took) = self.export(apex.clone(), snapshot, now).await;
        advance.settle(took);
        let text = text?;
        while kept.iter().map(|exported| exported.text.len()).sum::<usize>() + text.len() > MAX_EXPORT {
            kept.remove(0);
        }
        kept.push(Exported { apex, seq, time: now, text: text.clone() });
        Ok(text)
    }

    fn export_cost(&self, apex: &Name, snapshot: &Snapshot) -> Result<std::time::Duration, ServiceError> {
        let [names, ..] = snapshot.counts()?;
        let names = if apex.label_count() > 1 { 1 } else { u32::try_from(names).unwrap_or(u32::MAX) };
        Ok(EXPORT_CPU_PER_NAME.saturating_mul(names))
    }

    /// Exports on a thread of its own: it takes seconds. And what it took.
    async fn export(
        self: &Arc<Self>,
        apex: Name,
        snapshot: Snapshot,
        now: u64,
    ) -> (Result<Arc<str>, ServiceError>, Cost) {
        let service = self.clone();
        let (sender, receiver) = oneshot::channel();
        let run = move || {
            stand_back();
            let text = service.written(&apex, snapshot, now);
            // Fails if nobody waits any more.
            drop(sender.send((text, Cost::cpu(thread_time()))));
        };
        let broken = (Err(ServiceError::Broken), Cost::default());
        match std::thread::Builder::new().name("export".into()).spawn(run) {
            Ok(_) => receiver.await.unwrap_or(broken),
            Err(_) => (Err(ServiceError::Busy), Cost::default()),
        }
    }

    fn written(&self, apex: &Name, snapshot: Snapshot, now: u64) -> Result<Arc<str>, ServiceError> {
        let too_long = || ServiceError::Bad(format!("zone {apex} is longer than {MAX_EXPORT} octets"));
        let contents = match gateway::export(&self.tlds, &self.keys.get(), Arc::new(snapshot), now, apex)? {
            Ok(contents) => contents,
            Err(NoZone::NotHere) => return Err(ServiceError::NotFound(format!("zone {apex}"))),
            Err(NoZone::TooLong) => return Err(too_long()),
        };
        let text = to_master_file(apex, &contents);
        if text.len() > MAX_EXPORT { Err(too_long()) } else { Ok(text.into()) }
    }
}
