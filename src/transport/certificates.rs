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

use rustls::InconsistentKeys;
use rustls::client::verify_server_name;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::time::ASN1Time;
use zeroize::Zeroize as _;

use super::tls::{NO_KEY, TlsError, bad_pem, read_certificates, read_key};
use crate::secret_file::EVERYBODY;

/// A certificate chain and its key.
#[derive(Debug)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    /// DNS names of the leaf in lower case, wildcards among them.
    pub names: Vec<String>,
    /// Seconds since 1970: the first and the last at which the leaf is valid (RFC 5280 §4.1.2.5). Those above it are not
    /// looked at: a client finds its own way to a root, also past one that has ended.
    pub not_before: u64,
    pub not_after: u64,
}

impl Certificate {
    /// Reads PEM files: the leaf certificate first, and its PKCS#8, SEC1 or PKCS#1 key.
    ///
    /// # Errors
    /// A file cannot be read, is too long, has no PEM of its kind, or they do not go together; everybody can read the key.
    pub fn load(chain: &Path, key: &Path) -> Result<Self, TlsError> {
        let certificates = read_certificates(chain)?;
        // A group may read it: programs that renew certificates give keys to one (`ssl-cert`), and a service need not own them.
        let pem = read_key(key, EVERYBODY)?;
        let mut secret = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| bad_pem(key, NO_KEY))?;
        let (names, [not_before, not_after]) =
            examine(&certificates[0]).ok_or_else(|| bad_pem(chain, "not a certificate"))?;
        let unusable = |reason| TlsError::Unusable { chain: chain.to_owned(), key: key.to_owned(), reason };
        let signer = any_supported_type(&secret);
        secret.zeroize();
        let key = CertifiedKey::new(certificates, signer.map_err(unusable)?);
        // As `CertifiedKey::from_der`: a key that does not tell its public half is taken.
        match key.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(reason) => return Err(unusable(reason)),
        }
        Ok(Self { key: Arc::new(key), names, not_before, not_after })
    }

    /// The leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    /// True if a client takes it at `now`, seconds since 1970, as far as that goes by the time.
    pub fn is_current(&self, now: u64) -> bool {
        (self.not_before..=self.not_after).contains(&now)
    }

    /// The same, with why not; `file` is where it came from.
    fn check(&self, now: u64, file: &Path) -> Result<(), TlsError> {
        let path = || file.to_owned();
        match now {
            _ if now < self.not_before => Err(TlsError::NotYet { path: path(), from: self.not_before }),
            _ if now > self.not_after => Err(TlsError::Ended { path: path(), at: self.not_after }),
            _ => Ok(()),
        }
    }

    /// True if a client takes it for this name or address (RFC 9525).
    pub fn is_for(&self, name: &ServerName<'_>) -> bool {
        let leaf = self.key.cert.first();
        let parsed = leaf.and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
        parsed.is_some_and(|leaf| verify_server_name(&leaf, name).is_ok())
    }
}

/// DNS names of a certificate, its beginning and its end (RFC 5280 §4.1.2.5, §4.2.1.6).
fn examine(certificate: &[u8]) -> Option<(Vec<String>, [u64; 2])> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let validity = certificate.validity();
    // Before 1970 is as good as then.
    let seconds = |time: &ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
    let validity = [seconds(&validity.not_before), seconds(&validity.not_after)];
    let alternatives = certificate.subject_alternative_name().ok()?;
    let names = alternatives.iter().flat_map(|alternatives| &alternatives.value.general_names);
    let dns = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    Some((dns.collect(), validity))
}

/// What is shown at a moment: at least one.
#[derive(Debug)]
struct Shown {
    certificates: Vec<Arc<Certificate>>,
    /// Which of them were valid at the last look.
    current: Vec<bool>,
    by_name: HashMap<String, usize>,
    /// For whoever asks for a name of none, or for no name.
    first: usize,
}

impl Shown {
    /// Of two with the same name, the first is shown, and what has ended only where there is no other: its end tells a
    /// client more than another name would.
    fn new(certificates: Vec<Arc<Certificate>>, now: u64) -> Self {
        let current: Vec<bool> = certificates.iter().map(|certificate| certificate.is_current(now)).collect();
        let mut by_name = HashMap::new();
        for wanted in [true, false] {
            for (at, certificate) in certificates.iter().enumerate().filter(|(at, _)| current[*at] == wanted) {
                for name in &certificate.names {
                    by_name.entry(name.clone()).or_insert(at);
                }
            }
        }
        let first = current.iter().position(|current| *current).unwrap_or(0);
        Self { certificates, current, by_name, first }
    }

    /// By the whole name, else by a wildcard for its first label (RFC 9525 §6.3); the first one for anybody else.
    fn choose(&self, name: Option<&str>) -> &Arc<Certificate> {
        let name = name.map(str::to_ascii_lowercase);
        let wildcard = || Some(format!("*.{}", name.as_deref()?.split_once('.')?.1));
        let exact = name.as_ref().and_then(|name| self.by_name.get(name));
        let found = exact.or_else(|| self.by_name.get(&wildcard()?));
        &self.certificates[found.copied().unwrap_or(self.first)]
    }
}

/// The files of a pair when they were last looked into.
#[derive(Debug)]
struct Looked {
    stamp: Stamp,
    /// When what is in them begins to be valid: it is looked into again then.
    again: Option<u64>,
}

/// Size, time of the last change, also of its mode, and number of a file.
type FileStamp = (u64, i64, i64, u64);

/// Of chain and key; `None` while one of them cannot be looked at.
type Stamp = Option<[FileStamp; 2]>;

fn stamp(files: &(PathBuf, PathBuf)) -> Stamp {
    let of = |path: &Path| {
        let data = fs::metadata(path)?;
        Ok::<_, io::Error>((data.len(), data.ctime(), data.ctime_nsec(), data.ino()))
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
    /// Files whose certificate, the same as before, has ended since the last look, or has begun.
    pub ended: Vec<PathBuf>,
    pub begun: Vec<PathBuf>,
}

impl Reloaded {
    /// True if clients see something else, or take something else for valid.
    pub fn is_other(&self) -> bool {
        !(self.fresh.is_empty() && self.ended.is_empty() && self.begun.is_empty())
    }
}

/// Certificates and the files that they came from.
#[derive(Debug)]
pub struct Certificates {
    files: Vec<(PathBuf, PathBuf)>,
    shown: RwLock<Arc<Shown>>,
    looked: Mutex<Vec<Looked>>,
}

impl Certificates {
    /// Reads pairs of chain and key. One that is not valid at `now`, seconds since 1970, is an error, unless another one
    /// is: then the server must start, for the names of the others, and because a renewal through a zone of its own needs
    /// it. [`Self::lapsed`] tells of those.
    ///
    /// # Errors
    /// As [`Certificate::load`]; or there is none, or none that is valid.
    pub fn load(files: Vec<(PathBuf, PathBuf)>, now: u64) -> Result<Self, TlsError> {
        // Before they are read: what changes in between is seen later.
        let looked = files.iter().map(|files| Looked { stamp: stamp(files), again: None }).collect();
        let certificates = files.iter().map(|(chain, key)| Certificate::load(chain, key).map(Arc::new));
        let certificates = certificates.collect::<Result<Vec<_>, _>>()?;
        let shown = RwLock::new(Arc::new(Shown::new(certificates, now)));
        let loaded = Self { files, shown, looked: Mutex::new(looked) };
        let lapsed = loaded.lapsed(now);
        let is_all = lapsed.len() == loaded.files.len();
        lapsed.into_iter().next().filter(|_| is_all).map_or(Ok(()), Err)?;
        if loaded.files.is_empty() { Err(TlsError::None) } else { Ok(loaded) }
    }

    /// Why certificates are not valid at `now`; nothing of those that are.
    pub fn lapsed(&self, now: u64) -> Vec<TlsError> {
        self.list().iter().filter_map(|(file, certificate)| certificate.check(now, file).err()).collect()
    }

    /// Shows what has changed in the files, or with `all` whatever is in them, and takes note of what has ended by `now`,
    /// seconds since 1970. What cannot be read, does not go together or is not valid leaves the one before in its place; it
    /// is tried again when it changes, or begins.
    pub fn reload(&self, now: u64, all: bool) -> Reloaded {
        // Held to the end: two reloads at once would undo each other. What it guards is replaced whole.
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.shown();
        let mut certificates = before.certificates.clone();
        let mut reloaded = Reloaded::default();
        for (at, files) in self.files.iter().enumerate() {
            let stamp = stamp(files);
            let has_begun = looked[at].again.is_some_and(|begins| begins <= now);
            if !all && !has_begun && stamp == looked[at].stamp {
                continue;
            }
            let loaded = load_current(files, now);
            let again = if let Err(TlsError::NotYet { from, .. }) = loaded { Some(from) } else { None };
            looked[at] = Looked { stamp, again };
            match loaded {
                Ok(certificate) => {
                    certificates[at] = Arc::new(certificate);
                    reloaded.fresh.push(files.0.clone());
                }
                Err(error) => reloaded.failed.push((files.0.clone(), error)),
            }
        }
        let shown = Shown::new(certificates, now);
        for (at, (chain, _)) in self.files.iter().enumerate().filter(|(_, (chain, _))| !reloaded.fresh.contains(chain))
        {
            match (before.current[at], shown.current[at]) {
                (true, false) => reloaded.ended.push(chain.clone()),
                (false, true) => reloaded.begun.push(chain.clone()),
                _ => {}
            }
        }
        if reloaded.is_other() {
            *self.shown.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(shown);
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
    certificate.check(now, &files.0)?;
    Ok(certificate)
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.shown_to(hello.server_name()).key))
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::os::unix::fs::PermissionsExt as _;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// Chain and key for `names` until a year, in files called `stem`.
    fn make(dir: &Path, stem: &str, names: &[&str], year: i32) -> (PathBuf, PathBuf) {
        make_between(dir, stem, names, 1975..year)
    }

    fn make_between(dir: &Path, stem: &str, names: &[&str], years: Range<i32>) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
        params.not_before = date_time_ymd(years.start, 1, 1);
        params.not_after = date_time_ymd(years.end, 1, 1);
        let files = (dir.join(format!("{stem}.pem")), dir.join(format!("{stem}.key")));
        for (file, pem) in [(&files.0, params.self_signed(&key).unwrap().pem()), (&files.1, key.serialize_pem())] {
            // Renamed into place: another file, however fast this is.
            let fresh = file.with_extension("new");
            fs::write(&fresh, pem).unwrap();
            set_mode(&fresh, 0o640);
            fs::rename(&fresh, file).unwrap();
        }
        files
    }

    fn set_mode(file: &Path, mode: u32) {
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// 2030-01-01, and a year later.
    const NOW: u64 = 1_893_456_000;
    const LATER: u64 = NOW + 365 * 86_400;

    fn leaf(certificates: &Certificates, name: Option<&str>) -> Vec<u8> {
        certificates.shown_to(name).chain()[0].to_vec()
    }

    #[test]
    fn a_certificate_is_chosen_by_name_then_by_wildcard_then_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let names: [&[&str]; 4] =
            [&["first.example"], &["*.w.example"], &["a.example", "b.example"], &["deep.a.example", "a.example"]];
        let files = names.iter().enumerate().map(|(n, names)| make(dir.path(), &n.to_string(), names, 2040)).collect();
        let certificates = Certificates::load(files, NOW).unwrap();
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
        assert!(matches!(Certificates::load(Vec::new(), NOW), Err(TlsError::None)));
    }

    #[test]
    fn what_is_good_in_changed_files_is_shown_and_what_is_bad_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let files = make(dir.path(), "gw", &["gw.example"], 2040);
        let certificates = Certificates::load(vec![files.clone()], NOW).unwrap();
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
        for file in [&files.0, &files.1] {
            assert!(told.contains(&*file.display().to_string()), "{told}");
        }
        assert_eq!(told.matches("KeyMismatch").count(), 1, "{told}");
        let told = bad(&|| drop(make(dir.path(), "gw", &["gw.example"], 2029)));
        assert!(told.contains("ended at 2029-01-01T00:00:00Z"), "{told}");
        let told = bad(&|| {
            make(dir.path(), "gw", &["gw.example"], 2040);
            set_mode(&files.1, 0o644);
        });
        assert!(told.contains("(mode 644)") && told.contains("chmod 640"), "{told}");
        // The key of another comes first, as programs that renew leave it for a moment.
        fs::rename(&other.0, &files.0).unwrap();
        assert_eq!(certificates.reload(NOW, false).failed.len(), 1);
        fs::rename(&other.1, &files.1).unwrap();
        assert_eq!(certificates.reload(NOW, false).fresh, std::slice::from_ref(&files.0));
        assert_ne!(leaf(&certificates, None), old);
    }

    #[test]
    fn none_that_is_valid_is_an_error_that_says_which_and_when() {
        let dir = tempfile::tempdir().unwrap();
        let ended = make(dir.path(), "ended", &["a.example"], 2029);
        let told = |files: &[&(PathBuf, PathBuf)]| {
            let loaded = Certificates::load(files.iter().map(|files| (*files).clone()).collect(), NOW);
            loaded.unwrap_err().to_string()
        };
        let said = told(&[&ended]);
        assert!(said.contains("ended.pem ended at 2029-01-01T00:00:00Z") && said.contains("renew it"), "{said}");
        let early = make_between(dir.path(), "early", &["b.example"], 2031..2040);
        let said = told(&[&early, &ended]);
        assert!(said.contains("early.pem is valid from 2031-01-01T00:00:00Z on") && said.contains("clock"), "{said}");
        // Valid in its last second (RFC 5280 §4.1.2.5), and no longer.
        let last = make(dir.path(), "last", &["c.example"], 2030);
        assert!(Certificates::load(vec![last.clone()], NOW).is_ok());
        assert!(Certificates::load(vec![last], NOW + 1).is_err());
    }

    #[test]
    fn one_of_several_may_have_ended_and_is_shown_where_there_is_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let ended = make(dir.path(), "ended", &["a.example", "b.example"], 2029);
        let good = make(dir.path(), "good", &["b.example"], 2040);
        let certificates = Certificates::load(vec![ended.clone(), good.clone()], NOW).unwrap();
        let lapsed = certificates.lapsed(NOW);
        assert!(matches!(&lapsed[..], [TlsError::Ended { path, at: 1_861_920_000 }] if *path == ended.0), "{lapsed:?}");
        let [first, second] = [0, 1].map(|at| certificates.list()[at].1.chain()[0].to_vec());
        assert_eq!(leaf(&certificates, Some("a.example")), first);
        for name in [None, Some("b.example"), Some("nobody.example")] {
            assert_eq!(leaf(&certificates, name), second, "{name:?}");
        }
    }

    #[test]
    fn what_ends_while_it_is_shown_is_told_once_and_so_is_what_begins() {
        let dir = tempfile::tempdir().unwrap();
        let files = make(dir.path(), "gw", &["gw.example"], 2031);
        let early = make_between(dir.path(), "early", &["early.example"], 2031..2040);
        let certificates = Certificates::load(vec![files.clone(), early.clone()], NOW).unwrap();
        assert!(!certificates.reload(LATER - 1, false).is_other());
        let changed = |now| {
            let reloaded = certificates.reload(now, false);
            (reloaded.ended, reloaded.begun)
        };
        assert_eq!(changed(LATER), (vec![], vec![early.0]), "the first second of one, the last of the other");
        assert_eq!(changed(LATER + 1), (vec![files.0.clone()], vec![]));
        assert!(!certificates.reload(LATER + 1, false).is_other(), "said once");
        make(dir.path(), "gw", &["gw.example"], 2040);
        let reloaded = certificates.reload(LATER + 1, false);
        assert_eq!((reloaded.fresh, reloaded.ended.len()), (vec![files.0], 0));
    }

    /// Clocks differ: what an authority has just signed may begin a moment later here.
    #[test]
    fn a_new_one_that_is_not_valid_yet_is_taken_when_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let files = make(dir.path(), "gw", &["gw.example"], 2035);
        let certificates = Certificates::load(vec![files.clone()], NOW).unwrap();
        make_between(dir.path(), "gw", &["gw.example"], 2031..2040);
        let reloaded = certificates.reload(LATER - 1, false);
        assert!(matches!(reloaded.failed[..], [(_, TlsError::NotYet { from: LATER, .. })]), "{reloaded:?}");
        assert!(certificates.reload(LATER - 1, false).failed.is_empty(), "said once");
        assert_eq!(certificates.reload(LATER, false).fresh, [files.0]);
    }
}
