"""The module in a real, unpatched Synapse, and homeservers that are members of its rooms."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from southbridge.synapse._releases import RELEASES

from . import synapses
from .databases import Database
from .homeservers import Asked, Homeserver, Homeservers, Reply, ask
from .synapses import Synapse, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(synapses.python() is None, reason="there is no Python with Synapse in .venv"),
]


class World:
    """A Synapse, a room, and homeservers that have joined it."""

    def __init__(self, folder: Path, count: int, database: Database | None = None) -> None:
        self.homeservers = Homeservers(folder, count)
        self.synapse = Synapse(folder, self.homeservers.ca_file, database)
        self.folder = folder

    def begin(self, module: dict[str, object] | None) -> str:
        """Start, with a room that all of them have joined."""
        self.synapse.start(module)
        self.synapse.register("alice")
        room = self.synapse.room()
        for one in self.homeservers.all:
            self.homeservers.join(one, self.synapse.port, self.synapse.name, room)
        return room

    def begin_with_two_away(self, module: dict[str, object] | None) -> tuple[str, Homeserver, Homeserver]:
        """The same, and two are away by now: the first, which has heard something, and the last, which was never reached."""
        room = self.begin(module)
        away, *present, unknown = self.homeservers.all
        self.homeservers.close(unknown)
        self.synapse.say(room, "before")
        self.until_heard(["before"], away, *present)
        self.until_written(*(one.name for one in (away, *present)))
        assert unknown.sent == []
        self.homeservers.close(away)
        return room, away, unknown

    def is_asked_by(self, homeserver: Homeserver) -> None:
        """``homeserver`` asks Synapse for something, who Alice is."""
        path = f"/_matrix/federation/v1/query/profile?user_id=@alice:{self.synapse.name}"
        ask(homeserver, self.synapse.port, self.synapse.name, ("GET", path))

    def until_heard(self, texts: list[str], *by: Homeserver) -> None:
        """Wait until the latest of ``texts`` has come everywhere."""
        everybody = by or tuple(self.homeservers.all)
        until(lambda: all(texts[-1] in one.events() for one in everybody), f"everybody hears {texts[-1]}")

    def until_written(self, *names: str) -> None:
        """Wait until the database says that ``names`` have everything."""
        behind = (
            "SELECT d.destination FROM destinations d JOIN destination_rooms r ON r.destination = d.destination"
            " WHERE r.stream_ordering > coalesce(d.last_successful_stream_ordering, -1)"
        )

        def is_written() -> bool:
            late = {name for (name,) in self.synapse.rows(behind)}
            return not late.intersection(names)

        until(is_written, "it is written down")


@pytest.fixture(params=["sqlite"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    is_sqlite = request.param == "sqlite"
    world = World(tmp_path, 5, None if is_sqlite else request.getfixturevalue("postgres").database())
    yield world
    world.synapse.kill()


# A story that is told on each database.
on_each = pytest.mark.parametrize("world", ["sqlite", "postgresql"], indirect=True)


@on_each
def test_messages_arrive_once_and_in_order(world: World) -> None:
    """Thirty messages to five homeservers, with typing, a receipt and a to-device message; then it is all written down."""
    room = world.begin({})
    assert world.synapse.said("southbridge sends for Synapse")
    texts = [f"m{number}" for number in range(30)]
    event = [world.synapse.say(room, text) for text in texts][-1]
    user = f"@alice:{world.synapse.name}"
    world.synapse.client("PUT", f"rooms/{room}/typing/{user}", {"typing": True, "timeout": 30_000})
    world.synapse.client("POST", f"rooms/{room}/receipt/m.read/{event}", {})
    for_devices = {f"@user:{one.name}": {"D": {"n": 1}} for one in world.homeservers.all}
    world.synapse.client("PUT", "sendToDevice/m.test/1", {"messages": for_devices})
    world.until_heard(texts)
    for one in world.homeservers.all:
        assert one.events() == texts
        for kind in ("m.typing", "m.receipt", "m.direct_to_device"):
            until(partial(one.edus, kind), f"{one.name} hears of {kind}")
        wanted = {user: devices for user, devices in for_devices.items() if user.endswith(f":{one.name}")}
        assert [edu["messages"] for edu in one.edus("m.direct_to_device")] == [wanted]
        assert all(sent.body["origin"] == world.synapse.name for sent in one.sent)
    world.until_written(*(one.name for one in world.homeservers.all))
    until(lambda: not world.synapse.rows("SELECT 1 FROM device_federation_outbox"), "no device is waited for")


@on_each
def test_who_was_away_catches_up(world: World) -> None:
    """One is away for longer than the kernel keeps what is for it: Synapse's own catching up takes over, and nobody else
    waits. Back again, it hears of the latest, and then of everything."""
    room = world.begin({"give_back_after": 1.0})
    away, *others = world.homeservers.all
    world.synapse.say(room, "before")
    world.until_heard(["before"])
    world.until_written(away.name)
    world.homeservers.close(away)
    world.synapse.say(room, "lost one")
    world.synapse.say(room, "lost two")
    world.until_heard(["lost two"], *others)
    until(
        lambda: world.synapse.rows("SELECT 1 FROM destinations WHERE retry_interval > 0"),
        "it is backed off from",
    )
    assert [
        name
        for (name,) in world.synapse.rows("SELECT destination FROM destinations WHERE retry_interval > 0")
    ] == [away.name]
    world.homeservers.open(away)
    world.synapse.ask("POST", f"/_synapse/admin/v1/federation/destinations/{away.name}/reset_connection", {})
    world.until_heard(["lost two"], away)
    world.synapse.say(room, "after")
    world.until_heard(["after"])
    assert away.events() == ["before", "lost two", "after"]
    world.until_written(*(one.name for one in world.homeservers.all))
    assert not world.synapse.rows("SELECT 1 FROM destinations WHERE retry_interval > 0")


def test_who_is_back_is_tried_at_once(world: World) -> None:
    """They were tried in vain so often that the kernel leaves them alone for a while. That they are back ends this as well:
    the first attempt to catch one up is taken to it, and does not run out of time in the kernel."""
    room = world.begin({"give_back_after": 1.0})
    everybody, home = world.homeservers.all, world.synapse
    home.say(room, "before")
    world.until_heard(["before"])
    world.until_written(*(one.name for one in everybody))
    for one in everybody:
        world.homeservers.close(one)
    home.say(room, "lost")

    def until_left_alone() -> None:
        backed_off = "SELECT destination FROM destinations WHERE retry_interval > 0"
        until(lambda: len(home.rows(backed_off)) == len(everybody), "they are backed off from")

    def are_back() -> None:
        for one in everybody:
            home.ask("POST", f"/_synapse/admin/v1/federation/destinations/{one.name}/reset_connection", {})

    until_left_alone()
    for _ in range(4):
        are_back()
        until_left_alone()
    failures = home.log.read_text().count("Failed to send transaction")
    for one in everybody:
        world.homeservers.open(one)
    are_back()
    world.until_heard(["lost"])
    assert home.log.read_text().count("Failed to send transaction") == failures


def test_who_speaks_is_tried_at_once(world: World) -> None:
    """One refuses four times, and the kernel waits for five seconds and more before it tries again; but it asks for something
    itself, and is tried at once. Synapse has not noticed that there was anything with it."""
    room = world.begin({})
    busy, home = world.homeservers[0], world.synapse
    send = "/_matrix/federation/v1/send/"
    refused: list[Asked] = []

    def refuse(asked: Asked) -> Reply:
        refused.append(asked)
        return Reply(b"{}", status="503 Service Unavailable")

    busy.answers[send] = refuse
    home.say(room, "waits")
    until(lambda: len(refused) == 4, "it has refused four times")
    del busy.answers[send]
    world.is_asked_by(busy)
    until(lambda: busy.events() == ["waits"], "it is tried", 4)


# That somebody was given back is heard of, and written down when the test says so.
SLOWLY = """
from pathlib import Path
from synapse.logging.context import make_deferred_yieldable
from southbridge.synapse._progress import Progress

write_places = Progress._write_places

async def slowly(self):
    if self._given_back:
        Path("heard").touch()
    while self._given_back and not Path("go on").exists():
        from twisted.internet import reactor, task
        await make_deferred_yieldable(task.deferLater(reactor, 0.05, lambda: None))
    await write_places(self)

Progress._write_places = slowly
"""


def test_who_is_back_meanwhile_is_not_backed_off_from(world: World) -> None:
    """One is given back, and is there again and asks for something before that has been written down. Nobody backs off from it:
    it hears of the latest at once."""
    (world.folder / "sitecustomize.py").write_text(SLOWLY)
    room = world.begin({"give_back_after": 1.0})
    away, home = world.homeservers[0], world.synapse
    home.say(room, "before")
    world.until_heard(["before"])
    world.until_written(away.name)
    world.homeservers.close(away)
    home.say(room, "lost")
    until((world.folder / "heard").exists, "it is given back")
    world.homeservers.open(away)
    world.is_asked_by(away)
    (world.folder / "go on").touch()
    world.until_heard(["lost"], away)
    world.until_written(away.name)
    assert not home.rows("SELECT 1 FROM destinations WHERE retry_interval > 0")


# That something failed is heard of when the test says so.
FAILING = """
from pathlib import Path
from southbridge.synapse import _transactions

yieldable = _transactions.make_deferred_yieldable

async def slowly(carrying):
    try:
        return await yieldable(carrying)
    except Exception:
        from twisted.internet import reactor, task
        Path("failed").touch()
        while not Path("go on").exists():
            await yieldable(task.deferLater(reactor, 0.05, lambda: None))
        raise

_transactions.make_deferred_yieldable = slowly
"""

# Who has signed a request is known when the test says so.
SIGNED = """
from pathlib import Path
from synapse.federation.transport.server._base import Authenticator
from synapse.logging.context import make_deferred_yieldable

authenticate = Authenticator.authenticate_request

async def slowly(self, request, content):
    origin = await authenticate(self, request, content)
    if Path("look").exists():
        from twisted.internet import reactor, task
        Path("signed").touch()
        while not Path("go on").exists():
            await make_deferred_yieldable(task.deferLater(reactor, 0.05, lambda: None))
    return origin

Authenticator.authenticate_request = slowly
"""


@pytest.mark.parametrize("late", [FAILING, SIGNED], ids=["while it fails", "when it has failed"])
def test_who_speaks_when_an_attempt_fails_is_tried_again(world: World, late: str) -> None:
    """One is away, and an attempt to send to it fails. It is back, and asks for something: before Synapse has heard of the
    failure, or after it has looked whether it backs off from that one. It says nothing else, and hears what there is."""
    (world.folder / "sitecustomize.py").write_text(late)
    room = world.begin({"give_back_after": 1.0})
    away, home = world.homeservers[0], world.synapse
    home.say(room, "before")
    world.until_heard(["before"])
    world.until_written(away.name)
    world.homeservers.close(away)
    (world.folder / "look").touch()
    with ThreadPoolExecutor(1) as pool:
        message = {"messages": {f"@user:{away.name}": {"DEVICE": {"secret": "s"}}}}
        home.client("PUT", "sendToDevice/m.test/1", message)
        if late is FAILING:
            until((world.folder / "failed").exists, "it has failed")
            asking = pool.submit(world.is_asked_by, away)
            asking.result()
        else:
            asking = pool.submit(world.is_asked_by, away)
            until((world.folder / "signed").exists, "it is known who asks")
            until(lambda: home.said("Failed to send transaction"), "it has failed")
        world.homeservers.open(away)
        (world.folder / "go on").touch()
        asking.result()
    assert until(partial(away.edus, "m.direct_to_device"), "it has come")
    backed_off = "SELECT 1 FROM destinations WHERE retry_interval > 0"
    until(lambda: not home.rows(backed_off), "nobody is backed off from")


# That somebody was given back is heard of while his queue looks for what there is in the database.
LOOKING = """
from pathlib import Path
from southbridge.synapse._progress import Progress
from southbridge.synapse._queue import LiveQueue
from southbridge.synapse._sender import KernelSender

give_back, let_go, told = Progress.give_back, LiveQueue.let_go, []

def later(*given_back):
    told.append(given_back)
    Path("told").touch()

def meanwhile(self, edus, *, is_of_database):
    while told:
        give_back(*told.pop())
    return let_go(self, edus, is_of_database=is_of_database)

Progress.give_back, LiveQueue.let_go = later, meanwhile
KernelSender.heard_of = KernelSender.wake_destination
"""


def test_who_is_given_back_while_his_queue_looks_is_caught_up(world: World) -> None:
    """The queue of one looks whether there is something for it in the database, which there is not, and then the kernel takes over
    again: but meanwhile it was given back. It is caught up nevertheless."""
    (world.folder / "sitecustomize.py").write_text(LOOKING)
    room = world.begin({"give_back_after": 1.0})
    away, home = world.homeservers[0], world.synapse
    home.say(room, "before")
    world.until_heard(["before"])
    world.homeservers.close(away)
    home.say(room, "lost")
    until((world.folder / "told").exists, "it is given back")
    world.homeservers.open(away)
    world.is_asked_by(away)
    world.until_heard(["lost"], away)
    world.until_written(away.name)


@on_each
def test_a_crash_loses_nothing(world: World) -> None:
    """Two are away when Synapse is killed in the middle of a storm, one of which it has never reached. After the start
    everybody has the latest message, and nobody hears of anything in another order."""
    room, away, unknown = world.begin_with_two_away({})
    texts = [f"m{number}" for number in range(40)]
    for text in texts:
        world.synapse.say(room, text)
    world.synapse.kill()
    world.homeservers.open(away)
    world.homeservers.open(unknown)
    world.synapse.start({})
    world.until_heard(texts)
    world.synapse.say(room, "after")
    world.until_heard(["after"])
    for one in world.homeservers.all:
        heard = list(dict.fromkeys(one.events()))
        assert heard[-2:] == ["m39", "after"]
        assert heard == sorted(heard, key=["before", *texts, "after"].index)


def test_the_first_thing_is_a_message_to_a_device(world: World) -> None:
    """Nothing was ever sent to a homeserver, or only what the kernel has carried alone; then there is something in the
    database for it."""
    world.begin({})
    user = {one.name: f"@user:{one.name}" for one in world.homeservers.all}
    content = {"messages": {name: {"DEVICE": {"secret": "s"}} for name in user.values()}}
    world.synapse.client("PUT", "sendToDevice/m.test/1", content)
    for one in world.homeservers.all:
        sent = partial(one.edus, "m.direct_to_device")
        assert until(sent, "it has come")[0]["messages"] == {user[one.name]: {"DEVICE": {"secret": "s"}}}


def test_a_synapse_that_is_not_known_is_left_alone(world: World) -> None:
    """A release that lacks an attribute: one line says so, and Synapse sends by itself."""
    (world.folder / "sitecustomize.py").write_text(
        "from synapse.federation.sender import FederationSender\n"
        "FederationSender._send_pdu_to_all = FederationSender._send_pdu\n"
        "async def _send_pdu(self, pdu, destinations, why=None):\n"
        "    await self._send_pdu_to_all(pdu, destinations)\n"
        "FederationSender._send_pdu = _send_pdu\n"
    )
    room = world.begin({})
    assert world.synapse.said("FederationSender._send_pdu (other parameters)")
    assert not world.synapse.said("southbridge sends for Synapse")
    world.synapse.say(room, "by itself")
    world.until_heard(["by itself"])


def test_a_synapse_that_lacks_something_is_left_alone(world: World) -> None:
    """An attribute that nobody but the module needs is not there: that is the one line it says, and Synapse sends by itself."""
    (world.folder / "sitecustomize.py").write_text(
        "from synapse.metrics import LaterGauge\ndel LaterGauge.unregister_hooks_for_homeserver_instance_id\n"
    )
    room = world.begin({})
    [line] = [line for line in world.synapse.lines() if "southbridge.synapse - " in line]
    assert "ERROR" in line
    assert "sends by itself: southbridge does not know it: " in line
    assert "LaterGauge.unregister_hooks_for_homeserver_instance_id (not there)" in line
    world.synapse.say(room, "by itself")
    world.until_heard(["by itself"])


@pytest.mark.skipif(synapses.has_any(*RELEASES), reason="this release is known")
def test_an_old_release_is_left_alone(world: World) -> None:
    """A release as it is, which has not what the module needs: one line says what is missing, and Synapse sends by itself."""
    room = world.begin({})
    [line] = [line for line in world.synapse.lines() if "southbridge.synapse - " in line]
    assert "sends by itself: southbridge does not know it: " in line
    assert line.endswith((" (not there)", " (other parameters)")) or " has no " in line
    world.synapse.say(room, "by itself")
    world.until_heard(["by itself"])


def test_what_cannot_be_honoured_is_left_alone(world: World) -> None:
    """A setting of ``homeserver.yaml`` that the kernel does not know: one line says which."""
    world.synapse = Synapse(world.folder, world.homeservers.ca_file, federation_verify_certificates=False)
    room = world.begin({})
    assert world.synapse.said("federation_verify_certificates: false is set")
    world.synapse.say(room, "by itself")
    world.until_heard(["by itself"])
