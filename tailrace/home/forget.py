"""Removes a person from the files of a home beside the lake: reports and caches are deleted, logs lose the id.

Caches do not have the user of a text, so all entries since the first of the calls are deleted: they are asked again,
and paid again, where it is needed. Run before the calls go: they name the reports.
"""

from __future__ import annotations

import html
import json
import mmap
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from pathlib import Path

from jobs.evals.judge.cache import forget_replies
from tailrace.home.layout import Home

_UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SHORT = 4
"""An id with fewer bytes is a word or a number elsewhere, too: reports are found by their calls alone, logs stay."""
Among = Callable[[Collection[str]], tuple[date | None, frozenset[str]]]
"""From ids of calls to the first day of their calls, and which of the ids are theirs."""


@dataclass
class Reached:
    """What went, or would go."""

    reports: list[Path] = field(default_factory=list)
    """Folders whose files go."""
    replies: int = 0
    """Of the judge."""
    answers: int = 0
    """Of candidates of the gate."""
    logs: list[Path] = field(default_factory=list)
    """Files in which the id is overwritten."""


def reach(home: Home, ids: Sequence[str], among: Among, *, remove: bool) -> Reached:
    """Find, and with ``remove`` take away, what the home holds beside the lake.

    Args:
        home: folder.
        ids: of the person or tenant, in all forms.
        among: queries the lake.
        remove: whether anything is changed.

    Raises:
        CacheUnusableError: the judge's cache cannot be changed.
    """
    forms = [form for each in ids if len(each.encode()) >= _SHORT for form in canonical(each)]
    folders = _reports(home.path / "reports")
    first, theirs = among({call for _, calls, _ in folders for call in calls})
    named = re.compile(rb"(?<!\w)(?:" + b"|".join(map(re.escape, forms)) + rb")(?!\w)") if forms else None
    found = Reached()
    for folder, calls, files in folders:
        if calls & theirs or (named and any(named.search(_bytes(file)) for file in files)):
            found.reports.append(folder)
            _unlink(files if remove else ())
    if first is not None:
        since = datetime.combine(first, time.min, UTC)
        cache = home.path / "evals" / "judge.sqlite"
        found.replies = forget_replies(cache, since=int(since.timestamp() * 1_000_000), remove=remove)
        answers = [file for file in _files(home.path / "gate" / "answers") if _written(file) >= since.timestamp()]
        found.answers = len(answers)
        _unlink(answers if remove else ())
    found.logs = [file for file in _files(home.path / "logs") if _overwrite(file, forms, remove=remove)]
    return found


def canonical(text: str) -> list[bytes]:
    """Return the forms of ``text`` in a page, in JSON and in plain text."""
    page = html.escape(text)  # of Python; Jinja writes quotes in another way
    jinja = page.replace("&#x27;", "&#39;").replace("&quot;", "&#34;")
    forms = {text, page, jinja, *(json.dumps(text, ensure_ascii=plain)[1:-1] for plain in (True, False))}
    return sorted(form.encode() for form in forms)


def _reports(top: Path) -> list[tuple[Path, set[str], list[Path]]]:
    """Return (folder, ids that look like those of calls, files) of every folder of reports."""
    by_folder: dict[Path, list[Path]] = {}
    for file in _files(top):
        by_folder.setdefault(file.parent, []).append(file)
    return [
        (folder, {found.decode() for file in files for found in _UUID.findall(_bytes(file))}, files)
        for folder, files in by_folder.items()
    ]


def _files(top: Path) -> Iterator[Path]:
    return (file for file in sorted(top.rglob("*")) if file.is_file() and not file.is_symlink())


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # replaced meanwhile, or not ours
        return b""


def _written(file: Path) -> float:
    with suppress(OSError):
        return file.stat().st_mtime
    return 0.0


def _unlink(files: Collection[Path]) -> None:
    for file in files:
        file.unlink(missing_ok=True)
    for folder in {file.parent for file in files}:
        with suppress(OSError):  # it has other files
            folder.rmdir()


def _overwrite(file: Path, forms: Sequence[bytes], *, remove: bool) -> bool:
    """Write as many x over every form in place of a log: a stage appends meanwhile. Return whether it had one."""
    had = False
    with suppress(OSError, ValueError):  # an empty file has no map
        access = mmap.ACCESS_WRITE if remove else mmap.ACCESS_READ
        with file.open("r+b" if remove else "rb") as opened, mmap.mmap(opened.fileno(), 0, access=access) as data:
            for form in sorted(forms, key=len, reverse=True):
                at = data.find(form)
                had = had or at >= 0
                while remove and at >= 0:
                    data[at : at + len(form)] = b"x" * len(form)
                    at = data.find(form, at + len(form))
    return had
