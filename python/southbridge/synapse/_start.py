"""Who has something to catch up when the process begins: found out once, for all homeservers.

Synapse's own queues look for themselves, one by one, when there is first something to be sent: four questions to the
database for each homeserver of a room. Whoever lags behind here is left to do that; everybody else has nothing to catch up.
"""

# Synapse is not in the venv of the checks.
# pyright: reportMissingImports=false
from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

logger = logging.getLogger("southbridge.synapse")

# Who has not been sent everything, and who is backed off from.
_LAGGING = """
SELECT destination FROM destinations INNER JOIN destination_rooms USING (destination)
    WHERE stream_ordering > last_successful_stream_ordering
UNION SELECT destination FROM destinations WHERE retry_interval > 0
"""
# Who is waited for with a message to a device, or with a change of one.
_DEVICES = """
SELECT destination FROM device_federation_outbox
UNION SELECT destination FROM device_lists_outbound_pokes
"""
_REACHED = "SELECT destination FROM destinations WHERE last_successful_stream_ordering IS NOT NULL"


class Start:
    """What the database said of homeservers before anything was sent."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._is_known = False
        self._lagging: frozenset[str] = frozenset()
        self._devices: frozenset[str] = frozenset()
        self._reached: frozenset[str] = frozenset()
        self.floor = 0
        """The position up to which all events had been handed in by then."""

    async def look(self) -> None:
        """Ask the database. Until then, and if it cannot be asked like that, everybody may have something to catch up."""
        try:
            self.floor = await self._store.get_federation_out_pos("events")
            lagging, devices, reached = await self._store.db_pool.runInteraction("southbridge_start", _ask)
        except Exception:
            logger.exception("every queue looks for itself what there is to catch up")
            return
        self._lagging, self._reached = frozenset(lagging), frozenset(reached)
        self._devices = frozenset(devices) - self._lagging
        self._is_known = True

    def forget(self) -> None:
        """It may be otherwise since: until it is asked again, everybody may have something to catch up."""
        self._is_known = False

    def has_nothing_to_catch_up(self, destination: str) -> bool:
        """Whether ``destination``, of which nobody has asked for anything yet, can be live at once."""
        return self._is_known and destination not in self._lagging and destination not in self._devices

    def has_devices_only(self) -> Iterable[str]:
        """For whom there is something about devices, and no event."""
        return self._devices if self._is_known else ()

    def was_reached(self, destination: str) -> bool:
        """Whether Synapse could catch ``destination`` up."""
        return destination in self._reached


def _ask(txn: Any) -> list[list[str]]:
    answers: list[list[str]] = []
    for question in (_LAGGING, _DEVICES, _REACHED):
        txn.execute(question)
        answers.append([destination for (destination,) in txn])
    return answers
