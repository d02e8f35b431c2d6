"""Greenlets that wait for the kernel of a test: when a hub has nothing else to do, time moves.

gevent's own timers cannot be moved: `gevent.sleep` takes its real time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import gevent
from gevent._hub_local import get_hub_if_exists
from gevent.hub import Hub, Waiter

from southbridge._kernel import Exchange, Port, Response
from southbridge.testing._errors import NothingHappensError

if TYPE_CHECKING:
    from southbridge.testing._stage import Kernel


class Hubs:
    """The hubs that wait for one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._watches: dict[Hub, _Watch] = {}
        kernel.at_end(self._end)

    def wait_for(self, response: Response) -> None:
        """Park this greenlet until ``response`` is settled."""
        port = self.port()
        self._watch().park(lambda woken: partial(port.cancel, port.start(response, woken)))

    def wait_for_news(self, exchange: Exchange) -> None:
        """Park this greenlet until there is news of ``exchange``."""
        self._watch().park(lambda woken: exchange.unlisten if exchange.listen(woken) else None)

    def port(self) -> Port:
        """The port of this thread's hub."""
        return self._watch().port

    def _watch(self) -> _Watch:
        hub = gevent.get_hub()
        if hub not in self._watches:
            self._watches[hub] = _Watch(self._kernel, hub)
        return self._watches[hub]

    def _end(self) -> None:
        for watch in self._watches.values():
            watch.end()


class _Watch:
    """One hub: its port, and the greenlets that are parked there."""

    def __init__(self, kernel: Kernel, hub: Hub) -> None:
        self._kernel = kernel
        self._hub = hub
        self.port = kernel.new_port()
        self._ready: list[Callable[[], object]] = []
        self._parked: list[Waiter[None]] = []
        self._readable: Any = hub.loop.io(self.port.fileno(), 1, ref=False)
        self._readable.start(self._drain)
        # Called whenever the hub has looked at everything else.
        self._idle: Any = hub.loop.idle()

    def park(self, begin: Callable[[Callable[[], object]], Callable[[], None] | None]) -> None:
        """``begin`` is given what wakes the greenlet, and gives how to give up; None when there is nothing to wait for."""
        waiter: Waiter[None] = Waiter()
        give_up = begin(partial(waiter.switch, None))
        if give_up is None:
            return
        self._parked.append(waiter)
        self._readable.ref = True
        if self._kernel.autojump:
            self._idle.start(self._jump)
        try:
            waiter.get()
        except BaseException:
            give_up()
            raise
        finally:
            self._parked.remove(waiter)
            if not self._parked:
                self._readable.ref = False
                self._idle.stop()

    def end(self) -> None:
        # A loop that is destroyed has stopped them; another thread's is left to its own end.
        loop: Any = self._hub.loop
        if loop is not None and get_hub_if_exists() is self._hub:
            self._readable.stop()
            self._idle.stop()

    def _drain(self) -> None:
        while ready := [*self._ready, *self.port.drain()]:
            self._ready.clear()
            for switch in ready:
                switch()

    def _jump(self) -> None:
        try:
            self._kernel.wait_until(self._is_ready, None)
        except NothingHappensError as error:
            for waiter in list(self._parked):
                waiter.throw(error)
        # Here nobody drives any more: a greenlet may do what it likes.
        self._drain()

    def _is_ready(self) -> bool:
        # Nothing of the standard library that waits, for that may be patched.
        self._ready += self.port.drain()
        return bool(self._ready)
