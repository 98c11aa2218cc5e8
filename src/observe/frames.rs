//! Frame Streams (fstrm): messages of any content, one after the other, to a socket's reader or into a file.
//!
//! ```text
//! socket    READY -> <- ACCEPT   START ->  frames ...  STOP -> <- FINISH
//! file                           START     frames ...  STOP
//! ```

use std::io::{self, Read, Write};

use crate::wire::u32_at;

/// Control frames' types.
const ACCEPT: u32 = 1;
const START: u32 = 2;
const STOP: u32 = 3;
const READY: u32 = 4;
const FINISH: u32 = 5;

/// The one field that control frames have.
const CONTENT_TYPE: u32 = 1;

/// Octets of a control frame, at most.
const MAX_CONTROL: u32 = 512;

/// Agrees with a reader on a content type, and begins.
///
/// # Errors
/// The stream failed, or the reader speaks something else.
pub fn open(stream: &mut (impl Read + Write), content: &[u8]) -> io::Result<()> {
    stream.write_all(&control(READY, Some(content)))?;
    stream.flush()?;
    let accepted = read_control(stream, ACCEPT)?;
    // A reader that names no type takes any.
    if !accepted.is_empty() && !content_types(&accepted).any(|accepted| accepted == content) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the reader takes another content"));
    }
    begin(stream, content)
}

/// Begins without a reader.
///
/// # Errors
/// The stream failed.
pub fn begin(stream: &mut impl Write, content: &[u8]) -> io::Result<()> {
    stream.write_all(&control(START, Some(content)))
}

/// Writes a frame; never an empty one, which would be read as a control frame.
///
/// # Errors
/// The stream failed.
pub fn frame(stream: &mut impl Write, data: &[u8]) -> io::Result<()> {
    debug_assert!(!data.is_empty());
    stream.write_all(&(data.len() as u32).to_be_bytes())?;
    stream.write_all(data)
}

/// Octets that a frame takes with its length.
pub fn framed(data: &[u8]) -> u64 {
    4 + data.len() as u64
}

/// Ends a stream.
///
/// # Errors
/// It failed.
pub fn end(stream: &mut impl Write) -> io::Result<()> {
    stream.write_all(&control(STOP, None))?;
    stream.flush()
}

/// Ends a stream, and waits until the reader has all.
///
/// # Errors
/// It failed, or the reader said something else.
pub fn close(stream: &mut (impl Read + Write)) -> io::Result<()> {
    end(stream)?;
    read_control(stream, FINISH).map(drop)
}

fn control(kind: u32, content: Option<&[u8]>) -> Vec<u8> {
    let mut payload = kind.to_be_bytes().to_vec();
    if let Some(content) = content {
        payload.extend(CONTENT_TYPE.to_be_bytes());
        payload.extend((content.len() as u32).to_be_bytes());
        payload.extend_from_slice(content);
    }
    // The escape: a frame of no octets, then the length of the control frame.
    [&[0; 4], &(payload.len() as u32).to_be_bytes()[..], &payload].concat()
}

/// The fields of a control frame, which must be of this kind.
fn read_control(stream: &mut impl Read, kind: u32) -> io::Result<Vec<u8>> {
    let mut number = || {
        let mut octets = [0; 4];
        stream.read_exact(&mut octets)?;
        Ok::<u32, io::Error>(u32::from_be_bytes(octets))
    };
    let unexpected = || io::Error::new(io::ErrorKind::InvalidData, "not the control frame that was due");
    let (escape, length, found) = (number()?, number()?, number()?);
    if escape != 0 || !(4..=MAX_CONTROL).contains(&length) || found != kind {
        return Err(unexpected());
    }
    let mut fields = vec![0; length as usize - 4];
    stream.read_exact(&mut fields)?;
    Ok(fields)
}

/// The content types among the fields of a control frame.
fn content_types(mut fields: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (head, rest) = fields.split_at_checked(8)?;
        let (content, rest) = rest.split_at_checked(u32_at(head, 4) as usize)?;
        fields = rest;
        Some((u32_at(head, 0), content))
    })
    .filter_map(|(kind, content)| (kind == CONTENT_TYPE).then_some(content))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_reader_and_a_writer_agree() {
        let (mut writer, mut reader) = UnixStream::pair().unwrap();
        let reads = std::thread::spawn(move || {
            let ready = read_control(&mut reader, READY).unwrap();
            reader.write_all(&control(ACCEPT, Some(b"x"))).unwrap();
            assert_eq!(read_control(&mut reader, START).unwrap(), ready);
            let mut frame = [0; 7];
            reader.read_exact(&mut frame).unwrap();
            assert_eq!(&frame, b"\0\0\0\x03abc");
            assert_eq!(read_control(&mut reader, STOP).unwrap(), b"");
            reader.write_all(&control(FINISH, None)).unwrap();
        });
        open(&mut writer, b"x").unwrap();
        frame(&mut writer, b"abc").unwrap();
        close(&mut writer).unwrap();
        reads.join().unwrap();
    }

    #[test]
    fn a_reader_of_something_else_is_none() {
        for answer in
            [control(ACCEPT, Some(b"y")), control(FINISH, None), vec![0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 1]]
        {
            let (mut writer, mut reader) = UnixStream::pair().unwrap();
            reader.write_all(&answer).unwrap();
            assert_eq!(open(&mut writer, b"x").unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
