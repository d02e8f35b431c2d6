"""The cookies of a client.

They are kept by the kernel. Each look at them asks it, and waits for its answer and nobody else's: some microseconds,
in an event loop as in a thread, so nothing here is awaited.
"""

from __future__ import annotations

from southbridge import _kernel

# Not from `typing`, which takes longer to import than all of this package.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import TypedDict

    class CookieData(TypedDict):
        """A cookie as plain data, for JSON and the like: the attributes of `Cookie`."""

        name: str
        value: str
        domain: str
        path: str
        expires: int | None
        secure: bool
        http_only: bool

else:
    CookieData = dict


class Cookie:
    """One cookie, as it was when it was looked at."""

    __slots__ = ("domain", "expires", "http_only", "name", "path", "secure", "value")

    def __init__(
        self,
        name: str,
        value: str,
        domain: str,
        path: str,
        *,
        expires: int | None,
        secure: bool,
        http_only: bool,
    ) -> None:
        self.name = name
        self.value = value
        # The host it is for; with a dot before it, the names below it as well.
        self.domain = domain
        # The path it is for, and all below.
        self.path = path
        # Until when it is good, in seconds since 1970; None for as long as the client lives.
        self.expires = expires
        # Whether it is for https only.
        self.secure = secure
        # Whether scripts of a browser may not see it.
        self.http_only = http_only

    def as_data(self) -> CookieData:
        """Its attributes as plain data."""
        return {
            "name": self.name,
            "value": self.value,
            "domain": self.domain,
            "path": self.path,
            "expires": self.expires,
            "secure": self.secure,
            "http_only": self.http_only,
        }

    def __eq__(self, other: object) -> bool:
        return self.as_data() == other.as_data() if isinstance(other, Cookie) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.name, self.value, self.domain, self.path))

    def __repr__(self) -> str:
        return f"<Cookie {self.name} for {self.domain}{self.path}>"


class Cookies:
    """The cookies that a `Client` keeps: iterates over `Cookie`, and is asked by name.

    At most 1,000, and 180 for one domain. A forked child has none: `save` before, and `load` there.
    """

    def __init__(self, client: _kernel.Client) -> None:
        self._client = client

    def __iter__(self) -> Iterator[Cookie]:
        for name, value, domain, path, expires, secure, http_only in _kernel.show_cookies(self._client):
            yield Cookie(name, value, domain, path, expires=expires, secure=secure, http_only=http_only)

    def __len__(self) -> int:
        return len(_kernel.show_cookies(self._client))

    def __contains__(self, name: object) -> bool:
        return any(cookie.name == name for cookie in self)

    def __getitem__(self, name: str) -> str:
        """The value of the only cookie with that name. `KeyError` when there is none, `LookupError` when there are several."""
        found = self._find(name, None, None)
        if found is None:
            raise KeyError(name)
        return found.value

    def __setitem__(self, name: str, value: str) -> None:
        self.set(name, value)

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self.clear(name=name)

    def get(
        self,
        name: str,
        default: str | None = None,
        *,
        domain: str | None = None,
        path: str | None = None,
    ) -> str | None:
        """The value of a cookie. `LookupError` when several are called so: then name ``domain``, ``path`` or both."""
        found = self._find(name, domain, path)
        return default if found is None else found.value

    def set(
        self,
        name: str,
        value: str,
        *,
        domain: str | None = None,
        path: str = "/",
        expires: float | None = None,
        secure: bool = False,
        http_only: bool = False,
    ) -> None:
        """Keep a cookie for ``domain`` (with a dot before it, for the names below it too), or for the host of the
        client's ``base_url``. ``expires`` is in seconds since 1970; one past its time removes what was there.

        Raises `InvalidRequestError` for what is no cookie, or has no place, `ValueError` when there is no domain, and
        `InvalidSettingError` when the client keeps none (``cookies=False``).
        """
        ends = None if expires is None else max(0, int(expires))
        given = (name, value, domain or "", path, ends, secure, http_only)
        _kernel.give_cookies(self._client, [given])

    def clear(self, domain: str | None = None, path: str | None = None, name: str | None = None) -> None:
        """Forget all cookies, or those with this domain, path and name."""
        _kernel.clear_cookies(self._client, name, domain, path)

    def save(self) -> list[CookieData]:
        """All cookies as plain data, those of the session included; `load` takes them back."""
        return [cookie.as_data() for cookie in self]

    def load(self, saved: Iterable[CookieData]) -> None:
        """Keep what `save` gave; what is past its time by now is left out. Raises as `set`."""
        given = [Cookie(**data) for data in saved]
        _kernel.give_cookies(
            self._client,
            [(it.name, it.value, it.domain, it.path, it.expires, it.secure, it.http_only) for it in given],
        )

    def __repr__(self) -> str:
        return f"<Cookies {[f'{cookie.name} for {cookie.domain}{cookie.path}' for cookie in self]}>"

    def _find(self, name: str, domain: str | None, path: str | None) -> Cookie | None:
        wanted = None if domain is None else domain.lstrip(".").lower()
        found = [
            cookie
            for cookie in self
            if cookie.name == name
            and wanted in (None, cookie.domain.lstrip("."))
            and path in (None, cookie.path)
        ]
        if len(found) > 1:
            places = ", ".join(cookie.domain + cookie.path for cookie in found)
            raise LookupError(f"{len(found)} cookies are called {name!r} ({places}): say domain=… or path=…")
        return found[0] if found else None
