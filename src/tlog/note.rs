//! Signed notes (C2SP signed-note): a text and the lines that sign it, by Ed25519 keys or by witnesses (C2SP
//! tlog-cosignature, version 1).

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest as _, Sha256};

use super::{decimal, from_base64};
use crate::limits::{MAX_NOTE, MAX_NOTE_SIGNATURES};

/// What begins every signature line: an em dash and a space.
const DASH: &str = "\u{2014} ";

/// Why octets are not a signed note, or a note proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    #[error("longer than {MAX_NOTE} octets, or with more than {MAX_NOTE_SIGNATURES} signatures")]
    TooLong,
    #[error("not a signed note: text, an empty line, signature lines")]
    Malformed,
    #[error("not a verifier key: NAME+ID+KEY of an Ed25519 key or a witness")]
    VerifierKey,
    #[error("a signature does not verify with the key that it names")]
    Signature,
    #[error("not signed by a key that is trusted")]
    Untrusted,
}

/// One signature line. Whose it is, name and id tell together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub name: String,
    pub id: [u8; 4],
    pub octets: Vec<u8>,
}

/// A text and its signatures, whether or not they verify.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// With the newline at its end.
    pub text: String,
    pub signatures: Vec<Signature>,
}

/// What a key signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The text of a note (type 0x01).
    Note,
    /// That a checkpoint continues all that the signer has seen of its log, at a time (type 0x04).
    Cosignature,
}

impl Purpose {
    fn number(self) -> u8 {
        match self {
            Self::Note => 1,
            Self::Cosignature => 4,
        }
    }
}

/// A key that verifies notes, with the name it goes by; `NAME+ID+KEY` in text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    purpose: Purpose,
    key: VerifyingKey,
}

/// A signature that has been verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified<'a> {
    pub key: &'a VerifierKey,
    /// When a witness signed, seconds since 1970.
    pub time: Option<u64>,
}

impl Note {
    /// Reads a note of at most `MAX_NOTE` octets.
    ///
    /// # Errors
    /// [`NoteError::TooLong`], [`NoteError::Malformed`]
    pub fn parse(octets: &[u8]) -> Result<Self, NoteError> {
        if octets.len() > MAX_NOTE {
            return Err(NoteError::TooLong);
        }
        let whole = std::str::from_utf8(octets).map_err(|_| NoteError::Malformed)?;
        if whole.chars().any(|c| c < ' ' && c != '\n') {
            return Err(NoteError::Malformed);
        }
        // The text may hold empty lines: the last one ends it.
        let end = whole.rfind("\n\n").ok_or(NoteError::Malformed)?;
        let (text, lines) = (&whole[..=end], &whole[end + 2..]);
        let lines = lines.strip_suffix('\n').ok_or(NoteError::Malformed)?;
        let signatures = lines.split('\n').map(str::parse).collect::<Result<Vec<_>, _>>()?;
        if signatures.len() > MAX_NOTE_SIGNATURES {
            return Err(NoteError::TooLong);
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// A note with one signature over `text`, which must end in a newline and hold no other control characters.
    pub fn sign(text: String, name: &str, key: &SigningKey) -> Self {
        let signature = key.sign(text.as_bytes()).to_bytes().to_vec();
        let signature = Signature { name: name.to_owned(), id: id(name, Purpose::Note, key), octets: signature };
        Self { text, signatures: vec![signature] }
    }

    /// The line by which the witness `name` cosigns the checkpoint that the text is, at `time` (seconds since 1970).
    pub fn cosign(&self, name: &str, key: &SigningKey, time: u64) -> Signature {
        let signature = key.sign(cosigned(&self.text, time).as_bytes()).to_bytes();
        let octets = [&time.to_be_bytes()[..], &signature].concat();
        Signature { name: name.to_owned(), id: id(name, Purpose::Cosignature, key), octets }
    }

    /// The signatures by `keys`, in the order of the lines; each key counts once. Those of unknown keys are passed over.
    ///
    /// # Errors
    /// A line that names one of the keys does not verify, or there is none.
    pub fn verify<'a>(&self, keys: &'a [VerifierKey]) -> Result<Vec<Verified<'a>>, NoteError> {
        let mut verified: Vec<Verified<'a>> = Vec::new();
        for signature in &self.signatures {
            let Some(key) = keys.iter().find(|key| key.is_named(signature)) else { continue };
            let time = key.verify(&self.text, &signature.octets).ok_or(NoteError::Signature)?;
            if !verified.iter().any(|other| other.key == key) {
                verified.push(Verified { key, time });
            }
        }
        if verified.is_empty() { Err(NoteError::Untrusted) } else { Ok(verified) }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

impl FromStr for Signature {
    type Err = NoteError;

    /// Reads a line, without its newline.
    fn from_str(line: &str) -> Result<Self, NoteError> {
        let malformed = NoteError::Malformed;
        let (name, signature) = line.strip_prefix(DASH).and_then(|rest| rest.split_once(' ')).ok_or(malformed)?;
        let octets = from_base64(signature).ok_or(malformed)?;
        let (id, octets) = octets.split_first_chunk().filter(|(_, octets)| !octets.is_empty()).ok_or(malformed)?;
        is_name(name).then(|| Self { name: name.to_owned(), id: *id, octets: octets.to_vec() }).ok_or(malformed)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{DASH}{} {}", self.name, BASE64.encode(&[&self.id, &self.octets[..]].concat()))
    }
}

impl VerifierKey {
    /// The public half of a signing key; `None` if `name` cannot be a key's name.
    pub fn new(name: &str, purpose: Purpose, key: &VerifyingKey) -> Option<Self> {
        is_name(name).then(|| Self { name: name.to_owned(), purpose, key: *key })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    fn id(&self) -> [u8; 4] {
        key_id(&self.name, self.purpose, &self.key)
    }

    /// True if a line says that this key made it.
    pub fn is_named(&self, signature: &Signature) -> bool {
        self.name == signature.name && self.id() == signature.id
    }

    /// The time of the signature, if it has one; `None` if it does not verify.
    fn verify(&self, text: &str, octets: &[u8]) -> Option<Option<u64>> {
        let (time, message, signature) = match self.purpose {
            Purpose::Note => (None, text.to_owned(), octets),
            Purpose::Cosignature => {
                let (time, signature) = octets.split_first_chunk()?;
                let time = Some(u64::from_be_bytes(*time)).filter(|time| *time <= i64::MAX as u64)?;
                (Some(time), cosigned(text, time), signature)
            }
        };
        let signature = ed25519_dalek::Signature::from_slice(signature).ok()?;
        self.key.verify_strict(message.as_bytes(), &signature).ok().map(|()| time)
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let bad = NoteError::VerifierKey;
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else { return Err(bad) };
        let key = from_base64(key).ok_or(bad)?;
        let (purpose, key) = match key.split_first() {
            Some((1, key)) => (Purpose::Note, key),
            Some((4, key)) => (Purpose::Cosignature, key),
            _ => return Err(bad),
        };
        let key = key.try_into().ok().and_then(|key| VerifyingKey::from_bytes(key).ok()).ok_or(bad)?;
        let key = Self::new(name, purpose, &key).ok_or(bad)?;
        if HEXLOWER.encode(&key.id()) == id { Ok(key) } else { Err(bad) }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[self.purpose.number()][..], self.key.as_bytes()].concat();
        write!(f, "{}+{}+{}", self.name, HEXLOWER.encode(&self.id()), BASE64.encode(&key))
    }
}

/// Not empty, no white space, no plus; nor a control character, which no note holds.
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

fn id(name: &str, purpose: Purpose, key: &SigningKey) -> [u8; 4] {
    key_id(name, purpose, &key.verifying_key())
}

/// The first four octets of SHA-256 over name, newline, type and key.
fn key_id(name: &str, purpose: Purpose, key: &VerifyingKey) -> [u8; 4] {
    let hash = Sha256::new().chain_update(name).chain_update([b'\n', purpose.number()]).chain_update(key.as_bytes());
    let hash: [u8; 32] = hash.finalize().into();
    [hash[0], hash[1], hash[2], hash[3]]
}

/// What a witness signs.
fn cosigned(text: &str, time: u64) -> String {
    debug_assert!(decimal(&time.to_string()).is_some());
    format!("cosignature/v1\ntime {time}\n{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const NOTE: &str = "This is an example message.\n\n\u{2014} example.com/foo \
        Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn verifier(name: &str, purpose: Purpose, seed: u8) -> VerifierKey {
        VerifierKey::new(name, purpose, &key(seed).verifying_key()).unwrap()
    }

    #[test]
    fn the_example_of_the_specification_verifies() {
        let trusted: VerifierKey = VKEY.parse().unwrap();
        assert_eq!(trusted.to_string(), VKEY);
        let note = Note::parse(NOTE.as_bytes()).unwrap();
        assert_eq!(note.to_string(), NOTE);
        let trusted = [trusted];
        assert_eq!(note.verify(&trusted), Ok(vec![Verified { key: &trusted[0], time: None }]));
        assert_eq!(note.verify(&[verifier("example.com/foo", Purpose::Note, 1)]), Err(NoteError::Untrusted));
        let other = Note { text: "This is another message.\n".to_owned(), ..note };
        assert_eq!(other.verify(&trusted), Err(NoteError::Signature));
    }

    #[test]
    fn witnesses_sign_the_time_too() {
        let text = "example.com/log\n1\nAAAA\n".to_owned();
        let mut note = Note::sign(text, "example.com/log", &key(1));
        note.signatures.push(note.cosign("w.example/1", &key(2), 1_679_315_147));
        let keys = [
            verifier("example.com/log", Purpose::Note, 1),
            verifier("w.example/1", Purpose::Cosignature, 2),
            // The same key as a log's is another one.
            verifier("w.example/1", Purpose::Note, 2),
        ];
        let verified = note.verify(&keys).unwrap();
        let times: Vec<_> = verified.iter().map(|verified| (verified.key.name(), verified.time)).collect();
        assert_eq!(times, [("example.com/log", None), ("w.example/1", Some(1_679_315_147))]);
        assert_eq!(note.verify(&keys[2..]), Err(NoteError::Untrusted));
        note.signatures[1].octets[7] ^= 1;
        assert_eq!(note.verify(&keys[1..2]), Err(NoteError::Signature));
        note.signatures[1].octets.truncate(7);
        assert_eq!(note.verify(&keys[1..2]), Err(NoteError::Signature));
        // A line that stands twice is one signature.
        note.signatures = vec![note.signatures[0].clone(), note.signatures[0].clone()];
        assert_eq!(note.verify(&keys).map(|verified| verified.len()), Ok(1));
    }

    #[test]
    fn what_is_not_a_note_is_refused() {
        let line = NOTE.split_once("\n\n").unwrap().1;
        for octets in [
            "",
            "\n",
            "\n\n",
            "text\n\n",
            "text\n\n\n",
            "text\n",
            line,
            &format!("text\n{line}"),
            &format!("text\n\n{}", line.trim_end()),
            &format!("text\r\n\n{line}"),
            &format!("text\n\n{line}\n"),
            &format!("text\n\n{line}x\n"),
            &format!("text\n\n{}", line.replace('=', "")),
            &format!("text\n\n{}", line.replace("/foo", "/f+oo")),
            &format!("text\n\n{}", line.replace("/foo", "/f\u{2003}oo")),
            &format!("text\n\n{}", line.replace('\u{2014}', "-")),
            "text\n\n\u{2014} name AAAA\n",
            "text\n\n\u{2014}  AAAAAAA=\n",
        ] {
            assert_eq!(Note::parse(octets.as_bytes()), Err(NoteError::Malformed), "{octets:?}");
        }
        assert_eq!(Note::parse(b"\xff\n\n\xe2\x80\x94 a AAAAAAA=\n"), Err(NoteError::Malformed));
        let many = format!("text\n\n{}", line.repeat(MAX_NOTE_SIGNATURES + 1));
        assert_eq!(Note::parse(many.as_bytes()), Err(NoteError::TooLong));
        assert_eq!(Note::parse(&vec![b'a'; MAX_NOTE + 1]), Err(NoteError::TooLong));
        // The last empty line ends the text.
        let note = Note::parse(format!("a\n\nb\n\n{line}").as_bytes()).unwrap();
        assert_eq!(note.text, "a\n\nb\n");
    }

    #[test]
    fn verifier_keys_have_one_form() {
        for text in [
            "",
            "a",
            "a+b+c",
            &VKEY.replace("530d903a", "530D903A"),
            &VKEY.replace("530d903a", "530d903b"),
            &VKEY.replace("example", "example "),
            &VKEY.replace("+Ae", "+Be"),
            &VKEY[..VKEY.len() - 4],
        ] {
            assert_eq!(text.parse::<VerifierKey>(), Err(NoteError::VerifierKey), "{text}");
        }
    }
}
