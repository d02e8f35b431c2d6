"""A peer that does what the path says, in a process of its own: ``python peer.py`` prints its port.

It speaks HTTP/1.1 by hand, so that it can break it.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from collections.abc import Awaitable, Callable

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Handler = Callable[["Visit"], Awaitable[None]]


class Visit:
    """One request, read whole."""

    def __init__(self, first: list[str], headers: list[tuple[str, str]], body: bytes, ends: Ends) -> None:
        self.method = first[0]
        path = first[1]
        self.path, _, self.query = path.partition("?")
        self.headers = headers
        self.body = body
        self.reader, self.writer = ends

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


async def never(visit: Visit) -> None:
    await visit.reader.read()
    visit.writer.close()


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


HANDLERS: dict[str, Handler] = {
    handler.__name__: handler
    for handler in (echo, status, delay, never, cut, half, size, fields, redirect, zipped, latin, malformed)
}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while visit := await read(reader, writer):
            await HANDLERS[visit.path.split("/")[1]](visit)
    except (ConnectionError, asyncio.IncompleteReadError):
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
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    return Visit(first.split(" "), headers, await reader.readexactly(length), (reader, writer))


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    # It ends with whoever started it.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
