"""Homeservers that are few lines each: they join rooms of a real one with events that they sign, and keep what comes.

Each has an address of 127.0.0.0/8 for a name, so nothing needs to be looked up. All of them live in one thread.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
import json
import math
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

KEY_ID = "ed25519:fake"
# Long enough for what came to be read before more comes.
MOMENT = 0.05


@dataclass
class Sent:
    """A transaction that came."""

    at: float
    body: dict[str, Any]


@dataclass
class Asked:
    """A request that came."""

    method: str
    target: str
    head: bytes
    body: bytes


@dataclass
class Reply:
    """What is answered. One that is ``cut`` ends after so many bytes of its body; one that is ``torn`` comes in pieces that
    end there, with a moment between them; one that ``stands`` still after so many does not end. What is ``chunked`` does not
    say beforehand how long it is."""

    body: bytes
    content_type: str = "application/json"
    status: str = "200 OK"
    fields: str = ""
    cut: int | None = None
    torn: tuple[int, ...] = ()
    stands: int | None = None
    chunked: bool = False


@dataclass
class Homeserver:
    """One of them."""

    name: str
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    sent: list[Sent] = field(default_factory=list)
    # What came besides transactions.
    asked: list[Asked] = field(default_factory=list)
    # What answers targets that begin so; nothing is said where it gives None.
    answers: dict[str, Callable[[Asked], Reply | None]] = field(default_factory=dict)
    server: asyncio.Server | None = None
    connections: set[asyncio.Transport] = field(default_factory=set)
    # Seconds after which it answers transactions; infinite: never.
    answers_after: float = 0.0
    # Messages that it finds fault with, by their bodies.
    refuses: set[str] = field(default_factory=set)

    def events(self, kind: str = "m.room.message") -> list[str]:
        """The bodies of messages that came, in order, each as often as it came."""
        pdus = [pdu for one in self.sent for pdu in one.body["pdus"] if pdu["type"] == kind]
        return [str(pdu["content"]["body"]) for pdu in pdus]

    def edus(self, kind: str) -> list[dict[str, Any]]:
        """The contents of EDUs that came, in order."""
        return [
            edu["content"] for one in self.sent for edu in one.body.get("edus", []) if edu["edu_type"] == kind
        ]

    def heard(self, target: str) -> list[Asked]:
        """What came for targets that begin so."""
        return [one for one in self.asked if one.target.startswith(target)]

    def take(self, transaction: dict[str, Any]) -> dict[str, Any]:
        """Keep a transaction that came; the answer to it."""
        self.sent.append(Sent(time.monotonic(), transaction))
        results: dict[str, Any] = {}
        for pdu in transaction["pdus"]:
            is_refused = pdu["content"].get("body") in self.refuses
            results[event_id(pdu)] = {"error": "not to our liking"} if is_refused else {}
        return {"pdus": results}

    def sign(self, parts: dict[str, Any]) -> str:
        return _base64(self.key.sign(canonical(parts)))

    def keys(self) -> dict[str, Any]:
        public = _base64(self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
        keys: dict[str, Any] = {
            "server_name": self.name,
            "valid_until_ts": int(time.time() * 1000) + 86_400_000,
            "verify_keys": {KEY_ID: {"key": public}},
            "old_verify_keys": {},
        }
        keys["signatures"] = {self.name: {KEY_ID: self.sign(keys)}}
        return keys


class Homeservers:
    """All of them; ``ca_file`` vouches for them."""

    def __init__(self, folder: Path, count: int, *names: str) -> None:
        """So many by their addresses, and besides those with these names, which are found by looking them up."""
        self._ca = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.ca_file))
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.all: list[Homeserver] = []
        for number in range(count):
            # Not 127.0.0.1, where the real one listens.
            self.all.append(self._run(self._start(f"127.1.{number // 250}.{number % 250 + 1}")))
        self.all += [self._run(self._start(name)) for name in names]

    def __getitem__(self, index: int) -> Homeserver:
        return self.all[index]

    def close(self, one: Homeserver) -> None:
        """Nobody is there any more."""
        self._run(self._stop(one))

    def open(self, one: Homeserver) -> None:
        """It is back."""
        self._run(self._listen(one))

    def join(self, one: Homeserver, client: int, homeserver: str, room: str) -> None:
        """Have it join ``room`` of the ``homeserver``, which listens for it on the port ``client`` of loopback."""
        user, here = f"@user:{one.name}", urllib.parse.quote(room)
        path = f"/_matrix/federation/v1/make_join/{here}/{urllib.parse.quote(user)}?ver=10"
        event: dict[str, Any] = ask(one, client, homeserver, ("GET", path))["event"]
        event |= {"origin_server_ts": int(time.time() * 1000), "sender": user, "state_key": user}
        event.pop("event_id", None)
        seal(one, event)
        path = f"/_matrix/federation/v2/send_join/{here}/%24{one.name}?omit_members=true"
        ask(one, client, homeserver, ("PUT", path), event)

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _start(self, address: str) -> Homeserver:
        one = Homeserver(address)
        await self._listen(one)
        return one

    async def _listen(self, one: Homeserver) -> None:
        host, _, port = one.name.partition(":")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(host).configure_cert(context)
        one.server = await self._loop.create_server(
            lambda: _Connection(one), host, int(port or 0), ssl=context
        )
        if not port:
            one.name = f"{host}:{one.server.sockets[0].getsockname()[1]}"

    async def _stop(self, one: Homeserver) -> None:
        assert one.server is not None
        one.server.close()
        for connection in list(one.connections):
            connection.abort()


class _Connection(asyncio.Protocol):
    """HTTP/1.1 as far as homeservers speak it to each other."""

    def __init__(self, homeserver: Homeserver) -> None:
        self._homeserver = homeserver
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._homeserver.connections.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._homeserver.connections.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, rest = self._received.partition(b"\r\n\r\n")
            line, *fields = head.split(b"\r\n")
            length = next((int(one[15:]) for one in fields if one.lower().startswith(b"content-length:")), 0)
            if len(rest) < length:
                return
            self._received = rest[length:]
            method, target, _version = line.decode().split(" ")
            asked = Asked(method, target, head, rest[:length])
            if not target.startswith("/_matrix/federation/v1/send/"):
                self._homeserver.asked.append(asked)
            answers = self._homeserver.answers
            known = next((answers[begin] for begin in answers if target.startswith(begin)), None)
            if known is None:
                self._answer(method, target, rest[:length])
            elif (reply := known(asked)) is not None:
                self._reply(reply)

    def _reply(self, reply: Reply) -> None:
        head = f"HTTP/1.1 {reply.status}\r\nContent-Type: {reply.content_type}\r\n{reply.fields}"
        if reply.chunked:
            size = f"{len(reply.body):x}".encode()
            self._transport.write(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            self._transport.write(size + b"\r\n" + reply.body + b"\r\n0\r\n\r\n")
            return
        self._transport.write(f"{head}Content-Length: {len(reply.body)}\r\n\r\n".encode())
        if reply.stands is not None:
            self._transport.write(reply.body[: reply.stands])
            return
        begin = 0
        for number, end in enumerate(reply.torn):
            piece, begin = reply.body[begin:end], end
            asyncio.get_running_loop().call_later(number * MOMENT, self._transport.write, piece)
        if reply.torn:
            rest = reply.body[begin:]
            asyncio.get_running_loop().call_later(len(reply.torn) * MOMENT, self._transport.write, rest)
            return
        self._transport.write(reply.body[: reply.cut])
        if reply.cut is not None:
            self._transport.close()

    def _answer(self, method: str, target: str, body: bytes) -> None:
        answer: dict[str, Any] = {"errcode": "M_UNRECOGNIZED", "error": target}
        status, delay = "404 Not Found", 0.0
        if target.startswith("/_matrix/federation/v1/send/") and method == "PUT":
            answer = self._homeserver.take(json.loads(body))
            status, delay = "200 OK", self._homeserver.answers_after
        elif target.startswith("/_matrix/key/v2/server"):
            status, answer = "200 OK", self._homeserver.keys()
        elif target.startswith("/_matrix/federation/v1/query/profile"):
            status, answer = "200 OK", {"displayname": "Somebody"}
        reply = Reply(json.dumps(answer).encode(), status=status)
        if not delay:
            self._reply(reply)
        elif delay < math.inf:
            asyncio.get_running_loop().call_later(delay, self._reply, reply)


def seal(one: Homeserver, event: dict[str, Any]) -> str:
    """Hash and sign ``event`` of a room of version 10; its id."""
    event["hashes"] = {"sha256": _base64(hashlib.sha256(canonical(event)).digest())}
    event["signatures"] = {one.name: {KEY_ID: one.sign(redacted(event))}}
    return event_id(event)


def redacted(event: dict[str, Any]) -> dict[str, Any]:
    """What ``event``, of a room of version 10, is signed and known by."""
    kept = {key: part for key, part in event.items() if key in KEPT}
    content = event["content"]
    kept["content"] = {key: content[key] for key in KEPT_CONTENT.get(event["type"], ()) if key in content}
    return kept


def event_id(event: dict[str, Any]) -> str:
    """The id of ``event``, of a room of version 10."""
    digest = hashlib.sha256(canonical(redacted(event))).digest()
    return "$" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def ask(one: Homeserver, port: int, homeserver: str, what: tuple[str, str], content: Any = None) -> Any:
    """Ask the ``homeserver``, which listens at ``port`` of loopback, in the name of ``one``."""
    method, path = what
    signed: dict[str, Any] = {"method": method, "uri": path, "origin": one.name, "destination": homeserver}
    if content is not None:
        signed["content"] = content
    authorization = (
        f'X-Matrix origin="{one.name}",destination="{homeserver}",key="{KEY_ID}",sig="{one.sign(signed)}"'
    )
    headers = {"Authorization": authorization, "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, None if content is None else canonical(content), headers)
        response = connection.getresponse()
        answer = json.loads(response.read())
    finally:
        connection.close()
    if response.status != 200:
        raise RuntimeError(f"{method} {path} as {one.name}: {response.status} {answer}")
    return answer


def canonical(parts: dict[str, Any]) -> bytes:
    """Canonical JSON, as far as there are only plain things in it."""
    return json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


# What the hash and the signature of an event of version 10 are made of.
KEPT = (
    *("type", "room_id", "sender", "state_key", "content", "hashes", "depth", "prev_events", "prev_state"),
    *("auth_events", "origin", "origin_server_ts", "membership"),
)
KEPT_CONTENT = {
    "m.room.create": ("creator",),
    "m.room.join_rules": ("join_rule", "allow"),
    "m.room.member": ("membership", "join_authorised_via_users_server"),
    "m.room.power_levels": (
        *("ban", "events", "events_default", "kick", "redact", "state_default", "users", "users_default"),
    ),
}


def _base64(some: bytes) -> str:
    return base64.b64encode(some).rstrip(b"=").decode()
