"""What the stages write into their logs, on stdout as well: where containers collect logs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, BinaryIO

AT_ONCE_BYTES = 1 << 20
"""Most that one look copies of one file, so that a flood of log lines does not hold up the supervisor."""


class Echo:
    """Copies lines that are appended to ``files``; it follows a file that is moved away when it is full."""

    def __init__(self, files: Iterable[Path], out: BinaryIO | None = None) -> None:
        """Begin at the present ends: what earlier processes wrote was shown by them."""
        self._out = out or sys.stdout.buffer
        self._open: dict[Path, IO[bytes] | None] = {path: self._opened(path, at_end=True) for path in files}

    def look(self) -> None:
        """Copy whole lines that are new."""
        for path, file in list(self._open.items()):
            if file is not None:
                self._copy(file)
            if file is None or self._moved(path, file):
                self._open[path] = self._opened(path)
        with suppress(OSError):  # stdout is not read any more: the files have every line
            self._out.flush()

    def close(self) -> None:
        """Copy what is left, and close the files."""
        self.look()
        for file in self._open.values():
            if file is not None:
                file.close()

    def _copy(self, file: IO[bytes]) -> None:
        start = file.tell()
        found = file.read(AT_ONCE_BYTES)
        whole = found.rfind(b"\n") + 1 or (len(found) if len(found) == AT_ONCE_BYTES else 0)
        file.seek(start + whole)
        with suppress(OSError):
            self._out.write(found[:whole])

    def _opened(self, path: Path, *, at_end: bool = False) -> IO[bytes] | None:
        with suppress(OSError):
            file = path.open("rb")
            if at_end:
                file.seek(0, os.SEEK_END)
            return file
        return None

    def _moved(self, path: Path, file: IO[bytes]) -> bool:
        """Whether another file has the name by now, and the old one is read to its end."""
        with suppress(OSError):
            there, here = path.stat(), os.fstat(file.fileno())
            if (there.st_ino, there.st_dev) != (here.st_ino, here.st_dev) and file.tell() >= here.st_size:
                file.close()
                return True
        return False
