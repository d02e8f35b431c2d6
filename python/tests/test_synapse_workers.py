"""The module in a Synapse of several processes, two of which send: on real PostgreSQL and Redis."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from . import synapses
from .daemons import Daemon
from .databases import Postgres
from .homeservers import Homeserver, Homeservers, Reply
from .synapses import until
from .test_synapse import World
from .workers import Deployment, Redis

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(synapses.python() is None, reason="there is no Python with Synapse in .venv"),
    pytest.mark.skipif(
        not synapses.has("psycopg2, txredisapi"), reason="this Synapse cannot speak with PostgreSQL and Redis"
    ),
]


class Sharded(World):
    """A Synapse in three processes, a room, and homeservers that have joined it."""

    synapse: Deployment

    def __init__(self, folder: Path, postgres: Postgres, redis: Redis) -> None:
        self.folder = folder
        # Enough that no shard is without.
        self.homeservers = Homeservers(folder, 14)
        names = [one.name for one in self.homeservers.all]
        self.synapse = Deployment(
            folder,
            self.homeservers.ca_file,
            postgres.database(),
            redis,
            federation_metrics_domains=names,
        )

    def of(self, number: int) -> list[Homeserver]:
        """The homeservers that the sender of this number serves."""
        sender = self.synapse.senders[number]
        return [one for one in self.homeservers.all if self.synapse.shard(one.name) is sender]


@pytest.fixture
def sharded(tmp_path: Path, postgres: Postgres) -> Iterator[Sharded]:
    redis = Redis()
    try:
        sharded = Sharded(tmp_path, postgres, redis)
        yield sharded
        sharded.synapse.kill()
    finally:
        redis.stop()


def test_each_homeserver_is_served_by_its_shard(sharded: Sharded) -> None:
    """Twenty messages, typing, a receipt and a message to a device: everybody has each once and in order, from the process that
    Synapse has chosen for it. The process that does not send says so."""
    room = sharded.begin({})
    synapse = sharded.synapse
    assert synapse.said("southbridge sends nothing in the process master")
    assert not synapse.said("southbridge sends for Synapse")
    assert all(sender.said("southbridge sends for Synapse") for sender in synapse.senders)
    texts = [f"m{number}" for number in range(20)]
    event = [synapse.say(room, text) for text in texts][-1]
    user = f"@alice:{synapse.name}"
    synapse.client("PUT", f"rooms/{room}/typing/{user}", {"typing": True, "timeout": 30_000})
    synapse.client("POST", f"rooms/{room}/receipt/m.read/{event}", {})
    for_devices = {f"@user:{one.name}": {"D": {"n": 1}} for one in sharded.homeservers.all}
    synapse.client("PUT", "sendToDevice/m.test/1", {"messages": for_devices})
    sharded.until_heard(texts)
    for one in sharded.homeservers.all:
        for kind in ("m.typing", "m.receipt", "m.direct_to_device"):
            until(partial(one.edus, kind), f"{one.name} hears of {kind}")
        assert one.events() == texts
        assert len(one.edus("m.direct_to_device")) == 1
    sharded.until_written(*(one.name for one in sharded.homeservers.all))
    until(lambda: not synapse.rows("SELECT 1 FROM device_federation_outbox"), "no device is waited for")
    for number, sender in enumerate(synapse.senders):
        served = {one.name for one in sharded.of(number)}
        assert served
        until(lambda: sender.sent_to() == served, f"{sender.worker} has sent to its own")  # noqa: B023


def test_who_does_not_send_asks_by_the_kernel_all_the_same(sharded: Sharded) -> None:
    """The process that users speak with asks a homeserver for a profile and for a file: it has a kernel of its own."""
    sharded.begin({})
    synapse, one = sharded.synapse, sharded.homeservers.all[0]
    processes = (synapse, *synapse.senders)
    assert all(each.said("southbridge asks homeservers for Synapse") for each in processes)
    profile = "/_matrix/federation/v1/query/profile"
    assert synapse.answer("GET", f"/_matrix/client/v3/profile/@user:{one.name}")[0] == 200
    media = "/_matrix/federation/v1/media/download/"
    parts = b"--b\r\nContent-Type: application/json\r\n\r\n{}\r\n--b\r\nContent-Type: text/plain\r\n\r\n"
    file = Reply(parts + b"a file\r\n--b--\r\n", "multipart/mixed; boundary=b")
    one.answers[media] = lambda _: file
    path = f"/_matrix/client/v1/media/download/{one.name}/file"
    assert synapse.answer("GET", path) == (200, b"a file")
    for target in (profile, media):
        [asked] = one.heard(target)
        # The kernel writes the names of fields in small letters.
        assert b"\r\nuser-agent: " in asked.head


def test_a_sender_that_is_killed_loses_nothing(sharded: Sharded) -> None:
    """One of the two is killed in the middle of a storm, and started again after it. The homeservers of the other have not noticed;
    its own have the latest, and nothing in another order."""
    room = sharded.begin({})
    synapse = sharded.synapse
    synapse.say(room, "before")
    sharded.until_heard(["before"])
    sharded.until_written(*(one.name for one in sharded.homeservers.all))
    texts = [f"m{number}" for number in range(40)]
    for text in texts[:20]:
        synapse.say(room, text)
    synapse.senders[0].kill()
    for text in texts[20:]:
        synapse.say(room, text)
    sharded.until_heard(texts, *sharded.of(1))
    synapse.senders[0].begin()
    synapse.senders[0].until_up()
    sharded.until_heard(texts)
    synapse.say(room, "after")
    sharded.until_heard(["after"])
    sharded.until_written(*(one.name for one in sharded.homeservers.all))
    everything = ["before", *texts, "after"]
    for one in sharded.of(1):
        assert one.events() == everything
    for one in sharded.of(0):
        heard = list(dict.fromkeys(one.events()))
        assert heard == sorted(heard, key=everything.index)
        # Of what was missed by whoever lags behind, Synapse sends the latest; the rest is for the receiver to ask for.
        assert heard[-2:] == ["m39", "after"]


def test_senders_share_the_kernel_of_a_daemon(sharded: Sharded) -> None:
    """Two senders, one daemon, which is killed in between: each homeserver has the latest from its own sender, and in order; the process
    that does not send is not there."""
    daemon = Daemon(sharded.folder / "daemon", sharded.homeservers.ca_file)
    daemon.start()
    try:
        room = sharded.begin({"daemon": str(daemon.socket)})
        texts = [f"m{number}" for number in range(30)]
        for number, text in enumerate(texts):
            sharded.synapse.say(room, text)
            if number == 19:
                sharded.until_heard(texts[:20])
                assert all(one.events() == texts[:20] for one in sharded.homeservers.all)
                assert daemon.said("module connected") == 2
                sharded.until_written(*(one.name for one in sharded.homeservers.all))
                daemon.kill()
        daemon.start()
        sharded.until_heard(texts)
        for one in sharded.homeservers.all:
            heard = list(dict.fromkeys(one.events()))
            assert heard == sorted(heard, key=texts.index)
        for number, sender in enumerate(sharded.synapse.senders):
            served = {one.name for one in sharded.of(number)}
            until(lambda: sender.sent_to() == served, f"{sender.worker} has sent to its own")  # noqa: B023
    finally:
        daemon.kill()
