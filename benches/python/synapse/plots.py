"""Draws runs: when messages were delivered, how long local requests took, how much memory was resident."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .scenarios import Run, Scenario

COLOURS = {"stock": "tab:gray", "module": "tab:blue", "daemon": "tab:orange"}


def draw(folder: Path, scenario: Scenario, runs: dict[str, Run]) -> None:
    """Write ``folder``/NAME.svg with what there is of this scenario."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    parts = [
        (one, title)
        for one, title, has in (
            (_deliveries, "delivered, share of all", lambda run: run.deliveries),
            (_stalls, "a local request, ms", lambda run: run.seen.requests),
            (_memory, "resident, MB", lambda run: run.seen.memory),
        )
        if any(has(run) for run in runs.values())
    ]
    figure, axes = pyplot.subplots(1, len(parts), figsize=(4.5 * len(parts), 3.2), squeeze=False)
    for (part, title), axis in zip(parts, axes[0], strict=True):
        for name, run in runs.items():
            part(axis, run, label=name, color=COLOURS[name])
        axis.set_ylabel(title)
        axis.set_ylim(bottom=0)
        axis.legend()
    figure.suptitle(scenario.title)
    figure.tight_layout()
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{scenario.name}.svg")
    pyplot.close(figure)


def _deliveries(axis: Any, run: Run, **style: Any) -> None:
    ordered = sorted(run.deliveries)
    count = len(ordered) + run.missing
    axis.plot(ordered, [(number + 1) / count for number in range(len(ordered))], **style)
    axis.set_xlabel("s after the client began to send")


def _stalls(axis: Any, run: Run, **style: Any) -> None:
    axis.plot(
        [at - run.began for at, _took in run.seen.requests],
        [1000 * took for _at, took in run.seen.requests],
        **style,
    )
    axis.set_xlabel("s")


def _memory(axis: Any, run: Run, **style: Any) -> None:
    axis.plot(
        [at - run.began for at, _size in run.seen.memory],
        [size / 1e6 for _at, size in run.seen.memory],
        **style,
    )
    axis.set_xlabel("s")
