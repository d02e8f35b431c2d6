"""The ways of waiting, as the behaviour suite drives them: one story, told once per frontend.

A story is a coroutine function. Where there is no event loop, every `await` of it is over at once, so it runs in a
thread or a greenlet as it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
Story = Callable[[], Coroutine[Any, Any, T]]


class Frontend(ABC):
    """One framework."""

    name: str
    can_give_up = True

    @abstractmethod
    def run(self, story: Story[T]) -> T:
        """Tell ``story`` from outside of the framework."""

    @abstractmethod
    async def together(self, *stories: Story[T]) -> list[T]:
        """Tell ``stories`` at the same time, from within."""

    @abstractmethod
    async def give_up(self, story: Story[Any], after: float) -> str:
        """Begin ``story``, cancel it ``after`` seconds; the name of the exception it ended with."""

    @abstractmethod
    async def sleep(self, seconds: float) -> None:
        """Wait as the framework does."""


def told(story: Story[T]) -> T:
    """Tells a story whose awaits are over at once."""
    coroutine = story()
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    coroutine.close()
    raise AssertionError("it waited for an event loop where there is none")
