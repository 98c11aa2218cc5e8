//! DNS UPDATE messages made octet by octet, for the tests (tests/it) and the fuzzer (tests/fuzz): not with anything that
//! the server reads them with.

use ed25519_dalek::{Signer as _, SigningKey};
use ghostplane::dnssec::tsig::{self, Secret};
use ghostplane::dnssec::{key_tag, sig0};
use ghostplane::op::{self, RegistryId, SigilId};
use ghostplane::wire::update::{Tsig, UpdateMessage};
use ghostplane::wire::{EdeCode, Name, Query, Rcode, Rtype, rdata};

pub const IN: u16 = 1;
pub const NONE: u16 = 254;
pub const ANY: u16 = 255;

/// A message before it is signed.
#[derive(Clone)]
pub struct Update {
    id: u16,
    zone: Name,
    prerequisites: Vec<Vec<u8>>,
    updates: Vec<Vec<u8>>,
    edns: bool,
}

fn name(text: &str) -> Name {
    Name::from_user(text).expect("a name")
}

/// One record; `text` is RDATA in presentation form, empty for none.
fn record(owner: &str, class: u16, rtype: &str, ttl: u32, text: &str) -> Vec<u8> {
    let rtype: Rtype = rtype.parse().expect("a type");
    let data = if text.is_empty() { Vec::new() } else { rdata::from_text(rtype, text, None).expect("RDATA") };
    let mut octets = name(owner).as_wire().to_vec();
    octets.extend(rtype.0.to_be_bytes());
    octets.extend(class.to_be_bytes());
    octets.extend(ttl.to_be_bytes());
    octets.extend((data.len() as u16).to_be_bytes());
    octets.extend(data);
    octets
}

impl Update {
    pub fn of(zone: &str) -> Self {
        Self { id: 0x1234, zone: name(zone), prerequisites: Vec::new(), updates: Vec::new(), edns: true }
    }

    pub fn id(self, id: u16) -> Self {
        Self { id, ..self }
    }

    pub fn require(mut self, owner: &str, class: u16, rtype: &str, text: &str) -> Self {
        self.prerequisites.push(record(owner, class, rtype, 0, text));
        self
    }

    /// A record of the update section whatever it means.
    pub fn edit(mut self, owner: &str, class: u16, rtype: &str, ttl: u32, text: &str) -> Self {
        self.updates.push(record(owner, class, rtype, ttl, text));
        self
    }

    pub fn add(self, owner: &str, rtype: &str, text: &str) -> Self {
        self.edit(owner, IN, rtype, 60, text)
    }

    /// A record whose octets are given, compressed or not.
    pub fn raw(mut self, record: Vec<u8>) -> Self {
        self.updates.push(record);
        self
    }

    /// Adds MX records whose exchange is the zone's name: 4 octets each in the message, a whole name in the store.
    pub fn add_mail(mut self, owner: &str, count: u16) -> Self {
        for preference in 0..count {
            let mut octets = name(owner).as_wire().to_vec();
            octets.extend([0, 15, 0, 1, 0, 0, 0, 60, 0, 4]);
            octets.extend(preference.to_be_bytes());
            // The zone's name stands right behind the header.
            octets.extend([0xc0, 12]);
            self.updates.push(octets);
        }
        self
    }

    pub fn octets(&self) -> Vec<u8> {
        let mut octets = self.id.to_be_bytes().to_vec();
        octets.extend([0x28, 0, 0, 1]);
        for count in [self.prerequisites.len(), self.updates.len(), usize::from(self.edns)] {
            octets.extend((count as u16).to_be_bytes());
        }
        octets.extend(self.zone.as_wire());
        octets.extend([0, 6, 0, 1]);
        self.prerequisites.iter().chain(&self.updates).for_each(|record| octets.extend(record));
        if self.edns {
            octets.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        }
        octets
    }

    /// With a SIG(0) by `key` as the KEY of `signer` (RFC 2931).
    pub fn signed(&self, key: &SigningKey, signer: &str, inception: u64, expiration: u64) -> Vec<u8> {
        sign(self.octets(), key, signer, inception, expiration)
    }

    /// With a TSIG (RFC 8945).
    pub fn keyed(&self, key: &Name, secret: &Secret, algorithm: &str, time: u64) -> Vec<u8> {
        let tsig = Tsig {
            key: key.clone(),
            algorithm: name(algorithm),
            time,
            fudge: 300,
            mac: Vec::new(),
            original_id: self.id,
            error: 0,
            other: Vec::new(),
        };
        let mut octets = self.octets();
        tsig::sign_request(&mut octets, &tsig, secret);
        octets
    }
}

/// Appends a SIG(0) to a message, which must have a header.
fn sign(mut octets: Vec<u8>, key: &SigningKey, signer: &str, inception: u64, expiration: u64) -> Vec<u8> {
    let mut data = vec![0, 0, 15, 0, 0, 0, 0, 0];
    data.extend((expiration as u32).to_be_bytes());
    data.extend((inception as u32).to_be_bytes());
    data.extend(key_tag(&sig0::key_rdata(&key.verifying_key())).to_be_bytes());
    data.extend(name(signer).as_wire());
    let signature = key.sign(&[&data[..], &octets].concat());
    data.extend(signature.to_bytes());
    octets.extend([0, 0, 24, 0, 255, 0, 0, 0, 0]);
    octets.extend((data.len() as u16).to_be_bytes());
    octets.extend(data);
    octets[11] = octets[11].wrapping_add(1);
    octets
}

/// What must hold of any octets as an UPDATE, as they are and with a good SIG(0) behind them: no panic, and what passes
/// is an op that says the same again.
pub fn survives(octets: &[u8]) {
    const NOW: u64 = 1_800_000_000;
    let registry = RegistryId([3; 32]);
    let key = SigningKey::from_bytes(&[1; 32]);
    let author = SigilId::from(&key.verifying_key());
    let mut messages = vec![octets.to_vec()];
    if octets.len() >= 12 {
        messages.push(sign(octets.to_vec(), &key, "alice.ghost", NOW - 300, NOW + 300));
    }
    for message in messages {
        let _ = Query::parse(&message);
        if let Ok(parsed) = UpdateMessage::parse(&message) {
            assert_eq!(parsed.octets(), message);
            assert!(parsed.signed_octets().len() <= message.len());
            let reply = parsed.refuse(Rcode::Refused).reply_with(Some(EdeCode::TooEarly));
            hickory_proto::op::Message::from_vec(&reply.wire).expect("hickory reads our replies");
        }
        let sealed = op::seal_update(author, &message);
        if let Ok(verified) = op::verify(&sealed, registry, NOW) {
            assert_eq!((verified.author(), verified.bytes()), (author.into(), &sealed[..]));
            assert_eq!(op::verify(verified.bytes(), registry, NOW).as_ref(), Ok(&verified));
            assert_eq!(verified.op().name().map(Name::label_count), Some(2));
        }
    }
}
