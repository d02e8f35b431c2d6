"""Twisted's fake clock and the kernel's, as one."""

from __future__ import annotations

import threading
from typing import Any

from twisted.internet import task

from southbridge.testing._stage import Kernel


class Clock(task.Clock):
    """A `twisted.internet.task.Clock` that keeps the time of ``kernel``: `advance` moves both.

    In the thread that makes it calls give Deferreds from then on, which fire while time moves.
    """

    def __init__(self, kernel: Kernel) -> None:
        # Calls look whether there is one, to know where they are.
        from twisted.internet import reactor

        super().__init__()
        self._reactor = reactor
        self._kernel = kernel
        self.rightNow = kernel.now
        kernel.add_follower(self)
        kernel.clock_threads.add(threading.get_ident())

    def advance(self, amount: float) -> None:
        """Let ``amount`` seconds pass, for calls of this clock and for the kernel, in the order of their times."""
        self._kernel.advance(amount)

    def next_in(self) -> float | None:
        """In how many seconds the next call is due."""
        calls: Any = self.getDelayedCalls()
        return min((call.getTime() - self.rightNow for call in calls), default=None)

    def follow(self, now: float) -> None:
        """It is ``now``: what is due is called."""
        self.rightNow = now
        super().advance(0)
