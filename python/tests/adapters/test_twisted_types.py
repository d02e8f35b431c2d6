"""A type checker that knows zope (mypy with mypy-zope) takes the agent for one, and nothing else for it (F20)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2]
# Here and not in a file: the checkers of this package know no zope, and would not take it.
PROGRAM = """
from southbridge.adapters.twisted import KernelAgent
from twisted.web.client import RedirectAgent
from twisted.web.iweb import IAgent


def fetch(agent: IAgent) -> None:
    agent.request(b"GET", b"https://example.org/", None, None)


fetch(KernelAgent())
agent: IAgent = KernelAgent()
RedirectAgent(KernelAgent())
"""
SETTINGS = """
[mypy]
plugins = mypy_zope:plugin
strict = true
mypy_path = {package}
follow_imports = silent
"""


def checked(tmp_path: Path, program: Path) -> str:
    """What mypy says of ``program``, with the plugin that knows zope."""
    pytest.importorskip("mypy_zope")
    settings = tmp_path / "mypy.ini"
    settings.write_text(SETTINGS.format(package=PACKAGE))
    asked = [sys.executable, "-m", "mypy", "--config-file", str(settings)]
    done = subprocess.run(
        [*asked, "--cache-dir", str(tmp_path / "cache"), str(program)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_type_checker_takes_the_agent_for_one(tmp_path: Path) -> None:
    program = tmp_path / "typed.py"
    program.write_text(PROGRAM)
    assert checked(tmp_path, program).startswith("Success")
    program.write_text(PROGRAM.replace("fetch(KernelAgent())", "fetch(object())"))
    assert "incompatible type" in checked(tmp_path, program), "else the checker would take anything"
