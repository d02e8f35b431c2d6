"""A peer that does what the path says, in a process of its own: ``python peer.py`` prints its port.

It speaks HTTP/1.1 by hand, so that it can break it.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Handler = Callable[["Visit"], Awaitable[None]]


class Visit:
    """One request; its body has been read, unless the handler reads it."""

    def __init__(self, first: list[str], headers: list[tuple[str, str]], ends: Ends) -> None:
        self.method = first[0]
        path = first[1]
        self.path, _, self.query = path.partition("?")
        self.headers = headers
        self.body = b""
        self.reader, self.writer = ends

    def field(self, wanted: str) -> str | None:
        return next((value for name, value in self.headers if name.lower() == wanted), None)

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, as it comes."""
        if self.field("transfer-encoding") == "chunked":
            while size := int(await self.reader.readline(), 16):
                yield await self.reader.readexactly(size)
                await self.reader.readline()
            await self.reader.readline()
            return
        left = int(self.field("content-length") or 0)
        while left > 0:
            piece = await self.reader.read(min(left, 65536))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(piece)
            yield piece

    async def chunk(self, piece: bytes) -> None:
        self.writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        await self.writer.drain()

    async def chunked(self, more: str = "") -> None:
        self.writer.write(f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{more}\r\n".encode())

    async def answer(self, body: bytes, *, status: str = "200 OK", kind: str = "text/plain") -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        self.writer.write(head.encode() + b"\r\n" + (b"" if self.method == "HEAD" else body))
        await self.writer.drain()

    @property
    def rest(self) -> str:
        return self.path.rsplit("/", 1)[1]


async def echo(visit: Visit) -> None:
    told = {
        "method": visit.method,
        "path": visit.path,
        "query": visit.query,
        "headers": visit.headers,
        "body": visit.body.decode("latin-1"),
    }
    await visit.answer(json.dumps(told).encode(), kind="application/json")


async def status(visit: Visit) -> None:
    await visit.answer(b"as asked", status=f"{visit.rest} Asked")


async def delay(visit: Visit) -> None:
    await asyncio.sleep(float(visit.rest))
    await visit.answer(b"late")


async def delayed(visit: Visit) -> None:
    """The head at once, the body late."""
    visit.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
    await visit.writer.drain()
    await asyncio.sleep(float(visit.rest))
    visit.writer.write(b"late")


async def never(visit: Visit) -> None:
    key = visit.rest
    WAITING[key] += 1
    try:
        await visit.reader.read()
    finally:
        WAITING[key] -= 1
    visit.writer.close()


async def waiting(visit: Visit) -> None:
    """How many wait for ``/never/…`` of the same end."""
    await visit.answer(str(WAITING[visit.rest]).encode())


WAITING: Counter[str] = Counter()


async def cut(visit: Visit) -> None:
    visit.writer.close()


async def half(visit: Visit) -> None:
    visit.writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly so much")
    await visit.writer.drain()
    visit.writer.close()


async def size(visit: Visit) -> None:
    await visit.answer(b"x" * int(visit.rest))


async def fields(visit: Visit) -> None:
    head = "HTTP/1.1 200 OK\r\nX-Twice: one\r\nX-Twice: two\r\nX-Latin: caf\xe9\r\nContent-Length: 0\r\n\r\n"
    visit.writer.write(head.encode("latin-1"))
    await visit.writer.drain()


async def redirect(visit: Visit) -> None:
    left = int(visit.rest)
    to = f"/redirect/{left - 1}" if left else "/echo"
    head = f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nSet-Cookie: seen={left}; Path=/\r\n"
    visit.writer.write(head.encode() + b"Content-Length: 0\r\n\r\n")
    await visit.writer.drain()


async def zipped(visit: Visit) -> None:
    body = gzip.compress(b"z" * int(visit.rest))
    visit.writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n")
    visit.writer.write(f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    await visit.writer.drain()


async def latin(visit: Visit) -> None:
    await visit.answer("café".encode("latin-1"), kind="text/plain; charset=iso-8859-1")


async def malformed(visit: Visit) -> None:
    await visit.answer(b'{"so": ', kind="application/json")


async def chunks(visit: Visit) -> None:
    """``/chunks/COUNT/BYTES``."""
    count, size = map(int, visit.path.split("/")[2:])
    await visit.chunked("Trailer: X-Sum\r\n")
    for _ in range(count):
        await visit.chunk(b"c" * size)
    visit.writer.write(b"0\r\nX-Sum: " + str(count * size).encode() + b"\r\n\r\n")
    await visit.writer.drain()


async def lines(visit: Visit) -> None:
    """Lines that are cut anywhere."""
    await visit.chunked("Content-Type: text/plain; charset=utf-8\r\n")
    for piece in (b"first\nsec", b"ond\r", b"\nthird caf\xc3", b"\xa9\n\nlast"):
        await visit.chunk(piece)
        await asyncio.sleep(0.01)
    visit.writer.write(b"0\r\n\r\n")


async def torn(visit: Visit) -> None:
    """A body that breaks off after some of it was seen."""
    await visit.chunked()
    await visit.chunk(b"seen")
    await asyncio.sleep(0.1)
    visit.writer.close()


async def away(visit: Visit) -> None:
    """Redirects in the manner of servers that write UTF-8 where only ASCII may be."""
    head = "HTTP/1.1 301 Away\r\nLocation: /echo/\u0161\r\nContent-Length: 0\r\n\r\n"
    visit.writer.write(head.encode())
    await visit.writer.drain()


async def unbounded(visit: Visit) -> None:
    """A body that is over when the connection is."""
    visit.writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it")
    await visit.writer.drain()
    visit.writer.close()


async def flood(visit: Visit) -> None:
    """``/flood/NAME/MEGABYTES``: as fast as they are taken; how many were, ``/taken/NAME`` says."""
    _, _, name, megabytes = visit.path.split("/")
    TAKEN[name] = 0
    # What the system holds is not taken yet; so let it be little.
    visit.writer.transport.set_write_buffer_limits(high=0)
    visit.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 * 1024)
    visit.writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {int(megabytes) << 20}\r\n\r\n".encode())
    piece = b"f" * 65536
    try:
        for _ in range(int(megabytes) * 16):
            visit.writer.write(piece)
            await visit.writer.drain()
            TAKEN[name] += len(piece)
    except ConnectionError:
        GONE.add(name)


async def taken(visit: Visit) -> None:
    told = {"bytes": TAKEN.get(visit.rest, 0), "gone": visit.rest in GONE}
    await visit.answer(json.dumps(told).encode(), kind="application/json")


async def count(visit: Visit) -> None:
    """``/count/NAME``: how the body came, which is read as it comes."""
    name = visit.rest
    digest, size = hashlib.sha256(), 0
    try:
        async for piece in visit.pieces():
            digest.update(piece)
            size += len(piece)
            TAKEN[name] = size
    except (asyncio.IncompleteReadError, ValueError):
        GONE.add(name)
        raise
    told = {
        "bytes": size,
        "digest": digest.hexdigest(),
        "length": visit.field("content-length"),
        "encoding": visit.field("transfer-encoding"),
    }
    await visit.answer(json.dumps(told).encode(), kind="application/json")


async def unread(visit: Visit) -> None:
    """Takes nothing of the body for a while."""
    await asyncio.sleep(float(visit.rest))
    async for _ in visit.pieces():
        pass
    await visit.answer(b"at last")


async def early(visit: Visit) -> None:
    """Answers before it has read the body, and sends it back as it comes."""
    await visit.chunked()
    async for piece in visit.pieces():
        await visit.chunk(piece)
    visit.writer.write(b"0\r\n\r\n")


async def refuse(visit: Visit) -> None:
    """Wants nothing of the body."""
    visit.writer.write(b"HTTP/1.1 413 Too Much\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch")
    await visit.writer.drain()
    visit.writer.write_eof()
    # A close with bytes unread would be a reset, and could overtake the answer.
    while await visit.reader.read(65536):
        pass
    visit.writer.close()


async def elsewhere(visit: Visit) -> None:
    """Sends the body away when it has been read."""
    async for _ in visit.pieces():
        pass
    visit.writer.write(b"HTTP/1.1 307 Elsewhere\r\nLocation: /count/elsewhere\r\nContent-Length: 0\r\n\r\n")
    await visit.writer.drain()


async def ranged(visit: Visit) -> None:
    """``/ranged/NAME``: breaks off in the middle when it is asked for the first time, and knows ranges."""
    whole = bytes(range(256)) * 1000
    fields, first = "", 0
    if asked := visit.field("range"):
        assert visit.field("if-range") == '"v1"'
        first = int(asked.removeprefix("bytes=").rstrip("-"))
        fields = f"Content-Range: bytes {first}-{len(whole) - 1}/{len(whole)}\r\n"
    status = "206 Partial" if asked else "200 OK"
    head = f'HTTP/1.1 {status}\r\nETag: "v1"\r\n{fields}Content-Length: {len(whole) - first}\r\n\r\n'
    breaks = visit.path not in TAKEN
    TAKEN[visit.path] = 1
    visit.writer.write(head.encode() + (whole[: len(whole) // 2] if breaks else whole[first:]))
    await visit.writer.drain()
    if breaks:
        visit.writer.close()


async def trickle(visit: Visit) -> None:
    """``/trickle/COUNT``: as many times 300 KB, a little apart."""
    count = int(visit.rest)
    visit.writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {count * 300_000}\r\n\r\n".encode())
    for _ in range(count):
        visit.writer.write(b"t" * 300_000)
        await visit.writer.drain()
        await asyncio.sleep(0.15)


TAKEN: dict[str, int] = {}
GONE: set[str] = set()
READERS: tuple[Handler, ...] = (count, unread, early, refuse, elsewhere)
HANDLERS: dict[str, Handler] = {
    handler.__name__: handler
    for handler in (
        *(echo, status, delay, never, cut, half, size, fields, redirect, zipped, latin, malformed),
        *(chunks, lines, torn, flood, taken, delayed, ranged, trickle, unbounded, away),
        *READERS,
        waiting,
    )
}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while visit := await read(reader, writer):
            handler = HANDLERS[visit.path.split("/")[1]]
            if handler not in READERS:
                visit.body = b"".join([piece async for piece in visit.pieces()])
            await handler(visit)
    except (ConnectionError, asyncio.IncompleteReadError, ValueError):
        pass
    finally:
        writer.close()


async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Visit | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Visit(first.split(" "), headers, (reader, writer))


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    # It ends with whoever started it.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
