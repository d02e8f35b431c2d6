"""The adapter of requests: ``session.mount("http://", KernelAdapter())``, and the same for ``https://``.

Files and generators are sent as the peer takes them. With ``stream=True`` a body comes as it is read, and what is not read
is held back at the peer; without it the body comes whole, as requests has it.

# Timeouts
As in requests: seconds for the way to a connection, and for the silence of the peer. None is no bound.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Mapping
from http.client import HTTPMessage
from io import BytesIO
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

from southbridge import (
    BlockingResponse,
    BodyStoppedError,
    Client,
    ConnectFailedError,
    CutError,
    InvalidRequestError,
    InvalidSettingError,
    NameNotFoundError,
    RequestError,
    Response,
    TimedOutError,
    Timeout,
    TlsFailedError,
)
from southbridge.adapters._request import Fields, fields_for, without_loop

try:
    import requests
    from requests import exceptions
    from requests.adapters import BaseAdapter
    from requests.cookies import extract_cookies_to_jar
    from requests.structures import CaseInsensitiveDict
    from requests.utils import get_encoding_from_headers, select_proxy
    from urllib3 import HTTPHeaderDict, HTTPResponse
    from urllib3.exceptions import ProtocolError
    from urllib3.util import Timeout as Urllib3Timeout
except ImportError as missing:
    raise ImportError(
        "southbridge.adapters.requests needs requests: pip install 'southbridge[requests]'"
    ) from missing

__all__ = ["KernelAdapter"]

Answer = Response | BlockingResponse

# How many combinations of CA file, certificate and proxy are remembered.
CLIENTS_MAX = 32


class KernelAdapter(BaseAdapter):
    """Sends by the kernel, and blocks; a greenlet of gevent is parked. May be shared by threads.

    ``verify`` may be True or a file of CAs, ``cert`` a PEM file or a pair of them. ``verify=False`` and a directory of
    CAs are refused.
    """

    def __init__(self) -> None:
        super().__init__()
        self._clients = _Clients()

    def send(  # noqa: PLR0917 - as requests calls it
        self,
        request: requests.PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: bool | str = True,
        cert: Any = None,
        proxies: Mapping[str, str] | None = None,
    ) -> requests.Response:
        """Raises the exceptions of requests; the kernel's is their ``__cause__``."""
        patience = _timeout(timeout)
        way = _way(request, verify, cert, proxies)
        try:
            client = self._clients.client(way)
            answer = without_loop(lambda: _send(client, request, patience, stream))
        except InvalidSettingError as error:
            raise exceptions.InvalidSchema(str(error), request=request) from error
        except BodyStoppedError as error:
            # What a generator of the program raised is the program's.
            if isinstance(error.__cause__, Exception):
                raise error.__cause__ from None
            raise exceptions.ConnectionError(str(error), request=request) from error
        except RequestError as error:
            kind = exceptions.ProxyError if _is_proxys(error, way, request) else _kind(error)
            raise kind(str(error), request=request) from error
        return self._built(request, answer)

    def close(self) -> None:
        """Nothing: connections are the kernel's."""

    def __reduce__(self) -> tuple[type[KernelAdapter], tuple[()]]:
        # A session can be pickled; what an adapter remembers it finds again.
        return type(self), ()

    def _built(self, request: requests.PreparedRequest, answer: Answer) -> requests.Response:
        response = requests.Response()
        response.status_code = answer.status
        response.raw = _raw(request, answer)
        response.headers = CaseInsensitiveDict(response.raw.headers)
        response.encoding = get_encoding_from_headers(response.headers)
        response.reason = answer.reason
        response.url = request.url or answer.url
        cast("Any", extract_cookies_to_jar)(response.cookies, request, response.raw)
        response.request = request
        cast("Any", response).connection = self
        return response


class _Way(NamedTuple):
    """How the peer is reached."""

    ca_file: str | None
    certificate: tuple[str, str] | None
    proxy: str | None


class _Clients:
    """One client of the kernel for every way."""

    def __init__(self) -> None:
        self._known: dict[_Way, Client] = {}
        self._lock = threading.Lock()

    def client(self, way: _Way) -> Client:
        with self._lock:
            known = self._known.get(way)
            if known is None:
                while len(self._known) >= CLIENTS_MAX:
                    del self._known[next(iter(self._known))]
                known = self._known[way] = _client(way)
            return known


def _client(way: _Way) -> Client:
    return Client(
        cookies=False,
        redirects_max=0,
        decompress=False,
        proxy=way.proxy,
        ca_files=[way.ca_file] if way.ca_file else None,
        only_ca_files=True if way.ca_file else None,
        certificate=way.certificate,
    )


def _way(
    request: requests.PreparedRequest, verify: Any, cert: Any, proxies: Mapping[str, str] | None
) -> _Way:
    url = request.url or ""
    ca_file = _ca_file(url, verify, request)
    cert = cert if url.lower().startswith("https") else None
    certificate = (cert, cert) if isinstance(cert, str) else tuple(cert) if cert else None
    # Requests has asked the environment already.
    proxy = select_proxy(url, dict(proxies) if proxies else None)
    return _Way(ca_file, cast("tuple[str, str] | None", certificate), proxy or None)


def _ca_file(url: str, verify: Any, request: requests.PreparedRequest) -> str | None:
    if not url.lower().startswith("https") or verify is True or verify is None:
        return None
    if verify is False:
        raise exceptions.InvalidSchema(
            "verify=False is refused: the kernel checks every certificate; give the CA that signed it, verify='/path/ca.pem'",
            request=request,
        )
    if os.path.isdir(verify):
        raise exceptions.InvalidSchema(
            f"verify={verify!r} is a directory, and the kernel reads files: give one PEM file with the CAs in it",
            request=request,
        )
    return str(os.fspath(verify))


def _send(client: Client, request: requests.PreparedRequest, timeout: Timeout, stream: bool) -> Answer:
    url = request.url or ""
    content = _body(request)
    fields = fields_for(url, _fields(request.headers))
    if (
        not isinstance(content, bytes)
        and content is not None
        and (said := request.headers.get("Content-Length"))
    ):
        fields.append((b"content-length", _bytes(said)))
    settings: dict[str, Any] = {
        "headers": fields,
        "content": content,
        "timeout": timeout,
        "redirects_max": 0,
        "decompress": False,
    }
    if stream:
        return client.stream(request.method or "GET", url, **settings).open_now()
    return client.request(request.method or "GET", url, **settings)


def _fields(headers: Mapping[str, str | bytes]) -> Fields:
    return [(_bytes(name), _bytes(value)) for name, value in headers.items()]


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


def _body(request: requests.PreparedRequest) -> Any:
    """The body as the kernel takes it: bytes, or a file or an iterator that is read as they are sent."""
    body: Any = request.body
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    return body or None


def _timeout(said: Any) -> Timeout:
    if isinstance(said, tuple):
        try:
            connect, read = cast("tuple[Any, Any]", said)
        except ValueError:
            raise ValueError(
                f"a timeout is a number of seconds, or a pair of them (connect, read): not {said!r}"
            ) from None
        said = Urllib3Timeout(connect=connect, read=read)
    elif not isinstance(said, Urllib3Timeout):
        said = Urllib3Timeout(connect=said, read=said)
    return Timeout(connect=_seconds(said.connect_timeout), read=_seconds(said.read_timeout))


def _seconds(said: Any) -> float | None:
    return float(said) if isinstance(said, (int, float)) else None


def _lines(answer: Answer) -> list[tuple[str, str]]:
    """The header fields, as the module ``http.client`` reads them: requests knows how to go on from there."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers.raw]


def _raw(request: requests.PreparedRequest, answer: Answer) -> HTTPResponse:
    headers = HTTPHeaderDict()
    for name, value in _lines(answer):
        headers.add(name, value)
    body: Any = BytesIO(answer.content) if isinstance(answer, Response) else _Body(answer)
    return _Raw(
        body=body,
        headers=headers,
        status=answer.status,
        version={"HTTP/1.0": 10, "HTTP/1.1": 11, "HTTP/2": 20}.get(answer.http_version, 11),
        version_string=answer.http_version,
        reason=answer.reason,
        preload_content=False,
        decode_content=False,
        original_response=cast("Any", _Original(answer, body)),
        request_method=request.method,
        request_url=request.url,
    )


class _Raw(HTTPResponse):
    """Of urllib3, and reads chunks as that does: it cannot know that these were chunks on their way to the kernel."""

    def stream(self, amt: int | None = 65536, decode_content: bool | None = None) -> Generator[bytes]:
        """Pieces of ``amt`` bytes; fewer, as they come, where nobody has said how many there will be."""
        if amt == 0 or "content-length" in self.headers:
            yield from super().stream(amt, decode_content)
        else:
            while piece := self.read1(amt, decode_content):
                yield piece


class _Body:
    """What urllib3 reads from, as if it were a socket's file."""

    def __init__(self, answer: BlockingResponse) -> None:
        self._answer = answer
        self._piece = memoryview(b"")
        self.closed = False

    def read(self, amt: int | None = None) -> bytes:
        """``amt`` bytes, and fewer at the end only; all that is still to come without it."""
        if amt is None or amt < 0:
            return b"".join(iter(self.read1, b""))
        pieces = [first := self.read1(amt)]
        left = amt - len(first)
        while left and (piece := self.read1(left)):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def read1(self, amt: int = -1) -> bytes:
        """What has come, ``amt`` bytes at most; waits for something. Nothing at the end."""
        if amt == 0 or self.closed:
            return b""
        if not self._piece:
            self._piece = memoryview(self._next())
        cut = len(self._piece) if amt < 0 else amt
        taken, self._piece = bytes(self._piece[:cut]), self._piece[cut:]
        if not taken:
            self.close()
        return taken

    def _next(self) -> bytes:
        try:
            return without_loop(self._answer.read_piece)
        except (TimedOutError, CutError):
            # They are what urllib3 looks for: a TimeoutError and a ConnectionError.
            raise
        except RequestError as error:
            raise ProtocolError(str(error), error) from error

    def close(self) -> None:
        """Give up what has not been read."""
        self.closed = True
        self._piece = memoryview(b"")
        self._answer.close()


class _Original:
    """What cookies are read from."""

    def __init__(self, answer: Answer, body: Any) -> None:
        self._body = body
        self.msg = HTTPMessage()
        for name, value in _lines(answer):
            self.msg[name] = value

    def isclosed(self) -> bool:
        return bool(self._body.closed)

    def close(self) -> None:
        self._body.close()


def _is_proxys(error: RequestError, way: _Way, request: requests.PreparedRequest) -> bool:
    """Whether it is the proxy that could not be reached. Loopback is never asked through one."""
    host = urlsplit(request.url or "").hostname or ""
    is_near = host == "localhost" or host.startswith("127.") or host == "::1"
    return (
        way.proxy is not None and not is_near and isinstance(error, (ConnectFailedError, NameNotFoundError))
    )


def _kind(error: RequestError) -> type[exceptions.RequestException]:
    if isinstance(error, TimedOutError):
        waits = ("request", "response", "body")
        return exceptions.ReadTimeout if error.step in waits else exceptions.ConnectTimeout
    if isinstance(error, TlsFailedError):
        return exceptions.SSLError
    if isinstance(error, InvalidRequestError):
        return exceptions.InvalidURL if "URL" in str(error) else exceptions.RequestException
    if isinstance(error, CutError) and error.step == "body":
        return exceptions.ChunkedEncodingError
    return exceptions.ConnectionError
