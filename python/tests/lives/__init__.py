"""Programs whose life the tests watch, each in a process of its own: ``python -m tests.lives.MODULE NAME URL …``.

A program that ends as it should exits with 0, says nothing on its standard error, and prints what its test compares.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# Multiplies what is repeated by the tests that count; 100 gives 1,000 forks, 1,000 exits, 100,000 cancellations.
TIMES = float(os.environ.get("SOUTHBRIDGE_TIMES", "1"))
# CPython 3.12 and later warn of every fork in a process that has threads. Ours is among them, and looks after itself.
QUIET_FORKS = "ignore:This process:DeprecationWarning"


def command(module: str, program: str, *arguments: str) -> list[str]:
    """How ``program`` of ``module`` is started."""
    interpreter = [sys.executable, "-X", "faulthandler", "-W", QUIET_FORKS]
    return [*interpreter, "-m", f"tests.lives.{module}", program, *arguments]


def place() -> Path:
    """Where it is started: the directory that holds the package `tests`."""
    return Path(__file__).parents[2]


def live(module: str, program: str, *arguments: str, seconds: float = 60) -> str:
    """Runs ``program`` of ``module``; what it printed. It has to end by itself, in time, and well."""
    done = subprocess.run(
        command(module, program, *arguments),
        cwd=place(),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    told = f"{module} {program} {arguments} ended with {done.returncode}: {done.stdout}{done.stderr}"
    assert (done.returncode, done.stderr) == (0, ""), told
    return done.stdout.strip()
