# Synapse is not in the venv of the checks.
# pyright: reportMissingImports=false
"""How far every homeserver has come: asked of the kernel now and then, written into Synapse's database in one go."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from synapse.logging.context import make_deferred_yieldable

from southbridge._kernel import BusProgress
from southbridge.synapse._daemon import NotTakenError
from southbridge.synapse._reactor import Reader
from southbridge.synapse._start import Start
from southbridge.synapse._transactions import log_refused

if TYPE_CHECKING:
    from southbridge.synapse._sender import KernelSender

logger = logging.getLogger("southbridge.synapse")


class Progress:
    """Writes down what the kernel tells."""

    def __init__(self, hs: Any, sender: KernelSender, reader: Reader, start: Start) -> None:
        self._hs = hs
        self._store = hs.get_datastores().main
        self._sender = sender
        self._reader = reader
        self._start = start
        self._floor = 0
        # The last position that was handed in.
        self._handed_in = 0
        # How often there is still to be asked. Twice once all is quiet: what ended in the moment of the answer is in the next.
        self._turns = 0
        self._is_closed = False
        # Places that are to be written, and who is to be caught up once his is.
        self._unwritten: dict[str, int] = {}
        self._given_back: set[str] = set()

    def stir(self) -> None:
        """Something is on its way: there will be something to be told."""
        self._turns = TURNS

    def handed_in(self, position: int) -> None:
        """An event at ``position`` is about to be handed in."""
        self._handed_in = max(self._handed_in, position)
        self.stir()

    def begin(self, destination: str) -> None:
        """``destination`` was never reached; what was not handed in yet is to reach it, whatever happens."""
        self._unwritten.setdefault(destination, max(self._floor, self._start.floor))
        self.stir()

    def give_back(self, destination: str, position: int) -> None:
        """``destination`` catches up from ``position`` on."""
        queue = self._sender.queue(destination)
        if queue is None or not queue.is_live:
            return
        queue.give_back(position)
        self._unwritten[destination] = position
        self._given_back.add(destination)
        self._sender.deliveries.given_back(destination)
        self.stir()

    async def write(self) -> None:
        """Ask the kernel, and write down what it tells."""
        if not self._turns or self._is_closed:
            return
        if not self._reader.is_there:
            await self._write_places()
            return
        self._turns -= 1
        # What was handed in up to here was handed in before the kernel is asked.
        if self._floor < self._handed_in:
            self._floor = await self._store.get_federation_out_pos("events")
        floor, handed_in = self._floor, self._handed_in
        bus = self._reader.bus
        try:
            told = await make_deferred_yieldable(self._reader.answer(lambda: bus.progress(floor)))
        except NotTakenError:
            # Gone in between. What was told is written in any case, before anything is caught up.
            return
        await self.take(told)
        if told.told or not self._sender.figures.is_quiet or self._unwritten or floor < handed_in:
            self.stir()

    async def close(self) -> None:
        """Let what is under way end, for a moment, and write down what is known then."""
        if self._is_closed:
            return
        self._is_closed = True
        if not self._reader.is_there:
            await self._write_places()
            self._reader.stop()
            return
        floor = await self._store.get_federation_out_pos("events")
        bus = self._reader.bus
        with contextlib.suppress(NotTakenError):
            await self.take(await make_deferred_yieldable(self._reader.answer(lambda: bus.close(floor))))
        self._reader.stop()

    async def leave(self, hang_up: Callable[[], None]) -> None:
        """A daemon ends: let what is under way end, for a moment, write down what is known then, and hang up."""
        try:
            floor = await self._store.get_federation_out_pos("events")
            bus = self._reader.bus
            with contextlib.suppress(NotTakenError):
                await self.take(await make_deferred_yieldable(self._reader.answer(lambda: bus.close(floor))))
        finally:
            hang_up()

    def stop(self) -> None:
        """Nobody waits for what is under way."""
        if not self._is_closed:
            self._is_closed = True
            with contextlib.suppress(NotTakenError):
                self._reader.bus.close(0)
            self._reader.stop()

    async def settle(self) -> None:
        """Write down whatever was told and is not written yet."""
        while self._unwritten or self._given_back:
            await self._write_places()

    async def take(self, progress: BusProgress) -> None:
        """Write down what the kernel tells. What it says of live homeservers is noted at once."""
        log_refused(progress.refused)
        self._sender.figures.count(progress)
        deliveries = self._sender.deliveries
        deliveries.refused(progress.refused)
        delivered: list[str] = []
        for destination, position, is_given_back in progress.told:
            deliveries.told(destination, position)
            if is_given_back:
                self.give_back(destination, position)
            elif destination in self._sender.live:
                self._unwritten[destination] = position
                delivered.append(destination)
        await self._write_places()
        # Whoever takes something is not to be backed off from, whatever came of other requests.
        await self._sender.transactions.clear_back_offs(delivered)

    async def _write_places(self) -> None:
        # What cannot be written now is written with the next turn: the kernel tells a place once.
        places, given_back = dict(self._unwritten), set(self._given_back)
        await self._store_positions(places)
        for destination, position in places.items():
            if self._unwritten.get(destination) == position:
                del self._unwritten[destination]
        self._given_back -= given_back
        for number, destination in enumerate(given_back):
            logger.info(
                "TX [%s] has taken nothing for too long: it will be caught up",
                destination,
            )
            queue = self._sender.queue(destination)
            if queue is not None:
                # It may have been back before this was heard of. If not, Synapse backs off from it, and hears of it after that.
                self._hs.get_reactor().callLater(number * TRIED_EVERY, queue.try_once)

    async def _store_positions(self, positions: dict[str, int]) -> None:
        if positions:
            await self._store.db_pool.simple_upsert_many(
                table="destinations",
                key_names=("destination",),
                key_values=[(destination,) for destination in positions],
                value_names=("last_successful_stream_ordering",),
                value_values=[(position,) for position in positions.values()],
                desc="southbridge_store_positions",
            )


TURNS = 2
# Seconds between two of those who are given back at the same time: each is looked for in the database.
TRIED_EVERY = 0.01
