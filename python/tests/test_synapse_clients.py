"""What a real, unpatched Synapse asks others than homeservers for: by the kernel as by itself."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from . import synapses
from .synapses import Synapse, until
from .webs import Visit, Web

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(synapses.python() is None, reason="there is no Python with Synapse in .venv"),
]

Module = dict[str, object] | None
TOKEN = "token of the homeserver"


class World:
    """A Synapse with an application service, and a server that is whatever a test needs."""

    def __init__(self, folder: Path, module: Module, **more: Any) -> None:
        self.web, self.service = Web(), Web()
        self.ca = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.ca_file))
        self.module = module
        registration = {
            "id": "service",
            "url": self.service.url(""),
            "as_token": "token of the service",
            "hs_token": TOKEN,
            "sender_localpart": "service",
            "namespaces": {"users": [{"exclusive": False, "regex": "@.*"}]},
        }
        (folder / "service.yaml").write_text(json.dumps(registration))
        self.synapse = Synapse(
            folder, self.ca_file, app_service_config_files=[str(folder / "service.yaml")], **more
        )
        self.synapse.environment["SSL_CERT_FILE"] = str(self.ca_file)

    def start(self) -> None:
        self.synapse.start(self.module)
        self.synapse.register("alice")

    def end(self) -> None:
        self.synapse.end()
        self.web.close()
        self.service.close()
        for complaint in (
            "Expected logging context",
            "Expected `call_later`",
            "Unhandled error",
            "re-started",
        ):
            assert not self.synapse.said(complaint), complaint


@pytest.fixture(params=["kernel", "stock"])
def module(request: pytest.FixtureRequest) -> Module:
    return {} if request.param == "kernel" else None


@pytest.fixture
def world(tmp_path: Path, module: Module) -> Iterator[World]:
    world = World(tmp_path, module)
    world.start()
    yield world
    world.end()


def texts(visits: list[Visit]) -> list[str]:
    """The messages that an application service was told of, as it was told."""
    events = [
        event for visit in visits if visit.method == "PUT" for event in json.loads(visit.body)["events"]
    ]
    return [event["content"]["body"] for event in events if event["type"] == "m.room.message"]


def room_refused(world: World) -> str:
    """A room of which the application service takes m0, and refuses m1 and whatever comes after it."""
    room = world.synapse.room()
    world.synapse.say(room, "m0")
    until(lambda: "m0" in texts(world.service.visits), "it is told")
    world.service.answer = lambda _: (500, "nowhere", b"")
    world.synapse.say(room, "m1")
    until(lambda: "m1" in texts(world.service.visits), "it refuses")
    return room


def test_an_application_service_is_told_everything_in_order(world: World) -> None:
    """It refuses for a while; then it hears of what it has missed."""
    room = room_refused(world)
    world.service.visits.clear()
    world.service.answer = lambda _: (200, "application/json", b"{}")
    world.synapse.say(room, "m2")
    until(lambda: "m2" in texts(world.service.visits), "it is told of the latest")
    assert texts(world.service.visits) == ["m1", "m2"]
    assert world.service.came_by(world.module is not None)
    assert all(("Bearer " + TOKEN) in dict(visit.fields).values() for visit in world.service.visits)


def test_what_is_asked_is_counted_as_by_synapse(world: World) -> None:
    """Every transaction that a service was sent, those that it refused included, and its answers by their status."""
    room_refused(world)
    label = f'method="PUT",server_name="{world.synapse.name}"'

    def is_counted() -> bool:
        figures = world.synapse.figures()
        asked = figures[f"synapse_http_client_requests_total{{{label}}}"]
        responses = "synapse_http_client_responses_total"
        taken, refused = (figures[f'{responses}{{code="{code}",{label}}}'] for code in (200, 500))
        sent = sum(visit.method == "PUT" for visit in world.service.visits)
        return asked == sent == taken + refused and taken > 0 and refused > 0

    until(is_counted, "all of it is counted")


def test_a_push_gateway_is_told(world: World) -> None:
    """A user is notified of what another says."""
    pusher = {
        "kind": "http",
        "app_id": "app",
        "app_display_name": "app",
        "device_display_name": "device",
        "pushkey": "key",
        "lang": "en",
        "data": {"url": world.web.url("/_matrix/push/v1/notify", "localhost")},
    }
    world.synapse.client("POST", "pushers/set", pusher)
    room = world.synapse.room()
    world.synapse.client("PUT", "pushrules/global/content/hello", {"actions": ["notify"], "pattern": "hello"})
    world.synapse.register("bob")
    world.synapse.client("POST", f"join/{urllib.parse.quote(room)}", {})
    world.synapse.say(room, "hello")
    until(lambda: world.web.visits, "the gateway is asked")
    notification = json.loads(world.web.visits[0].body)["notification"]
    assert notification["content"]["body"] == "hello"
    assert world.web.came_by(world.module is not None)


def test_an_identity_server_is_asked_over_tls(world: World) -> None:
    """By its name, which the system's certificates vouch for; a stranger's do not."""
    for vouching, status in ((world.ca, 200), (trustme.CA(), 500)):
        web = Web(vouching=vouching)
        web.answer = lambda _: (200, "application/json", b'{"medium": "email", "address": "a@b.example"}')
        binding = {
            "client_secret": "s",
            "id_server": f"localhost:{web.port}",
            "id_access_token": "t",
            "sid": "1",
        }
        answered, _ = world.synapse.answer("POST", "/_matrix/client/v3/account/3pid/bind", binding)
        assert answered == status
        assert bool(web.visits) == (status == 200)
        if status == 200:
            assert web.visits[0].path == "/_matrix/identity/v2/3pid/bind"
            assert web.came_by(world.module is not None)
        web.close()


@pytest.mark.skipif(
    not synapses.has("bs4"), reason="Synapse makes previews with beautifulsoup4, which is not there"
)
def test_a_preview_is_of_what_may_be_seen(tmp_path: Path, module: Module) -> None:
    """A page, one behind a redirect; and those at a blocked address, by its number, its name, and a redirect."""
    more = {
        "url_preview_enabled": True,
        "url_preview_ip_range_blacklist": ["127.0.0.0/8", "::1/128"],
        "url_preview_ip_range_whitelist": ["127.2.0.0/16"],
    }
    world = World(tmp_path, module, **more)
    page = Web("127.2.0.1")
    try:
        world.start()
        page.answer = world.web.answer = _page(page, world.web)
        for path in ("/page", "/moved"):
            status, seen = _preview(world, page.url(path))
            assert (status, seen.get("og:title")) == (200, "A page")
        assert page.came_by(module is not None)
        refused = [
            _preview(world, url)[0]
            for url in (world.web.url("/page"), world.web.url("/page", "localhost"), page.url("/astray"))
        ]
        assert refused == [403, 502, 502]
        assert world.web.visits == []
    finally:
        page.close()
        world.end()


@pytest.mark.parametrize("reason", ["settings", "proxy"])
def test_what_is_left_to_synapse_is_left_to_it(tmp_path: Path, reason: str) -> None:
    """By the settings of the module, all but transactions; by a proxy in ``homeserver.yaml``, what would go through it."""
    is_proxied = reason == "proxy"
    module: Module = {} if is_proxied else {"agent": False, "clients": False}
    proxy = Web()
    more = {"http_proxy": f"http://127.0.0.1:{proxy.port}", "no_proxy_hosts": []} if is_proxied else {}
    world = World(tmp_path, module, **more)
    try:
        world.start()
        assert world.synapse.said("southbridge sends for Synapse")
        assert world.synapse.said("southbridge asks homeservers for Synapse") == is_proxied
        room = world.synapse.room()
        asked, spared = (proxy, world.service) if is_proxied else (world.service, proxy)
        world.synapse.say(room, "hello")
        until(lambda: "hello" in texts(asked.visits), "the service is told")
        assert asked.came_by(False)
        assert spared.visits == []
    finally:
        proxy.close()
        world.end()


def _page(page: Web, other: Web) -> Any:
    def answer(visit: Visit) -> tuple[int, str, bytes]:
        if visit.path == "/moved":
            return 302, page.url("/page"), b""
        if visit.path == "/astray":
            return 302, other.url("/page", "localhost"), b""
        return 200, "text/html", b"<html><head><title>A page</title></head></html>"

    return answer


def _preview(world: World, url: str) -> tuple[int, Any]:
    query = urllib.parse.urlencode({"url": url})
    return world.synapse.answer("GET", f"/_matrix/client/v1/media/preview_url?{query}")
