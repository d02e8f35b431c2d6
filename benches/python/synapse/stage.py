"""A Synapse on a core of its own, rooms of several sizes, and the homeservers that are members of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.daemons import Daemon
from tests.synapses import Synapse, until

from .cores import SYNAPSE_CORE, Quota
from .peers import Peers
from .watching import is_idle


@dataclass(frozen=True)
class Way:
    """How Synapse sends: by itself, or with the module configured in this way, whose kernel may be a daemon's."""

    name: str
    module: dict[str, Any] | None
    has_daemon: bool = False


STOCK, MODULE, DAEMON = Way("stock", None), Way("module", {}), Way("daemon", {}, has_daemon=True)


class Stage:
    """Everything that is the same for both ways, the database included."""

    def __init__(self, folder: Path, sizes: set[int]) -> None:
        self.peers = Peers(folder, max(sizes))
        self.synapse = Synapse(folder, self.peers.ca_file)
        self.rooms: dict[int, str] = {}
        self.folder = folder
        self._daemon: Daemon | None = None
        try:
            self._fill(sizes)
        except BaseException:
            self.synapse.kill()
            raise

    @contextmanager
    def running(self, way: Way, share: float) -> Iterator[Synapse]:
        """Synapse in this way, with this share of its core, which a daemon of its own has part in; idle at first."""
        on_its_core = ("taskset", "-c", str(SYNAPSE_CORE))
        with ExitStack() as ending:
            quota = Quota(share) if share < 1 else None
            if quota is not None:
                ending.callback(quota.close)
            module = way.module
            if way.has_daemon:
                ending.callback(self._end_daemon)
                # A new one each time: what it remembers of others from the last time is nothing a first message has.
                self._daemon = Daemon(self.folder / f"daemon-{time.monotonic_ns()}", self.peers.ca_file)
                self._daemon.start(on_its_core)
                module = {**(module or {}), "daemon": str(self._daemon.socket)}
            ending.callback(self.synapse.end)
            self.synapse.start(module, wrap=on_its_core)
            if quota is not None:
                quota.hold(self.pids)
            self.until_idle()
            yield self.synapse

    def _end_daemon(self) -> None:
        if self._daemon is not None:
            self._daemon.end()
            self._daemon = None

    @property
    def pids(self) -> list[int]:
        """The processes that do the work of Synapse as it runs now."""
        return [self.synapse.pid, *([self._daemon.pid] if self._daemon is not None else [])]

    def until_idle(self) -> None:
        """Wait until it is: what follows from what was measured (positions that are written down, say) belongs to it."""
        until(lambda: is_idle(self.pids), "Synapse is idle", 600)

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
