//! The least that a server can do, as a measure for benches/compare.sh: `peer KIND PORT CERT KEY` answers every query
//! with one address, whatever it asks for.
//!
//! - `quinn-shared`: DoQ on quinn, early data taken, a task for each stream, on a runtime of several threads
//! - `quinn-single`: the same on a runtime of one thread
//! - `h3`: DoH over HTTP/3 on h3 and quinn, one thread
//! - `hickory`: hickory-server's listeners for UDP and TCP

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{Buf as _, Bytes};
use ghostplane::transport::tls::Identity;
use hickory_proto::op::{Header, Metadata};
use hickory_proto::rr::{RData, Record};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use quinn::Endpoint;
use quinn::crypto::rustls::QuicServerConfig;
use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime;

type Fault = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Fault> {
    let args: Vec<String> = std::env::args().collect();
    let [_, kind, port, cert, key] = args.as_slice() else { return Err("peer KIND PORT CERT KEY".into()) };
    let addr = (Ipv4Addr::LOCALHOST, port.parse()?).into();
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let identity = Identity::load(vec![(Path::new(cert).into(), Path::new(key).into())], now)?;
    let runtime = match kind.as_str() {
        "quinn-shared" => runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?,
        _ => runtime::Builder::new_current_thread().enable_all().build()?,
    };
    runtime.block_on(async {
        match kind.as_str() {
            "quinn-shared" | "quinn-single" => doq(endpoint(addr, &identity, b"doq", EARLY)?).await,
            "h3" => doh3(endpoint(addr, &identity, b"h3", 0)?).await,
            "hickory" => hickory(addr).await?,
            _ => return Err("kinds: quinn-shared quinn-single h3 hickory".into()),
        }
        Ok(())
    })
}

/// Octets of early data, as the server's own DoQ takes it: QUIC knows none and any amount (RFC 9001 §4.6.1).
const EARLY: u32 = u32::MAX;

fn endpoint(addr: SocketAddr, identity: &Identity, alpn: &'static [u8], early: u32) -> Result<Endpoint, Fault> {
    let mut tls = identity.quic_config(&[alpn])?;
    tls.max_early_data_size = early;
    let crypto = QuicServerConfig::try_from(tls)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    transport.max_concurrent_bidi_streams(256u32.into());
    config.transport_config(Arc::new(transport));
    Ok(Endpoint::server(config, addr)?)
}

/// The query, turned into its answer: one address for the name in the question, and padding as ours has.
fn answer(query: &[u8]) -> Vec<u8> {
    let mut answer = Vec::with_capacity(468);
    // The question without whatever comes after it: up to the root label, type and class.
    let end =
        query.iter().skip(12).position(|octet| *octet == 0).map_or(query.len(), |at| (12 + at + 5).min(query.len()));
    answer.extend_from_slice(&query[..end]);
    answer[2] |= 0x84;
    answer[7] = 1;
    answer[11] = 1;
    answer.extend(b"\xc0\x0c\0\x01\0\x01\0\0\x0e\x10\0\x04\xc0\0\x02\x01\0\0\x29\x04\xd0\0\0\0\0");
    let padding = 468 - answer.len() - 6;
    answer.extend((padding as u16 + 4).to_be_bytes());
    answer.extend([0, 12]);
    answer.extend((padding as u16).to_be_bytes());
    answer.resize(468, 0);
    answer
}

async fn doq(endpoint: Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let Ok(connecting) = incoming.accept() else { return };
            // A server always can: early data is answered before the handshake has ended.
            let Ok((connection, _)) = connecting.into_0rtt() else { return };
            while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                tokio::spawn(async move {
                    let framed = recv.read_to_end(4_096).await.ok()?;
                    let answer = answer(framed.get(2..)?);
                    let framed = [&(answer.len() as u16).to_be_bytes()[..], &answer].concat();
                    send.write_all(&framed).await.ok()?;
                    send.finish().ok()
                });
            }
        });
    }
}

async fn doh3(endpoint: Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let Ok(connection) = incoming.await else { return };
            let opened = h3::server::Connection::<_, Bytes>::new(h3_quinn::Connection::new(connection)).await;
            let Ok(mut connection) = opened else { return };
            while let Ok(Some(resolver)) = connection.accept().await {
                tokio::spawn(async move {
                    let (_, mut stream) = resolver.resolve_request().await.ok()?;
                    let mut query = Vec::new();
                    while let Some(mut data) = stream.recv_data().await.ok()? {
                        query.extend_from_slice(&data.copy_to_bytes(data.remaining()));
                    }
                    let answer = answer(&query);
                    let head = http::Response::builder()
                        .header("content-type", "application/dns-message")
                        .header("content-length", answer.len())
                        .body(())
                        .ok()?;
                    stream.send_response(head).await.ok()?;
                    stream.send_data(answer.into()).await.ok()?;
                    stream.finish().await.ok()
                });
            }
        });
    }
}

struct Handler;

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut responder: R) -> ResponseInfo {
        let metadata = Metadata::response_from_request(&request.metadata);
        let name = request.queries.queries().first().map(|query| query.original().name().clone()).unwrap_or_default();
        let record = Record::from_rdata(name, 3_600, RData::A(Ipv4Addr::new(192, 0, 2, 1).into()));
        let response = MessageResponseBuilder::from_message_request(request).build(metadata, [&record], [], [], []);
        let unsent = || ResponseInfo::from(Header { metadata: request.metadata, counts: Default::default() });
        responder.send_response(response).await.unwrap_or_else(|_| unsent())
    }
}

async fn hickory(addr: SocketAddr) -> Result<(), Fault> {
    let mut server = Server::new(Handler);
    server.register_socket(UdpSocket::bind(addr).await?);
    server.register_listener(TcpListener::bind(addr).await?, std::time::Duration::from_secs(10), 64);
    server.block_until_done().await?;
    Ok(())
}
