//! Binds all listeners, runs them, and drains them.
//!
//! ```text
//! this thread ── signals, metrics
//! "edge-0" ───── single-threaded runtime: a socket of its own for every service and address
//! "edge-1" ───── the same; the kernel shares clients out between the cores (SO_REUSEPORT)
//! ```

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::num::NonZeroUsize;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use ipnet::IpNet;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::descriptors::{self, TooFew};
use crate::limits::MAX_CORES;
use crate::metrics::Metrics;
use crate::observe::Audience;
use crate::processors::{Processors, stand_back};
use crate::transport::admission::{Admission, Limits};
use crate::transport::hosts::Hosts;
use crate::transport::tls::{ALPN_DOQ, ALPN_DOT, ALPN_H3, ALPN_HTTPS, Identity, TlsError, resume_statelessly};
use crate::transport::{Answerer, Edge, RpcHandler, Shutdown, beat, doq, h3, https, metrics, quic, stream, udp};

/// Octets that the kernel may keep for a UDP socket; it grants what it likes.
const UDP_BUFFER: usize = 4 << 20;
const BACKLOG: i32 = 1_024;
/// Ports that are free for UDP but taken for TCP, in a row, before giving up on port 0.
const PORT_ATTEMPTS: usize = 16;

/// Where and how to listen.
pub struct ServerConfig {
    pub addrs: Vec<IpAddr>,
    /// Where metrics and health are told.
    pub metrics: Vec<IpAddr>,
    pub ports: Ports,
    pub identity: Identity,
    pub limits: Limits,
    /// Threads that serve sockets; at most [`MAX_CORES`].
    pub cores: NonZeroUsize,
    /// Balancers that speak the PROXY protocol.
    pub proxies: Vec<IpNet>,
    /// Whom queries are told to.
    pub audience: Audience,
    /// Descriptors that other parts of the program take while it runs.
    pub other_descriptors: usize,
    /// Names that it is called by beside those of its certificates.
    pub hosts: Vec<String>,
    /// Drain on SIGTERM and SIGINT.
    pub signals: bool,
}

impl ServerConfig {
    /// Loopback, IPv4 and IPv6.
    pub const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

    /// As many threads as the process may use cores, and there may be.
    pub fn all_cores() -> NonZeroUsize {
        const MOST: NonZeroUsize = NonZeroUsize::new(MAX_CORES).unwrap();
        thread::available_parallelism().map_or(NonZeroUsize::MIN, |cores| cores.min(MOST))
    }
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
    #[error(
        "{service} port {addr} is taken by another program; choose others with --port-base N, or [ports] in the config file"
    )]
    Taken { service: Service, addr: SocketAddr },
    #[error(
        "no right to listen on {addr} for {service}; use ports above 1023 (--port-base N, or [ports] in the config file), or grant the right"
    )]
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
    #[error(transparent)]
    Descriptors(#[from] TooFew),
    #[error("a thread that serves sockets panicked")]
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
    let cores = quic::Cores::new(config.cores.get());
    let listeners = Listeners::bind(&config.addrs, &config.metrics, config.ports, cores.count())?;
    let addrs = listeners.addrs()?;
    listeners.steer(&cores);
    let limits = within_descriptors(config.limits, cores.count(), config.other_descriptors)?;
    let admission = Admission::new(limits).behind(config.proxies);
    let admission = match answerer.meter() {
        Some(meter) => admission.metered_by(meter),
        None => admission,
    };
    let hosts = Hosts::new(config.hosts).of(config.identity.clone());
    let edge = Edge::new(answerer, rpc, admission, metrics, shutdown).observed_by(config.audience).called(hosts);
    let edge = Arc::new(edge.on_cores(cores.count()));
    let setup = Setup::new(&config.identity, cores)?;
    let Listeners { cores, metrics } = listeners;
    let mut threads = Threads::default();
    let served = threads.start(&edge, &setup, cores).and_then(|()| {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(oversee(&edge, metrics, config.signals, || on_ready(&addrs), &mut threads))
    });
    // Also on an error: no thread must outlive us.
    edge.shutdown.trigger();
    threads.join()?;
    served
}

/// Has no more connections than there are descriptors for, and no client take most of those.
fn within_descriptors(limits: Limits, cores: usize, others: usize) -> Result<Limits, ServeError> {
    /// Clients that it takes to have all connections, and connections that one may have at least.
    const CLIENTS: usize = 8;
    const LEAST: usize = 16;
    let limit = descriptors::raise()?;
    let wanted = limits.streams.min(limits.connections);
    let streams = descriptors::share(limit, descriptors::open(), cores + 2, others, wanted)?;
    if streams < wanted {
        tracing::warn!(
            "this process may have {limit} files and sockets open at once: {streams} connections over TCP, TLS and HTTPS, where \
             {wanted} are configured; raise the hard limit (LimitNOFILE= of a systemd unit, or ulimit -Hn)"
        );
    }
    let connections_per_prefix = limits.connections_per_prefix.min((streams / CLIENTS).max(LEAST));
    Ok(Limits { streams, connections_per_prefix, ..limits })
}

/// Says that all is ready, and serves the operator's view until the cores have stopped.
async fn oversee(
    edge: &Arc<Edge>,
    listeners: Vec<TcpListener>,
    signals: bool,
    on_ready: impl FnOnce(),
    threads: &mut Threads,
) -> Result<(), ServeError> {
    let mut tasks = JoinSet::new();
    for listener in listeners {
        tasks.spawn(metrics::serve(Arc::clone(edge), tokio_listener(listener)?));
    }
    if signals {
        // From here on: whoever is told that it is ready may stop it at once.
        let signals = [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?];
        tokio::spawn(on_signals(signals, edge.shutdown.clone()));
    }
    edge.set_ready(true);
    on_ready();
    tokio::select! {
        () = threads.ended() => Ok(()),
        // It never ends by itself.
        Some(_) = tasks.join_next() => Err(ServeError::Panicked),
    }
}

async fn on_signals([mut terminate, mut interrupt]: [Signal; 2], shutdown: Shutdown) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    shutdown.trigger();
}

/// What every core serves with.
#[derive(Clone)]
struct Setup {
    cores: quic::Cores,
    doq: Arc<quinn_proto::ServerConfig>,
    h3: Arc<quinn_proto::ServerConfig>,
    dot: TlsAcceptor,
    https: TlsAcceptor,
}

impl Setup {
    fn new(identity: &Identity, cores: quic::Cores) -> Result<Self, ServeError> {
        Ok(Self {
            cores,
            doq: Arc::new(doq::server_config(identity.quic_config(ALPN_DOQ)?)?),
            h3: Arc::new(h3::server_config(resume_statelessly(identity.quic_config(ALPN_H3)?)?)?),
            dot: TlsAcceptor::from(Arc::new(identity.config(ALPN_DOT)?)),
            https: TlsAcceptor::from(Arc::new(identity.config(ALPN_HTTPS)?)),
        })
    }
}

/// The cores' threads.
#[derive(Default)]
struct Threads {
    handles: Vec<JoinHandle<()>>,
    /// Each ends when its thread does.
    ends: Vec<oneshot::Receiver<()>>,
}

impl Threads {
    /// Returns when every core listens.
    fn start(&mut self, edge: &Arc<Edge>, setup: &Setup, cores: Vec<CoreSockets>) -> Result<(), ServeError> {
        let processors = Processors::shared_by(cores.len());
        for (core, sockets) in cores.into_iter().enumerate() {
            let mut runtime = runtime::Builder::new_current_thread();
            let (processors, helpers) = (processors.clone(), processors.clone());
            // Threads for what blocks, which that of the core starts.
            runtime.enable_all().on_thread_start(move || {
                helpers.as_ref().inspect(|processors| processors.roam());
                stand_back();
            });
            let runtime = runtime.build()?;
            let (edge, setup) = (Arc::clone(edge), setup.clone());
            let (started, starting) = mpsc::channel();
            let (ending, end) = oneshot::channel::<()>();
            let serve = move || {
                let _ending = ending;
                processors.inspect(|processors| processors.keep_to(core));
                runtime.block_on(async {
                    let mut tasks = JoinSet::new();
                    // Fails only if the starter is gone; then the edge is shut down as well.
                    let _ = started.send(sockets.serve(&edge, &setup, core, &mut tasks));
                    while let Some(ended) = tasks.join_next().await {
                        // A listener that is gone must not go unnoticed: the server stops, and says so.
                        let stops = edge.shutdown.is_triggered();
                        if let Err(error) = ended
                            && let Ok(panic) = error.try_into_panic()
                        {
                            edge.shutdown.trigger();
                            resume_unwind(panic);
                        }
                        if !stops {
                            edge.shutdown.trigger();
                            panic!("a listener of edge-{core} ended");
                        }
                    }
                });
            };
            self.handles.push(thread::Builder::new().name(format!("edge-{core}")).spawn(serve)?);
            self.ends.push(end);
            // No message: the thread panicked before it could send one.
            starting.recv().map_err(|_| ServeError::Panicked)??;
        }
        Ok(())
    }

    /// Resolves when all have stopped.
    async fn ended(&mut self) {
        for end in self.ends.drain(..) {
            // Nothing is ever sent: it is dropped.
            let _ = end.await;
        }
    }

    fn join(self) -> Result<(), ServeError> {
        let panicked = self.handles.into_iter().filter_map(|thread| thread.join().err()).count();
        if panicked == 0 { Ok(()) } else { Err(ServeError::Panicked) }
    }
}

fn tokio_listener(listener: TcpListener) -> io::Result<tokio::net::TcpListener> {
    tokio::net::TcpListener::from_std(listener)
}

/// All sockets, bound and not yet served.
#[derive(Debug, Default)]
pub struct Listeners {
    cores: Vec<CoreSockets>,
    metrics: Vec<TcpListener>,
}

/// Those that one core serves. One address's sockets stand at one index.
#[derive(Debug, Default)]
struct CoreSockets {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    tls: Vec<TcpListener>,
    quic: Vec<UdpSocket>,
    https: Vec<TcpListener>,
    h3: Vec<UdpSocket>,
}

impl CoreSockets {
    fn serve(self, edge: &Arc<Edge>, setup: &Setup, core: usize, tasks: &mut JoinSet<()>) -> io::Result<()> {
        let Self { udp, tcp, tls, quic, https, h3 } = self;
        let edge = || Arc::clone(edge);
        tasks.spawn(beat(edge(), core));
        for socket in udp {
            tasks.spawn(udp::serve(edge(), socket)?);
        }
        for socket in quic {
            tasks.spawn(doq::serve(edge(), socket, setup.cores.endpoint(core), Arc::clone(&setup.doq))?);
        }
        for socket in h3 {
            tasks.spawn(h3::serve(edge(), socket, setup.cores.endpoint(core), &setup.h3)?);
        }
        for listener in tcp {
            tasks.spawn(stream::serve_tcp(edge(), tokio_listener(listener)?));
        }
        for listener in tls {
            tasks.spawn(stream::serve_tls(edge(), tokio_listener(listener)?, setup.dot.clone()));
        }
        for listener in https {
            // HTTP/3 is on the same number, over UDP.
            let port = listener.local_addr()?.port();
            tasks.spawn(https::serve(edge(), tokio_listener(listener)?, setup.https.clone(), Some(port)));
        }
        Ok(())
    }
}

impl Listeners {
    /// Binds every service on every address, once for each core, and the operator's view on its own. An address that this
    /// machine does not have is passed over with a warning, as long as there is another.
    ///
    /// # Errors
    /// A port is taken or forbidden, or no address is left.
    pub fn bind(addrs: &[IpAddr], metrics: &[IpAddr], ports: Ports, cores: usize) -> Result<Self, ServeError> {
        let mut listeners = Self { cores: Vec::new(), metrics: Vec::new() };
        listeners.cores.resize_with(cores.max(1), CoreSockets::default);
        for &addr in addrs {
            pass_over(addr, listeners.bind_one(addr, ports))?;
        }
        for &addr in metrics {
            let listener = listen(SocketAddr::new(addr, ports.metrics), Service::Metrics, false);
            pass_over(addr, listener.map(|listener| listeners.metrics.push(listener)))?;
        }
        let none = listeners.cores[0].udp.is_empty() || listeners.metrics.is_empty();
        if none { Err(ServeError::NoAddress) } else { Ok(listeners) }
    }

    fn bind_one(&mut self, ip: IpAddr, ports: Ports) -> Result<(), ServeError> {
        let at = |port| SocketAddr::new(ip, port);
        let count = self.cores.len();
        let dns = pairs(at(ports.dns), Service::Udp, Service::Tcp, count)?;
        let tls = pairs(at(ports.tls), Service::Quic, Service::Tls, count)?;
        let https = pairs(at(ports.https), Service::H3, Service::Https, count)?;
        for (core, ((dns, tls), https)) in self.cores.iter_mut().zip(dns.into_iter().zip(tls).zip(https)) {
            core.udp.push(dns.0);
            core.tcp.push(dns.1);
            core.quic.push(tls.0);
            core.tls.push(tls.1);
            core.h3.push(https.0);
            core.https.push(https.1);
        }
        Ok(())
    }

    /// Has the kernel lead QUIC's datagrams to their cores.
    fn steer(&self, cores: &quic::Cores) {
        let first = &self.cores[0];
        let steered = first.quic.iter().chain(&first.h3).try_for_each(|socket| cores.steer(socket));
        if let Err(error) = steered {
            tracing::warn!(%error, "QUIC clients that change their address may have to connect again");
        }
    }

    /// Where the sockets really are.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn addrs(&self) -> io::Result<Addrs> {
        let first = &self.cores[0];
        let mut addrs = Vec::new();
        for index in 0..first.udp.len() {
            addrs.extend([
                (Service::Udp, first.udp[index].local_addr()?),
                (Service::Tcp, first.tcp[index].local_addr()?),
                (Service::Tls, first.tls[index].local_addr()?),
                (Service::Quic, first.quic[index].local_addr()?),
                (Service::Https, first.https[index].local_addr()?),
                (Service::H3, first.h3[index].local_addr()?),
            ]);
        }
        for listener in &self.metrics {
            addrs.push((Service::Metrics, listener.local_addr()?));
        }
        Ok(Addrs(addrs))
    }
}

/// Says that an address is not there, where that is all that is wrong.
fn pass_over(addr: IpAddr, bound: Result<(), ServeError>) -> Result<(), ServeError> {
    match bound {
        Err(error) if error.is_absence() => {
            tracing::warn!(%addr, %error, "address passed over");
            Ok(())
        }
        bound => bound,
    }
}

/// A UDP and a TCP socket for each core.
type Pairs = Vec<(UdpSocket, TcpListener)>;

/// Such sockets, all on the same port number, also if the kernel chooses it.
fn pairs(addr: SocketAddr, udp: Service, tcp: Service, count: usize) -> Result<Pairs, ServeError> {
    let mut attempts = if addr.port() == 0 { PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        match try_pairs(addr, udp, tcp, count) {
            Err(ServeError::Taken { .. }) if attempts > 0 => {}
            pairs => return pairs,
        }
    }
}

fn try_pairs(addr: SocketAddr, udp: Service, tcp: Service, count: usize) -> Result<Pairs, ServeError> {
    // Sockets that share a port would share it with another server's, too: one that does not share finds out.
    let chosen = datagram(addr, udp, false)?.local_addr()?;
    drop(listen(chosen, tcp, false)?);
    (0..count).map(|_| Ok((datagram(chosen, udp, true)?, listen(chosen, tcp, true)?))).collect()
}

/// No SO_REUSEADDR: on Linux it would let two servers share a UDP port without either noticing.
fn datagram(addr: SocketAddr, service: Service, shared: bool) -> Result<UdpSocket, ServeError> {
    let bind = || {
        let socket = socket(addr, Type::DGRAM, Protocol::UDP)?;
        // The kernel cuts these to its own limits; a small buffer only loses more under load.
        let _ = socket.set_recv_buffer_size(UDP_BUFFER);
        let _ = socket.set_send_buffer_size(UDP_BUFFER);
        socket.set_reuse_port(shared)?;
        socket.bind(&addr.into())?;
        Ok(socket.into())
    };
    bind().map_err(|source| ServeError::bind(service, addr, source))
}

/// SO_REUSEADDR: a restart must not wait for old connections in TIME_WAIT.
fn listen(addr: SocketAddr, service: Service, shared: bool) -> Result<TcpListener, ServeError> {
    let bind = || {
        let socket = socket(addr, Type::STREAM, Protocol::TCP)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(shared)?;
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
        let first = Listeners::bind(&addrs, &addrs, Ports::ANY, 2).unwrap().addrs();
        drop(first);
        let held = Listeners::bind(&addrs, &addrs, Ports::ANY, 2).unwrap();
        let taken = held.addrs().unwrap().of(Service::Udp).unwrap();
        let error = Listeners::bind(&addrs, &addrs, Ports { dns: taken.port(), ..Ports::ANY }, 2).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "udp port {taken} is taken by another program; choose others with --port-base N, or [ports] in the config file"
            )
        );
    }

    #[test]
    fn udp_and_tcp_share_a_chosen_port() {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let listeners = Listeners::bind(&loopback, &loopback, Ports::ANY, 2).unwrap();
        let addrs = listeners.addrs().unwrap();
        assert_eq!(addrs.of(Service::Udp), addrs.of(Service::Tcp));
        assert_eq!(addrs.of(Service::Quic), addrs.of(Service::Tls));
        assert_eq!(addrs.of(Service::H3), addrs.of(Service::Https));
        assert_eq!(addrs.to_string().lines().count(), 7);
    }

    #[test]
    fn addresses_of_other_machines_are_passed_over() {
        let elsewhere: IpAddr = "192.0.2.1".parse().unwrap();
        let both = [elsewhere, IpAddr::V4(Ipv4Addr::LOCALHOST)];
        for (addrs, metrics) in [(&both[..1], &both[..]), (&both, &both[..1])] {
            assert!(matches!(Listeners::bind(addrs, metrics, Ports::ANY, 1), Err(ServeError::NoAddress)));
        }
        assert_eq!(Listeners::bind(&both, &both, Ports::ANY, 1).unwrap().addrs().unwrap().0.len(), 7);
    }
}
