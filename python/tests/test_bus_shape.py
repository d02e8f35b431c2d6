"""A bus is in this process or in a daemon: whoever uses one must not have to know which. What has both is held together here."""

from __future__ import annotations

import ast
from pathlib import Path

import southbridge

PACKAGE = Path(southbridge.__file__).parent

HERE_ONLY = {
    "fileno": "there is a connection instead, which the reactor knows",
    "drain": "the connection says what has come back",
    "ask": "what Synapse asks itself is carried by the kernel in its own process",
}
"""What a bus in this process has besides, and why one at a daemon has not."""

ANSWERS = {"is_there", "start", "stop", "answer"}
"""What `BusReader` has for a bus in this process, and a bus at a daemon by itself."""


def shapes(file: str, name: str) -> dict[str, str]:
    """The public methods of the class ``name`` in ``file`` of the package: how each is called, what it takes and gives."""
    tree = ast.parse((PACKAGE / file).read_text())
    [found] = [one for one in tree.body if isinstance(one, ast.ClassDef) and one.name == name]
    methods = [one for one in found.body if isinstance(one, ast.FunctionDef) and not one.name.startswith("_")]
    return {one.name: _shape(one) for one in methods}


def _shape(method: ast.FunctionDef) -> str:
    decorators = "".join(f"@{ast.unparse(one)} " for one in method.decorator_list)
    assert method.returns is not None, f"{method.name} does not say what it gives"
    return f"{decorators}({ast.unparse(method.args)}) -> {ast.unparse(method.returns)}"


def test_a_bus_at_a_daemon_is_used_as_one_in_this_process() -> None:
    """Names, order, defaults and types, to the letter. `stubtest` holds the stub to the binary."""
    here, there = shapes("_kernel.pyi", "Bus"), shapes("synapse/_daemon.py", "DaemonBus")
    assert here.keys() >= HERE_ONLY.keys()
    shared = {name: shape for name, shape in here.items() if name not in HERE_ONLY}
    assert {name: there.get(name) for name in shared} == shared
    assert len(shared) >= 8, "all that is handed in is among them"


def test_what_is_waited_for_is_waited_for_in_one_way() -> None:
    reader, daemon = shapes("synapse/_reactor.py", "BusReader"), shapes("synapse/_daemon.py", "DaemonBus")
    assert {name: daemon.get(name) for name in ANSWERS} == {name: reader[name] for name in ANSWERS}


def test_a_bus_at_a_daemon_has_nothing_that_one_in_this_process_lacks() -> None:
    """But for what its connection says to it."""
    there = shapes("synapse/_daemon.py", "DaemonBus").keys()
    told = {name for name in there if name.startswith("line_")}
    # A reader has its bus as an attribute; the type checkers see that both have it.
    here = shapes("_kernel.pyi", "Bus").keys() - HERE_ONLY.keys()
    assert there - told - {"bus"} == here | ANSWERS
