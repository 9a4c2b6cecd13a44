"""Whether any Parquet file still holds a text: the proof of forgetting, from the files themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from warehouse.errors import LakeUnavailableError, first_line
from warehouse.storage.connect import LakeConfig, connect, disconnect
from warehouse.upkeep.merge import META

_LIVE = f"SELECT path FROM {META}.ducklake_data_file WHERE end_snapshot IS NULL"
_HOLDS = """
SELECT count(*) > 0 FROM read_parquet($1, union_by_name => false) AS t
WHERE list_has_any([true], list_transform($2::VARCHAR[], x -> contains(t::VARCHAR, x)))
"""


@dataclass(frozen=True)
class Scanned:
    """Files below the data path that were read, and which of them hold one of the texts."""

    files: int
    live: tuple[str, ...]
    """Files that the newest snapshot reads."""
    ended: tuple[str, ...]
    """Files that only older snapshots read, or none; maintain deletes them."""


def scan(config: LakeConfig, texts: Sequence[str]) -> Scanned:
    """Read every column of every Parquet file below the data path and look for ``texts``.

    Raises:
        LakeMissingError: no lake there.
        LakeUnavailableError: it or a file does not answer.
    """
    connection = connect(config, read_only=True)
    try:
        live = {path.rsplit("/", 1)[-1] for (path,) in connection.execute(_LIVE).fetchall()}
        below = f"{config.data_path.rstrip('/')}/**/*.parquet"
        files = [name for (name,) in connection.execute("SELECT file FROM glob($1) ORDER BY 1", [below]).fetchall()]
        found = [file for file in files if _holds(connection, file, texts)]
        named = [(file, file.rsplit("/", 1)[-1] in live) for file in found]
        return Scanned(
            len(files), tuple(f for f, is_live in named if is_live), tuple(f for f, is_live in named if not is_live)
        )
    except duckdb.IOException as error:
        raise LakeUnavailableError(config.name, "scan", first_line(error)) from error
    finally:
        disconnect(connection)


def _holds(connection: duckdb.DuckDBPyConnection, file: str, texts: Sequence[str]) -> bool:
    return bool((connection.execute(_HOLDS, [file, list(texts)]).fetchone() or (False,))[0])
