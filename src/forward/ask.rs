//! What upstreams are asked, and what validation makes of it.
//!
//! ```text
//! Asker ─ validating: DnssecDnsHandle ─┐
//!       └ not: ────────────────────────┴─ Guard ─ Upstreams ─ NameServerPool ─ udp, tcp, tls, quic, https, h3
//! ```
//!
//! The guard stands below the validator, so that the questions which that makes up by itself pass it, too. It refuses names
//! of ours, and hands the validator one link of an alias at a time: hickory-net 0.26 takes the denial at the end of a chain
//! that crosses zones for bogus, and asks upstream about every name that it sees in a message.

use std::future::ready;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::Stream;
use futures_util::stream::once;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverOpts};
use hickory_resolver::net::dnssec::DnssecDnsHandle;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::tls::client_config;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer as _};
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::proto::dnssec::rdata::DNSSECRData;
use hickory_resolver::proto::dnssec::{Proof, TrustAnchors};
use hickory_resolver::proto::op::{
    DnsRequest, DnsRequestOptions, DnsResponse, Message as Heard, Query as Asked, ResponseCode,
};
use hickory_resolver::proto::rr::{self, RData, Record, RecordType};
use hickory_resolver::proto::serialize::binary::{BinDecodable as _, BinEncodable as _};
use hickory_resolver::{PoolContext, TlsConfig};
use quick_cache::sync::Cache;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::found::{Found, Next, Part, Trust};
use super::store::Question;
use super::upstreams::Upstreams;
use crate::config::{Forward, Upstream};
use crate::limits::{FORWARD_LINKS, FORWARD_OUTSTANDING, FORWARD_PROOFS, FORWARD_TIMEOUT, UDP_PAYLOAD};
use crate::wire::{EdeCode, Message, Name, Rcode, Rtype, Transport};
use crate::writer::Clock;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failed {
    /// With the key, by its zone and tag, that a signature wants which is otherwise in order.
    #[error("the answer does not validate")]
    Bogus(EdeCode, Option<(Name, u16)>),
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
    plain: Guard,
    validator: Option<DnssecDnsHandle<Guard>>,
    kept: Kept,
    clock: Clock,
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
        let upstreams = Arc::new(Upstreams::new(&config.upstreams, &context)?);
        let plain = Guard { upstreams, kept: kept.clone(), links: None };
        let validator = match config.validate {
            true => Some(validator(plain.clone(), config.anchors.as_deref())?),
            false => None,
        };
        Ok(Self { plain, validator, kept, clock })
    }

    /// Finds the answer.
    pub(super) async fn ask(&self, question: &Question) -> Result<Found, Failed> {
        match self.find(question).await {
            Err(Failed::Bogus(_, Some((zone, tag)))) if !self.has_key(&zone, tag).await => {
                Err(Failed::Bogus(EdeCode::DnskeyMissing, None))
            }
            result => result,
        }
    }

    async fn has_key(&self, zone: &Name, tag: u16) -> bool {
        // The validator has asked for it: its guard remembers the answer.
        let (Some(zone), Some(validator)) = (to_hickory(zone), &self.validator) else { return false };
        let answer = validator.inner().ask(Asked::query(zone, RecordType::DNSKEY), true).await;
        let fits = |record: &Record| match &record.data {
            RData::DNSSEC(DNSSECRData::DNSKEY(key)) => key.calculate_key_tag().is_ok_and(|other| other == tag),
            _ => false,
        };
        answer.is_ok_and(|answer| answer.answers.iter().any(fits))
    }

    /// Follows aliases that an upstream has left unfollowed.
    async fn find(&self, question: &Question) -> Result<Found, Failed> {
        let mut found = Found::default();
        let mut name = question.name.clone();
        for _ in 0..=FORWARD_LINKS {
            let part = self.ask_once(&name, question).await?;
            let now = (self.clock)();
            match found.follow(part, name, question.rtype, |target| (self.kept)(target), now)? {
                Next::End => return Ok(found),
                Next::At(target) => name = target,
            }
        }
        Err(Failed::TooLong)
    }

    async fn ask_once(&self, name: &Name, question: &Question) -> Result<Part, Failed> {
        let rtype = question.rtype;
        let asked = Asked::query(to_hickory(name).ok_or(Failed::Unreadable)?, RecordType::from(rtype.0));
        // RRSIGs are signed by nothing, and ANY may be answered with anything.
        let validator =
            self.validator.as_ref().filter(|_| !question.cd && ![Rtype::RRSIG, Rtype::ANY].contains(&rtype));
        let result = match validator {
            Some(validator) => validator.lookup(asked.clone(), options()).first_answer().await,
            None => self.plain.ask(asked.clone(), question.cd || self.validator.is_some()).await,
        };
        let heard = match result {
            Ok(response) => response.into_message(),
            Err(NetError::Dns(DnsError::NoRecordsFound(nothing))) => nothing_found(asked, nothing),
            Err(NetError::Dns(DnsError::Nsec { response, proof, .. })) => {
                // An answer from a wildcard is looked at again: hickory-net 0.26 wants to see an NSEC at the wildcard itself.
                let proven = |part: &Part| proof == Proof::Insecure || part.proves_expansion(name, rtype);
                let part = read(&response, rtype, true).ok().filter(proven);
                return part.ok_or_else(|| Failed::Bogus(why_unproven(&response), None));
            }
            Err(error) => return Err(failed(&error)),
        };
        read(&heard, rtype, validator.is_some())
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

fn validator(guard: Guard, anchors: Option<&Path>) -> Result<DnssecDnsHandle<Guard>, ForwardError> {
    let anchors = match anchors {
        Some(path) => read_anchors(path)?,
        None => TrustAnchors::default(),
    };
    let links = Some(Arc::new(Cache::new(FORWARD_PROOFS)));
    let handle = DnssecDnsHandle::with_trust_anchor(Guard { links, ..guard }, Arc::new(anchors));
    Ok(handle.validation_cache_size(FORWARD_PROOFS))
}

fn read_anchors(path: &Path) -> Result<TrustAnchors, ForwardError> {
    let failed = |reason: String| ForwardError::Anchors { path: path.to_owned(), reason };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    if !text.contains("DNSKEY") {
        return Err(failed("no DNSKEY record in it".to_owned()));
    }
    text.parse().map_err(|error: hickory_resolver::proto::serialize::txt::ParseError| failed(error.to_string()))
}

/// Lets no question out that must not leave.
#[derive(Clone)]
struct Guard {
    upstreams: Arc<Upstreams>,
    kept: Kept,
    /// For the validator: keys, DS records and cuts that it has asked for of late.
    links: Option<Arc<Links>>,
}

type Links = Cache<(rr::Name, RecordType), (Instant, Result<DnsResponse, NetError>)>;

impl Guard {
    /// One exchange past the validator.
    async fn ask(&self, asked: Asked, checking_disabled: bool) -> Result<DnsResponse, NetError> {
        let mut request = DnsRequest::from_query(asked, options());
        request.metadata.checking_disabled = checking_disabled;
        self.send(request).first_answer().await
    }

    fn keeps(&self, name: &rr::Name) -> bool {
        // What cannot be read does not leave either.
        from_hickory(name).is_none_or(|name| (self.kept)(&name))
    }
}

impl DnsHandle for Guard {
    type Response = Pin<Box<dyn Stream<Item = Result<DnsResponse, NetError>> + Send>>;
    type Runtime = TokioRuntimeProvider;

    fn send(&self, mut request: DnsRequest) -> Self::Response {
        let Some(asked) = request.queries.first().cloned().filter(|asked| !self.keeps(asked.name())) else {
            return Box::pin(once(ready(Err(NetError::Message(KEPT)))));
        };
        let upstreams = self.upstreams.clone();
        let Some(links) = self.links.clone() else {
            return Box::pin(once(async move { upstreams.exchange(request).await }));
        };
        // Whoever validates wants to see what does not (RFC 6840 §5.9).
        request.metadata.checking_disabled = true;
        let key = (asked.name().to_lowercase(), asked.query_type());
        let is_link = [RecordType::DNSKEY, RecordType::DS, RecordType::NS].contains(&key.1);
        let known = links.get(&key).filter(|(until, _)| is_link && Instant::now() < *until);
        if let Some((_, result)) = known {
            return Box::pin(once(ready(result)));
        }
        Box::pin(once(async move {
            let result = upstreams.exchange(request).await.map(|response| one_link(&asked, response));
            if is_link && let Some(seconds) = lifetime(&result) {
                links.insert(key, (Instant::now() + seconds, result.clone()));
            }
            result
        }))
    }
}

/// What the guard says of names that it does not let out.
const KEPT: &str = "this name is not asked for upstream";

/// For how long the validator need not ask again.
fn lifetime(result: &Result<DnsResponse, NetError>) -> Option<Duration> {
    /// The upstream's caches would say the same for longer; a change is seen after so long.
    const MOST: u32 = 600;
    let seconds = match result {
        Ok(response) => response.answers.iter().map(|record| record.ttl).min(),
        Err(NetError::Dns(DnsError::NoRecordsFound(nothing))) => nothing.negative_ttl,
        Err(_) => None,
    };
    seconds.map(|seconds| Duration::from_secs(seconds.min(MOST).into()))
}

/// The records at the name that was asked for, a DNAME above it, and the proofs of a wildcard; the rest of a chain is asked
/// for link by link.
fn one_link(asked: &Asked, mut response: DnsResponse) -> DnsResponse {
    if response.answers.is_empty() {
        return response;
    }
    let fits = |rtype: RecordType| rtype == asked.query_type() || rtype == RecordType::CNAME;
    let mut wildcard_signer = None;
    response.answers.retain(|record| {
        let covered = covered(record);
        let rtype = covered.as_ref().map_or(record.record_type(), |(covered, ..)| *covered);
        if rtype == RecordType::DNAME && record.name != *asked.name() {
            return record.name.zone_of(asked.name());
        }
        let mine = record.name == *asked.name() && fits(rtype);
        if let Some((_, labels, signer)) = covered.filter(|(_, labels, _)| mine && *labels < record.name.num_labels()) {
            wildcard_signer = Some((labels, signer));
        }
        mine
    });
    let proves = |record: &Record| {
        let rtype = covered(record).map_or(record.record_type(), |(covered, ..)| covered);
        let signer = wildcard_signer.as_ref().map(|(_, signer)| signer);
        [RecordType::NSEC, RecordType::NSEC3].contains(&rtype) && signer.is_some_and(|zone| zone.zone_of(&record.name))
    };
    if !response.answers.is_empty() {
        response.authorities.retain(proves);
        if response.answers.iter().any(|record| record.record_type() == RecordType::CNAME) {
            response.metadata.response_code = ResponseCode::NoError;
        }
    }
    response.additionals.clear();
    response
}

/// Of an RRSIG: what it covers, its Labels field and its signer.
fn covered(record: &Record) -> Option<(RecordType, u8, rr::Name)> {
    match &record.data {
        RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) => {
            let input = rrsig.input();
            Some((input.type_covered, input.num_labels, input.signer_name.clone()))
        }
        _ => None,
    }
}

/// The message behind what the pool makes an error of.
fn nothing_found(asked: Asked, nothing: NoRecords) -> Heard {
    let mut heard = Heard::query();
    heard.metadata.response_code = nothing.response_code;
    heard.add_query(asked);
    match nothing.authorities {
        Some(authorities) => heard.authorities = authorities.to_vec(),
        None => heard.authorities.extend(nothing.soa.map(|soa| soa.into_record_of_rdata())),
    }
    heard
}

/// The validator says only that a denial is not proven.
fn why_unproven(response: &DnsResponse) -> EdeCode {
    let denies = |record: &Record| [RecordType::NSEC, RecordType::NSEC3].contains(&record.record_type());
    if response.authorities.iter().any(denies) { EdeCode::DnssecBogus } else { EdeCode::NsecMissing }
}

fn failed(error: &NetError) -> Failed {
    match error {
        NetError::Timeout => Failed::Late,
        NetError::Busy => Failed::Busy,
        NetError::Dns(DnsError::ResponseCode(code)) => Failed::Rcode(u16::from(*code)),
        NetError::Dns(_) => Failed::Bogus(EdeCode::DnssecBogus, None),
        NetError::Proto(_) | NetError::ForeignClassRecord { .. } => Failed::Unreadable,
        NetError::Message(KEPT) => Failed::Kept,
        other => Failed::Network(other.to_string()),
    }
}

/// Through octets into types of ours; what validation said goes along.
fn read(heard: &Heard, rtype: Rtype, validated: bool) -> Result<Part, Failed> {
    let octets = heard.to_vec().map_err(|_| Failed::Unreadable)?;
    let message = Message::parse(&octets).map_err(|_| Failed::Unreadable)?;
    let trust = |record: &Record| match record.proof {
        _ if !validated => Trust::Insecure,
        // An RRSIG has no proof but that it was used for one.
        Proof::Secure => Trust::Secure,
        Proof::Insecure => Trust::Insecure,
        Proof::Bogus | Proof::Indeterminate => Trust::Bogus,
    };
    let trusts = [&heard.answers, &heard.authorities].map(|records| records.iter().map(trust).collect());
    match u16::from(heard.metadata.response_code) {
        0 | 3 => Ok(Part::new(message, trusts, rtype)),
        other => Err(Failed::Rcode(other)),
    }
}

fn to_hickory(name: &Name) -> Option<rr::Name> {
    rr::Name::from_bytes(name.as_wire()).ok()
}

fn from_hickory(name: &rr::Name) -> Option<Name> {
    Name::from_wire(&name.to_bytes().ok()?).ok()
}
