"""What a program gives the kernel's session in the ways of aiohttp: payloads, cookies, tasks, and who is asked of a status."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from http.cookies import Morsel
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import payload
from southbridge.adapters.aiohttp import ClientResponse, ClientSession

from ..frontends import Frontend

pytestmark = pytest.mark.frontends("asyncio", "uvloop")

Story = Callable[[ClientSession], Awaitable[Any]]
MEGABYTE = 1 << 20


def told(frontend: Frontend, peer: str, story: Story, **settings: Any) -> Any:
    """What ``story`` returns, which has a session."""

    async def whole() -> Any:
        async with ClientSession(peer, **settings) as session:
            return await story(session)

    return frontend.run(whole)


def test_aiohttp_payloads_are_bodies(frontend: Frontend, peer: str) -> None:
    """What they say of themselves goes along, as far as the request does not say it."""

    async def story(session: ClientSession) -> list[tuple[str, str | None]]:
        made: list[tuple[str, str | None]] = []
        for body in (
            payload.StringPayload("text", content_type="text/own"),
            payload.BytesPayload(b"bytes"),
            io.StringIO("from a file"),
            aiohttp.get_payload(io.BytesIO(b"told"), disposition="inline", filename="a.txt"),
        ):
            async with session.post("/echo", data=body) as response:
                heard = await response.json()
                names = {name.lower(): value for name, value in heard["headers"]}
                made.append((heard["body"], names.get("content-type")))
                assert names["content-length"] == str(len(heard["body"]))
        assert names["content-disposition"].startswith("inline")
        return made

    made = told(frontend, peer, story)
    assert [body for body, _ in made] == ["text", "bytes", "from a file", "told"]
    assert made[0][1] == "text/own"


def test_aiohttp_a_large_file_is_sent_in_pieces_and_with_its_length(
    frontend: Frontend, peer: str, tmp_path: Path
) -> None:
    """In a form too, which is not made whole first."""
    path = tmp_path / "large"
    path.write_bytes(b"f" * 3 * MEGABYTE)

    async def story(session: ClientSession) -> None:
        with path.open("rb") as file:
            async with session.put("/count/file", data=file) as response:
                counted = await response.json()
                assert (counted["bytes"], counted["encoding"]) == (3 * MEGABYTE, None)
        with path.open("rb") as file:
            async with session.put("/count/file", data={"file": file}) as response:
                counted = await response.json()
                assert 3 * MEGABYTE < counted["bytes"] < 3 * MEGABYTE + 1000

    told(frontend, peer, story)


def test_aiohttp_a_request_may_be_a_task(frontend: Frontend, peer: str) -> None:
    async def story(session: ClientSession) -> list[int]:
        tasks = [asyncio.create_task(session.get(f"/size/{size}")) for size in (1, 2)]
        gathered = await asyncio.gather(*tasks, session.get("/size/3"))
        return [len(await response.read()) for response in gathered]

    assert told(frontend, peer, story) == [1, 2, 3]


def test_aiohttp_cookies_may_be_morsels(frontend: Frontend, peer: str) -> None:
    """Each with a name of its own; one that wants TLS is not sent without."""
    shared: Morsel[str] = Morsel()
    shared.set("own", "1", "1")
    secret: Morsel[str] = Morsel()
    secret.set("secret", "2", "2")
    secret["secure"] = True

    async def story(session: ClientSession) -> set[str]:
        heard = await (await session.get("/echo", cookies=[("c", "3")])).json()
        lines = [value for name, value in heard["headers"] if name.lower() == "cookie"]
        return {one.strip() for line in lines for one in line.split(";")}

    assert told(frontend, peer, story, cookies={"a": shared, "b": secret}) == {"own=1", "c=3"}


def test_aiohttp_who_is_asked_of_each_status(frontend: Frontend, peer: str) -> None:
    seen: list[int] = []

    async def ask(response: ClientResponse) -> None:
        seen.append(response.status)

    async def story(session: ClientSession) -> None:
        await session.get("/status/404")
        await session.get("/status/404", raise_for_status=False)
        with pytest.raises(aiohttp.ClientResponseError):
            await session.get("/status/404", raise_for_status=True)

    told(frontend, peer, story, raise_for_status=ask)
    assert seen == [404]


def test_aiohttp_a_response_is_closed_at_its_end(frontend: Frontend, peer: str) -> None:
    """A block lets go of it, and not its status; what has been read as text is still there."""

    async def story(session: ClientSession) -> None:
        async with session.get("/size/10", timeout=5) as response:
            assert not response.closed
            assert await response.read() == b"x" * 10
            assert response.closed
        assert await response.text() == "x" * 10
        with pytest.raises(aiohttp.ClientConnectionError):
            await response.read()
        async with session.get("/status/404") as missing:
            with pytest.raises(aiohttp.ClientResponseError):
                missing.raise_for_status()
            await missing.read()
        with pytest.raises(ValueError, match="Cannot combine"), pytest.warns(DeprecationWarning):
            await session.get(f"{peer}/echo".replace("//", "//you:other@"), auth=aiohttp.BasicAuth("me", "s"))

    told(frontend, peer, story)
