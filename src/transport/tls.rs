//! Certificates: from files, or made by a development CA.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate chain and its key.
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path}: {error}")]
    Io { path: String, error: std::io::Error },
    #[error("{path} holds no {what} in PEM form")]
    Pem { path: String, what: &'static str },
    #[error("certificate and key do not fit: {0}")]
    Rustls(#[from] rustls::Error),
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// Names of the development certificate. A wildcard right under a TLD would be no use: clients refuse it.
const DEV_NAMES: [&str; 5] = ["localhost", "ns.ghost", "ns.sig", "ns.gcc", "ns.bc"];
/// Days that a development certificate lasts; it is made anew at every start.
const DEV_DAYS: u64 = 90;

impl Identity {
    /// A TLS server configuration that offers these protocols (ALPN), in this order. TLS 1.2 only where the
    /// transport is not QUIC.
    ///
    /// # Errors
    /// Certificate and key do not fit each other.
    pub fn server_config(&self, alpn: &[&[u8]]) -> Result<rustls::ServerConfig, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config =
            builder.with_no_client_auth().with_single_cert(self.chain.clone(), self.key.clone_key())?;
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        // 0-RTT data can be replayed; until that is handled per opcode it is off (RFC 9250 §4.5).
        config.max_early_data_size = 0;
        Ok(config)
    }
}

/// Reads a PEM chain and key.
///
/// # Errors
/// [`TlsError`]
pub fn load_identity(chain: &Path, key: &Path) -> Result<Identity, TlsError> {
    let pem = |path: &Path, what| TlsError::Pem { path: path.display().to_string(), what };
    let certificates = CertificateDer::pem_file_iter(chain).map_err(|_| pem(chain, "certificate"))?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(|_| pem(chain, "certificate"))?;
    if certificates.is_empty() {
        return Err(pem(chain, "certificate"));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|_| pem(key, "private key"))?;
    Ok(Identity { chain: certificates, key })
}

/// A certificate for loopback signed by the CA of `folder` (`ca.pem`, `ca.key`), which is made on first use.
/// `now` is seconds since 1970.
///
/// # Errors
/// [`TlsError`]
pub fn dev_identity(folder: &Path, now: u64) -> Result<Identity, TlsError> {
    let (pem_path, key_path) = (folder.join("ca.pem"), folder.join("ca.key"));
    let ca_key = match std::fs::read_to_string(&key_path) {
        Ok(text) => KeyPair::from_pem(&text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => make_ca(&pem_path, &key_path, now)?,
        Err(error) => return Err(TlsError::Io { path: key_path.display().to_string(), error }),
    };
    let issuer = Issuer::new(ca_params(now), ca_key);
    let mut params = CertificateParams::new(DEV_NAMES.map(str::to_owned))?;
    for addr in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        params.subject_alt_names.push(SanType::IpAddress(addr));
    }
    params.distinguished_name.push(DnType::CommonName, "ghostplane development");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (day(now - 86_400), day(now + DEV_DAYS * 86_400));
    let key = KeyPair::generate()?;
    let leaf = params.signed_by(&key, &issuer)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
    Ok(Identity { chain: vec![leaf.der().clone()], key })
}

fn make_ca(pem_path: &Path, key_path: &Path, now: u64) -> Result<KeyPair, TlsError> {
    let key = KeyPair::generate()?;
    let certificate = ca_params(now).self_signed(&key)?;
    write(key_path, &key.serialize_pem(), 0o600)?;
    write(pem_path, &certificate.pem(), 0o644)?;
    Ok(key)
}

fn ca_params(now: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "ghostplane development CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (day(now - 86_400), day(now + 3_650 * 86_400));
    params
}

/// Midnight of the day that `time` falls in.
fn day(time: u64) -> time::OffsetDateTime {
    // The text is YYYYMMDDHHMMSS; a year fits in an i32, month and day in a u8.
    let text = crate::wire::rdata::civil(time as u32);
    let field = |range: std::ops::Range<usize>| text[range].parse::<u16>().unwrap_or(1);
    rcgen::date_time_ymd(i32::from(field(0..4)), field(4..6) as u8, field(6..8) as u8)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let io = |error| TlsError::Io { path: path.display().to_string(), error };
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path).map_err(io)?;
    file.write_all(text.as_bytes()).map_err(io)
}
