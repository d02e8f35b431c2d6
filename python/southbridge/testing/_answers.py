"""What a peer does with a request: plain values, made by the helpers of this module.

All times are seconds of the kernel's clock.
"""

from __future__ import annotations

import json as _json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

Headers: TypeAlias = Mapping[str, str] | Sequence[tuple[str, str]]
Ending: TypeAlias = Literal["whole", "then close", "cut", "reset", "never"]


@dataclass(frozen=True)
class Answer:
    """What a peer does with one request. ``status`` None: nothing is said before the ``ending``."""

    status: int | None = 200
    headers: tuple[tuple[str, str], ...] = ()
    pieces: tuple[tuple[float, bytes], ...] = ()
    ending: Ending = "whole"
    after: float = 0.0

    def __str__(self) -> str:
        late = f" after {self.after:g} s" if self.after else ""
        if self.status is None:
            return f"{_SILENT[self.ending]}{late}"
        size = sum(len(piece) for _, piece in self.pieces)
        ending = "" if self.ending == "whole" else f", {_SPOKEN[self.ending]}"
        return f"{self.status}, {size} bytes{ending}{late}"


_SILENT = {
    "whole": "hangs up",
    "then close": "hangs up",
    "cut": "hangs up",
    "reset": "resets",
    "never": "is silent",
}
_SPOKEN = {
    "then close": "then hangs up",
    "cut": "and hangs up before the end",
    "reset": "and resets",
    "never": "and then is silent",
}


def answer(
    status: int = 200,
    headers: Headers = (),
    body: bytes | str = b"",
    *,
    json: object = None,
    after: float = 0.0,
    then_close: bool = False,
) -> Answer:
    """An answer with this status, these headers and this body, ``after`` seconds.

    ``json`` makes the body instead. ``then_close`` closes the connection without having said so: the next request on
    it is in vain.
    """
    fields = _pairs(headers)
    if json is not None:
        body = _json.dumps(json)
        if not any(name.lower() == "content-type" for name, _ in fields):
            fields += (("content-type", "application/json"),)
    content = body.encode() if isinstance(body, str) else bytes(body)
    return Answer(
        _checked(status), fields, ((0.0, content),), "then close" if then_close else "whole", _seconds(after)
    )


def drip(
    body: bytes | str,
    *,
    every: float,
    piece: int = 1,
    status: int = 200,
    headers: Headers = (),
    after: float = 0.0,
) -> Answer:
    """A body that comes ``piece`` bytes at a time, one each ``every`` seconds."""
    content = body.encode() if isinstance(body, str) else bytes(body)
    if piece < 1:
        raise ValueError(f"piece is {piece}: a drip has one byte at least")
    pieces = tuple((_seconds(every), content[at : at + piece]) for at in range(0, len(content), piece))
    return Answer(_checked(status), _pairs(headers), pieces, "whole", _seconds(after))


def cut(
    body: bytes | str, *, length: int, status: int = 200, headers: Headers = (), after: float = 0.0
) -> Answer:
    """An answer that promises ``length`` bytes, and a connection that closes after ``body``."""
    content = body.encode() if isinstance(body, str) else bytes(body)
    promised = (*_pairs(headers), ("content-length", str(length)))
    return Answer(_checked(status), promised, ((0.0, content),), "cut", _seconds(after))


def close(after: float = 0.0) -> Answer:
    """The connection is closed in good order, without a word."""
    return Answer(None, ending="cut", after=_seconds(after))


def reset(after: float = 0.0) -> Answer:
    """The connection is reset; over HTTP/2, the stream."""
    return Answer(None, ending="reset", after=_seconds(after))


def never() -> Answer:
    """Nothing comes, for as long as the other side likes to wait."""
    return Answer(None, ending="never")


def delay(what: Answer, seconds: float) -> Answer:
    """The same, ``seconds`` later."""
    return replace(what, after=what.after + _seconds(seconds))


def in_turn(*answers: Answer) -> Callable[[object], Answer]:
    """A handler that gives these answers one after the other, and goes on with the last."""
    if not answers:
        raise ValueError("in_turn needs an answer at least")
    left = list(answers)

    def handler(_request: object) -> Answer:
        return left.pop(0) if len(left) > 1 else left[0]

    return handler


def _pairs(headers: Headers) -> tuple[tuple[str, str], ...]:
    if isinstance(headers, Mapping):
        return tuple((name, headers[name]) for name in headers)
    return tuple(headers)


def _seconds(seconds: float) -> float:
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{seconds} is no number of seconds that can pass")
    return float(seconds)


def _checked(status: int) -> int:
    if not 200 <= status <= 999:
        raise ValueError(f"{status} is no status of an answer: they are from 200 to 999")
    return status
