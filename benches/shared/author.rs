//! A gateway in memory and who writes to it: what the benches have in common.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, mpsc};

use ed25519_dalek::SigningKey;
use ghostplane::dnssec::{FLAGS_ONLINE, FLAGS_OWNER, Secret, ZoneKey};
use ghostplane::gateway::{Client, Signer, Transport};
use ghostplane::node::{Node, Parts, built_in_tlds};
use ghostplane::notary::{Notary, Witnesses};
use ghostplane::op::{self, DnskeyRdata, Op, OpBody, SigilId, VerifiedOp};
use ghostplane::registry::{FORMAT, Genesis, Registry};
use ghostplane::wire::{Name, Rrset, Rtype};
use ghostplane::zone::ahead::with_chain;
use ghostplane::zone::export::Contents;
use ghostplane::zone::soa;

/// The program's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub const NOW: u64 = 1_800_000_000;
pub const CLIENT: Client = Client::new(Transport::Quic, IpAddr::V4(Ipv4Addr::LOCALHOST));

/// The operator, who funds himself, and his place in the order of ops.
pub struct Author {
    pub node: Node,
    pub key: SigningKey,
    nonce: u64,
}

impl Author {
    pub fn new(registry: impl FnOnce(Genesis) -> Registry) -> Self {
        let key = SigningKey::from_bytes(&[1; 32]);
        let operator = SigilId::from(&key.verifying_key());
        let registry = registry(Genesis { format: FORMAT, operator, created: NOW, salt: vec![] });
        let zone_key = |seed, flags| ZoneKey::new(Secret::Ed25519(SigningKey::from_bytes(&[seed; 32])), flags);
        let tlds = built_in_tlds().unwrap();
        let keys: Vec<_> = tlds.iter().map(|tld| (tld.apex.clone(), vec![zone_key(2, FLAGS_OWNER)])).collect();
        let p256 = ZoneKey::new(Secret::from_p256_seed(&[3; 32]).unwrap(), FLAGS_ONLINE);
        let signer = Signer::new(keys, vec![zone_key(3, FLAGS_ONLINE), p256]);
        let sigil = SigningKey::from_bytes(&[4; 32]);
        let notary = Notary::new(SigningKey::from_bytes(&[5; 32]), registry.id(), Witnesses::default(), None).unwrap();
        // Valgrind has 128 GiB of addresses to give.
        let parts = Parts { instances: 8, ..Parts::new(registry, tlds, signer, sigil, notary, Arc::new(|| NOW)) };
        let node = Node::start(parts).unwrap();
        let mut author = Self { node, key, nonce: 0 };
        let grant = author.verified(Op::GrantMana { to: operator, level: 5, amount: u64::MAX });
        author.submit_all(vec![grant]);
        author
    }

    pub fn in_memory() -> Self {
        Self::new(|genesis| Registry::in_memory(genesis).unwrap())
    }

    pub fn signed(&mut self, op: Op) -> Vec<u8> {
        let body = OpBody { registry: self.node.service.registry.id(), nonce: self.nonce, expires: NOW + 600, op };
        self.nonce += 1;
        op::sign(&self.key, &body)
    }

    pub fn verified(&mut self, op: Op) -> VerifiedOp {
        op::verify(&self.signed(op), self.node.service.registry.id(), NOW).unwrap()
    }

    /// A zone with a wildcard at `*.w`, signed by `key` alone (strict) or with the online key at this place.
    pub fn zone(&self, name: &Name, key: &ZoneKey, online: Option<usize>) -> Op {
        let signer = self.node.service.keys.get();
        let keys = [Some(key), online.map(|at| &signer.online()[at])];
        let keys = keys.into_iter().flatten().map(|key| key.dnskey().to_vec());
        let mut rrsets = vec![
            Rrset::new(name.clone(), Rtype::DNSKEY, 3_600, keys),
            Rrset::new(name.clone(), Rtype::CDNSKEY, 3_600, [key.dnskey().to_vec()]),
            Rrset::new(wildcard(name), Rtype::A, 3_600, [vec![192, 0, 2, 2]]),
        ];
        if online.is_none() {
            let ghost = built_in_tlds().unwrap().into_iter().find(|tld| tld.apex == name.suffix(1)).unwrap();
            rrsets.push(soa::with_serial(&ghost.soa, name, 1));
            rrsets.push(Rrset { owner: name.clone(), ..(*ghost.ns).clone() });
            let mut contents = Contents::new();
            for rrset in rrsets {
                contents.entry(rrset.owner.clone()).or_default().insert(rrset.rtype, rrset);
            }
            rrsets = with_chain(name, contents).into_values().flat_map(|types| types.into_values()).collect();
        }
        for rrset in &mut rrsets {
            rrset.rrsigs = vec![key.sign_until(name, rrset, NOW - 60, NOW + 86_400).into()];
        }
        Op::PutRecords { name: name.clone(), rrsets, keys: Some(vec![DnskeyRdata(key.dnskey().to_vec())]) }
    }

    /// Queues all and waits for the last reply: they come in order.
    pub fn submit_all(&self, ops: Vec<VerifiedOp>) {
        let (sender, receiver) = mpsc::channel();
        let count = ops.len();
        for op in ops {
            let sender = sender.clone();
            self.node.service.writer.submit(op, Box::new(move |outcome| sender.send(outcome).unwrap()));
        }
        for _ in 0..count {
            receiver.recv().unwrap().unwrap();
        }
    }
}

pub fn name(text: &str) -> Name {
    Name::from_user(text).unwrap()
}

pub fn wildcard(zone: &Name) -> Name {
    zone.child(b"w").unwrap().child(b"*").unwrap()
}

/// A for A with EDNS, with or without DO.
pub fn query(owner: &Name, dnssec_ok: bool) -> Vec<u8> {
    let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    message.extend_from_slice(owner.as_wire());
    message.extend([0, 1, 0, 1, 0, 0, 41, 4, 208, 0, 0, u8::from(dnssec_ok) << 7, 0, 0, 0]);
    message
}
