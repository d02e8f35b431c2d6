"""The module in real Synapses that send by the kernel of one `southbridge serve`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from . import synapses
from .daemons import Daemon
from .homeservers import Homeserver
from .synapses import Synapse, until
from .test_synapse import World

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(synapses.python() is None, reason="there is no Python with Synapse in .venv"),
]


class Shared(World):
    """A Synapse whose kernel is a daemon's, a room, and homeservers that have joined it."""

    def __init__(self, folder: Path, count: int) -> None:
        super().__init__(folder, count)
        self.daemon = Daemon(folder / "daemon", self.homeservers.ca_file)
        self.module: dict[str, Any] = {"daemon": str(self.daemon.socket)}

    def another(self, name: str) -> Synapse:
        """One more Synapse."""
        folder = self.folder / name
        folder.mkdir()
        synapse = Synapse(folder, self.homeservers.ca_file, server_name=name)
        synapse.name = name
        return synapse

    def are_left_alone(self) -> bool:
        """Whether somebody is backed off from."""
        return bool(self.synapse.rows("SELECT 1 FROM destinations WHERE retry_interval > 0"))


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[Shared]:
    shared = Shared(tmp_path, 5)
    yield shared
    shared.synapse.kill()
    shared.daemon.kill()


def test_two_synapses_share_a_kernel(shared: Shared) -> None:
    """Each has a room that the same homeservers have joined: messages, typing, a receipt, messages to devices come once, in order,
    and in the name of the right one."""
    shared.daemon.start()
    other = shared.another("other.test")
    try:
        rooms = [shared.begin(shared.module)]
        other.start(shared.module)
        other.register("alice")
        rooms.append(other.room())
        for one in shared.homeservers.all:
            shared.homeservers.join(one, other.port, other.name, rooms[1])
        both = [shared.synapse, other]
        texts = [[f"{synapse.name} {number}" for number in range(20)] for synapse in both]
        for number in range(20):
            for synapse, room, own in zip(both, rooms, texts, strict=True):
                synapse.say(room, own[number])
        event = other.say(rooms[1], "read")
        texts[1].append("read")
        user = f"@alice:{other.name}"
        other.client("PUT", f"rooms/{rooms[1]}/typing/{user}", {"typing": True, "timeout": 30_000})
        other.client("POST", f"rooms/{rooms[1]}/receipt/m.read/{event}", {})
        for_devices = {f"@user:{one.name}": {"D": {"n": 1}} for one in shared.homeservers.all}
        other.client("PUT", "sendToDevice/m.test/1", {"messages": for_devices})
        for own in texts:
            shared.until_heard(own)
        for one in shared.homeservers.all:
            for kind in ("m.typing", "m.receipt", "m.direct_to_device"):
                until(partial(one.edus, kind), f"{one.name} hears of {kind}")
            for synapse, own in zip(both, texts, strict=True):
                assert events_of(one, synapse.name) == own
        assert shared.daemon.said("module connected") == 2
        shared.until_written(*(one.name for one in shared.homeservers.all))
        until(lambda: not other.rows("SELECT 1 FROM device_federation_outbox"), "no device is waited for")
    finally:
        other.kill()


def events_of(one: Homeserver, origin: str) -> list[str]:
    """The messages that came from there, in order, each as often as it came."""
    pdus = [pdu for sent in one.sent if sent.body["origin"] == origin for pdu in sent.body["pdus"]]
    return [str(pdu["content"]["body"]) for pdu in pdus if pdu["type"] == "m.room.message"]


def test_a_daemon_may_come_later_and_go(shared: Shared) -> None:
    """Synapse starts without it, and says what it waits for. What is said meanwhile comes one by one when it is there. Then it is
    started anew: nothing comes twice, nothing is missing, and nobody is backed off from."""
    room = shared.begin(shared.module)
    assert shared.synapse.said(f"nobody listens at {shared.daemon.socket}")
    assert shared.synapse.said("start `southbridge serve`")
    texts = ["early 1", "early 2"]
    for text in texts:
        shared.synapse.say(room, text)
    shared.daemon.start()
    shared.until_heard(texts)
    texts += [f"then {number}" for number in range(5)]
    for text in texts[2:]:
        shared.synapse.say(room, text)
    shared.until_heard(texts)
    shared.daemon.end()
    texts += [f"away {number}" for number in range(5)]
    for text in texts[7:]:
        shared.synapse.say(room, text)
    for_devices = {f"@user:{one.name}": {"D": {"n": 1}} for one in shared.homeservers.all}
    shared.synapse.client("PUT", "sendToDevice/m.test/1", {"messages": for_devices})
    shared.daemon.start()
    shared.until_heard(texts)
    for one in shared.homeservers.all:
        until(partial(one.edus, "m.direct_to_device"), f"{one.name} hears of its device")
        assert one.events() == texts
    shared.until_written(*(one.name for one in shared.homeservers.all))
    until(
        lambda: not shared.synapse.rows("SELECT 1 FROM device_federation_outbox"), "no device is waited for"
    )
    assert not shared.are_left_alone()


def test_a_daemon_that_is_replaced_hands_over(shared: Shared) -> None:
    """Its successor takes the socket over, the module goes to it by itself, and what is said before and after comes once and in
    order."""
    shared.daemon.start()
    room = shared.begin(shared.module)
    texts = [f"m{number}" for number in range(20)]
    for text in texts[:10]:
        shared.synapse.say(room, text)
    shared.until_heard(texts[:10])
    shared.daemon.replace()
    for text in texts[10:]:
        shared.synapse.say(room, text)
    shared.until_heard(texts)
    assert shared.daemon.said("module connected") == 2
    assert all(one.events() == texts for one in shared.homeservers.all)
    shared.until_written(*(one.name for one in shared.homeservers.all))


def test_a_daemon_that_is_killed_loses_nothing(shared: Shared) -> None:
    """Two are away when it is killed in the middle of a storm, one of which it has never reached. When there is another everybody
    has the latest message, and nobody hears of anything in another order; who was away is not backed off from for it."""
    shared.daemon.start()
    room, away, unknown = shared.begin_with_two_away(shared.module)
    texts = [f"m{number}" for number in range(60)]
    for number, text in enumerate(texts):
        shared.synapse.say(room, text)
        if number == 30:
            shared.daemon.kill()
        if number == 45:
            shared.daemon.start()
    shared.homeservers.open(away)
    shared.homeservers.open(unknown)
    shared.daemon.kill()
    shared.daemon.start()
    shared.until_heard(texts)
    shared.synapse.say(room, "after")
    shared.until_heard(["after"])
    for one in shared.homeservers.all:
        heard = list(dict.fromkeys(one.events()))
        assert heard[-2:] == ["m59", "after"]
        assert heard == sorted(heard, key=["before", *texts, "after"].index)
    shared.until_written(*(one.name for one in shared.homeservers.all))
    assert not shared.are_left_alone()


def test_a_synapse_that_is_killed_comes_back(shared: Shared) -> None:
    """Its bus ends with it, and is not there when it comes again: it catches up, and what it sends comes in order."""
    shared.daemon.start()
    room = shared.begin(shared.module)
    texts = [f"m{number}" for number in range(30)]
    for text in texts:
        shared.synapse.say(room, text)
    shared.synapse.kill()
    until(lambda: shared.daemon.said("module disconnected"), "the daemon notices")
    shared.synapse.start(shared.module)
    shared.until_heard(texts)
    shared.synapse.say(room, "after")
    shared.until_heard(["after"])
    for one in shared.homeservers.all:
        heard = list(dict.fromkeys(one.events()))
        assert heard == sorted(heard, key=[*texts, "after"].index)


def test_what_must_not_be_dialled_is_not_by_the_daemon(shared: Shared) -> None:
    """Synapse forbids what the daemon would dial: it is given no bus, and its log says which setting of which is to be changed."""
    shared.daemon.start()
    shared.synapse = Synapse(
        shared.folder, shared.homeservers.ca_file, federation_ip_range_blacklist=["127.9.0.0/16"]
    )
    room = shared.begin(shared.module)
    until(lambda: shared.synapse.said("127.9.0.0/16 must not be dialled for it"), "it is refused")
    assert shared.synapse.said("put it under `deny` of [addresses]")
    shared.synapse.say(room, "stays at home")
    assert all(not one.sent for one in shared.homeservers.all)
