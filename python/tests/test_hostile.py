"""What the world does wrong, told by every frontend in the same words: exception, step, and whether to ask again."""

from __future__ import annotations

from contextlib import suppress

import southbridge

from .frontends import Frontend, Story
from .hostile import Hostile

# What a POST ends with: the step that it had come to, and whether asking again is safe.
CUT = ("CutError", "response", False)
CUT_BODY = ("CutError", "body", False)
BAD = ("PeerMisbehavedError", "response", False)
LARGE_HEAD = ("TooLargeError", "response", False)
LARGE = ("TooLargeError", "body", False)
NO_TLS = ("TlsFailedError", "handshake", True)
SILENT = ("TimedOutError", "response", False)
DIALLING = ("TimedOutError", "connect", True)

EXPECTED: dict[str, tuple[str, str, bool] | tuple[int, str]] = {
    "certificate/expired": NO_TLS,
    "certificate/good": (200, "HTTP/1.1"),
    "certificate/huge chain": NO_TLS,
    "certificate/name in the subject only": NO_TLS,
    "certificate/not yet valid": NO_TLS,
    "certificate/self-signed": NO_TLS,
    "certificate/unknown authority": NO_TLS,
    "certificate/wildcard too high": NO_TLS,
    "certificate/wrong name": NO_TLS,
    "connect/black hole": DIALLING,
    "connect/refused": ("ConnectFailedError", "connect", True),
    "cut off/close before the head": CUT,
    "cut off/close within a length": CUT_BODY,
    "cut off/close within chunks": CUT_BODY,
    "cut off/close within the head": CUT,
    "cut off/reset before the head": CUT,
    "cut off/reset within a length": CUT_BODY,
    "cut off/truncation within a length": CUT_BODY,
    "cut off/truncation within chunks": CUT_BODY,
    "endless/body until close": LARGE,
    "endless/chunk extension": BAD,
    "endless/chunked body": LARGE,
    "endless/chunks of one byte": LARGE,
    "endless/header lines": LARGE_HEAD,
    "endless/interim responses": LARGE_HEAD,
    "endless/one header line": LARGE_HEAD,
    "endless/status line": LARGE_HEAD,
    "endless/trailers": BAD,
    "framing/a bad chunk size": BAD,
    "framing/a body on 204": (204, "HTTP/1.1"),
    "framing/a body on 304": (304, "HTTP/1.1"),
    "framing/a folded header": BAD,
    "framing/a huge chunk size": BAD,
    "framing/a list of content-lengths": BAD,
    "framing/a signed content-length": BAD,
    "framing/a space before the colon": BAD,
    "framing/an early second response": (200, "HTTP/1.1"),
    "framing/an unknown coding": BAD,
    "framing/bare line feeds": BAD,
    "framing/chunks on 304": (304, "HTTP/1.1"),
    "framing/content-length and chunked": BAD,
    "framing/no HTTP at all": BAD,
    "framing/response before the end of the request": (200, "HTTP/1.1"),
    "framing/surplus bytes": (200, "HTTP/1.1"),
    "framing/two content-lengths": BAD,
    "http2/continuation flood": BAD,
    "http2/empty data flood": CUT_BODY,
    "http2/goes away after one": (200, "HTTP/2"),
    "http2/header bomb": BAD,
    "http2/mute": SILENT,
    "http2/one stream at a time": (200, "HTTP/2"),
    "http2/ping flood": LARGE,
    "http2/resets each request": CUT,
    "http2/settings flood": LARGE,
    "http2/well": (200, "HTTP/2"),
    "idle/closed": (200, "HTTP/1.1"),
    "idle/reset under the second request": (200, "HTTP/1.1"),
    "slow/body drips": LARGE,
    "slow/body stops": ("TimedOutError", "body", False),
    "slow/deaf": SILENT,
    "slow/never": SILENT,
    "tls/answers in plain HTTP": NO_TLS,
    "tls/closes": NO_TLS,
    "tls/resets": NO_TLS,
    "tls/says nothing": DIALLING,
    "well/plain": (200, "HTTP/1.1"),
}
# Whether these are answered depends on who is quicker.
EITHER = {"framing/response before any request", "slow/head drips", "http2/window of zero"}


def test_every_fault_is_told_for_what_it_is(frontend: Frontend, hostile: Hostile) -> None:
    """All at once, so that none of them holds up another."""

    def of(name: str) -> Story[object]:
        async def story() -> object:
            try:
                response = await hostile.client.post(hostile.urls[name], content=b"once")
            except southbridge.RequestError as error:
                return type(error).__name__, error.step, error.is_repeatable
            return response.status, response.http_version

        return story

    async def all_of_them() -> list[object]:
        return await frontend.together(*(of(name) for name in EXPECTED))

    told = dict(zip(EXPECTED, frontend.run(all_of_them), strict=True))
    assert told == EXPECTED
    assert set(hostile.urls) == EXPECTED.keys() | EITHER


def test_after_all_of_it_the_healthy_are_served(frontend: Frontend, hostile: Hostile) -> None:
    """Bodies that never end and heads that drip are given up, and take no slot with them."""

    async def hurt(name: str) -> None:
        with suppress(southbridge.RequestError):
            await hostile.client.get(hostile.urls[name], timeout=0.3)

    async def one() -> None:
        for name in ("slow/head drips", "endless/chunked body", "cut off/reset before the head"):
            await hurt(name)

    async def story() -> list[int]:
        await frontend.together(*([one] * 20))
        healthy = hostile.urls["well/plain"]
        return [(await hostile.client.get(healthy)).status for _ in range(20)]

    assert frontend.run(story) == [200] * 20
