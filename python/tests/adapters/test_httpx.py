"""What a program sees that gives httpx a transport of the kernel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import southbridge
from southbridge.adapters.httpx import AsyncKernelTransport, ConnectionCutError, KernelTransport

from ..frontends import Frontend
from .conftest import TlsPeer

in_loops = pytest.mark.frontends("asyncio", "uvloop", "trio")


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(transport=KernelTransport()) as client:
        yield client


def test_httpx_has_its_response(client: httpx.Client, peer: str) -> None:
    response = client.get(f"{peer}/echo", params={"a": "1 2"}, headers=[("X-Own", "one"), ("X-Own", "two")])
    assert (response.status_code, response.reason_phrase, response.http_version) == (200, "OK", "HTTP/1.1")
    told = response.json()
    assert (told["method"], told["query"]) == ("GET", "a=1+2")
    heard = [(name.lower(), value) for name, value in told["headers"]]
    assert [value for name, value in heard if name == "x-own"] == ["one", "two"]
    assert sum(name == "user-agent" for name, _ in heard) == 1
    assert ("host", peer.removeprefix("http://")) in heard
    assert response.elapsed.total_seconds() > 0


def test_httpx_fields_that_come_twice_stay_two(client: httpx.Client, peer: str) -> None:
    assert client.get(f"{peer}/fields").headers.get_list("x-twice") == ["one", "two"]


@pytest.mark.parametrize("chunks", [[b"whole"], [b"in ", b"parts"]])
def test_httpx_bodies_arrive(client: httpx.Client, peer: str, chunks: list[bytes]) -> None:
    told = client.post(f"{peer}/echo", content=iter(chunks)).json()
    assert told["body"] == b"".join(chunks).decode()
    assert client.put(f"{peer}/echo", json={"a": 1}).json()["body"] == '{"a":1}'
    files = {"file": ("name.txt", b"in it")}
    assert "in it" in client.post(f"{peer}/echo", data={"b": "2"}, files=files).json()["body"]


def test_httpx_redirects_cookies_and_decoding_are_its_own(client: httpx.Client, peer: str) -> None:
    assert client.get(f"{peer}/redirect/1").status_code == 302
    response = client.get(f"{peer}/redirect/1", follow_redirects=True)
    assert [visit.status_code for visit in response.history] == [302, 302]
    assert ["Cookie", "seen=0"] in [[name.title(), value] for name, value in response.json()["headers"]]
    assert client.cookies["seen"] == "0"
    zipped = client.get(f"{peer}/zipped/1000")
    assert (zipped.text, zipped.headers["content-encoding"]) == ("z" * 1000, "gzip")


def test_httpx_credentials_of_a_url_are_sent_once(client: httpx.Client, peer: str) -> None:
    told = client.get(peer.replace("//", "//me:secret@") + "/echo").json()
    sent = [value for name, value in told["headers"] if name.lower() == "authorization"]
    assert sent == ["Basic bWU6c2VjcmV0"]


def test_httpx_streams_what_it_has_not_read(client: httpx.Client, peer: str) -> None:
    with client.stream("GET", f"{peer}/torn") as response:
        pieces = response.iter_raw()
        assert next(pieces) == b"seen"
        with pytest.raises(ConnectionCutError):
            next(pieces)
    with client.stream("GET", f"{peer}/flood/httpx/100") as response:
        assert next(response.iter_bytes(1000)) == b"f" * 1000
    deadline = time.monotonic() + 20
    while not (told := client.get(f"{peer}/taken/httpx").json())["gone"]:
        assert time.monotonic() < deadline, "the peer still waits"
        time.sleep(0.02)
    assert told["bytes"] < 50 << 20


def test_httpx_sends_what_a_generator_makes_as_it_is_taken(client: httpx.Client, peer: str) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield b"p" * 10_000

    told = client.post(f"{peer}/count/httpx", content=pieces()).json()
    assert (told["bytes"], told["encoding"]) == (1_000_000, "chunked")
    told = client.post(f"{peer}/count/httpx", content=pieces(), headers={"Content-Length": "1000000"}).json()
    assert (told["bytes"], told["length"]) == (1_000_000, "1000000")

    def fails() -> Iterator[bytes]:
        yield b"some"
        raise LookupError("the program's own")

    with pytest.raises(LookupError, match="own"):
        client.post(f"{peer}/count/httpx", content=fails())


def test_httpx_timeouts_are_told_apart(client: httpx.Client, peer: str) -> None:
    began = time.monotonic()
    with pytest.raises(httpx.ReadTimeout) as caught:
        client.get(f"{peer}/never", timeout=httpx.Timeout(5, read=0.2))
    assert 0.2 <= time.monotonic() - began < 3
    assert isinstance(caught.value.__cause__, southbridge.TimedOutError)
    assert caught.value.__cause__.step == "response"
    assert caught.value.request.url.path == "/never"


def test_httpx_a_refused_connection_is_a_connect_error(client: httpx.Client, closed_port: int) -> None:
    with pytest.raises(httpx.ConnectError) as caught:
        client.get(f"http://127.0.0.1:{closed_port}/")
    assert isinstance(caught.value.__cause__, southbridge.ConnectFailedError)
    assert caught.value.__cause__.step == "connect"


def test_httpx_a_cut_is_both_that_httpx_may_say(client: httpx.Client, peer: str) -> None:
    for kind in (httpx.ReadError, httpx.RemoteProtocolError, ConnectionCutError):
        with pytest.raises(kind) as caught:
            client.post(f"{peer}/half", content=b"x")
        assert isinstance(caught.value.__cause__, southbridge.CutError)


def test_httpx_what_cannot_be_sent_is_said(client: httpx.Client, peer: str) -> None:
    with pytest.raises(httpx.UnsupportedProtocol, match="ftp"):
        client.get("ftp://localhost/")
    with pytest.raises(httpx.LocalProtocolError, match=r"'other.test' is not that of .* put the name"):
        client.get(f"{peer}/echo", headers={"Host": "other.test"})


def test_httpx_a_ca_is_given_to_the_client_of_the_kernel(client: httpx.Client, tls_peer: TlsPeer) -> None:
    with pytest.raises(httpx.ConnectError) as caught:
        client.get(tls_peer.url)
    assert isinstance(caught.value.__cause__, southbridge.TlsFailedError)
    ours = southbridge.Client(ca_files=[tls_peer.ca_file], cookies=False)
    with httpx.Client(transport=KernelTransport(ours)) as trusting:
        assert trusting.get(tls_peer.url).text == "sealed"


def test_httpx_a_blocking_call_within_a_loop_blocks_and_works(client: httpx.Client, peer: str) -> None:
    async def story() -> int:
        return client.get(f"{peer}/echo").status_code  # noqa: ASYNC212 - what is shown

    assert asyncio.run(story()) == 200


@in_loops
def test_async_httpx_answers_many_at_once(frontend: Frontend, peer: str) -> None:
    async def story() -> list[str]:
        async with httpx.AsyncClient(transport=AsyncKernelTransport(), base_url=peer) as client:

            async def one() -> str:
                return (await client.get("/delay/0.2")).text

            return await frontend.together(*([one] * 20))

    began = time.monotonic()
    assert frontend.run(story) == ["late"] * 20
    assert time.monotonic() - began < 3


@in_loops
def test_async_httpx_sends_what_a_generator_makes(frontend: Frontend, peer: str) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for part in (b"in ", b"parts"):
            await frontend.sleep(0)
            yield part

    async def story() -> tuple[str, int]:
        async with httpx.AsyncClient(transport=AsyncKernelTransport()) as client:
            told = (await client.post(f"{peer}/echo", content=parts())).json()
            async with client.stream("GET", f"{peer}/size/5000") as response:
                return told["body"], len(await response.aread())

    assert frontend.run(story) == ("in parts", 5000)


@in_loops
def test_async_httpx_failures_are_those_of_httpx(frontend: Frontend, peer: str, closed_port: int) -> None:
    async def story() -> None:
        async with httpx.AsyncClient(transport=AsyncKernelTransport()) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get(f"{peer}/never", timeout=0.1)
            with pytest.raises(httpx.ConnectError) as caught:
                await client.get(f"http://127.0.0.1:{closed_port}/")
            assert isinstance(caught.value.__cause__, southbridge.ConnectFailedError)
            with pytest.raises(httpx.RemoteProtocolError):
                await client.post(f"{peer}/half", content=b"x")

    frontend.run(story)


@in_loops
def test_async_httpx_cancelling_crosses(frontend: Frontend, peer: str) -> None:
    async def story() -> tuple[str, int]:
        async with httpx.AsyncClient(transport=AsyncKernelTransport(), timeout=None) as client:

            async def waits() -> None:
                await client.get(f"{peer}/never")

            ended = await frontend.give_up(waits, after=0.1)
            return ended, (await client.get(f"{peer}/status/204")).status_code

    ended, status = frontend.run(story)
    assert ended in {"CancelledError", "Cancelled"}
    assert status == 204


def test_httpx_tells_the_wait_for_a_place_from_that_for_a_connection(client: httpx.Client, peer: str) -> None:
    """All connections of a service are taken. Who gave the pool a time hears of the pool, and who did not of connecting."""
    name = "one-place-for-httpx"
    limits = southbridge.Limits(connections_max=1)
    service = southbridge.service(name, discovery=[peer.removeprefix("http://")], limits=limits)
    try:
        with client.stream("GET", f"http://{name}/delayed/30"):
            for pool, expected in ((0.2, httpx.PoolTimeout), (None, httpx.ConnectTimeout)):
                timeout = httpx.Timeout(connect=0.2, read=30, write=30, pool=pool)
                with pytest.raises(expected):
                    client.get(f"http://{name}/echo", timeout=timeout)
    finally:
        service.withdraw()
