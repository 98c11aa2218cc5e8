//! Questions to upstreams, and the use of their answers.
//!
//! ```text
//! Asker ─ Validator (judges one link of an alias at a time, asks for what proves it) ─┐
//!       └────────────────────────────────────────────────────────────────────────────┴─ Plain ─ Upstreams ─ NameServerPool
//! ```
//!
//! Every question passes [`Plain`], those included that validation makes up by itself: it refuses names of ours, and reads
//! an upstream's own octets, for what hickory writes anew may be cut short.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverOpts};
use hickory_resolver::net::tls::client_config;
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::op::{DnsRequest, DnsRequestOptions, Message as Heard, Query as Asked};
use hickory_resolver::proto::rr::{self, RecordType};
use hickory_resolver::proto::serialize::binary::BinDecodable as _;
use hickory_resolver::{PoolContext, TlsConfig};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::found::{Found, Next, Part};
use super::store::Question;
use super::upstreams::Upstreams;
use super::validate::{Validator, Work};
use crate::config::{Forward, Upstream};
use crate::limits::{FORWARD_LINKS, FORWARD_OUTSTANDING, FORWARD_TIMEOUT, UDP_PAYLOAD};
use crate::wire::{EdeCode, Message, Name, Rcode, Rtype, Transport};
use crate::writer::Clock;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failed {
    #[error("the answer does not validate: {1}")]
    Bogus(EdeCode, String),
    #[error("an upstream says {}", Rcode::text(*.0))]
    Rcode(u16),
    #[error("no upstream answers in time")]
    Late,
    #[error("no upstream can be reached: {0}")]
    Network(String),
    #[error("an upstream's answer cannot be read")]
    Unreadable,
    #[error("alias chain of more than {FORWARD_LINKS} links")]
    TooLong,
    #[error("the name is not asked for upstream")]
    Kept,
    #[error("too many questions are waiting")]
    Busy,
}

impl Failed {
    /// The extended error that tells a client (RFC 8914).
    pub(super) fn ede(&self) -> EdeCode {
        match self {
            Self::Bogus(code, _) => *code,
            Self::Rcode(_) | Self::Late => EdeCode::NoReachableAuthority,
            Self::Network(_) => EdeCode::NetworkError,
            Self::Unreadable => EdeCode::InvalidData,
            Self::TooLong => EdeCode::Other,
            Self::Kept => EdeCode::Prohibited,
            Self::Busy => EdeCode::NotReady,
        }
    }
}

/// Why the forwarder does not start.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    #[error("forward.ca: {path}: {reason}")]
    Ca { path: PathBuf, reason: String },
    #[error("forward.anchors: {path}: {reason}")]
    Anchors { path: PathBuf, reason: String },
    #[error("forward.upstreams: {0:?} cannot be the name of a certificate")]
    Name(String),
    #[error("forward: {0}")]
    Tls(#[from] rustls::Error),
    #[error("forward: {0}")]
    Thread(#[from] io::Error),
}

/// Names that nobody upstream is asked for.
pub(super) type Kept = Arc<dyn Fn(&Name) -> bool + Send + Sync>;

/// Asks upstreams.
#[derive(Clone)]
pub(super) struct Asker {
    plain: Plain,
    validator: Option<Arc<Validator>>,
}

impl Asker {
    /// Reads the files that the configuration names; connects when it is first asked.
    pub(super) fn new(config: &Forward, kept: Kept, clock: Clock) -> Result<Self, ForwardError> {
        let mut options = ResolverOpts::default();
        options.timeout = FORWARD_TIMEOUT;
        options.num_concurrent_reqs = 1;
        options.max_active_requests = FORWARD_OUTSTANDING;
        options.edns_payload_len = UDP_PAYLOAD;
        options.case_randomization = true;
        let tls = TlsConfig { config: tls(config.ca.as_deref())? };
        let context = Arc::new(PoolContext::new(options, tls));
        let plain = Plain { upstreams: Arc::new(Upstreams::new(&config.upstreams, &context)?), kept };
        let validator = match config.validate {
            true => Some(Arc::new(Validator::new(plain.clone(), config.anchors.as_deref(), clock)?)),
            false => None,
        };
        Ok(Self { plain, validator })
    }

    /// Finds the answer, and follows aliases that an upstream has left unfollowed.
    pub(super) async fn ask(&self, question: &Question) -> Result<Found, Failed> {
        let mut found = Found::default();
        let (mut name, mut work) = (question.name.clone(), Work::default());
        for _ in 0..=FORWARD_LINKS {
            let part = self.ask_once(&name, question, &mut work).await?;
            match found.follow(part, name, question.rtype, |target| (self.plain.kept)(target))? {
                Next::End => return Ok(found),
                Next::At(target) => name = target,
            }
        }
        Err(Failed::TooLong)
    }

    async fn ask_once(&self, name: &Name, question: &Question, work: &mut Work) -> Result<Part, Failed> {
        let rtype = question.rtype;
        let message = self.plain.ask(name, rtype, question.cd || self.validator.is_some()).await?;
        match self.validator.as_ref().filter(|_| !question.cd) {
            Some(validator) => validator.judge(message, name, rtype, work).await,
            None => Ok(Part::new(message, rtype)),
        }
    }
}

/// Asks, and believes what it is told. Lets no question out that must not leave.
#[derive(Clone)]
pub(super) struct Plain {
    upstreams: Arc<Upstreams>,
    kept: Kept,
}

impl Plain {
    /// One exchange: a message that answers this question, with records or without.
    pub(super) async fn ask(&self, name: &Name, rtype: Rtype, checking_disabled: bool) -> Result<Message, Failed> {
        if (self.kept)(name) {
            return Err(Failed::Kept);
        }
        let asked = Asked::query(to_hickory(name).ok_or(Failed::Unreadable)?, RecordType::from(rtype.0));
        let mut request = DnsRequest::from_query(asked.clone(), options());
        request.metadata.checking_disabled = checking_disabled;
        match self.upstreams.exchange(request).await {
            Ok(response) => read(response.as_buffer(), name, rtype),
            Err(NetError::Dns(DnsError::NoRecordsFound(nothing))) => {
                let heard = nothing_found(nothing).to_vec().map_err(|_| Failed::Unreadable)?;
                read(&heard, name, rtype)
            }
            Err(error) => Err(failed(&error)),
        }
    }
}

/// Reads an upstream's octets: they must be a whole reply to this very question (RFC 5452 §9.1).
fn read(octets: &[u8], name: &Name, rtype: Rtype) -> Result<Message, Failed> {
    /// QR, opcode and TC: a reply to a query that is not cut short.
    const MASK: u16 = 0xfa00;
    const REPLY: u16 = 0x8000;
    let message = Message::parse(octets).map_err(|_| Failed::Unreadable)?;
    let is_asked = message.question.as_ref().is_some_and(|question| (&question.0, question.1) == (name, rtype));
    if message.flags & MASK != REPLY || !is_asked {
        return Err(Failed::Unreadable);
    }
    match message.rcode() {
        0 | 3 => Ok(message),
        other => Err(Failed::Rcode(other)),
    }
}

/// Options of every exchange: with DO, since clients may want signatures and the validator does.
fn options() -> DnsRequestOptions {
    let mut options = DnsRequestOptions::default();
    options.edns_set_dnssec_ok = true;
    options.edns_payload_len = UDP_PAYLOAD;
    options.case_randomization = true;
    options
}

/// The server of an upstream, and how it is connected to.
pub(super) fn server(upstream: &Upstream) -> Result<NameServerConfig, ForwardError> {
    let name = || {
        let fits = rustls::pki_types::ServerName::try_from(upstream.name.as_str()).is_ok();
        if fits { Ok(Arc::from(upstream.name.as_str())) } else { Err(ForwardError::Name(upstream.name.clone())) }
    };
    let path = || Arc::from(upstream.path.as_str());
    let protocols = match upstream.via {
        // What does not fit in a datagram is asked for again.
        Transport::Udp => vec![ProtocolConfig::Udp, ProtocolConfig::Tcp],
        Transport::Tcp => vec![ProtocolConfig::Tcp],
        Transport::Tls => vec![ProtocolConfig::Tls { server_name: name()? }],
        Transport::Quic => vec![ProtocolConfig::Quic { server_name: name()? }],
        Transport::Https => vec![ProtocolConfig::Https { server_name: name()?, path: path() }],
        Transport::H3 => vec![ProtocolConfig::H3 { server_name: name()?, path: path(), disable_grease: false }],
    };
    let connection = |protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = upstream.addr.port();
        connection
    };
    Ok(NameServerConfig::new(upstream.addr.ip(), true, protocols.into_iter().map(connection).collect()))
}

/// Trusts the certificates in a file, or those that come with the program.
fn tls(ca: Option<&Path>) -> Result<rustls::ClientConfig, ForwardError> {
    let mut config = client_config()?;
    let Some(path) = ca else { return Ok(config) };
    let failed = |reason: String| ForwardError::Ca { path: path.to_owned(), reason };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))? {
        roots.add(certificate.map_err(|error| failed(error.to_string()))?)?;
    }
    if roots.is_empty() {
        return Err(failed("no certificate in it".to_owned()));
    }
    let provider = config.crypto_provider().clone();
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    config = builder.with_root_certificates(roots).with_no_client_auth();
    Ok(config)
}

/// The message behind what the pool makes an error of.
fn nothing_found(nothing: NoRecords) -> Heard {
    let mut heard = Heard::query().into_response();
    heard.metadata.response_code = nothing.response_code;
    heard.add_query(*nothing.query);
    match nothing.authorities {
        Some(authorities) => heard.authorities = authorities.to_vec(),
        None => heard.authorities.extend(nothing.soa.map(|soa| soa.into_record_of_rdata())),
    }
    heard
}

fn failed(error: &NetError) -> Failed {
    match error {
        NetError::Timeout => Failed::Late,
        NetError::Busy => Failed::Busy,
        NetError::Dns(DnsError::ResponseCode(code)) => Failed::Rcode(u16::from(*code)),
        NetError::Dns(_) | NetError::Proto(_) | NetError::ForeignClassRecord { .. } => Failed::Unreadable,
        other => Failed::Network(other.to_string()),
    }
}

fn to_hickory(name: &Name) -> Option<rr::Name> {
    rr::Name::from_bytes(name.as_wire()).ok()
}
