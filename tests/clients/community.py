#!/usr/bin/env python3
"""Asks a running gateway for random names of a JSON-lines file and compares the answers with the file.

usage: community.py FILE REPORT CA ANCHORS TLS_PORT HTTPS_PORT COUNT SEED [KDIG_CA KDIG...]

REPORT lists what the import refused, ANCHORS has the DS of the TLD. Every name is asked with dnspython over DoQ and
over HTTP/3, and what came over DoQ is validated from the anchor down; with KDIG (a command, its words apart) over
QUIC, too; KDIG_CA is the CA file as KDIG sees it. With RESOLVER_PORT in the environment, a validating resolver at that
port must say the same, with AD. Exits 1 at the first difference.
"""
import asyncio
import json
import os
import random
import subprocess
import sys

import dns.asyncquery
import dns.dnssec
import dns.flags
import dns.message
import dns.name
import dns.query
import dns.rdata
import dns.rdatatype

import wakeups  # noqa: F401 (for what importing it does)

TTL_CEILING = 3600


def expected(entry, refused):
    """(owner, type) -> set of RDATA in presentation form."""
    owner = dns.name.from_text(entry["name"] + ".ghost.")
    wanted = {}
    for kind, values in entry["records"].items():
        rtype = {"URL": "URI", "ALIAS": "CNAME"}.get(kind, kind)
        if (owner.to_text().lower(), rtype) in refused or (owner.to_text().lower(), kind) in refused:
            continue
        # An SRV that names its service stands below the name (RFC 2782).
        values = [value for value in values if not (isinstance(value, dict) and "service" in value)]
        if not values:
            continue
        texts = [text_of(rtype, at, value) for at, value in enumerate(values)]
        wanted[rtype] = {dns.rdata.from_text("IN", rtype, text, origin=dns.name.root, relativize=False) for text in texts}
    return owner, wanted


def text_of(rtype, at, value):
    if isinstance(value, dict):
        order = {
            "MX": ["priority", "target"],
            "SRV": ["priority", "weight", "port", "target"],
            "DS": ["key_tag", "algorithm", "digest_type", "digest"],
            "CAA": ["flags", "tag", "value"],
            "TLSA": ["usage", "selector", "matching_type", "certificate"],
        }[rtype]
        words = [str(value.get(key, 0)) for key in order]
        if rtype == "CAA":
            words[2] = '"%s"' % words[2]
        return " ".join(words)
    if rtype == "MX":
        return "%d %s" % (10 * (at + 1), value)
    if rtype == "URI":
        return '10 1 "%s"' % value
    if rtype == "TXT":
        octets = value.encode()
        chunks = [octets[n : n + 255] for n in range(0, len(octets), 255)] or [b""]
        return " ".join('"%s"' % "".join("\\%03d" % byte for byte in chunk) for chunk in chunks)
    return value


def section_for(rtype, response):
    """A delegation comes as a referral."""
    return response.authority if rtype == "NS" else response.answer


def found(owner, rtype, response):
    number = dns.rdatatype.from_text(rtype)
    rrsets = [r for r in section_for(rtype, response) if r.name == owner and r.rdtype == number]
    return set().union(*[set(r) for r in rrsets]), rrsets


def compare(how, owner, rtype, wanted, response):
    got, rrsets = found(owner, rtype, response)
    if got != wanted or any(r.ttl > TTL_CEILING for r in rrsets):
        raise AssertionError("%s: %s %s\n  file   %s\n  answer %s" % (how, owner, rtype, wanted, response))


def signed(response, section, owner, rtype, keys):
    """The RRset, validated with the keys of its zone."""
    rrset = response.find_rrset(section, owner, "IN", rtype)
    rrsig = response.find_rrset(section, owner, "IN", "RRSIG", rtype)
    dns.dnssec.validate(rrset, rrsig, keys)
    return rrset


def vouched(zone, dnskeys, ds_set):
    """DNSKEY RRset: the key that a DS names signs it."""
    for key in dnskeys.find_rrset(dnskeys.answer, zone, "IN", "DNSKEY"):
        for ds in ds_set:
            if dns.dnssec.make_ds(zone, key, ds.digest_type) == ds:
                return signed(dnskeys, dnskeys.answer, zone, "DNSKEY", {zone: [key]})
    raise AssertionError("no DNSKEY of %s matches its DS" % zone)


async def ask_all(questions, ca, anchors, tls_port, https_port):
    limit = asyncio.Semaphore(16)
    tld = dns.name.from_text("ghost.")

    async def over_doq(owner, rtype):
        query = dns.message.make_query(owner, rtype, want_dnssec=True)
        query.id = 0
        return await dns.asyncquery.quic(query, "127.0.0.1", port=tls_port, verify=ca, server_hostname="localhost", timeout=20)

    tld_keys = {tld: vouched(tld, await over_doq(tld, "DNSKEY"), anchors)}

    async def validate(owner, rtype, response):
        zone = dns.name.Name(owner.labels[-3:])
        ds_set = await over_doq(zone, "DS")
        ds_set = signed(ds_set, ds_set.answer, zone, "DS", tld_keys)
        keys = {zone: vouched(zone, await over_doq(zone, "DNSKEY"), ds_set)}
        signed(response, response.answer, owner, rtype, keys)

    async def one(owner, rtype, wanted):
        async with limit:
            query = dns.message.make_query(owner, rtype, want_dnssec=True)
            query.id = 0
            where = "127.0.0.1"
            over_quic = await over_doq(owner, rtype)
            compare("dnspython DoQ", owner, rtype, wanted, over_quic)
            # A name that is delegated elsewhere is signed there, or not.
            if over_quic.answer and rtype != "DS":
                await validate(owner, rtype, over_quic)
            url = "https://127.0.0.1:%d/dns-query" % https_port
            h3 = dns.query.HTTPVersion.HTTP_3
            over_h3 = await dns.asyncquery.https(query, url, verify=ca, http_version=h3, timeout=20)
            compare("dnspython DoH3", owner, rtype, wanted, over_h3)

    await asyncio.gather(*[one(*question) for question in questions])


async def ask_validator(questions, port):
    """Everything that a validating resolver behind us says, it says with AD."""
    limit = asyncio.Semaphore(16)

    async def one(owner, rtype, wanted):
        async with limit:
            query = dns.message.make_query(owner, rtype, want_dnssec=True)
            response = (await dns.asyncquery.udp_with_fallback(query, "127.0.0.1", port=port, timeout=20))[0]
            compare("the resolver", owner, rtype, wanted, response)
            if not response.flags & dns.flags.AD:
                raise AssertionError("the resolver: %s %s without AD" % (owner, rtype))

    await asyncio.gather(*[one(*question) for question in questions])


def ask_kdig(questions, ca, tls_port, kdig):
    options = ["@127.0.0.1", "-p", str(tls_port), "+quic", "+tls-ca=" + ca, "+tls-hostname=localhost", "+dnssec"]
    options += ["+norec", "+noall", "+answer", "+authority"]
    for start in range(0, len(questions), 20):
        batch = questions[start : start + 20]
        # kdig asks all its questions over one connection with +keepopen.
        words = kdig + options + ["+keepopen"]
        for owner, rtype, _ in batch:
            words += [owner.to_text(), rtype if rtype != "URI" else "TYPE256"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            sys.exit("kdig failed: %s %s" % (done.stdout, done.stderr))
        lines = [line.split(None, 4) for line in done.stdout.splitlines() if line and not line.startswith(";")]
        for owner, rtype, wanted in batch:
            mine = [l[4] for l in lines if len(l) == 5 and dns.name.from_text(l[0]) == owner and l[3] in (rtype, "TYPE256" if rtype == "URI" else rtype)]
            got = {dns.rdata.from_text("IN", rtype, text, origin=dns.name.root, relativize=False) for text in mine}
            if got != wanted:
                sys.exit("kdig: %s %s\n  file   %s\n  answer %s\n%s" % (owner, rtype, wanted, got, done.stdout))


def main():
    path, report, ca, anchors, tls_port, https_port, count, seed = sys.argv[1:9]
    kdig_ca, kdig = (sys.argv[9:10] or [None])[0], sys.argv[10:]
    with open(anchors) as lines:
        words = [line.split(None, 3) for line in lines]
    anchors = [dns.rdata.from_text("IN", "DS", word[3]) for word in words if word[0] == "ghost."]
    with open(report) as lines:
        refused = {(r["name"], r["type"]) for r in map(json.loads, filter(str.strip, lines))}
    with open(path) as lines:
        entries = [json.loads(line) for line in lines]
    random.Random(int(seed)).shuffle(entries)
    questions = []
    asked = 0
    for entry in entries:
        if asked == int(count):
            break
        owner, wanted = expected(entry, refused)
        if wanted:
            asked += 1
            # What a delegation hides is not there to ask for; its DS is asked by its own name.
            questions += [(owner, rtype, data) for rtype, data in wanted.items()]
    asyncio.run(ask_all(questions, ca, anchors, int(tls_port), int(https_port)))
    also = ""
    if kdig:
        ask_kdig(questions, kdig_ca, int(tls_port), kdig)
        also = " and kdig over QUIC"
    if "RESOLVER_PORT" in os.environ:
        delegated = {owner for owner, rtype, _ in questions if rtype == "NS"}
        here = [question for question in questions if question[0] not in delegated]
        asyncio.run(ask_validator(here, int(os.environ["RESOLVER_PORT"])))
        also += ", %d of them with AD through the resolver" % len(here)
    print("%d names, %d RRsets equal the file over DoQ (validated) and HTTP/3%s" % (asked, len(questions), also))


main()
