"""What every adapter does with a request before the kernel has it."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar
from urllib.parse import urlsplit

from southbridge import Client, InvalidRequestError

T = TypeVar("T")
Fields = list[tuple[bytes, bytes]]

# What frames a message is between the kernel and the peer.
FRAMING = frozenset(
    (b"connection", b"content-length", b"keep-alive", b"proxy-connection", b"transfer-encoding")
)


def plain_client() -> Client:
    """A client that leaves to others what they do themselves: cookies, redirects and decoding."""
    return Client(cookies=False, redirects_max=0, decompress=False)


def fields_for(url: str, fields: Iterable[tuple[bytes, bytes]]) -> Fields:
    """``fields`` without those that are the kernel's own.

    Raises `InvalidRequestError` for a ``Host`` that is not the one of ``url``.
    """
    kept: Fields = []
    for name, value in fields:
        lower = name.lower()
        if lower == b"host":
            _check_host(url, value)
        elif lower not in FRAMING:
            kept.append((name, value))
    return kept


def _check_host(url: str, value: bytes) -> None:
    parts = urlsplit(url)
    of_url = parts.netloc.rpartition("@")[2].lower()
    said = value.decode("latin-1").strip().lower()
    default = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
    if said.removesuffix(default) != of_url.removesuffix(default):
        raise InvalidRequestError(
            f"the Host {said!r} is not that of {url}: the kernel names the host that it asks; put the name into the URL"
        )


def without_loop(call: Callable[[], T]) -> T:
    """What ``call`` returns, called where it may block: in a thread beside this one, if a loop runs in this one."""
    if not _loop_runs():
        return call()
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, name="southbridge adapter", daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def _loop_runs() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        return True
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return True
    if "twisted.internet.reactor" not in sys.modules:
        return False
    from southbridge._frontends import twisted

    return twisted.is_here(None)
