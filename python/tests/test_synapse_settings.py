"""What of ``homeserver.yaml`` keeps Synapse as it is, and what the module reads of the rest: in Synapse's own interpreter,
which reads the configuration, and for one of them in a Synapse that runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import southbridge

from . import synapses
from .homeservers import Homeserver
from .test_synapse import World

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(synapses.python() is None, reason="there is no Python with Synapse in .venv"),
]

# Reads configurations as Synapse does, and says what the module makes of each: why it cannot honour it, and which
# addresses it would dial.
READER = """
import json, sys
from synapse.config.homeserver import HomeServerConfig
from southbridge.synapse import _settings, _web

def told(config):
    read = HomeServerConfig()
    read.parse_config_dict(config, "", "")
    try:
        _settings._check_here(read)
        why = None
    except _settings.CannotBeHonouredError as error:
        why = str(error)
    reach = _settings._reach(*_settings._of_federation(read))
    return {"why": why, "clients": _web.why_not(read), "deny": reach["deny"], "allow": reach["allow"]}

json.dump([told(one) for one in json.load(sys.stdin)], sys.stdout)
"""

CERTAIN = "is set, which it cannot honour yet"
RESTRICTED = {
    "outbound_federation_restricted_to": ["outside"],
    "worker_replication_secret": "s",
    "instance_map": {
        "main": {"host": "127.0.0.1", "port": 9093},
        "outside": {"host": "127.0.0.1", "port": 9094},
    },
}


def told(folder: Path, *cases: dict[str, Any], **environment: str) -> list[dict[str, Any]]:
    """What the module makes of each of these settings."""
    config = {
        "server_name": "home.test",
        "report_stats": False,
        "trusted_key_servers": [],
        "signing_key_path": str(folder / "signing.key"),
        "macaroon_secret_key": "m",
        "form_secret": "f",
        "media_store_path": str(folder / "media"),
        "database": {"name": "sqlite3", "args": {"database": ":memory:"}},
    }
    (folder / "signing.key").write_text(synapses.SIGNING_KEY)
    asked = json.dumps([{**config, **case} for case in cases])
    found = subprocess.run(
        [str(synapses.python()), "-c", READER],
        input=asked,
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(southbridge.__file__).parents[1]),
            **environment,
        },
    )
    assert found.returncode == 0, found.stderr[-2000:]
    read: list[dict[str, Any]] = json.loads(found.stdout)
    return read


def test_what_cannot_be_honoured_is_named(tmp_path: Path) -> None:
    """Each of them by the name that it has in the file; a proxy may also stand in the environment."""
    settings: dict[str, dict[str, Any]] = {
        "federation_verify_certificates: false": {"federation_verify_certificates": False},
        "federation_certificate_verification_whitelist": {
            "federation_certificate_verification_whitelist": ["*.example"]
        },
        "https_proxy": {"https_proxy": "http://127.0.0.1:3128"},
        "federation_client_minimum_tls_version: 1.3": {"federation_client_minimum_tls_version": "1.3"},
        "outbound_federation_restricted_to": RESTRICTED,
    }
    said = told(tmp_path, *settings.values())
    assert [one["why"] for one in said] == [f"{name} {CERTAIN}" for name in settings]
    [proxied] = told(tmp_path, {}, HTTPS_PROXY="http://127.0.0.1:3128")
    assert (proxied["why"], proxied["clients"]) == (f"https_proxy {CERTAIN}", "a proxy is set")


def test_what_is_honoured_or_left_to_synapse_is_no_obstacle(tmp_path: Path) -> None:
    """Lists of addresses and domains, timeouts and back-offs, and a proxy for plain HTTP, which federation never takes."""
    said = told(
        tmp_path,
        {},
        {"federation_client_minimum_tls_version": "1.2"},
        {"federation_domain_whitelist": ["a.example"]},
        {
            "federation": {
                "client_timeout": "10s",
                "max_short_retries": 1,
                "destination_min_retry_interval": "1m",
            }
        },
        {"user_agent_suffix": "here"},
    )
    assert [(one["why"], one["clients"]) for one in said] == [(None, None)] * 5
    [plain, insecure] = told(
        tmp_path,
        {"http_proxy": "http://127.0.0.1:3128"},
        {"use_insecure_ssl_client_just_for_testing_do_not_use": True},
    )
    assert (plain["why"], plain["clients"]) == (None, "a proxy is set")
    assert insecure["why"] is None
    assert "use_insecure_ssl_client" in insecure["clients"]


def test_addresses_are_denied_as_synapse_denies_them(tmp_path: Path) -> None:
    """What is blocked, without what is allowed again; the older name for federation alone has no exceptions, and without any
    list it is Synapse's own."""
    lists = {"ip_range_blacklist": ["10.0.0.0/8", "192.0.2.1"], "ip_range_whitelist": ["10.1.0.0/16"]}
    both, older, stock = told(
        tmp_path, lists, {**lists, "federation_ip_range_blacklist": ["198.51.100.0/24"]}, {}
    )
    denied = set(both["deny"])
    assert "192.0.2.1/32" in denied
    assert "10.0.0.0/16" in denied
    assert not denied & {"10.0.0.0/8", "10.1.0.0/16"}
    assert "198.51.100.0/24" in older["deny"]
    assert not any(one.startswith("10.") for one in older["deny"])
    assert {"127.0.0.0/8", "10.0.0.0/8", "169.254.0.0/16"} <= set(stock["deny"])
    assert both["allow"] == ["0.0.0.0/0", "::/0"]


def test_a_synapse_that_is_left_as_it_is_sends_by_itself(tmp_path: Path) -> None:
    """With a setting that cannot be honoured, one line says so, and it sends and asks as ever."""
    world = World(tmp_path, 1)
    try:
        world.synapse = synapses.Synapse(
            tmp_path,
            world.homeservers.ca_file,
            federation_verify_certificates=False,
        )
        room = world.begin({})
        lines = [line for line in world.synapse.lines() if "southbridge cannot be set up" in line]
        [line] = lines
        assert f"federation_verify_certificates: false {CERTAIN}" in line
        world.synapse.say(room, "hello")
        world.until_heard(["hello"])
        assert (
            world.synapse.answer("GET", f"/_matrix/client/v3/profile/@user:{world.homeservers[0].name}")[0]
            == 200
        )
        assert not world.synapse.said("southbridge asks homeservers for Synapse")
    finally:
        world.synapse.kill()


def test_who_is_not_on_the_list_of_domains_is_neither_told_nor_asked(tmp_path: Path) -> None:
    """``federation_domain_whitelist``, read again after a start: of two that had joined, one is not on it any more."""
    world = World(tmp_path, 2)
    listed, unlisted = world.homeservers.all
    try:
        room = world.begin({})
        world.synapse.say(room, "before")
        world.until_heard(["before"])
        world.synapse.end()
        world.synapse.start({}, federation_domain_whitelist=[listed.name])
        unlisted.asked.clear()
        world.synapse.say(room, "after")
        world.until_heard(["after"], listed)
        assert _profile(world, listed) == 200
        assert _profile(world, unlisted) in (403, 502)
        assert unlisted.events() == ["before"]
        assert unlisted.asked == []
    finally:
        world.synapse.kill()


class Daemon(synapses.Synapse):
    """One that goes into the background when it has read its configuration."""

    def _run(self, command: list[str]) -> subprocess.Popen[bytes]:
        begun = super()._run([*command, "--daemonize"])
        assert begun.wait(60) == 0
        # As a process that can be asked whether it lives, and ended.
        return subprocess.Popen(["tail", f"--pid={self.number}", "-f", os.devnull])

    @property
    def number(self) -> int:
        """That of the process in the background."""
        return int((self.folder / "synapse.pid").read_text())

    def end(self) -> None:
        os.kill(self.number, signal.SIGTERM)
        assert self._process is not None
        self._process.wait(30)
        self._process = None


def test_a_synapse_in_the_background_sends_as_well(tmp_path: Path) -> None:
    """It forks after the module was loaded, and before anything of the kernel is needed."""
    world = World(tmp_path, 2)
    handler = {"class": "logging.FileHandler", "filename": str(tmp_path / "synapse.log")}
    logging = {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"file": handler},
        "root": {"level": "INFO", "handlers": ["file"]},
    }
    (tmp_path / "log.yaml").write_text(json.dumps(logging))
    world.synapse = Daemon(tmp_path, world.homeservers.ca_file, log_config=str(tmp_path / "log.yaml"))
    try:
        room = world.begin({})
        assert world.synapse.said("southbridge sends for Synapse")
        world.synapse.say(room, "hello")
        world.until_heard(["hello"])
        assert _profile(world, world.homeservers[0]) == 200
    finally:
        world.synapse.end()


def _profile(world: World, of: Homeserver) -> int:
    return world.synapse.answer("GET", f"/_matrix/client/v3/profile/@user:{of.name}")[0]
