"""The module is taken out of a real Synapse and put back while people write, and homeservers record what comes."""

from __future__ import annotations

import http.client
import threading
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from . import synapses
from .homeservers import Homeserver, ask, event_id
from .synapses import Synapse, until
from .test_synapse import World

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(synapses.python() is None, reason="there is no Python with Synapse in .venv"),
]

TIMES = 3


class Writer(threading.Thread):
    """Writes to a room as fast as it is taken. What was not answered is said again, and Synapse knows it by its number."""

    def __init__(self, synapse: Synapse, room: str) -> None:
        super().__init__()
        self.room = room
        self.accepted: list[tuple[str, str]] = []
        """The texts that were taken, in order, with the ids of their events."""
        self._synapse = synapse
        self._is_over = threading.Event()
        self.start()

    def end(self) -> None:
        """Write no more; what was begun is taken."""
        self._is_over.set()
        self.join()

    def texts(self, since: int = 0) -> list[str]:
        """What was taken, in order."""
        return [text for text, _ in self.accepted[since:]]

    def run(self) -> None:
        while not self._is_over.is_set():
            number = len(self.accepted)
            text = f"{self.room[1:5]} {number}"
            path = f"rooms/{urllib.parse.quote(self.room)}/send/m.room.message/{number}"
            try:
                answer = self._synapse.client("PUT", path, {"msgtype": "m.text", "body": text})
                self.accepted.append((text, answer["event_id"]))
            except (OSError, RuntimeError, ValueError, http.client.HTTPException):
                # It is ending, or not there yet.
                self._is_over.wait(0.05)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, 5)
    yield world
    world.synapse.kill()


def test_three_times_under_load(world: World) -> None:
    """Two rooms are written to all the time, while the module goes and comes three times; one homeserver is away over two of
    the changes. Who is there hears everything once, and in order, as long as nothing changes. Around a change, and of what
    somebody has missed, Synapse sends the latest, and the receiver asks for what stands before it: nothing is missing then."""
    rooms = [world.begin({}), world.synapse.room()]
    everybody = world.homeservers.all
    for one in everybody:
        world.homeservers.join(one, world.synapse.port, world.synapse.name, rooms[1])
    writers = [Writer(world.synapse, room) for room in rooms]
    *others, away = everybody
    steady: dict[str, list[str]] = {one.name: [] for one in everybody}
    try:
        modules: list[dict[str, object] | None] = [{}, *[None, {}] * TIMES]
        for phase, module in enumerate(modules):
            if phase:
                world.synapse.end()
                world.synapse.start(module)
            present = others if phase in {3, 4} else everybody
            for name, texts in _steady(writers, present).items():
                steady[name] += texts
            if phase == 2:
                world.homeservers.close(away)
            if phase == 4:
                world.homeservers.open(away)
    finally:
        for writer in writers:
            writer.end()
    for writer in writers:
        _until_heard(everybody, writer.texts()[-1])
    for one in everybody:
        came = Counter(one.events())
        assert [text for text in steady[one.name] if came[text] != 1] == []
        for writer in writers:
            in_order = [text for text in dict.fromkeys(one.events()) if text in set(writer.texts())]
            assert in_order == sorted(in_order, key=writer.texts().index)
            assert _missing(world, one, writer) == set()


def _steady(writers: list[Writer], present: list[Homeserver]) -> dict[str, list[str]]:
    """What is written from when everybody who is there hears one message after the other, until each has heard twenty more."""
    begins = [len(writer.accepted) for writer in writers]
    for at, writer in enumerate(writers):
        begins[at] = until(partial(_in_a_row, writer, present, begins[at]), "one after the other")
    ends: list[int] = []
    for writer, begin in zip(writers, begins, strict=True):
        until(lambda w=writer, n=begin + 20: len(w.accepted) >= n, "there is more")  # type: ignore[misc]
        ends.append(len(writer.accepted))
        _until_heard(present, writer.texts()[ends[-1] - 1])
    texts = [
        text
        for writer, begin, end in zip(writers, begins, ends, strict=True)
        for text in writer.texts()[begin:end]
    ]
    for one in present:
        until(partial(_is_acknowledged, one, set(texts)), f"Synapse hears that {one.name} has all of it")
    return {one.name: texts for one in present}


def _is_acknowledged(one: Homeserver, texts: set[str]) -> bool:
    """Whether a transaction has begun behind the last with one of ``texts``: Synapse knows then that they arrived. Whom it was
    about to hear so from when it ended, it sends the same once more."""
    sent = list(one.sent)
    known = [
        at for at, came in enumerate(sent) for pdu in came.body["pdus"] if pdu["content"].get("body") in texts
    ]
    return bool(known) and known[-1] < len(sent) - 1


def _in_a_row(writer: Writer, present: list[Homeserver], since: int) -> int:
    """Where those begin that stand behind the latest five that all who are ``present`` have heard; zero as long as there are
    no five: what comes first after a start, Synapse by itself sends twice now and then."""
    heard = [set(one.events()) for one in present]
    texts = writer.texts()
    for at in range(len(texts) - 5, since - 1, -1):
        if all(set(texts[at : at + 5]) <= of_one for of_one in heard):
            return at + 5
    return 0


def _until_heard(present: list[Homeserver], text: str) -> None:
    until(lambda: all(text in one.events() for one in present), f"everybody hears {text}")


def _missing(world: World, one: Homeserver, writer: Writer) -> set[str]:
    """What is not there after ``one`` has asked for whatever stands before what it knows, as homeservers do."""
    known = {
        event_id(pdu): pdu
        for sent in one.sent
        for pdu in sent.body["pdus"]
        if pdu["room_id"] == writer.room and pdu["type"] == "m.room.message"
    }
    wanted = [before for pdu in known.values() for before in pdu["prev_events"]]
    asked: set[str] = set()
    while wanted:
        event = wanted.pop()
        if event in known or event in asked:
            continue
        asked.add(event)
        path = f"/_matrix/federation/v1/event/{urllib.parse.quote(event)}"
        [pdu] = ask(one, world.synapse.port, world.synapse.name, ("GET", path))["pdus"]
        if pdu["type"] == "m.room.message":
            known[event] = pdu
            wanted += pdu["prev_events"]
    return {event for _, event in writer.accepted} - set(known)
