"""Looks at Synapse from outside while it works: how long a request of a local user takes, its memory, its CPU.

``pids`` are all processes that do its work: its own, and where it sends by a daemon that one too.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from tests.synapses import Synapse

from .cores import OTHER_CORE

EVERY = 0.05


@dataclass
class Seen:
    """Samples, each with its time in seconds of the monotonic clock."""

    requests: list[tuple[float, float]] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)

    def longest(self) -> float:
        """The longest time a local request took, in seconds."""
        return max((took for _at, took in self.requests), default=float("nan"))

    def most_memory(self) -> int:
        """The most memory that was resident, in bytes."""
        return max((size for _at, size in self.memory), default=0)


class Watching:
    """A process that looks twenty times a second, and asks a client's ``question`` each time, if there is one, until it is told to end."""

    def __init__(
        self, synapse: Synapse, pids: Sequence[int], *, question: str | None = "account/whoami"
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        asked = (theirs, synapse.port, synapse.token, pids, question)
        self._process = context.Process(target=_watch, args=asked, daemon=True)
        self._process.start()
        self._ours.recv()

    def end(self) -> Seen:
        """What was seen."""
        self._ours.send(None)
        seen: Seen = self._ours.recv()
        self._process.join()
        return seen


def _watch(told: Connection, port: int, token: str, pids: Sequence[int], question: str | None) -> None:
    os.sched_setaffinity(0, {OTHER_CORE})
    synapse, seen = voice(port, token), Seen()
    told.send(None)
    while not told.poll():
        at = time.monotonic()
        if question is not None:
            synapse.client("GET", question)
            seen.requests.append((at, time.monotonic() - at))
        seen.memory.append((at, memory_of(pids)))
        time.sleep(max(0.0, at + EVERY - time.monotonic()))
    told.send(seen)


def voice(port: int, token: str) -> Synapse:
    """One that only speaks to a Synapse which somebody else has started."""
    synapse = Synapse.__new__(Synapse)
    synapse.port, synapse.token = port, token
    return synapse


def is_idle(pids: Sequence[int]) -> bool:
    """Whether they used less than a twentieth of a core for a second, which this takes."""
    before = cpu_of(pids)
    time.sleep(1)
    return cpu_of(pids) - before < 0.05


def cpu_of(pids: Sequence[int]) -> float:
    """Seconds of CPU that they have used."""
    return sum(_ticks(pid) for pid in pids) / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def memory_of(pids: Sequence[int]) -> int:
    """Bytes that are resident; what two of them share is counted twice."""
    pages = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")
