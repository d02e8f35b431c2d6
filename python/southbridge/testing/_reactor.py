"""Deferreds that wait for the kernel of a test.

While no reactor runs they fire from `Kernel.pump` and `Kernel.advance`, as those of a test with a fake clock do. While one
runs, time moves when it has nothing else to do; its own timers cannot be moved, and are waited for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

from southbridge._kernel import Exchange, Port, Response
from southbridge.testing._errors import NothingHappensError

if TYPE_CHECKING:
    from southbridge.testing._stage import Kernel


class Readers:
    """What waits for one kernel by Deferreds: in the thread of a running reactor, and where none runs."""

    def __init__(self, kernel: Kernel) -> None:
        from twisted.internet import reactor

        self._reactor: Any = reactor
        self._kernel = kernel
        self._idle: IdleReader | None = None
        self._running: RunningReader | None = None
        kernel.at_end(self._end)

    def reader(self) -> IdleReader | RunningReader:
        """The one for now."""
        if threading.get_ident() in self._kernel.clock_threads or not self._reactor.running:
            if self._idle is None:
                self._idle = IdleReader(self._kernel)
            return self._idle
        if self._running is None:
            self._running = RunningReader(self._kernel, self._reactor)
        return self._running

    def _end(self) -> None:
        if self._running is not None:
            self._running.end()


class IdleReader:
    """Without a reactor: who drives the kernel has the Deferreds fire."""

    def __init__(self, kernel: Kernel) -> None:
        self.port: Port = kernel.new_port()
        self._thread = threading.get_ident()
        kernel.add_delivery(self._deliver)

    def start(self, answer: Response, settled: Callable[[], None]) -> int:
        return self.port.start(answer, settled)

    def cancel(self, ticket: int) -> None:
        self.port.cancel(ticket)

    def listen(self, exchange: Exchange, heard: Callable[[], None]) -> bool:
        return exchange.listen(heard)

    def unlisten(self, exchange: Exchange) -> None:
        exchange.unlisten()

    def _deliver(self) -> bool:
        # A Deferred fires in its own thread, whoever drives.
        ready = self.port.drain() if threading.get_ident() == self._thread else []
        for settled in ready:
            settled()
        return bool(ready)


@implementer(IReadDescriptor)  # pyright: ignore[reportUntypedClassDecorator]
class RunningReader:
    """In the thread of a reactor that runs."""

    def __init__(self, kernel: Kernel, reactor: Any) -> None:
        self._kernel = kernel
        self._reactor = reactor
        self.port: Port = kernel.new_port()
        self._waiting: dict[object, Callable[[], None]] = {}
        self._ready: list[Callable[[], object]] = []
        self._jump_due: Any = None
        reactor.addReader(self)

    def start(self, answer: Response, settled: Callable[[], None]) -> int:
        def done() -> None:
            # Whoever gave up meanwhile is told already.
            if self._waiting.pop(ticket, None) is not None:
                settled()

        def give_up() -> None:
            self.port.cancel(ticket)
            settled()

        ticket = self.port.start(answer, done)
        self._wait(ticket, give_up)
        return ticket

    def cancel(self, ticket: int) -> None:
        self._waiting.pop(ticket, None)
        self.port.cancel(ticket)

    def listen(self, exchange: Exchange, heard: Callable[[], None]) -> bool:
        def done() -> None:
            self._waiting.pop(exchange, None)
            heard()

        listens = exchange.listen(done)
        if listens:
            self._wait(exchange, exchange.close)
        return listens

    def unlisten(self, exchange: Exchange) -> None:
        self._waiting.pop(exchange, None)
        exchange.unlisten()

    def _wait(self, key: object, give_up: Callable[[], None]) -> None:
        self._waiting[key] = give_up
        self._plan(0.0)

    def end(self) -> None:
        self._reactor.callFromThread(self._leave)

    def _leave(self) -> None:
        self._reactor.removeReader(self)
        if self._jump_due is not None and self._jump_due.active():
            self._jump_due.cancel()

    def _plan(self, seconds: float) -> None:
        if self._kernel.autojump and (self._jump_due is None or not self._jump_due.active()):
            self._jump_due = self._reactor.callLater(seconds, self._jump)

    def _jump(self) -> None:
        if len(self.port) == 0:
            return
        now = self._reactor.seconds()
        due = min((call.getTime() - now for call in self._reactor.getDelayedCalls()), default=None)
        if due is not None and due <= 0:
            self._plan(0.0)
            return
        try:
            is_ready = self._kernel.wait_until(self._is_ready, due)
        except NothingHappensError as error:
            self._give_up(error)
            return
        self.doRead()
        # A real timer comes first, and has to be waited for.
        self._plan(0.0 if is_ready or due is None else due)

    def _give_up(self, error: NothingHappensError) -> None:
        self._kernel.fail(error)
        waiting = list(self._waiting.values())
        self._waiting.clear()
        for give_up in waiting:
            give_up()

    def _is_ready(self) -> bool:
        self._ready += self.port.drain()
        return bool(self._ready)

    # What the reactor asks of it.

    def fileno(self) -> int:
        return self.port.fileno()

    def doRead(self) -> None:
        while ready := [*self._ready, *self.port.drain()]:
            self._ready.clear()
            for done in ready:
                done()

    def connectionLost(self, reason: object) -> None:
        """The reactor has ended."""

    def logPrefix(self) -> str:
        return "southbridge"
