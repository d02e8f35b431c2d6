"""What can go wrong: one tree, whose root is `SouthbridgeError`.

The kernel names its failures, and the exception of a name is that name and ``Error``.
"""

from __future__ import annotations

# Not from `typing`, which takes longer to import than all of this package.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from southbridge._kernel import Response


class SouthbridgeError(Exception):
    """Everything that this package raises of its own accord, wrong arguments apart."""


class RequestError(SouthbridgeError):
    """A request ended without a response.

    ``step`` says how far it had come: ``admission``, ``discovery``, ``connect``, ``handshake``, ``request``,
    ``response`` or ``body``. ``is_repeatable`` says whether asking again cannot make the peer do the work twice.
    """

    step: str = "admission"
    is_repeatable: bool = False


class BadRequestError(RequestError, ValueError):
    """The request itself cannot be sent."""


class QueueFullError(RequestError):
    """As much waits already as may wait: nothing was sent."""


class AbandonedError(RequestError):
    """The request was given up on this side, by a cancellation."""


class KernelStoppedError(RequestError):
    """The kernel has stopped, because the interpreter is on its way out."""


class ForkedError(SouthbridgeError, RuntimeError):
    """A thing of the parent process was used in a child that was forked off."""


class NotAwaitedError(SouthbridgeError, RuntimeError):
    """A response was touched in an event loop before it was there."""


class StatusError(SouthbridgeError):
    """A response whose status is 400 or above."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"{response.url} answered {response.status} {response.reason}".rstrip())
        self.response = response
