//! A gateway in memory, and keys and records made short.

use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use ghostplane::dnssec::ZoneKey;
use ghostplane::gateway::{Client, Transport};
use ghostplane::node::{self, Node, Parts};
use ghostplane::observe::Audience;
use ghostplane::op::{self, CodeHash, Op, OpBody, Rejection, SigilId, Symbol};
use ghostplane::server::{Ports, ServerConfig};
use ghostplane::state::View as _;
use ghostplane::transport::admission::Limits;
use ghostplane::transport::tls::Identity;
use ghostplane::wire::{Name, Reply, Rrset, Rtype, rdata};
use ghostplane::writer::Outcome;
use ghostplane::zone::ahead::with_chain;
use ghostplane::zone::export::Contents;
use ghostplane::zone::policy::Policy;
use ghostplane::zone::soa;

pub const START: u64 = 1_800_000_000;

/// A gateway in memory whose clock the test turns.
pub struct World {
    pub node: Node,
    pub time: Arc<AtomicU64>,
    pub operator: Person,
}

/// A key and its next nonce.
pub struct Person {
    pub key: SigningKey,
    pub nonce: u64,
}

impl Person {
    pub fn new(seed: u8) -> Self {
        Self { key: SigningKey::from_bytes(&[seed; 32]), nonce: 0 }
    }

    pub fn id(&self) -> SigilId {
        SigilId::from(&self.key.verifying_key())
    }
}

pub fn name(text: &str) -> Name {
    Name::from_user(text).unwrap()
}

impl World {
    pub fn new() -> Self {
        let time = Arc::new(AtomicU64::new(START));
        let operator = Person::new(200);
        let clock = time.clone();
        let node = Node::in_memory(operator.id(), Arc::new(move || clock.load(Ordering::Relaxed))).unwrap();
        Self { node, time, operator }
    }

    /// A world that believes the resolvers in these networks for whom they ask.
    pub fn believing(resolvers: &[&str]) -> Self {
        let time = Arc::new(AtomicU64::new(START));
        let operator = Person::new(200);
        let clock = time.clone();
        let clock = Arc::new(move || clock.load(Ordering::Relaxed));
        let parts = Parts::in_memory(node::built_in_tlds().unwrap(), operator.id(), clock).unwrap();
        let ecs_from = resolvers.iter().map(|net| net.parse().unwrap()).collect();
        Self { node: Node::start(Parts { ecs_from, ..parts }).unwrap(), time, operator }
    }

    /// A world where one TLD has a policy of its own.
    pub fn with_policy(text: &str) -> Self {
        let time = Arc::new(AtomicU64::new(START));
        let operator = Person::new(200);
        let clock = time.clone();
        let mut tlds = node::built_in_tlds().unwrap();
        let policy = Policy::from_toml(text).unwrap();
        let tld = tlds.iter_mut().find(|tld| tld.policy.tld == policy.tld).unwrap();
        tld.policy = policy;
        let clock = Arc::new(move || clock.load(Ordering::Relaxed));
        Self { node: Node::in_memory_with(tlds, operator.id(), clock).unwrap(), time, operator }
    }

    /// The number of the offer that stands for a name; 0 if none does.
    pub fn offer(&self, text: &str) -> u64 {
        let life = self.node.service.name(text).unwrap().life;
        life.offer.map_or(0, |offer| offer.number)
    }

    /// A funded person.
    pub fn person(&mut self, seed: u8) -> Person {
        let person = Person::new(seed);
        let grant = Op::GrantMana { to: person.id(), level: 3, amount: 100_000 };
        self.govern(grant).unwrap();
        person
    }

    /// The operator writes.
    pub fn govern(&mut self, op: Op) -> Outcome {
        submit(&self.node, self.time.load(Ordering::Relaxed), &mut self.operator, op)
    }

    /// Mints GCC, in its smallest unit.
    pub fn fund(&mut self, to: SigilId, amount: u64) {
        let mana = Op::GrantMana { to: self.operator.id(), level: 3, amount: 100_000 };
        self.govern(mana).unwrap();
        self.govern(Op::Mint { token: Symbol::GCC, to, amount }).unwrap();
    }

    pub fn now(&self) -> u64 {
        self.time.load(Ordering::Relaxed)
    }

    pub fn advance(&self, seconds: u64) {
        self.time.fetch_add(seconds, Ordering::Relaxed);
    }

    pub fn submit(&self, person: &mut Person, op: Op) -> Outcome {
        submit(&self.node, self.now(), person, op)
    }

    pub fn register(&self, person: &mut Person, text: &str) {
        self.submit(person, Op::Register { name: name(text), years: 1 }).unwrap();
    }

    /// Puts one RRset, signed by the person, at `owner` in the registered name it falls into.
    pub fn put(&self, person: &mut Person, owner: &str, rtype: &str, texts: &[&str]) -> Outcome {
        let rrset = self.signed(person, owner, rtype, texts);
        self.submit(person, Op::put(rrset.owner.suffix(2), vec![rrset]))
    }

    pub fn signed(&self, person: &Person, owner: &str, rtype: &str, texts: &[&str]) -> Rrset {
        let rtype: Rtype = rtype.parse().unwrap();
        let data = texts.iter().map(|text| rdata::from_text(rtype, text, None).unwrap());
        let mut rrset = Rrset::new(name(owner), rtype, 3600, data);
        let apex = rrset.owner.suffix(2);
        if rtype != Rtype::NS && !(rtype == Rtype::DS && rrset.owner == apex) {
            let key = ZoneKey::of_sigil(&person.key);
            let rrsig = key.sign_until(&apex, &rrset, self.now() - 60, self.now() + 30 * 86_400);
            rrset.rrsigs = vec![rrsig.into()];
        }
        rrset
    }

    /// Makes a name a signed zone.
    pub fn sign(&self, person: &mut Person, text: &str) -> Outcome {
        let (name, signer) = (name(text), self.node.service.keys.get());
        let online = &signer.online()[0];
        let key = ZoneKey::of_sigil(&person.key);
        let keys = [&key, online].map(|key| key.dnskey().to_vec());
        let mut rrset = Rrset::new(name.clone(), Rtype::DNSKEY, 3600, keys);
        rrset.rrsigs = vec![key.sign_until(&name, &rrset, self.now() - 60, self.now() + 30 * 86_400).into()];
        self.submit(person, Op::put(name, vec![rrset]))
    }

    /// Makes a name a strict zone of what is stored in it: signed ahead for 30 days, chain and all.
    pub fn sign_strict(&self, person: &mut Person, text: &str) -> Outcome {
        let apex = name(text);
        let key = ZoneKey::of_sigil(&person.key);
        let tld = self.node.service.tlds.find(&apex).unwrap().clone();
        let mut rrsets = self.node.service.registry.snapshot().unwrap().rrsets_below(&apex).unwrap();
        rrsets.push(Rrset::new(apex.clone(), Rtype::DNSKEY, 3600, [key.dnskey().to_vec()]));
        rrsets.push(soa::with_serial(&tld.soa, &apex, 1));
        rrsets.push(Rrset { owner: apex.clone(), ..(*tld.ns).clone() });
        let mut contents = Contents::new();
        for rrset in rrsets {
            contents.entry(rrset.owner.clone()).or_default().insert(rrset.rtype, rrset);
        }
        let sign = |rrset: Rrset| {
            if rrset.rtype == Rtype::NS && rrset.owner != apex {
                return Rrset { rrsigs: Vec::new(), ..rrset };
            }
            let rrsig = key.sign_until(&apex, &rrset, self.now() - 60, self.now() + 30 * 86_400);
            Rrset { rrsigs: vec![rrsig.into()], ..rrset }
        };
        let whole = with_chain(&apex, contents).into_values().flat_map(|types| types.into_values().map(sign)).collect();
        self.submit(person, Op::put(apex.clone(), whole))
    }

    pub fn deploy(&self, person: &mut Person, wasm: &[u8]) -> CodeHash {
        match self.submit(person, Op::DeployContract { wasm: wasm.to_vec() }) {
            Ok(_) | Err(Rejection::ContractExists(_)) => CodeHash::of(wasm),
            Err(rejection) => panic!("{rejection}"),
        }
    }

    /// Asks with the DO bit, on the calling thread.
    pub fn ask(&self, owner: &str, rtype: &str) -> Told {
        self.ask_with(&query(owner, rtype, DO))
    }

    /// Asks without the DO bit.
    pub fn ask_plain(&self, owner: &str, rtype: &str) -> Told {
        self.ask_with(&query(owner, rtype, 0))
    }

    fn ask_with(&self, message: &[u8]) -> Told {
        self.ask_from(IpAddr::V4(Ipv4Addr::LOCALHOST), message)
    }

    /// Asks from an address.
    pub fn ask_from(&self, addr: IpAddr, message: &[u8]) -> Told {
        let client = Client::new(Transport::Tcp, addr);
        Told::read(&self.node.gateway.answer(message, client).unwrap())
    }
}

fn submit(node: &Node, now: u64, person: &mut Person, op: Op) -> Outcome {
    let body = OpBody { registry: node.service.registry.id(), nonce: person.nonce, expires: now + 600, op };
    let verified = op::verify(&op::sign(&person.key, &body), node.service.registry.id(), now)?;
    let (sender, receiver) = mpsc::channel();
    node.service.writer.submit(verified, Box::new(move |outcome| sender.send(outcome).unwrap()));
    let outcome = receiver.recv().unwrap();
    person.nonce += u64::from(outcome.is_ok());
    outcome
}

/// EDNS flags: DNSSEC OK (RFC 3225), Compact Answers OK (RFC 9824).
pub const DO: u8 = 0x80;
pub const CO: u8 = 0x40;

/// Authentic Data and Checking Disabled, in the header's second octet of flags (RFC 4035 §3.1.6).
pub const AD: u8 = 0x20;
pub const CD: u8 = 0x10;

/// A query message with EDNS and these flags.
pub fn query(owner: &str, rtype: &str, flags: u8) -> Vec<u8> {
    let rtype: Rtype = rtype.parse().unwrap();
    let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    message.extend_from_slice(name(owner).as_wire());
    message.extend(rtype.0.to_be_bytes());
    message.extend([0, 1, 0, 0, 41, 4, 208, 0, 0, flags, 0, 0, 0]);
    message
}

/// Writes a key file that others cannot read, as `serve` wants it.
pub fn write_key(path: &Path, pem: &str) {
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(pem.as_bytes()).unwrap();
}

/// One core on loopback, on ports that are free.
pub fn server_config(identity: Identity) -> ServerConfig {
    ServerConfig {
        addrs: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        metrics: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        ports: Ports::ANY,
        identity,
        limits: Limits::default(),
        cores: NonZeroUsize::MIN,
        proxies: Vec::new(),
        audience: Audience::default(),
        other_descriptors: 0,
        hosts: Vec::new(),
        signals: false,
    }
}

/// A reply, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub rcode: u16,
    pub authoritative: bool,
    /// AD and CD (RFC 4035 §3.1.6, §3.2.2).
    pub authentic: bool,
    pub unchecked: bool,
    /// RA.
    pub recursive: bool,
    /// `section OWNER TTL TYPE RDATA` of every record but OPT; RRSIGs as `RRSIG(TYPE)`.
    pub records: Vec<String>,
    pub ede: Option<(u16, String)>,
    /// The client subnet option (RFC 7871).
    pub subnet: Option<Vec<u8>>,
}

impl Told {
    pub fn read(reply: &Reply) -> Self {
        let message = hickory_proto::op::Message::from_vec(&reply.wire).expect("a message that hickory reads");
        let mut at = 12;
        // An error may come without the question.
        if reply.wire[5] == 1 {
            at = Name::from_message(&reply.wire, at).unwrap().1 + 4;
        }
        let counts: Vec<u16> = (3..6).map(|n| u16::from_be_bytes([reply.wire[n * 2], reply.wire[n * 2 + 1]])).collect();
        let mut told = Self {
            rcode: u16::from(message.metadata.response_code),
            authoritative: message.metadata.authoritative,
            authentic: reply.wire[3] & AD != 0,
            unchecked: reply.wire[3] & CD != 0,
            recursive: reply.wire[3] & 0x80 != 0,
            records: Vec::new(),
            ede: None,
            subnet: None,
        };
        for (section, count) in ["answer", "authority", "additional"].iter().zip(counts) {
            for _ in 0..count {
                at = told.record(&reply.wire, at, section);
            }
        }
        assert_eq!(at, reply.wire.len());
        told
    }

    fn record(&mut self, wire: &[u8], at: usize, section: &str) -> usize {
        let (owner, at) = Name::from_message(wire, at).unwrap();
        let field = |at: usize| u16::from_be_bytes([wire[at], wire[at + 1]]);
        let (rtype, length) = (Rtype(field(at)), usize::from(field(at + 8)));
        let ttl = u32::from(field(at + 4)) << 16 | u32::from(field(at + 6));
        let (start, end) = (at + 10, at + 10 + length);
        match rtype {
            Rtype::OPT => self.options(&wire[start..end]),
            Rtype::RRSIG => self.records.push(format!("{section} {owner} RRSIG({})", Rtype(field(start)))),
            _ => {
                let data = rdata::from_message(rtype, wire, start..end).unwrap();
                self.records.push(format!("{section} {owner} {ttl} {rtype} {}", rdata::to_text(rtype, &data)));
            }
        }
        end
    }

    fn options(&mut self, mut rest: &[u8]) {
        while let [c0, c1, l0, l1, tail @ ..] = rest {
            let (data, after) = tail.split_at(usize::from(u16::from_be_bytes([*l0, *l1])));
            if u16::from_be_bytes([*c0, *c1]) == 15 {
                let code = u16::from_be_bytes([data[0], data[1]]);
                self.ede = Some((code, String::from_utf8(data[2..].to_vec()).unwrap()));
            }
            if u16::from_be_bytes([*c0, *c1]) == 8 {
                self.subnet = Some(data.to_vec());
            }
            rest = after;
        }
    }
}

/// Asks again until it is so; fails when that takes too long. What asks takes its time with every answer.
pub fn eventually(mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < until, "it is not so, and will not be");
    }
}
