"""Programs that end while requests are in flight: ``exits FRONTEND HOW URL``.

Each starts several requests that are never answered, waits for one that is, and ends: by ``fall`` (the end of the
program), ``exit`` (`sys.exit` in the midst of it), ``raise`` (an exception of the program's own), or ``signal``
(SIGTERM, whose handler exits).
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import southbridge

FLYING = 4


class LeavingError(Exception):
    """What the program ends with."""


def leave(how: str) -> None:
    """In the midst of it, if that is how."""
    if how == "exit":
        sys.exit(0)
    if how == "raise":
        raise LeavingError
    if how == "signal":
        signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
        os.kill(os.getpid(), signal.SIGTERM)


async def in_loop(url: str, how: str) -> None:
    """The story of asyncio, uvloop and Tornado: tasks that nobody awaits."""
    flying = [asyncio.ensure_future(southbridge.get(f"{url}/never")) for _ in range(FLYING)]
    for task in flying:
        # asyncio complains of each that it destroys with its loop, and is right.
        vars_of: Any = task
        vars_of._log_destroy_pending = False
    await southbridge.get(f"{url}/size/1")
    leave(how)
    assert not any(task.done() for task in flying)


def by_asyncio(url: str, how: str) -> None:
    asyncio.run(in_loop(url, how))


def by_open_loop(url: str, how: str) -> None:
    """A loop that is never closed."""
    # It closes itself when it is collected, and complains when its sockets were before it (CPython 3.12): a collection at
    # an unlucky moment changes the order, which is otherwise the one in which they were made.
    gc.disable()
    asyncio.new_event_loop().run_until_complete(in_loop(url, how))


def by_uvloop(url: str, how: str) -> None:
    import uvloop

    uvloop.run(in_loop(url, how))


def by_tornado(url: str, how: str) -> None:
    from tornado.ioloop import IOLoop

    asyncio.set_event_loop(asyncio.new_event_loop())
    IOLoop.current().run_sync(partial(in_loop, url, how))


def by_trio(url: str, how: str) -> None:
    import trio

    async def ask() -> None:
        await southbridge.get(f"{url}/never")

    async def main() -> None:
        for _ in range(FLYING):
            trio.lowlevel.spawn_system_task(ask)
        await southbridge.get(f"{url}/size/1")
        leave(how)

    trio.run(main)


def by_twisted(url: str, how: str) -> None:
    from twisted.internet import reactor as installed

    reactor: Any = installed

    def start() -> None:
        flying.extend(southbridge.get(f"{url}/never") for _ in range(FLYING))
        asked: Any = southbridge.get(f"{url}/size/1")
        # A reactor logs what is raised in it, and ends when it is stopped.
        asked.addCallback(stop)

    def stop(_response: object) -> None:
        reactor.stop()

    flying: list[southbridge.Response] = []
    reactor.callLater(0, start)
    reactor.run()
    leave(how)


def by_gevent(url: str, how: str) -> None:
    import gevent

    flying = [gevent.spawn(southbridge.get, f"{url}/never") for _ in range(FLYING)]
    gevent.spawn(southbridge.get, f"{url}/size/1").get()
    leave(how)
    assert not any(greenlet.ready() for greenlet in flying)


def by_threads(url: str, how: str) -> None:
    def wait() -> None:
        with suppress(southbridge.StoppedError):
            southbridge.get(f"{url}/never")

    for _ in range(FLYING):
        threading.Thread(target=wait, daemon=True).start()
    southbridge.get(f"{url}/size/1")
    leave(how)


def by_busy_threads(url: str, how: str) -> None:
    """Daemon threads that ask and ask, while the interpreter goes away beneath them."""

    def traffic() -> None:
        with suppress(southbridge.StoppedError):
            while True:
                southbridge.get(f"{url}/size/10")

    # The interpreter's lock changes hands wherever it may.
    sys.setswitchinterval(1e-6)
    for _ in range(FLYING):
        threading.Thread(target=traffic, daemon=True).start()
    southbridge.get(f"{url}/size/1")
    leave(how)


def by_last_words(url: str, how: str) -> None:
    """What the program registered for its exit may still ask; what runs after the kernel has gone is told so."""

    class Late:
        def __del__(self) -> None:
            with suppress(southbridge.StoppedError):
                southbridge.get(f"{url}/size/1")
                raise AssertionError("a kernel that has stopped has answered")

    def last_words() -> None:
        assert southbridge.get(f"{url}/size/1").status == 200

    kept.append(Late())
    atexit.register(last_words)
    by_threads(url, how)


kept: list[object] = []

WAYS: dict[str, Callable[[str, str], None]] = {
    name.removeprefix("by_"): way for name, way in list(globals().items()) if name.startswith("by_")
}


if __name__ == "__main__":
    # A traceback would be right, and is not what the test is about.
    with suppress(LeavingError):
        WAYS[sys.argv[1]](sys.argv[3], sys.argv[2])
