"""Whether the I/O thread keeps its times while the main thread holds the interpreter's lock. As a program: holds it.

The main thread calls into C, which sleeps for 300 ms with the lock held, as a database driver or a numerical library
may; between two calls its loop has 30 ms. A peer in another process sees what our I/O thread does meanwhile: see
``held_peer.py``. Nothing of what is measured is measured by a program whose interpreter is held.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .report import Report, program

HELD_US = 300_000
FREE_S = 0.03
KEPT_ALIVE = 4
TIMERS = 20


async def hold(ports: list[int], certificate: str, seconds: float) -> int:
    """Holds the lock again and again; how often."""
    import southbridge

    plain, never, pinging, silent = ports
    # Loaded as Python's own code is, so that a call does not let go of the lock.
    sleep_in_c = ctypes.PyDLL(None).usleep
    client = southbridge.Client(ca_files=[certificate], timeout=None)
    waiting = [
        asyncio.ensure_future(_wait(client.get(f"https://127.0.0.1:{port}/"))) for port in (pinging, silent)
    ]
    waiting += [
        asyncio.ensure_future(_ask_on(client, f"http://127.0.0.1:{plain}/2k")) for _ in range(KEPT_ALIVE)
    ]
    await asyncio.sleep(0.5)
    assert not any(task.done() for task in waiting), waiting
    end, times = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        timers = [asyncio.ensure_future(_run_out(client, never, number)) for number in range(TIMERS)]
        await asyncio.sleep(FREE_S)
        sleep_in_c(HELD_US)
        times += 1
        await asyncio.gather(*timers)
    await client.get(f"http://127.0.0.1:{plain}/over")
    for task in waiting:
        task.cancel()
    return times


async def _ask_on(client: Any, url: str) -> None:
    while True:
        await client.get(url)
        await asyncio.sleep(0.005)


async def _wait(response: Any) -> None:
    await response


async def _run_out(client: Any, port: int, number: int) -> None:
    import southbridge

    await asyncio.sleep(number * FREE_S / TIMERS / 2)
    # Over at some time while the lock is held.
    timeout = 0.06 + number * 0.01
    try:
        await client.get(f"http://127.0.0.1:{port}/{time.monotonic()}/{timeout}", timeout=timeout)
    except southbridge.TimedOutError:
        return
    raise AssertionError("nobody answers")


def report(told: Report, rounds: int, seconds: float = 25) -> None:
    """Adds what the peer saw. One round takes as long as the longest silence that it sees."""
    told.title(f"The lock held for 300 ms at a time, over {seconds:g} s; milliseconds, as the peer sees it")
    seen = [_one_round(seconds) for _ in range(min(rounds, 2))]
    _tell(told, "a timeout, after its time", [one["late"] for one in seen])
    _tell(told, "a PING of HTTP/2, until it is acknowledged", [one["acknowledged"] for one in seen])
    asked = [second * 1e3 for one in seen for second in one["silence"]]
    told.row("after a silence of 20 s, asked whether it lives", [late - 20e3 for late in asked], at_most=2)
    told.row(
        "PINGs sent and not acknowledged", [one["pings_sent"] - len(one["acknowledged"]) for one in seen]
    )
    told.row("requests answered on kept connections", [one["answered"] for one in seen])
    told.row(
        "connections that these took, the last word included",
        [one["connections"] for one in seen],
        at_most=KEPT_ALIVE + 1,
    )
    told.row("connections lost", [one["lost"] for one in seen], at_most=0)


def _tell(told: Report, what: str, rounds: list[list[float]]) -> None:
    told.row(f"{what}: median", [_quantile(one, 0.5) for one in rounds])
    told.row(f"{what}: p99 of {min(map(len, rounds))}", [_quantile(one, 0.99) for one in rounds], at_most=2)
    told.row(f"{what}: worst", [max(one) * 1e3 for one in rounds])


def _quantile(seconds: list[float], quantile: float) -> float:
    return sorted(seconds)[int(quantile * (len(seconds) - 1))] * 1e3


def _one_round(seconds: float) -> dict[str, Any]:
    import trustme

    with tempfile.TemporaryDirectory() as folder:
        certificate = str(Path(folder) / "peer.pem")
        authority = trustme.CA()
        roots = str(Path(folder) / "roots.pem")
        authority.cert_pem.write_to_path(roots)
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
        command = [sys.executable, "-m", "python.held_peer", certificate]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as peer:
            assert peer.stdin is not None
            assert peer.stdout is not None
            ports = peer.stdout.readline()
            times = program("held", ports, roots, str(seconds))
            peer.stdin.close()
            seen: dict[str, Any] = json.loads(peer.stdout.readline())
    assert len(seen["late"]) == times * TIMERS, "every timeout was seen"
    return seen


if __name__ == "__main__":
    print(json.dumps(asyncio.run(hold(json.loads(sys.argv[1]), sys.argv[2], float(sys.argv[3])))))
