"""What a GET of 2 KB costs: CPU for each request, in microseconds, with 64 in flight.

The peer is nginx on loopback: HTTP/1.1, kept alive.
"""

from __future__ import annotations

from .clients import CLIENTS
from .fronts import FRONTS
from .nginx import nginx
from .report import Report, program

REQUESTS = 20_000
Costs = dict[str, list[tuple[float, float]]]

# What a front is held against: the other one, and how much of it ours may cost.
RIVALS = [
    # T5: the best of Python's own clients, on a loop made of libuv.
    ("uvloop_southbridge", "uvloop_aiohttp", 1.0),
    ("twisted_southbridge", "twisted_agent", 1 / 4),
    ("gevent_southbridge", "gevent_urllib3", 1 / 3),
    ("gevent_southbridge", "gevent_requests", 1 / 3),
    ("threads_southbridge", "threads_urllib3", 1 / 3),
    ("threads_southbridge", "threads_requests", 1 / 3),
]
MAIN_MAX, PROCESS_MAX, SPREAD_MAX = 8, 22, 2


def report(told: Report, rounds: int) -> None:
    """Adds the clients on asyncio, and the frontends."""
    # Ours on asyncio is a client and a frontend, and is measured once.
    modules = dict.fromkeys(FRONTS, "fronts") | {name: "clients" for name in CLIENTS if name != "southbridge"}
    costs: Costs = {name: [] for name in modules}
    with nginx() as url:
        for _ in range(rounds):
            for name, module in modules.items():
                costs[name].append(tuple(program(module, name, url, str(REQUESTS))))
    told.title("A GET of 2 KB, µs of CPU")
    for name in costs:
        is_ours = name == "asyncio_southbridge"
        told.row(f"{name}: main thread", _main(costs, name), at_most=MAIN_MAX if is_ours else None)
        told.row(f"{name}: process", _process(costs, name), at_most=PROCESS_MAX if is_ours else None)
    _compare(told, costs)


def _compare(told: Report, costs: Costs) -> None:
    told.title("Fronts beside each other, and beside their frameworks' own: times")
    fronts = [name for name in FRONTS if name.endswith("_southbridge")]
    rounds = zip(*(_process(costs, name) for name in fronts), strict=True)
    told.row(
        "the dearest front over the cheapest, process",
        [max(it) / min(it) for it in rounds],
        at_most=SPREAD_MAX,
    )
    for ours, theirs, most in RIVALS:
        for what, figures in (("main thread", _main), ("process", _process)):
            pairs = zip(figures(costs, ours), figures(costs, theirs), strict=True)
            told.row(
                f"{ours} / {theirs}, {what}", [one / other for one, other in pairs], at_most=round(most, 3)
            )


def _main(costs: Costs, name: str) -> list[float]:
    return [cost[0] for cost in costs[name]]


def _process(costs: Costs, name: str) -> list[float]:
    return [cost[1] for cost in costs[name]]
