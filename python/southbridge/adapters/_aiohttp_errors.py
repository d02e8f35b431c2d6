"""The exceptions of aiohttp for those of the kernel, which are their ``__cause__``."""

from __future__ import annotations

import errno

import aiohttp
from aiohttp.client_reqrep import ConnectionKey

from southbridge import (
    BodyStoppedError,
    ConnectFailedError,
    CutError,
    DecodeFailedError,
    HostDownError,
    InvalidRequestError,
    InvalidSettingError,
    NameNotFoundError,
    PeerMisbehavedError,
    RedirectRefusedError,
    RequestError,
    TimedOutError,
    TlsFailedError,
    TooManyRedirectsError,
)


def translated(error: RequestError, info: aiohttp.RequestInfo) -> Exception:
    """What a program that uses aiohttp looks for."""
    said = str(error)
    # What a generator of the program raised is the program's.
    if isinstance(error, BodyStoppedError) and isinstance(error.__cause__, Exception):
        return error.__cause__
    if isinstance(error, TimedOutError):
        waits = error.step in ("request", "response", "body")
        return (aiohttp.SocketTimeoutError if waits else aiohttp.ConnectionTimeoutError)(said)
    if isinstance(error, CutError) and error.step != "body":
        return aiohttp.ServerDisconnectedError(said)
    if error.step == "body" or isinstance(error, DecodeFailedError):
        return aiohttp.ClientPayloadError(said)
    return _of_peers(error, info) or _of_connecting(error, info)


def _of_peers(error: RequestError, info: aiohttp.RequestInfo) -> Exception | None:
    if isinstance(error, (InvalidRequestError, InvalidSettingError)):
        return aiohttp.InvalidURL(info.url, str(error))
    if isinstance(error, TooManyRedirectsError):
        return aiohttp.TooManyRedirects(info, (), message=str(error))
    if isinstance(error, RedirectRefusedError):
        return _of_redirects(str(error), info)
    if isinstance(error, PeerMisbehavedError):
        return aiohttp.ClientResponseError(info, (), status=400, message=str(error))
    return None


def _of_redirects(said: str, info: aiohttp.RequestInfo) -> Exception:
    if "and only http and https are followed" in said:
        return aiohttp.NonHttpUrlRedirectClientError(info.url, said)
    if "its location is no URL" in said:
        return aiohttp.InvalidUrlRedirectClientError(info.url, said)
    return aiohttp.ClientResponseError(info, (), status=400, message=said)


def _of_connecting(error: RequestError, info: aiohttp.RequestInfo) -> Exception:
    key = ConnectionKey(
        info.url.host or "", info.url.port, info.url.scheme == "https", True, None, None, None
    )
    why = OSError(errno.ECONNREFUSED, str(error))
    if isinstance(error, NameNotFoundError):
        return aiohttp.ClientConnectorDNSError(key, why)
    if isinstance(error, TlsFailedError):
        return aiohttp.ClientConnectorSSLError(key, why)
    if isinstance(error, (ConnectFailedError, HostDownError)):
        return aiohttp.ClientConnectorError(key, why)
    return aiohttp.ClientConnectionError(str(error))
