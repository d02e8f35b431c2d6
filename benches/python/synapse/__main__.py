"""What a real Synapse costs and how it feels, by itself and with the module: the same rooms, in turn, in one run.

``cargo xtask bench --module`` builds what it needs and calls this. Homeservers that have joined with events that they
signed live in one process, clients in others, and Synapse on a core of its own. A message is delivered when a homeserver
has read its transaction. CPU is that of the whole process of Synapse, the kernel included, for each transaction that came;
with a daemon, CPU and memory are those of both processes, which share the core of Synapse.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.daemons import PROGRAM

from ..report import Report
from .plots import draw
from .scenarios import SCENARIOS, Run
from .stage import DAEMON, MODULE, STOCK, Stage


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="cargo xtask bench --module",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    listed = "; ".join(f"{name}: {one.title}" for name, one in SCENARIOS.items())
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"all by default. {listed}")
    parser.add_argument("--rounds", type=int, default=1, help="how often both have their turn")
    parser.add_argument("--without-stock", action="store_true", help="the module alone, which is quicker")
    parser.add_argument("--daemon", action="store_true", help="a third way: the module by a daemon's kernel")
    parser.add_argument("--plots", type=Path, metavar="DIRECTORY", help="draw what happened, as SVG")
    asked = parser.parse_args()
    unknown = [name for name in asked.scenarios if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    wanted = [SCENARIOS[name] for name in asked.scenarios or SCENARIOS]
    if asked.daemon and not PROGRAM.exists():
        parser.error(f"there is no {PROGRAM}: SOUTHBRIDGE_BIN names the daemon to measure")
    ways = [*([] if asked.without_stock else [STOCK]), MODULE, *([DAEMON] if asked.daemon else [])]
    told = Report()
    with tempfile.TemporaryDirectory(prefix="southbridge-") as folder:
        stage = Stage(Path(folder), {one.servers for one in wanted})
        for scenario in wanted:
            told.title(f"{scenario.title}  (lowest, median, highest)")
            runs: dict[str, list[Run]] = {way.name: [] for way in ways}
            for _round in range(asked.rounds):
                for way in ways:
                    runs[way.name].append(scenario.play(stage, scenario, way))
            for figure in scenario.figures:
                for way in ways:
                    bound = figure.at_most if way is MODULE else None
                    figures = [figure.of(run) for run in runs[way.name]]
                    told.row(f"{figure.what:<40}{way.name}", figures, at_most=bound)
            if asked.plots:
                draw(asked.plots, scenario, {name: some[-1] for name, some in runs.items()})
    if told.missed:
        raise SystemExit(f"missed: {'; '.join(told.missed)}")


if __name__ == "__main__":
    main()
