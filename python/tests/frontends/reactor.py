"""Twisted: the reactor that the process installed, in the thread that runs it."""

from __future__ import annotations

import threading
from collections.abc import Generator
from functools import partial
from typing import Any, TypeVar, cast

from twisted.internet import reactor as installed
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, gatherResults, inlineCallbacks
from twisted.internet.task import deferLater
from twisted.internet.threads import blockingCallFromThread

from . import Frontend, Story

T = TypeVar("T")
reactor: Any = installed


class Twisted(Frontend):
    """By coroutines."""

    name = "twisted"

    def run(self, story: Story[T]) -> T:
        run_reactor()
        return cast("T", blockingCallFromThread(reactor, cast("Any", self.deferred), story))

    def deferred(self, story: Story[T]) -> Deferred[T]:
        return ensureDeferred(story())

    async def together(self, *stories: Story[T]) -> list[T]:
        return list(await gatherResults([self.deferred(story) for story in stories]))

    async def give_up(self, story: Story[Any], after: float) -> str:
        deferred = self.deferred(story)
        reactor.callLater(after, deferred.cancel)
        try:
            await deferred
        except CancelledError as error:
            return type(error).__name__
        return "nothing"

    async def sleep(self, seconds: float) -> None:
        await deferLater(reactor, seconds)


class InlineCallbacks(Twisted):
    """By generators, which yield what a coroutine awaits."""

    name = "inlineCallbacks"

    def deferred(self, story: Story[T]) -> Deferred[T]:
        return _by_generator(story)


@inlineCallbacks
def _by_generator(story: Story[T]) -> Generator[Any, Any, T]:
    coroutine = story()
    step = partial(coroutine.send, None)
    while True:
        try:
            waited_for = step()
        except StopIteration as end:
            outcome: T = end.value
            return outcome
        try:
            step = partial(coroutine.send, (yield waited_for))
        except BaseException as error:
            step = partial(coroutine.throw, error)


class TwistedOnAsyncio(Twisted):
    """In a process whose reactor lies on an asyncio loop."""

    name = "twisted-asyncio"


_running: list[threading.Thread] = []


def run_reactor() -> None:
    """Runs it, once and for all, in a thread that ends with the process."""
    if not _running:
        started = threading.Event()
        reactor.callWhenRunning(started.set)
        thread = threading.Thread(target=reactor.run, kwargs={"installSignalHandlers": False}, daemon=True)
        _running.append(thread)
        thread.start()
        started.wait()
