"""Parks a greenlet. Nothing needs to be patched, and nothing minds if it is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import ref

import gevent
from gevent._hub_local import get_hub_if_exists
from gevent.hub import Hub, Waiter
from gevent.monkey import get_original

from southbridge._frontends import rehearsed
from southbridge._kernel import Exchange, Port, Response

# How many greenlets are switched to before the hub has its turn again.
DRAIN_MAX = 64


class _Here(get_original("_thread", "_local")):  # type: ignore[misc]
    """A thread's watch, and the hub that it is of: they end with the thread, as its hub does."""

    hub: ref[Hub] | None = None
    watch: _Watch


_here = _Here()


def is_here() -> bool:
    """Whether this thread runs greenlets, and so parks them instead of blocking."""
    hub = get_hub_if_exists()
    return hub is not None and gevent.getcurrent() is not hub


def wait(response: Response) -> None:
    """Park this greenlet until ``response`` is settled. A greenlet that is killed gives its request up."""
    watch = _watch()
    waiter: Waiter[None] = Waiter()
    ticket = watch.port.start(response, partial(waiter.switch, None))
    watch.park(waiter, partial(watch.port.cancel, ticket))


def wait_for_news(exchange: Exchange) -> None:
    """Park this greenlet until there is news of ``exchange``. One that is killed does not listen any more."""
    if (kernel := rehearsed.current()) is not None:
        kernel.wait_for_news(exchange, parks=True)
        return
    waiter: Waiter[None] = Waiter()
    if exchange.listen(partial(waiter.switch, None)):
        _watch().park(waiter, exchange.unlisten)


def port() -> Port:
    """The port of this thread's hub, attached on first use."""
    if (kernel := rehearsed.current()) is not None:
        return kernel.hub_port()
    return _watch().port


def _watch() -> _Watch:
    hub = gevent.get_hub()
    if _here.hub is None or _here.hub() is not hub or not _here.watch.port.is_ours:
        _here.watch, _here.hub = _Watch(hub), ref(hub)
    return _here.watch


class _Watch:
    """A hub's port and the watcher of its descriptor."""

    def __init__(self, hub: Hub) -> None:
        self.port = Port("gevent")
        self._waiting = 0
        self._run_callback = hub.loop.run_callback
        # A hub that waits for nothing but the kernel must not think that it waits in vain; and when nobody waits
        # for the kernel, the watcher must not keep the hub alive. So it counts while somebody waits.
        self._watcher: Any = hub.loop.io(self.port.fileno(), 1, ref=False)
        self._watcher.start(self._drain)

    def park(self, waiter: Waiter[None], give_up: Callable[[], None]) -> None:
        self._waiting += 1
        self._watcher.ref = True
        try:
            waiter.get()
        except BaseException:
            give_up()
            raise
        finally:
            self._waiting -= 1
            self._watcher.ref = self._waiting > 0

    def _drain(self) -> None:
        ready = self.port.drain(DRAIN_MAX)
        for switch in ready:
            # It handles what the greenlet raises.
            switch()
        if len(ready) == DRAIN_MAX:
            self._run_callback(self._drain)
