//! How wasmtime is set up, and the clock of epochs.
//!
//! A pool of instances reserves 4 GiB of addresses for each memory, so that machine code needs no bounds checks. Under a
//! limit on address space (`ulimit -v`) the small pool reserves what a contract may use; its code checks each access.

use std::hash::{Hash as _, Hasher};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;

use sha2::{Digest as _, Sha256};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use super::fuel::Schedule;
use super::{MODULES, TABLES, VERSION};
use crate::limits::{CONTRACT_MEMORY, CONTRACT_STACK, CONTRACT_TABLE, EPOCH};

/// Octets of a slot's memory and table that are wiped in place when it is used again; the rest goes back to
/// the kernel, which costs a system call (docs/performance.md).
const KEEP_MEMORY: usize = 64 * 1024;
const KEEP_TABLE: usize = 4 * 1024;
/// Octets behind each memory of the small pool that nothing may touch.
const GUARD: u64 = 64 * 1024;

/// How much address space the instances get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reservation {
    /// 4 GiB each.
    Large,
    /// Features that a contract may use.
    Small,
}

/// Everything that could differ between two machines or two runs is off: threads, relaxed SIMD, NaN payloads.
/// What no contract needs is off as well.
pub(super) fn config(instances: u32, schedule: Schedule, reservation: Reservation) -> Config {
    let mut config = Config::new();
    if let Some(costs) = schedule.operator_costs() {
        config.operator_cost(costs);
    }
    if reservation == Reservation::Small {
        let memory = CONTRACT_MEMORY as u64;
        config.memory_reservation(memory).memory_guard_size(GUARD).guard_before_linear_memory(false);
    }
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
        .total_core_instances(instances * MODULES)
        .max_core_instances_per_component(MODULES)
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

/// Stands for all that machine code of the same contract depends on: wasmtime's version, flags and target, the worlds, and
/// what this version of the program lets through to the compiler.
pub(super) fn fingerprint(engine: &Engine) -> [u8; 32] {
    let mut hasher = Fingerprint(Sha256::new());
    (env!("CARGO_PKG_VERSION"), VERSION, FORM).hash(&mut hasher);
    engine.precompile_compatibility_hash().hash(&mut hasher);
    hasher.0.finalize().into()
}

/// Of what is kept of a contract on disk: with the fuel of its instantiation.
const FORM: u32 = 2;

/// Takes in what `Hash` says of a value: the hashers of the standard library give 64 bits.
struct Fingerprint(Sha256);

impl Hasher for Fingerprint {
    fn write(&mut self, octets: &[u8]) {
        self.0.update(octets);
    }

    fn finish(&self) -> u64 {
        unreachable!("nothing asks for the 64-bit form")
    }
}

/// Advances the engine's epoch every [`EPOCH`] until dropped.
pub(super) struct Epochs {
    /// `Some` until dropped; hanging up is the order to stop.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Epochs {
    pub fn start(engine: Engine) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel::<()>();
        let tick = move || {
            while stopped.recv_timeout(EPOCH) == Err(RecvTimeoutError::Timeout) {
                engine.increment_epoch();
            }
        };
        let thread = crate::threads::vital("contract-epoch", tick)?;
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
