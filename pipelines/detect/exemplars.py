"""Example calls of the rows of rollups. Few of them are used, so they stay in Arrow until then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipelines.detect.cells import Matrix, integers

_UNUSED = ("hash", "latency", "tokens", None)


@dataclass(frozen=True)
class Exemplars:
    """Example calls of some rows. Few of them are used, so their ids stay in Arrow until then."""

    rows: Matrix
    """(n,) row of the batch, or place of the series."""
    codes: Matrix
    """(n,) index into ``measures``."""
    measures: list[str]
    values: Matrix
    """(n,) nano-USD, or 0 where the measure has none."""
    ids: pa.Array
    """Call ids, of these and of others."""
    at: Matrix
    """(n,) index into ``ids``."""

    def pick(self, rows: Matrix, which: Matrix) -> Exemplars:
        """Those at ``which``, with ``rows`` in place of theirs."""
        return Exemplars(rows, self.codes[which], self.measures, self.values[which], self.ids, self.at[which])

    def call_ids(self) -> list[str]:
        """(n,) call ids. ``pa.array`` of a numpy array would import pandas first, which takes more than a second."""
        return [self.ids[i].as_py() for i in self.at.tolist()]


@dataclass(frozen=True)
class UnreadExemplars:
    """Exemplars of messages, as received: they stay in Arrow until they are used, and are then read together."""

    column: pa.ListArray
    rows: Matrix
    """(rows,) of each row of the messages: row of the batch, or place of the series; -1 = its calls are left out."""

    def read(self) -> Exemplars:
        """Return those that are kept."""
        items = self.column.flatten()
        parts = items.flatten()  # as pyarrow.compute.struct_field does, without the cost of a call for each
        measures, values, ids = (parts[items.type.get_field_index(name)] for name in ("measure", "value", "call_id"))
        coded = measures.dictionary_encode()
        names = coded.dictionary.to_pylist()
        codes = integers(coded.indices, -1)
        rows = self.rows[integers(self.column.value_parent_indices())]
        used = np.flatnonzero(np.array([name not in _UNUSED for name in names] + [False])[codes] & (rows >= 0))
        return Exemplars(rows[used], codes[used], names, integers(values)[used], ids, used)


def concatenated(shown: Sequence[UnreadExemplars]) -> UnreadExemplars:
    """Concatenate exemplars whose rows are places."""
    if len(shown) == 1:
        return shown[0]
    return UnreadExemplars(
        pa.concat_arrays([each.column for each in shown]), np.concatenate([each.rows for each in shown])
    )
