"""Which calls count in totals of what users got: all but those of a shadow or canary variant."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

NOT_USER_FACING = "^(shadow|canary)([^a-z]|$)"
"""What the name of such a variant begins with, in any case: ``shadow``, ``canary-v8``; ``shadowy`` is none. The view
``calls`` has the same expression (tests/warehouse/query/test_user_facing.py)."""
_NAME = re.compile(NOT_USER_FACING, re.IGNORECASE)


def is_user_facing(variant: str | None) -> bool:
    """Return whether a call of ``variant`` counts in totals of what users got."""
    return variant is None or not _NAME.match(variant)


def user_facing(calls: pa.Table) -> pa.ChunkedArray:
    """(n,) bool of ``calls``; a call without a variant counts."""
    column = calls["variant"] if "variant" in calls.column_names else None
    if column is None or column.null_count == len(column):  # of most apps
        return pa.chunked_array([pa.repeat(pa.scalar(True), calls.num_rows)])
    out = pc.match_substring_regex(pc.cast(column, pa.string()), NOT_USER_FACING, ignore_case=True)
    return pc.invert(pc.fill_null(out, False))
