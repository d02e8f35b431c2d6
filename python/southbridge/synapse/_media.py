# Synapse is not in the venv of the checks.
# pyright: reportMissingImports=false
"""Files that homeservers and others send, written by the kernel into what Synapse has opened for them.

Synapse hands the body of a response to a protocol that writes into a file, by way of a hash. Where the two are those that
are known, the kernel is told the file, writes and hashes the content beside the interpreter, and the protocol is told how
much that was; it then ends, times out and refuses what is too large as ever. Where they are not, what comes is handed to
the protocol.
"""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocol
from zope.interface import implementer

from southbridge import Response
from southbridge._kernel import Exchange
from southbridge.adapters._twisted_bodies import Exchanging, Upload
from southbridge.adapters.twisted import AgentResponse, Asked, KernelAgent, answered
from southbridge.synapse import _needs

logger = logging.getLogger("southbridge.synapse")


class FileAgent(KernelAgent):
    """As `KernelAgent`; whatever is got may go into a file."""

    def _answered(self, exchange: Exchange, asked: Asked, upload: Upload | None) -> Deferred[Any]:
        if asked.method != b"GET" or upload is not None:
            return super()._answered(exchange, asked, upload)
        return answered_into_file(exchange, asked)


def answered_into_file(exchange: Exchange, asked: Asked) -> Deferred[Any]:
    """As `answered`, for what may go into a file."""
    waiting = exchange.waiting()
    return answered(waiting, asked, respond=partial(MediaResponse, waiting))


class MediaResponse(AgentResponse):
    """A response whose body is held back in the kernel until it is said where it goes."""

    def __init__(self, exchange: Exchange, head: Response, asked: Asked, exchanging: Exchanging) -> None:
        super().__init__(head, asked, exchanging)
        self._exchange = exchange

    def deliverBody(self, protocol: Any) -> None:  # noqa: N802
        destination = _destination(protocol)
        if destination is not None and destination.begin(self._exchange):
            protocol = _Keeper(protocol, self._exchange, destination)
        self._exchange.finish()
        super().deliverBody(protocol)


class _Destination:
    """A file, and how a protocol counts what goes into it."""

    def __init__(self, protocol: Any, is_part: bool, hashing: Any) -> None:
        self._protocol = protocol
        self._is_part = is_part
        self._hashing: Any = None
        self._file: Any = protocol.stream
        self._at = 0
        if type(self._file) is hashing:
            self._hashing, self._file = self._file, self._file._source
        if not isinstance(self._file, io.BufferedWriter):
            # One with a name for a while is inside of something else.
            self._file = getattr(self._file, "file", self._file)

    def begin(self, exchange: Exchange) -> bool:
        """Tell the kernel the file; False when it is none that can be written beside Python."""
        file = self._file
        if not isinstance(file, (io.BufferedWriter, io.BufferedRandom)):
            return False
        file.flush()
        self._at = file.tell()
        # A hash that something has gone into already cannot be gone on with elsewhere.
        if self._hashing is not None and self._at:
            return False
        bytes_max = self._protocol.max_length if self._is_part else self._protocol.max_size
        # It errs at so many, and not after.
        left = 2**63 if bytes_max is None else max(bytes_max - 1, 0)
        return exchange.keep(file.fileno(), self._at, left, self._is_part)

    def take(self, kept: tuple[int, int, Any, bool]) -> None:
        """What was kept is in the file, as if the protocol had written it."""
        _begins_at, length, digest, _is_too_large = kept
        self._file.seek(self._at + length)
        if self._hashing is not None:
            self._hashing._hash = digest
        protocol = self._protocol
        if self._is_part:
            protocol.file_length += length
            protocol.total_length += length
        else:
            protocol.length += length

    def overflow(self) -> None:
        """More came than may: the protocol finds that it has so much, and ends."""
        if self._is_part:
            self._protocol.total_length = self._protocol.max_length
        else:
            self._protocol.length = self._protocol.max_size
        self._protocol.dataReceived(b"")


@implementer(IProtocol)  # pyright: ignore[reportUntypedClassDecorator]
class _Keeper:
    """Stands before a protocol of Synapse while the kernel writes its file."""

    def __init__(self, protocol: Any, exchange: Exchange, destination: _Destination) -> None:
        self._protocol = protocol
        self._exchange = exchange
        self._destination = destination
        self._passed = 0
        self._is_taken = self._is_over = False
        # Whatever ends it, a timeout too: the kernel is not to go on.
        protocol.deferred.addBoth(self._end)

    def makeConnection(self, transport: Any) -> None:  # noqa: N802
        self._transport = transport
        self._protocol.makeConnection(transport)

    def connectionMade(self) -> None:  # noqa: N802
        """The protocol is told of it by `makeConnection`."""

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        kept = None if self._is_taken else self._exchange.kept
        if kept is not None:
            before = data[: kept[0] - self._passed]
            if before:
                self._pass(before)
            data = data[len(before) :]
            self._take(kept)
        if data:
            self._pass(data)

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        kept = None if self._is_taken else self._exchange.kept
        if kept is not None:
            self._take(kept)
        self._is_over = True
        self._protocol.connectionLost(reason)

    def _pass(self, data: bytes) -> None:
        self._passed += len(data)
        self._protocol.dataReceived(data)

    def _take(self, kept: tuple[int, int, Any, bool]) -> None:
        self._is_taken = True
        # Of one that has ended, the file may be closed.
        if not self._protocol.deferred.called:
            self._destination.take(kept)
            if kept[3]:
                self._destination.overflow()

    def _end(self, result: Any) -> Any:
        if not self._is_over:
            self._is_over = True
            self._transport.abortConnection()
        return result


@dataclass(frozen=True)
class _Known:
    """What Synapse hands bodies to: a protocol for all of one, one for its parts, and what hashes on the way to a file."""

    whole: Any
    parts: Any
    hashing: Any


def _known() -> _Known | None:
    """None when this Synapse has others."""
    lacking = _needs.lacking({}, _needs.MEDIA)
    if lacking:
        logger.info("files of homeservers pass through Python: %s", "; ".join(lacking))
        return None
    from synapse.http.client import _MultipartParserProtocol, _ReadBodyWithMaxSizeProtocol
    from synapse.media.media_storage import SHA256TransparentIOWriter

    return _Known(_ReadBodyWithMaxSizeProtocol, _MultipartParserProtocol, SHA256TransparentIOWriter)


_KNOWN = _known()


def _destination(protocol: Any) -> _Destination | None:
    if _KNOWN is None or type(protocol) not in (_KNOWN.whole, _KNOWN.parts):
        return None
    return _Destination(protocol, type(protocol) is _KNOWN.parts, _KNOWN.hashing)
