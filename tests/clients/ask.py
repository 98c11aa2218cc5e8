#!/usr/bin/env python3
"""Asks a running gateway over every transport that dnspython speaks and compares what comes back.

usage: ask.py CA DNS_PORT TLS_PORT HTTPS_PORT < expectations

Each line of the input is `OWNER TYPE RCODE [RDATA [| RDATA]...]`. The RRSIGs of every answer with one must
validate with the zone's DNSKEY RRset (RFC 4035 section 5.3).
"""
import sys

import dns.dnssec
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdata
import dns.rdatatype

import wakeups  # noqa: F401 (for what importing it does)

ca, dns_port, tls_port, https_port = sys.argv[1], *map(int, sys.argv[2:])
WHERE = "127.0.0.1"
URL = "https://127.0.0.1:%d/dns-query" % https_port
H1, H2, H3 = (dns.query.HTTPVersion[name] for name in ("HTTP_1", "HTTP_2", "HTTP_3"))

TRANSPORTS = {
    "udp": lambda q: dns.query.udp_with_fallback(q, WHERE, port=dns_port, timeout=10)[0],
    "tcp": lambda q: dns.query.tcp(q, WHERE, port=dns_port, timeout=10),
    "tls": lambda q: dns.query.tls(q, WHERE, port=tls_port, timeout=10, verify=ca, server_hostname="localhost"),
    "quic": lambda q: dns.query.quic(q, WHERE, port=tls_port, timeout=10, verify=ca, server_hostname="localhost"),
    "https/1.1": lambda q: dns.query.https(q, URL, timeout=10, verify=ca, http_version=H1),
    "https/2": lambda q: dns.query.https(q, URL, timeout=10, verify=ca, http_version=H2),
    "https/2 GET": lambda q: dns.query.https(q, URL, timeout=10, verify=ca, http_version=H2, post=False),
    "https/3": lambda q: dns.query.https(q, URL, timeout=10, verify=ca, http_version=H3),
    "https/3 GET": lambda q: dns.query.https(q, URL, timeout=10, verify=ca, http_version=H3, post=False),
}


def keys_of(zone):
    query = dns.message.make_query(zone, "DNSKEY", want_dnssec=True)
    return TRANSPORTS["tcp"](query).find_rrset(1, zone, "IN", "DNSKEY")


def check(how, line, validated):
    owner, rtype, rcode, *rest = line.split(None, 3)
    owner = dns.name.from_text(owner)
    query = dns.message.make_query(owner, rtype, want_dnssec=True)
    response = TRANSPORTS[how](query)
    texts = [text.strip() for text in rest[0].split(" | ")] if rest else []
    wanted = {dns.rdata.from_text("IN", rtype, text, origin=dns.name.root, relativize=False) for text in texts}
    number = dns.rdatatype.from_text(rtype)
    rrsets = [r for r in response.answer if r.name == owner and r.rdtype == number]
    got = set().union(*[set(r) for r in rrsets])
    told = dns.rcode.to_text(response.rcode())
    if any(r.rdtype == dns.rdatatype.NSEC and "NXNAME" in r[0].to_text().replace("TYPE128", "NXNAME") for r in response.authority):
        # A name that does not exist, told by NXNAME (RFC 9824).
        told = "NXDOMAIN"
    if told != rcode or got != wanted:
        sys.exit("%s over %s: wanted %s\n%s" % (line, how, wanted, response))
    for rrset in rrsets:
        rrsigs = [r for r in response.answer if r.name == owner and r.rdtype == 46 and r.covers == number]
        for rrsig in rrsigs:
            zone = rrsig[0].signer
            dns.dnssec.validate(rrset, rrsig, {zone: keys_of(zone)})
            validated.append(owner)


validated = []
lines = [line.strip() for line in sys.stdin if line.strip()]
for how in TRANSPORTS:
    for line in lines:
        check(how, line, validated)
if not validated:
    sys.exit("no answer carried an RRSIG")
print("%d questions over %d transports, %d RRsets validated" % (len(lines), len(TRANSPORTS), len(validated)))
