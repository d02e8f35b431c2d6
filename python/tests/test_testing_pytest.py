"""The plugin for pytest: there when it is asked for, and out of the way when it is not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import southbridge
from southbridge.testing import Kernel, answer

FAILING = """
import pytest, southbridge
from southbridge.testing import answer

@pytest.mark.southbridge_kernel(seed=7, latency=0.25)
def test_that_fails(southbridge_kernel):
    southbridge_kernel.peer("example.org", answer(500))
    assert southbridge.get("http://example.org/").status == 200
"""

UNRELATED = """
import sys

def test_that_has_nothing_to_do_with_it():
    assert "southbridge.testing.pytest" in sys.modules
    assert "southbridge.testing._stage" not in sys.modules
"""


def run(folder: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-p", "southbridge.testing.pytest", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, *options, "test_it.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.southbridge_kernel(seed=9)
def test_the_fixture_is_a_kernel_with_the_options_of_the_marker(southbridge_kernel: Kernel) -> None:
    southbridge_kernel.peer("example.org", answer(body="hello", after=60))
    assert southbridge.get("http://example.org/").text == "hello"
    assert (southbridge_kernel.seed, southbridge_kernel.now) == (9, 60.0)


def test_a_failure_says_what_replays_it(tmp_path: Path) -> None:
    ran = run(tmp_path, FAILING, "--strict-markers")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "Kernel(seed=7, autojump=True, wall=1767225600.0, latency=0.25, jitter=0.0)" in ran.stdout
    assert "example.org to GET /: 500, 0 bytes" in ran.stdout


def test_a_run_that_does_not_ask_for_it_does_not_load_it(tmp_path: Path) -> None:
    ran = run(tmp_path, UNRELATED)
    assert ran.returncode == 0, ran.stdout + ran.stderr
