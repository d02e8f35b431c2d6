"""The clients, each asked in the way that its own documents recommend. As a program: measures one."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

IN_FLIGHT = 64
Get = Callable[[], Awaitable[object]]
Session = Callable[[str], AbstractAsyncContextManager[Get]]


@asynccontextmanager
async def southbridge(url: str) -> AsyncIterator[Get]:
    import southbridge

    client = southbridge.Client()

    async def get() -> bytes:
        return (await client.get(url)).content

    yield get


@asynccontextmanager
async def aiohttp(url: str) -> AsyncIterator[Get]:
    import aiohttp

    async with aiohttp.ClientSession() as session:

        async def get() -> bytes:
            async with session.get(url) as response:
                return await response.read()

        yield get


@asynccontextmanager
async def httpx(url: str) -> AsyncIterator[Get]:
    import httpx

    async with httpx.AsyncClient() as client:

        async def get() -> bytes:
            return (await client.get(url)).content

        yield get


@asynccontextmanager
async def wreq(url: str) -> AsyncIterator[Get]:
    import wreq

    client = wreq.Client()

    async def get() -> bytes:
        response = await client.get(url)
        return bytes(await response.bytes())

    yield get


CLIENTS: dict[str, Session] = {session.__name__: session for session in (southbridge, aiohttp, httpx, wreq)}


async def measure(session: Session, url: str, requests: int) -> tuple[float, float]:
    """CPU time of the main thread and of the process for each request, in microseconds."""
    async with session(url) as get:
        assert len(bytes(await get())) == 2048  # type: ignore[call-overload]  # pyright: ignore
        await many(get, 2000)
        main, process = time.thread_time(), cpu()
        await many(get, requests)
        scale = 1e6 / requests
        return (time.thread_time() - main) * scale, (cpu() - process) * scale


async def many(get: Get, count: int) -> None:
    async def worker() -> None:
        for _ in range(count // IN_FLIGHT):
            await get()

    await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    name, url, requests = sys.argv[1:]
    print(json.dumps(asyncio.run(measure(CLIENTS[name], url, int(requests)))))
