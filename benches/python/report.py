"""Figures beside their bounds. Every figure is the lowest, the median and the highest of all rounds."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any


class Report:
    """What has been measured so far, and whether a bound was missed."""

    def __init__(self) -> None:
        self.missed: list[str] = []

    def title(self, text: str) -> None:
        print(f"\n{text}", flush=True)

    def row(
        self, what: str, figures: list[float], *, at_most: float | None = None, at_least: float | None = None
    ) -> None:
        """One line; the median is held against the bound, if there is one."""
        median = statistics.median(figures)
        line = f"  {what:<58}{min(figures):10.2f}{median:10.2f}{max(figures):10.2f}"
        if at_most is not None:
            line += self._verdict(what, f"at most {at_most:g}", median <= at_most)
        if at_least is not None:
            line += self._verdict(what, f"at least {at_least:g}", median >= at_least)
        print(line, flush=True)

    def _verdict(self, what: str, bound: str, kept: bool) -> str:
        if not kept:
            self.missed.append(what)
        return f"   {bound}: {'kept' if kept else 'MISSED'}"


def program(module: str, *arguments: str) -> Any:
    """What a program of this package printed as JSON. Every round is a process of its own."""
    command = [sys.executable, "-m", f"python.{module}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[2:])} failed:\n{done.stderr}")
    return json.loads(done.stdout)
