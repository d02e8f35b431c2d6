"""Every Python example of the book and the README runs, each as a program by itself.

An example that cannot run is preceded by ``<!-- not run: REASON -->``, and counted.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from .book.world import world

ROOT = Path(__file__).parents[2]
EXAMPLE = re.compile(
    r"^(?:<!-- not run: (?P<reason>.*?) -->\n)?```python\n(?P<source>.*?)^```$", re.MULTILINE | re.DOTALL
)
# Whoever marks one more, counts it here.
NOT_RUN = 0
# An example is over in a second; a machine that is busy may take longer.
PATIENCE = 60


class Example(NamedTuple):
    page: Path
    line: int
    source: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def examples() -> Iterator[Example]:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs/book/src").rglob("*.md"))):
        text = page.read_text()
        for match in EXAMPLE.finditer(text):
            line = text.count("\n", 0, match.start("source"))
            yield Example(page, line, match["source"], match["reason"])


EXAMPLES = list(examples())


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An environment in which every name of the book is one peer on this machine."""
    elsewhere = ("_proxy", "_ca_bundle", "ssl_cert_dir")
    inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith(elsewhere)}
    with world(tmp_path_factory.mktemp("world")) as variables:
        yield inherited | variables | {"PYTHONPATH": str(ROOT / "python"), "PYTHONWARNINGS": "error"}


@pytest.fixture
def folder(tmp_path: Path, surroundings: dict[str, str]) -> Path:
    """What the examples find where they are started."""
    made = Path(surroundings["SSL_CERT_FILE"]).parent
    for name in ("ca.pem", "key.pem", "certificate.pem"):
        (tmp_path / name).write_bytes((made / name).read_bytes())
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff" + b"p" * 100_000)
    return tmp_path


@pytest.mark.parametrize("example", [one for one in EXAMPLES if not one.reason], ids=str)
def test_an_example_runs(example: Example, surroundings: dict[str, str], folder: Path) -> None:
    program = [
        sys.executable,
        str(ROOT / "python/tests/book/example.py"),
        str(example.page),
        str(example.line),
    ]
    done = subprocess.run(
        program,
        input=example.source,
        env=surroundings,
        cwd=folder,
        timeout=PATIENCE,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_every_fence_of_python_is_an_example() -> None:
    pages = {example.page for example in EXAMPLES}
    fences = sum(len(re.findall(r"^ *```python", page.read_text(), re.MULTILINE)) for page in pages)
    assert fences == len(EXAMPLES)


def test_what_is_not_run_is_counted_and_says_why() -> None:
    idle = [example for example in EXAMPLES if example.reason is not None]
    assert len(idle) == NOT_RUN, [f"{example}: {example.reason}" for example in idle]
    assert all(example.reason and len(example.reason) > 10 for example in idle)
