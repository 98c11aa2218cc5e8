//! What is fetched and called by its path: `GET /contract/HASH`, `POST /v1/call/NAME`.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use data_encoding::BASE64;
use serde_json::json;

use super::{Service, ServiceError};
use crate::contract::Failure;
use crate::gateway::{Call, Called};
use crate::limits::CONTRACT_FUEL;
use crate::transport::Resource;
use crate::wire::{Name, Subnet};

/// The code of a contract. What its SHA-256 names never changes.
pub(super) fn code(service: &Service, hash: &str) -> Resource {
    match service.code(hash) {
        Ok(code) => Resource { status: 200, content_type: "application/wasm", immutable: true, body: code.into() },
        Err(error) => refused(&error),
    }
}

/// A call: `gas=FUEL` and `receipt=1` in the query string, octets in, JSON out.
pub(super) async fn call(service: Arc<Service>, path: String, query: String, input: Bytes, peer: IpAddr) -> Resource {
    let call = match parse(&path, &query, input, peer) {
        Ok(call) => call,
        Err(error) => return refused(&error),
    };
    match service.call(call).await {
        Ok(called) => told(&called),
        Err(error) => refused(&error),
    }
}

fn parse(path: &str, query: &str, input: Bytes, peer: IpAddr) -> Result<Call, ServiceError> {
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
            if matches!(failure, Failure::Busy | Failure::Deadline | Failure::ReadFault(_)) { 503 } else { 422 }
        }
    };
    if let Some(receipt) = &called.receipt {
        body["receipt"] = BASE64.encode(receipt).into();
    }
    let body = (body.to_string() + "\n").into();
    Resource { status, content_type: "application/json", immutable: false, body }
}

pub(super) fn refused(error: &ServiceError) -> Resource {
    let status = match error {
        ServiceError::Bad(_) => 400,
        ServiceError::OutOfGas(_) => 402,
        ServiceError::NotFound(_) => 404,
        ServiceError::Busy => 503,
        ServiceError::Fault(_) => 500,
    };
    let body = format!("{error}\n").into();
    Resource { status, content_type: "text/plain; charset=utf-8", immutable: false, body }
}
