#!/usr/bin/env python3
"""Fetches DNSSEC chains and checks them with dnspython alone, from the trust anchor's DS down.

usage: chain.py CA HTTPS_PORT ANCHORS < questions

ANCHORS has DS records in master file form. Each line of the input is `OWNER TYPE`; every RRset of its chain must be
signed by a key of the chain, and every key be vouched for by a DS of the chain or of the anchors. Prints for each how
many RRsets were validated.
"""
import ssl
import sys
import urllib.request

import dns.dnssec
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rrset

ca, port, anchors_file = sys.argv[1], int(sys.argv[2]), sys.argv[3]
ANCHORS = {}
for line in open(anchors_file):
    owner, _, _, rest = line.split(" ", 3)
    ANCHORS.setdefault(dns.name.from_text(owner), []).append(dns.rdata.from_text("IN", "DS", rest))


def rrsets(octets):
    """The RRsets of a chain, and the RRSIGs over each, by owner and type."""
    found, at = {}, 0
    while at < len(octets):
        owner, used = dns.name.from_wire(octets, at)
        at += used
        rtype, rclass = int.from_bytes(octets[at : at + 2]), int.from_bytes(octets[at + 2 : at + 4])
        ttl, length = int.from_bytes(octets[at + 4 : at + 8]), int.from_bytes(octets[at + 8 : at + 10])
        at += 10
        rdata = dns.rdata.from_wire(rclass, rtype, octets, at, length)
        at += length
        covers = rdata.type_covered if rtype == dns.rdatatype.RRSIG else dns.rdatatype.NONE
        key = (owner, rtype, covers)
        if key not in found:
            found[key] = dns.rrset.RRset(owner, rclass, rtype, covers)
        found[key].add(rdata, ttl)
    return found


def check(octets):
    sets = rrsets(octets)
    keys, pending, checked = {}, {k: v for k, v in sets.items() if k[1] != dns.rdatatype.RRSIG}, 0
    vouched = dict(ANCHORS)
    while pending:
        before = len(pending)
        for (owner, rtype, covers), rrset in list(pending.items()):
            rrsigs = sets.get((owner, dns.rdatatype.RRSIG, rtype))
            if rrsigs is None:
                raise SystemExit(f"{owner} {rtype} is not signed")
            signer = rrsigs[0].signer
            if rtype == dns.rdatatype.DNSKEY:
                if owner not in vouched:
                    continue
                made = lambda key, ds: dns.dnssec.make_ds(owner, key, "SHA256") == ds
                entry = [key for key in rrset if any(made(key, ds) for ds in vouched[owner])]
                trusted = dns.rrset.from_rdata_list(owner, rrset.ttl, entry)
                dns.dnssec.validate(rrset, rrsigs, {owner: trusted})
                keys[owner] = rrset
            else:
                if signer not in keys:
                    continue
                dns.dnssec.validate(rrset, rrsigs, {signer: keys[signer]})
                if rtype == dns.rdatatype.DS:
                    vouched[owner] = list(rrset)
            del pending[(owner, rtype, covers)]
            checked += 1
        if len(pending) == before:
            raise SystemExit(f"nothing vouches for {list(pending)}")
    return checked


context = ssl.create_default_context(cafile=ca)
for line in sys.stdin:
    name, rtype = line.split()
    with urllib.request.urlopen(f"https://localhost:{port}/chain/{name}/{rtype}", context=context) as reply:
        print(name, rtype, check(reply.read()))
