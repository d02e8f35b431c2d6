"""Declared services on the test kit: found, bounded, asked again, held to be down, probed, and asked again."""

from __future__ import annotations

import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import southbridge
from southbridge.testing import Kernel, answer, in_turn, reset

from .test_lifecycle import run


def states(readiness: southbridge.Readiness) -> dict[str, str]:
    return {name: service.state for name, service in readiness.services.items()}


def test_a_service_is_connected_before_it_is_asked_and_found_by_its_name() -> None:
    with Kernel() as kernel:
        peer = kernel.peer("orders.internal:8080", answer(body="here"))
        orders = southbridge.service("orders", discovery="orders.internal:8080")
        assert states(orders.ready(timeout=5).readiness) == {"orders": "up"}
        assert (kernel.now, peer.requests) == (0, [])
        assert southbridge.get("http://orders/one").text == "here"
        assert peer.requests[0].headers["host"] == "orders.internal"
        orders.withdraw()
        with pytest.raises(southbridge.NameNotFoundError):
            southbridge.get("http://orders/one")
        with pytest.raises(southbridge.InvalidSettingError, match="no service is called"):
            orders.withdraw()


def test_a_service_that_moves_is_followed_without_being_declared_anew() -> None:
    with Kernel() as kernel:
        kernel.peer("192.0.2.1:80", answer(body="old"))
        kernel.peer("192.0.2.2:80", answer(body="new"))
        kernel.dns.host("orders.internal", "192.0.2.1", ttl=30)
        southbridge.service("orders", discovery="orders.internal:80").ready(timeout=5)
        assert southbridge.get("http://orders/").text == "old"
        kernel.dns.host("orders.internal", "192.0.2.2", ttl=30)
        kernel.advance(90)
        assert southbridge.get("http://orders/").text == "new"


def test_a_service_is_found_by_its_srv_records() -> None:
    with Kernel() as kernel:
        peer = kernel.peer("one.internal:9000", answer(body="by SRV"))
        kernel.dns.srv("_http._tcp.orders.internal", (10, 1, 9000, "one.internal"))
        southbridge.service("orders", discovery="srv:_http._tcp.orders.internal").ready(timeout=5)
        assert southbridge.get("http://orders/").text == "by SRV"
        assert peer.requests[0].headers["host"] == "orders.internal"


def test_addresses_are_pushed_by_the_program() -> None:
    with Kernel() as kernel:
        kernel.peer("192.0.2.1:80", answer(body="old"))
        kernel.peer("192.0.2.2:80", answer(body="new"))
        orders = southbridge.service("orders", discovery=["192.0.2.1:80"])
        assert southbridge.get("http://orders/").text == "old"
        orders.push(["192.0.2.2:80"])
        assert southbridge.get("http://orders/").text == "new"


def test_a_breaker_opens_is_probed_and_closes() -> None:
    """Two requests get no answer: the third is answered at once, and after ten seconds one goes out to see."""
    breaker = southbridge.Breaker(failures_max=2, grace=0, probe_after=10, probe_every_max=20)
    with Kernel() as kernel:
        peer = kernel.peer("192.0.2.1:80", in_turn(reset(), reset(), answer(body="back")))
        southbridge.service("orders", discovery=["192.0.2.1:80"], breaker=breaker).ready(timeout=5)
        changes = iter(southbridge.readiness())
        assert states(next(changes)) == {"orders": "up"}
        for _ in range(2):
            with pytest.raises(southbridge.CutError):
                southbridge.post("http://orders/", content=b"x")
            kernel.advance(1)
        began = kernel.now
        with pytest.raises(southbridge.HostDownError, match="orders is down") as caught:
            southbridge.get("http://orders/")
        error = caught.value
        assert (kernel.now, len(peer.requests)) == (began, 2), "it was answered at once, and nobody was asked"
        assert (error.service, error.failures, error.is_repeatable) == ("orders", 2, True)
        assert error.failing_for == pytest.approx(2, abs=0.1)
        assert 5 < error.retry_in <= 13
        seen = next(changes)
        assert states(seen)["orders"] in ("degraded", "down")
        assert states(southbridge.readiness().__next__()) == {"orders": "down"}
        kernel.advance(error.retry_in + 0.01)
        assert southbridge.get("http://orders/").text == "back"
        assert states(southbridge.readiness().__next__()) == {"orders": "up"}


def test_a_service_that_cannot_be_reached_is_answered_for_before_it_was_asked() -> None:
    """Nobody has asked for anything yet; its visits have found out (S4)."""
    with Kernel() as kernel:
        southbridge.service("orders", discovery=["192.0.2.1:80"])
        with pytest.raises(
            southbridge.NotReadyError, match=r"orders has been down for 30\.0 s \(.*connection refused"
        ) as caught:
            southbridge.ready("orders", timeout=30)
        assert states(caught.value.readiness) == {"orders": "down"}
        # It may be the turn of somebody's request to see whether the service is back: once.
        with pytest.raises((southbridge.HostDownError, southbridge.ConnectFailedError)):
            southbridge.get("http://orders/")
        began = kernel.now
        with pytest.raises(southbridge.HostDownError, match="orders is down"):
            southbridge.get("http://orders/")
        assert kernel.now == began
        kernel.peer("192.0.2.1:80", answer(body="up"))
        assert states(southbridge.ready("orders", timeout=60).readiness) == {"orders": "up"}
        assert kernel.now - began < 20
        assert southbridge.get("http://orders/").text == "up"


def test_what_waits_for_a_service_is_bounded() -> None:
    limits = southbridge.Limits(requests_max=3, connections_max=1, waiting_max=2)
    with Kernel() as kernel:
        peer = kernel.peer("192.0.2.1:80", answer(body="late", after=1.0))
        southbridge.service("orders", discovery=["192.0.2.1:80"], limits=limits).ready(timeout=5)

        async def story() -> list[str]:
            import asyncio

            async def ask() -> str:
                try:
                    return (await southbridge.get("http://orders/")).text
                except southbridge.OverloadedError as error:
                    return f"{kernel.now} {error}"

            return list(await asyncio.gather(*(ask() for _ in range(4))))

        told = kernel.run(story())
        assert told[:3] == ["late"] * 3
        assert told[3].startswith(
            "0.0 too much is waiting already: 3 of 3 requests in flight to this service"
        )
        assert {request.connection for request in peer.requests} == {peer.requests[0].connection}
        assert [round(request.at) for request in peer.requests] == [0, 1, 2]


def test_what_failed_is_asked_again_where_that_does_no_harm() -> None:
    retry = southbridge.Retry(4, pause=0.5)
    with Kernel() as kernel:
        kernel.peer("192.0.2.1:80", in_turn(reset(), reset(), answer(body="third")))
        southbridge.service("orders", discovery=["192.0.2.1:80"], retry=retry).ready(timeout=5)
        with pytest.raises(southbridge.CutError) as caught:
            southbridge.post("http://orders/", content=b"pay")
        assert not caught.value.is_repeatable
        assert len(kernel.requests) == 1, "it may have arrived"
    with Kernel() as kernel:
        kernel.peer("192.0.2.1:80", in_turn(reset(), reset(), answer(body="third")))
        southbridge.service("orders", discovery=["192.0.2.1:80"], retry=retry).ready(timeout=5)
        assert southbridge.get("http://orders/").text == "third"
        assert [round(request.at, 1) for request in kernel.requests] == [0.0, 0.0, 1.0], (
            "at once on a fresh connection, since the first had waited for a while; then after the pause"
        )


def test_a_service_is_asked_no_more_often_than_it_was_said() -> None:
    with Kernel() as kernel:
        kernel.peer("192.0.2.1:80", reset())
        retry = southbridge.Retry(2, pause=0.5)
        southbridge.service("orders", discovery=["192.0.2.1:80"], retry=retry).ready(timeout=5)
        with pytest.raises(southbridge.CutError):
            southbridge.get("http://orders/")
        assert [round(request.at, 1) for request in kernel.requests] == [0.0, 0.0]


FILE = """
[service.orders]
discovery = "orders.internal:8080"
host = "orders.example"

[service.orders.limits]
requests_max = 100
connections_max = 4

[service.orders.retry]
attempts_max = 5
pause = "50ms"

[service.orders.breaker]
failures_max = 3

[service.stock]
discovery = ["192.0.2.1:80", "192.0.2.2:80"]
"""


def test_services_are_declared_by_a_file(tmp_path: Path) -> None:
    path = tmp_path / "services.toml"
    path.write_text(FILE)
    with Kernel() as kernel:
        orders = kernel.peer("orders.internal:8080", answer(body="orders"))
        kernel.peer("192.0.2.1:80", answer(body="stock"))
        services = southbridge.services(path)
        assert list(services) == ["orders", "stock"]
        southbridge.ready(timeout=30)
        assert southbridge.get("http://orders/").text == "orders"
        assert southbridge.get("http://stock/").text == "stock"
        assert orders.requests[0].headers["host"] == "orders.example"


def test_a_file_says_everything_that_is_wrong_with_it_and_where(tmp_path: Path) -> None:
    path = tmp_path / "services.toml"
    path.write_text(
        "[service.orders]\n"
        'discovry = "orders.internal:8080"\n'
        "[service.stock]\n"
        'discovery = "192.0.2.1"\n'
        "[service.stock.breaker]\n"
        "failures_max = 1\n"
        "grace = 5\n"
        "[servce.other]\n"
    )
    with pytest.raises(southbridge.InvalidSettingError) as caught:
        southbridge.services(path)
    lines = str(caught.value).splitlines()
    assert lines == [
        f"{path}:1:1: [service.orders]: has no discovery, which says where it is found",
        f"{path}:2:1: unknown key `discovry` in [service.orders]; did you mean `discovery`?",
        f'{path}:4:13: service.stock.discovery: "192.0.2.1" has no port; did you mean "192.0.2.1:80"?',
        f"{path}:6:16: service.stock.breaker.failures_max: 1 is out of range; the least is 2, the most is 1000",
        f'{path}:7:9: service.stock.breaker.grace: 5 has no unit; did you mean "5s"? (units are ms, s, m, h, d)',
        f"{path}:8:2: unknown table `servce`; did you mean [service.NAME]?",
    ]
    with pytest.raises(southbridge.InvalidSettingError, match=r"none\.toml: there is no such file"):
        southbridge.services(tmp_path / "none.toml")


def test_what_makes_no_sense_is_named() -> None:
    with pytest.raises(ValueError, match=r'did you mean "192\.0\.2\.1:80"'):
        southbridge.service("orders", discovery="192.0.2.1")
    with pytest.raises(southbridge.InvalidSettingError, match="lower-case letters"):
        southbridge.service("Orders", discovery="orders.internal:80")
    with pytest.raises(southbridge.InvalidSettingError, match=r"breaker\.failures_max must be at least 2"):
        southbridge.service(
            "orders", discovery="orders.internal:80", breaker=southbridge.Breaker(failures_max=1)
        )
    with pytest.raises(southbridge.InvalidSettingError, match=r"retry\.attempts_max is above 10"):
        southbridge.service("orders", discovery="orders.internal:80", retry=southbridge.Retry(99))
    with pytest.raises(southbridge.InvalidSettingError, match="tls"):
        southbridge.service(
            "orders", discovery="orders.internal:80", tls=southbridge.Tls(ca_files=["/none.pem"])
        )


def test_changes_are_told_in_another_thread_as_they_happen() -> None:
    """With the process's own kernel: one thread waits for changes, another makes them."""
    seen: list[dict[str, str]] = []

    def watch() -> None:
        for change in southbridge.readiness():
            seen.append(states(change))
            if "watched" not in seen[-1] and len(seen) > 1:
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    watched = southbridge.service("watched", discovery=["127.0.0.1:1"])
    with pytest.raises(southbridge.NotReadyError, match="connection refused"):
        watched.ready(timeout=0.2)
    watched.withdraw()
    watcher.join(10)
    assert not watcher.is_alive()
    assert {"watched": "down"} in seen


def test_a_forked_child_has_the_services_of_its_parent(peer: str) -> None:
    told = run("fork_with_services", urlsplit(peer).netloc)
    assert told == "child up 204, parent up 204"
