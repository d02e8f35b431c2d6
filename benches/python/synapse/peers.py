"""The other homeservers, in a process of their own: they join, read transactions, and say who heard what, and when."""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.homeservers import Homeserver, Homeservers, Reply

from .cores import OTHER_CORE

Heard = list[dict[str, float]]
"""Of each homeserver, when it read a message for the first time, by the body of the message."""


@dataclass
class Ledger:
    """What one homeserver has heard, read as it comes."""

    homeserver: Homeserver
    read: int = 0
    heard: dict[str, float] = field(default_factory=dict)

    def clear(self) -> None:
        self.homeserver.sent.clear()
        self.read = 0
        self.heard.clear()

    def update(self) -> None:
        # A copy: more may come while it is looked at, in the thread of the homeserver.
        new = self.homeserver.sent[self.read :]
        for one in new:
            for pdu in one.body["pdus"]:
                self.heard.setdefault(str(pdu["content"].get("body")), one.at)
        self.read += len(new)


class Peers:
    """The process. Every method asks it, and waits for its answer."""

    def __init__(self, folder: Path, count: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, folder, count), daemon=True)
        self._process.start()
        self.ca_file = Path(self._ours.recv())

    def join(self, number: int, port: int, homeserver: str, room: str) -> None:
        """The homeserver of that number joins ``room``."""
        self._ask("join", number, port, homeserver, room)

    def clear(self) -> None:
        """Forget what was heard."""
        self._ask("clear")

    def name(self, number: int) -> str:
        """What the homeserver of that number is called."""
        return str(self._ask("name", number))

    def dawdle(self, numbers: range, seconds: float) -> None:
        """These answer after ``seconds`` from now on; never, when that is infinite."""
        self._ask("dawdle", numbers, seconds)

    def offer(self, numbers: range, size: int) -> list[str]:
        """From now on each of these has a file of so many bytes, whatever it is called; their names."""
        names: list[str] = self._ask("offer", numbers, size)
        return names

    def transactions(self) -> int:
        """How many have come, to all of them."""
        return int(self._ask("transactions"))

    def have_heard(self, text: str, numbers: range) -> bool:
        """Whether all of these have read the message ``text``."""
        return bool(self._ask("have_heard", text, numbers))

    def heard(self, numbers: range) -> Heard:
        """What each of these has heard."""
        told: Heard = self._ask("heard", numbers)
        return told

    def _ask(self, method: str, *arguments: Any) -> Any:
        self._ours.send((method, arguments))
        return self._ours.recv()


class _Serving:
    def __init__(self, folder: Path, count: int) -> None:
        self.homeservers = Homeservers(folder, count)
        self.ledgers = [Ledger(one) for one in self.homeservers.all]

    def join(self, number: int, port: int, homeserver: str, room: str) -> None:
        self.homeservers.join(self.homeservers[number], port, homeserver, room)

    def clear(self) -> None:
        for one in self.ledgers:
            one.clear()

    def name(self, number: int) -> str:
        return self.homeservers[number].name

    def dawdle(self, numbers: range, seconds: float) -> None:
        for number in numbers:
            self.homeservers[number].answers_after = seconds

    def offer(self, numbers: range, size: int) -> list[str]:
        kind = b"Content-Type: application/json\r\n\r\n{}\r\n--b\r\nContent-Type: application/octet-stream\r\n\r\n"
        body = b"--b\r\n" + kind + os.urandom(1000) * (size // 1000) + b"\r\n--b--\r\n"
        reply = Reply(body, "multipart/mixed; boundary=b")
        offering = [self.homeservers[number] for number in numbers]
        for one in offering:
            one.answers["/_matrix/federation/v1/media/download/"] = lambda _: reply
        return [one.name for one in offering]

    def transactions(self) -> int:
        return sum(len(one.homeserver.sent) for one in self.ledgers)

    def have_heard(self, text: str, numbers: range) -> bool:
        return all(text in one.heard for one in self._up_to_date(numbers))

    def heard(self, numbers: range) -> Heard:
        return [one.heard for one in self._up_to_date(numbers)]

    def _up_to_date(self, numbers: range) -> list[Ledger]:
        wanted = [self.ledgers[number] for number in numbers]
        for one in wanted:
            one.update()
        return wanted


def _serve(asked: Connection, folder: Path, count: int) -> None:
    os.sched_setaffinity(0, {OTHER_CORE})
    serving = _Serving(folder, count)
    asked.send(str(serving.homeservers.ca_file))
    while True:
        try:
            method, arguments = asked.recv()
        except EOFError:
            return
        asked.send(getattr(serving, method)(*arguments))


def is_done(peers: Peers, text: str, numbers: range, seconds: float) -> bool:
    """Wait until all of ``numbers`` have heard ``text``; or, which is no, until nothing came to anybody for ``seconds``."""
    last, since = -1, time.monotonic()
    while not peers.have_heard(text, numbers):
        now = peers.transactions()
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > seconds:
            return False
        time.sleep(0.1)
    return True


NEVER = math.inf
