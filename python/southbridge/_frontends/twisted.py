"""Waits by Deferreds, on whichever reactor the program installed.

A `DeferredResponse` can be awaited, yielded to ``inlineCallbacks`` and given callbacks. Where the reactor lies on
an asyncio loop it is also what a task of asyncio waits on, because nobody can tell beforehand who will drive it.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFDSet, IReadDescriptor
from twisted.python import context, threadable
from twisted.python.failure import Failure
from twisted.python.log import ILogContext
from zope.interface import implementer

from southbridge._downloads import Progress, Saved, Transfer
from southbridge._errors import SouthbridgeError
from southbridge._frontends import rehearsed
from southbridge._kernel import Exchange, Port, Response
from southbridge._services import Readiness, ReadyCheck
from southbridge._streams import fetch

T = TypeVar("T")

# How many Deferreds fire before the reactor has its turn again.
DRAIN_MAX = 64


def is_here(loop: asyncio.AbstractEventLoop | None) -> bool:
    """Whether this is the thread of the reactor, on whose asyncio ``loop`` it may lie."""
    if loop is not None:
        return getattr(sys.modules["twisted.internet.reactor"], "_asyncioEventloop", None) is loop
    if (kernel := rehearsed.current()) is not None:
        return kernel.is_twisted_here()
    if threadable.ioThread is None:
        # It has not run yet. It will in the main thread, where signals come.
        return threading.current_thread() is threading.main_thread()
    return threadable.ioThread == threading.get_ident() or bool(threadable.isInIOThread())


def wait(response: Response) -> Generator[Any, Any, Response]:
    """What `await` drives, where the response was not made under Twisted."""
    return DeferredResponse(response).__await__()


def wait_for_news(exchange: Exchange) -> DeferredNews:
    """Fires when there is news of ``exchange``."""
    return DeferredNews(exchange)


def begin_download(exchange: Exchange, told: Callable[[Progress], object] | None) -> DeferredTransfer:
    """A download, which begins now."""
    return DeferredTransfer(exchange, told)


def begin_check(exchange: Exchange, names: list[str]) -> DeferredCheck:
    """A check of services, which begins now."""
    return DeferredCheck(exchange, names)


def port() -> Port:
    """The port of the reactor, attached on first use."""
    return _reader().port


class Promise(Deferred[T]):
    """A Deferred, and where the reactor lies on an asyncio loop also a future: whoever asks first decides.

    What is made of it says what it waits for, by the three methods that come first.
    """

    _asyncio_future_blocking = False
    _looping: asyncio.AbstractEventLoop | None = None
    _tasks: tuple[tuple[Callable[[Any], object], contextvars.Context | None], ...] = ()

    def __init__(self) -> None:
        # Not by a method of its own: that would make a circle of each, for the garbage collector to find.
        Deferred.__init__(self, _give_up)
        self._log_context = context.get(ILogContext)
        self._context = contextvars.copy_context()

    def _is_over(self) -> bool:
        raise NotImplementedError

    def _value(self) -> T:
        raise NotImplementedError

    def _stop(self) -> None:
        raise NotImplementedError

    def _settled(self) -> None:
        if self._log_context is not _delivered_in[0]:
            # In the log context of the caller, and not in that of the descriptor that was read.
            context.call({ILogContext: self._log_context}, self._tell)
        elif self._looping is None:
            self._context.run(self._fire)
        else:
            self._tell()

    def deliver(self, ready: list[Callable[[], object]]) -> None:
        """Settles all of ``ready``, in the log context of this one where that is theirs as well."""
        context.call({ILogContext: self._log_context}, _deliver, ready, self._log_context)

    def _tell(self) -> None:
        if self._looping is None:
            self._context.run(self._fire)
        else:
            for callback, in_context in self._take_tasks():
                (in_context or self._context).run(callback, self)

    def _fire(self) -> None:
        if self.called:
            return
        try:
            value = self._value()
        except Exception:
            self.errback(Failure())
        else:
            self.callback(value)

    def __await__(self) -> Generator[Any, Any, T]:
        if not self._is_over():
            yield self
        if self._looping is not None:
            return self._outcome()
        if self.called and not self.paused and not isinstance(self.result, Failure):
            # What a Deferred would come to by itself, with a generator less.
            result: Any = self.result
            return result
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
        self._tasks += ((callback, context),)
        # A Deferred has its result there; a future, the way to it.
        self.result = self._outcome

    def cancel(self, msg: object = None) -> bool:  # type: ignore[override]
        """Gives it up."""
        if self._looping is None:
            Deferred.cancel(self)
            return True
        if self._is_over():
            return False
        self._stop()
        self._cancelled_with = () if msg is None else (msg,)
        for callback, in_context in self._take_tasks():
            self._looping.call_soon(callback, self, context=in_context)
        return True

    def _outcome(self) -> T:
        if self._cancelled_with is not None:
            raise asyncio.CancelledError(*self._cancelled_with)
        return self._value()

    _cancelled_with: tuple[object, ...] | None = None

    def _take_tasks(self) -> tuple[tuple[Callable[[Any], object], contextvars.Context | None], ...]:
        tasks, self._tasks = self._tasks, ()
        return tasks


def _give_up(promise: Any) -> None:
    promise._stop()


class DeferredResponse(Response, Promise[Response]):
    """A response under Twisted: a Deferred that fires with the response. Sent when it is made."""

    def __init__(self, of: Response) -> None:
        Promise.__init__(self)
        # A Deferred must not fire with itself: it is another view of the same response.
        self._answer = of
        if not of.is_fed:
            self._port = reader = _reader()
            self._ticket: int = reader.start(of, self._settled)
        else:
            self._sending = sending = Deferred.fromCoroutine(fetch(of))
            sending.addErrback(self._failed).addBoth(lambda _: self._settled())

    _failure: BaseException | None = None
    _sending: Deferred[Any] | None = None
    _port: Any

    def __await__(self) -> Generator[Any, Any, Response]:
        return Promise.__await__(self)

    __iter__ = __await__

    def _failed(self, failure: Failure) -> None:
        self._failure = failure.value

    def _is_over(self) -> bool:
        return self._answer.is_settled

    def _value(self) -> Response:
        if self._failure is not None:
            raise self._failure
        self._answer.check()
        return self._answer

    def _stop(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
        else:
            self._port.cancel(self._ticket)


class DeferredNews(Promise[None]):
    """Fires when there is news of an exchange. Cancelling it stops the listening, and nothing else."""

    def __init__(self, exchange: Exchange) -> None:
        Promise.__init__(self)
        self._exchange = exchange
        self._heard = not _reader().listen(exchange, self._hear)
        if self._heard:
            self.callback(None)

    def _hear(self) -> None:
        self._heard = True
        self._settled()

    def _is_over(self) -> bool:
        return self._heard

    def _value(self) -> None:
        """There is none."""

    def _stop(self) -> None:
        _reader().unlisten(self._exchange)


class DeferredRun(Promise[T]):
    """Fires with what a coroutine gives. It runs when it is made."""

    def __init__(self, running: Coroutine[Deferred[Any], Any, T]) -> None:
        Promise.__init__(self)
        self._failure: BaseException | None = None
        self._given: list[T] = []
        self._running = Deferred.fromCoroutine(running)
        self._running.addCallbacks(self._given.append, self._failed).addBoth(lambda _: self._settled())

    def _failed(self, failure: Failure) -> None:
        self._failure = failure.value

    def _is_over(self) -> bool:
        return bool(self._given) or self._failure is not None

    def _value(self) -> T:
        if self._failure is not None:
            raise self._failure
        return self._given[0]

    def _stop(self) -> None:
        self._running.cancel()


class DeferredTransfer(Transfer, DeferredRun[Saved]):
    """A download under Twisted: a Deferred that fires with what was saved."""

    def __init__(self, exchange: Exchange, told: Callable[[Progress], object] | None) -> None:
        Transfer.__init__(self, exchange, told)
        DeferredRun.__init__(self, self.run())

    def __await__(self) -> Generator[Any, Any, Saved]:
        return Promise.__await__(self)

    __iter__ = __await__


class DeferredCheck(ReadyCheck, DeferredRun[Readiness]):
    """A check of services under Twisted: a Deferred that fires with how they do."""

    def __init__(self, exchange: Exchange, names: list[str]) -> None:
        ReadyCheck.__init__(self, exchange, names)
        DeferredRun.__init__(self, self.run())

    def __await__(self) -> Generator[Any, Any, Readiness]:
        return Promise.__await__(self)

    __iter__ = __await__


@implementer(IReadDescriptor)  # pyright: ignore[reportUntypedClassDecorator]
class _Reader:
    """What the reactor calls when completions are ready. It watches while somebody waits, and only then."""

    def __init__(self, reactor: Any) -> None:
        self.port = Port("twisted")
        self._reactor = reactor
        self._watches = False

    def start(self, answer: Response, settled: Callable[[], None]) -> int:
        ticket = self.port.start(answer, settled)
        if not self._watches:
            self._watch()
        return ticket

    def cancel(self, ticket: int) -> None:
        self.port.cancel(ticket)
        self._rest()

    def listen(self, exchange: Exchange, heard: Callable[[], None]) -> bool:
        listens = exchange.listen(heard)
        if listens and not self._watches:
            self._watch()
        return listens

    def unlisten(self, exchange: Exchange) -> None:
        exchange.unlisten()
        self._rest()

    def fileno(self) -> int:
        return self.port.fileno()

    def doRead(self) -> None:
        ready = self.port.drain(DRAIN_MAX)
        if ready:
            # Most have asked in the same log context, which is entered once for all of them.
            promise: Promise[Any] = ready[0].__self__  # type: ignore[attr-defined]
            promise.deliver(ready)
        if len(ready) == DRAIN_MAX:
            self._reactor.callLater(0, self.doRead)
        else:
            self._rest()

    def _watch(self) -> None:
        self._reactor.addReader(self)
        self._watches = True

    def _rest(self) -> None:
        if len(self.port) == 0:
            self._reactor.removeReader(self)
            self._watches = False

    def connectionLost(self, reason: object) -> None:
        """The reactor has ended."""

    def logPrefix(self) -> str:
        return "southbridge"


def _deliver(ready: list[Callable[[], object]], log_context: object) -> None:
    before, _delivered_in[0] = _delivered_in[0], log_context
    try:
        for settled in ready:
            settled()
    finally:
        _delivered_in[0] = before


# The log context in which promises are settled just now, and otherwise none that anybody has.
_delivered_in: list[object] = [object()]

_readers: list[_Reader] = []


def _reader() -> Any:
    if (kernel := rehearsed.current()) is not None:
        return kernel.twisted_reader()
    if not _readers or not _readers[0].port.is_ours:
        from twisted.internet import reactor

        if not IReactorFDSet.providedBy(reactor):
            raise SouthbridgeError(f"{reactor!r} watches no descriptors, so it cannot wait for the kernel")
        _readers[:] = [_Reader(reactor)]
    return _readers[0]
