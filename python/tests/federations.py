"""Real, unpatched Synapses that federate with each other on loopback, and people who use them through the client API.

Each Synapse has an address of 127.0.0.0/8 and a port for a name, and a certificate of one authority: nothing needs to be
looked up. Whether the module is in one of them is said when it starts.
"""

from __future__ import annotations

import time
import urllib.parse
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import trustme

from .synapses import Synapse, free_port

# What is given back, backed off from and tried again within the time of a test.
MODULE: dict[str, Any] = {"give_back_after": 2.0}
SETTINGS: dict[str, Any] = {
    "federation": {
        "client_timeout": "20s",
        "max_long_retries": 1,
        "max_long_retry_delay": "1s",
        "max_short_retries": 0,
        # Beyond an hour Synapse by itself forgets what it has not sent, until there is something new.
        "destination_min_retry_interval": "50m",
    },
    "federation_rr_transactions_per_room_per_second": 1000,
    "max_upload_size": "10M",
}


# As much of a room at a time as a test has said.
FILTER = urllib.parse.quote('{"room":{"timeline":{"limit":500}}}')


class Peer(Synapse):
    """One of them."""

    def __init__(self, folder: Path, ca: trustme.CA, ca_file: Path, number: int) -> None:
        folder.mkdir()
        host = f"127.2.0.{number + 1}"
        federation, client = free_port(host), free_port()
        certificate = ca.issue_cert(host)
        certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "tls.pem"))
        names = {
            "federation": {"port": federation, "tls": True, "bind_addresses": [host]},
            "client": {"port": client, "bind_addresses": ["127.0.0.1"]},
        }
        listeners = [
            {"type": "http", "resources": [{"names": [name]}], **listener} for name, listener in names.items()
        ]
        listeners[1]["resources"] = [{"names": ["client", "metrics"]}]
        super().__init__(
            folder,
            ca_file,
            server_name=f"{host}:{federation}",
            listeners=listeners,
            tls_certificate_path=str(folder / "tls.pem"),
            tls_private_key_path=str(folder / "tls.pem"),
            **SETTINGS,
        )
        self.name, self.port = f"{host}:{federation}", client

    def has_given_up(self, other: Peer) -> bool:
        """It will not try ``other`` for the better part of an hour."""
        query = "SELECT 1 FROM destinations WHERE destination = ? AND retry_interval > 1800000"
        return bool(self.rows(query, other.name))

    def hears_again_of(self, *others: Peer) -> None:
        """Whatever it has come to think of the ``others``, hours have passed, and it tries again."""
        for other in others:
            path = f"/_synapse/admin/v1/federation/destinations/{other.name}"
            status, known = self.answer("GET", path)
            if status == 200 and known["retry_interval"]:
                self.ask("POST", f"{path}/reset_connection", {})


class Federation:
    """All of them. ``start`` starts them side by side."""

    def __init__(self, folder: Path, modules: Iterable[bool]) -> None:
        ca = trustme.CA()
        ca_file = folder / "ca.pem"
        ca.cert_pem.write_to_path(str(ca_file))
        self.modules = list(modules)
        self.peers = [
            Peer(folder / f"synapse{number}", ca, ca_file, number) for number in range(len(self.modules))
        ]

    def start(self) -> None:
        """All of them answer."""
        with ThreadPoolExecutor(len(self.peers)) as pool:
            list(pool.map(self.start_one, self.peers))

    def start_one(self, peer: Peer) -> None:
        """Start one, with the module if it is to have it."""
        is_taken_over = self.modules[self.peers.index(peer)]
        peer.start(MODULE if is_taken_over else None)
        assert peer.said("southbridge sends for Synapse") == is_taken_over

    def kill(self) -> None:
        """Nobody is there any more."""
        for peer in self.peers:
            peer.kill()


class Person:
    """Somebody with an account on one of them, on one device. What they hear is kept, until it is asked for."""

    def __init__(self, home: Peer, user: str, token: str) -> None:
        self.home = home
        self.id = user
        self.token = token
        self.device = str(self.ask("GET", "account/whoami")["device_id"])
        self._since: str | None = None
        self._heard: list[dict[str, Any]] = []

    @classmethod
    def new(cls, home: Peer, name: str) -> Person:
        """Somebody who has registered just now."""
        home.register(name)
        return cls(home, f"@{name}:{home.name}", home.token)

    def on_another_device(self) -> Person:
        """The same, logged in once more."""
        identifier = {"type": "m.id.user", "user": self.id}
        login = {"type": "m.login.password", "identifier": identifier, "password": "wonderland"}
        return Person(self.home, self.id, self.ask("POST", "login", login)["access_token"])

    def ask(self, method: str, path: str, content: Any = None) -> Any:
        """Ask the client API, from after its version on."""
        return self.home.ask(method, f"/_matrix/client/v3/{path}", content, token=self.token)

    def room(self) -> str:
        """Make a room to which people are invited."""
        return str(self.ask("POST", "createRoom", {"preset": "private_chat"})["room_id"])

    def brings(self, room: str, *others: Person) -> None:
        """Invite ``others``, who hear of it, and come."""
        for other in others:
            self.ask("POST", f"rooms/{quote(room)}/invite", {"user_id": other.id})
            other.hears(lambda one: room in one.get("rooms", {}).get("invite", {}), f"{room} invites them")
            other.ask("POST", f"join/{quote(room)}", {})

    def say(self, room: str, text: str) -> str:
        """Send a message; its event id."""
        content = {"msgtype": "m.text", "body": text}
        path = f"rooms/{quote(room)}/send/m.room.message/{time.monotonic_ns()}"
        return str(self.ask("PUT", path, content)["event_id"])

    def to_device(self, kind: str, to: Person, content: dict[str, Any]) -> None:
        """Send something to the device of ``to``."""
        messages = {to.id: {to.device: content}}
        self.ask("PUT", f"sendToDevice/{kind}/{time.monotonic_ns()}", {"messages": messages})

    def pages_back(self, room: str) -> list[str]:
        """All messages of ``room`` that can be had, the earliest first."""
        texts: list[str] = []
        place = ""
        while True:
            page = self.ask("GET", f"rooms/{quote(room)}/messages?dir=b&limit=50{place}")
            texts += [one["content"]["body"] for one in page["chunk"] if one["type"] == "m.room.message"]
            if "end" not in page:
                return texts[::-1]
            place = f"&from={page['end']}"

    def hears(self, finds: Callable[[dict[str, Any]], Any], what: str, seconds: float = 40) -> Any:
        """The first thing that ``finds`` finds in what came or comes."""
        deadline = time.monotonic() + seconds
        looked = 0
        while True:
            for one in self._heard[looked:]:
                if found := finds(one):
                    return found
            looked = len(self._heard)
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.id} does not hear within {seconds} s: {what}")
            self._sync()

    def hears_all(self, finds: Callable[[dict[str, Any]], list[Any]], last: Any, what: str) -> list[Any]:
        """All that ``finds`` finds in what came, once ``last`` is among it."""
        self.hears(lambda one: last in finds(one), what)
        return [found for one in self._heard for found in finds(one)]

    def messages(self, room: str, last: str) -> list[str]:
        """The messages of ``room`` that came by themselves, in order, once the ``last`` has come."""
        return self.hears_all(lambda one: texts(one, room), last, f"{last} in {room}")

    def _sync(self) -> None:
        since = f"&since={self._since}" if self._since else ""
        came = self.ask("GET", f"sync?timeout=1000&filter={FILTER}{since}")
        self._since = came["next_batch"]
        self._heard.append(came)


def joined(came: dict[str, Any], room: str) -> dict[str, Any]:
    """What came of ``room``."""
    found: dict[str, Any] = came.get("rooms", {}).get("join", {}).get(room, {})
    return found


def timeline(came: dict[str, Any], room: str) -> list[dict[str, Any]]:
    """The events that came of ``room``."""
    found: list[dict[str, Any]] = joined(came, room).get("timeline", {}).get("events", [])
    return found


def texts(came: dict[str, Any], room: str) -> list[str]:
    """The messages that came of ``room``."""
    return [one["content"]["body"] for one in timeline(came, room) if one["type"] == "m.room.message"]


def memberships(came: dict[str, Any], room: str) -> list[tuple[str, str]]:
    """Who has come and gone in ``room``."""
    return [
        (one["state_key"], one["content"]["membership"])
        for one in timeline(came, room)
        if one["type"] == "m.room.member"
    ]


def ephemeral(came: dict[str, Any], room: str, kind: str) -> list[Any]:
    """The contents of what is said of ``room`` and not kept."""
    return [
        one["content"]
        for one in joined(came, room).get("ephemeral", {}).get("events", [])
        if one["type"] == kind
    ]


def for_device(came: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The contents of what came for the device."""
    return [one["content"] for one in came.get("to_device", {}).get("events", []) if one["type"] == kind]


def quote(part: str) -> str:
    """``part`` of a path."""
    return urllib.parse.quote(part, safe="")
