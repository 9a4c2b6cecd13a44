"""The lake read without our own code: the catalog by sqlite3 or psql, the rows from its Parquet files by DuckDB."""

import json
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

_FILES = """
SELECT t.table_name, d.path, d.path_is_relative, t.path, t.path_is_relative, s.path, s.path_is_relative
FROM ducklake_data_file d JOIN ducklake_table t ON t.table_id = d.table_id
JOIN ducklake_schema s ON s.schema_id = t.schema_id
WHERE d.end_snapshot IS NULL AND t.end_snapshot IS NULL
"""
_LEDGER_TABLES = """
SELECT i.table_name FROM ducklake_inlined_data_tables i JOIN ducklake_table t ON t.table_id = i.table_id
WHERE t.table_name = 'ledger' AND t.end_snapshot IS NULL
"""

_LEDGERS_EVER = """
SELECT DISTINCT i.table_name FROM ducklake_inlined_data_tables i
JOIN ducklake_table t ON t.table_id = i.table_id WHERE t.table_name IN ('ledger', 'ledger_next')
"""
"""Every ledger that was ever in force and still stands in the catalog: a replacement is named so when it takes over."""


class MissingError(Exception):
    """The catalog has no such table, or is not there."""


class RawLake:
    """One state of a lake, as any other engine would see it."""

    def __init__(self, catalog: str, data_path: Path) -> None:
        self.catalog, self.data_path = catalog, data_path
        self._duckdb = duckdb.connect()
        self._duckdb.execute("SET TimeZone = 'UTC'")

    def meta(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the catalog."""
        if self.catalog.startswith("postgres:"):
            return self._psql(sql)
        db = sqlite3.connect(f"file:{self.catalog}?mode=ro", uri=True, timeout=30)
        try:
            return db.execute(sql).fetchall()
        finally:
            db.close()

    def ledger(self, topic: str = "llm.events") -> dict[int, tuple[int, int]]:
        """Partition -> (start, next) of the current epoch; empty where there is none yet."""
        names = self._tables(_LEDGER_TABLES)
        rows: list[tuple[Any, ...]] = []
        for name in names:
            rows += self.meta(
                f'SELECT topic, epoch, "partition", start_offset, next_offset FROM "{name}" WHERE end_snapshot IS NULL'
            )
        rows = [r for r in rows if _text(r[0]) == topic]
        top = max((int(r[1]) for r in rows), default=0)
        found: dict[int, tuple[int, int]] = {}
        for _, epoch, partition, start, upto in rows:
            if int(epoch) == top:
                assert int(partition) not in found, f"two ledger rows for {topic}[{partition}]"
                found[int(partition)] = (int(start), int(upto))
        return found

    def ledger_moves(self) -> list[tuple[str, int, int, int, int]]:
        """(topic, epoch, partition, snapshot, next offset) of every row a ledger ever had, dead or alive."""
        rows: list[tuple[Any, ...]] = []
        for name in self._tables(_LEDGERS_EVER):
            with suppress(MissingError):  # land has shed it since
                rows += self._known(f'SELECT topic, epoch, "partition", begin_snapshot, next_offset FROM "{name}"')
        moves = [(_text(topic), int(e), int(p), int(snapshot), int(upto)) for topic, e, p, snapshot, upto in rows]
        return sorted(moves)

    def _tables(self, sql: str) -> list[str]:
        """Names of tables in the catalog; none while land has not made it."""
        try:
            return [_text(name) for (name,) in self._known(sql)]
        except MissingError:
            return []

    def _known(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the catalog for what may not be there.

        Raises:
            MissingError: a table, or the catalog.
        """
        try:
            return self.meta(sql)
        except sqlite3.OperationalError as error:
            if "no such table" in str(error) or "unable to open" in str(error):
                raise MissingError from error
            raise
        except subprocess.CalledProcessError as error:
            if "does not exist" in error.stderr:
                raise MissingError from error
            raise

    def files(self, table: str) -> list[Path]:
        """The Parquet files that the catalog lists for ``table`` now."""
        return self.all_files().get(table, [])

    def all_files(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for table, path, relative, table_path, table_relative, schema_path, schema_relative in self.meta(_FILES):
            whole = Path(_text(path))
            if _true(relative):
                base = Path(_text(table_path))
                if _true(table_relative):
                    base = Path(_text(schema_path)) / base
                    base = self.data_path / base if _true(schema_relative) else base
                whole = base / whole
            found.setdefault(_text(table), []).append(whole)
        return found

    def deletes(self) -> list[tuple[Any, ...]]:
        """Delete files in force, per table."""
        return self.meta(
            "SELECT t.table_name, count(*) FROM ducklake_delete_file d "
            "JOIN ducklake_table t ON t.table_id = d.table_id "
            "WHERE d.end_snapshot IS NULL AND t.end_snapshot IS NULL GROUP BY t.table_name"
        )

    def rows(self, table: str, columns: str, where: str = "true") -> list[tuple[Any, ...]]:
        """Select from the files of ``table``; no rows where there are none."""
        found = self._select(table, columns, where)
        return found.fetchall() if found else []

    def table(self, table: str, columns: str, where: str = "true") -> pa.Table | None:
        """The same as Arrow; None where there are no files. ``file_row_number`` is a column of every file."""
        found = self._select(table, columns, where)
        return found.to_arrow_table() if found else None

    def _select(self, table: str, columns: str, where: str) -> duckdb.DuckDBPyConnection | None:
        files = [str(f) for f in self.files(table)]
        if not files:
            return None
        return self._duckdb.execute(
            f"SELECT {columns} FROM read_parquet($1, union_by_name = true, hive_partitioning = false, "
            f"file_row_number = true) WHERE {where}",
            [files],
        )

    def orphans(self) -> list[Path]:
        """Parquet files on disk that no snapshot knows."""
        known = {self._whole(row) for row in self.meta(_FILES.split("WHERE")[0])}
        known |= {self._whole(row) for row in self._scheduled()}
        return [f for f in self.data_path.rglob("*.parquet") if f.resolve() not in known]

    def _scheduled(self) -> list[tuple[Any, ...]]:
        rows = self.meta("SELECT path, path_is_relative FROM ducklake_files_scheduled_for_deletion")
        return [("", path, relative, "", True, "", True) for path, relative in rows]

    def _whole(self, row: tuple[Any, ...]) -> Path:
        _, path, relative, table_path, table_relative, schema_path, schema_relative = row
        whole = Path(_text(path))
        if _true(relative):
            base = Path(_text(table_path))
            if _true(table_relative):
                base = Path(_text(schema_path)) / base
                base = self.data_path / base if _true(schema_relative) else base
            whole = base / whole
        return whole.resolve()

    def _psql(self, sql: str) -> list[tuple[Any, ...]]:
        dsn = self.catalog.removeprefix("postgres:")
        # columns keep their order; names may repeat, so rows go over as arrays
        query = f"SELECT coalesce(json_agg(row_to_json(q)), '[]') FROM ({_numbered(sql)}) AS q"
        out = subprocess.run(
            ["psql", "-X", "-At", "-v", "ON_ERROR_STOP=1", dsn, "-c", query], capture_output=True, text=True, check=True
        ).stdout
        return [tuple(row.values()) for row in json.loads(out)]


def _numbered(sql: str) -> str:
    """Give every selected column a name of its own: JSON objects drop repeated ones."""
    head, tail = sql.strip().split("FROM", 1)
    columns = [c.strip() for c in head.strip().removeprefix("SELECT").split(",")]
    return "SELECT " + ", ".join(f"{c} AS c{i}" for i, c in enumerate(columns)) + " FROM " + tail


def _text(value: Any) -> str:
    if isinstance(value, str) and value.startswith("\\x"):  # PostgreSQL keeps inlined text as bytea
        return bytes.fromhex(value[2:]).decode()
    return value.decode() if isinstance(value, bytes) else str(value)


def _true(value: Any) -> bool:
    return value in (True, 1, "1", "true", "t", b"1", b"true")


def sums(values: Sequence[tuple[Any, ...]]) -> Any:
    """The one value of a one-row answer; None without rows."""
    return values[0][0] if values else None
