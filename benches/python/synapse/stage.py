"""A Synapse on a core of its own, rooms of several sizes, and the homeservers that are members of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.synapses import Synapse, until

from .cores import SYNAPSE_CORE, Quota
from .peers import Peers
from .watching import is_idle


@dataclass(frozen=True)
class Way:
    """How Synapse sends: by itself, or with the module configured in this way."""

    name: str
    module: dict[str, Any] | None


STOCK, MODULE = Way("stock", None), Way("module", {})


class Stage:
    """Everything that is the same for both ways, the database included."""

    def __init__(self, folder: Path, sizes: set[int]) -> None:
        self.peers = Peers(folder, max(sizes))
        self.synapse = Synapse(folder, self.peers.ca_file)
        self.rooms: dict[int, str] = {}
        try:
            self._fill(sizes)
        except BaseException:
            self.synapse.kill()
            raise

    @contextmanager
    def running(self, way: Way, share: float) -> Iterator[Synapse]:
        """Synapse in this way, with this share of its core, idle at first."""
        self.synapse.start(way.module, wrap=("taskset", "-c", str(SYNAPSE_CORE)))
        quota = Quota(self.synapse.pid, share) if share < 1 else None
        try:
            self.until_idle()
            yield self.synapse
        finally:
            self.synapse.end()
            if quota is not None:
                quota.close()

    def until_idle(self) -> None:
        """Wait until it is: what follows from what was measured (positions that are written down, say) belongs to it."""
        until(lambda: is_idle(self.synapse.pid), "Synapse is idle", 600)

    def _fill(self, sizes: set[int]) -> None:
        # Nobody is told of the joins while they come: a thousand of them are half a million transactions.
        self.synapse.start(federation_sender_instances=["nobody"])
        self.synapse.register("alice")
        for size in sorted(sizes):
            room = self.rooms[size] = self.synapse.room()
            for number in range(size):
                self.peers.join(number, self.synapse.port, self.synapse.name, room)
                if number % 50 == 49:
                    print(f"{number + 1} of {size} homeservers have joined", file=sys.stderr, flush=True)
        self.synapse.end()
        self.synapse.change(
            "UPDATE federation_stream_position SET stream_id = (SELECT MAX(stream_ordering) FROM events) "
            "WHERE type = 'events'"
        )
