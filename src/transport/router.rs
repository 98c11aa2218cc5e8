//! One HTTP router for h1, h2 and h3: DoH (RFC 8484) and JSON-RPC.

use std::net::IpAddr;

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode};

use super::{Answered, Edge};
use crate::gateway::Transport;
use crate::limits::{MAX_DOH_BODY, MAX_RPC_BODY};

const DNS_MESSAGE: &str = "application/dns-message";
const JSON: &str = "application/json";
const DOH_PATH: &str = "/dns-query";
const RPC_PATH: &str = "/rpc";

/// A request's body, read within its limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    Whole(Bytes),
    TooLong,
    /// The client stopped half-way or took too long.
    Broken,
}

/// Octets that the body of a request to `path` may have.
pub fn body_limit(path: &str) -> usize {
    if path == RPC_PATH { MAX_RPC_BODY } else { MAX_DOH_BODY }
}

/// Answers one request.
pub async fn route(edge: &Edge, transport: Transport, addr: IpAddr, request: Request<Body>) -> Response<Bytes> {
    let (parts, body) = request.into_parts();
    let content_type = parts.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).map(media_type);
    match (parts.uri.path(), &parts.method) {
        (DOH_PATH, &Method::GET | &Method::HEAD) => match get_message(parts.uri.query().unwrap_or_default()) {
            Ok(message) => answer(edge, transport, addr, &message).await,
            Err((status, text)) => problem(status, text),
        },
        (DOH_PATH, &Method::POST) => match whole(body, content_type.as_deref(), DNS_MESSAGE) {
            Ok(message) => answer(edge, transport, addr, &message).await,
            Err(response) => response,
        },
        (DOH_PATH, _) => not_allowed("GET, HEAD, POST"),
        (RPC_PATH, &Method::POST) => match whole(body, content_type.as_deref(), JSON) {
            Ok(body) => call(edge, addr, &body).await,
            Err(response) => response,
        },
        (RPC_PATH, _) => not_allowed("POST"),
        _ => problem(StatusCode::NOT_FOUND, "nothing here; DNS is at /dns-query, JSON-RPC at /rpc\n"),
    }
}

/// A DNS error, even SERVFAIL, is an HTTP success (RFC 8484 §4.2.1).
async fn answer(edge: &Edge, transport: Transport, addr: IpAddr, message: &[u8]) -> Response<Bytes> {
    match edge.answer(message, transport, addr).await {
        Answered::Reply(reply) => {
            let max_age = format!("max-age={}", reply.ttl);
            let mut response = of_type(StatusCode::OK, DNS_MESSAGE, reply.wire.into());
            // Digits are always a header value.
            if let Ok(value) = HeaderValue::from_str(&max_age) {
                response.headers_mut().insert(CACHE_CONTROL, value);
            }
            response
        }
        Answered::Ignored => problem(StatusCode::BAD_REQUEST, "the body is not a DNS query\n"),
        Answered::Limited => limited(),
    }
}

async fn call(edge: &Edge, addr: IpAddr, body: &[u8]) -> Response<Bytes> {
    if !edge.admission.call(addr) {
        edge.metrics.limit();
        return limited();
    }
    let reply = edge.rpc.answer(body).await;
    if reply.is_empty() {
        // Only notifications: nothing to say (JSON-RPC 2.0 §4.1).
        return of_type(StatusCode::NO_CONTENT, JSON, Bytes::new());
    }
    of_type(StatusCode::OK, JSON, reply.into())
}

/// The message of a GET: unpadded base64url in `dns` (RFC 8484 §6), its length bounded before decoding.
fn get_message(query: &str) -> Result<Vec<u8>, (StatusCode, &'static str)> {
    let value = query.split('&').find_map(|pair| pair.strip_prefix("dns="));
    let value = value.ok_or((StatusCode::BAD_REQUEST, "the parameter dns is missing\n"))?;
    if value.len() > MAX_DOH_BODY.div_ceil(3) * 4 {
        return Err((StatusCode::URI_TOO_LONG, "the parameter dns is longer than a query can be\n"));
    }
    let decoded = BASE64URL_NOPAD.decode(value.as_bytes());
    decoded.map_err(|_| (StatusCode::BAD_REQUEST, "the parameter dns is not base64url without padding\n"))
}

fn whole(body: Body, found: Option<&str>, wanted: &str) -> Result<Bytes, Response<Bytes>> {
    if found != Some(wanted) {
        let text = format!("the content type must be {wanted}\n");
        return Err(of_type(StatusCode::UNSUPPORTED_MEDIA_TYPE, "text/plain", text.into()));
    }
    match body {
        Body::Whole(body) => Ok(body),
        Body::TooLong => Err(problem(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long\n")),
        Body::Broken => Err(problem(StatusCode::REQUEST_TIMEOUT, "the body did not come whole in time\n")),
    }
}

/// The media type without its parameters, in lower case (RFC 9110 §8.3.1).
fn media_type(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn not_allowed(methods: &'static str) -> Response<Bytes> {
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

fn limited() -> Response<Bytes> {
    let mut response = problem(StatusCode::TOO_MANY_REQUESTS, "too many requests; slow down\n");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

fn problem(status: StatusCode, text: &'static str) -> Response<Bytes> {
    of_type(status, "text/plain", Bytes::from_static(text.as_bytes()))
}

fn of_type(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dns_parameter_is_bounded_before_it_is_decoded() {
        assert_eq!(get_message("dns=AAAB"), Ok(vec![0, 0, 1]));
        assert_eq!(get_message("x=1&dns=AAAB&y=2"), Ok(vec![0, 0, 1]));
        assert_eq!(get_message("").unwrap_err().0, StatusCode::BAD_REQUEST);
        assert_eq!(get_message("dns=AAA=").unwrap_err().0, StatusCode::BAD_REQUEST);
        assert_eq!(get_message("dns=A+A/").unwrap_err().0, StatusCode::BAD_REQUEST);
        assert_eq!(get_message(&format!("dns={}", "A".repeat(8_000))).unwrap_err().0, StatusCode::URI_TOO_LONG);
    }

    #[test]
    fn media_types_are_compared_as_http_says() {
        assert_eq!(media_type(b"Application/DNS-Message; charset=x"), DNS_MESSAGE);
        assert_eq!(media_type(b""), "");
    }
}
