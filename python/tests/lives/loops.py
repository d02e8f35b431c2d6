"""Event loops that come and go, and tasks that are cut short: ``loops NAME URL …``."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

import southbridge


def held() -> tuple[int, int]:
    """Descriptors and threads of this process."""
    gc.collect()
    return len(os.listdir("/proc/self/fd")), threading.active_count()


def waiting(url: str, key: str, count: str) -> bool:
    """Whether it comes to that soon, that so many wait at the peer."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if southbridge.get(f"{url}/waiting/{key}").text == count:
            return True
    return False


def run_again_and_again(url: str, rounds: str) -> None:
    """`asyncio.run`, a thousand times: each loop has a port and a descriptor, and none outlives it."""

    async def main() -> int:
        return (await southbridge.get(f"{url}/size/1")).status

    # The port of this thread, by which it asks below, stays for as long as the thread; and the timer of the kernel, which the
    # first that waits out its deadline makes, as long as the kernel.
    with suppress(southbridge.TimedOutError):
        southbridge.get(f"{url}/never/again", timeout=0.05)
    told = {asyncio.run(main()) for _ in range(10)}
    before = held()
    told |= {asyncio.run(main()) for _ in range(int(rounds))}
    # The kernel lets go of a port when it next looks, and may have closed an idle connection of before.
    deadline = time.monotonic() + 20
    while held() > before and time.monotonic() < deadline:
        southbridge.get(f"{url}/size/1")
    print(told, "kept" if held() <= before else f"{before} became {held()}")


def closed_in_flight(url: str, rounds: str) -> None:
    """Loops that are closed with requests and bodies in flight, and others after them in the same thread."""

    async def draw() -> None:
        async with southbridge.stream("GET", f"{url}/never/closed") as response:
            await response.read()

    async def feed() -> None:
        await southbridge.post(f"{url}/never/closed", content=without_end())

    async def without_end() -> AsyncIterator[bytes]:
        yield b"begun"
        await asyncio.get_running_loop().create_future()

    def once() -> None:
        loop = asyncio.new_event_loop()
        ways: list[Callable[[], Coroutine[Any, Any, object]]] = [draw, feed]
        ways += [partial(ask, f"{url}/never/closed")] * 5
        tasks: list[Any] = [loop.create_task(way()) for way in ways]
        status = loop.run_until_complete(ask(f"{url}/size/1"))
        assert status == 200
        loop.close()
        for task in tasks:
            # It would say that it was destroyed while it was pending, which is what this is about.
            task._log_destroy_pending = False

    once()
    gone = waiting(url, "closed", "0")
    before = held()
    for _ in range(int(rounds)):
        once()
    gc.collect()
    gone = gone and waiting(url, "closed", "0")
    after = held()
    # Connections that were given up are closed, and so are the ports; one more may be kept alive to be used again.
    print(
        "given up" if gone else "still waiting", "kept" if after[0] <= before[0] + 2 else f"{before}, {after}"
    )


async def ask(url: str) -> int:
    return (await southbridge.get(url)).status


def timeouts(url: str) -> None:
    """Every way in which asyncio cuts a wait short, and none leaves a request behind."""

    async def by_wait_for() -> None:
        await asyncio.wait_for(southbridge.get(f"{url}/never/timeouts"), 0.1)

    async def by_wait() -> None:
        task = asyncio.ensure_future(southbridge.get(f"{url}/never/timeouts"))
        _done, pending = await asyncio.wait([task], timeout=0.1)
        for one in pending:
            one.cancel()
        raise TimeoutError

    # Of CPython 3.11 and later.
    newer: Any = asyncio

    async def by_timeout() -> None:
        async with newer.timeout(0.1):
            await southbridge.get(f"{url}/never/timeouts")

    async def by_group() -> None:
        async def fail() -> None:
            await southbridge.get(f"{url}/delay/0.1")
            raise TimeoutError

        try:
            async with newer.TaskGroup() as group:
                group.create_task(ask(f"{url}/never/timeouts"))
                group.create_task(fail())
        except BaseException as group_error:
            raise group_error.exceptions[0] from None  # type: ignore[attr-defined]

    async def main() -> None:
        ways = [by_wait_for, by_wait]
        if sys.version_info >= (3, 11):
            ways += [by_timeout, by_group]
        for way in ways:
            with suppress(TimeoutError, asyncio.TimeoutError):
                await way()
                print(way.__name__, "did not end")
            print((await southbridge.get(f"{url}/status/200")).status, end=" ")

    asyncio.run(main())
    print("given up" if waiting(url, "timeouts", "0") else "still waiting")


def trio_scopes(url: str) -> None:
    """Cancel scopes of trio: by time, from outside, and shielded."""
    import trio

    told: list[str] = []

    async def main() -> None:
        with trio.move_on_after(0.1):
            await southbridge.get(f"{url}/never/trio")
        with suppress(trio.TooSlowError):
            with trio.fail_after(0.1):
                await southbridge.get(f"{url}/never/trio")
            told.append("too slow was not told")
        with trio.move_on_after(0.1):
            with trio.CancelScope(shield=True):
                told.append((await southbridge.get(f"{url}/delay/0.2")).text)
        with trio.CancelScope() as scope:
            scope.cancel()
            await southbridge.get(f"{url}/size/1")
            told.append("not a checkpoint")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, f"{url}/never/trio")
            await trio.sleep(0.05)
            nursery.cancel_scope.cancel()

    trio.run(main)
    print(told, "given up" if waiting(url, "trio", "0") else "still waiting")


def trio_as_guest(url: str) -> None:
    """trio as a guest of asyncio: tasks of both, in one thread."""
    import trio

    async def guest() -> list[str]:
        answers: list[str] = []

        async def one() -> None:
            answers.append((await southbridge.get(f"{url}/delay/0.1")).text)

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(one)
        return answers

    async def host() -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        trio.lowlevel.start_guest_run(
            guest,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=done.set_result,
        )
        answers = await asyncio.gather(*(southbridge.get(f"{url}/delay/0.1") for _ in range(5)))
        told = [answer.text for answer in answers] + (await done).unwrap()
        print(len(told), set(told))

    asyncio.run(host())


def by_anyio(url: str, backend: str) -> None:
    """The interface of anyio: groups, scopes, threads."""
    import anyio
    import anyio.to_thread

    told: list[object] = []

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(ask, f"{url}/delay/0.05")
        with anyio.move_on_after(0.1) as scope:
            await southbridge.get(f"{url}/never/anyio")
        told.append(scope.cancelled_caught)
        try:
            with anyio.fail_after(0.1):
                await southbridge.get(f"{url}/never/anyio")
        except TimeoutError:
            told.append("too slow")
        # In a thread of its own the same call blocks.
        told.append(await anyio.to_thread.run_sync(lambda: southbridge.get(f"{url}/size/3").text))

    anyio.run(main, backend=backend)
    print(told, "given up" if waiting(url, "anyio", "0") else "still waiting")


def collected(url: str, rounds: str) -> None:
    """Responses that nobody awaits, and tasks that nobody keeps, are collected, cycles and all."""

    async def main() -> None:
        class Cycle:
            def __init__(self, response: object) -> None:
                self.response = response
                self.me = self

        for _ in range(int(rounds)):
            Cycle(southbridge.get(f"{url}/never/collected"))
        gc.collect()
        # Nothing was asked for: a response that nobody awaits is not sent.
        told.append((await southbridge.get(f"{url}/waiting/collected")).text)
        iterator = southbridge.get(f"{url}/never/collected").__await__()
        iterator.send(None)
        began = await asyncio.to_thread(waiting, url, "collected", "1")
        iterator.close()
        ended = await asyncio.to_thread(waiting, url, "collected", "0")
        told.append((began, ended))

    told: list[object] = []
    asyncio.run(main())
    print(told)


def twice(url: str, how: str) -> None:
    """One response, awaited by two: the first waits for it, the second is told so, and both may have it afterwards."""

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"

    async def main() -> None:
        content = pieces() if how == "fed" else None
        response = southbridge.post(f"{url}/delay/0.2", content=content)
        first = asyncio.ensure_future(response)
        await asyncio.sleep(0.05)
        try:
            await response
        except southbridge.NotAwaitedError as error:
            print(error)
        same = await first
        print((await response) is same, (await asyncio.gather(response, response))[0].status)

    asyncio.run(main())


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
