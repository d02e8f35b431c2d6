"""The releases of Synapse that the tests were run with, and in what they differ.

Every month has a release, and in most of them a queue of the sender works as in the month before. Where it does not, what is
asked of it and the class that lets go of what the kernel can do (`_turns`) stand beside each other here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_QUEUE = "synapse.federation.sender.per_destination_queue"

Calls = Mapping[str, tuple[str, ...] | None]
"""Names, and their parameters; None where those do not matter."""


@dataclass(frozen=True)
class Release:
    """What is particular to a release."""

    queue: str
    """The class in `_turns` that is its queue."""
    calls: Calls
    """What it must have besides that which all of them must."""


_PREPARED = ("pdus", "edus", "to_device_message_stream_id", "device_list_stream_id", "last_stream_ordering")

# A transaction is prepared, sent, and completed; it may be one of sticky events.
_STICKY = Release(
    "StickyQueue",
    {
        f"{_QUEUE}:PerDestinationQueue._complete_transaction": ("self", "transaction"),
        f"{_QUEUE}:PerDestinationQueue._prepare_transaction": ("self",),
        f"{_QUEUE}:_PreparedTransaction": (*_PREPARED, "sticky_events"),
    },
)

# As after it, and there are no sticky events.
_LISTED = Release(
    "ListedQueue",
    {
        f"{_QUEUE}:PerDestinationQueue._complete_transaction": ("self", "transaction"),
        f"{_QUEUE}:PerDestinationQueue._prepare_transaction": ("self",),
        f"{_QUEUE}:_PreparedTransaction": _PREPARED,
    },
)

# A context is entered with what is to be sent, and left when it was or was not.
_ENTERED = Release(
    "EnteredQueue",
    {
        f"{_QUEUE}:_TransactionQueueManager": (
            "queue",
            "device_stream_id",
            "device_list_id",
            "last_stream_ordering",
            "pdus",
        ),
        f"{_QUEUE}:_TransactionQueueManager.__aenter__": ("self",),
        f"{_QUEUE}:_TransactionQueueManager.__aexit__": ("self", "exc_type", "exc", "tb"),
    },
)

RELEASES: Mapping[str, Release] = {
    "1.163.2": _STICKY,
    "1.162.0": _LISTED,
    "1.161.0": _ENTERED,
    "1.160.0": _ENTERED,
    "1.159.0": _ENTERED,
}
"""Newest first. `cargo xtask synapses` runs the tests with each of them."""


def nearest(version: str) -> Release:
    """The release that ``version`` is most likely to be like: itself, or the one before it; else the oldest."""
    wanted = _number(version)
    before = (release for known, release in RELEASES.items() if _number(known) <= wanted)
    return next(before, _ENTERED)


def _number(version: str) -> tuple[int, ...]:
    # Of "1.164.0rc1": 1, 164.
    return tuple(int(part) for part in version.split(".")[:2])
