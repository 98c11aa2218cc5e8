//! Binds all listeners, runs them, and drains them.
//!
//! ```text
//! this thread ── multi-thread runtime: UDP, TCP, DoT (hickory), HTTPS, metrics
//! "quic" ─────── single-threaded runtime: all DoQ and HTTP/3 endpoints
//! ```

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use quinn::{Endpoint, EndpointConfig, TokioRuntime};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::metrics::Metrics;
use crate::transport::admission::{Admission, Limits};
use crate::transport::tls::{ALPN_DOQ, ALPN_DOT, ALPN_H3, ALPN_HTTPS, Identity, TlsError};
use crate::transport::udp::Udp;
use crate::transport::{Answerer, Edge, RpcHandler, Shutdown, doq, h3, https, metrics, stream};

/// Octets that the kernel may keep for a UDP socket; it grants what it likes.
const UDP_BUFFER: usize = 4 << 20;
const BACKLOG: i32 = 1_024;
/// Ports that are free for UDP but taken for TCP, in a row, before giving up on port 0.
const PORT_ATTEMPTS: usize = 16;

/// Where and how to listen.
pub struct ServerConfig {
    pub addrs: Vec<IpAddr>,
    pub ports: Ports,
    pub identity: Identity,
    pub limits: Limits,
    /// Drain on SIGTERM and SIGINT.
    pub signals: bool,
}

impl ServerConfig {
    /// Loopback, IPv4 and IPv6.
    pub const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
}

/// Ports of the services; 0 lets the kernel choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// DNS over UDP and TCP.
    pub dns: u16,
    /// DoT over TCP, DoQ over UDP.
    pub tls: u16,
    /// HTTP/1.1 and HTTP/2 over TCP, HTTP/3 over UDP.
    pub https: u16,
    /// Metrics and health over TCP.
    pub metrics: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { dns: 5_300, tls: 8_530, https: 8_443, metrics: 9_530 }
    }
}

impl Ports {
    /// The kernel chooses all of them: for tests.
    pub const ANY: Self = Self { dns: 0, tls: 0, https: 0, metrics: 0 };

    /// `base` and the three ports after it, `None` if they do not exist; 0 is [`Self::ANY`].
    pub fn from_base(base: u16) -> Option<Self> {
        let last = base.checked_add(3)?;
        let ports = Self { dns: base, tls: base + 1, https: base + 2, metrics: last };
        Some(if base == 0 { Self::ANY } else { ports })
    }
}

/// What a listener speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    Udp,
    Tcp,
    Tls,
    Quic,
    Https,
    H3,
    Metrics,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Quic => "quic",
            Self::Https => "https",
            Self::H3 => "h3",
            Self::Metrics => "metrics",
        })
    }
}

/// The addresses that are really listened on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addrs(pub Vec<(Service, SocketAddr)>);

impl Addrs {
    /// The first address of a service.
    pub fn of(&self, service: Service) -> Option<SocketAddr> {
        self.0.iter().find(|(of, _)| *of == service).map(|(_, addr)| *addr)
    }
}

/// One line per listener.
impl fmt::Display for Addrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(service, addr)| writeln!(f, "listening {service:<8}{addr}"))
    }
}

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("{service} port {addr} is taken by another program; choose others with --port-base N")]
    Taken { service: Service, addr: SocketAddr },
    #[error("no right to listen on {addr} for {service}; use ports above 1023 with --port-base N, or grant the right")]
    Forbidden { service: Service, addr: SocketAddr },
    #[error("cannot listen on {addr} for {service}: {source}")]
    Bind { service: Service, addr: SocketAddr, source: io::Error },
    #[error("none of the configured addresses exists on this machine")]
    NoAddress,
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("this TLS configuration cannot carry QUIC: {0}")]
    Quic(#[from] quinn::crypto::rustls::NoInitialCipherSuite),
    #[error("cannot start a runtime: {0}")]
    Runtime(#[from] io::Error),
    #[error("the QUIC thread panicked")]
    Panicked,
}

impl ServeError {
    fn bind(service: Service, addr: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::Taken { service, addr },
            io::ErrorKind::PermissionDenied => Self::Forbidden { service, addr },
            _ => Self::Bind { service, addr, source },
        }
    }

    /// The machine has no such address, or no IPv6 at all.
    fn is_absence(&self) -> bool {
        const EAFNOSUPPORT: i32 = 97;
        matches!(self, Self::Bind { source, .. }
            if source.kind() == io::ErrorKind::AddrNotAvailable || source.raw_os_error() == Some(EAFNOSUPPORT))
    }
}

/// Listens, calls `on_ready` once everything does, and returns after `shutdown` (or a signal) when the
/// answers under way have left or `DRAIN_TIMEOUT` is over. Blocks; must not be called inside a runtime.
///
/// # Errors
/// Nothing was served: a port, the certificate or a runtime cannot be had.
pub fn run(
    config: ServerConfig,
    answerer: Arc<dyn Answerer>,
    rpc: Arc<dyn RpcHandler>,
    metrics: Arc<Metrics>,
    on_ready: impl FnOnce(&Addrs),
    shutdown: Shutdown,
) -> Result<(), ServeError> {
    let listeners = Listeners::bind(&config.addrs, config.ports)?;
    let addrs = listeners.addrs()?;
    let edge = Arc::new(Edge::new(answerer, rpc, Admission::new(config.limits), metrics, shutdown));
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).thread_name("edge").enable_all().build()?;
    let (quic_sockets, tcp_sockets) = listeners.split();
    let quic = start_quic(Arc::clone(&edge), quic_sockets, &config.identity)?;
    let served = runtime.block_on(async {
        let tasks = Tasks::start(&edge, tcp_sockets, &config.identity)?;
        if config.signals {
            // From here on: whoever is told that it is ready may stop it at once.
            let signals = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
            tokio::spawn(on_signals(signals, edge.shutdown.clone()));
        }
        edge.set_ready(true);
        on_ready(&addrs);
        edge.shutdown.triggered().await;
        tasks.drain().await;
        Ok(())
    });
    // Also on an error: the QUIC thread must not outlive us.
    edge.shutdown.trigger();
    quic.join().map_err(|_| ServeError::Panicked)?;
    served
}

async fn on_signals([mut terminate, mut interrupt]: [Signal; 2], shutdown: Shutdown) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    shutdown.trigger();
}

/// Everything on the multi-thread runtime.
struct Tasks {
    udp: Udp,
    /// TCP, TLS and HTTPS.
    streams: JoinSet<()>,
    /// Served to the very end.
    metrics: JoinSet<()>,
}

impl Tasks {
    fn start(edge: &Arc<Edge>, sockets: TcpSockets, identity: &Identity) -> Result<Self, ServeError> {
        let mut tasks = Self { udp: Udp::new(Arc::clone(edge)), streams: JoinSet::new(), metrics: JoinSet::new() };
        let dot = TlsAcceptor::from(Arc::new(identity.config(ALPN_DOT)?));
        let tls = TlsAcceptor::from(Arc::new(identity.config(ALPN_HTTPS)?));
        for socket in sockets.udp {
            tasks.udp.add(tokio::net::UdpSocket::from_std(socket)?)?;
        }
        for listener in sockets.tcp {
            tasks.streams.spawn(stream::serve_tcp(Arc::clone(edge), tokio_listener(listener)?));
        }
        for listener in sockets.tls {
            tasks.streams.spawn(stream::serve_tls(Arc::clone(edge), tokio_listener(listener)?, dot.clone()));
        }
        for listener in sockets.https {
            // HTTP/3 is on the same number, over UDP.
            let port = listener.local_addr()?.port();
            let serve = https::serve(Arc::clone(edge), tokio_listener(listener)?, tls.clone(), Some(port));
            tasks.streams.spawn(serve);
        }
        for listener in sockets.metrics {
            tasks.metrics.spawn(metrics::serve(Arc::clone(edge), tokio_listener(listener)?));
        }
        Ok(tasks)
    }

    async fn drain(mut self) {
        let streams = async { while self.streams.join_next().await.is_some() {} };
        tokio::join!(self.udp.drain(), streams);
        self.metrics.shutdown().await;
    }
}

fn tokio_listener(listener: TcpListener) -> io::Result<tokio::net::TcpListener> {
    tokio::net::TcpListener::from_std(listener)
}

/// Starts the QUIC thread; returns when its endpoints are up.
fn start_quic(edge: Arc<Edge>, sockets: QuicSockets, identity: &Identity) -> Result<JoinHandle<()>, ServeError> {
    let doq_config = doq::server_config(identity.quic_config(ALPN_DOQ)?)?;
    let h3_config = h3::server_config(identity.quic_config(ALPN_H3)?)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let (started, starting) = mpsc::channel();
    let thread = thread::Builder::new().name("quic".to_owned()).spawn(move || {
        runtime.block_on(async {
            let mut tasks = JoinSet::new();
            let result = sockets.serve(&edge, &doq_config, &h3_config, &mut tasks);
            // Fails only if the starter is gone; then the edge is shut down as well.
            let _ = started.send(result);
            while tasks.join_next().await.is_some() {}
        });
    })?;
    // No message: the thread panicked before it could send one.
    starting.recv().map_err(|_| ServeError::Panicked)??;
    Ok(thread)
}

struct QuicSockets {
    doq: Vec<UdpSocket>,
    h3: Vec<UdpSocket>,
}

impl QuicSockets {
    fn serve(
        self,
        edge: &Arc<Edge>,
        doq_config: &quinn::ServerConfig,
        h3_config: &quinn::ServerConfig,
        tasks: &mut JoinSet<()>,
    ) -> io::Result<()> {
        for socket in self.doq {
            tasks.spawn(doq::serve(Arc::clone(edge), endpoint(socket, doq_config)?));
        }
        for socket in self.h3 {
            tasks.spawn(h3::serve(Arc::clone(edge), endpoint(socket, h3_config)?));
        }
        Ok(())
    }
}

fn endpoint(socket: UdpSocket, config: &quinn::ServerConfig) -> io::Result<Endpoint> {
    Endpoint::new(EndpointConfig::default(), Some(config.clone()), socket, Arc::new(TokioRuntime))
}

struct TcpSockets {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    tls: Vec<TcpListener>,
    https: Vec<TcpListener>,
    metrics: Vec<TcpListener>,
}

/// All sockets, bound and not yet served. One address's sockets stand at one index.
#[derive(Debug, Default)]
pub struct Listeners {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    tls: Vec<TcpListener>,
    quic: Vec<UdpSocket>,
    https: Vec<TcpListener>,
    h3: Vec<UdpSocket>,
    metrics: Vec<TcpListener>,
}

impl Listeners {
    /// Binds every service on every address. An address that this machine does not have is passed over
    /// with a warning, as long as there is another.
    ///
    /// # Errors
    /// A port is taken or forbidden, or no address is left.
    pub fn bind(addrs: &[IpAddr], ports: Ports) -> Result<Self, ServeError> {
        let mut listeners = Self::default();
        for &addr in addrs {
            match listeners.bind_one(addr, ports) {
                Err(error) if error.is_absence() => tracing::warn!(%addr, %error, "address passed over"),
                result => result?,
            }
        }
        if listeners.metrics.is_empty() { Err(ServeError::NoAddress) } else { Ok(listeners) }
    }

    fn bind_one(&mut self, ip: IpAddr, ports: Ports) -> Result<(), ServeError> {
        let (udp, tcp) = pair(ip, ports.dns, Service::Udp, Service::Tcp)?;
        let (quic, tls) = pair(ip, ports.tls, Service::Quic, Service::Tls)?;
        let (h3, https) = pair(ip, ports.https, Service::H3, Service::Https)?;
        let metrics = listen(SocketAddr::new(ip, ports.metrics), Service::Metrics)?;
        self.udp.push(udp);
        self.tcp.push(tcp);
        self.quic.push(quic);
        self.tls.push(tls);
        self.h3.push(h3);
        self.https.push(https);
        self.metrics.push(metrics);
        Ok(())
    }

    /// Where the sockets really are.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn addrs(&self) -> io::Result<Addrs> {
        let mut addrs = Vec::new();
        for index in 0..self.metrics.len() {
            addrs.extend([
                (Service::Udp, self.udp[index].local_addr()?),
                (Service::Tcp, self.tcp[index].local_addr()?),
                (Service::Tls, self.tls[index].local_addr()?),
                (Service::Quic, self.quic[index].local_addr()?),
                (Service::Https, self.https[index].local_addr()?),
                (Service::H3, self.h3[index].local_addr()?),
                (Service::Metrics, self.metrics[index].local_addr()?),
            ]);
        }
        Ok(Addrs(addrs))
    }

    fn split(self) -> (QuicSockets, TcpSockets) {
        let Self { udp, tcp, tls, quic, https, h3, metrics } = self;
        (QuicSockets { doq: quic, h3 }, TcpSockets { udp, tcp, tls, https, metrics })
    }
}

/// A UDP and a TCP socket on the same port number, also if the kernel chooses it.
fn pair(ip: IpAddr, port: u16, udp: Service, tcp: Service) -> Result<(UdpSocket, TcpListener), ServeError> {
    let mut attempts = if port == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        let socket = datagram(SocketAddr::new(ip, port), udp)?;
        let chosen = socket.local_addr()?;
        match listen(chosen, tcp) {
            Err(ServeError::Taken { .. }) if attempts > 0 => {}
            listener => return Ok((socket, listener?)),
        }
    }
}

/// No SO_REUSEADDR: on Linux it would let two servers share a UDP port without either noticing.
fn datagram(addr: SocketAddr, service: Service) -> Result<UdpSocket, ServeError> {
    let bind = || {
        let socket = socket(addr, Type::DGRAM, Protocol::UDP)?;
        // The kernel cuts these to its own limits; a small buffer only loses more under load.
        let _ = socket.set_recv_buffer_size(UDP_BUFFER);
        let _ = socket.set_send_buffer_size(UDP_BUFFER);
        socket.bind(&addr.into())?;
        Ok(socket.into())
    };
    bind().map_err(|source| ServeError::bind(service, addr, source))
}

/// SO_REUSEADDR: a restart must not wait for old connections in TIME_WAIT.
fn listen(addr: SocketAddr, service: Service) -> Result<TcpListener, ServeError> {
    let bind = || {
        let socket = socket(addr, Type::STREAM, Protocol::TCP)?;
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    bind().map_err(|source| ServeError::bind(service, addr, source))
}

fn socket(addr: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
    if addr.is_ipv6() {
        // The IPv4 wildcard has its own socket.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_follow_their_base() {
        assert_eq!(Ports::from_base(7_000), Some(Ports { dns: 7_000, tls: 7_001, https: 7_002, metrics: 7_003 }));
        assert_eq!(Ports::from_base(65_533), None);
        assert_eq!(Ports::from_base(0), Some(Ports::ANY));
    }

    #[test]
    fn a_taken_port_is_said_with_the_way_out() {
        let addrs = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let first = Listeners::bind(&addrs, Ports::ANY).unwrap().addrs();
        drop(first);
        let held = Listeners::bind(&addrs, Ports::ANY).unwrap();
        let taken = held.addrs().unwrap().of(Service::Udp).unwrap();
        let error = Listeners::bind(&addrs, Ports { dns: taken.port(), ..Ports::ANY }).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("udp port {taken} is taken by another program; choose others with --port-base N")
        );
    }

    #[test]
    fn udp_and_tcp_share_a_chosen_port() {
        let listeners = Listeners::bind(&[IpAddr::V4(Ipv4Addr::LOCALHOST)], Ports::ANY).unwrap();
        let addrs = listeners.addrs().unwrap();
        assert_eq!(addrs.of(Service::Udp), addrs.of(Service::Tcp));
        assert_eq!(addrs.of(Service::Quic), addrs.of(Service::Tls));
        assert_eq!(addrs.of(Service::H3), addrs.of(Service::Https));
        assert_eq!(addrs.to_string().lines().count(), 7);
    }

    #[test]
    fn addresses_of_other_machines_are_passed_over() {
        let elsewhere: IpAddr = "192.0.2.1".parse().unwrap();
        assert!(matches!(Listeners::bind(&[elsewhere], Ports::ANY), Err(ServeError::NoAddress)));
        let both = [elsewhere, IpAddr::V4(Ipv4Addr::LOCALHOST)];
        assert_eq!(Listeners::bind(&both, Ports::ANY).unwrap().addrs().unwrap().0.len(), 7);
    }
}
