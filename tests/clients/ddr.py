#!/usr/bin/env python3
"""Discovers the designated resolvers of 127.0.0.1 (RFC 9462) and asks each of them.

usage: SSL_CERT_FILE=CA ddr.py DNS_PORT
"""
import os
import sys

import dns.message
import dns.nameserver
import dns.resolver

resolver = dns.resolver.Resolver(configure=False)
resolver.nameservers = ["127.0.0.1"]
resolver.port = int(sys.argv[1])
resolver.try_ddr()
query = dns.message.make_query("ghost", "SOA")
kinds = []
for server in resolver.nameservers:
    if not isinstance(server, dns.nameserver.Nameserver):
        sys.exit("nothing was discovered that could be verified: it stays with plain DNS")
    # What is not OpenSSL's looks for certificates elsewhere.
    server.verify = os.environ["SSL_CERT_FILE"]
    answer = server.query(query, timeout=10, source=None, source_port=0, max_size=False)
    kinds.append(server.kind())
    if not answer.answer:
        sys.exit("%s answered\n%s" % (server, answer))
print("ghost. SOA over %s" % " ".join(kinds))
