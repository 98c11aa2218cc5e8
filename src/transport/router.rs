//! One router for HTTP/1.1, HTTP/2 and HTTP/3: DNS over HTTPS (RFC 8484), DNSSEC chains, contracts and JSON-RPC.

use std::future::Future;

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use http::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, ORIGIN,
    RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode};
use tokio::time::timeout;

use super::admission::Kept;
use super::hosts;
use super::json::{Form, JsonError, JsonQuestion};
use super::{ApiRequest, Caller, Edge, Resource};
use crate::gateway::Client;
use crate::limits::{
    CONTRACT_INPUT, MAX_DOH_BODY, MAX_JSON_QUERY, MAX_NOTE, MAX_RPC_BODY, MAX_RPC_CALL, REQUEST_TIMEOUT,
};
use crate::wire::{Name, Rcode, Reply, Rtype};
use crate::work::{Budget, Cost, Overdrawn};

/// Path of DNS over HTTPS.
pub const DOH_PATH: &str = "/dns-query";
/// Path of DNS in JSON; at [`DOH_PATH`], too, where there is a `name` and no `dns`.
pub const RESOLVE_PATH: &str = "/resolve";
/// Path of JSON-RPC.
pub const RPC_PATH: &str = "/rpc";
/// Path of DNSSEC chains: `/chain/NAME/TYPE`.
pub const CHAIN_PATH: &str = "/chain/";
/// Path of contracts' code: `/contract/HASH`.
pub const CODE_PATH: &str = "/contract/";
/// Path of programs: `/v1/call/NAME`.
pub const CALL_PATH: &str = "/v1/call/";
/// Path of the log (C2SP tlog-tiles): `/log/checkpoint`, `/log/tile/…`.
pub const LOG_PATH: &str = "/log/";
/// Path that witnesses send their cosignatures to.
pub const COSIGN_PATH: &str = "/log/add-cosignatures";
/// Octets of all request headers.
pub const MAX_HEADERS: usize = 16 << 10;

const DNS_MESSAGE: &str = "application/dns-message";
const JSON: &str = "application/json";
const OCTETS: &str = "application/octet-stream";
/// Characters of `dns=`, without padding.
const MAX_DNS_PARAMETER: usize = (MAX_DOH_BODY * 4).div_ceil(3);

/// The client went away or broke HTTP: nobody to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyGone;

/// The request body of whichever HTTP it came over.
pub trait BodySource: Send {
    /// The next piece; `None` at the end.
    fn chunk(&mut self) -> impl Future<Output = Result<Option<Bytes>, BodyGone>> + Send;
}

/// Answers one request. Whatever the client did wrong is a response, too.
///
/// # Errors
/// [`BodyGone`]: nobody is left to answer.
pub async fn route(
    edge: &Edge,
    client: Client,
    parts: &Parts,
    body: &mut impl BodySource,
) -> Result<Response<Bytes>, BodyGone> {
    let answered = match parts.uri.path() {
        DOH_PATH => doh(edge, client, parts, body).await,
        path => Box::pin(other(edge, client, parts, body, path)).await,
    };
    let mut response = match answered {
        Ok(response) => response,
        Err(Problem::Gone) => return Err(BodyGone),
        Err(problem) => problem.response(),
    };
    if response.status() != StatusCode::NO_CONTENT {
        let length = response.body().len();
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
    }
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if parts.method == Method::HEAD {
        *response.body_mut() = Bytes::new();
    }
    let body = std::mem::take(response.body_mut());
    Ok(match edge.hold(client, body) {
        Some(held) => response.map(|_| held),
        None => Problem::Untaken.response(),
    })
}

/// What is asked for less often than DNS. Boxed where it is called, so that a question's task is no larger for it.
async fn other(
    edge: &Edge,
    client: Client,
    parts: &Parts,
    body: &mut impl BodySource,
    path: &str,
) -> Result<Response<Bytes>, Problem> {
    if path == RESOLVE_PATH {
        return json(edge, client, parts).await;
    }
    if !hosts::authority(parts).is_none_or(|authority| edge.hosts.allow(authority)) {
        return Err(Problem::OtherHost);
    }
    match path {
        RPC_PATH => rpc(edge, client, parts, body).await,
        COSIGN_PATH => cosign(edge, client, parts, body).await,
        path if path.starts_with(LOG_PATH) => log(edge, client, parts).await,
        path if path.starts_with(CHAIN_PATH) => chain(edge, client, parts).await,
        path if path.starts_with(CODE_PATH) => code(edge, client, parts).await,
        path if path.starts_with(CALL_PATH) => call(edge, client, parts, body).await,
        _ => Err(Problem::NotFound),
    }
}

fn is_read(parts: &Parts) -> bool {
    parts.method == Method::GET || parts.method == Method::HEAD
}

async fn doh(
    edge: &Edge,
    client: Client,
    parts: &Parts,
    body: &mut impl BodySource,
) -> Result<Response<Bytes>, Problem> {
    let message = match parts.method {
        Method::GET | Method::HEAD => match dns_parameter(parts.uri.query()) {
            Err(Problem::NoDnsParameter) if has_parameter(parts, "name") => {
                return Box::pin(json(edge, client, parts)).await;
            }
            message => message?,
        },
        Method::POST => {
            require_type(&parts.headers, DNS_MESSAGE)?;
            let caller = Caller { client, budget: Budget::unlimited() };
            read_body(edge, &caller, &parts.headers, body, Limit::of(MAX_DOH_BODY)).await?
        }
        _ => return Err(Problem::Method("GET, HEAD, POST")),
    };
    if !edge.admit(client) {
        return Err(Problem::Limited);
    }
    let reply = edge.answer(&message, client).await.ok_or(Problem::NotAQuery)?;
    let open = is_read(parts) && edge.answerer.is_public(&reply);
    Ok(opened(dns_response(reply), open))
}

/// A question in the query string, answered in JSON, or in whichever form is asked for.
async fn json(edge: &Edge, client: Client, parts: &Parts) -> Result<Response<Bytes>, Problem> {
    if !is_read(parts) {
        return Err(Problem::Method("GET, HEAD"));
    }
    let query = parts.uri.query().unwrap_or_default();
    if query.len() > MAX_JSON_QUERY {
        return Err(Problem::QueryTooLong);
    }
    let question = JsonQuestion::parse(query)?;
    if !edge.admit(client) {
        return Err(Problem::Limited);
    }
    let reply = edge.answer(&question.message(), client).await.ok_or(Problem::NotAQuery)?;
    let accept = parts.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let open = edge.answerer.is_public(&reply);
    let form = question.form.or_else(|| Form::accepted(accept)).unwrap_or(Form::DnsJson);
    let mut response = match form {
        Form::Message => dns_response(reply),
        Form::DnsJson | Form::Json => json_response(&question, form, &reply).ok_or(Problem::NotAQuery)?,
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("accept"));
    Ok(opened(response, open))
}

/// Lets any web page read the response if it is `open`: an answer under our TLDs that is the same for everybody. A
/// forwarded answer may have names that only this network knows. (A POST's media type needs a CORS preflight, which
/// gets no leave.)
fn opened(mut response: Response<Bytes>, open: bool) -> Response<Bytes> {
    if open {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
    response
}

fn json_response(question: &JsonQuestion, form: Form, reply: &Reply) -> Option<Response<Bytes>> {
    let mut response = Response::new(question.answer(&reply.wire)?);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(form.media_type()));
    headers.insert(CACHE_CONTROL, freshness(reply));
    Some(response)
}

fn has_parameter(parts: &Parts, key: &str) -> bool {
    let pairs = parts.uri.query().unwrap_or_default().split('&');
    pairs.filter_map(|pair| pair.split_once('=')).any(|(found, _)| found == key)
}

/// The answer to one question with every RRset and RRSIG up to the TLD's keys (RFC 9102 §3.4).
async fn chain(edge: &Edge, client: Client, parts: &Parts) -> Result<Response<Bytes>, Problem> {
    if !is_read(parts) {
        return Err(Problem::Method("GET, HEAD"));
    }
    let question = parts.uri.path().strip_prefix(CHAIN_PATH).and_then(|rest| rest.split_once('/'));
    let (name, rtype) = question.ok_or(Problem::BadChain)?;
    let name = Name::from_uri(name).map_err(|_| Problem::BadChain)?;
    let rtype: Rtype = rtype.parse().map_err(|_| Problem::BadChain)?;
    // Many questions in one: it counts as a call, of which a client has fewer.
    admit_call(edge, client)?;
    let (octets, seconds) = edge.chain(client, name, rtype).await.map_err(|rcode| match rcode {
        Rcode::Refused => Problem::Limited,
        Rcode::ServFail => Problem::NoChain,
        _ => Problem::NotFound,
    })?;
    let mut response = Response::new(Bytes::from(octets));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(CACHE_CONTROL, max_age(seconds));
    Ok(response)
}

fn max_age(seconds: u32) -> HeaderValue {
    cache_control(format!("max-age={seconds}"))
}

/// Digits, commas and ASCII letters are a header value.
fn cache_control(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("no-store"))
}

/// Freshness is the smallest TTL (RFC 8484 §5.1). A cache that others share cannot know for which network an answer is.
fn freshness(reply: &Reply) -> HeaderValue {
    if reply.personal { cache_control(format!("private, max-age={}", reply.ttl)) } else { max_age(reply.ttl) }
}

/// A DNS error is still an HTTP success (RFC 8484 §4.2.1).
fn dns_response(reply: Reply) -> Response<Bytes> {
    let freshness = freshness(&reply);
    let mut response = Response::new(Bytes::from(reply.wire));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(DNS_MESSAGE));
    headers.insert(CACHE_CONTROL, freshness);
    response
}

/// The message of a GET (RFC 8484 §4.1, §6).
fn dns_parameter(query: Option<&str>) -> Result<Bytes, Problem> {
    let pairs = query.unwrap_or_default().split('&');
    let text = pairs.filter_map(|pair| pair.strip_prefix("dns=")).next().ok_or(Problem::NoDnsParameter)?;
    if text.len() > MAX_DNS_PARAMETER {
        return Err(Problem::UriTooLong);
    }
    BASE64URL_NOPAD.decode(text.as_bytes()).map(Bytes::from).map_err(|_| Problem::BadBase64)
}

/// `application/json` is asked for so that a web page cannot call without a CORS preflight, which is
/// never granted.
async fn rpc(
    edge: &Edge,
    client: Client,
    parts: &Parts,
    body: &mut impl BodySource,
) -> Result<Response<Bytes>, Problem> {
    require_post(parts)?;
    require_type(&parts.headers, JSON)?;
    // Before the body: it is the body that costs.
    let caller = admit_call(edge, client)?;
    let body = read_body(edge, &caller, &parts.headers, body, RPC_LIMIT).await?;
    serve(edge, caller, ApiRequest::Rpc(body)).await
}

/// The octets of a contract; whoever fetches them checks their hash.
async fn code(edge: &Edge, client: Client, parts: &Parts) -> Result<Response<Bytes>, Problem> {
    let hash = fetched(parts, CODE_PATH)?;
    serve(edge, admit_call(edge, client)?, ApiRequest::Code(hash)).await
}

/// What a request that fetches something names behind `prefix`.
fn fetched(parts: &Parts, prefix: &str) -> Result<String, Problem> {
    if !is_read(parts) {
        return Err(Problem::Method("GET, HEAD"));
    }
    Ok(parts.uri.path().strip_prefix(prefix).unwrap_or_default().to_owned())
}

/// A part of the log; whoever fetches it checks it against a checkpoint.
async fn log(edge: &Edge, client: Client, parts: &Parts) -> Result<Response<Bytes>, Problem> {
    let path = fetched(parts, LOG_PATH)?;
    serve(edge, admit_call(edge, client)?, ApiRequest::Log(path)).await
}

async fn cosign(
    edge: &Edge,
    client: Client,
    parts: &Parts,
    body: &mut impl BodySource,
) -> Result<Response<Bytes>, Problem> {
    require_post(parts)?;
    let caller = admit_call(edge, client)?;
    let note = read_body(edge, &caller, &parts.headers, body, Limit::of(MAX_NOTE)).await?;
    serve(edge, caller, ApiRequest::Cosign(note)).await
}

/// Octets are asked for so that a web page cannot call without a CORS preflight.
async fn call(
    edge: &Edge,
    client: Client,
    parts: &Parts,
    body: &mut impl BodySource,
) -> Result<Response<Bytes>, Problem> {
    require_post(parts)?;
    require_type(&parts.headers, OCTETS)?;
    let caller = admit_call(edge, client)?;
    if !edge.admission.program(client) {
        edge.metrics.rpc_limited.add(1);
        return Err(Problem::Limited);
    }
    let input = read_body(edge, &caller, &parts.headers, body, Limit::of(CONTRACT_INPUT)).await?;
    let name = parts.uri.path().strip_prefix(CALL_PATH).unwrap_or_default().to_owned();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    serve(edge, caller, ApiRequest::Call { name, query, input }).await
}

/// A POST that no web page of another origin has sent. Browsers say which origin a page is of (RFC 6454 §7).
fn require_post(parts: &Parts) -> Result<(), Problem> {
    if parts.method != Method::POST {
        return Err(Problem::Method("POST"));
    }
    let authority = hosts::authority(parts);
    let own = |origin: &HeaderValue| {
        let host = origin.to_str().ok().and_then(|origin| origin.strip_prefix("https://"));
        host.is_some_and(|host| authority.is_some_and(|authority| host.eq_ignore_ascii_case(authority)))
    };
    if parts.headers.get(ORIGIN).is_none_or(own) { Ok(()) } else { Err(Problem::OtherOrigin) }
}

/// Takes one call from what the client is allowed, and opens its budget.
fn admit_call(edge: &Edge, client: Client) -> Result<Caller, Problem> {
    let limited = |problem| {
        edge.metrics.rpc_limited.add(1);
        problem
    };
    if !edge.admission.rpc(client) {
        return Err(limited(Problem::Limited));
    }
    let budget = edge.admission.budget(client).map_err(|overdrawn| limited(Problem::Overdrawn(overdrawn)))?;
    edge.metrics.rpc_calls.add(1);
    Ok(Caller { client, budget })
}

/// Has others do what is asked for; what leaves is charged, too.
async fn serve(edge: &Edge, caller: Caller, request: ApiRequest) -> Result<Response<Bytes>, Problem> {
    let budget = caller.budget.clone();
    let resource = edge.rpc.serve(request, caller).await;
    budget.charge(Cost::octets(resource.body.len()));
    Ok(response(resource))
}

fn response(resource: Resource) -> Response<Bytes> {
    let mut response = Response::new(resource.body);
    *response.status_mut() = StatusCode::from_u16(resource.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if response.status() == StatusCode::NO_CONTENT {
        return response;
    }
    let cache = if resource.immutable { "public, max-age=31536000, immutable" } else { "no-store" };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(resource.content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    if let Some(seconds) = resource.retry_after {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// Compares the media type, without its parameters.
fn require_type(headers: &HeaderMap, wanted: &'static str) -> Result<(), Problem> {
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(wanted) { Ok(()) } else { Err(Problem::MediaType(wanted)) }
}

/// How long a body may be.
#[derive(Clone, Copy)]
struct Limit {
    octets: usize,
    /// How long one may be that begins so.
    more: Option<(usize, Begins)>,
}

/// Whether a body begins so.
type Begins = fn(&[u8]) -> bool;

impl Limit {
    const fn of(octets: usize) -> Self {
        Self { octets, more: None }
    }

    fn most(self) -> usize {
        self.more.map_or(self.octets, |(most, _)| most)
    }

    /// The same for a body of which this has come.
    fn at(self, begun: &[u8]) -> usize {
        match self.more {
            Some((most, allows)) if begun.len() > self.octets && allows(&begun[..self.octets]) => most,
            _ => self.octets,
        }
    }
}

/// Calls are short, but for those that submit: they say so at their beginning.
const RPC_LIMIT: Limit = Limit { octets: MAX_RPC_CALL, more: Some((MAX_RPC_BODY, names_submit)) };

fn names_submit(begun: &[u8]) -> bool {
    begun.split(|octet| *octet == b'"').any(|part| part == b"op.submit")
}

/// Reads a whole body within `REQUEST_TIMEOUT`. Of one that is a little too long as much again is read and dropped: an
/// HTTP/1.1 client that is still writing would get a reset instead of its answer.
async fn read_body(
    edge: &Edge,
    caller: &Caller,
    headers: &HeaderMap,
    body: &mut impl BodySource,
    limit: Limit,
) -> Result<Bytes, Problem> {
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let longer_than = |octets: usize| announced.is_some_and(|length| length > octets as u64);
    let too_large = |octets| if limit.more.is_some() { Problem::CallTooLarge } else { Problem::TooLarge(octets) };
    if longer_than(2 * limit.most()) {
        return Err(too_large(limit.octets));
    }
    let mut room = Room { edge, client: caller.client, octets: 0, kept: Vec::new() };
    let mut taken = 0;
    let collect = async {
        let (mut whole, mut most) = (Vec::new(), limit.octets);
        while let Some(chunk) = body.chunk().await.map_err(|BodyGone| Problem::Gone)? {
            let before = taken;
            taken += chunk.len();
            if before <= most && !longer_than(limit.most()) {
                room.extend_to(taken)?;
                whole.extend_from_slice(&chunk);
                most = most.max(limit.at(&whole));
            }
            if taken > most {
                whole = Vec::new();
            }
            if taken > 2 * limit.most() {
                break;
            }
        }
        match announced {
            _ if taken > most => Err(too_large(most)),
            // RFC 9114 §4.1.2; hyper sees to it over HTTP/1.1 and 2.
            Some(length) if length != taken as u64 => Err(Problem::Length),
            _ => Ok(whole),
        }
    };
    let whole = timeout(REQUEST_TIMEOUT, collect).await.unwrap_or(Err(Problem::Slow));
    caller.budget.charge(Cost::octets(taken));
    whole.map(|whole| room.hold(whole))
}

/// The memory of a body. It counts with all else that is kept for its client, until the last holder drops the body.
struct Room<'a> {
    edge: &'a Edge,
    client: Client,
    octets: usize,
    kept: Vec<Kept>,
}

impl Room<'_> {
    fn extend_to(&mut self, octets: usize) -> Result<(), Problem> {
        if octets > self.octets {
            // Twice as much each time, as a vector grows: so there are but a few of these.
            let more = octets.max(2 * self.octets) - self.octets;
            self.kept.push(self.edge.admission.keep(self.client, more).ok_or(Problem::Unfinished)?);
            self.octets += more;
        }
        Ok(())
    }

    fn hold(self, octets: Vec<u8>) -> Bytes {
        if octets.is_empty() { Bytes::new() } else { Bytes::from_owner(Body { octets, _kept: self.kept }) }
    }
}

struct Body {
    octets: Vec<u8>,
    _kept: Vec<Kept>,
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.octets
    }
}

/// Requests that get an HTTP error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("the client is gone")]
    Gone,
    #[error(
        "nothing here; DNS is at /dns-query, in JSON at /resolve, chains at /chain/NAME/TYPE, code at /contract/HASH, programs at /v1/call/NAME, the log at /log/checkpoint, JSON-RPC at /rpc"
    )]
    NotFound,
    #[error("this path takes {0}")]
    Method(&'static str),
    #[error("the content type must be {0}")]
    MediaType(&'static str),
    #[error("the body may have {0} octets")]
    TooLarge(usize),
    #[error(
        "a call may have {MAX_RPC_CALL} octets; one that names op.submit within them, in front of its params, {MAX_RPC_BODY}"
    )]
    CallTooLarge,
    #[error("a page of another origin may not do this")]
    OtherOrigin,
    #[error(
        "this server is not called so; ask it by its address or a name of its certificates, or list the name in `hosts`"
    )]
    OtherHost,
    #[error(transparent)]
    Overdrawn(Overdrawn),
    #[error("the dns parameter is too long; use POST")]
    UriTooLong,
    #[error("the query string may have {MAX_JSON_QUERY} octets")]
    QueryTooLong,
    #[error("the dns parameter is missing; or give name and type, for an answer in JSON")]
    NoDnsParameter,
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("the dns parameter is not unpadded base64url")]
    BadBase64,
    #[error("the message is not a DNS query")]
    NotAQuery,
    #[error("chains are at /chain/NAME/TYPE")]
    BadChain,
    #[error("the name cannot be resolved now")]
    NoChain,
    #[error("the body took too long")]
    Slow,
    #[error("the body is not as long as its Content-Length says")]
    Length,
    #[error("too many requests from your network; slow down")]
    Limited,
    #[error("your network has asked for more than it takes; read the responses that are on their way")]
    Untaken,
    #[error("too much of what your network sends has not come to its end; end those requests first")]
    Unfinished,
}

impl Problem {
    fn status(self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge(_) | Self::CallTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::OtherOrigin => StatusCode::FORBIDDEN,
            Self::OtherHost => StatusCode::MISDIRECTED_REQUEST,
            Self::UriTooLong | Self::QueryTooLong => StatusCode::URI_TOO_LONG,
            Self::Gone
            | Self::NoDnsParameter
            | Self::BadBase64
            | Self::Json(_)
            | Self::NotAQuery
            | Self::BadChain
            | Self::Length => StatusCode::BAD_REQUEST,
            Self::NoChain => StatusCode::SERVICE_UNAVAILABLE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Limited | Self::Overdrawn(_) | Self::Untaken | Self::Unfinished => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    fn response(self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(format!("{self}\n")));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        match self {
            Self::Method(allowed) => headers.insert(ALLOW, HeaderValue::from_static(allowed)),
            Self::Limited | Self::Untaken | Self::Unfinished => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"))
            }
            Self::Overdrawn(Overdrawn { seconds }) => headers.insert(RETRY_AFTER, seconds.into()),
            _ => None,
        };
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dns_parameter_is_unpadded_base64url_and_bounded() {
        assert_eq!(dns_parameter(Some("a=b&dns=AAAB")), Ok(Bytes::from_static(&[0, 0, 1])));
        assert_eq!(dns_parameter(None), Err(Problem::NoDnsParameter));
        assert_eq!(dns_parameter(Some("dnsx=AAAB")), Err(Problem::NoDnsParameter));
        assert_eq!(dns_parameter(Some("dns=AAA=")), Err(Problem::BadBase64));
        assert_eq!(dns_parameter(Some("dns=A+/B")), Err(Problem::BadBase64));
        let longest = "A".repeat(MAX_DNS_PARAMETER);
        assert_eq!(dns_parameter(Some(&format!("dns={longest}"))).unwrap().len(), MAX_DOH_BODY);
        assert_eq!(dns_parameter(Some(&format!("dns={longest}A"))), Err(Problem::UriTooLong));
    }

    #[test]
    fn an_answer_for_one_network_is_not_for_shared_caches() {
        let told = |personal| {
            let reply = Reply { ttl: 7, personal, ..Reply::new(Vec::new(), Rcode::NoError) };
            dns_response(reply).headers()[CACHE_CONTROL].clone()
        };
        assert_eq!((told(false), told(true)), ("max-age=7".parse().unwrap(), "private, max-age=7".parse().unwrap()));
    }

    #[test]
    fn discovery_leads_to_the_path_of_doh() {
        let path = crate::zone::discovery::DOH_TEMPLATE.split('{').next();
        assert_eq!(path, Some(DOH_PATH));
    }

    #[test]
    fn media_types_compare_without_parameters() {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("Application/JSON; charset=x"))]);
        assert_eq!(require_type(&headers, JSON), Ok(()));
        assert_eq!(require_type(&headers, DNS_MESSAGE), Err(Problem::MediaType(DNS_MESSAGE)));
        assert_eq!(require_type(&HeaderMap::new(), JSON), Err(Problem::MediaType(JSON)));
    }
}
