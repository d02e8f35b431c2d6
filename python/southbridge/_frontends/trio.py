"""Waits in a task of trio, which is how anyio waits there as well."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import trio

from southbridge._frontends import rehearsed
from southbridge._kernel import Exchange, Port, Response

# How many tasks are rescheduled before others have their turn again.
DRAIN_MAX = 64

_port: trio.lowlevel.RunVar[Port] = trio.lowlevel.RunVar("southbridge port")


def wait(response: Response) -> Generator[Any, Any, Response]:
    """What `await` drives."""
    if (kernel := rehearsed.current()) is not None:
        waiting: Generator[Any, Any, Response] = kernel.trio_run().wait(response).__await__()
        return waiting
    return _wait(response).__await__()


async def _wait(response: Response) -> Response:
    await trio.lowlevel.checkpoint_if_cancelled()
    at = port()
    task = trio.lowlevel.current_task()

    def settled() -> None:
        trio.lowlevel.reschedule(task)

    ticket = at.start(response, settled)

    def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
        at.cancel(ticket)
        return trio.lowlevel.Abort.SUCCEEDED

    await trio.lowlevel.wait_task_rescheduled(abort)
    response.check()
    return response


async def wait_for_news(exchange: Exchange) -> None:
    """Park this task until there is news of ``exchange``. Who is cancelled does not listen any more."""
    if (kernel := rehearsed.current()) is not None:
        await kernel.trio_run().wait_for_news(exchange)
        return
    await trio.lowlevel.checkpoint_if_cancelled()
    task = trio.lowlevel.current_task()

    def heard() -> None:
        trio.lowlevel.reschedule(task)

    def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
        exchange.unlisten()
        return trio.lowlevel.Abort.SUCCEEDED

    if exchange.listen(heard):
        await trio.lowlevel.wait_task_rescheduled(abort)


def port() -> Port:
    """The port of this run, attached on first use."""
    if (kernel := rehearsed.current()) is not None:
        staged: Port = kernel.trio_run().port
        return staged
    try:
        return _port.get()
    except LookupError:
        pass
    made = Port("trio")
    _port.set(made)
    trio.lowlevel.spawn_system_task(_drain, made, name="southbridge port")
    return made


async def _drain(port: Port) -> None:
    while True:
        await trio.lowlevel.wait_readable(port.fileno())
        while True:
            ready = port.drain(DRAIN_MAX)
            for settled in ready:
                settled()
            if len(ready) < DRAIN_MAX:
                break
            await trio.lowlevel.cancel_shielded_checkpoint()
