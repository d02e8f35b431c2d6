"""The shape of the client that people know (issue 4, item 2), as far as no other test has it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import southbridge

from .frontends import Frontend


@pytest.mark.parametrize("verb", ["get", "options", "post", "put", "patch", "delete"])
def test_every_verb_has_a_call(frontend: Frontend, peer: str, verb: str) -> None:
    async def story() -> southbridge.Response:
        response: southbridge.Response = await getattr(southbridge, verb)(f"{peer}/echo")
        return response

    assert frontend.run(story).json()["method"] == verb.upper()


def test_a_head_has_no_body(frontend: Frontend, peer: str) -> None:
    async def story() -> southbridge.Response:
        return await southbridge.head(f"{peer}/size/100")

    response = frontend.run(story)
    assert (response.status, response.content, response.headers["content-length"]) == (200, b"", "100")


def test_a_method_may_be_any_word(peer: str) -> None:
    assert southbridge.request("PROPFIND", f"{peer}/echo").json()["method"] == "PROPFIND"
    with pytest.raises(ValueError, match="no method"):
        southbridge.request("NO METHOD", f"{peer}/echo")


def test_a_base_url_is_where_relative_ones_begin(peer: str) -> None:
    client = southbridge.Client(base_url=f"{peer}/echo/")
    assert client.get("?a=1").url == f"{peer}/echo/?a=1"
    assert client.get("/status/204").url == f"{peer}/status/204"
    assert client.get(f"{peer}/size/1").content == b"x", "what is absolute stays so"


@pytest.fixture
def full() -> Iterator[str]:
    """A listener whose queue is full: who connects hears nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        callers = [socket.socket() for _ in range(4)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}"
        for caller in callers:
            caller.close()


def test_the_way_to_a_connection_has_a_time_of_its_own(frontend: Frontend, full: str) -> None:
    async def story() -> southbridge.TimedOutError:
        with pytest.raises(southbridge.TimedOutError) as caught:
            await southbridge.get(full, timeout=southbridge.Timeout(30, connect=0.2, read=30))
        return caught.value

    begun = time.monotonic()
    error = frontend.run(story)
    assert error.step == "connect"
    assert "Connect" in str(error)
    assert 0.2 <= time.monotonic() - begun < 10


def test_a_total_counts_the_body(frontend: Frontend, peer: str) -> None:
    """Every piece comes in time, and all of them do not."""

    async def story() -> str:
        with pytest.raises(southbridge.TimedOutError) as caught:
            await southbridge.get(f"{peer}/trickle/500", timeout=0.5)
        return caught.value.step

    assert frontend.run(story) == "body"


class Proxy(BaseHTTPRequestHandler):
    """Answers for everybody."""

    def do_GET(self) -> None:
        body = f"{self.path} {self.headers['Host']} {self.headers['Proxy-Authorization']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - what it is called there
        pass


@pytest.fixture
def proxy() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_proxy_is_asked_for_whom_it_stands(frontend: Frontend, proxy: str) -> None:
    client = southbridge.Client(proxy=f"http://me:secret@{proxy}")

    async def story() -> str:
        return (await client.get("http://shop.test/cart?a=1")).text

    assert frontend.run(story) == "http://shop.test/cart?a=1 shop.test Basic bWU6c2VjcmV0"


def test_auth_is_a_pair_or_a_token(peer: str) -> None:
    def said(auth: tuple[str, str] | str) -> str:
        headers: list[tuple[str, str]] = southbridge.get(f"{peer}/echo", auth=auth).json()["headers"]
        return {name.lower(): value for name, value in headers}["authorization"]

    assert said(("me", "secret")) == "Basic bWU6c2VjcmV0"
    assert said("token") == "Bearer token"


def test_what_is_not_to_be_decoded_comes_as_it_was_sent(peer: str) -> None:
    response = southbridge.get(f"{peer}/zipped/1000", decompress=False)
    assert response.content[:2] == b"\x1f\x8b"


def test_a_status_is_called_what_the_peer_calls_it(frontend: Frontend, peer: str) -> None:
    async def story() -> list[str]:
        async def reason(path: str) -> str:
            return (await southbridge.get(f"{peer}{path}")).reason

        return [await reason("/status/404"), await reason("/status/799"), await reason("/echo")]

    assert frontend.run(story) == ["Asked", "Asked", "OK"]
