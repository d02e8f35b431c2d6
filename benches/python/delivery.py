"""What it costs that something completes elsewhere, and nothing else. As a program: measures one way.

Three ways to wait for what has nothing to do:

- ``in_loop``: a future of asyncio, set by a callback of the same loop. Nothing crosses a thread.
- ``kernel``: a request that our I/O thread answers without asking anybody (``nothing:``, in the build for benchmarks).
- ``bridge``: a future of tokio, on a thread of tokio's, that ``pyo3-async-runtimes`` makes an awaitable (``bridge/``).

The main thread's cost is that of taking 4,096 completions which are all there: from the moment when each has completed
and its task has not been told, until the last task has ended. The process's cost is that of whole round trips, with 64
in flight: asking, crossing, completing, crossing back, and the step of the task.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from .clients import IN_FLIGHT, cpu
from .report import Report, program

if TYPE_CHECKING:
    Ask = Callable[[], Awaitable[object]]

AT_ONCE = 4096
ROUND_TRIPS = 20_000


def in_loop() -> Ask:
    loop = asyncio.get_running_loop()

    def ask() -> Awaitable[object]:
        future = loop.create_future()
        loop.call_soon(future.set_result, None)
        return future

    return ask


def kernel() -> Ask:
    import southbridge

    client = southbridge.Client()
    return lambda: client.get("nothing:")


def bridge() -> Ask:
    import bridge

    return bridge.nothing


WAYS: dict[str, Callable[[], Ask]] = {way.__name__: way for way in (in_loop, kernel, bridge)}


async def measure(way: str) -> tuple[float, float]:
    """Microseconds for each: the main thread's for taking it, the process's for a round trip."""
    ask = WAYS[way]()
    await round_trips(ask, 2000)
    taken = [await take_all(ask) for _ in range(5)]
    before = cpu()
    await round_trips(ask, ROUND_TRIPS)
    return min(taken) * 1e6 / AT_ONCE, (cpu() - before) * 1e6 / ROUND_TRIPS


async def take_all(ask: Ask) -> float:
    left, over = AT_ONCE, asyncio.get_running_loop().create_future()

    async def wait() -> None:
        nonlocal left
        await ask()
        left -= 1
        if left == 0:
            over.set_result(None)

    tasks = [asyncio.ensure_future(wait()) for _ in range(AT_ONCE)]
    # All of them ask, and none is told: what completes in the loop does so in its next turn.
    await asyncio.sleep(0)
    _let_all_complete()
    before = time.thread_time()
    await over
    spent = time.thread_time() - before
    await asyncio.gather(*tasks)
    return spent


def _let_all_complete() -> None:
    """Stops the loop, and leaves the interpreter to others."""
    time.sleep(0.3)


async def round_trips(ask: Ask, count: int) -> None:
    async def worker() -> None:
        for _ in range(count // IN_FLIGHT):
            await ask()

    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))


def report(told: Report, rounds: int) -> None:
    """Adds what a completion costs."""
    costs: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, measured in costs.items():
            measured.append(tuple(program("delivery", way)))
    told.title("A completion, µs of CPU: taken by the main thread; round trip, process")
    for way, measured in costs.items():
        told.row(f"{way}: taken, main thread", [main for main, _ in measured])
        told.row(f"{way}: round trip, process", [process for _, process in measured])
    pairs = list(zip(*costs.values(), strict=True))
    over = [ours[0] - future[0] for future, ours, _ in pairs]
    told.row("kernel over in_loop, main thread", over, at_most=0.6)
    times = [theirs[1] / ours[1] for _, ours, theirs in pairs]
    told.row("pyo3-async-runtimes over kernel, process, times", times, at_least=10)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(sys.argv[1]))))
