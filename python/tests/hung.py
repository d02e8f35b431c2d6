"""Programs that hang, or are busy, while they are asked what they do: ``hung.py NAME URL SECONDS``.

Each says where its debug socket is, does what its name says for so many seconds, and then says that it is well.
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import southbridge

# Calls through it keep the interpreter's lock.
_C = ctypes.PyDLL(None)


def _announce() -> None:
    print(southbridge.debug_socket(), flush=True)


def _until(seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield


def lock_held(seconds: float) -> None:
    """A call in C that keeps the lock."""
    for _ in _until(seconds):
        _C.usleep(500_000)


def sleeping(seconds: float) -> None:
    """A call in C that releases the lock."""
    begin = time.monotonic()
    time.sleep(seconds)
    assert time.monotonic() - begin >= seconds


def matching(seconds: float) -> None:
    """A regular expression without end, in C, with the lock."""
    for _ in _until(seconds):
        re.match(r"(a+)+$", "a" * 22 + "b")


def hashing(seconds: float) -> None:
    """Long loops in C, some with and some without the lock."""
    data = b"x" * 1_000_000
    for _ in _until(seconds):
        hashlib.sha256(data).hexdigest()
        hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 5_000)


def computing(seconds: float) -> None:
    """Python that calls and returns as fast as it can: frames come and go while they are looked at."""

    def deep(depth: int) -> int:
        return depth if depth == 0 else deep(depth - 1) + sum(one for one in range(3))

    for _ in _until(seconds):
        for depth in range(40):
            deep(depth)


def reading(seconds: float) -> None:
    """A system call that must not be interrupted."""
    here, there = socket.socketpair()
    threading.Timer(seconds, there.send, (b"end",)).start()
    assert here.recv(10) == b"end"


def polling(seconds: float) -> None:
    """A loop with a wake-up descriptor and signals of its own: the loop is not woken by what is not its own."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        told: list[int] = []
        loop.add_signal_handler(signal.SIGUSR1, told.append, 1)
        first, second = socket.socketpair()
        for end in (first, second):
            end.setblocking(False)
        before = signal.set_wakeup_fd(second.fileno())
        await asyncio.sleep(seconds)
        signal.set_wakeup_fd(before)
        try:
            woken = first.recv(10)
        except BlockingIOError:
            woken = b""
        assert woken == b"", woken
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.sleep(0.2)
        assert told == [1]

    asyncio.run(main())


def asking(seconds: float) -> None:
    """A request with secrets that is never answered, in a mark within a mark."""

    async def main() -> None:
        client = southbridge.Client(headers={"X-Api-Key": "hush-header"})
        url = URL.replace("http://", "http://user:hush-password@")
        with southbridge.mark("checkout"), southbridge.mark("loading cart"):
            task = asyncio.ensure_future(
                client.get(f"{url}/never?token=hush-query", auth="hush-bearer", timeout=60)
            )
            await asyncio.sleep(0.3)
            lock_held(seconds)
            task.cancel()

    asyncio.run(main())


def looping(seconds: float) -> None:
    """Python that calls nothing."""
    count, end = 0, time.monotonic() + seconds
    while count % 100_000 or time.monotonic() < end:
        count += 1


def recursing(seconds: float) -> None:
    """As deep as Python allows, and there it hangs."""

    def down(depth: int) -> None:
        if depth:
            down(depth - 1)
        else:
            lock_held(seconds)

    down(900)


def crowded(seconds: float) -> None:
    """Threads that compute, wait, come and go, while the main thread holds the lock again and again."""
    end = threading.Event()

    def waits_for_the_end() -> None:
        end.wait()

    def computes_to_the_end() -> None:
        while not end.is_set():
            sum(one for one in range(1000))

    def makes_threads_to_the_end() -> None:
        while not end.is_set():
            short = threading.Thread(target=str)
            short.start()
            short.join()

    work = [*[waits_for_the_end] * 20, *[computes_to_the_end] * 3, makes_threads_to_the_end]
    threads = [threading.Thread(target=one) for one in work]
    for thread in threads:
        thread.start()
    for _ in _until(seconds):
        _C.usleep(20_000)
    end.set()
    for thread in threads:
        thread.join()


async def _inner(seconds: float) -> None:
    for _ in _until(seconds):
        _C.usleep(100_000)


def generating(seconds: float) -> None:
    """Coroutines and generators, whose frames lie elsewhere; names that are not ASCII; code of one line and of many."""

    def größe(name: str) -> Iterator[int]:  # noqa: PLC2401
        yield len(
            # The line of a call is that of its name, or of its arguments.
            name
        )
        asyncio.run(_inner(seconds))

    list(größe("…"))


def blocked_signals(seconds: float) -> None:
    """The main thread blocks all signals, as those do that wait for them, and has handlers for the rest."""
    for number in range(signal.SIGRTMIN, signal.SIGRTMAX + 1):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    for _ in _until(seconds):
        time.sleep(0.05)
    assert signal.sigpending() == set()


def forked(seconds: float) -> None:
    """A child has a socket of its own as soon as it asks for something; its parent keeps the other one."""
    with southbridge.mark("forking"):
        child = os.fork()
        if child == 0:
            southbridge.get(f"{URL}/size/1")
            _announce()
            time.sleep(seconds)
            os._exit(0)
        _pid, status = os.waitpid(child, 0)
        assert status == 0


if __name__ == "__main__":
    NAME, URL, SECONDS = sys.argv[1], sys.argv[2], float(sys.argv[3])
    southbridge.get(f"{URL}/size/1")
    _announce()
    work: Callable[[float], None] = globals()[NAME]
    work(SECONDS)
    print("well", flush=True)
