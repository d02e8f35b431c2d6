"""The far side of ``held.py``, which sees from outside whether our I/O thread keeps its times. As a program: serves.

Prints its ports, serves until its standard input ends, and prints what it saw. Times are seconds of the machine's
monotonic clock, which all processes share.

- HTTP/1.1, twice. At one port all is answered, and what counts is that the connections last; ``/over`` says that what
  ends from now on may end. At the other, ``/ASKED/TIMEOUT`` is not answered, and what counts is when it is given up.
- HTTP/2 over TLS, twice; no request is answered. At one port a PING goes out every ten milliseconds, and what counts
  is how soon it is acknowledged. At the other nothing is said, and what counts is when we are asked whether we live.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import struct
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field

PING_EVERY = 0.01
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING = 4, 6
ACK = 1


@dataclass
class Seen:
    """What has been seen so far."""

    connections: int = 0
    lost: int = 0
    answered: int = 0
    late: list[float] = field(default_factory=list)
    acknowledged: list[float] = field(default_factory=list)
    pings_sent: int = 0
    silence: list[float] = field(default_factory=list)


class Peer:
    def __init__(self) -> None:
        self.seen = Seen()
        self._over = False

    async def serve(self, certificate: str) -> None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate)
        tls.set_alpn_protocols(["h2"])
        servers = [
            await asyncio.start_server(self.answering, "127.0.0.1", 0),
            await asyncio.start_server(self.never, "127.0.0.1", 0),
            await asyncio.start_server(self.pinging, "127.0.0.1", 0, ssl=tls),
            await asyncio.start_server(self.silent, "127.0.0.1", 0, ssl=tls),
        ]
        print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        print(json.dumps(self.seen.__dict__), flush=True)

    async def answering(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.seen.connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                # Not `|=` across the wait: another connection's would be forgotten.
                if await _path(reader) == "/over":
                    self._over = True
                self.seen.answered += 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2048\r\n\r\n" + b"x" * 2048)
        self.seen.lost += not self._over
        writer.close()

    async def never(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked, timeout = (float(word) for word in (await _path(reader)).split("/")[1:])
        rest = await reader.read()
        assert not rest
        self.seen.late.append(time.monotonic() - asked - timeout)
        writer.close()

    async def pinging(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sending = asyncio.ensure_future(self.send_pings(writer))
        async for kind, flags, payload in frames(reader, writer):
            if kind == PING and flags & ACK:
                self.seen.acknowledged.append(time.monotonic() - struct.unpack(">d", payload)[0])
        sending.cancel()
        self.seen.lost += not self._over

    async def send_pings(self, writer: asyncio.StreamWriter) -> None:
        while True:
            await asyncio.sleep(PING_EVERY)
            writer.write(frame(PING, 0, struct.pack(">d", time.monotonic())))
            self.seen.pings_sent += 1

    async def silent(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = time.monotonic()
        async for kind, flags, payload in frames(reader, writer):
            if kind == PING and not flags & ACK:
                self.seen.silence.append(time.monotonic() - said)
                writer.write(frame(PING, ACK, payload))
            # Whatever comes early on is a part of the beginning, and we answer it.
            said = time.monotonic()
        self.seen.lost += not self._over


async def _path(reader: asyncio.StreamReader) -> str:
    """What the next request asks for."""
    head = await reader.readuntil(b"\r\n\r\n")
    return head.split(b" ", 2)[1].decode()


async def frames(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> AsyncIterator[tuple[int, int, bytes]]:
    """The frames of a client: kind, flags, payload. Its settings are acknowledged."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        await reader.readexactly(len(PREFACE))
        writer.write(frame(SETTINGS, 0, b""))
        while True:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] == SETTINGS and not head[4] & ACK:
                writer.write(frame(SETTINGS, ACK, b""))
            yield head[3], head[4], payload


def frame(kind: int, flags: int, payload: bytes) -> bytes:
    """A frame of the connection itself (RFC 9113, 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags, 0, 0, 0, 0]) + payload


if __name__ == "__main__":
    asyncio.run(Peer().serve(sys.argv[1]))
