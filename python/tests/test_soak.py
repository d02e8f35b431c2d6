"""Hours of traffic in minutes: what a Synapse with the module holds, in memory and in descriptors, does not grow.

A round is forty-four messages, with as many changes of what is volatile: sixty of them are one every three seconds for two hours.

``SOUTHBRIDGE_TIMES`` multiplies the rounds: 15 and more give 60 of them, and then it is looked at whether anything grows.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pytest

from . import synapses
from .homeservers import Homeserver, ask
from .synapses import Synapse, until
from .test_synapse import World

pytestmark = [
    pytest.mark.slow,
    pytest.mark.counted,
    pytest.mark.skipif(synapses.python() is None, reason="there is no Python with Synapse in .venv"),
]

ROUNDS = min(60, int(4 * float(os.environ.get("SOUTHBRIDGE_TIMES", "1"))))
HOMESERVERS = 50
# Those who are away at a time, and the messages of a round.
AWAY, MESSAGES = 10, 40
# Caches that are full after a few rounds: what Synapse fills for hours says nothing of us.
CACHES: dict[str, Any] = {"caches": {"global_factor": 0.05}, "event_cache_size": "200"}
OFTEN: dict[str, Any] = {"rc_presence": {"per_user": {"per_second": 10_000, "burst_count": 10_000}}}
MODULE: dict[str, object] = {"give_back_after": 1.0}


class Held(NamedTuple):
    """What a process holds when all is quiet."""

    mebibytes: float
    descriptors: int


def held_by(pid: int) -> Held:
    """What the process holds now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return Held(pages * os.sysconf("SC_PAGESIZE") / 2**20, len(os.listdir(f"/proc/{pid}/fd")))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, HOMESERVERS)
    world.synapse = Synapse(tmp_path, world.homeservers.ca_file, **CACHES, **OFTEN)
    yield world
    world.synapse.kill()


def test_nothing_grows(world: World) -> None:
    """Fifty homeservers, ten of which are away in every round for so long that they are given back; two who write, type, read
    and say where they are, and send to devices. After each round everybody has heard the last, nothing waits, and what the
    process holds is looked at."""
    room = world.begin(MODULE)
    traffic = Traffic(world, room)
    samples: list[Held] = []
    for number in range(ROUNDS):
        traffic.round(number)
        samples.append(held_by(world.synapse.pid))
        print(
            f"round {number}: {samples[-1].mebibytes:.1f} MiB, {samples[-1].descriptors} descriptors",
            flush=True,
        )
    print(f"{traffic.events} events and {traffic.edus} EDUs were delivered")
    assert traffic.events >= ROUNDS * MESSAGES * (HOMESERVERS - AWAY)
    assert traffic.edus >= ROUNDS * HOMESERVERS
    # A connection to each, and a few for what else is asked for.
    assert max(one.descriptors for one in samples) <= samples[0].descriptors + 2 * HOMESERVERS
    if ROUNDS < 60:
        return
    third = ROUNDS // 3
    early, late = samples[third : 2 * third], samples[2 * third :]
    grown = median(one.mebibytes for one in late) - median(one.mebibytes for one in early)
    assert grown <= 0.03 * early[0].mebibytes, f"{grown:.1f} MiB in {third} rounds"
    assert max(one.descriptors for one in late) <= max(one.descriptors for one in early) + 5


class Traffic:
    """What goes on in a round, and how much has been delivered."""

    def __init__(self, world: World, room: str) -> None:
        self.events = self.edus = 0
        self._world, self._room = world, room
        self._user = f"@alice:{world.synapse.name}"
        self._pending = (
            f'synapse_federation_transaction_queue_pending_destinations{{server_name="{world.synapse.name}"}}'
        )

    def round(self, number: int) -> None:
        """One of them; all is quiet afterwards."""
        everybody = self._world.homeservers.all
        first = number * AWAY % HOMESERVERS
        away = everybody[first : first + AWAY]
        present = [one for one in everybody if one not in away]
        for one in away:
            self._world.homeservers.close(one)
        with ThreadPoolExecutor(2) as pool:
            talking = pool.submit(self._talk, number)
            list(pool.map(self._also, [number] * 4, range(4)))
            talking.result()
        # Who is caught up is sent the latest.
        last = f"{number}.last"
        self._world.synapse.say(self._room, last)
        self._world.until_heard([last], *present)
        for one in away:
            self._world.homeservers.open(one)
            self._is_back(one)
        self._world.until_heard([last], *away)
        until(partial(self._is_quiet), "all is quiet")
        for one in everybody:
            self.events += len(one.events())
            self.edus += sum(len(sent.body.get("edus", [])) for sent in one.sent)
            one.sent.clear()
            one.asked.clear()

    def _talk(self, number: int) -> None:
        for at in range(MESSAGES):
            self._world.synapse.say(self._room, f"{number}.{at}")

    def _also(self, number: int, at: int) -> None:
        client = self._world.synapse.client
        typing = {"typing": at % 2 == 0, "timeout": 30_000}
        client("PUT", f"rooms/{self._room}/typing/{self._user}", typing)
        event = self._world.synapse.say(self._room, f"{number}.also.{at}")
        client("POST", f"rooms/{self._room}/receipt/m.read/{event}", {})
        status = {"presence": "online", "status_msg": f"{number}.{at}"}
        client("PUT", f"presence/{self._user}/status", status)
        names = [one.name for one in self._world.homeservers.all[at::5]]
        messages = {f"@user:{name}": {"D": {"n": number}} for name in names}
        client("PUT", f"sendToDevice/m.test/{number}.{at}", {"messages": messages})

    def _is_back(self, one: Homeserver) -> None:
        """It asks for something, and is known to live by that."""
        home = self._world.synapse
        path = f"/_matrix/federation/v1/query/profile?user_id={self._user}"
        ask(one, home.port, home.name, ("GET", path))

    def _is_quiet(self) -> bool:
        return self._world.synapse.figures()[self._pending] == 0
