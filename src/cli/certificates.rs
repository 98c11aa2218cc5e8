//! Certificates of a running server: looked after while it serves.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::interval;

use crate::limits::{CERTIFICATE_MARGIN, CERTIFICATES_EVERY};
use crate::metrics::{Gauge, Metrics};
use crate::threads::tireless;
use crate::transport::certificates::Reloaded;
use crate::transport::tls::Identity;

/// Seconds between two warnings that a certificate has ended or ends soon.
const DAY: u64 = 86_400;

/// Looks at the files every few seconds, and reads them on SIGHUP whether they have changed or not; on a thread that ends with
/// the process. Calls `changed` when other certificates are shown, or one ends, with what has changed and the time.
pub fn watch(
    identity: Identity,
    metrics: Arc<Metrics>,
    changed: impl Fn(&Reloaded, u64) + Send + 'static,
) -> anyhow::Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    // From here on: whoever is told that the server is ready may send one.
    let mut hangup = {
        // The caller may be inside another runtime: this one is entered, not run.
        let _entered = runtime.enter();
        signal(SignalKind::hangup())?
    };
    let mut watch = Watch::new(identity, metrics, unix_time());
    tireless("certificates", move || {
        runtime.block_on(async {
            let mut ticks = interval(CERTIFICATES_EVERY);
            loop {
                let all = tokio::select! {
                    _ = hangup.recv() => true,
                    _ = ticks.tick() => false,
                };
                watch.look(unix_time(), all, &changed);
            }
        });
    })?;
    Ok(())
}

/// What is told of certificates, and when it was told last. Times are in seconds since 1970.
struct Watch {
    identity: Identity,
    metrics: Arc<Metrics>,
    warned: u64,
}

impl Watch {
    /// Sets the gauges, and warns of what has ended or ends soon.
    fn new(identity: Identity, metrics: Arc<Metrics>, now: u64) -> Self {
        let files = identity.certificates().list();
        let gauges = files.iter().map(|(file, _)| (file.display().to_string(), Gauge::default())).collect();
        // Nobody else sets it, and this runs once.
        let _ = metrics.certificates.set(gauges);
        let mut watch = Self { identity, metrics, warned: 0 };
        watch.survey(now, true);
        watch
    }

    /// Reloads what has changed, with `all` everything.
    fn look(&mut self, now: u64, all: bool, changed: impl Fn(&Reloaded, u64)) {
        let reloaded = self.identity.certificates().reload(now, all);
        for file in &reloaded.fresh {
            tracing::info!(file = %file.display(), "certificate reloaded");
        }
        for (file, error) in &reloaded.failed {
            self.metrics.certificate_reload_failures.add(1);
            tracing::error!(file = %file.display(), %error, "the certificate stays the one before");
        }
        for file in &reloaded.begun {
            tracing::info!(file = %file.display(), "a certificate is valid from now on");
        }
        for file in &reloaded.ended {
            tracing::error!(file = %file.display(), "a certificate has ended: until it is renewed, it is not announced");
        }
        if reloaded.is_other() {
            changed(&reloaded, now);
        }
        self.survey(now, !reloaded.fresh.is_empty() || now.saturating_sub(self.warned) > DAY);
    }

    /// Sets the gauges; with `warn`, says what has ended or ends soon.
    fn survey(&mut self, now: u64, warn: bool) {
        let gauges = self.metrics.certificates.get().map_or(&[][..], |gauges| gauges);
        let certificates = self.identity.certificates();
        for ((_, certificate), (_, gauge)) in certificates.list().iter().zip(gauges) {
            gauge.set(certificate.not_after);
        }
        if !warn {
            return;
        }
        self.warned = now;
        for lapsed in certificates.lapsed(now) {
            tracing::error!("{lapsed}");
        }
        for (file, certificate) in certificates.list() {
            let left = certificate.not_after.saturating_sub(now);
            if certificate.is_current(now) && left < CERTIFICATE_MARGIN.as_secs() {
                let left = humantime::format_duration(Duration::from_secs(left));
                tracing::warn!(file = %file.display(), %left, "a certificate ends soon");
            }
        }
    }
}

/// Of the machine, also in a rehearsal: clients have no other.
pub fn unix_time() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::net::{IpAddr, Ipv4Addr};

    use super::super::discovery::{self, Naming};
    use super::*;
    use crate::gateway::Client;
    use crate::node::{Node, built_in_tlds};
    use crate::op::SigilId;
    use crate::server::{Addrs, Service};
    use crate::wire::{Message, Name, Query, Rtype, Transport};

    /// How many records of a type a client is told.
    fn designated(node: &Node, owner: &str, rtype: Rtype) -> usize {
        let query = Query::internal(Name::from_user(owner).unwrap(), rtype);
        let message = [&[0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], &query.question[..]].concat();
        let reply = node.gateway.answer(&message, Client::new(Transport::Tcp, Ipv4Addr::LOCALHOST.into())).unwrap();
        let [answer, ..] = Message::parse(&reply.wire).unwrap().sections;
        answer.len()
    }

    #[test]
    fn what_ends_is_not_announced_until_it_is_renewed() {
        let dir = tempfile::tempdir().unwrap();
        let begun = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let identity = Identity::development(dir.path(), begun).unwrap();
        let end = identity.certificates().list()[0].1.not_after;
        let operator = SigilId::from(&ed25519_dalek::SigningKey::from_bytes(&[9; 32]).verifying_key());
        let node = Node::in_memory_with(built_in_tlds().unwrap(), operator, Arc::new(|| 1_800_000_000)).unwrap();
        let naming = Naming { server: Some(Name::from_user("localhost").unwrap()), info_url: None };
        let listening = |service| (service, std::net::SocketAddr::from((IpAddr::V4(Ipv4Addr::LOCALHOST), 853)));
        let addrs = Addrs([Service::Quic, Service::Https, Service::Tls].map(listening).to_vec());
        let announce = |now| discovery::announce(&node.gateway, &identity, &naming, &addrs, now).unwrap();
        let told = || ["_dns.resolver.arpa", "_dns.localhost"].map(|owner| designated(&node, owner, Rtype::SVCB));
        announce(1_800_000_000);
        assert_eq!(told(), [3, 3]);

        let mut watch = Watch::new(identity.clone(), node.metrics.clone(), 1_800_000_000);
        let changes = RefCell::new(Vec::new());
        let mut look = |now| {
            watch.look(now, false, |reloaded, now| {
                changes.borrow_mut().push((reloaded.fresh.len(), reloaded.ended.len()));
                announce(now);
            });
            told()
        };
        assert_eq!(look(end), [3, 3]);
        assert_eq!(look(end + 1), [0, 0]);
        // What the server is like does not hang on its certificate.
        assert_eq!(designated(&node, "localhost", Rtype::RESINFO), 1);
        assert_eq!(look(end + 6), [0, 0]);
        Identity::development(dir.path(), SystemTime::UNIX_EPOCH + Duration::from_secs(end)).unwrap();
        assert_eq!(look(end + 11), [3, 3]);
        assert_eq!(*changes.borrow(), [(0, 1), (1, 0)]);
    }
}
