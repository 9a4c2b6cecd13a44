"""Where a DuckDB puts what does not fit its memory: a folder for each instance, and for no other.

DuckDB 1.5.5 names its spill files by size and number alone. Two instances with one ``temp_directory``, of one process
or of two, write into the same bytes, and read back wrong values without an error.
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import uuid
from contextlib import suppress
from pathlib import Path

from warehouse.storage.locks import is_running

_LIFE = uuid.uuid4().hex
"""Of this process: a container that starts again has its old number again."""
_nth = itertools.count()


def folder(base: Path) -> str:
    """Return a folder below ``base`` that no other instance has; DuckDB makes it when it spills, and removes it.

    What killed processes of this host left behind is removed. Where ``base`` may not be written, as by a reader of
    another user's lake, only a query that spills fails.
    """
    host = f"{socket.gethostname()}-"
    mine = f"{host}{os.getpid()}-{_LIFE}-"
    with suppress(OSError):
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in os.listdir(base):
            if name.startswith(host) and not name.startswith(mine) and _left(name.removeprefix(host)):
                shutil.rmtree(base / name, ignore_errors=True)
    return str(base / f"{mine}{next(_nth)}")


def _left(rest: str) -> bool:
    pid = rest.partition("-")[0]
    return pid.isdigit() and (int(pid) == os.getpid() or not is_running(int(pid)))
