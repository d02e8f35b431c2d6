"""The stack of a hung program: ``PYTHONPATH=python:benches python -m python.stacks [--times N] [--with PYTHON…] [KIND…]``.

Each kind of hanging of ``python/tests/hung.py`` is a process of its own, in each interpreter that is named; it is asked
``--times`` times for the stack of its main thread, over its debug socket, and must end well afterwards. Wall time of
whoever asks is printed, connecting and parsing included; and how many of the stacks were told while the innermost
frames changed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).parents[2] / "python" / "tests"
KINDS = {
    "looping": "Python that calls nothing",
    "computing": "Python that calls and returns all the time",
    "hashing": "hashlib, again and again",
    "sleeping": "time.sleep",
    "lock_held": "a call in C that keeps the lock",
    "recursing": "900 frames deep",
    "crowded": "24 threads besides",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--with", dest="interpreters", nargs="+", default=[sys.executable])
    parser.add_argument("kinds", nargs="*", default=list(KINDS))
    asked = parser.parse_args()
    peer = [sys.executable, str(TESTS / "peer.py")]
    print(f"{'ms':36}{'p50':>8}{'p99':>8}{'most':>8}{'moving':>8}{'nothing':>9}")
    with subprocess.Popen(peer, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        for interpreter in asked.interpreters:
            for kind in asked.kinds:
                one_kind(interpreter, kind, url, asked.times)
        process.kill()


def one_kind(interpreter: str, kind: str, url: str, times: int) -> None:
    with tempfile.TemporaryDirectory(prefix="sb") as folder:
        program = [interpreter, str(TESTS / "hung.py"), kind, url, "3"]
        environment = os.environ | {"SOUTHBRIDGE_DEBUG": f"{folder}/debug"}
        took: list[float] = []
        moving = nothing = 0
        while len(took) < times:
            # One that ends well after three seconds, and then the next.
            with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=environment) as process:
                assert process.stdout is not None
                path = process.stdout.readline().strip()
                until = time.monotonic() + 2.5
                while len(took) < times and time.monotonic() < until:
                    begin = time.perf_counter()
                    status, told = ask(path)
                    took.append(time.perf_counter() - begin)
                    nothing += status != 200
                    moving += status == 200 and told["moving"] > 0
                said = process.stdout.read().split()
            if process.returncode or said[-1:] != ["well"]:
                raise SystemExit(f"{kind} ended with {process.returncode} after {len(took)} stacks")
    took.sort()
    at = [took[int((len(took) - 1) * quantile)] * 1e3 for quantile in (0.5, 0.99, 1)]
    version = subprocess.run([interpreter, "-V"], capture_output=True, text=True, check=True).stdout.split()[
        1
    ]
    name = f"{version} {kind} x {len(took)}"
    print(f"{name:36}" + "".join(f"{one:8.2f}" for one in at) + f"{moving:8}{nothing:9}", flush=True)


def ask(path: str) -> tuple[int, dict[str, int]]:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(30)
    connection.sock.connect(path)
    connection.request("GET", "/debug/stack")
    response = connection.getresponse()
    body = json.loads(response.read())
    connection.close()
    return response.status, body


if __name__ == "__main__":
    main()
