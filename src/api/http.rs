//! What is fetched and called by its path: `GET /contract/HASH`, `POST /v1/call/NAME`.

use std::net::IpAddr;

use bytes::Bytes;
use data_encoding::BASE64;
use serde_json::json;

use super::{Service, ServiceError};
use crate::gateway::{Call, Called};
use crate::limits::CONTRACT_FUEL;
use crate::transport::{Caller, Resource};
use crate::wire::{Name, Subnet};

/// The code of a contract. What its SHA-256 names never changes.
pub(super) fn code(service: &Service, hash: &str) -> Resource {
    match service.code(hash) {
        Ok(code) => Resource::new(200, "application/wasm", code).immutable(),
        Err(error) => refused(&error),
    }
}

/// A call: `gas=FUEL` and `receipt=1` in the query string, octets in, JSON out.
pub(super) async fn call(service: &Service, path: &str, query: &str, input: Bytes, caller: &Caller) -> Resource {
    let call = match parse(path, query, &input, caller.client.addr) {
        Ok(call) => call,
        Err(error) => return refused(&error),
    };
    match service.call(call, &caller.budget).await {
        Ok(called) => told(&called),
        Err(error) => refused(&error),
    }
}

fn parse(path: &str, query: &str, input: &Bytes, peer: IpAddr) -> Result<Call, ServiceError> {
    let bad = |what: String| ServiceError::Bad(what);
    let name = Name::from_uri(path).map_err(|_| bad(format!("{path:?} is not a name")))?;
    let (mut fuel, mut receipt) = (CONTRACT_FUEL, false);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("gas", text)) => {
                let wanted = text.parse().ok().filter(|fuel| (1..=CONTRACT_FUEL).contains(fuel));
                fuel = wanted.ok_or_else(|| bad(format!("gas is a number of units of fuel, 1 to {CONTRACT_FUEL}")))?;
            }
            Some(("receipt", "1")) => receipt = true,
            _ => return Err(bad(format!("{pair:?} is neither gas=FUEL nor receipt=1"))),
        }
    }
    Ok(Call { name, input: input.to_vec(), fuel, asker: Some(Subnet::host(peer)), receipt })
}

/// `contract` hex, `fuel`, and `output` base64 or `failure`; `receipt` base64 if it was asked for. 422 for a failure of
/// the program, 503 for one of ours.
fn told(called: &Called) -> Resource {
    let mut body = json!({ "contract": called.contract.to_string(), "fuel": called.fuel });
    let status = match &called.outcome {
        Ok(output) => {
            body["output"] = BASE64.encode(output).into();
            200
        }
        Err(failure) => {
            let (code, text) = failure.ede();
            body["failure"] = json!({ "code": code as u16, "text": text });
            if failure.is_of_machine() { 503 } else { 422 }
        }
    };
    if let Some(receipt) = &called.receipt {
        body["receipt"] = BASE64.encode(receipt).into();
    }
    Resource::new(status, "application/json", body.to_string() + "\n")
}

pub(super) fn refused(error: &ServiceError) -> Resource {
    let status = match error {
        ServiceError::Bad(_) => 400,
        ServiceError::OutOfGas(_) => 402,
        ServiceError::NotFound(_) => 404,
        ServiceError::Overdrawn(_) => 429,
        ServiceError::Busy => 503,
        ServiceError::Fault(_) | ServiceError::Broken => 500,
    };
    let retry_after = match error {
        ServiceError::Overdrawn(overdrawn) => Some(overdrawn.seconds),
        ServiceError::Busy => Some(1),
        _ => None,
    };
    Resource { retry_after, ..Resource::new(status, "text/plain; charset=utf-8", format!("{error}\n")) }
}
