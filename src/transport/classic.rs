//! UDP, TCP and DoT: an adapter from hickory-server to the gateway.
//!
//! hickory-server reads and writes messages of its own types, so our finished wire form is taken apart and
//! encoded once more; records travel as opaque octets so that every one comes out as it went in.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::op::{Edns, Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{DNSClass, Name as HickoryName, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinDecodable as _;
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo, Server};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::net::{TcpListener, UdpSocket};

use super::{Answered, Edge, canonical};
use crate::gateway::Transport;
use crate::limits::{DRAIN_TIMEOUT, IDLE_TIMEOUT};
use crate::wire::{Message, MessageRecord, Opt, Query, Rcode, Reply};

/// Answers waiting to be written on one TCP connection.
const TCP_BUFFER: usize = 32;

/// Serves UDP, TCP and DoT sockets until the edge stops, then drains.
pub async fn listen(
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    dot: Vec<TcpListener>,
    tls: Arc<rustls::ServerConfig>,
    edge: Arc<Edge>,
) {
    let mut server = Server::new(Handler { edge: edge.clone() });
    udp.into_iter().for_each(|socket| server.register_socket(socket));
    tcp.into_iter().for_each(|listener| server.register_listener(listener, IDLE_TIMEOUT, TCP_BUFFER));
    for listener in dot {
        if let Err(error) = server.register_tls_listener_with_tls_config(listener, IDLE_TIMEOUT, tls.clone()) {
            tracing::error!(%error, "cannot serve DoT");
        }
    }
    edge.stopped().await;
    // hickory-server waits for its connections; idle ones would hold it for long.
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, server.shutdown_gracefully()).await;
}

struct Handler {
    edge: Arc<Edge>,
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, handle: R) -> ResponseInfo {
        let transport = match request.protocol() {
            Protocol::Udp => Transport::Udp,
            Protocol::Tls => Transport::Tls,
            _ => Transport::Tcp,
        };
        let addr: IpAddr = canonical(request.src().ip());
        match self.edge.answer(request.as_slice(), transport, addr).await {
            Answered::Reply(reply) => send(request, &reply, handle).await,
            Answered::Limited => limited(request, transport, handle).await,
            Answered::Ignored => nothing(request),
        }
    }
}

/// Over UDP every second reply to a client that asks too fast is an empty truncated one, so that a real
/// client behind a spoofed address can come over TCP, and the rest is silence; elsewhere it is REFUSED.
async fn limited<R: ResponseHandler>(request: &Request, transport: Transport, handle: R) -> ResponseInfo {
    let odd = request.metadata.id & 1 == 1;
    if transport == Transport::Udp && odd {
        return nothing(request);
    }
    let Ok(query) = Query::parse(request.as_slice()) else { return nothing(request) };
    let mut refused = query.refuse(if transport == Transport::Udp { Rcode::NoError } else { Rcode::Refused }).reply();
    if transport == Transport::Udp {
        refused.wire[2] |= 0x02;
    }
    send(request, &refused, handle).await
}

async fn send<R: ResponseHandler>(request: &Request, reply: &Reply, mut handle: R) -> ResponseInfo {
    let Ok(message) = Message::parse(&reply.wire) else {
        tracing::error!(query = %request.metadata.id, "our own answer does not parse");
        return nothing(request);
    };
    let sections = message.sections.each_ref().map(|records| records.iter().filter_map(record).collect::<Vec<_>>());
    let edns = message.opt.as_ref().map(edns);
    let mut builder = MessageResponseBuilder::from_message_request(request);
    if let Some(edns) = &edns {
        builder.edns(edns);
    }
    let [answers, authorities, additionals] = &sections;
    let none: &[Record] = &[];
    let response = builder.build(metadata(&message, request), answers, authorities, none, additionals);
    match handle.send_response(response).await {
        Ok(info) => info,
        Err(error) => {
            tracing::debug!(%error, "reply not sent");
            nothing(request)
        }
    }
}

fn metadata(message: &Message, request: &Request) -> Metadata {
    let flag = |bit: u16| message.flags & bit != 0;
    let mut metadata = Metadata::new(message.id, MessageType::Response, request.metadata.op_code);
    metadata.authoritative = flag(0x0400);
    metadata.truncation = flag(0x0200);
    metadata.recursion_desired = flag(0x0100);
    metadata.checking_disabled = flag(0x0010);
    metadata.response_code = ResponseCode::from(0, (message.flags & 0xf) as u8);
    metadata
}

fn edns(opt: &Opt) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(opt.udp_payload).set_rcode_high(opt.extended_rcode).set_dnssec_ok(opt.dnssec_ok);
    for (code, data) in &opt.options {
        edns.options_mut().insert(EdnsOption::Unknown(*code, data.clone()));
    }
    edns
}

fn record(record: &MessageRecord) -> Option<Record> {
    let owner = HickoryName::from_bytes(record.owner.as_wire()).ok()?;
    let rdata = RData::Unknown { code: RecordType::from(record.rtype.0), rdata: NULL::with(record.rdata.clone()) };
    let mut made = Record::from_rdata(owner, record.ttl, rdata);
    made.dns_class = DNSClass::from(record.class);
    Some(made)
}

/// What hickory-server is told where nothing was sent.
fn nothing(request: &Request) -> ResponseInfo {
    let metadata = Metadata::new(request.metadata.id, MessageType::Response, OpCode::Query);
    ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() })
}
