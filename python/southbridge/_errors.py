"""What can go wrong: one tree, whose root is `SouthbridgeError`.

The kernel names its failures, and the exception of a name is that name and ``Error``.
"""

from __future__ import annotations

# Not from `typing`, which takes longer to import than all of this package.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from southbridge._kernel import Response
    from southbridge._services import Readiness


class SouthbridgeError(Exception):
    """Everything that this package raises of its own accord, wrong arguments apart."""


class RequestError(SouthbridgeError):
    """A request ended without a response.

    ``step`` says how far it had come: ``admission``, ``discovery``, ``connect``, ``handshake``, ``request``,
    ``response`` or ``body``. ``is_repeatable`` says whether asking again cannot make the peer do the work twice.
    """

    step: str = "admission"
    is_repeatable: bool = False


class InvalidRequestError(RequestError, ValueError):
    """The request cannot be sent as it is. Nothing was sent."""


class InvalidSettingError(RequestError, ValueError):
    """A setting makes no sense."""


class OverloadedError(RequestError):
    """Refused on this side before anything was done: as much waits already as may wait."""


class HostDownError(RequestError):
    """The service has been failing; it is not asked for a moment.

    ``service`` is its name, ``failures`` how many requests have failed in a row, ``failing_for`` for how many seconds it has
    been failing, ``retry_in`` in how many a request may go out again, to see whether it is back.
    """

    service: str = ""
    failures: int = 0
    failing_for: float = 0.0
    retry_in: float = 0.0


class NameNotFoundError(RequestError):
    """The name leads nowhere."""


class ConnectFailedError(RequestError, ConnectionError):
    """No connection could be had."""


class AddressDeniedError(ConnectFailedError):
    """Whatever the name leads to must not be dialled."""


class TlsFailedError(RequestError):
    """TLS could not be agreed on, or the certificate is not good."""


class TimedOutError(RequestError, TimeoutError):
    """Time ran out."""


class CutError(RequestError, ConnectionError):
    """The connection broke."""


class PeerMisbehavedError(RequestError):
    """The peer answered what HTTP does not allow."""


class TooLargeError(RequestError):
    """More came than is taken."""


class DecodeFailedError(RequestError):
    """The body is encoded in a way that cannot be undone, or should not be."""


class TooManyRedirectsError(RequestError):
    """Redirects without end."""


class RedirectRefusedError(RequestError):
    """A redirect that must not, or cannot, be followed."""


class BodyStoppedError(RequestError):
    """The body of the request stopped coming."""


class FileFailedError(RequestError, OSError):
    """A file could not be read or written."""


class CancelledError(RequestError):
    """It was given up on this side, and awaited all the same."""


class StoppedError(RequestError):
    """The kernel has stopped, because the interpreter is on its way out."""


class FailedError(RequestError):
    """A bug of ours; the message says what is known."""


class NotReadyError(SouthbridgeError, TimeoutError):
    """Services were waited for, and could not be asked in time. ``readiness`` says how all of them did then."""

    def __init__(self, message: str, readiness: Readiness) -> None:
        super().__init__(message)
        self.readiness = readiness


class StatisticsFullError(SouthbridgeError):
    """There is no room for another figure: too many names, or too many values of their labels."""


class ForkedError(SouthbridgeError, RuntimeError):
    """A thing of the parent process was used in a child that was forked off."""


class NotAwaitedError(SouthbridgeError, RuntimeError):
    """A response was touched in an event loop before it was there."""


class StatusError(SouthbridgeError):
    """A response whose status is 400 or above."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"{response.url} answered {response.status} {response.reason}".rstrip())
        self.response = response
