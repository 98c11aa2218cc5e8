//! Serves one socket with all its connections.
//!
//! ```text
//! socket ─ endpoint ─┬─ of a connection: waits there ─┬─ little to do: all of these first, a small share each
//!                    │                                └─ more than that: in turn, a large share each ─┐ for a while, then
//!                    └─ a new one: waits in line ──────────────────────────────── one handshake ──────┘ the socket again
//! ```
//! So who asks one question waits neither for those who ask hundreds at once nor for others' handshakes.

use std::collections::VecDeque;
use std::io;
use std::net::UdpSocket;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quinn_proto::{
    ConnectionHandle, DatagramEvent, EcnCodepoint, Endpoint, EndpointConfig, EndpointEvent, Incoming, ServerConfig,
    Transmit,
};
use quinn_udp::RecvMeta;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::yield_now;
use tokio::time::{Sleep, sleep_until};

use super::super::Edge;
use super::super::admission::Handshake;
use super::super::datagrams::{self, Inbox, Outbox};
use super::NO_ERROR;
use super::connection::{Amplification, Completed, Connection, Portion, Service, proves_address};
use super::timers::{Armed, Timers};
use crate::gateway::{Client, Transport};
use crate::limits::{DRAIN_TIMEOUT, IDLE_LOOK, MAX_DATAGRAMS};

/// Times that a socket is read before what came is served.
const RECEIVES_A_TURN: usize = 2;
/// What one connection gets done before it is another's turn, if it has little to do.
const LITTLE: Portion = Portion { datagrams: 2, streams: 16 };
/// The same if it has more than that.
const MUCH: Portion = Portion { datagrams: 16, streams: 64 };
/// For so long those that have much to do, and new ones, are served before the socket is read again.
const TURN: Duration = Duration::from_micros(500);
/// Transmits of one connection, of up to [`SEGMENTS`] datagrams each, before it is another's turn.
const TRANSMITS_A_TURN: usize = 4;
const SEGMENTS: usize = 10;
/// When nothing is to be done, as far as a timer is concerned.
const LONG: Duration = Duration::from_secs(3_600);

/// Gives the future that serves a socket until shutdown, then lets the answers under way leave. Must be called inside a
/// runtime.
///
/// # Errors
/// The socket cannot be used.
pub fn serve(
    edge: Arc<Edge>,
    socket: UdpSocket,
    endpoint: EndpointConfig,
    server: Arc<ServerConfig>,
) -> io::Result<impl Future<Output = ()> + Send> {
    let (inbox, outbox) = datagrams::open(socket)?;
    let endpoint = Endpoint::new(Arc::new(endpoint), Some(server), outbox.may_search_mtu(), None);
    let (sender, completed) = mpsc::unbounded_channel();
    let driver = Driver {
        edge,
        outbox,
        endpoint,
        connections: Vec::new(),
        open: 0,
        accepted: 0,
        looked: Instant::now(),
        timers: Timers::default(),
        waiting: 0,
        light: VecDeque::new(),
        heavy: VecDeque::new(),
        attempts: VecDeque::new(),
        sender,
        completed,
        out: Vec::new(),
        draining_until: None,
    };
    Ok(driver.run(inbox))
}

struct Driver {
    edge: Arc<Edge>,
    outbox: Outbox,
    endpoint: Endpoint,
    /// By their handles.
    connections: Vec<Option<Box<Connection>>>,
    /// How many of them are there, and how many there have been.
    open: usize,
    accepted: u64,
    /// When all of them were last looked at.
    looked: Instant,
    timers: Timers,
    /// Datagrams that wait for their connections' turns.
    waiting: usize,
    /// Connections with something to do, once each in either: with little, as far as is known, and with more.
    light: VecDeque<usize>,
    heavy: VecDeque<usize>,
    attempts: VecDeque<Attempt>,
    sender: UnboundedSender<Completed>,
    completed: UnboundedReceiver<Completed>,
    /// What is being sent.
    out: Vec<u8>,
    draining_until: Option<Instant>,
}

/// A connection to come.
struct Attempt {
    incoming: Incoming,
    client: Client,
    /// Octets of its first datagram.
    length: usize,
    /// Counted from here on, though it is not begun yet.
    handshake: Handshake,
}

impl Driver {
    async fn run(mut self, mut inbox: Inbox) {
        let edge = Arc::clone(&self.edge);
        // Once, not once for each turn: subscribing takes a lock.
        let mut shutdown = pin!(edge.shutdown.triggered());
        let mut alarm = pin!(sleep_until((Instant::now() + LONG).into()));
        loop {
            let more = self.turn(&mut inbox, Instant::now());
            if self.is_done() {
                return;
            }
            if more {
                // Others of this core are served, and a shutdown is seen, between two turns.
                yield_now().await;
            }
            set(alarm.as_mut(), [self.timers.next(), self.draining_until].into_iter().flatten().min());
            tokio::select! {
                biased;
                () = &mut shutdown, if self.draining_until.is_none() => self.drain(Instant::now()),
                () = std::future::ready(()), if more => {}
                () = inbox.readable() => {}
                Some(completed) = self.completed.recv() => self.complete(completed, Instant::now()),
                () = alarm.as_mut() => {}
                () = self.outbox.unblocked() => self.outbox.flush(),
            }
        }
    }

    /// Takes what has come, and serves who has something to do; true if that was not all.
    fn turn(&mut self, inbox: &mut Inbox, now: Instant) -> bool {
        // Before there is more to send: who floods us must not keep what waits for the kernel from leaving.
        self.outbox.flush();
        let more = self.receive(inbox, now);
        while let Ok(completed) = self.completed.try_recv() {
            self.complete(completed, now);
        }
        while let Some(key) = self.timers.take(now) {
            if let Some(connection) = self.connections[key].as_mut() {
                connection.armed = Armed::default();
                connection.on_time(now, &self.edge.admission);
                self.enqueue(key);
            }
        }
        while let Some(key) = self.light.pop_front() {
            self.serve_light(key, now);
        }
        if self.is_behind() {
            self.catch_up(now);
        }
        // Light again: those that have just been accepted.
        more || self.is_behind() || !self.light.is_empty()
    }

    /// There is more to be done than what can be done at once.
    fn is_behind(&self) -> bool {
        !(self.heavy.is_empty() && self.attempts.is_empty())
    }

    fn catch_up(&mut self, now: Instant) {
        let begun = Instant::now();
        while self.is_behind() && begun.elapsed() <= TURN {
            if let Some(attempt) = self.attempts.pop_front() {
                self.accept(attempt, now);
            }
            if let Some(key) = self.heavy.pop_front() {
                self.serve(key, MUCH, now);
            }
        }
    }

    fn receive(&mut self, inbox: &mut Inbox, now: Instant) -> bool {
        for _ in 0..RECEIVES_A_TURN {
            // Then the kernel keeps them, or loses them.
            if self.waiting > MAX_DATAGRAMS {
                return true;
            }
            let count = inbox.receive();
            for index in 0..count {
                let (meta, datagrams) = inbox.received(index);
                // Each is given away, and decrypted where it is.
                datagrams.for_each(|datagram| self.handle(&meta, BytesMut::from(datagram), now));
            }
            if count == 0 {
                return false;
            }
        }
        true
    }

    fn handle(&mut self, meta: &RecvMeta, datagram: BytesMut, now: Instant) {
        let ecn = meta.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8));
        let (length, proves) = (datagram.len(), proves_address(&datagram));
        self.out.clear();
        match self.endpoint.handle(now, meta.addr, meta.dst_ip, ecn, datagram, &mut self.out) {
            Some(DatagramEvent::ConnectionEvent(ConnectionHandle(key), event)) => {
                if let Some(Some(connection)) = self.connections.get_mut(key)
                    && connection.receive(event, length, proves)
                {
                    self.waiting += 1;
                    self.enqueue(key);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => self.attempt(incoming, length),
            Some(DatagramEvent::Response(transmit)) => self.send(&transmit),
            None => {}
        }
    }

    /// Has an attempt prove its address, or wait in line.
    fn attempt(&mut self, incoming: Incoming, length: usize) {
        let admission = &self.edge.admission;
        let proven = incoming.remote_address_validated();
        if admission.crowded() && !proven && incoming.may_retry() {
            // Fails only where a Retry is not allowed, which was asked before.
            if let Ok(transmit) = self.endpoint.retry(incoming, &mut self.out) {
                self.send(&transmit);
            }
            return;
        }
        // No more than quinn-proto keeps for all its users (`max_incoming`): it ignores others.
        let client = Client::new(Transport::Quic, incoming.remote_address().ip());
        let handshake = admission.handshake(client, proven);
        self.attempts.push_back(Attempt { incoming, client, length, handshake });
    }

    /// Begins a connection, or turns it away.
    fn accept(&mut self, Attempt { incoming, client, length, handshake }: Attempt, now: Instant) {
        let proven = incoming.remote_address_validated();
        let Some(connected) = self.edge.connect(client, proven) else {
            self.look_for_idle(now);
            return self.refuse(incoming);
        };
        self.out.clear();
        match self.endpoint.accept(incoming, now, &mut self.out, None) {
            Ok((ConnectionHandle(key), inner)) => {
                self.accepted += 1;
                let places = (handshake, connected);
                let amplification = Amplification::new(length, proven);
                let connection = Connection::new((key, self.accepted), inner, client, amplification, places, now);
                if self.connections.len() <= key {
                    self.connections.resize_with(key + 1, || None);
                }
                self.connections[key] = Some(Box::new(connection));
                self.open += 1;
                self.enqueue(key);
            }
            Err(error) => {
                if let Some(transmit) = error.response {
                    self.send(&transmit);
                }
            }
        }
    }

    /// Where places run out, connections that nobody uses are closed before they thought they would be.
    fn look_for_idle(&mut self, now: Instant) {
        if self.edge.admission.is_half_full() && now.duration_since(self.looked) >= IDLE_LOOK {
            self.looked = now;
            for key in 0..self.connections.len() {
                if let Some(connection) = self.connections[key].as_mut() {
                    connection.on_time(now, &self.edge.admission);
                    self.enqueue(key);
                }
            }
        }
    }

    fn refuse(&mut self, incoming: Incoming) {
        self.out.clear();
        let transmit = self.endpoint.refuse(incoming, &mut self.out);
        self.send(&transmit);
    }

    fn enqueue(&mut self, key: usize) {
        if let Some(Some(connection)) = self.connections.get_mut(key)
            && !std::mem::replace(&mut connection.queued, true)
        {
            self.light.push_back(key);
        }
    }

    fn complete(&mut self, completed: Completed, now: Instant) {
        let key = completed.key;
        if let Some(Some(connection)) = self.connections.get_mut(key)
            && connection.id == completed.id
        {
            connection.complete(completed, &self.edge, now);
            self.enqueue(key);
        }
    }

    /// The turn of a connection that has little to do, or is found to have more.
    fn serve_light(&mut self, key: usize, now: Instant) {
        match self.connections.get(key) {
            Some(Some(connection)) if connection.waiting() > LITTLE.datagrams => self.heavy.push_back(key),
            _ => self.serve(key, LITTLE, now),
        }
    }

    /// One connection's turn.
    fn serve(&mut self, key: usize, portion: Portion, now: Instant) {
        let Some(mut connection) = self.connections.get_mut(key).and_then(Option::take) else { return };
        connection.queued = false;
        self.waiting -= connection.waiting();
        let draining = self.draining_until.is_some();
        let service = Service { edge: &self.edge, completed: &self.sender, now, portion, draining };
        let mut more = connection.serve(&service);
        if draining {
            connection.close_if_done(now);
        }
        more |= self.transmit(&mut connection, now);
        while let Some(event) = connection.inner.poll_endpoint_events() {
            if let Some(event) = self.endpoint.handle_event(ConnectionHandle(key), event) {
                connection.inner.handle_event(event);
                more = true;
            }
        }
        if connection.is_over(now) {
            if !connection.inner.is_drained() {
                self.endpoint.handle_event(ConnectionHandle(key), EndpointEvent::drained());
            }
            self.timers.disarm(key, &mut connection.armed);
            self.open -= 1;
            return;
        }
        if let Some(when) = connection.deadline(&self.edge.admission) {
            self.timers.arm(key, &mut connection.armed, when);
        }
        if more {
            connection.queued = true;
            self.heavy.push_back(key);
        }
        self.waiting += connection.waiting();
        self.connections[key] = Some(connection);
    }

    /// Sends what a connection has to send; true if there may be more.
    fn transmit(&mut self, connection: &mut Connection, now: Instant) -> bool {
        let segments = self.outbox.segments().min(SEGMENTS);
        for _ in 0..TRANSMITS_A_TURN {
            self.out.clear();
            match connection.transmit(now, segments, &mut self.out) {
                Some(transmit) => self.send(&transmit),
                None => return false,
            }
        }
        true
    }

    fn send(&mut self, transmit: &Transmit) {
        let ecn = transmit.ecn.and_then(|ecn| quinn_udp::EcnCodepoint::from_bits(ecn as u8));
        let to = RecvMeta { addr: transmit.destination, ecn, dst_ip: transmit.src_ip, ..RecvMeta::default() };
        self.outbox.send(&to, &self.out[..transmit.size], transmit.segment_size);
    }

    /// No more connections and streams; those there are end when their answers have arrived.
    fn drain(&mut self, now: Instant) {
        self.endpoint.set_server_config(None);
        self.draining_until = Some(now + DRAIN_TIMEOUT);
        for attempt in std::mem::take(&mut self.attempts) {
            self.refuse(attempt.incoming);
        }
        for key in 0..self.connections.len() {
            self.enqueue(key);
        }
    }

    /// All connections are closed, or it is time to close those that are not.
    fn is_done(&mut self) -> bool {
        let Some(until) = self.draining_until else { return false };
        let now = Instant::now();
        if now >= until {
            for key in 0..self.connections.len() {
                if let Some(Some(connection)) = self.connections.get_mut(key) {
                    connection.close(now, NO_ERROR, "");
                }
                self.serve(key, MUCH, now);
            }
            return true;
        }
        self.connections.iter().flatten().all(|connection| connection.is_closed())
    }
}

/// Moves an alarm to `when` if it would come too late, or has come already.
fn set(alarm: std::pin::Pin<&mut Sleep>, when: Option<Instant>) {
    let set = alarm.deadline().into_std();
    let wanted = when.unwrap_or_else(|| Instant::now() + LONG);
    if wanted < set || alarm.is_elapsed() {
        alarm.reset(wanted.into());
    }
}
