//! A QUIC client without a runtime: quinn-proto's state machine, a socket, and one loop in which every wait is bounded.
//!
//! ```text
//! step: transmit what is due ─ take events ─ wait for a datagram, a timer or the time that was given ─ hand it in
//! ```

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use quinn_proto::crypto::rustls::{HandshakeData, QuicClientConfig};
use quinn_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig, Event,
    ReadError, StreamEvent, StreamId, TokenStore, TransportConfig, VarInt, WriteError,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue, WebPkiServerVerifier,
};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, NamedGroup, SignatureScheme};

use crate::dns::{Draft, Message, messages};
use crate::{Miss, Target};

/// How long something that ought to come is waited for, if the case's own time is not over before.
const PATIENCE: Duration = Duration::from_secs(3);
/// Streams that the server could open, if it did what it must not.
const SERVER_STREAMS: u32 = 8;
/// A transport parameter (RFC 9000 §18.2).
const INITIAL_MAX_STREAMS_BIDI: u64 = 0x08;
/// Octets of the largest datagram that can arrive.
const MAX_DATAGRAM: usize = 65_535;

/// One run of one case: what it talks to, and until when.
pub struct Trial<'a> {
    pub target: &'a Target,
    pub deadline: Instant,
}

impl Trial<'_> {
    /// A connection with ALPN "doq", established.
    pub fn connect(&self) -> Result<Link, Miss> {
        self.connect_as(&Profile::new(self.target, Options::default()))
    }

    pub fn connect_as(&self, profile: &Profile) -> Result<Link, Miss> {
        let mut link = self.begin(profile);
        link.established()?;
        Ok(link)
    }

    /// A connection whose first datagram has not left yet.
    pub fn begin(&self, profile: &Profile) -> Link {
        Link::new(self.target.server, self.deadline, profile)
    }

    /// The question that the target was promised to answer.
    pub fn question(&self) -> Draft {
        Draft::query(&self.target.name, crate::dns::A)
    }
}

/// How a profile differs from the usual one.
pub struct Options {
    pub alpn: Vec<Vec<u8>>,
    /// What the client says it wants to reach; the target's host name if none.
    pub server_name: Option<String>,
    /// Octets of one stream that the server may send before it is given more.
    pub window: Option<u32>,
    /// Accept every certificate.
    pub trusting: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { alpn: vec![b"doq".to_vec()], server_name: None, window: None, trusting: false }
    }
}

/// What connections are made with. Those of one profile share session tickets and address validation tokens.
pub struct Profile {
    quic: ClientConfig,
    server_name: String,
    pub tickets: Arc<Tickets>,
    pub tokens: Arc<Tokens>,
    verifier: Arc<Verifier>,
}

impl Profile {
    pub fn new(target: &Target, options: Options) -> Self {
        let (tickets, tokens) = (Arc::new(Tickets::default()), Arc::new(Tokens::default()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("ring has TLS 1.3");
        let roots = target.roots.clone().filter(|_| !options.trusting);
        let authority = roots.map(|roots| {
            let built = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
            built.expect("there are roots, and no revocation lists")
        });
        let verifier = Arc::new(Verifier { provider, authority, seen: AtomicUsize::new(0) });
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier.clone());
        let mut tls = builder.with_no_client_auth();
        tls.alpn_protocols = options.alpn;
        tls.enable_early_data = true;
        tls.resumption = Resumption::store(tickets.clone());
        let mut transport = TransportConfig::default();
        transport
            .max_concurrent_bidi_streams(SERVER_STREAMS.into())
            .max_concurrent_uni_streams(SERVER_STREAMS.into())
            .mtu_discovery_config(None);
        if let Some(window) = options.window {
            transport.stream_receive_window(window.into());
        }
        let crypto = QuicClientConfig::try_from(tls).expect("ring has the initial cipher suite");
        let mut quic = ClientConfig::new(Arc::new(crypto));
        quic.transport_config(Arc::new(transport)).token_store(tokens.clone());
        let server_name = options.server_name.unwrap_or_else(|| target.hostname.clone());
        Self { quic, server_name, tickets, tokens, verifier }
    }

    /// Certificates that servers have shown so far.
    pub fn certificates(&self) -> usize {
        self.verifier.seen.load(Ordering::Relaxed)
    }
}

/// Session tickets (RFC 8446 §4.6.1), newest last, in the hands of the cases.
#[derive(Debug, Default)]
pub struct Tickets(Mutex<Vec<Tls13ClientSessionValue>>);

impl Tickets {
    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// True if the newest one allows 0-RTT.
    pub fn allow_early_data(&self) -> bool {
        self.0.lock().unwrap().last().is_some_and(|ticket| ticket.max_early_data_size() > 0)
    }

    /// Seconds for which the newest one is good. rustls tells them in its debug text only.
    pub fn lifetime(&self) -> Option<u64> {
        let text = format!("{:?}", self.0.lock().unwrap().last()?);
        let seconds = text.split("lifetime_secs: ").nth(1)?;
        seconds.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.0.lock().unwrap().push(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().unwrap().pop()
    }
}

/// Address validation tokens (RFC 9000 §8.1.3), in the hands of the cases.
#[derive(Debug, Default)]
pub struct Tokens(Mutex<Vec<Vec<u8>>>);

impl Tokens {
    pub fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    pub fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    pub fn put(&self, token: Vec<u8>) {
        self.0.lock().unwrap().push(token);
    }
}

impl TokenStore for Tokens {
    fn insert(&self, _: &str, token: bytes::Bytes) {
        self.put(token.to_vec());
    }

    fn take(&self, _: &str) -> Option<bytes::Bytes> {
        self.0.lock().unwrap().pop().map(bytes::Bytes::from)
    }
}

/// Checks certificates, and counts them: a session that is resumed has none.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// None for servers whose CA was not given: whoever holds the certificate's key will do.
    authority: Option<Arc<WebPkiServerVerifier>>,
    seen: AtomicUsize,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.seen.fetch_add(1, Ordering::Relaxed);
        self.authority.as_ref().map_or(Ok(ServerCertVerified::assertion()), |authority| {
            authority.verify_server_cert(certificate, intermediates, server_name, ocsp_response, now)
        })
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("QUIC has no TLS 1.2".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What happens to datagrams on their way.
#[derive(Debug, Default)]
pub struct Weather {
    /// Nothing leaves until `Link::speak_again`.
    pub mute: bool,
    /// Each datagram leaves twice.
    pub twice: bool,
    /// One of so many gets lost, in each direction.
    pub lose: Option<usize>,
}

/// One connection and the socket it has to itself.
pub struct Link {
    pub connection: Connection,
    endpoint: Endpoint,
    handle: ConnectionHandle,
    socket: UdpSocket,
    server: SocketAddr,
    deadline: Instant,
    connected: bool,
    lost: Option<ConnectionError>,
    inboxes: BTreeMap<StreamId, Inbox>,
    /// Streams that the server opened.
    pub intruders: Vec<StreamId>,
    /// Streams that the server asked us to send no more on.
    pub stopped: Vec<StreamId>,
    pub weather: Weather,
    held_back: Vec<Vec<u8>>,
    /// Datagrams that left or are held back, and that came.
    pub sent: Vec<Vec<u8>>,
    pub came: Vec<Vec<u8>>,
}

/// What came on a stream.
#[derive(Debug, Default, Clone)]
pub struct Inbox {
    pub octets: Vec<u8>,
    pub end: Option<End>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Fin,
    /// RESET_STREAM with this code.
    Reset(u64),
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// CONNECTION_CLOSE of the application, with a code of RFC 9250 §4.3.
    Application(u64),
    /// CONNECTION_CLOSE of QUIC itself, with a code of RFC 9000 §20.1.
    Transport(u64),
    /// Nothing came any more, for as long as the idle timeout is.
    TimedOut,
    /// Anything else, told in words.
    Other(String),
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Application(code) => write!(f, "closed with {}", doq_code(*code)),
            Self::Transport(code) => write!(f, "closed by QUIC with error {code:#x}"),
            Self::TimedOut => f.write_str("lost: nothing comes any more"),
            Self::Other(words) => write!(f, "lost: {words}"),
        }
    }
}

/// The name of a DoQ error code (RFC 9250 §8.4).
pub fn doq_code(code: u64) -> String {
    match code {
        0 => "DOQ_NO_ERROR".to_owned(),
        1 => "DOQ_INTERNAL_ERROR".to_owned(),
        2 => "DOQ_PROTOCOL_ERROR".to_owned(),
        3 => "DOQ_REQUEST_CANCELLED".to_owned(),
        4 => "DOQ_EXCESSIVE_LOAD".to_owned(),
        5 => "DOQ_UNSPECIFIED_ERROR".to_owned(),
        0xd098_ea5e => "DOQ_ERROR_RESERVED".to_owned(),
        other => format!("{other:#x}, which is not registered"),
    }
}

impl Link {
    fn new(server: SocketAddr, deadline: Instant, profile: &Profile) -> Self {
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, false, None);
        let (handle, connection) = endpoint
            .connect(Instant::now(), profile.quic.clone(), server, &profile.server_name)
            .expect("the server's name and address were checked at the start");
        Self {
            connection,
            endpoint,
            handle,
            socket: socket_towards(server),
            server,
            deadline,
            connected: false,
            lost: None,
            inboxes: BTreeMap::new(),
            intruders: Vec::new(),
            stopped: Vec::new(),
            weather: Weather::default(),
            held_back: Vec::new(),
            sent: Vec::new(),
            came: Vec::new(),
        }
    }

    /// Waits until the handshake is complete.
    pub fn established(&mut self) -> Result<(), Miss> {
        if self.wait(PATIENCE, |link| link.connected) {
            return Ok(());
        }
        Err(Miss::Fail(
            self.ending().map_or("no handshake in time".to_owned(), |ending| format!("handshake: {ending}")),
        ))
    }

    pub fn is_established(&self) -> bool {
        self.connected
    }

    /// The protocol that the handshake selected.
    pub fn protocol(&self) -> Option<Vec<u8>> {
        let data = self.connection.crypto_session().handshake_data()?;
        data.downcast::<HandshakeData>().ok()?.protocol
    }

    /// The server's transport parameter of this number (RFC 9000 §18.2); none if it was left out.
    pub fn parameter(&self, wanted: u64) -> Option<Vec<u8>> {
        let parameters = self.connection.crypto_session().transport_parameters().ok()??;
        let mut octets = Vec::new();
        parameters.write(&mut octets);
        let mut rest = &octets[..];
        while !rest.is_empty() {
            let number = crate::packet::varint(&mut rest)?;
            let length = crate::packet::varint(&mut rest)? as usize;
            let value;
            (value, rest) = rest.split_at_checked(length)?;
            if number == wanted {
                return Some(value.to_vec());
            }
        }
        None
    }

    /// A transport parameter that is a number; 0 if it was left out.
    pub fn number(&self, wanted: u64) -> u64 {
        self.parameter(wanted).and_then(|value| crate::packet::varint(&mut &value[..])).unwrap_or(0)
    }

    /// Streams for queries that the server gave at first.
    pub fn credit(&self) -> u64 {
        self.number(INITIAL_MAX_STREAMS_BIDI)
    }

    /// How the connection ended, if it did.
    pub fn ending(&self) -> Option<Ending> {
        Some(match self.lost.as_ref()? {
            ConnectionError::ApplicationClosed(close) => Ending::Application(close.error_code.into_inner()),
            ConnectionError::ConnectionClosed(close) => Ending::Transport(close.error_code.into()),
            ConnectionError::TimedOut => Ending::TimedOut,
            ConnectionError::TransportError(error) => Ending::Other(format!("{:?}, {}", error.code, error.reason)),
            other => Ending::Other(other.to_string()),
        })
    }

    // --- Streams --------------------------------------------------------------------------------

    /// The next bidirectional stream, as soon as the server gives credit for it.
    pub fn open(&mut self) -> Result<StreamId, Miss> {
        let mut opened = None;
        self.wait(PATIENCE, |link| {
            opened = link.connection.streams().open(Dir::Bi);
            opened.is_some()
        });
        let id = opened.ok_or_else(|| self.miss("no credit for another stream"))?;
        self.inboxes.insert(id, Inbox::default());
        Ok(id)
    }

    /// A unidirectional stream; none if the server gives no credit for one.
    pub fn open_uni(&mut self) -> Option<StreamId> {
        self.connection.streams().open(Dir::Uni)
    }

    /// Hands octets to a stream, as flow control allows.
    pub fn write(&mut self, id: StreamId, mut octets: &[u8]) -> Result<(), Miss> {
        while !octets.is_empty() {
            match self.connection.send_stream(id).write(octets) {
                Ok(count) => octets = &octets[count..],
                Err(WriteError::Blocked) => {
                    let before = self.came.len();
                    if !self.wait(PATIENCE, |link| link.came.len() > before) {
                        return Err(self.miss("no credit for the rest of a query"));
                    }
                }
                Err(error) => return Err(self.miss(&format!("the stream takes no more: {error}"))),
            }
        }
        Ok(())
    }

    /// FIN. Too late if the server has stopped the stream, and then that is what a case sees.
    pub fn finish(&mut self, id: StreamId) {
        let _ = self.connection.send_stream(id).finish();
    }

    /// RESET_STREAM.
    pub fn reset(&mut self, id: StreamId, code: u32) {
        let _ = self.connection.send_stream(id).reset(VarInt::from_u32(code));
    }

    /// STOP_SENDING.
    pub fn stop(&mut self, id: StreamId, code: u32) {
        let _ = self.connection.recv_stream(id).stop(VarInt::from_u32(code));
    }

    /// Opens a stream, writes, and says FIN.
    pub fn send(&mut self, octets: &[u8]) -> Result<StreamId, Miss> {
        let id = self.open()?;
        self.write(id, octets)?;
        self.finish(id);
        Ok(id)
    }

    /// What came on a stream so far.
    pub fn inbox(&self, id: StreamId) -> Inbox {
        self.inboxes.get(&id).cloned().unwrap_or_default()
    }

    pub fn has_ended(&self, id: StreamId) -> bool {
        self.inboxes.get(&id).is_some_and(|inbox| inbox.end.is_some())
    }

    /// All messages of a stream that ends as it should.
    pub fn answers(&mut self, id: StreamId) -> Result<Vec<Message>, Miss> {
        if !self.wait(PATIENCE, |link| link.has_ended(id)) {
            let octets = self.inbox(id).octets.len();
            return Err(self.miss(&format!("no end of the answer in time, after {octets} octets")));
        }
        let inbox = self.inbox(id);
        if let Some(End::Reset(code)) = inbox.end {
            return Err(Miss::Fail(format!("the stream was reset with {}", doq_code(code))));
        }
        messages(&inbox.octets).map_err(Miss::Fail)
    }

    /// The one message of a stream.
    pub fn answer(&mut self, id: StreamId) -> Result<Message, Miss> {
        let mut answers = self.answers(id)?;
        match answers.len() {
            1 => Ok(answers.remove(0)),
            count => Err(Miss::Fail(format!("{count} messages where one was expected"))),
        }
    }

    /// Asks on a stream of its own.
    pub fn ask(&mut self, query: &Draft) -> Result<Message, Miss> {
        let id = self.send(&query.framed())?;
        self.answer(id)
    }

    /// Asks what the target was promised to answer: the connection still serves.
    pub fn still_serves(&mut self, trial: &Trial) -> Result<(), Miss> {
        let answer = self.ask(&trial.question()).map_err(|miss| miss.about("the next query"))?;
        match answer.answers().next() {
            Some(_) => Ok(()),
            None => Err(Miss::Fail(format!("the next query: {} without an answer", answer.code()))),
        }
    }

    // --- Connection -----------------------------------------------------------------------------

    /// Goes on from another local port. The server is told by a new connection ID, or finds out by itself, as behind a NAT
    /// that forgot.
    pub fn change_port(&mut self, deliberately: bool) {
        self.socket = socket_towards(self.server);
        if deliberately {
            self.connection.local_address_changed();
        }
    }

    /// Lets go of what was held back.
    pub fn speak_again(&mut self) {
        self.weather.mute = false;
        for datagram in std::mem::take(&mut self.held_back) {
            self.throw(&datagram);
        }
    }

    pub fn close(&mut self, code: u32) {
        self.connection.close(Instant::now(), VarInt::from_u32(code), bytes::Bytes::new());
        self.flush();
    }

    /// Sends everything that is due now.
    pub fn flush(&mut self) {
        let mut datagram = Vec::new();
        while self.connection.poll_transmit(Instant::now(), 1, &mut datagram).is_some() {
            self.transmit(std::mem::take(&mut datagram));
        }
    }

    /// Runs the connection until something is so; false if it was not, in this time, and never will be once the
    /// connection is lost.
    pub fn wait(&mut self, within: Duration, mut is_so: impl FnMut(&mut Self) -> bool) -> bool {
        let until = (Instant::now() + within).min(self.deadline);
        loop {
            self.flush();
            self.take_events();
            if is_so(self) {
                return true;
            }
            if self.lost.is_some() || Instant::now() >= until {
                return false;
            }
            self.step(until);
        }
    }

    /// Runs the connection for a while.
    pub fn run_for(&mut self, time: Duration) {
        self.wait(time, |_| false);
    }

    /// Why something did not happen: the connection's end if it has ended, else these words.
    pub fn miss(&self, words: &str) -> Miss {
        Miss::Fail(self.ending().map_or_else(|| words.to_owned(), |ending| ending.to_string()))
    }

    /// Waits for a datagram until this time or the connection's next timer.
    fn step(&mut self, until: Instant) {
        let wake = self.connection.poll_timeout().map_or(until, |timer| timer.min(until));
        let datagram = receive(&self.socket, self.server, wake);
        let now = Instant::now();
        if self.connection.poll_timeout().is_some_and(|timer| timer <= now) {
            self.connection.handle_timeout(now);
        }
        let Some(datagram) = datagram else { return };
        let octets = datagram[..].into();
        self.came.push(datagram);
        if self.is_lost(self.came.len()) {
            return;
        }
        let event = self.endpoint.handle(now, self.server, None, None, octets, &mut Vec::new());
        if let Some(DatagramEvent::ConnectionEvent(_, event)) = event {
            self.connection.handle_event(event);
        }
    }

    fn transmit(&mut self, datagram: Vec<u8>) {
        match &self.weather {
            Weather { mute: true, .. } => self.held_back.push(datagram.clone()),
            Weather { twice: true, .. } => [&datagram; 2].into_iter().for_each(|datagram| self.throw(datagram)),
            _ if self.is_lost(self.sent.len()) => {}
            _ => self.throw(&datagram),
        }
        self.sent.push(datagram);
    }

    fn throw(&self, datagram: &[u8]) {
        // A full buffer loses datagrams, as a network does.
        let _ = self.socket.send_to(datagram, self.server);
    }

    fn is_lost(&self, number: usize) -> bool {
        self.weather.lose.is_some_and(|lose| number.is_multiple_of(lose))
    }

    fn take_events(&mut self) {
        while let Some(event) = self.connection.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.connection.handle_event(event);
            }
        }
        while let Some(event) = self.connection.poll() {
            match event {
                Event::Connected => self.connected = true,
                Event::ConnectionLost { reason } => self.lost = Some(reason),
                Event::Stream(StreamEvent::Readable { id }) => self.read(id),
                Event::Stream(StreamEvent::Opened { dir }) => {
                    while let Some(id) = self.connection.streams().accept(dir) {
                        self.intruders.push(id);
                    }
                }
                Event::Stream(StreamEvent::Stopped { id, .. }) => self.stopped.push(id),
                _ => {}
            }
        }
    }

    fn read(&mut self, id: StreamId) {
        let Some(inbox) = self.inboxes.get_mut(&id) else { return };
        let mut stream = self.connection.recv_stream(id);
        // Closed: it was stopped by the case.
        let Ok(mut chunks) = stream.read(true) else { return };
        loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => inbox.octets.extend_from_slice(&chunk.bytes),
                Ok(None) => break inbox.end = Some(End::Fin),
                Err(ReadError::Reset(code)) => break inbox.end = Some(End::Reset(code.into_inner())),
                Err(ReadError::Blocked) => break,
            }
        }
        // What it says is seen by the next flush.
        let _ = chunks.finalize();
    }
}

impl Drop for Link {
    /// Leaves nothing behind at the server that the case did not mean to leave.
    fn drop(&mut self) {
        if self.lost.is_none() {
            self.close(0);
        }
    }
}

/// A socket of the server's address family.
pub fn socket_towards(server: SocketAddr) -> UdpSocket {
    let any: SocketAddr =
        if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    UdpSocket::bind(any).expect("a port is free")
}

/// The next datagram of the server's, if one comes until then.
pub fn receive(socket: &UdpSocket, server: SocketAddr, until: Instant) -> Option<Vec<u8>> {
    let mut buffer = vec![0; MAX_DATAGRAM];
    loop {
        // Zero would mean no timeout at all.
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_micros(50));
        socket.set_read_timeout(Some(left)).expect("a timeout that is not zero");
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) if from == server => {
                buffer.truncate(length);
                return Some(buffer);
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return None,
            // ICMP's word that nobody listens: the time that is left may change that.
            Err(_) => {}
        }
        if Instant::now() >= until {
            return None;
        }
    }
}
