"""Waits by Deferreds, on whichever reactor the program installed.

A `DeferredResponse` can be awaited, yielded to ``inlineCallbacks`` and given callbacks. Where the reactor lies on
an asyncio loop it is also what a task of asyncio waits on, because nobody can tell beforehand who will drive it.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable, Generator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.python import context, threadable
from twisted.python.failure import Failure
from twisted.python.log import ILogContext
from zope.interface import implementer

from southbridge._errors import SouthbridgeError
from southbridge._kernel import Port, Response

# How many Deferreds fire before the reactor has its turn again.
DRAIN_MAX = 64


def is_here(loop: asyncio.AbstractEventLoop | None) -> bool:
    """Whether this is the thread of the reactor, on whose asyncio ``loop`` it may lie."""
    reactor: Any = sys.modules["twisted.internet.reactor"]
    if loop is not None:
        return getattr(reactor, "_asyncioEventloop", None) is loop
    if threadable.ioThread is None:
        # It has not run yet. It will in the main thread, where signals come.
        return threading.current_thread() is threading.main_thread()
    return bool(threadable.isInIOThread())


def begin(response: Response) -> DeferredResponse:
    """Sends what ``response`` is to answer."""
    return DeferredResponse(response)


def wait(response: Response) -> Generator[Any, Any, Response]:
    """What `await` drives, where the response was not made under Twisted."""
    return DeferredResponse(response).__await__()


class DeferredResponse(Response, Deferred[Response]):
    """A response under Twisted: a Deferred that fires with the response. Sent when it is made."""

    _asyncio_future_blocking = False

    def __new__(cls, of: Response) -> DeferredResponse:
        return Response.__new__(cls, of)

    def __init__(self, of: Response) -> None:
        Deferred.__init__(self, self._give_up)
        # A Deferred must not fire with itself: it is another view of the same response.
        self._answer = of
        self._log_context = context.get(ILogContext)
        self._context = contextvars.copy_context()
        self._looping: asyncio.AbstractEventLoop | None = None
        self._tasks: list[tuple[Callable[[Any], object], contextvars.Context | None]] = []
        self._ticket = _reader().start(self._answer, self._settled)

    def _settled(self) -> None:
        for callback, in_context in self._take_tasks():
            (in_context or self._context).run(callback, self)
        if self._looping is None:
            # In the log context of the caller, and not in that of the descriptor that was read.
            self._context.run(context.call, {ILogContext: self._log_context}, self._fire)

    def _fire(self) -> None:
        if self.called:
            return
        try:
            self._answer.check()
        except SouthbridgeError:
            self.errback(Failure())
        else:
            self.callback(self._answer)

    def _give_up(self, _me: Deferred[Any]) -> None:
        _reader().cancel(self._ticket)

    def __await__(self) -> Generator[Any, Any, Response]:
        if not self._answer.is_settled:
            yield self
        if self._looping is not None:
            return self._outcome()
        return (yield from Deferred.__iter__(self))

    __iter__ = __await__

    # From here on, what a task of asyncio asks of a future.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that the reactor lies on."""
        return asyncio.get_running_loop()

    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: contextvars.Context | None = None
    ) -> None:
        """Called by the task that waits: from here on this is a future, and no Deferred."""
        self._looping = asyncio.get_running_loop()
        self._tasks.append((callback, context))
        # A Deferred has its result there; a future, the way to it.
        self.result = self._outcome

    def cancel(self, msg: object = None) -> bool:  # type: ignore[override]
        """Gives the request up."""
        if self._looping is None:
            Deferred.cancel(self)
            return True
        if self._answer.is_settled:
            return False
        _reader().cancel(self._ticket)
        self._cancelled_with = () if msg is None else (msg,)
        for callback, in_context in self._take_tasks():
            self._looping.call_soon(callback, self, context=in_context)
        return True

    def _outcome(self) -> Response:
        if self._cancelled_with is not None:
            raise asyncio.CancelledError(*self._cancelled_with)
        self._answer.check()
        return self._answer

    _cancelled_with: tuple[object, ...] | None = None

    def _take_tasks(self) -> list[tuple[Callable[[Any], object], contextvars.Context | None]]:
        tasks, self._tasks = self._tasks, []
        return tasks


@implementer(IReadDescriptor)  # pyright: ignore[reportUntypedClassDecorator]
class _Reader:
    """What the reactor calls when completions are ready. It watches while somebody waits, and only then."""

    def __init__(self, reactor: Any) -> None:
        self.port = Port()
        self._reactor = reactor

    def start(self, answer: Response, settled: Callable[[], None]) -> int:
        ticket = self.port.start(answer, settled)
        if len(self.port) == 1:
            self._reactor.addReader(self)
        return ticket

    def cancel(self, ticket: int) -> None:
        self.port.cancel(ticket)
        self._rest()

    def fileno(self) -> int:
        return self.port.fileno()

    def doRead(self) -> None:
        ready = self.port.drain(DRAIN_MAX)
        for settled in ready:
            settled()
        if len(ready) == DRAIN_MAX:
            self._reactor.callLater(0, self.doRead)
        else:
            self._rest()

    def _rest(self) -> None:
        if len(self.port) == 0:
            self._reactor.removeReader(self)

    def connectionLost(self, reason: object) -> None:
        """The reactor has ended."""

    def logPrefix(self) -> str:
        return "southbridge"


_readers: list[_Reader] = []


def _reader() -> _Reader:
    if not _readers or not _readers[0].port.is_ours:
        from twisted.internet import reactor

        if not IReactorFDSet.providedBy(reactor):
            raise SouthbridgeError(f"{reactor!r} watches no descriptors, so it cannot wait for the kernel")
        _readers[:] = [_Reader(reactor)]
    return _readers[0]
