//! DNS messages (RFC 1035, RFC 6891): as much as a judge needs, and nothing of the judged server's code.

pub const A: u16 = 1;
pub const SOA: u16 = 6;
pub const TXT: u16 = 16;
pub const OPT: u16 = 41;
pub const IXFR: u16 = 251;
pub const AXFR: u16 = 252;
const IN: u16 = 1;

pub const NOERROR: u16 = 0;
pub const FORMERR: u16 = 1;
pub const NOTIMP: u16 = 4;
pub const REFUSED: u16 = 5;
pub const NOTAUTH: u16 = 9;
pub const BADVERS: u16 = 16;

pub const NOTIFY: u16 = 4;
pub const UPDATE: u16 = 5;
/// DNS Stateful Operations (RFC 8490).
pub const DSO: u16 = 6;

/// EDNS options: edns-tcp-keepalive (RFC 7828), Padding (RFC 7830), Extended DNS Errors (RFC 8914).
pub const KEEPALIVE: u16 = 11;
pub const PADDING: u16 = 12;
pub const EDE: u16 = 15;
/// The Extended DNS Error "Too Early" (RFC 9250 §8.3).
pub const TOO_EARLY: u16 = 26;

const QR: u16 = 0x8000;
const TC: u16 = 0x0200;
const RD: u16 = 0x0100;
/// Octets of a message's header.
pub const HEADER: usize = 12;

/// A message to be sent, right or wrong.
#[derive(Debug, Clone)]
pub struct Draft {
    pub id: u16,
    flags: u16,
    questions: Vec<(Vec<u8>, u16)>,
    /// Records after the questions, in wire form, and the section that counts them: 1 to 3.
    records: Vec<(usize, Vec<u8>)>,
}

impl Draft {
    /// A question as a stub resolver asks it, without EDNS.
    pub fn query(name: &str, rtype: u16) -> Self {
        Self { id: 0, flags: RD, questions: vec![(name_to_wire(name), rtype)], records: Vec::new() }
    }

    /// The same question once more.
    pub fn again(mut self) -> Self {
        self.questions.extend_from_within(..1);
        self
    }

    pub fn id(mut self, id: u16) -> Self {
        self.id = id;
        self
    }

    pub fn opcode(mut self, opcode: u16) -> Self {
        self.flags = opcode << 11;
        self
    }

    /// Makes it a response.
    pub fn response(mut self) -> Self {
        self.flags |= QR;
        self
    }

    /// No question at all, as DSO has it.
    pub fn bare(mut self) -> Self {
        self.questions.clear();
        self
    }

    pub fn edns(self) -> Self {
        self.opt(1_232, 0, &[])
    }

    pub fn option(self, code: u16, data: &[u8]) -> Self {
        self.opt(1_232, 0, &[(code, data)])
    }

    /// An OPT record: the UDP payload size that is told, the version, options.
    pub fn opt(self, size: u16, version: u8, options: &[(u16, &[u8])]) -> Self {
        let mut data = Vec::new();
        for (code, octets) in options {
            data.extend(code.to_be_bytes());
            data.extend((octets.len() as u16).to_be_bytes());
            data.extend_from_slice(octets);
        }
        self.record(3, &[0], OPT, size, u32::from(version) << 16, &data)
    }

    /// A record of class IN that an UPDATE adds.
    pub fn adds(self, name: &str, rtype: u16, data: &[u8]) -> Self {
        self.record(2, &name_to_wire(name), rtype, IN, 60, data)
    }

    /// The SOA that a secondary has, in the authority section of an IXFR (RFC 1995 §3).
    pub fn has_serial(self, zone: &str, serial: u32) -> Self {
        let mut data = vec![0, 0];
        data.extend(serial.to_be_bytes());
        data.extend([0; 16]);
        self.record(2, &name_to_wire(zone), SOA, IN, 0, &data)
    }

    fn record(mut self, section: usize, owner: &[u8], rtype: u16, class: u16, ttl: u32, data: &[u8]) -> Self {
        let mut record = owner.to_vec();
        record.extend(rtype.to_be_bytes());
        record.extend(class.to_be_bytes());
        record.extend(ttl.to_be_bytes());
        record.extend((data.len() as u16).to_be_bytes());
        record.extend_from_slice(data);
        self.records.push((section, record));
        self
    }

    pub fn encode(&self) -> Vec<u8> {
        let count = |section: usize| self.records.iter().filter(|(at, _)| *at == section).count() as u16;
        let header = [self.id, self.flags, self.questions.len() as u16, count(1), count(2), count(3)];
        let mut message: Vec<u8> = header.into_iter().flat_map(u16::to_be_bytes).collect();
        for (name, rtype) in &self.questions {
            message.extend_from_slice(name);
            message.extend(rtype.to_be_bytes());
            message.extend(IN.to_be_bytes());
        }
        let mut records: Vec<_> = self.records.iter().collect();
        records.sort_by_key(|(section, _)| *section);
        message.extend(records.into_iter().flat_map(|(_, record)| record));
        message
    }

    /// With the length field that stands before a message on a stream.
    pub fn framed(&self) -> Vec<u8> {
        frame(&self.encode())
    }
}

pub fn frame(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

/// Labels without escapes, as in `alice.ghost`.
fn name_to_wire(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(label.len() as u8);
        wire.extend_from_slice(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// A message that a server sent.
#[derive(Debug, Clone)]
pub struct Message {
    pub id: u16,
    flags: u16,
    /// Owner in lower case, and type.
    questions: Vec<(Vec<u8>, u16)>,
    pub records: Vec<Record>,
    /// Octets in all.
    pub length: usize,
}

#[derive(Debug, Clone)]
pub struct Record {
    /// 1 to 3: answer, authority, additional.
    pub section: usize,
    pub rtype: u16,
    ttl: u32,
    data: Vec<u8>,
}

impl Message {
    /// Reads all of a message.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(octets: &[u8]) -> Result<Self, String> {
        let mut reader = Reader { octets, at: 0 };
        let (id, flags) = (reader.u16()?, reader.u16()?);
        let asked = reader.u16()?;
        let counts = [reader.u16()?, reader.u16()?, reader.u16()?];
        let mut questions = Vec::new();
        for _ in 0..asked {
            questions.push((reader.name()?, reader.u16()?));
            reader.u16()?;
        }
        let mut records = Vec::new();
        for (section, count) in (1..).zip(counts) {
            for _ in 0..count {
                records.push(reader.record(section)?);
            }
        }
        if reader.at != octets.len() {
            return Err(format!("{} octets after the message's last record", octets.len() - reader.at));
        }
        Ok(Self { id, flags, questions, records, length: octets.len() })
    }

    pub fn is_response(&self) -> bool {
        self.flags & QR != 0
    }

    pub fn is_truncated(&self) -> bool {
        self.flags & TC != 0
    }

    pub fn opcode(&self) -> u16 {
        self.flags >> 11 & 0xf
    }

    /// With the upper bits that are in the OPT record.
    pub fn rcode(&self) -> u16 {
        let extended = self.opt().map_or(0, |opt| (opt.ttl >> 24) as u16);
        extended << 4 | self.flags & 0xf
    }

    /// The code's name, where this suite knows it.
    pub fn code(&self) -> String {
        match self.rcode() {
            NOERROR => "NOERROR".to_owned(),
            FORMERR => "FORMERR".to_owned(),
            2 => "SERVFAIL".to_owned(),
            3 => "NXDOMAIN".to_owned(),
            NOTIMP => "NOTIMP".to_owned(),
            REFUSED => "REFUSED".to_owned(),
            NOTAUTH => "NOTAUTH".to_owned(),
            BADVERS => "BADVERS".to_owned(),
            other => format!("RCODE {other}"),
        }
    }

    pub fn asks(&self, name: &str, rtype: u16) -> bool {
        matches!(&self.questions[..], [(owner, asked)] if *owner == name_to_wire(&name.to_lowercase()) && *asked == rtype)
    }

    pub fn answers(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| record.section == 1)
    }

    pub fn opt(&self) -> Option<&Record> {
        self.records.iter().find(|record| record.rtype == OPT)
    }

    /// The data of an EDNS option.
    pub fn option(&self, wanted: u16) -> Option<&[u8]> {
        let mut rest = &self.opt()?.data[..];
        while let [c0, c1, l0, l1, tail @ ..] = rest {
            let (data, after) = tail.split_at_checked(usize::from(u16::from_be_bytes([*l0, *l1])))?;
            if u16::from_be_bytes([*c0, *c1]) == wanted {
                return Some(data);
            }
            rest = after;
        }
        None
    }

    /// The code of the Extended DNS Error, if there is one.
    pub fn ede(&self) -> Option<u16> {
        self.option(EDE)?.first_chunk().map(|&code| u16::from_be_bytes(code))
    }
}

struct Reader<'a> {
    octets: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, count: usize) -> Result<&[u8], String> {
        let taken = self.octets.get(self.at..self.at + count);
        self.at += count;
        taken.ok_or_else(|| "the message ends inside a field".to_owned())
    }

    fn u16(&mut self) -> Result<u16, String> {
        Ok(u16::from_be_bytes([self.take(1)?[0], self.take(1)?[0]]))
    }

    /// A name, decompressed; a pointer must lead backwards, so that this ends.
    fn name(&mut self) -> Result<Vec<u8>, String> {
        let (mut name, mut at, mut after, mut bound) = (Vec::new(), self.at, None, self.at);
        loop {
            let length = *self.octets.get(at).ok_or("a name runs out of the message")?;
            match length {
                0 => break,
                1..64 => {
                    let label = self.octets.get(at..at + 1 + usize::from(length)).ok_or("a label is cut off")?;
                    name.extend(label.to_ascii_lowercase());
                    at += label.len();
                }
                192.. => {
                    let low = *self.octets.get(at + 1).ok_or("a pointer is cut off")?;
                    after.get_or_insert(at + 2);
                    at = usize::from(length & 0x3f) << 8 | usize::from(low);
                    if at >= bound {
                        return Err("a compression pointer leads forwards".to_owned());
                    }
                    bound = at;
                }
                _ => return Err("a label of a reserved type".to_owned()),
            }
        }
        name.push(0);
        self.at = after.unwrap_or(at + 1);
        Ok(name)
    }

    fn record(&mut self, section: usize) -> Result<Record, String> {
        self.name()?;
        let (rtype, _class) = (self.u16()?, self.u16()?);
        let ttl = u32::from(self.u16()?) << 16 | u32::from(self.u16()?);
        let length = self.u16()?;
        Ok(Record { section, rtype, ttl, data: self.take(usize::from(length))?.to_vec() })
    }
}

/// The messages of a stream, each behind its length field.
///
/// # Errors
/// The stream does not end where a message does, or a message cannot be read.
pub fn messages(mut stream: &[u8]) -> Result<Vec<Message>, String> {
    let mut messages = Vec::new();
    while !stream.is_empty() {
        let (length, rest) = stream.split_first_chunk().ok_or("the stream ends inside a length field")?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (message, after) =
            rest.split_at_checked(length).ok_or("the length field tells more than the stream has")?;
        messages.push(Message::parse(message)?);
        stream = after;
    }
    Ok(messages)
}
