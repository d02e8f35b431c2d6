"""What can go wrong with a test itself."""

from __future__ import annotations

from southbridge._errors import SouthbridgeError

# The kernel's clock knows milliseconds. Less than this many seconds is the rounding of floats.
EPSILON = 1e-6


class NothingHappensError(SouthbridgeError):
    """Everybody waits, and nothing is going to happen: in the world this would hang. The message says who waits for what."""
