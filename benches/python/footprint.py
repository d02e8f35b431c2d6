"""What it takes to be there: ``PYTHONPATH=python:benches python -m python.footprint [--rounds N]``.

Importing the package and starting the kernel, over a bare interpreter: wall time and resident memory. And 10,000
requests in flight at a peer that never answers: resident memory over what it was before, of our side alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys

START = """
import json, time
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
before, began = resident(), time.perf_counter()
import southbridge
from southbridge._kernel import Port
port = Port()
print(json.dumps([(time.perf_counter() - began) * 1e3, (resident() - before) / 1e6]))
"""

IN_FLIGHT = """
import asyncio, json, resource, socket
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
import southbridge
async def main():
    # It listens, and nobody ever accepts.
    with socket.socket() as peer:
        peer.bind(("127.0.0.1", 0))
        peer.listen(4096)
        url = f"http://127.0.0.1:{peer.getsockname()[1]}/"
        client = southbridge.Client(timeout=None)
        before = resident()
        async def ask():
            return await client.get(url)
        asked = [asyncio.ensure_future(ask()) for _ in range(10_000)]
        await asyncio.sleep(3)
        waiting = sum(not one.done() for one in asked)
        print(json.dumps([waiting, (resident() - before) / 1e6]))
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
asyncio.run(main())
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    rounds: int = parser.parse_args().rounds
    started = [run(START) for _ in range(rounds)]
    flying = [run(IN_FLIGHT) for _ in range(3)]
    print(f"import and start, ms       {spread([one[0] for one in started])}   bound 30")
    print(f"import and start, MB       {spread([one[1] for one in started])}   bound 8")
    print(f"requests in flight         {spread([one[0] for one in flying])}   wanted 10000")
    print(f"their memory, MB           {spread([one[1] for one in flying])}   bound 60")


def run(program: str) -> tuple[float, float]:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    told: tuple[float, float] = tuple(json.loads(done.stdout))
    return told


def spread(figures: list[float]) -> str:
    return f"{min(figures):9.1f}{statistics.median(figures):9.1f}{max(figures):9.1f}"


if __name__ == "__main__":
    main()
