//! One binary: scenarios, layers, real clients.

mod edge;
mod resolve;
mod support;
