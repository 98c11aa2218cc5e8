//! One binary: scenarios, layers, real clients.

mod clients;
mod commands;
mod compiled;
mod contracts;
mod crash;
mod docs;
mod edge;
mod hostile;
mod layers;
#[path = "../shared/ops.rs"]
mod ops;
mod owners;
mod process;
mod programmable;
mod resolve;
mod scenarios;
mod secondaries;
mod state;
mod support;
mod validate;
mod validators;
