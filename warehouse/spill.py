"""Where a DuckDB puts what does not fit its memory: a folder for each instance, and for no other.

DuckDB 1.5.5 names its spill files by size and number alone. Two instances with one ``temp_directory``, of one process
or of two, write into the same bytes, and read back wrong values without an error.
"""

from __future__ import annotations

import os
import shutil
import socket
import uuid
from contextlib import suppress
from pathlib import Path

from warehouse.locks import gone

_ours: set[str] = set()


def folder(base: Path) -> str:
    """Return a folder below ``base`` that no other instance has; DuckDB makes it when it spills, and removes it.

    What killed processes of this host left behind is removed. Where ``base`` may not be written, as by a reader of
    somebody else's lake, only a query that spills fails.
    """
    host = f"{socket.gethostname()}-"
    with suppress(OSError):
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in os.listdir(base):
            if name.startswith(host) and _left(name.removeprefix(host), name):
                shutil.rmtree(base / name, ignore_errors=True)
    name = f"{host}{os.getpid()}-{uuid.uuid4().hex}"
    _ours.add(name)
    return str(base / name)


def _left(rest: str, name: str) -> bool:
    pid = rest.partition("-")[0]
    # a container that starts again has its old number again
    return pid.isdigit() and (gone(int(pid)) or (int(pid) == os.getpid() and name not in _ours))
