"""Services that a program declares, and whether they can be reached."""

from __future__ import annotations

from southbridge import _kernel
from southbridge._errors import NotAwaitedError, NotReadyError
from southbridge._feeding import now
from southbridge._kernel import Exchange, blocks_here

# Not from `typing`, which takes longer to import than all of this package.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from os import PathLike
    from typing import Any, Literal

    from southbridge._kernel import Breaker, Limits, Retry, Tls

    State = Literal["up", "degraded", "down"]


class ServiceState:
    """How a declared service does."""

    __slots__ = ("lasts", "name", "state", "why")

    def __init__(self, name: str, state: State, lasts: float, why: str | None) -> None:
        self.name = name
        # ``up``; ``degraded``: there is a connection, and its requests fail or are slow; ``down``: it cannot be connected
        # to, or its breaker is open.
        self.state = state
        # For how many seconds it has been so.
        self.lasts = lasts
        # Why it is not up.
        self.why = why

    @property
    def is_ready(self) -> bool:
        """Whether it can be asked."""
        return self.state != "down"

    def __repr__(self) -> str:
        why = "" if self.why is None else f": {self.why}"
        return f"<{self.name} {self.state} for {self.lasts:.3f} s{why}>"


class Readiness:
    """How every declared service does, at one moment."""

    __slots__ = ("services", "version")

    def __init__(self, version: int, services: list[tuple[str, State, float, str | None]]) -> None:
        # Grows with every change.
        self.version = version
        # By name.
        self.services = {told[0]: ServiceState(*told) for told in services}

    @property
    def is_ready(self) -> bool:
        """Whether every service can be asked."""
        return all(service.is_ready for service in self.services.values())

    def __getitem__(self, name: str) -> ServiceState:
        return self.services[name]

    def __repr__(self) -> str:
        return f"<Readiness {self.version}: {list(self.services.values())}>"


class ReadyCheck:
    """Waits until services can be asked: `await` gives the `Readiness`; in threads and greenlets it is over already."""

    def __init__(self, exchange: Exchange, names: list[str]) -> None:
        self._exchange = exchange
        self._names = names
        self._readiness: Readiness | None = None

    @property
    def readiness(self) -> Readiness:
        """How all services did then."""
        if self._readiness is None:
            raise NotAwaitedError("the check is not over yet: await it first")
        return self._readiness

    def __await__(self) -> Generator[Any, Any, Readiness]:
        return self.run().__await__()

    async def run(self) -> Readiness:
        """Ask, and wait for the answer.

        Raises `NotReadyError` when the time was over before the services were ready.
        """
        if self._readiness is None:
            readiness = await _told(self._exchange)
            self._readiness = self._checked(readiness)
        return self._readiness

    def _checked(self, readiness: Readiness) -> Readiness:
        wanted = self._names or list(readiness.services)
        missing = [name for name in wanted if name not in readiness.services]
        down = [readiness[name] for name in wanted if name not in missing and not readiness[name].is_ready]
        reasons = [f"{name} is not declared" for name in missing]
        reasons += [f"{one.name} has been down for {one.lasts:.1f} s ({one.why})" for one in down]
        if reasons:
            raise NotReadyError("not ready: " + "; ".join(reasons), readiness)
        return readiness


class Changes:
    """How all services do now, and again whenever that changes: an iterator, with or without ``async``.

    One task, thread or greenlet at a time. What changes between two looks is told as one change.
    """

    def __init__(self) -> None:
        self._version: int | None = None

    def __iter__(self) -> Iterator[Readiness]:
        return self

    def __next__(self) -> Readiness:
        if not blocks_here():
            raise NotAwaitedError("an event loop runs here: use `async for`")
        return now(self._next())

    def __aiter__(self) -> Changes:
        return self

    async def __anext__(self) -> Readiness:
        return await self._next()

    async def _next(self) -> Readiness:
        readiness = await _told(Exchange.change(self._version))
        self._version = readiness.version
        return readiness


class Service:
    """A declared service. It stays declared until it is withdrawn, whatever becomes of this."""

    def __init__(self, name: str) -> None:
        # As it stands in URLs: ``http://NAME/…``.
        self.name = name

    def ready(self, *, timeout: float | None = None) -> ReadyCheck:
        """Wait until it can be asked; see `ready`."""
        return _kernel.ready(self.name, timeout=timeout)

    def push(self, addresses: Iterable[str]) -> None:
        """It is at ``addresses`` from now on, if it was declared by addresses. What is under way goes on.

        Raises `InvalidSettingError` when it was not, or is not declared any more.
        """
        _kernel.push_service(self.name, addresses)

    def withdraw(self) -> None:
        """It is not declared any more: its name is like any other.

        Raises `InvalidSettingError` when it is not declared.
        """
        _kernel.withdraw_service(self.name)

    def __repr__(self) -> str:
        return f"<Service {self.name}>"


def service(
    name: str,
    *,
    discovery: str | Iterable[str],
    host: str | None = None,
    limits: Limits | None = None,
    retry: Retry | None = None,
    breaker: Breaker | None = None,
    tls: Tls | bool = False,
) -> Service:
    """Declare the service ``name``, or declare it anew: ``http://NAME/…`` leads to it from every client of the process.

    ``discovery`` says where it is found: addresses (``["192.0.2.1:8080"]``), a name with a port
    (``"orders.internal:8080"``), or SRV records (``"srv:_http._tcp.orders.internal"``). ``host`` is what is sent as ``Host``
    and verified in its certificate; default: the name that is looked up, or its own. ``tls=True`` speaks TLS to it.

    Returns once it is so. It is connected to at once and kept connected; `ready` waits for that. A forked child has it as
    well.

    Raises `InvalidSettingError` or `ValueError` for what makes no sense.
    """
    _kernel.declare_service(name, discovery, host, limits, retry, breaker, tls)
    return Service(name)


def services(path: str | PathLike[str]) -> dict[str, Service]:
    """Declare the services of a TOML file, one table ``[service.NAME]`` for each.

    Raises `InvalidSettingError`, whose message has everything that is wrong with the file, a line for each, with file, line
    and column; nothing is declared then.
    """
    return {name: Service(name) for name in _kernel.declare_file(path)}


def readiness() -> Changes:
    """How all services do now, and again whenever that changes."""
    return Changes()


def begin_check(exchange: Exchange, names: list[str]) -> ReadyCheck:
    """A check, which is over where calls block."""
    check = ReadyCheck(exchange, names)
    if blocks_here():
        now(check.run())
    return check


async def _told(exchange: Exchange) -> Readiness:
    exchange.open()
    try:
        while (told := exchange.readiness()) is None:
            await exchange.wait()
    finally:
        exchange.close()
    return Readiness(*told)
