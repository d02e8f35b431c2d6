"""The bus in Twisted's reactor: what is waited for, and the ear at its descriptor. It is in this process, or a daemon's."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

from southbridge._kernel import Bus
from southbridge.synapse._daemon import DaemonBus, Listener, settle
from southbridge.synapse._settings import Settings, asks_elsewhere, hello_of, open_bus

logger = logging.getLogger("southbridge.synapse")


@implementer(IReadDescriptor)  # pyright: ignore[reportUntypedClassDecorator]
class BusReader:
    """What the reactor calls when something has come back. Everything happens in its thread."""

    def __init__(self, reactor: Any, bus: Bus) -> None:
        self.bus = bus
        self._reactor = reactor
        self._waiting: dict[int, Deferred[Any]] = {}
        reactor.addReader(self)

    @property
    def is_there(self) -> bool:
        """Whether something can be handed in: it is in this process."""
        return True

    def start(self, listener: Listener) -> None:
        """Tell ``listener`` that it is there."""
        listener.bus_is_there()

    def answer(self, ask: Callable[[], int]) -> Deferred[Any]:
        """What the ticket that ``ask`` gives is drained with. The Deferred fires outside of any log context."""
        deferred: Deferred[Any] = Deferred()
        self._waiting[ask()] = deferred
        return deferred

    def stop(self) -> None:
        """Watch no more."""
        self._reactor.removeReader(self)

    def fileno(self) -> int:
        return self.bus.fileno()

    def doRead(self) -> None:  # noqa: N802
        for ticket, result in self.bus.drain():
            settle(self._waiting.pop(ticket, None), result)

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        pass

    def logPrefix(self) -> str:  # noqa: N802
        return "southbridge"


_readers: WeakKeyDictionary[Any, BusReader | None] = WeakKeyDictionary()


def reader_of(hs: Any, settings: Settings) -> BusReader | None:
    """The bus of the homeserver ``hs`` in this process, opened when it is first asked for; None, and a line in the log,
    when there can be none."""
    if hs not in _readers:
        if asks_elsewhere(hs, settings):
            logger.info("what Synapse asks homeservers for goes where outbound_federation_restricted_to says")
            _readers[hs] = None
            return None
        try:
            _readers[hs] = BusReader(hs.get_reactor(), open_bus(hs, settings))
        except Exception as error:
            logger.error("Synapse is left as it is: southbridge cannot be set up: %s", error)
            _readers[hs] = None
    return _readers[hs]


Reader = BusReader | DaemonBus
"""A bus, and what is waited for."""


def sender_of(hs: Any, settings: Settings) -> Reader | None:
    """The bus by which the homeserver ``hs`` sends; None, and a line in the log, when there can be none."""
    if settings.daemon is None:
        return reader_of(hs, settings)
    try:
        hello = hello_of(hs, settings)
    except Exception as error:
        logger.error("Synapse is left as it is: southbridge cannot be set up: %s", error)
        return None
    return DaemonBus(hs.get_reactor(), settings.daemon, hello)
