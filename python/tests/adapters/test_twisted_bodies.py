"""Bodies under Twisted, in pieces both ways: who is slow holds the other back, and who breaks off is noticed."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
import southbridge
import treq.client
from southbridge.adapters.twisted import KernelAgent
from southbridge.testing import Kernel, Request, answer
from southbridge.testing.twisted import Clock
from twisted.internet import error
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.protocol import Protocol
from twisted.internet.task import cooperate
from twisted.protocols.basic import FileSender
from twisted.python import context
from twisted.python.failure import Failure
from twisted.python.log import ILogContext
from twisted.web.client import (
    FileBodyProducer,
    RequestGenerationFailed,
    ResponseDone,
    ResponseFailed,
    readBody,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import UNKNOWN_LENGTH, IBodyProducer
from zope.interface import implementer

from ..frontends import Frontend

pytestmark = pytest.mark.frontends("twisted", "inlineCallbacks", "twisted-asyncio")

MEGABYTE = 1 << 20


def agent() -> Any:
    return KernelAgent()


@implementer(IBodyProducer)  # pyright: ignore[reportUntypedClassDecorator]
class Pushes:
    """Writes pieces as long as it is not paused; counts what it is told."""

    def __init__(self, pieces: int, length: Any = UNKNOWN_LENGTH) -> None:
        self.length = length
        self.left = pieces
        self.told: list[str] = []
        self.at_pause: Callable[[], None] = lambda: None

    def startProducing(self, consumer: Any) -> Deferred[Any]:  # noqa: N802
        def steps() -> Any:
            while self.left:
                self.left -= 1
                yield consumer.write(b"p" * 10_000)

        self.task = cooperate(steps())
        return self.task.whenDone()

    def pauseProducing(self) -> None:  # noqa: N802
        self.told.append("pause")
        self.task.pause()
        self.at_pause()

    def resumeProducing(self) -> None:  # noqa: N802
        self.told.append("resume")
        self.task.resume()

    def stopProducing(self) -> None:  # noqa: N802
        self.told.append("stop")
        self.task.stop()


@implementer(IBodyProducer)  # pyright: ignore[reportUntypedClassDecorator]
class Pulled:
    """Has a FileSender write, which is asked for each piece."""

    length = UNKNOWN_LENGTH

    def __init__(self, content: bytes) -> None:
        self.content = content

    def startProducing(self, consumer: Any) -> Any:  # noqa: N802
        return FileSender().beginFileTransfer(io.BytesIO(self.content), consumer)

    def pauseProducing(self) -> None:  # noqa: N802
        raise AssertionError("who is pulled is not paused")

    resumeProducing = stopProducing = pauseProducing  # noqa: N815


@implementer(IBodyProducer)  # pyright: ignore[reportUntypedClassDecorator]
class Writes:
    """Writes all of it at once, whatever it has said."""

    def __init__(self, content: bytes, length: Any) -> None:
        self.content, self.length = content, length
        self.stopped = False

    def startProducing(self, consumer: Any) -> Any:  # noqa: N802
        consumer.write(self.content)
        return succeed(None)

    def pauseProducing(self) -> None:  # noqa: N802
        pass

    def resumeProducing(self) -> None:  # noqa: N802
        pass

    def stopProducing(self) -> None:  # noqa: N802
        self.stopped = True


class Takes(Protocol):
    """Takes pieces, and says how it ended."""

    def __init__(self) -> None:
        self.bytes = 0
        self.reason: Failure | None = None
        self.first: Deferred[None] = Deferred()
        self.way: Any = None

    def connectionMade(self) -> None:  # noqa: N802
        self.way = self.transport

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        self.bytes += len(data)
        if not self.first.called:
            self.first.callback(None)

    def connectionLost(self, reason: Failure = Failure(ResponseDone())) -> None:  # noqa: N802, B008
        assert self.reason is None, "told twice"
        self.reason = reason


async def until(frontend: Frontend, holds: Callable[[], object]) -> None:
    for _ in range(2000):
        if holds():
            return
        await frontend.sleep(0.01)
    raise AssertionError("it never came to that")


async def told_by(frontend: Frontend, peer: str, name: str, is_so: Callable[[Any], bool]) -> Any:
    """What the peer says of ``name``, once it is so."""
    told: Any = None
    for _ in range(1000):
        told = json.loads(await readBody(await agent().request(b"GET", f"{peer}/taken/{name}".encode())))
        if is_so(told):
            return told
        await frontend.sleep(0.01)
    raise AssertionError(f"the peer never said that, but {told}")


@pytest.mark.parametrize("length", [UNKNOWN_LENGTH, 1_000_000])
def test_a_producer_is_sent_as_it_writes(frontend: Frontend, peer: str, length: Any) -> None:
    producer = Pushes(100, length)

    async def story() -> Any:
        response = await agent().request(b"POST", f"{peer}/count/pushed".encode(), None, producer)
        return json.loads(await readBody(response))

    told = frontend.run(story)
    assert (told["bytes"], told["digest"]) == (1_000_000, hashlib.sha256(b"p" * 1_000_000).hexdigest())
    expected = (None, "chunked") if length is UNKNOWN_LENGTH else ("1000000", None)
    assert (told["length"], told["encoding"]) == expected


def test_a_producer_waits_for_the_peer(frontend: Frontend, peer: str) -> None:
    producer = Pushes(5000)

    async def story() -> tuple[int, bytes]:
        asked = agent().request(b"POST", f"{peer}/unread/0.5".encode(), None, producer)
        await until(frontend, lambda: "pause" in producer.told)
        # What the system takes beneath is not ours to bound; the rest has not been made.
        left = producer.left
        return left, await readBody(await asked)

    left, body = frontend.run(story)
    assert left > 0
    assert (producer.left, body) == (0, b"at last")
    assert producer.told.count("pause") == producer.told.count("resume") > 0


def test_a_producer_that_is_pulled_is_asked_for_each_piece(frontend: Frontend, peer: str) -> None:
    content = bytes(range(256)) * 4000

    async def story() -> Any:
        url = f"{peer}/count/pulled".encode()
        return json.loads(await readBody(await agent().request(b"PUT", url, None, Pulled(content))))

    told = frontend.run(story)
    assert (told["bytes"], told["digest"]) == (len(content), hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("length", [4, 6])
def test_a_producer_writes_what_it_has_said(frontend: Frontend, peer: str, length: int) -> None:
    async def story() -> None:
        with pytest.raises(RequestGenerationFailed) as caught:
            await agent().request(b"POST", f"{peer}/echo".encode(), None, Writes(b"bytes", length))
        assert "bytes written" in str(caught.value.args[0][0].value)

    frontend.run(story)


def test_a_producer_that_says_too_little_midway_breaks_off(frontend: Frontend, peer: str) -> None:
    async def story() -> None:
        producer = Pushes(50, 400_000)
        with pytest.raises(RequestGenerationFailed):
            await agent().request(b"POST", f"{peer}/count/midway".encode(), None, producer)
        assert producer.told[-1] == "stop"
        with pytest.raises(RequestGenerationFailed):
            await agent().request(b"POST", f"{peer}/count/short".encode(), None, Pushes(50, 600_000))
        await told_by(frontend, peer, "short", lambda told: bool(told["gone"]))

    frontend.run(story)


def test_a_producer_is_stopped_when_nobody_takes_it(frontend: Frontend, peer: str, closed_port: int) -> None:
    refused, unconnected = Pushes(100_000), Pushes(100_000)

    async def story() -> tuple[int, bytes]:
        response = await agent().request(b"POST", f"{peer}/refuse".encode(), None, refused)
        body = await readBody(response)
        await until(frontend, lambda: "stop" in refused.told)
        with pytest.raises(error.ConnectError):
            url = f"http://127.0.0.1:{closed_port}/".encode()
            await agent().request(b"POST", url, None, unconnected)
        return response.code, body

    assert frontend.run(story) == (413, b"much")
    assert unconnected.told[-1] == "stop"
    assert refused.left > 0


def test_an_answer_may_come_while_its_request_is_sent(frontend: Frontend, peer: str) -> None:
    async def story() -> int:
        response = await agent().request(b"POST", f"{peer}/early".encode(), None, Pushes(200))
        return len(await readBody(response))

    assert frontend.run(story) == 2_000_000


def test_what_a_protocol_does_not_take_is_held_back_at_the_peer(frontend: Frontend, peer: str) -> None:
    async def story() -> tuple[int, int, Failure | None]:
        response = await agent().request(b"GET", f"{peer}/flood/slow/20".encode())
        takes = Takes()
        response.deliverBody(takes)
        await takes.first
        takes.way.pauseProducing()
        seen = takes.bytes
        held = await told_by(frontend, peer, "slow", lambda told: told["bytes"] > 0)
        for _ in range(20):
            await frontend.sleep(0.01)
        assert takes.bytes == seen
        # Twenty megabytes do not fit into what lies between.
        held = (await told_by(frontend, peer, "slow", lambda _: True))["bytes"]
        takes.way.resumeProducing()
        await until(frontend, lambda: takes.reason)
        return held, takes.bytes, takes.reason

    held, taken, reason = frontend.run(story)
    assert held < 16 * MEGABYTE
    assert taken == 20 * MEGABYTE
    assert reason is not None
    assert reason.check(ResponseDone)


@pytest.mark.parametrize("how", ["abortConnection", "loseConnection", "stopProducing"])
def test_a_body_that_is_given_up_is_given_up_at_the_peer(frontend: Frontend, peer: str, how: str) -> None:
    async def story() -> tuple[Failure, Any]:
        response = await agent().request(b"GET", f"{peer}/flood/{how}/100".encode())
        takes = Takes()
        response.deliverBody(takes)
        await takes.first
        getattr(takes.way, how)()
        assert takes.reason is None, "it is told when it has returned"
        await until(frontend, lambda: takes.reason)
        assert takes.reason is not None
        # As a value: a Deferred that fires with a Failure fails.
        return takes.reason.value, await told_by(frontend, peer, how, lambda told: bool(told["gone"]))

    reason, told = frontend.run(story)
    expected = error.ConnectionAborted if how == "abortConnection" else error.ConnectionDone
    assert isinstance(reason, ResponseFailed)
    assert reason.reasons[0].check(expected)
    assert told["bytes"] < 50 * MEGABYTE


def test_a_body_without_an_end_of_its_own_may_be_less(frontend: Frontend, peer: str) -> None:
    async def story() -> tuple[Any, Any, bytes]:
        response = await agent().request(b"GET", f"{peer}/unbounded".encode())
        takes = Takes()
        response.deliverBody(takes)
        await until(frontend, lambda: takes.reason)
        chunked = await agent().request(b"GET", f"{peer}/chunks/2/5".encode())
        assert not chunked.headers.hasHeader(b"transfer-encoding")
        assert takes.reason is not None
        return (response.length, takes.bytes), takes.reason.value, await readBody(chunked)

    sizes, reason, chunked = frontend.run(story)
    assert sizes == (UNKNOWN_LENGTH, 9)
    assert isinstance(reason, PotentialDataLoss)
    assert chunked == b"c" * 10


def test_a_body_that_breaks_off_has_failed(frontend: Frontend, peer: str) -> None:
    async def story() -> tuple[int, Any]:
        response = await agent().request(b"GET", f"{peer}/torn".encode())
        takes = Takes()
        response.deliverBody(takes)
        await until(frontend, lambda: takes.reason)
        assert takes.reason is not None
        return takes.bytes, takes.reason.value

    taken, reason = frontend.run(story)
    assert taken == 4
    assert isinstance(reason, ResponseFailed)
    assert reason.reasons[0].check(southbridge.CutError)
    assert reason.reasons[1].check(error.ConnectionLost)


def test_bodies_that_are_not_there_are_over_at_once(frontend: Frontend, peer: str) -> None:
    async def story() -> list[tuple[int, int, bytes]]:
        made: list[tuple[int, int, bytes]] = []
        for method, path in ((b"HEAD", "size/12"), (b"GET", "size/0"), (b"GET", "status/304")):
            response = await agent().request(method, f"{peer}/{path}".encode())
            made.append((response.code, response.length, await readBody(response)))
        return made

    assert frontend.run(story) == [(200, 0, b""), (200, 0, b""), (304, 0, b"")]


def test_treq_streams_both_ways(frontend: Frontend, peer: str) -> None:
    async def story() -> tuple[Any, int]:
        client = treq.client.HTTPClient(agent())
        told = await (await client.post(f"{peer}/count/treq", data=io.BytesIO(b"t" * 300_000))).json()
        sizes: list[int] = []
        response = await client.get(f"{peer}/flood/treq/3", unbuffered=True)
        await response.collect(lambda piece: sizes.append(len(piece)))
        assert len(sizes) > 20
        return told, sum(sizes)

    told, taken = frontend.run(story)
    assert (told["bytes"], told["length"]) == (300_000, "300000")
    assert taken == 3 * MEGABYTE


def test_log_contexts_are_those_of_the_caller(frontend: Frontend, peer: str) -> None:
    seen: list[tuple[str, str, object]] = []

    def ask(who: str) -> Any:
        def note(value: Any, when: str) -> Any:
            seen.append((who, when, context.get(ILogContext, {}).get("who")))
            return value

        def asks() -> Any:
            answered = agent().request(b"POST", f"{peer}/early".encode(), None, Pushes(50))
            answered.addCallback(note, "head").addCallback(readBody).addCallback(note, "body")
            return answered

        return context.call({ILogContext: {"who": who}}, asks)

    async def story() -> object:
        await gatherResults([ask("one"), ask("other")])
        # Who is called back by the reactor, and not by an answer, is in nobody's.
        await frontend.sleep(0.01)
        return context.get(ILogContext, {}).get("who")

    assert frontend.run(story) is None
    assert sorted(seen) == [(who, when, who) for who in ("one", "other") for when in ("body", "head")]


@pytest.mark.frontends("twisted")
def test_bodies_cross_where_time_stands_still(frontend: Frontend) -> None:
    assert frontend.name == "twisted"

    def handler(request: Request) -> Any:
        return answer(body=request.body, after=1)

    with Kernel() as kernel:
        clock: Any = Clock(kernel)
        kernel.peer("example.org", handler)
        file = FileBodyProducer(io.BytesIO(b"f" * 1000), cooperator=_at_once())
        asked = agent().request(b"POST", b"http://example.org/", None, file)
        clock.advance(0.5)
        assert not asked.called
        clock.advance(1)
        body: Any = readBody(asked.result)
        clock.advance(1)
        assert body.result == b"f" * 1000


def _at_once() -> Any:
    from twisted.internet.task import Cooperator

    def step_now(step: Callable[[], None]) -> None:
        step()

    anyhow: Any = Cooperator
    return anyhow(scheduler=step_now, started=True)
