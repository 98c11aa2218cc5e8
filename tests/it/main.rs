//! One binary: scenarios, layers, real clients.

mod crash;
mod edge;
mod hostile;
#[path = "../ops.rs"]
mod ops;
mod process;
mod resolve;
mod state;
mod support;
