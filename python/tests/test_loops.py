"""What other clients are known to die of: loops that come and go, tasks that are cut short, slots that are lost."""

from __future__ import annotations

import os
import random
import sys

import pytest
import southbridge

from .frontends import Frontend
from .lives import TIMES, live


@pytest.mark.counted
def test_a_loop_that_has_ended_leaves_no_descriptor(peer: str) -> None:
    """`asyncio.run`, again and again, in one thread."""
    rounds = round(100 * max(1, TIMES / 10))
    assert live("loops", "run_again_and_again", peer, str(rounds), seconds=120) == "{200} kept"


def test_a_loop_closed_with_requests_in_flight_gives_them_up(peer: str) -> None:
    """Bodies that are drawn and fed too; and the next loop in the same thread is served, which it was not when the first
    kept all connections.
    """
    assert live("loops", "closed_in_flight", peer, "40") == "given up kept"


def test_timeouts_of_asyncio_give_requests_up(peer: str) -> None:
    ways = 4 if sys.version_info >= (3, 11) else 2
    assert live("loops", "timeouts", peer) == "200 " * ways + "given up"


def test_scopes_of_trio_give_requests_up(peer: str) -> None:
    assert live("loops", "trio_scopes", peer) == "['late'] given up"


def test_trio_may_be_the_guest_of_asyncio(peer: str) -> None:
    assert live("loops", "trio_as_guest", peer) == "10 {'late'}"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_anyio_is_served_on_both_of_its_backends(peer: str, backend: str) -> None:
    assert live("loops", "by_anyio", peer, backend) == "[True, 'too slow', 'xxx'] given up"


def test_what_nobody_awaits_is_collected(peer: str) -> None:
    assert live("loops", "collected", peer, "1000") == "['0', (True, True)]"


@pytest.mark.parametrize("how", ["fed", "whole"])
def test_a_response_is_awaited_by_one_and_read_by_all(peer: str, how: str) -> None:
    told = live("loops", "twice", peer, how).splitlines()
    assert told == [
        "the response is not here yet, and is awaited elsewhere: one task waits for it, and whoever else wants it can "
        "have it from that task, or when it is there",
        "True 200",
    ]


@pytest.mark.counted
def test_cancelling_at_any_time_costs_no_slot_and_no_descriptor(frontend: Frontend, peer: str) -> None:
    """Most of them wait for a place in the pool when they are cancelled, some for the answer, some for nothing."""
    if not frontend.can_give_up:
        pytest.skip("nobody can cancel a thread")
    client = southbridge.Client(base_url=peer)
    chance = random.Random(7)
    endings: set[str] = set()

    async def asks() -> None:
        await client.get("/delay/0.005")

    async def one() -> None:
        endings.add(await frontend.give_up(asks, chance.uniform(0, 0.03)))

    async def some(count: int) -> None:
        for _ in range(0, count, 500):
            await frontend.together(*([one] * min(count, 500)))

    async def story() -> tuple[int, int, list[int]]:
        await some(500)
        before = len(os.listdir("/proc/self/fd"))
        await some(round(140 * TIMES))
        after = len(os.listdir("/proc/self/fd"))

        async def status() -> int:
            return (await client.get("/size/10", timeout=10)).status

        return before, after, await frontend.together(*([status] * 100))

    before, after, statuses = frontend.run(story)
    assert after <= before + IDLE_MAX, "a connection that was given up in mid-request is closed"
    assert statuses == [200] * 100
    assert endings <= {"nothing", "CancelledError", "Cancelled", "GreenletExit", "NoneType", "Response"}


# As many connections as the pool may have to one peer.
IDLE_MAX = 8
