"""The lake for readers: one SELECT at a time, bounded in memory and time, without any other access."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import duckdb
import pyarrow as pa

from schemas.errors import TailraceError
from warehouse.errors import LakeDamagedError, LakeUnavailableError, QueryFailedError
from warehouse.query.answer import Answer
from warehouse.query.catalog_copy import readable
from warehouse.query.sandbox import REMEDY, check
from warehouse.query.shipped_views import VIEWS, ShippedView
from warehouse.storage.connect import LakeConfig, connect, disconnect, quoted

T = TypeVar("T")
MOST_BYTES = 512 * 1024 * 1024
"""Of one answer: DuckDB's memory limit ends where the rows are handed over."""
_BATCH_ROWS = 2_048
"""Of one piece of an answer: the bound is looked at between two of them."""
_KINDS: dict[str, type[Exception]] = {
    "INTERRUPT": duckdb.InterruptException,
    "Out of Memory": duckdb.OutOfMemoryException,
    "IO Error": duckdb.IOException,
    "HTTP Error": duckdb.HTTPException,
    "TransactionContext": duckdb.TransactionException,
}
"""How DuckDB begins its messages."""
_DAMAGED = re.compile(
    r"Invalid Input Error: .*\.parquet'|too small to be a Parquet file|don't know what type|TProtocol"
)
"""How DuckDB's messages about a file begin that is not the one that was written; its Thrift reader names none."""


class ReadOnlyLake:
    """A sandboxed connection. Each query sees the newest snapshot; one query at a time."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, *, name: str, timeout_s: float) -> None:
        self._connection = connection
        self._name = name
        self._timeout_s = timeout_s
        self._one = threading.Lock()
        self.of_a_copy = False
        """Whether the catalog is a copy of one moment: then later snapshots are seen by another connection only."""
        self.config: LakeConfig | None = None
        """What it was opened with, for other processes that read the same lake."""
        self._remove_copy: Callable[[], None] = lambda: None

    @classmethod
    def open(cls, config: LakeConfig, *, timeout_s: float = 60.0) -> ReadOnlyLake:
        """Attach read-only, then lock the configuration: no files but the data folder, no settings, no extensions.

        Raises:
            LakeMissingError: no catalog there.
            LakeUnavailableError: it does not answer; retry.
        """
        name, given = config.name, config
        config, remove_copy = readable(config)
        try:
            connection = connect(replace(config, temp_dir=""), read_only=True)
        except BaseException:
            remove_copy()
            raise
        if config.on_sqlite:
            # the catalog stays attached, but DuckDB checks the path again when it opens a second handle to it
            connection.execute(f"SET allowed_paths = [{', '.join(map(quoted, _catalog_files(config)))}]")
        connection.execute(f"SET allowed_directories = [{quoted(config.data_path.rstrip('/') + '/')}]")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        lake = cls(connection, name=name, timeout_s=timeout_s)
        lake.of_a_copy, lake._remove_copy, lake.config = config.name != name, remove_copy, given
        return lake

    def query(self, sql: str, params: Sequence[object] = ()) -> pa.Table:
        """Run one SELECT and return its rows.

        Raises:
            QueryRefusedError: it would write, read files, or see what readers must not.
            QueryFailedError: DuckDB refuses it, or it took longer than the limit.
            LakeUnavailableError: the catalog or a file does not answer; retry.
        """
        statement = check(sql)
        with self._one:
            fetch = self._limited()
            return fetch(
                lambda: _bounded(self._connection.execute(statement, list(params)).to_arrow_reader(_BATCH_ROWS))
            )

    @contextmanager
    def answer(self, sql: str) -> Iterator[Answer]:
        """Bind one SELECT and yield its answer, whose rows are read on demand.

        Raises as ``query``, also while the rows are read. The time limit counts the time of DuckDB, and not the time of
        the reader between two batches.
        """
        statement = check(sql)
        with self._one:
            fetch = self._limited()
            yield fetch(lambda: Answer(self._connection.sql(statement), fetch))

    def _limited(self) -> Callable[[Callable[[], T]], T]:
        """Return what runs the steps of one query: within the limit of time, with errors that are ours."""
        left = self._timeout_s

        def fetch(step: Callable[[], T]) -> T:
            nonlocal left
            timer = threading.Timer(max(left, 0), self._connection.interrupt)
            timer.daemon = True
            began = time.monotonic()
            timer.start()
            try:
                return step()
            except duckdb.Error as error:
                raise self._translated(error, type(error)) from error
            except (pa.ArrowException, OSError) as error:  # after the first rows pyarrow raises, with DuckDB's message
                kind = next((k for w, k in _KINDS.items() if str(error).startswith(w)), None)
                raise self._translated(error, kind) from error
            finally:
                timer.cancel()
                left -= time.monotonic() - began

        return fetch

    def _translated(self, error: Exception, kind: type[Exception] | None) -> TailraceError:
        message = str(error).strip()
        if _DAMAGED.search(message.splitlines()[0]):
            return LakeDamagedError(self._name, message.splitlines()[0])
        if kind is duckdb.InterruptException:
            return QueryFailedError(f"it ran longer than {self._timeout_s:g} s", "filter on day, or raise the limit")
        if kind is duckdb.OutOfMemoryException:
            return QueryFailedError(message.splitlines()[0], "filter on day and name the columns")
        if kind in (duckdb.IOException, duckdb.HTTPException, duckdb.TransactionException):
            return LakeUnavailableError(self._name, "read", message.splitlines()[0])
        if kind is duckdb.CatalogException:
            return QueryFailedError(message, REMEDY)
        return QueryFailedError(message, "the columns are in docs/reference/data-dictionary.md")

    @staticmethod
    def questions() -> tuple[ShippedView, ...]:
        """Return the shipped questions, to list or to start from."""
        return VIEWS

    def close(self) -> None:
        """Release the catalog."""
        disconnect(self._connection)
        self._remove_copy()

    def __enter__(self) -> ReadOnlyLake:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _bounded(reader: pa.RecordBatchReader) -> pa.Table:
    batches, size = [], 0
    for batch in reader:
        size += batch.nbytes
        if size > MOST_BYTES:
            limit = f"its answer is larger than {MOST_BYTES >> 20} MiB"
            raise QueryFailedError(limit, "add LIMIT, name the columns, or group")
        batches.append(batch)
    return pa.Table.from_batches(batches, reader.schema)


def _catalog_files(config: LakeConfig) -> list[str]:
    return [config.catalog + suffix for suffix in ("", "-wal", "-shm", "-journal")]
