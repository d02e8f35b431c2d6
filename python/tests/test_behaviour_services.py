"""A declared service in every frontend: it is waited for, asked by its name, and its changes are told."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import southbridge

from .frontends import Frontend


@pytest.fixture
def orders(peer: str) -> Iterator[southbridge.Service]:
    service = southbridge.service("orders", discovery=[urlsplit(peer).netloc])
    yield service
    service.withdraw()


def test_a_service_is_ready_before_it_is_asked(frontend: Frontend, orders: southbridge.Service) -> None:
    async def story() -> tuple[str, int]:
        check = southbridge.ready("orders", timeout=10)
        readiness = await check
        return readiness["orders"].state, (await southbridge.get("http://orders/status/204")).status

    assert frontend.run(story) == ("up", 204)
    assert orders.name == "orders"


def test_what_is_not_ready_in_time_says_why(frontend: Frontend, closed_port: int) -> None:
    async def story() -> str:
        with pytest.raises(southbridge.NotReadyError) as caught:
            await southbridge.ready("stock", timeout=0.1)
        assert caught.value.readiness["stock"].state == "down"
        return str(caught.value)

    stock = southbridge.service("stock", discovery=[f"127.0.0.1:{closed_port}"])
    try:
        assert "connection refused" in frontend.run(story)
    finally:
        stock.withdraw()


def test_changes_are_told(frontend: Frontend, orders: southbridge.Service, closed_port: int) -> None:
    async def story() -> list[str]:
        await orders.ready(timeout=10)
        changes = southbridge.readiness()
        told: list[str] = [(await changes.__anext__())["orders"].state]
        orders.push([f"127.0.0.1:{closed_port}"])
        told.append((await changes.__anext__())["orders"].state)
        return told

    assert frontend.run(story) == ["up", "down"]
