//! Streams for h3 that say no to frames which it would keep whole.
//!
//! h3 0.0.8 looks into a frame when all of it is there, unless it is DATA, whatever length it announces and whatever type it
//! has: flow control is no bound, as h3 takes all that comes. So lengths are read here first, and what frames that are not
//! whole have had so far is counted for their connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use h3::error::Code;
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};

use super::super::router::MAX_HEADERS;
use crate::limits::MAX_PARTIAL;

/// Octets of a frame that is not DATA. Of HEADERS over [`MAX_HEADERS`], which are told so, some more.
const MAX_FRAME: u64 = 2 * MAX_HEADERS as u64;

/// Frame and stream types (RFC 9114 §7.2.1, §6.2.1; WebTransport's has no length).
const DATA: u64 = 0;
const CONTROL: u64 = 0;
const WEBTRANSPORT: u64 = 0x41;

/// A connection, or what opens its streams, with the octets that its frames wait with.
pub struct Bounded<T> {
    inner: T,
    partial: Arc<AtomicUsize>,
}

impl Bounded<h3_quinn::Connection> {
    pub fn new(connection: quinn::Connection) -> Self {
        Self { inner: h3_quinn::Connection::new(connection), partial: Arc::default() }
    }
}

impl<T> Bounded<T> {
    fn stream<S>(&self, inner: S, begin: State) -> Stream<S> {
        Stream { inner, waits: false, frames: Frames::new(begin, Arc::clone(&self.partial)) }
    }
}

impl<B: Buf> quic::Connection<B> for Bounded<h3_quinn::Connection> {
    type RecvStream = Stream<h3_quinn::RecvStream>;
    type OpenStreams = Bounded<h3_quinn::OpenStreams>;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::RecvStream, ConnectionErrorIncoming>> {
        let accepted = quic::Connection::<B>::poll_accept_recv(&mut self.inner, cx);
        accepted.map_ok(|stream| self.stream(stream, State::StreamType))
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::BidiStream, ConnectionErrorIncoming>> {
        self.inner.poll_accept_bidi(cx).map_ok(|stream| self.stream(stream, State::Type))
    }

    fn opener(&self) -> Self::OpenStreams {
        let inner = quic::Connection::<B>::opener(&self.inner);
        Bounded { inner, partial: Arc::clone(&self.partial) }
    }
}

impl<B, T> quic::OpenStreams<B> for Bounded<T>
where
    B: Buf,
    T: quic::OpenStreams<B, BidiStream = h3_quinn::BidiStream<B>>,
{
    type BidiStream = Stream<h3_quinn::BidiStream<B>>;
    type SendStream = T::SendStream;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::BidiStream, StreamErrorIncoming>> {
        self.inner.poll_open_bidi(cx).map_ok(|stream| self.stream(stream, State::Type))
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Self::SendStream, StreamErrorIncoming>> {
        self.inner.poll_open_send(cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.inner.close(code, reason);
    }
}

/// A stream whose frames are looked at on their way to h3.
pub struct Stream<S> {
    inner: S,
    /// A read has begun and has not ended: h3-quinn cannot be told to stop then.
    waits: bool,
    frames: Frames,
}

impl<S: quic::RecvStream<Buf = Bytes>> quic::RecvStream for Stream<S> {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let polled = self.inner.poll_data(cx);
        self.waits = polled.is_pending();
        let fault = match &polled {
            Poll::Ready(Ok(Some(octets))) => self.frames.take(octets).err(),
            Poll::Ready(Ok(None)) => self.frames.end().err(),
            _ => None,
        };
        let Some(code) = fault else { return polled };
        self.stop_sending(code.value());
        // On the control stream, if its type has been read, it is the end of the connection (RFC 9114 §6.2.1).
        Poll::Ready(Err(StreamErrorIncoming::StreamTerminated { error_code: code.value() }))
    }

    fn stop_sending(&mut self, error_code: u64) {
        // Else the stream is stopped when it is dropped.
        if !self.waits {
            self.inner.stop_sending(error_code);
        }
    }

    fn recv_id(&self) -> StreamId {
        self.inner.recv_id()
    }
}

impl<B: Buf, S: quic::SendStream<B>> quic::SendStream<B> for Stream<S> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.inner.poll_ready(cx)
    }

    fn send_data<D: Into<WriteBuf<B>>>(&mut self, data: D) -> Result<(), StreamErrorIncoming> {
        self.inner.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.inner.poll_finish(cx)
    }

    fn reset(&mut self, reset_code: u64) {
        self.inner.reset(reset_code);
    }

    fn send_id(&self) -> StreamId {
        self.inner.send_id()
    }
}

impl<B: Buf> quic::BidiStream<B> for Stream<h3_quinn::BidiStream<B>> {
    type SendStream = h3_quinn::SendStream<B>;
    type RecvStream = Stream<h3_quinn::RecvStream>;

    fn split(self) -> (Self::SendStream, Self::RecvStream) {
        let (send, recv) = self.inner.split();
        (send, Stream { inner: recv, waits: self.waits, frames: self.frames })
    }
}

/// How far a stream's frames have come.
struct Frames {
    state: State,
    number: Number,
    /// Octets of a frame that is not whole, counted in `partial` as well.
    kept: usize,
    partial: Arc<AtomicUsize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// What kind of stream it is comes first.
    StreamType,
    /// Nothing but frames is looked at.
    Other,
    Type,
    Length(u64),
    /// Octets that are still to come, and whether h3 keeps them until then.
    Payload(u64, bool),
}

impl Frames {
    fn new(state: State, partial: Arc<AtomicUsize>) -> Self {
        Self { state, number: Number::default(), kept: 0, partial }
    }

    /// Takes what came next.
    ///
    /// # Errors
    /// A frame is too long, or too much is kept of frames that are not whole: the code to say so with.
    fn take(&mut self, mut octets: &[u8]) -> Result<(), Code> {
        while let Some((&first, rest)) = octets.split_first() {
            match self.state {
                State::Other => return Ok(()),
                State::Payload(left, keeps) => {
                    let count = octets.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    octets = &octets[count..];
                    if keeps {
                        self.kept += count;
                        self.partial.fetch_add(count, Relaxed);
                    }
                    self.payload(left - count as u64, keeps);
                    continue;
                }
                _ => octets = rest,
            }
            let Some(number) = self.number.take(first) else { continue };
            match self.state {
                State::StreamType => self.state = if number == CONTROL { State::Type } else { State::Other },
                State::Length(DATA) => self.payload(number, false),
                State::Length(_) if number > MAX_FRAME => return Err(Code::H3_EXCESSIVE_LOAD),
                State::Length(_) => self.payload(number, true),
                _ if number == WEBTRANSPORT => return Err(Code::H3_FRAME_UNEXPECTED),
                _ => self.state = State::Length(number),
            }
        }
        if self.partial.load(Relaxed) > MAX_PARTIAL { Err(Code::H3_EXCESSIVE_LOAD) } else { Ok(()) }
    }

    fn payload(&mut self, left: u64, keeps: bool) {
        self.state = if left == 0 { State::Type } else { State::Payload(left, keeps) };
        if left == 0 {
            self.release();
        }
    }

    fn release(&mut self) {
        self.partial.fetch_sub(std::mem::take(&mut self.kept), Relaxed);
    }

    /// Nothing more comes.
    ///
    /// # Errors
    /// A frame is not whole (RFC 9114 §7.1).
    fn end(&self) -> Result<(), Code> {
        let inside = matches!(self.state, State::Length(_) | State::Payload(..)) || self.number.left > 0;
        if inside { Err(Code::H3_FRAME_ERROR) } else { Ok(()) }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.release();
    }
}

/// A variable-length integer (RFC 9000 §16) as far as it has come.
#[derive(Debug, Default, Clone, Copy)]
struct Number {
    value: u64,
    /// Octets that are still to come; 0 before the first.
    left: u8,
}

impl Number {
    /// Takes one octet; the number if it was the last.
    fn take(&mut self, octet: u8) -> Option<u64> {
        (self.value, self.left) = match self.left {
            0 => (u64::from(octet & 0x3f), (1 << (octet >> 6)) - 1),
            left => (self.value << 8 | u64::from(octet), left - 1),
        };
        (self.left == 0).then_some(self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(state: State) -> Frames {
        Frames::new(state, Arc::default())
    }

    /// HEADERS of three octets, DATA of two, an empty one of a reserved type.
    const REQUEST: &[u8] = &[0x01, 0x03, 1, 2, 3, 0x00, 0x40, 0x02, 1, 2, 0x21, 0x00];

    #[test]
    fn frames_may_come_in_any_pieces() {
        for cut in 0..=REQUEST.len() {
            let mut frames = frames(State::Type);
            let (first, second) = REQUEST.split_at(cut);
            assert_eq!(frames.take(first), Ok(()));
            let inside = ![0, 5, 10, 12].contains(&cut);
            assert_eq!(frames.end().is_err(), inside, "{cut}");
            assert_eq!(frames.take(second), Ok(()));
            assert_eq!((frames.end(), frames.partial.load(Relaxed)), (Ok(()), 0));
        }
    }

    #[test]
    fn a_frame_that_would_be_kept_is_bounded_and_data_is_not() {
        let long = |kind: u8| [&[kind, 0xc0][..], &(1_u64 << 40).to_be_bytes()[1..]].concat();
        assert_eq!(frames(State::Type).take(&long(0x00)), Ok(()));
        for kind in [0x01, 0x04, 0x21] {
            assert_eq!(frames(State::Type).take(&long(kind)), Err(Code::H3_EXCESSIVE_LOAD));
            let control = [&[0][..], &long(kind)].concat();
            assert_eq!(frames(State::StreamType).take(&control), Err(Code::H3_EXCESSIVE_LOAD));
            // What is for QPACK has no frames.
            let encoder = [&[2][..], &long(kind)].concat();
            assert_eq!(frames(State::StreamType).take(&encoder), Ok(()));
        }
        assert_eq!(frames(State::Type).take(&[0x40, 0x41, 0]), Err(Code::H3_FRAME_UNEXPECTED));
    }

    #[test]
    fn what_waits_is_counted_for_all_streams_until_it_is_whole_or_gone() {
        let partial = Arc::<AtomicUsize>::default();
        let begin = [&[0x01, 0x80, 0, 0x40, 0][..], &[0; 0x3fff]].concat();
        let one = || Frames::new(State::Type, Arc::clone(&partial));
        let mut streams: Vec<_> = (0..MAX_PARTIAL / 0x3fff).map(|_| one()).collect();
        assert!(streams.iter_mut().all(|stream| stream.take(&begin) == Ok(())));
        assert_eq!(one().take(&begin), Err(Code::H3_EXCESSIVE_LOAD));
        assert_eq!(streams[0].take(&[0]), Ok(()));
        assert_eq!(one().take(&begin), Ok(()));
        drop(streams);
        assert_eq!(partial.load(Relaxed), 0);
    }
}
