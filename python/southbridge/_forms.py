"""Files of forms, and open files as bodies: what of them the kernel reads itself, and what is read here."""

from __future__ import annotations

import io
import os
from collections import deque

from southbridge._feeding import READ_BYTES, Source, stopped

# Not from `typing`, which takes longer to import than all of this package.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any


def descriptor(file: Any) -> tuple[int, int, str] | None:
    """Descriptor, place and name of ``file``, if reading it gives what is on the disk.

    That is known of the files that `open` makes, and of temporary ones around them. Others may have a descriptor and
    decode what comes from it, as gzip does; a file that is open as text does too.
    """
    if type(file).__module__ == "tempfile":
        file = getattr(file, "file", file)
    raw = file.raw if type(file) in (io.BufferedReader, io.BufferedRandom) else file
    if type(raw) is not io.FileIO or not (file.readable() and file.seekable()):
        return None
    if file is not raw and raw.writable():
        file.flush()
    return file.fileno(), file.tell(), str(file.name)


class Content:
    """One part of a form that is read here, in pieces: of `bytes` in all, where that is known beforehand."""

    def __init__(self, content: Any) -> None:
        self._file: Any = None
        self._path: Any = None
        self.bytes: int | None = None
        if isinstance(content, io.BytesIO):
            self.bytes = max(0, len(content.getbuffer()) - content.tell())
        elif hasattr(content, "__fspath__"):
            self._path = content
            self.bytes = os.stat(content).st_size
        else:
            known = descriptor(content)
            if known is not None:
                fd, at, _name = known
                self.bytes = max(0, os.fstat(fd).st_size - at)
        self._left = self.bytes
        self._source = None if self._path is not None else Source(content)

    async def next(self) -> bytes | None:
        """The next piece; None when that was all. What it grows by meanwhile is not sent."""
        if self._left == 0:
            self._close()
            return None
        piece = await self._opened().next()
        if piece is None:
            self._close()
            if self._left:
                raise stopped("a file became shorter while it was read")
            return None
        if self._left is not None:
            piece = piece[: self._left]
            self._left -= len(piece)
        return piece

    def _opened(self) -> Source:
        if self._source is None:
            try:
                self._file = open(self._path, "rb")  # noqa: SIM115 - it is closed at its end
            except OSError as error:
                raise stopped(str(error)) from error
            self._source = Source(self._file)
        return self._source

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()


class Form(Source):
    """The body of a form, of which parts are read here: ``stretches`` before, between and behind ``contents``."""

    def __init__(self, stretches: list[bytes], contents: list[Any]) -> None:
        parts = [Content(content) for content in contents]
        told = sum(len(stretch) for stretch in stretches)
        sizes = [part.bytes for part in parts]
        self.bytes = None if None in sizes else told + sum(size or 0 for size in sizes)
        self._rest: deque[bytes | Content] = deque()
        for stretch, part in zip(stretches, parts, strict=False):
            self._rest.extend((stretch, part))
        self._rest.append(stretches[-1])

    async def next(self) -> bytes | None:
        """The next piece; None when that was all.

        Raises `BodyStoppedError` when a file cannot be read.
        """
        while self._rest:
            part = self._rest[0]
            if isinstance(part, bytes):
                self._rest.popleft()
                for_now = part[:READ_BYTES]
                if len(part) > READ_BYTES:
                    self._rest.appendleft(part[READ_BYTES:])
                return for_now
            piece = await part.next()
            if piece is not None:
                return piece
            self._rest.popleft()
        return None
