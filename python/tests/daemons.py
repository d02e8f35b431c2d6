"""A `southbridge serve` of this checkout in a process of its own, at whose socket modules share a kernel."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from .synapses import until

PROGRAM = Path(os.environ.get("SOUTHBRIDGE_BIN") or Path(__file__).parents[2] / "target/debug/southbridge")
"""The one that is named, or this checkout's."""


class Daemon:
    """One of them. ``start``, and ``end`` or ``kill``, as often as is wanted."""

    def __init__(self, folder: Path, ca_file: Path) -> None:
        if not PROGRAM.exists():
            pytest.skip("cargo build --package southbridge-daemon makes the daemon")
        folder.mkdir()
        self.socket = folder / "module.sock"
        self.log = folder / "daemon.log"
        self._config = folder / "southbridge.toml"
        # TOML's strings and lists are those of JSON.
        self._config.write_text(
            "[module]\n"
            f"listen = {json.dumps(f'unix:{self.socket}')}\n"
            f"[tls]\nca_files = {json.dumps([str(ca_file)])}\n"
            '[addresses]\nallow = ["127.0.0.0/8"]\n'
            f"[storage]\npath = {json.dumps(str(folder / 'southbridge.db'))}\n"
            "[synapse]\nlisten = []\n[forward_proxy]\nlisten = []\n[admin]\nlisten = []\n"
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._successor: int | None = None

    @property
    def pid(self) -> int:
        """Of the one that serves now."""
        if self._successor is not None:
            return self._successor
        assert self._process is not None
        return self._process.pid

    def start(self, wrap: tuple[str, ...] = ()) -> None:
        """Start it, and wait until it listens; ``wrap`` is a command that becomes the one after it."""
        begun = self.said("ready")
        with self.log.open("ab") as log:
            command = [*wrap, str(PROGRAM), "serve", "--config", str(self._config)]
            self._process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

        def is_ready() -> bool:
            assert self._process is not None
            if self._process.poll() is not None:
                raise RuntimeError(f"the daemon ended: {self.log.read_text()[-2000:]}")
            return self.said("ready") > begun

        until(is_ready, "the daemon is ready")

    def replace(self) -> None:
        """Have it hand over to a successor, and wait until that is there and it has gone."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)
        self._process.wait(30)
        self._process = None
        [self._successor] = [pid for pid in processes() if self._is_ours(pid)]

    def end(self) -> None:
        """Ask it to end, and wait until it has."""
        self._stop(signal.SIGTERM)

    def kill(self) -> None:
        """As a machine that loses power."""
        self._stop(signal.SIGKILL)

    def said(self, text: str) -> int:
        """How many lines of its log have this."""
        if not self.log.exists():
            return 0
        return sum(text in line for line in self.log.read_text(errors="replace").splitlines())

    def _is_ours(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            return str(self._config).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
        return False

    def _stop(self, how: signal.Signals) -> None:
        if self._successor is not None:
            pid, self._successor = self._successor, None
            os.kill(pid, how)
            until(lambda: not self._is_ours(pid), "the successor has ended")
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None


def processes() -> list[int]:
    """All processes of this machine that can be seen."""
    return [int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit()]
