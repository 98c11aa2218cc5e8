//! The gateway's own keys on disk, and how they roll: each TLD's, and the online keys. `ring.json` says what each key file
//! is for; every step of a roll replaces it whole, so that a roll that was interrupted goes on where it was.
//!
//! ```text
//! published ─ TTL ─> active ─> retired ─┬─ TLD: 30 days ─> revoked ─ 30 days ─> gone     (RFC 5011, RFC 7583 §3.3)
//!                                       └─ online: no name depends on it ─────> gone     (RFC 7583 §3.2)
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::keys;
use crate::dnssec::{ALGORITHM_ED25519, ALGORITHM_P256, FLAG_REVOKE, FLAGS_ONLINE, FLAGS_OWNER, Secret, ZoneKey};
use crate::gateway::{Signer, Tld};
use crate::limits::MAX_KEY_FILE;
use crate::locked::Locked;
use crate::secret_file;
use crate::wire::Name;

/// Seconds that validators which follow RFC 5011 take to trust a new anchor (§2.4.1), and to forget one (§2.4.2).
const HOLD_DOWN: u64 = 30 * 86_400;
/// Seconds for which caches may hold DNSKEY RRsets.
const KEY_TTL: u64 = 3_600;

/// The ring's own file.
pub const FILE: &str = "ring.json";

/// What a key does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// In the DNSKEY RRset, signs that RRset only.
    Published,
    /// Signs.
    Active,
    /// Was active; a TLD's still signs the DNSKEY RRset, an online key the names that know no other.
    Retired,
    /// In the DNSKEY RRset with the REVOKE bit (RFC 5011 §2.1).
    Revoked,
}

/// One key of the ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// A TLD without its dot, `online` or `online-p256`.
    pub role: String,
    /// Beside the ring.
    pub file: String,
    pub state: State,
    /// When it came to that state, seconds since 1970.
    pub since: u64,
}

/// All keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ring {
    /// Steps taken; part of the zones' serials.
    pub steps: u32,
    pub keys: Vec<Entry>,
}

/// Roles of the online keys, and their algorithms.
pub const ONLINE: [(&str, u8); 2] = [("online", ALGORITHM_ED25519), ("online-p256", ALGORITHM_P256)];

/// Is this an online key, not a TLD's?
pub fn is_online(role: &str) -> bool {
    ONLINE.iter().any(|(online, _)| *online == role)
}

/// What the next step of a roll is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// In words.
    pub what: &'static str,
    /// When it may be taken, seconds since 1970.
    pub from: u64,
}

impl Ring {
    /// Reads the ring of `folder`; `None` if there is none yet.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn load(folder: &Path) -> anyhow::Result<Option<Self>> {
        use std::io::Read as _;
        let path = folder.join(FILE);
        let file = match std::fs::File::open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.with_context(|| path.display().to_string())?,
        };
        let mut text = String::new();
        file.take(MAX_KEY_FILE).read_to_string(&mut text).with_context(|| path.display().to_string())?;
        Ok(Some(serde_json::from_str(&text).with_context(|| path.display().to_string())?))
    }

    /// [`Self::load`], with a key for every role that has none: a TLD's of `algorithm`.
    ///
    /// # Errors
    /// [`Self::load`]'s, or a key cannot be made.
    pub fn load_or_create(folder: &Path, tlds: &[Tld], algorithm: u8, now: u64) -> anyhow::Result<Self> {
        let mut ring = Self::load(folder)?.unwrap_or_default();
        let tlds = tlds.iter().map(|tld| (tld.policy.tld.clone(), algorithm, format!("tld-{}.pem", tld.policy.tld)));
        let online = ONLINE.map(|(role, algorithm)| (role.to_owned(), algorithm, format!("{role}.pem")));
        let mut made = false;
        for (role, algorithm, file) in tlds.chain(online) {
            if ring.keys.iter().all(|entry| entry.role != role) {
                keys::load_or_create_zone_key(&folder.join(&file), algorithm)?;
                ring.keys.push(Entry { role, file, state: State::Active, since: now });
                made = true;
            }
        }
        if made {
            ring.save(folder)?;
        }
        Ok(ring)
    }

    /// Writes the ring, whole or not at all.
    ///
    /// # Errors
    /// The file system's.
    pub fn save(&self, folder: &Path) -> anyhow::Result<()> {
        let path = folder.join(FILE);
        let text = serde_json::to_string_pretty(self)? + "\n";
        secret_file::replace(&path, text.as_bytes(), 0o600).with_context(|| path.display().to_string())
    }

    /// The signer that these keys make.
    ///
    /// # Errors
    /// A key file cannot be read.
    pub fn signer(&self, folder: &Path, tlds: &[Name]) -> anyhow::Result<Signer> {
        let of_tld = |apex: &Name| Ok((apex.clone(), self.zone_keys(folder, apex.to_string().trim_end_matches('.'))?));
        let tlds = tlds.iter().map(of_tld).collect::<anyhow::Result<Vec<_>>>()?;
        let mut online = Vec::new();
        let mut retired = Vec::new();
        for (role, _) in ONLINE {
            for entry in self.of(role) {
                let list = if entry.state == State::Retired { &mut retired } else { &mut online };
                list.push(zone_key(folder, entry)?);
            }
        }
        Ok(Signer::new(tlds, online).with_retired(retired).with_steps(self.steps))
    }

    fn zone_keys(&self, folder: &Path, role: &str) -> anyhow::Result<Vec<ZoneKey>> {
        self.of(role).into_iter().map(|entry| zone_key(folder, entry)).collect()
    }

    /// The keys of a role, the active one first.
    pub fn of(&self, role: &str) -> Vec<&Entry> {
        let mut entries: Vec<&Entry> = self.keys.iter().filter(|entry| entry.role == role).collect();
        entries.sort_by_key(|entry| entry.state != State::Active);
        entries
    }

    fn in_state(&mut self, role: &str, state: State) -> Option<&mut Entry> {
        self.keys.iter_mut().find(|entry| entry.role == role && entry.state == state)
    }

    /// What a role's next step is.
    pub fn next(&self, role: &str) -> Next {
        let find = |state: State| self.keys.iter().find(|entry| entry.role == role && entry.state == state);
        if let Some(revoked) = find(State::Revoked) {
            return Next { what: "drop the revoked key", from: revoked.since + HOLD_DOWN };
        }
        match (find(State::Retired), find(State::Published)) {
            (Some(retired), _) if is_online(role) => {
                Next { what: "drop the retired key, once no name depends on it", from: retired.since + KEY_TTL }
            }
            (Some(retired), _) => Next { what: "revoke the retired key", from: retired.since + HOLD_DOWN },
            (None, Some(published)) => Next { what: "sign with the new key", from: published.since + KEY_TTL },
            (None, None) => Next { what: "make and publish a new key", from: 0 },
        }
    }

    /// Takes the next step of a role at `now`; the key that is gone with it, if one is.
    ///
    /// # Errors
    /// No such role, or a key cannot be made.
    pub fn step(&mut self, folder: &Path, role: &str, now: u64) -> anyhow::Result<()> {
        let active = self.of(role).first().map(|entry| folder.join(&entry.file));
        let active =
            active.with_context(|| format!("no keys of {role}; there are those of {}", self.roles().join(", ")))?;
        if self.in_state(role, State::Revoked).is_some() {
            self.keys.retain(|entry| !(entry.role == role && entry.state == State::Revoked));
        } else if is_online(role) && self.in_state(role, State::Retired).is_some() {
            self.keys.retain(|entry| !(entry.role == role && entry.state == State::Retired));
        } else if let Some(retired) = self.in_state(role, State::Retired) {
            (retired.state, retired.since) = (State::Revoked, now);
        } else if self.in_state(role, State::Published).is_some() {
            for (from, to) in [(State::Active, State::Retired), (State::Published, State::Active)] {
                if let Some(entry) = self.in_state(role, from) {
                    (entry.state, entry.since) = (to, now);
                }
            }
        } else {
            let algorithm = keys::load_zone_key(&active)?.algorithm();
            let file = format!("{}-{}.pem", active.file_stem().unwrap_or_default().display(), self.steps + 1);
            // Made by an earlier attempt that did not get further: it is as good as new.
            keys::load_or_create_zone_key(&folder.join(&file), algorithm)?;
            self.keys.push(Entry { role: role.to_owned(), file, state: State::Published, since: now });
        }
        self.steps += 1;
        self.save(folder)
    }

    /// Every role, once.
    pub fn roles(&self) -> Vec<String> {
        let mut roles: Vec<String> = self.keys.iter().map(|entry| entry.role.clone()).collect();
        roles.dedup();
        roles.sort();
        roles.dedup();
        roles
    }
}

/// A key as the zone shows it.
///
/// # Errors
/// Its file cannot be read.
pub fn zone_key(folder: &Path, entry: &Entry) -> anyhow::Result<ZoneKey> {
    let path: PathBuf = folder.join(&entry.file);
    ensure!(path.parent() == Some(folder), "{FILE}: {:?} is not a file beside it", entry.file);
    let secret: Locked<Secret> = keys::load_zone_key(&path)?;
    Ok(ZoneKey::new(secret, flags(entry)))
}

fn flags(entry: &Entry) -> u16 {
    match entry.state {
        _ if is_online(&entry.role) => FLAGS_ONLINE,
        State::Revoked => FLAGS_OWNER | FLAG_REVOKE,
        _ => FLAGS_OWNER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roll_goes_its_way_and_survives_interruptions() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let tlds = crate::node::built_in_tlds().unwrap();
        let mut ring = Ring::load_or_create(folder, &tlds, ALGORITHM_ED25519, 100).unwrap();
        assert_eq!(Ring::load_or_create(folder, &tlds, ALGORITHM_P256, 200).unwrap(), ring);
        assert_eq!(ring.roles(), ["bc", "gcc", "ghost", "online", "online-p256", "sig"]);
        let states = |ring: &Ring, role: &str| ring.of(role).iter().map(|entry| entry.state).collect::<Vec<_>>();
        let first = ring.of("ghost")[0].file.clone();
        let mut now = 1_000;
        let walk = |ring: &mut Ring, role: &str, now: &mut u64| {
            *now = ring.next(role).from.max(*now);
            ring.step(folder, role, *now).unwrap();
            assert_eq!(Ring::load(folder).unwrap().as_ref(), Some(&*ring));
            states(ring, role)
        };
        use State::{Active, Published, Retired, Revoked};
        assert_eq!(walk(&mut ring, "ghost", &mut now), [Active, Published]);
        assert_eq!(ring.next("ghost").from, now + KEY_TTL);
        assert_eq!(walk(&mut ring, "ghost", &mut now), [Active, Retired]);
        assert_eq!(walk(&mut ring, "ghost", &mut now), [Active, Revoked]);
        let revoked = zone_key(folder, ring.of("ghost")[1]).unwrap();
        assert_eq!(revoked.public().flags(), 257 | 0x80);
        assert_eq!(walk(&mut ring, "ghost", &mut now), [Active]);
        assert_ne!(ring.of("ghost")[0].file, first);
        for expected in [&[Active, Published][..], &[Active, Retired], &[Active]] {
            assert_eq!(walk(&mut ring, "online-p256", &mut now), expected);
        }
        assert_eq!(zone_key(folder, ring.of("online-p256")[0]).unwrap().public().algorithm(), ALGORITHM_P256);
        assert_eq!(ring.steps, 7);
        assert!(ring.step(folder, "nope", now).is_err());
        ring.keys[0].file = "../elsewhere.pem".into();
        assert!(zone_key(folder, &ring.keys[0]).is_err());
    }
}
