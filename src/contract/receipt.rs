//! Receipts: what an answer was made from, signed, so that anyone can make it again.
//!
//! ```text
//! answer ── Recorder notes each read ──> Runs ── seal ──> COSE_Sign1 ─┐
//!                                         '── values by hash ─────────┴──> file
//!
//! file ── open: one legal encoding, signature, each value has its hash
//!      ── Replay: code and values alone ──> same outcome, same fuel, every read used
//! ```
//!
//! The file is CBOR: `[receipt, [value, …]]`, a [`Receipt`] in an envelope and the values in the order of their first
//! use.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use minicbor::{Decode, Encode};
use sha2::{Digest as _, Sha256};

use super::{CodeRef, ContractHost, Execution, Failure, Question, ReadFault, Reads, Schedule, Worlds};
use crate::limits::MAX_RECEIPT;
use crate::metrics::ContractFailure;
use crate::op::envelope::{self, EnvelopeError};
use crate::op::{CodeHash, RegistryId, SigilId};
use crate::wire::{Name, Resolution, Rrset, Rtype, Scope, Subnet};

/// External additional data of a receipt's signature.
pub const RECEIPT_CONTEXT: &[u8] = b"ghostplane receipt v1";

/// What the gateway signs.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Receipt {
    #[n(0)]
    pub registry: RegistryId,
    /// Sequence of the registry's snapshot.
    #[n(1)]
    pub seq: u64,
    /// Seconds since 1970.
    #[n(2)]
    pub time: u64,
    /// What was asked, by whom.
    #[n(3)]
    pub asked: Asked,
    /// One execution for each link of an alias chain; none if the answer is what the registry stores of a strict name.
    #[n(4)]
    pub runs: Vec<Run>,
    /// Number of the [`Schedule`] that the fuel follows; 1 if there is none.
    #[n(5)]
    pub schedule: Option<u32>,
}

/// A question or a call, from outside.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Asked {
    #[n(0)]
    Question {
        #[n(0)]
        name: Name,
        #[n(1)]
        rtype: Rtype,
    },
    #[n(1)]
    Call {
        #[n(0)]
        name: Name,
    },
}

/// One execution.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Run {
    #[n(0)]
    pub contract: CodeHash,
    #[n(1)]
    pub task: Task,
    #[n(2)]
    pub reads: Vec<Read>,
    #[n(3)]
    pub outcome: Value,
    #[n(4)]
    pub fuel: u64,
    /// As [`Execution::until`].
    #[n(5)]
    pub until: Option<u64>,
}

/// What a contract was given.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Task {
    #[n(0)]
    Resolve {
        #[n(0)]
        name: Name,
        #[n(1)]
        rtype: Rtype,
        #[n(2)]
        zone: Name,
    },
    #[n(1)]
    Call {
        #[cbor(n(0), with = "minicbor::bytes")]
        input: Vec<u8>,
        #[n(1)]
        fuel: u64,
    },
}

/// One thing that a contract read, and what it got.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Read {
    #[n(0)]
    pub of: Of,
    /// SHA-256 of the value's encoding.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub value: [u8; 32],
    /// Sequence of the last change of the zone that it is from; 0 for what is from no registered name.
    #[n(2)]
    pub changed: u64,
}

/// What can be read.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Of {
    #[n(0)]
    Lookup {
        #[n(0)]
        name: Name,
        #[n(1)]
        rtype: Rtype,
    },
    #[n(1)]
    OwnerKey,
    #[n(2)]
    BoundContract,
    #[n(3)]
    BoundWorlds,
    #[n(4)]
    Parameters,
    #[n(5)]
    Now,
    #[n(6)]
    ClientSubnet {
        #[n(0)]
        v4: u8,
        #[n(1)]
        v6: u8,
    },
    #[n(7)]
    Zone,
}

/// A value read, or an outcome.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Value {
    #[n(0)]
    Nothing,
    #[n(1)]
    Number(#[n(0)] u64),
    #[n(2)]
    Octets(#[cbor(n(0), with = "minicbor::bytes")] Vec<u8>),
    #[n(3)]
    Records(#[n(0)] Vec<Rrset>),
    #[n(4)]
    Alias(#[n(0)] Vec<Rrset>),
    #[n(5)]
    Delegation(#[n(0)] Vec<Rrset>),
    #[n(6)]
    NoData,
    #[n(7)]
    NxDomain,
    /// Kind as metrics name it, and the contract's own words if it gave any.
    #[n(8)]
    Failed {
        #[n(0)]
        kind: String,
        #[n(1)]
        words: String,
    },
}

/// Why there is no receipt, or why one is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    #[error("the outcome has no receipt: {0}; it need not be the same elsewhere")]
    NotReproducible(Failure),
    #[error("longer than {MAX_RECEIPT} octets")]
    TooLarge,
    #[error("not a receipt")]
    Malformed,
    #[error("not in the one legal encoding")]
    NotCanonical,
    #[error("receipt: {0}")]
    Envelope(#[from] EnvelopeError),
    #[error("signed by {0}")]
    OtherGateway(SigilId),
    #[error("values and reads do not belong together")]
    Values,
    #[error("the code of contract {0} is needed")]
    NoCode(CodeHash),
    #[error("counts fuel by schedule {0}; a newer version of the program can verify it")]
    UnknownSchedule(u32),
    #[error("counts fuel by schedule {0}, the host by another")]
    OtherSchedule(u32),
    #[error("execution {at}: {what}")]
    Diverged { at: usize, what: String },
}

impl From<&Resolution> for Value {
    fn from(resolution: &Resolution) -> Self {
        let copies = |rrsets: &[Arc<Rrset>]| rrsets.iter().map(|rrset| (**rrset).clone()).collect();
        match resolution {
            Resolution::Records(rrsets) => Self::Records(copies(rrsets)),
            Resolution::Alias(rrsets) => Self::Alias(copies(rrsets)),
            Resolution::Delegation(rrsets) => Self::Delegation(copies(rrsets)),
            Resolution::NoData => Self::NoData,
            Resolution::NxDomain => Self::NxDomain,
        }
    }
}

impl Value {
    /// The resolution, if it is one.
    pub fn resolution(self) -> Option<Resolution> {
        let shared = |rrsets: Vec<Rrset>| rrsets.into_iter().map(Arc::new).collect();
        Some(match self {
            Self::Records(rrsets) => Resolution::Records(shared(rrsets)),
            Self::Alias(rrsets) => Resolution::Alias(shared(rrsets)),
            Self::Delegation(rrsets) => Resolution::Delegation(shared(rrsets)),
            Self::NoData => Resolution::NoData,
            Self::NxDomain => Resolution::NxDomain,
            _ => return None,
        })
    }

    fn of_failure(failure: &Failure) -> Result<Self, ReceiptError> {
        let words = match failure {
            Failure::Refused(words) | Failure::NotReady(words) | Failure::Other(words) => words.clone(),
            Failure::OutOfFuel | Failure::Memory => String::new(),
            // A trap may be the end of the native stack, which is not of one size everywhere.
            other => return Err(ReceiptError::NotReproducible(other.clone())),
        };
        let kind = ContractFailure::ALL[failure.kind() as usize].1.to_owned();
        Ok(Self::Failed { kind, words })
    }

    fn of_outcome<T>(outcome: &Result<T, Failure>, value: impl FnOnce(&T) -> Self) -> Result<Self, ReceiptError> {
        outcome.as_ref().map_or_else(Self::of_failure, |outcome| Ok(value(outcome)))
    }
}

fn encode(value: &impl Encode<()>) -> Vec<u8> {
    // Writing to a Vec cannot fail, and no type here has a failing encoder.
    minicbor::to_vec(value).expect("encoding into memory")
}

fn hash(octets: &[u8]) -> [u8; 32] {
    Sha256::digest(octets).into()
}

/// Passes reads on, and notes them.
pub struct Recorder<R> {
    inner: R,
    reads: Vec<(Of, Value, u64)>,
}

impl<R: Reads> Recorder<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, reads: Vec::new() }
    }

    /// The reads as they were.
    pub fn into_inner(self) -> R {
        self.inner
    }

    fn note(&mut self, of: Of, value: Value) {
        self.reads.push((of, value, self.inner.changed()));
    }
}

fn optional(octets: Option<[u8; 32]>) -> Value {
    octets.map_or(Value::Nothing, |octets| Value::Octets(octets.to_vec()))
}

fn bits(worlds: Worlds) -> u64 {
    u64::from(worlds.resolver) | u64::from(worlds.covenant) << 1 | u64::from(worlds.program) << 2
}

impl<R: Reads> Reads for Recorder<R> {
    fn lookup(&mut self, name: &Name, rtype: Rtype) -> Result<Resolution, ReadFault> {
        let found = self.inner.lookup(name, rtype)?;
        self.note(Of::Lookup { name: name.clone(), rtype }, Value::from(&found));
        Ok(found)
    }

    fn zone(&mut self) -> Name {
        let zone = self.inner.zone();
        self.note(Of::Zone, Value::Octets(zone.as_wire().to_vec()));
        zone
    }

    fn owner_key(&mut self) -> Option<[u8; 32]> {
        let key = self.inner.owner_key();
        self.note(Of::OwnerKey, optional(key));
        key
    }

    fn bound_contract(&mut self) -> Option<[u8; 32]> {
        let hash = self.inner.bound_contract();
        self.note(Of::BoundContract, optional(hash));
        hash
    }

    fn bound_worlds(&mut self) -> Result<Worlds, ReadFault> {
        let worlds = self.inner.bound_worlds()?;
        self.note(Of::BoundWorlds, Value::Number(bits(worlds)));
        Ok(worlds)
    }

    fn parameters(&mut self) -> Vec<u8> {
        let parameters = self.inner.parameters();
        self.note(Of::Parameters, Value::Octets(parameters.clone()));
        parameters
    }

    fn now(&mut self) -> u64 {
        let now = self.inner.now();
        self.note(Of::Now, Value::Number(now));
        now
    }

    fn client_subnet(&mut self, scope: Scope) -> Option<Subnet> {
        let subnet = self.inner.client_subnet(scope);
        let value = subnet.map_or(Value::Nothing, |subnet| Value::Octets(subnet.key().to_vec()));
        self.note(Of::ClientSubnet { v4: scope.v4, v6: scope.v6 }, value);
        subnet
    }
}

/// Executions noted for a receipt.
#[derive(Debug, Default)]
pub struct Trace {
    runs: Vec<Run>,
    values: Vec<Vec<u8>>,
    known: HashSet<[u8; 32]>,
    /// The first outcome that need not be the same elsewhere.
    broken: Option<ReceiptError>,
}

impl Trace {
    /// Notes the execution of a resolver.
    pub fn resolved<R>(&mut self, code: CodeHash, question: &Question, execution: &Execution, reads: &Recorder<R>) {
        let Question { name, rtype, zone } = question.clone();
        let outcome = Value::of_outcome(&execution.outcome, |resolution| Value::from(resolution));
        self.note(code, Task::Resolve { name, rtype, zone }, outcome, execution, reads);
    }

    /// Notes the call of a program.
    pub fn called<R>(
        &mut self,
        code: CodeHash,
        input: &[u8],
        fuel: u64,
        execution: &Execution<Vec<u8>>,
        reads: &Recorder<R>,
    ) {
        let outcome = Value::of_outcome(&execution.outcome, |output| Value::Octets(output.clone()));
        self.note(code, Task::Call { input: input.to_vec(), fuel }, outcome, execution, reads);
    }

    fn note<T, R>(
        &mut self,
        contract: CodeHash,
        task: Task,
        outcome: Result<Value, ReceiptError>,
        execution: &Execution<T>,
        reads: &Recorder<R>,
    ) {
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                self.broken.get_or_insert(error);
                return;
            }
        };
        let reads = reads.reads.iter().map(|(of, value, changed)| {
            let octets = encode(value);
            let value = hash(&octets);
            if self.known.insert(value) {
                self.values.push(octets);
            }
            Read { of: of.clone(), value, changed: *changed }
        });
        let reads = reads.collect();
        let Execution { fuel, until, .. } = execution;
        self.runs.push(Run { contract, task, reads, outcome, fuel: *fuel, until: *until });
    }

    /// The signed receipt with its values.
    ///
    /// # Errors
    /// An outcome need not be the same elsewhere, or all this is too large.
    pub fn seal(
        self,
        key: &SigningKey,
        registry: RegistryId,
        seq: u64,
        time: u64,
        asked: Asked,
    ) -> Result<Vec<u8>, ReceiptError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        let schedule = Some(Schedule::default().number());
        let receipt = Receipt { registry, seq, time, asked, runs: self.runs, schedule };
        let file = file(&envelope::seal(RECEIPT_CONTEXT, key, encode(&receipt)), &self.values);
        if file.len() > MAX_RECEIPT { Err(ReceiptError::TooLarge) } else { Ok(file) }
    }
}

/// A receipt file of a sealed receipt and encoded values, whatever they say.
pub fn file(sealed: &[u8], values: &[Vec<u8>]) -> Vec<u8> {
    let mut encoder = minicbor::Encoder::new(Vec::new());
    let written = encoder.array(2).and_then(|e| e.bytes(sealed)).and_then(|e| e.array(values.len() as u64)).map(drop);
    let written = written.and_then(|()| values.iter().try_for_each(|value| encoder.bytes(value).map(drop)));
    written.expect("encoding into memory");
    encoder.into_writer()
}

/// A receipt whose encoding, signature and values have been checked. Only [`open`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenReceipt {
    gateway: SigilId,
    receipt: Receipt,
    values: HashMap<[u8; 32], Value>,
}

/// Reads a receipt file and checks everything but the executions.
///
/// # Errors
/// [`ReceiptError`]
pub fn open(octets: &[u8]) -> Result<OpenReceipt, ReceiptError> {
    if octets.len() > MAX_RECEIPT {
        return Err(ReceiptError::TooLarge);
    }
    let (sealed, values) = parts(octets).map_err(|_| ReceiptError::Malformed)?;
    if file(&sealed, &values) != octets {
        return Err(ReceiptError::NotCanonical);
    }
    let opened = envelope::open(RECEIPT_CONTEXT, &sealed)?;
    opened.verify()?;
    let receipt: Receipt = minicbor::decode(&opened.payload).map_err(|_| ReceiptError::Malformed)?;
    if encode(&receipt) != opened.payload {
        return Err(ReceiptError::NotCanonical);
    }
    let mut by_hash = HashMap::new();
    for octets in &values {
        let value: Value = minicbor::decode(octets).map_err(|_| ReceiptError::Malformed)?;
        if encode(&value) != *octets {
            return Err(ReceiptError::NotCanonical);
        }
        by_hash.insert(hash(octets), value);
    }
    // Each value once, each of some read, in the order of first use.
    let mut used: Vec<[u8; 32]> = Vec::new();
    for read in receipt.runs.iter().flat_map(|run| &run.reads) {
        if !used.contains(&read.value) {
            used.push(read.value);
        }
    }
    let held: Vec<[u8; 32]> = values.iter().map(|value| hash(value)).collect();
    if used != held {
        return Err(ReceiptError::Values);
    }
    Ok(OpenReceipt { gateway: opened.author, receipt, values: by_hash })
}

fn parts(octets: &[u8]) -> Result<(Vec<u8>, Vec<Vec<u8>>), minicbor::decode::Error> {
    let mut decoder = minicbor::Decoder::new(octets);
    let wrong = || minicbor::decode::Error::message("not a receipt");
    if decoder.array()? != Some(2) {
        return Err(wrong());
    }
    let sealed = decoder.bytes()?.to_vec();
    let count = decoder.array()?.ok_or_else(wrong)?;
    let mut values = Vec::new();
    for _ in 0..count {
        values.push(decoder.bytes()?.to_vec());
    }
    Ok((sealed, values))
}

impl OpenReceipt {
    /// Who signed it.
    pub fn gateway(&self) -> SigilId {
        self.gateway
    }

    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// The value of a read.
    pub fn value(&self, read: &Read) -> &Value {
        // `open` has seen to it that there is one.
        &self.values[&read.value]
    }

    /// How its fuel is counted: a host of this schedule can replay it.
    ///
    /// # Errors
    /// It is from a version of the program that counts otherwise than this one knows.
    pub fn schedule(&self) -> Result<Schedule, ReceiptError> {
        let number = self.receipt.schedule.unwrap_or(Schedule::First.number());
        Schedule::of_number(number).ok_or(ReceiptError::UnknownSchedule(number))
    }

    /// Executes everything again, from the receipt and `code` alone.
    ///
    /// # Errors
    /// An execution comes out otherwise, its code is not here, or the host has another schedule.
    pub fn replay(&self, host: &ContractHost, code: impl Fn(&CodeHash) -> Option<Vec<u8>>) -> Result<(), ReceiptError> {
        let schedule = self.schedule()?;
        if schedule != host.schedule() {
            return Err(ReceiptError::OtherSchedule(schedule.number()));
        }
        for (at, run) in self.receipt.runs.iter().enumerate() {
            let code = code(&run.contract).ok_or(ReceiptError::NoCode(run.contract))?;
            self.replay_one(host, &code, run).map_err(|what| ReceiptError::Diverged { at: at + 1, what })?;
        }
        Ok(())
    }

    fn replay_one(&self, host: &ContractHost, code: &[u8], run: &Run) -> Result<(), String> {
        let code = CodeRef { hash: run.contract.0, load: &|| Ok(Some(code.to_vec())) };
        let reads = run.reads.iter().map(|read| (read.of.clone(), self.value(read).clone())).collect();
        let replay = Replay { reads, strayed: None };
        let (outcome, fuel, until, replay) = match &run.task {
            Task::Resolve { name, rtype, zone } => {
                let question = Question { name: name.clone(), rtype: *rtype, zone: zone.clone() };
                let (execution, replay) = host.execute(code, &question, replay);
                let outcome = Value::of_outcome(&execution.outcome, |resolution| Value::from(resolution));
                (outcome, execution.fuel, execution.until, replay)
            }
            Task::Call { input, fuel } => {
                let (execution, replay) = host.call(code, input, *fuel, replay);
                let outcome = Value::of_outcome(&execution.outcome, |output| Value::Octets(output.clone()));
                (outcome, execution.fuel, execution.until, replay)
            }
        };
        if let Some(strayed) = replay.strayed {
            return Err(strayed);
        }
        if !replay.reads.is_empty() {
            return Err(format!("{} reads of the receipt are not made", replay.reads.len()));
        }
        match outcome {
            Ok(outcome) if outcome != run.outcome => Err("the outcome is another".into()),
            Ok(_) if fuel != run.fuel => Err(format!("it takes {fuel} units of fuel, not {}", run.fuel)),
            Ok(_) if until != run.until => Err("it promises another time".into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Gives what the receipt says was read, in its order and nothing else.
struct Replay {
    reads: VecDeque<(Of, Value)>,
    strayed: Option<String>,
}

impl Replay {
    fn next(&mut self, of: &Of) -> Value {
        match self.reads.pop_front() {
            Some((expected, value)) if expected == *of => return value,
            Some((expected, _)) => self.stray(format!("it reads {of:?}, the receipt has {expected:?}")),
            None => self.stray(format!("it reads {of:?}, the receipt has no more")),
        }
        Value::Nothing
    }

    fn stray(&mut self, what: String) {
        self.strayed.get_or_insert(what);
    }

    fn octets(&mut self, of: &Of) -> Option<Vec<u8>> {
        match self.next(of) {
            Value::Octets(octets) => Some(octets),
            Value::Nothing => None,
            other => {
                self.stray(format!("{of:?} cannot be {other:?}"));
                None
            }
        }
    }

    fn number(&mut self, of: &Of) -> u64 {
        match self.next(of) {
            Value::Number(number) => number,
            other => {
                self.stray(format!("{of:?} cannot be {other:?}"));
                0
            }
        }
    }
}

impl Reads for Replay {
    fn lookup(&mut self, name: &Name, rtype: Rtype) -> Result<Resolution, ReadFault> {
        let of = Of::Lookup { name: name.clone(), rtype };
        self.next(&of).resolution().ok_or_else(|| ReadFault("the receipt has no such look-up".into()))
    }

    fn zone(&mut self) -> Name {
        let wire = self.octets(&Of::Zone).unwrap_or_default();
        Name::from_wire(&wire).unwrap_or_else(|error| {
            self.stray(format!("its zone cannot be read: {error}"));
            Name::root()
        })
    }

    fn owner_key(&mut self) -> Option<[u8; 32]> {
        self.octets(&Of::OwnerKey)?.try_into().ok()
    }

    fn bound_contract(&mut self) -> Option<[u8; 32]> {
        self.octets(&Of::BoundContract)?.try_into().ok()
    }

    fn bound_worlds(&mut self) -> Result<Worlds, ReadFault> {
        let bits = self.number(&Of::BoundWorlds);
        Ok(Worlds { resolver: bits & 1 != 0, covenant: bits & 2 != 0, program: bits & 4 != 0 })
    }

    fn parameters(&mut self) -> Vec<u8> {
        self.octets(&Of::Parameters).unwrap_or_default()
    }

    fn now(&mut self) -> u64 {
        self.number(&Of::Now)
    }

    fn client_subnet(&mut self, scope: Scope) -> Option<Subnet> {
        let of = Of::ClientSubnet { v4: scope.v4, v6: scope.v6 };
        let key = self.octets(&of)?;
        Subnet::from_key(key.as_slice().try_into().ok()?)
    }
}
