# Synapse is not in the venv of the checks.
# pyright: reportMissingImports=false
"""Deliveries, for whoever asked to hear of them: `federation_metrics_domains`, and modules with a callback.

Nothing is kept for anybody else. Of an event that goes to the kernel directly they hear when it is told how far its
destination has come.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Collection, Iterable
from typing import Any

from synapse.federation.sender.transaction_manager import last_pdu_ts_metric
from synapse.metrics import SERVER_NAME_LABEL
from synapse.module_api.callbacks.federation import FederatedEventDeliveryMethod

logger = logging.getLogger("southbridge.synapse")


class Deliveries:
    """Remembers which events are under way to whom, as long as somebody wants to hear of it."""

    def __init__(self, hs: Any) -> None:
        self._hs = hs
        self._callbacks = hs.get_module_api_callbacks().federation
        self._domains: Collection[str] = frozenset(hs.config.federation.federation_metrics_domains)
        # No more than the kernel holds for each of them: whoever is given back is forgotten.
        self._under_way: dict[str, list[Any]] = {}
        self._refused: set[tuple[str, str]] = set()
        self._news: deque[tuple[str, list[Any]]] = deque(maxlen=NEWS_MAX)
        self._is_telling = False

    def handed_in(self, pdu: Any, destinations: Iterable[str]) -> None:
        """``pdu`` is in the kernel for ``destinations``."""
        for destination in self._watched(destinations):
            self._under_way.setdefault(destination, []).append(pdu)

    def refused(self, refused: Iterable[tuple[str, str, str]]) -> None:
        """What homeservers do not acknowledge."""
        if self._under_way:
            self._refused.update((who, event_id) for who, event_id, _ in refused if who in self._under_way)

    def given_back(self, destination: str) -> None:
        """What was under way to ``destination`` is Synapse's business again."""
        self._under_way.pop(destination, None)

    def told(self, destination: str, position: int) -> None:
        """``destination`` has everything up to ``position``."""
        under_way = self._under_way.get(destination)
        if under_way is None:
            return
        come = [pdu for pdu in under_way if pdu.internal_metadata.stream_ordering <= position]
        left = [pdu for pdu in under_way if pdu.internal_metadata.stream_ordering > position]
        if left:
            self._under_way[destination] = left
        else:
            del self._under_way[destination]
        self._show(destination, come)
        taken = [pdu for pdu in come if (destination, pdu.event_id) not in self._refused]
        self._refused.difference_update((destination, pdu.event_id) for pdu in come)
        if taken and self._callbacks.interested_in_events_delivered_over_federation():
            self._news.append((destination, taken))
            if not self._is_telling:
                self._hs.run_as_background_process("southbridge_deliveries", self._tell)

    async def carried(
        self, destination: str, pdus: list[Any], refused: Iterable[tuple[str, str, str]]
    ) -> None:
        """``destination`` has what Synapse's queue had carried to it."""
        self._show(destination, pdus)
        against = {event_id for _, event_id, _ in refused}
        await self._notify(destination, [pdu for pdu in pdus if pdu.event_id not in against])

    def _watched(self, destinations: Iterable[str]) -> Iterable[str]:
        if self._callbacks.interested_in_events_delivered_over_federation():
            return destinations
        return [one for one in destinations if one in self._domains] if self._domains else ()

    def _show(self, destination: str, pdus: list[Any]) -> None:
        if pdus and destination in self._domains:
            label = {"destination_server_name": destination, SERVER_NAME_LABEL: self._hs.hostname}
            last_pdu_ts_metric.labels(**label).set(pdus[-1].origin_server_ts / 1000)

    async def _tell(self) -> None:
        # One after another, as they came; a callback that takes its time holds up nothing but this.
        self._is_telling = True
        try:
            while self._news:
                if len(self._news) == NEWS_MAX:
                    logger.warning("on_event_delivered_over_federation is too slow: it misses deliveries")
                await self._notify(*self._news.popleft())
        finally:
            self._is_telling = False

    async def _notify(self, destination: str, pdus: list[Any]) -> None:
        await self._callbacks.notify_on_event_delivered_over_federation(
            destination, pdus, FederatedEventDeliveryMethod.SEND
        )


# Deliveries of which a module has yet to hear. It misses the oldest when there are more.
NEWS_MAX = 10_000
