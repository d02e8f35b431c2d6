"""Bodies in pieces, both ways: what every frontend does alike."""

from __future__ import annotations

import hashlib
import os
import resource
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import southbridge

from .frontends import Frontend

MEGABYTE = 1 << 20


async def still(frontend: Frontend, url: str) -> int:
    """How many bytes the peer has got rid of, when it gets rid of no more."""
    before = -1
    while (taken := (await southbridge.get(url)).json()["bytes"]) != before:
        before = taken
        await frontend.sleep(0.2)
    return before


async def gone(frontend: Frontend, url: str) -> None:
    """Wait until the peer has heard that nobody is there any more."""
    for _ in range(500):
        if (await southbridge.get(url)).json()["gone"]:
            return
        await frontend.sleep(0.02)
    raise AssertionError("the peer still waits")


def test_a_body_is_read_as_it_comes(frontend: Frontend, peer: str) -> None:
    async def story() -> tuple[int, int, list[tuple[str, str]]]:
        async with southbridge.stream("GET", f"{peer}/chunks/1000/100") as response:
            assert response.status == 200
            assert response.headers["transfer-encoding"] == "chunked"
            pieces = [piece async for piece in response.iter_bytes()]
            return sum(map(len, pieces)), len(pieces), response.trailers

    size, count, trailers = frontend.run(story)
    assert size == 100_000
    # Many small ones are taken together.
    assert count < 1000
    assert trailers == [("x-sum", "100000")]


def test_lines_and_text_are_put_together(frontend: Frontend, peer: str) -> None:
    async def story() -> tuple[list[str], str, bytes]:
        async with southbridge.stream("GET", f"{peer}/lines") as response:
            lines = [line async for line in response.iter_lines()]
        async with southbridge.stream("GET", f"{peer}/lines") as response:
            text = "".join([text async for text in response.iter_text()])
        async with southbridge.stream("GET", f"{peer}/lines") as response:
            return lines, text, await response.read()

    lines, text, whole = frontend.run(story)
    assert lines == ["first", "second", "third café", "", "last"]
    assert text == "first\nsecond\r\nthird café\n\nlast"
    assert whole == text.encode()


def test_a_body_that_breaks_off_says_so_when_it_does(frontend: Frontend, peer: str) -> None:
    async def story() -> tuple[bytes, southbridge.RequestError]:
        async with southbridge.stream("GET", f"{peer}/torn") as response:
            first = await response.read_piece()
            with pytest.raises(southbridge.CutError) as caught:
                await response.read_piece()
            return first, caught.value

    first, error = frontend.run(story)
    assert (first, error.step, error.is_repeatable) == (b"seen", "body", False)


def test_what_is_not_drawn_is_not_read(frontend: Frontend, peer: str) -> None:
    """100 MB wait at the peer while nobody draws; then they are left, and the peer hears of it."""
    name = f"held-{frontend.name}"

    async def story() -> tuple[int, int]:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        async with southbridge.stream("GET", f"{peer}/flood/{name}/100") as response:
            drawn = len(await response.read_piece())
            taken = await still(frontend, f"{peer}/taken/{name}")
            for _ in range(20):
                drawn += len(await response.read_piece())
        assert drawn > 21 * 1024
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        await gone(frontend, f"{peer}/taken/{name}")
        return taken, grown

    taken, grown_kb = frontend.run(story)
    # What the system buffers on both sides of a loopback connection, ours, and hyper's.
    assert taken < 12 * MEGABYTE
    assert grown_kb < 12 * 1024


def test_a_body_is_drawn_slowly_to_its_end(frontend: Frontend, peer: str) -> None:
    async def story() -> int:
        size = 0
        async with southbridge.stream("GET", f"{peer}/flood/slow/20") as response:
            async for piece in response.iter_bytes():
                size += len(piece)
                if size % 16 == 0:
                    await frontend.sleep(0)
        return size

    assert frontend.run(story) == 20 * MEGABYTE


def test_a_block_left_early_frees_its_places(frontend: Frontend, peer: str) -> None:
    async def story() -> int:
        for _ in range(300):
            async with southbridge.stream("GET", f"{peer}/chunks/100/10000") as response:
                await response.read_piece()
        return (await southbridge.get(f"{peer}/status/204")).status

    assert frontend.run(story) == 204


def test_what_is_given_up_while_it_is_drawn_can_be_gone_on_with(frontend: Frontend, peer: str) -> None:
    if not frontend.can_give_up:
        pytest.skip("nobody can cancel a thread")

    async def story() -> tuple[str, bytes]:
        async with southbridge.stream("GET", f"{peer}/delayed/0.3") as response:

            async def waits() -> None:
                await response.read_piece()

            ended = await frontend.give_up(waits, after=0.1)
            return ended, await response.read()

    ended, body = frontend.run(story)
    assert ended in {"CancelledError", "Cancelled", "GreenletExit"}
    assert body == b"late"


def test_a_request_is_fed_by_an_iterator(frontend: Frontend, peer: str) -> None:
    def pieces() -> Iterator[bytes | str | bytearray]:
        for at in range(100):
            yield bytes([at]) * 10_000
        yield bytearray(b"and")
        yield "text"

    async def story() -> Any:
        return (await southbridge.post(f"{peer}/count/fed", content=pieces())).json()

    told = frontend.run(story)
    whole = b"".join(bytes([at]) * 10_000 for at in range(100)) + b"andtext"
    assert (told["bytes"], told["digest"]) == (len(whole), hashlib.sha256(whole).hexdigest())
    assert (told["length"], told["encoding"]) == (None, "chunked")


def test_a_request_is_fed_by_an_async_iterator(frontend: Frontend, peer: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(5):
            # Made of what others answer: the iterator waits as everybody does.
            yield (await southbridge.get(f"{peer}/size/1000")).content

    async def story() -> Any:
        headers = {"Content-Length": "5000"}
        return (await southbridge.post(f"{peer}/count/fed", content=pieces(), headers=headers)).json()

    told = frontend.run(story)
    assert (told["bytes"], told["length"], told["encoding"]) == (5000, "5000", None)


def test_a_request_is_fed_by_a_file(frontend: Frontend, peer: str, tmp_path: Path) -> None:
    path = tmp_path / "body"
    path.write_bytes(os.urandom(300_000))

    async def story() -> Any:
        with path.open("rb") as file:
            file.seek(100)
            return (await southbridge.put(f"{peer}/count/file", content=file)).json()

    told = frontend.run(story)
    assert told["digest"] == hashlib.sha256(path.read_bytes()[100:]).hexdigest()


def test_what_the_peer_does_not_take_is_not_made(frontend: Frontend, peer: str) -> None:
    made = 0

    def pieces() -> Iterator[bytes]:
        nonlocal made
        while made < 100 * MEGABYTE:
            made += 65536
            yield b"p" * 65536

    async def story() -> str:
        with pytest.raises(southbridge.TimedOutError) as caught:
            timeout = southbridge.Timeout(read=0.5)
            await southbridge.post(f"{peer}/unread/5", content=pieces(), timeout=timeout)
        return caught.value.step

    assert frontend.run(story) in {"request", "response"}
    assert made < 12 * MEGABYTE


def test_an_iterator_that_raises_gives_the_request_up(frontend: Frontend, peer: str) -> None:
    name = f"raised-{frontend.name}"

    def pieces() -> Iterator[bytes]:
        # More than is held on this side, so that the peer has seen some of it.
        yield b"s" * MEGABYTE
        raise RuntimeError("no more of it")

    async def story() -> southbridge.BodyStoppedError:
        with pytest.raises(southbridge.BodyStoppedError, match="no more of it") as caught:
            await southbridge.post(f"{peer}/count/{name}", content=pieces())
        with pytest.raises(southbridge.BodyStoppedError, match="bytes-like"):
            wrong: Any = iter([b"x", 1])
            await southbridge.post(f"{peer}/count/{name}", content=wrong)
        await gone(frontend, f"{peer}/taken/{name}")
        return caught.value

    error = frontend.run(story)
    assert isinstance(error.__cause__, RuntimeError)
    assert (error.step, error.is_repeatable) == ("request", False)


def test_a_body_that_was_fed_is_not_fed_twice(frontend: Frontend, peer: str) -> None:
    async def story() -> None:
        big = (b"x" * 65536 for _ in range(10))
        with pytest.raises(southbridge.RedirectRefusedError, match="cannot be sent again"):
            await southbridge.post(f"{peer}/elsewhere", content=big)

    frontend.run(story)


def test_an_answer_may_come_before_the_request_is_over(frontend: Frontend, peer: str) -> None:
    """What comes back is drawn while more goes out, and both are bounded."""

    def pieces() -> Iterator[bytes]:
        for _ in range(200):
            yield b"e" * 65536

    async def story() -> tuple[int, int, bytes]:
        async with southbridge.stream("POST", f"{peer}/early", content=pieces()) as response:
            size = 0
            async for piece in response.iter_bytes():
                size += len(piece)
        async with southbridge.stream("POST", f"{peer}/refuse", content=pieces()) as response:
            return size, response.status, await response.read()

    assert frontend.run(story) == (200 * 65536, 413, b"much")


def test_what_is_read_whole_is_bounded(frontend: Frontend, peer: str) -> None:
    async def story() -> None:
        async with southbridge.stream("GET", f"{peer}/chunks/100/1000") as response:
            with pytest.raises(southbridge.TooLargeError, match="exceeds 50000 bytes"):
                await response.read(bytes_max=50_000)

    frontend.run(story)


@pytest.mark.frontends("threads", "gevent", "gevent-patched")
def test_where_calls_block_a_block_is_a_plain_one(frontend: Frontend, peer: str) -> None:
    async def story() -> tuple[bytes, list[str], str]:
        with southbridge.stream("GET", f"{peer}/chunks/10/10") as response:
            whole = b"".join(response.iter_bytes())
        with southbridge.stream("GET", f"{peer}/lines") as response:
            lines = list(response.iter_lines())
        with southbridge.stream("GET", f"{peer}/lines") as response:
            first = response.read_piece()
            assert response.read() == b"first\nsecond\r\nthird caf\xc3\xa9\n\nlast"[len(first) :]
        with southbridge.stream("GET", f"{peer}/lines") as response:
            return whole, lines, "".join(response.iter_text())

    whole, lines, text = frontend.run(story)
    assert (whole, lines[2], text[-4:]) == (b"c" * 100, "third café", "last")


@pytest.mark.frontends("asyncio", "trio", "twisted")
def test_where_a_loop_runs_a_plain_block_is_refused(frontend: Frontend, peer: str) -> None:
    async def story() -> None:
        with pytest.raises(southbridge.NotAwaitedError, match="async with"):
            southbridge.stream("GET", f"{peer}/size/1").__enter__()

    frontend.run(story)
