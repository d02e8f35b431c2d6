"""Processes that fork, spawn, are daemons, or become another program."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import southbridge


def in_child(work: Callable[[], bool]) -> int:
    """The exit status of a forked child that does ``work``: 0 if it was done, and in time."""
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        # `_exit`: what the parent has to say at its exit is not the child's to say.
        os._exit(0 if work() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def ask(url: str) -> int:
    return southbridge.get(url, timeout=10).status


def before_use(url: str) -> None:
    """Nothing has started yet, in either."""
    told = in_child(lambda: ask(f"{url}/size/1") == 200)
    print(told, ask(f"{url}/size/1"))


def generations(url: str) -> None:
    """Each generation uses what it has, and has a child of its own."""

    def live(left: int) -> bool:
        well = ask(f"{url}/size/1") == 200
        return well and (left == 0 or in_child(lambda: live(left - 1)) == 0)

    print(live(5))


def in_a_task(url: str) -> None:
    """Forks while a loop runs with requests in flight; the child runs a loop of its own, and exits as programs do."""

    async def child() -> bool:
        answers = await asyncio.gather(*(southbridge.get(f"{url}/delay/0.01") for _ in range(10)))
        return all(answer.status == 200 for answer in answers)

    async def main() -> None:
        flying = [asyncio.ensure_future(southbridge.get(f"{url}/delay/0.3")) for _ in range(10)]
        await asyncio.sleep(0.05)
        status = in_child(lambda: asyncio.run(child()))
        print(status, {answer.status for answer in await asyncio.gather(*flying)})

    asyncio.run(main())


def wait_in_vain(url: str) -> None:
    with suppress(southbridge.StoppedError):
        southbridge.get(f"{url}/never/child")


def child_exits_in_order(url: str) -> None:
    """A child that runs the interpreter to its end, with what the parent registered for it."""
    ask(f"{url}/size/1")
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        threading.Thread(target=wait_in_vain, args=(url,), daemon=True).start()
        ask(f"{url}/size/1")
        sys.exit(7)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(status, ask(f"{url}/size/1"))


def descriptors(url: str) -> None:
    """What a program sees that is started, or that this one becomes: none of our descriptors."""
    read = "import os; print(sorted(int(fd) for fd in os.listdir('/proc/self/fd') if os.path.exists(f'/proc/self/fd/{fd}')))"
    print(
        sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")),
        flush=True,
    )
    ask(f"{url}/size/1")
    told = subprocess.run(
        [sys.executable, "-c", read], close_fds=False, capture_output=True, text=True, check=True
    )
    sys.stdout.write(told.stdout)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-c", read])


def daemon(url: str) -> None:
    """Forks twice, leaves its session, and closes every descriptor there is, as daemons do. Its answer comes by a file."""
    ask(f"{url}/size/1")
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
        signal.alarm(30)
        os.dup2(writer, 0)
        os.closerange(1, 4096)
        told = [ask(f"{url}/size/1"), asyncio.run(ask_in_loop(url))]
        os.write(0, json.dumps(told).encode())
        os._exit(0)
    os.wait()
    os.close(writer)
    with os.fdopen(reader) as said:
        print(said.read(), ask(f"{url}/size/1"))


async def ask_in_loop(url: str) -> int:
    return (await southbridge.get(f"{url}/size/1")).status


def closes_ours(url: str) -> None:
    """Closes every descriptor of a process whose kernel runs: what it asks for fails, soon, and says why."""
    ask(f"{url}/size/1")
    signal.alarm(30)
    os.closerange(3, 4096)
    for _ in range(2):
        try:
            print("answered", ask(f"{url}/size/1"))
        except southbridge.SouthbridgeError as error:
            print(type(error).__name__, error)


def several(method: str, url: str) -> None:
    """A process, a pool, and an executor, of the standard library."""
    context: Any = multiprocessing.get_context(method)
    ask(f"{url}/size/1")
    stop = threading.Event()

    def traffic() -> None:
        while not stop.is_set():
            ask(f"{url}/size/1")

    thread = threading.Thread(target=traffic)
    thread.start()
    try:
        process = context.Process(target=ask, args=(f"{url}/size/1",))
        process.start()
        process.join(30)
        with context.Pool(2) as pool:
            mapped = pool.map(ask, [f"{url}/size/1"] * 20)
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
            executed = list(executor.map(ask, [f"{url}/size/1"] * 20))
    finally:
        stop.set()
        thread.join()
    print(process.exitcode, set(mapped), set(executed))


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
