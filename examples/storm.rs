//! Clients that mean harm or know no better, for benches/storm.sh and benches/soak.sh, against a server on loopback:
//!
//! ```text
//! storm KIND PORT_BASE CA SECONDS [PAUSE]
//! ```
//! Every client rests PAUSE milliseconds between two rounds, or not at all. Ends after so many seconds and prints what it did, one `KEY COUNT` a line.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ghostplane::transport::doq;
use ghostplane::transport::tls::{provider, read_certificates};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;

/// Another client than the honest ones, as far as limits go.
const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Clients of one kind at once.
const CLIENTS: u64 = 32;

type Fault = Box<dyn std::error::Error + Send + Sync>;

struct Storm {
    base: u16,
    config: quinn::ClientConfig,
    https: Arc<rustls::ClientConfig>,
    until: Instant,
    pause: Duration,
    counts: Mutex<BTreeMap<String, u64>>,
}

impl Storm {
    fn count(&self, what: &str) {
        let mut counts = self.counts.lock().unwrap();
        match counts.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(counts.insert(what.to_owned(), 1)),
        }
    }

    fn addr(&self, offset: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.base + offset).into()
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// A DoQ connection of a socket of its own.
    async fn connect(&self) -> Result<(Endpoint, Connection), Fault> {
        let endpoint = Endpoint::client((SOURCE, 0).into())?;
        let connecting = endpoint.connect_with(self.config.clone(), self.addr(1), "localhost")?;
        let connection = timeout(Duration::from_secs(5), connecting).await??;
        Ok((endpoint, connection))
    }
}

/// Numbers that look random and are the same in each run (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// Names below the wildcard that no cache has.
const NEW: u64 = 1 << 40;

/// So many that a cache has them all after some minutes, so that memory shows what else grows.
const FEW: u64 = 1 << 14;

/// A query behind its length, every fourth one for one of so many names below the wildcard.
fn query(dice: &mut Dice, wild: u64) -> Vec<u8> {
    let name = match dice.below(4) {
        0 => format!("x{}.wild.ghost", dice.below(wild)),
        _ => format!("n{}.ghost", dice.below(1_000) + 1),
    };
    let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.extend(b"\0\0\x01\0\x01\0\0\x29\x04\xd0\0\0\x80\0\0\0");
    [&(message.len() as u16).to_be_bytes()[..], &message].concat()
}

fn main() -> Result<(), Fault> {
    let args: Vec<String> = std::env::args().collect();
    let [_, kind, base, ca, seconds, pause @ ..] = args.as_slice() else {
        return Err("storm KIND PORT_BASE CA SECONDS [PAUSE]".into());
    };
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(read_certificates(Path::new(ca))?);
    let builder = rustls::ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut tls = builder.with_root_certificates(roots).with_no_client_auth();
    let https = Arc::new(tls.clone());
    tls.alpn_protocols = vec![b"doq".to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    let until = Instant::now() + Duration::from_secs(seconds.parse()?);
    let pause = Duration::from_millis(pause.first().map_or(Ok(0), |pause| pause.parse())?);
    let storm = Arc::new(Storm { base: base.parse()?, config, https, until, pause, counts: Mutex::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let clients: Vec<_> =
            (0..CLIENTS).map(|number| tokio::spawn(run(kind.clone(), storm.clone(), number))).collect();
        for client in clients {
            client.await?;
        }
        Ok::<_, Fault>(())
    })?;
    for (what, count) in &*storm.counts.lock().unwrap() {
        println!("{what} {count}");
    }
    Ok(())
}

async fn run(kind: String, storm: Arc<Storm>, number: u64) {
    let mut dice = Dice(number);
    while !storm.is_over() {
        let done = match kind.as_str() {
            "churn" => churn(&storm, &mut dice).await,
            "slow" => slow(&storm, &mut dice).await,
            "streams" => streams(&storm, &mut dice).await,
            "garbage" => garbage(&storm, &mut dice).await,
            "half-open" => half_open(&storm).await,
            "reflect" => reflect(&storm, &mut dice).await,
            "gets" => gets(&storm).await,
            "bodies" => bodies(&storm, &mut dice).await,
            _ => Err("kinds: churn slow streams garbage half-open reflect gets bodies".into()),
        };
        if let Err(error) = done {
            storm.count(&format!("failed: {error}"));
            sleep(Duration::from_millis(20)).await;
        }
        if !storm.pause.is_zero() {
            sleep(storm.pause).await;
        }
    }
}

/// A connection that asks, cancels, moves, and ends in one way or another.
async fn churn(storm: &Storm, dice: &mut Dice) -> Result<(), Fault> {
    let (endpoint, connection) = storm.connect().await?;
    storm.count("connections");
    // Nobody moves before the handshake is confirmed (RFC 9000 §9).
    let mut confirmed = false;
    for _ in 0..dice.below(40) + 1 {
        if confirmed && dice.below(12) == 0 {
            endpoint.rebind(UdpSocket::bind((SOURCE, 0))?)?;
            storm.count("moves");
        }
        let (mut send, mut recv) = connection.open_bi().await?;
        let octets = query(dice, FEW);
        match dice.below(12) {
            0 => {
                send.write_all(&octets[..octets.len() / 2]).await?;
                send.reset(doq::REQUEST_CANCELLED)?;
                storm.count("cancelled before the end");
            }
            1 => {
                send.write_all(&octets).await?;
                send.finish()?;
                recv.stop(doq::REQUEST_CANCELLED)?;
                storm.count("cancelled after the end");
            }
            _ => {
                send.write_all(&octets).await?;
                send.finish()?;
                timeout(Duration::from_secs(10), recv.read_to_end(70_000)).await??;
                storm.count("answers");
                confirmed = true;
            }
        }
    }
    match dice.below(3) {
        0 => connection.close(doq::NO_ERROR, b""),
        // Breaks the protocol: the message ID.
        1 => {
            let (mut send, _recv) = connection.open_bi().await?;
            send.write_all(b"\0\x0c\x12\x34\x01\0\0\0\0\0\0\0\0\0").await?;
            send.finish()?;
            timeout(Duration::from_secs(10), connection.closed()).await?;
            storm.count("closed for a violation");
        }
        // Leaves without a word.
        _ => endpoint.close(doq::NO_ERROR, b""),
    }
    Ok(())
}

/// Many streams whose queries come an octet at a time.
async fn slow(storm: &Storm, dice: &mut Dice) -> Result<(), Fault> {
    let (_endpoint, connection) = storm.connect().await?;
    let mut open = Vec::new();
    for _ in 0..200 {
        let Ok(Ok(mut stream)) = timeout(Duration::from_millis(200), connection.open_bi()).await else { break };
        stream.0.write_all(b"\0").await?;
        open.push(stream);
        storm.count("streams");
    }
    for octet in query(dice, NEW).into_iter().skip(1) {
        sleep(Duration::from_millis(500)).await;
        for (send, _) in &mut open {
            // Reset by the server, which waits only so long.
            let _ = send.write_all(&[octet]).await;
        }
        if storm.is_over() {
            break;
        }
    }
    Ok(())
}

/// As many queries as there is credit for, whose answers nobody reads.
async fn streams(storm: &Storm, dice: &mut Dice) -> Result<(), Fault> {
    let (_endpoint, connection) = storm.connect().await?;
    for _ in 0..2_000 {
        let Ok(Ok((mut send, mut recv))) = timeout(Duration::from_millis(200), connection.open_bi()).await else {
            break;
        };
        send.write_all(&query(dice, NEW)).await?;
        send.finish()?;
        if dice.below(2) == 0 {
            recv.stop(doq::REQUEST_CANCELLED)?;
        }
        storm.count("streams");
    }
    Ok(())
}

/// Octets that are nothing, or look like QUIC, to every UDP port.
async fn garbage(storm: &Storm, dice: &mut Dice) -> Result<(), Fault> {
    let socket = tokio::net::UdpSocket::bind((SOURCE, 0)).await?;
    for _ in 0..200 {
        let length = dice.below(1_400) as usize + 1;
        let mut octets: Vec<u8> = (0..length).map(|_| dice.below(256) as u8).collect();
        if dice.below(2) == 0 {
            octets[0] |= 0xc0;
            octets.splice(1.min(octets.len()).., [0, 0, 0, 1, 8].into_iter().chain(octets[1..].to_vec()));
        }
        let _ = socket.send_to(&octets, storm.addr(dice.below(3) as u16)).await;
        storm.count("datagrams");
    }
    tokio::task::yield_now().await;
    Ok(())
}

/// First flights of handshakes that go no further.
async fn half_open(storm: &Storm) -> Result<(), Fault> {
    let socket = tokio::net::UdpSocket::bind((SOURCE, 0)).await?;
    let mut endpoint = quinn_proto::Endpoint::new(Arc::default(), None, true, None);
    for _ in 0..64 {
        let (now, mut flight) = (Instant::now(), Vec::new());
        let (_, mut connection) = endpoint.connect(now, storm.config.clone(), storm.addr(1), "localhost")?;
        if let Some(transmit) = connection.poll_transmit(now, 1, &mut flight) {
            let _ = socket.send_to(&flight[..transmit.size], storm.addr(1)).await;
            storm.count("handshakes");
        }
    }
    tokio::task::yield_now().await;
    Ok(())
}

/// The same question over UDP again and again, as if somebody else had asked it; counts what would have hit them.
async fn reflect(storm: &Storm, dice: &mut Dice) -> Result<(), Fault> {
    let socket = tokio::net::UdpSocket::bind((SOURCE, 0)).await?;
    let question = &query(&mut Dice(1), NEW)[2..];
    for _ in 0..200 {
        let _ = socket.send_to(question, storm.addr(0)).await;
        storm.count("questions");
    }
    let mut octets = [0; 2_048];
    while let Ok(Ok(length)) = timeout(Duration::from_millis(5 + dice.below(5)), socket.recv(&mut octets)).await {
        storm.count("replies");
        if octets[2] & 2 == 0 && length > question.len() {
            storm.count("replies longer than the question");
        }
    }
    Ok(())
}

/// Requests whose path is far too long, and queries that say they are.
async fn gets(storm: &Storm) -> Result<(), Fault> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((SOURCE, 0).into())?;
    let stream = socket.connect(storm.addr(2)).await?;
    let mut stream = TlsConnector::from(storm.https.clone()).connect("localhost".try_into()?, stream).await?;
    let request = [&b"GET /dns-query?dns="[..], &[b'A'; 15 << 10], b" HTTP/1.1\r\nhost: localhost\r\n\r\n"].concat();
    stream.write_all(&request).await?;
    let mut status = [0; 12];
    timeout(Duration::from_secs(10), stream.read_exact(&mut status)).await??;
    storm.count(if status.starts_with(b"HTTP/1.1 4") { "requests refused" } else { "requests answered otherwise" });
    let (_endpoint, connection) = storm.connect().await?;
    let (mut send, mut recv) = connection.open_bi().await?;
    // Only its header is read.
    let _ = send.write_all(&[&b"\xff\xff\0\0\x01\0\0\x01\0\0\0\0\0\0"[..], &[b'A'; 4_000]].concat()).await;
    timeout(Duration::from_secs(10), recv.read_to_end(70_000)).await??;
    storm.count("long queries");
    Ok(())
}

/// JSON-RPC bodies a second, of all clients together: what one prefix may send.
const BODIES: u64 = 200;

/// A connection that posts one JSON-RPC body after another, each of a kind that takes much work for its octets.
async fn bodies(storm: &Storm, dice: &mut Dice) -> Result<(), Fault> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((SOURCE, 0).into())?;
    let stream = socket.connect(storm.addr(2)).await?;
    let mut stream = TlsConnector::from(storm.https.clone()).connect("localhost".try_into()?, stream).await?;
    while !storm.is_over() {
        let began = Instant::now();
        let (kind, body) = worst(dice);
        let head = format!(
            "POST /rpc HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await?;
        let status = timeout(Duration::from_secs(30), reply(&mut stream)).await??;
        storm.count(&format!("{kind}: {status}"));
        sleep(Duration::from_millis(1_000 * CLIENTS / BODIES).saturating_sub(began.elapsed())).await;
    }
    Ok(())
}

/// A batch of what is dearest, or one object of as many keys as fit.
fn worst(dice: &mut Dice) -> (&'static str, String) {
    let batch = |method: &str, params: String| {
        let call = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{method}\",\"params\":{params}}}");
        format!("[{}]", vec![call; 32].join(","))
    };
    let receipt = format!("{{\"name\":\"x{}.wild.ghost\",\"type\":\"A\"}}", dice.below(NEW));
    match dice.below(4) {
        0 => ("names", batch("name.list", "{}".to_owned())),
        1 => ("receipts", batch("answer.receipt", receipt)),
        2 => ("exports", batch("zone.export", "{\"name\":\"ghost\"}".to_owned())),
        _ => (
            "keys",
            format!(
                "{{\"op.submit\":{{{}\"x\":0}}}}",
                (0..300_000).map(|key| format!("\"{key}\":0,")).collect::<String>()
            ),
        ),
    }
}

/// Reads a reply over HTTP/1.1 to its end; gives its status.
async fn reply(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Result<String, Fault> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(head.split(' ').nth(1).unwrap_or_default().to_owned())
}
