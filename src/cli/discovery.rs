//! What `serve` tells clients of itself, so that they find its encrypted transports.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::pki_types::ServerName;

use crate::gateway::{Gateway, Tld};
use crate::server::{Addrs, Ports, Service};
use crate::transport::certificates::Certificate;
use crate::transport::tls::Identity;
use crate::wire::{Name, Rrset};
use crate::zone::discovery::{Discovery, Offer, name_server_owners, resinfo};

/// What the operator calls this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    pub server: Option<Name>,
    pub info_url: Option<String>,
}

/// What clients will not take of the certificates, whatever the time, so that the operator hears of it first. `tlds` are the
/// apexes of ours.
pub fn doubts(identity: &Identity, naming: &Naming, tlds: &[Name]) -> Vec<String> {
    let too_wide = |name: &&String| {
        let below = name.strip_prefix("*.").and_then(|rest| Name::from_user(rest).ok());
        below.is_some_and(|below| tlds.contains(&below))
    };
    let mut doubts = Vec::new();
    for (file, certificate) in identity.certificates().list() {
        for name in certificate.names.iter().filter(too_wide) {
            let file = file.display();
            doubts.push(format!(
                "{file}: some clients do not take {name}, a wildcard directly under a TLD; have one made for the names themselves"
            ));
        }
    }
    if let Some(name) = naming.server.as_ref().filter(|name| certificate_for(identity, name).is_none()) {
        let name = name.to_string();
        let name = name.trim_end_matches('.');
        doubts.push(format!(
            "clients cannot discover this server: no certificate is for its name {name}; give one, or another --server-name"
        ));
    }
    doubts
}

/// Says in a TLD's zone what those of its name servers speak that are this server: a certificate that is valid at `now`,
/// seconds since 1970, is for their names. What the zone says itself stays.
pub fn describe_name_servers(
    tld: &mut Tld,
    ports: Ports,
    identity: &Identity,
    naming: &Naming,
    now: u64,
) -> anyhow::Result<()> {
    let offer = Offer { quic: ports.tls, https: ports.https, tls: ports.tls };
    let targets = tld.ns.rdata.iter().filter_map(|rdata| Name::from_wire(rdata).ok());
    let is_verified = |target: &Name| certificate_for(identity, target).is_some_and(|found| found.is_current(now));
    let ours = |target: &Name| target.is_at_or_below(&tld.apex) && is_verified(target);
    for target in targets.filter(ours).collect::<Vec<_>>() {
        for owner in name_server_owners(&target, ports.dns)? {
            put(tld, offer.svcb(owner, &target, &[])?);
        }
        put(tld, resinfo(target, naming.info_url.as_deref()));
    }
    Ok(())
}

fn put(tld: &mut Tld, rrset: Rrset) {
    let types = tld.rrsets.entry(rrset.owner.clone()).or_default();
    types.entry(rrset.rtype).or_insert_with(|| Arc::new(rrset));
}

/// Tells clients where they find this server's encrypted transports; or that there is nothing to be found, if none of them
/// could verify what they find at `now`, seconds since 1970.
pub fn announce(
    gateway: &Gateway,
    identity: &Identity,
    naming: &Naming,
    addrs: &Addrs,
    now: u64,
) -> anyhow::Result<()> {
    let offer = offer(addrs)?;
    let hints = same_ports(addrs, &offer);
    let server = naming.server.as_ref();
    let certificate = server.and_then(|name| certificate_for(identity, name)).filter(|found| found.is_current(now));
    if let Some(certificate) = &certificate {
        warn_of_addresses(certificate, &hints);
    }
    let designated = server.filter(|_| certificate.is_some()).map(|name| (&offer, name, &hints[..]));
    gateway.announce(Discovery::new(designated, server, naming.info_url.as_deref())?);
    Ok(())
}

fn offer(addrs: &Addrs) -> anyhow::Result<Offer> {
    let port = |service| addrs.of(service).map(|addr| addr.port()).context("a service is not listened on");
    Ok(Offer { quic: port(Service::Quic)?, https: port(Service::Https)?, tls: port(Service::Tls)? })
}

/// The addresses on which the offer holds: where the kernel chose the ports, each has others. The wildcard is none.
fn same_ports(addrs: &Addrs, offer: &Offer) -> Vec<IpAddr> {
    let listening = |service: Service, ip: IpAddr, port: u16| addrs.0.contains(&(service, (ip, port).into()));
    let holds = |ip: &IpAddr| {
        let services = [(Service::Quic, offer.quic), (Service::Https, offer.https), (Service::Tls, offer.tls)];
        !ip.is_unspecified() && services.into_iter().all(|(service, port)| listening(service, *ip, port))
    };
    let ips = addrs.0.iter().filter(|(service, _)| *service == Service::Quic).map(|(_, addr)| addr.ip());
    ips.filter(holds).collect()
}

/// Verified discovery wants the address that a client knew in the certificate that it finds (RFC 9462 §4.2).
fn warn_of_addresses(certificate: &Certificate, addrs: &[IpAddr]) {
    for addr in addrs.iter().filter(|addr| !certificate.is_for(&(**addr).into())) {
        tracing::warn!(%addr, "whoever knows but this address cannot verify what it discovers: the certificate is not for it");
    }
}

/// The certificate that clients see who look for this name, if it is for it.
fn certificate_for(identity: &Identity, name: &Name) -> Option<Arc<Certificate>> {
    let text = name.to_string();
    let text = text.trim_end_matches('.');
    let certificate = identity.certificates().shown_to(Some(text));
    ServerName::try_from(text).is_ok_and(|name| certificate.is_for(&name)).then_some(certificate)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::certificates;
    use super::*;
    use crate::node::{Node, built_in_tlds};
    use crate::op::SigilId;
    use crate::wire::{Message, Query, Rtype, Transport, rdata};

    /// A gateway whose TLDs' zones know its ports; the development certificate is for their name servers.
    fn described() -> Node {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::development(dir.path(), SystemTime::now()).unwrap();
        let naming = Naming { server: None, info_url: Some("https://ns.ghost/".into()) };
        let mut tlds = built_in_tlds().unwrap();
        for tld in &mut tlds {
            describe_name_servers(tld, Ports::default(), &identity, &naming, certificates::unix_time()).unwrap();
        }
        let operator = SigilId::from(&ed25519_dalek::SigningKey::from_bytes(&[9; 32]).verifying_key());
        Node::in_memory_with(tlds, operator, Arc::new(|| 1_800_000_000)).unwrap()
    }

    fn ask(node: &Node, owner: &str, rtype: Rtype) -> Vec<String> {
        let query = Query::internal(Name::from_user(owner).unwrap(), rtype);
        let message =
            [&[0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1], &query.question[..], &[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]];
        let client = crate::gateway::Client::new(Transport::Tcp, [127, 0, 0, 1].into());
        let reply = node.gateway.answer(&message.concat(), client).unwrap();
        let [answer, ..] = Message::parse(&reply.wire).unwrap().sections;
        answer
            .iter()
            .map(|record| format!("{} {}", record.rtype, rdata::to_text(record.rtype, &record.rdata)))
            .collect()
    }

    #[test]
    fn name_servers_of_our_tlds_tell_signed_what_they_speak() {
        let node = described();
        for tld in ["ghost", "sig", "gcc", "bc"] {
            for owner in [format!("_dns.ns.{tld}"), format!("_5300._dns.ns.{tld}")] {
                let told = ask(&node, &owner, Rtype::SVCB);
                assert_eq!(told.len(), 4, "{told:?}");
                assert_eq!(told[0], format!("SVCB 1 ns.{tld}. alpn=\"doq\" port=8530"));
                assert_eq!(
                    told[1],
                    format!("SVCB 2 ns.{tld}. alpn=\"h3,h2\" port=8443 dohpath=\"/dns-query{{?dns}}\"")
                );
                assert_eq!(told[2], format!("SVCB 3 ns.{tld}. alpn=\"dot\" port=8530"));
                assert!(told[3].starts_with("RRSIG SVCB "), "{told:?}");
            }
            let told = ask(&node, &format!("ns.{tld}"), Rtype::RESINFO);
            assert!(
                told[0].starts_with("RESINFO \"exterr=") && told[0].ends_with("\"infourl=https://ns.ghost/\""),
                "{told:?}"
            );
            assert!(told[1].starts_with("RRSIG RESINFO "), "{told:?}");
        }
    }

    #[test]
    fn the_kernels_choice_of_ports_holds_for_one_address_only() {
        let addr = |text: &str| text.parse::<IpAddr>().unwrap();
        let listening = |ip: &str, port: u16| {
            [Service::Quic, Service::Https, Service::Tls].map(|service| (service, (addr(ip), port).into()))
        };
        let addrs = |list: &[(&str, u16)]| Addrs(list.iter().flat_map(|(ip, port)| listening(ip, *port)).collect());
        let hints = |addrs: &Addrs| same_ports(addrs, &offer(addrs).unwrap());
        assert_eq!(hints(&addrs(&[("127.0.0.1", 1), ("::1", 1), ("0.0.0.0", 1)])), [addr("127.0.0.1"), addr("::1")]);
        assert_eq!(hints(&addrs(&[("127.0.0.1", 1), ("::1", 2)])), [addr("127.0.0.1")]);
    }
}
