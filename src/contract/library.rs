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
use super::check::{self, CALL, CheckedContract, ContractError, Estimate, JUDGE, RESOLVE, Worlds};
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
            Ok(self.compile(&code.hash, &wasm, &self.questions)?)
        })
    }

    /// Checks octets that are to be deployed, and keeps what was compiled for their first question.
    ///
    /// # Errors
    /// They are no contract; [`ContractError::Busy`] if too many wait for the compiler.
    pub fn check(&self, wasm: &[u8]) -> Result<CheckedContract, ContractError> {
        let hash = Sha256::digest(wasm).into();
        let compiled = self.keep(&hash, || self.compile(&hash, wasm, &self.deploys))?;
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
            self.load(hash)?.map_or_else(make, |loaded| Ok(Ok(loaded)))
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

    /// The code on disk, if it is fit to use.
    ///
    /// # Errors
    /// [`ContractError::Machine`]: the compiler would fare no better.
    fn load(&self, hash: &[u8; 32]) -> Result<Option<Arc<Compiled>>, ContractError> {
        let Some(files) = &self.files else { return Ok(None) };
        let read = files.read(hash).inspect_err(|error| fault(&self.metrics, &error.to_string()));
        let Ok(Some(code)) = read else { return Ok(None) };
        match self.deserialize(&code) {
            Ok(compiled) => {
                self.metrics.code_loads.add(1);
                Ok(Some(Arc::new(compiled)))
            }
            Err(error) => {
                fault(&self.metrics, &error.to_string());
                if matches!(error, ContractError::Machine(_)) {
                    return Err(error);
                }
                // The file system's faults have been told already.
                let _ = files.remove(hash);
                Ok(None)
            }
        }
    }

    fn deserialize(&self, code: &Authentic) -> Result<Compiled, ContractError> {
        let Some((fuel, code)) = code.code().split_first_chunk() else {
            return Err(ContractError::Compile("no fuel".into()));
        };
        // SAFETY: wants octets that `Component::serialize` gave, unchanged. `Authentic` holds what passed a MAC under a
        // secret of this data directory, which `store` alone makes, over just such octets, for an engine of the same
        // fingerprint; and they are in memory, so that nobody changes them between the check and the use. Who knows the
        // secret can have any code run: see docs/architecture.md.
        #[allow(unsafe_code)]
        let component = unsafe { Component::deserialize(self.engine(), code) };
        self.link(component.map_err(|error| unusable(&error))?, u64::from_le_bytes(*fuel))
    }

    /// Compiles, unless it is no contract, which is refused without waiting.
    ///
    /// # Errors
    /// [`ContractError::Busy`] or [`ContractError::Machine`]: nothing was found out about the contract.
    fn compile(&self, hash: &[u8; 32], wasm: &[u8], gate: &Gate) -> Result<Kept, ContractError> {
        let estimate = match check::estimate(wasm) {
            Ok(estimate) => estimate,
            Err(error) => return Ok(Err(error)),
        };
        let place = gate.enter().ok_or(ContractError::Busy)?;
        self.metrics.contract_compilations.add(1);
        let compiled = self.compile_estimated(wasm, &estimate);
        drop(place);
        match compiled {
            Err(error @ ContractError::Machine(_)) => Err(error),
            Ok(compiled) => {
                self.store(hash, &compiled);
                Ok(Ok(Arc::new(compiled)))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// Compiles, and keeps nothing.
    ///
    /// # Errors
    /// It is no contract, or cannot be compiled here.
    pub fn compile_anew(&self, wasm: &[u8]) -> Result<Compiled, ContractError> {
        self.compile_estimated(wasm, &check::estimate(wasm)?)
    }

    fn compile_estimated(&self, wasm: &[u8], estimate: &Estimate) -> Result<Compiled, ContractError> {
        let component = Component::from_binary(self.engine(), wasm).map_err(|error| unusable(&error))?;
        self.link(component, estimate.instance_fuel)
    }

    fn store(&self, hash: &[u8; 32], compiled: &Compiled) {
        let Some(files) = &self.files else { return };
        let fuel = compiled.instance_fuel.to_le_bytes();
        let code = compiled.pre.component().serialize().map_err(|error| short(&error));
        let code = code.map(|code| [&fuel[..], &code].concat());
        if let Err(error) = code.and_then(|code| files.write(hash, &code).map_err(|error| error.to_string())) {
            fault(&self.metrics, &error);
        }
    }

    fn link(&self, component: Component, instance_fuel: u64) -> Result<Compiled, ContractError> {
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
        Ok(Compiled { pre, resolve, judge, call, instance_fuel })
    }
}

type Typecheck<'a> = &'a dyn Fn(&ComponentFunc) -> Result<(), wasmtime::Error>;

fn unusable(error: &wasmtime::Error) -> ContractError {
    if failure::is_of_system(error) {
        return ContractError::Machine(format!("{error:#}"));
    }
    ContractError::Compile(short(error))
}

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
    /// Fuel that its instance takes.
    pub instance_fuel: u64,
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
