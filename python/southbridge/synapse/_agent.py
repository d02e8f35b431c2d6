# Synapse is not in the venv of the checks.
# pyright: reportMissingImports=false
"""What Synapse asks homeservers for, carried by the kernel: profiles, joins, invites, keys, events, backfill, media.

Synapse makes and signs the requests, and reads the responses; between the two is an agent of Twisted. The kernel finds the
homeserver, by the resolver and the rules of the bus, and asks it on the same connections, in the class of what is asked
for: a profile is not behind a thousand transactions, and backfill is behind everything.
"""

from __future__ import annotations

import logging
import re
from functools import partial
from typing import Any

from synapse.http.client import BlocklistingAgentWrapper
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.internet.interfaces import IConsumer
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent
from zope.interface import implementer

from southbridge._kernel import Bus
from southbridge.adapters.twisted import Asked, answered, lines, translated
from southbridge.synapse._media import FileAgent, answered_into_file
from southbridge.synapse._reactor import reader_of
from southbridge.synapse._settings import Settings, open_web_client
from southbridge.synapse._web import WebAgent, as_unknown

logger = logging.getLogger("southbridge.synapse")


def take_over(hs: Any, settings: Settings) -> None:
    """Have the kernel carry what ``hs`` asks homeservers for, if the kernel sends for it."""
    reader = reader_of(hs, settings)
    if reader is None:
        return
    agent = FederationAgent(reader.bus, WebAgent(FileAgent(open_web_client(hs))))
    # As Synapse wraps its own: addresses that are server names are refused before anybody is asked.
    hs.get_federation_http_client().agent = BlocklistingAgentWrapper(
        agent, ip_blocklist=hs.config.server.federation_ip_range_blocklist
    )
    logger.info("southbridge asks homeservers for Synapse")


@implementer(IAgent)  # pyright: ignore[reportUntypedClassDecorator]
class FederationAgent:
    """Asks homeservers by ``bus``, and whatever else they redirect to by ``web``. Used in the reactor's thread."""

    def __init__(self, bus: Bus, web: Any) -> None:
        self._bus = bus
        self._web = web

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: Any = None,  # noqa: N803
    ) -> Deferred[Any]:
        """Fires when the head of the response has come, or fails as `Agent` does. Cancelling it cancels in the kernel."""
        if not uri.startswith(SCHEME):
            answer: Deferred[Any] = self._web.request(method, uri, _unsigned(headers), bodyProducer)
            return answer
        asked = Asked(method, uri, headers)
        return gather(bodyProducer).addCallback(partial(self._ask, asked))

    def _ask(self, asked: Asked, body: bytes) -> Deferred[Any]:
        waits = asked.method == b"GET" and MEDIA.match(asked.absoluteURI) is not None
        try:
            exchange = self._bus.ask(
                asked.method.decode("ascii"),
                asked.absoluteURI.decode("ascii"),
                lines(asked.headers),
                body or None,
            )
            answer = answered_into_file(exchange, asked) if waits else answered(exchange, asked)
        except Exception:
            answer = fail()
        return answer.addErrback(partial(translated, None)).addErrback(as_unknown)


def _unsigned(headers: Headers | None) -> Headers | None:
    """What goes along to where a homeserver redirects. Its signature is for that homeserver, and Synapse leaves it on."""
    if headers is None:
        return None
    kept = headers.copy()
    kept.removeHeader(b"Authorization")
    return kept


@implementer(IConsumer)  # pyright: ignore[reportUntypedClassDecorator]
class _Whole:
    """Takes everything: what Synapse sends to homeservers lies in its memory already."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.pieces.append(data)

    def registerProducer(self, producer: Any, streaming: bool) -> None:  # noqa: N802
        raise RuntimeError("a body is written, and nothing is registered for it")

    def unregisterProducer(self) -> None:  # noqa: N802
        """Nobody is."""


def gather(producer: Any) -> Deferred[bytes]:
    """Fires with all that ``producer`` makes. Cancelling it stops the producer."""
    if producer is None:
        return succeed(b"")
    whole = _Whole()
    gathered: Deferred[bytes] = Deferred(lambda _: producer.stopProducing())

    def end(result: Any) -> None:
        # One that was stopped may say so, or nothing.
        if not gathered.called:
            gathered.callback(result if isinstance(result, Failure) else b"".join(whole.pieces))

    maybeDeferred(producer.startProducing, whole).addBoth(end)
    return gathered


SCHEME = b"matrix-federation://"
MEDIA = re.compile(SCHEME + rb"[^/]+/_matrix/(?:federation/[^/]+/)?media/")
