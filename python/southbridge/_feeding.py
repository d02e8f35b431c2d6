"""The bodies of requests that are made piece by piece, and what feeds them.

What waits here runs in every framework as it is: see `southbridge._streams`.
"""

from __future__ import annotations

from southbridge._errors import BodyStoppedError, NotAwaitedError
from southbridge._kernel import Exchange, Response

# Not from `typing`, which takes longer to import than all of this package.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any, TypeVar

    T = TypeVar("T")

# How much of a file is read at a time.
READ_BYTES = 64 * 1024


def now(coroutine: Coroutine[Any, Any, T]) -> T:
    """What ``coroutine`` returns, where its awaits are over at once."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    coroutine.close()
    raise NotAwaitedError("a body that is made by an event loop can be sent from there only: await it")


class Source:
    """Where the body of a request comes from: an iterator or an async iterator of pieces, or a file."""

    def __init__(self, content: Any) -> None:
        self.bytes: int | None = None
        self._read: Any = getattr(content, "read", None)
        self._step: Any = None
        if self._read is not None:
            return
        if hasattr(content, "__aiter__"):
            self._step = content.__aiter__().__anext__
        elif hasattr(content, "__iter__"):
            self._step = iter(content).__next__
        else:
            raise TypeError(
                "a body is bytes, bytearray, memoryview, str, a path, a file or an iterator of such pieces, "
                f"not {type(content).__name__}"
            )

    async def next(self) -> bytes | None:
        """The next piece; None when that was all.

        Raises `BodyStoppedError` when its maker raised.
        """
        try:
            piece = self._step() if self._read is None else self._read(READ_BYTES)
            if hasattr(piece, "__await__"):
                piece = await piece
        except (StopIteration, StopAsyncIteration):
            return None
        except Exception as error:
            raise stopped(f"its maker raised {error!r}") from error
        if self._read is not None and not piece:
            return None
        return as_bytes(piece)


def as_bytes(piece: object) -> bytes:
    """A piece of a body, as it is sent."""
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, str):
        return piece.encode()
    if isinstance(piece, (bytearray, memoryview)):
        return bytes(piece)
    raise stopped(f"a piece of it is bytes-like or str, not {type(piece).__name__}")


def stopped(why: str) -> BodyStoppedError:
    """The body of a request cannot go on."""
    error = BodyStoppedError(f"the body of the request stopped: {why}")
    error.step = "request"
    return error


class Feeding:
    """Feeds the body of a request, as fast as the peer takes it."""

    def __init__(self, exchange: Exchange, source: Source) -> None:
        self._exchange = exchange
        self._source: Source | None = source
        self._piece = b""
        self._taken = 0

    async def step(self) -> bool:
        """Make a piece, or feed one; whether that could be done. If not, there is something to wait for."""
        if self._source is None:
            return False
        if not self._exchange.wants:
            self._source = None
            return False
        if self._taken == len(self._piece):
            await self._load(self._source)
            return True
        before = self._taken
        self._taken = self._exchange.feed(self._piece, before)
        return self._taken > before

    async def _load(self, source: Source) -> None:
        piece = await source.next()
        if piece is None:
            self._exchange.finish()
            self._source = None
        else:
            self._piece, self._taken = piece, 0


def feeding_of(exchange: Exchange, response: Response) -> Feeding | None:
    """What feeds the body of ``response``'s request, if that comes in pieces."""
    source = response.take_source()
    return None if source is None else Feeding(exchange, source)
