//! A UDP socket that takes and gives many datagrams at once: recvmmsg, and UDP GRO and GSO where the kernel has them
//! (by quinn-udp). Replies leave from the address that was asked, also on a socket that is bound to all of them.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::slice::Chunks;
use std::sync::Arc;

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::limits::MAX_UNSENT;

/// Octets of a datagram, or of several that the kernel has joined.
const SLOT: usize = 65_535;

struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
}

/// What comes from a socket.
pub struct Inbox {
    socket: Arc<Socket>,
    /// Room for `BATCH_SIZE` datagrams. The kernel writes what comes, so pages that are never needed are never touched.
    buffer: Box<[u8]>,
    metas: [RecvMeta; BATCH_SIZE],
}

/// What goes to a socket.
pub struct Outbox {
    socket: Arc<Socket>,
    /// What the kernel had no room for.
    unsent: VecDeque<Unsent>,
}

struct Unsent {
    to: RecvMeta,
    octets: Box<[u8]>,
    segment: Option<usize>,
}

/// Both sides of a socket. Must be called inside a runtime.
///
/// # Errors
/// The socket cannot be had to say where its datagrams were sent to.
pub fn open(socket: std::net::UdpSocket) -> io::Result<(Inbox, Outbox)> {
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket)?;
    let state = UdpSocketState::new((&socket).into())?;
    let socket = Arc::new(Socket { socket, state });
    let inbox = Inbox {
        socket: Arc::clone(&socket),
        buffer: vec![0; SLOT * BATCH_SIZE].into_boxed_slice(),
        metas: [RecvMeta::default(); BATCH_SIZE],
    };
    Ok((inbox, Outbox { socket, unsent: VecDeque::new() }))
}

impl Inbox {
    /// Resolves when there is something to receive.
    pub async fn readable(&self) {
        // Fails only if the runtime is gone.
        let _ = self.socket.socket.readable().await;
    }

    /// Takes what has come; gives how many, of which each may be several datagrams. 0: nothing.
    pub fn receive(&mut self) -> usize {
        let mut slots = self.buffer.chunks_mut(SLOT);
        let mut slots: [_; BATCH_SIZE] = std::array::from_fn(|_| IoSliceMut::new(slots.next().unwrap_or_default()));
        let Socket { socket, state } = &*self.socket;
        let received = socket.try_io(Interest::READABLE, || state.recv(socket.into(), &mut slots, &mut self.metas));
        // An error is of an earlier reply that could not be delivered (ICMP), or that there is nothing.
        received.unwrap_or(0)
    }

    /// Where from and where to, and the datagrams, of one of those that were just received.
    pub fn received(&self, index: usize) -> (RecvMeta, Chunks<'_, u8>) {
        let (meta, at) = (self.metas[index], index * SLOT);
        (meta, self.buffer[at..at + meta.len].chunks(meta.stride.max(1)))
    }
}

impl Outbox {
    /// True if datagrams leave whole or not at all, so that the size that a path takes can be searched for.
    pub fn may_search_mtu(&self) -> bool {
        !self.socket.state.may_fragment()
    }

    /// Datagrams that one [`Self::send`] may carry.
    pub fn segments(&self) -> usize {
        self.socket.state.max_gso_segments()
    }

    /// Sends `octets` to whom `to` came from, from where it came to: several datagrams of `segment` octets each if that
    /// is given. What the kernel has no room for now is kept, up to [`MAX_UNSENT`], and lost beyond.
    pub fn send(&mut self, to: &RecvMeta, octets: &[u8], segment: Option<usize>) {
        if self.unsent.is_empty() && !self.is_blocked(to, octets, segment) {
            return;
        }
        if self.unsent.len() < MAX_UNSENT {
            self.unsent.push_back(Unsent { to: *to, octets: octets.into(), segment });
        }
    }

    /// Resolves when the kernel takes datagrams again; never if none is left over.
    pub async fn unblocked(&self) {
        if self.unsent.is_empty() {
            return std::future::pending().await;
        }
        let _ = self.socket.socket.writable().await;
    }

    /// Sends what was left over, as far as the kernel takes it.
    pub fn flush(&mut self) {
        while let Some(unsent) = self.unsent.pop_front() {
            if self.is_blocked(&unsent.to, &unsent.octets, unsent.segment) {
                return self.unsent.push_front(unsent);
            }
        }
    }

    fn is_blocked(&self, to: &RecvMeta, octets: &[u8], segment: Option<usize>) -> bool {
        let Socket { socket, state } = &*self.socket;
        let transmit =
            Transmit { destination: to.addr, ecn: to.ecn, contents: octets, segment_size: segment, src_ip: to.dst_ip };
        let sent = socket.try_io(Interest::WRITABLE, || state.try_send(socket.into(), &transmit));
        // Any other error is of this datagram only, which is then lost, as datagrams are.
        sent.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}
