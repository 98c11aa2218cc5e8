//! One DoQ connection: what its streams have sent, and what they wait for.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::{
    ConnectionEvent, Dir, Event, ReadError, ReadableError, StreamEvent, StreamId, Transmit, VarInt, WriteError,
};
use tokio::sync::mpsc::UnboundedSender;

use super::super::admission::{Admission, Handshake};
use super::super::idle::allowance;
use super::super::{Asked, Connected, Edge, Replies, Ticket, refuse_update};
use super::timers::Armed;
use super::{
    EXCESSIVE_LOAD, Fault, INTERNAL_ERROR, Incoming, NO_ERROR, PREFIX, PROTOCOL_ERROR, Piece, REQUEST_CANCELLED,
    UNSPECIFIED_ERROR, check,
};
use crate::gateway::Client;
use crate::limits::{MAX_DATAGRAMS_PER_CONNECTION, MAX_PARTIAL, MAX_QUERY, REQUEST_TIMEOUT};
use crate::wire::EdeCode;

/// An answer that was not there at once, and the stream that waits for it.
pub(super) struct Completed {
    /// [`Connection::key`] and [`Connection::id`].
    pub(super) key: usize,
    pub(super) id: u64,
    stream: StreamId,
    replies: Replies,
}

/// What a connection is served with.
pub(super) struct Service<'a> {
    pub(super) edge: &'a Edge,
    pub(super) completed: &'a UnboundedSender<Completed>,
    pub(super) now: Instant,
    pub(super) portion: Portion,
    /// No stream is begun any more.
    pub(super) draining: bool,
}

/// What is done for a connection before it is another's turn.
#[derive(Debug, Clone, Copy)]
pub(super) struct Portion {
    /// Datagrams that are looked into.
    pub(super) datagrams: usize,
    /// Streams that are begun.
    pub(super) streams: usize,
}

pub(super) struct Connection {
    pub(super) inner: quinn_proto::Connection,
    /// Its place among the connections of the endpoint, which another has after it.
    pub(super) key: usize,
    /// Told apart by this.
    pub(super) id: u64,
    pub(super) armed: Armed,
    /// It is among those that are to be served.
    pub(super) queued: bool,
    /// Datagrams that have not been looked into.
    datagrams: VecDeque<ConnectionEvent>,
    client: Client,
    /// Those that are not answered where they begin.
    streams: HashMap<StreamId, Stream>,
    /// Octets that they have sent without an end.
    partial: usize,
    /// When the first of them may be overdue.
    overdue: Option<Instant>,
    /// There may be streams that have not been begun.
    opened: bool,
    handshake: Option<Handshake>,
    amplification: Amplification,
    /// Its place is taken as long as there is anything of it.
    _connected: Connected,
    /// When it was accepted, connected, or last asked something; and whether it has.
    used: Instant,
    asked: bool,
    /// Until when it is there, once nothing more comes of it but its own end.
    lingers_until: Option<Instant>,
}

/// How long a connection that is closed is there for what still comes, at most. Three times the time to a retransmission is
/// wanted (RFC 9000 §10.2); but the client says how much of that is its own delay, up to 16 seconds.
const LINGER: Duration = Duration::from_millis(250);

/// What an address that is not proven got, for what it sent (RFC 9000 §8.1). quinn-proto counts, too, but lets the last
/// datagram go beyond the limit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Amplification {
    received: usize,
    sent: usize,
    proven: bool,
}

/// True of a datagram that can have come to its connection only by an ID that we gave the client, at its address: it begins
/// with neither an Initial nor a 0-RTT packet. Those come by the client's own choice of ID as well (RFC 9000 §7.2).
pub(super) fn proves_address(datagram: &[u8]) -> bool {
    // The form, 1 for a long header, and the higher bit of its type: RFC 9000 §17.2 and §17.3.
    const LONG: u8 = 0x80;
    const HANDSHAKE_OR_RETRY: u8 = 0x20;
    datagram.first().is_some_and(|first| first & LONG == 0 || first & HANDSHAKE_OR_RETRY != 0)
}

impl Amplification {
    pub(super) fn new(first: usize, proven: bool) -> Self {
        Self { received: first, sent: 0, proven }
    }

    pub(super) fn receive(&mut self, octets: usize, proves: bool) {
        self.received += octets;
        self.proven |= proves;
    }

    pub(super) fn send(&mut self, octets: usize) {
        self.sent += octets;
    }

    /// Datagrams of `size` octets that may be sent, at most `most`.
    fn allows(self, size: usize, most: usize) -> usize {
        if self.proven { most } else { (self.received * 3).saturating_sub(self.sent).div_euclid(size.max(1)).min(most) }
    }
}

struct Stream {
    state: State,
    deadline: Instant,
}

enum State {
    Reading(Incoming),
    Waiting(Ticket),
    Writing(Outgoing),
}

/// What became of a query.
enum Begun {
    Answered(Replies),
    Waits(Ticket),
}

/// What is left of an answer.
struct Outgoing {
    rest: Bytes,
    replies: Replies,
}

impl Connection {
    pub(super) fn new(
        (key, id): (usize, u64),
        inner: quinn_proto::Connection,
        client: Client,
        amplification: Amplification,
        (handshake, connected): (Handshake, Connected),
        now: Instant,
    ) -> Self {
        Self {
            inner,
            key,
            id,
            armed: Armed::default(),
            queued: false,
            datagrams: VecDeque::new(),
            client,
            streams: HashMap::new(),
            partial: 0,
            overdue: None,
            opened: false,
            handshake: Some(handshake),
            amplification,
            _connected: connected,
            used: now,
            asked: false,
            lingers_until: None,
        }
    }

    /// Takes a datagram that came for it; false if too many wait, and this one is lost.
    pub(super) fn receive(&mut self, datagram: ConnectionEvent, octets: usize, proves: bool) -> bool {
        let takes = self.datagrams.len() < MAX_DATAGRAMS_PER_CONNECTION;
        if takes {
            self.amplification.receive(octets, proves);
            self.datagrams.push_back(datagram);
        }
        takes
    }

    /// Datagrams that wait to be looked into.
    pub(super) fn waiting(&self) -> usize {
        self.datagrams.len()
    }

    /// What there is to send, into `out`: up to `most` datagrams.
    pub(super) fn transmit(&mut self, now: Instant, most: usize, out: &mut Vec<u8>) -> Option<Transmit> {
        let most = match &self.handshake {
            Some(_) => self.amplification.allows(self.inner.current_mtu().into(), most),
            None => most,
        };
        if most == 0 {
            return None;
        }
        let transmit = self.inner.poll_transmit(now, most, out)?;
        self.amplification.send(transmit.size);
        Some(transmit)
    }

    /// Does what there is to do; true if there is more than one turn's share of it.
    pub(super) fn serve(&mut self, service: &Service<'_>) -> bool {
        for datagram in self.datagrams.drain(..self.datagrams.len().min(service.portion.datagrams)) {
            self.inner.handle_event(datagram);
        }
        while let Some(event) = self.inner.poll() {
            match event {
                Event::Connected => {
                    if let Some(handshake) = self.handshake.take() {
                        handshake.complete();
                    }
                    self.used = service.now;
                }
                Event::ConnectionLost { .. } => self.leave(service.now),
                Event::Stream(StreamEvent::Opened { dir: Dir::Uni }) => {
                    self.close(service.now, PROTOCOL_ERROR, "unidirectional stream");
                }
                Event::Stream(StreamEvent::Opened { dir: Dir::Bi }) => self.opened = true,
                // One that has not been begun is read when it is: it must be accepted before it is answered.
                Event::Stream(StreamEvent::Readable { id }) if self.streams.contains_key(&id) => self.read(id, service),
                Event::Stream(StreamEvent::Writable { id }) => self.writable(id, service),
                Event::Stream(StreamEvent::Stopped { id, .. }) => self.abandon(id, REQUEST_CANCELLED),
                _ => {}
            }
        }
        self.begin_streams(service);
        self.opened || !self.datagrams.is_empty()
    }

    fn begin_streams(&mut self, service: &Service<'_>) {
        if !self.opened || service.draining {
            self.opened = false;
            return;
        }
        for _ in 0..service.portion.streams {
            let Some(id) = self.inner.streams().accept(Dir::Bi) else {
                self.opened = false;
                return;
            };
            self.read(id, service);
        }
    }

    /// Takes what has come of a query, and answers it if that was all.
    fn read(&mut self, id: StreamId, service: &Service<'_>) {
        let mut incoming = match self.streams.get_mut(&id).map(|stream| &mut stream.state) {
            Some(State::Reading(incoming)) => std::mem::take(incoming),
            Some(_) => return,
            None => Incoming::default(),
        };
        self.partial -= incoming.octets.len();
        match self.take(id, &mut incoming) {
            Ok(Some(true)) => self.answer(id, &incoming, service),
            Ok(Some(false)) if self.partial + incoming.octets.len() > MAX_PARTIAL => self.abandon(id, EXCESSIVE_LOAD),
            Ok(Some(false)) => {
                self.partial += incoming.octets.len();
                self.keep(id, State::Reading(incoming), service.now);
            }
            Ok(None) => {}
            Err(fault) => self.fail(id, fault, service.now),
        }
    }

    /// True if the query is whole; `None` if there is no such stream any more.
    fn take(&mut self, id: StreamId, incoming: &mut Incoming) -> Result<Option<bool>, Fault> {
        let mut stream = self.inner.recv_stream(id);
        let mut chunks = match stream.read(true) {
            Ok(chunks) => chunks,
            Err(ReadableError::ClosedStream | ReadableError::IllegalOrderedRead) => return Ok(None),
        };
        let received = loop {
            match chunks.next(PREFIX + MAX_QUERY) {
                Ok(Some(chunk)) => match incoming.push(&chunk.bytes) {
                    Ok(Piece::Wanting) => {}
                    Ok(Piece::TooLong) => break Ok(None),
                    Err(fault) => break Err(fault),
                },
                Ok(None) => break incoming.whole().map(|_| Some(true)),
                Err(ReadError::Blocked) => break Ok(Some(false)),
                Err(ReadError::Reset(_)) => break Err(Fault::Stream(REQUEST_CANCELLED)),
            }
        };
        // Whether there is something to send is asked after every turn anyway.
        let _ = chunks.finalize();
        if received == Ok(None) {
            let _ = stream.stop(EXCESSIVE_LOAD);
            return Ok(Some(true));
        }
        received
    }

    fn answer(&mut self, id: StreamId, incoming: &Incoming, service: &Service<'_>) {
        (self.used, self.asked) = (service.now, true);
        match self.ask(id, incoming.message(), service) {
            Ok(Begun::Answered(replies)) => {
                self.write(id, Outgoing { rest: Bytes::new(), replies }, service.edge, service.now);
            }
            Ok(Begun::Waits(ticket)) => self.keep(id, State::Waiting(ticket), service.now),
            Err(fault) => self.fail(id, fault, service.now),
        }
    }

    /// Who asks, and whether its address is proven by now.
    fn asker(&self) -> Client {
        let early = self.inner.is_handshaking() && !self.amplification.proven;
        if early { self.client.unproven() } else { self.client }
    }

    fn ask(&self, stream: StreamId, message: &[u8], service: &Service<'_>) -> Result<Begun, Fault> {
        check(message)?;
        let client = self.asker();
        // What must not be done twice, in data that anyone can send again (RFC 9250 §4.5).
        if self.inner.is_handshaking()
            && let Some(reply) = refuse_update(message, EdeCode::TooEarly)
        {
            return Ok(Begun::Answered(reply.into()));
        }
        if !service.edge.admit(client) {
            return Err(Fault::Stream(EXCESSIVE_LOAD));
        }
        let (key, id, mut waits) = (self.key, self.id, None);
        let asked = service.edge.ask(message, client, true, |ticket| {
            waits = Some(ticket);
            let completed = service.completed.clone();
            // Fails if the server has stopped.
            Box::new(move |replies| drop(completed.send(Completed { key, id, stream, replies })))
        });
        match (asked, waits) {
            (Asked::Now(Some(replies)), _) => Ok(Begun::Answered(replies)),
            (Asked::Later, Some(ticket)) => Ok(Begun::Waits(ticket)),
            _ => Err(Fault::Stream(INTERNAL_ERROR)),
        }
    }

    /// Gives a stream the answer that it waits for.
    pub(super) fn complete(&mut self, completed: Completed, edge: &Edge, now: Instant) {
        let Completed { stream, replies, .. } = completed;
        match self.streams.remove(&stream) {
            Some(Stream { state: State::Waiting(ticket), .. }) => {
                self.write(stream, Outgoing { rest: Bytes::new(), replies: ticket.give(replies) }, edge, now);
            }
            Some(other) => drop(self.streams.insert(stream, other)),
            None => {}
        }
    }

    fn writable(&mut self, id: StreamId, service: &Service<'_>) {
        match self.streams.remove(&id) {
            Some(Stream { state: State::Writing(outgoing), .. }) => self.write(id, outgoing, service.edge, service.now),
            Some(stream) => drop(self.streams.insert(id, stream)),
            None => {}
        }
    }

    /// Writes what the client's and our windows allow, and FIN at the end.
    fn write(&mut self, id: StreamId, mut outgoing: Outgoing, edge: &Edge, now: Instant) {
        loop {
            if outgoing.rest.is_empty() {
                match outgoing.replies.next().map(|reply| reply.framed()) {
                    Some(Ok(framed)) => match edge.hold(self.asker(), framed.into()) {
                        Some(held) => outgoing.rest = held,
                        None => return self.abandon(id, EXCESSIVE_LOAD),
                    },
                    Some(Err(_)) => return self.abandon(id, INTERNAL_ERROR),
                    None => break,
                }
            }
            match self.inner.send_stream(id).write_chunks(std::slice::from_mut(&mut outgoing.rest)) {
                Ok(_) => {}
                Err(WriteError::Blocked) => return self.keep(id, State::Writing(outgoing), now),
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => return self.abandon(id, REQUEST_CANCELLED),
            }
        }
        // Fails if the client has stopped it, which comes as an event, too.
        let _ = self.inner.send_stream(id).finish();
        self.streams.remove(&id);
    }

    /// Keeps a stream in a new state, for which it has so long again.
    fn keep(&mut self, id: StreamId, state: State, now: Instant) {
        let deadline = match (&state, self.streams.get(&id)) {
            // Pieces of a query do not prolong it.
            (State::Reading(_), Some(stream)) => stream.deadline,
            _ => now + REQUEST_TIMEOUT,
        };
        self.overdue.get_or_insert(deadline);
        self.streams.insert(id, Stream { state, deadline });
    }

    fn fail(&mut self, id: StreamId, fault: Fault, now: Instant) {
        match fault {
            Fault::Protocol(reason) => self.close(now, PROTOCOL_ERROR, reason),
            Fault::Stream(code) => self.abandon(id, code),
        }
    }

    /// Resets a stream. Its answer, should it come, is for nobody.
    fn abandon(&mut self, id: StreamId, code: VarInt) {
        if let Some(Stream { state: State::Reading(incoming), .. }) = self.streams.remove(&id) {
            self.partial -= incoming.octets.len();
        }
        // Either fails if the stream is closed already.
        let _ = self.inner.send_stream(id).reset(code);
        let _ = self.inner.recv_stream(id).stop(code);
    }

    pub(super) fn close(&mut self, now: Instant, code: VarInt, reason: &'static str) {
        self.inner.close(now, code, Bytes::from_static(reason.as_bytes()));
        self.leave(now);
    }

    /// Nothing more will come of it but the end of the connection itself.
    fn leave(&mut self, now: Instant) {
        self.streams.clear();
        (self.partial, self.overdue, self.opened) = (0, None, false);
        self.lingers_until.get_or_insert(now + LINGER);
    }

    /// Closes it if nothing of it is under way.
    pub(super) fn close_if_done(&mut self, now: Instant) {
        if !self.is_closed() && self.streams.is_empty() && self.inner.streams().send_streams() == 0 {
            self.close(now, NO_ERROR, "");
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lingers_until.is_some()
    }

    /// There is no reason to keep it any longer.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.inner.is_drained() || self.lingers_until.is_some_and(|until| until <= now)
    }

    /// When it must be looked at, if nothing comes before.
    pub(super) fn deadline(&mut self, admission: &Admission) -> Option<Instant> {
        let own = self.own_deadline(admission);
        [self.inner.poll_timeout(), self.overdue, own, self.lingers_until].into_iter().flatten().min()
    }

    /// The end of a handshake that takes too long, or of a connection that is not used.
    fn own_deadline(&self, admission: &Admission) -> Option<Instant> {
        let limit = if self.handshake.is_some() { REQUEST_TIMEOUT } else { allowance(admission, self.asked) };
        (!self.is_closed() && self.streams.is_empty()).then(|| self.used + limit)
    }

    /// Does what is due.
    pub(super) fn on_time(&mut self, now: Instant, admission: &Admission) {
        if self.inner.poll_timeout().is_some_and(|at| at <= now) {
            self.inner.handle_timeout(now);
        }
        if self.own_deadline(admission).is_some_and(|at| at <= now) {
            self.close(now, NO_ERROR, "");
        }
        if self.overdue.is_some_and(|at| at <= now) {
            self.drop_overdue(now);
        }
    }

    /// Requests that are not whole, and answers that are not taken, in time.
    fn drop_overdue(&mut self, now: Instant) {
        let late = self.streams.iter().filter(|(_, stream)| stream.deadline <= now).map(|(id, _)| *id);
        for id in late.collect::<Vec<_>>() {
            self.abandon(id, UNSPECIFIED_ERROR);
        }
        self.overdue = self.streams.values().map(|stream| stream.deadline).min();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unproven_address_gets_three_times_what_it_sent() {
        let mut amplification = Amplification::new(1_200, false);
        assert_eq!((amplification.allows(1_200, 10), amplification.allows(1_200, 2)), (3, 2));
        amplification.send(3_500);
        assert_eq!(amplification.allows(1_200, 10), 0);
        amplification.receive(1_200, false);
        assert_eq!(amplification.allows(1_200, 10), 3);
        amplification.send(3_600);
        amplification.receive(90, true);
        assert_eq!(amplification.allows(1_200, 10), 10);
        assert_eq!(Amplification::new(1_200, true).allows(1_200, 10), 10);
    }

    #[test]
    fn what_needs_no_id_of_ours_proves_nothing_however_short() {
        let (initial, early, handshake, short) = (0xc3, 0xd3, 0xe3, 0x43);
        assert_eq!(
            [initial, early, handshake, short].map(|first| proves_address(&[first, 0])),
            [false, false, true, true]
        );
        assert!(!proves_address(&[]));
    }
}
