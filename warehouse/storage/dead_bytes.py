"""Originals of dead letters, kept out of the catalog's statistics.

DuckLake writes the least and the greatest value of every column of every file into its catalog, binary ones as the hex
of their first 256 bytes (tried on 1.5.5), and those of a whole table are never removed. For ``dead_bytes`` that is a
text of an app, which neither retention nor ``forget`` removes. So a value is prefixed with 256 zeros, which is all the
statistics then contain; zstd compresses them to a few bytes.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

PADDING = bytes(256)
PADDED_COLUMNS = {"dead_bytes": ("bytes", "key")}
"""Table -> columns."""


def pad(table: str, rows: pa.Table) -> pa.Table:
    """Return ``rows`` with zeros before the values of ``PADDED_COLUMNS``; NULL stays NULL."""
    for name in PADDED_COLUMNS.get(table, ()):
        if name in rows.column_names:
            field = rows.schema.field(name)
            column = pc.binary_join_element_wise(pa.scalar(PADDING, field.type), rows[name], pa.scalar(b"", field.type))
            rows = rows.set_column(rows.column_names.index(name), field, column)
    return rows


def unpad(value: bytes | None) -> bytes | None:
    """Return ``value`` without the zeros of ``pad``; a value that landed before padding is returned unchanged."""
    return None if value is None else value.removeprefix(PADDING)
