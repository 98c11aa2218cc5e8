//! Any octets as a message: no panic; whatever is answered, or cut, another parser reads.
#![no_main]

use ghostplane::dnssec::absence::Proofs;
use ghostplane::wire::{Builder, Cookies, Message, Name, Query, QueryError, Rcode, Rrset, Rtype, Section, Transport};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    // The client's parser sees octets from any server, and the forwarder those of any upstream.
    if let Ok(message) = Message::parse(octets) {
        prove(&message);
    }
    // A datagram of a balancer.
    let _ = ghostplane::transport::proxy::split(octets);
    let mut query = match Query::parse(octets) {
        Ok(query) => query,
        Err(QueryError::Reply(refused)) => return readable(&refused.reply().wire),
        Err(QueryError::Ignore) => return,
    };
    assert_eq!(Name::from_wire(query.name.as_wire()).as_ref(), Ok(&query.name));
    query.greet(&Cookies::new([7; 16]), "192.0.2.1".parse().expect("an address"), || 1_800_000_000);
    let mut builder = Builder::new(&query);
    let text = |len: usize| ghostplane::wire::rdata::txt(&vec![b'x'; len]);
    for (owner, len) in [(query.name.clone(), 100), (Name::root(), 900)] {
        let rrset = Rrset::new(owner, Rtype::TXT, 60, (0..3).map(|n| text(len + n)));
        builder.push(Section::Answer, &rrset, 60);
    }
    let answer = builder.finish(Rcode::NoError, true, None);
    for transport in [Transport::Udp, Transport::Tcp, Transport::Quic] {
        let reply = answer.reply(&query, transport.shape(), 7);
        readable(&reply.wire);
        if transport == Transport::Udp {
            let most = query.edns.map_or(512, |edns| edns.udp_payload.min(1_232).max(512));
            assert!(reply.wire.len() <= usize::from(most), "{} octets over UDP", reply.wire.len());
            let mut cut = reply.clone();
            cut.truncate();
            cut.ask_for_cookie();
            readable(&cut.wire);
        }
    }
});

/// What an upstream's proofs say of its own question, as if they were signed: no panic, and an end.
fn prove(message: &Message) {
    let Some((name, rtype)) = &message.question else { return };
    let rrsets: Vec<Rrset> = message.sections[1]
        .iter()
        .map(|record| Rrset::new(record.owner.clone(), record.rtype, record.ttl, [record.rdata.clone()]))
        .collect();
    let hash = |salt: &[u8], name: &[u8], _: u16| [salt.len() as u8 ^ name.len() as u8; 20];
    let zone = name.suffix(1);
    let proofs = Proofs::new(&zone, &rrsets, hash);
    let _ = (proofs.deny(name, *rtype, message.rcode()), proofs.absent(name), proofs.is_unsigned_cut(name, 0));
}

fn readable(wire: &[u8]) {
    Message::parse(wire).expect("our own parser reads our replies");
    hickory_proto::op::Message::from_vec(wire).expect("hickory reads our replies");
}
