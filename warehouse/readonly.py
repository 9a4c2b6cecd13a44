"""The lake for readers: one SELECT at a time, bounded in memory and time, unable to write or to look elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace

import duckdb
import pyarrow as pa

from warehouse.connect import LakeConfig, connect, quoted
from warehouse.errors import LakeUnavailableError, QueryFailedError
from warehouse.questions import QUESTIONS, Question
from warehouse.sandbox import REMEDY, check


class ReadOnlyLake:
    """A sandboxed connection. Each query sees the newest snapshot; one query at a time."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, *, name: str, timeout_s: float) -> None:
        self._connection = connection
        self._name = name
        self._timeout_s = timeout_s
        self._one = threading.Lock()

    @classmethod
    def open(cls, config: LakeConfig, *, timeout_s: float = 60.0) -> ReadOnlyLake:
        """Attach read-only, then lock the door: no files but the data folder, no settings, no extensions.

        Raises:
            LakeMissingError: no catalog there.
            LakeUnavailableError: it does not answer; retry.
        """
        connection = connect(replace(config, temp_dir=""), read_only=True)
        if config.on_disk:
            folders = [config.data_path.rstrip("/") + "/"]
            if config.on_sqlite:
                # the catalog stays attached, but DuckDB asks again when it opens a second handle to it
                connection.execute(f"SET allowed_paths = [{', '.join(map(quoted, _catalog_files(config)))}]")
            connection.execute(f"SET allowed_directories = [{', '.join(map(quoted, folders))}]")
            connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        return cls(connection, name=config.name, timeout_s=timeout_s)

    def query(self, sql: str, params: Sequence[object] = ()) -> pa.Table:
        """Run one SELECT and return its rows.

        Raises:
            QueryRefusedError: it would write, read files, or see what readers must not.
            QueryFailedError: DuckDB refuses it, or it took longer than the limit.
            LakeUnavailableError: the catalog or a file does not answer; retry.
        """
        statement = check(sql)
        with self._one:
            timer = threading.Timer(self._timeout_s, self._connection.interrupt)
            timer.daemon = True
            timer.start()
            try:
                return self._connection.execute(statement, list(params)).to_arrow_table()
            except duckdb.InterruptException as error:
                why = f"it ran longer than {self._timeout_s:g} s"
                raise QueryFailedError(why, "filter on day, or raise the limit") from error
            except duckdb.OutOfMemoryException as error:
                raise QueryFailedError(str(error).splitlines()[0], "filter on day and name the columns") from error
            except (duckdb.IOException, duckdb.TransactionException) as error:
                raise LakeUnavailableError(self._name, "read", str(error).strip().splitlines()[0]) from error
            except duckdb.CatalogException as error:
                raise QueryFailedError(str(error).strip(), REMEDY) from error
            except duckdb.Error as error:
                raise QueryFailedError(str(error).strip(), "the columns are in docs/data-dictionary.md") from error
            finally:
                timer.cancel()

    @staticmethod
    def questions() -> tuple[Question, ...]:
        """Return the shipped questions, to list or to start from."""
        return QUESTIONS

    def close(self) -> None:
        """Give the catalog back."""
        self._connection.close()

    def __enter__(self) -> ReadOnlyLake:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _catalog_files(config: LakeConfig) -> list[str]:
    return [config.catalog + suffix for suffix in ("", "-wal", "-shm", "-journal")]
