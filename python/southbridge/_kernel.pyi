"""The native module. Checked against the binary by ``stubtest``."""

from asyncio import AbstractEventLoop
from collections.abc import (
    AsyncIterable,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextvars import Context
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Protocol, TypeAlias, TypeVar, final, overload

from typing_extensions import Self, disjoint_base

from southbridge._cookies import Cookies
from southbridge._downloads import Progress, Transfer
from southbridge._feeding import Source
from southbridge._services import ReadyCheck, State
from southbridge._streams import Stream

__all__ = [
    "AsyncioWaiter",
    "Breaker",
    "Bus",
    "BusProgress",
    "Client",
    "Counter",
    "Exchange",
    "Gauge",
    "Headers",
    "Histogram",
    "Limits",
    "Mark",
    "Port",
    "Rehearsal",
    "Response",
    "Retry",
    "Sha256",
    "Statistics",
    "Timeout",
    "Tls",
    "__version__",
    "after_fork_in_child",
    "blocks_here",
    "clear_cookies",
    "counter",
    "debug_socket",
    "declare_file",
    "declare_service",
    "gauge",
    "give_cookies",
    "histogram",
    "mark",
    "no_server_names",
    "push_service",
    "ready",
    "show_cookies",
    "shutdown",
    "statistics",
    "withdraw_service",
]

__version__: Final[str]

_T = TypeVar("_T")
_Function = TypeVar("_Function", bound=Callable[..., Any])

# Who, which PDU, and why.
_RefusedPdu: TypeAlias = tuple[str, str, str]

_Plain: TypeAlias = str | int | float | bool
_Pairs: TypeAlias = (
    Mapping[str, _Plain]
    | Mapping[str, str]
    | Mapping[str, Iterable[_Plain]]
    | Mapping[str, _Plain | Iterable[_Plain]]
    | Iterable[tuple[str, _Plain]]
)
_HeaderFields: TypeAlias = (
    Mapping[str, str]
    | Mapping[str, bytes]
    | Mapping[bytes, bytes]
    | Iterable[tuple[str | bytes, str | bytes]]
)
_Bytes: TypeAlias = bytes | bytearray | memoryview
_Content: TypeAlias = str | _Bytes
_Path: TypeAlias = PathLike[str]

class _Readable(Protocol):
    """A file, or whatever else can be read: about as much as asked for at a time, and nothing at its end."""

    def read(self, size: int, /) -> _Content | Awaitable[_Content]: ...

_Body: TypeAlias = _Content | _Path | _Readable | Iterable[_Content] | AsyncIterable[_Content]
_Inside: TypeAlias = _Content | _Path | _Readable
_File: TypeAlias = _Inside | tuple[str | None, _Inside] | tuple[str | None, _Inside, str | None]
_Files: TypeAlias = Mapping[str, _File] | Iterable[tuple[str, _File]]
_Auth: TypeAlias = tuple[str, str] | str
_Callback: TypeAlias = Callable[[AsyncioWaiter], object]

def after_fork_in_child() -> None:
    """What a child does first: whatever the parent had is not its own."""

def shutdown() -> None:
    """Stop the I/O thread and join it; what is in flight fails with `KernelStoppedError`. Called at the exit."""

def blocks_here() -> bool:
    """Whether calls block here: in threads, and in greenlets."""

# Name, value, domain, path, when it ends, whether it is secure and for HTTP only.
_Cookie: TypeAlias = tuple[str, str, str, str, int | None, bool, bool]

def show_cookies(client: Client, /) -> list[_Cookie]:
    """The cookies of ``client`` that are still good."""

def give_cookies(client: Client, cookies: Sequence[_Cookie], /) -> None:
    """Keep these as cookies of ``client``. An empty domain is the host of its base URL."""

def clear_cookies(client: Client, name: str | None, domain: str | None, path: str | None, /) -> None:
    """Forget those cookies of ``client`` for which all that is said is so."""

def no_server_names(names: Iterable[str], /) -> list[str]:
    """What of ``names`` cannot be the name of a homeserver."""

def debug_socket() -> Path | None:
    """Where the debug socket of this process lies. None when there is no kernel yet, or ``SOUTHBRIDGE_DEBUG`` is ``off``.

    Raises `SouthbridgeError` when it could not be opened; the message says why.
    """

def mark(name: str, /) -> Mark:
    """Say what the program is doing, for whoever asks it while it hangs: ``with mark("loading cart"):``, ``async with``,
    or as a decorator. Marks nest. 64 bytes of the name are kept.
    """

def _attach_as_io_thread() -> None: ...  # only in the build for tests

_Unit: TypeAlias = Literal["count", "seconds", "bytes", "ratio"]

@final
class Counter:
    """A number that only grows. Its methods may be called in any thread, and cost one atomic add."""

    def add(self, more: float = 1, /) -> None:
        """Add ``more``, which is not negative.

        Raises `ValueError` when it is, or when it has a fraction and the unit has none.
        """

    @property
    def value(self) -> float:
        """The number now, in this process."""

@final
class Gauge:
    """A number that goes up and down. Who sets it had better be alone; anybody may add."""

    def set(self, value: float, /) -> None:
        """The number is ``value`` now."""

    def add(self, more: float = 1, /) -> None:
        """It changes by ``more``, which may be negative."""

    @property
    def value(self) -> float:
        """The number now, in this process."""

@final
class Histogram:
    """How values are spread. Nobody has to think of buckets: they are an eighth of a value wide everywhere."""

    def observe(self, value: float, /) -> None:
        """Count one ``value``, which is not negative."""

    @property
    def count(self) -> int:
        """How many values there were."""

    @property
    def sum(self) -> float:
        """All of them together."""

def counter(
    name: str,
    help: str = "",  # noqa: A002 - what others call it
    *,
    unit: _Unit | None = None,
    labels: dict[str, str] | None = None,
) -> Counter:
    """The counter called ``name`` with these labels: the same one however often it is asked for.

    Without a ``unit`` the end of the name says it (``_seconds``, ``_bytes``, ``_ratio``, each also before ``_total``);
    otherwise it is a count of whole things.

    Raises `ValueError` for a name or label that Prometheus does not take, `TypeError` when the name stands for another
    kind of figure, `StatisticsFullError` when there is no room.
    """

def gauge(
    name: str,
    help: str = "",  # noqa: A002 - what others call it
    *,
    unit: _Unit | None = None,
    labels: dict[str, str] | None = None,
) -> Gauge:
    """The gauge called ``name`` with these labels, as `counter`."""

def histogram(
    name: str,
    help: str = "",  # noqa: A002 - what others call it
    *,
    unit: _Unit | None = None,
    labels: dict[str, str] | None = None,
) -> Histogram:
    """The histogram called ``name`` with these labels, as `counter`."""

@final
class Statistics:
    """Where the figures of this process are."""

    @property
    def path(self) -> Path | None:
        """The file that ``southbridge stats`` reads; None while figures are in memory only."""

    @property
    def prometheus(self) -> str | None:
        """Where Prometheus can ask, at ``/metrics``: ``127.0.0.1:9102``, ``unix:PATH``."""

def statistics(
    *,
    directory: str | _Path | None = None,
    bytes_max: int | None = None,
    prometheus: str | None = None,
    statsd: str | None = None,
    statsd_interval: float | None = None,
    statsd_prefix: str | None = None,
    statsd_tags: Literal["none", "datadog"] | None = None,
    file: str | _Path | None = None,
    file_interval: float | None = None,
) -> Statistics:
    """Say where figures are kept and who is told of them. What is left out stays as the environment says.

    Returns once it is so; the I/O thread publishes from then on. ``prometheus`` is an address to listen at
    (``127.0.0.1:9102``, ``unix:PATH``), ``statsd`` that of a server, ``file`` one that is exchanged at an interval, in the
    text format of Prometheus. Intervals are seconds: 10 for StatsD, 15 for the file. In the path of a file or socket,
    ``{pid}`` is the process; without it, that path is for the process that said so, and not for those forked off.

    Raises `InvalidSettingError`.
    """

@final
class Limits:
    """How much may be under way to a service. What is left out is as for all others."""

    def __new__(
        cls,
        *,
        requests_max: int | None = None,
        connections_max: int | None = None,
        waiting_max: int | None = None,
    ) -> Self: ...
    @property
    def requests_max(self) -> int | None:
        """Requests at a time, waiting or on the wire; one more is an `OverloadedError`."""

    @property
    def connections_max(self) -> int | None:
        """Connections at a time; requests that find all of them taken wait."""

    @property
    def waiting_max(self) -> int | None:
        """Requests that may wait for a connection; one more is an `OverloadedError`."""

@final
class Retry:
    """How often a request to a service may be sent.

    What may have reached it is sent again only where that does no harm, and no more than the retry budget of the kernel
    allows.
    """

    def __new__(cls, attempts_max: int = 3, *, pause: float | None = 0.1) -> Self: ...
    @property
    def attempts_max(self) -> int:
        """Attempts in all, 1 to 10."""

    @property
    def pause(self) -> float | None:
        """Seconds before the second of them, doubled with every further one, up to 5; None: what the service has failed at
        is not sent again."""

@final
class Breaker:
    """When a service is held to be down, and how often it is probed then. Durations are seconds."""

    def __new__(
        cls,
        *,
        failures_max: int = 5,
        errors_max: int = 15,
        grace: float = 1.0,
        probe_after: float = 3.0,
        probe_every_max: float = 5.0,
    ) -> Self: ...
    @property
    def failures_max(self) -> int:
        """Requests in a row without any answer, at least 2."""

    @property
    def errors_max(self) -> int:
        """Answers in a row that were 429 or 5xx."""

    @property
    def grace(self) -> float:
        """Failures this close together of requests that were in flight together are one."""

    @property
    def probe_after(self) -> float:
        """After how long it is first probed, give or take some."""

    @property
    def probe_every_max(self) -> float:
        """The longest between two probes, while there is somebody who asks."""

@final
class Tls:
    """Whom to trust of a service, and as whom to come. The files are read when it is declared."""

    def __new__(
        cls,
        *,
        ca_files: Sequence[str | _Path] = (),
        only_ca_files: bool = False,
        certificate: tuple[str | _Path, str | _Path] | None = None,
        legacy: bool = False,
    ) -> Self: ...
    @property
    def ca_files(self) -> list[Path]:
        """PEM files of certificate authorities that are trusted as well."""

    @property
    def only_ca_files(self) -> bool:
        """Whether the system's are not trusted."""

    @property
    def certificate(self) -> tuple[Path, Path] | None:
        """PEM files with our certificate chain and its key."""

    @property
    def legacy(self) -> bool:
        """Whether it may speak TLS 1.0 and 1.1."""

def ready(*names: str, timeout: float | None = None) -> ReadyCheck:
    """Wait until every service of ``names`` can be asked, or all that are declared where none is named.

    What is returned is awaited for the `Readiness`; in threads and greenlets it is over already.

    Raises `NotReadyError` when they cannot be asked after ``timeout`` seconds; 0 asks how they do now.
    """

def declare_service(
    name: str,
    discovery: str | Iterable[str],
    host: str | None,
    limits: Limits | None,
    retry: Retry | None,
    breaker: Breaker | None,
    tls: Tls | bool,
    /,
) -> None:
    """Declare a service. Returns once it is so; connecting goes on by itself."""

def declare_file(path: str | _Path, /) -> list[str]:
    """Declare the services of a TOML file; their names."""

def push_service(name: str, addresses: Iterable[str], /) -> None:
    """A service that was declared by its addresses is at others from now on."""

def withdraw_service(name: str, /) -> None:
    """Take a service back."""

@final
class Headers(Mapping[str, str]):
    """Header fields: a mapping from names, in any case, to values."""

    def __getitem__(self, key: str, /) -> str: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...
    @overload
    def get(self, key: str, /) -> str | None: ...
    @overload
    def get(self, key: str, default: str, /) -> str: ...
    @overload
    def get(self, key: str, default: _T, /) -> str | _T: ...
    def get_list(self, name: str) -> list[str]:
        """Every value of ``name``, one for each line."""

    def multi_items(self) -> list[tuple[str, str]]:
        """Every line, as a pair of name and value."""

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """Every line, as bytes."""

@disjoint_base
class Response:
    """An answer over HTTP. `await` gives it, once it is there; in threads and greenlets it is there already."""

    def __new__(cls, of: Response) -> Self: ...
    def __await__(self) -> Generator[Any, Any, Response]: ...
    @property
    def is_settled(self) -> bool:
        """Whether it is here, or will never be."""

    @property
    def is_fed(self) -> bool:
        """Whether the body of the request comes in pieces."""

    def take_source(self) -> Source | None:
        """Where the pieces come from, for whoever feeds them; once."""

    def check(self) -> None:
        """Raise the failure, if it came to that."""

    @property
    def status(self) -> int:
        """200, 404 and so on."""

    @property
    def status_code(self) -> int:
        """The same as ``status``, as other clients call it."""

    @property
    def reason(self) -> str:
        """What the peer calls the status, and otherwise everybody: ``Not Found``."""

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""

    @property
    def http_version(self) -> str:
        """The version of HTTP that was spoken: ``HTTP/1.1``, ``HTTP/2``."""

    @property
    def url(self) -> str:
        """Where it came from."""

    @property
    def headers(self) -> Headers:
        """The header fields."""

    @property
    def history(self) -> list[tuple[int, str]]:
        """The redirects that led here, the first first: status and URL of each."""

    @property
    def elapsed(self) -> float:
        """How long all of it took, in seconds, by the kernel's clock."""

    @property
    def content(self) -> bytes:
        """The body."""

    @property
    def text(self) -> str:
        """The body as text, in the charset that the headers name, and otherwise UTF-8."""

    @property
    def charset(self) -> str:
        """The charset that the headers name, and otherwise ``utf-8``."""

    def json(self) -> Any:
        """The body, read as JSON, straight from the kernel's buffer.

        Raises `ValueError` when it is not JSON.
        """

    def raise_for_status(self) -> Self:
        """Itself, if the status is below 400.

        Raises `StatusError`.
        """

@final
class Timeout:
    """How long to wait for what, in seconds. None: no bound."""

    def __new__(
        cls, total: float | None = None, *, connect: float | None = 10.0, read: float | None = 60.0
    ) -> Self: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...
    __hash__: ClassVar[None]  # type: ignore[assignment]
    @property
    def total(self) -> float | None:
        """For all of it: redirects and the body of the response included."""

    @property
    def connect(self) -> float | None:
        """Until there is a connection, the kernel's own queue included."""

    @property
    def read(self) -> float | None:
        """While the peer neither takes nor gives a byte."""

@final
class BusProgress:
    """How far a bus has come. What is counted is counted since it was asked last."""

    @property
    def told(self) -> list[tuple[str, int, bool]]:
        """Who, up to where everything was delivered, and whether what comes after that is the homeserver's again."""

    @property
    def refused(self) -> list[_RefusedPdu]:
        """What destinations said against single events."""

    @property
    def transactions(self) -> int:
        """Transactions delivered, without those that ended something that was carried."""

    @property
    def edus(self) -> list[tuple[str, int]]:
        """Volatile EDUs that went along with transactions, by type."""

    @property
    def requests(self) -> int:
        """Requests with a transaction, whatever came of them."""

    @property
    def answers(self) -> list[tuple[int, int]]:
        """Their answers, by status."""

    @property
    def waiting(self) -> int:
        """Live events that wait, counted for each destination."""

    @property
    def edus_waiting(self) -> int:
        """Parts of volatile EDUs that wait, counted for each destination."""

    @property
    def destinations(self) -> int:
        """Destinations for which something waits or is under way."""

@final
class Bus:
    """The Federation Side Bus of a homeserver in this process, which keeps the truth itself. Used by one thread."""

    def __new__(
        cls,
        server_name: str,
        signing_keys: str,
        *,
        ca_files: Sequence[str | PathLike[str]] = ...,
        only_ca_files: bool = False,
        allow: Sequence[str] = ...,
        deny: Sequence[str] = ...,
        give_back_after: float = 1200.0,
        items_max: int = 5_000,
        bytes_max: int = 67_108_864,
        close_patience: float = 3.0,
        well_known_port: int | None = None,
    ) -> Self: ...
    def fileno(self) -> int:
        """The descriptor to watch for reading."""

    def send_pdu(self, pdu: bytes, event_id: str, destinations: Iterable[str], position: int) -> list[str]:
        """Hand in an event for all destinations; gives those that are no server names."""

    def send_edu(self, edu_type: str, content: bytes, destinations: Iterable[str], now_ms: int) -> None:
        """Hand in typing, presence or receipts for all destinations."""

    def carry(
        self,
        destination: str,
        pdus: Sequence[tuple[bytes, str]],
        edus: Sequence[tuple[str, bytes]],
        now_ms: int,
        *,
        patience: float | None = None,
    ) -> int:
        """Carry this to one destination, after whatever waits for it. The ticket is drained when it is there, or when it
        was tried for ``patience`` seconds (by default ``give_back_after``), and once more then."""

    def ask(
        self,
        method: str,
        uri: str,
        headers: _HeaderFields,
        body: bytes | None = None,
        *,
        timeout: float = 1260.0,
    ) -> Exchange:
        """Ask a homeserver for `matrix-federation://name/path`, with these header fields: to be opened and drawn."""

    def progress(self, floor: int) -> int:
        """Ask how far it has come, now that everything up to `floor` was handed in."""

    def heard(self, destination: str) -> int:
        """``destination`` has said something: what waits for it, if it could not be reached, is tried at once."""

    def wake(self, destination: str) -> int:
        """``destination`` is back: what waits for it is tried at once, and whatever is handed in next."""

    def give_back(self, destination: str) -> int:
        """Give it back at once."""

    def close(self, floor: int) -> int:
        """Close the bus; the ticket is drained with how far it has come."""

    def drain(self) -> list[tuple[int, BusProgress | list[_RefusedPdu] | Exception | None]]:
        """What has come back, by ticket."""

@final
class Client:
    """Settings that several requests share, and cookies. Connections are the kernel's: there is nothing to close."""

    def __new__(
        cls,
        *,
        base_url: str | None = None,
        params: _Pairs | None = None,
        headers: _HeaderFields | None = None,
        auth: _Auth | None = None,
        timeout: float | Timeout | None = None,
        redirects_max: int | None = None,
        decompress: bool | None = None,
        body_bytes_max: int | None = None,
        cookies: bool | _Pairs | None = None,
        http2: bool | None = None,
        proxy: str | None = "environment",
        allow: Sequence[str] | None = None,
        deny: Sequence[str] | None = None,
        connections_max: int | None = None,
        ca_files: Sequence[str | _Path] | None = None,
        only_ca_files: bool | None = None,
        certificate: tuple[str | _Path, str | _Path] | None = None,
        legacy_tls: bool | None = None,
    ) -> Self: ...
    @property
    def cookies(self) -> Cookies:
        """The cookies that it keeps."""

    def request(
        self,
        method: str,
        url: str,
        *,
        params: _Pairs | None = None,
        headers: _HeaderFields | None = None,
        cookies: _Pairs | None = None,
        content: _Body | None = None,
        data: _Pairs | _Content | _Readable | None = None,
        files: _Files | None = None,
        json: object = None,
        auth: _Auth | None = None,
        timeout: float | Timeout | None = None,
        redirects_max: int | None = None,
        decompress: bool | None = None,
        body_bytes_max: int | None = None,
    ) -> Response:
        """Send ``method`` to ``url``."""

    def stream(
        self,
        method: str,
        url: str,
        *,
        params: _Pairs | None = None,
        headers: _HeaderFields | None = None,
        cookies: _Pairs | None = None,
        content: _Body | None = None,
        data: _Pairs | _Content | _Readable | None = None,
        files: _Files | None = None,
        json: object = None,
        auth: _Auth | None = None,
        timeout: float | Timeout | None = None,
        redirects_max: int | None = None,
        decompress: bool | None = None,
        body_bytes_max: int | None = None,
    ) -> Stream:
        """Send ``method`` to ``url``, for bodies in pieces: a context manager, with or without ``async``."""

    def download(
        self,
        url: str,
        path: str | _Path,
        *,
        resume: bool = False,
        progress: Callable[[Progress], object] | None = None,
        bytes_max: int | None = None,
        params: _Pairs | None = None,
        headers: _HeaderFields | None = None,
        cookies: _Pairs | None = None,
        auth: _Auth | None = None,
        timeout: float | Timeout | None = None,
        redirects_max: int | None = None,
    ) -> Transfer:
        """Save what is at ``url`` in the file ``path``: whole, or not at all."""

    def get(
        self,
        url: str,
        *,
        params: _Pairs | None = None,
        headers: _HeaderFields | None = None,
        cookies: _Pairs | None = None,
        content: _Body | None = None,
        data: _Pairs | _Content | _Readable | None = None,
        files: _Files | None = None,
        json: object = None,
        auth: _Auth | None = None,
        timeout: float | Timeout | None = None,
        redirects_max: int | None = None,
        decompress: bool | None = None,
        body_bytes_max: int | None = None,
    ) -> Response:
        """Ask for what is at ``url``."""

    def head(
        self,
        url: str,
        *,
        params: _Pairs | None = None,
        headers: _HeaderFields | None = None,
        cookies: _Pairs | None = None,
        content: _Body | None = None,
        data: _Pairs | _Content | _Readable | None = None,
        files: _Files | None = None,
        json: object = None,
        auth: _Auth | None = None,
        timeout: float | Timeout | None = None,
        redirects_max: int | None = None,
        decompress: bool | None = None,
        body_bytes_max: int | None = None,
    ) -> Response:
        """Ask for the head alone."""

    def options(
        self,
        url: str,
        *,
        params: _Pairs | None = None,
        headers: _HeaderFields | None = None,
        cookies: _Pairs | None = None,
        content: _Body | None = None,
        data: _Pairs | _Content | _Readable | None = None,
        files: _Files | None = None,
        json: object = None,
        auth: _Auth | None = None,
        timeout: float | Timeout | None = None,
        redirects_max: int | None = None,
        decompress: bool | None = None,
        body_bytes_max: int | None = None,
    ) -> Response:
        """Ask what can be done with ``url``."""

    def post(
        self,
        url: str,
        *,
        params: _Pairs | None = None,
        headers: _HeaderFields | None = None,
        cookies: _Pairs | None = None,
        content: _Body | None = None,
        data: _Pairs | _Content | _Readable | None = None,
        files: _Files | None = None,
        json: object = None,
        auth: _Auth | None = None,
        timeout: float | Timeout | None = None,
        redirects_max: int | None = None,
        decompress: bool | None = None,
        body_bytes_max: int | None = None,
    ) -> Response:
        """Hand something in at ``url``."""

    def put(
        self,
        url: str,
        *,
        params: _Pairs | None = None,
        headers: _HeaderFields | None = None,
        cookies: _Pairs | None = None,
        content: _Body | None = None,
        data: _Pairs | _Content | _Readable | None = None,
        files: _Files | None = None,
        json: object = None,
        auth: _Auth | None = None,
        timeout: float | Timeout | None = None,
        redirects_max: int | None = None,
        decompress: bool | None = None,
        body_bytes_max: int | None = None,
    ) -> Response:
        """Put something at ``url``."""

    def patch(
        self,
        url: str,
        *,
        params: _Pairs | None = None,
        headers: _HeaderFields | None = None,
        cookies: _Pairs | None = None,
        content: _Body | None = None,
        data: _Pairs | _Content | _Readable | None = None,
        files: _Files | None = None,
        json: object = None,
        auth: _Auth | None = None,
        timeout: float | Timeout | None = None,
        redirects_max: int | None = None,
        decompress: bool | None = None,
        body_bytes_max: int | None = None,
    ) -> Response:
        """Change what is at ``url``."""

    def delete(
        self,
        url: str,
        *,
        params: _Pairs | None = None,
        headers: _HeaderFields | None = None,
        cookies: _Pairs | None = None,
        content: _Body | None = None,
        data: _Pairs | _Content | _Readable | None = None,
        files: _Files | None = None,
        json: object = None,
        auth: _Auth | None = None,
        timeout: float | Timeout | None = None,
        redirects_max: int | None = None,
        decompress: bool | None = None,
        body_bytes_max: int | None = None,
    ) -> Response:
        """Remove what is at ``url``."""

@final
class Mark:
    """What the program is doing, for as long as the block lasts. May be entered several times, also at the same time."""

    @property
    def name(self) -> str:
        """What the program says."""

    def __enter__(self) -> Self: ...
    def __exit__(self, kind: object, value: object, traceback: object) -> None: ...
    def __aenter__(self) -> Awaitable[Self]: ...
    def __aexit__(self, kind: object, value: object, traceback: object) -> Awaitable[None]: ...
    def __call__(self, function: _Function, /) -> _Function:
        """``function``, each call of which is within this mark; also of a coroutine or generator function."""

@final
class Port:
    """One event loop's, or one thread's, side of the kernel. What frontends are built on."""

    def __new__(cls, frontend: str = "threads") -> Self: ...
    def __len__(self) -> int: ...
    @property
    def is_ours(self) -> bool:
        """Whether it was attached in this process, to the kernel that is in its place now."""

    def fileno(self) -> int:
        """The descriptor to watch for reading."""

    def start(self, response: Response, done: Callable[[], object]) -> int:
        """Send ``response``'s request; ``done`` is called when it is settled. Returns the ticket."""

    def cancel(self, ticket: int) -> None:
        """Give ``ticket`` up: nobody will be told of it, and the kernel stops working on it."""

    def give_up_all(self) -> None:
        """Give up whatever waits here: nobody will look after this port any more."""

    def drain(self, completions_max: int = 64) -> list[Callable[[], object]]:
        """What is to be called now, ``completions_max`` at most. As many as that: drain again soon."""

    def drain_tasks(
        self, completions_max: int = 64
    ) -> list[tuple[Callable[[_Callback, AsyncioWaiter], object], _Callback, AsyncioWaiter]]:
        """The same for tasks of asyncio: each is to be called back by ``run(callback, waiter)``."""

@final
class Exchange:
    """One request and its response, in pieces. Used where it was opened: in one loop, hub or thread."""

    def __new__(cls, response: Response) -> Self: ...
    @staticmethod
    def change(since: int | None, /) -> Exchange:
        """Ask which services can be asked: as soon as it is another answer than the one with this version."""

    def readiness(self) -> tuple[int, list[tuple[str, State, float, str | None]]] | None:
        """The answer to a question for services, once it is there: its version, and of each service the name, the state, for
        how many seconds it has been so, and why it is not up."""
    def open(self) -> None:
        """Send the request, from where this is."""

    def head(self) -> Response | None:
        """The answer, once it is there. Raises the failure, if it came to that."""

    @property
    def is_answered(self) -> bool:
        """Whether the answer is there, or will never be."""

    def draw(self, bytes_max: int = 65536) -> bytes | None:
        """What has come of the body, as one: ``b""`` when there is nothing yet, None when that was all."""

    @property
    def trailers(self) -> list[tuple[str, str]]:
        """What the peer said after the body."""

    @property
    def saved(self) -> tuple[Path, int, int] | None:
        """Of a download that is over: the file, how many bytes it has, and how many of them were there before."""

    @property
    def progress(self) -> tuple[int, int | None]:
        """Of a download: how many bytes are in the file, and how many there will be, if the peer has said so."""

    def feed(self, piece: bytes, start: int) -> int:
        """Feed what is in ``piece`` from ``start`` on, as far as there is room; up to where it was taken."""

    def finish(self) -> None:
        """That was all of the request's body."""

    def waiting(self) -> Exchange:
        """In its place, one that holds the body back until it is finished."""

    def keep(self, fd: int, at: int, bytes_max: int, is_part: bool) -> bool:
        """Of one that waits: have the body go into the file behind ``fd``, from ``at`` on, or of one in parts the content of
        the second. False when that is no regular file."""

    @property
    def kept(self) -> tuple[int, int, Sha256, bool] | None:
        """What has gone into a file: how much was drawn before it, how much it is, its hash, and whether more came than may."""

    @property
    def wants(self) -> bool:
        """Whether anything can still be fed."""

    def wait(self) -> Awaitable[None]:
        """To be awaited: over when there is news. Where calls block, it has been waited for by then."""

    def listen(self, done: Callable[[], object]) -> bool:
        """``done`` is called at the next news; False when there is news already."""

    def unlisten(self) -> None:
        """Nobody listens any more."""

    def close(self) -> None:
        """Give up what is still to come, both ways."""

@final
class Sha256:
    """A hash that the kernel has begun."""

    def update(self, data: bytes) -> None:
        """Go on with ``data``."""

    def hexdigest(self) -> str:
        """The hash of all that it has seen."""

@final
class Rehearsal:
    """A kernel on virtual time, on a thread of its own that moves only when it is told to. See `southbridge.testing`."""

    def __new__(cls, seed: int, wall: float) -> Self: ...
    @property
    def now(self) -> float:
        """Seconds since the start."""

    def enter(self) -> None:
        """From now on it stands in the place of the process's own kernel."""

    def leave(self) -> None:
        """The process's own kernel is in its place again."""

    def close(self) -> None:
        """End it; whoever waits for an answer gets `StoppedError`."""

    def step(self, seconds: float) -> bool:
        """What can happen now does, then ``seconds`` pass at most, until it is somebody's turn; whether it is."""

    def log(self) -> list[str]:
        """What has happened, in lines."""

    def note(self, line: str) -> None:
        """Add a line to the log."""

    def add_peer(self, address: str, speech: str) -> int:
        """A peer that speaks ``http1``, ``http1+tls`` or ``http2+tls``; its requests are among `calls`."""

    def remove_peer(self, peer: int) -> None:
        """The peer is gone."""

    def calls(self) -> list[tuple[int, int, int, float, str, str, str, bytes]]:
        """Requests held since the last call: peer, number, connection, time, method, target, head, body."""

    def reply(
        self,
        peer: int,
        number: int,
        deed: tuple[float, tuple[int, list[tuple[str, bytes]]] | None, list[tuple[float, bytes]], str],
    ) -> bool:
        """Have ``peer`` do with what it holds: pause, head, pieces, ending; whether anybody still waits for it."""

    def set_path(self, ip: str, latency: float, jitter: float, syn: str, is_cut: bool) -> None:
        """What the way to ``ip`` is like. ``syn`` is ``answered``, ``refused`` or ``lost``."""

    def set_certificate(self, name: str, kind: str) -> None:
        """Which kind of certificate ``name`` gets."""

    def dns_host(self, name: str, addresses: list[str], ttl: int) -> None: ...
    def dns_srv(self, name: str, records: list[tuple[int, int, int, str]], ttl: int) -> None: ...
    def dns_alias(self, name: str, target: str, ttl: int) -> None: ...
    def dns_fail(self, name: str, how: str) -> None: ...
    def dns_questions(self, name: str) -> int: ...
    def in_flight(self) -> list[str]:
        """What the kernel is doing: each request with where it is, since when, and with whom."""

@final
class AsyncioWaiter:
    """Waits for one response, or for news of an exchange, on a running loop. Not thread-safe, like its loop."""

    _asyncio_future_blocking: bool
    def __iter__(self) -> Self: ...
    def __await__(self) -> Self: ...
    def __next__(self) -> Self: ...
    def send(self, value: object, /) -> Self: ...
    def throw(self, kind: object, value: object = None, traceback: object = None) -> None: ...
    def close(self) -> None: ...
    def get_loop(self) -> AbstractEventLoop: ...
    def add_done_callback(
        self, callback: Callable[[Any], object], *, context: Context | None = None
    ) -> None: ...
    def remove_done_callback(self, callback: Callable[[Any], object]) -> int: ...
    def cancel(self, msg: object = None) -> bool: ...
    def cancelled(self) -> bool: ...
    def done(self) -> bool: ...
    def result(self) -> Response | None: ...
    def exception(self) -> BaseException | None: ...
