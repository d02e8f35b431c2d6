"""A process forks, spawns, becomes a daemon or another program (K18, row 23)."""

from __future__ import annotations

import signal
import subprocess
from ast import literal_eval

import pytest

from .lives import command, live, place


def test_row_23_a_fork_before_the_first_use_gives_two_kernels(peer: str) -> None:
    assert live("forks", "before_use", peer) == "0 200"


def test_row_23_children_of_children_each_have_their_own(peer: str) -> None:
    assert live("forks", "generations", peer) == "True"


def test_row_23_a_fork_in_the_midst_of_a_loop_harms_neither(peer: str) -> None:
    assert live("forks", "in_a_task", peer) == "0 {200}"


def test_row_23_a_child_ends_as_programs_do(peer: str) -> None:
    """With all that the parent had registered for its exit, and requests in flight."""
    assert live("forks", "child_exits_in_order", peer) == "7 200"


def test_row_23_another_program_inherits_none_of_our_descriptors(peer: str) -> None:
    before, spawned, became = live("forks", "descriptors", peer).splitlines()
    assert literal_eval(spawned) == literal_eval(became) == literal_eval(before)


def test_row_23_a_daemon_that_closed_all_descriptors_has_a_kernel_of_its_own(peer: str) -> None:
    assert live("forks", "daemon", peer) == "[200, 200] 200"


def test_a_process_whose_descriptors_are_closed_beneath_it_says_so_and_ends(peer: str) -> None:
    """Nothing can be saved then. It must not hang; a build for tests aborts, for Rust checks there what it closes."""
    done = subprocess.run(
        command("forks", "closes_ours", peer),
        cwd=place(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGABRT), done.stderr
    if done.returncode == 0:
        first, second = done.stdout.splitlines()
        assert "descriptor" in first
        assert second.startswith(("FailedError", "ConnectFailedError", "StoppedError"))
    else:
        assert "owned file descriptor already closed" in done.stderr


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_row_23_multiprocessing_works_by_every_method(peer: str, method: str) -> None:
    """A process, a pool and an executor, while a thread of the parent asks on."""
    assert live("forks", "several", method, peer) == "0 {200} {200}"
