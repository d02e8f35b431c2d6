# Synapse is not in the venv of the checks.
# pyright: reportMissingImports=false
"""Synapse's queue for one homeserver, which lets go of whatever the kernel can do alone.

It begins as every queue of Synapse: it looks whether there is something to catch up. Once there is not, the homeserver is
*live*: events, typing, presence and receipts go straight to the kernel, for all homeservers at once, and this queue is
asked only when there is something for it in the database. A homeserver that takes nothing for too long is given back, and
catches up again.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any

from synapse.api.errors import RequestSendFailed
from synapse.federation.sender.per_destination_queue import PerDestinationQueue

from southbridge.synapse._daemon import NotTakenError

if TYPE_CHECKING:
    from southbridge.synapse._sender import KernelSender


class LiveQueue(PerDestinationQueue):  # type: ignore[misc]
    """The queue of one homeserver."""

    # Beside the attributes of Synapse's: with five more, objects no longer share the names of them, and weigh fivefold.
    __slots__ = ("_is_asked", "_is_carried", "_is_due", "_is_lost", "_sender")
    _pending_pdus: Any

    def __init__(self, hs: Any, sender: KernelSender, destination: str) -> None:
        super().__init__(hs, sender.transactions, destination)
        self._sender = sender
        self._is_asked = False
        self._is_carried = False
        self._is_due = False
        self._is_lost = False

    @property
    def destination(self) -> str:
        """Whose queue it is."""
        return str(self._destination)

    @property
    def is_live(self) -> bool:
        """Whether the kernel is handed what is for it."""
        return self._destination in self._sender.live

    @property
    def is_asked(self) -> bool:
        """Whether there may be something for it in the database."""
        return self._is_asked

    def ask(self) -> None:
        """There may be something for it in the database."""
        self._is_asked = True

    @property
    def is_busy(self) -> bool:
        """Whether it sends, or has an event to send."""
        return bool(self.transmission_loop_running or self.pending_pdu_count())

    @property
    def is_lost(self) -> bool:
        """Whether it is to look into the database before anything else."""
        return self._is_lost

    def lose(self) -> None:
        """The kernel has lost what there was for it, which was all there was: it is live no more."""
        self._is_lost = True

    def begin_live(self) -> None:
        """It has nothing to catch up, as the database says."""
        self._is_lost = False
        self._catching_up = False  # type: ignore[misc]

    def give_back(self, position: int) -> None:
        """The kernel has nothing for it any more, and everything after ``position`` is still to be sent."""
        self._sender.live.discard(self._destination)
        self._start_catching_up()
        self._last_successful_stream_ordering = position  # type: ignore[misc]

    def try_once(self) -> None:
        """Try at once, and a single time, to catch it up after it was given back."""
        if self.transmission_loop_running:
            # That loop may be past where it would catch up.
            self._is_due = True
        elif not self.is_live:
            self._sender.transactions.once.add(self._destination)
            self.attempt_new_transaction()

    def send_pdu(self, pdu: Any) -> None:
        if self.is_live:
            self._sender.hand_in(pdu, [self._destination])
        elif self._sender.holds(self) and self._sender.can_catch_up(self._destination):
            self._sender.skipped.add(self._destination)
        else:
            super().send_pdu(pdu)

    def send_presence(self, states: Iterable[Any], start_loop: bool = True) -> None:
        if self.is_live:
            self._sender.volatile.presence(states, self._destination)
        else:
            super().send_presence(states, start_loop)

    def queue_read_receipt(self, receipt: Any) -> None:
        if self.is_live:
            self._sender.volatile.receipt(receipt, self._destination)
        else:
            super().queue_read_receipt(receipt)

    def send_keyed_edu(self, edu: Any, key: Hashable) -> None:
        if self.is_live and edu.edu_type in VOLATILE:
            self._sender.volatile.edu(edu.edu_type, key, edu.content, self._destination)
        else:
            self.ask()
            super().send_keyed_edu(edu, key)

    def send_edu(self, edu: Any) -> None:
        self.ask()
        super().send_edu(edu)

    def attempt_new_transaction(self) -> None:
        # What is live is on its way already.
        if self._is_asked if self.is_live else not self._sender.holds(self):
            super().attempt_new_transaction()

    def _start_catching_up(self) -> None:
        # The kernel has what is for it, whatever came of other requests, and says so if it gives up.
        if not self.is_live:
            super()._start_catching_up()

    async def _transaction_transmission_loop(self) -> None:
        self._is_asked = self._is_carried = False
        self._sender.skipped.discard(self._destination)
        if self._is_lost:
            self._is_lost = False
            self._start_catching_up()
            # It is in the database.
            self._last_successful_stream_ordering = None  # type: ignore[assignment,misc]
        try:
            await super()._transaction_transmission_loop()
        finally:
            self._sender.transactions.once.discard(self._destination)
            if self._is_lost:
                # In the middle of it.
                self.attempt_new_transaction()
        if self._is_carried:
            # It lies in the database still.
            self.ask()
        if self._is_due:
            self._is_due = False
            self.try_once()

    def let_go(self, edus: list[Any], *, is_of_database: bool) -> list[Any] | None:
        """What of ``edus`` Synapse must wait for, together with the events it would send now. None if there is nothing to be
        waited for: whatever else there is has been handed to the kernel."""
        if self._is_lost:
            raise RequestSendFailed(NotTakenError("the daemon has gone in between"), can_retry=True)
        lasting = [edu for edu in edus if edu.edu_type not in VOLATILE]
        if is_of_database or lasting:
            self._is_carried = True
            self._hand_in_volatile(edus)
            return lasting
        if self._catching_up:
            # It was given back while it was looked for in the database.
            self._hand_in_volatile(edus)
            return None
        self._sender.go_live(self._destination, self._last_successful_stream_ordering, self._take_pending())
        self._hand_in_volatile(edus)
        return None

    def carried(self) -> None:
        """What was waited for has come."""
        self._is_carried = False

    def _take_pending(self) -> list[Any]:
        """The events that are pending; none are any more."""
        raise NotImplementedError

    def _hand_in_volatile(self, edus: list[Any]) -> None:
        """What may be lost goes along with what the kernel sends next, and is counted there."""
        for edu in edus:
            if edu.edu_type in VOLATILE:
                self._sender.volatile.edu(edu.edu_type, None, edu.content, self._destination)


VOLATILE = ("m.typing", "m.presence", "m.receipt")
