//! Key files: PKCS#8 PEM, mode 0600, under a passphrase if one is given (RFC 5958 §3); and BIND's `K*.key` / `K*.private`
//! pairs.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use data_encoding::BASE64;
use ed25519_dalek::SigningKey;
use pkcs8::{DecodePrivateKey, EncodePrivateKey, EncryptedPrivateKeyInfoRef, LineEnding, SecretDocument};
use zeroize::Zeroizing;

use crate::dnssec::{ALGORITHM_P256, PublicKey, Secret, key_tag, sig0};
use crate::limits::MAX_KEY_FILE;
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
    #[error("{path} is encrypted; give its passphrase with --passphrase-file FILE")]
    Locked { path: String },
    #[error("{path} cannot be decrypted with this passphrase")]
    Passphrase { path: String },
    #[error("{path} exists already; a key is never overwritten")]
    Exists { path: String },
}

/// What every key file of this process is encrypted with.
static PASSPHRASE: OnceLock<Zeroizing<String>> = OnceLock::new();

/// Has key files that are made encrypted, and those that are encrypted read, with the first line of this file.
///
/// # Errors
/// [`KeyError`]; a file that others can read is refused.
pub fn use_passphrase(path: &Path) -> Result<(), KeyError> {
    let text = read_secret(path)?;
    let line = Zeroizing::new(text.lines().next().unwrap_or_default().to_owned());
    if line.is_empty() {
        return Err(KeyError::EmptyPassphrase { path: shown(path) });
    }
    // Set once, by `main`.
    let _ = PASSPHRASE.set(line);
    Ok(())
}

/// Reads PKCS#8 PEM of one kind of key; `None` if it is of another.
fn from_pem<K: DecodePrivateKey>(path: &Path, text: &str) -> Result<Option<K>, KeyError> {
    if !text.contains("ENCRYPTED PRIVATE KEY") {
        return Ok(K::from_pkcs8_pem(text).ok());
    }
    let passphrase = PASSPHRASE.get().ok_or_else(|| KeyError::Locked { path: shown(path) })?;
    let (_, document) = SecretDocument::from_pem(text).map_err(|_| KeyError::NotPem { path: shown(path) })?;
    let encrypted = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes());
    let encrypted = encrypted.map_err(|_| KeyError::NotPem { path: shown(path) })?;
    let der = encrypted.decrypt(passphrase.as_bytes()).map_err(|_| KeyError::Passphrase { path: shown(path) })?;
    Ok(K::from_pkcs8_der(der.as_bytes()).ok())
}

fn to_pem(path: &Path, key: &impl EncodePrivateKey) -> Result<Zeroizing<String>, KeyError> {
    let pem = match PASSPHRASE.get() {
        Some(passphrase) => key.to_pkcs8_encrypted_pem(passphrase.as_bytes(), LineEnding::LF),
        None => key.to_pkcs8_pem(LineEnding::LF),
    };
    // Encoding a key cannot fail; encrypting it needs randomness.
    pem.map_err(|error| KeyError::Io { path: shown(path), error: std::io::Error::other(error.to_string()) })
}

/// Makes a key from OS randomness.
///
/// # Errors
/// The system has no randomness to give.
pub fn generate() -> Result<SigningKey, getrandom::Error> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed)?;
    Ok(SigningKey::from_bytes(&seed))
}

/// Reads a key file in PEM form.
///
/// # Errors
/// [`KeyError`]; a file that others can read is refused.
pub fn load(path: &Path) -> Result<SigningKey, KeyError> {
    let text = read_secret(path)?;
    from_pem(path, &text)?.ok_or_else(|| KeyError::NotPem { path: shown(path) })
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
pub fn load_or_create(path: &Path) -> Result<SigningKey, KeyError> {
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
pub fn load_zone_key(path: &Path) -> Result<Secret, KeyError> {
    let text = read_secret(path)?;
    if let Some(key) = from_pem(path, &text)? {
        return Ok(Secret::Ed25519(key));
    }
    from_pem(path, &text)?.map(Secret::P256).ok_or_else(|| KeyError::NotZoneKey { path: shown(path) })
}

/// The zone key at `path`, made now, of `algorithm` (15 or 13), if there is none.
///
/// # Errors
/// [`KeyError`]
pub fn load_or_create_zone_key(path: &Path, algorithm: u8) -> Result<Secret, KeyError> {
    match load_zone_key(path) {
        Err(KeyError::Io { error, .. }) if error.kind() == ErrorKind::NotFound => {}
        other => return other,
    }
    if algorithm != ALGORITHM_P256 {
        return load_or_create(path).map(Secret::Ed25519);
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
    Ok(Secret::P256(secret))
}

fn no_randomness(path: &Path, error: getrandom::Error) -> KeyError {
    KeyError::Io { path: shown(path), error: error.into() }
}

/// Reads the `.private` file of a BIND key pair ("Private-key-format: v1.x", algorithm 15).
///
/// # Errors
/// [`KeyError`]
pub fn load_bind(path: &Path) -> Result<SigningKey, KeyError> {
    let text = read_secret(path)?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let algorithm = field("Algorithm:").and_then(|value| value.split_whitespace().next());
    let secret = field("PrivateKey:").and_then(|value| BASE64.decode(value.as_bytes()).ok()).map(Zeroizing::new);
    let seed: Option<[u8; 32]> = secret.and_then(|secret| secret.as_slice().try_into().ok());
    match (algorithm, seed) {
        (Some("15"), Some(seed)) => Ok(SigningKey::from_bytes(&Zeroizing::new(seed))),
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

pub(super) fn read_secret(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    let io = |error| KeyError::Io { path: shown(path), error };
    let file = fs::File::open(path).map_err(io)?;
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Mode { path: shown(path), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_KEY_FILE + 1).read_to_string(&mut text).map_err(io)?;
    if text.len() as u64 > MAX_KEY_FILE { Err(KeyError::TooLong { path: shown(path) }) } else { Ok(text) }
}

pub(super) fn write_new(path: &Path, octets: &[u8], mode: u32) -> Result<(), KeyError> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::AlreadyExists => KeyError::Exists { path: shown(path) },
        _ => KeyError::Io { path: shown(path), error },
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    // Whole or not at all: a process killed half-way must not leave a key file that is none.
    let fresh = PathBuf::from(format!("{}.new", path.display()));
    let written = write_file(&fresh, octets, mode).and_then(|()| fs::hard_link(&fresh, path));
    // Left behind by a kill, it is written over next time.
    let _ = fs::remove_file(&fresh);
    written.map_err(failed)
}

/// Writes a file that may be read by its owner only, in place of what was there: whole or not at all.
///
/// # Errors
/// The file system's.
pub fn replace(path: &Path, octets: &[u8]) -> std::io::Result<()> {
    let fresh = PathBuf::from(format!("{}.new", path.display()));
    write_file(&fresh, octets, 0o600)?;
    fs::rename(&fresh, path)
}

fn write_file(path: &Path, octets: &[u8], mode: u32) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(octets)?;
    file.sync_all()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
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
        let (Secret::P256(made), Secret::P256(again)) = (made, load_zone_key(&p256).unwrap()) else { panic!() };
        assert_eq!(made.to_bytes(), again.to_bytes());
        assert!(matches!(load_zone_key(&pem).unwrap(), Secret::Ed25519(again) if again.to_bytes() == key.to_bytes()));
        assert!(matches!(load_zone_key(&private), Err(KeyError::NotZoneKey { .. })));

        fs::set_permissions(&pem, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(load(&pem), Err(KeyError::Mode { mode: 0o640, .. })));
    }
}
