//! Key files: PKCS#8 PEM, mode 0600, under a passphrase if one is given (RFC 5958 §3); and BIND's `K*.key` / `K*.private`
//! pairs. Keys are read into locked memory. Copies in other memory on their way are wiped.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use data_encoding::BASE64;
use ed25519_dalek::SigningKey;
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::{self, Kdf, Pbkdf2Params, ScryptParams};
use pkcs8::{
    DecodePrivateKey, EncodePrivateKey, EncryptedPrivateKeyInfoRef, LineEnding, PrivateKeyInfoRef, SecretDocument,
};
use zeroize::Zeroizing;

use super::output;
use crate::dnssec::{ALGORITHM_P256, PublicKey, Secret, key_tag, sig0};
use crate::limits::{
    MAX_KDF_MEMORY, MAX_KDF_WORK, MAX_KEY_FILE, MAX_PASSPHRASE, MAX_PBKDF2_ROUNDS, SCRYPT_N, SCRYPT_P, SCRYPT_R,
};
use crate::locked::Locked;
use crate::secret_file::{self, NOT_OWNER, ReadError};
use crate::wire::{Name, Rtype, rdata};

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{path}: {error}")]
    Io { path: String, error: std::io::Error },
    #[error("{path} can be read by others (mode {mode:o}); run: chmod 600 {path}")]
    Mode { path: String, mode: u32 },
    #[error("{path} is longer than a key file can be")]
    TooLong { path: String },
    #[error("{path} is not an Ed25519 private key in PKCS#8 PEM form")]
    NotPem { path: String },
    #[error("{path} is not an Ed25519 or P-256 private key in PKCS#8 PEM form")]
    NotZoneKey { path: String },
    #[error("{path} is not a BIND private key of algorithm 15 (ED25519)")]
    NotBind { path: String },
    #[error("{path} has no passphrase in its first line")]
    EmptyPassphrase { path: String },
    #[error("{path} has a passphrase of more than {MAX_PASSPHRASE} octets in its first line")]
    LongPassphrase { path: String },
    #[error("{path} is encrypted; give its passphrase with --passphrase-file FILE")]
    Locked { path: String },
    #[error("{path} is encrypted in a way that is not known here: PBES2 with scrypt or PBKDF2 is")]
    Scheme { path: String },
    #[error(
        "{path} asks for more work than a passphrase is worth: at most scrypt with 128 N r = {MAX_KDF_MEMORY} octets and \
         N r p = {MAX_KDF_WORK}, or {MAX_PBKDF2_ROUNDS} rounds of PBKDF2"
    )]
    Costly { path: String },
    #[error("{path} cannot be decrypted with this passphrase")]
    Passphrase { path: String },
    #[error("{path} exists already; a key is never overwritten")]
    Exists { path: String },
}

/// What every key file of this process is encrypted with.
static PASSPHRASE: OnceLock<Passphrase> = OnceLock::new();

/// Octets, held where keys are.
struct Passphrase {
    octets: Locked<[u8; MAX_PASSPHRASE]>,
    len: usize,
}

impl Passphrase {
    /// `None` if it is too long.
    fn new(text: &[u8]) -> Option<Self> {
        let mut octets = Zeroizing::new([0; MAX_PASSPHRASE]);
        octets.get_mut(..text.len())?.copy_from_slice(text);
        Some(Self { octets: Locked::new(*octets), len: text.len() })
    }

    fn as_bytes(&self) -> &[u8] {
        &self.octets[..self.len]
    }
}

/// Has key files that are made encrypted, and those that are encrypted read, with the first line of this file.
///
/// # Errors
/// [`KeyError`]; a file that others can read is refused.
pub fn use_passphrase(path: &Path) -> Result<(), KeyError> {
    let text = read_secret(path)?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(KeyError::EmptyPassphrase { path: shown(path) });
    }
    let passphrase = Passphrase::new(line.as_bytes());
    // Set once, by `main`.
    let _ = PASSPHRASE.set(passphrase.ok_or_else(|| KeyError::LongPassphrase { path: shown(path) })?);
    Ok(())
}

/// Reads PKCS#8 PEM, the text of `path`, as DER, and decrypts it if need be.
fn open(path: &Path, text: &str, passphrase: Option<&Passphrase>) -> Result<SecretDocument, KeyError> {
    let not_pem = || KeyError::NotPem { path: shown(path) };
    let (label, document) = SecretDocument::from_pem(text).map_err(|_| not_pem())?;
    match label {
        "PRIVATE KEY" => Ok(document),
        "ENCRYPTED PRIVATE KEY" => {
            let encrypted = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|_| not_pem())?;
            let strength = Strength::of(path, &encrypted.encryption_algorithm)?;
            let passphrase = passphrase.ok_or_else(|| KeyError::Locked { path: shown(path) })?;
            let der = encrypted.decrypt(passphrase.as_bytes());
            let der = der.map_err(|_| KeyError::Passphrase { path: shown(path) })?;
            if strength == Strength::Weak {
                strengthen(path, &der, passphrase);
            }
            Ok(der)
        }
        _ => Err(not_pem()),
    }
}

/// Cost of deriving a key from a passphrase, for each that is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strength {
    /// At least what our own files cost.
    Full,
    /// Less.
    Weak,
}

impl Strength {
    /// Looks before anything is derived: a file may ask for any amount of memory and time.
    fn of(path: &Path, scheme: &EncryptionScheme) -> Result<Self, KeyError> {
        let EncryptionScheme::Pbes2(pbes2::Parameters { kdf, .. }) = scheme else {
            return Err(KeyError::Scheme { path: shown(path) });
        };
        match kdf {
            Kdf::Scrypt(ScryptParams { cost_parameter, block_size, parallelization, .. }) => {
                let (n, r, p) = (*cost_parameter, u64::from(*block_size), u64::from(*parallelization));
                if !n.is_power_of_two() || n < 2 || r == 0 || p == 0 {
                    return Err(KeyError::NotPem { path: shown(path) });
                }
                let memory = n.saturating_mul(128 * r);
                if memory > MAX_KDF_MEMORY || n.saturating_mul(r * p) > MAX_KDF_WORK {
                    return Err(KeyError::Costly { path: shown(path) });
                }
                let ours = memory >= SCRYPT_N * 128 * u64::from(SCRYPT_R);
                Ok(if ours { Self::Full } else { Self::Weak })
            }
            Kdf::Pbkdf2(Pbkdf2Params { iteration_count: 0, .. }) => Err(KeyError::NotPem { path: shown(path) }),
            Kdf::Pbkdf2(Pbkdf2Params { iteration_count, .. }) if *iteration_count > MAX_PBKDF2_ROUNDS => {
                Err(KeyError::Costly { path: shown(path) })
            }
            Kdf::Pbkdf2(_) => Ok(Self::Weak),
            _ => Err(KeyError::Scheme { path: shown(path) }),
        }
    }
}

/// Encrypts a key file again as new ones are, if it is the caller's own. The key can be used however this ends.
fn strengthen(path: &Path, der: &SecretDocument, passphrase: &Passphrase) {
    let rewritten = secret_file::own(path).and_then(|file| {
        let pem = seal(der.as_bytes(), passphrase).map_err(std::io::Error::other)?;
        secret_file::replace(&file, pem.as_bytes(), 0o600)
    });
    if let Err(error) = rewritten {
        output::warn(&format!("{} stays under weaker encryption than new key files: {error}", path.display()));
    }
}

fn to_pem(path: &Path, key: &impl EncodePrivateKey) -> Result<Zeroizing<String>, KeyError> {
    let pem = match PASSPHRASE.get() {
        Some(passphrase) => key.to_pkcs8_der().and_then(|der| seal(der.as_bytes(), passphrase)),
        None => key.to_pkcs8_pem(LineEnding::LF),
    };
    // Encoding a key cannot fail; encrypting it needs randomness.
    pem.map_err(|error| KeyError::Io { path: shown(path), error: std::io::Error::other(error.to_string()) })
}

/// Encrypts PKCS#8 DER: AES-256-CBC under a key that scrypt derives.
fn seal(der: &[u8], passphrase: &Passphrase) -> Result<Zeroizing<String>, pkcs8::Error> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|_| pkcs8::pkcs5::Error::Rng)?;
    let (salt, iv) = random.split_at(16);
    let salt = salt.try_into().map_err(|_| pkcs8::pkcs5::Error::EncryptFailed)?;
    let iv = iv.try_into().map_err(|_| pkcs8::pkcs5::Error::EncryptFailed)?;
    let kdf = Kdf::Scrypt(ScryptParams {
        salt,
        cost_parameter: SCRYPT_N,
        block_size: SCRYPT_R,
        parallelization: SCRYPT_P,
        key_length: None,
    });
    let parameters = pbes2::Parameters { kdf, encryption: pbes2::EncryptionScheme::Aes256Cbc { iv } };
    let sealed = PrivateKeyInfoRef::try_from(der)?.encrypt_with_params(parameters, passphrase.as_bytes())?;
    Ok(sealed.to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF)?)
}

/// Makes a key from OS randomness.
///
/// # Errors
/// The system has no randomness to give.
pub fn generate() -> Result<Locked<SigningKey>, getrandom::Error> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed)?;
    Ok(SigningKey::from_bytes(&seed).into())
}

/// Reads a key file in PEM form.
///
/// # Errors
/// [`KeyError`]; a file that others can read is refused.
pub fn load(path: &Path) -> Result<Locked<SigningKey>, KeyError> {
    let der = open(path, &read_secret(path)?, PASSPHRASE.get())?;
    let key = SigningKey::from_pkcs8_der(der.as_bytes()).map_err(|_| KeyError::NotPem { path: shown(path) })?;
    Ok(key.into())
}

/// Writes a new key file in PEM form, mode 0600.
///
/// # Errors
/// [`KeyError::Exists`] rather than overwriting anything.
pub fn save(path: &Path, key: &SigningKey) -> Result<(), KeyError> {
    write_new(path, to_pem(path, key)?.as_bytes(), 0o600)
}

/// The key at `path`, made now if there is none.
///
/// # Errors
/// [`KeyError`]
pub fn load_or_create(path: &Path) -> Result<Locked<SigningKey>, KeyError> {
    match load(path) {
        Err(KeyError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => {
            let key = generate().map_err(|error| no_randomness(path, error))?;
            save(path, &key)?;
            Ok(key)
        }
        other => other,
    }
}

/// Reads a zone key: a key file of either algorithm.
///
/// # Errors
/// [`KeyError`]; a file that others can read is refused.
pub fn load_zone_key(path: &Path) -> Result<Locked<Secret>, KeyError> {
    parse_zone_key(path, &read_secret(path)?)
}

/// A zone key from the text of its file.
///
/// # Errors
/// [`KeyError`]
pub fn parse_zone_key(path: &Path, text: &str) -> Result<Locked<Secret>, KeyError> {
    let no_key = || KeyError::NotZoneKey { path: shown(path) };
    let der = open(path, text, PASSPHRASE.get()).map_err(|error| match error {
        KeyError::NotPem { .. } => no_key(),
        other => other,
    })?;
    let key = match SigningKey::from_pkcs8_der(der.as_bytes()) {
        Ok(key) => Ok(Secret::Ed25519(key)),
        Err(_) => p256::ecdsa::SigningKey::from_pkcs8_der(der.as_bytes()).map(Secret::P256),
    };
    key.map(Locked::new).map_err(|_| no_key())
}

/// The zone key at `path`, made now, of `algorithm` (15 or 13), if there is none.
///
/// # Errors
/// [`KeyError`]
pub fn load_or_create_zone_key(path: &Path, algorithm: u8) -> Result<Locked<Secret>, KeyError> {
    match load_zone_key(path) {
        Err(KeyError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => {}
        other => return other,
    }
    if algorithm != ALGORITHM_P256 {
        return Ok(Secret::Ed25519(SigningKey::clone(&*load_or_create(path)?)).into());
    }
    let mut seed = Zeroizing::new([0; 32]);
    // All but one in 2^32 of 32 random octets are a P-256 key.
    let secret = loop {
        getrandom::fill(&mut *seed).map_err(|error| no_randomness(path, error))?;
        if let Some(Secret::P256(key)) = Secret::from_p256_seed(&seed) {
            break key;
        }
    };
    write_new(path, to_pem(path, &secret)?.as_bytes(), 0o600)?;
    Ok(Secret::P256(secret).into())
}

fn no_randomness(path: &Path, error: getrandom::Error) -> KeyError {
    KeyError::Io { path: shown(path), error: error.into() }
}

/// Reads the `.private` file of a BIND key pair ("Private-key-format: v1.x", algorithm 15).
///
/// # Errors
/// [`KeyError`]
pub fn load_bind(path: &Path) -> Result<Locked<SigningKey>, KeyError> {
    parse_bind(path, &read_secret(path)?)
}

/// A BIND key from the text of its file.
///
/// # Errors
/// [`KeyError`]
pub fn parse_bind(path: &Path, text: &str) -> Result<Locked<SigningKey>, KeyError> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let algorithm = field("Algorithm:").and_then(|value| value.split_whitespace().next());
    let secret = field("PrivateKey:").and_then(|value| BASE64.decode(value.as_bytes()).ok()).map(Zeroizing::new);
    let seed: Option<[u8; 32]> = secret.and_then(|secret| secret.as_slice().try_into().ok());
    match (algorithm, seed) {
        (Some("15"), Some(seed)) => Ok(SigningKey::from_bytes(&Zeroizing::new(seed)).into()),
        _ => Err(KeyError::NotBind { path: shown(path) }),
    }
}

/// Writes `K<name>+015+<tag>.key` and `.private` into `folder`; gives their common path without ending. `for_update`: as
/// the KEY record of a host, which signs transactions, not zones.
///
/// # Errors
/// [`KeyError::Exists`] rather than overwriting anything.
pub fn save_bind(folder: &Path, name: &Name, key: &SigningKey, for_update: bool) -> Result<PathBuf, KeyError> {
    let public = key.verifying_key();
    let (rtype, record) = match for_update {
        true => (Rtype::KEY, sig0::key_rdata(&public)),
        false => (Rtype::DNSKEY, PublicKey::of_sigil(&public).dnskey().to_vec()),
    };
    let base = folder.join(format!("K{name}+015+{:05}", key_tag(&record)));
    let ending = |ending: &str| PathBuf::from(format!("{}.{ending}", base.display()));
    let secret = Zeroizing::new(BASE64.encode(key.as_bytes()));
    let private =
        Zeroizing::new(format!("Private-key-format: v1.3\nAlgorithm: 15 (ED25519)\nPrivateKey: {}\n", secret.as_str()));
    write_new(&ending("private"), private.as_bytes(), 0o600)?;
    let text = format!("{name} IN {rtype} {}\n", rdata::to_text(rtype, &record));
    write_new(&ending("key"), text.as_bytes(), 0o644)?;
    Ok(base)
}

/// Writes a new file that only its owner can read.
///
/// # Errors
/// [`KeyError::Exists`] rather than overwriting anything.
pub fn save_secret(path: &Path, octets: &[u8]) -> Result<(), KeyError> {
    write_new(path, octets, 0o600)
}

/// Reads a file that only its owner may read.
///
/// # Errors
/// [`KeyError`]
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let mut octets = secret_file::read(path, NOT_OWNER, MAX_KEY_FILE).map_err(|error| match error {
        ReadError::Io(error) => KeyError::Io { path: shown(path), error },
        ReadError::Mode(mode) => KeyError::Mode { path: shown(path), mode },
        ReadError::TooLong => KeyError::TooLong { path: shown(path) },
    })?;
    String::from_utf8(std::mem::take(&mut *octets)).map(Zeroizing::new).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        KeyError::Io { path: shown(path), error: ErrorKind::InvalidData.into() }
    })
}

fn write_new(path: &Path, octets: &[u8], mode: u32) -> Result<(), KeyError> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => KeyError::Exists { path: shown(path) },
        _ => KeyError::Io { path: shown(path), error },
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    secret_file::create(path, octets, mode).map_err(failed)
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keys_survive_both_forms_and_stay_secret() {
        let folder = tempfile::tempdir().unwrap();
        let key = generate().unwrap();
        let pem = folder.path().join("a.pem");
        save(&pem, &key).unwrap();
        assert_eq!(fs::metadata(&pem).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load(&pem).unwrap().to_bytes(), key.to_bytes());
        assert!(matches!(save(&pem, &key), Err(KeyError::Exists { .. })));

        let name = Name::from_text("alice.ghost.", None).unwrap();
        let base = save_bind(folder.path(), &name, &key, false).unwrap();
        let private = PathBuf::from(format!("{}.private", base.display()));
        assert_eq!(fs::metadata(&private).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load_bind(&private).unwrap().to_bytes(), key.to_bytes());
        assert!(matches!(load(&private), Err(KeyError::NotPem { .. })));

        let p256 = folder.path().join("b.pem");
        let made = load_or_create_zone_key(&p256, ALGORITHM_P256).unwrap();
        assert_eq!(made.algorithm(), ALGORITHM_P256);
        let again = load_zone_key(&p256).unwrap();
        let (Secret::P256(made), Secret::P256(again)) = (&*made, &*again) else { panic!() };
        assert_eq!(made.to_bytes(), again.to_bytes());
        assert!(matches!(&*load_zone_key(&pem).unwrap(), Secret::Ed25519(again) if again.to_bytes() == key.to_bytes()));
        assert!(matches!(load_zone_key(&private), Err(KeyError::NotZoneKey { .. })));

        fs::set_permissions(&pem, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load(&pem), Err(KeyError::Mode { mode: 0o640, .. })));
    }

    /// A key file under the passphrase `horse` and a derivation.
    fn write_sealed(path: &Path, key: &SigningKey, kdf: Kdf) {
        let parameters = pbes2::Parameters { kdf, encryption: pbes2::EncryptionScheme::Aes256Cbc { iv: [7; 16] } };
        let der = key.to_pkcs8_der().unwrap();
        let sealed = PrivateKeyInfoRef::try_from(der.as_bytes()).unwrap().encrypt_with_params(parameters, "horse");
        let pem = sealed.unwrap().to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF).unwrap();
        secret_file::replace(path, pem.as_bytes(), 0o600).unwrap();
    }

    fn scrypt(cost_parameter: u64, block_size: u16, parallelization: u16) -> Kdf {
        let salt = [5; 16][..].try_into().unwrap();
        Kdf::Scrypt(ScryptParams { salt, cost_parameter, block_size, parallelization, key_length: None })
    }

    fn pbkdf2(rounds: u32) -> Kdf {
        Kdf::Pbkdf2(Pbkdf2Params::hmac_sha256(rounds, &[5; 16]).unwrap())
    }

    /// The cost that a file asks for.
    fn derivation(path: &Path) -> Kdf {
        let (_, document) = SecretDocument::from_pem(&read_secret(path).unwrap()).unwrap();
        let encrypted = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).unwrap();
        encrypted.encryption_algorithm.pbes2().unwrap().kdf.clone()
    }

    /// T23.
    #[test]
    fn weak_key_files_are_opened_and_made_strong() {
        let folder = tempfile::tempdir().unwrap();
        let (path, horse) = (folder.path().join("a.pem"), Passphrase::new(b"horse").unwrap());
        let key = generate().unwrap();
        let opened = |path: &Path| {
            let der = open(path, &read_secret(path).unwrap(), Some(&horse)).unwrap();
            SigningKey::from_pkcs8_der(der.as_bytes()).unwrap().to_bytes()
        };
        let is_ours =
            |path: &Path| matches!(derivation(path), Kdf::Scrypt(ScryptParams { cost_parameter: SCRYPT_N, .. }));
        for weak in [scrypt(1 << 10, 8, 1), pbkdf2(2_048)] {
            write_sealed(&path, &key, weak);
            // Under a link, too: what it leads to is rewritten, and it stays a link.
            let link = folder.path().join("link.pem");
            std::os::unix::fs::symlink(&path, &link).unwrap();
            assert_eq!(opened(&link), key.to_bytes());
            assert!(is_ours(&path) && fs::symlink_metadata(&link).unwrap().is_symlink());
            fs::remove_file(link).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let written = fs::read(&path).unwrap();
        assert_eq!(opened(&path), key.to_bytes());
        assert_eq!(fs::read(&path).unwrap(), written, "a strong file stays as it is");
        let wrong = Passphrase::new(b"house").unwrap();
        let text = read_secret(&path).unwrap();
        assert!(matches!(open(&path, &text, Some(&wrong)), Err(KeyError::Passphrase { .. })));
        // A file that cannot be rewritten is used all the same.
        write_sealed(&path, &key, scrypt(1 << 10, 8, 1));
        fs::hard_link(&path, folder.path().join("b.pem")).unwrap();
        assert_eq!(opened(&path), key.to_bytes());
        assert!(!is_ours(&path));
    }

    /// A hostile key file takes neither memory nor time.
    #[test]
    fn what_a_key_file_asks_for_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let (path, horse) = (folder.path().join("a.pem"), Passphrase::new(b"horse").unwrap());
        let key = generate().unwrap();
        write_sealed(&path, &key, scrypt(1 << 10, 8, 1));
        let (_, document) = SecretDocument::from_pem(&read_secret(&path).unwrap()).unwrap();
        let encrypted = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).unwrap();
        let costly = [scrypt(1 << 20, 8, 1), scrypt(1 << 63, 8, 1), scrypt(2, u16::MAX, u16::MAX), pbkdf2(100_000_000)];
        let broken = [scrypt(0, 8, 1), scrypt(1, 8, 1), scrypt(3, 8, 1), scrypt(16, 0, 1), scrypt(16, 8, 0)];
        for (at, kdf) in costly.into_iter().chain(broken).enumerate() {
            let encryption = pbes2::EncryptionScheme::Aes256Cbc { iv: [7; 16] };
            let encryption_algorithm = EncryptionScheme::Pbes2(pbes2::Parameters { kdf, encryption });
            let asking = EncryptedPrivateKeyInfoRef { encryption_algorithm, encrypted_data: encrypted.encrypted_data };
            let pem =
                SecretDocument::try_from(asking).unwrap().to_pem("ENCRYPTED PRIVATE KEY", LineEnding::LF).unwrap();
            let refused = open(&path, &pem, Some(&horse));
            assert!(matches!(
                (at < 4, refused),
                (true, Err(KeyError::Costly { .. })) | (false, Err(KeyError::NotPem { .. }))
            ));
        }
        assert!(Passphrase::new(&[b'x'; MAX_PASSPHRASE + 1]).is_none());
    }
}
