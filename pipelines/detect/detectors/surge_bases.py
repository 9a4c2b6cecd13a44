"""What each kind of surge is a share of: its column in the sums.

Of the calls, of a count of BASES, or, for a text signal, of the texts of that side which were scored. The last is a
kind itself, which has no hits: so the number that was learned of it is known when a signal has its first hit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.detectors.surge_state import BASES, KINDS
from pipelines.detect.items import BASE
from pipelines.detect.kinds import column
from schemas.rollups import SIGNAL

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


def base_of(kind: str, kinds: Sequence[str]) -> str:
    """Name of the column that ``kind`` is a share of; ``kinds`` are those of the app's windows."""
    if kind.startswith(SIGNAL):
        base = BASE + kind.removeprefix(SIGNAL).partition(":")[0]
        return base if base in kinds else "calls"
    return kind if kind.startswith(BASE) else BASES.get(kind, "calls")


def columns_of(kind: str, kinds: Sequence[str]) -> tuple[int, int]:
    """Columns of the hits of ``kind`` and of what they are a share of."""
    return column(list(kinds), kind), column(list(kinds), base_of(kind, kinds))


def base_columns(kinds: Sequence[str]) -> Ints:
    """(KINDS and ``kinds``,) column of what each is a share of."""
    return _base_columns(tuple(kinds))


def has_hits(kinds: Sequence[str]) -> Flags:
    """(KINDS and ``kinds``,) False for those that only count what others are a share of."""
    return _has_hits(tuple(kinds))


def learned_from(kinds: Sequence[str]) -> list[tuple[int, int]]:
    """(index, index of the kind whose learned calls it begins with, -1 = none) of kinds that are no share of calls."""
    every = [*KINDS, *kinds]
    found = [(i, -1) for i, kind in enumerate(every) if kind.startswith(BASE)]
    for i, kind in enumerate(every):
        if kind.startswith(SIGNAL) and (base := base_of(kind, kinds)) in every:
            found.append((i, every.index(base)))
    return found


@lru_cache(1024)
def _base_columns(kinds: tuple[str, ...]) -> Ints:
    found = np.array([column(list(kinds), base_of(kind, kinds)) for kind in (*KINDS, *kinds)], np.int64)
    found.flags.writeable = False
    return found


@lru_cache(1024)
def _has_hits(kinds: tuple[str, ...]) -> Flags:
    found = ~np.array([kind.startswith(BASE) for kind in (*KINDS, *kinds)], bool)
    found.flags.writeable = False
    return found
