"""Programs that are interrupted: ``signals NAME URL``.

Ctrl-C is sent when the peer says that the request has come, and what it must say soon after is that nobody waits any
more: given up in the kernel, and not only here.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import southbridge


def waiting(url: str, count: str) -> bool:
    """Waits until so many wait at the peer; whether it came to that."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if southbridge.get(f"{url}/waiting/{os.getpid()}").text == count:
            return True
    return False


def never(url: str) -> Any:
    return southbridge.get(f"{url}/never/{os.getpid()}", timeout=30)


def interrupt_soon(url: str, number: int = signal.SIGINT) -> None:
    """Sends the signal to this process as soon as a request waits at the peer."""

    def interrupt() -> None:
        assert waiting(url, "1")
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt, daemon=True).start()


def interrupted(run: Callable[[], object], url: str) -> None:
    """Says whether ``run`` ends by Ctrl-C, and the request with it."""
    interrupt_soon(url)
    try:
        run()
    except KeyboardInterrupt:
        print("interrupted", end=" ")
    print("given up" if waiting(url, "0") else "still waiting")


def in_asyncio(url: str) -> None:
    async def main() -> None:
        await never(url)

    interrupted(lambda: asyncio.run(main()), url)


def in_uvloop(url: str) -> None:
    import uvloop

    async def main() -> None:
        await never(url)

    interrupted(lambda: uvloop.run(main()), url)


def in_tornado(url: str) -> None:
    from tornado.ioloop import IOLoop

    async def main() -> None:
        await never(url)

    def run() -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            IOLoop.current().run_sync(main)
        finally:
            # As `asyncio.run` does it: Tornado leaves the task where it was.
            for task in asyncio.all_tasks(loop):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    loop.run_until_complete(task)

    interrupted(run, url)


def in_trio(url: str) -> None:
    import trio

    async def main() -> None:
        await never(url)

    interrupted(lambda: trio.run(main), url)


def in_twisted(url: str) -> None:
    """The reactor has a handler of its own, which stops it; what the program does then is its business."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    flying: list[Any] = []

    def ask() -> None:
        flying.append(never(url).addErrback(noted.append))

    noted: list[object] = []
    reactor.callLater(0, ask)
    interrupt_soon(url)
    reactor.run()
    print("interrupted", end=" ")
    flying[0].cancel()
    done: list[bool] = []
    # A thread, for this one is the reactor's.
    asking = threading.Thread(target=lambda: done.append(waiting(url, "0")))
    asking.start()
    asking.join()
    print("given up" if done == [True] else "still waiting")


def in_gevent(url: str) -> None:
    import gevent

    # What it would print of Ctrl-C besides raising it.
    hub: Any = gevent.get_hub()
    hub.exception_stream = None

    def run() -> None:
        greenlet = gevent.spawn(never, url)
        try:
            greenlet.get()
        finally:
            greenlet.kill()

    interrupted(run, url)


def in_threads(url: str) -> None:
    interrupted(lambda: never(url), url)


def handled(url: str) -> None:
    """A handler that raises nothing runs at once, and the blocked call goes on waiting for its answer."""
    began = time.monotonic()
    ran: list[float] = []
    signal.signal(signal.SIGUSR1, lambda _number, _frame: ran.append(time.monotonic() - began))
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    text = southbridge.get(f"{url}/delay/1").text
    print(text, len(ran), ran[0] < 0.7)


def handled_in_loop(url: str) -> None:
    """asyncio's own handlers run, which `set_wakeup_fd` wakes the loop for."""

    async def main() -> None:
        called = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, called.set)
        asked = asyncio.ensure_future(never(url))
        interrupt_soon(url, signal.SIGTERM)
        await asyncio.wait_for(called.wait(), 20)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)

    asyncio.run(main())
    print("handled", "given up" if waiting(url, "0") else "still waiting")


def wakes(url: str) -> None:
    """The descriptor of `set_wakeup_fd` is written to while the main thread waits in the kernel's port."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    signal.set_wakeup_fd(theirs.fileno())
    signal.signal(signal.SIGUSR1, lambda _number, _frame: None)
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
    southbridge.get(f"{url}/delay/0.5")
    signal.set_wakeup_fd(-1)
    print(list(ours.recv(10)) == [signal.SIGUSR1])


def ignored_by_the_io_thread(url: str) -> None:
    """Signals are the interpreter's: the I/O thread has blocked all that can be blocked."""
    southbridge.get(f"{url}/size/1")
    for task in Path("/proc/self/task").iterdir():
        status = (task / "status").read_text()
        if "southbridge-io" in status:
            mask = int(status.split("SigBlk:")[1].split()[0], 16)
            allowed = {number for number in signal.valid_signals() if not mask >> (number - 1) & 1}
            print(allowed <= {signal.SIGKILL, signal.SIGSTOP})


if __name__ == "__main__":
    # Whoever runs tests in the background of a shell has them ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    globals()[sys.argv[1]](*sys.argv[2:])
