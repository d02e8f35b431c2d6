"""What a mark and a bump cost: ``PYTHONPATH=python:benches python -m python.figures [--rounds N] [--count N]``.

Nanoseconds of wall time for one, the loop around it taken off: the lowest, the median and the highest of all rounds,
which take turns. With two threads it is the time until both have done theirs, divided by all that was done: Python runs one
thread at a time, so it shows what they cost each other. ``prometheus_client`` is measured where it is installed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from typing import TYPE_CHECKING

import southbridge

if TYPE_CHECKING:
    from collections.abc import Callable

    Work = Callable[[int], None]


def nothing(count: int) -> None:
    for _ in range(count):
        pass


def mark(count: int) -> None:
    for _ in range(count):
        with southbridge.mark("loading cart"):
            pass


def counter(count: int) -> None:
    add = southbridge.counter("bench_orders_total", labels={"shop": "north"}).add
    for _ in range(count):
        add()


def histogram(count: int) -> None:
    observe = southbridge.histogram("bench_work_seconds").observe
    for _ in range(count):
        observe(0.012)


def of_prometheus() -> dict[str, Work]:
    try:
        import prometheus_client
    except ImportError:
        return {}
    inc = prometheus_client.Counter("orders", "", ["shop"]).labels("north").inc
    observe = prometheus_client.Histogram("work_seconds", "").observe

    def count_one(count: int) -> None:
        for _ in range(count):
            inc()

    def observe_one(count: int) -> None:
        for _ in range(count):
            observe(0.012)

    return {"prometheus_client counter": count_one, "prometheus_client histogram": observe_one}


def took(work: Work, count: int, threads: int) -> float:
    """Nanoseconds for one."""
    others = [threading.Thread(target=work, args=(count,)) for _ in range(threads - 1)]
    begin = time.perf_counter_ns()
    for other in others:
        other.start()
    work(count)
    for other in others:
        other.join()
    return (time.perf_counter_ns() - begin) / (count * threads)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--count", type=int, default=200_000)
    asked = parser.parse_args()
    works: dict[str, Work] = {"mark": mark, "counter": counter, "histogram": histogram} | of_prometheus()
    cases = [(name, work, threads) for name, work in works.items() for threads in (1, 2)]
    costs: dict[tuple[str, int], list[float]] = {}
    for _ in range(asked.rounds):
        loop = took(nothing, asked.count, 1)
        for name, work, threads in cases:
            costs.setdefault((name, threads), []).append(took(work, asked.count, threads) - loop)
    print(f"{'ns, CPython ' + sys.version.split()[0]:40}{'lowest':>8}{'median':>8}{'highest':>8}")
    for (name, threads), measured in costs.items():
        of = f"{name}, {threads} thread{'s' if threads > 1 else ''}"
        print(f"{of:40}{min(measured):8.0f}{statistics.median(measured):8.0f}{max(measured):8.0f}")


if __name__ == "__main__":
    main()
