"""The kernel of a test under event loops: their time is the kernel's."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import southbridge
import trio
import trio.testing
from southbridge.testing import Answer, Kernel, NothingHappensError, Request, answer, never
from southbridge.testing.twisted import Clock
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import deferLater

PATIENT = southbridge.Timeout(None, connect=None, read=None)


def test_sleeps_and_timeouts_of_asyncio_are_virtual() -> None:
    async def program() -> list[object]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await southbridge.get("http://example.org/soon")
        await asyncio.sleep(3600)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(southbridge.get("http://example.org/late", timeout=PATIENT), 30)
        responses = await asyncio.gather(*(southbridge.get(f"https://example.org/{n}") for n in range(10)))
        return [round(loop.time() - began, 3), [response.status for response in responses]]

    def handler(request: Request) -> Answer:
        return answer(after=100 if request.path == "/late" else 1)

    with Kernel() as kernel:
        kernel.peer("example.org", handler)
        assert kernel.run(program()) == [3632.0, [200] * 10]
        assert kernel.now == 3632.0


def test_a_loop_that_runs_already_keeps_its_time_afterwards() -> None:
    async def program() -> None:
        loop = asyncio.get_running_loop()
        with Kernel() as kernel:
            kernel.peer("example.org", answer(after=5))
            began = loop.time()
            await asyncio.sleep(1000)
            assert (await southbridge.get("http://example.org/")).status == 200
            assert loop.time() - began == pytest.approx(1005)
            waits = loop.create_task(asyncio.sleep(0.01))
        assert 1005 <= loop.time() - began < 1010
        await asyncio.wait_for(waits, 5)

    asyncio.run(program())


def test_a_loop_where_everybody_waits_ends() -> None:
    async def program() -> None:
        await southbridge.get("http://silent.org/", timeout=PATIENT)

    with Kernel() as kernel:
        kernel.peer("silent.org", never())
        with pytest.raises(NothingHappensError, match=r"http://silent\.org in step"):
            asyncio.run(program())


def test_a_loop_whose_time_cannot_be_moved_is_told() -> None:
    import uvloop

    async def program() -> None:
        await southbridge.get("http://example.org/")

    with Kernel() as kernel:
        kernel.peer("example.org")
        with pytest.raises(southbridge.SouthbridgeError, match="autojump=False"):
            uvloop.run(program())


def test_uvloop_is_driven_by_hand() -> None:
    import uvloop

    async def program(kernel: Kernel) -> tuple[int, float]:
        asked = asyncio.ensure_future(southbridge.get("http://example.org/", timeout=PATIENT))
        await asyncio.sleep(0)
        kernel.advance(3600)
        return (await asked).status, kernel.now

    with Kernel(autojump=False) as kernel:
        kernel.peer("example.org", answer(after=3600))
        assert uvloop.run(program(kernel)) == (200, 3600.0)


def test_trio_moves_with_its_mock_clock() -> None:
    async def program() -> float:
        with trio.move_on_after(30) as scope:
            await southbridge.get("http://example.org/", timeout=PATIENT)
        assert scope.cancelled_caught
        await trio.sleep(1000)
        began = trio.current_time()
        assert (await southbridge.get("http://example.org/", timeout=PATIENT)).status == 200
        return trio.current_time() - began

    with Kernel() as kernel:
        kernel.peer("example.org", answer(after=100))
        assert trio.run(program, clock=trio.testing.MockClock()) == pytest.approx(100)
        assert kernel.now == pytest.approx(1130)


def test_trio_is_told_when_it_would_hang_or_cannot_be_moved() -> None:
    async def program() -> None:
        await southbridge.get("http://silent.org/", timeout=PATIENT)

    with Kernel() as kernel:
        kernel.peer("silent.org", never())
        with pytest.raises(NothingHappensError, match=r"http://silent\.org in step"):
            trio.run(program, clock=trio.testing.MockClock())
        with pytest.raises(southbridge.SouthbridgeError, match=r"trio\.testing\.MockClock"):
            trio.run(program)


def test_a_clock_of_twisted_moves_with_the_kernel() -> None:
    with Kernel() as kernel:
        clock: Any = Clock(kernel)
        kernel.peer("example.org", answer(body="hello", after=2.5))
        happened: list[tuple[str, float]] = []

        async def program() -> str:
            await deferLater(clock, 1)
            happened.append(("asks", clock.seconds()))
            response = await southbridge.get("http://example.org/")
            happened.append((response.text, clock.seconds()))
            await deferLater(clock, 1)
            return response.text

        result: Deferred[str] = ensureDeferred(program())
        clock.callLater(2, lambda: happened.append(("call", clock.seconds())))
        clock.advance(4)
        assert happened == [("asks", 1.0), ("call", 2.0), ("hello", 3.5)]
        assert not result.called
        clock.advance(0.5)
        assert (result.result, clock.seconds(), kernel.now) == ("hello", 4.5, 4.5)


def test_a_deferred_that_is_cancelled_gives_its_request_up() -> None:
    with Kernel() as kernel:
        clock: Any = Clock(kernel)
        peer = kernel.peer("example.org", never())
        asked = southbridge.get("http://example.org/", timeout=PATIENT)
        assert isinstance(asked, Deferred)
        failed: list[object] = []

        def keep(failure: Any) -> None:
            failed.append(failure.type.__name__)

        asked.addErrback(keep)
        clock.advance(1)
        assert len(peer.requests) == 1
        asked.cancel()
        assert failed == ["CancelledError"]
        kernel.pump()
        assert any("closed by us" in line for line in kernel.log)
