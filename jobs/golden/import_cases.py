"""Add the cases of an existing test set to a golden set: its next version is one transaction, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from jobs.golden.cases import Row, content_hash
from jobs.golden.job import GoldenBusyError
from jobs.golden.settings import GoldenSettings, criteria
from warehouse.golden import versions
from warehouse.golden.failed_calls import Window
from warehouse.golden.versions import Change, GoldenState
from warehouse.lake import Lake
from warehouse.storage.connect import LakeConfig

_TRIES = 3
_START = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class ImportResult:
    """The result of an import."""

    version: int
    added: int
    known: int
    """Cases of the file that the set has already."""
    cases: int


def import_cases(
    config: LakeConfig, rows: Sequence[Row], *, set_name: str, owner: str, now: Callable[[], int]
) -> ImportResult:
    """Write the next version of ``set_name``: the cases that it has, and those of ``rows`` that it has not.

    Args:
        config: where the lake is.
        rows: of ``imported.read``.
        set_name: of the golden set.
        owner: who does it.
        now: wall clock, µs UTC.

    Raises:
        LakeMissingError: no lake there.
        GoldenBusyError: other processes changed the set during the import, more than once.
    """
    at = now()
    with Lake.open(replace(config, threads=1), now=now, lander=False, create=False) as lake:
        for _ in range(_TRIES):
            versions.prepare(lake, set_name)
            was = versions.read_state(lake, set_name, lambda looked: looked or Window(at, at), _NOTHING, seed=1, most=1)
            version, change, found = _next(was, rows, at, owner)
            if not change.version or versions.write(lake, was, set_name, change, now=at):
                return ImportResult(version, found, len(rows) - found, len(change.cases))
    raise GoldenBusyError(set_name)


_NOTHING = criteria(GoldenSettings())


def _next(was: GoldenState, rows: Sequence[Row], at: int, owner: str) -> tuple[int, Change, int]:
    """Return the number of the version, what to write, and how many cases are new."""
    newest = int(was.versions[-1]["version"]) if was.versions else 0
    here = {case["case_id"] for case in was.cases}
    moment = _START + timedelta(microseconds=at)
    new = [{**row, "ts": moment, "added_in": newest + 1} for row in rows if row["case_id"] not in here]
    if not new:
        return newest, Change(was.window, cases=was.cases), 0
    cases = sorted((*was.cases, *new), key=lambda case: str(case["case_id"]))
    version: Row = {
        "version": newest + 1,
        "parent": newest or None,
        "content_hash": content_hash(cases),
        "created_at": moment,
        "window_from": _START + timedelta(microseconds=was.window.since),
        "window_to": _START + timedelta(microseconds=was.window.until),
        "cases": len(cases),
        "added": len(new),
        "kept": len(was.cases),
        "dropped": 0,
        "candidates": 0,
        "near_duplicates": 0,
        "settings": "{}",
        "owner": owner,
    }
    return newest + 1, Change(was.window, version, cases), len(new)
