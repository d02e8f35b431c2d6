"""Runs one example, as a program by itself: ``python example.py NAME < EXAMPLE``.

Statements that await at the top run on one loop of asyncio; the others run outside of it, as in a script. So one
example may show both ways of asking.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import signal
import sys
from types import CodeType
from typing import Any


def run(source: str, name: str, after: int) -> None:
    """The lines of ``source`` are counted from ``after``, so that a failure names the line of the page."""
    tree = ast.parse(source, name)
    ast.increment_lineno(tree, after)
    names: dict[str, Any] = {"__name__": "__main__"}
    loop: asyncio.AbstractEventLoop | None = None
    for statement in tree.body:
        code: CodeType = compile(
            ast.Module([statement], []), name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        )
        if code.co_flags & inspect.CO_COROUTINE:
            loop = loop or asyncio.new_event_loop()
            loop.run_until_complete(eval(code, names))
        else:
            exec(code, names)
    if loop is not None:
        loop.close()


if __name__ == "__main__":
    # As in a terminal: in the background of a shell Ctrl-C is ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    run(sys.stdin.read(), sys.argv[1], int(sys.argv[2]))
