//! HTTP/1.1 without TLS, one request a connection: to a collector on this machine, and from a server's metrics.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::limits::MAX_PLAIN_BODY;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PlainError {
    #[error("no answer within {} seconds", .0.as_secs())]
    Timeout(Duration),
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("the connection failed: {0}")]
    Broken(#[from] hyper::Error),
    #[error("not an http:// address with a host")]
    Address,
    #[error("HTTP status {0}")]
    Status(StatusCode),
    #[error("the answer is longer than {MAX_PLAIN_BODY} octets, or was cut short")]
    Body,
}

/// What is at an address.
///
/// # Errors
/// [`PlainError`]
pub async fn get(uri: &Uri, patience: Duration) -> Result<Bytes, PlainError> {
    exchange(Method::GET, uri, Bytes::new(), patience).await
}

/// Sends JSON.
///
/// # Errors
/// [`PlainError`]
pub async fn post_json(uri: &Uri, body: Bytes, patience: Duration) -> Result<Bytes, PlainError> {
    exchange(Method::POST, uri, body, patience).await
}

async fn exchange(method: Method, uri: &Uri, body: Bytes, patience: Duration) -> Result<Bytes, PlainError> {
    let exchange = async {
        let authority = uri.authority().ok_or(PlainError::Address)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let stream =
            TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await.map_err(PlainError::Connect)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder().method(&method).uri(path).header(HOST, authority.as_str());
        if method == Method::POST {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body)).map_err(|_| PlainError::Address)?;
        let answer = async {
            let response = sender.send_request(request).await?;
            if !response.status().is_success() {
                return Err(PlainError::Status(response.status()));
            }
            let body = Limited::new(response.into_body(), MAX_PLAIN_BODY).collect().await;
            Ok(body.map_err(|_| PlainError::Body)?.to_bytes())
        };
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            answered = &mut answer => answered,
            // The connection may end before what came of it is read.
            _ = connection => answer.await,
        }
    };
    timeout(patience, exchange).await.map_err(|_| PlainError::Timeout(patience))?
}
