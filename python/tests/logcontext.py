"""A log context as Twisted programs keep one: in a thread-local, set and put back by hand around what is awaited.

The rules are those of large Twisted servers. Whoever awaits a Deferred gives its context up first, and takes it again
when the Deferred has fired (`yielding`); whoever starts something that nobody awaits keeps its own (`in_background`).
A Deferred that fires while a context is set, or that does not fire in the reactor's own, leaks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, ensureDeferred

T = TypeVar("T")

NOBODY = "nobody"
# The same thing twice, as servers that move from one to the other have it for years.
_local = threading.local()
_variable: ContextVar[str] = ContextVar("log context", default=NOBODY)


def current() -> tuple[str, str]:
    """What a line of the log would be marked with: by the thread-local, and by the context variable."""
    return getattr(_local, "context", NOBODY), _variable.get()


class LogContext:
    """From here to there, lines belong to ``name``."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        self._before = getattr(_local, "context", NOBODY)
        _local.context = self._name
        self._token = _variable.set(self._name)

    def __exit__(self, *_exception: object) -> None:
        _variable.reset(self._token)
        _local.context = self._before


def yielding(deferred: Deferred[T]) -> Deferred[T]:
    """``deferred``, to be awaited: nobody's context until it has fired, the caller's from then on."""
    if not deferred.called:
        mine = getattr(_local, "context", NOBODY)
        _local.context = NOBODY

        def take_again(result: Any) -> Any:
            fired_in.append(getattr(_local, "context", NOBODY))
            _local.context = mine
            return result

        deferred.addBoth(take_again)
    return deferred


def in_background(work: Callable[[], Coroutine[Any, Any, T]]) -> Deferred[T]:
    """Starts ``work`` in the caller's context, which the caller has back at once."""
    mine = getattr(_local, "context", NOBODY)
    deferred = ensureDeferred(work())
    if not deferred.called:
        _local.context = mine

        def leave(result: Any) -> Any:
            _local.context = NOBODY
            return result

        deferred.addBoth(leave)
    return deferred


# In whose context Deferreds fired.
fired_in: list[str] = []
