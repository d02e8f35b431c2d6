"""Measures the package beside other clients: ``cargo xtask bench --python [PART…]`` builds what it needs and calls this.

| part | what |
| --- | --- |
| ``cost`` | a GET of 2 KB: asyncio beside other clients, and every frontend beside what its framework has of its own |
| ``delivery`` | a completion, and nothing else: beside a future of the loop, and beside ``pyo3-async-runtimes`` |
| ``held`` | what the I/O thread does while the main thread holds the interpreter's lock |
| ``footprint`` | importing and starting, and 10,000 requests in flight |

Every round is a process of its own, so that what one client leaves behind is no other's burden; all take turns, so that
a slow minute of the machine is everybody's. Figures are the lowest, the median and the highest of all rounds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

from . import cost, delivery, footprint, held
from .report import Report

PARTS: dict[str, Callable[[Report, int], None]] = {
    part.__name__.rpartition(".")[2]: part.report for part in (cost, delivery, held, footprint)
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"all of them by default: {', '.join(PARTS)}"
    )
    asked = parser.parse_args()
    told = Report()
    for part in asked.parts or PARTS:
        PARTS[part](told, asked.rounds)
    if told.missed:
        raise SystemExit(f"missed: {'; '.join(told.missed)}")


if __name__ == "__main__":
    main()
