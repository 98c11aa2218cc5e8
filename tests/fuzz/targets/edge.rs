//! What comes before a message is one, in any pieces: a DoQ stream, the header of a balancer, a reader of dnstap. No panic;
//! a DoQ query is the same however it is cut.
#![no_main]

use std::io::{self, Cursor, Read, Write};

use ghostplane::limits::MAX_QUERY;
use ghostplane::observe::frames;
use ghostplane::transport::doq::{Fault, Incoming, Piece, check};
use ghostplane::transport::proxy;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let (cuts, stream) = octets.split_at(octets.len() / 8);
    let (whole, cut) = (query(&[stream]), query(&pieces(stream, cuts)));
    // Of a query that is too long no more is read than says so.
    if stream.first_chunk().is_none_or(|&length| usize::from(u16::from_be_bytes(length)) <= MAX_QUERY) {
        assert_eq!(whole, cut);
    }
    if let Ok(message) = whole {
        let _ = check(&message);
    }
    if let Some((_, message)) = proxy::split(octets) {
        assert!(octets.ends_with(message));
    }
    let _ = frames::open(&mut Reader(Cursor::new(octets)), b"protobuf:dnstap.Dnstap");
    let _ = frames::close(&mut Reader(Cursor::new(octets)));
});

fn query(pieces: &[&[u8]]) -> Result<Vec<u8>, Fault> {
    let mut incoming = Incoming::default();
    for piece in pieces {
        if incoming.push(piece)? == Piece::TooLong {
            return Ok(incoming.message().to_vec());
        }
    }
    incoming.whole().map(<[u8]>::to_vec)
}

/// A stream cut after so many octets, again and again.
fn pieces<'a>(mut stream: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for &cut in cuts {
        let (piece, rest) = stream.split_at(usize::from(cut).min(stream.len()));
        pieces.push(piece);
        stream = rest;
    }
    pieces.push(stream);
    pieces
}

/// Says what it is to say, whatever it is told.
struct Reader<'a>(Cursor<&'a [u8]>);

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Reader<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
