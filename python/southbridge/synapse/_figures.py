# Synapse is not in the venv of the checks.
# pyright: reportMissingImports=false
"""Synapse's own metrics of what it sends: they keep their names and meanings where it is the kernel that sends.

What the kernel counts comes along when it is asked how far it has come, so it is as old as that: at most half a second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import synapse.federation.sender as stock
from synapse.federation.sender.per_destination_queue import sent_edus_by_type, sent_edus_counter
from synapse.http.matrixfederationclient import incoming_responses_counter, outgoing_requests_counter
from synapse.metrics import SERVER_NAME_LABEL, sent_transactions_counter

from southbridge._kernel import BusProgress

if TYPE_CHECKING:
    from southbridge.synapse._sender import KernelSender


class Figures:
    """Counts what the kernel tells, and shows what waits in it."""

    def __init__(self, server_name: str) -> None:
        self._server_name = server_name
        self._label = {SERVER_NAME_LABEL: server_name}
        self.waiting = self.edus_waiting = self.destinations = 0

    @property
    def is_quiet(self) -> bool:
        """Whether nothing waited when the kernel was asked last."""
        return not (self.waiting or self.edus_waiting or self.destinations)

    def forget(self) -> None:
        """The kernel is another, in which nothing waits."""
        self.waiting = self.edus_waiting = self.destinations = 0

    def count(self, progress: BusProgress) -> None:
        """Add up what has happened."""
        self.waiting = progress.waiting
        self.edus_waiting = progress.edus_waiting
        self.destinations = progress.destinations
        sent_transactions_counter.labels(**self._label).inc(progress.transactions)
        for edu_type, count in progress.edus:
            if count:
                sent_edus_counter.labels(**self._label).inc(count)
                sent_edus_by_type.labels(type=edu_type, **self._label).inc(count)
        if progress.requests:
            outgoing_requests_counter.labels(method="PUT", **self._label).inc(progress.requests)
        for status, count in progress.answers:
            incoming_responses_counter.labels(method="PUT", code=status, **self._label).inc(count)

    def show(self, instance_id: str, sender: KernelSender) -> None:
        """Have the gauges of Synapse's sender show what waits in its queues and in the kernel, together."""
        self._hook(stock.transaction_queue_pending_pdus_gauge, instance_id, lambda: self._pdus(sender))
        self._hook(stock.transaction_queue_pending_edus_gauge, instance_id, lambda: self._edus(sender))
        self._hook(
            stock.transaction_queue_pending_destinations_gauge, instance_id, lambda: self._everybody(sender)
        )

    def _hook(self, gauge: Any, instance_id: str, value: Callable[[], int]) -> None:
        gauge.unregister_hooks_for_homeserver_instance_id(instance_id)
        gauge.register_hook(homeserver_instance_id=instance_id, hook=lambda: {(self._server_name,): value()})

    def _pdus(self, sender: KernelSender) -> int:
        return self.waiting + sum(int(queue.pending_pdu_count()) for queue in sender.queues())

    def _edus(self, sender: KernelSender) -> int:
        return self.edus_waiting + sum(int(queue.pending_edu_count()) for queue in sender.queues())

    def _everybody(self, sender: KernelSender) -> int:
        # Those whose transaction the kernel carries are among the kernel's.
        carrying = sender.transactions.carrying
        running = (
            queue.destination
            for queue in sender.queues()
            if queue.transmission_loop_running and queue.destination not in carrying
        )
        return self.destinations + sum(1 for _ in running)
