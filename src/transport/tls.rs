//! Certificates: the operator's files, or a development CA made on the spot.

use std::fs;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::Ticketer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{RootCertStore, ServerConfig, SupportedCipherSuite};
use zeroize::Zeroizing;

use super::certificates::{Certificate, Certificates};
use crate::limits::MAX_PEM_FILE;
use crate::secret_file::{self, NOT_OWNER, ReadError};

/// ALPN of DNS over QUIC (RFC 9250 §4.1.1).
pub const ALPN_DOQ: &[&[u8]] = &[b"doq"];
/// ALPN of DNS over TLS (RFC 7858, IANA registry).
pub const ALPN_DOT: &[&[u8]] = &[b"dot"];
/// ALPN of HTTP/3 (RFC 9114 §3.1).
pub const ALPN_H3: &[&[u8]] = &[b"h3"];
/// ALPN of HTTP over TLS on TCP, best first.
pub const ALPN_HTTPS: &[&[u8]] = &[b"h2", b"http/1.1"];

/// Names the development certificate is for. Never a wildcard under a TLD: clients reject it.
const NAMES: [&str; 5] = ["localhost", "ns.ghost", "ns.sig", "ns.gcc", "ns.bc"];
const ADDRESSES: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

const DAY: Duration = Duration::from_secs(86_400);
/// Some clients refuse more than 398 days.
const LEAF_LIFE: Duration = Duration::from_secs(390 * 86_400);
const CA_LIFE: Duration = Duration::from_secs(10 * 366 * 86_400);
/// A leaf that has less than this left is made anew.
const LEAF_MARGIN: Duration = Duration::from_secs(30 * 86_400);
/// Clocks of clients may be behind ours.
const BACKDATE: Duration = DAY;

/// What went wrong with a certificate. Each says all of it: none has a source, which would be told a second time.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read or write {}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("{} has no usable PEM: {reason}", path.display())]
    Pem { path: PathBuf, reason: String },
    #[error("{} can be read by others (mode {mode:o}); run: chmod {wanted:o} {}", path.display(), path.display())]
    Mode { path: PathBuf, mode: u32, wanted: u32 },
    #[error("certificate {} and key {} do not go together, or TLS cannot use them: {reason}", chain.display(), key.display())]
    Unusable { chain: PathBuf, key: PathBuf, reason: rustls::Error },
    #[error(
        "the certificate in {} ended at {}: renew it; if that takes a running server, start it with another one first, \
         self-signed if need be",
        path.display(), date(*at)
    )]
    Ended { path: PathBuf, at: u64 },
    #[error(
        "the certificate in {} is valid from {} on: give one that is valid now, or set this machine's clock",
        path.display(), date(*from)
    )]
    NotYet { path: PathBuf, from: u64 },
    #[error("there is no certificate")]
    None,
    #[error("TLS cannot be had: {0}")]
    Protocol(rustls::Error),
    #[error("cannot make a development certificate: {0}")]
    Make(rcgen::Error),
}

impl From<rcgen::Error> for TlsError {
    fn from(error: rcgen::Error) -> Self {
        Self::Make(error)
    }
}

impl From<rustls::Error> for TlsError {
    fn from(error: rustls::Error) -> Self {
        Self::Protocol(error)
    }
}

/// Seconds since 1970 as RFC 3339 has them.
fn date(seconds: u64) -> humantime::Rfc3339Timestamp {
    // The last second that has such a form.
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799)))
}

/// What the server shows to clients. Clones and configurations share the certificates: when those are reloaded, the next
/// handshake of every listener has the new ones.
#[derive(Debug, Clone)]
pub struct Identity(Arc<Certificates>);

impl Identity {
    /// Reads pairs of PEM files, chain and key; `now` is in seconds since 1970.
    ///
    /// # Errors
    /// As [`Certificates::load`].
    pub fn load(files: Vec<(PathBuf, PathBuf)>, now: u64) -> Result<Self, TlsError> {
        Certificates::load(files, now).map(|certificates| Self(Arc::new(certificates)))
    }

    pub fn certificates(&self) -> &Certificates {
        &self.0
    }

    /// The development identity in `dir`: `ca.pem`, `ca.key`, `tls.pem`, `tls.key`, each made if it is
    /// missing; the leaf also if a client would not accept it 30 days after `now`.
    ///
    /// # Errors
    /// A file cannot be read, written or understood, or a key can be read by others.
    pub fn development(dir: &Path, now: SystemTime) -> Result<Self, TlsError> {
        Self::check_development(dir)?;
        let files = Files::of(dir);
        let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if !(files.ca.exists() && files.ca_key.exists()) {
            files.make_ca(now)?;
        } else if let Ok(certificate) = Certificate::load(&files.leaf, &files.leaf_key)
            && files.accepts(certificate.chain(), now + LEAF_MARGIN)
        {
            return Self::load(vec![(files.leaf, files.leaf_key)], seconds);
        }
        files.make_leaf(now)?;
        Self::load(vec![(files.leaf, files.leaf_key)], seconds)
    }

    /// Looks whether what is there of a development identity can be used; makes nothing.
    ///
    /// # Errors
    /// A key can be read by others, or a file cannot be looked at.
    pub fn check_development(dir: &Path) -> Result<(), TlsError> {
        let Files { ca_key, leaf_key, .. } = Files::of(dir);
        [ca_key, leaf_key].iter().filter(|key| key.exists()).try_for_each(|key| read_key(key, NOT_OWNER).map(drop))
    }

    /// A TLS configuration that speaks these application protocols, TLS 1.2 and 1.3 over TCP.
    ///
    /// # Errors
    /// TLS cannot be had with these versions.
    pub fn config(&self, alpn: &[&[u8]]) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(server_provider()).with_safe_default_protocol_versions()?;
        resume_statelessly(self.finish(builder, alpn))
    }

    /// The same for QUIC: TLS 1.3 only, no 0-RTT. How sessions are resumed is for the protocol to say.
    ///
    /// # Errors
    /// TLS cannot be had with these versions.
    pub fn quic_config(&self, alpn: &[&[u8]]) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(server_provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?;
        let mut config = self.finish(builder, alpn);
        // 0-RTT data can be replayed: only DoQ is ready for that.
        config.max_early_data_size = 0;
        Ok(config)
    }

    fn finish(
        &self,
        builder: rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>,
        alpn: &[&[u8]],
    ) -> ServerConfig {
        let mut config = builder.with_no_client_auth().with_cert_resolver(self.0.clone());
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        config.ignore_client_order = true;
        config
    }
}

/// Has sessions travel in their tickets: whoever comes back resumes, however many others came in between. No 0-RTT goes with
/// it, as nobody knows whether a ticket was used before.
///
/// # Errors
/// There are no random numbers for the tickets' key.
pub fn resume_statelessly(mut config: ServerConfig) -> Result<ServerConfig, TlsError> {
    config.ticketer = Ticketer::new()?;
    Ok(config)
}

/// The certificates of a PEM file, such as `ca.pem`.
///
/// # Errors
/// The file cannot be read or has no certificate.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(bad_pem(path, "no certificate in it")),
        Err(reason) => Err(bad_pem(path, reason)),
    }
}

/// ring, named explicitly: the process default is not ours to set.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The same with the suites of SHA-256 first, AES-128 before all (RFC 8446 §9.1: the one that everybody has). Processors hash
/// it in hardware and SHA-384 not: it takes a tenth off a handshake, and off every packet some.
fn server_provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| hash_length(*suite));
    Arc::new(provider)
}

fn hash_length(suite: SupportedCipherSuite) -> usize {
    let common = match suite {
        SupportedCipherSuite::Tls12(suite) => &suite.common,
        SupportedCipherSuite::Tls13(suite) => &suite.common,
    };
    common.hash_provider.output_len()
}

struct Files {
    ca: PathBuf,
    ca_key: PathBuf,
    leaf: PathBuf,
    leaf_key: PathBuf,
}

impl Files {
    fn of(dir: &Path) -> Self {
        Self {
            ca: dir.join("ca.pem"),
            ca_key: dir.join("ca.key"),
            leaf: dir.join("tls.pem"),
            leaf_key: dir.join("tls.key"),
        }
    }

    fn make_ca(&self, now: SystemTime) -> Result<(), TlsError> {
        let key = KeyPair::generate()?;
        let certificate = ca_params(now)?.self_signed(&key)?;
        // The key first: a certificate without its key would be reused and sign nothing.
        write(&self.ca_key, &Zeroizing::new(key.serialize_pem()), 0o600)?;
        write(&self.ca, &certificate.pem(), 0o644)
    }

    fn make_leaf(&self, now: SystemTime) -> Result<(), TlsError> {
        let pem = read_key(&self.ca_key, NOT_OWNER)?;
        let ca_key = std::str::from_utf8(&pem).ok().and_then(|pem| KeyPair::from_pem(pem).ok());
        let ca_key = ca_key.ok_or_else(|| bad_pem(&self.ca_key, NO_KEY))?;
        let issuer = Issuer::new(ca_params(now)?, ca_key);
        let key = KeyPair::generate()?;
        let certificate = leaf_params(now)?.signed_by(&key, &issuer)?;
        write(&self.leaf_key, &Zeroizing::new(key.serialize_pem()), 0o600)?;
        write(&self.leaf, &certificate.pem(), 0o644)
    }

    /// True if a client that trusts our CA takes this chain at `when`, for every name.
    fn accepts(&self, chain: &[CertificateDer<'_>], when: SystemTime) -> bool {
        let Ok(since_epoch) = when.duration_since(SystemTime::UNIX_EPOCH) else { return false };
        let Some((leaf, rest)) = chain.split_first() else { return false };
        let Some(verifier) = self.verifier() else { return false };
        let when = UnixTime::since_unix_epoch(since_epoch);
        server_names().all(|name| verifier.verify_server_cert(leaf, rest, &name, &[], when).is_ok())
    }

    fn verifier(&self) -> Option<Arc<WebPkiServerVerifier>> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(read_certificates(&self.ca).ok()?);
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().ok()
    }
}

fn server_names() -> impl Iterator<Item = ServerName<'static>> {
    let names = NAMES.into_iter().filter_map(|name| ServerName::try_from(name).ok());
    names.chain(ADDRESSES.into_iter().map(ServerName::from))
}

/// The CA's parameters. Its subject must stay the same for ever: leaves are issued by rebuilding it.
fn ca_params(now: SystemTime) -> Result<CertificateParams, TlsError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "Ghostplane development CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + CA_LIFE).into();
    Ok(params)
}

fn leaf_params(now: SystemTime) -> Result<CertificateParams, TlsError> {
    let names = NAMES.iter().map(ToString::to_string).chain(ADDRESSES.iter().map(ToString::to_string));
    let mut params = CertificateParams::new(names.collect::<Vec<_>>())?;
    params.distinguished_name.push(DnType::CommonName, "Ghostplane development server");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = (now - BACKDATE).into();
    params.not_after = (now + LEAF_LIFE).into();
    Ok(params)
}

/// The error for a key file that has no key. An error never quotes the file: it may hold a key.
pub(super) const NO_KEY: &str = "no private key in it (PKCS#8, SEC1 or PKCS#1)";

/// Reads the file of a key, unless its mode has one of the bits `refused`.
pub(super) fn read_key(path: &Path, refused: u32) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    secret_file::read(path, refused, MAX_PEM_FILE).map_err(|error| match error {
        ReadError::Io(error) => at(path, error),
        // Of those who may read it otherwise, nobody loses the right.
        ReadError::Mode(mode) => {
            TlsError::Mode { path: path.to_owned(), mode, wanted: if refused == NOT_OWNER { 0o600 } else { 0o640 } }
        }
        ReadError::TooLong => bad_pem(path, "too long"),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let file = fs::File::open(path).map_err(|error| at(path, error))?;
    let mut octets = Vec::new();
    file.take(MAX_PEM_FILE + 1).read_to_end(&mut octets).map_err(|error| at(path, error))?;
    if octets.len() as u64 > MAX_PEM_FILE { Err(bad_pem(path, "too long")) } else { Ok(octets) }
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    secret_file::replace(path, text.as_bytes(), mode).map_err(|error| at(path, error))
}

fn at(path: &Path, error: io::Error) -> TlsError {
    TlsError::File { path: path.to_owned(), error }
}

pub(super) fn bad_pem(path: &Path, reason: impl ToString) -> TlsError {
    TlsError::Pem { path: path.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_development_identity_is_reused_until_it_nears_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        let development = |now| {
            let identity = Identity::development(dir.path(), now).unwrap();
            identity.certificates().list()[0].1.chain().to_vec()
        };
        let first = development(now);
        let ca = fs::read(dir.path().join("ca.pem")).unwrap();
        assert_eq!(first, development(now + 300 * DAY));
        let renewed = development(now + 365 * DAY);
        assert_ne!(first, renewed);
        assert_eq!(fs::read(dir.path().join("ca.pem")).unwrap(), ca);
        assert!(Files::of(dir.path()).accepts(&renewed, now + 366 * DAY));
        for file in ["ca.key", "tls.key"] {
            let mode = fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[test]
    fn keys_of_ours_that_others_can_read_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let now = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        Identity::development(dir.path(), now).unwrap();
        for file in ["ca.key", "tls.key"] {
            let path = dir.path().join(file);
            let set_mode = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            for mode in [0o644, 0o640, 0o610] {
                set_mode(mode);
                let refused = Identity::development(dir.path(), now).unwrap_err().to_string();
                let expected = format!("{file} can be read by others (mode {mode:o}); run: chmod 600 ");
                assert!(refused.contains(&expected), "{refused}");
                assert!(Identity::check_development(dir.path()).is_err());
            }
            set_mode(0o400);
            Identity::development(dir.path(), now).unwrap();
        }
        assert!(Identity::check_development(&dir.path().join("nothing")).is_ok());
    }

    #[test]
    fn errors_say_everything_once() {
        let path = || PathBuf::from("gw.pem");
        let (tls, error) = (rustls::Error::NoCertificatesPresented, io::Error::from(io::ErrorKind::NotFound));
        for error in [
            TlsError::File { path: path(), error },
            TlsError::Unusable { chain: path(), key: path(), reason: tls.clone() },
            TlsError::from(tls),
            TlsError::from(rcgen::Error::CouldNotParseKeyPair),
        ] {
            assert!(std::error::Error::source(&error).is_none(), "{error}");
        }
    }

    #[test]
    fn the_certificate_leaves_room_in_the_first_flight() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::development(dir.path(), SystemTime::UNIX_EPOCH + 20_000 * DAY).unwrap();
        // 3 x 1200 octets before the client's address is validated (RFC 9000 §8.1).
        let chain = identity.certificates().list()[0].1.chain().to_vec();
        assert!(chain.iter().map(|certificate| certificate.len()).sum::<usize>() < 1_000);
        identity.config(ALPN_HTTPS).unwrap();
        assert_eq!(identity.quic_config(ALPN_DOQ).unwrap().max_early_data_size, 0);
    }
}
