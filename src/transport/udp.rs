//! DNS over UDP, carried by hickory-server.
//!
//! hickory takes records, not bytes: our reply is read into its records and written again by it. Types
//! whose RDATA may hold compressed names (RFC 3597 §4) go through hickory's own types, so that they are
//! compressed again; all others are opaque octets and survive byte for byte. One thing differs: hickory
//! 0.26 never points into the question, so a message grows, by less than the length of the question's
//! name. Hence `fits` does here again what the gateway has done for its own octets. A reply with a TSIG must leave as
//! it is, and does so past hickory.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::{Edns, Header, Metadata, ResponseCode};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption, OPT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, DecodeError, Restrict};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::{MessageResponse, MessageResponseBuilder, Queries};
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::Edge;
use crate::gateway::{Client, Transport};
use crate::limits::{DRAIN_TIMEOUT, UDP_PAYLOAD, UDP_PAYLOAD_MIN};
use crate::wire::Reply;

/// The running listeners.
pub struct Udp {
    edge: Arc<Edge>,
    /// One for each socket.
    servers: Vec<Server<Handler>>,
    in_flight: Arc<InFlight>,
}

impl Udp {
    /// Must be called inside a tokio runtime.
    pub fn new(edge: Arc<Edge>) -> Self {
        Self { edge, servers: Vec::new(), in_flight: Arc::default() }
    }

    /// Serves a socket. What is signed as a whole leaves by a descriptor of our own on it, octet by octet.
    ///
    /// # Errors
    /// There is no descriptor to be had.
    pub fn add(&mut self, socket: UdpSocket) -> io::Result<()> {
        let socket = socket.into_std()?;
        let exact = UdpSocket::from_std(socket.try_clone()?)?;
        let mut server =
            Server::new(Handler { edge: Arc::clone(&self.edge), exact, in_flight: Arc::clone(&self.in_flight) });
        server.register_socket(UdpSocket::from_std(socket)?);
        self.servers.push(server);
        Ok(())
    }

    /// Lets the answers under way leave, then stops. The handler takes no new queries by then, because the
    /// edge's shutdown is triggered.
    pub async fn drain(mut self) {
        let _ = timeout(DRAIN_TIMEOUT, self.in_flight.none()).await;
        // hickory queues an answer for the socket's own task and does not tell when it has left.
        sleep(Duration::from_millis(20)).await;
        for server in &mut self.servers {
            if let Err(error) = server.shutdown_gracefully().await {
                tracing::warn!(%error, "a listener failed");
            }
        }
    }
}

#[derive(Debug, Default)]
struct InFlight {
    count: AtomicUsize,
    ended: Notify,
}

impl InFlight {
    fn begin(self: &Arc<Self>) -> InFlightGuard {
        self.count.fetch_add(1, Ordering::AcqRel);
        InFlightGuard(Arc::clone(self))
    }

    async fn none(&self) {
        loop {
            let ended = self.ended.notified();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            ended.await;
        }
    }
}

struct InFlightGuard(Arc<InFlight>);

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.ended.notify_waiters();
        }
    }
}

struct Handler {
    edge: Arc<Edge>,
    /// hickory's socket once more.
    exact: UdpSocket,
    in_flight: Arc<InFlight>,
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, responder: R) -> ResponseInfo {
        let client = Client { transport: Transport::Udp, addr: request.src().ip() };
        if self.edge.shutdown.is_triggered() {
            return unanswered(request);
        }
        let _guard = self.in_flight.begin();
        if !self.edge.admit(client) {
            return limit(&self.edge, request, responder).await;
        }
        let Some(reply) = self.edge.answer(request.as_slice(), client).await else { return unanswered(request) };
        match Parsed::read(&reply.wire) {
            Ok(parsed) if parsed.signed => {
                // Fails if the client cannot be reached.
                let _ = self.exact.send_to(&reply.wire, request.src()).await;
                unanswered(request)
            }
            Ok(mut parsed) => {
                if !fits(&reply, request) {
                    parsed.truncate();
                }
                parsed.send(request, responder).await
            }
            Err(error) => {
                tracing::error!(%error, "our own answer cannot be read back");
                fail(request, responder).await
            }
        }
    }
}

/// True if `reply` is not longer than the client takes over UDP even after hickory wrote it again.
fn fits(reply: &Reply, request: &Request) -> bool {
    let most =
        request.edns.as_ref().map_or(UDP_PAYLOAD_MIN, |edns| edns.max_payload().clamp(UDP_PAYLOAD_MIN, UDP_PAYLOAD));
    reply.wire.len() + request.queries.as_bytes().len() <= usize::from(most)
}

/// hickory wants to know what was sent even if nothing was.
fn unanswered(request: &Request) -> ResponseInfo {
    ResponseInfo::from(Header { metadata: request.metadata, counts: Default::default() })
}

/// Silence, or TC for every second one.
async fn limit(edge: &Edge, request: &Request, mut responder: impl ResponseHandler) -> ResponseInfo {
    if !edge.admission.slip() {
        return unanswered(request);
    }
    let mut metadata = Metadata::response_from_request(&request.metadata);
    metadata.truncation = true;
    let edns = request.edns.as_ref().map(|_| reply_edns());
    let response = MessageResponseBuilder::new(&request.queries, edns.as_ref()).build_no_records(metadata);
    responder.send_response(response).await.unwrap_or_else(|_| unanswered(request))
}

async fn fail(request: &Request, mut responder: impl ResponseHandler) -> ResponseInfo {
    let edns = request.edns.as_ref().map(|_| reply_edns());
    let response = MessageResponseBuilder::new(&request.queries, edns.as_ref())
        .error_msg(&request.metadata, ResponseCode::ServFail);
    responder.send_response(response).await.unwrap_or_else(|_| unanswered(request))
}

fn reply_edns() -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD);
    edns
}

/// One of our replies in hickory's terms.
struct Parsed {
    metadata: Metadata,
    queries: Queries,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    additionals: Vec<Record>,
    edns: Option<Edns>,
    /// There is a TSIG, which is over these octets and no others.
    signed: bool,
}

impl Parsed {
    fn read(wire: &[u8]) -> Result<Self, DecodeError> {
        let mut decoder = BinDecoder::new(wire);
        let Header { mut metadata, counts } = Header::read(&mut decoder)?;
        let queries = Queries::read(&mut decoder, usize::from(counts.queries))?;
        let mut extra = Extra::default();
        let answers = read_section(&mut decoder, counts.answers, &mut extra)?;
        let authorities = read_section(&mut decoder, counts.authorities, &mut extra)?;
        let additionals = read_section(&mut decoder, counts.additionals, &mut extra)?;
        let Extra { edns, signed } = extra;
        if let Some(edns) = &edns {
            metadata.merge_response_code(edns.rcode_high());
        }
        Ok(Self { metadata, queries, answers, authorities, additionals, edns, signed })
    }

    async fn send(&self, request: &Request, mut responder: impl ResponseHandler) -> ResponseInfo {
        // Fails if the client is gone.
        responder.send_response(self.response()).await.unwrap_or_else(|_| unanswered(request))
    }

    fn truncate(&mut self) {
        self.metadata.truncation = true;
        self.answers.clear();
        self.authorities.clear();
        self.additionals.clear();
    }

    fn response(&self) -> Response<'_> {
        MessageResponseBuilder::new(&self.queries, self.edns.as_ref()).build(
            self.metadata,
            &self.answers,
            &self.authorities,
            &[],
            &self.additionals,
        )
    }
}

type Records<'a> = std::slice::Iter<'a, Record>;
type Response<'a> = MessageResponse<'a, 'a, Records<'a>, Records<'a>, Records<'a>, Records<'a>>;

/// What is no record of a section.
#[derive(Default)]
struct Extra {
    edns: Option<Edns>,
    signed: bool,
}

/// The records of one section; OPT and TSIG are told of in `extra`.
fn read_section(decoder: &mut BinDecoder<'_>, count: u16, extra: &mut Extra) -> Result<Vec<Record>, DecodeError> {
    let mut records = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        let name = Name::read(decoder)?;
        let rtype = RecordType::from(decoder.read_u16()?.unverified());
        let class = decoder.read_u16()?.unverified();
        let ttl = decoder.read_u32()?.unverified();
        let length = decoder.read_u16()?;
        if rtype == RecordType::OPT {
            let octets = decoder.read_slice(usize::from(length.unverified()))?.unverified();
            extra.edns = Some(read_opt(octets, class, ttl));
            continue;
        }
        if rtype == RecordType::TSIG {
            decoder.read_slice(usize::from(length.unverified()))?;
            extra.signed = true;
            continue;
        }
        let mut record = Record::from_rdata(name, ttl, read_rdata(decoder, rtype, length)?);
        record.dns_class = DNSClass::from(class);
        records.push(record);
    }
    Ok(records)
}

fn read_rdata(decoder: &mut BinDecoder<'_>, rtype: RecordType, length: Restrict<u16>) -> Result<RData, DecodeError> {
    match rtype {
        RecordType::CNAME | RecordType::NS | RecordType::PTR | RecordType::SOA | RecordType::MX => {
            RData::read(decoder, rtype, length)
        }
        _ => {
            let octets = decoder.read_vec(usize::from(length.unverified()))?.unverified();
            // `with` asserts that there are octets.
            let rdata = if octets.is_empty() { NULL::new() } else { NULL::with(octets) };
            Ok(RData::Unknown { code: rtype, rdata })
        }
    }
}

/// The OPT record of our own making (RFC 6891 §6.1.3), options in their order.
fn read_opt(mut options: &[u8], class: u16, ttl: u32) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(class).set_rcode_high((ttl >> 24) as u8).set_dnssec_ok(ttl & 0x8000 != 0);
    let mut read = Vec::new();
    while let Some((&[c0, c1, l0, l1], rest)) = options.split_first_chunk() {
        let code = u16::from_be_bytes([c0, c1]);
        let length = usize::from(u16::from_be_bytes([l0, l1])).min(rest.len());
        let (data, after) = rest.split_at(length);
        read.push((EdnsCode::from(code), EdnsOption::Unknown(code, data.to_vec())));
        options = after;
    }
    *edns.options_mut() = OPT::new(read);
    edns
}

#[cfg(test)]
mod tests {
    use hickory_proto::serialize::binary::BinEncoder;

    use super::*;
    use crate::wire::{Builder, EdeCode, Query, Rcode, Rrset, Rtype, Section, Shape};

    fn query(dnssec_ok: u8) -> Query {
        let mut message = b"\x12\x34\x01\x10\0\x01\0\0\0\0\0\x01\x05AliCe\x05ghost\0\0\xff\0\x01".to_vec();
        message.extend([0, 0, 41, 4, 208, 0, 0, dnssec_ok, 0, 0, 0]);
        Query::parse(&message).unwrap()
    }

    fn rrset(owner: &str, rtype: Rtype, rdata: &[&[u8]]) -> Rrset {
        Rrset {
            owner: crate::wire::Name::from_user(owner).unwrap(),
            rtype,
            ttl: 300,
            rdata: rdata.iter().map(|data| (*data).into()).collect(),
            rrsigs: [b"\0\x01\x0f\x02\0\0\x01\x2c\0\0\0\0\0\0\0\0\x30\x39\x05alice\x05ghost\0sig"[..].into()].into(),
        }
    }

    fn again(wire: &[u8]) -> Vec<u8> {
        let mut octets = Vec::new();
        Parsed::read(wire).unwrap().response().destructive_emit(&mut BinEncoder::new(&mut octets)).unwrap();
        octets
    }

    /// All that a client can see: `Record` compares without its TTL.
    fn seen(wire: &[u8]) -> impl PartialEq + std::fmt::Debug {
        let parsed = Parsed::read(wire).unwrap();
        let records = [parsed.answers, parsed.authorities, parsed.additionals];
        let seen = records.map(|section| section.into_iter().map(|r| (r.ttl, r.clone())).collect::<Vec<_>>());
        (parsed.metadata, parsed.queries.as_bytes().to_vec(), seen)
    }

    #[test]
    fn hickory_writes_what_we_wrote() {
        let query = query(0x80);
        let mut builder = Builder::new(&query);
        let records: &[(&str, Rtype, &[&[u8]])] = &[
            ("alice.ghost.", Rtype::A, &[&[192, 0, 2, 1], &[192, 0, 2, 2]]),
            ("alice.ghost.", Rtype::TXT, &[b"\x02hi\0\x03\xff\0\\", b"\0"]),
            ("alice.ghost.", Rtype::SVCB, &[b"\0\x01\x03www\x05ALICE\x05ghost\0\xff\xfe\0\x01x\xff\xfd\0\0"]),
            ("alice.ghost.", Rtype::HTTPS, &[b"\0\x01\0\0\x01\0\x03\x02h3\0\x03\0\x02\x20\xfb"]),
            ("alice.ghost.", Rtype::URI, &[b"\0\x0a\0\x01https://x/"]),
            ("alice.ghost.", Rtype::CAA, &[b"\x80\x05IsSue;"]),
            ("alice.ghost.", Rtype::SRV, &[b"\0\0\0\0\0\x35\x05ALICE\x05ghost\0"]),
            ("alice.ghost.", Rtype::NSEC, &[b"\x01\0\x05alice\x05ghost\0\0\x01\x40"]),
            ("alice.ghost.", Rtype::DNSKEY, &[b"\x01\x01\x03\x0fshort"]),
            ("alice.ghost.", Rtype::WALLET, &[b"\x03btc\x04addr"]),
            ("alice.ghost.", Rtype(65_280), &[b"", b"\xc0\x0c"]),
            ("a.b.alice.ghost.", Rtype::MX, &[b"\0\x0a\x04mail\x05alice\x05ghost\0"]),
            ("c.b.alice.ghost.", Rtype::CNAME, &[b"\x01d\x01b\x05alice\x05ghost\0"]),
        ];
        for (owner, rtype, rdata) in records {
            builder.push(Section::Answer, &rrset(owner, *rtype, rdata), 300);
        }
        let soa = b"\x02ns\x05ghost\0\x04host\x02ns\x05ghost\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x05";
        builder.push(Section::Authority, &rrset("ghost.", Rtype::SOA, &[soa]), 5);
        builder.push(Section::Additional, &rrset("ns.ghost.", Rtype::AAAA, &[&[1; 16]]), 5);
        let answer = builder.finish(Rcode::NoError, true, Some((EdeCode::Other, "why".to_owned())));
        for shape in [Shape::Stream, Shape::Datagram] {
            let wire = answer.reply(&query, shape, 0).wire;
            let again = again(&wire);
            assert_eq!(seen(&again), seen(&wire), "{shape:?}");
            assert!(again.len() < wire.len() + query.name.as_wire().len());
            // The OPT record, to the last octet.
            let opt = b"\0\0\x29\x04\xd0\0\0\x80\0";
            assert!(again.windows(opt.len()).any(|octets| octets == opt));
        }
    }

    #[test]
    fn errors_keep_their_code_and_their_empty_question() {
        let query = query(0);
        for rcode in [Rcode::FormErr, Rcode::BadVers, Rcode::NotImp] {
            let wire = query.refuse(rcode).reply().wire;
            assert_eq!(again(&wire), wire, "{rcode:?}");
        }
    }
}
