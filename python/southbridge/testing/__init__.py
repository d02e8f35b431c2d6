"""A kernel for tests: on a clock that the test moves, against peers that the test scripts.

::

    with southbridge.testing.Kernel(seed=7) as kernel:
        kernel.peer("example.org", lambda request: answer(200, body="hello", after=3600))
        response = southbridge.get("http://example.org/", timeout=7200)   # takes milliseconds
        assert (response.text, kernel.now) == ("hello", 3600.0)

It is the kernel that ships, with its client, pool, ranker, resolver, TLS and HTTP; what it dials is in memory, and its time
stands still while Python runs. ``docs/book/src/testing.md`` is the chapter about it.
"""

# Not from `typing`, which takes longer to import than the plugin for pytest, whose package this is.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from southbridge.testing._answers import Answer, answer, close, cut, delay, drip, in_turn, never, reset
    from southbridge.testing._dns import Dns
    from southbridge.testing._errors import NothingHappensError
    from southbridge.testing._peers import Handler, Peer, Request
    from southbridge.testing._stage import Kernel

__all__ = [
    "Answer",
    "Dns",
    "Handler",
    "Kernel",
    "NothingHappensError",
    "Peer",
    "Request",
    "answer",
    "close",
    "cut",
    "delay",
    "drip",
    "in_turn",
    "never",
    "reset",
]

_HOMES = {
    "Dns": "_dns",
    "NothingHappensError": "_errors",
    "Handler": "_peers",
    "Peer": "_peers",
    "Request": "_peers",
}


def __getattr__(name: str) -> object:
    """Imports what is asked for, when it is."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    home = "_stage" if name == "Kernel" else _HOMES.get(name, "_answers")
    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
