//! The keys that a data directory must hold: one that is lost is told of, and never made anew without being asked for.
//!
//! A key made in place of another is a silent disaster: validators hold the DS of the old one, clients and witnesses its
//! signatures, owners what was derived from it. On the first start, when there is no registry yet, all of them are made.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::ensure;

use super::keys;
use super::ring::{self, Ring};
use crate::wire::Name;

/// Files of a directory in which `serve --dev` has run.
const DEVELOPMENT: [&str; 3] = ["ca.pem", "ca.key", "dev.pem"];

/// A file that must be there, and what it means if it is not.
struct Deposit {
    /// Below the data directory.
    file: String,
    loss: String,
}

impl Deposit {
    fn new(file: impl Into<String>, loss: impl Into<String>) -> Self {
        Self { file: file.into(), loss: loss.into() }
    }
}

/// Checks that nothing is lost of a directory that has a registry. `anew` names files, as `--new-key` does, whose keys are
/// to be made anew; each must be lost.
///
/// # Errors
/// Which files are missing, what that means, and what to do. Nothing has been written.
pub fn check(data: &Path, tlds: &[Name], dev: bool, anew: &[PathBuf]) -> anyhow::Result<()> {
    for file in anew {
        ensure!(
            !data.join(file).exists(),
            "--new-key {}: it is there; move it away first, for it is never overwritten",
            file.display()
        );
    }
    let deposits = deposits(data, tlds, dev)?;
    if let Some(stray) = anew.iter().find(|file| deposits.iter().all(|deposit| Path::new(&deposit.file) != *file)) {
        let files: Vec<&str> = deposits.iter().map(|deposit| deposit.file.as_str()).collect();
        anyhow::bail!("--new-key {}: no key is kept there, but in {}", stray.display(), files.join(", "));
    }
    let is_lost = |deposit: &&Deposit| {
        !data.join(&deposit.file).exists() && !anew.iter().any(|file| file == Path::new(&deposit.file))
    };
    let lost: Vec<&Deposit> = deposits.iter().filter(is_lost).collect();
    if lost.is_empty() {
        return Ok(());
    }
    let mut told = format!("{} has a registry, but keys that belong to it are gone:\n", data.display());
    for Deposit { file, loss } in &lost {
        // Writing to a String cannot fail.
        let _ = writeln!(told, "  {file}: {loss}");
    }
    let options: Vec<String> = lost.iter().map(|deposit| format!("--new-key {}", deposit.file)).collect();
    anyhow::bail!(
        "{told}put them back from a copy of the directory. If there is none, new ones are made in their place with:\n  {}",
        options.join(" ")
    );
}

/// Makes the keys of the ring that are to be made anew; others are made where they are first used.
///
/// # Errors
/// A key cannot be made.
pub fn renew(data: &Path, algorithm: u8, anew: &[PathBuf]) -> anyhow::Result<()> {
    for file in anew {
        tracing::warn!("{}: a key is made anew, as --new-key says", file.display());
    }
    let Some(ring) = Ring::load(&data.join("keys"))? else { return Ok(()) };
    for entry in &ring.keys {
        let file = Path::new("keys").join(&entry.file);
        if anew.contains(&file) {
            let online = ring::ONLINE.iter().find(|(role, _)| *role == entry.role);
            keys::load_or_create_zone_key(&data.join(file), online.map_or(algorithm, |(_, algorithm)| *algorithm))?;
        }
    }
    Ok(())
}

fn deposits(data: &Path, tlds: &[Name], dev: bool) -> anyhow::Result<Vec<Deposit>> {
    let mut deposits = ring_of(data, tlds)?;
    deposits.extend([
        Deposit::new("keys/gateway.pem", "receipts, settlements and updates by key are signed with it; another has to be appointed"),
        Deposit::new(
            "keys/log.pem",
            "checkpoints of the log are signed with it; with another, log.checkpoint and log.witnessed have to go, and clients \
             and witnesses need the new log.vkey",
        ),
        Deposit::new("keys/update.pem", "the secrets of update keys are derived from it; with another, all of them change"),
    ]);
    if dev && DEVELOPMENT.iter().any(|file| data.join(file).exists()) {
        let ca =
            "clients trust ca.pem, which the server's certificate is issued by; with another, they need the new one";
        deposits.extend(["ca.pem", "ca.key"].map(|file| Deposit::new(file, ca)));
        deposits.push(Deposit::new("dev.pem", "it owns what was registered with it; with another, nobody does"));
    }
    Ok(deposits)
}

/// The keys of the TLDs, and the online keys.
fn ring_of(data: &Path, tlds: &[Name]) -> anyhow::Result<Vec<Deposit>> {
    let loss = |role: &str| match ring::is_online(role) {
        true => {
            "it signs for owners who delegate; with another, their names are insecure until each has run `name sign`"
                .to_owned()
        }
        false => format!(
            "it signs .{role}; with another, validators find all of .{role} bogus until they have the new anchors.ds"
        ),
    };
    if let Some(ring) = Ring::load(&data.join("keys"))? {
        let deposit = |entry: &ring::Entry| Deposit::new(format!("keys/{}", entry.file), loss(&entry.role));
        return Ok(ring.keys.iter().map(deposit).collect());
    }
    let what = "it says what each key is for, and how far a roll has come; with another, all that are there are active";
    let mut deposits = vec![Deposit::new(format!("keys/{}", ring::FILE), what)];
    let tlds = tlds.iter().map(|apex| apex.to_string().trim_end_matches('.').to_owned());
    let tlds = tlds.map(|role| (format!("keys/tld-{role}.pem"), role));
    let online = ring::ONLINE.map(|(role, _)| (format!("keys/{role}.pem"), role.to_owned()));
    deposits.extend(tlds.chain(online).map(|(file, role)| Deposit::new(file, loss(&role))));
    Ok(deposits)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::dnssec::ALGORITHM_ED25519;

    const OWN: [&str; 3] = ["keys/gateway.pem", "keys/log.pem", "keys/update.pem"];

    fn whole() -> (tempfile::TempDir, Vec<Name>) {
        let data = tempfile::tempdir().unwrap();
        let tlds = crate::node::built_in_tlds().unwrap();
        Ring::load_or_create(&data.path().join("keys"), &tlds, ALGORITHM_ED25519, 0).unwrap();
        for file in OWN.iter().chain(&DEVELOPMENT) {
            fs::write(data.path().join(file), "").unwrap();
        }
        (data, tlds.into_iter().map(|tld| tld.apex).collect())
    }

    #[test]
    fn each_key_that_is_gone_is_told_of_with_the_way_out() {
        let (data, tlds) = whole();
        let check = |dev, anew: &[PathBuf]| check(data.path(), &tlds, dev, anew).map_err(|error| error.to_string());
        assert_eq!(check(true, &[]), Ok(()));
        let ring = ["keys/tld-ghost.pem", "keys/online.pem", "keys/online-p256.pem"];
        for file in OWN.iter().chain(&ring).chain(&DEVELOPMENT).copied() {
            let (kept, moved) = (data.path().join(file), data.path().join("moved"));
            fs::rename(&kept, &moved).unwrap();
            let told = check(true, &[]).unwrap_err();
            assert!(told.contains(&format!("\n  {file}: ")) && told.ends_with(&format!("--new-key {file}")), "{told}");
            assert_eq!(check(true, &[file.into()]), Ok(()), "{file}");
            // Not of concern where development is over.
            assert_eq!(check(false, &[]).is_ok(), !file.starts_with("keys/"), "{file}");
            fs::rename(&moved, &kept).unwrap();
            assert!(check(true, &[file.into()]).unwrap_err().contains("never overwritten"));
        }
        assert!(check(true, &["keys/other.pem".into()]).unwrap_err().contains("no key is kept there"));
    }

    #[test]
    fn without_the_ring_every_key_of_it_is_looked_for() {
        let (data, tlds) = whole();
        fs::remove_file(data.path().join("keys/ring.json")).unwrap();
        fs::remove_file(data.path().join("keys/tld-sig.pem")).unwrap();
        let told = check(data.path(), &tlds, false, &[]).unwrap_err().to_string();
        assert!(told.ends_with("--new-key keys/ring.json --new-key keys/tld-sig.pem"), "{told}");
        let anew = ["keys/ring.json", "keys/tld-sig.pem"].map(PathBuf::from);
        assert!(check(data.path(), &tlds, false, &anew).is_ok());
    }

    #[test]
    fn a_gateway_that_was_never_for_development_may_become_one() {
        let (data, tlds) = whole();
        DEVELOPMENT.iter().for_each(|file| fs::remove_file(data.path().join(file)).unwrap());
        assert!(check(data.path(), &tlds, true, &[]).is_ok());
    }
}
