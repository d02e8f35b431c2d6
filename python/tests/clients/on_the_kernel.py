"""Puts the kernel under the client whose own tests run: a plugin of pytest, for ``cargo xtask adapters``.

``SOUTHBRIDGE_CLIENT`` names the project, ``left_out.txt`` beside this what of its tests is not asked, and why. Nothing
of theirs is copied: the tests are run where they lie in the project's own source.
"""

from __future__ import annotations

import fnmatch
import os
import ssl
import tempfile
from pathlib import Path
from typing import Any

import pytest
import southbridge

CLIENT = os.environ["SOUTHBRIDGE_CLIENT"]


def left_out() -> dict[str, str]:
    """Patterns of names, with the reasons: those of this project."""
    reasons: dict[str, str] = {}
    for line in Path(__file__).with_name("left_out.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            project, pattern, reason = line.split(None, 2)
            if project == CLIENT:
                reasons[pattern] = reason
    return reasons


def under_httpx() -> None:
    import httpx._client as client
    from southbridge.adapters.httpx import AsyncKernelTransport, KernelTransport

    def transport(**_settings: Any) -> KernelTransport:
        return KernelTransport()

    def async_transport(**_settings: Any) -> AsyncKernelTransport:
        return AsyncKernelTransport()

    names: Any = client
    names.HTTPTransport = transport
    names.AsyncHTTPTransport = async_transport


def under_requests() -> None:
    import requests.sessions
    from southbridge.adapters.requests import KernelAdapter

    names: Any = requests.sessions
    names.HTTPAdapter = KernelAdapter


def under_twisted() -> None:
    # The reactor has to be there: calls are in its thread.
    import twisted.internet.reactor  # type: ignore[import-untyped, unused-ignore]
    import twisted.web.client
    from southbridge.adapters.twisted import KernelAgent

    class Agent(KernelAgent):
        """Takes what that of Twisted takes, most of which is the kernel's."""

        def __init__(self, _reactor: Any, contextFactory: Any = None, **_settings: Any) -> None:  # noqa: N803
            super().__init__(_trusting(contextFactory))

    names: Any = twisted.web.client
    names.Agent = Agent


def _trusting(policy: Any) -> southbridge.Client:
    """A client that trusts whom ``policy`` trusts."""
    roots = getattr(getattr(policy, "_trustRoot", None), "_caCerts", [])
    if not roots:
        return southbridge.Client(cookies=False)
    from OpenSSL.crypto import FILETYPE_PEM, dump_certificate

    with tempfile.NamedTemporaryFile(suffix=".pem", delete=False) as file:
        file.writelines(dump_certificate(FILETYPE_PEM, root) for root in roots)
    return southbridge.Client(cookies=False, ca_files=[file.name])


def under_aiohttp() -> None:
    import aiohttp.client
    import aiohttp.test_utils
    from aiohttp.helpers import sentinel
    from southbridge.adapters.aiohttp import ClientSession

    class Session(ClientSession):
        """Takes what that of aiohttp takes: its loop is the one that runs, and its jar the kernel's."""

        def __init__(
            self,
            base_url: Any = None,
            *,
            connector: Any = None,
            cookie_jar: Any = None,
            loop: Any = None,
            version: Any = None,
            connector_owner: bool = True,
            **settings: Any,
        ) -> None:
            if settings.get("timeout") is sentinel:
                del settings["timeout"]
            trusted: Any = getattr(connector, "_ssl", True)
            jar = cookie_jar if isinstance(cookie_jar, aiohttp.DummyCookieJar) else None
            client = _trusting_der(trusted.get_ca_certs(True)) if trusted is not True else None
            super().__init__(base_url, cookie_jar=jar, client=client, **settings)

        # By this name `aiohttp.request` calls it.
        _request = ClientSession._ask  # pyright: ignore[reportPrivateUsage]

    for module in (aiohttp, aiohttp.client, aiohttp.test_utils):
        names: Any = module
        names.ClientSession = Session


def _trusting_der(roots: list[bytes]) -> southbridge.Client:
    """A client that trusts those who have signed with ``roots``."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
        file.writelines(ssl.DER_cert_to_PEM_cert(root) for root in roots)
    return southbridge.Client(ca_files=[file.name], proxy=None)


UNDER = {
    "aiohttp": under_aiohttp,
    "httpx": under_httpx,
    "requests": under_requests,
    "treq": under_twisted,
    "twisted": under_twisted,
}
UNDER[CLIENT]()


LEFT: list[pytest.Item] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves out what is said to be; a line that is about nothing is a mistake."""
    reasons = left_out()
    unused = set(reasons)
    kept: list[pytest.Item] = []
    for item in items:
        patterns = [pattern for pattern in reasons if _matches(item, pattern)]
        unused.difference_update(patterns)
        (LEFT if patterns else kept).append(item)
    items[:] = kept
    if unused:
        raise pytest.UsageError(f"left out, and not there: {', '.join(sorted(unused))}")


def _matches(item: pytest.Item, pattern: str) -> bool:
    # What stands in brackets are parameters, and no set of characters; and they may have a slash.
    file, _, test = item.nodeid.partition("::")
    name = f"{file.rpartition('/')[2]}::{test}".replace("[", "<")
    return fnmatch.fnmatchcase(name, pattern.replace("[", "<"))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    counted = {kind: len(terminalreporter.stats.get(kind, [])) for kind in ("passed", "failed", "error")}
    idle = sum(len(terminalreporter.stats.get(kind, [])) for kind in ("skipped", "xfailed", "xpassed"))
    failed = counted["failed"] + counted["error"]
    said = f"{CLIENT}: {counted['passed']} passed, {failed} failed, {idle} skipped by themselves, {len(LEFT)} left out"
    terminalreporter.write_line(said)
    with open(os.environ["SOUTHBRIDGE_CLIENT_RESULTS"], "a") as results:
        results.write(said + "\n")
