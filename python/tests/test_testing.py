"""The kernel of a test, from threads: what it promises about time, peers, names and logs."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
import southbridge
from southbridge.testing import (
    Answer,
    Kernel,
    NothingHappensError,
    Request,
    answer,
    close,
    cut,
    delay,
    drip,
    in_turn,
    never,
    reset,
)

PATIENT = southbridge.Timeout(None, connect=None, read=None)
DAY = 86_400.0


def test_a_day_takes_no_time() -> None:
    began = time.monotonic()
    with Kernel() as kernel:
        kernel.peer("example.org", answer(200, {"X-Kind": "late"}, "hello", after=DAY))
        for days, (scheme, version) in enumerate([("http", "HTTP/1.1"), ("https", "HTTP/2")], start=1):
            response = southbridge.get(f"{scheme}://example.org/", timeout=PATIENT)
            assert (response.status, response.text, response.http_version) == (200, "hello", version)
            assert (response.headers["x-kind"], response.elapsed, kernel.now) == ("late", DAY, days * DAY)
    assert time.monotonic() - began < 10


def test_a_deadline_is_kept_to_the_millisecond() -> None:
    with Kernel() as kernel:
        kernel.peer("example.org", answer(after=3600.0))
        with pytest.raises(southbridge.TimedOutError, match="Total timeout"):
            southbridge.get("http://example.org/", timeout=7.25)
        assert kernel.now == 7.25


def test_a_peer_reads_what_it_is_asked() -> None:
    with Kernel() as kernel:
        echo = kernel.peer("example.org", lambda request: answer(json=[request.json(), request.query]))
        for scheme in ("http", "https"):
            response = southbridge.post(
                f"{scheme}://example.org/a?b=c", json={"d": 1}, headers={"X-Kind": "order"}
            )
            assert response.json() == [{"d": 1}, "b=c"]
        one, two = echo.requests
        assert (one.method, one.path, one.headers["x-KIND"], one.http_version) == (
            "POST",
            "/a",
            "order",
            "HTTP/1.1",
        )
        assert (two.method, two.path, two.headers["x-KIND"], two.http_version) == (
            "POST",
            "/a",
            "order",
            "HTTP/2",
        )
        assert one.headers["host"] == two.headers["host"] == "example.org"
        assert kernel.requests == [one, two]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_peer_breaks_off_as_it_is_told(scheme: str) -> None:
    with Kernel() as kernel:
        peer = kernel.peer("example.org")
        for breaks, error in [
            (reset(), southbridge.CutError),
            (close(), southbridge.CutError),
            (cut("abc", length=9), southbridge.CutError),
            (never(), southbridge.TimedOutError),
        ]:
            peer.handler = breaks
            with pytest.raises(error):
                southbridge.post(f"{scheme}://example.org/", content=b"x", timeout=5)
        assert southbridge.TimedOutError is error
        assert kernel.now == 5


def test_a_drip_comes_drop_by_drop() -> None:
    with Kernel() as kernel:
        kernel.peer("example.org", drip("twelve bytes", every=2))
        response = southbridge.get("http://example.org/")
        assert (response.text, kernel.now) == ("twelve bytes", 24.0)
        kernel.peer("slow.org", drip("x" * 100, every=2))
        with pytest.raises(southbridge.TimedOutError):
            southbridge.get("http://slow.org/", timeout=10)
        assert kernel.now == 34.0


def test_a_program_that_asks_again_is_seen_to_wait() -> None:
    def ask_thrice(url: str) -> southbridge.Response:
        for attempt in range(3):
            response = southbridge.get(url)
            if response.status != 503:
                return response
            with pytest.raises(southbridge.TimedOutError):
                southbridge.get("http://nowhere.org/", timeout=float(2**attempt))
        raise AssertionError("it was never answered")

    with Kernel() as kernel:
        kernel.peer("nowhere.org", never())
        shop = kernel.peer("shop.org", in_turn(answer(503), delay(answer(503), 0.5), answer(body="at last")))
        assert ask_thrice("http://shop.org/").text == "at last"
        assert [request.at for request in shop.requests] == [0.0, 1.0, 3.5]


def test_a_name_is_believed_for_its_time() -> None:
    with Kernel() as kernel:
        kernel.peer("203.0.113.7:80", answer(body="old", then_close=True))
        kernel.peer("203.0.113.8:80", answer(body="new"))
        kernel.dns.host("example.org", "203.0.113.7", ttl=300)
        assert southbridge.get("http://example.org/").text == "old"
        kernel.dns.host("example.org", "203.0.113.8", ttl=300)
        kernel.advance(200)
        assert southbridge.get("http://example.org/").text == "old"
        kernel.advance(200)
        assert southbridge.get("http://example.org/").text == "new"
        assert kernel.dns.questions("example.org") >= 2


def test_the_world_may_be_as_bad_as_it_likes() -> None:
    with Kernel(latency=0.05) as kernel:
        peer = kernel.peer("example.org")
        assert southbridge.get("http://example.org/").status == 200
        # Two trips for the connection, and two for the request.
        assert kernel.now == 0.2
        peer.vanish()
        with pytest.raises(southbridge.TimedOutError):
            southbridge.get("http://example.org/", timeout=5)
        peer.mend()
        bad = kernel.peer("bad.org")
        bad.certificate("expired")
        with pytest.raises(southbridge.TlsFailedError):
            southbridge.get("https://bad.org/")
        refusing = kernel.peer("refusing.org")
        refusing.refuse()
        with pytest.raises(southbridge.ConnectFailedError):
            southbridge.get("http://refusing.org/")
        with pytest.raises(southbridge.NameNotFoundError):
            southbridge.get("http://unheard-of.org/")
        kernel.dns.fail("broken.org", "silence")
        with pytest.raises(southbridge.NameNotFoundError):
            southbridge.get("http://broken.org/")


def test_a_missed_heartbeat_is_noticed() -> None:
    def handler(_request: Request) -> Answer:
        peer.vanish()
        return answer()

    with Kernel() as kernel:
        peer = kernel.peer("example.org", handler)
        with pytest.raises(southbridge.RequestError) as caught:
            southbridge.post("https://example.org/", timeout=PATIENT)
        assert not isinstance(caught.value, southbridge.TimedOutError)
        # HTTP/2 is pinged, and who does not answer is gone.
        assert 10 < kernel.now < 120


def test_handlers_run_in_the_thread_of_the_test() -> None:
    threads: list[int] = []

    def handler(_request: Request) -> Answer:
        threads.append(threading.get_ident())
        return answer()

    with Kernel() as kernel:
        kernel.peer("example.org", handler)
        southbridge.get("https://example.org/")
    assert threads == [threading.get_ident()]


def test_what_a_handler_raises_fails_the_test() -> None:
    def handler(_request: Request) -> Answer:
        raise KeyError("a bug of the test")

    def story() -> None:
        with Kernel() as kernel:
            kernel.peer("example.org", handler)
            with pytest.raises(southbridge.CutError):
                southbridge.post("http://example.org/")

    with pytest.raises(KeyError, match="a bug of the test"):
        story()


def test_a_program_that_would_hang_is_told_who_waits_for_what() -> None:
    with Kernel() as kernel:
        kernel.peer("silent.org", never())
        with pytest.raises(
            NothingHappensError, match=r'http://silent.org in step "response" with 203.0.113.1:80'
        ):
            southbridge.get("http://silent.org/", timeout=PATIENT)


def test_without_autojump_nobody_waits_for_himself() -> None:
    with Kernel(autojump=False) as kernel:
        kernel.peer("example.org", answer(after=1))
        with pytest.raises(NothingHappensError, match="autojump=True"):
            southbridge.get("http://example.org/")


def test_without_autojump_a_thread_waits_for_the_test() -> None:
    with Kernel(autojump=False) as kernel:
        kernel.peer("example.org", answer(body="late", after=3600))
        told: list[str] = []

        def program() -> None:
            told.append(southbridge.get("http://example.org/", timeout=PATIENT).text)

        thread = threading.Thread(target=program)
        thread.start()
        while not kernel.requests:
            kernel.pump()
        kernel.advance(3599)
        assert told == []
        kernel.advance(1)
        thread.join(30)
        assert (told, kernel.now) == (["late"], 3600.0)


def test_the_real_kernel_is_back_afterwards(peer: str) -> None:
    assert southbridge.get(f"{peer}/status/200").status == 200
    with Kernel() as kernel:
        kernel.peer("example.org", answer(418))
        assert southbridge.get("http://example.org/").status == 418
        with pytest.raises(southbridge.ConnectFailedError):
            southbridge.get(f"{peer}/status/200")
        with pytest.raises(RuntimeError, match="leave that first"), Kernel():
            raise AssertionError("it stands where another does")
    assert southbridge.get(f"{peer}/status/200").status == 200
    with pytest.raises(RuntimeError, match="has ended"):
        kernel.pump()


def test_what_makes_no_sense_is_said_at_once() -> None:
    with Kernel() as kernel:
        with pytest.raises(ValueError, match="is no place for a peer"):
            kernel.peer("http://example.org/path")
        with pytest.raises(ValueError, match="backwards"):
            kernel.advance(-1)
        kernel.peer("example.org")
        with pytest.raises(OSError, match=r"no peer can be at 203\.0\.113\.1:80"):
            kernel.peer("example.org")
    for wrong in (lambda: answer(42), lambda: answer(after=-1), lambda: drip("x", every=1, piece=0), in_turn):
        with pytest.raises(ValueError, match=r"status|seconds|piece|in_turn"):
            wrong()


STORY = """
import sys
import southbridge
from southbridge.testing import Kernel, answer, drip, reset, in_turn

with Kernel(seed=int(sys.argv[1]), latency=0.02, jitter=0.05) as kernel:
    kernel.peer("a.org", in_turn(answer(503), answer(body="x" * 50_000), answer(after=5)))
    kernel.peer("b.org", drip("some bytes", every=0.3))
    for _ in range(3):
        southbridge.get("https://a.org/")
        southbridge.get("http://b.org/")
    kernel.peer("c.org", reset())
    try:
        southbridge.post("https://c.org/")
    except southbridge.CutError as error:
        kernel.note(f"and so it ends: {error}")
    print("\\n".join(kernel.log))
"""


def test_one_seed_tells_one_story() -> None:
    def told(seed: int) -> str:
        ran = subprocess.run(
            [sys.executable, "-c", STORY, str(seed)], capture_output=True, text=True, check=True, timeout=60
        )
        return ran.stdout

    first = told(7)
    assert first.count("\n") > 20
    assert "and so it ends" in first
    assert told(7) == first
    assert told(8) != first


def test_adapters_come_along() -> None:
    import httpx
    import requests
    from southbridge.adapters.httpx import KernelTransport
    from southbridge.adapters.requests import KernelAdapter

    with Kernel() as kernel, requests.Session() as session:
        kernel.peer("example.org", answer(body="hello", after=5))
        session.mount("http://", KernelAdapter())
        assert session.get("http://example.org/", timeout=60).text == "hello"
        with httpx.Client(transport=KernelTransport()) as client:
            assert client.get("http://example.org/", timeout=60).text == "hello"
        assert kernel.now == 10.0
