"""Waits on an asyncio loop, whoever made it: CPython, uvloop or Tornado."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary, ref

from southbridge._kernel import Port

_ports: WeakKeyDictionary[asyncio.AbstractEventLoop, Port] = WeakKeyDictionary()


def port(loop: asyncio.AbstractEventLoop) -> Port:
    """The port of ``loop``, which watches it from now on. In the thread of the loop only."""
    known = _ports.get(loop)
    if known is not None and known.is_ours:
        return known
    made = Port()
    loop.add_reader(made.fileno(), _Reader(made, loop))
    _ports[loop] = made
    return made


class _Reader:
    """What the loop calls when completions are ready. Does not keep the loop alive."""

    def __init__(self, port: Port, loop: asyncio.AbstractEventLoop) -> None:
        self._drain = port.drain
        self._loop = ref(loop)

    def __call__(self) -> None:
        if self._drain() and (loop := self._loop()) is not None:
            loop.call_soon(self)
