//! Ghostplane: a name-resolution gateway that answers by executing WebAssembly contracts.
//!
//! ```text
//! L4 shell     main, cli, server            signals, files, runtime, descriptors
//! L3 edge      transport, api               sockets, TLS, HTTP; async only here, above, and on forward's own thread
//! L2 engine    gateway -> cache, forward ; writer    synchronous
//! L1 adapters  registry (redb) ; contract (wasmtime) ; threads
//! L0 core      wire, zone, dnssec, op, state, tlog, limits, config
//!              no IO, no clock, no randomness, no locks, no async
//! ```
//!
//! Imports go down only; `tests/it/layers.rs` enforces it. `docs/architecture.md` tells the rest.

pub mod api;
pub mod audit;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod contract;
pub mod descriptors;
pub mod dnssec;
pub mod forward;
pub mod gateway;
pub mod limits;
pub mod locked;
pub mod metrics;
pub mod node;
pub mod notary;
pub mod observe;
pub mod op;
pub mod processors;
pub mod registry;
pub mod secret_file;
pub mod server;
pub mod state;
pub mod stopwatch;
pub mod threads;
pub mod tlog;
pub mod transport;
pub mod wire;
pub mod work;
pub mod writer;
pub mod zone;
