"""Files that homeservers send to a real, unpatched Synapse: what lies on its disk and in its database, and who wrote it."""

from __future__ import annotations

import hashlib
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import synapses
from .homeservers import Reply
from .synapses import until
from .test_synapse_agent import FILE, MEDIA, World

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(synapses.python() is None, reason="there is no Python with Synapse in .venv"),
]

LEGACY = "/_matrix/media/v3/download/"
DELIMITER = b"\r\n--b"

# Says how much of files goes through Python.
WATCHER = """
import synapse.media.media_storage as storage

_write = storage.SHA256TransparentIOWriter.write

def write(self, data):
    print("written by python:", len(data), flush=True)
    return _write(self, data)

storage.SHA256TransparentIOWriter.write = write
"""


@pytest.fixture(params=["kernel", "stock"])
def module(request: pytest.FixtureRequest) -> dict[str, object] | None:
    return {} if request.param == "kernel" else None


@pytest.fixture
def world(tmp_path: Path, module: dict[str, object] | None) -> Iterator[World]:
    (tmp_path / "sitecustomize.py").write_text(WATCHER)
    world = World(
        tmp_path, module, max_upload_size="32M", federation={"client_timeout": "3s", "max_short_retries": 0}
    )
    yield world
    world.end()


def parted(content: bytes, boundary: bytes = b"b", kind: bytes = b"application/x-test", **more: Any) -> Reply:
    """A file, as homeservers send it to each other."""
    head = b"--" + boundary + b"\r\nContent-Type: "
    parts = head + b"application/json\r\n\r\n{}\r\n" + head + kind + b"\r\n\r\n"
    body = parts + content + b"\r\n--" + boundary + b"--\r\n"
    return Reply(body, f"multipart/mixed; boundary={boundary.decode()}", **more)


def redirect(place: str) -> Reply:
    """Elsewhere."""
    return Reply(b"", status="307 Temporary Redirect", fields=f"Location: {place}\r\n")


def fetch(world: World, name: str) -> tuple[int, Any]:
    """The file of that name, of the first homeserver, as a user of Synapse has it."""
    return world.synapse.answer("GET", f"/_matrix/client/v1/media/download/{world.by_address.name}/{name}")


def kept(world: World, name: str) -> tuple[str, int, str, bytes]:
    """What Synapse knows of a file: its type, its length and its hash; and what is on the disk."""
    query = "SELECT media_type, media_length, sha256, filesystem_id FROM remote_media_cache WHERE media_id = "
    [(kind, length, sha256, file_id)] = world.synapse.rows(f"{query}'{name}'")
    folder = world.synapse.folder / "media" / "remote_content" / world.by_address.name
    path = folder / file_id[:2] / file_id[2:4] / file_id[4:]
    return kind, length, sha256, path.read_bytes()


def by_python(world: World) -> int:
    """How much has gone through Python."""
    told = "written by python: "
    return sum(int(line.split(told)[1]) for line in world.synapse.lines() if told in line)


def test_files_lie_on_the_disk_as_they_were_sent(world: World) -> None:
    """A large one, one of a byte, one of nothing, one that comes without its length, one of a homeserver of before, which has no
    parts, and one that this sends elsewhere for: with their lengths, types and hashes. The kernel hands none of it to Python."""
    place = f"https://{world.by_name.name}/file"
    files = {
        "large": (MEDIA, FILE, parted(FILE)),
        "small": (MEDIA, b"x", parted(b"x")),
        "empty": (MEDIA, b"", parted(b"")),
        "unsaid": (MEDIA, FILE[:3_000_000], parted(FILE[:3_000_000], chunked=True)),
        "before": (LEGACY + world.by_address.name + "/", FILE, Reply(FILE, "application/x-test")),
        "moved": (LEGACY + world.by_address.name + "/", FILE[:2_000_000], redirect(place)),
    }
    world.by_name.answers["/file"] = lambda _: Reply(FILE[:2_000_000], "application/x-test")
    for name, (path, content, reply) in files.items():
        world.by_address.answers[path + name] = lambda _, reply=reply: reply  # type: ignore[misc]
        assert fetch(world, name) == (200, content), name
        sha256 = hashlib.sha256(content).hexdigest()
        assert kept(world, name) == ("application/x-test", len(content), sha256, content), name
    total = sum(len(content) for _, content, _ in files.values())
    assert by_python(world) == (total if world.module is None else 0)


def test_what_looks_like_the_end_of_a_file_is_in_it(world: World) -> None:
    """The delimiter, with something behind it that makes it none; from there on Python has the last word, and the hash is of
    all of it."""
    content = FILE[:300_000] + DELIMITER + b"oundary" + FILE[:200_000] + DELIMITER[:-1]
    world.by_address.answers[MEDIA + "alike"] = lambda _: parted(content)
    assert fetch(world, "alike") == (200, content)
    assert kept(world, "alike")[1:] == (len(content), hashlib.sha256(content).hexdigest(), content)
    if world.module is not None:
        assert by_python(world) == len(content) - 300_000


def test_what_is_too_large_is_refused_while_it_comes(world: World) -> None:
    """Thirty-three megabytes where thirty-two may be, without a length: no user gets any of it, and the homeserver is not
    listened to any longer."""
    huge = FILE + FILE[: 33 * 2**20 - len(FILE)]
    one = world.by_address
    one.answers[MEDIA + "huge"] = lambda _: parted(huge, chunked=True)
    one.answers[f"{LEGACY}{one.name}/old"] = lambda _: Reply(huge, chunked=True)
    for name in ("huge", "old"):
        status, error = fetch(world, name)
        assert (status, error["errcode"]) == (502, "M_TOO_LARGE"), name
        assert not world.synapse.rows(f"SELECT 1 FROM remote_media_cache WHERE media_id = '{name}'")
    assert world.profile(one)[0] == 200


def test_who_stops_sending_is_not_waited_for(world: World) -> None:
    """In the middle of a file: Synapse's timeout ends it, a file is asked for again, and then it is all there."""
    one = world.by_address
    one.answers[MEDIA + "stuck"] = lambda _: parted(FILE, stands=5_000_000)
    assert fetch(world, "stuck")[0] == 502
    if world.module is not None:
        until(lambda: not one.connections, "the request is given up", 5)
    one.answers[MEDIA + "stuck"] = lambda _: parted(FILE)
    assert fetch(world, "stuck") == (200, FILE)
    assert kept(world, "stuck")[2] == hashlib.sha256(FILE).hexdigest()


def test_a_disk_that_is_full_fails_a_file_and_nothing_else(world: World) -> None:
    """The system refuses to write on: the user is told, and the next file, which is smaller, is there."""
    one = world.by_address
    resource.prlimit(world.synapse.pid, resource.RLIMIT_FSIZE, (8_000_000, 8_000_000))
    one.answers[MEDIA + "large"] = lambda _: parted(FILE)
    one.answers[MEDIA + "small"] = lambda _: parted(FILE[:1_000_000])
    assert fetch(world, "large")[0] == 502
    assert fetch(world, "small") == (200, FILE[:1_000_000])
    assert not world.synapse.rows("SELECT 1 FROM remote_media_cache WHERE media_id = 'large'")
