//! Whether the server serves: `/readyz`.
//!
//! ```text
//! drains? ─ threads of the sockets alive? ─ a descriptor to be had? ─ the canary sings? ─ troubles that others have told
//! ```

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, timeout};

use super::Edge;
use crate::limits::{CANARY_KEPT, CANARY_PATIENCE};
use crate::metrics::Trouble;

/// Runs the checks at most once a second, however many requests ask for them.
#[derive(Debug, Default)]
pub(super) struct Readiness(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    told: Option<(Instant, Arc<[String]>)>,
    /// [`Trouble::Thread`] is ours to clear.
    stuck: bool,
}

impl Readiness {
    /// Why the server does not serve; nothing if it does.
    pub(super) async fn troubles(&self, edge: &Edge) -> Arc<[String]> {
        // Requests that come meanwhile wait for the same.
        let mut state = self.0.lock().await;
        if let Some((at, troubles)) = &state.told
            && at.elapsed() < CANARY_KEPT
        {
            return Arc::clone(troubles);
        }
        let troubles: Arc<[String]> = state.look(edge).await.into();
        state.told = Some((Instant::now(), Arc::clone(&troubles)));
        troubles
    }
}

impl State {
    async fn look(&mut self, edge: &Edge) -> Vec<String> {
        let health = &edge.metrics.health;
        let silent = edge.pulses.missed(Instant::now());
        if silent.is_some() != self.stuck {
            self.stuck = silent.is_some();
            health.set(Trouble::Thread, self.stuck);
        }
        let silent = silent.map(|(core, since)| format!("thread edge-{core} has been stuck for {} s", since.as_secs()));
        health.set(Trouble::Descriptors, has_no_descriptors());
        let canary = canary(edge).await;
        if health.set(Trouble::Canary, canary.is_err())
            && let Err(why) = &canary
        {
            tracing::error!(why, "a question of the server's own got no answer");
        }
        let told = health.sentences().map(str::to_owned);
        told.chain(silent).chain(canary.err()).collect()
    }
}

/// True if no descriptor is left to open a file with. Other errors are reported by the code that meets them.
fn has_no_descriptors() -> bool {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    File::open("/dev/null").is_err_and(|error| matches!(error.raw_os_error(), Some(ENFILE | EMFILE)))
}

async fn canary(edge: &Edge) -> Result<(), String> {
    let (sender, receiver) = oneshot::channel();
    // Fails if nobody waits any more.
    edge.answerer.canary(Box::new(move |sung| drop(sender.send(sung))));
    match timeout(CANARY_PATIENCE, receiver).await {
        Ok(Ok(sung)) => sung,
        Ok(Err(_)) => Err("the worker that it was given to panicked".to_owned()),
        Err(_) => Err(format!(
            "it has no answer from a worker and the writer within {} s",
            Duration::as_secs(&CANARY_PATIENCE)
        )),
    }
}
