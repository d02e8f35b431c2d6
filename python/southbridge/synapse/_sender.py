# Synapse is not in the venv of the checks.
# pyright: reportMissingImports=false
"""Synapse's federation sender on the kernel: one call for one event and all its destinations.

Synapse computes who is to hear of an event, and writes down that they are to; then the event crosses to the kernel once.
Twice a second the kernel says how far every homeserver has come, and that is written down in one go.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable
from typing import Any

import synapse.federation.sender as stock
from synapse.federation.sender.per_destination_queue import CATCHUP_RETRY_INTERVAL
from synapse.logging.context import PreserveLoggingContext, make_deferred_yieldable
from synapse.metrics import SERVER_NAME_LABEL
from synapse.util.async_helpers import ObservableDeferred
from synapse.util.duration import Duration
from twisted.internet.defer import Deferred

from southbridge import SouthbridgeError
from southbridge.synapse._daemon import NotTakenError
from southbridge.synapse._deliveries import Deliveries
from southbridge.synapse._figures import Figures
from southbridge.synapse._progress import Progress
from southbridge.synapse._queue import LiveQueue
from southbridge.synapse._reactor import Reader, sender_of
from southbridge.synapse._releases import Release
from southbridge.synapse._settings import Settings
from southbridge.synapse._start import Start
from southbridge.synapse._transactions import KernelTransactions, pdu_body
from southbridge.synapse._turns import queue_of
from southbridge.synapse._volatile import Volatile

logger = logging.getLogger("southbridge.synapse")

# What Synapse has on the disk when the module is imported, and not what stands there later.
StockSender: Any = stock.FederationSender


class KernelSender(StockSender):  # type: ignore[misc]
    """A federation sender whose queues are the kernel's."""

    def __init__(self, hs: Any, settings: Settings, reader: Reader, queue: Callable[..., LiveQueue]) -> None:
        # First: the loop that wakes destinations begins in the constructor of Synapse's own.
        self.live: set[str] = set()
        # Those without a queue yet, for whom there may be something in the database.
        self._asked: set[str] = set()
        # How often the kernel was lost, and whether events may pass.
        self._life = 0
        self._is_open = True
        self._shut_gate()
        # To whom an event was not sent because they will be caught up.
        self.skipped: set[str] = set()
        # Those who wait until what was on record at the start has been handed in; None once it has.
        self._held: set[LiveQueue] | None = set()
        self.figures = Figures(hs.hostname)
        self.deliveries = Deliveries(hs)
        self.transactions = KernelTransactions(hs, reader, self.deliveries)
        clock = hs.get_clock()
        self._make_queue = queue
        self._bus = reader.bus
        self._start = Start(hs.get_datastores().main)
        self.progress = Progress(hs, self, reader, self._start)
        self.volatile = Volatile(hs.get_reactor(), reader.bus, clock.time_msec, self.progress.stir)
        super().__init__(hs)
        self.figures.show(hs.get_instance_id(), self)
        self._transaction_manager = self.transactions
        clock.looping_call(
            hs.run_as_background_process,
            Duration(milliseconds=int(settings.write_every * 1000)),
            "southbridge_progress",
            self.progress.write,
        )
        hs.get_reactor().addSystemEventTrigger("before", "shutdown", self._end)
        # Before the first event is on record.
        reader.start(self)

    def bus_is_there(self) -> None:
        """Go on from what the database says: at the start, and whenever there is a daemon again."""
        self.hs.run_as_background_process("southbridge_begin", self._begin, self._life)

    def bus_is_lost(self) -> None:
        """What the kernel had is in the database: whoever was live looks there, and events wait until there is a kernel."""
        self._life += 1
        self._shut_gate()
        self._held = self._held or set()
        self._start.forget()
        self.figures.forget()
        lost_ones = list(self.live)
        self.live.clear()
        for destination in lost_ones:
            self.deliveries.given_back(destination)
            queue = self._per_destination_queues.get(destination)
            if queue is not None:
                queue.lose()

    def bus_is_closing(self, hang_up: Callable[[], None]) -> None:
        """A daemon ends: nothing is handed in any more, and what it has come to is written down."""
        self.hs.run_as_background_process("southbridge_leave", self._leave, hang_up)

    async def _leave(self, hang_up: Callable[[], None]) -> None:
        # No place is told above what Synapse has handed in completely: where it can, it ends what it has begun.
        latest = self.clock.time_msec() + LEAVE_MAX_MS
        while self._is_processing and self.clock.time_msec() < latest:
            await self.clock.sleep(BEGIN_LOOK_EVERY)
        self._shut_gate()
        await self.progress.leave(hang_up)

    async def _begin(self, life: int) -> None:
        """Send what was on record when the process before this one ended. Synapse by itself leaves it until the next event.

        Whoever lags behind is caught up after that: he is sent the latest of a room, and what is on record before it would
        follow it otherwise.
        """
        try:
            await self._look(life)
            if life != self._life:
                return
            self.notify_new_events(self.store.get_room_max_token())
            latest = self.clock.time_msec() + BEGIN_MAX_MS
            while self._is_processing and self.clock.time_msec() < latest:
                await self.clock.sleep(BEGIN_LOOK_EVERY)
        finally:
            if life == self._life:
                held, self._held = self._held or set(), None
                for queue in held:
                    queue.attempt_new_transaction()
        if life == self._life > 0:
            self._try_again()
            await self._wake_destinations_needing_catchup()

    async def _look(self, life: int) -> None:
        """Ask the database who has something to catch up, and let events pass."""
        while True:
            try:
                # Before it is asked: what was told last is as good as written.
                await self.progress.settle()
                break
            except Exception:
                logger.exception("it cannot be written down how far homeservers have come: once more")
                await self.clock.sleep(WAKE_PAGE_EVERY)
        await self._start.look()
        if life == self._life:
            if life > 0:
                self._begin_live_with_devices()
            self._is_open = True
            with PreserveLoggingContext():
                self._opening.callback(None)

    def _begin_live_with_devices(self) -> None:
        """Of whom a message to a device, or a change of one, is all that there is, hears of events as before."""
        for destination in self._start.has_devices_only():
            queue = self._per_destination_queues.get(destination)
            if queue is None or queue.is_busy or destination in self.skipped:
                continue
            self._make_live(destination)
            queue.begin_live()
            queue.ask()

    def _shut_gate(self) -> None:
        # Whoever waits for it already goes on waiting.
        if self._is_open:
            self._is_open = False
            self._opening: Deferred[None] = Deferred()
            self._gate = ObservableDeferred(self._opening, consumeErrors=True)

    def _try_again(self) -> None:
        """Have every queue that failed because there was no kernel look again."""
        for queue in list(self.queues()):
            if queue.is_asked or (not queue.is_live and queue.pending_pdu_count()):
                queue.attempt_new_transaction()

    def holds(self, queue: LiveQueue) -> bool:
        """Whether ``queue`` has to wait; it is told when it has not any more."""
        if self._held is None:
            return False
        self._held.add(queue)
        return True

    def can_catch_up(self, destination: str) -> bool:
        """Whether Synapse can, by what was on record at the start."""
        return self._start.was_reached(destination)

    def queues(self) -> Iterable[LiveQueue]:
        """All queues that there are."""
        queues: Iterable[LiveQueue] = self._per_destination_queues.values()
        return queues

    def queue(self, destination: str) -> LiveQueue | None:
        """The queue of ``destination``; none when it is not to be spoken to."""
        return self._get_per_destination_queue(destination)

    def _get_per_destination_queue(self, destination: str) -> LiveQueue | None:
        queue: LiveQueue | None = self._per_destination_queues.get(destination)
        if queue is not None:
            return queue
        if not self._is_allowed(destination):
            return None
        queue = self._make_queue(self.hs, self, destination)
        self._per_destination_queues[destination] = queue
        if destination in self._asked:
            self._asked.discard(destination)
            queue.ask()
        if self._begins_live(destination):
            queue.begin_live()
        return queue

    def _begins_live(self, destination: str) -> bool:
        """Whether the kernel can be handed what is for ``destination``, which has no queue yet. Most never need one."""
        if destination not in self.live and self._start.has_nothing_to_catch_up(destination):
            self._make_live(destination)
        return destination in self.live

    def _make_live(self, destination: str) -> None:
        self.live.add(destination)
        if not self._start.was_reached(destination):
            self.progress.begin(destination)

    async def _send_pdu(self, pdu: Any, destinations: Iterable[str]) -> None:
        wanted = set(destinations)
        wanted.discard(self.server_name)
        if not wanted:
            return
        label = {SERVER_NAME_LABEL: self.server_name}
        stock.sent_pdus_destination_dist_total.labels(**label).inc(len(wanted))
        stock.sent_pdus_destination_dist_count.labels(**label).inc()
        wanted = {destination for destination in wanted if self._is_allowed(destination)}
        while not self._is_open:
            await make_deferred_yieldable(self._gate.observe())
        # Before anything is sent, so that whatever becomes of it can be caught up from there.
        position = pdu.internal_metadata.stream_ordering
        await self.store.store_destination_rooms_entries(list(wanted), pdu.room_id, position)
        for destination in wanted - self.live:
            queue = self._per_destination_queues.get(destination)
            if queue is None:
                self._begins_live(destination)
            elif queue.is_lost and destination not in self.skipped and self._begins_live(destination):
                queue.begin_live()
        live = wanted & self.live
        if live:
            self.hand_in(pdu, live)
        if len(live) == len(wanted):
            return
        others = await stock.filter_destinations_by_retry_limiter(
            list(wanted - live),
            clock=self.clock,
            store=self.store,
            retry_due_within_ms=CATCHUP_RETRY_INTERVAL,
        )
        for destination in others:
            queue = self._get_per_destination_queue(destination)
            if queue is not None:
                queue.send_pdu(pdu)

    def hand_in(self, pdu: Any, destinations: Iterable[str]) -> None:
        """Hand an event to the kernel for ``destinations``, which are live."""
        position = pdu.internal_metadata.stream_ordering
        try:
            body = pdu_body(pdu)
            if body is None:
                return
            self.progress.handed_in(position)
            unfit = self._bus.send_pdu(body, pdu.event_id, destinations, position)
            self.deliveries.handed_in(pdu, destinations)
        except Exception:
            logger.exception("%s is left to catching up", pdu.event_id)
            unfit = list(destinations)
        for destination in unfit:
            self.progress.give_back(destination, position - 1)

    def go_live(self, destination: str, last_successful: int | None, pending: list[Any]) -> None:
        """``destination`` has nothing to catch up: ``pending``, and all that comes, is the kernel's business."""
        if destination not in self.live:
            self.live.add(destination)
            if last_successful is None:
                # Synapse does not catch up whom it has never reached. From here on it can.
                self.progress.begin(destination)
        for pdu in pending:
            self.hand_in(pdu, [destination])

    async def send_device_messages(self, destinations: Any, immediate: bool = True) -> None:
        for destination in destinations:
            queue = self._per_destination_queues.get(destination)
            if queue is None:
                if self._is_of_this_shard(destination):
                    self._asked.add(destination)
            else:
                queue.ask()
        await super().send_device_messages(destinations, immediate)

    def wake_destination(self, destination: str) -> None:
        # What waits, and whatever is carried next: the kernel remembers for minutes that a host was out of reach.
        with contextlib.suppress(ValueError, NotTakenError):
            self._bus.wake(destination)
        if destination in self.live:
            queue = self.queue(destination)
            if queue is not None:
                queue.ask()
        super().wake_destination(destination)

    def heard_of(self, destination: str) -> None:
        """``destination`` has asked Synapse for something, or told it."""
        self.transactions.heard_of(destination)
        if self.figures.is_quiet or not self._is_of_this_shard(destination):
            return
        if destination in self.live or destination in self.transactions.carrying:
            # Whoever asks is answered, whatever becomes of this.
            with contextlib.suppress(ValueError, SouthbridgeError):
                self._bus.heard(destination)

    async def _wake_destinations_needing_catchup(self) -> None:
        """Wakes those for whom something lies in the database: a page of them at a time, and not one every five seconds."""
        last: str | None = None
        while not self._is_shutdown:
            page = await self.store.get_catch_up_outstanding_destinations(last)
            if not page:
                return
            last = page[-1]
            for destination in page:
                is_ours = self._is_of_this_shard(destination)
                queue = self._get_per_destination_queue(destination) if is_ours else None
                # Of those that are live, something is on its way at any moment.
                if queue is not None and (queue.is_asked or not queue.is_live):
                    queue.attempt_new_transaction()
            await self.clock.sleep(WAKE_PAGE_EVERY)

    def shutdown(self) -> None:
        super().shutdown()
        self.progress.stop()

    def _end(self) -> Any:
        """The process is about to end: what is known by then is written down."""
        self._is_shutdown = True
        self.volatile.flush()
        return self.hs.run_as_background_process("southbridge_end", self.progress.close)

    def _is_of_this_shard(self, destination: str) -> bool:
        return bool(self._federation_shard_config.should_handle(self._instance_name, destination))

    def _is_allowed(self, destination: str) -> bool:
        federation = self.hs.config.federation
        return bool(federation.is_domain_allowed_according_to_federation_whitelist(destination))


def make_sender(settings: Settings, release: Release) -> Callable[[Any], Any]:
    """What stands in for the class of Synapse's sender: makes ours, or, where that cannot be, Synapse's own."""
    queue = queue_of(release)

    def sender(hs: Any) -> Any:
        reader = sender_of(hs, settings)
        return StockSender(hs) if reader is None else KernelSender(hs, settings, reader, queue)

    return sender


WAKE_PAGE_EVERY = Duration(milliseconds=500)
BEGIN_LOOK_EVERY = Duration(milliseconds=50)
# The daemon gives it two seconds.
LEAVE_MAX_MS = 1_000
# Where events never cease to come, nobody waits longer than this for those that were on record.
BEGIN_MAX_MS = 30_000
