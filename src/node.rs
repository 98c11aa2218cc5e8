//! One gateway put together: registry, contracts, TLDs, query path, write path, service.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use ed25519_dalek::SigningKey;
use ipnet::IpNet;

use crate::api::{Exports, Service};
use crate::cache::AnswerCache;
use crate::config::Forward;
use crate::contract::{CodeFolder, ContractHost, HostConfig, HostError};
use crate::dnssec::{FLAGS_ONLINE, FLAGS_OWNER, Secret, ZoneKey, tsig};
use crate::forward::{ForwardError, Forwarder};
use crate::gateway::{
    Announced, Engine, Gate, Gateway, Keys, Meter, Mirrors, Quarantine, Settlement, Signer, Tld, Tlds, Transfers,
};
use crate::limits::{CACHE_BYTES, CONTRACT_INSTANCES, CPU_MS_PER_SECOND, MAX_RENEWALS, MAX_ZONE_FILE, MISS_WORKERS};
use crate::locked::Locked;
use crate::metrics::Metrics;
use crate::notary::{Notary, NotaryError, Witnesses};
use crate::op::{self, CodeHash, Op, OpBody, Rejection, SigilId};
use crate::registry::{OpenError, Registry};
use crate::state::{ApplyError, At, View as _, renewable};
use crate::wire::{Cookies, Name, Rtype};
use crate::work::WorkMeter;
use crate::writer::{Clock, Outcome, Writer};
use crate::zone::policy::{Policy, PolicyError};
use crate::zone::{Finding, Severity, ZoneData};

/// Contracts that come with the program, as built and committed.
pub const SHIPPED: [(&str, &[u8]); 21] = [
    ("ghost", include_bytes!("../contracts/built/ghost.wasm")),
    ("sig", include_bytes!("../contracts/built/sig.wasm")),
    ("gcc", include_bytes!("../contracts/built/gcc.wasm")),
    ("bc", include_bytes!("../contracts/built/bc.wasm")),
    ("weighted", include_bytes!("../contracts/built/weighted.wasm")),
    ("failover", include_bytes!("../contracts/built/failover.wasm")),
    ("geo", include_bytes!("../contracts/built/geo.wasm")),
    ("window", include_bytes!("../contracts/built/window.wasm")),
    ("wallets", include_bytes!("../contracts/built/wallets.wasm")),
    ("payment", include_bytes!("../contracts/built/payment.wasm")),
    ("did-keys", include_bytes!("../contracts/built/did-keys.wasm")),
    ("oracle", include_bytes!("../contracts/built/oracle.wasm")),
    ("overlay", include_bytes!("../contracts/built/overlay.wasm")),
    ("park", include_bytes!("../contracts/built/park.wasm")),
    ("labels", include_bytes!("../contracts/built/labels.wasm")),
    ("script", include_bytes!("../contracts/built/script.wasm")),
    ("records", include_bytes!("../contracts/built/records.wasm")),
    ("cosigned", include_bytes!("../contracts/built/cosigned.wasm")),
    ("quiet", include_bytes!("../contracts/built/quiet.wasm")),
    ("quota", include_bytes!("../contracts/built/quota.wasm")),
    ("attested", include_bytes!("../contracts/built/attested.wasm")),
];

/// Zones and policies that come with the program: name, master file, policy.
const BUILT_IN: [(&str, &str, &str); 4] = [
    ("ghost", include_str!("../zones/ghost.zone"), include_str!("../zones/ghost.toml")),
    ("sig", include_str!("../zones/sig.zone"), include_str!("../zones/sig.toml")),
    ("gcc", include_str!("../zones/gcc.zone"), include_str!("../zones/gcc.toml")),
    ("bc", include_str!("../zones/bc.zone"), include_str!("../zones/bc.toml")),
];

/// Seconds for which an op that the process signs itself is good.
const OWN_OP_SECONDS: u64 = 60;

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Registry(#[from] OpenError),
    #[error("contract host: {0}")]
    Host(#[from] HostError),
    #[error("{path}: {error}")]
    Io { path: String, error: std::io::Error },
    #[error("{path}: {error}")]
    Policy { path: String, error: PolicyError },
    #[error("{path} cannot be served:\n{}", list(.findings))]
    Zone { path: String, findings: Vec<Finding> },
    #[error("{path}: there is no shipped contract {contract:?}")]
    Contract { path: String, contract: String },
    #[error("{path}: tld is {found:?}, the file's name says {expected:?}")]
    TldName { path: String, found: String, expected: String },
    #[error("{path} holds no TLD: for each, write NAME.zone and NAME.toml")]
    NoTlds { path: String },
    #[error("the log: {0}")]
    Notary(#[from] NotaryError),
    #[error(transparent)]
    Forward(#[from] ForwardError),
    #[error("threads: {0}")]
    Threads(std::io::Error),
}

/// A running gateway without its sockets.
pub struct Node {
    pub gateway: Arc<Gateway>,
    pub service: Arc<Service>,
    pub metrics: Arc<Metrics>,
}

/// What a gateway is put together from.
pub struct Parts {
    pub registry: Registry,
    pub tlds: Vec<Tld>,
    /// Keys of the TLDs, and the online keys.
    pub signer: Signer,
    /// The gateway's own sigil: signs receipts.
    pub sigil: Locked<SigningKey>,
    pub transfers: Transfers,
    /// Signs the log's checkpoints.
    pub notary: Notary,
    /// Where compiled contracts are kept; in memory only if left out.
    pub code: Option<CodeFolder>,
    pub clock: Clock,
    pub metrics: Arc<Metrics>,
    /// The secret that the secrets of update keys are derived from.
    pub update_secret: Locked<tsig::Secret>,
    /// Resolvers that are believed for whom they ask.
    pub ecs_from: Vec<IpNet>,
    /// Suffixes under which the TLDs are mirrored.
    pub mirror: Vec<Name>,
    /// How ordinary names are resolved, if they are.
    pub forward: Option<Forward>,
    /// Contracts at work at once; for each, 4 GiB of addresses are reserved.
    pub instances: u32,
    /// Work is taken from this.
    pub work: Arc<WorkMeter>,
}

impl Parts {
    /// A gateway that keeps nothing beside its registry, and lets nobody copy a zone.
    pub fn new(
        registry: Registry,
        tlds: Vec<Tld>,
        signer: Signer,
        sigil: impl Into<Locked<SigningKey>>,
        notary: Notary,
        clock: Clock,
    ) -> Self {
        Self {
            registry,
            tlds,
            signer,
            sigil: sigil.into(),
            transfers: Transfers::new(Vec::new()),
            notary,
            code: None,
            clock,
            metrics: Arc::default(),
            update_secret: tsig::Secret::default().into(),
            ecs_from: Vec::new(),
            mirror: Vec::new(),
            forward: None,
            instances: CONTRACT_INSTANCES,
            work: Arc::new(WorkMeter::new(CPU_MS_PER_SECOND).sparing_loopback(true)),
        }
    }

    /// Those of a gateway in memory, with keys that everybody knows, for tests and benches.
    ///
    /// # Errors
    /// [`StartError`]
    pub fn in_memory(tlds: Vec<Tld>, operator: SigilId, clock: Clock) -> Result<Self, StartError> {
        let genesis =
            crate::registry::Genesis { format: crate::registry::FORMAT, operator, created: clock(), salt: vec![0; 16] };
        let id = genesis.id();
        let key = |seed: u8, flags| ZoneKey::new(Secret::Ed25519(SigningKey::from_bytes(&[seed; 32])), flags);
        let keys = tlds.iter().zip(220..).map(|(tld, seed)| (tld.apex.clone(), vec![key(seed, FLAGS_OWNER)]));
        let p256 = Secret::from_p256_seed(&[210; 32]).map(|secret| ZoneKey::new(secret, FLAGS_ONLINE));
        let signer = Signer::new(keys, std::iter::once(key(210, FLAGS_ONLINE)).chain(p256).collect());
        let (registry, sigil) = (Registry::in_memory(genesis)?, SigningKey::from_bytes(&[230; 32]));
        let notary = Notary::new(SigningKey::from_bytes(&[212; 32]), id, Witnesses::default(), None)?;
        let update_secret = tsig::Secret::new([240; 32]).into();
        Ok(Self { update_secret, ..Self::new(registry, tlds, signer, sigil, notary, clock) })
    }
}

impl Node {
    /// Puts a gateway together over an open registry.
    ///
    /// # Errors
    /// [`StartError`]
    pub fn start(parts: Parts) -> Result<Self, StartError> {
        let Parts { registry, tlds, signer, sigil, transfers, notary, code, clock, metrics, update_secret, .. } = parts;
        notary.check_past(&registry.snapshot().map_err(NotaryError::Fault)?)?;
        let kept = tlds.iter().map(|tld| tld.apex.clone()).chain(parts.mirror.iter().cloned()).collect();
        let forward = parts.forward.map(|config| Forwarder::start(&config, kept, clock.clone(), metrics.clone()));
        let registry = Arc::new(registry);
        let shipped = SHIPPED.iter().map(|(_, wasm)| wasm.to_vec());
        let tlds = Arc::new(Tlds::new(tlds, shipped, registry.genesis().operator));
        metrics.tell_apart(tlds.iter().map(|tld| &tld.apex));
        let keys = Arc::new(Keys::new(signer));
        // At most so many workers wait for the compiler, beside those that compile.
        let waiting = MISS_WORKERS / 4;
        let instances = parts.instances;
        let config = HostConfig { instances, waiting, files: code, metrics: metrics.clone(), ..HostConfig::default() };
        let host = Arc::new(ContractHost::new(config)?);
        let rules = tlds.clone();
        let writer = Writer::start(registry.clone(), rules, host.clone(), clock.clone(), metrics.clone())
            .map_err(StartError::Threads)?;
        let writer = Arc::new(writer);
        let engine = Engine {
            registry: registry.clone(),
            host: host.clone(),
            tlds: tlds.clone(),
            keys: keys.clone(),
            sigil,
            cache: AnswerCache::new(CACHE_BYTES),
            transfers,
            quarantine: Quarantine::default(),
            meter: Meter::default(),
            work: parts.work.clone(),
            gate: Gate::default(),
            announced: Announced::default(),
            metrics: metrics.clone(),
            clock: clock.clone(),
            writer: writer.clone(),
            cookies: cookies(&update_secret),
            update_secret,
            ecs_from: parts.ecs_from,
            mirrors: Mirrors::new(parts.mirror),
            forward: forward.transpose()?.map(Arc::new),
        };
        let gateway = Arc::new(Gateway::start(engine).map_err(StartError::Threads)?);
        let service = Arc::new(Service {
            registry,
            writer,
            host,
            tlds,
            keys,
            gateway: gateway.clone(),
            notary: Arc::new(notary),
            work: parts.work,
            exports: Exports::default(),
            clock,
        });
        Ok(Self { gateway, service, metrics })
    }

    /// Signs an op with a key that is at hand, submits it, and waits until it is durable.
    ///
    /// # Errors
    /// Why it was not accepted.
    pub fn write(&self, key: &SigningKey, op: Op) -> Outcome {
        let Service { registry, writer, clock, .. } = &*self.service;
        let fault = |fault: crate::registry::Fault| Rejection::Fault(fault.0);
        let (now, author) = (clock(), SigilId::from(&key.verifying_key()));
        let nonce = registry.snapshot().and_then(|snapshot| snapshot.account(&author)).map_err(fault)?.next_nonce;
        let body = OpBody { registry: registry.id(), nonce, expires: now + OWN_OP_SECONDS, op };
        let verified = op::verify(&op::sign(key, &body), registry.id(), now)?;
        let (sender, receiver) = mpsc::channel();
        writer.submit(verified, Box::new(move |outcome| drop(sender.send(outcome))));
        receiver.recv().unwrap_or(Err(Rejection::Stopping))
    }

    /// Charges owners for the fuel that has been counted so far; gives the number of names.
    ///
    /// # Errors
    /// Why a settlement was not accepted: it stays counted.
    pub fn settle(&self) -> Result<usize, Rejection> {
        let engine = self.gateway.engine();
        let mut names = 0;
        while let Some(settlement) = engine.meter.take() {
            let Settlement { epoch, ref uses } = settlement;
            match self.write(&engine.sigil, Op::SettleGas { epoch, uses: uses.clone() }) {
                Ok(_) => {
                    names += uses.len();
                    self.metrics.gas_settled.add(uses.iter().map(|gas| gas.fuel).sum());
                    engine.meter.settled(&settlement);
                }
                // A new policy has begun another epoch: what is left of this one counts there.
                Err(Rejection::GasEpoch { now, .. }) if now > epoch => engine.meter.carry(&settlement, now),
                Err(rejection) => return Err(rejection),
            }
        }
        if let Ok(gas) = self.service.registry.snapshot().and_then(|snapshot| snapshot.gas()) {
            self.metrics.gas_price.set(gas.at(gas.epoch_of((self.service.clock)())).price);
        }
        Ok(names)
    }

    /// Renews the names whose owners' plans say that it is time, and whose owners can pay; gives their number.
    ///
    /// # Errors
    /// Why an op was not accepted: the names stay due.
    pub fn renew_due(&self) -> Result<usize, Rejection> {
        let Service { registry, tlds, clock, .. } = &*self.service;
        let fault = |fault: crate::registry::Fault| Rejection::Fault(fault.0);
        let snapshot = registry.snapshot().map_err(fault)?;
        let at = At { seq: snapshot.seq() + 1, time: clock() };
        let (mut after, mut renewed) = (None, 0);
        loop {
            let page = snapshot.lives_after(after.as_ref(), MAX_RENEWALS).map_err(fault)?;
            let Some((last, _)) = page.last() else { return Ok(renewed) };
            after = Some(last.clone());
            let mut due = Vec::new();
            for (name, _) in page.iter().filter(|(_, life)| life.auto.is_some()) {
                match renewable(&snapshot, &**tlds, at, name) {
                    Ok(()) => due.push(name.clone()),
                    Err(ApplyError::Rejected(_)) => {}
                    Err(ApplyError::Fault(failed)) => return Err(fault(failed)),
                }
            }
            if !due.is_empty() {
                renewed += due.len();
                match self.write(&self.gateway.engine().sigil, Op::RenewDue { names: due }) {
                    // Another gateway was faster.
                    Ok(_) | Err(Rejection::NothingDue) => {}
                    Err(rejection) => return Err(rejection),
                }
            }
        }
    }

    /// Has the contracts of the TLDs compiled, so that nobody's first question waits for the compiler.
    pub fn warm_up(&self) {
        for tld in self.service.tlds.iter() {
            let code = self.service.tlds.shipped(&tld.contract);
            // They are contracts: tests see to that; and if one were none, its questions would be told.
            let _ = code.map(|code| self.service.host.check(code));
        }
    }

    /// A gateway in memory with the built-in zones and keys that everybody knows, for tests and benches.
    ///
    /// # Errors
    /// [`StartError`]
    pub fn in_memory(operator: SigilId, clock: Clock) -> Result<Self, StartError> {
        Self::in_memory_with(built_in_tlds()?, operator, clock)
    }

    /// The same with other TLDs.
    ///
    /// # Errors
    /// [`StartError`]
    pub fn in_memory_with(tlds: Vec<Tld>, operator: SigilId, clock: Clock) -> Result<Self, StartError> {
        Self::in_memory_among(tlds, operator, clock, Vec::new(), None)
    }

    /// The same with mirrors, and a way to ordinary names.
    ///
    /// # Errors
    /// [`StartError`]
    pub fn in_memory_among(
        tlds: Vec<Tld>,
        operator: SigilId,
        clock: Clock,
        mirror: Vec<Name>,
        forward: Option<Forward>,
    ) -> Result<Self, StartError> {
        Self::start(Parts { mirror, forward, ..Parts::in_memory(tlds, operator, clock)? })
    }
}

/// What DNS cookies are made with, derived from another secret.
fn cookies(secret: &tsig::Secret) -> Cookies {
    let derived = tsig::derive(secret, b"ghostplane cookies v1");
    let mut root = [0; 16];
    root.copy_from_slice(&derived[..16]);
    Cookies::new(root)
}

/// The four TLDs as the program brings them.
///
/// # Errors
/// Never for what is committed; a test sees to that.
pub fn built_in_tlds() -> Result<Vec<Tld>, StartError> {
    BUILT_IN.iter().map(|(name, zone, policy)| tld(name, &format!("zones/{name}"), zone.as_bytes(), policy)).collect()
}

/// The TLDs of a folder: every `NAME.toml` with its `NAME.zone`.
///
/// # Errors
/// [`StartError`], for the first TLD that cannot be served.
pub fn load_tlds(folder: &Path) -> Result<Vec<Tld>, StartError> {
    let io = |path: &Path| {
        let path = path.display().to_string();
        move |error| StartError::Io { path, error }
    };
    let mut policies: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io(folder))? {
        let path = entry.map_err(io(folder))?.path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            policies.push(path);
        }
    }
    policies.sort();
    if policies.is_empty() {
        return Err(StartError::NoTlds { path: folder.display().to_string() });
    }
    policies.iter().map(|path| load_tld(path)).collect()
}

fn load_tld(policy: &Path) -> Result<Tld, StartError> {
    let zone = policy.with_extension("zone");
    let io = |path: &Path, error| StartError::Io { path: path.display().to_string(), error };
    let text = std::fs::read_to_string(policy).map_err(|error| io(policy, error))?;
    let records = read_bounded(&zone).map_err(|error| io(&zone, error))?;
    let name = policy.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    tld(&name, &policy.with_extension("").display().to_string(), &records, &text)
}

/// Reads a file of at most `MAX_ZONE_FILE` octets.
///
/// # Errors
/// Those of the file system, or that it is longer.
pub fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut octets = Vec::new();
    std::fs::File::open(path)?.take(MAX_ZONE_FILE + 1).read_to_end(&mut octets)?;
    if octets.len() as u64 > MAX_ZONE_FILE {
        return Err(std::io::Error::other(format!("longer than {MAX_ZONE_FILE} octets")));
    }
    Ok(octets)
}

fn tld(name: &str, path: &str, zone: &[u8], policy: &str) -> Result<Tld, StartError> {
    let (zone_path, policy_path) = (format!("{path}.zone"), format!("{path}.toml"));
    let policy = Policy::from_toml(policy).map_err(|error| StartError::Policy { path: policy_path.clone(), error })?;
    if policy.tld != name {
        return Err(StartError::TldName { path: policy_path, found: policy.tld, expected: name.to_owned() });
    }
    let shipped = SHIPPED.iter().find(|(shipped, _)| *shipped == policy.contract);
    let contract = shipped
        .map(|(_, wasm)| CodeHash::of(wasm))
        .ok_or_else(|| StartError::Contract { path: policy_path, contract: policy.contract.clone() })?;
    let apex = Name::from_user(name).map_err(|error| StartError::Zone {
        path: zone_path.clone(),
        findings: vec![Finding { severity: Severity::Error, line: 0, text: error.to_string() }],
    })?;
    let (data, findings) = ZoneData::read(&apex, zone);
    let (soa, ns) = (data.rrset(&apex, Rtype::SOA).cloned(), data.rrset(&apex, Rtype::NS).cloned());
    match (soa, ns) {
        (Some(soa), Some(ns)) if findings.iter().all(|finding| finding.severity < Severity::Error) => {
            Ok(Tld { apex, policy, contract, rrsets: data.rrsets, soa, ns })
        }
        _ => Err(StartError::Zone { path: zone_path, findings }),
    }
}

fn list(findings: &[Finding]) -> String {
    findings.iter().map(|finding| format!("  {finding}")).collect::<Vec<_>>().join("\n")
}
