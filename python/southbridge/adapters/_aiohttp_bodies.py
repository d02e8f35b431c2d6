"""The bodies and cookies of requests in the shape of aiohttp's, as the kernel takes them."""

from __future__ import annotations

import types
from collections.abc import Callable, Generator, Iterable, Mapping
from http.cookies import Morsel
from typing import Any

import aiohttp
from aiohttp import payload
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict
from yarl import URL

# What is known to be no longer is taken whole, and can be sent again where a redirect wants it.
WHOLE_BYTES_MAX = 1 << 20

Cookies = Mapping[str, Any] | Iterable[tuple[str, Any]]


class JsonBody(str):
    """A body that is JSON."""


async def content_of(data: Any, said: CIMultiDict[str]) -> Any:
    """``data`` as the kernel takes it. What it is, and how long, goes into the headers ``said``, unless they say it."""
    if data is None:
        return None
    if isinstance(data, JsonBody):
        said.setdefault("Content-Type", "application/json")
        return data.encode()
    made = _payload(data)
    for name, value in made.headers.items():
        said.setdefault(name, value)
    size = made.size
    if size is not None and size <= WHOLE_BYTES_MAX:
        whole = await made.as_bytes()
        await made.close()
        return whole
    if size is not None:
        said.setdefault("Content-Length", str(size))
    return _Pieces(made)


def _payload(data: Any) -> payload.Payload:
    made: Any = data() if isinstance(data, aiohttp.FormData) else data
    try:
        return payload.PAYLOAD_REGISTRY.get(made, disposition=None)
    except payload.LookupError:
        return aiohttp.FormData(made)()


class _Pieces:
    """What ``body`` writes, a piece at a time: a payload writes itself, and the kernel wants to be given pieces.

    Nothing runs beside whoever takes them, so that nothing is left behind when the rest is not wanted.
    """

    def __init__(self, body: payload.Payload) -> None:
        self._writing = _written(body)

    def __aiter__(self) -> _Pieces:
        return self

    async def __anext__(self) -> bytes:
        while (piece := await self._step()) == b"":
            pass
        return piece

    @types.coroutine
    def _step(self) -> Generator[Any, Any, bytes]:
        """Goes on writing until there is a piece. What is waited for meanwhile is waited for by whoever awaits this."""
        go_on: Callable[[Any], Any] = self._writing.send
        told: Any = None
        while True:
            try:
                wanted = go_on(told)
            except StopIteration:
                raise StopAsyncIteration from None
            if isinstance(wanted, _Piece):
                return wanted.content
            try:
                told = yield wanted
                go_on = self._writing.send
            except BaseException as error:
                told, go_on = error, self._writing.throw


async def _written(body: payload.Payload) -> None:
    await body.write(_Writer())
    await body.close()


class _Piece:
    """Awaited by a payload that writes it; over when the next one is wanted."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __await__(self) -> Generator[_Piece, None, None]:
        yield self


class _Writer(AbstractStreamWriter):
    """What a payload writes to."""

    async def write(self, chunk: Any) -> None:
        await _Piece(bytes(chunk))

    async def write_eof(self, chunk: bytes = b"") -> None:
        await self.write(chunk)

    async def drain(self) -> None:
        """Nothing is held here."""

    def enable_compression(self, encoding: str = "deflate", strategy: int | None = None) -> None:
        raise TypeError("compress is not there")

    def enable_chunking(self) -> None:
        """How a message is framed is the kernel's business."""

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:
        """Likewise."""


def cookies_of(said: Cookies | None, url: URL) -> dict[str, str]:
    """Names and values, without those that must not go to ``url``. A morsel has a name of its own."""
    pairs: dict[str, Any] = dict(said or ())
    cookies: dict[str, str] = {}
    for name, value in pairs.items():
        if not isinstance(value, Morsel):
            cookies[name] = value
        elif url.scheme == "https" or not value["secure"]:
            cookies[value.key] = value.value
    return cookies
