"""What a program sees that takes the kernel's session where aiohttp's was."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
import southbridge
from southbridge.adapters.aiohttp import ClientSession

from ..frontends import Frontend
from .conftest import TlsPeer

pytestmark = pytest.mark.frontends("asyncio", "uvloop")

Story = Callable[[ClientSession], Awaitable[Any]]


def told(frontend: Frontend, peer: str, story: Story, **settings: Any) -> Any:
    """What ``story`` returns, which has a session."""

    async def whole() -> Any:
        async with ClientSession(peer, **settings) as session:
            return await story(session)

    return frontend.run(whole)


def test_aiohttp_has_its_response(frontend: Frontend, peer: str) -> None:
    async def story(session: ClientSession) -> None:
        async with session.get("/echo", params={"a": [1, 2]}, headers={"X-Own": "too"}) as response:
            assert (response.status, response.reason, response.ok) == (200, "OK", True)
            assert str(response.url) == f"{peer}/echo?a=1&a=2"
            assert (response.content_type, response.headers["CONTENT-TYPE"]) == ("application/json",) * 2
            heard = await response.json()
            assert heard == json.loads(await response.text()) == json.loads(await response.read())
        names = {name.lower(): value for name, value in heard["headers"]}
        assert (heard["query"], names["x-own"], names["x-all"]) == ("a=1&a=2", "too", "yes")
        latin = await session.get("/latin")
        assert (await latin.text(), latin.charset) == ("caf\u00e9", "iso-8859-1")
        with pytest.raises(aiohttp.ContentTypeError):
            await latin.json()
        assert (await (await session.get("/zipped/1000")).text()) == "z" * 1000

    told(frontend, peer, story, headers={"X-All": "yes"})


def test_aiohttp_bodies_arrive(frontend: Frontend, peer: str) -> None:
    async def story(session: ClientSession) -> list[tuple[str, str]]:
        form = aiohttp.FormData()
        form.add_field("file", io.BytesIO(b"in it"), filename="name.txt")
        made: list[tuple[str, str]] = []
        bodies: list[dict[str, Any]] = [
            {"json": {"a": 1}},
            {"data": {"a": "1 2"}},
            {"data": b"bytes"},
            {"data": "text"},
            {"data": form},
        ]
        for body in bodies:
            async with session.post("/echo", **body) as response:
                heard = await response.json()
                kinds = [value for name, value in heard["headers"] if name.lower() == "content-type"]
                made.append((heard["body"], kinds[0].partition(";")[0]))
        return made

    made = told(frontend, peer, story)
    assert made[:4] == [
        ('{"a": 1}', "application/json"),
        ("a=1+2", "application/x-www-form-urlencoded"),
        ("bytes", "application/octet-stream"),
        ("text", "text/plain"),
    ]
    assert "in it" in made[4][0]
    assert made[4][1] == "multipart/form-data"


def test_aiohttp_streams_both_ways(frontend: Frontend, peer: str) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            await asyncio.sleep(0)
            yield b"p" * 10_000

    async def story(session: ClientSession) -> None:
        async with session.put("/count/aiohttp", data=pieces()) as response:
            counted = await response.json()
            assert (counted["bytes"], counted["encoding"]) == (1_000_000, "chunked")
        async with session.get("/size/100000") as response:
            sizes = [len(piece) async for piece in response.content.iter_chunked(1000)]
            assert (sum(sizes), max(sizes), response.content.at_eof()) == (100_000, 1000, True)
        async with session.get("/lines") as response:
            assert [line async for line in response.content][:2] == [b"first\n", b"second\r\n"]
        name = f"aiohttp-{time.monotonic_ns()}"
        async with session.get(f"/flood/{name}/100") as response:
            assert len(await response.content.read(1000)) == 1000
        taken: dict[str, int] = {"gone": 0}
        for _ in range(1000):
            if not taken["gone"]:
                await asyncio.sleep(0.01)
                taken = await (await session.get(f"/taken/{name}")).json()
        assert taken["gone"]
        assert taken["bytes"] < 50 << 20
        with pytest.raises(LookupError, match="own"):
            await session.post("/count/aiohttp", data=failing())

    async def failing() -> AsyncIterator[bytes]:
        yield b"some"
        raise LookupError("the program's own")

    told(frontend, peer, story)


def test_aiohttp_redirects_and_cookies_are_the_kernels(frontend: Frontend, peer: str) -> None:
    async def story(session: ClientSession) -> None:
        first = await session.get("/redirect/1", allow_redirects=False)
        assert (first.status, first.cookies["seen"].value) == (302, "1")
        after = await session.get("/redirect/1")
        assert [visit.status for visit in after.history] == [302, 302]
        heard = {name.lower(): value for name, value in (await after.json())["headers"]}
        assert heard["cookie"] == "seen=0"
        with pytest.raises(aiohttp.TooManyRedirects):
            await session.get("/redirect/5", max_redirects=2)

    told(frontend, peer, story)


def test_aiohttp_credentials_are_sent(frontend: Frontend, peer: str) -> None:
    async def story(session: ClientSession) -> list[str]:
        made: list[str] = []
        with pytest.warns(DeprecationWarning):
            mine = aiohttp.BasicAuth("me", "secret")
        for url in ("/echo", peer.replace("//", "//you:other@") + "/echo"):
            heard = await (await session.get(url, auth=None if "@" in url else mine)).json()
            made += [value for name, value in heard["headers"] if name.lower() == "authorization"]
        return made

    assert told(frontend, peer, story) == ["Basic bWU6c2VjcmV0", "Basic eW91Om90aGVy"]


def test_aiohttp_failures_are_those_of_aiohttp(frontend: Frontend, peer: str, closed_port: int) -> None:
    async def story(session: ClientSession) -> None:
        with pytest.raises(aiohttp.ClientConnectorError) as refused:
            await session.get(f"http://127.0.0.1:{closed_port}/")
        assert isinstance(refused.value.__cause__, southbridge.ConnectFailedError)
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await session.post("/cut", data=b"x")
        with pytest.raises(aiohttp.ClientPayloadError) as half:
            await (await session.post("/half", data=b"x")).read()
        assert isinstance(half.value.__cause__, southbridge.CutError)
        for timeout in (aiohttp.ClientTimeout(sock_read=0.1), aiohttp.ClientTimeout(total=0.1)):
            with pytest.raises(asyncio.TimeoutError):
                await session.get("/never", timeout=timeout)
        with pytest.raises(aiohttp.ClientResponseError) as missing:
            async with session.get("/status/404", raise_for_status=True):
                pass
        assert missing.value.status == 404
        with pytest.raises(aiohttp.NonHttpUrlClientError):
            await session.get("ftp://localhost/")
        with pytest.raises(aiohttp.InvalidURL, match="put the name into the URL"):
            await session.get("/echo", headers={"Host": "other.test"})
        with pytest.raises(TypeError, match="ssl"):
            await session.get("/echo", ssl=False)

    told(frontend, peer, story)


def test_aiohttp_what_is_cancelled_or_closed_is_over(frontend: Frontend, peer: str) -> None:
    async def story() -> tuple[str, int]:
        session = ClientSession(peer, timeout=aiohttp.ClientTimeout())

        async def waits() -> None:
            await session.get("/never")

        ended = await frontend.give_up(waits, after=0.1)
        status = (await session.get("/status/204")).status
        await session.close()
        with pytest.raises(RuntimeError, match="closed"):
            await session.get("/echo")
        return ended, status

    assert frontend.run(story) == ("CancelledError", 204)


def test_aiohttp_a_ca_is_given_to_the_client_of_the_kernel(frontend: Frontend, tls_peer: TlsPeer) -> None:
    async def story(session: ClientSession) -> str:
        with pytest.raises(aiohttp.ClientConnectorSSLError):
            await ClientSession().get(tls_peer.url)
        return await (await session.get("/")).text()

    ours = southbridge.Client(ca_files=[tls_peer.ca_file])
    assert told(frontend, tls_peer.url, story, client=ours) == "sealed"
