"""Waits in a task of trio, which is how anyio waits there as well."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import trio

from southbridge._kernel import Port, Response

# How many tasks are rescheduled before others have their turn again.
DRAIN_MAX = 64

_port: trio.lowlevel.RunVar[Port] = trio.lowlevel.RunVar("southbridge port")


def wait(response: Response) -> Generator[Any, Any, Response]:
    """What `await` drives."""
    return _wait(response).__await__()


async def _wait(response: Response) -> Response:
    await trio.lowlevel.checkpoint_if_cancelled()
    port = _port_of_run()
    task = trio.lowlevel.current_task()

    def settled() -> None:
        trio.lowlevel.reschedule(task)

    ticket = port.start(response, settled)

    def abort(_raise_cancel: object) -> trio.lowlevel.Abort:
        port.cancel(ticket)
        return trio.lowlevel.Abort.SUCCEEDED

    await trio.lowlevel.wait_task_rescheduled(abort)
    response.check()
    return response


def _port_of_run() -> Port:
    try:
        return _port.get()
    except LookupError:
        pass
    port = Port()
    _port.set(port)
    trio.lowlevel.spawn_system_task(_drain, port, name="southbridge port")
    return port


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
