"""What the package takes of a process's memory (M1), as far as that does not depend on how it was built."""

from __future__ import annotations

import json
import subprocess
import sys

RELOCATIONS = """
import json, resource, struct
import southbridge
from southbridge import _kernel

PAGE = resource.getpagesize()
with open(_kernel.__file__, "rb") as file:
    head = file.read(64)
    at, size, count = struct.unpack_from("<Q", head, 32)[0], *struct.unpack_from("<HH", head, 54)
    file.seek(at)
    headers = [struct.unpack("<IIQQQQQQ", file.read(size)[:56]) for _ in range(count)]
    # PT_DYNAMIC
    _kind, _flags, offset, _vaddr, _paddr, size, *_ = next(one for one in headers if one[0] == 2)
    file.seek(offset)
    section = file.read(size)
entries = dict(struct.unpack_from("<QQ", section, at) for at in range(0, size, 16))
with open("/proc/self/maps") as maps:
    base = next(int(line.split("-")[0], 16) for line in maps if line.rstrip().endswith(_kernel.__file__))
# DT_RELA, DT_RELASZ
first, after = (base + entries[7]) // PAGE + 1, (base + entries[7] + entries[8]) // PAGE
with open("/proc/self/pagemap", "rb") as pages:
    pages.seek(first * 8)
    there = struct.unpack(f"<{after - first}Q", pages.read((after - first) * 8))
print(json.dumps([after - first, sum(page >> 63 for page in there)]))
"""


def test_what_only_the_loader_reads_is_not_kept() -> None:
    """The table of relocations is a good part of a megabyte, and nobody reads it once the module is loaded."""
    done = subprocess.run([sys.executable, "-c", RELOCATIONS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages, there = json.loads(done.stdout)
    # What is touched next to either end brings up to sixteen pages with it.
    assert pages > 100
    assert there <= 32
