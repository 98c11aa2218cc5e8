//! One binary: scenarios, layers, real clients.

mod clients;
mod crash;
mod edge;
mod hostile;
#[path = "../ops.rs"]
mod ops;
mod process;
mod resolve;
mod scenarios;
mod state;
mod support;
