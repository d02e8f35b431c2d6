# Synapse is not in the venv of the checks.
# pyright: reportMissingImports=false
"""Typing, presence and receipts: what is said of the same thing in one turn of the reactor goes out in one call."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from canonicaljson import encode_canonical_json
from synapse.handlers.presence import format_user_presence_state

from southbridge._kernel import Bus
from southbridge.synapse._daemon import DaemonBus

logger = logging.getLogger("southbridge.synapse")


class Volatile:
    """Gathers EDUs that may be lost, until the reactor has its next turn."""

    def __init__(
        self, reactor: Any, bus: Bus | DaemonBus, now_ms: Callable[[], int], on_handed_in: Callable[[], None]
    ) -> None:
        self._reactor = reactor
        self._bus = bus
        self._now_ms = now_ms
        self._on_handed_in = on_handed_in
        # What is said, by what tells it apart, and for whom. It is held, so that no other thing has its `id`.
        self._said: dict[Hashable, tuple[Callable[[], Iterable[tuple[str, Any]]], list[str], object]] = {}

    def edu(self, edu_type: str, key: Hashable, content: Any, destination: str) -> None:
        """One EDU; its content is the same for all destinations of one turn that have the same ``key``."""
        tag = (edu_type, id(content) if key is None else key, repr(content))
        self._say(tag, lambda: [(edu_type, content)], destination, content)

    def presence(self, states: Iterable[Any], destination: str) -> None:
        """The same states for each destination of one call of the sender."""
        self._say(("m.presence", id(states)), lambda: self._presence(states), destination, states)

    def receipt(self, receipt: Any, destination: str) -> None:
        """The same receipt for each destination of one call of the sender."""
        self._say(
            ("m.receipt", id(receipt)), lambda: [("m.receipt", _receipt(receipt))], destination, receipt
        )

    def flush(self) -> None:
        """Hand in what was gathered."""
        said, self._said = self._said, {}
        self._on_handed_in()
        for contents, destinations, _held in said.values():
            for edu_type, content in contents():
                try:
                    self._bus.send_edu(edu_type, encode_canonical_json(content), destinations, self._now_ms())
                except Exception as error:
                    # It may be lost.
                    logger.info("%s for %d destinations was dropped: %s", edu_type, len(destinations), error)

    def _say(
        self,
        tag: Hashable,
        contents: Callable[[], Iterable[tuple[str, Any]]],
        destination: str,
        held: object,
    ) -> None:
        if not self._said:
            self._reactor.callLater(0, self.flush)
        known = self._said.get(tag)
        if known is None:
            self._said[tag] = (contents, [destination], held)
        else:
            known[1].append(destination)

    def _presence(self, states: Iterable[Any]) -> Iterable[tuple[str, Any]]:
        now = self._now_ms()
        formatted = [format_user_presence_state(state, now) for state in states]
        for start in range(0, len(formatted), STATES_MAX):
            yield "m.presence", {"push": formatted[start : start + STATES_MAX]}


def _receipt(receipt: Any) -> dict[str, Any]:
    data = dict(receipt.data)
    if receipt.thread_id is not None:
        data["thread_id"] = receipt.thread_id
    of_user = {receipt.user_id: {"event_ids": list(receipt.event_ids), "data": data}}
    return {receipt.room_id: {receipt.receipt_type: of_user}}


# As many as Synapse puts into one.
STATES_MAX = 50
