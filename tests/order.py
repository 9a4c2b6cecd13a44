"""The order of test files where several processes share a run: long files first, whole systems one after another.

A process takes the next file when it is nearly through with its own. The last files must therefore be short ones: a
long one at the end is run by one process while the others have ended.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler.loadfile import LoadFileScheduling

SECONDS = Path(__file__).parent / "seconds.json"
"""File -> seconds it took where two processes ran; `TAILRACE_TEST_SECONDS=tests/seconds.json make test` renews it."""
WHOLE_SYSTEMS = ("tests/e2e/", "tests/deploy/test_compose_processes.py", "tests/upgrade/test_homes.py")
"""What starts ten processes at a time: one process runs all of it, so that two of them never run at once."""
FAULTS = "tests/faults/"
"""The fault matrix."""
UNKNOWN_S = 0.5
"""Seconds of a test whose file is not in SECONDS."""
LONG_S = 3.0
"""Files that take longer are marked ``long``."""


class LongFilesFirst(LoadFileScheduling):
    """Hands out files in the order of the collection, and WHOLE_SYSTEMS as if it were one file."""

    def __init__(self, config: pytest.Config, log: Any) -> None:
        config.option.loadscopereorder = False  # else files with many tests come first, however short they are
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)


def long_files_first(items: list[pytest.Item], seconds: Mapping[str, float] | None = None) -> None:
    """Sort ``items`` in place by the time of their files; the tests of a file stay together, in their order."""
    known = json.loads(SECONDS.read_text()) if seconds is None else seconds
    took: dict[str, float] = defaultdict(float)
    for file, tests in Counter(_file(item.nodeid) for item in items).items():
        took[scope(file)] += known.get(file, tests * UNKNOWN_S)
    items.sort(key=lambda item: (-took[scope(item.nodeid)], scope(item.nodeid)))


def mark_long(items: list[pytest.Item], seconds: Mapping[str, float] | None = None) -> None:
    """Mark the tests of files that take long: `make test-fast` leaves them out."""
    known = json.loads(SECONDS.read_text()) if seconds is None else seconds
    for item in items:
        if known.get(_file(item.nodeid), 0.0) > LONG_S:
            item.add_marker("long")


def mark_extended(items: Iterable[pytest.Item]) -> None:
    """Mark what `make test` leaves to `make test-extended`.

    The rows of the fault matrix, whose promises other tests hold too; and all cases of a parametrised test but its
    first ones, where it has the mark ``representatives(number)``.
    """
    seen: Counter[str] = Counter()
    for item in items:
        if item.nodeid.startswith(FAULTS):
            item.add_marker("extended")
        if (mark := item.get_closest_marker("representatives")) is None:
            continue
        test = item.nodeid.split("[", 1)[0]
        seen[test] += 1
        if seen[test] > mark.args[0]:
            item.add_marker("extended")


def scope(nodeid: str) -> str:
    """Return what one process runs as a whole: the file of a test, or all of WHOLE_SYSTEMS."""
    return "whole systems" if nodeid.startswith(WHOLE_SYSTEMS) else _file(nodeid)


def _file(nodeid: str) -> str:
    return nodeid.split("::", 1)[0]


def write_seconds(reports: Iterable[Any], target: Path) -> None:
    """Write what each file took, as far as `reports` (of setup, call and teardown) know."""
    took: dict[str, float] = defaultdict(float)
    for report in reports:
        if isinstance(getattr(report, "duration", None), float):
            took[_file(report.nodeid)] += report.duration
    known = {file: round(seconds, 1) for file, seconds in sorted(took.items()) if seconds >= 1}
    target.write_text(json.dumps(known, indent=1) + "\n")
