"""The threads of a program that stands on a test's kernel: who waits, who asks, and who may still come."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable
from typing import Protocol

from southbridge._kernel import Port
from southbridge.testing._errors import NothingHappensError


class Driven(Protocol):
    """What moves when somebody waits."""

    @property
    def autojump(self) -> bool: ...

    @property
    def is_answering(self) -> bool:
        """Whether a handler of a peer is being called."""
        ...

    def turn(self, seconds: float) -> bool: ...
    def new_port(self) -> Port: ...
    def wait_until(self, is_ready: Callable[[], bool], limit: float | None) -> bool: ...


class Threads:
    """Those that wait for the kernel by blocking."""

    def __init__(self, kernel: Driven) -> None:
        self._kernel = kernel
        self._maker = threading.get_ident()
        self._local = threading.local()
        self._ports: list[Port] = []
        self._bystanders: set[int] = set()
        self._askers: set[int] = set()
        self._idlers: set[int] = set()
        self._waiters: dict[int, Callable[[], bool]] = {}

    def begin(self) -> None:
        """The kernel comes to stand: who is here already is none of its business, unless they ask."""
        self._bystanders = _alive()

    def port(self) -> Port:
        """The port of this thread."""
        port: Port | None = getattr(self._local, "port", None)
        if port is None:
            port = self._local.port = self._kernel.new_port()
            self._ports.append(port)
        return port

    def wait(self, is_over: Callable[[], bool]) -> None:
        """Wait at this thread's port until ``is_over``."""

        def is_settled() -> bool:
            # An exchange may have been opened in another thread: whoever looks tells all.
            for one in self._ports:
                for done in one.drain(DRAIN_MAX):
                    done()
            return is_over()

        me = threading.get_ident()
        self._askers.add(me)
        self._idlers.discard(me)
        self._waiters[me] = is_over
        try:
            if self._kernel.autojump:
                self._kernel.wait_until(is_settled, None)
                return
            self._kernel.turn(0.0)
            if is_settled():
                return
            if me == self._maker or self._kernel.is_answering:
                raise NothingHappensError(
                    "this thread waits for an answer, and is itself the one that moves the time: let autojump=True do "
                    "that, or ask from another thread"
                )
            readable = select.poll()
            readable.register(self.port().fileno(), select.POLLIN)
            while not is_settled():
                readable.poll(NAP_MILLIS)
        finally:
            self._waiters.pop(me, None)

    def others_came(self) -> bool:
        """Gives threads of the program that compute now a moment to ask, before time moves."""
        mine = threading.get_ident()
        others: set[int] = set()
        for _ in range(GRACES):
            answered = any(is_over() for ident, is_over in list(self._waiters.items()) if ident != mine)
            # Those that were there before the kernel are none of its business, unless they have asked.
            others = _alive() - {mine} - self._idlers - (self._bystanders - self._askers) - set(self._waiters)
            if not answered and not others:
                return False
            time.sleep(GRACE)
            if self._kernel.turn(0.0):
                return True
        # They do something else. Who asks again is waited for again.
        self._idlers |= others
        return False


def _alive() -> set[int]:
    return {thread.ident for thread in threading.enumerate() if thread.ident is not None}


# Real seconds, and how often a thread that computes is given them, before others move the time.
GRACE = 0.002
GRACES = 10

# Real milliseconds between looks, where somebody else moves the time.
NAP_MILLIS = 250

DRAIN_MAX = 64
