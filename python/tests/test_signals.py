"""Signals reach the interpreter, whatever waits in the kernel (K18)."""

from __future__ import annotations

import pytest

from .lives import live

FRONTENDS = ("asyncio", "uvloop", "tornado", "trio", "twisted", "gevent", "threads")


@pytest.mark.parametrize("way", FRONTENDS)
def test_ctrl_c_ends_the_wait_and_gives_the_request_up(peer: str, way: str) -> None:
    assert live("signals", f"in_{way}", peer) == "interrupted given up"


def test_a_handler_that_raises_nothing_runs_at_once_and_the_wait_goes_on(peer: str) -> None:
    assert live("signals", "handled", peer) == "late 1 True"


def test_the_handlers_of_a_loop_run_while_requests_are_in_flight(peer: str) -> None:
    assert live("signals", "handled_in_loop", peer) == "handled given up"


def test_the_wakeup_descriptor_is_written_to_while_a_thread_waits(peer: str) -> None:
    assert live("signals", "wakes", peer) == "True"


def test_the_io_thread_takes_no_signal(peer: str) -> None:
    assert live("signals", "ignored_by_the_io_thread", peer) == "True"
