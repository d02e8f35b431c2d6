"""The Federation Side Bus of a homeserver in this process: what is handed in arrives, in order, and is told."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import select
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from southbridge import InvalidRequestError, InvalidSettingError, SouthbridgeError, TooLargeError
from southbridge._kernel import Bus, Exchange

ANSWER = b"x" * 300_000
KEY = "ed25519 a_test c291dGhicmlkZ2UgdGVzdCBzaWduaW5nIGtleSAwMDE"


class Homeserver:
    """Takes transactions at 127.0.0.1, over TLS; while it is shut, it answers 503."""

    def __init__(self, folder: Path) -> None:
        ca = trustme.CA()
        self.ca_file = folder / "ca.pem"
        ca.cert_pem.write_to_path(str(self.ca_file))
        self.sent: list[dict[str, Any]] = []
        self.asked: list[tuple[str, list[tuple[str, str]]]] = []
        self.is_shut = False
        # Counts what came while it was shut.
        self.refused = threading.Semaphore(0)
        home = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["Authorization"].startswith("X-Matrix ")
                # What is true now may not be any more when the answer has arrived, which is before this function ends.
                is_shut = home.is_shut
                if not is_shut:
                    home.sent.append(json.loads(body))
                answer = b"{}" if is_shut else b'{"pdus": {"$bad": {"error": "no"}}}'
                self.send_response(503 if is_shut else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
                if is_shut:
                    home.refused.release()

            def do_GET(self) -> None:
                home.asked.append((self.path, self.headers.items()))
                self.send_response(200)
                self.send_header("Content-Length", str(len(ANSWER)))
                self.end_headers()
                self.wfile.write(ANSWER)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ca.issue_cert("127.0.0.1").configure_cert(context)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.name = f"127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def bus(self, **settings: Any) -> Bus:
        return Bus(
            "me.example", KEY, ca_files=[self.ca_file], only_ca_files=True, allow=["127.0.0.0/8"], **settings
        )


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Homeserver]:
    home = Homeserver(tmp_path)
    yield home
    home.server.shutdown()
    home.server.server_close()


def answer(bus: Bus, ticket: int) -> Any:
    """What ``ticket`` is drained with."""
    while True:
        select.select([bus], [], [], 10)
        for drained, result in bus.drain():
            if drained == ticket:
                return result


def until_settled(bus: Bus, floor: int) -> Any:
    """The progress with which something is told."""
    while True:
        progress = answer(bus, bus.progress(floor))
        if progress.told:
            return progress


def test_events_arrive_in_order_and_are_told(home: Homeserver) -> None:
    """One event for a homeserver and for what is no name; typing; then what is carried and waited for."""
    bus = home.bus()
    assert bus.send_pdu(b'{"n":1}', "$one", [home.name, "no name"], 105) == ["no name"]
    assert bus.send_pdu(b'{"n":2}', "$bad", [home.name], 107) == []
    refused = answer(
        bus, bus.carry(home.name, [(b'{"n":3}', "$three")], [("m.direct_to_device", b'{"m":4}')], 1)
    )
    assert [pdu["n"] for body in home.sent for pdu in body["pdus"]] == [1, 2, 3]
    assert [edu["content"] for body in home.sent for edu in body.get("edus", [])] == [{"m": 4}]
    assert all(one[:1] == (home.name,) for one in refused)
    # 106 may still come.
    assert answer(bus, bus.progress(105)).told == []
    progress = answer(bus, bus.progress(107))
    assert (progress.told, progress.waiting) == ([(home.name, 107, False)], 0)
    assert answer(bus, bus.close(107)).told == []


def test_a_homeserver_is_asked_for_what_was_signed(home: Homeserver) -> None:
    """The target as it was written, each line of a field, and nothing besides; the answer comes in pieces."""
    bus = home.bus()
    target = "/_matrix/x/%21a/../%2e/'?a=%2f"
    fields = [(b"Authorization", b"X-Matrix 1"), (b"Authorization", b"X-Matrix 2"), (b"User-Agent", b"me")]
    exchange = bus.ask("GET", f"matrix-federation://{home.name}{target}", fields)
    exchange.open()
    while (head := exchange.head()) is None:
        exchange.wait()
    assert head.status == 200
    drawn = b""
    while (piece := exchange.draw()) is not None:
        drawn += piece
        if not piece:
            exchange.wait()
    assert drawn == ANSWER
    [(path, heard)] = home.asked
    assert path == target
    assert sorted((name.lower(), value) for name, value in heard) == [
        ("authorization", "X-Matrix 1"),
        ("authorization", "X-Matrix 2"),
        ("host", home.name),
        ("user-agent", "me"),
    ]
    for uri in ("https://a.example/", "matrix-federation://no name/"):
        with pytest.raises(InvalidRequestError):
            bus.ask("GET", uri, [])
    answer(bus, bus.close(0))
    closed = bus.ask("GET", f"matrix-federation://{home.name}/", [])
    closed.open()
    with pytest.raises(SouthbridgeError, match="has been closed"):
        while closed.head() is None:
            closed.wait()


def _told(bus: Bus, home: Homeserver) -> Exchange:
    """A question whose head has come, and whose body waits for a word."""
    exchange = bus.ask("GET", f"matrix-federation://{home.name}/_matrix/media/v3/download/a/b", []).waiting()
    exchange.open()
    while exchange.head() is None:
        exchange.wait()
    assert exchange.draw() == b""
    return exchange


def _rest(exchange: Exchange) -> bytes:
    """All that can be drawn."""
    exchange.finish()
    drawn = b""
    while (piece := exchange.draw()) is not None:
        drawn += piece
        if not piece:
            exchange.wait()
    return drawn


def _kept(exchange: Exchange) -> Any:
    """What has gone into a file; asked anew each time, which a type checker does not know of an attribute."""
    return exchange.kept


def test_a_body_goes_where_it_is_wished_to_go(home: Homeserver, tmp_path: Path) -> None:
    """Into a file, from its middle on, with a hash that can be gone on with; as far as it may be; or, where nothing or what is
    no file was said, to whoever draws."""
    bus = home.bus()
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.write(b"12345")
        file.flush()
        exchange = _told(bus, home)
        assert exchange.keep(file.fileno(), 5, 300_000, False)
        assert _kept(exchange) is None
        assert _rest(exchange) == b""
        begins_at, length, digest, is_too_large = _kept(exchange)
        assert (begins_at, length, is_too_large) == (0, len(ANSWER), False)
        assert digest.hexdigest() == hashlib.sha256(ANSWER).hexdigest()
        digest.update(b"more")
        assert digest.hexdigest() == hashlib.sha256(ANSWER + b"more").hexdigest()
        assert path.read_bytes() == b"12345" + ANSWER
        exchange = _told(bus, home)
        assert exchange.keep(file.fileno(), 0, 299_999, False)
        with pytest.raises(TooLargeError):
            _rest(exchange)
        assert _kept(exchange)[3]
        # It is not one in parts.
        exchange = _told(bus, home)
        assert exchange.keep(file.fileno(), 0, 300_000, True)
        assert (_rest(exchange), _kept(exchange)) == (ANSWER, None)
    reads, writes = os.pipe()
    exchange = _told(bus, home)
    assert not exchange.keep(writes, 0, 300_000, False)
    assert (_rest(exchange), _kept(exchange)) == (ANSWER, None)
    os.close(reads)
    os.close(writes)
    with pytest.raises(RuntimeError, match="not opened for a wish"):
        bus.ask("GET", f"matrix-federation://{home.name}/", []).keep(1, 0, 1, False)


def test_a_body_that_nobody_wants_any_more_is_let_go(home: Homeserver, tmp_path: Path) -> None:
    """Before it was said where it goes, and while it goes there: what is asked next is answered as ever."""
    bus = home.bus()
    _told(bus, home).close()
    with (tmp_path / "file").open("wb") as file:
        exchange = _told(bus, home)
        assert exchange.keep(file.fileno(), 0, 2**63, False)
        exchange.finish()
        exchange.close()
    assert _rest(_told(bus, home)) == ANSWER


def test_who_takes_nothing_is_given_back(home: Homeserver) -> None:
    """It answers 503 for longer than it may: the homeserver hears from where on to catch up, and can carry that later."""
    bus = home.bus(give_back_after=0.5)
    home.is_shut = True
    bus.send_pdu(b'{"n":1}', "$one", [home.name], 12)
    assert until_settled(bus, 20).told == [(home.name, 11, True)]
    home.is_shut = False
    assert answer(bus, bus.carry(home.name, [(b'{"n":1}', "$one")], [], 1)) is not None
    assert [pdu["n"] for body in home.sent for pdu in body["pdus"]] == [1]
    answer(bus, bus.close(20))


def test_nobody_is_given_back_untried(home: Homeserver) -> None:
    """What is carried was refused at once and after about a second, and would be tried again two seconds after that. Before it
    is given up, it is tried once more; and once is all that a patience of zero gives."""
    bus = home.bus(give_back_after=1.9)
    home.is_shut = True
    carrying = bus.carry(home.name, [(b'{"n":1}', "$one")], [], 1)
    assert home.refused.acquire(timeout=10)
    assert home.refused.acquire(timeout=10)
    home.is_shut = False
    assert isinstance(answer(bus, carrying), list)
    assert [pdu["n"] for body in home.sent for pdu in body["pdus"]] == [1]
    home.is_shut = True
    once = answer(bus, bus.carry(home.name, [(b'{"n":2}', "$two")], [], 1, patience=0))
    assert isinstance(once, SouthbridgeError)
    assert home.refused.acquire(timeout=10)
    assert not home.refused.acquire(blocking=False)
    answer(bus, bus.close(0))


def test_who_says_something_is_tried_at_once(home: Homeserver) -> None:
    """It was refused at once, and after one, two and four seconds more; the next attempt is five seconds away, or more. It is made
    as soon as the homeserver has said something."""
    bus = home.bus()
    home.is_shut = True
    bus.send_pdu(b'{"n":1}', "$one", [home.name], 12)
    for _ in range(4):
        assert home.refused.acquire(timeout=20)
    home.is_shut = False
    began = time.monotonic()
    assert answer(bus, bus.heard("other.example")) is None
    assert answer(bus, bus.heard(home.name)) is None
    assert until_settled(bus, 12).told == [(home.name, 12, False)]
    assert time.monotonic() - began < 4
    answer(bus, bus.close(12))


def test_what_cannot_be_used_is_named(home: Homeserver) -> None:
    """Before anything is sent: a key that is none, a file that is not there, an EDU that must not be lost."""
    with pytest.raises(InvalidSettingError, match="line 1 of the key file"):
        Bus("me.example", "rot13 a b")
    with pytest.raises(InvalidSettingError, match="nowhere"):
        Bus("me.example", KEY, ca_files=["/nowhere/ca.pem"])
    with pytest.raises(ValueError, match="no name"):
        Bus("no name", KEY)
    bus = home.bus()
    with pytest.raises(InvalidRequestError, match="must not be lost"):
        bus.send_edu("m.direct_to_device", b"{}", [home.name], 1)
    answer(bus, bus.close(0))
