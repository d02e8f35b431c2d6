"""Waits for the kernel of a test, which moves only when somebody moves it: see `southbridge.testing`."""

from __future__ import annotations

from southbridge._kernel import Exchange, Port, Response

# Not from `typing`, which takes longer to import than all of this package.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from southbridge.testing import Kernel

_standing: list[Kernel] = []


def current() -> Kernel | None:
    """The kernel of a test that stands in the place of the process's own."""
    return _standing[0] if _standing else None


def stand(kernel: Kernel | None) -> None:
    """From now on it is ``kernel`` that stands there."""
    _standing[:] = [] if kernel is None else [kernel]


def wait(response: Response, parks: bool) -> None:
    """Wait until ``response`` is settled: by parking this greenlet, or in this thread."""
    kernel = current()
    if kernel is not None:
        kernel.wait_for(response, parks=parks)


def wait_for_news(exchange: Exchange) -> None:
    """Wait in this thread until there is news of ``exchange``."""
    kernel = current()
    if kernel is not None:
        kernel.wait_for_news(exchange, parks=False)


def thread_port() -> Port | None:
    """The port of this thread at the kernel of the test."""
    kernel = current()
    return None if kernel is None else kernel.thread_port()


def step() -> None:
    """Let the kernel of the test do what it can do now, without time passing or anybody being told."""
    kernel = current()
    if kernel is not None:
        kernel.step()
