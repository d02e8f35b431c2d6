"""Marks: what a program says that it is doing."""

from __future__ import annotations

import asyncio
import contextvars
import http.client
import json
import socket
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import pytest
import southbridge
from southbridge import mark


@pytest.fixture(autouse=True)
def _kernel_runs(peer: str) -> None:
    southbridge.get(f"{peer}/size/1")


def told() -> dict[str, list[str]]:
    """The marks of this process, and what each is within."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(southbridge.debug_socket()))
    connection.request("GET", "/debug/marks")
    views: Any = json.loads(connection.getresponse().read())
    connection.close()
    return {view["name"]: view["within"] for view in views["marks"]}


def test_marks_nest_and_end() -> None:
    with mark("outer"), mark("inner") as inner:
        assert inner.name == "inner"
        assert told() == {"outer": [], "inner": ["outer"]}
    assert told() == {}


def test_a_mark_ends_with_its_exception() -> None:
    with pytest.raises(ZeroDivisionError), mark("dividing"):
        _ = 1 / 0
    assert told() == {}


def test_threads_have_marks_of_their_own() -> None:
    entered, done = threading.Event(), threading.Event()

    def work() -> None:
        with mark("in a thread"):
            entered.set()
            done.wait(10)

    with mark("starting"):
        thread = threading.Thread(target=work)
        thread.start()
        assert entered.wait(10)
        assert told() == {"starting": [], "in a thread": []}
        done.set()
        thread.join()
    assert told() == {}


def test_tasks_have_marks_of_their_own_and_begin_in_that_of_their_maker() -> None:
    seen: list[dict[str, list[str]]] = []

    async def work(name: str, turn: asyncio.Event) -> None:
        with mark(name):
            await turn.wait()
        seen.append(told())

    async def main() -> None:
        first, second = asyncio.Event(), asyncio.Event()
        async with mark("main"):
            tasks = [asyncio.create_task(work("a", first)), asyncio.create_task(work("b", second))]
            await asyncio.sleep(0)
            assert told() == {"main": [], "a": ["main"], "b": ["main"]}
            # They end in the order in which they came, and not as blocks of one thread would.
            first.set()
            await tasks[0]
            second.set()
            await tasks[1]
        assert seen == [{"main": [], "b": ["main"]}, {"main": []}]

    asyncio.run(main())
    assert told() == {}


def test_one_mark_may_be_entered_by_several_tasks() -> None:
    shared = mark("shared")

    async def work(name: str, turn: asyncio.Event) -> None:
        with mark(name), shared:
            await turn.wait()
            assert told()["last" if name == "first" else name] == []

    async def main() -> None:
        turns = asyncio.Event(), asyncio.Event()
        tasks = [
            asyncio.create_task(work(name, turn)) for name, turn in zip(("first", "last"), turns, strict=True)
        ]
        await asyncio.sleep(0)
        for turn, task in zip(turns, tasks, strict=True):
            turn.set()
            await task

    asyncio.run(main())
    assert told() == {}


def test_functions_of_every_kind_can_be_marked() -> None:
    @mark("plain")
    def plain(one: int) -> int:
        assert told() == {"plain": []}
        return one + 1

    @mark("generator")
    def generator() -> Iterator[int]:
        assert told() == {"generator": []}
        yield 1

    @mark("coroutine")
    async def coroutine() -> int:
        assert told() == {"coroutine": []}
        return 3

    @mark("both")
    async def both() -> AsyncIterator[int]:
        assert told() == {"both": []}
        yield 4

    async def main() -> None:
        assert await coroutine() == 3
        assert [one async for one in both()] == [4]

    assert plain(1) == 2
    assert list(generator()) == [1]
    asyncio.run(main())
    assert plain.__name__ == "plain"
    assert told() == {}


def test_a_mark_that_is_left_elsewhere_or_never_is_over_all_the_same() -> None:
    def generator() -> Generator[None]:
        with mark("suspended"):
            yield

    one, other = generator(), generator()
    contextvars.copy_context().run(next, one)
    next(other)
    assert list(told()) == ["suspended"]
    one.close()
    other.close()
    kept = mark("thrown away")
    kept.__enter__()
    assert told() == {"thrown away": []}
    del kept
    assert told() == {}


def test_names_are_bounded_and_any_text() -> None:
    with mark("é" * 100), mark("half\ud800"), mark(""):
        empty, half, long = told()
        assert (empty, half.rstrip("\ufffd"), long) == ("", "half", "é" * 32)
    with pytest.raises(TypeError):
        mark(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_more_marks_than_are_shown_do_no_harm() -> None:
    many = [mark("many") for _ in range(2000)]
    for one in many:
        one.__enter__()
    assert list(told()) == ["many"]
    for one in reversed(many):
        one.__exit__(None, None, None)
    assert told() == {}
    with mark("again"):
        assert told() == {"again": []}
