//! Sees from the octets of an HTTP connection whether a client has begun to say something and does not come to its end: hyper
//! waits for the rest of an HTTP/2 header block, or of the first line, as long as the connection lives.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, interval};

/// The first octets of an HTTP/2 connection (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Octets of a frame's header, types and the flag that ends a header block (RFC 9113 §4.1, §6.1, §6.2, §6.10).
const FRAME_HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// The unfinished part of one connection. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Unfinished(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Requests that have been read and not been answered.
    under_way: AtomicUsize,
    begun: Mutex<Begun>,
}

#[derive(Debug, Default)]
struct Begun {
    phase: Phase,
    /// When what is not finished began.
    since: Option<Instant>,
}

#[derive(Debug)]
enum Phase {
    /// So many octets are those of the preface.
    Preface(usize),
    Http1,
    Http2(Frames),
}

impl Default for Phase {
    fn default() -> Self {
        Self::Preface(0)
    }
}

/// Where in an HTTP/2 frame the connection is.
#[derive(Debug, Default)]
struct Frames {
    header: [u8; FRAME_HEADER],
    filled: usize,
    /// Octets of the frame that are still to come.
    left: usize,
    /// A header block has not ended.
    open: bool,
}

impl Unfinished {
    /// Watches what is read from `stream`.
    pub fn watch<S>(&self, stream: S) -> Watched<S> {
        Watched { stream, unfinished: self.clone() }
    }

    /// A request is whole, but for its body; it is under way while the guard lives.
    pub fn request(&self) -> UnderWay {
        self.0.under_way.fetch_add(1, Relaxed);
        let mut begun = self.begun();
        if matches!(begun.phase, Phase::Http1) {
            begun.since = None;
        }
        UnderWay(self.clone())
    }

    /// Requests under way.
    pub fn under_way(&self) -> usize {
        self.0.under_way.load(Relaxed)
    }

    /// Resolves when something has been unfinished for so long, and at most half as long again.
    pub async fn lasts(&self, long: Duration) {
        let mut ticks = interval((long / 2).max(Duration::from_millis(1)));
        loop {
            let now = ticks.tick().await;
            if self.begun().since.is_some_and(|since| now.saturating_duration_since(since) >= long) {
                return;
            }
        }
    }

    fn read(&self, octets: &[u8]) {
        let idle = self.under_way() == 0;
        let mut begun = self.begun();
        if begun.read(octets, idle) {
            begun.since.get_or_insert_with(Instant::now);
        } else {
            begun.since = None;
        }
    }

    fn begun(&self) -> MutexGuard<'_, Begun> {
        // Nothing panics while it holds the lock.
        self.0.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Begun {
    /// Takes what was read; true if something is not finished after it.
    fn read(&mut self, mut octets: &[u8], idle: bool) -> bool {
        while let (Phase::Preface(at), [octet, rest @ ..]) = (&mut self.phase, octets) {
            if PREFACE[*at] != *octet {
                self.phase = Phase::Http1;
                break;
            }
            (*at, octets) = (*at + 1, rest);
            if *at == PREFACE.len() {
                self.phase = Phase::Http2(Frames::default());
            }
        }
        match &mut self.phase {
            Phase::Preface(at) => *at > 0,
            // Octets that come while a request is under way are its body. hyper finds the end of a header.
            Phase::Http1 => self.since.is_some() || (idle && !octets.is_empty()),
            Phase::Http2(frames) => frames.read(octets),
        }
    }
}

impl Frames {
    fn read(&mut self, mut octets: &[u8]) -> bool {
        while !octets.is_empty() {
            if self.left > 0 {
                let part = self.left.min(octets.len());
                (self.left, octets) = (self.left - part, &octets[part..]);
                continue;
            }
            self.header[self.filled] = octets[0];
            (self.filled, octets) = (self.filled + 1, &octets[1..]);
            if self.filled == FRAME_HEADER {
                self.begin();
            }
        }
        // The data of a request has a time of its own.
        let within = self.left > 0 && self.header[3] != DATA;
        self.filled > 0 || within || self.open
    }

    fn begin(&mut self) {
        let [a, b, c, kind, flags, ..] = self.header;
        self.filled = 0;
        self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        if [HEADERS, CONTINUATION].contains(&kind) {
            self.open = flags & END_HEADERS == 0;
        }
    }
}

/// A request under way.
pub struct UnderWay(Unfinished);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.under_way.fetch_sub(1, Relaxed);
    }
}

/// A stream that tells what is read from it.
pub struct Watched<S> {
    stream: S,
    unfinished: Unfinished,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.unfinished.read(&buffer.filled()[before..]);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, octets)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, octets)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn frame(kind: u8, flags: u8, octets: &[u8]) -> Vec<u8> {
        let length = octets.len() as u32;
        [&length.to_be_bytes()[1..], &[kind, flags, 0, 0, 0, 1], octets].concat()
    }

    /// Whether something is unfinished after each part, however it is cut.
    fn told(parts: &[&[u8]]) -> Vec<bool> {
        let unfinished = Unfinished::default();
        let mut told = Vec::new();
        for part in parts {
            part.chunks(3).for_each(|piece| unfinished.read(piece));
            told.push(unfinished.begun().since.is_some());
        }
        told
    }

    #[test]
    fn half_a_header_over_http_1_is_unfinished_until_there_is_a_request() {
        let unfinished = Unfinished::default();
        unfinished.read(b"GET / HT");
        let since = unfinished.begun().since;
        unfinished.read(b"TP/1.1\r\nhost: ");
        assert_eq!((since.is_some(), unfinished.begun().since), (true, since));
        let request = unfinished.request();
        assert_eq!((unfinished.begun().since, unfinished.under_way()), (None, 1));
        unfinished.read(b"a body");
        assert_eq!(unfinished.begun().since, None);
        drop(request);
        unfinished.read(b"P");
        assert!(unfinished.begun().since.is_some());
        // The beginning of the preface could be that of a request.
        assert_eq!(told(&[b"P", b"OST / HTTP/1.1"]), [true, true]);
    }

    #[test]
    fn an_open_header_block_over_http_2_is_unfinished() {
        let (ping, data) = (frame(6, 0, &[0; 8]), frame(DATA, 0, &[7; 100]));
        let (open, more, end) = (frame(HEADERS, 0, b"x"), frame(CONTINUATION, 0, b"y"), frame(CONTINUATION, 4, b""));
        let whole = frame(HEADERS, END_HEADERS, &[7; 300]);
        assert_eq!(told(&[&PREFACE[..10], &PREFACE[10..], &ping, &data, &whole]), [true, false, false, false, false]);
        assert_eq!(told(&[PREFACE, &open, &more, &more, &end, &ping]), [false, true, true, true, false, false]);
        assert_eq!(told(&[PREFACE, &whole[..5], &whole[5..20], &whole[20..]]), [false, true, true, false]);
        // A body that does not end is not a header.
        assert_eq!(told(&[PREFACE, &data[..50], &data[50..]]), [false, false, false]);
    }

    #[test]
    fn what_lasts_too_long_is_told() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let unfinished = Unfinished::default();
            let long = Duration::from_millis(1);
            assert_eq!(unfinished.lasts(long).now_or_never(), None);
            unfinished.read(b"GET ");
            let began = Instant::now();
            unfinished.lasts(long).await;
            assert!(began.elapsed() >= long);
        });
    }
}
