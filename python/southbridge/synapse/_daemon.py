# Synapse is not in the venv of the checks.
# pyright: reportMissingImports=false
"""The bus of a homeserver in another process: at the module door of a ``southbridge serve``, which several processes share.

It does what `Bus` does in this process. It may not be there: the daemon has not been started yet, or is started again.
Then nothing is taken (`NotTakenError`), and whoever listens is told when it is there again, with a bus that knows of
nothing: all of it is in Synapse's database.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import struct
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any, Protocol, cast

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import UNIXClientEndpoint
from twisted.internet.protocol import Factory
from twisted.protocols.basic import Int32StringReceiver

from southbridge import SouthbridgeError, __version__
from southbridge._kernel import no_server_names

logger = logging.getLogger("southbridge.synapse")

PROTOCOL = 1
"""What is spoken: `crates/doors/southbridge/src/module_door/words.rs` describes it."""


class NotTakenError(SouthbridgeError):
    """The daemon is not there, or has no room: nobody's fault with whom Synapse wants to speak."""


class Listener(Protocol):
    """Whoever is to know whether the bus is there."""

    def bus_is_there(self) -> None:
        """A bus is there that knows of nothing."""

    def bus_is_lost(self) -> None:
        """What was handed in is nowhere any more but in the database. What was waited for has failed before this."""

    def bus_is_closing(self, hang_up: Callable[[], None]) -> None:
        """The daemon ends: the bus is to be closed, which says how far it has come, and then the connection."""


class DaemonBus:
    """A bus at the socket ``path``, opened with what ``hello`` says. Used in the reactor's thread."""

    def __init__(self, reactor: Any, path: str, hello: dict[str, Any]) -> None:
        self._reactor = reactor
        self._path = path
        self._hello = hello
        # Twisted does not say what it takes.
        self._endpoint: Any = cast("Any", UNIXClientEndpoint)(reactor, path, timeout=CONNECT_MAX)
        self._line: _Line | None = None
        self._listener: Listener | None = None
        self._last = 0
        self._waiting: dict[int, tuple[int, Deferred[Any] | None]] = {}
        self._bytes_waiting = 0
        self._delay = DELAY_MIN
        self._trouble: str | None = None
        self._is_stopped = False
        self._retry: Any = None

    @property
    def bus(self) -> DaemonBus:
        """What does what `Bus` does."""
        return self

    @property
    def is_there(self) -> bool:
        """Whether something can be handed in."""
        return self._line is not None and self._line.is_welcome

    def start(self, listener: Listener) -> None:
        """Connect, and stay connected; ``listener`` is told."""
        self._listener = listener
        self._connect()

    def stop(self) -> None:
        """Disconnect for good."""
        self._is_stopped = True
        if self._retry is not None and self._retry.active():
            self._retry.cancel()
        if self._line is not None:
            self._line.transport.loseConnection()

    def answer(self, ask: Callable[[], int]) -> Deferred[Any]:
        """What the ticket that ``ask`` gives is answered with. The Deferred fires outside of any log context."""
        deferred: Deferred[Any] = Deferred()
        ticket = ask()
        self._waiting[ticket] = (self._waiting[ticket][0], deferred)
        return deferred

    def send_pdu(self, pdu: bytes, event_id: str, destinations: Iterable[str], position: int) -> list[str]:
        """Hand in an event for all ``destinations``. Gives those that are no server names."""
        wanted = list(destinations)
        unfit = no_server_names(wanted)
        to = [one for one in wanted if one not in unfit] if unfit else wanted
        if to:
            self._ask({"send_pdu": {"event_id": event_id, "position": position, "to": to}}, pdu)
        return unfit

    def send_edu(self, edu_type: str, content: bytes, destinations: Iterable[str], now_ms: int) -> None:
        """Hand in typing, presence or receipts for all ``destinations``."""
        wanted = list(destinations)
        unfit = no_server_names(wanted)
        to = [one for one in wanted if one not in unfit] if unfit else wanted
        if to:
            self._ask({"send_edu": {"edu_type": edu_type, "at_ms": now_ms, "to": to}}, content)

    def carry(
        self,
        destination: str,
        pdus: Sequence[tuple[bytes, str]],
        edus: Sequence[tuple[str, bytes]],
        now_ms: int,
        *,
        patience: float | None = None,
    ) -> int:
        """Carry this to one destination; the ticket is answered when it is there."""
        request = {
            "to": _name(destination),
            "pdus": [(len(pdu), event_id) for pdu, event_id in pdus],
            "edus": [(len(content), edu_type) for edu_type, content in edus],
            "at_ms": now_ms,
            "patience": patience,
        }
        body = b"".join([*(pdu for pdu, _ in pdus), *(content for _, content in edus)])
        return self._ask({"carry": request}, body)

    def progress(self, floor: int) -> int:
        """Ask how far it has come, now that everything up to ``floor`` was handed in."""
        return self._ask({"progress": {"floor": floor}})

    def heard(self, destination: str) -> int:
        """``destination`` has said something."""
        return self._ask({"heard": {"to": _name(destination)}})

    def wake(self, destination: str) -> int:
        """``destination`` is back."""
        return self._ask({"wake": {"to": _name(destination)}})

    def give_back(self, destination: str) -> int:
        """Give it back at once."""
        return self._ask({"give_back": {"to": _name(destination)}})

    def close(self, floor: int) -> int:
        """Close it; the ticket is answered with how far it has come."""
        return self._ask({"close": {"floor": floor}})

    def _ask(self, request: dict[str, Any], body: bytes = b"") -> int:
        line = self._line
        if line is None or not line.is_welcome:
            raise NotTakenError(f"the daemon at {self._path} is not there")
        ticket = self._last + 1
        head = json.dumps([ticket, request], separators=(",", ":")).encode()
        size = len(head) + len(body)
        if size > FRAME_BYTES_MAX:
            raise NotTakenError(f"{size} bytes are more than is said at once ({FRAME_BYTES_MAX})")
        if self._bytes_waiting + size > BYTES_WAITING_MAX or len(self._waiting) >= WAITING_MAX:
            raise NotTakenError(
                f"{len(self._waiting)} requests with {self._bytes_waiting} bytes wait for the daemon already"
            )
        self._last = ticket
        self._bytes_waiting += size
        self._waiting[ticket] = (size, None)
        line.say(head, body)
        return ticket

    def _connect(self) -> None:
        reason = insecure(self._path)
        if reason is not None:
            self._is_in_trouble(reason)
            self._connect_later()
            return
        factory = Factory.forProtocol(lambda: _Line(self))
        self._endpoint.connect(factory).addErrback(self._is_not_there)

    def _is_not_there(self, failure: Any) -> None:
        self._is_in_trouble(
            f"nobody listens at {self._path} ({failure.getErrorMessage()}): start `southbridge serve` with that socket as "
            "`listen` under [module], and see that Synapse's user may open it"
        )
        self._connect_later()

    def _is_silent(self, line: _Line) -> None:
        if line is self._line and not line.is_welcome and not self._is_stopped:
            self._is_in_trouble(
                f"the daemon at {self._path} does not answer: see whether southbridge.service runs"
            )

    def _is_in_trouble(self, reason: str) -> None:
        # Once, and again when it is another.
        if reason != self._trouble:
            self._trouble = reason
            logger.error("southbridge waits for its daemon, and sends nothing: %s", reason)

    def _connect_later(self) -> None:
        if not self._is_stopped:
            self._retry = self._reactor.callLater(self._delay, self._connect)
            self._delay = min(self._delay * 2, DELAY_MAX)

    def line_begun(self, line: _Line) -> None:
        """It is connected."""
        if self._is_stopped:
            line.transport.loseConnection()
            return
        self._line = line
        hello = {"protocol": PROTOCOL, "version": __version__, **self._hello}
        line.say(json.dumps(hello).encode(), b"")
        # systemd keeps the socket while nobody serves it, and what is said there waits.
        self._reactor.callLater(WELCOME_MAX, self._is_silent, line)

    def line_welcomed(self, line: _Line, welcome: Any) -> None:
        """The daemon has answered its greeting."""
        refused = welcome.get("refused")
        if welcome.get("protocol") != PROTOCOL:
            refused = (
                f"the daemon is of southbridge {welcome.get('version')} and speaks protocol {welcome.get('protocol')}, this "
                f"is southbridge {__version__} and speaks protocol {PROTOCOL}: install the same release in both places"
            )
        if refused is not None:
            self._is_in_trouble(f"the daemon at {self._path} refuses: {refused}")
            self._delay = DELAY_MAX
            line.transport.loseConnection()
            return
        line.is_welcome = True
        self._delay = DELAY_MIN
        self._trouble = None
        logger.info("southbridge sends by the daemon at %s (southbridge %s)", self._path, welcome["version"])
        if self._listener is not None:
            self._listener.bus_is_there()

    def line_heard(self, line: _Line, said: list[Any]) -> None:
        """The daemon has said something."""
        ticket, reply = said
        if ticket == UNASKED:
            if self._listener is not None:
                self._listener.bus_is_closing(line.transport.loseConnection)
            return
        size, deferred = self._waiting.pop(ticket)
        self._bytes_waiting -= size
        settle(deferred, _result(reply))

    def line_ended(self, line: _Line) -> None:
        """It has ended, however."""
        if line is not self._line:
            return
        self._line = None
        waiting, self._waiting = self._waiting, {}
        self._bytes_waiting = 0
        if line.is_welcome and not self._is_stopped:
            logger.warning("the daemon at %s has gone", self._path)
        lost = NotTakenError(f"the daemon at {self._path} has gone")
        for _, deferred in waiting.values():
            if deferred is not None:
                deferred.errback(lost)
        if line.is_welcome and self._listener is not None:
            self._listener.bus_is_lost()
        self._connect_later()


class _Line(Int32StringReceiver):
    """One connection."""

    MAX_LENGTH = 256 << 20
    transport: Any

    def __init__(self, bus: DaemonBus) -> None:
        self._bus = bus
        self._is_new = True
        self.is_welcome = False

    def say(self, head: bytes, body: bytes) -> None:
        """Write one frame."""
        self.transport.write(struct.pack("!II", 4 + len(head) + len(body), len(head)) + head + body)

    def connectionMade(self) -> None:  # noqa: N802
        self._bus.line_begun(self)

    def stringReceived(self, string: bytes) -> None:  # noqa: N802
        said = json.loads(string)
        if self._is_new:
            self._is_new = False
            self._bus.line_welcomed(self, said)
        else:
            self._bus.line_heard(self, said)

    def connectionLost(self, reason: Any = None) -> None:  # noqa: N802
        self._bus.line_ended(self)


class DaemonError(Exception):
    """What the daemon did not do, and why."""


def settle(deferred: Deferred[Any] | None, result: object) -> None:
    """Tell whoever waits for it what came of something; of what nobody waits for, that it failed is logged."""
    if deferred is None:
        if isinstance(result, Exception):
            logger.warning("the bus did not take something: %s", result)
    elif isinstance(result, Exception):
        deferred.errback(result)
    else:
        deferred.callback(result)


def _result(reply: Any) -> Any:
    if reply == "done":
        return None
    [(kind, said)] = reply.items()
    if kind == "failed":
        return DaemonError(said)
    if kind == "progress":
        return SimpleNamespace(**said)
    return said


def _name(destination: str) -> str:
    if no_server_names([destination]):
        raise ValueError(f"{destination!r} is no server name")
    return destination


def insecure(path: str) -> str | None:
    """Why the keys of a homeserver are not handed over at ``path``, if they must not be."""
    folder = os.path.dirname(path)
    try:
        mode = os.stat(folder).st_mode
    except OSError as error:
        return f"{folder} cannot be looked at ({error.strerror}): make it, or see that Synapse's user may"
    if mode & stat.S_IWOTH:
        return (
            f"everybody can write into {folder}, and whoever puts a socket there first would be given the signing keys: "
            "put it into a directory of the daemon's user"
        )
    return None


# Seconds.
CONNECT_MAX = 10
WELCOME_MAX = 10
DELAY_MIN = 0.1
DELAY_MAX = 10.0
# What the daemon takes by default.
FRAME_BYTES_MAX = 16 << 20
# What waits to be answered; the daemon answers at once, except for what is carried.
BYTES_WAITING_MAX = 256 << 20
WAITING_MAX = 65_000
UNASKED = 0
