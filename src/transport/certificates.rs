//! The certificates that listeners show: chosen by the name that a client asks for, exchanged while connections go on.
//!
//! ```text
//! files ─ load ─> Certificate ─┐
//!   └ reload: changed? ────────┴> Shown, behind one Arc ─ choose(SNI) ─> rustls, of every listener
//! ```

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::tls::{TlsError, bad_pem, provider, read, read_certificates};

/// A certificate chain and its key.
#[derive(Debug)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    /// DNS names of the leaf in lower case, wildcards among them.
    names: Vec<String>,
    /// Seconds since 1970 until which the leaf is valid.
    pub not_after: u64,
}

impl Certificate {
    /// Reads PEM files: the leaf certificate first, and its PKCS#8, SEC1 or PKCS#1 key.
    ///
    /// # Errors
    /// A file cannot be read, is too long, has no PEM of its kind, or they do not go together.
    pub fn load(chain: &Path, key: &Path) -> Result<Self, TlsError> {
        let certificates = read_certificates(chain)?;
        let pem = read(key)?;
        let secret = PrivateKeyDer::from_pem_slice(&pem).map_err(|reason| bad_pem(key, reason))?;
        let (names, not_after) = examine(&certificates[0]).ok_or_else(|| bad_pem(chain, "not a certificate"))?;
        let key = Arc::new(CertifiedKey::from_der(certificates, secret, &provider())?);
        Ok(Self { key, names, not_after })
    }

    /// The leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    /// True if a client takes it for this name or address (RFC 9525).
    pub fn is_for(&self, name: &ServerName<'_>) -> bool {
        let leaf = self.key.cert.first();
        let parsed = leaf.and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
        parsed.is_some_and(|leaf| verify_server_name(&leaf, name).is_ok())
    }
}

/// DNS names and the end of a certificate (RFC 5280 §4.1.2.5, §4.2.1.6).
fn examine(certificate: &[u8]) -> Option<(Vec<String>, u64)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let not_after = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    let alternatives = certificate.subject_alternative_name().ok()?;
    let names = alternatives.iter().flat_map(|alternatives| &alternatives.value.general_names);
    let dns = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    Some((dns.collect(), not_after))
}

/// What is shown at a moment: at least one.
#[derive(Debug)]
struct Shown {
    certificates: Vec<Arc<Certificate>>,
    by_name: HashMap<String, usize>,
}

impl Shown {
    /// Of two with the same name, the first is shown.
    fn new(certificates: Vec<Arc<Certificate>>) -> Self {
        let mut by_name = HashMap::new();
        for (at, certificate) in certificates.iter().enumerate() {
            for name in &certificate.names {
                by_name.entry(name.clone()).or_insert(at);
            }
        }
        Self { certificates, by_name }
    }

    /// By the whole name, else by a wildcard for its first label (RFC 9525 §6.3); the first one for anybody else.
    fn choose(&self, name: Option<&str>) -> &Arc<Certificate> {
        let name = name.map(str::to_ascii_lowercase);
        let wildcard = || Some(format!("*.{}", name.as_deref()?.split_once('.')?.1));
        let exact = name.as_ref().and_then(|name| self.by_name.get(name));
        let found = exact.or_else(|| self.by_name.get(&wildcard()?));
        &self.certificates[found.copied().unwrap_or(0)]
    }
}

/// Size, time and number of a file.
type FileStamp = (u64, i64, i64, u64);

/// Of chain and key; `None` while one of them cannot be looked at.
type Stamp = Option<[FileStamp; 2]>;

fn stamp(files: &(PathBuf, PathBuf)) -> Stamp {
    let of = |path: &Path| {
        let data = fs::metadata(path)?;
        Ok::<_, io::Error>((data.len(), data.mtime(), data.mtime_nsec(), data.ino()))
    };
    of(&files.0).and_then(|chain| Ok([chain, of(&files.1)?])).ok()
}

/// What a look at the files came to.
#[derive(Debug, Default)]
pub struct Reloaded {
    /// Files that are shown now.
    pub fresh: Vec<PathBuf>,
    /// Files that are not, and why: what they held before is shown on.
    pub failed: Vec<(PathBuf, TlsError)>,
}

/// Certificates and the files that they came from.
#[derive(Debug)]
pub struct Certificates {
    files: Vec<(PathBuf, PathBuf)>,
    shown: RwLock<Arc<Shown>>,
    /// Of the files when they were last looked into.
    stamps: Mutex<Vec<Stamp>>,
}

impl Certificates {
    /// Reads pairs of chain and key.
    ///
    /// # Errors
    /// As [`Certificate::load`]; or there is none.
    pub fn load(files: Vec<(PathBuf, PathBuf)>) -> Result<Self, TlsError> {
        // Before they are read: what changes in between is seen later.
        let stamps = files.iter().map(stamp).collect();
        let certificates = files.iter().map(|(chain, key)| Certificate::load(chain, key).map(Arc::new));
        let certificates = certificates.collect::<Result<Vec<_>, _>>()?;
        if certificates.is_empty() {
            return Err(TlsError::None);
        }
        let shown = RwLock::new(Arc::new(Shown::new(certificates)));
        Ok(Self { files, shown, stamps: Mutex::new(stamps) })
    }

    /// Shows what has changed in the files, or with `all` whatever is in them. What cannot be read, does not go together or
    /// has ended by `now`, seconds since 1970, leaves the one before in its place; it is tried again when it changes.
    pub fn reload(&self, now: u64, all: bool) -> Reloaded {
        // Held to the end: two reloads at once would undo each other. What it guards is replaced whole.
        let mut stamps = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        let mut certificates = self.shown().certificates.clone();
        let mut reloaded = Reloaded::default();
        for (at, files) in self.files.iter().enumerate() {
            let fresh = stamp(files);
            if !all && fresh == stamps[at] {
                continue;
            }
            stamps[at] = fresh;
            match load_current(files, now) {
                Ok(certificate) => {
                    certificates[at] = Arc::new(certificate);
                    reloaded.fresh.push(files.0.clone());
                }
                Err(error) => reloaded.failed.push((files.0.clone(), error)),
            }
        }
        if !reloaded.fresh.is_empty() {
            *self.shown.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Shown::new(certificates));
        }
        reloaded
    }

    /// The certificates in their order, each with the file of its chain.
    pub fn list(&self) -> Vec<(PathBuf, Arc<Certificate>)> {
        let chains = self.files.iter().map(|(chain, _)| chain.clone());
        chains.zip(self.shown().certificates.iter().cloned()).collect()
    }

    /// What a client is shown that asks for a name, or for none.
    pub fn shown_to(&self, asked: Option<&str>) -> Arc<Certificate> {
        Arc::clone(self.shown().choose(asked))
    }

    fn shown(&self) -> Arc<Shown> {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn load_current(files: &(PathBuf, PathBuf), now: u64) -> Result<Certificate, TlsError> {
    let certificate = Certificate::load(&files.0, &files.1)?;
    if certificate.not_after > now { Ok(certificate) } else { Err(TlsError::Ended(files.0.clone())) }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.shown_to(hello.server_name()).key))
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// Chain and key for `names` until a year, in files called `stem`.
    fn make(dir: &Path, stem: &str, names: &[&str], year: i32) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        let files = (dir.join(format!("{stem}.pem")), dir.join(format!("{stem}.key")));
        for (file, pem) in [(&files.0, params.self_signed(&key).unwrap().pem()), (&files.1, key.serialize_pem())] {
            // Renamed into place: another file, however fast this is.
            let fresh = file.with_extension("new");
            fs::write(&fresh, pem).unwrap();
            fs::rename(&fresh, file).unwrap();
        }
        files
    }

    /// 2030-01-01.
    const NOW: u64 = 1_893_456_000;

    fn leaf(certificates: &Certificates, name: Option<&str>) -> Vec<u8> {
        certificates.shown_to(name).chain()[0].to_vec()
    }

    #[test]
    fn a_certificate_is_chosen_by_name_then_by_wildcard_then_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let names: [&[&str]; 4] =
            [&["first.example"], &["*.w.example"], &["a.example", "b.example"], &["deep.a.example", "a.example"]];
        let files = names.iter().enumerate().map(|(n, names)| make(dir.path(), &n.to_string(), names, 2040)).collect();
        let certificates = Certificates::load(files).unwrap();
        let list = certificates.list();
        let at = |name: Option<&str>| {
            let shown = leaf(&certificates, name);
            list.iter().position(|(_, certificate)| certificate.chain()[0].to_vec() == shown).unwrap()
        };
        assert_eq!([at(None), at(Some("nobody.test")), at(Some("w.example")), at(Some("x.c.w.example"))], [0; 4]);
        assert_eq!(at(Some("c.w.example")), 1);
        assert_eq!([at(Some("a.example")), at(Some("B.example"))], [2, 2]);
        assert_eq!([at(Some("deep.a.example")), at(Some("first.example"))], [3, 0]);
        let is_for =
            |name: &'static str| certificates.shown_to(Some(name)).is_for(&ServerName::try_from(name).unwrap());
        assert!(is_for("c.w.example") && is_for("deep.a.example"));
        assert!(!is_for("x.c.w.example") && !is_for("192.0.2.1") && !is_for("w.example"));
        assert!(matches!(Certificates::load(Vec::new()), Err(TlsError::None)));
    }

    #[test]
    fn what_is_good_in_changed_files_is_shown_and_what_is_bad_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let files = make(dir.path(), "gw", &["gw.example"], 2040);
        let certificates = Certificates::load(vec![files.clone()]).unwrap();
        assert_eq!(certificates.list()[0].1.not_after, 2_208_988_800);
        let old = leaf(&certificates, None);
        let unchanged = certificates.reload(NOW, false);
        assert!(unchanged.fresh.is_empty() && unchanged.failed.is_empty());
        assert_eq!(certificates.reload(NOW, true).fresh, std::slice::from_ref(&files.0));
        let bad = |change: &dyn Fn()| {
            change();
            let reloaded = certificates.reload(NOW, false);
            assert!(reloaded.fresh.is_empty() && leaf(&certificates, None) == old);
            // Said once, not at every look.
            assert!(certificates.reload(NOW, false).failed.is_empty());
            reloaded.failed.into_iter().next().unwrap().1.to_string()
        };
        let told = bad(&|| fs::write(&files.0, "nothing").unwrap());
        assert!(told.contains("no certificate in it"), "{told}");
        let told = bad(&|| fs::remove_file(&files.1).unwrap());
        assert!(told.contains("has no usable PEM") || told.contains("cannot read"), "{told}");
        let other = make(dir.path(), "other", &["gw.example"], 2040);
        let told = bad(&|| {
            make(dir.path(), "gw", &["gw.example"], 2040);
            fs::copy(&other.1, &files.1).unwrap();
        });
        assert!(told.contains("do not go together"), "{told}");
        let told = bad(&|| drop(make(dir.path(), "gw", &["gw.example"], 2029)));
        assert!(told.contains("has ended"), "{told}");
        // The key of another comes first, as programs that renew leave it for a moment.
        fs::rename(&other.0, &files.0).unwrap();
        assert_eq!(certificates.reload(NOW, false).failed.len(), 1);
        fs::rename(&other.1, &files.1).unwrap();
        assert_eq!(certificates.reload(NOW, false).fresh, std::slice::from_ref(&files.0));
        assert_ne!(leaf(&certificates, None), old);
    }
}
