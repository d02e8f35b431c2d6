"""The agent of Twisted: ``KernelAgent()`` where ``Agent(reactor)`` was, and ``treq.client.HTTPClient(KernelAgent())``.

Bodies are whole, both ways: a response comes when its body has come.

# Source
F20. The interfaces are those of ``twisted.web.iweb``.
"""

from __future__ import annotations

from typing import Any, cast

from southbridge import (
    Client,
    ConnectFailedError,
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
from southbridge.adapters._request import fields_for, plain_client

try:
    from twisted.internet.defer import CancelledError, Deferred, fail, maybeDeferred, succeed
    from twisted.internet.error import ConnectError, DNSLookupError
    from twisted.internet.error import TimeoutError as ConnectTimeoutError
    from twisted.internet.interfaces import IConsumer, IProtocol, IPushProducer, ITransport
    from twisted.python.failure import Failure
    from twisted.web.client import (
        RequestGenerationFailed,
        RequestTransmissionFailed,
        ResponseDone,
        ResponseFailed,
        ResponseNeverReceived,
    )
    from twisted.web.error import SchemeNotSupported
    from twisted.web.http_headers import Headers
    from twisted.web.iweb import IAgent, IBodyProducer, IClientRequest, IResponse
    from zope.interface import implementer
except ImportError as missing:
    raise ImportError(
        "southbridge.adapters.twisted needs Twisted: pip install 'southbridge[twisted]'"
    ) from missing

__all__ = ["KernelAgent"]

# How much of a body a protocol is handed at a time.
CHUNK_BYTES = 64 * 1024


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
        """Fires with an `IResponse`, or fails as `Agent` does; the kernel's failure is among the ``reasons``."""
        asked = _Request(method, uri, headers or Headers())
        if uri.partition(b":")[0].lower() not in (b"http", b"https"):
            return fail(SchemeNotSupported(f"the kernel speaks http and https: {uri!r}"))
        body: Deferred[Any] = succeed(None) if bodyProducer is None else _Collected(bodyProducer).all
        body.addCallback(self._send, asked)
        body.addErrback(_translate)
        return body

    def _send(self, body: bytes | None, asked: _Request) -> Deferred[IResponse]:
        url = asked.absoluteURI.decode("ascii")
        lines = [(name, value) for name, values in asked.headers.getAllRawHeaders() for value in values]
        sent: Any = self._client.request(
            asked.method.decode("ascii"),
            url,
            headers=fields_for(url, lines),
            content=body or None,
            timeout=self._timeout,
            redirects_max=0,
            decompress=False,
        )
        if not isinstance(sent, Deferred):
            raise SouthbridgeError(
                "KernelAgent was used outside of the reactor's thread: use reactor.callFromThread"
            )
        return cast("Any", sent).addCallback(_Response, asked)


@implementer(IClientRequest)  # pyright: ignore[reportUntypedClassDecorator]
class _Request:
    def __init__(self, method: bytes, uri: bytes, headers: Headers) -> None:
        self.method = method
        self.absoluteURI = uri
        self.headers = headers


@implementer(IResponse)  # pyright: ignore[reportUntypedClassDecorator]
class _Response:
    """A response whose body is here, and is handed over as fast as its protocol takes it."""

    def __init__(self, answer: Response, request: _Request) -> None:
        name, _, number = answer.http_version.partition("/")
        major, _, minor = number.partition(".")
        self.version = (name.encode(), int(major), int(minor or 0))
        self.code = answer.status
        self.phrase = answer.reason.encode()
        self.headers = Headers()
        for field, value in answer.headers.raw:
            self.headers.addRawHeader(field, value)
        self.request = request
        self.previousResponse: Any = None
        self._body: bytes | None = answer.content
        self.length: Any = len(answer.content) or _length(self.headers, request)

    def setPreviousResponse(self, response: Any) -> None:
        self.previousResponse = response

    def deliverBody(self, protocol: IProtocol) -> None:
        """Once only."""
        body, self._body = self._body, None
        if body is None:
            raise RuntimeError("the body was delivered already: deliverBody is called once")
        _Delivery(protocol, body).begin()


def _length(headers: Headers, request: _Request) -> Any:
    said = (headers.getRawHeaders(b"content-length") or [b"0"])[0]
    return int(said) if request.method == b"HEAD" and said.isdigit() else 0


@implementer(IPushProducer, ITransport)  # pyright: ignore[reportUntypedClassDecorator]
class _Delivery:
    """The transport of a protocol that takes a body. It pauses and stops as a connection does."""

    disconnecting = False

    def __init__(self, protocol: Any, body: bytes) -> None:
        self._protocol: Any = protocol
        self._body = memoryview(body)
        self._flows = True
        self._delivering = False

    def begin(self) -> None:
        self._protocol.makeConnection(self)
        self._deliver()

    def pauseProducing(self) -> None:
        self._flows = False

    def resumeProducing(self) -> None:
        self._flows = True
        self._deliver()

    def stopProducing(self) -> None:
        self._end(ResponseFailed([Failure(CancelledError("the body was given up"))]))

    loseConnection = stopProducing
    abortConnection = stopProducing

    def _deliver(self) -> None:
        # A protocol may resume within its own `dataReceived`.
        if self._delivering or self._protocol is None:
            return
        self._delivering = True
        try:
            while self._flows and self._body and self._protocol is not None:
                chunk, self._body = self._body[:CHUNK_BYTES], self._body[CHUNK_BYTES:]
                self._protocol.dataReceived(bytes(chunk))
        finally:
            self._delivering = False
        if self._flows and not self._body:
            self._end(ResponseDone("Response body fully received"))

    def _end(self, why: Exception) -> None:
        protocol, self._protocol = self._protocol, None
        self._body = memoryview(b"")
        self.disconnecting = True
        if protocol is not None:
            protocol.connectionLost(Failure(why))

    def write(self, data: bytes) -> None:
        raise RuntimeError("the body of a response is read, not written")

    def writeSequence(self, data: Any) -> None:
        raise RuntimeError("the body of a response is read, not written")

    def getPeer(self) -> Any:
        raise NotImplementedError("the connection is the kernel's, and has gone on to others")

    getHost = getPeer


@implementer(IConsumer)  # pyright: ignore[reportUntypedClassDecorator]
class _Collected:
    """What a producer makes, all of it. Cancelling ``all`` stops the producer."""

    def __init__(self, producer: Any) -> None:
        self._chunks: list[bytes] = []
        self.all: Deferred[bytes] = Deferred(lambda _: producer.stopProducing())
        made = maybeDeferred(producer.startProducing, self)
        made.addCallbacks(self._done, self._failed)

    def write(self, data: bytes) -> None:
        self._chunks.append(data)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """It writes as it likes."""

    def unregisterProducer(self) -> None:
        """`startProducing` says when it has done."""

    def _done(self, _none: object) -> None:
        if not self.all.called:
            self.all.callback(b"".join(self._chunks))

    def _failed(self, why: Failure) -> None:
        if not self.all.called:
            self.all.errback(RequestGenerationFailed([why]))


def _translate(failure: Failure) -> Failure:
    error = failure.value
    if not isinstance(error, RequestError):
        return failure
    theirs = _theirs(error, failure)
    theirs.__cause__ = error
    return Failure(theirs)


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
        return RequestTransmissionFailed([failure])
    return ResponseFailed([failure]) if error.step == "body" else ResponseNeverReceived([failure])
