"""The cookies of a client: shown, changed, saved and loaded, in every framework."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import southbridge

from .frontends import Frontend
from .test_client import heard


def names(client: southbridge.Client) -> list[str]:
    return sorted(f"{cookie.name}={cookie.value}" for cookie in client.cookies)


def test_what_a_peer_sets_is_shown(frontend: Frontend, peer: str) -> None:
    client = southbridge.Client(base_url=peer)

    async def story() -> str:
        await client.get("/redirect/1")
        cookies = client.cookies
        assert cookies["seen"] == "0"
        cookies.set("own", "1")
        return heard(await client.get("/echo"))["cookie"]

    assert frontend.run(story) == "own=1; seen=0"
    (own, seen) = sorted(client.cookies, key=lambda cookie: cookie.name)
    assert own == southbridge.Cookie(
        "own", "1", "127.0.0.1", "/", expires=None, secure=False, http_only=False
    )
    assert (seen.domain, seen.path, seen.expires) == ("127.0.0.1", "/", None)


def test_cookies_are_a_small_mapping() -> None:
    cookies = southbridge.Client(base_url="https://shop.example.org").cookies
    cookies["a"] = "1"
    cookies.set("b", "2", domain=".example.org", path="/x", secure=True, http_only=True)
    assert ("a" in cookies, "c" in cookies, len(cookies)) == (True, False, 2)
    assert (
        cookies["a"],
        cookies.get("b", domain="example.org"),
        cookies.get("c"),
        cookies.get("c", "3"),
    ) == (
        "1",
        "2",
        None,
        "3",
    )
    cookies.set("a", "3", domain="other.org")
    with pytest.raises(LookupError, match="2 cookies are called 'a'"):
        cookies["a"]
    assert cookies.get("a", domain="other.org") == "3"
    cookies.clear("other.org")
    assert cookies["a"] == "1"
    del cookies["a"]
    with pytest.raises(KeyError):
        cookies["a"]
    with pytest.raises(KeyError):
        del cookies["a"]
    assert repr(cookies) == "<Cookies ['b for .example.org/x']>"
    cookies.clear()
    assert not cookies


def test_a_session_is_saved_as_plain_data(peer: str) -> None:
    first = southbridge.Client(base_url=peer)
    first.get("/redirect/0")
    first.cookies.set("kept", "1", expires=time.time() + 3600)
    first.cookies.set("wide", "2", domain=".example.org", secure=True, http_only=True)
    saved: list[southbridge.CookieData] = json.loads(json.dumps(first.cookies.save()))
    second = southbridge.Client(base_url=peer)
    second.cookies.load(saved)
    assert list(second.cookies) == list(first.cookies)
    assert heard(second.get("/echo"))["cookie"] == "kept=1; seen=0"
    late = southbridge.Client()
    for cookie in saved:
        cookie["expires"] = 1
    late.cookies.load(saved)
    assert list(late.cookies) == []


def test_cookies_of_a_client_go_with_every_request_until_a_peer_sets_them(peer: str) -> None:
    client = southbridge.Client(base_url=peer, cookies={"seen": "never", "lang": "en"})
    assert heard(client.get("/echo"))["cookie"] == "seen=never; lang=en"
    assert heard(client.get("/echo", cookies={"lang": "de"}))["cookie"] == "seen=never; lang=de"
    assert list(client.cookies) == [], "they are sent, and not kept"
    client.get("/redirect/0")
    assert heard(client.get("/echo"))["cookie"] == "seen=0; lang=en"


def test_a_client_without_cookies_takes_none(peer: str) -> None:
    client = southbridge.Client(base_url=peer, cookies=False)
    client.get("/redirect/0")
    assert list(client.cookies) == []
    with pytest.raises(southbridge.InvalidSettingError, match="keeps none"):
        client.cookies.set("a", "1")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "a;b"},
        {"name": ""},
        {"value": "1; b=2"},
        {"value": "1\r\nEvil: 1"},
        {"path": "x"},
        {"domain": "a b"},
        {"domain": "a.test:81"},
        {"name": "__Secure-a"},
    ],
)
def test_what_is_no_cookie_is_refused(wrong: dict[str, Any]) -> None:
    client = southbridge.Client()
    with pytest.raises(southbridge.InvalidRequestError):
        given: dict[str, Any] = {"name": "a", "value": "1", "domain": "a.test", **wrong}
        client.cookies.set(**given)
    assert list(client.cookies) == []


def test_a_cookie_has_a_domain() -> None:
    with pytest.raises(ValueError, match="say domain"):
        southbridge.Client().cookies.set("a", "1")
    with pytest.raises(southbridge.InvalidSettingError, match="cookies"):
        southbridge.Client(cookies={"a": "1; b=2"}).get("http://a.test/")


def test_cookies_are_shown_on_the_test_kit(southbridge_kernel: Any) -> None:
    client = southbridge.Client(base_url="http://shop.test")
    client.cookies.set("a", "1")
    assert names(client) == ["a=1"]
