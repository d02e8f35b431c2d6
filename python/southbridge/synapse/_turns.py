# Synapse is not in the venv of the checks.
# pyright: reportMissingImports=false
"""What a queue of Synapse's is about to send, in one turn of its loop: seen where each release can be asked for it.

All of them decide as `LiveQueue` does; which is for which release stands in `_releases`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attr
from synapse.federation.sender import per_destination_queue as stock

from southbridge.synapse._queue import LiveQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from southbridge.synapse._releases import Release


class ListedQueue(LiveQueue):
    """Of releases that prepare a transaction, and keep a list of what is pending."""

    __slots__ = ()

    async def _prepare_transaction(self) -> Any:
        transaction = await super()._prepare_transaction()
        if transaction is None:
            self.let_go([], is_of_database=False)
            return None
        kept = self.let_go(transaction.edus, is_of_database=self._is_of_database(transaction))
        return None if kept is None else attr.evolve(transaction, edus=kept)

    async def _complete_transaction(self, transaction: Any) -> None:
        self.carried()
        await super()._complete_transaction(transaction)

    def _is_of_database(self, transaction: Any) -> bool:
        return (
            transaction.to_device_message_stream_id is not None
            or transaction.device_list_stream_id is not None
        )

    def _take_pending(self) -> list[Any]:
        pending, self._pending_pdus = self._pending_pdus, []
        return list(pending)


class StickyQueue(ListedQueue):
    """Of releases that know sticky events, and pending ones by their ids."""

    __slots__ = ()

    def _is_of_database(self, transaction: Any) -> bool:
        return transaction.sticky_events is not None or super()._is_of_database(transaction)

    def _take_pending(self) -> list[Any]:
        pending = list(self._pending_pdus.values())
        self._pending_pdus.clear()
        return pending


class EnteredQueue(LiveQueue):
    """Of releases that enter a context with what is to be sent: `Entered` stands in for it."""

    __slots__ = ()

    def _take_pending(self) -> list[Any]:
        pending, self._pending_pdus = self._pending_pdus, []
        return list(pending)


def queue_of(release: Release) -> Callable[..., LiveQueue]:
    """The queue for ``release``. Synapse uses what belongs to it from here on; its own queues do not notice."""
    if release.queue == EnteredQueue.__name__:
        stock._TransactionQueueManager = _entered(stock._TransactionQueueManager)
    kinds: dict[str, Callable[..., LiveQueue]] = {
        kind.__name__: kind for kind in (StickyQueue, ListedQueue, EnteredQueue)
    }
    return kinds[release.queue]


def _entered(manager: Any) -> Any:
    """Synapse's ``manager`` of one turn, with what the kernel can do let go of."""

    class Entered(manager):  # type: ignore[misc]
        _pdus: list[Any]

        async def __aenter__(self) -> tuple[list[Any], list[Any]]:
            pdus, edus = await super().__aenter__()
            if not isinstance(self.queue, EnteredQueue):
                return pdus, edus
            is_of_database = self._device_stream_id is not None or self._device_list_id is not None
            kept = self.queue.let_go(edus, is_of_database=is_of_database)
            if kept is None:
                # What is left without having been sent is not to be written down as sent.
                self._pdus, self._last_stream_ordering = [], None
                return [], []
            return pdus, kept

        async def __aexit__(self, exc_type: Any, exc: Any, tb: Any) -> None:
            if exc_type is None and isinstance(self.queue, EnteredQueue):
                self.queue.carried()
            await super().__aexit__(exc_type, exc, tb)

    return Entered
