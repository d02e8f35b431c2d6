"""A session in the shape of aiohttp's: ``ClientSession()`` from here where aiohttp's was.

It is thin: URLs, headers, forms, exceptions and timeouts are aiohttp's own, so that a program goes on catching and
passing what it did; redirects, cookies, decoding and connections are the kernel's. Bodies go in pieces, both ways.
What it has not is in the book; asking for it is a `TypeError`.

# Timeouts
``total`` bounds all of it (5 minutes, as in aiohttp), ``connect`` or ``sock_connect`` the way to a connection,
``sock_read`` the silence of the peer. None is no bound.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from types import TracebackType
from typing import Any

from southbridge import Client, RequestError, Timeout
from southbridge.adapters._request import fields_for

try:
    import aiohttp
    from aiohttp.abc import AbstractCookieJar
    from multidict import CIMultiDict, CIMultiDictProxy
    from yarl import URL

    from southbridge.adapters._aiohttp_bodies import Cookies, JsonBody, content_of, cookies_of
    from southbridge.adapters._aiohttp_errors import translated
    from southbridge.adapters._aiohttp_response import ClientResponse, Content, Visit
except ImportError as missing:
    raise ImportError(
        "southbridge.adapters.aiohttp needs aiohttp: pip install 'southbridge[aiohttp]'"
    ) from missing

__all__ = ["ClientResponse", "ClientSession", "Content", "Visit"]

TOTAL = aiohttp.ClientTimeout(total=300, sock_connect=30)

# Whether a status of 400 and above is raised; or who is asked about each response.
Raises = bool | Callable[["ClientResponse"], Awaitable[None]]


class ClientSession:
    """Asks by the kernel, under asyncio. Settings are those of every request.

    ``client`` says how connections are made (proxy, CA files, certificate); its cookies are the session's. Without one
    the session has cookies of its own, unless ``cookie_jar`` is a `aiohttp.DummyCookieJar`.
    """

    def __init__(
        self,
        base_url: str | URL | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        cookies: Cookies | None = None,
        auth: aiohttp.BasicAuth | None = None,
        timeout: aiohttp.ClientTimeout | float = TOTAL,
        raise_for_status: Raises = False,
        json_serialize: Callable[[Any], str] = json.dumps,
        cookie_jar: AbstractCookieJar | None = None,
        auto_decompress: bool = True,
        client: Client | None = None,
    ) -> None:
        if cookie_jar is not None and not isinstance(cookie_jar, aiohttp.DummyCookieJar):
            raise TypeError("cookies are the kernel's: the only cookie_jar there can be is a DummyCookieJar")
        self._client = client or Client(cookies=cookie_jar is None, proxy=None)
        self._base_url = None if base_url is None else URL(base_url)
        self._headers: CIMultiDict[str] = CIMultiDict(headers or {})
        self._cookies = dict(cookies or {})
        self._auth = auth
        self._timeout = timeout
        self._raises = raise_for_status
        self._serialize = json_serialize
        self._decompresses = auto_decompress
        self.closed = False

    @property
    def headers(self) -> CIMultiDict[str]:
        """What every request says."""
        return self._headers

    def request(self, method: str, url: str | URL, **options: Any) -> Asking:
        """To be awaited, or entered by ``async with``. Options: ``params``, ``data``, ``json``, ``cookies``, ``headers``,
        ``auth``, ``allow_redirects``, ``max_redirects``, ``timeout``, ``raise_for_status``.
        """
        return Asking(self._ask(method, url, **options))

    def get(self, url: str | URL, **options: Any) -> Asking:
        """As `request`."""
        return self.request("GET", url, **options)

    def options(self, url: str | URL, **options: Any) -> Asking:
        """As `request`."""
        return self.request("OPTIONS", url, **options)

    def head(self, url: str | URL, *, allow_redirects: bool = False, **options: Any) -> Asking:
        """As `request`; redirects are not followed unless that is said."""
        return self.request("HEAD", url, allow_redirects=allow_redirects, **options)

    def post(self, url: str | URL, **options: Any) -> Asking:
        """As `request`."""
        return self.request("POST", url, **options)

    def put(self, url: str | URL, **options: Any) -> Asking:
        """As `request`."""
        return self.request("PUT", url, **options)

    def patch(self, url: str | URL, **options: Any) -> Asking:
        """As `request`."""
        return self.request("PATCH", url, **options)

    def delete(self, url: str | URL, **options: Any) -> Asking:
        """As `request`."""
        return self.request("DELETE", url, **options)

    async def close(self) -> None:
        """No more requests; connections are the kernel's."""
        self.closed = True

    async def __aenter__(self) -> ClientSession:
        return self

    async def __aexit__(self, *_raised: object) -> None:
        await self.close()

    async def _ask(
        self,
        method: str,
        str_or_url: str | URL,
        *,
        params: Any = None,
        data: Any = None,
        json: Any = None,
        cookies: Cookies | None = None,
        headers: Any = None,
        auth: aiohttp.BasicAuth | None = None,
        allow_redirects: bool = True,
        max_redirects: int = 10,
        timeout: aiohttp.ClientTimeout | float | None = None,
        raise_for_status: Raises | None = None,
        auto_decompress: bool | None = None,
    ) -> ClientResponse:
        if self.closed:
            raise RuntimeError("Session is closed")
        if data is not None and json is not None:
            raise ValueError("data and json parameters can not be used at the same time")
        url = self._url(str_or_url, params)
        said = CIMultiDict(self._headers)
        said.update(headers or {})
        content = await content_of(data if json is None else JsonBody(self._serialize(json)), said)
        if (credentials := _credentials(auth, self._auth, url)) is not None:
            if "Authorization" in said:
                raise ValueError(
                    "Cannot combine AUTHORIZATION header with AUTH argument or credentials encoded in URL"
                )
            said["Authorization"] = credentials
        info = aiohttp.RequestInfo(url.with_fragment(None), method.upper(), CIMultiDictProxy(said), url)
        try:
            plain = str(url.with_user(None).with_fragment(None))
            fields = fields_for(plain, [(name.encode(), value.encode()) for name, value in said.items()])
            # A body of a known length that comes in pieces is announced with it.
            if hasattr(content, "__aiter__") and (size := said.get("Content-Length")) is not None:
                fields.append((b"content-length", size.encode()))
            stream = self._client.stream(
                method.upper(),
                plain,
                headers=fields,
                cookies={**cookies_of(self._cookies, url), **cookies_of(cookies, url)} or None,
                content=content,
                timeout=_timeout(self._timeout if timeout is None else timeout),
                redirects_max=max_redirects if allow_redirects else 0,
                decompress=self._decompresses if auto_decompress is None else auto_decompress,
            )
            response = ClientResponse(await stream.open(), info)
        except RequestError as error:
            raise translated(error, info) from error
        raises = self._raises if raise_for_status is None else raise_for_status
        if callable(raises):
            await raises(response)
        elif raises:
            response.raise_for_status()
        return response

    def _url(self, said: str | URL, params: Any) -> URL:
        try:
            url = URL(said) if self._base_url is None else self._base_url.join(URL(said))
        except ValueError as error:
            raise aiohttp.InvalidUrlClientError(said) from error
        if url.scheme not in ("http", "https"):
            raise aiohttp.NonHttpUrlClientError(url) if url.scheme else aiohttp.InvalidUrlClientError(url)
        return url.extend_query(params) if params else url


class Asking(Coroutine[Any, Any, "ClientResponse"]):
    """A request that has not been sent: to be awaited, entered, or made a task of."""

    def __init__(self, asking: Any) -> None:
        self._asking = asking
        self._response: ClientResponse | None = None

    def __await__(self) -> Generator[Any, Any, ClientResponse]:
        answered: Generator[Any, Any, ClientResponse] = self._asking.__await__()
        return answered

    def send(self, value: Any) -> Any:
        return self._asking.send(value)

    def throw(self, *raised: Any) -> Any:
        return self._asking.throw(*raised)

    def close(self) -> None:
        self._asking.close()

    async def __aenter__(self) -> ClientResponse:
        self._response = await self
        return await self._response.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._response is not None:
            await self._response.__aexit__(kind, error, traceback)


def _credentials(
    auth: aiohttp.BasicAuth | None, of_session: aiohttp.BasicAuth | None, url: URL
) -> str | None:
    if auth is not None and (url.user or url.password):
        raise ValueError("Cannot combine AUTH argument with credentials encoded in URL")
    auth = auth or of_session
    if auth is not None:
        return auth.encode()
    if not url.user and not url.password:
        return None
    pair = f"{url.user or ''}:{url.password or ''}"
    return f"Basic {base64.b64encode(pair.encode('latin-1')).decode()}"


def _timeout(said: aiohttp.ClientTimeout | float) -> Timeout:
    if not isinstance(said, aiohttp.ClientTimeout):
        return Timeout(said or None)
    ways = [seconds for seconds in (said.connect, said.sock_connect) if seconds]
    return Timeout(said.total or None, connect=min(ways, default=None), read=said.sock_read or None)
