"""What a program sees that mounts the kernel's adapter on a session of requests."""

from __future__ import annotations

import io
import pickle
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
import southbridge
from requests import exceptions
from southbridge.adapters.requests import KernelAdapter

from .conftest import TlsPeer


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.mount("http://", KernelAdapter())
        session.mount("https://", KernelAdapter())
        yield session


def test_requests_has_its_response(session: requests.Session, peer: str) -> None:
    response = session.get(f"{peer}/echo", params={"a": "1 2"}, headers={"X-Own": "too"})
    assert (response.status_code, response.reason, response.ok) == (200, "OK", True)
    assert response.url == f"{peer}/echo?a=1+2"
    told = response.json()
    heard = {name.lower(): value for name, value in told["headers"]}
    assert (heard["x-own"], heard["host"]) == ("too", peer.removeprefix("http://"))
    assert heard["user-agent"].startswith("python-requests")
    assert response.elapsed.total_seconds() > 0
    assert session.get(f"{peer}/fields").headers["x-twice"] == "one, two"
    assert session.get(f"{peer}/latin").text == "café"


@pytest.mark.parametrize("body", [b"bytes", "bytes", io.BytesIO(b"bytes"), iter([b"by", b"tes"])])
def test_requests_bodies_arrive(session: requests.Session, peer: str, body: Any) -> None:
    assert session.post(f"{peer}/echo", data=body).json()["body"] == "bytes"


def test_requests_forms_and_files_arrive(session: requests.Session, peer: str) -> None:
    assert session.post(f"{peer}/echo", data={"a": "1 2"}).json()["body"] == "a=1+2"
    assert session.put(f"{peer}/echo", json={"a": 1}).json()["body"] == '{"a": 1}'
    sent = session.post(f"{peer}/echo", data={"b": "2"}, files={"file": ("name.txt", b"in it")})
    assert "in it" in sent.json()["body"]


def test_requests_redirects_cookies_and_decoding_are_its_own(session: requests.Session, peer: str) -> None:
    first = session.get(f"{peer}/redirect/1", allow_redirects=False)
    assert (first.status_code, first.cookies["seen"]) == (302, "1")
    response = session.get(f"{peer}/redirect/1")
    assert [visit.status_code for visit in response.history] == [302, 302]
    heard = {name.lower(): value for name, value in response.json()["headers"]}
    assert heard["cookie"] == "seen=0"
    assert session.get(f"{peer}/zipped/1000").text == "z" * 1000


def test_requests_streams_what_it_has_not_read(session: requests.Session, peer: str) -> None:
    with session.get(f"{peer}/size/100000", stream=True) as response:
        pieces = [len(piece) for piece in response.iter_content(1000)]
        assert pieces == [1000] * 100
    with session.get(f"{peer}/size/100000", stream=True) as response:
        assert len(response.raw.read(70_000)) == 70_000
        assert len(response.raw.read()) == 30_000
        assert response.raw.read(10) == b""
    zipped = session.get(f"{peer}/zipped/50", stream=True)
    assert zipped.raw.read(2) == b"\x1f\x8b"
    assert b"".join(session.get(f"{peer}/zipped/5000", stream=True).iter_content(7)) == b"z" * 5000
    assert next(session.get(f"{peer}/lines", stream=True).iter_lines(decode_unicode=True)) == "first"
    assert session.head(f"{peer}/size/12").headers["content-length"] == "12"


def test_requests_reads_are_full_and_chunks_come_as_they_are(session: requests.Session, peer: str) -> None:
    # Of three times 300 KB, a little apart: whoever asks for more than one of them gets it.
    with session.get(f"{peer}/trickle/3", stream=True) as response:
        assert [len(response.raw.read(400_000)) for _ in range(4)] == [400_000, 400_000, 100_000, 0]
    with session.get(f"{peer}/lines", stream=True) as response:
        assert next(response.iter_content(1000)) == b"first\nsec"
    with session.get(f"{peer}/chunks/3/5", stream=True) as response:
        assert b"".join(response.iter_content(None)) == b"c" * 15


def test_requests_what_is_not_read_is_held_back_and_given_up(session: requests.Session, peer: str) -> None:
    with session.get(f"{peer}/flood/requests/100", stream=True) as response:
        assert next(response.iter_content(1000)) == b"f" * 1000
        assert session.get(f"{peer}/taken/requests").json()["bytes"] < 50 << 20
    deadline = time.monotonic() + 20
    while not (told := session.get(f"{peer}/taken/requests").json())["gone"]:
        assert time.monotonic() < deadline, "the peer still waits"
        time.sleep(0.02)
    assert told["bytes"] < 50 << 20


def test_requests_a_stream_that_breaks_off_says_so(session: requests.Session, peer: str) -> None:
    with session.get(f"{peer}/torn", stream=True) as response:
        pieces = response.iter_content(4)
        assert next(pieces) == b"seen"
        with pytest.raises(exceptions.ChunkedEncodingError) as cut:
            next(pieces)
        assert isinstance(root_of(cut.value), southbridge.CutError)
    with session.get(f"{peer}/delayed/5", stream=True, timeout=0.2) as response:
        with pytest.raises(exceptions.ConnectionError) as late:
            response.content  # noqa: B018 - it is read here
        assert isinstance(root_of(late.value), southbridge.TimedOutError)


def root_of(error: BaseException) -> BaseException:
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return error


@pytest.mark.parametrize("stream", [True, False])
def test_requests_sends_what_is_made_as_it_is_taken(
    session: requests.Session, peer: str, tmp_path: Path, stream: bool
) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(100):
            yield b"p" * 10_000

    told = session.post(f"{peer}/count/requests", data=pieces(), stream=stream).json()
    assert (told["bytes"], told["encoding"]) == (1_000_000, "chunked")
    (tmp_path / "file").write_bytes(b"f" * 300_000)
    with open(tmp_path / "file", "rb") as file:
        file.seek(100_000)
        told = session.put(f"{peer}/count/requests", data=file, stream=stream).json()
    assert (told["bytes"], told["length"], told["encoding"]) == (200_000, "200000", None)
    sent = io.BytesIO(b"again")
    assert session.post(f"{peer}/elsewhere", data=sent, stream=stream).json()["bytes"] == 5

    def fails() -> Iterator[bytes]:
        yield b"some"
        raise LookupError("the program's own")

    with pytest.raises(LookupError, match="own"):
        session.post(f"{peer}/count/requests", data=fails(), stream=stream)


def test_requests_timeouts_are_told_apart(session: requests.Session, peer: str) -> None:
    began = time.monotonic()
    for timeout in (0.2, (5, 0.2)):
        with pytest.raises(exceptions.ReadTimeout) as caught:
            session.get(f"{peer}/never", timeout=timeout)
        assert isinstance(caught.value.__cause__, southbridge.TimedOutError)
        assert caught.value.request.url == f"{peer}/never"  # type: ignore[union-attr]
    assert 0.4 <= time.monotonic() - began < 5


def test_requests_failures_are_those_of_requests(
    session: requests.Session, peer: str, closed_port: int
) -> None:
    with pytest.raises(exceptions.ConnectionError) as refused:
        session.get(f"http://127.0.0.1:{closed_port}/")
    assert isinstance(refused.value.__cause__, southbridge.ConnectFailedError)
    with pytest.raises(exceptions.ChunkedEncodingError) as cut:
        session.post(f"{peer}/half", data=b"x")
    assert isinstance(cut.value.__cause__, southbridge.CutError)
    with pytest.raises(exceptions.ConnectionError):
        session.post(f"{peer}/cut", data=b"x")
    with pytest.raises(exceptions.HTTPError):
        session.get(f"{peer}/status/404").raise_for_status()


def test_requests_another_host_is_refused(session: requests.Session, peer: str) -> None:
    with pytest.raises(exceptions.RequestException, match=r"'other.test' is not that of"):
        session.get(f"{peer}/echo", headers={"Host": "other.test"})


def test_requests_verify_takes_a_file_and_nothing_less(
    session: requests.Session, tls_peer: TlsPeer, tmp_path: Path
) -> None:
    with pytest.raises(exceptions.SSLError) as caught:
        session.get(tls_peer.url)
    assert isinstance(caught.value.__cause__, southbridge.TlsFailedError)
    assert session.get(tls_peer.url, verify=tls_peer.ca_file).text == "sealed"
    with pytest.raises(exceptions.SSLError):
        session.get(tls_peer.url)
    with pytest.raises(exceptions.InvalidSchema, match=r"verify=False is refused.*give the CA"):
        session.get(tls_peer.url, verify=False)
    with pytest.raises(exceptions.InvalidSchema, match="is a directory"):
        session.get(tls_peer.url, verify=str(tmp_path))
    with pytest.raises(exceptions.RequestException, match="absent"):
        session.get(tls_peer.url, verify=str(tmp_path / "absent.pem"))
    with pytest.raises(exceptions.RequestException, match="absent"):
        session.get(tls_peer.url, verify=tls_peer.ca_file, cert=str(tmp_path / "absent.pem"))


def test_requests_a_proxy_is_asked(session: requests.Session, closed_port: int) -> None:
    proxies = {"http": f"http://127.0.0.1:{closed_port}"}
    with pytest.raises(exceptions.ProxyError, match=f"127.0.0.1:{closed_port}: connection refused"):
        session.get("http://behind.test/", proxies=proxies)


def test_requests_what_makes_no_sense_is_said_as_requests_does(session: requests.Session, peer: str) -> None:
    nonsense: Any = ("foo", (1, 2, 3))
    for timeout in nonsense:
        with pytest.raises(ValueError, match=r"must be an int, float or None|\(connect, read\)"):
            session.get(f"{peer}/echo", timeout=timeout)
    # What is for https does not matter here.
    assert session.get(f"{peer}/echo", cert=".").ok


def test_requests_headers_are_text_as_it_reads_them(session: requests.Session, peer: str) -> None:
    assert session.get(f"{peer}/fields").headers["x-latin"] == "café"
    # A peer that writes a Location in UTF-8 is understood.
    after = session.get(f"{peer}/away")
    assert (after.url, after.json()["path"]) == (f"{peer}/echo/%C5%A1", "/echo/%C5%A1")


def test_requests_a_session_can_be_pickled(session: requests.Session, peer: str) -> None:
    assert pickle.loads(pickle.dumps(session)).get(f"{peer}/echo").ok


def test_requests_threads_share_a_session(session: requests.Session, peer: str) -> None:
    def one(_: int) -> str:
        return session.get(f"{peer}/delay/0.2").text

    began = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(one, range(20)))
    assert answers == ["late"] * 20
    assert time.monotonic() - began < 3
