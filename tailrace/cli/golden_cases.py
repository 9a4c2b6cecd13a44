"""The options and the query that the commands of golden sets share."""

from __future__ import annotations

from typing import Annotated

import pyarrow as pa
import typer

from tailrace import wiring
from tailrace.cli.context import Context
from tailrace.golden import reviews as sets
from warehouse.query.readonly import ReadOnlyLake

SetName = Annotated[str, typer.Option("--set", help="Name of the golden set.")]
Version = Annotated[int | None, typer.Option(min=1, help="Which version; without it the newest.")]
_NEWEST = """
SELECT version FROM golden_versions WHERE set_name = $1 AND ($2::INTEGER IS NULL OR version = $2)
ORDER BY version DESC LIMIT 1
"""


def read_cases(here: Context, lake: ReadOnlyLake, sql: str, name: str, version: int | None) -> pa.Table:
    """Return the cases of a version; the newest where ``version`` is None.

    Raises:
        NoGoldenSetError: there is no such version.
    """
    newest = lake.query(_NEWEST, [sets.set_name(name), version]).to_pylist()
    if not newest:
        raise sets.NoGoldenSetError(name, version, wiring.lake(here.settings).name)
    return lake.query(sql, [name, newest[0]["version"]])
