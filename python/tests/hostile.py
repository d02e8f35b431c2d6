"""The hostile peers of the testkit, in a process of their own: every fault of the wire that has a name."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import southbridge

# `cargo xtask test` says where it has built the program.
PROGRAM = os.environ.get("SOUTHBRIDGE_HOSTILE_PEERS")
USUAL = Path(__file__).parents[2] / "target/debug/examples/hostile_peers"
BUILD = "cargo build --workspace --example hostile_peers"


@dataclass(frozen=True)
class Hostile:
    """Where they are, and a client that trusts their authority and is not patient."""

    urls: dict[str, str]
    client: southbridge.Client


@contextmanager
def serving(folder: Path) -> Generator[Hostile, None, None]:
    """All of them, for as long as it lasts."""
    program = Path(PROGRAM) if PROGRAM else USUAL
    if not PROGRAM and not program.exists():
        pytest.skip(f"the hostile peers are not built: {BUILD}")
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        ca = folder / "ca.pem"
        ca.write_text(told["ca"])
        timeout = southbridge.Timeout(10, connect=1, read=1)
        yield Hostile(
            told["peers"],
            southbridge.Client(ca_files=[str(ca)], timeout=timeout, body_bytes_max=1_000_000),
        )
        process.kill()
