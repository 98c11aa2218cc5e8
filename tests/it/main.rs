//! One binary: scenarios, layers, real clients.

mod support;
mod resolve;
