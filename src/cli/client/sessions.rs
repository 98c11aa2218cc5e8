//! What a client keeps of its connections, so that the next ones begin faster, and how they began.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
    WebPkiServerVerifier,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, NamedGroup, SignatureScheme};
use tokio::sync::watch;

/// The sessions of one client with one server. Its connections follow one another: of handshakes at once it could not
/// be told which one was full.
#[derive(Clone)]
pub struct Sessions {
    config: Arc<ClientConfig>,
    early: bool,
    shown: Arc<Shown>,
    tickets: Arc<Tickets>,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").field("early", &self.early).finish_non_exhaustive()
    }
}

impl Sessions {
    /// Keeps the sessions of connections with `config`, whose certificates `verifier` checks. With `early`, data may go
    /// with the handshake (0-RTT), over QUIC.
    pub(super) fn new(mut config: ClientConfig, verifier: Arc<WebPkiServerVerifier>, early: bool) -> Self {
        let shown = Arc::new(Shown { verifier, certificates: AtomicU64::new(0) });
        let tickets = Arc::new(Tickets::new());
        config.dangerous().set_certificate_verifier(shown.clone());
        config.resumption = Resumption::store(tickets.clone());
        config.enable_early_data = early;
        Self { config: Arc::new(config), early, shown, tickets }
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    pub(super) fn early(&self) -> bool {
        self.early
    }

    /// Handshakes in which the server has shown a certificate. One that resumes a session shows none (RFC 8446 §2.2); that
    /// a ticket was offered says nothing, for a server may decline it.
    pub fn full_handshakes(&self) -> u64 {
        self.shown.certificates.load(Ordering::Relaxed)
    }

    /// Waits until there is a session to resume; its ticket comes a round trip after the handshake. For ever, if the server
    /// gives none.
    pub async fn ready(&self) {
        // The sender is kept here, so that there is no end to be told of.
        let _ = self.tickets.held.subscribe().wait_for(|held| *held > 0).await;
    }
}

/// Checks certificates as `verifier` does, and counts them.
#[derive(Debug)]
struct Shown {
    verifier: Arc<WebPkiServerVerifier>,
    certificates: AtomicU64,
}

impl ServerCertVerifier for Shown {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.certificates.fetch_add(1, Ordering::Relaxed);
        self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

/// Tickets of one server that rustls keeps at most; of more it forgets the oldest.
const MAX_TICKETS: usize = 8;

/// rustls's store, which tells when there is something in it.
#[derive(Debug)]
struct Tickets {
    store: ClientSessionMemoryCache,
    held: watch::Sender<usize>,
}

impl Tickets {
    fn new() -> Self {
        Self { store: ClientSessionMemoryCache::new(MAX_TICKETS), held: watch::Sender::new(0) }
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.store.set_kx_hint(server_name, group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.store.kx_hint(server_name)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.store.set_tls12_session(server_name, value);
        // One, which can be resumed any number of times.
        self.held.send_modify(|held| *held = 1);
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.store.tls12_session(server_name)
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        self.store.remove_tls12_session(server_name);
        self.held.send_modify(|held| *held = 0);
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.store.insert_tls13_ticket(server_name, value);
        self.held.send_modify(|held| *held = (*held + 1).min(MAX_TICKETS));
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let taken = self.store.take_tls13_ticket(server_name)?;
        self.held.send_modify(|held| *held = held.saturating_sub(1));
        Some(taken)
    }
}
