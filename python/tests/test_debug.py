"""A program is asked what it is doing, while it hangs (K13): each program of `hung.py` in a process of its own.

``SOUTHBRIDGE_TIMES`` multiplies what is repeated; 100 gives 1,000 stacks of each kind of hanging.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = Path(__file__).with_name("hung.py")
TIMES = float(os.environ.get("SOUTHBRIDGE_TIMES", "1"))
# How long a stack may take, for all but one in a hundred. Ten of them on a machine that others use show that it ends.
STACK_SECONDS = 0.05 if TIMES >= 100 else 1


class Asked:
    """A program, and its debug socket."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.socket = self.line()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def raw(self, page: str, socket_path: str | None = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(30)
        connection.sock.connect(socket_path or self.socket)
        connection.request("GET", page)
        response = connection.getresponse()
        body = response.read().decode()
        connection.close()
        return response.status, body

    def ask(self, page: str, socket_path: str | None = None) -> Any:
        status, body = self.raw(page, socket_path)
        assert status == 200, body
        return json.loads(body)

    def ends_well(self) -> bool:
        assert self.process.stdout is not None
        return self.process.wait(60) == 0 and self.process.stdout.read().splitlines()[-1:] == ["well"]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory whose name is short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="sb") as directory:
        yield Path(directory) / "debug"


@contextmanager
def program(place: Path, name: str, url: str, seconds: float, **environment: str) -> Generator[Asked]:
    process = subprocess.Popen(
        [sys.executable, str(PROGRAMS), name, url, str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"SOUTHBRIDGE_DEBUG": str(place)} | environment,
    )
    with process:
        try:
            yield Asked(process)
        finally:
            process.kill()


# Each with a function that is seen holding still, also where the innermost frames come and go.
HANGING = {
    "lock_held": "lock_held",
    "sleeping": "sleeping",
    "matching": "matching",
    "reading": "reading",
    "hashing": "hashing",
    "computing": "computing",
    "looping": "looping",
    "recursing": "lock_held",
    "crowded": "crowded",
    "generating": "_inner",
    "polling": "polling",
    "blocked_signals": "blocked_signals",
}
# Stacks in a second. One of a thousand frames is a hundred thousand bytes of JSON, which are written, and read here.
A_SECOND = {"recursing": 30}


@pytest.mark.counted
@pytest.mark.parametrize("name", HANGING)
def test_the_stack_of_a_main_thread_that_hangs_is_told(peer: str, place: Path, name: str) -> None:
    """And in time, and the program notices nothing, however often it is asked."""
    rounds = int(10 * TIMES)
    took: list[float] = []
    moved = 0
    with program(place, name, peer, 2 + rounds / A_SECOND.get(name, 200)) as asked:
        # It says where its socket is, and then begins.
        time.sleep(0.5)
        for _ in range(rounds):
            begin = time.monotonic()
            stack = asked.ask("/debug/stack")
            took.append(time.monotonic() - begin)
            functions = [frame["function"].rpartition(".")[2] for frame in stack["frames"]]
            assert functions[-1] == "<module>"
            assert HANGING[name] in functions[stack["moving"] :], stack
            assert all(frame["file"] for frame in stack["frames"]), stack
            # Instructions that the compiler made up are of no line: the end of a generator, say.
            outer = stack["frames"][max(1, stack["moving"]) :]
            assert all(frame["line"] for frame in outer), stack
            assert not stack["is_cut"]
            moved += stack["moving"] > 0
        assert asked.ends_well()
    took.sort()
    at_most = took[int(len(took) * 0.99) - 1]
    half, most = took[len(took) // 2], took[-1]
    print(f"{name}: {rounds} stacks, {moved} of them while the innermost frames changed; ", end="")
    print(
        ", ".join(
            f"{what} {one * 1e3:.2f}" for what, one in [("p50", half), ("p99", at_most), ("most", most)]
        )
    )
    assert at_most <= STACK_SECONDS, f"{at_most:.3f} s"


def test_each_line_of_a_stack_is_the_one_that_python_would_tell(peer: str, place: Path) -> None:
    """The program hangs in coroutines in a generator: whoever reads its source finds each call on the line that is told."""
    with program(place, "generating", peer, 2) as asked:
        time.sleep(0.5)
        stack = asked.ask("/debug/stack")
        source = PROGRAMS.read_text().splitlines()
        told = {
            frame["function"].rpartition(".")[2]: source[frame["line"] - 1].strip()
            for frame in stack["frames"]
            if frame["file"] == str(PROGRAMS)
        }
        assert stack["moving"] == 0
        assert told["_inner"] == "_C.usleep(100_000)"
        assert told["größe"] == "asyncio.run(_inner(seconds))"
        assert told["generating"] == 'list(größe("…"))'
        assert told["<module>"] == "work(SECONDS)"
        assert asked.ends_well()


def test_the_stacks_of_all_threads_are_told(peer: str, place: Path) -> None:
    """Also of those that compute, and while others come and go; the main thread comes first."""
    with program(place, "crowded", peer, 2) as asked:
        time.sleep(0.5)
        for _ in range(20):
            stacks = asked.ask("/debug/stacks")
            [main, *others] = stacks["threads"]
            assert main["is_main"]
            assert (main["thread"], stacks["unlisted"]) == (asked.process.pid, 0)
            told = [{frame["function"].rpartition(".")[2] for frame in one["frames"]} for one in others]
            for function, count in [("waits_for_the_end", 20), ("computes_to_the_end", 3)]:
                assert sum(function in functions for functions in told) == count, told
        assert asked.ends_well()


def test_the_command_lists_the_program_and_asks_it(peer: str, place: Path) -> None:
    command = Path(__file__).parents[2] / "target/debug/southbridge"
    if not command.exists():
        pytest.skip("the southbridge command has not been built")

    def southbridge(*arguments: str) -> str:
        done = subprocess.run(
            [str(command), *arguments, "--dir", str(place)], capture_output=True, text=True, check=True
        )
        return done.stdout

    with program(place, "asking", peer, 4) as asked:
        deadline = time.monotonic() + 20
        while not asked.ask("/debug/requests")["oldest"] and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.6)
        listed = southbridge("ps").splitlines()[1]
        assert listed.split()[0] == str(asked.process.pid)
        assert "loading cart" in listed
        assert str(PROGRAMS) in listed
        told = southbridge("debug", str(asked.process.pid))
        assert "is in loading cart in checkout" in told
        assert f"GET {peer}/never?…: response for " in told
        assert f"  {PROGRAMS}:" in told
        stacks = json.loads(southbridge("debug", str(asked.process.pid), "--stacks", "--json"))
        assert stacks["stacks"]["threads"][0]["is_main"]
        assert asked.ends_well()


def test_a_hung_program_tells_everything(peer: str, place: Path) -> None:
    """It holds the lock in a call in C, with a request under way: no page needs it to come back. No secret is shown."""
    with program(place, "asking", peer, 4) as asked:
        pages = ("process", "requests", "pools", "hosts", "marks", "stack")
        deadline = time.monotonic() + 20
        while not asked.ask("/debug/requests")["oldest"] and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.6)
        begin = time.monotonic()
        told = {page: asked.ask(f"/debug/{page}") for page in pages}
        assert time.monotonic() - begin < 1
        whole = json.dumps(told) + asked.raw("/metrics")[1]
        assert "hush" not in whole
        [request] = told["requests"]["oldest"]
        url = f"{peer}/never?…"
        assert (request["method"], request["url"], request["mark"]) == ("GET", url, "loading cart")
        assert request["step"] == "response"
        assert 0 < request["deadline_in_ms"] <= 60_000
        [first, second] = told["marks"]["marks"]
        assert (first["name"], first["within"], first["is_current"]) == ("loading cart", ["checkout"], True)
        assert (second["name"], second["is_main"], second["is_current"]) == ("checkout", True, False)
        process = told["process"]
        assert (process["pid"], process["mark"]) == (asked.process.pid, "loading cart")
        assert process["facts"]["python"] == sys.version.split()[0]
        waiting = {port["frontend"]: port["waiting"] for port in process["ports"]}
        assert waiting == {"threads": 0, "asyncio": 1}
        assert "lock_held" in [frame["function"] for frame in told["stack"]["frames"]]
        assert asked.ends_well()
    assert list(place.iterdir()) == [], "the socket goes with its program"


def test_a_child_has_a_socket_of_its_own(peer: str, place: Path) -> None:
    with program(place, "forked", peer, 1) as asked:
        child = asked.line()
        assert child != asked.socket
        for path, marks in ((child, ["forking"]), (asked.socket, ["forking"])):
            assert "forked" in [frame["function"] for frame in asked.ask("/debug/stack", path)["frames"]]
            told = asked.ask("/debug/marks", path)["marks"]
            assert [mark["name"] for mark in told] == marks
            assert told[0]["is_main"]
        assert asked.ends_well()


def test_it_can_be_turned_off_and_a_bad_place_is_no_reason_not_to_start(peer: str, place: Path) -> None:
    with program(place, "sleeping", peer, 0.1, SOUTHBRIDGE_DEBUG="off") as asked:
        assert asked.socket == "None"
        assert asked.ends_well()
    place.mkdir(mode=0o755)
    told = f"""
import southbridge
southbridge.get({peer!r} + "/size/1")
try:
    southbridge.debug_socket()
except southbridge.SouthbridgeError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", told],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"SOUTHBRIDGE_DEBUG": str(place)},
    )
    assert "not for this user alone (its mode is 0755, not 0700)" in done.stdout


def test_hostile_clients_do_not_disturb_the_program(peer: str, place: Path) -> None:
    """Silent, endless and many: the program's own requests go on."""
    with program(place, "sleeping", peer, 60) as asked:
        with ExitStack() as held:
            for number in range(200):
                client = held.enter_context(socket.socket(socket.AF_UNIX))
                client.connect(asked.socket)
                client.settimeout(5)
                try:
                    client.sendall(b"GET /debug/process HTTP/1.1\r\nx: " + b"x" * 100)
                except OSError:
                    assert number >= 60, "there is room for so many"
        deadline = time.monotonic() + 30
        while True:
            try:
                assert asked.ask("/debug/process")["pid"] == asked.process.pid
                break
            except OSError:
                assert time.monotonic() < deadline, "places are given back"
        assert asked.process.poll() is None
