"""The frontends, each beside what its framework has of its own. As a program: measures one.

Every front keeps 64 requests in flight: tasks, greenlets or threads.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Generator
from typing import Any

from . import clients
from .clients import IN_FLIGHT, cpu

Cost = tuple[float, float]
Front = Callable[[str, int], Cost]
WARM_UP = 2000


class Stretch:
    """CPU time of this thread and of the process since it began, in microseconds for each of ``requests``."""

    def __init__(self) -> None:
        self._main, self._process = time.thread_time(), cpu()

    def over(self, requests: int) -> Cost:
        scale = 1e6 / requests
        return (time.thread_time() - self._main) * scale, (cpu() - self._process) * scale


def asyncio_southbridge(url: str, requests: int) -> Cost:
    return asyncio.run(clients.measure(clients.southbridge, url, requests))


def uvloop_southbridge(url: str, requests: int) -> Cost:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(clients.measure(clients.southbridge, url, requests))


def uvloop_aiohttp(url: str, requests: int) -> Cost:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(clients.measure(clients.aiohttp, url, requests))


def trio_southbridge(url: str, requests: int) -> Cost:
    import southbridge
    import trio

    client = southbridge.Client()

    async def worker(count: int) -> None:
        for _ in range(count):
            assert len((await client.get(url)).content) == 2048

    async def many(count: int) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(IN_FLIGHT):
                nursery.start_soon(worker, count // IN_FLIGHT)

    async def main() -> Cost:
        await many(WARM_UP)
        stretch = Stretch()
        await many(requests)
        return stretch.over(requests)

    return trio.run(main)


def twisted_southbridge(url: str, requests: int) -> Cost:
    import southbridge

    client = southbridge.Client()

    async def get() -> None:
        assert len((await client.get(url)).content) == 2048

    return _on_a_reactor(get, requests)


def twisted_agent(url: str, requests: int) -> Cost:
    from twisted.internet import reactor
    from twisted.web.client import Agent, HTTPConnectionPool, readBody

    pool = HTTPConnectionPool(reactor)
    pool.maxPersistentPerHost = IN_FLIGHT
    agent = Agent(reactor, pool=pool)

    async def get() -> None:
        response = await agent.request(b"GET", url.encode())
        assert len(await readBody(response)) == 2048

    return _on_a_reactor(get, requests)


def _on_a_reactor(get: Callable[[], Any], requests: int) -> Cost:
    from twisted.internet import defer, reactor, task

    costs: list[Cost] = []

    async def worker(count: int) -> None:
        for _ in range(count):
            await get()

    def many(count: int) -> defer.Deferred[Any]:
        workers = [defer.ensureDeferred(worker(count // IN_FLIGHT)) for _ in range(IN_FLIGHT)]
        return defer.gatherResults(workers)

    @defer.inlineCallbacks
    def main(_reactor: object) -> Generator[defer.Deferred[Any], Any, None]:
        yield many(WARM_UP)
        stretch = Stretch()
        yield many(requests)
        costs.append(stretch.over(requests))

    try:
        task.react(main, _reactor=reactor)
    except SystemExit as ended:
        if ended.code:
            raise
    return costs[0]


def gevent_southbridge(url: str, requests: int) -> Cost:
    import southbridge

    client = southbridge.Client()
    return _in_greenlets(lambda: client.get(url).content, requests)


def gevent_requests(url: str, requests: int) -> Cost:
    from gevent import monkey

    monkey.patch_all()
    return _in_greenlets(_requests_get(url), requests)


def gevent_urllib3(url: str, requests: int) -> Cost:
    from gevent import monkey

    monkey.patch_all()
    return _in_greenlets(_urllib3_get(url), requests)


def _in_greenlets(get: Callable[[], bytes], requests: int) -> Cost:
    import gevent

    def worker(count: int) -> None:
        for _ in range(count):
            assert len(get()) == 2048

    def many(count: int) -> None:
        gevent.joinall([gevent.spawn(worker, count // IN_FLIGHT) for _ in range(IN_FLIGHT)], raise_error=True)

    many(WARM_UP)
    stretch = Stretch()
    many(requests)
    return stretch.over(requests)


def threads_southbridge(url: str, requests: int) -> Cost:
    import southbridge

    client = southbridge.Client()
    return _in_threads(lambda: client.get(url).content, requests)


def threads_requests(url: str, requests: int) -> Cost:
    return _in_threads(_requests_get(url), requests)


def threads_urllib3(url: str, requests: int) -> Cost:
    return _in_threads(_urllib3_get(url), requests)


def _in_threads(get: Callable[[], bytes], requests: int) -> Cost:
    """Of threads there is no main one to be told apart: the second figure is the first as well."""
    from concurrent.futures import ThreadPoolExecutor

    def worker(count: int) -> None:
        for _ in range(count):
            assert len(get()) == 2048

    with ThreadPoolExecutor(IN_FLIGHT) as pool:

        def many(count: int) -> None:
            list(pool.map(worker, [count // IN_FLIGHT] * IN_FLIGHT))

        many(WARM_UP)
        stretch = Stretch()
        many(requests)
        process = stretch.over(requests)[1]
    return process, process


def _requests_get(url: str) -> Callable[[], bytes]:
    import requests

    session = requests.Session()
    session.trust_env = False
    adapter = requests.adapters.HTTPAdapter(pool_maxsize=IN_FLIGHT)
    session.mount("http://", adapter)
    return lambda: session.get(url).content


def _urllib3_get(url: str) -> Callable[[], bytes]:
    import urllib3

    pool = urllib3.PoolManager(maxsize=IN_FLIGHT)
    return lambda: pool.request("GET", url).data


FRONTS: dict[str, Front] = {
    front.__name__: front
    for front in (
        asyncio_southbridge,
        uvloop_southbridge,
        uvloop_aiohttp,
        trio_southbridge,
        twisted_southbridge,
        twisted_agent,
        gevent_southbridge,
        gevent_requests,
        gevent_urllib3,
        threads_southbridge,
        threads_requests,
        threads_urllib3,
    )
}


if __name__ == "__main__":
    name, url, requests = sys.argv[1:]
    print(json.dumps(FRONTS[name](url, int(requests))))
