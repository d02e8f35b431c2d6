"""A process begins, forks and ends (K18): each program of `programs.py` in a process of its own.

``SOUTHBRIDGE_TIMES`` multiplies what is repeated; 100 gives 1,000 forks, 1,000 exits and 100,000 cancellations.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import southbridge

PROGRAMS = Path(__file__).with_name("programs.py")
# CPython 3.12 and later warn of every fork in a process that has threads. Ours is among them, and looks after itself.
FORKS = "ignore:This process:DeprecationWarning"
TIMES = float(os.environ.get("SOUTHBRIDGE_TIMES", "1"))


def run(program: str, *arguments: str, seconds: float = 60) -> str:
    """Runs ``program``; what it printed. It has to end by itself, in time, and well."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", FORKS, str(PROGRAMS), program, *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout.strip()


@pytest.mark.counted
def test_a_client_made_before_a_fork_works_in_every_child(peer: str) -> None:
    """Row 23: and the parent, whose threads ask on, notices nothing."""
    rounds = int(10 * TIMES)
    assert run("fork_under_traffic", peer, str(rounds), seconds=60 + rounds) == "told 200"


def test_a_response_of_the_parent_is_refused_in_the_child(peer: str) -> None:
    assert run("fork_with_an_old_handle", peer) == "0 late"


@pytest.mark.counted
@pytest.mark.parametrize("how", ["fall", "exit", "raise"])
def test_an_exit_with_requests_in_flight_is_an_exit(peer: str, how: str) -> None:
    for _ in range(max(1, int(10 * TIMES) // 3)):
        assert run("exit_in_flight", peer, how) == ""


@pytest.mark.counted
def test_cancelling_at_any_time_leaves_no_slot_taken(peer: str) -> None:
    count = int(1000 * TIMES)
    assert run("cancel_at_random", peer, str(count), seconds=60 + count / 100) == "{200} True"


def test_ctrl_c_interrupts_a_blocked_main_thread(peer: str) -> None:
    assert run("interrupted", peer) == "interrupted xxx"


def test_loops_come_and_go_in_several_threads(peer: str) -> None:
    assert run("loops_in_threads", peer, "5") == "400 {200}"


def test_one_program_may_have_them_all_at_once(peer: str) -> None:
    told = "[('asyncio', 200), ('gevent', 200), ('thread', 200), ('trio', 200)]"
    assert run("everything_at_once", peer) == told


def test_no_framework_is_imported_in_order_to_be_asked(peer: str) -> None:
    program = f"""
import sys, southbridge
southbridge.get({peer!r} + "/size/1")
print(sorted({{"asyncio", "gevent", "trio", "twisted", "tornado", "typing"}} & set(sys.modules)))
"""
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"


@pytest.mark.skipif(
    not hasattr(southbridge._kernel, "_attach_as_io_thread"),  # pyright: ignore[reportPrivateUsage]
    reason="built without the watch over the interpreter's lock",
)
def test_an_io_thread_that_takes_the_interpreters_lock_does_not_live() -> None:
    program = [sys.executable, str(PROGRAMS), "attached"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGABRT
    assert "the I/O thread called PyGILState_Ensure" in done.stderr


def test_a_sub_interpreter_is_told_that_it_cannot_have_it() -> None:
    assert "subinterpreters" in run("subinterpreter")
