"""What it takes to be there: importing the package and starting the kernel, and 10,000 requests in flight.

Memory is what our side takes over what there was before. Resident (``Rss``) counts pages of the native module that are
files' and shared with every other process that has it; private dirty is what nobody else has and nobody can drop.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from .report import Report

MEMORY = """
import json, time
def memory():
    figures = {}
    with open("/proc/self/smaps_rollup") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if rest.endswith("kB\\n"):
                figures[name] = int(rest.split()[0]) * 1024 / 1e6
    return [figures[name] for name in ("Rss", "Pss", "Private_Dirty")]
def grown(before):
    return [now - then for now, then in zip(memory(), before)]
"""

START = """
before, began = memory(), time.perf_counter()
import southbridge
from southbridge._kernel import Port
port = Port()
took = (time.perf_counter() - began) * 1e3
print(json.dumps([took, *grown(before)]))
"""

IN_FLIGHT = """
import asyncio, resource, socket
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
import southbridge
from southbridge._kernel import Port
async def main():
    # It listens, and nobody ever accepts.
    with socket.socket() as peer:
        peer.bind(("127.0.0.1", 0))
        peer.listen(4096)
        url = f"http://127.0.0.1:{peer.getsockname()[1]}/"
        client = southbridge.Client(timeout=None)
        # What the kernel takes at its start is measured by itself.
        Port()
        before = memory()
        async def ask():
            return await client.get(url)
        asked = [asyncio.ensure_future(ask()) for _ in range(10_000)]
        await asyncio.sleep(3)
        waiting = sum(not one.done() for one in asked)
        print(json.dumps([waiting, *grown(before)]))
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
asyncio.run(main())
"""


def report(told: Report, rounds: int) -> None:
    """Adds the footprint."""
    started = [run(START) for _ in range(2 * rounds)]
    flying = [run(IN_FLIGHT) for _ in range(3)]
    told.title("Importing the package and starting the kernel, over a bare interpreter")
    told.row("wall time, ms", [one[0] for one in started], at_most=30)
    told.row("resident memory, MB", [one[1] for one in started], at_most=8)
    told.row("proportional share of it, MB", [one[2] for one in started])
    told.row("private dirty, MB", [one[3] for one in started])
    told.title("10,000 requests in flight at a peer that never answers")
    told.row("requests in flight", [one[0] for one in flying], at_least=10_000)
    told.row("resident memory, MB", [one[1] for one in flying], at_most=60)


def run(program: str) -> Any:
    """What ``program`` printed; a process of its own, without this package's modules."""
    command = [sys.executable, "-c", MEMORY + program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)
