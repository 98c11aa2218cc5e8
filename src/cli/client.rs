//! A DNS client over every transport, and the JSON-RPC client.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use quinn::ZeroRttAccepted;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, WriteHalf};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::limits::{MAX_MESSAGE, MAX_RECEIPT};
use crate::transport::tls::provider;
use crate::wire::Transport;

mod sessions;

pub use sessions::Sessions;

/// The port that `serve --dev` listens on.
pub fn dev_port(via: Transport) -> u16 {
    let ports = crate::server::Ports::default();
    match via {
        Transport::Udp | Transport::Tcp => ports.dns,
        Transport::Tls | Transport::Quic => ports.tls,
        Transport::Https | Transport::H3 => ports.https,
    }
}

fn alpn(via: Transport) -> Vec<Vec<u8>> {
    match via {
        Transport::Udp | Transport::Tcp => vec![],
        Transport::Tls => vec![b"dot".to_vec()],
        Transport::Quic => vec![b"doq".to_vec()],
        Transport::Https => vec![b"h2".to_vec()],
        Transport::H3 => vec![b"h3".to_vec()],
    }
}

/// Whom to talk to, and whom to trust.
#[derive(Debug, Clone)]
pub struct Target {
    pub addr: SocketAddr,
    /// The name or address that the certificate must be for.
    pub host: String,
    /// Roots; without them only UDP and TCP work.
    pub roots: Option<Arc<rustls::RootCertStore>>,
    pub timeout: Duration,
    /// Sessions to resume; without them every connection is of a stranger.
    pub sessions: Option<Sessions>,
}

impl Target {
    /// The same target, of which sessions are kept: for connections over `via` only, one after the other. With `early`, the
    /// first query of a connection goes with its handshake (0-RTT), over QUIC.
    ///
    /// # Errors
    /// There is no CA.
    pub fn remembering(mut self, via: Transport, early: bool) -> Result<Self, ClientError> {
        let roots = self.roots.clone().ok_or(ClientError::NoRoots)?;
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider()).build();
        // Fails only without roots.
        let verifier = verifier.map_err(|_| ClientError::NoRoots)?;
        self.sessions = Some(Sessions::new(tls_config(via, &self)?, verifier, early));
        Ok(self)
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no answer from {0} within the time-out; is the server running, and on this port?")]
    Timeout(SocketAddr),
    #[error("cannot connect to {addr}: {reason}")]
    Connect { addr: SocketAddr, reason: String },
    #[error("no CA to check the server's certificate with; give --ca FILE (serve --dev writes DATA/ca.pem)")]
    NoRoots,
    #[error("{0:?} is not a host name or address")]
    Host(String),
    #[error("the connection failed: {0}")]
    Broken(String),
    #[error("HTTP status {0}: {1}")]
    Status(StatusCode, String),
    #[error("the answer is longer than a DNS message can be")]
    TooLong,
}

/// Reads the certificates of a CA file.
///
/// # Errors
/// A sentence that names the file.
pub fn load_roots(path: &Path) -> anyhow::Result<Arc<rustls::RootCertStore>> {
    let shown = path.display();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| {
        anyhow::anyhow!("{shown}: {error}; give the server's CA with --ca FILE, or its data directory with --data DIR")
    })?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.map_err(|error| anyhow::anyhow!("{shown}: {error}"))?)?;
    }
    anyhow::ensure!(!roots.is_empty(), "{shown} holds no certificate");
    Ok(Arc::new(roots))
}

/// One connection to a server; many queries may be under way on it at once.
pub enum Connection {
    Udp(Multiplexed<Arc<UdpSocket>>),
    Tcp(Multiplexed<tokio::sync::Mutex<WriteHalf<Box<dyn Duplex>>>>),
    Quic { connection: quinn::Connection, early: Option<ZeroRttAccepted>, _endpoint: quinn::Endpoint },
    Https { sender: http2::SendRequest<Full<Bytes>>, authority: String },
    H3 { sender: h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>, authority: String, _endpoint: quinn::Endpoint },
}

/// A stream, whatever is under it.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A transport on which replies are matched to queries by message ID.
pub struct Multiplexed<W> {
    writer: W,
    waiting: Arc<Mutex<HashMap<u16, oneshot::Sender<Vec<u8>>>>>,
    next_id: AtomicU16,
    reader: tokio::task::JoinHandle<()>,
}

impl<W> Drop for Multiplexed<W> {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

type Waiting = Arc<Mutex<HashMap<u16, oneshot::Sender<Vec<u8>>>>>;

impl Connection {
    /// Connects, handshakes included.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn open(via: Transport, target: &Target) -> Result<Self, ClientError> {
        let opened = async {
            match via {
                Transport::Udp => open_udp(target).await,
                Transport::Tcp => Ok(multiplex(Box::new(open_tcp(target).await?))),
                Transport::Tls => Ok(multiplex(Box::new(open_tls(via, target).await?))),
                Transport::Quic => {
                    let (endpoint, connection, early) = open_quic(via, target).await?;
                    Ok(Self::Quic { connection, early, _endpoint: endpoint })
                }
                Transport::Https => open_https(target).await,
                Transport::H3 => open_h3(target).await,
            }
        };
        timeout(target.timeout, opened).await.map_err(|_| ClientError::Timeout(target.addr))?
    }

    /// Sends a query message, whose ID must be zero, and gives the reply with its ID set to zero.
    ///
    /// # Errors
    /// [`ClientError`]; the caller bounds the time.
    pub async fn exchange(&self, query: &[u8]) -> Result<Vec<u8>, ClientError> {
        match self {
            Self::Udp(multiplexed) => exchange_udp(multiplexed, query).await,
            Self::Tcp(multiplexed) => exchange_tcp(multiplexed, query).await,
            Self::Quic { connection, .. } => exchange_quic(connection, query).await,
            Self::Https { sender, authority } => {
                let response = send_https(sender.clone(), doh_request(authority, query)).await?;
                dns_body(response)
            }
            Self::H3 { sender, authority, .. } => {
                dns_body(send_h3(sender.clone(), doh_request(authority, query)).await?)
            }
        }
    }

    /// Whether the server took what went with the handshake (0-RTT), once the handshake has ended. `None` if nothing did, or
    /// if it was told before.
    pub async fn early_data_accepted(&mut self) -> Option<bool> {
        match self {
            Self::Quic { early, .. } => Some(early.take()?.await),
            _ => None,
        }
    }
}

async fn open_udp(target: &Target) -> Result<Connection, ClientError> {
    let broken = |error: std::io::Error| ClientError::Connect { addr: target.addr, reason: error.to_string() };
    let socket = Arc::new(UdpSocket::bind(any_port(target.addr)).await.map_err(broken)?);
    socket.connect(target.addr).await.map_err(broken)?;
    let waiting: Waiting = Arc::default();
    let (socket_in, waiting_in) = (socket.clone(), waiting.clone());
    let reader = tokio::spawn(async move {
        let mut buffer = vec![0; MAX_MESSAGE];
        // A closed port shows up as an error; the query's time-out tells of it.
        while let Ok(length) = socket_in.recv(&mut buffer).await {
            deliver(&waiting_in, buffer[..length].to_vec());
        }
    });
    Ok(Connection::Udp(Multiplexed { writer: socket, waiting, next_id: AtomicU16::new(1), reader }))
}

fn any_port(peer: SocketAddr) -> SocketAddr {
    if peer.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() }
}

async fn open_tcp(target: &Target) -> Result<TcpStream, ClientError> {
    let failed = |error: std::io::Error| ClientError::Connect { addr: target.addr, reason: error.to_string() };
    let stream = TcpStream::connect(target.addr).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    Ok(stream)
}

async fn open_tls(via: Transport, target: &Target) -> Result<tokio_rustls::client::TlsStream<TcpStream>, ClientError> {
    let name = ServerName::try_from(target.host.clone()).map_err(|_| ClientError::Host(target.host.clone()))?;
    let connector = tokio_rustls::TlsConnector::from(shared_tls_config(via, target)?);
    let stream = open_tcp(target).await?;
    let failed = |error: std::io::Error| ClientError::Connect { addr: target.addr, reason: error.to_string() };
    connector.connect(name, stream).await.map_err(failed)
}

fn shared_tls_config(via: Transport, target: &Target) -> Result<Arc<rustls::ClientConfig>, ClientError> {
    match &target.sessions {
        Some(sessions) => Ok(sessions.config()),
        None => tls_config(via, target).map(Arc::new),
    }
}

fn tls_config(via: Transport, target: &Target) -> Result<rustls::ClientConfig, ClientError> {
    let roots = target.roots.clone().ok_or(ClientError::NoRoots)?;
    let builder = rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    // Fails only for a provider without the suites of TLS 1.2 and 1.3; ring has them.
    let builder = builder.map_err(|error| ClientError::Broken(error.to_string()))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn(via);
    Ok(config)
}

type OpenedQuic = (quinn::Endpoint, quinn::Connection, Option<ZeroRttAccepted>);

async fn open_quic(via: Transport, target: &Target) -> Result<OpenedQuic, ClientError> {
    let failed = |reason: String| ClientError::Connect { addr: target.addr, reason };
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(shared_tls_config(via, target)?);
    let crypto = crypto.map_err(|error| failed(error.to_string()))?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    transport.max_concurrent_uni_streams(8u32.into()).keep_alive_interval(Some(Duration::from_secs(10)));
    config.transport_config(Arc::new(transport));
    let endpoint = quinn::Endpoint::client(any_port(target.addr)).map_err(|error| failed(error.to_string()))?;
    let connecting = endpoint.connect_with(config, target.addr, &target.host);
    let connecting = connecting.map_err(|error| failed(error.to_string()))?;
    let connecting = match target.sessions.as_ref().filter(|sessions| sessions.early()) {
        None => connecting,
        // Without a ticket, or with one that does not allow early data, it is a handshake like any other.
        Some(_) => match connecting.into_0rtt() {
            Ok((connection, early)) => return Ok((endpoint, connection, Some(early))),
            Err(connecting) => connecting,
        },
    };
    let connection = connecting.await.map_err(|error| failed(error.to_string()))?;
    Ok((endpoint, connection, None))
}

async fn open_https(target: &Target) -> Result<Connection, ClientError> {
    let sender = open_http2(target).await?;
    Ok(Connection::Https { sender, authority: authority(target) })
}

async fn open_http2(target: &Target) -> Result<http2::SendRequest<Full<Bytes>>, ClientError> {
    let stream = open_tls(Transport::Https, target).await?;
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (sender, connection) = handshake.map_err(|error| ClientError::Broken(error.to_string()))?;
    // Its errors come out of the requests.
    tokio::spawn(connection);
    Ok(sender)
}

async fn open_h3(target: &Target) -> Result<Connection, ClientError> {
    let (endpoint, connection, _) = open_quic(Transport::H3, target).await?;
    // dnsdist 2.1 does not answer a request that ends with a frame of a reserved type (RFC 9114 §7.2.8).
    let opened = h3::client::builder().send_grease(false).build(h3_quinn::Connection::new(connection)).await;
    let (mut driver, sender) = opened.map_err(|error| ClientError::Broken(error.to_string()))?;
    // Its end comes out of the requests.
    tokio::spawn(async move { std::future::poll_fn(|context| driver.poll_close(context)).await });
    Ok(Connection::H3 { sender, authority: authority(target), _endpoint: endpoint })
}

fn authority(target: &Target) -> String {
    let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() };
    format!("{host}:{}", target.addr.port())
}

fn multiplex(stream: Box<dyn Duplex>) -> Connection {
    let (mut read, write) = tokio::io::split(stream);
    let waiting: Waiting = Arc::default();
    let waiting_in = waiting.clone();
    let reader = tokio::spawn(async move {
        while let Ok(length) = read.read_u16().await {
            let mut message = vec![0; usize::from(length)];
            if read.read_exact(&mut message).await.is_err() {
                break;
            }
            deliver(&waiting_in, message);
        }
        // Whoever waits still is told that nothing comes any more.
        lock(&waiting_in).clear();
    });
    let writer = tokio::sync::Mutex::new(write);
    Connection::Tcp(Multiplexed { writer, waiting, next_id: AtomicU16::new(1), reader })
}

fn deliver(waiting: &Waiting, mut message: Vec<u8>) {
    if message.len() < 2 {
        return;
    }
    let id = u16::from_be_bytes([message[0], message[1]]);
    let sender = lock(waiting).remove(&id);
    if let Some(sender) = sender {
        message[..2].fill(0);
        // Whoever asked may have given up.
        let _ = sender.send(message);
    }
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, HashMap<u16, oneshot::Sender<Vec<u8>>>> {
    // Nothing panics while it holds the lock.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<W> Multiplexed<W> {
    /// The query under a fresh ID, and where its reply will come.
    fn enqueue(&self, query: &[u8]) -> (Vec<u8>, oneshot::Receiver<Vec<u8>>) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting).insert(id, sender);
        let mut message = query.to_vec();
        message[..2].copy_from_slice(&id.to_be_bytes());
        (message, receiver)
    }
}

async fn exchange_udp(multiplexed: &Multiplexed<Arc<UdpSocket>>, query: &[u8]) -> Result<Vec<u8>, ClientError> {
    let (message, reply) = multiplexed.enqueue(query);
    multiplexed.writer.send(&message).await.map_err(broken)?;
    reply.await.map_err(|_| ClientError::Broken("the socket was closed".into()))
}

async fn exchange_tcp(
    multiplexed: &Multiplexed<tokio::sync::Mutex<WriteHalf<Box<dyn Duplex>>>>,
    query: &[u8],
) -> Result<Vec<u8>, ClientError> {
    let (message, reply) = multiplexed.enqueue(query);
    let framed = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
    multiplexed.writer.lock().await.write_all(&framed).await.map_err(broken)?;
    reply.await.map_err(|_| ClientError::Broken("the server closed the connection".into()))
}

/// One query, one stream (RFC 9250 §4.2).
async fn exchange_quic(connection: &quinn::Connection, query: &[u8]) -> Result<Vec<u8>, ClientError> {
    let (mut send, mut recv) = connection.open_bi().await.map_err(broken)?;
    let framed = [&(query.len() as u16).to_be_bytes()[..], query].concat();
    send.write_all(&framed).await.map_err(broken)?;
    send.finish().map_err(broken)?;
    let framed = recv.read_to_end(MAX_MESSAGE + 2).await.map_err(broken)?;
    match framed.split_at_checked(2) {
        Some((length, message)) if usize::from(u16::from_be_bytes([length[0], length[1]])) == message.len() => {
            Ok(message.to_vec())
        }
        _ => Err(ClientError::Broken("the stream did not carry one length-prefixed message".into())),
    }
}

fn broken(error: impl std::fmt::Display) -> ClientError {
    ClientError::Broken(error.to_string())
}

fn doh_request(authority: &str, query: &[u8]) -> Request<Bytes> {
    post(authority, "/dns-query", "application/dns-message", query.to_vec().into())
}

fn post(authority: &str, path: &str, content_type: &str, body: Bytes) -> Request<Bytes> {
    let request = Request::post(format!("https://{authority}{path}")).header(http::header::CONTENT_TYPE, content_type);
    // Path and type are our own; the authority was made from a checked host and a port.
    request.header(http::header::ACCEPT, content_type).body(body).expect("a valid request")
}

async fn send_https(
    mut sender: http2::SendRequest<Full<Bytes>>,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, ClientError> {
    sender.ready().await.map_err(broken)?;
    let response = sender.send_request(request.map(Full::new)).await.map_err(broken)?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, RPC_REPLY).collect().await.map_err(broken)?;
    Ok(Response::from_parts(parts, body.to_bytes()))
}

/// Octets of a JSON-RPC reply: a page of log entries with contracts in them, at most.
const RPC_REPLY: usize = 64 << 20;

/// Octets of a reply over HTTP/3: a receipt in base64, at most.
const H3_REPLY: usize = 2 * MAX_RECEIPT;

async fn send_h3(
    mut sender: h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, ClientError> {
    let (parts, body) = request.into_parts();
    let mut stream = sender.send_request(Request::from_parts(parts, ())).await.map_err(broken)?;
    stream.send_data(body).await.map_err(broken)?;
    stream.finish().await.map_err(broken)?;
    let response = stream.recv_response().await.map_err(broken)?;
    let mut body = Vec::new();
    while let Some(mut data) = stream.recv_data().await.map_err(broken)? {
        if body.len() + data.remaining() > H3_REPLY {
            return Err(ClientError::TooLong);
        }
        body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    Ok(response.map(|()| body.into()))
}

fn dns_body(response: Response<Bytes>) -> Result<Vec<u8>, ClientError> {
    let (status, body) = (response.status(), response.into_body());
    if status != StatusCode::OK {
        return Err(ClientError::Status(status, String::from_utf8_lossy(&body).trim().to_owned()));
    }
    if body.len() > MAX_MESSAGE { Err(ClientError::TooLong) } else { Ok(body.to_vec()) }
}

/// Posts octets over HTTP/3, or HTTP/2; gives status and body.
///
/// # Errors
/// [`ClientError`], or the system has no runtime to give.
pub fn post_octets(target: &Target, h2: bool, path: &str, body: Vec<u8>) -> anyhow::Result<(StatusCode, Bytes)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let posted = async {
        let via = if h2 { Transport::Https } else { Transport::H3 };
        let request = |authority: &str| post(authority, path, "application/octet-stream", body.into());
        match Connection::open(via, target).await? {
            Connection::Https { sender, authority } => send_https(sender, request(&authority)).await,
            Connection::H3 { sender, authority, _endpoint } => send_h3(sender, request(&authority)).await,
            _ => Err(ClientError::Broken("not an HTTP connection".into())),
        }
    };
    let response = runtime.block_on(async { timeout(target.timeout, posted).await });
    let response = response.map_err(|_| ClientError::Timeout(target.addr))??;
    Ok((response.status(), response.into_body()))
}

/// JSON-RPC over HTTPS, one connection, one call at a time.
pub struct RpcClient {
    runtime: tokio::runtime::Runtime,
    sender: http2::SendRequest<Full<Bytes>>,
    authority: String,
    next_id: u64,
}

impl RpcClient {
    /// Connects.
    ///
    /// # Errors
    /// [`ClientError`], or the system has no runtime to give.
    pub fn connect(target: &Target) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // The timer needs the runtime that it will run on.
        let opened = runtime.block_on(async { timeout(target.timeout, open_http2(target)).await });
        let sender = opened.map_err(|_| ClientError::Timeout(target.addr))??;
        Ok(Self { runtime, sender, authority: authority(target), next_id: 1 })
    }
}

impl RpcClient {
    /// Fetches a path over the same connection.
    ///
    /// # Errors
    /// [`ClientError`]; so is any status but 200.
    pub fn get(&mut self, path: &str) -> anyhow::Result<Bytes> {
        let request = Request::get(format!("https://{}{path}", self.authority)).body(Bytes::new())?;
        self.fetch(request)
    }

    /// Posts octets to a path over the same connection.
    ///
    /// # Errors
    /// [`ClientError`]; so is any status but 200.
    pub fn post(&mut self, path: &str, content_type: &str, body: Bytes) -> anyhow::Result<Bytes> {
        self.fetch(post(&self.authority, path, content_type, body))
    }

    fn fetch(&self, request: Request<Bytes>) -> anyhow::Result<Bytes> {
        let response = self.runtime.block_on(send_https(self.sender.clone(), request))?;
        let (status, body) = (response.status(), response.into_body());
        if status != StatusCode::OK {
            return Err(ClientError::Status(status, String::from_utf8_lossy(&body).trim().to_owned()).into());
        }
        Ok(body)
    }
}

impl super::author::Call for RpcClient {
    fn call_page(
        &mut self,
        method: &str,
        params: serde_json::Value,
    ) -> anyhow::Result<(serde_json::Value, Option<serde_json::Value>)> {
        let call = serde_json::json!({ "jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params });
        self.next_id += 1;
        let request = post(&self.authority, "/rpc", "application/json", call.to_string().into());
        let mut reply: serde_json::Value = serde_json::from_slice(&self.fetch(request)?)?;
        match reply.get("error") {
            Some(error) => anyhow::bail!("{}", error["message"].as_str().unwrap_or("the server gave no reason")),
            None => Ok((reply["result"].take(), reply.get("next").cloned())),
        }
    }
}
