"""The response of a session in the shape of aiohttp's."""

from __future__ import annotations

import codecs
import json
from collections.abc import AsyncIterator, Callable
from http.cookies import CookieError, SimpleCookie
from typing import Any, NamedTuple

import aiohttp
from aiohttp.helpers import parse_mimetype
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from southbridge import RequestError, StreamedResponse
from southbridge.adapters._aiohttp_errors import translated

# How much of one line is held before its end has come.
LINE_BYTES_MAX = 1 << 20


class Visit(NamedTuple):
    """A redirect that was followed."""

    status: int
    url: URL


class Content:
    """The body of a response, as it comes. One task at a time reads it."""

    def __init__(self, answer: StreamedResponse, info: aiohttp.RequestInfo) -> None:
        self._answer = answer
        self._info = info
        self._held = b""
        self._over = False

    @property
    def is_over(self) -> bool:
        """Whether all of it has come."""
        return self._over

    def at_eof(self) -> bool:
        """Whether all of it has been read."""
        return self._over and not self._held

    async def read(self, n: int = -1) -> bytes:
        """At most ``n`` bytes, of what has come; all that is still to come without ``n``. Nothing at the end."""
        if n < 0:
            pieces = [piece async for piece in self.iter_any()]
            return b"".join(pieces)
        if n and not self._held:
            await self._more()
        taken, self._held = self._held[:n], self._held[n:]
        return taken

    async def readany(self) -> bytes:
        """What has come; waits for something. Nothing at the end."""
        if not self._held:
            await self._more()
        taken, self._held = self._held, b""
        return taken

    async def readline(self) -> bytes:
        """The next line with its end. Raises `ValueError` for one that does not end within a megabyte."""
        seen = 0
        while (end := self._held.find(b"\n", seen) + 1) == 0 and not self._over:
            seen = len(self._held)
            if seen > LINE_BYTES_MAX:
                raise ValueError(f"a line exceeds {LINE_BYTES_MAX} bytes")
            await self._more()
        end = end or len(self._held)
        taken, self._held = self._held[:end], self._held[end:]
        return taken

    async def iter_chunked(self, n: int) -> AsyncIterator[bytes]:
        """Pieces of ``n`` bytes at most."""
        while piece := await self.read(n):
            yield piece

    async def iter_any(self) -> AsyncIterator[bytes]:
        """Pieces as they come."""
        while piece := await self.readany():
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while line := await self.readline():
            yield line

    async def _more(self) -> None:
        if self._over:
            return
        try:
            piece = await self._answer.read_piece()
        except RequestError as error:
            raise translated(error, self._info) from error
        self._over = not piece
        self._held += piece


class ClientResponse:
    """A response whose head is here."""

    def __init__(self, answer: StreamedResponse, info: aiohttp.RequestInfo) -> None:
        self._answer = answer
        self._body: bytes | None = None
        self.request_info = info
        self.method = info.method
        self.status = answer.status
        self.reason = answer.reason
        self.url = URL(answer.url, encoded=True)
        self.raw_headers = tuple(answer.headers.raw)
        lines = [
            (name.decode(), value.decode("utf-8", "surrogateescape")) for name, value in answer.headers.raw
        ]
        self.headers = CIMultiDictProxy(CIMultiDict(lines))
        self.history = tuple(Visit(status, URL(url, encoded=True)) for status, url in answer.history)
        self.content = Content(answer, info)
        self._released = False
        self._in_block = False

    @property
    def closed(self) -> bool:
        """Whether there is nothing to come any more: it was read to its end, or given up."""
        return self._released or self.content.is_over

    @property
    def real_url(self) -> URL:
        """The same as ``url``."""
        return self.url

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""
        return self._answer.ok

    @property
    def content_type(self) -> str:
        """What the body is: ``application/octet-stream`` when nobody says."""
        return self.headers.get("Content-Type", "application/octet-stream").partition(";")[0].strip().lower()

    @property
    def charset(self) -> str | None:
        """What the headers say of it."""
        return parse_mimetype(self.headers.get("Content-Type", "")).parameters.get("charset")

    @property
    def content_length(self) -> int | None:
        """What the headers say of it."""
        said = self.headers.get("Content-Length", "")
        return int(said) if said.isdigit() else None

    @property
    def cookies(self) -> SimpleCookie:
        """What this response sets."""
        cookies = SimpleCookie()
        for line in self.headers.getall("Set-Cookie", ()):
            try:
                cookies.load(line)
            except CookieError:
                continue
        return cookies

    def raise_for_status(self) -> None:
        """Raises `aiohttp.ClientResponseError` for a status of 400 or above."""
        if not self.ok:
            # A block gives it up at its end, and until then it can be read.
            if not self._in_block:
                self.close()
            raise aiohttp.ClientResponseError(
                self.request_info, (), status=self.status, message=self.reason, headers=self.headers
            )

    async def read(self) -> bytes:
        """The body, all of it; again, if it was asked for before and the response has not been given up."""
        if self._released:
            raise aiohttp.ClientConnectionError("Connection closed")
        if self._body is None:
            self._body = await self.content.read()
        return self._body

    def get_encoding(self) -> str:
        """The charset of the headers, and UTF-8 when there is none that is known."""
        try:
            return "utf-8" if self.charset is None else codecs.lookup(self.charset).name
        except LookupError:
            return "utf-8"

    async def text(self, encoding: str | None = None, errors: str = "strict") -> str:
        """The body as text."""
        body = await self.read() if self._body is None else self._body
        return body.decode(encoding or self.get_encoding(), errors)

    async def json(
        self,
        *,
        encoding: str | None = None,
        loads: Callable[[str], Any] = json.loads,
        content_type: str | None = "application/json",
    ) -> Any:
        """The body, read as JSON. Raises `aiohttp.ContentTypeError` when it says that it is something else."""
        if content_type and not self._is(content_type):
            raise aiohttp.ContentTypeError(
                self.request_info,
                (),
                status=self.status,
                message=f"Attempt to decode JSON with unexpected mimetype: {self.content_type}",
                headers=self.headers,
            )
        said = (await self.text(encoding)).strip()
        return loads(said) if said else None

    def _is(self, wanted: str) -> bool:
        said = self.content_type
        is_json = said == "application/json" or (said.startswith("application/") and said.endswith("+json"))
        return is_json if wanted == "application/json" else wanted in said

    def close(self) -> None:
        """Give up what has not been read."""
        self._released = True
        self._answer.close()

    def release(self) -> None:
        """The same: what has not been read costs the connection."""
        self.close()

    async def __aenter__(self) -> ClientResponse:
        self._in_block = True
        return self

    async def __aexit__(self, *_raised: object) -> None:
        self._in_block = False
        self.close()
