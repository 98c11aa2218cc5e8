//! One binary: scenarios, layers, real clients.

mod edge;
mod hostile;
#[path = "../ops.rs"]
mod ops;
mod resolve;
mod state;
mod support;
