"""The agent of Twisted: ``KernelAgent()`` where ``Agent(reactor)`` was, and ``treq.client.HTTPClient(KernelAgent())``.

Bodies go in pieces, both ways: what a protocol does not take is held back at the peer, and what the peer does not take
is not asked of a producer.

# Source
F20. The interfaces are those of ``twisted.web.iweb``.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from southbridge import (
    Client,
    ConnectFailedError,
    CutError,
    HostDownError,
    InvalidRequestError,
    InvalidSettingError,
    NameNotFoundError,
    OverloadedError,
    RequestError,
    Response,
    SouthbridgeError,
    TimedOutError,
    Timeout,
)
from southbridge._kernel import Exchange
from southbridge.adapters._request import fields_for, plain_client

try:
    from twisted.internet.defer import Deferred, fail
    from twisted.internet.error import ConnectError, ConnectionLost, DNSLookupError
    from twisted.internet.error import TimeoutError as ConnectTimeoutError
    from twisted.internet.interfaces import IProtocol
    from twisted.python.failure import Failure
    from twisted.web.client import (
        RequestGenerationFailed,
        RequestTransmissionFailed,
        ResponseDone,
        ResponseFailed,
        ResponseNeverReceived,
    )
    from twisted.web.error import SchemeNotSupported
    from twisted.web.http import PotentialDataLoss
    from twisted.web.http_headers import Headers
    from twisted.web.iweb import UNKNOWN_LENGTH, IAgent, IBodyProducer, IClientRequest, IResponse
    from zope.interface import implementer

    from southbridge.adapters._twisted_bodies import Exchanging, Upload
except ImportError as missing:
    raise ImportError(
        "southbridge.adapters.twisted needs Twisted: pip install 'southbridge[twisted]'"
    ) from missing

__all__ = ["KernelAgent"]

# RFC 9110, 5.6.2, and what a URI may hold at all; the kernel reads it closely.
METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
URI = re.compile(rb"[\x21-\x7e]+")
# What Twisted keeps from the headers of a response, because it is about the connection.
OF_THE_CONNECTION = frozenset(
    (
        *(b"connection", b"content-length", b"keep-alive", b"proxy-connection"),
        *(b"te", b"trailers", b"transfer-encoding", b"upgrade"),
    )
)


@implementer(IAgent)  # pyright: ignore[reportUntypedClassDecorator]
class KernelAgent:
    """Sends by the kernel. To be used in the thread of the reactor, whichever the program installed.

    ``client`` says how connections are made (proxy, CA files, certificate, HTTP/2), ``timeout`` how long to wait for
    what. Cancelling the Deferred cancels in the kernel.
    """

    def __init__(self, client: Client | None = None, *, timeout: Timeout | None = None) -> None:
        self._client = client or plain_client()
        self._timeout = timeout or Timeout()

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Fires when the head of the response has come, or fails as `Agent` does; the kernel's failure is among the
        ``reasons``.

        Raises `ValueError` for a method or a URI that is none.
        """
        asked = Asked(_checked(METHOD, "method", method), _checked(URI, "URI", uri.strip()), headers)
        if asked.absoluteURI.partition(b":")[0].lower() not in (b"http", b"https"):
            return fail(SchemeNotSupported(f"the kernel speaks http and https: {uri!r}"))
        if not _reactor_is_here():
            return fail(SouthbridgeError(OUTSIDE))
        upload = None if bodyProducer is None else Upload(bodyProducer)
        try:
            answer: Any = self._ask(asked, upload)
        except Exception:
            if upload is not None:
                upload.stop()
            answer = fail(Failure())
        return answer.addErrback(partial(translated, upload))

    def _ask(self, asked: Asked, upload: Upload | None) -> Deferred[Any]:
        if upload is not None and upload.failure is not None:
            return fail(upload.failure)
        whole = b"" if upload is None else upload.whole()
        url = asked.absoluteURI.decode("ascii")
        fields = fields_for(url, lines(asked.headers))
        if whole is None and upload is not None and upload.length is not None:
            fields.append((b"content-length", b"%d" % upload.length))
        stream = self._client.stream(
            asked.method.decode("ascii"),
            url,
            headers=fields,
            # What is fed by hand is fed from nowhere else.
            content=iter(()) if whole is None else whole or None,
            timeout=self._timeout,
            redirects_max=0,
            decompress=False,
        )
        return self._answered(stream.exchange, asked, upload if whole is None else None)

    def _answered(self, exchange: Exchange, asked: Asked, upload: Upload | None) -> Deferred[Any]:
        return answered(exchange, asked, upload)


@implementer(IClientRequest)  # pyright: ignore[reportUntypedClassDecorator]
class Asked:
    """What was asked for, as Twisted shows it to whoever looks at a response."""

    def __init__(self, method: bytes, uri: bytes, headers: Headers | None) -> None:
        self.method = method
        self.absoluteURI = uri
        self.headers = Headers() if headers is None else headers


@implementer(IResponse)  # pyright: ignore[reportUntypedClassDecorator]
class AgentResponse:
    """A response whose head is here; its body comes when it is asked for."""

    def __init__(self, head: Response, request: Asked, exchanging: Exchanging) -> None:
        name, _, number = head.http_version.partition("/")
        major, _, minor = number.partition(".")
        self.version = (name.encode(), int(major), int(minor or 0))
        self.code = head.status
        self.phrase = head.reason.encode()
        self.headers, framing = _split(head, request.method == b"HEAD")
        self.request = request
        self.previousResponse: Any = None
        has_none = request.method == b"HEAD" or self.code in (204, 304)
        self.length: Any = 0 if has_none else int(framing.get(b"content-length", -1))
        # Who says neither how much it is nor that it is over, cannot be told from one who breaks off.
        self._may_be_cut = self.length < 0 and major == "1" and b"transfer-encoding" not in framing
        if self.length < 0:
            self.length = UNKNOWN_LENGTH
        self._exchanging: Exchanging | None = exchanging

    def setPreviousResponse(self, response: Any) -> None:
        self.previousResponse = response

    def deliverBody(self, protocol: IProtocol) -> None:
        """Once only."""
        exchanging, self._exchanging = self._exchanging, None
        if exchanging is None:
            raise RuntimeError("the body was delivered already: deliverBody is called once")
        exchanging.deliver(protocol, partial(self._ended, protocol))

    def _ended(self, protocol: Any, why: Failure | None) -> None:
        if why is not None:
            reason: Any = ResponseFailed(_reasons(why), self)
            reason.__cause__ = why.value
        elif self._may_be_cut:
            reason = PotentialDataLoss()
        else:
            reason = ResponseDone("Response body fully received")
        protocol.connectionLost(Failure(reason))


def answered(
    exchange: Exchange,
    asked: Asked,
    upload: Upload | None = None,
    respond: Callable[..., AgentResponse] = AgentResponse,
) -> Deferred[Any]:
    """Send what ``exchange`` is to send; fires with an `IResponse`, or fails as the kernel does."""
    exchanging = Exchanging(exchange, upload)
    answer: Deferred[Any] = exchanging.answered
    exchanging.begin()
    return answer.addCallback(respond, asked, exchanging)


def _split(head: Response, asked_for_head: bool) -> tuple[Headers, dict[bytes, bytes]]:
    headers, framing = Headers(), dict[bytes, bytes]()
    for field, value in head.headers.raw:
        name = field.lower()
        if name in OF_THE_CONNECTION and not (asked_for_head and name == b"content-length"):
            framing[name] = value
        else:
            headers.addRawHeader(field, value)
    return headers, framing


def _checked(pattern: re.Pattern[bytes], what: str, said: bytes) -> bytes:
    if pattern.fullmatch(said) is None:
        raise ValueError(f"Invalid {what} {said!r}")
    return said


def lines(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Every line of ``headers``."""
    return [(name, value) for name, values in headers.getAllRawHeaders() for value in values]


OUTSIDE = "KernelAgent was used outside of the reactor's thread: use reactor.callFromThread"


def _reactor_is_here() -> bool:
    if "twisted.internet.reactor" not in sys.modules:
        return False
    from southbridge._frontends import twisted

    try:
        looping = asyncio.get_running_loop()
    except RuntimeError:
        looping = None
    return twisted.is_here(looping)


def translated(upload: Upload | None, failure: Failure) -> Failure:
    """The kernel's ``failure`` as `Agent` would have had it."""
    error = failure.value
    if upload is not None and failure is upload.failure:
        return Failure(RequestGenerationFailed([failure]))
    if not isinstance(error, RequestError):
        return failure
    theirs = _theirs(error, failure)
    theirs.__cause__ = error
    return Failure(theirs)


def _reasons(failure: Failure) -> list[Failure]:
    """The kernel's failure, and what Twisted would have said of it."""
    if isinstance(failure.value, CutError):
        return [failure, Failure(ConnectionLost(str(failure.value)))]
    return [failure]


def _theirs(error: RequestError, failure: Failure) -> Exception:
    said = str(error)
    if isinstance(error, NameNotFoundError):
        return DNSLookupError(said)
    if isinstance(error, TimedOutError) and error.step in ("admission", "discovery", "connect", "handshake"):
        return ConnectTimeoutError(string=said)
    if isinstance(error, (ConnectFailedError, HostDownError, OverloadedError)):
        return ConnectError(string=said)
    if isinstance(error, (InvalidRequestError, InvalidSettingError)):
        return RequestGenerationFailed([failure])
    if error.step == "request":
        return RequestTransmissionFailed(_reasons(failure))
    return ResponseNeverReceived(_reasons(failure))
