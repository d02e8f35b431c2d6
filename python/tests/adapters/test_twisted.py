"""What a program sees that uses the kernel's agent, by itself and under treq: in the reactor, whichever it is."""

from __future__ import annotations

import json
from typing import Any

import pytest
import southbridge
import treq
import treq.client
from southbridge.adapters.twisted import KernelAgent
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import (
    FileBodyProducer,
    RedirectAgent,
    RequestGenerationFailed,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
    readBody,
)
from twisted.web.error import SchemeNotSupported
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer
from zope.interface.verify import verifyObject

from ..frontends import Frontend

pytestmark = pytest.mark.frontends("twisted", "inlineCallbacks", "twisted-asyncio")


def agent() -> Any:
    return KernelAgent()


def test_an_agent_answers_with_a_response(frontend: Frontend, peer: str) -> None:
    async def story() -> tuple[Any, bytes]:
        headers = Headers({b"X-Own": [b"one", b"two"], b"Host": [peer.removeprefix("http://").encode()]})
        response = await agent().request(b"GET", f"{peer}/echo?a=1".encode(), headers)
        return response, await readBody(response)

    assert verifyObject(IAgent, agent())
    response, body = frontend.run(story)
    assert verifyObject(IResponse, response)
    assert (response.code, response.phrase, response.version) == (200, b"OK", (b"HTTP", 1, 1))
    assert (response.length, response.previousResponse) == (len(body), None)
    assert (response.request.method, response.request.absoluteURI) == (b"GET", f"{peer}/echo?a=1".encode())
    assert response.headers.getRawHeaders(b"content-type") == [b"application/json"]
    told = json.loads(body)
    assert told["query"] == "a=1"
    assert [value for name, value in told["headers"] if name.lower() == "x-own"] == ["one", "two"]


def test_a_body_is_produced(frontend: Frontend, peer: str) -> None:
    async def story() -> bytes:
        import io

        producer = FileBodyProducer(io.BytesIO(b"y" * 200_000))
        response = await agent().request(b"POST", f"{peer}/echo".encode(), None, producer)
        body: bytes = await readBody(response)
        return body

    assert json.loads(frontend.run(story))["body"] == "y" * 200_000


class Slow(Protocol):
    """Pauses after every piece."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.done: Deferred[Failure] = Deferred()

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        from twisted.internet import reactor

        self.pieces.append(data)
        transport: Any = self.transport
        transport.pauseProducing()
        looks: Any = reactor
        looks.callLater(0, transport.resumeProducing)

    def connectionLost(self, reason: Failure = Failure(ResponseDone())) -> None:  # noqa: N802, B008
        self.done.callback(reason)


def test_a_body_is_delivered_as_fast_as_it_is_taken(frontend: Frontend, peer: str) -> None:
    async def story() -> tuple[list[int], bool]:
        response = await agent().request(b"GET", f"{peer}/size/200000".encode())
        slow = Slow()
        response.deliverBody(slow)
        # As a value: a Deferred that fires with a Failure fails.
        ended: list[Failure] = []
        slow.done.addErrback(ended.append)
        while not ended:
            await frontend.sleep(0)
        with pytest.raises(RuntimeError, match="once"):
            response.deliverBody(Slow())
        assert response.length == 200_000
        return [len(piece) for piece in slow.pieces], ended[0].check(ResponseDone) is not None

    sizes, is_done = frontend.run(story)
    assert (sum(sizes), is_done) == (200_000, True)
    assert len(sizes) > 1


def test_failures_are_those_of_twisted(frontend: Frontend, peer: str, closed_port: int) -> None:
    async def ask(path: str, **settings: Any) -> Any:
        return await KernelAgent(**settings).request(b"POST", path.encode())

    async def story() -> None:
        with pytest.raises(error.ConnectError) as refused:
            await ask(f"http://127.0.0.1:{closed_port}/")
        assert isinstance(refused.value.__cause__, southbridge.ConnectFailedError)
        with pytest.raises(ResponseNeverReceived) as silent:
            await ask(f"{peer}/never", timeout=southbridge.Timeout(read=0.1))
        assert silent.value.reasons[0].check(southbridge.TimedOutError)
        with pytest.raises(ResponseNeverReceived) as cut:
            await ask(f"{peer}/cut")
        assert cut.value.reasons[0].check(southbridge.CutError)
        assert cut.value.reasons[1].check(error.ConnectionLost)
        response = await ask(f"{peer}/half")
        with pytest.raises(ResponseFailed) as half:
            await readBody(response)
        assert half.value.reasons[0].check(southbridge.CutError)
        assert half.value.response is response
        with pytest.raises(SchemeNotSupported):
            await ask("ftp://localhost/")
        for method, uri in ((b"GET /", peer.encode()), (b"GET", f"{peer}/a b".encode())):
            with pytest.raises(ValueError, match="Invalid"):
                agent().request(method, uri)
        with pytest.raises(RequestGenerationFailed) as other:
            await agent().request(b"GET", peer.encode(), Headers({b"Host": [b"other.test"]}))
        assert isinstance(other.value.__cause__, southbridge.InvalidRequestError)

    frontend.run(story)


@implementer(IBodyProducer)  # pyright: ignore[reportUntypedClassDecorator]
class Stuck:
    """Never has anything, or fails."""

    length = 10

    def __init__(self, why: Exception | None = None) -> None:
        self.why = why
        self.stopped = False

    def startProducing(self, consumer: object) -> Deferred[None]:  # noqa: N802
        if self.why is not None:
            raise self.why
        return Deferred()

    def stopProducing(self) -> None:  # noqa: N802
        self.stopped = True

    def pauseProducing(self) -> None:  # noqa: N802
        pass

    def resumeProducing(self) -> None:  # noqa: N802
        pass


def test_cancelling_crosses(frontend: Frontend, peer: str) -> None:
    stuck = Stuck()

    async def waits() -> None:
        await agent().request(b"GET", f"{peer}/never".encode())

    async def produces() -> None:
        await agent().request(b"POST", f"{peer}/echo".encode(), None, stuck)

    async def story() -> tuple[str, str, int]:
        first = await frontend.give_up(waits, after=0.1)
        second = await frontend.give_up(produces, after=0.1)
        return first, second, (await agent().request(b"GET", f"{peer}/status/204".encode())).code

    assert frontend.run(story) == (CancelledError.__name__, CancelledError.__name__, 204)
    assert stuck.stopped


def test_a_producer_that_fails_fails_the_request(frontend: Frontend, peer: str) -> None:
    async def story() -> None:
        with pytest.raises(RequestGenerationFailed) as caught:
            await agent().request(b"POST", f"{peer}/echo".encode(), None, Stuck(OSError("no disk")))
        assert caught.value.args[0][0].check(OSError)

    frontend.run(story)


def test_redirect_agent_follows(frontend: Frontend, peer: str) -> None:
    async def story() -> Any:
        return await RedirectAgent(agent()).request(b"GET", f"{peer}/redirect/1".encode())

    response = frontend.run(story)
    assert (response.code, response.previousResponse.code) == (200, 302)


def test_treq_works_on_it(frontend: Frontend, peer: str) -> None:
    async def story() -> tuple[Any, str, str, int]:
        client = treq.client.HTTPClient(agent())
        told = await (await client.post(f"{peer}/echo", json={"a": 1}, params={"b": "2"})).json()
        zipped = await (await client.get(f"{peer}/zipped/1000")).text()
        after = await client.get(f"{peer}/redirect/1")
        again = await after.json()
        heard = {name.lower(): value for name, value in again["headers"]}
        with pytest.raises(CancelledError):
            await client.get(f"{peer}/never", timeout=0.1)
        return told, zipped, heard["cookie"], len(after.history())

    told, zipped, cookie, visited = frontend.run(story)
    assert (told["query"], json.loads(told["body"])) == ("b=2", {"a": 1})
    assert (zipped, cookie, visited) == ("z" * 1000, "seen=0", 2)
