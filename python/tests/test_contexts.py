"""Contexts of Twisted programs: a response leaves them as Twisted's own Deferreds do."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import southbridge

from .frontends import Frontend
from .logcontext import NOBODY, LogContext, current, fired_in, in_background, yielding

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

pytestmark = pytest.mark.frontends("twisted", "inlineCallbacks", "twisted-asyncio")

Begin = Callable[[], "Deferred[Any]"]


async def lives_of_two_requests(begin: Begin) -> list[object]:
    """What two requests and the reactor see, step by step, where ``begin`` starts what they wait for."""
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    seen: list[object] = []
    fired_in.clear()

    async def inner(name: str) -> None:
        with LogContext(f"{name}, inner"):
            await yielding(begin())
            seen.append((name, "inner", current()))

    async def request(name: str) -> None:
        with LogContext(name):
            await yielding(begin())
            seen.append((name, "after one", current()))
            await inner(name)
            seen.append((name, "after the inner one", current()))
            background = in_background(lambda: inner(f"{name}, background"))
            seen.append((name, "while the other runs", current()))
            await yielding(background)
            try:
                await yielding(failing(begin()))
            except ZeroDivisionError:
                seen.append((name, "after a failure", current()))

    def failing(deferred: Deferred[Any]) -> Deferred[Any]:
        return deferred.addCallback(lambda _: 1 / 0)

    # One after another, so that there is one order in which things can be seen.
    for name in ("first", "second"):
        await yielding(in_background(lambda name=name: request(name)))  # type: ignore[misc]
        await deferLater(reactor, 0, lambda: seen.append(("the reactor", current())))
    return [*seen, list(fired_in)]


def test_after_an_await_the_context_is_what_twisted_would_leave(frontend: Frontend, peer: str) -> None:
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    client = southbridge.Client(base_url=peer)

    async def with_responses() -> list[object]:
        return await lives_of_two_requests(lambda: client.get("/delay/0.01"))  # type: ignore[arg-type, return-value]

    async def with_deferreds() -> list[object]:
        return await lives_of_two_requests(lambda: deferLater(reactor, 0.01))

    ours = frontend.run(with_responses)
    assert ours == frontend.run(with_deferreds)
    assert ("first", "after one", ("first", "first")) in ours
    assert ours[-1] == [NOBODY] * len(ours[-1])  # type: ignore[arg-type]


def test_at_once_no_request_sees_anothers_context(frontend: Frontend, peer: str) -> None:
    """Fifty of them, whose answers come in one batch."""
    client = southbridge.Client(base_url=peer)
    wrong: list[object] = []

    async def request(name: str) -> None:
        with LogContext(name):
            for _ in range(3):
                await yielding(client.get("/delay/0.02"))  # type: ignore[arg-type]
                if current() != (name, name):
                    wrong.append((name, current()))

    async def story() -> tuple[str, str]:
        from twisted.internet.defer import gatherResults

        started = [in_background(lambda name=f"request {at}": request(name)) for at in range(50)]  # type: ignore[misc]
        await yielding(gatherResults(started))
        return current()

    assert frontend.run(story) == (NOBODY, NOBODY)
    assert wrong == []


def test_callbacks_log_for_their_caller_and_not_for_the_descriptor(frontend: Frontend, peer: str) -> None:
    """Twisted's own log context, by which a line says which connection it is about."""
    from twisted.python import context as twisted_context
    from twisted.python.log import ILogContext

    context: Any = twisted_context
    client = southbridge.Client(base_url=peer)
    systems: list[object] = []

    def note(result: object) -> object:
        systems.append(context.get(ILogContext)["system"])
        return result

    def ask() -> Any:
        response: Any = client.get("/delay/0.01")
        return response.addCallback(note)

    async def story() -> None:
        mine = {**context.get(ILogContext), "system": "mine"}
        await context.call({ILogContext: mine}, ask)
        await ask()

    frontend.run(story)
    assert systems[0] == "mine"
    assert systems[1] != "southbridge"
