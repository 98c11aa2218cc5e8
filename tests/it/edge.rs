//! The edge over real sockets, in front of a canned answerer: the rules of each transport.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes};
use data_encoding::BASE64URL_NOPAD;
use futures_util::FutureExt as _;
use ghostplane::gateway::{Begun, ChainDone, Client, Miss, TransferDone, Transport, UpdateRequest};
use ghostplane::limits::{
    CONTRACT_INPUT, MAX_DOH_BODY, MAX_JSON_QUERY, MAX_PARTIAL, MAX_QUERY, MAX_RPC_BODY, MAX_RPC_CALL, MAX_STREAMS,
    RESPONSE_PAD_BLOCK,
};
use ghostplane::metrics::{Metrics, Outcome};
use ghostplane::server::{self, Addrs, ServeError, ServerConfig, Service};
use ghostplane::transport::admission::Limits;
use ghostplane::transport::router::MAX_HEADERS;
use ghostplane::transport::tls::{Identity, provider, read_certificates};
use ghostplane::transport::{Answerer, ApiRequest, BoxFuture, Caller, Resource, RpcHandler, Shutdown, doq};
use ghostplane::wire::{Builder, Name, Query, QueryError, Rcode, Reply, Rrset, Rtype, Section};
use ghostplane::work::Budget;
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint, ReadError, ReadToEndError, StoppedError, VarInt};
use rustls::{CipherSuite, ClientConfig, HandshakeKind, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Notify, oneshot};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::hostile::mutations::Random;
use crate::support::{START, server_config, write_key};

/// No test takes so long unless something hangs.
const PATIENCE: Duration = Duration::from_secs(60);

// --- A canned answerer ----------------------------------------------------------------------------

type Done = Box<dyn FnOnce(Reply) + Send>;

/// `fail.ghost` is SERVFAIL, `slow*.ghost` a miss that waits for the test, `many9.ghost` has nine addresses, `stop.ghost`
/// stops the server's thread until the test goes on, anything else has 192.0.2.1.
#[derive(Default)]
struct Canned {
    held: Mutex<Vec<(Query, Done)>>,
    arrived: Notify,
    /// Until nobody can send to it.
    stopped: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Canned {
    /// The misses held once there are `count`, in order of arrival.
    async fn held(&self, count: usize) -> Vec<(Query, Done)> {
        loop {
            let arrived = self.arrived.notified();
            {
                let mut held = self.held.lock().unwrap();
                if held.len() >= count {
                    return std::mem::take(&mut *held);
                }
            }
            arrived.await;
        }
    }
}

impl Answerer for Canned {
    fn begin(&self, message: &[u8], client: Client) -> Begun {
        match Query::parse(message) {
            Err(QueryError::Ignore) => Begun::Ignore,
            Err(QueryError::Reply(refused)) => Begun::Ready(refused.reply()),
            Ok(query) if query.rtype == Rtype::AXFR => Begun::Transfer(Miss::new(query, client)),
            Ok(query) if query.name.to_string() == "stop.ghost." => {
                self.arrived.notify_one();
                let stopped = self.stopped.lock().unwrap().take();
                stopped.unwrap().recv().unwrap_err();
                Begun::Ready(reply(&query, client.transport))
            }
            Ok(query) if query.name.to_string().starts_with("slow") => Begun::Miss(Miss::new(query, client)),
            Ok(query) => Begun::Ready(reply(&query, client.transport)),
        }
    }

    fn answer_here(&self, _: &Miss) -> Option<Reply> {
        None
    }

    fn finish(&self, miss: Miss, done: Done) {
        self.held.lock().unwrap().push((miss.query, done));
        self.arrived.notify_waiters();
    }

    fn is_public(&self, reply: &Reply) -> bool {
        reply.question().windows(7).any(|part| part == b"\x05ghost\0")
    }

    fn chain(&self, name: Name, rtype: Rtype, _: Budget, done: ChainDone) {
        let missing = name.to_string().starts_with("fail");
        done(if missing { Err(Rcode::ServFail) } else { Ok((format!("{name} {rtype}").into_bytes(), 7)) });
    }

    fn update(&self, request: UpdateRequest, done: Box<dyn FnOnce(Reply) + Send>) {
        done(request.message.refuse(Rcode::NoError).reply());
    }

    fn transfer(&self, request: Miss, done: TransferDone) {
        // Two messages of one record each.
        let message = |last: u8| {
            let mut builder = Builder::new(&request.query);
            let rrset = Rrset::new(request.query.name.clone(), Rtype::A, 300, [vec![192, 0, 2, last]]);
            builder.push(Section::Answer, &rrset, 300);
            builder.finish(Rcode::NoError, true, None)
        };
        done(Arc::from([message(1), message(2)]));
    }
}

fn reply(query: &Query, transport: Transport) -> Reply {
    let mut builder = Builder::new(query);
    let rcode = if query.name.to_string() == "fail.ghost." { Rcode::ServFail } else { Rcode::NoError };
    if rcode == Rcode::NoError {
        let text = query.name.to_string();
        let count = text.strip_prefix("many").and_then(|text| text.strip_suffix(".ghost.")?.parse().ok()).unwrap_or(1);
        let rdata = (1..=count).map(|last| vec![192, 0, 2, last]);
        let rrset = Rrset::new(query.name.clone(), Rtype::A, 300, rdata);
        builder.push(Section::Answer, &rrset, 300);
    }
    builder.finish(rcode, true, None).reply(query, transport.shape(), 10)
}

/// Repeats the body; a body `quiet` gets no reply.
struct Echo;

impl RpcHandler for Echo {
    fn serve(&self, request: ApiRequest, _: Caller) -> BoxFuture<Resource> {
        const TEXT: &str = "text/plain";
        let resource = match request {
            ApiRequest::Rpc(body) if body == "quiet" => Resource::new(204, JSON, ""),
            ApiRequest::Rpc(body) if body == "busy" => {
                Resource { retry_after: Some(1), ..Resource::new(503, JSON, body) }
            }
            ApiRequest::Rpc(body) => Resource::new(200, JSON, body),
            ApiRequest::Code(hash) => Resource::new(200, "application/wasm", hash).immutable(),
            ApiRequest::Call { name, query, input } => {
                let body = [name.as_bytes(), b"?", query.as_bytes(), b" ", &input].concat();
                Resource::new(422, JSON, body)
            }
            ApiRequest::Log(path) => Resource::new(200, TEXT, path).immutable(),
            ApiRequest::Cosign(body) => Resource::new(409, TEXT, body),
        };
        Box::pin(async move { resource })
    }
}

// --- A running server -----------------------------------------------------------------------------

struct Fixture {
    addrs: Addrs,
    answerer: Arc<Canned>,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    roots: RootCertStore,
    thread: Option<JoinHandle<Result<(), ServeError>>>,
}

impl Fixture {
    async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        Self::on(limits, 1).await
    }

    async fn on(limits: Limits, cores: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::development(dir.path(), SystemTime::now()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(read_certificates(&dir.path().join("ca.pem")).unwrap());
        Self::run(ServerConfig { limits, cores: cores.try_into().unwrap(), ..server_config(identity) }, roots).await
    }

    /// Behind a balancer on loopback.
    async fn behind_proxy(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::development(dir.path(), SystemTime::now()).unwrap();
        let proxies = vec!["127.0.0.0/8".parse().unwrap()];
        Self::run(ServerConfig { limits, proxies, ..server_config(identity) }, RootCertStore::empty()).await
    }

    async fn run(config: ServerConfig, roots: RootCertStore) -> Self {
        let (answerer, metrics, shutdown) = (Arc::<Canned>::default(), Arc::<Metrics>::default(), Shutdown::default());
        let shared = (Arc::clone(&answerer), Arc::clone(&metrics), shutdown.clone());
        let (sender, ready) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let (answerer, metrics, shutdown) = shared;
            let on_ready = |addrs: &Addrs| sender.send(addrs.clone()).unwrap();
            server::run(config, answerer, Arc::new(Echo), metrics, on_ready, shutdown)
        });
        let addrs = ready.await.unwrap();
        Self { addrs, answerer, metrics, shutdown, roots, thread: Some(thread) }
    }

    fn addr(&self, service: Service) -> SocketAddr {
        self.addrs.of(service).unwrap()
    }

    fn tls(&self, alpn: &[u8]) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let mut config = builder.with_root_certificates(self.roots.clone()).with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        config
    }

    async fn quic(&self, service: Service, alpn: &[u8]) -> Result<Connection, ConnectionError> {
        self.quic_to("localhost", service, alpn).await
    }

    async fn quic_to(&self, name: &str, service: Service, alpn: &[u8]) -> Result<Connection, ConnectionError> {
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let crypto = QuicClientConfig::try_from(self.tls(alpn)).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        endpoint.connect_with(config, self.addr(service), name).unwrap().await
    }

    async fn doq(&self) -> Connection {
        self.quic(Service::Quic, b"doq").await.unwrap()
    }

    /// TLS 1.2.
    async fn old_tls(&self, service: Service, alpn: &[u8]) -> TlsStream<TcpStream> {
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS12]).unwrap();
        let mut config = builder.with_root_certificates(self.roots.clone()).with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let stream = TcpStream::connect(self.addr(service)).await.unwrap();
        TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await.unwrap()
    }

    async fn tcp_tls(&self, service: Service, alpn: &[u8]) -> TlsStream<TcpStream> {
        self.tls_to("localhost", service, alpn).await
    }

    async fn tls_to(&self, name: &'static str, service: Service, alpn: &[u8]) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.addr(service)).await.unwrap();
        let connector = TlsConnector::from(Arc::new(self.tls(alpn)));
        connector.connect(name.try_into().unwrap(), stream).await.unwrap()
    }

    /// Triggers the shutdown and waits until `run` has returned.
    async fn stop(&mut self) {
        self.shutdown.trigger();
        let thread = self.thread.take().unwrap();
        tokio::task::spawn_blocking(move || thread.join().unwrap().unwrap()).await.unwrap();
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.shutdown.trigger();
    }
}

/// Runs a test on its own runtime, and fails it when it hangs.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("the test hangs") });
}

// --- Messages --------------------------------------------------------------------------------------

fn query(id: u16, name: &str, options: &[u8]) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend(b"\x01\0\0\x01\0\0\0\0\0\x01");
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend(b"\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\0\0");
    message.extend((options.len() as u16).to_be_bytes());
    message.extend(options);
    message
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

fn rcode(message: &[u8]) -> u8 {
    message[3] & 0xf
}

fn is_answer(message: &[u8], id: u16) -> bool {
    message[..2] == id.to_be_bytes() && rcode(message) == 0 && message[7] == 1
}

// --- DNS over QUIC (RFC 9250) -----------------------------------------------------------------------

/// Sends `octets` and FIN on a new stream; the message that comes back, without its length.
async fn exchange(connection: &Connection, octets: &[u8]) -> Result<Vec<u8>, ReadToEndError> {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(octets).await.unwrap();
    send.finish().unwrap();
    let answer = recv.read_to_end(70_000).await?;
    assert_eq!(usize::from(u16::from_be_bytes([answer[0], answer[1]])), answer.len() - 2);
    Ok(answer[2..].to_vec())
}

async fn assert_closed(connection: &Connection, code: VarInt) {
    match connection.closed().await {
        ConnectionError::ApplicationClosed(close) => assert_eq!(close.error_code, code, "{close}"),
        other => panic!("{other}"),
    }
}

/// Sends `octets` and FIN, and expects the connection to be closed with DOQ_PROTOCOL_ERROR.
async fn assert_violation(server: &Fixture, octets: &[u8]) {
    let connection = server.doq().await;
    let (mut send, _recv) = connection.open_bi().await.unwrap();
    send.write_all(octets).await.unwrap();
    // The server may have closed already.
    let _ = send.finish();
    assert_closed(&connection, doq::PROTOCOL_ERROR).await;
}

#[test]
fn doq_answers_padded_and_with_message_id_zero() {
    run(async {
        let server = Fixture::start().await;
        let connection = server.doq().await;
        let answer = exchange(&connection, &framed(&query(0, "alice.ghost", b""))).await.unwrap();
        assert!(is_answer(&answer, 0));
        assert_eq!(answer.len() % RESPONSE_PAD_BLOCK, 0);
        assert_eq!(server.metrics.connections(Transport::Quic), 1);
        assert_eq!(server.metrics.queries(Transport::Quic, Outcome::NoError), 1);
    });
}

#[test]
fn doq_violations_close_the_connection() {
    run(async {
        let server = Fixture::start().await;
        let good = framed(&query(0, "alice.ghost", b""));
        let mut response = query(0, "alice.ghost", b"");
        response[2] |= 0x80;
        let violations = [
            framed(&query(1, "alice.ghost", b"")),
            framed(&query(0, "alice.ghost", b"\0\x0b\0\0")),
            framed(&response),
            framed(b"short"),
            [&good[..], &good].concat(),
            [&good[..], b"x"].concat(),
            good[..good.len() - 1].to_vec(),
            vec![0],
            vec![],
        ];
        for octets in violations {
            assert_violation(&server, &octets).await;
        }
    });
}

#[test]
fn doq_a_second_query_is_fatal_even_before_fin() {
    run(async {
        let server = Fixture::start().await;
        let connection = server.doq().await;
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        let good = framed(&query(0, "alice.ghost", b""));
        send.write_all(&[&good[..], &good].concat()).await.unwrap();
        assert_closed(&connection, doq::PROTOCOL_ERROR).await;
    });
}

#[test]
fn doq_a_unidirectional_stream_is_fatal() {
    run(async {
        let server = Fixture::start().await;
        let connection = server.doq().await;
        let mut stream = connection.open_uni().await.unwrap();
        stream.write_all(b"x").await.unwrap();
        assert_closed(&connection, doq::PROTOCOL_ERROR).await;
    });
}

#[test]
fn doq_what_is_malformed_dns_only_is_formerr() {
    run(async {
        let server = Fixture::start().await;
        let connection = server.doq().await;
        let mut two_questions = query(0, "alice.ghost", b"");
        two_questions[5] = 2;
        assert_eq!(rcode(&exchange(&connection, &framed(&two_questions)).await.unwrap()), 1);
        // The option's code as an option's data is no keepalive.
        let lookalike = query(0, "alice.ghost", b"\0\x0c\0\x04\0\x0b\0\0");
        assert!(is_answer(&exchange(&connection, &framed(&lookalike)).await.unwrap(), 0));
    });
}

#[test]
fn doq_a_query_over_the_limit_is_formerr_and_not_read() {
    run(async {
        let server = Fixture::start().await;
        let connection = server.doq().await;
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        let mut message = query(0, "alice.ghost", b"");
        message.resize(20_000, 0);
        // More than the window: can only end by STOP_SENDING.
        let sent = send.write_all(&framed(&message)).await;
        assert_eq!(sent, Err(quinn::WriteError::Stopped(doq::EXCESSIVE_LOAD)));
        let answer = recv.read_to_end(MAX_QUERY).await.unwrap();
        assert_eq!(rcode(&answer[2..]), 1);
        let next = exchange(&connection, &framed(&query(0, "alice.ghost", b""))).await.unwrap();
        assert!(is_answer(&next, 0));
    });
}

#[test]
fn doq_streams_are_answered_in_any_order() {
    run(async {
        let server = Fixture::start().await;
        let connection = server.doq().await;
        let mut streams = Vec::new();
        for number in 0..200 {
            let (mut send, recv) = connection.open_bi().await.unwrap();
            send.write_all(&framed(&query(0, &format!("slow{number}.ghost"), b""))).await.unwrap();
            send.finish().unwrap();
            streams.push((number, recv));
        }
        let mut held = server.answerer.held(200).await;
        held.sort_by_key(|(query, _)| query.name.to_string());
        while let Some((number, mut recv)) = streams.pop() {
            let name = format!("slow{number}.ghost.");
            let at = held.iter().position(|(query, _)| query.name.to_string() == name).unwrap();
            let (query, done) = held.swap_remove(at);
            done(reply(&query, Transport::Quic));
            let answer = recv.read_to_end(70_000).await.unwrap();
            assert!(is_answer(&answer[2..], 0));
        }
        assert_eq!(server.metrics.queries(Transport::Quic, Outcome::NoError), 200);
    });
}

#[test]
fn doq_who_asks_one_question_does_not_wait_for_who_asked_many_before() {
    // On a busy machine a client sends again what the stopped server has not acknowledged, and that looks as if its next
    // question had left. A server that works by arrival fails every time.
    let mut places = Vec::new();
    while places.last() != Some(&0) {
        assert!(places.len() < 8, "{places:?} were served before");
        run(async { places.push(served_before_one_question().await) });
    }
}

/// Questions of a client that asked many which are served before the only one of another that asked later.
async fn served_before_one_question() -> usize {
    let server = Fixture::on(Limits::default(), 1).await;
    let (many, one) = (server.doq().await, server.doq().await);
    let ask = async |connection: &Connection, name: &str| {
        let (mut send, recv) = connection.open_bi().await.unwrap();
        send.write_all(&framed(&query(0, name, b""))).await.unwrap();
        send.finish().unwrap();
        recv
    };
    // All of them have come by the time the server looks.
    let (go_on, stopped) = mpsc::channel();
    *server.answerer.stopped.lock().unwrap() = Some(stopped);
    let mut streams = vec![ask(&one, "stop.ghost").await];
    server.answerer.arrived.notified().await;
    // As many as the server takes from its socket at once, and long ones, that not all are in two datagrams.
    let padding = "x".repeat(60);
    for number in 0..60 {
        streams.push(ask(&many, &format!("slow{number}.{padding}.ghost")).await);
    }
    while many.stats().frame_tx.stream < 60 {
        tokio::task::yield_now().await;
    }
    let sent = one.stats().frame_tx.stream;
    streams.push(ask(&one, "slow.ghost").await);
    while one.stats().frame_tx.stream == sent {
        tokio::task::yield_now().await;
    }
    drop(go_on);
    let held = server.answerer.held(61).await;
    held.iter().position(|(query, _)| query.name.to_string() == "slow.ghost.").unwrap()
}

#[test]
fn doq_stop_sending_cancels_and_the_connection_goes_on() {
    run(async {
        let server = Fixture::start().await;
        let connection = server.doq().await;
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&framed(&query(0, "slow.ghost", b""))).await.unwrap();
        send.finish().unwrap();
        let held = server.answerer.held(1).await;
        recv.stop(doq::REQUEST_CANCELLED).unwrap();
        // Each round trip lets the server see what came before it.
        while server.metrics.queries(Transport::Quic, Outcome::Unanswered) == 0 {
            exchange(&connection, &framed(&query(0, "alice.ghost", b""))).await.unwrap();
        }
        for (query, done) in held {
            done(reply(&query, Transport::Quic));
        }
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(b"\0").await.unwrap();
        send.reset(doq::REQUEST_CANCELLED).unwrap();
        let gone = recv.read_to_end(10).await;
        assert_eq!(gone, Err(ReadToEndError::Read(quinn::ReadError::Reset(doq::REQUEST_CANCELLED))));
        assert!(is_answer(&exchange(&connection, &framed(&query(0, "alice.ghost", b""))).await.unwrap(), 0));
    });
}

#[test]
fn doq_over_the_rate_a_stream_is_reset() {
    run(async {
        let server = Fixture::with(tight()).await;
        let connection = server.doq().await;
        let octets = framed(&query(0, "alice.ghost", b""));
        assert!(exchange(&connection, &octets).await.is_ok());
        let limited = exchange(&connection, &octets).await;
        assert_eq!(limited, Err(ReadToEndError::Read(quinn::ReadError::Reset(doq::EXCESSIVE_LOAD))));
    });
}

/// One query or call, then one an hour... in effect: one a second, the least there is.
fn tight() -> Limits {
    let one = NonZeroU32::MIN;
    Limits { queries_per_second: one, burst: one, rpc_per_second: one, rpc_burst: one, ..Limits::default() }
}

/// The kernel's own choice would be by address, and lead every other of these to a core that knows nothing of them.
#[test]
fn quic_clients_that_move_are_found_again_on_whichever_core() {
    run(async {
        let server = Fixture::on(Limits::default(), 4).await;
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let move_on = || endpoint.rebind(std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).unwrap();
        let connect = async |service, alpn: &[u8]| {
            let crypto = QuicClientConfig::try_from(server.tls(alpn)).unwrap();
            let config = quinn::ClientConfig::new(Arc::new(crypto));
            endpoint.connect_with(config, server.addr(service), "localhost").unwrap().await.unwrap()
        };
        let doq = connect(Service::Quic, b"doq").await;
        let h3 = h3_quinn::Connection::new(connect(Service::H3, b"h3").await);
        let (mut driver, mut sender) = h3::client::new(h3).await.unwrap();
        tokio::spawn(async move { driver.wait_idle().await });
        for _ in 0..8 {
            move_on();
            assert!(is_answer(&exchange(&doq, &framed(&query(0, "alice.ghost", b""))).await.unwrap(), 0));
            let (parts, _) = get(&query(0, "alice.ghost", b"")).into_parts();
            let mut stream = sender.send_request(Request::from_parts(parts, ())).await.unwrap();
            stream.finish().await.unwrap();
            assert_eq!(stream.recv_response().await.unwrap().status(), 200);
        }
    });
}

#[test]
fn doq_takes_queries_in_0rtt_and_nothing_that_writes() {
    run(async {
        let server = Fixture::start().await;
        let mut tls = server.tls(b"doq");
        tls.enable_early_data = true;
        let crypto = QuicClientConfig::try_from(tls).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(crypto));
        let connect = || {
            let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            endpoint.connect_with(config.clone(), server.addr(Service::Quic), "localhost").unwrap()
        };
        let first = connect().await.unwrap();
        // The ticket comes with or before the answer.
        exchange(&first, &framed(&query(0, "alice.ghost", b""))).await.unwrap();
        let Ok((second, accepted)) = connect().into_0rtt() else { panic!("no ticket") };
        let mut update = query(0, "alice.ghost", b"");
        // Opcode UPDATE, and a zone section asks for SOA.
        update[2] = 0x28;
        let at = update.len() - 11 - 4;
        update[at + 1] = 6;
        let asked = async { exchange(&second, &framed(&query(0, "bob.ghost", b""))).await.unwrap() };
        let (answer, refused) = tokio::join!(asked, async { exchange(&second, &framed(&update)).await.unwrap() });
        assert!(accepted.await);
        assert!(is_answer(&answer, 0));
        // EDE 26, Too Early.
        assert_eq!((rcode(&refused), refused.ends_with(b"\0\x0f\0\x02\0\x1a")), (5, true), "{refused:02x?}");
        // On a connection that is made it is looked at, and is none that this server knows.
        assert_eq!(rcode(&exchange(&second, &framed(&update)).await.unwrap()), 4);
    });
}

#[test]
fn quic_connections_are_capped_and_prove_their_address_when_it_is_crowded() {
    run(async {
        let server = Fixture::with(Limits { connections: 3, ..Limits::default() }).await;
        let (_first, second) = (server.doq().await, server.doq().await);
        // Two of three: this one had to come back with a Retry token.
        let _third = server.doq().await;
        match server.quic(Service::Quic, b"doq").await {
            Err(ConnectionError::ConnectionClosed(close)) => {
                assert_eq!(close.error_code, quinn::TransportErrorCode::CONNECTION_REFUSED);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(server.metrics.refused_connections(Transport::Quic), 1);
        second.close(doq::NO_ERROR, b"");
        while server.metrics.connections(Transport::Quic) == 3 {
            tokio::task::yield_now().await;
        }
        server.doq().await;
    });
}

#[test]
fn connections_without_requests_are_closed() {
    run(async {
        let server = Fixture::with(Limits { idle: Duration::from_millis(50), ..Limits::default() }).await;
        let quic = server.doq().await;
        exchange(&quic, &framed(&query(0, "alice.ghost", b""))).await.unwrap();
        assert_closed(&quic, doq::NO_ERROR).await;
        let h3 = server.quic(Service::H3, b"h3").await.unwrap();
        h3.closed().await;
        for alpn in [&b"h2"[..], b"http/1.1"] {
            let mut silent = server.tcp_tls(Service::Https, alpn).await;
            // However it ends: it does.
            let _ = silent.read_to_end(&mut Vec::new()).await;
        }
    });
}

#[test]
fn a_wrong_alpn_is_turned_away() {
    run(async {
        let server = Fixture::start().await;
        assert!(server.quic(Service::Quic, b"h3").await.is_err());
        assert!(server.quic(Service::H3, b"doq").await.is_err());
    });
}

// --- HTTP ----------------------------------------------------------------------------------------------

const DNS: &str = "application/dns-message";
const JSON: &str = "application/json";

fn request(method: Method, path: &str, media: Option<&str>, body: impl Into<Bytes>) -> Request<Bytes> {
    let mut request = Request::new(body.into());
    *request.method_mut() = method;
    *request.uri_mut() = format!("https://localhost{path}").parse().unwrap();
    if let Some(media) = media {
        request.headers_mut().insert("content-type", media.parse().unwrap());
    }
    request.headers_mut().insert("host", "localhost".parse().unwrap());
    request
}

/// One request on a new connection.
async fn http(server: &Fixture, version: Version, request: Request<Bytes>) -> Response<Bytes> {
    match version {
        Version::HTTP_3 => http3(server, request).await,
        Version::HTTP_2 => {
            let io = TokioIo::new(server.tcp_tls(Service::Https, b"h2").await);
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            whole(sender.send_request(request.map(Full::new)).await.unwrap()).await
        }
        _ => {
            let io = TokioIo::new(server.tcp_tls(Service::Https, b"http/1.1").await);
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            let (mut parts, body) = request.into_parts();
            parts.uri = parts.uri.path_and_query().unwrap().as_str().parse().unwrap();
            whole(sender.send_request(Request::from_parts(parts, Full::new(body))).await.unwrap()).await
        }
    }
}

async fn whole(response: Response<hyper::body::Incoming>) -> Response<Bytes> {
    let (parts, body) = response.into_parts();
    Response::from_parts(parts, body.collect().await.unwrap().to_bytes())
}

async fn http3(server: &Fixture, request: Request<Bytes>) -> Response<Bytes> {
    let connection = server.quic(Service::H3, b"h3").await.unwrap();
    let (mut driver, mut sender) = h3::client::new(h3_quinn::Connection::new(connection)).await.unwrap();
    tokio::spawn(async move { driver.wait_idle().await });
    let (parts, body) = request.into_parts();
    let mut stream = sender.send_request(Request::from_parts(parts, ())).await.unwrap();
    // In two DATA frames; the server may refuse before it has read them.
    let half = body.len() / 2;
    for part in [body.slice(..half), body.slice(half..)] {
        if !part.is_empty() && stream.send_data(part).await.is_err() {
            break;
        }
    }
    let _ = stream.finish().await;
    let head = stream.recv_response().await.unwrap();
    let mut body = Vec::new();
    while let Some(mut data) = stream.recv_data().await.unwrap() {
        body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    head.map(|()| body.into())
}

fn get(message: &[u8]) -> Request<Bytes> {
    request(Method::GET, &format!("/dns-query?dns={}", BASE64URL_NOPAD.encode(message)), None, "")
}

fn post(path: &str, media: &str, body: impl Into<Bytes>) -> Request<Bytes> {
    request(Method::POST, path, Some(media), body)
}

/// Runs the same requests over HTTP/1.1, HTTP/2 and HTTP/3.
fn over_each_http(test: impl AsyncFn(&Fixture, Version)) {
    run(async {
        let server = Fixture::start().await;
        for version in [Version::HTTP_11, Version::HTTP_2, Version::HTTP_3] {
            test(&server, version).await;
        }
    });
}

#[test]
fn doh_answers_get_head_and_post() {
    over_each_http(async |server, version| {
        let message = query(0xabcd, "alice.ghost", b"");
        for request in [get(&message), post("/dns-query", DNS, message.clone())] {
            let response = http(server, version, request).await;
            assert_eq!(response.status(), StatusCode::OK, "{version:?}");
            assert_eq!(response.headers()["content-type"], DNS);
            assert_eq!(response.headers()["cache-control"], "max-age=290");
            assert!(is_answer(response.body(), 0xabcd));
            assert_eq!(response.body().len() % RESPONSE_PAD_BLOCK, 0);
        }
        let mut head = get(&message);
        *head.method_mut() = Method::HEAD;
        let response = http(server, version, head).await;
        assert_eq!((response.status(), response.body().len()), (StatusCode::OK, 0));
        assert_eq!(response.headers()["content-length"], RESPONSE_PAD_BLOCK.to_string());
    });
}

#[test]
fn doh_dns_errors_are_http_successes() {
    over_each_http(async |server, version| {
        let response = http(server, version, get(&query(0, "fail.ghost", b""))).await;
        assert_eq!((response.status(), rcode(response.body())), (StatusCode::OK, 2), "{version:?}");
        assert_eq!(response.headers()["cache-control"], "max-age=0");
        let mut malformed = query(0, "alice.ghost", b"");
        malformed[5] = 2;
        let response = http(server, version, get(&malformed)).await;
        assert_eq!((response.status(), rcode(response.body())), (StatusCode::OK, 1));
    });
}

#[test]
fn doh_bad_requests_have_their_codes() {
    over_each_http(async |server, version| {
        let message = query(0, "alice.ghost", b"");
        let too_long = "A".repeat(MAX_DOH_BODY * 4 / 3 + 8);
        let cases = [
            (request(Method::GET, "/dns-query", None, ""), 400),
            (request(Method::GET, "/dns-query?dns=", None, ""), 400),
            (request(Method::GET, "/dns-query?dns=AAA=", None, ""), 400),
            (request(Method::GET, "/dns-query?dns=A%2B", None, ""), 400),
            (request(Method::GET, &format!("/dns-query?dns={too_long}"), None, ""), 414),
            (post("/dns-query", "text/plain", message.clone()), 415),
            (request(Method::POST, "/dns-query", None, message.clone()), 415),
            (post("/dns-query", DNS, vec![0; MAX_DOH_BODY + 1]), 413),
            (post("/dns-query", DNS, "short"), 400),
            (request(Method::PUT, "/dns-query", Some(DNS), message), 405),
            (request(Method::GET, "/", None, ""), 404),
            (request(Method::GET, "/dns-query/x", None, ""), 404),
        ];
        for (request, status) in cases {
            let what = format!("{version:?} {} {}", request.method(), request.uri());
            let response = http(server, version, request).await;
            assert_eq!(response.status(), status, "{what}");
            assert_eq!(response.headers().get("allow").is_some(), status == 405, "{what}");
            // RFC 9110 §6.6.1.
            assert!(httpdate::parse_http_date(response.headers()["date"].to_str().unwrap()).is_ok(), "{what}");
        }
    });
}

#[test]
fn http_3_refuses_a_body_of_another_length_than_announced() {
    run(async {
        let server = Fixture::start().await;
        let message = query(0, "alice.ghost", b"");
        for (length, status) in [(message.len(), 200), (message.len() - 1, 400), (message.len() + 1, 400)] {
            let mut request = post("/dns-query", DNS, message.clone());
            request.headers_mut().insert("content-length", length.into());
            assert_eq!(http3(&server, request).await.status(), status, "{length}");
        }
        // Nobody waits for what is not going to be read anyway.
        let mut huge = post("/dns-query", DNS, message);
        huge.headers_mut().insert("content-length", 1_000_000_000_u64.into());
        assert_eq!(http3(&server, huge).await.status(), 413);
    });
}

#[test]
fn doh_answers_in_json_to_whoever_asks_so() {
    over_each_http(async |server, version| {
        let ask = |path: &str, accept: &str| {
            let mut request = request(Method::GET, path, None, "");
            request.headers_mut().insert("accept", accept.parse().unwrap());
            request
        };
        for (path, accept, media) in [
            ("/dns-query?name=many2.ghost&type=A", "*/*", "application/dns-json"),
            ("/dns-query?name=many2.ghost", "application/dns-json", "application/dns-json"),
            ("/resolve?name=many2.ghost&type=1", "text/html, application/json;q=0.9", "application/json"),
            ("/resolve?name=many2.ghost&ct=application%2Fdns-json", "application/json", "application/dns-json"),
        ] {
            let response = http(server, version, ask(path, accept)).await;
            let headers = response.headers();
            assert_eq!(
                (response.status(), &headers["content-type"]),
                (StatusCode::OK, &media.parse().unwrap()),
                "{path}"
            );
            assert_eq!(
                (&headers["cache-control"], &headers["vary"]),
                (&"max-age=290".parse().unwrap(), &"accept".parse().unwrap())
            );
            assert_eq!(headers["access-control-allow-origin"], "*");
            let told: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
            assert_eq!(
                (&told["Status"], &told["Question"][0]["type"], &told["RD"]),
                (&0.into(), &1.into(), &true.into())
            );
            let data: Vec<_> = told["Answer"].as_array().unwrap().iter().map(|record| record["data"].clone()).collect();
            assert_eq!(data, ["192.0.2.1", "192.0.2.2"], "{version:?} {told}");
            let mut head = ask(path, accept);
            *head.method_mut() = Method::HEAD;
            let response = http(server, version, head).await;
            assert!(response.body().is_empty() && response.headers()["content-length"] != "0");
        }
        for request in
            [ask("/resolve?name=alice.ghost", DNS), ask("/resolve?name=alice.ghost&ct=application/dns-message", "")]
        {
            let response = http(server, version, request).await;
            assert_eq!(
                (&response.headers()["content-type"], &response.headers()["vary"]),
                (&DNS.parse().unwrap(), &"accept".parse().unwrap())
            );
            assert!(is_answer(response.body(), 0));
        }
        let failed = http(server, version, ask("/resolve?name=fail.ghost", "*/*")).await;
        assert_eq!(
            (failed.status(), &failed.headers()["cache-control"]),
            (StatusCode::OK, &"max-age=0".parse().unwrap())
        );
        assert!(failed.body().starts_with(b"{\"Status\":2,"), "{failed:?}");
        let long = format!("/resolve?name=a&x={}", "x".repeat(MAX_JSON_QUERY));
        let cases = [
            (ask("/resolve", "*/*"), 400, "the name parameter is missing\n"),
            (ask("/dns-query?type=A", "application/dns-json"), 400, "the dns parameter is missing"),
            (ask("/resolve?name=a..b", "*/*"), 400, "name: label is empty\n"),
            (ask("/resolve?name=a&type=NOPE", "*/*"), 400, "type must be"),
            (ask("/dns-query?name=a&do=perhaps", "*/*"), 400, "do must be 1, true, 0 or false\n"),
            (ask("/resolve?name=a&edns_client_subnet=all", "*/*"), 400, "edns_client_subnet must be"),
            (ask(&long, "*/*"), 414, "the query string may have"),
            (post("/resolve?name=a", DNS, ""), 405, "this path takes GET, HEAD\n"),
        ];
        for (request, status, text) in cases {
            let what = format!("{version:?} {} {}", request.method(), request.uri());
            let response = http(server, version, request).await;
            assert_eq!(response.status(), status, "{what}");
            assert!(response.body().starts_with(text.as_bytes()), "{what}: {response:?}");
            assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
        }
    });
}

/// What is read with GET any web page may read; nothing else.
#[test]
fn pages_of_any_origin_may_read_dns_and_no_more() {
    over_each_http(async |server, version| {
        let message = query(0, "alice.ghost", b"");
        let cases = [
            (get(&message), true),
            (request(Method::GET, "/dns-query", None, ""), false),
            // T24: what is asked of others may be known to this network alone.
            (get(&query(0, "printer.corp.example", b"")), false),
            (request(Method::GET, "/resolve?name=printer.corp.example", None, ""), false),
            (request(Method::GET, "/resolve?name=alice.ghost", None, ""), true),
            (post("/dns-query", DNS, message), false),
            (request(Method::OPTIONS, "/dns-query", None, ""), false),
            (post("/rpc", JSON, "{}"), false),
            (request(Method::GET, "/log/checkpoint", None, ""), false),
        ];
        for (request, open) in cases {
            let what = format!("{version:?} {} {}", request.method(), request.uri());
            let response = http(server, version, request).await;
            assert_eq!(response.headers().contains_key("access-control-allow-origin"), open, "{what}");
        }
    });
}

/// Who is asked is not looked at: the certificate has settled that (RFC 9110 §7.4 leaves it to us).
#[test]
fn any_authority_is_answered() {
    over_each_http(async |server, version| {
        let mut request = get(&query(0, "alice.ghost", b""));
        let path = request.uri().path_and_query().unwrap().clone();
        *request.uri_mut() = format!("https://other.example{path}").parse().unwrap();
        request.headers_mut().insert("host", "other.example".parse().unwrap());
        assert_eq!(http(server, version, request).await.status(), StatusCode::OK, "{version:?}");
    });
}

#[test]
fn trailers_of_a_request_say_nothing_over_http_2() {
    run(async {
        let server = Fixture::start().await;
        let io = TokioIo::new(server.tcp_tls(Service::Https, b"h2").await);
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let trailers = http::HeaderMap::from_iter([("x-later".parse().unwrap(), "1".parse().unwrap())]);
        let request = post("/dns-query", DNS, query(5, "alice.ghost", b""));
        let body = |body: Bytes| Full::new(body).with_trailers(std::future::ready(Some(Ok(trailers))));
        let response = whole(sender.send_request(request.map(body)).await.unwrap()).await;
        assert!(response.status() == StatusCode::OK && is_answer(response.body(), 5));
    });
}

#[test]
fn headers_over_the_bound_are_refused_over_tcp() {
    run(async {
        let server = Fixture::start().await;
        for version in [Version::HTTP_11, Version::HTTP_2] {
            let mut long = get(&query(0, "alice.ghost", b""));
            long.headers_mut().insert("x-long", "x".repeat(MAX_HEADERS).parse().unwrap());
            let response = http(&server, version, long).await;
            assert_eq!(response.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "{version:?}");
        }
    });
}

/// RFC 9113 §6.5.2: what we tell clients of our bounds, octet by octet.
#[test]
fn http_2_settings_are_ours() {
    run(async {
        let server = Fixture::start().await;
        let mut tls = server.tcp_tls(Service::Https, b"h2").await;
        // An empty SETTINGS frame behind the preface.
        tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let mut head = [0; 9];
        tls.read_exact(&mut head).await.unwrap();
        assert_eq!(head[3..], [4, 0, 0, 0, 0, 0]);
        let mut settings = vec![0; usize::from(head[2])];
        tls.read_exact(&mut settings).await.unwrap();
        let settings: Vec<(u16, u32)> = settings
            .chunks_exact(6)
            .map(|pair| {
                (u16::from_be_bytes([pair[0], pair[1]]), u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]]))
            })
            .collect();
        let value = |id: u16| settings.iter().find(|(found, _)| *found == id).map(|(_, value)| *value);
        assert_eq!((value(3), value(4), value(6)), (Some(MAX_STREAMS), Some(64 << 10), Some(MAX_HEADERS as u32)));
        // HPACK keeps the 4,096 octets that it has unless told otherwise; no server push, no extended CONNECT.
        assert!(settings.iter().all(|(id, value)| [3, 4, 5, 6].contains(id) || *value == 0), "{settings:?}");
    });
}

#[test]
fn chains_have_a_path_of_their_own() {
    over_each_http(async |server, version| {
        let get = |path: &str| request(Method::GET, path, None, "");
        let chain = http(server, version, get("/chain/alice.ghost/A")).await;
        assert_eq!((chain.status(), &chain.body()[..]), (StatusCode::OK, &b"alice.ghost. A"[..]));
        assert_eq!(chain.headers()["cache-control"], "max-age=7");
        for (path, status) in [
            ("/chain/alice.ghost", StatusCode::BAD_REQUEST),
            ("/chain/alice.ghost/NOTYPE", StatusCode::BAD_REQUEST),
            ("/chain/a..b/A", StatusCode::BAD_REQUEST),
            ("/chain/fail.ghost/A", StatusCode::SERVICE_UNAVAILABLE),
        ] {
            assert_eq!(http(server, version, get(path)).await.status(), status, "{path}");
        }
        let posted = http(server, version, request(Method::POST, "/chain/alice.ghost/A", None, "")).await;
        assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);
    });
}

#[test]
fn rpc_has_its_own_rules() {
    over_each_http(async |server, version| {
        let mut big = b"{\"method\":\"op.submit\"".to_vec();
        big.resize(300_000, b' ');
        let big = Bytes::from(big);
        let response = http(server, version, post("/rpc", JSON, big.clone())).await;
        assert_eq!((response.status(), response.body()), (StatusCode::OK, &big), "{version:?}");
        assert_eq!(response.headers()["content-type"], JSON);
        let cases = [
            (post("/rpc", JSON, "quiet"), 204),
            (post("/rpc", "text/plain", "{}"), 415),
            (request(Method::GET, "/rpc", None, ""), 405),
            (post("/rpc", JSON, vec![b' '; MAX_RPC_BODY + 1]), 413),
            // Calls are short, but for those that submit and say so at their beginning.
            (post("/rpc", JSON, vec![b' '; MAX_RPC_CALL]), 200),
            (post("/rpc", JSON, vec![b' '; MAX_RPC_CALL + 1]), 413),
            (post("/rpc", JSON, [vec![b' '; 2 * MAX_RPC_CALL], b"\"op.submit\"".to_vec()].concat()), 413),
        ];
        for (request, status) in cases {
            assert_eq!(http(server, version, request).await.status(), status, "{version:?}");
        }
        let busy = http(server, version, post("/rpc", JSON, "busy")).await;
        assert_eq!((busy.status().as_u16(), &busy.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    });
}

/// T24: a page may have its own name lead here, or post to us where it may not read.
#[test]
fn no_page_reaches_the_api_under_its_own_name_or_from_its_own_origin() {
    over_each_http(async |server, version| {
        let named = |mut request: Request<Bytes>, host: &str| {
            let path = request.uri().path_and_query().unwrap().clone();
            *request.uri_mut() = format!("https://{host}{path}").parse().unwrap();
            request.headers_mut().insert("host", host.parse().unwrap());
            request
        };
        let of_origin = |mut request: Request<Bytes>, origin: &str| {
            request.headers_mut().insert("origin", origin.parse().unwrap());
            request
        };
        let log = || request(Method::GET, "/log/checkpoint", None, "");
        let cases = [
            (named(log(), "evil.example"), 421),
            (named(post("/rpc", JSON, "{}"), "localhost.evil.example"), 421),
            (named(log(), "127.0.0.1:8443"), 200),
            (named(log(), "LOCALHOST:1"), 200),
            (of_origin(post("/rpc", JSON, "{}"), "https://evil.example"), 403),
            (of_origin(post("/log/add-cosignatures", "text/plain", "x"), "null"), 403),
            (of_origin(post("/v1/call/a.gcc", "application/octet-stream", "x"), "http://localhost"), 403),
            (of_origin(post("/rpc", JSON, "{}"), "https://localhost"), 200),
        ];
        for (request, status) in cases {
            let what = format!("{version:?} {request:?}");
            let response = http(server, version, request).await;
            assert_eq!(response.status(), status, "{what}");
            assert_eq!(response.headers()["x-content-type-options"], "nosniff", "{what}");
        }
    });
}

#[test]
fn contracts_are_fetched_and_programs_called() {
    const OCTETS: &str = "application/octet-stream";
    over_each_http(async |server, version| {
        let code = http(server, version, request(Method::GET, "/contract/abc", None, "")).await;
        assert_eq!((code.status(), &code.body()[..]), (StatusCode::OK, &b"abc"[..]), "{version:?}");
        assert_eq!(code.headers()["content-type"], "application/wasm");
        assert!(code.headers()["cache-control"].to_str().unwrap().contains("immutable"));
        let called = http(server, version, post("/v1/call/a.gcc?gas=5", OCTETS, "in")).await;
        assert_eq!((called.status().as_u16(), &called.body()[..]), (422, &b"a.gcc?gas=5 in"[..]), "{version:?}");
        assert_eq!(called.headers()["cache-control"], "no-store");
        let cases = [
            (post("/contract/abc", OCTETS, ""), 405),
            (request(Method::GET, "/v1/call/a.gcc", None, ""), 405),
            (post("/v1/call/a.gcc", "text/plain", "in"), 415),
            (post("/v1/call/a.gcc", OCTETS, vec![0; CONTRACT_INPUT + 1]), 413),
        ];
        for (request, status) in cases {
            assert_eq!(http(server, version, request).await.status(), status, "{version:?}");
        }
    });
}

#[test]
fn http3_is_advertised_on_tcp_only() {
    over_each_http(async |server, version| {
        let response = http(server, version, get(&query(0, "alice.ghost", b""))).await;
        let wanted = format!("h3=\":{}\"; ma=86400", server.addr(Service::H3).port());
        let wanted = (version != Version::HTTP_3).then_some(wanted);
        assert_eq!(response.headers().get("alt-svc").map(|value| value.to_str().unwrap().to_owned()), wanted);
    });
}

#[test]
fn over_the_rate_http_says_when_to_come_back() {
    run(async {
        let server = Fixture::with(tight()).await;
        let message = query(0, "alice.ghost", b"");
        let io = TokioIo::new(server.tcp_tls(Service::Https, b"h2").await);
        let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let mut ask = async |request: Request<Bytes>| sender.send_request(request.map(Full::new)).await.unwrap();
        assert_eq!(ask(get(&message)).await.status(), StatusCode::OK);
        let limited = ask(get(&message)).await;
        assert_eq!(limited.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(limited.headers()["retry-after"], "1");
        // Calls have their own allowance.
        assert_eq!(ask(post("/rpc", JSON, "{}")).await.status(), StatusCode::OK);
        assert_eq!(ask(post("/rpc", JSON, "{}")).await.status(), StatusCode::TOO_MANY_REQUESTS);
    });
}

// --- HTTP/3 by hand (RFC 9114, RFC 9204) -----------------------------------------------------------------------

/// A variable-length integer (RFC 9000 §16) below 2^30.
fn varint(value: usize) -> Vec<u8> {
    match value {
        0..64 => vec![value as u8],
        64..16_384 => (value as u16 | 0x4000).to_be_bytes().to_vec(),
        _ => (value as u32 | 0x8000_0000).to_be_bytes().to_vec(),
    }
}

fn read_varint(octets: &mut &[u8]) -> u64 {
    let length = 1 << (octets[0] >> 6);
    let (head, rest) = octets.split_at(length);
    *octets = rest;
    head[1..].iter().fold(u64::from(head[0] & 0x3f), |value, octet| value << 8 | u64::from(*octet))
}

fn frame(kind: usize, payload: &[u8]) -> Vec<u8> {
    [&varint(kind)[..], &varint(payload.len()), payload].concat()
}

fn frames(mut octets: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut frames = Vec::new();
    while !octets.is_empty() {
        let kind = read_varint(&mut octets);
        let length = read_varint(&mut octets) as usize;
        let (payload, rest) = octets.split_at(length);
        frames.push((kind, payload.to_vec()));
        octets = rest;
    }
    frames
}

const H3_DATA: usize = 0;
const H3_HEADERS: usize = 1;
const H3_SETTINGS: usize = 4;
/// Frame and stream types of this form mean nothing (RFC 9114 §6.2.3, §7.2.8).
const H3_RESERVED: usize = 0x1f * 5 + 0x21;

/// Static indices and literals, no dynamic table: `:method`, `:scheme https`, `:path`, `:authority`.
fn field_section(method: u8, path: &str) -> Vec<u8> {
    let literal = |name: u8, value: &str| [&[0x50 | name, value.len() as u8][..], value.as_bytes()].concat();
    [&[0, 0, 0xc0 | method, 0xc0 | 23][..], &literal(1, path), &literal(0, "localhost")].concat()
}

const METHOD_GET: u8 = 17;
const METHOD_POST: u8 = 20;
/// `content-type: application/dns-message`.
const CONTENT_TYPE_DNS: u8 = 0xc0 | 44;
/// `:status 200` in the responses.
const STATUS_200: u8 = 0xc0 | 25;
/// RFC 9114 §8.1.
const H3_EXCESSIVE_LOAD: VarInt = VarInt::from_u32(0x107);

/// A connection whose client has sent its settings, and a stream of no known type.
async fn raw_h3(server: &Fixture) -> (Connection, quinn::SendStream) {
    let connection = server.quic(Service::H3, b"h3").await.unwrap();
    let mut control = connection.open_uni().await.unwrap();
    control.write_all(&[&[0][..], &frame(H3_SETTINGS, &[]), &frame(H3_RESERVED, b"?")].concat()).await.unwrap();
    let mut unknown = connection.open_uni().await.unwrap();
    unknown.write_all(&[&varint(H3_RESERVED)[..], b"whatever"].concat()).await.unwrap();
    // Closing the control stream would end the connection.
    (connection, control)
}

async fn raw_request(connection: &Connection, octets: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(octets).await.unwrap();
    send.finish().unwrap();
    frames(&recv.read_to_end(70_000).await.unwrap())
}

#[test]
fn http_3_settings_are_ours_and_need_no_dynamic_table() {
    run(async {
        let server = Fixture::start().await;
        let (connection, _control) = raw_h3(&server).await;
        let settings = loop {
            let mut stream = connection.accept_uni().await.unwrap();
            let mut kind = [0];
            stream.read_exact(&mut kind).await.unwrap();
            // Beside the control stream there may be those of QPACK.
            if kind == [0] {
                let mut head = [0; 2];
                stream.read_exact(&mut head).await.unwrap();
                assert_eq!((usize::from(head[0]), head[1] < 64), (H3_SETTINGS, true));
                let mut payload = vec![0; usize::from(head[1])];
                stream.read_exact(&mut payload).await.unwrap();
                break payload;
            }
        };
        let mut rest = &settings[..];
        let mut pairs = Vec::new();
        while !rest.is_empty() {
            pairs.push((read_varint(&mut rest), read_varint(&mut rest)));
        }
        // SETTINGS_MAX_FIELD_SECTION_SIZE; QPACK_MAX_TABLE_CAPACITY and whatever else is zero, as if left out.
        assert!(pairs.contains(&(6, MAX_HEADERS as u64)), "{pairs:?}");
        assert!(pairs.iter().all(|(id, value)| *id == 6 || *value == 0), "{pairs:?}");
    });
}

#[test]
fn http_3_ignores_what_is_reserved_and_reads_many_frames() {
    run(async {
        let server = Fixture::start().await;
        let (connection, _control) = raw_h3(&server).await;
        let reserved = frame(H3_RESERVED, b"grease");
        let message = query(7, "alice.ghost", b"");
        let head = [&field_section(METHOD_POST, "/dns-query")[..], &[CONTENT_TYPE_DNS]].concat();
        let mut octets = [reserved.clone(), frame(H3_HEADERS, &head)].concat();
        for octet in &message {
            octets.extend(frame(H3_DATA, &[*octet]));
            octets.extend(&reserved);
        }
        // Trailers: `x-later: 1`.
        octets.extend(frame(H3_HEADERS, b"\0\0\x27\0x-later\x011"));
        octets.extend(&reserved);
        let answer = raw_request(&connection, &octets).await;
        assert_eq!((answer[0].0, answer[0].1[2]), (H3_HEADERS as u64, STATUS_200), "{answer:?}");
        let body: Vec<u8> =
            answer.iter().filter(|(kind, _)| *kind == H3_DATA as u64).flat_map(|(_, data)| data.clone()).collect();
        assert!(is_answer(&body, 7));
    });
}

#[test]
fn http_3_refuses_field_sections_over_its_setting_and_goes_on() {
    run(async {
        let server = Fixture::start().await;
        let (connection, _control) = raw_h3(&server).await;
        // A literal `a: xxx…`, its length behind the 7-bit prefix.
        let mut long = field_section(METHOD_GET, "/dns-query?name=alice.ghost");
        long.extend(b"\x21a\x7f");
        let mut left = MAX_HEADERS - 127;
        while left > 127 {
            long.push(0x80 | (left & 0x7f) as u8);
            left >>= 7;
        }
        long.push(left as u8);
        long.extend(vec![b'x'; MAX_HEADERS]);
        let refused = raw_request(&connection, &frame(H3_HEADERS, &long)).await;
        assert!(refused.iter().all(|(kind, head)| *kind == H3_HEADERS as u64 && head[2] != STATUS_200), "{refused:?}");
        let short = frame(H3_HEADERS, &field_section(METHOD_GET, "/dns-query?name=alice.ghost"));
        let answer = raw_request(&connection, &short).await;
        assert_eq!(answer[0].1[2], STATUS_200, "{answer:?}");
        assert!(answer[1].1.starts_with(b"{\"Status\":0"));
    });
}

/// What h3 would keep until it is whole must not be long, of whatever type it is, and not be cut short either.
#[test]
fn http_3_takes_no_frame_that_it_would_have_to_keep() {
    run(async {
        let server = Fixture::start().await;
        let announced = |kind: usize| [&varint(kind)[..], &varint(1 << 20)].concat();
        let (connection, _control) = raw_h3(&server).await;
        for kind in [H3_HEADERS, H3_RESERVED] {
            let (mut send, _recv) = connection.open_bi().await.unwrap();
            send.write_all(&announced(kind)).await.unwrap();
            let stopped = send.stopped().await.unwrap();
            assert_eq!(stopped, Some(H3_EXCESSIVE_LOAD), "{kind}");
        }
        // A request whose DATA is not all there is none.
        let mut cut = frame(H3_HEADERS, &[&field_section(METHOD_POST, "/dns-query")[..], &[CONTENT_TYPE_DNS]].concat());
        cut.extend([&varint(H3_DATA)[..], &varint(100), b"some"].concat());
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&cut).await.unwrap();
        send.finish().unwrap();
        let told = recv.read_to_end(70_000).await.map(|octets| frames(&octets)).unwrap_or_default();
        assert!(told.first().is_none_or(|(_, head)| head[2] != STATUS_200), "{told:?}");
        // Others go on.
        let short = frame(H3_HEADERS, &field_section(METHOD_GET, "/dns-query?name=alice.ghost"));
        assert_eq!(raw_request(&connection, &short).await[0].1[2], STATUS_200);
        // With its control stream a connection ends, unless nothing of that has been read.
        let (_connection, mut control) = raw_h3(&server).await;
        control.write_all(&announced(H3_RESERVED)).await.unwrap();
        let stopped = control.stopped().await;
        assert!(
            matches!(&stopped, Ok(Some(code)) if *code == H3_EXCESSIVE_LOAD)
                || matches!(&stopped, Err(StoppedError::ConnectionLost(ConnectionError::ApplicationClosed(_)))),
            "{stopped:?}"
        );
    });
}

/// Any octets in any frames cost their own connection at most.
#[test]
fn http_3_survives_frames_that_are_nearly_right() {
    run(async {
        let server = Fixture::start().await;
        let head = field_section(METHOD_GET, "/dns-query?name=alice.ghost");
        let posted = [&field_section(METHOD_POST, "/dns-query")[..], &[CONTENT_TYPE_DNS]].concat();
        let seeds = [
            frame(H3_HEADERS, &head),
            [frame(H3_HEADERS, &posted), frame(H3_DATA, &query(7, "alice.ghost", b""))].concat(),
            [frame(H3_RESERVED, b"grease"), frame(H3_HEADERS, &head), frame(H3_HEADERS, b"\0\0\x27\0x-later\x011")]
                .concat(),
            [frame(H3_SETTINGS, &[6, 0x40, 0x64]), frame(7, &[0]), frame(3, &[0])].concat(),
        ];
        let mut random = Random::new(11);
        for _ in 0..12 {
            let (connection, _control) = raw_h3(&server).await;
            for _ in 0..24 {
                let octets = random.mutated(&seeds);
                // A connection that has been closed takes no more.
                if octets.len().is_multiple_of(3) {
                    let Ok(mut send) = connection.open_uni().await else { break };
                    let _ = send.write_all(&octets).await;
                    let _ = send.finish();
                    continue;
                }
                let Ok((mut send, mut recv)) = connection.open_bi().await else { break };
                let _ = send.write_all(&octets).await;
                let _ = send.finish();
                let _ = recv.read_to_end(70_000).await;
            }
        }
        let (connection, _control) = raw_h3(&server).await;
        assert_eq!(raw_request(&connection, &seeds[0]).await[0].1[2], STATUS_200);
    });
}

// --- Certificates ---------------------------------------------------------------------------------------------

/// A self-signed certificate and its key for a name, written to files.
fn certificate(dir: &Path, stem: &str, name: &str) -> ((PathBuf, PathBuf), Vec<u8>) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let files = (dir.join(format!("{stem}.pem")), dir.join(format!("{stem}.key")));
    std::fs::write(&files.0, made.cert.pem()).unwrap();
    write_key(&files.1, &made.signing_key.serialize_pem());
    (files, made.cert.der().to_vec())
}

/// What DoT and DoQ show to a client that asks for `name`; the connections stay open.
async fn shown(server: &Fixture, name: &'static str) -> ([Vec<u8>; 2], TlsStream<TcpStream>, Connection) {
    let tls = server.tls_to(name, Service::Tls, b"dot").await;
    let quic = server.quic_to(name, Service::Quic, b"doq").await.unwrap();
    let over_tls = tls.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let peer = quic.peer_identity().unwrap().downcast::<Vec<rustls::pki_types::CertificateDer<'_>>>().unwrap();
    ([over_tls, peer[0].to_vec()], tls, quic)
}

#[test]
fn certificates_go_by_the_name_asked_for_and_are_exchanged_under_open_connections() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let (a_files, a) = certificate(dir.path(), "a", "a.example");
        let (b_files, old) = certificate(dir.path(), "b", "b.example");
        let (fresh_files, fresh) = certificate(dir.path(), "fresh", "b.example");
        let mut roots = RootCertStore::empty();
        for der in [&a, &old, &fresh] {
            roots.add(der.clone().into()).unwrap();
        }
        let identity = Identity::load(vec![a_files, b_files.clone()], START).unwrap();
        let server = Fixture::run(server_config(identity.clone()), roots).await;
        assert_eq!(shown(&server, "a.example").await.0, [a.clone(), a.clone()]);
        let (seen, mut tls, quic) = shown(&server, "b.example").await;
        assert_eq!(seen, [old.clone(), old]);

        std::fs::rename(&fresh_files.0, &b_files.0).unwrap();
        std::fs::rename(&fresh_files.1, &b_files.1).unwrap();
        assert_eq!(identity.certificates().reload(START, false).fresh, [b_files.0]);
        assert_eq!(shown(&server, "b.example").await.0, [fresh.clone(), fresh]);
        assert_eq!(shown(&server, "a.example").await.0, [a.clone(), a]);
        assert!(is_answer(&ask_stream(&mut tls, &query(1, "alice.ghost", b"")).await, 1));
        assert!(is_answer(&exchange(&quic, &framed(&query(0, "alice.ghost", b""))).await.unwrap(), 0));
    });
}

// --- UDP, TCP, DoT --------------------------------------------------------------------------------------

async fn udp(server: &Fixture) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    socket.connect(server.addr(Service::Udp)).await.unwrap();
    socket
}

async fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut datagram = vec![0; 2_000];
    let length = socket.recv(&mut datagram).await.unwrap();
    datagram.truncate(length);
    datagram
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

async fn ask_stream(stream: &mut (impl Stream + ?Sized), message: &[u8]) -> Vec<u8> {
    stream.write_all(&framed(message)).await.unwrap();
    read_framed(stream).await
}

async fn read_framed(stream: &mut (impl Stream + ?Sized)) -> Vec<u8> {
    let length = stream.read_u16().await.unwrap();
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await.unwrap();
    answer
}

#[test]
fn plain_transports_keep_the_letter_case_and_dot_pads() {
    run(async {
        let server = Fixture::start().await;
        let message = query(0x1234, "AliCe.ghost", b"");
        let socket = udp(&server).await;
        socket.send(&message).await.unwrap();
        let over_udp = receive(&socket).await;
        let mut tcp = TcpStream::connect(server.addr(Service::Tcp)).await.unwrap();
        let over_tcp = ask_stream(&mut tcp, &message).await;
        let mut tls = server.tcp_tls(Service::Tls, b"dot").await;
        let over_tls = ask_stream(&mut tls, &message).await;
        for answer in [&over_udp, &over_tcp, &over_tls] {
            assert!(is_answer(answer, 0x1234));
            assert_eq!(answer[12..29], message[12..29]);
        }
        assert_eq!(over_tls.len() % RESPONSE_PAD_BLOCK, 0);
        for transport in [Transport::Udp, Transport::Tcp, Transport::Tls] {
            assert_eq!(server.metrics.queries(transport, Outcome::NoError), 1);
        }
    });
}

#[test]
fn a_datagram_never_grows_over_what_the_client_takes() {
    run(async {
        let server = Fixture::with(Limits { amplification: NonZeroU32::MAX, ..Limits::default() }).await;
        let socket = udp(&server).await;
        // 12 of header, 17 of question, 11 of OPT, 16 a record: 1,224 for 74.
        for (count, truncated) in [(74, false), (75, true), (200, true)] {
            socket.send(&query(1, &format!("many{count}.ghost"), b"")).await.unwrap();
            let answer = receive(&socket).await;
            assert_eq!((answer[2] & 2 != 0, answer[7] == 0), (truncated, truncated), "{count}");
            assert!(answer.len() <= 1_232);
        }
    });
}

/// T13. What is too long for an address that nothing proves is there over TCP.
#[test]
fn a_datagram_gets_three_octets_for_one() {
    run(async {
        let server = Fixture::start().await;
        let socket = udp(&server).await;
        // 11 of OPT, 16 a record.
        for (count, truncated) in [(1, false), (5, false), (6, true), (74, true)] {
            let asked = query(1, &format!("many{count}.ghost"), b"");
            socket.send(&asked).await.unwrap();
            let answer = receive(&socket).await;
            assert!(answer.len() <= 3 * asked.len(), "{count}");
            assert_eq!((answer[2] & 2 != 0, usize::from(answer[7])), (truncated, if truncated { 0 } else { count }));
        }
        assert_eq!(server.metrics.responses_cut.get(), 2);
        let mut tcp = TcpStream::connect(server.addr(Service::Tcp)).await.unwrap();
        assert_eq!(ask_stream(&mut tcp, &query(2, "many74.ghost", b"")).await[7], 74);
    });
}

#[test]
fn over_the_rate_udp_drops_or_truncates_and_tcp_refuses() {
    run(async {
        let server = Fixture::with(tight()).await;
        let socket = udp(&server).await;
        for id in 1..=3 {
            socket.send(&query(id, "alice.ghost", b"")).await.unwrap();
        }
        let answers = [receive(&socket).await, receive(&socket).await];
        let truncated: Vec<_> = answers.iter().map(|answer| (answer[2] & 2 != 0, answer[7])).collect();
        assert!(truncated.contains(&(false, 1)) && truncated.contains(&(true, 0)), "{truncated:?}");
        // Whoever sent the datagrams, the client has its own allowance where its address is proven.
        let mut tcp = TcpStream::connect(server.addr(Service::Tcp)).await.unwrap();
        assert!(is_answer(&ask_stream(&mut tcp, &query(4, "alice.ghost", b"")).await, 4));
        let refused = ask_stream(&mut tcp, &query(5, "alice.ghost", b"")).await;
        assert_eq!(rcode(&refused), 5);
        assert!(refused.ends_with(b"\0\x0f\0\x02\0\x12"));
    });
}

#[test]
fn a_client_over_tcp_is_told_how_long_it_may_idle() {
    run(async {
        let server = Fixture::start().await;
        let mut tcp = TcpStream::connect(server.addr(Service::Tcp)).await.unwrap();
        let answer = ask_stream(&mut tcp, &query(1, "alice.ghost", b"\0\x0b\0\0")).await;
        // Thirty seconds, in tenths.
        assert!(answer.ends_with(b"\0\x0b\0\x02\x01\x2c"), "{answer:02x?}");
    });
}

/// A PROXY header, version 2, of a client with this address.
fn introduction(addr: [u8; 4]) -> Vec<u8> {
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c"[..], &addr, &[127, 0, 0, 1, 0, 7, 0, 53]].concat()
}

#[test]
fn behind_a_balancer_limits_are_those_of_the_client() {
    run(async {
        let server = Fixture::behind_proxy(tight()).await;
        let socket = udp(&server).await;
        let ask = |id, addr| [introduction(addr), query(id, "alice.ghost", b"")].concat();
        // One a client: its second gets silence, its third is asked over to TCP; another's first is answered, and nobody
        // who is not introduced.
        for message in
            [ask(1, [192, 0, 2, 1]), ask(2, [192, 0, 2, 1]), ask(3, [192, 0, 2, 1]), query(4, "a.ghost", b"")]
        {
            socket.send(&message).await.unwrap();
        }
        socket.send(&ask(5, [192, 0, 2, 2])).await.unwrap();
        let ids = [receive(&socket).await[1], receive(&socket).await[1], receive(&socket).await[1]];
        assert_eq!(ids, [1, 3, 5]);
        // Over TCP the header comes once.
        let mut tcp = TcpStream::connect(server.addr(Service::Tcp)).await.unwrap();
        tcp.write_all(&introduction([192, 0, 2, 3])).await.unwrap();
        for (id, expected) in [(1, 0), (2, 5)] {
            assert_eq!(rcode(&ask_stream(&mut tcp, &query(id, "alice.ghost", b"")).await), expected, "{id}");
        }
        let mut stranger = TcpStream::connect(server.addr(Service::Tcp)).await.unwrap();
        stranger.write_all(&framed(&query(1, "alice.ghost", b""))).await.unwrap();
        assert_eq!(stranger.read(&mut [0; 16]).await.unwrap_or(0), 0);
    });
}

#[test]
fn behind_a_balancer_what_is_said_too_often_is_said_too_often_to_one_network() {
    run(async {
        let limits = Limits { responses_per_second: NonZeroU32::new(1).unwrap(), ..Limits::default() };
        let server = Fixture::behind_proxy(limits).await;
        let socket = udp(&server).await;
        for network in 0..20 {
            let ask = [introduction([198, 51, network, 1]), query(u16::from(network), "alice.ghost", b"")].concat();
            socket.send(&ask).await.unwrap();
            let answer = receive(&socket).await;
            assert_eq!((answer[1], answer[7]), (network, 1));
        }
        assert_eq!(server.metrics.responses_limited.get(), 0);
    });
}

#[test]
fn what_is_said_too_often_over_udp_is_said_no_more() {
    run(async {
        let server =
            Fixture::with(Limits { responses_per_second: NonZeroU32::new(2).unwrap(), ..Limits::default() }).await;
        let socket = udp(&server).await;
        for id in 1..=4 {
            socket.send(&query(id, "alice.ghost", b"")).await.unwrap();
        }
        socket.send(&query(5, "bob.ghost", b"")).await.unwrap();
        let mut told = Vec::new();
        for _ in 0..4 {
            let answer = receive(&socket).await;
            told.push((answer[1], answer[2] & 2 != 0, answer[7]));
        }
        // The third is silence, and the fourth asks over to TCP.
        assert_eq!(told, [(1, false, 1), (2, false, 1), (4, true, 0), (5, false, 1)]);
        assert_eq!(server.metrics.responses_limited.get(), 2);
    });
}

#[test]
fn who_has_had_much_work_done_gets_what_is_there_already() {
    run(async {
        let server =
            Fixture::with(Limits { cpu_ms_per_second: NonZeroU32::new(1).unwrap(), ..Limits::default() }).await;
        let first = server.doq().await;
        // Each is work for more than half a second of such a share, and two seconds' are lent.
        let mut others = Vec::new();
        while let Ok(another) = server.quic(Service::Quic, b"doq").await {
            others.push(another);
            assert!(others.len() < 20, "no end");
        }
        assert!((2..=10).contains(&others.len()), "{}", others.len());
        let mut refused = exchange(&first, &framed(&query(0, "slow.ghost", b""))).await.unwrap();
        assert_eq!((rcode(&refused), refused.split_off(refused.len() - 2)), (5, vec![0, 18]));
        assert!(is_answer(&exchange(&first, &framed(&query(0, "alice.ghost", b""))).await.unwrap(), 0));
        assert_eq!(server.metrics.queries(Transport::Quic, Outcome::Limited), 1);
        // Whose datagrams those are is not known.
        udp(&server).await.send(&query(7, "slow.ghost", b"")).await.unwrap();
        assert_eq!(server.answerer.held(1).await.len(), 1);
    });
}

#[test]
fn who_does_not_take_answers_gets_no_more_of_them() {
    run(async {
        let server = Fixture::with(Limits { held: 5_000, ..Limits::default() }).await;
        let crypto = QuicClientConfig::try_from(server.tls(b"doq")).unwrap();
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        let mut transport = quinn::TransportConfig::default();
        transport.stream_receive_window(VarInt::from_u32(16));
        config.transport_config(Arc::new(transport));
        let endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let connecting = endpoint.connect_with(config, server.addr(Service::Quic), "localhost").unwrap();
        let connection = connecting.await.unwrap();
        let question = framed(&query(0, "many100.ghost", b""));
        let mut untaken = Vec::new();
        for _ in 0..2 {
            let (mut send, mut recv) = connection.open_bi().await.unwrap();
            send.write_all(&question).await.unwrap();
            send.finish().unwrap();
            // It has begun to arrive.
            recv.read_exact(&mut [0; 2]).await.unwrap();
            untaken.push(recv);
        }
        let refused = exchange(&connection, &question).await.unwrap_err();
        let ReadToEndError::Read(ReadError::Reset(code)) = refused else { panic!("{refused}") };
        assert_eq!(code, doq::EXCESSIVE_LOAD);
        assert_eq!(server.metrics.answers_untaken.get(), 1);
        for mut recv in untaken {
            assert!(recv.read_to_end(70_000).await.unwrap().len() > 1_600);
        }
        assert!(exchange(&connection, &question).await.unwrap().len() > 1_600);
    });
    run(async {
        let server = Fixture::with(Limits { held: 300, ..Limits::default() }).await;
        for version in [Version::HTTP_11, Version::HTTP_2, Version::HTTP_3] {
            let refused = http(&server, version, get(&query(0, "alice.ghost", b""))).await;
            assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS, "{version:?}");
        }
        let unanswered = async |mut stream: Box<dyn Stream>| {
            stream.write_all(&framed(&query(7, "many100.ghost", b""))).await.unwrap();
            let mut octets = Vec::new();
            // Whether it is told that nothing comes any more, or cut off, depends on what it had still to say.
            let _ = stream.read_to_end(&mut octets).await;
            assert_eq!(octets, b"");
        };
        unanswered(Box::new(TcpStream::connect(server.addr(Service::Tcp)).await.unwrap())).await;
        unanswered(Box::new(server.tcp_tls(Service::Tls, b"dot").await)).await;
        assert_eq!(server.metrics.answers_untaken.get(), 5);
    });
}

#[test]
fn queries_without_an_end_are_kept_up_to_a_bound() {
    run(async {
        let server = Fixture::start().await;
        let connection = server.doq().await;
        let mut begun = [0x0f, 0xf0].to_vec();
        begun.resize(4_000, 0);
        let mut streams = Vec::new();
        let refused = loop {
            assert!(streams.len() * begun.len() <= MAX_PARTIAL, "no end");
            let (mut send, recv) = connection.open_bi().await.unwrap();
            send.write_all(&begun).await.unwrap();
            streams.push((send, recv));
            // Answered after what came before it has been read.
            assert!(is_answer(&exchange(&connection, &framed(&query(0, "alice.ghost", b""))).await.unwrap(), 0));
            let (_, recv) = streams.last_mut().unwrap();
            if let Some(Err(error)) = recv.read(&mut [0]).now_or_never() {
                break error;
            }
        };
        assert_eq!(refused, ReadError::Reset(doq::EXCESSIVE_LOAD));
        assert!(streams.len() >= MAX_PARTIAL / begun.len(), "{}", streams.len());
    });
}

// --- Metrics, health, drain ---------------------------------------------------------------------------------

/// An AXFR query.
fn transfer_query(id: u16) -> Vec<u8> {
    let mut message = query(id, "zone.ghost", b"");
    let at = message.len() - 11 - 4;
    message[at..at + 2].copy_from_slice(&Rtype::AXFR.0.to_be_bytes());
    message
}

#[test]
fn zones_leave_as_many_messages_over_streams_and_not_otherwise() {
    run(async {
        let server = Fixture::start().await;
        let udp = udp(&server).await;
        udp.send(&transfer_query(1)).await.unwrap();
        assert_eq!(rcode(&receive(&udp).await), 5);
        let refused = http(&server, Version::HTTP_2, get(&transfer_query(0))).await;
        assert_eq!(rcode(refused.body()), 5);

        let mut tcp = TcpStream::connect(server.addr(Service::Tcp)).await.unwrap();
        let mut tls = server.tcp_tls(Service::Tls, b"dot").await;
        for stream in [&mut tcp as &mut dyn Stream, &mut tls] {
            let first = ask_stream(stream, &transfer_query(7)).await;
            let second = read_framed(stream).await;
            assert!(is_answer(&first, 7) && is_answer(&second, 7) && first != second);
            // The connection goes on.
            assert!(is_answer(&ask_stream(stream, &query(8, "alice.ghost", b"")).await, 8));
        }

        let (mut send, mut recv) = server.doq().await.open_bi().await.unwrap();
        send.write_all(&framed(&transfer_query(0))).await.unwrap();
        send.finish().unwrap();
        let both = recv.read_to_end(70_000).await.unwrap();
        let first = usize::from(u16::from_be_bytes([both[0], both[1]]));
        assert!(is_answer(&both[2..2 + first], 0) && is_answer(&both[4 + first..], 0));
        // RFC 9103 §7.1.
        let mut old = server.old_tls(Service::Tls, b"dot").await;
        assert_eq!(rcode(&ask_stream(&mut old, &transfer_query(9)).await), 5);
    });
}

#[test]
fn sessions_over_tls_and_http_3_are_resumed_however_many_came_in_between() {
    run(async {
        let server = Fixture::start().await;
        for (service, alpn) in [(Service::Tls, &b"dot"[..]), (Service::Https, b"http/1.1")] {
            let connector = TlsConnector::from(Arc::new(server.tls(alpn)));
            let connect = async || {
                let stream = TcpStream::connect(server.addr(service)).await.unwrap();
                let mut tls = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
                // Tickets come after the handshake, before anything else.
                if service == Service::Tls {
                    ask_stream(&mut tls, &query(1, "alice.ghost", b"")).await;
                } else {
                    tls.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
                    tls.read_u8().await.unwrap();
                }
                tls.get_ref().1.handshake_kind()
            };
            assert_eq!(connect().await, Some(HandshakeKind::Full));
            for _ in 0..300 {
                server.tcp_tls(service, alpn).await;
            }
            assert_eq!(connect().await, Some(HandshakeKind::Resumed), "{service:?}");
        }
    });
}

/// The client would have AES-256 and SHA-384 first, which take longer.
#[test]
fn of_the_suites_that_a_client_has_the_one_that_costs_least_is_chosen() {
    run(async {
        let server = Fixture::start().await;
        let suite = |stream: &TlsStream<TcpStream>| stream.get_ref().1.negotiated_cipher_suite().unwrap().suite();
        for (service, alpn) in [(Service::Tls, &b"dot"[..]), (Service::Https, b"h2")] {
            assert_eq!(suite(&server.tcp_tls(service, alpn).await), CipherSuite::TLS13_AES_128_GCM_SHA256);
            let old = suite(&server.old_tls(service, alpn).await);
            assert_eq!(old, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
        }
    });
}

/// A stream that breaks the framing is closed; what came before is answered, and one octet at a time is fine.
#[test]
fn tcp_frames_may_come_in_pieces_and_must_be_whole() {
    run(async {
        let server = Fixture::start().await;
        let mut tcp = TcpStream::connect(server.addr(Service::Tcp)).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        for octet in framed(&query(1, "alice.ghost", b"")) {
            tcp.write_all(&[octet]).await.unwrap();
        }
        assert!(is_answer(&read_framed(&mut tcp).await, 1));
        // Two at once, then one that announces more than a query may have.
        let long = [&[0xff, 0xff][..], &query(4, "alice.ghost", b"")].concat();
        let pipelined = [framed(&query(2, "alice.ghost", b"")), framed(&query(3, "bob.ghost", b"")), long].concat();
        tcp.write_all(&pipelined).await.unwrap();
        for id in [2, 3] {
            assert!(is_answer(&read_framed(&mut tcp).await, id));
        }
        assert_eq!(rcode(&read_framed(&mut tcp).await), 1);
        assert_eq!(tcp.read(&mut [0; 1]).await.unwrap_or(0), 0);
    });
}

async fn plain_get(server: &Fixture, path: &str) -> Response<Bytes> {
    plain_get_of(server, path, "localhost").await
}

async fn plain_get_of(server: &Fixture, path: &str, host: &str) -> Response<Bytes> {
    let stream = TcpStream::connect(server.addr(Service::Metrics)).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get(path).header("host", host).body(Full::new(Bytes::new())).unwrap();
    whole(sender.send_request(request).await.unwrap()).await
}

#[test]
fn the_operator_sees_health_and_counters() {
    run(async {
        let server = Fixture::start().await;
        http(&server, Version::HTTP_2, get(&query(0, "alice.ghost", b""))).await;
        assert_eq!(plain_get(&server, "/healthz").await.status(), StatusCode::OK);
        assert_eq!(plain_get(&server, "/readyz").await.status(), StatusCode::OK);
        assert_eq!(plain_get(&server, "/nothing").await.status(), StatusCode::NOT_FOUND);
        for (path, status) in [("/metrics", 421), ("/readyz", 421), ("/healthz", 200)] {
            let response = plain_get_of(&server, path, "evil.example").await;
            assert_eq!(
                (response.status().as_u16(), &response.headers()["x-content-type-options"]),
                (status, &"nosniff".parse().unwrap())
            );
        }
        let metrics = plain_get(&server, "/metrics").await.into_body();
        let text = std::str::from_utf8(&metrics).unwrap();
        let line = "ghostplane_queries_total{transport=\"https\",tld=\"other\",outcome=\"noerror\"} 1\n";
        assert!(text.contains(line), "{text}");
    });
}

#[test]
fn a_drain_lets_answers_under_way_leave() {
    run(async {
        let mut server = Fixture::start().await;
        let message = query(0, "slow.ghost", b"");
        let connection = server.doq().await;
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&framed(&message)).await.unwrap();
        send.finish().unwrap();
        let mut tcp = TcpStream::connect(server.addr(Service::Tcp)).await.unwrap();
        let over_tcp = ask_stream(&mut tcp, &message);
        let over_h2 = http(&server, Version::HTTP_2, get(&message));
        let over_h3 = http(&server, Version::HTTP_3, get(&message));
        let release = async {
            let held = server.answerer.held(4).await;
            server.shutdown.trigger();
            assert_eq!(plain_get(&server, "/readyz").await.status(), StatusCode::SERVICE_UNAVAILABLE);
            for (query, done) in held {
                done(reply(&query, Transport::Tcp));
            }
        };
        let (over_doq, over_tcp, over_h2, over_h3, ()) =
            tokio::join!(recv.read_to_end(70_000), over_tcp, over_h2, over_h3, release);
        assert!(is_answer(&over_doq.unwrap()[2..], 0));
        assert!(is_answer(&over_tcp, 0));
        assert!(is_answer(over_h2.body(), 0));
        assert!(is_answer(over_h3.body(), 0));
        assert_closed(&connection, doq::NO_ERROR).await;
        server.stop().await;
    });
}
