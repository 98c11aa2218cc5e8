//! JSON-RPC 2.0 over the service: a codec, nothing else. A body is looked at before it is parsed, its calls are steps of a
//! job of [`Workers`], and each is made only if its client's budget has something left.

use std::sync::Arc;

use bytes::Bytes;
use data_encoding::BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::workers::{Undone, Workers, next_step};
use super::{LoadView, PAGE, Page, Service, ServiceError, http, log};
use crate::limits::{MAX_BATCH_REPLY, MAX_EXPORT, MAX_JSON_DEPTH, MAX_JSON_VALUES};
use crate::state::Work;
use crate::transport::{ApiRequest, BoxFuture, Caller, Resource, RpcHandler};
use crate::wire::Subnet;
use crate::writer::Outcome;

/// Calls in one batch.
const BATCH: usize = 32;

const JSON: &str = "application/json";

/// The JSON-RPC door, and those to what is fetched and called by its path.
pub struct Rpc {
    service: Arc<Service>,
    workers: Workers,
}

/// A JSON-RPC error object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Fail {
    code: i32,
    message: String,
}

/// The result of a call: JSON, and where its next page begins.
struct Given {
    result: Vec<u8>,
    next: Option<String>,
}

type Reply = Result<Given, Fail>;

impl RpcHandler for Rpc {
    fn serve(&self, request: ApiRequest, caller: Caller) -> BoxFuture<Resource> {
        let (client, budget, service) = (caller.client.addr.into(), caller.budget.clone(), self.service.clone());
        let is_rpc = matches!(request, ApiRequest::Rpc(_));
        let done = self.workers.do_for(client, budget, respond(service, request, caller));
        Box::pin(async move { done.await.unwrap_or_else(|undone| not_done(undone, is_rpc)) })
    }
}

async fn respond(service: Arc<Service>, request: ApiRequest, caller: Caller) -> Resource {
    // Other work may have overdrawn the client's budget while this job waited. A JSON-RPC body is checked call by call.
    if !matches!(request, ApiRequest::Rpc(_))
        && let Err(overdrawn) = caller.budget.check()
    {
        return http::refused(&overdrawn.into());
    }
    match request {
        ApiRequest::Rpc(body) => match answer(&service, &body, &caller).await {
            reply if reply.is_empty() => Resource::new(204, JSON, reply),
            reply => Resource::new(200, JSON, reply),
        },
        ApiRequest::Code(hash) => http::code(&service, &hash),
        ApiRequest::Call { name, query, input } => http::call(&service, &name, &query, input, &caller).await,
        ApiRequest::Log(path) => log::get(&service, &path),
        ApiRequest::Cosign(note) => log::cosign(&service, &note),
    }
}

fn not_done(undone: Undone, is_rpc: bool) -> Resource {
    let error = match undone {
        Undone::Busy => ServiceError::Busy,
        Undone::Failed => ServiceError::Broken,
    };
    let mut resource = http::refused(&error);
    if is_rpc {
        (resource.content_type, resource.body) = (JSON, failed(&Value::Null, &service_fail(&error)).into());
    }
    resource
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
struct RecordsParams {
    name: String,
    #[serde(default)]
    after: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BalancesParams {
    did: String,
    #[serde(default)]
    after: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PageParams {
    #[serde(default)]
    after: Option<String>,
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
    /// An address or prefix to answer for, or `none` [default: the caller's]. Another's only for resolvers of `ecs_from`.
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
    #[serde(default, deserialize_with = "number")]
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

/// A number, or one in a string as `next` has it.
fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
    number.ok_or_else(|| serde::de::Error::custom("after must be a number"))
}

impl Rpc {
    /// With workers of its own.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(service: Arc<Service>) -> std::io::Result<Self> {
        Ok(Self { service, workers: Workers::start()? })
    }
}

/// Answers one request body, a call or a batch of at most 32; empty if there is nothing to answer.
async fn answer(service: &Arc<Service>, body: &Bytes, caller: &Caller) -> Vec<u8> {
    if let Err(why) = check_shape(body) {
        return failed(&Value::Null, &fail(-32600, why));
    }
    match serde_json::from_slice::<Value>(body) {
        Err(error) => failed(&Value::Null, &fail(-32700, format!("not JSON: {error}"))),
        Ok(Value::Array(calls)) => batch(service, calls, caller).await,
        Ok(call) => one(service, call, caller, MAX_RESULT).await.unwrap_or_default(),
    }
}

/// Octets of the longest result: an exported zone, whose lines are escaped.
const MAX_RESULT: usize = 2 * MAX_EXPORT;

/// Checks the depth and the number of values of a body in one pass, before it is parsed. A parsed value takes
/// many times its octets.
fn check_shape(body: &[u8]) -> Result<(), String> {
    let (mut depth, mut values, mut at) = (0usize, 1usize, 0);
    while let Some(octet) = body.get(at) {
        match octet {
            b'[' | b'{' => (depth, values) = (depth + 1, values + 1),
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' | b':' => values += 1,
            b'"' => at = end_of_string(body, at),
            _ => {}
        }
        if depth > MAX_JSON_DEPTH || values > MAX_JSON_VALUES {
            return Err(format!("a body has at most {MAX_JSON_VALUES} values, nested {MAX_JSON_DEPTH} deep"));
        }
        at += 1;
    }
    Ok(())
}

/// Where the string that begins at `start` ends.
fn end_of_string(body: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(octet) = body.get(at) {
        match octet {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

async fn batch(service: &Arc<Service>, calls: Vec<Value>, caller: &Caller) -> Vec<u8> {
    if calls.is_empty() || calls.len() > BATCH {
        return failed(&Value::Null, &fail(-32600, format!("a batch has 1 to {BATCH} calls")));
    }
    let mut replies = Vec::new();
    for call in calls {
        let room = MAX_BATCH_REPLY.saturating_sub(replies.len());
        if let Some(reply) = one(service, call, caller, room).await {
            replies.push(if replies.is_empty() { b'[' } else { b',' });
            replies.extend(reply);
        }
        next_step().await;
    }
    if !replies.is_empty() {
        replies.push(b']');
    }
    replies
}

/// The reply to one call whose result has at most `room` octets.
async fn one(service: &Arc<Service>, call: Value, caller: &Caller, room: usize) -> Option<Vec<u8>> {
    let call: Call = match serde_json::from_value(call) {
        Ok(call) => call,
        Err(error) => return Some(failed(&Value::Null, &fail(-32600, format!("not a call: {error}")))),
    };
    let result = match caller.budget.check() {
        _ if call.jsonrpc != "2.0" => Err(fail(-32600, "jsonrpc must be \"2.0\"".into())),
        _ if room == 0 => Err(too_long()),
        Err(overdrawn) => Err(service_fail(&overdrawn.into())),
        Ok(()) => dispatch(service, &call.method, call.params, caller).await,
    };
    let id = call.id?;
    Some(match result {
        Ok(given) if given.result.len() > room => failed(&id, &too_long()),
        Ok(given) => succeeded(&id, &given),
        Err(error) => failed(&id, &error),
    })
}

fn too_long() -> Fail {
    fail(-32005, format!("the results of a batch have at most {MAX_BATCH_REPLY} octets; ask for this in another"))
}

fn succeeded(id: &Value, given: &Given) -> Vec<u8> {
    let next = given.next.as_ref().map(|next| format!(",\"next\":{}", Value::from(next.as_str()))).unwrap_or_default();
    let mut reply = b"{\"jsonrpc\":\"2.0\",\"result\":".to_vec();
    reply.extend_from_slice(&given.result);
    reply.extend_from_slice(format!("{next},\"id\":{id}}}").as_bytes());
    reply
}

async fn dispatch(service: &Arc<Service>, method: &str, params: Value, caller: &Caller) -> Reply {
    match method {
        "registry.info" => out(service.info()),
        "op.submit" => submit(service, params_of(params)?, caller).await,
        "account.get" => out(service.account(&params_of::<DidParams>(params)?.did)),
        "account.list" => out(service.accounts(&params_of::<DidsParams>(params)?.dids)),
        "name.get" => out(service.name(&params_of::<NameParams>(params)?.name)),
        "name.terms" => out(service.terms(&params_of::<NameParams>(params)?.name)),
        "account.commitments" => out(service.commitments(&params_of::<DidParams>(params)?.did)),
        "name.list" => {
            let ListParams { after, owner, limit } = params_of(params)?;
            page_out(service.names(after.as_deref(), owner.as_deref(), limit))
        }
        "record.list" => {
            let RecordsParams { name, after } = params_of(params)?;
            page_out(service.records(&name, after.as_deref()))
        }
        "update.keys" => out(service.update_keys(&params_of::<NameParams>(params)?.name)),
        "update.secret" => {
            let request = params_of::<RequestParams>(params)?.request;
            let request = BASE64.decode(request.as_bytes());
            out(service.update_secret(&request.map_err(|error| fail(-32602, format!("request: {error}")))?))
        }
        "contract.get" => out(service.contract(&params_of::<HashParams>(params)?.hash)),
        "covenant.list" => out(service.covenants(&params_of::<NameParams>(params)?.name)),
        "answer.receipt" => receipt(service, params_of(params)?, caller).await,
        "zone.export" => {
            let text = service.zone(&params_of::<NameParams>(params)?.name, &caller.budget).await;
            out(text.as_deref().map_err(Clone::clone))
        }
        "op.quote" => {
            let QuoteParams { kind, name, bytes, rrsigs } = params_of(params)?;
            out(service.quote(&kind, name.as_deref(), Work { bytes, rrsigs }))
        }
        "mana.load" => out(service.load().map(LoadView::from)),
        "gas.info" => out(service.gas()),
        _ => dispatch_ledger(service, method, params),
    }
}

/// Methods of the ledger, the guardians and the log.
fn dispatch_ledger(service: &Arc<Service>, method: &str, params: Value) -> Reply {
    match method {
        "token.get" => out(service.token(&params_of::<TokenParams>(params)?.token)),
        "token.list" => page_out(service.tokens(params_of::<PageParams>(params)?.after.as_deref())),
        "ledger.balances" => {
            let BalancesParams { did, after } = params_of(params)?;
            page_out(service.balances(&did, after.as_deref()))
        }
        "ledger.history" => {
            let HistoryParams { did, before, limit } = params_of(params)?;
            out(service.moves(&did, before, limit))
        }
        "ledger.holds" => {
            let HoldsParams { did, after, limit } = params_of(params)?;
            page_out(service.holds(&did, after, limit))
        }
        "set.get" => out(service.guardian_set(&params_of::<SetParams>(params)?.set)),
        "attestor.list" => page_out(service.attestors(params_of::<PageParams>(params)?.after.as_deref())),
        "attestation.list" => {
            let AttestationsParams { by, after, limit } = params_of(params)?;
            out(service.attestations(&by, after.as_deref(), limit))
        }
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

async fn submit(service: &Arc<Service>, params: SubmitParams, caller: &Caller) -> Reply {
    let decode = |text: &String| BASE64.decode(text.as_bytes());
    let ops = params.ops.iter().map(decode).collect::<Result<Vec<_>, _>>();
    let ops = ops.map_err(|error| fail(-32602, format!("ops must be base64: {error}")))?;
    let outcomes = service.submit(ops, caller.client.addr).await.map_err(|error| service_fail(&error))?;
    out(Ok(outcomes.iter().map(outcome_json).collect::<Vec<_>>()))
}

async fn receipt(service: &Arc<Service>, params: ReceiptParams, caller: &Caller) -> Reply {
    let ReceiptParams { name, rtype, client } = params;
    let asker = match client.as_deref() {
        None => Some(Subnet::host(caller.client.addr)),
        Some("none") => None,
        Some(client) => Some(asked_for(service, client, caller).map_err(|why| fail(-32602, why))?),
    };
    let receipt = service.receipt(&name, &rtype, asker, &caller.budget).await;
    out(receipt.map(|receipt| json!({ "receipt": BASE64.encode(&receipt) })))
}

/// The subnet that a caller names: its own, or anybody's if the operator has named the caller (`ecs_from`). Otherwise
/// strangers could read by a receipt what a contract tells another network only.
fn asked_for(service: &Service, client: &str, caller: &Caller) -> Result<Subnet, String> {
    let (subnet, addr) = (client.parse::<Subnet>()?, caller.client.addr.to_canonical());
    if Subnet::new(addr, subnet.bits()) == subnet || service.gateway.engine().speaks_for_subnets(addr) {
        return Ok(subnet);
    }
    Err(format!("{subnet} is not your network; ask from there, or have the operator name you in ecs_from"))
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

fn out<T: Serialize>(result: Result<T, ServiceError>) -> Reply {
    let value = result.map_err(|error| service_fail(&error))?;
    let result = serde_json::to_vec(&value).map_err(|error| fail(-32603, error.to_string()))?;
    Ok(Given { result, next: None })
}

fn page_out<T: Serialize>(result: Result<Page<T>, ServiceError>) -> Reply {
    let Page { rows, next } = result.map_err(|error| service_fail(&error))?;
    Ok(Given { next, ..out(Ok(rows))? })
}

/// -32602 for what the caller can mend, -32001 for what is not there, -32603 for a fault of ours.
fn service_fail(error: &ServiceError) -> Fail {
    let code = match error {
        ServiceError::Bad(_) => -32602,
        ServiceError::NotFound(_) => -32001,
        ServiceError::Busy => -32002,
        ServiceError::OutOfGas(_) => -32003,
        ServiceError::Overdrawn(_) => -32004,
        ServiceError::Fault(_) | ServiceError::Broken => -32603,
    };
    fail(code, error.to_string())
}

fn fail(code: i32, message: String) -> Fail {
    Fail { code, message }
}

fn failed(id: &Value, error: &Fail) -> Vec<u8> {
    json!({ "jsonrpc": "2.0", "error": error, "id": id }).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_bounded_before_it_is_parsed() {
        let values = |count: usize| format!("[{}0]", "0,".repeat(count));
        assert_eq!(check_shape(values(MAX_JSON_VALUES - 2).as_bytes()), Ok(()));
        assert!(check_shape(values(MAX_JSON_VALUES).as_bytes()).is_err());
        let keys: String = (0..MAX_JSON_VALUES / 2).map(|n| format!("\"{n}\":0,")).collect();
        assert!(check_shape(format!("{{{keys}\"x\":0}}").as_bytes()).is_err());
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(check_shape(nested(MAX_JSON_DEPTH).as_bytes()), Ok(()));
        assert!(check_shape(nested(MAX_JSON_DEPTH + 1).as_bytes()).is_err());
        assert!(check_shape(&[b'['; 1 << 20]).is_err());
    }

    #[test]
    fn what_stands_in_strings_is_no_value() {
        let text = format!("[\"{}\\\"{}\",\"\\\\\"]", "[,:{".repeat(MAX_JSON_VALUES), ",".repeat(MAX_JSON_VALUES));
        assert!(serde_json::from_str::<Value>(&text).is_ok());
        assert_eq!(check_shape(text.as_bytes()), Ok(()));
        // A string without an end is left to the parser.
        assert_eq!((check_shape(b"[\"\\"), check_shape(b"\"")), (Ok(()), Ok(())));
    }

    #[test]
    fn a_reply_is_json_with_the_next_page_beside_the_result() {
        let given = |next: Option<&str>| Given { result: b"[1]".to_vec(), next: next.map(str::to_owned) };
        let told = |next| serde_json::from_slice::<Value>(&succeeded(&json!("i\"d"), &given(next))).unwrap();
        assert_eq!(told(None), json!({ "jsonrpc": "2.0", "result": [1], "id": "i\"d" }));
        assert_eq!(told(Some("a\"b"))["next"], "a\"b");
    }
}
