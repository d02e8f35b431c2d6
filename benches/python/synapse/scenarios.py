"""What is done to Synapse, and what is read of it. Times are seconds, memory is bytes."""

from __future__ import annotations

import http.client
import multiprocessing
import os
import time
import urllib.parse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from .cores import OTHER_CORE
from .peers import NEVER, is_done
from .stage import Stage, Way
from .watching import Seen, Watching, cpu_of, memory_of, voice

SETTLED = 10.0
"""Seconds without any transaction after which what has not come is missing."""
FILE_BYTES = 50_000_000
"""Of a file of a homeserver: as large as Synapse takes by default."""
ANSWERED_AFTER = 1.0
"""Seconds after which transactions are answered, where they are to be under way."""


@dataclass
class Run:
    """What was seen in one run of one scenario in one way."""

    deliveries: list[float] = field(default_factory=list)
    sends: list[float] = field(default_factory=list)
    missing: int = 0
    cpu: float = 0.0
    transactions: int = 0
    idle_memory: int = 0
    seen: Seen = field(default_factory=Seen)
    began: float = 0.0
    fetched: int = 0
    took: float = 0.0


@dataclass(frozen=True)
class Figure:
    """One number of a run, and what the project promises of it with the module."""

    what: str
    of: Callable[[Run], float]
    at_most: float | None = None


@dataclass(frozen=True)
class Scenario:
    """One of them."""

    name: str
    title: str
    servers: int
    play: Callable[[Stage, Scenario, Way], Run]
    figures: tuple[Figure, ...]
    share: float = 1.0
    rate: float = 2.0
    seconds: float = 10.0


def messages(stage: Stage, scenario: Scenario, way: Way) -> Run:
    """Messages at a steady rate to open connections."""
    everybody = range(scenario.servers)
    with stage.running(way, scenario.share):
        warm_up(stage, scenario, way)
        return speaking(stage, scenario, everybody, texts_of(scenario, way))


def with_holes(stage: Stage, scenario: Scenario, way: Way) -> Run:
    """The same, while some never answer and others take their time; what counts is when the healthy ones hear of it."""
    holes, slow = range(scenario.servers // 5), range(scenario.servers // 5, scenario.servers * 3 // 10)
    healthy = range(slow.stop, scenario.servers)
    with stage.running(way, scenario.share):
        warm_up(stage, scenario, way)
        stage.peers.dawdle(holes, NEVER)
        stage.peers.dawdle(slow, 3.0)
        try:
            return speaking(stage, scenario, healthy, texts_of(scenario, way))
        finally:
            stage.peers.dawdle(range(slow.stop), 0.0)


def one_message(stage: Stage, scenario: Scenario, way: Way) -> Run:
    """One message to open connections, while a local user asks twenty times a second."""
    everybody = range(scenario.servers)
    with stage.running(way, scenario.share):
        warm_up(stage, scenario, way)
        watching = Watching(stage.synapse, stage.pids)
        time.sleep(1)
        run = speaking(stage, scenario, everybody, texts_of(scenario, way)[:1], is_watched=True)
        run.seen = watching.end()
        return run


def a_profile(stage: Stage, scenario: Scenario, way: Way) -> Run:
    """One message, of which a transaction is under way to everybody else for `ANSWERED_AFTER`, while a local user looks up who
    somebody is at one of them, twenty times a second."""
    others = range(1, scenario.servers)
    with stage.running(way, scenario.share) as synapse:
        warm_up(stage, scenario, way)
        stage.peers.dawdle(others, ANSWERED_AFTER)
        watching = Watching(synapse, stage.pids, question=f"profile/@user:{stage.peers.name(0)}")
        try:
            time.sleep(1)
            run = speaking(stage, scenario, others, texts_of(scenario, way)[:1], is_watched=True)
            time.sleep(ANSWERED_AFTER)
        finally:
            stage.peers.dawdle(others, 0.0)
        run.seen = watching.end()
        return run


def cold_start(stage: Stage, scenario: Scenario, way: Way) -> Run:
    """The first message after a start: nothing is known, no connection is open."""
    with stage.running(way, scenario.share):
        stage.peers.clear()
        return speaking(stage, scenario, range(scenario.servers), texts_of(scenario, way)[:1])


def typing(stage: Stage, scenario: Scenario, way: Way) -> Run:
    """Somebody types and stops, again and again, while a local user asks twenty times a second."""
    with stage.running(way, scenario.share) as synapse:
        warm_up(stage, scenario, way)
        stage.peers.clear()
        watching = Watching(synapse, stage.pids)
        run = Run(began=time.monotonic())
        before = cpu_of(stage.pids)
        room, count = stage.rooms[scenario.servers], int(scenario.rate * scenario.seconds)
        run.sends = [
            took for _at, took in _apart(_type, synapse.port, synapse.token, room, count, scenario.rate)
        ]
        run.seen = watching.end()
        stage.until_idle()
        run.cpu, run.transactions = cpu_of(stage.pids) - before, stage.peers.transactions()
        return run


def media(stage: Stage, scenario: Scenario, way: Way) -> Run:
    """Users fetch a file of each homeserver, all at once, while a local user asks twenty times a second. A file is fetched
    when its user has the first of it; the rest nobody takes, for it costs the same in both ways."""
    with stage.running(way, scenario.share) as synapse:
        warm_up(stage, scenario, way)
        names = stage.peers.offer(range(scenario.servers), FILE_BYTES)
        watching = Watching(synapse, stage.pids)
        run = Run(began=time.monotonic(), fetched=FILE_BYTES * len(names))
        before = cpu_of(stage.pids)
        times = _apart(_fetch, synapse.port, synapse.token, names, f"{way.name}{time.monotonic_ns()}")
        run.seen = watching.end()
        stage.until_idle()
        run.cpu = cpu_of(stage.pids) - before
        run.took = max(at + took for at, took in times) - min(at for at, _took in times)
        return run


def warm_up(stage: Stage, scenario: Scenario, way: Way) -> None:
    """Open the connections."""
    text = f"{way.name} {scenario.name} warm {time.monotonic_ns()}"
    stage.synapse.say(stage.rooms[scenario.servers], text)
    if not is_done(stage.peers, text, range(scenario.servers), 60):
        raise SystemExit(f"{scenario.name}, {way.name}: not everybody heard the first message")
    stage.until_idle()


def texts_of(scenario: Scenario, way: Way) -> list[str]:
    """The messages of one run; no two runs have the same."""
    run = time.monotonic_ns()
    return [f"{way.name} {run} {number}" for number in range(int(scenario.rate * scenario.seconds))]


def speaking(
    stage: Stage, scenario: Scenario, to: range, texts: list[str], *, is_watched: bool = False
) -> Run:
    """Send ``texts``, wait until all of ``to`` have them or no more comes, and read what happened."""
    synapse, peers = stage.synapse, stage.peers
    peers.clear()
    run = Run(idle_memory=memory_of(stage.pids))
    watching = None if is_watched else Watching(synapse, stage.pids, question=None)
    before = cpu_of(stage.pids)
    room = stage.rooms[scenario.servers]
    run.began = time.monotonic()
    times = _apart(_speak, synapse.port, synapse.token, room, texts, scenario.rate)
    is_done(peers, texts[-1], to, SETTLED)
    if watching is not None:
        run.seen = watching.end()
    if len(to) == scenario.servers:
        # Where some do not answer, it goes on asking them.
        stage.until_idle()
    run.cpu, run.transactions = cpu_of(stage.pids) - before, peers.transactions()
    started = {text: at for text, (at, _took) in zip(texts, times, strict=True)}
    for heard in peers.heard(to):
        run.deliveries += [heard[text] - at for text, at in started.items() if text in heard]
    run.missing = len(texts) * len(to) - len(run.deliveries)
    run.sends = [took for _at, took in times]
    return run


Times = list[tuple[float, float]]


def _apart(what: Callable[..., Times], *arguments: object) -> Times:
    """Called in a process of its own, so that nobody but Synapse keeps a client waiting."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(what, arguments)


def _speak(port: int, token: str, room: str, texts: list[str], rate: float) -> Times:
    """One message after another, ``rate`` a second if Synapse keeps up: when each began, and how long it took."""
    synapse = voice(port, token)
    return _at_rate([lambda text=text: synapse.say(room, text) for text in texts], rate)


def _type(port: int, token: str, room: str, count: int, rate: float) -> Times:
    synapse = voice(port, token)
    user = synapse.client("GET", "account/whoami")["user_id"]
    path = f"rooms/{urllib.parse.quote(room)}/typing/{urllib.parse.quote(user)}"

    def toggle(number: int) -> object:
        is_typing = number % 2 == 0
        return synapse.client("PUT", path, {"typing": is_typing, "timeout": 30_000})

    return _at_rate([lambda number=number: toggle(number) for number in range(count)], rate)


def _fetch(port: int, token: str, names: list[str], file: str) -> Times:
    os.sched_setaffinity(0, {OTHER_CORE})

    def fetch(name: str) -> tuple[float, float]:
        at = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        path = f"/_matrix/client/v1/media/download/{name}/{file}"
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        took = time.monotonic() - at
        connection.close()
        if response.status != 200:
            raise RuntimeError(f"a file of {name}: {response.status}")
        return at, took

    with ThreadPoolExecutor(len(names)) as users:
        return list(users.map(fetch, names))


def _at_rate(calls: list[Callable[[], object]], rate: float) -> Times:
    os.sched_setaffinity(0, {OTHER_CORE})
    begin, times = time.monotonic(), []
    for number, call in enumerate(calls):
        time.sleep(max(0.0, begin + number / rate - time.monotonic()))
        at = time.monotonic()
        call()
        times.append((at, time.monotonic() - at))
    return times


def quantile(some: list[float], share: float) -> float:
    """The value below which ``share`` of them lie."""
    ordered = sorted(some)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else float("nan")


def _delivery(share: float) -> Callable[[Run], float]:
    return lambda run: quantile(run.deliveries, share)


def _send(run: Run) -> float:
    return 1000 * quantile(run.sends, 0.5)


def _cpu(run: Run) -> float:
    return 1000 * run.cpu / max(run.transactions, 1)


def _probe(run: Run) -> float:
    return 1000 * quantile([took for _at, took in run.seen.requests], 0.5)


def _cpu_of_file(run: Run) -> float:
    return 1e9 * run.cpu / max(run.fetched, 1)


def _lookups(run: Run) -> list[float]:
    """Milliseconds of those that began while transactions were under way."""
    until = run.began + max(run.deliveries, default=0) + ANSWERED_AFTER
    return [1000 * took for at, took in run.seen.requests if run.began <= at <= until]


def _missing(run: Run) -> float:
    return run.missing


def _steady(p95: float, send: float | None, cpu: float | None = 0.3) -> tuple[Figure, ...]:
    return (
        Figure("delivery p50, s", _delivery(0.5)),
        Figure("delivery p95, s", _delivery(0.95), p95),
        Figure("send p50, ms", _send, send),
        Figure("CPU per transaction, ms", _cpu, cpu),
        Figure("missing", _missing, 0),
    )


SCENARIOS = {
    one.name: one
    for one in (
        Scenario("200", "2 messages/s for 10 s to 200 servers, one core", 200, messages, _steady(0.25, 60)),
        Scenario("500", "2 messages/s for 10 s to 500 servers, one core", 500, messages, _steady(0.25, 60)),
        Scenario(
            "1000", "2 messages/s for 10 s to 1,000 servers, one core", 1000, messages, _steady(0.5, 80)
        ),
        Scenario(
            "quarter",
            "2 messages/s for 10 s to 200 servers, a quarter of a core",
            200,
            messages,
            _steady(0.6, 120, None),
            share=0.25,
        ),
        Scenario(
            "message",
            "one message to 1,000 servers on open connections",
            1000,
            one_message,
            (
                Figure("all delivered, s", _delivery(1.0), 0.25),
                Figure("longest stall of a local request, ms", lambda run: 1000 * run.seen.longest(), 100),
                Figure("missing", _missing, 0),
            ),
        ),
        Scenario(
            "profile",
            "somebody's profile, looked up at one of 1,000 servers to which transactions are under way",
            1000,
            a_profile,
            (
                Figure("lookup p50, ms", lambda run: quantile(_lookups(run), 0.5)),
                Figure("longest lookup, ms", lambda run: quantile(_lookups(run), 1.0), 250),
                Figure("missing", _missing, 0),
            ),
        ),
        Scenario(
            "cold",
            "the first message after a start, to 1,000 servers",
            1000,
            cold_start,
            (
                Figure("all delivered, s", _delivery(1.0)),
                Figure("memory before, MB", lambda run: run.idle_memory / 1e6),
                Figure("memory growth, MB", lambda run: (run.seen.most_memory() - run.idle_memory) / 1e6, 40),
                Figure("CPU per transaction, ms", _cpu, 0.8),
                Figure("missing", _missing, 0),
            ),
        ),
        Scenario(
            "typing",
            "a typing storm, 500 servers",
            500,
            typing,
            (
                Figure("local request p50, ms", _probe, 20),
                Figure("longest stall of a local request, ms", lambda run: 1000 * run.seen.longest()),
                Figure("transactions", lambda run: run.transactions),
            ),
        ),
        Scenario(
            "holes",
            "1,000 servers, 20 % of which never answer and 10 % after 3 s: the healthy",
            1000,
            with_holes,
            _steady(0.6, None, None),
        ),
        Scenario(
            "media",
            "four users fetch 50 MB each of four servers at once",
            4,
            media,
            (
                Figure("all fetched, MB/s", lambda run: run.fetched / run.took / 1e6),
                Figure("CPU per MB, ms", _cpu_of_file),
                Figure("local request p50, ms", _probe),
                Figure("longest stall of a local request, ms", lambda run: 1000 * run.seen.longest()),
            ),
        ),
    )
}
