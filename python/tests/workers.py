"""A Synapse in several processes: one that its users speak with, and some that send. Real Redis between them."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from .databases import Database
from .synapses import Synapse, free_port, python, until


class Redis:
    """A server on a socket in a folder of its own, which keeps nothing; stopped by its number."""

    def __init__(self) -> None:
        found = shutil.which("redis-server")
        if found is None:
            pytest.skip("there is no redis-server")
        # A socket's path is short.
        self.folder = Path(tempfile.mkdtemp(prefix="southbridge-"))
        self.socket = self.folder / "redis"
        options = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--dir", str(self.folder)]
        self._process = subprocess.Popen([found, *options], stdout=subprocess.DEVNULL)
        until(self.socket.exists, "Redis listens")

    def stop(self) -> None:
        """Let it end."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        shutil.rmtree(self.folder)


class Deployment(Synapse):
    """The main process; the others are its ``senders``."""

    def __init__(self, folder: Path, ca_file: Path, database: Database, redis: Redis, **more: Any) -> None:
        names = ["sender1", "sender2"]
        replication = free_port()
        super().__init__(
            folder,
            ca_file,
            database,
            redis={"enabled": True, "path": str(redis.socket)},
            federation_sender_instances=names,
            instance_map={"main": {"host": "127.0.0.1", "port": replication}},
            worker_replication_secret="replication secret of a test",
            **more,
        )
        self._config["listeners"].append(
            {
                "port": replication,
                "type": "http",
                "bind_addresses": ["127.0.0.1"],
                "resources": [{"names": ["replication"]}],
            }
        )
        self.senders = [Sender(self, name) for name in names]

    def start(self, module: dict[str, Any] | None = None, wrap: tuple[str, ...] = (), **more: Any) -> None:
        """Start all of it."""
        super().start(module, wrap, **more)
        for sender in self.senders:
            sender.begin()
        for sender in self.senders:
            sender.until_up()

    def kill(self) -> None:
        for sender in self.senders:
            sender.kill()
        super().kill()

    def shard(self, destination: str) -> Sender:
        """Who sends to ``destination``: what Synapse's documentation calls a hash, modulo the number of instances."""
        digest = int.from_bytes(hashlib.sha256(destination.encode()).digest(), "little")
        return self.senders[digest % len(self.senders)]


class Sender(Synapse):
    """A process that sends."""

    def __init__(self, main: Deployment, name: str) -> None:
        self.main = main
        self.worker = name
        self.folder = main.folder
        self.log = main.folder / f"{name}.log"
        self.port = free_port()
        self.environment = {}
        self.token = ""
        self._process = None

    def begin(self) -> None:
        """Start it, with the configuration that the main process was started with last."""
        listener = {
            "port": self.port,
            "type": "http",
            "bind_addresses": ["127.0.0.1"],
            "resources": [{"names": ["metrics"]}],
        }
        config: dict[str, Any] = {
            "worker_app": "synapse.app.generic_worker",
            "worker_name": self.worker,
            "worker_listeners": [listener],
            "worker_pid_file": str(self.folder / f"{self.worker}.pid"),
        }
        own, shared = self.folder / f"{self.worker}.yaml", self.folder / "homeserver.yaml"
        own.write_text(json.dumps(config))
        command = [str(python()), "-m", "synapse.app.generic_worker", "-c", str(shared), "-c", str(own)]
        self._process = self._run(command)

    def until_up(self) -> None:
        """Wait until it answers."""
        until(self._is_up, f"{self.worker} answers")

    def sent_to(self) -> set[str]:
        """To whom it has sent events, of those in ``federation_metrics_domains``."""
        name = "synapse_federation_last_sent_pdu_time{"
        told = [key for key, value in self.figures().items() if key.startswith(name) and value]
        return {key.split('destination_server_name="')[1].split('"')[0] for key in told}
