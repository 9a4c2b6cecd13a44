"""Sums of cells (series, code, value) as ``Side`` keeps them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.detect.cells import CODE, FIRST, TTFT, Matrix

CODES = 4 * TTFT
"""More than there are."""


@dataclass(frozen=True)
class Minutes:
    """Cells of several minutes: the series of the i-th are numbered from i times ``rows`` on."""

    cells: Matrix
    """(n, 3) series, code and value."""
    count: int
    rows: int
    """Series."""
    busy: NDArray[np.bool_]
    """(count,) whether there is a cell."""

    def sums(self, codes: list[int]) -> NDArray[np.float64]:
        """(count, rows, len(codes)) sums of some codes."""
        return sums_of(self.cells, codes, self.count * self.rows).reshape(self.count, self.rows, len(codes))


def merged(cells: Matrix) -> Matrix:
    """Sum up the cells of one series and code."""
    keys = cells[:, 0] * CODES + cells[:, 1]
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else order
    keys = keys[first]
    sums = np.add.reduceat(cells[order, 2], first) if len(keys) else keys
    return np.array([keys // CODES, keys % CODES, sums]).T


def sums_of(cells: Matrix, codes: list[int], rows: int) -> NDArray[np.float64]:
    """(rows, len(codes)) sums of ``cells`` by series and code of CODE."""
    scalar = cells[:, 1] - FIRST
    held = np.flatnonzero((scalar >= 0) & (scalar < len(CODE)))
    at = cells[held, 0] * len(CODE) + scalar[held]
    sums = np.bincount(at, weights=cells[held, 2], minlength=rows * len(CODE))[: rows * len(CODE)]
    return sums.astype(float, copy=False).reshape(rows, len(CODE))[:, [code - FIRST for code in codes]]
