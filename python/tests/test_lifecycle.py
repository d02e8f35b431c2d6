"""A process begins, forks, and has everything at once (K18): each program of `programs.py` in a process of its own.

How it ends is told in `test_exits`, what else may happen to it in `test_forks`, `test_signals` and `test_loops`.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import southbridge

from .lives import QUIET_FORKS, TIMES

PROGRAMS = Path(__file__).with_name("programs.py")


def run(program: str, *arguments: str, seconds: float = 60) -> str:
    """Runs ``program``; what it printed. It has to end by itself, in time, and well."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", QUIET_FORKS, str(PROGRAMS), program, *arguments],
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
    rounds = round(10 * TIMES)
    assert run("fork_under_traffic", peer, str(rounds), seconds=60 + rounds) == "told 200"


def test_a_response_of_the_parent_is_refused_in_the_child(peer: str) -> None:
    assert run("fork_with_an_old_handle", peer) == "0 late"


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
