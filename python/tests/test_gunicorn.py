"""Servers that fork: gunicorn with each kind of worker, its application loaded, and used, before the fork (row 23)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest
import southbridge

from .lives import place

WORKERS = {
    "sync": "wsgi",
    "gthread": "wsgi",
    "gevent": "wsgi",
    "uvicorn.workers.UvicornWorker": "asgi",
}


@pytest.mark.parametrize("worker", WORKERS)
def test_row_23_workers_of_a_preloaded_application_ask_by_kernels_of_their_own(
    peer: str, worker: str
) -> None:
    with served(worker, peer) as url, ThreadPoolExecutor(8) as several:
        client = southbridge.Client(base_url=url)
        told = list(several.map(partial(asked, client), ["/"] * 60))
        assert set(told) == {"[200, 200, 200] True"}


def asked(client: southbridge.Client, path: str) -> str:
    return client.get(path, timeout=20).text


@contextmanager
def served(worker: str, peer: str) -> Generator[str, None, None]:
    """gunicorn, which ends well when it is told to, with requests of its own in flight or not."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        port = listener.getsockname()[1]
        program = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "gunicorn",
            "--preload",
            "--bind",
            f"fd://{listener.fileno()}",
        ]
        # What gunicorn calls its control socket is a file in the home directory, which is not ours.
        program += [
            "--workers",
            "2",
            "--threads",
            "4" if worker == "gthread" else "1",
            "--worker-class",
            worker,
        ]
        program += ["--log-level", "warning", "--no-control-socket", f"tests.lives.served:{WORKERS[worker]}"]
        environment = {**os.environ, "SOUTHBRIDGE_TEST_PEER": peer}
        with subprocess.Popen(
            program,
            cwd=place(),
            env=environment,
            pass_fds=[listener.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as gunicorn:
            try:
                yield f"http://127.0.0.1:{port}"
                began = time.monotonic()
                gunicorn.terminate()
                said, _ = gunicorn.communicate(timeout=20)
            finally:
                gunicorn.kill()
    assert (gunicorn.returncode, said) == (0, "")
    # The workers' exits are exits: none is waited for until gunicorn's patience (30 s) is over.
    assert time.monotonic() - began < 10
