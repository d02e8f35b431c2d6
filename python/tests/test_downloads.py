"""Downloads: what every frontend does alike."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import southbridge

from .frontends import Frontend
from .test_lifecycle import run


def test_a_download_is_a_file(frontend: Frontend, peer: str, tmp_path: Path) -> None:
    path = tmp_path / "file"

    async def story() -> southbridge.Saved:
        return await southbridge.download(f"{peer}/size/1000000", path)

    saved = frontend.run(story)
    assert (saved.path, saved.bytes, saved.resumed_at, saved.response.status) == (path, 1_000_000, 0, 200)
    assert path.read_bytes() == b"x" * 1_000_000
    assert os.listdir(tmp_path) == ["file"]


def test_progress_is_told_by_whoever_waits(frontend: Frontend, peer: str, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []

    def tell(progress: southbridge.Progress) -> None:
        told.append((progress.done, progress.total))

    async def story() -> southbridge.Progress:
        transfer = southbridge.download(f"{peer}/trickle/6", tmp_path / "file", progress=tell)
        await transfer
        return transfer.progress

    progress = frontend.run(story)
    assert (progress.done, progress.total) == (1_800_000, 1_800_000)
    assert told == sorted(told)
    assert told[-1] == (1_800_000, 1_800_000)
    # Some on the way, and never one for every piece.
    assert 3 <= len(told) <= 12


def test_a_download_that_broke_off_is_resumed(frontend: Frontend, peer: str, tmp_path: Path) -> None:
    url, path = f"{peer}/ranged/{frontend.name}-{tmp_path.name}", tmp_path / "file"

    async def story() -> southbridge.Saved:
        with pytest.raises(southbridge.CutError):
            await southbridge.download(url, path, resume=True)
        assert not path.exists()
        return await southbridge.download(url, path, resume=True)

    saved = frontend.run(story)
    assert (saved.bytes, saved.resumed_at > 0) == (256_000, True)
    assert path.read_bytes() == bytes(range(256)) * 1000
    assert os.listdir(tmp_path) == ["file"]


def test_what_is_no_file_is_not_saved(frontend: Frontend, peer: str, tmp_path: Path) -> None:
    async def story() -> southbridge.StatusError:
        with pytest.raises(southbridge.StatusError) as caught:
            await southbridge.download(f"{peer}/status/404", tmp_path / "file")
        with pytest.raises(southbridge.FileFailedError):
            await southbridge.download(f"{peer}/size/1", tmp_path / "absent" / "file")
        with pytest.raises(southbridge.TooLargeError):
            await southbridge.download(f"{peer}/size/100", tmp_path / "file", bytes_max=50)
        return caught.value

    error = frontend.run(story)
    assert (error.response.status, error.response.text) == (404, "as asked")
    for _ in range(200):
        if not os.listdir(tmp_path):
            return
        frontend.run(lambda: frontend.sleep(0.01))
    assert os.listdir(tmp_path) == []


def test_a_download_can_be_given_up(frontend: Frontend, peer: str, tmp_path: Path) -> None:
    if not frontend.can_give_up:
        pytest.skip("nobody can cancel a thread")

    async def waits() -> None:
        await southbridge.download(f"{peer}/trickle/100", tmp_path / "file")

    async def story() -> str:
        ended = await frontend.give_up(waits, after=0.3)
        for _ in range(200):
            if not os.listdir(tmp_path):
                return ended
            await frontend.sleep(0.01)
        return f"left {os.listdir(tmp_path)}"

    assert frontend.run(story) in {"CancelledError", "Cancelled", "GreenletExit"}


def test_a_disk_that_is_full_leaves_no_half_file(peer: str, tmp_path: Path) -> None:
    assert run("full_disk", peer, str(tmp_path)) == "body True\nbody True"
    assert os.listdir(tmp_path) == []
