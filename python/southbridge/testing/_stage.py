"""The kernel of a test: whose turn it is, and how far time may move.

Nothing happens by itself. Somebody's call (`advance`, `pump`, or a program that waits) *drives*: the native kernel does
what it can do now, peers' handlers are called in the driving thread, programs are told what there is to tell, and only when
all of that is done does time move, to the next thing that is scheduled and no further.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from southbridge._frontends import rehearsed
from southbridge._kernel import Exchange, Port, Rehearsal, Response
from southbridge.testing._answering import Answering
from southbridge.testing._answers import Answer
from southbridge.testing._dns import Dns
from southbridge.testing._errors import EPSILON, NothingHappensError
from southbridge.testing._peers import Handler, Peer, Request, well
from southbridge.testing._threads import Threads

if TYPE_CHECKING:
    import asyncio
    from types import TracebackType

    from typing_extensions import Self


T = TypeVar("T")


class Follower(Protocol):
    """Something else that keeps time, and moves with the kernel."""

    def next_in(self) -> float | None:
        """In how many seconds something is due with it."""

    def follow(self, now: float) -> None:
        """It is ``now``."""


class Kernel:
    """A kernel on virtual time that stands in the process's place, between ``with`` and its end.

    ``seed`` decides everything that is left to chance: one seed, one story. ``autojump`` lets time move by itself while
    the program only waits; without it, time moves by `advance` alone. ``wall`` is what the wall clock shows at the start, in
    seconds since 1970 (default: the first of January 2026). ``latency`` and ``jitter``, in seconds, are those of the ways to
    all peers, unless a peer says otherwise.
    """

    def __init__(
        self,
        *,
        seed: int = 1,
        autojump: bool = True,
        wall: float = 1_767_225_600.0,
        latency: float = 0.0,
        jitter: float = 0.0,
    ) -> None:
        self.seed = seed
        self.autojump = autojump
        self._options = {"wall": wall, "latency": latency, "jitter": jitter}
        self._native = Rehearsal(seed, wall)
        self.dns = Dns(self._native)
        """What names mean. A peer's name is there already."""
        self._now = 0.0
        # A handler may ask for something itself; another thread may not drive meanwhile.
        self._driving = threading.RLock()
        self._closed = False
        self._failures: list[BaseException] = []
        self._answering = Answering(
            self._native, self.dns, {"latency": latency, "jitter": jitter}, self._failures.append
        )
        self._threads = Threads(self)
        self._ports: list[Port] = []
        self._followers: list[Follower] = []
        self.clock_threads: set[int] = set()
        self._deliveries: list[Callable[[], bool]] = []
        self._farewells: list[Callable[[], None]] = []
        self._homes: dict[str, Any] = {}
        self._last_log: list[str] = []

    # The test's side.

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return self._now

    @property
    def requests(self) -> list[Request]:
        """What peers have been asked, in order."""
        return self._answering.requests

    @property
    def log(self) -> list[str]:
        """What has happened, a line each, with the time in front: the same for one seed, to the letter."""
        return self._last_log if self._closed else self._native.log()

    @property
    def options(self) -> dict[str, object]:
        """Everything that makes this story this one."""
        return {"seed": self.seed, "autojump": self.autojump, **self._options}

    def note(self, line: str) -> None:
        """Add a line to the log."""
        self._native.note(line)

    def peer(
        self,
        where: str,
        handler: Handler | Answer = well,
        *,
        http2: bool = True,
        latency: float | None = None,
        jitter: float | None = None,
    ) -> Peer:
        """A peer that does with each request what ``handler`` says.

        ``where`` is a host (``example.org``: plain on port 80, TLS on 443), a host with a port (``example.org:8080``), a URL
        (``https://example.org:8443``), or an address. A name is made known to the DNS. Over TLS it speaks HTTP/2 and
        HTTP/1.1, or without ``http2`` HTTP/1.1 alone. The handler is called in the thread that drives the kernel, with
        the clock standing still; without one, everything is answered with 200 and ``{}``.
        """
        return self._answering.add(where, handler, http2=http2, latency=latency, jitter=jitter)

    def pump(self) -> None:
        """Let everything happen that can happen without time passing."""
        self._check_may_drive()
        while self.turn(0.0) or self._deliver():
            self._deliver()
        self._raise_failure()

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass, and everything happen that falls into them, at its time and in its order."""
        if seconds < 0:
            raise ValueError(f"time cannot move by {seconds} s: it does not run backwards")
        until = self._now + seconds
        while True:
            self.pump()
            left = self._until_next(until - self._now)
            if left < EPSILON:
                return
            self.turn(left)

    def run(self, program: Coroutine[Any, Any, T]) -> T:
        """Run ``program`` as `asyncio.run` does, on a loop that keeps the kernel's time from its first moment on."""
        import asyncio

        async def joined() -> T:
            self.join(asyncio.get_running_loop())
            return await program

        return asyncio.run(joined())

    # What stands between: `with`.

    def __enter__(self) -> Self:
        self._threads.begin()
        self._native.enter()
        rehearsed.stand(self)
        if self.autojump:
            self._join_running_loop()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._last_log = self._native.log()
        rehearsed.stand(None)
        self._native.leave()
        self._closed = True
        for farewell in self._farewells:
            farewell()
        self._native.close()
        if error is None:
            self._raise_failure()

    # The programs' side: frontends come here.

    def wait_for(self, response: Response, *, parks: bool) -> None:
        """Wait until ``response`` is settled, by parking this greenlet or in this thread."""
        if parks:
            self._hubs().wait_for(response)
            return
        port = self.thread_port()
        ticket = port.start(response, _nothing)
        try:
            self._threads.wait(lambda: response.is_settled)
        except BaseException:
            port.cancel(ticket)
            raise

    def wait_for_news(self, exchange: Exchange, *, parks: bool) -> None:
        """Wait until there is news of ``exchange``."""
        if parks:
            self._hubs().wait_for_news(exchange)
            return
        heard: list[bool] = []
        if not exchange.listen(lambda: heard.append(True)):
            return
        try:
            self._threads.wait(lambda: bool(heard))
        except BaseException:
            exchange.unlisten()
            raise

    def step(self) -> None:
        """The native kernel does what it can do now; nobody is told of anything, and no time passes."""
        with self._driving:
            if not self._closed:
                self._native.step(0.0)

    def thread_port(self) -> Port:
        """The port of this thread."""
        return self._threads.port()

    def hub_port(self) -> Port:
        """The port of this thread's hub of gevent."""
        port: Port = self._hubs().port()
        return port

    def asyncio_port(self, loop: asyncio.AbstractEventLoop) -> Port:
        """The port of ``loop``."""
        from southbridge.testing._asyncio import Loops

        port: Port = self._home("asyncio", Loops).port(loop)
        return port

    def join(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on the time of ``loop`` is the kernel's: `asyncio.sleep` and timeouts move with it.

        A loop joins by itself when something is asked for on it, and a loop that runs when the kernel comes to stand.
        """
        from southbridge.testing._asyncio import Loops

        self._home("asyncio", Loops).join(loop)

    def trio_run(self) -> Any:
        """What waits in this run of trio."""
        from southbridge.testing._trio import Runs

        return self._home("trio", Runs).here()

    def is_twisted_here(self) -> bool:
        """Whether Deferreds are waited for in this thread: a `southbridge.testing.twisted.Clock` was made in it, or it runs
        the reactor."""
        reactor: Any = sys.modules.get("twisted.internet.reactor")
        if threading.get_ident() in self.clock_threads or reactor is None:
            return reactor is not None
        threadable: Any = sys.modules["twisted.python.threadable"]
        return bool(reactor.running and threadable.isInIOThread())

    def twisted_reader(self) -> Any:
        """What waits on Twisted's reactor, or for whoever moves the kernel."""
        from southbridge.testing._reactor import Readers

        return self._home("twisted", Readers).reader()

    # Driving.

    def wait_until(self, is_ready: Callable[[], bool], limit: float | None) -> bool:
        """Let time pass until ``is_ready`` or ``limit`` seconds are over; whether it is ready.

        Raises `NothingHappensError` when there is no limit, and nothing is scheduled.
        """
        until = None if limit is None else self._now + limit
        while not is_ready():
            if self._closed:
                return is_ready()
            if self.turn(0.0) or self._deliver() or self._threads.others_came():
                continue
            left = HORIZON if until is None else until - self._now
            if left < EPSILON:
                return False
            step = self._until_next(left)
            waiting = self._native.in_flight() if until is None and step == HORIZON else []
            with self._driving:
                # Another thread may have driven meanwhile, and brought what this one waits for.
                if is_ready():
                    break
                began = self._now
                is_called = self.turn(step)
            if not is_called and until is None and self._now - began >= HORIZON:
                raise NothingHappensError(self._nothing_happens(began, waiting))
        return True

    @property
    def in_flight(self) -> int:
        """How many requests programs wait for."""
        return sum(len(port) for port in self._ports)

    def new_port(self) -> Port:
        """One more port."""
        port = Port()
        self._ports.append(port)
        return port

    def add_delivery(self, deliver: Callable[[], bool]) -> None:
        """``deliver`` tells a program what there is to tell, when the kernel is driven; whether there was something."""
        self._deliveries.append(deliver)

    def add_follower(self, follower: Follower) -> None:
        """``follower`` keeps the kernel's time from now on."""
        self._followers.append(follower)

    def at_end(self, farewell: Callable[[], None]) -> None:
        """``farewell`` is called when the kernel does not stand any more."""
        self._farewells.append(farewell)

    def fail(self, error: BaseException) -> None:
        """What the test is told at the end, if it is not told before."""
        self._failures.append(error)

    @property
    def is_answering(self) -> bool:
        """Whether a handler of a peer is being called."""
        return self._answering.is_busy

    def turn(self, seconds: float) -> bool:
        """What can happen now does, and then at most ``seconds`` pass; whether it is somebody's turn."""
        with self._driving:
            if self._closed:
                return False
            # Sums of floats have dust, and the kernel would take it for a millisecond.
            is_called = self._native.step(round(seconds, 6))
            self._now = self._native.now
            for follower in self._followers:
                follower.follow(self._now)
            if not self.is_answering:
                self._answering.answer_calls()
            return is_called

    def _deliver(self) -> bool:
        is_told = False
        for deliver in self._deliveries:
            is_told = deliver() or is_told
        return is_told

    def _until_next(self, seconds: float) -> float:
        """How long until somebody who follows has something to do: ``seconds`` at most."""
        due = [follower.next_in() for follower in self._followers]
        return max(0.0, min([seconds, *(at for at in due if at is not None)]))

    def _hubs(self) -> Any:
        from southbridge.testing._gevent import Hubs

        return self._home("gevent", Hubs)

    def _home(self, name: str, make: Callable[[Kernel], Any]) -> Any:
        if name not in self._homes:
            self._homes[name] = make(self)
        return self._homes[name]

    def _join_running_loop(self) -> None:
        events = sys.modules.get("asyncio.events")
        loop = None if events is None else events._get_running_loop()
        if loop is not None:
            self.join(loop)

    def _nothing_happens(self, began: float, waiting: list[str]) -> str:
        lines = "".join(f"\n  {line}" for line in waiting)
        return (
            f"everybody waits, and nothing is going to happen: at {began:.3f} s of the kernel's time nothing was scheduled "
            f"for the next {HORIZON / 86_400:g} days, and there waited:{lines or ' nobody'}"
        )

    def _check_may_drive(self) -> None:
        if self._closed:
            raise RuntimeError("the kernel of this test has ended: move its time within the `with`")
        if self.is_answering:
            raise RuntimeError(
                "a peer's handler cannot move the time: give answer(..., after=seconds) instead"
            )

    def _raise_failure(self) -> None:
        if self._failures:
            raise self._failures.pop(0)


def _nothing() -> None:
    """Nobody is to be called: whoever waits looks for itself."""


# What nothing falls into is taken as for ever. A client without any timeout gives up after a year.
HORIZON = 300 * 86_400.0
