//! Certificates of a running server: looked after while it serves.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, interval};

use crate::limits::{CERTIFICATE_MARGIN, CERTIFICATES_EVERY};
use crate::metrics::{Gauge, Metrics};
use crate::transport::tls::Identity;

/// Between two warnings that a certificate ends soon.
const DAY: Duration = Duration::from_secs(86_400);

/// Looks at the files every few seconds, and reads them on SIGHUP whether they have changed or not; on a thread that ends with
/// the process. Calls `changed` when other certificates are shown.
pub fn watch(identity: Identity, metrics: Arc<Metrics>, changed: impl Fn() + Send + 'static) -> anyhow::Result<()> {
    let files = identity.certificates().list();
    let gauges = files.iter().map(|(file, _)| (file.display().to_string(), Gauge::default())).collect();
    // Nobody else sets it, and this runs once.
    let _ = metrics.certificates.set(gauges);
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    // From here on: whoever is told that the server is ready may send one.
    let mut hangup = {
        // The caller may be inside another runtime: this one is entered, not run.
        let _entered = runtime.enter();
        signal(SignalKind::hangup())?
    };
    survey(&identity, &metrics, true);
    std::thread::Builder::new().name("certificates".to_owned()).spawn(move || {
        runtime.block_on(async {
            let (mut ticks, mut warned) = (interval(CERTIFICATES_EVERY), Instant::now());
            loop {
                let all = tokio::select! {
                    _ = hangup.recv() => true,
                    _ = ticks.tick() => false,
                };
                let fresh = reload(&identity, &metrics, all);
                if fresh {
                    changed();
                }
                let warn = fresh || warned.elapsed() > DAY;
                survey(&identity, &metrics, warn);
                warned = if warn { Instant::now() } else { warned };
            }
        });
    })?;
    Ok(())
}

/// True if something else is shown now.
fn reload(identity: &Identity, metrics: &Metrics, all: bool) -> bool {
    let reloaded = identity.certificates().reload(unix_time(), all);
    for file in &reloaded.fresh {
        tracing::info!(file = %file.display(), "certificate reloaded");
    }
    for (file, error) in &reloaded.failed {
        metrics.certificate_reload_failures.add(1);
        tracing::error!(file = %file.display(), %error, "the certificate stays the one before");
    }
    !reloaded.fresh.is_empty()
}

/// Sets the gauges, and warns of what ends soon.
fn survey(identity: &Identity, metrics: &Metrics, warn: bool) {
    let gauges = metrics.certificates.get().map_or(&[][..], |gauges| gauges);
    for ((file, certificate), (_, gauge)) in identity.certificates().list().iter().zip(gauges) {
        gauge.set(certificate.not_after);
        let left = certificate.not_after.saturating_sub(unix_time());
        if warn && left < CERTIFICATE_MARGIN.as_secs() {
            say_soon(file, left);
        }
    }
}

fn say_soon(file: &Path, left: u64) {
    let left = humantime::format_duration(Duration::from_secs(left));
    tracing::warn!(file = %file.display(), %left, "a certificate ends soon");
}

/// Of the machine, also in a rehearsal: clients have no other.
fn unix_time() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
