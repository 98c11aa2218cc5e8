//! One execution, and what bounds it.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use wasmtime::component::{ComponentExportIndex, ComponentNamedList, Instance, Lift, Lower, TypedFunc};
use wasmtime::{Engine, PoolConcurrencyLimitError, Store, Trap};

use super::bindings::ghostplane::contract::types;
use super::check::{CheckedContract, ContractError, Worlds};
use super::engine::{self, Epochs};
use super::failure::{self, BadOutput, Failure};
use super::files::CodeFolder;
use super::guest::{Denied, Guest};
use super::library::{Compiled, Library};
use super::{Question, ReadFault, Reads, Write, output};
use crate::limits::{
    COMPILED_BYTES, CONTRACT_DEADLINE_EPOCHS, CONTRACT_FUEL, CONTRACT_INSTANCES, CONTRACT_LIFT, CONTRACT_OUTPUT,
    COVENANT_FUEL, QUESTIONS_WAITING,
};
use crate::metrics::Metrics;
use crate::wire::Resolution;

/// What an operator may narrow, and where machine code is kept. Fuel, memory and the counts are part of what a contract
/// means, so they are not here: an execution must come out the same on every gateway.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// Instances alive at once, at most `CONTRACT_INSTANCES`; one more execution is [`Failure::Busy`].
    pub instances: u32,
    /// Epochs until [`Failure::Deadline`], at most `CONTRACT_DEADLINE_EPOCHS`.
    pub deadline_epochs: u64,
    /// Octets of machine code kept in memory, at most `COMPILED_BYTES`.
    pub compiled_bytes: u64,
    /// Executions that wait for the compiler, at most `QUESTIONS_WAITING`; one more is [`Failure::Busy`].
    pub waiting: usize,
    /// Keeps machine code on disk, too.
    pub files: Option<CodeFolder>,
    /// Counts compilations.
    pub metrics: Arc<Metrics>,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            instances: CONTRACT_INSTANCES,
            deadline_epochs: CONTRACT_DEADLINE_EPOCHS,
            compiled_bytes: COMPILED_BYTES,
            waiting: QUESTIONS_WAITING,
            files: None,
            metrics: Arc::default(),
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
    library: Library,
    deadline_epochs: u64,
    /// Stops when it is dropped.
    _epochs: Epochs,
}

impl ContractHost {
    /// Reserves address space for `config.instances` instances and starts the epoch thread.
    pub fn new(config: HostConfig) -> Result<Self, HostError> {
        within("instances", u64::from(config.instances), u64::from(CONTRACT_INSTANCES))?;
        within("deadline_epochs", config.deadline_epochs, CONTRACT_DEADLINE_EPOCHS)?;
        within("compiled_bytes", config.compiled_bytes, COMPILED_BYTES)?;
        within("waiting", config.waiting as u64, QUESTIONS_WAITING as u64)?;
        let engine = Engine::new(&engine::config(config.instances)).map_err(engine_error)?;
        let deadline_epochs = config.deadline_epochs;
        let library = Library::new(&engine, config).map_err(engine_error)?;
        let epochs = Epochs::start(engine).map_err(|error| HostError::Thread(error.to_string()))?;
        Ok(Self { library, deadline_epochs, _epochs: epochs })
    }

    /// Checks that octets are a contract that this host can execute, and keeps it compiled for its first question: some
    /// milliseconds of work for a small one.
    ///
    /// # Errors
    /// They are none, or the compiler is [`ContractError::Busy`].
    pub fn check(&self, wasm: &[u8]) -> Result<CheckedContract, ContractError> {
        self.library.check(wasm)
    }

    /// Drops the machine code of what was checked and is not deployed after all.
    pub fn forget(&self, hash: &[u8; 32]) {
        self.library.forget(hash);
    }

    /// True if the code can be executed without the compiler.
    pub fn is_ready(&self, hash: &[u8; 32]) -> bool {
        self.library.is_ready(hash)
    }

    /// The worlds of some code; compiles it if that has not been done.
    ///
    /// # Errors
    /// It is not here, or not usable.
    pub fn worlds(&self, code: CodeRef<'_>) -> Result<Worlds, Failure> {
        self.library.find(code).map(|compiled| compiled.worlds())
    }

    /// Executes the code on one question. `reads` comes back, with whatever it noted, on every outcome.
    pub fn execute<R: Reads>(&self, code: CodeRef<'_>, question: &Question, reads: R) -> (Execution, R) {
        let compiled = match self.library.find(code) {
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
        let compiled = match self.library.find(code) {
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

    /// Asks a covenant about a write, with at most `fuel`, itself at most `COVENANT_FUEL`. A write about no name is allowed:
    /// no covenant has a say in it.
    pub fn judge<R: Reads>(
        &self,
        code: CodeRef<'_>,
        write: &Write<'_>,
        fuel: u64,
        reads: R,
    ) -> (Execution<Verdict>, R) {
        let compiled = match self.library.find(code) {
            Ok(compiled) => compiled,
            Err(failure) => return nothing_ran(failure, reads),
        };
        let Some(export) = compiled.judge else { return nothing_ran(Failure::World("covenant"), reads) };
        let Some(write) = write.typed() else { return (Execution::free(Ok(Verdict::Allowed)), reads) };
        let run = Run { compiled: &compiled, export, fuel: fuel.min(COVENANT_FUEL) };
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
        let mut store = Store::new(self.library.engine(), Guest::new(reads));
        store.limiter(|guest| guest);
        store.set_epoch_deadline(self.deadline_epochs);
        store.set_hostcall_fuel(CONTRACT_LIFT);
        // Fails only if the engine does not count fuel, and ours does.
        store.set_fuel(fuel).expect("fuel is on");
        store
    }
}

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
        f.debug_struct("ContractHost").field("compiled", &self.library.len()).finish_non_exhaustive()
    }
}

/// What runs, and how far.
struct Run<'a> {
    compiled: &'a Compiled,
    export: ComponentExportIndex,
    fuel: u64,
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
