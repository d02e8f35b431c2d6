"""What Synapse's own metrics, tracing and callbacks say of federation: the same with the module as without it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import synapses
from .synapses import Synapse, until
from .test_synapse import World

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(synapses.python() is None, reason="there is no Python with Synapse in .venv"),
]

CLIENT = "synapse_federation_client"
PENDING = "synapse_federation_transaction_queue_pending"

# A module of Synapse that writes down what it hears.
LISTENER = """
import json

class Module:
    def __init__(self, config, api):
        self._path = config["path"]
        api.register_federation_callbacks(on_event_delivered_over_federation=self.on_delivered)

    async def on_delivered(self, delivery):
        with open(self._path, "a") as file:
            for event in delivery.events:
                print(json.dumps([delivery.method.value, delivery.server_name, event.event_id]), file=file)
"""

# Tracing without a tracer: what Synapse would put into EDUs, and which spans it would open after which.
TRACING = """
import contextlib
import synapse.logging.opentracing as tracing

tracing.get_active_span_text_map = lambda destination=None: {"uber-trace-id": "1:2:0:1"}
tracing.extract_text_map = lambda carrier: json.dumps(carrier)
import json

def start_active_span_follows_from(name, contexts, *more, **others):
    print("span", name, "follows", contexts, flush=True)
    return contextlib.nullcontext()

tracing.start_active_span_follows_from = start_active_span_follows_from
"""


@pytest.fixture(params=[None, {}], ids=["stock", "module"])
def module(request: pytest.FixtureRequest) -> dict[str, object] | None:
    """Synapse by itself, and with the module."""
    module: dict[str, object] | None = request.param
    return module


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, 3)
    yield world
    world.synapse.kill()


def but_for(world: World, **settings: Any) -> None:
    """Synapse of this world has these settings as well."""
    world.synapse = Synapse(world.folder, world.homeservers.ca_file, presence={"enabled": False}, **settings)


def test_what_is_sent_is_counted_as_by_synapse(world: World, module: dict[str, object] | None) -> None:
    """Messages, typing, a receipt and a to-device message, one after the other, to three homeservers: each of them is a
    transaction to each, and that is what the metrics say."""
    but_for(world)
    room = world.begin(module)
    everybody, home = world.homeservers.all, world.synapse
    names = [one.name for one in everybody]
    user = f"@alice:{home.name}"
    home.say(room, "before")
    world.until_heard(["before"])
    world.until_written(*names)
    until(lambda: home.figures()[f'{PENDING}_destinations{{server_name="{home.name}"}}'] == 0, "all is quiet")
    before, transactions = home.figures(), sum(len(one.sent) for one in everybody)

    def until_everybody(kind: str) -> None:
        until(lambda: all(one.edus(kind) for one in everybody), f"everybody hears of {kind}")

    event = ""
    for number in range(4):
        event = home.say(room, f"m{number}")
        world.until_heard([f"m{number}"])
    home.client("PUT", f"rooms/{room}/typing/{user}", {"typing": True, "timeout": 30_000})
    until_everybody("m.typing")
    home.client("POST", f"rooms/{room}/receipt/m.read/{event}", {})
    until_everybody("m.receipt")
    for_devices = {f"@user:{name}": {"D": {"n": 1}} for name in names}
    home.client("PUT", "sendToDevice/m.test/1", {"messages": for_devices})
    until_everybody("m.direct_to_device")
    assert sum(len(one.sent) for one in everybody) - transactions == 7 * 3

    label, put = f'server_name="{home.name}"', f'method="PUT",server_name="{home.name}"'
    wanted = {
        f"{CLIENT}_sent_transactions_total{{{label}}}": 21,
        f"{CLIENT}_sent_pdu_destinations_total{{{label}}}": 12,
        f"{CLIENT}_sent_pdu_destinations_count_total{{{label}}}": 4,
        f"{CLIENT}_sent_edus_total{{{label}}}": 9,
        f"synapse_http_matrixfederationclient_requests_total{{{put}}}": 21,
    }
    for kind in ("m.typing", "m.receipt", "m.direct_to_device"):
        wanted[f'{CLIENT}_sent_edus_by_type_total{{{label},type="{kind}"}}'] = 3
    code = f'synapse_http_matrixfederationclient_responses_total{{code="200",{put}}}'
    wanted[code] = 21

    def counted() -> dict[str, float]:
        now = home.figures()
        return {name: now[name] - before[name] for name in wanted}

    until(
        lambda: counted()[code] >= 21 and home.figures()[f"{PENDING}_edus{{{label}}}"] == 0, "it is counted"
    )
    assert counted() == wanted


def test_what_waits_is_shown_as_by_synapse(world: World, module: dict[str, object] | None) -> None:
    """A homeserver is away: three messages and one user who types wait for it, and for nobody else."""
    but_for(world)
    room = world.begin(module)
    home, away = world.synapse, world.homeservers[0]
    label = f'{{server_name="{home.name}"}}'

    def waiting() -> list[float]:
        figures = home.figures()
        return [figures[f"{PENDING}_{what}{label}"] for what in ("pdus", "edus", "destinations")]

    home.say(room, "before")
    world.until_heard(["before"])
    until(lambda: waiting() == [0, 0, 0], "nothing waits")
    world.homeservers.close(away)
    for number in range(3):
        home.say(room, f"m{number}")
    until(lambda: waiting() == [3, 0, 1], f"three messages wait: {waiting()}")
    home.client("PUT", f"rooms/{room}/typing/@alice:{home.name}", {"typing": True, "timeout": 30_000})
    until(lambda: waiting() == [3, 1, 1], f"somebody types: {waiting()}")
    world.homeservers.open(away)
    world.until_heard(["m2"], away)
    until(lambda: waiting() == [0, 0, 0], f"nothing waits: {waiting()}")


def test_who_asked_hears_of_deliveries(world: World, module: dict[str, object] | None) -> None:
    """A module of somebody else wants to hear of each delivery, and the operator of one homeserver's lag. Of a message that
    a homeserver refuses, and of one that it has yet to take, nobody hears."""
    heard = world.folder / "heard"
    (world.folder / "listener.py").write_text(LISTENER)
    first, second, away = world.homeservers.all
    but_for(
        world,
        modules=[{"module": "listener.Module", "config": {"path": str(heard)}}],
        federation_metrics_domains=[second.name],
    )
    room = world.begin(module)
    world.homeservers.close(away)
    first.refuses.add("m1")
    events = [world.synapse.say(room, f"m{number}") for number in range(3)]
    world.until_heard(["m2"], first, second)
    expected = {(one.name, event) for one in (first, second) for event in events} - {(first.name, events[1])}

    def told() -> list[tuple[str, str]]:
        lines = heard.read_text().splitlines() if heard.exists() else []
        said = [json.loads(line) for line in lines]
        return [(name, event) for method, name, event in said if method == "/send" and event in events]

    until(lambda: set(told()) >= expected, "the module hears of them")
    assert sorted(told()) == sorted(expected)
    sent_at = world.synapse.client("GET", f"rooms/{room}/event/{events[-1]}")["origin_server_ts"]
    gauge = "synapse_federation_last_sent_pdu_time"
    of_second = f'{gauge}{{destination_server_name="{second.name}",server_name="{world.synapse.name}"}}'
    until(lambda: world.synapse.figures()[of_second] == sent_at / 1000, "the lag is shown")
    assert [name for name in world.synapse.figures() if name.startswith(gauge)] == [of_second]


def test_traces_cross_and_log_contexts_do_not(world: World, module: dict[str, object] | None) -> None:
    """The span in which a to-device message was made is in its EDU, and that of the transaction follows it, though it is
    the first thing that is ever sent. Whatever goes on, nobody's log context is another's."""
    (world.folder / "sitecustomize.py").write_text(TRACING)
    but_for(world)
    room = world.begin(module)
    names = [one.name for one in world.homeservers.all]
    for_devices = {f"@user:{name}": {"D": {"n": 1}} for name in names}
    world.synapse.client("PUT", "sendToDevice/m.test/1", {"messages": for_devices})
    for number in range(10):
        world.synapse.say(room, f"m{number}")
    world.until_heard(["m9"])
    context = '{"uber-trace-id":"1:2:0:1"}'
    for one in world.homeservers.all:
        until(lambda one=one: one.edus("m.direct_to_device"), f"{one.name} has its message")  # type: ignore[misc]
        [edu] = one.edus("m.direct_to_device")
        assert edu["org.matrix.opentracing_context"] == context
    spans = [line for line in world.synapse.log.read_text().splitlines() if "span send_transaction" in line]
    assert sum("1:2:0:1" in line for line in spans) == len(names)
    world.synapse.end()
    for lost in ("logging context", "log context", "logcontext"):
        lines = [line for line in world.synapse.log.read_text().splitlines() if lost in line.lower()]
        assert lines == []
