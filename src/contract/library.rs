//! Contracts ready to run: from memory, else from disk, else by the compiler.

use std::fmt;
use std::sync::Arc;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};

use super::bindings::ghostplane::contract::{types, writes};
use super::check::{self, CALL, CheckedContract, ContractError, JUDGE, RESOLVE, Worlds};
use super::engine;
use super::failure::{self, Failure};
use super::files::{Authentic, CodeFiles};
use super::gate::Gate;
use super::guest::{self, Guest};
use super::host::{CodeRef, HostConfig};
use crate::limits::{COMPILATIONS, COMPILED_CONTRACTS, COMPILED_LEAST, DEPLOYS_COMPILING, DEPLOYS_WAITING};
use crate::metrics::Metrics;

/// All compiled contracts, and who may compile.
pub(super) struct Library {
    linker: Linker<Guest>,
    /// By hash; what cannot be compiled is remembered too, or every question would try again.
    kept: Cache<[u8; 32], Kept, ByCodeSize>,
    files: Option<CodeFiles>,
    /// Compilations that questions wait for, and those that writes do: neither takes the other's place.
    questions: Gate,
    deploys: Gate,
    metrics: Arc<Metrics>,
}

type Kept = Result<Arc<Compiled>, ContractError>;

impl Library {
    /// Defines what contracts import, and opens the folder. A folder that cannot be used is told, counted, and done
    /// without.
    pub fn new(engine: &Engine, config: HostConfig) -> Result<Self, wasmtime::Error> {
        let HostConfig { compiled_bytes, waiting, files, metrics, .. } = config;
        let mut linker = Linker::new(engine);
        guest::link(&mut linker)?;
        let files = files.and_then(|folder| {
            let opened = CodeFiles::open(&folder, &engine::fingerprint(engine));
            opened.map_err(|error| fault(&metrics, &format!("{folder:?}: {error}"))).ok()
        });
        let library = Self {
            linker,
            kept: memory(compiled_bytes),
            files,
            questions: Gate::new(COMPILATIONS, waiting),
            deploys: Gate::new(DEPLOYS_COMPILING, DEPLOYS_WAITING),
            metrics,
        };
        library.measure();
        Ok(library)
    }

    pub fn engine(&self) -> &Engine {
        self.linker.engine()
    }

    /// Contracts in memory, refusals included.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// True if the compiler is not needed for this contract.
    pub fn is_ready(&self, hash: &[u8; 32]) -> bool {
        self.kept.contains_key(hash) || self.files.as_ref().is_some_and(|files| files.has(hash))
    }

    /// The compiled code. Many may ask for the same at once: one loads or compiles it, the others wait.
    ///
    /// # Errors
    /// It is not here, or not usable; [`Failure::Busy`] if too many wait for the compiler.
    pub fn find(&self, code: CodeRef<'_>) -> Result<Arc<Compiled>, Failure> {
        self.keep(&code.hash, || {
            let wasm = (code.load)()?.ok_or(Failure::NoCode)?;
            if Sha256::digest(&wasm)[..] != code.hash {
                return Ok(Err(ContractError::Hash));
            }
            self.compile(&code.hash, &wasm, &self.questions).ok_or(Failure::Busy)
        })
    }

    /// Checks octets that are to be deployed, and keeps what was compiled for their first question.
    ///
    /// # Errors
    /// They are no contract; [`ContractError::Busy`] if too many wait for the compiler.
    pub fn check(&self, wasm: &[u8]) -> Result<CheckedContract, ContractError> {
        let hash = Sha256::digest(wasm).into();
        let compiled = self.keep(&hash, || self.compile(&hash, wasm, &self.deploys).ok_or(ContractError::Busy))?;
        Ok(CheckedContract { hash, compiled })
    }

    /// Drops what was compiled of a contract that is not deployed.
    pub fn forget(&self, hash: &[u8; 32]) {
        self.kept.remove(hash);
        if let Some(Err(error)) = self.files.as_ref().map(|files| files.remove(hash)) {
            fault(&self.metrics, &error.to_string());
        }
        self.measure();
    }

    /// Gives what is kept under a hash; else loads it, or makes it.
    fn keep<E: From<ContractError>>(
        &self,
        hash: &[u8; 32],
        make: impl FnOnce() -> Result<Kept, E>,
    ) -> Result<Arc<Compiled>, E> {
        let mut fresh = false;
        let kept = self.kept.get_or_insert_with(hash, || {
            fresh = true;
            self.load(hash).map_or_else(make, |loaded| Ok(Ok(loaded)))
        })?;
        if fresh {
            self.measure();
        }
        Ok(kept?)
    }

    fn measure(&self) {
        self.metrics.compiled_contracts.set(self.kept.len() as u64);
        self.metrics.compiled_bytes.set(self.kept.weight());
        self.metrics.code_file_bytes.set(self.files.as_ref().map_or(0, CodeFiles::bytes));
    }

    fn load(&self, hash: &[u8; 32]) -> Option<Arc<Compiled>> {
        let files = self.files.as_ref()?;
        let loaded = match files.read(hash) {
            Ok(read) => self.deserialize(&read?).inspect_err(|_| drop(files.remove(hash))),
            Err(error) => Err(error.to_string()),
        };
        match loaded {
            Ok(compiled) => {
                self.metrics.code_loads.add(1);
                Some(Arc::new(compiled))
            }
            Err(error) => {
                fault(&self.metrics, &error);
                None
            }
        }
    }

    fn deserialize(&self, code: &Authentic) -> Result<Compiled, String> {
        // SAFETY: wants octets that `Component::serialize` gave, unchanged. `Authentic` holds what passed a MAC under a
        // secret of this data directory, which `store` alone makes, over just such octets, for an engine of the same
        // fingerprint; and they are in memory, so that nobody changes them between the check and the use. Who knows the
        // secret can have any code run: see docs/architecture.md.
        #[allow(unsafe_code)]
        let component = unsafe { Component::deserialize(self.engine(), code.code()) };
        self.link(component.map_err(|error| short(&error))?).map_err(|error| error.to_string())
    }

    /// `None` if too many wait already. What is no contract is refused without waiting.
    fn compile(&self, hash: &[u8; 32], wasm: &[u8], gate: &Gate) -> Option<Kept> {
        if let Err(error) = check::scan(wasm) {
            return Some(Err(error));
        }
        let place = gate.enter()?;
        self.metrics.contract_compilations.add(1);
        let component = Component::from_binary(self.engine(), wasm);
        let compiled = component.map_err(|error| ContractError::Compile(short(&error))).and_then(|it| self.link(it));
        drop(place);
        if let Ok(compiled) = &compiled {
            self.store(hash, compiled);
        }
        Some(compiled.map(Arc::new))
    }

    fn store(&self, hash: &[u8; 32], compiled: &Compiled) {
        let Some(files) = &self.files else { return };
        let code = compiled.pre.component().serialize().map_err(|error| short(&error));
        if let Err(error) = code.and_then(|code| files.write(hash, &code).map_err(|error| error.to_string())) {
            fault(&self.metrics, &error);
        }
    }

    fn link(&self, component: Component) -> Result<Compiled, ContractError> {
        let pre = self.linker.instantiate_pre(&component).map_err(|error| ContractError::ImportType(short(&error)))?;
        let export = |name: &'static str, typecheck: Typecheck<'_>| {
            let Some((ComponentItem::ComponentFunc(func), index)) = component.get_export(None, name) else {
                return Ok::<_, ContractError>(None);
            };
            typecheck(&func).map_err(|error| ContractError::ExportType(name, short(&error)))?;
            Ok(Some(index))
        };
        let types = pre.instance_type();
        let resolve = export(RESOLVE, &|func| {
            func.typecheck::<(&types::Question,), (Result<types::Resolution, types::Failure>,)>(&types)
        })?;
        let judge = export(JUDGE, &|func| func.typecheck::<(&writes::Write,), (Result<(), String>,)>(&types))?;
        let call = export(CALL, &|func| func.typecheck::<(&[u8],), (Result<Vec<u8>, types::Failure>,)>(&types))?;
        Ok(Compiled { pre, resolve, judge, call })
    }
}

type Typecheck<'a> = &'a dyn Fn(&ComponentFunc) -> Result<(), wasmtime::Error>;

fn short(error: &wasmtime::Error) -> String {
    failure::text(&format!("{error:#}"))
}

/// Something about the files is wrong; the compiler helps out.
fn fault(metrics: &Metrics, error: &str) {
    metrics.code_faults.add(1);
    tracing::warn!(error, "machine code on disk cannot be used");
}

/// Machine code, imports and export indices resolved: all that an instance needs but its memory.
pub(super) struct Compiled {
    pub pre: InstancePre<Guest>,
    pub resolve: Option<ComponentExportIndex>,
    pub judge: Option<ComponentExportIndex>,
    pub call: Option<ComponentExportIndex>,
}

impl Compiled {
    /// Octets of machine code and its tables.
    pub fn bytes(&self) -> u64 {
        let image = self.pre.component().image_range();
        (image.end.addr() - image.start.addr()) as u64
    }

    pub fn worlds(&self) -> Worlds {
        let Self { resolve, judge, call, .. } = self;
        Worlds { resolver: resolve.is_some(), covenant: judge.is_some(), program: call.is_some() }
    }
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiled").field("bytes", &self.bytes()).finish()
    }
}

/// Few shards, as each has its own share of the room: the largest contract must fit into one.
const SHARDS: usize = 8;

fn memory(octets: u64) -> Cache<[u8; 32], Kept, ByCodeSize> {
    let options = OptionsBuilder::new()
        .shards(SHARDS)
        .estimated_items_capacity(COMPILED_CONTRACTS)
        .weight_capacity(octets)
        .build()
        .expect("both capacities are given");
    Cache::with_options(options, ByCodeSize, DefaultHashBuilder::default(), DefaultLifecycle::default())
}

#[derive(Clone)]
struct ByCodeSize;

impl Weighter<[u8; 32], Kept> for ByCodeSize {
    /// Small ones weigh more than their code, for each also takes mappings and tables of types: so their number is bounded,
    /// too. A refusal takes about as much as an entry of the cache.
    fn weight(&self, _hash: &[u8; 32], kept: &Kept) -> u64 {
        kept.as_ref().map_or(256, |compiled| compiled.bytes().max(COMPILED_LEAST))
    }
}
