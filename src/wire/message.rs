//! Whole messages read record by record: for our client, and for adapters that re-encode.

use super::query::OPT_EDE;
use super::rdata::{self, RdataError};
use super::{HEADER, Name, NameError, Rtype, u16_at, u32_at};

/// A message, names decompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub id: u16,
    /// The second 16 bits of the header (RFC 1035 §4.1.1).
    pub flags: u16,
    pub question: Option<(Name, Rtype)>,
    /// Answer, authority, additional; the OPT record is in `opt`.
    pub sections: [Vec<MessageRecord>; 3],
    pub opt: Option<Opt>,
    /// Octets of the message.
    pub size: usize,
}

/// One record of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRecord {
    pub owner: Name,
    pub rtype: Rtype,
    pub class: u16,
    /// Seconds.
    pub ttl: u32,
    pub rdata: Vec<u8>,
}

/// The OPT record of a message (RFC 6891 §6.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opt {
    pub udp_payload: u16,
    pub extended_rcode: u8,
    pub version: u8,
    pub dnssec_ok: bool,
    /// Option code and data.
    pub options: Vec<(u16, Vec<u8>)>,
}

/// Why octets are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    #[error("message ends too early")]
    Short,
    #[error("octets follow the last record")]
    Trailing,
    #[error("more than one question")]
    Questions,
    #[error("name: {0}")]
    Name(#[from] NameError),
    #[error("{0}: {1}")]
    Rdata(Rtype, RdataError),
}

impl Message {
    /// Reads a whole message. The work is bounded by its size: every record takes at least 11 octets.
    ///
    /// # Errors
    /// The first thing that does not fit.
    pub fn parse(octets: &[u8]) -> Result<Self, MessageError> {
        let header = octets.get(..HEADER).ok_or(MessageError::Short)?;
        let mut message = Self {
            id: u16_at(header, 0),
            flags: u16_at(header, 2),
            question: None,
            sections: Default::default(),
            opt: None,
            size: octets.len(),
        };
        let mut at = HEADER;
        match u16_at(header, 4) {
            0 => {}
            1 => at = message.read_question(octets)?,
            _ => return Err(MessageError::Questions),
        }
        for section in 0..3 {
            for _ in 0..u16_at(header, 6 + 2 * section) {
                at = message.read_record(octets, at, section)?;
            }
        }
        if at == octets.len() { Ok(message) } else { Err(MessageError::Trailing) }
    }

    /// The 12-bit response code (RFC 6891 §6.1.3).
    pub fn rcode(&self) -> u16 {
        let high = self.opt.as_ref().map_or(0, |opt| opt.extended_rcode);
        u16::from(high) << 4 | self.flags & 0xf
    }

    /// INFO-CODE and EXTRA-TEXT of every extended error (RFC 8914).
    pub fn extended_errors(&self) -> Vec<(u16, String)> {
        let options = self.opt.iter().flat_map(|opt| &opt.options);
        let errors = options.filter(|(code, data)| *code == OPT_EDE && data.len() >= 2);
        errors.map(|(_, data)| (u16_at(data, 0), String::from_utf8_lossy(&data[2..]).into_owned())).collect()
    }

    fn read_question(&mut self, octets: &[u8]) -> Result<usize, MessageError> {
        let (name, at) = Name::from_message(octets, HEADER)?;
        let fixed = octets.get(at..at + 4).ok_or(MessageError::Short)?;
        self.question = Some((name, Rtype(u16_at(fixed, 0))));
        Ok(at + 4)
    }

    fn read_record(&mut self, octets: &[u8], at: usize, section: usize) -> Result<usize, MessageError> {
        let (owner, at) = Name::from_message(octets, at)?;
        let fixed = octets.get(at..at + 10).ok_or(MessageError::Short)?;
        let (rtype, class, ttl) = (Rtype(u16_at(fixed, 0)), u16_at(fixed, 2), u32_at(fixed, 4));
        let (start, end) = (at + 10, at + 10 + usize::from(u16_at(fixed, 8)));
        let data = octets.get(start..end).ok_or(MessageError::Short)?;
        if rtype == Rtype::OPT {
            let [extended_rcode, version, flags, _] = ttl.to_be_bytes();
            let dnssec_ok = flags & 0x80 != 0;
            let options = read_options(data)?;
            self.opt = Some(Opt { udp_payload: class, extended_rcode, version, dnssec_ok, options });
            return Ok(end);
        }
        let rdata =
            rdata::from_message(rtype, octets, start..end).map_err(|error| MessageError::Rdata(rtype, error))?;
        self.sections[section].push(MessageRecord { owner, rtype, class, ttl, rdata });
        Ok(end)
    }
}

fn read_options(mut rest: &[u8]) -> Result<Vec<(u16, Vec<u8>)>, MessageError> {
    let mut options = Vec::new();
    while !rest.is_empty() {
        let head = rest.get(..4).ok_or(MessageError::Short)?;
        let end = 4 + usize::from(u16_at(head, 2));
        options.push((u16_at(head, 0), rest.get(4..end).ok_or(MessageError::Short)?.to_vec()));
        rest = &rest[end..];
    }
    Ok(options)
}
