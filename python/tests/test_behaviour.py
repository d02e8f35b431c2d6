"""What every frontend does alike, with every server: the peer itself, and nginx before it."""

from __future__ import annotations

import contextvars

import pytest
import southbridge

from .frontends import Frontend
from .servers import Server


def test_a_get_is_answered(frontend: Frontend, server: Server) -> None:
    async def story() -> southbridge.Response:
        return await server.client.get("/echo", params={"a": "1", "b": ["2", "3"]})

    response = frontend.run(story)
    assert response.status == 200
    assert response.ok
    assert response.http_version == server.http_version
    assert response.headers["CONTENT-type"] == "application/json"
    told = response.json()
    assert told["method"] == "GET"
    assert told["query"] == "a=1&b=2&b=3"


def test_a_post_carries_json(frontend: Frontend, server: Server) -> None:
    async def story() -> southbridge.Response:
        return await server.client.post("/echo", json={"name": "Zoë"}, headers={"X-Kind": "order"})

    told = frontend.run(story).json()
    headers = {name.lower(): value for name, value in told["headers"]}
    assert told["body"].encode("latin-1").decode() == '{"name":"Zoë"}'
    assert headers["content-type"] == "application/json"
    assert headers["x-kind"] == "order"


def test_many_are_in_flight_at_once(frontend: Frontend, server: Server) -> None:
    async def one() -> str:
        return (await server.client.get("/delay/0.2")).text

    async def story() -> list[str]:
        return await frontend.together(*([one] * 20))

    began = server.now()
    assert frontend.run(story) == ["late"] * 20
    assert server.now() - began < 2


def test_a_timeout_is_kept_and_says_where_it_was(frontend: Frontend, server: Server) -> None:
    async def story() -> southbridge.RequestError:
        with pytest.raises(southbridge.RequestError) as caught:
            await server.client.get("/never", timeout=0.2)
        return caught.value

    began = server.now()
    error = frontend.run(story)
    assert 0.2 <= server.now() - began < 5
    assert error.step == "response"
    assert isinstance(error, southbridge.TimedOutError)
    assert isinstance(error, TimeoutError)


def test_a_cut_connection_is_told_from_a_refused_one(
    frontend: Frontend, server: Server, closed_port: int
) -> None:
    async def story() -> tuple[str, str]:
        with pytest.raises(southbridge.CutError) as cut:
            await server.client.post("/half", content=b"x")
        with pytest.raises(southbridge.ConnectFailedError) as refused:
            await southbridge.get(f"http://127.0.0.1:{closed_port}/")
        assert not cut.value.is_repeatable
        assert refused.value.is_repeatable
        return cut.value.step, refused.value.step

    assert frontend.run(story) == ("body", "connect")


def test_what_is_given_up_is_given_up_in_the_kernel(frontend: Frontend, server: Server) -> None:
    if not frontend.can_give_up:
        pytest.skip("nobody can cancel it here")

    async def waits() -> None:
        await server.client.get("/never")

    async def story() -> tuple[str, int]:
        ended = await frontend.give_up(waits, after=0.1)
        return ended, (await server.client.get("/status/204")).status

    ended, status = frontend.run(story)
    assert ended in {"CancelledError", "Cancelled", "GreenletExit"}
    assert status == 204


COLOUR: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


def test_each_caller_keeps_its_context(frontend: Frontend, server: Server) -> None:
    async def one(colour: str) -> str:
        COLOUR.set(colour)
        await server.client.get("/delay/0.05")
        await server.client.get("/status/200")
        return COLOUR.get()

    async def red() -> str:
        return await one("red")

    async def blue() -> str:
        return await one("blue")

    async def story() -> list[str]:
        return await frontend.together(red, blue, red)

    assert frontend.run(story) == ["red", "blue", "red"]


def test_a_response_can_be_awaited_again(frontend: Frontend, server: Server) -> None:
    async def story() -> tuple[int, int]:
        response = await server.client.get("/status/200")
        return (await response).status, response.status

    assert frontend.run(story) == (200, 200)


def test_an_error_of_status_is_raised_on_demand(frontend: Frontend, server: Server) -> None:
    async def story() -> southbridge.Response:
        return await server.client.get("/status/404")

    response = frontend.run(story)
    with pytest.raises(southbridge.StatusError, match="answered 404") as caught:
        response.raise_for_status()
    assert caught.value.response.status == 404
