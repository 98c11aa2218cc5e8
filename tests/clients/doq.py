#!/usr/bin/env python3
"""Asks over DNS over QUIC with aioquic alone: many queries at once, then one more with the session ticket that came,
in 0-RTT if the ticket allows it.

usage: doq.py CA PORT NAME ADDRESS...

Prints one line: `N answered at once; resumed; early data accepted`, or what was otherwise.
"""
import asyncio
import struct
import sys

import dns.message
import dns.rcode
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import HandshakeCompleted, StreamDataReceived

ca, port, name, addresses = sys.argv[1], int(sys.argv[2]), sys.argv[3], set(sys.argv[4:])
AT_ONCE = 100
TIMEOUT = 20


class Client(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.handshake = asyncio.get_running_loop().create_future()
        self.answers, self.octets = {}, {}

    def quic_event_received(self, event):
        if isinstance(event, HandshakeCompleted):
            self.handshake.set_result(event)
        elif isinstance(event, StreamDataReceived):
            self.octets[event.stream_id] += event.data
            if event.end_stream:
                self.answers[event.stream_id].set_result(self.octets[event.stream_id])

    def ask(self):
        query = dns.message.make_query(name, "A", use_edns=0)
        query.id = 0
        wire = query.to_wire()
        stream = self._quic.get_next_available_stream_id()
        self.octets[stream] = b""
        self.answers[stream] = asyncio.get_running_loop().create_future()
        self._quic.send_stream_data(stream, struct.pack("!H", len(wire)) + wire, end_stream=True)
        return self.answers[stream]


def check(octets):
    (length,) = struct.unpack("!H", octets[:2])
    answer = dns.message.from_wire(octets[2:])
    got = {record.to_text() for rrset in answer.answer for record in rrset}
    if length != len(octets) - 2 or answer.id != 0 or answer.rcode() != dns.rcode.NOERROR or got != addresses:
        sys.exit("wanted %s:\n%s" % (addresses, answer))


def configuration(ticket=None):
    made = QuicConfiguration(is_client=True, alpn_protocols=["doq"], server_name="localhost", session_ticket=ticket)
    made.load_verify_locations(cafile=ca)
    return made


def connected(tickets, **options):
    return connect("127.0.0.1", port, create_protocol=Client, session_ticket_handler=tickets.put_nowait, **options)


async def main():
    tickets = asyncio.Queue()
    async with connected(tickets, configuration=configuration()) as client:
        answers = [client.ask() for _ in range(AT_ONCE)]
        client.transmit()
        for octets in await asyncio.wait_for(asyncio.gather(*answers), TIMEOUT):
            check(octets)
        ticket = await asyncio.wait_for(tickets.get(), TIMEOUT)
    offered = bool(ticket.max_early_data_size)
    async with connected(tickets, configuration=configuration(ticket), wait_connected=not offered) as client:
        answer = client.ask()
        client.transmit()
        check(await asyncio.wait_for(answer, TIMEOUT))
        handshake = await asyncio.wait_for(client.handshake, TIMEOUT)
    early = "not offered" if not offered else "accepted" if handshake.early_data_accepted else "refused"
    print("%d answered at once; %s; early data %s" % (
        len(answers), "resumed" if handshake.session_resumed else "not resumed", early))


asyncio.run(main())
