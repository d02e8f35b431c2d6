"""The I/O kernel of Southbridge inside Python: one client for asyncio, Twisted, trio, Tornado, gevent and threads.

A call returns a `Response` everywhere. In an event loop it is awaited; in a greenlet or a thread the call waits::

    response = await southbridge.get("https://example.org/")   # asyncio, Twisted, trio, Tornado
    response = southbridge.get("https://example.org/")         # gevent, threads
"""

import atexit
import os

from southbridge import _kernel
from southbridge._downloads import Progress, Saved, Transfer
from southbridge._errors import (
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
    Client,
    Counter,
    Gauge,
    Headers,
    Histogram,
    Mark,
    Response,
    Statistics,
    Timeout,
    __version__,
    counter,
    debug_socket,
    gauge,
    histogram,
    mark,
    statistics,
)
from southbridge._streams import BlockingResponse, Stream, StreamedResponse

__all__ = [
    "BlockingResponse",
    "BodyStoppedError",
    "CancelledError",
    "Client",
    "ConnectFailedError",
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
    "Mark",
    "NameNotFoundError",
    "NotAwaitedError",
    "OverloadedError",
    "PeerMisbehavedError",
    "Progress",
    "RedirectRefusedError",
    "RequestError",
    "Response",
    "Saved",
    "SouthbridgeError",
    "Statistics",
    "StatisticsFullError",
    "StatusError",
    "StoppedError",
    "Stream",
    "StreamedResponse",
    "TimedOutError",
    "Timeout",
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
    "request",
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
