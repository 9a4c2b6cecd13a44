"""Where rows go: standard output, or a file that is whole or not there."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

import typer

from schemas.errors import SettingsError
from tailrace.cli.render.printable import printable_lines

Write = Callable[[bytes], object]


class Format(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    JSONL = "jsonl"
    PARQUET = "parquet"


@contextmanager
def opened(out: Path | None, *, force: bool = False) -> Iterator[Write]:
    """Yield what writes to ``out``, or to standard output.

    Bytes go unchanged into a file or a pipe; a terminal gets them without what a terminal would act on.

    Raises:
        SettingsError: ``out`` exists and ``force`` is off, or cannot be written.
    """
    if out is not None:
        with new_file(out, force=force) as file:
            yield file.write
    elif sys.stdout.isatty():
        yield lambda text: typer.echo(printable_lines(text.decode()), nl=False)
    else:
        sys.stdout.flush()
        yield sys.stdout.buffer.write  # typer.echo would take colours out of a pipe
        sys.stdout.buffer.flush()


def check(out: Path | None, *, force: bool = False) -> None:
    """Refuse a file that cannot be written, before the work for it is done.

    Raises:
        SettingsError: it exists and ``force`` is off, it is a folder, or its folder cannot be written.
    """
    if out is None:
        return
    try:
        exists = out.exists() and out.is_file()
        if out.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if exists and not force:
            raise SettingsError("--out", f"{out} exists", "name a new file, or overwrite it with --force")
        if not out.exists() and not out.parent.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "its folder does not exist")
        if not os.access(out.parent if exists or not out.exists() else out, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _refused(out, error) from None


@contextmanager
def new_file(out: Path, *, force: bool = False) -> Iterator[BinaryIO]:
    """Yield a file that takes the name ``out`` when all is written; until then, and after an error, there is none.

    Raises:
        SettingsError: it exists and ``force`` is off, or the system refuses it.
    """
    try:
        if out.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        if out.exists() and not out.is_file():  # a pipe or a device, such as /dev/stdout
            with out.open("wb") as file:
                yield file
            return
        if out.exists() and not force:
            raise SettingsError("--out", f"{out} exists", "name a new file, or overwrite it with --force")
        draft = out.with_name(f".{out.name}.{os.getpid()}")
        try:
            with open(draft, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                yield file
            draft.replace(out)
        finally:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
    except OSError as error:
        raise _refused(out, error) from None


def _refused(out: Path, error: OSError) -> SettingsError:
    remedy = "name a file in a folder of yours, with space on its disk"
    return SettingsError("--out", f"cannot write {out}: {error.strerror or error}", remedy)
