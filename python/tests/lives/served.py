"""An application for gunicorn, whose master imports it (``--preload``) and asks before it forks."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import southbridge

client = southbridge.Client(base_url=os.environ["SOUTHBRIDGE_TEST_PEER"])
# With this the master has a kernel, and connections: none of it is a worker's.
MASTER = (os.getpid(), client.get("/size/1").status)


def wsgi(
    _environment: dict[str, Any], start: Callable[[str, list[tuple[str, str]]], object]
) -> Iterable[bytes]:
    """For workers that block, in threads or greenlets."""
    answers = [client.get("/delay/0.005").status for _ in range(3)]
    start("200 OK", [("Content-Type", "text/plain")])
    return [f"{answers} {os.getpid() != MASTER[0]}".encode()]


async def asgi(
    scope: dict[str, Any], _receive: object, send: Callable[[dict[str, Any]], Awaitable[None]]
) -> None:
    """For workers with an event loop."""
    if scope["type"] != "http":
        return
    answers = [(await client.get("/delay/0.005")).status for _ in range(3)]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    body = f"{answers} {os.getpid() != MASTER[0]}".encode()
    await send({"type": "http.response.body", "body": body})
