"""Waits on an asyncio loop, whoever made it: CPython, uvloop or Tornado."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary, ref

from southbridge._frontends import rehearsed
from southbridge._kernel import Port

# How many tasks are called back before the loop has its turn again.
DRAIN_MAX = 64

# The loop keeps its port, as its reader, and nobody else does: a port knows the tasks that wait, and these their loop,
# so a loop that was closed with requests in flight would be kept for ever, and its requests with it.
_ports: WeakKeyDictionary[asyncio.AbstractEventLoop, ref[Port]] = WeakKeyDictionary()


def port(loop: asyncio.AbstractEventLoop) -> Port:
    """The port of ``loop``, which watches it from now on. In the thread of the loop only."""
    if (kernel := rehearsed.current()) is not None:
        return kernel.asyncio_port(loop)
    known = _ports.get(loop)
    kept = known() if known is not None else None
    if kept is not None and kept.is_ours:
        return kept
    made = Port("asyncio")
    loop.add_reader(made.fileno(), Reader(made, loop))
    _ports[loop] = ref(made)
    return made


class Reader:
    """What the loop calls when completions are ready. Does not keep the loop alive."""

    def __init__(self, port: Port, loop: asyncio.AbstractEventLoop) -> None:
        self._port = port
        self._drain = port.drain_tasks
        self._loop = ref(loop)

    def __del__(self) -> None:
        # The loop has been closed. Whoever waits here will never go on, and must not keep connections meanwhile.
        self._port.give_up_all()

    def __call__(self) -> None:
        ready = self._drain(DRAIN_MAX)
        called = 0
        try:
            # At once and not by `call_soon`: this is a callback of the loop already.
            for run, callback, waiter in ready:
                called += 1
                run(callback, waiter)
        finally:
            loop = self._loop()
            if loop is not None:
                # A task may end the loop by an exception, and those behind it have been answered all the same.
                for run, callback, waiter in ready[called:]:
                    loop.call_soon(run, callback, waiter)
                if len(ready) == DRAIN_MAX:
                    loop.call_soon(self)
