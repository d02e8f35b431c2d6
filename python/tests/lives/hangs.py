"""Programs that stand still, with requests in flight: ``hangs NAME URL SECONDS``. Each prints what came of them.

The first line says where the debug socket is; the program stands still from then on.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from collections import Counter
from typing import Any

import southbridge

ANSWERED_AFTER = 0.3
TIMEOUT = 0.6
# Longer than anything stands still here.
PATIENT = 300
# Of each kind; all of them have a connection at once.
FLYING = 4


async def outcome(url: str, seconds: float) -> str:
    """What comes of a request, and when, by the kernel's clock."""
    try:
        response = await southbridge.get(url, timeout=southbridge.Timeout(seconds, read=seconds))
    except southbridge.SouthbridgeError as error:
        return type(error).__name__
    return "in time" if response.elapsed < 2 * ANSWERED_AFTER else f"after {response.elapsed} s"


async def flying(url: str) -> list[asyncio.Task[str]]:
    """Requests that are answered soon, and others that are never; all of them are under way."""
    soon = [outcome(f"{url}/delay/{ANSWERED_AFTER}", PATIENT) for _ in range(FLYING)]
    never = [outcome(f"{url}/never/hangs", TIMEOUT) for _ in range(FLYING)]
    tasks = [asyncio.ensure_future(one) for one in soon + never]
    await asyncio.sleep(0.05)
    return tasks


def lock_held(url: str, seconds: str) -> None:
    """One call in C that keeps the interpreter's lock all the time."""

    async def main() -> None:
        await southbridge.get(f"{url}/size/1")
        tasks = await flying(url)
        print(southbridge.debug_socket(), flush=True)
        # Calls through it keep the lock.
        ctypes.PyDLL(None).usleep(ctypes.c_uint(round(float(seconds) * 1e6)))
        began = time.monotonic()
        told = Counter(await asyncio.gather(*tasks))
        assert time.monotonic() - began < 1, "it had come meanwhile, and was not there"
        statuses = {(await southbridge.get(f"{url}/size/1")).status for _ in range(20)}
        print(sorted(told.items()), statuses)

    asyncio.run(main())


def stopped(url: str, _seconds: str) -> None:
    """The process is stopped as a whole, by itself; whoever watches lets it go on."""

    async def main() -> None:
        await southbridge.get(f"{url}/size/1")
        tasks = await flying(url)
        print(southbridge.debug_socket(), flush=True)
        os.kill(os.getpid(), signal.SIGSTOP)
        told = Counter(await asyncio.gather(*tasks))
        answers: list[Any] = await asyncio.gather(*(southbridge.get(f"{url}/size/1") for _ in range(100)))
        # By the clock that stood still for nobody: those that were answered were answered, whenever they were read.
        counted = (told["TimedOutError"], sum(told.values()))
        print(counted, {answer.status for answer in answers})

    asyncio.run(main())


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
