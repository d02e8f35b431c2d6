"""What a real, unpatched Synapse asks homeservers for: by the kernel as by itself, and the client sees no difference."""

from __future__ import annotations

import hashlib
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from . import synapses
from .homeservers import Asked, Homeserver, Homeservers, Reply
from .rooms import Room
from .synapses import Synapse, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(synapses.python() is None, reason="there is no Python with Synapse in .venv"),
]

PROFILE = "/_matrix/federation/v1/query/profile"
MEDIA = "/_matrix/federation/v1/media/download/"
KEYS = "/_matrix/key/v2/server"
FILE = hashlib.sha512(b"a file").digest() * 300_000


class World:
    """A Synapse, a homeserver by its address, and one by a name."""

    def __init__(self, folder: Path, module: dict[str, object] | None, **more: Any) -> None:
        self.module = module
        self.homeservers = Homeservers(folder, 1, "localhost")
        self.by_address, self.by_name = self.homeservers.all
        self.synapse = Synapse(folder, self.homeservers.ca_file, **more)
        self.synapse.start(module)
        self.synapse.register("alice")
        assert self.synapse.said("southbridge asks homeservers for Synapse") == (module is not None)

    def end(self) -> None:
        """Whatever was asked for, nothing was left behind in the reactor."""
        self.synapse.end()
        for complaint in ("Expected logging context", "Unhandled error in Deferred", "re-started"):
            assert not self.synapse.said(complaint), complaint

    def profile(self, of: Homeserver) -> tuple[int, object]:
        return self.synapse.answer("GET", f"/_matrix/client/v3/profile/@user:{of.name}")

    def came_by(self, one: Homeserver, target: str) -> None:
        """It came, and by whom it was to: the kernel writes the names of fields in small letters."""
        asked = one.heard(target)
        assert asked, target
        for request in asked:
            assert (b"\r\nuser-agent: " in request.head) == (self.module is not None)
            fields = request.head.lower().split(b"\r\n")
            assert fields.count(b"host: " + one.name.encode()) == 1
            assert sum(line.startswith(b"authorization: x-matrix ") for line in fields) == 1


@pytest.fixture(params=["kernel", "stock"])
def module(request: pytest.FixtureRequest) -> dict[str, object] | None:
    return {} if request.param == "kernel" else None


@pytest.fixture
def world(tmp_path: Path, module: dict[str, object] | None) -> Iterator[World]:
    world = World(tmp_path, module)
    yield world
    world.end()


def test_what_is_asked_of_homeservers(world: World) -> None:
    """Profiles of homeservers by address and by name, one that is not there, and keys; then a room is joined that lives
    elsewhere."""
    for one in (world.by_address, world.by_name):
        assert world.profile(one) == (200, {"displayname": "Somebody"})
        world.came_by(one, PROFILE)
    missing = Homeserver("127.1.0.1:9")
    assert world.profile(missing)[0] == 502
    room = Room(world.by_address)
    where = urllib.parse.urlencode({"server_name": world.by_address.name})
    joined = world.synapse.client("POST", f"join/{urllib.parse.quote(room.id)}?{where}", {})
    assert joined == {"room_id": room.id}
    assert room.joined == [f"@alice:{world.synapse.name}"]
    for target in ("/_matrix/federation/v1/make_join/", "/_matrix/federation/v2/send_join/", KEYS):
        world.came_by(world.by_address, target)
    world.synapse.say(room.id, "hello")
    until(lambda: world.by_address.events() == ["hello"], "the room is told")


def test_what_is_asked_is_counted_as_by_synapse(world: World) -> None:
    """Two profiles, one of which is not there, and a homeserver that does not listen: which was asked, and has not answered."""
    world.by_name.answers[PROFILE] = lambda _: Reply(b'{"errcode": "M_NOT_FOUND"}', status="404 Not Found")
    before = world.synapse.figures()
    assert world.profile(world.by_address)[0] == 200
    assert world.profile(world.by_name)[0] == 404
    assert world.profile(Homeserver("127.1.0.1:9"))[0] == 502
    now = world.synapse.figures()
    name, get = "synapse_http_matrixfederationclient", f'method="GET",server_name="{world.synapse.name}"'
    counted = {
        key: now[key] - before[key]
        for key in now
        if key.startswith((f"{name}_requests_total", f"{name}_responses_total")) and now[key] != before[key]
    }
    asked = counted.pop(f"{name}_requests_total{{{get}}}")
    # Who does not listen is asked again, by Synapse.
    assert asked >= 3
    assert counted == {f'{name}_responses_total{{code="{code}",{get}}}': 1 for code in (200, 404)}


def test_media_come_whole_or_not_at_all(world: World) -> None:
    """Nineteen megabytes; the same, cut off in the middle; and a file that is elsewhere."""
    file, cut = _media(FILE), _media(FILE, cut=10_000_000)
    world.by_address.answers = {MEDIA + "whole": lambda _: file, MEDIA + "cut": lambda _: cut}
    path = f"/_matrix/client/v1/media/download/{world.by_address.name}/"
    status, body = world.synapse.answer("GET", path + "whole")
    assert (status, body) == (200, FILE)
    world.came_by(world.by_address, MEDIA)
    assert world.synapse.answer("GET", path + "cut")[0] == 502
    assert not world.synapse.rows("SELECT 1 FROM remote_media_cache WHERE media_id = 'cut'")
    assert world.synapse.answer("GET", path + "none")[0] == 404


def test_the_heads_of_media_come_as_one(tmp_path: Path) -> None:
    """A homeserver writes them in pieces that end within the JSON, within the name of a field, and within its value: Synapse
    by itself fails then, or takes the file for something else."""
    world = World(tmp_path, {})
    try:
        file = _media(FILE[:1000])
        file.torn = tuple(
            file.body.index(begin) + 1 for begin in (b"{}", b"ent-Type: application/oct", b"octet")
        )
        world.by_address.answers = {MEDIA + "torn": lambda _: file}
        path = f"/_matrix/client/v1/media/download/{world.by_address.name}/torn"
        assert world.synapse.answer("GET", path) == (200, FILE[:1000])
        kept = world.synapse.rows("SELECT media_type FROM remote_media_cache WHERE media_id = 'torn'")
        assert kept == [("application/octet-stream",)]
    finally:
        world.end()


def test_media_that_are_elsewhere_are_fetched_there(tmp_path: Path, module: dict[str, object] | None) -> None:
    """A homeserver of before redirects: to another, and to where nobody may go."""
    world = World(tmp_path, module, federation_ip_range_blacklist=["127.9.0.0/16"])
    try:
        one, other = world.by_address, world.by_name
        places = {"here": f"https://{other.name}/file", "nowhere": "https://127.9.0.1:443/file"}
        for media, place in places.items():
            one.answers[f"/_matrix/media/v3/download/{one.name}/{media}"] = _redirect(place)
        other.answers["/file"] = lambda _: Reply(FILE[:1000], "application/octet-stream")
        path = f"/_matrix/client/v1/media/download/{one.name}/"
        assert world.synapse.answer("GET", path + "here") == (200, FILE[:1000])
        (asked,) = other.heard("/file")
        assert (b"user-agent: " in asked.head) == (module is not None)
        # Synapse by itself hands the signature on.
        assert (b"x-matrix" in asked.head.lower()) == (module is None)
        assert world.synapse.answer("GET", path + "nowhere")[0] == 502
    finally:
        world.end()


def test_who_does_not_answer_is_waited_for_so_long(tmp_path: Path, module: dict[str, object] | None) -> None:
    """Synapse's own timeout ends a request, and the peer sees it end."""
    world = World(tmp_path, module, federation={"client_timeout": "2s", "max_short_retries": 0})
    try:
        world.by_address.answers["/_matrix/federation/v1/publicRooms"] = lambda _: None
        asked_at = time.monotonic()
        status, _ = world.synapse.answer(
            "GET", f"/_matrix/client/v3/publicRooms?server={world.by_address.name}"
        )
        assert status == 502
        assert 1.9 < time.monotonic() - asked_at < 10
        until(lambda: not world.by_address.connections, "the request is given up", 5)
        assert world.profile(world.by_name)[0] == 200
    finally:
        world.end()


def test_what_must_not_be_dialled_is_not(tmp_path: Path, module: dict[str, object] | None) -> None:
    """A server name that is a forbidden address, and one that leads to such an address."""
    forbidden = ["127.0.0.1/32", "::1/128", "127.1.0.1/32"]
    world = World(tmp_path, module, federation_ip_range_blacklist=forbidden)
    try:
        for one in (world.by_address, world.by_name):
            assert world.profile(one)[0] in (403, 502)
            assert one.asked == []
    finally:
        world.end()


def _redirect(place: str) -> Callable[[Asked], Reply]:
    return lambda _: Reply(b"", status="307 Temporary Redirect", fields=f"Location: {place}\r\n")


def _media(content: bytes, cut: int | None = None) -> Reply:
    parts = b"--b\r\nContent-Type: application/json\r\n\r\n{}\r\n--b\r\nContent-Type: application/octet-stream\r\n\r\n"
    return Reply(parts + content + b"\r\n--b--\r\n", "multipart/mixed; boundary=b", cut=cut)
