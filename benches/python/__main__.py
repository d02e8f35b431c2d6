"""Measures in interleaved pairs: ``PYTHONPATH=python:benches python -m python [--rounds N] [CLIENT or FRONT…]``.

Every round is a process of its own, so that what one client leaves behind is no other's burden; the clients take turns,
so that a slow minute of the machine is everybody's. CPU time is printed, not wall time: the lowest, the median and the
highest of all rounds, in microseconds for one request, of the main thread and of the whole process.

The peer is nginx on loopback: HTTP/1.1, kept alive, 2 KB. 64 requests are in flight.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .clients import CLIENTS
from .fronts import FRONTS

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIGURATION = """
daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;
worker_rlimit_nofile 4096;
events {{ worker_connections 2048; }}
http {{
    access_log off; keepalive_requests 100000000; keepalive_timeout 600; types {{ }} default_type text/plain;
    client_body_temp_path {dir}; proxy_temp_path {dir}; fastcgi_temp_path {dir}; uwsgi_temp_path {dir}; scgi_temp_path {dir};
    server {{ listen 127.0.0.1:{port} backlog=1024; root {dir}; }}
}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("clients", nargs="*", default=[*sorted(CLIENTS), *FRONTS])
    asked = parser.parse_args()
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in asked.clients}
    with nginx() as url:
        for _ in range(asked.rounds):
            for name in asked.clients:
                costs[name].append(one_round(name, url, asked.requests))
    print(f"{'':24}{'main thread, µs':>24}{'process, µs':>24}")
    for name, measured in costs.items():
        print(f"{name:24}{spread([cost[0] for cost in measured])}{spread([cost[1] for cost in measured])}")


def one_round(name: str, url: str, requests: int) -> tuple[float, float]:
    module = "python.clients" if name in CLIENTS else "python.fronts"
    program = [sys.executable, "-m", module, name, url, str(requests)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    told: tuple[float, float] = tuple(json.loads(done.stdout))
    return told


def spread(costs: list[float]) -> str:
    return f"{min(costs):8.1f}{statistics.median(costs):8.1f}{max(costs):8.1f}"


@contextmanager
def nginx() -> Iterator[str]:
    """The URL of 2 KB, at an nginx that ends with us."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "2k").write_bytes(b"x" * 2048)
        port = free_port()
        configuration = Path(folder) / "nginx.conf"
        configuration.write_text(CONFIGURATION.format(dir=folder, port=port))
        with subprocess.Popen([program, "-p", folder, "-c", str(configuration)]) as process:
            try:
                wait_for(port)
                yield f"http://127.0.0.1:{port}/2k"
            finally:
                process.terminate()


def free_port() -> int:
    import socket

    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return int(holder.getsockname()[1])


def wait_for(port: int) -> None:
    import socket

    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
    raise SystemExit("nginx does not listen")


if __name__ == "__main__":
    main()
