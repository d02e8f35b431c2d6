"""The I/O kernel of Southbridge inside Python: one client for asyncio, Twisted, trio, Tornado, gevent and threads.

A call returns a `Response` everywhere. In an event loop it is awaited; in a greenlet or a thread the call waits::

    response = await southbridge.get("https://example.org/")   # asyncio, Twisted, trio, Tornado
    response = southbridge.get("https://example.org/")         # gevent, threads
"""

import atexit
import os

from southbridge import _kernel
from southbridge._cookies import Cookie, CookieData, Cookies
from southbridge._downloads import Progress, Saved, Transfer
from southbridge._errors import (
    AddressDeniedError,
    BodyStoppedError,
    CancelledError,
    ConnectFailedError,
    CutError,
    DecodeFailedError,
    FailedError,
    FileFailedError,
    ForkedError,
    HostDownError,
    InvalidRequestError,
    InvalidSettingError,
    NameNotFoundError,
    NotAwaitedError,
    NotReadyError,
    OverloadedError,
    PeerMisbehavedError,
    RedirectRefusedError,
    RequestError,
    SouthbridgeError,
    StatisticsFullError,
    StatusError,
    StoppedError,
    TimedOutError,
    TlsFailedError,
    TooLargeError,
    TooManyRedirectsError,
)
from southbridge._kernel import (
    Breaker,
    Client,
    Counter,
    Gauge,
    Headers,
    Histogram,
    Limits,
    Mark,
    Response,
    Retry,
    Statistics,
    Timeout,
    Tls,
    __version__,
    counter,
    debug_socket,
    gauge,
    histogram,
    mark,
    ready,
    statistics,
)
from southbridge._services import (
    Changes,
    Readiness,
    ReadyCheck,
    Service,
    ServiceState,
    readiness,
    service,
    services,
)
from southbridge._streams import BlockingResponse, Stream, StreamedResponse

__all__ = [
    "AddressDeniedError",
    "BlockingResponse",
    "BodyStoppedError",
    "Breaker",
    "CancelledError",
    "Changes",
    "Client",
    "ConnectFailedError",
    "Cookie",
    "CookieData",
    "Cookies",
    "Counter",
    "CutError",
    "DecodeFailedError",
    "FailedError",
    "FileFailedError",
    "ForkedError",
    "Gauge",
    "Headers",
    "Histogram",
    "HostDownError",
    "InvalidRequestError",
    "InvalidSettingError",
    "Limits",
    "Mark",
    "NameNotFoundError",
    "NotAwaitedError",
    "NotReadyError",
    "OverloadedError",
    "PeerMisbehavedError",
    "Progress",
    "Readiness",
    "ReadyCheck",
    "RedirectRefusedError",
    "RequestError",
    "Response",
    "Retry",
    "Saved",
    "Service",
    "ServiceState",
    "SouthbridgeError",
    "Statistics",
    "StatisticsFullError",
    "StatusError",
    "StoppedError",
    "Stream",
    "StreamedResponse",
    "TimedOutError",
    "Timeout",
    "Tls",
    "TlsFailedError",
    "TooLargeError",
    "TooManyRedirectsError",
    "Transfer",
    "__version__",
    "counter",
    "debug_socket",
    "delete",
    "download",
    "gauge",
    "get",
    "head",
    "histogram",
    "mark",
    "options",
    "patch",
    "post",
    "put",
    "readiness",
    "ready",
    "request",
    "service",
    "services",
    "statistics",
    "stream",
]

_client = Client()
request = _client.request
stream = _client.stream
download = _client.download
get = _client.get
head = _client.head
options = _client.options
post = _client.post
put = _client.put
patch = _client.patch
delete = _client.delete

os.register_at_fork(after_in_child=_kernel.after_fork_in_child)
atexit.register(_kernel.shutdown)
