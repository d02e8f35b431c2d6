"""Transports of httpx: ``httpx.Client(transport=KernelTransport())``, ``httpx.AsyncClient(transport=AsyncKernelTransport())``.

Bodies go in pieces, both ways: what the program does not read is held back at the peer, and what the peer does not
take is not asked of a generator.

# Timeouts
``connect`` bounds the way to a connection, with the wait for a place in the pool (``pool`` counts when ``connect`` is
None). ``read`` bounds the silence of the peer, while it is written to as well; ``write`` is not looked at.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from southbridge import (
    BlockingResponse,
    BodyStoppedError,
    Client,
    ConnectFailedError,
    CutError,
    DecodeFailedError,
    HostDownError,
    InvalidRequestError,
    InvalidSettingError,
    NameNotFoundError,
    OverloadedError,
    PeerMisbehavedError,
    RequestError,
    Stream,
    StreamedResponse,
    TimedOutError,
    Timeout,
    TlsFailedError,
    TooLargeError,
)
from southbridge.adapters._request import fields_for, plain_client, without_loop

try:
    import httpx
except ImportError as missing:
    raise ImportError("southbridge.adapters.httpx needs httpx: pip install 'southbridge[httpx]'") from missing

__all__ = ["AsyncKernelTransport", "ConnectionCutError", "KernelTransport"]


class ConnectionCutError(httpx.ReadError, httpx.RemoteProtocolError):
    """The connection broke before the response was whole. httpx says one or the other, by how it broke."""


class KernelTransport(httpx.BaseTransport):
    """Sends by the kernel, and blocks; a greenlet of gevent is parked. May be shared by threads.

    ``client`` says how connections are made (proxy, CA files, certificate, HTTP/2). Without one the environment says
    which proxy is asked, and there are no cookies but those of httpx.
    """

    def __init__(self, client: Client | None = None) -> None:
        self._client = client or plain_client()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Raises the exceptions of httpx; the kernel's is their ``__cause__``."""
        body: Any = request.stream
        content = request.read() if isinstance(body, httpx.ByteStream) else iter(body)
        try:
            response = without_loop(_stream(self._client, request, content).open_now)
        except RequestError as error:
            raise _translated(error, request) from error
        return _answer(response, _Body(response, request))


class AsyncKernelTransport(httpx.AsyncBaseTransport):
    """The same for coroutines, under asyncio and trio. Cancelling the task, or its scope, cancels in the kernel."""

    def __init__(self, client: Client | None = None) -> None:
        self._client = client or plain_client()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises the exceptions of httpx; the kernel's is their ``__cause__``."""
        body: Any = request.stream
        content = await request.aread() if isinstance(body, httpx.ByteStream) else body
        try:
            response = await _stream(self._client, request, content).open()
        except RequestError as error:
            raise _translated(error, request) from error
        return _answer(response, _AsyncBody(response, request))


class _Body(httpx.SyncByteStream):
    """The body of a response, as it comes."""

    def __init__(self, response: BlockingResponse, request: httpx.Request) -> None:
        self._response = response
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        try:
            while piece := without_loop(self._response.read_piece):
                yield piece
        except RequestError as error:
            raise _translated(error, self._request) from error

    def close(self) -> None:
        self._response.close()


class _AsyncBody(httpx.AsyncByteStream):
    """The same, where a loop runs."""

    def __init__(self, response: StreamedResponse, request: httpx.Request) -> None:
        self._response = response
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while piece := await self._response.read_piece():
                yield piece
        except RequestError as error:
            raise _translated(error, self._request) from error

    async def aclose(self) -> None:
        self._response.close()


def _stream(client: Client, request: httpx.Request, content: Any) -> Stream:
    if request.url.scheme not in ("http", "https"):
        raise httpx.UnsupportedProtocol(
            f"{request.url.scheme!r} is not a scheme that the kernel speaks", request=request
        )
    # The name and the password of a URL are in the header already.
    url = str(request.url.copy_with(userinfo=b"", fragment=None))
    fields = fields_for(url, request.headers.raw)
    if not isinstance(content, bytes) and "content-length" in request.headers:
        fields.append((b"content-length", request.headers["content-length"].encode()))
    return client.stream(
        request.method,
        url,
        headers=fields,
        content=content or None,
        timeout=_timeout(request.extensions.get("timeout", {})),
        redirects_max=0,
        decompress=False,
    )


def _timeout(said: dict[str, float | None]) -> Timeout:
    connect = said.get("connect")
    return Timeout(connect=said.get("pool") if connect is None else connect, read=said.get("read"))


def _answer(response: BlockingResponse | StreamedResponse, body: _Body | _AsyncBody) -> httpx.Response:
    extensions: dict[str, Any] = {
        "http_version": response.http_version.encode(),
        "reason_phrase": response.reason.encode(),
    }
    # As a stream, so that httpx measures `elapsed` and decodes.
    return httpx.Response(
        response.status,
        headers=response.headers.raw,
        stream=body,
        extensions=extensions,
    )


def _translated(error: RequestError, request: httpx.Request) -> Exception:
    # What a generator of the program raised is the program's.
    if isinstance(error, BodyStoppedError) and isinstance(error.__cause__, Exception):
        return error.__cause__
    return _kind(error, request)(str(error), request=request)


def _kind(error: RequestError, request: httpx.Request) -> type[httpx.RequestError]:
    if isinstance(error, TimedOutError):
        # Who set no time for the pool means the way to a connection, and a place is part of it.
        said = request.extensions.get("timeout", {})
        is_pools = error.step == "admission" and said.get("pool") is not None
        return httpx.PoolTimeout if is_pools else TIMEOUTS.get(error.step, httpx.ConnectTimeout)
    if isinstance(error, CutError):
        return httpx.WriteError if error.step == "request" else ConnectionCutError
    for ours, theirs in KINDS:
        if isinstance(error, ours):
            return theirs
    return httpx.TransportError


TIMEOUTS: dict[str, type[httpx.RequestError]] = {
    "request": httpx.WriteTimeout,
    "response": httpx.ReadTimeout,
    "body": httpx.ReadTimeout,
}
KINDS: tuple[tuple[type[RequestError], type[httpx.RequestError]], ...] = (
    (ConnectFailedError, httpx.ConnectError),
    (NameNotFoundError, httpx.ConnectError),
    (TlsFailedError, httpx.ConnectError),
    (HostDownError, httpx.ConnectError),
    (OverloadedError, httpx.PoolTimeout),
    (PeerMisbehavedError, httpx.RemoteProtocolError),
    (TooLargeError, httpx.ReadError),
    (DecodeFailedError, httpx.DecodingError),
    (BodyStoppedError, httpx.WriteError),
    (InvalidRequestError, httpx.LocalProtocolError),
    (InvalidSettingError, httpx.LocalProtocolError),
)
