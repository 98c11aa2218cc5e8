//! Binds all listeners, runs them until told to stop, drains.
//!
//! QUIC lives on a thread of its own with a single-threaded runtime, where cached answers leave inline; a
//! shared runtime under it costs three times as much (docs/performance.md). TCP has a small shared one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quinn::{Endpoint, EndpointConfig, TokioRuntime};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api::Rpc;
use crate::node::Node;
use crate::transport::{self, Admission, Edge, Identity, Limits, TlsError};

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    pub addrs: Vec<IpAddr>,
    pub ports: Ports,
}

/// Port numbers; 0 lets the system choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// DNS over UDP and TCP.
    pub dns: u16,
    /// DoT (TCP) and DoQ (UDP).
    pub tls: u16,
    /// DoH on h1 and h2 (TCP), DoH3 (UDP), JSON-RPC.
    pub https: u16,
    /// Metrics and health.
    pub metrics: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { dns: 5300, tls: 8530, https: 8443, metrics: 9530 }
    }
}

impl Ports {
    /// Four ports in a row from `base`; `None` if they do not fit.
    pub fn from_base(base: u16) -> Option<Self> {
        let https = base.checked_add(2)?;
        Some(Self { dns: base, tls: base + 1, https, metrics: base.checked_add(3)? })
    }
}

/// Loopback, both families.
pub const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// One bound listener, for a person to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    pub what: &'static str,
    pub transport: &'static str,
    pub addr: SocketAddr,
}

/// Why a server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {addr} ({what}): {error}; is another server there? `--port-base N` shifts all ports")]
    Bind { what: &'static str, addr: SocketAddr, error: io::Error },
    #[error("no address could be listened on")]
    NoAddress,
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("threads: {0}")]
    Threads(#[from] io::Error),
}

/// A server whose sockets are bound and which does not serve yet.
pub struct Server {
    sockets: Vec<Sockets>,
    bound: Vec<Bound>,
    identity: Identity,
}

/// The sockets of one address.
struct Sockets {
    dns_udp: std::net::UdpSocket,
    dns_tcp: std::net::TcpListener,
    dot: std::net::TcpListener,
    doq: std::net::UdpSocket,
    https: std::net::TcpListener,
    h3: std::net::UdpSocket,
    metrics: std::net::TcpListener,
}

impl Server {
    /// Binds every socket, before anything is promised. An IPv6 address that the machine does not have is
    /// skipped with a warning.
    ///
    /// # Errors
    /// [`ServeError`]
    pub fn bind(listen: &Listen, identity: Identity) -> Result<Self, ServeError> {
        let mut server = Self { sockets: Vec::new(), bound: Vec::new(), identity };
        let mut ports = listen.ports;
        for &addr in &listen.addrs {
            match server.bind_addr(addr, ports) {
                Ok(sockets) => {
                    // Where the system chose, every further address gets the same ports.
                    ports = chosen(&sockets)?;
                    server.sockets.push(sockets);
                }
                Err(ServeError::Bind { error, .. }) if addr.is_ipv6() && is_absent(&error) => {
                    tracing::warn!(%addr, "this machine has no such IPv6 address; skipped");
                }
                Err(error) => return Err(error),
            }
        }
        if server.sockets.is_empty() { Err(ServeError::NoAddress) } else { Ok(server) }
    }

    /// What is bound.
    pub fn bound(&self) -> &[Bound] {
        &self.bound
    }

    /// The address of a listener, by what it serves and over what (for tests and tools).
    pub fn addr(&self, what: &str, transport: &str) -> Option<SocketAddr> {
        self.bound.iter().find(|bound| bound.what == what && bound.transport == transport).map(|bound| bound.addr)
    }

    /// Serves until `stop` turns true, then drains; `ready` is called once everything serves.
    ///
    /// # Errors
    /// [`ServeError`], before `ready`.
    pub fn run(
        self,
        node: Node,
        limits: Limits,
        stop: watch::Receiver<bool>,
        ready: impl FnOnce(),
    ) -> Result<(), ServeError> {
        let h3_port = self.sockets.first().map_or(Ok(0), |sockets| sockets.h3.local_addr().map(|addr| addr.port()))?;
        let edge = Arc::new(Edge {
            gateway: node.gateway.clone(),
            rpc: Rpc { service: node.service.clone() },
            metrics: node.metrics.clone(),
            admission: Admission::new(limits),
            stop,
            ready: AtomicBool::new(false),
            h3_port,
        });
        let doq = transport::doq_server_config(&self.identity)?;
        let h3 = transport::h3_server_config(&self.identity)?;
        let dot = Arc::new(self.identity.server_config(&[b"dot"])?);
        let https = Arc::new(self.identity.server_config(&[b"h2", b"http/1.1"])?);

        let shared = Builder::new_multi_thread().worker_threads(2).enable_all().thread_name("tcp").build()?;
        let quic = Builder::new_current_thread().enable_all().build()?;
        let (mut tcp_tasks, mut quic_tasks) = (JoinSet::new(), JoinSet::new());
        let (mut udp, mut tcp, mut tls) = (Vec::new(), Vec::new(), Vec::new());
        for sockets in self.sockets {
            let Sockets { dns_udp, dns_tcp, dot, doq: doq_socket, https: https_socket, h3: h3_socket, metrics } = sockets;
            let _inside = shared.enter();
            udp.push(UdpSocket::from_std(dns_udp)?);
            tcp.push(TcpListener::from_std(dns_tcp)?);
            tls.push(TcpListener::from_std(dot)?);
            let listener = TcpListener::from_std(https_socket)?;
            tcp_tasks.spawn_on(transport::serve_https(listener, https.clone(), edge.clone()), shared.handle());
            // Ends with the runtime: it must tell of the drain while that goes on.
            shared.spawn(transport::serve_metrics(TcpListener::from_std(metrics)?, edge.clone()));
            let doq_endpoint = endpoint(&quic, doq_socket, doq.clone())?;
            quic_tasks.spawn_on(transport::serve_doq(doq_endpoint, edge.clone()), quic.handle());
            let h3_endpoint = endpoint(&quic, h3_socket, h3.clone())?;
            quic_tasks.spawn_on(transport::serve_h3(h3_endpoint, edge.clone()), quic.handle());
        }
        tcp_tasks.spawn_on(transport::listen_classic(udp, tcp, tls, dot, edge.clone()), shared.handle());
        let quic = std::thread::Builder::new().name("quic".into()).spawn(move || {
            quic.block_on(async { while quic_tasks.join_next().await.is_some() {} });
        })?;
        edge.ready.store(true, Ordering::Relaxed);
        ready();
        shared.block_on(async { while tcp_tasks.join_next().await.is_some() {} });
        // A panic there has been printed where it happened.
        let _ = quic.join();
        // Drops what is left, and with it the last hold on the registry.
        shared.shutdown_timeout(std::time::Duration::from_secs(1));
        Ok(())
    }

    fn bind_addr(&mut self, addr: IpAddr, ports: Ports) -> Result<Sockets, ServeError> {
        let dns_tcp = self.tcp("DNS", addr, ports.dns)?;
        let dns = port(&dns_tcp)?;
        let dot = self.tcp("DoT", addr, ports.tls)?;
        let tls = port(&dot)?;
        let https_socket = self.tcp("HTTPS", addr, ports.https)?;
        let https = port(&https_socket)?;
        Ok(Sockets {
            dns_udp: self.udp("DNS", addr, dns)?,
            dns_tcp,
            doq: self.udp("DoQ", addr, tls)?,
            dot,
            h3: self.udp("HTTP/3", addr, https)?,
            https: https_socket,
            metrics: self.tcp("metrics", addr, ports.metrics)?,
        })
    }

    fn tcp(&mut self, what: &'static str, addr: IpAddr, port: u16) -> Result<std::net::TcpListener, ServeError> {
        let socket = self.socket(what, addr, port, Type::STREAM)?;
        socket.listen(1_024).map_err(|error| ServeError::Bind { what, addr: SocketAddr::new(addr, port), error })?;
        let listener = std::net::TcpListener::from(socket);
        self.bound.push(Bound { what, transport: "tcp", addr: listener.local_addr()? });
        Ok(listener)
    }

    fn udp(&mut self, what: &'static str, addr: IpAddr, port: u16) -> Result<std::net::UdpSocket, ServeError> {
        let socket = self.socket(what, addr, port, Type::DGRAM)?;
        // The kernel gives what it allows; smaller buffers lose bursts and nothing else.
        let _ = socket.set_recv_buffer_size(4 << 20);
        let _ = socket.set_send_buffer_size(4 << 20);
        let socket = std::net::UdpSocket::from(socket);
        self.bound.push(Bound { what, transport: "udp", addr: socket.local_addr()? });
        Ok(socket)
    }

    fn socket(&self, what: &'static str, addr: IpAddr, port: u16, kind: Type) -> Result<Socket, ServeError> {
        let addr = SocketAddr::new(addr, port);
        let open = || -> io::Result<Socket> {
            let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
            let socket = Socket::new(Domain::for_address(addr), kind, Some(protocol))?;
            if addr.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            if kind == Type::STREAM {
                socket.set_reuse_address(true)?;
            }
            socket.set_nonblocking(true)?;
            socket.bind(&addr.into())?;
            Ok(socket)
        };
        open().map_err(|error| ServeError::Bind { what, addr, error })
    }
}

fn endpoint(runtime: &Runtime, socket: std::net::UdpSocket, config: quinn::ServerConfig) -> io::Result<Endpoint> {
    let _inside = runtime.enter();
    Endpoint::new(EndpointConfig::default(), Some(config), socket, Arc::new(TokioRuntime))
}

fn chosen(sockets: &Sockets) -> io::Result<Ports> {
    Ok(Ports {
        dns: port(&sockets.dns_tcp)?,
        tls: port(&sockets.dot)?,
        https: port(&sockets.https)?,
        metrics: port(&sockets.metrics)?,
    })
}

fn port(listener: &std::net::TcpListener) -> io::Result<u16> {
    Ok(listener.local_addr()?.port())
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        || error.raw_os_error() == Some(97) // EAFNOSUPPORT
}
