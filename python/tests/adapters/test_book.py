"""The examples of the book's pages on adapters run."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..frontends import Frontend

PAGES = Path(__file__).parents[3] / "docs/book/src/adapters"
EXAMPLE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def run_examples(page: str, **names: Any) -> None:
    examples: list[str] = EXAMPLE.findall((PAGES / page).read_text())
    assert examples
    for example in examples:
        exec(compile(example, page, "exec"), {"__name__": page, **names})


@pytest.mark.parametrize("page", ["httpx.md", "requests.md"])
def test_the_examples_of_a_page_run(page: str, peer: str) -> None:
    run_examples(page, peer=peer)


@pytest.mark.frontends("twisted", "twisted-asyncio")
def test_the_examples_for_twisted_run(frontend: Frontend, peer: str) -> None:
    run: Callable[..., Any] = frontend.run
    run_examples("twisted.md", peer=peer, run=run)
