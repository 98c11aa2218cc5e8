"""Importing this keeps dnspython from sleeping through an answer over QUIC.

Its streams look whether enough has come and then wait to be told of more (2.9.2: wait_for in quic/_asyncio.py and
quic/_sync.py). What comes between the two is told to nobody, and on a busy machine it comes between now and then: the
answer lies there until the timeout. So whoever waits is made to look again every now and then, up to the timeout.
"""
import asyncio
import threading

from dns.quic._asyncio import AsyncioQuicStream
from dns.quic._sync import SyncQuicStream

AGAIN = 0.2

told = AsyncioQuicStream._wait_for_wake_up
made = SyncQuicStream.__init__


async def told_or_again(stream):
    try:
        await asyncio.wait_for(told(stream), AGAIN)
    except asyncio.TimeoutError:
        pass


class Again(threading.Condition):
    def wait(self, timeout=None):
        """Is there time left to look again?"""
        return super().wait(AGAIN if timeout is None else min(timeout, AGAIN)) or timeout is None or timeout > 0


def made_to_look_again(stream, *args):
    made(stream, *args)
    stream._wake_up = Again()


AsyncioQuicStream._wait_for_wake_up = told_or_again
SyncQuicStream.__init__ = made_to_look_again
