//! One execution, and what bounds it.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use wasmtime::component::{ComponentExportIndex, ComponentNamedList, Instance, Lift, Lower, TypedFunc};
use wasmtime::{Engine, PoolConcurrencyLimitError, Store, Trap};

use super::bindings::ghostplane::contract::types;
use super::check::{CheckedContract, ContractError, Worlds};
use super::engine::{self, Epochs, Reservation};
use super::failure::{self, BadOutput, Failure};
use super::files::CodeFolder;
use super::fuel::Schedule;
use super::guest::{Denied, Guest};
use super::library::{Compiled, Library};
use super::selftest::{Nothing, PROGRAM};
use super::{Question, ReadFault, Reads, Write, componentize, output};
use crate::limits::{
    COMPILED_BYTES, CONTRACT_FUEL, CONTRACT_INSTANCES, CONTRACT_LIFT, CONTRACT_LOOK_EPOCHS, CONTRACT_OUTPUT,
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
    /// How fuel is counted. Whoever verifies an old receipt needs the one that it names.
    pub schedule: Schedule,
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
            schedule: Schedule::default(),
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
    #[error(
        "cannot execute contracts here: {0}; machine code must be allowed in memory (in a systemd unit \
         MemoryDenyWriteExecute=no, with SELinux execmem)"
    )]
    Execution(String),
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
    schedule: Schedule,
    reservation: Reservation,
    /// Stops when it is dropped.
    _epochs: Epochs,
}

impl ContractHost {
    /// Reserves address space for `config.instances` instances and starts the epoch thread. Where there is not enough for
    /// memories without bounds checks, code is compiled with them, and takes longer.
    pub fn new(config: HostConfig) -> Result<Self, HostError> {
        within("instances", u64::from(config.instances), u64::from(CONTRACT_INSTANCES))?;
        within("compiled_bytes", config.compiled_bytes, COMPILED_BYTES)?;
        within("waiting", config.waiting as u64, QUESTIONS_WAITING as u64)?;
        Self::with(config.clone(), Reservation::Large).or_else(|error| {
            let host = Self::with(config, Reservation::Small)?;
            tracing::warn!(%error, "little address space: contracts run with bounds checks, and slower");
            Ok(host)
        })
    }

    fn with(config: HostConfig, reservation: Reservation) -> Result<Self, HostError> {
        let HostConfig { instances, schedule, .. } = config;
        let engine = Engine::new(&engine::config(instances, schedule, reservation)).map_err(engine_error)?;
        let library = Library::new(&engine, config).map_err(engine_error)?;
        let epochs = Epochs::start(engine).map_err(|error| HostError::Thread(error.to_string()))?;
        Ok(Self { library, schedule, reservation, _epochs: epochs })
    }

    /// True if there was too little address space for memories without bounds checks.
    pub fn checks_bounds(&self) -> bool {
        self.reservation == Reservation::Small
    }

    /// How fuel is counted.
    pub fn schedule(&self) -> Schedule {
        self.schedule
    }

    /// Compiles, loads and calls a tiny program, past all that is kept: some milliseconds.
    ///
    /// # Errors
    /// [`HostError::Execution`]: no contract can be executed here.
    pub fn self_test(&self) -> Result<(), HostError> {
        let broken = |error: &dyn fmt::Display| HostError::Execution(error.to_string());
        let component = componentize(PROGRAM).map_err(|error| broken(&error))?;
        let compiled = self.library.compile_anew(&component).map_err(|error| broken(&error))?;
        let (execution, _) = self.call_compiled(&compiled, &[], CONTRACT_FUEL, Nothing);
        match execution.outcome {
            Ok(output) if output.is_empty() => Ok(()),
            Ok(_) => Err(broken(&"it gave a wrong result")),
            Err(failure) => Err(broken(&failure)),
        }
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
        let weigh = |(returned,): &(Result<types::Resolution, _>,)| returned.as_ref().map_or(0, output::records);
        self.run(run, (asked,), reads, weigh, |(returned,): (Result<_, types::Failure>,), guest| match returned {
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
        self.call_compiled(&compiled, input, fuel, reads)
    }

    fn call_compiled<R: Reads>(
        &self,
        compiled: &Compiled,
        input: &[u8],
        fuel: u64,
        reads: R,
    ) -> (Execution<Vec<u8>>, R) {
        let Some(export) = compiled.call else { return nothing_ran(Failure::World("program"), reads) };
        let run = Run { compiled, export, fuel: fuel.min(CONTRACT_FUEL) };
        let accept = |(returned,): (Result<Vec<u8>, types::Failure>,), _: &Guest| match returned {
            Ok(output) if output.len() > CONTRACT_OUTPUT => Err(BadOutput::TooLarge.into()),
            Ok(output) => Ok(output),
            Err(said) => Err(Failure::of_guest(&said)),
        };
        self.run(run, (input.to_vec(),), reads, |_| 0, accept)
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
        self.run(
            run,
            (write,),
            reads,
            |_| 0,
            |(returned,): (Result<(), String>,), _| match returned {
                Ok(()) => Ok(Verdict::Allowed),
                Err(words) => Ok(Verdict::Denied(failure::text(&words))),
            },
        )
    }

    /// Executes; `weigh` gives the records of what the guest returned.
    fn run<P, O, T, R>(
        &self,
        run: Run<'_>,
        params: P,
        reads: R,
        weigh: impl FnOnce(&O) -> u64,
        accept: impl FnOnce(O, &Guest) -> Result<T, Failure>,
    ) -> (Execution<T>, R)
    where
        P: ComponentNamedList + Lower,
        O: ComponentNamedList + Lift + 'static,
        P: 'static,
        R: Reads,
    {
        let prices = self.schedule.prices();
        let begin = if prices.instance { run.compiled.instance_fuel } else { 0 };
        let Some(fuel) = run.fuel.checked_sub(begin) else {
            return (Execution { fuel: run.fuel, ..Execution::free(Err(Failure::OutOfFuel)) }, reads);
        };
        let mut store = self.store(Guest::new(Box::new(reads), prices), fuel);
        let returned = enter(&run, &mut store, params);
        let left = store.get_fuel().unwrap_or(0);
        let mut guest = store.into_data();
        guest.debt += prices.record * returned.as_ref().map_or(0, weigh);
        let outcome = match returned {
            Err(failure) if failure.is_of_machine() => Err(failure),
            // Growth of memory at the end is owed like all the rest.
            _ if guest.debt > left => Err(Failure::OutOfFuel),
            Ok(returned) => accept(returned, &guest),
            Err(failure) => Err(failure),
        };
        if let Err(Failure::Machine(error)) = &outcome {
            tracing::warn!(error, "a contract could not be run");
        }
        let Guest { reads, lookups, memory, log, until, debt, .. } = guest;
        let fuel = run.fuel.saturating_sub(left.saturating_sub(debt));
        let execution = Execution { outcome, fuel, lookups, memory, log, until };
        let reads: Box<dyn Any> = reads;
        // `store` was given a box of `R`, and nothing swaps it.
        (execution, *reads.downcast::<R>().expect("the same reads come back"))
    }

    fn store(&self, guest: Guest, fuel: u64) -> Store<Guest> {
        let mut store = Store::new(self.library.engine(), guest);
        store.limiter(|guest| guest);
        store.set_epoch_deadline(CONTRACT_LOOK_EPOCHS);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().is_late()));
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

fn enter<P, O>(run: &Run<'_>, store: &mut Store<Guest>, params: P) -> Result<O, Failure>
where
    P: ComponentNamedList + Lower + 'static,
    O: ComponentNamedList + Lift + 'static,
{
    // It was checked when it was compiled: what goes wrong here without a trap is ours.
    let instance = run.compiled.pre.instantiate(&mut *store);
    let instance: Instance = instance.map_err(|error| classify(&error, machine))?;
    let function: Result<TypedFunc<P, O>, _> = instance.get_typed_func(&mut *store, run.export);
    let function = function.map_err(|error| machine(&error))?;
    // An error that is neither ours nor a trap comes from lifting: the guest gave lists, strings or variants that are none.
    function.call(store, params).map_err(|error| classify(&error, illegal))
}

/// The reason for the end of an execution; `otherwise` says what else an error can be.
fn classify(error: &wasmtime::Error, otherwise: fn(&wasmtime::Error) -> Failure) -> Failure {
    if let Some(denied) = error.downcast_ref::<Denied>() {
        return match denied {
            Denied::Memory => Failure::Memory,
            Denied::Fault(fault) => Failure::ReadFault(fault.clone()),
            Denied::Machine(what) => Failure::Machine(what.clone()),
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
        None if failure::is_of_system(error) => machine(error),
        None => otherwise(error),
    }
}

fn machine(error: &wasmtime::Error) -> Failure {
    Failure::Machine(format!("{error:#}"))
}

fn illegal(error: &wasmtime::Error) -> Failure {
    BadOutput::Abi(failure::text(&error.root_cause().to_string())).into()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A program: one page of memory, and this in its body.
    fn program(body: &str) -> Vec<u8> {
        let text = format!(
            r#"(module (memory (export "memory") 1)
               (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
               (func (export "call") (param i32 i32) (result i32) (local $i i32) {body} (i32.const 16)))"#
        );
        componentize(&wat::parse_str(text).unwrap()).unwrap()
    }

    fn run(host: &ContractHost, wasm: &[u8]) -> Execution<Vec<u8>> {
        let code = CodeRef { hash: crate::op::CodeHash::of(wasm).0, load: &|| Ok(Some(wasm.to_vec())) };
        host.call(code, b"input", CONTRACT_FUEL, Nothing).0
    }

    /// T27: under a limit on address space the same comes out, for the same fuel.
    #[test]
    fn the_small_pool_means_the_same() {
        let large = ContractHost::new(HostConfig::default()).unwrap();
        let small = ContractHost::with(HostConfig::default(), Reservation::Small).unwrap();
        assert_eq!((large.checks_bounds(), small.checks_bounds(), small.self_test()), (false, true, Ok(())));
        let all = "(drop (memory.grow (i32.const 31))) (loop $l (i32.store (local.get $i) (i32.const 1)) (br_if $l (i32.lt_u \
                   (local.tee $i (i32.add (local.get $i) (i32.const 4096))) (i32.const 2097152))))";
        let bodies = [
            String::new(),
            all.into(),
            format!("{all} (drop (i32.load (i32.const 2097152)))"),
            "(drop (i32.load (i32.const -1)))".into(),
            "(drop (i32.load offset=4294967295 (i32.const -1)))".into(),
            "(i64.store (i32.const 65529) (i64.const 1))".into(),
            "(loop $l (br $l))".into(),
        ];
        for body in bodies {
            let wasm = program(&body);
            let (one, other) = (run(&large, &wasm), run(&small, &wasm));
            assert_eq!(one, other, "{body}");
            // Its neighbours in the pool are as they were.
            assert_eq!(run(&small, &program("")).outcome, Ok(vec![]));
        }
    }

    /// A refusal of the machine is no property of the code, which is compiled again the next time.
    #[test]
    fn an_instance_too_many_is_not_the_contracts_fault() {
        let host = ContractHost::new(HostConfig { instances: 1, ..HostConfig::default() }).unwrap();
        struct Nested(Arc<ContractHost>, Vec<u8>);
        impl Reads for Nested {
            fn lookup(&mut self, _: &crate::wire::Name, _: crate::wire::Rtype) -> Result<Resolution, ReadFault> {
                Ok(Resolution::NxDomain)
            }
            fn zone(&mut self) -> crate::wire::Name {
                assert_eq!(run(&self.0, &self.1).outcome, Err(Failure::Busy));
                crate::wire::Name::root()
            }
            fn owner_key(&mut self) -> Option<[u8; 32]> {
                None
            }
            fn bound_contract(&mut self) -> Option<[u8; 32]> {
                None
            }
            fn bound_worlds(&mut self) -> Result<Worlds, ReadFault> {
                Ok(Worlds::default())
            }
            fn parameters(&mut self) -> Vec<u8> {
                Vec::new()
            }
            fn now(&mut self) -> u64 {
                0
            }
            fn client_subnet(&mut self, _: crate::wire::Scope) -> Option<crate::wire::Subnet> {
                None
            }
        }
        let host = Arc::new(host);
        let inner = program("");
        host.check(&inner).unwrap();
        let asks = r#"(module (import "ghostplane:contract/registry@0.2.0" "zone" (func $zone (param i32)))
            (memory (export "memory") 1)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
            (func (export "call") (param i32 i32) (result i32) (call $zone (i32.const 64)) (i32.const 16)))"#;
        let outer = componentize(&wat::parse_str(asks).unwrap()).unwrap();
        let code = CodeRef { hash: crate::op::CodeHash::of(&outer).0, load: &|| Ok(Some(outer.clone())) };
        let (execution, _) = host.call(code, b"", CONTRACT_FUEL, Nested(host.clone(), inner.clone()));
        assert_eq!(execution.outcome, Ok(vec![]));
        assert_eq!(run(&host, &inner).outcome, Ok(vec![]));
    }
}
