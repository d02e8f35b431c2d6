"""The setting ``daemon`` of the module, and where keys are handed over. Without a Synapse."""

from __future__ import annotations

from pathlib import Path

import pytest
from southbridge._kernel import no_server_names
from southbridge.synapse._daemon import insecure
from southbridge.synapse._settings import Settings


def test_a_daemon_is_named_by_the_path_of_its_socket() -> None:
    assert Settings.parse({"daemon": "/run/southbridge/module.sock"}).daemon == "/run/southbridge/module.sock"
    assert Settings.parse({}).daemon is None
    for wrong in ("module.sock", 9103, True, ["/run/a"]):
        with pytest.raises(
            ValueError, match=r"daemon of southbridge\.synapse\.Module is the path of a socket"
        ):
            Settings.parse({"daemon": wrong})


def test_keys_are_handed_over_where_nobody_else_can_listen(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert "cannot be looked at" in str(insecure(str(folder / "module.sock")))
    folder.mkdir()
    assert insecure(str(folder / "module.sock")) is None
    folder.chmod(0o1777)
    assert "everybody can write into" in str(insecure(str(folder / "module.sock")))


def test_names_that_are_none_are_found() -> None:
    names = ["a.test", "a.test:8448", "[::1]", "", "a b", "\N{SNOWMAN}.test", "a.test:x"]
    assert no_server_names(names) == names[3:]
