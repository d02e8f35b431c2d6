"""What a real Synapse costs and how it feels, by itself and with the module: the same room, in turn, in one run.

    PYTHONPATH=python:benches target/venv/bin/python -m python.synapse --servers 200

Homeservers that have joined with events that they signed live in this process, the client in another, Synapse on a core of
its own. A message is delivered when a homeserver has read its transaction.

Units: seconds; CPU is that of the whole process of Synapse, kernel included, for each transaction that arrived.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.homeservers import Homeserver, Homeservers
from tests.synapses import Synapse, until

WAYS: tuple[tuple[str, dict[str, Any] | None], ...] = (("stock", None), ("module", {}))


@dataclass
class Figures:
    """Of one run."""

    deliveries: list[float]
    sends: list[float]
    missing: int
    cpu: float
    transactions: int
    memory: int

    def row(self, name: str) -> str:
        per_transaction = 1000 * self.cpu / max(self.transactions, 1)
        return (
            f"{name:<8}{quantile(self.deliveries, 0.5):>10.3f}{quantile(self.deliveries, 0.95):>10.3f}"
            f"{quantile(self.sends, 0.5) * 1000:>10.0f}{quantile(self.sends, 0.95) * 1000:>10.0f}"
            f"{self.cpu:>8.2f}{per_transaction:>10.2f}{self.memory / 2**20:>8.0f}{self.missing:>9}"
        )


HEAD = (
    f"{'':<8}{'deliv p50':>10}{'deliv p95':>10}{'send p50':>10}{'send p95':>10}"
    f"{'CPU s':>8}{'ms/txn':>10}{'MiB':>8}{'missing':>9}"
)


def main() -> None:
    arguments = argparse.ArgumentParser(description="Synapse by itself and with the module")
    arguments.add_argument("--servers", type=int, default=200)
    arguments.add_argument("--rate", type=float, default=2.0, help="messages a second")
    arguments.add_argument("--seconds", type=float, default=10.0)
    arguments.add_argument("--core", default="0", help="on which core Synapse runs")
    asked = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="southbridge-") as folder:
        compare(Path(folder), asked)


def compare(folder: Path, asked: argparse.Namespace) -> None:
    homeservers = Homeservers(folder, asked.servers)
    synapse = Synapse(folder, homeservers.ca_file)
    try:
        synapse.start()
        synapse.register("alice")
        room = synapse.room()
        for number, one in enumerate(homeservers.all):
            print(f"\r{number + 1} of {asked.servers} join", end="", file=sys.stderr)
            homeservers.join(one, synapse.port, synapse.name, room)
        print(
            f"\n{asked.servers} homeservers, {asked.rate} messages/s for {asked.seconds} s, one core\n{HEAD}"
        )
        for name, module in WAYS:
            synapse.end()
            synapse.start(module, wrap=("taskset", "-c", asked.core))
            print(measure(synapse, room, homeservers.all, asked, name).row(name), flush=True)
    finally:
        synapse.kill()


def measure(
    synapse: Synapse, room: str, everybody: list[Homeserver], asked: argparse.Namespace, name: str
) -> Figures:
    warm = f"{name} warm"
    synapse.say(room, warm)
    until(lambda: all(warm in one.events() for one in everybody), "everybody is warm", 120)
    # What follows from it (positions that are written down, say) is not counted.
    until(lambda: is_idle(synapse.pid), "Synapse is idle")
    for one in everybody:
        one.sent.clear()
    before = cpu_of(synapse.pid)
    count = int(asked.rate * asked.seconds)
    texts = [f"{name} {number}" for number in range(count)]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        times: list[tuple[float, float]] = pool.apply(
            speak, (synapse.port, synapse.token, room, texts, asked.rate)
        )
    until_quiet(everybody, texts)
    until(lambda: is_idle(synapse.pid), "Synapse is idle")
    started = {text: at for text, (at, _took) in zip(texts, times, strict=True)}
    deliveries, transactions = [], 0
    for one in everybody:
        transactions += len(one.sent)
        heard: dict[str, float] = {}
        for sent in one.sent:
            for pdu in sent.body["pdus"]:
                heard.setdefault(str(pdu["content"].get("body")), sent.at)
        deliveries += [heard[text] - at for text, at in started.items() if text in heard]
    missing = count * len(everybody) - len(deliveries)
    spent = cpu_of(synapse.pid) - before
    sends = [took for _at, took in times]
    return Figures(deliveries, sends, missing, spent, transactions, memory_of(synapse.pid))


def speak(port: int, token: str, room: str, texts: list[str], rate: float) -> list[tuple[float, float]]:
    """Send ``texts``, one after the other, ``rate`` a second if Synapse keeps up; when each began, and how long it took."""
    synapse = Synapse.__new__(Synapse)
    synapse.port, synapse.token = port, token
    begin, times = time.monotonic(), []
    for number, text in enumerate(texts):
        time.sleep(max(0.0, begin + number / rate - time.monotonic()))
        at = time.monotonic()
        synapse.say(room, text)
        times.append((at, time.monotonic() - at))
    return times


def until_quiet(everybody: list[Homeserver], texts: list[str]) -> None:
    """Until all have the last one, or nothing has come for a while."""

    def count() -> int:
        return sum(len(one.sent) for one in everybody)

    last, since = count(), time.monotonic()
    while time.monotonic() - since < 5 and not all(texts[-1] in one.events() for one in everybody):
        time.sleep(0.2)
        now = count()
        if now != last:
            last, since = now, time.monotonic()


def is_idle(pid: int) -> bool:
    before = cpu_of(pid)
    time.sleep(1)
    return cpu_of(pid) - before < 0.05


def cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(pid: int) -> int:
    line = next(
        one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS")
    )
    return int(line.split()[1]) * 1024


def quantile(some: list[float], share: float) -> float:
    ordered = sorted(some)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else float("nan")


if __name__ == "__main__":
    main()
