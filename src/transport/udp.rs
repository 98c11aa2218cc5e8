//! DNS over UDP.
//!
//! ```text
//! recvmmsg ─ over the rate: silence or TC ─ Edge::ask ─ hit: sent at once
//!                                             └ miss: comes back through a channel
//! ```
//! One task serves a socket; no datagram gets a task of its own.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::pin::pin;
use std::sync::Arc;

use quinn_udp::RecvMeta;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use super::datagrams::{self, Inbox, Outbox};
use super::{Asked, Edge, Replies, proxy};
use crate::gateway::{Client, Transport};
use crate::limits::DRAIN_TIMEOUT;
use crate::wire::{Builder, Query, Rcode, Reply};

/// Times that a socket is read before others of its core have their turn.
const RECEIVES_A_TURN: usize = 4;

/// Gives the future that serves a socket until shutdown, then lets the answers under way leave. Must be called inside a
/// runtime.
///
/// # Errors
/// The socket cannot be used.
pub fn serve(edge: Arc<Edge>, socket: UdpSocket) -> io::Result<impl Future<Output = ()> + Send> {
    let (inbox, outbox) = datagrams::open(socket)?;
    let (sender, completed) = mpsc::unbounded_channel();
    Ok(run(inbox, Replier { edge, outbox, sender, under_way: 0 }, completed))
}

/// To whom an answer goes: the sender of the datagram, and the client, which are two behind a balancer.
#[derive(Clone, Copy)]
struct To {
    sender: RecvMeta,
    client: IpAddr,
    /// Octets of the question.
    asked: usize,
}

type Completed = (To, Replies);

async fn run(mut inbox: Inbox, mut replier: Replier, mut completed: UnboundedReceiver<Completed>) {
    let edge = Arc::clone(&replier.edge);
    let mut shutdown = pin!(edge.shutdown.triggered());
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(completed) = completed.recv() => replier.complete(completed),
            () = inbox.readable() => {
                if receive(&mut inbox, &mut replier) {
                    yield_now().await;
                }
            }
            () = replier.outbox.unblocked() => replier.outbox.flush(),
        }
    }
    let until = Instant::now() + DRAIN_TIMEOUT;
    while replier.under_way > 0 {
        tokio::select! {
            Some(completed) = completed.recv() => replier.complete(completed),
            () = sleep_until(until) => return,
        }
    }
    replier.outbox.flush();
}

/// Takes what has come and answers what can be; true if there may be more.
fn receive(inbox: &mut Inbox, replier: &mut Replier) -> bool {
    // Before there is more to send: who floods us must not keep what waits for the kernel from leaving.
    replier.outbox.flush();
    for _ in 0..RECEIVES_A_TURN {
        let count = inbox.receive();
        for index in 0..count {
            let (meta, datagrams) = inbox.received(index);
            datagrams.for_each(|message| replier.answer(&meta, message));
        }
        if count == 0 {
            return false;
        }
    }
    true
}

struct Replier {
    edge: Arc<Edge>,
    outbox: Outbox,
    sender: UnboundedSender<Completed>,
    /// Questions whose answers are to come.
    under_way: usize,
}

impl Replier {
    fn answer(&mut self, from: &RecvMeta, message: &[u8]) {
        let (client, message) = if self.edge.admission.is_proxy(from.addr.ip()) {
            let Some(introduced) = proxy::split(message) else { return };
            introduced
        } else {
            (None, message)
        };
        let client = Client::new(Transport::Udp, proxy::of(client, from.addr));
        if !self.edge.admit(client) {
            return self.limit(from, message);
        }
        // The reply's own ECN bits are none of the query's.
        let sender = RecvMeta { ecn: None, ..*from };
        let to = To { sender, client: client.addr, asked: message.len() };
        let asked = self.edge.ask(message, client, false, |ticket| {
            let sender = self.sender.clone();
            // Fails if the server has stopped.
            Box::new(move |replies| drop(sender.send((to, ticket.give(replies)))))
        });
        match asked {
            Asked::Now(None) => {}
            Asked::Now(Some(replies)) => self.send(&to, replies),
            Asked::Later => self.under_way += 1,
        }
    }

    fn complete(&mut self, (to, replies): Completed) {
        self.under_way -= 1;
        self.send(&to, replies);
    }

    fn send(&mut self, to: &To, replies: Replies) {
        for mut reply in replies {
            self.cut(to, &mut reply);
            if self.edge.admission.response(to.client, &reply) || self.shorten(&mut reply) {
                self.outbox.send(&to.sender, &reply.wire, None);
            }
        }
    }

    /// Cuts a reply that is too long for a client whose address is not proven. The client learns to ask over TCP.
    fn cut(&self, to: &To, reply: &mut Reply) {
        let room = self.edge.admission.room(to.client, reply, to.asked);
        // Nothing that is signed as a whole is longer than what was asked with.
        if reply.wire.len() > room && reply.rcode != Rcode::NotAuth && !reply.cut(room) {
            self.edge.metrics.responses_cut.add(1);
            reply.ask_for_cookie();
        }
    }

    /// Shortens a reply over the rate limit; false if it must not be sent. A client that knows cookies is asked for its
    /// own. Of the others, every second one is sent over to TCP.
    fn shorten(&self, reply: &mut Reply) -> bool {
        self.edge.metrics.responses_limited.add(1);
        if reply.rcode == Rcode::NotAuth {
            // It may be signed as a whole, and cannot be cut.
            return false;
        }
        reply.truncate();
        reply.ask_for_cookie() || self.edge.admission.slip()
    }

    /// Silence, or TC for every second one.
    fn limit(&mut self, from: &RecvMeta, message: &[u8]) {
        if !self.edge.admission.slip() {
            return;
        }
        if let Ok(query) = Query::parse(message) {
            let empty = Builder::new(&query).finish(Rcode::NoError, false, None);
            let mut reply = empty.reply(&query, Transport::Udp.shape(), 0);
            reply.truncate();
            self.outbox.send(&RecvMeta { ecn: None, ..*from }, &reply.wire, None);
        }
    }
}
