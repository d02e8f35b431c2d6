"""The behaviour suite once more, on the test kit: the same stories, on a clock that jumps, with peers in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import copy
from typing import TypeVar

import pytest
import southbridge
from southbridge.testing import Answer, Kernel, Request, answer, cut, drip, never

from .frontends import Frontend, Story
from .servers import Server
from .test_behaviour import (
    test_a_cut_connection_is_told_from_a_refused_one,
    test_a_get_is_answered,
    test_a_post_carries_json,
    test_a_response_can_be_awaited_again,
    test_a_timeout_is_kept_and_says_where_it_was,
    test_an_error_of_status_is_raised_on_demand,
    test_each_caller_keeps_its_context,
    test_many_are_in_flight_at_once,
    test_what_is_given_up_is_given_up_in_the_kernel,
)

T = TypeVar("T")
SERVERS = ("http1", "http2")
__all__ = [
    "test_a_cut_connection_is_told_from_a_refused_one",
    "test_a_get_is_answered",
    "test_a_post_carries_json",
    "test_a_response_can_be_awaited_again",
    "test_a_timeout_is_kept_and_says_where_it_was",
    "test_an_error_of_status_is_raised_on_demand",
    "test_each_caller_keeps_its_context",
    "test_many_are_in_flight_at_once",
    "test_what_is_given_up_is_given_up_in_the_kernel",
]


def script(request: Request) -> Answer:
    """What the peer of the suite does: see `peer.py`."""
    what, _, rest = request.path.removeprefix("/").partition("/")
    if what == "never":
        return never()
    if what == "drip":
        return drip("abcdef", piece=2, every=float(rest))
    if what == "half":
        return cut("only so much", length=100)
    if what == "delay":
        return answer(body="late", after=float(rest))
    if what == "status":
        return answer(int(rest), body="as asked")
    told = {
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "headers": request.headers.items_in_order,
        "body": request.body.decode("latin-1"),
    }
    return answer(200, {"Content-Type": "application/json"}, json.dumps(told))


def test_pieces_come_when_they_come(frontend: Frontend, server: Server) -> None:
    async def story() -> list[tuple[bytes, float]]:
        async with server.client.stream("GET", "/drip/0.2") as response:
            return [(piece, round(server.now(), 3)) async for piece in response.iter_bytes()]

    assert frontend.run(story) == [(b"ab", 0.2), (b"cd", 0.4), (b"ef", 0.6)]


def test_a_body_is_fed_piece_by_piece(frontend: Frontend, server: Server) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(5):
            yield b"x" * 100_000

    async def story() -> southbridge.Response:
        return await server.client.post("/echo", content=pieces())

    assert len(frontend.run(story).json()["body"]) == 500_000


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Kernel(seed=4) as kernel:
        scheme, version = {"http1": ("http", "HTTP/1.1"), "http2": ("https", "HTTP/2")}[request.param]
        kernel.peer(f"{scheme}://peer.test", script)
        url = f"{scheme}://peer.test"
        client = southbridge.Client(base_url=url, proxy=None)
        yield Server(url, version, client, now=lambda: kernel.now)


@pytest.fixture
def frontend(request: pytest.FixtureRequest) -> Frontend:
    from .frontends.every import frontend_called

    if request.param == "uvloop":
        pytest.skip("the time of uvloop cannot be moved")
    frontend = _OnMockClock() if request.param == "trio" else copy(frontend_called(request.param))
    # The timers of gevent cannot be moved, and it is by one of them that the story gives up.
    frontend.can_give_up = frontend.can_give_up and "gevent" not in frontend.name
    return frontend


class _OnMockClock(Frontend):
    """trio on a clock that can be moved."""

    name = "trio"

    def __init__(self) -> None:
        from .frontends.loops import Trio

        self._trio = Trio()

    def run(self, story: Story[T]) -> T:
        import trio.testing

        return trio.run(story, clock=trio.testing.MockClock())

    async def together(self, *stories: Story[T]) -> list[T]:
        return await self._trio.together(*stories)

    async def give_up(self, story: Story[object], after: float) -> str:
        return await self._trio.give_up(story, after)

    async def sleep(self, seconds: float) -> None:
        await self._trio.sleep(seconds)


@pytest.fixture
def closed_port() -> int:
    return 9
