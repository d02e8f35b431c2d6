"""Row 22: the main thread hangs, the interpreter's lock is held, the process is stopped; the kernel is not impressed."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager

import pytest
import southbridge

from .lives import TIMES, command, place

# A minute, when it is told in full.
SECONDS = min(60.0, 2 * max(1.0, TIMES))
# How long the debug socket may take. A machine that others use is told to end only.
PATIENCE = 0.1 if TIMES >= 100 else 1


@contextmanager
def program(name: str, peer: str) -> Generator[subprocess.Popen[str]]:
    """A program of `hangs.py`, which ends well."""
    with subprocess.Popen(
        command("hangs", name, peer, str(SECONDS)),
        cwd=place(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def ends_well(process: subprocess.Popen[str]) -> str:
    told, complaints = process.communicate(timeout=SECONDS + 60)
    assert (process.returncode, complaints) == (0, ""), told
    return told.strip()


def debug(path: str) -> float:
    """Asks the debug socket; how long it took."""
    began = time.monotonic()
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(30)
    connection.sock.connect(path)
    connection.request("GET", "/debug/requests")
    assert connection.getresponse().status == 200
    connection.close()
    return time.monotonic() - began


def waiting(peer: str) -> int:
    return int(southbridge.get(f"{peer}/waiting/hangs").text)


@pytest.mark.counted
def test_row_22_while_the_lock_is_held_deadlines_pass_answers_come_and_the_debug_socket_answers(
    peer: str,
) -> None:
    took: list[float] = []
    with program("lock_held", peer) as process:
        assert process.stdout is not None
        path = process.stdout.readline().strip()
        began = time.monotonic()
        while waiting(peer):
            # The peer sees those that wait in vain given up at their deadline (0.6 s), long before the lock is free.
            assert time.monotonic() - began < SECONDS * 0.75, "deadlines wait for the interpreter's lock"
        while time.monotonic() - began < SECONDS * 0.75:
            took.append(debug(path))
            time.sleep(0.02)
        assert ends_well(process) == "[('TimedOutError', 4), ('in time', 4)] {200}"
    took.sort()
    at_most = took[int(len(took) * 0.99) - 1]
    print(f"the lock was held for {SECONDS:.0f} s; {len(took)} times asked, p99 {at_most * 1000:.1f} ms")
    assert at_most < PATIENCE


@pytest.mark.counted
def test_row_22_a_process_that_was_stopped_goes_on(peer: str) -> None:
    """Deadlines have passed meanwhile, answers lie there; nobody waits for ever, and the next request is served."""
    with program("stopped", peer) as process:
        assert process.stdout is not None
        process.stdout.readline()
        _pid, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        time.sleep(SECONDS)
        process.send_signal(signal.SIGCONT)
        assert ends_well(process) == "(4, 8) {200}"
    assert waiting(peer) == 0
