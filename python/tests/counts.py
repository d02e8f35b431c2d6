"""Programs that count, for the tests of the statistics, each in a process of its own: ``counts.py NAME …``."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from typing import NoReturn

import southbridge


def until_killed(directory: str, url: str) -> NoReturn:
    """Counts, asks once, says so, and waits to be killed."""
    where = southbridge.statistics(directory=directory)
    orders = southbridge.counter("orders_total", "Orders.", labels={"shop": "north"})
    work = southbridge.histogram("work_seconds", "Work.")
    southbridge.gauge("baskets", "Baskets.").set(3)
    for _ in range(41):
        orders.add()
    work.observe(0.25)
    southbridge.get(f"{url}/size/10")
    orders.add(1)
    print(where.path, flush=True)
    while True:
        time.sleep(60)


def busy(statsd: str, seconds: str) -> None:
    """Holds the interpreter's lock for all of the time, in C, while the kernel publishes."""
    southbridge.statistics(statsd=statsd, statsd_interval=0.1)
    counter = southbridge.counter("busy_total", "Rounds.")
    counter.add(7)
    # Sorting integers neither lets go of the lock nor looks at signals.
    numbers = list(range(200_000, 0, -1))
    began = time.monotonic()
    sys.setswitchinterval(1000)
    while time.monotonic() - began < float(seconds):
        sorted(numbers, key=None)
    print(time.monotonic() - began)


def fork(directory: str) -> None:
    """Forks; the child counts with what it has inherited, and for itself."""
    where = southbridge.statistics(directory=directory, prometheus="127.0.0.1:0")
    counter = southbridge.counter("n_total")
    counter.add(5)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        counter.add(100)
        southbridge.counter("child_total").add(1)
        os.write(write, f"{counter.value} {southbridge.statistics().path}".encode())
        signal.pause()
    told = os.read(read, 4096).decode()
    print(counter.value, where.path)
    print(told)
    print(child, flush=True)
    sys.stdin.read()
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def late(url: str) -> None:
    """The loop hangs while the answer comes, and asks twice for what is not there; then the page of figures."""
    where = southbridge.statistics(prometheus="127.0.0.1:0")

    async def main() -> None:
        asked = asyncio.ensure_future(southbridge.get(f"{url}/size/10"))
        await asyncio.sleep(0)
        time.sleep(1)  # noqa: ASYNC251
        await asked
        for _ in range(2):
            with contextlib.suppress(southbridge.SouthbridgeError):
                await southbridge.get("http://127.0.0.1:1/")

    asyncio.run(main())
    print(southbridge.get(f"http://{where.prometheus}/metrics").text)


def threads(count: str) -> None:
    """Eight threads bump one counter."""
    counter = southbridge.counter("n_total")

    def bump() -> None:
        for _ in range(int(count)):
            counter.add()

    each = [threading.Thread(target=bump) for _ in range(8)]
    for thread in each:
        thread.start()
    for thread in each:
        thread.join()
    print(counter.value)


def fill(bytes_max: str) -> None:
    """Uses a label that never ends."""
    southbridge.statistics(bytes_max=int(bytes_max))
    made = 0
    try:
        for number in range(10_000_000):
            southbridge.counter("visits_total", labels={"visitor": str(number)}).add()
            made += 1
    except southbridge.StatisticsFullError as error:
        print(made, error)


def environment(url: str) -> None:
    """Says nothing of statistics itself, but asks."""
    southbridge.get(f"{url}/size/10")
    print(southbridge.statistics().path)


def cost() -> None:
    """Nanoseconds of one bump, the best of several, less those of the empty loop."""
    import timeit

    southbridge.statistics()
    counter = southbridge.counter("n_total")
    histogram = southbridge.histogram("h_seconds")
    rounds = 1_000_000

    def best(statement: str) -> float:
        timer = timeit.Timer(statement, globals={"add": counter.add, "observe": histogram.observe})
        return min(timer.repeat(7, rounds)) / rounds * 1e9

    empty = best("pass")
    print(
        f"add() {best('add()') - empty:.0f} ns, add(3) {best('add(3)') - empty:.0f} ns, "
        f"observe(0.25) {best('observe(0.25)') - empty:.0f} ns"
    )


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
