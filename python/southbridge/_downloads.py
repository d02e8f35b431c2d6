"""Downloads: what comes goes into a file by the kernel, and is told of here."""

from __future__ import annotations

from southbridge._errors import NotAwaitedError, StatusError
from southbridge._feeding import now
from southbridge._kernel import Exchange, Response, blocks_here

# Not from `typing`, which takes longer to import than all of this package.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path
    from typing import Any


class Progress:
    """How far a download is, in bytes."""

    __slots__ = ("done", "total")

    def __init__(self, done: int, total: int | None) -> None:
        # In the file, those of an earlier attempt included.
        self.done = done
        # None: the peer has not said how many there will be.
        self.total = total

    def __repr__(self) -> str:
        return f"Progress(done={self.done}, total={self.total})"


class Saved:
    """A file that was downloaded."""

    def __init__(self, response: Response, path: Path, bytes: int, resumed_at: int) -> None:  # noqa: A002
        # The response; its body is in the file.
        self.response = response
        self.path = path
        # How many it has.
        self.bytes = bytes
        # How many of them were there already, from an earlier attempt.
        self.resumed_at = resumed_at

    def __repr__(self) -> str:
        return f"<Saved {self.path}, {self.bytes} bytes of {self.response.url}>"


class Transfer:
    """A download: `await` gives what was `Saved`; in threads and greenlets it is over already."""

    def __init__(self, exchange: Exchange, told: Callable[[Progress], object] | None) -> None:
        self._exchange = exchange
        self._told = told
        self._saved: Saved | None = None

    @property
    def progress(self) -> Progress:
        """How far it is. May be asked at any time, in any thread."""
        return Progress(*self._exchange.progress)

    @property
    def saved(self) -> Saved:
        """What was saved, once it is."""
        if self._saved is None:
            raise NotAwaitedError("the download is not over yet: await it first")
        return self._saved

    @property
    def response(self) -> Response:
        """The response; its body is in the file."""
        return self.saved.response

    @property
    def path(self) -> Path:
        """The file."""
        return self.saved.path

    @property
    def bytes(self) -> int:
        """How many bytes the file has."""
        return self.saved.bytes

    @property
    def resumed_at(self) -> int:
        """How many of them were there already, from an earlier attempt."""
        return self.saved.resumed_at

    def __await__(self) -> Generator[Any, Any, Saved]:
        return self.run().__await__()

    async def run(self) -> Saved:
        """Send the request, tell of progress, and wait for the end."""
        if self._saved is not None:
            return self._saved
        exchange = self._exchange
        try:
            exchange.open()
            while (response := exchange.head()) is None:
                self._tell()
                await exchange.wait()
        except BaseException:
            exchange.close()
            raise
        exchange.close()
        self._tell()
        if exchange.saved is None:
            raise StatusError(response)
        self._saved = Saved(response, *exchange.saved)
        return self._saved

    def _tell(self) -> None:
        # What comes there says nothing but that it is worth looking, and comes again when that has been drawn.
        while self._exchange.is_answered is False and self._exchange.draw():
            pass
        if self._told is not None and self._exchange.progress != (0, None):
            self._told(self.progress)


def begin(exchange: Exchange, told: Callable[[Progress], object] | None) -> Transfer:
    """A download, which is over where calls block."""
    transfer = Transfer(exchange, told)
    if blocks_here():
        now(transfer.run())
    return transfer
