"""Runs of trio on the kernel's time: when all tasks are blocked, time moves to the next thing, and `MockClock` with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import outcome
import trio
import trio.testing

from southbridge._errors import SouthbridgeError
from southbridge._kernel import Exchange, Port, Response
from southbridge.testing._errors import NothingHappensError

if TYPE_CHECKING:
    from southbridge.testing._stage import Kernel

_run: trio.lowlevel.RunVar[tuple[Kernel, _Run]] = trio.lowlevel.RunVar("southbridge kernel of a test")


class Runs:
    """The runs that wait for one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def here(self) -> _Run:
        """The run that this is."""
        try:
            kernel, run = _run.get()
        except LookupError:
            pass
        else:
            if kernel is self._kernel:
                return run
        run = _Run(self._kernel)
        _run.set((self._kernel, run))
        return run


class _Run:
    """One run: its port, and the tasks that wait there."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.port: Port = kernel.new_port()
        self._parked: dict[trio.lowlevel.Task, Callable[[], None]] = {}
        self._ready: list[Callable[[], object]] = []
        if kernel.autojump:
            clock = trio.lowlevel.current_clock()
            if not isinstance(clock, trio.testing.MockClock):
                raise SouthbridgeError(
                    "this run keeps the system's time, which cannot be moved: trio.run(..., "
                    "clock=trio.testing.MockClock()), or autojump=False"
                )
            trio.lowlevel.spawn_system_task(self._jump, clock, name="southbridge clock")
        trio.lowlevel.spawn_system_task(self._drain, name="southbridge port")

    async def wait(self, response: Response) -> Response:
        """Park this task until ``response`` is settled."""
        await self._park(lambda woken: partial(self.port.cancel, self.port.start(response, woken)))
        response.check()
        return response

    async def wait_for_news(self, exchange: Exchange) -> None:
        """Park this task until there is news of ``exchange``."""
        await self._park(lambda woken: exchange.unlisten if exchange.listen(woken) else None)

    async def _park(self, begin: Callable[[Callable[[], None]], Callable[[], None] | None]) -> None:
        """``begin`` is given what wakes the task, and gives how to give up; None when there is nothing to wait for."""
        await trio.lowlevel.checkpoint_if_cancelled()
        task = trio.lowlevel.current_task()

        def woken() -> None:
            # Whoever was cancelled meanwhile is scheduled already.
            if self._parked.pop(task, None) is not None:
                trio.lowlevel.reschedule(task)

        give_up = begin(woken)
        if give_up is None:
            return
        self._parked[task] = give_up

        def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
            del self._parked[task]
            give_up()
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    async def _drain(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self.port.fileno())
            self._settle()

    async def _jump(self, clock: trio.testing.MockClock) -> None:
        while True:
            await trio.testing.wait_all_tasks_blocked()
            due = trio.lowlevel.current_statistics().seconds_to_next_deadline
            if math.isinf(due) and not self._parked:
                # Whatever it waits for, it is of this world.
                await trio.testing.wait_all_tasks_blocked(PAUSE)
                continue
            began, is_ready = self._kernel.now, True
            try:
                is_ready = self._kernel.wait_until(self._is_ready, None if math.isinf(due) else max(due, 0.0))
            except NothingHappensError as error:
                self._give_up(error)
            self._settle()
            passed = self._kernel.now - began
            # What is due is due, whatever the sums of floats say.
            clock.jump(passed if is_ready else max(passed, due))

    def _is_ready(self) -> bool:
        self._ready += self.port.drain()
        return bool(self._ready)

    def _settle(self) -> None:
        while ready := [*self._ready, *self.port.drain()]:
            self._ready.clear()
            for settled in ready:
                settled()

    def _give_up(self, error: NothingHappensError) -> None:
        parked = dict(self._parked)
        self._parked.clear()
        for task, give_up in parked.items():
            give_up()
            trio.lowlevel.reschedule(task, outcome.Error(error))


# Real seconds between looks, while nobody waits for the kernel.
PAUSE = 0.01
