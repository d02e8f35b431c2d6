"""The peers of a test's kernel: who there is, what they are asked, and what they say to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from southbridge._kernel import Rehearsal
from southbridge.testing._answers import Answer, reset
from southbridge.testing._dns import Dns
from southbridge.testing._peers import Handler, Peer, Request, place, read


class Answering:
    """Has each request that a peer is asked answered by that peer's handler.

    ``defaults`` are the latency and the jitter of the ways to peers that have none of their own; ``fail`` is told what a
    handler raises.
    """

    def __init__(
        self,
        native: Rehearsal,
        dns: Dns,
        defaults: Mapping[str, float],
        fail: Callable[[BaseException], None],
    ) -> None:
        self.requests: list[Request] = []
        self.is_busy = False
        self._native = native
        self._dns = dns
        self._defaults = defaults
        self._fail = fail
        self._peers: dict[int, Peer] = {}
        self._addresses: dict[str, str] = {}

    def add(
        self,
        where: str,
        handler: Handler | Answer,
        *,
        http2: bool,
        latency: float | None,
        jitter: float | None,
    ) -> Peer:
        """One more, as `Kernel.peer` says."""
        at = place(where, http2=http2)
        address = at.name if at.is_address else self._address(at.name)
        peer = Peer(at.name, address, handler, self._native)
        shown = f"[{address}]" if ":" in address else address
        for port, speech in at.ports:
            number = self._native.add_peer(f"{shown}:{port}", speech)
            peer._numbers.append(number)  # pyright: ignore[reportPrivateUsage]
            self._peers[number] = peer
        latency = self._defaults["latency"] if latency is None else latency
        jitter = self._defaults["jitter"] if jitter is None else jitter
        if latency or jitter:
            peer.path(latency=latency, jitter=jitter)
        return peer

    def answer_calls(self) -> None:
        """Calls the handlers of those who have been asked."""
        self.is_busy = True
        try:
            while calls := self._native.calls():
                for number, seen, conn, at, method, target, head, body in calls:
                    peer = self._peers[number]
                    request = read(peer.name, conn, at, method, target, head, body)
                    peer.requests.append(request)
                    self.requests.append(request)
                    self._reply(number, seen, self._answer_of(peer, request))
        finally:
            self.is_busy = False

    def _answer_of(self, peer: Peer, request: Request) -> Answer:
        try:
            given: Any = peer.answer_to(request)
            if isinstance(given, Answer):
                self._native.note(f"{peer.name} to {request.method} {request.target}: {given}")
                return given
            raise TypeError(f"the handler of {peer.name} gave {given!r}, and not an answer")
        except Exception as error:
            self._fail(error)
            self._native.note(f"{peer.name} to {request.method} {request.target}: {type(error).__name__}")
            return reset()

    def _reply(self, peer: int, seen: int, given: Answer) -> None:
        headers = [(name, value.encode("latin-1")) for name, value in given.headers]
        head = None if given.status is None else (given.status, headers)
        self._native.reply(peer, seen, (given.after, head, list(given.pieces), given.ending))

    def _address(self, name: str) -> str:
        if name not in self._addresses:
            number = len(self._addresses) + 1
            address = f"203.0.113.{number}" if number < 255 else f"198.18.{number // 256}.{number % 256}"
            self._addresses[name] = address
            self._dns.host(name, address)
        return self._addresses[name]
