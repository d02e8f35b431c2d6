"""asyncio, the loops and frameworks that are made of it, and trio."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar, cast

import tornado.ioloop
import trio
import uvloop

from . import Frontend, Story

T = TypeVar("T")


class Asyncio(Frontend):
    name = "asyncio"

    def run(self, story: Story[T]) -> T:
        return asyncio.run(story())

    async def together(self, *stories: Story[T]) -> list[T]:
        return list(await asyncio.gather(*(story() for story in stories)))

    async def give_up(self, story: Story[Any], after: float) -> str:
        task = asyncio.ensure_future(story())
        await asyncio.sleep(after)
        task.cancel()
        outcomes = await asyncio.gather(task, return_exceptions=True)
        return type(outcomes[0]).__name__

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Uvloop(Asyncio):
    name = "uvloop"

    def run(self, story: Story[T]) -> T:
        return uvloop.run(story())


class Tornado(Asyncio):
    name = "tornado"

    def run(self, story: Story[T]) -> T:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            return cast("T", tornado.ioloop.IOLoop.current().run_sync(story))
        finally:
            asyncio.set_event_loop(None)
            loop.close()


class Trio(Frontend):
    name = "trio"

    def run(self, story: Story[T]) -> T:
        return trio.run(story)

    async def together(self, *stories: Story[T]) -> list[T]:
        told: dict[int, T] = {}

        async def tell(at: int, story: Story[T]) -> None:
            told[at] = await story()

        async with trio.open_nursery() as nursery:
            for at, story in enumerate(stories):
                nursery.start_soon(tell, at, story)
        return [told[at] for at in range(len(stories))]

    async def give_up(self, story: Story[Any], after: float) -> str:
        with trio.move_on_after(after) as scope:
            await story()
        return "Cancelled" if scope.cancelled_caught else "nothing"

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)
