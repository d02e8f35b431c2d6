"""Who runs on which core, and a share of one: a process is put into a control group of its own, as a container's are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

SYNAPSE_CORE, OTHER_CORE = 0, 1

PERIOD = 100_000
"""Microseconds in which the share may be used up: what container engines set."""

_V1 = Path("/sys/fs/cgroup/cpu")
_V2 = Path("/sys/fs/cgroup")


class Quota:
    """``share`` of one core, for all that it holds together, until it is closed."""

    def __init__(self, share: float) -> None:
        allowed = int(share * PERIOD)
        try:
            self._group = _make_group(f"southbridge-bench-{os.getpid()}")
            if (self._group / "cpu.cfs_quota_us").exists():
                (self._group / "cpu.cfs_period_us").write_text(str(PERIOD))
                (self._group / "cpu.cfs_quota_us").write_text(str(allowed))
            else:
                (self._group / "cpu.max").write_text(f"{allowed} {PERIOD}")
        except OSError as error:
            raise SystemExit(
                f"{share:g} of a core cannot be set: {error}; "
                "be root where the control group cpu is writable, or leave out the scenarios with a share"
            ) from error

    def hold(self, pids: Sequence[int]) -> None:
        """These have no more than that from now on, with their threads."""
        for pid in pids:
            (self._group / "cgroup.procs").write_text(str(pid))

    def close(self) -> None:
        """Take it away; the processes must have ended."""
        self._group.rmdir()


def _make_group(name: str) -> Path:
    if _V1.is_dir():
        group = _V1 / name
    else:
        (_V2 / "cgroup.subtree_control").write_text("+cpu")
        group = _V2 / name
    group.mkdir(exist_ok=True)
    return group
