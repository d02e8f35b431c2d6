"""Every frontend by its name. Two of them change the whole process, and so come first in one of their own."""

from __future__ import annotations

from functools import cache

from . import Frontend


@cache
def frontend_called(name: str) -> Frontend:
    """The frontend ``name``; its framework is imported now, and not before. Some can be made but once a process."""
    if name == "twisted-asyncio":
        import asyncio

        from twisted.internet import asyncioreactor

        asyncioreactor.install(asyncio.new_event_loop())
    if name in ("gevent", "gevent-patched", "threads"):
        from .blocking import Gevent, GeventPatched, Threads

        return {"gevent": Gevent, "gevent-patched": GeventPatched, "threads": Threads}[name]()
    if "wisted" in name or name == "inlineCallbacks":
        from .reactor import InlineCallbacks, Twisted, TwistedOnAsyncio

        by_name = {
            "twisted": Twisted,
            "inlineCallbacks": InlineCallbacks,
            "twisted-asyncio": TwistedOnAsyncio,
        }
        return by_name[name]()
    from .loops import Asyncio, Tornado, Trio, Uvloop

    return {"asyncio": Asyncio, "uvloop": Uvloop, "tornado": Tornado, "trio": Trio}[name]()
