"""Loops of asyncio on the kernel's time: a loop that has nothing to do but wait moves it.

A loop asks its selector to wait for so many seconds; ours has the kernel move by as much, or until there is something
to tell. `loop.time` goes along, so `asyncio.sleep`, `wait_for` and `call_later` do.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from southbridge._errors import SouthbridgeError
from southbridge._frontends.asyncio import Reader
from southbridge._kernel import Port
from southbridge.testing._errors import EPSILON

if TYPE_CHECKING:
    from southbridge.testing._stage import Kernel


class Loops:
    """The loops that wait for one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._ports: dict[asyncio.AbstractEventLoop, Port] = {}
        self._joined: dict[asyncio.AbstractEventLoop, _Selector] = {}
        kernel.at_end(self._end)

    def port(self, loop: asyncio.AbstractEventLoop) -> Port:
        """The port of ``loop``, which watches it from now on."""
        if loop not in self._ports:
            if self._kernel.autojump:
                self.join(loop)
            port = self._ports[loop] = self._kernel.new_port()
            loop.add_reader(port.fileno(), Reader(port, loop))
        return self._ports[loop]

    def join(self, loop: asyncio.AbstractEventLoop) -> None:
        """``loop`` keeps the kernel's time from now on."""
        if loop in self._joined:
            return
        inside: Any = loop
        if not isinstance(loop, asyncio.BaseEventLoop) or not hasattr(loop, "_selector"):
            raise SouthbridgeError(
                f"the time of {loop!r} cannot be moved: run the test on asyncio's own loop, or with autojump=False"
            )
        kernel, began = self._kernel, loop.time() - self._kernel.now
        selector = self._joined[loop] = _Selector(inside._selector, kernel)
        inside._selector = selector
        inside.time = lambda: began + kernel.now

    def _end(self) -> None:
        for loop, port in self._ports.items():
            if not loop.is_closed():
                loop.remove_reader(port.fileno())
        for loop, selector in self._joined.items():
            inside: Any = loop
            inside._selector = selector.inner
            # What is scheduled on it stays as far away as it is.
            ahead = loop.time() - time.monotonic()
            inside.time = _Ahead(ahead)


class _Ahead:
    """The real time, by so many seconds ahead."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __call__(self) -> float:
        return time.monotonic() + self._seconds


class _Selector:
    """A loop's selector, and before it waits the kernel moves."""

    def __init__(self, inner: Any, kernel: Kernel) -> None:
        self.inner = inner
        self._kernel = kernel

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def select(self, timeout: float | None = None) -> Any:
        """What the loop has to look at, after ``timeout`` seconds of the kernel's time at most."""
        events = self.inner.select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if timeout is None and not self._kernel.in_flight:
            # It waits for something of this world: another thread, a signal.
            return self.inner.select(None)

        def is_ready() -> bool:
            nonlocal events
            events = self.inner.select(0)
            return bool(events)

        # Less would be nothing to the kernel, and the loop would ask for ever.
        self._kernel.wait_until(is_ready, None if timeout is None else max(timeout, 2 * EPSILON))
        return events
