//! The edge: sockets to `Gateway` and back. Async lives here and above.

mod admission;
mod classic;
mod doq;
mod h3;
mod https;
mod metrics;
mod router;
mod tls;

pub use admission::{Admission, ConnectionGuard, Limits};
pub use classic::listen as listen_classic;
pub use doq::{ALPN as DOQ_ALPN, server_config as doq_server_config, serve as serve_doq};
pub use h3::{ALPN as H3_ALPN, serve as serve_h3, server_config as h3_server_config};
pub use https::serve as serve_https;
pub use metrics::serve as serve_metrics;
pub use tls::{Identity, TlsError, dev_identity, load_identity};

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{oneshot, watch};

use crate::api::Rpc;
use crate::gateway::{Begun, Client, Gateway, Transport};
use crate::metrics::Metrics;
use crate::wire::Reply;

/// What all listeners share.
pub struct Edge {
    pub gateway: Arc<Gateway>,
    pub rpc: Rpc,
    pub metrics: Arc<Metrics>,
    pub admission: Admission,
    /// Turns true once, when the server drains.
    pub stop: watch::Receiver<bool>,
    /// True between "all listeners are bound" and the drain.
    pub ready: AtomicBool,
    /// UDP port of HTTP/3, advertised by `Alt-Svc`.
    pub h3_port: u16,
}

/// What became of a query.
pub enum Answered {
    Reply(Reply),
    /// Nothing may be sent back.
    Ignored,
    /// The client asks too fast; each transport says so in its own way.
    Limited,
}

impl Edge {
    /// Admits and answers one message: hits at once on this thread, misses through the workers.
    pub async fn answer(&self, message: &[u8], transport: Transport, addr: IpAddr) -> Answered {
        if !self.admission.query(addr) {
            self.metrics.limit();
            return Answered::Limited;
        }
        let reply = match self.gateway.begin(message, Client { transport, addr }) {
            Begun::Ready(reply) => Some(reply),
            Begun::Ignore => None,
            Begun::Miss(miss) => {
                let (sender, receiver) = oneshot::channel();
                // A client that went away does not want the reply; the cache keeps it all the same.
                self.gateway.finish(miss, Box::new(move |reply| drop(sender.send(reply))));
                receiver.await.ok()
            }
        };
        let Some(reply) = reply else { return Answered::Ignored };
        self.metrics.reply(transport as usize, reply.rcode as u16);
        Answered::Reply(reply)
    }

    /// Resolves when the server drains.
    pub async fn stopped(&self) {
        let mut stop = self.stop.clone();
        // An error means that the sender is gone: the server has stopped.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// True while the server takes requests.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed) && !*self.stop.borrow()
    }
}

/// The address itself, for an IPv4 client of an IPv6 socket.
fn canonical(addr: IpAddr) -> IpAddr {
    addr.to_canonical()
}
