"""Columns of the sums after ``items.COLUMNS``: one for each guardrail or text signal, in the order of appearance."""

from __future__ import annotations

import numpy as np

from pipelines.detect.items import BASE, COLUMN, COLUMNS, GUARDRAIL, Batch
from pipelines.detect.slots import Matrix
from schemas.rollups import OTHER

MAX_KINDS = 24
"""Guardrails counted apart; the rest share ``guardrail:other``. Of signals beyond, none is counted."""


def column(kinds: list[str], name: str) -> int:
    """Index of a column by name: a rollup column or one of ``kinds``."""
    return COLUMN[name] if name in COLUMN else len(COLUMNS) + kinds.index(name)


def is_counted(kinds: list[str], kind: str) -> bool:
    """Whether a kind of text signals has a column, or gets one."""
    return kind in kinds or kind.startswith(BASE) or len(kinds) < 2 * MAX_KINDS


def counted(kinds: list[str], batch: Batch) -> dict[int, dict[int, int]]:
    """Return row -> column -> calls of the guardrails and signals of ``batch``; new ones are added to ``kinds``."""
    found: dict[int, dict[int, int]] = {}
    for row, name, _, calls in batch.triggers:
        _count(found, row, _place(kinds, GUARDRAIL + guardrail_of(kinds, name)), calls)
    for row, kind, calls in batch.signals:
        if is_counted(kinds, kind):
            _count(found, row, _place(kinds, kind), calls)
    return found


def guardrail_of(kinds: list[str], name: str) -> str:
    """Name under which a guardrail is counted; names are not bounded, so it is OTHER where there are MAX_KINDS."""
    guards = sum(kind.startswith(GUARDRAIL) for kind in kinds)
    return name if GUARDRAIL + name in kinds or guards < MAX_KINDS else OTHER


def widened(sums: Matrix, more: dict[int, dict[int, int]]) -> Matrix:
    """``sums`` with a column for every kind that is in ``more``, which is of ``counted``."""
    if not more:
        return sums
    width = max((at for columns in more.values() for at in columns), default=sums.shape[1] - 1) + 1
    out = np.zeros((len(sums), width), np.int64)
    out[:, : sums.shape[1]] = sums
    for row, columns in more.items():
        for at, calls in columns.items():
            out[row, at] = calls
    return out


def _count(found: dict[int, dict[int, int]], row: int, at: int, calls: int) -> None:
    columns = found.setdefault(row, {})
    columns[at] = columns.get(at, 0) + calls


def _place(kinds: list[str], kind: str) -> int:
    """Column of a kind, which is added where it is new."""
    if kind not in kinds:
        kinds.append(kind)
    return len(COLUMNS) + kinds.index(kind)
