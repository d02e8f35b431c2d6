"""A real, unpatched Synapse from PyPI in a process of its own, with the module or without."""

from __future__ import annotations

import hmac
import http.client
import json
import os
import signal
import socket
import subprocess
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import southbridge

from .databases import Database, Sqlite

CHECKOUT = Path(__file__).parents[2]
SECRET = "registration secret of a test"
SIGNING_KEY = "ed25519 a_test c291dGhicmlkZ2UgdGVzdCBzaWduaW5nIGtleSAwMDE\n"

CONTEXTS = "synapse.logging.context"

_T = TypeVar("_T")


def python() -> Path | None:
    """The interpreter that has Synapse: named by the environment, or in the checkout's ``.venv``."""
    named = os.environ.get("SOUTHBRIDGE_SYNAPSE_PYTHON")
    found = Path(named) if named else CHECKOUT / ".venv/bin/python"
    return found if found.exists() else None


def has(module: str) -> bool:
    """Whether Synapse could import it."""
    found = python()
    asked = [str(found), "-c", f"import {module}"]
    return found is not None and subprocess.run(asked, capture_output=True, check=False).returncode == 0


def has_any(*releases: str) -> bool:
    """Whether Synapse is one of these."""
    found = python()
    asked = [str(found), "-c", "from importlib import metadata; print(metadata.version('matrix-synapse'))"]
    said = subprocess.run(asked, capture_output=True, check=False, text=True).stdout if found else ""
    return said.strip() in releases


class Synapse:
    """One of them, on SQLite or another database. ``start``, and ``end`` or ``kill``, as often as is wanted."""

    def __init__(self, folder: Path, ca_file: Path, database: Database | None = None, **more: Any) -> None:
        self.folder = folder
        self.database = database or Sqlite(folder / "homeserver.db")
        self.port = free_port()
        self.name = "home.test"
        (folder / "signing.key").write_text(SIGNING_KEY)
        self.log = folder / "synapse.log"
        many = {"per_second": 10_000, "burst_count": 10_000}
        self._config: dict[str, Any] = {
            "server_name": self.name,
            "pid_file": str(folder / "synapse.pid"),
            "listeners": [
                {
                    "port": self.port,
                    "type": "http",
                    "bind_addresses": ["127.0.0.1"],
                    "resources": [{"names": ["client", "federation", "metrics"]}],
                }
            ],
            "enable_metrics": True,
            "database": self.database.settings(),
            "media_store_path": str(folder / "media"),
            "signing_key_path": str(folder / "signing.key"),
            "macaroon_secret_key": "macaroon secret of a test",
            "form_secret": "form secret of a test",
            "registration_shared_secret": SECRET,
            "report_stats": False,
            "trusted_key_servers": [],
            "federation_custom_ca_list": [str(ca_file)],
            "ip_range_blacklist": [],
            "federation_ip_range_blacklist": [],
            "rc_message": many,
            "rc_registration": many,
            "rc_joins": {"local": many, "remote": many},
            "rc_joins_per_room": many,
            "rc_invites": dict.fromkeys(("per_room", "per_user", "per_issuer"), many),
            "rc_login": {"address": many, "account": many, "failed_attempts": many},
            "rc_federation": {"sleep_limit": 10_000, "reject_limit": 10_000, "concurrent": 100},
            **more,
        }
        # What it finds in its environment besides.
        self.environment: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self.token = ""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, module: dict[str, Any] | None = None, wrap: tuple[str, ...] = (), **more: Any) -> None:
        """Start it, with the module in this configuration or without, and wait until it answers."""
        config = {**self._config, **more}
        if module is not None:
            ours = {"module": "southbridge.synapse.Module", "config": module}
            config["modules"] = [*config.get("modules", []), ours]
        path = self.folder / "homeserver.yaml"
        path.write_text(json.dumps(config))
        self._process = self._run([*wrap, str(python()), "-m", "synapse.app.homeserver", "-c", str(path)])
        until(self._is_up, "Synapse answers")

    def end(self) -> None:
        """Ask it to end, and wait until it has."""
        self._stop(signal.SIGTERM)

    def kill(self) -> None:
        """As a machine that loses power."""
        self._stop(signal.SIGKILL)

    def register(self, user: str) -> None:
        """Make a user, and speak in its name from now on."""
        nonce = self.ask("GET", "/_synapse/admin/v1/register")["nonce"]
        proof = f"{nonce}\0{user}\0wonderland\0admin"
        mac = hmac.new(SECRET.encode(), proof.encode(), "sha1").hexdigest()
        login = {"nonce": nonce, "username": user, "password": "wonderland", "admin": True, "mac": mac}
        self.token = self.ask("POST", "/_synapse/admin/v1/register", login)["access_token"]

    def room(self) -> str:
        """Make a room that everybody may join."""
        return str(
            self.client("POST", "createRoom", {"preset": "public_chat", "room_version": "10"})["room_id"]
        )

    def say(self, room: str, text: str) -> str:
        """Send a message to ``room``; its event id."""
        path = f"rooms/{urllib.parse.quote(room)}/send/m.room.message/{time.monotonic_ns()}"
        return str(self.client("PUT", path, {"msgtype": "m.text", "body": text})["event_id"])

    def client(self, method: str, path: str, content: Any = None) -> Any:
        """Ask, as a client."""
        return self.ask(method, f"/_matrix/client/v3/{path}", content)

    def ask(self, method: str, path: str, content: Any = None, token: str | None = None) -> Any:
        """Ask for anything."""
        status, answer = self.answer(method, path, content, token)
        if status != 200:
            raise RuntimeError(f"{method} {path}: {status} {answer!r:.500}")
        return answer.decode() if isinstance(answer, bytes) else answer

    def answer(
        self, method: str, path: str, content: Any = None, token: str | None = None
    ) -> tuple[int, Any]:
        """The status of the answer, and what it says; ``content`` is JSON, or bytes as they are."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
            headers = {"Authorization": f"Bearer {token or self.token}", "Content-Type": kind}
            body = content if content is None or isinstance(content, bytes) else json.dumps(content)
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            said = response.read()
        finally:
            connection.close()
        is_json = "json" in response.headers.get("Content-Type", "")
        return response.status, json.loads(said) if is_json else said

    def rows(self, query: str, *arguments: Any) -> list[Any]:
        """Read its database."""
        return self.database.rows(query, *arguments)

    def change(self, query: str, *arguments: Any) -> None:
        """Change its database, while it does not run."""
        self.database.change(query, *arguments)

    def figures(self) -> Counter[str]:
        """Its metrics, by name and labels; what it does not have is zero."""
        lines = str(self.ask("GET", "/_synapse/metrics")).splitlines()
        told = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return Counter({name: float(value) for name, _, value in told})

    def said(self, text: str) -> bool:
        """Whether its log has this."""
        return any(text in line for line in self.lines())

    def lines(self) -> list[str]:
        """Its log."""
        return self.log.read_text(errors="replace").splitlines()

    def muddled(self) -> list[str]:
        """What its log says of log contexts that were lost, or went on when they had ended. In those in which it tells
        application services it says so of itself, without the module too."""
        return [line for line in self.lines() if CONTEXTS in line and " - as-sender-" not in line]

    def _run(self, command: list[str]) -> subprocess.Popen[bytes]:
        package = Path(southbridge.__file__).parents[1]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PYTHONPATH": f"{self.folder}:{package}",
            **self.environment,
        }
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=subprocess.STDOUT
            )

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"Synapse ended: {self.log.read_text()[-2000:]}")
        try:
            return self.ask("GET", "/health") is not None
        except OSError:
            return False

    def _stop(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None
            assert self.muddled() == []


def until(holds: Callable[[], _T], what: str, seconds: float = 60) -> _T:
    """Wait until ``holds`` says so: for processes of their own, whose time nobody can tell."""
    deadline = time.monotonic() + seconds
    while True:
        held = holds()
        if held:
            return held
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


def free_port(host: str = "127.0.0.1") -> int:
    """A port of ``host`` where nobody listens."""
    with socket.socket() as holder:
        holder.bind((host, 0))
        return int(holder.getsockname()[1])
