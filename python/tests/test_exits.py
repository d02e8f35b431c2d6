"""A process ends while requests are in flight (K18): in time, in order, and without a word."""

from __future__ import annotations

import pytest

from .lives import TIMES, live

WAYS = (
    "asyncio",
    "open_loop",
    "uvloop",
    "tornado",
    "trio",
    "twisted",
    "gevent",
    "threads",
    "busy_threads",
    "last_words",
)
HOWS = ("fall", "exit", "raise", "signal")
# With a hundredfold, a thousand of them.
ROUNDS = max(1, round(25 * TIMES / 100))


@pytest.mark.counted
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("way", WAYS)
def test_every_frontend_lets_its_process_end(peer: str, way: str, how: str) -> None:
    for _ in range(ROUNDS):
        assert live("exits", way, how, peer, seconds=30) == ""
