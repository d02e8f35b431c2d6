"""Two and three real, unpatched Synapses federate, with the module in none of them, in one, and in all: whatever people do
on one of them comes to the others, and is seen there through the client API."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from . import synapses
from .federations import Federation, Person, ephemeral, for_device, memberships, quote, timeline
from .synapses import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(synapses.python() is None, reason="there is no Python with Synapse in .venv"),
]

MODULES = {"none": (False, False, False), "one": (True, False, False), "all": (True, True, True)}
FILE = hashlib.sha512(b"a picture").digest() * 30_000


class World:
    """Three Synapses, and somebody on each: Alice has the module first."""

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        federation.start()
        first, second, third = federation.peers
        self.alice = Person.new(first, "alice")
        self.bob = Person.new(second, "bob")
        self.carol = Person.new(third, "carol")

    def room_of_two(self) -> str:
        """One with Alice and Bob."""
        room = self.alice.room()
        self.alice.brings(room, self.bob)
        return room

    def room_of_three(self) -> str:
        """One with all of them."""
        room = self.alice.room()
        self.alice.brings(room, self.bob, self.carol)
        return room


@pytest.fixture(scope="module", params=MODULES)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    federation = Federation(tmp_path_factory.mktemp(request.param), MODULES[request.param])
    try:
        yield World(federation)
        for peer in federation.peers:
            for complaint in ("Expected logging context", "Unhandled error in Deferred", "re-started"):
                assert not peer.said(complaint), complaint
    finally:
        federation.kill()


def test_people_talk(world: World) -> None:
    """Alice writes thirty messages and invites Bob, who pages back; Carol comes later. All of them write at once; each
    hears everybody's in order. Then somebody types, reads, says where they are, and goes."""
    alice, bob, carol = world.alice, world.bob, world.carol
    room = alice.room()
    before = [f"before {number}" for number in range(30)]
    for text in before:
        alice.say(room, text)
    alice.brings(room, bob)
    assert bob.pages_back(room) == before
    bob.say(room, "of two")
    alice.hears(lambda one: "of two" in str(timeline(one, room)), "Bob")
    alice.say(room, "to one")
    bob.hears(lambda one: "to one" in str(timeline(one, room)), "Alice")
    alice.brings(room, carol)

    everybody = {"alice": alice, "bob": bob, "carol": carol}
    said = {name: [f"{name} {number}" for number in range(10)] for name in everybody}

    def talk(name: str) -> str:
        return [everybody[name].say(room, text) for text in said[name]][-1]

    with ThreadPoolExecutor(len(everybody)) as pool:
        last = dict(zip(everybody, pool.map(talk, everybody), strict=True))
    for who in everybody.values():
        heard = {name: who.messages(room, texts[-1]) for name, texts in said.items()}
        for name, of_one in said.items():
            assert [text for text in heard[name] if text.startswith(name)] == of_one

    bob.ask("PUT", f"rooms/{quote(room)}/typing/{quote(bob.id)}", {"typing": True, "timeout": 30_000})
    for who in (alice, carol):
        who.hears(
            lambda one: any(bob.id in each["user_ids"] for each in ephemeral(one, room, "m.typing")), "typing"
        )
    alice.ask("POST", f"rooms/{quote(room)}/receipt/m.read/{quote(last['carol'])}", {})
    for who in (bob, carol):
        who.hears(
            lambda one: any(
                alice.id in each.get(last["carol"], {}).get("m.read", {})
                for each in ephemeral(one, room, "m.receipt")
            ),
            "a receipt",
        )
    state = {"presence": "online", "status_msg": "in the garden"}
    alice.ask("PUT", f"presence/{quote(alice.id)}/status", state)
    for who in (bob, carol):
        who.hears(lambda one: "in the garden" in str(one.get("presence")), "where Alice is")
    carol.ask("POST", f"rooms/{quote(room)}/leave", {})
    for who in (alice, bob):
        who.hears(lambda one: (carol.id, "leave") in memberships(one, room), "Carol goes")


def _keys(person: Person) -> dict[str, Any]:
    """Keys of a device, as a client makes them; homeservers only pass them on."""
    device = person.device
    keys = {f"{kind}:{device}": f"{kind} key of {device}" for kind in ("curve25519", "ed25519")}
    parts: dict[str, Any] = {
        "user_id": person.id,
        "device_id": device,
        "algorithms": ["m.olm.v1"],
        "keys": keys,
    }
    signed = {"signatures": {person.id: {f"ed25519:{device}": "a signature"}}}
    parts |= signed
    once = {f"signed_curve25519:{number}": {"key": f"{device} {number}", **signed} for number in range(5)}
    person.ask("POST", "keys/upload", {"device_keys": parts, "one_time_keys": once})
    return parts


def _devices(asked_by: Person, of: Person) -> dict[str, Any]:
    answer = asked_by.ask("POST", "keys/query", {"device_keys": {of.id: []}})
    return {device: parts["keys"] for device, parts in answer["device_keys"].get(of.id, {}).items()}


@pytest.mark.parametrize("direction", ["there", "and back"])
def test_keys_are_exchanged(world: World, direction: str) -> None:
    """A conversation is to be encrypted: one asks for the other's devices, claims a key of one, and sends it something that
    only it can read. A device that comes later is seen as well, and can be written to."""
    one, other = (world.alice, world.bob) if direction == "there" else (world.bob, world.alice)
    world.room_of_two()
    # As somebody who has not been heard of before.
    other = other.on_another_device()
    keys = _keys(other)
    assert _devices(one, other)[other.device] == keys["keys"]
    wanted = {other.id: {other.device: "signed_curve25519"}}
    claimed = one.ask("POST", "keys/claim", {"one_time_keys": wanted})
    [(name, key)] = claimed["one_time_keys"][other.id][other.device].items()
    assert (name.partition(":")[0], key["key"].partition(" ")[0]) == ("signed_curve25519", other.device)
    for number in range(3):
        one.to_device("m.room.encrypted", other, {"algorithm": "m.olm.v1", "n": number})
    came = other.hears_all(
        lambda one: [each["n"] for each in for_device(one, "m.room.encrypted")], 2, "what only they can read"
    )
    assert came == [0, 1, 2]
    later = other.on_another_device()
    _keys(later)
    one.hears(lambda come: later.id in come.get("device_lists", {}).get("changed", []), "a new device")
    until(lambda: later.device in _devices(one, later), "its keys are there")
    one.to_device("m.room.encrypted", later, {"algorithm": "m.olm.v1", "n": 3})
    later.hears(lambda come: for_device(come, "m.room.encrypted"), "the first word to it")


def test_media_are_fetched(world: World) -> None:
    """A picture is uploaded on each homeserver, and looked at on the others."""
    everybody = (world.alice, world.bob, world.carol)
    for owner in everybody:
        name = owner.home.name.encode()
        uri = owner.home.ask("POST", "/_matrix/media/v3/upload", FILE + name, token=owner.token)[
            "content_uri"
        ]
        path = f"/_matrix/client/v1/media/download/{uri.removeprefix('mxc://')}"
        for other in everybody:
            status, came = other.home.answer("GET", path, token=other.token)
            assert (status, came == FILE + name) == (200, True)


def test_who_was_away_for_long_catches_up(world: World) -> None:
    """Bob's homeserver is away for so long that nobody tries it any more. Back again, it has everything: what was said,
    in order, and what is for a device. Nobody waits for hours: an operator says that they have passed."""
    alice, bob, carol = world.alice, world.bob, world.carol
    room = world.room_of_three()
    alice.say(room, "before")
    bob.messages(room, "before")
    home, away = alice.home, bob.home
    away.end()

    missed = [f"missed {number}" for number in range(25)]
    for number, text in enumerate(missed):
        (alice if number % 2 else carol).say(room, text)
        # The other answers to what it has.
        (carol if number % 2 else alice).messages(room, text)
    for number in range(5):
        alice.to_device("m.test", bob, {"n": number})
    for peer in (home, carol.home):
        until(partial(peer.has_given_up, away), "it is left alone")
    world.federation.start_one(away)
    home.hears_again_of(away)
    carol.home.hears_again_of(away)
    bob.hears(lambda one: missed[-1] in str(timeline(one, room)), "the latest")
    until(lambda: bob.pages_back(room) == ["before", *missed], "Bob has read everything")
    came = bob.hears_all(lambda one: [each["n"] for each in for_device(one, "m.test")], 4, "what is for Bob")
    assert came == list(range(5))
    bob.say(room, "back")
    for who in (alice, carol):
        who.messages(room, "back")


class Storm:
    """Alice writes to rooms and to a device of Bob's, until her homeserver is no more."""

    def __init__(self, alice: Person, bob: Person, rooms: list[str]) -> None:
        self.accepted: dict[str, list[str]] = {room: [] for room in rooms}
        self.to_device: list[int] = []
        self._alice, self._bob = alice, bob
        writers = [threading.Thread(target=self._write, args=(room,)) for room in rooms]
        self._threads = [*writers, threading.Thread(target=self._send)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """It has ended by itself."""
        for thread in self._threads:
            thread.join()

    def has_come(self, to: Person, room: str) -> None:
        """All of it is there, in order, once the last is."""
        accepted = self.accepted[room]
        until(lambda: accepted[-1] in to.pages_back(room), f"the last has come to {to.id}")
        heard = to.pages_back(room)
        assert [text for text in heard if text in set(accepted)] == accepted

    def _write(self, room: str) -> None:
        for number in range(10_000):
            text = f"{room[-4:]} {number}"
            try:
                self._alice.say(room, text)
            except (OSError, RuntimeError, ValueError):
                return
            self.accepted[room].append(text)

    def _send(self) -> None:
        for number in range(10_000):
            try:
                self._alice.to_device("m.storm", self._bob, {"n": number})
            except (OSError, RuntimeError, ValueError):
                return
            self.to_device.append(number)


# Without the module the last may wait until something else is said in its room, and for longer than a minute.
@pytest.mark.parametrize("world", ["one", "all"], indirect=True)
def test_a_kill_in_mid_storm_loses_nothing(world: World) -> None:
    """Alice's homeserver is killed while she writes to two rooms and a device, with Bob's and Carol's listening. After the
    start they have everything that it had taken from her, in order."""
    alice, bob, carol = world.alice, world.bob, world.carol
    rooms = [world.room_of_two(), world.room_of_three()]
    for room in rooms:
        alice.say(room, "before")
        bob.messages(room, "before")
    storm = Storm(alice, bob, rooms)
    until(lambda: min(len(texts) for texts in storm.accepted.values()) >= 25, "it storms")
    alice.home.kill()
    storm.end()
    world.federation.start_one(alice.home)
    for room in rooms:
        for who in (bob, carol) if room == rooms[1] else (bob,):
            storm.has_come(who, room)
    last = storm.to_device[-1]
    came = bob.hears_all(
        lambda one: [each["n"] for each in for_device(one, "m.storm")], last, "the last word"
    )
    assert [number for number in dict.fromkeys(came) if number <= last] == storm.to_device
