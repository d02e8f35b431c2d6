"""Programs that the tests of the life of a process run, each in a process of its own: ``programs.py NAME URL …``.

A program that ends as it should exits with 0 and prints what its test compares.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import southbridge


def fork_under_traffic(url: str, rounds: str) -> None:
    """Threads keep asking while the main thread forks; each child asks once for itself."""
    stop = threading.Event()
    client = southbridge.Client(base_url=url)

    def traffic() -> None:
        while not stop.is_set():
            assert client.get("/size/100").status == 200

    threads = [threading.Thread(target=traffic) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(int(rounds)):
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            os._exit(0 if client.get("/size/100", timeout=10).status == 200 else 1)
        _pid, status = os.waitpid(child, 0)
        assert status == 0, f"a child ended with {status}"
    stop.set()
    for thread in threads:
        thread.join()
    print("told", client.get("/size/100").status)


def fork_with_services(address: str) -> None:
    """What the parent has declared, a child asks by its name, on connections of its own."""
    orders = southbridge.service("orders", discovery=[address])

    def told() -> str:
        state = orders.ready(timeout=10).readiness["orders"].state
        return f"{state} {southbridge.get('http://orders/status/204').status}"

    parent = told()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        os.write(write, told().encode())
        os._exit(0)
    _pid, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with {status}"
    print(f"child {os.read(read, 100).decode()}, parent {parent}")


def fork_with_an_old_handle(url: str) -> None:
    """A response that the parent waits for is nothing that the child could wait for."""

    async def main() -> None:
        response = southbridge.get(f"{url}/delay/0.3")
        asked = asyncio.ensure_future(response)
        await asyncio.sleep(0.1)
        child = os.fork()
        if child == 0:
            try:
                response.status  # noqa: B018
            except southbridge.ForkedError:
                os._exit(0)
            os._exit(1)
        _pid, status = os.waitpid(child, 0)  # noqa: ASYNC222 - nothing else is to happen meanwhile
        print(status, (await asked).text)

    asyncio.run(main())


def interrupted(url: str) -> None:
    """Ctrl-C reaches a main thread that blocks, and what it waited for is given up."""
    # Whoever runs tests in the background of a shell has them ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main = threading.main_thread().ident
    assert main is not None
    threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()
    try:
        southbridge.get(f"{url}/never", timeout=30)
    except KeyboardInterrupt:
        print("interrupted", southbridge.get(f"{url}/size/3").text)


def loops_in_threads(url: str, count: str) -> None:
    """Several loops, one after the other and at once, in several threads."""
    told: list[int] = []

    async def story() -> None:
        for answer in await asyncio.gather(*(southbridge.get(f"{url}/delay/0.01") for _ in range(20))):
            told.append(answer.status)

    def run() -> None:
        for _ in range(int(count)):
            asyncio.run(story())

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(len(told), set(told))


def everything_at_once(url: str) -> None:
    """asyncio, trio and gevent in threads of one program, and a plain thread."""
    import gevent
    import trio

    told: dict[str, int] = {}

    async def story(name: str) -> None:
        told[name] = (await southbridge.get(f"{url}/delay/0.1")).status

    def by_gevent() -> None:
        def greenlet() -> None:
            told["gevent"] = southbridge.get(f"{url}/delay/0.1").status

        gevent.get_hub()
        gevent.spawn(greenlet).join()

    def by_thread() -> None:
        told["thread"] = southbridge.get(f"{url}/delay/0.1").status

    ways: list[Callable[[], object]] = [
        lambda: asyncio.run(story("asyncio")),
        lambda: trio.run(story, "trio"),
        by_gevent,
        by_thread,
    ]
    threads = [threading.Thread(target=way) for way in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(sorted(told.items()))


def full_disk(url: str, folder: str) -> None:
    """No file may be larger than 100 KB: to the kernel that is as good as a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    for resume in (False, True):
        try:
            southbridge.download(f"{url}/size/1000000", Path(folder) / "file", resume=resume)
        except southbridge.FileFailedError as error:
            print(error.step, "too large" in str(error))


def attached() -> None:
    """What the watch over the interpreter's lock does with an I/O thread that takes it."""
    southbridge._kernel._attach_as_io_thread()  # pyright: ignore[reportPrivateUsage]


def subinterpreter() -> None:
    """What a sub-interpreter is told."""
    name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    interpreters = importlib.import_module(name)
    one = interpreters.create()
    interpreters.run_string(
        one,
        "try:\n    import southbridge\nexcept ImportError as error:\n    print('ImportError:', error, flush=True)\n",
    )


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
