"""Marks as decorators. Imported when the first one is used as such."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator
from typing import Any, TypeVar, cast

from southbridge._kernel import mark

_Function = TypeVar("_Function", bound=Callable[..., Any])


def decorate(name: str, function: _Function) -> _Function:
    """``function``, each call of which is within a mark of its own that is called ``name``."""
    if inspect.iscoroutinefunction(function):
        wrap = _coroutine
    elif inspect.isgeneratorfunction(function):
        wrap = _generator
    elif inspect.isasyncgenfunction(function):
        wrap = _async_generator
    else:
        wrap = _plain
    return cast("_Function", functools.wraps(function)(wrap(name, function)))


def _plain(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with mark(name):
            return function(*args, **kwargs)

    return wrapped


def _coroutine(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        with mark(name):
            return await function(*args, **kwargs)

    return wrapped


def _generator(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with mark(name):
            return (yield from function(*args, **kwargs))

    return wrapped


def _async_generator(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        with mark(name):
            async for item in function(*args, **kwargs):
                yield item

    return wrapped
