"""One exchange on the reactor: what a producer writes goes to the kernel as it takes it, and what has come goes to a
protocol as that takes it.

Nothing waits in here but `Exchange.wait`, whose Deferred fires in the contexts of whoever asked for it.

# Source
F20. The interfaces are those of ``twisted.internet.interfaces`` and ``twisted.web.iweb``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web._newclient import WrongBodyLength
from twisted.web.iweb import UNKNOWN_LENGTH
from zope.interface import implementer

from southbridge import Response
from southbridge._kernel import Exchange

log = Logger()

# From how much on, not yet taken by the kernel, a producer is paused.
HELD_BYTES = 64 * 1024
# How many pieces a protocol is handed before the reactor has its turn again.
PIECES_MAX = 16


@implementer(IConsumer)  # pyright: ignore[reportUntypedClassDecorator]
class Upload:
    """The body of a request, as its producer writes it. It holds little: then the producer is paused, if it heeds that.

    ``length`` is how many bytes the producer says that there will be, and None when it does not know.
    """

    def __init__(self, producer: Any) -> None:
        said: Any = producer.length
        self.length: int | None = None if said is UNKNOWN_LENGTH else int(said)
        self.is_over = False
        self.failure: Failure | None = None
        self._left = self.length
        self._maker: Any = producer
        # Who writes, which may be another than the one that was given: a FileSender registers itself.
        self._writer: Any = producer
        self._pulls = False
        self._paused = False
        # Of one that is pulled: it owes a piece.
        self._asked = False
        self._pieces: deque[bytes] = deque()
        self._fed = 0
        self._held = 0
        self._news: Callable[[], None] = lambda: None
        maybeDeferred(producer.startProducing, self).addCallbacks(self._done, self._failed)

    @property
    def is_held(self) -> bool:
        """Whether something waits for the kernel to take it."""
        return bool(self._pieces)

    def call_at_news(self, news: Callable[[], None]) -> None:
        """``news`` is called whenever there is something to be fed, or will be nothing more."""
        self._news = news

    def whole(self) -> bytes | None:
        """All of it, if its producer has been done at once."""
        if not self.is_over or self.failure is not None:
            return None
        whole = b"".join(self._pieces)
        self._pieces.clear()
        return whole

    def stop(self) -> None:
        """No more of it is wanted."""
        self._pieces.clear()
        maker, self._maker = self._maker, None
        if maker is not None and not self.is_over:
            _stop(maker)

    def feed(self, exchange: Exchange) -> None:
        """Feed what is there, as far as there is room, and have more of it made."""
        while True:
            while self._pieces:
                piece = self._pieces[0]
                before, self._fed = self._fed, exchange.feed(piece, self._fed)
                self._held -= self._fed - before
                if self._fed < len(piece):
                    return
                self._pieces.popleft()
                self._fed = 0
            if self.is_over or not self._ask_for_more():
                return

    def _ask_for_more(self) -> bool:
        if self._writer is None:
            return False
        if self._paused or (self._pulls and not self._asked):
            self._paused, self._asked = False, True
            self._writer.resumeProducing()
        return bool(self._pieces)

    # What a producer asks of a consumer.

    def write(self, data: bytes) -> None:
        if self._maker is None or self.is_over:
            return
        if self._left is not None:
            if len(data) > self._left:
                self._fail(Failure(WrongBodyLength("too many bytes written")))
                return
            self._left -= len(data)
        if data:
            self._asked = False
            self._pieces.append(bytes(data))
            self._held += len(data)
        if self._held >= HELD_BYTES and not self._pulls and not self._paused and self._writer is not None:
            self._paused = True
            self._writer.pauseProducing()
        self._news()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._writer not in (None, self._maker):
            raise RuntimeError(f"{self._writer!r} is registered already: unregister it first")
        self._writer = producer
        self._pulls = not streaming
        self._paused = self._asked = False
        self._news()

    def unregisterProducer(self) -> None:
        self._writer, self._pulls, self._paused = None, False, False

    def _done(self, _none: object) -> None:
        if self._maker is None or self.is_over:
            return
        if self._left:
            self._failed(Failure(WrongBodyLength("too few bytes written")))
            return
        self.is_over = True
        self._news()

    def _fail(self, why: Failure) -> None:
        maker = self._maker
        self.failure, self.is_over = why, True
        _stop(maker)
        self._pieces.clear()
        self._news()

    def _failed(self, why: Failure) -> None:
        if self._maker is None or self.is_over:
            return
        self.failure, self.is_over = why, True
        self._pieces.clear()
        self._news()


def _stop(maker: Any) -> None:
    try:
        maker.stopProducing()
    except Exception:
        log.failure("a producer could not be stopped")


@implementer(IPushProducer, ITransport)  # pyright: ignore[reportUntypedClassDecorator]
class Delivery:
    """The transport of a protocol that takes a body. It pauses, stops and aborts as a connection does."""

    # As of Twisted's own: a LineReceiver would not take what is left otherwise.
    disconnecting = False

    def __init__(self, protocol: Any, turn: Callable[[], None], give_up: Callable[[Failure], None]) -> None:
        self.protocol: Any = protocol
        self.flows = True
        self._turn = turn
        self._give_up = give_up

    def pauseProducing(self) -> None:
        self.flows = False

    def resumeProducing(self) -> None:
        if self.protocol is not None and not self.flows:
            self.flows = True
            self._turn()

    def stopProducing(self) -> None:
        self._give_up(Failure(ConnectionDone("the body was given up")))

    loseConnection = stopProducing

    def abortConnection(self) -> None:
        self._give_up(Failure(ConnectionAborted("the body was given up")))

    def write(self, data: bytes) -> None:
        raise RuntimeError("the body of a response is read, not written")

    def writeSequence(self, data: Any) -> None:
        raise RuntimeError("the body of a response is read, not written")

    def getPeer(self) -> Any:
        raise NotImplementedError("the connection is the kernel's, and may carry others as well")

    getHost = getPeer


class Exchanging:
    """Feeds, waits for the head, and delivers: whatever can be done, at each news.

    ``answered`` fires with the response, whose body has not come yet, or with the failure of the kernel or the
    producer. Cancelling it gives everything up.
    """

    def __init__(self, exchange: Exchange, upload: Upload | None) -> None:
        self.answered: Deferred[Response] = Deferred(self._cancel)
        self._exchange = exchange
        self._upload = upload
        self._delivery: Delivery | None = None
        self._ended: Callable[[Failure | None], None] = lambda _: None
        self._broken: Failure | None = None
        self._news: Deferred[None] | None = None
        self._turning = False
        self._again = False
        self._rests = False

    def begin(self) -> None:
        """Send the request."""
        self._exchange.open()
        if self._upload is not None:
            self._upload.call_at_news(self.turn)
        self.turn()

    def deliver(self, protocol: Any, ended: Callable[[Failure | None], None]) -> None:
        """Hand the body to ``protocol``. ``ended`` is called with what it broke off for, and None when it is whole."""
        self._delivery = Delivery(protocol, self.turn, self._give_up)
        self._ended = ended
        protocol.makeConnection(self._delivery)
        self.turn()

    def turn(self) -> None:
        """Do what can be done, and listen for when more can be. What is called from here may lead back to here."""
        self._again = True
        if self._turning:
            return
        self._turning = True
        try:
            while self._again:
                self._again = False
                self._feed()
                self._look()
                self._draw()
                self._again = self._again or self._has_news()
        finally:
            self._turning = False

    def _has_news(self) -> bool:
        """Whether there is news already; if not, and it matters, it is listened for."""
        delivers = self._delivery is not None and self._delivery.flows and not self._rests
        feeds = self._upload is not None and self._upload.is_held
        if self._news is not None or not (delivers or feeds or not self.answered.called):
            return False
        news: Any = self._exchange.wait()
        if news.called:
            return True
        self._news = news
        news.addCallbacks(self._hear, _given_up)
        return False

    def _hear(self, _none: None) -> None:
        self._news = None
        self.turn()

    def _feed(self) -> None:
        upload = self._upload
        if upload is None:
            return
        if upload.failure is not None:
            self._break(upload.failure)
        elif not self._exchange.wants:
            self._upload = None
            upload.stop()
        else:
            upload.feed(self._exchange)
            if self._upload is upload and upload.is_over and upload.failure is None and not upload.is_held:
                self._upload = None
                self._exchange.finish()

    def _break(self, why: Failure) -> None:
        self._upload, self._broken = None, why
        self._exchange.close()
        if not self.answered.called:
            self.answered.errback(why)

    def _look(self) -> None:
        if self.answered.called or not self._exchange.is_answered:
            return
        try:
            head = self._exchange.head()
        except Exception:
            self._stop_upload()
            self.answered.errback(Failure())
        else:
            self.answered.callback(cast("Response", head))

    def _draw(self) -> None:
        pieces = 0
        while (delivery := self._delivery) is not None and delivery.flows and not self._rests:
            if pieces == PIECES_MAX and later(self._go_on):
                self._rests = True
                return
            pieces += 1
            try:
                piece = self._exchange.draw()
            except Exception:
                self._end(self._broken or Failure())
                return
            if piece is None:
                self._end(None)
                return
            if not piece:
                return
            try:
                delivery.protocol.dataReceived(piece)
            except Exception:
                why = Failure()
                log.failure("a protocol could not take a body", why)
                self._exchange.close()
                self._end(why)

    def _go_on(self) -> None:
        self._rests = False
        self.turn()

    def _end(self, why: Failure | None) -> None:
        delivery, self._delivery = self._delivery, None
        if delivery is None:
            return
        if why is not None:
            self._stop_upload()
        delivery.protocol = None
        self._ended(why)

    def _give_up(self, why: Failure) -> None:
        # As of a connection that is closed, the protocol hears of it when it has returned.
        delivery = self._delivery
        if delivery is None:
            return
        delivery.flows = False
        delivery.protocol = None
        self._stop_upload()
        self._exchange.close()
        if not later(lambda: self._end(why)):
            self._end(why)

    def _cancel(self, _answered: object) -> None:
        self._stop_upload()
        self._exchange.close()
        if self._news is not None:
            self._news.cancel()

    def _stop_upload(self) -> None:
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.stop()


def _given_up(_why: Failure) -> None:
    """Who listened is not interested any more."""


def later(call: Callable[[], None]) -> bool:
    """Have ``call`` called at the reactor's next turn. False when none runs, as in tests whose time stands still."""
    from twisted.internet import reactor

    runs: Any = reactor
    if runs.running:
        runs.callLater(0, call)
    return bool(runs.running)
