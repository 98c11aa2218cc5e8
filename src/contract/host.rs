//! The engine, the compiled contracts, and one execution.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, Instance, InstancePre, Lift, Linker, Lower, TypedFunc,
};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolConcurrencyLimitError, PoolingAllocationConfig,
    Store, Trap,
};

use super::bindings::ghostplane::contract::{types, writes};
use super::check::{self, CALL, CheckedContract, ContractError, JUDGE, RESOLVE, Worlds};
use super::failure::{self, BadOutput, Failure};
use super::guest::{self, Denied, Guest};
use super::{Question, ReadFault, Reads, Write, output};
use crate::limits::{
    COMPILED_BYTES, COMPILED_CONTRACTS, CONTRACT_DEADLINE_EPOCHS, CONTRACT_FUEL, CONTRACT_INSTANCES, CONTRACT_LIFT,
    CONTRACT_MEMORY, CONTRACT_OUTPUT, CONTRACT_STACK, CONTRACT_TABLE, COVENANT_FUEL, EPOCH,
};
use crate::wire::Resolution;

/// What an operator may narrow. Fuel, memory and the counts are part of what a contract means, so they are not
/// here: an execution must come out the same on every gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostConfig {
    /// Instances alive at once, at most `CONTRACT_INSTANCES`; one more execution is [`Failure::Busy`].
    pub instances: u32,
    /// Epochs until [`Failure::Deadline`], at most `CONTRACT_DEADLINE_EPOCHS`.
    pub deadline_epochs: u64,
    /// Octets of machine code kept, at most `COMPILED_BYTES`.
    pub compiled_bytes: u64,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            instances: CONTRACT_INSTANCES,
            deadline_epochs: CONTRACT_DEADLINE_EPOCHS,
            compiled_bytes: COMPILED_BYTES,
        }
    }
}

/// Why there is no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    #[error("{0} is above its limit, or zero")]
    Config(&'static str),
    #[error("cannot set up WebAssembly: {0}")]
    Engine(String),
    #[error("cannot start the epoch thread: {0}")]
    Thread(String),
}

/// Code by its SHA-256; `load` is called only if it is not compiled yet.
#[derive(Clone, Copy)]
pub struct CodeRef<'a> {
    pub hash: [u8; 32],
    /// The component's octets; `None` if they are not here.
    #[allow(clippy::type_complexity, reason = "one closure, named by its field")]
    pub load: &'a dyn Fn() -> Result<Option<Vec<u8>>, ReadFault>,
}

/// What became of one execution, and what it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution<T = Resolution> {
    pub outcome: Result<T, Failure>,
    /// Units of fuel, about one a wasm instruction; 0 if nothing ran.
    pub fuel: u64,
    /// Registry look-ups.
    pub lookups: usize,
    /// Largest linear memory, octets.
    pub memory: usize,
    /// Messages for the contract's author.
    pub log: Vec<String>,
    /// If the time was read: until when, in seconds since 1970, the contract promises the same outcome; 0 if it does
    /// not.
    pub until: Option<u64>,
}

/// What a covenant says of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    /// The covenant's words, fit to send.
    Denied(String),
}

/// Compiles contracts and executes them. Share it behind an `Arc`: all methods take `&self`, from any thread
/// with 512 KiB of stack to spare.
pub struct ContractHost {
    linker: Linker<Guest>,
    /// By hash; what cannot be compiled is remembered too, or every question would try again.
    compiled: Cache<[u8; 32], Kept, ByCodeSize>,
    deadline_epochs: u64,
    /// Stops when it is dropped.
    _epochs: Epochs,
}

type Kept = Result<Arc<Compiled>, ContractError>;

impl ContractHost {
    /// Reserves address space for `config.instances` instances and starts the epoch thread.
    pub fn new(config: HostConfig) -> Result<Self, HostError> {
        within("instances", u64::from(config.instances), u64::from(CONTRACT_INSTANCES))?;
        within("deadline_epochs", config.deadline_epochs, CONTRACT_DEADLINE_EPOCHS)?;
        within("compiled_bytes", config.compiled_bytes, COMPILED_BYTES)?;
        let engine = Engine::new(&engine_config(config.instances)).map_err(engine_error)?;
        let mut linker = Linker::new(&engine);
        guest::link(&mut linker).map_err(engine_error)?;
        Ok(Self {
            linker,
            compiled: Cache::with_weighter(COMPILED_CONTRACTS, config.compiled_bytes, ByCodeSize),
            deadline_epochs: config.deadline_epochs,
            _epochs: Epochs::start(engine).map_err(|error| HostError::Thread(error.to_string()))?,
        })
    }

    /// Checks that octets are a contract that this host can execute. Compiles it: milliseconds for a small one.
    pub fn check(&self, wasm: &[u8]) -> Result<CheckedContract, ContractError> {
        let compiled = Arc::new(self.compile(wasm)?);
        Ok(CheckedContract { hash: Sha256::digest(wasm).into(), compiled })
    }

    /// Keeps a checked contract compiled, so that its first question does not wait for the compiler.
    pub fn keep(&self, contract: &CheckedContract) {
        self.compiled.insert(contract.hash, Ok(Arc::clone(&contract.compiled)));
    }

    /// The worlds of some code; compiles it if that has not been done.
    ///
    /// # Errors
    /// It is not here, or not usable.
    pub fn worlds(&self, code: CodeRef<'_>) -> Result<Worlds, Failure> {
        self.compiled(code).map(|compiled| compiled.worlds())
    }

    /// Executes the code on one question. `reads` comes back, with whatever it noted, on every outcome.
    pub fn execute<R: Reads>(&self, code: CodeRef<'_>, question: &Question, reads: R) -> (Execution, R) {
        let compiled = match self.compiled(code) {
            Ok(compiled) => compiled,
            Err(failure) => return nothing_ran(failure, reads),
        };
        let Some(export) = compiled.resolve else { return nothing_ran(Failure::World("resolver"), reads) };
        let asked = types::Question {
            name: question.name.as_wire().to_vec(),
            rr_type: question.rtype.0,
            zone: question.zone.as_wire().to_vec(),
        };
        let run = Run { compiled: &compiled, export, fuel: CONTRACT_FUEL };
        self.run(run, (asked,), reads, |(returned,): (Result<_, types::Failure>,), guest| match returned {
            Ok(resolution) => output::accept(question, resolution, &guest.handles).map_err(Failure::from),
            Err(said) => Err(Failure::of_guest(&said)),
        })
    }

    /// Calls a program with `input`, of at most `fuel`, itself at most `CONTRACT_FUEL`.
    pub fn call<R: Reads>(&self, code: CodeRef<'_>, input: &[u8], fuel: u64, reads: R) -> (Execution<Vec<u8>>, R) {
        let compiled = match self.compiled(code) {
            Ok(compiled) => compiled,
            Err(failure) => return nothing_ran(failure, reads),
        };
        let Some(export) = compiled.call else { return nothing_ran(Failure::World("program"), reads) };
        let run = Run { compiled: &compiled, export, fuel: fuel.min(CONTRACT_FUEL) };
        self.run(run, (input.to_vec(),), reads, |(returned,): (Result<Vec<u8>, types::Failure>,), _| match returned {
            Ok(output) if output.len() > CONTRACT_OUTPUT => Err(BadOutput::TooLarge.into()),
            Ok(output) => Ok(output),
            Err(said) => Err(Failure::of_guest(&said)),
        })
    }

    /// Asks a covenant about a write. A write about no name is allowed: no covenant has a say in it.
    pub fn judge<R: Reads>(&self, code: CodeRef<'_>, write: &Write<'_>, reads: R) -> (Execution<Verdict>, R) {
        let compiled = match self.compiled(code) {
            Ok(compiled) => compiled,
            Err(failure) => return nothing_ran(failure, reads),
        };
        let Some(export) = compiled.judge else { return nothing_ran(Failure::World("covenant"), reads) };
        let Some(write) = write.typed() else { return (Execution::free(Ok(Verdict::Allowed)), reads) };
        let run = Run { compiled: &compiled, export, fuel: COVENANT_FUEL };
        self.run(run, (write,), reads, |(returned,): (Result<(), String>,), _| match returned {
            Ok(()) => Ok(Verdict::Allowed),
            Err(words) => Ok(Verdict::Denied(failure::text(&words))),
        })
    }

    fn run<P, O, T, R>(
        &self,
        run: Run<'_>,
        params: P,
        reads: R,
        accept: impl FnOnce(O, &Guest) -> Result<T, Failure>,
    ) -> (Execution<T>, R)
    where
        P: ComponentNamedList + Lower,
        O: ComponentNamedList + Lift + 'static,
        P: 'static,
        R: Reads,
    {
        let mut store = self.store(Box::new(reads), run.fuel);
        let returned = enter(&run, &mut store, params);
        let left = store.get_fuel().unwrap_or(0);
        let guest = store.into_data();
        let outcome = match returned {
            Ok(returned) => accept(returned, &guest),
            Err(error) => Err(classify(&error)),
        };
        let Guest { reads, lookups, memory, log, until, .. } = guest;
        let execution = Execution { outcome, fuel: run.fuel.saturating_sub(left), lookups, memory, log, until };
        let reads: Box<dyn Any> = reads;
        // `store` was given a box of `R`, and nothing swaps it.
        (execution, *reads.downcast::<R>().expect("the same reads come back"))
    }

    fn store(&self, reads: Box<dyn Reads>, fuel: u64) -> Store<Guest> {
        let mut store = Store::new(self.linker.engine(), Guest::new(reads));
        store.limiter(|guest| guest);
        store.set_epoch_deadline(self.deadline_epochs);
        store.set_hostcall_fuel(CONTRACT_LIFT);
        // Fails only if the engine does not count fuel, and ours does.
        store.set_fuel(fuel).expect("fuel is on");
        store
    }

    /// Many may ask for the same code at once: one compiles, the others wait for it.
    fn compiled(&self, code: CodeRef<'_>) -> Result<Arc<Compiled>, Failure> {
        let kept = self.compiled.get_or_insert_with(&code.hash, || {
            let wasm = (code.load)()?.ok_or(Failure::NoCode)?;
            if Sha256::digest(&wasm)[..] != code.hash {
                return Ok::<Kept, Failure>(Err(ContractError::Hash));
            }
            Ok(self.compile(&wasm).map(Arc::new))
        })?;
        Ok(kept?)
    }

    fn compile(&self, wasm: &[u8]) -> Result<Compiled, ContractError> {
        check::scan(wasm)?;
        let short = |error: wasmtime::Error| failure::text(&format!("{error:#}"));
        let component =
            Component::from_binary(self.linker.engine(), wasm).map_err(|error| ContractError::Compile(short(error)))?;
        let pre = self.linker.instantiate_pre(&component).map_err(|error| ContractError::ImportType(short(error)))?;
        let export = |name: &'static str, typecheck: Typecheck<'_>| {
            let Some((ComponentItem::ComponentFunc(func), index)) = component.get_export(None, name) else {
                return Ok::<_, ContractError>(None);
            };
            typecheck(&func).map_err(|error| ContractError::ExportType(name, short(error)))?;
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

impl<T> Execution<T> {
    /// One in which no guest ran.
    fn free(outcome: Result<T, Failure>) -> Self {
        Self { outcome, fuel: 0, lookups: 0, memory: 0, log: Vec::new(), until: None }
    }
}

fn nothing_ran<T, R>(failure: Failure, reads: R) -> (Execution<T>, R) {
    (Execution::free(Err(failure)), reads)
}

impl fmt::Debug for ContractHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContractHost").field("compiled", &self.compiled.len()).finish_non_exhaustive()
    }
}

/// Machine code, imports and export indices resolved: all that an instance needs but its memory.
pub(super) struct Compiled {
    pre: InstancePre<Guest>,
    resolve: Option<ComponentExportIndex>,
    judge: Option<ComponentExportIndex>,
    call: Option<ComponentExportIndex>,
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

/// What runs, and how far.
struct Run<'a> {
    compiled: &'a Compiled,
    export: ComponentExportIndex,
    fuel: u64,
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiled").field("bytes", &self.bytes()).finish()
    }
}

#[derive(Clone)]
struct ByCodeSize;

impl Weighter<[u8; 32], Kept> for ByCodeSize {
    /// A refusal takes about as much as an entry of the cache.
    fn weight(&self, _hash: &[u8; 32], kept: &Kept) -> u64 {
        kept.as_ref().map_or(256, |compiled| compiled.bytes())
    }
}

fn enter<P, O>(run: &Run<'_>, store: &mut Store<Guest>, params: P) -> Result<O, wasmtime::Error>
where
    P: ComponentNamedList + Lower + 'static,
    O: ComponentNamedList + Lift + 'static,
{
    let instance: Instance = run.compiled.pre.instantiate(&mut *store)?;
    let function: TypedFunc<P, O> = instance.get_typed_func(&mut *store, run.export)?;
    function.call(store, params)
}

/// What ended an execution. An error that is neither ours nor a wasm trap comes from lifting: the guest gave
/// lists, strings or variants that are none.
fn classify(error: &wasmtime::Error) -> Failure {
    if let Some(denied) = error.downcast_ref::<Denied>() {
        return match denied {
            Denied::Memory => Failure::Memory,
            Denied::Fault(fault) => Failure::ReadFault(fault.clone()),
            other => Failure::Trap(other.to_string()),
        };
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return Failure::Busy;
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => Failure::OutOfFuel,
        Some(Trap::Interrupt) => Failure::Deadline,
        Some(trap) => Failure::Trap(trap_text(trap)),
        None => BadOutput::Abi(failure::text(&error.root_cause().to_string())).into(),
    }
}

fn trap_text(trap: &Trap) -> String {
    let text = trap.to_string();
    text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned()
}

fn within(what: &'static str, value: u64, limit: u64) -> Result<(), HostError> {
    if (1..=limit).contains(&value) { Ok(()) } else { Err(HostError::Config(what)) }
}

fn engine_error(error: wasmtime::Error) -> HostError {
    HostError::Engine(format!("{error:#}"))
}

/// Core instances, and tables, of one component: a guest and the shims that the encoder puts around it.
const CORE_INSTANCES: u32 = 8;
const TABLES: u32 = 4;
/// Octets of a slot's memory and table that are wiped in place when it is used again; the rest goes back to
/// the kernel, which costs a system call (docs/performance.md).
const KEEP_MEMORY: usize = 64 * 1024;
const KEEP_TABLE: usize = 4 * 1024;

/// Everything that could differ between two machines or two runs is off: threads, relaxed SIMD, NaN payloads.
/// What no contract needs is off as well.
fn engine_config(instances: u32) -> Config {
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool(instances)))
        .cranelift_opt_level(OptLevel::Speed)
        .cranelift_nan_canonicalization(true)
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(CONTRACT_STACK)
        .wasm_backtrace_max_frames(None)
        .wasm_component_model(true)
        .wasm_relaxed_simd(false)
        .wasm_simd(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_tail_call(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false);
    config
}

fn pool(instances: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances * CORE_INSTANCES)
        .max_core_instances_per_component(CORE_INSTANCES)
        .total_memories(instances)
        .max_memories_per_component(1)
        .max_memories_per_module(1)
        .max_memory_size(CONTRACT_MEMORY)
        .total_tables(instances * TABLES)
        .max_tables_per_component(TABLES)
        .max_tables_per_module(TABLES)
        .table_elements(CONTRACT_TABLE)
        .linear_memory_keep_resident(KEEP_MEMORY)
        .table_keep_resident(KEEP_TABLE)
        .max_unused_warm_slots(instances)
        .pagemap_scan(Enabled::No);
    pool
}

/// Advances the engine's epoch every [`EPOCH`] until dropped.
struct Epochs {
    /// `Some` until dropped; hanging up is the order to stop.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Epochs {
    fn start(engine: Engine) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let tick = move || {
            while stopped.recv_timeout(EPOCH) == Err(RecvTimeoutError::Timeout) {
                engine.increment_epoch();
            }
        };
        let thread = std::thread::Builder::new().name("contract-epoch".into()).spawn(tick)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Epochs {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // The closure cannot panic; and if it did, dropping must not.
            let _ = thread.join();
        }
    }
}
