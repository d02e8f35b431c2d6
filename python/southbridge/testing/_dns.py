"""What names mean while a test runs."""

from __future__ import annotations

from typing import Literal, TypeAlias

from southbridge._kernel import Rehearsal

Failing: TypeAlias = Literal["unknown", "failure", "refused", "silence"]


class Dns:
    """The name server of a test. A name that nothing is said about does not exist. Times to live are seconds."""

    def __init__(self, native: Rehearsal) -> None:
        self._native = native

    def host(self, name: str, *addresses: str, ttl: int = 60) -> None:
        """``name`` has these addresses, of either family, from now on."""
        self._native.dns_host(name, list(addresses), ttl)

    def srv(self, name: str, *records: tuple[int, int, int, str], ttl: int = 60) -> None:
        """``name`` has these SRV records: priority, weight, port and target. The target ``.`` says "no service"."""
        self._native.dns_srv(name, list(records), ttl)

    def alias(self, name: str, target: str, *, ttl: int = 60) -> None:
        """``name`` is another name of ``target`` (CNAME)."""
        self._native.dns_alias(name, target, ttl)

    def fail(self, name: str, how: Failing = "failure") -> None:
        """Whoever asks for ``name`` is told that there is no such name (``unknown``), that the server has a ``failure``, that
        it was ``refused``, or nothing at all (``silence``)."""
        self._native.dns_fail(name, how)

    def questions(self, name: str) -> int:
        """How many questions for addresses or SRV records of ``name`` have come in."""
        return self._native.dns_questions(name)
