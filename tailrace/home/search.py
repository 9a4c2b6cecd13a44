"""Which files of a home hold a text: reports, states, logs, the catalog. Compressed bytes hide it."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path


def files_with(home: Path, texts: Sequence[bytes], *, besides: Sequence[Path] = ()) -> list[Path]:
    """Return the files below ``home`` that hold one of ``texts``, by name.

    Args:
        home: folder.
        texts: what to look for.
        besides: folders that are left out.
    """
    files = (file for file in sorted(home.rglob("*")) if not any(file.is_relative_to(each) for each in besides))
    return [file for file in files if _holds(file, texts)]


def _holds(file: Path, wanted: Sequence[bytes]) -> bool:
    with suppress(OSError, ValueError):  # deleted meanwhile, a socket, not ours to read; an empty file has no map
        if file.is_file() and not file.is_symlink():
            with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return any(data.find(each) >= 0 for each in wanted)
    return False
