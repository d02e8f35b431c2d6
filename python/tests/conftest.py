"""Peers and frontends for the tests. ``--frontend NAME`` runs the behaviour suite for that one alone."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest

from . import hostile as hostile_peers
from . import servers
from .databases import Postgres
from .frontends import Frontend
from .synapses import until

pytest_plugins = ["southbridge.testing.pytest"]

# Those that can live in one process. The others have one of their own, for they change it.
TOGETHER = ("asyncio", "uvloop", "tornado", "trio", "twisted", "inlineCallbacks", "gevent", "threads")
APART = ("gevent-patched", "twisted-asyncio")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--frontend", choices=TOGETHER + APART, help="run the behaviour suite for this one alone"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    # The module that tells the suite on the test kit has servers of its own, one for each test.
    scope: Literal["function", "session"] = "function" if hasattr(metafunc.module, "SERVERS") else "session"
    if "frontend" in metafunc.fixturenames:
        asked: str | None = metafunc.config.getoption("--frontend")
        marker = metafunc.definition.get_closest_marker("frontends")
        wanted = marker.args if marker else TOGETHER + APART
        names = [name for name in ([asked] if asked else TOGETHER) if name in wanted]
        metafunc.parametrize("frontend", names, indirect=True, scope=scope)

    if "server" in metafunc.fixturenames:
        every: tuple[str, ...] = getattr(metafunc.module, "SERVERS", servers.NAMES)
        metafunc.parametrize("server", every, indirect=True, scope=scope)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: repeats itself often; `cargo xtask test --quick` leaves it out")
    config.addinivalue_line("markers", "counted: SOUTHBRIDGE_TIMES multiplies what it repeats")
    config.addinivalue_line("markers", "frontends(*names): the story is told by these alone")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--frontend``, what needs no frontend is left to the run without it."""
    if config.getoption("--frontend"):
        items[:] = [item for item in items if "frontend" in getattr(item, "fixturenames", ())]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A ``-k`` that selects nothing is no failure: it may be the name of a test in Rust."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.getoption("-k"):
        session.exitstatus = pytest.ExitCode.OK


@pytest.fixture(scope="session")
def frontend(request: pytest.FixtureRequest) -> Frontend:
    from .frontends.every import frontend_called

    return frontend_called(request.param)


@pytest.fixture(scope="session")
def peer() -> Iterator[str]:
    """The URL of a peer that does what the path says."""
    program = Path(__file__).with_name("peer.py")
    with subprocess.Popen(
        [sys.executable, str(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        yield f"http://127.0.0.1:{port}"
        process.kill()


@pytest.fixture(scope="session")
def every_server(peer: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, servers.Server]]:
    with servers.every_server(peer, tmp_path_factory.mktemp("servers")) as every:
        yield every


@pytest.fixture(scope="session")
def server(every_server: dict[str, servers.Server], request: pytest.FixtureRequest) -> servers.Server:
    """One of the servers of the behaviour suite."""
    return every_server[request.param]


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[hostile_peers.Hostile]:
    """Every hostile peer, none of which has been asked before."""
    with hostile_peers.serving(tmp_path) as peers:
        yield peers


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port where nobody listens, and nobody will meanwhile."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL for all tests, each of which has a database of its own."""
    server = Postgres()
    try:
        until(server.is_up, "PostgreSQL takes questions")
        yield server
    finally:
        server.stop()
