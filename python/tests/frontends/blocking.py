"""Plain threads, and greenlets in a thread of their own."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import gevent

from . import Frontend, Story, told

T = TypeVar("T")


class Threads(Frontend):
    name = "threads"
    can_give_up = False

    def run(self, story: Story[T]) -> T:
        return told(story)

    async def together(self, *stories: Story[T]) -> list[T]:
        with ThreadPoolExecutor(len(stories)) as pool:
            return [future.result() for future in [pool.submit(told, story) for story in stories]]

    async def give_up(self, story: Story[Any], after: float) -> str:
        raise NotImplementedError("nobody can cancel a thread")

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - it is a thread


class Gevent(Frontend):
    """Nothing is patched, unless the whole process was."""

    name = "gevent"

    def run(self, story: Story[T]) -> T:
        # A hub belongs to its thread, and a thread that has one parks greenlets from then on.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(self._in_hub, story).result()

    def _in_hub(self, story: Story[T]) -> T:
        hub = gevent.get_hub()
        try:
            return gevent.spawn(told, story).get()
        finally:
            hub.destroy(destroy_loop=True)

    async def together(self, *stories: Story[T]) -> list[T]:
        greenlets = [gevent.spawn(told, story) for story in stories]
        return [greenlet.get() for greenlet in greenlets]

    async def give_up(self, story: Story[Any], after: float) -> str:
        greenlet = gevent.spawn(told, story)
        gevent.sleep(after)
        greenlet.kill()
        return type(greenlet.value).__name__

    async def sleep(self, seconds: float) -> None:
        gevent.sleep(seconds)


class GeventPatched(Gevent):
    """In a process where `gevent.monkey.patch_all` came first."""

    name = "gevent-patched"

    def run(self, story: Story[T]) -> T:
        return gevent.spawn(told, story).get()
