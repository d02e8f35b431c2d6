"""Peers in memory, and what they have been asked."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

from southbridge._kernel import Rehearsal
from southbridge.testing._answers import Answer, answer

Certificate: TypeAlias = Literal[
    "good", "expired", "not yet valid", "wrong name", "other authority", "self-signed"
]
TLS_PORTS = (443, 8448)


class Fields(Mapping[str, str]):
    """Header fields: a mapping from names, in any case, to their first values."""

    def __init__(self, items: list[tuple[str, str]]) -> None:
        self.items_in_order = items

    def __getitem__(self, name: str) -> str:
        wanted = name.lower()
        for known, value in self.items_in_order:
            if known.lower() == wanted:
                return value
        raise KeyError(name)

    def __iter__(self) -> Any:
        return iter(dict.fromkeys(name for name, _ in self.items_in_order))

    def __len__(self) -> int:
        return len({name for name, _ in self.items_in_order})

    def __repr__(self) -> str:
        return f"Fields({self.items_in_order!r})"


@dataclass(frozen=True)
class Request:
    """A request, as a peer has read it."""

    peer: str
    """The peer's name, as the test gave it."""
    method: str
    target: str
    """Path and query."""
    headers: Fields
    body: bytes
    http_version: str
    """``HTTP/1.1`` or ``HTTP/2``."""
    connection: int
    """On which connection it came: they are numbered through the whole network, from 1."""
    at: float
    """When it was there, in seconds of the kernel's clock."""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """What is behind the question mark."""
        return self.target.partition("?")[2]

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


Handler: TypeAlias = Callable[[Request], Answer]


@dataclass
class _Way:
    """What the way to a peer is like."""

    latency: float = 0.0
    jitter: float = 0.0
    syn: str = "answered"
    is_cut: bool = False


@dataclass(frozen=True)
class Place:
    """Where a peer is: its name or address, and each port with what is spoken there."""

    name: str
    ports: tuple[tuple[int, str], ...]

    @property
    def is_address(self) -> bool:
        """Whether the name needs no resolving."""
        try:
            ipaddress.ip_address(self.name)
        except ValueError:
            return False
        return True


def place(where: str, *, http2: bool) -> Place:
    """What ``where`` stands for: a host, with a scheme or a port where they matter."""
    secure = "http2+tls" if http2 else "http1+tls"
    parts = urlsplit(where if "//" in where else f"//{where}")
    host, port = parts.hostname, parts.port
    if not host or parts.path.strip("/") or parts.query or parts.scheme not in ("", "http", "https"):
        raise ValueError(
            f"{where!r} is no place for a peer: write example.org, example.org:8080 or https://example.org"
        )
    if parts.scheme == "" and port is None:
        return Place(host, ((80, "http1"), (443, secure)))
    if parts.scheme == "":
        assert port is not None
        return Place(host, ((port, secure if port in TLS_PORTS else "http1"),))
    if parts.scheme == "http":
        return Place(host, ((port or 80, "http1"),))
    return Place(host, ((port or 443, secure),))


@dataclass(eq=False)
class Peer:
    """A peer at one place, for as long as the kernel of the test stands or until it `leave`s.

    ``handler`` says what it does, and may be replaced at any time.
    """

    name: str
    address: str
    handler: Handler | Answer
    _native: Rehearsal = field(repr=False)
    _numbers: list[int] = field(repr=False, default_factory=list[int])
    _way: _Way = field(repr=False, default_factory=_Way)
    requests: list[Request] = field(repr=False, default_factory=list[Request])
    """What it has been asked, in order."""

    def path(self, *, latency: float | None = None, jitter: float | None = None) -> None:
        """What the way to it is like from now on: seconds one way, and at most so many more by chance."""
        if latency is not None:
            self._way.latency = latency
        if jitter is not None:
            self._way.jitter = jitter
        self._set_way()

    def refuse(self) -> None:
        """From now on every new connection is refused."""
        self._way.syn = "refused"
        self._set_way()

    def vanish(self) -> None:
        """From now on nothing is heard of it: a black hole, for new connections and for those that are open."""
        self._way.syn, self._way.is_cut = "lost", True
        self._set_way()

    def mend(self) -> None:
        """It can be reached again."""
        self._way.syn, self._way.is_cut = "answered", False
        self._set_way()

    def leave(self) -> None:
        """It is gone: its connections end, and who dials it is refused."""
        for number in self._numbers:
            self._native.remove_peer(number)
        self._numbers.clear()

    def certificate(self, kind: Certificate) -> None:
        """Whether its certificate is good, or why not. Connections that are open stay so."""
        self._native.set_certificate(self.name, kind)

    def answer_to(self, request: Request) -> Answer:
        """What it does with ``request``."""
        return self.handler if isinstance(self.handler, Answer) else self.handler(request)

    def _set_way(self) -> None:
        way = self._way
        self._native.set_path(self.address, way.latency, way.jitter, way.syn, way.is_cut)


def well(_request: Request) -> Answer:
    """What a peer does that nothing is said about."""
    return answer(200, json={})


def read(  # noqa: PLR0917 - as the kernel tells it
    peer: str, conn: int, at: float, method: str, target: str, head: str, body: bytes
) -> Request:
    """The request with these lines in its head."""
    first, *lines = head.split("\r\n")
    fields = [
        (name, value.strip()) for name, colon, value in (line.partition(":") for line in lines) if colon
    ]
    version = first.rsplit(" ", 1)[-1]
    return Request(peer, method, target, Fields(fields), body, version, conn, at)
