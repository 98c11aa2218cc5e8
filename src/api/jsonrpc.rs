//! JSON-RPC 2.0 over the service: a codec, nothing else.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use data_encoding::BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{LoadView, PAGE, Service, ServiceError, http, log};
use crate::state::Work;
use crate::transport::{BoxFuture, Resource, RpcHandler};
use crate::wire::Subnet;
use crate::writer::Outcome;

/// Calls in one batch.
const BATCH: usize = 32;

/// The JSON-RPC door.
pub struct Rpc {
    pub service: Arc<Service>,
}

/// A JSON-RPC error object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Fail {
    code: i32,
    message: String,
}

impl RpcHandler for Rpc {
    fn code(&self, hash: String) -> BoxFuture<Resource> {
        let service = self.service.clone();
        Box::pin(async move { http::code(&service, &hash) })
    }

    fn run(&self, name: String, query: String, input: Bytes, peer: IpAddr) -> BoxFuture<Resource> {
        Box::pin(http::call(self.service.clone(), name, query, input, peer))
    }

    fn log(&self, path: String) -> BoxFuture<Resource> {
        let service = self.service.clone();
        blocking(move || log::get(&service, &path))
    }

    fn cosign(&self, note: Bytes) -> BoxFuture<Resource> {
        let service = self.service.clone();
        blocking(move || log::cosign(&service, &note))
    }

    fn call(&self, body: Bytes, peer: IpAddr) -> BoxFuture<Bytes> {
        let rpc = Self { service: self.service.clone() };
        Box::pin(async move { rpc.answer(&body, peer).await.into() })
    }
}

/// A resource that takes a while to make: off the runtime's threads.
fn blocking(make: impl FnOnce() -> Resource + Send + 'static) -> BoxFuture<Resource> {
    let failed = |_| http::refused(&ServiceError::Bad("it could not be made".into()));
    Box::pin(async move { tokio::task::spawn_blocking(make).await.unwrap_or_else(failed) })
}

#[derive(Deserialize)]
struct Call {
    jsonrpc: String,
    method: String,
    #[serde(default)]
    params: Value,
    /// Absent for a notification, which is carried out and not answered.
    #[serde(default, deserialize_with = "present")]
    id: Option<Value>,
}

/// Tells `"id": null` from no id at all.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubmitParams {
    /// Signed ops, base64.
    ops: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DidParams {
    did: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DidsParams {
    dids: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NameParams {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestParams {
    /// A signed request, base64.
    request: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReceiptParams {
    name: String,
    #[serde(rename = "type")]
    rtype: String,
    /// An address or prefix to answer for, or `none` [default: the caller's]
    #[serde(default)]
    client: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HashParams {
    hash: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListParams {
    #[serde(default)]
    after: Option<String>,
    #[serde(default)]
    owner: Option<String>,
    #[serde(default = "page")]
    limit: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProofParams {
    seq: u64,
    #[serde(default)]
    size: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsistencyParams {
    from: u64,
    #[serde(default)]
    to: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NameHistoryParams {
    name: String,
    #[serde(default)]
    from: u64,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default = "page")]
    limit: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogParams {
    from: u64,
    #[serde(default = "page")]
    limit: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenParams {
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QuoteParams {
    kind: String,
    #[serde(default)]
    name: Option<String>,
    bytes: usize,
    #[serde(default)]
    rrsigs: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HistoryParams {
    did: String,
    #[serde(default)]
    before: Option<u64>,
    #[serde(default = "page")]
    limit: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HoldsParams {
    did: String,
    #[serde(default)]
    after: u64,
    #[serde(default = "page")]
    limit: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetParams {
    set: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AttestationsParams {
    by: String,
    #[serde(default)]
    after: Option<String>,
    #[serde(default = "page")]
    limit: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UsageParams {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    after: Option<String>,
    #[serde(default = "page")]
    limit: usize,
}

fn page() -> usize {
    PAGE
}

impl Rpc {
    /// Answers one request body, a call or a batch of at most 32; empty if there is nothing to answer.
    pub async fn answer(&self, body: &[u8], peer: IpAddr) -> Vec<u8> {
        let reply = match serde_json::from_slice::<Value>(body) {
            Err(error) => Some(failed(Value::Null, fail(-32700, format!("not JSON: {error}")))),
            Ok(Value::Array(calls)) => self.batch(calls, peer).await,
            Ok(call) => self.one(call, peer).await,
        };
        reply.map(|reply| reply.to_string().into_bytes()).unwrap_or_default()
    }

    async fn batch(&self, calls: Vec<Value>, peer: IpAddr) -> Option<Value> {
        if calls.is_empty() || calls.len() > BATCH {
            return Some(failed(Value::Null, fail(-32600, format!("a batch has 1 to {BATCH} calls"))));
        }
        let mut replies = Vec::new();
        for call in calls {
            replies.extend(self.one(call, peer).await);
        }
        (!replies.is_empty()).then_some(Value::Array(replies))
    }

    async fn one(&self, call: Value, peer: IpAddr) -> Option<Value> {
        let call: Call = match serde_json::from_value(call) {
            Ok(call) => call,
            Err(error) => return Some(failed(Value::Null, fail(-32600, format!("not a call: {error}")))),
        };
        let id = call.id.clone();
        let result = if call.jsonrpc == "2.0" {
            self.dispatch(&call.method, call.params, peer).await
        } else {
            Err(fail(-32600, "jsonrpc must be \"2.0\"".into()))
        };
        let id = id?;
        Some(match result {
            Ok(result) => json!({ "jsonrpc": "2.0", "result": result, "id": id }),
            Err(error) => failed(id, error),
        })
    }

    async fn dispatch(&self, method: &str, params: Value, peer: IpAddr) -> Result<Value, Fail> {
        let service = &self.service;
        match method {
            "registry.info" => out(service.info()),
            "op.submit" => self.submit(params_of(params)?, peer).await,
            "account.get" => out(service.account(&params_of::<DidParams>(params)?.did)),
            "account.list" => out(service.accounts(&params_of::<DidsParams>(params)?.dids)),
            "name.get" => out(service.name(&params_of::<NameParams>(params)?.name)),
            "name.terms" => out(service.terms(&params_of::<NameParams>(params)?.name)),
            "account.commitments" => out(service.commitments(&params_of::<DidParams>(params)?.did)),
            "name.list" => {
                let ListParams { after, owner, limit } = params_of(params)?;
                out(service.names(after.as_deref(), owner.as_deref(), limit))
            }
            "record.list" => out(service.records(&params_of::<NameParams>(params)?.name)),
            "update.keys" => out(service.update_keys(&params_of::<NameParams>(params)?.name)),
            "update.secret" => {
                let request = params_of::<RequestParams>(params)?.request;
                let request = BASE64.decode(request.as_bytes());
                out(service.update_secret(&request.map_err(|error| fail(-32602, format!("request: {error}")))?))
            }
            "contract.get" => out(service.contract(&params_of::<HashParams>(params)?.hash)),
            "covenant.list" => out(service.covenants(&params_of::<NameParams>(params)?.name)),
            "answer.receipt" => {
                let ReceiptParams { name, rtype, client } = params_of(params)?;
                let asker = match client.as_deref() {
                    None => Some(Subnet::host(peer)),
                    Some("none") => None,
                    Some(client) => Some(client.parse().map_err(|why| fail(-32602, why))?),
                };
                let receipt = service.receipt(&name, &rtype, asker).await;
                out(receipt.map(|receipt| json!({ "receipt": BASE64.encode(&receipt) })))
            }
            "zone.export" => {
                let name = params_of::<NameParams>(params)?.name;
                let service = service.clone();
                // Reading and signing a TLD takes seconds: off the runtime's threads.
                let exported = tokio::task::spawn_blocking(move || service.zone(&name)).await;
                out(exported.map_err(|_| fail(-32603, "the export failed".into()))?)
            }
            "op.quote" => {
                let QuoteParams { kind, name, bytes, rrsigs } = params_of(params)?;
                out(service.quote(&kind, name.as_deref(), Work { bytes, rrsigs }))
            }
            "mana.load" => out(service.load().map(LoadView::from)),
            "token.get" => out(service.token(&params_of::<TokenParams>(params)?.token)),
            "token.list" => out(service.tokens()),
            "ledger.balances" => out(service.balances(&params_of::<DidParams>(params)?.did)),
            "ledger.history" => {
                let HistoryParams { did, before, limit } = params_of(params)?;
                out(service.moves(&did, before, limit))
            }
            "ledger.holds" => {
                let HoldsParams { did, after, limit } = params_of(params)?;
                out(service.holds(&did, after, limit))
            }
            "set.get" => out(service.guardian_set(&params_of::<SetParams>(params)?.set)),
            "attestor.list" => out(service.attestors()),
            "attestation.list" => {
                let AttestationsParams { by, after, limit } = params_of(params)?;
                out(service.attestations(&by, after.as_deref(), limit))
            }
            "gas.info" => out(service.gas()),
            "gas.usage" => {
                let UsageParams { name, after, limit } = params_of(params)?;
                out(service.usage(name.as_deref(), after.as_deref(), limit))
            }
            "name.history" => {
                let NameHistoryParams { name, from, size, limit } = params_of(params)?;
                out(service.history(&name, from, size, limit))
            }
            "log.checkpoint" => out(service.checkpoint()),
            "log.proof" => {
                let ProofParams { seq, size } = params_of(params)?;
                out(service.proof(seq, size))
            }
            "log.consistency" => {
                let ConsistencyParams { from, to } = params_of(params)?;
                out(service.consistency(from, to))
            }
            "log.get" => {
                let LogParams { from, limit } = params_of(params)?;
                out(service.log(from, limit))
            }
            _ => Err(fail(-32601, format!("no method {method:?}"))),
        }
    }

    async fn submit(&self, params: SubmitParams, peer: IpAddr) -> Result<Value, Fail> {
        let decode = |text: &String| BASE64.decode(text.as_bytes());
        let ops = params.ops.iter().map(decode).collect::<Result<Vec<_>, _>>();
        let ops = ops.map_err(|error| fail(-32602, format!("ops must be base64: {error}")))?;
        let outcomes = self.service.submit(ops, peer).await.map_err(|error| service_fail(&error))?;
        Ok(Value::Array(outcomes.iter().map(outcome_json).collect()))
    }
}

/// `{"seq", "time"}` of an accepted op, `{"code", "message"}` of a rejected one.
fn outcome_json(outcome: &Outcome) -> Value {
    match outcome {
        Ok(receipt) => json!({ "seq": receipt.seq, "time": receipt.time }),
        Err(rejection) => json!({ "code": rejection.code(), "message": rejection.to_string() }),
    }
}

fn params_of<T: DeserializeOwned>(params: Value) -> Result<T, Fail> {
    // No params at all means no parameters.
    let params = if params.is_null() { json!({}) } else { params };
    serde_json::from_value(params).map_err(|error| fail(-32602, error.to_string()))
}

fn out<T: Serialize>(result: Result<T, ServiceError>) -> Result<Value, Fail> {
    let value = result.map_err(|error| service_fail(&error))?;
    serde_json::to_value(value).map_err(|error| fail(-32603, error.to_string()))
}

/// -32602 for what the caller can mend, -32001 for what is not there, -32603 for a fault of ours.
fn service_fail(error: &ServiceError) -> Fail {
    let code = match error {
        ServiceError::Bad(_) => -32602,
        ServiceError::NotFound(_) => -32001,
        ServiceError::Busy => -32002,
        ServiceError::OutOfGas(_) => -32003,
        ServiceError::Fault(_) => -32603,
    };
    fail(code, error.to_string())
}

fn fail(code: i32, message: String) -> Fail {
    Fail { code, message }
}

fn failed(id: Value, error: Fail) -> Value {
    json!({ "jsonrpc": "2.0", "error": error, "id": id })
}
