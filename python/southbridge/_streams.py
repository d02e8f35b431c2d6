"""Bodies in pieces, both ways.

What is written here runs in every framework as it is: it waits by `Exchange.wait` and nothing else, which is awaited in
an event loop and has been waited for where calls block. So a coroutine of this module is over at its first step in a
thread or a greenlet, and `now` takes its value there.
"""

from __future__ import annotations

import codecs
from collections import deque

from southbridge._errors import NotAwaitedError, TooLargeError
from southbridge._feeding import Feeding, feeding_of, now
from southbridge._kernel import Exchange, Response, blocks_here

# Not from `typing`, which takes longer to import than all of this package.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from types import TracebackType

    from southbridge._kernel import Headers

# How much of one line is held before its end has come.
LINE_CHARACTERS_MAX = 1024 * 1024


def too_large(what: str) -> TooLargeError:
    """More came than is taken."""
    error = TooLargeError(what)
    error.step = "body"
    return error


async def answer(exchange: Exchange, feeding: Feeding | None) -> Response:
    """Send the request, and wait for what it is answered with."""
    try:
        exchange.open()
        while True:
            while feeding is not None and not exchange.is_answered and await feeding.step():
                pass
            head = exchange.head()
            if head is not None:
                return head
            await exchange.wait()
    except BaseException:
        exchange.close()
        raise


async def fetch(response: Response) -> Response:
    """Settle ``response``, whose request has a body in pieces."""
    exchange = Exchange(response)
    return await answer(exchange, feeding_of(exchange, response))


def fetch_now(response: Response) -> Response:
    """The same, where calls block."""
    return now(fetch(response))


class Stream:
    """A request whose response is read in pieces: to be entered by ``async with``, or by ``with`` where calls block.

    Leaving the block gives up what has not been read.
    """

    def __init__(self, exchange: Exchange, response: Response) -> None:
        self._exchange = exchange
        self._feeding = feeding_of(exchange, response)

    @property
    def exchange(self) -> Exchange:
        """What drives it step by step, for adapters; in place of ``open``."""
        return self._exchange

    async def open(self) -> StreamedResponse:
        """Send the request. Who opens without a block has to ``close()`` the response."""
        head = await answer(self._exchange, self._feeding)
        return StreamedResponse(self._exchange, head, self._feeding)

    def open_now(self) -> BlockingResponse:
        """The same, where calls block."""
        if not blocks_here():
            raise NotAwaitedError("an event loop runs here: use `async with`, or await `open()`")
        head = now(answer(self._exchange, self._feeding))
        return BlockingResponse(self._exchange, head, self._feeding)

    async def __aenter__(self) -> StreamedResponse:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._exchange.close()

    def __enter__(self) -> BlockingResponse:
        return self.open_now()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._exchange.close()


class _Flowing:
    """A response whose head is here."""

    def __init__(self, exchange: Exchange, head: Response, feeding: Feeding | None) -> None:
        self._exchange = exchange
        self._head = head
        self._feeding = feeding

    @property
    def status(self) -> int:
        """200, 404 and so on."""
        return self._head.status

    @property
    def status_code(self) -> int:
        """The same as ``status``, as other clients call it."""
        return self._head.status

    @property
    def reason(self) -> str:
        """What the peer calls the status, and otherwise everybody: ``Not Found``."""
        return self._head.reason

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""
        return self._head.ok

    @property
    def http_version(self) -> str:
        """The version of HTTP that was spoken: ``HTTP/1.1``, ``HTTP/2``."""
        return self._head.http_version

    @property
    def url(self) -> str:
        """Where it came from."""
        return self._head.url

    @property
    def headers(self) -> Headers:
        """The header fields."""
        return self._head.headers

    @property
    def history(self) -> list[tuple[int, str]]:
        """The redirects that led here, the first first: status and URL of each."""
        return self._head.history

    @property
    def elapsed(self) -> float:
        """How long it took until the head was here, in seconds, by the kernel's clock."""
        return self._head.elapsed

    @property
    def trailers(self) -> list[tuple[str, str]]:
        """What the peer said after the body; nothing before that has been read."""
        return self._exchange.trailers

    def raise_for_status(self) -> None:
        """Raises `StatusError` for a status of 400 or above."""
        self._head.raise_for_status()

    def close(self) -> None:
        """Give up what has not been read. A block does it at its end."""
        self._exchange.close()

    async def _piece(self) -> bytes:
        while True:
            piece = self._exchange.draw()
            if piece:
                return piece
            if piece is None:
                return b""
            # An answer may come before the request has been sent; then the rest of it goes out meanwhile.
            if self._feeding is None or not await self._feeding.step():
                await self._exchange.wait()

    async def _whole(self, bytes_max: int) -> bytes:
        pieces: list[bytes] = []
        taken = 0
        while piece := await self._piece():
            pieces.append(piece)
            taken += len(piece)
            if taken > bytes_max:
                self._exchange.close()
                raise too_large(f"the body of {self.url} exceeds {bytes_max} bytes")
        return b"".join(pieces)

    def _decoder(self) -> codecs.IncrementalDecoder:
        try:
            return codecs.getincrementaldecoder(self._head.charset)("replace")
        except LookupError:
            # A charset that nobody knows is no reason to have no text.
            return codecs.getincrementaldecoder("utf-8")("replace")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status} of {self.url}>"


class StreamedResponse(_Flowing):
    """A response whose body is read in pieces, in an event loop. One task at a time reads it."""

    async def read_piece(self) -> bytes:
        """What has come meanwhile, 64 KiB or a little more at most; waits for it. Nothing at the end."""
        return await self._piece()

    async def read(self, *, bytes_max: int = 256 << 20) -> bytes:
        """All that is still to come.

        Raises `TooLargeError` when that is more than ``bytes_max``.
        """
        return await self._whole(bytes_max)

    async def iter_bytes(self) -> AsyncIterator[bytes]:
        """The body as it comes, decoded unless the request said ``decompress=False``."""
        while piece := await self._piece():
            yield piece

    async def iter_text(self) -> AsyncIterator[str]:
        """The same as text, in the charset that the headers name, and otherwise UTF-8."""
        decoder = self._decoder()
        while piece := await self._piece():
            if text := decoder.decode(piece):
                yield text
        if text := decoder.decode(b"", final=True):
            yield text

    async def iter_lines(self) -> AsyncIterator[str]:
        """The lines of the text, without their ends."""
        lines = Lines(self._decoder())
        while piece := await self._piece():
            for line in lines.of(piece):
                yield line
        for line in lines.rest():
            yield line


class BlockingResponse(_Flowing):
    """A response whose body is read in pieces, where calls block. One thread or greenlet at a time reads it."""

    def read_piece(self) -> bytes:
        """What has come meanwhile, 64 KiB or a little more at most; waits for it. Nothing at the end."""
        return now(self._piece())

    def read(self, *, bytes_max: int = 256 << 20) -> bytes:
        """All that is still to come.

        Raises `TooLargeError` when that is more than ``bytes_max``.
        """
        return now(self._whole(bytes_max))

    def iter_bytes(self) -> Iterator[bytes]:
        """The body as it comes, decoded unless the request said ``decompress=False``."""
        while piece := self.read_piece():
            yield piece

    def iter_text(self) -> Iterator[str]:
        """The same as text, in the charset that the headers name, and otherwise UTF-8."""
        decoder = self._decoder()
        while piece := self.read_piece():
            if text := decoder.decode(piece):
                yield text
        if text := decoder.decode(b"", final=True):
            yield text

    def iter_lines(self) -> Iterator[str]:
        """The lines of the text, without their ends."""
        lines = Lines(self._decoder())
        while piece := self.read_piece():
            yield from lines.of(piece)
        yield from lines.rest()


class Lines:
    """Cuts text into lines, as it comes. A line ends with ``\\n``, ``\\r\\n`` or ``\\r``."""

    def __init__(self, decoder: codecs.IncrementalDecoder) -> None:
        self._decoder = decoder
        self._begun: deque[str] = deque()
        self._characters = 0
        self._after_return = False

    def of(self, piece: bytes) -> list[str]:
        """The lines that ``piece`` ends.

        Raises `TooLargeError` for a line that does not end within a million characters.
        """
        text = self._decoder.decode(piece)
        if self._after_return and text:
            text = text.removeprefix("\n")
            self._after_return = False
        if not text:
            return []
        self._after_return = text.endswith("\r")
        lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        lines[0] = self._joined(lines[0]) if len(lines) > 1 else lines[0]
        self._begin(lines.pop())
        return lines

    def rest(self) -> list[str]:
        """What has no end of its own."""
        self._begin(self._decoder.decode(b"", final=True))
        rest = self._joined("")
        return [rest] if rest else []

    def _begin(self, text: str) -> None:
        if text:
            self._begun.append(text)
            self._characters += len(text)
        if self._characters > LINE_CHARACTERS_MAX:
            raise too_large(f"a line exceeds {LINE_CHARACTERS_MAX} characters")

    def _joined(self, end: str) -> str:
        line = "".join((*self._begun, end))
        self._begun.clear()
        self._characters = 0
        return line
