//! One binary: scenarios, layers, real clients.

mod authority;
mod clients;
mod commands;
mod compiled;
mod contracts;
mod covenants;
mod crash;
mod discovery;
mod docs;
mod edge;
mod forgeries;
mod forward;
mod gas;
mod gate;
mod guardians;
mod hostile;
mod layers;
mod life;
mod log;
mod observe;
#[path = "../shared/ops.rs"]
mod ops;
mod owners;
mod process;
mod programmable;
mod resolve;
mod scenarios;
mod secondaries;
mod signed;
mod state;
mod support;
mod update;
#[path = "../shared/updates.rs"]
mod updates;
mod validate;
mod validators;
