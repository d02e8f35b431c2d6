"""Files of forms and as bodies: by path, in memory, open, or anything that can be read."""

from __future__ import annotations

import gzip
import hashlib
import io
import tempfile
from pathlib import Path
from typing import Any

import pytest
import southbridge

from .frontends import Frontend
from .test_client import heard


class Reader:
    """Something that can be read, and no more than that: it has no length and no descriptor."""

    def __init__(self, bytes_total: int) -> None:
        self.left = bytes_total
        self.asked = 0
        self.digest = hashlib.sha256()

    def read(self, size: int, /) -> bytes:
        self.asked = max(self.asked, size)
        piece = b"r" * min(self.left, size)
        self.left -= len(piece)
        self.digest.update(piece)
        return piece


class AsyncReader(Reader):
    """The same, to be awaited."""

    async def read(self, size: int, /) -> bytes:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().read(size)


def contents(response: southbridge.Response) -> list[str]:
    """The contents of the parts that the peer heard."""
    boundary = heard(response)["content-type"].partition("boundary=")[2]
    parts = response.json()["body"].split(f"--{boundary}")
    assert (parts[0], parts[-1]) == ("", "--\r\n")
    return [part.partition("\r\n\r\n")[2].removesuffix("\r\n") for part in parts[1:-1]]


def test_a_form_takes_whatever_can_be_read(frontend: Frontend, peer: str, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"0123456789")

    async def story() -> tuple[southbridge.Response, southbridge.Response]:
        with path.open("rb") as file, tempfile.NamedTemporaryFile() as temporary:
            file.seek(4)
            temporary.write(b"temporary")
            temporary.seek(0)
            open_ones: dict[str, Any] = {"f": file, "t": temporary, "p": path, "m": b"memory"}
            by_kernel = southbridge.post(f"{peer}/echo", data={"a": "b"}, files=open_ones)
            assert file.tell() == 4, "the kernel reads, and whoever has the file does not notice"
            first = await by_kernel
            memory = io.BytesIO(b"skipped, memory")
            memory.seek(9)
            files: dict[str, Any] = {"r": Reader(100_000), "m": memory, "f": file, "p": path}
            second = await southbridge.post(f"{peer}/echo", data={"a": "b"}, files=files)
        return first, second

    first, second = frontend.run(story)
    assert contents(first) == ["b", "456789", "temporary", "0123456789", "memory"]
    assert 'name="f"; filename="notes.txt"' in first.json()["body"]
    assert "transfer-encoding" not in heard(first)
    assert contents(second) == ["b", "r" * 100_000, "memory", "456789", "0123456789"]
    assert heard(second)["transfer-encoding"] == "chunked", "nobody knows how long a Reader is"


def test_a_file_may_be_closed_once_it_was_handed_over(frontend: Frontend, peer: str, tmp_path: Path) -> None:
    path = tmp_path / "gone"
    path.write_bytes(b"x" * 300_000)

    async def story() -> southbridge.Response:
        with path.open("rb") as file:
            response = southbridge.put(f"{peer}/count/closed-{frontend.name}", content=file)
        path.unlink()
        return await response

    told = frontend.run(story).json()
    assert (told["bytes"], told["digest"]) == (300_000, hashlib.sha256(b"x" * 300_000).hexdigest())


def test_what_is_awaited_is_read_in_a_loop(peer: str) -> None:
    import asyncio

    reader = AsyncReader(70_000)

    async def main() -> southbridge.Response:
        return await southbridge.post(f"{peer}/echo", files={"r": reader})

    assert contents(asyncio.run(main())) == ["r" * 70_000]


def test_a_long_file_is_read_as_the_peer_takes_it(peer: str) -> None:
    """Of 64 MB never more than one piece is asked for, and the process does not grow by it."""
    import resource

    reader = Reader(64 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    files: dict[str, Any] = {"r": reader, "b": b"end"}
    told = southbridge.post(f"{peer}/count/long-form", files=files).json()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert reader.left == 0
    assert told["bytes"] > 64 << 20
    assert reader.asked <= 64 << 10
    assert grown < 16 << 10, f"{grown} KiB more"


def test_known_lengths_make_a_length(peer: str, tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(b"path")
    with gzip.open(tmp_path / "z", "wb") as zipped:
        zipped.write(b"unzipped")
    known: dict[str, Any] = {"m": io.BytesIO(b"memory"), "p": path}
    response = southbridge.post(f"{peer}/echo", files=known)
    assert contents(response) == ["memory", "path"]
    assert int(heard(response)["content-length"]) == len(response.json()["body"])
    with gzip.open(tmp_path / "z") as zipped, path.open() as text:
        files: dict[str, Any] = {"z": zipped, "t": text}
        assert contents(southbridge.post(f"{peer}/echo", files=files)) == ["unzipped", "path"]


def test_tuples_say_name_and_type(peer: str) -> None:
    files: list[tuple[str, Any]] = [
        ("a", ("a.txt", io.BytesIO(b"1"), "text/plain")),
        ("b", ("b.bin", b"2")),
        ("c", (None, "3")),
        ("d", ("d.bin", b"4", None)),
    ]
    response = southbridge.post(f"{peer}/echo", files=files)
    body = response.json()["body"]
    assert contents(response) == ["1", "2", "3", "4"]
    assert 'name="a"; filename="a.txt"\r\nContent-Type: text/plain\r\n' in body
    assert 'name="b"; filename="b.bin"\r\nContent-Type: application/octet-stream\r\n' in body
    assert 'name="c"\r\n\r\n3' in body
    with pytest.raises(TypeError, match="tuple of 4"):
        southbridge.post(f"{peer}/echo", files={"a": ("a", b"1", "text/plain", {})})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_data_may_be_a_file_as_in_requests(peer: str, tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(b"the body")
    with path.open("rb") as file:
        response = southbridge.post(f"{peer}/echo", data=file)
    assert (response.json()["body"], heard(response)["content-length"]) == ("the body", "8")
    assert southbridge.post(f"{peer}/echo", data=io.BytesIO(b"memory")).json()["body"] == "memory"


def test_what_cannot_be_read_is_said(peer: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not int"):
        southbridge.post(f"{peer}/echo", files={"f": 3})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with (tmp_path / "w").open("wb") as file, pytest.raises(southbridge.BodyStoppedError, match="read"):
        southbridge.post(f"{peer}/echo", files={"f": file})
    closed = (tmp_path / "w").open("rb")
    closed.close()
    with pytest.raises(ValueError, match="closed file"):
        southbridge.post(f"{peer}/echo", files={"f": closed})
    with pytest.raises(southbridge.FileFailedError):
        southbridge.post(f"{peer}/echo", files={"f": tmp_path / "absent"})
    both: dict[str, Any] = {"f": tmp_path / "absent", "r": Reader(1)}
    with pytest.raises(FileNotFoundError):
        southbridge.post(f"{peer}/echo", files=both)


def test_a_redirect_reads_an_open_file_again(peer: str, tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(b"the body")
    with path.open("rb") as file:
        file.seek(4)
        response = southbridge.post(f"{peer}/elsewhere/x", content=file)
    assert response.history
    assert response.json()["digest"] == hashlib.sha256(b"body").hexdigest()
